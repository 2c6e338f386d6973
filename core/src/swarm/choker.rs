//! Whom to serve: tit for tat while leeching, turns while seeding.
//!
//! A round every few seconds ranks the interested peers; one slot in five is *optimistic* and
//! goes to whoever waited longest, which is also what keeps any ranking from starving someone.
//! Between rounds, a slot that is free is filled at once: a newcomer's first byte should not wait
//! for the next round.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::picker::PeerKey;
use crate::config::SwarmConfig;
use crate::rng::Choice;
use crate::time::{Duration, Instant};

/// Parameters of a [`Choker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChokerConfig {
    /// Unchoke slots, optimistic ones included.
    pub slots: u16,
    /// Time between rounds.
    pub interval: Duration,
    /// Time an optimistic slot stays with one peer.
    pub optimistic_interval: Duration,
    /// Slots of which one is optimistic.
    pub slots_per_optimistic: u16,
    /// Slots for peers of one address prefix (IPv4 /24, IPv6 /48), so that one network cannot
    /// take them all. Loopback is exempt.
    pub slots_per_prefix: u16,
    /// Seeding: a peer keeps its slot at least this long.
    pub seeding_time: Duration,
    /// Seeding: a peer that got this many bytes gives its slot to one that waits.
    pub seeding_quota: u64,
    /// Seeding: a slow peer does so after this long, whatever it got.
    pub max_seeding_time: Duration,
    /// Seeding: one in so many slots changes hands in one round.
    pub slots_per_turn: u16,
}

impl Default for ChokerConfig {
    fn default() -> Self {
        Self::from(&SwarmConfig::default())
    }
}

impl ChokerConfig {
    /// With a single slot, tit for tat matters more than exploring.
    fn optimistic_slots(&self) -> u16 {
        if self.slots < 2 {
            return 0;
        }
        (self.slots / self.slots_per_optimistic.max(1)).max(1)
    }
}

impl From<&SwarmConfig> for ChokerConfig {
    fn from(config: &SwarmConfig) -> Self {
        Self {
            slots: config.upload_slots,
            interval: config.choke_interval,
            optimistic_interval: config.optimistic_interval,
            slots_per_optimistic: config.slots_per_optimistic,
            slots_per_prefix: config.slots_per_prefix,
            seeding_time: config.seeding_time,
            seeding_quota: config.seeding_quota,
            max_seeding_time: config.max_seeding_time,
            slots_per_turn: config.slots_per_turn,
        }
    }
}

/// What ranks the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// We want pieces: who gives most gets most.
    Leeching,
    /// We have all we want: peers take turns.
    Seeding,
}

/// The network a peer's address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 7]);

impl Prefix {
    /// The network of `addr`; `None` for loopback, which no cap applies to.
    #[must_use]
    pub fn of(addr: IpAddr) -> Option<Self> {
        match addr.to_canonical() {
            addr if addr.is_loopback() => None,
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Some(Self([4, a, b, c, 0, 0, 0]))
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Some(Self([6, a, b, c, d, e, f]))
            }
        }
    }
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerFacts {
    /// The peer.
    pub peer: PeerKey,
    /// It wants something of us.
    pub interested: bool,
    /// It is unchoked now.
    pub unchoked: bool,
    /// It sent nothing for too long although it was asked.
    pub snubbed: bool,
    /// It wants nothing any more and only gives (BEP 21), or has everything.
    pub upload_only: bool,
    /// Bytes per second it gives us.
    pub down_rate: u64,
    /// Bytes per second we give it.
    pub up_rate: u64,
    /// Bytes it got since it was last unchoked.
    pub bytes_since_unchoke: u64,
    /// When it was unchoked for the last time; `None`: never.
    pub last_unchoked: Option<Instant>,
    /// When it came.
    pub joined: Instant,
    /// How much it has, in thousandths.
    pub completion: u16,
    /// Its network, when slots per network are capped.
    pub prefix: Option<Prefix>,
}

