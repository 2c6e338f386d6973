//! Whatever a peer can make grow stops at its limit.

use alloc::boxed::Box;

use super::world::{World, hello};
use super::*;
use crate::event::{Decision, Explained};
use crate::ports::Ports;
use crate::wire::ExtensionHandshake;

fn config(change: impl FnOnce(&mut crate::config::SwarmConfig)) -> Config {
    let mut config = Config::default();
    change(&mut config.swarm);
    config
}

/// A swarm that does not know its metadata, with one peer.
fn without_metadata(config: Config) -> (Swarm, Vec<Event>) {
    let now = Instant::from_micros(1);
    let mut events = Vec::new();
    let info = torrent(PIECE, PIECE);
    let setup = Setup {
        info: None,
        ..world::setup(&info, Options::default())
    };
    let mut swarm = Swarm::new(Arc::new(config), setup, now, &mut events);
    swarm.handle(now, Input::Grant(world::generous()), &mut events);
    let joined = Input::Joined(conn(1), hello(1, addr(1), true));
    swarm.handle(now, joined, &mut events);
    events.clear();
    (swarm, events)
}

fn closed_for(events: &[Event]) -> Vec<CloseReason> {
    let closed = events.iter().filter_map(|event| match event {
        Event::Disconnect(_, reason) => Some(*reason),
        _ => None,
    });
    closed.collect()
}

fn say(swarm: &mut Swarm, message: Message, events: &mut Vec<Event>) {
    let now = Instant::from_micros(2);
    swarm.handle(now, Input::Message(conn(1), message), events);
}

#[test]
fn a_file_that_is_none_is_refused_when_the_metadata_shows_it() {
    let info = torrent(PIECE, PIECE);
    let begun = |select: &[u32]| {
        let mut events = Vec::new();
        let options = Options {
            select: select.to_vec(),
            ..Options::default()
        };
        let setup = world::setup(&info, options);
        let now = Instant::from_micros(1);
        let _ = Swarm::new(Arc::new(Config::default()), setup, now, &mut events);
        events
    };
    let opens = |events: &[Event]| {
        let mut all = events.iter();
        all.any(|event| matches!(event, Event::Job(_, Job::Open(..))))
    };
    assert!(opens(&begun(&[0])) && opens(&begun(&[])));
    for select in [&[99][..], &[0, 7, 1]] {
        let events = begun(select);
        assert!(!opens(&events), "{select:?}");
        let told = events.iter().find_map(|event| match event {
            Event::Public(Public::BadSelection { index, files, .. }) => Some((*index, *files)),
            _ => None,
        });
        let smallest = if select.len() == 1 { 99 } else { 1 };
        assert_eq!(told, Some((smallest, 1)), "{select:?}");
    }
}

