//! The DHT's place in the engine: who asked for which lookup.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::jobs::Owner;
use super::{Engine, Todo, Wake};
use crate::dht::{self, Lookup, LookupId};
use crate::event::{CommandError, Done, Event, Found};
use crate::io::{JobId, Outbox, Tag, TorrentId, Work};
use crate::time::Instant;

/// Lookups under way and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    started: u64,
    askers: BTreeMap<LookupId, Asker>,
    /// Bootstraps to be answered, and by when.
    bootstraps: Vec<(Tag, Instant)>,
    armed: Option<Instant>,
}

/// How the announce of a torrent went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// Nobody answered.
    Failed,
    /// Fewer nodes keep it than should.
    Thin,
    Well,
}

/// Nodes an announce is stored on where there are enough (BEP 5).
const WANTED_HOLDERS: u32 = crate::dht::table::CLOSEST as u32;

/// Who asked for a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Torrent(TorrentId),
    Command(Tag),
}

impl Engine {
    /// Hands an input to the DHT and queues what it says.
    pub(super) fn dht_input(&mut self, input: dht::Input<'_>, out: &mut Outbox) {
        let Some(dht) = &mut self.dht else { return };
        dht.handle(self.now, input, out, &mut self.dht_events);
        self.todo.extend(self.dht_events.drain(..).map(Todo::Dht));
        let want = dht.next_timeout();
        Self::arm(&mut self.deadlines, &mut self.dht_armed, want, Wake::Dht);
    }

    pub(super) fn wake_dht(&mut self, at: Instant, out: &mut Outbox) {
        if self.dht_armed == Some(at) {
            self.dht_armed = None;
        }
        let Some(dht) = &self.dht else { return };
        let want = dht.next_timeout();
        if want.is_some_and(|at| at <= self.now) {
            self.dht_input(dht::Input::Tick, out);
        } else {
            Self::arm(&mut self.deadlines, &mut self.dht_armed, want, Wake::Dht);
        }
    }

    pub(super) fn start_lookup(
        &mut self,
        asker: Asker,
        lookup: Lookup,
        out: &mut Outbox,
    ) -> LookupId {
        let id = LookupId(self.nodes.started);
        self.nodes.started += 1;
        self.nodes.askers.insert(id, asker);
        self.dht_input(dht::Input::Start(id, lookup), out);
        id
    }

    pub(super) fn stop_lookup(&mut self, id: LookupId, out: &mut Outbox) {
        self.nodes.askers.remove(&id);
        self.dht_input(dht::Input::Stop(id), out);
    }

    /// Remembers to answer a bootstrap.
    pub(super) fn await_bootstrap(&mut self, tag: Tag) {
        let by = self.now + self.config.dht.bootstrap_patience;
        self.nodes.bootstraps.push((tag, by));
        Self::arm(
            &mut self.deadlines,
            &mut self.nodes.armed,
            Some(by),
            Wake::Nodes,
        );
    }

    pub(super) fn wake_nodes(&mut self, out: &mut Outbox) {
        self.nodes.armed = None;
        let now = self.now;
        let mut late = Vec::new();
        self.nodes.bootstraps.retain(|(tag, by)| {
            if *by <= now {
                late.push(*tag);
            }
            *by > now
        });
        for tag in late {
            self.answer(tag, Err(CommandError::NoAnswer), out);
        }
        let next = self.nodes.bootstraps.iter().map(|(_, by)| *by).min();
        Self::arm(
            &mut self.deadlines,
            &mut self.nodes.armed,
            next,
            Wake::Nodes,
        );
    }

    pub(super) fn on_dht_event(&mut self, event: dht::Event, out: &mut Outbox) {
        match event {
            dht::Event::Check(id, item) => {
                let job = JobId(self.jobs.insert(Owner::Signature(id)));
                out.job(job, Work::CheckSignature { item });
            }
            dht::Event::Found(id, found) => match (self.nodes.askers.get(&id), found) {
                (Some(Asker::Torrent(torrent)), Found::Peer(addr)) => {
                    self.dht_found_peer(*torrent, addr);
                }
                (Some(Asker::Command(tag)), found) => {
                    let tag = *tag;
                    self.emit(Event::LookupFound { tag, found }, out);
                }
                _ => {}
            },
            dht::Event::Done(id, summary) => match self.nodes.askers.remove(&id) {
                Some(Asker::Torrent(torrent)) => {
                    // An announce tells on how many it is stored.
                    let thin = self.announces() && summary.results < WANTED_HOLDERS;
                    let result = match summary.replies {
                        0 => Announced::Failed,
                        _ if thin => Announced::Thin,
                        _ => Announced::Well,
                    };
                    self.announce_done(torrent, result, out);
                }
                Some(Asker::Command(tag)) => {
                    self.emit(Event::LookupDone { tag, summary }, out);
                    let answered = summary.replies > 0;
                    let result = if answered {
                        Ok(Done::Ok)
                    } else {
                        Err(CommandError::NoAnswer)
                    };
                    self.answer(tag, result, out);
                }
                None => {}
            },
            dht::Event::Refused(id) => match self.nodes.askers.remove(&id) {
                Some(Asker::Torrent(torrent)) => {
                    self.announce_done(torrent, Announced::Failed, out);
                }
                Some(Asker::Command(tag)) => {
                    let error = if self.sockets.is_empty() {
                        CommandError::NoDht
                    } else {
                        CommandError::Limit("dht.max_queued_lookups")
                    };
                    self.answer(tag, Err(error), out);
                }
                None => {}
            },
            dht::Event::BadState(what) => self.table_refused(what),
            dht::Event::Status {
                nodes_v4,
                nodes_v6,
                bootstrapped,
            } => {
                self.emit(
                    Event::DhtStatus {
                        nodes_v4,
                        nodes_v6,
                        bootstrapped,
                    },
                    out,
                );
                if bootstrapped {
                    for (tag, _) in core::mem::take(&mut self.nodes.bootstraps) {
                        self.answer(tag, Ok(Done::Ok), out);
                    }
                    self.dht_grown(nodes_v4.saturating_add(nodes_v6));
                }
            }
        }
    }
}