/// Why a peer is served or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ChokeReason {
    /// Unchoked: it gives us most.
    Reciprocated,
    /// Unchoked: its turn while we seed.
    Turn,
    /// Unchoked: a slot was free.
    FreeSlot,
    /// Unchoked: it waited longest.
    Optimistic,
    /// Choked: it wants nothing.
    NotInterested,
    /// Choked: others ranked higher.
    Outranked,
    /// Choked: its network has its share of slots.
    PrefixFull,
}

/// What becomes of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The peer.
    pub peer: PeerKey,
    /// Whether it is unchoked from now on.
    pub unchoke: bool,
    /// Why.
    pub reason: ChokeReason,
}

/// Decides who is unchoked.
#[derive(Debug)]
pub struct Choker {
    config: ChokerConfig,
    next_round: Instant,
    /// Who holds the optimistic slots, and since when.
    optimistic: Vec<(PeerKey, Instant)>,
}

impl Choker {
    /// A choker whose first round is due at once.
    #[must_use]
    pub fn new(config: ChokerConfig, now: Instant) -> Self {
        Self {
            config,
            next_round: now,
            optimistic: Vec::new(),
        }
    }

    /// Changes the number of slots from the next decision on.
    pub fn set_slots(&mut self, slots: u16) {
        self.config.slots = slots;
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.config.slots
    }

