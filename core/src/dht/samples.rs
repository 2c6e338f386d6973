//! Some of the info-hashes that we keep peers of, for whoever surveys the network (BEP 51).

use alloc::vec::Vec;

use super::store::Store;
use crate::config::DhtConfig;
use crate::id::Id20;
use crate::rng::Choice;

/// A sample that stays the same for a while: whoever asks again and again learns no more.
#[derive(Debug, Default)]
pub struct Samples {
    hashes: Vec<Id20>,
    /// When it was drawn, seconds.
    drawn: Option<u32>,
    /// Info-hashes there were then.
    of: u32,
}

impl Samples {
    /// Draws another sample if this one is too old, or if it is short and there is more by now.
    /// `now` in seconds.
    pub fn renew(&mut self, store: &Store, config: &DhtConfig, now: u32, choice: &mut Choice) {
        let most = usize::from(config.samples);
        let age = self.drawn.map(|drawn| now.saturating_sub(drawn));
        let fresh = age.is_some_and(|age| age < interval(config));
        let rested = age.is_none_or(|age| u64::from(age) >= config.sample_renewal.as_secs());
        let short = rested && self.hashes.len() < most && store.len() > self.hashes.len();
        if fresh && !short {
            return;
        }
        self.hashes = store.sample_hashes(most, now, choice);
        self.of = store.count_hashes(now);
        self.drawn = Some(now);
    }

    /// The info-hashes of the sample.
    #[must_use]
    pub fn hashes(&self) -> &[Id20] {
        &self.hashes
    }

    /// How many there were when it was drawn.
    #[must_use]
    pub fn of(&self) -> u32 {
        self.of
    }

    /// Seconds until there is another.
    #[must_use]
    pub fn left(&self, config: &DhtConfig, now: u32) -> u32 {
        let age = self.drawn.map_or(0, |drawn| now.saturating_sub(drawn));
        interval(config).saturating_sub(age)
    }
}

fn interval(config: &DhtConfig) -> u32 {
    u32::try_from(config.sample_interval.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::id::NodeId;
    use crate::rng::Label;
    use core::net::SocketAddr;
    use std::collections::BTreeSet;

    fn add(store: &mut Store, torrents: core::ops::Range<u16>, now: u32) {
        for n in torrents {
            let [high, low] = n.to_be_bytes();
            let mut hash = [0; 20];
            hash[..2].copy_from_slice(&[high, low]);
            let addr = SocketAddr::from(([8, high, low, 1], 1));
            assert!(store.announce(&Id20(hash), addr, false, now));
        }
    }

    #[test]
    fn a_sample_stays_for_six_hours_and_then_is_another() {
        let config = Config::default().dht;
        let mut choice = Choice::new(&[1; 32], Label::Custom(1));
        let mut store = Store::new(NodeId::default(), &config, false);
        let mut samples = Samples::default();
        let mut draw = |samples: &mut Samples, store: &Store, now| {
            samples.renew(store, &config, now, &mut choice);
            samples.hashes().iter().copied().collect::<BTreeSet<_>>()
        };
        assert!(draw(&mut samples, &store, 1).is_empty());
        // A short one is drawn anew when there is more, but not at once.
        add(&mut store, 0..10, 1);
        assert!(draw(&mut samples, &store, 5).is_empty());
        assert_eq!(
            (draw(&mut samples, &store, 6).len(), samples.of()),
            (10, 10)
        );
        add(&mut store, 10..300, 6);
        let first = draw(&mut samples, &store, 11);
        assert_eq!((first.len(), samples.of()), (20, 300));
        assert_eq!(samples.left(&config, 111), 6 * 3_600 - 100);
        add(&mut store, 300..600, 12);
        assert_eq!(draw(&mut samples, &store, 6 * 3_600 + 10), first);
        // By then those have expired.
        add(&mut store, 600..900, 6 * 3_600);
        let second = draw(&mut samples, &store, 6 * 3_600 + 11);
        assert_eq!((second.len(), samples.of()), (20, 300));
        assert!(second.is_disjoint(&first));
        assert_eq!(samples.left(&config, 6 * 3_600 + 11), 6 * 3_600);
    }
}
