//! The Mainline DHT (BEP 5, 32, 33, 42, 43, 44, 51).

mod asked;
mod changed;
mod checks;
mod client;
pub mod external;
pub mod item;
mod item_client;
mod item_server;
pub mod items;
pub mod krpc;
mod lookup;
mod node;
pub mod rate;
pub mod samples;
pub mod scrape;
pub mod security;
mod server;
pub mod store;
pub mod table;
pub mod token;
mod upkeep;
mod waiting;

pub use node::Dht;

use alloc::sync::Arc;
use core::net::SocketAddr;

use bytes::Bytes;

use item::Item;

use crate::event::{Found, LookupSummary};
use crate::id::Id20;
use crate::io::SocketId;

/// Names a lookup, chosen by whoever starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// Names a signature that is to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

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
    /// Nodes that are known to be there without asking, as if each had answered just now, and a
    /// place among them that is known to be ours: for whoever begins with a network that has been
    /// there before, as a simulation does. It must be right: nothing of it is checked.
    Trusted(&'a [(Id20, SocketAddr)]),
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
    /// A signature was checked: whether it is right.
    Checked(CheckId, bool),
}

/// A lookup to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// One ping.
    Ping(SocketAddr),
    /// The nodes closest to an id.
    FindNode(Id20),
    /// The peers of an info-hash.
    GetPeers(Id20),
    /// The peers of an info-hash; then announces us to the closest nodes.
    Announce(Id20, AnnouncePort),
    /// About how many peers an info-hash has (BEP 33).
    Scrape(Id20),
    /// Info-hashes that one node keeps peers of (BEP 51).
    Sample(SocketAddr),
    /// The item that is kept under a target (BEP 44); of a mutable one the salt has to be known,
    /// empty if it has none.
    Get(Id20, Bytes),
    /// Has an item kept by the nodes closest to its target (BEP 44); with a sequence number, only
    /// in the place of one that has it.
    Put(Arc<Item>, Option<i64>),
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
    /// Is this authentic ([`Item::is_authentic`])? Answered by [`Input::Checked`], or taken to be
    /// not after a while.
    Check(CheckId, Arc<Item>),
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
