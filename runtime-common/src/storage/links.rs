//! Symbolic links of a torrent (BEP 47): where they lead, and what they say.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Whether the link at `path` that says `text` leads to `target`, all below `root`: by its words,
/// since what it leads to may not be there yet, or by what is there.
pub(crate) fn leads_to(
    root: &Path,
    path: &[String],
    text: impl AsRef<OsStr>,
    target: &[String],
) -> bool {
    let real = |path: &[String]| {
        let path: PathBuf = path.iter().collect();
        root.join(path).canonicalize()
    };
    lexical_target(path, Path::new(&text)).is_some_and(|said| said == target)
        || matches!((real(path), real(target)), (Ok(a), Ok(b)) if a == b)
}

/// Where a link at `path` that says `text` leads to by its words; `None` where they lead out, or
/// cannot tell: up from what may be a link itself.
pub(crate) fn lexical_target(path: &[String], text: &Path) -> Option<Vec<String>> {
    let mut at = path.split_last()?.1.to_vec();
    let mut down = false;
    for step in text.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir if !down => _ = at.pop()?,
            Component::Normal(name) => {
                down = true;
                at.push(name.to_str()?.to_owned());
            }
            _ => return None,
        }
    }
    Some(at)
}

/// What a link at `path` says so that it leads to `target`, both below the output folder: the way
/// from its own folder, up only as far as it must.
pub(crate) fn link_text(path: &[String], target: &[String]) -> PathBuf {
    let folder = path.split_last().map_or(&[][..], |(_, folder)| folder);
    let shared = folder.iter().zip(target).take_while(|(a, b)| a == b);
    let shared = shared.count();
    let up = folder[shared..].iter().map(|_| "..");
    let text: PathBuf = up
        .chain(target[shared..].iter().map(String::as_str))
        .collect();
    match text.as_os_str().is_empty() {
        // Its own folder.
        true => ".".into(),
        false => text,
    }
}
