//! One torrent between peers that do as they like.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use trackerless_core::Config;
use trackerless_core::event::{CloseReason, Encryption, PeerSource, Transport};
use trackerless_core::id::PeerId;
use trackerless_core::io::{ConnId, Digest, IoReason, JobError, JobResult, Opened, TorrentId};
use trackerless_core::metainfo::Torrent;
use trackerless_core::ports::Ports;
use trackerless_core::swarm::{Event, Grant, Hello, Input, Job, JobToken, Options, Setup, Swarm};
use trackerless_core::time::{Duration, Instant};
use trackerless_core::wire::{BlockRef, ExtensionHandshake, Message};

use super::script::{Script, address, torrent};

const MAX_TICKS: usize = 10_000;
const MAX_EVENTS: usize = 20_000;

/// What the connection layer remembers of a joined peer.
#[derive(Debug, Default)]
struct Link {
    asked: Vec<BlockRef>,
}

struct Run {
    swarm: Swarm,
    events: Vec<Event>,
    now: Instant,
    links: BTreeMap<ConnId, Link>,
    jobs: BTreeMap<JobToken, Job>,
    answered: BTreeSet<JobToken>,
    next_conn: u64,
    stopped: bool,
    /// Peers that peers told of.
    heard: Vec<(PeerSource, Vec<SocketAddr>)>,
}

impl Run {
    fn give(&mut self, input: Input<'_>) {
        if self.stopped {
            return;
        }
        self.swarm.handle(self.now, input, &mut self.events);
        self.perform();
        for (source, addrs) in std::mem::take(&mut self.heard) {
            let found = Input::PeersFound(source, &addrs);
            self.swarm.handle(self.now, found, &mut self.events);
            self.perform();
        }
    }

