//! Who makes room for a newcomer when all places are taken, and who never does.

use quickcheck::quickcheck;

use super::world::hello;
use super::*;
use crate::event::Expendable;

const PLACES: u32 = 8;
const HONEST: u32 = 1;

/// A seed with few places, all of them free.
fn seeding() -> (World, usize) {
    let mut config = Config {
        lab: true,
        ..Config::default()
    };
    config.swarm.max_peers = PLACES as u16;
    let mut world = World::with(config);
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    world.run(SECOND);
    (world, seed)
}

fn join(world: &mut World, seed: usize, number: u32, interested: bool) {
    let [.., high, low] = number.to_be_bytes();
    let from = SocketAddr::from(([10, high, low, 1], 1000));
    let hello = hello(number as u8, from, true);
    world.give(seed, Input::Joined(conn(number), hello));
    world.give(seed, Input::Message(conn(number), Message::HaveNone));
    if interested {
        world.give(seed, Input::Message(conn(number), Message::Interested));
    }
}

fn is_here(world: &World, seed: usize, number: u32) -> bool {
    world.nodes[seed].swarm.peers.contains_key(&conn(number))
}

fn gave_way(world: &World, seed: usize, why: Expendable) -> usize {
    world.count(seed, |event| {
        let made_room = CloseReason::MadeRoom(why);
        matches!(event, Public::PeerClosed { reason, .. } if *reason == made_room)
    })
}

/// Takes a block that is allowed to it even while it is choked.
fn take_a_block(world: &mut World, seed: usize, number: u32) {
    let Some(peer) = world.nodes[seed].swarm.peers.get(&conn(number)) else {
        return;
    };
    let block = BlockRef {
        piece: peer.allowed_out[0],
        begin: 0,
        length: 16_384,
    };
    world.give(seed, Input::Message(conn(number), Message::Request(block)));
    world.run(LATENCY);
    let (conn, unsent) = (conn(number), 0);
    world.give(seed, Input::Writable { conn, unsent });
}

#[test]
fn a_place_on_which_nothing_flows_is_a_newcomers_after_a_while() {
    let (mut world, seed) = seeding();
    let idle = world.config.swarm.place_idle;
    (1..=PLACES).for_each(|number| join(&mut world, seed, number, false));
    world.run(idle - SECOND);
    // All have had less time than everybody is given.
    join(&mut world, seed, 100, true);
    assert!(!is_here(&world, seed, 100));
    // The third has used its time.
    take_a_block(&mut world, seed, 3);
    world.run(SECOND);
    for newcomer in 100..100 + PLACES {
        join(&mut world, seed, newcomer, true);
    }
    let here: Vec<_> = (1..200).filter(|n| is_here(&world, seed, *n)).collect();
    assert_eq!(here, [3, 100, 101, 102, 103, 104, 105, 106]);
    assert_eq!(gave_way(&world, seed, Expendable::Idle), 7);
    assert_eq!(gave_way(&world, seed, Expendable::Outranked), 0);
}

#[test]
fn who_was_given_a_slot_and_asked_for_nothing_waits_no_longer() {
    let (mut world, seed) = seeding();
    let times = world.config.swarm.clone();
    (1..=PLACES).for_each(|number| join(&mut world, seed, number, true));
    // All have a slot at once, or get one in turn, and make no use of it.
    world.run(times.place_idle + times.choke_interval);
    join(&mut world, seed, 100, true);
    assert!(is_here(&world, seed, 100));
    assert_eq!(gave_way(&world, seed, Expendable::Idle), 1);
}

