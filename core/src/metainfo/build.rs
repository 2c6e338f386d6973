//! Making torrents. Pure: the host lists the files of a [`Plan`] and hashes them piece by piece.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::info::BLOCK;
use super::merkle::FileHashes;
use super::path::{PathStyle, clean_element};
use super::{Info, MetainfoError, Torrent, Version};
use crate::bencode::Writer;

/// A power of two from 16 KiB to 16 MiB that cuts `total` bytes into about 1,000 to 2,000 pieces.
#[must_use]
pub fn auto_piece_length(total: u64) -> u32 {
    const MAX: u32 = 16 * 1024 * 1024;
    const PIECES: u64 = 2048;
    let mut length = BLOCK;
    while length < MAX && total.div_ceil(u64::from(length)) > PIECES {
        length *= 2;
    }
    length
}

/// A file to put into a torrent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Elements below the torrent's name; empty for the only file of a torrent without a folder.
    pub path: Vec<String>,
    /// Bytes; 0 for a link.
    pub length: u64,
    /// Attribute `x` (BEP 47).
    pub executable: bool,
    /// Attribute `h` (BEP 47).
    pub hidden: bool,
    /// The file is a symbolic link to this path below the torrent's name (BEP 47).
    pub symlink: Option<Vec<String>>,
}

/// A stretch of the content, as it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Index into [`Plan::sources`]; `None` for padding, which is zeros.
    pub source: Option<usize>,
    /// First byte, counted over all stretches.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// What a torrent will hold and in which order it is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    name: String,
    pub(super) version: Version,
    pub(super) piece_length: u32,
    private: bool,
    pub(super) sources: Vec<Source>,
    pub(super) stretches: Vec<Stretch>,
}

/// The hashes of a plan's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hashes {
    /// SHA-1 of every piece of the stretches one after another; empty for v2-only.
    pub pieces: Vec<u8>,
    /// For every source in order; empty for v1-only.
    pub files: Vec<FileHashes>,
}

/// Why a torrent cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A name that could not be written as it is.
    Name(String),
    /// Two files, or a file and a folder, of one name. Names that are one only where case or Unicode
    /// form does not count are taken: whoever downloads such files has another name for one of them.
    Duplicate(String),
    /// A single file must be alone.
    NotAlone,
    /// v2 needs a power of two of at least 16 KiB, v1 more than zero.
    PieceLength(u32),
    /// More content than a torrent of this piece length can hold.
    TooLarge,
    /// The number of hashes does not fit the files.
    Hashes,
    /// The result would be refused.
    Refused(MetainfoError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} cannot be a name in a torrent: rename it"),
            Self::Duplicate(path) => write!(f, "{path:?} is there twice: rename one"),
            Self::NotAlone => f.write_str("a file without a path must be the only one"),
            Self::PieceLength(length) => write!(
                f,
                "piece length {length}: expected a power of two of at least {BLOCK}"
            ),
            Self::TooLarge => f.write_str("too much content: choose a larger piece length"),
            Self::Hashes => f.write_str("the hashes do not fit the files"),
            Self::Refused(error) => write!(f, "the torrent would be refused: {error}"),
        }
    }
}

impl core::error::Error for BuildError {}

impl Plan {
    /// Puts the files in order and, for v2 and hybrid torrents, every file at the start of a piece.
    ///
    /// # Errors
    /// Names that cannot be stored, and a piece length the version does not have.
    pub fn new(
        name: &str,
        mut sources: Vec<Source>,
        piece_length: u32,
        version: Version,
    ) -> Result<Self, BuildError> {
        let aligned = version != Version::V1;
        if piece_length == 0
            || (aligned && (piece_length < BLOCK || !piece_length.is_power_of_two()))
        {
            return Err(BuildError::PieceLength(piece_length));
        }
        check_name(name)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        check_paths(&sources)?;

        let mut stretches = Vec::new();
        let mut total: u64 = 0;
        let mut add = |source, length| {
            stretches.push(Stretch {
                source,
                offset: total,
                length,
            });
            total = total
                .checked_add(length)
                .filter(|total| total.div_ceil(piece_length.into()) <= u64::from(u32::MAX))
                .ok_or(BuildError::TooLarge)?;
            Ok(total)
        };
        for (index, source) in sources.iter().enumerate() {
            let end = add(Some(index), source.length)?;
            let padding = end.next_multiple_of(u64::from(piece_length)) - end;
            // After the last of many files too, as libtorrent does: one set of files, one hash.
            if aligned && padding > 0 && sources.len() > 1 {
                add(None, padding)?;
            }
        }
        Ok(Self {
            name: name.to_string(),
            version,
            piece_length,
            private: false,
            sources,
            stretches,
        })
    }

