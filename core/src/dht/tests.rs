//! Whole nodes under virtual time: a network in memory.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::krpc::{self, Asker, Kind, Message, Query, Want};
use super::{Dht, Event, Input, Lookup, LookupId};
use crate::config::Config;
use crate::event::{Found, LookupSummary};
use crate::id::Id20;
use crate::io::{Outbox, Output, SocketId};
use crate::rng::{Choice, Label};
use crate::time::{Duration, Instant};

const V4: SocketId = SocketId(4);
const V6: SocketId = SocketId(6);

/// Several nodes and the paths between them.
struct Network {
    now: Instant,
    hosts: Vec<Host>,
    by_ip: BTreeMap<IpAddr, usize>,
    /// Datagrams under way: arrival, order, sender, receiver, payload.
    wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    out: Outbox,
    choice: Choice,
    latency: Duration,
    /// Datagrams lost, of a thousand.
    loss: u64,
    dead: BTreeSet<usize>,
}

struct Host {
    dht: Dht,
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    events: Vec<Event>,
    sent: u64,
}

impl Network {
    fn new(loss: u64) -> Self {
        Self {
            now: Instant::from_micros(5_000_000),
            hosts: vec![],
            by_ip: BTreeMap::new(),
            wire: BTreeMap::new(),
            sent: 0,
            out: Outbox::new(),
            choice: Choice::new(&[9; 32], Label::Custom(1)),
            latency: Duration::from_millis(40),
            loss,
            dead: BTreeSet::new(),
        }
    }

    fn add(&mut self, config: Config, v4: bool, v6: bool) -> usize {
        let n = self.hosts.len() as u32;
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let dht = Dht::new(Arc::new(config), &seed, self.now);
        let four = Ipv4Addr::from(0x1600_0001 + (n << 8));
        let six = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64 | 1);
        let v4 = v4.then(|| SocketAddr::new(four.into(), 6881));
        let v6 = v6.then(|| SocketAddr::new(six.into(), 6881));
        self.by_ip.insert(four.into(), n as usize);
        self.by_ip.insert(six.into(), n as usize);
        self.hosts.push(Host {
            dht,
            v4,
            v6,
            events: vec![],
            sent: 0,
        });
        for (socket, addr) in [(V4, v4), (V6, v6)] {
            if let Some(addr) = addr {
                let any = match addr {
                    SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                let bound = SocketAddr::new(any, addr.port());
                self.input(n as usize, Input::SocketUp(socket, bound));
            }
        }
        n as usize
    }

    /// `count` nodes that all join through the first at once.
    fn grown(count: usize, loss: u64, v4: bool, v6: bool) -> Self {
        let mut net = Self::new(loss);
        for _ in 0..count {
            net.add(Config::default(), v4, v6);
        }
        for n in 1..count {
            let contacts: Vec<_> = [net.hosts[0].v4, net.hosts[0].v6]
                .into_iter()
                .flatten()
                .collect();
            net.input(n, Input::Bootstrap(&contacts));
        }
        net.run(Duration::from_secs(60));
        net
    }

