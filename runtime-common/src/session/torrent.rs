//! `download`, `seed` and `metadata`: one torrent from its source to its goal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use trackerless_core::engine::TorrentStats;
use trackerless_core::event::{
    CommandError, Done, Event, PeerSource, SourceStatus, TrackerSource, Transport,
};
use trackerless_core::io::{AddTorrent, Command, JobError, Tag, TorrentId};
use trackerless_core::metainfo::{Info, Version};
use trackerless_core::tracker::{TrackerUrl, UrlError};

use super::{Contacts, GOODBYE_SECONDS, TAG_SAVE, TAG_SHUTDOWN, TAG_TASK, report_listening};
use crate::cli::values::Ratio;
use crate::display::{
    Reporter, SourceTable, bytes, close_reason, count, job_error, printable, source_name,
    status_name, tracker_name,
};
use crate::error::{DONE, Failure, INTERRUPTED};
use crate::host::{App, Flow, View};
use crate::offline::{Outer, missing_files};
use crate::state::StateDir;
use crate::storage::Obstacle;

/// When a torrent is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// When complete, and the goals of seeding, if any, are reached.
    Download(SeedGoal),
    /// Never; fails when the content is not complete.
    Seed,
    /// When the metadata is there; it is written to this file.
    Metadata(PathBuf),
}

/// How long to seed after a download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeedGoal {
    /// Until stopped, or until one of the others.
    pub forever: bool,
    /// Until this much of the size was uploaded.
    pub ratio: Option<Ratio>,
    /// For this long.
    pub time: Option<Duration>,
}

impl SeedGoal {
    fn seeds(&self) -> bool {
        self.forever || self.ratio.is_some() || self.time.is_some()
    }
}

/// What a [`TorrentApp`] is to do.
#[derive(Debug)]
pub struct TorrentPlan {
    /// The torrent.
    pub add: AddTorrent,
    /// What to call it until its metadata is there.
    pub name: String,
    /// When it is done.
    pub goal: Goal,
    /// Whom the DHT asks first.
    pub contacts: Contacts,
    /// The folder the content is put into.
    pub folder: PathBuf,
    /// Whether TCP is listened on.
    pub tcp: bool,
    /// Told by storage what is in the way of content.
    pub obstacle: Obstacle,
    /// Where state is saved: what goes wrong there is told.
    pub state: Option<StateDir>,
    /// What surrounds `info` in the `.torrent` that `metadata` writes.
    pub outer: Outer,
}

/// One torrent from its source to its goal.
pub struct TorrentApp {
    plan: TorrentPlan,
    report: Reporter,
    torrent: Option<TorrentId>,
    started: Instant,
    complete: Option<Instant>,
    last: Option<TorrentStats>,
    sources: SourceTable,
    known: BTreeMap<SocketAddr, PeerSource>,
    ending: Option<Ending>,
    /// The metadata, once it is known.
    info: Option<Arc<Info>>,
}

struct Ending {
    code: u8,
    seconds: u32,
}

/// Peers whose source is remembered for the table.
const MAX_REMEMBERED: usize = 10_000;

impl TorrentApp {
    /// An app for `plan`.
    #[must_use]
    pub fn new(plan: TorrentPlan, report: Reporter) -> Self {
        Self {
            plan,
            report,
            torrent: None,
            started: Instant::now(),
            complete: None,
            last: None,
            sources: SourceTable::default(),
            known: BTreeMap::new(),
            ending: None,
            info: None,
        }
    }

    fn metadata(&mut self, info: &Arc<Info>) -> Flow {
        self.plan.name = printable(&info.name);
        self.info = Some(Arc::clone(info));
        let size: u64 = info
            .files
            .iter()
            .filter(|file| !file.pad)
            .map(|file| file.length)
            .sum();
        let files = info.files.iter().filter(|file| !file.pad).count();
        self.report.event(
            "metadata",
            json!({
                "name": info.name,
                "size": size,
                "files": files,
                "info_hash": info.hashes.best().to_string(),
            }),
        );
        let what = format!(
            "{}: {}, {}, {} of {}",
            self.plan.name,
            bytes(size),
            count(files as u64, "file"),
            count(info.piece_count, "piece"),
            bytes(info.piece_length.into()),
        );
        let Goal::Metadata(path) = &self.plan.goal else {
            self.report.say(&what);
            if info.version == Version::V2 {
                let message = crate::run::v2_alone(&self.plan.name);
                return self.fail(Failure::failed(message));
            }
            return Flow::Continue;
        };
        let torrent = self.plan.outer.around(Arc::clone(info)).to_bytes();
        match crate::state::write_atomic(path, &torrent) {
            Ok(()) => {
                let path = path.display().to_string();
                self.report.result(&format!("{what}\nwritten to {path}"));
                self.end(DONE)
            }
            Err(error) => {
                let message = format!("{}: {error}", path.display());
                self.fail(Failure::failed(message))
            }
        }
    }

