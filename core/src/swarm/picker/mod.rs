//! Which block to ask which peer for.
//!
//! Rarest first, with what practice added: the first pieces at random, begun pieces before new
//! ones, whole pieces for fast peers, pieces from one peer alone after a bad hash, and endgame
//! once no block is left that nobody was asked for.
//!
//! **A decision does not grow with the torrent.** Pieces nobody has begun are kept sorted by
//! availability (`buckets`); a decision looks at a bounded window of the rarest ones. Only when
//! the peer has none of those are the two bitfields laid over each other, 512 pieces a step.
//!
//! **A block is asked for once** outside endgame, until it is given back by [`Picker::on_abort`]
//! or given away by [`Picker::on_late`].

mod buckets;
#[cfg(test)]
mod model;
mod partial;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use self::buckets::Buckets;
use self::partial::{MAX_REQUESTERS, Partial};
use super::bitfield::Bitfield;
use crate::config::SwarmConfig;
use crate::rng::Choice;
use crate::wire::BlockRef;

/// Bytes of a block; the last one of a piece may be shorter.
pub const BLOCK_LENGTH: u32 = 16 * 1024;

/// Places of the rarest pieces that a decision looks at before it lays bitfields over each other.
const WINDOW: u32 = 256;
/// Pieces compared by availability after the bitfields were laid over each other.
const SAMPLE: usize = 16;
/// Blocks that one decision in endgame looks at.
const ENDGAME_WINDOW: u32 = 1024;
/// Seconds within which a peer must bring a piece to be given whole ones.
const WHOLE_PIECE_SECONDS: u64 = 20;
/// Largest piece that is kept for one peer because it is fast.
const MAX_WHOLE_PIECE: u32 = 8 * 1024 * 1024;

/// A peer as its swarm numbers it; never reused while a block stands under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerKey(pub u32);

/// Parameters of a [`Picker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickerConfig {
    /// Pieces picked at random before rarest first.
    pub random_first: u32,
    /// Pieces with blocks left to ask for, besides one per peer.
    pub max_partial_pieces: u32,
    /// Peers asked for one block at once in endgame, 1 to 3.
    pub max_requesters: u8,
}

impl Default for PickerConfig {
    fn default() -> Self {
        Self {
            random_first: 4,
            max_partial_pieces: 64,
            max_requesters: MAX_REQUESTERS as u8,
        }
    }
}

impl From<&SwarmConfig> for PickerConfig {
    fn from(config: &SwarmConfig) -> Self {
        Self {
            random_first: config.random_first,
            max_partial_pieces: config.max_partial_pieces,
            ..Self::default()
        }
    }
}

/// What a peer has.
#[derive(Debug, Clone, Copy)]
pub enum Has<'a> {
    /// Every piece.
    All,
    /// These pieces.
    Some(&'a Bitfield),
}

impl Has<'_> {
    /// Whether the peer has `piece`.
    #[must_use]
    pub fn get(&self, piece: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(field) => field.get(piece),
        }
    }
}

/// What is known of a peer when blocks are picked for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickOptions<'a> {
    /// Most blocks wanted.
    pub count: usize,
    /// The most common pieces first: for a snubbed peer, which should not hold up rare ones.
    pub reverse: bool,
    /// Keep begun pieces for this peer: it is fast (see [`Picker::suits_whole_pieces`]).
    pub whole_pieces: bool,
    /// The peer had a part in a bad piece: it gets pieces alone while there are any.
    pub parole: bool,
    /// The only pieces that may be asked for: the peer chokes us and allowed these (BEP 6).
    pub allowed: Option<&'a [u32]>,
    /// Pieces the peer suggests (BEP 6): taken before others that nobody has begun.
    pub suggested: &'a [u32],
}

/// Why the last block of a decision was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PickReason {
    /// No block was picked.
    Nothing,
    /// Its piece was begun before.
    Begun,
    /// The peer suggested its piece.
    Suggested,
    /// The peer allowed its piece while it chokes us.
    AllowedFast,
    /// Among the first pieces, which are picked at random.
    Random,
    /// The lowest piece, since the torrent is fetched in order.
    Sequential,
    /// Its piece is rare.
    Rarest,
    /// Its piece is common, and the peer is slow.
    Commonest,
    /// Its piece is kept for another peer, and there is no other work for this one.
    Shared,
    /// Every block has been asked for: another peer may be faster.
    Endgame,
}

