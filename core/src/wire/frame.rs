//! Frames: a length, an id, a payload (BEP 3, 6, 10). Cut without copying block data.

use alloc::vec::Vec;
use core::mem;

use bytes::{Buf as _, Bytes, BytesMut};

use super::extension::{self, LT_DONTHAVE, UT_METADATA, UT_PEX};
use super::message::{BlockRef, Message};
use crate::config::WireConfig;
use crate::metadata;

/// Longest frame of `ut_metadata`: one piece and a small dictionary.
const MAX_METADATA_FRAME: u32 = metadata::PIECE_LEN + 1024;

/// Bytes of the longest head: length, id and three numbers.
const HEAD_LEN: usize = 17;

const LONG_BITFIELD: &str = "bitfield longer than the torrent's";

mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
}

/// The part of a message that [`encode_head`] leaves out: it is sent as it is, never copied.
#[must_use]
pub fn body(message: &Message) -> Bytes {
    match message {
        Message::Bitfield(data)
        | Message::Piece { data, .. }
        | Message::Metadata(metadata::Message::Data { data, .. })
        | Message::Pex(data) => data.clone(),
        _ => Bytes::new(),
    }
}

/// Appends everything of a message but its [`body`]. `number` is the receiver's number for the
/// extension that the message belongs to, if it does.
pub fn encode_head(message: &Message, number: u8, buf: &mut Vec<u8>) {
    let start = buf.len();
    buf.extend_from_slice(&[0; 4]);
    let mut body_len = 0;
    let mut put = |id: u8, numbers: &[u32]| {
        buf.push(id);
        for number in numbers {
            buf.extend_from_slice(&number.to_be_bytes());
        }
    };
    let block = |block: &BlockRef| [block.piece, block.begin, block.length];
    match message {
        Message::KeepAlive => {}
        Message::Choke => put(id::CHOKE, &[]),
        Message::Unchoke => put(id::UNCHOKE, &[]),
        Message::Interested => put(id::INTERESTED, &[]),
        Message::NotInterested => put(id::NOT_INTERESTED, &[]),
        Message::Have(piece) => put(id::HAVE, &[*piece]),
        Message::Bitfield(bits) => {
            put(id::BITFIELD, &[]);
            body_len = bits.len();
        }
        Message::Request(wanted) => put(id::REQUEST, &block(wanted)),
        Message::Piece { piece, begin, data } => {
            put(id::PIECE, &[*piece, *begin]);
            body_len = data.len();
        }
        Message::Cancel(wanted) => put(id::CANCEL, &block(wanted)),
        Message::Port(port) => {
            put(id::PORT, &[]);
            buf.extend_from_slice(&port.to_be_bytes());
        }
        Message::Suggest(piece) => put(id::SUGGEST, &[*piece]),
        Message::HaveAll => put(id::HAVE_ALL, &[]),
        Message::HaveNone => put(id::HAVE_NONE, &[]),
        Message::Reject(wanted) => put(id::REJECT, &block(wanted)),
        Message::AllowedFast(piece) => put(id::ALLOWED_FAST, &[*piece]),
        Message::ExtensionHandshake(handshake) => {
            buf.extend_from_slice(&[id::EXTENDED, 0]);
            extension::encode_handshake(handshake, buf);
        }
        Message::Metadata(message) => {
            buf.extend_from_slice(&[id::EXTENDED, number]);
            message.encode_head(buf);
            if let metadata::Message::Data { data, .. } = message {
                body_len = data.len();
            }
        }
        Message::DontHave(piece) => {
            buf.extend_from_slice(&[id::EXTENDED, number]);
            buf.extend_from_slice(&piece.to_be_bytes());
        }
        Message::Pex(data) => {
            buf.extend_from_slice(&[id::EXTENDED, number]);
            body_len = data.len();
        }
    }
    let len = (buf.len() - start - 4 + body_len) as u32;
    buf[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Something cut off a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A message that is no block.
    Message(Message),
    /// Part of a block.
    BlockPart {
        /// The block its frame announced.
        block: BlockRef,
        /// First byte of this part within the block.
        offset: u32,
        /// The bytes: a slice of what was read.
        data: Bytes,
    },
    /// A message that means nothing here (unknown id or extension).
    Skipped,
}

/// What was negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Fast extension (BEP 6).
    pub fast: bool,
    /// Extension protocol (BEP 10).
    pub extended: bool,
    /// We take part in peer exchange (BEP 11): otherwise its messages mean nothing.
    pub pex: bool,
}

/// Cuts a stream into messages. It remembers at most one unfinished head (inline) and one
/// unfinished payload, which grows only by what arrived.
#[derive(Debug)]
pub struct Decoder {
    head: [u8; HEAD_LEN],
    have: u8,
    /// Longest bitfield, bytes.
    max_bitfield: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// The head is not complete.
    Head,
    Block {
        block: BlockRef,
        offset: u32,
    },
    /// A payload that is handed on whole.
    Whole {
        kind: Whole,
        len: u32,
        data: Vec<u8>,
    },
    Skip {
        left: u32,
    },
}

