//! What a query costs a node whose table is full, from the datagram to the answer in the outbox.
//!
//! `cargo bench -p trackerless-core --bench query`
//!
//! 400 nodes of the table ask in turn. Through [`trackerless_core::Engine`] as a whole, taking the
//! answer out of the outbox included. The allocator is counted: nothing is allocated.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use divan::{AllocProfiler, Bencher};
use support::node::Node;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn run(bencher: Bencher<'_, '_>, prepare: fn(&mut Node, u32)) {
    let mut node = Node::new();
    let queries: Vec<Vec<u8>> = (0..Node::ASKERS)
        .map(|n| {
            prepare(&mut node, n);
            node.query().to_vec()
        })
        .collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % Node::ASKERS;
        node.hand_over(turn, &queries[turn as usize]);
        for output in node.host.out.drain() {
            black_box(output);
        }
    });
}

#[divan::bench]
fn ping(bencher: Bencher<'_, '_>) {
    run(bencher, Node::prepare_ping);
}

#[divan::bench]
fn find_node(bencher: Bencher<'_, '_>) {
    run(bencher, Node::prepare_find_node);
}

/// 400 peers are known, of which 100 are drawn.
#[divan::bench]
fn get_peers(bencher: Bencher<'_, '_>) {
    run(bencher, Node::prepare_get_peers);
}

/// Peers that are known announce themselves again.
#[divan::bench]
fn announce_peer(bencher: Bencher<'_, '_>) {
    run(bencher, Node::prepare_announce);
}
