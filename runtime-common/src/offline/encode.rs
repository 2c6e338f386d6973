//! What surrounds `info` in a `.torrent` file.

use std::sync::Arc;

use trackerless_core::metainfo::{Info, Torrent};

/// What surrounds `info` in a `.torrent` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outer {
    /// Tiers of tracker URLs (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// DHT nodes (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Comment.
    pub comment: Option<String>,
    /// Program that made it.
    pub created_by: Option<String>,
    /// Unix seconds.
    pub creation_date: Option<i64>,
}

impl Outer {
    /// A torrent of `info` within this.
    #[must_use]
    pub fn around(&self, info: Arc<Info>) -> Torrent {
        let mut torrent = Torrent::from_info(info);
        self.put_into(&mut torrent);
        torrent
    }

    /// Puts this around a torrent's `info`; its piece layers stay.
    pub(super) fn put_into(&self, torrent: &mut Torrent) {
        let outer = self.clone();
        torrent.trackers = outer.trackers;
        torrent.nodes = outer.nodes;
        torrent.web_seeds = outer.web_seeds;
        torrent.comment = outer.comment;
        torrent.created_by = outer.created_by;
        torrent.creation_date = outer.creation_date;
    }
}
