use super::*;
use crate::property::{Kind, Privacy};
use quickcheck::{Arbitrary, Gen, quickcheck};

fn of<T: Copy>(g: &mut Gen, all: &[T]) -> T {
    *g.choose(all).unwrap()
}

fn time(g: &mut Gen) -> Duration {
    Duration::from_micros(u64::from(u32::arbitrary(g)) * 1_000)
}

fn text(g: &mut Gen) -> String {
    String::arbitrary(g)
}

fn group(g: &mut Gen, name: String, names: &[String]) -> Group {
    let mut group = Group {
        name,
        count: u32::arbitrary(g) % 1_000,
        role: of(g, &[Role::Node, Role::Seed, Role::Leech]),
        source: of(g, &[SourceKind::Magnet, SourceKind::Torrent]),
        finishes: bool::arbitrary(g),
        join: Join {
            after: time(g),
            every: time(g),
            law: of(g, &[Arrivals::Even, Arrivals::Poisson]),
        },
        through: g.choose(names).unwrap().clone(),
        contact: of(g, &[Contact::Spread, Contact::First, Contact::Earlier]),
        contacts: u32::arbitrary(g),
        knows: names
            .iter()
            .filter(|_| bool::arbitrary(g))
            .cloned()
            .collect(),
        up: Rate(u64::arbitrary(g)),
        down: Rate(u64::arbitrary(g)),
        access: of(g, &[AccessLaw::Own, AccessLaw::Access2025]),
        buffer: time(g),
        loss: Share(u32::arbitrary(g) % 1_000_001),
        bursts: bool::arbitrary(g),
        reorder: Share(u32::arbitrary(g) % 1_000_001),
        duplicate: Share(u32::arbitrary(g) % 1_000_001),
        corrupt: Share(u32::arbitrary(g) % 1_000_001),
        nat: of(g, &[NatLaw::None, NatLaw::Symmetric, NatLaw::Mix]),
        lies: u32::arbitrary(g),
        config: Group::default().config,
    };
    group.config.dht.enabled = bool::arbitrary(g);
    group.config.swarm.upload_slots = 2 + u16::arbitrary(g) % 7;
    group.config.wire.idle_timeout += time(g);
    group.config.client = "Ünï \"cödé\"\n".into();
    group.config.limits.incoming_crowding.per_address = 1 + u16::arbitrary(g) % 5;
    group
}

impl Arbitrary for Scenario {
    fn arbitrary(g: &mut Gen) -> Self {
        let count = usize::arbitrary(g) % 4 + 1;
        let mut names: Vec<String> = (0..count).map(|at| format!("{at}{}", text(g))).collect();
        names.dedup();
        let groups = names
            .iter()
            .map(|name| group(g, name.clone(), &names))
            .collect();
        let step = |g: &mut Gen| Step {
            at: time(g),
            when_done: Share(u32::arbitrary(g) % 1_000_001),
            action: of(g, &[Action::Lookup, Action::Leave, Action::PowerCut]),
            hosts: g.choose(&names).unwrap().clone(),
            loss: Share(u32::arbitrary(g) % 1_000_001),
            share: Option::<u32>::arbitrary(g).map(|ppm| Share(ppm % 1_000_001)),
            blocks: of(g, &[Direction::Both, Direction::Inward]),
            lasting: time(g),
            times: u32::arbitrary(g),
            every: time(g),
        };
        let rule = |g: &mut Gen| Rule {
            name: text(g),
            kind: Kind::Eventually,
            what: of(g, &[What::Complete, What::LookupMillis, What::BansOfHonest]),
            hosts: String::new(),
            share: Option::<u32>::arbitrary(g).map(|ppm| Share(ppm % 1_000_001)),
            at_least: Option::arbitrary(g),
            at_most: None,
            within: bool::arbitrary(g).then(|| time(g)),
            after: Duration::ZERO,
        };
        let least = time(g);
        Self {
            name: text(g),
            about: text(g),
            shows: text(g),
            seed: u64::arbitrary(g),
            within: time(g),
            linger: time(g),
            addresses: of(g, &[Addresses::Own, Addresses::Shared]),
            network: NetworkSpec {
                min_delay: least,
                max_delay: least + time(g),
                delay: of(g, &[DelayLaw::Even, DelayLaw::Internet2025]),
                jitter: time(g),
                loss: Share(u32::arbitrary(g) % 1_000_001),
            },
            content: ContentSpec {
                size: Size(u64::from(u32::arbitrary(g)) + 1),
                piece: Size(1 << (14 + u32::arbitrary(g) % 14)),
                private: bool::arbitrary(g),
            },
            churn: bool::arbitrary(g).then(|| Churn {
                session: time(g),
                ..Churn::default()
            }),
            timeline: (0..usize::arbitrary(g) % 3).map(|_| step(g)).collect(),
            properties: (0..usize::arbitrary(g) % 3).map(|_| rule(g)).collect(),
            groups,
            pack: Pack {
                slots: bool::arbitrary(g),
                private: of(g, &[Privacy::Off, Privacy::Marked, Privacy::All]),
                max_unchoked: Option::arbitrary(g),
                max_memory: Option::<u32>::arbitrary(g).map(|size| Size(size.into())),
                ..Pack::default()
            },
        }
    }
}

