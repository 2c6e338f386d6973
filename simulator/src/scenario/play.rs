//! Playing a scenario: hosts come, steps are done, properties are looked at, until it is over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use trackerless_core::id::Id20;
use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_core::metainfo::Torrent;
use trackerless_core::{Input, Instant, Output};

use super::{Action, Addresses, Arrivals, Contact, Group, Role, Scenario, SourceKind, Step};
use crate::Report;
use crate::law::Law;
use crate::property::{Facts, Failure, Guard, HostFacts, Judge, Property, Truth};
use crate::results::Results;
use crate::world::{START, draw};
use crate::{Content, HostId, HostSpec, Link, Network, Root, Sim, SimError, Watch};

/// How often properties are looked at, virtual time: at least this, and with many hosts less
/// often, so that looking costs no more than they do.
const LOOK: Duration = Duration::from_millis(10);
/// The time that each host adds to that.
const LOOK_PER_HOST: Duration = Duration::from_micros(100);
/// What arrivals are drawn for.
const ARRIVAL: u64 = 0xa44;
/// The first tag of lookups; lower ones name what a host begins with.
const LOOKUPS: u64 = 1_000;

/// A scenario about to be run.
pub struct Play<'a> {
    scenario: &'a Scenario,
    seed: u64,
    explain: bool,
    record: bool,
    keep_events: bool,
    watchers: Vec<Box<dyn Watch>>,
    properties: Vec<Box<dyn Property>>,
    progress: Option<Box<dyn FnMut(Progress) + 'a>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Virtual time since its start.
    pub now: Duration,
    /// Leechers that finished.
    pub complete: usize,
    /// Leechers.
    pub leechers: usize,
    /// Inputs handled by all engines.
    pub handled: u64,
}

/// A run under way.
pub struct Stage<'a> {
    /// The hosts and what is between them.
    pub sim: Sim,
    play: Play<'a>,
    judge: Judge,
    steps: Vec<Due>,
    heals: Vec<Instant>,
    published: Published,
    tags: u64,
}

/// A step that is still to be done.
#[derive(Debug, Clone)]
struct Due {
    at: Instant,
    step: Step,
}

/// The content of a scenario as a torrent.
#[derive(Clone)]
struct Published {
    content: Content,
    torrent: Source,
    magnet: String,
    info_hash: Id20,
}

/// What looks on in every run.
pub(crate) struct Observer {
    pub(crate) facts: Facts,
    pub(crate) guard: Guard,
}

impl Watch for Observer {
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        self.facts.input(at, host, input);
        self.guard.input(at, host, input);
    }

    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        self.facts.output(at, host, output);
        self.guard.output(at, host, output);
    }

    fn second(&mut self, sim: &Sim) {
        self.facts.second(sim);
        self.guard.second(sim);
    }
}

impl Scenario {
    /// Runs it to its end.
    #[must_use]
    pub fn run(&self, seed: u64) -> Report {
        self.play(seed).run()
    }

    /// It, about to be run with this seed.
    #[must_use]
    pub fn play(&self, seed: u64) -> Play<'_> {
        Play {
            scenario: self,
            seed,
            explain: false,
            record: false,
            keep_events: false,
            watchers: Vec::new(),
            properties: Vec::new(),
            progress: None,
        }
    }

    fn network(&self) -> Network {
        let network = &self.network;
        Network {
            min_delay: network.min_delay,
            max_delay: network.max_delay,
            jitter: network.jitter,
            loss_ppm: network.loss.0,
            ..Network::default()
        }
    }

    fn publish(&self, seed: u64) -> Published {
        let (size, piece) = (self.content.size.0, self.content.piece.0 as u32);
        let content = Content::generate(seed, size as usize, piece);
        let name = "content.bin";
        let mut info = format!(
            "d6:lengthi{size}e4:name{}:{name}12:piece lengthi{piece}e",
            name.len()
        )
        .into_bytes();
        let hashes = content.piece_hashes();
        info.extend_from_slice(format!("6:pieces{}:", hashes.len()).as_bytes());
        info.extend_from_slice(&hashes);
        if self.content.private {
            info.extend_from_slice(b"7:privatei1e");
        }
        info.push(b'e');
        let torrent = [&b"d4:info"[..], &info, b"e"].concat();
        let torrent = Torrent::parse(torrent.into()).expect("it was written by the rules");
        let info_hash = torrent.info.hashes.short();
        Published {
            content,
            magnet: format!("magnet:?xt=urn:btih:{info_hash}"),
            torrent: Source::Torrent(torrent.into()),
            info_hash,
        }
    }

    /// The addresses of its hosts, in order.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let hosts: u32 = self.groups.iter().map(|group| group.count).sum();
        (0..hosts).map(|number| self.addr(number)).collect()
    }

    fn addr(&self, number: u32) -> SocketAddr {
        let [_, top, high, low] = (number + 1).to_be_bytes();
        match self.addresses {
            Addresses::Own => SocketAddr::new(
                Ipv4Addr::new(10, top.wrapping_add(1), high, low).into(),
                6881,
            ),
            Addresses::Shared => {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + number as u16)
            }
        }
    }
}

