//! Many fast peers and a slow disk: what the budget for blocks on their way to disk promises.

use alloc::collections::{BTreeMap, VecDeque};

use super::*;
use crate::config::WireConfig;
use crate::event::CloseReason;
use crate::id::PeerId;
use crate::io::Work;
use crate::wire::frame::{Abilities, Decoded, Decoder, body, encode_head};
use crate::wire::handshake::{HANDSHAKE_LEN, Handshake};
use crate::wire::{BlockRef, Message};

const PIECE: usize = 64 * 1024;
const MIB: u64 = 1024 * 1024;
const FILL: u8 = 7;

/// A torrent of one file, named `name`, every byte of which is [`FILL`].
pub(super) fn file(name: &str, length: usize) -> Bytes {
    let content = alloc::vec![FILL; length];
    let hashes: Vec<u8> = content
        .chunks(PIECE)
        .flat_map(|piece| <[u8; 20]>::from(Sha1::digest(piece)))
        .collect();
    let mut file = format!(
        "d4:infod6:lengthi{length}e4:name{}:{name}12:piece lengthi{PIECE}e6:pieces{}:",
        name.len(),
        hashes.len()
    )
    .into_bytes();
    file.extend_from_slice(&hashes);
    file.extend_from_slice(b"ee");
    file.into()
}

/// A seed at the other end of a connection, which answers every request at once.
struct Remote {
    greeted: usize,
    decoder: Decoder,
    /// What it has sent and we have not read.
    pending: BytesMut,
    credit: usize,
    /// What was sent to it and has not left yet.
    unsent: u32,
}

struct Crowd {
    engine: Engine,
    out: Outbox,
    now: Instant,
    wire: WireConfig,
    remotes: BTreeMap<ConnId, Remote>,
    joining: BTreeMap<u64, (Id20, u8)>,
    /// Jobs of each torrent in order: each is done once it is first.
    disks: BTreeMap<TorrentId, VecDeque<(JobId, JobResult, u64)>>,
    under_way: u64,
    peak: u64,
    closed: Vec<CloseReason>,
    complete: Vec<TorrentId>,
    infos: BTreeMap<TorrentId, usize>,
    parked: bool,
    /// Connections that one input let read on, at most.
    resumed: usize,
}

