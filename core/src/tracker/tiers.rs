//! Which tracker of a torrent is asked next (BEP 12).

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{TrackerUrl, UrlError};
use crate::config::TrackerConfig;
use crate::rng::Choice;
use crate::time::Instant;

/// An announce under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Busy {
    pub(super) since: Instant,
    /// Nobody waits for it any more.
    pub(super) late: bool,
}

/// One tracker of one torrent.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: TrackerUrl,
    pub(super) busy: Option<Busy>,
    /// Failures in a row.
    pub(super) fails: u32,
    /// It answered the last time.
    pub(super) works: bool,
    /// It ever took an announce.
    pub(super) knows_us: bool,
    /// `started` was sent and not refused.
    pub(super) started: bool,
    /// `started` said that something was missing.
    pub(super) lacked: bool,
    /// `completed` has to be sent.
    pub(super) owes_completed: bool,
    /// Not asked before, except for what happened.
    pub(super) next: Instant,
    /// Not asked before, however many peers are missed.
    pub(super) earliest: Instant,
    /// A scrape under way.
    pub(super) scrape: bool,
    /// Its answers to announces have figures.
    pub(super) counts: bool,
    /// When its figures were asked for last.
    pub(super) counted: Option<Instant>,
    pub(super) seeds: Option<u32>,
    pub(super) leechers: Option<u32>,
    /// Peers it told of the last time.
    pub(super) peers: u32,
    pub(super) tracker_id: Vec<u8>,
    /// Where it answered.
    pub(super) addr: Option<SocketAddr>,
}

impl Tracker {
    fn new(url: TrackerUrl, now: Instant) -> Self {
        Self {
            url,
            busy: None,
            fails: 0,
            works: false,
            knows_us: false,
            started: false,
            lacked: false,
            owes_completed: false,
            next: now,
            earliest: now,
            scrape: false,
            counts: false,
            counted: None,
            seeds: None,
            leechers: None,
            peers: 0,
            tracker_id: Vec::new(),
            addr: None,
        }
    }
}

/// What is to be done now, and when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Step {
    /// Announce to this one.
    pub(super) announce: Option<u16>,
    /// Nobody waits for this one any more: say so.
    pub(super) late: Option<u16>,
    /// Ask this one for its figures.
    pub(super) scrape: Option<u16>,
    /// When something may have to be done that is not due now.
    pub(super) wake: Option<Instant>,
}

impl Step {
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// The trackers of one torrent, in tiers.
#[derive(Debug)]
pub(super) struct Tiers {
    pub(super) trackers: Vec<Tracker>,
    /// Indices of trackers, in the order in which they are tried.
    order: Vec<Vec<u16>>,
}

impl Tiers {
    /// Reads `tiers`, each shuffled once. URLs that are none, or too many, are returned: each with
    /// why, where there is a reason.
    pub(super) fn new(
        tiers: Vec<Vec<String>>,
        config: &TrackerConfig,
        choice: &mut Choice,
        now: Instant,
    ) -> (Self, Vec<(String, UrlError)>) {
        let mut trackers: Vec<Tracker> = Vec::new();
        let mut refused = Vec::new();
        let mut order = Vec::new();
        let most = usize::from(config.max_trackers);
        for urls in tiers {
            let mut tier: Vec<u16> = Vec::new();
            for text in urls {
                match TrackerUrl::parse(&text, config.max_url) {
                    Ok(url) => {
                        let known = trackers.iter().any(|tracker| tracker.url == url);
                        if !known && trackers.len() < most {
                            tier.push(trackers.len() as u16);
                            trackers.push(Tracker::new(url, now));
                        }
                    }
                    Err(error) if refused.len() < most => refused.push((text, error)),
                    Err(_) => {}
                }
            }
            // Fisher and Yates.
            for last in (1..tier.len()).rev() {
                tier.swap(last, choice.index(last + 1));
            }
            if !tier.is_empty() {
                order.push(tier);
            }
        }
        (Self { trackers, order }, refused)
    }

    /// What is to be done at `now`. `urgent`: every peer is missed, so that only what a tracker
    /// insists on is waited for.
    pub(super) fn step(&self, now: Instant, config: &TrackerConfig, urgent: bool) -> Step {
        let mut step = Step::default();
        let covered = self.walk(now, config, urgent, &mut step);
        for (index, tracker) in self.trackers.iter().enumerate() {
            if !tracker.owes_completed || tracker.busy.is_some() {
                continue;
            }
            if tracker.fails == 0 || tracker.next <= now {
                step.announce = step.announce.or(Some(index as u16));
            } else {
                step.wake_at(tracker.next);
            }
        }
        let scraped = self.trackers.iter().filter(|it| it.scrape).count();
        if covered && scraped < usize::from(config.max_scrapes) {
            self.scrape(now, config, &mut step);
        }
        step
    }

