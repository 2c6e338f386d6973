//! `trackerless-sim`: runs built-in scenarios and replays recordings.

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
        Err(error) if error.use_stderr() => {
            eprintln!("trackerless-sim: {}", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
        // Help or version, which was asked for.
        Err(error) => error.exit(),
    };
    match cli.command {
        Command::List => {
            for scenario in scenario::all() {
                println!("{:12} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        Command::Run {
            scenario,
            seed,
            trace,
        } => run(&scenario, seed, trace.as_deref()),
        Command::Campaign { scenarios, seeds } => campaign(&scenarios, seeds),
        Command::Replay { file } => replay_file(&file),
    }
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
    eprintln!(
        "trackerless-sim: {name}: no such scenario; expected one of {}",
        known.join(", ")
    );
    ExitCode::from(2)
}

fn run(name: &str, seed: u64, trace: Option<&Path>) -> ExitCode {
    let Some(mut scenario) = scenario::find(name) else {
        return unknown(name);
    };
    // A file that cannot be written is told before the run.
    let mut lines = None;
    if let Some(path) = trace {
        scenario.explain = true;
        match File::create(path) {
            Ok(file) => lines = Some((path, BufWriter::new(file))),
            Err(error) => return unwritable(path, &error),
        }
    }
    let begun = Instant::now();
    let report = scenario.run(seed);
    let wall = begun.elapsed().as_secs_f64();
    if let Some((path, mut file)) = lines
        && let Err(error) = write_trace(&report, &mut file)
    {
        return unwritable(path, &error);
    }
    println!("scenario        {name}, seed {seed}: {}", scenario.about);
    println!("virtual time    {:.3} s", report.elapsed.as_secs_f64());
    println!(
        "inputs handled  {} ({:.0} a second)",
        report.handled,
        report.handled as f64 / wall
    );
    let mut times: Vec<_> = report.completed.iter().flatten().copied().collect();
    times.sort_unstable();
    println!(
        "completed       {} of {}",
        times.len(),
        report.completed.len()
    );
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let median = times[times.len() / 2];
        println!(
            "completion      first {:.3} s, median {:.3} s, last {:.3} s",
            first.as_secs_f64(),
            median.as_secs_f64(),
            last.as_secs_f64()
        );
    }
    println!("found by DHT    {}", report.found_by_dht);
    println!("found by PEX    {}", report.found_by_pex);
    println!("trace root      {}", report.root);
    for failure in &report.failures {
        eprintln!("trackerless-sim: {failure}");
    }
    ExitCode::from(u8::from(!report.failures.is_empty()))
}

fn write_trace(report: &Report, file: &mut impl Write) -> io::Result<()> {
    for (at, host, event) in &report.told {
        writeln!(file, "{:.6} host {} {event:?}", at.as_secs_f64(), host.0)?;
    }
    file.flush()
}

fn unwritable(path: &Path, error: &io::Error) -> ExitCode {
    eprintln!("trackerless-sim: {}: {error}", path.display());
    ExitCode::from(2)
}

fn campaign(names: &[String], seeds: std::ops::Range<u64>) -> ExitCode {
    let mut failed = 0;
    let mut runs = 0;
    for name in names {
        let Some(scenario) = scenario::find(name) else {
            return unknown(name);
        };
        for seed in seeds.clone() {
            runs += 1;
            for failure in scenario.run(seed).failures {
                failed += 1;
                eprintln!("{failure}; repeat: trackerless-sim run {name} --seed {seed}");
            }
        }
    }
    println!("{runs} runs, {failed} failures");
    ExitCode::from(u8::from(failed > 0))
}

fn replay_file(path: &Path) -> ExitCode {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("trackerless-sim: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    match replay::replay(&file) {
        Ok(seen) => {
            println!("inputs {}  outputs {}", seen.inputs, seen.outputs);
            println!("output hash {:016x}", seen.output_hash);
            if seen.cut_off > 0 {
                println!("cut off     {} bytes of a last record", seen.cut_off);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trackerless-sim: {}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}
