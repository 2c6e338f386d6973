//! Metadata: fetched from peers, and served to them (BEP 9).

use alloc::vec::Vec;

use bytes::Bytes;

use super::bitfield::Bitfield;
use super::peer::Peer;
use super::{Event, Job, Pending, Phase, Swarm};
use crate::event::PeerSource;
use crate::io::{ConnId, JobError, JobResult};
use crate::metadata::{self, Message as Metadata, PIECE_LEN};
use crate::resume::Resume;
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
        match message {
            Metadata::Request { piece } => self.serve_metadata(conn, piece, events),
            Metadata::Data {
                piece,
                total_size,
                data,
            } => {
                if self.fetch.is_some()
                    && let Some(peer) = self.peers.get_mut(&conn)
                {
                    peer.on_flow(self.now, data.len() as u64);
                }
                let data = &data;
                let input = metadata::Input::Data {
                    conn,
                    piece,
                    total_size,
                    data,
                };
                self.fetch_input(input, events);
            }
            Metadata::Reject { piece } => {
                self.fetch_input(metadata::Input::Rejected { conn, piece }, events);
            }
        }
    }

    /// Hands an input to the fetch of metadata, if there is one, and does what it says.
    pub(super) fn fetch_input(&mut self, input: metadata::Input<'_>, events: &mut Vec<Event>) {
        let Some(fetch) = &mut self.fetch else {
            return;
        };
        let mut told = Vec::new();
        fetch.handle(self.now, input, &mut told);
        for event in told {
            self.on_fetched(event, events);
        }
    }

    /// A peer says that it has the metadata, and how large it is.
    pub(super) fn on_metadata_offer(
        &mut self,
        conn: ConnId,
        size: Option<u32>,
        events: &mut Vec<Event>,
    ) {
        let offers = self.peers.get(&conn).is_some_and(|peer| peer.metadata);
        if let (Some(size), true) = (size, offers) {
            self.fetch_input(metadata::Input::Offered { conn, size }, events);
        }
    }

    /// Asks peers for metadata, as far as they may be asked.
    pub(super) fn ask_for_metadata(&mut self, events: &mut Vec<Event>) {
        let now = self.now;
        let due = |at: Instant| at <= now;
        if self.metadata_timeout().is_some_and(due) {
            self.fetch_input(metadata::Input::Tick, events);
        }
        if !core::mem::take(&mut self.fetch_more) {
            return;
        }
        let Some(fetch) = &mut self.fetch else {
            return;
        };
        let mut told = Vec::new();
        for conn in self.peers.keys().copied() {
            fetch.handle(now, metadata::Input::Ask { conn }, &mut told);
        }
        for event in told {
            self.on_fetched(event, events);
        }
    }

    pub(super) fn metadata_timeout(&self) -> Option<Instant> {
        self.fetch
            .as_ref()
            .and_then(crate::metadata::Fetch::next_timeout)
    }

    fn on_fetched(&mut self, event: metadata::Event, events: &mut Vec<Event>) {
        match event {
            metadata::Event::MayAsk => self.fetch_more = true,
            metadata::Event::Request { conn, piece } => {
                let request = Message::Metadata(Metadata::Request { piece });
                events.push(Event::Send(conn, request));
            }
            metadata::Event::BadHash { ban } => {
                if let Some(conn) = ban {
                    self.ban(conn, events);
                }
            }
            metadata::Event::Check { size, assembled } => {
                let job = Job::CheckMetadata(assembled);
                self.job(Pending::Metadata { size }, job, events);
            }
            metadata::Event::Complete(info) => {
                self.fetch = None;
                self.mark_dirty();
                self.on_metadata(info, events);
                self.offer_metadata(events);
                if self.phase == Phase::Opening {
                    self.save(events);
                }
            }
            // The hash is right, so every peer would send the same.
            metadata::Event::Unreadable => self.storage_failed(None, JobError::Unsupported, events),
        }
    }

    /// A job has looked at the metadata of one claimed size.
    pub(super) fn on_metadata_checked(
        &mut self,
        size: u32,
        result: JobResult,
        events: &mut Vec<Event>,
    ) {
        if self.fetch.is_none() {
            return;
        }
        match result {
            JobResult::Metadata(checked) => {
                self.fetch_input(metadata::Input::Checked { size, checked }, events);
            }
            JobResult::Failed(error) => self.storage_failed(None, error, events),
            _ => self.storage_failed(None, JobError::Io, events),
        }
    }

    /// Tells peers that joined before that the metadata can be had from us now, and that peers
    /// are no longer exchanged if it says so.
    fn offer_metadata(&mut self, events: &mut Vec<Event>) {
        let exchanges = self.exchanges_peers();
        let concerned = |peer: &Peer| peer.metadata || (peer.offered_pex && !exchanges);
        let told = self.peers.iter().filter(|(_, peer)| concerned(peer));
        let conns: Vec<_> = told.map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.send_extension_handshake(conn, events);
        }
    }

    /// Puts a piece of the metadata into the line of what a peer is served, if there is such a
    /// piece and the line has room.
    fn serve_metadata(&mut self, conn: ConnId, piece: u32, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let raw = self.info.as_ref().map(|info| &info.raw);
        let most = usize::from(self.config.swarm.max_served_queue);
        let exists = raw.is_some_and(|raw| part_of(raw, piece).is_some());
        if exists && peer.queue.len() + peer.metadata_queue.len() < most {
            peer.metadata_queue.push_back(piece);
            self.enqueue(conn);
        } else {
            let reject = Message::Metadata(Metadata::Reject { piece });
            events.push(Event::Send(conn, reject));
        }
    }

    /// Takes over what an earlier run saved.
    pub(super) fn read_resume(&mut self) {
        let hash = self.hashes.short();
        self.options
            .resume
            .take_if(|resume| resume.info_hash != hash);
        let Some(resume) = &mut self.options.resume else {
            return;
        };
        // The metadata came with the command, if it was there.
        resume.info = None;
        for peer in core::mem::take(&mut resume.peers) {
            self.known
                .on_found(&self.config.swarm, PeerSource::Resume, peer);
        }
    }

    /// Pieces that saved state vouches for.
    pub(super) fn take_trusted(&mut self) -> Option<Bitfield> {
        let resume = self.options.resume.as_mut()?;
        let have = core::mem::take(&mut resume.have);
        let count = self.info.as_ref()?.piece_count;
        if self.options.check || resume.piece_count != count {
            return None;
        }
        Bitfield::from_bytes(count, &have).ok()
    }

    /// What the next start should know.
    pub(super) fn resume_data(&self) -> Resume {
        let before = self.options.resume.as_ref();
        let content = self.content.as_ref();
        Resume {
            info_hash: self.hashes.short(),
            info: self.info.as_ref().map(|info| info.raw.clone()),
            piece_count: content.map_or(0, |content| content.info.piece_count),
            have: content
                .map(|c| c.picker.have().as_bytes().to_vec())
                .unwrap_or_default(),
            downloaded: self.down.total() + before.map_or(0, |before| before.downloaded),
            uploaded: self.up.total() + before.map_or(0, |before| before.uploaded),
            peers: self
                .known
                .worth_saving(self.config.swarm.saved_peers.into())
                .collect(),
            select: self.options.select.clone(),
        }
    }
}

/// A piece of the metadata.
pub(super) fn part_of(raw: &Bytes, piece: u32) -> Option<Bytes> {
    let start = (piece as usize)
        .checked_mul(PIECE_LEN as usize)
        .filter(|start| *start < raw.len())?;
    Some(raw.slice(start..raw.len().min(start + PIECE_LEN as usize)))
}
