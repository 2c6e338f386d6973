//! Answers to queries. Nothing here allocates, except where an announced peer is kept.

use core::net::SocketAddr;

use bytes::Bytes;

use super::krpc::{self, MAX_TRANSACTION, Message, NODE_V4, NODE_V6, Response, Want};
use super::node::{Context, Dht};
use super::security;
use super::table::CLOSEST;
use crate::id::{Id20, NodeId};
use crate::io::SocketId;

/// The query is wrong.
const PROTOCOL: u16 = 203;
/// The method is not known.
const METHOD_UNKNOWN: u16 = 204;
/// We cannot do it now.
const SERVER: u16 = 202;

/// Bytes of an answer besides nodes, peers and token: keys, ids, version, transaction.
const FRAME: usize = 100 + MAX_TRANSACTION;
/// Bytes of one peer in an answer, with its length.
const PEER_V4: usize = 8;
const PEER_V6: usize = 21;

/// Compact nodes on the stack.
struct Packed<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

/// What a good query asks for.
enum Ask {
    Ping,
    Nodes(Id20),
    Peers(Id20),
    Announce(Id20),
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
        let ask = match method {
            b"ping" => Some(Ask::Ping),
            b"find_node" => body.target.map(Ask::Nodes),
            b"get_peers" => body.info_hash.map(Ask::Peers),
            b"announce_peer" => body.info_hash.map(Ask::Announce),
            _ => {
                self.refuse(socket, from, message, METHOD_UNKNOWN, "Method Unknown", cx);
                return;
            }
        };
        let (Some(id), Some(ask)) = (body.id, ask) else {
            self.refuse(socket, from, message, PROTOCOL, "Invalid arguments", cx);
            return;
        };
        let budget = self.reply_budget(id, from, query_len);
        match ask {
            Ask::Ping => self.answer(socket, from, message, cx, |_| {}),
            Ask::Nodes(target) => {
                let (v4, v6) = self.nodes_for(&target, from, body.want, budget);
                self.answer(socket, from, message, cx, |response| {
                    write_nodes(response, &v4, &v6)
                });
            }
            Ask::Peers(info_hash) => {
                self.answer_peers(socket, from, &info_hash, budget, message, cx);
            }
            Ask::Announce(info_hash) => self.handle_announce(socket, from, &info_hash, message, cx),
        }
        if !message.read_only {
            self.on_asker(id, from);
        }
    }

    fn answer_peers(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        info_hash: &Id20,
        budget: usize,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) {
        let now = self.seconds();
        let family = &self.families[usize::from(from.is_ipv6())];
        let token = family.store.has_room(info_hash).then(|| {
            self.tokens
                .make(from.ip(), info_hash, &mut self.secrets, self.now)
        });
        let (v4, v6) = self.nodes_for(info_hash, from, message.body.want, budget);
        let (each, limit) = if from.is_ipv6() {
            (PEER_V6, self.config.dht.reply_peers_v6)
        } else {
            (PEER_V4, self.config.dht.reply_peers_v4)
        };
        let left = budget.saturating_sub(FRAME + v4.len + v6.len + 32);
        let limit = usize::from(limit).min(left / each);
        let family = &self.families[usize::from(from.is_ipv6())];
        let mut values = (limit > 0 && family.store.has_peers(info_hash, now))
            .then(|| family.store.sample(info_hash, limit, now, &mut self.choice));
        let id = family.id;
        let mut written = 0;
        let write = |buf: &mut alloc::vec::Vec<u8>| {
            let start = buf.len();
            let mut response = Response::begin(buf, from, &id);
            write_nodes(&mut response, &v4, &v6);
            if let Some(token) = token {
                response.token(&token);
            }
            if let Some(values) = values.take() {
                response.values(values);
            }
            response.end(message.transaction);
            written = buf.len() - start;
        };
        cx.out.transmit(socket, from, write, Bytes::new());
        self.replies.take(written as u32);
    }

    fn handle_announce(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        info_hash: &Id20,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) {
        let body = &message.body;
        let port = if body.implied_port {
            Some(from.port())
        } else {
            body.port
        };
        let (Some(port), Some(token)) = (port.filter(|port| *port != 0), body.token) else {
            self.refuse(socket, from, message, PROTOCOL, "Invalid arguments", cx);
            return;
        };
        if !self
            .tokens
            .check(token, from.ip(), info_hash, &mut self.secrets, self.now)
        {
            self.refuse(socket, from, message, PROTOCOL, "Bad token", cx);
            return;
        }
        self.addresses.set_receives(from.ip(), self.now);
        let (peer, now) = (SocketAddr::new(from.ip(), port), self.seconds());
        let family = &mut self.families[usize::from(from.is_ipv6())];
        if family.store.announce(info_hash, peer, now) {
            self.watch_store();
            self.answer(socket, from, message, cx, |_| {});
        } else {
            self.refuse(socket, from, message, SERVER, "Full", cx);
        }
    }

    fn answer(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        message: &Message<'_>,
        cx: &mut Context<'_>,
        fields: impl FnOnce(&mut Response<'_>),
    ) {
        let id = self.families[usize::from(from.is_ipv6())].id;
        let mut written = 0;
        let write = |buf: &mut alloc::vec::Vec<u8>| {
            let start = buf.len();
            let mut response = Response::begin(buf, from, &id);
            fields(&mut response);
            response.end(message.transaction);
            written = buf.len() - start;
        };
        cx.out.transmit(socket, from, write, Bytes::new());
        self.replies.take(written as u32);
    }

    fn refuse(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        message: &Message<'_>,
        code: u16,
        text: &str,
        cx: &mut Context<'_>,
    ) {
        let mut written = 0;
        let write = |buf: &mut alloc::vec::Vec<u8>| {
            let start = buf.len();
            krpc::write_error(buf, message.transaction, from, code, text);
            written = buf.len() - start;
        };
        cx.out.transmit(socket, from, write, Bytes::new());
        self.replies.take(written as u32);
    }

    /// Bytes an answer may have: a few times the query, until the asker showed that it receives
    /// what is sent to that address, so that a forged source gains little.
    fn reply_budget(&mut self, id: NodeId, from: SocketAddr, query_len: usize) -> usize {
        let trusted = security::is_exempt(from.ip(), self.config.lab)
            || self.is_good(&id, from)
            || self.addresses.receives(from.ip(), self.now);
        if trusted {
            usize::MAX
        } else {
            query_len * usize::from(self.config.dht.amplification)
        }
    }

    fn nodes_for(
        &self,
        target: &Id20,
        from: SocketAddr,
        want: Option<Want>,
        budget: usize,
    ) -> (Packed<{ NODE_V4 * CLOSEST }>, Packed<{ NODE_V6 * CLOSEST }>) {
        let own = Want {
            v4: from.is_ipv4(),
            v6: from.is_ipv6(),
        };
        let want = want.filter(|want| want.v4 || want.v6).unwrap_or(own);
        let mut left = budget.saturating_sub(FRAME);
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

    /// Somebody who asks may be worth knowing; it enters the table only if it answers as well.
    fn on_asker(&mut self, id: NodeId, from: SocketAddr) {
        let room = match from {
            SocketAddr::V4(_) => self.table_v4.has_room(&id, from),
            SocketAddr::V6(_) => self.table_v6.has_room(&id, from),
        };
        let checked = || {
            let waits = self.waiting.iter().any(|(addr, _)| *addr == from);
            waits || self.pending.values().any(|pending| pending.to == from)
        };
        if room && !self.routers.contains(&from) && !checked() {
            self.wait_for(from, Some(id));
        }
    }
}

fn write_nodes<const A: usize, const B: usize>(
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
