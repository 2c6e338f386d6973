//! Worker threads that answer the engine's jobs: files, hashes, names, saved state.
//!
//! Pieces are sharded over the workers, so that everything of one piece happens in order on one
//! thread and no lock is held on the way. What is received stays in memory, hashed as it comes,
//! until the piece is committed with a few large writes; over [`StorageConfig::memory_budget`]
//! the largest pieces are spilled to their place in the files and read back where needed.

mod buffers;
mod changes;
mod fetch;
mod files;
mod folders;
mod links;
mod obstacle;
mod open;
mod parts;
mod piece;
mod pool;
mod present;
mod queue;
mod raw;
mod resolve;
mod scratch;
mod sync;
mod tree;
mod worker;
mod written;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use rustix::io::Errno;
use trackerless_core::id::Id20;
use trackerless_core::io::{JobError, JobId, JobResult, StateKind, TorrentId, Work};

use crate::host::{Arrival, Inbox};
use crate::stamp::Stamp;
use crate::state::StateDir;
pub(crate) use changes::metadata_below;
use fetch::Fetch;
pub use files::FileStore;
pub(crate) use links::{leads_to, lexical_target, link_text};
pub use obstacle::Obstacle;
pub(crate) use parts::{name_of as parts_name, shared_pieces};
use pool::Pool;
pub(crate) use present::is_hole;
use queue::{Queue, Read, State, Task};
use resolve::resolve;
use worker::Worker;

/// How storage works.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Worker threads; 0 is as many as help on this machine.
    pub threads: usize,
    /// Bytes of unfinished pieces kept in memory; more are spilled to the files.
    pub memory_budget: usize,
    /// Open files at most, per torrent.
    pub max_open_files: usize,
    /// Open folders at most, per torrent: what is proven to lie below the output folder is not
    /// proven again for each file.
    pub max_open_folders: usize,
    /// Written files at most that are brought to the device one by one when state is saved; for
    /// more of them the file systems they are on are asked for everything at once, where that can
    /// be done (Linux).
    pub sync_one_by_one: usize,
    /// Whether nothing may be made or written below the output folder.
    pub read_only: bool,
    /// Whether the space of all wanted files is reserved before anything is fetched; else files are
    /// sparse until their pieces come.
    pub preallocate: bool,
    /// Whether files are flushed to the device when a torrent is closed.
    pub sync_on_close: bool,
    /// Where torrents without a folder of their own are put; without it they are refused.
    pub output: Option<PathBuf>,
    /// Files that are never written as content, whatever a torrent calls its own.
    pub reserved: Vec<PathBuf>,
    /// Told what is in the way of content.
    pub obstacle: Obstacle,
    /// Where state is saved; without it saving succeeds and keeps nothing.
    pub state: Option<StateDir>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            memory_budget: 32 << 20,
            max_open_files: 128,
            max_open_folders: 32,
            sync_one_by_one: 16,
            read_only: false,
            preallocate: false,
            sync_on_close: true,
            output: None,
            reserved: Vec::new(),
            obstacle: Obstacle::default(),
            state: None,
        }
    }
}

impl StorageConfig {
    /// The defaults, with every torrent put below `folder`.
    #[must_use]
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        Self {
            output: Some(folder.into()),
            ..Self::default()
        }
    }
}

/// Called from any worker thread, with one answer or more.
type OnDone = dyn Fn(&mut dyn Iterator<Item = (JobId, JobResult)>) + Send + Sync;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: StorageConfig,
    pub(crate) torrents: RwLock<HashMap<TorrentId, Arc<FileStore>>>,
    /// Bytes of unfinished pieces in memory, over all workers.
    pub(crate) kept: AtomicUsize,
    on_done: Box<OnDone>,
    folders: Mutex<BTreeMap<Id20, PathBuf>>,
    /// How many torrents are to be closed.
    pub(crate) leaving: AtomicUsize,
    /// Of each torrent that was opened, whether it is to be closed.
    closing: Mutex<HashMap<TorrentId, Arc<AtomicBool>>>,
    /// Everything ends: nobody takes answers any more.
    pub(crate) ends: AtomicBool,
}

