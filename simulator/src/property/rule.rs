//! Properties as data.

use std::time::Duration;

use trackerless_core::Instant;

use super::{Facts, Failure};
use crate::scenario::{Scenario, Share};
use crate::{HostId, Sim};

/// When a figure has to be what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// At some time within [`Rule::within`].
    #[default]
    Eventually,
    /// At every time, from [`Rule::after`] on.
    Always,
    /// At no time.
    Never,
    /// In at least one run of a campaign.
    Sometimes,
}

/// A figure of a host. Conditions are 1 where they hold and 0 where not; counts only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum What {
    /// Condition: it has all of the content.
    #[default]
    Complete,
    /// Condition: it knows the torrent's metadata.
    Metadata,
    /// Condition: its DHT node has joined.
    Joined,
    /// Connected peers.
    Peers,
    /// Connections, half-open ones included.
    Connections,
    /// Good nodes in its routing tables.
    Nodes,
    /// Count: peers it learned of through the DHT.
    FoundByDht,
    /// Count: peers it learned of through peer exchange.
    FoundByPex,
    /// Count: peers it learned of through local discovery.
    FoundByLsd,
    /// Count: peers that came to it.
    FoundIncoming,
    /// Count: pieces that had the wrong hash.
    PiecesFailed,
    /// Count: peers it banned.
    Bans,
    /// Count: peers among them that never lied.
    BansOfHonest,
    /// Count: hosts that banned it.
    BannedBy,
    /// Count: lookups that found something.
    Lookups,
    /// Count: lookups that found nothing.
    LookupsEmpty,
    /// The longest of its lookups, in milliseconds.
    LookupMillis,
    /// Count: failures of its storage.
    StorageFailures,
    /// Bytes of blocks that it sent.
    Uploaded,
    /// Seconds from its start to the whole content; 0 while it is not complete.
    SecondsToComplete,
}

/// A property as data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Its name; made of what it says if empty.
    pub name: String,
    /// When it has to hold.
    pub kind: Kind,
    /// Of which figure.
    pub what: What,
    /// The group it is about; all hosts if empty.
    pub hosts: String,
    /// How many of these hosts, at least, an `eventually` or `always` is about; all if none.
    pub share: Option<Share>,
    /// The figure is at least this; 1 if none.
    pub at_least: Option<u64>,
    /// And at most this.
    pub at_most: Option<u64>,
    /// Virtual time within which an `eventually` has to hold; the whole run if none.
    pub within: Option<Duration>,
    /// Virtual time from which on an `always` has to hold.
    pub after: Duration,
}

impl Rule {
    /// At some time every host of the group has this.
    #[must_use]
    pub fn eventually(what: What, hosts: &str) -> Self {
        Self::of(Kind::Eventually, what, hosts)
    }

    /// Every host of the group has this all the time.
    #[must_use]
    pub fn always(what: What, hosts: &str) -> Self {
        Self::of(Kind::Always, what, hosts)
    }

    /// No host of the group ever has this.
    #[must_use]
    pub fn never(what: What, hosts: &str) -> Self {
        Self::of(Kind::Never, what, hosts)
    }

    /// Some host of the group has this at some time of some run.
    #[must_use]
    pub fn sometimes(what: What, hosts: &str) -> Self {
        Self::of(Kind::Sometimes, what, hosts)
    }

    fn of(kind: Kind, what: What, hosts: &str) -> Self {
        Self {
            kind,
            what,
            hosts: hosts.into(),
            ..Self::default()
        }
    }

    /// The figure is at least `least`.
    #[must_use]
    pub fn at_least(mut self, least: u64) -> Self {
        self.at_least = Some(least);
        self
    }

    /// The figure is at most `most`.
    #[must_use]
    pub fn at_most(mut self, most: u64) -> Self {
        self.at_most = Some(most);
        self.at_least = self.at_least.or(Some(0));
        self
    }

