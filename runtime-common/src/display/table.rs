//! The table of the sources of peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trackerless_core::event::{PeerSource, SourceStatus, TrackerSource};

use super::text::{duration, source_name, status_name, tracker_name};

#[derive(Debug, Clone, Default)]
struct Row {
    status: Option<SourceStatus>,
    next: Option<Instant>,
    /// Peers that have everything, it says.
    seeds: Option<u32>,
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
    /// One for each tracker, by URL.
    trackers: BTreeMap<Arc<str>, Row>,
}

/// Trackers that have a row.
const MAX_TRACKERS: usize = 200;

impl SourceTable {
    /// A source told how it stands.
    pub fn status(
        &mut self,
        source: PeerSource,
        tracker: Option<&TrackerSource>,
        status: SourceStatus,
        peers: u32,
        next: Option<Duration>,
    ) {
        let row = match tracker {
            None => self.rows.entry(source).or_default(),
            Some(tracker) => {
                let known = self.trackers.contains_key(&tracker.url);
                if !known && self.trackers.len() >= MAX_TRACKERS {
                    return;
                }
                let row = self.trackers.entry(Arc::clone(&tracker.url)).or_default();
                row.seeds = tracker.seeds;
                row
            }
        };
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
        self.rows.is_empty() && self.trackers.is_empty()
    }

    /// The table as lines of text.
    #[must_use]
    pub fn render(&self) -> String {
        let sources = self.rows.iter();
        let sources = sources.map(|(source, row)| {
            let connected = Some(row.connected);
            (source_name(*source).to_owned(), row, connected)
        });
        let trackers = self.trackers.iter();
        // Which tracker told of a connected peer is not known.
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        let trackers = trackers.map(|(url, row)| {
            let name = tracker_name(url);
            // Those that differ in what is not shown are told apart by a number.
            let seen = names.entry(name.clone()).or_default();
            *seen += 1;
            let name = match *seen {
                1 => name,
                number => format!("{name} ({number})"),
            };
            (name, row, None)
        });
        let rows: Vec<(String, &Row, Option<u32>)> = sources.chain(trackers).collect();
        let names = rows.iter().map(|(name, ..)| name.chars().count());
        let width = names.max().unwrap_or(0).max(10);
        let mut out = format!(
            "{:<width$} {:<9} {:>12} {:>6} {:>6} {:>10}",
            "source", "status", "next update", "seeds", "peers", "connected"
        );
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        for (name, row, connected) in rows {
            let status = row.status.map_or("-", status_name);
            let next = row.next.map_or_else(
                || "-".to_owned(),
                |at| duration(at.saturating_duration_since(Instant::now())),
            );
            let connected = number(connected);
            out.push_str(&format!(
                "\n{name:<width$} {status:<9} {next:>12} {:>6} {:>6} {connected:>10}",
                number(row.seeds),
                row.found.max(row.told),
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
        table.status(PeerSource::Dht, None, SourceStatus::Idle, 3, None);
        // Two of them it told of before anybody else, and it is the same three every time.
        table.found(PeerSource::Dht);
        table.found(PeerSource::Dht);
        table.status(PeerSource::Dht, None, SourceStatus::Idle, 3, None);
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

    #[test]
    fn every_tracker_has_a_row_that_keeps_the_secrets_of_its_url() {
        let mut table = SourceTable::default();
        let mut tracker = TrackerSource {
            url: "https://t.example/SECRET/announce?k=SECRET".into(),
            seeds: Some(7),
            leechers: Some(9),
            message: None,
        };
        let soon = Some(Duration::from_secs(1_800));
        let (source, idle) = (PeerSource::Tracker, SourceStatus::Idle);
        table.status(source, Some(&tracker), idle, 5, soon);
        tracker.url = "udp://[::1]:80".into();
        tracker.seeds = None;
        table.status(source, Some(&tracker), SourceStatus::Failed, 0, None);
        let text = table.render();
        assert!(!text.contains("SECRET"), "{text}");
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1][..2], ["https://t.example/…/announce?…", "idle"]);
        assert_eq!(rows[1][rows[1].len() - 3..], ["7", "5", "-"]);
        assert_eq!(rows[2], ["udp://[::1]:80", "failed", "-", "-", "0", "-"]);
        // Another user of the same tracker: told apart, and no more told of either.
        tracker.url = "https://t.example/OTHER/announce?k=OTHER".into();
        table.status(source, Some(&tracker), idle, 0, None);
        let text = table.render();
        assert!(
            text.contains("\nhttps://t.example/…/announce?… (2) "),
            "{text}"
        );
        assert!(!text.contains("OTHER"), "{text}");
        for n in 0..2 * MAX_TRACKERS {
            tracker.url = format!("udp://{n}:1").into();
            table.status(source, Some(&tracker), idle, 0, None);
        }
        assert_eq!(table.render().lines().count(), 1 + MAX_TRACKERS);
    }
}
