//! What is printed: lines for people, objects for programs.

mod table;
mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use trackerless_core::engine::{TorrentState, TorrentStats};

use crate::cli::OutputArgs;
use crate::error::Failure;
use crate::state::StateDir;
pub use table::SourceTable;
pub use text::{
    bytes, close_reason, count, duration, job_error, printable, source_name, status_name,
    tracker_name,
};

/// Seconds between plain progress lines off a terminal.
const PLAIN_EVERY: u32 = 5;

/// Why something that was printed did not get where standard output leads.
static LOST: OnceLock<String> = OnceLock::new();

/// Writes a line to standard output. A reader that went away (a closed pipe) has read what it
/// wanted; anything else that goes wrong makes the whole command fail.
pub fn print(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = write_line(&mut out, line)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| error.to_string());
    }
}

/// That something that was printed is lost, if it is and was not told before.
pub(crate) fn lost_output() -> Option<Failure> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let reason = LOST.get()?;
    (!TOLD.swap(true, Ordering::Relaxed)).then(|| {
        Failure::failed(format!(
            "standard output cannot be written: {reason}; what was to be printed is lost"
        ))
    })
}

fn write_line(out: &mut impl io::Write, line: &str) -> io::Result<()> {
    out.write_all(line.as_bytes())?;
    if !line.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a line for people to standard error; there is nobody to tell where that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints what happens as the options of a command ask.
#[derive(Debug)]
pub struct Reporter {
    args: OutputArgs,
    bar: Option<ProgressBar>,
    ticks: u32,
    failures: u32,
}

impl Reporter {
    /// A reporter for these options.
    #[must_use]
    pub fn new(args: OutputArgs) -> Self {
        Self {
            args,
            bar: None,
            ticks: 0,
            failures: 0,
        }
    }

    /// Whether `--json` was given.
    #[must_use]
    pub fn json(&self) -> bool {
        self.args.json
    }

    /// Whether `-v` was given.
    #[must_use]
    pub fn verbose(&self) -> bool {
        self.args.verbose
    }

    /// One event for programs; nothing without `--json`. `fields` is an object.
    pub fn event(&self, event: &str, fields: Value) {
        if self.args.json {
            print(&event_line(event, fields, SystemTime::now()));
        }
    }

    /// A result for people, on standard output; with `--json` nothing.
    pub fn result(&self, line: &str) {
        if !self.args.json {
            self.suspended(|| print(line));
        }
    }

    /// A message for people.
    pub fn say(&self, line: &str) {
        if !self.args.quiet {
            self.suspended(|| note(line));
        }
    }

    /// A message for people who asked for more.
    pub fn detail(&self, line: impl FnOnce() -> String) {
        if self.args.verbose {
            self.suspended(|| note(&line()));
        }
    }

    /// What went wrong, for both; counted by [`Reporter::failures`].
    pub fn failure(&mut self, failure: &Failure) {
        self.finish();
        self.event(
            "error",
            json!({ "kind": failure.kind(), "message": failure.message }),
        );
        note(&format!("error: {failure}"));
        self.failures += 1;
    }

    /// What is not as it should be and stops nothing.
    pub fn warning(&self, kind: &str, message: &str) {
        self.event("error", json!({ "kind": kind, "message": message }));
        self.suspended(|| note(&format!("warning: {message}")));
    }

    /// That nothing can be saved in `state`, once: it stops nothing, but the next start will miss it.
    pub fn trouble(&self, state: Option<&StateDir>) {
        if let Some(message) = state.and_then(StateDir::trouble) {
            self.warning("state", &message);
        }
    }

    /// Failures that were printed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether anybody sees [`Self::progress`].
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        self.args.json || !self.args.quiet
    }

    /// The figures of a torrent, once a second.
    pub fn progress(&mut self, name: &str, stats: &TorrentStats) {
        self.event(
            "progress",
            json!({
                "done": stats.done,
                "total": stats.total,
                "down_rate": stats.down_rate,
                "up_rate": stats.up_rate,
                "peers": stats.peers,
            }),
        );
        if self.args.json || self.args.quiet {
            return;
        }
        if io::stderr().is_terminal() {
            self.draw(name, stats);
        } else {
            if self.ticks.is_multiple_of(PLAIN_EVERY) {
                note(&plain_line(name, stats));
            }
            self.ticks += 1;
        }
    }

    /// Takes the live line away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draw(&mut self, name: &str, stats: &TorrentStats) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(
                Some(stats.total.max(1)),
                ProgressDrawTarget::stderr(),
            );
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}");
            bar.set_style(
                style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar
        });
        bar.set_prefix(name.chars().take(24).collect::<String>());
        bar.set_length(stats.total.max(1));
        bar.set_position(stats.done);
        bar.set_message(figures(stats));
    }

    fn suspended(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

fn event_line(event: &str, fields: Value, now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut object = Map::new();
    object.insert("event".into(), event.into());
    object.insert("time".into(), json!(since.as_millis() as f64 / 1000.0));
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

fn plain_line(name: &str, stats: &TorrentStats) -> String {
    format!("{name}: {}", figures(stats))
}

fn figures(stats: &TorrentStats) -> String {
    let rates = format!(
        "{}/s down, {}/s up, {}",
        bytes(stats.down_rate),
        bytes(stats.up_rate),
        count(stats.peers, "peer"),
    );
    let percent = |stats: &TorrentStats| {
        let (done, total) = (u128::from(stats.done), u128::from(stats.total.max(1)));
        (done * 100 / total).min(100)
    };
    match stats.state {
        TorrentState::Metadata => format!("fetching metadata, {rates}"),
        TorrentState::Checking => format!("checking {}%", percent(stats)),
        TorrentState::Seeding => format!(
            "seeding, {} uploaded, {}/s up, {}",
            bytes(stats.uploaded),
            bytes(stats.up_rate),
            count(stats.peers, "peer")
        ),
        TorrentState::Stopped => "stopping".into(),
        TorrentState::Downloading => {
            let left = stats.total.saturating_sub(stats.done);
            let time = match left.checked_div(stats.down_rate) {
                Some(seconds) => duration(std::time::Duration::from_secs(seconds)),
                None => "?".into(),
            };
            format!(
                "{}% of {}, {rates}, {time} left",
                percent(stats),
                bytes(stats.total)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_event_is_one_line_that_begins_with_event_and_time() {
        let now = UNIX_EPOCH + Duration::from_millis(1_500);
        let line = event_line("error", json!({ "message": "a\nb" }), now);
        assert_eq!(line, r#"{"event":"error","time":1.5,"message":"a\nb"}"#);
    }

    #[test]
    fn a_plain_line_says_how_far_how_fast_and_how_long() {
        let stats = TorrentStats {
            state: TorrentState::Downloading,
            done: 50 << 20,
            total: 100 << 20,
            downloaded: 0,
            uploaded: 0,
            uploaded_before: 0,
            down_rate: 1 << 20,
            up_rate: 0,
            peers: 3,
            seeds: 1,
        };
        assert_eq!(
            plain_line("a", &stats),
            "a: 50% of 100 MiB, 1.0 MiB/s down, 0 B/s up, 3 peers, 50s left"
        );
    }
}
