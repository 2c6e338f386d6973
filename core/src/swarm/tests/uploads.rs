//! Those who ask and do not read keep nothing from the others.

use super::world::{World, hello};
use super::*;

const BLOCK: u32 = 16 * 1024;

/// Connects peers to `seed` whose way in never drains: nothing says that what they were sent has
/// left. Each asks for all that it may have while choked, again and again.
fn silent(world: &mut World, seed: usize, numbers: core::ops::Range<u32>, interested: bool) {
    world.run(SECOND);
    for number in numbers {
        let id = conn(10_000 + number);
        let peer = hello(number as u8, addr(number as usize), true);
        world.give(seed, Input::Joined(id, peer));
        world.give(seed, Input::Message(id, Message::HaveNone));
        if interested {
            world.give(seed, Input::Message(id, Message::Interested));
        }
        let swarm = &world.nodes[seed].swarm;
        let mut pieces = swarm.peers[&id].allowed_out.clone();
        if !swarm.peers[&id].choked {
            pieces.extend(0..32);
        }
        assert!(!pieces.is_empty());
        for piece in pieces {
            for begin in (0..PIECE as u32).step_by(BLOCK as usize) {
                let length = BLOCK;
                let block = BlockRef {
                    piece,
                    begin,
                    length,
                };
                world.give(seed, Input::Message(id, Message::Request(block)));
            }
        }
    }
    world.run(SECOND);
}

/// Bytes under way to `seed`'s peers.
fn under_way(world: &World, seed: usize) -> u64 {
    let peers = world.nodes[seed].swarm.peers.values();
    peers.map(|peer| peer.reading + peer.unsent).sum()
}

#[test]
fn choked_peers_that_never_read_keep_nobody_from_being_served() {
    // The least that a torrent is granted, and more than it has of unsent bytes by these peers.
    for read_bytes in [256 * 1024, 1 << 20] {
        let mut world = World::new();
        let info = torrent(64 * PIECE, PIECE);
        let seed = world.seed(&info);
        let grant = Grant {
            read_bytes,
            ..world::generous()
        };
        world.give(seed, Input::Grant(grant));
        silent(&mut world, seed, 50..150, false);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[seed]);
        assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(leecher)));
        world.run(SECOND);
        world.assert_right(leecher);
        // A block for each, and what is granted to all.
        let most = read_bytes + 101 * u64::from(BLOCK);
        assert!(under_way(&world, seed) <= most);
    }
}

#[test]
fn nor_do_unchoked_ones() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let grant = Grant {
        read_bytes: 256 * 1024,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    // As many as there are slots.
    silent(&mut world, seed, 50..58, true);
    let most = grant.read_bytes + 8 * u64::from(BLOCK);
    assert!((1..=most).contains(&under_way(&world, seed)));
    let leecher = world.leech(&info);
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 600, |world| world.is_complete(leecher)));
}

#[test]
fn one_peer_that_never_reads_leaves_room_for_others() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let read_bytes = 256 * 1024;
    let grant = Grant {
        read_bytes,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    silent(&mut world, seed, 50..51, true);
    let taken = under_way(&world, seed);
    assert!(
        (read_bytes / 4..=read_bytes * 3 / 4).contains(&taken),
        "{taken}"
    );
}

#[test]
fn metadata_is_sent_within_the_allowance_and_not_refused_for_it() {
    let mut world = World::new();
    // Metadata of three pieces.
    let info = torrent(2_000 * 16 * 1024, 16 * 1024);
    let seed = world.seed(&info);
    world.run(SECOND);
    let allow = |world: &mut World, upload_total| {
        let grant = Grant {
            upload_total,
            ..world::generous()
        };
        let mut events = Vec::new();
        let swarm = &mut world.nodes[seed].swarm;
        swarm.handle(world.now, Input::Grant(grant), &mut events);
        events
    };
    allow(&mut world, 0);
    let swarm = &mut world.nodes[seed].swarm;
    let mut events = Vec::new();
    let joined = Input::Joined(conn(9), hello(9, addr(9), true));
    swarm.handle(world.now, joined, &mut events);
    events.clear();
    for piece in 0..3 {
        let ask = Message::Metadata(crate::metadata::Message::Request { piece });
        swarm.handle(world.now, Input::Message(conn(9), ask), &mut events);
    }
    let sent = |events: &[Event]| {
        let answers = events
            .iter()
            .filter(|event| matches!(event, Event::Send(_, Message::Metadata(_))));
        answers.count()
    };
    assert_eq!(sent(&events), 0);
    // Room for two pieces, of which one is under way at a time: this peer is choked.
    let mut events = allow(&mut world, 2 * u64::from(BLOCK));
    for expected in [1, 2, 2, 2] {
        assert_eq!(sent(&events), expected);
        let writable = Input::Writable {
            conn: conn(9),
            unsent: 0,
        };
        let swarm = &mut world.nodes[seed].swarm;
        swarm.handle(world.now, writable, &mut events);
    }
    assert_eq!(sent(&allow(&mut world, 3 * u64::from(BLOCK))), 1);
    let swarm = &world.nodes[seed].swarm;
    assert_eq!(swarm.upload_claimed(), info.raw.len() as u64);
}

