//! Which pieces someone has: one bit a piece, most significant bit first (BEP 3).

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::work;

/// Bytes that a search compares at once.
const STRIDE: usize = 64;

/// A set of pieces in the form the wire carries it.
///
/// Spare bits past the last piece are always zero, and the number of set bits is kept, so that
/// asking how complete a peer is costs nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

/// Why bytes are no bitfield of a torrent; the peer that sent them is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BitfieldError {
    /// The number of bytes does not fit the number of pieces.
    Length {
        /// Bytes that fit.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A bit past the last piece is set.
    SpareBits,
}

impl fmt::Display for BitfieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "bitfield of {found} bytes, expected {expected}")
            }
            Self::SpareBits => f.write_str("bitfield with spare bits set"),
        }
    }
}

impl core::error::Error for BitfieldError {}

impl Bitfield {
    /// No piece of `len`.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self {
            bytes: vec![0; len.div_ceil(8) as usize],
            len,
            ones: 0,
        }
    }

    /// Every piece of `len`.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut bytes = vec![0xff; len.div_ceil(8) as usize];
        if let Some(last) = bytes.last_mut() {
            *last &= !spare_mask(len);
        }
        Self {
            bytes,
            len,
            ones: len,
        }
    }

    /// Reads the payload of a bitfield message for a torrent of `len` pieces.
    ///
    /// # Errors
    /// The length is wrong or a spare bit is set.
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Result<Self, BitfieldError> {
        let expected = len.div_ceil(8) as usize;
        if bytes.len() != expected {
            return Err(BitfieldError::Length {
                expected,
                found: bytes.len(),
            });
        }
        if bytes.last().is_some_and(|last| last & spare_mask(len) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        work::note(bytes.len() / 8);
        Ok(Self {
            bytes: bytes.to_vec(),
            len,
            ones: bytes.iter().map(|byte| byte.count_ones()).sum(),
        })
    }

    /// Whether `index` is in the set; `false` past the end.
    #[must_use]
    #[inline]
    pub fn get(&self, index: u32) -> bool {
        self.bytes
            .get(index as usize / 8)
            .is_some_and(|byte| byte & bit(index) != 0)
    }

    /// Adds `index`. Returns whether that changed anything; past the end nothing changes.
    pub fn set(&mut self, index: u32) -> bool {
        if index >= self.len || self.get(index) {
            return false;
        }
        self.bytes[index as usize / 8] |= bit(index);
        self.ones += 1;
        true
    }

    /// Adds every index of a range, as far as it lies within the set's length: 64 at a time.
    pub fn set_range(&mut self, range: Range<u32>) {
        let (mut at, end) = (range.start, range.end.min(self.len));
        while at < end {
            work::note(1);
            let rest = end - at;
            if at.is_multiple_of(8)
                && rest >= 64
                && let Some(chunk) = self.bytes[at as usize / 8..].first_chunk_mut::<8>()
            {
                self.ones += u64::from_ne_bytes(*chunk).count_zeros();
                *chunk = [0xff; 8];
                at += 64;
                continue;
            }
            let mask = (0xff_u8 >> (at % 8)) & !0xff_u8.checked_shr(at % 8 + rest).unwrap_or(0);
            let byte = &mut self.bytes[at as usize / 8];
            self.ones += (mask & !*byte).count_ones();
            *byte |= mask;
            at += 8 - at % 8;
        }
    }

    /// Removes `index`. Returns whether that changed anything.
    pub fn clear(&mut self, index: u32) -> bool {
        if !self.get(index) {
            return false;
        }
        self.bytes[index as usize / 8] &= !bit(index);
        self.ones -= 1;
        true
    }

    /// Number of pieces in the set; kept, not counted.
    #[must_use]
    pub fn count_ones(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set; `false` for a torrent without pieces.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len > 0 && self.ones == self.len
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Number of pieces of the torrent.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The bytes as the wire carries them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pieces of the set, in rising order.
    pub fn iter_ones(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let found = self.next_one(from)?;
            from = found + 1;
            Some(found)
        })
    }

    /// The lowest piece of the set that is not below `from`.
    #[must_use]
    pub fn next_one(&self, from: u32) -> Option<u32> {
        self.next_common(self, from)
    }

    /// The lowest piece not below `from` that both sets contain. Looks at 512 pieces a step.
    #[must_use]
    pub fn next_common(&self, other: &Self, from: u32) -> Option<u32> {
        let len = self.bytes.len().min(other.bytes.len());
        let (ours, others) = (&self.bytes[..len], &other.bytes[..len]);
        let mut at = from as usize / 8;
        // Up to the next whole stride, minding that pieces below `from` do not count.
        let mut mask = u64::MAX >> (from % 8);
        while at < len && (!at.is_multiple_of(STRIDE) || mask != u64::MAX) {
            let found = word(ours, at) & word(others, at) & mask;
            if found != 0 {
                return Some(at as u32 * 8 + found.leading_zeros());
            }
            mask = u64::MAX;
            at += 8 - at % 8;
        }
        let ours = ours.get(at..)?.chunks(STRIDE);
        let others = others.get(at..)?.chunks(STRIDE);
        let mut strides = ours.zip(others).inspect(|_| work::note(1));
        let skipped = strides.position(|(a, b)| share_a_bit(a, b))?;
        at += skipped * STRIDE;
        while at < len {
            let found = word(&self.bytes[..len], at) & word(&other.bytes[..len], at);
            if found != 0 {
                return Some(at as u32 * 8 + found.leading_zeros());
            }
            at += 8;
        }
        None
    }

    /// The lowest piece of a range that both sets contain. Looks at 64 pieces a step, and at none
    /// outside the range.
    #[must_use]
    pub fn next_common_in(&self, other: &Self, range: Range<u32>) -> Option<u32> {
        let end = range.end.min(self.len);
        let mut byte = range.start as usize / 8;
        let mut mask = u64::MAX >> (range.start % 8);
        while byte * 8 < end as usize {
            work::note(1);
            let found = word(&self.bytes, byte) & word(&other.bytes, byte) & mask;
            if found != 0 {
                let index = byte as u32 * 8 + found.leading_zeros();
                return (index < end).then_some(index);
            }
            mask = u64::MAX;
            byte += 8;
        }
        None
    }

    /// The pieces of the set that lie in a range, in rising order.
    pub fn ones_in(&self, range: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let mut from = range.start;
        core::iter::from_fn(move || {
            let found = self.next_common_in(self, from..range.end)?;
            from = found + 1;
            Some(found)
        })
    }

    /// Number of pieces that both sets contain. Looks at 64 pieces a step.
    #[must_use]
    pub fn count_common(&self, other: &Self) -> u32 {
        let bytes = (0..self.bytes.len().min(other.bytes.len())).step_by(8);
        bytes
            .map(|at| {
                work::note(1);
                (word(&self.bytes, at) & word(&other.bytes, at)).count_ones()
            })
            .sum()
    }

    /// Adds every piece of `other`, a set of as many pieces. Looks at 64 pieces a step.
    pub fn insert_all(&mut self, other: &Self) {
        let mut ones = 0;
        for (ours, theirs) in self.bytes.chunks_mut(8).zip(other.bytes.chunks(8)) {
            work::note(1);
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours |= theirs;
                ones += ours.count_ones();
            }
        }
        self.ones = ones;
    }

    /// The first piece at or after `from`, and below `until`, that is in none of `sets`, all of as
    /// many pieces. Looks at 64 pieces a step.
    #[must_use]
    pub fn first_in_none(sets: &[&Self], from: u32, until: u32) -> Option<u32> {
        let mut at = from as usize / 64 * 8;
        let mut mask = u64::MAX >> (from % 64);
        while at < until.div_ceil(8) as usize {
            work::note(1);
            let used = sets.iter().fold(0, |used, set| used | word(&set.bytes, at));
            let free = !used & mask;
            if free != 0 {
                let piece = at as u32 * 8 + free.leading_zeros();
                return (piece < until).then_some(piece);
            }
            mask = u64::MAX;
            at += 8;
        }
        None
    }

    /// Whether the two sets share a piece.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.next_common(other, 0).is_some()
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

