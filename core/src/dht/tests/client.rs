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
