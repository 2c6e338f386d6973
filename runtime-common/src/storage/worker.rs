//! One worker thread: its queue, its pieces.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use smallvec::SmallVec;
use trackerless_core::id::Id20;
use trackerless_core::io::{
    BlockHash, Digest, HashKind, JobError, JobId, JobResult, Opened, TorrentId,
};
use trackerless_core::metainfo::Info;
use trackerless_core::swarm::picker::BLOCK_LENGTH;

use super::buffers::Buffers;
use super::files::FileStore;
use super::piece::Piece;
use super::present::zero_hash;
use super::queue::{PieceKey, Queue, Read, Task};
use super::tree::PieceTree;
use super::{Shared, job_error};

/// Bytes read from disk at once to be hashed.
const HASH_CHUNK: u32 = 256 * 1024;
/// Answers that wait for one another at most, while there are other tasks.
const ANSWERS_AT_ONCE: usize = 64;
/// Bytes of a piece read at once for peers.
const READ_AT_ONCE: u32 = 256 * 1024;
pub(super) struct Worker {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    pieces: HashMap<PieceKey, Piece>,
    /// Pieces of which a block was dropped, as their torrents are to be closed.
    holey: HashSet<PieceKey>,
    buffer: Vec<u8>,
    /// What is read for peers.
    buffers: Buffers,
    /// How many zeros were hashed last, and what came out: of a sparse file, most pieces are alike.
    zeros: (u32, [u8; 20]),
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        Self {
            shared,
            queue,
            pieces: HashMap::new(),
            holey: HashSet::new(),
            buffer: Vec::new(),
            buffers: Buffers::default(),
            zeros: (0, zero_hash(0)),
        }
    }

    pub(super) fn run(mut self) {
        let mut tasks = VecDeque::new();
        let mut answers = Vec::new();
        loop {
            self.queue.take(&mut tasks);
            while let Some(task) = tasks.pop_front() {
                if matches!(task, Task::End) {
                    return;
                }
                if self.is_unwanted(&task) {
                    if let Task::Write { torrent, piece, .. } = task {
                        self.holey.insert((torrent, piece));
                    }
                    if let Some(job) = task.job() {
                        answers.push((job, JobResult::Failed(JobError::Cancelled)));
                    }
                    continue;
                }
                if let Task::Read(first) = task {
                    self.read_run(first, &mut tasks, &mut answers);
                    continue;
                }
                if let Some((job, result)) = self.perform_guarded(task) {
                    // Nobody waits for a block that is kept: its answer goes with the next, since
                    // each time the engine's thread may have to be woken.
                    let urgent = !matches!(result, JobResult::Written);
                    answers.push((job, result));
                    if urgent || answers.len() >= ANSWERS_AT_ONCE {
                        self.shared.answer(answers.drain(..));
                    }
                }
            }
            if !answers.is_empty() {
                self.shared.answer(answers.drain(..));
            }
        }
    }

    /// Whether nobody wants it any more, as its torrent is to be closed or everything ends.
    fn is_unwanted(&self, task: &Task) -> bool {
        let ends = self.shared.ends.load(Ordering::Relaxed);
        if !ends && self.shared.leaving.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let leaves = ends || task.torrent().is_some_and(|it| self.shared.is_leaving(it));
        // A piece that was verified is kept, unless some of it was not.
        let is_holey = |task: &Task| {
            matches!(task, Task::Commit { .. })
                && task.piece().is_some_and(|key| self.holey.contains(&key))
        };
        leaves && (task.ends_with_torrent() || is_holey(task))
    }

    /// [`Self::perform`], with an answer whatever happens: a mistake of ours in one job must not
    /// leave it and all that are queued after it without one.
    fn perform_guarded(&mut self, task: Task) -> Option<(JobId, JobResult)> {
        let (job, piece) = (task.job(), task.piece());
        catch_unwind(AssertUnwindSafe(|| self.perform(task))).unwrap_or_else(|_| {
            // What is kept of the piece may be half changed.
            self.forget(|key| Some(*key) == piece);
            job.map(|job| (job, JobResult::Failed(JobError::Internal)))
        })
    }

    fn perform(&mut self, task: Task) -> Option<(JobId, JobResult)> {
        Some(match task {
            Task::Open {
                job,
                torrent,
                info,
                select,
                unwanted,
            } => (job, answer(self.open(torrent, info, &select, unwanted))),
            Task::Read(read) => (read.job, answer(self.read_right(read).map(JobResult::Read))),
            Task::Write {
                job,
                torrent,
                piece,
                begin,
                data,
            } => {
                let done = self.write(torrent, piece, begin, data);
                (job, answer(done.map(|()| JobResult::Written)))
            }
            Task::Hash {
                job,
                torrent,
                piece,
                kind,
            } => {
                let digest = self.hash(torrent, piece, kind);
                (job, answer(digest.map(JobResult::Hashed)))
            }
            Task::HashBlocks {
                job,
                torrent,
                piece,
            } => {
                let hashes = self.hash_blocks(torrent, piece);
                (job, answer(hashes.map(JobResult::BlocksHashed)))
            }
            Task::Commit {
                job,
                torrent,
                piece,
            } => {
                let done = self.commit(torrent, piece);
                (job, answer(done.map(|()| JobResult::Committed)))
            }
            Task::Discard {
                job,
                torrent,
                piece,
            } => {
                self.forget(|key| *key == (torrent, piece));
                if let Ok(store) = self.shared.torrent(torrent) {
                    store.forget_spilled(piece);
                }
                (job, JobResult::Discarded)
            }
            Task::Close { job, torrent, left } => {
                self.forget(|key| key.0 == torrent);
                self.holey.retain(|key| key.0 != torrent);
                if left.fetch_sub(1, Ordering::AcqRel) > 1 {
                    return None;
                }
                let done = self.close(torrent);
                (job, answer(done.map(|()| JobResult::ClosedStorage)))
            }
            Task::Save {
                job,
                kind,
                store,
                state,
            } => {
                let data = state.into_bytes();
                (job, self.shared.save(kind, store.as_deref(), &data))
            }
            Task::Answer { job, work } => (job, work()),
            Task::Run(work) => {
                work(&mut self.buffer);
                return None;
            }
            Task::End => return None,
        })
    }

    fn open(
        &self,
        torrent: TorrentId,
        info: Arc<Info>,
        select: &[u32],
        unwanted: Arc<AtomicBool>,
    ) -> Result<JobResult, JobError> {
        let short: Id20 = info.hashes.short();
        let root = self.shared.folder(&short).ok_or(JobError::Permission)?;
        let config = &self.shared.config;
        let mut store = FileStore::with(info, root, config, unwanted);
        if let Some(state) = config.state.as_ref().filter(|_| !config.read_only) {
            store.watch(state.journal(short));
        }
        let prepared = store.select(select).and_then(|()| {
            // First what is there: space that is reserved may look like content.
            let present = store.prepare()?;
            if config.preallocate && !config.read_only {
                store.preallocate()?;
            }
            Ok(present)
        });
        let present = prepared.map_err(|error| job_error(&error))?;
        self.shared
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(torrent, Arc::new(store));
        Ok(JobResult::Opened(Box::new(Opened { present })))
    }

    fn close(&self, torrent: TorrentId) -> Result<(), JobError> {
        let store = self
            .shared
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&torrent);
        self.shared.has_left(torrent);
        match store {
            Some(store) => store
                .close(self.shared.config.sync_on_close)
                .map_err(|error| job_error(&error)),
            None => Ok(()),
        }
    }

    /// Reads at once what `first` and the tasks after it ask for of one piece, as far as one
    /// follows the other.
    fn read_run(
        &mut self,
        first: Read,
        tasks: &mut VecDeque<Task>,
        answers: &mut Vec<(JobId, JobResult)>,
    ) {
        let (mut all, mut last) = (first, first);
        let mut reads: SmallVec<[Read; 16]> = SmallVec::from_slice(&[first]);
        while let Some(Task::Read(next)) = tasks.front()
            && last.is_followed_by(next)
            && all.length.saturating_add(next.length) <= READ_AT_ONCE
        {
            all.length += next.length;
            last = *next;
            reads.push(last);
            tasks.pop_front();
        }
        let data = self.read_guarded(all);
        let alone = reads.len() == 1;
        for read in reads {
            let data = match &data {
                Ok(data) => {
                    let from = (read.begin - all.begin) as usize;
                    Ok(data.slice(from..from + read.length as usize))
                }
                Err(error) if alone => Err(*error),
                // What is wrong may be so with one of them alone.
                Err(_) => self.read_guarded(read),
            };
            answers.push((read.job, answer(data.map(JobResult::Read))));
        }
        self.shared.answer(answers.drain(..));
    }

    /// [`Self::read_right`], with an answer whatever happens.
    fn read_guarded(&mut self, read: Read) -> Result<Bytes, JobError> {
        catch_unwind(AssertUnwindSafe(|| self.read_right(read))).unwrap_or(Err(JobError::Internal))
    }

    /// Reads what is right: of a file that somebody changed, each piece is hashed once more.
    fn read_right(&mut self, read: Read) -> Result<Bytes, JobError> {
        let Read {
            torrent,
            piece,
            begin,
            length,
            ..
        } = read;
        let data = self.read(torrent, piece, begin, length);
        let store = self.shared.torrent(torrent)?;
        if !store.doubts(piece) {
            return data;
        }
        match (self.hash(torrent, piece, HashKind::Sha1), store.info()) {
            (Ok(Digest::Sha1(hash)), info) if info.piece_hash(piece) == Some(hash) => {
                store.trust(piece);
                self.read(torrent, piece, begin, length)
            }
            _ => Err(JobError::Changed),
        }
    }

    fn read(
        &self,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        length: u32,
    ) -> Result<Bytes, JobError> {
        let store = self.shared.torrent(torrent)?;
        check_range(&store, piece, begin, length)?;
        let kept = self.pieces.get(&(torrent, piece));
        if let Some(slice) = kept.and_then(|kept| kept.slice(begin, length)) {
            return Ok(slice);
        }
        let mut out = self.buffers.take(length as usize);
        match kept {
            Some(kept) if kept.covers(begin, begin + length) => {
                out.resize(length as usize, 0);
                kept.overlay(begin, &mut out);
            }
            _ => {
                store
                    .read(piece, begin, length, &mut out)
                    .map_err(|error| job_error(&error))?;
                if let Some(kept) = kept {
                    kept.overlay(begin, &mut out);
                }
            }
        }
        Ok(self.buffers.share(out))
    }

    fn write(
        &mut self,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        data: Bytes,
    ) -> Result<(), JobError> {
        if self.shared.config.read_only {
            return Err(JobError::Permission);
        }
        let store = self.shared.torrent(torrent)?;
        check_range(&store, piece, begin, data.len() as u32)?;
        let kept = self.pieces.entry((torrent, piece)).or_default();
        let before = kept.kept();
        kept.write(begin, data);
        let (grown, after) = (kept.kept() - before, kept.kept());
        let total = self.shared.kept.fetch_add(grown, Ordering::Relaxed) + grown;
        if total > self.shared.config.memory_budget && after > 0 {
            self.spill_largest()?;
        }
        Ok(())
    }

    /// Brings the piece that holds most memory to its place in the files.
    fn spill_largest(&mut self) -> Result<(), JobError> {
        let largest = self.pieces.iter_mut().max_by_key(|(_, piece)| piece.kept());
        let Some((&(torrent, index), piece)) = largest else {
            return Ok(());
        };
        let store = self.shared.torrent(torrent)?;
        flush(piece, |begin, run| store.spill(index, begin, run))
            .map_err(|error| job_error(&error))?;
        self.shared.kept.fetch_sub(piece.kept(), Ordering::Relaxed);
        piece.clear_blocks();
        Ok(())
    }

    fn hash(&mut self, torrent: TorrentId, index: u32, kind: HashKind) -> Result<Digest, JobError> {
        let store = self.shared.torrent(torrent)?;
        let size = store.info().piece_size(index);
        let mut piece = self.pieces.get_mut(&(torrent, index));
        match kind {
            HashKind::Sha1 if piece.is_none() && store.is_hole(index) => {
                if self.zeros.0 != size {
                    self.zeros = (size, zero_hash(size));
                }
                Ok(Digest::Sha1(self.zeros.1))
            }
            HashKind::Sha1 => {
                let (mut hasher, hashed) = match &mut piece {
                    Some(piece) => piece.take_hash(),
                    None => Default::default(),
                };
                let piece = piece.as_deref();
                visit(
                    &store,
                    index,
                    piece,
                    hashed..size,
                    &mut self.buffer,
                    |bytes| {
                        hasher.update(bytes);
                    },
                )
                .map_err(|error| job_error(&error))?;
                Ok(Digest::Sha1(hasher.finalize().into()))
            }
            HashKind::Merkle => {
                let mut tree = PieceTree::default();
                let piece = piece.as_deref();
                // Padding is no content of v2: beyond the file there are no blocks, not zeros.
                let spans = store.info().spans(index, 0, size);
                let size = spans.filter(|span| !span.pad).map(|span| span.len).sum();
                visit(&store, index, piece, 0..size, &mut self.buffer, |bytes| {
                    tree.update(bytes);
                })
                .map_err(|error| job_error(&error))?;
                Ok(Digest::Merkle(tree.finish(store.info(), index)))
            }
        }
    }

    /// The hash of each block by itself. Rare, so nothing is kept of it between writes.
    fn hash_blocks(&mut self, torrent: TorrentId, index: u32) -> Result<Vec<BlockHash>, JobError> {
        let store = self.shared.torrent(torrent)?;
        let size = store.info().piece_size(index);
        let piece = self.pieces.get(&(torrent, index));
        let mut hashes = Vec::with_capacity(size.div_ceil(BLOCK_LENGTH) as usize);
        for begin in (0..size).step_by(BLOCK_LENGTH as usize) {
            let range = begin..size.min(begin + BLOCK_LENGTH);
            let mut hasher = Sha1::new();
            visit(&store, index, piece, range, &mut self.buffer, |bytes| {
                hasher.update(bytes);
            })
            .map_err(|error| job_error(&error))?;
            hashes.push(hasher.finalize().into());
        }
        Ok(hashes)
    }

    fn commit(&mut self, torrent: TorrentId, index: u32) -> Result<(), JobError> {
        let store = self.shared.torrent(torrent)?;
        let Some(piece) = self.pieces.get(&(torrent, index)) else {
            return Ok(());
        };
        // On an error the piece stays in memory: the engine may try again.
        let written = match store.is_in_scratch(index) {
            true => move_spilled(&store, index, piece, &mut self.buffer),
            false => flush(piece, |begin, run| store.write(index, begin, run)),
        };
        written
            .and_then(|()| store.finish(index))
            .map_err(|error| job_error(&error))?;
        store.forget_spilled(index);
        self.forget(|key| *key == (torrent, index));
        Ok(())
    }

    fn forget(&mut self, which: impl Fn(&PieceKey) -> bool) {
        let mut freed = 0;
        self.pieces.retain(|key, piece| {
            let gone = which(key);
            if gone {
                freed += piece.kept();
            }
            !gone
        });
        self.shared.kept.fetch_sub(freed, Ordering::Relaxed);
    }
}

