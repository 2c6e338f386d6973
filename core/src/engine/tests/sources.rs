//! Who is told of us, whom we are told of, and when.

use super::crowd::file;
use super::*;
use crate::event::{CloseReason, PeerSource, SourceStatus};
use crate::id::PeerId;
use crate::io::Work;
use crate::wire::handshake::Handshake;

mod counts;
mod nearby;
mod pex;
mod ports;
mod private;
mod trackers;

struct Host {
    engine: Engine,
    out: Outbox,
    now: Instant,
    jobs: Vec<(JobId, JobResult)>,
    events: Vec<Event>,
    connects: Vec<(ConnId, SocketAddr)>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Heads of what was sent on streams.
    sent: Vec<(ConnId, Vec<u8>)>,
}

impl Host {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let (engine, out, now) = engine_with(change);
        let mut host = Self {
            engine,
            out,
            now,
            jobs: Vec::new(),
            events: Vec::new(),
            connects: Vec::new(),
            datagrams: Vec::new(),
            sent: Vec::new(),
        };
        let local = addr(1, 6881);
        let socket = SOCKET;
        host.give(Input::SocketUp { socket, local });
        host
    }

    fn give(&mut self, input: Input<'_>) {
        self.engine.handle(self.now, input, &mut self.out);
        let mut left = Vec::new();
        for output in self.out.drain() {
            match output {
                Output::Job { job, work } => {
                    let result = match &work {
                        // Everything is there, whatever the size.
                        Work::Hash { .. } => {
                            JobResult::Hashed(Digest::Sha1(Sha1::digest([7; 65_536]).into()))
                        }
                        work => answer(work),
                    };
                    self.jobs.push((job, result));
                }
                Output::Event(event) => self.events.push(event),
                Output::Connect { conn, to } => self.connects.push((conn, to)),
                Output::Transmit { to, head, .. } => self.datagrams.push((to, head.to_vec())),
                Output::Send { conn, head, body } => {
                    left.push((conn, (head.len() + body.len()) as u32));
                    self.sent.push((conn, head.to_vec()));
                }
                _ => {}
            }
        }
        for (conn, bytes) in left {
            self.give(Input::Sent { conn, bytes });
        }
    }

    fn add(&mut self, source: Source) -> TorrentId {
        let before: Vec<_> = self.engine.torrents().collect();
        let add = AddTorrent::new(source);
        self.give(command(9, Command::AddTorrent(add)));
        let mut torrents = self.engine.torrents();
        torrents.find(|id| !before.contains(id)).expect("added")
    }

    fn work(&mut self, jobs: usize) {
        for _ in 0..jobs {
            if self.jobs.is_empty() {
                return;
            }
            let (job, result) = self.jobs.remove(0);
            self.give(Input::JobDone { job, result });
        }
    }

    /// Adds a torrent of `pieces` pieces whose storage is opened with that result; whatever it
    /// asks for next stays undone.
    fn open(&mut self, name: &str, pieces: usize, result: JobResult) -> TorrentId {
        let torrent = self.add(Source::torrent(file(name, pieces * 65_536)).unwrap());
        let (job, _) = self.jobs.remove(0);
        self.give(Input::JobDone { job, result });
        torrent
    }

    /// Connects the attempt made last, whose peer says its handshake under that id and then
    /// `first`.
    fn shake(&mut self, torrent: TorrentId, peer_id: PeerId, first: &[u8]) -> (ConnId, SocketAddr) {
        let (conn, to) = self.connects.pop().expect("an attempt");
        self.give(Input::Connected { conn });
        let mut bytes = Vec::new();
        let theirs = Handshake {
            info_hash: self.engine.hashes(torrent).unwrap().short(),
            peer_id,
            fast: true,
            extended: false,
            dht: true,
        };
        theirs.encode(&mut bytes);
        bytes.extend_from_slice(first);
        let data = BytesMut::from(&bytes[..]);
        self.give(Input::Received { conn, data });
        (conn, to)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick);
        }
        self.now = end;
    }

    /// How often the DHT was asked for peers of `torrent`.
    fn asked(&self, torrent: TorrentId) -> usize {
        let asked = |event: &&Event| {
            matches!(event, Event::Source { torrent: of, status: SourceStatus::Working, .. }
                if *of == torrent)
        };
        self.events.iter().filter(asked).count()
    }

    fn found(&self, addr: SocketAddr) -> usize {
        let found =
            |event: &&Event| matches!(event, Event::PeerFound { addr: at, .. } if *at == addr);
        self.events.iter().filter(found).count()
    }
}

const MAGNET: &str = "magnet:?xt=urn:btih:00112233445566778899aabbccddeeff00112233";

#[test]
fn a_seeder_is_announced_once_it_knows_that_it_is_one_and_a_leecher_at_once() {
    let mut host = Host::new(|_| {});
    let leecher = host.add(Source::Magnet(MAGNET.into()));
    host.pass(Duration::from_secs(1));
    assert_eq!(host.asked(leecher), 1);
    let seeder = host.add(Source::torrent(file("seed", 8 * 65_536)).unwrap());
    for _ in 0..8 {
        // Opening, and most of the check.
        host.work(1);
        host.pass(Duration::from_secs(60));
        assert_eq!(host.asked(seeder), 0);
    }
    host.work(20);
    host.pass(Duration::from_secs(1));
    assert_eq!(
        host.engine.torrent(seeder).unwrap().state,
        TorrentState::Seeding
    );
    assert_eq!(host.asked(seeder), 1);
}

