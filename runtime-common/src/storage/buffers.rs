//! Large buffers that are used again: memory that is new to the process costs as much as what is
//! read into it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;

/// Bytes of the smallest buffer that is kept; what is smaller costs little to make.
const SMALLEST: usize = 64 * 1024;
/// Classes, each of twice the size of the one before.
const CLASSES: usize = 3;
/// Bytes of idle buffers that are kept.
const KEPT: usize = 4 << 20;

#[derive(Default)]
struct Idle {
    buffers: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
}

/// Makes buffers, and takes them back once nobody has anything of them any more.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Idle>>);

impl Buffers {
    /// An empty buffer for `length` bytes.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let Some(class) = class_of(length) else {
            return Vec::with_capacity(length);
        };
        let mut idle = lock(&self.0);
        match idle.buffers[class].pop() {
            Some(buffer) => {
                idle.bytes -= size_of(class);
                buffer
            }
            None => Vec::with_capacity(size_of(class)),
        }
    }

    /// The bytes of a buffer, which comes back when the last slice of them is dropped.
    pub(super) fn share(&self, buffer: Vec<u8>) -> Bytes {
        match class_of(buffer.len()) {
            Some(_) => Bytes::from_owner(Shared(buffer, self.clone())),
            None => buffer.into(),
        }
    }
}

/// The class of buffers that fits `length`, if they are kept.
fn class_of(length: usize) -> Option<usize> {
    let fits = |class: &usize| size_of(*class) >= length;
    (0..CLASSES).find(fits).filter(|_| length > SMALLEST / 2)
}

const fn size_of(class: usize) -> usize {
    SMALLEST << class
}

struct Shared(Vec<u8>, Buffers);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let class = (0..CLASSES).find(|class| size_of(*class) == buffer.capacity());
        let mut idle = lock(&self.1.0);
        if let Some(class) = class
            && idle.bytes + size_of(class) <= KEPT
        {
            idle.bytes += size_of(class);
            idle.buffers[class].push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_slice_and_few_are_kept() {
        let buffers = Buffers::default();
        let fill = |length| {
            let mut buffer = buffers.take(length);
            buffer.resize(length, 7);
            buffers.share(buffer)
        };
        let whole = fill(200_000);
        let place = whole.as_ptr();
        let slice = whole.slice(16_384..32_768);
        drop(whole);
        assert_ne!(fill(200_000).as_ptr(), place);
        drop(slice);
        let again = [buffers.take(140_000), buffers.take(140_000)];
        assert!(again.iter().any(|buffer| buffer.as_ptr() == place));
        // What would pin far more than itself is not kept.
        let kept = || lock(&buffers.0).bytes;
        let before = kept();
        drop(fill(20_000));
        assert_eq!(kept(), before);
        drop((0..100).map(|_| fill(100_000)).collect::<Vec<_>>());
        assert!((KEPT - (SMALLEST << CLASSES)..=KEPT).contains(&kept()));
    }
}
