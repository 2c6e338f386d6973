//! Reads messages from the front of a datagram, without recursion.

use super::{
    Body, MAX_DEPTH, MAX_TOKEN, Malformed, NODE_V4, NODE_V6, Nodes, Samples, Values, Want,
};
use crate::id::Id20;

/// Reads bencode from the front of `rest`. Never recurses.
pub(super) struct Scanner<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<u8, Malformed> {
        self.rest.first().copied().ok_or(Malformed::Truncated)
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        self.peek()?;
        if self.take(byte) {
            Ok(())
        } else {
            Err(Malformed::Syntax)
        }
    }

    fn digits(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        let mut any = false;
        while let Some(digit @ b'0'..=b'9') = self.rest.first() {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit - b'0')))
                .ok_or(Malformed::Overflow)?;
            any = true;
            self.rest = &self.rest[1..];
        }
        if any {
            return Ok(value);
        }
        self.peek()?;
        Err(Malformed::Syntax)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.digits()?;
        self.expect(b':')?;
        let len = usize::try_from(len).map_err(|_| Malformed::Overflow)?;
        let (text, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(text)
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        self.expect(b'i')?;
        let negative = self.take(b'-');
        let size = self.digits()?;
        self.expect(b'e')?;
        let value = if negative {
            0i64.checked_sub_unsigned(size)
        } else {
            i64::try_from(size).ok()
        };
        value.ok_or(Malformed::Overflow)
    }

    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        // One bit per level: whether it is a dictionary. A second mask: whether a key was read.
        let (mut depth, mut dicts, mut keyed) = (0usize, 0u32, 0u32);
        loop {
            let bit = 1u32 << depth;
            let ends = depth > 0 && self.peek()? == b'e';
            if ends {
                if keyed & bit != 0 {
                    return Err(Malformed::Syntax);
                }
                self.expect(b'e')?;
                depth -= 1;
            } else if dicts & bit != 0 && keyed & bit == 0 {
                self.string()?;
                keyed |= bit;
                continue;
            } else {
                match self.peek()? {
                    b'i' => {
                        self.int()?;
                    }
                    open @ (b'l' | b'd') => {
                        // Two levels stand around every value that is skipped.
                        if depth + 2 >= MAX_DEPTH {
                            return Err(Malformed::Depth);
                        }
                        self.expect(open)?;
                        depth += 1;
                        let bit = 1u32 << depth;
                        keyed &= !bit;
                        dicts = if open == b'd' {
                            dicts | bit
                        } else {
                            dicts & !bit
                        };
                        continue;
                    }
                    _ => {
                        self.string()?;
                    }
                }
            }
            // A value ended: the level it stood in expects a key again.
            keyed &= !(1u32 << depth);
            if depth == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn optional_string(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek()?.is_ascii_digit() {
            self.string().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    pub(super) fn optional_int(&mut self) -> Result<Option<i64>, Malformed> {
        if self.peek()? == b'i' {
            self.int().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    pub(super) fn id(&mut self) -> Result<Option<Id20>, Malformed> {
        let text = self.optional_string()?;
        Ok(text.and_then(|text| text.try_into().ok()).map(Id20))
    }

    pub(super) fn list(&mut self) -> Result<&'a [u8], Malformed> {
        let value = self.raw()?;
        Ok(if value.first() == Some(&b'l') {
            value
        } else {
            &[]
        })
    }

    /// A value of any kind, as it stands.
    fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        self.skip()?;
        Ok(&start[..start.len() - self.rest.len()])
    }

    fn array<const N: usize>(&mut self) -> Result<Option<&'a [u8; N]>, Malformed> {
        let text = self.optional_string()?;
        Ok(text.and_then(|text| text.try_into().ok()))
    }

    fn small(&mut self) -> Result<Option<u32>, Malformed> {
        let value = self.optional_int()?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    pub(super) fn body(&mut self) -> Result<Option<Body<'a>>, Malformed> {
        if self.peek()? != b'd' {
            return self.skip().map(|()| None);
        }
        self.expect(b'd')?;
        let mut body = Body::default();
        while !self.take(b'e') {
            match self.string()? {
                b"id" => body.id = self.id()?,
                b"target" => body.target = self.id()?,
                b"info_hash" => body.info_hash = self.id()?,
                b"token" => {
                    body.token = self
                        .optional_string()?
                        .filter(|token| token.len() <= MAX_TOKEN);
                }
                b"port" => {
                    body.port = self
                        .optional_int()?
                        .and_then(|port| u16::try_from(port).ok())
                }
                b"implied_port" => {
                    body.implied_port = self.optional_int()?.is_some_and(|value| value != 0);
                }
                b"seed" => body.seed = self.optional_int()?.is_some_and(|value| value != 0),
                b"nodes" => {
                    body.nodes = Nodes::new(self.optional_string()?.unwrap_or_default(), NODE_V4);
                }
                b"nodes6" => {
                    body.nodes6 = Nodes::new(self.optional_string()?.unwrap_or_default(), NODE_V6);
                }
                b"values" => body.values = Values { list: self.list()? },
                b"want" => body.want = want(self.list()?),
                b"scrape" => body.scrape = self.optional_int()?.is_some_and(|value| value != 0),
                b"BFsd" => body.seeds = self.array()?,
                b"BFpe" => body.downloaders = self.array()?,
                b"v" => body.value = Some(self.raw()?),
                b"k" => body.key = self.array()?,
                b"sig" => body.signature = self.array()?,
                b"seq" => body.seq = self.optional_int()?,
                b"cas" => body.cas = self.optional_int()?,
                b"salt" => body.salt = self.optional_string()?.unwrap_or_default(),
                b"samples" => body.samples = self.optional_string()?.and_then(Samples::new),
                b"num" => body.num = self.small()?,
                b"interval" => body.interval = self.small()?,
                _ => self.skip()?,
            }
        }
        Ok(Some(body))
    }

    pub(super) fn error(&mut self) -> Result<Option<(i64, &'a [u8])>, Malformed> {
        let mut list = Scanner { rest: self.list()? };
        if !list.take(b'l') {
            return Ok(None);
        }
        if list.peek()? != b'i' {
            return Ok(None);
        }
        let code = list.int()?;
        let text = if list.peek()? == b'e' {
            None
        } else {
            list.optional_string()?
        };
        Ok(Some((code, text.unwrap_or_default())))
    }
}

fn want(list: &[u8]) -> Option<Want> {
    let mut scan = Scanner { rest: list };
    if !scan.take(b'l') {
        return None;
    }
    let mut want = Want::default();
    while !scan.take(b'e') {
        match scan.optional_string().ok()? {
            Some(b"n4") => want.v4 = true,
            Some(b"n6") => want.v6 = true,
            _ => {}
        }
    }
    Some(want)
}
