//! The files below a folder, as a torrent lists them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use trackerless_core::metainfo::Source;

use crate::error::Failure;
use crate::keep::{Place, would_replace};

/// Files and folders below one another at most.
const MAX_DEPTH: usize = 64;

/// A file, and when it was changed last.
pub(super) type Found = (Source, Option<SystemTime>);

/// Every file below `root`, with what a torrent tells of it; `output` is left out where it is a
/// torrent from before.
///
/// # Errors
/// What cannot be read or be in a torrent, and content that `output` would take the place of.
pub(super) fn walk(root: &Path, output: Option<&Path>) -> Result<Vec<Found>, Failure> {
    let wrong =
        |path: &Path, message: &str| Failure::usage(format!("{}: {message}", path.display()));
    let place = output.and_then(Place::of);
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, Vec<String>)> = vec![(root.to_owned(), Vec::new())];
    while let Some((folder, elements)) = open.pop() {
        if elements.len() > MAX_DEPTH {
            return Err(wrong(&folder, "expected at most 64 folders in one another"));
        }
        let read = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(&folder)?.collect() };
        for entry in read().map_err(|error| wrong(&folder, &error.to_string()))? {
            let path = entry.path();
            // A link is neither followed, which could loop or leave the folder, nor silently lost.
            let meta = entry
                .metadata()
                .map_err(|error| wrong(&path, &error.to_string()))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(wrong(&path, "expected a name in UTF-8"));
            };
            let mut elements = elements.clone();
            elements.push(name.to_owned());
            if meta.is_dir() {
                open.push((path, elements));
            } else if !meta.is_file() {
                let expected = "expected a file or folder, not a link or a device";
                return Err(wrong(&path, expected));
            } else if let Some(output) = output.filter(|_| place == Place::of(&path)) {
                // Under another name it would be content that is missing from the torrent.
                let same = output.canonicalize().ok() == path.canonicalize().ok();
                if !same || crate::source::torrent(&path).is_err() {
                    return Err(would_replace("--output", output, "a file of the content"));
                }
            } else {
                let source = Source {
                    path: elements,
                    length: meta.len(),
                    executable: is_executable(&meta),
                    ..Source::default()
                };
                found.push((source, modified(&meta)));
            }
        }
    }
    Ok(found)
}

/// When a file was changed last, where the file system tells.
pub(super) fn modified(meta: &fs::Metadata) -> Option<SystemTime> {
    meta.modified().ok()
}

#[cfg(unix)]
pub(super) fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
pub(super) fn is_executable(_: &fs::Metadata) -> bool {
    false
}
