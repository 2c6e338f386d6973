//! The ways to pick, in order of preference: what a choked peer allows, begun pieces, new ones,
//! and those kept for others.

use alloc::vec::Vec;

use super::index::Found;
use super::options::{Has, PickOptions, PickReason};
use super::{PeerKey, Picker, block_of};
use crate::rng::Choice;
use crate::swarm::work;
use crate::wire::BlockRef;

/// Places of the rarest pieces that a decision looks at before it lays bitfields over each other.
const WINDOW: u32 = 256;
/// Pieces compared by availability after the bitfields were laid over each other.
const SAMPLE: usize = 16;

/// One decision under way.
pub(super) struct Pick<'a> {
    pub(super) peer: PeerKey,
    pub(super) has: Has<'a>,
    pub(super) options: &'a PickOptions<'a>,
    /// Length of the output when there are enough blocks.
    pub(super) end: usize,
    pub(super) reason: PickReason,
    /// Looks in vain that are left.
    pub(super) looks: u32,
    /// There were enough looks before all was seen.
    pub(super) unsure: bool,
}

impl Picker {
    pub(super) fn pick_allowed(
        &mut self,
        pick: &mut Pick<'_>,
        allowed: &[u32],
        out: &mut Vec<BlockRef>,
    ) {
        for piece in allowed.iter().copied() {
            if out.len() >= pick.end {
                return;
            }
            if pick.has.get(piece) && self.missing.get(piece) {
                if self.untouched.get(piece) {
                    self.begin(piece, pick);
                }
                self.take(piece, pick, PickReason::AllowedFast, out);
            }
        }
    }

    /// Begun pieces, the oldest first, so that pieces get finished.
    pub(super) fn pick_begun(&mut self, pick: &mut Pick<'_>, out: &mut Vec<BlockRef>) {
        let mut at = 0;
        while at < self.open.len() && out.len() < pick.end {
            let piece = self.open[at];
            work::note(1);
            if pick.has.get(piece) && self.is_for(piece, pick) {
                self.take(piece, pick, PickReason::Begun, out);
            }
            // A piece that has nothing left to ask for has made room for the next one.
            at += usize::from(self.open.get(at) == Some(&piece));
        }
    }

    /// Pieces that nobody has begun.
    pub(super) fn pick_new(
        &mut self,
        pick: &mut Pick<'_>,
        choice: &mut Choice,
        out: &mut Vec<BlockRef>,
    ) {
        while out.len() < pick.end && self.may_begin(pick.peer) {
            let Some((piece, reason)) = self.choose_new(pick, choice) else {
                return;
            };
            self.begin(piece, pick);
            self.take(piece, pick, reason, out);
        }
    }

    /// Pieces kept for others, rather than idle.
    pub(super) fn pick_shared(&mut self, pick: &mut Pick<'_>, out: &mut Vec<BlockRef>) {
        let mut at = 0;
        while at < self.open.len() && out.len() < pick.end {
            let piece = self.open[at];
            work::note(1);
            if pick.has.get(piece) {
                self.take(piece, pick, PickReason::Shared, out);
            }
            at += usize::from(self.open.get(at) == Some(&piece));
        }
    }

    /// Whether a begun piece is for this peer, as long as there is other work.
    fn is_for(&self, piece: u32, pick: &Pick<'_>) -> bool {
        let Some(partial) = self.partials.get(piece) else {
            return false;
        };
        match partial.sole {
            Some(sole) => sole == pick.peer,
            None => !pick.options.parole || partial.is_only_of(pick.peer),
        }
    }

    /// A peer may begin a piece while few are open, or when none of those it began itself is.
    fn may_begin(&self, peer: PeerKey) -> bool {
        (self.open.len() as u32) < self.config.max_partial_pieces
            || !self.open.iter().any(|piece| {
                self.partials
                    .get(*piece)
                    .is_some_and(|partial| partial.starter == peer)
            })
    }

    fn choose_new(
        &mut self,
        pick: &mut Pick<'_>,
        choice: &mut Choice,
    ) -> Option<(u32, PickReason)> {
        if self.untouched.is_empty() {
            return None;
        }
        let suggested = pick.options.suggested.iter().copied();
        let mut suggested = suggested.filter(|piece| self.untouched.get(*piece));
        if let Some(piece) = suggested.find(|piece| pick.has.get(*piece)) {
            return Some((piece, PickReason::Suggested));
        }
        if self.sequential {
            let piece = self.next_untouched(pick, 0)?;
            return Some((piece, PickReason::Sequential));
        }
        let random_from = choice.below(u64::from(self.piece_count)) as u32;
        if self.have.count_ones() < self.config.random_first {
            let piece = self.untouched_around(pick, random_from)?;
            return Some((piece, PickReason::Random));
        }
        let reason = if pick.options.reverse {
            PickReason::Commonest
        } else {
            PickReason::Rarest
        };
        // A peer with little is not likely to have any of the rarest; what it has is compared.
        let is_sparse = match pick.has {
            Has::All => false,
            Has::Some(field) => field.count_ones() < self.piece_count / WINDOW * 2,
        };
        let in_window = if is_sparse {
            None
        } else {
            self.choose_in_window(pick, choice)
        };
        let piece = in_window.or_else(|| self.choose_overlaid(pick, random_from))?;
        Some((piece, reason))
    }

