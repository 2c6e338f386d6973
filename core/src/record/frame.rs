//! How a recording lies in a file: frames that say where they are damaged, and a tail that a
//! crash may cut off anywhere.

use alloc::vec::Vec;

use super::codec::{self, Codec};
use super::{OwnedInput, RecordError, decode_input, encode_input};
use crate::checksum::crc32c_after;
use crate::config::Config;
use crate::io::Input;
use crate::time::{Duration, Instant};

/// First bytes of every recording; the last one is the version of the format.
pub const MAGIC: [u8; 8] = *b"TLREC\0\0\x02";
/// Longest content of a frame that is read: no input of an engine comes near it.
pub const MAX_FRAME: usize = 256 * 1024 * 1024;

/// A frame is its length, a checksum of that, its content, a checksum of all. The length has one
/// of its own since a wrong length is not to look like an end that a crash cut off. Checksums
/// continue those of the frame before, so that a frame out of its place is noticed as well.
const HEAD: usize = 8;
const FOOT: usize = 4;

/// How an engine was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its configuration.
    pub config: Config,
    /// Its seed.
    pub seed: [u8; 32],
    /// The time it was made at.
    pub start: Instant,
}

/// One input of a recording.
#[derive(Debug)]
pub struct Record {
    /// When it was handled.
    pub now: Instant,
    /// What it was.
    pub input: OwnedInput,
}

/// Writes the recording of one engine.
///
/// Everything it appends is whole frames: whoever stops writing between two calls has a recording
/// that ends there, and whoever stops in the middle of one has it up to the frame before.
#[derive(Debug, Clone)]
pub struct Writer {
    now: Instant,
    check: u32,
}

impl Writer {
    /// Appends the header of a recording to `out`.
    #[must_use]
    pub fn begin(config: &Config, seed: &[u8; 32], start: Instant, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&MAGIC);
        let mut writer = Self {
            now: start,
            check: crc32c_after(0, &MAGIC),
        };
        writer.frame(out, |out| {
            config.put(out);
            seed.put(out);
            start.put(out);
        });
        writer
    }

    /// Appends one input, handled at `now`. Time that runs backwards is written as standing
    /// still, which is how the engine reads it.
    pub fn record(&mut self, now: Instant, input: &Input<'_>, out: &mut Vec<u8>) {
        let passed = now.saturating_since(self.now).as_micros() as u64;
        self.now = self.now.max(now);
        self.frame(out, |out| {
            codec::put_varint(passed, out);
            encode_input(input, out);
        });
    }

    fn frame(&mut self, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
        let begin = out.len();
        out.extend_from_slice(&[0; HEAD]);
        content(out);
        let length = (out.len() - begin - HEAD) as u32;
        let (head, content) = out[begin..].split_at_mut(HEAD);
        self.check = crc32c_after(self.check, &length.to_le_bytes());
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&self.check.to_le_bytes());
        self.check = crc32c_after(self.check, content);
        out.extend_from_slice(&self.check.to_le_bytes());
    }
}

