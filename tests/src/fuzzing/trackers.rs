//! The trackers of a few torrents under any answers, or none.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use trackerless_core::config::TrackerConfig;
use trackerless_core::id::{Id20, PeerId};
use trackerless_core::io::{HttpAnswer, JobError, JobResult, Output, SocketId, TorrentId};
use trackerless_core::slab::Key;
use trackerless_core::swarm::Want;
use trackerless_core::time::{Duration, Instant};
use trackerless_core::tracker::{
    Event, Figures, Input, Job, JobToken, Setup, TrackerUrl, Trackers, http, udp,
};
use trackerless_core::{Config, Outbox};

use super::script::{Script, address};

const MAX_TICKS: usize = 10_000;
const TORRENTS: u32 = 4;
const URLS: [&str; 6] = [
    "udp://127.0.0.1:1/announce",
    "udp://10.77.0.2:3",
    "udp://t.example:80/announce?k=1",
    "http://t.example/announce",
    "https://10.77.0.3/x/announce?k=1",
    "wss://t.example",
];

/// Answers over HTTP and UDP, and URLs: what is taken is within its limits.
pub fn tracker_answer(data: &[u8]) {
    let config = TrackerConfig {
        max_answer_peers: 20,
        max_text: 30,
        ..TrackerConfig::default()
    };
    if let Ok(answer) = http::decode(data, &config) {
        assert!(answer.peers.len() <= 20);
        assert!(answer.tracker_id.is_none_or(|id| id.len() <= 30));
        let warning = answer.warning.unwrap_or_default();
        assert!(!warning.chars().any(char::is_control));
    }
    let _ = http::decode_scrape(data, Id20([b'a'; 20]), &config);
    for v6 in [false, true] {
        if let Some(udp::Response::Announced { peers, .. }) = udp::decode(data, v6) {
            assert_eq!(peers.len() % if v6 { 18 } else { 6 }, 0);
        }
    }
    if let Ok(text) = core::str::from_utf8(data) {
        let base = TrackerUrl::parse(URLS[4], 100).expect("it is right");
        if let Ok(url) = TrackerUrl::parse(text, 300) {
            assert_eq!(TrackerUrl::parse(url.text(), 300).as_ref(), Ok(&url));
            assert!(url.text().bytes().all(|byte| byte.is_ascii_graphic()));
            if let Some(scrape) = url.scrape() {
                assert!(TrackerUrl::parse(&scrape, 300).is_ok(), "{scrape}");
            }
        }
        let _ = base.join(text, 300);
    }
}

struct World {
    trackers: Trackers,
    out: Outbox,
    now: Instant,
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
    jobs: BTreeMap<JobToken, Job>,
    /// Torrents that are there, and whether they are stopping.
    torrents: BTreeMap<TorrentId, bool>,
}

impl World {
    fn give(&mut self, input: Input<'_>) {
        let mut events = Vec::new();
        let Self {
            trackers, out, now, ..
        } = self;
        trackers.handle(*now, input, out, &mut events);
        while let Some(event) = events.pop() {
            match event {
                Event::Due(torrent) => {
                    let figures = Figures::default();
                    let input = Input::Figures(torrent, figures);
                    self.trackers
                        .handle(self.now, input, &mut self.out, &mut events);
                }
                Event::Job(token, job) => {
                    self.jobs.insert(token, job);
                }
                Event::Cancel(token) => {
                    self.jobs.remove(&token);
                }
                Event::Peers(torrent, peers) => {
                    assert!(self.torrents.contains_key(&torrent));
                    assert!(!peers.is_empty() && peers.len() <= 1_000);
                }
                Event::Stopped(torrent) => {
                    self.torrents.remove(&torrent);
                }
                _ => {}
            }
        }
        assert!(self.out.len() <= 100, "{} outputs", self.out.len());
        for output in self.out.drain() {
            let Output::Transmit { to, head, .. } = output else {
                panic!("trackers only send datagrams: {output:?}");
            };
            assert!(head.len() <= 1_472);
            self.sent.push_back((to, head.to_vec()));
        }
        while self.sent.len() > 32 {
            self.sent.pop_front();
        }
    }

