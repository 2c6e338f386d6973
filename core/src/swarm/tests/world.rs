//! Swarms that talk to each other in memory, under virtual time, over a network and disks that
//! do nothing but what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use core::net::SocketAddr;
use sha1::{Digest as _, Sha1};

use crate::config::Config;
use crate::event::{self, CloseReason, Encryption, PeerSource, Transport};
use crate::id::PeerId;
use crate::io::{ConnId, Digest, IoReason, JobError, JobResult, Opened, TorrentId};
use crate::metadata::Message as Metadata;
use crate::metainfo::Info;
use crate::ports::Ports;
use crate::slab::Key;
use crate::swarm::{Event, Grant, Hello, Input, Job, JobToken, Options, Setup, Swarm};
use crate::time::{Duration, Instant};
use crate::wire::Message;

pub(super) const LATENCY: Duration = Duration::from_millis(10);
const DISK: Duration = Duration::from_millis(1);

/// Inputs that may follow in one instant before the world is called spinning.
const MAX_AT_ONCE: u32 = 200_000;

pub(super) fn content(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// A torrent of one file that holds [`content`].
pub(super) fn torrent(length: usize, piece_length: usize) -> Arc<Info> {
    let content = content(length);
    let mut pieces = Vec::new();
    for piece in content.chunks(piece_length) {
        pieces.extend_from_slice(&Sha1::digest(piece));
    }
    let mut raw = format!(
        "d6:lengthi{length}e4:name4:test12:piece lengthi{piece_length}e6:pieces{}:",
        pieces.len()
    )
    .into_bytes();
    raw.extend_from_slice(&pieces);
    raw.push(b'e');
    Arc::new(Info::parse(raw.into()).expect("a right torrent"))
}

pub(super) fn conn(index: u32) -> ConnId {
    ConnId(Key {
        index,
        generation: 0,
    })
}

/// What a swarm is told, without a lifetime.
#[derive(Debug)]
enum Told {
    Tick,
    Joined(ConnId, Hello),
    Message(ConnId, Message),
    Part {
        conn: ConnId,
        block: crate::wire::BlockRef,
        offset: u32,
        data: Bytes,
    },
    Writable(ConnId),
    Gone {
        conn: Option<ConnId>,
        addr: SocketAddr,
    },
    JobDone(JobToken, JobResult),
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The files.
    pub(super) bytes: Vec<u8>,
    pub(super) present: Vec<u8>,
    /// Pieces kept and not yet committed.
    kept: BTreeMap<u32, Vec<u8>>,
    pub(super) saved: Option<Bytes>,
    pub(super) fails: Option<JobError>,
    /// Pieces that cannot be read any more, and why.
    pub(super) unreadable: BTreeSet<u32>,
    pub(super) unreadable_because: Option<JobError>,
}

pub(super) struct Node {
    pub(super) swarm: Swarm,
    pub(super) disk: Disk,
    pub(super) seen: Vec<event::Event>,
    pub(super) sent: Vec<(Instant, Message)>,
    pub(super) hashed: Vec<u32>,
    pub(super) stopped: bool,
    /// Every byte it serves is wrong.
    pub(super) corrupt: bool,
    /// Every so many-th block that it serves is wrong; 0 is none.
    pub(super) lies: u32,
    served: u32,
    /// What it sends takes so much longer.
    pub(super) lag: Duration,
    /// Payload bytes a second it sends at most; 0 is no limit.
    pub(super) up_rate: u64,
    up_free: Option<Instant>,
    /// Storage loses every piece before it can be hashed.
    pub(super) loses: bool,
    /// It sends only the first part of each block.
    pub(super) half: bool,
    /// It sends no block at all.
    pub(super) mute: bool,
    /// What it sends comes in parts of so many bytes, each so long after the one before.
    pub(super) drip: Option<(usize, Duration)>,
    pub(super) fast: bool,
    links: BTreeMap<ConnId, (usize, ConnId)>,
    next_conn: u32,
    info: Option<Arc<Info>>,
    tick_at: Option<Instant>,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) config: Arc<Config>,
    queue: BTreeMap<(Instant, u64), (usize, Told)>,
    serial: u64,
}

pub(super) fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, node as u8, 1], 1000))
}

/// What a swarm that knows its metadata is made of.
pub(super) fn setup(info: &Arc<Info>, options: Options) -> Setup {
    Setup {
        torrent: TorrentId(Key {
            index: 0,
            generation: 0,
        }),
        number: 0,
        seed: [7; 32],
        hashes: info.hashes,
        info: Some(Arc::clone(info)),
        options,
    }
}

/// A peer that speaks everything but has no DHT node.
pub(super) fn hello(id: u8, addr: SocketAddr, incoming: bool) -> Hello {
    Hello {
        addr,
        incoming,
        peer_id: PeerId([id; 20]),
        fast: true,
        extended: true,
        dht: false,
        transport: Transport::Tcp,
        encryption: Encryption::Plain,
        crowded: false,
    }
}

