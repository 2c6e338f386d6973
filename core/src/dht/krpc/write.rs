//! Writes messages straight into the caller's buffer, keys in order.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::super::item::{Item, PublicKey, Signature};
use super::super::scrape::Filters;
use super::{VERSION, Want};
use crate::bencode::Writer;
use crate::compact;
use crate::id::{Id20, NodeId};

/// A query to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Are you there?
    Ping,
    /// Which nodes are close to this?
    FindNode(Id20),
    /// Which peers, and which nodes close to it?
    GetPeers(Id20),
    /// The same, and how many peers in all (BEP 33)?
    Scrape(Id20),
    /// We are a peer of this, on this port or, with `None`, on the one the datagram shows.
    Announce(Id20, Option<u16>, &'a [u8]),
    /// Which item is kept under this, and which nodes are close to it (BEP 44)?
    Get {
        /// What it is kept under.
        target: Id20,
        /// Its value is wanted only if its sequence number is higher.
        seq: Option<i64>,
        /// A token that the node gave for this target: it shows that we receive what is sent to
        /// us, so that the answer may be long. Nodes of others pass over it.
        token: Option<&'a [u8]>,
    },
    /// Keep this (BEP 44).
    Put {
        /// The item.
        item: &'a Item,
        /// Only in the place of one with this sequence number.
        cas: Option<i64>,
        /// The node's token for the item's target.
        token: &'a [u8],
    },
    /// Which info-hashes are kept (BEP 51), and which nodes are close to this?
    Sample(Id20),
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
    if let Query::Put { cas: Some(cas), .. } = query {
        Writer::new(buf).key(b"cas").int(cas);
    }
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
        Query::Scrape(info_hash) => {
            put(buf, b"info_hash", &info_hash.0);
            buf.extend_from_slice(b"6:scrapei1e");
            want(buf);
            b"get_peers"
        }
        Query::Sample(target) => {
            put(buf, b"target", &target.0);
            want(buf);
            b"sample_infohashes"
        }
        Query::Get { target, seq, token } => {
            if let Some(seq) = seq {
                Writer::new(buf).key(b"seq").int(seq);
            }
            put(buf, b"target", &target.0);
            if let Some(token) = token {
                put(buf, b"token", token);
            }
            want(buf);
            b"get"
        }
        Query::Put { item, token, .. } => {
            if let Some(signed) = item.signed() {
                put(buf, b"k", &signed.key);
                if !signed.salt.is_empty() {
                    put(buf, b"salt", &signed.salt);
                }
                Writer::new(buf).key(b"seq").int(signed.seq);
                put(buf, b"sig", &signed.signature);
            }
            // BEP 44 has no such key; nodes of the mainline crate read no put without it.
            put(buf, b"target", &item.target().0);
            put(buf, b"token", token);
            Writer::new(buf).key(b"v").raw(item.value());
            b"put"
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
        Self::begin_with(buf, to, id, None)
    }

    /// The same, with the filters of peers that lack something and of those that do not (BEP 33).
    pub fn begin_with(
        buf: &'b mut Vec<u8>,
        to: SocketAddr,
        id: &NodeId,
        filters: Option<&Filters>,
    ) -> Self {
        buf.push(b'd');
        put(buf, b"ip", compact::encode(to).as_bytes());
        buf.extend_from_slice(b"1:rd");
        if let Some(filters) = filters {
            put(buf, b"BFpe", &filters.downloaders.0);
            put(buf, b"BFsd", &filters.seeds.0);
        }
        put(buf, b"id", &id.0);
        Self { buf }
    }

    /// Seconds after which there may be other samples.
    pub fn interval(&mut self, seconds: u32) {
        Writer::new(self.buf).key(b"interval").int(seconds.into());
    }

    /// The key of a mutable item.
    pub fn key(&mut self, key: &PublicKey) {
        put(self.buf, b"k", key);
    }

    /// IPv4 nodes, already compact.
    pub fn nodes(&mut self, nodes: &[u8]) {
        put(self.buf, b"nodes", nodes);
    }

    /// IPv6 nodes, already compact.
    pub fn nodes6(&mut self, nodes: &[u8]) {
        put(self.buf, b"nodes6", nodes);
    }

    /// Info-hashes kept in all, and some of them.
    pub fn samples(&mut self, num: u32, samples: impl ExactSizeIterator<Item = Id20>) {
        let mut writer = Writer::new(self.buf);
        writer.key(b"num").int(num.into());
        writer.key(b"samples").length(samples.len() * 20);
        samples.for_each(|hash| self.buf.extend_from_slice(&hash.0));
    }

    /// The sequence number of a mutable item.
    pub fn seq(&mut self, seq: i64) {
        Writer::new(self.buf).key(b"seq").int(seq);
    }

    /// The signature of a mutable item.
    pub fn signature(&mut self, signature: &Signature) {
        put(self.buf, b"sig", signature);
    }

    /// The write token.
    pub fn token(&mut self, token: &[u8]) {
        put(self.buf, b"token", token);
    }

    /// The value of an item, bencoded.
    pub fn value(&mut self, value: &[u8]) {
        Writer::new(self.buf).key(b"v").raw(value);
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
