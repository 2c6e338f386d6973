//! Nodes heard of that wait to be pinged.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use super::security;
use crate::config::{Crowding, DhtConfig};
use crate::id::NodeId;

/// Its turn, and a number that keeps the order of one turn.
type Place = (u64, u64);

/// Nodes heard of, each endpoint once.
///
/// In each turn one node of every network is pinged that has any, so that whoever names a great
/// many of one network holds up nobody else. In one turn, who came first is first. A full list
/// gives up its last node for one whose turn is earlier.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: BTreeMap<Place, (SocketAddr, Option<NodeId>)>,
    places: BTreeMap<SocketAddr, Place>,
    networks: BTreeMap<u128, Network>,
    /// The present turn.
    turn: u64,
    number: u64,
    /// The place of the one taken out last.
    taken: Place,
    max: usize,
    share: Crowding,
    lab: bool,
}

/// The nodes of one network: /24 of IPv4, /64 of IPv6.
#[derive(Debug)]
struct Network {
    nodes: usize,
    /// The turn after which the next one has its own.
    last: u64,
}

impl Waiting {
    pub(super) fn new(config: &DhtConfig, lab: bool) -> Self {
        Self {
            queue: BTreeMap::new(),
            places: BTreeMap::new(),
            networks: BTreeMap::new(),
            turn: 0,
            number: 0,
            taken: (0, 0),
            max: usize::from(config.max_waiting_nodes),
            share: config.waiting_crowding,
            lab,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// All of them, in the order in which they will be pinged.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(SocketAddr, Option<NodeId>)> + Clone {
        self.queue.values()
    }

    /// Lets a node wait for its turn; false when it waits already, or too many do.
    pub(super) fn push(&mut self, addr: SocketAddr, id: Option<NodeId>) -> bool {
        if self.places.contains_key(&addr) || !self.has_share_for(addr.ip()) {
            return false;
        }
        let network = self.networks.get(&security::network(addr.ip()));
        let last = network.map_or(self.turn, |network| network.last.max(self.turn));
        let place = (last + 1, self.number + 1);
        if self.queue.len() >= self.max {
            match self.queue.last_key_value() {
                Some((last, _)) if *last > place => self.remove(*last),
                _ => return false,
            };
        }
        self.number += 1;
        self.insert(place, addr, id);
        true
    }

    /// Puts the one taken out last back to where it was.
    pub(super) fn put_back(&mut self, addr: SocketAddr, id: Option<NodeId>) {
        if !self.places.contains_key(&addr) && !self.queue.contains_key(&self.taken) {
            self.insert(self.taken, addr, id);
        }
    }

    /// Takes out the next one whose family is usable.
    pub(super) fn pop(
        &mut self,
        usable: impl Fn(SocketAddr) -> bool,
    ) -> Option<(SocketAddr, Option<NodeId>)> {
        let mut places = self.queue.iter();
        let (place, _) = places.find(|(_, (addr, _))| usable(*addr))?;
        self.taken = *place;
        self.turn = self.turn.max(place.0);
        self.remove(self.taken)
    }

    fn has_share_for(&self, ip: IpAddr) -> bool {
        if security::is_exempt(ip, self.lab) {
            return true;
        }
        let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let of_address = self.places.range(ports).count();
        let network = self.networks.get(&security::network(ip));
        of_address < usize::from(self.share.per_address)
            && network.is_none_or(|network| network.nodes < usize::from(self.share.per_network))
    }

    fn insert(&mut self, place: Place, addr: SocketAddr, id: Option<NodeId>) {
        let network = self.networks.entry(security::network(addr.ip()));
        let network = network.or_insert(Network { nodes: 0, last: 0 });
        network.nodes += 1;
        network.last = network.last.max(place.0);
        self.places.insert(addr, place);
        self.queue.insert(place, (addr, id));
    }

    fn remove(&mut self, place: Place) -> Option<(SocketAddr, Option<NodeId>)> {
        let (addr, id) = self.queue.remove(&place)?;
        self.places.remove(&addr);
        let key = security::network(addr.ip());
        if let Some(network) = self.networks.get_mut(&key) {
            network.nodes -= 1;
            if network.last == place.0 {
                network.last -= 1;
            }
            if network.nodes == 0 {
                self.networks.remove(&key);
            }
        }
        Some((addr, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    fn waiting(max: u16) -> Waiting {
        let config = DhtConfig {
            max_waiting_nodes: max,
            waiting_crowding: Crowding {
                per_address: 3,
                per_network: 5,
            },
            ..DhtConfig::default()
        };
        Waiting::new(&config, false)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn in_order(waiting: &mut Waiting) -> Vec<SocketAddr> {
        let pop = || waiting.pop(|_| true).map(|(addr, _)| addr);
        core::iter::from_fn(pop).collect()
    }

    #[test]
    fn an_address_and_a_network_have_their_share_and_loopback_all_it_wants() {
        let mut waiting = waiting(1_000);
        let mut ports = |ip: &str| {
            let at = |port| SocketAddr::new(ip.parse().unwrap(), port);
            (1..=40)
                .filter(|port| waiting.push(at(*port), None))
                .count()
        };
        assert_eq!(
            (ports("8.8.4.1"), ports("8.8.4.2"), ports("8.8.4.3")),
            (3, 2, 0)
        );
        assert_eq!((ports("8.8.5.1"), ports("127.0.0.1")), (3, 40));
        assert_eq!((ports("2001:db8::1"), ports("2001:db8::2")), (3, 2));
        assert_eq!((ports("2001:db8::3"), ports("2001:db8:0:1::3")), (0, 3));
    }

    #[test]
    fn networks_are_served_in_turn_and_who_came_first_first() {
        let mut waiting = waiting(1_000);
        let many = ["8.8.4.1:1", "8.8.4.2:1", "8.8.4.3:1"].map(addr);
        let others = ["8.8.5.1:1", "8.8.6.1:1"].map(addr);
        many.iter().chain(&others).for_each(|addr| {
            assert!(waiting.push(*addr, None) && !waiting.push(*addr, None));
        });
        let [a, b, c] = many;
        let [d, e] = others;
        assert_eq!(waiting.pop(|_| true), Some((a, None)));
        // Whoever comes now waits for the next turn, even if its network had none in this one.
        let late = addr("8.8.7.1:1");
        assert!(waiting.push(late, None));
        assert_eq!(in_order(&mut waiting), [d, e, b, late, c]);
    }

    #[test]
    fn who_comes_again_and_again_holds_up_nobody() {
        let mut waiting = waiting(1_000);
        let [a, b, c] = ["8.8.4.1:1", "8.8.4.2:1", "8.8.4.3:1"].map(addr);
        [a, b, c]
            .iter()
            .for_each(|addr| assert!(waiting.push(*addr, None)));
        let again = addr("8.8.5.1:1");
        let mut served = Vec::new();
        for _ in 0..6 {
            waiting.push(again, None);
            served.push(waiting.pop(|_| true).unwrap().0);
        }
        assert_eq!(served, [a, again, b, again, c, again]);
    }

    #[test]
    fn a_full_list_gives_up_its_last_for_one_of_another_network() {
        let mut waiting = waiting(4);
        for n in 1..=4 {
            assert!(waiting.push(SocketAddr::from(([8, 8, 4, n], 1)), None));
        }
        assert!(!waiting.push(addr("8.8.4.5:1"), None));
        assert!(waiting.push(addr("8.8.5.1:1"), None));
        assert!(waiting.push(addr("8.8.6.1:1"), None));
        assert!(!waiting.push(addr("8.8.5.2:1"), None));
        let left = ["8.8.4.1:1", "8.8.5.1:1", "8.8.6.1:1", "8.8.4.2:1"].map(addr);
        assert_eq!(in_order(&mut waiting), left);
        assert!(waiting.networks.is_empty() && waiting.places.is_empty());
    }

    #[test]
    fn one_put_back_is_the_next_and_another_family_does_not_wait_for_it() {
        let mut waiting = waiting(10);
        let (four, six) = (addr("8.8.4.1:1"), addr("[2001:db8::1]:1"));
        waiting.push(four, None);
        waiting.push(six, None);
        assert_eq!(waiting.pop(|addr| addr.is_ipv6()), Some((six, None)));
        waiting.put_back(six, None);
        assert_eq!(in_order(&mut waiting), [four, six]);
    }

    quickcheck! {
        fn counts_agree_whatever_comes_and_goes(steps: Vec<(u8, u8, bool)>) -> bool {
            let mut waiting = waiting(12);
            for (network, host, pops) in steps {
                if pops {
                    if let Some((addr, id)) = waiting.pop(|_| true)
                        && host % 2 == 0
                    {
                        waiting.put_back(addr, id);
                    }
                } else {
                    let ip = [8, 8, network % 4, host % 3];
                    waiting.push(SocketAddr::from((ip, u16::from(host))), None);
                }
                let counted: usize = waiting.networks.values().map(|network| network.nodes).sum();
                let agree = counted == waiting.len() && waiting.places.len() == waiting.len();
                let bounded = waiting.len() <= 12
                    && waiting.networks.values().all(|network| (1..=5).contains(&network.nodes));
                if !agree || !bounded {
                    return false;
                }
            }
            in_order(&mut waiting);
            waiting.networks.is_empty()
        }
    }
}