/// What became of a block that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The first copy: keep it.
    Fresh,
    /// We have it: drop it.
    Duplicate,
    /// The peer was not asked for it, or no longer: drop it.
    Unasked,
}

/// Where a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceState {
    /// Nobody was asked for any of it.
    Untouched,
    /// Some blocks were asked for or came.
    Begun,
    /// Every block came; its hash is awaited.
    Unverified,
    /// Verified.
    Had,
}

/// Chooses blocks to request.
#[derive(Debug)]
pub struct Picker {
    config: PickerConfig,
    piece_count: u32,
    piece_length: u32,
    total_length: u64,
    sequential: bool,
    have: Bitfield,
    wanted: Bitfield,
    /// Wanted and not had.
    missing: Bitfield,
    /// Wanted, not had and not begun: exactly the pieces in `buckets`.
    untouched: Bitfield,
    /// Failed its hash: fetched from one peer alone.
    suspect: Bitfield,
    buckets: Buckets,
    seeds: u32,
    partials: BTreeMap<u32, Partial>,
    /// Wanted pieces with free blocks, in the order in which they were begun.
    open: Vec<u32>,
    /// Memory of finished pieces, for the next ones.
    spare: Vec<Partial>,
    bytes_left: u64,
}

impl Picker {
    /// A picker of a torrent of which every piece is wanted, nothing is had and nobody is there.
    #[must_use]
    pub fn new(
        piece_count: u32,
        piece_length: u32,
        total_length: u64,
        config: PickerConfig,
    ) -> Self {
        let mut buckets = Buckets::new(piece_count);
        (0..piece_count).for_each(|piece| buckets.insert(piece));
        let mut picker = Self {
            config,
            piece_count,
            piece_length: piece_length.max(1),
            total_length,
            sequential: false,
            have: Bitfield::new(piece_count),
            wanted: Bitfield::full(piece_count),
            missing: Bitfield::full(piece_count),
            untouched: Bitfield::full(piece_count),
            suspect: Bitfield::new(piece_count),
            buckets,
            seeds: 0,
            partials: BTreeMap::new(),
            open: Vec::new(),
            spare: Vec::new(),
            bytes_left: 0,
        };
        picker.bytes_left = (0..piece_count)
            .map(|piece| u64::from(picker.piece_size(piece)))
            .sum();
        picker
    }

    // What peers have.

    /// A peer that is no seed got `piece`.
    pub fn peer_has(&mut self, piece: u32) {
        self.buckets.increase(piece);
    }

    /// A peer that is no seed lost `piece` (BEP 54).
    pub fn peer_lost(&mut self, piece: u32) {
        self.buckets.decrease(piece);
    }

    /// A peer came with these pieces. Costs as many steps as it has pieces; seeds are counted by
    /// [`Self::seed_joined`] in one.
    pub fn peer_joined(&mut self, has: &Bitfield) {
        has.iter_ones()
            .for_each(|piece| self.buckets.increase(piece));
    }

    /// A peer with these pieces left: the reverse of [`Self::peer_joined`] and
    /// [`Self::peer_has`].
    pub fn peer_left(&mut self, has: &Bitfield) {
        has.iter_ones()
            .for_each(|piece| self.buckets.decrease(piece));
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
        has.iter_ones().filter(|piece| self.wants(*piece)).count() as u32
    }

