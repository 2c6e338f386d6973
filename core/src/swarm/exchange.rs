//! Metadata: fetched from peers, and served to them (BEP 9).

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Event, Swarm};
use crate::io::ConnId;
use crate::metadata::Message as Metadata;
use crate::time::Instant;
use crate::wire::Message;

/// Our number for `ut_metadata`.
pub(super) const UT_METADATA: u8 = 2;
/// Bytes of a piece of metadata; the last one may be shorter.
const PIECE: usize = 16 * 1024;

impl Swarm {
    pub(super) fn on_metadata_message(
        &mut self,
        conn: ConnId,
        message: Metadata,
        events: &mut Vec<Event>,
    ) {
        match message {
            Metadata::Request { piece } => self.serve_metadata(conn, piece, events),
            Metadata::Data { .. } | Metadata::Reject { .. } => {}
        }
    }

    /// Sends a piece of the metadata, as long as the peer's connection has room for it.
    fn serve_metadata(&mut self, conn: ConnId, piece: u32, events: &mut Vec<Event>) {
        let window = u64::from(self.config.wire.send_window);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let raw = self.info.as_ref().map(|info| &info.raw);
        let data = raw.and_then(|raw| {
            let start = (piece as usize)
                .checked_mul(PIECE)
                .filter(|start| *start < raw.len())?;
            Some((
                raw.slice(start..raw.len().min(start + PIECE)),
                raw.len() as u32,
            ))
        });
        let data = data.filter(|(data, _)| peer.unsent + data.len() as u64 <= window);
        let reply = match data {
            Some((data, total_size)) => {
                peer.unsent += data.len() as u64;
                self.outbound += data.len() as u64;
                Metadata::Data {
                    piece,
                    total_size,
                    data,
                }
            }
            None => Metadata::Reject { piece },
        };
        events.push(Event::Send(conn, Message::Metadata(reply)));
    }

    pub(super) fn on_metadata_offer(&mut self, _conn: ConnId, _size: Option<u32>) {}

    pub(super) fn fetch_peer_left(&mut self, _conn: ConnId) {}

    pub(super) fn ask_for_metadata(&mut self, _events: &mut Vec<Event>) {}

    pub(super) fn metadata_timeout(&self) -> Option<Instant> {
        None
    }

    /// Pieces that saved state vouches for.
    pub(super) fn take_trusted(&mut self) -> Option<super::bitfield::Bitfield> {
        None
    }

    /// What the next start should know.
    pub(super) fn resume_data(&self) -> Option<Bytes> {
        None
    }
}
