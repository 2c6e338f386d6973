//! What was read and the memory that slices of it keep from being freed.

use bytes::{Bytes, BytesMut};

use super::Event;

/// Less than this is copied rather than kept as a slice, and so little is pinned by anybody.
const SMALL: usize = 1024;
/// What is gathered from small reads grows up to this.
const GATHERED: usize = 64 * SMALL;

/// Bytes of the stream, in the buffer they were read into.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) data: BytesMut,
    /// Bytes of that buffer: every slice of it pins them all.
    pins: usize,
}

impl Chunk {
    /// A read, in a buffer that is used for nothing else.
    pub(super) fn new(data: BytesMut) -> Self {
        let pins = data.capacity();
        Self { data, pins }
    }

    /// Moves the blocks in `events`, which were cut off this buffer, to memory of their own where
    /// they are less than half of it. So a buffer is pinned by blocks that are half of it at
    /// least, and what came with a block is never paid for by whoever keeps the block. That costs
    /// less than reading the rest did.
    pub(super) fn let_go(&self, events: &mut [Event]) {
        if self.pins < SMALL {
            return;
        }
        let blocks = || {
            events.iter().map(|event| match event {
                Event::BlockPart { data, .. } => data.len(),
                _ => 0,
            })
        };
        if blocks().sum::<usize>() >= self.pins / 2 {
            return;
        }
        for event in events {
            if let Event::BlockPart { data, .. } = event {
                *data = Bytes::copy_from_slice(data);
            }
        }
    }

    /// The same bytes, in a buffer of their own where they are less than half of this one.
    pub(super) fn unpinned(self) -> Self {
        if self.data.len() >= self.pins / 2 {
            return self;
        }
        Self::new(BytesMut::from(&self.data[..]))
    }

    /// Appends a small chunk, so that a backlog is not mostly bookkeeping; gives back others.
    pub(super) fn gather(&mut self, chunk: Self) -> Option<Self> {
        if chunk.data.len() >= SMALL || self.data.len() >= GATHERED {
            return Some(chunk);
        }
        self.data.extend_from_slice(&chunk.data);
        self.pins = self.pins.max(self.data.capacity());
        None
    }
}
