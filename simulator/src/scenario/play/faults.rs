//! What is done in a run, and what goes wrong and heals.

use std::time::Duration;

use trackerless_core::Instant;
use trackerless_core::io::{Command, Tag};

use super::super::{Action, Direction, Share, Step};
use super::{Due, Stage};
use crate::law::Law;
use crate::property::Failure;
use crate::world::{PartitionId, START, chance, draw};
use crate::{Blocks, Crash, HostId, Partition, SimError};

/// What comings and goings are drawn for.
const CHURN: u64 = 0xc4_0000;

/// Where a host that goes and comes back is in that.
#[derive(Debug, Clone)]
pub(super) struct Session {
    host: HostId,
    up: bool,
    pub(super) ends: Instant,
    /// Sessions and pauses it has had.
    count: u64,
}

/// What ends a fault.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    Loss,
    Cut(PartitionId),
    Restart(HostId),
    /// Nothing is to be done: it is over by itself.
    Wait,
}

impl Stage<'_> {
    /// Hosts that go and come back begin their first session.
    pub(super) fn begin_churn(&mut self) {
        let Some(churn) = &self.play.scenario.churn else {
            return;
        };
        let hosts: Vec<HostId> = self.facts().hosts_of(&churn.hosts).collect();
        for host in hosts {
            let drawn = draw(self.play.seed, CHURN, host.0.into(), 0);
            let begun = self.facts().host(host).begun.unwrap_or(START);
            let session = Law::Sessions(churn.session).sample(drawn);
            self.sessions.push(Session {
                host,
                up: true,
                ends: begun.max(START + churn.after) + session,
                count: 1,
            });
        }
    }

    pub(super) fn heal(&mut self) -> Result<(), SimError> {
        let now = self.sim.now();
        let due: Vec<_> = self.undos.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, undo) in due {
            match undo {
                Undo::Loss => {
                    let lasts = self
                        .undos
                        .iter()
                        .any(|(_, undo)| matches!(undo, Undo::Loss));
                    if !lasts {
                        self.sim.set_loss(self.play.scenario.network.loss.0);
                    }
                }
                Undo::Cut(partition) => self.sim.heal(partition),
                Undo::Restart(host) => self.sim.restart(host)?,
                Undo::Wait => {}
            }
        }
        Ok(())
    }

    pub(super) fn act(&mut self) {
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

    /// The hosts that a step is about.
    fn subjects(&self, step: &Step) -> Vec<HostId> {
        let hosts: Vec<HostId> = self.facts().hosts_of(&step.hosts).collect();
        match step.share.filter(|_| step.action != Action::Cut) {
            None => hosts,
            // Every so many: spread over the group, whatever its order means.
            Some(share) => {
                let many = share.of(hosts.len() as u64) as usize;
                (0..many).map(|at| hosts[at * hosts.len() / many]).collect()
            }
        }
    }

    fn perform(&mut self, step: &Step) {
        let hosts = self.subjects(step);
        let now = self.sim.now();
        let lasts = step.lasting > Duration::ZERO;
        let mut undo = Vec::new();
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
                    self.observe(|_, observer| observer.facts.left(host, now));
                }
            }
            Action::Loss => {
                self.sim.set_loss(step.loss.0);
                undo.push(Undo::Loss);
            }
            Action::Cut => {
                let partition = Partition {
                    blocks: match step.blocks {
                        Direction::Both => Blocks::Both,
                        Direction::Outward => Blocks::Outward,
                        Direction::Inward => Blocks::Inward,
                    },
                    pairs_ppm: step.share.unwrap_or(Share::ALL).0,
                    ..Partition::total(hosts)
                };
                undo.push(Undo::Cut(self.sim.part(partition)));
            }
            Action::Crash | Action::PowerCut => {
                let crash = match step.action {
                    Action::Crash => Crash::Process,
                    _ => Crash::Power,
                };
                for host in hosts {
                    if self.take_down(host, crash) {
                        undo.push(Undo::Restart(host));
                    }
                }
            }
            Action::Sleep => {
                for host in hosts {
                    self.sim.sleep(host, step.lasting, true);
                }
                undo.push(Undo::Wait);
            }
        }
        if lasts {
            self.undos
                .extend(undo.into_iter().map(|undo| (now + step.lasting, undo)));
        }
    }

    /// Has a host crash, unless it is down already.
    fn take_down(&mut self, host: HostId, crash: Crash) -> bool {
        let up = self.sim.is_up(host);
        if up {
            self.sim.crash(host, crash);
            self.observe(|_, observer| observer.guard.crashed(host));
        }
        up
    }

    /// Hosts whose session is over go, and those whose pause is over come back.
    pub(super) fn churn(&mut self) -> Result<(), SimError> {
        let Some(churn) = &self.play.scenario.churn else {
            return Ok(());
        };
        let now = self.sim.now();
        let due: Vec<_> = self
            .sessions
            .extract_if(.., |session| session.ends <= now)
            .collect();
        for mut session in due {
            let draws = |what: u64| {
                draw(
                    self.play.seed,
                    CHURN ^ what,
                    session.host.0.into(),
                    session.count,
                )
            };
            let (cut, pause, next) = (draws(1), draws(2), draws(3));
            if session.up {
                let crash = if chance(cut, churn.power_cuts.0) {
                    Crash::Power
                } else {
                    Crash::Process
                };
                self.take_down(session.host, crash);
                session.ends = now + Law::Exponential(churn.pause).sample(pause);
            } else {
                self.sim.restart(session.host)?;
                session.ends = now + Law::Sessions(churn.session).sample(next);
            }
            session.up = !session.up;
            session.count += 1;
            self.sessions.push(session);
        }
        Ok(())
    }

    /// Who did not finish, and who took too long after faults.
    pub(super) fn unfinished(&self) -> Vec<Failure> {
        let scenario = self.play.scenario;
        if !scenario.pack.finish {
            return Vec::new();
        }
        let healed = scenario.last_heal();
        // What it takes without faults is measured, with the same seed.
        let clean = healed.map(|_| {
            let mut clean = scenario.clone();
            clean.timeline.retain(|step| !step.action.is_fault());
            clean.churn = None;
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
