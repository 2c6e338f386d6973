//! The virtual disk, and content that many hosts share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha1::{Digest as _, Sha1};
use trackerless_core::io::{Digest, JobError, JobResult, Opened, TorrentId};
use trackerless_core::metainfo::Info;
use trackerless_core::swarm::picker::BLOCK_LENGTH;

/// The bytes of a torrent, kept once however many hosts have them.
#[derive(Debug, Clone)]
pub struct Content {
    /// All bytes in piece space.
    pub bytes: Bytes,
    /// Bytes per piece.
    pub piece_length: u32,
}

impl Content {
    /// `length` bytes that depend on `seed` only.
    #[must_use]
    pub fn generate(seed: u64, length: usize, piece_length: u32) -> Self {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut counter = 0;
        while bytes.len() < length {
            bytes.extend_from_slice(&crate::trace::draw(seed, 0xc0de, 0, counter).to_le_bytes());
            counter += 1;
        }
        bytes.truncate(length);
        Self {
            bytes: bytes.into(),
            piece_length,
        }
    }

    /// The SHA-1 of every piece, one after another (BEP 3).
    #[must_use]
    pub fn piece_hashes(&self) -> Vec<u8> {
        let pieces = self.bytes.chunks(self.piece_length as usize);
        pieces
            .flat_map(|piece| <[u8; 20]>::from(Sha1::digest(piece)))
            .collect()
    }
}

/// What one host has on disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    torrents: BTreeMap<TorrentId, OnDisk>,
}

#[derive(Debug)]
struct OnDisk {
    info: Arc<Info>,
    /// Content that was there before the run.
    given: Option<Bytes>,
    pieces: BTreeMap<u32, Vec<(u32, Bytes)>>,
}

impl Disk {
    pub(crate) fn open(
        &mut self,
        torrent: TorrentId,
        info: Arc<Info>,
        given: Option<&Content>,
    ) -> JobResult {
        let mut present = vec![0u8; (info.piece_count as usize).div_ceil(8)];
        if given.is_some() {
            for piece in 0..info.piece_count {
                present[piece as usize / 8] |= 0x80 >> (piece % 8);
            }
        }
        let given = given.map(|content| content.bytes.clone());
        self.torrents.insert(
            torrent,
            OnDisk {
                info,
                given,
                pieces: BTreeMap::new(),
            },
        );
        JobResult::Opened(Box::new(Opened { present }))
    }

    pub(crate) fn write(
        &mut self,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        data: Bytes,
    ) -> JobResult {
        let Some(disk) = self.torrents.get_mut(&torrent) else {
            return JobResult::Failed(JobError::Missing);
        };
        disk.pieces.entry(piece).or_default().push((begin, data));
        JobResult::Written
    }

    pub(crate) fn read(
        &self,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        length: u32,
    ) -> JobResult {
        let read = || {
            let disk = self.torrents.get(&torrent)?;
            let (from, to) = (begin as usize, begin as usize + length as usize);
            if let Some(given) = &disk.given {
                let start = piece as usize * disk.info.piece_length as usize;
                return (start + to <= given.len()).then(|| given.slice(start + from..start + to));
            }
            let parts = disk.pieces.get(&piece).map_or(&[][..], |parts| parts);
            if let [(0, whole)] = parts
                && to <= whole.len()
            {
                return Some(whole.slice(from..to));
            }
            let whole = whole_of(&disk.info, piece, parts)?;
            (to <= whole.len()).then(|| whole.slice(from..to))
        };
        read().map_or(JobResult::Failed(JobError::Missing), JobResult::Read)
    }

