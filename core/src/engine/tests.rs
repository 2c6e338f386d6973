mod crowd;
mod sources;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use std::format;

use bytes::{Bytes, BytesMut};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use sha1::{Digest as _, Sha1};

use super::*;
use crate::event::SourceStatus;
use crate::id::Id20;
use crate::io::{
    AddTorrent, Command, Digest, IoReason, JobError, JobId, JobResult, Opened, Output, Source, Tag,
    Ticket,
};
use crate::slab::Key;

mod readers;
mod storm;

const SOCKET: SocketId = SocketId(0);

fn addr(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port)
}

fn torrent_file() -> Bytes {
    let content = [7u8; 40_000];
    let hashes: Vec<u8> = content
        .chunks(16_384)
        .flat_map(|piece| <[u8; 20]>::from(Sha1::digest(piece)))
        .collect();
    let mut file = b"d4:infod6:lengthi40000e4:name1:x12:piece lengthi16384e6:pieces60:".to_vec();
    file.extend_from_slice(&hashes);
    file.extend_from_slice(b"ee");
    file.into()
}

fn engine() -> (Engine, Outbox, Instant) {
    engine_with(|_| {})
}

fn engine_with(change: impl FnOnce(&mut Config)) -> (Engine, Outbox, Instant) {
    let mut config = Config::default();
    change(&mut config);
    let now = Instant::from_micros(1_000_000);
    (
        Engine::new(Arc::new(config), [3; 32], now).unwrap(),
        Outbox::new(),
        now,
    )
}

fn command(tag: u64, command: Command) -> Input<'static> {
    Input::Command {
        tag: Tag(tag),
        command: Box::new(command),
    }
}

fn outputs(out: &mut Outbox) -> Vec<String> {
    out.drain().map(|output| format!("{output:?}")).collect()
}

#[test]
fn nobody_is_accepted_without_a_torrent_and_not_more_than_the_limit_with_one() {
    let (mut engine, mut out, now) = engine_with(|config| config.limits.max_pending_incoming = 2);
    let mut incoming = |engine: &mut Engine, number| {
        let input = Input::Incoming {
            ticket: Ticket(number),
            from: addr(2, 1000),
        };
        engine.handle(now, input, &mut out);
        out.drain()
            .any(|output| matches!(output, Output::Accept { .. }))
    };
    assert!(!incoming(&mut engine, 0));
    let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
    engine.handle(
        now,
        command(1, Command::AddTorrent(add)),
        &mut Outbox::new(),
    );
    assert!(incoming(&mut engine, 1));
    assert!(incoming(&mut engine, 2));
    assert!(!incoming(&mut engine, 3));
    assert_eq!(engine.connections(), 2);
}

/// Who gets no answer waits for it, a minute and longer, before it comes over TCP.
#[test]
fn whoever_comes_over_utp_is_sent_away_at_once_if_there_is_a_torrent() {
    let (mut engine, mut out, now) = engine();
    let socket = SocketId(4);
    let local = addr(1, 6881);
    engine.handle(now, Input::SocketUp { socket, local }, &mut out);
    let mut syn = [0; 20];
    syn[0] = crate::utp::SYN;
    let mut refused = |engine: &mut Engine| {
        out.drain().for_each(drop);
        let input = Input::Datagram {
            socket,
            from: addr(2, 1000),
            payload: &syn,
        };
        engine.handle(now, input, &mut out);
        out.drain().any(
            |output| matches!(output, Output::Transmit { to, head, .. } if to == addr(2, 1000) && head[0] == 0x31),
        )
    };
    assert!(!refused(&mut engine));
    let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
    engine.handle(
        now,
        command(1, Command::AddTorrent(add)),
        &mut Outbox::new(),
    );
    assert!(refused(&mut engine));
}

#[test]
fn a_wrong_source_is_refused_with_its_reason_and_a_second_copy_with_the_first_one_s_id() {
    let (mut engine, mut out, now) = engine();
    for text in ["magnet:?xt=urn:btih:abababab", "nonsense", ""] {
        let add = AddTorrent::new(Source::Magnet(String::from(text)));
        engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
        assert!(
            outputs(&mut out)
                .iter()
                .any(|line| line.contains("BadSource")),
            "{text}"
        );
    }
    let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
    engine.handle(now, command(2, Command::AddTorrent(add.clone())), &mut out);
    assert!(
        outputs(&mut out)
            .iter()
            .any(|line| line.contains("Ok(Torrent("))
    );
    engine.handle(now, command(3, Command::AddTorrent(add)), &mut out);
    assert!(
        outputs(&mut out)
            .iter()
            .any(|line| line.contains("Duplicate"))
    );
    assert_eq!(engine.torrents().count(), 1);
}

