//! A whole engine under a host that keeps its side of the contract, and a network that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trackerless_core::dht::item::{Item, Signed, bencoded};
use trackerless_core::id::Id20;
use trackerless_core::io::{
    AddTorrent, Command, ConnId, Digest, HttpAnswer, Input, IoReason, JobError, JobId, JobResult,
    Opened, Output, Rates, SocketId, Source, Tag, Ticket, TorrentId, Work,
};
use trackerless_core::metadata::Assembled;
use trackerless_core::metainfo::Torrent;
use trackerless_core::record::{self, OutputHash};
use trackerless_core::resume::Resume;
use trackerless_core::time::{Duration, Instant};
use trackerless_core::{Config, Engine, Event, Outbox};

use super::script::{Script, address, answer};

/// Far more outputs than one input may ever cause (see the limits of the default config).
const MAX_OUTPUTS: usize = 20_000;
/// Ticks after which an engine at a standing clock must have nothing left to do.
const MAX_TICKS: usize = 10_000;
/// Inputs of one run; longer scripts only repeat themselves.
const MAX_STEPS: usize = 2_000;

/// What a job will be answered with when all goes well.
#[derive(Clone, Debug)]
enum Answer {
    Metadata(Arc<Assembled>),
    Signature(Arc<Item>),
    Opened,
    Read(u32),
    Written,
    Hashed(u32),
    BlocksHashed(u32),
    Committed,
    Discarded,
    Closed,
    Resolved,
    Http,
    Saved,
}

impl Answer {
    fn to(work: &Work<'_>) -> Self {
        match work {
            Work::CheckSignature { item } => Self::Signature(Arc::clone(item)),
            Work::CheckMetadata { assembled, .. } => Self::Metadata(Arc::clone(assembled)),
            Work::Open { .. } => Self::Opened,
            Work::Read { length, .. } => Self::Read(*length),
            Work::Write { .. } => Self::Written,
            Work::Hash { piece, .. } => Self::Hashed(*piece),
            Work::HashBlocks { piece, .. } => Self::BlocksHashed(*piece),
            Work::Commit { .. } => Self::Committed,
            Work::Discard { .. } => Self::Discarded,
            Work::CloseStorage { .. } => Self::Closed,
            Work::Resolve { .. } => Self::Resolved,
            Work::HttpGet { .. } => Self::Http,
            Work::SaveResume { .. } | Work::SaveState { .. } => Self::Saved,
        }
    }

    fn good(&self) -> JobResult {
        match self {
            Self::Signature(item) => JobResult::Signature(item.is_authentic()),
            Self::Metadata(assembled) => JobResult::Metadata(assembled.check()),
            Self::Opened => JobResult::Opened(Box::new(Opened { present: vec![0] })),
            Self::Read(length) => JobResult::Read(Bytes::from(vec![0; *length as usize])),
            Self::Written => JobResult::Written,
            Self::Hashed(piece) => JobResult::Hashed(Digest::Sha1([*piece as u8 + 1; 20])),
            Self::BlocksHashed(piece) => JobResult::BlocksHashed(vec![[*piece as u8; 20]; 3]),
            Self::Committed => JobResult::Committed,
            Self::Discarded => JobResult::Discarded,
            Self::Closed => JobResult::ClosedStorage,
            Self::Resolved => JobResult::Resolved(vec![Ipv4Addr::new(127, 0, 0, 9).into()]),
            Self::Http => JobResult::Http(Box::new(HttpAnswer {
                status: 200,
                from: Ipv4Addr::new(127, 0, 0, 9).into(),
                location: None,
                body: Bytes::from_static(b"d8:intervali60e5:peers6:\x7f\0\0\x01\x1a\xe1e"),
            })),
            Self::Saved => JobResult::Saved,
        }
    }
}

/// A live stream as the host sees it.
#[derive(Debug, Default)]
struct Stream {
    up: bool,
    credit: u64,
    unsent: u64,
}

/// A host that does exactly what outputs say, and checks that they keep the contract.
struct Host {
    engine: Engine,
    twin: Engine,
    out: Outbox,
    hash: OutputHash,
    twin_hash: OutputHash,
    now: Instant,
    streams: BTreeMap<ConnId, Stream>,
    dead: BTreeSet<ConnId>,
    jobs: BTreeMap<JobId, Answer>,
    answered: BTreeSet<JobId>,
    tickets: Vec<Ticket>,
    next_ticket: u64,
    torrents: Vec<TorrentId>,
    hashes: Vec<Id20>,
    last_query: Option<(SocketAddr, Vec<u8>)>,
}

