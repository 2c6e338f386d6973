//! KRPC messages (BEP 5, 32, 42, 43): read without allocation into borrowed values, written
//! straight into the caller's buffer.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::bencode::Writer;
use crate::compact;
use crate::id::{Id20, NodeId};

/// Longest transaction id accepted and echoed, bytes; clients in use send 1 to 8.
pub const MAX_TRANSACTION: usize = 32;
/// Longest token believed, bytes; clients in use send 4 to 20.
pub const MAX_TOKEN: usize = 64;
/// Lists and dictionaries inside each other that are read.
pub const MAX_DEPTH: usize = 10;
/// Bytes of one node of `nodes`.
pub const NODE_V4: usize = 26;
/// Bytes of one node of `nodes6`.
pub const NODE_V6: usize = 38;

/// Our version, sent as `v`.
const VERSION: &[u8] = b"1:v4:TK01";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A query and its method.
    Query(&'a [u8]),
    /// An answer.
    Response,
    /// A refusal: code and text.
    Error(i64, &'a [u8]),
}

/// A message, borrowing from its datagram. Fields of the wrong type or length read as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// The transaction id, 1 to [`MAX_TRANSACTION`] bytes.
    pub transaction: &'a [u8],
    /// The sender's version (`v`).
    pub version: Option<&'a [u8]>,
    /// Our address as the sender saw it (`ip`, BEP 42).
    pub ip: Option<SocketAddr>,
    /// The sender answers nothing (`ro`, BEP 43).
    pub read_only: bool,
    /// The fields of `a` or `r`.
    pub body: Body<'a>,
}

/// The fields of a query's or an answer's dictionary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body<'a> {
    /// Who sent it.
    pub id: Option<NodeId>,
    /// What `find_node` looks for.
    pub target: Option<Id20>,
    /// What `get_peers` and `announce_peer` are about.
    pub info_hash: Option<Id20>,
    /// The write token.
    pub token: Option<&'a [u8]>,
    /// The announced port.
    pub port: Option<u16>,
    /// The announced port is the one the datagram shows.
    pub implied_port: bool,
    /// The announcer has everything (BEP 33).
    pub seed: bool,
    /// IPv4 nodes.
    pub nodes: Nodes<'a>,
    /// IPv6 nodes.
    pub nodes6: Nodes<'a>,
    /// Peers.
    pub values: Values<'a>,
    /// The families of nodes asked for, if it says so (BEP 32).
    pub want: Option<Want>,
}

/// The families of nodes a query asks for (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `n4`.
    pub v4: bool,
    /// `n6`.
    pub v6: bool,
}

/// Compact nodes; those of a wrong total length are not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes<'a> {
    bytes: &'a [u8],
    each: usize,
}

impl<'a> Nodes<'a> {
    fn new(bytes: &'a [u8], each: usize) -> Self {
        if bytes.len().is_multiple_of(each) {
            Self { bytes, each }
        } else {
            Self::default()
        }
    }

    /// Every node with its endpoint.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> + 'a {
        self.bytes
            .chunks_exact(self.each.max(1))
            .filter_map(|node| {
                let (id, endpoint) = node.split_first_chunk::<20>()?;
                Some((Id20(*id), compact::decode(endpoint)?))
            })
    }
}

/// Peers of an answer; entries that are not compact endpoints are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values<'a> {
    /// A well-formed list, or nothing.
    list: &'a [u8],
}

impl<'a> Values<'a> {
    /// Every peer.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        let mut scan = Scanner { rest: self.list };
        let mut open = scan.take(b'l');
        core::iter::from_fn(move || {
            while open && !scan.take(b'e') {
                if let Some(text) = scan.optional_string().ok()?
                    && let Some(addr) = compact::decode(text)
                {
                    return Some(addr);
                }
            }
            open = false;
            None
        })
    }

    /// Whether there is no list of peers at all.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.list.is_empty()
    }
}

/// Why a datagram is not a message. None of these is ever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends too early.
    Truncated,
    /// A byte that cannot stand where it stands.
    Syntax,
    /// A number that does not fit.
    Overflow,
    /// More than [`MAX_DEPTH`] levels.
    Depth,
    /// Bytes after the end.
    Trailing,
    /// No usable `t`, `y`, or what `y` promises.
    Incomplete,
}

