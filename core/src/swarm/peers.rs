//! Peers that are known: who told of them, and when each may be connected to.

mod bans;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};

use self::bans::Bans;
use super::crowd::Crowd;
use super::dial::{Dial, Manner};
use crate::checksum::Chain;
use crate::compact::is_undialable;
use crate::config::{EncryptionMode, SwarmConfig};
use crate::dht::security::network;
use crate::event::{CloseReason, Expendable, PeerSource};
use crate::io::IoReason;
use crate::time::{Duration, Instant};

/// A known endpoint.
#[derive(Debug)]
struct Known {
    source: PeerSource,
    failures: u8,
    /// It has everything: of no use once we have everything.
    seed: bool,
    /// Somebody said that it prefers encryption.
    encrypts: bool,
    manner: Manner,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// May be connected to.
    Ready,
    /// May be connected to after the first moment, and while there is nobody else after the
    /// second, which is not later.
    Waiting(Instant, Instant),
    /// Being connected to.
    Connecting,
    /// A connection stands.
    Connected,
}

/// How an attempt or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It brought or took something.
    Used,
    /// It came to nothing. A handshake alone is no success: a peer that shakes hands and hangs
    /// up, time after time, has failed as often.
    Failed,
    /// It broke the rules, whatever it brought, or was of no use: there is no hurry to have it
    /// again.
    Wrong,
    /// We had no room or no means: nothing that the peer did.
    Ours,
}

impl End {
    /// What became of an attempt that never got as far as to be of use.
    pub(super) fn of_attempt(reason: CloseReason) -> Self {
        use IoReason::{AddressUnavailable, Local, NoBuffers};
        match reason {
            CloseReason::Limit(_)
            | CloseReason::Shutdown
            | CloseReason::Io(AddressUnavailable | Local | NoBuffers) => Self::Ours,
            _ => Self::of_connection(reason, true),
        }
    }

    /// What became of a connection. `fruitless`: nothing flowed either way.
    pub(super) fn of_connection(reason: CloseReason, fruitless: bool) -> Self {
        match reason {
            CloseReason::MadeRoom(Expendable::Idle) if fruitless => Self::Failed,
            // It might still have been of use.
            CloseReason::MadeRoom(_) if fruitless => Self::Ours,
            CloseReason::Protocol(_) | CloseReason::BadHandshake | CloseReason::Banned => {
                Self::Wrong
            }
            _ if !fruitless => Self::Used,
            CloseReason::Io(_) | CloseReason::HandshakeTimeout | CloseReason::Idle => Self::Failed,
            _ => Self::Wrong,
        }
    }
}

/// What became of the peer that was next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidate {
    /// It is being connected to from now on, in this way.
    Take(SocketAddr, Dial),
    /// Its address or network has its share of connections: it waits.
    PutOff,
}

/// The order in which peers are taken: seeds are ranked last where they are of no use, those who
/// prefer encryption first where it is required, and peers that are otherwise equal are in an order
/// of this torrent's own that nobody can know.
type Rank = (bool, u8, u8, bool, u64, SocketAddr);

/// Known peers, at most `max_known_peers`.
#[derive(Debug)]
pub(super) struct Peers {
    /// Of the order among equals.
    key: u64,
    lab: bool,
    mode: EncryptionMode,
    known: BTreeMap<SocketAddr, Known>,
    /// Where they are.
    crowd: Crowd,
    ready: BTreeSet<Rank>,
    /// Those that are ready or wait: any of them may be forgotten for a better one.
    idle: BTreeSet<Rank>,
    waiting: BTreeSet<(Instant, SocketAddr)>,
    /// The same by when they may be connected to while there is nobody else.
    waiting_alone: BTreeSet<(Instant, SocketAddr)>,
    connecting: usize,
    connecting_to: Crowd,
    bans: Bans,
    /// We have everything: other seeds are not connected to.
    complete: bool,
}

