//! The hash trees of BEP 52: SHA-256 over blocks of 16 KiB, binary, padded with zero hashes.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use super::info::BLOCK;

/// A node of a tree.
pub type Hash = [u8; 32];

/// How many levels the hash of a piece lies above its blocks; `piece_length` is a power of two of
/// at least 16 KiB.
#[must_use]
pub fn layer_height(piece_length: u32) -> u32 {
    (piece_length / BLOCK).max(1).ilog2()
}

/// The hash of one block of content, at most 16 KiB.
#[must_use]
pub fn leaf(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

/// The node above two others.
#[must_use]
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The root of a tree `height` levels high of which no block exists; its leaves are zero.
#[must_use]
pub fn pad_hash(height: u32) -> Hash {
    (0..height).fold([0; 32], |hash, _| parent(&hash, &hash))
}

/// The root above `hashes`, which lie `height` levels above the blocks; padded to a power of two.
/// No hashes at all have the root of padding.
#[must_use]
pub fn root(hashes: impl IntoIterator<Item = Hash>, height: u32) -> Hash {
    let mut tree = Tree::new(height);
    hashes.into_iter().for_each(|hash| tree.push(hash));
    tree.finish(0)
}

/// [`root`] of hashes that lie one after another in `layer`.
#[must_use]
pub fn root_of_layer(layer: &[u8], height: u32) -> Hash {
    root(layer.as_chunks::<32>().0.iter().copied(), height)
}

/// A tree in the making: one finished subtree for every bit of the number of hashes pushed.
#[derive(Debug, Clone)]
struct Tree {
    /// Subtrees and their heights above the blocks, highest first, no two alike.
    subtrees: Vec<(u32, Hash)>,
    base: u32,
}

impl Tree {
    fn new(base: u32) -> Self {
        Self {
            subtrees: Vec::new(),
            base,
        }
    }

    fn push(&mut self, hash: Hash) {
        self.push_at(self.base, hash);
    }

    fn push_at(&mut self, mut height: u32, mut hash: Hash) {
        while let Some((_, left)) = self.subtrees.pop_if(|(other, _)| *other == height) {
            hash = parent(&left, &hash);
            height += 1;
        }
        self.subtrees.push((height, hash));
    }

    /// The root, padded until the tree is at least `height` levels high.
    fn finish(mut self, height: u32) -> Hash {
        loop {
            match self.subtrees[..] {
                [] => return pad_hash(height.max(self.base)),
                [(top, hash)] if top >= height => return hash,
                [.., (lowest, _)] => self.push_at(lowest, pad_hash(lowest)),
            }
        }
    }
}

/// Hashes the content of one file as it comes, block by block.
#[derive(Debug, Clone)]
pub struct MerkleHasher {
    piece_height: u32,
    piece_length: u64,
    block: Sha256,
    block_filled: u32,
    piece: Tree,
    length: u64,
    layer: Vec<Hash>,
}

/// What [`MerkleHasher`] finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileHashes {
    /// The root of the file; `None` for an empty one.
    pub root: Option<Hash>,
    /// One hash for each piece, 32 bytes each; empty unless the file is larger than a piece.
    pub layer: Vec<u8>,
    /// Bytes hashed.
    pub length: u64,
}

impl MerkleHasher {
    /// For pieces of `piece_length` bytes: a power of two of at least 16 KiB.
    #[must_use]
    pub fn new(piece_length: u32) -> Self {
        Self {
            piece_height: layer_height(piece_length),
            piece_length: u64::from(BLOCK) << layer_height(piece_length),
            block: Sha256::new(),
            block_filled: 0,
            piece: Tree::new(0),
            length: 0,
            layer: Vec::new(),
        }
    }

