//! What a torrent has to tell: who is connected, and who came and left since each peer was told.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::Flags;
use crate::config::PexConfig;
use crate::io::ConnId;

/// One endpoint that is told of.
#[derive(Debug, Clone, Copy)]
struct Listed {
    /// Its connection; none when it left and that is held back.
    conn: Option<ConnId>,
    /// As they were when it left.
    flags: Flags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Added,
    Dropped,
}

/// Who came and who left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Endpoints that came, in the order in which they did.
    pub added: Vec<SocketAddr>,
    /// Endpoints that left; none of them came in the same diff.
    pub dropped: Vec<SocketAddr>,
}

impl Diff {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }
}

/// The endpoints of connected peers, and one list of changes for everybody who is told of them.
///
/// Every change has a number. A round takes the oldest changes that nobody was told of, as many
/// as fit one message; whoever was told everything before it gets the same message as all others.
/// Whoever was told of everyone in between, or had to miss a round, gets what is left for it from
/// the same list. At most one change of an endpoint waits for its round.
#[derive(Debug, Default)]
pub struct Log {
    listed: BTreeMap<SocketAddr, Listed>,
    /// Those who left and are told of nevertheless, the longest first.
    held: VecDeque<SocketAddr>,
    changes: BTreeMap<u64, (SocketAddr, Kind)>,
    /// The change of each endpoint that waits for its round, and the first that did.
    waiting: BTreeMap<SocketAddr, (u64, u64)>,
    /// Waiting changes that are drops.
    drops: usize,
    /// The number of the last change.
    last: u64,
    /// Changes up to these were in the last rounds, the latest first. Two rounds are kept, so that
    /// whoever missed one can catch up.
    rounds: [u64; 3],
    /// The number that was the last one when somebody was told of everyone.
    everyone: u64,
}

impl Log {
    /// The peer of a connection can be told of from now on. An endpoint of another connection
    /// stays with that one.
    pub fn join(&mut self, addr: SocketAddr, conn: ConnId) {
        if let Some(listed) = self.listed.get_mut(&addr) {
            if listed.conn.is_none() {
                listed.conn = Some(conn);
                self.held.retain(|held| *held != addr);
            }
            return;
        }
        let listed = Listed {
            conn: Some(conn),
            flags: Flags::default(),
        };
        self.listed.insert(addr, listed);
        self.change(addr, Kind::Added);
    }

    /// The peer of a connection left. With `hold` it is told of as long as few are connected:
    /// in a small swarm those that leave are most likely to be there again soon.
    pub fn leave(
        &mut self,
        config: &PexConfig,
        addr: SocketAddr,
        conn: ConnId,
        flags: Flags,
        hold: bool,
    ) {
        let Some(listed) = self.listed.get_mut(&addr) else {
            return;
        };
        if listed.conn != Some(conn) {
            return;
        }
        listed.conn = None;
        listed.flags = flags;
        self.held.push_back(addr);
        let few = self.connected() < usize::from(config.few_peers);
        if !hold || !few {
            self.release(addr);
        } else if self.held.len() > usize::from(config.max_held)
            && let Some(oldest) = self.held.front().copied()
        {
            self.release(oldest);
        }
        if self.drops > usize::from(config.max_waiting_drops) {
            self.forget_oldest_drop();
        }
    }

    /// Nobody is told of `addr` any more, though it left while few were connected.
    fn release(&mut self, addr: SocketAddr) {
        self.held.retain(|held| *held != addr);
        if self.listed.remove(&addr).is_some() {
            self.change(addr, Kind::Dropped);
        }
    }

