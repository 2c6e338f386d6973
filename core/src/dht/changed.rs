//! Hosts whose node was known by one id and answered with another.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use super::security;
use crate::config::DhtConfig;

#[derive(Debug, Clone, Copy)]
struct Change {
    /// Seconds.
    at: u32,
    /// Not the first lately.
    again: bool,
}

/// Who changed its id lately, so that whoever does it all the time is left out.
///
/// Once is a restart or an id that follows the address (BEP 42). The oldest change is forgotten
/// for a newer one when there are too many.
#[derive(Debug)]
pub(super) struct Changed {
    hosts: BTreeMap<u128, Change>,
    max: usize,
    /// Seconds.
    pause: u32,
    lab: bool,
}

impl Changed {
    pub(super) fn new(config: &DhtConfig, lab: bool) -> Self {
        Self {
            hosts: BTreeMap::new(),
            max: usize::from(config.max_changed_nodes),
            pause: u32::try_from(config.id_change_pause.as_secs()).unwrap_or(u32::MAX),
            lab,
        }
    }

    /// Counts a change. `now` in seconds.
    pub(super) fn note(&mut self, ip: IpAddr, now: u32) {
        if security::is_exempt(ip, self.lab) {
            return;
        }
        let host = security::host(ip);
        let again = self.is_recent(host, now);
        if !self.hosts.contains_key(&host) && self.hosts.len() >= self.max {
            let oldest = self.hosts.iter().min_by_key(|(_, change)| change.at);
            let Some((&oldest, _)) = oldest else { return };
            self.hosts.remove(&oldest);
        }
        self.hosts.insert(host, Change { at: now, again });
    }

    /// Whether a node there is not wanted in the table for now. `now` in seconds.
    pub(super) fn bars(&self, ip: IpAddr, now: u32) -> bool {
        let host = security::host(ip);
        self.is_recent(host, now) && self.hosts.get(&host).is_some_and(|change| change.again)
    }

    fn is_recent(&self, host: u128, now: u32) -> bool {
        let change = self.hosts.get(&host);
        change.is_some_and(|change| now.saturating_sub(change.at) < self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_second_change_bars_a_host_until_it_was_quiet() {
        let mut changed = Changed::new(&DhtConfig::default(), false);
        let (one, other) = (ip("2001:db8::1"), ip("2001:db8::2"));
        changed.note(one, 10);
        assert!(!changed.bars(one, 10));
        // A host of IPv6 has its /64.
        changed.note(other, 20);
        assert!(changed.bars(one, 20) && changed.bars(other, 619));
        assert!(!changed.bars(ip("2001:db8:0:1::1"), 20));
        assert!(!changed.bars(one, 620));
        changed.note(one, 620);
        assert!(!changed.bars(one, 620));
    }

    #[test]
    fn hosts_that_changed_are_bounded_and_near_ones_exempt() {
        let config = DhtConfig {
            max_changed_nodes: 20,
            ..DhtConfig::default()
        };
        let mut changed = Changed::new(&config, false);
        let host = |n: u32| IpAddr::V4((0x0800_0000 + n).into());
        for n in 0..100 {
            changed.note(host(n), n);
            changed.note(host(n), n);
        }
        assert_eq!(changed.hosts.len(), 20);
        assert!(changed.bars(host(80), 100) && !changed.bars(host(79), 100));
        for _ in 0..5 {
            changed.note(ip("127.0.0.1"), 100);
        }
        assert!(!changed.bars(ip("127.0.0.1"), 100));
        let mut none = Changed::new(
            &DhtConfig {
                max_changed_nodes: 0,
                ..DhtConfig::default()
            },
            false,
        );
        none.note(host(1), 1);
        assert!(none.hosts.is_empty());
    }
}