impl Shared {
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = (JobId, JobResult)>) {
        (self.on_done)(&mut answers.into_iter());
    }

    pub(crate) fn torrent(&self, torrent: TorrentId) -> Result<Arc<FileStore>, JobError> {
        let torrents = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        torrents.get(&torrent).cloned().ok_or(JobError::Missing)
    }

    /// Set once `torrent` is to be closed.
    fn closing(&self, torrent: TorrentId) -> Arc<AtomicBool> {
        Arc::clone(lock(&self.closing).entry(torrent).or_default())
    }

    /// Nothing that is queued for `torrent` is wanted any more but what keeps what was verified.
    fn leave(&self, torrent: TorrentId) {
        self.closing(torrent).store(true, Ordering::Relaxed);
        self.leaving.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self, torrent: TorrentId) -> bool {
        let closing = lock(&self.closing);
        closing
            .get(&torrent)
            .is_some_and(|it| it.load(Ordering::Relaxed))
    }

    /// `torrent` is closed.
    pub(crate) fn has_left(&self, torrent: TorrentId) {
        lock(&self.closing).remove(&torrent);
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody takes answers any more.
    fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
        for closing in lock(&self.closing).values() {
            closing.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn folder(&self, info_hash: &Id20) -> Option<PathBuf> {
        let own = lock(&self.folders).get(info_hash).cloned();
        own.or_else(|| self.config.output.clone())
    }

    pub(crate) fn save(
        &self,
        kind: StateKind,
        store: Option<&FileStore>,
        data: &[u8],
    ) -> JobResult {
        let Some(dir) = &self.config.state else {
            return JobResult::Saved;
        };
        let save = || match kind {
            StateKind::Resume(_) => {
                let stamp = store.map_or(Ok(None), FileStore::stamp)?;
                dir.save(kind, &Stamp::wrap(stamp.as_ref(), data))?;
                store.inspect(|store| store.stamped());
                Ok(())
            }
            _ => dir.save(kind, data),
        };
        match save() {
            Ok(()) => JobResult::Saved,
            Err(error) => JobResult::Failed(job_error(&error)),
        }
    }

    /// The files of the torrent that resume data is for.
    fn store_of(&self, kind: StateKind) -> Option<Arc<FileStore>> {
        let StateKind::Resume(info_hash) = kind else {
            return None;
        };
        let torrents = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = torrents.values();
        all.find(|store| store.info().hashes.short() == info_hash)
            .cloned()
    }
}

/// A worker, and what it is given at the next flush.
struct Shard {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
    gathered: Vec<Task>,
}

/// Does the engine's jobs on threads of its own; they start with the first job.
///
/// Dropping it finishes what keeps and saves verified pieces; other jobs are given up, as nobody is
/// there for their answers.
pub struct Storage {
    shared: Arc<Shared>,
    workers: Vec<Shard>,
    /// Saves state, which waits for the device: no piece has to wait with it.
    saver: Option<(Arc<Queue>, JoinHandle<()>)>,
    resolver: Pool,
    fetcher: Pool,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// Storage whose answers go to `on_done`, called from its threads.
    pub fn new(
        config: StorageConfig,
        on_done: impl Fn(JobId, JobResult) + Send + Sync + 'static,
    ) -> Self {
        Self::answering(config, move |answers| {
            answers.for_each(|(job, result)| on_done(job, result));
        })
    }

    /// Storage whose answers arrive in `inbox`, several at once where several are ready.
    #[must_use]
    pub fn into_inbox(config: StorageConfig, inbox: Arc<Inbox>) -> Self {
        Self::answering(config, move |answers| {
            inbox.extend(answers.map(|(job, result)| Arrival::JobDone(job, result)));
        })
    }

    fn answering(
        config: StorageConfig,
        on_done: impl Fn(&mut dyn Iterator<Item = (JobId, JobResult)>) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            config,
            torrents: RwLock::default(),
            kept: AtomicUsize::new(0),
            on_done: Box::new(on_done),
            folders: Mutex::default(),
            leaving: AtomicUsize::new(0),
            closing: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        Self {
            resolver: Pool::new("resolve", resolve::MAX_THREADS, Arc::clone(&shared)),
            fetcher: Pool::new("http", fetch::MAX_THREADS, Arc::clone(&shared)),
            shared,
            workers: Vec::new(),
            saver: None,
        }
    }

    /// Puts the torrent of this wire info-hash below `folder`; before its `Open` is submitted.
    pub fn register(&self, info_hash: Id20, folder: PathBuf) {
        lock(&self.shared.folders).insert(info_hash, folder);
    }

    /// Bytes of unfinished pieces in memory.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.shared.kept.load(Ordering::Relaxed)
    }

    /// Begins a job; never waits.
    pub fn submit(&mut self, job: JobId, work: Work<'_>) {
        self.gather(job, work);
        self.flush();
    }

    /// As [`Self::submit`], but the job may begin as late as with the next [`Self::flush`]: a
    /// thread is woken once for all that was gathered.
    pub fn gather(&mut self, job: JobId, work: Work<'_>) {
        match work {
            Work::Resolve { host, port } => {
                let host = host.to_owned();
                self.resolver.submit(job, move || resolve(&host, port));
            }
            Work::HttpGet {
                url,
                redirected_by,
                max_bytes,
                timeout,
            } => {
                let url = url.to_owned();
                let fetch = Fetch {
                    url,
                    redirected_by,
                    max_bytes,
                    timeout,
                };
                self.fetcher.submit(job, move || fetch.run());
            }
            Work::SaveResume { resume, .. } => {
                let kind = StateKind::Resume(resume.info_hash);
                self.save(job, kind, State::Resume(resume));
            }
            Work::SaveState { kind, data } => self.save(job, kind, State::Bytes(data.into())),
            Work::CheckSignature { item } => {
                let work = Box::new(move || JobResult::Signature(item.is_authentic()));
                self.push(0, Task::Answer { job, work });
            }
            Work::CheckMetadata { torrent, assembled } => {
                self.start();
                let shard = torrent.0.index as usize % self.workers.len();
                let work = Box::new(move || JobResult::Metadata(assembled.check()));
                self.push(shard, Task::Answer { job, work });
            }
            Work::Open {
                torrent,
                info,
                select,
            } => self.push(
                0,
                Task::Open {
                    job,
                    torrent,
                    info,
                    select,
                    unwanted: self.shared.closing(torrent),
                },
            ),
            Work::CloseStorage { torrent } => {
                // What is under way and queued is given up: it could take long.
                self.shared.leave(torrent);
                self.start();
                // Whoever sees it last closes: what is left of earlier jobs is done then.
                let left = Arc::new(AtomicUsize::new(self.workers.len()));
                for shard in 0..self.workers.len() {
                    let left = Arc::clone(&left);
                    self.push(shard, Task::Close { job, torrent, left });
                }
            }
            Work::Read {
                torrent,
                piece,
                begin,
                length,
            } => self.push_piece(
                torrent,
                piece,
                Task::Read(Read {
                    job,
                    torrent,
                    piece,
                    begin,
                    length,
                }),
            ),
            Work::Write {
                torrent,
                piece,
                begin,
                data,
            } => self.push_piece(
                torrent,
                piece,
                Task::Write {
                    job,
                    torrent,
                    piece,
                    begin,
                    data,
                },
            ),
            Work::Hash {
                torrent,
                piece,
                kind,
            } => self.push_piece(
                torrent,
                piece,
                Task::Hash {
                    job,
                    torrent,
                    piece,
                    kind,
                },
            ),
            Work::HashBlocks { torrent, piece } => self.push_piece(
                torrent,
                piece,
                Task::HashBlocks {
                    job,
                    torrent,
                    piece,
                },
            ),
            Work::Commit { torrent, piece } => self.push_piece(
                torrent,
                piece,
                Task::Commit {
                    job,
                    torrent,
                    piece,
                },
            ),
            Work::Discard { torrent, piece } => self.push_piece(
                torrent,
                piece,
                Task::Discard {
                    job,
                    torrent,
                    piece,
                },
            ),
        }
    }

    /// Begins what was gathered.
    pub fn flush(&mut self) {
        for shard in &mut self.workers {
            if !shard.gathered.is_empty() {
                shard.queue.push(shard.gathered.drain(..));
            }
        }
    }

    /// The result of a job is not wanted any more; only fetches are given up for it.
    pub fn cancel(&self, job: JobId) {
        self.fetcher.cancel(job);
    }

    /// Runs `work` on one of the workers, after what was submitted to it before; it gets a buffer
    /// that belongs to the worker. Equal shards run on one worker, in order.
    pub(crate) fn run(&mut self, shard: usize, work: impl FnOnce(&mut Vec<u8>) + Send + 'static) {
        self.start();
        self.push(shard % self.workers.len(), Task::Run(Box::new(work)));
        self.flush();
    }

    fn save(&mut self, job: JobId, kind: StateKind, state: State) {
        let store = self.shared.store_of(kind);
        self.push_save(Task::Save {
            job,
            kind,
            store,
            state,
        });
    }

    fn push_piece(&mut self, torrent: TorrentId, piece: u32, task: Task) {
        self.start();
        let shard = (piece as usize).wrapping_add(torrent.0.index as usize) % self.workers.len();
        self.push(shard, task);
    }

    fn push(&mut self, shard: usize, task: Task) {
        self.start();
        self.workers[shard].gathered.push(task);
    }

    fn push_save(&mut self, task: Task) {
        if self.saver.is_none() {
            self.saver = self.spawn("state".into()).ok();
        }
        match &self.saver {
            Some((queue, _)) => queue.push([task]),
            None => self.push(0, task),
        }
    }

    fn spawn(&self, name: String) -> io::Result<(Arc<Queue>, JoinHandle<()>)> {
        let queue = Arc::new(Queue::default());
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&queue));
        let thread = std::thread::Builder::new().name(name);
        Ok((queue, thread.spawn(move || worker.run())?))
    }

    fn start(&mut self) {
        if !self.workers.is_empty() {
            return;
        }
        let threads = match self.shared.config.threads {
            // More than four only wait for one another's disk.
            0 => std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 4)),
            threads => threads,
        };
        for index in 0..threads {
            match self.spawn(format!("storage-{index}")) {
                Ok((queue, thread)) => self.workers.push(Shard {
                    queue,
                    thread,
                    gathered: Vec::new(),
                }),
                Err(error) if self.workers.is_empty() => {
                    panic!("no thread for storage: {error}")
                }
                Err(_) => break,
            }
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.end();
        self.flush();
        let workers = self
            .workers
            .drain(..)
            .map(|shard| (shard.queue, shard.thread));
        let threads: Vec<_> = workers.chain(self.saver.take()).collect();
        threads
            .iter()
            .for_each(|(queue, _)| queue.push([Task::End]));
        for (_, thread) in threads {
            let _ = thread.join();
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's view of an error of the operating system.
pub(crate) fn job_error(error: &io::Error) -> JobError {
    match error.get_ref() {
        Some(inner) if inner.is::<changes::Changed>() => return JobError::Changed,
        Some(inner) if inner.is::<changes::GivenUp>() => return JobError::Cancelled,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::Unsupported => JobError::Unsupported,
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => JobError::Missing,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JobError::NoSpace,
        io::ErrorKind::FileTooLarge => JobError::NoSpace,
        io::ErrorKind::PermissionDenied => JobError::Permission,
        io::ErrorKind::ReadOnlyFilesystem => JobError::ReadOnly,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists => JobError::InTheWay,
        _ => match Errno::from_io_error(error) {
            // A symbolic link where a file or folder of the torrent should be; a socket or device.
            Some(Errno::LOOP | Errno::NXIO) => JobError::InTheWay,
            Some(Errno::MFILE | Errno::NFILE) => JobError::TooManyFiles,
            _ => JobError::Io,
        },
    }
}

#[cfg(test)]
mod tests;
