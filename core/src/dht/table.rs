//! The routing table of one address family.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::security;
use crate::config::DhtConfig;
use crate::id::{Distance, NodeId};
use crate::time::Duration;

/// Nodes of one answer: the `k` of the wire format, whatever our buckets hold.
pub const CLOSEST: usize = 8;
/// Unit in which a contact remembers its round trip.
const RTT_UNIT_MILLIS: u128 = 16;
/// Bits of an id.
const BITS: usize = 160;

/// A node that answered us, at an address of `N` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<const N: usize> {
    /// Its id.
    pub id: NodeId,
    ip: [u8; N],
    /// When it was last heard or asked, seconds.
    pub touched: u32,
    port: u16,
    rtt: u8,
    /// Queries since its last answer that it left unanswered.
    pub failures: u8,
}

// Rule: small values. A table is walked for every query answered.
const _: () = assert!(size_of::<Contact<4>>() <= 32);
const _: () = assert!(size_of::<Contact<16>>() <= 48);

impl<const N: usize> Contact<N> {
    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match (self.ip.first_chunk::<16>(), self.ip.first_chunk::<4>()) {
            (Some(v6), _) => Ipv6Addr::from(*v6).into(),
            (None, Some(v4)) => Ipv4Addr::from(*v4).into(),
            (None, None) => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Writes it as the wire carries it.
    pub fn write(&self, buf: &mut [u8]) -> usize {
        let len = 20 + N + 2;
        if let Some(buf) = buf.get_mut(..len) {
            buf[..20].copy_from_slice(&self.id.0);
            buf[20..20 + N].copy_from_slice(&self.ip);
            buf[20 + N..].copy_from_slice(&self.port.to_be_bytes());
            return len;
        }
        0
    }
}

/// Whether a node would find a place if it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A place is free for it.
    Free,
    /// Another id is known at its endpoint.
    Taken(NodeId),
    /// It is known, or a rule keeps it out.
    None,
}

/// What became of a node that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is in a live bucket, and was before.
    Known,
    /// It entered a live bucket.
    Added,
    /// It waits as a replacement.
    Spare,
    /// A rule keeps it out.
    Refused,
    /// Another id was known at its endpoint; that one is out, and this one may try again.
    Changed(NodeId),
}

/// Whom to refresh, where it is, and what ids its bucket has room for.
pub type Refresh = (NodeId, SocketAddr, Option<(usize, bool)>);

#[derive(Debug, Clone)]
struct Bucket<const N: usize> {
    live: Vec<Contact<N>>,
    spare: Vec<Contact<N>>,
    /// When its contacts were last asked because one of them had changed, seconds.
    rechecked: Option<u32>,
}

/// Nodes by distance from our own id.
///
/// Bucket `i` holds ids that share exactly `i` bits with ours; the last one all that share more,
/// and it is split when full. Only nodes that answered us are in it.
#[derive(Debug)]
pub struct Table<const N: usize> {
    own: NodeId,
    buckets: Vec<Bucket<N>>,
    /// Every endpoint in the table, live or spare.
    endpoints: Places<N>,
    live: usize,
    wide: [u16; 4],
    size: u16,
    replacements: u16,
    max_failures: u8,
    /// Seconds.
    recheck_interval: u32,
    /// Seconds.
    fresh_for: u32,
    lab: bool,
}

impl<const N: usize> Table<N> {
    /// An empty table around `own`.
    #[must_use]
    pub fn new(own: NodeId, config: &DhtConfig, lab: bool) -> Self {
        Self {
            own,
            buckets: alloc::vec![Bucket {
                live: Vec::new(),
                spare: Vec::new(),
                rechecked: None,
            }],
            endpoints: Places(Vec::new()),
            live: 0,
            wide: config.wide_buckets,
            size: config.bucket_size,
            replacements: config.replacements,
            max_failures: config.max_failures,
            recheck_interval: seconds(config.recheck_interval),
            fresh_for: seconds(config.fresh_for),
            lab,
        }
    }

