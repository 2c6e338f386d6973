//! Campaigns: scenarios over many seeds, on all cores of a machine, or on many machines.
//!
//! Every run is by itself, so a campaign is spread by giving each machine a [`Shard`] of it; what
//! spreads them (a job runner of any kind) is not of this package. The results of the shards are
//! files that [`Campaign::merge`] puts together.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::results::{Percentiles, Report};
use crate::scenario::Scenario;

/// The part of a campaign that one machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0 on.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let shard = parts.and_then(|(index, of)| {
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            Some(Self { index, of })
        });
        shard
            .filter(|shard| shard.index < shard.of)
            .ok_or_else(|| format!("{text:?}: expected I/N with I from 0 to N-1, as 0/4"))
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Scenarios, each as it is named on the command line, with what `--set` changes.
    pub scenarios: Vec<(String, Scenario)>,
    /// Changes that were made to each, for the command that repeats a run.
    pub set: Vec<String>,
    /// The seeds of each.
    pub seeds: Range<u64>,
    /// The part of it that is done here.
    pub shard: Shard,
    /// Runs at once.
    pub threads: usize,
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The scenario, as it was named.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The trace root.
    pub root: String,
    /// Wall time it took, microseconds.
    pub wall_micros: u64,
    /// Virtual time until the last leecher had finished, microseconds.
    pub last_micros: Option<u64>,
    /// Properties that did not hold: name, and what was seen.
    pub failures: Vec<(String, String)>,
    /// Properties that are to come true in some run, and whether they did.
    pub sometimes: Vec<(String, bool)>,
    /// The command that repeats it.
    pub repeat: String,
}

/// What a campaign came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Campaign {
    /// Its runs, in order of scenario and seed.
    pub outcomes: Vec<Outcome>,
    /// The shards it is made of: which of how many.
    pub shards: Vec<(u64, u64)>,
}

impl Plan {
    /// Runs it; `told` hears of each run that is over, and how many are of how many.
    pub fn run(&self, mut told: impl FnMut(&Outcome, usize, usize)) -> Campaign {
        let all = self
            .scenarios
            .iter()
            .flat_map(|named| self.seeds.clone().map(move |seed| (named, seed)));
        let mine = (0u64..)
            .zip(all)
            .filter(|(at, _)| at % self.shard.of == self.shard.index);
        let jobs: Vec<(&(String, Scenario), u64)> = mine.map(|(_, job)| job).collect();
        let next = AtomicUsize::new(0);
        let mut outcomes = Vec::with_capacity(jobs.len());
        let (done, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, jobs.len().max(1)) {
                let (next, jobs, done) = (&next, &jobs, done.clone());
                scope.spawn(move || {
                    while let Some(((name, scenario), seed)) =
                        jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let outcome = self.outcome(name, scenario, *seed);
                        if done.send(outcome).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(done);
            for outcome in results {
                told(&outcome, outcomes.len() + 1, jobs.len());
                outcomes.push(outcome);
            }
        });
        let mut campaign = Campaign {
            outcomes,
            shards: vec![(self.shard.index, self.shard.of)],
        };
        campaign.sort();
        campaign
    }

    fn outcome(&self, name: &str, scenario: &Scenario, seed: u64) -> Outcome {
        let begun = Instant::now();
        let report = scenario.run(seed);
        Outcome {
            wall_micros: begun.elapsed().as_micros() as u64,
            repeat: repeat(name, seed, &self.set),
            ..Outcome::of(name, &report)
        }
    }
}

/// The command that repeats a run.
#[must_use]
pub fn repeat(name: &str, seed: u64, set: &[String]) -> String {
    let mut command = format!("trackerless-sim run {} --seed {seed}", shell(name));
    for change in set {
        let _ = write!(command, " --set {}", shell(change));
    }
    command
}

/// A word as shells take it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Outcome {
    fn of(name: &str, report: &Report) -> Self {
        let last = report.results.completed_at.iter().flatten().max();
        Self {
            scenario: name.into(),
            seed: report.seed,
            root: report.root.to_string(),
            wall_micros: 0,
            last_micros: last.map(|last| last.as_micros() as u64),
            failures: report
                .failures
                .iter()
                .map(|failure| (failure.property.clone(), failure.to_string()))
                .collect(),
            sometimes: report.sometimes.clone(),
            repeat: String::new(),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "root": self.root,
            "wall_micros": self.wall_micros,
            "last_micros": self.last_micros,
            "failures": self.failures.iter()
                .map(|(property, detail)| json!({"property": property, "detail": detail}))
                .collect::<Vec<_>>(),
            "sometimes": self.sometimes.iter()
                .map(|(property, met)| json!({"property": property, "met": met}))
                .collect::<Vec<_>>(),
            "repeat": self.repeat,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let failure = |value: &Value| Some((text(&value["property"])?, text(&value["detail"])?));
        let sometimes = |value: &Value| Some((text(&value["property"])?, value["met"].as_bool()?));
        Some(Self {
            scenario: text(&value["scenario"])?,
            seed: value["seed"].as_u64()?,
            root: text(&value["root"])?,
            wall_micros: value["wall_micros"].as_u64()?,
            last_micros: value["last_micros"].as_u64(),
            failures: value["failures"]
                .as_array()?
                .iter()
                .map(failure)
                .collect::<Option<_>>()?,
            sometimes: value["sometimes"]
                .as_array()?
                .iter()
                .map(sometimes)
                .collect::<Option<_>>()?,
            repeat: text(&value["repeat"])?,
        })
    }
}

impl Campaign {
    fn sort(&mut self) {
        self.outcomes
            .sort_by(|a, b| (&a.scenario, a.seed).cmp(&(&b.scenario, b.seed)));
        self.shards.sort_unstable();
    }

