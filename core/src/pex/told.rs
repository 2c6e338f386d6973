//! What one peer told, within its limits.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::compact::is_undialable;
use crate::config::PexConfig;
use crate::dht::security::{can_refer, is_exempt};
use crate::time::Instant;

/// The endpoints one peer told of and did not take back, and how often it spoke.
///
/// Every connection has one: endpoints are kept in 6 and 18 bytes each.
#[derive(Debug, Default)]
pub struct Told {
    v4: Sorted<Ipv4Addr>,
    v6: Sorted<Ipv6Addr>,
    /// When it spoke, within the last `budget_window`; the first message is free.
    spoke: VecDeque<Instant>,
    greeted: bool,
}

/// Endpoints in order.
#[derive(Debug)]
struct Sorted<A>(Vec<(A, u16)>);

impl<A> Default for Sorted<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: Ord + Copy> Sorted<A> {
    fn insert(&mut self, ip: A, port: u16) -> bool {
        let at = self.0.binary_search(&(ip, port));
        at.map_err(|at| self.0.insert(at, (ip, port))).is_err()
    }

    fn remove(&mut self, ip: A, port: u16) -> bool {
        let at = self.0.binary_search(&(ip, port));
        at.map(|at| self.0.remove(at)).is_ok()
    }

    /// Whether any port of it is there.
    fn has(&self, ip: A) -> bool {
        let at = self.0.partition_point(|(other, _)| *other < ip);
        self.0.get(at).is_some_and(|(other, _)| *other == ip)
    }
}

impl Told {
    /// Counts a message; `false` when there were too many.
    pub fn may_speak(&mut self, config: &PexConfig, now: Instant) -> bool {
        if !core::mem::replace(&mut self.greeted, true) {
            return true;
        }
        while let Some(first) = self.spoke.front()
            && now.saturating_since(*first) >= config.budget_window
        {
            self.spoke.pop_front();
        }
        if self.spoke.len() >= usize::from(config.max_messages) {
            return false;
        }
        self.spoke.push_back(now);
        true
    }

    /// Remembers an endpoint that the peer at `from` tells of; `false` when it is not believed,
    /// not new, or one too many.
    ///
    /// Nobody far away can tell of what is near us, and of one address only one port is taken:
    /// else whoever wishes somebody ill could have us and many others knock at every port of it.
    pub fn add(&mut self, config: &PexConfig, lab: bool, from: IpAddr, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        if self.v4.0.len() + self.v6.0.len() >= usize::from(config.max_remembered)
            || is_undialable(addr)
            || !can_refer(from, ip)
        {
            return false;
        }
        let known = match ip {
            IpAddr::V4(ip) => self.v4.has(ip),
            IpAddr::V6(ip) => self.v6.has(ip),
        };
        if known && !is_exempt(ip, lab) {
            return false;
        }
        match ip {
            IpAddr::V4(ip) => self.v4.insert(ip, addr.port()),
            IpAddr::V6(ip) => self.v6.insert(ip, addr.port()),
        }
    }

    /// The peer takes an endpoint back; `false` when it had not told of it.
    pub fn remove(&mut self, addr: SocketAddr) -> bool {
        match addr.ip() {
            IpAddr::V4(ip) => self.v4.remove(ip, addr.port()),
            IpAddr::V6(ip) => self.v6.remove(ip, addr.port()),
        }
    }

    /// The endpoints it told of.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let v4 = self.v4.0.iter().copied().map(SocketAddr::from);
        v4.chain(self.v6.0.iter().copied().map(SocketAddr::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000 + 1)
    }

    #[test]
    fn six_messages_a_minute_after_the_first_and_not_one_more() {
        let config = PexConfig::default();
        let mut told = Told::default();
        for second in 0..=6 {
            assert!(told.may_speak(&config, at(second)), "second {second}");
        }
        assert!(!told.may_speak(&config, at(60)));
        // The one of second 1 is a minute ago.
        assert!(told.may_speak(&config, at(61)));
        assert!(!told.may_speak(&config, at(61)));
        // Once in ten seconds for ever is fine.
        let mut told = Told::default();
        assert!((0..1_000).all(|n| told.may_speak(&config, at(n * 10))));
        assert!(told.spoke.len() <= usize::from(config.max_messages));
    }

    #[test]
    fn fifty_endpoints_are_remembered_and_room_is_made_by_taking_back() {
        let config = PexConfig::default();
        let mut told = Told::default();
        let from = [16, 0, 0, 1].into();
        let far = |n: u8| SocketAddr::from(([17, 0, n, 1], 6881));
        let taken = (0..200).filter(|n| told.add(&config, false, from, far(*n)));
        assert_eq!(taken.count(), 50);
        assert!(told.remove(far(3)) && !told.remove(far(3)));
        assert!(told.add(&config, false, from, far(100)));
        assert!(!told.add(&config, false, from, far(101)));
        assert_eq!(told.endpoints().count(), 50);
    }

    #[test]
    fn endpoints_come_in_order_without_doubles() {
        let config = PexConfig::default();
        let mut told = Told::default();
        let [a, b, c, d]: [SocketAddr; 4] =
            ["10.0.0.2:7", "10.0.0.2:6", "[fd00::1]:9", "10.0.0.1:9"].map(|a| a.parse().unwrap());
        for addr in [a, b, c, d, a, c] {
            told.add(&config, true, [10, 0, 0, 9].into(), addr);
        }
        let all: Vec<_> = told.endpoints().collect();
        assert_eq!(all, [d, b, a, c]);
        assert!(told.remove(c) && !told.remove(c) && told.remove(b));
        assert_eq!(told.endpoints().collect::<Vec<_>>(), [d, a]);
    }

    #[test]
    fn one_port_of_an_address_and_nothing_that_is_nearer_than_who_tells() {
        let config = PexConfig::default();
        let add = |told: &mut Told, from: &str, about: &str, lab| {
            told.add(&config, lab, from.parse().unwrap(), about.parse().unwrap())
        };
        let mut told = Told::default();
        for (from, about, taken) in [
            ("16.0.0.1", "17.0.0.1:1", true),
            ("16.0.0.1", "17.0.0.1:2", false),
            ("16.0.0.1", "17.0.0.2:2", true),
            ("16.0.0.1", "17.0.0.3:0", false),
            ("16.0.0.1", "224.0.0.1:1", false),
            ("16.0.0.1", "0.0.0.0:1", false),
            ("16.0.0.1", "127.0.0.1:1", false),
            ("16.0.0.1", "10.0.0.1:1", false),
            ("16.0.0.1", "[::1]:1", false),
            ("16.0.0.1", "[fe80::1]:1", false),
            ("16.0.0.1", "[fd00::1]:1", false),
            ("16.0.0.1", "[2001:db8::1]:1", true),
            ("192.168.0.1", "127.0.0.2:1", false),
            ("192.168.0.1", "10.0.0.2:1", true),
            ("192.168.0.1", "10.0.0.2:2", false),
            ("127.0.0.1", "127.0.0.1:1", true),
            ("127.0.0.1", "127.0.0.1:2", true),
            ("127.0.0.1", "10.0.0.3:1", true),
        ] {
            assert_eq!(add(&mut told, from, about, false), taken, "{from} {about}");
        }
        // In a lab private addresses are like any others of different hosts.
        assert!(add(&mut told, "10.0.0.1", "10.0.0.2:3", true));
        assert!(!add(&mut told, "16.0.0.1", "17.0.0.1:3", true));
    }
}
