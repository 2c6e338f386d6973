//! From opened storage to verified pieces: the check at the start, and each piece after its last
//! block.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::content::{Content, beyond};
use super::{Event, Job, JobToken, Pending, Phase, Swarm};
use crate::event;
use crate::io::{Digest, JobError, JobResult, Opened};
use crate::metainfo::{Info, Version};
use crate::wire::Message;

impl Swarm {
    /// Starts with or without metadata.
    pub(super) fn start(&mut self, info: Option<Arc<Info>>, events: &mut Vec<Event>) {
        self.read_resume();
        if let Some(info) = info {
            self.fetch = None;
            self.on_metadata(info, events);
        }
    }

    /// The metadata is known and right.
    pub(super) fn on_metadata(&mut self, info: Arc<Info>, events: &mut Vec<Event>) {
        self.info = Some(Arc::clone(&info));
        let torrent = self.torrent;
        self.public(
            event::Event::Metadata {
                torrent,
                info: Arc::clone(&info),
            },
            events,
        );
        if info.private {
            self.known.forget_sources(|source| {
                use event::PeerSource::{Dht, Lsd, Pex};
                matches!(source, Dht | Lsd | Pex)
            });
            self.stop_pex(events);
        }
        if self.options.metadata_only {
            self.halt(events);
            return;
        }
        if info.version == Version::V2 || info.piece_count > self.config.swarm.max_pieces {
            self.storage_failed(None, JobError::Unsupported, events);
            return;
        }
        if let Some(index) = beyond(&self.options.select, &info) {
            let files = info.files.len() as u32;
            self.public(
                event::Event::BadSelection {
                    torrent,
                    index,
                    files,
                },
                events,
            );
            self.halt(events);
            return;
        }
        self.phase = Phase::Opening;
        self.content = Some(Content::new(
            Arc::clone(&info),
            &self.options.select,
            self.options.sequential,
            &self.config.swarm,
        ));
        let select = self.options.select.as_slice().into();
        self.job(Pending::Open, Job::Open(info, select), events);
    }

    /// The answer to a job.
    pub(super) fn on_job_done(
        &mut self,
        token: JobToken,
        result: JobResult,
        events: &mut Vec<Event>,
    ) {
        let Some(job) = self.take_job(token) else {
            return;
        };
        match job {
            Pending::Save => {
                self.saving = false;
                if !matches!(result, JobResult::Saved) {
                    self.mark_dirty();
                }
                self.finish_stop(events);
            }
            Pending::Close => self.finish_stop(events),
            // Nothing is begun any more.
            _ if !self.is_open_to_peers() => {}
            Pending::Metadata { size } => self.on_metadata_checked(size, result, events),
            Pending::Open => match result {
                JobResult::Opened(opened) => self.on_opened(*opened),
                other => self.storage_failed(None, error_of(&other), events),
            },
            Pending::Check { piece } => self.on_checked(piece, &result, events),
            Pending::Read { conn, block } => self.on_read(conn, block, result, events),
            Pending::Write { piece } => {
                if let JobResult::Failed(error) = result
                    && error != JobError::Cancelled
                {
                    self.storage_failed(Some(piece), error, events);
                }
            }
            Pending::Hash { piece } => self.on_hashed(piece, &result, events),
            Pending::BadBlocks { serial } => self.on_bad_blocks(serial, result, events),
            Pending::GoodBlocks { piece } => self.on_good_blocks(piece, result, events),
            Pending::Commit { piece } => match result {
                JobResult::Committed => self.on_committed(piece, events),
                other => match error_of(&other) {
                    error @ (JobError::Missing | JobError::Cancelled) => {
                        self.on_lost(piece, error, events);
                    }
                    error => self.storage_failed(Some(piece), error, events),
                },
            },
            Pending::Discard => {}
        }
    }

    /// Storage is ready: what resume data vouches for is trusted, the rest of what is there is
    /// hashed, so that pieces that were committed and not yet noted are found again.
    fn on_opened(&mut self, opened: Opened) {
        self.phase = Phase::Checking;
        let trusted = self.take_trusted();
        let Some(content) = &mut self.content else {
            return;
        };
        content.begin_survey(opened.present, trusted);
    }