    /// As JSON, to be merged with that of other shards.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "trackerless_campaign": 1,
            "shards": self.shards.iter().map(|(index, of)| json!([index, of])).collect::<Vec<_>>(),
            "runs": self.outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>(),
        })
    }

    /// Reads what [`Campaign::to_json`] wrote.
    ///
    /// # Errors
    /// What was expected.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let read = || {
            (value["trackerless_campaign"] == 1).then_some(())?;
            let shard = |value: &Value| Some((value[0].as_u64()?, value[1].as_u64()?));
            Some(Self {
                shards: value["shards"]
                    .as_array()?
                    .iter()
                    .map(shard)
                    .collect::<Option<_>>()?,
                outcomes: value["runs"]
                    .as_array()?
                    .iter()
                    .map(Outcome::from_json)
                    .collect::<Option<_>>()?,
            })
        };
        read().ok_or_else(|| "expected the results of a campaign, as --out writes them".into())
    }

    /// Puts the results of all shards of one campaign together.
    ///
    /// # Errors
    /// Which shard is missing, or there twice.
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Result<Self, String> {
        let mut merged = Self::default();
        for part in parts {
            merged.outcomes.extend(part.outcomes);
            merged.shards.extend(part.shards);
        }
        merged.sort();
        let Some(&(_, of)) = merged.shards.first() else {
            return Err("expected the results of at least one shard".into());
        };
        for (expected, &(index, parts)) in (0..).zip(&merged.shards) {
            if parts != of {
                return Err(format!(
                    "expected shards of one campaign: {index}/{parts} is not of {of}"
                ));
            }
            if index < expected {
                return Err(format!("shard {index}/{of} is there twice"));
            }
            if index > expected {
                return Err(format!("shard {expected}/{of} is missing"));
            }
        }
        let many = merged.shards.len() as u64;
        if many < of {
            return Err(format!("shard {many}/{of} is missing"));
        }
        Ok(merged)
    }

    /// Whether all shards are there, so that it can be said what never happened.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shards
            .first()
            .is_some_and(|(_, of)| *of == self.shards.len() as u64)
    }

    /// Runs in which something did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(|outcome| !outcome.failures.is_empty())
    }

    /// Properties that were to come true in some run and did in none: scenario and name. Nothing
    /// while shards are missing.
    #[must_use]
    pub fn never_met(&self) -> Vec<(String, String)> {
        let mut met = BTreeMap::new();
        for outcome in self.outcomes.iter().filter(|_| self.is_whole()) {
            for (property, is) in &outcome.sometimes {
                let key = (outcome.scenario.clone(), property.clone());
                *met.entry(key).or_insert(false) |= is;
            }
        }
        met.into_iter()
            .filter(|(_, met)| !met)
            .map(|(key, _)| key)
            .collect()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.failed().next().is_none() && self.never_met().is_empty()
    }

    /// As JUnit's XML: a test suite for each scenario, a test case for each seed.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for (name, outcomes) in self.by_scenario() {
            let never: Vec<_> = self
                .never_met()
                .into_iter()
                .filter(|(of, _)| of == name)
                .collect();
            let failed = outcomes.iter().filter(|it| !it.failures.is_empty()).count() + never.len();
            let tests = outcomes.len() + never.len();
            let time: f64 = outcomes.iter().map(|it| it.wall_micros as f64 / 1e6).sum();
            let name = escaped(name);
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" time=\"{time:.3}\">"
            );
            for outcome in outcomes {
                let (seed, time) = (outcome.seed, outcome.wall_micros as f64 / 1e6);
                let case = format!(
                    "<testcase classname=\"{name}\" name=\"seed {seed}\" time=\"{time:.3}\""
                );
                if outcome.failures.is_empty() {
                    let _ = writeln!(xml, "    {case}/>");
                    continue;
                }
                let _ = writeln!(xml, "    {case}>");
                for (property, detail) in &outcome.failures {
                    let (property, detail) = (escaped(property), escaped(detail));
                    let repeat = escaped(&outcome.repeat);
                    let _ = writeln!(
                        xml,
                        "      <failure message=\"{property}\">{detail}\nrepeat: {repeat}</failure>"
                    );
                }
                xml.push_str("    </testcase>\n");
            }
            for (_, property) in never {
                let property = escaped(&property);
                let _ = writeln!(
                    xml,
                    "    <testcase classname=\"{name}\" name=\"{property}\"><failure \
                     message=\"{property}\">came true in no run</failure></testcase>"
                );
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }

    fn by_scenario(&self) -> BTreeMap<&str, Vec<&Outcome>> {
        let mut all: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
        for outcome in &self.outcomes {
            all.entry(&outcome.scenario).or_default().push(outcome);
        }
        all
    }
}

