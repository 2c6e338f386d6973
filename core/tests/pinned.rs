//! What a host keeps of a block is never much more than the block: a slice of a read pins all of
//! it, so what shares a read with other things is moved out of it.
//!
//! Counted is the memory that is allocated and not freed, with every slice that was to be written
//! kept, as a host keeps those of an unfinished piece.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use support::peer::{BLOCK, HEAD, Swarm, Written};
use trackerless_core::Input;
use trackerless_core::io::JobResult;
use trackerless_core::time::Duration;

struct Counting;

std::thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    LIVE.set(LIVE.get() + change);
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing, since the
// thread-local is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of a buffer that a host reads into.
const BUFFER: usize = 256 * 1024;
const BLOCKS: usize = 512;

/// A frame that means nothing, of so many bytes in all.
fn junk(length: usize) -> Vec<u8> {
    let mut frame = ((length - 4) as u32).to_be_bytes().to_vec();
    frame.push(99);
    frame.resize(length, 0);
    frame
}

/// Messages that say nothing: more than are worked off for one input.
fn keep_alives(length: usize) -> Vec<u8> {
    vec![0; length / 4 * 4]
}

/// Reads `BLOCKS` blocks, each as `reads` cuts it, and tells how many bytes were to be written and
/// how many are allocated for them.
fn kept(reads: impl Fn(Vec<u8>) -> Vec<BytesMut>) -> (isize, isize) {
    let mut swarm = Swarm::downloading_at_speed(BLOCKS as u32 / 16 + 64);
    let mut writes = Vec::with_capacity(1 << 16);
    let before = LIVE.get();
    let mut length = 0;
    for _ in 0..BLOCKS {
        let block = swarm.next_wanted();
        let mut frame = Swarm::head(block).to_vec();
        frame.resize(HEAD + BLOCK, 7);
        for data in reads(frame) {
            assert!(data.len() <= swarm.credit as usize, "more than may be read");
            swarm.receive(data);
            swarm.wait(Duration::from_micros(100));
        }
        while let Some(Written { job, data, .. }) = swarm.writes.pop_front() {
            length += data.len() as isize;
            writes.push(data);
            let result = JobResult::Written;
            swarm.host.handle(Input::JobDone { job, result });
            swarm.perform();
        }
        swarm.answer_others();
        swarm.say_sent();
        swarm.perform();
    }
    assert_eq!(length as usize, BLOCKS * BLOCK);
    (length, LIVE.get() - before)
}

/// A read into a buffer of its own, which it may not fill.
fn read(bytes: &[u8], capacity: usize) -> BytesMut {
    let mut data = BytesMut::with_capacity(capacity.max(bytes.len()));
    data.extend_from_slice(bytes);
    data
}

#[test]
fn what_is_kept_of_a_read_pins_no_more_than_twice_itself() {
    type Reads = fn(Vec<u8>) -> Vec<BytesMut>;
    let ways: [(&str, Reads); 8] = [
        ("a block alone", |frame| vec![read(&frame, 0)]),
        ("a block and a long frame of no meaning", |frame| {
            let rest = junk(BUFFER - frame.len());
            vec![read(&[frame, rest].concat(), 0)]
        }),
        ("a block and somewhat more of no meaning", |frame| {
            let rest = junk(frame.len() + 64);
            vec![read(&[rest, frame].concat(), 0)]
        }),
        ("halves of a block with junk around", |frame| {
            let (first, second) = frame.split_at(frame.len() / 2);
            let rest = junk(BUFFER / 2);
            vec![
                read(&[&rest, first].concat(), 0),
                read(&[second, &rest].concat(), 0),
            ]
        }),
        ("a few bytes at a time in large buffers", |frame| {
            let parts = frame.chunks(2_100);
            parts.map(|part| read(part, BUFFER)).collect()
        }),
        (
            "a block before more messages than one input takes",
            |frame| vec![read(&[frame, keep_alives(BUFFER / 4)].concat(), 0)],
        ),
        (
            "a block after more messages than one input takes",
            |frame| vec![read(&[keep_alives(BUFFER / 4), frame].concat(), 0)],
        ),
        ("a block among messages, the buffer half full", |frame| {
            let some = keep_alives(8_192);
            let bytes = [&some[..], &frame, &some].concat();
            vec![read(&bytes, 2 * bytes.len())]
        }),
    ];
    for (name, reads) in ways {
        let (length, pinned) = kept(reads);
        assert!(
            pinned < 2 * length + (256 << 10),
            "{name}: {pinned} bytes are pinned for {length}"
        );
    }
}
