//! The trackers' place in the engine.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::jobs::Owner;
use super::{Engine, Todo, Wake};
use crate::dht;
use crate::event::{Event, PeerSource, SourceStatus, TrackerSource};
use crate::id::Id20;
use crate::io::{JobId, Outbox, TorrentId};
use crate::time::Instant;
use crate::tracker::{self, Figures, Job, JobToken, Setup, Status, UNKNOWN_LEFT};

impl Engine {
    /// Hands an input to the trackers and queues what they say.
    pub(super) fn tracker_input(&mut self, input: tracker::Input<'_>, out: &mut Outbox) {
        let Some(trackers) = &mut self.trackers else {
            return;
        };
        trackers.handle(self.now, input, out, &mut self.tracker_events);
        let events = self.tracker_events.drain(..);
        self.todo.extend(events.map(Todo::Tracker));
        let want = trackers.next_timeout();
        let wake = Wake::Trackers;
        Self::arm(&mut self.deadlines, &mut self.trackers_armed, want, wake);
    }

    pub(super) fn wake_trackers(&mut self, at: Instant, out: &mut Outbox) {
        if self.trackers_armed == Some(at) {
            self.trackers_armed = None;
        }
        let Some(trackers) = &self.trackers else {
            return;
        };
        let want = trackers.next_timeout();
        if want.is_some_and(|at| at <= self.now) {
            self.tracker_input(tracker::Input::Tick, out);
        } else {
            let wake = Wake::Trackers;
            Self::arm(&mut self.deadlines, &mut self.trackers_armed, want, wake);
        }
    }

    pub(super) fn is_tracker_answer(&self, from: SocketAddr, payload: &[u8]) -> bool {
        let trackers = self.trackers.as_ref();
        trackers.is_some_and(|trackers| trackers.is_answer(from, payload))
    }

    /// Tells of the trackers of a new torrent.
    pub(super) fn add_trackers(
        &mut self,
        torrent: TorrentId,
        info_hash: Id20,
        number: u64,
        tiers: Vec<Vec<String>>,
        out: &mut Outbox,
    ) {
        if tiers.is_empty() {
            return;
        }
        if self.trackers.is_none() {
            let disabled = Event::Source {
                torrent,
                source: PeerSource::Tracker,
                status: SourceStatus::Disabled,
                peers: 0,
                next_update: None,
                tracker: None,
            };
            self.emit(disabled, out);
            return;
        }
        let setup = Setup {
            number,
            info_hash,
            tiers,
        };
        self.tracker_input(tracker::Input::Add(torrent, setup), out);
    }

    /// What a torrent has to tell its trackers now.
    pub(super) fn figures(&self, torrent: TorrentId) -> Figures {
        let Some(stats) = self.torrent(torrent) else {
            return Figures::default();
        };
        let left = match self.info(torrent) {
            Some(_) => stats.total.saturating_sub(stats.done),
            None => UNKNOWN_LEFT,
        };
        Figures {
            uploaded: stats.uploaded,
            downloaded: stats.downloaded,
            left,
        }
    }

    /// Says goodbye to the trackers of a torrent that is about to stop.
    pub(super) fn stop_trackers(&mut self, torrent: TorrentId, out: &mut Outbox) {
        let figures = self.figures(torrent);
        self.tracker_input(tracker::Input::Stop(torrent, figures), out);
    }

    /// Whether goodbyes of a torrent are still under way.
    pub(super) fn trackers_wait(&self, torrent: TorrentId) -> bool {
        let trackers = self.trackers.as_ref();
        trackers.is_some_and(|trackers| trackers.has(torrent))
    }

    /// Whether goodbyes of any torrent are still under way.
    pub(super) fn any_tracker_waits(&self) -> bool {
        let trackers = self.trackers.as_ref();
        trackers.is_some_and(|trackers| !trackers.is_empty())
    }

    pub(super) fn on_tracker_event(&mut self, event: tracker::Event, out: &mut Outbox) {
        match event {
            tracker::Event::Due(torrent) => {
                let figures = self.figures(torrent);
                self.tracker_input(tracker::Input::Figures(torrent, figures), out);
            }
            tracker::Event::Job(token, job) => self.tracker_job(token, &job, out),
            tracker::Event::Cancel(token) => self.cancel_tracker_job(token, out),
            tracker::Event::Peers(torrent, peers) => {
                self.peers_found(torrent, PeerSource::Tracker, &peers);
            }
            tracker::Event::ExternalIp { voter, claim } => {
                self.dht_input(dht::Input::ExternalIp { voter, claim }, out);
            }
            tracker::Event::Status(status) => self.tell_tracker(*status, out),
            tracker::Event::Stopped(torrent) => self.torrent_stopped(torrent, out),
        }
    }

    fn tracker_job(&mut self, token: JobToken, job: &Job, out: &mut Outbox) {
        let id = JobId(self.jobs.insert(Owner::Tracker(token)));
        let config = &self.config.tracker;
        match job {
            Job::Resolve { host, port } => out.resolve(id, host, *port),
            Job::Get { url, redirected_by } => {
                let (most, timeout) = (config.max_answer, config.http_timeout);
                out.http_get(id, url, *redirected_by, most, timeout);
            }
        }
    }

    fn cancel_tracker_job(&mut self, token: JobToken, out: &mut Outbox) {
        let mut jobs = self.jobs.iter();
        let found = jobs.find(|(_, owner)| **owner == Owner::Tracker(token));
        let Some(key) = found.map(|(key, _)| key) else {
            return;
        };
        drop(jobs);
        self.jobs.remove(key);
        out.push(crate::io::Output::CancelJob { job: JobId(key) });
    }

    fn tell_tracker(&mut self, status: Status, out: &mut Outbox) {
        let tracker = TrackerSource {
            url: status.url,
            seeds: status.seeds,
            leechers: status.leechers,
            message: status.message,
        };
        let event = Event::Source {
            torrent: status.torrent,
            source: PeerSource::Tracker,
            status: status.status,
            peers: status.peers,
            next_update: status.next_update,
            tracker: Some(Box::new(tracker)),
        };
        self.emit(event, out);
    }
}
