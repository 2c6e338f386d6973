//! Torrent files and magnet links (BEP 3, 9, 12, 19, 27, 47, 52, 53).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::InfoHashes;

mod build;
mod error;
mod hashing;
mod ignored;
mod info;
mod layout;
mod magnet;
pub mod merkle;
mod path;
mod torrent;
mod tree;

pub use build::{BuildError, Hashes, Plan, Source, Stretch, auto_piece_length};
pub use error::MetainfoError;
pub use hashing::{Part, PieceHash, PieceHasher};
pub use ignored::Ignored;
pub use info::Rules;
pub use layout::{Span, Spans};
pub use magnet::{Magnet, MagnetError};
pub use path::{PathStyle, clean_element, clean_path};

#[cfg(test)]
mod tests;

/// Which of the two formats an `info` dictionary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// BEP 3 only.
    V1,
    /// BEP 52 only.
    V2,
    /// Both, describing the same files.
    Hybrid,
}

/// The `info` dictionary, read and validated.
#[derive(Debug, PartialEq, Eq)]
pub struct Info {
    /// The bytes that are hashed, exactly as they came.
    pub raw: Bytes,
    /// v1 and v2 hashes of `raw`.
    pub hashes: InfoHashes,
    /// The format.
    pub version: Version,
    /// Suggested name, one clean path element.
    pub name: String,
    /// Bytes per piece.
    pub piece_length: u32,
    /// Number of pieces of the v1 view (v2-only: pieces of all files one after another).
    pub piece_count: u32,
    /// Length of the whole content in piece space, pad files included.
    pub total_length: u64,
    /// The v1 piece hashes, 20 bytes each; empty for v2-only torrents.
    pub pieces: Bytes,
    /// Every file in piece order, pad files included.
    pub files: Vec<File>,
    /// Whether `files` came as one file without a folder.
    pub single_file: bool,
    /// BEP 27.
    pub private: bool,
}

/// One file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Clean path elements below the output folder, the torrent's name first unless it is a
    /// single file. No two files of a torrent share a path, pad files aside.
    pub path: Vec<String>,
    /// The last element as it came, where that of `path` is another: two files, or a file and a
    /// folder, would be one on some file system.
    pub given_name: Option<String>,
    /// Bytes.
    pub length: u64,
    /// First byte in piece space.
    pub offset: u64,
    /// A pad file (BEP 47): zeros, never written.
    pub pad: bool,
    /// Attribute `x` (BEP 47).
    pub executable: bool,
    /// Attribute `h` (BEP 47).
    pub hidden: bool,
    /// Target of a symbolic link (attribute `l`, BEP 47), clean elements below the output folder.
    pub symlink: Option<Vec<String>>,
    /// Merkle root of the file (BEP 52); absent in v1 and for empty files.
    pub pieces_root: Option<[u8; 32]>,
}

/// A whole `.torrent` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torrent {
    /// The `info` dictionary.
    pub info: Arc<Info>,
    /// DHT nodes (BEP 5), host and port.
    pub nodes: Vec<(String, u16)>,
    /// Tiers of tracker URLs (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Comment.
    pub comment: Option<String>,
    /// Program that made it.
    pub created_by: Option<String>,
    /// Unix seconds.
    pub creation_date: Option<i64>,
    /// Piece layers by file root (BEP 52), validated against the roots.
    pub piece_layers: BTreeMap<[u8; 32], Bytes>,
    /// Nodes, trackers and web seeds that cannot be read.
    pub ignored: Vec<Ignored>,
}

impl Info {
    /// Bytes of piece `index`; 0 past the end. The last piece may be short.
    #[must_use]
    pub fn piece_size(&self, index: u32) -> u32 {
        let start = u64::from(index) * u64::from(self.piece_length);
        self.total_length
            .saturating_sub(start)
            .min(u64::from(self.piece_length)) as u32
    }

    /// The v1 hash of piece `index`.
    #[must_use]
    pub fn piece_hash(&self, index: u32) -> Option<[u8; 20]> {
        let start = index as usize * 20;
        self.pieces.get(start..start + 20)?.try_into().ok()
    }
}
