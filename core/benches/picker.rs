//! What picking costs: a decision must stay under 5 µs and must not grow with the torrent.
//!
//! `cargo bench -p trackerless-core --bench picker`
//!
//! Steps (words looked at, entries moved) do not grow with the torrent: the tests in
//! `src/swarm/picker/cost.rs` count them for these cases. Where a peer has very little (`sparse`)
//! that is so from 100,000 pieces on: in a smaller torrent it has fewer pieces than a decision
//! compares. What still grows a little in time is misses of the cache, since memory does grow; the
//! instructions of the decisions alone are counted by
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*picker::Picker::pick*' \
//!     target/release/deps/picker-* --bench 'needle.*[^0-9]1000000$' \
//!     --sample-size 1000 --sample-count 1
//! ```
//!
//! Every case chooses a piece nobody has begun, which is the expensive decision, and gives it
//! back; blocks of begun pieces are cheaper.

use std::hint::black_box;

use divan::{AllocProfiler, Bencher};
use trackerless_core::rng::{Choice, Label};
use trackerless_core::swarm::bitfield::Bitfield;
use trackerless_core::swarm::picker::{
    BLOCK_LENGTH, Has, PeerKey, PickOptions, Picker, PickerConfig,
};
use trackerless_core::wire::BlockRef;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PEERS: u32 = 200;
/// Pieces of a torrent.
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

/// A torrent and its peers; a piece is with each peer at `per_mille`.
struct Torrent {
    picker: Picker,
    choice: Choice,
    peers: Vec<Bitfield>,
    /// What was decided, reused.
    out: Vec<BlockRef>,
}

impl Torrent {
    fn new(pieces: u32, per_mille: u64) -> Self {
        let mut choice = Choice::new(&[9; 32], Label::Custom(0));
        let length = 16 * BLOCK_LENGTH;
        let total = u64::from(pieces) * u64::from(length);
        let mut picker = Picker::new(pieces, length, total, PickerConfig::default());
        let mut peers = Vec::new();
        for peer in 0..PEERS {
            let mut field = Bitfield::new(pieces);
            for piece in 0..pieces {
                if choice.below(1_000) < per_mille {
                    field.set(piece);
                }
            }
            // Even in a small torrent every peer has something to offer.
            field.set(choice.below(u64::from(pieces)) as u32);
            picker.peer_joined(PeerKey(peer), &field);
            picker.count(u32::MAX, |_| Some(&field));
            peers.push(field);
        }
        // Past the first pieces, which are picked at random.
        (0..4).for_each(|piece| picker.set_have(piece));
        Self {
            picker,
            choice,
            peers,
            out: Vec::with_capacity(1),
        }
    }

    fn decide(&mut self, peer: u32, has_all: bool) {
        let field = &self.peers[peer as usize];
        let has = if has_all { Has::All } else { Has::Some(field) };
        decide(&mut self.picker, peer, has, &mut self.choice, &mut self.out);
    }
}

fn decide(
    picker: &mut Picker,
    peer: u32,
    has: Has<'_>,
    choice: &mut Choice,
    out: &mut Vec<BlockRef>,
) {
    let options = PickOptions {
        count: 1,
        ..PickOptions::default()
    };
    picker.pick(PeerKey(peer), has, &options, choice, out);
    for block in black_box(out).drain(..) {
        picker.on_abort(PeerKey(peer), block);
    }
}

fn run(bencher: Bencher<'_, '_>, mut torrent: Torrent, has_all: bool) {
    let mut peer = 0;
    bencher.bench_local(|| {
        peer = (peer + 1) % PEERS;
        torrent.decide(peer, has_all);
    });
}

/// Peers have half of everything.
#[divan::bench(args = SIZES)]
fn decision_dense(bencher: Bencher<'_, '_>, pieces: u32) {
    run(bencher, Torrent::new(pieces, 500), false);
}

