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

#[test]
fn the_rarest_piece_comes_first_and_is_finished_first() {
    let mut picker = picker(10);
    let all = Bitfield::full(10);
    picker.peer_joined(&all);
    picker.peer_joined(&field(10, &[0, 1, 2, 3, 4, 6, 7, 8, 9]));
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
            assert_eq!(picker.on_hash_ok(block.piece), [PeerKey(1)]);
        }
    }
    assert!(picker.is_complete() && !picker.in_endgame());
    assert_eq!((picker.missing(), picker.wanted_bytes_left()), (0, 0));
    assert!(pick(&mut picker, 1, Has::All, count(1)).is_empty());
}
