//! Requests under way: names to be resolved, datagrams and their retry law (BEP 15), goodbyes.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::fetches::job_error;
use super::machine::{Blame, Outcome, Timer, Trackers};
use super::udp::{self, Response};
use super::{Announce, AnnounceEvent, Event, Job, JobToken, Scheme, TrackerUrl, http};
use crate::compact;
use crate::id::Id20;
use crate::io::{JobResult, Outbox, SocketId, TorrentId};
use crate::ports::Ports;
use crate::slab::Key;
use crate::swarm::Want;
use crate::time::Instant;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Announce(AnnounceEvent),
    Scrape,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) torrent: TorrentId,
    pub(super) tracker: u16,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// It was not begun yet.
    Fresh,
    Resolving,
    Udp(Box<Exchange>),
    Http(Box<Fetch>),
}

/// A conversation with a UDP tracker.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: SocketId,
    /// Where the tracker may be; asked in turn.
    addrs: Vec<SocketAddr>,
    to: SocketAddr,
    transaction: u32,
    /// The request itself was sent, not the one for a connection.
    asks: bool,
    /// Times that nobody answered: the `n` of BEP 15.
    retries: u8,
    due: Instant,
}

/// A URL that is being fetched, perhaps not the tracker's own.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) url: TrackerUrl,
    pub(super) redirects: u8,
}

impl Request {
    pub(super) fn new(torrent: TorrentId, tracker: u16, kind: Kind) -> Self {
        Self {
            torrent,
            tracker,
            kind,
            stage: Stage::Fresh,
        }
    }
}

pub(super) fn token(key: Key) -> JobToken {
    JobToken(u64::from(key.generation) << 32 | u64::from(key.index))
}

fn key_of(token: JobToken) -> Key {
    Key {
        index: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    }
}

impl Trackers {
    /// Whether a datagram is of a transaction under way with its sender, so that it is ours and
    /// nobody else's.
    #[must_use]
    pub fn is_answer(&self, from: SocketAddr, payload: &[u8]) -> bool {
        self.transaction_of(from, payload).is_some()
    }

    fn transaction_of(&self, from: SocketAddr, payload: &[u8]) -> Option<Key> {
        let key = *self.transactions.get(&udp::transaction(payload)?)?;
        let Stage::Udp(exchange) = &self.requests.at(key)?.stage else {
            return None;
        };
        (exchange.to == from).then_some(key)
    }

    /// Begins a request that was just made.
    pub(super) fn start_request(&mut self, key: Key, out: &mut Outbox, events: &mut Vec<Event>) {
        let Some(request) = self.requests.at(key) else {
            return;
        };
        let (torrent, tracker) = (request.torrent, request.tracker);
        let Some(url) = self.url(torrent, tracker).cloned() else {
            return;
        };
        if url.scheme() != Scheme::Udp {
            self.get(key, url, events);
            return;
        }
        if let Some(ip) = url.ip() {
            self.found(key, &[ip], out, events);
            return;
        }
        if let Some(request) = self.requests.at_mut(key) {
            request.stage = Stage::Resolving;
        }
        let (host, port) = (url.host().to_string(), url.port());
        events.push(Event::Job(token(key), Job::Resolve { host, port }));
    }

