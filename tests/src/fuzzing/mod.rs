//! What each fuzz target does with its bytes.
//!
//! The targets in `fuzz/` only call these functions, so that the plain test command can replay
//! every corpus file and try a few thousand mutations of them, on any toolchain.

mod decoders;
mod dht;
mod engine;
mod mse;
mod script;
mod swarm;
mod trackers;
mod wire;

pub use decoders::{
    bencode, compact, extension_handshake, krpc, lsd, magnet, metadata, metainfo, pex, record,
    resume, saved_table,
};
pub use dht::dht;
pub use engine::engine;
pub use mse::mse;
pub use swarm::swarm;
pub use trackers::{tracker_answer, trackers};
pub use wire::wire;

/// A fuzz target: it panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target and its name, which is the name of its file and of its corpus folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("bencode", bencode),
    ("compact", compact),
    ("dht", dht),
    ("engine", engine),
    ("extension_handshake", extension_handshake),
    ("krpc", krpc),
    ("lsd", lsd),
    ("magnet", magnet),
    ("metadata", metadata),
    ("metainfo", metainfo),
    ("mse", mse),
    ("pex", pex),
    ("record", record),
    ("resume", resume),
    ("saved_table", saved_table),
    ("swarm", swarm),
    ("tracker_answer", tracker_answer),
    ("trackers", trackers),
    ("wire", wire),
];
