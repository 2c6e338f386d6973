//! Fetching from the honest, the slow and the lying.

use alloc::vec;
use alloc::vec::Vec;
use std::format;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::*;
use crate::slab::Key;

const NOW: Instant = Instant::MIN;

fn conn(index: u32) -> ConnId {
    ConnId(Key {
        index,
        generation: 0,
    })
}

/// Metadata of exactly `len` bytes.
fn content(len: usize) -> Vec<u8> {
    let made = |name: &str, padding: usize| {
        let name = format!("4:name{}:{name}", name.len());
        let hash = "#".repeat(20);
        let padding = format!("1:z{padding}:{}", "z".repeat(padding));
        format!("d6:lengthi1e{name}12:piece lengthi16384e6:pieces20:{hash}{padding}e")
    };
    let fixed = made("x", 0).len();
    // A length that no padding brings about needs a longer name.
    let all = ["x", "xx"].into_iter().flat_map(|name| {
        let least = len.saturating_sub(fixed + 8);
        (least..least + 9).map(move |padding| (name, padding))
    });
    let mut right = all.map(|(name, padding)| made(name, padding));
    right.find(|made| made.len() == len).unwrap().into_bytes()
}

fn fetch(content: &[u8]) -> Fetch {
    let v1 = Sha1::digest(content).into();
    Fetch::new(
        Arc::new(Config::default()),
        InfoHashes::new(Some(v1), None).unwrap(),
    )
}

fn part(content: &[u8], piece: u32) -> &[u8] {
    let start = piece as usize * PIECE_LEN as usize;
    &content[start..content.len().min(start + PIECE_LEN as usize)]
}

fn answer(fetch: &mut Fetch, now: Instant, from: u32, content: &[u8], piece: u32) -> Event {
    let size = content.len() as u32;
    match fetch.on_data(now, conn(from), piece, size, part(content, piece)) {
        Event::Check { size, assembled } => fetch.on_checked(now, size, assembled.check()),
        other => other,
    }
}

fn complete(content: &[u8]) -> Event {
    Event::Complete(Arc::new(Info::parse(content.to_vec().into()).unwrap()))
}

#[test]
fn two_peers_share_the_pieces_and_two_requests_are_in_flight_each() {
    let content = content(3 * PIECE_LEN as usize + 100);
    let mut fetch = fetch(&content);
    assert!(fetch.peer_offers(NOW, conn(1), content.len() as u32));
    assert!(fetch.peer_offers(NOW, conn(2), content.len() as u32));
    assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0, 1]);
    assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
    assert_eq!(fetch.next_requests(NOW, conn(2))[..], [2, 3]);
    for (from, piece) in [(2, 3), (1, 1), (2, 2)] {
        assert_eq!(
            answer(&mut fetch, NOW, from, &content, piece),
            Event::MayAsk
        );
    }
    assert_eq!(fetch.progress(), (3, 4));
    let done = answer(&mut fetch, NOW, 1, &content, 0);
    assert_eq!(done, complete(&content));
}

#[test]
fn both_hashes_of_a_hybrid_count() {
    let content = format!(
        "d9:file treed1:xd0:d6:lengthi1e11:pieces root32:{}eee6:lengthi1e12:meta versioni2e\
         4:name1:x12:piece lengthi16384e6:pieces20:{}e",
        "r".repeat(32),
        "h".repeat(20),
    );
    let content = content.into_bytes();
    let (v1, v2) = (
        Sha1::digest(&content).into(),
        Sha256::digest(&content).into(),
    );
    for (v1, v2, right) in [
        (Some(v1), Some(v2), true),
        (Some(v1), None, true),
        (None, Some(v2), true),
        (Some(v1), Some([0; 32]), false),
        (Some([0; 20]), Some(v2), false),
    ] {
        let hashes = InfoHashes::new(v1, v2).unwrap();
        let mut fetch = Fetch::new(Arc::new(Config::default()), hashes);
        fetch.peer_offers(NOW, conn(1), content.len() as u32);
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0]);
        let outcome = answer(&mut fetch, NOW, 1, &content, 0);
        assert_eq!(outcome == complete(&content), right);
    }
}

