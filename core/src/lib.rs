//! A sans-IO BitTorrent engine for trackerless torrents.
//!
//! The whole protocol is a pure function of *(state, time, input)*: no sockets, clocks, threads,
//! files or ambient randomness.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::iter_over_hash_type)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bencode;
pub mod checksum;
pub mod compact;
pub mod config;
pub mod deadline;
pub mod dht;
pub mod engine;
pub mod event;
pub mod id;
pub mod io;
mod keyed;
pub mod lsd;
pub mod metadata;
pub mod metainfo;
pub mod pex;
pub mod ports;
pub mod record;
pub mod resume;
pub mod rng;
pub mod slab;
pub mod storage;
pub mod swarm;
pub mod time;
pub mod tracker;
pub mod utp;
pub mod wire;

pub use config::Config;
pub use engine::Engine;
pub use event::Event;
pub use io::{Input, Outbox, Output};
pub use time::Instant;
