//! Each property of the pack is broken on purpose, and is the only one that fails.

use std::time::Duration;

use bytes::Bytes;
use trackerless_core::io::{SocketId, Work};
use trackerless_core::slab::Key;

use super::*;
use crate::scenario::{Action, Scenario, Step, find};

const NOW: Instant = Instant::from_micros(5_000_000);
const HOST: HostId = HostId(0);
const CONN: ConnId = ConnId(Key {
    index: 1,
    generation: 1,
});

fn guard(change: impl FnOnce(&mut Config)) -> Guard {
    let truth = Truth {
        bytes: Bytes::from_static(b"0123456789abcdef"),
        piece_length: 8,
        info_hash: [7; 20],
        private: true,
    };
    let mut guard = Guard::new(Pack::default(), truth, Instant::from_micros(1_000_000));
    let mut config = Config::default();
    change(&mut config);
    guard.add(Arc::new(config), false);
    let to = "10.0.0.2:6881".parse().unwrap();
    guard.output(NOW, HOST, &Output::Connect { conn: CONN, to });
    let mut handshake = vec![19];
    handshake.extend_from_slice(b"BitTorrent protocol");
    handshake.extend_from_slice(&[0; 48]);
    send(&mut guard, &handshake, b"");
    guard
}

fn send(guard: &mut Guard, head: &[u8], body: &'static [u8]) {
    let body = Bytes::from_static(body);
    guard.output(
        NOW,
        HOST,
        &Output::Send {
            conn: CONN,
            head,
            body,
        },
    );
}

fn failed(guard: &Guard) -> Vec<&str> {
    guard
        .failures
        .iter()
        .map(|failure| failure.property.as_str())
        .collect()
}

/// The names of what failed in a run, each once.
fn failed_in(scenario: &Scenario) -> Vec<String> {
    let mut names: Vec<_> = scenario
        .run(3)
        .failures
        .into_iter()
        .map(|failure| failure.property)
        .collect();
    names.dedup();
    names
}

fn demo(changes: &[&str]) -> Scenario {
    let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
    find("demo").unwrap().with(&changes).unwrap()
}

#[test]
fn a_block_that_is_not_the_contents_is_seen() {
    let block = |begin: u8| [0, 0, 0, 13, 7, 0, 0, 0, 1, 0, 0, 0, begin];
    let mut guard = guard(|_| {});
    send(&mut guard, &block(2), b"abcd");
    assert_eq!(failed(&guard), [""; 0]);
    send(&mut guard, &block(2), b"abcX");
    assert_eq!(failed(&guard), ["verified"]);
}

#[test]
fn a_piece_that_is_saved_or_served_before_its_hash_was_right_is_seen() {
    let torrent = TorrentId(Key {
        index: 0,
        generation: 1,
    });
    let job = |index| {
        JobId(Key {
            index,
            generation: 1,
        })
    };
    let commit = |guard: &mut Guard| {
        let work = Work::Commit { torrent, piece: 1 };
        guard.output(NOW, HOST, &Output::Job { job: job(9), work });
    };
    let info = b"d6:lengthi16e4:name1:x12:piece lengthi8e6:pieces40:aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbe";
    let info = Arc::new(Info::parse(Bytes::from_static(info)).unwrap());
    let hashed = |guard: &mut Guard, digest: [u8; 20]| {
        let (select, info) = (Arc::from([]), Arc::clone(&info));
        let work = Work::Open {
            torrent,
            info,
            select,
        };
        guard.output(NOW, HOST, &Output::Job { job: job(1), work });
        let kind = trackerless_core::io::HashKind::Sha1;
        let work = Work::Hash {
            torrent,
            piece: 1,
            kind,
        };
        guard.output(NOW, HOST, &Output::Job { job: job(2), work });
        let result = JobResult::Hashed(Digest::Sha1(digest));
        guard.input(
            NOW,
            HOST,
            &Input::JobDone {
                job: job(2),
                result,
            },
        );
    };
    let mut right = guard(|_| {});
    hashed(&mut right, [b'b'; 20]);
    commit(&mut right);
    assert_eq!(failed(&right), [""; 0]);
    let mut wrong = guard(|_| {});
    hashed(&mut wrong, [b'a'; 20]);
    commit(&mut wrong);
    let work = Work::Read {
        torrent,
        piece: 1,
        begin: 0,
        length: 4,
    };
    wrong.output(NOW, HOST, &Output::Job { job: job(10), work });
    assert_eq!(failed(&wrong), ["verified", "verified"]);
}

