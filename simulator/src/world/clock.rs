//! A host's own clock, which may go wrong.

use trackerless_core::Instant;

/// How a host's clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skew {
    /// How much too fast it goes, parts per million; below 0 it is slow. At most 500,000 either
    /// way.
    pub drift_ppm: i32,
    /// What its wall clock is ahead of the right time, seconds.
    pub wall_offset: i64,
}

/// Seconds since 1970 when a run begins.
pub(crate) const UNIX_START: i64 = 1_700_000_000;

/// What one host reads on its clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    skew: Skew,
    /// A moment of the run, microseconds, and what the clock showed then.
    run: u64,
    own: u64,
}

const MOST_DRIFT: i32 = 500_000;

impl Clock {
    pub(crate) fn new(skew: Skew, now: u64) -> Self {
        Self {
            skew,
            run: now,
            own: now,
        }
    }

    fn rate(&self) -> u128 {
        (1_000_000 + self.skew.drift_ppm.clamp(-MOST_DRIFT, MOST_DRIFT)) as u128
    }

    /// What the clock shows at a moment of the run.
    pub(crate) fn read(&self, now: u64) -> Instant {
        let passed = now.saturating_sub(self.run);
        if self.skew.drift_ppm == 0 {
            return Instant::from_micros(self.own + passed);
        }
        let passed = u128::from(passed) * self.rate() / 1_000_000;
        Instant::from_micros(self.own + passed as u64)
    }

    /// The first moment of the run at which the clock shows `own` or later.
    pub(crate) fn when(&self, own: Instant) -> u64 {
        let ahead = own.as_micros().saturating_sub(self.own);
        if self.skew.drift_ppm == 0 {
            return self.run.saturating_add(ahead);
        }
        let passed = (u128::from(ahead) * 1_000_000).div_ceil(self.rate());
        self.run
            .saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Seconds since 1970 that the wall clock shows.
    pub(crate) fn wall(&self, start: u64, now: u64) -> u64 {
        let right = UNIX_START + (now.saturating_sub(start) / 1_000_000) as i64;
        (right + self.skew.wall_offset).max(0) as u64
    }

    /// It jumps, as when somebody sets it.
    pub(crate) fn jump(&mut self, now: u64, micros: i64) {
        let own = self.read(now).as_micros().saturating_add_signed(micros);
        self.run = now;
        self.own = own.max(1);
        self.skew.wall_offset += micros / 1_000_000;
    }

    /// It stood still for so long.
    pub(crate) fn stood_still(&mut self, now: u64, micros: u64) {
        let own = self.read(now).as_micros() - micros.min(self.read(now).as_micros() - 1);
        self.run = now;
        self.own = own;
    }

    /// It goes otherwise from now on.
    pub(crate) fn set_skew(&mut self, now: u64, skew: Skew) {
        self.own = self.read(now).as_micros();
        self.run = now;
        self.skew = skew;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn skewed(drift_ppm: i32) -> Clock {
        let skew = Skew {
            drift_ppm,
            wall_offset: 0,
        };
        Clock::new(skew, 1_000_000)
    }

    quickcheck! {
        fn a_deadline_is_met_at_the_first_moment_at_which_it_can_be(drift: i32, ahead: u32) -> bool {
            let clock = skewed(drift % 500_000);
            let own = Instant::from_micros(1_000_000 + u64::from(ahead));
            let at = clock.when(own);
            clock.read(at) >= own && (at == 1_000_000 || clock.read(at - 1) < own)
        }
    }

    #[test]
    fn it_drifts_jumps_and_sleeps() {
        let mut clock = skewed(100);
        assert_eq!(clock.read(10_001_000_000).as_micros(), 10_002_000_000);
        clock.jump(10_001_000_000, -5_000_000);
        assert_eq!(clock.read(10_001_000_000).as_micros(), 9_997_000_000);
        assert_eq!(clock.wall(1_000_000, 10_001_000_000), 1_700_009_995);
        clock.stood_still(10_001_000_000, 7_000_000);
        assert_eq!(clock.read(10_001_000_000).as_micros(), 9_990_000_000);
        clock.set_skew(10_001_000_000, Skew::default());
        assert_eq!(clock.read(10_001_000_500).as_micros(), 9_990_000_500);
    }
}
