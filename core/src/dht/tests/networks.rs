//! Networks of whole nodes.

use core::net::SocketAddr;
use std::vec::Vec;

use super::target;
use super::world::{Network, V4};
use crate::config::Config;
use crate::dht::node::Single;
use crate::dht::{AnnouncePort, Event, Input, Lookup, security};
use crate::event::Found;
use crate::time::Duration;

/// Nodes good in the table of each host from `first` on, fewest first.
fn tables(net: &Network, first: usize, v6: bool) -> Vec<u32> {
    let sizes = net.hosts[first..].iter();
    let mut sizes: Vec<_> = sizes.map(|host| host.dht.good_nodes(v6)).collect();
    sizes.sort_unstable();
    sizes
}

/// A host that is none of the first `routers`.
fn any(net: &mut Network, routers: usize) -> usize {
    routers + net.choice.index(net.hosts.len() - routers)
}

#[test]
fn fifty_that_join_at_once_find_what_any_other_announced() {
    for seed in 0..6 {
        let routers = 1 + usize::from(seed % 2);
        let mut net = Network::joined(seed, routers, 50, 0, (true, false));
        net.run(Duration::from_secs(5));
        let sizes = tables(&net, routers, false);
        assert!(sizes[0] >= 16, "seed {seed}: {sizes:?}");
        let mut joined = net.hosts[routers..].iter();
        assert!(joined.all(|host| host.dht.is_bootstrapped()));
        for port in 7_000..7_010 {
            let (a, b) = (any(&mut net, routers), any(&mut net, routers));
            let hash = net.random_id();
            let (_, stored) = net.lookup(a, Lookup::Announce(hash, AnnouncePort::Given(port)));
            assert_eq!(stored.results, 8, "seed {seed}: {stored:?}");
            let (found, summary) = net.lookup(b, Lookup::GetPeers(hash));
            assert_eq!(found, [net.peer(a, false, port)], "seed {seed} {a} {b}");
            assert!(summary.elapsed < Duration::from_secs(1), "{summary:?}");
        }
        // Refreshing brings the rest.
        net.run(Duration::from_secs(120));
        let sizes = tables(&net, routers, false);
        assert!(sizes[0] >= 45, "seed {seed}: {sizes:?}");
    }
}

#[test]
fn an_announce_of_the_first_moment_is_repeated_once_and_found_by_all() {
    for seed in 0..6 {
        let mut net = Network::joined(seed, 1, 50, 0, (true, false));
        // Everybody only just heard of the router: it waits until somebody else is known, and
        // tells on how few it is stored.
        let hash = net.random_id();
        let (_, first) = net.lookup(1, Lookup::Announce(hash, AnnouncePort::Given(80)));
        assert!(first.results >= 1, "seed {seed}: {first:?}");
        net.run(Duration::from_secs(2));
        let (_, second) = net.lookup(1, Lookup::Announce(hash, AnnouncePort::Given(80)));
        assert_eq!(second.results, 8, "seed {seed}: {second:?}");
        for n in 2..51 {
            let (found, summary) = net.lookup(n, Lookup::GetPeers(hash));
            assert_eq!(found, [net.peer(1, false, 80)], "seed {seed}: {summary:?}");
        }
    }
}

#[test]
fn a_lookup_ends_at_the_eight_closest_nodes_there_are() {
    for (seed, count) in [(0, 100), (1, 120), (2, 150), (3, 200), (4, 200)] {
        let mut net = Network::joined(seed, 2, count, 0, (true, false));
        net.run(Duration::from_secs(10));
        let (mut queries, mut hops) = (0, 0);
        for _ in 0..20 {
            let (target, n) = (net.random_id(), any(&mut net, 2));
            let closest = net.closest(&target, false, 2, n);
            let expected: Vec<_> = closest
                .iter()
                .map(|(id, addr)| Found::Node(*id, *addr))
                .collect();
            let (found, summary) = net.lookup(n, Lookup::FindNode(target));
            assert_eq!(
                found, expected,
                "seed {seed}: {n} for {target}: {summary:?}"
            );
            queries = queries.max(summary.queries);
            hops = hops.max(summary.hops);
            assert!(summary.hops >= 1, "seed {seed}: {summary:?}");
            // The same holds of get_peers: its tokens are those of the same eight.
            let (_, summary) = net.lookup(n, Lookup::Announce(target, AnnouncePort::AsSeen));
            assert_eq!(summary.results, 8, "{summary:?}");
            let holders = net.hosts.iter().filter(|host| {
                let store = &host.dht.families[0].store;
                store.has_peers(&target, host.dht.seconds())
            });
            let mut holders: Vec<_> = holders.map(|host| host.addr(false)).collect();
            let mut expected: Vec<_> = closest.iter().map(|(_, addr)| *addr).collect();
            holders.sort_unstable();
            expected.sort_unstable();
            assert_eq!(holders, expected, "seed {seed}: {n} for {target}");
        }
        assert!(queries <= 40, "seed {seed}: {queries}");
        // Nobody has all of them in the table, and everybody is told of the rest soon.
        assert!((2..=5).contains(&hops), "seed {seed}: {hops}");
    }
}