    fn checked(&mut self, ok: u32, bad: u32, view: &dyn View) -> Flow {
        let pieces = self.info.as_ref().map_or(0, |info| info.piece_count);
        self.report.event("verified", verified(ok, pieces));
        if self.plan.goal != Goal::Seed {
            if ok > 0 || bad > 0 {
                self.report.say(&format!(
                    "{ok} of {} here already, {bad} wrong",
                    count(pieces, "piece")
                ));
            }
            return Flow::Continue;
        }
        let stats = self.torrent.and_then(|torrent| view.torrent(torrent));
        if bad == 0 && stats.is_none_or(|stats| stats.done >= stats.total) {
            self.report.say(&format!(
                "{}: {ok} of {} right; seeding, stop with Ctrl-C",
                self.plan.name,
                count(pieces, "piece")
            ));
            return Flow::Continue;
        }
        // Leaves at once: what is missing would be downloaded over the user's files.
        let missing = self.info.as_ref();
        let missing = missing.map_or(Vec::new(), |info| missing_files(info, &self.plan.folder));
        let files = match (missing.len(), &self.info) {
            (1.., Some(info)) => {
                let first = printable(&info.files[missing[0]].path.join("/"));
                format!(
                    " ({} of the files are not there, the first is {first})",
                    missing.len()
                )
            }
            _ => String::new(),
        };
        self.report.failure(&Failure::failed(format!(
            "{}: only {ok} of {} right, {bad} wrong, the rest is missing{files}; check --data, or \
             fetch them with download",
            self.plan.name,
            count(pieces, "piece")
        )));
        Flow::Exit(crate::error::FAILED)
    }

    fn completed(&mut self, view: &dyn View) -> Flow {
        if self.complete.is_some() {
            return Flow::Continue;
        }
        self.complete = Some(Instant::now());
        if self.plan.goal == Goal::Seed {
            return Flow::Continue;
        }
        self.read_stats(view);
        let (downloaded, uploaded) = self
            .last
            .map_or((0, 0), |stats| (stats.downloaded, stats.uploaded));
        let seconds = self.started.elapsed().as_millis() as f64 / 1000.0;
        self.report.event(
            "complete",
            json!({ "seconds": seconds, "downloaded": downloaded, "uploaded": uploaded }),
        );
        match &self.plan.goal {
            Goal::Download(seed) if seed.seeds() => {
                self.report
                    .say(&format!("{}: complete, seeding", self.plan.name));
                Flow::Continue
            }
            _ => self.end(DONE),
        }
    }

    /// The file on disk that is longer than the torrent's, where that is what is in the way.
    fn longer_file(&self) -> Option<String> {
        let files = &self.info.as_ref()?.files;
        let files = files.iter().filter(|it| !it.pad && it.symlink.is_none());
        files.into_iter().find_map(|file| {
            let path = self.plan.folder.join(file.path.iter().collect::<PathBuf>());
            let meta = path.symlink_metadata().ok().filter(|it| it.is_file())?;
            (meta.len() > file.length).then(|| {
                format!(
                    "{}: a file of that name is there already and longer ({} bytes, expected at \
                     most {}): move it away, or choose another folder",
                    path.display(),
                    meta.len(),
                    file.length
                )
            })
        })
    }

    fn no_such_file(&self, index: u32, files: u32) -> Failure {
        // What the command line selects goes before what the link does.
        let given = match self.plan.add.select.is_empty() {
            false => "--select",
            true => "so of the magnet link",
        };
        no_such_file(given, index, files as usize)
    }

    /// Whether it is done with some ratio or time.
    fn has_goal(&self) -> bool {
        matches!(&self.plan.goal, Goal::Download(goal) if goal.time.is_some() || goal.ratio.is_some())
    }

