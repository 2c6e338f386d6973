//! One peer connection: handshake, frames, extensions (BEP 3, 6, 10).

pub mod message;

use bytes::{Bytes, BytesMut};
pub use message::{BlockRef, ExtensionHandshake, Message};

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
    /// Answer an inbound handshake: we have that torrent.
    Admit {
        /// The info-hash it asked for.
        info_hash: Id20,
    },
    /// Send a message.
    Send(Message),
}

/// What a connection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
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
    /// Part of a block, in order, as it arrives; never copied.
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
