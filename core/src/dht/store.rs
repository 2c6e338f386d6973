//! The peers that others announced to us, of one address family.
//!
//! A host is an address of IPv4 or a /64 of IPv6, a network a /24 or a /48.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::scrape::Filters;
use super::security;
use crate::config::DhtConfig;
use crate::id::{Distance, Id20, NodeId};
use crate::rng::Choice;

#[derive(Debug, Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    expires: u32,
    /// It has everything (BEP 33).
    seed: bool,
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
    hosts: BTreeMap<u128, u32>,
    /// Peers kept per network.
    networks: BTreeMap<u128, u32>,
    swept: Option<Distance>,
    max_torrents: usize,
    max_peers: usize,
    max_per_host: u32,
    max_per_network: u32,
    max_ports: usize,
    max_nearby: usize,
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
            networks: BTreeMap::new(),
            swept: None,
            max_torrents: config.max_stored_torrents as usize,
            max_peers: config.max_stored_peers as usize,
            max_per_host: config.max_stored_per_host.into(),
            max_per_network: config.max_stored_per_network.into(),
            max_ports: usize::from(config.max_stored_ports),
            max_nearby: usize::from(config.max_stored_nearby),
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

    /// Whether an announce of somebody at `ip` would be kept; where not, no token is given, so that
    /// the announcer turns to our neighbours. One that is kept may announce itself again, unless
    /// there is no room for anybody.
    #[must_use]
    pub fn has_room(&self, info_hash: &Id20, ip: IpAddr) -> bool {
        let distance = self.own.distance(info_hash);
        match self.torrents.get(&distance) {
            Some(peers) => {
                let host = security::host(ip);
                peers.len() < self.max_peers
                    && (self.has_share(peers, ip)
                        || peers
                            .iter()
                            .any(|peer| security::host(peer.addr.ip()) == host))
            }
            None => {
                let farther = || {
                    self.torrents
                        .keys()
                        .next_back()
                        .is_some_and(|last| distance < *last)
                };
                let places =
                    self.torrents.len() < self.max_torrents || (self.max_torrents > 0 && farther());
                places && self.has_share(&[], ip)
            }
        }
    }

    /// Whether one more of that address, besides `peers`, is within what its host and its network
    /// may have in all, and its network of one info-hash.
    fn has_share(&self, peers: &[Peer], ip: IpAddr) -> bool {
        if security::is_exempt(ip, self.lab) {
            return true;
        }
        let held = |counts: &BTreeMap<u128, u32>, key| counts.get(&key).copied().unwrap_or(0);
        let site = security::site(ip);
        let near = |peer: &&Peer| security::site(peer.addr.ip()) == site;
        held(&self.hosts, security::host(ip)) < self.max_per_host
            && held(&self.networks, site) < self.max_per_network
            // Few enough, and nobody need be counted.
            && (peers.len() < self.max_nearby
                || peers.iter().filter(near).count() < self.max_nearby)
    }

    /// Keeps a peer, `seed` if it has everything, or keeps it longer; false where a limit is in the way. `now` in seconds.
    pub fn announce(&mut self, info_hash: &Id20, addr: SocketAddr, seed: bool, now: u32) -> bool {
        let peer = Peer {
            addr,
            seed,
            expires: now.saturating_add(self.lifetime),
        };
        let distance = self.own.distance(info_hash);
        let ip = addr.ip();
        let peers = self.torrents.get_mut(&distance);
        let known = peers.and_then(|peers| peers.iter_mut().find(|known| known.addr == addr));
        if let Some(known) = known {
            *known = peer;
            return true;
        }
        // Another endpoint of a host that has all it may: the one it announced longest ago goes.
        if !security::is_exempt(ip, self.lab)
            && let Some(peers) = self.torrents.get_mut(&distance)
        {
            let host = security::host(ip);
            let same = |known: &Peer| security::host(known.addr.ip()) == host;
            if peers.iter().filter(|known| same(known)).count() >= self.max_ports {
                let same = peers.iter_mut().filter(|known| same(known));
                if let Some(oldest) = same.min_by_key(|known| known.expires) {
                    *oldest = peer;
                }
                return true;
            }
        }
        let peers = self.torrents.get(&distance).map_or(&[][..], Vec::as_slice);
        if !self.has_room(info_hash, ip) || !self.has_share(peers, ip) {
            return false;
        }
        if !self.torrents.contains_key(&distance)
            && self.torrents.len() >= self.max_torrents
            && let Some((_, peers)) = self.torrents.pop_last()
        {
            let (hosts, networks) = (&mut self.hosts, &mut self.networks);
            peers.iter().for_each(|peer| release(hosts, networks, peer));
        }
        self.torrents.entry(distance).or_default().push(peer);
        *self.hosts.entry(security::host(ip)).or_default() += 1;
        *self.networks.entry(security::site(ip)).or_default() += 1;
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

    /// The filters of the peers of an info-hash (BEP 33), if there are any. `now` in seconds.
    #[must_use]
    pub fn filters(&self, info_hash: &Id20, now: u32) -> Option<Filters> {
        if !self.has_peers(info_hash, now) {
            return None;
        }
        let mut filters = Filters::default();
        let peers = self.torrents.get(&self.own.distance(info_hash));
        for peer in peers
            .into_iter()
            .flatten()
            .filter(|peer| peer.expires > now)
        {
            let filter = if peer.seed {
                &mut filters.seeds
            } else {
                &mut filters.downloaders
            };
            filter.insert(peer.addr.ip());
        }
        Some(filters)
    }

    /// Up to `limit` info-hashes that have peers, each with the same chance. `now` in seconds.
    #[must_use]
    pub fn sample_hashes(&self, limit: usize, now: u32, choice: &mut Choice) -> Vec<Id20> {
        let mut left = self.count_hashes(now) as usize;
        let mut wanted = limit.min(left);
        let chosen = self.fresh_hashes(now).filter(|_| {
            let chosen = wanted > 0 && choice.index(left) < wanted;
            left -= 1;
            wanted -= usize::from(chosen);
            chosen
        });
        chosen.collect()
    }

    /// Info-hashes that have peers. `now` in seconds.
    #[must_use]
    pub fn count_hashes(&self, now: u32) -> u32 {
        self.fresh_hashes(now).count() as u32
    }

    fn fresh_hashes(&self, now: u32) -> impl Iterator<Item = Id20> + '_ {
        // The one announced last is most likely the last: few are looked at.
        let fresh = move |peers: &Vec<Peer>| peers.iter().rev().any(|peer| peer.expires > now);
        let fresh = self.torrents.iter().filter(move |(_, peers)| fresh(peers));
        fresh.map(|(distance, _)| Id20(self.own.distance(&Id20(distance.0)).0))
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
            let (hosts, networks) = (&mut self.hosts, &mut self.networks);
            peers.retain(|peer| {
                let fresh = peer.expires > now;
                if !fresh {
                    release(hosts, networks, peer);
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

fn release(hosts: &mut BTreeMap<u128, u32>, networks: &mut BTreeMap<u128, u32>, peer: &Peer) {
    let ip = peer.addr.ip();
    for (counts, key) in [(hosts, security::host(ip)), (networks, security::site(ip))] {
        if let Some(held) = counts.get_mut(&key) {
            *held -= 1;
            if *held == 0 {
                counts.remove(&key);
            }
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

    /// An address in a /24 of its own.
    fn addr(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0800_0000 + (n << 8)).into()), 6881)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn all(store: &Store, n: u32, now: u32) -> BTreeSet<SocketAddr> {
        store.sample(&hash(n), 1_000, now, &mut choice()).collect()
    }

    #[test]
    fn five_hundred_peers_are_kept_and_then_there_is_no_room() {
        let mut store = store();
        assert!((0..500).all(|n| store.announce(&hash(1), addr(n), false, 0)));
        assert!(!store.has_room(&hash(1), addr(500).ip()));
        assert!(!store.announce(&hash(1), addr(500), false, 0));
        assert!(store.announce(&hash(1), addr(3), false, 9));
        assert_eq!(all(&store, 1, 1).len(), 500);
    }

    #[test]
    fn two_thousand_info_hashes_are_kept_and_the_closer_one_wins() {
        let mut store = store();
        assert!((1..=2_000).all(|n| store.announce(&hash(n), addr(n), false, 0)));
        assert!(!store.has_room(&hash(2_001), addr(1).ip()));
        assert!(!store.announce(&hash(2_001), addr(1), false, 0));
        assert!(store.announce(&hash(0), addr(1), false, 0));
        assert_eq!((store.len(), all(&store, 2_000, 1).len()), (2_000, 0));
    }

    #[test]
    fn one_host_gets_a_few_ports_and_a_share_of_the_store() {
        let mut store = store();
        for port in 1..100 {
            assert!(store.announce(
                &hash(1),
                SocketAddr::new(addr(1).ip(), port),
                false,
                u32::from(port)
            ));
        }
        let kept = all(&store, 1, 1);
        assert_eq!(kept.len(), 8);
        assert!(kept.iter().all(|addr| addr.port() >= 92));
        let held = (2..1_000)
            .filter(|n| store.announce(&hash(*n), addr(1), false, 0))
            .count();
        assert_eq!(held, 92);
        assert!(!store.has_room(&hash(1_000), addr(1).ip()));
        assert!(store.has_room(&hash(1), addr(1).ip()));
        let local = at("127.0.0.1:1");
        assert!((1_000..1_500).all(|n| store.announce(&hash(n), local, false, 0)));
    }

    #[test]
    fn one_network_gets_a_share_of_an_info_hash_and_leaves_the_rest_to_others() {
        let mut store = store();
        let near = |n: u8| SocketAddr::from(([8, 8, 4, n], 1));
        let kept = (0..255).filter(|n| store.announce(&hash(1), near(*n), false, 0));
        assert_eq!(kept.count(), 16);
        let asks = |store: &Store, addr: SocketAddr| store.has_room(&hash(1), addr.ip());
        assert!(!asks(&store, near(99)) && asks(&store, near(3)));
        assert!(asks(&store, at("8.8.5.1:1")) && store.announce(&hash(1), near(3), false, 9));
        // Of IPv6 a host is a /64, and a network a /48.
        let mut store = self::store();
        let host = |n: u32| at(&std::format!("[2001:db8:1:1::{n:x}]:1"));
        assert!((1..500).all(|n| store.announce(&hash(1), host(n), false, n)));
        let kept = all(&store, 1, 1);
        assert_eq!(kept.len(), 8);
        assert!(kept.contains(&host(499)) && !kept.contains(&host(491)));
        let line = |n: u32| at(&std::format!("[2001:db8:1:{n:x}::1]:1"));
        let kept = (2..100).filter(|n| store.announce(&hash(1), line(*n), false, 0));
        assert_eq!(kept.count(), 8);
        assert!(!asks(&store, line(99)) && asks(&store, at("[2001:db8:2::1]:1")));
        // Loopback hosts are all in one network, and many.
        let mut store = self::store();
        let local = |n: u8| SocketAddr::from(([127, 0, 0, n], 1));
        assert!((0..255).all(|n| store.announce(&hash(1), local(n), false, 0)));
    }

    #[test]
    fn one_network_gets_a_share_of_the_store() {
        let mut store = store();
        let near = |n: u32| SocketAddr::from(([8, 8, 4, (n % 100) as u8], 1));
        let kept = (1..1_000).filter(|n| store.announce(&hash(*n), near(*n), false, 0));
        assert_eq!(kept.count(), 400);
        assert!(!store.has_room(&hash(999), near(1).ip()));
        assert!(store.announce(&hash(999), at("8.8.5.1:1"), false, 0));
        for _ in 0..100 {
            store.sweep(9_999, 16);
        }
        assert!(store.networks.is_empty() && store.announce(&hash(1), near(1), false, 9_999));
    }

    #[test]
    fn more_are_kept_of_a_near_host_than_sixteen_bits_count() {
        let mut store = store();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let all = (1..=140).flat_map(|n| (1..=500).map(move |port| (n, port)));
        assert!(
            all.into_iter()
                .all(|(n, port)| store.announce(&hash(n), local(port), false, 0))
        );
        assert_eq!(store.hosts.values().sum::<u32>(), 70_000);
    }

    #[test]
    fn a_peer_is_forgotten_after_its_lifetime() {
        let mut store = store();
        for n in 0..100 {
            store.announce(&hash(n), addr(n), false, n);
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
        assert!(store.is_empty() && store.hosts.is_empty() && store.networks.is_empty());
    }

    #[test]
    fn a_sample_is_fair_and_of_the_size_asked_for() {
        let mut store = store();
        for n in 0..300 {
            store.announce(&hash(1), addr(n), false, 0);
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
        store.announce(&hash(7), addr(1), false, 0);
        store.set_own(hash(99));
        assert_eq!(all(&store, 7, 1).len(), 1);
    }
}
