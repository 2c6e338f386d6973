//! What endgame costs, and what it is for.

use super::world::World;
use super::*;

const BLOCK: u64 = 16 * 1024;

/// Bytes that arrived and were of no use when one leecher fetched from `seeds`; `rate` gives
/// each seed's bytes per second by its number.
fn wasted(config: Config, seeds: u64, rate: impl Fn(u64) -> u64) -> (u64, Duration) {
    let mut world = World::with(config);
    let info = torrent(96 * PIECE, PIECE);
    let nodes: Vec<_> = (0..seeds).map(|_| world.seed(&info)).collect();
    for (number, node) in nodes.iter().enumerate() {
        world.nodes[*node].up_rate = rate(number as u64);
    }
    let leecher = world.leech(&info);
    let start = world.now;
    world.introduce(leecher, &nodes);
    assert!(world.run_while_not(SECOND * 600, |world| world.is_complete(leecher)));
    let took = world.now.saturating_since(start);
    world.run(SECOND);
    world.assert_right(leecher);
    let stats = world.nodes[leecher].swarm.stats();
    (stats.downloaded - info.total_length, took)
}

/// Seeds of which the fastest is eight times as fast as the slowest.
fn unequal(number: u64) -> u64 {
    500_000 * (1 + number % 8)
}

#[test]
fn many_peers_waste_at_most_a_block_each() {
    for rate in [|_| 20_000_000, unequal] {
        for seeds in [4, 16] {
            let (bytes, _) = wasted(Config::default(), seeds, rate);
            assert!(bytes <= seeds * BLOCK, "{bytes} bytes of {seeds} peers");
        }
    }
}

#[test]
fn without_its_limits_endgame_would_waste_more() {
    let mut config = Config::default();
    config.swarm.endgame_blocks = config.swarm.max_pipeline;
    config.swarm.endgame_requesters = 3;
    let (bytes, _) = wasted(config, 16, unequal);
    assert!(bytes > 16 * BLOCK, "{bytes} bytes");
}

#[test]
fn a_slow_peer_does_not_hold_up_the_end() {
    let slow = |number| if number == 0 { 20_000 } else { 2_000_000 };
    let (bytes, took) = wasted(Config::default(), 4, slow);
    // Alone, the slow one needs 0.8 s for a block, and 3.2 s for the fewest it can be asked for.
    assert!(took < SECOND * 6, "{took:?}");
    assert!(bytes <= 16 * BLOCK, "{bytes} bytes");
}

#[test]
fn a_peer_that_stalls_does_not_hold_up_the_end_until_it_is_overdue() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let lame = world.seed(&info);
    world.nodes[lame].half = true;
    let seed = world.seed(&info);
    world.nodes[seed].up_rate = 1_000_000;
    let leecher = world.leech(&info);
    world.introduce(leecher, &[lame]);
    world.run(SECOND);
    world.introduce(leecher, &[seed]);
    // Long before the 60 s after which its requests count as unanswered.
    assert!(world.run_while_not(SECOND * 10, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
}
