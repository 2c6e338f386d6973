//! One seed, one run: equal roots for equal runs, and for no others.

use std::process::Command;
use std::time::Duration;

use trackerless_core::event::{Event, PeerSource};
use trackerless_sim::scenario::{self, Scenario};
use trackerless_sim::{Fault, HostId, Root, Sim, What};

/// Longest way of a packet in the small scenario, with time to spare.
const LONGEST_WAY: Duration = Duration::from_secs(1);

fn small() -> Scenario {
    let mut scenario = scenario::find("demo").unwrap();
    scenario.group_mut("nodes").unwrap().count = 12;
    scenario.group_mut("leechers").unwrap().count = 3;
    scenario
}

/// The small scenario, to the same moment whatever happens in it.
fn run_with(seed: u64, fault: Option<Fault>) -> Sim {
    let scenario = small();
    let mut stage = scenario.play(seed).stage().unwrap();
    if let Some(fault) = fault {
        stage.sim.inject(fault);
    }
    stage.pass(Duration::from_secs(20)).unwrap();
    stage.sim
}

fn root_with(seed: u64, fault: Option<Fault>) -> Root {
    run_with(seed, fault).root()
}

#[test]
fn a_root_is_a_function_of_the_seed() {
    assert_eq!(root_with(1, None), root_with(1, None));
    assert_ne!(root_with(1, None), root_with(2, None));
}

/// Each fault strikes once, anywhere in the run: up to that second both runs have the same root,
/// and never again after it.
#[test]
fn one_bit_one_packet_or_one_microsecond_changes_the_root_from_then_on() {
    let clean = run_with(1, None);
    let most = |sent: &dyn Fn(HostId) -> u64| clean.hosts().max_by_key(|host| sent(*host)).unwrap();
    let (talker, server) = (
        most(&|host| clean.datagrams(host)),
        most(&|host| clean.segments(host)),
    );
    let mut faults = Vec::new();
    for part in 1..=5u64 {
        // A bit here and there: the first byte, the last one, something in between.
        let bit = [0, usize::MAX, 333, 4_444][part as usize % 4];
        let fault = |host, sent: u64, what| Fault {
            host,
            number: sent * part / 6,
            what,
        };
        let (datagrams, segments) = (clean.datagrams(talker), clean.segments(server));
        faults.extend([
            fault(talker, datagrams, What::FlipBit(bit)),
            fault(talker, datagrams, What::Drop),
            fault(talker, datagrams, What::Delay),
            fault(server, segments, What::FlipSegmentBit(bit)),
            fault(server, segments, What::DelaySegment),
        ]);
    }
    let mut roots = vec![clean.root()];
    let mut latest = Duration::ZERO;
    for fault in faults {
        // What begins and ends a stream is counted too, and has nothing that could be disturbed.
        let sim = (fault.number..fault.number + 8)
            .map(|number| run_with(1, Some(Fault { number, ..fault })))
            .find(|sim| sim.struck().is_some())
            .unwrap_or_else(|| panic!("{fault:?} was not sent"));
        let struck = sim.struck().expect("it was sent");
        latest = latest.max(Duration::from_micros(struck.as_micros()));
        assert_eq!(sim.epochs().len(), clean.epochs().len());
        for (second, (ours, theirs)) in sim.epochs().iter().zip(clean.epochs()).enumerate() {
            // The epoch of index 0 ends with the second that the run begins at.
            let end = Duration::from_secs(second as u64 + 2);
            let struck = Duration::from_micros(struck.as_micros());
            if end <= struck {
                assert_eq!(ours, theirs, "{fault:?}: second {second} came before it");
            } else if end > struck + LONGEST_WAY {
                assert_ne!(ours, theirs, "{fault:?} left second {second} as it was");
            }
        }
        assert!(
            !roots.contains(&sim.root()),
            "{fault:?} has no root of its own"
        );
        roots.push(sim.root());
    }
    assert!(latest > Duration::from_secs(10), "the last at {latest:?}");
}

#[test]
fn a_fault_that_never_comes_changes_nothing() {
    let sim = run_with(
        1,
        Some(Fault {
            host: HostId(0),
            number: u64::MAX,
            what: What::Drop,
        }),
    );
    assert_eq!(sim.root(), root_with(1, None));
    assert_eq!(sim.struck(), None);
}

#[test]
fn separate_processes_agree() {
    let root = || {
        let output = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"))
            .args(["run", "demo", "--seed", "3"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("trace root"))
            .unwrap()
            .trim()
            .to_owned()
    };
    let here = scenario::find("demo").unwrap().run(3).root.to_string();
    assert_eq!(root(), here);
    assert_eq!(root(), here);
}

#[test]
fn twenty_engines_behind_a_hundred_node_dht_with_a_magnet_link_only() {
    let report = scenario::find("magnet").unwrap().run(7);
    assert_eq!(report.failures, []);
    assert_eq!(report.results.completed.len(), 19);
    assert!(report.results.found_by("dht") > 0);
    assert!(
        report.elapsed < Duration::from_secs(60),
        "{:?}",
        report.elapsed
    );
}

/// Whoever knows only a host that has nothing learns of the seeder through it or through others
/// that it told, and in no other way.
#[test]
fn without_a_dht_one_acquaintance_is_enough() {
    let scenario = scenario::find("pex-only").unwrap();
    let mut stage = scenario.play(7).keep_events().stage().unwrap();
    assert!(stage.go().unwrap());
    let seeder = stage.sim.addr(HostId(0));
    let mut told = 0;
    for leecher in stage.leechers() {
        for seen in stage.sim.seen(leecher) {
            if let Event::PeerFound { addr, source, .. } = &seen.event
                && *addr == seeder
            {
                assert_eq!(*source, PeerSource::Pex);
                told += 1;
            }
        }
    }
    // Whoever is served by one that was told may be done before he is told himself.
    assert!((1..=5).contains(&told), "{told}");
    let report = stage.report(None);
    assert_eq!(report.failures, []);
    let results = &report.results;
    assert_eq!((results.completed.len(), results.found_by("dht")), (5, 0));
    assert_eq!(scenario.run(7).root, report.root);
}

/// Several seeds: a single one may be lucky.
#[test]
fn a_tenth_of_all_datagrams_lost_delays_but_stops_nobody() {
    let scenario = scenario::find("lossy").unwrap();
    for seed in 0..6 {
        let report = scenario.run(seed);
        assert_eq!(report.failures, [], "seed {seed}");
    }
}