    /// The addresses of a UDP tracker are known.
    fn found(&mut self, key: Key, ips: &[IpAddr], out: &mut Outbox, events: &mut Vec<Event>) {
        let Some(request) = self.requests.at(key) else {
            return;
        };
        let Some(url) = self.url(request.torrent, request.tracker) else {
            return;
        };
        let mut refusal = None;
        let mut addrs = Vec::new();
        for ip in ips.iter().map(IpAddr::to_canonical) {
            match url.may_contact(None, ip) {
                Ok(()) => addrs.push(SocketAddr::new(ip, url.port())),
                Err(error) => refusal = Some(error.to_string()),
            }
        }
        addrs.retain(|addr| self.socket_for(*addr).is_some());
        addrs.truncate(usize::from(self.config.limits.max_resolved));
        let first = addrs.first().copied();
        let Some((to, socket)) = first.and_then(|to| Some((to, self.socket_for(to)?))) else {
            let message = refusal.unwrap_or_else(|| "it has no address we can reach".to_string());
            self.fail(key, Blame::Silent, message, events);
            return;
        };
        let now = self.now;
        if let Some(request) = self.requests.at_mut(key) {
            request.stage = Stage::Udp(Box::new(Exchange {
                socket,
                addrs,
                to,
                transaction: 0,
                asks: false,
                retries: 0,
                due: now,
            }));
        }
        self.send(key, true, out);
    }

    fn socket_for(&self, to: SocketAddr) -> Option<SocketId> {
        let mut sockets = self.sockets.iter();
        let found = sockets.find(|(_, local)| local.is_ipv4() == to.is_ipv4());
        found.map(|(socket, _)| *socket)
    }

    /// Sends what comes next of a UDP request: the request for a connection where there is none.
    /// `anew`: under a new transaction, as it is no repetition.
    fn send(&mut self, key: Key, anew: bool, out: &mut Outbox) {
        let (now, config) = (self.now, Arc::clone(&self.config));
        let Some(request) = self.requests.at(key) else {
            return;
        };
        let (torrent, tracker, kind) = (request.torrent, request.tracker, request.kind);
        let Stage::Udp(exchange) = &request.stage else {
            return;
        };
        let (socket, to, retries) = (exchange.socket, exchange.to, exchange.retries);
        let connection = self.connection(to);
        let anew = anew || connection.is_some() != exchange.asks;
        let old = exchange.transaction;
        let transaction = if anew {
            self.transactions.retain(|_, other| *other != key);
            self.new_transaction(key)
        } else {
            old
        };
        let pause = config
            .tracker
            .udp_timeout
            .saturating_mul(1 << retries.min(16));
        let due = now + pause;
        if let Some(request) = self.requests.at_mut(key)
            && let Stage::Udp(exchange) = &mut request.stage
        {
            exchange.transaction = transaction;
            exchange.asks = connection.is_some();
            exchange.due = due;
        }
        self.deadlines.arm(due, Timer::Request(key));
        let Some(connection) = connection else {
            let write = |buf: &mut Vec<u8>| udp::encode_connect(transaction, buf);
            out.transmit(socket, to, write, Bytes::new());
            return;
        };
        self.ask(
            torrent,
            tracker,
            kind,
            (connection, transaction),
            (socket, to),
            out,
        );
        if let Kind::Announce(event) = kind {
            self.on_sent(torrent, tracker, event);
        }
    }

    /// Sends the request itself.
    fn ask(
        &self,
        torrent: TorrentId,
        tracker: u16,
        kind: Kind,
        (connection, transaction): (u64, u32),
        (socket, to): (SocketId, SocketAddr),
        out: &mut Outbox,
    ) {
        let Some(url) = self.url(torrent, tracker) else {
            return;
        };
        let info_hash = self.info_hash(torrent);
        match kind {
            Kind::Scrape => {
                let write = |buf: &mut Vec<u8>| {
                    udp::encode_scrape(connection, transaction, info_hash, buf);
                };
                out.transmit(socket, to, write, Bytes::new());
            }
            Kind::Announce(event) => {
                let Some(announce) = self.announce(torrent, tracker, event, Some(to.ip())) else {
                    return;
                };
                let write = |buf: &mut Vec<u8>| {
                    udp::encode_announce(connection, transaction, &announce, url.path(), buf);
                };
                out.transmit(socket, to, write, Bytes::new());
            }
        }
    }

    pub(super) fn info_hash(&self, torrent: TorrentId) -> Id20 {
        let entry = self.torrents.get(&torrent);
        entry.map_or(Id20([0; 20]), |entry| entry.info_hash)
    }