    fn settle(&mut self) {
        for _ in 0..MAX_TICKS {
            match self.trackers.next_timeout() {
                Some(due) if due <= self.now => self.give(Input::Tick),
                _ => return,
            }
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }
}

fn result(job: &Job, script: &mut Script<'_>) -> JobResult {
    if script.byte() & 7 == 0 {
        return JobResult::Failed(JobError::TimedOut);
    }
    match job {
        Job::Resolve { .. } => {
            let count = script.byte() % 4;
            JobResult::Resolved((0..count).map(|_| address(script).ip()).collect())
        }
        Job::Get { .. } => {
            let status = [200, 302, 404, script.number()][usize::from(script.byte() % 4)];
            let location = script.byte() & 1 != 0;
            JobResult::Http(Box::new(HttpAnswer {
                status,
                from: address(script).ip(),
                location: location.then(|| String::from_utf8_lossy(script.string()).into_owned()),
                body: Bytes::copy_from_slice(script.string()),
            }))
        }
    }
}

/// Sequences of inputs to the trackers of a few torrents. Holds: no timer spins, datagrams stay
/// small, and every torrent that is stopped is soon forgotten.
pub fn trackers(data: &[u8]) {
    let mut script = Script::new(data);
    let mut config = Config::default();
    config.tracker.max_requests = 4;
    config.tracker.max_connections = 2;
    config.tracker.udp_retries = script.byte() % 9;
    let now = Instant::from_micros(1_000_000);
    let mut world = World {
        trackers: Trackers::new(Arc::new(config), &[7; 32], PeerId([b'a'; 20]), now),
        out: Outbox::new(),
        now,
        sent: VecDeque::new(),
        jobs: BTreeMap::new(),
        torrents: BTreeMap::new(),
    };
    let local = SocketAddr::new(Ipv4Addr::new(10, 77, 0, 1).into(), 6881);
    world.give(Input::SocketUp(SocketId(0), local));
    while !script.is_empty() {
        let torrent = TorrentId(Key {
            index: u32::from(script.byte()) % TORRENTS,
            generation: 0,
        });
        match script.byte() % 12 {
            0 | 1 => {
                world.now = script.later(world.now);
                world.give(Input::Tick);
            }
            2 => {
                let tiers = (0..script.byte() % 4).map(|_| {
                    let urls = (0..script.byte() % 4).map(|_| {
                        let pick = usize::from(script.byte()) % URLS.len();
                        URLS[pick].to_string()
                    });
                    urls.collect()
                });
                let setup = Setup {
                    number: u64::from(torrent.0.index),
                    info_hash: Id20([torrent.0.index as u8; 20]),
                    tiers: tiers.collect(),
                };
                world.give(Input::Add(torrent, setup));
                if world.trackers.has(torrent) {
                    world.torrents.entry(torrent).or_insert(false);
                }
            }
            3 => {
                let wants = [Want::Nobody, Want::Enough, Want::More, Want::Anybody];
                let want = wants[usize::from(script.byte() % 4)];
                world.give(Input::Want(torrent, want));
            }
            4 => world.give(Input::Completed(torrent)),
            5 => {
                if let Some(stopping) = world.torrents.get_mut(&torrent) {
                    *stopping = true;
                }
                world.give(Input::Stop(torrent, Figures::default()));
            }
            6 => {
                let from = address(&mut script);
                let payload = script.string();
                let socket = SocketId(0);
                world.give(Input::Datagram {
                    socket,
                    from,
                    payload,
                });
            }
            7 | 8 => {
                let Some(at) = script.index(world.sent.len()) else {
                    continue;
                };
                let (from, request) = world.sent[at].clone();
                let action = match script.byte() % 8 {
                    0 => 3,
                    1 => u32::from(script.byte()),
                    _ => u32::from(request[11]),
                };
                let mut payload = action.to_be_bytes().to_vec();
                payload.extend_from_slice(&request[12..16]);
                payload.extend_from_slice(script.string());
                let input = Input::Datagram {
                    socket: SocketId(0),
                    from,
                    payload: &payload,
                };
                world.give(input);
            }
            9 | 10 => {
                let Some(at) = script.index(world.jobs.len()) else {
                    continue;
                };
                let token = *world.jobs.keys().nth(at).expect("it is within");
                let job = world.jobs.remove(&token).expect("it is there");
                let result = result(&job, &mut script);
                world.give(Input::JobDone(token, result));
            }
            _ => match script.byte() % 3 {
                0 => world.give(Input::SocketDown(SocketId(0))),
                1 => world.give(Input::SocketUp(SocketId(0), local)),
                _ => world.give(Input::SendFailed(address(&mut script))),
            },
        }
        world.settle();
    }
    world.now = world.now + Duration::from_secs(10);
    world.settle();
    assert!(!world.torrents.values().any(|stopping| *stopping));
}