/// Peers have one piece in a thousand: the rarest are with others.
#[divan::bench(args = SIZES)]
fn decision_sparse(bencher: Bencher<'_, '_>, pieces: u32) {
    run(bencher, Torrent::new(pieces, 1), false);
}

/// Peers have nearly everything.
#[divan::bench(args = SIZES)]
fn decision_nearly_seeds(bencher: Bencher<'_, '_>, pieces: u32) {
    run(bencher, Torrent::new(pieces, 990), false);
}

/// The peer is a seed among others.
#[divan::bench(args = SIZES)]
fn decision_seed(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 500);
    torrent.picker.seed_joined();
    run(bencher, torrent, true);
}

/// The worst case: the peer has half of everything, and of what we miss a single, common piece.
#[divan::bench(args = SIZES)]
fn decision_needle(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 100);
    let mut field = Bitfield::new(pieces);
    for piece in (0..pieces).step_by(2) {
        field.set(piece);
        torrent.picker.set_have(piece);
    }
    field.set(pieces - 1);
    let mut common = Bitfield::new(pieces);
    common.set(pieces - 1);
    for peer in PEERS..PEERS + 21 {
        let field = if peer == PEERS { &field } else { &common };
        torrent.picker.peer_joined(PeerKey(peer), field);
        torrent.picker.count(u32::MAX, |_| Some(field));
    }
    let (mut picker, mut choice, mut out) = (torrent.picker, torrent.choice, torrent.out);
    let has = Has::Some(&field);
    bencher.bench_local(|| decide(&mut picker, PEERS, has, &mut choice, &mut out));
}

/// 64 pieces are open, held up by peers that are slow, and none of them is with this peer.
#[divan::bench(args = SIZES)]
fn decision_many_begun(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 500);
    let options = PickOptions {
        count: 1,
        ..PickOptions::default()
    };
    let (mut picker, mut choice, mut out) = (torrent.picker, torrent.choice, torrent.out);
    for peer in 0..64 {
        let mut own = Bitfield::new(pieces);
        own.set(100 + peer);
        let has = Has::Some(&own);
        picker.pick(PeerKey(peer), has, &options, &mut choice, &mut Vec::new());
        torrent.peers.iter_mut().for_each(|field| {
            field.clear(100 + peer);
        });
    }
    let field = &torrent.peers[99];
    let has = Has::Some(field);
    bencher.bench_local(|| decide(&mut picker, 99, has, &mut choice, &mut out));
}

/// A peer says it got a piece, and another that it lost one.
#[divan::bench(args = SIZES)]
fn have(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 500);
    let mut piece = 0;
    bencher.bench_local(|| {
        piece = (piece + 7_919) % pieces;
        torrent.picker.peer_has(PeerKey(0), black_box(piece));
        torrent.picker.peer_lost(PeerKey(1), black_box(piece));
    });
}

/// A peer with half of everything comes and goes: as many steps as it has pieces, which
/// [`Picker::count`] takes in slices.
#[divan::bench(args = SIZES)]
fn join_and_leave(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 500);
    let field = torrent.peers[0].clone();
    let peer = PeerKey(PEERS);
    bencher
        .with_inputs(|| field.clone())
        .bench_local_values(|field| {
            torrent.picker.peer_joined(peer, black_box(&field));
            torrent.picker.count(u32::MAX, |_| Some(&field));
            torrent.picker.peer_left(peer, field);
            torrent.picker.count(u32::MAX, |_| None);
        });
}

/// The same, of what is done at once: the rest is one of many slices.
#[divan::bench(args = SIZES)]
fn join_at_once(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut torrent = Torrent::new(pieces, 500);
    let field = torrent.peers[0].clone();
    let peer = PeerKey(PEERS);
    bencher
        .with_inputs(|| field.clone())
        .bench_local_values(|field| {
            torrent.picker.peer_joined(peer, black_box(&field));
            torrent.picker.peer_left(peer, field);
        });
}
