//! Trackers of torrents and links, within the engine.

use super::*;
use crate::event::TrackerSource;

const TRACKER: &str = "udp://127.0.0.7:80/announce";

fn tracker() -> SocketAddr {
    addr(7, 80)
}

/// The torrent that [`file`] makes, with a tracker.
fn torrent(private: bool) -> Bytes {
    let plain = file("tracked", 2 * 65_536);
    let info = plain.strip_prefix(b"d").expect("it begins so");
    let info = match private {
        true => {
            let open = info.strip_suffix(b"ee").expect("it ends so");
            [open, b"7:privatei1eee"].concat()
        }
        false => info.to_vec(),
    };
    let announce = format!("d8:announce{}:{TRACKER}", TRACKER.len());
    [announce.as_bytes(), &info].concat().into()
}

impl Host {
    /// What the tracker was sent since it was looked at last.
    fn sent_to_tracker(&mut self) -> Vec<Vec<u8>> {
        let all = core::mem::take(&mut self.datagrams);
        let to_it = all.into_iter().filter(|(to, _)| *to == tracker());
        to_it.map(|(_, payload)| payload).collect()
    }

    fn tracker_says(&mut self, request: &[u8], action: u8, words: &[u32], rest: &[u8]) {
        let mut payload = alloc::vec![0, 0, 0, action];
        payload.extend_from_slice(&request[12..16]);
        for word in words {
            payload.extend_from_slice(&word.to_be_bytes());
        }
        payload.extend_from_slice(rest);
        self.give(Input::Datagram {
            socket: SOCKET,
            from: tracker(),
            payload: &payload,
        });
        self.pass(Duration::from_millis(1));
    }

    /// Answers the connect that was sent, then the announce, which is returned.
    fn announced(&mut self, peers: &[u8]) -> Vec<u8> {
        let connect = self.sent_to_tracker();
        assert_eq!(connect.len(), 1, "one connect");
        self.tracker_says(&connect[0], 0, &[1, 2], &[]);
        let mut announce = self.sent_to_tracker();
        let announce = announce.pop().expect("an announce");
        self.tracker_says(&announce, 1, &[1_800, 3, 4], peers);
        announce
    }

    fn told(&self) -> Vec<(SourceStatus, Option<&TrackerSource>)> {
        let told = self.events.iter().filter_map(|event| match event {
            Event::Source {
                source: PeerSource::Tracker,
                status,
                tracker,
                ..
            } => Some((*status, tracker.as_deref())),
            _ => None,
        });
        told.collect()
    }
}

fn link() -> Source {
    Source::Magnet(format!("{MAGNET}&tr=udp%3A%2F%2F127.0.0.7%3A80%2Fannounce"))
}

#[test]
fn the_tracker_of_a_link_is_asked_and_its_peers_are_connected_to() {
    let mut host = Host::new(|config| config.dht.enabled = false);
    host.add(link());
    host.pass(Duration::from_secs(1));
    // Ourselves among them, who are not told of.
    let announce = host.announced(&[127, 0, 0, 9, 0, 80, 127, 0, 0, 1, 0x1a, 0xe1]);
    assert_eq!(announce[83], 2, "started");
    assert_ne!(
        announce[64..72],
        [0; 8],
        "without metadata something is missing"
    );
    assert_eq!(announce[96..98], 6881u16.to_be_bytes());
    assert_eq!(host.found(addr(9, 80)), 1);
    assert_eq!(host.found(addr(1, 6881)), 0);
    assert!(host.events.iter().any(|event| matches!(
        event,
        Event::PeerFound {
            source: PeerSource::Tracker,
            ..
        }
    )));
    host.pass(Duration::from_secs(1));
    assert!(host.connects.iter().any(|(_, to)| *to == addr(9, 80)));
    let told = host.told();
    let (status, source) = told.last().expect("it is told");
    let source = source.expect("which it is");
    assert_eq!((*status, &*source.url), (SourceStatus::Idle, TRACKER));
    assert_eq!((source.seeds, source.leechers), (Some(4), Some(3)));
}

