//! Peer exchange (BEP 11): whom a torrent's peers are told of, and what is made of what they tell.
//!
//! Peers are told of everyone once, soon after their handshake, and then of changes, all of them
//! in one round a minute. Only those are named who finished a handshake with us: what others say
//! goes no further until it has proved right.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::peer::Peer;
use super::{Event, Swarm};
use crate::bencode::Scratch;
use crate::dht::security::{Scope, scope};
use crate::event::{self, CloseReason, PeerSource, SourceStatus, Transport};
use crate::io::ConnId;
use crate::pex::{self, Diff, Flags, Log, Message as Pex, Told};
use crate::time::Instant;
use crate::wire::{ExtensionHandshake, Message};

/// Peer exchange of one torrent.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    log: Log,
    /// When all peers are told of changes.
    round_at: Option<Instant>,
    /// Endpoints that connected peers tell of.
    heard: BTreeMap<SocketAddr, Heard>,
    /// Those of them that are not ourselves.
    found: u32,
    /// What is told of the source has changed.
    changed: bool,
    scratch: Scratch,
}

/// What peers say of an endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// How many tell of it.
    voices: u16,
    /// The first of them says that it has everything.
    seed: bool,
    /// The first of them says that it prefers encryption.
    encrypts: bool,
    /// It is not ourselves.
    counted: bool,
}

/// Peer exchange with one peer that speaks it.
#[derive(Debug)]
pub(super) struct PeerExchange {
    /// It wants to be told; a later handshake may say otherwise.
    on: bool,
    /// The change up to which it was told; `None` before the first message.
    up_to: Option<u64>,
    /// When it was told something last.
    told_at: Instant,
    told: Told,
    /// Where it says that we are: what it tells of us is nothing new.
    our_ip: Option<IpAddr>,
}

impl Swarm {
    /// Whether peers are exchanged at all.
    pub(super) fn exchanges_peers(&self) -> bool {
        self.config.pex.enabled && !self.is_private()
    }

    /// What an extension handshake says of peer exchange: nothing, unless we take part or did
    /// until the torrent turned out to be private (BEP 27).
    pub(super) fn pex_number(&self, offered: bool) -> Option<u8> {
        match (self.exchanges_peers(), offered) {
            (true, _) => Some(crate::wire::extension::UT_PEX),
            (false, true) => Some(0),
            (false, false) => None,
        }
    }

    /// Says that peers are not exchanged.
    pub(super) fn tell_pex_off(&self, events: &mut Vec<Event>) {
        self.tell_pex_status(SourceStatus::Disabled, events);
    }

    /// The torrent turned out to be private: nobody is told of anyone, nor believed.
    pub(super) fn stop_pex(&mut self, events: &mut Vec<Event>) {
        *self.exchange = Default::default();
        for peer in self.peers.values_mut() {
            peer.exchange = None;
        }
        if self.config.pex.enabled {
            self.tell_pex_off(events);
        }
    }

    /// Others can be told of this peer: it finished its handshake, and where it listens is known.
    pub(super) fn list_peer(&mut self, conn: ConnId) {
        if self.exchanges_peers()
            && let Some(listen) = self.peers.get(&conn).and_then(|peer| peer.listen)
        {
            self.exchange.log.join(listen, conn);
        }
    }

    /// A peer has left. Nobody is told of it any longer if it was closed for what it did.
    pub(super) fn unlist_peer(&mut self, conn: ConnId, peer: &Peer, reason: CloseReason) {
        let Exchange { log, .. } = &mut *self.exchange;
        if let Some(listen) = peer.listen {
            let guilty = matches!(
                reason,
                CloseReason::Banned
                    | CloseReason::Protocol(_)
                    | CloseReason::BadHandshake
                    | CloseReason::SelfConnection
            );
            let hold = !guilty && !self.known.is_banned(listen);
            log.leave(&self.config.pex, listen, conn, flags_of(peer), hold);
        }
        if let Some(exchange) = &peer.exchange {
            for addr in exchange.told.endpoints() {
                self.exchange.take_back(addr);
            }
        }
    }

    /// What an extension handshake says.
    pub(super) fn on_pex_offer(&mut self, conn: ConnId, handshake: &ExtensionHandshake) {
        if !self.exchanges_peers() {
            return;
        }
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if peer.exchange.is_none() && handshake.ut_pex.is_none_or(|number| number == 0) {
            return;
        }
        let exchange = peer.exchange.get_or_insert_with(|| {
            Box::new(PeerExchange {
                on: false,
                up_to: None,
                told_at: self.now,
                told: Told::default(),
                our_ip: None,
            })
        });
        exchange.on = handshake.ut_pex.map_or(exchange.on, |number| number != 0);
        exchange.our_ip = handshake.your_ip.or(exchange.our_ip);
        self.exchange.changed |= self.exchange.round_at.is_none();
    }