impl<'a> Message<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// Why it is not a message.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let mut scan = Scanner { rest: datagram };
        scan.expect(b'd')?;
        let (mut transaction, mut kind, mut method) = (None, None, None);
        let (mut version, mut ip, mut read_only) = (None, None, false);
        let (mut error, mut query, mut response) = (None, None, None);
        while !scan.take(b'e') {
            match scan.string()? {
                b"t" => transaction = scan.optional_string()?,
                b"y" => kind = scan.optional_string()?,
                b"q" => method = scan.optional_string()?,
                b"v" => version = scan.optional_string()?,
                b"ip" => ip = scan.optional_string()?.and_then(compact::decode),
                b"ro" => read_only = scan.optional_int()? == Some(1),
                b"a" => query = scan.body()?,
                b"r" => response = scan.body()?,
                b"e" => error = scan.error()?,
                _ => scan.skip()?,
            }
        }
        if !scan.rest.is_empty() {
            return Err(Malformed::Trailing);
        }
        let transaction = transaction.ok_or(Malformed::Incomplete)?;
        if transaction.is_empty() || transaction.len() > MAX_TRANSACTION {
            return Err(Malformed::Incomplete);
        }
        let (kind, body) = match kind {
            Some(b"q") => (method.map(Kind::Query), query),
            Some(b"r") => (Some(Kind::Response), response),
            Some(b"e") => (
                error.map(|(code, text)| Kind::Error(code, text)),
                Some(Body::default()),
            ),
            _ => (None, None),
        };
        let (Some(kind), Some(body)) = (kind, body) else {
            return Err(Malformed::Incomplete);
        };
        Ok(Self {
            kind,
            transaction,
            version,
            ip,
            read_only,
            body,
        })
    }
}

