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

/// A byte from time to time.
const DRIP: (usize, Duration) = (1, Duration::from_millis(900));
/// 5 KiB a second: slow, and honest.
const SLOW: (usize, Duration) = (512, Duration::from_millis(100));

/// Whether any peer of `node` counts as snubbed.
fn has_snubbed(world: &World, node: usize) -> bool {
    let peers = world.nodes[node].swarm.peers.values();
    peers.clone().any(|peer| peer.snubbed)
}

/// A leecher that knows the lame ones first is complete within `time` of knowing a good seed.
fn completes_beside(world: &mut World, info: &Arc<Info>, lame: &[usize], time: Duration) {
    let seed = world.seed(info);
    world.nodes[seed].up_rate = 1_000_000;
    let leecher = world.leech(info);
    world.introduce(leecher, lame);
    world.run(SECOND);
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(time, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
}

#[test]
fn a_peer_that_drips_does_not_hold_up_the_end() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let lame = world.seed(&info);
    world.nodes[lame].drip = Some(DRIP);
    completes_beside(&mut world, &info, &[lame], SECOND * 5);
}

#[test]
fn many_that_drip_hide_no_other_that_does() {
    let mut world = World::new();
    let info = torrent(40 * PIECE, PIECE);
    let lame: Vec<_> = (0..8).map(|_| world.seed(&info)).collect();
    for node in &lame {
        world.nodes[*node].drip = Some(DRIP);
    }
    completes_beside(&mut world, &info, &lame, SECOND * 12);
}

/// A leecher that knows an honest seed and some who pretend to serve is complete long before the
/// time after which a request counts as unanswered.
fn completes_among(piece: usize, stallers: usize, liars: usize, honest_first: bool) {
    let mut world = World::new();
    let info = torrent(64 * BLOCK as usize + 1_000, piece);
    let mut nodes = Vec::new();
    for number in 0..stallers + liars {
        let node = world.seed(&info);
        let lame = &mut world.nodes[node];
        match number {
            _ if number >= stallers => lame.corrupt = true,
            _ if number % 2 == 0 => lame.mute = true,
            _ => lame.drip = Some((1, Duration::from_millis(100))),
        }
        nodes.push(node);
    }
    let seed = world.seed(&info);
    world.nodes[seed].up_rate = 1_000_000;
    let leecher = world.leech(&info);
    if honest_first {
        nodes.insert(0, seed);
        world.introduce(leecher, &nodes);
    } else {
        world.introduce(leecher, &nodes);
        world.run(SECOND * 10);
        world.introduce(leecher, &[seed]);
    }
    let case = (piece, stallers, liars, honest_first);
    // A second for the content, some for the patience with who holds what others could bring.
    let limit = SECOND * 10;
    assert!(
        world.run_while_not(limit, |world| world.is_complete(leecher)),
        "{case:?}"
    );
    world.run(SECOND);
    world.assert_right(leecher);
}

#[test]
fn nobody_who_only_pretends_to_serve_holds_up_the_end() {
    for piece in [1, 4, 64] {
        for stallers in [1, 2, 3, 8] {
            for liars in [0, 1] {
                for honest_first in [true, false] {
                    completes_among(piece * BLOCK as usize, stallers, liars, honest_first);
                }
            }
        }
    }
}

#[test]
fn a_block_that_takes_seconds_is_raced_by_a_peer_that_needs_none() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let slow = world.seed(&info);
    world.nodes[slow].drip = Some(SLOW);
    let seed = world.seed(&info);
    world.nodes[seed].up_rate = 1_000_000;
    let leecher = world.leech(&info);
    let start = world.now;
    world.introduce(leecher, &[slow, seed]);
    assert!(world.run_while_not(SECOND * 10, |world| world.is_complete(leecher)));
    // The slow one would need 3.2 s for its first block.
    let took = world.now.saturating_since(start);
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    world.run(SECOND);
    world.assert_right(leecher);
    let wasted = world.nodes[leecher].swarm.stats().downloaded - info.total_length;
    assert!(wasted <= 2 * BLOCK, "{wasted} bytes");
}

#[test]
fn when_a_front_block_is_worth_racing_is_a_parameter() {
    let took = |change: fn(&mut crate::config::SwarmConfig)| {
        let mut config = Config::default();
        change(&mut config.swarm);
        let mut world = World::with(config);
        let info = torrent(8 * PIECE, PIECE);
        let slow = world.seed(&info);
        world.nodes[slow].drip = Some(SLOW);
        let seed = world.seed(&info);
        world.nodes[seed].up_rate = 1_000_000;
        let leecher = world.leech(&info);
        let start = world.now;
        world.introduce(leecher, &[slow, seed]);
        assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(leecher)));
        world.now.saturating_since(start)
    };
    let usual = took(|_| {});
    // The slow one needs 3.2 s for a block.
    let unraced = Duration::from_millis(3_200);
    assert!(usual < unraced, "{usual:?}");
    assert!(took(|swarm| swarm.endgame_patience = SECOND * 60) >= unraced);
    assert!(took(|swarm| swarm.endgame_slower = 255) >= unraced);
}

#[test]
fn a_request_is_overdue_whatever_trickles() {
    for (drip, snubbed) in [(DRIP, true), (SLOW, false)] {
        let mut world = World::new();
        let info = torrent(64 * PIECE, PIECE);
        let seed = world.seed(&info);
        world.nodes[seed].drip = Some(drip);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[seed]);
        let until = world.config.swarm.request_timeout + SECOND * 3;
        assert_eq!(
            world.run_while_not(until, |world| has_snubbed(world, leecher)),
            snubbed
        );
        let start = world.now;
        if snubbed {
            // What it was asked for is given away: another brings all, long before the drip does.
            let other = world.seed(&info);
            world.introduce(leecher, &[other]);
            assert!(world.run_while_not(SECOND * 20, |world| world.is_complete(leecher)));
            assert!(world.now.saturating_since(start) < SECOND * 20);
        } else {
            assert!(!world.run_while_not(SECOND * 300, |world| has_snubbed(world, leecher)));
        }
    }
}

#[test]
fn a_peer_that_answers_all_but_the_first_request_is_overdue_with_that() {
    let info = torrent(64 * PIECE, PIECE);
    let (mut swarm, events) = downloading(&info);
    let mut asked: std::collections::VecDeque<_> = requests(&events).into();
    let held = asked.pop_front().expect("a request");
    let mut answered = 0;
    for second in 1..=61 {
        let mut events = Vec::new();
        let now = Instant::from_micros(second * 1_000_000 + 1);
        if let Some(block) = asked.pop_front() {
            let part = Input::BlockPart {
                conn: conn(1),
                block,
                offset: 0,
                data: Bytes::from(std::vec![0; block.length as usize]),
            };
            swarm.handle(now, part, &mut events);
            answered += 1;
        }
        swarm.handle(now, Input::Tick, &mut events);
        asked.extend(requests(&events));
    }
    assert!(answered > 30, "{answered}");
    assert!(swarm.peers[&conn(1)].snubbed);
    assert_eq!(swarm.peers[&conn(1)].asked[0].block, held);
}