    fn input(&mut self, n: usize, input: Input<'_>) {
        let host = &mut self.hosts[n];
        host.dht
            .handle(self.now, input, &mut self.out, &mut host.events);
        assert!(
            self.out.len() <= 1_000,
            "one input sent {} datagrams",
            self.out.len()
        );
        for output in self.out.drain() {
            let Output::Transmit {
                socket, to, head, ..
            } = output
            else {
                panic!("a DHT sends datagrams only");
            };
            let from = if socket == V4 { host.v4 } else { host.v6 };
            assert_eq!(to.is_ipv4(), socket == V4);
            assert!(head.len() <= 1_400, "a datagram of {} bytes", head.len());
            host.sent += 1;
            self.sent += 1;
            let jitter = Duration::from_micros(self.choice.below(10_000));
            if self.choice.below(1_000) >= self.loss {
                let arrival = self.now + self.latency + jitter;
                self.wire
                    .insert((arrival, self.sent), (from.unwrap(), to, head.to_vec()));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut still = 0;
        loop {
            let timers = self
                .hosts
                .iter()
                .enumerate()
                .filter(|(n, _)| !self.dead.contains(n));
            let timer = timers
                .filter_map(|(n, host)| Some((host.dht.next_timeout()?, n)))
                .min();
            let packet = self.wire.keys().next().copied();
            let next = match (timer, packet) {
                (Some((at, _)), Some((arrival, _))) => at.min(arrival),
                (Some((at, _)), None) => at,
                (None, Some((arrival, _))) => arrival,
                (None, None) => end,
            };
            if next > end {
                break;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 10_000, "time stands still");
            self.now = self.now.max(next);
            if let Some(key) = packet.filter(|(arrival, _)| *arrival <= self.now) {
                let (from, to, payload) = self.wire.remove(&key).unwrap();
                let n = self.by_ip.get(&to.ip()).copied();
                if let Some(n) = n.filter(|n| !self.dead.contains(n)) {
                    let up = if to.is_ipv4() {
                        self.hosts[n].v4
                    } else {
                        self.hosts[n].v6
                    };
                    let socket = if to.is_ipv4() { V4 } else { V6 };
                    if up == Some(to) {
                        self.input(
                            n,
                            Input::Datagram {
                                socket,
                                from,
                                payload: &payload,
                            },
                        );
                    }
                }
            } else if let Some((at, n)) = timer {
                if at <= self.now {
                    self.input(n, Input::Tick);
                } else {
                    self.now = end;
                    break;
                }
            } else {
                break;
            }
        }
        self.now = end;
    }

    /// Runs one lookup to its end.
    fn lookup(&mut self, n: usize, lookup: Lookup) -> (Vec<Found>, LookupSummary) {
        let id = LookupId(self.sent);
        self.hosts[n].events.clear();
        self.input(n, Input::Start(id, lookup));
        for _ in 0..200 {
            let done = self.hosts[n].events.iter().find_map(|event| match event {
                Event::Done(done, summary) if *done == id => Some(*summary),
                _ => None,
            });
            if let Some(summary) = done {
                let found = self.hosts[n].events.iter().filter_map(|event| match event {
                    Event::Found(of, found) if *of == id => Some(*found),
                    _ => None,
                });
                return (found.collect(), summary);
            }
            self.run(Duration::from_millis(100));
        }
        panic!("the lookup did not end");
    }

    fn peer(&self, n: usize, v6: bool, port: u16) -> Found {
        let addr = if v6 {
            self.hosts[n].v6
        } else {
            self.hosts[n].v4
        };
        Found::Peer(SocketAddr::new(addr.unwrap().ip(), port))
    }
}

fn target(n: u8) -> Id20 {
    Id20([n.wrapping_mul(37); 20])
}

#[test]
fn lookups_survive_loss_and_dead_nodes() {
    let mut net = Network::grown(50, 100, true, false);
    let (_, summary) = net.lookup(10, Lookup::Announce(target(1), None));
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
    let (_, summary) = net.lookup(1, Lookup::Announce(target(1), Some(80)));
    assert_eq!(summary.results, 1, "{summary:?}");
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
            assert!(super::security::is_valid(ip, &host.dht.node_id(v6)));
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
    assert_eq!((found.len(), summary.replies, summary.results), (0, 0, 0));
    let (found, summary) = net.lookup(2, Lookup::Ping(contact));
    assert_eq!((found.len(), summary.replies), (1, 1));
}

#[test]
fn a_quiet_network_stays_quiet() {
    let mut net = Network::grown(20, 0, true, false);
    let before = net.sent;
    net.run(Duration::from_secs(600));
    // One refresh and its answer per node and 5 s, and what the nodes it brings cost.
    let per_second = (net.sent - before) as f64 / 600.0 / 20.0;
    assert!(per_second < 1.5, "{per_second}");
    let (_, summary) = net.lookup(10, Lookup::Announce(target(1), None));
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

/// One node, and whatever a stranger sends it.
struct Alone {
    dht: Dht,
    now: Instant,
    out: Outbox,
    events: Vec<Event>,
}

impl Alone {
    fn new(config: Config) -> Self {
        let now = Instant::from_micros(1);
        let mut dht = Dht::new(Arc::new(config), &[3; 32], now);
        let (mut out, mut events) = (Outbox::new(), vec![]);
        dht.handle(
            now,
            Input::SocketUp(V4, "0.0.0.0:6881".parse().unwrap()),
            &mut out,
            &mut events,
        );
        Self {
            dht,
            now,
            out,
            events,
        }
    }

    fn input(&mut self, input: Input<'_>) -> VecDeque<(SocketAddr, Vec<u8>)> {
        self.dht
            .handle(self.now, input, &mut self.out, &mut self.events);
        let sent = self.out.drain().map(|output| match output {
            Output::Transmit { to, head, .. } => (to, head.to_vec()),
            _ => panic!("a DHT sends datagrams only"),
        });
        sent.collect()
    }

    /// What is answered, without queries of our own.
    fn ask(&mut self, from: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let from = from.parse().unwrap();
        let sent = self.input(Input::Datagram {
            socket: V4,
            from,
            payload,
        });
        let mut answers = sent.into_iter().filter(|(to, bytes)| {
            *to == from && !matches!(Message::decode(bytes).unwrap().kind, Kind::Query(_))
        });
        let answer = answers.next().map(|(_, bytes)| bytes);
        assert!(answers.next().is_none());
        answer
    }

    fn query(&mut self, from: &str, query: Query<'_>) -> Option<Vec<u8>> {
        let asker = Asker {
            id: Id20([0x11; 20]),
            read_only: true,
            want: Want::default(),
        };
        let mut buf = vec![];
        krpc::write_query(&mut buf, b"t", asker, query);
        self.ask(from, &buf)
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        for _ in 0..100 {
            self.input(Input::Tick);
        }
    }
}

fn error_code(answer: Option<Vec<u8>>) -> Option<i64> {
    match Message::decode(&answer?).unwrap().kind {
        Kind::Error(code, _) => Some(code),
        _ => None,
    }
}

const STRANGER: &str = "8.8.4.4:1000";

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
    assert_eq!(refused(&node), 4);
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
    node.input(Input::Bootstrap(&[router]));
    let mut queries = node.input(Input::Start(LookupId(1), Lookup::GetPeers(target(1))));
    let mut next = 1u32;
    while let Some((to, query)) = queries.pop_front() {
        let message = Message::decode(&query).unwrap();
        if message.kind != Kind::Query(b"get_peers") || next > 20 {
            continue;
        }
        let mut nodes = vec![];
        for n in 0..2u32 {
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
        next += 1;
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