    /// The id the table is built around.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Rebuilds the table around another id; whoever finds no place is forgotten.
    pub fn set_own(&mut self, own: NodeId) {
        let buckets = core::mem::take(&mut self.buckets);
        self.own = own;
        self.buckets.push(Bucket {
            live: Vec::new(),
            spare: Vec::new(),
            rechecked: None,
        });
        self.endpoints.0.clear();
        self.live = 0;
        let spares = buckets.iter().flat_map(|bucket| &bucket.spare);
        for contact in buckets.iter().flat_map(|bucket| &bucket.live).chain(spares) {
            if contact.id != own {
                self.place(*contact);
            }
        }
    }

    /// Contacts in live buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether suspiciously few contacts share exactly `shared` leading bits with our id: ids are
    /// spread evenly, so about as many should as share more. A few are always enough.
    #[must_use]
    pub fn is_thin(&self, shared: usize) -> bool {
        let (mut exactly, mut more) = (0, 0);
        for contact in self.iter() {
            let bits = self.own.distance(&contact.id).leading_zeros() as usize;
            exactly += usize::from(bits == shared);
            more += usize::from(bits > shared);
        }
        exactly < CLOSEST / 2 && exactly * 4 < more
    }

    /// Whether no contact is in a live bucket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Every contact of the live buckets that answered last time it was asked.
    pub fn good(&self) -> impl Iterator<Item = &Contact<N>> {
        self.iter().filter(|contact| contact.failures == 0)
    }

    /// Every contact of the live buckets, farthest bucket first.
    pub fn iter(&self) -> impl Iterator<Item = &Contact<N>> {
        self.buckets.iter().flat_map(|bucket| &bucket.live)
    }

    /// The contact of that id at that endpoint, if it is live.
    #[must_use]
    pub fn find(&self, id: &NodeId, addr: SocketAddr) -> Option<&Contact<N>> {
        let bucket = &self.buckets[self.bucket_of(id)];
        bucket
            .live
            .iter()
            .find(|contact| contact.id == *id && contact.addr() == addr)
    }

    /// The id known at `addr`, live or spare.
    #[must_use]
    pub fn id_at(&self, addr: SocketAddr) -> Option<NodeId> {
        self.id_of(key::<N>(addr)?)
    }

    /// Calls `each` with the up to [`CLOSEST`] (or `limit`) contacts closest to `target`, closest
    /// first; those that failed last time are passed over.
    pub fn closest(&self, target: &NodeId, limit: usize, each: impl FnMut(&Contact<N>)) {
        self.nearest(target, limit, |contact| contact.failures == 0, each);
    }

    /// The same of those that failed last time only.
    pub fn closest_failing(&self, target: &NodeId, limit: usize, each: impl FnMut(&Contact<N>)) {
        self.nearest(target, limit, |contact| contact.failures > 0, each);
    }

    fn nearest(
        &self,
        target: &NodeId,
        limit: usize,
        counts: impl Fn(&Contact<N>) -> bool,
        mut each: impl FnMut(&Contact<N>),
    ) {
        let mut best: [Option<(Distance, &Contact<N>)>; CLOSEST] = [None; CLOSEST];
        let limit = limit.min(CLOSEST);
        let mut len = 0;
        let home = self.bucket_of(target);
        // Below a bucket's place in the tree everything is closer than in the buckets above it:
        // first home, then all deeper ones together, then one by one upwards.
        let deeper = &self.buckets[home + 1..];
        let order = [&self.buckets[home..=home], deeper];
        for group in order {
            let live = group.iter().flat_map(|bucket| &bucket.live);
            for contact in live.filter(|contact| counts(contact)) {
                insert(&mut best, &mut len, limit, target, contact);
            }
            if len >= limit {
                break;
            }
        }
        for bucket in self.buckets[..home].iter().rev() {
            if len >= limit {
                break;
            }
            for contact in bucket.live.iter().filter(|contact| counts(contact)) {
                insert(&mut best, &mut len, limit, target, contact);
            }
        }
        for (_, contact) in best[..len].iter().flatten() {
            each(contact);
        }
    }