/// Tracker, LSD, DHT, PEX: the more a source proves, the sooner its peers are tried.
fn rank(source: PeerSource) -> u8 {
    match source {
        PeerSource::Manual => 0,
        PeerSource::Tracker => 1,
        PeerSource::Lsd => 2,
        PeerSource::Resume => 3,
        PeerSource::Dht => 4,
        PeerSource::Pex => 5,
        PeerSource::Incoming => 6,
    }
}

impl Peers {
    /// Nobody; `key` is secret.
    pub(super) fn new(key: u64, lab: bool, mode: EncryptionMode) -> Self {
        Self {
            key,
            lab,
            mode,
            known: BTreeMap::new(),
            crowd: Crowd::default(),
            ready: BTreeSet::new(),
            idle: BTreeSet::new(),
            waiting: BTreeSet::new(),
            waiting_alone: BTreeSet::new(),
            connecting: 0,
            connecting_to: Crowd::default(),
            bans: Bans::default(),
            complete: false,
        }
    }

    /// Learns of an endpoint. Returns whether it is new. One that the user names again is tried
    /// at once.
    pub(super) fn on_found(
        &mut self,
        config: &SwarmConfig,
        source: PeerSource,
        addr: SocketAddr,
    ) -> bool {
        if is_undialable(addr) || self.is_banned(addr) {
            return false;
        }
        if let Some(known) = self.known.get(&addr) {
            let waits = matches!(known.state, State::Waiting(..));
            if rank(source) < rank(known.source) {
                self.change(addr, |known| known.source = source);
            }
            if source == PeerSource::Manual && waits {
                self.change(addr, |known| known.state = State::Ready);
            }
            return false;
        }
        let limit = config.known_crowding;
        if !self.crowd.admits(addr.ip(), limit, self.lab, &[]) {
            return false;
        }
        let known = Known {
            source,
            failures: 0,
            seed: false,
            encrypts: false,
            manner: Manner::default(),
            state: State::Ready,
        };
        let full = self.known.len() >= config.max_known_peers as usize;
        if full && !self.make_room(self.rank_of(addr, &known)) {
            return false;
        }
        self.known.insert(addr, known);
        self.crowd.add(addr.ip());
        self.index(addr);
        true
    }

    /// The best peer that may be connected to now, beside those that are `connected`. `alone`:
    /// there are none.
    pub(super) fn next_to_connect(
        &mut self,
        config: &SwarmConfig,
        now: Instant,
        connected: &Crowd,
        alone: bool,
    ) -> Option<Candidate> {
        self.wake(now, alone);
        let &(useless, .., addr) = self.ready.first()?;
        if useless {
            return None;
        }
        let (limit, here) = (config.peer_crowding, [connected]);
        if !self.connecting_to.admits(addr.ip(), limit, self.lab, &here) {
            let delay = config.reconnect_delay;
            self.put_off(addr, now, delay, delay);
            return Some(Candidate::PutOff);
        }
        self.change(addr, |known| known.state = State::Connecting);
        let dial = self.known.get(&addr)?.manner.dial(self.mode);
        Some(Candidate::Take(addr, dial))
    }

    /// Whether [`Peers::next_to_connect`] has somebody to look at.
    pub(super) fn has_candidate(&self) -> bool {
        self.ready.first().is_some_and(|(useless, ..)| !useless)
    }

    /// When the next waiting peer may be connected to. `alone`: nobody is connected.
    pub(super) fn next_retry(&self, alone: bool) -> Option<Instant> {
        self.waiting_by(alone).first().map(|(at, _)| *at)
    }

    /// Those that wait, in order. Whoever has everything can wait for others to come.
    fn waiting_by(&self, alone: bool) -> &BTreeSet<(Instant, SocketAddr)> {
        match alone && self.connecting == 0 && !self.complete {
            true => &self.waiting_alone,
            false => &self.waiting,
        }
    }

    /// Peers being connected to.
    pub(super) fn connecting(&self) -> usize {
        self.connecting
    }