/// Reads bencode from the front of `rest`. Never recurses.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<u8, Malformed> {
        self.rest.first().copied().ok_or(Malformed::Truncated)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
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

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
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

    fn skip(&mut self) -> Result<(), Malformed> {
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

    fn optional_string(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek()?.is_ascii_digit() {
            self.string().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    fn optional_int(&mut self) -> Result<Option<i64>, Malformed> {
        if self.peek()? == b'i' {
            self.int().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    fn id(&mut self) -> Result<Option<Id20>, Malformed> {
        let text = self.optional_string()?;
        Ok(text.and_then(|text| text.try_into().ok()).map(Id20))
    }

    fn list(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        self.skip()?;
        let value = &start[..start.len() - self.rest.len()];
        Ok(if value.first() == Some(&b'l') {
            value
        } else {
            &[]
        })
    }

    fn body(&mut self) -> Result<Option<Body<'a>>, Malformed> {
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
                _ => self.skip()?,
            }
        }
        Ok(Some(body))
    }

    fn error(&mut self) -> Result<Option<(i64, &'a [u8])>, Malformed> {
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

/// A query to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Are you there?
    Ping,
    /// Which nodes are close to this?
    FindNode(Id20),
    /// Which peers, and which nodes close to it?
    GetPeers(Id20),
    /// We are a peer of this, on this port or, with `None`, on the one the datagram shows.
    Announce(Id20, Option<u16>, &'a [u8]),
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Our node id.
    pub id: NodeId,
    /// We answer nothing (BEP 43).
    pub read_only: bool,
    /// Families of nodes wanted; written only when both are (BEP 32).
    pub want: Want,
}

/// Writes a query.
pub fn write_query(buf: &mut Vec<u8>, transaction: &[u8], asker: Asker, query: Query<'_>) {
    buf.extend_from_slice(b"d1:ad");
    put(buf, b"id", &asker.id.0);
    let want = |buf: &mut Vec<u8>| {
        if asker.want.v4 && asker.want.v6 {
            buf.extend_from_slice(b"4:wantl2:n42:n6e");
        }
    };
    let method: &[u8] = match query {
        Query::Ping => b"ping",
        Query::FindNode(target) => {
            put(buf, b"target", &target.0);
            want(buf);
            b"find_node"
        }
        Query::GetPeers(info_hash) => {
            put(buf, b"info_hash", &info_hash.0);
            want(buf);
            b"get_peers"
        }
        Query::Announce(info_hash, port, token) => {
            buf.extend_from_slice(b"12:implied_porti");
            buf.push(b'0' + u8::from(port.is_none()));
            buf.push(b'e');
            put(buf, b"info_hash", &info_hash.0);
            let port = i64::from(port.unwrap_or(0));
            Writer::new(buf).key(b"port").int(port);
            put(buf, b"token", token);
            b"announce_peer"
        }
    };
    buf.push(b'e');
    put(buf, b"q", method);
    if asker.read_only {
        buf.extend_from_slice(b"2:roi1e");
    }
    put(buf, b"t", transaction);
    buf.extend_from_slice(VERSION);
    buf.extend_from_slice(b"1:y1:qe");
}

/// An answer being written: fields must be added in the order of the methods below.
pub struct Response<'b> {
    buf: &'b mut Vec<u8>,
}

impl<'b> Response<'b> {
    /// Begins the answer of `id` to somebody at `to`, who learns its address from it (BEP 42).
    pub fn begin(buf: &'b mut Vec<u8>, to: SocketAddr, id: &NodeId) -> Self {
        buf.push(b'd');
        put(buf, b"ip", compact::encode(to).as_bytes());
        buf.extend_from_slice(b"1:rd");
        put(buf, b"id", &id.0);
        Self { buf }
    }

    /// IPv4 nodes, already compact.
    pub fn nodes(&mut self, nodes: &[u8]) {
        put(self.buf, b"nodes", nodes);
    }

    /// IPv6 nodes, already compact.
    pub fn nodes6(&mut self, nodes: &[u8]) {
        put(self.buf, b"nodes6", nodes);
    }

    /// The write token.
    pub fn token(&mut self, token: &[u8]) {
        put(self.buf, b"token", token);
    }

    /// Peers.
    pub fn values(&mut self, values: impl Iterator<Item = SocketAddr>) {
        self.buf.extend_from_slice(b"6:valuesl");
        for addr in values {
            Writer::new(self.buf).bytes(compact::encode(addr).as_bytes());
        }
        self.buf.push(b'e');
    }

    /// Ends it.
    pub fn end(self, transaction: &[u8]) {
        self.buf.push(b'e');
        put(self.buf, b"t", transaction);
        self.buf.extend_from_slice(VERSION);
        self.buf.extend_from_slice(b"1:y1:re");
    }
}

/// Writes a refusal.
pub fn write_error(buf: &mut Vec<u8>, transaction: &[u8], to: SocketAddr, code: u16, text: &str) {
    buf.extend_from_slice(b"d1:e");
    let mut error = Writer::new(buf);
    error.list().int(code.into()).bytes(text.as_bytes()).end();
    put(buf, b"ip", compact::encode(to).as_bytes());
    put(buf, b"t", transaction);
    buf.extend_from_slice(VERSION);
    buf.extend_from_slice(b"1:y1:ee");
}

/// Writes a key and its string.
pub(crate) fn put(buf: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    Writer::new(buf).key(key).bytes(value);
}

/// A saved table: ids and compact nodes of both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved<'a> {
    /// Our id in the IPv4 network.
    pub id: Option<NodeId>,
    /// Our id in the IPv6 network.
    pub id6: Option<NodeId>,
    /// IPv4 nodes.
    pub nodes: Nodes<'a>,
    /// IPv6 nodes.
    pub nodes6: Nodes<'a>,
}

impl<'a> Saved<'a> {
    /// Reads a saved table.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut scan = Scanner { rest: data };
        scan.expect(b'd')?;
        let mut saved = Self::default();
        while !scan.take(b'e') {
            match scan.string()? {
                b"id" => saved.id = scan.id()?,
                b"id6" => saved.id6 = scan.id()?,
                b"nodes" => {
                    saved.nodes = Nodes::new(scan.optional_string()?.unwrap_or_default(), NODE_V4);
                }
                b"nodes6" => {
                    saved.nodes6 = Nodes::new(scan.optional_string()?.unwrap_or_default(), NODE_V6);
                }
                _ => scan.skip()?,
            }
        }
        if scan.rest.is_empty() {
            Ok(saved)
        } else {
            Err(Malformed::Trailing)
        }
    }
}

#[cfg(test)]
mod tests;