#[test]
fn a_torrent_that_lacks_something_need_not_wait_for_its_check() {
    let mut host = Host::new(|_| {});
    let present = alloc::vec![0xf0];
    let half = JobResult::Opened(Box::new(Opened { present }));
    let torrent = host.open("half", 8, half);
    host.pass(Duration::from_secs(1));
    assert_eq!(
        host.engine.torrent(torrent).unwrap().state,
        TorrentState::Checking
    );
    assert_eq!(host.asked(torrent), 1);
}

#[test]
fn a_torrent_that_stopped_is_not_announced_again() {
    let mut host = Host::new(|_| {});
    let torrent = host.open("works", 8, JobResult::Opened(Box::default()));
    host.pass(Duration::from_secs(20));
    let before = host.asked(torrent);
    assert!(before > 0);
    let failed = host.open("failed", 1, JobResult::Failed(JobError::NoSpace));
    host.pass(Duration::from_secs(7_200));
    assert_eq!(host.asked(failed), 0);
    assert!(host.asked(torrent) > before);
}

#[test]
fn our_own_address_is_no_peer() {
    let mut host = Host::new(|config| config.dht.enabled = false);
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    host.give(command(1, Command::AddPeer(torrent, addr(1, 6881))));
    host.give(command(1, Command::AddPeer(torrent, addr(1, 6882))));
    host.pass(Duration::from_secs(1));
    assert_eq!(
        (host.found(addr(1, 6881)), host.found(addr(1, 6882))),
        (0, 1)
    );
    assert_eq!(host.connects.len(), 1);
    // Bound to every address, it is reached through loopback.
    let local = "0.0.0.0:7000".parse().unwrap();
    let socket = SocketId(1);
    host.give(Input::SocketUp { socket, local });
    host.give(command(1, Command::AddPeer(torrent, addr(1, 7000))));
    assert_eq!(host.found(addr(1, 7000)), 0);
}

#[test]
fn an_address_that_led_back_to_us_is_remembered_for_every_torrent() {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.limits.max_own_addresses = 2;
    });
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    let outside = |n: u8| SocketAddr::from(([203, 0, 113, n], 6881));
    for n in 1..=3 {
        host.give(command(1, Command::AddPeer(torrent, outside(n))));
        host.pass(Duration::from_secs(1));
        let ours = host.engine.peer_id();
        assert_eq!(host.shake(torrent, ours, &[]).1, outside(n));
    }
    host.events.clear();
    assert_eq!(host.engine.own_addrs, [outside(2), outside(3)]);
    host.give(command(1, Command::AddPeer(torrent, outside(3))));
    let other = host.add(Source::torrent(file("other", 65_536)).unwrap());
    host.give(command(1, Command::AddPeer(other, outside(3))));
    host.pass(Duration::from_secs(3_600));
    assert_eq!(host.found(outside(3)), 0);
    assert!(host.connects.is_empty());
}

#[test]
fn the_only_peer_was_lost_and_the_dht_is_asked_soon_and_it_is_tried_again() {
    let mut host = Host::new(|_| {});
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    let only = SocketAddr::from(([203, 0, 113, 1], 6881));
    host.give(command(1, Command::AddPeer(torrent, only)));
    // By now the DHT is asked every 15 minutes: for the last time just now.
    host.pass(Duration::from_secs(6 * 3_600));
    let before = host.asked(torrent);
    while host.asked(torrent) == before {
        host.pass(Duration::from_secs(1));
    }
    let asked = host.asked(torrent);
    host.connects.clear();
    // Whom the user named is tried for ever.
    while host.connects.is_empty() {
        host.pass(Duration::from_secs(1));
    }
    let (conn, _) = host.shake(torrent, PeerId([9; 20]), &[]);
    host.pass(Duration::from_secs(100));
    assert_eq!(host.asked(torrent), asked);
    let reason = IoReason::Eof;
    host.give(Input::Closed { conn, reason });
    assert!(host.events.iter().any(|event| matches!(
        event,
        Event::PeerClosed {
            reason: CloseReason::Io(IoReason::Eof),
            ..
        }
    )));
    host.pass(Duration::from_secs(5));
    assert_eq!(host.asked(torrent), asked + 1, "the DHT is not asked again");
    host.pass(Duration::from_secs(125));
    assert_eq!(host.connects.pop().map(|(_, to)| to), Some(only));
}

#[test]
fn hints_of_a_link_and_addresses_of_a_name_are_bounded() {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.limits.max_hints = 3;
        config.limits.max_resolved = 2;
    });
    let mut link = String::from(MAGNET);
    for n in 1..=9 {
        link.push_str(&format!("&x.pe=203.0.113.{n}:6881"));
    }
    host.add(Source::Magnet(link));
    let found = |host: &Host| {
        let found = |event: &&Event| {
            matches!(
                event,
                Event::PeerFound {
                    source: PeerSource::Manual,
                    ..
                }
            )
        };
        host.events.iter().filter(found).count()
    };
    assert_eq!(found(&host), 3);
    let link = "magnet:?xt=urn:btih:ffeeddccbbaa99887766554433221100ffeeddcc&x.pe=host.test:6881";
    host.add(Source::Magnet(link.into()));
    let (job, _) = host.jobs.pop().expect("a name to resolve");
    let all = (1..=9).map(|n| [198, 51, 100, n].into()).collect();
    let result = JobResult::Resolved(all);
    host.give(Input::JobDone { job, result });
    assert_eq!(found(&host), 3 + 2);
}
