//! Which files are open, and how one is opened.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::io::Errno;
use trackerless_core::metainfo::Info;

use super::changes::{LOOK_EVERY, Seen, changed};
use super::files::FileStore;
use super::folders::{Folders, Handle, NO_FOLLOW, was_here};
use super::lock;
use super::raw::{clean, last, regular};

/// Open files of one torrent, and what was seen of all of them.
#[derive(Debug)]
pub(super) struct OpenFiles {
    pub(super) folders: Folders,
    /// Files that were seen, with size and time of change at the first sight of them.
    pub(super) seen: HashMap<u32, Seen>,
    /// Files that had bytes before we came, and no right piece of ours since: they may be anything.
    pub(super) theirs: BTreeSet<u32>,
    /// Files of ours that lie on another device than their folder.
    pub(super) apart: BTreeSet<u32>,
    /// Files that were changed since, while nothing was to be written.
    doubted: BTreeSet<u32>,
    /// Pieces of those that were found right after the change.
    sure: BTreeSet<u32>,
    limit: usize,
    files: HashMap<u32, OpenFile>,
    /// Oldest first.
    order: VecDeque<u32>,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    writable: bool,
    /// When somebody looked whether it is still what its name stands for.
    looked: Instant,
}

impl OpenFiles {
    pub(super) fn new(info: &Info, root: &Path, files: usize, folders: usize) -> Self {
        Self {
            folders: Folders::new(info, root, folders),
            seen: HashMap::new(),
            theirs: BTreeSet::new(),
            apart: BTreeSet::new(),
            doubted: BTreeSet::new(),
            sure: BTreeSet::new(),
            limit: files.max(1),
            files: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Closes every file.
    pub(super) fn close(&mut self) {
        self.order.clear();
        self.files.clear();
        self.folders.forget();
    }

    /// The folder of file `index`; with `create` it is made where it is missing.
    pub(super) fn folder(
        &mut self,
        info: &Info,
        index: u32,
        create: bool,
        follow: bool,
    ) -> io::Result<Handle> {
        let Self { folders, seen, .. } = self;
        folders.of(info, index, create, follow, |file, depth| {
            // Then somebody took that folder away.
            was_here(info, file, depth, |at| seen.contains_key(&at))
        })
    }
}

impl FileStore {
    /// File `index`, opened before or now. With `write` it is made where it is missing.
    pub(super) fn file(&self, index: u32, write: bool) -> io::Result<Arc<File>> {
        let mut guard = lock(&self.open);
        let open = &mut *guard;
        if let Some(known) = open.files.get_mut(&index)
            && (known.writable || !write)
        {
            // Not each time: for a seeder it would be a good part of all system calls.
            let is_late = known.looked.elapsed() >= LOOK_EVERY;
            if !is_late || self.is_unchanged(&known.file.metadata()?, open.seen.get(&index)) {
                if is_late {
                    known.looked = Instant::now();
                }
                return Ok(Arc::clone(&known.file));
            }
            if !self.is_read_only() {
                return Err(changed());
            }
            // Whatever has its name now may be as right as what had it before.
            open.files.remove(&index);
            open.order.retain(|other| *other != index);
        }
        // Opened under the lock: two workers must not make and cut one file twice.
        let before = open.seen.get(&index).copied();
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let opened = match self.open_file(open, index, write, before) {
            // The folder is one that was kept, and may be gone: every name is looked up again.
            Err(error) if missing(&error) && (write || before.is_some()) => {
                open.folders.forget();
                self.open_file(open, index, write, before)
            }
            opened => opened,
        };
        let (file, now) = match opened {
            Ok((file, now)) => (Arc::new(file), now),
            Err(error) if missing(&error) && before.is_some() => return Err(changed()),
            Err(error) => {
                self.note_obstacle(&error, index);
                return Err(error);
            }
        };
        if before.is_some_and(|before| before != now) && self.is_read_only() {
            let pieces = self.info().pieces_of_file(index as usize);
            open.doubted.insert(index);
            open.sure.retain(|piece| !pieces.contains(piece));
            open.seen.insert(index, now);
        }
        open.seen.entry(index).or_insert(now);
        let known = OpenFile {
            file: Arc::clone(&file),
            writable: write,
            looked: Instant::now(),
        };
        if open.files.insert(index, known).is_none() {
            open.order.push_back(index);
            if open.order.len() > open.limit
                && let Some(oldest) = open.order.pop_front()
            {
                open.files.remove(&oldest);
            }
        }
        Ok(file)
    }

    /// Whether what an open file holds is still what its name stands for, and while nothing is
    /// written whether it is as it was `before`.
    fn is_unchanged(&self, now: &Metadata, before: Option<&Seen>) -> bool {
        let same = before.is_none_or(|before| *before == Seen::of(now));
        now.nlink() > 0 && (!self.is_read_only() || same)
    }

    /// Whether `piece` has bytes in a file that somebody changed since it was found right.
    pub(super) fn doubts(&self, piece: u32) -> bool {
        let open = lock(&self.open);
        if open.doubted.is_empty() || open.sure.contains(&piece) {
            return false;
        }
        let info = self.info();
        let mut spans = info.spans(piece, 0, info.piece_size(piece));
        spans.any(|span| open.doubted.contains(&(span.file as u32)))
    }

    /// `piece` was found right again.
    pub(super) fn trust(&self, piece: u32) {
        lock(&self.open).sure.insert(piece);
    }

    fn open_file(
        &self,
        open: &mut OpenFiles,
        index: u32,
        write: bool,
        before: Option<Seen>,
    ) -> io::Result<(File, Seen)> {
        let file = &self.info().files[index as usize];
        let create = write && before.is_none();
        let handle = open.folder(self.info(), index, create, self.is_read_only())?;
        let name = last(&file.path)?;
        // Non-blocking: a pipe of that name must not hold a worker for ever.
        let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
        if !write {
            let mut flags = flags | OFlags::RDONLY;
            flags.set(OFlags::NOFOLLOW, !self.is_read_only());
            let open = |name: &str| rfs::openat(&*handle.folder, name, flags, Mode::empty());
            let opened = match (open(name), &file.given_name) {
                // Content that nobody downloaded has the names that the torrent was made of.
                (Err(Errno::NOENT), Some(given)) if self.is_read_only() => open(clean(given)?),
                (opened, _) => opened,
            };
            let opened = File::from(opened?);
            let meta = opened.metadata()?;
            regular(&meta)?;
            return Ok((opened, Seen::of(&meta)));
        }
        if handle.reserved.iter().any(|reserved| reserved == name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        open.folders.note_device(&handle);
        let flags = flags | NO_FOLLOW | OFlags::RDWR;
        if create {
            let mode = if file.executable { 0o777 } else { 0o666 };
            let mode = Mode::from_raw_mode(mode);
            // Nothing was there when it was looked for: what is there by now is not ours, and stays
            // as it is. What is made here needs no look: it is a plain, empty file.
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            let opened = rfs::openat(&*handle.folder, name, flags, mode)?;
            return Ok((opened.into(), Seen::NEW));
        }
        let opened = File::from(rfs::openat(&*handle.folder, name, flags, Mode::empty())?);
        let meta = opened.metadata()?;
        regular(&meta)?;
        if open.folders.is_reserved((meta.dev(), meta.ino())) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // A longer file of that name is somebody else's: it is neither cut nor written to.
        if meta.len() > file.length {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if meta.dev() != handle.device {
            open.apart.insert(index);
        }
        // One that was begun without the attribute (BEP 47): whoever may read it may run it.
        let mode = meta.permissions().mode();
        if file.executable && mode & 0o111 == 0 {
            let more = Mode::from_raw_mode((mode | (mode & 0o444) >> 2) & 0o7777);
            rfs::fchmod(&opened, more)?;
        }
        Ok((opened, Seen::of(&meta)))
    }
}
