//! The hashes by which two runs are compared.

use std::fmt;

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

/// A chained hash of bytes and numbers; not cryptographic, equal on every platform.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Chain(pub(crate) u64);

impl Chain {
    pub(crate) fn number(&mut self, number: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ number);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
    }
}

/// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A draw that depends on nothing but its arguments: removing one draw leaves all others alone.
pub(crate) const fn draw(seed: u64, a: u64, b: u64, counter: u64) -> u64 {
    mix(mix(mix(mix(seed) ^ a) ^ b) ^ counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_order_counts() {
        let hash = |parts: &[&[u8]]| {
            let mut chain = Chain::default();
            parts.iter().for_each(|part| chain.bytes(part));
            chain.0
        };
        assert_eq!(hash(&[b"abc", b"d"]), hash(&[b"abc", b"d"]));
        assert_ne!(hash(&[b"abc", b"d"]), hash(&[b"ab", b"cd"]));
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"12345678\0"]), hash(&[b"12345678"]));
    }
}