#[test]
fn a_peer_names_its_client_once_where_its_id_does_not() {
    let of_id = client::name(&hello(1, addr(1), true).peer_id);
    for (names, told) in [
        (&["one", "two"][..], &["one"][..]),
        (&[&of_id], &[]),
        (&[""], &[]),
    ] {
        let (mut swarm, mut events) = without_metadata(Config::default());
        for name in names {
            let handshake = ExtensionHandshake {
                client: Some((*name).into()),
                ..ExtensionHandshake::default()
            };
            let message = Message::ExtensionHandshake(Box::new(handshake));
            say(&mut swarm, message, &mut events);
        }
        let named: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Public(Public::PeerNamed { client, .. }) => Some(client.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(named, told, "{names:?}");
    }
}

#[test]
fn haves_before_the_metadata_are_bounded() {
    let (mut swarm, mut events) = without_metadata(config(|swarm| swarm.max_early_haves = 5));
    (0..5).for_each(|piece| say(&mut swarm, Message::Have(piece), &mut events));
    assert!(closed_for(&events).is_empty());
    say(&mut swarm, Message::Have(5), &mut events);
    let limit = CloseReason::Limit("swarm.max_early_haves");
    assert_eq!(closed_for(&events), [limit]);
}

#[test]
fn a_bitfield_before_the_metadata_is_bounded_by_the_most_pieces() {
    let (mut swarm, mut events) = without_metadata(config(|swarm| swarm.max_pieces = 16));
    let bits = Bytes::from_static(&[0xff; 3]);
    say(&mut swarm, Message::Bitfield(bits), &mut events);
    let limit = CloseReason::Limit("swarm.max_pieces");
    assert_eq!(closed_for(&events), [limit]);
}

#[test]
fn what_a_peer_allows_and_suggests_is_remembered_up_to_a_limit() {
    let info = torrent(64 * PIECE, PIECE);
    let config = config(|swarm| {
        swarm.max_allowed_fast = 3;
        swarm.max_suggested = 2;
    });
    let (mut swarm, mut events) = downloading_with(&info, config);
    for piece in 20..40 {
        say(&mut swarm, Message::AllowedFast(piece), &mut events);
        say(&mut swarm, Message::Suggest(piece), &mut events);
    }
    let peer = &swarm.peers[&conn(1)];
    assert_eq!(peer.allowed_in, [20, 21, 22]);
    assert_eq!(peer.suggested, [38, 39]);
}

#[test]
fn a_suggested_piece_is_fetched_before_others() {
    let info = torrent(64 * PIECE, PIECE);
    let now = Instant::from_micros(3);
    let (mut swarm, mut events) = downloading(&info);
    say(&mut swarm, Message::Choke, &mut events);
    for block in requests(&events) {
        say(&mut swarm, Message::Reject(block), &mut events);
    }
    events.clear();
    let mut asked = Vec::new();
    for piece in [50, 51] {
        say(&mut swarm, Message::Suggest(piece), &mut events);
        say(&mut swarm, Message::Unchoke, &mut events);
        asked.extend(requests(&events));
        swarm.handle(now, Input::Tick, &mut events);
    }
    assert!(asked.iter().any(|block| block.piece == 50), "{asked:?}");
}

#[test]
fn blocks_nobody_asked_for_are_counted_up_to_a_limit() {
    let info = torrent(64 * PIECE, PIECE);
    let config = config(|swarm| swarm.max_unasked_blocks = 3);
    let (mut swarm, _) = downloading_with(&info, config);
    let mut events = Vec::new();
    for count in 1..=4 {
        let block = BlockRef {
            piece: 60,
            begin: 0,
            length: 16_384,
        };
        let part = Input::BlockPart {
            conn: conn(1),
            block,
            offset: 0,
            data: Bytes::from_static(&[0; 16_384]),
        };
        swarm.handle(Instant::from_micros(2), part, &mut events);
        assert_eq!(closed_for(&events).len(), usize::from(count > 3));
    }
}

#[test]
fn a_request_of_a_peer_with_a_full_queue_is_rejected() {
    let mut world = World::with(config(|swarm| swarm.max_served_queue = 4));
    let info = torrent(4 * PIECE, PIECE);
    let seed = world.seed(&info);
    world.run(SECOND);
    world.give(seed, Input::Grant(Grant::default()));
    let joined = Input::Joined(conn(1), hello(9, addr(9), true));
    world.give(seed, joined);
    world.give(seed, Input::Message(conn(1), Message::Interested));
    let swarm = &mut world.nodes[seed].swarm;
    let mut events = Vec::new();
    for piece in 0..4 {
        for begin in [0, 16_384] {
            let length = 16_384;
            let block = BlockRef {
                piece,
                begin,
                length,
            };
            let request = Input::Message(conn(1), Message::Request(block));
            swarm.handle(world.now, request, &mut events);
        }
    }
    let rejects = events
        .iter()
        .filter(|event| matches!(event, Event::Send(_, Message::Reject(_))));
    // The first is being read, for an empty way out takes one block whatever its allowance.
    assert!((3..=4).contains(&rejects.count()));
}

#[test]
fn requests_assumed_and_announced_bound_the_pipeline() {
    let info = torrent(64 * PIECE, PIECE);
    let config = config(|swarm| {
        swarm.min_pipeline = 20;
        swarm.default_reqq = 7;
    });
    let (mut swarm, mut events) = downloading_with(&info, config);
    assert_eq!(requests(&events).len(), 7);
    events.clear();
    let handshake = ExtensionHandshake {
        reqq: Some(9),
        ..ExtensionHandshake::default()
    };
    let handshake = Message::ExtensionHandshake(Box::new(handshake));
    say(&mut swarm, handshake, &mut events);
    say(&mut swarm, Message::Unchoke, &mut events);
    assert_eq!(requests(&events).len(), 2);
}

#[test]
fn those_that_left_are_remembered_up_to_a_limit() {
    let info = torrent(64 * PIECE, PIECE);
    let (mut swarm, _) = downloading_with(&info, config(|swarm| swarm.max_departed = 2));
    let mut events = Vec::new();
    let now = Instant::from_micros(2);
    for number in 2..7 {
        let id = conn(number);
        let joined = Input::Joined(id, hello(number as u8, addr(number as usize), true));
        swarm.handle(now, joined, &mut events);
        let part = Input::BlockPart {
            conn: id,
            block: BlockRef {
                piece: 0,
                begin: 0,
                length: 16_384,
            },
            offset: 0,
            data: Bytes::from_static(&[0; 100]),
        };
        swarm.handle(now, part, &mut events);
        let gone = Input::Gone {
            conn: Some(id),
            addr: addr(number as usize),
            reason: CloseReason::Idle,
        };
        swarm.handle(now, gone, &mut events);
    }
    assert_eq!(swarm.departed.len(), 2);
}

#[test]
fn peers_saved_for_the_next_start_are_bounded() {
    let info = torrent(64 * PIECE, PIECE);
    let (mut swarm, _) = downloading_with(&info, config(|swarm| swarm.saved_peers = 3));
    let addrs: Vec<_> = (1..50).map(addr).collect();
    let mut events = Vec::new();
    let found = Input::PeersFound(PeerSource::Manual, &addrs);
    swarm.handle(Instant::from_micros(2), found, &mut events);
    let saved = swarm.resume_data();
    assert_eq!(saved.peers.len(), 3);
    // Metadata may be large: it is neither copied nor hashed here.
    let raw = saved.info.map(|raw| raw.as_ptr());
    assert_eq!(raw, Some(info.raw.as_ptr()));
}

#[test]
fn attempts_and_connections_are_bounded() {
    let info = torrent(64 * PIECE, PIECE);
    let config = config(|swarm| {
        swarm.max_half_open = 3;
        swarm.max_peers = 5;
        swarm.max_known_peers = 20;
    });
    let (mut swarm, _) = downloading_with(&info, config);
    let addrs: Vec<_> = (2..200).map(addr).collect();
    let mut events = Vec::new();
    let now = Instant::from_micros(2);
    swarm.handle(now, Input::PeersFound(PeerSource::Dht, &addrs), &mut events);
    let connects = |events: &[Event]| {
        let connects = events.iter().filter(|e| matches!(e, Event::Connect(..)));
        connects.count()
    };
    assert_eq!((connects(&events), swarm.known.len()), (3, 20));
    events.clear();
    for number in 2..20 {
        let joined = Input::Joined(conn(number), hello(number as u8, addr(250), true));
        swarm.handle(now, joined, &mut events);
    }
    assert_eq!(swarm.stats().peers, 5);
    let limit = CloseReason::Limit("swarm.max_peers");
    assert!(closed_for(&events).iter().all(|reason| *reason == limit));
}

#[test]
fn a_piece_that_storage_keeps_losing_ends_the_torrent() {
    let mut world = World::new();
    let info = torrent(PIECE, PIECE);
    let seed = world.seed(&info);
    let leecher = world.leech(&info);
    world.run(SECOND);
    world.nodes[leecher].loses = true;
    world.introduce(leecher, &[seed]);
    world.run(SECOND * 600);
    let failed = |event: &Public| {
        let lost = JobError::Missing;
        matches!(event, Public::StorageFailed { piece: Some(0), error, .. } if *error == lost)
    };
    assert_eq!(world.count(leecher, failed), 1);
    let times = u64::from(world.config.swarm.max_lost_pieces) + 1;
    let node = &world.nodes[leecher];
    assert_eq!(node.hashed.len() as u64, times);
    assert_eq!(node.swarm.stats().downloaded, times * PIECE as u64);
    assert_eq!(node.swarm.stats().state, TorrentState::Stopped);
}

#[test]
fn decisions_are_explained_when_asked_for_and_only_then() {
    for explain in [false, true] {
        let mut world = World::with(Config {
            explain,
            ..Config::default()
        });
        let info = torrent(4 * PIECE, PIECE);
        let seed = world.seed(&info);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[seed]);
        assert!(world.run_while_not(SECOND * 10, |world| world.is_complete(leecher)));
        let decided = |node: usize, what: fn(&Decision) -> bool| {
            let is = |event: &Public| {
                matches!(event, Public::Explained(told)
                    if matches!(**told, Explained { ref decision, .. } if what(decision)))
            };
            world.count(node, is) > 0
        };
        let asked = |decision: &Decision| matches!(decision, Decision::Asked { .. });
        let served =
            |decision: &Decision| matches!(decision, Decision::Choke { choked: false, .. });
        assert_eq!(decided(leecher, asked), explain);
        assert_eq!(decided(seed, served), explain);
    }
}

