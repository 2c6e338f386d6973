//! The state folder: routing table, resume files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use trackerless_core::id::Id20;
use trackerless_core::io::StateKind;

use crate::stamp::Stamp;

/// Largest state file that is read back.
const MAX_STATE: u64 = 64 << 20;

/// A folder for what survives a restart. Nothing is created before something is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// State below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The platform's folder for state, if it has one.
    #[must_use]
    pub fn platform() -> Option<Self> {
        let dirs = directories::ProjectDirs::from("", "", "trackerless")?;
        Some(Self::new(
            dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()),
        ))
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Saves `data`: whoever reads sees the old bytes or the new ones, never a part.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, kind: StateKind, data: &[u8]) -> io::Result<()> {
        let path = self
            .path(kind)
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        write_atomic(&path, data)
    }

    /// The bytes saved last; `None` when there are none, or they cannot be read: state is a
    /// convenience, and a start without it works.
    #[must_use]
    pub fn load(&self, kind: StateKind) -> Option<Vec<u8>> {
        let path = self.path(kind)?;
        let size = fs::metadata(&path).ok()?.len();
        if size > MAX_STATE {
            return None;
        }
        fs::read(path).ok()
    }

    /// The table saved last.
    #[must_use]
    pub fn load_dht(&self) -> Option<Vec<u8>> {
        self.load(StateKind::DhtTable)
    }

    /// The resume data of a torrent whose content is to be in `folder`.
    #[must_use]
    pub fn load_resume(&self, info_hash: Id20, folder: &Path) -> Option<SavedResume> {
        let saved = self.load(StateKind::Resume(info_hash))?;
        let (stamp, data) = Stamp::unwrap(&saved)?;
        Some(SavedResume {
            untouched: stamp.is_some_and(|stamp| stamp.holds(folder)),
            data: data.to_vec(),
        })
    }

    fn path(&self, kind: StateKind) -> Option<PathBuf> {
        match kind {
            StateKind::DhtTable => Some(self.root.join("dht.table")),
            StateKind::Resume(hash) => {
                Some(self.root.join("resume").join(format!("{hash}.resume")))
            }
            _ => None,
        }
    }
}

/// Resume data as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedResume {
    /// What the engine gave.
    pub data: Vec<u8>,
    /// Whether the content is where it was and nobody touched it since; else every piece must be
    /// hashed again.
    pub untouched: bool,
}

/// Replaces the file at `path` in one step; makes its folder where needed.
///
/// # Errors
/// Those of the file system.
pub fn write_atomic(path: &Path, data: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The process id keeps two processes out of one temporary file.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_no_temporary_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("a/b"));
        let hash = Id20([7; 20]);
        assert_eq!(state.load_resume(hash, folder.path()), None);
        for data in [&b"one"[..], b"two"] {
            let kind = StateKind::Resume(hash);
            state.save(kind, &Stamp::wrap(None, data)).unwrap();
            let back = state.load_resume(hash, folder.path()).unwrap();
            assert_eq!((&back.data[..], back.untouched), (data, false));
        }
        state.save(StateKind::DhtTable, b"t").unwrap();
        assert_eq!(state.load_dht().as_deref(), Some(&b"t"[..]));
        let resume = state.root().join("resume");
        assert_eq!(fs::read_dir(resume).unwrap().count(), 1);
    }
}
