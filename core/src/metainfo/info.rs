//! Reading and validating the `info` dictionary.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::path::{PathStyle, clean_element, clean_path, tell_apart};
use super::tree::read_tree;
use super::{File, Info, MetainfoError, Version};
use crate::bencode::{self, Dict, List, Value};
use crate::id::{InfoHashes, hex};

/// What a torrent may ask of us at most, and which file system its names are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most pieces: each costs a few bytes of state for every peer.
    pub max_pieces: u32,
    /// Most files: each costs a name, and an open file sooner or later.
    pub max_files: u32,
    /// Most elements of a path.
    pub max_path_depth: u32,
    /// Most bytes of all paths of a `file tree` written out in full (each element counts 24 more):
    /// a few deep folders would else make a small tree a huge list.
    pub max_path_bytes: u64,
    /// Largest piece length, bytes: a whole piece has to be held to be checked.
    pub max_piece_length: u32,
    /// Which names can be stored.
    pub paths: PathStyle,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_pieces: 4_000_000,
            max_files: 1_000_000,
            max_path_depth: 90,
            max_path_bytes: 256 * 1024 * 1024,
            max_piece_length: 512 * 1024 * 1024,
            paths: PathStyle::default(),
        }
    }
}

/// The smallest piece length of v2, and the size of the blocks its trees are made of (BEP 52).
pub(super) const BLOCK: u32 = 16 * 1024;

/// A file as the dictionary tells it: names not cleaned, no place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawFile<'a> {
    pub(super) names: Vec<&'a [u8]>,
    pub(super) length: u64,
    pub(super) attributes: Attributes,
    pub(super) symlink: Option<Vec<&'a [u8]>>,
    pub(super) pieces_root: Option<[u8; 32]>,
}

/// The letters of `attr` (BEP 47).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) pad: bool,
    executable: bool,
    hidden: bool,
    pub(super) symlink: bool,
}

impl Info {
    /// Reads the bytes of an `info` dictionary with the default [`Rules`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(raw: Bytes) -> Result<Self, MetainfoError> {
        Self::parse_with(raw, &Rules::default())
    }

    /// Reads the bytes of an `info` dictionary.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_with(raw: Bytes, rules: &Rules) -> Result<Self, MetainfoError> {
        let document = bencode::decode(&raw, &bencode::Limits::TORRENT)
            .map_err(|error| MetainfoError::bencode("info", error))?;
        read(document.root(), raw.clone(), rules)
    }
}

/// Reads `info`, whose bytes are `raw`.
pub(super) fn read(info: Value<'_, '_>, raw: Bytes, rules: &Rules) -> Result<Info, MetainfoError> {
    let dict = info
        .as_dict()
        .ok_or_else(|| MetainfoError::wrong("info", info, "a dictionary"))?;
    let v2 = read_meta_version(dict)?;
    let v1 = !v2 || dict.find(b"pieces").is_some();
    let piece_length = read_piece_length(dict, v2, rules)?;
    let raw_name = read_name(dict)?;

    let v1_files = if v1 {
        Some(read_v1_files(dict, raw_name, rules)?)
    } else {
        None
    };
    let v2_files = if v2 {
        Some(read_tree(dict, raw_name, rules)?)
    } else {
        None
    };
    let (version, listed) = match (v1_files, v2_files) {
        (Some(v1), None) => (Version::V1, v1),
        (None, Some(v2)) => (Version::V2, v2),
        (Some(v1), Some(v2)) => (Version::Hybrid, merge(dict, v1, v2, piece_length)?),
        (None, None) => return Err(MetainfoError::missing("info.pieces", dict, "piece hashes")),
    };

    let hashes = InfoHashes::new(
        v1.then(|| Sha1::digest(&raw).into()),
        v2.then(|| Sha256::digest(&raw).into()),
    )
    .ok_or_else(|| MetainfoError::missing("info.pieces", dict, "piece hashes"))?;
    let name = clean_element(raw_name, rules.paths).unwrap_or_else(|| match hashes.best() {
        crate::id::InfoHash::V1(hash) => hex(&hash),
        crate::id::InfoHash::V2(hash) => hex(&hash),
    });

    let aligned = (version == Version::V2).then_some(piece_length);
    let placed = place(dict, &name, &listed, aligned, rules)?;
    let piece_count = count_pieces(dict, placed.total, piece_length, rules)?;
    let pieces = if v1 {
        read_pieces(dict, piece_count, &raw)?
    } else {
        Bytes::new()
    };

    Ok(Info {
        raw: raw.clone(),
        hashes,
        version,
        name,
        piece_length,
        piece_count,
        total_length: placed.total,
        pieces,
        files: placed.files,
        single_file: listed.single,
        private: dict.int(b"private").is_some_and(|private| private != 0),
    })
}