    pub(crate) fn hash(&mut self, torrent: TorrentId, piece: u32) -> JobResult {
        let mut hash = || {
            let disk = self.torrents.get_mut(&torrent)?;
            let size = disk.info.piece_size(piece) as usize;
            if let Some(given) = &disk.given {
                let start = piece as usize * disk.info.piece_length as usize;
                return Some(Sha1::digest(given.get(start..start + size)?));
            }
            let parts = disk.pieces.get(&piece).map_or(&[][..], |parts| parts);
            let whole = whole_of(&disk.info, piece, parts)?;
            let digest = Sha1::digest(&whole);
            disk.pieces.insert(piece, vec![(0, whole)]);
            Some(digest)
        };
        match hash() {
            Some(digest) => JobResult::Hashed(Digest::Sha1(digest.into())),
            None => JobResult::Failed(JobError::Missing),
        }
    }

    /// The hash of each block of a piece by itself.
    pub(crate) fn hash_blocks(&mut self, torrent: TorrentId, piece: u32) -> JobResult {
        let size = match self.torrents.get(&torrent) {
            Some(disk) => disk.info.piece_size(piece),
            None => return JobResult::Failed(JobError::Missing),
        };
        // A piece that has been hashed is whole and can be read in one.
        let JobResult::Hashed(_) = self.hash(torrent, piece) else {
            return JobResult::Failed(JobError::Missing);
        };
        match self.read(torrent, piece, 0, size) {
            JobResult::Read(whole) => {
                let blocks = whole.chunks(BLOCK_LENGTH as usize);
                JobResult::BlocksHashed(blocks.map(|block| Sha1::digest(block).into()).collect())
            }
            other => other,
        }
    }

    pub(crate) fn discard(&mut self, torrent: TorrentId, piece: u32) -> JobResult {
        if let Some(disk) = self.torrents.get_mut(&torrent) {
            disk.pieces.remove(&piece);
        }
        JobResult::Discarded
    }

    pub(crate) fn close(&mut self, torrent: TorrentId) -> JobResult {
        self.torrents.remove(&torrent);
        JobResult::ClosedStorage
    }
}

/// The piece of `parts`, later ones over earlier ones; `None` while bytes are missing.
/// A whole piece of what was written; what lies in pad files (BEP 47) is zeros.
fn whole_of(info: &Info, piece: u32, parts: &[(u32, Bytes)]) -> Option<Bytes> {
    let size = info.piece_size(piece);
    let mut at = 0;
    let mut pads = Vec::new();
    for span in info.spans(piece, 0, size) {
        let end = at + span.len as usize;
        if span.pad {
            pads.push((at, end));
        }
        at = end;
    }
    assemble(parts, pads, size as usize)
}

/// `size` bytes of these parts, and of zeros from the first to the end of each of `pads`; nothing
/// when some are missing.
fn assemble(parts: &[(u32, Bytes)], pads: Vec<(usize, usize)>, size: usize) -> Option<Bytes> {
    let mut whole = BytesMut::zeroed(size);
    let mut covered = pads;
    for (begin, data) in parts {
        let begin = *begin as usize;
        whole
            .get_mut(begin..begin + data.len())?
            .copy_from_slice(data);
        covered.push((begin, begin + data.len()));
    }
    covered.sort_unstable();
    let mut reached = 0;
    for (begin, end) in covered {
        if begin > reached {
            return None;
        }
        reached = reached.max(end);
    }
    (reached == size).then(|| whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_with_a_hole_is_not_whole() {
        let part = |at: u32, len: usize| (at, Bytes::from(vec![at as u8 + 1; len]));
        assert_eq!(
            assemble(&[part(4, 4), part(0, 4)], vec![], 8).unwrap()[..],
            [1, 1, 1, 1, 5, 5, 5, 5]
        );
        assert_eq!(assemble(&[part(5, 3), part(0, 4)], vec![], 8), None);
        assert_eq!(assemble(&[part(0, 4)], vec![], 8), None);
        assert_eq!(assemble(&[part(6, 4)], vec![], 8), None);
        let padded = assemble(&[part(0, 2)], vec![(4, 8), (2, 4)], 8).unwrap();
        assert_eq!(padded[..], [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(assemble(&[part(0, 2)], vec![(3, 8)], 8), None);
    }
}
