//! Quantities as people write them: `"20ms"`, `"10Mbit"`, `"16MiB"`, `"0.5%"`.
//!
//! Integers only: what is written is read back exactly, on every platform.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// Bits per second; 0 is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(pub u64);

impl Rate {
    /// So many million bits per second.
    #[must_use]
    pub const fn mbit(million: u64) -> Self {
        Self(million * 1_000_000)
    }

    /// Whole bytes per second.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 / 8
    }
}

/// A part of a whole, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(pub u32);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1_000_000);
    /// Nothing of it.
    pub const NONE: Self = Self(0);

    /// So many hundredths.
    #[must_use]
    pub const fn percent(hundredths: u32) -> Self {
        Self(hundredths * 10_000)
    }

    /// This share of so many, rounded up.
    #[must_use]
    pub const fn of(self, many: u64) -> u64 {
        (many * self.0 as u64).div_ceil(1_000_000)
    }
}

const TIMES: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];
const RATES: &[(&str, u64)] = &[
    ("bit", 1),
    ("kbit", 1_000),
    ("Mbit", 1_000_000),
    ("Gbit", 1_000_000_000),
];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Read, but never printed: they divide what the others do not.
const DECIMAL_SIZES: &[(&str, u64)] = &[("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
const SHARES: &[(&str, u64)] = &[("%", 10_000)];

/// Reads a duration of whole microseconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    quantity(text, &[TIMES]).map(Duration::from_micros)
}

pub(crate) fn size(text: &str) -> Option<Size> {
    quantity(text, &[SIZES, DECIMAL_SIZES]).map(Size)
}

pub(crate) fn rate(text: &str) -> Option<Rate> {
    if text == "unlimited" {
        return Some(Rate(0));
    }
    quantity(text, &[RATES]).map(Rate)
}

pub(crate) fn share(text: &str) -> Option<Share> {
    let ppm = quantity(text, &[SHARES])?;
    u32::try_from(ppm)
        .ok()
        .filter(|ppm| *ppm <= 1_000_000)
        .map(Share)
}

/// A decimal number times its unit, if that is a whole number and the unit is one of these.
fn quantity(text: &str, units: &[&[(&str, u64)]]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, unit) = units
        .iter()
        .copied()
        .flatten()
        .find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 12 {
        return None;
    }
    let (whole, fraction): (u64, u128) = (whole.parse().ok()?, part.parse().ok()?);
    let scale = 10u128.pow(part.len() as u32);
    let exact = fraction * u128::from(*unit);
    if !exact.is_multiple_of(scale) {
        return None;
    }
    whole
        .checked_mul(*unit)?
        .checked_add(u64::try_from(exact / scale).ok()?)
}

/// The number in the largest unit of which it is a multiple.
fn shown(number: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    let fits = |(_, unit): &&(&str, u64)| number.is_multiple_of(*unit) && number > 0;
    let (name, unit) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    (number / unit, name)
}

pub(crate) fn duration_text(time: Duration) -> String {
    match u64::try_from(time.as_micros()) {
        Ok(0) => "0s".into(),
        Ok(micros) => {
            let (number, unit) = shown(micros, TIMES);
            format!("{number}{unit}")
        }
        Err(_) => format!("{}s", time.as_secs()),
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = shown(self.0, SIZES);
        write!(f, "{number}{unit}")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("unlimited");
        }
        let (number, unit) = shown(self.0, RATES);
        write!(f, "{number}{unit}")
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        if part == 0 {
            return write!(f, "{whole}%");
        }
        let part = format!("{part:04}");
        write!(f, "{whole}.{}%", part.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn quantities_as_people_write_them() {
        assert_eq!(duration("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(duration("1.5 s"), Some(Duration::from_millis(1_500)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7_200)));
        assert_eq!(rate("10Mbit"), Some(Rate::mbit(10)));
        assert_eq!(rate("0.8Mbit").map(Rate::bytes), Some(100_000));
        assert_eq!(rate("unlimited"), Some(Rate(0)));
        assert_eq!(size("16MiB"), Some(Size(16 << 20)));
        assert_eq!(size("1.5kB"), Some(Size(1_500)));
        assert_eq!(share("0.5%"), Some(Share(5_000)));
        assert_eq!(share("100%"), Some(Share::ALL));
        assert_eq!(Share::percent(10).of(25), 3);
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for wrong in [
            "", "20", "ms", "20 mss", "-1s", "1e3s", ".5s", "1.s", "0.0001ms", "1.0.0s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for wrong in ["1mbit", "1MB/s", "1.5bit", "99999999999999999999bit"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
        for wrong in ["100.1%", "1", "0.00001%"] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
        assert_eq!(size("1mib"), None);
    }

    quickcheck! {
        fn what_is_shown_reads_back_equal(number: u64, ppm: u32) -> bool {
            let time = Duration::from_micros(number);
            let ppm = Share(ppm % 1_000_001);
            [number, number >> 32 << 20, number % 100 * 1_000_000].into_iter().all(|number| {
                size(&Size(number).to_string()) == Some(Size(number))
                    && rate(&Rate(number).to_string()) == Some(Rate(number))
            }) && duration(&duration_text(time)) == Some(time)
                && share(&ppm.to_string()) == Some(ppm)
        }
    }
}