const fn bit(index: u32) -> u8 {
    0x80 >> (index % 8)
}

/// The bits of the last byte that stand for no piece.
const fn spare_mask(len: u32) -> u8 {
    match len % 8 {
        0 => 0,
        used => 0xff >> used,
    }
}

/// The 64 bits that begin at byte `at`; the lowest piece is the most significant bit.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_be_bytes(*chunk);
    }
    let mut chunk = [0; 8];
    for (to, from) in chunk.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_be_bytes(chunk)
}

/// Whether two slices of equal length have a bit in common; without a branch, so that whole
/// strides are compared at once.
#[inline]
fn share_a_bit(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<STRIDE>(), b.first_chunk::<STRIDE>()) {
        (Some(a), Some(b)) => a.iter().zip(b).fold(0, |any, (a, b)| any | (a & b)) != 0,
        _ => a.iter().zip(b).any(|(a, b)| a & b != 0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_first_piece_is_the_most_significant_bit() {
        let mut field = Bitfield::new(10);
        assert!(field.set(0));
        assert!(field.set(9));
        assert!(!field.set(9));
        assert!(!field.set(10));
        assert_eq!(field.as_bytes(), [0x80, 0x40]);
        assert_eq!(field.count_ones(), 2);
        assert!(field.clear(0));
        assert!(!field.clear(0));
        assert_eq!(field.as_bytes(), [0x00, 0x40]);
    }

    #[test]
    fn wrong_length_and_spare_bits_are_refused() {
        let length = |expected, found| Err(BitfieldError::Length { expected, found });
        assert_eq!(Bitfield::from_bytes(10, &[0xff]), length(2, 1));
        assert_eq!(Bitfield::from_bytes(8, &[0xff, 0]), length(1, 2));
        assert_eq!(
            Bitfield::from_bytes(10, &[0xff, 0x20]),
            Err(BitfieldError::SpareBits)
        );
        assert_eq!(
            Bitfield::from_bytes(10, &[0xff, 0xc0]),
            Ok(Bitfield::full(10))
        );
        assert_eq!(Bitfield::from_bytes(0, &[]), Ok(Bitfield::new(0)));
        assert!(Bitfield::full(10).is_full());
        assert!(!Bitfield::full(0).is_full());
    }

    quickcheck! {
        fn a_union_and_what_no_set_has_are_what_looking_at_each_piece_gives(
            len: u16, sets: (Vec<u16>, Vec<u16>), from: u16, until: u16
        ) -> bool {
            let len = u32::from(len % 400) + 1;
            let (from, until) = (u32::from(from) % (len + 1), u32::from(until) % (len + 1));
            let set = |pieces: &[u16]| {
                let mut set = Bitfield::new(len);
                pieces.iter().for_each(|piece| {
                    set.set(u32::from(*piece) % len);
                });
                set
            };
            // Many, so that free pieces are rare.
            let (mut a, b) = (set(&sets.0), set(&sets.1));
            a.set_range(0..len * 3 / 4);
            let free = (from..until).find(|piece| !a.get(*piece) && !b.get(*piece));
            assert_eq!(Bitfield::first_in_none(&[&a, &b], from, until), free);
            let mut union = a.clone();
            union.insert_all(&b);
            let ones = (0..len).filter(|piece| a.get(*piece) || b.get(*piece));
            assert_eq!(union.count_ones() as usize, ones.clone().count());
            ones.eq(union.iter_ones())
        }

        fn a_range_is_its_indices(len: u16, start: u16, end: u16, before: Vec<u16>) -> bool {
            let (len, start, end) = (len % 400, start % 420, end % 420);
            let mut one_by_one = Bitfield::new(len.into());
            before.iter().for_each(|index| {
                one_by_one.set(u32::from(*index % 400));
            });
            let mut at_once = one_by_one.clone();
            at_once.set_range(start.into()..end.into());
            (start..end).for_each(|index| {
                one_by_one.set(index.into());
            });
            at_once == one_by_one
        }

        fn behaves_like_a_set(
            len: u16, ops: Vec<(u16, bool)>, other: Vec<u16>, from: u16, to: u16
        ) -> bool {
            let len = u32::from(len % 3_000) + 1;
            let mut field = Bitfield::new(len);
            let mut model = BTreeSet::new();
            for (index, add) in ops {
                let index = u32::from(index % 3_000);
                if add && index < len {
                    assert_eq!(field.set(index), model.insert(index));
                } else if !add {
                    assert_eq!(field.clear(index), model.remove(&index));
                }
            }
            let mut second = Bitfield::new(len);
            other.iter().for_each(|index| { second.set(u32::from(*index % 3_000)); });
            let from = u32::from(from % 3_000);
            let to = from + u32::from(to % 1_000);
            let common = model.range(from..).copied().find(|index| second.get(*index));
            field.iter_ones().eq(model.iter().copied())
                && field.count_ones() as usize == model.len()
                && field.next_one(from) == model.range(from..).next().copied()
                && field.next_common(&second, from) == common
                && field.next_common_in(&second, from..to)
                    == model.range(from..to).copied().find(|index| second.get(*index))
                && field.ones_in(from..to).eq(model.range(from..to).copied())
                && field.count_common(&second) as usize
                    == model.iter().filter(|index| second.get(**index)).count()
                && Bitfield::from_bytes(len, field.as_bytes()) == Ok(field)
        }
    }
}
