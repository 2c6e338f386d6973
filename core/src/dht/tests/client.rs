//! Our own questions, and what comes back.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::alone::Alone;
use super::target;
use super::world::V4;
use crate::config::Config;
use crate::dht::krpc::{self, Kind, Message};
use crate::dht::{Event, Input, Lookup, LookupId};
use crate::event::Found;
use crate::id::Id20;
use crate::time::Duration;

#[test]
fn an_answer_counts_only_from_where_it_was_asked_and_with_the_right_id() {
    let mut node = Alone::new(Config::default());
    let to: SocketAddr = "8.8.8.8:1".parse().unwrap();
    let sent = node.input(Input::Start(LookupId(1), Lookup::Ping(to)));
    let transaction = Message::decode(&sent[0].1).unwrap().transaction.to_vec();
    assert_eq!(transaction.len(), 4);
    let answer = |id: u8| {
        let mut buf = vec![];
        krpc::Response::begin(&mut buf, to, &Id20([id; 20])).end(&transaction);
        buf
    };
    for from in ["8.8.8.8:2", "8.8.8.9:1"] {
        let from = from.parse().unwrap();
        node.input(Input::Datagram {
            socket: V4,
            from,
            payload: &answer(7),
        });
    }
    assert!(node.events.is_empty() && node.dht.good_nodes(false) == 0);
    node.input(Input::Datagram {
        socket: V4,
        from: to,
        payload: &answer(7),
    });
    assert!(
        node.events
            .contains(&Event::Found(LookupId(1), Found::Node(Id20([7; 20]), to)))
    );
    assert!(node.dht.is_good(&Id20([7; 20]), to));
    // A second answer is to no question.
    node.events.clear();
    node.input(Input::Datagram {
        socket: V4,
        from: to,
        payload: &answer(7),
    });
    assert!(node.events.is_empty());
    // It answers the refresh under another id: out it goes.
    for _ in 0..20 {
        node.now = node.now + Duration::from_secs(1);
        for (to, query) in node.input(Input::Tick) {
            let transaction = Message::decode(&query).unwrap().transaction.to_vec();
            let mut buf = vec![];
            krpc::Response::begin(&mut buf, to, &Id20([8; 20])).end(&transaction);
            node.input(Input::Datagram {
                socket: V4,
                from: to,
                payload: &buf,
            });
        }
    }
    assert!(!node.dht.is_good(&Id20([7; 20]), to));
}

#[test]
fn lookups_wait_for_their_turn_and_too_many_are_refused() {
    let mut config = Config::default();
    config.dht.max_lookups = 2;
    config.dht.max_queued_lookups = 5;
    let mut node = Alone::new(config);
    let silent: Vec<SocketAddr> = (1..4)
        .map(|n| SocketAddr::new([8, 8, n, 1].into(), 1))
        .collect();
    node.input(Input::Bootstrap(&silent));
    for n in 0..10 {
        node.input(Input::Start(LookupId(n), Lookup::GetPeers(target(n as u8))));
    }
    assert!(node.dht.searches.len() <= 2 && node.dht.queue.len() <= 5);
    let refused = |node: &Alone| {
        node.events
            .iter()
            .filter(|e| matches!(e, Event::Refused(_)))
            .count()
    };
    // All of them wait for the lookup of our own id, which nobody answers.
    assert_eq!((refused(&node), node.dht.searches.len()), (5, 1));
    node.input(Input::Stop(LookupId(3)));
    for _ in 0..100 {
        node.wait(1);
    }
    let done = node
        .events
        .iter()
        .filter(|e| matches!(e, Event::Done(..)))
        .count();
    assert_eq!(done + refused(&node), 9);
    node.input(Input::SocketDown(V4));
    node.input(Input::Start(LookupId(99), Lookup::Ping(silent[0])));
    assert!(node.events.contains(&Event::Refused(LookupId(99))));
}

#[test]
fn new_endpoints_are_asked_no_faster_than_a_router_bears() {
    let mut node = Alone::new(Config::default());
    let mut at = vec![];
    for n in 0..600u32 {
        let to = SocketAddr::new(Ipv4Addr::from(0x0800_0000 + (n << 8)).into(), 1);
        at.extend(
            node.input(Input::Start(LookupId(n.into()), Lookup::Ping(to)))
                .iter()
                .map(|_| node.now),
        );
    }
    while at.len() < 200 {
        node.now = node.dht.next_timeout().unwrap().max(node.now);
        let sent = node.input(Input::Tick);
        at.extend(sent.iter().map(|_| node.now));
    }
    for window in at.windows(182) {
        assert!(window[181].saturating_since(window[0]) >= Duration::from_secs(1));
    }
}