use crate::property::What;

quickcheck! {
    fn what_is_printed_reads_back_equal(scenario: Scenario) -> bool {
        let text = scenario.to_toml();
        let back = Scenario::parse(&text);
        assert_eq!(back.as_ref(), Ok(&scenario), "{text}");
        true
    }
}

#[test]
fn every_built_in_is_right_and_reads_back_equal() {
    let all = all();
    assert!(all.is_sorted_by_key(|scenario| scenario.name.clone()));
    for scenario in all {
        assert_eq!(scenario.check(), Ok(()), "{}", scenario.name);
        assert!(!scenario.about.is_empty(), "{}", scenario.name);
        let text = scenario.to_toml();
        assert_eq!(Scenario::parse(&text), Ok(scenario.clone()), "{text}");
        // It names a property that it has.
        let rules = scenario.properties.iter().map(Rule::title);
        let pack = ["finish", "private"].into_iter().map(String::from);
        assert!(
            rules.chain(pack).any(|name| name == scenario.shows),
            "{}",
            scenario.name
        );
    }
}

/// Hosts of every kind of address find each other, those of the open Internet without the
/// allowances of a lab.
#[test]
fn the_demo_holds_with_every_kind_of_address() {
    for addresses in [Addresses::V6, Addresses::Public] {
        let mut scenario = find("demo").unwrap();
        scenario.addresses = addresses;
        for group in &mut scenario.groups {
            group.config.lab = addresses != Addresses::Public;
        }
        let report = scenario.run(3);
        assert_eq!(report.failures, [], "{addresses:?}");
        assert!(report.results.found_by("dht") > 0);
        let addrs: std::collections::BTreeSet<_> = scenario.addrs().into_iter().collect();
        assert_eq!(addrs.len(), 36);
    }
    // There the rule about answers to strangers is about everybody.
    let mut scenario = find("demo").unwrap();
    scenario.addresses = Addresses::Public;
    scenario.pack.max_amplification = Some(1);
    for group in &mut scenario.groups {
        group.config.lab = false;
    }
    let failures = scenario.run(3).failures;
    assert!(!failures.is_empty());
    assert!(
        failures
            .iter()
            .all(|failure| failure.property == "amplification"),
        "{failures:?}"
    );
}

/// The example in the manual is a scenario, and all that rules can be about is named.
#[test]
fn the_manuals_scenario_is_one() {
    let manual = include_str!("../../../docs/simulator.md");
    let (_, rest) = manual.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let scenario = Scenario::parse(example).unwrap();
    assert_eq!(scenario.groups.len(), 3);
    assert_eq!(scenario.timeline.len(), 2);
    // Every figure and property that the manual names is there, and none is left out.
    for what in What::NAMES {
        assert!(manual.contains(&format!("`{what}`")), "{what}");
    }
}

