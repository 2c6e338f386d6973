//! What goes into a connection and what comes out of it.

use bytes::{Bytes, BytesMut};

use super::message::{BlockRef, Message};
use crate::event::CloseReason;
use crate::id::{Id20, PeerId};

/// What a connection is told.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The stream stands (outgoing ones).
    Connected,
    /// Bytes arrived.
    Received(BytesMut),
    /// This many bytes left for the kernel.
    Sent(u32),
    /// Whether the stream is read from. While it is not, by our own choice, silence is not the
    /// remote's.
    Reading(bool),
    /// The torrent has so many pieces: a longer bitfield is refused from now on. Until then it is
    /// [`max_pieces`](crate::config::SwarmConfig::max_pieces) that bounds it.
    Pieces(u32),
    /// Answer an inbound handshake: we have that torrent.
    Admit {
        /// The info-hash it asked for.
        info_hash: Id20,
    },
    /// The answer to [`Event::Sought`]: the info-hash, if we have such a torrent.
    Found(Option<Id20>),
    /// Send a message.
    Send(Message),
}

/// What a connection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Inbound and encrypted: which torrent has this
    /// [`torrent_hash`](crate::wire::mse::torrent_hash)? Nothing more is read until `Found`.
    Sought(Id20),
    /// The remote's handshake is complete. Inbound: nothing more is read until `Admit`.
    Handshake {
        /// The torrent it means.
        info_hash: Id20,
        /// Who it says it is.
        peer_id: PeerId,
        /// It speaks the fast extension (BEP 6).
        fast: bool,
        /// It speaks the extension protocol (BEP 10).
        extended: bool,
        /// It has a DHT node (BEP 5).
        dht: bool,
    },
    /// A message, in order.
    Message(Message),
    /// Part of a block, in order, as it arrives. It is a slice of what was read, or a copy where
    /// blocks are less than half of that: it pins no more than about twice itself.
    BlockPart {
        /// Block as announced by the frame.
        block: BlockRef,
        /// First byte of this part within the block.
        offset: u32,
        /// The bytes; the block is whole when `offset + data.len() == block.length`.
        data: Bytes,
    },
    /// Send room came back: unsent bytes fell below half the send window.
    Writable,
    /// The connection must be closed.
    Failed(CloseReason),
}
