//! Who has which address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Where packets to an endpoint go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// To that host, to the socket of that number.
    Host(u32, u8),
    /// To the translators in front of that host.
    Nat(u32),
}

/// All addresses at which somebody can be reached. Only looked up, so the order of the hash map
/// shows nowhere.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    endpoints: HashMap<SocketAddr, (u32, u8), Quick>,
    /// Endpoints of each address.
    counts: HashMap<IpAddr, u32, Quick>,
    /// By address and first port: the last one, and whose they are.
    ranges: BTreeMap<(IpAddr, u16), (u16, u32)>,
}

/// A hash of few instructions, the same in every process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quick;

impl std::hash::BuildHasher for Quick {
    type Hasher = QuickHasher;
    fn build_hasher(&self) -> QuickHasher {
        QuickHasher(0)
    }
}

pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    fn take(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl std::hash::Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.take(u64::from_le_bytes(word));
        }
    }
    fn write_u16(&mut self, number: u16) {
        self.take(number.into());
    }
    fn write_u32(&mut self, number: u32) {
        self.take(number.into());
    }
    fn write_u64(&mut self, number: u64) {
        self.take(number);
    }
    fn write_usize(&mut self, number: usize) {
        self.take(number as u64);
    }
    fn write_isize(&mut self, number: isize) {
        self.take(number as u64);
    }
}

impl Directory {
    /// Who gets packets to `addr`.
    pub(crate) fn find(&self, addr: SocketAddr) -> Option<Whose> {
        if let Some((host, socket)) = self.endpoints.get(&addr) {
            return Some(Whose::Host(*host, *socket));
        }
        if self.ranges.is_empty() {
            return None;
        }
        let upto = (addr.ip(), addr.port());
        let ((ip, _), (last, host)) = self.ranges.range(..=upto).next_back()?;
        (*ip == addr.ip() && addr.port() <= *last).then_some(Whose::Nat(*host))
    }

    /// Gives an endpoint to a host; false when somebody else can be reached there.
    pub(crate) fn add(&mut self, addr: SocketAddr, host: u32, socket: u8) -> bool {
        let free = self.find(addr).is_none();
        if free {
            self.endpoints.insert(addr, (host, socket));
            *self.counts.entry(addr.ip()).or_default() += 1;
        }
        free
    }

    pub(crate) fn remove(&mut self, addr: SocketAddr, host: u32) {
        if self.endpoints.get(&addr).is_some_and(|(it, _)| *it == host) {
            self.endpoints.remove(&addr);
            if let Some(count) = self.counts.get_mut(&addr.ip()) {
                *count -= 1;
            }
        }
    }

    /// Gives the ports of a translator to the host behind it; false when some are taken.
    pub(crate) fn add_range(&mut self, ip: IpAddr, ports: &RangeInclusive<u16>, host: u32) -> bool {
        let (first, last) = (*ports.start(), *ports.end());
        let before = self.ranges.range(..=(ip, last)).next_back();
        let taken = before.is_some_and(|((other, _), (end, _))| *other == ip && *end >= first);
        let any = self.counts.get(&ip).is_some_and(|count| *count > 0);
        let of_hosts = |port| self.endpoints.contains_key(&SocketAddr::new(ip, port));
        if taken || (any && ports.clone().any(of_hosts)) {
            return false;
        }
        self.ranges.insert((ip, first), (last, host));
        true
    }

    /// Whether that host has the ports from there on.
    pub(crate) fn has_range(&self, first: (IpAddr, u16), host: u32) -> bool {
        self.ranges.get(&first).is_some_and(|(_, it)| *it == host)
    }

    pub(crate) fn remove_range(&mut self, ip: IpAddr, first: u16, host: u32) {
        if self
            .ranges
            .get(&(ip, first))
            .is_some_and(|(_, it)| *it == host)
        {
            self.ranges.remove(&(ip, first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_ports_of_translators_are_told_apart() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut directory = Directory::default();
        assert!(directory.add(addr("1.1.1.1:6881"), 1, 0));
        assert!(!directory.add(addr("1.1.1.1:6881"), 2, 0));
        assert!(directory.add(addr("[2001:db8::1]:6881"), 1, 1));
        let ip = addr("9.9.9.9:0").ip();
        assert!(directory.add_range(ip, &(2_000..=2_999), 3));
        assert!(directory.add_range(ip, &(3_000..=3_999), 4));
        assert!(!directory.add_range(ip, &(2_500..=2_600), 5));
        assert!(!directory.add_range(ip, &(1_000..=2_000), 5));
        assert!(!directory.add_range(addr("1.1.1.1:0").ip(), &(6_000..=7_000), 5));
        let find = |text| directory.find(addr(text));
        assert_eq!(find("1.1.1.1:6881"), Some(Whose::Host(1, 0)));
        assert_eq!(find("[2001:db8::1]:6881"), Some(Whose::Host(1, 1)));
        assert_eq!(find("9.9.9.9:2999"), Some(Whose::Nat(3)));
        assert_eq!(find("9.9.9.9:3000"), Some(Whose::Nat(4)));
        assert_eq!((find("9.9.9.9:4000"), find("9.9.9.8:2500")), (None, None));
        directory.remove(addr("1.1.1.1:6881"), 2);
        assert!(directory.find(addr("1.1.1.1:6881")).is_some());
        directory.remove(addr("1.1.1.1:6881"), 1);
        directory.remove_range(ip, 2_000, 3);
        assert_eq!(directory.find(addr("1.1.1.1:6881")), None);
        assert_eq!(directory.find(addr("9.9.9.9:2999")), None);
    }
}