#[test]
fn stale_and_foreign_ids_change_nothing() {
    let (mut engine, mut out, now) = engine();
    let conn = ConnId(Key {
        index: 3,
        generation: 9,
    });
    let job = JobId(Key {
        index: 0,
        generation: 4,
    });
    engine.handle(now, Input::Connected { conn }, &mut out);
    engine.handle(
        now,
        Input::Received {
            conn,
            data: BytesMut::from(&b"x"[..]),
        },
        &mut out,
    );
    engine.handle(now, Input::Sent { conn, bytes: 7 }, &mut out);
    engine.handle(
        now,
        Input::Closed {
            conn,
            reason: IoReason::Reset,
        },
        &mut out,
    );
    engine.handle(
        now,
        Input::JobDone {
            job,
            result: JobResult::Written,
        },
        &mut out,
    );
    assert!(out.is_empty());
}

#[test]
fn shutdown_is_answered_once_storage_is_closed_and_state_saved() {
    let (mut engine, mut out, now) = engine();
    let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
    engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
    engine.handle(now, command(2, Command::Shutdown), &mut out);
    let mut answered = false;
    for _ in 0..20 {
        let mut results = Vec::new();
        for output in out.drain() {
            match output {
                Output::Job { job, work } => results.push((job, answer(&work))),
                Output::Event(Event::CommandDone {
                    tag: Tag(2),
                    result,
                }) => {
                    assert!(result.is_ok());
                    answered = true;
                }
                _ => {}
            }
        }
        assert!(
            !answered || results.is_empty(),
            "answered before the last job"
        );
        for (job, result) in results {
            engine.handle(now, Input::JobDone { job, result }, &mut out);
        }
    }
    assert!(answered);
    assert_eq!((engine.torrents().count(), engine.jobs_in_flight()), (0, 0));
}

fn answer(work: &crate::io::Work<'_>) -> JobResult {
    use crate::io::Work;
    match work {
        // Who knows takes the feature.
        Work::CheckSignature { item } => JobResult::Signature(item.seq() > Some(0)),
        Work::CheckMetadata { assembled, .. } => JobResult::Metadata(assembled.check()),
        Work::Open { info, .. } => {
            let present = alloc::vec![0xff; (info.piece_count as usize).div_ceil(8)];
            JobResult::Opened(Box::new(Opened { present }))
        }
        Work::Read { length, .. } => JobResult::Read(Bytes::from(alloc::vec![7; *length as usize])),
        Work::Write { .. } => JobResult::Written,
        Work::Hash { piece, .. } => {
            let size = if *piece == 2 {
                40_000 - 2 * 16_384
            } else {
                16_384
            };
            JobResult::Hashed(Digest::Sha1(Sha1::digest(alloc::vec![7; size]).into()))
        }
        Work::HashBlocks { .. } => JobResult::BlocksHashed(alloc::vec![[7; 20]; 3]),
        Work::Commit { .. } => JobResult::Committed,
        Work::Discard { .. } => JobResult::Discarded,
        Work::CloseStorage { .. } => JobResult::ClosedStorage,
        Work::Resolve { .. } => JobResult::Resolved(Vec::new()),
        Work::HttpGet { .. } => JobResult::Failed(JobError::Unsupported),
        Work::SaveResume { .. } | Work::SaveState { .. } => JobResult::Saved,
    }
}

/// A torrent of that number, and nothing but its name.
fn magnet(n: u32) -> Command {
    let link = format!("magnet:?xt=urn:btih:{n:040x}");
    Command::AddTorrent(AddTorrent::new(Source::Magnet(link)))
}

