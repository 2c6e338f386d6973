//! The files of one torrent, reached without ever leaving the output folder.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use rustix::fs::{self as rfs, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use trackerless_core::metainfo::{Info, Span};

use super::changes::{LOOK_EVERY, Seen, changed};
use super::lock;
use super::parts::Parts;
use super::present::is_hole;
use crate::keep::Place;
use crate::stamp::{Stamp, Watch};

/// Files that may be written to at the same time.
const WRITERS: usize = 16;
/// Slices of one `pwritev`; what every system takes.
const MAX_SLICES: usize = 1024;
/// Bytes of a piece that are moved to its files at once.
const MOVED_AT_ONCE: u32 = 1 << 20;
/// Symbolic links are never followed where something is written, so that no link that was put below the output folder, by
/// a torrent or by anybody, leads a write out of it.
const NO_FOLLOW: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// The files of one torrent below one folder.
#[derive(Debug)]
pub struct FileStore {
    info: Arc<Info>,
    root: PathBuf,
    open: Mutex<OpenFiles>,
    watch: Option<Watch>,
    reserved: Vec<PathBuf>,
    /// Pieces that reach into files which were not asked for.
    parts: Option<Parts>,
    /// Nothing is made or written.
    read_only: bool,
    /// Who writes to a file holds one of these, by the file's index. The kernel lets one writer in
    /// at a time and has the others spin; here they sleep.
    turns: [Mutex<()>; WRITERS],
}

#[derive(Debug)]
struct OpenFiles {
    /// Files that were seen, with size and time of change at the first sight of them.
    seen: HashMap<u32, Seen>,
    /// Files that were changed since, while nothing was to be written.
    doubted: BTreeSet<u32>,
    /// Pieces of those that were found right after the change.
    sure: BTreeSet<u32>,
    /// Device and inode of the output folder, once it was seen.
    root: Option<(u64, u64)>,
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

impl FileStore {
    /// The files of `info` below `root`. Touches nothing.
    #[must_use]
    pub fn new(info: Arc<Info>, root: PathBuf, max_open_files: usize) -> Self {
        Self {
            info,
            root,
            open: Mutex::new(OpenFiles {
                seen: HashMap::new(),
                doubted: BTreeSet::new(),
                sure: BTreeSet::new(),
                root: None,
                limit: max_open_files.max(1),
                files: HashMap::new(),
                order: VecDeque::new(),
            }),
            watch: None,
            reserved: Vec::new(),
            parts: None,
            read_only: false,
            turns: Default::default(),
        }
    }

    /// Makes and writes no file from now on but those of `select`, all if it is empty.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn select(&mut self, select: &[u32]) -> io::Result<()> {
        self.parts = Parts::open(&self.info, &self.root, select)?;
        Ok(())
    }

