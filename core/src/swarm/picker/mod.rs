//! Which block to ask which peer for.
//!
//! Rarest first, with what practice added: the first pieces at random, begun pieces before new
//! ones, whole pieces for fast peers, pieces from one peer alone after a bad hash, and endgame
//! once no block is left that nobody was asked for.
//!
//! **A decision does not grow with the torrent.** Pieces nobody has begun are kept sorted by
//! availability (`buckets`); a decision looks at a bounded window of the rarest ones. Only when
//! the peer has none of those are the two bitfields laid over each other, and only where both may
//! have something (`index`).
//!
//! **No call costs steps for every piece** but those that say so: pieces come into the order in
//! slices ([`Picker::list`]), and so do those of a peer ([`Picker::count`]).
//!
//! **A block is asked for once** outside endgame, until it is given back by [`Picker::on_abort`]
//! or given away by [`Picker::on_late`].

mod buckets;
mod choose;
#[cfg(test)]
mod cost;
mod counting;
mod index;
#[cfg(test)]
mod model;
mod options;
mod partial;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;

use self::buckets::Buckets;
use self::choose::Pick;
use self::counting::Counting;
use self::index::{Index, LOOKS};
pub use self::options::{Has, PickOptions, PickReason, PickerConfig, PieceState, Received};
use self::partial::{Partial, Partials};
use super::bitfield::Bitfield;
use crate::rng::Choice;
use crate::wire::BlockRef;

/// Bytes of a block; the last one of a piece may be shorter.
pub const BLOCK_LENGTH: u32 = 16 * 1024;

/// A peer as its swarm numbers it; never reused while a block stands under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerKey(pub u32);

/// Chooses blocks to request.
#[derive(Debug)]
pub struct Picker {
    config: PickerConfig,
    piece_count: u32,
    piece_length: u32,
    total_length: u64,
    /// Pad files that hold a block at least: first byte and end, rising.
    pads: Vec<Range<u64>>,
    sequential: bool,
    have: Bitfield,
    wanted: Bitfield,
    /// Wanted and not had.
    missing: Bitfield,
    /// Pieces below this one are in `untouched` and `buckets` if they belong there.
    listed: u32,
    /// Wanted, not had and not begun: exactly the pieces in `buckets`.
    untouched: Bitfield,
    /// Where peers may have some of them.
    index: Index,
    /// Failed its hash: fetched from one peer alone.
    suspect: Bitfield,
    buckets: Buckets,
    counting: Counting,
    seeds: u32,
    unsure: bool,
    partials: Partials,
    /// Wanted pieces with free blocks, in the order in which they were begun.
    open: Vec<u32>,
    /// Memory of finished pieces, for the next ones.
    spare: Vec<Partial>,
    bytes_left: u64,
}

impl Picker {
    /// A picker of a torrent of which every piece is wanted, nothing is had and nobody is there.
    /// Costs some steps for every piece: [`Self::unlisted`] does not.
    #[must_use]
    pub fn new(
        piece_count: u32,
        piece_length: u32,
        total_length: u64,
        config: PickerConfig,
    ) -> Self {
        let mut picker = Self::unlisted(piece_count, piece_length, total_length, config);
        picker.list(u32::MAX);
        picker
    }

    /// As [`Self::new`], but no piece is picked before [`Self::list`] has come to it.
    #[must_use]
    pub fn unlisted(
        piece_count: u32,
        piece_length: u32,
        total_length: u64,
        config: PickerConfig,
    ) -> Self {
        let piece_length = piece_length.max(1);
        let most = u64::from(piece_count) * u64::from(piece_length);
        Self {
            config,
            piece_count,
            piece_length,
            total_length,
            pads: Vec::new(),
            sequential: false,
            have: Bitfield::new(piece_count),
            wanted: Bitfield::full(piece_count),
            missing: Bitfield::full(piece_count),
            listed: 0,
            untouched: Bitfield::new(piece_count),
            index: Index::new(piece_count),
            suspect: Bitfield::new(piece_count),
            buckets: Buckets::new(piece_count),
            counting: Counting::default(),
            seeds: 0,
            unsure: false,
            partials: Partials::default(),
            open: Vec::new(),
            spare: Vec::new(),
            bytes_left: total_length.min(most),
        }
    }

