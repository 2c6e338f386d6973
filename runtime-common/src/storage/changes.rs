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
    /// A file that we have just made; what it looks like while we write to it decides nothing.
    pub(super) const NEW: Self = Self(0, 0, 0);

    pub(super) fn of(meta: &Metadata) -> Self {
        Self(meta.size(), meta.mtime(), meta.mtime_nsec())
    }

    /// Bytes of the file.
    pub(super) fn size(self) -> u64 {
        self.0
    }

    /// Its size, and its time of change in nanoseconds since 1970; as a stamp notes it.
    pub(super) fn stamped(self) -> Option<(u64, u64)> {
        let seconds = u64::try_from(self.1).ok()?;
        let nanos = u64::try_from(self.2).ok()?;
        Some((
            self.0,
            seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
        ))
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

/// A job that is not wanted any more was given up.
#[derive(Debug)]
pub(super) struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given up, as nobody wants it any more")
    }
}

impl std::error::Error for GivenUp {}

/// [`GivenUp`], as functions on files tell it.
pub(super) fn given_up() -> io::Error {
    io::Error::other(GivenUp)
}

/// Whether an error is [`changed`].
pub(super) fn is_changed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Changed>())
}
