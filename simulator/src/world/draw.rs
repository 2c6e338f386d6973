//! What is drawn, and the hashes by which two runs are compared.

use std::fmt;

use trackerless_core::checksum::mix;

/// Parts per million.
pub(crate) const MILLION: u64 = 1_000_000;

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
#[must_use]
pub const fn draw(seed: u64, a: u64, b: u64, counter: u64) -> u64 {
    mix(mix(mix(mix(seed) ^ a) ^ b) ^ counter)
}

/// A draw below `bound`; 0 when that is 0.
#[must_use]
pub const fn below(draw: u64, bound: u64) -> u64 {
    ((draw as u128 * bound as u128) >> 64) as u64
}

/// Whether something happens that happens `ppm` times in a million.
#[must_use]
pub const fn chance(draw: u64, ppm: u32) -> bool {
    ppm > 0 && below(draw, MILLION) < ppm as u64
}

/// What a draw is for. Draws of different purposes have nothing to do with each other, so that a
/// fault that is taken away leaves all others where they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    Seed = 0x5eed,
    Place = 0x91ace,
    Loss = 0x105e,
    Jitter = 0x717e,
    UpLoss = 0x0a10,
    UpBurst = 0x0a11,
    UpReorder = 0x0a12,
    UpDuplicate = 0x0a13,
    UpCorrupt = 0x0a14,
    DownLoss = 0x0b10,
    DownBurst = 0x0b11,
    DownReorder = 0x0b12,
    DownDuplicate = 0x0b13,
    DownCorrupt = 0x0b14,
    Ports = 0x0c01,
    DiskRead = 0x0d01,
    DiskWrite = 0x0d02,
    DiskCorrupt = 0x0d03,
    Torn = 0x0d04,
}

/// Flips a bit, counted round `bytes`.
pub(crate) fn flip(bytes: &mut [u8], bit: usize) {
    let bits = bytes.len() * 8;
    if bits > 0 {
        bytes[bit % bits / 8] ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_changes_one_bit_and_twice_is_none() {
        for bit in [0, 7, 8, 23, 24, 1_000, usize::MAX] {
            let mut bytes = [0x5a, 0, 0xff];
            let before = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            flip(&mut bytes, bit);
            let after = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            assert_eq!((before ^ after).count_ones(), 1, "bit {bit}");
            flip(&mut bytes, bit);
            assert_eq!(bytes, [0x5a, 0, 0xff]);
        }
        flip(&mut [], 5);
    }

    #[test]
    fn what_happens_ppm_times_in_a_million_does() {
        for ppm in [0, 1_000, 250_000, 999_000, 1_000_000] {
            let times = (0..100_000).filter(|n| chance(draw(1, 2, 3, *n), ppm));
            let expected = u64::from(ppm) / 10;
            let got = times.count() as u64;
            assert!(
                got.abs_diff(expected) <= expected / 10 + 5,
                "{got} of {expected}"
            );
        }
    }
}
