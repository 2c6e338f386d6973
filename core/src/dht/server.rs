//! Answers to queries. Nothing here allocates, except where an announced peer is kept.

use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::krpc::{self, MAX_TRANSACTION, Message, NODE_V4, NODE_V6, Response, Want};
use super::node::{Context, Dht};
use super::scrape;
use super::security;
use super::table::CLOSEST;
use crate::id::{Id20, NodeId};
use crate::io::SocketId;

/// The query is wrong.
pub(super) const PROTOCOL: u16 = 203;
/// The method is not known.
const METHOD_UNKNOWN: u16 = 204;
/// We cannot do it now.
pub(super) const SERVER: u16 = 202;

/// Why a query is refused: code and text.
pub(super) type Refusal = (u16, &'static str);
pub(super) const INVALID: Refusal = (PROTOCOL, "Invalid arguments");

/// Bytes of an answer besides nodes, peers and token: keys, ids, version, transaction.
pub(super) const FRAME: usize = 100 + MAX_TRANSACTION;
/// Bytes around the lists of nodes and peers.
pub(super) const LISTS: usize = 32;
/// Bytes of one peer in an answer, with its length.
const PEER_V4: usize = 8;
const PEER_V6: usize = 21;
/// Bytes of the filters of peers, with their keys.
const FILTERS: usize = 2 * (scrape::LEN + 10);

/// Compact nodes on the stack.
pub(super) struct Packed<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

/// Who asked, and how long the answer may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) socket: SocketId,
    pub(super) from: SocketAddr,
    pub(super) limit: usize,
}

/// What a good query asks for.
#[derive(Clone, Copy)]
enum Ask {
    Ping,
    Nodes(Id20),
    Peers(Id20),
    Announce(Id20),
    Item(Id20),
    Put,
    Samples(Id20),
}

impl Dht {
    /// Answers a query, if the budgets allow.
    pub(super) fn handle_query(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        query_len: usize,
        method: &[u8],
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) {
        if self.config.dht.read_only || !self.replies.is_open(self.now) {
            return;
        }
        let body = &message.body;
        // Malformed, as a datagram that cannot be read: nothing is said.
        let Some(id) = body.id else { return };
        let proven =
            self.is_proven(id, from) || (method == b"get" && self.shows_token(from.ip(), message));
        let Some(limit) = self.reply_limit(proven, from, query_len) else {
            return;
        };
        let ask = match method {
            b"ping" => Ok(Ask::Ping),
            b"find_node" => body.target.map(Ask::Nodes).ok_or(INVALID),
            b"get_peers" => body.info_hash.map(Ask::Peers).ok_or(INVALID),
            b"announce_peer" => body.info_hash.map(Ask::Announce).ok_or(INVALID),
            b"get" => body.target.map(Ask::Item).ok_or(INVALID),
            b"put" => Ok(Ask::Put),
            b"sample_infohashes" => body.target.map(Ask::Samples).ok_or(INVALID),
            _ => Err((METHOD_UNKNOWN, "Method Unknown")),
        };
        let to = Asker {
            socket,
            from,
            limit,
        };
        let written = match ask {
            Ok(Ask::Ping) => self.answer(to, message.transaction, cx, |_| {}),
            Ok(Ask::Nodes(target)) => {
                let (v4, v6) = self.nodes_for(&target, to, body.want);
                let fields = |response: &mut Response<'_>| write_nodes(response, &v4, &v6);
                self.answer(to, message.transaction, cx, fields)
            }
            Ok(Ask::Peers(info_hash)) => self.answer_peers(to, &info_hash, message, cx),
            Ok(Ask::Announce(info_hash)) => match self.store_announce(from, &info_hash, message) {
                Ok(()) => self.answer(to, message.transaction, cx, |_| {}),
                Err(refusal) => refuse(to, message.transaction, refusal, cx),
            },
            Ok(Ask::Item(target)) => self.answer_item(to, &target, message, cx),
            Ok(Ask::Put) => match self.take_put(to, message, cx) {
                Ok(true) => self.answer(to, message.transaction, cx, |_| {}),
                Ok(false) => 0,
                Err(refusal) => refuse(to, message.transaction, refusal, cx),
            },
            Ok(Ask::Samples(target)) => self.answer_samples(to, &target, message, cx),
            Err(refusal) => refuse(to, message.transaction, refusal, cx),
        };
        self.replies.take(written);
        if !proven {
            self.unproven.take(written);
            self.addresses.count_bytes(from.ip(), written, self.now);
        }
        if ask.is_ok() && !message.read_only {
            // It enters the table only if it answers as well.
            self.consider(id, from);
        }
    }

