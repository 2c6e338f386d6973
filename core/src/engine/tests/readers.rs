//! Peers that ask for much and take little, or say little and hold much.

use super::*;

const BLOCK: usize = 16 * 1024;

/// A torrent with metadata of several pieces and nothing on disk, or with all of its content.
fn large_torrent(pieces: usize) -> Bytes {
    let digest: [u8; 20] = Sha1::digest([7; BLOCK]).into();
    let length = pieces * BLOCK;
    let mut file = format!(
        "d4:infod6:lengthi{length}e4:name1:x12:piece lengthi{BLOCK}e6:pieces{}:",
        pieces * 20
    )
    .into_bytes();
    for _ in 0..pieces {
        file.extend_from_slice(&digest);
    }
    file.extend_from_slice(b"ee");
    file.into()
}

/// A host that answers jobs at once and counts what is sent to each connection.
struct Host {
    engine: Engine,
    out: Outbox,
    now: Instant,
    sent: alloc::collections::BTreeMap<ConnId, u64>,
    closed: Vec<ConnId>,
    /// These take nothing of what they are sent.
    silent: Vec<ConnId>,
    ports: u16,
}

impl Host {
    fn new(source: Source, change: impl FnOnce(&mut Config)) -> Self {
        let (engine, out, now) = engine_with(change);
        let mut host = Self {
            engine,
            out,
            now,
            sent: alloc::collections::BTreeMap::new(),
            closed: Vec::new(),
            silent: Vec::new(),
            ports: 1_000,
        };
        host.give(command(1, Command::AddTorrent(AddTorrent::new(source))));
        host
    }

    fn give(&mut self, input: Input<'_>) {
        self.engine.handle(self.now, input, &mut self.out);
        self.perform();
    }

    fn perform(&mut self) {
        loop {
            let mut jobs = Vec::new();
            let mut sent = Vec::new();
            for output in self.out.drain() {
                match output {
                    Output::Job { job, work } => jobs.push((job, whole_answer(&work))),
                    Output::Send { conn, head, body } => sent.push((conn, head.len() + body.len())),
                    Output::Close { conn } => self.closed.push(conn),
                    _ => {}
                }
            }
            if jobs.is_empty() && sent.is_empty() {
                return;
            }
            for (job, result) in jobs {
                let input = Input::JobDone { job, result };
                self.engine.handle(self.now, input, &mut self.out);
            }
            for (conn, bytes) in sent {
                *self.sent.entry(conn).or_default() += bytes as u64;
                if !self.silent.contains(&conn) {
                    let bytes = bytes as u32;
                    let input = Input::Sent { conn, bytes };
                    self.engine.handle(self.now, input, &mut self.out);
                }
            }
        }
    }

    /// Time passes, as the engine wants it.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick);
        }
        self.now = end;
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let data = BytesMut::from(bytes);
        self.give(Input::Received { conn, data });
    }

    /// A peer that has nothing and speaks everything.
    fn join(&mut self) -> ConnId {
        self.ports += 1;
        let ticket = Ticket(u64::from(self.ports));
        let from = addr(9, self.ports);
        let input = Input::Incoming { ticket, from };
        self.engine.handle(self.now, input, &mut self.out);
        let conn = self.out.drain().find_map(|output| match output {
            Output::Accept { conn, .. } => Some(conn),
            _ => None,
        });
        let conn = conn.expect("accepted");
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04".to_vec();
        let hash = self.engine.by_hash.keys().next().expect("a torrent").0;
        hello.extend_from_slice(&hash);
        hello.extend_from_slice(&[0; 18]);
        hello.extend_from_slice(&self.ports.to_be_bytes());
        self.say(conn, &hello);
        conn
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }
}

/// Like [`answer`], for pieces that are all alike.
fn whole_answer(work: &crate::io::Work<'_>) -> JobResult {
    match work {
        crate::io::Work::Hash { .. } => {
            JobResult::Hashed(Digest::Sha1(Sha1::digest([7; BLOCK]).into()))
        }
        other => answer(other),
    }
}

fn request(piece: u32) -> Vec<u8> {
    let mut message = b"\0\0\0\x0d\x06".to_vec();
    for number in [piece, 0, BLOCK as u32] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message
}

const HAVE_NONE: &[u8] = b"\0\0\0\x01\x0f";
const KEEP_ALIVE: &[u8] = &[0; 4];

#[test]
fn one_that_takes_nothing_leaves_the_others_their_blocks_and_is_closed_in_the_end() {
    let source = Source::torrent(large_torrent(4)).unwrap();
    // As much as one of very many torrents gets.
    let mut host = Host::new(source, |config| config.limits.read_budget = 256 * 1024);
    let hog = host.join();
    host.silent.push(hog);
    host.say(hog, HAVE_NONE);
    let before = host.sent[&hog];
    for round in 0..40 {
        host.say(hog, &request(round % 4));
    }
    let taken = host.sent[&hog] - before;
    assert!((16_384..=100_000).contains(&taken), "{taken}");
    let honest = host.join();
    host.say(honest, HAVE_NONE);
    let before = host.sent[&honest];
    for piece in 0..4 {
        host.say(honest, &request(piece));
    }
    let got = host.sent[&honest] - before;
    assert!(got > 4 * BLOCK as u64, "{got}");
    // Neither is silent: both say that they live.
    for _ in 0..10 {
        host.wait(Duration::from_secs(30));
        for conn in [hog, honest] {
            host.say(conn, KEEP_ALIVE);
        }
    }
    assert!(host.is_closed(hog));
    assert!(!host.is_closed(honest));
}

