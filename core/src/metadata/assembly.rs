//! The pieces of one claimed size, and what a job makes of them once all are there.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::PIECE_LEN;
use crate::id::InfoHashes;
use crate::io::ConnId;
use crate::metainfo::{Info, Rules};
use crate::time::{Duration, Instant};

/// Metadata of which every piece has arrived. Hashing and reading it takes as long as it is
/// large, so it is a job: [`crate::io::Work::CheckMetadata`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    hashes: InfoHashes,
    rules: Rules,
    parts: Vec<Bytes>,
}

/// What a job found out about assembled metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Its hash is right, and so is all that it says.
    Right(Arc<Info>),
    /// Its hash is right, and it is not the metadata of a torrent that can be had.
    Unreadable,
    /// It is not what was asked for.
    WrongHash,
}

impl Assembled {
    /// `parts` one after another are said to have `hashes`, and are to be read by `rules`.
    #[must_use]
    pub fn new(hashes: InfoHashes, rules: Rules, parts: Vec<Bytes>) -> Self {
        Self {
            hashes,
            rules,
            parts,
        }
    }

    /// What its hash has to be.
    #[must_use]
    pub fn hashes(&self) -> &InfoHashes {
        &self.hashes
    }

    /// The pieces as they arrived, in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Joins, hashes and reads it: for a thread that may take its time.
    #[must_use]
    pub fn check(&self) -> Checked {
        let length = self.parts.iter().map(Bytes::len).sum();
        let mut raw = Vec::with_capacity(length);
        for part in &self.parts {
            raw.extend_from_slice(part);
        }
        let is_v1 = |v1| v1 == <[u8; 20]>::from(Sha1::digest(&raw));
        let is_v2 = |v2| v2 == <[u8; 32]>::from(Sha256::digest(&raw));
        if !self.hashes.v1().is_none_or(is_v1) || !self.hashes.v2().is_none_or(is_v2) {
            return Checked::WrongHash;
        }
        match Info::parse_with(raw.into(), &self.rules) {
            Ok(info) if self.hashes.fit(&info.hashes) => Checked::Right(Arc::new(info)),
            _ => Checked::Unreadable,
        }
    }
}

/// The pieces of one claimed size.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) pieces: Vec<Piece>,
    pub(super) missing: usize,
    /// Wrong hashes and unanswered requests: the assembly with most gives way to others.
    pub(super) failures: u32,
    /// When it got its slot.
    pub(super) began: Instant,
    /// A size that waits may take its slot from then on.
    pub(super) turn_ends: Instant,
    /// It waited for its slot, so that it keeps it until its turn ends.
    pub(super) waited: bool,
    /// One peer at a time may contribute, once there was a wrong hash.
    pub(super) solo: Option<Solo>,
    /// A job looks at it: who contributed.
    pub(super) checking: Option<Vec<ConnId>>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Piece {
    pub(super) requested: u32,
    pub(super) data: Option<(ConnId, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Solo {
    /// Who contributes, and until when nobody else gets a turn.
    pub(super) owner: Option<(ConnId, Instant)>,
    /// Turns so far that were of use and too short.
    pub(super) turns: u8,
}

impl Assembly {
    pub(super) fn new(size: u32, now: Instant, turn_ends: Instant) -> Self {
        let count = size.div_ceil(PIECE_LEN) as usize;
        Self {
            pieces: alloc::vec![Piece::default(); count],
            missing: count,
            failures: 0,
            began: now,
            turn_ends,
            waited: false,
            solo: None,
            checking: None,
        }
    }

    /// Pieces that are there.
    pub(super) fn received(&self) -> usize {
        self.pieces.len() - self.missing
    }

    /// Pieces in a thousand seconds since it has its slot.
    pub(super) fn rate(&self, now: Instant) -> u128 {
        let micros = now.saturating_since(self.began).as_micros().max(1);
        self.received() as u128 * 1_000_000_000 / micros
    }

    /// Whether at least a piece a second came: what may be expected of whoever means it.
    pub(super) fn used(&self, time: Duration) -> bool {
        self.received() as u64 >= time.as_secs().max(1)
    }

    /// The only contributor of this time, and when its turn ends.
    pub(super) fn solo_turn(&self) -> Option<(ConnId, Instant)> {
        self.solo.filter(|_| self.checking.is_none())?.owner
    }

    pub(super) fn admits(&self, conn: ConnId) -> bool {
        let owner = self.solo.and_then(|solo| solo.owner);
        self.checking.is_none() && owner.is_none_or(|(owner, _)| owner == conn)
    }

    pub(super) fn unrequest(&mut self, piece: u32) {
        if let Some(piece) = self.pieces.get_mut(piece as usize) {
            piece.requested = piece.requested.saturating_sub(1);
        }
    }

    /// The peer stops contributing. Alone, it takes its pieces along.
    pub(super) fn release(&mut self, conn: ConnId) {
        let Some(solo) = &mut self.solo else { return };
        if solo.owner.is_some_and(|(owner, _)| owner == conn) && self.checking.is_none() {
            solo.owner = None;
            self.empty();
        }
    }

    /// Everything is there: hands it over, and remembers whose it is.
    pub(super) fn take(&mut self, hashes: InfoHashes, rules: Rules) -> Assembled {
        let all = self.pieces.iter_mut().filter_map(|it| it.data.take());
        let (mut contributors, parts): (Vec<ConnId>, Vec<Bytes>) = all.unzip();
        contributors.sort_unstable();
        contributors.dedup();
        self.checking = Some(contributors);
        Assembled::new(hashes, rules, parts)
    }

    /// Begins anew, with one peer at a time.
    pub(super) fn begin_anew(&mut self) -> Vec<ConnId> {
        self.failures = self.failures.saturating_add(1);
        self.solo.get_or_insert(Solo {
            owner: None,
            turns: 0,
        });
        if let Some(solo) = &mut self.solo {
            solo.owner = None;
        }
        self.empty();
        self.checking.take().unwrap_or_default()
    }

    fn empty(&mut self) {
        self.pieces.fill(Piece::default());
        self.missing = self.pieces.len();
    }
}