    /// Whether file `index` was asked for.
    pub(super) fn wants(&self, index: u32) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.wants(index))
    }

    /// Pieces that are kept as a whole beside the content.
    pub(super) fn whole_aside(&self) -> Vec<u32> {
        let whole = self.parts.iter().flat_map(Parts::whole);
        whole.map(|(_, piece)| piece).collect()
    }

    /// Nothing is made or written from now on. Then symbolic links are followed, since content may
    /// be kept in several places.
    pub(crate) fn read_only(&mut self) {
        self.read_only = true;
    }

    fn read_flags(&self) -> OFlags {
        match self.read_only {
            true => OFlags::CLOEXEC,
            false => NO_FOLLOW,
        }
    }

    /// Refuses from now on to write to any of these, under whatever name.
    pub(crate) fn reserve(&mut self, files: &[PathBuf]) {
        self.reserved = files.to_vec();
    }

    /// Notes every write from now on in a journal at `journal`, for [`FileStore::stamp`].
    pub(crate) fn watch(&mut self, journal: PathBuf) {
        self.watch = Some(Watch::new(journal));
    }

    /// Brings what was written to the device, and tells what the files look like; `None` when
    /// they are not watched, or there is no folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn stamp(&self) -> io::Result<Option<Stamp>> {
        let Some(watch) = &self.watch else {
            return Ok(None);
        };
        watch.take(&self.info, &self.root, |index| {
            let one = match &self.parts {
                Some(parts) if index == self.parts_index() => return parts.sync(),
                _ => self.file(index, false),
            };
            match one {
                Ok(file) => file.sync_data(),
                // Somebody took it away: there is nothing to bring anywhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    /// The torrent.
    #[must_use]
    pub fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// The folder everything is below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what no write will make: the output folder, empty files, links.
    ///
    /// # Errors
    /// Those of the file system, and `AlreadyExists` where a file is longer than it should be.
    pub fn prepare(&self) -> io::Result<()> {
        let info = &self.info;
        for (index, file) in info.files.iter().enumerate() {
            let plain = !file.pad && file.symlink.is_none() && self.wants(index as u32);
            if plain
                && self
                    .size(index as u32)?
                    .is_some_and(|size| size > file.length)
            {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        let wanted = info.files.iter().enumerate();
        let wanted = wanted.filter(|(index, file)| !file.pad && self.wants(*index as u32));
        for (index, file) in wanted {
            if let Some(target) = &file.symlink {
                self.make_link(index as u32, target)?;
            } else if file.length == 0 {
                self.file(index as u32, true)?;
            }
        }
        self.move_to_files()
    }

    /// Brings pieces that were kept aside to the files that are wanted by now.
    fn move_to_files(&self) -> io::Result<()> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        let (mut kept, mut there) = (Vec::new(), Vec::new());
        for (place, piece) in parts.whole() {
            let mut begin = 0;
            for span in self.info.spans(piece, 0, self.info.piece_size(piece)) {
                let end = begin + span.len;
                let wanted = !span.pad && self.wants(span.file as u32);
                while begin < end {
                    let length = (end - begin).min(MOVED_AT_ONCE);
                    if wanted {
                        let part = Span {
                            offset: span.offset + u64::from(begin + span.len - end),
                            len: length,
                            ..span
                        };
                        kept.clear();
                        parts.read(place, begin, length, &mut kept)?;
                        there.clear();
                        // What is the same already is left alone, with its time of change.
                        let read = self.read_span(&part, &mut there);
                        if read.is_err() || there != kept {
                            let block = Bytes::copy_from_slice(&kept);
                            self.write_to_files(piece, begin, &[block])?;
                        }
                    }
                    begin += length;
                }
            }
            if !parts.is_aside(&self.info, piece) {
                self.announce(self.parts_index());
                parts.drop_piece(place)?;
            }
        }
        parts.tidy()
    }

    /// `piece` is right and all of it written.
    pub(super) fn finish(&self, piece: u32) -> io::Result<()> {
        match self.aside(piece) {
            Some((parts, place)) => {
                self.announce(self.parts_index());
                parts.finish(place)
            }
            None => Ok(()),
        }
    }

    /// Where `piece` is kept as a whole, if it reaches into a file that was not asked for.
    fn aside(&self, piece: u32) -> Option<(&Parts, usize)> {
        let parts = self.parts.as_ref()?;
        let place = parts.place(piece)?;
        parts.is_aside(&self.info, piece).then_some((parts, place))
    }

    /// What the pieces beside the content go by in the journal: no file has that number.
    fn parts_index(&self) -> u32 {
        self.info.files.len() as u32
    }

    /// Something is about to be written.
    fn announce(&self, index: u32) {
        if let Some(watch) = &self.watch {
            watch.before_write(index);
        }
    }

    /// Resume data with the last stamp is saved.
    pub(crate) fn stamped(&self) {
        if let Some(watch) = &self.watch {
            watch.tidy();
        }
    }

    /// Size of file `index` on disk; `None` when it is not there.
    ///
    /// # Errors
    /// Those of the file system, except that it is not there.
    pub fn size(&self, index: u32) -> io::Result<Option<u64>> {
        match self.file(index, false) {
            Ok(file) => Ok(Some(file.metadata()?.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends `length` bytes at `begin` of `piece` to `out`. Pad files read as zeros.
    ///
    /// # Errors
    /// `NotFound` or `UnexpectedEof` when not all of it is there; else those of the file system.
    pub fn read(&self, piece: u32, begin: u32, length: u32, out: &mut Vec<u8>) -> io::Result<()> {
        out.reserve(length as usize);
        let kept = self.parts.as_ref().and_then(|parts| {
            let place = parts.place(piece)?;
            parts.holds(place).then_some((parts, place))
        });
        let mut at = begin;
        for span in self.info.spans(piece, begin, length) {
            let start = out.len();
            match kept {
                _ if span.pad => out.resize(start + span.len as usize, 0),
                Some((parts, place)) if !self.wants(span.file as u32) => {
                    parts.read(place, at, span.len, out)?;
                }
                _ => match (self.read_span(&span, out), kept) {
                    (Err(error), Some((parts, place))) if self.read_only && is_missing(&error) => {
                        out.truncate(start);
                        parts.read(place, at, span.len, out)?;
                    }
                    (read, _) => read?,
                },
            }
            at += span.len;
        }
        Ok(())
    }

    fn read_span(&self, span: &Span, out: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file(span.file as u32, false)?;
        pread(&file, out, out.len() + span.len as usize, span.offset)
    }

    /// Writes `blocks`, which are contiguous from `begin` of `piece` on, with as few calls as the
    /// files allow. What falls on pad files is dropped.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, piece: u32, begin: u32, blocks: &[Bytes]) -> io::Result<()> {
        if let Some((parts, place)) = self.aside(piece) {
            self.announce(self.parts_index());
            parts.write(place, begin, blocks)?;
        }
        self.write_to_files(piece, begin, blocks)
    }

    fn write_to_files(&self, piece: u32, begin: u32, blocks: &[Bytes]) -> io::Result<()> {
        let length: usize = blocks.iter().map(Bytes::len).sum();
        let mut rest = blocks.iter().cloned();
        let mut block = Bytes::new();
        let mut slices: Vec<Bytes> = Vec::with_capacity(blocks.len().min(MAX_SLICES));
        for span in self.info.spans(piece, begin, length as u32) {
            let mut left = span.len as usize;
            let mut offset = span.offset;
            while left > 0 {
                slices.clear();
                let mut batch = 0;
                while left > 0 && slices.len() < MAX_SLICES {
                    if block.is_empty() {
                        match rest.next() {
                            Some(next) => block = next,
                            None => break,
                        }
                        continue;
                    }
                    let part = block.split_to(block.len().min(left));
                    left -= part.len();
                    batch += part.len();
                    slices.push(part);
                }
                if !span.pad && self.wants(span.file as u32) {
                    self.announce(span.file as u32);
                    let file = self.file(span.file as u32, true)?;
                    let _turn = lock(&self.turns[span.file % self.turns.len()]);
                    write_all(&*file, &slices, offset)?;
                }
                if batch == 0 {
                    break;
                }
                offset += batch as u64;
            }
        }
        Ok(())
    }

    /// Closes every file; with `sync` their data is on the device afterwards.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn close(&self, sync: bool) -> io::Result<()> {
        let mut open = lock(&self.open);
        open.order.clear();
        let files = std::mem::take(&mut open.files);
        drop(open);
        for open in files.into_values().filter(|open| sync && open.writable) {
            open.file.sync_data()?;
        }
        if let Some(parts) = self.parts.as_ref().filter(|_| sync) {
            parts.sync()?;
        }
        if let Some(watch) = &self.watch {
            watch.close();
        }
        Ok(())
    }

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
            if !self.read_only {
                return Err(changed());
            }
            // Whatever has its name now may be as right as what had it before.
            open.files.remove(&index);
            open.order.retain(|other| *other != index);
        }
        // Opened under the lock: two workers must not make and cut one file twice.
        let before = open.seen.get(&index).copied();
        let file = match self.open_file(open, index, write && before.is_none(), write) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && before.is_some() => {
                return Err(changed());
            }
            Err(error) => return Err(error),
        };
        let now = Seen::of(&file.metadata()?);
        if before.is_some_and(|before| before != now) && self.read_only {
            let pieces = self.info.pieces_of_file(index as usize);
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
        now.nlink() > 0 && (!self.read_only || same)
    }

    /// Whether `piece` has bytes in a file that somebody changed since it was found right.
    pub(super) fn doubts(&self, piece: u32) -> bool {
        let open = lock(&self.open);
        let mut spans = self.info.spans(piece, 0, self.info.piece_size(piece));
        !open.doubted.is_empty()
            && !open.sure.contains(&piece)
            && spans.any(|span| open.doubted.contains(&(span.file as u32)))
    }

    /// `piece` was found right again.
    pub(super) fn trust(&self, piece: u32) {
        lock(&self.open).sure.insert(piece);
    }

    fn open_file(
        &self,
        open: &mut OpenFiles,
        index: u32,
        create: bool,
        write: bool,
    ) -> io::Result<File> {
        let file = &self.info.files[index as usize];
        let folder = self.folder(open, index, create)?;
        let name = last(&file.path)?;
        if !write {
            // Non-blocking: a pipe of that name must not hold a worker for ever.
            let flags = self.read_flags() | OFlags::RDONLY | OFlags::NONBLOCK;
            let opened = File::from(rfs::openat(&folder, name, flags, Mode::empty())?);
            regular(&opened)?;
            return Ok(opened);
        }
        let mode = if file.executable { 0o777 } else { 0o666 };
        let mut flags = NO_FOLLOW | OFlags::RDWR | OFlags::NONBLOCK;
        flags.set(OFlags::CREATE, create);
        let opened = File::from(rfs::openat(
            &folder,
            name,
            flags,
            Mode::from_raw_mode(mode),
        )?);
        regular(&opened)?;
        let place = Place::of_open(&opened)?;
        if self
            .reserved
            .iter()
            .any(|path| Place::of(path) == Some(place.clone()))
        {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // A longer file of that name is somebody else's: it is neither cut nor written to.
        let meta = opened.metadata()?;
        if meta.len() > file.length {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // One that was begun without the attribute (BEP 47): whoever may read it may run it.
        let mode = meta.permissions().mode();
        if file.executable && mode & 0o111 == 0 {
            let more = Mode::from_raw_mode((mode | (mode & 0o444) >> 2) & 0o7777);
            rfs::fchmod(&opened, more)?;
        }
        Ok(opened)
    }

    /// The folder of the file at `path`, walked from the output folder step by step.
    fn folder(&self, open: &mut OpenFiles, index: u32, create: bool) -> io::Result<OwnedFd> {
        let path = &self.info.files[index as usize].path;
        if create && open.root.is_none() {
            std::fs::create_dir_all(&self.root)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let below = flags | if create { NO_FOLLOW } else { self.read_flags() };
        // The output folder itself is the user's choice, a link or not.
        let mut at = match rfs::open(&self.root, flags, Mode::empty()) {
            Err(Errno::NOENT) if open.root.is_some() => return Err(changed()),
            root => root?,
        };
        let root = File::from(at);
        let meta = root.metadata()?;
        let identity = (meta.dev(), meta.ino());
        if *open.root.get_or_insert(identity) != identity {
            return Err(changed());
        }
        at = root.into();
        let folders = path.split_last().map_or(&[][..], |(_, folders)| folders);
        for (depth, element) in folders.iter().enumerate() {
            let element = clean(element)?;
            let next = rfs::openat(&at, element, below, Mode::empty());
            at = match next {
                Err(Errno::NOENT) if create => {
                    if self.was_here(open, index, depth + 1) {
                        return Err(changed());
                    }
                    match rfs::mkdirat(&at, element, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    rfs::openat(&at, element, below, Mode::empty())?
                }
                next => next?,
            };
        }
        Ok(at)
    }

    /// Whether a file was seen in the folder that the first `depth` elements of the path of file
    /// `index` lead to: then somebody took that folder away. Files of a folder follow each other.
    fn was_here(&self, open: &OpenFiles, index: u32, depth: usize) -> bool {
        let files = &self.info.files;
        let index = index as usize;
        let folder = &files[index].path[..depth];
        let inside = |at: &usize| files[*at].pad || files[*at].path.starts_with(folder);
        let before = (0..index).rev().take_while(inside);
        let after = (index + 1..files.len()).take_while(inside);
        let mut all = before.chain(after);
        all.any(|at| open.seen.contains_key(&(at as u32)))
    }

    /// Reserves the space of all wanted files.
    ///
    /// # Errors
    /// Those of the file system: `StorageFull` when there is too little, `Unsupported` where none
    /// can be reserved.
    pub(super) fn preallocate(&self) -> io::Result<()> {
        let files = self.info.files.iter().enumerate();
        let plain = files.filter(|(_, file)| !file.pad && file.length > 0);
        for (index, file) in plain.filter(|(index, _)| self.wants(*index as u32)) {
            let index = index as u32;
            self.announce(index);
            let opened = self.file(index, true)?;
            match rfs::fallocate(&*opened, FallocateFlags::empty(), 0, file.length) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Whether all of `piece` is there, and holes of sparse files.
    pub(super) fn is_hole(&self, piece: u32) -> bool {
        if let Some(parts) = &self.parts
            && parts.place(piece).is_some_and(|place| parts.holds(place))
        {
            return false;
        }
        let mut spans = self.info.spans(piece, 0, self.info.piece_size(piece));
        spans.all(|span| {
            let hole = |file: Arc<File>| is_hole(&*file, span.offset, span.len.into());
            span.pad || self.file(span.file as u32, false).is_ok_and(hole)
        })
    }

    fn make_link(&self, index: u32, target: &[String]) -> io::Result<()> {
        let path = &self.info.files[index as usize].path;
        let text = link_text(path, target);
        let folder = self.folder(&mut lock(&self.open), index, true)?;
        let name = last(path)?;
        match rfs::symlinkat(&text, &folder, name) {
            Ok(()) => Ok(()),
            // Ours from an earlier run; anything else is somebody's, and left as it is.
            Err(Errno::EXIST) => match rfs::readlinkat(&folder, name, Vec::new()) {
                Ok(there)
                    if leads_to(
                        &self.root,
                        path,
                        OsStr::from_bytes(there.as_bytes()),
                        target,
                    ) =>
                {
                    Ok(())
                }
                Ok(_) | Err(Errno::INVAL) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the link at `path` that says `text` leads to `target`, all below `root`: by its words,
/// since what it leads to may not be there yet, or by what is there.
pub(crate) fn leads_to(
    root: &Path,
    path: &[String],
    text: impl AsRef<OsStr>,
    target: &[String],
) -> bool {
    let real = |path: &[String]| {
        let path: PathBuf = path.iter().collect();
        root.join(path).canonicalize()
    };
    lexical_target(path, Path::new(&text)).is_some_and(|said| said == target)
        || matches!((real(path), real(target)), (Ok(a), Ok(b)) if a == b)
}

/// Where a link at `path` that says `text` leads to by its words; `None` where they lead out, or
/// cannot tell: up from what may be a link itself.
pub(crate) fn lexical_target(path: &[String], text: &Path) -> Option<Vec<String>> {
    let mut at = path.split_last()?.1.to_vec();
    let mut down = false;
    for step in text.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir if !down => _ = at.pop()?,
            Component::Normal(name) => {
                down = true;
                at.push(name.to_str()?.to_owned());
            }
            _ => return None,
        }
    }
    Some(at)
}

/// What a link at `path` says so that it leads to `target`, both below the output folder: the way
/// from its own folder, up only as far as it must.
pub(crate) fn link_text(path: &[String], target: &[String]) -> PathBuf {
    let folder = path.split_last().map_or(&[][..], |(_, folder)| folder);
    let shared = folder.iter().zip(target).take_while(|(a, b)| a == b);
    let shared = shared.count();
    let up = folder[shared..].iter().map(|_| "..");
    let text: PathBuf = up
        .chain(target[shared..].iter().map(String::as_str))
        .collect();
    match text.as_os_str().is_empty() {
        // Its own folder.
        true => ".".into(),
        false => text,
    }
}

/// Paths are clean when they get here; this is the second lock on the same door.
fn clean(element: &str) -> io::Result<&str> {
    let bad = matches!(element, "" | "." | "..") || element.contains(['/', '\0']);
    if bad {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(element)
}

fn last(path: &[String]) -> io::Result<&str> {
    clean(path.last().map_or("", String::as_str))
}

fn regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        Ok(())
    } else {
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | UnexpectedEof)
}

/// Appends what is there from `offset` on, until `out` is `end` bytes long, without zeroing its
/// memory first.
pub(super) fn pread(file: &File, out: &mut Vec<u8>, end: usize, mut offset: u64) -> io::Result<()> {
    out.reserve(end.saturating_sub(out.len()));
    while out.len() < end {
        let left = end - out.len();
        let read = match rustix::io::pread(file, &mut out.spare_capacity_mut()[..left], offset) {
            Err(Errno::INTR) => continue,
            other => other?.0.len(),
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the call has initialised so many bytes after the ones that were there.
        unsafe { out.set_len(out.len() + read) };
        offset += read as u64;
    }
    Ok(())
}

pub(super) fn write_all(file: impl AsFd, blocks: &[Bytes], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = blocks.iter().map(|block| IoSlice::new(block)).collect();
    let mut slices = &mut slices[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(&file, slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
