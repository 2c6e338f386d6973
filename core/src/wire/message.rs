//! The messages of the peer wire protocol (BEP 3, 6, 10).

use bytes::Bytes;

/// A block asked for: part of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// Piece index.
    pub piece: u32,
    /// First byte within the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// One message, block data excepted on the way in (see [`super::Event::BlockPart`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Empty frame.
    KeepAlive,
    /// 0
    Choke,
    /// 1
    Unchoke,
    /// 2
    Interested,
    /// 3
    NotInterested,
    /// 4
    Have(u32),
    /// 5: one bit a piece, most significant first.
    Bitfield(Bytes),
    /// 6
    Request(BlockRef),
    /// 7: `data` begins at `begin` of `piece`.
    Piece {
        /// Piece index.
        piece: u32,
        /// First byte within the piece.
        begin: u32,
        /// The block.
        data: Bytes,
    },
    /// 8
    Cancel(BlockRef),
    /// 9: UDP port of the peer's DHT node (BEP 5).
    Port(u16),
    /// 13 (BEP 6)
    Suggest(u32),
    /// 14 (BEP 6)
    HaveAll,
    /// 15 (BEP 6)
    HaveNone,
    /// 16 (BEP 6)
    Reject(BlockRef),
    /// 17 (BEP 6)
    AllowedFast(u32),
    /// 20, 0: extension handshake (BEP 10).
    ExtensionHandshake(alloc::boxed::Box<ExtensionHandshake>),
    /// 20: `ut_metadata` (BEP 9). On the way out the connection supplies the peer's number for it.
    Metadata(crate::metadata::Message),
    /// 20: `lt_donthave` (BEP 54): the sender no longer has that piece. The number is supplied.
    DontHave(u32),
    /// 20: `ut_pex` (BEP 11), as [`crate::pex::Message`] reads it. The number is supplied as well.
    Pex(Bytes),
}

/// What an extension handshake says (BEP 10). Fields a peer left out are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionHandshake {
    /// The sender's number for `ut_metadata`; 0 is off.
    pub ut_metadata: Option<u8>,
    /// The sender's number for `ut_pex`.
    pub ut_pex: Option<u8>,
    /// The sender's number for `lt_donthave` (BEP 54).
    pub lt_donthave: Option<u8>,
    /// The sender's number for `ut_holepunch` (BEP 55).
    pub ut_holepunch: Option<u8>,
    /// It prefers encrypted connections (`e`).
    pub prefers_encryption: bool,
    /// Size of the metadata, bytes.
    pub metadata_size: Option<u32>,
    /// Listening port.
    pub port: Option<u16>,
    /// Requests the sender queues for us.
    pub reqq: Option<u32>,
    /// Client name and version.
    pub client: Option<alloc::string::String>,
    /// Our address as the sender sees it.
    pub your_ip: Option<core::net::IpAddr>,
    /// The sender fetches nothing, or does again (BEP 21).
    pub upload_only: Option<bool>,
}
