//! What a run came to, in figures: for people, and as JSON.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use trackerless_core::Instant;
use trackerless_core::event::PeerSource;

use crate::Root;
use crate::property::{Facts, Failure};
use crate::scenario::{Role, Scenario};

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The trace root at the end.
    pub root: Root,
    /// The trace root at the end of each simulated second.
    pub epochs: Vec<Root>,
    /// Inputs handled by all engines.
    pub handled: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Figures.
    pub results: Results,
    /// Properties that are to come true in some run of a campaign, and whether they did in this.
    pub sometimes: Vec<(String, bool)>,
    /// Properties that did not hold, in order of name and time.
    pub failures: Vec<Failure>,
}

/// Figures of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// Virtual time from its start that each leecher needed, in host order; `None` for those that
    /// did not finish.
    pub completed: Vec<Option<Duration>>,
    /// The same since the start of the run.
    pub completed_at: Vec<Option<Duration>>,
    /// Virtual time that each lookup took, in order of time.
    pub lookups: Vec<Duration>,
    /// Virtual time until the first result of each lookup that had one.
    pub first_results: Vec<Duration>,
    /// Lookups that found nothing.
    pub lookups_empty: u64,
    /// Of each host: bytes sent, in datagrams and streams, without headers of IP, UDP and TCP.
    pub bytes_sent: Vec<u64>,
    /// Of each host: times its timer woke it.
    pub wake_ups: Vec<u64>,
    /// Of each host: inputs handled.
    pub inputs: Vec<u64>,
    /// Bytes of blocks read to be sent, over all hosts.
    pub block_bytes: u64,
    /// Bytes of content that leechers verified.
    pub useful_bytes: u64,
    /// Evenness of the pieces' copies among leechers, on average over the time in which some and
    /// not all had them, in thousandths; 1000 where all pieces are as common all the time.
    pub entropy: Option<u32>,
    /// Part of the uplinks of seeds and leechers that was used until the last was complete, in
    /// thousandths.
    pub uplink_use: Option<u64>,
    /// Peers that leechers learned of, by source.
    pub found: Vec<(&'static str, u64)>,
    /// Good nodes in tables cannot be told afterwards: how many nodes had joined the DHT.
    pub joined: u64,
}

/// A few parts of an ordered lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles<T> {
    /// The least.
    pub least: T,
    /// Half are below it.
    pub median: T,
    /// Ninety in a hundred are.
    pub p90: T,
    /// Ninety-eight in a hundred are.
    pub p98: T,
    /// The greatest.
    pub most: T,
}

impl<T: Copy + Ord> Percentiles<T> {
    /// Those of a lot that is not empty.
    #[must_use]
    pub fn of(lot: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut lot: Vec<T> = lot.into_iter().collect();
        lot.sort_unstable();
        let last = lot.len().checked_sub(1)?;
        let part = |hundredths: usize| lot[(last * hundredths + 50) / 100];
        Some(Self {
            least: lot[0],
            median: part(50),
            p90: part(90),
            p98: part(98),
            most: lot[last],
        })
    }
}

