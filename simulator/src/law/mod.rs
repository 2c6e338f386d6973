//! Laws that things follow in the world, each with its source.
//!
//! A law is a table of quantiles with straight lines between them: integers only, so that every
//! platform draws the same. How close a table is to its law is tested (Kolmogorov and Smirnov's
//! distance, at most 0.02).

mod tables;

use std::time::Duration;

use crate::scenario::{NatLaw, Rate, Share};

/// The value of a table of evenly spaced quantiles that the part `part` / 2³² of all cases is
/// below.
#[must_use]
fn quantile(table: &[u64], part: u32) -> u64 {
    let place = u64::from(part) * (table.len() as u64 - 1);
    let (index, rest) = ((place >> 32) as usize, place & 0xffff_ffff);
    let (low, high) = (table[index], table[index + 1]);
    low + ((u128::from(high - low) * u128::from(rest)) >> 32) as u64
}

/// A law of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Always the same.
    Constant(Duration),
    /// Anything between these two as often.
    Uniform(Duration, Duration),
    /// Exponential, of this mean: gaps between things that do not know of each other.
    Exponential(Duration),
    /// Weibull of shape 0.68 and this scale. That sessions follow it: Steiner, En-Najjary,
    /// Biersack, "Long Term Study of Peer Behavior in the KAD DHT", IEEE/ACM Transactions on
    /// Networking 17 (5), 2009. Shape, and scale [`SESSION_SCALE`], are those of the Karlsruhe
    /// Institute of Technology's scenario of the Mainline DHT.
    Sessions(Duration),
    /// Round trips between hosts of the Internet as they were: log-normal, median 140 ms,
    /// σ 0.82; fitted to Saroiu, Gummadi, Gribble, "A Measurement Study of Peer-to-Peer File
    /// Sharing Systems", MMCN 2002.
    Internet2005,
    /// The same with the access networks of today: median 75 ms, σ 0.75, at least 4 ms. The shape
    /// is that of [`Law::Internet2005`], the median and floor are this project's assumption.
    Internet2025,
}

/// The scale of [`Law::Sessions`] that was measured.
pub const SESSION_SCALE: Duration = Duration::from_secs(14_900);

impl Default for Law {
    fn default() -> Self {
        Self::Constant(Duration::ZERO)
    }
}

impl Law {
    /// The time that the part `part` / 2³² of all cases is below.
    #[must_use]
    pub fn at(&self, part: u32) -> Duration {
        let scaled = |table: &[u64], unit: Duration| {
            let value = u128::from(quantile(table, part)) * unit.as_micros() / 1_000_000;
            Duration::from_micros(value as u64)
        };
        match self {
            Self::Constant(time) => *time,
            Self::Uniform(least, most) => {
                let span = most.saturating_sub(*least).as_micros();
                *least + Duration::from_micros(((span * u128::from(part)) >> 32) as u64)
            }
            Self::Exponential(mean) => scaled(&tables::EXPONENTIAL, *mean),
            Self::Sessions(scale) => scaled(&tables::WEIBULL_068, *scale),
            Self::Internet2005 => Duration::from_micros(quantile(&tables::INTERNET_2005, part)),
            Self::Internet2025 => Duration::from_micros(quantile(&tables::INTERNET_2025, part)),
        }
    }

    /// The time that this draw comes to.
    #[must_use]
    pub fn sample(&self, draw: u64) -> Duration {
        self.at((draw >> 32) as u32)
    }

    /// Values at evenly spaced parts of all cases, in microseconds.
    #[must_use]
    pub fn quantiles(&self) -> Vec<u64> {
        match self {
            Self::Constant(time) => vec![time.as_micros() as u64; 2],
            Self::Internet2005 => tables::INTERNET_2005.to_vec(),
            Self::Internet2025 => tables::INTERNET_2025.to_vec(),
            _ => {
                let part = |at: u64| (at << 24).min(u64::from(u32::MAX)) as u32;
                (0..=256)
                    .map(|at| self.at(part(at)).as_micros() as u64)
                    .collect()
            }
        }
    }
}

