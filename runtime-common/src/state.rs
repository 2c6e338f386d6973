//! The state folder: routing table, resume files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::Access;

use trackerless_core::id::Id20;
use trackerless_core::io::StateKind;
use trackerless_core::metainfo::Info;
use trackerless_core::resume::Resume;

use crate::error::Failure;
use crate::stamp::Stamp;

/// Largest state file that is read back.
const MAX_STATE: u64 = 64 << 20;

/// A folder for what survives a restart. Nothing is created before something is saved.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
    trouble: Arc<Trouble>,
}

/// Why nothing can be saved, and whether that was told.
#[derive(Debug, Default)]
struct Trouble {
    reason: OnceLock<String>,
    told: AtomicBool,
}

impl StateDir {
    /// State below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            trouble: Arc::default(),
        }
    }

    /// The platform's folder for state, if it has one.
    #[must_use]
    pub fn platform() -> Option<Self> {
        // What somebody's own folder holds must not decide how a test ends.
        if cfg!(test) {
            panic!("a test names a state folder of its own");
        }
        let dirs = directories::ProjectDirs::from("", "", "trackerless")?;
        Some(Self::new(
            dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()),
        ))
    }

    /// The folder of `--state-dir`, else the platform's; see [`StateDir::trouble`].
    ///
    /// # Errors
    /// What was given is no folder and cannot become one.
    pub fn choose(given: Option<&Path>) -> Result<Option<Self>, Failure> {
        let Some(state) = given.map(Self::new).or_else(Self::platform) else {
            return Ok(None);
        };
        match (state.check(), given) {
            (Err(_), Some(root)) => Err(Failure::usage(format!(
                "--state-dir: {}: expected a folder, not a file or something below one",
                root.display()
            ))),
            (Err(error), None) => {
                state.fails(&state.root, &error.to_string());
                Ok(Some(state))
            }
            (Ok(()), _) => Ok(Some(state)),
        }
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
        write_atomic(&path, data).inspect_err(|error| self.fails(&path, &error.to_string()))
    }

    /// Looks whether the folder is there, or can be made, and may be written to; what speaks
    /// against it is told by [`StateDir::trouble`]. Makes nothing.
    ///
    /// # Errors
    /// A file is in its place.
    fn check(&self) -> io::Result<()> {
        let existing = nearest_existing(&self.root);
        if !existing.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if let Err(error) = rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK) {
            self.fails(existing, &io::Error::from(error).to_string());
        }
        Ok(())
    }

    /// Why nothing can be saved, and what to try; the first time it is asked after that was
    /// noticed, then never again.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let reason = self.trouble.reason.get()?;
        let told = self.trouble.told.swap(true, Ordering::Relaxed);
        (!told).then(|| reason.clone())
    }

    fn fails(&self, path: &Path, why: &str) {
        self.trouble.reason.get_or_init(|| {
            format!(
                "{}: {why}: routing table and resume data are not saved; name another folder \
                 with --state-dir",
                path.display()
            )
        });
    }

    /// The bytes saved last; `None` when there are none, or they cannot be read: state is a
    /// convenience, and a start without it works.
    #[must_use]
    pub fn load(&self, kind: StateKind) -> Option<Vec<u8>> {
        let path = self.path(kind)?;
        crate::source::read_file(&path, MAX_STATE).ok()
    }

    /// The table saved last.
    #[must_use]
    pub fn load_dht(&self) -> Option<Vec<u8>> {
        self.load(StateKind::DhtTable)
    }

    /// What was saved of a torrent whose content is to be in `folder`, without the pieces that
    /// may have been changed since: those are found by hashing. Its metadata, if that was saved,
    /// comes parsed instead of in [`Resume::info`].
    ///
    /// Pieces that are not vouched for are taken out of what is saved, too: once we write to a file
    /// that others changed, nothing would tell their change from our writing.
    #[must_use]
    pub fn load_resume(
        &self,
        info_hash: Id20,
        folder: &Path,
    ) -> Option<(Resume, Option<Arc<Info>>)> {
        let saved = self.load(StateKind::Resume(info_hash))?;
        let (stamp, data) = Stamp::unwrap(&saved)?;
        let mut resume = Resume::decode(data).ok()?;
        let info = resume.info.clone();
        let info = info.and_then(|raw| Info::parse(raw).ok());
        let had = resume.have.clone();
        match (&stamp, &info) {
            (Some(stamp), Some(info)) => {
                stamp.keep_vouched(info, folder, &self.journal(info_hash), &mut resume.have);
            }
            _ => resume.have.fill(0),
        }
        if resume.have != had {
            let mut data = Vec::new();
            resume.encode(&mut data);
            let kind = StateKind::Resume(info_hash);
            let saved = self.save(kind, &Stamp::wrap(stamp.as_ref(), &data));
            // On a full device there is room for nothing at all still.
            if saved.is_err()
                && let Some(path) = self.path(kind)
            {
                let _ = fs::remove_file(path);
            }
        }
        resume.info = None;
        Some((resume, info.map(Arc::new)))
    }

    /// Where writes to the files of a torrent are noted between two saves.
    pub(crate) fn journal(&self, info_hash: Id20) -> PathBuf {
        self.root.join("resume").join(format!("{info_hash}.writes"))
    }

    /// Where the table is saved.
    pub(crate) fn table_path(&self) -> PathBuf {
        self.root.join("dht.table")
    }

    /// Where what is saved of a torrent is, and the journal beside it.
    pub(crate) fn resume_paths(&self, info_hash: Id20) -> [PathBuf; 2] {
        let saved = self.root.join("resume").join(format!("{info_hash}.resume"));
        [saved, self.journal(info_hash)]
    }

    fn path(&self, kind: StateKind) -> Option<PathBuf> {
        match kind {
            StateKind::DhtTable => Some(self.table_path()),
            StateKind::Resume(hash) => {
                let [saved, _] = self.resume_paths(hash);
                Some(saved)
            }
            _ => None,
        }
    }
}