#[derive(Debug, Clone, Copy)]
enum Whole {
    Bitfield,
    ExtensionHandshake,
    Metadata,
    Pex,
    DontHave,
}

impl Decoder {
    /// The beginning of a stream about a torrent of at most so many pieces.
    #[must_use]
    pub fn new(pieces: u32) -> Self {
        Self {
            head: [0; HEAD_LEN],
            have: 0,
            max_bitfield: pieces.div_ceil(8),
            body: Body::Head,
        }
    }

    /// The torrent has so many pieces.
    ///
    /// # Errors
    /// The bitfield that is arriving is longer than that.
    pub fn set_pieces(&mut self, pieces: u32) -> Result<(), &'static str> {
        self.max_bitfield = pieces.div_ceil(8);
        match &self.body {
            Body::Whole {
                kind: Whole::Bitfield,
                len,
                ..
            } if *len > self.max_bitfield => Err(LONG_BITFIELD),
            _ => Ok(()),
        }
    }

    /// Cuts one message, or part of a block, off the front of `chunk`. `None` when `chunk` is used
    /// up and more is needed.
    ///
    /// # Errors
    /// The rule that was broken. The stream has lost its meaning then: close it.
    pub fn decode(
        &mut self,
        chunk: &mut BytesMut,
        config: &WireConfig,
        abilities: Abilities,
    ) -> Result<Option<Decoded>, &'static str> {
        loop {
            match &mut self.body {
                Body::Head => {
                    let need = self.head_len();
                    let missing = need - usize::from(self.have);
                    let taken = missing.min(chunk.len());
                    let at = usize::from(self.have);
                    self.head[at..at + taken].copy_from_slice(&chunk[..taken]);
                    chunk.advance(taken);
                    self.have += taken as u8;
                    // Whatever the message is: who names such a length need not say more.
                    if self.have >= 4 && self.frame_len() > config.max_frame {
                        return Err("frame too long");
                    }
                    if taken < missing {
                        return Ok(None);
                    }
                    if need == 5 {
                        self.check_length(config, abilities)?;
                    }
                    if self.head_len() == need {
                        self.have = 0;
                        if let Some(decoded) = self.on_head(config, abilities)? {
                            return Ok(Some(decoded));
                        }
                    }
                }
                Body::Block { block, offset } => {
                    if chunk.is_empty() {
                        return Ok(None);
                    }
                    let data = take(chunk, (block.length - *offset) as usize);
                    let (block, at) = (*block, *offset);
                    *offset += data.len() as u32;
                    if *offset == block.length {
                        self.body = Body::Head;
                    }
                    return Ok(Some(Decoded::BlockPart {
                        block,
                        offset: at,
                        data,
                    }));
                }
                Body::Whole { kind, len, data } => {
                    let missing = *len as usize - data.len();
                    // Copied, even where it lies whole in one read: it would pin all of that.
                    let taken = missing.min(chunk.len());
                    data.extend_from_slice(&chunk[..taken]);
                    chunk.advance(taken);
                    if taken < missing {
                        return Ok(None);
                    }
                    let payload = Bytes::from(mem::take(data));
                    let kind = *kind;
                    self.body = Body::Head;
                    return on_whole(kind, &payload, config).map(Some);
                }
                Body::Skip { left } => {
                    let skipped = (*left as usize).min(chunk.len());
                    chunk.advance(skipped);
                    *left -= skipped as u32;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.body = Body::Head;
                    return Ok(Some(Decoded::Skipped));
                }
            }
        }
    }

    /// Memory held for an unfinished payload, bytes.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        match &self.body {
            Body::Whole { data, .. } => data.capacity(),
            _ => 0,
        }
    }

    /// Bytes of the head, as far as what is there tells.
    fn head_len(&self) -> usize {
        if self.have < 4 || (self.have == 4 && self.frame_len() == 0) {
            return 4;
        }
        if self.have == 4 {
            return 5;
        }
        5 + match self.head[4] {
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => 4,
            id::REQUEST | id::CANCEL | id::REJECT => 12,
            id::PIECE => 8,
            id::PORT => 2,
            id::EXTENDED => 1,
            _ => 0,
        }
    }

    fn frame_len(&self) -> u32 {
        self.number(0)
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = &self.head[at..at + 4];
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn check_length(&self, config: &WireConfig, abilities: Abilities) -> Result<(), &'static str> {
        let (len, id) = (self.frame_len(), self.head[4]);
        let right = match id {
            id::CHOKE..=id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => len == 1,
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => len == 5,
            id::REQUEST | id::CANCEL | id::REJECT => len == 13,
            id::PORT => len == 3,
            id::PIECE if len <= 9 => return Err("empty block"),
            id::PIECE if len - 9 > config.max_block => return Err("block too long"),
            id::BITFIELD if len - 1 > self.max_bitfield => return Err(LONG_BITFIELD),
            id::EXTENDED => len >= 2,
            _ => true,
        };
        if !right {
            return Err("wrong length of message");
        }
        match id {
            id::SUGGEST..=id::ALLOWED_FAST if !abilities.fast => {
                Err("fast extension not negotiated")
            }
            id::EXTENDED if !abilities.extended => Err("extension protocol not negotiated"),
            _ => Ok(()),
        }
    }

    /// The head is complete: a whole message, or the beginning of a payload.
    fn on_head(
        &mut self,
        config: &WireConfig,
        abilities: Abilities,
    ) -> Result<Option<Decoded>, &'static str> {
        let len = self.frame_len();
        if len == 0 {
            return Ok(Some(Decoded::Message(Message::KeepAlive)));
        }
        let id = self.head[4];
        let block = BlockRef {
            piece: self.number(5),
            begin: self.number(9),
            length: self.number(13),
        };
        let message = match id {
            id::CHOKE => Message::Choke,
            id::UNCHOKE => Message::Unchoke,
            id::INTERESTED => Message::Interested,
            id::NOT_INTERESTED => Message::NotInterested,
            id::HAVE => Message::Have(self.number(5)),
            id::REQUEST => {
                check_block(block, config)?;
                Message::Request(block)
            }
            id::CANCEL => Message::Cancel(block),
            id::PORT => Message::Port(u16::from_be_bytes([self.head[5], self.head[6]])),
            id::SUGGEST => Message::Suggest(self.number(5)),
            id::HAVE_ALL => Message::HaveAll,
            id::HAVE_NONE => Message::HaveNone,
            id::REJECT => Message::Reject(block),
            id::ALLOWED_FAST => Message::AllowedFast(self.number(5)),
            id::PIECE => {
                let block = BlockRef {
                    length: len - 9,
                    ..block
                };
                check_block(block, config)?;
                self.body = Body::Block { block, offset: 0 };
                return Ok(None);
            }
            id::BITFIELD => {
                self.body = whole(Whole::Bitfield, len - 1);
                return Ok(None);
            }
            id::EXTENDED => {
                self.body = match self.head[5] {
                    0 if len - 2 > config.max_extension_handshake => {
                        return Err("extension handshake too long");
                    }
                    0 => whole(Whole::ExtensionHandshake, len - 2),
                    UT_METADATA if len > MAX_METADATA_FRAME => {
                        return Err("metadata message too long");
                    }
                    UT_METADATA => whole(Whole::Metadata, len - 2),
                    UT_PEX if abilities.pex && len - 2 > config.max_peer_exchange => {
                        return Err("peer exchange too long");
                    }
                    UT_PEX if abilities.pex => whole(Whole::Pex, len - 2),
                    LT_DONTHAVE if len != 6 => return Err("wrong length of lt_donthave"),
                    LT_DONTHAVE => whole(Whole::DontHave, 4),
                    _ => Body::Skip { left: len - 2 },
                };
                return Ok(None);
            }
            _ => {
                self.body = Body::Skip { left: len - 1 };
                return Ok(None);
            }
        };
        Ok(Some(Decoded::Message(message)))
    }
}