#[test]
fn metadata_requests_wait_up_to_a_limit() {
    let mut config = Config::default();
    config.swarm.max_served_queue = 3;
    let mut world = World::with(config);
    let info = torrent(2_000 * 16 * 1024, 16 * 1024);
    let seed = world.seed(&info);
    world.give(seed, Input::Grant(Grant::default()));
    let swarm = &mut world.nodes[seed].swarm;
    let mut events = Vec::new();
    let joined = Input::Joined(conn(9), hello(9, addr(9), true));
    swarm.handle(world.now, joined, &mut events);
    events.clear();
    for _ in 0..5 {
        let ask = Message::Metadata(crate::metadata::Message::Request { piece: 0 });
        swarm.handle(world.now, Input::Message(conn(9), ask), &mut events);
    }
    let refused = Event::Send(
        conn(9),
        Message::Metadata(crate::metadata::Message::Reject { piece: 0 }),
    );
    let refused = std::format!("{refused:?}");
    let refusals = events
        .iter()
        .filter(|event| std::format!("{event:?}") == refused);
    assert_eq!(refusals.count(), 2);
}

#[test]
fn choked_peers_together_take_of_a_rate_what_one_that_is_served_would() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let mut grant = Grant {
        upload_total: 0,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    world.run(SECOND);
    let all: Vec<_> = (0..31).map(|number| conn(10_000 + number)).collect();
    for (number, id) in all.iter().enumerate() {
        let peer = hello(number as u8 + 1, addr(number + 50), true);
        world.give(seed, Input::Joined(*id, peer));
        world.give(seed, Input::Message(*id, Message::HaveNone));
    }
    // One of them is served, the others have what they may have while choked.
    world.give(seed, Input::Message(all[0], Message::Interested));
    for _ in 0..900 {
        for id in &all {
            let unsent = 0;
            world.give(seed, Input::Writable { conn: *id, unsent });
            let peer = &world.nodes[seed].swarm.peers[id];
            let piece = peer.allowed_out[0];
            let block = BlockRef {
                piece,
                begin: 0,
                length: BLOCK,
            };
            for _ in peer.queue.len()..4 {
                world.give(seed, Input::Message(*id, Message::Request(block)));
            }
        }
        grant.upload_total += u64::from(BLOCK);
        world.give(seed, Input::Grant(grant));
        world.run(SECOND / 100);
    }
    let peers = &world.nodes[seed].swarm.peers;
    let got: Vec<u64> = all.iter().map(|id| peers[id].up.total()).collect();
    let (served, choked) = (got[0], got[1..].iter().sum::<u64>());
    assert_eq!(served + choked, 900 * u64::from(BLOCK));
    let slots = u64::from(world.config.swarm.upload_slots);
    assert_eq!(choked, served / slots, "a ninth of all, and nobody else's");
    assert!(got[1..].iter().all(|got| *got > 0), "in turn");
}

#[test]
fn one_input_serves_so_many_blocks_and_the_rest_follows_at_once() {
    let mut config = Config::default();
    config.swarm.served_per_input = 3;
    let mut world = World::with(config);
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let nothing = Grant {
        upload_total: 0,
        ..world::generous()
    };
    world.give(seed, Input::Grant(nothing));
    silent(&mut world, seed, 50..60, false);
    assert_eq!(under_way(&world, seed), 0);
    let (now, swarm) = (world.now, &mut world.nodes[seed].swarm);
    let mut input = Input::Grant(world::generous());
    let mut reads = Vec::new();
    loop {
        let mut events = Vec::new();
        swarm.handle(now, input, &mut events);
        let begun = |event: &&Event| matches!(event, Event::Job(_, Job::Read(_)));
        reads.push(events.iter().filter(begun).count());
        if swarm.next_timeout() > Some(now) {
            break;
        }
        input = Input::Tick;
    }
    // One block for each of ten, which no other can take from it.
    assert_eq!(reads, [3, 3, 3, 1]);
}