pub(super) fn generous() -> Grant {
    Grant {
        connections: 100,
        connects_total: 1_000,
        read_bytes: 1 << 20,
        upload_total: u64::MAX,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            nodes: Vec::new(),
            config: Arc::new(config),
            queue: BTreeMap::new(),
            serial: 0,
        }
    }

    /// A node with metadata (`info`) or only its hash, and these pieces on disk.
    pub(super) fn add(
        &mut self,
        info: &Arc<Info>,
        knows: bool,
        pieces: &[u32],
        mut options: Options,
    ) -> usize {
        let index = self.nodes.len();
        let mut disk = Disk {
            bytes: vec![0; info.total_length as usize],
            present: vec![0; info.piece_count.div_ceil(8) as usize],
            ..Disk::default()
        };
        let right = content(info.total_length as usize);
        for piece in pieces {
            let start = *piece as usize * info.piece_length as usize;
            let end = start + info.piece_size(*piece) as usize;
            disk.bytes[start..end].copy_from_slice(&right[start..end]);
            disk.present[*piece as usize / 8] |= 0x80 >> (piece % 8);
        }
        options.peer_id = Some(PeerId([index as u8; 20]));
        let mut events = Vec::new();
        let swarm = Swarm::new(
            Arc::clone(&self.config),
            Setup {
                number: index as u64,
                info: knows.then(|| Arc::clone(info)),
                ..setup(info, options)
            },
            self.now,
            &mut events,
        );
        self.nodes.push(Node {
            swarm,
            disk,
            seen: Vec::new(),
            sent: Vec::new(),
            hashed: Vec::new(),
            stopped: false,
            corrupt: false,
            lies: 0,
            served: 0,
            lag: Duration::ZERO,
            up_rate: 0,
            up_free: None,
            loses: false,
            half: false,
            mute: false,
            drip: None,
            fast: true,
            links: BTreeMap::new(),
            next_conn: 0,
            info: Some(Arc::clone(info)),
            tick_at: None,
        });
        self.perform(index, events);
        self.give(index, Input::Grant(generous()));
        self.give(index, Input::Listening(Ports::both(1000)));
        index
    }

    pub(super) fn seed(&mut self, info: &Arc<Info>) -> usize {
        let all: Vec<u32> = (0..info.piece_count).collect();
        self.add(info, true, &all, Options::default())
    }

    pub(super) fn leech(&mut self, info: &Arc<Info>) -> usize {
        self.add(info, true, &[], Options::default())
    }

    /// Tells a node of others.
    pub(super) fn introduce(&mut self, node: usize, others: &[usize]) {
        let addrs: Vec<_> = others.iter().map(|other| addr(*other)).collect();
        self.give(node, Input::PeersFound(PeerSource::Manual, &addrs));
    }

    /// Hands an input to a swarm and does what it asks for.
    pub(super) fn give(&mut self, node: usize, input: Input<'_>) {
        let mut events = Vec::new();
        self.nodes[node].swarm.handle(self.now, input, &mut events);
        self.perform(node, events);
    }

    /// Everything that happens within `time`. Fails when virtual time stands still for ever.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Until `done`, but at most `limit`; says whether `done` was reached.
    pub(super) fn run_while_not(
        &mut self,
        limit: Duration,
        done: impl FnMut(&Self) -> bool,
    ) -> bool {
        self.run_until(self.now + limit, done)
    }

    fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut at_once = 0;
        loop {
            if done(self) {
                return true;
            }
            let Some((&(at, serial), _)) = self.queue.first_key_value() else {
                return false;
            };
            if at > end {
                return false;
            }
            at_once = if at > self.now { 0 } else { at_once + 1 };
            assert!(at_once < MAX_AT_ONCE, "spins at {:?}", self.now);
            self.now = self.now.max(at);
            let Some((node, told)) = self.queue.remove(&(at, serial)) else {
                return false;
            };
            self.tell(node, told);
        }
    }

    fn tell(&mut self, node: usize, told: Told) {
        let fast = self.nodes[node].fast;
        match told {
            Told::Tick => {
                self.nodes[node].tick_at = None;
                self.give(node, Input::Tick);
            }
            Told::Joined(conn, hello) => {
                let fast = fast && self.nodes.iter().all(|node| node.fast);
                let hello = Hello {
                    fast,
                    dht: true,
                    ..hello
                };
                if self.nodes[node].links.contains_key(&conn) {
                    self.give(node, Input::Joined(conn, hello));
                }
            }
            Told::Message(conn, message) if self.is_linked(node, conn) => {
                self.give(node, Input::Message(conn, message));
            }
            Told::Part {
                conn,
                block,
                offset,
                data,
            } if self.is_linked(node, conn) => {
                self.give(
                    node,
                    Input::BlockPart {
                        conn,
                        block,
                        offset,
                        data,
                    },
                );
            }
            Told::Writable(conn) if self.is_linked(node, conn) => {
                self.give(node, Input::Writable { conn, unsent: 0 });
            }
            Told::Gone { conn, addr } => {
                if let Some(conn) = conn
                    && self.nodes[node].links.remove(&conn).is_none()
                {
                    return;
                }
                let reason = CloseReason::Io(IoReason::Eof);
                self.give(node, Input::Gone { conn, addr, reason });
            }
            Told::JobDone(token, result) => self.give(node, Input::JobDone(token, result)),
            _ => {}
        }
    }

    fn is_linked(&self, node: usize, conn: ConnId) -> bool {
        self.nodes[node].links.contains_key(&conn)
    }

    fn later(&mut self, after: Duration, node: usize, told: Told) {
        self.serial += 1;
        self.queue
            .insert((self.now + after, self.serial), (node, told));
    }

    fn perform(&mut self, node: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Send(conn, message) => self.send(node, conn, message),
                Event::Connect(to, _) => self.connect(node, to),
                Event::Disconnect(conn, _) => {
                    if let Some((other, theirs)) = self.nodes[node].links.remove(&conn) {
                        let addr = addr(node);
                        self.later(
                            LATENCY,
                            other,
                            Told::Gone {
                                conn: Some(theirs),
                                addr,
                            },
                        );
                    }
                }
                Event::Job(token, job) => {
                    let result = self.work(node, job);
                    self.later(DISK, node, Told::JobDone(token, result));
                }
                Event::Public(event) => self.nodes[node].seen.push(event),
                Event::Stopped => self.nodes[node].stopped = true,
                Event::PeersHeard(source, mut addrs) => {
                    addrs.retain(|found| *found != addr(node));
                    self.give(node, Input::PeersFound(source, &addrs));
                }
                Event::WantPeers(_) | Event::DhtNode(_) => {}
            }
        }
        let wanted = self.nodes[node].swarm.next_timeout();
        if let Some(at) = wanted
            && self.nodes[node].tick_at.is_none_or(|armed| armed > at)
        {
            self.nodes[node].tick_at = Some(at);
            let after = at.saturating_since(self.now);
            self.later(after, node, Told::Tick);
        }
    }

    fn connect(&mut self, node: usize, to: SocketAddr) {
        let other = (0..self.nodes.len()).find(|other| addr(*other) == to);
        let Some(other) = other.filter(|other| !self.nodes[*other].stopped && *other != node)
        else {
            self.later(
                LATENCY,
                node,
                Told::Gone {
                    conn: None,
                    addr: to,
                },
            );
            return;
        };
        let mut ends = [(node, conn(0)), (other, conn(0))];
        for end in &mut ends {
            self.nodes[end.0].next_conn += 1;
            end.1 = conn(self.nodes[end.0].next_conn);
        }
        for (ours, theirs, incoming) in [(ends[0], ends[1], false), (ends[1], ends[0], true)] {
            self.nodes[ours.0].links.insert(ours.1, theirs);
            let mut from = addr(theirs.0);
            if incoming {
                from.set_port(50_000 + theirs.1.0.index as u16);
            }
            let joined = Told::Joined(ours.1, hello(theirs.0 as u8, from, incoming));
            self.later(LATENCY, ours.0, joined);
        }
    }

    fn send(&mut self, node: usize, conn: ConnId, message: Message) {
        let Some((other, theirs)) = self.nodes[node].links.get(&conn).copied() else {
            return;
        };
        self.nodes[node].sent.push((self.now, message.clone()));
        let Message::Piece {
            piece,
            begin,
            mut data,
        } = message
        else {
            if let Message::Metadata(Metadata::Data { .. }) = message {
                self.later(DISK, node, Told::Writable(conn));
            }
            self.later(LATENCY, other, Told::Message(theirs, message));
            return;
        };
        let sender = &mut self.nodes[node];
        if sender.mute {
            return;
        }
        sender.served += 1;
        if sender.corrupt || (sender.lies > 0 && sender.served.is_multiple_of(sender.lies)) {
            data = data.iter().map(|byte| !byte).collect::<Vec<_>>().into();
        }
        let block = crate::wire::BlockRef {
            piece,
            begin,
            length: data.len() as u32,
        };
        let part = |offset: usize, data| Told::Part {
            conn: theirs,
            block,
            offset: offset as u32,
            data,
        };
        let sender = &mut self.nodes[node];
        if let Some((bytes, pause)) = sender.drip {
            let mut at = sender.up_free.unwrap_or(self.now).max(self.now);
            let mut offset = 0;
            while offset < data.len() {
                let next = (offset + bytes).min(data.len());
                at = at + pause;
                let after = at.saturating_since(self.now) + LATENCY;
                self.later(after, other, part(offset, data.slice(offset..next)));
                offset = next;
            }
            self.nodes[node].up_free = Some(at);
            let after = at.saturating_since(self.now);
            self.later(after, node, Told::Writable(conn));
            return;
        }
        let mut after = LATENCY + sender.lag;
        if let Some(micros) = (data.len() as u64 * 1_000_000).checked_div(sender.up_rate) {
            let free = sender.up_free.unwrap_or(self.now).max(self.now);
            let left = free + Duration::from_micros(micros);
            sender.up_free = Some(left);
            after += left.saturating_since(self.now);
        }
        let cut = data.len() / 3;
        self.later(after, other, part(0, data.slice(..cut)));
        if !self.nodes[node].half {
            self.later(after, other, part(cut, data.slice(cut..)));
        }
        self.later(after - LATENCY + DISK, node, Told::Writable(conn));
    }

    fn work(&mut self, node: usize, job: Job) -> JobResult {
        let Node {
            disk,
            info,
            hashed,
            loses,
            ..
        } = &mut self.nodes[node];
        let Some(info) = info.as_ref() else {
            return JobResult::Failed(JobError::Io);
        };
        if let Some(error) = disk.fails {
            return JobResult::Failed(error);
        }
        let span = |piece: u32| {
            let start = piece as usize * info.piece_length as usize;
            start..start + info.piece_size(piece) as usize
        };
        match job {
            Job::CheckMetadata(assembled) => JobResult::Metadata(assembled.check()),
            Job::Open(..) => {
                let present = disk.present.clone();
                JobResult::Opened(std::boxed::Box::new(Opened { present }))
            }
            Job::Read(block) if disk.unreadable.contains(&block.piece) => {
                JobResult::Failed(disk.unreadable_because.unwrap_or(JobError::Missing))
            }
            Job::Read(block) => {
                let start = span(block.piece).start + block.begin as usize;
                let data = &disk.bytes[start..start + block.length as usize];
                JobResult::Read(Bytes::copy_from_slice(data))
            }
            Job::Write { piece, begin, data } => {
                let size = info.piece_size(piece) as usize;
                let kept = disk.kept.entry(piece).or_insert_with(|| vec![0; size]);
                kept[begin as usize..begin as usize + data.len()].copy_from_slice(&data);
                JobResult::Written
            }
            Job::Hash { piece } if *loses => {
                hashed.push(piece);
                disk.kept.remove(&piece);
                JobResult::Failed(JobError::Missing)
            }
            Job::Hash { piece } => {
                hashed.push(piece);
                let bytes = disk.kept.get(&piece).map(|kept| &kept[..]);
                let bytes = bytes.unwrap_or_else(|| &disk.bytes[span(piece)]);
                JobResult::Hashed(Digest::Sha1(Sha1::digest(bytes).into()))
            }
            Job::HashBlocks { piece } => {
                let bytes = disk.kept.get(&piece).map(|kept| &kept[..]);
                let bytes = bytes.unwrap_or_else(|| &disk.bytes[span(piece)]);
                let blocks = bytes.chunks(16 * 1024);
                JobResult::BlocksHashed(blocks.map(|block| Sha1::digest(block).into()).collect())
            }
            Job::Commit { piece } => match disk.kept.remove(&piece) {
                Some(kept) => {
                    disk.bytes[span(piece)].copy_from_slice(&kept);
                    disk.present[piece as usize / 8] |= 0x80 >> (piece % 8);
                    JobResult::Committed
                }
                None => JobResult::Failed(JobError::Missing),
            },
            Job::Discard { piece } => {
                disk.kept.remove(&piece);
                JobResult::Discarded
            }
            Job::Save(resume) => {
                let mut data = Vec::new();
                resume.encode(&mut data);
                disk.saved = Some(data.into());
                JobResult::Saved
            }
            Job::Close => JobResult::ClosedStorage,
        }
    }

    pub(super) fn is_complete(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.seen
            .iter()
            .any(|event| matches!(event, event::Event::Complete { .. }))
    }

    /// Every byte is there, and right.
    pub(super) fn assert_right(&self, node: usize) {
        let node = &self.nodes[node];
        assert_eq!(node.disk.bytes, content(node.disk.bytes.len()));
        let stats = node.swarm.stats();
        assert_eq!(
            (stats.done, stats.total),
            (stats.total, node.disk.bytes.len() as u64)
        );
    }

    pub(super) fn count(&self, node: usize, what: impl Fn(&event::Event) -> bool) -> usize {
        self.nodes[node]
            .seen
            .iter()
            .filter(|event| what(event))
            .count()
    }
}
