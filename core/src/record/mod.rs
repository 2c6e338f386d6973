//! Recordings: every input as bytes, and a hash of every output.
//!
//! A recording is a header (version, configuration, seed, start) and a frame for each input, in
//! order. Feeding it to [`crate::Engine`] gives the same outputs again, on every platform: two
//! engines are compared by one number, the [`OutputHash`]. Every frame carries a checksum, so that
//! a byte that changed is noticed even where no output depends on it, and a recording may end
//! anywhere: what is whole before that is used.
//!
//! ```
//! use trackerless_core::record::{OutputHash, Reader, Writer};
//! use trackerless_core::{Config, Engine, Input, Instant, Outbox};
//!
//! let (config, seed, start) = (Config::default(), [1; 32], Instant::from_micros(5));
//! let mut file = Vec::new();
//! let mut writer = Writer::begin(&config, &seed, start, &mut file);
//! writer.record(start, &Input::Tick, &mut file);
//!
//! let (header, records) = Reader::open(&file).unwrap();
//! let mut engine = Engine::new(header.config.into(), header.seed, header.start).unwrap();
//! let (mut out, mut hash) = (Outbox::new(), OutputHash::new());
//! for record in records {
//!     let record = record.unwrap();
//!     record.input.feed(|input| engine.handle(record.now, input, &mut out));
//!     out.drain().for_each(|output| hash.absorb(&output));
//! }
//! assert_eq!(hash, OutputHash::new());
//! ```

mod codec;
mod config;
mod frame;
mod input;
mod output;

use alloc::vec::Vec;
use core::fmt;

pub use frame::{Header, MAGIC, MAX_FRAME, Reader, Record, Writer};
pub use input::OwnedInput;
pub use output::OutputHash;

use crate::io::Input;

/// Why bytes are not a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// They end in the middle; what came before is whole.
    Truncated,
    /// They do not begin like a recording of this version.
    NotARecording,
    /// A checksum is wrong: a byte changed, or something is missing or twice there.
    Damaged,
    /// A field has a value that none can have: which.
    Invalid(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the recording ends in the middle of a record"),
            Self::NotARecording => f.write_str("not a recording of this version"),
            Self::Damaged => f.write_str("the recording is damaged: a checksum is wrong"),
            Self::Invalid(what) => write!(f, "{what}: a value that it cannot have"),
        }
    }
}

impl core::error::Error for RecordError {}

/// Appends an input to `out`, without time, length or checksum.
pub fn encode_input(input: &Input<'_>, out: &mut Vec<u8>) {
    input::put(input, out);
}

/// Reads what [`encode_input`] wrote.
///
/// # Errors
/// When `bytes` is not an input, or more than one.
pub fn decode_input(bytes: &[u8]) -> Result<OwnedInput, RecordError> {
    let mut reader = codec::Reader(bytes);
    let input = input::take(&mut reader)?;
    reader.end()?;
    Ok(input)
}
