//! The identities of the protocol: node ids, info-hashes, peer ids.

use alloc::string::String;
use core::fmt;

/// A 160-bit number: a DHT node id, a lookup target, or an info-hash as the wire carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id20(pub [u8; 20]);

/// A DHT node's id (BEP 5).
pub type NodeId = Id20;

impl Id20 {
    /// The XOR distance between two ids (BEP 5).
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut out = [0; 20];
        for (out, (a, b)) in out.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *out = a ^ b;
        }
        Distance(out)
    }

    /// An id whose first `bits` bits are set, and no others.
    #[must_use]
    pub fn prefix_mask(bits: u32) -> Self {
        let mut out = [0; 20];
        for (at, byte) in out.iter_mut().enumerate() {
            let left = bits.saturating_sub(at as u32 * 8).min(8);
            *byte = !(0xff_u16 >> left) as u8;
        }
        Self(out)
    }

    /// Parses exactly 40 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut out = [0; 20];
        decode_hex(text, &mut out).then_some(Self(out))
    }
}

impl From<[u8; 20]> for Id20 {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Id20 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Id20 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// How far two ids are apart in the XOR metric; smaller is closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Distance(pub [u8; 20]);

impl Distance {
    /// Number of leading zero bits, 0 to 160: how many bits of prefix the two ids share.
    #[must_use]
    pub fn leading_zeros(&self) -> u32 {
        let mut zeros = 0;
        for byte in self.0 {
            zeros += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        zeros
    }

    /// The exponent of the highest set bit, 0 to 159; 0 for equal ids as well.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        159u32.saturating_sub(self.leading_zeros())
    }
}

/// The hash that names a torrent: 20 bytes for v1 (BEP 3), 32 for v2 (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InfoHash {
    /// SHA-1 of the `info` dictionary.
    V1([u8; 20]),
    /// SHA-256 of the `info` dictionary.
    V2([u8; 32]),
}

impl InfoHash {
    /// The 20 bytes that handshakes, the DHT and trackers carry: v2 hashes are truncated (BEP 52).
    #[must_use]
    pub fn short(&self) -> Id20 {
        match self {
            Self::V1(bytes) => Id20(*bytes),
            Self::V2(bytes) => {
                let mut out = [0; 20];
                out.copy_from_slice(&bytes[..20]);
                Id20(out)
            }
        }
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1(bytes) => write_hex(f, bytes),
            Self::V2(bytes) => write_hex(f, bytes),
        }
    }
}

/// The hashes of one torrent: v1, v2, or both for a hybrid. At least one is present.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InfoHashes {
    v1: Option<[u8; 20]>,
    v2: Option<[u8; 32]>,
}

impl InfoHashes {
    /// `None` when both are absent.
    #[must_use]
    pub fn new(v1: Option<[u8; 20]>, v2: Option<[u8; 32]>) -> Option<Self> {
        (v1.is_some() || v2.is_some()).then_some(Self { v1, v2 })
    }

    /// Whether `found` has every hash that is here, and the same.
    #[must_use]
    pub fn fit(&self, found: &Self) -> bool {
        self.v1.is_none_or(|v1| found.v1 == Some(v1))
            && self.v2.is_none_or(|v2| found.v2 == Some(v2))
    }

    /// The v1 hash (SHA-1), if the torrent has one.
    #[must_use]
    pub fn v1(&self) -> Option<[u8; 20]> {
        self.v1
    }

    /// The v2 hash (SHA-256), if the torrent has one.
    #[must_use]
    pub fn v2(&self) -> Option<[u8; 32]> {
        self.v2
    }

    /// The hash peers and the DHT are asked with: v1 where there is one, else the truncated v2.
    #[must_use]
    pub fn short(&self) -> Id20 {
        self.best().short()
    }

    /// The v1 hash where there is one, else the v2 hash.
    #[must_use]
    pub fn best(&self) -> InfoHash {
        match (self.v1, self.v2) {
            (Some(v1), _) => InfoHash::V1(v1),
            (None, Some(v2)) => InfoHash::V2(v2),
            (None, None) => InfoHash::V1([0; 20]),
        }
    }
}

/// A peer's id (BEP 3, conventions of BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            let shown = if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '.'
            };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

/// Writes `bytes` as lower-case hexadecimal.
///
/// # Errors
/// Those of the formatter.
pub fn write_hex(f: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// `bytes` as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    let _ = write_hex(&mut out, bytes);
    out
}

/// Fills `out` from hexadecimal digits of either case; false unless the length fits exactly.
#[must_use]
pub fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    let text = text.as_bytes();
    if text.len() != out.len() * 2 {
        return false;
    }
    for (out, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return false;
        };
        *out = (high * 16 + low) as u8;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    #[test]
    fn distance_exponents_of_libtorrent() {
        let ones = Id20([0xff; 20]);
        let mut last = ones;
        last.0[19] = 0xfe;
        let first = |byte: u8| {
            let mut id = Id20([0; 20]);
            id.0[0] = byte;
            id
        };
        let high = |byte: u8| {
            let mut id = ones;
            id.0[0] = byte;
            id
        };
        let rows = [
            (ones, Id20([0; 20]), 159),
            (ones, high(0x7f), 159),
            (ones, ones, 0),
            (ones, last, 0),
            (first(0x80), last, 158),
            (first(0xc0), last, 157),
            (first(0xe0), last, 156),
            (first(0xf0), last, 155),
        ];
        for (a, b, exponent) in rows {
            assert_eq!(a.distance(&b).exponent(), exponent, "{a} {b}");
            assert_eq!(b.distance(&a).exponent(), exponent, "{b} {a}");
        }
        // The bit length that other implementations speak of is one more.
        let a = Id20::from_hex("0639A1E24FBB8AB277DF033476AB0DE10FAB3BDC").unwrap();
        let b = Id20::from_hex("035b1aeb9737ade1a80933594f405d3f772aa08e").unwrap();
        assert_eq!(a.distance(&b).exponent() + 1, 155);
    }

    #[test]
    fn prefix_masks_of_libtorrent() {
        let rows = [
            (0, ""),
            (1, "80"),
            (8, "ff"),
            (11, "ffe0"),
            (17, "ffff80"),
            (37, "fffffffff8"),
            (159, "fffffffffffffffffffffffffffffffffffffffe"),
            (160, "ffffffffffffffffffffffffffffffffffffffff"),
            (1_000, "ffffffffffffffffffffffffffffffffffffffff"),
        ];
        for (bits, digits) in rows {
            let expected = std::format!("{digits:0<40}");
            assert_eq!(
                Id20::prefix_mask(bits),
                Id20::from_hex(&expected).unwrap(),
                "{bits}"
            );
        }
    }

    quickcheck! {
        fn hex_round_trips(bytes: Vec<u8>) -> bool {
            let mut back = std::vec![0; bytes.len()];
            decode_hex(&hex(&bytes), &mut back) && back == bytes
        }

        fn distance_is_symmetric_and_zero_only_to_itself(a: u64, b: u64) -> bool {
            let id = |n: u64| {
                let mut out = [0; 20];
                out[12..].copy_from_slice(&n.to_be_bytes());
                Id20(out)
            };
            let (x, y) = (id(a), id(b));
            x.distance(&y) == y.distance(&x) && (x.distance(&y).leading_zeros() == 160) == (a == b)
        }
    }
}