impl Host {
    fn new(seed: u8) -> Self {
        let mut config = Config {
            lab: seed & 1 != 0,
            ..Config::default()
        };
        config.dht.read_only = seed & 6 == 6;
        let config = Arc::new(config);
        let now = Instant::from_micros(1_000_000);
        let made = || Engine::new(config.clone(), [seed; 32], now).expect("the config is valid");
        Self {
            engine: made(),
            twin: made(),
            out: Outbox::new(),
            hash: OutputHash::default(),
            twin_hash: OutputHash::default(),
            now,
            streams: BTreeMap::new(),
            dead: BTreeSet::new(),
            jobs: BTreeMap::new(),
            answered: BTreeSet::new(),
            tickets: Vec::new(),
            next_ticket: 0,
            torrents: Vec::new(),
            hashes: Vec::new(),
            last_query: None,
        }
    }

    /// Gives one input to the engine, and what a recording of it reads as to its twin.
    fn give(&mut self, input: Input<'_>) {
        let mut written = Vec::new();
        record::encode_input(&input, &mut written);
        self.engine.handle(self.now, input, &mut self.out);
        self.perform();

        let read = record::decode_input(&written).expect("a recorded input can be read");
        read.feed(|input| self.twin.handle(self.now, input, &mut self.out));
        for output in self.out.drain() {
            self.twin_hash.absorb(&output);
        }
        assert_eq!(self.hash, self.twin_hash, "a replay came out different");
        assert_eq!(self.engine.next_timeout(), self.twin.next_timeout());
    }

    fn perform(&mut self) {
        assert!(self.out.len() <= MAX_OUTPUTS, "{} outputs", self.out.len());
        for output in self.out.drain() {
            self.hash.absorb(&output);
            match output {
                Output::Transmit { to, head, body, .. } => {
                    assert!(head.len() + body.len() <= 65_507, "longer than a datagram");
                    self.last_query = Some((to, head.to_vec()));
                }
                Output::Connect { conn, .. } => {
                    let fresh = self.streams.insert(conn, Stream::default()).is_none();
                    assert!(
                        fresh && !self.dead.contains(&conn),
                        "{conn:?} is used again"
                    );
                }
                Output::Accept { ticket, conn } => {
                    let waits = self.tickets.iter().position(|t| *t == ticket);
                    self.tickets.remove(waits.expect("the ticket waits"));
                    let stream = Stream {
                        up: true,
                        ..Stream::default()
                    };
                    let fresh = self.streams.insert(conn, stream).is_none();
                    assert!(
                        fresh && !self.dead.contains(&conn),
                        "{conn:?} is used again"
                    );
                }
                Output::Refuse { ticket } => {
                    let waits = self.tickets.iter().position(|t| *t == ticket);
                    self.tickets.remove(waits.expect("the ticket waits"));
                }
                Output::Send { conn, head, body } => {
                    let stream = self.streams.get_mut(&conn).expect("sends on a live stream");
                    assert!(stream.up, "sends before the stream stands");
                    stream.unsent += (head.len() + body.len()) as u64;
                }
                Output::Close { conn } => {
                    assert!(self.streams.remove(&conn).is_some(), "closes a dead stream");
                    self.dead.insert(conn);
                }
                Output::ReadCredit { conn, bytes } => {
                    let stream = self
                        .streams
                        .get_mut(&conn)
                        .expect("credit for a live stream");
                    stream.credit += u64::from(bytes);
                }
                Output::Job { job, work } => {
                    assert!(!self.answered.contains(&job), "{job:?} is used again");
                    let fresh = self.jobs.insert(job, Answer::to(&work)).is_none();
                    assert!(fresh, "{job:?} is used twice");
                }
                Output::CancelJob { .. } => {}
                Output::Event(event) => match event {
                    Event::Metadata { torrent, info } => {
                        self.torrents.push(torrent);
                        self.hashes.push(info.hashes.short());
                    }
                    Event::CommandDone {
                        result: Ok(trackerless_core::event::Done::Torrent(torrent)),
                        ..
                    } => self.torrents.push(torrent),
                    _ => {}
                },
            }
        }
    }

