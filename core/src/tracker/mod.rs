//! Trackers: which one is asked, when, and what it answers (BEP 3, 7, 12, 15, 23, 24, 41, 48).
//!
//! [`Trackers`] serves many torrents. UDP trackers are spoken to by the machine itself; of HTTP
//! ones it decides every request and redirect, and a host fetches the URLs as jobs. Nothing waits
//! for a tracker: one that does not answer soon has the next one asked beside it.
//!
//! Used without an engine, it takes [`Input`]s and gives [`Event`]s and datagrams:
//!
//! 1. [`Input::SocketUp`] and [`Input::Add`], then [`Input::Want`] once peers are wanted.
//! 2. [`Event::Due`] is answered by [`Input::Figures`], which announces where it is time to.
//! 3. [`Event::Job`] is answered by [`Input::JobDone`]; datagrams for which
//!    [`Trackers::is_answer`] holds are handed in.

pub mod http;
pub mod udp;

mod fetches;
mod machine;
mod requests;
#[cfg(test)]
mod tests;
mod tiers;
mod url;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

pub use machine::{Trackers, UNKNOWN_LEFT};
pub use url::{Refusal, Scheme, TrackerUrl, UrlError};

use crate::config::EncryptionMode;
use crate::event::SourceStatus;
use crate::id::{Id20, PeerId};
use crate::io::{JobResult, SocketId, TorrentId};
use crate::swarm::Want;
use crate::time::Duration;

/// What an announce tells besides figures; the numbers are those of BEP 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// Nothing: it is the next in a row.
    None = 0,
    /// The last missing byte came.
    Completed = 1,
    /// The first of a session.
    Started = 2,
    /// The last one.
    Stopped = 3,
}

/// What a torrent did in this session, in bytes of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Sent.
    pub uploaded: u64,
    /// Received.
    pub downloaded: u64,
    /// Wanted and missing; more than 0 while the metadata is unknown.
    pub left: u64,
}

/// One announce, for whichever protocol.
#[derive(Debug, Clone, Copy)]
pub struct Announce<'a> {
    /// The torrent; v2 hashes are truncated (BEP 52).
    pub info_hash: Id20,
    /// Who we are.
    pub peer_id: PeerId,
    /// Where peers reach us.
    pub port: u16,
    /// What we did.
    pub figures: Figures,
    /// What happened.
    pub event: AnnounceEvent,
    /// By this the tracker knows us again when our address changes.
    pub key: u32,
    /// Whether we want peers that speak encrypted; only told over HTTP.
    pub encryption: EncryptionMode,
    /// Peers we would like to be told of.
    pub num_want: u16,
    /// What the tracker wanted to hear again.
    pub tracker_id: &'a [u8],
}

/// The trackers of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// With the machine's seed, names the torrent's random stream.
    pub number: u64,
    /// The torrent.
    pub info_hash: Id20,
    /// URLs in tiers (BEP 12); the first tier is the first asked.
    pub tiers: Vec<Vec<String>>,
}

/// Names a job within the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobToken(pub u64);

/// A job the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// See [`crate::io::Work::Resolve`].
    Resolve {
        /// The name.
        host: String,
        /// The port, for context only.
        port: u16,
    },
    /// See [`crate::io::Work::HttpGet`].
    Get {
        /// The URL.
        url: String,
        /// Who redirected us there.
        redirected_by: Option<IpAddr>,
    },
}

/// What the machine is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// A socket can be used; peers reach us at the port of the first.
    SocketUp(SocketId, SocketAddr),
    /// The socket is gone.
    SocketDown(SocketId),
    /// A datagram for which [`Trackers::is_answer`] holds; others change nothing.
    Datagram {
        /// Where it arrived.
        socket: SocketId,
        /// Who sent it.
        from: SocketAddr,
        /// What it says.
        payload: &'a [u8],
    },
    /// A datagram could not be sent there.
    SendFailed(SocketAddr),
    /// A torrent and its trackers; one that is known already changes nothing.
    Add(TorrentId, Setup),
    /// How much a torrent wants peers.
    Want(TorrentId, Want),
    /// The figures of a torrent at this moment; answers [`Event::Due`].
    Figures(TorrentId, Figures),
    /// The last missing byte of a torrent came.
    Completed(TorrentId),
    /// Say goodbye where we said hello; [`Event::Stopped`] follows within
    /// `tracker.stop_patience`.
    Stop(TorrentId, Figures),
    /// A job is done.
    JobDone(JobToken, JobResult),
}

/// What the machine tells and asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It may be time to announce: the torrent's figures are needed.
    Due(TorrentId),
    /// Do a job; answered by [`Input::JobDone`].
    Job(JobToken, Job),
    /// The result of a job no longer matters.
    Cancel(JobToken),
    /// Peers that a tracker told of, filtered by where it is itself.
    Peers(TorrentId, Vec<SocketAddr>),
    /// A tracker says that we are at an address (BEP 24).
    ExternalIp {
        /// Where the tracker is.
        voter: IpAddr,
        /// Where it says we are.
        claim: IpAddr,
    },
    /// How a tracker stands.
    Status(Box<Status>),
    /// A stopped torrent is forgotten.
    Stopped(TorrentId),
}

/// How a tracker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The torrent.
    pub torrent: TorrentId,
    /// The tracker, as the torrent names it.
    pub url: Arc<str>,
    /// Its state; `Disabled` for one that cannot be asked.
    pub status: SourceStatus,
    /// Time until it is asked again.
    pub next_update: Option<Duration>,
    /// Peers that have everything, as it says.
    pub seeds: Option<u32>,
    /// Peers that lack something, as it says.
    pub leechers: Option<u32>,
    /// Peers it told of when it was asked last.
    pub peers: u32,
    /// What went wrong, or what the tracker wants people to know.
    pub message: Option<String>,
}

// Rule: small values. Events wait in the engine's work list.
const _: () = assert!(size_of::<Event>() <= 64);