    /// Goes through the tiers until somebody covers us; whether there is one.
    fn walk(&self, now: Instant, config: &TrackerConfig, urgent: bool, step: &mut Step) -> bool {
        for &index in self.order.iter().flatten() {
            let tracker = &self.trackers[usize::from(index)];
            if let Some(busy) = &tracker.busy {
                let patience = busy.since + config.patience;
                if busy.late {
                    continue;
                }
                if patience > now {
                    step.wake_at(patience);
                    return tracker.works;
                }
                step.late = step.late.or(Some(index));
                continue;
            }
            let due = match urgent && tracker.works {
                true => tracker.earliest.min(tracker.next),
                false => tracker.next,
            };
            if due <= now {
                step.announce = Some(index);
                return tracker.works;
            }
            step.wake_at(due);
            if tracker.works {
                return true;
            }
        }
        false
    }

    fn scrape(&self, now: Instant, config: &TrackerConfig, step: &mut Step) {
        for (index, tracker) in self.trackers.iter().enumerate() {
            if tracker.busy.is_some() || tracker.scrape {
                continue;
            }
            let announced = (tracker.works && tracker.counts).then_some(tracker.next);
            match tracker
                .counted
                .max(announced)
                .map(|at| at + config.scrape_interval)
            {
                Some(due) if due > now => step.wake_at(due),
                _ => {
                    step.scrape = Some(index as u16);
                    return;
                }
            }
        }
    }

    /// It answered: in its tier it is the first from now on.
    pub(super) fn promote(&mut self, index: u16) {
        for tier in &mut self.order {
            if let Some(place) = tier.iter().position(|other| *other == index) {
                tier[..=place].rotate_right(1);
            }
        }
    }