    /// What a peer tells of others.
    pub(super) fn on_pex(&mut self, conn: ConnId, payload: &Bytes, events: &mut Vec<Event>) {
        let config = &self.config.pex;
        let Some(peer) = self.peers.get_mut(&conn).filter(|_| config.enabled) else {
            return;
        };
        // In a private torrent nobody has an exchange; a message that comes before the handshake
        // that announces it, or from one who announces none, is nobody's.
        let Some(exchange) = &mut peer.exchange else {
            return;
        };
        if !exchange.told.may_speak(config, self.now) {
            self.close(conn, CloseReason::Limit("pex.max_messages"), events);
            return;
        }
        let all = &mut *self.exchange;
        let Ok(message) = Pex::decode(payload, &mut all.scratch) else {
            let reason = CloseReason::Protocol("malformed peer exchange");
            self.close(conn, reason, events);
            return;
        };
        let most = usize::from(config.max_contacts);
        let taken_back = message.all_dropped().take(most);
        for addr in taken_back.filter(|addr| exchange.told.remove(*addr)) {
            all.take_back(addr);
        }
        let from = peer.addr.ip();
        let ourselves = exchange
            .our_ip
            .and_then(|ip| Some(SocketAddr::new(ip, self.ports.of(ip)?)));
        let mut news = Vec::new();
        for (addr, flags) in message.all_added().take(most) {
            if Some(addr) == ourselves
                || Some(addr) == peer.listen
                || self.known.is_banned(addr)
                || !exchange.told.add(config, self.config.lab, from, addr)
            {
                continue;
            }
            let heard = all.heard.entry(addr).or_default();
            if heard.voices == 0 {
                heard.seed = flags.has(Flags::SEED);
                heard.encrypts = flags.has(Flags::ENCRYPTION);
                news.push(addr);
            }
            heard.voices = heard.voices.saturating_add(1);
        }
        if !news.is_empty() {
            events.push(Event::PeersHeard(PeerSource::Pex, news));
        }
    }

    /// Endpoints that peers told of are not ourselves.
    pub(super) fn on_pex_found(&mut self, addrs: &[SocketAddr]) {
        for addr in addrs {
            let Some(heard) = self.exchange.heard.get_mut(addr) else {
                continue;
            };
            if !core::mem::replace(&mut heard.counted, true) {
                self.exchange.found += 1;
                self.exchange.changed = true;
            }
        }
    }

    /// Whether somebody said that the peer at `addr` has everything.
    pub(super) fn is_said_to_seed(&self, addr: SocketAddr) -> bool {
        self.exchange.heard.get(&addr).is_some_and(|it| it.seed)
    }

    /// Whether somebody said that the peer at `addr` prefers encryption.
    pub(super) fn is_said_to_encrypt(&self, addr: SocketAddr) -> bool {
        self.exchange.heard.get(&addr).is_some_and(|it| it.encrypts)
    }

