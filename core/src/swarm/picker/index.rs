//! Where a piece that a peer has and nobody has begun may be, without looking at every piece.
//!
//! Pieces are cut into chunks of 512, chunks into groups of 64. One bit a chunk and one bit a
//! group say for the pieces nobody has begun whether there is one, and for each peer whether it
//! *may* have one of them. So a search skips what it need not look at, 32,768 pieces a step and
//! two million a step.
//!
//! What is said of a peer is mended when a search finds it outdated, so that a piece that is begun
//! costs nothing per peer. **A search is bounded**: it looks in vain [`LOOKS`] times at most, and
//! each time it takes away a bit, so that the next one begins where it ended. A bit comes back
//! only with a piece that was begun and is given back.
//!
//! Of all peers the words for one group lie side by side, so that a piece that is given back costs
//! a few instructions, not some for every peer.

use alloc::vec;
use alloc::vec::Vec;

use super::PeerKey;
use crate::swarm::bitfield::Bitfield;
use crate::swarm::work;

/// Pieces of a chunk: a cache line of a bitfield.
const CHUNK: u32 = 512;
/// Searches in vain for one decision.
pub(super) const LOOKS: u32 = 64;

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The lowest piece.
    Piece(u32),
    /// There is none.
    Nothing,
    /// None so far, and there were enough looks.
    Unsure,
}

/// A peer that has joined.
#[derive(Debug)]
pub(super) struct Member {
    key: PeerKey,
    column: usize,
    /// Its pieces below this one count in the availability.
    pub(super) counted: u32,
}

#[derive(Debug)]
pub(super) struct Index {
    /// Whether a chunk holds a piece nobody has begun.
    chunks: Vec<u64>,
    /// Whether a group holds such a chunk.
    groups: Vec<u64>,
    /// Peers, by key.
    members: Vec<Member>,
    /// Columns of peers that left.
    free: Vec<usize>,
    /// Columns of a row.
    width: usize,
    /// A row for each word of `chunks` and then each of `groups`, with a word of each peer.
    rows: Vec<u64>,
}

impl Index {
    /// Nobody is there, and every piece is begun.
    pub(super) fn new(pieces: u32) -> Self {
        let chunks = pieces.div_ceil(CHUNK).div_ceil(64) as usize;
        Self {
            chunks: vec![0; chunks],
            groups: vec![0; chunks.div_ceil(64)],
            members: Vec::new(),
            free: Vec::new(),
            width: 0,
            rows: Vec::new(),
        }
    }

    /// `piece` is one that nobody has begun, from now on.
    pub(super) fn insert(&mut self, piece: u32) {
        let (word, bit) = place(piece / CHUNK);
        let (group, group_bit) = place(word as u32);
        self.chunks[word] |= bit;
        self.groups[group] |= group_bit;
        work::note(2 + 2 * self.width);
        let group_row = self.chunks.len() + group;
        self.row(word).iter_mut().for_each(|known| *known |= bit);
        self.row(group_row)
            .iter_mut()
            .for_each(|known| *known |= group_bit);
    }

    /// `piece` is no longer one of `untouched`.
    pub(super) fn remove(&mut self, piece: u32, untouched: &Bitfield) {
        let chunk = piece / CHUNK;
        if next_in(untouched, untouched, chunk * CHUNK, chunk).is_some() {
            return;
        }
        let (word, bit) = place(chunk);
        self.chunks[word] &= !bit;
        if self.chunks[word] == 0 {
            let (group, group_bit) = place(word as u32);
            self.groups[group] &= !group_bit;
        }
    }

    /// A peer came with these pieces.
    pub(super) fn join(&mut self, key: PeerKey, has: &Bitfield, untouched: &Bitfield) {
        self.leave(key);
        let column = self.free.pop().unwrap_or(self.members.len());
        if column >= self.width {
            self.widen();
        }
        for word in 0..self.chunks.len() {
            let mut known = 0;
            for bit in 0..64 {
                let chunk = word as u32 * 64 + bit;
                let is_there = self.chunks[word] >> bit & 1 == 1;
                if is_there && next_in(untouched, has, chunk * CHUNK, chunk).is_some() {
                    known |= 1 << bit;
                }
            }
            self.row(word)[column] = known;
        }
        for group in 0..self.groups.len() {
            let words = group * 64..self.chunks.len().min(group * 64 + 64);
            let known = words.fold(0, |known, word| {
                known | u64::from(self.row(word)[column] != 0) << (word % 64)
            });
            let group_row = self.chunks.len() + group;
            self.row(group_row)[column] = known;
        }
        let member = Member {
            key,
            column,
            counted: 0,
        };
        let at = self.members.partition_point(|member| member.key < key);
        self.members.insert(at, member);
    }