#[test]
fn sizes_out_of_range_are_refused_and_assemblies_are_bounded() {
    let content = content(100);
    let mut fetch = fetch(&content);
    let most = fetch.config.swarm.max_metadata;
    assert!(!fetch.peer_offers(NOW, conn(1), 0));
    assert!(!fetch.peer_offers(NOW, conn(1), most + 1));
    assert!(fetch.peer_offers(NOW, conn(1), most));
    for size in 1..=20 {
        fetch.peer_offers(NOW, conn(size), size);
        fetch.next_requests(NOW, conn(size));
    }
    assert_eq!(fetch.assemblies.len(), 4);
    // Two honest peers outweigh a liar that came first.
    for honest in [100, 101] {
        fetch.peer_offers(NOW, conn(honest), 100);
    }
    assert_eq!(fetch.next_requests(NOW, conn(100))[..], [0]);
    assert_eq!(fetch.assemblies.len(), 4);
    let done = answer(&mut fetch, NOW, 100, &content, 0);
    assert_eq!(done, complete(&content));
}

#[test]
fn a_reject_and_a_silence_pause_a_peer() {
    let content = content(100);
    let mut fetch = fetch(&content);
    let pause = fetch.config.swarm.metadata_pause;
    let timeout = fetch.config.swarm.request_timeout;
    fetch.peer_offers(NOW, conn(1), 100);
    assert_eq!(fetch.next_timeout(), None);
    assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0]);
    assert_eq!(fetch.next_timeout(), Some(NOW + timeout));
    fetch.on_reject(NOW, conn(1), 0);
    assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
    assert_eq!(fetch.next_timeout(), Some(NOW + pause));
    let now = NOW + pause;
    fetch.tick(now);
    assert_eq!(fetch.next_requests(now, conn(1))[..], [0]);
    let now = now + timeout;
    fetch.tick(now);
    assert_eq!(fetch.next_requests(now, conn(1))[..], []);
    assert_eq!(fetch.next_timeout(), Some(now + pause));
    // A late answer is not one that is waited for.
    assert_eq!(answer(&mut fetch, now, 1, &content, 0), Event::MayAsk);
    assert_eq!(fetch.progress(), (0, 1));
}

#[test]
fn the_only_contributor_of_a_bad_hash_is_banned() {
    let content = content(100);
    let mut fetch = fetch(&content);
    fetch.peer_offers(NOW, conn(1), 100);
    fetch.next_requests(NOW, conn(1));
    let outcome = answer(&mut fetch, NOW, 1, &[0; 100], 0);
    assert_eq!(outcome, Event::BadHash { ban: Some(conn(1)) });
    assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
}

#[test]
fn a_liar_among_honest_peers_is_found_and_the_metadata_arrives() {
    let content = content(8 * PIECE_LEN as usize);
    let mut fetch = fetch(&content);
    let lies = vec![0xee; content.len()];
    let mut now = NOW;
    let mut banned = None;
    for peer in 1..=3 {
        fetch.peer_offers(NOW, conn(peer), content.len() as u32);
    }
    for _ in 0..1_000 {
        for peer in 1..=3 {
            for piece in fetch.next_requests(now, conn(peer)) {
                let says = if peer == 1 { &lies } else { &content };
                match answer(&mut fetch, now, peer, says, piece) {
                    Event::MayAsk => {}
                    other @ (Event::Check { .. } | Event::Unreadable | Event::Request { .. }) => {
                        panic!("{other:?}")
                    }
                    Event::Complete(raw) => {
                        assert_eq!(raw.raw, content);
                        return;
                    }
                    Event::BadHash { ban } => {
                        assert!(ban.is_none_or(|conn| conn.0.index == 1));
                        banned = banned.or(ban);
                        if let Some(conn) = ban {
                            fetch.peer_gone(conn);
                        }
                    }
                }
            }
        }
        if let Some(at) = fetch.next_timeout() {
            now = now.max(at);
            fetch.tick(now);
        }
    }
    panic!("never complete; banned {banned:?}");
}

#[test]
fn what_has_the_right_hash_and_cannot_be_read_ends_it() {
    let content = b"d6:lengthi-1ee";
    let mut fetch = fetch(content);
    fetch.peer_offers(NOW, conn(1), content.len() as u32);
    fetch.next_requests(NOW, conn(1));
    let outcome = answer(&mut fetch, NOW, 1, content, 0);
    assert_eq!(outcome, Event::Unreadable);
}