    /// Endpoints that are told of and connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.listed.len() - self.held.len()
    }

    /// Every endpoint that is told of, and its connection or the flags it left with.
    pub fn everyone(&self) -> impl Iterator<Item = (SocketAddr, Option<ConnId>, Flags)> + '_ {
        let listed = self.listed.iter();
        listed.map(|(addr, listed)| (*addr, listed.conn, listed.flags))
    }

    /// The connection of an endpoint, or the flags it left with; `None` when it is not told of.
    #[must_use]
    pub fn find(&self, addr: SocketAddr) -> Option<(Option<ConnId>, Flags)> {
        let listed = self.listed.get(&addr)?;
        Some((listed.conn, listed.flags))
    }

    /// Somebody is told of everyone: the number from which on changes are news to it.
    pub fn told_everyone(&mut self) -> u64 {
        self.everyone = self.last;
        self.last
    }

    /// Begins a round. `is_bad` names endpoints that must not be told of any longer, whatever
    /// speaks for holding them.
    pub fn begin_round(&mut self, config: &PexConfig, is_bad: impl Fn(SocketAddr) -> bool) {
        let many = self.connected() >= usize::from(config.few_peers);
        let over = |addr: &SocketAddr| many || is_bad(*addr);
        let released: Vec<_> = self.held.iter().copied().filter(over).collect();
        released.into_iter().for_each(|addr| self.release(addr));

        let [latest, before, _] = self.rounds;
        let (mut added, mut dropped, mut end) = (0, 0, latest);
        for (number, (addr, kind)) in self.changes.range(latest + 1..) {
            match kind {
                Kind::Added => added += 1,
                Kind::Dropped => dropped += 1,
            }
            if added > config.max_added || dropped > config.max_dropped {
                break;
            }
            end = *number;
            self.waiting.remove(addr);
            self.drops -= usize::from(*kind == Kind::Dropped);
        }
        self.rounds = [end, latest, before];
        while let Some(change) = self.changes.first_entry()
            && *change.key() <= before
        {
            change.remove();
        }
    }

    /// What the round that was begun last tells whoever was told of the changes up to `told`, and
    /// the number up to which it is told then. Within the limits of one message, too.
    #[must_use]
    pub fn news(&self, config: &PexConfig, told: u64) -> (Diff, u64) {
        let [end, ..] = self.rounds;
        let mut diff = Diff::default();
        if told >= end {
            return (diff, told);
        }
        // Of several changes of one endpoint only the last.
        let mut latest = BTreeMap::new();
        for (number, (addr, _)) in self.changes.range(told + 1..=end) {
            latest.insert(*addr, *number);
        }
        for (number, (addr, kind)) in self.changes.range(told + 1..=end) {
            let (list, most) = match kind {
                Kind::Added => (&mut diff.added, config.max_added),
                Kind::Dropped => (&mut diff.dropped, config.max_dropped),
            };
            if latest.get(addr) == Some(number) && list.len() < usize::from(most) {
                list.push(*addr);
            }
        }
        (diff, end)
    }

    /// Up to where whoever missed nothing was told before the round that was begun last.
    #[must_use]
    pub fn before_round(&self) -> u64 {
        self.rounds[1]
    }

    fn change(&mut self, addr: SocketAddr, kind: Kind) {
        self.last += 1;
        let mut since = self.last;
        if let Some((number, first)) = self.waiting.remove(&addr)
            && let Some((_, before)) = self.changes.remove(&number)
        {
            self.drops -= usize::from(before == Kind::Dropped);
            // What was not told yet and is undone need not be told, unless somebody was told of
            // everyone in between.
            if before != kind && first > self.everyone {
                return;
            }
            since = first;
        }
        self.changes.insert(self.last, (addr, kind));
        self.waiting.insert(addr, (self.last, since));
        self.drops += usize::from(kind == Kind::Dropped);
    }

    fn forget_oldest_drop(&mut self) {
        let from = self.rounds[0] + 1;
        let mut waiting = self.changes.range(from..);
        let oldest = waiting.find(|(_, (_, kind))| *kind == Kind::Dropped);
        if let Some((number, (addr, _))) = oldest.map(|(number, change)| (*number, *change)) {
            self.changes.remove(&number);
            self.waiting.remove(&addr);
            self.drops -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;
    use alloc::collections::BTreeSet;
    use quickcheck::quickcheck;

    fn addr(n: u16) -> SocketAddr {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([16, 0, high, low], 6881))
    }

    fn conn(n: u16) -> ConnId {
        ConnId(Key {
            index: n.into(),
            generation: 0,
        })
    }

    fn leave(log: &mut Log, config: &PexConfig, n: u16, hold: bool) {
        log.leave(config, addr(n), conn(n), Flags::SEED, hold);
    }

    fn round(log: &mut Log, config: &PexConfig) -> Diff {
        log.begin_round(config, |_| false);
        log.news(config, log.before_round()).0
    }

    #[test]
    fn a_round_tells_of_fifty_at_most_and_the_next_of_the_rest() {
        let config = PexConfig {
            few_peers: 0,
            max_waiting_drops: 200,
            ..PexConfig::default()
        };
        let mut log = Log::default();
        (0..120).for_each(|n| log.join(addr(n), conn(n)));
        let sizes: Vec<_> = (0..4)
            .map(|_| round(&mut log, &config).added.len())
            .collect();
        assert_eq!(sizes, [50, 50, 20, 0]);
        (0..120).for_each(|n| leave(&mut log, &config, n, true));
        let sizes: Vec<_> = (0..4)
            .map(|_| round(&mut log, &config).dropped.len())
            .collect();
        assert_eq!(sizes, [50, 50, 20, 0]);
        assert!(log.waiting.is_empty() && log.drops == 0);
    }

    #[test]
    fn who_leaves_a_small_swarm_is_told_of_until_it_has_grown() {
        let config = PexConfig {
            few_peers: 3,
            max_held: 2,
            ..PexConfig::default()
        };
        let mut log = Log::default();
        (0..4).for_each(|n| log.join(addr(n), conn(n)));
        round(&mut log, &config);
        // Three are enough that the first to leave is dropped.
        leave(&mut log, &config, 0, true);
        assert_eq!(round(&mut log, &config).dropped, [addr(0)]);
        leave(&mut log, &config, 1, true);
        leave(&mut log, &config, 2, true);
        assert!(round(&mut log, &config).is_empty());
        assert_eq!(log.everyone().count(), 3);
        assert_eq!(log.find(addr(1)), Some((None, Flags::SEED)));
        // Who comes back had never left; of those who stay away no more are held than may be.
        log.join(addr(1), conn(1));
        log.join(addr(4), conn(4));
        leave(&mut log, &config, 3, true);
        leave(&mut log, &config, 4, true);
        let diff = round(&mut log, &config);
        assert_eq!(
            (diff.added, diff.dropped),
            ([addr(4)].into(), [addr(2)].into())
        );
        // Who is bad goes at once; all go as soon as there are enough.
        log.begin_round(&config, |bad| bad == addr(3));
        assert_eq!(log.news(&config, log.before_round()).0.dropped, [addr(3)]);
        leave(&mut log, &config, 1, false);
        assert_eq!(round(&mut log, &config).dropped, [addr(1)]);
        (5..8).for_each(|n| log.join(addr(n), conn(n)));
        assert_eq!(round(&mut log, &config).dropped, [addr(4)]);
        assert_eq!(log.connected(), 3);
    }

    #[test]
    fn who_comes_and_goes_before_anybody_was_told_is_not_told_of() {
        let config = PexConfig {
            few_peers: 0,
            max_waiting_drops: 3,
            ..PexConfig::default()
        };
        let mut log = Log::default();
        log.join(addr(1), conn(1));
        leave(&mut log, &config, 1, true);
        assert!(log.changes.is_empty());
        // Somebody was told of everyone: it must hear that one of them left.
        log.join(addr(1), conn(1));
        let told = log.told_everyone();
        leave(&mut log, &config, 1, true);
        log.begin_round(&config, |_| false);
        let (diff, _) = log.news(&config, told);
        assert_eq!((diff.added.len(), diff.dropped), (0, [addr(1)].into()));
        // Somebody who does so time and again fills no memory.
        for n in 10..50 {
            log.join(addr(n), conn(n));
            log.told_everyone();
            leave(&mut log, &config, n, true);
        }
        assert_eq!((log.drops, log.waiting.len()), (3, 3));
    }

    #[test]
    fn an_endpoint_is_that_of_the_connection_that_had_it_first() {
        let config = PexConfig::default();
        let mut log = Log::default();
        log.join(addr(1), conn(1));
        log.join(addr(1), conn(2));
        log.leave(&config, addr(1), conn(2), Flags::default(), false);
        assert_eq!(log.find(addr(1)), Some((Some(conn(1)), Flags::default())));
        log.leave(&config, addr(1), conn(1), Flags::default(), false);
        assert_eq!(log.find(addr(1)), None);
    }

    quickcheck! {
        /// Whoever is told all news, from whatever moment on and with a round missed now and
        /// then, knows in the end who is there.
        fn everybody_comes_to_know_the_same(steps: Vec<(u8, u16)>) -> bool {
            let config = PexConfig { few_peers: 3, max_held: 2, ..PexConfig::default() };
            let mut log = Log::default();
            let mut hearers: Vec<(u64, BTreeSet<SocketAddr>, bool)> = Vec::new();
            let quiet = [(5, 0); 4];
            for (kind, n) in steps.into_iter().chain(quiet) {
                let n = n % 8;
                match kind % 6 {
                    0 | 1 => log.join(addr(n), conn(n)),
                    2 | 3 => leave(&mut log, &config, n, kind >= 128),
                    4 if hearers.len() < 6 => {
                        let known = log.everyone().map(|(addr, ..)| addr).collect();
                        // It must miss the next round.
                        hearers.push((log.told_everyone(), known, true));
                    }
                    _ => {
                        log.begin_round(&config, |_| false);
                        for (told, known, misses) in &mut hearers {
                            if core::mem::take(misses) {
                                continue;
                            }
                            let (diff, up_to) = log.news(&config, *told);
                            *told = up_to;
                            if diff.added.iter().any(|addr| diff.dropped.contains(addr)) {
                                return false;
                            }
                            known.extend(diff.added);
                            diff.dropped.iter().for_each(|addr| { known.remove(addr); });
                        }
                    }
                }
                let listed = log.listed.len();
                if log.held.len() > 2 || log.waiting.len() > listed + log.drops {
                    return false;
                }
            }
            let listed: BTreeSet<_> = log.listed.keys().copied().collect();
            hearers.iter().all(|(_, known, _)| *known == listed)
        }
    }
}
