//! What goes into a swarm and what comes out of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::dial::Dial;
use crate::event::{self, CloseReason, Encryption, PeerSource, Transport};
use crate::id::{InfoHashes, PeerId};
use crate::io::{ConnId, JobResult, TorrentId};
use crate::metadata::Assembled;
use crate::metainfo::Info;
use crate::ports::Ports;
use crate::resume::Resume;
use crate::wire::{BlockRef, Message};

/// What a swarm is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What its public events call it.
    pub torrent: TorrentId,
    /// With `seed`, names its random stream: different for every swarm of an engine.
    pub number: u64,
    /// The engine's seed.
    pub seed: [u8; 32],
    /// The hashes that name the torrent.
    pub hashes: InfoHashes,
    /// The metadata; without it, it is fetched from peers first.
    pub info: Option<Arc<Info>>,
    /// How it is to be handled.
    pub options: Options,
}

/// How one torrent is to be handled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Indices of the wanted files; empty means all.
    pub select: Vec<u32>,
    /// Pieces in order instead of rarest first.
    pub sequential: bool,
    /// Stop once the metadata is there.
    pub metadata_only: bool,
    /// Give each piece away once first (BEP 16), if everything is there.
    pub super_seed: bool,
    /// Nothing is fetched, not even what storage has lost.
    pub serve_only: bool,
    /// Hash everything on disk, whatever the resume data says.
    pub check: bool,
    /// What an earlier run saved; data that does not fit is ignored.
    pub resume: Option<Resume>,
    /// Our own peer id. With it, of two connections to one peer both sides keep the same one.
    pub peer_id: Option<PeerId>,
}

/// What a swarm is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// Peers became known.
    PeersFound(PeerSource, &'a [SocketAddr]),
    /// A connection finished its handshake for this torrent.
    Joined(ConnId, Hello),
    /// A message of a joined connection.
    Message(ConnId, Message),
    /// Part of a block from a joined connection.
    BlockPart {
        /// The connection.
        conn: ConnId,
        /// The block the frame announced.
        block: BlockRef,
        /// First byte of this part within the block.
        offset: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Unsent bytes of a connection fell below half its window, or to none. The swarm lets go of
    /// what it counts as unsent only then.
    Writable {
        /// The connection.
        conn: ConnId,
        /// Bytes handed to `Send` that have not left for the kernel.
        unsent: u32,
    },
    /// Whether a connection is read from. While it is not, by our own choice, nothing that it
    /// leaves undone is its fault.
    Reading {
        /// The connection.
        conn: ConnId,
        /// It is read from again; otherwise it is parked.
        on: bool,
    },
    /// A connection asked for by `Connect` stands or failed before `Joined`, or a joined one ended.
    Gone {
        /// The connection, when it had joined.
        conn: Option<ConnId>,
        /// The endpoint.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A job is done.
    JobDone(JobToken, JobResult),
    /// Allowances from the engine; each replaces the one before.
    Grant(Grant),
    /// The ports others can reach us at.
    Listening(Ports),
    /// Save resume data if it changed.
    Save,
    /// Say goodbye, close, save, close storage; `Stopped` follows.
    Stop,
}

/// What is known of a peer that finished its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Its endpoint.
    pub addr: SocketAddr,
    /// It connected to us.
    pub incoming: bool,
    /// Who it says it is.
    pub peer_id: PeerId,
    /// Fast extension (BEP 6).
    pub fast: bool,
    /// Extension protocol (BEP 10).
    pub extended: bool,
    /// It has a DHT node, and we do: PORT is sent.
    pub dht: bool,
    /// What carries the stream.
    pub transport: Transport,
    /// How the stream is encrypted.
    pub encryption: Encryption,
    /// There are as many connections as there may be: it needs the place of another.
    pub crowded: bool,
}

/// What a swarm may use of what all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// Connections it may hold, half-open ones included.
    pub connections: u32,
    /// Connection attempts it may begin from now on, in total since the swarm was made.
    pub connects_total: u64,
    /// Block bytes it may ask to be read from disk and have unsent at once, besides one block for
    /// each peer, which is nobody else's.
    pub read_bytes: u64,
    /// Bytes of blocks and metadata it may send from now on, in total since the swarm was made (`u64::MAX`:
    /// no limit).
    pub upload_total: u64,
}

/// Names a job within its swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobToken(pub u64);

/// A job a swarm wants done; the engine adds the torrent's id and numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// See [`crate::io::Work::CheckMetadata`].
    CheckMetadata(Arc<Assembled>),
    /// See [`crate::io::Work::Open`].
    Open(Arc<Info>, Arc<[u32]>),
    /// See [`crate::io::Work::Read`].
    Read(BlockRef),
    /// See [`crate::io::Work::Write`].
    Write {
        /// Piece index.
        piece: u32,
        /// First byte within the piece.
        begin: u32,
        /// The bytes.
        data: Bytes,
    },
    /// See [`crate::io::Work::Hash`].
    Hash {
        /// Piece index.
        piece: u32,
    },
    /// See [`crate::io::Work::HashBlocks`].
    HashBlocks {
        /// Piece index.
        piece: u32,
    },
    /// See [`crate::io::Work::Commit`].
    Commit {
        /// Piece index.
        piece: u32,
    },
    /// See [`crate::io::Work::Discard`].
    Discard {
        /// Piece index.
        piece: u32,
    },
    /// See [`crate::io::Work::SaveResume`].
    Save(Arc<Resume>),
    /// See [`crate::io::Work::CloseStorage`].
    Close,
}

/// How much a swarm wants peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Not at all: what is on disk is being checked and may be all there is to have, or nothing
    /// moves any more. Sources are not asked, and nobody is told of us.
    Nobody,
    /// Enough are connected; sources are asked as often as they expect.
    Enough,
    /// More would be of use.
    More,
    /// The last one was lost, and something is missing.
    Anybody,
}

/// What a swarm tells and asks.
#[derive(Debug)]
pub enum Event {
    /// Send a message.
    Send(ConnId, Message),
    /// Open a connection, in this way; answered by `Joined` or `Gone`.
    Connect(SocketAddr, Dial),
    /// Close a joined connection; not answered.
    Disconnect(ConnId, CloseReason),
    /// Do a job; answered by `JobDone`.
    Job(JobToken, Job),
    /// How much peers are wanted; the engine asks its sources accordingly.
    WantPeers(Want),
    /// Peers told of others; the engine tells it back by `PeersFound`, ourselves left out.
    PeersHeard(PeerSource, Vec<SocketAddr>),
    /// A DHT node's endpoint, from a PORT message.
    DhtNode(SocketAddr),
    /// For the embedder; the torrent's id is already in it.
    Public(event::Event),
    /// Everything is closed after `Stop`.
    Stopped,
}