    /// The first piece the peer has among the rarest (or commonest), ties broken by where in its
    /// bucket the look begins.
    fn choose_in_window(&self, pick: &Pick<'_>, choice: &mut Choice) -> Option<u32> {
        let len = self.buckets.len();
        let mut budget = WINDOW;
        let mut edge = if pick.options.reverse { 0 } else { len };
        while budget > 0 {
            let bucket = if pick.options.reverse {
                self.buckets.bucket_of(edge)
            } else {
                self.buckets.bucket_of(edge.checked_sub(1)?)
            };
            let size = bucket.end - bucket.start;
            if size == 0 {
                return None;
            }
            edge = if pick.options.reverse {
                bucket.end
            } else {
                bucket.start
            };
            // Without a seed nobody has what is in the bucket of availability 0.
            if self.seeds == 0 && bucket.end == len && self.buckets.unavailable() == size {
                continue;
            }
            let looks = size.min(budget);
            budget -= looks;
            let from = choice.below(u64::from(size)) as u32;
            let (tail, head) = (
                bucket.start + from..bucket.end,
                bucket.start..bucket.start + from,
            );
            let found = tail
                .chain(head)
                .take(looks as usize)
                .filter_map(|place| self.buckets.at(place))
                .inspect(|_| work::note(1))
                .find(|piece| pick.has.get(*piece));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The rarest (or commonest) of some pieces the peer has, from `from` on.
    fn choose_overlaid(&mut self, pick: &mut Pick<'_>, from: u32) -> Option<u32> {
        let first = self.untouched_around(pick, from)?;
        let (mut best, mut last) = (first, first);
        for _ in 1..SAMPLE {
            let Some(piece) = self.next_untouched(pick, last + 1) else {
                break;
            };
            last = piece;
            let (found, known) = (
                self.buckets.availability(piece),
                self.buckets.availability(best),
            );
            // Of equals the first is the rarest and the last the commonest.
            let is_better = if pick.options.reverse {
                found >= known
            } else {
                found < known
            };
            if is_better {
                best = piece;
            }
        }
        Some(best)
    }

    fn untouched_around(&mut self, pick: &mut Pick<'_>, from: u32) -> Option<u32> {
        self.next_untouched(pick, from)
            .or_else(|| self.next_untouched(pick, 0))
    }

    fn next_untouched(&mut self, pick: &mut Pick<'_>, from: u32) -> Option<u32> {
        let (index, untouched) = (&mut self.index, &self.untouched);
        let found = match pick.has {
            Has::All => index.next(untouched, from),
            Has::Some(has) => index.next_common(untouched, (pick.peer, has), from, &mut pick.looks),
        };
        match found {
            Found::Piece(piece) => Some(piece),
            Found::Nothing => None,
            Found::Unsure => {
                pick.unsure = true;
                None
            }
        }
    }

    fn begin(&mut self, piece: u32, pick: &Pick<'_>) {
        let blocks = self.block_count(piece);
        let mut partial = self.spare.pop().unwrap_or_default();
        partial.reset(blocks, pick.peer);
        self.pad_blocks(piece)
            .for_each(|pads| partial.set_pads(pads));
        if self.suspect.get(piece) || pick.options.parole {
            partial.sole = Some(pick.peer);
            partial.strict = true;
        } else if pick.options.whole_pieces && self.piece_length <= self.config.max_whole_piece {
            partial.sole = Some(pick.peer);
        }
        self.partials.insert(piece, partial);
        self.sort_in(piece);
    }

    /// Takes free blocks of a begun piece until the peer has enough.
    fn take(&mut self, piece: u32, pick: &mut Pick<'_>, why: PickReason, out: &mut Vec<BlockRef>) {
        let Some(partial) = self.partials.get_mut(piece) else {
            return;
        };
        if partial.sole.is_some_and(|sole| sole != pick.peer) {
            if partial.strict && partial.is_awaited() {
                return;
            }
            // Nobody works on it, or it was only kept as a favour.
            partial.sole = partial.strict.then_some(pick.peer);
        }
        let before = out.len();
        let (piece_size, peer) = (self.piece_size(piece), pick.peer);
        let Some(partial) = self.partials.get_mut(piece) else {
            return;
        };
        while out.len() < pick.end {
            let Some(index) = partial.take_free(peer) else {
                break;
            };
            out.push(block_of(piece, index, piece_size));
        }
        if out.len() > before {
            pick.reason = why;
            self.sort_open(piece);
        }
    }
}
