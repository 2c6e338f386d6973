//! What the files looked like when resume data was saved.
//!
//! Resume data says which pieces were right. That holds only for the same folder, and as long as
//! nobody touched the files since: otherwise every piece is hashed again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// Files looked at; a torrent of more is hashed at each start, which costs less than looking at
/// all of them whenever resume data is saved.
const MAX_FILES: usize = 20_000;
/// Longest first line of a saved file, bytes.
const MAX_LINE: usize = 64 << 20;

/// Where content is and what its files looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    folder: String,
    files: Vec<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    path: String,
    /// Bytes, and nanoseconds since 1970 of the last change; absent when it is not there.
    state: Option<(u64, u64)>,
}

impl Stamp {
    /// The files at `paths` below `folder` as they are now; `None` when there are too many.
    pub(crate) fn take(folder: &Path, paths: impl Iterator<Item = PathBuf>) -> Option<Self> {
        let root = fs::canonicalize(folder).ok()?;
        let mut files = Vec::new();
        for path in paths {
            if files.len() == MAX_FILES {
                return None;
            }
            files.push(Seen {
                state: look(&root.join(&path)),
                path: path.to_str()?.to_owned(),
            });
        }
        Some(Self {
            folder: root.to_str()?.to_owned(),
            files,
        })
    }

    /// Whether content below `folder` is what was seen, untouched since.
    pub(crate) fn holds(&self, folder: &Path) -> bool {
        let Ok(root) = fs::canonicalize(folder) else {
            return false;
        };
        root.to_str() == Some(&*self.folder)
            && self
                .files
                .iter()
                .all(|seen| look(&root.join(&seen.path)) == seen.state)
    }

    /// `data` with this in front of it.
    pub(crate) fn wrap(stamp: Option<&Self>, data: &[u8]) -> Vec<u8> {
        let mut out = serde_json::to_vec(&stamp).unwrap_or_else(|_| b"null".to_vec());
        out.push(b'\n');
        out.extend_from_slice(data);
        out
    }

    /// What [`Stamp::wrap`] made; `None` for anything else.
    pub(crate) fn unwrap(saved: &[u8]) -> Option<(Option<Self>, &[u8])> {
        let end = saved.iter().take(MAX_LINE).position(|&b| b == b'\n')?;
        let stamp = serde_json::from_slice(&saved[..end]).ok()?;
        Some((stamp, &saved[end + 1..]))
    }
}

fn look(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((meta.len(), changed.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_stamp_holds_for_its_folder_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        for folder in [&folder, &other] {
            fs::write(folder.path().join("a"), b"same").unwrap();
        }
        let paths = || [PathBuf::from("a"), PathBuf::from("not there")].into_iter();
        let stamp = Stamp::take(folder.path(), paths()).unwrap();
        let saved = Stamp::wrap(Some(&stamp), b"data\n");
        let (back, data) = Stamp::unwrap(&saved).unwrap();
        assert_eq!((back.as_ref(), data), (Some(&stamp), &b"data\n"[..]));
        assert!(stamp.holds(folder.path()));
        assert!(!stamp.holds(other.path()));

        let file = fs::File::options()
            .write(true)
            .open(folder.path().join("a"))
            .unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        file.set_modified(later).unwrap();
        assert!(!stamp.holds(folder.path()));
        assert!(Stamp::unwrap(b"d9:info-hash20:").is_none());
    }
}
