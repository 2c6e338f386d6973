//! How many of something each address and each network has.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::config::Crowding;
use crate::dht::security::{is_exempt, network};

/// Counts by address and by network: /24 of IPv4, /64 of IPv6.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd {
    addresses: BTreeMap<IpAddr, u32>,
    networks: BTreeMap<u128, u32>,
}

impl Crowd {
    pub(crate) fn add(&mut self, ip: IpAddr) {
        *self.addresses.entry(ip).or_default() += 1;
        *self.networks.entry(network(ip)).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, ip: IpAddr) {
        take_one(&mut self.addresses, ip);
        take_one(&mut self.networks, network(ip));
    }

    /// Whether one more from `ip` is within `limit`; `others` are counted as well. Loopback is
    /// exempt, and in a `lab` private addresses are.
    pub(crate) fn admits(&self, ip: IpAddr, limit: Crowding, lab: bool, others: &[&Self]) -> bool {
        let all = || others.iter().copied().chain([self]);
        let address = || all().map(|crowd| count(&crowd.addresses, ip)).sum::<u32>();
        let nearby = || {
            all()
                .map(|crowd| count(&crowd.networks, network(ip)))
                .sum::<u32>()
        };
        is_exempt(ip, lab)
            || (address() < u32::from(limit.per_address) && nearby() < u32::from(limit.per_network))
    }
}

fn count<K: Ord>(counts: &BTreeMap<K, u32>, key: K) -> u32 {
    counts.get(&key).copied().unwrap_or(0)
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use quickcheck::quickcheck;

    const LIMIT: Crowding = Crowding {
        per_address: 2,
        per_network: 3,
    };

    #[test]
    fn addresses_and_networks_have_their_share_and_near_ones_are_exempt() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut crowd = Crowd::default();
        let admits = |crowd: &Crowd, text: &str, lab| crowd.admits(ip(text), LIMIT, lab, &[]);
        for (address, fits) in [
            ("1.2.3.4", true),
            ("1.2.3.4", true),
            ("1.2.3.4", false),
            ("1.2.3.5", true),
            ("1.2.3.6", false),
            ("1.2.4.6", true),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::3", true),
            ("2001:db8::4", false),
            ("2001:db8:0:1::4", true),
        ] {
            assert_eq!(admits(&crowd, address, false), fits, "{address}");
            if fits {
                crowd.add(ip(address));
            }
        }
        assert!(!crowd.admits(ip("1.2.4.6"), LIMIT, false, &[&crowd]));
        for _ in 0..10 {
            crowd.add(ip("127.0.0.1"));
            crowd.add(ip("10.0.0.1"));
        }
        assert!(admits(&crowd, "127.0.0.1", false));
        assert!(admits(&crowd, "10.0.0.1", true));
        assert!(!admits(&crowd, "10.0.0.1", false));
    }

    quickcheck! {
        fn whoever_left_is_not_counted(ips: Vec<u32>) -> bool {
            let mut crowd = Crowd::default();
            let all: Vec<IpAddr> = ips.iter().map(|ip| IpAddr::from(ip.to_be_bytes())).collect();
            all.iter().for_each(|ip| crowd.add(*ip));
            all.iter().for_each(|ip| crowd.remove(*ip));
            crowd.remove(IpAddr::from([1, 1, 1, 1]));
            crowd.addresses.is_empty() && crowd.networks.is_empty()
        }
    }
}