    fn seeded_enough(&self) -> bool {
        let (Goal::Download(goal), Some(since)) = (&self.plan.goal, self.complete) else {
            return false;
        };
        let time = goal.time.is_some_and(|time| since.elapsed() >= time);
        let ratio = match (goal.ratio, &self.last) {
            (Some(ratio), Some(stats)) => {
                // What earlier runs gave counts, too.
                let uploaded = u128::from(stats.uploaded) + u128::from(stats.uploaded_before);
                uploaded * 1000 >= u128::from(stats.total) * u128::from(ratio.0)
            }
            _ => false,
        };
        time || ratio
    }

    fn read_stats(&mut self, view: &dyn View) {
        if let Some(stats) = self.torrent.and_then(|torrent| view.torrent(torrent)) {
            self.last = Some(stats);
        }
    }

    /// The reason comes last, where it is looked for: the summary before it, nothing after.
    fn fail(&mut self, failure: Failure) -> Flow {
        if self.ending.is_some() {
            return Flow::Continue;
        }
        self.report.finish();
        self.report.trouble(self.plan.state.as_ref());
        self.summary(failure.code);
        self.report.failure(&failure);
        self.end(failure.code)
    }

    /// Says goodbye, then leaves with `code`.
    fn end(&mut self, code: u8) -> Flow {
        if self.ending.is_some() {
            return Flow::Continue;
        }
        self.ending = Some(Ending { code, seconds: 0 });
        Flow::Commands(vec![
            (TAG_SAVE, Command::Save),
            (TAG_SHUTDOWN, Command::Shutdown),
        ])
    }

    fn leave(&mut self) -> Flow {
        let code = self.ending.as_ref().map_or(DONE, |ending| ending.code);
        self.report.finish();
        // After a failure nothing is said any more: its reason is the last line.
        if self.report.failures() == 0 {
            self.report.trouble(self.plan.state.as_ref());
            self.summary(code);
        }
        Flow::Exit(code)
    }

    fn summary(&mut self, code: u8) {
        if matches!(self.plan.goal, Goal::Metadata(_)) {
            return;
        }
        if !self.sources.is_empty() && !self.report.json() {
            self.report.say(&self.sources.render());
        }
        let Some(stats) = &self.last else { return };
        let state = match (self.complete, code) {
            (Some(_), _) => "complete",
            (None, INTERRUPTED) => "interrupted",
            (None, _) => "not complete",
        };
        let now = Instant::now();
        self.report.result(&format!(
            "{}: {state}, {} of {} here, {} downloaded, {} uploaded, {}",
            self.plan.name,
            bytes(stats.done),
            bytes(stats.total),
            bytes(stats.downloaded),
            bytes(stats.uploaded),
            self.times(now),
        ));
    }

    /// How long it took, and how long it was seeded after that.
    fn times(&self, now: Instant) -> String {
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
        let complete = match &self.plan.goal {
            Goal::Download(goal) if goal.seeds() => self.complete,
            _ => None,
        };
        match complete {
            None => format!("{:.1} s", seconds(self.started, now)),
            Some(complete) => format!(
                "{:.1} s, then seeded for {:.1} s",
                seconds(self.started, complete),
                seconds(complete, now)
            ),
        }
    }

    fn found(&mut self, addr: SocketAddr, source: PeerSource) {
        // One that was forgotten meanwhile may be found again.
        if !self.known.contains_key(&addr) {
            self.sources.found(source);
            if self.known.len() < MAX_REMEMBERED {
                self.known.insert(addr, source);
            }
        }
        self.report.event(
            "peer_found",
            json!({ "address": addr.to_string(), "source": source_name(source) }),
        );
    }

    fn command_done(&mut self, tag: Tag, result: &Result<Done, Box<CommandError>>) -> Flow {
        match (tag, result) {
            (TAG_TASK, Ok(Done::Torrent(torrent))) => {
                self.torrent = Some(*torrent);
                Flow::Continue
            }
            (TAG_TASK, Err(error)) => {
                let failure = match &**error {
                    CommandError::BadSource(message) => Failure::usage(message.clone()),
                    CommandError::BadSelection(index, files) => self.no_such_file(*index, *files),
                    other => Failure::failed(command_error(other)),
                };
                self.fail(failure)
            }
            (TAG_SHUTDOWN, _) => self.leave(),
            (_, Err(error)) => {
                // A contact that is away is no reason to stop: peers may come by other ways.
                self.report
                    .detail(|| format!("dht: {}", command_error(error)));
                Flow::Continue
            }
            _ => Flow::Continue,
        }
    }
}