#[test]
fn metadata_counts_against_the_rate_of_uploads() {
    let rate = 16 * 1024;
    let source = Source::torrent(large_torrent(4_000)).unwrap();
    let mut host = Host::new(source, |config| config.limits.upload_rate = rate);
    host.wait(Duration::from_secs(2));
    let peer = host.join();
    host.say(peer, HAVE_NONE);
    let hello = b"d1:md11:ut_metadatai3eee";
    let mut message = (hello.len() as u32 + 2).to_be_bytes().to_vec();
    message.extend_from_slice(&[20, 0]);
    message.extend_from_slice(hello);
    host.say(peer, &message);
    let before = host.sent[&peer];
    for round in 0..400 {
        let ask = format!("d8:msg_typei0e5:piecei{}ee", round % 4);
        let mut message = (ask.len() as u32 + 2).to_be_bytes().to_vec();
        message.extend_from_slice(&[20, 2]);
        message.extend_from_slice(ask.as_bytes());
        host.say(peer, &message);
        host.wait(Duration::from_millis(25));
    }
    // Ten seconds, and the one that may be saved up; answers have heads of some bytes.
    let got = host.sent[&peer] - before;
    assert!((rate * 8..=rate * 13).contains(&got), "{got}");
}

#[test]
fn a_bitfield_longer_than_the_torrents_is_refused_by_its_length() {
    let mut host = Host::new(Source::torrent(large_torrent(20)).unwrap(), |_| {});
    // 20 pieces are 3 bytes; the message has a number as well.
    for (length, refused) in [(4, false), (5, true), (1 << 20, true)] {
        let conn = host.join();
        let mut head = u32::to_be_bytes(length).to_vec();
        head.push(5);
        host.say(conn, &head);
        assert_eq!(host.is_closed(conn), refused, "{length}");
    }
}

#[test]
fn what_the_host_has_read_is_not_read_again() {
    let file = large_torrent(100);
    let torrent = crate::metainfo::Torrent::parse(file).expect("a torrent");
    let info = alloc::sync::Arc::clone(&torrent.info);
    let other = crate::metainfo::Torrent::parse(large_torrent(4)).expect("a torrent");
    let link = format!("magnet:?xt=urn:btih:{}", info.hashes.short());
    let resume = crate::resume::Resume {
        info_hash: info.hashes.short(),
        info: Some(info.raw.clone()),
        ..Default::default()
    };
    let known = |source, saved| {
        let (mut engine, mut out, now) = engine();
        let mut add = AddTorrent::new(source);
        add.resume = Some(Box::new(resume.clone()));
        add.info = saved;
        engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
        assert_eq!(engine.torrents().count(), 1);
        out.drain().find_map(|output| match output {
            Output::Event(Event::Metadata { info, .. }) => Some(info.hashes),
            _ => None,
        })
    };
    let magnet = || Source::Magnet(link.clone());
    assert_eq!(known(magnet(), Some(info.clone())), Some(info.hashes));
    let file = Source::Torrent(torrent.into());
    assert_eq!(known(file, Some(other.info.clone())), Some(info.hashes));
    // That of another torrent is not taken for this one's, and nobody parses what resume data has.
    assert_eq!(known(magnet(), Some(other.info)), None);
    assert_eq!(known(magnet(), None), None);
}

#[test]
fn a_torrent_of_more_pieces_than_allowed_is_refused_whoever_read_it() {
    let (mut engine, mut out, now) = engine_with(|config| config.swarm.max_pieces = 19);
    for (pieces, taken) in [(20, false), (19, true)] {
        let add = AddTorrent::new(Source::torrent(large_torrent(pieces)).unwrap());
        engine.handle(now, command(1, Command::AddTorrent(add)), &mut out);
        let refused = out.drain().find_map(|output| match output {
            Output::Event(Event::CommandDone { result, .. }) => result.err(),
            _ => None,
        });
        assert_eq!(refused.is_none(), taken, "{refused:?}");
        if let Some(why) = refused {
            let why = format!("{why:?}");
            assert!(
                why.contains("20 pieces") && why.contains("at most 19"),
                "{why}"
            );
        }
    }
}

#[test]
fn unfinished_messages_are_bounded_over_all_connections() {
    // Before the metadata is known a bitfield may be long.
    let link = String::from("magnet:?xt=urn:btih:0101010101010101010101010101010101010101");
    let budget = 1024 * 1024;
    let mut host = Host::new(Source::Magnet(link), |config| {
        config.limits.max_unfinished = budget;
    });
    let honest = host.join();
    host.say(honest, &[0, 0, 0, 9, 5, 0xff]);
    let half = config_bitfield(&host) - 1;
    for _ in 0..20 {
        let greedy = host.join();
        let mut head = (half + 2).to_be_bytes().to_vec();
        head.push(5);
        host.say(greedy, &head);
        for _ in 0..half / 1_000 {
            host.say(greedy, &[0; 1_000]);
        }
        let held: usize = host
            .engine
            .conns
            .iter()
            .map(|(_, it)| it.wire.unfinished())
            .sum();
        assert_eq!(held, host.engine.unfinished);
        assert!(held <= budget as usize, "{held}");
    }
    assert!(host.closed.len() >= 15, "{}", host.closed.len());
    assert!(!host.is_closed(honest));
    host.say(honest, &[0xff; 7]);
    assert!(!host.is_closed(honest));
    // Those who leave take theirs along.
    let all: Vec<ConnId> = host
        .engine
        .conns
        .iter()
        .map(|(key, _)| ConnId(key))
        .collect();
    for conn in all {
        let reason = IoReason::Reset;
        host.give(Input::Closed { conn, reason });
    }
    assert_eq!(host.engine.unfinished, 0);
}

/// The longest bitfield while the metadata is unknown.
fn config_bitfield(host: &Host) -> u32 {
    host.engine.config.swarm.max_pieces.div_ceil(8)
}
