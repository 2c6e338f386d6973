//! Peers that are known: who told of them, and when each may be connected to.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};

use super::crowd::Crowd;
use super::dial::{Dial, Manner};
use crate::checksum::Chain;
use crate::compact::is_undialable;
use crate::config::{EncryptionMode, SwarmConfig};
use crate::event::{CloseReason, PeerSource};
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
            // It had to make room.
            CloseReason::Limit("swarm.max_peers") if fruitless => Self::Ours,
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
    banned: BTreeSet<(u64, SocketAddr)>,
    banned_by_addr: BTreeMap<SocketAddr, u64>,
    bans: u64,
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

/// What a ban covers: the whole address, but only the endpoint on loopback, where many peers
/// share one address.
fn ban_key(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        ip if ip.is_loopback() => addr,
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), 0),
        IpAddr::V6(ip) => SocketAddr::new(ip.into(), 0),
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
            banned: BTreeSet::new(),
            banned_by_addr: BTreeMap::new(),
            bans: 0,
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
        self.remember_ban(config, ban_key(addr));
    }

    /// Never connects to this one endpoint again: it is our own.
    pub(super) fn never(&mut self, config: &SwarmConfig, addr: SocketAddr) {
        self.forget(addr);
        self.remember_ban(config, addr);
    }

    fn remember_ban(&mut self, config: &SwarmConfig, key: SocketAddr) {
        if self.banned_by_addr.contains_key(&key) {
            return;
        }
        self.banned_by_addr.insert(key, self.bans);
        self.banned.insert((self.bans, key));
        self.bans += 1;
        if self.banned.len() > config.max_banned as usize
            && let Some((_, oldest)) = self.banned.pop_first()
        {
            self.banned_by_addr.remove(&oldest);
        }
    }

    /// Whether `addr` is banned.
    pub(super) fn is_banned(&self, addr: SocketAddr) -> bool {
        self.banned_by_addr.contains_key(&ban_key(addr)) || self.banned_by_addr.contains_key(&addr)
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

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    const MODE: EncryptionMode = EncryptionMode::Allow;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6881))
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000 + 1)
    }

    fn next(peers: &mut Peers, now: Instant) -> Option<SocketAddr> {
        match peers.next_to_connect(&SwarmConfig::default(), now, &Crowd::default(), false)? {
            Candidate::Take(addr, _) => Some(addr),
            Candidate::PutOff => None,
        }
    }

    /// An address in a network of its own.
    fn far(n: u32) -> SocketAddr {
        SocketAddr::from(((0x1000_0001 + n * 256).to_be_bytes(), 6881))
    }

    #[test]
    fn equals_are_tried_in_an_order_of_our_own() {
        let config = SwarmConfig::default();
        let honest = far(200);
        let mut early = 0;
        for key in 0..64 {
            let mut peers = Peers::new(key, false, MODE);
            for n in 0..=200 {
                assert!(peers.on_found(&config, PeerSource::Dht, far(n)));
            }
            let tried = (0..100).filter_map(|_| next(&mut peers, at(0)));
            early += u32::from(tried.collect::<Vec<_>>().contains(&honest));
        }
        // Half of all, give or take.
        assert!((16..=48).contains(&early), "{early}");
    }

    #[test]
    fn a_flood_of_addresses_has_its_share_and_no_more() {
        let config = SwarmConfig {
            max_known_peers: 100,
            ..SwarmConfig::default()
        };
        for honest_first in [true, false] {
            let mut peers = Peers::new(1, false, MODE);
            peers.on_found(&config, PeerSource::Manual, far(9_999));
            assert_eq!(next(&mut peers, at(0)), Some(far(9_999)));
            peers.on_closed(&config, far(9_999), End::Failed, at(0));
            let find = |peers: &mut Peers, numbers: core::ops::Range<u32>| {
                for n in numbers {
                    peers.on_found(&config, PeerSource::Dht, far(n));
                }
            };
            if honest_first {
                find(&mut peers, 1_000..1_100);
            }
            find(&mut peers, 0..400);
            find(&mut peers, 1_000..1_100);
            // Telling of them again and again changes nothing.
            for _ in 0..3 {
                find(&mut peers, 0..400);
            }
            for n in 0..50 {
                peers.on_found(&config, PeerSource::Pex, far(2_000 + n));
            }
            let kept = (1_000..1_100).filter(|n| peers.known.contains_key(&far(*n)));
            let kept = kept.count();
            assert!((10..=30).contains(&kept), "{kept} of a fair share of 20");
            assert_eq!(peers.len(), 100);
            // Neither did they push out what the user named, though it failed.
            assert!(peers.known.contains_key(&far(9_999)));
        }
    }

    #[test]
    fn one_address_fills_neither_the_list_nor_the_connections() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(1, false, MODE);
        let port = |n| SocketAddr::from(([16, 0, 0, 1], n));
        for n in 1..100 {
            peers.on_found(&config, PeerSource::Dht, port(n));
        }
        assert_eq!(peers.len(), usize::from(config.known_crowding.per_address));
        let mut connected = Crowd::default();
        connected.add(port(1).ip());
        let mut taken = 0;
        while peers.has_candidate() {
            match peers.next_to_connect(&config, at(0), &connected, false) {
                Some(Candidate::Take(..)) => taken += 1,
                Some(Candidate::PutOff) => {}
                None => panic!("there is a candidate"),
            }
        }
        assert_eq!(taken + 1, u32::from(config.peer_crowding.per_address));
        // Who is forgotten or banned makes room for others.
        peers.ban(&config, port(1));
        for n in 1..=8 {
            peers.forget(port(n));
        }
        assert_eq!(peers.connecting(), 0);
        assert!(
            peers
                .connecting_to
                .admits(port(1).ip(), config.peer_crowding, false, &[])
        );
    }

    #[test]
    fn what_we_had_no_room_for_is_no_failure() {
        use crate::io::IoReason;
        let config = SwarmConfig::default();
        let mut peers = Peers::new(1, false, MODE);
        peers.on_found(&config, PeerSource::Dht, addr(1));
        let limit = End::of_attempt(CloseReason::Limit("limits.max_connections"));
        let own = End::of_attempt(CloseReason::Io(IoReason::NoBuffers));
        assert_eq!((limit, own), (End::Ours, End::Ours));
        let refused = End::of_attempt(CloseReason::Io(IoReason::Refused));
        assert_eq!(refused, End::Failed);
        for round in 0..20 {
            assert_eq!(next(&mut peers, at(round * 60)), Some(addr(1)));
            peers.on_closed(&config, addr(1), limit, at(round * 60));
        }
    }

    #[test]
    fn better_sources_come_first_and_each_failure_waits_longer() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(7, false, MODE);
        assert!(peers.on_found(&config, PeerSource::Dht, addr(1)));
        assert!(peers.on_found(&config, PeerSource::Tracker, addr(2)));
        assert!(!peers.on_found(&config, PeerSource::Dht, addr(2)));
        assert_eq!(next(&mut peers, at(0)), Some(addr(2)));
        assert_eq!(next(&mut peers, at(0)), Some(addr(1)));
        assert_eq!(peers.connecting(), 2);
        let mut now = 0;
        for failures in 1..u64::from(config.max_peer_failures) {
            peers.on_closed(&config, addr(2), End::Failed, at(now));
            let wait = 60 * (failures + 1);
            assert_eq!(next(&mut peers, at(now + wait - 1)), None);
            now += wait;
            assert_eq!(next(&mut peers, at(now)), Some(addr(2)));
        }
        peers.on_closed(&config, addr(2), End::Failed, at(now));
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn who_was_named_is_tried_again_soon_and_never_forgotten() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(7, false, MODE);
        peers.on_found(&config, PeerSource::Manual, addr(1));
        let mut now = 0;
        // Not up yet: soon, then later and later, and at last as late as anybody.
        for wait in [5, 10, 20, 40, 80, 80] {
            assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
            peers.on_closed(&config, addr(1), End::Failed, at(now));
            assert_eq!(next(&mut peers, at(now + wait - 1)), None);
            now += wait;
        }
        let config = SwarmConfig {
            max_peer_failures: 250,
            ..config
        };
        for failures in 6..260 {
            assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
            peers.on_closed(&config, addr(1), End::Failed, at(now));
            let wait = (5u64 << (failures - 1).min(20)).min(60 * (failures.min(250) + 1));
            assert_eq!(next(&mut peers, at(now + wait - 1)), None, "{failures}");
            now += wait;
        }
    }

    #[test]
    fn who_broke_the_rules_is_not_tried_again_soon_whatever_it_brought() {
        let config = SwarmConfig::default();
        let flood = CloseReason::Protocol("blocks nobody asked for");
        let mut peers = Peers::new(7, false, MODE);
        peers.on_found(&config, PeerSource::Manual, addr(1));
        let mut now = 0;
        for failures in 1..=u64::from(config.max_peer_failures) {
            assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
            let end = End::of_connection(flood, false);
            peers.on_closed(&config, addr(1), end, at(now));
            let wait = 60 * (failures + 1);
            assert!(
                peers
                    .next_retry(true)
                    .is_none_or(|next| next == at(now + wait))
            );
            now += wait;
        }
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn while_there_is_nobody_all_are_tried_again_soon_but_not_for_ever() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(7, false, MODE);
        let next = |peers: &mut Peers, now, alone| {
            let next = peers.next_to_connect(&config, now, &Crowd::default(), alone);
            next.map(|it| matches!(it, Candidate::Take(..)))
        };
        peers.on_found(&config, PeerSource::Dht, addr(1));
        let mut now = 0;
        for wait in [5, 10, 20, 300] {
            assert_eq!(next(&mut peers, at(now), true), Some(true));
            peers.on_closed(&config, addr(1), End::Failed, at(now));
            assert_eq!(peers.next_retry(true), Some(at(now + wait)));
            assert_eq!(next(&mut peers, at(now + wait - 1), true), None);
            // Beside others, or with all that it wants, it has time.
            if wait < 60 {
                assert_eq!(next(&mut peers, at(now + wait), false), None);
                peers.set_complete(true);
                assert_eq!(next(&mut peers, at(now + wait), true), None);
                peers.set_complete(false);
            }
            now += wait;
        }
        // While one is being tried, another has time as well.
        peers.on_found(&config, PeerSource::Dht, addr(2));
        assert_eq!(next(&mut peers, at(now), true), Some(true));
        peers.on_closed(&config, addr(2), End::Used, at(now));
        assert_eq!(next(&mut peers, at(now), true), Some(true));
        assert_eq!(next(&mut peers, at(now + 5), true), None);
        peers.on_closed(&config, addr(1), End::Failed, at(now + 5));
        assert_eq!(peers.len(), 1);
        assert_eq!(next(&mut peers, at(now + 5), true), Some(true));
    }

    #[test]
    fn a_handshake_is_no_success_but_a_block_is() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(7, false, MODE);
        peers.on_found(&config, PeerSource::Dht, addr(1));
        let mut now = 0;
        // It shakes hands and hangs up, again and again: each wait is longer than the last.
        for failures in 1..=2 {
            assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
            peers.on_connected(addr(1));
            peers.on_closed(&config, addr(1), End::Failed, at(now));
            let wait = 60 * (failures + 1);
            assert_eq!(next(&mut peers, at(now + wait - 1)), None);
            now += wait;
        }
        // It gave something this time, and closed in order: as if it were new.
        assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
        peers.on_connected(addr(1));
        peers.on_closed(&config, addr(1), End::Used, at(now));
        assert_eq!(next(&mut peers, at(now + 59)), None);
        assert_eq!(next(&mut peers, at(now + 60)), Some(addr(1)));
    }

    #[test]
    fn a_full_table_keeps_the_better_sources() {
        let config = SwarmConfig {
            max_known_peers: 2,
            ..SwarmConfig::default()
        };
        let mut peers = Peers::new(7, false, MODE);
        assert!(peers.on_found(&config, PeerSource::Pex, addr(1)));
        assert!(peers.on_found(&config, PeerSource::Pex, addr(2)));
        assert!(!peers.on_found(&config, PeerSource::Pex, addr(3)));
        assert!(peers.on_found(&config, PeerSource::Tracker, addr(4)));
        assert_eq!(peers.len(), 2);
    }

    #[test]
    fn the_banned_never_come_back_and_seeds_do_not_serve_seeds() {
        let config = SwarmConfig::default();
        let mut peers = Peers::new(7, false, MODE);
        peers.on_found(&config, PeerSource::Dht, addr(1));
        peers.ban(&config, addr(1));
        assert!(!peers.on_found(&config, PeerSource::Dht, addr(1)));
        assert!(peers.is_banned(SocketAddr::from(([10, 0, 0, 1], 9))));
        peers.on_found(&config, PeerSource::Dht, addr(2));
        peers.set_seed(addr(2), true);
        peers.set_complete(true);
        assert_eq!(next(&mut peers, at(1)), None);
        for n in 0..=config.max_banned {
            peers.ban(&config, SocketAddr::from((n.to_be_bytes(), 1)));
        }
        assert_eq!(peers.banned.len(), config.max_banned as usize);
        assert_eq!(peers.banned_by_addr.len(), config.max_banned as usize);
    }

    quickcheck! {
        fn indices_agree_with_states(steps: Vec<(u8, u8)>) -> bool {
            let config = SwarmConfig { max_known_peers: 6, ..SwarmConfig::default() };
            let mut peers = Peers::new(7, false, MODE);
            for (second, (kind, n)) in steps.into_iter().enumerate() {
                let now = at(second as u64 * 20);
                let addr = addr(n % 10);
                match kind % 8 {
                    0 => { peers.on_found(&config, PeerSource::Dht, addr); }
                    1 => { peers.on_found(&config, PeerSource::Tracker, addr); }
                    2 => { next(&mut peers, now); }
                    3 => peers.on_connected(addr),
                    4 => {
                        let ends = [End::Failed, End::Used, End::Ours];
                        peers.on_closed(&config, addr, ends[usize::from(n % 3)], now);
                    }
                    5 => peers.set_seed(addr, n % 2 == 0),
                    6 => peers.set_complete(n % 2 == 0),
                    _ => peers.ban(&config, addr),
                }
                let count = |state: fn(&State) -> bool| {
                    peers.known.values().filter(|known| state(&known.state)).count()
                };
                assert_eq!(count(|s| *s == State::Ready), peers.ready.len());
                assert_eq!(count(|s| matches!(s, State::Waiting(..))), peers.waiting.len());
                assert_eq!(count(|s| *s == State::Connecting), peers.connecting);
                assert_eq!(peers.waiting.len(), peers.waiting_alone.len());
                assert_eq!(peers.idle.len(), peers.ready.len() + peers.waiting.len());
                assert!(peers.known.len() <= 6);
            }
            true
        }
    }
}
