//! `dht …`: a node, or one lookup.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use trackerless_core::event::{CommandError, Done, Event, Found, LookupSummary};
use trackerless_core::id::Id20;
use trackerless_core::io::{Command, Tag};

use super::torrent::command_error;
use super::{
    Contacts, GOODBYE_SECONDS, TAG_BOOTSTRAP, TAG_LOAD, TAG_NAMES, TAG_SAVE, TAG_SHUTDOWN,
    TAG_TASK, report_listening,
};
use crate::display::Reporter;
use crate::error::{DONE, FAILED, Failure, INTERRUPTED};
use crate::host::{App, Flow, View};
use crate::offline::table_nodes;
use crate::state::StateDir;

/// What is asked of the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhtTask {
    /// Be a node until stopped.
    Run,
    /// One ping.
    Ping(SocketAddr),
    /// The nodes closest to an id.
    FindNode(Id20),
    /// The peers of an info-hash.
    GetPeers(Id20),
    /// Announce a port, or the one the datagrams show.
    Announce(Id20, Option<u16>),
}

impl DhtTask {
    fn command(self) -> Option<Command> {
        Some(match self {
            Self::Run => return None,
            Self::Ping(addr) => Command::DhtPing(addr),
            Self::FindNode(id) => Command::DhtFindNode(id),
            Self::GetPeers(hash) => Command::DhtGetPeers(hash),
            Self::Announce(hash, port) => Command::DhtAnnounce(hash, port),
        })
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ping(_) => "ping",
            Self::FindNode(_) => "find-node",
            Self::GetPeers(_) => "get-peers",
            Self::Announce(..) => "announce",
        }
    }

    fn target(self) -> Option<String> {
        match self {
            Self::Run => None,
            // Nobody knows the id beforehand.
            Self::Ping(addr) => Some(addr.to_string()),
            Self::FindNode(id) | Self::GetPeers(id) | Self::Announce(id, _) => Some(id.to_string()),
        }
    }

    fn needs_contacts(self) -> bool {
        !matches!(self, Self::Run | Self::Ping(_))
    }
}

/// Seconds that one lookup waits for a first contact: longer than a node may take to answer, and a
/// name server before it.
const PATIENCE_SECONDS: u32 = 10;

/// A node of the DHT, or one lookup.
pub struct DhtApp {
    task: DhtTask,
    contacts: Contacts,
    state: Option<StateDir>,
    report: Reporter,
    started: Instant,
    seconds: u32,
    /// Bootstraps that have not ended.
    waiting: u32,
    /// A table with nodes was loaded: the lookup may begin with those.
    loaded: bool,
    asked: bool,
    nodes: (u32, u32),
    ending: Option<(u8, u32)>,
}

impl DhtApp {
    /// An app for `task`; with `state` it tells when nothing can be saved there.
    ///
    /// # Errors
    /// A lookup without any contact to ask.
    pub fn new(
        task: DhtTask,
        contacts: Contacts,
        state: Option<StateDir>,
        report: Reporter,
    ) -> Result<Self, Failure> {
        if task.needs_contacts() && contacts.is_empty() {
            return Err(Failure::usage(
                "no DHT node to ask: give one with --bootstrap HOST:PORT",
            ));
        }
        Ok(Self {
            task,
            contacts,
            state,
            report,
            started: Instant::now(),
            seconds: 0,
            waiting: 0,
            loaded: false,
            asked: false,
            nodes: (0, 0),
            ending: None,
        })
    }

    fn ask(&mut self) -> Flow {
        match self.task.command() {
            Some(command) if !std::mem::replace(&mut self.asked, true) => {
                Flow::Commands(vec![(TAG_TASK, command)])
            }
            _ => Flow::Continue,
        }
    }

    /// A bootstrap ended.
    fn on_contact(&mut self, tag: Tag, result: &Result<Done, Box<CommandError>>) -> Flow {
        self.waiting = self.waiting.saturating_sub(1);
        match result {
            // A loaded table has not answered yet: with others to ask, wait for them.
            Ok(_) if tag == TAG_LOAD => {
                let table = self.contacts.saved.as_deref().unwrap_or_default();
                self.loaded = !table_nodes(table).is_empty();
            }
            Ok(_) if self.ending.is_some() => {}
            Ok(_) => return self.ask(),
            Err(error) => self.report.detail(|| command_error(error)),
        }
        if self.waiting == 0 {
            self.ask_the_loaded()
        } else {
            Flow::Continue
        }
    }

    /// No contact answered: what was loaded is left to ask.
    fn ask_the_loaded(&mut self) -> Flow {
        if self.asked || self.ending.is_some() {
            return Flow::Continue;
        }
        if self.loaded || !self.task.needs_contacts() {
            return self.ask();
        }
        let elapsed = self.started.elapsed();
        self.report.event(
            "lookup",
            json!({
                "kind": self.task.kind(),
                "target": self.task.target(),
                "milliseconds": elapsed.as_micros() as f64 / 1000.0,
                "hops": 0,
                "queries": 0,
                "results": 0,
            }),
        );
        self.fail(format!(
            "no DHT node answered in {:.1} s; try another --bootstrap HOST:PORT",
            elapsed.as_secs_f64()
        ))
    }

