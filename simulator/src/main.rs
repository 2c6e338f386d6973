//! `trackerless-sim`: runs built-in scenarios and replays recordings.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use trackerless_sim::replay;
use trackerless_sim::scenario::{self, Report};

/// Whole swarms of production engines in one process, from one seed.
#[derive(Parser)]
#[command(name = "trackerless-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a built-in scenario and prints its results and trace root.
    Run {
        /// Name of the scenario; see `list`.
        scenario: String,
        /// Seed of every draw.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Writes what the engines told, and when, a line each; decisions and their reasons too.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
    },
    /// Runs scenarios over many seeds; says which failed and how to repeat them.
    Campaign {
        /// Names of scenarios.
        #[arg(required = true)]
        scenarios: Vec<String>,
        /// Seeds `A..B`, B excluded.
        #[arg(long, value_parser = seeds)]
        seeds: std::ops::Range<u64>,
    },
    /// Feeds a recording to the same engine and prints the hash of its outputs.
    Replay {
        /// A file written with `--record`.
        file: PathBuf,
    },
    /// Lists the built-in scenarios.
    List,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let range = text
        .split_once("..")
        .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("{text:?}: expected A..B with A less than B, as 0..100"))
}

fn main() -> ExitCode {
    // Help that nobody asked for is no error message.
    let definition = Cli::command().arg_required_else_help(false);
    let matches = definition.try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return wrong(one_line(&error.to_string())),
        // Help or version, which was asked for.
        Err(error) => error.exit(),
    };
    let out = &mut io::stdout().lock();
    let done = match cli.command {
        Command::List => list(out),
        Command::Run {
            scenario,
            seed,
            trace,
        } => run(&scenario, seed, trace.as_deref(), out),
        Command::Campaign { scenarios, seeds } => campaign(&scenarios, seeds, out),
        Command::Replay { file } => replay_file(&file, out),
    };
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        // Who goes away while reading has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to people; nobody is left to be told if that fails.
fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "trackerless-sim: {message}");
}

/// The command line, or a file named there, is wrong.
fn wrong(message: impl Display) -> ExitCode {
    tell(message);
    ExitCode::from(2)
}

fn list(out: &mut impl Write) -> io::Result<ExitCode> {
    for scenario in scenario::all() {
        writeln!(out, "{:12} {}", scenario.name, scenario.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The parser's message without its usage block: what is wrong, and the near miss.
fn one_line(message: &str) -> String {
    let lines = message
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line} (see --help)")
}

fn unknown(name: &str) -> ExitCode {
    let known: Vec<_> = scenario::all()
        .iter()
        .map(|scenario| scenario.name)
        .collect();
    let known = known.join(", ");
    wrong(format_args!(
        "{name}: no such scenario; expected one of {known}"
    ))
}

fn run(name: &str, seed: u64, trace: Option<&Path>, out: &mut impl Write) -> io::Result<ExitCode> {
    let Some(mut scenario) = scenario::find(name) else {
        return Ok(unknown(name));
    };
    let unwritable = |path: &Path, error| Ok(wrong(format_args!("{}: {error}", path.display())));
    // A file that cannot be written is told before the run.
    let mut lines = None;
    if let Some(path) = trace {
        scenario.explain = true;
        match File::create(path) {
            Ok(file) => lines = Some((path, BufWriter::new(file))),
            Err(error) => return unwritable(path, error),
        }
    }
    let begun = Instant::now();
    let report = scenario.run(seed);
    let wall = begun.elapsed().as_secs_f64();
    if let Some((path, mut file)) = lines
        && let Err(error) = write_trace(&report, &mut file)
    {
        return unwritable(path, error);
    }
    let (handled, elapsed) = (report.handled, report.elapsed.as_secs_f64());
    let rate = handled as f64 / wall;
    writeln!(
        out,
        "scenario        {name}, seed {seed}: {}",
        scenario.about
    )?;
    writeln!(out, "virtual time    {elapsed:.3} s")?;
    writeln!(out, "inputs handled  {handled} ({rate:.0} a second)")?;
    let mut times: Vec<_> = report.completed.iter().flatten().copied().collect();
    times.sort_unstable();
    let (done, all) = (times.len(), report.completed.len());
    writeln!(out, "completed       {done} of {all}")?;
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let [first, median, last] = [*first, times[done / 2], *last].map(|it| it.as_secs_f64());
        writeln!(
            out,
            "completion      first {first:.3} s, median {median:.3} s, last {last:.3} s"
        )?;
    }
    writeln!(out, "found by DHT    {}", report.found_by_dht)?;
    writeln!(out, "found by PEX    {}", report.found_by_pex)?;
    writeln!(out, "trace root      {}", report.root)?;
    report.failures.iter().for_each(tell);
    Ok(ExitCode::from(u8::from(!report.failures.is_empty())))
}

fn write_trace(report: &Report, file: &mut impl Write) -> io::Result<()> {
    for (at, host, event) in &report.told {
        writeln!(file, "{:.6} host {} {event:?}", at.as_secs_f64(), host.0)?;
    }
    file.flush()
}

fn campaign(
    names: &[String],
    seeds: std::ops::Range<u64>,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut failed = 0;
    let mut runs = 0;
    for name in names {
        let Some(scenario) = scenario::find(name) else {
            return Ok(unknown(name));
        };
        for seed in seeds.clone() {
            runs += 1;
            for failure in scenario.run(seed).failures {
                failed += 1;
                tell(format_args!(
                    "{failure}; repeat: trackerless-sim run {name} --seed {seed}"
                ));
            }
        }
    }
    writeln!(out, "{runs} runs, {failed} failures")?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn replay_file(path: &Path, out: &mut impl Write) -> io::Result<ExitCode> {
    let unreadable = |error: &dyn Display| Ok(wrong(format_args!("{}: {error}", path.display())));
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) => return unreadable(&error),
    };
    match replay::replay(&file) {
        Ok(seen) => {
            writeln!(out, "inputs {}  outputs {}", seen.inputs, seen.outputs)?;
            writeln!(out, "output hash {:016x}", seen.output_hash)?;
            if seen.cut_off > 0 {
                writeln!(out, "cut off     {} bytes of a last record", seen.cut_off)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => unreadable(&error),
    }
}
