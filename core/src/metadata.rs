//! Metadata from peers (`ut_metadata`, BEP 9).

mod assembly;
mod fetch;

use alloc::vec::Vec;

pub use assembly::{Assembled, Checked};
use bytes::Bytes;
pub use fetch::{Event, Fetch, Input};

use crate::bencode::{self, Writer};

/// Bytes of a piece of the metadata; the last one may be shorter.
pub const PIECE_LEN: u32 = 16 * 1024;

/// A `ut_metadata` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for a piece.
    Request {
        /// Index of a 16 KiB piece of the metadata.
        piece: u32,
    },
    /// A piece.
    Data {
        /// Index.
        piece: u32,
        /// Size of the whole metadata, bytes.
        total_size: u32,
        /// 16 KiB, the last piece shorter.
        data: Bytes,
    },
    /// It will not be sent.
    Reject {
        /// Index.
        piece: u32,
    },
}

/// A `ut_metadata` message is not what BEP 9 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Message {
    /// Appends the message, the bytes of a `Data` included.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        self.encode_head(buf);
        if let Self::Data { data, .. } = self {
            buf.extend_from_slice(data);
        }
    }

    /// Appends everything but the bytes of a `Data`, which follow as they are.
    pub fn encode_head(&self, buf: &mut Vec<u8>) {
        let (kind, piece, total) = match self {
            Self::Request { piece } => (0, *piece, None),
            Self::Data {
                piece, total_size, ..
            } => (1, *piece, Some(*total_size)),
            Self::Reject { piece } => (2, *piece, None),
        };
        let mut writer = Writer::new(buf);
        writer
            .dict()
            .key(b"msg_type")
            .int(kind)
            .key(b"piece")
            .int(i64::from(piece));
        if let Some(total) = total {
            writer.key(b"total_size").int(i64::from(total));
        }
        writer.end();
    }

    /// Reads what follows the extension number; `None` for a type that is not known, which is to
    /// be ignored. The bytes of a `Data` are a slice of `payload`.
    ///
    /// # Errors
    /// It is no dictionary, or a field is missing or out of range.
    pub fn decode(payload: &Bytes) -> Result<Option<Self>, Malformed> {
        let limits = bencode::Limits::MESSAGE;
        let (document, used) = bencode::decode_prefix(payload, &limits).map_err(|_| Malformed)?;
        let root = document.root().as_dict().ok_or(Malformed)?;
        let number = |key: &[u8]| root.int(key).and_then(|value| u32::try_from(value).ok());
        let kind = root.int(b"msg_type").ok_or(Malformed)?;
        if !(0..=2).contains(&kind) {
            return Ok(None);
        }
        let piece = number(b"piece").ok_or(Malformed)?;
        Ok(Some(match kind {
            0 => Self::Request { piece },
            1 => {
                let data = payload.slice(used..);
                if data.len() > PIECE_LEN as usize {
                    return Err(Malformed);
                }
                let total_size = number(b"total_size").ok_or(Malformed)?;
                Self::Data {
                    piece,
                    total_size,
                    data,
                }
            }
            _ => Self::Reject { piece },
        }))
    }
}

/// Answers a request for `piece` of the metadata `raw`: the piece without a copy, or a reject.
#[must_use]
pub fn serve(raw: &Bytes, piece: u32) -> Message {
    let start = u64::from(piece) * u64::from(PIECE_LEN);
    match u32::try_from(raw.len()) {
        Ok(total_size) if start < u64::from(total_size) => {
            let start = start as usize;
            let end = raw.len().min(start + PIECE_LEN as usize);
            Message::Data {
                piece,
                total_size,
                data: raw.slice(start..end),
            }
        }
        _ => Message::Reject { piece },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn examples_of_bep_9() {
        let read = |text: &[u8]| Message::decode(&Bytes::copy_from_slice(text));
        let request = Message::Request { piece: 0 };
        assert_eq!(read(b"d8:msg_typei0e5:piecei0ee"), Ok(Some(request)));
        let data = Message::Data {
            piece: 0,
            total_size: 34256,
            data: Bytes::from_static(b"xx"),
        };
        assert_eq!(
            read(b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexx"),
            Ok(Some(data))
        );
        let reject = Message::Reject { piece: 0 };
        assert_eq!(read(b"d8:msg_typei2e5:piecei0ee"), Ok(Some(reject)));
        assert_eq!(read(b"d8:msg_typei3e5:piecei0ee"), Ok(None));
        assert_eq!(read(b"d8:msg_typei0ee"), Err(Malformed));
        assert_eq!(read(b"d8:msg_typei0e5:piecei-1ee"), Err(Malformed));
        assert_eq!(read(b"d8:msg_typei1e5:piecei0eex"), Err(Malformed));
        assert_eq!(read(b"i0e"), Err(Malformed));
    }

    #[test]
    fn a_piece_longer_than_16_kib_is_refused() {
        let message = |len: usize| {
            let data = Bytes::from(alloc::vec![0; len]);
            let mut buf = Vec::new();
            Message::Data {
                piece: 0,
                total_size: 99_999,
                data,
            }
            .encode(&mut buf);
            Message::decode(&buf.into())
        };
        assert!(message(PIECE_LEN as usize).is_ok());
        assert_eq!(message(PIECE_LEN as usize + 1), Err(Malformed));
    }

    #[test]
    fn serving_cuts_pieces_without_copying() {
        let raw = Bytes::from(alloc::vec![7; PIECE_LEN as usize + 5]);
        let Message::Data {
            total_size, data, ..
        } = serve(&raw, 1)
        else {
            panic!("rejected")
        };
        assert_eq!((total_size, data.len()), (PIECE_LEN + 5, 5));
        assert_eq!(data.as_ptr(), raw[PIECE_LEN as usize..].as_ptr());
        assert_eq!(serve(&raw, 2), Message::Reject { piece: 2 });
        assert_eq!(serve(&raw, u32::MAX), Message::Reject { piece: u32::MAX });
        assert_eq!(serve(&Bytes::new(), 0), Message::Reject { piece: 0 });
    }

    quickcheck! {
        fn round_trips(kind: u8, piece: u32, total_size: u32, data: Vec<u8>) -> bool {
            let message = match kind % 3 {
                0 => Message::Request { piece },
                1 => Message::Data { piece, total_size, data: data.into() },
                _ => Message::Reject { piece },
            };
            let mut buf = Vec::new();
            message.encode(&mut buf);
            Message::decode(&buf.into()) == Ok(Some(message))
        }

        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
            match Message::decode(&bytes.clone().into()) {
                Ok(Some(Message::Data { data, .. })) => bytes.ends_with(&data),
                _ => true,
            }
        }
    }
}