/// The files of one view, in order.
pub(super) struct Listed<'a> {
    pub(super) files: Vec<RawFile<'a>>,
    pub(super) single: bool,
}

fn read_meta_version(dict: Dict<'_, '_>) -> Result<bool, MetainfoError> {
    match dict.find(b"meta version") {
        None => Ok(false),
        Some(value) => match value.as_int() {
            Some(1) => Ok(false),
            Some(2) => Ok(true),
            _ => Err(MetainfoError::wrong("info.meta version", value, "2")),
        },
    }
}

fn read_piece_length(dict: Dict<'_, '_>, v2: bool, rules: &Rules) -> Result<u32, MetainfoError> {
    const KEY: &str = "info.piece length";
    let max = rules.max_piece_length;
    let least = if v2 { BLOCK } else { 1 };
    let expected = if v2 {
        format!("a power of two from {BLOCK} to {max}")
    } else {
        format!("a number from 1 to {max}")
    };
    let value = dict
        .find(b"piece length")
        .ok_or_else(|| MetainfoError::missing(KEY, dict, &expected))?;
    value
        .as_int()
        .and_then(|length| u32::try_from(length).ok())
        .filter(|length| (least..=max).contains(length) && (!v2 || length.is_power_of_two()))
        .ok_or_else(|| MetainfoError::wrong(KEY, value, &expected))
}

fn read_name<'a>(dict: Dict<'_, 'a>) -> Result<&'a [u8], MetainfoError> {
    let value = dict
        .find(b"name.utf-8")
        .filter(|value| value.as_str().is_some())
        .or_else(|| dict.find(b"name"))
        .ok_or_else(|| MetainfoError::missing("info.name", dict, "a name"))?;
    value
        .as_bytes()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| MetainfoError::wrong("info.name", value, "a string that is not empty"))
}

fn read_v1_files<'a>(
    dict: Dict<'_, 'a>,
    name: &'a [u8],
    rules: &Rules,
) -> Result<Listed<'a>, MetainfoError> {
    let Some(value) = dict.find(b"files") else {
        let file = read_file(dict, "info", name_only(name))?;
        return Ok(Listed {
            files: Vec::from([file]),
            single: true,
        });
    };
    let list = value
        .as_list()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| MetainfoError::wrong("info.files", value, "a list of files"))?;
    let mut files = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let key = format!("info.files[{index}]");
        if files.len() >= rules.max_files as usize {
            let expected = format!("at most {} files", rules.max_files);
            return Err(MetainfoError::found(key, value, "one more file", expected));
        }
        let dict = value
            .as_dict()
            .ok_or_else(|| MetainfoError::wrong(&key, value, "a dictionary"))?;
        let file = read_file(dict, &key, |attributes| {
            read_path(dict, &key, attributes, rules)
        })?;
        files.push(file);
    }
    Ok(Listed {
        files,
        single: false,
    })
}

fn name_only<'a>(
    name: &'a [u8],
) -> impl FnOnce(Attributes) -> Result<Vec<&'a [u8]>, MetainfoError> {
    move |_| Ok(Vec::from([name]))
}