    /// A node answered. `now` in seconds; `rtt` of this answer.
    pub fn heard(&mut self, id: NodeId, addr: SocketAddr, rtt: Duration, now: u32) -> Heard {
        let Some((ip, port)) = key::<N>(addr) else {
            return Heard::Refused;
        };
        if id == self.own {
            return Heard::Refused;
        }
        if let Some(known) = self.id_of((ip, port))
            && known != id
        {
            self.remove(&known, addr);
            return Heard::Changed(known);
        }
        let rtt = u8::try_from(rtt.as_millis() / RTT_UNIT_MILLIS).unwrap_or(u8::MAX);
        let at = self.bucket_of(&id);
        let bucket = &mut self.buckets[at];
        let same = |contact: &&mut Contact<N>| contact.id == id;
        if let Some(known) = bucket.live.iter_mut().find(same) {
            if known.ip == ip && known.port == port {
                known.rtt = if known.failures == 0 {
                    known.rtt / 4 * 3 + rtt / 4
                } else {
                    rtt
                };
                known.failures = 0;
                known.touched = now;
                return Heard::Known;
            }
            // An id moves only when its old place is silent, or anybody could take it over.
            if known.failures == 0 {
                return Heard::Refused;
            }
            let old = known.addr();
            self.remove(&id, old);
        } else if let Some(known) = bucket.spare.iter_mut().find(same) {
            let old = known.addr();
            self.remove(&id, old);
        }
        self.place(Contact {
            id,
            ip,
            touched: now,
            port,
            rtt,
            failures: 0,
        })
    }

    /// A node left a query unanswered. Returns whether it is out.
    pub fn failed(&mut self, id: &NodeId, addr: SocketAddr) -> bool {
        let at = self.bucket_of(id);
        let max_failures = self.max_failures;
        let bucket = &mut self.buckets[at];
        let Some(contact) = bucket
            .live
            .iter_mut()
            .find(|c| c.id == *id && c.addr() == addr)
        else {
            return false;
        };
        contact.failures = contact.failures.saturating_add(1);
        let out = !bucket.spare.is_empty() || contact.failures >= max_failures;
        if out {
            self.remove(id, addr);
        }
        out
    }

    /// Takes a contact out, live or spare; a spare moves up.
    pub fn remove(&mut self, id: &NodeId, addr: SocketAddr) -> bool {
        let Some(key) = key::<N>(addr) else {
            return false;
        };
        let at = self.bucket_of(id);
        let bucket = &mut self.buckets[at];
        let same = |c: &Contact<N>| c.id == *id && (c.ip, c.port) == key;
        if let Some(index) = bucket.spare.iter().position(same) {
            bucket.spare.remove(index);
            self.endpoints.remove(key);
            return true;
        }
        let Some(index) = bucket.live.iter().position(same) else {
            return false;
        };
        bucket.live.remove(index);
        self.live -= 1;
        self.endpoints.remove(key);
        let bucket = &mut self.buckets[at];
        let best = bucket.spare.iter().enumerate().min_by_key(|(_, c)| rank(c));
        if let Some((index, _)) = best {
            let contact = bucket.spare.remove(index);
            bucket.live.push(contact);
            self.live += 1;
        }
        true
    }

    /// Takes out whoever is at that endpoint.
    pub fn remove_at(&mut self, addr: SocketAddr) -> bool {
        let known = self.id_at(addr);
        known.is_some_and(|id| self.remove(&id, addr))
    }

    /// Whether a node of that id and address would find a free place if it answered.
    #[must_use]
    pub fn room(&self, id: &NodeId, addr: SocketAddr) -> Room {
        let Some((ip, port)) = key::<N>(addr) else {
            return Room::None;
        };
        match self.id_of((ip, port)) {
            Some(known) if known == *id => return Room::None,
            Some(known) => return Room::Taken(known),
            None => {}
        }
        let at = self.bucket_of(id);
        let splits = at + 1 == self.buckets.len() && at + 1 < BITS;
        let free = *id != self.own
            && (splits || self.buckets[at].live.len() < self.capacity(at))
            && (self.is_exempt(addr.ip()) || self.same_ip(ip).is_none());
        if free { Room::Free } else { Room::None }
    }

