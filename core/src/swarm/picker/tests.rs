use super::*;
use crate::rng::Label;

const PIECE: u32 = 4 * BLOCK_LENGTH;

fn choice() -> Choice {
    Choice::new(&[1; 32], Label::Custom(0))
}

fn picker(pieces: u32) -> Picker {
    let config = PickerConfig {
        random_first: 0,
        ..PickerConfig::default()
    };
    Picker::new(pieces, PIECE, u64::from(pieces) * u64::from(PIECE), config)
}

fn pick(picker: &mut Picker, peer: u32, has: Has<'_>, options: PickOptions<'_>) -> Vec<BlockRef> {
    let mut out = Vec::new();
    picker.pick(PeerKey(peer), has, &options, &mut choice(), &mut out);
    out
}

fn count(count: usize) -> PickOptions<'static> {
    PickOptions {
        count,
        ..PickOptions::default()
    }
}

fn field(len: u32, pieces: &[u32]) -> Bitfield {
    let mut field = Bitfield::new(len);
    for piece in pieces {
        field.set(*piece);
    }
    field
}

/// A peer comes and is counted at once.
fn join(picker: &mut Picker, peer: u32, has: &Bitfield) {
    picker.peer_joined(PeerKey(peer), has);
    assert_eq!(picker.count(u32::MAX, |_| Some(has)), has.len());
    assert!(!picker.is_counting());
}

/// Races for any block.
fn race(picker: &mut Picker, peer: u32, options: PickOptions<'_>) -> Vec<BlockRef> {
    let blocks: Vec<_> = (0..picker.piece_count)
        .flat_map(|piece| (0..picker.block_count(piece)).map(move |index| (piece, index)))
        .map(|(piece, index)| picker.block_at(piece, index))
        .collect();
    let mut out = Vec::new();
    picker.race(PeerKey(peer), Has::All, &options, &blocks, &mut out);
    out
}

#[test]
fn the_rarest_piece_comes_first_and_is_finished_first() {
    let mut picker = picker(10);
    let all = Bitfield::full(10);
    join(&mut picker, 1, &all);
    join(&mut picker, 2, &all);
    join(&mut picker, 3, &field(10, &[0, 1, 2, 3, 4, 6, 7, 8, 9]));
    let blocks = pick(&mut picker, 1, Has::Some(&all), count(3));
    assert!(blocks.iter().all(|block| block.piece == 5));
    let blocks = pick(&mut picker, 2, Has::Some(&all), count(2));
    assert_eq!((blocks[0].piece, blocks[0].begin), (5, 3 * BLOCK_LENGTH));
    assert_ne!(blocks[1].piece, 5);
}

#[test]
fn a_torrent_is_fetched_to_the_last_short_block() {
    let mut picker = Picker::new(
        3,
        PIECE,
        2 * u64::from(PIECE) + 20_000,
        PickerConfig::default(),
    );
    picker.seed_joined();
    let left = picker.wanted_bytes_left();
    assert_eq!(left, 2 * u64::from(PIECE) + 20_000);
    let blocks = pick(&mut picker, 1, Has::All, count(100));
    assert_eq!(blocks.len(), 10);
    assert!(picker.in_endgame());
    let bytes: u64 = blocks.iter().map(|block| u64::from(block.length)).sum();
    assert_eq!(bytes, left);
    for block in blocks {
        assert_eq!(picker.on_received(PeerKey(1), block), Received::Fresh);
        assert_eq!(picker.on_received(PeerKey(1), block), Received::Duplicate);
        if picker.piece_blocks_done(block.piece) {
            assert_eq!(picker.state(block.piece), Some(PieceState::Unverified));
            assert_eq!(picker.on_hash_ok(block.piece), Some(PeerKey(1)));
        }
    }
    assert!(picker.is_complete() && !picker.in_endgame());
    assert_eq!((picker.missing(), picker.wanted_bytes_left()), (0, 0));
    assert!(pick(&mut picker, 1, Has::All, count(1)).is_empty());
}

