//! How fast bytes flow, and how fast they may: whole numbers only, so that every platform
//! decides alike.

use crate::time::{Duration, Instant};

const SECOND: u64 = 1_000_000;
/// Seconds a rate looks back. Long enough to span a round trip of a slow peer's pipeline, short
/// enough to notice within one round of the choker that a peer stopped.
const WINDOW: u64 = 5;

/// Bytes per second over the last few seconds, and bytes in total.
#[derive(Debug, Clone, Default)]
pub struct RateMeter {
    /// Bytes of each of the last seconds; second `n` lives at `n % WINDOW`.
    seconds: [u64; WINDOW as usize],
    /// The latest second that bytes were booked in.
    latest: u64,
    /// Microsecond of the first byte; 0 is none yet.
    begin: u64,
    total: u64,
}

impl RateMeter {
    /// Books `bytes` at `now`.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        let second = now.as_micros() / SECOND;
        if self.begin == 0 {
            self.begin = now.as_micros();
            self.latest = second;
        }
        if second > self.latest {
            // Seconds in which nothing came are zero, not what was there a window ago.
            for gap in self.latest + 1..=second.min(self.latest + WINDOW) {
                self.seconds[(gap % WINDOW) as usize] = 0;
            }
            self.latest = second;
        }
        let slot = &mut self.seconds[(self.latest % WINDOW) as usize];
        *slot = slot.saturating_add(bytes);
        self.total = self.total.saturating_add(bytes);
    }

    /// Bytes per second over the last seconds, the one that runs included; over the time since
    /// the first byte, but at least one second, while that is shorter.
    #[must_use]
    pub fn rate(&self, now: Instant) -> u64 {
        if self.begin == 0 {
            return 0;
        }
        let micros = now.as_micros();
        let second = (micros / SECOND).max(self.latest);
        let oldest = (second + 1).saturating_sub(WINDOW);
        let sum: u64 = (oldest..=self.latest)
            .map(|second| self.seconds[(second % WINDOW) as usize])
            .fold(0, u64::saturating_add);
        let since = self.begin.max(oldest * SECOND);
        let span = micros.saturating_sub(since).max(SECOND);
        u64::try_from(u128::from(sum) * u128::from(SECOND) / u128::from(span)).unwrap_or(u64::MAX)
    }

    /// All bytes ever booked.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// An allowance that fills with time: at most `rate` bytes a second on average, and `burst` at
/// once.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: u64,
    burst: u64,
    /// Millionths of a byte, so that no rate loses anything to rounding however often it is
    /// refilled.
    level: u128,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket. A `rate` of 0 is no limit.
    #[must_use]
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        Self {
            rate,
            burst,
            level: u128::from(burst) * u128::from(SECOND),
            filled: now,
        }
    }

    /// Changes the rate (0: no limit) and the burst from `now` on.
    pub fn set_rate(&mut self, rate: u64, burst: u64, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.burst = burst;
        self.level = self.level.min(self.capacity());
    }

    /// Bytes that may flow now; `u64::MAX` without a limit.
    pub fn available(&mut self, now: Instant) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        self.refill(now);
        u64::try_from(self.level / u128::from(SECOND)).unwrap_or(u64::MAX)
    }

    /// Takes `bytes` if that many may flow now.
    pub fn take(&mut self, now: Instant, bytes: u64) -> bool {
        if self.available(now) < bytes {
            return false;
        }
        if self.rate != 0 {
            self.level -= u128::from(bytes) * u128::from(SECOND);
        }
        true
    }

    /// When `bytes` (or a full burst, if that is less) may flow; `now` or earlier: already.
    #[must_use]
    pub fn next_ready(&self, bytes: u64) -> Instant {
        let needed = u128::from(bytes.min(self.burst)) * u128::from(SECOND);
        if self.rate == 0 || self.level >= needed {
            return self.filled;
        }
        let micros = (needed - self.level).div_ceil(u128::from(self.rate));
        self.filled + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn capacity(&self) -> u128 {
        u128::from(self.burst) * u128::from(SECOND)
    }

    fn refill(&mut self, now: Instant) {
        let micros = now.as_micros().saturating_sub(self.filled.as_micros());
        self.filled = self.filled.max(now);
        let gained = u128::from(micros) * u128::from(self.rate);
        self.level = self.level.saturating_add(gained).min(self.capacity());
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000 + millis * 1_000)
    }

    #[test]
    fn a_steady_flow_is_measured_and_forgotten() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(at(0)), 0);
        for tick in 0..100 {
            meter.add(at(tick * 100), 1_000);
        }
        let rate = meter.rate(at(9_999));
        assert!((9_500..=10_500).contains(&rate), "{rate}");
        assert!(meter.rate(at(12_000)) < rate);
        assert_eq!(meter.rate(at(15_000)), 0);
        assert_eq!(meter.total(), 100_000);
    }

    #[test]
    fn a_pause_longer_than_the_window_leaves_nothing_behind() {
        let mut meter = RateMeter::default();
        meter.add(at(0), 1_000_000);
        meter.add(at(60_000), 5_000);
        assert_eq!(meter.rate(at(60_000)), 5_000 * 1_000_000 / 4_000_000);
    }

    #[test]
    fn a_bucket_says_when_to_come_back() {
        let mut bucket = TokenBucket::new(1_000, 500, at(0));
        assert!(bucket.take(at(0), 500));
        assert!(!bucket.take(at(0), 1));
        assert_eq!(bucket.next_ready(100), at(100));
        assert!(!bucket.take(at(99), 100));
        assert!(bucket.take(at(100), 100));
        assert_eq!(bucket.available(at(60_000)), 500);
        assert!(TokenBucket::new(0, 0, at(0)).take(at(0), u64::MAX));
    }

    quickcheck! {
        fn never_more_than_rate_and_burst(rate: u16, burst: u16, asks: Vec<(u8, u16)>) -> bool {
            let (rate, burst) = (u64::from(rate) + 1, u64::from(burst));
            let mut bucket = TokenBucket::new(rate, burst, at(0));
            let (mut millis, mut taken) = (0, 0);
            for (pause, bytes) in asks {
                millis += u64::from(pause);
                if bucket.take(at(millis), u64::from(bytes)) {
                    taken += u64::from(bytes);
                }
            }
            taken <= burst + rate * millis / 1_000
        }
    }
}
