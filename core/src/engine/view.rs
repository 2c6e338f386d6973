//! What can be read of an engine without changing it.

use alloc::sync::Arc;
use core::net::SocketAddr;

use super::Engine;
use crate::config::Config;
use crate::dht::Dht;
use crate::id::{InfoHashes, PeerId};
use crate::io::TorrentId;
use crate::metainfo::Info;

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
    /// Bytes verified and committed of the wanted pieces.
    pub done: u64,
    /// Bytes wanted; 0 while the metadata is unknown.
    pub total: u64,
    /// Payload bytes received since it was added.
    pub downloaded: u64,
    /// Payload bytes sent since it was added.
    pub uploaded: u64,
    /// Payload bytes sent by earlier runs, as far as what they saved tells.
    pub uploaded_before: u64,
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
    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Our peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Addresses of the sockets that are up.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(_, local)| *local)
    }

    /// The DHT, unless it is off.
    #[must_use]
    pub fn dht(&self) -> Option<&Dht> {
        self.dht.as_ref()
    }

    /// Every torrent, in no order that means anything.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentId> + '_ {
        self.torrents.iter().map(|(key, _)| TorrentId(key))
    }

    /// Figures of a torrent.
    #[must_use]
    pub fn torrent(&self, torrent: TorrentId) -> Option<TorrentStats> {
        self.torrents
            .at(torrent.0)
            .map(|torrent| torrent.swarm.stats())
    }

    /// The metadata of a torrent, once it is known.
    #[must_use]
    pub fn info(&self, torrent: TorrentId) -> Option<&Arc<Info>> {
        self.torrents.at(torrent.0)?.swarm.info()
    }

    /// The hashes of a torrent.
    #[must_use]
    pub fn hashes(&self, torrent: TorrentId) -> Option<InfoHashes> {
        self.torrents.at(torrent.0).map(|torrent| torrent.hashes)
    }

    /// Connections, half-open ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Jobs that have not been answered.
    #[must_use]
    pub fn jobs_in_flight(&self) -> usize {
        self.jobs.len()
    }
}
