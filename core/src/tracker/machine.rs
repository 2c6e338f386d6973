//! Torrents and their trackers over time.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::requests::{Kind, Request};
use super::tiers::{Busy, Tiers};
use super::{AnnounceEvent, Event, Figures, Input, Setup, Status, TrackerUrl, UrlError};
use crate::compact;
use crate::config::Config;
use crate::deadline::Deadlines;
use crate::dht::security::can_refer;
use crate::event::SourceStatus;
use crate::id::{Id20, PeerId};
use crate::io::{Outbox, SocketId, TorrentId};
use crate::rng::{Choice, Label, Secrets};
use crate::slab::{Key, Slab};
use crate::swarm::Want;
use crate::time::{Duration, Instant};

/// What is claimed to be missing while nobody knows how much it is: trackers take 0 for a seed.
pub const UNKNOWN_LEFT: u64 = 16 * 1024;

/// The trackers of many torrents.
pub struct Trackers {
    pub(super) config: Arc<Config>,
    pub(super) now: Instant,
    pub(super) secrets: Secrets,
    seed: [u8; 32],
    pub(super) peer_id: PeerId,
    pub(super) sockets: Vec<(SocketId, SocketAddr)>,
    pub(super) torrents: BTreeMap<TorrentId, Torrent>,
    pub(super) requests: Slab<Request>,
    /// UDP requests by the transaction under way.
    pub(super) transactions: BTreeMap<u32, Key>,
    /// Connection ids of UDP trackers, and until when they can be used (BEP 15).
    pub(super) connections: BTreeMap<SocketAddr, (u64, Instant)>,
    pub(super) deadlines: Deadlines<Timer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    Torrent(TorrentId),
    Request(Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Goodbyes are under way, and are waited for until then.
    Stopping(Instant),
}

pub(super) struct Torrent {
    pub(super) info_hash: Id20,
    pub(super) key: u32,
    choice: Choice,
    pub(super) tiers: Tiers,
    pub(super) want: Want,
    pub(super) figures: Figures,
    phase: Phase,
}

impl fmt::Debug for Trackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trackers")
            .field("now", &self.now)
            .field("torrents", &self.torrents.len())
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// A tracker refused, or did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It said so.
    Refused,
    /// It was not reached, or spoke nonsense.
    Silent,
}

/// What an announce brought, whichever way it went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) interval: Option<u32>,
    pub(super) min_interval: Option<u32>,
    pub(super) seeds: Option<u32>,
    pub(super) leechers: Option<u32>,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) warning: Option<String>,
}