    /// Lets the next `pieces` be picked, in rising order. Returns whether those were the last.
    /// What is had or not wanted by then costs least.
    pub fn list(&mut self, pieces: u32) -> bool {
        let end = self.listed.saturating_add(pieces).min(self.piece_count);
        for piece in self.listed..end {
            self.listed = piece + 1;
            self.sort_untouched(piece);
        }
        end == self.piece_count
    }

    // What peers have.

    /// A peer that is no seed got `piece`.
    pub fn peer_has(&mut self, peer: PeerKey, piece: u32) {
        self.index.has(peer, piece);
        if self.is_counted(peer, piece) {
            self.buckets.increase(piece);
        }
    }

    /// A peer that is no seed lost `piece` (BEP 54).
    pub fn peer_lost(&mut self, peer: PeerKey, piece: u32) {
        if self.is_counted(peer, piece) {
            self.buckets.decrease(piece);
        }
    }

    /// A peer came with these pieces. They add to the availability as [`Self::count`] comes to
    /// them; until then blocks are picked for it all the same. Looks at 64 pieces a step; seeds
    /// are counted by [`Self::seed_joined`] in one.
    pub fn peer_joined(&mut self, peer: PeerKey, has: &Bitfield) {
        self.index.join(peer, has, &self.untouched);
        self.counting.join(peer);
    }

    /// A peer with these pieces left: those [`Self::joined`](Self::peer_joined) with and those it
    /// [got](Self::peer_has). [`Self::count`] takes them from the availability.
    pub fn peer_left(&mut self, peer: PeerKey, has: Bitfield) {
        if let Some(member) = self.index.leave(peer) {
            self.counting.leave(peer, has, member.counted);
        }
    }

