//! What the engine tells its embedder.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::dht::item::Item;
use crate::id::Id20;
use crate::io::{ConnId, JobError, Tag, TorrentId};
use crate::metainfo::{Ignored, Info};
use crate::swarm::choker::ChokeReason;
use crate::swarm::picker::PickReason;
use crate::time::Duration;
use crate::wire::BlockRef;

/// Something the embedder may want to know.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A command was carried out, or refused.
    CommandDone {
        /// The command's tag.
        tag: Tag,
        /// What came of it.
        result: Result<Done, Box<CommandError>>,
    },
    /// The metadata of a torrent is known: read from a file, or fetched from peers and verified.
    Metadata {
        /// The torrent.
        torrent: TorrentId,
        /// What it says.
        info: Arc<Info>,
    },
    /// A peer became known, for the first time.
    PeerFound {
        /// The torrent.
        torrent: TorrentId,
        /// Its endpoint.
        addr: SocketAddr,
        /// Who told.
        source: PeerSource,
    },
    /// A peer finished its handshake.
    PeerConnected(Box<PeerConnected>),
    /// A connected peer names its client otherwise than its id does (`v` of the extension
    /// handshake, BEP 10); once per connection.
    PeerNamed {
        /// The torrent.
        torrent: TorrentId,
        /// The connection.
        conn: ConnId,
        /// Its endpoint.
        addr: SocketAddr,
        /// What it calls itself, at most `WireConfig::max_client_name` bytes.
        client: String,
    },
    /// A peer is gone, or an attempt to connect to one came to nothing before its handshake: told
    /// once for each, so that there are no more of these than `limits` lets us try.
    PeerClosed {
        /// The torrent.
        torrent: TorrentId,
        /// Its endpoint.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// Why something was decided about a peer; only with `Config::explain`.
    Explained(Box<Explained>),
    /// How one source of peers stands.
    Source {
        /// The torrent.
        torrent: TorrentId,
        /// The source.
        source: PeerSource,
        /// Its state.
        status: SourceStatus,
        /// Peers it told of when it was asked last, ourselves not among them; while it is being
        /// asked, so far, if those are more. Of peer exchange: whom the connected peers tell of.
        peers: u32,
        /// Time until it is asked again, or until peers tell each other what changed.
        next_update: Option<Duration>,
        /// Which tracker it is; `None` for other sources, and for all trackers together.
        tracker: Option<Box<TrackerSource>>,
    },
    /// The check of what was on disk is over.
    Checked {
        /// The torrent.
        torrent: TorrentId,
        /// Pieces that are right.
        ok: u32,
        /// Pieces that are present but wrong.
        bad: u32,
    },
    /// A piece was verified and is in its files.
    PieceDone {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
    },
    /// A piece had the wrong hash. If several peers brought it, it is told once more as soon as the
    /// right piece shows who of them lied.
    PieceFailed {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
        /// Who lied, as far as that is certain; they are banned. Empty while it is not.
        blame: Vec<SocketAddr>,
        /// Who sent blocks of it, while it is not known who of them lied.
        suspects: Vec<SocketAddr>,
    },
    /// A piece that was verified cannot be read any more: peers are told, and it is fetched again
    /// where it is wanted.
    PieceLost {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
    },
    /// Every wanted piece is verified and in its files.
    Complete {
        /// The torrent.
        torrent: TorrentId,
    },
    /// Part of a link or torrent file that was added cannot be read; it is used without it. Told
    /// once for each, before the answer to the command.
    Ignored {
        /// The torrent.
        torrent: TorrentId,
        /// Which part, what is there, and what was expected.
        ignored: Box<Ignored>,
    },
    /// A file was selected (by the embedder, or by `so` of a magnet link, BEP 53) that the torrent
    /// does not have, as its metadata shows; it is stopped before anything is fetched.
    BadSelection {
        /// The torrent.
        torrent: TorrentId,
        /// The smallest index that is none.
        index: u32,
        /// Files the torrent has: indices are below it.
        files: u32,
    },
    /// Storage of a torrent failed; it is stopped.
    StorageFailed {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index, where one is concerned.
        piece: Option<u32>,
        /// Why.
        error: JobError,
    },
    /// Part of a DHT lookup's result, as it comes.
    LookupFound {
        /// The command that asked.
        tag: Tag,
        /// What was found.
        found: Found,
    },
    /// A DHT lookup is over.
    LookupDone {
        /// The command that asked.
        tag: Tag,
        /// Figures of it.
        summary: LookupSummary,
    },
    /// The DHT's table changed size notably, or its bootstrap is over.
    DhtStatus {
        /// Good nodes, IPv4.
        nodes_v4: u32,
        /// Good nodes, IPv6.
        nodes_v6: u32,
        /// Whether the first lookup of our own id is over.
        bootstrapped: bool,
    },
}

/// What a command returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing more to say.
    Ok,
    /// A torrent was added.
    Torrent(TorrentId),
}

/// Why a command was refused; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The magnet link or torrent is wrong: what, where, and what was expected.
    BadSource(String),
    /// A file is selected that the torrent does not have: an index, and how many files there are.
    BadSelection(u32, u32),
    /// That torrent is already here.
    Duplicate(TorrentId),
    /// No such torrent.
    UnknownTorrent,
    /// A limit of the configuration is reached: its name.
    Limit(&'static str),
    /// The DHT is off, or has no socket.
    NoDht,
    /// Saved data is not what it should be.
    BadState(&'static str),
    /// A bootstrap or lookup found nobody who answers.
    NoAnswer,
}

/// Who told us of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PeerSource {
    /// The embedder, or the magnet link.
    Manual,
    /// A tracker.
    Tracker,
    /// Local service discovery.
    Lsd,
    /// The DHT.
    Dht,
    /// Another peer.
    Pex,
    /// It connected to us.
    Incoming,
    /// Resume data.
    Resume,
}

