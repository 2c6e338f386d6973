use alloc::vec::Vec;

use super::value::{Token, Value};
use super::{Error, ErrorKind, Flaw, FlawKind};

/// How much a message may make us work and remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of lists and dictionaries.
    pub depth: u32,
    /// Most integers, strings, lists and dictionaries (keys count too).
    pub tokens: u32,
}

impl Limits {
    /// For a datagram: 10 levels, 500 parts.
    pub const DATAGRAM: Self = Self {
        depth: 10,
        tokens: 500,
    };
    /// For a message on a stream (extension handshake, PEX, metadata): 20 levels, 2,000 parts.
    pub const MESSAGE: Self = Self {
        depth: 20,
        tokens: 2_000,
    };
    /// For a torrent file: 100 levels, 6,000,000 parts.
    pub const TORRENT: Self = Self {
        depth: 100,
        tokens: 6_000_000,
    };
}

/// The longest string anyone may announce; a longer one is refused before it is looked for.
const MAX_STRING: u64 = 99_999_999;

/// Memory for decoding that can be used again, so that decoding allocates nothing once warm.
#[derive(Debug, Default)]
pub struct Scratch {
    tokens: Vec<Token>,
}

impl Scratch {
    /// Empty.
    #[must_use]
    pub const fn new() -> Self {
        Self { tokens: Vec::new() }
    }

    /// With room for `tokens` parts.
    #[must_use]
    pub fn with_capacity(tokens: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(tokens),
        }
    }
}

/// A checked message that owns its list of parts.
#[derive(Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    scratch: Scratch,
    flaw: Option<Flaw>,
}

/// A checked message whose list of parts lives in a [`Scratch`].
#[derive(Debug, Clone, Copy)]
pub struct View<'t, 'a> {
    bytes: &'a [u8],
    tokens: &'t [Token],
    flaw: Option<Flaw>,
}

/// Decodes `bytes`, which must hold one value and nothing more.
///
/// # Errors
/// The first thing that is wrong, and its byte.
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Document<'a>, Error> {
    let (document, used) = decode_prefix(bytes, limits)?;
    nothing_after(bytes, used)?;
    Ok(document)
}

/// Decodes the value at the start of `bytes`; also says how many bytes it took.
///
/// # Errors
/// As [`decode`], but bytes may follow.
pub fn decode_prefix<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Document<'a>, usize), Error> {
    let mut scratch = Scratch::new();
    let (used, flaw) = scan(&mut scratch.tokens, bytes, limits)?;
    let document = Document {
        bytes: &bytes[..used],
        scratch,
        flaw,
    };
    Ok((document, used))
}

/// [`decode`] into memory of the caller's; what comes out borrows it.
///
/// # Errors
/// As [`decode`].
pub fn decode_in<'t, 'a>(
    scratch: &'t mut Scratch,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<View<'t, 'a>, Error> {
    let (used, flaw) = scan(&mut scratch.tokens, bytes, limits)?;
    nothing_after(bytes, used)?;
    Ok(View {
        bytes,
        tokens: &scratch.tokens,
        flaw,
    })
}

impl<'a> Document<'a> {
    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Value<'_, 'a> {
        self.view().root()
    }

    /// The same, as [`decode_in`] gives it.
    #[must_use]
    pub fn view(&self) -> View<'_, 'a> {
        View {
            bytes: self.bytes,
            tokens: &self.scratch.tokens,
            flaw: self.flaw,
        }
    }

    /// The first departure from canonical form, if any.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Whether encoding the content again would give the same bytes.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.flaw.is_none()
    }
}

impl<'t, 'a> View<'t, 'a> {
    /// The outermost value.
    #[must_use]
    pub fn root(self) -> Value<'t, 'a> {
        Value::new(self.bytes, self.tokens, 0)
    }

    /// The first departure from canonical form, if any.
    #[must_use]
    pub fn flaw(self) -> Option<Flaw> {
        self.flaw
    }

    /// Whether encoding the content again would give the same bytes.
    #[must_use]
    pub fn is_canonical(self) -> bool {
        self.flaw.is_none()
    }
}

fn nothing_after(bytes: &[u8], used: usize) -> Result<(), Error> {
    if used == bytes.len() {
        Ok(())
    } else {
        fail(ErrorKind::TrailingBytes, used)
    }
}

fn fail<T>(kind: ErrorKind, offset: usize) -> Result<T, Error> {
    Err(Error { kind, offset })
}

/// The value of `Scanner::open` when nothing is open.
const NONE: u32 = u32::MAX;

struct Scanner<'a, 't> {
    bytes: &'a [u8],
    tokens: &'t mut Vec<Token>,
    limit: usize,
    at: usize,
    flaw: Option<Flaw>,
    /// The innermost open list or dictionary. While one is open its `aux` holds its parent, and a
    /// dictionary's `end` holds `(last key's token << 1) | a value is due`: no stack is needed.
    open: u32,
}

fn scan(
    tokens: &mut Vec<Token>,
    bytes: &[u8],
    limits: &Limits,
) -> Result<(usize, Option<Flaw>), Error> {
    tokens.clear();
    if bytes.len() > (u32::MAX / 2) as usize {
        return fail(ErrorKind::TooLarge, 0);
    }
    let mut scanner = Scanner {
        bytes,
        tokens,
        limit: limits.tokens.min(u32::MAX / 4) as usize,
        at: 0,
        flaw: None,
        open: NONE,
    };
    scanner.run(limits.depth)?;
    Ok((scanner.at, scanner.flaw))
}