/// A text as XML has it, without what XML cannot have.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// What people read at the end: a line for each scenario, and failures with the command that
/// repeats each.
impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: u64| format!("{:.3} s", Duration::from_micros(micros).as_secs_f64());
        writeln!(
            f,
            "{:20} {:>6} {:>7}  last completion (virtual): median, 98 %, most",
            "scenario", "runs", "failed"
        )?;
        for (name, outcomes) in self.by_scenario() {
            let failed = outcomes.iter().filter(|it| !it.failures.is_empty()).count();
            let last = Percentiles::of(outcomes.iter().filter_map(|it| it.last_micros));
            let last = last.map_or(String::new(), |it| {
                format!(
                    "{}, {}, {}",
                    seconds(it.median),
                    seconds(it.p98),
                    seconds(it.most)
                )
            });
            writeln!(f, "{name:20} {:>6} {failed:>7}  {last}", outcomes.len())?;
        }
        for outcome in self.failed() {
            writeln!(f, "\n{}, seed {}:", outcome.scenario, outcome.seed)?;
            for (_, detail) in outcome.failures.iter().take(3) {
                writeln!(f, "  {detail}")?;
            }
            if outcome.failures.len() > 3 {
                writeln!(f, "  and {} more", outcome.failures.len() - 3)?;
            }
            writeln!(f, "  repeat: {}", outcome.repeat)?;
        }
        for (scenario, property) in self.never_met() {
            writeln!(f, "\n{scenario}: {property} came true in no run")?;
        }
        let failed = self.failed().count() + self.never_met().len();
        writeln!(f, "\n{} runs, {failed} failed", self.outcomes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::property::{Rule, What};
    use crate::scenario::{Group, Role};

    fn plan(shard: Shard, threads: usize) -> Plan {
        let small = Scenario {
            groups: vec![
                Group::new("seeds", Role::Seed, 1),
                Group {
                    knows: vec!["seeds".into()],
                    ..Group::new("leechers", Role::Leech, 2)
                },
            ],
            properties: vec![Rule::sometimes(What::PiecesFailed, "leechers")],
            ..Scenario::named("small")
        };
        let broken = Scenario {
            within: Duration::from_millis(50),
            ..small.clone()
        };
        Plan {
            scenarios: vec![("small".into(), small), ("it's <broken>".into(), broken)],
            set: vec!["network.loss=0%".into(), "about=a b".into()],
            seeds: 3..8,
            shard,
            threads,
        }
    }

    fn run(index: u64, of: u64, threads: usize) -> Campaign {
        let mut campaign = plan(Shard { index, of }, threads).run(|_, _, _| {});
        campaign
            .outcomes
            .iter_mut()
            .for_each(|outcome| outcome.wall_micros = 0);
        campaign
    }

    #[test]
    fn shards_merge_to_what_one_machine_finds() {
        let whole = run(0, 1, 2);
        assert_eq!(whole.outcomes.len(), 10);
        assert_eq!(whole.failed().count(), 5);
        assert!(!whole.holds());
        let shards = [run(2, 3, 1), run(0, 3, 2), run(1, 3, 1)];
        assert!(
            shards
                .iter()
                .all(|shard| shard.never_met().is_empty() && !shard.is_whole())
        );
        let read = |shard: &Campaign| Campaign::from_json(&shard.to_json().to_string()).unwrap();
        let merged = Campaign::merge(shards.iter().map(read)).unwrap();
        assert_eq!(merged.outcomes, whole.outcomes);
        let never = (
            "small".to_owned(),
            "sometimes(pieces-failed leechers)".to_owned(),
        );
        assert!(merged.never_met().contains(&never));
        let missing = Campaign::merge([run(0, 3, 1), run(2, 3, 1)]).unwrap_err();
        assert_eq!(missing, "shard 1/3 is missing");
        let missing = Campaign::merge([run(0, 2, 1)]).unwrap_err();
        assert_eq!(missing, "shard 1/2 is missing");
        let twice = Campaign::merge([run(0, 2, 1), run(0, 2, 1)]).unwrap_err();
        assert_eq!(twice, "shard 0/2 is there twice");
        assert!(Campaign::from_json("{}").is_err() && Campaign::from_json("x").is_err());
    }

    #[test]
    fn a_failure_names_the_command_that_repeats_it() {
        let whole = run(0, 1, 1);
        let first = whole.failed().next().unwrap();
        let repeat = "trackerless-sim run 'it'\\''s <broken>' --seed 3 --set network.loss=0% --set 'about=a b'";
        assert_eq!(first.repeat, repeat);
        assert!(whole.to_string().contains(&format!("repeat: {repeat}")));
        let xml = whole.to_junit();
        assert!(
            xml.contains("<testsuite name=\"it's &lt;broken&gt;\" tests=\"6\" failures=\"6\""),
            "{xml}"
        );
        assert!(
            xml.contains("<testcase classname=\"small\" name=\"seed 4\""),
            "{xml}"
        );
        assert_eq!(xml.matches("<testcase").count(), 12);
    }

    #[test]
    fn shards_are_counted_from_0() {
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, of: 4 }));
        for wrong in ["4/4", "1", "-1/2", "0/0", "a/b"] {
            assert!(
                wrong.parse::<Shard>().unwrap_err().contains("I/N"),
                "{wrong}"
            );
        }
    }
}
