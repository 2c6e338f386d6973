//! Pieces that reach into files which were not asked for.
//!
//! A piece is checked and served as a whole, so its bytes in such files have to be somewhere. They
//! are kept in one file of ours beside the content, `.<info-hash>.pieces`, as libtorrent does, and
//! no file that was not asked for is made or written. Only pieces that lie in more than one file
//! can be shared like that, and each of those has a place, whatever is selected: so another
//! selection finds its pieces again. What it asks for moves to its files, and once no piece is
//! left the file goes.
//!
//! The file begins with [`MAGIC`] and a bit for each place, set once the piece there is whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{self as rfs, Mode, OFlags};
use trackerless_core::metainfo::Info;

use super::lock;
use super::raw::{pread, write_all};

/// What the file begins with.
const MAGIC: &[u8; 16] = b"trackerless.pcs1";
/// Places begin at a multiple of this, bytes, as file systems like it.
const ALIGN: u64 = 4096;

/// The name of the file, in the output folder.
pub(crate) fn name_of(info: &Info) -> String {
    format!(".{}.pieces", info.hashes.short())
}

/// Shared pieces of one torrent.
#[derive(Debug)]
pub(super) struct Parts {
    path: PathBuf,
    piece_length: u64,
    /// Pieces that lie in more than one file, in order: the places.
    shared: Vec<u32>,
    /// Files that are not wanted.
    unwanted: BTreeSet<u32>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    /// A bit for each place: the piece there is whole, most significant bit first.
    whole: Vec<u8>,
    /// Places that were written since the start, whole or not.
    touched: BTreeSet<usize>,
}

impl Parts {
    /// Those of `info` below `root` when only the files `select` are wanted, all if it is empty.
    ///
    /// # Errors
    /// Those of the file system, and `AlreadyExists` where something else has the name.
    pub(super) fn open(info: &Info, root: &Path, select: &[u32]) -> io::Result<Option<Self>> {
        let path = root.join(name_of(info));
        if select.is_empty() && path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let wanted: BTreeSet<u32> = select.iter().copied().collect();
        let all = 0..info.files.len() as u32;
        let unwanted = all.filter(|index| !wanted.is_empty() && !wanted.contains(index));
        let parts = Self {
            path,
            piece_length: info.piece_length.into(),
            shared: shared_pieces(info),
            unwanted: unwanted.collect(),
            state: Mutex::default(),
        };
        parts.load()?;
        Ok(Some(parts))
    }

    /// Whether file `index` was asked for.
    pub(super) fn wants(&self, index: u32) -> bool {
        !self.unwanted.contains(&index)
    }

    /// The place of `piece`, if it can be shared.
    pub(super) fn place(&self, piece: u32) -> Option<usize> {
        self.shared.binary_search(&piece).ok()
    }

    /// Whether a byte of `piece` is in a file that was not asked for.
    pub(super) fn is_aside(&self, info: &Info, piece: u32) -> bool {
        let mut spans = info.spans(piece, 0, info.piece_size(piece));
        spans.any(|span| !span.pad && !self.wants(span.file as u32))
    }

    /// Whether bytes can be read at a place.
    pub(super) fn holds(&self, place: usize) -> bool {
        let state = lock(&self.state);
        state.has(place) || state.touched.contains(&place)
    }

    /// The pieces that are here.
    pub(super) fn whole(&self) -> Vec<(usize, u32)> {
        let state = lock(&self.state);
        let all = self.shared.iter().copied().enumerate();
        all.filter(|(place, _)| state.has(*place)).collect()
    }

    /// Appends `length` bytes at `begin` of the piece at `place` to `out`.
    pub(super) fn read(
        &self,
        place: usize,
        begin: u32,
        length: u32,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let file = lock(&self.state).file.clone();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let offset = self.offset(place) + u64::from(begin);
        pread(&file, out, out.len() + length as usize, offset)
    }