    /// Whether the availability lacks pieces of peers that came, or has those of peers that left.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        !self.counting.is_empty()
    }

    /// A peer with every piece came.
    pub fn seed_joined(&mut self) {
        self.seeds += 1;
    }

    /// A peer counted by [`Self::seed_joined`] left.
    pub fn seed_left(&mut self) {
        self.seeds = self.seeds.saturating_sub(1);
    }

    /// Peers that have `piece`, seeds included.
    #[must_use]
    pub fn availability(&self, piece: u32) -> u32 {
        u32::from(self.buckets.availability(piece)) + self.seeds
    }

    // What we have and want.

    /// Nobody is asked for blocks that lie wholly in one of these ranges of the content, which do
    /// not meet and rise: they are zeros (pad files, BEP 47). To be said before anything is picked.
    pub fn set_pads(&mut self, pads: impl IntoIterator<Item = Range<u64>>) {
        let holds_a_block = |pad: &Range<u64>| pad.end - pad.start >= u64::from(BLOCK_LENGTH);
        self.pads = pads.into_iter().filter(holds_a_block).collect();
    }

    /// The blocks of `piece` that lie wholly in pad files.
    fn pad_blocks(&self, piece: u32) -> impl Iterator<Item = Range<u32>> {
        let start = u64::from(piece) * u64::from(self.piece_length);
        let (end, count) = (
            start + u64::from(self.piece_size(piece)),
            self.block_count(piece),
        );
        let first = self.pads.partition_point(|pad| pad.end <= start);
        let pads = self.pads[first..]
            .iter()
            .take_while(move |pad| pad.start < end);
        pads.filter_map(move |pad| {
            let from = pad
                .start
                .saturating_sub(start)
                .div_ceil(u64::from(BLOCK_LENGTH)) as u32;
            // The last block may be short.
            let to = match pad.end >= end {
                true => count,
                false => ((pad.end - start) / u64::from(BLOCK_LENGTH)) as u32,
            };
            (from < to).then_some(from..to)
        })
    }

    /// Whether nobody need bring anything of `piece`.
    #[must_use]
    pub fn is_padding(&self, piece: u32) -> bool {
        let blocks: u32 = self
            .pad_blocks(piece)
            .map(|blocks| blocks.len() as u32)
            .sum();
        blocks > 0 && blocks == self.block_count(piece)
    }

    /// Fetches pieces in rising order instead of rarest first.
    pub fn set_sequential(&mut self, sequential: bool) {
        self.sequential = sequential;
    }

    /// Whether `piece` is to be fetched at all.
    pub fn set_wanted(&mut self, piece: u32, wanted: bool) {
        let changed = if wanted {
            self.wanted.set(piece)
        } else {
            self.wanted.clear(piece)
        };
        if changed {
            self.sort_in(piece);
        }
    }

    /// `piece` is there and verified.
    pub fn set_have(&mut self, piece: u32) {
        if piece < self.piece_count && self.have.set(piece) {
            self.drop_partial(piece);
            self.suspect.clear(piece);
            self.sort_in(piece);
        }
    }

    /// `piece` turned out not to be there.
    pub fn set_lost(&mut self, piece: u32) {
        if self.have.clear(piece) {
            self.sort_in(piece);
        }
    }

    /// The verified pieces.
    #[must_use]
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Wanted pieces that are not verified yet.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.missing.count_ones()
    }

    /// Whether every wanted piece is verified.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Bytes of the wanted pieces that are not verified yet.
    #[must_use]
    pub fn wanted_bytes_left(&self) -> u64 {
        self.bytes_left
    }

    /// Whether `piece` is wanted and not had: what makes a peer that has it interesting.
    #[must_use]
    pub fn wants(&self, piece: u32) -> bool {
        self.missing.get(piece)
    }

    /// Whether someone with these pieces has one we want. Looks at 512 pieces a step.
    #[must_use]
    pub fn is_interesting(&self, has: &Bitfield) -> bool {
        self.missing.intersects(has)
    }

    /// Wanted pieces among these that are not had: kept by the caller per peer, it answers
    /// [`Self::is_interesting`] at once.
    #[must_use]
    pub fn count_interesting(&self, has: &Bitfield) -> u32 {
        self.missing.count_common(has)
    }

    /// Where `piece` stands; `None` past the end.
    #[must_use]
    pub fn state(&self, piece: u32) -> Option<PieceState> {
        if piece >= self.piece_count {
            return None;
        }
        Some(match self.partials.get(piece) {
            _ if self.have.get(piece) => PieceState::Had,
            Some(partial) if partial.is_done() => PieceState::Unverified,
            Some(_) => PieceState::Begun,
            None => PieceState::Untouched,
        })
    }

    /// Bytes of `piece`; 0 past the end.
    #[must_use]
    pub fn piece_size(&self, piece: u32) -> u32 {
        if piece >= self.piece_count {
            return 0;
        }
        let start = u64::from(piece) * u64::from(self.piece_length);
        let size = self.total_length.saturating_sub(start);
        size.min(u64::from(self.piece_length)) as u32
    }

    /// Whether a peer that brings `rate` bytes per second should be given whole pieces.
    #[must_use]
    pub fn suits_whole_pieces(&self, rate: u64) -> bool {
        let brings = rate.saturating_mul(self.config.whole_piece_millis) / 1_000;
        self.piece_length <= self.config.max_whole_piece && brings >= u64::from(self.piece_length)
    }

    /// Whether no wanted block is left that someone has and nobody was asked for. False when
    /// nothing is missing.
    #[must_use]
    pub fn in_endgame(&self) -> bool {
        let nobody_has = if self.seeds == 0 {
            self.buckets.unavailable()
        } else {
            0
        };
        !self.missing.is_empty()
            && self.buckets.len() == nobody_has
            && !self.open.iter().any(|piece| self.availability(*piece) > 0)
    }

    // Picking.

    /// Appends up to `options.count` blocks to `out` that `peer`, who has `has`, is to be asked
    /// for, and marks them as asked.
    ///
    /// The caller asks only peers that may be asked (unchoked, or with `options.allowed`), and
    /// does not ask again at once a peer that rejected a block of the same piece.
    pub fn pick(
        &mut self,
        peer: PeerKey,
        has: Has<'_>,
        options: &PickOptions<'_>,
        choice: &mut Choice,
        out: &mut Vec<BlockRef>,
    ) -> PickReason {
        let mut pick = Pick {
            peer,
            has,
            options,
            end: out.len() + options.count,
            reason: PickReason::Nothing,
            looks: LOOKS,
            unsure: false,
        };
        self.unsure = false;
        if self.missing.is_empty() || options.count == 0 {
            return PickReason::Nothing;
        }
        if let Some(allowed) = options.allowed {
            self.pick_allowed(&mut pick, allowed, out);
        } else {
            self.pick_begun(&mut pick, out);
            self.pick_new(&mut pick, choice, out);
            self.pick_shared(&mut pick, out);
        }
        self.unsure = pick.unsure;
        pick.reason
    }

    /// Whether the last [`Self::pick`] ended before it had looked at all that the peer might have:
    /// the same peer asked again may get more. Each time there is less to look at.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Endgame: appends up to `options.count` of `blocks`, the first ones first, that `peer` can
    /// be asked for although others were, and marks them as asked. Nothing outside endgame, and
    /// nothing for a suspect, whose copy would only blur who brought a bad piece.
    ///
    /// Who else was asked, how long ago and how fast they are is the caller's knowledge, so the
    /// caller names the blocks.
    pub fn race(
        &mut self,
        peer: PeerKey,
        has: Has<'_>,
        options: &PickOptions<'_>,
        blocks: &[BlockRef],
        out: &mut Vec<BlockRef>,
    ) -> PickReason {
        let end = out.len() + options.count;
        let may_ask = |piece| {
            let allowed = options.allowed;
            has.get(piece) && allowed.is_none_or(|allowed| allowed.contains(&piece))
        };
        let mut reason = PickReason::Nothing;
        if options.parole || !self.in_endgame() {
            return reason;
        }
        let limit = self.config.max_requesters;
        for block in blocks.iter().copied() {
            if out.len() >= end {
                break;
            }
            let Some(index) = self.block_index(block) else {
                continue;
            };
            if !self.missing.get(block.piece) || !may_ask(block.piece) {
                continue;
            }
            let Some(partial) = self.partials.get_mut(block.piece) else {
                continue;
            };
            if partial.strict || !partial.blocks[index as usize].can_ask(peer, limit) {
                continue;
            }
            partial.ask(index, peer);
            self.sort_open(block.piece);
            out.push(block);
            reason = PickReason::Endgame;
        }
        reason
    }

    /// A block came from `peer`. After `Fresh`, ask [`Self::requesters`] whom to cancel and
    /// [`Self::piece_blocks_done`] whether to hash.
    pub fn on_received(&mut self, peer: PeerKey, block: BlockRef) -> Received {
        let Some(index) = self.block_index(block) else {
            return Received::Unasked;
        };
        let Some(partial) = self.partials.get_mut(block.piece) else {
            return if self.have.get(block.piece) {
                Received::Duplicate
            } else {
                Received::Unasked
            };
        };
        let (asked, first) = partial.receive(index, peer);
        if asked && first {
            self.sort_open(block.piece);
        }
        match (asked, first) {
            (true, true) => Received::Fresh,
            (_, false) => Received::Duplicate,
            (false, true) => Received::Unasked,
        }
    }

    /// Peers that were asked for a block and have neither brought it nor been given up.
    #[must_use]
    pub fn requesters(&self, block: BlockRef) -> &[PeerKey] {
        let partial = self.partials.get(block.piece);
        match (partial, self.block_index(block)) {
            (Some(partial), Some(index)) => partial.blocks[index as usize].requesters(),
            _ => &[],
        }
    }

    /// `peer` will not bring the block (choke, reject, cancel, gone): it can be picked again.
    /// Returns whether it was asked for it.
    pub fn on_abort(&mut self, peer: PeerKey, block: BlockRef) -> bool {
        let Some(index) = self.block_index(block) else {
            return false;
        };
        let Some(partial) = self.partials.get_mut(block.piece) else {
            return false;
        };
        let aborted = partial.abort(index, peer);
        if aborted {
            if partial.is_untouched() {
                self.drop_partial(block.piece);
                self.sort_in(block.piece);
            } else {
                self.sort_open(block.piece);
            }
        }
        aborted
    }

    /// `peer` is overdue with the block: others may be asked for it at once, and its copy is
    /// still welcome. Returns whether that changed anything.
    pub fn on_late(&mut self, peer: PeerKey, block: BlockRef) -> bool {
        let Some(index) = self.block_index(block) else {
            return false;
        };
        let late = match self.partials.get_mut(block.piece) {
            Some(partial) => partial.give_away(index, peer),
            None => false,
        };
        if late {
            self.sort_open(block.piece);
        }
        late
    }

    /// Whether every block of `piece` came and its hash is to be checked.
    #[must_use]
    pub fn piece_blocks_done(&self, piece: u32) -> bool {
        self.partials.get(piece).is_some_and(Partial::is_done)
    }

    /// The peers that brought blocks of a piece that is not verified yet, once each.
    #[must_use]
    pub fn contributors(&self, piece: u32) -> Vec<PeerKey> {
        self.partials
            .get(piece)
            .map(Partial::contributors)
            .unwrap_or_default()
    }

    /// Whether `peer` brought a block of a piece that is not verified yet.
    #[must_use]
    pub fn has_brought(&self, peer: PeerKey, piece: u32) -> bool {
        let partial = self.partials.get(piece);
        partial.is_some_and(|partial| partial.has_from(peer))
    }

    /// Who brought each block of a piece all of whose blocks came.
    #[must_use]
    pub fn block_contributors(&self, piece: u32) -> Vec<Option<PeerKey>> {
        let partial = self.partials.get(piece);
        partial.map(Partial::block_contributors).unwrap_or_default()
    }

    /// The hash of `piece` is right: it is had. Returns who brought it, if it was one peer alone.
    pub fn on_hash_ok(&mut self, piece: u32) -> Option<PeerKey> {
        let partial = self.partials.get(piece);
        let alone = partial.and_then(Partial::sole_contributor);
        self.set_have(piece);
        alone
    }

    /// The hash of `piece` is wrong: it begins anew, from one peer alone. Returns who brought it.
    pub fn on_hash_failed(&mut self, piece: u32) -> Vec<PeerKey> {
        let contributors = self.contributors(piece);
        if self.drop_partial(piece) {
            self.suspect.set(piece);
            self.sort_in(piece);
        }
        contributors
    }

    // Bookkeeping.

    /// Puts a piece where it belongs after it was begun, dropped, had, lost or (un)wanted.
    fn sort_in(&mut self, piece: u32) {
        let size = u64::from(self.piece_size(piece));
        if self.wanted.get(piece) && !self.have.get(piece) {
            if self.missing.set(piece) {
                self.bytes_left += size;
            }
        } else if self.missing.clear(piece) {
            self.bytes_left -= size;
        }
        self.sort_untouched(piece);
        self.sort_open(piece);
    }

    fn sort_untouched(&mut self, piece: u32) {
        if piece >= self.listed {
            return;
        }
        if self.missing.get(piece) && !self.partials.contains(piece) {
            if self.untouched.set(piece) {
                self.index.insert(piece);
                self.buckets.insert(piece);
            }
        } else if self.untouched.clear(piece) {
            self.index.remove(piece, &self.untouched);
            self.buckets.remove(piece);
        }
    }

    /// Puts a begun piece into `open`, or takes it out.
    fn sort_open(&mut self, piece: u32) {
        let partial = self.partials.get(piece);
        let is_open = self.missing.get(piece) && partial.is_some_and(|partial| partial.free > 0);
        let place = self.open.iter().position(|open| *open == piece);
        match place {
            None if is_open => self.open.push(piece),
            Some(place) if !is_open => {
                self.open.remove(place);
            }
            _ => {}
        }
    }

    #[cfg(test)]
    fn assert_sound(&self) {
        self.buckets.assert_sound();
        for piece in 0..self.piece_count {
            let partial = self.partials.get(piece);
            let missing = self.wanted.get(piece) && !self.have.get(piece);
            assert_eq!(self.missing.get(piece), missing);
            assert_eq!(self.untouched.get(piece), missing && partial.is_none());
            let is_open = missing && partial.is_some_and(|partial| partial.free > 0);
            let listed = self.open.iter().filter(|open| **open == piece).count();
            assert_eq!(listed, usize::from(is_open));
            if let Some(partial) = partial {
                partial.assert_sound();
            }
        }
        assert_eq!(self.untouched.count_ones(), self.buckets.len());
    }

    fn drop_partial(&mut self, piece: u32) -> bool {
        let Some(partial) = self.partials.remove(piece) else {
            return false;
        };
        if self.spare.len() < self.config.max_partial_pieces as usize {
            self.spare.push(partial);
        }
        true
    }

    fn block_count(&self, piece: u32) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_LENGTH)
    }

    fn block_at(&self, piece: u32, index: u32) -> BlockRef {
        block_of(piece, index, self.piece_size(piece))
    }

    /// The block's number within its piece, if it is cut as we cut pieces.
    fn block_index(&self, block: BlockRef) -> Option<u32> {
        let index = block.begin / BLOCK_LENGTH;
        let exists = index < self.block_count(block.piece);
        (exists && self.block_at(block.piece, index) == block).then_some(index)
    }
}

fn block_of(piece: u32, index: u32, piece_size: u32) -> BlockRef {
    let begin = index * BLOCK_LENGTH;
    BlockRef {
        piece,
        begin,
        length: piece_size.saturating_sub(begin).min(BLOCK_LENGTH),
    }
}