#[test]
fn lookups_end_at_the_closest_with_a_twentieth_of_all_datagrams_lost() {
    let (mut right, mut of) = (0, 0);
    for seed in 0..4 {
        let mut net = Network::joined(seed, 2, 100, 50, (true, false));
        net.run(Duration::from_secs(30));
        for _ in 0..20 {
            let (target, n) = (net.random_id(), any(&mut net, 2));
            let closest = net.closest(&target, false, 2, n);
            let (found, _) = net.lookup(n, Lookup::FindNode(target));
            assert!(found.len() >= 6, "{found:?}");
            let hits = closest.iter();
            right += hits
                .filter(|(id, addr)| found.contains(&Found::Node(*id, *addr)))
                .count();
            of += closest.len();
        }
    }
    // One query in ten is not answered. One node in a hundred leaves both of its own unanswered,
    // and another is told of by nobody who could, since it left theirs unanswered just before.
    assert!(right * 100 >= of * 97, "{right} of {of}");
}

#[test]
fn a_saved_table_is_loaded_whole_and_without_a_storm() {
    let config = Config::default().dht;
    let mut net = Network::joined(7, 1, 200, 0, (true, false));
    net.run(Duration::from_secs(120));
    let saved = net.saved(7);
    let known = net.hosts[7].dht.good_nodes(false);
    assert!(known >= 100, "{known}");
    let new = net.add(Config::default(), true, false);
    net.input(new, Input::Load(&saved));
    // One at a time, each after the shortest pause there can be or half as much again.
    net.run(config.ping_interval * known * 3 / 2 + config.query_timeout);
    let host = &net.hosts[new];
    assert!(host.dht.is_bootstrapped());
    let loaded = host.dht.good_nodes(false);
    // A few of the other's places are none of ours, since our id is another by now.
    assert!(loaded * 100 >= known * 95, "{loaded} of {known}");
    let second = Duration::from_secs(1).as_millis() / config.ping_interval.as_millis();
    let lookups = 3 * 40;
    assert!(host.busiest(Duration::from_secs(1)) <= second as usize + lookups);
    net.input(new, Input::Load(b"d5:nodes"));
    let refused = Event::BadState("not a saved routing table");
    assert!(net.hosts[new].events.contains(&refused));
}

#[test]
fn networks_that_restart_at_once_are_back_soon_and_make_no_storm() {
    let config = Config::default().dht;
    for count in [21, 60, 200] {
        let mut net = Network::joined(3, 1, count, 0, (true, false));
        net.run(Duration::from_secs(120));
        let before = tables(&net, 1, false);
        let saved: Vec<_> = (0..=count).map(|n| net.saved(n)).collect();
        let ids: Vec<_> = net.hosts.iter().map(|h| h.dht.node_id(false)).collect();
        for (n, saved) in saved.iter().enumerate() {
            net.restart(n, Config::default());
            net.input(n, Input::Load(saved));
            assert_eq!(net.hosts[n].dht.node_id(false), ids[n], "an id is kept");
        }
        net.run(Duration::from_secs(10));
        let after = tables(&net, 1, false);
        assert!(after[0] >= before[0], "{before:?} {after:?}");
        for host in &net.hosts {
            // Half of what the budget would allow.
            let busiest = host.busiest(Duration::from_secs(1));
            assert!(
                busiest <= usize::from(config.queries_per_second) / 2,
                "{busiest}"
            );
        }
        let (target, n) = (net.random_id(), any(&mut net, 1));
        let (found, _) = net.lookup(n, Lookup::FindNode(target));
        let closest = net.closest(&target, false, 0, n);
        let right = closest.iter();
        let right = right.filter(|(id, addr)| found.contains(&Found::Node(*id, *addr)));
        assert_eq!(right.count(), 8);
    }
}