/// Reads a recording, input by input, up to its end or the first frame that is wrong.
///
/// [`Self::position`] tells where that is. A recording that a crash cut off ends in
/// [`RecordError::Truncated`], and what came before it is whole.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    check: u32,
    now: Instant,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// When `file` does not begin with the whole header of a recording of this version.
    pub fn open(file: &'a [u8]) -> Result<(Header, Self), RecordError> {
        if !file.starts_with(&MAGIC) {
            return Err(RecordError::NotARecording);
        }
        let mut reader = Self {
            file,
            at: MAGIC.len(),
            check: crc32c_after(0, &MAGIC),
            now: Instant::MIN,
            failed: false,
        };
        let mut content = codec::Reader(reader.frame()?);
        let header = Header {
            config: content.value()?,
            seed: content.value()?,
            start: content.value()?,
        };
        content.end()?;
        reader.now = header.start;
        Ok((header, reader))
    }

    /// Where the next frame begins, or the one that is wrong.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    fn record(&mut self) -> Result<Record, RecordError> {
        let at = self.at;
        let content = self.frame()?;
        let mut content = codec::Reader(content);
        let record = content.varint().and_then(|passed| {
            Ok(Record {
                now: self.now + Duration::from_micros(passed),
                input: decode_input(content.0)?,
            })
        });
        match &record {
            Ok(record) => self.now = record.now,
            Err(_) => self.at = at,
        }
        record
    }

    /// The content of the next frame. Nothing moves when it is wrong.
    fn frame(&mut self) -> Result<&'a [u8], RecordError> {
        let left = &self.file[self.at..];
        let (head, left) = left
            .split_first_chunk::<HEAD>()
            .ok_or(RecordError::Truncated)?;
        let [a, b, c, d, check @ ..] = *head;
        let length = [a, b, c, d];
        let mut sum = crc32c_after(self.check, &length);
        if sum.to_le_bytes() != check {
            return Err(RecordError::Damaged);
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(RecordError::Invalid("length of a record"));
        }
        let (content, left) = left
            .split_at_checked(length)
            .ok_or(RecordError::Truncated)?;
        let check = left.first_chunk::<FOOT>().ok_or(RecordError::Truncated)?;
        sum = crc32c_after(sum, content);
        if sum.to_le_bytes() != *check {
            return Err(RecordError::Damaged);
        }
        self.check = sum;
        self.at += HEAD + length + FOOT;
        Ok(content)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at == self.file.len() {
            return None;
        }
        let record = self.record();
        self.failed = record.is_err();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec;

    use super::*;
    use crate::io::{IoReason, SocketId};

    const START: Instant = Instant::from_micros(9);

    fn config() -> Config {
        let mut config = Config {
            lab: true,
            ..Config::default()
        };
        config.dht.alpha = 9;
        config.limits.download_rate = 77;
        config
    }

    fn inputs() -> [(Instant, Input<'static>); 6] {
        let from = "127.0.0.1:9".parse().unwrap();
        let at = |micros| START + Duration::from_micros(micros);
        let socket = SocketId(3);
        let datagram = |payload| Input::Datagram {
            socket,
            from,
            payload,
        };
        [
            (at(0), Input::Tick),
            (at(5), datagram(b"d1:q4:pinge")),
            (at(5), datagram(b"d1:q4:pinge")),
            (at(300), Input::Tick),
            (
                at(1 << 40),
                Input::SocketDown {
                    socket,
                    reason: IoReason::Local,
                },
            ),
            (at(1 << 40), Input::Tick),
        ]
    }

    /// A recording, and where each of its frames begins, and its end.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&config(), &[4; 32], START, &mut file);
        let mut starts = vec![MAGIC.len()];
        for (now, input) in inputs() {
            starts.push(file.len());
            writer.record(now, &input, &mut file);
        }
        starts.push(file.len());
        (file, starts)
    }

    /// How many inputs can be read, and where and why it ends.
    fn read(file: &[u8]) -> (usize, usize, Option<RecordError>) {
        let mut reader = match Reader::open(file) {
            Ok((_, reader)) => reader,
            Err(error) => return (0, 0, Some(error)),
        };
        let mut inputs = 0;
        while let Some(record) = reader.next() {
            match record {
                Ok(_) => inputs += 1,
                Err(error) => return (inputs, reader.position(), Some(error)),
            }
        }
        (inputs, reader.position(), None)
    }

    #[test]
    fn what_was_written_is_read() {
        let (file, starts) = file();
        let (header, mut reader) = Reader::open(&file).unwrap();
        assert_eq!(header.config, config());
        assert_eq!((header.seed, header.start), ([4; 32], START));
        assert_eq!(reader.position(), starts[1]);
        for (now, input) in inputs() {
            let record = reader.next().unwrap().unwrap();
            let read: String = record.input.feed(|input| format!("{input:?}"));
            assert_eq!((record.now, read), (now, format!("{input:?}")));
        }
        assert!(reader.next().is_none());
        assert_eq!(reader.position(), file.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_its_frame_named() {
        let (file, starts) = file();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut wrong = file.clone();
                wrong[at] ^= 1 << bit;
                let frame = starts.iter().rposition(|start| *start <= at);
                let expected = match frame {
                    None => (0, 0, Some(RecordError::NotARecording)),
                    Some(0) => (0, 0, Some(RecordError::Damaged)),
                    Some(frame) => (frame - 1, starts[frame], Some(RecordError::Damaged)),
                };
                assert_eq!(read(&wrong), expected, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_recording_cut_anywhere_is_whole_up_to_the_frame_before() {
        let (file, starts) = file();
        for end in 0..file.len() {
            let whole = starts.iter().rposition(|start| *start <= end);
            let expected = match whole {
                None => (0, 0, Some(RecordError::NotARecording)),
                Some(0) => (0, 0, Some(RecordError::Truncated)),
                Some(frame) => {
                    let cut = starts[frame] != end;
                    let error = cut.then_some(RecordError::Truncated);
                    (frame - 1, starts[frame], error)
                }
            };
            assert_eq!(read(&file[..end]), expected, "cut at {end}");
        }
    }

    #[test]
    fn a_frame_missing_twice_there_or_out_of_order_is_noticed() {
        let (file, starts) = file();
        let frame = |n: usize| &file[starts[n]..starts[n + 1]];
        let head = &file[..starts[2]];
        // The second and third inputs are alike, and so are the frames but for their checksums.
        let missing = [head, frame(3), frame(4)].concat();
        let twice = [head, frame(2), frame(2), frame(3)].concat();
        let swapped = [head, frame(3), frame(2), frame(4)].concat();
        let damaged = Some(RecordError::Damaged);
        assert_eq!(read(&missing), (1, starts[2], damaged));
        assert_eq!(read(&twice), (2, starts[3], damaged));
        assert_eq!(read(&swapped), (1, starts[2], damaged));
        // What a crash of the machine may leave at the end of a file.
        let zeros = [&file[..], &[0; 64]].concat();
        assert_eq!(read(&zeros), (6, file.len(), damaged));
    }

    #[test]
    fn a_frame_that_is_right_but_no_input_is_told() {
        let (mut file, starts) = file();
        let (_, mut reader) = Reader::open(&file).unwrap();
        assert_eq!(reader.by_ref().filter(Result::is_ok).count(), 6);
        let mut writer = Writer {
            now: reader.now,
            check: reader.check,
        };
        writer.frame(&mut file, |out| out.extend_from_slice(&[0, 0xff]));
        let end = starts.last().copied().unwrap();
        let invalid = RecordError::Invalid("kind of input");
        assert_eq!(read(&file), (6, end, Some(invalid)));
    }

    #[test]
    fn time_that_runs_backwards_is_written_as_standing_still() {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&config(), &[4; 32], START, &mut file);
        for micros in [20, 10, 21] {
            writer.record(Instant::from_micros(micros), &Input::Tick, &mut file);
        }
        let (_, reader) = Reader::open(&file).unwrap();
        let times: Vec<_> = reader
            .map(|record| record.unwrap().now.as_micros())
            .collect();
        assert_eq!(times, [20, 20, 21]);
    }
}