#[test]
fn announces_of_many_torrents_never_fall_into_step() {
    let (mut engine, mut out, mut now) = engine();
    let local = addr(1, 6881);
    let socket = SOCKET;
    engine.handle(now, Input::SocketUp { socket, local }, &mut out);
    let count = 400;
    for n in 0..count {
        engine.handle(now, command(1, magnet(n)), &mut out);
    }
    // Nobody answers, so that every pause has grown to the whole interval after two hours.
    let interval = engine.config.dht.announce_interval;
    let end = now + interval * 12;
    let mut asked = Vec::new();
    while now < end {
        now = engine.next_timeout().unwrap().max(now);
        engine.handle(now, Input::Tick, &mut out);
        for output in out.drain() {
            if let Output::Event(Event::Source {
                status: SourceStatus::Working,
                ..
            }) = output
                && end.saturating_since(now) < interval * 3
            {
                asked.push(now);
            }
        }
    }
    // Three intervals, each of them 90 to 110 % long.
    assert!((1_000..1_400).contains(&asked.len()), "{}", asked.len());
    let spread = Duration::from_secs(60);
    let busiest = asked.iter().enumerate().map(|(at, start)| {
        let within = |other: &&Instant| other.saturating_since(*start) < spread;
        asked[at..].iter().take_while(within).count()
    });
    // A fifteenth of them if they were spread evenly.
    let busiest = busiest.max().unwrap();
    assert!(
        busiest < count as usize / 4,
        "{busiest} of {count} in a minute"
    );
}

/// One step of a random life.
#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    Datagram(u8, Vec<u8>),
    Incoming,
    Connected(u8),
    Received(u8, Vec<u8>),
    Handshake(u8),
    Sent(u8, u16),
    Closed(u8),
    Job(u8, bool),
    Add,
    Peer(u8),
    Lookup(u8),
    Node(u8, u8),
    Save,
    SocketUp(u8),
    SocketDown,
    SendFailed(u8),
    WallClock(u64),
    Remove,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 20 {
            0 | 1 => Self::Wait(u32::arbitrary(g) % 40_000_000),
            2 => {
                let mut payload = Vec::arbitrary(g);
                payload.insert(0, b'd');
                Self::Datagram(u8::arbitrary(g), payload)
            }
            3 => Self::Incoming,
            4 | 5 => Self::Connected(u8::arbitrary(g)),
            6 => Self::Received(u8::arbitrary(g), Vec::arbitrary(g)),
            7 | 8 => Self::Handshake(u8::arbitrary(g)),
            9 => Self::Sent(u8::arbitrary(g), u16::arbitrary(g)),
            10 => Self::Closed(u8::arbitrary(g)),
            11 | 12 => Self::Job(u8::arbitrary(g), bool::arbitrary(g)),
            13 => Self::Add,
            14 => Self::Peer(u8::arbitrary(g)),
            15 => Self::Node(u8::arbitrary(g), u8::arbitrary(g)),
            16 => Self::SocketUp(u8::arbitrary(g)),
            17 => Self::SendFailed(u8::arbitrary(g)),
            18 => match u8::arbitrary(g) % 3 {
                0 => Self::SocketDown,
                1 => Self::WallClock(u64::arbitrary(g)),
                _ => Self::Remove,
            },
            _ if bool::arbitrary(g) => Self::Lookup(u8::arbitrary(g)),
            _ => Self::Save,
        }
    }
}

