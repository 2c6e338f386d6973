//! How uplinks are used: kept busy by a seed, held to rates, shared among peers and torrents.
//!
//! Every host is named by hand (no DHT, no peer exchange): who serves whom is what the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trackerless_core::Config;
use trackerless_core::event::{CloseReason, Event, Expendable};
use trackerless_core::io::{AddTorrent, Command, Rates, Source, Tag, TorrentId};
use trackerless_sim::{Content, HostId, HostSpec, Network, Sim};

const SECOND: Duration = Duration::from_secs(1);

/// Content and the torrent of it.
fn publish(seed: u64, length: usize, piece_length: u32) -> (Content, Bytes) {
    let content = Content::generate(seed, length, piece_length);
    let hashes = content.piece_hashes();
    let mut torrent = format!(
        "d4:infod6:lengthi{length}e4:name7:content12:piece lengthi{piece_length}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    torrent.extend_from_slice(&hashes);
    torrent.extend_from_slice(b"ee");
    (content, torrent.into())
}

fn host(sim: &mut Sim, number: u16, change: impl FnOnce(&mut HostSpec, &mut Config)) -> HostId {
    let [high, low] = number.to_be_bytes();
    let addr = SocketAddr::new(Ipv4Addr::new(10, 0, high, low).into(), 6881);
    let mut spec = HostSpec::new(addr);
    let mut config = Config::clone(&spec.config);
    config.dht.enabled = false;
    config.lsd.enabled = false;
    config.pex.enabled = false;
    change(&mut spec, &mut config);
    spec.config = Arc::new(config);
    sim.add_host(spec).unwrap()
}

fn add(sim: &mut Sim, host: HostId, torrent: &Bytes, peers: &[HostId]) {
    let mut add = AddTorrent::new(Source::torrent(torrent.clone()).unwrap());
    add.peers = peers.iter().map(|peer| sim.addr(*peer)).collect();
    sim.command(host, SECOND / 10, Tag(1), Command::AddTorrent(add));
}

fn pass(sim: &mut Sim, time: Duration) {
    sim.run_until(time, |_| false).unwrap();
}

fn ids(sim: &Sim, host: HostId) -> Vec<TorrentId> {
    sim.engine(host).torrents().collect()
}

fn uploaded(sim: &Sim, host: HostId) -> u64 {
    let stats = ids(sim, host).into_iter();
    let stats = stats.filter_map(|torrent| sim.engine(host).torrent(torrent));
    stats.map(|stats| stats.uploaded).sum()
}

fn downloaded(sim: &Sim, host: HostId) -> u64 {
    let stats = ids(sim, host).into_iter();
    let stats = stats.filter_map(|torrent| sim.engine(host).torrent(torrent));
    stats.map(|stats| stats.downloaded).sum()
}

fn assert_within(percent: u64, got: u64, expected: u64, what: &str) {
    let off = got.abs_diff(expected) * 100;
    assert!(
        off <= expected * percent,
        "{what}: {got} of {expected}, {:.2} %",
        got as f64 * 100.0 / expected as f64
    );
}

/// Rate of a link that carries so many bytes per second of blocks: every packet has headers.
fn carries(rate: u64) -> u64 {
    rate * 1_500 / 1_448
}

/// What a seed uploads in `time`, some time after it got this many slow and fast peers.
fn busy(slow: u16, fast: u16, uplink: u64, time: Duration) -> u64 {
    let (content, torrent) = publish(1, 24 << 20, 1 << 18);
    let mut sim = Sim::new(1, Network::default());
    let seed = host(&mut sim, 0, |spec, _| {
        spec.link.up.rate = carries(uplink);
        spec.content = Some(content.clone());
    });
    add(&mut sim, seed, &torrent, &[]);
    pass(&mut sim, SECOND);
    for number in 1..=slow + fast {
        let rate = if number <= slow { 8_000 } else { 60_000 };
        let leecher = host(&mut sim, number, |_, config| {
            config.limits.download_rate = rate
        });
        add(&mut sim, leecher, &torrent, &[seed]);
    }
    pass(&mut sim, SECOND * 90);
    let before = uploaded(&sim, seed);
    pass(&mut sim, time);
    uploaded(&sim, seed) - before
}

#[test]
fn a_seed_keeps_its_uplink_busy_whoever_comes_first() {
    let time = SECOND * 120;
    // More than it can carry wants to be served, but the slow ones hold the slots.
    for (slow, fast) in [(40, 8), (60, 4), (0, 12)] {
        let sent = busy(slow, fast, 400_000, time);
        let most = 400_000 * time.as_secs();
        assert!(
            sent * 100 >= most * 95,
            "{slow} slow and {fast} fast: {:.1} %",
            sent as f64 * 100.0 / most as f64
        );
    }
}

/// A seed with this upload rate, that many leechers; what it sends in 20 seconds.
fn sent_at(rate: u64, leechers: u16) -> u64 {
    let (content, torrent) = publish(2, 64 << 20, 1 << 18);
    let mut sim = Sim::new(2, Network::default());
    let seed = host(&mut sim, 0, |spec, config| {
        spec.content = Some(content);
        config.limits.upload_rate = rate;
    });
    add(&mut sim, seed, &torrent, &[]);
    for number in 1..=leechers {
        let leecher = host(&mut sim, number, |_, _| {});
        add(&mut sim, leecher, &torrent, &[seed]);
    }
    pass(&mut sim, SECOND * 4);
    let before = uploaded(&sim, seed);
    pass(&mut sim, SECOND * 20);
    uploaded(&sim, seed) - before
}

#[test]
fn uploads_keep_to_their_rate() {
    for rate in [64 << 10, 500_000, 2 << 20] {
        for leechers in [1, 3, 20] {
            let sent = sent_at(rate, leechers);
            assert_within(3, sent, rate * 20, &format!("{rate} to {leechers}"));
        }
    }
}

/// A leecher with this download rate, that many seeds and as many idle peers; what it gets in 20
/// seconds, of blocks.
fn got_at(rate: u64, seeds: u16, idle: u16) -> u64 {
    let (content, torrent) = publish(3, 64 << 20, 1 << 18);
    let mut sim = Sim::new(3, Network::default());
    let mut all = Vec::new();
    for number in 1..=seeds + idle {
        let peer = host(&mut sim, number, |spec, _| {
            spec.content = (number <= seeds).then(|| content.clone());
        });
        add(&mut sim, peer, &torrent, &[]);
        all.push(peer);
    }
    pass(&mut sim, SECOND);
    let leecher = host(&mut sim, 0, |_, config| config.limits.download_rate = rate);
    add(&mut sim, leecher, &torrent, &all);
    pass(&mut sim, SECOND * 5);
    let before = downloaded(&sim, leecher);
    pass(&mut sim, SECOND * 20);
    downloaded(&sim, leecher) - before
}

#[test]
fn downloads_keep_to_their_rate() {
    for rate in [64 << 10, 500_000, 2 << 20] {
        for (seeds, idle) in [(1, 0), (1, 20), (20, 0)] {
            let got = got_at(rate, seeds, idle);
            let what = format!("{rate} of {seeds}, {idle} idle");
            assert_within(3, got, rate * 20, &what);
        }
    }
}

#[test]
fn a_rate_is_shared_by_the_torrents_that_use_it_and_each_keeps_to_its_own() {
    let torrents: Vec<_> = (0..4)
        .map(|seed| publish(seed, 24 << 20, 1 << 18))
        .collect();
    let mut sim = Sim::new(4, Network::default());
    // A host has one content for all its torrents: four seeds in a row behind one leecher.
    let leecher = host(&mut sim, 0, |_, config| {
        config.limits.download_rate = 600_000
    });
    for (number, (content, torrent)) in torrents.iter().enumerate() {
        let seed = host(&mut sim, number as u16 + 1, |spec, _| {
            spec.content = Some(content.clone());
        });
        add(&mut sim, seed, torrent, &[]);
        // The last one's seed does not answer: that torrent is idle.
        let known = if number < 3 { vec![seed] } else { Vec::new() };
        add(&mut sim, leecher, torrent, &known);
    }
    pass(&mut sim, SECOND * 2);
    let all = ids(&sim, leecher);
    let rates = Rates {
        download: 100_000,
        upload: 0,
    };
    let limit = Command::LimitTorrent(all[0], rates);
    sim.command(leecher, Duration::ZERO, Tag(2), limit);
    pass(&mut sim, SECOND * 3);
    let now = |sim: &Sim| -> Vec<u64> {
        let stats = all.iter().filter_map(|id| sim.engine(leecher).torrent(*id));
        stats.map(|stats| stats.downloaded).collect()
    };
    let before = now(&sim);
    pass(&mut sim, SECOND * 20);
    let got: Vec<u64> = now(&sim)
        .iter()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    assert_within(3, got[0], 100_000 * 20, "its own rate");
    assert_within(3, got.iter().sum(), 600_000 * 20, "all together");
    assert_eq!(got[3], 0);
}

#[test]
fn uploads_of_a_torrent_keep_to_its_own_rate_and_what_it_leaves_is_for_others() {
    let (content, torrent) = publish(5, 24 << 20, 1 << 18);
    for (all, own, expected) in [
        (0, 200_000, 200_000),
        (300_000, 200_000, 200_000),
        (150_000, 200_000, 150_000),
    ] {
        let mut sim = Sim::new(5, Network::default());
        let seed = host(&mut sim, 0, |spec, config| {
            spec.content = Some(content.clone());
            config.limits.upload_rate = all;
        });
        add(&mut sim, seed, &torrent, &[]);
        pass(&mut sim, SECOND);
        let rates = Rates {
            download: 0,
            upload: own,
        };
        let limit = Command::LimitTorrent(ids(&sim, seed)[0], rates);
        sim.command(seed, Duration::ZERO, Tag(2), limit);
        for number in 1..=5 {
            let leecher = host(&mut sim, number, |_, _| {});
            add(&mut sim, leecher, &torrent, &[seed]);
        }
        pass(&mut sim, SECOND * 4);
        let before = uploaded(&sim, seed);
        pass(&mut sim, SECOND * 20);
        let sent = uploaded(&sim, seed) - before;
        assert_within(3, sent, expected * 20, &format!("{all} and {own}"));
    }
}

/// What the seed of a swarm has uploaded, in thousandths of the content, when the first of its
/// leechers is complete.
fn until_the_first(seed: u64, super_seed: bool) -> u64 {
    const LENGTH: usize = 12 << 20;
    let (content, torrent) = publish(seed, LENGTH, 1 << 16);
    let mut sim = Sim::new(seed, Network::default());
    let mut all = Vec::new();
    let source = host(&mut sim, 0, |spec, _| {
        spec.link.up.rate = 500_000;
        spec.content = Some(content);
    });
    let mut first = AddTorrent::new(Source::torrent(torrent.clone()).unwrap());
    first.super_seed = super_seed;
    sim.command(source, SECOND / 10, Tag(1), Command::AddTorrent(first));
    all.push(source);
    for number in 1..=12 {
        let leecher = host(&mut sim, number, |spec, _| spec.link.up.rate = 500_000);
        add(&mut sim, leecher, &torrent, &all);
        all.push(leecher);
    }
    let complete = |sim: &Sim, host: HostId| {
        let mut seen = sim.seen(host).iter();
        seen.any(|seen| matches!(seen.event, Event::Complete { .. }))
    };
    let any = |sim: &Sim| all[1..].iter().any(|host| complete(sim, *host));
    assert!(sim.run_until(SECOND * 300, any).unwrap());
    let sent = uploaded(&sim, source) * 1_000 / LENGTH as u64;
    let everybody = |sim: &Sim| all[1..].iter().all(|host| complete(sim, *host));
    assert!(sim.run_until(SECOND * 300, everybody).unwrap());
    sent
}

#[test]
fn a_super_seed_uploads_little_more_than_the_content_before_there_is_another_seed() {
    for seed in 1..=3 {
        let (plain, super_seed) = (until_the_first(seed, false), until_the_first(seed, true));
        println!("seed {seed}: plain {plain}, super-seeding {super_seed} thousandths");
        // BEP 16 claims 105 % against 150 to 200 %.
        assert!(super_seed < plain, "{super_seed} against {plain}");
        assert!(super_seed <= 1_100, "{super_seed}");
    }
}

/// Hosts that connect to `seed` and want nothing that they will take: they wait for metadata that
/// is longer than they accept, and hang on to their places.
fn squat(sim: &mut Sim, seed: HostId, torrent: &Bytes, numbers: std::ops::Range<u16>) {
    let Source::Torrent(file) = Source::torrent(torrent.clone()).unwrap() else {
        unreachable!("it is a torrent");
    };
    let hash = file.info.hashes.short().to_string();
    for number in numbers {
        let squatter = host(sim, number, |_, config| config.swarm.max_metadata = 1);
        let mut add = AddTorrent::new(Source::Magnet(hash.clone()));
        add.peers = vec![sim.addr(seed)];
        sim.command(squatter, SECOND / 10, Tag(1), Command::AddTorrent(add));
    }
}

#[test]
fn idle_connections_on_every_place_of_a_seeder_keep_no_leecher_out() {
    const PLACES: u16 = 200;
    for (seed, per_torrent) in [(1, true), (2, false)] {
        let (content, torrent) = publish(seed, 1 << 20, 1 << 16);
        let mut sim = Sim::new(seed, Network::default());
        let seeder = host(&mut sim, 0, |spec, config| {
            spec.content = Some(content);
            match per_torrent {
                true => config.swarm.max_peers = PLACES,
                false => config.limits.max_connections = PLACES.into(),
            }
        });
        add(&mut sim, seeder, &torrent, &[]);
        pass(&mut sim, SECOND);
        squat(&mut sim, seeder, &torrent, 1..PLACES + 20);
        pass(&mut sim, SECOND * 30);
        let stats = sim.engine(seeder).torrent(ids(&sim, seeder)[0]).unwrap();
        assert_eq!(stats.peers, u32::from(PLACES));
        let leecher = host(&mut sim, 1_000, |_, _| {});
        add(&mut sim, leecher, &torrent, &[seeder]);
        let complete = |sim: &Sim| {
            let mut seen = sim.seen(leecher).iter();
            seen.any(|seen| matches!(seen.event, Event::Complete { .. }))
        };
        assert!(sim.run_until(SECOND * 180, complete).unwrap());
        // Nobody but idle ones had to go for it, and every close says so.
        let gave_way = sim.seen(seeder).iter().filter(|seen| {
            matches!(seen.event, Event::PeerClosed { reason, .. }
                if matches!(reason, CloseReason::MadeRoom(Expendable::Idle)))
        });
        assert!(gave_way.count() >= 1);
    }
}
