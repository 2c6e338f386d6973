//! What decisions cost, in words looked at and entries moved: the cases of `benches/picker.rs`.

use super::*;
use crate::rng::Label;
use crate::swarm::work;

const PEERS: u32 = 20;
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Steps of one decision at most, the piece it begins given back included.
const MOST: u64 = 500;

struct Torrent {
    picker: Picker,
    choice: Choice,
    peers: Vec<Bitfield>,
}

impl Torrent {
    /// Peers that have each piece at `per_mille`, and one piece.
    fn new(pieces: u32, per_mille: u64) -> Self {
        let mut choice = Choice::new(&[9; 32], Label::Custom(0));
        let length = 16 * BLOCK_LENGTH;
        let total = u64::from(pieces) * u64::from(length);
        let mut torrent = Self {
            picker: Picker::new(pieces, length, total, PickerConfig::default()),
            peers: Vec::new(),
            choice: Choice::new(&[8; 32], Label::Custom(0)),
        };
        for _ in 0..PEERS {
            let mut field = Bitfield::new(pieces);
            for piece in 0..pieces {
                if choice.below(1_000) < per_mille {
                    field.set(piece);
                }
            }
            field.set(choice.below(u64::from(pieces)) as u32);
            torrent.join(field);
        }
        (0..4).for_each(|piece| torrent.picker.set_have(piece));
        torrent
    }

    fn join(&mut self, field: Bitfield) -> u32 {
        let key = self.peers.len() as u32;
        self.picker.peer_joined(PeerKey(key), &field);
        self.picker.count(u32::MAX, |_| Some(&field));
        self.peers.push(field);
        key
    }

    /// The steps of one decision that begins a piece, and of giving it back.
    fn decide(&mut self, peer: u32, has: Has<'_>) -> u64 {
        let options = PickOptions {
            count: 1,
            ..PickOptions::default()
        };
        let mut out = Vec::new();
        let (picker, choice) = (&mut self.picker, &mut self.choice);
        let ((), steps) = work::of(|| {
            picker.pick(PeerKey(peer), has, &options, choice, &mut out);
            for block in out.drain(..) {
                picker.on_abort(PeerKey(peer), block);
            }
        });
        assert!(!self.picker.is_unsure());
        steps
    }

    /// Those of decisions for many peers.
    fn decide_often(&mut self, has_all: bool) -> Vec<u64> {
        let peers = core::mem::take(&mut self.peers);
        let decisions = (0..200).map(|at| {
            let peer = at % PEERS;
            let field = &peers[peer as usize];
            let has = if has_all { Has::All } else { Has::Some(field) };
            self.decide(peer, has)
        });
        decisions.collect()
    }
}

/// No decision takes more than [`MOST`] steps, and on the average they do not grow: a little may
/// be more where a small torrent has less to choose from, which `least` pieces have not.
fn assert_level(case: &str, least: u32, steps: impl Fn(u32) -> Vec<u64>) {
    let costs: Vec<_> = SIZES
        .iter()
        .map(|pieces| (*pieces, steps(*pieces)))
        .collect();
    let mean = |steps: &[u64]| steps.iter().sum::<u64>() / steps.len() as u64;
    let (_, first) = costs.iter().find(|(pieces, _)| *pieces >= least).unwrap();
    for (pieces, steps) in &costs {
        let most = steps.iter().max().copied().unwrap_or(0);
        assert!(most <= MOST, "{case}, {pieces} pieces: {most}");
        assert!(
            mean(steps) <= mean(first) + mean(first) / 8 + 4,
            "{case}, {pieces} pieces"
        );
    }
}

#[test]
fn decisions_for_peers_with_half_of_everything_do_not_grow() {
    assert_level("dense", 1_000, |pieces| {
        Torrent::new(pieces, 500).decide_often(false)
    });
}

#[test]
fn decisions_for_peers_with_little_do_not_grow() {
    // With fewer pieces they have too few to compare.
    assert_level("sparse", 100_000, |pieces| {
        Torrent::new(pieces, 1).decide_often(false)
    });
}

#[test]
fn decisions_for_near_seeds_do_not_grow() {
    assert_level("nearly seeds", 1_000, |pieces| {
        Torrent::new(pieces, 990).decide_often(false)
    });
}

#[test]
fn decisions_for_a_seed_do_not_grow() {
    assert_level("seed", 1_000, |pieces| {
        let mut torrent = Torrent::new(pieces, 500);
        torrent.picker.seed_joined();
        torrent.decide_often(true)
    });
}

#[test]
fn decisions_in_order_do_not_grow() {
    assert_level("sequential", 1_000, |pieces| {
        let mut torrent = Torrent::new(pieces, 500);
        torrent.picker.set_sequential(true);
        (0..pieces - 40).for_each(|piece| torrent.picker.set_have(piece));
        torrent.decide_often(false)
    });
}

