//! `dht …`: a node, or one lookup.

use std::net::SocketAddr;

use serde_json::json;
use trackerless_core::event::{Event, Found, LookupSummary};
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

    fn needs_contacts(self) -> bool {
        !matches!(self, Self::Run | Self::Ping(_))
    }
}

/// A node of the DHT, or one lookup.
pub struct DhtApp {
    task: DhtTask,
    contacts: Contacts,
    report: Reporter,
    /// Bootstraps that have not ended.
    waiting: u32,
    asked: bool,
    nodes: (u32, u32),
    ending: Option<(u8, u32)>,
}

impl DhtApp {
    /// An app for `task`.
    ///
    /// # Errors
    /// A lookup without any contact to ask.
    pub fn new(task: DhtTask, contacts: Contacts, report: Reporter) -> Result<Self, Failure> {
        if task.needs_contacts() && contacts.is_empty() {
            return Err(Failure::usage(
                "no DHT node to ask: give one with --bootstrap HOST:PORT",
            ));
        }
        Ok(Self {
            task,
            contacts,
            report,
            waiting: 0,
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
        let target = match self.task {
            DhtTask::Ping(addr) => addr.to_string(),
            _ => summary.target.to_string(),
        };
        self.report.event(
            "lookup",
            json!({
                "kind": kind,
                "target": target,
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
                (TAG_SHUTDOWN, _) => Flow::Exit(self.ending.map_or(DONE, |(code, _)| code)),
                (TAG_TASK, Err(error)) => self.fail(command_error(error)),
                (TAG_LOAD | TAG_BOOTSTRAP | TAG_NAMES, result) => {
                    self.waiting = self.waiting.saturating_sub(1);
                    // A loaded table has not answered yet: with others to ask, wait for them.
                    match result {
                        Ok(_) if *tag != TAG_LOAD || self.waiting == 0 => self.ask(),
                        Ok(_) => Flow::Continue,
                        Err(error) => {
                            self.report.detail(|| command_error(error));
                            // The lookup itself tells whether anybody answers.
                            if self.waiting == 0 {
                                self.ask()
                            } else {
                                Flow::Continue
                            }
                        }
                    }
                }
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
}
