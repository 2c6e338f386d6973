//! The files of one torrent, reached without ever leaving the output folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{self as rfs, FallocateFlags};
use rustix::io::Errno;
use smallvec::SmallVec;
use trackerless_core::metainfo::{Info, Span};

use super::changes::given_up;
use super::links::{leads_to, link_text};
use super::open::OpenFiles;
use super::parts::Parts;
use super::present::is_hole;
use super::raw::{is_missing, last, pread, write_all};
use super::scratch::Scratch;
use super::written::Written;
use super::{Obstacle, StorageConfig, lock, parts_name};
use crate::stamp::{Stamp, Watch};

/// Files that may be written to at the same time.
const WRITERS: usize = 16;
/// Slices of one `pwritev`; what every system takes.
const MAX_SLICES: usize = 1024;
/// Bytes of a piece that are moved to its files at once.
const MOVED_AT_ONCE: u32 = 1 << 20;

/// The files of one torrent below one folder.
#[derive(Debug)]
pub struct FileStore {
    info: Arc<Info>,
    root: PathBuf,
    pub(super) open: Mutex<OpenFiles>,
    pub(super) written: Written,
    pub(super) watch: Option<Watch>,
    /// Pieces that reach into files which were not asked for.
    pub(super) parts: Option<Parts>,
    scratch: Scratch,
    /// Nothing is made or written.
    read_only: bool,
    /// Files that are brought to the device one by one at most.
    pub(super) sync_one_by_one: usize,
    /// Long jobs are given up once this is set.
    unwanted: Arc<AtomicBool>,
    obstacle: Obstacle,
    /// Who writes to a file holds one of these, by the file's index. The kernel lets one writer in
    /// at a time and has the others spin; here they sleep.
    turns: [Mutex<()>; WRITERS],
}

impl FileStore {
    /// The files of `info` below `root`. Touches nothing.
    #[must_use]
    pub fn new(info: Arc<Info>, root: PathBuf, max_open_files: usize) -> Self {
        let config = StorageConfig {
            max_open_files,
            ..StorageConfig::default()
        };
        Self::with(info, root, &config, Arc::default())
    }

    /// As `config` says; long jobs are given up once `unwanted` is set.
    pub(super) fn with(
        info: Arc<Info>,
        root: PathBuf,
        config: &StorageConfig,
        unwanted: Arc<AtomicBool>,
    ) -> Self {
        let (files, folders) = (config.max_open_files, config.max_open_folders);
        let mut open = OpenFiles::new(&info, &root, files, folders);
        open.folders.reserve(&config.reserved);
        Self {
            open: Mutex::new(open),
            info,
            root,
            written: Written::default(),
            watch: None,
            parts: None,
            scratch: Scratch::default(),
            read_only: config.read_only,
            sync_one_by_one: config.sync_one_by_one,
            unwanted,
            obstacle: config.obstacle.clone(),
            turns: Default::default(),
        }
    }

    /// Fails once nobody wants the job any more that this is a step of.
    pub(super) fn is_wanted(&self) -> io::Result<()> {
        match self.unwanted.load(Ordering::Relaxed) {
            true => Err(given_up()),
            false => Ok(()),
        }
    }

    /// Takes note of what is in the way of file `index`.
    pub(super) fn note_obstacle(&self, error: &io::Error, index: u32) {
        let path = &self.info.files[index as usize].path;
        self.obstacle.note(error, &self.root, path);
    }

    /// Nothing is made or written. Then symbolic links are followed, since content may be kept in
    /// several places.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Makes and writes no file from now on but those of `select`, all if it is empty.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn select(&mut self, select: &[u32]) -> io::Result<()> {
        let parts = Parts::open(&self.info, &self.root, select);
        self.parts = parts.inspect_err(|error| {
            let path = [parts_name(&self.info)];
            self.obstacle.note(error, &self.root, &path);
        })?;
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
        self.sync()?;
        let synced = self.written.take_brought();
        Ok(watch.take(&self.info, &self.root, synced, || self.written.now()))
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

    /// Makes what no write will make: the output folder, empty files, links. Tells which pieces
    /// may be on disk: a bit set, most significant bit first, of those of which at least one byte
    /// may be there.
    ///
    /// # Errors
    /// Those of the file system, and `AlreadyExists` where a file is longer than it should be.
    pub fn prepare(&self) -> io::Result<Vec<u8>> {
        // First what is there, whole: nothing is made where something is in the way.
        let present = self.survey()?;
        if self.read_only {
            return Ok(present);
        }
        let wanted = self.info.files.iter().enumerate();
        let wanted = wanted.filter(|(index, file)| !file.pad && self.wants(*index as u32));
        for (index, file) in wanted {
            if let Some(target) = &file.symlink {
                self.make_link(index as u32, target)
                    .inspect_err(|error| self.note_obstacle(error, index as u32))?;
            } else if file.length == 0 {
                self.is_wanted()?;
                self.file(index as u32, true)?;
            }
        }
        self.move_to_files()?;
        Ok(present)
    }