fn answer(result: Result<JobResult, JobError>) -> JobResult {
    result.unwrap_or_else(JobResult::Failed)
}

fn check_range(store: &FileStore, piece: u32, begin: u32, length: u32) -> Result<(), JobError> {
    let size = store.info().piece_size(piece);
    match begin.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => Err(JobError::Missing),
    }
}

/// Has `write` take what is in memory, each contiguous run at once.
fn flush(piece: &Piece, mut write: impl FnMut(u32, &[Bytes]) -> io::Result<()>) -> io::Result<()> {
    let mut run: Vec<Bytes> = Vec::with_capacity(piece.blocks().len());
    let (mut begin, mut end) = (0, 0);
    for (&start, block) in piece.blocks() {
        if start != end && !run.is_empty() {
            write(begin, &run)?;
            run.clear();
        }
        if run.is_empty() {
            begin = start;
        }
        run.push(block.clone());
        end = start + block.len() as u32;
    }
    if run.is_empty() {
        return Ok(());
    }
    write(begin, &run)
}

/// Brings a piece to its files that waited elsewhere until it was right.
fn move_spilled(
    store: &FileStore,
    index: u32,
    piece: &Piece,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let size = store.info().piece_size(index);
    let (mut at, mut done) = (0, Ok(()));
    visit(store, index, Some(piece), 0..size, buffer, |bytes| {
        if done.is_ok() {
            done = store.write(index, at, &[Bytes::copy_from_slice(bytes)]);
        }
        at += bytes.len() as u32;
    })?;
    done
}

/// Shows the bytes of `range` in order: from memory where they are kept, else from the files.
fn visit(
    store: &FileStore,
    index: u32,
    piece: Option<&Piece>,
    range: std::ops::Range<u32>,
    buffer: &mut Vec<u8>,
    mut show: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        if let Some(run) = piece.and_then(|piece| piece.run_at(at)) {
            let run = run.slice(..run.len().min((range.end - at) as usize));
            show(&run);
            at += run.len() as u32;
            continue;
        }
        let until = piece
            .and_then(|piece| piece.next_run(at))
            .unwrap_or(range.end)
            .min(range.end)
            .min(at + HASH_CHUNK);
        buffer.clear();
        store.read(index, at, until - at, buffer)?;
        show(buffer);
        at = until;
    }
    Ok(())
}
