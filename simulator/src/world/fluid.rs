//! Streams as fluids: every flow has a rate, and what a link carries is shared out fairly.
//!
//! The rates are max–min fair: no flow can have more without taking it from one that has no more
//! than itself. They are worked out anew when a flow begins or ends; where there are many, at most
//! once in [`QUANTUM`], and until then a new flow has the share it would have if nobody else
//! changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trackerless_core::slab::{Key, Slab};

/// Flows up to which rates are worked out at every change.
const FEW: usize = 64;
/// Least time between two workings out where there are more, microseconds.
const QUANTUM: u64 = 2_000;
/// Bytes are counted in millionths, so that a rate times microseconds is exact.
const UNIT: u64 = 1_000_000;

/// A link, by host and direction: even numbers lead from hosts, odd ones to them.
pub(crate) type LinkId = u32;

/// What one end sends at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) host: u32,
    pub(crate) end: Key,
    pub(crate) to: u32,
    /// Most it may have, bytes per second: what windows and losses allow.
    pub(crate) cap: u64,
    /// What it would keep under way, bytes, and its round trip without queues, microseconds.
    pub(crate) window: u64,
    pub(crate) round_trip: u64,
    /// What is left, in millionths of a byte, at `counted`.
    left: u64,
    counted: u64,
    rate: u64,
    /// When its event in the queue is due.
    pub(crate) armed: u64,
}

impl Flow {
    pub(crate) fn new(
        host: u32,
        end: Key,
        to: u32,
        (cap, window, round_trip): (u64, u64, u64),
    ) -> Self {
        Self {
            host,
            end,
            to,
            cap: cap.max(1),
            window,
            round_trip,
            left: 0,
            counted: 0,
            rate: 1,
            armed: 0,
        }
    }

    fn count(&mut self, now: u64) {
        let passed = self.rate.saturating_mul(now.saturating_sub(self.counted));
        self.left = self.left.saturating_sub(passed);
        self.counted = now;
    }

    /// When all of it is through at the present rate.
    pub(crate) fn done_at(&self) -> u64 {
        self.counted + self.left.div_ceil(self.rate.max(1))
    }
}

/// What is known of a link while rates are worked out.
#[derive(Debug, Clone, Copy, Default)]
struct Shared {
    link: LinkId,
    /// Bytes per second, all of it and what is not given away yet.
    rate: u64,
    left: u64,
    /// Flows over it, and those without a rate yet.
    flows: u32,
    open: u32,
    /// Where its flows begin in the list.
    first: u32,
}

/// A link that is used to the full, and what stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) link: LinkId,
    pub(crate) bytes: u64,
}

/// All flows of a run.
#[derive(Debug, Default)]
pub(crate) struct Fluid {
    flows: Slab<Flow>,
    changed: bool,
    shared_at: u64,
    /// A working out is in the queue.
    pub(crate) armed: bool,
    links: Vec<Shared>,
    /// Place in `links` plus one, by link.
    places: Vec<u32>,
    /// Links of which somebody may believe that something stands in their queues.
    standing: Vec<LinkId>,
}

impl Fluid {
    /// Begins a flow.
    pub(crate) fn begin(&mut self, flow: Flow) -> Key {
        self.changed = true;
        self.flows.insert(flow)
    }

    /// Gives a flow more to carry, after what it has.
    pub(crate) fn carry(&mut self, key: Key, bytes: u64, now: u64) {
        if let Some(flow) = self.flows.at_mut(key) {
            flow.count(now);
            flow.left += bytes * UNIT;
        }
    }

    #[cfg(test)]
    fn flow(&self, key: Key) -> Option<&Flow> {
        self.flows.at(key)
    }

    pub(crate) fn flow_mut(&mut self, key: Key) -> Option<&mut Flow> {
        self.flows.at_mut(key)
    }

    pub(crate) fn end(&mut self, key: Key) {
        self.changed |= self.flows.remove(key).is_some();
    }