    /// It has to come true in that time.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Its name: its own, or made of what it says, as `eventually(complete leechers)`.
    #[must_use]
    pub fn title(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let mut title = format!("{}({}", self.kind.name(), self.what.name());
        if !self.hosts.is_empty() {
            title = format!("{title} {}", self.hosts);
        }
        title + ")"
    }

    /// What of it does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.at_most.is_some_and(|most| most < self.least()) {
            return Err("expected at-least to be at most at-most".into());
        }
        if self.within.is_some() && self.kind != Kind::Eventually {
            return Err("only \"eventually\" has within".into());
        }
        if self.after > Duration::ZERO && self.kind != Kind::Always {
            return Err("only \"always\" has after".into());
        }
        Ok(())
    }

    fn least(&self) -> u64 {
        // Whoever names the most only means from 0 on.
        self.at_least.unwrap_or(u64::from(self.at_most.is_none()))
    }

    fn holds(&self, figure: u64) -> bool {
        figure >= self.least() && self.at_most.is_none_or(|most| figure <= most)
    }
}

/// How one rule stands.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// An `eventually` or `sometimes` came true.
    met: bool,
    /// A failure is told once.
    failed: bool,
}

/// Looks at the rules of a scenario now and then.
#[derive(Debug)]
pub(crate) struct Judge {
    rules: Vec<Rule>,
    standing: Vec<Standing>,
    pub(crate) failures: Vec<Failure>,
}

impl Judge {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            rules: scenario.properties.clone(),
            standing: vec![Standing::default(); scenario.properties.len()],
            failures: Vec::new(),
        }
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        let mut rules = self.rules.iter().zip(&self.standing);
        rules.all(|(rule, standing)| {
            rule.kind != Kind::Eventually || standing.met || standing.failed
        })
    }

    /// Which `sometimes` rules came true, by name.
    pub(crate) fn sometimes(&self) -> Vec<(String, bool)> {
        let rules = self.rules.iter().zip(&self.standing);
        rules
            .filter(|(rule, _)| rule.kind == Kind::Sometimes)
            .map(|(rule, standing)| (rule.title(), standing.met))
            .collect()
    }

    /// Looks at all rules; at the end what did not come true has failed.
    pub(crate) fn look(&mut self, sim: &Sim, facts: &Facts, start: Instant, is_end: bool) {
        let now = sim.now().saturating_since(start);
        for (rule, standing) in self.rules.iter().zip(&mut self.standing) {
            if standing.failed || standing.met {
                continue;
            }
            let hosts: Vec<HostId> = facts.hosts_of(&rule.hosts).collect();
            let figure = |host: &HostId| facts.figure(sim, *host, rule.what);
            let holding = hosts.iter().filter(|host| rule.holds(figure(host))).count() as u64;
            let wanted = rule.share.unwrap_or(Share::ALL).of(hosts.len() as u64);
            let detail = match rule.kind {
                Kind::Eventually => {
                    let in_time = rule.within.is_none_or(|within| now <= within);
                    standing.met = in_time && holding >= wanted;
                    let over = !standing.met && (is_end || !in_time);
                    over.then(|| format!("{holding} of {} hosts, {wanted} expected", hosts.len()))
                }
                Kind::Sometimes => {
                    standing.met = holding > 0;
                    None
                }
                Kind::Always if now < rule.after => None,
                Kind::Always => (holding < wanted)
                    .then(|| format!("{holding} of {} hosts, {wanted} expected", hosts.len())),
                Kind::Never => (holding > 0).then(|| format!("{holding} of {} hosts", hosts.len())),
            };
            if let Some(detail) = detail {
                standing.failed = true;
                let breaks =
                    |host: &&HostId| rule.holds(figure(host)) == (rule.kind == Kind::Never);
                let host = hosts.iter().find(breaks).copied();
                let of = host.map_or(0, |host| figure(&host));
                self.failures.push(Failure {
                    property: rule.title(),
                    at: now,
                    host,
                    detail: format!("{} is {of}: {detail}", rule.what.name()),
                });
            }
        }
    }
}
