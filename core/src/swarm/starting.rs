//! Peers that have said what they have: of a torrent of a few million pieces one at a time, and
//! their pieces in slices.
//!
//! How common each piece is may be known a little late. A peer that comes and goes again and again
//! with a long bitfield costs the slices of an `availability_pause`, however often it comes.

use alloc::vec::Vec;

use super::peer::Pieces;
use super::{Event, Phase, Swarm};
use crate::time::Instant;

/// Pieces that are looked at in one step where bitfields are read or compared.
const PIECES_PER_STEP: u32 = 64;

/// What has been counted of late.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// When it began; `None` before the first time.
    since: Option<Instant>,
    pieces: u32,
}

impl Swarm {
    /// Starts peers that came before it was known what we have.
    pub(super) fn start_more(&mut self, events: &mut Vec<Event>) {
        if self.phase != Phase::Active {
            return;
        }
        let Some(content) = &self.content else { return };
        let pieces = self.config.swarm.pieces_per_input;
        let steps = content.info.piece_count / PIECES_PER_STEP;
        let peers = pieces.checked_div(steps).unwrap_or(pieces).max(1);
        for _ in 0..peers {
            let Some(conn) = self.to_start.pop_front() else {
                return;
            };
            self.start_peer(conn, events);
        }
        self.unfinished |= !self.to_start.is_empty();
    }

    /// Every peer is to be started.
    pub(super) fn start_all(&mut self, events: &mut Vec<Event>) {
        self.to_start = self.peers.keys().copied().collect();
        self.start_more(events);
    }

    /// Counts pieces of peers that came or left, as many as may be for now.
    pub(super) fn count_more(&mut self) {
        let config = &self.config.swarm;
        let Some(content) = self.content.as_mut().filter(|it| it.picker.is_counting()) else {
            return;
        };
        let counted = &mut self.counted;
        let is_over = |since: Instant| since + config.availability_pause <= self.now;
        if counted.since.is_none_or(is_over) {
            *counted = Counted {
                since: Some(self.now),
                pieces: 0,
            };
        }
        let rest = config.availability_slice.saturating_sub(counted.pieces);
        let (peers, by_key) = (&self.peers, &self.by_key);
        counted.pieces += content.picker.count(rest, |key| {
            let peer = by_key.get(&key).and_then(|conn| peers.get(conn));
            match peer.map(|peer| &peer.pieces) {
                Some(Pieces::Some(bits)) => Some(bits),
                _ => None,
            }
        });
    }

    /// When more may be counted, if there is more.
    pub(super) fn counting_timeout(&self) -> Option<Instant> {
        let content = self.content.as_ref()?;
        let since = self
            .counted
            .since
            .filter(|_| content.picker.is_counting())?;
        Some(since + self.config.swarm.availability_pause)
    }
}
