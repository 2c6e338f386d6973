//! Who makes room for others near the limit of peers.

use std::collections::BTreeSet;

use super::*;

/// A seed with so many peers of a hundred at most, of whom the first ten are served something in
/// every interval; gives who was dropped after some intervals.
fn dropped(peers: u32, candidates: bool, intervals: u32) -> (BTreeSet<u32>, World) {
    let mut config = Config {
        lab: true,
        ..Config::default()
    };
    config.swarm.max_peers = 100;
    // Nobody is asked to be interested for this, nor cares about slots.
    config.swarm.allowed_fast = 10;
    let interval = config.swarm.turnover_interval;
    let mut world = World::with(config);
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let grant = Grant {
        connections: 100,
        connects_total: 1_000,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    world.run(SECOND);
    let ids: Vec<_> = (0..peers).map(|number| conn(10_000 + number)).collect();
    for (number, id) in ids.iter().enumerate() {
        let peer = world::hello(number as u8, addr(number + 100), true);
        world.give(seed, Input::Joined(*id, peer));
        world.give(seed, Input::Message(*id, Message::HaveNone));
    }
    if candidates {
        let far: Vec<_> = (0..20)
            .map(|n| SocketAddr::from(([10, 9, n, 1], 1)))
            .collect();
        world.give(seed, Input::PeersFound(PeerSource::Manual, &far));
    }
    for _ in 0..intervals {
        for id in &ids[..10] {
            let Some(peer) = world.nodes[seed].swarm.peers.get(id) else {
                continue;
            };
            let block = BlockRef {
                piece: peer.allowed_out[0],
                begin: 0,
                length: 16_384,
            };
            world.give(seed, Input::Message(*id, Message::Request(block)));
            world.run(SECOND);
            let unsent = 0;
            world.give(seed, Input::Writable { conn: *id, unsent });
        }
        world.run(interval);
    }
    let swarm = &world.nodes[seed].swarm;
    let gone = (0..peers).filter(|number| !swarm.peers.contains_key(&ids[*number as usize]));
    (gone.collect(), world)
}

#[test]
fn a_few_of_the_least_useful_make_room_when_there_is_somebody_for_it() {
    let (gone, world) = dropped(100, true, 1);
    assert_eq!(gone.len(), 4);
    assert!(gone.iter().all(|number| *number >= 10), "{gone:?}");
    let full = |event: &Public| {
        let full = CloseReason::MadeRoom(crate::event::Expendable::LeastUseful);
        matches!(event, Public::PeerClosed { reason, .. } if *reason == full)
    };
    assert_eq!(world.count(0, full), 4);
    // Far from the limit, or with nobody to take their places, all stay.
    assert_eq!(dropped(80, true, 2).0.len(), 0);
    assert_eq!(dropped(100, false, 2).0.len(), 0);
}
