//! Feeds a recording to the same engine again and compares what comes out.

use std::fmt;
use std::sync::Arc;

use trackerless_core::record::{OutputHash, Reader, RecordError};
use trackerless_core::{Engine, Outbox};

/// What a replay saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Inputs in the recording.
    pub inputs: u64,
    /// Outputs they led to.
    pub outputs: u64,
    /// Hash of all outputs in order.
    pub output_hash: u64,
    /// Bytes of a last record that was cut off and not replayed: a crash leaves such a tail.
    pub cut_off: usize,
}

/// Why a recording cannot be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayError {
    /// First byte of the record that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub reason: RecordError,
    /// What was replayed before it.
    pub before: Replayed,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, reason, before } = self;
        write!(f, "byte {at}, after {} inputs: {reason}", before.inputs)
    }
}

impl std::error::Error for ReplayError {}

/// Replays a whole recording.
///
/// # Errors
/// The first record that is wrong. One that is merely cut off at the end of the file is none:
/// see [`Replayed::cut_off`].
pub fn replay(file: &[u8]) -> Result<Replayed, ReplayError> {
    let mut seen = Replayed::default();
    let unmade = |reason| ReplayError {
        at: 0,
        reason,
        before: Replayed::default(),
    };
    let (header, mut records) = Reader::open(file).map_err(unmade)?;
    let engine = Engine::new(Arc::new(header.config), header.seed, header.start);
    let mut engine = engine.map_err(|error| unmade(RecordError::Invalid(error.field)))?;
    let mut outbox = Outbox::new();
    let mut hash = OutputHash::new();
    seen.output_hash = hash.value();
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(RecordError::Truncated) => {
                seen.cut_off = file.len() - records.position();
                break;
            }
            Err(reason) => {
                return Err(ReplayError {
                    at: records.position(),
                    reason,
                    before: seen,
                });
            }
        };
        record
            .input
            .feed(|input| engine.handle(record.now, input, &mut outbox));
        seen.inputs += 1;
        for output in outbox.drain() {
            hash.absorb(&output);
            seen.outputs += 1;
        }
        seen.output_hash = hash.value();
    }
    Ok(seen)
}
