use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockRef;

use super::OsSocket;

/// Slices handed to one `writev`.
const MAX_SLICES: usize = 64;
/// Sent heads are cut off once this many bytes of them have gathered.
const COMPACT: usize = 16 * 1024;
/// Bodies up to this size are copied beside the heads: cheaper than a slice of their own.
const INLINE_BODY: usize = 256;

#[derive(Debug)]
enum Segment {
    /// This many bytes of `heads`.
    Heads(usize),
    Body(Bytes),
}

/// What waits to be written to a stream: heads copied into one buffer, bodies as they are.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    heads: Vec<u8>,
    /// Bytes of `heads` that have been written.
    heads_done: usize,
    segments: VecDeque<Segment>,
}

impl WriteQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn push(&mut self, head: &[u8], body: Bytes) {
        self.push_head(head);
        if body.len() <= INLINE_BODY {
            self.push_head(&body);
        } else {
            self.segments.push_back(Segment::Body(body));
        }
    }

    fn push_head(&mut self, head: &[u8]) {
        if head.is_empty() {
            return;
        }
        self.heads.extend_from_slice(head);
        match self.segments.back_mut() {
            Some(Segment::Heads(len)) => *len += head.len(),
            _ => self.segments.push_back(Segment::Heads(head.len())),
        }
    }

    /// Writes once, as much as one call takes.
    pub(crate) fn write(&mut self, stream: &impl OsSocket) -> io::Result<usize> {
        let written = SockRef::from(stream).send_vectored(&self.slices())?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(written);
        Ok(written)
    }

    fn slices(&self) -> SmallVec<[IoSlice<'_>; MAX_SLICES]> {
        let mut at = self.heads_done;
        self.segments
            .iter()
            .take(MAX_SLICES)
            .map(|segment| match segment {
                Segment::Heads(len) => {
                    at += len;
                    IoSlice::new(&self.heads[at - len..at])
                }
                Segment::Body(body) => IoSlice::new(body),
            })
            .collect()
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(segment) = self.segments.front_mut() else {
                break;
            };
            let step;
            let rest = match segment {
                Segment::Heads(len) => {
                    step = written.min(*len);
                    *len -= step;
                    self.heads_done += step;
                    *len
                }
                Segment::Body(body) => {
                    step = written.min(body.len());
                    // A body of which only the tail is left still pins the whole block; that
                    // ends with the next write.
                    *body = body.slice(step..);
                    body.len()
                }
            };
            written -= step;
            if rest == 0 {
                self.segments.pop_front();
            }
        }
        if self.segments.is_empty() {
            self.heads.clear();
            self.heads_done = 0;
        } else if self.heads_done >= COMPACT {
            self.heads.drain(..self.heads_done);
            self.heads_done = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(queue: &WriteQueue) -> Vec<u8> {
        queue
            .slices()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn any_split_of_writes_keeps_the_bytes_in_order() {
        let mut whole = Vec::new();
        let fill = |queue: &mut WriteQueue, whole: &mut Vec<u8>| {
            for n in 0..20u8 {
                let head = [n; 13];
                let body = Bytes::from(vec![n ^ 0x80; usize::from(n) * 40]);
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&body);
                queue.push(&head, body);
            }
        };
        for step in [1, 7, 13, 300, 4096, 100_000] {
            let mut queue = WriteQueue::default();
            whole.clear();
            fill(&mut queue, &mut whole);
            let mut written = 0;
            while !queue.is_empty() {
                let front = gathered(&queue);
                assert_eq!(front, whole[written..written + front.len()]);
                let n = step.min(front.len());
                queue.advance(n);
                written += n;
            }
            assert_eq!(written, whole.len());
            assert!(queue.heads.is_empty());
        }
    }

    #[test]
    fn heads_next_to_each_other_share_a_slice() {
        let mut queue = WriteQueue::default();
        queue.push(b"have", Bytes::new());
        queue.push(b"have", Bytes::from_static(b"small"));
        assert_eq!(queue.slices().len(), 1);
        queue.push(b"piece", Bytes::from(vec![0; 16384]));
        assert_eq!(queue.slices().len(), 2);
    }
}