impl App for TorrentApp {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        report_listening(&self.report, listening, self.plan.tcp);
        self.report.trouble(self.plan.state.as_ref());
        self.started = Instant::now();
        let mut commands = self.plan.contacts.commands();
        commands.push((TAG_TASK, Command::AddTorrent(self.plan.add.clone())));
        commands
    }

    fn on_event(&mut self, event: &Event, view: &dyn View) -> Flow {
        match event {
            Event::CommandDone { tag, result } => return self.command_done(*tag, result),
            Event::Metadata { info, .. } => return self.metadata(info),
            Event::Checked { ok, bad, .. } => return self.checked(*ok, *bad, view),
            Event::Complete { .. } => return self.completed(view),
            Event::Ignored { ignored, .. } => {
                let message = printable(&ignored.to_string());
                self.report.warning("source", &message);
            }
            Event::PeerFound { addr, source, .. } => {
                self.found(*addr, *source);
            }
            Event::PeerConnected(peer) => {
                let told = self.known.get(&peer.addr).copied();
                let source = match told {
                    Some(told) if !peer.incoming => told,
                    _ if peer.incoming => PeerSource::Incoming,
                    // Nobody told of it in this run: an earlier one knew it.
                    _ => PeerSource::Resume,
                };
                if told.is_none() {
                    self.found(peer.addr, source);
                }
                self.sources.connected(source);
                let transport = match peer.transport {
                    Transport::Tcp => "tcp",
                    Transport::Utp => "utp",
                };
                self.report.event(
                    "peer_connected",
                    json!({
                        "address": peer.addr.to_string(),
                        "transport": transport,
                        "encrypted": !peer.encryption.is_plain(),
                        "client": peer.client,
                    }),
                );
                self.report
                    .detail(|| format!("{} connected: {}", peer.addr, printable(&peer.client)));
            }
            Event::PeerNamed { addr, client, .. } => {
                self.report.event(
                    "peer_client",
                    json!({ "address": addr.to_string(), "client": client }),
                );
                self.report
                    .detail(|| format!("{addr} runs {}", printable(client)));
            }
            Event::PeerClosed { addr, reason, .. } => {
                let reason = close_reason(reason);
                self.report.event(
                    "peer_closed",
                    json!({ "address": addr.to_string(), "reason": reason }),
                );
                self.report.detail(|| format!("{addr} closed: {reason}"));
            }
            Event::Source {
                source,
                status,
                peers,
                next_update,
                tracker,
                ..
            } => {
                let tracker = tracker.as_deref();
                self.sources
                    .status(*source, tracker, *status, *peers, *next_update);
                let mut fields = json!({
                    "source": source_name(*source),
                    "status": status_name(*status),
                    "next_update": next_update.map(|next| next.as_secs()),
                    "seeds": tracker.and_then(|tracker| tracker.seeds),
                    "peers": peers,
                });
                if let Some(tracker) = tracker {
                    fields["url"] = json!(&*tracker.url);
                    fields["leechers"] = json!(tracker.leechers);
                    fields["message"] = json!(tracker.message);
                }
                self.report.event("source", fields);
                if let Some(message) = tracker.and_then(|tracker| unusable(*status, tracker)) {
                    self.report.warning("tracker", &message);
                }
                self.report.detail(|| {
                    let status = status_name(*status);
                    let Some(tracker) = tracker else {
                        let name = source_name(*source);
                        return format!("{name}: {status}, {peers} peers found");
                    };
                    let name = tracker_name(&tracker.url);
                    match &tracker.message {
                        Some(message) => format!("{name}: {status}: {}", printable(message)),
                        None => format!("{name}: {status}, {peers} peers found"),
                    }
                });
            }
            Event::PieceFailed {
                piece,
                blame,
                suspects,
                ..
            } => {
                let text = |addrs: &[SocketAddr]| -> Vec<String> {
                    addrs.iter().map(ToString::to_string).collect()
                };
                let (blame, suspects) = (text(blame), text(suspects));
                self.report
                    .event("piece_failed", json!({ "piece": piece, "blame": blame }));
                self.report.say(&match blame.is_empty() {
                    true => format!("piece {piece} was wrong; one of {}", suspects.join(", ")),
                    false => format!("piece {piece} was wrong; sent by {}", blame.join(", ")),
                });
            }
            Event::PieceLost { piece, .. } => {
                self.report.say(&format!(
                    "{}: piece {piece} cannot be read any more",
                    self.plan.name
                ));
            }
            Event::BadSelection { index, files, .. } => {
                let failure = self.no_such_file(*index, *files);
                return self.fail(failure);
            }
            Event::StorageFailed { piece, error, .. } => {
                let place = piece.map_or(String::new(), |piece| format!(" (piece {piece})"));
                let longer = (*error == JobError::InTheWay).then(|| self.longer_file());
                let reason = longer
                    .flatten()
                    .or_else(|| self.plan.obstacle.reason(*error));
                let reason = reason.unwrap_or_else(|| job_error(*error).into());
                let message = format!("{}{place}: {reason}", self.plan.name);
                return self.fail(Failure::failed(message));
            }
            _ => {}
        }
        Flow::Continue
    }

    fn wants_seconds(&self) -> bool {
        self.ending.is_some() || self.report.shows_progress() || self.has_goal()
    }

    fn on_second(&mut self, view: &dyn View) -> Flow {
        if let Some(ending) = &mut self.ending {
            ending.seconds += 1;
            if ending.seconds >= GOODBYE_SECONDS {
                return self.leave();
            }
            return Flow::Continue;
        }
        self.report.trouble(self.plan.state.as_ref());
        self.read_stats(view);
        if let Some(stats) = &self.last {
            self.report.progress(&self.plan.name, stats);
        }
        if self.seeded_enough() {
            return self.end(DONE);
        }
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        self.report
            .say("stopping; press Ctrl-C again to stop at once");
        self.end(INTERRUPTED)
    }

    fn on_failure(&mut self, failure: &Failure) -> Flow {
        let Some(ending) = &mut self.ending else {
            return self.fail(failure.clone());
        };
        if ending.code == DONE {
            ending.code = failure.code;
        }
        self.report.failure(failure);
        Flow::Continue
    }
}