#[test]
fn first_pieces_are_random_then_rarest_first() {
    let mut picker = Picker::new(64, PIECE, 64 * u64::from(PIECE), PickerConfig::default());
    join(&mut picker, 2, &Bitfield::full(64));
    join(&mut picker, 3, &field(64, &(1..64).collect::<Vec<_>>()));
    let mut begun = Vec::new();
    let mut random = choice();
    for expected in [PickReason::Random; 4]
        .into_iter()
        .chain([PickReason::Rarest])
    {
        let mut out = Vec::new();
        let options = count(4);
        let reason = picker.pick(PeerKey(1), Has::All, &options, &mut random, &mut out);
        assert_eq!(reason, expected);
        begun.push(out[0].piece);
        for block in out {
            picker.on_received(PeerKey(1), block);
        }
        picker.on_hash_ok(begun[begun.len() - 1]);
    }
    assert_eq!(begun[4], 0);
    assert!(begun.windows(2).take(3).any(|pair| pair[1] != pair[0] + 1));
}

#[test]
fn sequential_fetches_the_lowest_piece() {
    let mut picker = picker(5);
    picker.seed_joined();
    picker.set_sequential(true);
    picker.set_wanted(0, false);
    let pieces: Vec<u32> = pick(&mut picker, 1, Has::All, count(16))
        .iter()
        .map(|block| block.piece)
        .collect();
    assert!(pieces.is_sorted() && pieces[0] == 1 && pieces[15] == 4);
}

#[test]
fn a_snubbed_peer_gets_common_pieces() {
    let mut picker = picker(4);
    let all = Bitfield::full(4);
    join(&mut picker, 1, &all);
    let mut other = field(4, &[]);
    join(&mut picker, 2, &other);
    other.set(2);
    picker.peer_has(PeerKey(2), 2);
    let options = PickOptions {
        reverse: true,
        ..count(1)
    };
    assert_eq!(pick(&mut picker, 1, Has::Some(&all), options)[0].piece, 2);
}

#[test]
fn suggested_and_allowed_pieces_are_honoured() {
    let mut picker = picker(9);
    picker.seed_joined();
    let options = PickOptions {
        suggested: &[7],
        ..count(1)
    };
    assert_eq!(pick(&mut picker, 1, Has::All, options)[0].piece, 7);
    let options = PickOptions {
        allowed: Some(&[3, 100]),
        ..count(9)
    };
    let blocks = pick(&mut picker, 2, Has::All, options);
    assert_eq!(blocks.len(), 4);
    assert!(blocks.iter().all(|block| block.piece == 3));
    // A choked peer gets nothing else, in endgame neither.
    assert_eq!(pick(&mut picker, 3, Has::All, count(31)).len(), 31);
    assert!(picker.in_endgame());
    let blocks = race(&mut picker, 4, options);
    assert_eq!(blocks.len(), 4);
    assert!(blocks.iter().all(|block| block.piece == 3));
}

#[test]
fn begun_pieces_are_bounded_but_nobody_starves() {
    let config = PickerConfig {
        random_first: 0,
        max_partial_pieces: 2,
        ..PickerConfig::default()
    };
    let mut picker = Picker::new(100, PIECE, 100 * u64::from(PIECE), config);
    // Each peer has pieces of its own, so that begun ones help nobody else.
    for peer in 0..5 {
        let own = field(100, &(peer * 20..peer * 20 + 20).collect::<Vec<_>>());
        join(&mut picker, peer, &own);
        assert_eq!(pick(&mut picker, peer, Has::Some(&own), count(1)).len(), 1);
        assert_eq!(pick(&mut picker, peer, Has::Some(&own), count(1)).len(), 1);
    }
    assert_eq!(picker.partials.len(), 5);
}

#[test]
fn a_fast_peer_gets_pieces_alone_until_others_idle() {
    let mut picker = picker(2);
    picker.seed_joined();
    assert!(picker.suits_whole_pieces(u64::from(PIECE) / 20 + 1));
    assert!(!picker.suits_whole_pieces(u64::from(PIECE) / 20 - 1));
    let whole = PickOptions {
        whole_pieces: true,
        ..count(1)
    };
    let kept = pick(&mut picker, 1, Has::All, whole)[0].piece;
    let others = pick(&mut picker, 2, Has::All, count(4));
    assert!(others.iter().all(|block| block.piece != kept));
    assert_eq!(pick(&mut picker, 2, Has::All, count(1))[0].piece, kept);
}

