//! The files below a folder, as a torrent lists them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use trackerless_core::metainfo::{Rules, Source};

use crate::error::Failure;
use crate::keep::{Place, would_replace};
use crate::storage::lexical_target;

/// Files and folders below one another at most.
const MAX_DEPTH: usize = 64;

/// A file, and when it was changed last.
pub(super) type Found = (Source, Option<SystemTime>);

/// Every file below `root`, with what a torrent tells of it; `output` is left out where it is a
/// torrent from before. Symbolic links are listed as such, or with `follow` what they lead to in
/// their place.
///
/// # Errors
/// What cannot be read or be in a torrent, and content that `output` would take the place of.
pub(super) fn walk(
    root: &Path,
    output: Option<&Path>,
    follow: bool,
) -> Result<Vec<Found>, Failure> {
    let place = output.and_then(Place::of);
    let real = root
        .canonicalize()
        .map_err(|error| wrong(root, &error.to_string()))?;
    let most = Rules::default().max_files as usize;
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, Vec<String>)> = vec![(root.to_owned(), Vec::new())];
    while let Some((folder, elements)) = open.pop() {
        if elements.len() > MAX_DEPTH {
            return Err(wrong(&folder, "expected at most 64 folders in one another"));
        }
        let read = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(&folder)?.collect() };
        for entry in read().map_err(|error| wrong(&folder, &error.to_string()))? {
            let path = entry.path();
            let meta = match follow {
                true => fs::metadata(&path),
                false => entry.metadata(),
            };
            let meta = meta.map_err(|error| wrong(&path, &error.to_string()))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(wrong(&path, "expected a name in UTF-8"));
            };
            let mut elements = elements.clone();
            elements.push(name.to_owned());
            if meta.is_dir() {
                if follow {
                    refuse_loop(&path)?;
                }
                open.push((path, elements));
            } else if meta.is_symlink() {
                let source = Source {
                    symlink: Some(target_of(&path, &elements, &real)?),
                    path: elements,
                    ..Source::default()
                };
                found.push((source, modified(&meta)));
            } else if !meta.is_file() {
                let expected = "expected a file, folder or link, not a pipe or a device";
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
            // Through links, a few folders can be listed without end.
            if found.len() > most {
                return Err(wrong(root, &format!("expected at most {most} files")));
            }
        }
    }
    Ok(found)
}

/// Where the link at `path`, which is at `elements` below `root`, leads to, as elements below
/// `root`: by its own words, so that it says the same everywhere, or where they take another way,
/// to where that ends.
///
/// A link that leads out of the folder would lead somewhere else, or nowhere, for everybody else.
fn target_of(path: &Path, elements: &[String], root: &Path) -> Result<Vec<String>, Failure> {
    let target = path
        .canonicalize()
        .map_err(|error| wrong(path, &format!("a link that leads nowhere ({error})")))?;
    let outside = || {
        wrong(
            path,
            "expected a link to something else in the folder; --follow-symlinks takes what it \
             leads to in its place",
        )
    };
    let below = target.strip_prefix(root).map_err(|_| outside())?;
    let end: Option<Vec<String>> = below
        .iter()
        .map(|element| element.to_str().map(str::to_owned))
        .collect();
    let end = end.ok_or_else(|| wrong(path, "expected a name in UTF-8"))?;
    if end.is_empty() {
        return Err(outside());
    }
    let text = fs::read_link(path).map_err(|error| wrong(path, &error.to_string()))?;
    Ok(lexical_target(elements, &text).unwrap_or(end))
}

/// Refuses a folder that is, through a link, one of those it lies in.
fn refuse_loop(path: &Path) -> Result<(), Failure> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| wrong(path, &error.to_string()))
    };
    let target = real(path)?;
    for folder in path.ancestors().skip(1) {
        if folder.as_os_str().is_empty() {
            break;
        }
        if real(folder)?.starts_with(&target) {
            return Err(wrong(path, "a link to a folder that it lies in"));
        }
    }
    Ok(())
}

fn wrong(path: &Path, message: &str) -> Failure {
    Failure::usage(format!("{}: {message}", path.display()))
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
