//! Answers to strangers.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::alone::{Alone, STRANGER, error_code};
use crate::config::Config;
use crate::dht::krpc::{self, Asker, Kind, Message, Query, Want};
use crate::id::Id20;
use crate::time::Duration;

#[test]
fn queries_are_answered_and_wrong_ones_refused() {
    let mut node = Alone::new(Config::default());
    let answer = node
        .ask(
            STRANGER,
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        )
        .unwrap();
    let message = Message::decode(&answer).unwrap();
    assert_eq!(
        (message.kind, message.transaction),
        (Kind::Response, &b"aa"[..])
    );
    assert_eq!(message.body.id, Some(node.dht.node_id(false)));
    assert_eq!(message.ip, Some(STRANGER.parse().unwrap()));
    let code = |answer| error_code(answer);
    assert_eq!(
        code(node.ask(
            STRANGER,
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:what1:t2:aa1:y1:qe"
        )),
        Some(204)
    );
    assert_eq!(
        code(node.ask(
            STRANGER,
            b"d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t2:aa1:y1:qe"
        )),
        Some(203)
    );
    for malformed in [
        &b"d"[..],
        b"",
        b"hello",
        b"d1:q4:pinge",
        b"d1:rd2:id20:abcdefghij0123456789e1:t4:aaaa1:y1:re",
        // Who does not say who it is says nothing, whatever it asks.
        b"d1:ade1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:idi5ee1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id19:abcdefghij012345678e1:q4:what1:t2:aa1:y1:qe",
        b"d1:ad2:id21:abcdefghij01234567890e1:q9:get_peers1:t2:aa1:y1:qe",
    ] {
        assert_eq!(node.ask(STRANGER, malformed), None);
    }
    assert_eq!(
        node.ask(
            "8.8.4.4:0",
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"
        ),
        None
    );
}

#[test]
fn an_announce_needs_the_token_of_its_address_and_shows_up_in_answers() {
    let mut node = Alone::new(Config::default());
    let hash = Id20([0x22; 20]);
    let token_of = |answer: Option<Vec<u8>>| {
        Message::decode(&answer.unwrap())
            .unwrap()
            .body
            .token
            .map(<[u8]>::to_vec)
    };
    let token = token_of(node.query(STRANGER, Query::GetPeers(hash))).unwrap();
    let announce = Query::Announce(hash, Some(99), &token);
    assert_eq!(error_code(node.query("9.9.9.9:1000", announce)), Some(203));
    assert_eq!(
        error_code(node.query(STRANGER, Query::Announce(Id20([1; 20]), Some(99), &token))),
        Some(203)
    );
    assert_eq!(
        error_code(node.query(STRANGER, Query::Announce(hash, Some(0), &token))),
        Some(203)
    );
    assert_eq!(error_code(node.query(STRANGER, announce)), None);
    assert_eq!(
        error_code(node.query(STRANGER, Query::Announce(hash, None, &token))),
        None
    );
    let answer = node.query("9.9.9.9:1000", Query::GetPeers(hash)).unwrap();
    let peers: BTreeSet<_> = Message::decode(&answer)
        .unwrap()
        .body
        .values
        .iter()
        .collect();
    let expected = ["8.8.4.4:99", "8.8.4.4:1000"].map(|addr| addr.parse().unwrap());
    assert_eq!(peers, BTreeSet::from(expected));
    node.wait(2_800);
    let answer = node.query("9.9.9.9:1000", Query::GetPeers(hash)).unwrap();
    assert!(Message::decode(&answer).unwrap().body.values.is_absent());
}

#[test]
fn a_full_slot_gives_no_token() {
    let mut config = Config::default();
    config.dht.max_stored_peers = 3;
    let mut node = Alone::new(config);
    let hash = Id20([0x22; 20]);
    for n in 0..5 {
        let from = std::format!("8.8.{n}.4:1000");
        let answer = node.query(&from, Query::GetPeers(hash)).unwrap();
        let token = Message::decode(&answer).unwrap().body.token;
        assert_eq!(token.is_some(), n < 3);
        if let Some(token) = token {
            node.query(&from, Query::Announce(hash, None, token))
                .unwrap();
        }
    }
}

/// Fills the peer store through announces, each from a network of its own.
fn announce_many(node: &mut Alone, hash: Id20, count: u32) {
    for n in 0..count {
        let from = SocketAddr::new(Ipv4Addr::from(0x0900_0000 + (n << 8)).into(), 1000);
        let from = std::format!("{from}");
        let answer = node.query(&from, Query::GetPeers(hash)).unwrap();
        let token = Message::decode(&answer)
            .unwrap()
            .body
            .token
            .unwrap()
            .to_vec();
        node.query(&from, Query::Announce(hash, None, &token))
            .unwrap();
        node.now = node.now + Duration::from_millis(10);
    }
}

