use core::fmt;

/// Why bytes are not bencoding, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte at which it showed.
    pub offset: usize,
}

/// What is wrong with bencoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A digit had to come here.
    ExpectedDigit,
    /// `:` had to come here.
    ExpectedColon,
    /// A value had to come here: `i`, `l`, `d` or a digit.
    ExpectedValue,
    /// The bytes end too soon.
    UnexpectedEnd,
    /// The number does not fit 64 bits with a sign.
    Overflow,
    /// Lists and dictionaries are nested deeper than [`Limits::depth`](super::Limits::depth).
    TooDeep,
    /// More parts than [`Limits::tokens`](super::Limits::tokens), or a string that is too long.
    TooLarge,
    /// Bytes follow the value.
    TrailingBytes,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExpectedDigit => "expected a digit",
            Self::ExpectedColon => "expected a colon",
            Self::ExpectedValue => "expected a value",
            Self::UnexpectedEnd => "the data ends too soon",
            Self::Overflow => "the number does not fit 64 bits",
            Self::TooDeep => "nested too deep",
            Self::TooLarge => "too many or too large parts",
            Self::TrailingBytes => "bytes follow the value",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.kind, self.offset)
    }
}

impl core::error::Error for Error {}

/// Something a strict reader refuses and a tolerant one accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    /// What it is.
    pub kind: FlawKind,
    /// The byte at which it showed.
    pub offset: usize,
}

/// A harmless departure from canonical bencoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlawKind {
    /// A key smaller than the key before it.
    UnsortedKey,
    /// The same key twice.
    DuplicateKey,
    /// `i01e`, `i-0e` or `03:abc`.
    LeadingZero,
}
