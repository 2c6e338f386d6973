//! What is in the way of content, so that it can be named.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use trackerless_core::io::JobError;

use super::{job_error, lock};
use crate::display;

/// The path of what was in the way last. Whoever makes a storage keeps one of two equal ones.
#[derive(Debug, Clone, Default)]
pub struct Obstacle(Arc<Mutex<Option<PathBuf>>>);

impl Obstacle {
    /// Where something is that is no file or folder of the content, once a job has failed for it.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        lock(&self.0).clone()
    }

    /// What to tell of a job that failed with `error`, where something is in the way whose path is
    /// known.
    #[must_use]
    pub fn reason(&self, error: JobError) -> Option<String> {
        let path = self.path().filter(|_| error == JobError::InTheWay)?;
        Some(format!("{}: {}", path.display(), display::job_error(error)))
    }

    /// Takes note of `error`, met at `path` below `root`: of the path itself, or of what is not a
    /// folder on the way to it.
    pub(super) fn note(&self, error: &io::Error, root: &Path, path: &[String]) {
        if job_error(error) != JobError::InTheWay {
            return;
        }
        let mut at = root.to_owned();
        let folders = path.len().saturating_sub(1);
        for (depth, element) in path.iter().enumerate() {
            at.push(element);
            let is_folder = at.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            if depth < folders && !is_folder {
                break;
            }
        }
        *lock(&self.0) = Some(at);
    }
}
