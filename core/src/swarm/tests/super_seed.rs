//! Super-seeding (BEP 16): who is told of what, and when it ends.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::quickcheck;

use super::*;

fn options() -> Options {
    Options {
        super_seed: true,
        ..Options::default()
    }
}

fn super_seed(world: &mut World, info: &Arc<Info>) -> usize {
    let all: Vec<u32> = (0..info.piece_count).collect();
    world.add(info, true, &all, options())
}

/// Pieces a node told of, in order.
fn haves(world: &World, node: usize) -> Vec<u32> {
    let sent = world.nodes[node].sent.iter();
    let told = sent.filter_map(|(_, message)| match message {
        Message::Have(piece) => Some(*piece),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_lone_leecher_gets_everything_and_is_told_of_a_piece_at_a_time() {
    for fast in [true, false] {
        let mut world = World::new();
        let info = torrent(20 * PIECE, PIECE);
        let seed = super_seed(&mut world, &info);
        let leecher = world.leech(&info);
        world.nodes[leecher].fast = fast;
        world.introduce(leecher, &[seed]);
        assert!(world.run_while_not(SECOND * 60, |world| world.is_complete(leecher)));
        world.run(SECOND);
        world.assert_right(leecher);
        let said_all = |(_, message): &(Instant, Message)| {
            matches!(message, Message::HaveAll | Message::Bitfield(_))
        };
        assert!(!world.nodes[seed].sent.iter().any(said_all));
        let told: BTreeSet<u32> = haves(&world, seed).into_iter().collect();
        assert_eq!(told.len(), 20);
    }
}

#[test]
fn who_seems_to_have_little_hears_that_its_pieces_have_come_and_a_seed_does_not() {
    for super_seeds in [true, false] {
        let mut world = World::new();
        let info = torrent(20 * PIECE, PIECE);
        let seed = if super_seeds {
            super_seed(&mut world, &info)
        } else {
            world.seed(&info)
        };
        let leecher = world.leech(&info);
        world.introduce(leecher, &[seed]);
        assert!(world.run_while_not(SECOND * 60, |world| world.is_complete(leecher)));
        let told = haves(&world, leecher).len();
        // At the end every piece was given, and it says that it has all of them.
        let least = if super_seeds { 18 } else { 0 };
        assert!((least..=least + least / 9).contains(&told), "{told}");
    }
}

#[test]
fn who_waits_for_others_is_told_of_more_if_it_passes_on() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = super_seed(&mut world, &info);
    world.run(SECOND);
    let config = world.config.swarm.clone();
    let join = |world: &mut World, number: u32| {
        let id = conn(10_000 + number);
        let peer = world::hello(number as u8, addr(number as usize), true);
        world.give(seed, Input::Joined(id, peer));
        world.give(seed, Input::Message(id, Message::HaveNone));
        world.give(seed, Input::Message(id, Message::Interested));
        id
    };
    let told = |world: &World, id: ConnId| -> Vec<u32> {
        let told = world.nodes[seed].swarm.peers[&id].told.as_ref().unwrap();
        (0..64).filter(|piece| told.has(*piece)).collect()
    };
    let (first, second) = (join(&mut world, 1), join(&mut world, 2));
    // It fetches all it is told of, from us, and says so; nobody fetches it from there.
    let take = |world: &mut World, id: ConnId| {
        for piece in told(world, id) {
            for begin in (0..PIECE as u32).step_by(16_384) {
                let block = BlockRef {
                    piece,
                    begin,
                    length: 16_384,
                };
                world.give(seed, Input::Message(id, Message::Request(block)));
            }
            world.run(SECOND / 5);
            world.give(
                seed,
                Input::Writable {
                    conn: id,
                    unsent: 0,
                },
            );
            world.give(seed, Input::Message(id, Message::Have(piece)));
        }
    };
    let mut most = Vec::new();
    for _ in 0..8 {
        take(&mut world, first);
        most.push(told(&world, first).len());
        world.run(config.super_seed_idle + SECOND * 2);
    }
    // Twice as many each time, up to what it is trusted with.
    assert_eq!(most[..3], [2, 4, 8]);
    assert_eq!(most.last(), Some(&usize::from(config.super_seed_trust)));
    // It passes one on: then there is no such bound.
    let one = told(&world, first)[0];
    world.give(seed, Input::Message(second, Message::Have(one)));
    for _ in 0..2 {
        take(&mut world, first);
        world.run(config.super_seed_idle + SECOND * 2);
    }
    let now = told(&world, first).len();
    assert!(now > 2 * usize::from(config.super_seed_trust), "{now}");
}

#[test]
fn each_piece_is_given_to_one_until_all_have_been_seen() {
    let mut world = World::new();
    let info = torrent(40 * PIECE, PIECE);
    let seed = super_seed(&mut world, &info);
    world.nodes[seed].up_rate = 400_000;
    let leechers: Vec<_> = (0..5).map(|_| world.leech(&info)).collect();
    for (at, leecher) in leechers.iter().enumerate() {
        world.introduce(*leecher, &[seed]);
        world.introduce(*leecher, &leechers[..at]);
    }
    let over = |world: &World| !world.nodes[seed].swarm.is_super_seeding();
    world.run(SECOND / 10);
    assert!(!over(&world));
    let mut told = Vec::new();
    assert!(world.run_while_not(SECOND * 60, |world| {
        if !over(world) {
            told = haves(world, seed);
        }
        over(world)
    }));
    let mut times = BTreeMap::new();
    told.iter()
        .for_each(|piece| *times.entry(*piece).or_insert(0) += 1);
    assert!(times.len() == 40 && told.len() <= 44, "{told:?}");
    let sent = world.nodes[seed].swarm.stats().uploaded;
    assert!(sent <= info.total_length * 11 / 10, "{sent}");
    // Then it says what it has, and that it fetches nothing.
    let all = |world: &World| leechers.iter().all(|node| world.is_complete(*node));
    assert!(world.run_while_not(SECOND * 60, all));
    let handshakes = world.nodes[seed].sent.iter();
    let told: BTreeSet<_> = handshakes
        .filter_map(|(_, message)| match message {
            Message::ExtensionHandshake(handshake) => Some(handshake.upload_only),
            _ => None,
        })
        .collect();
    assert_eq!(told, BTreeSet::from([None, Some(true)]));
}

#[test]
fn a_peer_is_served_what_it_was_told_of_and_nothing_else() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let seed = super_seed(&mut world, &info);
    world.run(SECOND);
    let peer = world::hello(9, addr(9), true);
    let id = conn(10_000);
    world.give(seed, Input::Joined(id, peer));
    world.give(seed, Input::Message(id, Message::HaveNone));
    world.give(seed, Input::Message(id, Message::Interested));
    let told = world.nodes[seed].swarm.peers[&id].told.as_ref().unwrap();
    let may: Vec<u32> = (0..8).filter(|piece| told.has(*piece)).collect();
    assert_eq!(may.len(), 2);
    assert!(world.nodes[seed].swarm.peers[&id].allowed_out.is_empty());
    for piece in 0..8 {
        let block = BlockRef {
            piece,
            begin: 0,
            length: 16_384,
        };
        let before = world.nodes[seed].swarm.upload_claimed();
        world.give(seed, Input::Message(id, Message::Request(block)));
        let served = world.nodes[seed].swarm.upload_claimed() > before;
        assert_eq!(served, may.contains(&piece), "{piece}");
    }
}

#[test]
fn who_passes_nothing_on_waits_and_what_it_was_given_goes_to_another_when_it_leaves() {
    let mut world = World::new();
    let info = torrent(6 * PIECE, PIECE);
    let seed = super_seed(&mut world, &info);
    world.run(SECOND);
    let join = |world: &mut World, number: u32| {
        let id = conn(10_000 + number);
        let peer = world::hello(number as u8, addr(number as usize), true);
        world.give(seed, Input::Joined(id, peer));
        world.give(seed, Input::Message(id, Message::HaveNone));
        world.give(seed, Input::Message(id, Message::Interested));
        id
    };
    let told = |world: &World, id: ConnId| -> Vec<u32> {
        let told = world.nodes[seed].swarm.peers[&id].told.as_ref().unwrap();
        (0..6).filter(|piece| told.has(*piece)).collect()
    };
    let (first, second) = (join(&mut world, 1), join(&mut world, 2));
    let (has, others) = (told(&world, first), told(&world, second));
    assert!(has.len() == 2 && others.iter().all(|piece| !has.contains(piece)));
    // It says that it has one: nothing follows from that alone, before patience ends.
    world.give(seed, Input::Message(first, Message::Have(has[0])));
    world.run(SECOND * 5);
    assert_eq!(told(&world, first), has);
    // The other has it too: the first has passed it on, and is told of another.
    world.give(seed, Input::Message(second, Message::Have(has[0])));
    assert_eq!(told(&world, first).len(), 3);
    // The second leaves, with what nobody else has: that is given once more.
    let addr = addr(2);
    let reason = CloseReason::Idle;
    let gone = Input::Gone {
        conn: Some(second),
        addr,
        reason,
    };
    world.give(seed, gone);
    let third = join(&mut world, 3);
    assert!(
        others
            .iter()
            .any(|piece| told(&world, third).contains(piece))
    );
    let patience = world.config.swarm.super_seed_patience;
    world.give(seed, Input::Message(first, Message::Have(has[1])));
    let before = told(&world, first).len();
    world.run(patience + SECOND * 2);
    assert!(told(&world, first).len() > before);
}

quickcheck! {
    fn everybody_gets_everything_from_a_super_seed(peers: u8, pieces: u8, rates: u8) -> bool {
        let mut world = World::new();
        let info = torrent((usize::from(pieces % 30) + 1) * PIECE, PIECE);
        let seed = super_seed(&mut world, &info);
        world.nodes[seed].up_rate = 100_000 + u64::from(rates) * 5_000;
        let leechers: Vec<_> = (0..peers % 6 + 1).map(|_| world.leech(&info)).collect();
        for (at, leecher) in leechers.iter().enumerate() {
            world.introduce(*leecher, &[seed]);
            // Some know each other, some only the seed.
            world.introduce(*leecher, &leechers[..at / 2]);
        }
        world.run_while_not(SECOND * 900, |world| {
            leechers.iter().all(|node| world.is_complete(*node))
        })
    }
}
