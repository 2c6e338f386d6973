//! Metadata: fetched from peers, and served to them (BEP 9).

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Event, Phase, Swarm};
use crate::io::{ConnId, JobError};
use crate::metadata::{Message as Metadata, Outcome, PIECE_LEN};
use crate::metainfo::Info;
use crate::time::Instant;
use crate::wire::Message;

/// Our number for `ut_metadata`.
pub(super) const UT_METADATA: u8 = crate::wire::extension::UT_METADATA;

impl Swarm {
    pub(super) fn on_metadata_message(
        &mut self,
        conn: ConnId,
        message: Metadata,
        events: &mut Vec<Event>,
    ) {
        let Some(fetch) = &mut self.fetch else {
            if let Metadata::Request { piece } = message {
                self.serve_metadata(conn, piece, events);
            }
            return;
        };
        match message {
            Metadata::Request { piece } => self.serve_metadata(conn, piece, events),
            Metadata::Data { piece, total_size, data } => {
                let outcome = fetch.on_data(self.now, conn, piece, total_size, &data);
                self.on_fetched(outcome, events);
            }
            Metadata::Reject { piece } => {
                fetch.on_reject(self.now, conn, piece);
                self.fetch_more = true;
            }
        }
    }

    /// A peer says that it has the metadata, and how large it is.
    pub(super) fn on_metadata_offer(&mut self, conn: ConnId, size: Option<u32>) {
        let offers = self.peers.get(&conn).is_some_and(|peer| peer.metadata);
        if let (Some(fetch), Some(size), true) = (&mut self.fetch, size, offers) {
            self.fetch_more |= fetch.peer_offers(conn, size);
        }
    }

    pub(super) fn fetch_peer_left(&mut self, conn: ConnId) {
        if let Some(fetch) = &mut self.fetch {
            fetch.peer_gone(conn);
            self.fetch_more = true;
        }
    }

    /// Asks peers for metadata, as far as they may be asked.
    pub(super) fn ask_for_metadata(&mut self, events: &mut Vec<Event>) {
        let now = self.now;
        let due = |at: Instant| at <= now;
        if let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.next_timeout().is_some_and(due))
        {
            let outcome = fetch.tick(now);
            self.on_fetched(outcome, events);
        }
        let Some(fetch) = self.fetch.as_mut().filter(|_| self.fetch_more) else { return };
        self.fetch_more = false;
        for conn in self.peers.keys().copied() {
            for piece in fetch.next_requests(now, conn) {
                let request = Message::Metadata(Metadata::Request { piece });
                events.push(Event::Send(conn, request));
            }
        }
    }

    pub(super) fn metadata_timeout(&self) -> Option<Instant> {
        self.fetch.as_ref().and_then(crate::metadata::Fetch::next_timeout)
    }

    fn on_fetched(&mut self, outcome: Outcome, events: &mut Vec<Event>) {
        self.fetch_more = true;
        match outcome {
            Outcome::Pending => {}
            Outcome::BadHash { ban } => {
                if let Some(conn) = ban {
                    self.ban(conn, events);
                }
            }
            Outcome::Complete(raw) => {
                self.fetch = None;
                match Info::parse(raw) {
                    Ok(info) => {
                        self.mark_dirty();
                        self.on_metadata(Arc::new(info), events);
                        if self.phase == Phase::Opening {
                            self.save(events);
                        }
                    }
                    // The hash is right, so every peer would send the same.
                    Err(_) => self.storage_failed(None, JobError::Unsupported, events),
                }
            }
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
                .checked_mul(PIECE_LEN as usize)
                .filter(|start| *start < raw.len())?;
            Some((
                raw.slice(start..raw.len().min(start + PIECE_LEN as usize)),
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

    /// Pieces that saved state vouches for.
    pub(super) fn take_trusted(&mut self) -> Option<super::bitfield::Bitfield> {
        None
    }

    /// What the next start should know.
    pub(super) fn resume_data(&self) -> Option<Bytes> {
        None
    }
}
