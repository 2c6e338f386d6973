//! The built-in scenarios, each with the property it exists for.

use std::time::Duration;

use super::{
    AccessLaw, Action, Addresses, Arrivals, Churn, Contact, ContentSpec, DelayLaw, Group, Join,
    NatLaw, NetworkSpec, Rate, Role, Scenario, Share, Size, SourceKind, Step,
};
use crate::property::{Rule, What};

/// All built-in scenarios, in order of their names.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        churn(),
        demo(),
        dht_bootstrap(),
        dht_lookup(),
        flash_crowd(),
        lossy(),
        magnet(),
        nat_mix(),
        partition_heal(),
        pex_only(),
        poisoned(),
        private(),
        restart_storm(),
        rush(),
        seed_leaves_at_99(),
    ]
}

/// The built-in scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many nodes that join one after the other, each through one that was there before.
fn nodes(count: u32) -> Group {
    Group {
        through: "nodes".into(),
        contact: Contact::Earlier,
        join: Join {
            every: millis(20),
            ..Join::default()
        },
        ..Group::new("nodes", Role::Node, count)
    }
}

/// Hosts that join through those nodes and share.
fn sharing(name: &str, role: Role, count: u32, after: Duration, every: Duration) -> Group {
    Group {
        through: "nodes".into(),
        join: Join {
            after,
            every,
            ..Join::default()
        },
        ..Group::new(name, role, count)
    }
}

/// A DHT of so many nodes, a seed, and leechers that come when it has settled.
fn behind_a_dht(name: &str, about: &str, count: u32, leechers: u32) -> Scenario {
    let settled = millis(u64::from(count) * 20 + 2_000);
    Scenario {
        about: about.into(),
        groups: vec![
            nodes(count),
            sharing("seeds", Role::Seed, 1, settled, Duration::ZERO),
            sharing(
                "leechers",
                Role::Leech,
                leechers,
                settled + secs(3),
                millis(50),
            ),
        ],
        properties: vec![Rule::never(What::PiecesFailed, "leechers")],
        ..Scenario::named(name)
    }
}

fn demo() -> Scenario {
    let about = "30 DHT nodes, one seed, five leechers with a magnet link";
    behind_a_dht("demo", about, 30, 5)
}

fn magnet() -> Scenario {
    let about = "20 engines behind a DHT of 100 nodes, with a magnet link and nothing else";
    Scenario {
        shows: "eventually(found-by-dht leechers)".into(),
        properties: vec![
            Rule::eventually(What::FoundByDht, "leechers"),
            Rule::never(What::PiecesFailed, "leechers"),
        ],
        ..behind_a_dht("magnet", about, 100, 19)
    }
}

fn lossy() -> Scenario {
    Scenario {
        network: NetworkSpec {
            loss: Share::percent(10),
            ..NetworkSpec::default()
        },
        within: secs(300),
        ..behind_a_dht(
            "lossy",
            "the same as magnet with one datagram in ten lost",
            100,
            19,
        )
    }
}

fn flash_crowd() -> Scenario {
    let about =
        "60 leechers come within seconds, for one seed whose uplink is no faster than theirs";
    let mut scenario = Scenario {
        content: ContentSpec {
            size: Size(4 << 20),
            piece: Size(1 << 16),
            private: false,
        },
        shows: "as-fast-as-a-swarm".into(),
        within: secs(300),
        ..behind_a_dht("flash-crowd", about, 20, 60)
    };
    for name in ["seeds", "leechers"] {
        if let Some(group) = scenario.group_mut(name) {
            group.up = Rate::mbit(10);
        }
    }
    // The seed alone would need 60 times 3.4 s, 201 s.
    scenario.properties.push(Rule {
        name: "as-fast-as-a-swarm".into(),
        ..Rule::eventually(What::Complete, "leechers").within(secs(60))
    });
    scenario
}

