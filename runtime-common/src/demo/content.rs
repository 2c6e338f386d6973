use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use trackerless_core::metainfo::Torrent;

use crate::error::Failure;
use crate::offline::{CreatePlan, create};

/// Name of the file that is shared.
const NAME: &str = "demo.bin";
const PIECE: u32 = 64 * 1024;
/// Bytes made and hashed at once; a multiple of 8.
const CHUNK: usize = 256 * 1024;

/// The file that is shared, in a temporary folder that goes away with this.
#[derive(Debug)]
pub(super) struct Content {
    root: Root,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    pub(super) torrent: Arc<Torrent>,
    pub(super) magnet: String,
}

/// A folder that goes away with this.
#[derive(Debug)]
struct Root(PathBuf);

impl Root {
    fn peer(&self, peer: usize) -> PathBuf {
        self.0.join(format!("peer-{peer}"))
    }
}

impl Content {
    /// Makes a file of `size` bytes where there is room for `copies` of it.
    pub(super) fn make(size: u64, copies: u64) -> Result<Self, Failure> {
        let folder = std::env::temp_dir();
        let failed = |error: io::Error| {
            Failure::failed(format!(
                "temporary folder: {}: {error}; TMPDIR names another",
                folder.display()
            ))
        };
        let (wanted, free) = (size.saturating_mul(copies), free_bytes(&folder));
        if free.is_some_and(|free| free < wanted) {
            return Err(Failure::failed(format!(
                "temporary folder: {}: the copies need {}, and less is free; a smaller --size, or \
                 another folder in TMPDIR",
                folder.display(),
                crate::display::bytes(wanted)
            )));
        }
        let random = || getrandom::u64().map_err(|error| failed(io::Error::other(error)));
        let root = folder.join(format!("trackerless-demo-{:016x}", random()?));
        fs::create_dir(&root).map_err(failed)?;
        // From here on `drop` takes the folder away, whatever happens.
        let root = Root(root);
        let path = root.peer(0).join(NAME);
        fs::create_dir(root.peer(0)).map_err(failed)?;
        let file = fs::File::create(&path).map_err(failed)?;
        let sha256 = write_noise(random()?, size, file).map_err(failed)?;

        let created = create(&CreatePlan {
            path,
            piece_length: Some(PIECE),
            ..CreatePlan::default()
        })?;
        let hash = created.torrent.info.hashes.short();
        Ok(Self {
            root,
            size,
            sha256,
            torrent: Arc::new(created.torrent),
            magnet: format!("magnet:?xt=urn:btih:{hash}"),
        })
    }

    /// Where peer number `peer` keeps its copy.
    pub(super) fn folder(&self, peer: usize) -> PathBuf {
        self.root.peer(peer)
    }

    /// Whether the copy of peer number `peer` is right.
    pub(super) fn is_right(&self, peer: usize) -> bool {
        let digest = || -> io::Result<[u8; 32]> {
            let mut file = fs::File::open(self.folder(peer).join(NAME))?;
            let mut hasher = Sha256::new();
            let mut chunk = vec![0; CHUNK];
            loop {
                match file.read(&mut chunk)? {
                    0 => return Ok(hasher.finalize().into()),
                    read => hasher.update(&chunk[..read]),
                }
            }
        };
        digest().is_ok_and(|digest| digest == self.sha256)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes `size` bytes that no file system or link can compress (SplitMix64), a chunk at a time;
/// returns their hash.
fn write_noise(seed: u64, size: u64, mut to: impl io::Write) -> io::Result<[u8; 32]> {
    let mut state = seed;
    let mut hasher = Sha256::new();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut left = size;
    while left > 0 {
        chunk.clear();
        while chunk.len() < CHUNK {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        chunk.truncate(usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        hasher.update(&chunk);
        to.write_all(&chunk)?;
        left -= chunk.len() as u64;
    }
    to.flush()?;
    Ok(hasher.finalize().into())
}

/// Bytes that may be written below `folder`, where the system tells.
fn free_bytes(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_torrent_describes_the_file_and_the_folder_goes_away() {
        let content = Content::make(100_000, 1).unwrap();
        assert_eq!(content.torrent.info.total_length, 100_000);
        let hash = content.torrent.info.hashes.short().to_string();
        assert!(content.magnet.ends_with(&hash));
        assert!(content.is_right(0) && !content.is_right(1));
        fs::write(content.folder(0).join(NAME), b"other").unwrap();
        assert!(!content.is_right(0));
        let root = content.root.0.clone();
        drop(content);
        assert!(!root.exists());
    }

    #[test]
    fn content_of_any_size_is_made_in_chunks_of_which_none_repeats() {
        struct Sizes(Vec<usize>);
        impl io::Write for Sizes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sizes = Sizes(Vec::new());
        write_noise(1, 2 * CHUNK as u64 + 5, &mut sizes).unwrap();
        assert_eq!(sizes.0, [CHUNK, CHUNK, 5]);
        let mut data = Vec::new();
        let hash = write_noise(1, 2 * CHUNK as u64, &mut data).unwrap();
        assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&data)));
        assert!(data[..CHUNK] != data[CHUNK..]);
    }

    #[test]
    fn copies_that_cannot_fit_are_refused_before_anything_is_made() {
        let failure = Content::make(1 << 30, u64::MAX >> 30).unwrap_err();
        assert!(failure.message.contains("--size"), "{failure}");
    }
}