    /// A peer left; what was known of it.
    pub(super) fn leave(&mut self, key: PeerKey) -> Option<Member> {
        let at = self.place_of(key)?;
        let member = self.members.remove(at);
        self.free.push(member.column);
        Some(member)
    }

    pub(super) fn member(&mut self, key: PeerKey) -> Option<&mut Member> {
        let at = self.place_of(key)?;
        self.members.get_mut(at)
    }

    /// A peer that has joined got `piece`.
    pub(super) fn has(&mut self, key: PeerKey, piece: u32) {
        let (word, bit) = place(piece / CHUNK);
        let Some(column) = self.column(key).filter(|_| word < self.chunks.len()) else {
            return;
        };
        let (group, group_bit) = place(word as u32);
        let group_row = self.chunks.len() + group;
        self.row(word)[column] |= bit;
        self.row(group_row)[column] |= group_bit;
    }

    /// The lowest of `untouched`, not below `from`.
    pub(super) fn next(&self, untouched: &Bitfield, from: u32) -> Found {
        let chunk = from / CHUNK;
        if let Some(piece) = next_in(untouched, untouched, from, chunk) {
            return Found::Piece(piece);
        }
        let (first, _) = place(chunk + 1);
        let after = self.chunks.get(first).map_or(0, |it| it & above(chunk + 1));
        let word = if after != 0 {
            Some((first, after))
        } else {
            let mut groups = (first + 1) / 64..self.groups.len();
            let group = groups.find_map(|group| {
                work::note(1);
                let mask = if group == (first + 1) / 64 {
                    above(first as u32 + 1)
                } else {
                    u64::MAX
                };
                let rest = self.groups[group] & mask;
                (rest != 0).then(|| group * 64 + rest.trailing_zeros() as usize)
            });
            group.map(|word| (word, self.chunks[word]))
        };
        let Some((word, bits)) = word else {
            return Found::Nothing;
        };
        let chunk = word as u32 * 64 + bits.trailing_zeros();
        let piece = next_in(untouched, untouched, chunk * CHUNK, chunk);
        piece.map_or(Found::Nothing, Found::Piece)
    }

    /// The lowest of `untouched` that the peer, who has `has`, has as well, not below `from`.
    /// Each look in vain takes one of `looks`.
    pub(super) fn next_common(
        &mut self,
        untouched: &Bitfield,
        (key, has): (PeerKey, &Bitfield),
        from: u32,
        looks: &mut u32,
    ) -> Found {
        let Some(column) = self.column(key) else {
            // Nothing is known of a peer that has not joined.
            let found = untouched.next_common(has, from);
            return found.map_or(Found::Nothing, Found::Piece);
        };
        let mut chunk = from / CHUNK;
        if let Some(piece) = next_in(untouched, has, from, chunk) {
            return Found::Piece(piece);
        }
        chunk += 1;
        loop {
            match self.next_chunk(column, chunk, looks) {
                Found::Piece(next) => chunk = next,
                other => return other,
            }
            if let Some(piece) = next_in(untouched, has, chunk * CHUNK, chunk) {
                return Found::Piece(piece);
            }
            let (word, bit) = place(chunk);
            self.row(word)[column] &= !bit;
            self.mend_group(column, word);
            if *looks == 0 {
                return Found::Unsure;
            }
            *looks -= 1;
            chunk += 1;
        }
    }