fn rush() -> Scenario {
    let join = |group: Group, after, every| Group {
        contact: if group.role == Role::Node {
            Contact::First
        } else {
            Contact::Spread
        },
        join: Join {
            after,
            every,
            ..Join::default()
        },
        ..group
    };
    Scenario {
        about: "a busy machine: 30 nodes join at once through the first, then a seed and five \
                leechers come"
            .into(),
        addresses: Addresses::Shared,
        network: NetworkSpec {
            min_delay: Duration::from_micros(50),
            max_delay: Duration::from_micros(200),
            delay: DelayLaw::Even,
            jitter: millis(100),
            loss: Share::percent(1),
        },
        within: secs(20),
        groups: vec![
            join(nodes(30), Duration::ZERO, millis(1)),
            join(
                sharing("seeds", Role::Seed, 1, secs(1), secs(0)),
                secs(1),
                secs(0),
            ),
            join(
                sharing("leechers", Role::Leech, 5, secs(1), secs(0)),
                millis(1_500),
                millis(50),
            ),
        ],
        ..behind_a_dht("rush", "", 30, 5)
    }
}

/// A group whose engines have neither a DHT nor local discovery.
fn without_dht(group: Group) -> Group {
    group.with_config(|config| {
        config.dht.enabled = false;
        config.lsd.enabled = false;
    })
}

fn pex_only() -> Scenario {
    let known = Group {
        source: SourceKind::Torrent,
        finishes: false,
        knows: vec!["seeds".into()],
        join: Join {
            after: millis(200),
            ..Join::default()
        },
        ..Group::new("known", Role::Leech, 1)
    };
    Scenario {
        about:
            "no DHT: five leechers know one host that has nothing, and learn of the seed from it"
                .into(),
        shows: "eventually(found-by-pex leechers)".into(),
        content: ContentSpec {
            piece: Size(1 << 18),
            ..ContentSpec::default()
        },
        groups: vec![
            // It connects to nobody and would not know to whom.
            without_dht(Group {
                join: Join {
                    after: millis(100),
                    ..Join::default()
                },
                ..Group::new("seeds", Role::Seed, 1)
            })
            .with_config(|config| config.pex.enabled = false),
            // No piece arrives there in the time this takes, and none would leave.
            without_dht(known).with_config(|config| {
                config.limits.download_rate = 2_048;
                config.limits.upload_rate = 1;
            }),
            without_dht(Group {
                knows: vec!["known".into()],
                join: Join {
                    after: secs(2),
                    every: millis(50),
                    ..Join::default()
                },
                ..Group::new("leechers", Role::Leech, 5)
            }),
        ],
        properties: vec![Rule::eventually(What::FoundByPex, "leechers")],
        ..Scenario::named("pex-only")
    }
}

fn poisoned() -> Scenario {
    let mut scenario = Scenario {
        about: "one seed in three lies now and then: it is banned, and nobody else".into(),
        shows: "eventually(banned-by liars)".into(),
        content: ContentSpec {
            size: Size(2 << 20),
            piece: Size(1 << 18),
            private: false,
        },
        properties: vec![
            Rule::eventually(What::BannedBy, "liars"),
            Rule::never(What::BansOfHonest, ""),
        ],
        ..behind_a_dht("poisoned", "", 20, 6)
    };
    let settled = scenario.groups[1].join.after;
    scenario.groups[1].count = 2;
    let liars = Group {
        lies: 7,
        ..sharing("liars", Role::Seed, 1, settled, Duration::ZERO)
    };
    scenario.groups.insert(2, liars);
    scenario
}

fn private() -> Scenario {
    let mut scenario = behind_a_dht(
        "private",
        "a private torrent among nodes of a DHT: its peers know each other, and tell nobody",
        20,
        5,
    );
    scenario.shows = "private".into();
    scenario.content.private = true;
    // Long enough for whatever would be told to be told.
    scenario.linger = secs(120);
    for group in scenario.groups.iter_mut().skip(1) {
        group.source = SourceKind::Torrent;
        group.knows = vec!["seeds".into()];
    }
    scenario
}

fn dht_bootstrap() -> Scenario {
    let mut scenario = Scenario {
        about: "a DHT that begins with one node: 200 join it one after the other".into(),
        shows: "eventually(joined nodes)".into(),
        groups: vec![nodes(200)],
        // The first is alone, and learns that others came from them.
        properties: vec![Rule {
            share: Some(Share::percent(99)),
            ..Rule::eventually(What::Joined, "nodes").within(secs(60))
        }],
        ..Scenario::named("dht-bootstrap")
    };
    scenario.within = secs(180);
    scenario
}

