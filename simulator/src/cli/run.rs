//! `run`: one scenario, one seed.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use trackerless_sim::pcap::Capture;
use trackerless_sim::trace::Tracer;

use super::{ScenarioArgs, tell, wrong};

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Seed of every draw, if not the scenario's own.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes everything the engines were told and said, and when, a line each, with decisions and
    /// their reasons; two such files can be compared with `diff`.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Writes what hosts send as captured packets (pcapng), for Wireshark.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Prints the results as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    let scenario = match args.scenario.load() {
        Ok(scenario) => scenario,
        Err(error) => return Ok(wrong(error)),
    };
    let seed = args.seed.unwrap_or(scenario.seed);
    let mut play = scenario.play(seed);
    if io::stderr().is_terminal() {
        play = play.progress(|progress| {
            let (now, done, all) = (progress.now.as_secs(), progress.complete, progress.leechers);
            let _ = write!(io::stderr(), "\r\x1b[K{now} s, {done} of {all} complete");
        });
    }
    // A file that cannot be written is told before the run.
    let create = |path: &Path| {
        let file = File::create(path).map(BufWriter::new);
        file.map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut written = Vec::new();
    if let Some(path) = &args.trace {
        match create(path) {
            Ok(file) => {
                let tracer = Tracer::new(Box::new(file), &scenario.name, seed);
                written.push((path, tracer.status()));
                play = play.explain().watch(tracer);
            }
            Err(error) => return Ok(wrong(error)),
        }
    }
    if let Some(path) = &args.pcap {
        match create(path) {
            Ok(file) => {
                let capture = Capture::new(Box::new(file), scenario.addrs());
                written.push((path, capture.status()));
                play = play.watch(capture);
            }
            Err(error) => return Ok(wrong(error)),
        }
    }
    let begun = Instant::now();
    let report = play.run();
    let wall = begun.elapsed().as_secs_f64();
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    for (path, status) in written {
        if let Some(error) = status.error() {
            tell(format_args!("{}: {error}", path.display()));
            return Ok(ExitCode::FAILURE);
        }
    }
    if args.json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        let rate = report.handled as f64 / wall;
        writeln!(
            out,
            "{:15} {}, seed {seed}: {}",
            "scenario", scenario.name, scenario.about
        )?;
        writeln!(
            out,
            "{:15} {} ({rate:.0} a second)",
            "inputs handled", report.handled
        )?;
        write!(out, "{report}")?;
    }
    report.failures.iter().for_each(tell);
    Ok(ExitCode::from(u8::from(!report.failures.is_empty())))
}
