//! Addresses that are never connected to again, nor let in.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};

/// The banned; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_age: BTreeSet<(u64, SocketAddr)>,
    ages: BTreeMap<SocketAddr, u64>,
    last: u64,
}

impl Bans {
    /// Bans whoever is at `addr`, from whatever port.
    pub(super) fn add(&mut self, addr: SocketAddr, most: u32) {
        self.add_endpoint(key(addr), most);
    }

    /// Bans this one endpoint; `most` are remembered.
    pub(super) fn add_endpoint(&mut self, addr: SocketAddr, most: u32) {
        if self.ages.contains_key(&addr) {
            return;
        }
        self.ages.insert(addr, self.last);
        self.by_age.insert((self.last, addr));
        self.last += 1;
        if self.by_age.len() > most as usize
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.ages.remove(&oldest);
        }
    }

    /// Whether `addr` is banned.
    pub(super) fn cover(&self, addr: SocketAddr) -> bool {
        self.ages.contains_key(&key(addr)) || self.ages.contains_key(&addr)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_age.len(), self.ages.len());
        self.ages.len()
    }
}

/// What a ban covers: the whole address, but only the endpoint on loopback, where many peers
/// share one address.
fn key(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        ip if ip.is_loopback() => addr,
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), 0),
        IpAddr::V6(ip) => SocketAddr::new(ip.into(), 0),
    }
}
