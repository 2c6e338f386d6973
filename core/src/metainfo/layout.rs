//! Where the bytes of pieces lie in files.

use core::ops::Range;

use super::{File, Info};

/// A run of bytes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Index into [`Info::files`].
    pub file: usize,
    /// First byte within the file.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u32,
    /// The file is a pad file: zeros, neither read nor written.
    pub pad: bool,
}

/// The parts of files that make up a run of bytes of a piece.
#[derive(Debug, Clone)]
pub struct Spans<'i> {
    files: &'i [File],
    file: usize,
    at: u64,
    end: u64,
}

impl Info {
    /// The file parts of `len` bytes at `begin` of `piece`, in order; what lies beyond the end of
    /// the piece or of the content is left out.
    #[must_use]
    pub fn spans(&self, piece: u32, begin: u32, len: u32) -> Spans<'_> {
        let size = u64::from(self.piece_size(piece));
        let start = u64::from(piece) * u64::from(self.piece_length);
        let at = start + u64::from(begin).min(size);
        let end = start + (u64::from(begin) + u64::from(len)).min(size);
        Spans {
            files: &self.files,
            file: self
                .files
                .partition_point(|file| file.offset + file.length <= at),
            at,
            end,
        }
    }

    /// The pieces in which file `index` has bytes; empty for an empty file or an index too large.
    #[must_use]
    pub fn pieces_of_file(&self, index: usize) -> Range<u32> {
        let Some(file) = self.files.get(index).filter(|file| file.length > 0) else {
            return 0..0;
        };
        let piece_length = u64::from(self.piece_length);
        let first = file.offset / piece_length;
        let end = (file.offset + file.length).div_ceil(piece_length);
        first as u32..end as u32
    }

    /// Bytes of content, pad files left out.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        self.files
            .iter()
            .filter(|file| !file.pad)
            .map(|file| file.length)
            .sum()
    }
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        while self.at < self.end {
            let file = self.files.get(self.file)?;
            let file_end = file.offset + file.length;
            if file_end <= self.at {
                self.file += 1;
                continue;
            }
            let span = Span {
                file: self.file,
                offset: self.at - file.offset,
                len: (self.end.min(file_end) - self.at) as u32,
                pad: file.pad,
            };
            self.at += u64::from(span.len);
            return Some(span);
        }
        None
    }
}