#[test]
fn an_answer_is_six_times_its_query_until_the_asker_receives_and_then_one_packet() {
    let mut node = Alone::new(Config::default());
    let hash = Id20([0x22; 20]);
    announce_many(&mut node, hash, 300);
    let mut query = vec![];
    let asker = Asker {
        id: Id20([0x11; 20]),
        read_only: true,
        want: Want::default(),
    };
    krpc::write_query(&mut query, b"t", asker, Query::GetPeers(hash));
    let answer = node.ask(STRANGER, &query).unwrap();
    assert!(
        answer.len() <= query.len() * 6,
        "{} for {}",
        answer.len(),
        query.len()
    );
    let message = Message::decode(&answer).unwrap();
    assert!(message.body.values.iter().count() > 10);
    let token = message.body.token.unwrap().to_vec();
    node.query(STRANGER, Query::Announce(hash, None, &token))
        .unwrap();
    let answer = node.ask(STRANGER, &query).unwrap();
    let count = Message::decode(&answer).unwrap().body.values.iter().count();
    assert!(
        count == 100 && answer.len() < 1_400,
        "{count} {}",
        answer.len()
    );
}

#[test]
fn a_flooder_is_ignored_and_loopback_is_not() {
    let mut node = Alone::new(Config::default());
    let served = (0..200)
        .filter(|_| node.query(STRANGER, Query::Ping).is_some())
        .count();
    assert_eq!(served, 50);
    assert!(node.query("8.8.4.5:1000", Query::Ping).is_some());
    assert!((0..200).all(|_| node.query("127.0.0.1:1000", Query::Ping).is_some()));
    node.wait(301);
    assert!(node.query(STRANGER, Query::Ping).is_some());
    // What is malformed counts as well.
    for _ in 0..50 {
        node.ask("8.8.4.6:1000", b"d");
    }
    assert!(node.query("8.8.4.6:1000", Query::Ping).is_none());
}

#[test]
fn over_the_budget_of_replies_nothing_is_said() {
    let mut config = Config::default();
    config.dht.reply_bytes_per_second = 5_000;
    let mut node = Alone::new(config);
    let mut bytes = 0;
    for _ in 0..1_000 {
        bytes += node
            .query("127.0.0.1:9", Query::Ping)
            .map_or(0, |answer| answer.len());
    }
    assert!(bytes > 4_900 && bytes < 5_200, "{bytes}");
    node.wait(1);
    assert!(node.query("127.0.0.1:9", Query::Ping).is_some());
}

#[test]
fn a_long_datagram_is_not_read() {
    let mut node = Alone::new(Config::default());
    let ping = |padding: usize| {
        std::format!(
            "d1:ad2:id20:abcdefghij01234567891:x{padding}:{}e1:q4:ping1:t2:aa1:y1:qe",
            "x".repeat(padding)
        )
    };
    assert!(node.ask(STRANGER, ping(1_900).as_bytes()).is_some());
    assert!(node.ask(STRANGER, ping(2_048).as_bytes()).is_none());
}

/// Knows eight nodes of each family.
fn with_nodes(config: Config) -> Alone {
    let mut node = Alone::new(config);
    for n in 0..8u8 {
        let id = Id20([0x10 * n + 1; 20]);
        let rtt = Duration::from_millis(9);
        let four = SocketAddr::new([7, 7, n, 1].into(), 1);
        let six = SocketAddr::new([0x2001, 7, 7, n.into(), 0, 0, 0, 1].into(), 1);
        node.dht.table_v4.heard(id, four, rtt, 1);
        node.dht.table_v6.heard(id, six, rtt, 1);
    }
    node
}

#[test]
fn nodes_are_told_of_the_families_wanted_and_else_of_the_askers() {
    let mut node = with_nodes(Config::default());
    for (want, expected) in [
        ("", (8, 0)),
        ("4:wantl2:n4e", (8, 0)),
        ("4:wantl2:n6e", (0, 8)),
        ("4:wantl2:n42:n6e", (8, 8)),
        ("4:wantl2:n8e", (8, 0)),
        ("4:wantle", (8, 0)),
        ("4:want2:n6", (8, 0)),
    ] {
        for (method, key) in [("9:find_node", "6:target"), ("9:get_peers", "9:info_hash")] {
            let query = std::format!(
                "d1:ad2:id20:abcdefghij0123456789{key}20:mnopqrstuvwxyz123456{want}e1:q{method}1:t2:aa1:y1:qe"
            );
            let answer = node.ask("127.0.0.1:9", query.as_bytes()).unwrap();
            let body = Message::decode(&answer).unwrap().body;
            let told = (body.nodes.iter().count(), body.nodes6.iter().count());
            assert_eq!(told, expected, "{query}");
        }
    }
}

