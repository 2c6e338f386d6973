//! What the core allocates in a steady state: nothing.
//!
//! Counted is every call of the allocator (`alloc`, `alloc_zeroed`, `realloc`) that this thread
//! makes within `Engine::handle`, once tables, queues and arenas have grown to the size they need.
//! Not counted is what a host does: reading into buffers, taking outputs, dropping block data.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use support::node::Node;
use support::peer::{BLOCK, HEAD, Swarm};
use trackerless_core::io::{AddTorrent, Command, JobResult, Source, Tag};
use trackerless_core::metainfo::Torrent;
use trackerless_core::resume::Resume;
use trackerless_core::time::{Duration, Instant};
use trackerless_core::{Config, Engine, Input, Outbox};

struct Counting;

std::thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    COUNTED.set(COUNTED.get().map(|counted| counted + 1));
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing, since the
// thread-local is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations within `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNTED.set(Some(0));
    work();
    COUNTED.take().unwrap_or_default()
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(
        allocations(|| drop(std::hint::black_box(vec![0u8; 100]))),
        1
    );
    assert_eq!(allocations(|| {}), 0);
}

/// Prepares a query of one of the askers.
type Prepare = fn(&mut Node, u32);

#[test]
fn a_query_is_answered_without_an_allocation() {
    let mut node = Node::new();
    assert!(node.contacts() > 100, "{} contacts", node.contacts());
    let kinds: [(&str, Prepare); 4] = [
        ("ping", Node::prepare_ping),
        ("find_node", Node::prepare_find_node),
        ("get_peers", Node::prepare_get_peers),
        ("announce_peer", Node::prepare_announce),
    ];
    for (name, prepare) in kinds {
        let mut counted = 0;
        let mut bytes = 0;
        for round in 0..3 {
            for n in 0..Node::ASKERS {
                prepare(&mut node, n);
                let here = allocations(|| node.send(n));
                bytes += node.take_answer(n);
                // The first round finds who of the askers is new.
                counted += if round == 0 { 0 } else { here };
            }
        }
        assert!(bytes > 0);
        assert_eq!(counted, 0, "allocations for {} of {name}", 2 * Node::ASKERS);
    }
}

/// What a downloading engine allocates, by kind of input, over whole pieces.
#[derive(Debug, Default, PartialEq)]
struct Download {
    blocks: u32,
    received: u64,
    written: u64,
    others: u64,
}

fn download(make: impl Fn(usize) -> BytesMut) -> Download {
    // 16 seconds to grow, 15 that count: a millisecond for each block, so that reviews of rates and
    // rounds of the choker, which deepen pipelines, lie in both.
    let mut swarm = Swarm::downloading(2_048);
    let mut counted = Download::default();
    for pieces in [1_024, 2_048 - 64] {
        counted = Download::default();
        while swarm.pieces_done < pieces {
            let block = swarm.next_wanted();
            let mut data = make(HEAD + BLOCK);
            data[..HEAD].copy_from_slice(&Swarm::head(block));
            counted.blocks += 1;
            counted.received += allocations(|| swarm.hand_over(data));
            swarm.perform();
            while let Some(write) = swarm.writes.pop_front() {
                let (job, result) = (write.job, JobResult::Written);
                counted.written +=
                    allocations(|| swarm.host.handle(Input::JobDone { job, result }));
                swarm.perform();
            }
            while let Some((job, result)) = swarm.others.pop_front() {
                counted.others += allocations(|| swarm.host.handle(Input::JobDone { job, result }));
                swarm.perform();
            }
            counted.written += allocations(|| swarm.say_sent());
            swarm.perform();
            swarm.wait(Duration::from_millis(1));
        }
    }
    counted
}

/// A read as hosts make it, out of a pool: the buffer is shared before the core sees it.
#[test]
fn a_block_is_received_without_an_allocation() {
    let counted = download(|length| {
        let mut pool = BytesMut::zeroed(length + 1);
        pool.split_to(length)
    });
    assert!(counted.blocks > 15_000);
    let inputs = (counted.received, counted.written, counted.others);
    assert_eq!(inputs, (0, 0, 0), "{counted:?}");
}

