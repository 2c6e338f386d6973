//! What lies between hosts' links: how long it takes, and what gets lost.

use std::sync::Arc;
use std::time::Duration;

use super::draw::{Purpose, below, draw};
use super::streams::TcpModel;

/// The network every host lives on.
///
/// The delay of a pair comes from where its hosts are: they lie on a sphere, and the part of all
/// pairs that are closer to each other than these two says where between the shortest and the
/// longest delay theirs is. So friends of friends are near, delays are drawn from any law, and
/// nothing is kept per pair.
#[derive(Debug, Clone)]
pub struct Network {
    /// Shortest one-way delay between two hosts.
    pub min_delay: Duration,
    /// Longest one-way delay; each pair of hosts has one of its own in between.
    pub max_delay: Duration,
    /// One-way delays of pairs, if they are not spread evenly between those two.
    pub delays: Option<Quantiles>,
    /// Most that is added to the pair's delay, drawn for each datagram.
    pub jitter: Duration,
    /// Packets lost between the links, parts per million.
    pub loss_ppm: u32,
    /// How streams travel.
    pub tcp: TcpModel,
    /// How long a name takes to be resolved.
    pub dns_delay: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(60),
            delays: None,
            jitter: Duration::from_millis(2),
            loss_ppm: 0,
            tcp: TcpModel::default(),
            dns_delay: Duration::from_millis(20),
        }
    }
}

/// A law: the values at evenly spaced parts of all cases, from the least to the greatest, with
/// straight lines between them. Integers, so that every platform draws the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantiles(Arc<[u64]>);

impl Quantiles {
    /// The law with these values; `None` unless they are two or more and rise.
    #[must_use]
    pub fn new(values: &[u64]) -> Option<Self> {
        (values.len() >= 2 && values.is_sorted()).then(|| Self(values.into()))
    }

    /// The same of durations, in microseconds.
    #[must_use]
    pub fn of_durations(values: &[Duration]) -> Option<Self> {
        let micros: Vec<u64> = values.iter().map(|it| it.as_micros() as u64).collect();
        Self::new(&micros)
    }

    /// The value that the part `part` / 2³² of all cases is below.
    #[must_use]
    pub fn at(&self, part: u32) -> u64 {
        let place = u64::from(part) * (self.0.len() as u64 - 1);
        let (index, rest) = ((place >> 32) as usize, place & 0xffff_ffff);
        let (low, high) = (self.0[index], self.0[index + 1]);
        low + ((u128::from(high - low) * u128::from(rest)) >> 32) as u64
    }

    /// The least value.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.0[0]
    }
}

/// Where a host is: a point on the unit sphere, in 2⁻³⁰.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place([i64; 3]);

const UNIT: i64 = 1 << 30;

impl Place {
    /// A point drawn evenly from the sphere (Marsaglia 1972), with integers alone.
    pub(crate) fn draw(seed: u64, host: u32) -> Self {
        let mut counter = 0;
        loop {
            let coordinate = |counter| {
                let bits = draw(seed, Purpose::Place as u64, u64::from(host), counter);
                below(bits, 2 * UNIT as u64) as i64 - UNIT
            };
            let (a, b) = (coordinate(counter), coordinate(counter + 1));
            counter += 2;
            let sum = (a * a + b * b) >> 30;
            if sum >= UNIT {
                continue;
            }
            let root = (((UNIT - sum) as u64) << 30).isqrt() as i64;
            return Self([(2 * a * root) >> 30, (2 * b * root) >> 30, UNIT - 2 * sum]);
        }
    }

    /// Which part of all pairs, in 2⁻³², is closer to each other than these two: on a sphere the
    /// cosine of the angle between two points drawn evenly is spread evenly.
    fn nearer(self, other: Self) -> u32 {
        let products = self.0.iter().zip(other.0).map(|(a, b)| a * b);
        let cosine = products.sum::<i64>() >> 30;
        let part = ((UNIT - cosine).max(0) as u64) << 1;
        part.min(u64::from(u32::MAX)) as u32
    }
}

impl Network {
    /// The one-way delay of a pair, microseconds, the same in both directions and for the whole
    /// run.
    pub(crate) fn pair_delay(&self, a: Place, b: Place) -> u64 {
        let part = a.nearer(b);
        match &self.delays {
            Some(delays) => delays.at(part),
            None => {
                let min = self.min_delay.as_micros() as u64;
                let span = (self.max_delay.as_micros() as u64).saturating_sub(min);
                min + ((u128::from(span) * u128::from(part)) >> 32) as u64
            }
        }
    }