    /// The next chunk, from `from` on, that may hold a piece for a peer.
    fn next_chunk(&mut self, column: usize, from: u32, looks: &mut u32) -> Found {
        let (first, _) = place(from);
        if first >= self.chunks.len() {
            return Found::Nothing;
        }
        work::note(1);
        let bits = self.row(first)[column] & self.chunks[first] & above(from);
        if bits != 0 {
            return Found::Piece(first as u32 * 64 + bits.trailing_zeros());
        }
        let second = first + 1;
        for group in second / 64..self.groups.len() {
            let group_row = self.chunks.len() + group;
            let mask = if group == second / 64 {
                above(second as u32)
            } else {
                u64::MAX
            };
            work::note(1);
            let mut rest = self.row(group_row)[column] & self.groups[group] & mask;
            while rest != 0 {
                let word = group * 64 + rest.trailing_zeros() as usize;
                rest &= rest - 1;
                work::note(1);
                let there = self.chunks[word];
                let known = &mut self.row(word)[column];
                *known &= there;
                if *known != 0 {
                    return Found::Piece(word as u32 * 64 + known.trailing_zeros());
                }
                self.mend_group(column, word);
                if *looks == 0 {
                    return Found::Unsure;
                }
                *looks -= 1;
            }
        }
        Found::Nothing
    }

    /// The bit of a group goes with the last one of its word of chunks.
    fn mend_group(&mut self, column: usize, word: usize) {
        if self.row(word)[column] == 0 {
            let (group, group_bit) = place(word as u32);
            let group_row = self.chunks.len() + group;
            self.row(group_row)[column] &= !group_bit;
        }
    }

    fn place_of(&self, key: PeerKey) -> Option<usize> {
        self.members.binary_search_by_key(&key, |it| it.key).ok()
    }

    fn column(&self, key: PeerKey) -> Option<usize> {
        self.place_of(key).map(|at| self.members[at].column)
    }

    fn row(&mut self, row: usize) -> &mut [u64] {
        let start = row * self.width;
        &mut self.rows[start..start + self.width]
    }