    /// The order in which they are tried.
    #[cfg(test)]
    pub(super) fn order(&self) -> &[Vec<u16>] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Label;
    use crate::time::Duration;
    use alloc::collections::BTreeSet;
    use quickcheck::quickcheck;
    use std::format;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000 * (seconds + 1))
    }

    fn tiers(sizes: &[usize], seed: u8) -> Tiers {
        let urls = sizes.iter().enumerate().map(|(tier, size)| {
            let urls = (0..*size).map(|n| format!("udp://t{tier}.example:{}", n + 1));
            urls.collect()
        });
        let mut choice = Choice::new(&[seed; 32], Label::Custom(0));
        let config = TrackerConfig::default();
        Tiers::new(urls.collect(), &config, &mut choice, at(0)).0
    }

    fn busy(since: Instant) -> Option<Busy> {
        Some(Busy { since, late: false })
    }

    #[test]
    fn tiers_are_shuffled_each_for_itself_and_every_order_comes() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let tiers = tiers(&[3, 1], seed);
            assert_eq!(tiers.order()[1], [3]);
            seen.insert(tiers.order()[0].clone());
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn copies_are_one_and_the_limit_and_what_is_no_url_are_left_out() {
        let config = TrackerConfig {
            max_trackers: 3,
            ..TrackerConfig::default()
        };
        let mut choice = Choice::new(&[1; 32], Label::Custom(0));
        let urls = [
            "udp://a:1",
            "udp://a:1",
            "wss://b",
            "http://c",
            "http://d",
            "http://e",
        ];
        let urls = urls.map(String::from).to_vec();
        let all = alloc::vec![urls.clone(), urls];
        let (tiers, refused) = Tiers::new(all, &config, &mut choice, at(0));
        assert_eq!(tiers.trackers.len(), 3);
        assert_eq!(tiers.order().len(), 1);
        assert_eq!(refused.len(), 2);
        assert_eq!(refused[0], (String::from("wss://b"), UrlError::Scheme));
        let many = (0..100).map(|_| String::from("no")).collect();
        let (_, refused) = Tiers::new(alloc::vec![many], &config, &mut choice, at(0));
        assert_eq!(refused.len(), 3);
    }

    #[test]
    fn the_next_is_asked_when_one_fails_or_is_late_and_nobody_else_once_one_works() {
        let config = TrackerConfig {
            scrape_interval: Duration::MAX,
            ..TrackerConfig::default()
        };
        let mut tiers = tiers(&[1, 1, 1], 1);
        assert_eq!(tiers.step(at(0), &config, false).announce, Some(0));
        tiers.trackers[0].busy = busy(at(0));
        // It is waited for, for a while.
        let step = tiers.step(at(1), &config, false);
        assert_eq!(
            (step.announce, step.wake),
            (None, Some(at(0) + config.patience))
        );
        let step = tiers.step(at(0) + config.patience, &config, false);
        assert_eq!((step.announce, step.late), (Some(1), Some(0)));
        // The second fails: the third is asked.
        tiers.trackers[1].fails = 1;
        tiers.trackers[1].next = at(100);
        let step = tiers.step(at(20), &config, false);
        assert_eq!(step.announce, Some(2));
        tiers.trackers[2].works = true;
        tiers.trackers[2].next = at(1_800);
        tiers.trackers[2].earliest = at(60);
        tiers
            .trackers
            .iter_mut()
            .for_each(|tracker| tracker.counted = Some(at(0)));
        tiers.trackers[0].busy.as_mut().unwrap().late = true;
        let step = tiers.step(at(20), &config, false);
        assert_eq!((step.announce, step.wake), (None, Some(at(100))));
        // Its pause over, the second is tried again before the third.
        assert_eq!(tiers.step(at(100), &config, false).announce, Some(1));
        tiers.trackers[1].next = at(9_000);
        assert_eq!(tiers.step(at(1_799), &config, false).announce, None);
        assert_eq!(tiers.step(at(59), &config, true).announce, None);
        assert_eq!(tiers.step(at(60), &config, true).announce, Some(2));
        assert_eq!(tiers.step(at(1_800), &config, false).announce, Some(2));
        // The first answers at last: the others are not asked any more.
        tiers.trackers[0].busy = None;
        tiers.trackers[0].works = true;
        tiers.trackers[0].next = at(20_000);
        let step = tiers.step(at(10_000), &config, false);
        assert_eq!((step.announce, step.wake), (None, Some(at(20_000))));
    }

    #[test]
    fn what_answers_becomes_the_first_of_its_tier() {
        let mut tiers = tiers(&[4, 2], 3);
        let first = tiers.order()[0].clone();
        tiers.promote(first[2]);
        assert_eq!(tiers.order()[0], [first[2], first[0], first[1], first[3]]);
        assert_eq!(tiers.order()[1].len(), 2);
    }

    #[test]
    fn completion_is_told_out_of_turn_and_again_after_the_pause() {
        let config = TrackerConfig {
            scrape_interval: Duration::MAX,
            ..TrackerConfig::default()
        };
        let mut tiers = tiers(&[1, 1], 1);
        for tracker in &mut tiers.trackers {
            tracker.works = true;
            tracker.next = at(1_000);
            tracker.counted = Some(at(0));
        }
        assert_eq!(tiers.step(at(5), &config, false).announce, None);
        tiers.trackers[1].owes_completed = true;
        assert_eq!(tiers.step(at(5), &config, false).announce, Some(1));
        tiers.trackers[1].works = false;
        tiers.trackers[1].fails = 1;
        tiers.trackers[1].next = at(50);
        let step = tiers.step(at(5), &config, false);
        assert_eq!((step.announce, step.wake), (None, Some(at(50))));
        assert_eq!(tiers.step(at(50), &config, false).announce, Some(1));
    }

    quickcheck! {
        /// Whatever state trackers are in, something is done now or there is a time to look again,
        /// and that time is not now: no timer spins.
        fn a_step_never_spins(states: Vec<(u8, u8)>, now: u8, urgent: bool) -> bool {
            let config = TrackerConfig::default();
            let mut tiers = tiers(&[states.len() / 2, states.len() - states.len() / 2], 9);
            for (tracker, (kind, time)) in tiers.trackers.iter_mut().zip(&states) {
                let time = at(u64::from(*time));
                tracker.works = kind & 1 != 0;
                tracker.next = time;
                tracker.busy = busy(time).filter(|_| kind & 2 != 0);
                if let Some(busy) = &mut tracker.busy {
                    busy.late = kind & 4 != 0;
                }
                tracker.owes_completed = kind & 8 != 0;
                tracker.counted = (kind & 16 != 0).then_some(time);
                tracker.fails = u32::from(kind & 32);
            }
            let now = at(u64::from(now));
            let step = tiers.step(now, &config, urgent);
            let acts = step.announce.is_some() || step.late.is_some() || step.scrape.is_some();
            let all_busy = tiers.trackers.iter().all(|tracker| tracker.busy.is_some());
            step.wake.is_none_or(|wake| wake > now) && (acts || step.wake.is_some() || all_busy)
        }
    }
}