#[test]
fn a_bad_piece_is_fetched_again_from_one_peer_alone() {
    let mut picker = picker(1);
    picker.seed_joined();
    let mut blocks = pick(&mut picker, 1, Has::All, count(2));
    blocks.extend(pick(&mut picker, 2, Has::All, count(2)));
    for (at, block) in blocks.into_iter().enumerate() {
        picker.on_received(PeerKey(1 + at as u32 / 2), block);
    }
    assert!(picker.piece_blocks_done(0));
    assert_eq!(picker.on_hash_failed(0), [PeerKey(1), PeerKey(2)]);
    let block = pick(&mut picker, 3, Has::All, count(1))[0];
    assert!(pick(&mut picker, 1, Has::All, count(4)).is_empty());
    assert_eq!(pick(&mut picker, 3, Has::All, count(9)).len(), 3);
    // Not even in endgame: whose blocks these are must stay known.
    assert!(picker.in_endgame());
    assert!(race(&mut picker, 1, count(4)).is_empty());
    // When the one peer is overdue with all of it, or gives up, another takes over.
    let at = |index| BlockRef {
        begin: index * BLOCK_LENGTH,
        ..block
    };
    assert!((0..4).all(|index| picker.on_late(PeerKey(3), at(index))));
    assert_eq!(pick(&mut picker, 1, Has::All, count(9)).len(), 4);
    assert!((0..4).all(|index| picker.on_abort(PeerKey(1), at(index))));
    assert_eq!(pick(&mut picker, 2, Has::All, count(9)).len(), 4);
}

#[test]
fn a_suspect_gets_pieces_alone_and_joins_others_only_at_the_end() {
    let mut picker = picker(3);
    picker.seed_joined();
    let shared = pick(&mut picker, 1, Has::All, count(1))[0].piece;
    let suspect = PickOptions {
        parole: true,
        ..count(8)
    };
    let blocks = pick(&mut picker, 2, Has::All, suspect);
    assert_eq!(blocks.len(), 8);
    assert!(blocks.iter().all(|block| block.piece != shared));
    let blocks = pick(&mut picker, 2, Has::All, suspect);
    assert!(blocks.len() == 3 && blocks[0].piece == shared);
}

#[test]
fn endgame_doubles_each_block_for_few_peers_and_tells_whom_to_cancel() {
    let config = PickerConfig {
        random_first: 0,
        max_requesters: 3,
        ..PickerConfig::default()
    };
    let mut picker = Picker::new(1, PIECE, PIECE.into(), config);
    picker.seed_joined();
    let block = pick(&mut picker, 1, Has::All, count(4))[0];
    for peer in 2..=3 {
        assert!(pick(&mut picker, peer, Has::All, count(9)).is_empty());
        assert_eq!(race(&mut picker, peer, count(9)).len(), 4);
        assert!(race(&mut picker, peer, count(9)).is_empty());
    }
    assert!(race(&mut picker, 4, count(9)).is_empty());
    assert_eq!(picker.on_received(PeerKey(2), block), Received::Fresh);
    assert_eq!(picker.requesters(block), [PeerKey(1), PeerKey(3)]);
    assert!(picker.on_abort(PeerKey(1), block));
    assert_eq!(picker.on_received(PeerKey(3), block), Received::Duplicate);
    assert_eq!(picker.contributors(0), [PeerKey(2)]);
}

#[test]
fn an_overdue_block_is_given_away_and_still_welcome() {
    let mut picker = picker(2);
    picker.seed_joined();
    let block = pick(&mut picker, 1, Has::All, count(1))[0];
    assert!(picker.on_late(PeerKey(1), block));
    assert!(!picker.on_late(PeerKey(1), block));
    assert_eq!(pick(&mut picker, 2, Has::All, count(1)), [block]);
    assert_eq!(picker.on_received(PeerKey(1), block), Received::Fresh);
    assert_eq!(picker.requesters(block), [PeerKey(2)]);
}

