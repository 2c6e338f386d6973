//! `campaign` and `merge`: scenarios over many seeds.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use trackerless_sim::campaign::{Campaign, Plan, Shard};

use super::{load, wrong};

#[derive(Args)]
pub(super) struct CampaignArgs {
    /// TOML files, or names of built-ins; see `list`. `all` is every built-in.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Seeds `A..B`, B excluded.
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Changes a value of each, as network.loss=5%.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Does part I of N of it, I from 0 on: for many machines; see `merge`.
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    shard: Shard,
    /// Runs at once; as many as there are cores if not given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    files: Files,
}

#[derive(Args)]
pub(super) struct MergeArgs {
    /// What each shard wrote with `--out`.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
}

/// Where results go.
#[derive(Args)]
struct Files {
    /// Writes the results as JSON, for `merge`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes the results as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Prints the results as one JSON object.
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text
        .split_once("..")
        .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("{text:?}: expected A..B with A less than B, as 0..100"))
}

pub(super) fn campaign(args: &CampaignArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut scenarios = Vec::new();
    for name in &args.scenarios {
        let names = match name.as_str() {
            "all" => trackerless_sim::scenario::all()
                .into_iter()
                .map(|it| it.name)
                .collect(),
            name => vec![name.to_owned()],
        };
        for name in names {
            match load(&name, &args.set) {
                Ok(scenario) => scenarios.push((name, scenario)),
                Err(error) => return Ok(wrong(error)),
            }
        }
    }
    if let Some(error) = args.files.unwritable() {
        return Ok(wrong(error));
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let plan = Plan {
        scenarios,
        set: args.set.clone(),
        seeds: args.seeds.clone(),
        shard: args.shard,
        threads: args.threads.map_or(cores, NonZeroUsize::get),
    };
    let begun = Instant::now();
    let shows = io::stderr().is_terminal();
    let mut failed = 0;
    let campaign = plan.run(|outcome, done, all| {
        failed += usize::from(!outcome.failures.is_empty());
        if shows {
            let (seconds, name) = (begun.elapsed().as_secs(), &outcome.scenario);
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{done} of {all} runs, {failed} failed, {seconds} s ({name})"
            );
        }
    });
    if shows {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    args.files.write(&campaign, out)
}

pub(super) fn merge(args: &MergeArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| Campaign::from_json(&text))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let parts: Result<Vec<_>, _> = args.results.iter().map(|path| read(path)).collect();
    match parts.and_then(Campaign::merge) {
        Ok(campaign) => args.files.write(&campaign, out),
        Err(error) => Ok(wrong(error)),
    }
}

impl Files {
    /// A file that cannot be written is told before the runs.
    fn unwritable(&self) -> Option<String> {
        let files = [&self.out, &self.junit];
        files.into_iter().flatten().find_map(|path| {
            let opened = fs::OpenOptions::new().append(true).create(true).open(path);
            opened
                .err()
                .map(|error| format!("{}: {error}", path.display()))
        })
    }

    fn write(&self, campaign: &Campaign, out: &mut impl Write) -> io::Result<ExitCode> {
        let json = campaign.to_json();
        for (path, text) in [
            (&self.out, format!("{json}\n")),
            (&self.junit, campaign.to_junit()),
        ] {
            if let Some(path) = path
                && let Err(error) = fs::write(path, text)
            {
                return Ok(wrong(format_args!("{}: {error}", path.display())));
            }
        }
        if self.json {
            writeln!(out, "{json}")?;
        } else {
            write!(out, "{campaign}")?;
        }
        Ok(ExitCode::from(u8::from(!campaign.holds())))
    }
}