impl<'a> Play<'a> {
    /// Engines tell why they decide as they do; the root stays the same.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.explain = true;
        self
    }

    /// Every host keeps a recording of its inputs, for [`crate::replay`].
    #[must_use]
    pub fn record(mut self) -> Self {
        self.record = true;
        self
    }

    /// What hosts tell is kept, for [`Sim::seen`].
    #[must_use]
    pub fn keep_events(mut self) -> Self {
        self.keep_events = true;
        self
    }

    /// Somebody who looks on.
    #[must_use]
    pub fn watch(mut self, watcher: impl Watch) -> Self {
        self.watchers.push(Box::new(watcher));
        self
    }

    /// A property besides those that the scenario names.
    #[must_use]
    pub fn property(mut self, property: impl Property) -> Self {
        self.properties.push(Box::new(property));
        self
    }

    /// Is told now and then how far the run is.
    #[must_use]
    pub fn progress(mut self, told: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Some(Box::new(told));
        self
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Report {
        let (scenario, seed) = (self.scenario, self.seed);
        match self.stage() {
            Ok(mut stage) => {
                let broken = stage.go().err();
                stage.report(broken)
            }
            Err(error) => Report::broken(scenario, seed, &error),
        }
    }

    /// Has all hosts made, and nothing run yet.
    ///
    /// # Errors
    /// When a host cannot be made.
    pub fn stage(mut self) -> Result<Stage<'a>, SimError> {
        let (scenario, seed) = (self.scenario, self.seed);
        let mut sim = Sim::new(seed, scenario.network());
        if self.record {
            sim.record_all();
        }
        let published = scenario.publish(seed);
        let pieces = scenario.content.size.0.div_ceil(scenario.content.piece.0) as u32;
        let truth = Truth {
            bytes: published.content.bytes.clone(),
            piece_length: scenario.content.piece.0 as u32,
            info_hash: published.info_hash.0,
            private: scenario.content.private,
        };
        let observer = Observer {
            facts: Facts {
                groups: scenario
                    .groups
                    .iter()
                    .map(|group| group.name.clone())
                    .collect(),
                pieces,
                copies: vec![0; pieces as usize],
                ..Facts::default()
            },
            guard: Guard::new(scenario.pack.clone(), truth, START),
        };
        sim.watch(Box::new(observer));
        self.watchers
            .drain(..)
            .for_each(|watcher| sim.watch(watcher));
        let judge = Judge::new(scenario);
        let mut steps: Vec<Due> = Vec::new();
        for step in &scenario.timeline {
            // A step that waits for something is repeated from then on.
            let times = if step.when_done.0 > 0 {
                1
            } else {
                step.times.max(1)
            };
            steps.extend((0..times).map(|time| Due {
                at: START + step.at + step.every * time,
                step: step.clone(),
            }));
        }
        let mut stage = Stage {
            sim,
            play: self,
            judge,
            steps,
            heals: Vec::new(),
            published,
            tags: LOOKUPS,
        };
        stage.populate()?;
        Ok(stage)
    }
}

