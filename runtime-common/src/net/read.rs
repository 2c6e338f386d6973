use std::io;
use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use socket2::SockRef;

use super::OsSocket;

/// Bytes of the smallest buffer; each class has buffers of twice the size of the one before.
const SMALLEST: usize = 4 * 1024;
const CLASSES: usize = 7;
/// Reads in a row that filled less than half, after which the next buffer is a class smaller.
/// Several, since what a visit leaves in the socket is often little.
const SHORT_READS: u8 = 8;

const fn size_of(class: usize) -> usize {
    SMALLEST << class
}

/// The class of the smallest buffers that `bytes` fit in, if any do.
fn class_for(bytes: usize) -> usize {
    let fits = |class: &usize| size_of(*class) >= bytes;
    (0..CLASSES).find(fits).unwrap_or(CLASSES - 1)
}

/// What the next read of a stream is expected to bring, by what those before it brought.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Expected {
    class: usize,
    short: u8,
}

impl Expected {
    /// A read of `bytes` where `limit` were allowed, into a buffer of `class`.
    fn note(&mut self, class: usize, limit: usize, bytes: usize) {
        let size = size_of(class);
        if bytes >= size {
            self.class = (class + 1).min(CLASSES - 1);
            self.short = 0;
        } else if bytes >= size_of(self.class) / 2 || bytes >= limit {
            self.short = 0;
        } else {
            self.short += 1;
            if self.short >= SHORT_READS {
                self.class = self.class.saturating_sub(1);
                self.short = 0;
            }
        }
    }
}

/// Buffers that streams read into. One that a read filled at least half goes to the engine whole
/// and is used for nothing else; from others the bytes are copied, and they are used again. So
/// whoever keeps what one read brought keeps at most twice as much memory, whatever other streams
/// do meanwhile.
#[derive(Debug, Default)]
pub(crate) struct ReadPool {
    /// An empty buffer of each class, or none.
    spare: [BytesMut; CLASSES],
    class: usize,
    limit: usize,
}

impl ReadPool {
    /// Makes room for a read of at most `limit` bytes.
    pub(crate) fn prepare(&mut self, expected: Expected, limit: usize) {
        self.class = expected.class.min(class_for(limit));
        let size = size_of(self.class);
        self.limit = limit.min(size);
        let spare = &mut self.spare[self.class];
        if spare.capacity() < size {
            *spare = BytesMut::with_capacity(size);
        }
    }

    /// Reads into the room made; 0 is the end of the stream.
    pub(crate) fn read(&mut self, stream: &impl OsSocket) -> io::Result<usize> {
        let buffer = &mut self.spare[self.class];
        let room: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
        let read = SockRef::from(stream).recv(&mut room[..self.limit])?;
        // SAFETY: `recv` reports how many bytes at the start of `room` it has initialised.
        unsafe { buffer.advance_mut(read) };
        Ok(read)
    }

    /// Takes what was read.
    pub(crate) fn take(&mut self, expected: &mut Expected) -> BytesMut {
        let buffer = &mut self.spare[self.class];
        expected.note(self.class, self.limit, buffer.len());
        if buffer.len() < size_of(self.class) / 2 {
            let copy = BytesMut::from(&buffer[..]);
            buffer.clear();
            return copy;
        }
        std::mem::take(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Two ends of a stream over loopback.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let sender = TcpStream::connect(to).expect("a connection");
        (sender, listener.accept().expect("a connection").0)
    }

    fn read(
        pool: &mut ReadPool,
        (sender, receiver): &mut (TcpStream, TcpStream),
        expected: &mut Expected,
        bytes: usize,
    ) -> Vec<BytesMut> {
        sender.write_all(&vec![7; bytes]).expect("sent");
        let mut left = bytes;
        let mut all = Vec::new();
        while left > 0 {
            pool.prepare(*expected, 1 << 20);
            left -= pool.read(receiver).expect("read");
            all.push(pool.take(expected));
        }
        all
    }

    #[test]
    fn a_read_pins_no_more_than_twice_itself_whatever_others_do() {
        let (mut slow, mut fast) = (pair(), pair());
        let (mut pool, mut now, mut other) = <(ReadPool, Expected, Expected)>::default();
        let mut kept: Vec<BytesMut> = Vec::new();
        for bytes in [1, 100, 2_100, 5_000, 40_000, 2_100, 3, 9_000].repeat(20) {
            kept.extend(read(&mut pool, &mut slow, &mut now, bytes));
            read(&mut pool, &mut fast, &mut other, 60_000);
        }
        for data in &kept {
            assert!(data.capacity() <= 2 * data.len(), "{} bytes", data.len());
        }
        let mut places: Vec<_> = kept.iter().map(|data| data.as_ptr_range()).collect();
        places.sort_by_key(|place| place.start);
        assert!(places.windows(2).all(|two| two[0].end <= two[1].start));
        assert!(kept.iter().flatten().all(|byte| *byte == 7));
    }

    #[test]
    fn buffers_grow_with_what_comes_and_shrink_when_it_is_over() {
        let mut ends = pair();
        let (mut pool, mut expected) = <(ReadPool, Expected)>::default();
        read(&mut pool, &mut ends, &mut expected, 4_096);
        assert_eq!(expected.class, 1);
        // What is left over of a burst does not make the next one small.
        for _ in 1..SHORT_READS {
            read(&mut pool, &mut ends, &mut expected, 17);
        }
        assert_eq!(expected.class, 1);
        read(&mut pool, &mut ends, &mut expected, 17);
        assert_eq!(expected.class, 0);
        for class in 0..2 * CLASSES {
            let size = size_of(class.min(CLASSES - 1));
            expected.note(class.min(CLASSES - 1), size, size);
        }
        assert_eq!(size_of(expected.class), 256 * 1024);
        // A read that credit cuts short says nothing.
        for _ in 0..2 * SHORT_READS {
            expected.note(2, 10_000, 10_000);
        }
        assert_eq!(size_of(expected.class), 256 * 1024);
    }
}
