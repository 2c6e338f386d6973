//! A piece that was begun: who was asked for which block, and who brought it.

use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use super::PeerKey;

/// Peers that can be asked for one block at the same time.
pub(super) const MAX_REQUESTERS: usize = 3;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Block {
    asked: [PeerKey; MAX_REQUESTERS],
    asked_len: u8,
    /// The first so many of `asked` are overdue: others may be asked as if they had not been.
    late_len: u8,
    /// Nobody need bring it: it lies in a pad file (BEP 47).
    pad: bool,
    from: Option<PeerKey>,
}

impl Block {
    pub(super) fn requesters(&self) -> &[PeerKey] {
        &self.asked[..usize::from(self.asked_len)]
    }

    pub(super) fn is_received(&self) -> bool {
        self.from.is_some() || self.pad
    }

    /// Nobody is expected to bring it.
    pub(super) fn is_free(&self) -> bool {
        !self.is_received() && self.asked_len == self.late_len
    }

    pub(super) fn can_ask(&self, peer: PeerKey, limit: u8) -> bool {
        !self.is_received()
            && usize::from(self.asked_len) < MAX_REQUESTERS.min(usize::from(limit))
            && !self.requesters().contains(&peer)
    }

    /// Whether `peer` can be asked for it although nobody else is expected to bring it.
    pub(super) fn is_free_for(&self, peer: PeerKey) -> bool {
        self.is_free() && self.can_ask(peer, u8::MAX)
    }

    fn forget(&mut self, peer: PeerKey) -> bool {
        let len = usize::from(self.asked_len);
        let Some(at) = self.requesters().iter().position(|p| *p == peer) else {
            return false;
        };
        self.asked.copy_within(at + 1..len, at);
        self.asked_len -= 1;
        self.late_len -= u8::from(at < usize::from(self.late_len));
        true
    }
}

/// Begun pieces, by index.
///
/// A sorted list: there are few, and once it has grown no piece that comes or goes allocates, as
/// the nodes of a tree would.
#[derive(Debug, Default)]
pub(super) struct Partials {
    sorted: Vec<(u32, Partial)>,
}

impl Partials {
    fn place(&self, piece: u32) -> Result<usize, usize> {
        self.sorted
            .binary_search_by_key(&piece, |(index, _)| *index)
    }

    pub(super) fn get(&self, piece: u32) -> Option<&Partial> {
        self.place(piece).ok().map(|at| &self.sorted[at].1)
    }

    pub(super) fn get_mut(&mut self, piece: u32) -> Option<&mut Partial> {
        let at = self.place(piece).ok()?;
        Some(&mut self.sorted[at].1)
    }

    pub(super) fn contains(&self, piece: u32) -> bool {
        self.place(piece).is_ok()
    }

    /// Puts a piece in, in the place of itself if it is there.
    pub(super) fn insert(&mut self, piece: u32, partial: Partial) {
        match self.place(piece) {
            Ok(at) => self.sorted[at].1 = partial,
            Err(at) => self.sorted.insert(at, (piece, partial)),
        }
    }

    pub(super) fn remove(&mut self, piece: u32) -> Option<Partial> {
        let at = self.place(piece).ok()?;
        Some(self.sorted.remove(at).1)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) blocks: Vec<Block>,
    /// Blocks that are there, those of pad files included.
    pub(super) received: u32,
    /// Those of pad files.
    pads: u32,
    /// Blocks nobody is expected to bring.
    pub(super) free: u32,
    /// Requests that stand, late ones and doubled ones included.
    pub(super) asked: u32,
    /// No block below this one is free.
    next: u32,
    /// The peer that began it; counts against that peer's extra piece.
    pub(super) starter: PeerKey,
    /// The peer the piece is kept for.
    pub(super) sole: Option<PeerKey>,
    /// Kept for it strictly, because who brings a bad piece must be known.
    pub(super) strict: bool,
}

impl Partial {
    /// Makes this (new or reused) value stand for an untouched piece of `blocks` blocks.
    pub(super) fn reset(&mut self, blocks: u32, starter: PeerKey) {
        self.blocks.clear();
        self.blocks.resize(blocks as usize, Block::default());
        (self.received, self.pads) = (0, 0);
        self.free = blocks;
        self.asked = 0;
        self.next = 0;
        self.starter = starter;
        self.sole = None;
        self.strict = false;
    }

