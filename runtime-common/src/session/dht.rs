//! `dht …`: a node, or one lookup.

mod items;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use trackerless_core::dht::item::{Item, ItemError, SigningKey, immutable_target, mutable_target};
use trackerless_core::event::{CommandError, Done, Event, Found, LookupSummary};
use trackerless_core::id::Id20;
use trackerless_core::io::{Command, Tag};

use super::torrent::command_error;
use super::{
    Contacts, GOODBYE_SECONDS, TAG_BOOTSTRAP, TAG_LOAD, TAG_NAMES, TAG_SAVE, TAG_SHUTDOWN,
    TAG_TASK, report_listening,
};
use crate::display::{Reporter, count};
use crate::error::{DONE, FAILED, Failure, INTERRUPTED};
use crate::host::{App, Flow, View};
use crate::offline::table_nodes;
use crate::state::StateDir;

/// What is asked of the DHT.
#[derive(Debug)]
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
    /// Info-hashes of one node.
    Sample(SocketAddr),
    /// The item of a target and a salt.
    Get(Id20, Bytes),
    /// Have a bencoded value kept, signed or not.
    Put(Bytes, Option<Box<Signing>>),
    /// Count the peers of an info-hash.
    Scrape(Id20),
}

/// How a value is signed.
#[derive(Debug)]
pub struct Signing {
    /// With this key.
    pub key: SigningKey,
    /// Under this salt.
    pub salt: Bytes,
    /// With this number; without it, one more than that of what is found.
    pub seq: Option<i64>,
    /// In the place of this number only.
    pub cas: Option<i64>,
}

impl DhtTask {
    /// What is asked first; `None` if nothing is.
    fn command(&self) -> Result<Option<Command>, ItemError> {
        Ok(Some(match self {
            Self::Run => return Ok(None),
            Self::Ping(addr) => Command::DhtPing(*addr),
            Self::FindNode(id) => Command::DhtFindNode(*id),
            Self::GetPeers(hash) => Command::DhtGetPeers(*hash),
            Self::Announce(hash, port) => Command::DhtAnnounce(*hash, *port),
            Self::Sample(addr) => Command::DhtSample(*addr),
            Self::Get(target, salt) => Command::DhtGet(*target, salt.clone()),
            Self::Scrape(hash) => Command::DhtScrape(*hash),
            Self::Put(_, Some(signing)) if signing.seq.is_none() => {
                let target = mutable_target(&signing.key.public(), &signing.salt);
                Command::DhtGet(target, signing.salt.clone())
            }
            Self::Put(..) => Command::DhtPut(self.item(0)?.into(), self.cas()),
        }))
    }

    /// The item to be put, with this sequence number unless another was given.
    fn item(&self, seq: i64) -> Result<Item, ItemError> {
        match self {
            Self::Put(value, Some(signing)) => {
                let seq = signing.seq.unwrap_or(seq);
                signing.key.sign(value.clone(), seq, signing.salt.clone())
            }
            Self::Put(value, None) => Item::immutable(value.clone()),
            _ => Err(ItemError::BadValue),
        }
    }

    fn cas(&self) -> Option<i64> {
        match self {
            Self::Put(_, Some(signing)) => signing.cas,
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ping(_) => "ping",
            Self::FindNode(_) => "find-node",
            Self::GetPeers(_) => "get-peers",
            Self::Announce(..) => "announce",
            Self::Sample(_) => "sample",
            Self::Get(..) => "get",
            Self::Put(..) => "put",
            Self::Scrape(_) => "scrape",
        }
    }

    fn target(&self) -> Option<String> {
        match self {
            Self::Run => None,
            // Nobody knows the id beforehand.
            Self::Ping(addr) | Self::Sample(addr) => Some(addr.to_string()),
            Self::FindNode(id)
            | Self::GetPeers(id)
            | Self::Announce(id, _)
            | Self::Get(id, _)
            | Self::Scrape(id) => Some(id.to_string()),
            Self::Put(value, None) => Some(immutable_target(value).to_string()),
            Self::Put(_, Some(signing)) => {
                let target = mutable_target(&signing.key.public(), &signing.salt);
                Some(target.to_string())
            }
        }
    }

