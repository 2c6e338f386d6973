//! Time as the core knows it: integers handed in by the host.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A point in time: microseconds since an epoch the host chose, at least 1.
///
/// The core never reads a clock. Two instants of one host can be compared; instants of
/// different hosts cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The earliest instant.
    pub const MIN: Self = Self(NonZeroU64::MIN);
    /// The latest instant, about 584,000 years after [`Instant::MIN`].
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The instant `micros` microseconds after the epoch; 0 is read as 1.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        match NonZeroU64::new(micros) {
            Some(value) => Self(value),
            None => Self::MIN,
        }
    }

    /// Microseconds since the host's epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    /// Time that passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    /// Saturates at [`Instant::MAX`].
    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    /// Saturates at [`Instant::MIN`].
    fn sub(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.get().saturating_sub(micros))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        write!(f, "{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}
