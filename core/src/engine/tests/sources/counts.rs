//! What is told of sources is what there is, and what is not needed is not waited for.

use std::vec;

use super::*;
use crate::id::{InfoHash, InfoHashes};

impl Host {
    /// Ends the lookup under way for `torrent`: the DHT told of `peers`.
    fn lookup_finds(&mut self, torrent: TorrentId, peers: &[SocketAddr]) -> u32 {
        for peer in peers {
            self.engine.dht_found_peer(torrent, *peer);
        }
        self.events.clear();
        let done = crate::engine::nodes::Announced::Well;
        self.engine.announce_done(torrent, done, &mut self.out);
        self.give(Input::Tick);
        let told = self.events.iter().rev().find_map(|event| match event {
            Event::Source { peers, .. } => Some(*peers),
            _ => None,
        });
        told.expect("it is told")
    }
}

#[test]
fn a_peer_that_every_lookup_finds_counts_once_and_we_do_not() {
    let mut host = Host::new(|_| {});
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    host.pass(Duration::from_secs(1));
    let peers = [addr(2, 1), addr(3, 1), addr(1, 6881)];
    assert_eq!(host.lookup_finds(torrent, &peers), 2);
    for round in 1..4 {
        while host.asked(torrent) == 0 {
            host.pass(Duration::from_secs(1));
        }
        // While it is asked again, what it told before stands.
        let told = host.events.iter().rev().find_map(|event| match event {
            Event::Source { peers, .. } => Some(*peers),
            _ => None,
        });
        assert_eq!(told, Some(2), "round {round}");
        assert_eq!(host.lookup_finds(torrent, &peers), 2, "round {round}");
    }
}

#[test]
fn a_hybrid_that_was_known_by_its_first_hash_answers_to_its_second_as_well() {
    let mut host = Host::new(|config| config.dht.enabled = false);
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    let first = host.engine.hashes(torrent).unwrap();
    let mut info = crate::metainfo::Torrent::parse(file("x", 65_536))
        .unwrap()
        .info;
    let v2 = [9; 32];
    let hybrid = Arc::get_mut(&mut info).expect("nobody else has it");
    hybrid.hashes = InfoHashes::new(first.v1(), Some(v2)).unwrap();
    let metadata = swarm::Event::Public(Event::Metadata { torrent, info });
    host.engine.on_swarm_event(torrent, metadata, &mut host.out);
    let second = InfoHash::V2(v2).short();
    assert_eq!(host.engine.by_hash.get(&second), Some(&torrent));
    // Added once more by the other name, it is the same.
    let link = format!("magnet:?xt=urn:btmh:1220{}", crate::id::hex(&v2));
    let add = AddTorrent::new(Source::Magnet(link));
    host.give(command(3, Command::AddTorrent(add)));
    assert!(host.events.iter().any(|event| matches!(
        event,
        Event::CommandDone { tag: Tag(3), result: Err(error) }
            if **error == crate::event::CommandError::Duplicate(torrent)
    )));
}

/// Ticks of an hour in which nothing happens to a seed of two pieces.
fn idle_ticks(upload_rate: u64) -> usize {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.limits.upload_rate = upload_rate;
    });
    host.add(Source::torrent(file("seed", 2 * 65_536)).unwrap());
    host.work(100);
    host.pass(Duration::from_secs(60));
    let end = host.now + Duration::from_secs(3_600);
    let mut ticks = 0;
    while let Some(at) = host.engine.next_timeout().filter(|at| *at <= end) {
        host.now = host.now.max(at);
        host.give(Input::Tick);
        ticks += 1;
    }
    ticks
}

#[test]
fn a_limit_of_uploads_wakes_nobody_while_nothing_is_uploaded() {
    assert_eq!(idle_ticks(100_000), idle_ticks(0));
}

#[test]
fn only_what_is_uploaded_waits_for_a_limit_of_uploads() {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.limits.upload_rate = 300_000;
    });
    let seeds = [1, 2, 3].map(|n| {
        let torrent = host.add(Source::torrent(file(&format!("{n}"), 2 * 65_536)).unwrap());
        host.work(100);
        host.give(command(2, Command::AddPeer(torrent, addr(60 + n, 5000))));
        host.pass(Duration::from_secs(1));
        // Have-none (BEP 6) and interested.
        let first = b"\0\0\0\x01\x0f\0\0\0\x01\x02";
        let (conn, _) = host.shake(torrent, PeerId([9; 20]), first);
        (torrent, conn)
    });
    let waiting = |host: &Host| Vec::from_iter(host.engine.grants.uploading.iter().copied());
    assert!(!waiting(&host).is_empty());
    host.pass(Duration::from_secs(5));
    assert_eq!(waiting(&host), []);
    // All there is of one of them is asked for at once: a block may leave, the rest in time.
    let (torrent, conn) = seeds[1];
    let mut requests = BytesMut::new();
    for block in 0..8u32 {
        requests.extend_from_slice(b"\0\0\0\x0d\x06");
        for field in [block / 4, block % 4 * 16_384, 16_384] {
            requests.extend_from_slice(&field.to_be_bytes());
        }
    }
    let data = requests;
    host.give(Input::Received { conn, data });
    host.work(100);
    let uploaded = |host: &Host| host.engine.torrent(torrent).unwrap().uploaded;
    assert_eq!((waiting(&host), uploaded(&host)), (vec![torrent], 16_384));
    // What the others do not use is this one's.
    for _ in 0..5 {
        host.pass(Duration::from_millis(100));
        host.work(100);
    }
    assert_eq!(uploaded(&host), 8 * 16_384);
    host.pass(Duration::from_secs(5));
    assert_eq!(waiting(&host), []);
}
