//! Engines in a world that goes wrong: cut networks, crashes, translators, sleep, moves; and the
//! two models of streams.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trackerless_core::Config;
use trackerless_core::event::Event;
use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_sim::{
    Content, Crash, HostId, HostSpec, Link, Loss, Nat, NatKind, Network, Partition, Root, Sim,
    TcpModel, bench,
};

const SECOND: Duration = Duration::from_secs(1);
const LENGTH: usize = 4 << 20;
const MODELS: [TcpModel; 2] = [TcpModel::Fluid, TcpModel::Segments];

fn publish() -> (Content, Bytes) {
    let content = Content::generate(9, LENGTH, 1 << 16);
    let hashes = content.piece_hashes();
    let mut torrent = format!(
        "d4:infod6:lengthi{LENGTH}e4:name7:content12:piece lengthi65536e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    torrent.extend_from_slice(&hashes);
    torrent.extend_from_slice(b"ee");
    (content, torrent.into())
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 6_881))
}

struct Pair {
    sim: Sim,
    seed: HostId,
    leecher: HostId,
}

/// A seed and a leecher that knows it as `known`; five seconds' worth of content.
fn pair(tcp: TcpModel, known: SocketAddr, change: impl Fn(&mut HostSpec, &mut HostSpec)) -> Pair {
    let (content, torrent) = publish();
    let network = Network {
        tcp,
        ..Network::default()
    };
    let mut sim = Sim::new(3, network);
    let [mut first, mut second] = [1, 2].map(|number| {
        let mut spec = HostSpec::new(addr(number));
        let mut config = Config::clone(&spec.config);
        config.dht.enabled = false;
        config.lsd.enabled = false;
        spec.config = Arc::new(config);
        spec.link = Link::new(800_000, 2_000_000);
        spec
    });
    first.content = Some(content);
    change(&mut first, &mut second);
    let seed = sim.add_host(first).unwrap();
    let leecher = sim.add_host(second).unwrap();
    let mut add = AddTorrent::new(Source::torrent(torrent).unwrap());
    let first = Command::AddTorrent(add.clone());
    sim.command(seed, SECOND / 10, Tag(1), first);
    add.peers.push(known);
    sim.command(leecher, SECOND / 5, Tag(1), Command::AddTorrent(add));
    Pair { sim, seed, leecher }
}

fn complete(sim: &Sim, host: HostId) -> bool {
    let mut seen = sim.seen(host).iter();
    seen.any(|seen| matches!(seen.event, Event::Complete { .. }))
}

impl Pair {
    fn pass(&mut self, time: Duration) {
        self.sim.run_until(time, |_| false).unwrap();
    }

    fn is_complete(&self) -> bool {
        complete(&self.sim, self.leecher)
    }

    /// Seconds until the leecher is complete; not more than `limit`.
    fn finish(&mut self, limit: u64) -> u64 {
        let leecher = self.leecher;
        let before = self.sim.now();
        let done = self
            .sim
            .run_until(SECOND * limit as u32, |sim| complete(sim, leecher));
        assert!(done.unwrap(), "not complete after {limit} seconds");
        self.sim.now().saturating_since(before).as_secs()
    }
}

#[test]
fn undisturbed_it_takes_as_long_as_the_link_needs() {
    for tcp in MODELS {
        let took = pair(tcp, addr(1), |_, _| {}).finish(60);
        assert!((5..8).contains(&took), "{tcp:?}: {took} s");
    }
}

#[test]
fn a_partition_stops_everything_until_it_heals() {
    for tcp in MODELS {
        let mut pair = pair(tcp, addr(1), |_, _| {});
        pair.pass(SECOND * 2);
        let cut = pair.sim.part(Partition::total([pair.seed]));
        pair.pass(SECOND * 20);
        assert!(!pair.is_complete());
        pair.sim.heal(cut);
        pair.finish(120);
    }
}

#[test]
fn who_crashes_goes_on_with_what_his_disk_has() {
    for tcp in MODELS {
        for crash in [Crash::Process, Crash::Power] {
            let mut pair = pair(tcp, addr(1), |_, _| {});
            pair.pass(SECOND * 4);
            let had = pair.sim.disk_used(pair.leecher);
            assert!(had > LENGTH as u64 / 3, "{had}");
            pair.sim.crash(pair.leecher, crash);
            let has = pair.sim.disk_used(pair.leecher);
            match crash {
                Crash::Process => assert!(has > had / 2, "{has} of {had}"),
                Crash::Power => assert!(has < had, "{has} of {had}"),
            }
            pair.pass(SECOND * 5);
            assert!(!pair.sim.is_up(pair.leecher) && !pair.is_complete());
            pair.sim.restart(pair.leecher).unwrap();
            pair.finish(120);
            assert_eq!(pair.sim.disk_used(pair.leecher), LENGTH as u64);
        }
    }
}

#[test]
fn nobody_gets_in_through_a_translator_that_forwards_nothing() {
    let outside: IpAddr = addr(99).ip();
    let known = SocketAddr::new(outside, 6_881);
    for tcp in MODELS {
        for forwards in [false, true] {
            let mut pair = pair(tcp, known, |seed, _| {
                let mut nat = Nat::new(NatKind::PortRestricted, outside);
                nat.forwards = forwards;
                seed.nats.push(nat);
            });
            if forwards {
                pair.finish(60);
            } else {
                pair.pass(SECOND * 60);
                assert!(!pair.is_complete());
            }
        }
    }
}

