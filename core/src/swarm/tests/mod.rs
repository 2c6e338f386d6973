mod attempts;
mod blame;
mod endgame;
mod fuzz;
mod large;
mod limits;
mod lost;
mod pex;
mod room;
mod said;
mod super_seed;
mod turnover;
mod uploads;
mod world;

use std::vec::Vec;

use bytes::Bytes;

use self::world::{LATENCY, World, addr, conn, content, torrent};
use super::*;
use crate::event::Event as Public;
use crate::io::{JobResult, Opened};
use crate::wire::Message;

const SECOND: Duration = Duration::from_secs(1);
const PIECE: usize = 64 * 1024;

#[test]
fn leechers_download_from_one_seed_and_from_each_other() {
    for fast in [true, false] {
        let mut world = World::new();
        let info = torrent(40 * PIECE + 12_345, PIECE);
        let seed = world.seed(&info);
        let leechers: Vec<_> = (0..5).map(|_| world.leech(&info)).collect();
        for (at, leecher) in leechers.iter().enumerate() {
            world.nodes[*leecher].fast = fast;
            world.introduce(*leecher, &[seed]);
            world.introduce(*leecher, &leechers[..at]);
        }
        let all = |world: &World| leechers.iter().all(|node| world.is_complete(*node));
        assert!(
            world.run_while_not(SECOND * 60, all),
            "not complete in time"
        );
        world.run(SECOND * 2);
        for leecher in &leechers {
            world.assert_right(*leecher);
            assert_eq!(
                world.nodes[*leecher].swarm.stats().state,
                TorrentState::Seeding
            );
            assert_eq!(
                world.count(*leecher, |e| matches!(e, Public::PieceDone { .. })),
                41
            );
        }
        let from_seed = world.nodes[seed].swarm.stats().uploaded;
        assert!(
            from_seed < 5 * info.total_length,
            "leechers gave each other nothing"
        );
    }
}

#[test]
fn the_first_block_leaves_at_once() {
    let mut world = World::new();
    let info = torrent(PIECE, PIECE);
    let seed = world.seed(&info);
    let leecher = world.leech(&info);
    world.run(SECOND * 3);
    let start = world.now;
    world.introduce(leecher, &[seed]);
    world.run(SECOND);
    let is_piece = |message: &Message| matches!(message, Message::Piece { .. });
    let first = world.nodes[seed]
        .sent
        .iter()
        .find(|(_, message)| is_piece(message));
    // Connect, bitfield, interested, unchoke, request and one read.
    let (at, _) = first.expect("a block");
    assert!(
        at.saturating_since(start) <= LATENCY * 6,
        "{at:?} after {start:?}"
    );
    assert!(world.is_complete(leecher));
}

