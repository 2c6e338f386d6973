use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use super::{ConnId, JobId, JobResult, SocketId, Tag, Ticket, TorrentId};
use crate::dht::item::Item;
use crate::id::Id20;
use crate::metainfo::{Info, MetainfoError, Torrent};
use crate::resume::Resume;

/// Everything that can ever change the engine.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed. Harmless when early.
    Tick,
    /// A datagram socket is ready; `local` is its bound address, port included. TCP listens on
    /// the same port. A multicast address is that of a group the socket has joined on one network,
    /// for local service discovery ([`crate::lsd`]).
    SocketUp {
        /// The socket's name.
        socket: SocketId,
        /// Its bound address.
        local: SocketAddr,
    },
    /// A datagram socket is gone.
    SocketDown {
        /// The socket's name.
        socket: SocketId,
        /// Why.
        reason: IoReason,
    },
    /// The host's wall clock, for dates only: seconds since 1970.
    WallClock {
        /// Unix seconds.
        unix: u64,
    },
    /// A datagram arrived.
    Datagram {
        /// Where it arrived.
        socket: SocketId,
        /// Who sent it.
        from: SocketAddr,
        /// What it says.
        payload: &'a [u8],
    },
    /// A datagram could not be sent.
    SendFailed {
        /// Where it was to leave.
        socket: SocketId,
        /// For whom it was.
        to: SocketAddr,
        /// Why.
        reason: IoReason,
    },
    /// Somebody connected; answered by `Accept` or `Refuse`.
    Incoming {
        /// Names the waiting connection.
        ticket: Ticket,
        /// The remote endpoint.
        from: SocketAddr,
    },
    /// A connection asked for by `Connect` stands.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// Bytes of a stream, in order, at most the credit given.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes, in a buffer that is used for nothing else. The engine hands on slices of it,
        /// so that block data is not copied, and copies only where blocks are less than half of
        /// the buffer's capacity. So what a host keeps of blocks pins at most about twice its
        /// length; and what is read pins no more than that where buffers are at least half full.
        data: BytesMut,
    },
    /// Bytes handed over by `Send` have left for the kernel.
    Sent {
        /// The connection.
        conn: ConnId,
        /// How many since the last `Sent`.
        bytes: u32,
    },
    /// The stream ended, or could not be opened. Not reported for streams the engine closed.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: IoReason,
    },
    /// A job is done.
    JobDone {
        /// Which one.
        job: JobId,
        /// With what result.
        result: JobResult,
    },
    /// What the embedder asks for.
    Command {
        /// Carried by the events that answer.
        tag: Tag,
        /// The request.
        command: Box<Command>,
    },
}

impl Input<'_> {
    /// The command, under a tag of the embedder's choice.
    #[must_use]
    pub fn command(tag: Tag, command: Command) -> Self {
        let command = Box::new(command);
        Self::Command { tag, command }
    }
}

/// Why a socket, stream or datagram failed, as far as the engine cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IoReason {
    /// The remote closed in order.
    Eof,
    /// The remote reset the stream.
    Reset,
    /// Nobody listens there.
    Refused,
    /// No route, or the network is down.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The host is out of buffers, descriptors or memory for a while.
    NoBuffers,
    /// The address cannot be used or is taken.
    AddressUnavailable,
    /// The host closed it on purpose.
    Local,
    /// Anything else.
    Other,
}

/// Where a torrent comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A magnet link, or a bare info-hash (hex or base32) (BEP 9, 53).
    Magnet(String),
    /// A `.torrent` file that the host has read: to parse and hash one is too much work for one
    /// input.
    Torrent(Arc<Torrent>),
}

impl Source {
    /// The source that the bytes of a `.torrent` file are (BEP 3, 52); done by the host, where
    /// it may take its time.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn torrent(bytes: impl Into<Bytes>) -> Result<Self, MetainfoError> {
        let torrent = Torrent::parse(bytes.into())?;
        Ok(Self::Torrent(Arc::new(torrent)))
    }
}

/// A torrent to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddTorrent {
    /// Where it comes from.
    pub source: Source,
    /// What an earlier run saved of it; that of another torrent is ignored. Its
    /// [`Resume::info`] is not looked at: `info` is.
    pub resume: Option<Box<Resume>>,
    /// Metadata of a magnet link that an earlier run saved, parsed by the host; that of another
    /// torrent is ignored, and a torrent file has its own.
    pub info: Option<Arc<Info>>,
    /// Peers known beforehand.
    pub peers: Vec<SocketAddr>,
    /// Indices of the wanted files; empty means all.
    pub select: Vec<u32>,
    /// Pieces in order instead of rarest first.
    pub sequential: bool,
    /// Stop once the metadata is there.
    pub metadata_only: bool,
    /// Give each piece away once first (BEP 16): for the only seed, if everything is there.
    pub super_seed: bool,
    /// Fetch nothing, not even what storage has lost: only what is there is served.
    pub serve_only: bool,
    /// Hash everything on disk, whatever the resume data says.
    pub check: bool,
}

impl AddTorrent {
    /// Everything at its default for `source`.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            resume: None,
            info: None,
            peers: Vec::new(),
            select: Vec::new(),
            sequential: false,
            metadata_only: false,
            super_seed: false,
            serve_only: false,
            check: false,
        }
    }
}

/// What may flow in a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Bytes that are downloaded; 0 is no limit.
    pub download: u64,
    /// Bytes of blocks and metadata that are uploaded; 0 is no limit.
    pub upload: u64,
}

/// What the embedder can ask for. Each is answered by [`crate::event::Event::CommandDone`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Adds and starts a torrent; answered with its id.
    AddTorrent(AddTorrent),
    /// Stops a torrent, says goodbye to its peers and forgets it; its files stay.
    RemoveTorrent(TorrentId),
    /// Tells of a peer.
    AddPeer(TorrentId, SocketAddr),
    /// Limits what one torrent downloads and uploads, beside what limits all together.
    LimitTorrent(TorrentId, Rates),
    /// Tells of a DHT node: it is pinged and, if it answers, enters the table.
    AddDhtNode(SocketAddr),
    /// Looks up our own id through these contacts and fills the table; answered when done.
    DhtBootstrap(Vec<SocketAddr>),
    /// Names hosts the host must resolve; the addresses are used as by `DhtBootstrap`.
    DhtBootstrapNames(Vec<(String, u16)>),
    /// Loads a table saved by an earlier run; wrong data is refused.
    DhtLoad(Bytes),
    /// Pings one node; the answer is a `Lookup` event.
    DhtPing(SocketAddr),
    /// Finds the nodes closest to an id; results stream as events.
    DhtFindNode(Id20),
    /// Finds the peers of an info-hash; results stream as events.
    DhtGetPeers(Id20),
    /// Announces ourselves as a peer on `port` (BEP 5); with `None` the port the datagram shows.
    DhtAnnounce(Id20, Option<u16>),
    /// Counts the peers of an info-hash (BEP 33); the result is an event.
    DhtScrape(Id20),
    /// Asks one node for info-hashes that it keeps peers of (BEP 51); results are events.
    DhtSample(SocketAddr),
    /// Finds the item of a target (BEP 44), whose salt is this; results stream as events.
    DhtGet(Id20, Bytes),
    /// Has an item kept by the nodes closest to its target (BEP 44); with a sequence number, only
    /// in the place of one that has it.
    DhtPut(Arc<Item>, Option<i64>),
    /// Emits a `SaveState` job for the table and a `SaveResume` job for every torrent.
    Save,
    /// Stops everything: torrents, announces, connections; answered when nothing is left to wait
    /// for.
    Shutdown,
}
