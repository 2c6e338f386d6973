//! The items that others had us keep (BEP 44), of one address family.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::IpAddr;

use super::item::Item;
use super::security;
use crate::config::DhtConfig;
use crate::id::{Distance, Id20, NodeId};

#[derive(Debug, Clone)]
struct Kept {
    item: Arc<Item>,
    /// Who had it kept first.
    owner: IpAddr,
    expires: u32,
}

/// Why an item is not taken in the place of the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The one that is there has another sequence number than the one to be replaced.
    Cas,
    /// The one that is there is newer, or as old and another.
    Old,
}

/// Items by target.
///
/// Like announced peers they are kept by their distance from our id: a full store gives up the
/// farthest for a closer one.
#[derive(Debug)]
pub struct Items {
    own: NodeId,
    items: BTreeMap<Distance, Kept>,
    max_items: usize,
    max_per_host: usize,
    max_per_network: usize,
    lifetime: u32,
    lab: bool,
}

impl Items {
    /// An empty store of a node that is `own`.
    #[must_use]
    pub fn new(own: NodeId, config: &DhtConfig, lab: bool) -> Self {
        Self {
            own,
            items: BTreeMap::new(),
            max_items: usize::from(config.max_items),
            max_per_host: usize::from(config.max_items_per_host),
            max_per_network: usize::from(config.max_items_per_network),
            lifetime: u32::try_from(config.item_lifetime.as_secs()).unwrap_or(u32::MAX),
            lab,
        }
    }

    /// Our id changed, and with it what is far.
    pub fn set_own(&mut self, own: NodeId) {
        let old = core::mem::replace(&mut self.own, own);
        let items = core::mem::take(&mut self.items);
        for (distance, kept) in items {
            let target = Id20(old.distance(&Id20(distance.0)).0);
            self.items.insert(own.distance(&target), kept);
        }
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The item of a target. `now` in seconds.
    #[must_use]
    pub fn find(&self, target: &Id20, now: u32) -> Option<&Arc<Item>> {
        let kept = self.items.get(&self.own.distance(target))?;
        (kept.expires > now).then_some(&kept.item)
    }

    /// Whether an item of somebody at `ip` would be kept; where not, no token is given, so that it
    /// goes to our neighbours.
    #[must_use]
    pub fn has_room(&self, target: &Id20, ip: IpAddr) -> bool {
        let distance = self.own.distance(target);
        if self.items.contains_key(&distance) {
            return true;
        }
        let farthest = self.items.keys().next_back();
        let place = self.items.len() < self.max_items
            || (self.max_items > 0 && farthest.is_some_and(|farthest| distance < *farthest));
        place && self.has_share(ip)
    }

    /// Whether one more is within what the host and the network of `ip` may have.
    fn has_share(&self, ip: IpAddr) -> bool {
        if security::is_exempt(ip, self.lab) {
            return true;
        }
        let (host, site) = (security::host(ip), security::site(ip));
        let (mut of_host, mut of_site) = (0, 0);
        for kept in self.items.values() {
            of_host += usize::from(security::host(kept.owner) == host);
            of_site += usize::from(security::site(kept.owner) == site);
        }
        of_host < self.max_per_host && of_site < self.max_per_network
    }

    /// Whether `item` may take the place of what is there; `cas` is the sequence number that is to
    /// be replaced. `now` in seconds.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, item: &Item, cas: Option<i64>, now: u32) -> Result<(), Conflict> {
        let there = self.find(&item.target(), now);
        let Some((there, known)) = there.and_then(|there| Some((there, there.seq()?))) else {
            return Ok(());
        };
        if cas.is_some_and(|cas| cas != known) {
            return Err(Conflict::Cas);
        }
        let seq = item.seq().unwrap_or(known);
        let older = seq < known || (seq == known && item.value() != there.value());
        if older { Err(Conflict::Old) } else { Ok(()) }
    }

    /// Keeps an item that was found authentic and checked, or keeps it longer; false where a limit
    /// is in the way. `now` in seconds.
    pub fn keep(&mut self, item: Arc<Item>, ip: IpAddr, now: u32) -> bool {
        let target = item.target();
        if !self.has_room(&target, ip) {
            return false;
        }
        let distance = self.own.distance(&target);
        let expires = now.saturating_add(self.lifetime);
        if let Some(kept) = self.items.get_mut(&distance) {
            (kept.item, kept.expires) = (item, expires);
            return true;
        }
        if self.items.len() >= self.max_items {
            self.items.pop_last();
        }
        let owner = ip;
        let kept = Kept {
            item,
            owner,
            expires,
        };
        self.items.insert(distance, kept);
        true
    }