/// How many there are at this time of the day, as part of the average: 0.6 to 1.4, as
/// monitors of the Mainline DHT see (see [`Law::Sessions`]).
#[must_use]
pub fn day_wave(since_midnight: Duration) -> Share {
    let seconds = since_midnight.as_secs() % 86_400;
    let part = ((seconds << 32) / 86_400) as u32;
    // The wave rises and falls: no quantiles, but the same straight lines.
    let place = u64::from(part) * (tables::DAY_WAVE.len() as u64 - 1);
    let (index, rest) = ((place >> 32) as usize, (place & 0xffff_ffff) as i128);
    let (from, to) = (tables::DAY_WAVE[index], tables::DAY_WAVE[index + 1]);
    let value = i128::from(from) + (((i128::from(to) - i128::from(from)) * rest) >> 32);
    Share(value as u32)
}

/// An access link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// What people call it.
    pub name: &'static str,
    /// Of a million households so many have it.
    pub share: Share,
    /// Towards the household.
    pub down: Rate,
    /// From it.
    pub up: Rate,
    /// How long a full buffer before it takes to empty.
    pub buffer: Duration,
}

const fn access(name: &'static str, percent: u32, down: u64, up: u64, buffer: u64) -> Access {
    Access {
        name,
        share: Share::percent(percent),
        down: Rate::mbit(down),
        up: Rate::mbit(up),
        buffer: Duration::from_millis(buffer),
    }
}

/// Access of households today: classes, shares and rates are this project's assumption; that
/// buffers take up to half a second to empty: Gettys and Nichols, "Bufferbloat: Dark Buffers in the
/// Internet", Communications of the ACM 55 (1), 2012.
pub const ACCESS_2025: [Access; 5] = [
    access("dsl", 10, 16, 1, 500),
    access("cable", 30, 200, 20, 250),
    access("fibre", 40, 300, 150, 50),
    access("gigabit", 5, 1_000, 1_000, 50),
    access("mobile", 15, 50, 10, 300),
];

/// Access as it was when most measurements of swarms were made: 8 Mbit/s down, 0.8 up.
pub const DSL_2008: [Access; 1] = [Access {
    name: "dsl2008",
    share: Share::ALL,
    down: Rate::mbit(8),
    up: Rate(800_000),
    buffer: Duration::from_millis(500),
}];

/// The one of `classes` that this draw falls on.
#[must_use]
pub fn pick_access(classes: &[Access], draw: u64) -> Access {
    let mut place = ((draw >> 32) * 1_000_000) >> 32;
    for class in classes {
        match place.checked_sub(u64::from(class.share.0)) {
            Some(rest) => place = rest,
            None => return *class,
        }
    }
    classes[classes.len() - 1]
}

/// How many hosts are behind which translators, of a million: this project's assumption. 35 % are
/// behind none, 45 % behind one that maps by the inside alone and filters, half of them by address
/// and half by port (the kinds of RFC 4787), 12 % behind a symmetric one, the rest behind one that
/// does not filter. A carrier's is in front of 15 % of all.
pub const NAT_2025: [(NatLaw, Share); 5] = [
    (NatLaw::None, Share::percent(35)),
    (NatLaw::AddressRestricted, Share(225_000)),
    (NatLaw::PortRestricted, Share(225_000)),
    (NatLaw::Symmetric, Share::percent(12)),
    (NatLaw::EndpointIndependent, Share::percent(8)),
];

/// How many of those have a carrier's in front of them, of those who are behind any.
pub const CARRIERS_2025: Share = Share(230_769);

/// The translator that this draw falls on, and whether a carrier's is in front of it.
#[must_use]
pub fn pick_nat(draw: u64) -> (NatLaw, bool) {
    let mut place = ((draw >> 32) * 1_000_000) >> 32;
    let carrier = ((draw & 0xffff_ffff) * 1_000_000) >> 32 < u64::from(CARRIERS_2025.0);
    for (nat, share) in NAT_2025 {
        match place.checked_sub(u64::from(share.0)) {
            Some(rest) => place = rest,
            None => return (nat, carrier && nat != NatLaw::None),
        }
    }
    (NatLaw::None, false)
}