    /// Looks at more pieces of what storage found, if it has been opened and not all are known.
    pub(super) fn survey_more(&mut self, events: &mut Vec<Event>) {
        let slice = self.config.swarm.pieces_per_input;
        let Some(content) = self.content.as_mut().filter(|it| it.is_surveying()) else {
            return;
        };
        if content.survey(slice) {
            self.check_more(events);
        } else {
            self.unfinished = true;
        }
    }

    fn check_more(&mut self, events: &mut Vec<Event>) {
        let parallel = self.config.swarm.check_parallel;
        loop {
            let Some(content) = &mut self.content else {
                return;
            };
            let check = &mut content.check;
            let next = check
                .pieces
                .as_ref()
                .and_then(|pieces| pieces.next_one(check.next));
            match next {
                Some(piece) if check.running < parallel => {
                    check.next = piece + 1;
                    check.running += 1;
                    self.job(Pending::Check { piece }, Job::Hash { piece }, events);
                }
                None if check.running == 0 => {
                    self.on_check_over(events);
                    return;
                }
                _ => return,
            }
        }
    }

    fn on_checked(&mut self, piece: u32, result: &JobResult, events: &mut Vec<Event>) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.check.running = content.check.running.saturating_sub(1);
        match result {
            JobResult::Hashed(digest) if is_right(&content.info, piece, digest) => {
                content.on_had(piece);
                content.picker.set_have(piece);
                self.dirty = true;
            }
            JobResult::Hashed(_) => {
                content.check.bad += 1;
                content.lacks |= content.picker.wants(piece);
            }
            JobResult::Failed(JobError::Missing | JobError::Cancelled) => {
                content.lacks |= content.picker.wants(piece);
            }
            other => {
                self.storage_failed(Some(piece), error_of(other), events);
                return;
            }
        }
        self.check_more(events);
    }

    fn on_check_over(&mut self, events: &mut Vec<Event>) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.check.pieces = None;
        let (ok, bad) = (content.picker.have().count_ones(), content.check.bad);
        let torrent = self.torrent;
        self.phase = Phase::Active;
        self.public(event::Event::Checked { torrent, ok, bad }, events);
        if self.dirty {
            self.mark_dirty();
        }
        self.begin_super_seed();
        self.start_all(events);
        if self.is_complete() {
            self.on_complete(events);
        }
        self.epoch += 1;
        self.fill_slots = true;
    }

    /// The last block of `piece` came.
    pub(super) fn verify(&mut self, piece: u32, events: &mut Vec<Event>) {
        self.job(Pending::Hash { piece }, Job::Hash { piece }, events);
    }

    fn on_hashed(&mut self, piece: u32, result: &JobResult, events: &mut Vec<Event>) {
        let Some(content) = &self.content else { return };
        match result {
            JobResult::Hashed(digest) if is_right(&content.info, piece, digest) => {
                self.compare(piece, events);
                self.job(Pending::Commit { piece }, Job::Commit { piece }, events);
            }
            JobResult::Hashed(_) => self.on_bad_piece(piece, events),
            other => match error_of(other) {
                error @ (JobError::Missing | JobError::Cancelled) => {
                    self.on_lost(piece, error, events);
                }
                error => self.storage_failed(Some(piece), error, events),
            },
        }
    }

    /// Storage has not kept what it was given of `piece`: it is fetched anew, but not for ever.
    fn on_lost(&mut self, piece: u32, error: JobError, events: &mut Vec<Event>) {
        let most = self.config.swarm.max_lost_pieces;
        let Some(content) = &mut self.content else {
            return;
        };
        let times = content.lost.entry(piece).or_default();
        *times = times.saturating_add(1);
        if *times > most {
            self.storage_failed(Some(piece), error, events);
        } else {
            self.begin_anew(piece, events);
        }
    }

    /// Drops what is kept of `piece`; nobody is to blame.
    fn begin_anew(&mut self, piece: u32, events: &mut Vec<Event>) {
        self.job(Pending::Discard, Job::Discard { piece }, events);
        if let Some(content) = &mut self.content {
            content.picker.on_hash_failed(piece);
        }
        self.epoch += 1;
    }

    /// Drops `piece` and judges those who brought it: who brought all of it is banned, who
    /// brought a part gets pieces of its own, and its blocks are looked at one by one.
    fn on_bad_piece(&mut self, piece: u32, events: &mut Vec<Event>) {
        let Some(content) = &self.content else {
            return;
        };
        let contributors = content.picker.contributors(piece);
        let alone = contributors.len() == 1;
        if !alone {
            self.suspect(piece, events);
        }
        self.begin_anew(piece, events);
        let brought = contributors.iter();
        let addrs: Vec<_> = brought.filter_map(|key| self.address_of(*key)).collect();
        let (blame, suspects) = match alone {
            true => (addrs, Vec::new()),
            false => (Vec::new(), addrs),
        };
        let failed = event::Event::PieceFailed {
            torrent: self.torrent,
            piece,
            blame,
            suspects,
        };
        self.public(failed, events);
        for key in contributors {
            if alone {
                let addr = self.address_of(key);
                self.ban_key(key, addr, events);
            } else if let Some(conn) = self.by_key.get(&key)
                && let Some(peer) = self.peers.get_mut(conn)
            {
                peer.parole = true;
            }
        }
    }

    fn on_committed(&mut self, piece: u32, events: &mut Vec<Event>) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.on_had(piece);
        let wanted = content.picker.wants(piece);
        let mut exhausted = Vec::new();
        for (conn, peer) in &mut self.peers {
            let had = peer.has_piece(piece);
            if had {
                peer.wanted -= u32::from(wanted && peer.wanted > 0);
                if peer.wanted == 0 && peer.upload_only {
                    exhausted.push(*conn);
                }
            }
            // Withheld from those who have it, but for who brought it and does not have all: it may
            // super-seed (BEP 16) and give no more before it hears that this has come. Those above
            // the slice follow with it.
            let hears = !had || (!peer.is_seed() && content.picker.has_brought(peer.key, piece));
            if hears && peer.announced && peer.haves_from.is_none_or(|from| piece < from) {
                events.push(Event::Send(*conn, Message::Have(piece)));
            }
        }
        if let Some(key) = content.picker.on_hash_ok(piece)
            && let Some(conn) = self.by_key.get(&key)
            && let Some(peer) = self.peers.get_mut(conn)
        {
            peer.parole = false;
        }
        let torrent = self.torrent;
        self.public(event::Event::PieceDone { torrent, piece }, events);
        self.mark_dirty();
        self.epoch += 1;
        self.update_interests(events);
        if self.is_complete() {
            self.on_complete(events);
        }
        for conn in exhausted {
            self.close_if_useless(conn, events);
        }
    }

    /// Everything wanted is there.
    fn on_complete(&mut self, events: &mut Vec<Event>) {
        let torrent = self.torrent;
        self.known.set_complete(true);
        self.public(event::Event::Complete { torrent }, events);
        self.update_interests(events);
        self.tell_upload_only(events);
        self.close_useless(events);
        self.save(events);
        self.fill_slots = true;
    }

    /// Resume data differs from what was saved: saves it soon.
    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
        self.save_at
            .get_or_insert(self.now + self.config.swarm.save_interval);
    }

    /// Saves resume data, if there is any that is not saved.
    pub(super) fn save(&mut self, events: &mut Vec<Event>) {
        if !self.dirty || self.saving {
            return;
        }
        let resume = Arc::new(self.resume_data());
        self.dirty = false;
        self.saving = true;
        self.save_at = None;
        self.job(Pending::Save, Job::Save(resume), events);
    }
}

fn is_right(info: &Info, piece: u32, digest: &Digest) -> bool {
    matches!(digest, Digest::Sha1(sha1) if info.piece_hash(piece) == Some(*sha1))
}

/// The error of a job that did not end as it should: an answer of the wrong kind is the host's
/// mistake.
fn error_of(result: &JobResult) -> JobError {
    match result {
        JobResult::Failed(error) => *error,
        _ => JobError::Io,
    }
}