#[test]
fn queries_are_no_faster_than_their_budget() {
    let mut config = Config::default();
    config.dht.max_lookups = 200;
    config.dht.queries_per_second = 20;
    config.dht.queries_burst = 5;
    let mut node = Alone::new(config);
    let mut at = vec![];
    for port in 1..=100 {
        // Loopback costs no endpoint of a router's table, and a query all the same.
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let ping = Input::Start(LookupId(port.into()), Lookup::Ping(to));
        at.extend(node.input(ping).iter().map(|_| node.now));
    }
    assert_eq!(at.len(), 5);
    while at.len() < 100 {
        node.now = node.dht.next_timeout().unwrap().max(node.now);
        let sent = node.input(Input::Tick);
        at.extend(sent.iter().map(|_| node.now));
    }
    for window in at.windows(26) {
        assert!(window[25].saturating_since(window[0]) >= Duration::from_secs(1));
    }
    let all = at[99].saturating_since(at[0]);
    assert!(all <= Duration::from_secs(6), "{all:?}");
}

#[test]
fn one_input_handles_so_many_timers_and_begins_so_many_lookups() {
    let mut config = Config::default();
    config.dht.max_lookups = 200;
    config.dht.queries_burst = 200;
    config.dht.timers_per_input = 7;
    let mut node = Alone::new(config);
    for port in 1..=100 {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        node.input(Input::Start(LookupId(port.into()), Lookup::Ping(to)));
    }
    node.now = node.now + Config::default().dht.query_timeout;
    let mut ticks = 0;
    while node.dht.next_timeout().is_some_and(|at| at <= node.now) {
        node.events.clear();
        node.input(Input::Tick);
        assert!(node.events.len() <= 7, "{:?}", node.events);
        ticks += 1;
    }
    assert!((100 / 7..40).contains(&ticks), "{ticks}");

    let mut config = Config::default();
    config.dht.starts_per_input = 3;
    config.dht.timers_per_input = 1;
    let mut node = Alone::new(config);
    // Without anybody to ask each is over at once; one after another while they wait in line.
    node.input(Input::Bootstrap(&["8.8.8.8:1".parse().unwrap()]));
    for n in 0..20 {
        node.input(Input::Start(LookupId(n), Lookup::FindNode(target(n as u8))));
    }
    assert_eq!(node.dht.searches.len(), 1, "they wait for ours");
    let mut before = node.dht.queue.len();
    assert_eq!(before, 20);
    for _ in 0..2_000 {
        node.now = node.dht.next_timeout().unwrap().max(node.now);
        node.input(Input::Tick);
        let after = node.dht.queue.len();
        assert!(before - after <= 3, "{before} {after}");
        before = after;
    }
    assert_eq!(before, 0);
}

#[test]
fn lookups_wait_for_the_first_of_our_own_id_but_not_for_ever() {
    let mut node = Alone::new(Config::default());
    let router: SocketAddr = "8.8.8.8:1".parse().unwrap();
    node.input(Input::Bootstrap(&[router]));
    let sent = node.input(Input::Start(LookupId(1), Lookup::GetPeers(target(1))));
    assert!(sent.is_empty());
    // A ping concerns nobody else.
    let sent = node.input(Input::Start(LookupId(2), Lookup::Ping(router)));
    assert_eq!(sent.len(), 1);
    let start = node.now;
    while !node
        .events
        .iter()
        .any(|event| matches!(event, Event::Done(LookupId(1), _)))
    {
        node.now = node.dht.next_timeout().unwrap().max(node.now);
        node.input(Input::Tick);
    }
    // Two rounds that nobody answers, the pause between them, and the lookup itself.
    assert!(node.now.saturating_since(start) <= Duration::from_secs(10));
}

#[test]
fn an_asker_under_another_id_at_a_known_endpoint_is_checked_and_known_anew() {
    let mut node = Alone::new(Config::default());
    let to: SocketAddr = "8.8.8.8:1".parse().unwrap();
    let (old, new) = (Id20([7; 20]), Id20([9; 20]));
    node.dht
        .table_v4
        .heard(old, to, Duration::from_millis(9), 1);
    let asker = krpc::Asker {
        id: new,
        read_only: false,
        want: krpc::Want::default(),
    };
    let mut query = vec![];
    krpc::write_query(&mut query, b"t", asker, krpc::Query::Ping);
    let mut sent = node.input(Input::Datagram {
        socket: V4,
        from: to,
        payload: &query,
    });
    // Its word is not enough; its answers are.
    assert!(node.dht.is_good(&old, to));
    for _ in 0..40 {
        node.now = node.now + Duration::from_millis(25);
        sent.extend(node.input(Input::Tick));
        while let Some((at, query)) = sent.pop_front() {
            let message = Message::decode(&query).unwrap();
            if at == to && matches!(message.kind, Kind::Query(_)) {
                let mut answer = vec![];
                krpc::Response::begin(&mut answer, at, &new).end(message.transaction);
                let payload = &answer;
                let from = to;
                let socket = V4;
                sent.extend(node.input(Input::Datagram {
                    socket,
                    from,
                    payload,
                }));
            }
        }
    }
    assert!(!node.dht.is_good(&old, to) && node.dht.is_good(&new, to));
}

