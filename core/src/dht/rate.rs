//! Budgets: packets per address, bytes of replies, new endpoints per second.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::security;
use crate::config::DhtConfig;
use crate::time::{Duration, Instant};

/// A token bucket of `rate` units per second.
#[derive(Debug)]
pub struct Bucket {
    rate: u64,
    /// Most it holds, millionths of a unit.
    size: i64,
    /// Millionths of a unit; a debt is allowed, so that one large packet is never stuck.
    level: i64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: u32, now: Instant) -> Self {
        Self::with_burst(rate, rate, now)
    }

    /// A full bucket that holds `burst` units.
    #[must_use]
    pub fn with_burst(rate: u32, burst: u32, now: Instant) -> Self {
        let size = i64::from(burst.max(1)) * 1_000_000;
        Self {
            rate: u64::from(rate.max(1)),
            size,
            level: size,
            filled: now,
        }
    }

    /// Whether anything is left.
    pub fn is_open(&mut self, now: Instant) -> bool {
        let micros = now.saturating_since(self.filled).as_micros().min(1_000_000) as u64;
        self.filled = self.filled.max(now);
        self.level = (self.level + (micros * self.rate) as i64).min(self.size);
        self.level >= 1_000_000
    }

    /// Takes `units`, whatever is left.
    pub fn take(&mut self, units: u32) {
        let floor = -((self.rate * 4_000_000) as i64);
        self.level = (self.level - i64::from(units) * 1_000_000).max(floor);
    }

    /// When something will be left again; later than `now`.
    #[must_use]
    pub fn opens_at(&self, now: Instant) -> Instant {
        let missing = (1_000_000 - self.level).max(0) as u64;
        now + Duration::from_micros(missing / self.rate + 1)
    }
}

/// Places per hash.
const WAYS: usize = 4;
/// Sets of places that the first entry makes room for.
const FIRST_SETS: usize = 4;

/// What a [`Table`] holds.
trait Place: Copy {
    /// One that nobody has.
    const EMPTY: Self;
    /// The hash of whose it is; never 0, which is that of an empty one.
    fn hash(&self) -> u64;
    /// Until when it counts.
    fn until(&self) -> Instant;
}

/// Entries under keyed hashes; collisions cost precision, never correctness.
///
/// It grows while entries that count are in each other's way, up to a limit. Then whoever does not
/// fit takes the place of the entry whose time is over first, so that a flood of new ones costs no
/// memory.
#[derive(Debug)]
struct Table<P> {
    /// A power of two of them, or none.
    sets: Vec<[P; WAYS]>,
    max_sets: usize,
}

impl<P: Place> Table<P> {
    /// An empty table for at most `max` entries, rounded down to a power of two, but at least one
    /// set of them.
    fn new(max: usize) -> Self {
        Self {
            sets: Vec::new(),
            max_sets: 1 << (max / WAYS).max(1).ilog2(),
        }
    }

    /// The entry with this hash, or the place for it: empty, or that of another who gives way.
    fn place(&mut self, hash: u64, now: Instant) -> &mut P {
        while self.is_in_the_way(hash, now) && self.sets.len() < self.max_sets {
            self.grow();
        }
        let at = self.index(hash);
        let set = &mut self.sets[at];
        let own = set.iter().position(|place| place.hash() == hash);
        let first_over = || {
            let places = set.iter().enumerate();
            let first = places.min_by_key(|(_, place)| place.until());
            first.map_or(0, |(at, _)| at)
        };
        let at_way = own.unwrap_or_else(first_over);
        &mut set[at_way]
    }

    /// Whether there is no place for `hash` but that of an entry that counts.
    fn is_in_the_way(&self, hash: u64, now: Instant) -> bool {
        let set = self.sets.get(self.index(hash));
        set.is_none_or(|set| {
            let mut places = set.iter();
            places.all(|place| place.hash() != hash && place.until() > now)
        })
    }

    fn index(&self, hash: u64) -> usize {
        hash as usize & self.sets.len().saturating_sub(1)
    }

    /// Makes twice as many sets: what one of them held is spread over two, and fits.
    fn grow(&mut self) {
        let count = (self.sets.len() * 2).clamp(FIRST_SETS.min(self.max_sets), self.max_sets);
        let old = core::mem::replace(&mut self.sets, vec![[P::EMPTY; WAYS]; count]);
        for entry in old.into_iter().flatten().filter(|entry| entry.hash() != 0) {
            *self.place(entry.hash(), Instant::MIN) = entry;
        }
    }
}