    /// The contact to refresh next: least recently touched first, of those the one closest to
    /// us. Marks it as touched. If its bucket has room, also how many bits the ids of that bucket
    /// share with ours, and whether the next bit differs in all of them.
    pub fn next_refresh(&mut self, now: u32) -> Option<Refresh> {
        let mut best: Option<(u32, usize, usize)> = None;
        for (depth, bucket) in self.buckets.iter().enumerate().rev() {
            for (index, contact) in bucket.live.iter().enumerate() {
                if best.is_none_or(|(touched, ..)| contact.touched < touched) {
                    best = Some((contact.touched, depth, index));
                }
            }
        }
        let (_, depth, index) = best?;
        let room = self.buckets[depth].live.len() < self.capacity(depth);
        let last = depth + 1 == self.buckets.len();
        let contact = &mut self.buckets[depth].live[index];
        contact.touched = now;
        Some((contact.id, contact.addr(), room.then_some((depth, !last))))
    }

    /// The id's bucket neighbours that are to be asked again after something there went wrong,
    /// those left alone longest first: nobody when that was done lately, and nobody who was heard
    /// or asked lately. `now` in seconds.
    pub fn recheck(&mut self, id: &NodeId, now: u32) -> [Option<(NodeId, SocketAddr)>; CLOSEST] {
        let (interval, fresh) = (self.recheck_interval, self.fresh_for);
        let at = self.bucket_of(id);
        let bucket = &mut self.buckets[at];
        let mut stale: [Option<&Contact<N>>; CLOSEST] = [None; CLOSEST];
        if bucket
            .rechecked
            .is_none_or(|last| now.saturating_sub(last) >= interval)
        {
            let idle = |contact: &&Contact<N>| now.saturating_sub(contact.touched) >= fresh;
            for contact in bucket.live.iter().filter(idle) {
                let before = |other: &Option<&Contact<N>>| {
                    other.is_some_and(|other| other.touched <= contact.touched)
                };
                let place = stale.iter().position(|other| !before(other));
                if let Some(place) = place {
                    stale[place..].rotate_right(1);
                    stale[place] = Some(contact);
                }
            }
        }
        let stale = stale.map(|contact| contact.map(|contact| (contact.id, contact.addr())));
        if stale[0].is_some() {
            bucket.rechecked = Some(now);
        }
        stale
    }

    /// The bucket `id` belongs to.
    /// Who is at an endpoint, live or spare.
    fn id_of(&self, key: ([u8; N], u16)) -> Option<NodeId> {
        let bucket = &self.buckets[self.endpoints.bucket_of(key)?];
        let mut all = bucket.live.iter().chain(&bucket.spare);
        all.find(|contact| (contact.ip, contact.port) == key)
            .map(|contact| contact.id)
    }

    fn bucket_of(&self, id: &NodeId) -> usize {
        let shared = self.own.distance(id).leading_zeros() as usize;
        shared.min(self.buckets.len() - 1)
    }

    fn capacity(&self, bucket: usize) -> usize {
        usize::from(self.wide.get(bucket).copied().unwrap_or(self.size))
    }

    fn is_exempt(&self, ip: IpAddr) -> bool {
        security::is_exempt(ip, self.lab)
    }

    fn same_ip(&self, ip: [u8; N]) -> Option<(NodeId, SocketAddr)> {
        let place = self.endpoints.first_of(ip)?;
        let id = self.id_of((ip, place.port))?;
        let probe = Contact {
            id,
            ip,
            touched: 0,
            port: place.port,
            rtt: 0,
            failures: 0,
        };
        Some((id, probe.addr()))
    }

    /// Gives a contact that is not in the table a place, if the rules have one.
    fn place(&mut self, contact: Contact<N>) -> Heard {
        let exempt = self.is_exempt(contact.ip());
        if !exempt && let Some((id, addr)) = self.same_ip(contact.ip) {
            if self.find(&id, addr).is_none_or(|known| known.failures == 0) {
                return Heard::Refused;
            }
            self.remove(&id, addr);
        }
        loop {
            let at = self.bucket_of(&contact.id);
            if !exempt {
                let network = security::network(contact.ip());
                let bucket = &self.buckets[at];
                let near = |c: &&Contact<N>| security::network(c.ip()) == network;
                if bucket.spare.iter().any(|c| near(&c)) {
                    return Heard::Refused;
                }
                if let Some(near) = bucket.live.iter().find(near) {
                    if near.failures == 0 {
                        return Heard::Refused;
                    }
                    let (id, addr) = (near.id, near.addr());
                    self.remove(&id, addr);
                    continue;
                }
            }
            if self.buckets[at].live.len() < self.capacity(at) {
                self.push_live(at, contact);
                return Heard::Added;
            }
            if at + 1 == self.buckets.len() && self.buckets.len() < BITS {
                self.split();
                continue;
            }
            return self.place_in_full(at, contact);
        }
    }