/// A read in a buffer of its own: `bytes` makes it shareable, once per buffer, when the frame's
/// head is cut off.
#[test]
fn a_buffer_that_was_not_shared_costs_one_allocation_at_most() {
    let counted = download(BytesMut::zeroed);
    assert!(counted.received <= u64::from(counted.blocks), "{counted:?}");
    assert_eq!((counted.written, counted.others), (0, 0), "{counted:?}");
}

#[test]
fn a_block_is_served_without_an_allocation() {
    let mut swarm = Swarm::serving(64);
    let mut blocks = swarm.blocks();
    let mut counted = [0; 3];
    for round in 0..4_000 {
        let request = Swarm::request(blocks.next().unwrap());
        let mut pool = BytesMut::zeroed(request.len() + 1);
        let mut data = pool.split_to(request.len());
        data.copy_from_slice(&request);
        let mut now = [0; 3];
        now[0] = allocations(|| swarm.hand_over(data));
        swarm.perform();
        let (job, block) = swarm.reads.pop_front().expect("the block is read");
        let data = Bytes::from(vec![7; block.length as usize]);
        // Shared before, as by a host that keeps blocks it has read.
        let shared = data.clone();
        let result = JobResult::Read(data);
        now[1] = allocations(|| swarm.host.handle(Input::JobDone { job, result }));
        swarm.perform();
        assert_eq!(swarm.sent.pop_front().map(|sent| sent.body), Some(shared));
        now[2] = allocations(|| swarm.say_sent());
        swarm.perform();
        swarm.wait(Duration::from_micros(100));
        if round >= 2_000 {
            (0..3).for_each(|at| counted[at] += now[at]);
        }
    }
    assert_eq!(counted, [0; 3], "for requests, reads and sent bytes");
}

/// A torrent of so many small files, and what an earlier run saved of it.
fn many_files(count: usize) -> (Torrent, Resume) {
    let mut file = String::from("d4:infod5:filesl");
    for number in 0..count {
        let name = format!("{number:05}");
        write!(file, "d6:lengthi1e4:pathl5:{name}ee").expect("it is a string");
    }
    let pieces = "-".repeat(count.div_ceil(16_384) * 20);
    write!(
        file,
        "e4:name1:x12:piece lengthi16384e6:pieces{}:{pieces}ee",
        pieces.len()
    )
    .expect("it is a string");
    let torrent = Torrent::parse(file.into()).expect("it is right");
    let resume = Resume {
        info_hash: torrent.info.hashes.short(),
        info: Some(torrent.info.raw.clone()),
        ..Resume::default()
    };
    (torrent, resume)
}

/// To parse metadata costs an allocation for each file, and more: no input does it.
#[test]
fn what_the_host_has_read_is_not_parsed_again() {
    let added = |count: usize, knows: bool| {
        let (torrent, resume) = many_files(count);
        let link = format!("magnet:?xt=urn:btih:{}", torrent.info.hashes.short());
        let info = knows.then(|| Arc::clone(&torrent.info));
        let mut add = AddTorrent::new(match knows {
            true => Source::Torrent(Arc::new(torrent)),
            false => Source::Magnet(link),
        });
        add.info = info;
        add.resume = Some(Box::new(resume));
        let command = Box::new(Command::AddTorrent(add));
        let now = Instant::from_micros(1_000_000);
        let mut engine =
            Engine::new(Arc::new(Config::default()), [1; 32], now).expect("the default is right");
        let mut out = Outbox::new();
        let counted = allocations(|| {
            let tag = Tag(1);
            engine.handle(now, Input::Command { tag, command }, &mut out);
        });
        assert_eq!(engine.torrents().count(), 1);
        counted
    };
    let parsed = allocations(|| drop(many_files(2_000)));
    assert!(parsed > 2_000, "{parsed}");
    for knows in [true, false] {
        let (few, many) = (added(2, knows), added(2_000, knows));
        assert!(many < few + 200, "{few} for few files, {many} for many");
    }
}
