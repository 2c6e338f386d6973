//! The peers that others announced to us, of one address family.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::security;
use crate::config::DhtConfig;
use crate::id::{Distance, Id20, NodeId};
use crate::rng::Choice;

#[derive(Debug, Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    expires: u32,
}

/// Announced peers by info-hash.
///
/// Info-hashes are kept by their distance from our id. A full store gives up the farthest one for
/// a closer one: a flood of random info-hashes then cannot push out what we are responsible for.
#[derive(Debug)]
pub struct Store {
    own: NodeId,
    torrents: BTreeMap<Distance, Vec<Peer>>,
    /// Peers kept per host, so that one host cannot fill the store.
    hosts: BTreeMap<IpAddr, u16>,
    swept: Option<Distance>,
    max_torrents: usize,
    max_peers: usize,
    max_per_host: u16,
    max_ports: usize,
    lifetime: u32,
    lab: bool,
}

impl Store {
    /// An empty store of a node that is `own`.
    #[must_use]
    pub fn new(own: NodeId, config: &DhtConfig, lab: bool) -> Self {
        Self {
            own,
            torrents: BTreeMap::new(),
            hosts: BTreeMap::new(),
            swept: None,
            max_torrents: config.max_stored_torrents as usize,
            max_peers: config.max_stored_peers as usize,
            max_per_host: config.max_stored_per_host,
            max_ports: usize::from(config.max_stored_ports),
            lifetime: u32::try_from(config.peer_lifetime.as_secs()).unwrap_or(u32::MAX),
            lab,
        }
    }

    /// Our id changed, and with it what is far.
    pub fn set_own(&mut self, own: NodeId) {
        let old = core::mem::replace(&mut self.own, own);
        let torrents = core::mem::take(&mut self.torrents);
        for (distance, peers) in torrents {
            let info_hash = Id20(old.distance(&Id20(distance.0)).0);
            self.torrents.insert(own.distance(&info_hash), peers);
        }
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.torrents.is_empty()
    }

    /// Info-hashes kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.torrents.len()
    }

    /// Whether an announce would be kept; where not, no token is given, so that the announcer
    /// turns to our neighbours.
    #[must_use]
    pub fn has_room(&self, info_hash: &Id20) -> bool {
        let distance = self.own.distance(info_hash);
        match self.torrents.get(&distance) {
            Some(peers) => peers.len() < self.max_peers,
            None => {
                let farther = || {
                    self.torrents
                        .keys()
                        .next_back()
                        .is_some_and(|last| distance < *last)
                };
                self.torrents.len() < self.max_torrents || (self.max_torrents > 0 && farther())
            }
        }
    }

    /// Keeps a peer, or keeps it longer; false where a limit is in the way. `now` in seconds.
    pub fn announce(&mut self, info_hash: &Id20, addr: SocketAddr, now: u32) -> bool {
        let peer = Peer {
            addr,
            expires: now.saturating_add(self.lifetime),
        };
        let distance = self.own.distance(info_hash);
        let ip = addr.ip();
        let exempt = security::is_exempt(ip, self.lab);
        if let Some(peers) = self.torrents.get_mut(&distance) {
            if let Some(known) = peers.iter_mut().find(|known| known.addr == addr) {
                *known = peer;
                return true;
            }
            // Another port of a host that has all it may: the one it announced longest ago goes.
            let ports = peers.iter().filter(|known| known.addr.ip() == ip).count();
            if !exempt && ports >= self.max_ports {
                let same = peers.iter_mut().filter(|known| known.addr.ip() == ip);
                if let Some(oldest) = same.min_by_key(|known| known.expires) {
                    *oldest = peer;
                }
                return true;
            }
        }
        let held = self.hosts.get(&ip).copied().unwrap_or(0);
        if !self.has_room(info_hash) || (!exempt && held >= self.max_per_host) {
            return false;
        }
        if !self.torrents.contains_key(&distance)
            && self.torrents.len() >= self.max_torrents
            && let Some((_, peers)) = self.torrents.pop_last()
        {
            peers.iter().for_each(|peer| release(&mut self.hosts, peer));
        }
        self.torrents.entry(distance).or_default().push(peer);
        *self.hosts.entry(ip).or_default() += 1;
        true
    }

    /// Up to `limit` peers, each with the same chance. `now` in seconds.
    pub fn sample<'s>(
        &'s self,
        info_hash: &Id20,
        limit: usize,
        now: u32,
        choice: &'s mut Choice,
    ) -> impl Iterator<Item = SocketAddr> + 's {
        let peers = self.torrents.get(&self.own.distance(info_hash));
        let peers = peers.map_or(&[][..], Vec::as_slice);
        let fresh = move |peer: &&Peer| peer.expires > now;
        let mut left = peers.iter().filter(fresh).count();
        let mut wanted = limit.min(left);
        peers.iter().filter(fresh).filter_map(move |peer| {
            let chosen = wanted > 0 && choice.index(left) < wanted;
            left -= 1;
            wanted -= usize::from(chosen);
            chosen.then_some(peer.addr)
        })
    }

    /// Whether any peer of that info-hash is kept and fresh.
    #[must_use]
    pub fn has_peers(&self, info_hash: &Id20, now: u32) -> bool {
        let peers = self.torrents.get(&self.own.distance(info_hash));
        peers.is_some_and(|peers| peers.iter().any(|peer| peer.expires > now))
    }

    /// Forgets expired peers of the next `slice` info-hashes. `now` in seconds.
    pub fn sweep(&mut self, now: u32, slice: usize) {
        for _ in 0..slice {
            use core::ops::Bound::{Excluded, Unbounded};
            let from = self.swept.map_or(Unbounded, Excluded);
            let Some((distance, peers)) = self.torrents.range_mut((from, Unbounded)).next() else {
                self.swept = None;
                return;
            };
            let distance = *distance;
            let hosts = &mut self.hosts;
            peers.retain(|peer| {
                let fresh = peer.expires > now;
                if !fresh {
                    release(hosts, peer);
                }
                fresh
            });
            if peers.is_empty() {
                self.torrents.remove(&distance);
            }
            self.swept = Some(distance);
        }
    }
}