fn read_path<'a>(
    dict: Dict<'_, 'a>,
    key: &str,
    attributes: Attributes,
    rules: &Rules,
) -> Result<Vec<&'a [u8]>, MetainfoError> {
    let key = format!("{key}.path");
    let path = dict
        .find(b"path.utf-8")
        .and_then(Value::as_list)
        .or_else(|| dict.list(b"path"));
    match path {
        Some(path) if !path.is_empty() => read_elements(path, &key, rules),
        // Nobody needs the name of a pad file, and some programs leave it out.
        _ if attributes.pad => Ok(Vec::from([&b".pad"[..]])),
        _ => Err(match dict.find(b"path") {
            Some(value) => MetainfoError::wrong(key, value, "a list of strings"),
            None => MetainfoError::missing(key, dict, "a list of strings"),
        }),
    }
}

fn read_elements<'a>(
    list: List<'_, 'a>,
    key: &str,
    rules: &Rules,
) -> Result<Vec<&'a [u8]>, MetainfoError> {
    let mut out = Vec::new();
    for (index, value) in list.iter().enumerate() {
        if out.len() >= rules.max_path_depth as usize {
            let expected = format!("at most {} elements", rules.max_path_depth);
            return Err(MetainfoError::found(
                key,
                value,
                "one more element",
                expected,
            ));
        }
        let element = value.as_bytes().ok_or_else(|| {
            MetainfoError::wrong(format_args!("{key}[{index}]"), value, "a string")
        })?;
        out.push(element);
    }
    Ok(out)
}

/// What files of v1 and v2 have in common: `length`, `attr` and `symlink path` of `dict`.
pub(super) fn read_file<'a>(
    dict: Dict<'_, 'a>,
    key: &str,
    names: impl FnOnce(Attributes) -> Result<Vec<&'a [u8]>, MetainfoError>,
) -> Result<RawFile<'a>, MetainfoError> {
    let letters = dict.bytes(b"attr").unwrap_or_default();
    let attributes = Attributes {
        pad: letters.contains(&b'p'),
        executable: letters.contains(&b'x'),
        hidden: letters.contains(&b'h'),
        symlink: letters.contains(&b'l'),
    };
    let length_key = || format!("{key}.length");
    let expected = "a number of bytes";
    let length = match dict.find(b"length") {
        // A link has no content.
        _ if attributes.symlink => 0,
        Some(value) => value
            .as_int()
            .and_then(|length| u64::try_from(length).ok())
            .ok_or_else(|| MetainfoError::wrong(length_key(), value, expected))?,
        None => return Err(MetainfoError::missing(length_key(), dict, expected)),
    };
    let symlink = if attributes.symlink {
        let key = format!("{key}.symlink path");
        let expected = "a list of strings";
        let value = dict
            .find(b"symlink path")
            .ok_or_else(|| MetainfoError::missing(&key, dict, expected))?;
        let list = value
            .as_list()
            .filter(|list| !list.is_empty())
            .ok_or_else(|| MetainfoError::wrong(&key, value, expected))?;
        Some(read_elements(list, &key, &Rules::default())?)
    } else {
        None
    };
    Ok(RawFile {
        names: names(attributes)?,
        length,
        attributes,
        symlink,
        pieces_root: None,
    })
}