    fn answer_peers(
        &mut self,
        to: Asker,
        info_hash: &Id20,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) -> u32 {
        let (from, now) = (to.from, self.seconds());
        let family = &self.families[usize::from(from.is_ipv6())];
        let token = family.store.has_room(info_hash, from.ip()).then(|| {
            self.tokens
                .make(from.ip(), info_hash, &mut self.secrets, self.now)
        });
        // Who counts peers needs none of them.
        let filters = (message.body.scrape && to.limit >= FRAME + FILTERS)
            .then(|| family.store.filters(info_hash, now))
            .flatten();
        let left = to.limit - filters.map_or(0, |_| FILTERS);
        let to = Asker { limit: left, ..to };
        let (v4, v6) = self.nodes_for(info_hash, to, message.body.want);
        let (each, most) = if from.is_ipv6() {
            (PEER_V6, self.config.dht.reply_peers_v6)
        } else {
            (PEER_V4, self.config.dht.reply_peers_v4)
        };
        let left = to.limit.saturating_sub(FRAME + v4.len + v6.len + LISTS);
        let most = usize::from(most).min(left / each);
        let family = &self.families[usize::from(from.is_ipv6())];
        let mut values = (most > 0 && family.store.has_peers(info_hash, now))
            .then(|| family.store.sample(info_hash, most, now, &mut self.choice));
        let id = family.id;
        transmit(to, cx, |buf| {
            let mut response = Response::begin_with(buf, from, &id, filters.as_ref());
            write_nodes(&mut response, &v4, &v6);
            if let Some(token) = token {
                response.token(&token);
            }
            if let Some(values) = values.take() {
                response.values(values);
            }
            response.end(message.transaction);
        })
    }

    fn store_announce(
        &mut self,
        from: SocketAddr,
        info_hash: &Id20,
        message: &Message<'_>,
    ) -> Result<(), Refusal> {
        let body = &message.body;
        let port = if body.implied_port {
            Some(from.port())
        } else {
            body.port
        };
        let port = port.filter(|port| *port != 0).ok_or(INVALID)?;
        let token = body.token.ok_or(INVALID)?;
        let good = self
            .tokens
            .check(token, from.ip(), info_hash, &mut self.secrets, self.now);
        if !good {
            return Err((PROTOCOL, "Bad token"));
        }
        self.addresses.set_receives(from.ip(), self.now);
        let (peer, now) = (SocketAddr::new(from.ip(), port), self.seconds());
        let family = &mut self.families[usize::from(from.is_ipv6())];
        if !family.store.announce(info_hash, peer, body.seed, now) {
            return Err((SERVER, "Full"));
        }
        self.watch_store();
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        to: Asker,
        transaction: &[u8],
        cx: &mut Context<'_>,
        fields: impl FnOnce(&mut Response<'_>),
    ) -> u32 {
        let id = self.families[usize::from(to.from.is_ipv6())].id;
        transmit(to, cx, |buf| {
            let mut response = Response::begin(buf, to.from, &id);
            fields(&mut response);
            response.end(transaction);
        })
    }

    /// Whether the asker showed that it receives what is sent to its address.
    fn is_proven(&mut self, id: NodeId, from: SocketAddr) -> bool {
        security::is_exempt(from.ip(), self.config.lab)
            || self.is_good(&id, from)
            || self.addresses.receives(from.ip(), self.now)
    }

    /// Bytes an answer may have, if there may be one: one packet, and to somebody unproven a few
    /// times its query within two budgets, so that a forged source gains little.
    fn reply_limit(&mut self, proven: bool, from: SocketAddr, query_len: usize) -> Option<usize> {
        let dht = &self.config.dht;
        let packet = usize::from(dht.max_reply);
        if proven {
            return Some(packet);
        }
        let times = query_len * usize::from(dht.amplification);
        let left = self.addresses.bytes_left(from.ip(), self.now) as usize;
        let open = self.unproven.is_open(self.now) && left >= FRAME;
        open.then(|| packet.min(times).min(left))
    }

    pub(super) fn nodes_for(
        &self,
        target: &Id20,
        to: Asker,
        want: Option<Want>,
    ) -> (Packed<{ NODE_V4 * CLOSEST }>, Packed<{ NODE_V6 * CLOSEST }>) {
        let own = Want {
            v4: to.from.is_ipv4(),
            v6: to.from.is_ipv6(),
        };
        let want = want.filter(|want| want.v4 || want.v6).unwrap_or(own);
        let mut left = to.limit.saturating_sub(FRAME);
        let mut v4 = Packed {
            bytes: [0; NODE_V4 * CLOSEST],
            len: 0,
        };
        let mut v6 = Packed {
            bytes: [0; NODE_V6 * CLOSEST],
            len: 0,
        };
        if want.v4 {
            self.table_v4
                .closest(target, CLOSEST.min(left / NODE_V4), |contact| {
                    v4.len += contact.write(&mut v4.bytes[v4.len..]);
                });
            left -= v4.len.min(left);
        }
        if want.v6 {
            self.table_v6
                .closest(target, CLOSEST.min(left / NODE_V6), |contact| {
                    v6.len += contact.write(&mut v6.bytes[v6.len..]);
                });
        }
        (v4, v6)
    }
}

/// Writes an answer; returns its bytes.
pub(super) fn transmit(to: Asker, cx: &mut Context<'_>, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let mut written = 0;
    let measured = |buf: &mut Vec<u8>| {
        let start = buf.len();
        write(buf);
        written = buf.len() - start;
    };
    cx.out.transmit(to.socket, to.from, measured, Bytes::new());
    written as u32
}

pub(super) fn refuse(
    to: Asker,
    transaction: &[u8],
    (code, text): Refusal,
    cx: &mut Context<'_>,
) -> u32 {
    transmit(to, cx, |buf| {
        krpc::write_error(buf, transaction, to.from, code, text);
    })
}

pub(super) fn write_nodes<const A: usize, const B: usize>(
    response: &mut Response<'_>,
    v4: &Packed<A>,
    v6: &Packed<B>,
) {
    if v4.len > 0 || v6.len == 0 {
        response.nodes(&v4.bytes[..v4.len]);
    }
    if v6.len > 0 {
        response.nodes6(&v6.bytes[..v6.len]);
    }
}