    /// Writes `blocks` at `begin` of the piece at `place`.
    pub(super) fn write(&self, place: usize, begin: u32, blocks: &[Bytes]) -> io::Result<()> {
        let file = {
            let mut state = lock(&self.state);
            state.touched.insert(place);
            match &state.file {
                Some(file) => Arc::clone(file),
                None => Arc::clone(state.file.insert(self.make()?)),
            }
        };
        write_all(&*file, blocks, self.offset(place) + u64::from(begin))
    }

    /// The piece at `place` is all there and right.
    pub(super) fn finish(&self, place: usize) -> io::Result<()> {
        self.note(place, true)
    }

    /// The piece at `place` is in its files.
    pub(super) fn drop_piece(&self, place: usize) -> io::Result<()> {
        self.note(place, false)
    }

    /// Brings everything to the device.
    pub(super) fn sync(&self) -> io::Result<()> {
        let file = lock(&self.state).file.clone();
        file.map_or(Ok(()), |file| file.sync_data())
    }

    /// Removes the file if there is no piece in it.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.file.is_none() || state.whole.iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        state.file = None;
        state.touched.clear();
        std::fs::remove_file(&self.path)
    }

    fn note(&self, place: usize, whole: bool) -> io::Result<()> {
        let mut state = lock(&self.state);
        let (at, bit) = (place / 8, 0x80 >> (place % 8));
        if whole {
            state.whole[at] |= bit;
        } else {
            state.whole[at] &= !bit;
        }
        let byte = [state.whole[at]];
        match &state.file {
            Some(file) => file.write_all_at(&byte, MAGIC.len() as u64 + at as u64),
            None => Ok(()),
        }
    }

    fn offset(&self, place: usize) -> u64 {
        let head = (MAGIC.len() + self.shared.len().div_ceil(8)) as u64;
        head.next_multiple_of(ALIGN) + place as u64 * self.piece_length
    }

    fn load(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.whole = vec![0; self.shared.len().div_ceil(8)];
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |more| rfs::open(&self.path, flags | more, Mode::empty());
        // One that can only be read is enough to verify.
        let opened = open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY));
        let file = match opened.map_err(io::Error::from) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if meta.is_file() && meta.len() == 0 {
            // Begun, and killed before there was a piece.
            return Ok(());
        }
        let mut magic = [0; MAGIC.len()];
        let ours = meta.is_file()
            && file.read_exact_at(&mut magic, 0).is_ok()
            && magic == *MAGIC
            && file
                .read_exact_at(&mut state.whole, MAGIC.len() as u64)
                .is_ok();
        if !ours {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.file = Some(Arc::new(file));
        Ok(())
    }

    fn make(&self) -> io::Result<Arc<File>> {
        if let Some(root) = self.path.parent() {
            std::fs::create_dir_all(root)?;
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDWR | OFlags::CREATE;
        let mode = Mode::from_raw_mode(0o666);
        let file = File::from(rfs::open(&self.path, flags | OFlags::NONBLOCK, mode)?);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut head = MAGIC.to_vec();
        head.resize(MAGIC.len() + self.shared.len().div_ceil(8), 0);
        file.write_all_at(&head, 0)?;
        Ok(Arc::new(file))
    }
}

impl State {
    fn has(&self, place: usize) -> bool {
        let byte = self.whole.get(place / 8);
        byte.is_some_and(|byte| byte & (0x80 >> (place % 8)) != 0)
    }
}

/// Pieces in which more than one file has bytes, padding aside.
pub(crate) fn shared_pieces(info: &Info) -> Vec<u32> {
    let mut shared = Vec::new();
    let mut before = None;
    let files = info.files.iter().enumerate();
    for (index, _) in files.filter(|(_, file)| !file.pad && file.length > 0) {
        let pieces = info.pieces_of_file(index);
        if before == Some(pieces.start) && shared.last() != before.as_ref() {
            shared.push(pieces.start);
        }
        before = pieces.end.checked_sub(1);
    }
    shared
}
