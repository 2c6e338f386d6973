//! What a command reads, so that nothing it writes takes the place of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use trackerless_core::id::Id20;
use trackerless_core::metainfo::Info;

use crate::error::Failure;
use crate::state::StateDir;

/// Files that a command reads or keeps, each with what it is to the user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    files: Vec<(&'static str, PathBuf)>,
}

impl Kept {
    /// `path`, which is `what` to the user.
    pub(crate) fn add(&mut self, what: &'static str, path: impl Into<PathBuf>) {
        self.files.push((what, path.into()));
    }

    /// The file of `--config`, if one is given.
    pub(crate) fn add_config(&mut self, path: Option<&Path>) {
        if let Some(path) = path {
            self.add("the file of --config", path);
        }
    }

    /// The saved routing table.
    pub(crate) fn add_table(&mut self, state: Option<&StateDir>) {
        if let Some(state) = state {
            self.add("the saved routing table", state.table_path());
        }
    }

    /// What is saved of a torrent.
    pub(crate) fn add_resume(&mut self, state: Option<&StateDir>, info_hash: Id20) {
        if let Some(state) = state {
            for path in state.resume_paths(info_hash) {
                self.add("what is saved of the torrent", path);
            }
        }
    }

    /// The files of a torrent below `folder`.
    pub(crate) fn add_content(&mut self, info: &Info, folder: &Path) {
        for path in content_paths(info, folder) {
            self.add("a file of the content", path);
        }
    }

    /// The paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(_, path)| path.as_path())
    }

    /// Refuses `written`, the file that `option` names, where it is one of these.
    ///
    /// # Errors
    /// Which one it is.
    pub(crate) fn check(&self, option: &str, written: &Path) -> Result<(), Failure> {
        self.check_all(option, [written.to_owned()])
    }

    /// As [`Self::check`], of many files: what is kept is looked up once, and of a folder that is
    /// not there no file is looked up.
    ///
    /// # Errors
    /// Which one it is.
    pub(crate) fn check_all(
        &self,
        option: &str,
        written: impl IntoIterator<Item = PathBuf>,
    ) -> Result<(), Failure> {
        let places = self.files.iter().map(|(_, path)| Place::of(path));
        let places: Vec<_> = places.collect();
        let mut absent = None;
        for path in written {
            let folder = path.parent();
            if folder.is_some() && folder == absent.as_deref() {
                continue;
            }
            let Some(place) = Place::of(&path) else {
                let missing = folder.filter(|folder| folder.symlink_metadata().is_err());
                absent = missing.map(Path::to_owned);
                continue;
            };
            let same = places.iter().position(|it| it.as_ref() == Some(&place));
            if let Some(at) = same {
                return Err(would_replace(option, &path, self.files[at].0));
            }
        }
        Ok(())
    }
}

/// Where the files of a torrent are below `folder`, under all names they may have there.
pub(crate) fn content_paths(info: &Info, folder: &Path) -> impl Iterator<Item = PathBuf> {
    let files = info.files.iter().filter(|file| !file.pad);
    files.flat_map(move |file| {
        let path = folder.join(file.path.iter().collect::<PathBuf>());
        let given = file.given_name.as_ref();
        let given = given.map(|name| path.with_file_name(name));
        std::iter::once(path).chain(given)
    })
}

/// That the file `option` names is `what`, which must stay as it is.
pub(crate) fn would_replace(option: &str, written: &Path, what: &str) -> Failure {
    Failure::usage(format!(
        "{option}: {}: this is {what}, which would be replaced; name another file",
        written.display()
    ))
}

/// Where a file is, however its path is spelled: two paths of one file are equal, through links
/// of both kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file that is there.
    File(Identity),
    /// One that is not: its folder, which is, and its name.
    Missing(Identity, std::ffi::OsString),
}

impl Place {
    /// `None` where neither the file nor its folder is there, or it is no plain file: a device
    /// or a pipe is not replaced by what is written to it.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        if let Ok(meta) = fs::metadata(path) {
            return meta.is_file().then(|| Self::File(identity(&meta)));
        }
        let folder = path.parent()?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let meta = fs::metadata(folder).ok()?;
        Some(Self::Missing(identity(&meta), path.file_name()?.to_owned()))
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_every_name_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("a"), b"x").unwrap();
        fs::write(at("b"), b"x").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink("a", at("soft")).unwrap();
        let mut kept = Kept::default();
        kept.add("SOURCE", at("a"));
        kept.add("to come", at("new"));
        for name in ["a", "hard", "soft", "d/../a", "new", "d/../new"] {
            let failure = kept.check("--record", &at(name)).unwrap_err();
            assert_eq!(failure.code, crate::error::USAGE, "{name}");
            assert!(failure.message.starts_with("--record: "), "{failure}");
        }
        for name in ["b", "d/a", "newer", "no/where"] {
            assert!(kept.check("--record", &at(name)).is_ok(), "{name}");
        }
        // Two names of a device are no danger to each other.
        kept.add("SOURCE", "/dev/null");
        assert!(kept.check("--record", Path::new("/dev/null")).is_ok());
    }
}
