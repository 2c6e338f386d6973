//! One worker thread: its queue, its pieces.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use smallvec::SmallVec;
use trackerless_core::id::Id20;
use trackerless_core::io::{
    BlockHash, Digest, HashKind, JobError, JobId, JobResult, Opened, StateKind, TorrentId,
};
use trackerless_core::metainfo::{Info, merkle};
use trackerless_core::resume::Resume;
use trackerless_core::swarm::picker::BLOCK_LENGTH;

use super::buffers::Buffers;
use super::files::FileStore;
use super::piece::Piece;
use super::present::{present, zero_hash};
use super::{Shared, job_error, lock};

/// Bytes read from disk at once to be hashed.
const HASH_CHUNK: u32 = 256 * 1024;
/// Answers that wait for one another at most, while there are other tasks.
const ANSWERS_AT_ONCE: usize = 64;
/// Bytes of a piece read at once for peers.
const READ_AT_ONCE: u32 = 256 * 1024;
/// Bytes under one leaf of a hash tree.
const MERKLE_BLOCK: usize = 16 * 1024;

/// Runs on a worker, with its buffer.
pub(super) type OnWorker = dyn FnOnce(&mut Vec<u8>) + Send;

/// What is to be saved.
pub(super) enum State {
    Bytes(Box<[u8]>),
    /// Encoded by the worker: it is as large as the metadata, and hashed.
    Resume(Arc<Resume>),
}

impl State {
    fn into_bytes(self) -> Box<[u8]> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Resume(resume) => {
                let mut data = Vec::new();
                resume.encode(&mut data);
                data.into()
            }
        }
    }
}

/// Bytes of a piece that a peer asked for.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub(super) job: JobId,
    pub(super) torrent: TorrentId,
    pub(super) piece: u32,
    pub(super) begin: u32,
    pub(super) length: u32,
}

impl Read {
    /// Whether `next` asks for what follows.
    fn is_followed_by(&self, next: &Self) -> bool {
        (next.torrent, next.piece) == (self.torrent, self.piece)
            && self.begin.checked_add(self.length) == Some(next.begin)
    }
}

pub(super) enum Task {
    Open {
        job: JobId,
        torrent: TorrentId,
        info: Arc<Info>,
        select: Arc<[u32]>,
    },
    Read(Read),
    Write {
        job: JobId,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        data: Bytes,
    },
    Hash {
        job: JobId,
        torrent: TorrentId,
        piece: u32,
        kind: HashKind,
    },
    HashBlocks {
        job: JobId,
        torrent: TorrentId,
        piece: u32,
    },
    Commit {
        job: JobId,
        torrent: TorrentId,
        piece: u32,
    },
    Discard {
        job: JobId,
        torrent: TorrentId,
        piece: u32,
    },
    Close {
        job: JobId,
        torrent: TorrentId,
        left: Arc<AtomicUsize>,
    },
    Save {
        job: JobId,
        kind: StateKind,
        store: Option<Arc<FileStore>>,
        state: State,
    },
    Run(Box<OnWorker>),
    End,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    idle: bool,
}

/// Tasks of one worker, in order.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    pub(super) fn push(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut waiting = lock(&self.waiting);
        waiting.tasks.extend(tasks);
        // A wake-up is a system call: only for a worker that sleeps.
        if std::mem::take(&mut waiting.idle) {
            self.wake.notify_one();
        }
    }

    /// Moves all tasks to `into`, which is empty; waits for the first.
    fn take(&self, into: &mut VecDeque<Task>) {
        let mut waiting = lock(&self.waiting);
        while waiting.tasks.is_empty() {
            waiting.idle = true;
            waiting = self
                .wake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.idle = false;
        std::mem::swap(&mut waiting.tasks, into);
    }
}

type PieceKey = (TorrentId, u32);

