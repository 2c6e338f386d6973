//! A slow, obvious picker beside the real one, over random sequences of operations.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::quickcheck;

use super::*;
use crate::rng::Label;

const PIECES: u32 = 9;
const PEERS: u32 = 5;
const BLOCKS: u32 = 3;
const PIECE: u32 = BLOCKS * BLOCK_LENGTH;
const TOTAL: u64 = PIECES as u64 * PIECE as u64 - 20_000;

#[derive(Default)]
struct Peer {
    has: BTreeSet<u32>,
    /// Joined as a seed.
    seed: bool,
    /// Blocks asked of it, and whether they are overdue.
    asked: BTreeMap<BlockRef, bool>,
}

struct Model {
    picker: Picker,
    choice: Choice,
    peers: BTreeMap<u32, Peer>,
    have: BTreeSet<u32>,
    unwanted: BTreeSet<u32>,
    received: BTreeMap<BlockRef, PeerKey>,
    /// Pieces may be kept strictly for one peer from now on.
    strict: bool,
    /// Pieces of peers that are counted in a step.
    slice: u32,
}

impl Model {
    fn new(max_partial_pieces: u32, random_first: u32, slice: u32) -> Self {
        let config = PickerConfig {
            random_first,
            max_partial_pieces,
            max_requesters: 3,
            ..PickerConfig::default()
        };
        Self {
            picker: Picker::new(PIECES, PIECE, TOTAL, config),
            choice: Choice::new(&[3; 32], Label::Custom(1)),
            peers: BTreeMap::new(),
            have: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            received: BTreeMap::new(),
            strict: false,
            slice,
        }
    }

    /// Counts pieces of peers that came or left.
    fn count(&mut self, most: u32) {
        let fields: BTreeMap<_, _> = self
            .peers
            .iter()
            .map(|(k, p)| (*k, Self::field(p)))
            .collect();
        let counted = self.picker.count(most, |key| fields.get(&key.0));
        assert!(counted <= most);
        assert!(counted == most || !self.picker.is_counting());
    }

    fn blocks(&self, piece: u32) -> Vec<BlockRef> {
        let count = self.picker.piece_size(piece).div_ceil(BLOCK_LENGTH);
        (0..count)
            .map(|at| self.picker.block_at(piece, at))
            .collect()
    }

    fn wants(&self, piece: u32) -> bool {
        !self.have.contains(&piece) && !self.unwanted.contains(&piece)
    }

    fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..PIECES).filter(|piece| self.wants(*piece))
    }

    fn availability(&self, piece: u32) -> u32 {
        let has = self.peers.values().filter(|peer| peer.has.contains(&piece));
        has.count() as u32
    }

    /// Peers expected to bring a block.
    fn expected(&self, block: &BlockRef) -> usize {
        let asked = self.peers.values().filter_map(|peer| peer.asked.get(block));
        asked.filter(|late| !**late).count()
    }

    fn is_free(&self, block: &BlockRef) -> bool {
        !self.received.contains_key(block) && self.expected(block) == 0
    }

    fn in_endgame(&self) -> bool {
        let mut available = self.missing().filter(|piece| self.availability(*piece) > 0);
        self.missing().next().is_some()
            && available.all(|piece| !self.blocks(piece).iter().any(|block| self.is_free(block)))
    }

    fn field(peer: &Peer) -> Bitfield {
        let mut field = Bitfield::new(PIECES);
        peer.has.iter().for_each(|piece| {
            field.set(*piece);
        });
        field
    }

    fn join(&mut self, key: u32, bits: u16) {
        if self.peers.contains_key(&key) {
            return;
        }
        let mut peer = Peer::default();
        if bits.is_multiple_of(7) {
            peer.seed = true;
            peer.has = (0..PIECES).collect();
            self.picker.seed_joined();
        } else {
            peer.has = (0..PIECES).filter(|piece| bits >> piece & 1 == 1).collect();
            self.picker.peer_joined(PeerKey(key), &Self::field(&peer));
        }
        self.peers.insert(key, peer);
        self.count(self.slice);
    }

    fn leave(&mut self, key: u32) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        for block in peer.asked.keys() {
            assert!(self.picker.on_abort(PeerKey(key), *block));
        }
        if peer.seed {
            self.picker.seed_left();
        } else {
            self.picker.peer_left(PeerKey(key), Self::field(&peer));
        }
        self.count(self.slice);
    }

    fn pick(&mut self, key: u32, options: PickOptions<'_>) -> usize {
        let Some(peer) = self.peers.get(&key) else {
            return 0;
        };
        let field = Self::field(peer);
        let has = if peer.seed {
            Has::All
        } else {
            Has::Some(&field)
        };
        let endgame_before = self.in_endgame();
        let mut out = Vec::new();
        let (picker, choice) = (&mut self.picker, &mut self.choice);
        let mut reason = picker.pick(PeerKey(key), has, &options, choice, &mut out);
        assert!(out.len() <= options.count);
        let picked = out.len();
        if picked == 0 {
            let blocks: Vec<_> = (0..PIECES).flat_map(|piece| self.blocks(piece)).collect();
            let picker = &mut self.picker;
            reason = picker.race(PeerKey(key), has, &options, &blocks, &mut out);
        }
        assert_eq!(out.is_empty(), reason == PickReason::Nothing);
        for block in &out {
            assert!(self.wants(block.piece) && field.get(block.piece));
            assert!(!self.received.contains_key(block));
            if let Some(allowed) = options.allowed {
                assert!(allowed.contains(&block.piece));
            }
            if !self.is_free(block) {
                assert_eq!(reason, PickReason::Endgame);
                assert!(self.expected(block) < 3);
            }
            let peer = self.peers.get_mut(&key).unwrap();
            assert_eq!(peer.asked.insert(*block, false), None, "asked twice");
        }
        if reason == PickReason::Endgame && !self.picker.is_counting() {
            assert!(endgame_before || self.in_endgame());
        }
        // Whoever could help is not left idle, unless a piece is kept strictly for someone.
        if out.is_empty() && options.count > 0 && options.allowed.is_none() && !self.strict {
            let peer = &self.peers[&key];
            let useful = self
                .missing()
                .filter(|piece| peer.has.contains(piece))
                .flat_map(|piece| self.blocks(piece))
                .find(|block| self.is_free(block) && !peer.asked.contains_key(block));
            let bound = self.picker.config.max_partial_pieces < PIECES;
            assert!(useful.is_none() || bound, "{useful:?} left for {key}");
        }
        out.len()
    }

    fn some_asked(&self, key: u32, at: u16) -> Option<BlockRef> {
        let asked = &self.peers.get(&key)?.asked;
        asked
            .keys()
            .nth(usize::from(at) % asked.len().max(1))
            .copied()
    }

    fn receive(&mut self, key: u32, at: u16) {
        let Some(block) = self.some_asked(key, at) else {
            return;
        };
        let known = self.received.contains_key(&block) || self.have.contains(&block.piece);
        let expected = if known {
            Received::Duplicate
        } else {
            Received::Fresh
        };
        assert_eq!(self.picker.on_received(PeerKey(key), block), expected);
        self.peers.get_mut(&key).unwrap().asked.remove(&block);
        if !known {
            self.received.insert(block, PeerKey(key));
        }
        let blocks = self.blocks(block.piece);
        let is_done = blocks.iter().all(|block| self.received.contains_key(block));
        if !self.have.contains(&block.piece) {
            assert_eq!(self.picker.piece_blocks_done(block.piece), is_done);
        }
    }

    fn verify(&mut self, piece: u32, is_good: bool) {
        if !self.picker.piece_blocks_done(piece) {
            return;
        }
        let blocks = self.blocks(piece);
        let brought: BTreeSet<PeerKey> = blocks.iter().map(|b| self.received[b]).collect();
        let contributors = if is_good {
            self.have.insert(piece);
            let contributors = self.picker.contributors(piece);
            let alone = self.picker.on_hash_ok(piece);
            assert_eq!(alone.is_some(), brought.len() == 1);
            assert!(alone.is_none_or(|peer| brought.contains(&peer)));
            contributors
        } else {
            self.strict = true;
            self.picker.on_hash_failed(piece)
        };
        assert_eq!(contributors.len(), brought.len());
        assert_eq!(contributors.into_iter().collect::<BTreeSet<_>>(), brought);
        self.forget(piece);
    }

    /// A piece begins anew or is finished: no request for it stands.
    fn forget(&mut self, piece: u32) {
        self.received.retain(|block, _| block.piece != piece);
        for peer in self.peers.values_mut() {
            peer.asked.retain(|block, _| block.piece != piece);
        }
    }

    fn step(&mut self, (op, key, arg): (u8, u8, u16)) {
        let key = u32::from(key) % PEERS;
        let piece = u32::from(arg) % PIECES;
        let allowed = [piece, (piece + 1) % PIECES];
        let options = PickOptions {
            count: usize::from(arg % 11),
            reverse: arg & 0x100 != 0,
            whole_pieces: arg & 0x200 != 0,
            suggested: &allowed,
            allowed: (arg & 0x1c00 == 0).then_some(&allowed),
            parole: false,
        };
        match op % 16 {
            0 | 1 => self.join(key, arg),
            2 => self.leave(key),
            3 => {
                if let Some(peer) = self.peers.get_mut(&key)
                    && !peer.seed
                    && peer.has.insert(piece)
                {
                    self.picker.peer_has(PeerKey(key), piece);
                }
            }
            4 => {
                if let Some(peer) = self.peers.get_mut(&key)
                    && !peer.seed
                    && peer.has.remove(&piece)
                {
                    self.picker.peer_lost(PeerKey(key), piece);
                }
            }
            5 => {
                let wanted = arg & 0x8000 == 0;
                self.picker.set_wanted(piece, wanted);
                if wanted {
                    self.unwanted.remove(&piece);
                } else {
                    self.unwanted.insert(piece);
                }
            }
            6 if arg & 0xc000 == 0 => {
                self.picker.set_have(piece);
                if self.have.insert(piece) {
                    self.forget(piece);
                }
            }
            6 => {
                self.picker.set_lost(piece);
                self.have.remove(&piece);
            }
            7 => {
                if let Some(block) = self.some_asked(key, arg) {
                    assert!(self.picker.on_abort(PeerKey(key), block));
                    self.peers.get_mut(&key).unwrap().asked.remove(&block);
                }
            }
            8 => self.late(key, arg),
            9 => self.picker.set_sequential(arg & 1 == 1),
            10 => {
                self.strict = true;
                self.pick(
                    key,
                    PickOptions {
                        parole: true,
                        ..options
                    },
                );
            }
            11 | 12 => {
                self.pick(key, options);
            }
            13 | 14 => self.receive(key, arg),
            _ => self.verify(piece, arg & 0xe000 != 0),
        }
    }

    fn late(&mut self, key: u32, arg: u16) {
        let Some(block) = self.some_asked(key, arg) else {
            return;
        };
        let late = self.peers[&key].asked[&block] || self.received.contains_key(&block);
        assert_eq!(self.picker.on_late(PeerKey(key), block), !late);
        if !late {
            self.peers.get_mut(&key).unwrap().asked.insert(block, true);
        }
        // When all places are taken by overdue peers, one of them loses its claim.
        let standing = self.picker.requesters(block).to_vec();
        for (key, peer) in &mut self.peers {
            if !standing.contains(&PeerKey(*key)) {
                peer.asked.remove(&block);
            }
        }
    }

    fn compare(&mut self) {
        self.picker.assert_sound();
        let fields: Vec<_> = self.peers.iter().filter(|(_, peer)| !peer.seed).collect();
        let fields: Vec<_> = fields
            .into_iter()
            .map(|(key, peer)| (PeerKey(*key), Self::field(peer)))
            .collect();
        let known = fields.iter().map(|(key, field)| (*key, field));
        self.picker
            .index
            .assert_sound(&self.picker.untouched, known);
        let missing: Vec<u32> = self.missing().collect();
        assert!(self.picker.missing.iter_ones().eq(missing.iter().copied()));
        assert_eq!(self.picker.is_complete(), missing.is_empty());
        assert!(self.picker.have().iter_ones().eq(self.have.iter().copied()));
        let left = missing
            .iter()
            .map(|p| u64::from(self.picker.piece_size(*p)));
        assert_eq!(self.picker.wanted_bytes_left(), left.sum());
        let is_counted = !self.picker.is_counting();
        if is_counted {
            assert_eq!(self.picker.in_endgame(), self.in_endgame());
        }
        for peer in self.peers.values() {
            let field = Self::field(peer);
            let interesting = peer.has.iter().filter(|p| self.wants(**p)).count();
            assert_eq!(self.picker.count_interesting(&field) as usize, interesting);
            assert_eq!(self.picker.is_interesting(&field), interesting > 0);
        }
        for piece in 0..PIECES {
            if is_counted {
                assert_eq!(self.picker.availability(piece), self.availability(piece));
            }
            for block in self.blocks(piece) {
                let mut asked = self.picker.requesters(block).to_vec();
                asked.sort();
                let peers = self.peers.iter();
                let expected = peers.filter(|(_, peer)| peer.asked.contains_key(&block));
                assert!(
                    asked
                        .iter()
                        .map(|key| key.0)
                        .eq(expected.map(|(key, _)| *key))
                );
            }
        }
    }

    /// A single seed brings all that is missing.
    fn finish(&mut self) {
        for key in 0..PEERS {
            self.leave(key);
        }
        while self.picker.is_counting() {
            self.count(self.slice);
        }
        self.compare();
        self.join(0, 0);
        for _ in 0..PIECES * BLOCKS + 1 {
            for piece in 0..PIECES {
                self.verify(piece, true);
            }
            let options = PickOptions {
                count: 2,
                ..PickOptions::default()
            };
            self.pick(0, options);
            while self.some_asked(0, 0).is_some() {
                self.receive(0, 0);
            }
            self.compare();
        }
        assert!(
            self.picker.is_complete(),
            "{} missing",
            self.picker.missing()
        );
    }
}

quickcheck! {
    fn agrees_with_the_model(
        ops: Vec<(u8, u8, u16)>, bounded: bool, random_first: bool, slice: u8
    ) -> bool {
        let max_partial_pieces = if bounded { 2 } else { 64 };
        let slice = if slice.is_multiple_of(2) { u32::MAX } else { u32::from(slice % 16) };
        let mut model = Model::new(max_partial_pieces, u32::from(random_first) * 3, slice);
        for op in ops {
            model.step(op);
            model.compare();
        }
        model.finish();
        true
    }
}