    /// Adds the bytes that come next.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = (BLOCK - self.block_filled) as usize;
            let (now, later) = data.split_at(room.min(data.len()));
            self.block.update(now);
            self.block_filled += now.len() as u32;
            self.length += now.len() as u64;
            if self.block_filled == BLOCK {
                self.end_block();
                if self.length.is_multiple_of(self.piece_length) {
                    self.end_piece();
                }
            }
            data = later;
        }
    }

    /// The hashes of everything added.
    #[must_use]
    pub fn finish(mut self) -> FileHashes {
        if self.block_filled > 0 {
            self.end_block();
        }
        let (root, layer) = if self.length == 0 {
            (None, Vec::new())
        } else if self.length <= self.piece_length {
            // The tree of a small file is only as high as the file needs.
            let whole = self.layer.pop();
            (whole.or_else(|| Some(self.piece.finish(0))), Vec::new())
        } else {
            if !self.piece.subtrees.is_empty() {
                self.end_piece();
            }
            let root = root(self.layer.iter().copied(), self.piece_height);
            (Some(root), self.layer.concat())
        };
        FileHashes {
            root,
            layer,
            length: self.length,
        }
    }

    /// The hash of one piece of a file, of which at most `piece_length` bytes were added: padded
    /// to the height of a piece, unless the piece is the whole file.
    pub(super) fn finish_piece(mut self, whole_file: bool) -> Hash {
        if self.block_filled > 0 {
            self.end_block();
        }
        let height = if whole_file { 0 } else { self.piece_height };
        match self.layer.pop() {
            Some(full) => full,
            None => self.piece.finish(height),
        }
    }

    fn end_block(&mut self) {
        self.piece.push(self.block.finalize_reset().into());
        self.block_filled = 0;
    }

    fn end_piece(&mut self) {
        let piece = core::mem::replace(&mut self.piece, Tree::new(0));
        self.layer.push(piece.finish(self.piece_height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;
    use quickcheck::quickcheck;
    use std::vec;

    /// The definition: leaves padded with zeros to a power of two, folded level by level.
    fn folded(mut level: Vec<Hash>, pad: Hash, width: usize) -> Hash {
        level.resize(width, pad);
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| parent(&pair[0], &pair[1]))
                .collect();
        }
        level[0]
    }

    #[test]
    fn padding_hashes_are_those_of_zero_trees() {
        assert_eq!(pad_hash(0), [0; 32]);
        assert_eq!(
            hex(&pad_hash(1)),
            "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"
        );
        assert_eq!(pad_hash(4), folded(vec![[0; 32]], [0; 32], 16));
        assert_eq!(root([], 3), pad_hash(3));
        assert_eq!(root([[7; 32]], 3), [7; 32]);
    }

    #[test]
    fn heights_of_layers() {
        assert_eq!(layer_height(16 << 10), 0);
        assert_eq!(layer_height(64 << 10), 2);
        assert_eq!(layer_height(16 << 20), 10);
    }

    quickcheck! {
        fn a_file_hashed_as_it_comes_has_the_hashes_of_the_definition(
            length: u32, height: u8, chunk: u16
        ) -> bool {
            let piece_length = BLOCK << (height % 3);
            let blocks_per_piece = (piece_length / BLOCK) as usize;
            let data: Vec<u8> = (0..length % 400_000).map(|at| (at % 251) as u8).collect();
            let mut hasher = MerkleHasher::new(piece_length);
            data.chunks(usize::from(chunk).max(1)).for_each(|chunk| hasher.update(chunk));
            let hashes = hasher.finish();

            let leaves: Vec<Hash> = data.chunks(BLOCK as usize).map(leaf).collect();
            let whole = (!leaves.is_empty())
                .then(|| folded(leaves.clone(), [0; 32], leaves.len().next_power_of_two()));
            let layer: Vec<u8> = leaves
                .chunks(blocks_per_piece)
                .flat_map(|piece| folded(piece.to_vec(), [0; 32], blocks_per_piece))
                .collect();
            let large = data.len() > piece_length as usize;
            hashes.root == whole
                && hashes.length == data.len() as u64
                && hashes.layer == if large { layer } else { Vec::new() }
                && (!large
                    || Some(root_of_layer(&hashes.layer, layer_height(piece_length))) == whole)
        }
    }
}