#[test]
fn a_parked_peer_is_not_blamed_for_silence() {
    let info = torrent(64 * PIECE, PIECE);
    for (parked, late) in [(false, true), (true, false)] {
        let (mut swarm, _) = downloading(&info);
        let mut events = Vec::new();
        let reading = Input::Reading {
            conn: conn(1),
            on: !parked,
        };
        swarm.handle(Instant::from_micros(2), reading, &mut events);
        for second in 1..200 {
            let now = Instant::from_micros(second * 1_000_000);
            swarm.handle(now, Input::Tick, &mut events);
        }
        assert_eq!(swarm.peers[&conn(1)].snubbed, late);
        // Read from again, it has its full time.
        let reading = Input::Reading {
            conn: conn(1),
            on: true,
        };
        swarm.handle(Instant::from_micros(200_000_000), reading, &mut events);
        for second in 200..250 {
            let now = Instant::from_micros(second * 1_000_000);
            swarm.handle(now, Input::Tick, &mut events);
        }
        assert_eq!(swarm.peers[&conn(1)].snubbed, late);
        let now = Instant::from_micros(300_000_000);
        swarm.handle(now, Input::Tick, &mut events);
        assert!(swarm.peers[&conn(1)].snubbed);
    }
}

#[test]
fn metadata_asked_of_a_parked_peer_is_not_given_up() {
    let at = |second: u64| Instant::from_micros(second * 1_000_000);
    for parked in [false, true] {
        let (mut swarm, mut events) = without_metadata(Config::default());
        // Tells how often it was asked for metadata in those seconds.
        let mut asked = |swarm: &mut Swarm, input: Input, seconds: core::ops::Range<u64>| {
            swarm.handle(at(seconds.start), input, &mut events);
            for second in seconds {
                swarm.handle(at(second), Input::Tick, &mut events);
            }
            let asked = events.drain(..);
            asked
                .filter(|event| matches!(event, Event::Send(_, Message::Metadata(_))))
                .count()
        };
        let reading = |on| Input::Reading { conn: conn(1), on };
        let offer = Message::ExtensionHandshake(Box::new(ExtensionHandshake {
            ut_metadata: Some(2),
            metadata_size: Some(100),
            ..ExtensionHandshake::default()
        }));
        let first = asked(&mut swarm, Input::Message(conn(1), offer), 1..2);
        assert_eq!(first, 1);
        let again = asked(&mut swarm, reading(!parked), 2..200);
        assert_eq!(again > 0, !parked);
        if parked {
            // Read from again, it has its full time, and no more.
            assert_eq!(asked(&mut swarm, reading(true), 200..259), 0);
            assert!(asked(&mut swarm, Input::Tick, 259..400) > 0);
        }
    }
}

