use std::io;
use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use socket2::SockRef;

use super::OsSocket;

/// Bytes of one pooled buffer.
const CHUNK: usize = 256 * 1024;
/// With less room than this a new buffer is begun.
const MIN_ROOM: usize = 32 * 1024;
/// Reads up to this size are copied out, so that they never pin a whole buffer.
const COPY_UP_TO: usize = 2 * 1024;

/// Buffers that streams read into; what was read is split off without a copy.
#[derive(Debug, Default)]
pub(crate) struct ReadPool {
    buffer: BytesMut,
}

impl ReadPool {
    /// Makes room for a read. Where all slices of the old buffer are gone it is used again.
    pub(crate) fn prepare(&mut self) {
        if self.buffer.capacity() < MIN_ROOM {
            self.buffer.reserve(CHUNK);
        }
    }

    /// Reads at most `limit` bytes; 0 is the end of the stream.
    pub(crate) fn read(&mut self, stream: &impl OsSocket, limit: usize) -> io::Result<usize> {
        let room: &mut [MaybeUninit<u8>] = self.buffer.spare_capacity_mut();
        let limit = limit.min(room.len());
        let read = SockRef::from(stream).recv(&mut room[..limit])?;
        // SAFETY: `recv` reports how many bytes at the start of `room` it has initialised.
        unsafe { self.buffer.advance_mut(read) };
        Ok(read)
    }

    /// Takes what was read.
    pub(crate) fn take(&mut self) -> BytesMut {
        if self.buffer.len() <= COPY_UP_TO {
            let copy = BytesMut::from(&self.buffer[..]);
            self.buffer.clear();
            return copy;
        }
        self.buffer.split()
    }
}