    /// The port that peers who hear of us through a tracker at `to` can reach us at.
    fn port_towards(&self, to: Option<IpAddr>) -> u16 {
        let locals = || self.sockets.iter().map(|(_, local)| *local);
        let ports = Ports::of_sockets(locals());
        let port = to.and_then(|ip| ports.of(ip));
        // Where the host connects to is its affair: a tracker of either family may hear it.
        port.or_else(|| Some(locals().next()?.port())).unwrap_or(0)
    }

    pub(super) fn announce(
        &self,
        torrent: TorrentId,
        tracker: u16,
        event: AnnounceEvent,
        to: Option<IpAddr>,
    ) -> Option<Announce<'_>> {
        let entry = self.torrents.get(&torrent)?;
        let wants = event != AnnounceEvent::Stopped && entry.want != Want::Enough;
        Some(Announce {
            info_hash: entry.info_hash,
            peer_id: self.peer_id,
            port: self.port_towards(to),
            figures: entry.figures,
            event,
            key: entry.key,
            encryption: self.config.wire.encryption,
            num_want: if wants {
                self.config.tracker.num_want
            } else {
                0
            },
            tracker_id: &entry.tiers.trackers.get(usize::from(tracker))?.tracker_id,
        })
    }

    fn new_transaction(&mut self, key: Key) -> u32 {
        loop {
            let transaction = u32::from_be_bytes(self.secrets.bytes());
            // There are far fewer requests than numbers.
            if let alloc::collections::btree_map::Entry::Vacant(free) =
                self.transactions.entry(transaction)
            {
                free.insert(key);
                return transaction;
            }
        }
    }

    fn connection(&self, to: SocketAddr) -> Option<u64> {
        let (id, until) = self.connections.get(&to)?;
        (*until > self.now).then_some(*id)
    }

    fn connected(&mut self, to: SocketAddr, id: u64) {
        let now = self.now;
        let most = usize::from(self.config.tracker.max_connections);
        if self.connections.len() >= most && !self.connections.contains_key(&to) {
            self.connections.retain(|_, (_, until)| *until > now);
            if self.connections.len() >= most {
                let oldest = self
                    .connections
                    .iter()
                    .map(|(addr, (_, until))| (*until, *addr));
                if let Some((_, oldest)) = oldest.min() {
                    self.connections.remove(&oldest);
                }
            }
        }
        let until = now + self.config.tracker.connection_lifetime;
        self.connections.insert(to, (id, until));
    }

    pub(super) fn on_datagram(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let Some(key) = self.transaction_of(from, payload) else {
            return;
        };
        let Some(request) = self.requests.at_mut(key) else {
            return;
        };
        let kind = request.kind;
        let Stage::Udp(exchange) = &mut request.stage else {
            return;
        };
        let Some(response) = udp::decode(payload, from.is_ipv6()) else {
            return;
        };
        if exchange.socket != socket {
            return;
        }
        match (exchange.asks, kind, response) {
            (false, _, Response::Connected(id)) => {
                exchange.retries = 0;
                self.connected(from, id);
                self.send(key, true, out);
            }
            (_, _, Response::Error(text)) => {
                // The connection may be what it does not know.
                self.connections.remove(&from);
                let message = http::text(text, &self.config.tracker);
                self.fail(key, Blame::Refused, message, events);
            }
            (
                true,
                Kind::Announce(event),
                Response::Announced {
                    interval,
                    leechers,
                    seeders,
                    peers,
                },
            ) => {
                let each = match from.is_ipv6() {
                    true => compact::V6_LEN,
                    false => compact::V4_LEN,
                };
                let most = usize::from(self.config.tracker.max_answer_peers);
                let peers = peers.chunks_exact(each).filter_map(compact::decode);
                let outcome = Outcome {
                    interval: Some(interval),
                    seeds: Some(seeders),
                    leechers: Some(leechers),
                    peers: peers.take(most).collect(),
                    ..Outcome::default()
                };
                self.done(key, event, from, outcome, out, events);
            }
            (
                true,
                Kind::Scrape,
                Response::Scraped {
                    seeders, leechers, ..
                },
            ) => {
                let Some(request) = self.end_request(key) else {
                    return;
                };
                let (seeds, leechers) = (Some(seeders), Some(leechers));
                self.scraped(request.torrent, request.tracker, seeds, leechers, events);
            }
            // The right transaction, but not what was asked: as if it had not come.
            _ => {}
        }
    }

    /// An announce was taken.
    pub(super) fn done(
        &mut self,
        key: Key,
        event: AnnounceEvent,
        from: SocketAddr,
        outcome: Outcome,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let Some(request) = self.end_request(key) else {
            return;
        };
        let (torrent, index) = (request.torrent, request.tracker);
        if let Some(entry) = self.torrents.get_mut(&torrent)
            && let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index))
        {
            tracker.addr = Some(from);
        }
        if !self.is_stopping(torrent) {
            self.succeeded(torrent, index, event, from.ip(), outcome, events);
            return;
        }
        self.go_on_stopping(torrent, index, event, out, events);
    }

    pub(super) fn on_request_timer(&mut self, key: Key, out: &mut Outbox, events: &mut Vec<Event>) {
        let (now, most) = (self.now, self.config.tracker.udp_retries);
        let Some(request) = self.requests.at_mut(key) else {
            return;
        };
        let most = match request.kind {
            Kind::Announce(AnnounceEvent::Stopped) | Kind::Scrape => 0,
            Kind::Announce(_) => most,
        };
        let Stage::Udp(exchange) = &mut request.stage else {
            return;
        };
        if exchange.due > now {
            let due = exchange.due;
            self.deadlines.arm(due, Timer::Request(key));
            return;
        }
        if exchange.retries >= most {
            self.fail(key, Blame::Silent, "no answer".to_string(), events);
            return;
        }
        exchange.retries += 1;
        // Perhaps it answers at another of its addresses.
        let next = exchange.addrs.iter().position(|addr| *addr == exchange.to);
        let next = next.map_or(0, |at| (at + 1) % exchange.addrs.len().max(1));
        let to = exchange.addrs.get(next).copied().unwrap_or(exchange.to);
        let moved = to != exchange.to;
        let Some(socket) = self.socket_for(to) else {
            self.fail(key, Blame::Silent, "there is no socket".to_string(), events);
            return;
        };
        if let Some(request) = self.requests.at_mut(key)
            && let Stage::Udp(exchange) = &mut request.stage
        {
            exchange.to = to;
            exchange.socket = socket;
        }
        self.send(key, moved, out);
    }

    pub(super) fn on_send_failed(&mut self, to: SocketAddr, events: &mut Vec<Event>) {
        let concerned =
            |request: &Request| matches!(&request.stage, Stage::Udp(exchange) if exchange.to == to);
        let keys = self
            .requests
            .iter()
            .filter(|(_, request)| concerned(request));
        let keys: Vec<Key> = keys.map(|(key, _)| key).collect();
        for key in keys {
            self.fail(
                key,
                Blame::Silent,
                "it cannot be reached".to_string(),
                events,
            );
        }
    }

    pub(super) fn on_job_done(
        &mut self,
        job: JobToken,
        result: JobResult,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let key = key_of(job);
        let Some(request) = self.requests.at(key) else {
            return;
        };
        match (&request.stage, result) {
            (Stage::Resolving, JobResult::Resolved(ips)) => self.found(key, &ips, out, events),
            (Stage::Resolving, _) => {
                self.fail(
                    key,
                    Blame::Silent,
                    "its name is not known".to_string(),
                    events,
                );
            }
            (Stage::Http(_), JobResult::Http(answer)) => self.on_answer(key, *answer, out, events),
            (Stage::Http(_), JobResult::Failed(error)) => {
                self.fail(key, Blame::Silent, job_error(error).to_string(), events);
            }
            _ => {}
        }
    }

    /// Tells a tracker that we leave, and before that what it has to know. Unless it is `awaited`,
    /// only where that takes one step.
    pub(super) fn say_goodbye(
        &mut self,
        torrent: TorrentId,
        index: u16,
        awaited: bool,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let full = self.requests.len() >= usize::from(self.config.tracker.max_requests);
        let Some(entry) = self.torrents.get(&torrent) else {
            return;
        };
        let tracker = &entry.tiers.trackers[usize::from(index)];
        let udp = tracker.url.scheme() == Scheme::Udp;
        let addr = tracker.addr;
        let event = match awaited && tracker.owes_completed {
            true => AnnounceEvent::Completed,
            false => AnnounceEvent::Stopped,
        };
        let kind = Kind::Announce(event);
        if !awaited || full {
            let connection = addr.and_then(|to| self.connection(to));
            if let (true, Some(to), Some(connection)) = (udp, addr, connection)
                && let Some(socket) = self.socket_for(to)
            {
                let transaction = u32::from_be_bytes(self.secrets.bytes());
                let ids = (connection, transaction);
                self.ask(torrent, index, kind, ids, (socket, to), out);
            }
            return;
        }
        let key = self.requests.insert(Request::new(torrent, index, kind));
        match addr {
            // Names were looked up before.
            Some(to) if udp => self.found(key, &[to.ip()], out, events),
            _ => self.start_request(key, out, events),
        }
    }

    pub(super) fn end_request(&mut self, key: Key) -> Option<Request> {
        let request = self.requests.remove(key)?;
        if let Stage::Udp(exchange) = &request.stage {
            self.transactions.remove(&exchange.transaction);
        }
        self.deadlines.disarm(Timer::Request(key));
        Some(request)
    }

    pub(super) fn fail(
        &mut self,
        key: Key,
        blame: Blame,
        message: String,
        events: &mut Vec<Event>,
    ) {
        let Some(request) = self.end_request(key) else {
            return;
        };
        let (torrent, index) = (request.torrent, request.tracker);
        self.failed(torrent, index, request.kind, blame, message, events);
        self.finish_if_idle(torrent, events);
    }

    /// A goodbye was heard, or what had to be said before it.
    fn go_on_stopping(
        &mut self,
        torrent: TorrentId,
        index: u16,
        event: AnnounceEvent,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        if let Some(entry) = self.torrents.get_mut(&torrent)
            && let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index))
            && event == AnnounceEvent::Completed
        {
            tracker.owes_completed = false;
            self.say_goodbye(torrent, index, true, out, events);
        }
        self.finish_if_idle(torrent, events);
    }

    /// Nothing that is under way for a torrent matters any more, but announces of `keep`: the
    /// trackers that those are for are returned.
    pub(super) fn drop_requests(
        &mut self,
        torrent: TorrentId,
        keep: Option<AnnounceEvent>,
        events: &mut Vec<Event>,
    ) -> Vec<u16> {
        let of_it = self.requests.iter();
        let of_it = of_it.filter(|(_, request)| request.torrent == torrent);
        let is_kept = |kind| keep.is_some_and(|event| kind == Kind::Announce(event));
        let (kept, dropped): (Vec<_>, Vec<_>) = of_it
            .map(|(key, request)| (key, request.tracker, request.kind))
            .partition(|(.., kind)| is_kept(*kind));
        for (key, ..) in dropped {
            let request = self.end_request(key);
            if request.is_some_and(|request| !matches!(request.stage, Stage::Udp(_))) {
                events.push(Event::Cancel(token(key)));
            }
        }
        kept.into_iter().map(|(_, tracker, _)| tracker).collect()
    }
}