impl Trackers {
    /// No torrents yet. `peer_id` is what trackers know us by.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: &[u8; 32], peer_id: PeerId, now: Instant) -> Self {
        Self {
            config,
            now,
            secrets: Secrets::new(seed, Label::Trackers),
            seed: *seed,
            peer_id,
            sockets: Vec::new(),
            torrents: BTreeMap::new(),
            requests: Slab::default(),
            transactions: BTreeMap::new(),
            connections: BTreeMap::new(),
            deadlines: Deadlines::default(),
        }
    }

    /// Takes one input; appends datagrams to `out` and the rest of what follows to `events`. `now`
    /// that runs backwards is read as standing still.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.on_tick(out, events),
            Input::SocketUp(socket, local) => {
                self.sockets.retain(|(id, _)| *id != socket);
                self.sockets.push((socket, local));
                let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
                ids.into_iter().for_each(|id| self.look_at(id, self.now));
            }
            Input::SocketDown(socket) => self.sockets.retain(|(id, _)| *id != socket),
            Input::Datagram {
                socket,
                from,
                payload,
            } => self.on_datagram(socket, from, payload, out, events),
            Input::SendFailed(to) => self.on_send_failed(to, events),
            Input::Add(torrent, setup) => self.add(torrent, setup, events),
            Input::Want(torrent, want) => {
                if let Some(entry) = self.torrents.get_mut(&torrent) {
                    entry.want = want;
                    self.look_at(torrent, self.now);
                }
            }
            Input::Figures(torrent, figures) => {
                if let Some(entry) = self.torrents.get_mut(&torrent) {
                    entry.figures = figures;
                    self.look(torrent, out, events);
                }
            }
            Input::Completed(torrent) => self.completed(torrent, events),
            Input::Stop(torrent, figures) => self.stop(torrent, figures, out, events),
            Input::JobDone(token, result) => self.on_job_done(token, result, out, events),
        }
    }

    /// When the next `Tick` is due at the latest. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Whether a torrent is known here.
    #[must_use]
    pub fn has(&self, torrent: TorrentId) -> bool {
        self.torrents.contains_key(&torrent)
    }

    /// Whether no torrent is left to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.torrents.is_empty()
    }

    fn on_tick(&mut self, out: &mut Outbox, events: &mut Vec<Event>) {
        for _ in 0..self.config.tracker.timers_per_input {
            let Some((_, timer)) = self.deadlines.expire(self.now) else {
                break;
            };
            match timer {
                Timer::Request(key) => self.on_request_timer(key, out, events),
                Timer::Torrent(torrent) => match self.torrents.get(&torrent).map(|t| t.phase) {
                    Some(Phase::Running) => events.push(Event::Due(torrent)),
                    Some(Phase::Stopping(until)) if until <= self.now => {
                        self.forget(torrent, events);
                    }
                    Some(Phase::Stopping(until)) => self.look_at(torrent, until),
                    None => {}
                },
            }
        }
    }

    fn add(&mut self, torrent: TorrentId, setup: Setup, events: &mut Vec<Event>) {
        if self.torrents.contains_key(&torrent) {
            return;
        }
        let mut choice = Choice::new(&self.seed, Label::TrackersOf(setup.number));
        let config = &self.config.tracker;
        let (tiers, refused) = Tiers::new(setup.tiers, config, &mut choice, self.now);
        for (url, error) in refused {
            let most = usize::from(config.max_url);
            events.push(Event::Status(Box::new(refused_status(
                torrent, url, error, most,
            ))));
        }
        if tiers.trackers.is_empty() {
            return;
        }
        let key = u32::from_be_bytes(self.secrets.bytes());
        let entry = Torrent {
            info_hash: setup.info_hash,
            key,
            choice,
            tiers,
            want: Want::Nobody,
            figures: Figures {
                left: UNKNOWN_LEFT,
                ..Figures::default()
            },
            phase: Phase::Running,
        };
        let trackers = entry.tiers.trackers.len() as u16;
        self.torrents.insert(torrent, entry);
        for index in 0..trackers {
            self.tell(torrent, index, SourceStatus::Idle, None, None, events);
        }
    }

    /// Plans a look at a torrent.
    pub(super) fn look_at(&mut self, torrent: TorrentId, at: Instant) {
        self.deadlines.arm(at, Timer::Torrent(torrent));
    }

    /// Begins what is due for a torrent whose figures are fresh.
    fn look(&mut self, torrent: TorrentId, out: &mut Outbox, events: &mut Vec<Event>) {
        for _ in 0..self.config.tracker.begun_per_look {
            let Some(entry) = self.torrents.get(&torrent) else {
                return;
            };
            // Without a port nobody could reach us: there is nothing to tell.
            let idle = entry.want == Want::Nobody || self.sockets.is_empty();
            if entry.phase != Phase::Running || idle || !self.config.tcp {
                return;
            }
            let urgent = entry.want == Want::Anybody;
            let step = entry.tiers.step(self.now, &self.config.tracker, urgent);
            let acts = step.announce.is_some() || step.late.is_some() || step.scrape.is_some();
            if let Some(index) = step.late {
                self.is_late(torrent, index, events);
            }
            if let Some(index) = step.announce {
                let event = self.event_for(torrent, index);
                if !self.begin(torrent, index, Kind::Announce(event), out, events) {
                    self.put_off(torrent);
                    return;
                }
            } else if let Some(index) = step.scrape
                && !self.begin(torrent, index, Kind::Scrape, out, events)
            {
                self.put_off(torrent);
                return;
            }
            if !acts {
                if let Some(wake) = step.wake {
                    self.look_at(torrent, wake);
                }
                return;
            }
        }
        self.look_at(torrent, self.now);
    }

    /// Too many requests are under way: it is tried again when some are over.
    fn put_off(&mut self, torrent: TorrentId) {
        let pause = self.config.tracker.crowded_pause;
        let pause = self.jittered(torrent, pause);
        self.look_at(torrent, self.now + pause);
    }

    /// `base` and up to a tenth more, so that torrents do not stay in step.
    fn jittered(&mut self, torrent: TorrentId, base: Duration) -> Duration {
        let micros = base.as_micros() as u64;
        let spread = micros / 10 + 1;
        let more = match self.torrents.get_mut(&torrent) {
            Some(entry) => entry.choice.below(spread),
            None => 0,
        };
        Duration::from_micros(micros.saturating_add(more))
    }

    fn event_for(&self, torrent: TorrentId, index: u16) -> AnnounceEvent {
        let tracker = self.torrents.get(&torrent);
        let tracker = tracker.and_then(|entry| entry.tiers.trackers.get(usize::from(index)));
        match tracker {
            Some(tracker) if !tracker.knows_us => AnnounceEvent::Started,
            Some(tracker) if tracker.owes_completed => AnnounceEvent::Completed,
            _ => AnnounceEvent::None,
        }
    }

    /// Begins a request; false when as many are under way as may be.
    fn begin(
        &mut self,
        torrent: TorrentId,
        index: u16,
        kind: Kind,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> bool {
        if self.requests.len() >= usize::from(self.config.tracker.max_requests) {
            return false;
        }
        let request = self.requests.insert(Request::new(torrent, index, kind));
        let now = self.now;
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return true;
        };
        let tracker = &mut entry.tiers.trackers[usize::from(index)];
        if kind == Kind::Scrape {
            tracker.scrape = true;
            tracker.counted = Some(now);
        } else {
            tracker.busy = Some(Busy {
                since: now,
                late: false,
            });
            self.tell(torrent, index, SourceStatus::Working, None, None, events);
        }
        self.start_request(request, out, events);
        true
    }

    /// Nobody waits for a tracker any more; what it is asked goes on.
    fn is_late(&mut self, torrent: TorrentId, index: u16, events: &mut Vec<Event>) {
        if let Some(busy) = self.busy_mut(torrent, index) {
            busy.late = true;
        }
        let message = Some("no answer yet".to_string());
        self.tell(torrent, index, SourceStatus::Failed, None, message, events);
    }

    fn busy_mut(&mut self, torrent: TorrentId, index: u16) -> Option<&mut Busy> {
        let entry = self.torrents.get_mut(&torrent)?;
        let tracker = entry.tiers.trackers.get_mut(usize::from(index))?;
        tracker.busy.as_mut()
    }

    fn completed(&mut self, torrent: TorrentId, events: &mut Vec<Event>) {
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        for tracker in &mut entry.tiers.trackers {
            // Whoever was told that nothing is missing has nothing to be told.
            tracker.owes_completed |= tracker.started && tracker.lacked;
        }
        if entry.phase == Phase::Running {
            events.push(Event::Due(torrent));
        }
    }

    /// An announce leaves for a tracker: what it says is taken as said.
    pub(super) fn on_sent(&mut self, torrent: TorrentId, index: u16, event: AnnounceEvent) {
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        let lacks = entry.figures.left > 0;
        if let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index))
            && event == AnnounceEvent::Started
        {
            tracker.started = true;
            tracker.lacked |= lacks;
        }
    }

    /// An announce was taken by the tracker at `from`.
    pub(super) fn succeeded(
        &mut self,
        torrent: TorrentId,
        index: u16,
        event: AnnounceEvent,
        from: IpAddr,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) {
        let config = Arc::clone(&self.config);
        let (now, limits) = (self.now, &config.tracker);
        let interval = outcome
            .interval
            .map_or(limits.interval, |seconds| {
                Duration::from_secs(seconds.into())
            })
            .clamp(limits.min_interval, limits.max_interval);
        let least = outcome
            .min_interval
            .map_or(limits.min_interval, |seconds| {
                Duration::from_secs(seconds.into())
            })
            .clamp(limits.min_interval, limits.max_interval);
        let wait = self.jittered(torrent, interval.max(least));
        let peers = outcome.peers.into_iter();
        let peers: Vec<SocketAddr> = peers
            .filter(|addr| !compact::is_undialable(*addr) && can_refer(from, addr.ip()))
            .take(usize::from(limits.max_answer_peers))
            .collect();
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        entry.tiers.promote(index);
        let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index)) else {
            return;
        };
        tracker.busy = None;
        tracker.fails = 0;
        tracker.works = true;
        tracker.knows_us = true;
        tracker.next = now + wait;
        tracker.earliest = now + least;
        tracker.peers = peers.len() as u32;
        if event == AnnounceEvent::Completed {
            tracker.owes_completed = false;
        }
        tracker.counts = outcome.seeds.is_some() || outcome.leechers.is_some();
        if tracker.counts {
            tracker.seeds = outcome.seeds;
            tracker.leechers = outcome.leechers;
            tracker.counted = Some(now);
        }
        let (idle, warning) = (SourceStatus::Idle, outcome.warning);
        self.tell(torrent, index, idle, Some(wait), warning, events);
        if !peers.is_empty() {
            events.push(Event::Peers(torrent, peers));
        }
        self.look_at(torrent, now);
    }

    /// A scrape was answered.
    pub(super) fn scraped(
        &mut self,
        torrent: TorrentId,
        index: u16,
        seeds: Option<u32>,
        leechers: Option<u32>,
        events: &mut Vec<Event>,
    ) {
        let now = self.now;
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index)) else {
            return;
        };
        tracker.scrape = false;
        tracker.seeds = seeds;
        tracker.leechers = leechers;
        let next = tracker.works.then(|| tracker.next.saturating_since(now));
        let (idle, failed) = (SourceStatus::Idle, tracker.fails > 0);
        if !failed && tracker.busy.is_none() {
            self.tell(torrent, index, idle, next, None, events);
        }
        self.look_at(torrent, now);
    }

    /// A request came to nothing.
    pub(super) fn failed(
        &mut self,
        torrent: TorrentId,
        index: u16,
        kind: Kind,
        blame: Blame,
        message: String,
        events: &mut Vec<Event>,
    ) {
        let (now, limits) = (self.now, &self.config.tracker);
        let (retry, most) = (limits.retry, limits.max_retry);
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        let stopping = entry.phase != Phase::Running;
        let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index)) else {
            return;
        };
        let Kind::Announce(event) = kind else {
            // Figures are no more than nice to have.
            tracker.scrape = false;
            self.look_at(torrent, now);
            return;
        };
        tracker.busy = None;
        tracker.works = false;
        let doublings = tracker.fails.min(16);
        tracker.fails = tracker.fails.saturating_add(1);
        if event == AnnounceEvent::Started && blame == Blame::Refused {
            tracker.started = false;
        }
        let wait = retry.saturating_mul(1 << doublings).min(most);
        let wait = self.jittered(torrent, wait);
        if let Some(entry) = self.torrents.get_mut(&torrent) {
            let tracker = &mut entry.tiers.trackers[usize::from(index)];
            tracker.next = now + wait;
            tracker.earliest = tracker.next;
        }
        if stopping {
            return;
        }
        let (failed, message) = (SourceStatus::Failed, Some(message));
        self.tell(torrent, index, failed, Some(wait), message, events);
        self.look_at(torrent, now);
    }

    fn stop(
        &mut self,
        torrent: TorrentId,
        figures: Figures,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let until = self.now + self.config.tracker.stop_patience;
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            events.push(Event::Stopped(torrent));
            return;
        };
        if entry.phase != Phase::Running {
            return;
        }
        entry.phase = Phase::Stopping(until);
        entry.figures = figures;
        // What says that all is there is waited for: the goodbye follows it.
        let kept = self.drop_requests(torrent, Some(AnnounceEvent::Completed), events);
        let Some(entry) = self.torrents.get_mut(&torrent) else {
            return;
        };
        let mut told = Vec::new();
        for (index, tracker) in entry.tiers.trackers.iter_mut().enumerate() {
            tracker.busy = None;
            tracker.scrape = false;
            if tracker.started && !kept.contains(&(index as u16)) {
                // One that never answered, or does not any more, is not waited for.
                told.push((index as u16, tracker.knows_us && tracker.fails == 0));
            }
        }
        for (index, awaited) in told {
            self.say_goodbye(torrent, index, awaited, out, events);
        }
        self.look_at(torrent, until);
        self.finish_if_idle(torrent, events);
    }

    pub(super) fn is_stopping(&self, torrent: TorrentId) -> bool {
        let entry = self.torrents.get(&torrent);
        entry.is_some_and(|entry| entry.phase != Phase::Running)
    }

    /// Forgets a stopping torrent whose last goodbye was answered.
    pub(super) fn finish_if_idle(&mut self, torrent: TorrentId, events: &mut Vec<Event>) {
        let idle = self
            .requests
            .iter()
            .all(|(_, request)| request.torrent != torrent);
        if idle && self.is_stopping(torrent) {
            self.forget(torrent, events);
        }
    }

    fn forget(&mut self, torrent: TorrentId, events: &mut Vec<Event>) {
        self.drop_requests(torrent, None, events);
        self.torrents.remove(&torrent);
        self.deadlines.disarm(Timer::Torrent(torrent));
        events.push(Event::Stopped(torrent));
    }

    pub(super) fn tell(
        &self,
        torrent: TorrentId,
        index: u16,
        status: SourceStatus,
        next_update: Option<Duration>,
        message: Option<String>,
        events: &mut Vec<Event>,
    ) {
        let tracker = self.torrents.get(&torrent);
        let tracker = tracker.and_then(|entry| entry.tiers.trackers.get(usize::from(index)));
        let Some(tracker) = tracker else { return };
        events.push(Event::Status(Box::new(Status {
            torrent,
            url: Arc::clone(tracker.url.text()),
            status,
            next_update,
            seeds: tracker.seeds,
            leechers: tracker.leechers,
            peers: tracker.peers,
            message,
        })));
    }

    /// The URL of a tracker.
    pub(super) fn url(&self, torrent: TorrentId, index: u16) -> Option<&TrackerUrl> {
        let entry = self.torrents.get(&torrent)?;
        Some(&entry.tiers.trackers.get(usize::from(index))?.url)
    }
}

/// What is told of a URL that is none: its beginning, and why.
fn refused_status(torrent: TorrentId, url: String, error: UrlError, most: usize) -> Status {
    let url: String = url.chars().filter(|c| !c.is_control()).take(most).collect();
    Status {
        torrent,
        url: url.into(),
        status: SourceStatus::Disabled,
        next_update: None,
        seeds: None,
        leechers: None,
        peers: 0,
        message: Some(error.to_string()),
    }
}
