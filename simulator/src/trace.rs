//! The hashes by which two runs are compared.

use std::fmt;

use trackerless_core::checksum::mix;

/// A 128-bit digest of everything that happened, folded in host order each simulated second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Root(pub u128);

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Root {
    /// Takes in one host's hash.
    pub(crate) fn fold(&mut self, hash: u64) {
        let low = mix(self.0 as u64 ^ hash);
        let high = mix((self.0 >> 64) as u64 ^ hash.rotate_left(32) ^ low);
        self.0 = u128::from(high) << 64 | u128::from(low);
    }
}

/// A draw that depends on nothing but its arguments: removing one draw leaves all others alone.
pub(crate) const fn draw(seed: u64, a: u64, b: u64, counter: u64) -> u64 {
    mix(mix(mix(mix(seed) ^ a) ^ b) ^ counter)
}