    /// Forgets what has expired. `now` in seconds.
    pub fn sweep(&mut self, now: u32) {
        self.items.retain(|_, kept| kept.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::dht::item::{Signed, bencoded};
    use bytes::Bytes;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    fn items(max: u16) -> Items {
        let mut config = Config::default().dht;
        config.max_items = max;
        Items::new(NodeId::default(), &config, false)
    }

    fn text(n: u32) -> Arc<Item> {
        Arc::new(Item::text(&n.to_be_bytes()).unwrap())
    }

    fn signed(key: u8, seq: i64, text: &[u8]) -> Arc<Item> {
        let signed = Signed {
            key: [key; 32],
            signature: [0; 64],
            seq,
            salt: Bytes::new(),
        };
        Arc::new(Item::mutable(bencoded(text), signed).unwrap())
    }

    /// An address in a /24 of its own.
    fn ip(n: u32) -> IpAddr {
        IpAddr::V4((0x0800_0000 + (n << 8)).into())
    }

    #[test]
    fn seven_hundred_are_kept_and_the_closest_of_all() {
        let mut items = Items::new(NodeId::default(), &Config::default().dht, false);
        let mut targets: Vec<_> = (0..2_000).map(|n| text(n).target()).collect();
        for n in 0..2_000 {
            let room = items.has_room(&text(n).target(), ip(n));
            assert_eq!(items.keep(text(n), ip(n), 0), room);
            assert!(items.len() <= 700);
        }
        targets.sort_unstable();
        assert!(targets[..700].iter().all(|t| items.find(t, 1).is_some()));
        assert!(!items.has_room(&targets[700], ip(1)));
        // One that is there is kept longer, whoever asks for it.
        let known = items.find(&targets[3], 1).cloned().unwrap();
        assert!(items.keep(known, ip(9_999), 100));
        items.sweep(7_200);
        assert_eq!(
            (items.len(), items.find(&targets[3], 7_299).is_some()),
            (1, true)
        );
        assert!(items.find(&targets[3], 7_300).is_none());
        items.sweep(7_300);
        assert!(items.is_empty());
    }

    #[test]
    fn one_host_and_one_network_get_a_share() {
        let mut store = items(700);
        let kept = (0..700).filter(|n| store.keep(text(*n), ip(1), 0));
        assert_eq!(kept.count(), 50);
        let near = |n: u32| IpAddr::from([8, 8, 4, n as u8]);
        let kept = (700..1_400).filter(|n| store.keep(text(*n), near(n % 100), 0));
        assert_eq!(kept.count(), 200);
        assert!(store.keep(text(9_999), ip(2), 0));
        let mut store = items(700);
        let local = IpAddr::from([127, 0, 0, 1]);
        assert!((0..700).all(|n| store.keep(text(n), local, 0)));
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let mut items = items(0);
        assert!(!items.has_room(&text(1).target(), ip(1)));
        assert!(!items.keep(text(1), ip(1), 0));
    }

    #[test]
    fn sequence_numbers_and_what_is_to_be_replaced_are_checked() {
        let mut items = items(700);
        let first = signed(1, 5, b"a");
        // Nothing is there: nothing to be compared with.
        assert_eq!(items.check(&first, Some(3), 0), Ok(()));
        assert!(items.keep(first.clone(), ip(1), 0));
        assert_eq!(items.check(&first, None, 1), Ok(()));
        assert_eq!(
            items.check(&signed(1, 5, b"b"), None, 1),
            Err(Conflict::Old)
        );
        assert_eq!(
            items.check(&signed(1, 4, b"b"), None, 1),
            Err(Conflict::Old)
        );
        assert_eq!(items.check(&signed(1, 6, b"b"), None, 1), Ok(()));
        assert_eq!(items.check(&signed(1, 6, b"b"), Some(5), 1), Ok(()));
        assert_eq!(
            items.check(&signed(1, 6, b"b"), Some(4), 1),
            Err(Conflict::Cas)
        );
        assert_eq!(items.check(&signed(2, 1, b"b"), Some(4), 1), Ok(()));
        assert_eq!(items.check(&signed(1, 1, b"b"), Some(4), 7_200), Ok(()));
    }

    #[test]
    fn another_own_id_keeps_the_items() {
        let mut items = items(700);
        items.keep(text(1), ip(1), 0);
        items.set_own(Id20([0x5a; 20]));
        assert_eq!(items.find(&text(1).target(), 1), Some(&text(1)));
    }

    quickcheck! {
        fn the_highest_sequence_number_stays(puts: Vec<(u8, u8)>) -> bool {
            let mut items = items(3);
            let mut highest = [None; 2];
            for (key, seq) in puts {
                let (key, seq) = (key % 2, i64::from(seq));
                let item = signed(key, seq, b"x");
                if items.check(&item, None, 1).is_ok() {
                    items.keep(item, ip(1), 0);
                    highest[usize::from(key)] = Some(seq);
                }
                let kept = |key: u8| {
                    let target = signed(key, 0, b"x").target();
                    items.find(&target, 1).and_then(|item| item.seq())
                };
                if [kept(0), kept(1)] != highest || highest[usize::from(key)] < Some(seq) {
                    return false;
                }
            }
            true
        }
    }
}