#[test]
fn both_families_are_walked_at_once() {
    for seed in 0..3 {
        let mut net = Network::joined(seed, 1, 60, 0, (true, true));
        net.run(Duration::from_secs(10));
        for v6 in [false, true] {
            let sizes = tables(&net, 1, v6);
            assert!(sizes[0] >= 25, "seed {seed}: {sizes:?}");
        }
        for port in 80..85 {
            let (a, b, hash) = (any(&mut net, 1), any(&mut net, 1), net.random_id());
            let (_, summary) = net.lookup(a, Lookup::Announce(hash, AnnouncePort::Given(port)));
            assert_eq!(summary.results, 16, "eight in each family: {summary:?}");
            let (found, _) = net.lookup(b, Lookup::GetPeers(hash));
            let both = [net.peer(a, false, port), net.peer(a, true, port)];
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(both.iter().all(|peer| found.contains(peer)), "{found:?}");
            let (found, _) = net.lookup(b, Lookup::FindNode(hash));
            for v6 in [false, true] {
                for (id, addr) in net.closest(&hash, v6, 1, b) {
                    assert!(found.contains(&Found::Node(id, addr)), "seed {seed} {addr}");
                }
            }
        }
    }
}

#[test]
fn a_node_of_one_family_is_served_by_those_of_both_and_told_of_its_own() {
    let mut net = Network::joined(5, 1, 30, 0, (true, true));
    net.run(Duration::from_secs(10));
    let new = net.add(Config::default(), false, true);
    let contact = net.hosts[3].addr(true);
    net.input(new, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(10));
    let dht = &net.hosts[new].dht;
    assert!(
        dht.good_nodes(true) >= 20 && dht.good_nodes(false) == 0,
        "{dht:?}"
    );
    let hash = net.random_id();
    let (_, summary) = net.lookup(new, Lookup::Announce(hash, AnnouncePort::AsSeen));
    assert_eq!(summary.results, 8);
    let (found, _) = net.lookup(9, Lookup::GetPeers(hash));
    assert_eq!(found, [net.peer(new, true, 6881)]);
}

#[test]
fn after_an_outage_lookups_begin_with_those_who_failed() {
    let mut net = Network::joined(2, 1, 40, 0, (true, false));
    net.run(Duration::from_secs(30));
    // Everybody else is out of reach for so long that every contact failed.
    net.dead.extend((0..net.hosts.len()).filter(|n| *n != 7));
    net.run(Duration::from_secs(600));
    assert_eq!(net.hosts[7].dht.good_nodes(false), 0);
    net.revive();
    let target = net.random_id();
    let (found, summary) = net.lookup(7, Lookup::FindNode(target));
    assert_eq!(found.len(), 8, "{summary:?}");
}

#[test]
fn a_socket_that_comes_back_joins_again_by_itself() {
    let mut net = Network::joined(4, 1, 30, 0, (true, false));
    net.run(Duration::from_secs(30));
    net.input(7, Input::SocketDown(V4));
    net.run(Duration::from_secs(60));
    let asked = net.hosts[7].asked.len();
    net.sockets_up(7);
    net.run(Duration::from_secs(2));
    assert!(net.hosts[7].asked.len() >= asked + 8);
    // So does one whose contacts were named before there was a socket.
    let addr = "30.0.0.1:6881".parse().unwrap();
    let new = net.add_at(Config::default(), Some(addr), None);
    net.input(new, Input::SocketDown(V4));
    let contact = net.hosts[5].addr(false);
    net.input(new, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(30));
    assert_eq!(net.hosts[new].asked.len(), 0);
    net.sockets_up(new);
    net.run(Duration::from_secs(3));
    assert!(net.hosts[new].dht.good_nodes(false) >= 10);
}

