//! Pieces nobody has begun, kept sorted by availability at constant cost per change.
//!
//! `order` is a permutation of those pieces, the most common first and the rarest last, cut into
//! one bucket per availability. A piece moves to the next bucket by trading places with the piece
//! at the border and moving the border by one. Removal lets a piece fall down to bucket 0, which
//! ends where `order` ends; so pieces that are rare, which is what gets picked, leave cheaply.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::swarm::work;

/// The place of a piece that is not in `order`.
const ABSENT: u32 = 0;

#[derive(Debug)]
pub(super) struct Buckets {
    /// Peers (seeds aside) that have each piece, whether or not it is in `order`.
    availability: Vec<u16>,
    order: Vec<u32>,
    /// Where each piece is in `order`, counted from 1. Zeros are memory that costs nothing before
    /// it is used.
    place: Vec<u32>,
    /// Where the bucket of each availability begins; it ends where the one below begins.
    begin: Vec<u32>,
}

impl Buckets {
    /// No piece is in, and nobody has any.
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            availability: vec![0; pieces as usize],
            order: Vec::with_capacity(pieces as usize),
            place: vec![0; pieces as usize],
            begin: vec![0],
        }
    }

    pub(super) fn availability(&self, piece: u32) -> u16 {
        self.availability.get(piece as usize).copied().unwrap_or(0)
    }

    /// Pieces in `order`.
    pub(super) fn len(&self) -> u32 {
        self.order.len() as u32
    }

    /// Pieces in `order` that no peer but seeds has.
    pub(super) fn unavailable(&self) -> u32 {
        self.len() - self.begin[0]
    }

    pub(super) fn at(&self, place: u32) -> Option<u32> {
        self.order.get(place as usize).copied()
    }

    /// The places of the bucket that place `place` belongs to.
    pub(super) fn bucket_of(&self, place: u32) -> Range<u32> {
        let Some(piece) = self.at(place) else {
            return place..place;
        };
        self.range(self.availability(piece))
    }

    pub(super) fn increase(&mut self, piece: u32) {
        let Some(current) = self.availability.get(piece as usize).copied() else {
            return;
        };
        if current == u16::MAX {
            return;
        }
        self.availability[piece as usize] = current + 1;
        if self.place[piece as usize] != ABSENT {
            self.raise(piece, current);
        }
    }

    pub(super) fn decrease(&mut self, piece: u32) {
        let Some(current) = self.availability.get(piece as usize).copied() else {
            return;
        };
        if current == 0 {
            return;
        }
        self.availability[piece as usize] = current - 1;
        if self.place[piece as usize] != ABSENT {
            self.lower(piece, current);
        }
    }

    /// Puts `piece` into `order`.
    pub(super) fn insert(&mut self, piece: u32) {
        if self.place.get(piece as usize) != Some(&ABSENT) {
            return;
        }
        self.order.push(piece);
        self.place[piece as usize] = self.len();
        work::note(1);
        for from in 0..self.availability(piece) {
            self.raise(piece, from);
        }
    }

    /// Takes `piece` out of `order`. Returns whether it was there.
    pub(super) fn remove(&mut self, piece: u32) -> bool {
        if self.place.get(piece as usize).is_none_or(|p| *p == ABSENT) {
            return false;
        }
        for from in (1..=self.availability(piece)).rev() {
            self.lower(piece, from);
        }
        self.swap_to(piece, self.len() - 1);
        self.order.pop();
        self.place[piece as usize] = ABSENT;
        true
    }

    fn range(&self, availability: u16) -> Range<u32> {
        let level = usize::from(availability);
        let begin = self.begin.get(level).copied().unwrap_or(0);
        let end = match level.checked_sub(1) {
            Some(below) => self.begin.get(below).copied().unwrap_or(0),
            None => self.len(),
        };
        begin..end
    }

    /// From bucket `from` to the one above it, which lies before it.
    fn raise(&mut self, piece: u32, from: u16) {
        let level = usize::from(from);
        if self.begin.len() < level + 2 {
            self.begin.resize(level + 2, 0);
        }
        self.swap_to(piece, self.begin[level]);
        self.begin[level] += 1;
    }

    /// From bucket `from` to the one below it, which lies behind it.
    fn lower(&mut self, piece: u32, from: u16) {
        let below = usize::from(from) - 1;
        self.begin[below] -= 1;
        self.swap_to(piece, self.begin[below]);
    }

    fn swap_to(&mut self, piece: u32, to: u32) {
        work::note(1);
        let from = self.place[piece as usize] - 1;
        if from != to {
            let other = self.order[to as usize];
            self.order.swap(from as usize, to as usize);
            self.place[other as usize] = from + 1;
            self.place[piece as usize] = to + 1;
        }
    }

    /// Whether the permutation, the places and the borders agree.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        for (place, piece) in self.order.iter().enumerate() {
            assert_eq!(self.place[*piece as usize] as usize, place + 1);
            let range = self.range(self.availability(*piece));
            assert!(
                range.contains(&(place as u32)),
                "{piece} outside its bucket"
            );
        }
        let present = self.place.iter().filter(|place| **place != ABSENT);
        assert_eq!(present.count(), self.order.len());
        assert!(self.begin.windows(2).all(|pair| pair[1] <= pair[0]));
    }
}