    /// When the next round is due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.next_round
    }

    /// Whether a peer that becomes interested now would find a slot: then call [`Self::fill`].
    #[must_use]
    pub fn has_free_slot(&self, unchoked: usize) -> bool {
        unchoked < usize::from(self.config.slots)
    }

    /// A round: ranks all `peers` anew. Appends one decision per peer, in their order.
    pub fn round(
        &mut self,
        now: Instant,
        mode: Mode,
        peers: &[PeerFacts],
        choice: &mut Choice,
        out: &mut Vec<Decision>,
    ) {
        self.next_round = now + self.config.interval;
        self.decide(now, Occasion::Round(mode), peers, choice, out);
    }

    /// Fills free slots between rounds; who is unchoked and interested stays so. Appends one
    /// decision per peer, in their order.
    pub fn fill(
        &mut self,
        now: Instant,
        peers: &[PeerFacts],
        choice: &mut Choice,
        out: &mut Vec<Decision>,
    ) {
        self.decide(now, Occasion::Vacancy, peers, choice, out);
    }

    fn decide(
        &mut self,
        now: Instant,
        occasion: Occasion,
        peers: &[PeerFacts],
        choice: &mut Choice,
        out: &mut Vec<Decision>,
    ) {
        let first = out.len();
        out.extend(peers.iter().map(|facts| Decision {
            peer: facts.peer,
            unchoke: false,
            reason: if facts.interested {
                ChokeReason::Outranked
            } else {
                ChokeReason::NotInterested
            },
        }));
        let ties: Vec<u64> = peers.iter().map(|_| choice.next_u64()).collect();
        let mut slots = Slots {
            decisions: &mut out[first..],
            free: self.config.slots,
            per_prefix: self.config.slots_per_prefix,
            prefixes: BTreeMap::new(),
        };

        // Optimistic slots that have not run out stay where they are.
        let optimistic_slots = self.config.optimistic_slots();
        let interval = self.config.optimistic_interval;
        let is_round = !matches!(occasion, Occasion::Vacancy);
        self.optimistic.retain(|(peer, since)| {
            let runs = !is_round || now.saturating_since(*since) < interval;
            peers
                .iter()
                .any(|facts| facts.peer == *peer && facts.interested && facts.unchoked && runs)
        });
        self.optimistic.truncate(usize::from(optimistic_slots));

        let mut ranked: Vec<usize> = (0..peers.len())
            .filter(|index| peers[*index].interested)
            .collect();
        let served = self.served(now, peers);
        ranked.sort_by_cached_key(|index| {
            (self.rank(occasion, &served, &peers[*index]), ties[*index])
        });

        let held: Vec<PeerKey> = self.optimistic.iter().map(|(peer, _)| *peer).collect();
        for index in ranked.iter().copied() {
            if held.contains(&peers[index].peer) {
                slots.give(index, &peers[index], ChokeReason::Optimistic);
            }
        }
        // Regular slots, in order of rank, leave the optimistic ones that are free alone.
        let vacant = optimistic_slots.saturating_sub(held.len() as u16);
        for index in ranked.iter().copied() {
            if slots.free <= vacant {
                break;
            }
            let reason = match occasion {
                Occasion::Vacancy => ChokeReason::FreeSlot,
                Occasion::Round(Mode::Seeding) => ChokeReason::Turn,
                Occasion::Round(Mode::Leeching) if peers[index].down_rate > 0 => {
                    ChokeReason::Reciprocated
                }
                Occasion::Round(Mode::Leeching) => ChokeReason::FreeSlot,
            };
            slots.give(index, &peers[index], reason);
        }
        // The rest goes to who waited longest; who has just been served has not waited.
        ranked.sort_by_key(|index| {
            let facts = &peers[*index];
            (facts.unchoked, waiting_since(facts), ties[*index])
        });
        for index in ranked.iter().copied() {
            if slots.give(index, &peers[index], ChokeReason::Optimistic) {
                self.optimistic.push((peers[index].peer, now));
            }
        }
    }

    /// Who has had its turn while we seed: those that take nothing, and of the others the few that
    /// have been served longest.
    fn served(&self, now: Instant, peers: &[PeerFacts]) -> Vec<PeerKey> {
        let config = &self.config;
        let (mut idle, mut over) = (Vec::new(), Vec::new());
        for facts in peers.iter().filter(|facts| facts.unchoked) {
            let since = facts.last_unchoked.unwrap_or(now);
            let held = now.saturating_since(since);
            let quota = facts.bytes_since_unchoke >= config.seeding_quota;
            if facts.up_rate == 0 && held >= config.interval {
                // It holds up one that would take something.
                idle.push(facts.peer);
            } else if (quota && held >= config.seeding_time) || held >= config.max_seeding_time {
                over.push((since, facts.peer));
            }
        }
        over.sort_unstable();
        let most = (config.slots / config.slots_per_turn.max(1)).max(1);
        idle.extend(over.iter().take(most.into()).map(|(_, peer)| *peer));
        idle
    }

    /// Lower is better; compared before the tie is broken at random.
    fn rank(&self, occasion: Occasion, served: &[PeerKey], facts: &PeerFacts) -> Rank {
        match occasion {
            Occasion::Vacancy => (u8::from(!facts.unchoked), 0, waiting_since(facts)),
            Occasion::Round(Mode::Leeching) => {
                let group = u8::from(facts.snubbed) * 2 + u8::from(facts.down_rate == 0);
                (group, u64::MAX - facts.down_rate, waiting_since(facts))
            }
            Occasion::Round(Mode::Seeding) => {
                let is_served = served.contains(&facts.peer);
                let group = match (facts.unchoked, is_served) {
                    (true, false) => 0,
                    (false, _) => 1,
                    (true, true) => 2,
                };
                // Newcomers have nothing to trade yet, and who is nearly complete becomes a seed:
                // both spread more of what they get than those in between.
                let middle = 500 - u64::from(facts.completion).abs_diff(500).min(500);
                let middle = if group == 1 { middle } else { 0 };
                (group, middle, waiting_since(facts))
            }
        }
    }
}

type Rank = (u8, u64, (bool, Instant));

#[derive(Clone, Copy)]
enum Occasion {
    Round(Mode),
    Vacancy,
}

struct Slots<'a> {
    decisions: &'a mut [Decision],
    free: u16,
    per_prefix: u16,
    prefixes: BTreeMap<Prefix, u16>,
}

impl Slots<'_> {
    /// Unchokes a peer if there is room. Returns whether that is new.
    fn give(&mut self, index: usize, facts: &PeerFacts, reason: ChokeReason) -> bool {
        let decision = &mut self.decisions[index];
        if decision.unchoke || self.free == 0 {
            return false;
        }
        if let Some(prefix) = facts.prefix {
            let used = self.prefixes.entry(prefix).or_insert(0);
            if *used >= self.per_prefix {
                decision.reason = ChokeReason::PrefixFull;
                return false;
            }
            *used += 1;
        }
        self.free -= 1;
        decision.unchoke = true;
        decision.reason = reason;
        true
    }
}

