//! One seed, one run: equal roots for equal runs, and for no others.

use std::process::Command;
use std::time::Duration;

use trackerless_sim::scenario::{self, Scenario};
use trackerless_sim::{Fault, Root, Sim, replay};

fn small() -> Scenario {
    Scenario {
        dht_nodes: 12,
        leechers: 3,
        ..scenario::find("demo").unwrap()
    }
}

fn root_with(seed: u64, fault: Option<Fault>) -> Root {
    let scenario = small();
    let mut sim = Sim::new(seed, scenario.network.clone());
    if let Some(fault) = fault {
        sim.inject(fault);
    }
    scenario.play(&mut sim, seed).unwrap();
    sim.root()
}

#[test]
fn a_root_is_a_function_of_the_seed() {
    assert_eq!(root_with(1, None), root_with(1, None));
    assert_ne!(root_with(1, None), root_with(2, None));
}

#[test]
fn one_bit_one_packet_or_one_microsecond_changes_the_root() {
    let clean = root_with(1, None);
    let mut roots = vec![clean];
    for fault in [Fault::FlipBit(20), Fault::Drop(20), Fault::Delay(20)] {
        let root = root_with(1, Some(fault));
        assert!(!roots.contains(&root), "{fault:?} left the root as it was");
        roots.push(root);
    }
}

#[test]
fn a_fault_that_never_comes_changes_nothing() {
    assert_eq!(
        root_with(1, None),
        root_with(1, Some(Fault::Drop(u64::MAX)))
    );
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
fn recorded_engines_replay_to_the_same_outputs() {
    let scenario = small();
    let mut sim = Sim::new(5, scenario.network.clone());
    sim.record_all();
    let (leechers, finished) = scenario.play(&mut sim, 5).unwrap();
    assert!(finished);
    // One that only routed, and one that downloaded.
    for (host, enough) in [(trackerless_sim::HostId(0), 1), (leechers[0], 10)] {
        let file = sim.recording(host).unwrap();
        let seen = replay::replay(file).unwrap();
        assert!(seen.inputs > 20 && seen.outputs > 20, "{seen:?}");
        assert_eq!(seen.output_hash, sim.output_hash(host));
        // Not every bit of an input matters (a microsecond here, a far node's id there); every
        // byte of a block does.
        let noticed = (1..=20).filter(|part| {
            let mut wrong = file.to_vec();
            let at = file.len() * part / 21;
            wrong[at] ^= 1;
            replay::replay(&wrong).map(|seen| seen.output_hash) != Ok(sim.output_hash(host))
        });
        let noticed = noticed.count();
        assert!(
            noticed >= enough,
            "{host:?}: {noticed} of 20 flipped bytes change anything"
        );
    }
}

#[test]
fn twenty_engines_behind_a_hundred_node_dht_with_a_magnet_link_only() {
    let report = scenario::find("magnet").unwrap().run(7);
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.completed.len(), 19);
    assert!(report.found_by_dht > 0);
    assert!(
        report.elapsed < Duration::from_secs(60),
        "{:?}",
        report.elapsed
    );
}

#[test]
fn a_tenth_of_all_datagrams_lost_delays_but_stops_nobody() {
    let report = scenario::find("lossy").unwrap().run(1);
    assert_eq!(report.failures, Vec::<String>::new());
}