    /// Marks the torrent private (BEP 27): neither DHT nor PEX may find peers for it.
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// The files in order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The content in the order in which the pieces of v1 are cut from it.
    #[must_use]
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Bytes per piece.
    #[must_use]
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// The format.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The torrent. Its nodes, trackers and the like can be set before
    /// [`Torrent::to_bytes`] writes it.
    ///
    /// # Errors
    /// When the hashes do not fit, and when [`Info::parse`] would refuse the result.
    pub fn finish(&self, hashes: &Hashes) -> Result<Torrent, BuildError> {
        let v2 = self.version != Version::V1;
        let fits = |(source, file): (&Source, &FileHashes)| {
            source.length == file.length && file.root.is_some() == (source.length > 0)
        };
        let files = &hashes.files;
        if v2 && (files.len() != self.sources.len() || !self.sources.iter().zip(files).all(fits)) {
            return Err(BuildError::Hashes);
        }
        let info = Info::parse(self.write_info(hashes).into()).map_err(BuildError::Refused)?;
        let mut torrent = Torrent::from_info(Arc::new(info));
        if v2 {
            let large = files.iter().filter(|file| !file.layer.is_empty());
            torrent.piece_layers = large
                .filter_map(|file| Some((file.root?, Bytes::copy_from_slice(&file.layer))))
                .collect();
        }
        Ok(torrent)
    }

    fn write_info(&self, hashes: &Hashes) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let single = matches!(&self.sources[..], [only] if only.path.is_empty());
        writer.dict();
        if single && self.version != Version::V2 {
            write_attributes(&mut writer, &self.sources[0]);
        }
        if self.version != Version::V1 {
            writer.key(b"file tree").dict();
            self.write_tree(&mut writer, &hashes.files);
            writer.end();
        }
        if self.version != Version::V2 {
            if single {
                writer.key(b"length").int(self.sources[0].length as i64);
            } else {
                self.write_files(&mut writer);
            }
        }
        if self.version != Version::V1 {
            writer.key(b"meta version").int(2);
        }
        writer.key(b"name").bytes(self.name.as_bytes());
        writer
            .key(b"piece length")
            .int(i64::from(self.piece_length));
        if self.version != Version::V2 {
            writer.key(b"pieces").bytes(&hashes.pieces);
        }
        if self.private {
            writer.key(b"private").int(1);
        }
        writer.end();
        out
    }

    fn write_files(&self, writer: &mut Writer<'_>) {
        writer.key(b"files").list();
        for stretch in &self.stretches {
            let source = stretch.source.map(|index| &self.sources[index]);
            writer.dict();
            match source {
                Some(source) => write_attributes(writer, source),
                None => _ = writer.key(b"attr").bytes(b"p"),
            }
            writer.key(b"length").int(stretch.length as i64);
            let padding = || [".pad".to_string(), stretch.length.to_string()].to_vec();
            let path = source.map_or_else(padding, |source| source.path.clone());
            write_path(writer, b"path", &path);
            if let Some(target) = source.and_then(|source| source.symlink.as_ref()) {
                write_path(writer, b"symlink path", target);
            }
            writer.end();
        }
        writer.end();
    }

    /// Sources are sorted, so the files of one folder follow each other.
    fn write_tree(&self, writer: &mut Writer<'_>, hashes: &[FileHashes]) {
        let only_name = core::slice::from_ref(&self.name);
        let mut open: &[String] = &[];
        for (source, file) in self.sources.iter().zip(hashes) {
            let path = if source.path.is_empty() {
                only_name
            } else {
                &source.path[..]
            };
            let (name, folders) = match path.split_last() {
                Some(split) => split,
                None => continue,
            };
            let shared = open.iter().zip(folders).take_while(|(a, b)| a == b).count();
            open[shared..].iter().for_each(|_| _ = writer.end());
            for folder in &folders[shared..] {
                writer.key(folder.as_bytes()).dict();
            }
            open = folders;
            writer.key(name.as_bytes()).dict().key(b"").dict();
            write_attributes(writer, source);
            writer.key(b"length").int(source.length as i64);
            if let Some(root) = &file.root {
                writer.key(b"pieces root").bytes(root);
            }
            if let Some(target) = &source.symlink {
                write_path(writer, b"symlink path", target);
            }
            writer.end().end();
        }
        open.iter().for_each(|_| _ = writer.end());
    }
}