    /// A link has another rate.
    pub(crate) fn change(&mut self) {
        self.changed = !self.flows.is_empty();
    }

    /// When rates have to be worked out; `None` while nothing changed.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let next = if self.flows.len() <= FEW {
            now
        } else {
            now.max(self.shared_at + QUANTUM)
        };
        self.changed.then_some(next)
    }

    /// Gives a flow that just began a rate to go on with until they are worked out.
    pub(crate) fn provide(&mut self, key: Key, now: u64, rate_of: impl Fn(LinkId) -> u64) {
        let Some(flow) = self.flows.at_mut(key) else {
            return;
        };
        let mut rate = flow.cap;
        for link in [flow.host * 2, flow.to * 2 + 1] {
            let whole = rate_of(link);
            if whole > 0 {
                let place = self.places.get(link as usize).copied().unwrap_or(0);
                let known = self.links.get((place as usize).wrapping_sub(1));
                let flows = known.filter(|it| it.link == link).map_or(0, |it| it.flows);
                rate = rate.min(whole / u64::from(flows + 1));
            }
        }
        flow.rate = rate.max(1);
        flow.counted = now;
    }

    /// Works all rates out. `rate_of` says what a link carries, 0 for any amount, and `depth_of`
    /// what fits into its queue. Reports flows whose rate changed to `each`, and in the end what
    /// stands in queues.
    pub(crate) fn share(
        &mut self,
        now: u64,
        rate_of: impl Fn(LinkId) -> u64,
        depth_of: impl Fn(LinkId) -> u64,
        mut each: impl FnMut(Key, &mut Flow),
    ) -> Vec<Standing> {
        self.changed = false;
        self.shared_at = now;
        for link in self.links.drain(..) {
            self.places[link.link as usize] = 0;
        }
        let mut keys: Vec<Key> = Vec::with_capacity(self.flows.len());
        let mut over: Vec<[u32; 2]> = Vec::with_capacity(self.flows.len());
        for (key, flow) in self.flows.iter() {
            keys.push(key);
            over.push([flow.host * 2, flow.to * 2 + 1].map(|link| {
                let rate = rate_of(link);
                if rate == 0 {
                    return u32::MAX;
                }
                if self.places.len() <= link as usize {
                    self.places.resize(link as usize + 1, 0);
                }
                let place = &mut self.places[link as usize];
                if *place == 0 {
                    self.links.push(Shared {
                        link,
                        rate,
                        left: rate,
                        ..Shared::default()
                    });
                    *place = self.links.len() as u32;
                }
                let at = *place - 1;
                self.links[at as usize].flows += 1;
                at
            }));
        }
        let rates = self.fill(&keys, &over);
        let mut excess = vec![0u64; self.links.len()];
        for (number, key) in keys.iter().enumerate() {
            let Some(flow) = self.flows.at_mut(*key) else {
                continue;
            };
            let rate = rates[number];
            // What its window would hold besides what is on its way stands before the link that
            // holds it up.
            let way = u128::from(rate) * u128::from(flow.round_trip) / u128::from(UNIT);
            let waits = flow.window.saturating_sub(way as u64);
            let tight = over[number].iter().filter(|at| **at != u32::MAX);
            if let Some(at) = tight.min_by_key(|at| (self.links[**at as usize].left, **at)) {
                excess[*at as usize] += waits;
            }
            if rate != flow.rate {
                flow.count(now);
                flow.rate = rate;
                each(*key, flow);
            }
        }
        let before = std::mem::take(&mut self.standing);
        let mut standing: Vec<Standing> = before
            .into_iter()
            .map(|link| Standing { link, bytes: 0 })
            .collect();
        for (link, excess) in self.links.iter().zip(excess) {
            // Used to the full but for what cannot be shared evenly.
            if excess > 0 && link.left <= link.rate / 100 {
                // Windows grow until the queue overflows, and halve: on average it is three
                // quarters full.
                let bytes = excess.min(depth_of(link.link) / 4 * 3);
                standing.push(Standing {
                    link: link.link,
                    bytes,
                });
                self.standing.push(link.link);
            }
        }
        standing
    }

    /// Max–min fair rates of flows, each over at most two links.
    fn fill(&mut self, keys: &[Key], over: &[[u32; 2]]) -> Vec<u64> {
        let mut first = 0;
        for link in &mut self.links {
            link.first = first;
            first += link.flows;
            link.open = 0;
        }
        let mut members = vec![0u32; first as usize];
        for (number, links) in over.iter().enumerate() {
            for at in links.iter().filter(|at| **at != u32::MAX) {
                let link = &mut self.links[*at as usize];
                members[(link.first + link.open) as usize] = number as u32;
                link.open += 1;
            }
        }
        let cap = |number: usize| self.flows.at(keys[number]).map_or(1, |flow| flow.cap);
        let mut caps: Vec<(u64, u32)> = (0..keys.len()).map(|n| (cap(n), n as u32)).collect();
        caps.sort_unstable();
        let mut caps = caps.into_iter().peekable();
        let share = |link: &Shared| link.left / u64::from(link.open.max(1));
        let shares = self.links.iter().enumerate();
        let mut shares: BinaryHeap<_> = shares
            .map(|(at, link)| Reverse((share(link), at as u32)))
            .collect();
        let mut rates = vec![0u64; keys.len()];
        let links = &mut self.links;
        let mut settle = |number: u32, rate: u64, links: &mut Vec<Shared>| {
            if rates[number as usize] != 0 {
                return;
            }
            rates[number as usize] = rate.max(1);
            for at in over[number as usize].iter().filter(|at| **at != u32::MAX) {
                let link = &mut links[*at as usize];
                link.left = link.left.saturating_sub(rate);
                link.open -= 1;
            }
        };
        loop {
            let tight = loop {
                let Some(Reverse((known, at))) = shares.pop() else {
                    break None;
                };
                let link = &links[at as usize];
                if link.open == 0 {
                    continue;
                }
                // Shares only grow while others settle for less.
                let now = share(link);
                if now == known {
                    break Some((now, at));
                }
                shares.push(Reverse((now, at)));
            };
            match (tight, caps.peek().copied()) {
                (Some((share, at)), Some((cap, number))) if cap <= share => {
                    shares.push(Reverse((share, at)));
                    caps.next();
                    settle(number, cap, links);
                }
                (Some((share, at)), _) => {
                    let Shared { first, flows, .. } = links[at as usize];
                    for place in first..first + flows {
                        settle(members[place as usize], share, links);
                    }
                }
                (None, Some((cap, number))) => {
                    caps.next();
                    settle(number, cap, links);
                }
                (None, None) => return rates,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    const NOBODY: Key = Key {
        index: 0,
        generation: 0,
    };

    fn fluid(flows: &[(u32, u32, u64)]) -> (Fluid, Vec<Key>) {
        let mut fluid = Fluid::default();
        let begin = |(host, to, cap): &(u32, u32, u64)| {
            fluid.begin(Flow::new(*host, NOBODY, *to, (*cap, 1 << 20, 100_000)))
        };
        let keys = flows.iter().map(begin).collect();
        (fluid, keys)
    }

    fn rates(flows: &[(u32, u32, u64)], rate_of: impl Fn(LinkId) -> u64) -> Vec<u64> {
        let (mut fluid, keys) = fluid(flows);
        fluid.share(1, rate_of, |_| 0, |_, _| {});
        keys.iter()
            .map(|key| fluid.flow(*key).unwrap().rate)
            .collect()
    }

    const MUCH: u64 = 1 << 40;

    #[test]
    fn what_one_cannot_use_the_others_get() {
        // Three from host 0, whose uplink is 900; one of them goes where only 100 fit.
        let rate_of = |link| match link {
            0 => 900,
            3 => 100,
            _ => 0,
        };
        let flows = [(0, 1, MUCH), (0, 2, MUCH), (0, 3, MUCH)];
        assert_eq!(rates(&flows, rate_of), [100, 400, 400]);
        // One is content with less.
        let flows = [(0, 2, 50), (0, 3, MUCH), (0, 4, MUCH)];
        assert_eq!(rates(&flows, rate_of), [50, 425, 425]);
        assert_eq!(rates(&[(5, 6, 77)], rate_of), [77]);
    }

    #[test]
    fn a_flow_is_through_when_its_bytes_are_and_counts_what_passed_at_other_rates() {
        let rate_of = |link| if link == 0 { 1_000 } else { 0 };
        let (mut fluid, keys) = fluid(&[(0, 1, MUCH)]);
        fluid.carry(keys[0], 500, 0);
        fluid.share(0, rate_of, |_| 0, |_, _| {});
        assert_eq!(fluid.flow(keys[0]).unwrap().done_at(), 500_000);
        let other = fluid.begin(Flow::new(0, NOBODY, 2, (MUCH, 0, 1)));
        fluid.carry(other, 1_000, 300_000);
        let mut changed = Vec::new();
        fluid.share(
            300_000,
            rate_of,
            |_| 0,
            |key, flow| changed.push((key, flow.done_at())),
        );
        // 200 bytes are left, at half the rate.
        assert_eq!(changed, [(keys[0], 700_000), (other, 2_300_000)]);
        fluid.end(keys[0]);
        assert!(fluid.due(700_000).is_some());
        fluid.share(700_000, rate_of, |_| 0, |_, _| {});
        assert_eq!(fluid.flow(other).unwrap().done_at(), 1_500_000);
    }

    #[test]
    fn what_windows_hold_besides_stands_in_the_queue_of_the_link_that_is_full() {
        let rate_of = |link| if link == 0 { 1_000_000 } else { 0 };
        let (mut fluid, keys) = fluid(&[(0, 1, MUCH)]);
        // A megabyte of window, a tenth of that on its way.
        let standing = fluid.share(1, rate_of, |_| 10 << 20, |_, _| {});
        let bytes = (1 << 20) - 100_000;
        assert_eq!(standing, [Standing { link: 0, bytes }]);
        let standing = fluid.share(1, rate_of, |_| 80_000, |_, _| {});
        let now = Standing {
            link: 0,
            bytes: 60_000,
        };
        assert_eq!(standing.last(), Some(&now));
        fluid.end(keys[0]);
        let standing = fluid.share(2, rate_of, |_| 80_000, |_, _| {});
        assert_eq!(standing, [Standing { link: 0, bytes: 0 }]);
    }

    quickcheck! {
        /// Nobody is over a limit; and whoever is below his own cap shares a full link on which
        /// nobody has more.
        fn rates_are_max_min_fair(flows: Vec<(u8, u8, u16)>, links: Vec<u16>) -> bool {
            let flows: Vec<(u32, u32, u64)> = flows
                .iter()
                .map(|(a, b, cap)| (u32::from(a % 6), u32::from(b % 6), u64::from(*cap) * 50 + 1_000))
                .collect();
            let rate_of = |link: LinkId| {
                let rate = links.get(link as usize).copied().unwrap_or(0);
                if rate % 4 == 0 { 0 } else { u64::from(rate) + 10_000 }
            };
            let rates = rates(&flows, rate_of);
            let on = |link: LinkId| {
                let of = flows.iter().zip(&rates);
                of.filter(move |((a, b, _), _)| a * 2 == link || b * 2 + 1 == link)
                    .map(|(_, rate)| *rate)
            };
            let fits = (0..12).all(|link| rate_of(link) == 0 || on(link).sum::<u64>() <= rate_of(link));
            let fair = flows.iter().zip(&rates).all(|((a, b, cap), rate)| {
                let full = |link: LinkId| {
                    let slack = on(link).count() as u64;
                    rate_of(link) > 0
                        && on(link).sum::<u64>() + slack >= rate_of(link)
                        && on(link).all(|other| other <= *rate + 1)
                };
                rate == cap || full(a * 2) || full(b * 2 + 1)
            });
            fits && fair
        }
    }
}