#[test]
fn an_answer_is_one_packet_whatever_is_wanted() {
    let mut config = Config::default();
    config.dht.max_reply = 1_200;
    for (config, least) in [(config, 60), (Config::default(), 85)] {
        let most = usize::from(config.dht.max_reply);
        let mut node = with_nodes(config);
        let hash = Id20([0x22; 20]);
        announce_many(&mut node, hash, 300);
        let query = std::format!(
            "d1:ad2:id20:abcdefghij01234567899:info_hash20:{}4:wantl2:n42:n6ee1:q9:get_peers1:t32:{}1:y1:qe",
            "\"".repeat(20),
            "t".repeat(32)
        );
        let answer = node.ask("127.0.0.1:9", query.as_bytes()).unwrap();
        let body = Message::decode(&answer).unwrap().body;
        assert!(answer.len() <= most, "{}", answer.len());
        assert!(body.values.iter().count() >= least && body.token.is_some());
        assert_eq!(
            (body.nodes.iter().count(), body.nodes6.iter().count()),
            (8, 8)
        );
    }
}

#[test]
fn a_forged_source_gets_few_bytes_and_all_of_them_together_no_flood() {
    let mut config = Config::default();
    config.dht.unproven_bytes_per_address = 2_000;
    config.dht.unproven_bytes_per_second = 5_000;
    let mut node = with_nodes(config);
    let ask = |node: &mut Alone, from: &str| {
        let answer = node.query(from, Query::FindNode(Id20([1; 20])));
        answer.map_or(0, |answer| answer.len())
    };
    let to_one: usize = (0..40).map(|_| ask(&mut node, STRANGER)).sum();
    assert!(to_one > 1_500 && to_one <= 2_000, "{to_one}");
    node.wait(2);
    let to_all: usize = (0..200)
        .map(|n| ask(&mut node, &std::format!("9.9.{n}.1:1")))
        .sum();
    assert!(to_all > 4_500 && to_all <= 5_400, "{to_all}");
    // Whoever shows that it receives is served all the same.
    assert!(ask(&mut node, "127.0.0.1:9") > 200);
    node.wait(10);
    assert!(ask(&mut node, STRANGER) > 200);
}

#[test]
fn refusals_too_are_a_few_times_their_query() {
    let mut node = Alone::new(Config::default());
    for query in [
        &b"d1:ad2:id20:abcdefghij0123456789e1:q1:x1:t1:a1:y1:qe"[..],
        b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t1:a1:y1:qe",
        b"d1:ad2:id20:abcdefghij0123456789e1:q3:put1:t1:a1:y1:qe",
    ] {
        let answer = node.ask(STRANGER, query).unwrap();
        assert!(answer.len() <= 6 * query.len() && error_code(Some(answer)).is_some());
    }
}

#[test]
fn what_is_out_of_date_is_swept_a_few_torrents_at_a_time() {
    let mut config = Config::default();
    config.dht.sweep_slice = 2;
    config.dht.sweep_interval = Duration::from_secs(7);
    config.dht.peer_lifetime = Duration::from_secs(100);
    let mut node = Alone::new(config);
    let now = node.dht.seconds();
    for torrent in 1..=5 {
        let peer = SocketAddr::from(([8, 8, 4, torrent], 1));
        assert!(
            node.dht.families[0]
                .store
                .announce(&Id20([torrent; 20]), peer, false, now)
        );
    }
    node.dht.watch_store();
    let kept = |node: &Alone| node.dht.families[0].store.len();
    node.wait(98);
    assert_eq!(kept(&node), 5);
    // Once all are out of date at most two go with each sweep, and there are seven seconds between.
    let mut left = vec![5];
    for second in 0..40 {
        node.wait(1);
        if left.last() != Some(&kept(&node)) {
            left.push(kept(&node));
        }
        assert!(left.len() <= 2 + second / 7, "{left:?} after {second} s");
    }
    assert_eq!(left.last(), Some(&0));
    assert!(left.len() >= 4 && left.windows(2).all(|pair| pair[0] - pair[1] <= 2));
}
