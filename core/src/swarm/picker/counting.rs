//! What peers have comes into the availability in slices, and leaves it so.
//!
//! Who left goes first: so what waits to be taken away is never more than the most peers that were
//! there at once had. A peer that leaves before it was counted has cost nothing.

use alloc::collections::VecDeque;

use super::{PeerKey, Picker};
use crate::swarm::bitfield::Bitfield;

#[derive(Debug, Default)]
pub(super) struct Counting {
    /// Peers that came, the first one first.
    joined: VecDeque<PeerKey>,
    left: VecDeque<Left>,
}

/// Pieces of a peer that left.
#[derive(Debug)]
struct Left {
    has: Bitfield,
    /// Those in `next..end` still count.
    next: u32,
    end: u32,
}

impl Counting {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }

    pub(super) fn join(&mut self, peer: PeerKey) {
        self.joined.push_back(peer);
    }

    /// `end`: pieces below it were counted.
    pub(super) fn leave(&mut self, peer: PeerKey, has: Bitfield, end: u32) {
        if end < has.len() {
            self.joined.retain(|joined| *joined != peer);
        }
        if end > 0 {
            self.left.push_back(Left { has, next: 0, end });
        }
    }
}

impl Picker {
    /// Adds pieces of peers that came to the availability and takes away those of peers that
    /// left: looks at `most` pieces, and returns at how many it did. `has` tells what a peer has.
    pub fn count<'a>(&mut self, most: u32, has: impl Fn(PeerKey) -> Option<&'a Bitfield>) -> u32 {
        let mut rest = most;
        while let Some(left) = self.counting.left.front_mut().filter(|_| rest > 0) {
            let end = left.next.saturating_add(rest).min(left.end);
            rest -= end - left.next;
            for piece in left.has.ones_in(left.next..end) {
                self.buckets.decrease(piece);
            }
            left.next = end;
            if end == left.end {
                self.counting.left.pop_front();
            }
        }
        while let Some(peer) = self.counting.joined.front().copied().filter(|_| rest > 0) {
            let member = self.index.member(peer);
            let (Some(has), Some(member)) = (has(peer), member) else {
                self.counting.joined.pop_front();
                continue;
            };
            let end = member.counted.saturating_add(rest).min(has.len());
            rest -= end - member.counted;
            for piece in has.ones_in(member.counted..end) {
                self.buckets.increase(piece);
            }
            member.counted = end;
            if end == has.len() {
                self.counting.joined.pop_front();
            }
        }
        most - rest
    }

    /// Whether `piece` of a peer that has joined belongs to what was counted.
    pub(super) fn is_counted(&mut self, peer: PeerKey, piece: u32) -> bool {
        let member = self.index.member(peer);
        member.is_some_and(|member| piece < member.counted)
    }
}