fn said(text: &str) -> String {
    match Scenario::parse(text) {
        Ok(scenario) => panic!("{text:?} reads as {scenario:?}"),
        Err(wrong) => wrong.in_file(Path::new("x.toml")).to_string(),
    }
}

#[test]
fn what_is_wrong_is_told_with_line_key_and_what_was_expected() {
    for (text, expected) in [
        (
            "nam = \"x\"",
            "x.toml:1: nam: unknown key; did you mean \"name\"?",
        ),
        (
            "[network]\nmin-delay = \"1ms\"\n\njiter = \"2ms\"",
            "x.toml:4: network.jiter: unknown key; did you mean \"jitter\"?",
        ),
        (
            "within = 20",
            "x.toml:1: within: expected a time as \"20ms\", \"1.5s\" or \"2h\", not 20",
        ),
        (
            "[[groups]]\nname = \"seeds\"\nrole = \"sed\"",
            "x.toml:3: groups.seeds.role: expected \"seed\" (perhaps), not \"sed\"",
        ),
        (
            "[[groups]]\nname = \"a\"\ncount = -1",
            "x.toml:3: groups.a.count: expected a whole number from 0 to 4294967295, not -1",
        ),
        (
            "[[groups]]\nname = \"a\"\n[groups.config.swarm]\nuplod-slots = 3",
            "x.toml:4: groups.a.config.swarm.uplod-slots: unknown key; did you mean \"upload-slots\"?",
        ),
        (
            "[[groups]]\nname = \"a\"\n[groups.config.dht]\nalpha = 99",
            "x.toml:4: groups.a.config.dht.alpha: expected 1 to 32",
        ),
        (
            "[[groups]]\nname = \"leechers\"\nthrough = \"leecher\"",
            "x.toml:3: groups.leechers.through: a group: there is no \"leecher\"; did you mean \
             \"leechers\"?",
        ),
        ("content = 3", "x.toml:1: content: expected a table, not 3"),
        (
            "[content]\npiece = \"3KiB\"",
            "x.toml:2: content.piece: expected a power of two",
        ),
        (
            "[[properties]]\nkind = \"allways\"",
            "x.toml:2: properties.0.kind: expected \"always\"",
        ),
        ("a = ", "x.toml:1: "),
    ] {
        let said = said(text);
        assert!(said.starts_with(expected), "{text:?} says {said:?}");
    }
}

#[test]
fn values_can_be_changed_by_their_keys() {
    let demo = find("demo").unwrap();
    let set = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        demo.with(&changes).map_err(|wrong| wrong.to_string())
    };
    let changed = set(&[
        "groups.leechers.count=7",
        "network.loss = 5%",
        "groups.leechers.config.pex.enabled=false",
        "properties.0.name=calm",
        "pack.max-unchoked=3",
    ])
    .unwrap();
    let group = changed.group("leechers").unwrap();
    assert_eq!((group.count, group.config.pex.enabled), (7, false));
    assert_eq!(changed.network.loss, Share::percent(5));
    assert_eq!(changed.properties[0].name, "calm");
    assert_eq!(changed.pack.max_unchoked, Some(3));
    assert_eq!(set(&[]).unwrap(), demo);
    for (change, says) in [
        (
            "groups.leecher.count=7",
            "--set groups.leecher.count=7: groups.leecher: there is no",
        ),
        ("groups.leechers.cont=7", "did you mean \"count\"?"),
        ("groups.leechers.count=x", "expected a whole number"),
        ("network", "expected KEY=VALUE"),
        ("network.loss.x=1", "expected"),
        ("groups.seeds.config.dht.alpha=99", "expected 1 to 32"),
    ] {
        let said = set(&[change]).unwrap_err();
        assert!(said.contains(says), "{change}: {said}");
    }
}
