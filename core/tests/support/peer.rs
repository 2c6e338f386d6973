//! A torrent and one peer: an engine that downloads from it, and one that serves it.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use trackerless_core::event::Event;
use trackerless_core::io::{
    AddTorrent, Command, ConnId, Digest, JobId, JobResult, Opened, Source, Tag, Ticket, TorrentId,
    Work,
};
use trackerless_core::metainfo::{Info, Torrent};
use trackerless_core::time::Duration;
use trackerless_core::wire::BlockRef;
use trackerless_core::{Config, Input, Output};

use super::{Host, Numbers};

/// Bytes of a block, and of what stands before it in its frame: length, id, piece, begin.
pub const BLOCK: usize = 16_384;
pub const HEAD: usize = 13;
/// What a peer queues that does not say.
const DEFAULT_REQQ: usize = 250;
const PIECE: u32 = 16 * BLOCK as u32;

fn remote() -> SocketAddr {
    "45.1.2.3:6881".parse().expect("an address")
}

/// A torrent of whole pieces; nobody has its bytes, and whoever hashes them is told the right
/// digest.
fn torrent(pieces: u32) -> (Bytes, Arc<Info>) {
    let mut file = format!(
        "d4:infod6:lengthi{}e4:name1:x12:piece lengthi{PIECE}e6:pieces{}:",
        u64::from(pieces) * u64::from(PIECE),
        pieces as usize * 20
    )
    .into_bytes();
    let mut numbers = Numbers(17);
    (0..pieces).for_each(|_| file.extend_from_slice(&numbers.bytes::<20>()));
    file.extend_from_slice(b"ee");
    let file = Bytes::from(file);
    let info = Torrent::parse(file.clone()).expect("a right torrent").info;
    (file, info)
}

/// The frame of a message that is no block.
fn frame(id: u8, numbers: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(1 + 4 * numbers.len() as u32);
    bytes.put_u8(id);
    numbers.iter().for_each(|number| bytes.put_u32(*number));
    bytes
}

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const REQUEST: u8 = 6;
const PIECE_MESSAGE: u8 = 7;
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Part of a block on its way to disk.
#[derive(Debug)]
pub struct Written {
    pub job: JobId,
    pub piece: u32,
    pub begin: u32,
    pub data: Bytes,
}

/// A block on its way to the peer.
#[derive(Debug)]
pub struct Sent {
    pub head: [u8; HEAD],
    pub body: Bytes,
}

/// An engine, one torrent, one connection.
pub struct Swarm {
    pub host: Host,
    pub info: Arc<Info>,
    pub torrent: TorrentId,
    pub conn: ConnId,
    /// Blocks the engine asked for, in order.
    pub wanted: VecDeque<BlockRef>,
    /// Jobs that are not answered: blocks to write, blocks to read, pieces to hash and to commit.
    pub writes: VecDeque<Written>,
    pub reads: VecDeque<(JobId, BlockRef)>,
    pub others: VecDeque<(JobId, JobResult)>,
    /// Blocks sent to the peer.
    pub sent: VecDeque<Sent>,
    /// Bytes sent that the engine was not told of yet.
    pub unsent: u32,
    /// Bytes that may still be received.
    pub credit: u32,
    pub pieces_done: u32,
}

impl Swarm {
    /// Downloads from a peer that has everything and has just unchoked us.
    pub fn downloading(pieces: u32) -> Self {
        let mut swarm = Self::new(pieces, false);
        let add = Command::AddPeer(swarm.torrent, remote());
        swarm.command(add);
        let conn = swarm.conn;
        swarm.host.handle(Input::Connected { conn });
        swarm.perform();
        let hello = [swarm.handshake(), frame(HAVE_ALL, &[]), frame(UNCHOKE, &[])].concat();
        swarm.receive(BytesMut::from(&hello[..]));
        assert!(!swarm.wanted.is_empty(), "nothing is asked for");
        swarm
    }

    /// The same, once the pipeline is as deep as it gets.
    pub fn downloading_at_speed(pieces: u32) -> Self {
        let mut swarm = Self::downloading(pieces);
        let deep = usize::from(swarm.host.engine.config().swarm.max_pipeline);
        let deep = deep.min(DEFAULT_REQQ) - 1;
        while swarm.wanted.len() < deep {
            let mut data = BytesMut::zeroed(HEAD + BLOCK);
            let block = swarm.next_wanted();
            data[..HEAD].copy_from_slice(&Self::head(block));
            swarm.receive(data);
            swarm.answer_writes();
            swarm.answer_others();
            swarm.say_sent();
            swarm.perform();
            swarm.wait(Duration::from_micros(100));
        }
        swarm
    }

    /// Serves a peer that has nothing and is unchoked.
    pub fn serving(pieces: u32) -> Self {
        let mut swarm = Self::new(pieces, true);
        swarm.host.handle(Input::Incoming {
            ticket: Ticket(1),
            from: remote(),
        });
        swarm.perform();
        let hello = [
            swarm.handshake(),
            frame(HAVE_NONE, &[]),
            frame(INTERESTED, &[]),
        ]
        .concat();
        swarm.receive(BytesMut::from(&hello[..]));
        swarm
    }

    fn new(pieces: u32, complete: bool) -> Self {
        let mut config = Config::default();
        config.dht.enabled = false;
        let (file, info) = torrent(pieces);
        let mut swarm = Self {
            host: Host::new(config),
            info,
            torrent: TorrentId::from_bits(u64::MAX),
            conn: ConnId::from_bits(u64::MAX),
            wanted: VecDeque::new(),
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            others: VecDeque::new(),
            sent: VecDeque::new(),
            unsent: 0,
            credit: 0,
            pieces_done: 0,
        };
        swarm.command(Command::AddTorrent(AddTorrent::new(
            Source::torrent(file).unwrap(),
        )));
        let present = if complete { 0xff } else { 0 };
        let opened = Opened {
            present: vec![present; (pieces as usize).div_ceil(8)],
        };
        swarm.others[0].1 = JobResult::Opened(Box::new(opened));
        swarm.answer_others();
        swarm
    }