impl Results {
    pub(crate) fn gather(
        scenario: &Scenario,
        facts: &Facts,
        elapsed: Duration,
        start: Instant,
    ) -> Self {
        let leeches = |facts: &crate::property::HostFacts| {
            let group = &scenario.groups[facts.group];
            group.role == Role::Leech && group.finishes && facts.left.is_none()
        };
        let leechers = || facts.hosts.iter().filter(|host| leeches(host));
        let completed_at: Vec<_> = leechers()
            .map(|host| host.complete.map(|at| at.saturating_since(start)))
            .collect();
        let all_lookups = || facts.hosts.iter().flat_map(|host| &host.lookups);
        let piece = scenario.content.piece.0;
        let size = |index: u32| piece.min(scenario.content.size.0 - u64::from(index) * piece);
        let until = completed_at
            .iter()
            .flatten()
            .max()
            .copied()
            .unwrap_or(elapsed);
        let sharing = || {
            facts
                .hosts
                .iter()
                .filter(|host| scenario.groups[host.group].role != Role::Node)
        };
        let capacity: u128 = sharing()
            .map(|host| {
                let begun = host
                    .begun
                    .map_or(Duration::ZERO, |begun| begun.saturating_since(start));
                let rate = u128::from(scenario.groups[host.group].up.bytes());
                rate * until.saturating_sub(begun).as_micros() / 1_000_000
            })
            .sum();
        let sent: u64 = sharing()
            .map(|host| host.datagram_bytes + host.stream_bytes)
            .sum();
        let found = |name, source| {
            let of = leechers().map(|host| host.found.get(&source).copied().unwrap_or(0));
            (name, of.sum())
        };
        Self {
            completed: leechers()
                .map(|host| Some(host.complete?.saturating_since(host.begun?)))
                .collect(),
            completed_at,
            lookups: all_lookups().map(|it| it.elapsed).collect(),
            first_results: all_lookups().filter_map(|it| it.first).collect(),
            lookups_empty: all_lookups().filter(|it| it.results == 0).count() as u64,
            bytes_sent: facts
                .hosts
                .iter()
                .map(|it| it.datagram_bytes + it.stream_bytes)
                .collect(),
            wake_ups: facts.hosts.iter().map(|it| it.ticks).collect(),
            inputs: facts.hosts.iter().map(|it| it.inputs).collect(),
            block_bytes: facts.hosts.iter().map(|it| it.block_bytes).sum(),
            useful_bytes: facts
                .hosts
                .iter()
                .filter(|host| !host.seeds)
                .flat_map(|host| host.pieces.iter().map(|piece| size(*piece)))
                .sum(),
            entropy: facts
                .evenness
                .iter()
                .copied()
                .sum::<u32>()
                .checked_div(facts.evenness.len() as u32),
            uplink_use: u64::try_from(u128::from(sent) * 1_000 / capacity.max(1))
                .ok()
                .filter(|_| capacity > 0),
            found: vec![
                found("dht", PeerSource::Dht),
                found("pex", PeerSource::Pex),
                found("lsd", PeerSource::Lsd),
                found("incoming", PeerSource::Incoming),
                found("manual", PeerSource::Manual),
            ],
            joined: facts
                .hosts
                .iter()
                .filter(|host| host.joined.is_some())
                .count() as u64,
        }
    }

    /// Peers that leechers learned of through this source.
    #[must_use]
    pub fn found_by(&self, source: &str) -> u64 {
        let of = self.found.iter().find(|(name, _)| *name == source);
        of.map_or(0, |(_, count)| *count)
    }

    /// What was sent besides content, as part of it, in thousandths.
    #[must_use]
    pub fn overhead(&self) -> Option<u64> {
        let sent: u64 = self.bytes_sent.iter().sum();
        let rest = sent.saturating_sub(self.useful_bytes) * 1_000;
        rest.checked_div(self.useful_bytes)
    }
}

impl Report {
    /// As one JSON object. Times are seconds; nothing of it depends on the machine.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let results = &self.results;
        let seconds = |time: &Duration| json!(time.as_micros() as f64 / 1e6);
        let times = |times: Vec<Duration>| {
            Percentiles::of(times).map_or(Value::Null, |it| {
                json!({
                    "first": seconds(&it.least), "median": seconds(&it.median),
                    "p90": seconds(&it.p90), "p98": seconds(&it.p98), "last": seconds(&it.most),
                })
            })
        };
        let counts = |counts: &[u64]| {
            Percentiles::of(counts.iter().copied()).map_or(Value::Null, |it| {
                json!({
                    "least": it.least, "median": it.median, "p90": it.p90, "p98": it.p98,
                    "most": it.most, "all": counts.iter().sum::<u64>(),
                })
            })
        };
        let done = || {
            results
                .completed
                .iter()
                .flatten()
                .copied()
                .collect::<Vec<_>>()
        };
        json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "root": self.root.to_string(),
            "virtual_seconds": seconds(&self.elapsed),
            "inputs": self.handled,
            "hosts": results.bytes_sent.len(),
            "joined": results.joined,
            "leechers": results.completed.len(),
            "completed": done().len(),
            "completion": times(done()),
            "lookups": results.lookups.len(),
            "lookups_empty": results.lookups_empty,
            "lookup": times(results.lookups.clone()),
            "lookup_first_result": times(results.first_results.clone()),
            "bytes_per_host": counts(&results.bytes_sent),
            "wake_ups_per_host": counts(&results.wake_ups),
            "inputs_per_host": counts(&results.inputs),
            "useful_bytes": results.useful_bytes,
            "overhead": results.overhead().map(|it| it as f64 / 1e3),
            "piece_entropy": results.entropy.map(|it| f64::from(it) / 1e3),
            "uplink_use": results.uplink_use.map(|it| it as f64 / 1e3),
            "found": results.found.iter().map(|(name, count)| ((*name).to_owned(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "sometimes": self.sometimes.iter().map(|(name, met)| (name.clone(), json!(met)))
                .collect::<serde_json::Map<_, _>>(),
            "failures": self.failures.iter().map(|failure| json!({
                "property": failure.property,
                "at": seconds(&failure.at),
                "host": failure.host.map(|host| host.0),
                "detail": failure.detail,
            })).collect::<Vec<_>>(),
        })
    }
}

