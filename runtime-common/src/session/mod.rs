//! What the commands do above the engine: which commands it gets, what its events mean.

mod contacts;
mod dht;
mod torrent;

use std::net::SocketAddr;

use serde_json::json;
use trackerless_core::io::Tag;

use crate::display::Reporter;

pub use contacts::Contacts;
pub use dht::{DhtApp, DhtTask, Signing};
pub use torrent::{Goal, SeedGoal, TorrentApp, TorrentPlan};
pub(crate) use torrent::{no_such_file, verified};

/// Seconds a shutdown may take to say goodbye before the process ends anyway.
const GOODBYE_SECONDS: u32 = 5;

const TAG_TASK: Tag = Tag(1);
const TAG_SAVE: Tag = Tag(2);
const TAG_SHUTDOWN: Tag = Tag(3);
const TAG_LOAD: Tag = Tag(4);
const TAG_BOOTSTRAP: Tag = Tag(5);
const TAG_NAMES: Tag = Tag(6);

fn report_listening(report: &Reporter, listening: &[SocketAddr], tcp: bool) {
    for address in listening {
        let protocols: &[&str] = if tcp { &["udp", "tcp"] } else { &["udp"] };
        for protocol in protocols {
            report.event(
                "listening",
                json!({ "protocol": protocol, "address": address.to_string() }),
            );
        }
        report.detail(|| format!("listening on {address}"));
    }
}
