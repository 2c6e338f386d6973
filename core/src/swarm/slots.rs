//! How many peers a seed serves at once.
//!
//! With few slots, slow peers may hold them all while the uplink idles; with many, everybody gets
//! little. What the uplink could carry is not known, so it is tried out: half as many slots again
//! for a few seconds, kept while the rate grows with them, given back when it does not. Nothing is
//! tried while nobody waits, or while a limit of ours is what holds peers back.

use crate::config::SwarmConfig;
use crate::time::{Duration, Instant};

/// Tries out numbers of slots.
#[derive(Debug)]
pub(super) struct Slots {
    base: u16,
    most: u16,
    trial: Duration,
    pause: Duration,
    gain_percent: u64,
    slots: u16,
    /// When something is to be decided next.
    due: Instant,
    /// What there was before the trial that runs: slots, and bytes per second.
    before: Option<(u16, u64)>,
}

/// What is seen of the uplink.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uplink {
    /// Bytes per second of late.
    pub(super) rate: u64,
    /// An interested peer has no slot.
    pub(super) awaited: bool,
    /// A limit of ours holds peers back.
    pub(super) limited: bool,
}

impl Slots {
    pub(super) fn new(config: &SwarmConfig, now: Instant) -> Self {
        Self {
            base: config.upload_slots,
            most: config.max_upload_slots,
            trial: config.slot_trial,
            pause: config.slot_trial_pause,
            gain_percent: config.slot_gain.into(),
            slots: config.upload_slots,
            due: now,
            before: None,
        }
    }

    /// The slots there are to be from now on.
    pub(super) fn review(&mut self, now: Instant, uplink: Uplink) -> u16 {
        if uplink.limited {
            // Fewer share what there is, each with enough.
            self.slots = self.base;
            self.before = None;
            self.due = now + self.trial;
            return self.slots;
        }
        if now < self.due {
            return self.slots;
        }
        self.due = now + self.trial;
        if let Some((slots, rate)) = self.before.take() {
            let enough = rate.saturating_mul(100 + self.gain_percent) / 100;
            if uplink.rate < enough.max(1) {
                self.slots = slots;
                self.due = now + self.pause;
                return self.slots;
            }
        }
        if uplink.awaited && self.slots < self.most {
            self.before = Some((self.slots, uplink.rate));
            self.slots = (self.slots + (self.slots / 2).max(1)).min(self.most);
        }
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    /// The slots after an hour at an uplink whose every slot takes `each`, when so many wait.
    fn settled(capacity: u64, each: u64, peers: u16, limited: bool) -> (u16, u64) {
        let mut now = Instant::from_micros(1);
        let mut slots = Slots::new(&SwarmConfig::default(), now);
        let rate = |slots: u16| (u64::from(slots.min(peers)) * each).min(capacity);
        let (mut sum, mut rounds, mut had) = (0, 0, slots.slots);
        for second in 0..3_600u64 {
            now = now + Duration::from_secs(1);
            let uplink = Uplink {
                rate: rate(had),
                awaited: peers > had,
                limited,
            };
            had = slots.review(now, uplink);
            if second >= 60 {
                sum += rate(had);
                rounds += 1;
            }
        }
        (had, sum / rounds)
    }

    #[test]
    fn slow_peers_get_as_many_slots_as_fill_the_uplink() {
        let most = SwarmConfig::default().max_upload_slots;
        let (slots, rate) = settled(1_000_000, 25_000, 100, false);
        assert!(slots >= 40 && rate >= 950_000, "{slots}: {rate}");
        // Peers that fill it with few slots are not joined by more, but for a trial.
        let (slots, rate) = settled(1_000_000, 500_000, 100, false);
        assert!(slots <= 12 && rate == 1_000_000, "{slots}: {rate}");
        // Nobody waits, or a limit of ours is what holds them back.
        assert_eq!(settled(1_000_000, 1_000, 8, false).0, 8);
        assert_eq!(settled(1_000_000, 1_000, 100, true).0, 8);
        assert_eq!(settled(u64::MAX, 1, 1_000, false).0, most);
    }

    quickcheck! {
        fn slots_stay_between_the_base_and_the_most(rates: Vec<(u32, bool, bool)>) -> bool {
            let config = SwarmConfig::default();
            let mut now = Instant::from_micros(1);
            let mut slots = Slots::new(&config, now);
            rates.into_iter().all(|(rate, awaited, limited)| {
                now = now + Duration::from_secs(3);
                let uplink = Uplink { rate: rate.into(), awaited, limited };
                let slots = slots.review(now, uplink);
                (config.upload_slots..=config.max_upload_slots).contains(&slots)
            })
        }
    }
}