    /// Brings pieces that were kept aside to the files that are wanted by now.
    fn move_to_files(&self) -> io::Result<()> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        let (mut kept, mut there) = (Vec::new(), Vec::new());
        for (place, piece) in parts.whole() {
            self.is_wanted()?;
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
                self.recorded(&[self.parts_index()], || parts.drop_piece(place))?;
            }
        }
        parts.tidy()
    }

    /// `piece` is right and all of it written.
    pub(super) fn finish(&self, piece: u32) -> io::Result<()> {
        self.own(piece);
        match self.aside(piece) {
            Some((parts, place)) => self.recorded(&[self.parts_index()], || parts.finish(place)),
            None => Ok(()),
        }
    }

    /// A right piece is in its files: what else is in them is not somebody's any more.
    fn own(&self, piece: u32) {
        let mut open = lock(&self.open);
        if !open.theirs.is_empty() {
            let spans = self.info.spans(piece, 0, self.info.piece_size(piece));
            for span in spans {
                open.theirs.remove(&(span.file as u32));
            }
        }
    }

    /// Brings a part of an unfinished piece out of memory: to its place in the files, or where those
    /// hold bytes that may be somebody's, to a place of its own.
    pub(super) fn spill(&self, piece: u32, begin: u32, blocks: &[Bytes]) -> io::Result<()> {
        let mut spans = self.info.spans(piece, 0, self.info.piece_size(piece));
        let scratch = self.scratch.holds(piece) || {
            let open = lock(&self.open);
            spans.any(|span| open.theirs.contains(&(span.file as u32)))
        };
        if !scratch {
            return self.write(piece, begin, blocks);
        }
        let root = lock(&self.open).folders.root(&self.info)?;
        self.scratch
            .write(&self.info, &root.folder, (piece, begin), blocks)
    }

    /// Whether a part of `piece` was spilled to a place of its own, and not to its files.
    pub(super) fn is_in_scratch(&self, piece: u32) -> bool {
        self.scratch.holds(piece)
    }

    /// What was spilled of `piece` is not needed any more.
    pub(super) fn forget_spilled(&self, piece: u32) {
        self.scratch.forget(&self.info, piece);
    }

    /// Where `piece` is kept as a whole, if it reaches into a file that was not asked for.
    fn aside(&self, piece: u32) -> Option<(&Parts, usize)> {
        let parts = self.parts.as_ref()?;
        let place = parts.place(piece)?;
        parts.is_aside(&self.info, piece).then_some((parts, place))
    }

    /// What the pieces beside the content go by in the journal: no file has that number.
    pub(super) fn parts_index(&self) -> u32 {
        self.info.files.len() as u32
    }

    /// Writes to `files`, which are noted before and after.
    fn recorded(&self, files: &[u32], write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let announced = self
            .watch
            .as_ref()
            .map(|watch| (watch, watch.before_write(files)));
        let done = write();
        self.written.add(files.iter().copied());
        if let Some((watch, announced)) = announced {
            watch.after_write(announced);
        }
        done
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
        if self.scratch.holds(piece) {
            return self.scratch.read(&self.info, (piece, begin), length, out);
        }
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
            let write = || parts.write(place, begin, blocks);
            self.recorded(&[self.parts_index()], write)?;
        }
        self.write_to_files(piece, begin, blocks)
    }

    fn write_to_files(&self, piece: u32, begin: u32, blocks: &[Bytes]) -> io::Result<()> {
        let length: usize = blocks.iter().map(Bytes::len).sum();
        let spans = self.info.spans(piece, begin, length as u32);
        let wanted = |span: &Span| !span.pad && self.wants(span.file as u32);
        let files: SmallVec<[u32; 16]> =
            spans.filter(wanted).map(|span| span.file as u32).collect();
        self.recorded(&files, || self.write_spans(piece, begin, blocks, wanted))
    }

    fn write_spans(
        &self,
        piece: u32,
        begin: u32,
        blocks: &[Bytes],
        wanted: impl Fn(&Span) -> bool,
    ) -> io::Result<()> {
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
                if wanted(&span) {
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
        if sync {
            self.sync()?;
        }
        lock(&self.open).close();
        if let Some(watch) = &self.watch {
            watch.close();
        }
        Ok(())
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
            self.is_wanted()?;
            let index = index as u32;
            self.recorded(&[index], || {
                let opened = self.file(index, true)?;
                match rfs::fallocate(&*opened, FallocateFlags::empty(), 0, file.length) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
                    done => Ok(done?),
                }
            })?;
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
        let handle = lock(&self.open).folder(&self.info, index, true, false)?;
        let folder = &*handle.folder;
        let name = last(path)?;
        match rfs::symlinkat(&text, folder, name) {
            Ok(()) => Ok(()),
            // Ours from an earlier run; anything else is somebody's, and left as it is.
            Err(Errno::EXIST) => match rfs::readlinkat(folder, name, Vec::new()) {
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
