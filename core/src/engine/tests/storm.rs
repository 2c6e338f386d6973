//! Floods that are legal byte for byte: what they cost stays bounded.

use super::*;
use crate::event::{CloseReason, Expendable};

/// What a peer of `torrent_file()` says first.
fn handshake(engine: &Engine, peer_id: u8) -> BytesMut {
    let (_, hashes) = engine
        .torrents
        .iter()
        .map(|(key, entry)| (key, entry.hashes))
        .next()
        .expect("a torrent");
    let mut bytes = BytesMut::from(&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..]);
    bytes.extend_from_slice(&hashes.short().0);
    bytes.extend_from_slice(&[peer_id; 20]);
    bytes
}

/// An engine with one torrent whose storage is open and empty.
fn sharing(change: impl FnOnce(&mut Config)) -> (Engine, Outbox, Instant) {
    let (mut engine, mut out, now) = engine_with(change);
    let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
    engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
    work(&mut engine, now, &mut out);
    (engine, out, now)
}

/// What is of interest of all that was asked for.
#[derive(Debug, Default)]
struct Seen {
    accepted: Vec<ConnId>,
    connects: Vec<SocketAddr>,
}

/// Answers every job, sends all that is to be sent and drops most other outputs.
fn work(engine: &mut Engine, now: Instant, out: &mut Outbox) -> Seen {
    let mut seen = Seen::default();
    loop {
        let mut jobs = Vec::new();
        let mut sent = Vec::new();
        for output in out.drain() {
            match output {
                Output::Job { job, work } => jobs.push((job, answer(&work))),
                Output::Accept { conn, .. } => seen.accepted.push(conn),
                Output::Send { conn, head, body } => {
                    sent.push((conn, (head.len() + body.len()) as u32));
                }
                Output::Connect { to, .. } => seen.connects.push(to),
                _ => {}
            }
        }
        if jobs.is_empty() && sent.is_empty() {
            return seen;
        }
        for (conn, bytes) in sent {
            engine.handle(now, Input::Sent { conn, bytes }, out);
        }
        for (job, result) in jobs {
            engine.handle(now, Input::JobDone { job, result }, out);
        }
    }
}

fn tick(engine: &mut Engine, now: Instant, out: &mut Outbox) -> Vec<SocketAddr> {
    let mut connects = Vec::new();
    for _ in 0..1_000 {
        if engine.next_timeout().is_none_or(|at| at > now) {
            return connects;
        }
        engine.handle(now, Input::Tick, out);
        connects.extend(work(engine, now, out).connects);
    }
    panic!("spins");
}

/// A stream from `from`, if it is let in.
fn knock(engine: &mut Engine, now: Instant, out: &mut Outbox, from: SocketAddr) -> Option<ConnId> {
    let ticket = Ticket(u64::from(from.port()));
    engine.handle(now, Input::Incoming { ticket, from }, out);
    work(engine, now, out).accepted.first().copied()
}

fn join(engine: &mut Engine, now: Instant, out: &mut Outbox, from: SocketAddr, id: u8) -> ConnId {
    let conn = knock(engine, now, out, from).expect("accepted");
    let data = handshake(engine, id);
    engine.handle(now, Input::Received { conn, data }, out);
    work(engine, now, out);
    conn
}

/// Peers that join one after the other, the first of them as `first_id`.
fn join_all(
    engine: &mut Engine,
    now: Instant,
    out: &mut Outbox,
    first_id: u8,
    from: impl Iterator<Item = SocketAddr>,
) -> Vec<ConnId> {
    let joined = from.zip(first_id..);
    joined
        .map(|(from, id)| join(engine, now, out, from, id))
        .collect()
}

#[test]
fn bursts_of_small_messages_leave_one_deadline_per_connection() {
    let (mut engine, mut out, mut now) = sharing(|_| {});
    let from = (0..20).map(|n| addr(9, 1_000 + n));
    let conns = join_all(&mut engine, now, &mut out, 1, from);
    let before = engine.deadlines.len();
    for _ in 0..500 {
        for conn in conns.iter().copied() {
            // 300 keep-alives: more messages than one input works on.
            let data = BytesMut::from(&[0; 1_200][..]);
            engine.handle(now, Input::Received { conn, data }, &mut out);
            work(&mut engine, now, &mut out);
        }
        tick(&mut engine, now, &mut out);
        now = now + Duration::from_millis(1);
    }
    assert_eq!(engine.connections(), 20);
    assert!(engine.deadlines.len() <= before, "{before}");
}