/// Checks that both views of a hybrid tell the same, and gives the v1 list with the v2 roots.
fn merge<'a>(
    dict: Dict<'_, '_>,
    mut v1: Listed<'a>,
    v2: Listed<'a>,
    piece_length: u32,
) -> Result<Listed<'a>, MetainfoError> {
    let tree = dict.find(b"file tree").unwrap_or(dict.value());
    let wrong = |found: String, expected: &str| {
        Err(MetainfoError::found(
            "info.file tree",
            tree,
            found,
            expected,
        ))
    };
    let mut others = v2.files.iter();
    let mut offset: u64 = 0;
    for file in &mut v1.files {
        if !file.attributes.pad {
            let shown = file.names.join(&b'/').escape_ascii().to_string();
            let same = others.next().filter(|other| {
                other.names == file.names
                    && other.length == file.length
                    && other.symlink == file.symlink
            });
            let Some(other) = same else {
                let expected = "the same files as in info.files, in the same order";
                return wrong(format!("no {shown} of the same length there"), expected);
            };
            if file.length > 0 && !offset.is_multiple_of(u64::from(piece_length)) {
                let expected = "every file at the start of a piece, with pad files before it";
                return wrong(format!("{shown} at byte {offset} of the content"), expected);
            }
            file.pieces_root = other.pieces_root;
        }
        offset = offset.saturating_add(file.length);
    }
    if let Some(other) = others.next() {
        let shown = other.names.join(&b'/').escape_ascii().to_string();
        return wrong(shown, "the same files as in info.files");
    }
    Ok(v1)
}

struct Placed {
    files: Vec<File>,
    total: u64,
}

/// Cleans the names and gives every file its place; with `aligned`, every file begins a piece.
fn place(
    dict: Dict<'_, '_>,
    name: &str,
    listed: &Listed<'_>,
    aligned: Option<u32>,
    rules: &Rules,
) -> Result<Placed, MetainfoError> {
    let below_name = |names: &[&[u8]]| {
        let mut path = Vec::from([name.to_string()]);
        if !listed.single {
            path.extend(clean_path(names, rules.paths));
            if path.len() == 1 {
                path.push("_".to_string());
            }
        }
        path
    };
    let too_long = || MetainfoError::found("info", dict.value(), "2^63 bytes or more", "less");
    let mut files: Vec<File> = Vec::with_capacity(listed.files.len());
    let mut total: u64 = 0;
    for raw in &listed.files {
        if let Some(piece_length) = aligned.filter(|_| raw.length > 0) {
            let gap = total.next_multiple_of(u64::from(piece_length)) - total;
            if gap > 0 {
                files.push(pad_file(name, total, gap));
                total += gap;
            }
        }
        let symlink = raw.symlink.as_ref().map(|target| {
            let mut path = Vec::from([name.to_string()]);
            path.extend(clean_path(target, rules.paths));
            path
        });
        files.push(File {
            path: below_name(&raw.names),
            given_name: None,
            length: raw.length,
            offset: total,
            pad: raw.attributes.pad,
            executable: raw.attributes.executable,
            hidden: raw.attributes.hidden,
            symlink,
            pieces_root: raw.pieces_root,
        });
        total = total
            .checked_add(raw.length)
            .filter(|total| *total <= i64::MAX as u64)
            .ok_or_else(too_long)?;
    }
    rename(&mut files);
    lead_links(&mut files, listed, rules);
    Ok(Placed { files, total })
}

/// Tells colliding names apart. Pad files are never written, so theirs do not matter.
fn rename(files: &mut [File]) {
    let plain = |file: &&mut File| !file.pad;
    let paths = files.iter_mut().filter(plain).map(|file| &mut file.path);
    let mut renamed = tell_apart(paths).into_iter().peekable();
    for (at, file) in files.iter_mut().filter(plain).enumerate() {
        if let Some((_, given)) = renamed.next_if(|(renamed, _)| *renamed == at) {
            file.given_name = Some(given);
        }
    }
}