impl Crowd {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let (engine, out, now) = engine_with(|config| {
            config.dht.enabled = false;
            config.lab = true;
            change(config);
        });
        Self {
            wire: engine.config.wire.clone(),
            engine,
            out,
            now,
            remotes: BTreeMap::new(),
            joining: BTreeMap::new(),
            disks: BTreeMap::new(),
            under_way: 0,
            peak: 0,
            closed: Vec::new(),
            complete: Vec::new(),
            infos: BTreeMap::new(),
            parked: false,
            resumed: 0,
        }
    }

    fn add(&mut self, name: &str, length: usize) -> TorrentId {
        let add = AddTorrent::new(Source::torrent(file(name, length)).unwrap());
        self.give(command(1, Command::AddTorrent(add)));
        let torrent = *self.engine.by_hash.values().max().expect("it was added");
        self.infos.insert(torrent, length);
        for _ in 0..4 {
            self.disk(torrent, 10);
        }
        torrent
    }

    fn join(&mut self, torrent: TorrentId, count: u8) {
        let hash = self.engine.hashes(torrent).expect("it is there").short();
        for _ in 0..count {
            let number = self.joining.len() as u64;
            self.joining.insert(number, (hash, number as u8));
            let [.., high, low] = number.to_be_bytes();
            let ip = Ipv4Addr::new(10, torrent.0.index as u8, high, low);
            let from = SocketAddr::new(ip.into(), 5000);
            let ticket = Ticket(number);
            self.give(Input::Incoming { ticket, from });
        }
    }

    fn give(&mut self, input: Input<'_>) {
        self.engine.handle(self.now, input, &mut self.out);
        let mut out = core::mem::take(&mut self.out);
        let mut resumed = 0;
        for output in out.drain() {
            resumed += usize::from(matches!(output, Output::ReadCredit { .. }));
            self.perform(output);
        }
        self.resumed = self.resumed.max(resumed);
        self.out = out;
    }

    fn perform(&mut self, output: Output<'_>) {
        match output {
            Output::Accept { ticket, conn } => {
                let (hash, number) = self.joining[&ticket.0];
                let mut hello = Vec::new();
                let shake = Handshake {
                    info_hash: hash,
                    peer_id: PeerId([number + 1; 20]),
                    fast: true,
                    extended: true,
                    dht: false,
                };
                shake.encode(&mut hello);
                for message in [Message::HaveAll, Message::Unchoke] {
                    encode_head(&message, 0, &mut hello);
                }
                let remote = Remote {
                    greeted: 0,
                    decoder: Decoder::new(u32::MAX),
                    pending: BytesMut::from(&hello[..]),
                    credit: 0,
                    unsent: 0,
                };
                self.remotes.insert(conn, remote);
            }
            Output::ReadCredit { conn, bytes } => {
                if let Some(remote) = self.remotes.get_mut(&conn) {
                    remote.credit += bytes as usize;
                }
            }
            Output::Send { conn, head, body } => {
                if let Some(remote) = self.remotes.get_mut(&conn) {
                    remote.unsent += (head.len() + body.len()) as u32;
                    remote.read(&[head, &body].concat(), &self.wire);
                }
            }
            Output::Close { conn } => drop(self.remotes.remove(&conn)),
            Output::Job { job, work } => self.work(job, &work),
            Output::Event(Event::PeerClosed { reason, .. }) => self.closed.push(reason),
            Output::Event(Event::Complete { torrent }) => self.complete.push(torrent),
            _ => {}
        }
    }

    fn work(&mut self, job: JobId, work: &Work<'_>) {
        let torrent = match work {
            Work::Open { torrent, .. }
            | Work::Write { torrent, .. }
            | Work::Hash { torrent, .. }
            | Work::Commit { torrent, .. }
            | Work::Discard { torrent, .. }
            | Work::CloseStorage { torrent } => *torrent,
            _ => return,
        };
        let (result, bytes) = match work {
            Work::Open { .. } => (JobResult::Opened(Box::default()), 0),
            Work::Write { data, .. } => {
                assert!(data.iter().all(|byte| *byte == FILL));
                (JobResult::Written, data.len() as u64)
            }
            Work::Hash { piece, .. } => {
                let length = self.infos[&torrent];
                let size = PIECE.min(length - *piece as usize * PIECE);
                let digest = Sha1::digest(alloc::vec![FILL; size]).into();
                (JobResult::Hashed(Digest::Sha1(digest)), 0)
            }
            other => (answer(other), 0),
        };
        self.under_way += bytes;
        self.peak = self.peak.max(self.under_way);
        self.disks
            .entry(torrent)
            .or_default()
            .push_back((job, result, bytes));
    }

    /// The disk of a torrent does so many jobs.
    fn disk(&mut self, torrent: TorrentId, jobs: usize) {
        for _ in 0..jobs {
            let next = self.disks.get_mut(&torrent).and_then(VecDeque::pop_front);
            let Some((job, result, bytes)) = next else {
                return;
            };
            self.under_way -= bytes;
            self.give(Input::JobDone { job, result });
        }
    }

    /// Everything that remotes have sent and may be read is read, and all that is due is done.
    fn network(&mut self) {
        let conns: Vec<ConnId> = self.remotes.keys().copied().collect();
        for conn in conns {
            let Some(remote) = self.remotes.get_mut(&conn) else {
                continue;
            };
            let bytes = remote.credit.min(remote.pending.len()).min(32 * 1024);
            self.parked |= remote.credit == 0 && !remote.pending.is_empty();
            remote.credit -= bytes;
            let data = remote.pending.split_to(bytes);
            let sent = core::mem::take(&mut remote.unsent);
            if sent > 0 {
                self.give(Input::Sent { conn, bytes: sent });
            }
            if bytes > 0 {
                self.give(Input::Received { conn, data });
            }
        }
        for _ in 0..100 {
            if self.engine.next_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            self.give(Input::Tick);
        }
        panic!("never settles");
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.network();
    }

    /// A torrent with 20 peers whose disk has hung for so long that the budget is used up.
    fn with_a_stuck_torrent() -> (Self, TorrentId) {
        let mut crowd = Self::new(|config| {
            config.limits.disk_budget = MIB;
            config.swarm.min_pipeline = 64;
        });
        let stuck = crowd.add("stuck", 8 << 20);
        crowd.join(stuck, 20);
        for _ in 0..50 {
            crowd.pass(Duration::from_millis(10));
        }
        assert!(crowd.under_way >= MIB && crowd.parked);
        (crowd, stuck)
    }

    /// Lets the disk of `torrent` work until it is the next to be complete.
    fn finish(&mut self, torrent: TorrentId) {
        self.complete.clear();
        let mut rounds = 0;
        while self.complete.is_empty() {
            self.pass(Duration::from_millis(10));
            self.disk(torrent, 20);
            rounds += 1;
            assert!(rounds < 10_000, "everyone waits");
        }
        assert_eq!(self.complete, [torrent]);
    }
}

