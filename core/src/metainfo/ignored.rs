//! What of a torrent file or link cannot be read and is passed over.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::MetainfoError;

/// Parts that are told of; of a text that is nothing else the rest would say the same again.
const MAX_TOLD: usize = 32;
/// Characters that are told of what is there.
const SHOWN: usize = 40;

/// A part that cannot be read; without it the rest is of use all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Which: a key of a link, or a path of keys such as `nodes[3]`.
    pub part: String,
    /// What is there, shortened.
    pub found: String,
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            found,
            expected,
        } = self;
        write!(
            f,
            "{part}: found {found}, expected {expected}; it is ignored"
        )
    }
}

impl From<MetainfoError> for Ignored {
    fn from(error: MetainfoError) -> Self {
        Self {
            part: error.key,
            found: error.found,
            expected: error.expected,
        }
    }
}

impl Ignored {
    /// A text that is none of what its part should be.
    pub(super) fn text(part: &str, found: &str, expected: &str) -> Self {
        let mut shown: String = found.chars().take(SHOWN).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Self {
            part: part.to_string(),
            found: alloc::format!("{shown:?}"),
            expected: expected.to_string(),
        }
    }

    /// Adds it to those that are told of, once.
    pub(super) fn tell(self, told: &mut Vec<Self>) {
        if told.len() < MAX_TOLD && !told.contains(&self) {
            told.push(self);
        }
    }
}