#[test]
fn whoever_is_behind_two_translators_gets_out() {
    for tcp in MODELS {
        let mut pair = pair(tcp, addr(1), |_, leecher| {
            let router = "100.64.0.7".parse().unwrap();
            let carrier = "203.0.113.9".parse().unwrap();
            leecher.nats.push(Nat::new(NatKind::PortRestricted, router));
            leecher.nats.push(Nat::new(NatKind::Symmetric, carrier));
        });
        pair.finish(60);
        let carrier: IpAddr = "203.0.113.9".parse().unwrap();
        let met = pair.sim.seen(pair.seed).iter().any(
            |seen| matches!(&seen.event, Event::PeerConnected(peer) if peer.addr.ip() == carrier),
        );
        assert!(met, "the seed sees the carrier's address");
    }
}

#[test]
fn who_sleeps_or_moves_is_done_later() {
    for tcp in MODELS {
        for moves in [false, true] {
            let mut pair = pair(tcp, addr(1), |_, _| {});
            pair.pass(SECOND * 2);
            if moves {
                let to = addr(77);
                pair.sim
                    .move_host(pair.leecher, to, vec![], vec![])
                    .unwrap();
                assert_eq!(pair.sim.addr(pair.leecher), to);
            } else {
                pair.sim.sleep(pair.leecher, SECOND * 20, true);
                pair.pass(SECOND * 15);
                assert!(!pair.is_complete());
            }
            pair.finish(400);
        }
    }
}

#[test]
fn hosts_of_one_family_meet_in_it_and_those_of_both_in_either() {
    for tcp in MODELS {
        let six: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
        let mut both = pair(tcp, six, |seed, leecher| {
            seed.more_addrs.push(six);
            leecher.addr = "[2001:db8::2]:6881".parse().unwrap();
        });
        both.finish(60);
        let mut apart = pair(tcp, addr(1), |_, leecher| {
            leecher.addr = "[2001:db8::2]:6881".parse().unwrap();
        });
        apart.pass(SECOND * 30);
        assert!(!apart.is_complete());
    }
}

#[test]
fn losses_slow_a_stream_down_and_wrong_clocks_do_not() {
    for tcp in MODELS {
        let mut lossy = pair(tcp, addr(1), |seed, _| {
            seed.link.up.loss = Loss::Independent(50_000);
        });
        let took = lossy.finish(600);
        assert!(took > 8, "{tcp:?}: {took} s");
        let mut skewed = pair(tcp, addr(1), |seed, leecher| {
            seed.skew.drift_ppm = 20_000;
            leecher.skew.drift_ppm = -20_000;
        });
        skewed.pass(SECOND);
        skewed.sim.jump_clock(skewed.leecher, -600_000_000).unwrap();
        skewed.pass(SECOND);
        let took = skewed.finish(1_200);
        assert!(tcp == TcpModel::Fluid || took < 700, "{took} s");
    }
}

/// A swarm of segments on so many threads.
fn root(threads: u32, seed: u64) -> (Root, Vec<Root>) {
    let (content, torrent) = publish();
    let network = Network {
        tcp: TcpModel::Segments,
        loss_ppm: 2_000,
        ..Network::default()
    };
    let mut sim = Sim::with_threads(seed, network, threads);
    for number in 1..=7 {
        let mut spec = HostSpec::new(addr(number));
        let mut config = Config::clone(&spec.config);
        config.lsd.enabled = false;
        spec.config = Arc::new(config);
        spec.link = Link::new(800_000, 2_000_000);
        spec.content = (number == 1).then(|| content.clone());
        let host = sim.add_host(spec).unwrap();
        let mut add = AddTorrent::new(Source::torrent(torrent.clone()).unwrap());
        add.peers = (1..number).map(addr).collect();
        let boot = Command::DhtBootstrap(vec![addr(1)]);
        sim.command(host, SECOND / 20, Tag(2), boot);
        sim.command(host, SECOND / 10, Tag(1), Command::AddTorrent(add));
    }
    sim.run_until(SECOND * 20, |_| false).unwrap();
    let done = (1..7).filter(|host| complete(&sim, HostId(*host))).count();
    assert!(done >= 3, "{done} are complete");
    (sim.root(), sim.epochs().to_vec())
}

#[test]
fn roots_are_the_same_on_one_thread_and_on_two_and_on_four() {
    let one = root(1, 5);
    assert_eq!(one, root(2, 5));
    assert_eq!(one, root(4, 5));
    assert_eq!(one, root(1, 5));
    assert_ne!(one.0, root(2, 6).0);
}

/// Completion as fluids and as segments: within 10 % for the median, within 25 % for 95 of 100.
#[test]
fn both_models_of_streams_come_to_nearly_the_same() {
    let gate = bench::gate(50, LENGTH, 1).unwrap();
    let (median, most) = gate.figures();
    assert!(
        median <= 100 && most <= 250,
        "{median} and {most} thousandths: {:?}",
        gate.times
    );
}