    /// Nobody is asked for these blocks of an untouched piece: they are zeros.
    pub(super) fn set_pads(&mut self, blocks: Range<u32>) {
        for block in &mut self.blocks[blocks.start as usize..blocks.end as usize] {
            if !mem::replace(&mut block.pad, true) {
                (self.received, self.pads, self.free) =
                    (self.received + 1, self.pads + 1, self.free - 1);
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.received as usize == self.blocks.len()
    }

    /// Whether someone is expected to bring a block: asked, and not overdue.
    pub(super) fn is_awaited(&self) -> bool {
        self.blocks.len() as u32 > self.received + self.free
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.received == self.pads && self.asked == 0
    }

    /// Whether every block that came, and every one asked for, is `peer`'s.
    pub(super) fn is_only_of(&self, peer: PeerKey) -> bool {
        self.blocks.iter().all(|block| {
            block.from.is_none_or(|from| from == peer)
                && block.requesters().iter().all(|asked| *asked == peer)
        })
    }

    /// The next free block that `peer` may be asked for, marked as asked.
    pub(super) fn take_free(&mut self, peer: PeerKey) -> Option<u32> {
        let mut passed_free = false;
        for index in self.next as usize..self.blocks.len() {
            let block = &mut self.blocks[index];
            if block.is_free_for(peer) {
                if !passed_free {
                    self.next = index as u32 + 1;
                }
                self.ask(index as u32, peer);
                return Some(index as u32);
            }
            if !passed_free {
                // Late blocks whose only requester is this very peer stay free for others.
                passed_free = block.is_free();
                self.next = index as u32 + u32::from(!passed_free);
            }
        }
        None
    }

    /// Marks a block as asked of `peer`, who can be asked for it.
    pub(super) fn ask(&mut self, index: u32, peer: PeerKey) {
        let block = &mut self.blocks[index as usize];
        if block.is_free() {
            self.free -= 1;
        }
        block.asked[usize::from(block.asked_len)] = peer;
        block.asked_len += 1;
        self.asked += 1;
    }

    /// The block came from `peer`. Returns whether `peer` had been asked for it and whether it is
    /// the first copy; a block nobody asked `peer` for changes nothing.
    pub(super) fn receive(&mut self, index: u32, peer: PeerKey) -> (bool, bool) {
        let block = &mut self.blocks[index as usize];
        let was_free = block.is_free();
        if !block.forget(peer) {
            return (false, !block.is_received());
        }
        self.asked -= 1;
        if block.is_received() {
            return (true, false);
        }
        block.from = Some(peer);
        self.received += 1;
        self.free -= u32::from(was_free);
        (true, true)
    }

    /// `peer` will not bring the block.
    pub(super) fn abort(&mut self, index: u32, peer: PeerKey) -> bool {
        let block = &mut self.blocks[index as usize];
        let was_free = block.is_free();
        if !block.forget(peer) {
            return false;
        }
        self.asked -= 1;
        self.freed(index, was_free);
        true
    }

    /// `peer` is overdue: others may be asked, and its copy is still welcome.
    pub(super) fn give_away(&mut self, index: u32, peer: PeerKey) -> bool {
        let block = &mut self.blocks[index as usize];
        let was_free = block.is_free();
        let Some(at) = block.requesters().iter().position(|p| *p == peer) else {
            return false;
        };
        let late = usize::from(block.late_len);
        if block.is_received() || at < late {
            return false;
        }
        block.asked.swap(at, late);
        block.late_len += 1;
        if usize::from(block.late_len) == MAX_REQUESTERS {
            // Room for someone who does bring it; the longest overdue loses its claim.
            let oldest = block.asked[0];
            block.forget(oldest);
            self.asked -= 1;
        }
        self.freed(index, was_free);
        true
    }

    /// The peer that brought every block that came, if it was one alone.
    pub(super) fn sole_contributor(&self) -> Option<PeerKey> {
        let mut peers = self.blocks.iter().filter_map(|block| block.from);
        let first = peers.next()?;
        peers.all(|peer| peer == first).then_some(first)
    }

    /// Whether `peer` brought a block.
    pub(super) fn has_from(&self, peer: PeerKey) -> bool {
        self.blocks.iter().any(|block| block.from == Some(peer))
    }

    /// Everyone who brought a block, once each, in order of first block.
    pub(super) fn contributors(&self) -> Vec<PeerKey> {
        let mut peers = Vec::new();
        for peer in self.blocks.iter().filter_map(|block| block.from) {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        peers
    }

    /// Who brought each block; nobody those of pad files.
    pub(super) fn block_contributors(&self) -> Vec<Option<PeerKey>> {
        self.blocks.iter().map(|block| block.from).collect()
    }

    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        let count = |test: fn(&Block) -> bool| self.blocks.iter().filter(|b| test(b)).count();
        assert_eq!(self.free as usize, count(Block::is_free));
        assert_eq!(self.received as usize, count(Block::is_received));
        let asked: usize = self.blocks.iter().map(|b| b.requesters().len()).sum();
        assert_eq!(self.asked as usize, asked);
        assert!(!self.blocks[..self.next as usize].iter().any(Block::is_free));
        assert!(!self.is_untouched());
    }

    fn freed(&mut self, index: u32, was_free: bool) {
        if !was_free && self.blocks[index as usize].is_free() {
            self.free += 1;
            self.next = self.next.min(index);
        }
    }
}
