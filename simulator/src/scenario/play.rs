//! Playing a scenario: hosts come, steps are done, properties are looked at, until it is over.

mod faults;
mod hosts;

use std::time::Duration;

use trackerless_core::id::Id20;
use trackerless_core::io::Source;
use trackerless_core::{Input, Instant, Output};

use super::{Role, Scenario, Step};
use crate::Report;
use crate::property::{Facts, Failure, Guard, Judge, Property, Truth};
use crate::results::Results;
use crate::world::START;
use crate::{Content, HostId, Root, Sim, SimError, Watch};
use faults::{Session, Undo};

/// How often properties are looked at, virtual time: at least this, and with many hosts less
/// often, so that looking costs no more than they do.
const LOOK: Duration = Duration::from_millis(10);
/// The time that each host adds to that.
const LOOK_PER_HOST: Duration = Duration::from_micros(100);
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
    undos: Vec<(Instant, Undo)>,
    sessions: Vec<Session>,
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
            undos: Vec::new(),
            sessions: Vec::new(),
            published,
            tags: LOOKUPS,
        };
        stage.populate()?;
        stage.begin_churn();
        Ok(stage)
    }
}

impl Stage<'_> {
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
                && self.undos.is_empty()
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
        let next = next.chain(self.sessions.iter().map(|session| session.ends));
        let next = next.chain(self.undos.iter().map(|(at, _)| *at)).min();
        let look = LOOK.max(LOOK_PER_HOST * self.facts().hosts.len() as u32);
        let to = (now + look).min(end).min(next.unwrap_or(end).max(now));
        self.sim.run_until(to.saturating_since(now), |_| false)?;
        self.heal()?;
        self.churn()?;
        self.act();
        self.look(false);
        Ok(())
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
