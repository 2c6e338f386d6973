//! Attempts to connect: how often, and what is told of those that fail.

use super::*;

/// When attempts to connect to a node that is not there were told to have failed, in seconds.
fn failures(world: &mut World, leecher: usize, gone: usize, time: u64) -> Vec<u64> {
    let start = world.now;
    let mut told = Vec::new();
    for second in 0..time {
        world.run(SECOND);
        let closed = world.count(
            leecher,
            |event| matches!(event, Public::PeerClosed { addr: at, .. } if *at == addr(gone)),
        );
        if told.len() < closed {
            assert_eq!(told.len() + 1, closed, "{told:?}");
            told.push(second);
        }
    }
    assert_eq!(world.now.saturating_since(start), SECOND * time as u32);
    told
}

#[test]
fn each_attempt_that_fails_is_told_once_and_they_are_few() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let leecher = world.leech(&info);
    world.introduce(leecher, &[200]);
    let told = failures(&mut world, leecher, 200, 400);
    assert_eq!(told, [0, 5, 15, 35, 75, 155, 235, 315, 395]);
}

#[test]
fn whom_nobody_named_is_tried_soon_only_while_there_is_nobody_else() {
    let soon = [0, 5, 15, 35, 335];
    let later = [0, 120, 300, 540];
    for (alone, expected) in [(true, &soon[..]), (false, &later[..])] {
        let mut world = World::new();
        let info = torrent(8 * PIECE, PIECE);
        let leecher = world.leech(&info);
        if !alone {
            // Another that waits for a seed, as we do.
            let other = world.leech(&info);
            world.introduce(leecher, &[other]);
            world.run(SECOND);
        }
        let found = [addr(200)];
        world.give(leecher, Input::PeersFound(PeerSource::Dht, &found));
        let told = failures(&mut world, leecher, 200, 600);
        assert_eq!(told, expected);
    }
}

#[test]
fn a_seed_that_returns_is_found_soon() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    world.nodes[seed].up_rate = 100_000;
    let leecher = world.leech(&info);
    let found = [addr(seed)];
    world.give(leecher, Input::PeersFound(PeerSource::Dht, &found));
    world.run(SECOND * 5);
    for (node, other) in [(leecher, seed), (seed, leecher)] {
        let conn = world.nodes[node].swarm.peers.keys().copied().next();
        let gone = Input::Gone {
            conn,
            addr: addr(other),
            reason: CloseReason::Io(crate::io::IoReason::Reset),
        };
        world.give(node, gone);
    }
    assert!(world.nodes[leecher].swarm.peers.is_empty());
    world.run(SECOND * 4);
    assert!(world.nodes[leecher].swarm.peers.is_empty());
    world.run(SECOND * 2);
    assert_eq!(world.nodes[leecher].swarm.peers.len(), 1);
}