/// Packets of every address that asks lately, in a table of limited size.
///
/// An address that does not fit takes the place of the one that has been quiet longest, so a
/// flood from many addresses costs no memory.
#[derive(Debug)]
pub struct AddressBudget {
    entries: Table<Entry>,
    key: u64,
    packets: u16,
    bytes: u32,
    window: Duration,
    ban: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    host: u64,
    since: Instant,
    until: Instant,
    packets: u16,
    receives: bool,
    /// Bytes sent to it in this window while it had not shown that it receives.
    bytes: u32,
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Place for Entry {
    const EMPTY: Self = Self {
        host: 0,
        since: Instant::MIN,
        until: Instant::MIN,
        packets: 0,
        receives: false,
        bytes: 0,
    };

    fn hash(&self) -> u64 {
        self.host
    }

    fn until(&self) -> Instant {
        self.until
    }
}

impl AddressBudget {
    /// An empty table. `key` is secret, so that nobody can choose whom to push out.
    #[must_use]
    pub fn new(config: &DhtConfig, key: u64) -> Self {
        Self {
            entries: Table::new(config.max_tracked_addresses as usize),
            key,
            packets: config.address_packets,
            bytes: config.unproven_bytes_per_address,
            window: config.budget_window,
            ban: config.flood_ban,
        }
    }

    /// Counts a packet of `ip`; false when it is to be ignored.
    pub fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let (packets, window, ban) = (self.packets, self.window, self.ban);
        let entry = self.entry(ip, now);
        if entry.packets > packets {
            if now < entry.until {
                return false;
            }
            (entry.packets, entry.bytes, entry.since) = (0, 0, now);
        }
        if now.saturating_since(entry.since) >= window {
            (entry.packets, entry.bytes, entry.since) = (0, 0, now);
        }
        entry.packets += 1;
        entry.until = now + window;
        if entry.packets > packets {
            entry.until = now + ban;
            return false;
        }
        true
    }

    /// Whether `ip` showed lately that it receives what is sent to it.
    pub fn receives(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.entry(ip, now).receives
    }

    /// `ip` showed that it receives what is sent to it.
    pub fn set_receives(&mut self, ip: IpAddr, now: Instant) {
        self.entry(ip, now).receives = true;
    }

    /// Bytes that may still be sent to `ip` in this window, since it did not show yet that it
    /// receives them.
    pub fn bytes_left(&mut self, ip: IpAddr, now: Instant) -> u32 {
        let bytes = self.bytes;
        bytes.saturating_sub(self.entry(ip, now).bytes)
    }

    /// Counts bytes sent to `ip`.
    pub fn count_bytes(&mut self, ip: IpAddr, bytes: u32, now: Instant) {
        let entry = self.entry(ip, now);
        entry.bytes = entry.bytes.saturating_add(bytes);
    }

    fn entry(&mut self, ip: IpAddr, now: Instant) -> &mut Entry {
        let host = mix(self.key, security::host(ip)).max(1);
        let entry = self.entries.place(host, now);
        if entry.host != host {
            *entry = Entry {
                host,
                since: now,
                until: now,
                ..Entry::EMPTY
            };
        }
        entry
    }
}

/// The budget of new remote endpoints: each costs a home router an entry in a table that some
/// of them overflow near 100 per second.
#[derive(Debug)]
pub struct Endpoints {
    recent: Table<Endpoint>,
    /// How long a router's mapping is taken to last without traffic.
    mapping: Duration,
    bucket: Bucket,
    key: u64,
}

#[derive(Debug, Clone, Copy)]
struct Endpoint {
    hash: u64,
    /// When the router's mapping is gone.
    until: Instant,
}

impl Place for Endpoint {
    const EMPTY: Self = Self {
        hash: 0,
        until: Instant::MIN,
    };

    fn hash(&self) -> u64 {
        self.hash
    }

    fn until(&self) -> Instant {
        self.until
    }
}