/// Lets links lead to what the torrent means: names in it are not cleaned, and a file may have got
/// another name since.
///
/// A target counts from the torrent's folder (BEP 47). Where nothing is there, it may count from
/// the folder of the link instead: that is what a link says on disk, and libtorrent and others
/// write just that.
fn lead_links(files: &mut [File], listed: &Listed<'_>, rules: &Rules) {
    if listed.files.iter().all(|raw| raw.symlink.is_none()) {
        return;
    }
    // Padding that is put between the files of v2 is in none of the lists.
    let paths = files.iter().filter(|file| !file.pad);
    let raw = listed.files.iter().filter(|raw| !raw.attributes.pad);
    let named: BTreeMap<&[&[u8]], Vec<String>> = raw
        .clone()
        .zip(paths)
        .map(|(raw, file)| (&raw.names[..], file.path.clone()))
        .collect();
    let find = |target: &[&[u8]]| match named.get(target) {
        Some(path) => Some(path.clone()),
        None => {
            // What lies below a folder comes right after where it would be.
            let (names, path) = named.range(target..).next()?;
            let mut folder = Vec::from([path.first()?.clone()]);
            folder.extend(clean_path(target, rules.paths));
            names.starts_with(target).then_some(folder)
        }
    };
    let links = files.iter_mut().filter(|file| !file.pad);
    for (file, raw) in links.zip(raw) {
        let (Some(link), Some(target)) = (&mut file.symlink, &raw.symlink) else {
            continue;
        };
        let beside = || find(&from_folder_of(&raw.names, target)?);
        if let Some(path) = find(target).or_else(beside) {
            *link = path;
        }
    }
}

/// The names that `target` stands for when it counts from the folder of the file `link`; `None`
/// when that is outside of the torrent.
fn from_folder_of<'a>(link: &[&'a [u8]], target: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let mut names = link.split_last()?.1.to_vec();
    for element in target {
        match *element {
            b"" | b"." => {}
            b".." => _ = names.pop()?,
            name => names.push(name),
        }
    }
    Some(names)
}

pub(super) fn pad_file(name: &str, offset: u64, length: u64) -> File {
    File {
        path: Vec::from([name.to_string(), ".pad".to_string(), length.to_string()]),
        given_name: None,
        length,
        offset,
        pad: true,
        executable: false,
        hidden: false,
        symlink: None,
        pieces_root: None,
    }
}

fn count_pieces(
    dict: Dict<'_, '_>,
    total: u64,
    piece_length: u32,
    rules: &Rules,
) -> Result<u32, MetainfoError> {
    let pieces = total.div_ceil(u64::from(piece_length));
    let found = format!("{total} bytes of content in {pieces} pieces");
    let expected = if pieces == 0 {
        "at least one byte".to_string()
    } else {
        format!("at most {} pieces", rules.max_pieces)
    };
    u32::try_from(pieces)
        .ok()
        .filter(|pieces| (1..=rules.max_pieces).contains(pieces))
        .ok_or_else(|| MetainfoError::found("info", dict.value(), found, expected))
}

fn read_pieces(dict: Dict<'_, '_>, count: u32, raw: &Bytes) -> Result<Bytes, MetainfoError> {
    const KEY: &str = "info.pieces";
    let length = count as usize * 20;
    let expected = format!("a string of {length} bytes, 20 for each of {count} pieces");
    let value = dict
        .find(b"pieces")
        .ok_or_else(|| MetainfoError::missing(KEY, dict, &expected))?;
    match value.as_bytes() {
        Some(pieces) if pieces.len() == length => Ok(raw.slice_ref(pieces)),
        Some(pieces) => {
            let found = format!("a string of {} bytes", pieces.len());
            Err(MetainfoError::found(KEY, value, found, &expected))
        }
        None => Err(MetainfoError::wrong(KEY, value, &expected)),
    }
}

/// How long the layers of pieces have to be: every file larger than a piece has one (BEP 52).
pub(super) fn layer_sizes(info: &Info) -> BTreeMap<[u8; 32], u64> {
    let large = |file: &&File| file.length > u64::from(info.piece_length);
    info.files
        .iter()
        .filter(large)
        .filter_map(|file| {
            let pieces = file.length.div_ceil(u64::from(info.piece_length));
            Some((file.pieces_root?, pieces))
        })
        .collect()
}
