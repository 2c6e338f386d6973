use core::fmt;

use super::decode::accumulate;

/// One part of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// First byte.
    pub(super) start: u32,
    /// Byte after the last.
    pub(super) end: u32,
    /// String: where its content begins. List or dictionary: the token after its last descendant.
    pub(super) aux: u32,
}

/// A look at one value: `'t` is the list of parts, `'a` the bytes themselves.
#[derive(Clone, Copy)]
pub struct Value<'t, 'a> {
    bytes: &'a [u8],
    tokens: &'t [Token],
    index: u32,
}

impl<'t, 'a> Value<'t, 'a> {
    pub(super) fn new(bytes: &'a [u8], tokens: &'t [Token], index: u32) -> Self {
        Self {
            bytes,
            tokens,
            index,
        }
    }

    fn token(self) -> Token {
        self.tokens[self.index as usize]
    }

    fn first(self) -> u8 {
        self.bytes[self.token().start as usize]
    }

    /// The token after this value and all it contains.
    fn next(self) -> u32 {
        match self.first() {
            b'l' | b'd' => self.token().aux,
            _ => self.index + 1,
        }
    }

    /// Exactly the bytes that encode this value.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        &self.bytes[self.range()]
    }

    /// Where [`Value::raw`] lies in the decoded bytes.
    #[must_use]
    pub fn range(self) -> core::ops::Range<usize> {
        let token = self.token();
        token.start as usize..token.end as usize
    }

    /// The first byte of the value within the decoded bytes.
    #[must_use]
    pub fn offset(self) -> usize {
        self.token().start as usize
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        let body = self.raw().strip_prefix(b"i")?.strip_suffix(b"e")?;
        let (negative, digits) = match body.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, body),
        };
        digits.iter().try_fold(0, |value, digit| {
            accumulate(value, digit.wrapping_sub(b'0'), negative)
        })
    }

    /// The content of the string, if it is one.
    #[must_use]
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        let token = self.token();
        self.first()
            .is_ascii_digit()
            .then(|| &self.bytes[token.aux as usize..token.end as usize])
    }

    /// The content of the string, if it is one and UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The string as an array, if it is one of just this length.
    #[must_use]
    pub fn as_array<const N: usize>(self) -> Option<[u8; N]> {
        self.as_bytes()?.try_into().ok()
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(self) -> Option<List<'t, 'a>> {
        (self.first() == b'l').then_some(List(self))
    }

    /// The dictionary, if it is one.
    #[must_use]
    pub fn as_dict(self) -> Option<Dict<'t, 'a>> {
        (self.first() == b'd').then_some(Dict(self))
    }
}

impl fmt::Debug for Value<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw().escape_ascii())
    }
}

/// A list.
#[derive(Debug, Clone, Copy)]
pub struct List<'t, 'a>(Value<'t, 'a>);

impl<'t, 'a> List<'t, 'a> {
    /// The elements.
    #[must_use]
    pub fn iter(self) -> ListIter<'t, 'a> {
        ListIter {
            at: Value::new(self.0.bytes, self.0.tokens, self.0.index + 1),
            end: self.0.next(),
        }
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.next() == self.0.index + 1
    }

    /// Number of elements; walks them.
    #[must_use]
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Element `index`; walks to it.
    #[must_use]
    pub fn get(self, index: usize) -> Option<Value<'t, 'a>> {
        self.iter().nth(index)
    }

    /// The list as a value.
    #[must_use]
    pub fn value(self) -> Value<'t, 'a> {
        self.0
    }
}

impl<'t, 'a> IntoIterator for List<'t, 'a> {
    type Item = Value<'t, 'a>;
    type IntoIter = ListIter<'t, 'a>;

    fn into_iter(self) -> ListIter<'t, 'a> {
        self.iter()
    }
}

/// The elements of a [`List`].
#[derive(Debug, Clone)]
pub struct ListIter<'t, 'a> {
    at: Value<'t, 'a>,
    end: u32,
}

impl<'t, 'a> Iterator for ListIter<'t, 'a> {
    type Item = Value<'t, 'a>;

    fn next(&mut self) -> Option<Value<'t, 'a>> {
        if self.at.index >= self.end {
            return None;
        }
        let value = self.at;
        self.at.index = value.next();
        Some(value)
    }
}

/// A dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Dict<'t, 'a>(Value<'t, 'a>);

impl<'t, 'a> Dict<'t, 'a> {
    /// Keys and values as they come.
    #[must_use]
    pub fn iter(self) -> DictIter<'t, 'a> {
        DictIter(List(self.0).iter())
    }

    /// The value of the first `key`.
    #[must_use]
    pub fn find(self, key: &[u8]) -> Option<Value<'t, 'a>> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// The integer under `key`; `None` also when it is no integer.
    #[must_use]
    pub fn int(self, key: &[u8]) -> Option<i64> {
        self.find(key)?.as_int()
    }

    /// The string under `key`; `None` also when it is no string.
    #[must_use]
    pub fn bytes(self, key: &[u8]) -> Option<&'a [u8]> {
        self.find(key)?.as_bytes()
    }

    /// The dictionary under `key`; `None` also when it is no dictionary.
    #[must_use]
    pub fn dict(self, key: &[u8]) -> Option<Dict<'t, 'a>> {
        self.find(key)?.as_dict()
    }

    /// The list under `key`; `None` also when it is no list.
    #[must_use]
    pub fn list(self, key: &[u8]) -> Option<List<'t, 'a>> {
        self.find(key)?.as_list()
    }

    /// Whether it has no keys.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.next() == self.0.index + 1
    }

    /// The dictionary as a value.
    #[must_use]
    pub fn value(self) -> Value<'t, 'a> {
        self.0
    }
}

impl<'t, 'a> IntoIterator for Dict<'t, 'a> {
    type Item = (&'a [u8], Value<'t, 'a>);
    type IntoIter = DictIter<'t, 'a>;

    fn into_iter(self) -> DictIter<'t, 'a> {
        self.iter()
    }
}

/// The keys and values of a [`Dict`].
#[derive(Debug, Clone)]
pub struct DictIter<'t, 'a>(ListIter<'t, 'a>);

impl<'t, 'a> Iterator for DictIter<'t, 'a> {
    type Item = (&'a [u8], Value<'t, 'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.as_bytes()?;
        Some((key, self.0.next()?))
    }
}