/// The table that people read.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = &self.results;
        let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
        let times = |all: Vec<Duration>| {
            Percentiles::of(all).map(|it| {
                let [first, median, p90, p98, last] =
                    [it.least, it.median, it.p90, it.p98, it.most].map(seconds);
                format!("first {first}, median {median}, 90 % {p90}, 98 % {p98}, last {last}")
            })
        };
        let counts = |counts: &[u64]| {
            let all = Percentiles::of(counts.iter().copied());
            all.map(|it| format!("median {}, 90 % {}, most {}", it.median, it.p90, it.most))
        };
        let part = |thousandths: u64| format!("{}.{} %", thousandths / 10, thousandths % 10);
        let mut table = String::new();
        let mut row = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(table, "{name:15} {value}");
            }
        };
        let done: Vec<_> = results.completed.iter().flatten().copied().collect();
        row("virtual time", Some(seconds(self.elapsed)));
        row(
            "hosts",
            Some(format!(
                "{}, {} joined the DHT",
                results.bytes_sent.len(),
                results.joined
            )),
        );
        let all = results.completed.len();
        row(
            "completed",
            (all > 0).then(|| format!("{} of {all}", done.len())),
        );
        row("completion", times(done));
        let empty = results.lookups_empty;
        let many = results.lookups.len();
        row(
            "lookups",
            (many > 0).then(|| format!("{many}, {empty} found nothing")),
        );
        row("lookup", times(results.lookups.clone()));
        row("first result", times(results.first_results.clone()));
        row("bytes sent", counts(&results.bytes_sent));
        row("wake-ups", counts(&results.wake_ups));
        row("overhead", results.overhead().map(part));
        row("piece entropy", results.entropy.map(|it| part(it.into())));
        row("uplink use", results.uplink_use.map(part));
        let found = results.found.iter().filter(|(_, count)| *count > 0);
        let found: Vec<_> = found
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        row(
            "peers found by",
            (!found.is_empty()).then(|| found.join(", ")),
        );
        for (name, met) in &self.sometimes {
            row(
                "sometimes",
                Some(format!(
                    "{name}: {}",
                    if *met { "met" } else { "not in this run" }
                )),
            );
        }
        row("trace root", Some(self.root.to_string()));
        f.write_str(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_lot() {
        let of = Percentiles::of(1..=101u64).unwrap();
        assert_eq!(
            (of.least, of.median, of.p90, of.p98, of.most),
            (1, 51, 91, 99, 101)
        );
        let one = Percentiles::of([7u64]).unwrap();
        assert_eq!((one.least, one.median, one.most), (7, 7, 7));
        assert_eq!(Percentiles::<u64>::of([]), None);
    }

    #[test]
    fn overhead_is_what_is_no_content() {
        let results = Results {
            bytes_sent: vec![1_500, 600],
            useful_bytes: 2_000,
            ..Results::default()
        };
        assert_eq!(results.overhead(), Some(50));
        assert_eq!(Results::default().overhead(), None);
    }
}
