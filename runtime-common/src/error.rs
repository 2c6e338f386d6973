//! How a command fails: one line for people, one exit status for scripts.

use std::fmt;

/// Exit status: done.
pub const DONE: u8 = 0;
/// Exit status: it could not be done.
pub const FAILED: u8 = 1;
/// Exit status: the command line or a file given on it is wrong.
pub const USAGE: u8 = 2;
/// Exit status: interrupted.
pub const INTERRUPTED: u8 = 130;

/// Why a command ends without having done what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub code: u8,
    /// One line: what is wrong, where, and what was expected or what to try.
    pub message: String,
}

impl Failure {
    /// The command line, or a file or link given on it, is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// It could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: FAILED,
            message: message.into(),
        }
    }

    /// The kind as `--json` names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.code {
            USAGE => "usage",
            INTERRUPTED => "interrupted",
            _ => "failed",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