#[test]
fn a_private_torrent_asks_its_tracker_and_nobody_else() {
    let mut host = Host::new(|_| {});
    host.give(command(1, Command::AddDhtNode(addr(50, 7000))));
    host.pass(Duration::from_secs(1));
    host.datagrams.clear();
    let torrent = host.add(Source::torrent(torrent(true)).unwrap());
    host.work(100);
    host.pass(Duration::from_secs(1));
    let announce = host.announced(&[127, 0, 0, 9, 0, 80]);
    assert_eq!(announce[64..72], [0; 8], "a seed lacks nothing");
    assert_eq!(host.found(addr(9, 80)), 1);
    host.pass(Duration::from_secs(600));
    assert_eq!(host.asked(torrent), 1, "the tracker, once");
}

#[test]
fn without_trackers_nothing_is_sent_or_looked_up() {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.lsd.enabled = false;
        config.tracker.enabled = false;
    });
    host.add(Source::torrent(torrent(false)).unwrap());
    let name = format!("{MAGNET}&tr=http%3A%2F%2Ft.example%2Fannounce");
    host.add(Source::Magnet(name));
    // As `answer` does what is asked for names and URLs.
    let asked = |host: &Host| {
        let results = host.jobs.iter().map(|(_, result)| result);
        let of_trackers =
            |result: &JobResult| matches!(result, JobResult::Resolved(_) | JobResult::Failed(_));
        results.into_iter().any(of_trackers)
    };
    assert!(!asked(&host));
    host.work(100);
    host.pass(Duration::from_secs(3_600));
    assert!(host.datagrams.is_empty() && !asked(&host));
    assert_eq!(host.told(), [(SourceStatus::Disabled, None); 2]);
}

#[test]
fn a_shutdown_says_goodbye_and_waits_no_longer_than_it_may() {
    for answers in [true, false] {
        let mut host = Host::new(|config| {
            config.dht.enabled = false;
            config.lsd.enabled = false;
        });
        host.add(Source::torrent(torrent(false)).unwrap());
        host.work(100);
        host.pass(Duration::from_secs(1));
        host.announced(&[]);
        host.events.clear();
        host.give(command(2, Command::Shutdown));
        host.work(100);
        let done = |host: &Host| {
            let done = |event: &Event| matches!(event, Event::CommandDone { tag: Tag(2), .. });
            host.events.iter().any(done)
        };
        assert!(!done(&host), "the tracker is waited for");
        let goodbye = host.sent_to_tracker();
        assert_eq!(goodbye.len(), 1);
        assert_eq!(goodbye[0][83], 3);
        if answers {
            host.tracker_says(&goodbye[0], 1, &[1_800, 0, 0], &[]);
        } else {
            host.pass(host.engine.config().tracker.stop_patience);
        }
        assert!(done(&host));
        assert_eq!(host.engine.jobs_in_flight(), 0);
    }
}

#[test]
fn an_http_tracker_is_fetched_by_a_job_and_a_removed_torrent_cancels_it() {
    let (mut engine, mut out, now) = engine_with(|config| config.dht.enabled = false);
    let (socket, local) = (SOCKET, addr(1, 6881));
    engine.handle(now, Input::SocketUp { socket, local }, &mut out);
    let link = format!("{MAGNET}&tr=https%3A%2F%2Ft.example%2Fannounce");
    let add = AddTorrent::new(Source::Magnet(link));
    engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
    for _ in 0..10 {
        engine.handle(now, Input::Tick, &mut out);
    }
    let mut fetch = None;
    for output in out.drain() {
        if let Output::Job {
            job,
            work:
                Work::HttpGet {
                    url,
                    redirected_by,
                    max_bytes,
                    timeout,
                },
        } = output
        {
            assert!(url.starts_with("https://t.example/announce?info_hash=%00%11%223DUfw%88%99"));
            assert_eq!((redirected_by, max_bytes), (None, 512 * 1024));
            assert_eq!(timeout, Duration::from_secs(20));
            fetch = Some(job);
        }
    }
    let fetch = fetch.expect("it is fetched");
    let torrent = engine.torrents().next().expect("it is there");
    engine.handle(now, command(2, Command::RemoveTorrent(torrent)), &mut out);
    let cancelled = Output::CancelJob { job: fetch };
    assert!(out.drain().any(|output| output == cancelled));
}