pub(super) struct Worker {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    pieces: HashMap<PieceKey, Piece>,
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
                if let Task::Read(first) = task {
                    self.read_run(first, &mut tasks, &mut answers);
                    continue;
                }
                if let Some((job, result)) = self.perform(task) {
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

    fn perform(&mut self, task: Task) -> Option<(JobId, JobResult)> {
        Some(match task {
            Task::Open {
                job,
                torrent,
                info,
                select,
            } => (job, answer(self.open(torrent, info, &select))),
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
                (job, JobResult::Discarded)
            }
            Task::Close { job, torrent, left } => {
                self.forget(|key| key.0 == torrent);
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
    ) -> Result<JobResult, JobError> {
        let short: Id20 = info.hashes.short();
        let root = self.shared.folder(&short).ok_or(JobError::Permission)?;
        let config = &self.shared.config;
        let mut store = FileStore::new(info, root, config.max_open_files);
        store.reserve(&config.reserved);
        if config.read_only {
            store.read_only();
        }
        if let Some(state) = config.state.as_ref().filter(|_| !config.read_only) {
            store.watch(state.journal(short));
        }
        let prepared = store.select(select).and_then(|()| match config.read_only {
            true => Ok(()),
            false => store.prepare(),
        });
        let found = prepared.and_then(|()| {
            // First what is there: space that is reserved may look like content.
            let found = present(&store)?;
            if config.preallocate && !config.read_only {
                store.preallocate()?;
            }
            Ok(found)
        });
        let found = found.map_err(|error| job_error(&error))?;
        self.shared
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(torrent, Arc::new(store));
        Ok(JobResult::Opened(Box::new(Opened { present: found })))
    }

    fn close(&self, torrent: TorrentId) -> Result<(), JobError> {
        let store = self
            .shared
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&torrent);
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
        let data = self.read_right(all);
        let alone = reads.len() == 1;
        for read in reads {
            let data = match &data {
                Ok(data) => {
                    let from = (read.begin - all.begin) as usize;
                    Ok(data.slice(from..from + read.length as usize))
                }
                Err(error) if alone => Err(*error),
                // What is wrong may be so with one of them alone.
                Err(_) => self.read_right(read),
            };
            answers.push((read.job, answer(data.map(JobResult::Read))));
        }
        self.shared.answer(answers.drain(..));
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
        flush(&store, index, piece).map_err(|error| job_error(&error))?;
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
        flush(&store, index, piece)
            .and_then(|()| store.finish(index))
            .map_err(|error| job_error(&error))?;
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

/// The hashes of a piece's blocks of 16 KiB (BEP 52).
#[derive(Default)]
struct PieceTree {
    leaves: Vec<merkle::Hash>,
    block: Vec<u8>,
}

impl PieceTree {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = MERKLE_BLOCK - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if now.len() == MERKLE_BLOCK {
                self.leaves.push(merkle::leaf(now));
            } else {
                self.block.extend_from_slice(now);
                if self.block.len() == MERKLE_BLOCK {
                    self.end_block();
                }
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.leaves.push(merkle::leaf(&self.block));
        self.block.clear();
    }

    fn finish(mut self, info: &Info, piece: u32) -> merkle::Hash {
        if !self.block.is_empty() {
            self.end_block();
        }
        let file = info.spans(piece, 0, 1).next();
        let file = file.and_then(|span| info.files.get(span.file));
        if file.is_some_and(|file| file.length > u64::from(info.piece_length)) {
            // A piece of a larger file is a tree of full height, the last one too.
            let full = 1usize << merkle::layer_height(info.piece_length);
            self.leaves.resize(full.max(self.leaves.len()), [0; 32]);
        }
        merkle::root(self.leaves, 0)
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

/// Writes what is in memory, each contiguous run with as few calls as possible.
fn flush(store: &FileStore, index: u32, piece: &Piece) -> io::Result<()> {
    let mut run: Vec<Bytes> = Vec::with_capacity(piece.blocks().len());
    let (mut begin, mut end) = (0, 0);
    for (&start, block) in piece.blocks() {
        if start != end && !run.is_empty() {
            store.write(index, begin, &run)?;
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
    store.write(index, begin, &run)
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