#[test]
fn blocks_that_nobody_asked_for_change_nothing() {
    let mut picker = picker(2);
    picker.seed_joined();
    let block = pick(&mut picker, 1, Has::All, count(1))[0];
    let odd = [
        BlockRef { piece: 2, ..block },
        BlockRef { begin: 1, ..block },
        BlockRef { length: 1, ..block },
        BlockRef {
            begin: PIECE,
            ..block
        },
        BlockRef {
            begin: u32::MAX,
            length: u32::MAX,
            piece: u32::MAX,
        },
    ];
    for block in odd {
        assert_eq!(picker.on_received(PeerKey(1), block), Received::Unasked);
        assert!(!picker.on_abort(PeerKey(1), block));
    }
    assert_eq!(picker.on_received(PeerKey(2), block), Received::Unasked);
    assert_eq!(picker.requesters(block), [PeerKey(1)]);
}

#[test]
fn a_piece_that_is_too_large_is_not_kept_for_a_fast_peer() {
    for (max_whole_piece, is_kept) in [(PIECE, true), (PIECE - 1, false)] {
        let config = PickerConfig {
            random_first: 0,
            max_whole_piece,
            ..PickerConfig::default()
        };
        let mut picker = Picker::new(2, PIECE, 2 * u64::from(PIECE), config);
        picker.seed_joined();
        assert_eq!(picker.suits_whole_pieces(u64::MAX), is_kept);
        let whole = PickOptions {
            whole_pieces: true,
            ..count(1)
        };
        let kept = pick(&mut picker, 1, Has::All, whole)[0].piece;
        let others = pick(&mut picker, 2, Has::All, count(3));
        assert!(others.iter().all(|block| (block.piece == kept) != is_kept));
    }
}

#[test]
fn blocks_that_lie_in_padding_are_asked_of_nobody() {
    let (block, piece) = (u64::from(BLOCK_LENGTH), u64::from(PIECE));
    let mut picker = picker(5);
    // The second half of a piece, what holds no whole block, and two pieces and more.
    picker.set_pads([
        2 * block - 1..piece,
        piece + 1..piece + 2 * block - 1,
        3 * piece - block..5 * piece,
    ]);
    picker.seed_joined();
    let padding: Vec<u32> = (0..5).filter(|piece| picker.is_padding(*piece)).collect();
    assert_eq!(padding, [3, 4]);
    padding.iter().for_each(|piece| picker.set_have(*piece));
    let mut asked = pick(&mut picker, 1, Has::All, count(20));
    asked.sort_unstable_by_key(|block| (block.piece, block.begin));
    let told: Vec<_> = asked
        .iter()
        .map(|it| (it.piece, it.begin / BLOCK_LENGTH))
        .collect();
    assert_eq!(
        told,
        [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 0),
            (2, 1),
            (2, 2)
        ]
    );
    for block in asked {
        assert!(!picker.piece_blocks_done(block.piece));
        assert_eq!(picker.on_received(PeerKey(1), block), Received::Fresh);
        let (done, end) = (
            picker.piece_blocks_done(block.piece),
            [1, 3, 2][block.piece as usize],
        );
        assert_eq!(done, block.begin / BLOCK_LENGTH == end);
    }
    // Who brought a block is told in its place.
    let from = picker.block_contributors(0);
    assert_eq!(from, [Some(PeerKey(1)), Some(PeerKey(1)), None, None]);
    picker.on_hash_failed(0);
    assert_eq!(pick(&mut picker, 2, Has::All, count(20)).len(), 2);
    picker.on_hash_ok(1);
    picker.assert_sound();
}

#[test]
fn a_piece_with_padding_that_nobody_brings_is_untouched_again() {
    let mut picker = picker(1);
    picker.set_pads(core::iter::once(u64::from(BLOCK_LENGTH)..u64::from(PIECE)));
    picker.seed_joined();
    let asked = pick(&mut picker, 1, Has::All, count(20));
    assert_eq!(asked.len(), 1);
    assert!(picker.on_abort(PeerKey(1), asked[0]));
    assert_eq!(picker.state(0), Some(PieceState::Untouched));
    picker.assert_sound();
}
