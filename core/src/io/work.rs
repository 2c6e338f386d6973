use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use bytes::Bytes;

use super::TorrentId;
use crate::dht::item::Item;
use crate::metadata::{Assembled, Checked};
use crate::metainfo::Info;
use crate::resume::Resume;
use crate::time::Duration;

/// A job for the host: everything that may wait or burn cycles.
///
/// Jobs of one torrent are begun in the order they were asked for: a `Read` or `Hash` sees every
/// `Write` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work<'o> {
    /// Hashes and reads metadata that came from peers: [`Assembled::check`] on a thread that may
    /// take its time; answered by `Metadata`.
    CheckMetadata {
        /// The torrent.
        torrent: TorrentId,
        /// The pieces of the metadata, and what their hash has to be.
        assembled: Arc<Assembled>,
    },
    /// Prepares storage for a torrent; answered by `Opened`. Creates nothing that a later write
    /// does not need, except empty files, folders and links, which it makes at once.
    Open {
        /// The torrent.
        torrent: TorrentId,
        /// Files, pieces, hashes.
        info: Arc<Info>,
        /// Indices of the wanted files; empty means all. No other file is made or written: what a
        /// piece has in others is to be kept elsewhere, so that the piece can be read as a whole.
        select: Arc<[u32]>,
    },
    /// Reads `length` bytes at `begin` of `piece`; answered by `Read`.
    Read {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
        /// First byte within the piece.
        begin: u32,
        /// Bytes, at most 128 KiB.
        length: u32,
    },
    /// Keeps `data` at `begin` of `piece`, in memory until the piece is committed or the budget
    /// forces a spill; answered by `Written`.
    Write {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
        /// First byte within the piece.
        begin: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Hashes a whole piece, from memory where it is kept, else from disk; answered by `Hashed`.
    Hash {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
        /// Which hash.
        kind: HashKind,
    },
    /// Hashes each block of a whole piece by itself, with SHA-1, from memory where it is kept, else
    /// from disk; answered by `BlocksHashed`. Asked for when a piece was wrong, and when it is
    /// right the next time, to see whose blocks differ.
    HashBlocks {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
    },
    /// The piece is right: brings it to the files; answered by `Committed` once the kernel has it.
    Commit {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
    },
    /// The piece is wrong: drops what is kept of it in memory. Answered by `Discarded`.
    Discard {
        /// The torrent.
        torrent: TorrentId,
        /// Piece index.
        piece: u32,
    },
    /// Closes the files of a torrent; answered by `ClosedStorage`.
    CloseStorage {
        /// The torrent.
        torrent: TorrentId,
    },
    /// Finds the addresses of a host name; answered by `Resolved`.
    Resolve {
        /// The name.
        host: &'o str,
        /// The port, for context only.
        port: u16,
    },
    /// Fetches a URL with one GET, following no redirect; answered by `Http`, whatever its status.
    ///
    /// The host looks its name up and connects only to an address for which
    /// [`TrackerUrl::may_contact`](crate::tracker::TrackerUrl::may_contact) says yes.
    HttpGet {
        /// The URL: http or https.
        url: &'o str,
        /// Who redirected us there, if anybody did.
        redirected_by: Option<IpAddr>,
        /// Longest body, bytes; a longer one fails as `TooLarge` and is not read further.
        max_bytes: u32,
        /// Time all of it may take.
        timeout: Duration,
    },
    /// Checks the signature of an item of the DHT (BEP 44) on a thread that may take its time:
    /// [`Item::is_authentic`](crate::dht::item::Item), with the feature `ed25519`; answered by
    /// `Signature`.
    CheckSignature {
        /// The item, a mutable one.
        item: Arc<Item>,
    },
    /// Saves what is to be known of a torrent at the next start, as [`Resume::encode`] writes it,
    /// under [`StateKind::Resume`]; answered by `Saved`. Encoding hashes all of it, so it is part
    /// of the job.
    SaveResume {
        /// The torrent.
        torrent: TorrentId,
        /// What is to be saved.
        resume: Arc<Resume>,
    },
    /// Saves state under a name of the host's choosing; answered by `Saved`.
    SaveState {
        /// What it is.
        kind: StateKind,
        /// The bytes to give back at the next start.
        data: &'o [u8],
    },
}

/// What a `SaveState` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateKind {
    /// The DHT's routing tables and ids.
    DhtTable,
    /// Resume data of the torrent whose wire info-hash this is.
    Resume(crate::id::Id20),
}

/// Which hash a piece is checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// SHA-1 over the piece (BEP 3).
    Sha1,
    /// The SHA-256 merkle root over the piece's 16 KiB blocks (BEP 52).
    Merkle,
}

/// A piece's hash as computed by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// SHA-1.
    Sha1([u8; 20]),
    /// Merkle root of SHA-256.
    Merkle([u8; 32]),
}

/// The SHA-1 of one block of a piece: 16 KiB, or what is left at its end.
pub type BlockHash = [u8; 20];

/// What storage found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Bit set of pieces of which at least one byte may be on disk, most significant bit first
    /// as in a bitfield message. Pieces not in it need not be hashed.
    pub present: Vec<u8>,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// Where the server is. Of several addresses that may have answered, the one that reaches
    /// farthest.
    pub from: IpAddr,
    /// The header `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// What [`Assembled::check`] found.
    Metadata(Checked),
    /// Storage is ready.
    Opened(alloc::boxed::Box<Opened>),
    /// The bytes asked for, all of them.
    Read(Bytes),
    /// The bytes are kept.
    Written,
    /// The hash of the piece.
    Hashed(Digest),
    /// The hashes of the piece's blocks, in order.
    BlocksHashed(Vec<BlockHash>),
    /// The piece is in its files.
    Committed,
    /// What was kept of the piece is dropped.
    Discarded,
    /// The files are closed.
    ClosedStorage,
    /// Addresses of the name; empty when it has none.
    Resolved(Vec<IpAddr>),
    /// What a server answered.
    Http(alloc::boxed::Box<HttpAnswer>),
    /// Whether the signature is right.
    Signature(bool),
    /// The state is saved.
    Saved,
    /// It could not be done.
    Failed(JobError),
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// The bytes are not (all) there.
    Missing,
    /// The device is full, or a quota.
    NoSpace,
    /// Not allowed.
    Permission,
    /// The file system is read-only.
    ReadOnly,
    /// Something else is where the file or its folder should be: a file, a folder, a link.
    InTheWay,
    /// Somebody else changed or removed a file, or a folder, while it was in use.
    Changed,
    /// The process has as many files open as it may.
    TooManyFiles,
    /// The device reported an error.
    Io,
    /// The name does not resolve.
    NotFound,
    /// It took too long.
    TimedOut,
    /// The answer is longer than was asked for.
    TooLarge,
    /// A rule of ours forbids the address.
    Forbidden,
    /// Nobody answers there.
    Unreachable,
    /// It was cancelled.
    Cancelled,
    /// The host cannot do this kind of job.
    Unsupported,
    /// The host failed at it by a mistake of its own.
    Internal,
}