impl Endpoints {
    /// A full budget that remembers nobody.
    #[must_use]
    pub fn new(config: &DhtConfig, key: u64, now: Instant) -> Self {
        let rate = u32::from(config.new_endpoints_per_second);
        let burst = u32::from(config.new_endpoints_burst);
        Self {
            recent: Table::new(usize::from(config.max_tracked_endpoints)),
            mapping: config.mapping_lifetime,
            bucket: Bucket::with_burst(rate, burst, now),
            key,
        }
    }

    /// Takes leave to send to `to`.
    ///
    /// # Errors
    /// When to ask again.
    pub fn admit(&mut self, to: SocketAddr, now: Instant) -> Result<(), Instant> {
        if to.ip().is_loopback() {
            return Ok(());
        }
        let ip = match to.ip() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let hash = mix(self.key ^ u64::from(to.port()), ip).max(1);
        let endpoint = self.recent.place(hash, now);
        if endpoint.hash != hash || now > endpoint.until {
            if !self.bucket.is_open(now) {
                return Err(self.bucket.opens_at(now));
            }
            self.bucket.take(1);
        }
        let until = now + self.mapping;
        *endpoint = Endpoint { hash, until };
        Ok(())
    }
}

/// A keyed hash for tables of limited size; collisions cost precision, never correctness.
fn mix(key: u64, value: u128) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let low = fold(
        value as u64 ^ key,
        0x9e37_79b9_7f4a_7c15 ^ key.rotate_left(32),
    );
    let high = fold((value >> 64) as u64 ^ low, 0xd6e8_feb8_6659_fd93 ^ key);
    fold(low ^ 0xa076_1d64_78bd_642f, high ^ 0xe703_7ed1_a0b4_28db)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + millis * 1_000)
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn budget(tracked: u32) -> AddressBudget {
        let config = DhtConfig {
            max_tracked_addresses: tracked,
            ..DhtConfig::default()
        };
        AddressBudget::new(&config, 7)
    }

    #[test]
    fn the_fifty_first_packet_bans_for_five_minutes() {
        let mut budget = budget(16);
        assert!((0..50).all(|i| budget.admit(ip(1), at(i))));
        assert!(!budget.admit(ip(1), at(50)));
        assert!(budget.admit(ip(2), at(50)));
        assert!(!budget.admit(ip(1), at(299_000)));
        assert!(budget.admit(ip(1), at(300_051)));
    }

    #[test]
    fn a_steady_asker_is_served() {
        let mut budget = budget(16);
        assert!((0..1_000).all(|i| budget.admit(ip(1), at(i * 250))));
    }

    #[test]
    fn many_addresses_do_not_grow_the_table_nor_free_a_banned_one() {
        let mut budget = budget(64);
        for _ in 0..51 {
            budget.admit(ip(1), at(0));
        }
        for n in 2..10_000 {
            budget.admit(ip(n), at(1));
        }
        assert_eq!(budget.entries.sets.len() * WAYS, 64);
        assert!(!budget.admit(ip(1), at(2)));
    }

    #[test]
    fn who_counts_still_is_found_however_the_table_grows() {
        let mut budget = budget(4096);
        assert_eq!(budget.entries.sets.len(), 0);
        for n in 0..300 {
            (0..=n % 50).for_each(|_| assert!(budget.admit(ip(n), at(0))));
        }
        for n in 0..300 {
            assert_eq!(budget.entry(ip(n), at(1)).packets, n as u16 % 50 + 1);
        }
        let full = budget.entries.sets.len();
        assert!((64..=1024).contains(&full), "{full} sets");
        // Later nobody counts, and others have their places.
        (2_000..2_300).for_each(|n| assert!(budget.admit(ip(n), at(20_000))));
        assert_eq!(budget.entries.sets.len(), full);
    }

    #[test]
    fn few_cost_little() {
        let mut budget = budget(4096);
        let config = DhtConfig::default();
        let mut endpoints = Endpoints::new(&config, 3, at(0));
        for second in 0..3_600 {
            let host = ip(0x0800_0000 + second % 40);
            assert!(budget.admit(host, at(u64::from(second) * 1_000)));
            let to = SocketAddr::new(host, 1);
            assert!(endpoints.admit(to, at(u64::from(second) * 1_000)).is_ok());
        }
        assert!(budget.entries.sets.len() <= 16);
        assert!(endpoints.recent.sets.len() <= 64);
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let mut budget = budget(16);
        let host = |n: u128| IpAddr::V6(((0x2001_0db8 << 96) | n).into());
        assert!((0..50).all(|n| budget.admit(host(n), at(0))));
        assert!(!budget.admit(host(99), at(0)));
    }

    #[test]
    fn a_bucket_lends_and_says_when_it_opens() {
        let mut bucket = Bucket::new(1_000, at(0));
        assert!(bucket.is_open(at(0)));
        bucket.take(1_500);
        assert!(!bucket.is_open(at(0)));
        let opens = bucket.opens_at(at(0));
        assert!(opens > at(500) && opens < at(510));
        assert!(!bucket.is_open(at(500)));
        assert!(bucket.is_open(opens));
    }

    #[test]
    fn new_endpoints_are_limited_and_known_ones_are_not() {
        let config = DhtConfig {
            new_endpoints_per_second: 50,
            new_endpoints_burst: 10,
            ..DhtConfig::default()
        };
        let mut endpoints = Endpoints::new(&config, 3, at(0));
        let to = |n: u32| SocketAddr::new(ip(0x0800_0000 + n), 6881);
        let sent = (0..100)
            .filter(|n| endpoints.admit(to(*n), at(0)).is_ok())
            .count();
        assert_eq!(sent, 10);
        assert!(endpoints.admit(to(0), at(0)).is_ok());
        let again = endpoints.admit(to(99), at(0)).unwrap_err();
        assert!(again > at(0));
        assert!(endpoints.admit(to(99), again).is_ok());
        let local = "127.0.0.1:1".parse().unwrap();
        assert!(endpoints.admit(local, at(0)).is_ok());
        // After a second of silence there is a burst again, and no more than one.
        let sent = (200..300)
            .filter(|n| endpoints.admit(to(*n), at(9_000)).is_ok())
            .count();
        assert_eq!(sent, 10);
    }

    #[test]
    fn a_silent_endpoint_is_new_again_when_its_mapping_is_gone() {
        let config = DhtConfig {
            new_endpoints_per_second: 1,
            new_endpoints_burst: 1,
            ..DhtConfig::default()
        };
        let mut endpoints = Endpoints::new(&config, 3, at(0));
        let to = |n: u32| SocketAddr::new(ip(0x0800_0000 + n), 6881);
        assert!(endpoints.admit(to(1), at(0)).is_ok());
        for millis in (500..600_000).step_by(500) {
            assert!(endpoints.admit(to(1), at(millis)).is_ok());
        }
        // Sixty seconds later it costs the one there is; just before it would cost none.
        assert!(endpoints.admit(to(1), at(599_500 + 60_000)).is_ok());
        assert!(endpoints.admit(to(2), at(599_500 + 60_000)).is_ok());
        assert!(endpoints.admit(to(1), at(599_500 + 120_500)).is_ok());
        assert!(endpoints.admit(to(3), at(599_500 + 120_500)).is_err());
    }

    #[test]
    fn more_endpoints_than_are_remembered_cost_no_memory() {
        let config = DhtConfig {
            max_tracked_endpoints: 16,
            ..DhtConfig::default()
        };
        let mut endpoints = Endpoints::new(&config, 3, at(0));
        for n in 0..1_000 {
            let _ = endpoints.admit(
                SocketAddr::new(ip(0x0800_0000 + n), 1),
                at(u64::from(n) * 20),
            );
        }
        assert_eq!(endpoints.recent.sets.len() * WAYS, 16);
    }

    #[test]
    fn bytes_to_an_unproven_address_are_counted_per_window() {
        let mut budget = budget(16);
        let all = DhtConfig::default().unproven_bytes_per_address;
        assert!(budget.admit(ip(1), at(0)));
        assert_eq!(budget.bytes_left(ip(1), at(0)), all);
        budget.count_bytes(ip(1), all - 5, at(1));
        assert_eq!(budget.bytes_left(ip(1), at(2)), 5);
        budget.count_bytes(ip(1), 500, at(3));
        assert_eq!(budget.bytes_left(ip(1), at(4)), 0);
        assert_eq!(budget.bytes_left(ip(2), at(4)), all);
        assert!(budget.admit(ip(1), at(10_000)));
        assert_eq!(budget.bytes_left(ip(1), at(10_000)), all);
    }
}
