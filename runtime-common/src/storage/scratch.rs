//! Room for unfinished pieces that must not go to their files.
//!
//! What is spilled is not verified. Into files that we have made it may go, but not over bytes
//! that were there before we came: they may be somebody's, and a peer could replace them by
//! anything. Such pieces wait in a file without a name beside the content, and go to their files
//! once they are right.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use trackerless_core::metainfo::Info;

use super::folders::NO_FOLLOW;
use super::lock;
use super::raw::{pread, write_all};

/// Pieces that wait for their hashes, each at its own offset of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Scratch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    pieces: BTreeSet<u32>,
}

impl Scratch {
    /// Whether bytes of `piece` are here.
    pub(super) fn holds(&self, piece: u32) -> bool {
        lock(&self.0).pieces.contains(&piece)
    }

    /// Writes `blocks` at `begin` of `piece`; `folder` is where the file is made.
    pub(super) fn write(
        &self,
        info: &Info,
        folder: &File,
        (piece, begin): (u32, u32),
        blocks: &[Bytes],
    ) -> io::Result<()> {
        let start = offset(info, piece);
        let file = {
            let mut state = lock(&self.0);
            let file = match &state.file {
                Some(file) => Arc::clone(file),
                None => Arc::clone(state.file.insert(Arc::new(make(info, folder)?))),
            };
            // Bytes that did not come yet read as zeros.
            let end = start + u64::from(info.piece_size(piece));
            if file.metadata()?.len() < end {
                file.set_len(end)?;
            }
            state.pieces.insert(piece);
            file
        };
        write_all(&*file, blocks, start + u64::from(begin))
    }

    /// Appends `length` bytes at `begin` of `piece` to `out`.
    pub(super) fn read(
        &self,
        info: &Info,
        (piece, begin): (u32, u32),
        length: u32,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let file = lock(&self.0).file.clone();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let from = offset(info, piece) + u64::from(begin);
        pread(&file, out, out.len() + length as usize, from)
    }

    /// `piece` is in its files, or not wanted any more: gives its room back.
    pub(super) fn forget(&self, info: &Info, piece: u32) {
        let mut state = lock(&self.0);
        if !state.pieces.remove(&piece) {
            return;
        }
        if state.pieces.is_empty() {
            state.file = None;
        } else if let Some(file) = &state.file {
            make_hole(file, offset(info, piece), info.piece_size(piece).into());
        }
    }
}

fn offset(info: &Info, piece: u32) -> u64 {
    u64::from(piece) * u64::from(info.piece_length)
}

/// Gives room back; where that cannot be done, all of it comes back with the last piece.
#[cfg(target_os = "linux")]
fn make_hole(file: &File, offset: u64, length: u64) {
    use rustix::fs::FallocateFlags;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = rfs::fallocate(file, hole, offset, length);
}

#[cfg(not(target_os = "linux"))]
fn make_hole(_: &File, _: u64, _: u64) {}

/// A file that goes with the process, however that ends.
fn make(info: &Info, folder: &File) -> io::Result<File> {
    if let Some(file) = nameless(folder)? {
        return Ok(file);
    }
    // Nobody else's file is taken for it.
    let name = format!(".{}.spilled", info.hashes.short());
    let flags = NO_FOLLOW | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let file = rfs::openat(folder, &name, flags, Mode::from_raw_mode(0o600))?;
    rfs::unlinkat(folder, &name, AtFlags::empty())?;
    Ok(file.into())
}

/// A file without a name; `None` where the file system has none.
#[cfg(target_os = "linux")]
fn nameless(folder: &File) -> io::Result<Option<File>> {
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rfs::openat(folder, ".", flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &File) -> io::Result<Option<File>> {
    Ok(None)
}