#[test]
fn pieces_found_on_disk_are_looked_at_in_slices() {
    let info = torrent(10 * PIECE, PIECE);
    let config = config(|swarm| swarm.pieces_per_input = 3);
    let now = Instant::from_micros(1);
    let mut events = Vec::new();
    let setup = world::setup(&info, Options::default());
    let mut swarm = Swarm::new(Arc::new(config), setup, now, &mut events);
    let open = events.iter().find_map(|event| match event {
        Event::Job(token, Job::Open(..)) => Some(*token),
        _ => None,
    });
    let opened = JobResult::Opened(Box::new(Opened {
        present: alloc::vec![0xff; 2],
    }));
    events.clear();
    swarm.handle(now, Input::JobDone(open.unwrap(), opened), &mut events);
    let hashes = |events: &[Event]| {
        let jobs = events.iter();
        jobs.filter(|event| matches!(event, Event::Job(_, Job::Hash { .. })))
            .count()
    };
    for _ in 0..3 {
        assert_eq!((hashes(&events), swarm.next_timeout()), (0, Some(now)));
        swarm.handle(now, Input::Tick, &mut events);
    }
    assert_eq!(
        hashes(&events),
        usize::from(swarm.config.swarm.check_parallel)
    );
    assert_ne!(swarm.next_timeout(), Some(now));
}