#[test]
fn the_only_piece_a_peer_has_for_us_is_found_at_once() {
    assert_level("needle", 1_000, |pieces| {
        let mut torrent = Torrent::new(pieces, 100);
        let mut field = Bitfield::new(pieces);
        for piece in (0..pieces).step_by(2) {
            field.set(piece);
            torrent.picker.set_have(piece);
        }
        field.set(pieces - 1);
        let peer = torrent.join(field.clone());
        let mut common = Bitfield::new(pieces);
        common.set(pieces - 1);
        (0..20).for_each(|_| {
            torrent.join(common.clone());
        });
        (0..50)
            .map(|_| torrent.decide(peer, Has::Some(&field)))
            .collect()
    });
}

#[test]
fn decisions_beside_many_begun_pieces_do_not_grow() {
    assert_level("many begun", 1_000, |pieces| {
        let mut torrent = Torrent::new(pieces, 500);
        let begun = 100..164;
        for piece in begun.clone() {
            let mut own = Bitfield::new(pieces);
            own.set(piece);
            let peer = torrent.join(own.clone());
            let options = PickOptions {
                count: 1,
                ..PickOptions::default()
            };
            let (picker, choice) = (&mut torrent.picker, &mut torrent.choice);
            let mut out = Vec::new();
            picker.pick(PeerKey(peer), Has::Some(&own), &options, choice, &mut out);
            assert_eq!(out[0].piece, piece);
        }
        let mut field = Bitfield::full(pieces);
        begun.for_each(|piece| {
            field.clear(piece);
        });
        let peer = torrent.join(field.clone());
        (0..50)
            .map(|_| torrent.decide(peer, Has::Some(&field)))
            .collect()
    });
}

#[test]
fn haves_do_not_grow() {
    assert_level("have", 1_000, |pieces| {
        let mut torrent = Torrent::new(pieces, 500);
        let count = (0..50).map(|at| {
            let piece = at * 7_919 % pieces;
            let ((), steps) = work::of(|| {
                torrent.picker.peer_has(PeerKey(0), piece);
                torrent.picker.peer_lost(PeerKey(1), piece);
            });
            steps
        });
        count.collect()
    });
}

/// A torrent whose pieces, and those of whose peers, are taken up in slices decides as one where
/// that is done at once.
#[test]
fn slices_change_no_decision() {
    for slice in [1, 7, 64, 1_000] {
        let pieces = 700;
        let length = 16 * BLOCK_LENGTH;
        let total = u64::from(pieces) * u64::from(length);
        let config = PickerConfig::default();
        let mut whole = Picker::new(pieces, length, total, config);
        let mut sliced = Picker::unlisted(pieces, length, total, config);
        let mut lists = 1;
        while !sliced.list(slice) {
            lists += 1;
        }
        assert_eq!(lists, pieces.div_ceil(slice));
        let mut choice = Choice::new(&[5; 32], Label::Custom(0));
        let mut fields = Vec::new();
        for _ in 0..8 {
            let mut field = Bitfield::new(pieces);
            for piece in 0..pieces {
                if choice.below(3) == 0 {
                    field.set(piece);
                }
            }
            fields.push(field);
        }
        for (peer, field) in fields.iter().enumerate() {
            whole.peer_joined(PeerKey(peer as u32), field);
            whole.count(u32::MAX, |_| Some(field));
            sliced.peer_joined(PeerKey(peer as u32), field);
        }
        for leaver in [3, 5] {
            // One that is counted leaves, and one that may not be.
            whole.peer_left(PeerKey(leaver), fields[leaver as usize].clone());
            whole.count(u32::MAX, |_| None);
            sliced.peer_left(PeerKey(leaver), fields[leaver as usize].clone());
            while sliced.is_counting() {
                let counted = sliced.count(slice, |key| fields.get(key.0 as usize));
                assert!(counted <= slice);
            }
        }
        sliced.assert_sound();
        let [mut one, mut other] = [(); 2].map(|()| Choice::new(&[6; 32], Label::Custom(0)));
        for turn in 0..2_000 {
            let peer = [0, 1, 2, 4, 6, 7][turn % 6];
            let options = PickOptions {
                count: 3,
                reverse: turn % 5 == 0,
                ..PickOptions::default()
            };
            let has = Has::Some(&fields[peer as usize]);
            let (mut blocks, mut others) = (Vec::new(), Vec::new());
            whole.pick(PeerKey(peer), has, &options, &mut one, &mut blocks);
            sliced.pick(PeerKey(peer), has, &options, &mut other, &mut others);
            assert_eq!(blocks.is_empty(), others.is_empty());
            for block in blocks.iter().chain(&others) {
                assert_eq!(
                    whole.availability(block.piece),
                    sliced.availability(block.piece)
                );
            }
            let rarity = |picker: &Picker, blocks: &[BlockRef]| {
                let counts = blocks.iter().map(|block| picker.availability(block.piece));
                counts.collect::<Vec<_>>()
            };
            assert_eq!(rarity(&whole, &blocks), rarity(&sliced, &others));
            if turn % 2 == 0 {
                blocks.iter().for_each(|block| {
                    whole.on_abort(PeerKey(peer), *block);
                });
                others.iter().for_each(|block| {
                    sliced.on_abort(PeerKey(peer), *block);
                });
            }
        }
    }
}
