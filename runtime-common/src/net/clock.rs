use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use trackerless_core::time::{Duration, Instant};

/// The operating system's monotonic clock, as the core counts it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: StdInstant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: StdInstant::now(),
        }
    }

    /// The time on this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        let micros = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        Instant::from_micros(micros.saturating_add(1))
    }

    /// How long until `deadline`; zero when it has passed.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Duration {
        deadline.saturating_since(self.now())
    }

    /// The operating system's name of an instant of this clock.
    #[must_use]
    pub fn to_std(&self, instant: Instant) -> Option<StdInstant> {
        self.epoch
            .checked_add(Duration::from_micros(instant.as_micros() - 1))
    }

    /// Seconds since 1970 by the wall clock.
    #[must_use]
    pub fn unix() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}