#[test]
fn a_connection_names_a_few_dht_ports_and_each_once() {
    let (mut swarm, mut events) = without_metadata(config(|swarm| swarm.max_dht_ports = 2));
    for port in [0, 7, 7, 8, 8, 7, 9, 10] {
        say(&mut swarm, Message::Port(port), &mut events);
    }
    let named = events.iter().filter_map(|event| match event {
        Event::DhtNode(addr) => Some(addr.port()),
        _ => None,
    });
    assert_eq!(named.collect::<Vec<_>>(), [7, 8]);
    assert!(closed_for(&events).is_empty());
}

#[test]
fn a_choked_peer_may_begin_with_so_many_pieces() {
    for most in [0, 3] {
        let mut world = World::with(config(|swarm| swarm.allowed_fast = most));
        let info = torrent(64 * PIECE, PIECE);
        let (seed, leech) = (world.seed(&info), world.leech(&info));
        world.introduce(leech, &[seed]);
        world.run(SECOND);
        let sent = world.nodes[seed].sent.iter();
        let allowed = sent.filter(|(_, message)| matches!(message, Message::AllowedFast(_)));
        assert_eq!(allowed.count(), usize::from(most));
    }
}

#[test]
fn haves_for_a_peer_that_came_early_are_sent_in_slices() {
    let info = torrent(10 * PIECE, PIECE);
    let (mut swarm, mut events) = downloading_with(
        &info,
        config(|swarm| {
            swarm.haves_per_input = 3;
        }),
    );
    let content = swarm.content.as_mut().unwrap();
    (0..8).for_each(|piece| content.picker.set_have(piece));
    let peer = swarm.peers.get_mut(&conn(1)).unwrap();
    peer.pieces = super::super::peer::Pieces::Some(crate::swarm::bitfield::Bitfield::new(10));
    peer.haves_from = Some(0);
    swarm.haves_owed = true;
    let now = Instant::from_micros(2);
    let mut slices = Vec::new();
    while swarm.peers[&conn(1)].haves_from.is_some() {
        events.clear();
        swarm.handle(now, Input::Tick, &mut events);
        let sent = events.iter();
        let haves = sent.filter(|event| matches!(event, Event::Send(_, Message::Have(_))));
        slices.push(haves.count());
        let is_over = swarm.peers[&conn(1)].haves_from.is_none();
        assert_eq!(swarm.next_timeout() == Some(now), !is_over);
    }
    assert_eq!(slices, [3, 3, 2]);
}