fn dht_lookup() -> Scenario {
    let mut scenario = Scenario {
        about: "50 nodes of a DHT of 300 look up the peers of a torrent, each ten times".into(),
        shows: "quick-lookups".into(),
        ..behind_a_dht("dht-lookup", "", 250, 0)
    };
    let settled = scenario.groups[1].join.after;
    scenario.groups.truncate(2);
    scenario
        .groups
        .push(sharing("askers", Role::Node, 50, settled, millis(10)));
    scenario.timeline = vec![Step {
        at: settled + secs(20),
        action: Action::Lookup,
        hosts: "askers".into(),
        times: 10,
        every: secs(3),
        ..Step::default()
    }];
    scenario.properties = vec![
        Rule {
            name: "quick-lookups".into(),
            ..Rule::always(What::LookupMillis, "askers").at_most(3_000)
        },
        Rule::eventually(What::Lookups, "askers").at_least(10),
        Rule::never(What::LookupsEmpty, "askers"),
    ];
    scenario
}

fn seed_leaves_at_99() -> Scenario {
    let mut scenario = Scenario {
        about: "the only seed leaves when the first leecher has 99 % of the content".into(),
        shows: "finish".into(),
        content: ContentSpec {
            size: Size(4 << 20),
            piece: Size(1 << 15),
            private: false,
        },
        timeline: vec![Step {
            action: Action::Leave,
            hosts: "seeds".into(),
            when_done: Share::percent(99),
            ..Step::default()
        }],
        ..behind_a_dht("seed-leaves-at-99", "", 20, 12)
    };
    for name in ["seeds", "leechers"] {
        if let Some(group) = scenario.group_mut(name) {
            group.up = Rate::mbit(10);
        }
    }
    scenario
}

fn churn() -> Scenario {
    let mut scenario = Scenario {
        about: "nodes of the DHT go after minutes and come back; leechers come all the while"
            .into(),
        within: secs(900),
        churn: Some(Churn {
            hosts: "nodes".into(),
            after: secs(10),
            session: secs(120),
            pause: secs(60),
            power_cuts: Share::percent(20),
        }),
        ..behind_a_dht("churn", "", 60, 20)
    };
    if let Some(leechers) = scenario.group_mut("leechers") {
        leechers.join.every = secs(20);
        leechers.join.law = Arrivals::Poisson;
        // One in three is away at any time.
        leechers.contacts = 8;
    }
    scenario
}

fn nat_mix() -> Scenario {
    let mut scenario = Scenario {
        about: "leechers behind translators as people have them, on links as people have them"
            .into(),
        within: secs(300),
        network: NetworkSpec {
            delay: DelayLaw::Internet2025,
            ..NetworkSpec::default()
        },
        ..behind_a_dht("nat-mix", "", 40, 30)
    };
    if let Some(leechers) = scenario.group_mut("leechers") {
        leechers.nat = NatLaw::Mix;
        leechers.access = AccessLaw::Access2025;
    }
    scenario
}

fn partition_heal() -> Scenario {
    let mut scenario = Scenario {
        about: "leechers are cut off from everybody else while they download, for 20 seconds"
            .into(),
        within: secs(300),
        content: ContentSpec {
            size: Size(8 << 20),
            ..ContentSpec::default()
        },
        ..behind_a_dht("partition-heal", "", 30, 12)
    };
    for name in ["seeds", "leechers"] {
        if let Some(group) = scenario.group_mut(name) {
            group.up = Rate::mbit(10);
        }
    }
    scenario.timeline = vec![Step {
        at: secs(8),
        action: Action::Cut,
        hosts: "leechers".into(),
        lasting: secs(20),
        ..Step::default()
    }];
    scenario
}

fn restart_storm() -> Scenario {
    let mut scenario = Scenario {
        about:
            "half of the leechers, then all of them, and the seed lose their power and start again"
                .into(),
        within: secs(300),
        content: ContentSpec {
            size: Size(8 << 20),
            ..ContentSpec::default()
        },
        ..behind_a_dht("restart-storm", "", 20, 10)
    };
    for name in ["seeds", "leechers"] {
        if let Some(group) = scenario.group_mut(name) {
            group.up = Rate::mbit(10);
        }
    }
    let cut = |at, hosts: &str, share, action| Step {
        at: secs(at),
        action,
        hosts: hosts.into(),
        share,
        lasting: secs(2),
        ..Step::default()
    };
    scenario.timeline = vec![
        cut(7, "leechers", Some(Share::percent(50)), Action::Crash),
        cut(10, "leechers", None, Action::PowerCut),
        cut(13, "seeds", None, Action::PowerCut),
    ];
    scenario
}