#[test]
fn of_those_that_wait_the_lowest_gives_way_to_a_higher_one_and_seldom() {
    let (mut world, seed) = seeding();
    let times = world.config.swarm.clone();
    (1..=PLACES).for_each(|number| join(&mut world, seed, number, true));
    let wait = |world: &mut World| {
        for peer in world.nodes[seed].swarm.peers.values_mut() {
            (peer.choked, peer.declined) = (true, false);
            peer.flowed_at = Instant::from_micros(1);
        }
    };
    world.run(times.place_idle);
    let rank = |world: &World, number: u32| {
        let [.., high, low] = number.to_be_bytes();
        let swarm = &world.nodes[seed].swarm;
        let ip = [10, high, low, 1].into();
        swarm.known.order_of_network(ip)
    };
    let mut kept: Vec<u32> = (1..=PLACES).collect();
    for newcomer in 100..160 {
        wait(&mut world);
        join(&mut world, seed, newcomer, true);
        let weakest = *kept.iter().min_by_key(|n| rank(&world, **n)).unwrap();
        if rank(&world, newcomer) > rank(&world, weakest) {
            kept.retain(|n| *n != weakest);
            kept.push(newcomer);
            // Nobody else has to go so soon.
            wait(&mut world);
            (500..520).for_each(|number| join(&mut world, seed, number, true));
        }
        let here = |n: &u32| is_here(&world, seed, *n);
        assert!(kept.iter().all(here));
        world.run(times.place_interval);
    }
    let outranked = gave_way(&world, seed, Expendable::Outranked);
    assert!(outranked >= kept.iter().filter(|n| **n >= 100).count());
    assert_eq!(gave_way(&world, seed, Expendable::Idle), 0);
}

#[test]
fn while_the_disk_is_checked_nobody_is_idle() {
    let mut config = Config::default();
    config.swarm.max_peers = 1;
    let info = torrent(4 * PIECE, PIECE);
    let mut events = Vec::new();
    let now = Instant::from_micros(1_000_000);
    let setup = world::setup(&info, Options::default());
    let mut swarm = Swarm::new(Arc::new(config), setup, now, &mut events);
    swarm.handle(now, Input::Grant(world::generous()), &mut events);
    let near = SocketAddr::from(([16, 0, 0, 1], 1));
    let joined = Input::Joined(conn(1), hello(1, near, true));
    swarm.handle(now, joined, &mut events);
    let later = now + swarm.config.swarm.place_idle * 10;
    assert_eq!(swarm.idlest(later), None);
    // Once it is over, everybody has time to begin.
    let open = events.iter().find_map(|event| match event {
        Event::Job(token, Job::Open(..)) => Some(*token),
        _ => None,
    });
    let opened = JobResult::Opened(std::boxed::Box::new(Opened {
        present: std::vec![0],
    }));
    let answer = Input::JobDone(open.expect("storage is opened"), opened);
    swarm.handle(later, answer, &mut events);
    assert_eq!(swarm.phase, Phase::Active);
    assert_eq!(swarm.idlest(later + SECOND), None);
    assert!(swarm.idlest(later + SECOND * 1_000).is_some());
}

quickcheck! {
    /// Whatever comes, and however much of it: who takes a block now and then stays, and places
    /// change hands no more often than they may.
    fn whoever_exchanges_survives_a_flood(steps: Vec<(u8, u8, u16)>) -> bool {
        let (mut world, seed) = seeding();
        let times = world.config.swarm.clone();
        let start = world.now;
        join(&mut world, seed, HONEST, false);
        (2..=PLACES).for_each(|number| join(&mut world, seed, number, number % 2 == 0));
        for (pause, kind, from) in steps {
            world.run(SECOND * u32::from(pause % 50));
            take_a_block(&mut world, seed, HONEST);
            let first = 1_000 + u32::from(from);
            for number in first..first + u32::from(kind % 32) {
                join(&mut world, seed, number, kind % 2 == 0);
            }
            if kind % 3 == 0 {
                world.give(seed, Input::Message(conn(first), Message::HaveAll));
            }
        }
        let passed = world.now.saturating_since(start).as_micros();
        let outranked = gave_way(&world, seed, Expendable::Outranked) as u128;
        let idle = gave_way(&world, seed, Expendable::Idle) as u128;
        assert!(outranked <= passed / times.place_interval.as_micros() + 1);
        assert!(idle <= u128::from(PLACES) * (passed / times.place_idle.as_micros()));
        is_here(&world, seed, HONEST)
    }
}
