//! The table of the sources of peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trackerless_core::event::{PeerSource, SourceStatus};

use super::text::{duration, source_name, status_name};

#[derive(Debug, Clone, Default)]
struct Row {
    status: Option<SourceStatus>,
    next: Option<Instant>,
    /// Peers it says that it told of.
    told: u32,
    /// Peers that nobody had told of before.
    found: u32,
    connected: u32,
}

/// Which source told of how many peers, and when it is asked next.
#[derive(Debug, Clone, Default)]
pub struct SourceTable {
    rows: BTreeMap<PeerSource, Row>,
}

impl SourceTable {
    /// A source told how it stands.
    pub fn status(
        &mut self,
        source: PeerSource,
        status: SourceStatus,
        peers: u32,
        next: Option<Duration>,
    ) {
        let row = self.rows.entry(source).or_default();
        row.status = Some(status);
        row.told = peers;
        row.next = next.and_then(|next| Instant::now().checked_add(next));
    }

    /// A source told of a peer that nobody had told of before.
    pub fn found(&mut self, source: PeerSource) {
        let row = self.rows.entry(source).or_default();
        row.found = row.found.saturating_add(1);
    }

    /// A peer that `source` told of was connected.
    pub fn connected(&mut self, source: PeerSource) {
        let row = self.rows.entry(source).or_default();
        row.connected = row.connected.saturating_add(1);
    }

    /// Whether nothing was told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines of text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!(
            "{:<10} {:<9} {:>12} {:>6} {:>6} {:>10}",
            "source", "status", "next update", "seeds", "peers", "connected"
        );
        for (&source, row) in &self.rows {
            let status = row.status.map_or("-", status_name);
            let next = row.next.map_or_else(
                || "-".to_owned(),
                |at| duration(at.saturating_duration_since(Instant::now())),
            );
            out.push_str(&format!(
                "\n{:<10} {:<9} {:>12} {:>6} {:>6} {:>10}",
                source_name(source),
                status,
                next,
                "-",
                row.found.max(row.told),
                row.connected
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_row() {
        let mut table = SourceTable::default();
        table.status(PeerSource::Dht, SourceStatus::Idle, 3, None);
        // Two of them it told of before anybody else, and it is the same three every time.
        table.found(PeerSource::Dht);
        table.found(PeerSource::Dht);
        table.status(PeerSource::Dht, SourceStatus::Idle, 3, None);
        table.found(PeerSource::Incoming);
        table.connected(PeerSource::Incoming);
        let text = table.render();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["dht", "idle", "-", "-", "3", "0"]);
        assert_eq!(rows[2], ["incoming", "-", "-", "-", "1", "1"]);
    }
}
