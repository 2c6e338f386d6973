//! Pieces that peers no longer have, or we (BEP 54), and who fetches nothing (BEP 21).

use std::collections::BTreeSet;

use quickcheck::quickcheck;

use super::*;
use crate::swarm::bitfield::Bitfield;
use crate::wire::ExtensionHandshake;

/// What a node told in handshakes about fetching nothing.
fn told_upload_only(world: &World, node: usize) -> Vec<Option<bool>> {
    let sent = world.nodes[node].sent.iter();
    let told = sent.filter_map(|(_, message)| match message {
        Message::ExtensionHandshake(handshake) => Some(handshake.upload_only),
        _ => None,
    });
    told.collect()
}

fn dont_haves(world: &World, node: usize) -> Vec<u32> {
    let sent = world.nodes[node].sent.iter();
    let told = sent.filter_map(|(_, message)| match message {
        Message::DontHave(piece) => Some(*piece),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_piece_that_cannot_be_read_is_told_and_fetched_again() {
    for error in [JobError::Missing, JobError::Io] {
        let mut world = World::new();
        let info = torrent(6 * PIECE, PIECE);
        let broken = world.seed(&info);
        world.nodes[broken].disk.unreadable = BTreeSet::from([3]);
        world.nodes[broken].disk.unreadable_because = Some(error);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[broken]);
        world.run(SECOND * 3);
        // All that can be had is had, the rest was not asked for again and again.
        assert_eq!(world.nodes[leecher].swarm.stats().done, 5 * PIECE as u64);
        assert_eq!(dont_haves(&world, broken), [3]);
        let lost = |event: &Public| matches!(event, Public::PieceLost { piece: 3, .. });
        assert_eq!(world.count(broken, lost), 1);
        let stats = world.nodes[broken].swarm.stats();
        assert_eq!(stats.state, TorrentState::Downloading);
        assert_eq!(stats.done, 5 * PIECE as u64);
        assert_eq!(told_upload_only(&world, broken), [Some(true), Some(false)]);
        let asked = world.nodes[leecher].sent.len();
        world.run(SECOND * 3);
        let requests = world.nodes[leecher].sent[asked..].iter();
        let requests = requests.filter(|(_, it)| matches!(it, Message::Request(_)));
        assert_eq!(requests.count(), 0);

        // The disk was mended, and another seed comes: both get it.
        world.nodes[broken].disk.unreadable.clear();
        let seed = world.seed(&info);
        world.introduce(leecher, &[seed]);
        let done = |world: &World| {
            let state = |node: usize| world.nodes[node].swarm.stats().state;
            [broken, leecher]
                .iter()
                .all(|node| state(*node) == TorrentState::Seeding)
        };
        assert!(world.run_while_not(SECOND * 30, done));
        world.assert_right(broken);
        world.assert_right(leecher);
        assert_eq!(
            told_upload_only(&world, broken).last(),
            Some(&Some(true)),
            "complete again"
        );
    }
}

#[test]
fn a_piece_that_is_lost_again_and_again_is_the_end() {
    let mut world = World::new();
    let info = torrent(2 * PIECE, PIECE);
    let broken = world.seed(&info);
    world.run(SECOND);
    let most = world.config.swarm.max_lost_pieces;
    for times in 0..=most {
        assert_eq!(
            world.nodes[broken].swarm.stats().state,
            TorrentState::Seeding,
            "{times}"
        );
        world.nodes[broken].disk.unreadable = BTreeSet::from([1]);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[broken]);
        world.run(SECOND * 2);
        world.give(leecher, Input::Stop);
        world.nodes[broken].disk.unreadable.clear();
        let seed = world.seed(&info);
        world.introduce(broken, &[seed]);
        world.run(SECOND * 2);
        world.give(seed, Input::Stop);
        world.run(SECOND);
    }
    let failed = |event: &Public| matches!(event, Public::StorageFailed { piece: Some(1), .. });
    assert_eq!(world.count(broken, failed), 1);
}

#[test]
fn who_only_serves_fetches_nothing_that_it_lost() {
    let mut world = World::new();
    let info = torrent(4 * PIECE, PIECE);
    let options = Options {
        serve_only: true,
        ..Options::default()
    };
    let broken = world.add(&info, true, &[0, 1, 2, 3], options);
    world.nodes[broken].disk.unreadable = BTreeSet::from([2]);
    let (leecher, seed) = (world.leech(&info), world.seed(&info));
    world.introduce(leecher, &[broken, seed]);
    world.introduce(broken, &[seed]);
    assert!(world.run_while_not(SECOND * 20, |world| world.is_complete(leecher)));
    world.run(SECOND);
    let asks = |(_, message): &&(Instant, Message)| {
        matches!(message, Message::Request(_) | Message::Interested)
    };
    assert_eq!(world.nodes[broken].sent.iter().filter(asks).count(), 0);
    let state = world.nodes[broken].swarm.stats().state;
    assert_eq!(state, TorrentState::Seeding);
    assert_eq!(world.nodes[broken].swarm.stats().downloaded, 0);
}

#[test]
fn what_a_peer_lost_is_not_asked_of_it() {
    let info = torrent(8 * PIECE, PIECE);
    let (mut swarm, events) = downloading(&info);
    let first = requests(&events)[0].piece;
    let mut events = Vec::new();
    let now = Instant::from_micros(2);
    let lost = Input::Message(conn(1), Message::DontHave(first));
    swarm.handle(now, lost, &mut events);
    assert!(requests(&events).iter().all(|block| block.piece != first));
    let peer = &swarm.peers[&conn(1)];
    assert!(peer.asked.iter().all(|asked| asked.block.piece != first));
    assert!(!peer.is_seed() && !peer.has_piece(first) && peer.interested);
    assert_eq!(peer.wanted, 7);
    assert_eq!(
        swarm.content.as_ref().unwrap().picker.availability(first),
        0
    );
    for piece in (0..8).filter(|piece| *piece != first) {
        let lost = Input::Message(conn(1), Message::DontHave(piece));
        swarm.handle(now, lost, &mut events);
    }
    let peer = &swarm.peers[&conn(1)];
    assert!(peer.asked.is_empty() && !peer.interested);
    let bored = |event: &Event| matches!(event, Event::Send(_, Message::NotInterested));
    assert_eq!(events.iter().filter(|event| bored(event)).count(), 1);
    swarm.handle(
        now,
        Input::Message(conn(1), Message::DontHave(8)),
        &mut events,
    );
    assert!(swarm.peers.is_empty(), "no such piece");
}

#[test]
fn after_that_only_haves_add_to_what_it_has() {
    let info = torrent(8 * PIECE, PIECE);
    let (mut swarm, _) = downloading(&info);
    let mut events = Vec::new();
    let has = |swarm: &Swarm| {
        let peer = &swarm.peers[&conn(1)];
        (0..8).filter(|piece| peer.has_piece(*piece)).count()
    };
    for (message, then) in [
        (Message::DontHave(3), 7),
        (Message::HaveAll, 7),
        (Message::Bitfield(Bytes::from_static(&[0xff])), 7),
        (Message::Have(3), 8),
    ] {
        let now = Instant::from_micros(2);
        swarm.handle(now, Input::Message(conn(1), message), &mut events);
        assert_eq!(has(&swarm), then);
    }
}

/// Two files of three pieces each.
fn two_files() -> Arc<Info> {
    let whole = torrent(6 * PIECE, PIECE);
    let text = std::string::String::from_utf8_lossy(&whole.raw[..]);
    let at = text.find("4:name").unwrap();
    let mut raw = std::format!(
        "d5:filesld6:lengthi{0}e4:pathl1:aeed6:lengthi{0}e4:pathl1:beee",
        3 * PIECE
    )
    .into_bytes();
    raw.extend_from_slice(&whole.raw[at..]);
    Arc::new(Info::parse(raw.into()).unwrap())
}

#[test]
fn two_who_fetch_nothing_part_and_so_do_two_of_no_use_to_each_other() {
    let info = two_files();
    let part = |file| Options {
        select: [file].into(),
        ..Options::default()
    };
    let mut world = World::new();
    // A partial seed says that it fetches nothing, and stays with those who do.
    let first = world.add(&info, true, &[0, 1, 2], part(0));
    let second = world.add(&info, true, &[0, 1, 2], part(0));
    let leecher = world.leech(&info);
    world.introduce(first, &[second]);
    world.introduce(leecher, &[first, second]);
    world.run(SECOND * 5);
    assert_eq!(told_upload_only(&world, first)[0], Some(true));
    let useless = |event: &Public| {
        matches!(
            event,
            Public::PeerClosed {
                reason: CloseReason::Useless,
                ..
            }
        )
    };
    assert!(world.count(first, useless) + world.count(second, useless) > 0);
    assert_eq!(world.nodes[leecher].swarm.stats().done, 3 * PIECE as u64);
    // The leecher has all of theirs: there is nothing left between them.
    assert_eq!(world.nodes[leecher].swarm.stats().peers, 0);

    // Neither has what the other wants.
    let mut world = World::new();
    let first = world.add(&info, true, &[0, 1, 2], part(0));
    let second = world.add(&info, true, &[0, 1], part(1));
    world.introduce(first, &[second]);
    world.run(SECOND * 2);
    assert_eq!(world.nodes[first].swarm.stats().peers, 0);
}

#[test]
fn a_handshake_that_does_not_say_leaves_it_as_it_was() {
    let info = torrent(8 * PIECE, PIECE);
    let (mut swarm, _) = downloading(&info);
    let mut events = Vec::new();
    let mut told = |swarm: &mut Swarm, upload_only| {
        let handshake = ExtensionHandshake {
            upload_only,
            ..ExtensionHandshake::default()
        };
        let message = Message::ExtensionHandshake(handshake.into());
        let now = Instant::from_micros(2);
        swarm.handle(now, Input::Message(conn(1), message), &mut events);
        swarm.peers[&conn(1)].upload_only
    };
    let said = [None, Some(true), None, Some(false), None];
    let heard = said.map(|said| told(&mut swarm, said));
    assert_eq!(heard, [false, true, true, false, false]);
}

quickcheck! {
    fn what_a_peer_has_is_what_it_said_last(early: Vec<(u8, bool)>, later: Vec<(u8, bool)>, base: u8) -> bool {
        const PIECES: u32 = 12;
        let info = torrent(PIECES as usize * PIECE, PIECE);
        let now = Instant::from_micros(1);
        let mut events = Vec::new();
        let mut swarm = Swarm::new(
            Arc::new(Config::default()),
            world::setup(&info, Options::default()),
            now,
            &mut events,
        );
        swarm.handle(now, Input::Joined(conn(1), world::hello(1, addr(1), true)), &mut events);
        let mut model = Bitfield::new(PIECES);
        match base % 3 {
            0 => swarm.handle(now, Input::Message(conn(1), Message::HaveNone), &mut events),
            1 => {
                model = Bitfield::full(PIECES);
                swarm.handle(now, Input::Message(conn(1), Message::HaveAll), &mut events);
            }
            _ => {
                (0..PIECES).step_by(3).for_each(|piece| { model.set(piece); });
                let bits = Message::Bitfield(Bytes::copy_from_slice(model.as_bytes()));
                swarm.handle(now, Input::Message(conn(1), bits), &mut events);
            }
        }
        let mut say = |swarm: &mut Swarm, said: &[(u8, bool)], model: &mut Bitfield| {
            for (piece, has) in said {
                let piece = u32::from(*piece) % PIECES;
                let message = if *has {
                    model.set(piece);
                    Message::Have(piece)
                } else {
                    model.clear(piece);
                    Message::DontHave(piece)
                };
                swarm.handle(now, Input::Message(conn(1), message), &mut events);
            }
        };
        say(&mut swarm, &early, &mut model);
        let opened = JobResult::Opened(alloc::boxed::Box::<Opened>::default());
        swarm.handle(now, Input::JobDone(JobToken(0), opened), &mut Vec::new());
        say(&mut swarm, &later, &mut model);
        let picker = &swarm.content.as_ref().unwrap().picker;
        let peer = &swarm.peers[&conn(1)];
        (0..PIECES).all(|piece| {
            let has = model.get(piece);
            peer.has_piece(piece) == has && picker.availability(piece) == u32::from(has)
        }) && peer.wanted == model.count_ones()
            && peer.interested != model.is_empty()
    }
}
