//! Reads, writes and names as the operating system takes them.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::io::Errno;

/// Paths are clean when they get here; this is the second lock on the same door.
pub(super) fn clean(element: &str) -> io::Result<&str> {
    let bad = matches!(element, "" | "." | "..") || element.contains(['/', '\0']);
    if bad {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(element)
}

/// The last element of a path.
pub(super) fn last(path: &[String]) -> io::Result<&str> {
    clean(path.last().map_or("", String::as_str))
}

/// Refuses whatever is no plain file.
pub(super) fn regular(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() {
        Ok(())
    } else {
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
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
