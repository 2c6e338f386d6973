//! The other end of a measurement: programs that speak just enough of the peer wire protocol
//! (BEP 3) to keep a client busy, at next to no cost of their own.
//!
//! ```text
//! trackerless-lean seed TORRENT FILE ADDRESS     serves FILE, mapped; ADDRESS to listen on
//! trackerless-lean leech TORRENT MIB ADDRESS...  fetches the first MIB MiB from each, throws them away
//! trackerless-lean floor TORRENT ADDRESS FILE    receives, checks with SHA-1, writes: no more
//! ```
//!
//! `seed` ends when its standard input does. Each prints one line of JSON at its end: `first` and
//! `last`, when the first block was asked for and the last one was through (seconds of
//! `CLOCK_MONOTONIC`, the clock of Python's `time.monotonic`), and `bytes` of content.

mod floor;
mod leech;
mod peer;
mod seed;

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use trackerless_core::metainfo::Torrent;

const USAGE: &str = "usage: trackerless-lean seed TORRENT FILE ADDRESS
       trackerless-lean leech TORRENT MIB ADDRESS...
       trackerless-lean floor TORRENT ADDRESS FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["seed", torrent, file, address] => {
            read(torrent).and_then(|torrent| seed::run(&torrent, file, parse(address)?))
        }
        ["leech", torrent, mebibytes, addresses @ ..] if !addresses.is_empty() => read(torrent)
            .and_then(|torrent| {
                let mebibytes: u64 = mebibytes
                    .parse()
                    .map_err(|_| io::Error::other(format!("{mebibytes}: a number was expected")))?;
                leech::run(
                    &torrent,
                    mebibytes << 20,
                    &addresses
                        .iter()
                        .map(|a| parse(a))
                        .collect::<Result<Vec<_>, _>>()?,
                )
            }),
        ["floor", torrent, address, file] => {
            read(torrent).and_then(|torrent| floor::run(&torrent, parse(address)?, file))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(times) => {
            println!("{times}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trackerless-lean: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &str) -> io::Result<Torrent> {
    let bytes = fs::read(path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    Torrent::parse(bytes.into()).map_err(|error| io::Error::other(format!("{path}: {error}")))
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address
        .parse()
        .map_err(|_| io::Error::other(format!("{address}: an address and a port were expected")))
}

/// When the first block was asked for, when the last one was through, and how much that was.
#[derive(Default)]
struct Times {
    first: AtomicU64,
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Times {
    fn begin(&self) {
        let _ = self
            .first
            .compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        self.last.store(now(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |time: &AtomicU64| time.load(Ordering::Relaxed) as f64 / 1e9;
        write!(
            f,
            r#"{{"first": {:.6}, "last": {:.6}, "bytes": {}}}"#,
            seconds(&self.first),
            seconds(&self.last),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
