//! Floods that are legal byte for byte: what they cost stays bounded.

use super::*;

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
    let add = AddTorrent::new(Source::Torrent(torrent_file()));
    engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
    work(&mut engine, now, &mut out);
    (engine, out, now)
}

/// Answers every job and drops every other output; returns the connections accepted.
fn work(engine: &mut Engine, now: Instant, out: &mut Outbox) -> Vec<ConnId> {
    let mut accepted = Vec::new();
    loop {
        let mut jobs = Vec::new();
        for output in out.drain() {
            match output {
                Output::Job { job, work } => jobs.push((job, answer(&work))),
                Output::Accept { conn, .. } => accepted.push(conn),
                _ => {}
            }
        }
        if jobs.is_empty() {
            return accepted;
        }
        for (job, result) in jobs {
            engine.handle(now, Input::JobDone { job, result }, out);
        }
    }
}

fn tick(engine: &mut Engine, now: Instant, out: &mut Outbox) {
    for _ in 0..1_000 {
        if engine.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        engine.handle(now, Input::Tick, out);
        work(engine, now, out);
    }
    panic!("spins");
}

fn join(engine: &mut Engine, now: Instant, out: &mut Outbox, from: SocketAddr, id: u8) -> ConnId {
    let ticket = Ticket(u64::from(from.port()));
    engine.handle(now, Input::Incoming { ticket, from }, out);
    let conn = *work(engine, now, out).first().expect("accepted");
    let data = handshake(engine, id);
    engine.handle(now, Input::Received { conn, data }, out);
    work(engine, now, out);
    conn
}

#[test]
fn bursts_of_small_messages_leave_one_deadline_per_connection() {
    let (mut engine, mut out, mut now) = sharing(|_| {});
    let conns: Vec<ConnId> = (0..20)
        .map(|n| join(&mut engine, now, &mut out, addr(9, 1_000 + n), n as u8 + 1))
        .collect();
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
