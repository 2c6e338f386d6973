//! Which pieces may be on disk: sizes and holes of sparse files, nothing read.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha1::{Digest as _, Sha1};

use super::files::FileStore;
use super::lock;

impl FileStore {
    /// Looks at every file once. A bit set, most significant bit first, of the pieces of which at
    /// least one byte may be there.
    ///
    /// # Errors
    /// Those of the file system, and where something is to be written `AlreadyExists` for a file
    /// that is longer than it should be.
    pub(super) fn survey(&self) -> io::Result<Vec<u8>> {
        let info = self.info();
        let mut bits = vec![0u8; (info.piece_count as usize).div_ceil(8)];
        let piece_length = u64::from(info.piece_length.max(1));
        let mut mark = |from: u64, to: u64| {
            if from < to {
                for piece in from / piece_length..=(to - 1) / piece_length {
                    if let Some(byte) = bits.get_mut((piece / 8) as usize) {
                        *byte |= 0x80 >> (piece % 8);
                    }
                }
            }
        };
        let mut holes = false;
        for (index, file) in info.files.iter().enumerate() {
            let skipped = file.length == 0 && self.is_read_only();
            if file.pad || file.symlink.is_some() || skipped {
                continue;
            }
            self.is_wanted()?;
            let index = index as u32;
            let opened = match self.file(index, false) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Whatever is there is not our affair.
                Err(_) if !self.wants(index) => continue,
                Err(error) => return Err(error),
            };
            let size = lock(&self.open).seen.get(&index).map_or(0, |it| it.size());
            if size > file.length && !self.is_read_only() && self.wants(index) {
                let error = io::ErrorKind::AlreadyExists.into();
                self.note_obstacle(&error, index);
                return Err(error);
            }
            let size = size.min(file.length);
            if size == 0 {
                continue;
            }
            if !self.is_read_only() {
                lock(&self.open).theirs.insert(index);
            }
            let mut data_bytes = 0;
            for (from, to) in data_runs(&*opened, size) {
                data_bytes += to - from;
                mark(file.offset + from, file.offset + to);
            }
            holes |= data_bytes < size;
        }
        for piece in self.whole_aside() {
            bits[piece as usize / 8] |= 0x80 >> (piece % 8);
        }
        if holes {
            mark_zero_pieces(self, &mut bits);
        }
        if let Some(watch) = &self.watch {
            let open = lock(&self.open);
            let seen = |index| open.seen.get(&index).and_then(|it| it.stamped());
            watch.first_seen(info, self.root(), seen);
        }
        Ok(bits)
    }
}

/// A piece of zeros is complete as a hole, in files that were copied sparsely.
fn mark_zero_pieces(store: &FileStore, bits: &mut [u8]) {
    let info = store.info();
    let (mut length, mut hash) = (0, None);
    for piece in 0..info.piece_count {
        if length != info.piece_size(piece) || hash.is_none() {
            length = info.piece_size(piece);
            hash = Some(zero_hash(length));
        }
        if info.piece_hash(piece) == hash {
            bits[piece as usize / 8] |= 0x80 >> (piece % 8);
        }
    }
}

/// The hash of so many zeros.
pub(super) fn zero_hash(length: u32) -> [u8; 20] {
    let zeros = [0u8; 16 * 1024];
    let mut hasher = Sha1::new();
    let mut left = length as usize;
    while left > 0 {
        let part = left.min(zeros.len());
        hasher.update(&zeros[..part]);
        left -= part;
    }
    hasher.finalize().into()
}

/// Whether a run of bytes of a file is there, and all of it a hole of a sparse file: zeros, which
/// need not be read.
pub(crate) fn is_hole(file: impl AsFd, offset: u64, length: u64) -> bool {
    let end = offset + length;
    let whole = rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_size as u64 >= end);
    whole
        && match rustix::fs::seek(&file, SeekFrom::Data(offset)) {
            Ok(data) => data >= end,
            // No data up to the end of the file.
            Err(Errno::NXIO) => true,
            // The file system cannot tell.
            Err(_) => false,
        }
}

/// Runs of `0..size` that are not holes; all of it where the file system cannot tell.
fn data_runs(file: impl AsFd, size: u64) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            Err(_) => return vec![(0, size)],
        };
        if from >= size {
            break;
        }
        let to = match rustix::fs::seek(&file, SeekFrom::Hole(from)) {
            Ok(to) => to.min(size),
            Err(_) => size,
        };
        if to <= from {
            return vec![(0, size)];
        }
        runs.push((from, to));
        at = to;
    }
    runs
}