#[test]
fn nothing_is_hashed_or_copied_when_the_last_piece_comes() {
    let content = content(200 * PIECE_LEN as usize);
    let size = content.len() as u32;
    let mut fetch = fetch(&content);
    fetch.peer_offers(NOW, conn(1), size);
    let mut checks = Vec::new();
    let mut wanted = fetch.next_requests(NOW, conn(1));
    while !wanted.is_empty() {
        for piece in wanted {
            let outcome = fetch.on_data(NOW, conn(1), piece, size, part(&content, piece));
            if outcome != Event::MayAsk {
                checks.push(outcome);
            }
        }
        wanted = fetch.next_requests(NOW, conn(1));
    }
    let [Event::Check { assembled, .. }] = &checks[..] else {
        panic!("{} checks", checks.len());
    };
    assert_eq!(assembled.parts().len(), 200);
    // Until the job is done nobody is asked, and the slot is not given away.
    fetch.peer_offers(NOW, conn(2), size);
    assert_eq!(fetch.next_requests(NOW, conn(2))[..], []);
    let day = NOW + Duration::from_secs(86_400);
    for other in 3..20 {
        fetch.peer_offers(NOW, conn(other), other);
        fetch.peer_offers(NOW, conn(other + 20), other);
        fetch.next_requests(day, conn(other));
    }
    assert!(fetch.assemblies.contains_key(&size));
    let outcome = fetch.on_checked(day, size, assembled.check());
    assert_eq!(outcome, complete(&content));
}

