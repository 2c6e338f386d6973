//! The machine by itself, with trackers that do as they are told.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use std::format;

use super::*;
use crate::config::{Config, TrackerConfig};
use crate::io::{HttpAnswer, JobError, Outbox, Output};
use crate::slab::Key;
use crate::time::Instant;

mod goodbye;
mod http_trackers;
mod udp_trackers;

const TORRENT: TorrentId = TorrentId(Key {
    index: 0,
    generation: 0,
});
const SOCKET: SocketId = SocketId(0);

fn torrent(n: u32) -> TorrentId {
    TorrentId(Key {
        index: n,
        generation: 0,
    })
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct World {
    trackers: Trackers,
    out: Outbox,
    now: Instant,
    figures: Figures,
    sent: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    events: Vec<Event>,
    jobs: VecDeque<(JobToken, Job)>,
}

impl World {
    fn new(change: impl FnOnce(&mut TrackerConfig)) -> Self {
        let mut config = Config::default();
        change(&mut config.tracker);
        config.validate().unwrap();
        let now = Instant::from_micros(1_000_000);
        let peer_id = PeerId(*b"-TL0010-abcdefghijkl");
        let mut world = Self {
            trackers: Trackers::new(Arc::new(config), &[5; 32], peer_id, now),
            out: Outbox::new(),
            now,
            figures: Figures {
                uploaded: 1,
                downloaded: 2,
                left: 3,
            },
            sent: VecDeque::new(),
            events: Vec::new(),
            jobs: VecDeque::new(),
        };
        world.give(Input::SocketUp(SOCKET, addr("10.0.0.1:6881")));
        world.give(Input::SocketUp(SocketId(1), addr("[fd00::1]:6881")));
        world
    }

    /// A world with one torrent that wants peers, and has had a moment to begin.
    fn with(tiers: &[&[&str]], change: impl FnOnce(&mut TrackerConfig)) -> Self {
        let mut world = Self::new(change);
        world.add(TORRENT, tiers);
        world
    }

    fn add(&mut self, torrent: TorrentId, tiers: &[&[&str]]) {
        let tiers = tiers.iter();
        let tiers = tiers.map(|urls| urls.iter().map(|url| String::from(*url)).collect());
        let setup = Setup {
            number: u64::from(torrent.0.index),
            info_hash: Id20([7; 20]),
            tiers: tiers.collect(),
        };
        self.give(Input::Add(torrent, setup));
        self.give(Input::Want(torrent, Want::More));
        self.tick();
    }

    fn give(&mut self, input: Input<'_>) {
        let mut events = Vec::new();
        let Self {
            trackers, out, now, ..
        } = self;
        trackers.handle(*now, input, out, &mut events);
        while let Some(at) = events
            .iter()
            .position(|event| matches!(event, Event::Due(_)))
        {
            let Event::Due(torrent) = events.remove(at) else {
                unreachable!();
            };
            let input = Input::Figures(torrent, self.figures);
            self.trackers
                .handle(self.now, input, &mut self.out, &mut events);
        }
        for event in events {
            match event {
                Event::Job(token, job) => self.jobs.push_back((token, job)),
                event => self.events.push(event),
            }
        }
        for output in self.out.drain() {
            let Output::Transmit { to, head, .. } = output else {
                panic!("trackers only send datagrams: {output:?}");
            };
            self.sent.push_back((self.now, to, head.to_vec()));
        }
    }

    /// Everything that is due now.
    fn tick(&mut self) {
        for _ in 0..1_000 {
            match self.trackers.next_timeout() {
                Some(at) if at <= self.now => self.give(Input::Tick),
                _ => return,
            }
        }
        panic!("a timer spins");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.tick();
        while let Some(at) = self.trackers.next_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.tick();
        }
        self.now = end;
    }

    /// Lets time pass until something is sent.
    fn until_sent(&mut self, most: Duration) {
        let end = self.now + most;
        while self.sent.is_empty() {
            assert!(self.now < end, "nothing is sent");
            self.pass(secs(1));
        }
    }

    fn datagram(&mut self, from: SocketAddr, payload: &[u8]) {
        let socket = SocketId(u32::from(from.is_ipv6()));
        let input = Input::Datagram {
            socket,
            from,
            payload,
        };
        self.give(input);
        self.tick();
    }

    /// The next datagram, which has to be there.
    fn next_sent(&mut self) -> (SocketAddr, Vec<u8>) {
        let (_, to, payload) = self.sent.pop_front().expect("nothing was sent");
        (to, payload)
    }

    /// Answers a connect, and returns the announce that follows.
    fn connect(&mut self) -> (SocketAddr, Vec<u8>) {
        let (to, request) = self.next_sent();
        assert_eq!(action(&request), 0, "a connect");
        self.datagram(to, &answer(&request, 0, &[0, 99]));
        self.next_sent()
    }

    /// The announce that follows a connect, answered with `interval` and one peer.
    fn announce(&mut self, interval: u32) -> Vec<u8> {
        let (to, request) = self.connect();
        let mut reply = answer(&request, 1, &[interval, 4, 5]);
        reply.extend_from_slice(&[10, 0, 0, 9, 0, 80]);
        self.datagram(to, &reply);
        request
    }

    fn statuses(&self) -> Vec<&Status> {
        let statuses = self.events.iter().filter_map(|event| match event {
            Event::Status(status) => Some(&**status),
            _ => None,
        });
        statuses.collect()
    }

    fn last_status(&self) -> &Status {
        self.statuses().pop().expect("nothing was told")
    }

    fn peers(&self) -> Vec<SocketAddr> {
        let all = self.events.iter().filter_map(|event| match event {
            Event::Peers(_, peers) => Some(peers.clone()),
            _ => None,
        });
        all.flatten().collect()
    }

    fn stopped(&self) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, Event::Stopped(_)))
    }

    /// The URL of the next HTTP job.
    fn next_get(&mut self) -> (JobToken, String, Option<IpAddr>) {
        let (token, job) = self.jobs.pop_front().expect("no job");
        let Job::Get { url, redirected_by } = job else {
            panic!("not a fetch: {job:?}");
        };
        (token, url, redirected_by)
    }

    fn http(&mut self, token: JobToken, status: u16, location: Option<&str>, body: &[u8]) {
        let answer = HttpAnswer {
            status,
            from: addr("8.8.8.8:80").ip(),
            location: location.map(String::from),
            body: body.to_vec().into(),
        };
        let result = JobResult::Http(Box::new(answer));
        self.give(Input::JobDone(token, result));
        self.tick();
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn action(request: &[u8]) -> u32 {
    word(request, 8)
}

/// What an announce says happened.
fn event_of(request: &[u8]) -> u32 {
    assert_eq!(action(request), 1, "an announce");
    word(request, 80)
}

/// An answer to `request`.
fn answer(request: &[u8], action: u32, words: &[u32]) -> Vec<u8> {
    let mut out = action.to_be_bytes().to_vec();
    out.extend_from_slice(&request[12..16]);
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out
}