    /// The shortest delay of any pair, microseconds.
    pub(crate) fn least_delay(&self) -> u64 {
        match &self.delays {
            Some(delays) => delays.least(),
            None => self.min_delay.as_micros() as u64,
        }
    }

    /// What is added to the delay of the packet of that number, microseconds.
    pub(crate) fn jitter(&self, seed: u64, from: u32, to: u32, number: u64) -> u64 {
        let pair = u64::from(from) << 32 | u64::from(to);
        let bits = draw(seed, Purpose::Jitter as u64, pair, number);
        below(bits, self.jitter.as_micros() as u64 + 1)
    }

    /// Whether the packet of that number is lost.
    pub(crate) fn loses(&self, seed: u64, from: u32, to: u32, number: u64) -> bool {
        let pair = u64::from(from) << 32 | u64::from(to);
        self.loss_ppm > 0
            && super::draw::chance(
                draw(seed, Purpose::Loss as u64, pair, number),
                self.loss_ppm,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(network: &Network, hosts: u32) -> Vec<u64> {
        let places: Vec<_> = (0..hosts).map(|host| Place::draw(7, host)).collect();
        let mut delays = Vec::new();
        for (n, a) in places.iter().enumerate() {
            for b in &places[..n] {
                let delay = network.pair_delay(*a, *b);
                assert_eq!(delay, network.pair_delay(*b, *a));
                delays.push(delay);
            }
        }
        delays.sort_unstable();
        delays
    }

    #[test]
    fn delays_of_pairs_follow_their_law() {
        let even = Network::default();
        let all = delays(&even, 300);
        assert!(all[0] >= 5_000 && all[all.len() - 1] <= 60_000);
        for (percent, expected) in [(1, 5_550), (25, 18_750), (50, 32_500), (75, 46_250)] {
            let got = all[all.len() * percent / 100];
            assert!(
                got.abs_diff(expected) < 1_500,
                "{percent} %: {got} of {expected}"
            );
        }
        let law = Quantiles::new(&[4_000, 10_000, 37_000, 90_000, 900_000]).unwrap();
        let network = Network {
            delays: Some(law),
            ..even
        };
        let all = delays(&network, 300);
        for (percent, expected) in [(25, 10_000), (50, 37_000), (75, 90_000)] {
            let got = all[all.len() * percent / 100];
            assert!(
                got.abs_diff(expected) < expected / 8,
                "{percent} %: {got} of {expected}"
            );
        }
        assert_eq!(network.least_delay(), 4_000);
    }

    #[test]
    fn near_to_near_is_near() {
        let places: Vec<_> = (0..200).map(|host| Place::draw(3, host)).collect();
        let network = Network {
            min_delay: Duration::ZERO,
            ..Network::default()
        };
        let far = |a: usize, b: usize| network.pair_delay(places[a], places[b]);
        let closest = |a: usize| {
            (0..200)
                .filter(|b| *b != a)
                .min_by_key(|b| far(a, *b))
                .unwrap()
        };
        for a in 0..200 {
            let near = closest(a);
            let friend = closest(near);
            assert!(friend == a || far(a, friend) < 12_000, "{}", far(a, friend));
        }
    }

    #[test]
    fn a_law_goes_straight_between_its_values() {
        let law = Quantiles::new(&[10, 20, 40]).unwrap();
        let at = |percent: u64| law.at((percent * u64::from(u32::MAX) / 100) as u32);
        assert_eq!(
            [at(0), at(25), at(50), at(75), at(100)],
            [10, 14, 19, 29, 39]
        );
        assert_eq!(Quantiles::new(&[5]), None);
        assert_eq!(Quantiles::new(&[5, 4]), None);
    }

    #[test]
    fn a_packet_in_ten_is_lost_where_one_in_ten_is_to_be() {
        let network = Network {
            loss_ppm: 100_000,
            ..Network::default()
        };
        let lost = (0..10_000).filter(|number| network.loses(7, 3, 4, *number));
        let lost = lost.count();
        assert!((900..1_100).contains(&lost), "{lost} of 10000");
        let jitters = (0..1_000).map(|number| network.jitter(7, 3, 4, number));
        assert!(jitters.clone().all(|it| it <= 2_000) && jitters.max() > Some(1_900));
    }
}
