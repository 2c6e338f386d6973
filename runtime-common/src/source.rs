//! SOURCE of a command line: a magnet link, a `.torrent` file or a bare info-hash.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trackerless_core::id::InfoHashes;
use trackerless_core::metainfo::{Ignored, Magnet, Torrent};

use crate::error::Failure;

/// Largest `.torrent` file read.
pub const MAX_TORRENT: u64 = 128 << 20;

/// What a SOURCE is, read and validated.
#[derive(Debug)]
pub enum Source {
    /// A link, or a bare hash; the text as it came.
    Magnet(Box<Magnet>, String),
    /// A file.
    Torrent(Arc<Torrent>),
}

impl Source {
    /// Reads and validates SOURCE.
    ///
    /// # Errors
    /// What is wrong, where, and what was expected.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        if is_magnet(text) || (is_hash(text) && !path.exists()) {
            let magnet = magnet(text)?;
            return Ok(Self::Magnet(Box::new(magnet), text.to_owned()));
        }
        Ok(Self::Torrent(Arc::new(torrent(path)?)))
    }

    /// The hashes it names.
    #[must_use]
    pub fn hashes(&self) -> InfoHashes {
        match self {
            Self::Magnet(magnet, _) => magnet.hashes,
            Self::Torrent(torrent) => torrent.info.hashes,
        }
    }

    /// What of it cannot be read: it is used without that.
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        match self {
            Self::Magnet(magnet, _) => &magnet.ignored,
            Self::Torrent(torrent) => &torrent.ignored,
        }
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> String {
        let name = match self {
            Self::Magnet(magnet, _) => magnet.name.clone(),
            Self::Torrent(torrent) => Some(torrent.info.name.clone()),
        };
        let name = name.unwrap_or_else(|| self.hashes().short().to_string());
        crate::display::printable(&name)
    }

    /// As the engine takes it.
    #[must_use]
    pub fn into_core(self) -> trackerless_core::io::Source {
        match self {
            Self::Magnet(_, text) => trackerless_core::io::Source::Magnet(text),
            Self::Torrent(torrent) => trackerless_core::io::Source::Torrent(torrent),
        }
    }
}

/// Reads a magnet link or bare hash.
///
/// # Errors
/// What is wrong, where, and what was expected.
pub fn magnet(text: &str) -> Result<Magnet, Failure> {
    Magnet::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

/// Reads a `.torrent` file.
///
/// # Errors
/// What is wrong, where, and what was expected.
pub fn torrent(path: &Path) -> Result<Torrent, Failure> {
    let wrong = |message: String| Failure::usage(format!("{}: {message}", path.display()));
    let raw = read_file(path, MAX_TORRENT).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            wrong("no such file, and neither a magnet link nor an info-hash".into())
        }
        _ => wrong(error.to_string()),
    })?;
    Torrent::parse(Bytes::from(raw)).map_err(|error| wrong(error.to_string()))
}

/// Reads a plain file of at most `most` bytes. A pipe or device of that name, which could keep
/// us waiting for ever or never end, is refused without waiting for it.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path)?;
    let expected = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(expected("expected a file, not a pipe or a device"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(expected(&format!(
            "expected a file of at most {most} bytes"
        )));
    }
    Ok(bytes)
}

/// Schemes of URIs are read in either case (RFC 3986).
fn is_magnet(text: &str) -> bool {
    let scheme = text.get(.."magnet:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}

fn is_hash(text: &str) -> bool {
    let base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
    match text.len() {
        40 | 64 => text.bytes().all(|b| b.is_ascii_hexdigit()),
        32 => text.bytes().all(base32),
        _ => false,
    }
}
