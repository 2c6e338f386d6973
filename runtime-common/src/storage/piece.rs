//! One piece on its way: blocks in memory, ranges already spilled, and a running hash.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

/// What is kept of a piece that is not committed.
#[derive(Default)]
pub(super) struct Piece {
    /// Disjoint runs of bytes by their first byte.
    blocks: BTreeMap<u32, Bytes>,
    /// Sum of their lengths.
    kept: usize,
    /// Hash of the first `hashed` bytes, taken as they came in order.
    hasher: Option<Sha1>,
    hashed: u32,
}

impl Piece {
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    pub(super) fn blocks(&self) -> &BTreeMap<u32, Bytes> {
        &self.blocks
    }

    /// Keeps `data`; later bytes replace earlier ones at the same place.
    pub(super) fn write(&mut self, begin: u32, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let end = begin + data.len() as u32;
        self.carve(begin, end);
        if begin < self.hashed {
            self.hasher = None;
            self.hashed = 0;
        }
        self.kept += data.len();
        self.blocks.insert(begin, data);
        self.advance();
    }

    /// The bytes at `begin`, if all of them are in memory in one run of one buffer.
    pub(super) fn slice(&self, begin: u32, length: u32) -> Option<Bytes> {
        let (&start, block) = self.blocks.range(..=begin).next_back()?;
        let from = (begin - start) as usize;
        let to = from.checked_add(length as usize)?;
        (to <= block.len()).then(|| block.slice(from..to))
    }

    /// Copies what is in memory over `out`, which holds the bytes from `begin` on.
    pub(super) fn overlay(&self, begin: u32, out: &mut [u8]) {
        let end = begin + out.len() as u32;
        for (&start, block) in self.overlapping(begin, end) {
            let from = start.max(begin);
            let to = (start + block.len() as u32).min(end);
            out[(from - begin) as usize..(to - begin) as usize]
                .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
    }

    /// Whether all of `begin..end` is in memory.
    pub(super) fn covers(&self, begin: u32, end: u32) -> bool {
        let mut at = begin;
        for (&start, block) in self.overlapping(begin, end) {
            if start > at {
                return false;
            }
            at = start + block.len() as u32;
        }
        at >= end
    }

    /// The run that holds byte `at`, from `at` on.
    pub(super) fn run_at(&self, at: u32) -> Option<Bytes> {
        let (&start, block) = self.blocks.range(..=at).next_back()?;
        let from = (at - start) as usize;
        (from < block.len()).then(|| block.slice(from..))
    }

    /// The first byte at or after `at` that is in memory.
    pub(super) fn next_run(&self, at: u32) -> Option<u32> {
        self.blocks.range(at..).next().map(|(&start, _)| start)
    }

    /// The running hash and how many bytes it covers; the piece keeps nothing of it.
    pub(super) fn take_hash(&mut self) -> (Sha1, u32) {
        let hashed = std::mem::take(&mut self.hashed);
        (self.hasher.take().unwrap_or_default(), hashed)
    }

    /// Gives up the blocks, which are in the files from now on. The running hash stays.
    pub(super) fn clear_blocks(&mut self) {
        self.blocks.clear();
        self.kept = 0;
    }

    fn overlapping(&self, begin: u32, end: u32) -> impl Iterator<Item = (&u32, &Bytes)> {
        let first = self.blocks.range(..begin).next_back();
        let first = first.filter(|(start, block)| *start + block.len() as u32 > begin);
        first.into_iter().chain(self.blocks.range(begin..end))
    }

    /// Removes `begin..end` from the blocks in memory.
    fn carve(&mut self, begin: u32, end: u32) {
        let starts: Vec<u32> = self
            .overlapping(begin, end)
            .map(|(start, _)| *start)
            .collect();
        for start in starts {
            let Some(block) = self.blocks.remove(&start) else {
                continue;
            };
            self.kept -= block.len();
            let block_end = start + block.len() as u32;
            if start < begin {
                let left = block.slice(..(begin - start) as usize);
                self.kept += left.len();
                self.blocks.insert(start, left);
            }
            if block_end > end {
                let right = block.slice((end - start) as usize..);
                self.kept += right.len();
                self.blocks.insert(end, right);
            }
        }
    }

    fn advance(&mut self) {
        while let Some(block) = self.blocks.get(&self.hashed) {
            self.hasher.get_or_insert_default().update(block);
            self.hashed += block.len() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_any_order_hash_alike_and_overlaps_keep_the_latest() {
        let content: Vec<u8> = (0..100u8).collect();
        let whole = Bytes::from(content.clone());
        let mut piece = Piece::default();
        piece.write(50, whole.slice(50..100));
        piece.write(0, whole.slice(0..20));
        assert!(!piece.covers(0, 100));
        piece.write(20, whole.slice(20..50));
        assert!(piece.covers(0, 100) && piece.kept() == 100);
        let (hash, hashed) = piece.take_hash();
        assert_eq!(hashed, 100);
        assert_eq!(hash.finalize()[..], Sha1::digest(&content)[..]);

        piece.write(10, Bytes::from_static(&[0xff; 80]));
        assert_eq!(piece.kept(), 100);
        let mut out = [0; 100];
        piece.overlay(0, &mut out);
        assert_eq!((out[9], out[10], out[89], out[90]), (9, 0xff, 0xff, 90));
        assert_eq!(piece.slice(5, 5).unwrap()[..], [5, 6, 7, 8, 9]);
        assert!(piece.slice(5, 10).is_none());
    }

    #[test]
    fn rewriting_hashed_bytes_starts_the_hash_again() {
        let mut piece = Piece::default();
        piece.write(0, Bytes::from_static(b"bad"));
        piece.write(0, Bytes::from_static(b"good"));
        let (hash, hashed) = piece.take_hash();
        assert_eq!(hashed, 4);
        assert_eq!(hash.finalize()[..], Sha1::digest(b"good")[..]);
    }
}
