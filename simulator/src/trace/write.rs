//! A trace: a line for everything that engines are told and say, in the order of the run.
//!
//! ```text
//! trackerless-trace 1 demo 7
//! 0.002341 12 < Datagram from=10.1.0.3:6881 bytes=104 hash=5f3a9c01
//! 0.002341 12 > Transmit to=10.1.0.3:6881 bytes=290 hash=81b2f3d7
//! 0.002341 12 ! Complete { torrent: ... }
//! = 1 8a3b0daf43996af83232dae9c235ec93
//! ```
//!
//! Time is seconds since the start of the run, then comes the host; `<` is what an engine is told,
//! `>` what it asks for, `!` what it tells its embedder, `=` the trace root at the end of a second.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use trackerless_core::checksum::Chain;
use trackerless_core::io::JobResult;
use trackerless_core::record::encode_input;
use trackerless_core::{Input, Instant, Output};

use crate::world::START;
use crate::{HostId, Sim, Watch};

/// Writes a trace while a run goes.
pub struct Tracer {
    file: Box<dyn Write + Send>,
    status: Status,
    line: String,
    encoded: Vec<u8>,
}

/// Whether all of a trace could be written.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Option<io::Error>>>);

impl Status {
    /// Why not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let error = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().map(ToString::to_string)
    }

    pub(crate) fn note(&self, done: io::Result<()>) {
        if let Err(error) = done {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error);
        }
    }
}

impl Tracer {
    /// Begins a trace of a run of that scenario with that seed.
    #[must_use]
    pub fn new(mut file: Box<dyn Write + Send>, scenario: &str, seed: u64) -> Self {
        let status = Status::default();
        status.note(writeln!(file, "trackerless-trace 1 {scenario} {seed}"));
        Self {
            file,
            status,
            line: String::new(),
            encoded: Vec::new(),
        }
    }

    /// To be asked when the run is over.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    fn begin(&mut self, at: Instant, host: HostId, sign: char) {
        self.line.clear();
        let micros = at.saturating_since(START).as_micros();
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let _ = write!(self.line, "{seconds}.{rest:06} {} {sign} ", host.0);
    }

    fn end(&mut self) {
        self.line.push('\n');
        self.status.note(self.file.write_all(self.line.as_bytes()));
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.status.note(self.file.flush());
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut chain = Chain::default();
    parts.iter().for_each(|part| chain.bytes(part));
    chain.value() & 0xffff_ffff
}

impl Watch for Tracer {
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        self.begin(at, host, '<');
        let line = &mut self.line;
        let _ = match input {
            Input::Tick => write!(line, "Tick"),
            Input::Datagram { from, payload, .. } => {
                let (bytes, hash) = (payload.len(), hash(&[payload]));
                write!(line, "Datagram from={from} bytes={bytes} hash={hash:08x}")
            }
            Input::Received { conn, data } => {
                let (conn, bytes, hash) = (conn.to_bits(), data.len(), hash(&[data]));
                write!(line, "Received conn={conn:x} bytes={bytes} hash={hash:08x}")
            }
            Input::JobDone { job, result } => {
                self.encoded.clear();
                encode_input(input, &mut self.encoded);
                let (job, what, hash) =
                    (job.to_bits(), result_name(result), hash(&[&self.encoded]));
                write!(line, "JobDone job={job:x} {what} hash={hash:08x}")
            }
            other => write!(line, "{other:?}"),
        };
        self.end();
    }

    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        self.begin(
            at,
            host,
            if matches!(output, Output::Event(_)) {
                '!'
            } else {
                '>'
            },
        );
        let line = &mut self.line;
        let _ = match output {
            Output::Transmit { to, head, body, .. } => {
                let (bytes, hash) = (head.len() + body.len(), hash(&[head, body]));
                write!(line, "Transmit to={to} bytes={bytes} hash={hash:08x}")
            }
            Output::Send { conn, head, body } => {
                let (conn, bytes) = (conn.to_bits(), head.len() + body.len());
                let hash = hash(&[head, body]);
                write!(line, "Send conn={conn:x} bytes={bytes} hash={hash:08x}")
            }
            Output::Job { job, work } => {
                // What it is about; bytes and metadata would be most of the file.
                let work = format!("{work:?}");
                let end = work
                    .char_indices()
                    .map(|(at, _)| at)
                    .nth(160)
                    .unwrap_or(work.len());
                write!(line, "Job job={:x} {}", job.to_bits(), &work[..end])
            }
            Output::Event(event) => write!(line, "{event:?}"),
            other => write!(line, "{other:?}"),
        };
        self.end();
    }

    fn second(&mut self, sim: &Sim) {
        self.line.clear();
        if let Some(root) = sim.epochs().last() {
            let _ = write!(self.line, "= {} {root}", sim.epochs().len());
            self.end();
        }
    }
}

const fn result_name(result: &JobResult) -> &'static str {
    match result {
        JobResult::Failed(_) => "failed",
        JobResult::Read(_) => "read",
        JobResult::Hashed(_) => "hashed",
        _ => "done",
    }
}