#[test]
fn a_node_that_restarts_under_another_id_is_known_again_soon() {
    let mut net = Network::joined(6, 1, 30, 0, (true, false));
    net.run(Duration::from_secs(30));
    let old = net.hosts[7].dht.node_id(false);
    let contact = net.hosts[0].addr(false);
    net.restart(7, Config::default());
    net.input(7, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(20));
    let (new, addr) = (net.hosts[7].dht.node_id(false), net.hosts[7].addr(false));
    assert_ne!(new, old);
    let knows = |id| {
        let others = net.hosts[1..].iter();
        others.filter(|host| host.dht.is_good(&id, addr)).count()
    };
    assert!(
        knows(new) >= 15 && knows(old) <= 15,
        "{} {}",
        knows(new),
        knows(old)
    );
    let (found, _) = net.lookup(20, Lookup::FindNode(new));
    assert_eq!(found[0], Found::Node(new, addr));
}

#[test]
fn who_has_joined_looks_itself_up_again_after_a_quarter_of_an_hour() {
    let config = Config::default().dht;
    let mut net = Network::joined(1, 1, 40, 0, (true, false));
    net.run(Duration::from_secs(60));
    for host in &net.hosts[1..] {
        let next = host.dht.armed[Single::Bootstrap as usize].unwrap();
        assert!(!host.dht.is_joining());
        assert!(next.saturating_since(net.now) > config.own_lookup_interval * 3 / 4);
        assert!(next.saturating_since(net.now) < config.own_lookup_interval * 5 / 4);
    }
    // In a network of three nobody ever has, and the pauses grow up to their limit.
    let mut net = Network::joined(1, 1, 2, 0, (true, false));
    net.run(Duration::from_secs(3_600));
    for host in &net.hosts[1..] {
        let next = host.dht.armed[Single::Bootstrap as usize].unwrap();
        assert!(host.dht.is_joining());
        assert!(next.saturating_since(net.now) < config.max_bootstrap_pause * 5 / 4);
        // An hour of refreshing and of twenty small lookups.
        assert!(host.asked.len() < 1_000, "{}", host.asked.len());
    }
}

#[test]
fn routers_never_enter_the_table() {
    let mut net = Network::joined(8, 2, 20, 0, (true, false));
    net.run(Duration::from_secs(60));
    let routers = [net.hosts[0].addr(false), net.hosts[1].addr(false)];
    for host in &net.hosts[2..] {
        assert!(
            host.dht
                .contacts(false)
                .all(|(_, addr)| !routers.contains(&addr))
        );
    }
    // Neither does one that was a contact before it was named.
    let contact = net.hosts[9].addr(false);
    let knows = |net: &Network| {
        net.hosts[5]
            .dht
            .contacts(false)
            .any(|(_, addr)| addr == contact)
    };
    assert!(knows(&net));
    net.input(5, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(30));
    assert!(!knows(&net));
}

#[test]
fn lookups_survive_loss_and_dead_nodes() {
    let mut net = Network::grown(50, 100, true, false);
    let (_, summary) = net.lookup(10, Lookup::Announce(target(1), AnnouncePort::AsSeen));
    assert!(summary.results >= 4, "{summary:?}");
    net.dead.extend(40..50);
    let (found, summary) = net.lookup(30, Lookup::GetPeers(target(1)));
    assert!(
        found.contains(&net.peer(10, false, 6881)),
        "{found:?} {summary:?}"
    );
    assert!(summary.elapsed < Duration::from_secs(10), "{summary:?}");
}

#[test]
fn a_node_with_one_contact_in_the_other_family_reaches_both() {
    let mut net = Network::grown(20, 0, true, true);
    let new = net.add(Config::default(), true, true);
    let contact = net.hosts[3].v4.unwrap();
    net.input(new, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(20));
    assert!(
        net.hosts[new].dht.good_nodes(true) >= 8,
        "{:?}",
        net.hosts[new].dht
    );
}

#[test]
fn two_nodes_are_enough_for_an_announce() {
    let mut net = Network::grown(2, 0, true, false);
    let (_, summary) = net.lookup(1, Lookup::Announce(target(1), AnnouncePort::Given(80)));
    assert_eq!((summary.results, summary.hops), (1, 1), "{summary:?}");
    let (found, _) = net.lookup(0, Lookup::GetPeers(target(1)));
    assert_eq!(found, [net.peer(1, false, 80)]);
}