fn check_name(name: &str) -> Result<(), BuildError> {
    let clean = clean_element(name.as_bytes(), PathStyle::Posix);
    if clean.as_deref() == Some(name) {
        Ok(())
    } else {
        Err(BuildError::Name(name.to_string()))
    }
}

fn check_paths(sources: &[Source]) -> Result<(), BuildError> {
    for source in sources {
        let target = source.symlink.iter().flatten();
        source
            .path
            .iter()
            .chain(target)
            .try_for_each(|name| check_name(name))?;
        if source.path.is_empty() && sources.len() > 1 {
            return Err(BuildError::NotAlone);
        }
    }
    // Sorted: whatever lies below a path, or equals it, comes right after it.
    for pair in sources.windows(2) {
        if pair[1].path.starts_with(&pair[0].path) {
            return Err(BuildError::Duplicate(pair[0].path.join("/")));
        }
    }
    Ok(())
}

fn write_attributes(writer: &mut Writer<'_>, source: &Source) {
    let letters = [
        (source.hidden, b'h'),
        (source.symlink.is_some(), b'l'),
        (source.executable, b'x'),
    ];
    let letters: Vec<u8> = letters
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, l)| *l)
        .collect();
    if !letters.is_empty() {
        writer.key(b"attr").bytes(&letters);
    }
}

fn write_path(writer: &mut Writer<'_>, key: &[u8], path: &[String]) {
    writer.key(key).list();
    path.iter()
        .for_each(|element| _ = writer.bytes(element.as_bytes()));
    writer.end();
}

impl Torrent {
    /// A torrent file with nothing around its `info`.
    #[must_use]
    pub fn from_info(info: Arc<Info>) -> Self {
        Self {
            info,
            nodes: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            piece_layers: BTreeMap::new(),
            ignored: Vec::new(),
        }
    }

    /// The bytes of a `.torrent` file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.info.raw.len() + 1024);
        let mut writer = Writer::new(&mut out);
        writer.dict();
        let mut urls = self.trackers.iter().flatten();
        if let Some(first) = urls.next() {
            writer.key(b"announce").bytes(first.as_bytes());
            if urls.next().is_some() {
                writer.key(b"announce-list").list();
                for tier in &self.trackers {
                    writer.list();
                    tier.iter().for_each(|url| _ = writer.bytes(url.as_bytes()));
                    writer.end();
                }
                writer.end();
            }
        }
        if let Some(comment) = &self.comment {
            writer.key(b"comment").bytes(comment.as_bytes());
        }
        if let Some(program) = &self.created_by {
            writer.key(b"created by").bytes(program.as_bytes());
        }
        if let Some(date) = self.creation_date {
            writer.key(b"creation date").int(date);
        }
        writer.key(b"info").raw(&self.info.raw);
        if !self.nodes.is_empty() {
            writer.key(b"nodes").list();
            for (host, port) in &self.nodes {
                writer
                    .list()
                    .bytes(host.as_bytes())
                    .int(i64::from(*port))
                    .end();
            }
            writer.end();
        }
        if self.info.version != Version::V1 {
            writer.key(b"piece layers").dict();
            for (root, layer) in &self.piece_layers {
                writer.key(root).bytes(layer);
            }
            writer.end();
        }
        if !self.web_seeds.is_empty() {
            writer.key(b"url-list").list();
            self.web_seeds
                .iter()
                .for_each(|url| _ = writer.bytes(url.as_bytes()));
            writer.end();
        }
        writer.end();
        out
    }
}
