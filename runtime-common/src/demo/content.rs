use std::fs;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::error::Failure;
use crate::offline::{CreatePlan, create};

/// Name of the file that is shared.
const NAME: &str = "demo.bin";
const PIECE: u32 = 64 * 1024;

/// The file that is shared, in a temporary folder that goes away with this.
#[derive(Debug)]
pub(super) struct Content {
    root: PathBuf,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    pub(super) torrent: Bytes,
    pub(super) magnet: String,
}

impl Content {
    pub(super) fn make(size: u64) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("temporary folder: {error}"));
        let random = || getrandom::u64().map_err(|error| failed(io::Error::other(error)));
        let root = std::env::temp_dir().join(format!("trackerless-demo-{:016x}", random()?));
        fs::create_dir(&root).map_err(failed)?;
        // From here on `drop` takes the folder away, whatever happens.
        let mut this = Self {
            root,
            size,
            sha256: [0; 32],
            torrent: Bytes::new(),
            magnet: String::new(),
        };
        let data = noise(random()?, usize::try_from(size).unwrap_or(usize::MAX));
        this.sha256 = Sha256::digest(&data).into();
        fs::create_dir(this.folder(0)).map_err(failed)?;
        fs::write(this.folder(0).join(NAME), &data).map_err(failed)?;

        let created = create(&CreatePlan {
            path: this.folder(0).join(NAME),
            piece_length: Some(PIECE),
            ..CreatePlan::default()
        })?;
        let hash = created.torrent.info.hashes.short();
        this.torrent = created.bytes.into();
        this.magnet = format!("magnet:?xt=urn:btih:{hash}");
        Ok(this)
    }

    /// Where peer number `peer` keeps its copy.
    pub(super) fn folder(&self, peer: usize) -> PathBuf {
        self.root.join(format!("peer-{peer}"))
    }

    /// Whether the copy of peer number `peer` is right.
    pub(super) fn is_right(&self, peer: usize) -> bool {
        let copy = fs::read(self.folder(peer).join(NAME));
        copy.is_ok_and(|copy| <[u8; 32]>::from(Sha256::digest(copy)) == self.sha256)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Bytes that no file system or link can compress (SplitMix64).
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut data = Vec::with_capacity(size + 8);
    while data.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        data.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    data.truncate(size);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackerless_core::metainfo::Torrent;

    #[test]
    fn the_torrent_describes_the_file_and_the_folder_goes_away() {
        let content = Content::make(100_000).unwrap();
        let torrent = Torrent::parse(content.torrent.clone()).unwrap();
        assert_eq!(torrent.info.total_length, 100_000);
        let hash = torrent.info.hashes.short().to_string();
        assert!(content.magnet.ends_with(&hash));
        assert!(content.is_right(0) && !content.is_right(1));
        fs::write(content.folder(0).join(NAME), b"other").unwrap();
        assert!(!content.is_right(0));
        let root = content.root.clone();
        drop(content);
        assert!(!root.exists());
    }
}
