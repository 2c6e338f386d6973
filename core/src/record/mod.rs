//! Recordings: every input as bytes, and a hash of every output.
//!
//! A recording is a header (version, configuration, seed, start) and one self-delimiting record
//! for each input, in order. Feeding it to [`crate::Engine`] gives the same outputs again, on
//! every platform: two engines are compared by one number, the [`OutputHash`].
//!
//! ```
//! use trackerless_core::record::{self, OutputHash};
//! use trackerless_core::{Config, Engine, Input, Instant, Outbox};
//!
//! let (config, seed, start) = (Config::default(), [1; 32], Instant::from_micros(5));
//! let mut file = Vec::new();
//! record::encode_header(&config, &seed, start, &mut file);
//! record::encode(start, &Input::Tick, &mut file);
//!
//! let header = record::decode_header(&file).unwrap();
//! let mut engine = Engine::new(header.config.into(), header.seed, header.start).unwrap();
//! let record = record::decode(&file[header.length..]).unwrap();
//! let mut out = Outbox::new();
//! record.input.feed(|input| engine.handle(record.now, input, &mut out));
//! let mut hash = OutputHash::new();
//! out.drain().for_each(|output| hash.absorb(&output));
//! assert_eq!(hash.value(), OutputHash::new().value());
//! ```

mod codec;
mod config;
mod input;
mod output;

use alloc::vec::Vec;
use core::fmt;

use codec::{Codec, Reader};
pub use input::OwnedInput;
pub use output::OutputHash;

use crate::config::Config;
use crate::io::Input;
use crate::time::Instant;

/// First bytes of every recording; the last one is the version of the format.
pub const MAGIC: [u8; 8] = *b"TLREC\0\0\x01";
/// Longest record that is read: no input of an engine comes near it.
pub const MAX_RECORD: usize = 256 * 1024 * 1024;

/// How an engine was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its configuration.
    pub config: Config,
    /// Its seed.
    pub seed: [u8; 32],
    /// The time it was made at.
    pub start: Instant,
    /// Bytes of the header: where the first record begins.
    pub length: usize,
}

/// One input of a recording.
#[derive(Debug)]
pub struct Record {
    /// When it was handled.
    pub now: Instant,
    /// What it was.
    pub input: OwnedInput,
    /// Bytes of the record: where the next one begins.
    pub length: usize,
}

/// Why bytes are not a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// They end in the middle; what came before is whole.
    Truncated,
    /// They do not begin like a recording of this version.
    NotARecording,
    /// A field has a value that none can have: which.
    Invalid(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the recording ends in the middle of a record"),
            Self::NotARecording => f.write_str("not a recording of this version"),
            Self::Invalid(what) => write!(f, "{what}: a value that it cannot have"),
        }
    }
}

impl core::error::Error for RecordError {}

/// Appends the header of a recording to `out`.
pub fn encode_header(config: &Config, seed: &[u8; 32], start: Instant, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    config.put(out);
    seed.put(out);
    start.put(out);
}

/// Reads the header of a recording.
///
/// # Errors
/// When `file` does not begin with a header of this version.
pub fn decode_header(file: &[u8]) -> Result<Header, RecordError> {
    let body = file
        .strip_prefix(&MAGIC)
        .ok_or(RecordError::NotARecording)?;
    let mut reader = Reader(body);
    Ok(Header {
        config: Config::take(&mut reader)?,
        seed: <[u8; 32]>::take(&mut reader)?,
        start: Instant::take(&mut reader)?,
        length: file.len() - reader.0.len(),
    })
}

/// Appends the record of one input to `out`.
pub fn encode(now: Instant, input: &Input<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    now.put(out);
    input::put(input, out);
    let length = (out.len() - begin - 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads the record that `bytes` begins with.
///
/// # Errors
/// When it is cut off, or is not the record of an input.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let mut reader = Reader(bytes);
    let length = u32::take(&mut reader)? as usize;
    if length > MAX_RECORD {
        return Err(RecordError::Invalid("length of a record"));
    }
    let mut body = Reader(reader.bytes(length)?);
    let now = Instant::take(&mut body)?;
    let input = input::take(&mut body)?;
    if !body.0.is_empty() {
        return Err(RecordError::Invalid("length of a record"));
    }
    Ok(Record {
        now,
        input,
        length: length + 4,
    })
}