#[test]
fn a_full_swarm_keeps_the_connections_that_both_ends_rank_highest() {
    use crate::swarm::priority::priority;
    let ours: SocketAddr = "16.1.1.1:6881".parse().unwrap();
    let from = |n: u8| SocketAddr::from(([17, n, n, n], 1000));
    let mut config = config(|swarm| swarm.max_peers = 8);
    config.dht.vote_quorum = 4;
    let idle = config.swarm.place_idle;
    let (mut swarm, mut events) = without_metadata(config);
    swarm.handle(
        swarm.now,
        Input::Listening(Ports::both(ours.port())),
        &mut events,
    );
    say(&mut swarm, Message::Interested, &mut events);
    let join = |swarm: &mut Swarm, events: &mut Vec<Event>, n: u8, told: bool| {
        let now = swarm.now;
        let joined = Input::Joined(conn(n.into()), hello(n, from(n), true));
        swarm.handle(now, joined, events);
        let handshake = ExtensionHandshake {
            your_ip: told.then_some(ours.ip()),
            ..ExtensionHandshake::default()
        };
        let handshake = Message::ExtensionHandshake(Box::new(handshake));
        for message in [handshake, Message::Interested] {
            swarm.handle(now, Input::Message(conn(n.into()), message), events);
        }
    };
    // All have time to begin: first come, first served.
    (10..40).for_each(|n| join(&mut swarm, &mut events, n, true));
    let full = CloseReason::Limit("swarm.max_peers");
    assert_eq!(closed_for(&events), [full; 23]);
    assert!((10..17).all(|n| swarm.peers.contains_key(&conn(n))));
    // Who waits for long must make room for a higher rank, whoever comes when.
    for n in 50..100 {
        let later = swarm.now + idle;
        swarm.handle(later, Input::Tick, &mut events);
        join(&mut swarm, &mut events, n, true);
    }
    let rank = |addr: SocketAddr| priority(ours, addr);
    let mut all: Vec<_> = (10..17).chain(50..100).map(from).collect();
    all.push(addr(1));
    all.sort_by_key(|addr| core::cmp::Reverse(rank(*addr)));
    let mut kept: Vec<_> = swarm.peers.values().map(|peer| peer.addr).collect();
    kept.sort_by_key(|addr| core::cmp::Reverse(rank(*addr)));
    assert_eq!(kept, all[..8]);
    let outranked = CloseReason::MadeRoom(crate::event::Expendable::Outranked);
    let gave_way = closed_for(&events).split_off(23);
    assert!(gave_way.iter().all(|it| [full, outranked].contains(it)));
    assert!(gave_way.contains(&outranked));
    // Over whom something flows stays, whatever its rank.
    let weakest = *kept.last().expect("there are eight");
    for n in 100..=255 {
        let now = swarm.now + idle;
        let peer = swarm.peers.values_mut().find(|peer| peer.addr == weakest);
        peer.expect("it is here").on_flow(now, 16_384);
        swarm.handle(now, Input::Tick, &mut events);
        join(&mut swarm, &mut events, n, true);
    }
    assert!(swarm.peers.values().any(|peer| peer.addr == weakest));
    assert_eq!(swarm.peers.len(), 8);
}