/// Why a tracker is never asked: said once, since nothing else will ever be of it. That there are
/// schemes which we do not speak is nobody's mistake, and is left to those who ask for more.
fn unusable(status: SourceStatus, tracker: &TrackerSource) -> Option<String> {
    let message = tracker.message.as_ref()?;
    let unspoken = matches!(
        TrackerUrl::parse(&tracker.url, u16::MAX),
        Err(UrlError::Scheme)
    );
    let foreign = unspoken && tracker.url.contains("://");
    (status == SourceStatus::Disabled && !foreign).then(|| {
        let name = tracker_name(&tracker.url);
        format!("tracker {name}: {}; it is not asked", printable(message))
    })
}

/// What `verified` says: a piece that is missing is as bad as one that is wrong.
pub(crate) fn verified(ok: u32, pieces: u32) -> serde_json::Value {
    json!({ "pieces_ok": ok, "pieces_bad": pieces.saturating_sub(ok) })
}

/// That a torrent has no file `index`, which `given` selects.
pub(crate) fn no_such_file(given: &str, index: u32, files: usize) -> Failure {
    let expected = match files {
        0 | 1 => "only 0, as there is one file".to_owned(),
        files => format!("file numbers from 0 to {}", files - 1),
    };
    Failure::usage(format!("{given}: {index}: expected {expected}"))
}

pub(super) fn command_error(error: &CommandError) -> String {
    match error {
        CommandError::BadSource(message) => message.clone(),
        CommandError::Duplicate(_) => "the torrent is here already".into(),
        CommandError::BadSelection(index, files) => {
            format!("there is no file {index}: the torrent has {files}")
        }
        CommandError::UnknownTorrent => "no such torrent".into(),
        CommandError::Limit(limit) => format!("a limit is reached: {limit}"),
        CommandError::NoDht => "the DHT is off, or has no socket".into(),
        CommandError::BadState(what) => format!("saved state is ignored: {what}"),
        CommandError::NoAnswer => "no node answered; try --bootstrap HOST:PORT".into(),
        _ => "refused".into(),
    }
}

#[cfg(test)]
mod tests;