/// A tracker as a source of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerSource {
    /// Its URL, as the torrent has it. It may hold a secret of its user.
    pub url: Arc<str>,
    /// Peers that have everything, as it says.
    pub seeds: Option<u32>,
    /// Peers that lack something, as it says.
    pub leechers: Option<u32>,
    /// What went wrong, or what it wants people to know; short, without control characters.
    pub message: Option<String>,
}

/// State of a source of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Off by configuration, or because the torrent is private.
    Disabled,
    /// Being asked.
    Working,
    /// Asked, and waiting for the next time.
    Idle,
    /// The last attempt failed.
    Failed,
}

/// A peer finished its handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConnected {
    /// The torrent.
    pub torrent: TorrentId,
    /// The connection.
    pub conn: ConnId,
    /// Its endpoint.
    pub addr: SocketAddr,
    /// Whether it connected to us.
    pub incoming: bool,
    /// Over what.
    pub transport: Transport,
    /// How the stream is encrypted.
    pub encryption: Encryption,
    /// Its client, read from the peer id.
    pub client: String,
}

/// A decision about a connected peer. Why a peer was dropped is told by `PeerClosed`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// The torrent.
    pub torrent: TorrentId,
    /// The connection.
    pub conn: ConnId,
    /// The peer's endpoint.
    pub addr: SocketAddr,
    /// What was decided, and why.
    pub decision: Decision,
}

/// What was decided about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is served from now on, or no longer.
    Choke {
        /// No longer.
        choked: bool,
        /// Why.
        reason: ChokeReason,
    },
    /// It was asked for blocks.
    Asked {
        /// The first of them.
        first: BlockRef,
        /// How many.
        blocks: u32,
        /// Why the last of them was picked.
        reason: PickReason,
    },
}

/// What carries a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// uTP (BEP 29).
    Utp,
}

/// How a stream is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Not at all.
    Plain,
    /// With RC4, after the handshake of MSE/PE.
    Rc4,
}

impl Encryption {
    /// Whether somebody who listens in sees more than noise.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The host reported it.
    Io(crate::io::IoReason),
    /// The handshake was not finished in time.
    HandshakeTimeout,
    /// Nothing was heard for too long.
    Idle,
    /// It took nothing of what it was sent for too long.
    Stalled,
    /// Not a BitTorrent handshake, or of a torrent we do not have.
    BadHandshake,
    /// It is ourselves.
    SelfConnection,
    /// The same peer is connected already.
    Duplicate,
    /// A rule of the protocol was broken: which.
    Protocol(&'static str),
    /// The stream cannot be encrypted, or has to be: why.
    Encryption(&'static str),
    /// It sent bad data.
    Banned,
    /// Neither side has anything the other needs.
    Useless,
    /// A limit of ours: its name.
    Limit(&'static str),
    /// All places were taken, and it had to give its own to another peer: why it of all.
    MadeRoom(Expendable),
    /// The torrent was removed or the engine shut down.
    Shutdown,
}

/// Why a connection made room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expendable {
    /// Nothing had flowed over it for a while, and neither side waited for the other.
    Idle,
    /// Nothing had flowed for as long, and the newcomer ranks higher (BEP 40).
    Outranked,
    /// Least had flowed over it of late, and others are known that may bring more.
    LeastUseful,
}

/// Part of a lookup's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A node that answered, among the closest.
    Node(Id20, SocketAddr),
    /// A peer of the info-hash.
    Peer(SocketAddr),
    /// The item looked for (BEP 44): its hash, or its signature, is right. A mutable one may be
    /// followed by newer ones, each with a higher sequence number.
    Item(Arc<Item>),
    /// A node refused what it was asked, with this code; for a put each code is told once: 205 the
    /// value is too long, 206 the signature is wrong, 207 the salt is too long, 301 another
    /// sequence number is there than the one to be replaced, 302 a newer item is there (BEP 44).
    Refused(i64),
    /// An info-hash that the node asked keeps peers of (BEP 51).
    InfoHash(Id20),
    /// What else it tells of them.
    Survey {
        /// How many it keeps.
        of: u32,
        /// After which time it will tell of others.
        again: Duration,
    },
    /// About how many peers an info-hash has, by the filters of several nodes (BEP 33).
    Swarm {
        /// Peers that have everything.
        seeds: u32,
        /// Peers that lack something.
        downloaders: u32,
        /// Nodes that told.
        nodes: u32,
    },
}

/// Figures of a finished lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupSummary {
    /// What was looked up; our own id for a ping.
    pub target: Id20,
    /// From the first query to the end.
    pub elapsed: Duration,
    /// Longest way to one of the closest nodes: 1 is a node that we knew, 2 one that such a node
    /// told of, and so on; 0 if nobody answered.
    pub hops: u16,
    /// Queries sent.
    pub queries: u16,
    /// Nodes that answered.
    pub replies: u16,
    /// What was found: peers, nodes, items, info-hashes, one count of peers; of an announce or a put,
    /// the nodes that store it.
    pub results: u32,
}