    /// Whether it is one question to one node.
    fn is_single(&self) -> bool {
        matches!(self, Self::Ping(_) | Self::Sample(_))
    }

    fn needs_contacts(&self) -> bool {
        !matches!(self, Self::Run) && !self.is_single()
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
    /// A put first looks what is there.
    looks_first: bool,
    /// The newest item found.
    item: Option<Arc<Item>>,
    /// Of a survey: how many info-hashes the node keeps, and seconds until it tells of others.
    survey: Option<(u32, u64)>,
    /// The code that a node refused with last.
    refused: Option<i64>,
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
            looks_first: false,
            item: None,
            survey: None,
            refused: None,
            ending: None,
        })
    }

    fn ask(&mut self) -> Flow {
        if std::mem::replace(&mut self.asked, true) {
            return Flow::Continue;
        }
        match self.task.command() {
            Ok(Some(command)) => {
                self.looks_first = matches!(
                    (&self.task, &command),
                    (DhtTask::Put(..), Command::DhtGet(..))
                );
                Flow::Commands(vec![(TAG_TASK, command)])
            }
            Ok(None) => Flow::Continue,
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// What is there is known: puts what comes after it.
    fn put_next(&mut self, summary: &LookupSummary) -> Flow {
        self.looks_first = false;
        if summary.replies == 0 {
            return Flow::Continue;
        }
        let known = self.item.take().and_then(|item| item.seq());
        let Some(seq) = known.map_or(Some(1), |seq| seq.checked_add(1)) else {
            return self.fail("no sequence number is higher than the one there".into());
        };
        if let DhtTask::Put(_, Some(signing)) = &mut self.task {
            signing.seq = Some(seq);
        }
        self.asked = false;
        self.ask()
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

    fn found(&mut self, found: &Found) {
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
            Found::Item(item) => {
                if !self.looks_first {
                    self.report.event("result", items::row(item));
                }
                self.item = Some(Arc::clone(item));
            }
            Found::InfoHash(hash) => {
                let hash = hash.to_string();
                self.report.event("result", json!({ "info_hash": hash }));
                self.report.result(&hash);
            }
            Found::Survey { of, again } => self.survey = Some((*of, again.as_secs())),
            Found::Swarm {
                seeds,
                downloaders,
                nodes,
            } => {
                let row = json!({ "seeds": seeds, "downloaders": downloaders, "nodes": nodes });
                self.report.event("result", row);
                self.report
                    .result(&format!("{seeds} seeds, {downloaders} downloaders"));
            }
            Found::Refused(code) => self.refused = Some(*code),
        }
    }

    fn done(&mut self, summary: &LookupSummary) -> Flow {
        if self.looks_first {
            return self.put_next(summary);
        }
        if summary.results > 0 {
            self.tell_item();
        }
        let milliseconds = summary.elapsed.as_micros() as f64 / 1000.0;
        let kind = self.task.kind();
        let mut row = json!({
            "kind": kind,
            "target": self.task.target(),
            "milliseconds": milliseconds,
            "hops": summary.hops,
            "queries": summary.queries,
            "results": summary.results,
        });
        if let Some((of, again)) = self.survey {
            row["num"] = of.into();
            row["interval"] = again.into();
            self.report.say(&format!(
                "{} of {of} info-hashes, others in {again} s",
                summary.results
            ));
        }
        self.report.event("lookup", row);
        let (thing, done) = match self.task {
            DhtTask::Announce(..) | DhtTask::Put(..) => ("store", "accepted"),
            DhtTask::GetPeers(_) => ("peer", "found"),
            DhtTask::Sample(_) => ("info-hash", "found"),
            DhtTask::Get(..) => ("value", "found"),
            DhtTask::Scrape(_) => ("count", "found"),
            DhtTask::Run | DhtTask::Ping(_) | DhtTask::FindNode(_) => ("node", "found"),
        };
        let found = |number| match (number, thing) {
            (number, "info-hash") if number != 1 => format!("{number} info-hashes {done}"),
            (number, thing) => format!("{} {done}", count(number, thing)),
        };
        self.report.say(&format!(
            "{kind}: {}, {}, {}, {}, {milliseconds:.1} ms",
            found(summary.results),
            count(summary.hops, "hop"),
            match summary.queries {
                1 => "1 query".to_owned(),
                queries => format!("{queries} queries"),
            },
            count(summary.replies, "answer")
        ));
        let reached = match self.task {
            DhtTask::Run | DhtTask::Ping(_) | DhtTask::FindNode(_) => summary.replies > 0,
            _ => summary.results > 0,
        };
        if reached {
            return self.end(DONE);
        }
        let message = self.why_nothing(summary);
        self.fail(message)
    }

    /// Why there is no result.
    fn why_nothing(&self, summary: &LookupSummary) -> String {
        match (&self.task, self.refused) {
            (DhtTask::Sample(addr), Some(code)) => {
                format!("{addr} gives no samples: {}", items::refusal(code))
            }
            (DhtTask::Put(..), Some(code)) => {
                format!("no node stored the value: {}", items::refusal(code))
            }
            (DhtTask::Ping(addr) | DhtTask::Sample(addr), _) if summary.replies == 0 => {
                format!("{addr} did not answer")
            }
            (DhtTask::Sample(addr), _) => match self.survey {
                Some(_) => format!("{addr} keeps peers of no info-hash; try another node"),
                None => format!("{addr} answers, but without samples (BEP 51); try another node"),
            },
            (DhtTask::Announce(..), _) => "no node stored the announce; try again".into(),
            _ if summary.replies == 0 => "no node answered; try --bootstrap HOST:PORT".into(),
            (DhtTask::Put(..), _) => "no node stored the value; try again".into(),
            (DhtTask::Get(target, salt), _) => {
                let hint = if salt.is_empty() {
                    "; of a mutable one with a salt, give --salt"
                } else {
                    ""
                };
                format!("no value is kept under {target}{hint}")
            }
            (DhtTask::GetPeers(hash), _) => {
                format!("no node knows a peer of {hash}; try again, peers announce themselves anew")
            }
            (DhtTask::Scrape(hash), _) => format!("no node counts peers of {hash}"),
            _ => "nothing was found".into(),
        }
    }

    /// The value found, or what was put.
    fn tell_item(&mut self) {
        if matches!(self.task, DhtTask::Put(..))
            && let Ok(item) = self.task.item(0)
        {
            self.report.event("result", items::row(&item));
            let name = match item.signed() {
                None => item.target().to_string(),
                Some(signed) => {
                    let key = items::hex(&signed.key);
                    format!("{} {key} {}", item.target(), signed.seq)
                }
            };
            self.report.result(&name);
        } else if let Some(item) = &self.item {
            self.report.result(&items::text(item));
        }
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
        if matches!(self.task, DhtTask::Run) {
            for addr in listening {
                self.report
                    .say(&format!("DHT node on {addr}; stop with Ctrl-C"));
            }
        }
        // Nobody else need be asked.
        if self.task.is_single()
            && let Flow::Commands(commands) = self.ask()
        {
            return commands;
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
                self.found(found);
                Flow::Continue
            }
            Event::LookupDone { tag, summary } if *tag == TAG_TASK => self.done(summary),
            Event::DhtStatus {
                nodes_v4,
                nodes_v6,
                bootstrapped,
            } => {
                let nodes = (*nodes_v4, *nodes_v6);
                if matches!(self.task, DhtTask::Run) && nodes != self.nodes {
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