#[test]
fn connections_that_come_and_go_take_their_deadlines_along() {
    let (mut engine, mut out, now) = sharing(|_| {});
    let before = engine.deadlines.len();
    for n in 0..1_000 {
        let conn = join(&mut engine, now, &mut out, addr(9, 1_000 + n), 1);
        let reason = IoReason::Reset;
        engine.handle(now, Input::Closed { conn, reason }, &mut out);
        work(&mut engine, now, &mut out);
    }
    assert_eq!(engine.connections(), 0);
    assert!(engine.deadlines.len() <= before + 2, "{before}");
}

fn public(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([16, 1, 1, last], port))
}

#[test]
fn silence_from_one_address_or_network_keeps_nobody_out() {
    let (mut engine, mut out, now) = sharing(|_| {});
    let limits = engine.config.limits.clone();
    let mut knock = |from| knock(&mut engine, now, &mut out, from);
    let one = (0..150).filter_map(|n| knock(public(1, 1_000 + n))).count();
    assert_eq!(one, usize::from(limits.pending_crowding.per_address));
    let all = one + (0..250).filter_map(|n| knock(public(n, 99))).count();
    assert_eq!(all, usize::from(limits.pending_crowding.per_network));
    let elsewhere = knock(SocketAddr::from(([16, 1, 2, 1], 99)));
    let first = elsewhere.expect("another network has its share");
    // Loopback is one host with many faces.
    let near = (0..150).filter_map(|n| knock(addr(9, 1_000 + n))).count();
    assert_eq!(all + 1 + near, limits.max_pending_incoming as usize);
    // Who has left leaves its place to others.
    let reason = IoReason::Eof;
    let conn = first;
    engine.handle(now, Input::Closed { conn, reason }, &mut out);
    assert_eq!(engine.pending_incoming, limits.max_pending_incoming - 1);
}

#[test]
fn one_address_or_network_has_its_share_of_the_peers() {
    let (mut engine, mut out, now) = sharing(|_| {});
    let crowding = engine.config.swarm.peer_crowding;
    let same_address = (0..60).map(|n| public(1, 1_000 + n));
    join_all(&mut engine, now, &mut out, 1, same_address);
    assert_eq!(engine.connections(), usize::from(crowding.per_address));
    let same_network = (0..60).map(|n| public(2 + n, 99));
    join_all(&mut engine, now, &mut out, 100, same_network);
    assert_eq!(engine.connections(), usize::from(crowding.per_network));
    let honest = SocketAddr::from(([16, 1, 2, 1], 99));
    let conn = join(&mut engine, now, &mut out, honest, 99);
    assert!(engine.conns.at(conn.0).is_some());
}

#[test]
fn inbound_connections_of_an_address_are_counted_over_all_torrents() {
    let (mut engine, mut out, now) = sharing(|config| {
        config.limits.incoming_crowding.per_address = 2;
        config.limits.incoming_crowding.per_network = 3;
    });
    let same_address = (0..2).map(|n| public(1, 1_000 + n));
    join_all(&mut engine, now, &mut out, 1, same_address);
    assert_eq!(knock(&mut engine, now, &mut out, public(1, 1_002)), None);
    join(&mut engine, now, &mut out, public(2, 99), 9);
    assert_eq!(knock(&mut engine, now, &mut out, public(3, 99)), None);
}

#[test]
fn nobody_cuts_a_connection_by_using_its_peer_id() {
    let (mut engine, mut out, now) = sharing(|_| {});
    let honest = join(&mut engine, now, &mut out, public(1, 50), 7);
    let stranger = SocketAddr::from(([16, 9, 9, 9], 60));
    let other = join(&mut engine, now, &mut out, stranger, 7);
    assert!(engine.conns.at(honest.0).is_some());
    assert!(engine.conns.at(other.0).is_some());
    // One host that connects twice is one peer.
    let twice = join(&mut engine, now, &mut out, public(1, 51), 7);
    assert!(engine.conns.at(honest.0).is_some());
    assert!(engine.conns.at(twice.0).is_none());
}

#[test]
fn a_peer_is_not_forgotten_because_we_had_no_room_for_it() {
    let (mut engine, mut out, mut now) = sharing(|config| config.limits.max_connections = 1);
    let conn = join(&mut engine, now, &mut out, addr(9, 1_000), 1);
    let torrent = TorrentId(engine.torrents.iter().next().unwrap().0);
    let add = Command::AddPeer(torrent, public(1, 50));
    engine.handle(now, command(2, add), &mut out);
    for _ in 0..100 {
        now = now + Duration::from_secs(30);
        let data = BytesMut::from(&[0; 4][..]);
        engine.handle(now, Input::Received { conn, data }, &mut out);
        assert_eq!(work(&mut engine, now, &mut out).connects, []);
        assert_eq!(tick(&mut engine, now, &mut out), []);
    }
    let reason = IoReason::Eof;
    engine.handle(now, Input::Closed { conn, reason }, &mut out);
    let mut connects = work(&mut engine, now, &mut out).connects;
    for _ in 0..20 {
        now = now + Duration::from_secs(30);
        connects.extend(tick(&mut engine, now, &mut out));
    }
    assert!(connects.contains(&public(1, 50)));
}