    /// Where `piece` stands; `None` past the end.
    #[must_use]
    pub fn state(&self, piece: u32) -> Option<PieceState> {
        if piece >= self.piece_count {
            return None;
        }
        Some(match self.partials.get(&piece) {
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
        self.piece_length <= MAX_WHOLE_PIECE
            && rate.saturating_mul(WHOLE_PIECE_SECONDS) >= u64::from(self.piece_length)
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
        };
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
        // A suspect's copy would only blur who brought a bad piece.
        if out.len() < pick.end && !options.parole && self.in_endgame() {
            self.pick_endgame(&mut pick, choice, out);
        }
        pick.reason
    }

    /// A block came from `peer`. After `Fresh`, ask [`Self::requesters`] whom to cancel and
    /// [`Self::piece_blocks_done`] whether to hash.
    pub fn on_received(&mut self, peer: PeerKey, block: BlockRef) -> Received {
        let Some(index) = self.block_index(block) else {
            return Received::Unasked;
        };
        let Some(partial) = self.partials.get_mut(&block.piece) else {
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
        let partial = self.partials.get(&block.piece);
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
        let Some(partial) = self.partials.get_mut(&block.piece) else {
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
        let late = match self.partials.get_mut(&block.piece) {
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
        self.partials.get(&piece).is_some_and(Partial::is_done)
    }

    /// The peers that brought blocks of a piece that is not verified yet, once each.
    #[must_use]
    pub fn contributors(&self, piece: u32) -> Vec<PeerKey> {
        self.partials
            .get(&piece)
            .map(Partial::contributors)
            .unwrap_or_default()
    }

    /// The hash of `piece` is right: it is had. Returns who brought it.
    pub fn on_hash_ok(&mut self, piece: u32) -> Vec<PeerKey> {
        let contributors = self.contributors(piece);
        self.set_have(piece);
        contributors
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

    // The ways to pick, in order of preference.

    fn pick_allowed(&mut self, pick: &mut Pick<'_>, allowed: &[u32], out: &mut Vec<BlockRef>) {
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
    fn pick_begun(&mut self, pick: &mut Pick<'_>, out: &mut Vec<BlockRef>) {
        let mut at = 0;
        while at < self.open.len() && out.len() < pick.end {
            let piece = self.open[at];
            if pick.has.get(piece) && self.is_for(piece, pick) {
                self.take(piece, pick, PickReason::Begun, out);
            }
            // A piece that has nothing left to ask for has made room for the next one.
            at += usize::from(self.open.get(at) == Some(&piece));
        }
    }

    /// Pieces that nobody has begun.
    fn pick_new(&mut self, pick: &mut Pick<'_>, choice: &mut Choice, out: &mut Vec<BlockRef>) {
        while out.len() < pick.end && self.may_begin(pick.peer) {
            let Some((piece, reason)) = self.choose_new(pick, choice) else {
                return;
            };
            self.begin(piece, pick);
            self.take(piece, pick, reason, out);
        }
    }

    /// Pieces kept for others, rather than idle.
    fn pick_shared(&mut self, pick: &mut Pick<'_>, out: &mut Vec<BlockRef>) {
        let mut at = 0;
        while at < self.open.len() && out.len() < pick.end {
            let piece = self.open[at];
            if pick.has.get(piece) {
                self.take(piece, pick, PickReason::Shared, out);
            }
            at += usize::from(self.open.get(at) == Some(&piece));
        }
    }

    /// Blocks that others were asked for, from a random piece on, so that peers that are done
    /// do not all race for the same ones.
    fn pick_endgame(&mut self, pick: &mut Pick<'_>, choice: &mut Choice, out: &mut Vec<BlockRef>) {
        let limit = self.config.max_requesters;
        let pivot = choice.below(u64::from(self.piece_count)) as u32;
        let mut looked = 0;
        let mut picked = Vec::new();
        let ring = self
            .partials
            .range(pivot..)
            .chain(self.partials.range(..pivot));
        'pieces: for (piece, partial) in ring {
            if !self.missing.get(*piece) || partial.strict || !pick.may_ask(*piece) {
                continue;
            }
            for (index, block) in partial.blocks.iter().enumerate() {
                if out.len() + picked.len() >= pick.end || looked >= ENDGAME_WINDOW {
                    break 'pieces;
                }
                looked += 1;
                if block.can_ask(pick.peer, limit) {
                    picked.push((*piece, index as u32));
                }
            }
        }
        for (piece, index) in picked {
            if let Some(partial) = self.partials.get_mut(&piece) {
                partial.ask(index, pick.peer);
            }
            self.sort_open(piece);
            out.push(self.block_at(piece, index));
            pick.reason = PickReason::Endgame;
        }
    }

    /// Whether a begun piece is for this peer, as long as there is other work.
    fn is_for(&self, piece: u32, pick: &Pick<'_>) -> bool {
        let Some(partial) = self.partials.get(&piece) else {
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
                    .get(piece)
                    .is_some_and(|partial| partial.starter == peer)
            })
    }

    fn choose_new(&self, pick: &Pick<'_>, choice: &mut Choice) -> Option<(u32, PickReason)> {
        if self.untouched.is_empty() {
            return None;
        }
        let suggested = pick.options.suggested.iter().copied();
        let mut suggested = suggested.filter(|piece| self.untouched.get(*piece));
        if let Some(piece) = suggested.find(|piece| pick.has.get(*piece)) {
            return Some((piece, PickReason::Suggested));
        }
        if self.sequential {
            let piece = self.next_untouched(pick.has, 0)?;
            return Some((piece, PickReason::Sequential));
        }
        let random_from = choice.below(u64::from(self.piece_count)) as u32;
        if self.have.count_ones() < self.config.random_first {
            let piece = self.untouched_around(pick.has, random_from)?;
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
                .find(|piece| pick.has.get(*piece));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The rarest (or commonest) of some pieces the peer has, from `from` on.
    fn choose_overlaid(&self, pick: &Pick<'_>, from: u32) -> Option<u32> {
        let first = self.untouched_around(pick.has, from)?;
        let mut next = Some(first);
        let found = core::iter::from_fn(|| {
            let piece = next?;
            next = self.next_untouched(pick.has, piece + 1);
            Some(piece)
        });
        let found = found.take(SAMPLE);
        if pick.options.reverse {
            found.max_by_key(|piece| self.buckets.availability(*piece))
        } else {
            found.min_by_key(|piece| self.buckets.availability(*piece))
        }
    }

    fn untouched_around(&self, has: Has<'_>, from: u32) -> Option<u32> {
        self.next_untouched(has, from)
            .or_else(|| self.next_untouched(has, 0))
    }

    fn next_untouched(&self, has: Has<'_>, from: u32) -> Option<u32> {
        match has {
            Has::All => self.untouched.next_one(from),
            Has::Some(field) => self.untouched.next_common(field, from),
        }
    }

    // Bookkeeping.

    fn begin(&mut self, piece: u32, pick: &Pick<'_>) {
        let blocks = self.block_count(piece);
        let mut partial = self.spare.pop().unwrap_or_default();
        partial.reset(blocks, pick.peer);
        if self.suspect.get(piece) || pick.options.parole {
            partial.sole = Some(pick.peer);
            partial.strict = true;
        } else if pick.options.whole_pieces && self.piece_length <= MAX_WHOLE_PIECE {
            partial.sole = Some(pick.peer);
        }
        self.partials.insert(piece, partial);
        self.sort_in(piece);
    }

    /// Takes free blocks of a begun piece until the peer has enough.
    fn take(&mut self, piece: u32, pick: &mut Pick<'_>, why: PickReason, out: &mut Vec<BlockRef>) {
        let Some(partial) = self.partials.get_mut(&piece) else {
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
        let Some(partial) = self.partials.get_mut(&piece) else {
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
        if self.missing.get(piece) && !self.partials.contains_key(&piece) {
            if self.untouched.set(piece) {
                self.buckets.insert(piece);
            }
        } else if self.untouched.clear(piece) {
            self.buckets.remove(piece);
        }
        self.sort_open(piece);
    }

    /// Puts a begun piece into `open`, or takes it out.
    fn sort_open(&mut self, piece: u32) {
        let partial = self.partials.get(&piece);
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
            let partial = self.partials.get(&piece);
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
        let Some(partial) = self.partials.remove(&piece) else {
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

/// One decision under way.
struct Pick<'a> {
    peer: PeerKey,
    has: Has<'a>,
    options: &'a PickOptions<'a>,
    /// Length of the output when there are enough blocks.
    end: usize,
    reason: PickReason,
}

impl Pick<'_> {
    fn may_ask(&self, piece: u32) -> bool {
        let allowed = self.options.allowed;
        self.has.get(piece) && allowed.is_none_or(|allowed| allowed.contains(&piece))
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