    fn place_in_full(&mut self, at: usize, contact: Contact<N>) -> Heard {
        if let Some(victim) = self.victim(at, &contact) {
            let old = self.buckets[at].live.remove(victim);
            self.live -= 1;
            self.endpoints.remove((old.ip, old.port));
            self.push_live(at, contact);
            if old.failures == 0 {
                self.push_spare(at, old);
            }
            return Heard::Added;
        }
        self.push_spare(at, contact);
        Heard::Spare
    }

    /// Who in a full bucket makes room for `new`: the one that fails most; else one of a crowded
    /// part of the bucket when `new` is of an empty part; else one of the same part that is worse
    /// by [`rank`].
    fn victim(&self, at: usize, new: &Contact<N>) -> Option<usize> {
        let live = &self.buckets[at].live;
        let (worst, failing) = live.iter().enumerate().max_by_key(|(_, c)| c.failures)?;
        if failing.failures > 0 {
            return Some(worst);
        }
        let bits = self.capacity(at).max(1).ilog2().min(7);
        let last = at + 1 == self.buckets.len();
        let start = if last { at } else { at + 1 };
        let part =
            |id: &NodeId| (0..bits as usize).fold(0usize, |n, i| n << 1 | bit(id, start + i));
        let mut crowd = [0u16; 128];
        for contact in live {
            crowd[part(&contact.id)] += 1;
        }
        let mine = part(&new.id);
        let worst_of = |wanted: usize| {
            let members = live
                .iter()
                .enumerate()
                .filter(|(_, c)| part(&c.id) == wanted);
            members.max_by_key(|(_, c)| rank(c))
        };
        if crowd[mine] == 0 {
            let crowded = crowd.iter().enumerate().max_by_key(|(_, n)| **n)?;
            return (*crowded.1 > 1)
                .then(|| worst_of(crowded.0))
                .flatten()
                .map(|(index, _)| index);
        }
        let (index, worst) = worst_of(mine)?;
        (rank(new) < rank(worst)).then_some(index)
    }

    fn push_live(&mut self, at: usize, contact: Contact<N>) {
        self.endpoints.insert((contact.ip, contact.port), at);
        self.buckets[at].live.push(contact);
        self.live += 1;
    }

    fn push_spare(&mut self, at: usize, contact: Contact<N>) {
        let limit = usize::from(self.replacements);
        let spare = &mut self.buckets[at].spare;
        if spare.len() >= limit {
            let oldest = spare.iter().enumerate().min_by_key(|(_, c)| c.touched);
            let Some((index, _)) = oldest else {
                return;
            };
            let old = spare.remove(index);
            self.endpoints.remove((old.ip, old.port));
        }
        self.endpoints.insert((contact.ip, contact.port), at);
        self.buckets[at].spare.push(contact);
    }

    /// Cuts the last bucket in two, and again while the deeper part is over its capacity.
    fn split(&mut self) {
        while let Some(mut last) = self.buckets.pop() {
            let depth = self.buckets.len() as u32;
            let deeper = |c: &Contact<N>| self.own.distance(&c.id).leading_zeros() > depth;
            let part = |all: &mut Vec<Contact<N>>| {
                let moved = all.iter().copied().filter(deeper).collect();
                all.retain(|c| !deeper(c));
                moved
            };
            let next = Bucket {
                live: part(&mut last.live),
                spare: part(&mut last.spare),
                rechecked: last.rechecked,
            };
            self.buckets.push(last);
            let at = self.buckets.len();
            for contact in next.live.iter().chain(&next.spare) {
                self.endpoints.insert((contact.ip, contact.port), at);
            }
            self.buckets.push(next);
            self.settle(at - 1);
            if self.buckets[at].live.len() <= self.capacity(at) || self.buckets.len() == BITS {
                self.settle(at);
                return;
            }
        }
    }

