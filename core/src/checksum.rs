//! Checksums that tell accidents apart, not adversaries; equal on every platform.

/// `TABLES[0]` is the usual table of CRC-32C; `TABLES[n]` advances a byte by `n` more bytes, so
/// that eight bytes are taken at once.
const TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[table - 1][byte];
            tables[table][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
};

/// CRC-32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_after(0, bytes)
}

/// CRC-32C of some bytes, whose own CRC-32C is `before`, followed by `bytes`.
#[must_use]
pub fn crc32c_after(before: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut crc = !before;
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(crc);
        crc = 0;
        for (at, byte) in word.to_le_bytes().into_iter().enumerate() {
            crc ^= TABLES[7 - at][usize::from(byte)];
        }
    }
    for byte in rest {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize];
    }
    !crc
}

/// A chained 64-bit hash over numbers and strings of bytes, in order.
///
/// Each step is that of SplitMix64 over a 64-bit little-endian word; a string is its length and
/// then its words, so that no two lists of strings run into each other. Whole rows of 64 bytes are
/// first folded into four words, by 128-bit products: blocks of content make up most of what is
/// hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(u64);

impl Chain {
    /// A chain of nothing; chains with different `start` are different hashes.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self(start)
    }

    /// The hash so far.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0
    }

    /// Takes in a number.
    pub const fn number(&mut self, number: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ number);
    }

    /// Takes in a string of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (rows, bytes) = bytes.as_chunks::<ROW>();
        if !rows.is_empty() {
            // No lane waits for another, so that a processor works on all of them at once.
            let mut lanes = LANES.map(|lane| lane ^ self.0);
            for row in rows {
                let (words, _) = row.as_chunks::<8>();
                for (at, lane) in lanes.iter_mut().enumerate() {
                    let [a, b] = [words[2 * at], words[2 * at + 1]].map(u64::from_le_bytes);
                    *lane = fold(a ^ LANES[at], b ^ *lane);
                }
            }
            lanes.into_iter().for_each(|lane| self.number(lane));
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
    }
}

/// Bytes that [`Chain`] folds at once, sixteen for each lane.
const ROW: usize = 16 * LANES.len();
/// What tells the lanes of a row apart: digits of pi.
const LANES: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// Both halves of the product.
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// One step of SplitMix64: every bit of `x` reaches every bit of the result, and no two `x` give
/// the same.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    /// RFC 3720, B.4.
    #[test]
    fn crc32c_of_the_examples_of_iscsi() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(&falling), 0x113f_db5c);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    quickcheck! {
        fn crc32c_goes_on_where_it_was(bytes: Vec<u8>, cut: usize) -> bool {
            let (a, b) = bytes.split_at(cut % (bytes.len() + 1));
            crc32c_after(crc32c(a), b) == crc32c(&bytes)
        }
    }

    /// The vectors of the reference implementation for the seed 1234567.
    #[test]
    fn mix_is_splitmix64() {
        let step = 0x9e37_79b9_7f4a_7c15u64;
        let values = [0, 1, 2].map(|n: u64| mix(1_234_567u64.wrapping_add(step.wrapping_mul(n))));
        assert_eq!(
            values,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423
            ]
        );
    }

    #[test]
    fn every_byte_and_every_order_counts() {
        let hash = |parts: &[&[u8]]| {
            let mut chain = Chain::default();
            parts.iter().for_each(|part| chain.bytes(part));
            chain.value()
        };
        assert_eq!(hash(&[b"abc", b"d"]), hash(&[b"abc", b"d"]));
        assert_ne!(hash(&[b"abc", b"d"]), hash(&[b"ab", b"cd"]));
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"12345678\0"]), hash(&[b"12345678"]));
    }

    quickcheck! {
        /// Whichever bit it is, in a row or after it, and whatever is around it.
        fn every_bit_counts(bytes: Vec<u8>, rows: u8, at: usize, start: u64) -> bool {
            let mut bytes = bytes;
            bytes.extend((0..usize::from(rows) * 8).map(|n| mix(start ^ n as u64) as u8));
            if bytes.is_empty() {
                return true;
            }
            let hash = |bytes: &[u8]| {
                let mut chain = Chain::new(start);
                chain.bytes(bytes);
                chain.value()
            };
            let whole = hash(&bytes);
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            hash(&bytes) != whole
        }
    }

    /// Rows that trade places, or their words, are another string.
    #[test]
    fn the_order_within_long_strings_counts() {
        let hash = |bytes: &[u8]| {
            let mut chain = Chain::default();
            chain.bytes(bytes);
            chain.value()
        };
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = hash(&bytes);
        for (from, to, length) in [
            (0, 64, 64),
            (0, 128, 64),
            (0, 8, 8),
            (0, 16, 16),
            (8, 24, 8),
        ] {
            let mut other = bytes.clone();
            for n in 0..length {
                other.swap(from + n, to + n);
            }
            assert_ne!(hash(&other), whole, "{from} and {to}, {length} bytes");
        }
        assert_eq!(hash(&[7; 1000]), hash(&[7; 1000]));
    }

    /// Equal on every platform: these are what an x86-64 gives.
    #[test]
    fn the_hash_of_a_block_is_known() {
        let bytes: Vec<u8> = (0..16_384u32).map(|n| mix(u64::from(n)) as u8).collect();
        let mut chain = Chain::default();
        chain.bytes(&bytes);
        assert_eq!(chain.value(), 0xbe4d_c3b8_6ea4_3506);
    }
}
