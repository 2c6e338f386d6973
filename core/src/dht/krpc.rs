//! KRPC messages (BEP 5, 32, 33, 42, 43, 44, 51): read without allocation into borrowed values,
//! written straight into the caller's buffer.

mod scan;
mod write;

pub(crate) use write::put;
pub use write::{Asker, Query, Response, write_error, write_query};

use core::net::SocketAddr;

use scan::Scanner;

use super::item::{PublicKey, Signature};
use super::scrape;
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
    /// Asks for filters of the peers (BEP 33).
    pub scrape: bool,
    /// The filter of peers that have everything (BEP 33).
    pub seeds: Option<&'a [u8; scrape::LEN]>,
    /// The filter of the other peers (BEP 33).
    pub downloaders: Option<&'a [u8; scrape::LEN]>,
    /// The value of an item, bencoded, whatever it is and however long (BEP 44).
    pub value: Option<&'a [u8]>,
    /// The key of a mutable item.
    pub key: Option<&'a PublicKey>,
    /// Its signature.
    pub signature: Option<&'a Signature>,
    /// Its sequence number; in a `get`, the one that is known already.
    pub seq: Option<i64>,
    /// The sequence number that a `put` is to replace.
    pub cas: Option<i64>,
    /// Its salt, however long; empty is none.
    pub salt: &'a [u8],
    /// Some of the info-hashes that are kept (BEP 51).
    pub samples: Option<Samples<'a>>,
    /// How many are kept.
    pub num: Option<u32>,
    /// Seconds after which there may be other samples.
    pub interval: Option<u32>,
}

/// Info-hashes one after the other (BEP 51).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples<'a>(&'a [u8]);

impl<'a> Samples<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(20).then_some(Self(bytes))
    }

    /// Every info-hash.
    pub fn iter(&self) -> impl Iterator<Item = Id20> + 'a {
        let each = self.0.chunks_exact(20);
        each.filter_map(|hash| hash.try_into().ok().map(Id20))
    }
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