#[test]
fn a_question_lost_on_the_way_is_asked_again_and_is_no_failure_of_its_node() {
    for answers in [true, false] {
        let mut node = Alone::new(Config::default());
        let (id, to) = (Id20([7; 20]), "8.8.8.8:1".parse().unwrap());
        let rtt = Duration::from_millis(9);
        node.dht.table_v4.heard(id, to, rtt, 1);
        let lookup = Lookup::FindNode(target(1));
        assert_eq!(node.input(Input::Start(LookupId(1), lookup)).len(), 1);
        // That one is lost, and so is the rest or nothing more.
        let end = node.now + Config::default().dht.query_timeout * 3;
        while let Some(at) = node.dht.next_timeout().filter(|at| *at <= end) {
            node.now = node.now.max(at);
            for (to, query) in node.input(Input::Tick) {
                let message = Message::decode(&query).unwrap();
                let mut answer = vec![];
                krpc::Response::begin(&mut answer, to, &id).end(message.transaction);
                if answers {
                    node.input(Input::Datagram {
                        socket: V4,
                        from: to,
                        payload: &answer,
                    });
                }
            }
        }
        let summary = node.events.iter().find_map(|event| match event {
            Event::Done(LookupId(1), summary) => Some(*summary),
            _ => None,
        });
        let summary = summary.expect("it ends");
        let figures = (summary.queries, summary.replies, summary.results);
        assert_eq!(figures, (2, answers.into(), answers.into()));
        assert_eq!(node.dht.is_good(&id, to), answers);
    }
}

#[test]
fn what_waits_to_be_pinged_is_bounded() {
    let mut config = Config::default();
    config.dht.max_waiting_nodes = 50;
    config.dht.max_routers = 4;
    let mut node = Alone::new(config);
    let addr = |n: u32| SocketAddr::new(Ipv4Addr::from(0x0800_0000 + (n << 8)).into(), 1);
    for n in 0..500 {
        node.input(Input::AddNode(addr(n)));
    }
    assert_eq!(node.dht.waiting.len(), 50);
    let many: Vec<_> = (0..500).map(addr).collect();
    node.input(Input::Bootstrap(&many));
    assert_eq!(node.dht.routers.len(), 4);
}

#[test]
fn a_lookup_reports_a_bounded_number_of_distinct_peers() {
    let mut config = Config::default();
    config.dht.max_lookup_peers = 120;
    let mut node = Alone::new(config);
    let router: SocketAddr = "8.8.8.8:1".parse().unwrap();
    let mut queries = node.input(Input::Bootstrap(&[router]));
    node.input(Input::Start(LookupId(1), Lookup::GetPeers(target(1))));
    let mut next = 1u32;
    while let Some((to, query)) = queries.pop_front() {
        let message = Message::decode(&query).unwrap();
        if !matches!(message.kind, Kind::Query(b"find_node" | b"get_peers")) || next > 20 {
            continue;
        }
        let mut nodes = vec![];
        // The router knows one; the lookup of our own id ends there, the other goes on.
        let joins = message.kind == Kind::Query(b"find_node");
        let count = if joins { u32::from(to == router) } else { 2 };
        for n in 0..count {
            nodes.extend_from_slice(&Id20([(next * 2 + n) as u8; 20]).0);
            nodes.extend_from_slice(&[9, 9, (next * 2 + n) as u8, 1, 0, 1]);
        }
        let mut buf = vec![];
        let sender = if to == router {
            Id20([0xee; 20])
        } else {
            Id20([to_octet(to); 20])
        };
        let mut response = krpc::Response::begin(&mut buf, to, &sender);
        response.nodes(&nodes);
        response.values((0..40).map(|n| {
            SocketAddr::new(
                Ipv4Addr::from(0x0a0a_0a0a + 0x100_0000 + next * 30 + n).into(),
                1,
            )
        }));
        response.end(message.transaction);
        queries.extend(node.input(Input::Datagram {
            socket: V4,
            from: to,
            payload: &buf,
        }));
        next += u32::from(!joins);
    }
    let peers: Vec<_> = node
        .events
        .iter()
        .filter(|e| matches!(e, Event::Found(_, Found::Peer(_))))
        .collect();
    let distinct: BTreeSet<_> = peers.iter().map(|e| std::format!("{e:?}")).collect();
    assert_eq!((peers.len(), distinct.len()), (120, 120));
}

fn to_octet(addr: SocketAddr) -> u8 {
    match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[2],
        IpAddr::V6(_) => 0,
    }
}

#[test]
fn nodes_known_beforehand_are_good_without_a_question() {
    let config = Config {
        lab: true,
        ..Config::default()
    };
    let mut node = Alone::new(config);
    let nodes: Vec<(Id20, SocketAddr)> = (1..=20)
        .map(|n| (target(n), SocketAddr::from(([10, 0, 0, n], 6881))))
        .collect();
    assert!(node.input(Input::Trusted(&nodes)).is_empty());
    assert_eq!(node.dht.good_nodes(false), 20);
    assert!(node.dht.is_bootstrapped());
    assert!(nodes.iter().all(|(id, addr)| node.dht.is_good(id, *addr)));
}