    /// With time held still the engine runs out of things to do.
    fn settle(&mut self) {
        for _ in 0..MAX_TICKS {
            match self.engine.next_timeout() {
                Some(due) if due <= self.now => self.give(Input::Tick),
                _ => return,
            }
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }

    fn command(&mut self, script: &mut Script<'_>) {
        let id = script.array::<20>();
        let torrent = script
            .index(self.torrents.len())
            .map(|at| self.torrents[at]);
        let stale = TorrentId::from_bits(u64::from(script.byte()));
        let torrent = torrent.unwrap_or(stale);
        let addr = address(script);
        let command = match script.byte() % 14 {
            0 | 1 => {
                let source = Source::torrent(super::script::torrent()).expect("a torrent");
                Command::AddTorrent(AddTorrent::new(source))
            }
            2 => {
                let link = String::from_utf8_lossy(script.string()).into_owned();
                Command::AddTorrent(AddTorrent::new(Source::Magnet(link)))
            }
            3 => {
                // Of the torrent that is asked for, or of the one that runs are about.
                let known = Torrent::parse(super::script::torrent().into()).expect("a torrent");
                let asked = match script.byte() % 2 {
                    0 => Id20(id),
                    _ => known.info.hashes.short(),
                };
                let count = u32::from(script.byte() % 5);
                Command::AddTorrent(AddTorrent {
                    resume: Some(Box::new(Resume {
                        info_hash: asked,
                        piece_count: count,
                        have: script.string().to_vec(),
                        downloaded: u64::from(script.long()),
                        peers: vec![addr],
                        select: vec![u32::from(script.byte()); usize::from(script.byte() % 3)],
                        ..Resume::default()
                    })),
                    info: (script.byte() < 128).then_some(known.info),
                    check: script.byte() < 128,
                    ..AddTorrent::new(Source::Magnet(hex(&asked.0)))
                })
            }
            4 => Command::RemoveTorrent(torrent),
            5 | 6 => Command::AddPeer(torrent, addr),
            7 => Command::AddDhtNode(addr),
            8 => Command::DhtBootstrap(vec![addr]),
            9 => Command::DhtLoad(Bytes::copy_from_slice(script.string())),
            10 => Command::DhtFindNode(Id20(id)),
            11 => Command::DhtGetPeers(Id20(id)),
            12 => match id[0] % 8 {
                1 => Command::DhtScrape(Id20(id)),
                2 => Command::DhtSample(addr),
                3 => Command::DhtGet(Id20(id), Bytes::new()),
                4 => Command::DhtPut(Arc::new(item(&id)), (id[1] < 128).then_some(5)),
                _ => Command::DhtAnnounce(Id20(id), None),
            },
            // One in two: the rest of the corpus means what it meant.
            _ if id[0] < 128 => Command::Save,
            _ => Command::LimitTorrent(
                torrent,
                Rates {
                    download: u64::from(id[1]) << (id[2] % 24),
                    upload: u64::from(id[3]) << (id[4] % 24),
                },
            ),
        };
        self.give(Input::Command {
            tag: Tag(u64::from(script.byte())),
            command: Box::new(command),
        });
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&conn).filter(|stream| stream.up) else {
            return;
        };
        let take = bytes.len().min(stream.credit as usize);
        if take > 0 {
            stream.credit -= take as u64;
            self.give(Input::Received {
                conn,
                data: BytesMut::from(&bytes[..take]),
            });
        }
    }