#[test]
fn ids_follow_the_address_others_see() {
    let net = Network::grown(30, 0, true, true);
    for host in &net.hosts {
        for (v6, addr) in [(false, host.v4), (true, host.v6)] {
            let ip = addr.unwrap().ip();
            assert_eq!(host.dht.external_ip(v6), Some(ip));
            assert!(security::is_valid(ip, &host.dht.node_id(v6)));
        }
    }
}

#[test]
fn a_read_only_node_asks_answers_nothing_and_is_in_no_table() {
    let mut net = Network::grown(20, 0, true, false);
    let mut config = Config::default();
    config.dht.read_only = true;
    let quiet = net.add(config, true, false);
    let contact = net.hosts[3].v4.unwrap();
    net.input(quiet, Input::Bootstrap(&[contact]));
    net.run(Duration::from_secs(60));
    let addr = net.hosts[quiet].v4.unwrap();
    assert!(net.hosts[quiet].dht.good_nodes(false) >= 8);
    for host in &net.hosts {
        assert!(host.dht.contacts(false).all(|(_, known)| known != addr));
    }
    let (found, summary) = net.lookup(2, Lookup::Ping(addr));
    let figures = (summary.replies, summary.results, summary.hops);
    assert_eq!((found.len(), figures), (0, (0, 0, 0)));
    let (found, summary) = net.lookup(2, Lookup::Ping(contact));
    assert_eq!((found.len(), summary.replies, summary.hops), (1, 1, 1));
}

#[test]
fn a_quiet_network_stays_quiet() {
    let mut net = Network::grown(20, 0, true, false);
    let before = net.sent;
    net.run(Duration::from_secs(600));
    // One refresh and its answer per node and 5 s, and what the nodes it brings cost.
    let per_second = (net.sent - before) as f64 / 600.0 / 20.0;
    assert!(per_second < 1.5, "{per_second}");
    let (_, summary) = net.lookup(10, Lookup::Announce(target(1), AnnouncePort::AsSeen));
    assert_eq!(summary.results, 8);
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let net = Network::grown(20, 50, true, true);
        let ids: Vec<_> = net
            .hosts
            .iter()
            .map(|host| host.dht.node_id(false))
            .collect();
        (net.sent, ids)
    };
    assert_eq!(run(), run());
}

#[test]
fn two_halves_that_know_each_other_through_the_router_alone_become_one() {
    for seed in 0..4 {
        let mut net = Network::new(seed, 0);
        for n in 0..41 {
            // Addresses that no id is bound to (BEP 42), so that nobody changes sides.
            let addr = SocketAddr::new([10, 0, n, 1].into(), 6881);
            let lab = Config {
                lab: true,
                ..Config::default()
            };
            net.add_at(lab, Some(addr), None);
        }
        let router = net.hosts[0].addr(false);
        let side = |net: &Network, n: usize| net.hosts[n].dht.node_id(false).0[0] >> 7;
        let (left, right): (Vec<_>, Vec<_>) = (1..41).partition(|n| side(&net, *n) == 0);
        assert!(left.len() > 8 && right.len() > 8, "seed {seed}");
        // Either side joins while the other is away; the router sees both.
        net.dead = right.iter().copied().collect();
        left.iter()
            .for_each(|n| net.input(*n, Input::Bootstrap(&[router])));
        net.run(Duration::from_millis(1_500));
        net.revive();
        net.dead = left.iter().copied().collect();
        right
            .iter()
            .for_each(|n| net.input(*n, Input::Bootstrap(&[router])));
        net.run(Duration::from_millis(1_500));
        net.revive();
        net.run(Duration::from_secs(15));
        for (from, to) in left.iter().zip(&right) {
            for (from, to) in [(*from, *to), (*to, *from)] {
                let far = net.hosts[from].dht.contacts(false);
                let far = far
                    .filter(|(id, _)| id.0[0] >> 7 != side(&net, from))
                    .count();
                assert!(
                    far >= 4,
                    "seed {seed}: {from} knows {far} of the other side"
                );
                let hash = net.random_id();
                net.lookup(from, Lookup::Announce(hash, AnnouncePort::Given(80)));
                let (found, summary) = net.lookup(to, Lookup::GetPeers(hash));
                assert_eq!(
                    found,
                    [net.peer(from, false, 80)],
                    "seed {seed}: {summary:?}"
                );
            }
        }
    }
}