#[test]
fn one_tick_works_off_so_many_deadlines_and_the_rest_follows_at_once() {
    let (mut engine, mut out, mut now) = sharing(|config| config.limits.wakes_per_tick = 2);
    let conns = (0..5).filter_map(|n| knock(&mut engine, now, &mut out, public(n, 50)));
    assert_eq!(conns.count(), 5);
    now = now + engine.config.wire.handshake_timeout;
    let mut left = Vec::new();
    while engine.next_timeout() <= Some(now) && left.len() < 100 {
        engine.handle(now, Input::Tick, &mut out);
        left.push(engine.connections());
    }
    left.dedup();
    assert!(
        left.windows(2).all(|pair| pair[0] - pair[1] <= 2),
        "{left:?}"
    );
    assert_eq!(left.last(), Some(&0));
    assert!(left.len() >= 3, "{left:?}");
}

/// Peers that keep silent, of one torrent and of another.
fn crowded(engine: &mut Engine, now: Instant, out: &mut Outbox, count: u8) -> Vec<ConnId> {
    let from = (0..count).map(|n| SocketAddr::from(([16, 2, n, 1], 50)));
    join_all(engine, now, out, 100, from)
}

#[test]
fn when_all_connections_are_taken_an_idle_one_makes_room_whichever_torrent_it_is_of() {
    let (mut engine, mut out, mut now) = sharing(|config| {
        config.limits.max_connections = 4;
        config.limits.spare_connections = 2;
        config.swarm.place_idle = Duration::from_secs(20);
    });
    let idle = crowded(&mut engine, now, &mut out, 4);
    let is_here = |engine: &Engine, conn: ConnId| engine.conns.at(conn.0).is_some();
    // A few more may shake hands, and are sent away as long as all have time left.
    let early = [1, 2].map(|n| knock(&mut engine, now, &mut out, public(n, 50)).expect("let in"));
    assert_eq!(knock(&mut engine, now, &mut out, public(3, 50)), None);
    for (conn, id) in early.into_iter().zip(1..) {
        let data = handshake(&engine, id);
        engine.handle(now, Input::Received { conn, data }, &mut out);
        work(&mut engine, now, &mut out);
        assert!(!is_here(&engine, conn));
    }
    assert!(idle.iter().all(|conn| is_here(&engine, *conn)));
    now = now + Duration::from_secs(20);
    tick(&mut engine, now, &mut out);
    let newcomers = [4, 5].map(|n| join(&mut engine, now, &mut out, public(n, 50), n));
    assert!(newcomers.iter().all(|conn| is_here(&engine, *conn)));
    assert_eq!(engine.connections(), 4);
    // Another torrent has none of its own to give.
    let other = "0202020202020202020202020202020202020202";
    let add = AddTorrent::new(Source::Magnet(String::from(other)));
    engine.handle(now, command(2, Command::AddTorrent(add)), &mut out);
    work(&mut engine, now, &mut out);
    let conn = knock(&mut engine, now, &mut out, public(6, 50)).expect("let in");
    let mut data = handshake(&engine, 6);
    data[28..48].fill(2);
    engine.handle(now, Input::Received { conn, data }, &mut out);
    let closed: Vec<_> = out
        .drain()
        .filter_map(|output| match output {
            Output::Event(Event::PeerClosed { reason, .. }) => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [CloseReason::MadeRoom(Expendable::Idle)]);
    assert!(is_here(&engine, conn));
    assert!(newcomers.iter().all(|conn| is_here(&engine, *conn)));
    assert_eq!(engine.connections(), 4);
}

#[test]
fn one_input_looks_at_so_many_candidates_and_the_rest_follows() {
    let (mut engine, mut out, now) = engine_with(|config| config.swarm.candidates_per_input = 1);
    let mut add = AddTorrent::new(Source::Magnet(String::from(
        "magnet:?xt=urn:btih:0101010101010101010101010101010101010101",
    )));
    add.peers = (1..=2).map(|n| public(n, 50)).collect();
    engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
    let mut connects = work(&mut engine, now, &mut out).connects;
    assert!(engine.next_timeout() <= Some(now));
    connects.extend(tick(&mut engine, now, &mut out));
    assert_eq!(connects.len(), 2);
}