/// Orders who waited longer first: never unchoked before all others, then by time.
fn waiting_since(facts: &PeerFacts) -> (bool, Instant) {
    match facts.last_unchoked {
        None => (false, facts.joined),
        Some(at) => (true, at),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;
    use crate::rng::Label;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000 + seconds * 1_000_000)
    }

    fn config(slots: u16) -> ChokerConfig {
        ChokerConfig {
            slots,
            ..ChokerConfig::default()
        }
    }

    fn peer(key: u32) -> PeerFacts {
        PeerFacts {
            peer: PeerKey(key),
            interested: true,
            unchoked: false,
            snubbed: false,
            upload_only: false,
            down_rate: 0,
            up_rate: 1_000,
            bytes_since_unchoke: 0,
            last_unchoked: None,
            joined: at(u64::from(key)),
            completion: 500,
            prefix: None,
        }
    }

    struct Table {
        choker: Choker,
        choice: Choice,
        peers: Vec<PeerFacts>,
    }

    impl Table {
        fn new(slots: u16, peers: Vec<PeerFacts>) -> Self {
            Self {
                choker: Choker::new(config(slots), at(0)),
                choice: Choice::new(&[2; 32], Label::Custom(0)),
                peers,
            }
        }

        /// A round, or a filling without a mode, whose decisions take effect.
        fn decide(&mut self, now: Instant, mode: Option<Mode>) -> Vec<Decision> {
            let (mut out, choice) = (Vec::new(), &mut self.choice);
            match mode {
                Some(mode) => self.choker.round(now, mode, &self.peers, choice, &mut out),
                None => self.choker.fill(now, &self.peers, choice, &mut out),
            }
            assert_eq!(out.len(), self.peers.len());
            for (facts, decision) in self.peers.iter_mut().zip(&out) {
                assert_eq!(facts.peer, decision.peer);
                if decision.unchoke && !facts.unchoked {
                    facts.bytes_since_unchoke = 0;
                    facts.last_unchoked = Some(now);
                }
                facts.unchoked = decision.unchoke;
            }
            out
        }

        fn unchoked(&self) -> Vec<u32> {
            let unchoked = self.peers.iter().filter(|facts| facts.unchoked);
            unchoked.map(|facts| facts.peer.0).collect()
        }
    }

    fn with(decisions: &[Decision], reason: ChokeReason) -> Vec<u32> {
        let found = decisions.iter().filter(|d| d.reason == reason);
        found.map(|d| d.peer.0).collect()
    }

    #[test]
    fn who_gives_most_is_served_and_one_slot_explores() {
        let peers = (0..10).map(|key| PeerFacts {
            down_rate: u64::from(key) * 100,
            snubbed: key == 9,
            ..peer(key)
        });
        let mut table = Table::new(4, peers.collect());
        let decisions = table.decide(at(10), Some(Mode::Leeching));
        assert_eq!(with(&decisions, ChokeReason::Reciprocated), [6, 7, 8]);
        assert_eq!(with(&decisions, ChokeReason::Optimistic), [0]);
        assert_eq!(table.choker.next_timeout(), at(20));
    }

    #[test]
    fn the_optimistic_slot_goes_round_to_who_waited_longest() {
        let mut peers: Vec<PeerFacts> = (0..5).map(peer).collect();
        for facts in &mut peers[3..] {
            facts.down_rate = 9_000;
        }
        let mut table = Table::new(3, peers);
        let mut seen = Vec::new();
        for round in 1..=12 {
            let decisions = table.decide(at(round * 10), Some(Mode::Leeching));
            assert_eq!(with(&decisions, ChokeReason::Reciprocated), [3, 4]);
            seen.extend(with(&decisions, ChokeReason::Optimistic));
        }
        assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]);
    }

    #[test]
    fn a_free_slot_is_filled_at_once_and_nobody_loses_one_for_it() {
        let mut table = Table::new(5, (0..3).map(peer).collect());
        table.decide(at(10), Some(Mode::Leeching));
        assert_eq!(table.unchoked(), [0, 1, 2]);
        assert!(table.choker.has_free_slot(3));
        table.peers.extend((3..8).map(peer));
        table.decide(at(11), None);
        assert_eq!(table.unchoked(), [0, 1, 2, 3, 4]);
        assert!(!table.choker.has_free_slot(5));
        table.peers[0].interested = false;
        let decisions = table.decide(at(12), None);
        assert_eq!(with(&decisions, ChokeReason::NotInterested), [0]);
        assert_eq!(table.unchoked(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_seed_keeps_slots_busy_and_gives_turns_by_time_and_quota() {
        let mut table = Table::new(4, (0..8).map(peer).collect());
        table.decide(at(10), Some(Mode::Seeding));
        let first = table.unchoked();
        let served = first[0] as usize;
        table.peers[served].bytes_since_unchoke = u64::MAX;
        table.decide(at(20), Some(Mode::Seeding));
        assert!(table.unchoked().contains(&first[0]), "its time is not over");
        table.peers[served].bytes_since_unchoke = u64::MAX;
        table.decide(at(80), Some(Mode::Seeding));
        assert!(!table.unchoked().contains(&first[0]));
        // Without anyone waiting, the quota takes nobody's slot.
        table.peers.truncate(4);
        for facts in &mut table.peers {
            facts.bytes_since_unchoke = u64::MAX;
        }
        table.decide(at(200), Some(Mode::Seeding));
        assert_eq!(table.unchoked(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_seed_prefers_newcomers_and_the_nearly_complete() {
        let completions = [480, 20, 520, 980, 300];
        let peers = completions
            .iter()
            .enumerate()
            .map(|(key, completion)| PeerFacts {
                completion: *completion,
                ..peer(key as u32)
            });
        let mut table = Table::new(3, peers.collect());
        let decisions = table.decide(at(10), Some(Mode::Seeding));
        assert_eq!(with(&decisions, ChokeReason::Turn), [1, 3]);
        assert_eq!(with(&decisions, ChokeReason::Optimistic), [0]);
    }

    #[test]
    fn every_peer_of_a_seed_gets_its_turn() {
        let mut table = Table::new(4, (0..20).map(peer).collect());
        let mut served = BTreeSet::new();
        for round in 1..100 {
            table.decide(at(round * 10), Some(Mode::Seeding));
            served.extend(table.unchoked());
            assert_eq!(table.unchoked().len(), 4);
            for facts in table.peers.iter_mut().filter(|facts| facts.unchoked) {
                facts.bytes_since_unchoke += 4 * 1024 * 1024;
            }
        }
        assert_eq!(served.len(), 20);
    }

    #[test]
    fn of_many_turns_that_are_over_a_few_end_in_one_round() {
        let mut table = Table::new(8, (0..20).map(peer).collect());
        table.decide(at(10), Some(Mode::Seeding));
        let first = table.unchoked();
        for facts in table.peers.iter_mut().filter(|facts| facts.unchoked) {
            facts.bytes_since_unchoke = u64::MAX;
        }
        let mut left = Vec::new();
        for round in 1..=5 {
            table.decide(at(60 + round * 10), Some(Mode::Seeding));
            assert_eq!(table.unchoked().len(), 8);
            let stays = first.iter().filter(|peer| table.unchoked().contains(peer));
            left.push(stays.count());
        }
        // Two a round, besides the optimistic one, which moves on by itself.
        assert!(left.windows(2).all(|two| two[0] - two[1] <= 3), "{left:?}");
        assert!(left[0] >= 5 && left[4] == 0, "{left:?}");
    }

    #[test]
    fn who_takes_nothing_or_little_holds_no_slot_for_ever() {
        let mut table = Table::new(4, (0..8).map(peer).collect());
        table.decide(at(10), Some(Mode::Seeding));
        let first = table.unchoked();
        let (idle, slow) = (first[0], first[1]);
        for facts in &mut table.peers {
            facts.up_rate = if facts.peer.0 == idle { 0 } else { 10 };
        }
        table.decide(at(20), Some(Mode::Seeding));
        assert!(!table.unchoked().contains(&idle), "it is idle");
        assert!(table.unchoked().contains(&slow), "its time is not over");
        let most = SwarmConfig::default().max_seeding_time.as_secs();
        let mut gone = 0;
        for round in 0..most / 5 {
            table.decide(at(30 + round * 10), Some(Mode::Seeding));
            gone += u64::from(!table.unchoked().contains(&slow));
        }
        assert!(gone > 0, "slow, and never done");
    }

    #[test]
    fn one_network_cannot_take_every_slot() {
        let prefix = Prefix::of(IpAddr::from([10, 1, 2, 3]));
        assert_eq!(prefix, Prefix::of(IpAddr::from([10, 1, 2, 200])));
        assert_ne!(prefix, Prefix::of(IpAddr::from([10, 1, 3, 3])));
        assert_eq!(Prefix::of(IpAddr::from([127, 0, 0, 1])), None);
        let mapped = core::net::Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped();
        assert_eq!(prefix, Prefix::of(IpAddr::V6(mapped)));

        let peers = (0..10).map(|key| PeerFacts {
            down_rate: 1_000 - u64::from(key),
            prefix: prefix.filter(|_| key < 8),
            ..peer(key)
        });
        let mut table = Table::new(8, peers.collect());
        let decisions = table.decide(at(10), Some(Mode::Leeching));
        assert_eq!(table.unchoked(), [0, 1, 2, 8, 9]);
        assert_eq!(with(&decisions, ChokeReason::PrefixFull), [3, 4, 5, 6, 7]);
    }

    quickcheck! {
        fn slots_are_never_exceeded_nor_left_empty(
            slots: u8, rounds: Vec<(u8, bool, bool)>, rates: Vec<u16>
        ) -> bool {
            let slots = u16::from(slots % 12);
            let peers = rates.iter().enumerate().map(|(key, rate)| PeerFacts {
                down_rate: u64::from(*rate),
                snubbed: rate % 5 == 0,
                interested: rate % 3 != 0,
                completion: rate % 1_001,
                ..peer(key as u32)
            });
            let peers: Vec<PeerFacts> = peers.collect();
            let mut table = Table::new(slots, peers.clone());
            let mut twin = Table::new(slots, peers);
            let mut now = 0;
            for (pause, is_round, seeding) in rounds {
                now += u64::from(pause);
                let mode = if seeding { Mode::Seeding } else { Mode::Leeching };
                let mode = is_round.then_some(mode);
                let before = table.unchoked();
                let decisions = table.decide(at(now), mode);
                assert_eq!(decisions, twin.decide(at(now), mode));
                let interested = table.peers.iter().filter(|facts| facts.interested).count();
                assert_eq!(table.unchoked().len(), interested.min(usize::from(slots)));
                if !is_round {
                    assert!(before.iter().all(|key| table.unchoked().contains(key)));
                }
                assert!(table.choker.optimistic.len() <= usize::from(config(slots).optimistic_slots()));
            }
            true
        }
    }

    #[test]
    fn few_slots_have_no_or_one_optimistic() {
        let counts: Vec<u16> = [0, 1, 2, 5, 9, 10, 25]
            .map(|slots| config(slots).optimistic_slots())
            .into();
        assert_eq!(counts, vec![0, 0, 1, 1, 1, 2, 5]);
        let explore = |slots_per_optimistic| {
            let config = ChokerConfig {
                slots_per_optimistic,
                ..config(12)
            };
            let mut choker = Choker::new(config, at(0));
            let peers: Vec<_> = (0..30).map(peer).collect();
            let (mut out, mut choice) = (Vec::new(), Choice::new(&[2; 32], Label::Custom(0)));
            choker.round(at(10), Mode::Leeching, &peers, &mut choice, &mut out);
            assert_eq!(out.iter().filter(|decision| decision.unchoke).count(), 12);
            choker.optimistic.len()
        };
        assert_eq!([2, 4, 12, 100].map(explore), [6, 3, 1, 1]);
    }
}