    /// Peers that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether `addr` is being connected to.
    pub(super) fn is_connecting(&self, addr: SocketAddr) -> bool {
        self.known
            .get(&addr)
            .is_some_and(|known| known.state == State::Connecting)
    }

    /// A connection to `addr` stands.
    pub(super) fn on_connected(&mut self, addr: SocketAddr) {
        let mode = self.mode;
        self.change(addr, |known| {
            known.state = State::Connected;
            known.manner.on_connected(mode);
        });
    }

    /// An attempt to connect to `addr` failed. Whether it is tried the other way, at once.
    pub(super) fn on_attempt_failed(&mut self, addr: SocketAddr, reason: CloseReason) -> bool {
        let (mode, mut again) = (self.mode, false);
        self.change(addr, |known| {
            again = known.manner.on_failed(mode, reason);
            if again {
                known.state = State::Ready;
            }
        });
        again
    }

    /// Somebody says that `addr` prefers encryption.
    pub(super) fn set_encrypts(&mut self, addr: SocketAddr) {
        self.change(addr, |known| known.encrypts = true);
    }

    /// A connection to `addr` ended or an attempt failed. It is tried again after
    /// `reconnect_delay` times (failures + 1), or sooner, and forgotten after too many failures in
    /// a row, unless the user named it.
    pub(super) fn on_closed(
        &mut self,
        config: &SwarmConfig,
        addr: SocketAddr,
        end: End,
        now: Instant,
    ) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        let failures = match end {
            End::Used => 0,
            End::Failed | End::Wrong => known.failures.saturating_add(1),
            End::Ours => known.failures,
        };
        let named = known.source == PeerSource::Manual && end != End::Wrong;
        if failures >= config.max_peer_failures && !named {
            self.forget(addr);
            return;
        }
        let failures = failures.min(config.max_peer_failures);
        self.change(addr, |known| known.failures = failures);
        let soon = match end {
            End::Used | End::Failed if named || failures <= config.soon_failures => {
                let doubled = u32::from(failures).saturating_sub(1).min(31);
                config.reconnect_soon.saturating_mul(1 << doubled)
            }
            _ => Duration::MAX,
        };
        let usual = config
            .reconnect_delay
            .saturating_mul(u32::from(failures) + 1);
        let alone = usual.min(soon);
        self.put_off(addr, now, if named { alone } else { usual }, alone);
    }

    fn put_off(&mut self, addr: SocketAddr, now: Instant, usual: Duration, alone: Duration) {
        // Nobody must be tried again in the same instant, whatever the config.
        let at = |delay: Duration| now + delay.max(Duration::from_millis(100));
        self.change(addr, |known| {
            known.state = State::Waiting(at(usual), at(alone));
        });
    }

    /// Whether `addr` has everything.
    pub(super) fn set_seed(&mut self, addr: SocketAddr, seed: bool) {
        self.change(addr, |known| known.seed = seed);
    }

    /// Whether we have everything, so that seeds are of no use.
    pub(super) fn set_complete(&mut self, complete: bool) {
        if self.complete != complete {
            self.complete = complete;
            let idle: alloc::vec::Vec<_> = self.idle.iter().map(|rank| rank.5).collect();
            self.ready.clear();
            self.idle.clear();
            idle.into_iter().for_each(|addr| self.index(addr));
        }
    }

    /// Never connects to `addr` again, nor lets it in, from whatever port.
    pub(super) fn ban(&mut self, config: &SwarmConfig, addr: SocketAddr) {
        self.forget(addr);
        self.bans.add(addr, config.max_banned);
    }

    /// Never connects to this one endpoint again: it is our own.
    pub(super) fn never(&mut self, config: &SwarmConfig, addr: SocketAddr) {
        self.forget(addr);
        self.bans.add_endpoint(addr, config.max_banned);
    }

    /// Whether `addr` is banned.
    pub(super) fn is_banned(&self, addr: SocketAddr) -> bool {
        self.bans.cover(addr)
    }

    /// Forgets peers of `forbidden` sources that are not connected (private torrents).
    pub(super) fn forget_sources(&mut self, forbidden: impl Fn(PeerSource) -> bool) {
        let gone: alloc::vec::Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| forbidden(known.source) && known.state != State::Connected)
            .map(|(addr, _)| *addr)
            .collect();
        gone.into_iter().for_each(|addr| self.forget(addr));
    }

    /// Endpoints worth keeping for the next start: those that work or may work.
    pub(super) fn worth_saving(&self, limit: usize) -> impl Iterator<Item = SocketAddr> + '_ {
        let connected = self
            .known
            .iter()
            .filter(|(_, known)| known.state == State::Connected);
        let others = self
            .known
            .iter()
            .filter(|(_, known)| known.state != State::Connected);
        connected.chain(others).map(|(addr, _)| *addr).take(limit)
    }

    fn wake(&mut self, now: Instant, alone: bool) {
        while let Some(&(at, addr)) = self.waiting_by(alone).first() {
            if at > now {
                return;
            }
            self.change(addr, |known| known.state = State::Ready);
        }
    }

    /// Drops the least promising peer if it promises less than the new one. Among equals it is
    /// the order of our own that decides: whoever floods us with addresses has no more of his
    /// in the end than his share, and gains nothing by telling of them again.
    fn make_room(&mut self, new: Rank) -> bool {
        match self.idle.last() {
            Some(worst) if new < *worst => {
                let addr = worst.5;
                self.forget(addr);
                true
            }
            _ => false,
        }
    }

    fn forget(&mut self, addr: SocketAddr) {
        self.unindex(addr);
        if self.known.remove(&addr).is_some() {
            self.crowd.remove(addr.ip());
        }
    }

    fn change(&mut self, addr: SocketAddr, change: impl FnOnce(&mut Known)) {
        self.unindex(addr);
        if let Some(known) = self.known.get_mut(&addr) {
            change(known);
        }
        self.index(addr);
    }

    fn rank_of(&self, addr: SocketAddr, known: &Known) -> Rank {
        let useless = known.seed && self.complete;
        let order = self.order(addr);
        let unlikely = self.mode == EncryptionMode::Require && !known.encrypts;
        let source = rank(known.source);
        (useless, source, known.failures, unlikely, order, addr)
    }

    /// The same order for whole networks, whose addresses may all be one person's.
    pub(super) fn order_of_network(&self, ip: IpAddr) -> u64 {
        let mut chain = Chain::new(self.key);
        chain.bytes(&network(ip).to_be_bytes());
        chain.value()
    }

    fn order(&self, addr: SocketAddr) -> u64 {
        let mut chain = Chain::new(self.key);
        match addr.ip() {
            IpAddr::V4(ip) => chain.bytes(&ip.octets()),
            IpAddr::V6(ip) => chain.bytes(&ip.octets()),
        }
        chain.number(u64::from(addr.port()));
        chain.value()
    }

    fn unindex(&mut self, addr: SocketAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        let rank = self.rank_of(addr, known);
        match known.state {
            State::Ready => {
                self.ready.remove(&rank);
                self.idle.remove(&rank);
            }
            State::Waiting(at, alone) => {
                self.waiting.remove(&(at, addr));
                self.waiting_alone.remove(&(alone, addr));
                self.idle.remove(&rank);
            }
            State::Connecting => {
                self.connecting -= 1;
                self.connecting_to.remove(addr.ip());
            }
            State::Connected => {}
        }
    }

    fn index(&mut self, addr: SocketAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        let rank = self.rank_of(addr, known);
        match known.state {
            State::Ready => {
                self.ready.insert(rank);
                self.idle.insert(rank);
            }
            State::Waiting(at, alone) => {
                self.waiting.insert((at, addr));
                self.waiting_alone.insert((alone, addr));
                self.idle.insert(rank);
            }
            State::Connecting => {
                self.connecting += 1;
                self.connecting_to.add(addr.ip());
            }
            State::Connected => {}
        }
    }
}
