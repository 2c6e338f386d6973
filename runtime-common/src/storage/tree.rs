//! Hashes of pieces as BEP 52 has them.

use trackerless_core::metainfo::{Info, merkle};

/// Bytes under one leaf of a hash tree.
const MERKLE_BLOCK: usize = 16 * 1024;

/// The hashes of a piece's blocks of 16 KiB (BEP 52).
#[derive(Default)]
pub(super) struct PieceTree {
    leaves: Vec<merkle::Hash>,
    block: Vec<u8>,
}

impl PieceTree {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = MERKLE_BLOCK - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if now.len() == MERKLE_BLOCK {
                self.leaves.push(merkle::leaf(now));
            } else {
                self.block.extend_from_slice(now);
                if self.block.len() == MERKLE_BLOCK {
                    self.end_block();
                }
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.leaves.push(merkle::leaf(&self.block));
        self.block.clear();
    }

    pub(super) fn finish(mut self, info: &Info, piece: u32) -> merkle::Hash {
        if !self.block.is_empty() {
            self.end_block();
        }
        let file = info.spans(piece, 0, 1).next();
        let file = file.and_then(|span| info.files.get(span.file));
        if file.is_some_and(|file| file.length > u64::from(info.piece_length)) {
            // A piece of a larger file is a tree of full height, the last one too.
            let full = 1usize << merkle::layer_height(info.piece_length);
            self.leaves.resize(full.max(self.leaves.len()), [0; 32]);
        }
        merkle::root(self.leaves, 0)
    }
}