const fn whole(kind: Whole, len: u32) -> Body {
    Body::Whole {
        kind,
        len,
        data: Vec::new(),
    }
}

fn check_block(block: BlockRef, config: &WireConfig) -> Result<(), &'static str> {
    if block.length == 0 {
        Err("empty block")
    } else if block.length > config.max_block {
        Err("block too long")
    } else if block.begin.checked_add(block.length).is_none() {
        Err("block past the end of any piece")
    } else {
        Ok(())
    }
}

fn on_whole(kind: Whole, payload: &Bytes, config: &WireConfig) -> Result<Decoded, &'static str> {
    Ok(match kind {
        Whole::Bitfield => Decoded::Message(Message::Bitfield(payload.clone())),
        Whole::ExtensionHandshake => {
            let handshake = extension::decode_handshake(payload, config.max_client_name)
                .ok_or("malformed extension handshake")?;
            Decoded::Message(Message::ExtensionHandshake(handshake))
        }
        Whole::DontHave => match <[u8; 4]>::try_from(&payload[..]) {
            Ok(piece) => Decoded::Message(Message::DontHave(u32::from_be_bytes(piece))),
            Err(_) => return Err("wrong length of lt_donthave"),
        },
        Whole::Pex => Decoded::Message(Message::Pex(payload.clone())),
        Whole::Metadata => match metadata::Message::decode(payload) {
            Ok(Some(message)) => Decoded::Message(Message::Metadata(message)),
            Ok(None) => Decoded::Skipped,
            Err(_) => return Err("malformed metadata message"),
        },
    })
}

/// At most `len` bytes off the front, as a slice of the same buffer.
fn take(chunk: &mut BytesMut, len: usize) -> Bytes {
    if len >= chunk.len() {
        mem::take(chunk)
    } else {
        chunk.split_to(len)
    }
    .freeze()
}