    /// Moves contacts between live and spare until neither too many are live nor any waits while
    /// there is room: a deeper bucket may hold fewer.
    fn settle(&mut self, at: usize) {
        let capacity = self.capacity(at);
        while self.buckets[at].live.len() > capacity {
            let live = &self.buckets[at].live;
            let Some((worst, _)) = live.iter().enumerate().max_by_key(|(_, c)| rank(c)) else {
                return;
            };
            let contact = self.buckets[at].live.remove(worst);
            self.live -= 1;
            self.endpoints.remove((contact.ip, contact.port));
            self.push_spare(at, contact);
        }
        while self.buckets[at].live.len() < capacity {
            let spare = &mut self.buckets[at].spare;
            let best = spare.iter().enumerate().min_by_key(|(_, c)| rank(c));
            let Some((index, _)) = best else {
                return;
            };
            let contact = spare.remove(index);
            self.buckets[at].live.push(contact);
            self.live += 1;
        }
    }
}

/// The endpoints of all contacts in order, each with the number of its bucket: eight bytes of
/// IPv4, where a map would take thirty.
#[derive(Debug)]
struct Places<const N: usize>(Vec<Place<N>>);

#[derive(Debug, Clone, Copy)]
struct Place<const N: usize> {
    ip: [u8; N],
    port: u16,
    bucket: u8,
}

const _: () = assert!(size_of::<Place<4>>() == 8 && BITS <= u8::MAX as usize);

impl<const N: usize> Places<N> {
    fn search(&self, (ip, port): ([u8; N], u16)) -> Result<usize, usize> {
        let order = |place: &Place<N>| (place.ip, place.port).cmp(&(ip, port));
        self.0.binary_search_by(order)
    }

    fn bucket_of(&self, key: ([u8; N], u16)) -> Option<usize> {
        let at = self.search(key).ok()?;
        Some(usize::from(self.0[at].bucket))
    }

    /// The first endpoint of an address.
    fn first_of(&self, ip: [u8; N]) -> Option<Place<N>> {
        let at = self.search((ip, 0)).unwrap_or_else(|at| at);
        self.0.get(at).copied().filter(|place| place.ip == ip)
    }

    /// Notes in which bucket an endpoint is.
    fn insert(&mut self, (ip, port): ([u8; N], u16), bucket: usize) {
        let place = Place {
            ip,
            port,
            bucket: bucket as u8,
        };
        match self.search((ip, port)) {
            Ok(at) => self.0[at] = place,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 4 + 8);
                }
                self.0.insert(at, place);
            }
        }
    }

    fn remove(&mut self, key: ([u8; N], u16)) {
        if let Ok(at) = self.search(key) {
            self.0.remove(at);
        }
    }
}

/// Order of preference, best first: fewest failures, an id that fits the address (BEP 42), the
/// shorter round trip.
fn rank<const N: usize>(contact: &Contact<N>) -> (u8, bool, u8) {
    (
        contact.failures,
        !security::is_valid(contact.ip(), &contact.id),
        contact.rtt,
    )
}

fn bit(id: &NodeId, at: usize) -> usize {
    id.0.get(at / 8)
        .map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn key<const N: usize>(addr: SocketAddr) -> Option<([u8; N], u16)> {
    let mut ip = [0; N];
    match addr.ip() {
        IpAddr::V4(v4) if N == 4 => ip.copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) if N == 16 => ip.copy_from_slice(&v6.octets()),
        _ => return None,
    }
    Some((ip, addr.port()))
}

fn insert<'t, const N: usize>(
    best: &mut [Option<(Distance, &'t Contact<N>)>; CLOSEST],
    len: &mut usize,
    limit: usize,
    target: &NodeId,
    contact: &'t Contact<N>,
) {
    let distance = contact.id.distance(target);
    let mut at = *len;
    while at > 0 && best[at - 1].is_some_and(|(other, _)| distance < other) {
        at -= 1;
    }
    if at >= limit {
        return;
    }
    if *len < limit {
        *len += 1;
    }
    best.copy_within(at..*len - 1, at + 1);
    best[at] = Some((distance, contact));
}

#[cfg(test)]
mod tests;
