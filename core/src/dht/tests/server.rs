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
        code(node.ask(STRANGER, b"d1:ade1:q4:ping1:t2:aa1:y1:qe")),
        Some(203)
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

/// Fills the peer store through announces, each from an address of its own.
fn announce_many(node: &mut Alone, hash: Id20, count: u32) {
    for n in 0..count {
        let from = SocketAddr::new(Ipv4Addr::from(0x0900_0000 + n).into(), 1000);
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