    fn found(&self, found: Found) {
        match found {
            Found::Node(id, addr) => {
                let id = id.to_string();
                self.report
                    .event("result", json!({ "id": id, "address": addr.to_string() }));
                self.report.result(&format!("{id} {addr}"));
            }
            Found::Peer(addr) => {
                self.report
                    .event("result", json!({ "address": addr.to_string() }));
                self.report.result(&addr.to_string());
            }
        }
    }

    fn done(&mut self, summary: &LookupSummary) -> Flow {
        let milliseconds = summary.elapsed.as_micros() as f64 / 1000.0;
        let kind = self.task.kind();
        self.report.event(
            "lookup",
            json!({
                "kind": kind,
                "target": self.task.target(),
                "milliseconds": milliseconds,
                "hops": summary.hops,
                "queries": summary.queries,
                "results": summary.results,
            }),
        );
        let found = match self.task {
            DhtTask::Announce(..) => "stores accepted",
            DhtTask::GetPeers(_) => "peers found",
            _ => "nodes found",
        };
        self.report.say(&format!(
            "{kind}: {} {found}, {} hops, {} queries, {} answers, {milliseconds:.1} ms",
            summary.results, summary.hops, summary.queries, summary.replies
        ));
        let reached = match self.task {
            DhtTask::Announce(..) => summary.results > 0,
            _ => summary.replies > 0,
        };
        if reached {
            return self.end(DONE);
        }
        let message = match self.task {
            DhtTask::Ping(addr) => format!("{addr} did not answer"),
            DhtTask::Announce(..) => "no node stored the announce; try again".into(),
            _ => "no node answered; try --bootstrap HOST:PORT".into(),
        };
        self.fail(message)
    }

    fn fail(&mut self, message: String) -> Flow {
        // The lookup ends with its summary and then as a command: one reason is enough.
        if self.ending.is_some() {
            return Flow::Continue;
        }
        self.report.failure(&Failure::failed(message));
        self.end(FAILED)
    }

    fn end(&mut self, code: u8) -> Flow {
        if self.ending.is_some() {
            return Flow::Continue;
        }
        self.ending = Some((code, 0));
        Flow::Commands(vec![
            (TAG_SAVE, Command::Save),
            (TAG_SHUTDOWN, Command::Shutdown),
        ])
    }
}

impl App for DhtApp {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        report_listening(&self.report, listening, false);
        self.report.trouble(self.state.as_ref());
        self.started = Instant::now();
        if self.task == DhtTask::Run {
            for addr in listening {
                self.report
                    .say(&format!("DHT node on {addr}; stop with Ctrl-C"));
            }
        }
        if let DhtTask::Ping(addr) = self.task {
            // Nobody else need be asked.
            self.asked = true;
            return vec![(TAG_TASK, Command::DhtPing(addr))];
        }
        let commands = self.contacts.commands();
        let bootstraps = commands
            .iter()
            .filter(|(tag, _)| [TAG_LOAD, TAG_BOOTSTRAP, TAG_NAMES].contains(tag));
        self.waiting = bootstraps.count() as u32;
        commands
    }

    fn on_event(&mut self, event: &Event, _view: &dyn View) -> Flow {
        match event {
            Event::CommandDone { tag, result } => match (*tag, result) {
                (TAG_SHUTDOWN, _) => {
                    self.report.trouble(self.state.as_ref());
                    Flow::Exit(self.ending.map_or(DONE, |(code, _)| code))
                }
                (TAG_TASK, Err(error)) => self.fail(command_error(error)),
                (TAG_LOAD | TAG_BOOTSTRAP | TAG_NAMES, result) => self.on_contact(*tag, result),
                _ => Flow::Continue,
            },
            Event::LookupFound { tag, found } if *tag == TAG_TASK => {
                self.found(*found);
                Flow::Continue
            }
            Event::LookupDone { tag, summary } if *tag == TAG_TASK => self.done(summary),
            Event::DhtStatus {
                nodes_v4,
                nodes_v6,
                bootstrapped,
            } => {
                let nodes = (*nodes_v4, *nodes_v6);
                if self.task == DhtTask::Run && nodes != self.nodes {
                    self.nodes = nodes;
                    let state = if *bootstrapped { "" } else { ", bootstrapping" };
                    self.report.say(&format!(
                        "{nodes_v4} nodes over IPv4, {nodes_v6} over IPv6{state}"
                    ));
                }
                Flow::Continue
            }
            _ => Flow::Continue,
        }
    }

    fn on_second(&mut self, _view: &dyn View) -> Flow {
        self.report.trouble(self.state.as_ref());
        self.seconds += 1;
        if self.seconds == PATIENCE_SECONDS && self.task.needs_contacts() {
            return self.ask_the_loaded();
        }
        if let Some((code, seconds)) = &mut self.ending {
            *seconds += 1;
            if *seconds >= GOODBYE_SECONDS {
                return Flow::Exit(*code);
            }
        }
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        self.end(INTERRUPTED)
    }

    fn on_failure(&mut self, failure: &Failure) -> Flow {
        self.report.failure(failure);
        match &mut self.ending {
            Some((code, _)) => {
                *code = if *code == DONE { failure.code } else { *code };
                Flow::Continue
            }
            None => self.end(failure.code),
        }
    }
}

#[cfg(test)]
mod tests;
