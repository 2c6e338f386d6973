//! Routes inputs to the machines and grants them what they share; decides nothing that a
//! protocol decides.

use alloc::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::io::{Input, Outbox, TorrentId};
use crate::time::Instant;

/// The whole engine: one mutator, one deadline.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
}

/// Where a torrent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorrentState {
    /// Metadata is being fetched.
    Metadata,
    /// Data on disk is being checked.
    Checking,
    /// Pieces are being fetched.
    Downloading,
    /// Everything wanted is there.
    Seeding,
    /// Storage failed, or it is being removed.
    Stopped,
}

/// Figures of a torrent at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TorrentStats {
    /// Where it stands.
    pub state: TorrentState,
    /// Bytes verified and committed of the wanted files' pieces, pad files excluded where whole.
    pub done: u64,
    /// Bytes wanted; 0 while the metadata is unknown.
    pub total: u64,
    /// Payload bytes received since it was added.
    pub downloaded: u64,
    /// Payload bytes sent since it was added.
    pub uploaded: u64,
    /// Payload bytes per second received, over the last seconds.
    pub down_rate: u64,
    /// Payload bytes per second sent, over the last seconds.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: u32,
    /// Connected peers that have everything.
    pub seeds: u32,
}

impl Engine {
    /// Makes an engine. The same config, seed and inputs give the same outputs everywhere.
    ///
    /// # Errors
    /// The first field of `config` that is out of range.
    pub fn new(config: Arc<Config>, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        let _ = (seed, now);
        Ok(Self { config })
    }

    /// Takes one input and appends what follows from it to `out`: the only mutator. `now` that
    /// runs backwards is read as standing still.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        let _ = (now, input, out, &self.config);
    }

    /// When the next `Tick` is due at the latest; `None` is never. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Figures of a torrent.
    #[must_use]
    pub fn torrent(&self, torrent: TorrentId) -> Option<TorrentStats> {
        let _ = torrent;
        None
    }
}