/// What of `path` exists: itself, or the nearest folder above it.
#[must_use]
pub fn nearest_existing(path: &Path) -> &Path {
    let mut ancestors = path.ancestors();
    let found = ancestors.find(|path| path.symlink_metadata().is_ok());
    found.unwrap_or_else(|| Path::new("."))
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
        for uploaded in [1, 2] {
            let kind = StateKind::Resume(hash);
            let resume = Resume {
                info_hash: hash,
                uploaded,
                piece_count: 8,
                have: vec![0xff],
                ..Resume::default()
            };
            let mut data = Vec::new();
            resume.encode(&mut data);
            state.save(kind, &Stamp::wrap(None, &data)).unwrap();
            let (back, _) = state.load_resume(hash, folder.path()).unwrap();
            // Nothing vouches for the pieces.
            assert_eq!((back.uploaded, &back.have[..]), (uploaded, &[0][..]));
        }
        state.save(StateKind::DhtTable, b"t").unwrap();
        assert_eq!(state.load_dht().as_deref(), Some(&b"t"[..]));
        let resume = state.root().join("resume");
        assert_eq!(fs::read_dir(resume).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_is_refused_and_one_that_cannot_be_written_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for given in [file.clone(), file.join("below")] {
            let failure = StateDir::choose(Some(&given)).unwrap_err();
            assert_eq!(failure.code, crate::error::USAGE);
            assert!(failure.message.contains("--state-dir"), "{failure}");
        }
        let good = StateDir::choose(Some(&folder.path().join("a/b"))).unwrap();
        assert_eq!(good.unwrap().trouble(), None);

        let state = StateDir::new(&file);
        assert!(state.save(StateKind::DhtTable, b"t").is_err());
        let copy = state.clone();
        let told = copy.trouble().unwrap();
        assert!(told.contains("file") && told.contains("--state-dir"));
        assert!(state.save(StateKind::DhtTable, b"t").is_err());
        assert_eq!((state.trouble(), copy.trouble()), (None, None));
    }

    #[test]
    fn what_exists_of_a_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, b"").unwrap();
        assert_eq!(nearest_existing(&folder.path().join("x/y")), folder.path());
        assert_eq!(nearest_existing(&file.join("y")), file);
        assert_eq!(nearest_existing(Path::new("no-such-thing")), Path::new("."));
    }
}
