//! What a worker is given to do, in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use trackerless_core::io::{HashKind, JobId, JobResult, StateKind, TorrentId};
use trackerless_core::metainfo::Info;
use trackerless_core::resume::Resume;

use super::files::FileStore;
use super::lock;

/// Runs on a worker, with its buffer.
pub(super) type OnWorker = dyn FnOnce(&mut Vec<u8>) + Send;

/// What is to be saved.
pub(super) enum State {
    Bytes(Box<[u8]>),
    /// Encoded by the worker: it is as large as the metadata, and hashed.
    Resume(Arc<Resume>),
}

impl State {
    pub(super) fn into_bytes(self) -> Box<[u8]> {
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
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
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
        /// Set once the torrent is to be closed.
        unwanted: Arc<AtomicBool>,
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
    /// Something that touches no file.
    Answer {
        job: JobId,
        work: Box<dyn FnOnce() -> JobResult + Send>,
    },
    Run(Box<OnWorker>),
    End,
}

/// A piece of a torrent.
pub(super) type PieceKey = (TorrentId, u32);

impl Task {
    /// Which job it answers, if any.
    pub(super) fn job(&self) -> Option<JobId> {
        match self {
            Self::Read(Read { job, .. })
            | Self::Open { job, .. }
            | Self::Write { job, .. }
            | Self::Hash { job, .. }
            | Self::HashBlocks { job, .. }
            | Self::Commit { job, .. }
            | Self::Discard { job, .. }
            | Self::Close { job, .. }
            | Self::Save { job, .. }
            | Self::Answer { job, .. } => Some(*job),
            Self::Run(_) | Self::End => None,
        }
    }

    /// Which piece it is for, if any.
    pub(super) fn piece(&self) -> Option<PieceKey> {
        match *self {
            Self::Read(Read { torrent, piece, .. })
            | Self::Write { torrent, piece, .. }
            | Self::Hash { torrent, piece, .. }
            | Self::HashBlocks { torrent, piece, .. }
            | Self::Commit { torrent, piece, .. }
            | Self::Discard { torrent, piece, .. } => Some((torrent, piece)),
            _ => None,
        }
    }

    /// Which torrent it is for, if any.
    pub(super) fn torrent(&self) -> Option<TorrentId> {
        match self {
            Self::Open { torrent, .. } | Self::Close { torrent, .. } => Some(*torrent),
            _ => self.piece().map(|(torrent, _)| torrent),
        }
    }

    /// Whether it is of no use once its torrent is to be closed: what was verified is still kept,
    /// and what is saved is saved.
    pub(super) fn ends_with_torrent(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Read(_)
            | Self::Write { .. }
            | Self::Hash { .. }
            | Self::HashBlocks { .. }
            | Self::Answer { .. }
            | Self::Run(_) => true,
            Self::Commit { .. }
            | Self::Discard { .. }
            | Self::Close { .. }
            | Self::Save { .. }
            | Self::End => false,
        }
    }
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
    pub(super) fn take(&self, into: &mut VecDeque<Task>) {
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
