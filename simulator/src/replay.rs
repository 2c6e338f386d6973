//! Feeds a recording to the same engine again and compares what comes out.

use std::fmt;
use std::sync::Arc;

use trackerless_core::record::{self, OutputHash, RecordError};
use trackerless_core::{Engine, Outbox};

/// What a replay saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Inputs in the recording.
    pub inputs: u64,
    /// Outputs they led to.
    pub outputs: u64,
    /// Hash of all outputs in order.
    pub output_hash: u64,
}

/// Why a recording cannot be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayError {
    /// First byte of the record that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub reason: RecordError,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {:?}", self.at, self.reason)
    }
}

impl std::error::Error for ReplayError {}

/// Replays a whole recording.
///
/// # Errors
/// The first record that cannot be read.
pub fn replay(file: &[u8]) -> Result<Replayed, ReplayError> {
    let fail = |at| move |reason| ReplayError { at, reason };
    let header = record::decode_header(file).map_err(fail(0))?;
    let mut engine =
        Engine::new(Arc::new(header.config), header.seed, header.start).map_err(|_| {
            ReplayError {
                at: 0,
                reason: RecordError::Invalid("config"),
            }
        })?;
    let mut at = header.length;
    let mut outbox = Outbox::new();
    let mut hash = OutputHash::new();
    let mut seen = Replayed {
        inputs: 0,
        outputs: 0,
        output_hash: 0,
    };
    while at < file.len() {
        let record = record::decode(&file[at..]).map_err(fail(at))?;
        at += record.length;
        record
            .input
            .feed(|input| engine.handle(record.now, input, &mut outbox));
        seen.inputs += 1;
        for output in outbox.drain() {
            hash.absorb(&output);
            seen.outputs += 1;
        }
    }
    seen.output_hash = hash.value();
    Ok(seen)
}
