//! What a block costs, through [`trackerless_core::Engine`] as a whole.
//!
//! `cargo bench -p trackerless-core --bench block`
//!
//! A block received: bytes of the stream in, its write out, the answer to the write and the next
//! request; its share of the piece's hash and commit included. A block served: the request in, the
//! read out, the answer to the read, the block out, and word that it has left. Both without the
//! host's part: no byte of a block is looked at, hashed or copied. Time passes between blocks, and
//! its ticks are not measured. The allocator is counted.

#[path = "../tests/support/mod.rs"]
mod support;

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use support::peer::{BLOCK, HEAD, Swarm};
use trackerless_core::Input;
use trackerless_core::io::JobResult;
use trackerless_core::time::Duration;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PIECES: u32 = 40_000;

fn main() {
    divan::main();
}

/// A read as hosts make it: out of a buffer that is shared already.
fn buffer(length: usize) -> BytesMut {
    BytesMut::zeroed(length + 1).split_to(length)
}

/// Blocks that come `N` at a time in one read.
#[divan::bench(consts = [1, 4, 16])]
fn received<const N: usize>(bencher: Bencher<'_, '_>) {
    let swarm = RefCell::new(Swarm::downloading_at_speed(PIECES));
    let written = RefCell::new(Vec::new());
    bencher
        .counter(BytesCount::new(N * BLOCK))
        .with_inputs(|| {
            written.borrow_mut().clear();
            let mut swarm = swarm.borrow_mut();
            assert!(swarm.pieces_done + 100 < PIECES, "the torrent is used up");
            swarm.wait(Duration::from_micros(100 * N as u64));
            buffer(N * (HEAD + BLOCK))
        })
        .bench_local_values(|mut data| {
            let mut swarm = swarm.borrow_mut();
            for frame in data.chunks_exact_mut(HEAD + BLOCK) {
                frame[..HEAD].copy_from_slice(&Swarm::head(swarm.next_wanted()));
            }
            swarm.receive(data);
            answer(&mut swarm, &mut written.borrow_mut());
        });
}

/// One block that comes in reads of one TCP segment each.
#[divan::bench]
fn received_in_segments(bencher: Bencher<'_, '_>) {
    const SEGMENT: usize = 1_460;
    let swarm = RefCell::new(Swarm::downloading_at_speed(PIECES));
    let written = RefCell::new(Vec::new());
    bencher
        .counter(BytesCount::new(BLOCK))
        .with_inputs(|| {
            written.borrow_mut().clear();
            swarm.borrow_mut().wait(Duration::from_micros(100));
            buffer(HEAD + BLOCK)
        })
        .bench_local_values(|mut data| {
            let mut swarm = swarm.borrow_mut();
            let head = Swarm::head(swarm.next_wanted());
            data[..HEAD].copy_from_slice(&head);
            while !data.is_empty() {
                let segment = data.split_to(SEGMENT.min(data.len()));
                swarm.receive(segment);
            }
            answer(&mut swarm, &mut written.borrow_mut());
        });
}

/// Everything asked of the host is answered; block data is kept, so that freeing it is not timed.
fn answer(swarm: &mut Swarm, written: &mut Vec<Bytes>) {
    while let Some(write) = swarm.writes.pop_front() {
        let (job, result) = (write.job, JobResult::Written);
        swarm.host.handle(Input::JobDone { job, result });
        swarm.perform();
        written.push(write.data);
    }
    swarm.answer_others();
    swarm.say_sent();
    swarm.perform();
}

#[divan::bench]
fn served(bencher: Bencher<'_, '_>) {
    let swarm = RefCell::new(Swarm::serving(64));
    let mut blocks = swarm.borrow().blocks();
    let data = Bytes::from(vec![7; BLOCK + 1]).slice(1..);
    bencher
        .counter(BytesCount::new(BLOCK))
        .with_inputs(|| {
            swarm.borrow_mut().wait(Duration::from_micros(100));
            let request = Swarm::request(blocks.next().expect("blocks come round and round"));
            let mut read = buffer(request.len());
            read.copy_from_slice(&request);
            read
        })
        .bench_local_values(|request| {
            let mut swarm = swarm.borrow_mut();
            swarm.receive(request);
            while let Some((job, _)) = swarm.reads.pop_front() {
                let result = JobResult::Read(data.clone());
                swarm.host.handle(Input::JobDone { job, result });
                swarm.perform();
            }
            assert!(swarm.sent.pop_front().is_some(), "the block is sent");
            swarm.say_sent();
            swarm.perform();
        });
}