    /// Makes room for twice as many peers.
    fn widen(&mut self) {
        let width = (self.width * 2).max(8);
        let mut rows = vec![0; (self.chunks.len() + self.groups.len()) * width];
        if self.width > 0 {
            let old = self.rows.chunks_exact(self.width);
            for (to, from) in rows.chunks_exact_mut(width).zip(old) {
                work::note(from.len());
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.width = width;
        self.rows = rows;
    }

    /// Whether no piece is overlooked: `untouched` exactly, each peer's at least.
    #[cfg(test)]
    pub(super) fn assert_sound<'a>(
        &mut self,
        untouched: &Bitfield,
        peers: impl Iterator<Item = (PeerKey, &'a Bitfield)>,
    ) {
        let is_set = |words: &[u64], at: u32| words[place(at).0] & place(at).1 != 0;
        for chunk in 0..untouched.len().div_ceil(CHUNK) {
            let found = next_in(untouched, untouched, chunk * CHUNK, chunk).is_some();
            assert_eq!(is_set(&self.chunks, chunk), found);
        }
        for word in 0..self.chunks.len() {
            assert_eq!(is_set(&self.groups, word as u32), self.chunks[word] != 0);
        }
        for (key, has) in peers {
            let column = self.column(key).expect("it has joined");
            for piece in untouched.iter_ones().filter(|piece| has.get(*piece)) {
                let (word, bit) = place(piece / CHUNK);
                let (group, group_bit) = place(word as u32);
                assert!(self.row(word)[column] & bit != 0);
                let group_row = self.chunks.len() + group;
                assert!(self.row(group_row)[column] & group_bit != 0);
            }
        }
    }
}

/// The word and the bit that stand for entry `at`.
const fn place(at: u32) -> (usize, u64) {
    (at as usize / 64, 1 << (at % 64))
}

/// The bits of entries from `from` on in the word of `from`.
const fn above(from: u32) -> u64 {
    u64::MAX << (from % 64)
}

/// The lowest piece of both sets in `chunk` that is not below `from`.
fn next_in(ours: &Bitfield, other: &Bitfield, from: u32, chunk: u32) -> Option<u32> {
    ours.next_common_in(other, from..(chunk + 1).saturating_mul(CHUNK))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const PEERS: u32 = 11;

    fn set(pieces: u32, seed: u64, one_in: u64) -> Bitfield {
        let mut field = Bitfield::new(pieces);
        let mut at = seed % one_in;
        while at < u64::from(pieces) {
            field.set(at as u32);
            at += 1 + at.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed) % one_in;
        }
        field
    }

    /// What is found when it is looked for again and again, and how often that was.
    fn search(
        index: &mut Index,
        untouched: &Bitfield,
        peer: (PeerKey, &Bitfield),
        from: u32,
    ) -> (Option<u32>, u32) {
        for tries in 1.. {
            match index.next_common(untouched, peer, from, &mut LOOKS.clone()) {
                Found::Piece(piece) => return (Some(piece), tries),
                Found::Nothing => return (None, tries),
                Found::Unsure => {}
            }
        }
        unreachable!("each search takes bits away")
    }

    quickcheck! {
        fn finds_what_a_look_at_every_piece_finds(
            size: u32,
            ops: Vec<(u8, u32, u32)>,
            seed: u16
        ) -> bool {
            let pieces = size % 300_000 + 1;
            let mut untouched = Bitfield::new(pieces);
            let mut index = Index::new(pieces);
            let mut peers: Vec<(PeerKey, Bitfield)> = Vec::new();
            for (op, at, piece) in ops {
                let key = PeerKey(at % PEERS);
                let known = peers.iter().position(|(peer, _)| *peer == key);
                let piece = piece % pieces;
                match (op % 8, known) {
                    (0, None) => {
                        let has = set(pieces, u64::from(seed), 1 + u64::from(at) % 9_000);
                        index.join(key, &has, &untouched);
                        peers.push((key, has));
                    }
                    (1, Some(known)) => {
                        peers.remove(known);
                        assert!(index.leave(key).is_some());
                    }
                    (2, Some(known)) => {
                        peers[known].1.set(piece);
                        index.has(key, piece);
                    }
                    (3, Some(known)) => {
                        peers[known].1.clear(piece);
                    }
                    (4, _) => for piece in (piece..pieces.min(piece + 900)).step_by(7) {
                        if untouched.set(piece) {
                            index.insert(piece);
                        }
                    },
                    (5, _) => for piece in piece..pieces.min(piece + 50_000) {
                        if untouched.clear(piece) {
                            index.remove(piece, &untouched);
                        }
                    },
                    (_, Some(known)) => {
                        let has = &peers[known].1;
                        let (found, _) = search(&mut index, &untouched, (key, has), piece);
                        assert_eq!(found, untouched.next_common(has, piece));
                    }
                    _ => {
                        let found = match index.next(&untouched, piece) {
                            Found::Piece(piece) => Some(piece),
                            _ => None,
                        };
                        assert_eq!(found, untouched.next_one(piece));
                    }
                }
            }
            index.assert_sound(&untouched, peers.iter().map(|(key, has)| (*key, has)));
            true
        }
    }

    /// The peer and we have a piece of each chunk in common with none: everything known of it is
    /// outdated at once, and still no search takes more than its looks.
    #[test]
    fn a_search_is_bounded_and_the_next_one_goes_on() {
        let pieces: u32 = 4_000_000;
        let chunks = pieces.div_ceil(CHUNK);
        let (mut untouched, mut has) = (Bitfield::new(pieces), Bitfield::new(pieces));
        let mut index = Index::new(pieces);
        for chunk in 0..chunks {
            has.set(chunk * CHUNK);
            for piece in [chunk * CHUNK, chunk * CHUNK + 1] {
                untouched.set(piece);
                index.insert(piece);
            }
        }
        let key = PeerKey(1);
        index.join(key, &has, &untouched);
        for chunk in 0..chunks - 1 {
            untouched.clear(chunk * CHUNK);
            index.remove(chunk * CHUNK, &untouched);
        }
        let needle = (chunks - 1) * CHUNK;
        let (first, steps) =
            work::of(|| index.next_common(&untouched, (key, &has), 1, &mut LOOKS.clone()));
        assert_eq!(first, Found::Unsure);
        assert!(
            steps <= u64::from(LOOKS + 2) * u64::from(CHUNK / 64 + 2),
            "{steps}"
        );
        let (found, tries) = search(&mut index, &untouched, (key, &has), 1);
        assert_eq!(found, Some(needle));
        assert_eq!(1 + tries, (chunks - 2).div_ceil(LOOKS + 1));
        // What has been learnt stays.
        assert_eq!(
            search(&mut index, &untouched, (key, &has), 1),
            (Some(needle), 1)
        );
    }
}