    /// A handshake for a torrent we have, or for one we have not.
    fn handshake(&self, script: &mut Script<'_>) -> Vec<u8> {
        let hash = script.index(self.hashes.len()).map(|at| self.hashes[at]);
        let mut bytes = b"\x13BitTorrent protocol".to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0x10 & script.byte(), 0, 5 & script.byte()]);
        bytes.extend(hash.unwrap_or(Id20([9; 20])).0);
        bytes.extend(script.array::<20>());
        bytes
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let conn = script
            .index(self.streams.len())
            .and_then(|at| self.streams.keys().nth(at).copied());
        match script.byte() % 16 {
            0 => {
                self.now = script.later(self.now);
                self.give(Input::Tick);
            }
            1 => self.command(script),
            2 => {
                let from = address(script);
                let payload = script.string();
                self.give(Input::Datagram {
                    socket: SocketId(u32::from(script.byte() % 2)),
                    from,
                    payload,
                });
            }
            3 => self.answer_query(script),
            4 => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.push(ticket);
                let from = address(script);
                self.give(Input::Incoming { ticket, from });
            }
            5 => {
                let waiting = conn.filter(|conn| !self.streams[conn].up);
                if let Some(conn) = waiting {
                    self.streams.get_mut(&conn).expect("it lives").up = true;
                    self.give(Input::Connected { conn });
                }
            }
            6 => {
                let handshake = self.handshake(script);
                if let Some(conn) = conn {
                    self.received(conn, &handshake);
                }
            }
            7 | 8 => {
                // A frame with its right length.
                let body = script.string();
                let mut frame = (body.len() as u32).to_be_bytes().to_vec();
                frame.extend(body);
                if let Some(conn) = conn {
                    self.received(conn, &frame);
                }
            }
            9 => {
                let bytes = script.string();
                if let Some(conn) = conn {
                    self.received(conn, bytes);
                }
            }
            10 => {
                if let Some(conn) = conn {
                    let stream = self.streams.get_mut(&conn).expect("it lives");
                    let bytes = stream.unsent.min(u64::from(script.number()) + 1);
                    stream.unsent -= bytes;
                    if bytes > 0 {
                        self.give(Input::Sent {
                            conn,
                            bytes: bytes as u32,
                        });
                    }
                }
            }
            11 => {
                if let Some(conn) = conn {
                    self.streams.remove(&conn);
                    self.dead.insert(conn);
                    let reason = [IoReason::Eof, IoReason::Reset, IoReason::Refused];
                    let reason = reason[usize::from(script.byte() % 3)];
                    self.give(Input::Closed { conn, reason });
                }
            }
            12 | 13 => {
                let job = script.index(self.jobs.len());
                let job = job.and_then(|at| self.jobs.keys().nth(at).copied());
                if let Some(job) = job {
                    let answer = self.jobs.remove(&job).expect("it waits");
                    self.answered.insert(job);
                    let result = match script.byte() {
                        0..=229 => answer.good(),
                        230..=239 => JobResult::Failed(JobError::NoSpace),
                        240..=249 => JobResult::Hashed(Digest::Sha1([0xee; 20])),
                        _ => JobResult::Failed(JobError::Io),
                    };
                    self.give(Input::JobDone { job, result });
                }
            }
            14 => {
                let stale = script.byte();
                let conn = ConnId::from_bits(u64::from(stale) | 0xffff_0000_0000);
                self.give(match stale % 5 {
                    0 => Input::Received {
                        conn,
                        data: BytesMut::from(script.string()),
                    },
                    1 => Input::Sent { conn, bytes: 9 },
                    2 => Input::Connected { conn },
                    3 => Input::Closed {
                        conn,
                        reason: IoReason::Eof,
                    },
                    _ => Input::JobDone {
                        job: JobId::from_bits(u64::MAX - u64::from(stale)),
                        result: JobResult::Saved,
                    },
                });
            }
            _ => {
                let socket = SocketId(u32::from(script.byte() % 2));
                match script.byte() % 4 {
                    0 => self.give(Input::SocketDown {
                        socket,
                        reason: IoReason::Other,
                    }),
                    1 => {
                        let to = address(script);
                        self.give(Input::SendFailed {
                            socket,
                            to,
                            reason: IoReason::Unreachable,
                        });
                    }
                    _ => self.sockets(),
                }
            }
        }
    }

    /// Answers the last datagram sent, if it was a query, with any fields.
    fn answer_query(&mut self, script: &mut Script<'_>) {
        let Some((to, head)) = self.last_query.take() else {
            return;
        };
        let Some(payload) = answer(&head, None, script) else {
            return;
        };
        self.give(Input::Datagram {
            socket: SocketId(u32::from(to.is_ipv6())),
            from: to,
            payload: &payload,
        });
    }

    fn sockets(&mut self) {
        let ips: [(u32, SocketAddr); 2] = [
            (0, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 6881)),
            (1, SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 6881)),
        ];
        for (socket, local) in ips {
            self.give(Input::SocketUp {
                socket: SocketId(socket),
                local,
            });
        }
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sequences of inputs to an engine. The host honours credit, answers each job once and reports
/// only what was sent; everything a remote decides comes from `data`. Holds: outputs are bounded
/// and name live things, a recording replays the same, and no timer spins.
pub fn engine(data: &[u8]) {
    let mut script = Script::new(data);
    let mut host = Host::new(script.byte());
    host.sockets();
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        host.step(&mut script);
    }
    host.settle();
    // And an hour alone, in large strides.
    for _ in 0..60 {
        host.now = host.now + Duration::from_secs(60);
        host.give(Input::Tick);
        host.settle();
    }
}

/// An item with a signature that is wrong, or without one.
fn item(id: &[u8; 20]) -> Item {
    let signed = Signed {
        key: [id[2]; 32],
        signature: [id[3]; 64],
        seq: i64::from(id[4]),
        salt: Bytes::copy_from_slice(&id[5..5 + usize::from(id[5] % 8)]),
    };
    let item = match id[6] % 2 {
        0 => Item::text(id),
        _ => Item::mutable(bencoded(id), signed),
    };
    item.expect("it is short")
}
