//! Engines with a scripted world around them, for tests and benches: a DHT node that is asked, a
//! torrent that is downloaded, a torrent that is served.
//!
//! Nothing here is timed or counted but what an engine does within `handle`: bytes are prepared
//! before and outputs are looked at after.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test and bench uses its part"
)]

pub mod node;
pub mod peer;

use std::sync::Arc;

use trackerless_core::{Config, Engine, Input, Instant, Outbox};

pub const START: Instant = Instant::from_micros(1_000_000);

/// A stream of numbers (SplitMix64).
pub struct Numbers(pub u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(1);
        Some(trackerless_core::checksum::mix(self.0))
    }
}

impl Numbers {
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().unwrap_or_default().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        bytes
    }
}

/// An engine, its time and its outputs.
pub struct Host {
    pub engine: Engine,
    pub now: Instant,
    pub out: Outbox,
}

impl Host {
    pub fn new(config: Config) -> Self {
        let engine = Engine::new(Arc::new(config), [7; 32], START).expect("the config is valid");
        Self {
            engine,
            now: START,
            out: Outbox::new(),
        }
    }

    pub fn handle(&mut self, input: Input<'_>) {
        self.engine.handle(self.now, input, &mut self.out);
    }
}
