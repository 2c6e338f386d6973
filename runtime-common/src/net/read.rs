use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use socket2::SockRef;

use super::OsSocket;

/// Bytes of the smallest buffer; each class has buffers of twice the size of the one before.
const SMALLEST: usize = 4 * 1024;
const CLASSES: usize = 9;
/// Reads in a row that filled less than half, after which the next buffer is a class smaller.
/// Several, since what a visit leaves in the socket is often little.
const SHORT_READS: u8 = 8;
/// Bytes of buffers given away that are watched for being used again: as much as a fast download
/// has on its way to the disk.
const WATCHED: usize = 16 << 20;
/// Buffers looked at before a new one is made. They come back much in the order in which they went.
const LOOKS: usize = 4;

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
///
/// Once nobody has anything of a buffer any more it is read into again: memory that is new to the
/// process costs as much as what is read into it.
#[derive(Debug, Default)]
pub(crate) struct ReadPool {
    /// An empty buffer of each class, or none.
    spare: [BytesMut; CLASSES],
    /// The ends of buffers that were given away, without bytes of their own, oldest first.
    given: [VecDeque<BytesMut>; CLASSES],
    /// Bytes of the buffers whose ends are in `given`.
    watched: usize,
    /// Whether something was read since the last [`Self::trim`].
    used: bool,
    class: usize,
    limit: usize,
}

impl ReadPool {
    /// Makes room for a read of at most `limit` bytes.
    pub(crate) fn prepare(&mut self, expected: Expected, limit: usize) {
        self.class = expected.class.min(class_for(limit));
        let size = size_of(self.class);
        self.limit = limit.min(size);
        if self.spare[self.class].capacity() < size {
            self.spare[self.class] = self
                .reclaim()
                .unwrap_or_else(|| BytesMut::with_capacity(size));
        }
    }

    /// A buffer of the class that was given away, and of which nobody has anything any more.
    fn reclaim(&mut self) -> Option<BytesMut> {
        let (given, size) = (&mut self.given[self.class], size_of(self.class));
        for _ in 0..LOOKS.min(given.len()) {
            let mut end = given.pop_front()?;
            if end.try_reclaim(size) {
                self.watched -= size;
                return Some(end);
            }
            given.push_back(end);
        }
        None
    }

    /// Gives the memory back that nothing was read into for a while; whether there is some for the
    /// next time. Called every second or so.
    pub(crate) fn trim(&mut self) -> bool {
        let used = std::mem::take(&mut self.used);
        if !used {
            self.spare = Default::default();
            self.given = Default::default();
            self.watched = 0;
        }
        used
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
        self.used = true;
        if buffer.len() < size_of(self.class) / 2 {
            let copy = BytesMut::from(&buffer[..]);
            buffer.clear();
            return copy;
        }
        let mut buffer = std::mem::take(buffer);
        self.given[self.class].push_back(buffer.split_off(buffer.capacity()));
        self.watched += size_of(self.class);
        while self.watched > WATCHED {
            self.forget_one();
        }
        buffer
    }

    /// Watches the oldest buffer of the class that has most bytes no longer.
    fn forget_one(&mut self) {
        let bytes = |class: &usize| self.given[*class].len() * size_of(*class);
        let most = (0..CLASSES).max_by_key(bytes).unwrap_or_default();
        if self.given[most].pop_front().is_some() {
            self.watched -= size_of(most);
        }
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
    fn a_buffer_that_nobody_has_is_read_into_again() {
        let mut ends = pair();
        let (mut pool, mut expected) = <(ReadPool, Expected)>::default();
        let mut kept: VecDeque<Vec<BytesMut>> = VecDeque::new();
        let mut places = std::collections::BTreeSet::new();
        for round in 0..100 {
            let all = read(&mut pool, &mut ends, &mut expected, 60_000);
            assert!(all.iter().flatten().all(|byte| *byte == 7));
            if round >= 20 {
                places.extend(
                    all.iter()
                        .filter(|one| one.len() > 30_000)
                        .map(|one| one.as_ptr()),
                );
            }
            kept.push_back(all);
            // What the engine and the disk have is never read into.
            assert!(kept.iter().flatten().flatten().all(|byte| *byte == 7));
            if kept.len() > 3 {
                kept.pop_front();
            }
        }
        assert!(places.len() <= 8, "{} buffers", places.len());
        drop(kept);
        assert!(pool.trim() && pool.watched > 0);
        assert!(!pool.trim());
        assert!(pool.watched == 0 && pool.given.iter().all(VecDeque::is_empty));
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
        assert_eq!(size_of(expected.class), 1024 * 1024);
        // A read that credit cuts short says nothing.
        for _ in 0..2 * SHORT_READS {
            expected.note(2, 10_000, 10_000);
        }
        assert_eq!(size_of(expected.class), 1024 * 1024);
    }
}