#[test]
fn a_liar_is_banned_and_an_honest_seed_serves() {
    let mut world = World::new();
    let info = torrent(16 * PIECE, PIECE);
    let liar = world.seed(&info);
    world.nodes[liar].corrupt = true;
    let honest = world.seed(&info);
    let leecher = world.leech(&info);
    world.introduce(leecher, &[liar, honest]);
    assert!(world.run_while_not(SECOND * 120, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
    let banned = |event: &Public| {
        matches!(event, Public::PeerClosed { addr: at, reason: CloseReason::Banned, .. }
            if *at == addr(liar))
    };
    assert_eq!(world.count(leecher, banned), 1);
    let honest_closed = |event: &Public| {
        matches!(event, Public::PeerClosed { addr: at, reason: CloseReason::Banned, .. }
            if *at == addr(honest))
    };
    assert_eq!(world.count(leecher, honest_closed), 0);
    let blamed = |event: &Public| matches!(event, Public::PieceFailed { blame, .. } if blame.contains(&addr(liar)));
    assert!(world.count(leecher, blamed) >= 1);
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_block_loses_nothing() {
    let mut world = World::new();
    let info = torrent(8 * PIECE, PIECE);
    let lame = world.seed(&info);
    world.nodes[lame].half = true;
    let leecher = world.leech(&info);
    world.introduce(leecher, &[lame]);
    world.run(SECOND);
    assert!(world.nodes[leecher].swarm.stats().downloaded > 0);
    world.give(lame, Input::Stop);
    world.run(SECOND);
    assert!(world.nodes[lame].stopped);
    let seed = world.seed(&info);
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 10, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
}

#[test]
fn a_stalled_peer_is_snubbed_and_its_blocks_come_from_another() {
    let mut world = World::new();
    let info = torrent(4 * PIECE, PIECE);
    let lame = world.seed(&info);
    world.nodes[lame].half = true;
    let leecher = world.leech(&info);
    world.introduce(leecher, &[lame]);
    world.run(SECOND);
    let seed = world.seed(&info);
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 90, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
}

#[test]
fn half_a_download_is_found_again_without_resume_data() {
    let mut world = World::new();
    let info = torrent(20 * PIECE, PIECE);
    let seed = world.seed(&info);
    let half: Vec<u32> = (0..10).collect();
    let leecher = world.add(&info, true, &half, Options::default());
    // One of them is wrong on disk.
    world.nodes[leecher].disk.bytes[3 * PIECE] ^= 1;
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
    let checked = |e: &Public| matches!(e, Public::Checked { ok: 9, bad: 1, .. });
    assert_eq!(world.count(leecher, checked), 1);
    assert_eq!(
        world.count(leecher, |e| matches!(e, Public::PieceDone { .. })),
        11
    );
    assert_eq!(
        world.nodes[leecher].swarm.stats().downloaded,
        11 * PIECE as u64
    );
}

#[test]
fn what_was_saved_is_trusted_and_not_hashed_again() {
    let mut world = World::new();
    let info = torrent(20 * PIECE, PIECE);
    let seed = world.seed(&info);
    let first = world.leech(&info);
    world.introduce(first, &[seed]);
    assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(first)));
    world.run(SECOND);
    let saved = world.nodes[first].disk.saved.clone().expect("resume data");
    let resume = crate::resume::Resume::decode(&saved).expect("right resume data");
    assert_eq!(resume.have, world.nodes[first].disk.present);
    let all: Vec<u32> = (0..info.piece_count).collect();
    // Without the metadata: it is in the resume data as well.
    for (check, hashed) in [(false, 0), (true, 20)] {
        let resume = Some(resume.clone());
        let options = Options {
            resume,
            check,
            ..Options::default()
        };
        let second = world.add(&info, false, &all, options);
        world.run(SECOND);
        assert!(world.is_complete(second));
        assert_eq!(world.nodes[second].hashed.len(), hashed);
        world.assert_right(second);
    }
}

#[test]
fn the_metadata_comes_from_peers_and_the_content_after_it() {
    let mut world = World::new();
    // Metadata of three pieces.
    let info = torrent(2_000 * 16 * 1024, 16 * 1024);
    assert!(info.raw.len() > 2 * 16 * 1024);
    let seed = world.seed(&info);
    let leecher = world.add(&info, false, &[], Options::default());
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 120, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
    assert_eq!(
        world.count(leecher, |e| matches!(e, Public::Metadata { .. })),
        1
    );
    let only = Options {
        metadata_only: true,
        ..Options::default()
    };
    let curious = world.add(&info, false, &[], only);
    world.introduce(curious, &[seed]);
    world.run(SECOND * 5);
    assert_eq!(
        world.count(curious, |e| matches!(e, Public::Metadata { .. })),
        1
    );
    assert_eq!(
        world.nodes[curious].swarm.stats().state,
        TorrentState::Stopped
    );
    assert_eq!(world.nodes[curious].swarm.stats().peers, 0);
}

#[test]
fn in_endgame_the_last_blocks_are_asked_of_several_and_cancelled() {
    let mut world = World::new();
    let info = torrent(2 * PIECE, PIECE);
    let seeds: Vec<_> = (0..3).map(|_| world.seed(&info)).collect();
    let leecher = world.leech(&info);
    world.introduce(leecher, &seeds);
    assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(leecher)));
    let sent = &world.nodes[leecher].sent;
    assert!(
        sent.iter()
            .any(|(_, message)| matches!(message, Message::Cancel(_)))
    );
    world.run(SECOND);
    world.assert_right(leecher);
}