/// Lives a random life; whatever comes, ticks bring the deadline past a time that stands still.
fn live(steps: Vec<Step>) -> bool {
    let (mut engine, mut out, mut now) = engine();
    let mut conns: Vec<ConnId> = Vec::new();
    let mut jobs: Vec<(JobId, JobResult)> = Vec::new();
    let mut tickets = 0;
    engine.handle(
        now,
        Input::SocketUp {
            socket: SOCKET,
            local: addr(1, 6881),
        },
        &mut out,
    );
    for step in steps {
        let pick = |n: u8| conns.get(usize::from(n) % conns.len().max(1)).copied();
        let input = match step {
            Step::Wait(micros) => {
                now = now + Duration::from_micros(u64::from(micros));
                Some(Input::Tick)
            }
            Step::Datagram(n, ref payload) => {
                let from = addr(n, 6881);
                Some(Input::Datagram {
                    socket: SOCKET,
                    from,
                    payload,
                })
            }
            Step::Incoming => {
                tickets += 1;
                let from = addr(9, tickets as u16);
                Some(Input::Incoming {
                    ticket: Ticket(tickets),
                    from,
                })
            }
            Step::Connected(n) => pick(n).map(|conn| Input::Connected { conn }),
            Step::Received(n, data) => pick(n).map(|conn| Input::Received {
                conn,
                data: BytesMut::from(&data[..]),
            }),
            Step::Handshake(n) => pick(n).map(|conn| {
                let mut data = BytesMut::from(&b"\x13BitTorrent protocol"[..]);
                data.extend_from_slice(&[0, 0, 0, 0, 0, 0x10, 0, 0x05]);
                let hash = engine.by_hash.keys().next().map_or([0; 20], |id| id.0);
                data.extend_from_slice(&hash);
                data.extend_from_slice(&[n; 20]);
                data.extend_from_slice(b"\0\0\0\x01\x0e\0\0\0\x01\x01\0\0\0\x01\x02");
                Input::Received { conn, data }
            }),
            Step::Sent(n, bytes) => pick(n).map(|conn| Input::Sent {
                conn,
                bytes: u32::from(bytes),
            }),
            Step::Closed(n) => pick(n).map(|conn| Input::Closed {
                conn,
                reason: IoReason::Eof,
            }),
            Step::Job(n, fails) => {
                let at = usize::from(n) % jobs.len().max(1);
                (at < jobs.len()).then(|| {
                    let (job, result) = jobs.swap_remove(at);
                    let result = if fails {
                        JobResult::Failed(JobError::Io)
                    } else {
                        result
                    };
                    Input::JobDone { job, result }
                })
            }
            Step::Add => {
                let add = AddTorrent::new(Source::torrent(torrent_file()).unwrap());
                Some(command(1, Command::AddTorrent(add)))
            }
            Step::Peer(n) => {
                let torrent = engine.torrents().next();
                torrent.map(|torrent| command(2, Command::AddPeer(torrent, addr(n, 5000))))
            }
            Step::Lookup(n) => {
                let item = || crate::dht::item::Item::text(&[n]).expect("it is short");
                let lookup = match n % 5 {
                    0 => Command::DhtScrape(Id20([n; 20])),
                    1 => Command::DhtGet(item().target(), Bytes::new()),
                    2 => Command::DhtPut(Arc::new(item()), None),
                    3 => Command::DhtSample(addr(n, 7000)),
                    _ => Command::DhtGetPeers(Id20([n; 20])),
                };
                Some(command(3, lookup))
            }
            Step::Save => Some(command(4, Command::Save)),
            Step::Node(n, how) => {
                let node = addr(n, 7000 + u16::from(n));
                Some(command(
                    5,
                    match how % 4 {
                        0 => Command::AddDhtNode(node),
                        1 => Command::DhtBootstrap(alloc::vec![node]),
                        2 => Command::DhtPing(node),
                        _ => Command::DhtAnnounce(Id20([n; 20]), None),
                    },
                ))
            }
            Step::SocketUp(n) => Some(Input::SocketUp {
                socket: SOCKET,
                local: addr(n, 6881),
            }),
            Step::SocketDown => Some(Input::SocketDown {
                socket: SOCKET,
                reason: IoReason::Unreachable,
            }),
            Step::SendFailed(n) => Some(Input::SendFailed {
                socket: SOCKET,
                to: addr(n, 7000 + u16::from(n)),
                reason: IoReason::NoBuffers,
            }),
            Step::WallClock(unix) => Some(Input::WallClock { unix }),
            Step::Remove => {
                let torrent = engine.torrents().next();
                torrent.map(|torrent| command(6, Command::RemoveTorrent(torrent)))
            }
        };
        if let Some(input) = input {
            engine.handle(now, input, &mut out);
        }
        let mut ticks = 0;
        loop {
            for output in out.drain() {
                match output {
                    Output::Connect { conn, .. } | Output::Accept { conn, .. } => conns.push(conn),
                    Output::Job { job, work } => jobs.push((job, answer(&work))),
                    _ => {}
                }
            }
            if engine.next_timeout().is_none_or(|at| at > now) {
                break;
            }
            engine.handle(now, Input::Tick, &mut out);
            ticks += 1;
            if ticks > 200 {
                return false;
            }
        }
    }
    true
}

#[test]
fn no_life_panics_or_spins() {
    QuickCheck::new()
        .tests(300)
        .quickcheck(live as fn(Vec<Step>) -> bool);
}

#[test]
fn an_announce_among_few_nodes_is_repeated_until_the_table_is_no_longer_young() {
    let (engine, _, _) = engine_with(|config| config.dht.young_table = 10);
    assert!(engine.is_outgrown(9, 18) && engine.is_outgrown(0, 1));
    assert!(!engine.is_outgrown(9, 17));
    assert!(!engine.is_outgrown(10, 1_000));
}
