//! The Mainline DHT (BEP 5, 32, 42, 43).

mod asked;
mod changed;
mod client;
pub mod external;
pub mod krpc;
mod lookup;
mod node;
pub mod rate;
pub mod security;
mod server;
pub mod store;
pub mod table;
pub mod token;
mod upkeep;
mod waiting;

pub use node::Dht;

use core::net::SocketAddr;

use crate::event::{Found, LookupSummary};
use crate::id::Id20;
use crate::io::SocketId;

/// Names a lookup, chosen by whoever starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// What the DHT is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// A socket of the address family of `local` can be used.
    SocketUp(SocketId, SocketAddr),
    /// The socket is gone.
    SocketDown(SocketId),
    /// A datagram that begins like a bencoded dictionary.
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
    /// A node heard of by other means (PORT, `nodes` key, embedder): pinged, enters if it answers.
    AddNode(SocketAddr),
    /// Look our own id up through these contacts, which never enter the table as routers.
    Bootstrap(&'a [SocketAddr]),
    /// Somebody who is no node says where we are: a vote on our address (BEP 24).
    ExternalIp {
        /// Who says so.
        voter: core::net::IpAddr,
        /// Where we are, it says.
        claim: core::net::IpAddr,
    },
    /// Load a table saved by [`Dht::save`].
    Load(&'a [u8]),
    /// Start a lookup.
    Start(LookupId, Lookup),
    /// Stop a lookup; nothing more is told of it.
    Stop(LookupId),
}

/// A lookup to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// One ping.
    Ping(SocketAddr),
    /// The nodes closest to an id.
    FindNode(Id20),
    /// The peers of an info-hash.
    GetPeers(Id20),
    /// The peers of an info-hash; then announces us to the closest nodes.
    Announce(Id20, AnnouncePort),
}

/// The port that an announce names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnouncePort {
    /// This one.
    Given(u16),
    /// That of the socket which the announce leaves from, in each family its own: connections are
    /// taken there too.
    Ours,
    /// The one that the datagram shows to who gets it (`implied_port`).
    AsSeen,
}

/// What the DHT tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Part of a lookup's result.
    Found(LookupId, Found),
    /// A lookup is over.
    Done(LookupId, LookupSummary),
    /// A lookup was refused: too many wait, or there is no socket.
    Refused(LookupId),
    /// Saved data was not a table: why.
    BadState(&'static str),
    /// Good nodes per family, and whether the bootstrap is over.
    Status {
        /// IPv4.
        nodes_v4: u32,
        /// IPv6.
        nodes_v6: u32,
        /// The first lookup of our own id is over.
        bootstrapped: bool,
    },
}

#[cfg(test)]
mod tests;