fn release(hosts: &mut BTreeMap<IpAddr, u16>, peer: &Peer) {
    let ip = peer.addr.ip();
    if let Some(held) = hosts.get_mut(&ip) {
        *held -= 1;
        if *held == 0 {
            hosts.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::rng::Label;
    use std::collections::BTreeSet;

    fn store() -> Store {
        Store::new(NodeId::default(), &Config::default().dht, false)
    }

    fn choice() -> Choice {
        Choice::new(&[1; 32], Label::Dht(4))
    }

    fn hash(n: u32) -> Id20 {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Id20(id)
    }

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0800_0000 + n).into()), 6881)
    }

    fn all(store: &Store, n: u32, now: u32) -> BTreeSet<SocketAddr> {
        store.sample(&hash(n), 1_000, now, &mut choice()).collect()
    }

    #[test]
    fn five_hundred_peers_are_kept_and_then_there_is_no_room() {
        let mut store = store();
        assert!((0..500).all(|n| store.announce(&hash(1), addr(n), 0)));
        assert!(!store.has_room(&hash(1)));
        assert!(!store.announce(&hash(1), addr(500), 0));
        assert!(store.announce(&hash(1), addr(3), 9));
        assert_eq!(all(&store, 1, 1).len(), 500);
    }

    #[test]
    fn two_thousand_info_hashes_are_kept_and_the_closer_one_wins() {
        let mut store = store();
        assert!((1..=2_000).all(|n| store.announce(&hash(n), addr(n), 0)));
        assert!(!store.has_room(&hash(2_001)));
        assert!(!store.announce(&hash(2_001), addr(1), 0));
        assert!(store.announce(&hash(0), addr(1), 0));
        assert_eq!((store.len(), all(&store, 2_000, 1).len()), (2_000, 0));
    }

    #[test]
    fn one_host_gets_a_few_ports_and_a_share_of_the_store() {
        let mut store = store();
        for port in 1..100 {
            assert!(store.announce(
                &hash(1),
                SocketAddr::new(addr(1).ip(), port),
                u32::from(port)
            ));
        }
        let kept = all(&store, 1, 1);
        assert_eq!(kept.len(), 8);
        assert!(kept.iter().all(|addr| addr.port() >= 92));
        let held = (2..1_000)
            .filter(|n| store.announce(&hash(*n), addr(1), 0))
            .count();
        assert_eq!(held, 92);
        let local = "127.0.0.1:1".parse().unwrap();
        assert!((1_000..1_500).all(|n| store.announce(&hash(n), local, 0)));
    }

    #[test]
    fn a_peer_is_forgotten_after_its_lifetime() {
        let mut store = store();
        for n in 0..100 {
            store.announce(&hash(n), addr(n), n);
        }
        assert_eq!(all(&store, 50, 50 + 2_699).len(), 1);
        assert!(!store.has_peers(&hash(50), 50 + 2_700));
        for _ in 0..100 / 16 + 1 {
            store.sweep(2_750, 16);
        }
        assert_eq!(store.len(), 49);
        assert_eq!(store.hosts.len(), 49);
        for _ in 0..10 {
            store.sweep(9_999, 16);
        }
        assert!(store.is_empty() && store.hosts.is_empty());
    }

    #[test]
    fn a_sample_is_fair_and_of_the_size_asked_for() {
        let mut store = store();
        for n in 0..300 {
            store.announce(&hash(1), addr(n), 0);
        }
        let mut choice = choice();
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let sample: BTreeSet<_> = store.sample(&hash(1), 100, 1, &mut choice).collect();
            assert_eq!(sample.len(), 100);
            seen.extend(sample);
        }
        assert_eq!(seen.len(), 300);
    }

    #[test]
    fn another_own_id_keeps_the_peers() {
        let mut store = store();
        store.announce(&hash(7), addr(1), 0);
        store.set_own(hash(99));
        assert_eq!(all(&store, 7, 1).len(), 1);
    }
}