    fn perform(&mut self) {
        assert!(
            self.events.len() <= MAX_EVENTS,
            "{} events",
            self.events.len()
        );
        for event in self.events.drain(..) {
            assert!(!self.stopped, "{event:?} after the end");
            match event {
                Event::Send(conn, message) => {
                    let link = self.links.get_mut(&conn).expect("sends to a joined peer");
                    if let Message::Request(block) = message {
                        assert!(block.length > 0 && block.length <= 16 << 10, "{block:?}");
                        link.asked.push(block);
                    }
                }
                Event::Disconnect(conn, _) => {
                    assert!(self.links.remove(&conn).is_some(), "drops a joined peer");
                }
                Event::Job(token, job) => {
                    assert!(!self.answered.contains(&token), "{token:?} is used again");
                    let fresh = self.jobs.insert(token, job).is_none();
                    assert!(fresh, "{token:?} is used twice");
                }
                Event::PeersHeard(source, addrs) => self.heard.push((source, addrs)),
                Event::Stopped => self.stopped = true,
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..MAX_TICKS {
            match self.swarm.next_timeout() {
                Some(due) if due <= self.now && !self.stopped => self.give(Input::Tick),
                _ => return,
            }
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }

    fn answer(&mut self, script: &mut Script<'_>) {
        let token = script.index(self.jobs.len());
        let Some(token) = token.and_then(|at| self.jobs.keys().nth(at).copied()) else {
            return;
        };
        let job = self.jobs.remove(&token).expect("it waits");
        self.answered.insert(token);
        let good = match job {
            Job::CheckMetadata(assembled) => JobResult::Metadata(assembled.check()),
            Job::Open(..) => JobResult::Opened(Box::new(Opened {
                present: vec![script.byte() & 0xe0],
            })),
            Job::Read(block) => JobResult::Read(Bytes::from(vec![0; block.length as usize])),
            Job::Write { .. } => JobResult::Written,
            Job::Hash { piece } => JobResult::Hashed(Digest::Sha1([piece as u8 + 1; 20])),
            Job::HashBlocks { piece } => {
                JobResult::BlocksHashed(vec![[piece as u8 + script.byte() % 2; 20]; 3])
            }
            Job::Commit { .. } => JobResult::Committed,
            Job::Discard { .. } => JobResult::Discarded,
            Job::Save(..) => JobResult::Saved,
            Job::Close => JobResult::ClosedStorage,
            #[expect(unreachable_patterns, reason = "the host knows every job of today")]
            _ => JobResult::Failed(JobError::Unsupported),
        };
        let result = match script.byte() {
            0..=219 => good,
            220..=239 => JobResult::Hashed(Digest::Sha1([0xee; 20])),
            _ => JobResult::Failed(JobError::NoSpace),
        };
        self.give(Input::JobDone(token, result));
    }

    fn message(&mut self, conn: ConnId, script: &mut Script<'_>) {
        let block = BlockRef {
            piece: u32::from(script.byte() % 4),
            begin: u32::from(script.byte() % 3) << 14,
            length: [16 << 10, 1, 4464, 20_000][usize::from(script.byte() % 4)],
        };
        let message = match script.byte() % 16 {
            0 => Message::Choke,
            1 | 2 => Message::Unchoke,
            3 => Message::Interested,
            4 => Message::NotInterested,
            5 => Message::Have(block.piece),
            6 => Message::Bitfield(Bytes::copy_from_slice(script.bytes(1))),
            7 => Message::Request(block),
            8 => Message::Cancel(block),
            9 => Message::Port(script.number()),
            10 => Message::Suggest(block.piece),
            11 => Message::HaveAll,
            12 => Message::HaveNone,
            13 => Message::Reject(block),
            14 => Message::AllowedFast(block.piece),
            _ => match script.byte() % 4 {
                0 => Message::Metadata(trackerless_core::metadata::Message::Request {
                    piece: u32::from(script.byte() % 2),
                }),
                1 => Message::Metadata(trackerless_core::metadata::Message::Reject { piece: 0 }),
                2 => Message::Metadata(trackerless_core::metadata::Message::Data {
                    piece: 0,
                    total_size: u32::from(script.number()),
                    data: Bytes::copy_from_slice(script.string()),
                }),
                _ => match script.byte() {
                    // One in eight: the rest of the corpus means what it meant.
                    224.. => Message::Pex(Bytes::copy_from_slice(script.string())),
                    216..=223 => Message::DontHave(u32::from(script.byte() % 5)),
                    number => Message::ExtensionHandshake(Box::new(ExtensionHandshake {
                        ut_metadata: Some(number),
                        ut_pex: Some(number),
                        metadata_size: Some(script.long()),
                        reqq: Some(script.long()),
                        ..ExtensionHandshake::default()
                    })),
                },
            },
        };
        self.give(Input::Message(conn, message));
    }

    /// A block: one that was asked for, or any; whole or in two parts.
    fn block(&mut self, conn: ConnId, script: &mut Script<'_>) {
        let asked = &mut self.links.get_mut(&conn).expect("it joined").asked;
        let block = match script.index(asked.len()) {
            Some(at) if !script.byte().is_multiple_of(8) => asked.swap_remove(at),
            _ => BlockRef {
                piece: u32::from(script.byte() % 4),
                begin: u32::from(script.byte() % 3) << 14,
                length: 1 + u32::from(script.number() % 0x4000),
            },
        };
        let cut = u32::from(script.number()) % block.length;
        let data = Bytes::from(vec![script.byte(); block.length as usize]);
        for (from, to) in [(0, cut), (cut, block.length)] {
            // The first part may have ended the connection, or be empty.
            if from < to && self.links.contains_key(&conn) {
                self.give(Input::BlockPart {
                    conn,
                    block,
                    offset: from,
                    data: data.slice(from as usize..to as usize),
                });
            }
        }
    }
}

/// Sequences of inputs to one torrent, with or without its metadata. Holds: it speaks to joined
/// peers only, jobs are named once, disk bytes balance, nothing follows the end, no timer spins.
pub fn swarm(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.byte();
    let file = Torrent::parse(Bytes::from(torrent())).expect("the torrent is valid");
    let now = Instant::from_micros(1_000_000);
    let mut events = Vec::new();
    let options = Options {
        sequential: flags & 2 != 0,
        metadata_only: flags & 12 == 12,
        check: flags & 16 != 0,
        super_seed: flags & 96 == 96,
        serve_only: flags & 160 == 160,
        ..Options::default()
    };
    let swarm = Swarm::new(
        Arc::new(Config::default()),
        Setup {
            torrent: TorrentId::from_bits(1),
            number: 0,
            seed: [flags; 32],
            hashes: file.info.hashes,
            info: (flags & 1 != 0).then(|| file.info.clone()),
            options,
        },
        now,
        &mut events,
    );
    let mut run = Run {
        swarm,
        events,
        now,
        links: BTreeMap::new(),
        jobs: BTreeMap::new(),
        answered: BTreeSet::new(),
        next_conn: 1,
        stopped: false,
        heard: Vec::new(),
    };
    run.perform();
    run.give(Input::Grant(Grant {
        connections: 50,
        connects_total: u64::from(script.byte()),
        read_bytes: 1 << 20,
        upload_total: u64::MAX,
    }));
    while !script.is_empty() && !run.stopped {
        let conn = script
            .index(run.links.len())
            .and_then(|at| run.links.keys().nth(at).copied());
        match (script.byte() % 16, conn) {
            (0, _) => {
                run.now = script.later(run.now);
                run.give(Input::Tick);
            }
            (1, _) => {
                let peers = [address(&mut script), address(&mut script)];
                run.give(Input::PeersFound(PeerSource::Dht, &peers));
            }
            (2, _) => {
                let conn = ConnId::from_bits(run.next_conn);
                run.next_conn += 1;
                run.links.insert(conn, Link::default());
                let kind = script.byte();
                let hello = Hello {
                    addr: address(&mut script),
                    incoming: kind & 1 != 0,
                    peer_id: PeerId([script.byte(); 20]),
                    fast: kind & 2 != 0,
                    extended: kind & 4 != 0,
                    dht: kind & 8 != 0,
                    transport: Transport::Tcp,
                    encryption: Encryption::Plain,
                    crowded: kind & 16 != 0,
                };
                run.give(Input::Joined(conn, hello));
            }
            (3..=6, Some(conn)) => run.message(conn, &mut script),
            (7..=9, Some(conn)) => run.block(conn, &mut script),
            (10, Some(conn)) => {
                let unsent = script.long() % (1 << 20);
                run.give(Input::Writable { conn, unsent });
            }
            (11, conn) => {
                let conn = conn.filter(|_| !script.byte().is_multiple_of(4));
                if let Some(conn) = conn {
                    run.links.remove(&conn);
                }
                run.give(Input::Gone {
                    conn,
                    addr: address(&mut script),
                    reason: CloseReason::Io(IoReason::Reset),
                });
            }
            (15, _) => match script.byte() {
                0..=15 => run.give(Input::Stop),
                16..=99 => run.give(Input::Save),
                port => run.give(Input::Listening(Ports::both(port.into()))),
            },
            _ => run.answer(&mut script),
        }
    }
    run.settle();
    for _ in 0..30 {
        run.now = run.now + Duration::from_secs(60);
        run.give(Input::Tick);
        run.settle();
    }
}