#[test]
fn who_sends_faster_than_allowed_or_waits_with_more_is_seen() {
    static BLOCK: [u8; 16_384] = [0; 16_384];
    let serve = |guard: &mut Guard| {
        for _ in 0..64 {
            send(guard, &[0, 0, 0x40, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0], &BLOCK);
        }
        failed(guard)
            .into_iter()
            .filter(|name| *name != "verified")
            .count()
    };
    // One MiB in the same microsecond: more than this rate allows, but not more than that.
    assert_eq!(
        serve(&mut guard(|config| config.wire.send_window = 1 << 21)),
        0
    );
    let slow = |config: &mut Config| {
        config.wire.send_window = 1 << 21;
        config.limits.upload_rate = 10_000;
    };
    assert!(serve(&mut guard(slow)) > 0);
    assert!(serve(&mut guard(|config| config.wire.send_window = 1 << 18)) > 0);
}

#[test]
fn a_datagram_that_names_a_private_torrent_is_seen() {
    let mut guard = guard(|_| {});
    let datagram = |text: &[u8]| [&b"d1:ad9:info_hash20:"[..], text, b"e1:y1:qe"].concat();
    for (hash, expected) in [([8; 20], 0), ([7; 20], 1)] {
        let (to, head) = ("10.0.0.3:1".parse().unwrap(), datagram(&hash));
        let (socket, body) = (SocketId(0), Bytes::new());
        guard.output(
            NOW,
            HOST,
            &Output::Transmit {
                socket,
                to,
                head: &head,
                body,
            },
        );
        assert_eq!(failed(&guard).len(), expected);
    }
    assert_eq!(failed(&guard), ["private"]);
}

#[test]
fn an_answer_that_is_longer_than_allowed_is_seen_unless_the_asker_receives() {
    let from: SocketAddr = "203.0.113.5:1".parse().unwrap();
    let socket = SocketId(0);
    for (proven, length, fails) in [(false, 600, 0), (false, 601, 1), (true, 601, 0)] {
        let mut guard = guard(|_| {});
        if proven {
            let payload = b"d1:rd2:id0:e1:y1:re";
            guard.input(
                NOW,
                HOST,
                &Input::Datagram {
                    socket,
                    from,
                    payload,
                },
            );
        }
        let query = [&b"d"[..], &[b'x'; 92], b"1:y1:qe"].concat();
        guard.input(
            NOW,
            HOST,
            &Input::Datagram {
                socket,
                from,
                payload: &query,
            },
        );
        let answer = [&b"d"[..], &vec![b'x'; length - 8], b"1:y1:re"].concat();
        let body = Bytes::new();
        guard.output(
            NOW,
            HOST,
            &Output::Transmit {
                socket,
                to: from,
                head: &answer,
                body,
            },
        );
        assert_eq!(failed(&guard).len(), fails, "{proven} {length}");
    }
    // Of streams over datagrams no more than was sent.
    for (length, fails) in [(20, 0), (21, 1)] {
        let mut guard = guard(|_| {});
        guard.input(
            NOW,
            HOST,
            &Input::Datagram {
                socket,
                from,
                payload: &[0x41; 20],
            },
        );
        let head = vec![0x31; length];
        let body = Bytes::new();
        guard.output(
            NOW,
            HOST,
            &Output::Transmit {
                socket,
                to: from,
                head: &head,
                body,
            },
        );
        assert_eq!(failed(&guard), vec!["amplification"; fails]);
    }
}

#[test]
fn with_fewer_slots_than_the_engine_thinks_slots_fail() {
    assert_eq!(failed_in(&demo(&["pack.max-unchoked=1"])), ["slots"]);
}

#[test]
fn an_engine_that_wakes_all_the_time_spins() {
    let often = [
        "groups.nodes.config.dht.refresh-interval=100ms",
        "pack.max-ticks=30",
    ];
    assert_eq!(failed_in(&demo(&often)), ["spin"]);
    assert_eq!(failed_in(&demo(&["pack.max-ticks=30"])), [""; 0]);
}

#[test]
fn an_engine_that_holds_more_than_it_may_fails_memory() {
    assert_eq!(failed_in(&demo(&["pack.max-memory=20KiB"])), ["memory"]);
}

#[test]
fn without_a_seed_nobody_finishes() {
    let mut scenario = demo(&[]);
    scenario.properties.clear();
    scenario.within = Duration::from_secs(30);
    scenario.timeline.push(Step {
        at: Duration::from_secs(4),
        action: Action::Leave,
        hosts: "seeds".into(),
        ..Step::default()
    });
    assert_eq!(failed_in(&scenario), ["finish"]);
}

#[test]
fn a_torrent_that_is_not_marked_private_is_told_of() {
    let mut scenario = find("private").unwrap();
    assert_eq!(failed_in(&scenario), [""; 0]);
    scenario.content.private = false;
    scenario.pack.private = Privacy::All;
    assert_eq!(failed_in(&scenario), ["private"]);
}
