//! What others do to files while they are in use.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};

/// How long what was seen of an open file is believed.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Paths from so many bytes on are looked up folder by folder: systems take 4096 at once, or less.
const LONG_PATH: usize = 1000;

/// Somebody else changed or removed what is in use.
#[derive(Debug)]
pub(super) struct Changed;

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("changed or removed while it was in use")
    }
}

impl std::error::Error for Changed {}

/// [`Changed`], as functions on files tell it.
pub(super) fn changed() -> io::Error {
    io::Error::other(Changed)
}

/// What a file looked like: bytes, and the time of change in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u64, i64, i64);

impl Seen {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self(meta.size(), meta.mtime(), meta.mtime_nsec())
    }
}

/// What is at `path` below `root`, however long that is; links are not followed.
///
/// # Errors
/// Those of the file system.
pub(crate) fn metadata_below(root: &Path, path: &[String]) -> io::Result<Metadata> {
    let whole = path.iter().fold(root.to_owned(), |at, it| at.join(it));
    if whole.as_os_str().len() < LONG_PATH {
        return fs::symlink_metadata(whole);
    }
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut at = File::open(root)?;
    for element in path {
        at = File::from(openat(&at, element, flags, Mode::empty())?);
    }
    at.metadata()
}