    fn command(&mut self, command: Command) {
        self.host.handle(Input::Command {
            tag: Tag(0),
            command: Box::new(command),
        });
        self.perform();
    }

    fn handshake(&self) -> Vec<u8> {
        let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
        bytes.extend_from_slice(&self.info.hashes.short().0);
        bytes.extend_from_slice(b"-XX0001-abcdefghijkl");
        bytes
    }

    /// Hands over bytes of the stream, and does what is asked for but for jobs.
    pub fn receive(&mut self, data: BytesMut) {
        self.hand_over(data);
        self.perform();
    }

    /// Hands over bytes of the stream and nothing else.
    pub fn hand_over(&mut self, data: BytesMut) {
        self.credit -= data.len() as u32;
        let conn = self.conn;
        self.host.handle(Input::Received { conn, data });
    }

    /// Takes the outputs that wait.
    pub fn perform(&mut self) {
        for output in self.host.out.drain() {
            match output {
                Output::Connect { conn, .. } | Output::Accept { conn, .. } => self.conn = conn,
                Output::ReadCredit { bytes, .. } => self.credit += bytes,
                Output::Send { head, body, .. } => {
                    self.unsent += (head.len() + body.len()) as u32;
                    match head.get(4) {
                        Some(&REQUEST) if head.len() == 17 => self.wanted.push_back(BlockRef {
                            piece: number(head, 5),
                            begin: number(head, 9),
                            length: number(head, 13),
                        }),
                        Some(&PIECE_MESSAGE) => self.sent.push_back(Sent {
                            head: head.try_into().expect("a head and nothing else"),
                            body,
                        }),
                        _ => {}
                    }
                }
                Output::Job { job, work } => {
                    let result = match work {
                        Work::Write {
                            piece, begin, data, ..
                        } => {
                            self.writes.push_back(Written {
                                job,
                                piece,
                                begin,
                                data,
                            });
                            continue;
                        }
                        Work::Read {
                            piece,
                            begin,
                            length,
                            ..
                        } => {
                            let block = BlockRef {
                                piece,
                                begin,
                                length,
                            };
                            self.reads.push_back((job, block));
                            continue;
                        }
                        Work::Hash { piece, .. } => {
                            let hash = self.info.piece_hash(piece).expect("a piece");
                            JobResult::Hashed(Digest::Sha1(hash))
                        }
                        Work::Open { .. } => JobResult::Opened(Box::default()),
                        Work::Commit { .. } => JobResult::Committed,
                        Work::SaveResume { .. } | Work::SaveState { .. } => JobResult::Saved,
                        other => panic!("{other:?} was not expected"),
                    };
                    self.others.push_back((job, result));
                }
                Output::Event(Event::CommandDone { result, .. }) => {
                    assert!(result.is_ok(), "{result:?}");
                }
                Output::Event(Event::PieceDone { .. }) => self.pieces_done += 1,
                // Seeds are of no use to each other.
                Output::Close { .. } if self.pieces_done == self.info.piece_count => {}
                Output::Event(_) => {}
                other => panic!("{other:?} was not expected"),
            }
        }
        if self.torrent == TorrentId::from_bits(u64::MAX)
            && let Some(torrent) = self.host.engine.torrents().next()
        {
            self.torrent = torrent;
        }
    }

    /// The next block asked for.
    pub fn next_wanted(&mut self) -> BlockRef {
        self.wanted.pop_front().expect("the pipeline is not empty")
    }

    /// What stands before a block on the wire.
    pub fn head(block: BlockRef) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let mut buf = &mut head[..];
        buf.put_u32(9 + block.length);
        buf.put_u8(PIECE_MESSAGE);
        buf.put_u32(block.piece);
        buf.put_u32(block.begin);
        head
    }

    /// Says that every block was written.
    pub fn answer_writes(&mut self) {
        while let Some(Written { job, .. }) = self.writes.pop_front() {
            let result = JobResult::Written;
            self.host.handle(Input::JobDone { job, result });
            self.perform();
        }
    }

    /// Answers hashes, commits and the like, until there are none.
    pub fn answer_others(&mut self) {
        while let Some((job, result)) = self.others.pop_front() {
            self.host.handle(Input::JobDone { job, result });
            self.perform();
        }
    }

    /// Asks the engine for a block.
    pub fn request(block: BlockRef) -> Vec<u8> {
        frame(REQUEST, &[block.piece, block.begin, block.length])
    }

    /// Says that everything has left.
    pub fn say_sent(&mut self) {
        let (conn, bytes) = (self.conn, std::mem::take(&mut self.unsent));
        if bytes > 0 {
            self.host.handle(Input::Sent { conn, bytes });
        }
    }

    /// Lets time pass, with its ticks.
    pub fn wait(&mut self, time: Duration) {
        self.host.now = self.host.now + time;
        while self
            .host
            .engine
            .next_timeout()
            .is_some_and(|at| at <= self.host.now)
        {
            self.host.handle(Input::Tick);
            self.perform();
        }
    }

    /// All blocks in order, round and round.
    pub fn blocks(&self) -> impl Iterator<Item = BlockRef> + use<> {
        let pieces = self.info.piece_count;
        let all = (0..pieces).flat_map(|piece| {
            (0..PIECE).step_by(BLOCK).map(move |begin| BlockRef {
                piece,
                begin,
                length: BLOCK as u32,
            })
        });
        all.cycle()
    }
}
