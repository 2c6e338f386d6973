//! Metadata from peers (`ut_metadata`, BEP 9).

use bytes::Bytes;

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
