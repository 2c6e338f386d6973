//! The command line: what is asked for, and what is said.

mod campaign;
mod run;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use trackerless_sim::scenario::{self, Scenario};
use trackerless_sim::{bench, replay, trace};

/// Whole swarms of production engines in one process, from one seed.
#[derive(Parser)]
#[command(name = "trackerless-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario and prints its results and trace root.
    Run(run::RunArgs),
    /// Runs scenarios over many seeds; says which failed and how to repeat them.
    Campaign(campaign::CampaignArgs),
    /// Measures the simulator on this machine.
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Feeds a recording to the same engine and prints the hash of its outputs.
    Replay {
        /// A file written with `--record`.
        file: PathBuf,
    },
    /// Puts the results of a campaign's shards together.
    Merge(campaign::MergeArgs),
    /// Names the first second, host and event at which two traces part.
    Diff {
        /// What `run --trace` wrote.
        ours: PathBuf,
        /// And of another run.
        theirs: PathBuf,
    },
    /// Prints a scenario as TOML: a beginning for one of your own.
    Show {
        #[command(flatten)]
        scenario: ScenarioArgs,
    },
    /// Lists the built-in scenarios.
    List,
}

/// Which scenario.
#[derive(Args)]
struct ScenarioArgs {
    /// A TOML file, or the name of a built-in; see `list`.
    scenario: String,
    /// Changes a value, as network.loss=5% or groups.leechers.count=50.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ScenarioArgs {
    fn load(&self) -> Result<Scenario, String> {
        load(&self.scenario, &self.set)
    }
}

/// A file where there is one of that name, or where it looks like one; else a built-in.
fn load(name: &str, set: &[String]) -> Result<Scenario, String> {
    let path = Path::new(name);
    let is_file = path.extension().is_some_and(|end| end == "toml") || name.contains('/');
    if is_file || path.is_file() {
        return Scenario::load(path, set);
    }
    let Some(scenario) = scenario::find(name) else {
        let known: Vec<_> = scenario::all().into_iter().map(|it| it.name).collect();
        let near = scenario::nearest(name, known.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
        let known = known.join(", ");
        return Err(format!(
            "{name}: no such scenario; {near}expected a TOML file or one of {known}"
        ));
    };
    scenario.with(set).map_err(|wrong| wrong.to_string())
}

pub(crate) fn main() -> ExitCode {
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
        Command::Run(args) => run::run(&args, out),
        Command::Campaign(args) => campaign::campaign(&args, out),
        Command::Replay { file } => replay_file(&file, out),
        Command::Bench { what } => bench::run(&what, out),
        Command::Merge(args) => campaign::merge(&args, out),
        Command::Diff { ours, theirs } => diff(&ours, &theirs, out),
        Command::Show { scenario } => show(&scenario, out),
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

fn list(out: &mut impl Write) -> io::Result<ExitCode> {
    for scenario in scenario::all() {
        writeln!(out, "{:18} {}", scenario.name, scenario.about)?;
        writeln!(out, "{:18}   shows: {}", "", scenario.shows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ScenarioArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    match args.load() {
        Ok(scenario) => {
            write!(out, "{}", scenario.to_toml())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(wrong(error)),
    }
}

fn diff(ours: &Path, theirs: &Path, out: &mut impl Write) -> io::Result<ExitCode> {
    let open = |path: &Path| {
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()));
        file.map(io::BufReader::new)
    };
    let compared = open(ours).and_then(|first| {
        let second = open(theirs)?;
        trace::diff(first, second).map_err(|error| error.to_string())
    });
    match compared {
        Ok(None) => {
            writeln!(out, "the traces are the same")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Some(parting)) => {
            writeln!(out, "{parting}")?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Ok(wrong(error)),
    }
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