    /// Tells those who are to be told; once a second, while there are peers.
    pub(super) fn tell_of_peers(&mut self, events: &mut Vec<Event>) {
        if !self.exchanges_peers() {
            return;
        }
        let conns: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.exchange.as_ref().is_some_and(|pex| pex.on))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in &conns {
            self.tell_of_everyone(*conn, events);
        }
        if self.exchange.round_at.is_some_and(|at| at <= self.now) {
            self.exchange.round_at = Some(self.now + self.config.pex.interval);
            self.exchange.changed = true;
            self.tell_of_changes(&conns, events);
        }
    }

    /// The first message of a peer, once there is somebody to tell of.
    fn tell_of_everyone(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let first = peer.exchange.as_ref().is_some_and(|it| it.up_to.is_none());
        if !first || self.now < peer.joined_at + self.config.pex.first_delay {
            return;
        }
        let all = self.exchange.log.everyone();
        let mut added: Vec<(SocketAddr, Flags)> = all
            .filter(|(addr, ..)| may_be_told(peer, *addr) && !self.known.is_banned(*addr))
            .map(|(addr, conn, flags)| (addr, self.flags(conn, flags)))
            .collect();
        if added.is_empty() {
            return;
        }
        let most = usize::from(self.config.pex.max_first);
        if added.len() > most {
            // Others get other ones.
            let from = self.choice.index(added.len());
            added.rotate_left(from);
            added.truncate(most);
        }
        let up_to = self.exchange.log.told_everyone();
        let message = Message::Pex(encoded(&added, &[]));
        self.told(conn, up_to, Some(message), events);
    }

    /// A round: everyone hears what changed, most of them in the same words.
    fn tell_of_changes(&mut self, conns: &[ConnId], events: &mut Vec<Event>) {
        let known = &self.known;
        let log = &mut self.exchange.log;
        log.begin_round(&self.config.pex, |addr| known.is_banned(addr));
        let before = log.before_round();
        let (news, end) = log.news(&self.config.pex, before);
        let mut shared: BTreeMap<Scope, Option<Bytes>> = BTreeMap::new();
        for conn in conns {
            let Some(peer) = self.peers.get(conn) else {
                continue;
            };
            let Some(exchange) = &peer.exchange else {
                continue;
            };
            // Who was told of everyone less than a minute ago catches up in the next round.
            let soon = exchange.told_at + self.config.pex.interval > self.now;
            let Some(up_to) = exchange.up_to.filter(|_| !soon) else {
                continue;
            };
            let concerns = |addr: &SocketAddr| *addr == peer.addr || Some(*addr) == peer.listen;
            let (body, up_to) = if up_to != before {
                let (diff, end) = self.exchange.log.news(&self.config.pex, up_to);
                (self.diff_for(peer, &diff), end)
            } else if news.added.iter().chain(&news.dropped).any(concerns) {
                (self.diff_for(peer, &news), end)
            } else {
                let variant = shared.entry(scope(peer.addr.ip()));
                let body = variant.or_insert_with(|| self.diff_for(peer, &news));
                (body.clone(), end)
            };
            self.told(*conn, up_to, body.map(Message::Pex), events);
        }
    }

    /// A diff as a peer may hear it; `None` when nothing is left of it.
    fn diff_for(&self, peer: &Peer, diff: &Diff) -> Option<Bytes> {
        let told = |addr: &&SocketAddr| may_be_told(peer, **addr);
        let added: Vec<(SocketAddr, Flags)> = diff
            .added
            .iter()
            .filter(told)
            // Who left meanwhile is named as dropped in the next round.
            .map(|addr| {
                let (conn, flags) = self.exchange.log.find(*addr).unwrap_or_default();
                (*addr, self.flags(conn, flags))
            })
            .collect();
        let dropped: Vec<SocketAddr> = diff.dropped.iter().filter(told).copied().collect();
        let some = !added.is_empty() || !dropped.is_empty();
        some.then(|| encoded(&added, &dropped))
    }

    fn told(
        &mut self,
        conn: ConnId,
        up_to: u64,
        message: Option<Message>,
        events: &mut Vec<Event>,
    ) {
        let peer = self.peers.get_mut(&conn);
        if let Some(exchange) = peer.and_then(|peer| peer.exchange.as_mut()) {
            exchange.up_to = Some(up_to);
            if let Some(message) = message {
                exchange.told_at = self.now;
                events.push(Event::Send(conn, message));
            }
        }
        if self.exchange.round_at.is_none() {
            // So that those who are told first need not miss the first round.
            self.exchange.round_at = Some(self.now + self.config.pex.interval);
            self.exchange.changed = true;
        }
    }

    fn flags(&self, conn: Option<ConnId>, at_the_end: Flags) -> Flags {
        let peer = conn.and_then(|conn| self.peers.get(&conn));
        peer.map_or(at_the_end, flags_of)
    }

    /// Nothing is remembered of what peers told.
    #[cfg(test)]
    pub(super) fn exchange_is_empty(&self) -> bool {
        self.exchange.heard.is_empty() && self.exchange.found == 0
    }

    /// Says how the source stands, if that changed.
    pub(super) fn tell_pex_source(&mut self, events: &mut Vec<Event>) {
        if core::mem::take(&mut self.exchange.changed) {
            self.tell_pex_status(SourceStatus::Idle, events);
        }
    }

    fn tell_pex_status(&self, status: SourceStatus, events: &mut Vec<Event>) {
        let round_at = self.exchange.round_at;
        self.public(
            event::Event::Source {
                tracker: None,
                torrent: self.torrent,
                source: PeerSource::Pex,
                status,
                peers: self.exchange.found,
                next_update: round_at.map(|at| at.saturating_since(self.now)),
            },
            events,
        );
    }
}

impl Exchange {
    /// One peer less tells of `addr`.
    fn take_back(&mut self, addr: SocketAddr) {
        let Some(heard) = self.heard.get_mut(&addr) else {
            return;
        };
        heard.voices = heard.voices.saturating_sub(1);
        if heard.voices > 0 {
            return;
        }
        if heard.counted {
            self.found = self.found.saturating_sub(1);
            self.changed = true;
        }
        self.heard.remove(&addr);
    }
}

/// Nobody is told of itself, nor of what is nearer to us than it is: it could make no use of a
/// private address, and has no business to know it.
fn may_be_told(peer: &Peer, addr: SocketAddr) -> bool {
    let itself = addr == peer.addr || Some(addr) == peer.listen;
    !itself && scope(addr.ip()) >= scope(peer.addr.ip())
}

fn flags_of(peer: &Peer) -> Flags {
    let prefers = peer.prefers_encryption || !peer.encryption.is_plain();
    Flags::default()
        .with(Flags::ENCRYPTION, prefers)
        .with(Flags::SEED, peer.is_seed() || peer.upload_only)
        .with(Flags::UTP, peer.transport == Transport::Utp)
        .with(Flags::HOLEPUNCH, peer.holepunch)
        .with(Flags::REACHABLE, !peer.incoming)
}

fn encoded(added: &[(SocketAddr, Flags)], dropped: &[SocketAddr]) -> Bytes {
    let mut body = Vec::new();
    pex::encode(added, dropped, &mut body);
    body.into()
}