/// Lets time pass until the metadata is there, with peers that answer a request so long after it
/// was made, each with content of its own; returns when.
fn race(content: &[u8], peers: &[(u32, Vec<u8>, Duration)], patience: Duration) -> Option<Instant> {
    let mut fetch = fetch(content);
    let mut now = NOW;
    let mut answers: Vec<(Instant, usize, u32)> = Vec::new();
    for (number, says, _) in peers {
        fetch.peer_offers(now, conn(*number), says.len() as u32);
    }
    while now < NOW + patience {
        for (at, (number, _, delay)) in peers.iter().enumerate() {
            for piece in fetch.next_requests(now, conn(*number)) {
                // One after another, as a slow uplink does.
                let last = answers.iter().filter(|(_, who, _)| *who == at);
                let last = last.map(|(due, _, _)| *due).max().unwrap_or(now);
                answers.push((last + *delay, at, piece));
            }
        }
        assert!(fetch.assemblies.len() <= 4 && fetch.claims.len() <= peers.len());
        let due = answers.iter().map(|(due, _, _)| *due);
        let next = due.chain(fetch.next_timeout()).min()?;
        now = now.max(next);
        fetch.tick(now);
        while let Some(at) = answers.iter().position(|(due, _, _)| *due <= now) {
            let (_, who, piece) = answers.remove(at);
            let (number, says, _) = &peers[who];
            match answer(&mut fetch, now, *number, says, piece) {
                Event::Complete(_) => return Some(now),
                Event::BadHash { ban: Some(conn) } => fetch.peer_gone(conn),
                _ => {}
            }
        }
    }
    None
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn slow_liars_with_a_size_each_do_not_keep_out_the_honest() {
    let honest = content(3 * PIECE_LEN as usize);
    for liars in [4, 40] {
        // They come first, claim the most there can be, and send a piece every 20 s: no request
        // is ever late.
        let mut peers: Vec<(u32, Vec<u8>, Duration)> = (0..liars)
            .map(|n| {
                let size = (1 << 20) - n as usize * PIECE_LEN as usize;
                (n, vec![0xee; size], secs(20))
            })
            .collect();
        peers.push((99, honest.clone(), Duration::from_millis(50)));
        let config = Config::default();
        let turns = 1 + liars / u32::from(config.swarm.max_metadata_sizes);
        let by = NOW + config.swarm.metadata_turn * (turns + 1);
        let at = race(&honest, &peers, secs(300)).expect("it arrives");
        assert!(at <= by, "{liars} liars: {at:?}");
    }
}

#[test]
fn a_size_that_uses_its_turns_gets_longer_ones() {
    // 40 pieces, one every 300 ms: more than a turn, however often it is its turn.
    let honest = content(40 * PIECE_LEN as usize);
    let mut peers: Vec<(u32, Vec<u8>, Duration)> = (0..12)
        .map(|n| (n, vec![0xee; (1 << 20) - n as usize], secs(20)))
        .collect();
    peers.push((99, honest.clone(), Duration::from_millis(300)));
    race(&honest, &peers, secs(600)).expect("it arrives");
}

#[test]
fn liars_with_the_right_size_have_their_turn_alone_and_no_more() {
    let honest = content(4 * PIECE_LEN as usize);
    // One is quick and spoils the first assembly, the others are slow.
    let mut peers = vec![(1, vec![0xee; honest.len()], Duration::from_millis(1))];
    peers.extend((2..6).map(|n| (n, vec![0xee; honest.len()], secs(20))));
    peers.push((9, honest.clone(), Duration::from_millis(400)));
    let at = race(&honest, &peers, secs(600)).expect("it arrives");
    // Each of the slow ones has one turn at most before the honest one has its own; the honest
    // one may have to sit out the pause after the first assembly.
    assert!(at <= NOW + secs(60 + 6 * 5), "{at:?}");
}

#[test]
fn changing_claims_put_off_nobody_s_turn() {
    let honest = content(2 * PIECE_LEN as usize);
    let mut fetch = fetch(&honest);
    let size = honest.len() as u32;
    let mut now = NOW;
    for n in 0..8 {
        fetch.peer_offers(now, conn(n), 1_000_000 + n);
        fetch.next_requests(now, conn(n));
    }
    fetch.peer_offers(now, conn(99), size);
    for round in 0..100 {
        now = now + Duration::from_millis(100);
        fetch.tick(now);
        // Two by two they claim a size that nobody claimed before.
        for n in 0..8 {
            fetch.peer_offers(now, conn(n), 2_000_000 + round * 8 + n / 2);
        }
        for n in 0..8 {
            fetch.next_requests(now, conn(n));
        }
        if fetch.next_requests(now, conn(99))[..] == [0, 1] {
            assert_eq!(answer(&mut fetch, now, 99, &honest, 0), Event::MayAsk);
            assert_eq!(answer(&mut fetch, now, 99, &honest, 1), complete(&honest));
            return;
        }
    }
    panic!("it never had its turn");
}

#[test]
fn turns_double_up_to_a_limit() {
    let mut config = Config::default();
    config.swarm.metadata_turn = Duration::from_secs(3);
    config.swarm.max_metadata_turn = Duration::from_secs(10);
    let v1 = InfoHashes::new(Some([1; 20]), None).unwrap();
    let fetch = Fetch::new(Arc::new(config), v1);
    let turns = [0, 1, 2, u8::MAX].map(|turns| fetch.turn(turns));
    assert_eq!(turns, [3, 6, 10, 10].map(Duration::from_secs));
}

#[test]
fn through_handle_a_peer_is_asked_and_what_it_sends_is_to_be_checked() {
    let content = content(40_000);
    let mut fetch = fetch(&content);
    let mut events = Vec::new();
    let (peer, size) = (conn(1), content.len() as u32);
    let refused = Input::Offered {
        conn: peer,
        size: 0,
    };
    fetch.handle(NOW, refused, &mut events);
    assert_eq!(events, []);
    fetch.handle(NOW, Input::Offered { conn: peer, size }, &mut events);
    assert_eq!(core::mem::take(&mut events), [Event::MayAsk]);
    let mut asked = 0;
    loop {
        fetch.handle(NOW, Input::Ask { conn: peer }, &mut events);
        let requests = core::mem::take(&mut events);
        for event in requests {
            let Event::Request { conn, piece } = event else {
                panic!("{event:?}");
            };
            asked += 1;
            let input = Input::Data {
                conn,
                piece,
                total_size: size,
                data: part(&content, piece),
            };
            fetch.handle(NOW, input, &mut events);
        }
        if let Some(Event::Check { size: of, .. }) = events.last() {
            assert_eq!((*of, asked), (size, size.div_ceil(PIECE_LEN)));
            return;
        }
        assert!(events.iter().all(|event| *event == Event::MayAsk));
        events.clear();
    }
}
