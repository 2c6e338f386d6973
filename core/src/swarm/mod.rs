//! One torrent: its peers, pieces and policies.

pub mod bitfield;
pub mod choker;
mod io;
pub mod picker;
pub mod rate;

use alloc::sync::Arc;
use alloc::vec::Vec;

pub use io::{Event, Grant, Input, Job, JobToken};

use crate::config::Config;
use crate::engine::{TorrentState, TorrentStats};
use crate::id::InfoHashes;
use crate::io::TorrentId;
use crate::metainfo::Info;
use crate::time::Instant;

/// How one torrent is to be handled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Indices of the wanted files; empty means all.
    pub select: Vec<u32>,
    /// Pieces in order instead of rarest first.
    pub sequential: bool,
    /// Stop once the metadata is there.
    pub metadata_only: bool,
    /// Hash everything on disk, whatever the resume data says.
    pub check: bool,
}

/// One torrent.
#[derive(Debug)]
pub struct Swarm {
    hashes: InfoHashes,
    info: Option<Arc<Info>>,
}

impl Swarm {
    /// Starts a torrent: with its metadata (`info`) storage is opened, without it the metadata
    /// is fetched from peers first. `number` and `seed` name its random streams.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, all are needed"
    )]
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        torrent: TorrentId,
        number: u64,
        seed: &[u8; 32],
        hashes: InfoHashes,
        info: Option<Arc<Info>>,
        options: Options,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Self {
        let _ = (config, torrent, number, seed, options, now, events);
        Self { hashes, info }
    }

    /// Takes one input and appends what follows from it to `events`.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, events: &mut Vec<Event>) {
        let _ = (now, input, events);
    }

    /// When the next `Tick` is due at the latest. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// The metadata, once it is known.
    #[must_use]
    pub fn info(&self) -> Option<&Arc<Info>> {
        self.info.as_ref()
    }

    /// The hashes that name the torrent.
    #[must_use]
    pub fn hashes(&self) -> &InfoHashes {
        &self.hashes
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> TorrentStats {
        TorrentStats {
            state: TorrentState::Stopped,
            done: 0,
            total: 0,
            downloaded: 0,
            uploaded: 0,
            down_rate: 0,
            up_rate: 0,
            peers: 0,
            seeds: 0,
        }
    }
}