/// How long translators remember a mapping of datagrams: 30 to 180 s.
pub const NAT_LIFETIME: Law = Law::Uniform(Duration::from_secs(30), Duration::from_secs(180));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::draw;

    /// The greatest distance between what is drawn and the law.
    fn distance(law: Law, cdf: impl Fn(f64) -> f64) -> f64 {
        let draws = 100_000u64;
        let mut values: Vec<f64> = (0..draws)
            .map(|at| law.sample(draw(7, 1, 2, at)).as_secs_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let mut most = 0f64;
        for (at, value) in values.iter().enumerate() {
            let (below, above) = (at as f64 / draws as f64, (at + 1) as f64 / draws as f64);
            let of_law = cdf(*value);
            most = most.max((of_law - below).abs()).max((above - of_law).abs());
        }
        most
    }

    /// The normal law, by the series of Abramowitz and Stegun 26.2.17; off by less than 1e-7.
    fn normal(z: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
        let poly = t
            * (0.319_381_53
                + t * (-0.356_563_782
                    + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
        let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * poly;
        if z > 0.0 { 1.0 - tail } else { tail }
    }

    #[test]
    fn every_sampler_is_within_two_hundredths_of_its_law() {
        let second = Duration::from_secs(1);
        let lognormal = |median: f64, sigma: f64| move |x: f64| normal((x / median).ln() / sigma);
        for (name, distance) in [
            (
                "uniform",
                distance(Law::Uniform(second, 3 * second), |x| (x - 1.0) / 2.0),
            ),
            (
                "exponential",
                distance(Law::Exponential(30 * second), |x| 1.0 - (-x / 30.0).exp()),
            ),
            (
                "sessions",
                distance(Law::Sessions(SESSION_SCALE), |x| {
                    1.0 - (-(x / 14_900.0).powf(0.68)).exp()
                }),
            ),
            (
                "internet2005",
                distance(Law::Internet2005, lognormal(0.140, 0.82)),
            ),
            (
                "internet2025",
                distance(Law::Internet2025, lognormal(0.075, 0.75)),
            ),
        ] {
            assert!(distance <= 0.02, "{name}: {distance}");
        }
        // Another law is farther away than that: the measure can fail.
        assert!(distance(Law::Internet2005, lognormal(0.130, 0.82)) > 0.02);
    }

    #[test]
    fn access_is_as_common_as_it_says() {
        assert_eq!(
            ACCESS_2025.iter().map(|class| class.share.0).sum::<u32>(),
            1_000_000
        );
        for class in ACCESS_2025 {
            let hits = (0..100_000)
                .filter(|at| pick_access(&ACCESS_2025, draw(3, 0, 0, *at)).name == class.name);
            let ppm = hits.count() as i64 * 10;
            assert!(
                (ppm - i64::from(class.share.0)).abs() <= 20_000,
                "{}: {ppm}",
                class.name
            );
        }
    }

    #[test]
    fn translators_are_as_common_as_they_say() {
        let (mut by_kind, mut carriers) = ([0i64; 5], 0i64);
        for at in 0..100_000 {
            let (nat, carrier) = pick_nat(draw(5, 0, 0, at));
            let place = NAT_2025.iter().position(|(kind, _)| *kind == nat).unwrap();
            by_kind[place] += 10;
            carriers += i64::from(carrier) * 10;
            assert!(!carrier || nat != NatLaw::None);
        }
        for (seen, (nat, share)) in by_kind.into_iter().zip(NAT_2025) {
            assert!(
                (seen - i64::from(share.0)).abs() <= 20_000,
                "{nat:?}: {seen}"
            );
        }
        assert!((carriers - 150_000).abs() <= 20_000, "{carriers}");
    }

    #[test]
    fn a_day_has_more_and_fewer_and_is_one_on_average() {
        let of: Vec<u64> = (0..86_400)
            .map(|s| day_wave(Duration::from_secs(s)).0.into())
            .collect();
        assert_eq!(
            (of.iter().min(), of.iter().max()),
            (Some(&600_000), Some(&1_400_000))
        );
        assert!((of.iter().sum::<u64>() / 86_400).abs_diff(1_000_000) < 100);
    }

    #[test]
    fn quantiles_rise() {
        let second = Duration::from_secs(1);
        for law in [
            Law::Internet2025,
            Law::Sessions(second),
            Law::Exponential(second),
        ] {
            let quantiles = law.quantiles();
            assert!(quantiles.is_sorted(), "{law:?}");
            assert_eq!(quantiles.len(), 257);
        }
    }
}
