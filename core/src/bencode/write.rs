use alloc::vec::Vec;

/// Appends bencoding to a buffer of the caller's.
///
/// It writes what it is told: keys in sorted order and matching `end`s are the caller's part.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// Appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// An integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.out.push(b'i');
        if value < 0 {
            self.out.push(b'-');
        }
        self.digits(value.unsigned_abs());
        self.out.push(b'e');
        self
    }

    /// A string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.length(value.len());
        self.out.extend_from_slice(value);
        self
    }

    /// What comes before the content of a string of so many bytes; the caller appends them.
    pub fn length(&mut self, length: usize) -> &mut Self {
        self.digits(length as u64);
        self.out.push(b':');
        self
    }

    /// A key of a dictionary; the same as [`Writer::bytes`], for the reader's sake.
    pub fn key(&mut self, key: &[u8]) -> &mut Self {
        self.bytes(key)
    }

    /// Begins a list.
    pub fn list(&mut self) -> &mut Self {
        self.out.push(b'l');
        self
    }

    /// Begins a dictionary.
    pub fn dict(&mut self) -> &mut Self {
        self.out.push(b'd');
        self
    }

    /// Ends the innermost list or dictionary.
    pub fn end(&mut self) -> &mut Self {
        self.out.push(b'e');
        self
    }

    /// Bytes that are bencoding already.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    fn digits(&mut self, mut value: u64) {
        let mut buffer = [0; 20];
        let mut at = buffer.len();
        loop {
            at -= 1;
            buffer[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&buffer[at..]);
    }
}