impl Stage<'_> {
    fn populate(&mut self) -> Result<(), SimError> {
        let scenario = self.play.scenario;
        let firsts: Vec<u32> = scenario
            .groups
            .iter()
            .scan(0, |next, group| {
                let first = *next;
                *next += group.count;
                Some(first)
            })
            .collect();
        let addrs = |name: &str| -> Vec<SocketAddr> {
            let at = scenario.groups.iter().position(|group| group.name == name);
            at.map_or_else(Vec::new, |at| {
                let numbers = firsts[at]..firsts[at] + scenario.groups[at].count;
                numbers.map(|number| scenario.addr(number)).collect()
            })
        };
        for (place, group) in scenario.groups.iter().enumerate() {
            let through = addrs(&group.through);
            let peers: Vec<SocketAddr> = group.knows.iter().flat_map(|name| addrs(name)).collect();
            let mut after = group.join.after;
            for index in 0..group.count {
                if index > 0 {
                    after += self.gap(place, index, group);
                }
                self.add(place, index, after, &through, &peers)?;
            }
        }
        Ok(())
    }

    /// The time from the arrival of a host's predecessor to its own.
    fn gap(&self, place: usize, index: u32, group: &Group) -> Duration {
        match group.join.law {
            Arrivals::Even => group.join.every,
            Arrivals::Poisson => {
                let drawn = draw(self.play.seed, ARRIVAL, place as u64, index.into());
                Law::Exponential(group.join.every).sample(drawn)
            }
        }
    }

    fn add(
        &mut self,
        place: usize,
        index: u32,
        after: Duration,
        through: &[SocketAddr],
        peers: &[SocketAddr],
    ) -> Result<(), SimError> {
        let group = &self.play.scenario.groups[place];
        let number = self.sim.hosts().count() as u32;
        let addr = self.play.scenario.addr(number);
        let mut config = group.config.clone();
        config.explain |= self.play.explain;
        let config = Arc::new(config);
        let mut spec = HostSpec::new(addr);
        spec.config = Arc::clone(&config);
        spec.link = Link::new(group.up.bytes(), group.down.bytes());
        spec.keep_events = self.play.keep_events;
        spec.lies = group.lies;
        spec.content = (group.role == Role::Seed).then(|| self.published.content.clone());
        let host = self.sim.add_host(spec)?;
        let facts = HostFacts {
            group: place,
            begun: Some(START + after),
            lies: group.lies > 0,
            seeds: group.role != Role::Leech,
            ..HostFacts::default()
        };
        self.observe(|sim, observer| {
            observer.facts.add(sim, host, facts);
            observer.guard.add(config, group.lies > 0);
        });
        let contact = match group.contact {
            Contact::Spread => through.get(number as usize % through.len().max(1)),
            Contact::First => through.first().filter(|first| **first != addr),
            Contact::Earlier => through.get(index as usize / 2).filter(|_| index > 0),
        };
        if let Some(contact) = contact {
            let join = Command::DhtBootstrap(vec![*contact]);
            self.sim.command(host, after, Tag(1), join);
        }
        if group.role == Role::Node {
            return Ok(());
        }
        let source = match (group.role, group.source) {
            (Role::Leech, SourceKind::Magnet) => Source::Magnet(self.published.magnet.clone()),
            _ => self.published.torrent.clone(),
        };
        let mut add = AddTorrent::new(source);
        add.peers = peers.iter().copied().filter(|peer| *peer != addr).collect();
        self.sim
            .command(host, after, Tag(2), Command::AddTorrent(add));
        Ok(())
    }

    fn observe<T>(&mut self, look: impl FnOnce(&Sim, &mut Observer) -> T) -> T {
        let mut watchers = self.sim.unwatch();
        let observer: &mut dyn std::any::Any = &mut *watchers[0];
        let observer = observer.downcast_mut().expect("the first one is ours");
        let seen = look(&self.sim, observer);
        watchers
            .into_iter()
            .for_each(|watcher| self.sim.watch(watcher));
        seen
    }

    /// What is known of the hosts.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.observer().facts
    }

    fn observer(&self) -> &Observer {
        self.sim
            .watcher()
            .expect("it was given when the run was made")
    }

    /// The hosts that are to finish, in order.
    #[must_use]
    pub fn leechers(&self) -> Vec<HostId> {
        let groups = &self.play.scenario.groups;
        let hosts = self.sim.hosts().filter(|host| {
            let facts = self.facts().host(*host);
            let group = &groups[facts.group];
            group.role == Role::Leech && group.finishes && facts.left.is_none()
        });
        hosts.collect()
    }

    /// Virtual time since the start of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.sim.now().saturating_since(START)
    }

    /// Lets virtual time pass, whether or not everybody has finished.
    ///
    /// # Errors
    /// When an engine breaks a promise that makes going on pointless.
    pub fn pass(&mut self, time: Duration) -> Result<(), SimError> {
        let end = self.sim.now() + time;
        while self.sim.now() < end {
            self.advance(end)?;
        }
        Ok(())
    }

    /// Runs to its end: until everybody has finished and every property is decided, or its time is
    /// over. Tells which.
    ///
    /// # Errors
    /// When an engine breaks a promise that makes going on pointless.
    pub fn go(&mut self) -> Result<bool, SimError> {
        let end = START + self.play.scenario.within;
        let mut finished = false;
        let mut told = 0;
        while !finished && self.sim.now() < end {
            self.advance(end)?;
            let leechers = self.leechers();
            let complete = |host: &&HostId| self.facts().host(**host).complete.is_some();
            let complete = leechers.iter().filter(complete).count();
            finished = complete == leechers.len()
                && self.steps.is_empty()
                && self.heals.is_empty()
                && self.judge.is_settled();
            let progress = Progress {
                now: self.now(),
                complete,
                leechers: leechers.len(),
                handled: self.sim.handled(),
            };
            if progress.now.as_secs() > told {
                told = progress.now.as_secs();
                if let Some(tell) = &mut self.play.progress {
                    tell(progress);
                }
            }
        }
        self.pass(self.play.scenario.linger)?;
        self.look(true);
        Ok(finished)
    }

    /// Runs to the next moment at which something is looked at or done.
    fn advance(&mut self, end: Instant) -> Result<(), SimError> {
        let now = self.sim.now();
        let waits = |due: &&Due| due.step.when_done.0 == 0 || due.at > now;
        let next = self.steps.iter().filter(waits).map(|due| due.at);
        let next = next.chain(self.heals.iter().copied()).min();
        let look = LOOK.max(LOOK_PER_HOST * self.facts().hosts.len() as u32);
        let to = (now + look).min(end).min(next.unwrap_or(end).max(now));
        self.sim.run_until(to.saturating_since(now), |_| false)?;
        self.heal();
        self.act();
        self.look(false);
        Ok(())
    }

    fn heal(&mut self) {
        let now = self.sim.now();
        let before = self.heals.len();
        self.heals.retain(|at| *at > now);
        if self.heals.len() < before && self.heals.is_empty() {
            self.sim.set_loss(self.play.scenario.network.loss.0);
        }
    }

    fn act(&mut self) {
        let now = self.sim.now();
        let done = self.facts().most_done();
        let is_due = |due: &Due| due.at <= now && done >= due.step.when_done.0;
        let due: Vec<Due> = self.steps.extract_if(.., |due| is_due(due)).collect();
        for mut due in due {
            if due.step.when_done.0 > 0 {
                due.step.when_done.0 = 0;
                self.steps.extend((1..due.step.times).map(|time| Due {
                    at: now + due.step.every * time,
                    step: due.step.clone(),
                }));
            }
            self.perform(&due.step);
        }
    }

    fn perform(&mut self, step: &Step) {
        let hosts: Vec<HostId> = self.facts().hosts_of(&step.hosts).collect();
        match step.action {
            Action::Lookup => {
                for host in hosts {
                    self.tags += 1;
                    let lookup = Command::DhtGetPeers(self.published.info_hash);
                    self.sim
                        .command(host, Duration::ZERO, Tag(self.tags), lookup);
                }
            }
            Action::Leave => {
                for host in hosts {
                    self.sim
                        .command(host, Duration::ZERO, Tag(3), Command::Shutdown);
                    let now = self.sim.now();
                    self.observe(|_, observer| {
                        observer.facts.left(host, now);
                    });
                }
            }
            Action::Loss => {
                self.sim.set_loss(step.loss.0);
            }
        }
        if step.action.is_fault() && step.lasting > Duration::ZERO {
            self.heals.push(self.sim.now() + step.lasting);
        }
    }

    fn look(&mut self, is_end: bool) {
        let observer: &Observer = self
            .sim
            .watcher()
            .expect("it was given when the run was made");
        self.judge.look(&self.sim, &observer.facts, START, is_end);
    }

    /// What the run came to; `broken` is what ended it early.
    #[must_use]
    pub fn report(mut self, broken: Option<SimError>) -> Report {
        let observer = self.observer();
        let mut failures = self.judge.failures.clone();
        failures.extend(observer.guard.failures.iter().cloned());
        failures.extend(self.unfinished());
        failures.extend(broken.map(|error| Failure::of_engine(&error, self.now())));
        let properties = std::mem::take(&mut self.play.properties);
        for property in &properties {
            failures.extend(property.failures(&self.sim));
        }
        failures.sort();
        let scenario = self.play.scenario;
        Report {
            scenario: scenario.name.clone(),
            seed: self.play.seed,
            root: self.sim.root(),
            epochs: self.sim.epochs().to_vec(),
            handled: self.sim.handled(),
            elapsed: self.now(),
            results: Results::gather(scenario, self.facts(), self.now(), START),
            sometimes: self.judge.sometimes(),
            failures,
        }
    }

    /// Who did not finish, and who took too long after faults.
    fn unfinished(&self) -> Vec<Failure> {
        let scenario = self.play.scenario;
        if !scenario.pack.finish {
            return Vec::new();
        }
        let healed = scenario.last_heal();
        // What it takes without faults is measured, with the same seed.
        let clean = healed.map(|_| {
            let mut clean = scenario.clone();
            clean.timeline.retain(|step| !step.action.is_fault());
            clean.pack.finish = false;
            let report = clean.run(self.play.seed);
            report
                .results
                .completed
                .iter()
                .flatten()
                .max()
                .copied()
                .unwrap_or(scenario.within)
        });
        let mut failures = Vec::new();
        for host in self.leechers() {
            let facts = self.facts().host(host);
            let Some(complete) = facts.complete else {
                failures.push(Failure {
                    property: "finish".into(),
                    at: self.now(),
                    host: Some(host),
                    detail: format!(
                        "has {} of {} pieces at the end",
                        facts.pieces.len(),
                        self.facts().pieces
                    ),
                });
                continue;
            };
            let complete = complete.saturating_since(START);
            let (Some(clean), Some(healed)) = (clean, healed) else {
                continue;
            };
            let latest = healed + clean * scenario.pack.finish_factor;
            if complete > latest {
                failures.push(Failure {
                    property: "finish".into(),
                    at: complete,
                    host: Some(host),
                    detail: format!(
                        "later than {:.3} s: faults healed at {:.3} s, without them it takes {:.3} s",
                        latest.as_secs_f64(),
                        healed.as_secs_f64(),
                        clean.as_secs_f64()
                    ),
                });
            }
        }
        failures
    }
}

impl Failure {
    /// An engine broke a promise that made going on pointless.
    fn of_engine(error: &SimError, at: Duration) -> Self {
        Self {
            property: match error {
                SimError::Spin(..) => "spin".into(),
                _ => "setup".into(),
            },
            at,
            host: None,
            detail: error.to_string(),
        }
    }
}

impl Report {
    /// No host could run.
    fn broken(scenario: &Scenario, seed: u64, error: &SimError) -> Self {
        Self {
            scenario: scenario.name.clone(),
            seed,
            root: Root::default(),
            epochs: Vec::new(),
            handled: 0,
            elapsed: Duration::ZERO,
            results: Results::default(),
            sometimes: Vec::new(),
            failures: vec![Failure::of_engine(error, Duration::ZERO)],
        }
    }
}
