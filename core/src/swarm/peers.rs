//! Peers that are known: who told of them, and when each may be connected to.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};

use crate::compact::is_undialable;
use crate::config::SwarmConfig;
use crate::event::PeerSource;
use crate::time::{Duration, Instant};

/// A known endpoint.
#[derive(Debug)]
struct Known {
    source: PeerSource,
    failures: u8,
    /// It has everything: of no use once we have everything.
    seed: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// May be connected to.
    Ready,
    /// May be connected to after this.
    Waiting(Instant),
    /// Being connected to.
    Connecting,
    /// A connection stands.
    Connected,
}

/// The order in which ready peers are taken: seeds are ranked last where they are of no use.
type Rank = (bool, u8, u8, SocketAddr);

/// Known peers, at most `max_known_peers`.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<SocketAddr, Known>,
    ready: BTreeSet<Rank>,
    waiting: BTreeSet<(Instant, SocketAddr)>,
    connecting: usize,
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
    /// Learns of an endpoint. Returns whether it is new.
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
            if rank(source) < rank(known.source) {
                self.change(addr, |known| known.source = source);
            }
            return false;
        }
        if self.known.len() >= config.max_known_peers as usize && !self.make_room(source) {
            return false;
        }
        self.known.insert(
            addr,
            Known {
                source,
                failures: 0,
                seed: false,
                state: State::Ready,
            },
        );
        self.index(addr);
        true
    }

    /// The best peer that may be connected to now; it is being connected to from now on.
    pub(super) fn next_to_connect(&mut self, now: Instant) -> Option<SocketAddr> {
        self.wake(now);
        let &(useless, _, _, addr) = self.ready.first()?;
        if useless {
            return None;
        }
        self.change(addr, |known| known.state = State::Connecting);
        Some(addr)
    }

    /// When the next waiting peer may be connected to.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
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
        self.change(addr, |known| known.state = State::Connected);
    }

    /// A connection to `addr` ended or an attempt failed. It is tried again after
    /// `reconnect_delay` times (failures + 1), and forgotten after too many failures in a row. A
    /// handshake alone is no success: a peer that shakes hands and hangs up, time after time,
    /// has `failed` as often.
    pub(super) fn on_closed(
        &mut self,
        config: &SwarmConfig,
        addr: SocketAddr,
        failed: bool,
        now: Instant,
    ) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        let failures = if failed {
            known.failures.saturating_add(1)
        } else {
            0
        };
        if failures >= config.max_peer_failures {
            self.forget(addr);
            return;
        }
        let delay = config
            .reconnect_delay
            .saturating_mul(u32::from(failures) + 1);
        // A connection that ended must not be retried in the same instant, whatever the config.
        let at = now + delay.max(Duration::from_millis(100));
        self.change(addr, |known| {
            known.failures = failures;
            known.state = State::Waiting(at);
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
            let ready: alloc::vec::Vec<_> = self.ready.iter().map(|rank| rank.3).collect();
            self.ready.clear();
            ready.into_iter().for_each(|addr| self.index(addr));
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

    fn wake(&mut self, now: Instant) {
        while let Some(&(at, addr)) = self.waiting.first() {
            if at > now {
                return;
            }
            self.change(addr, |known| known.state = State::Ready);
        }
    }

    /// Drops the least promising peer if it promises less than a new one of `source`.
    fn make_room(&mut self, source: PeerSource) -> bool {
        let worst = self.waiting.last().map(|(_, addr)| *addr).or_else(|| {
            let last = self.ready.last()?;
            ((last.0, last.1) > (false, rank(source))).then_some(last.3)
        });
        let Some(worst) = worst else {
            return false;
        };
        self.forget(worst);
        true
    }

    fn forget(&mut self, addr: SocketAddr) {
        self.unindex(addr);
        self.known.remove(&addr);
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
        (useless, rank(known.source), known.failures, addr)
    }

    fn unindex(&mut self, addr: SocketAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        match known.state {
            State::Ready => {
                let rank = self.rank_of(addr, known);
                self.ready.remove(&rank);
            }
            State::Waiting(at) => {
                self.waiting.remove(&(at, addr));
            }
            State::Connecting => self.connecting -= 1,
            State::Connected => {}
        }
    }

    fn index(&mut self, addr: SocketAddr) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        match known.state {
            State::Ready => {
                let rank = self.rank_of(addr, known);
                self.ready.insert(rank);
            }
            State::Waiting(at) => {
                self.waiting.insert((at, addr));
            }
            State::Connecting => self.connecting += 1,
            State::Connected => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6881))
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000 + 1)
    }

    #[test]
    fn better_sources_come_first_and_each_failure_waits_longer() {
        let config = SwarmConfig::default();
        let mut peers = Peers::default();
        assert!(peers.on_found(&config, PeerSource::Dht, addr(1)));
        assert!(peers.on_found(&config, PeerSource::Manual, addr(2)));
        assert!(!peers.on_found(&config, PeerSource::Dht, addr(2)));
        assert_eq!(peers.next_to_connect(at(0)), Some(addr(2)));
        assert_eq!(peers.next_to_connect(at(0)), Some(addr(1)));
        assert_eq!(peers.connecting(), 2);
        let mut now = 0;
        for failures in 1..u64::from(config.max_peer_failures) {
            peers.on_closed(&config, addr(2), true, at(now));
            let wait = 60 * (failures + 1);
            assert_eq!(peers.next_to_connect(at(now + wait - 1)), None);
            now += wait;
            assert_eq!(peers.next_to_connect(at(now)), Some(addr(2)));
        }
        peers.on_closed(&config, addr(2), true, at(now));
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn a_handshake_is_no_success_but_a_block_is() {
        let config = SwarmConfig::default();
        let mut peers = Peers::default();
        peers.on_found(&config, PeerSource::Dht, addr(1));
        let mut now = 0;
        // It shakes hands and hangs up, again and again: each wait is longer than the last.
        for failures in 1..=2 {
            assert_eq!(peers.next_to_connect(at(now)), Some(addr(1)));
            peers.on_connected(addr(1));
            peers.on_closed(&config, addr(1), true, at(now));
            let wait = 60 * (failures + 1);
            assert_eq!(peers.next_to_connect(at(now + wait - 1)), None);
            now += wait;
        }
        // It gave something this time, and closed in order: as if it were new.
        assert_eq!(peers.next_to_connect(at(now)), Some(addr(1)));
        peers.on_connected(addr(1));
        peers.on_closed(&config, addr(1), false, at(now));
        assert_eq!(peers.next_to_connect(at(now + 59)), None);
        assert_eq!(peers.next_to_connect(at(now + 60)), Some(addr(1)));
    }

    #[test]
    fn a_full_table_keeps_the_better_sources() {
        let config = SwarmConfig {
            max_known_peers: 2,
            ..SwarmConfig::default()
        };
        let mut peers = Peers::default();
        assert!(peers.on_found(&config, PeerSource::Pex, addr(1)));
        assert!(peers.on_found(&config, PeerSource::Pex, addr(2)));
        assert!(!peers.on_found(&config, PeerSource::Pex, addr(3)));
        assert!(peers.on_found(&config, PeerSource::Tracker, addr(4)));
        assert_eq!(peers.len(), 2);
    }

    #[test]
    fn the_banned_never_come_back_and_seeds_do_not_serve_seeds() {
        let config = SwarmConfig::default();
        let mut peers = Peers::default();
        peers.on_found(&config, PeerSource::Dht, addr(1));
        peers.ban(&config, addr(1));
        assert!(!peers.on_found(&config, PeerSource::Dht, addr(1)));
        assert!(peers.is_banned(SocketAddr::from(([10, 0, 0, 1], 9))));
        peers.on_found(&config, PeerSource::Dht, addr(2));
        peers.set_seed(addr(2), true);
        peers.set_complete(true);
        assert_eq!(peers.next_to_connect(at(1)), None);
        for n in 0..=config.max_banned {
            peers.ban(&config, SocketAddr::from((n.to_be_bytes(), 1)));
        }
        assert_eq!(peers.banned.len(), config.max_banned as usize);
        assert_eq!(peers.banned_by_addr.len(), config.max_banned as usize);
    }

    quickcheck! {
        fn indices_agree_with_states(steps: Vec<(u8, u8)>) -> bool {
            let config = SwarmConfig { max_known_peers: 6, ..SwarmConfig::default() };
            let mut peers = Peers::default();
            for (second, (kind, n)) in steps.into_iter().enumerate() {
                let now = at(second as u64 * 20);
                let addr = addr(n % 10);
                match kind % 8 {
                    0 => { peers.on_found(&config, PeerSource::Dht, addr); }
                    1 => { peers.on_found(&config, PeerSource::Tracker, addr); }
                    2 => { peers.next_to_connect(now); }
                    3 => peers.on_connected(addr),
                    4 => peers.on_closed(&config, addr, n % 2 == 0, now),
                    5 => peers.set_seed(addr, n % 2 == 0),
                    6 => peers.set_complete(n % 2 == 0),
                    _ => peers.ban(&config, addr),
                }
                let count = |state: fn(&State) -> bool| {
                    peers.known.values().filter(|known| state(&known.state)).count()
                };
                assert_eq!(count(|s| *s == State::Ready), peers.ready.len());
                assert_eq!(count(|s| matches!(s, State::Waiting(_))), peers.waiting.len());
                assert_eq!(count(|s| *s == State::Connecting), peers.connecting);
                assert!(peers.known.len() <= 6);
            }
            true
        }
    }
}
