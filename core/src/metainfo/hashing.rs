//! Hashing what a [`Plan`] lists, piece by piece: each piece is a job of its own, so that a host
//! hashes on as many threads as it has, with no more than a buffer for each.

use alloc::vec::Vec;

use sha1::{Digest as _, Sha1};

use super::Version;
use super::build::{BuildError, Hashes, Plan};
use super::merkle::{self, FileHashes, Hash, MerkleHasher};

/// Bytes of one source, or of padding, that lie in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Index into [`Plan::sources`]; `None` for padding, which is zeros.
    pub source: Option<usize>,
    /// First byte within the source.
    pub offset: u64,
    /// Bytes, at least one.
    pub length: u32,
}

/// The hashes of one piece, as far as the format has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PieceHash {
    sha1: Option<[u8; 20]>,
    merkle: Option<Hash>,
}

impl Plan {
    /// Pieces that are to be hashed. In v2 and hybrid torrents each holds bytes of one file only.
    #[must_use]
    pub fn piece_count(&self) -> u32 {
        let end = self.stretches.last();
        let end = end.map_or(0, |last| last.offset + last.length);
        // `new` refuses more.
        u32::try_from(end.div_ceil(self.piece_length.into())).unwrap_or(u32::MAX)
    }

    /// What piece `index` is made of, in order; nothing past the end.
    pub fn parts(&self, index: u32) -> impl Iterator<Item = Part> + '_ {
        let start = u64::from(index) * u64::from(self.piece_length);
        let end = start + u64::from(self.piece_length);
        let first = self
            .stretches
            .partition_point(|stretch| stretch.offset + stretch.length <= start);
        self.stretches[first..]
            .iter()
            .take_while(move |stretch| stretch.offset < end)
            .filter(|stretch| stretch.length > 0)
            .map(move |stretch| {
                let from = start.max(stretch.offset);
                let to = end.min(stretch.offset + stretch.length);
                Part {
                    source: stretch.source,
                    offset: from - stretch.offset,
                    length: (to - from) as u32,
                }
            })
    }

    /// Hashes piece `index`, whose sources' bytes are given to it in the order of
    /// [`Plan::parts`]; padding is its own affair.
    #[must_use]
    pub fn piece_hasher(&self, index: u32) -> PieceHasher {
        let parts = || self.parts(index);
        let length = |padding: bool| {
            let those = parts().filter(move |part| part.source.is_none() == padding);
            those.map(|part| part.length).sum()
        };
        let whole_file = parts()
            .find_map(|part| part.source)
            .is_some_and(|source| self.sources[source].length <= u64::from(self.piece_length));
        PieceHasher {
            sha1: (self.version != Version::V2).then(Sha1::new),
            merkle: (self.version != Version::V1).then(|| MerkleHasher::new(self.piece_length)),
            whole_file,
            wanted: length(false),
            padding: length(true),
        }
    }

    /// The hashes of the content, from those of all pieces in order.
    ///
    /// # Errors
    /// [`BuildError::Hashes`] when their number is not that of the pieces.
    pub fn join(&self, pieces: &[PieceHash]) -> Result<Hashes, BuildError> {
        if pieces.len() != self.piece_count() as usize {
            return Err(BuildError::Hashes);
        }
        let mut hashes = Hashes::default();
        if self.version != Version::V2 {
            hashes.pieces.reserve_exact(pieces.len() * 20);
            for piece in pieces {
                let sha1 = piece.sha1.ok_or(BuildError::Hashes)?;
                hashes.pieces.extend_from_slice(&sha1);
            }
        }
        if self.version != Version::V1 {
            let files = self.stretches.iter().filter(|it| it.source.is_some());
            for file in files {
                hashes
                    .files
                    .push(self.file_hashes(file.offset, file.length, pieces)?);
            }
        }
        Ok(hashes)
    }

    fn file_hashes(
        &self,
        offset: u64,
        length: u64,
        pieces: &[PieceHash],
    ) -> Result<FileHashes, BuildError> {
        let piece_length = u64::from(self.piece_length);
        let first = (offset.div_ceil(piece_length)) as usize;
        let count = length.div_ceil(piece_length) as usize;
        let layer = pieces.get(first..first + count).unwrap_or_default();
        let layer: Option<Vec<Hash>> = layer.iter().map(|piece| piece.merkle).collect();
        let layer = layer.ok_or(BuildError::Hashes)?;
        let height = merkle::layer_height(self.piece_length);
        Ok(match layer[..] {
            _ if layer.len() != count => return Err(BuildError::Hashes),
            [] => FileHashes::default(),
            // The tree of a small file is only as high as the file needs.
            [whole] => FileHashes {
                root: Some(whole),
                layer: Vec::new(),
                length,
            },
            _ => FileHashes {
                root: Some(merkle::root(layer.iter().copied(), height)),
                layer: layer.concat(),
                length,
            },
        })
    }
}

/// Hashes one piece of a [`Plan`]; see [`Plan::piece_hasher`].
#[derive(Debug, Clone)]
pub struct PieceHasher {
    sha1: Option<Sha1>,
    merkle: Option<MerkleHasher>,
    /// The piece is all of its file.
    whole_file: bool,
    /// Bytes of sources still to come.
    wanted: u32,
    /// Zeros after them: padding ends a piece.
    padding: u32,
}

impl PieceHasher {
    /// Adds the bytes that come next. Bytes beyond the piece are ignored.
    pub fn update(&mut self, data: &[u8]) {
        let data = &data[..data.len().min(self.wanted as usize)];
        self.wanted -= data.len() as u32;
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(data);
        }
        if let Some(merkle) = &mut self.merkle {
            merkle.update(data);
        }
    }

    /// The hashes.
    ///
    /// # Errors
    /// [`BuildError::Hashes`] when bytes of the sources are missing.
    pub fn finish(mut self) -> Result<PieceHash, BuildError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        if self.wanted > 0 {
            return Err(BuildError::Hashes);
        }
        if let Some(sha1) = &mut self.sha1 {
            while self.padding > 0 {
                let now = self.padding.min(ZEROS.len() as u32);
                sha1.update(&ZEROS[..now as usize]);
                self.padding -= now;
            }
        }
        Ok(PieceHash {
            sha1: self.sha1.map(|sha1| sha1.finalize().into()),
            merkle: self
                .merkle
                .map(|merkle| merkle.finish_piece(self.whole_file)),
        })
    }
}
