use alloc::string::{String, ToString};
use core::fmt;

use crate::bencode::{self, Dict, Value};

/// Why a torrent file or an `info` dictionary is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetainfoError {
    /// Path of the key, such as `info.files[3].length`.
    pub key: String,
    /// What is there.
    pub found: String,
    /// What had to be there.
    pub expected: String,
    /// The byte of what was read.
    pub offset: usize,
}

impl fmt::Display for MetainfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            found,
            expected,
            offset,
        } = self;
        write!(
            f,
            "{key}: found {found}, expected {expected} (byte {offset})"
        )
    }
}

impl core::error::Error for MetainfoError {}

impl MetainfoError {
    pub(super) fn bencode(what: &str, error: bencode::Error) -> Self {
        use bencode::ErrorKind as Kind;
        let (found, expected) = match error.kind {
            Kind::ExpectedDigit => ("no digit", "a digit"),
            Kind::ExpectedColon => ("no colon", "a colon after the length of a string"),
            Kind::ExpectedValue => (
                "no bencoded value",
                "one that begins with i, l, d or a digit",
            ),
            Kind::UnexpectedEnd => ("the end of the data", "more bencoded data"),
            Kind::Overflow => ("a number too large", "one of 64 bits"),
            Kind::TooDeep => ("values nested too deep", "fewer levels"),
            Kind::TooLarge => ("too many or too large values", "fewer or smaller ones"),
            Kind::TrailingBytes => ("bytes after the value", "the end of the data"),
        };
        Self {
            key: what.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
            offset: error.offset,
        }
    }

    /// `value` is not what it has to be.
    pub(super) fn wrong(
        key: impl fmt::Display,
        value: Value<'_, '_>,
        expected: impl fmt::Display,
    ) -> Self {
        Self::found(key, value, Described(value), expected)
    }

    /// As [`MetainfoError::wrong`], with other words for what is there.
    pub(super) fn found(
        key: impl fmt::Display,
        value: Value<'_, '_>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self {
            key: key.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
            offset: value.offset(),
        }
    }

    pub(super) fn missing(
        key: impl fmt::Display,
        parent: Dict<'_, '_>,
        expected: impl fmt::Display,
    ) -> Self {
        Self::found(key, parent.value(), "nothing", expected)
    }
}

/// A value in words, shortened.
struct Described<'t, 'a>(Value<'t, 'a>);

impl fmt::Display for Described<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        if let Some(int) = self.0.as_int() {
            write!(f, "the number {int}")
        } else if let Some(bytes) = self.0.as_bytes() {
            let (shown, rest) = bytes.split_at(bytes.len().min(SHOWN));
            let dots = if rest.is_empty() { "" } else { "…" };
            write!(f, "the string \"{}{dots}\"", shown.escape_ascii())
        } else if self.0.as_list().is_some() {
            f.write_str("a list")
        } else {
            f.write_str("a dictionary")
        }
    }
}