impl Remote {
    fn read(&mut self, mut bytes: &[u8], wire: &WireConfig) {
        let greeting = (HANDSHAKE_LEN - self.greeted).min(bytes.len());
        self.greeted += greeting;
        bytes = &bytes[greeting..];
        let mut chunk = BytesMut::from(bytes);
        let abilities = Abilities {
            fast: true,
            extended: true,
            ..Abilities::default()
        };
        while let Some(decoded) = self.decoder.decode(&mut chunk, wire, abilities).unwrap() {
            if let Decoded::Message(Message::Request(block)) = decoded {
                self.serve(block);
            }
        }
    }

    fn serve(&mut self, block: BlockRef) {
        let message = Message::Piece {
            piece: block.piece,
            begin: block.begin,
            data: Bytes::from(alloc::vec![FILL; block.length as usize]),
        };
        let mut head = Vec::new();
        encode_head(&message, 0, &mut head);
        self.pending.extend_from_slice(&head);
        self.pending.extend_from_slice(&body(&message));
    }
}

/// The most that [`crate::storage::DiskBudget`] promises for one torrent and so many connections.
fn promised(config: &Config, conns: u64) -> u64 {
    let (wire, limits) = (&config.wire, &config.limits);
    limits.disk_budget * 3 / 2 + limits.min_disk_share + conns * u64::from(wire.min_receive_window)
}

#[test]
fn many_peers_and_a_slow_disk_stay_within_the_budget_and_finish() {
    let mut crowd = Crowd::new(|config| {
        config.limits.disk_budget = MIB;
        config.limits.min_disk_share = 64 * 1024;
        config.limits.resumed_per_input = 2;
        config.wire.min_receive_window = 32 * 1024;
        config.swarm.min_pipeline = 64;
    });
    let torrent = crowd.add("slow", 10 << 20);
    crowd.join(torrent, 40);
    crowd.finish(torrent);
    let promised = promised(&crowd.engine.config, 40);
    assert!(crowd.parked, "nothing was held back");
    // So many, and the one whose bytes the input was.
    assert_eq!(crowd.resumed, 3);
    assert!(crowd.peak >= MIB, "the budget was never used up");
    assert!(crowd.peak <= promised, "{} > {promised}", crowd.peak);
    // Were every connection let read its whole window, it would be far more.
    assert!(promised < 40 * u64::from(crowd.wire.receive_window) / 10);
    crowd.disk(torrent, usize::MAX);
    assert_eq!(crowd.under_way, 0);
}

#[test]
fn a_disk_that_hangs_stops_its_own_torrent_and_blames_no_peer() {
    let (mut crowd, stuck) = Crowd::with_a_stuck_torrent();
    let other = crowd.add("other", 2 << 20);
    crowd.join(other, 3);
    crowd.finish(other);
    // Longer than any peer may be silent: it was we who did not listen.
    crowd.closed.clear();
    for _ in 0..60 {
        crowd.pass(Duration::from_secs(10));
    }
    let blamed = crowd
        .closed
        .iter()
        .filter(|reason| matches!(reason, CloseReason::Idle));
    let peers = crowd.engine.torrent(stuck).unwrap().peers;
    // Only a peer that had nothing more to say, and was not held back, may go.
    assert!(
        blamed.count() + peers as usize <= 20 && peers >= 10,
        "{peers} of 20 are left: {}",
        crowd.closed.len()
    );
    crowd.finish(stuck);
}

#[test]
fn a_handshake_is_read_whatever_the_disk_does() {
    let (mut crowd, stuck) = Crowd::with_a_stuck_torrent();
    crowd.join(stuck, 1);
    crowd.pass(Duration::from_millis(10));
    assert_eq!(crowd.engine.torrent(stuck).unwrap().peers, 21);
}
