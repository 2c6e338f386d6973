//! Every built-in scenario holds, and the property it exists for can fail: something is broken on
//! purpose, and that property alone does.

use trackerless_sim::scenario;

/// What is broken in each.
const BROKEN: &[(&str, &[&str])] = &[
    // All nodes of the DHT go, and none comes back in time.
    (
        "churn",
        &[
            "churn.session=1ms",
            "churn.pause=1d",
            "groups.leechers.join.after=60s",
        ],
    ),
    // Nobody is told of the seed.
    ("demo", &["groups.leechers.config.dht.enabled=false"]),
    // Nodes hear of nobody.
    ("dht-bootstrap", &["network.loss=99%"]),
    // A network on which two questions take longer than all of a lookup may.
    (
        "dht-lookup",
        &["network.min-delay=400ms", "network.max-delay=800ms"],
    ),
    // Leechers take and do not give.
    (
        "flash-crowd",
        &["groups.leechers.config.limits.upload-rate=1"],
    ),
    // More is lost than anybody could repeat.
    ("lossy", &["network.loss=99%"]),
    // They complete, but not by the DHT.
    (
        "magnet",
        &[
            "groups.leechers.config.dht.enabled=false",
            "groups.leechers.knows=[\"seeds\"]",
        ],
    ),
    // Behind translators of this kind nobody can be called, the seed neither.
    (
        "nat-mix",
        &[
            "groups.leechers.nat=symmetric",
            "groups.seeds.nat=symmetric",
        ],
    ),
    // The cut is forever.
    ("partition-heal", &["timeline.0.lasting=1h"]),
    (
        "pex-only",
        &[
            "groups.leechers.config.pex.enabled=false",
            "groups.leechers.knows=[\"seeds\"]",
        ],
    ),
    // Nobody lies, so nobody is banned.
    ("poisoned", &["groups.liars.lies=0"]),
    // The torrent does not say what it is.
    ("private", &["content.private=false", "pack.private=all"]),
    // The seed never comes back, and leechers had no time to get all from it.
    (
        "restart-storm",
        &["timeline.2.at=8s", "timeline.2.lasting=0s"],
    ),
    // A machine so busy that answers come after everybody stopped waiting.
    ("rush", &["network.jitter=60s"]),
    // The seed leaves when nobody could go on without it.
    ("seed-leaves-at-99", &["timeline.0.when-done=10%"]),
];

#[test]
fn every_built_in_is_broken_here() {
    let broken: Vec<_> = BROKEN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all: Vec<_> = scenario::all().into_iter().map(|it| it.name).collect();
    assert_eq!(broken, all);
}

#[test]
fn every_built_in_holds() {
    for scenario in scenario::all() {
        let report = scenario.run(11);
        assert_eq!(report.failures, [], "{}", scenario.name);
    }
}

#[test]
fn what_is_broken_fails_the_property_that_its_scenario_is_for() {
    for (name, changes) in BROKEN {
        let scenario = scenario::find(name).unwrap();
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        let broken = scenario.with(&changes).unwrap();
        let failures = broken.run(11).failures;
        let mut failed: Vec<_> = failures.iter().map(|failure| &failure.property).collect();
        failed.dedup();
        assert_eq!(failed, [&scenario.shows], "{name}: {failures:#?}");
    }
}