impl Scanner<'_, '_> {
    fn run(&mut self, depth_limit: u32) -> Result<(), Error> {
        let mut depth = 0;
        loop {
            let start = self.at;
            let Some(&first) = self.bytes.get(start) else {
                return fail(ErrorKind::UnexpectedEnd, start);
            };
            let in_dict = self.open != NONE
                && self.bytes[self.tokens[self.open as usize].start as usize] == b'd';
            let value_due = in_dict && self.tokens[self.open as usize].end & 1 == 1;

            if in_dict && !value_due && first != b'e' {
                self.key(first)?;
                continue;
            }
            match first {
                b'i' => {
                    self.integer()?;
                }
                b'l' | b'd' => {
                    if depth == depth_limit {
                        return fail(ErrorKind::TooDeep, start);
                    }
                    depth += 1;
                    let parent = self.open;
                    self.open = self.push(start, 0, parent)?;
                    self.at += 1;
                    continue;
                }
                b'e' if value_due => return fail(ErrorKind::ExpectedValue, start),
                b'e' if self.open == NONE => return fail(ErrorKind::UnexpectedEnd, start),
                b'e' => {
                    self.at += 1;
                    depth -= 1;
                    let next = self.tokens.len() as u32;
                    let token = &mut self.tokens[self.open as usize];
                    self.open = token.aux;
                    token.aux = next;
                    token.end = self.at as u32;
                }
                b'0'..=b'9' => {
                    self.string()?;
                }
                _ => return fail(ErrorKind::ExpectedValue, start),
            }

            // A value just ended: it is the root, an element of a list, or the value of a key.
            if self.open == NONE {
                return Ok(());
            }
            let token = &mut self.tokens[self.open as usize];
            if self.bytes[token.start as usize] == b'd' {
                token.end &= !1;
            }
        }
    }

    fn push(&mut self, start: usize, end: usize, aux: u32) -> Result<u32, Error> {
        if self.tokens.len() >= self.limit {
            return fail(ErrorKind::TooLarge, start);
        }
        let index = self.tokens.len() as u32;
        self.tokens.push(Token {
            start: start as u32,
            end: end as u32,
            aux,
        });
        Ok(index)
    }

    fn note(&mut self, kind: FlawKind, offset: usize) {
        self.flaw.get_or_insert(Flaw { kind, offset });
    }

    fn key(&mut self, first: u8) -> Result<(), Error> {
        let start = self.at;
        if !first.is_ascii_digit() {
            return fail(ErrorKind::ExpectedDigit, start);
        }
        let key = self.string()?;
        let dict = self.open as usize;
        let previous = self.tokens[dict].end >> 1;
        // Token 0 is never a key, so 0 can stand for "no key yet".
        if previous != 0 {
            let text = |index: u32| {
                let token = self.tokens[index as usize];
                &self.bytes[token.aux as usize..token.end as usize]
            };
            match text(previous).cmp(text(key)) {
                core::cmp::Ordering::Less => {}
                core::cmp::Ordering::Equal => self.note(FlawKind::DuplicateKey, start),
                core::cmp::Ordering::Greater => self.note(FlawKind::UnsortedKey, start),
            }
        }
        self.tokens[dict].end = (key << 1) | 1;
        Ok(())
    }

    fn string(&mut self) -> Result<u32, Error> {
        let start = self.at;
        let mut length: u64 = 0;
        let mut at = start;
        loop {
            match self.bytes.get(at) {
                Some(&digit @ b'0'..=b'9') => {
                    length = length
                        .checked_mul(10)
                        .and_then(|length| length.checked_add(u64::from(digit - b'0')))
                        .filter(|length| *length <= i64::MAX as u64)
                        .ok_or(Error {
                            kind: ErrorKind::Overflow,
                            offset: at,
                        })?;
                    at += 1;
                }
                Some(b':') => break,
                Some(_) => return fail(ErrorKind::ExpectedDigit, at),
                None if at == start + 1 => return fail(ErrorKind::UnexpectedEnd, at),
                None => return fail(ErrorKind::ExpectedColon, at),
            }
        }
        if length > MAX_STRING {
            return fail(ErrorKind::TooLarge, start);
        }
        if at - start > 1 && self.bytes[start] == b'0' {
            self.note(FlawKind::LeadingZero, start);
        }
        let body = at + 1;
        let end = body + length as usize;
        if end > self.bytes.len() {
            return fail(ErrorKind::UnexpectedEnd, at);
        }
        self.at = end;
        self.push(start, end, body as u32)
    }

    fn integer(&mut self) -> Result<u32, Error> {
        let start = self.at;
        let negative = self.bytes.get(start + 1) == Some(&b'-');
        let digits = start + 1 + usize::from(negative);
        let mut at = digits;
        let mut fits = true;
        let mut value: i64 = 0;
        loop {
            match self.bytes.get(at) {
                Some(&digit @ b'0'..=b'9') => {
                    match accumulate(value, digit - b'0', negative) {
                        Some(next) => value = next,
                        None => fits = false,
                    }
                    at += 1;
                }
                Some(b'e') if at > digits => break,
                Some(_) => return fail(ErrorKind::ExpectedDigit, at),
                None => return fail(ErrorKind::UnexpectedEnd, at),
            }
        }
        if !fits {
            return fail(ErrorKind::Overflow, at);
        }
        if self.bytes[digits] == b'0' && (negative || at - digits > 1) {
            self.note(FlawKind::LeadingZero, start);
        }
        self.at = at + 1;
        self.push(start, at + 1, 0)
    }
}

/// `value * 10 ± digit`, growing away from zero so that the smallest integer fits as well.
pub(super) fn accumulate(value: i64, digit: u8, negative: bool) -> Option<i64> {
    let value = value.checked_mul(10)?;
    if negative {
        value.checked_sub(i64::from(digit))
    } else {
        value.checked_add(i64::from(digit))
    }
}
