//! One node among honest ones, and some who want it to waste what it has.

use alloc::collections::BTreeMap;
use core::net::{Ipv4Addr, SocketAddr};
use std::vec;
use std::vec::Vec;

use super::alone::Alone;
use super::world::{V4, V6};
use crate::config::Config;
use crate::dht::Input;
use crate::dht::krpc::{self, Asker, Kind, Message, Query, Response, Want};
use crate::id::{Id20, NodeId};
use crate::rng::{Choice, Label};
use crate::time::{Duration, Instant};

/// One node and whoever answers it.
struct Among {
    node: Alone,
    /// Ids of those that keep theirs; whoever else is asked has another id every time.
    honest: BTreeMap<SocketAddr, NodeId>,
    asked: Vec<(Instant, SocketAddr)>,
    fresh: u64,
}

/// An address in a /24 of its own.
fn host(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x5000_0001 + (n << 8)).into(), 6881)
}

impl Among {
    fn new(config: Config) -> Self {
        Self {
            node: Alone::new(config),
            honest: BTreeMap::new(),
            asked: vec![],
            fresh: 0,
        }
    }

    /// An id that nobody had; it shares `shared` bits with the node's.
    fn id(&mut self, shared: u32) -> NodeId {
        self.fresh += 1;
        let own = self.node.dht.node_id(false);
        let fixed = Id20::prefix_mask(shared);
        let until = Id20::prefix_mask(shared + 1);
        let mut id = [0; 20];
        for (at, byte) in id.iter_mut().enumerate() {
            let random = (self.fresh.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 8 * 8)) as u8;
            let differs = fixed.0[at] ^ until.0[at];
            *byte = random & !until.0[at] | own.0[at] & fixed.0[at] | !own.0[at] & differs;
        }
        Id20(id)
    }

    /// `count` honest nodes, which share 0 to 7 bits with the node's id, have answered it.
    fn know(&mut self, count: u32) {
        for n in 0..count {
            let id = self.id(n % 8);
            self.honest.insert(host(n), id);
            self.input(Input::AddNode(host(n)));
        }
        self.run(Duration::from_secs(60), |_| {});
        assert!(self.node.dht.good_nodes(false) > count / 2);
        self.asked.clear();
    }

    /// Lets time pass; everybody answers at once. `each` is called every 100 ms.
    fn run(&mut self, time: Duration, mut each: impl FnMut(&mut Self)) {
        for step in 0..time.as_millis() / 10 {
            self.node.now = self.node.now + Duration::from_millis(10);
            self.input(Input::Tick);
            if step % 10 == 0 {
                each(self);
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut sent = self.node.input(input);
        while let Some((to, payload)) = sent.pop_front() {
            let message = Message::decode(&payload).unwrap();
            if !matches!(message.kind, Kind::Query(_)) {
                continue;
            }
            self.asked.push((self.node.now, to));
            let known = self.honest.get(&to).copied();
            let id = known.unwrap_or_else(|| self.id(1));
            let mut answer = vec![];
            Response::begin(&mut answer, to, &id).end(message.transaction);
            sent.extend(self.node.input(Input::Datagram {
                socket: V4,
                from: to,
                payload: &answer,
            }));
        }
    }

    /// A query from `from` under an id that nobody had.
    fn query_from(&mut self, from: SocketAddr) {
        let asker = Asker {
            id: self.id(1),
            read_only: false,
            want: Want::default(),
        };
        let mut payload = vec![];
        krpc::write_query(&mut payload, b"t", asker, Query::Ping);
        self.input(Input::Datagram {
            socket: V4,
            from,
            payload: &payload,
        });
    }

    /// Queries to honest nodes.
    fn to_honest(&self) -> usize {
        let honest = self
            .asked
            .iter()
            .filter(|(_, to)| self.honest.contains_key(to));
        honest.count()
    }
}

#[test]
fn who_changes_its_id_all_the_time_costs_its_neighbours_next_to_nothing() {
    let quiet = {
        let mut among = Among::new(Config::default());
        among.know(200);
        among.run(Duration::from_secs(120), |_| {});
        among.to_honest()
    };
    assert!(quiet > 10, "{quiet}");
    for attackers in [1, 8] {
        let mut among = Among::new(Config::default());
        among.know(200);
        let mut step = 0;
        among.run(Duration::from_secs(120), |among| {
            step += 1;
            // As many as each may send without being ignored.
            if step % 3 == 0 {
                (0..attackers).for_each(|n| among.query_from(host(1_000 + n)));
            }
        });
        // The nodes of the one bucket are asked once more.
        let asked = among.to_honest();
        assert!(asked <= quiet + 8 + 2, "{asked} {quiet}");
        // And they themselves are not asked who they are for ever, nor believed.
        let to_each = (among.asked.len() - asked) / attackers as usize;
        assert!(to_each <= 10, "{to_each}");
        let known = among.node.dht.contacts(false);
        let known = known.filter(|(_, addr)| !among.honest.contains_key(addr));
        assert_eq!(known.count(), 0);
    }
}

#[test]
fn who_names_all_its_ports_keeps_no_other_node_waiting() {
    let mut among = Among::new(Config::default());
    let greedy = |port| SocketAddr::new([80, 1, 2, 3].into(), port);
    let mut port = 0;
    let mut late = 0;
    among.run(Duration::from_secs(30), |among| {
        for _ in 0..100 {
            port += 1;
            among.input(Input::AddNode(greedy(port)));
        }
        if port % 500 == 0 {
            late += 1;
            let id = among.id(late % 8);
            among.honest.insert(host(late), id);
            among.input(Input::AddNode(host(late)));
        }
    });
    among.run(Duration::from_secs(1), |_| {});
    let known = |addr| among.honest.get(&addr).copied();
    let pinged = (1..=late).filter(|n| {
        let addr = host(*n);
        let id = known(addr).expect("it is honest");
        among.node.dht.is_good(&id, addr)
    });
    assert_eq!((late, pinged.count()), (60, 60));
}

/// Asks for the token of an info-hash, and announces with it; whether there was one.
fn announces(node: &mut Alone, from: &str, hash: Id20) -> bool {
    let answer = node.query(from, Query::GetPeers(hash)).unwrap();
    let token = Message::decode(&answer).unwrap().body.token;
    let token = token.map(<[u8]>::to_vec);
    if let Some(token) = &token {
        node.query(from, Query::Announce(hash, Some(1000), token));
    }
    node.now = node.now + Duration::from_millis(500);
    token.is_some()
}

#[test]
fn one_network_cannot_keep_all_others_from_announcing() {
    let hash = Id20([0x22; 20]);
    for (v6, honest) in [(true, "[2a00:1:2:3::1]:6881"), (false, "9.9.9.9:6881")] {
        let mut node = Alone::new(Config::default());
        if v6 {
            let local = "[2001:db8:ffff::1]:6881".parse().unwrap();
            node.input(Input::SocketUp(V6, local));
        }
        for n in 0..600 {
            // Every address of one /24, and more than enough of one /64.
            let from = if v6 {
                std::format!("[2001:db8:0:1::{n:x}]:6881")
            } else {
                std::format!("8.8.4.{}:{}", n % 256, 6_000 + n)
            };
            announces(&mut node, &from, hash);
        }
        assert!(announces(&mut node, honest, hash), "{honest}");
        let mut choice = Choice::new(&[1; 32], Label::Custom(1));
        let store = &node.dht.families[usize::from(v6)].store;
        let kept = store.sample(&hash, 1_000, node.dht.seconds(), &mut choice);
        let expected = if v6 { 8 } else { 16 };
        assert_eq!(kept.count(), expected + 1);
    }
}