#[test]
fn full_storage_stops_the_torrent_and_says_so() {
    let mut world = World::new();
    let info = torrent(4 * PIECE, PIECE);
    let seed = world.seed(&info);
    let leecher = world.leech(&info);
    world.run(SECOND);
    world.nodes[leecher].disk.fails = Some(JobError::NoSpace);
    world.introduce(leecher, &[seed]);
    world.run(SECOND * 5);
    let failed = |e: &Public| {
        matches!(
            e,
            Public::StorageFailed {
                error: JobError::NoSpace,
                ..
            }
        )
    };
    assert_eq!(world.count(leecher, failed), 1);
    assert_eq!(
        world.nodes[leecher].swarm.stats().state,
        TorrentState::Stopped
    );
    world.nodes[leecher].disk.fails = None;
    world.give(leecher, Input::Stop);
    world.run(SECOND);
    assert!(world.nodes[leecher].stopped);
    assert_eq!(world.nodes[leecher].swarm.next_timeout(), None);
}

/// A swarm with one unchoked peer that has everything.
fn downloading(info: &Arc<Info>) -> (Swarm, Vec<Event>) {
    downloading_with(info, Config::default())
}

fn downloading_with(info: &Arc<Info>, config: Config) -> (Swarm, Vec<Event>) {
    let now = Instant::from_micros(1);
    let mut events = Vec::new();
    let mut swarm = Swarm::new(
        Arc::new(config),
        world::setup(info, Options::default()),
        now,
        &mut events,
    );
    swarm.handle(now, Input::Grant(world::generous()), &mut events);
    let opened = JobResult::Opened(alloc::boxed::Box::<Opened>::default());
    swarm.handle(now, Input::JobDone(JobToken(0), opened), &mut events);
    let hello = world::hello(1, addr(1), true);
    swarm.handle(now, Input::Joined(conn(1), hello), &mut events);
    swarm.handle(now, Input::Message(conn(1), Message::HaveAll), &mut events);
    events.clear();
    swarm.handle(now, Input::Message(conn(1), Message::Unchoke), &mut events);
    (swarm, events)
}

fn requests(events: &[Event]) -> Vec<BlockRef> {
    let blocks = events.iter().filter_map(|event| match event {
        Event::Send(_, Message::Request(block)) => Some(*block),
        _ => None,
    });
    blocks.collect()
}

#[test]
fn block_data_is_never_copied() {
    let info = torrent(2 * PIECE, PIECE);
    let (mut swarm, events) = downloading(&info);
    let block = requests(&events)[0];
    let start = block.piece as usize * PIECE + block.begin as usize;
    let data = Bytes::from(content(2 * PIECE)).slice(start..start + 5_000);
    let at = data.as_ptr();
    let mut events = Vec::new();
    let now = Instant::from_micros(2);
    swarm.handle(
        now,
        Input::BlockPart {
            conn: conn(1),
            block,
            offset: 0,
            data,
        },
        &mut events,
    );
    let written = events.iter().find_map(|event| match event {
        Event::Job(_, Job::Write { piece, begin, data }) => Some((*piece, *begin, data.clone())),
        _ => None,
    });
    let (piece, begin, written) = written.expect("a write");
    assert_eq!(
        (piece, begin, written.len()),
        (block.piece, block.begin, 5_000)
    );
    assert_eq!(written.as_ptr(), at);
}

#[test]
fn blocks_nobody_asked_for_are_dropped_and_too_many_end_the_connection() {
    let info = torrent(64 * PIECE, PIECE);
    let (mut swarm, events) = downloading(&info);
    let asked = requests(&events);
    let mut events = Vec::new();
    for n in 0..400 {
        let block = BlockRef {
            piece: 60,
            begin: 0,
            length: 16_384,
        };
        assert!(!asked.contains(&block));
        let data = Bytes::from_static(&[0; 16_384]);
        let part = Input::BlockPart {
            conn: conn(1),
            block,
            offset: 0,
            data,
        };
        swarm.handle(Instant::from_micros(n + 2), part, &mut events);
    }
    assert!(!events.iter().any(|event| matches!(event, Event::Job(..))));
    let closed = |event: &&Event| matches!(event, Event::Disconnect(_, CloseReason::Protocol(_)));
    assert_eq!(events.iter().filter(closed).count(), 1);
}
