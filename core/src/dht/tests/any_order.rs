//! Any order of any inputs: no panic, no spin, no growth past the limits.

use alloc::sync::Arc;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::alone::Alone;
use super::world::{V4, V6};
use crate::config::Config;
use crate::dht::item::{Item, Signed, bencoded};
use crate::dht::krpc::{self, Asker, Kind, Message, Query, Want};
use crate::dht::scrape::{Filter, Filters};
use crate::dht::{AnnouncePort, CheckId, Event, Input, Lookup, LookupId};
use crate::id::Id20;
use crate::time::Duration;

#[path = "../../../tests/support/lookups.rs"]
mod lookups;

/// Ticks with time held still that bring the deadline past now, whatever came before.
const MAX_TICKS: usize = 1_000;
/// Datagrams one input may cause.
const MAX_OUTPUTS: usize = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    SocketUp(bool, bool),
    SocketDown(bool),
    /// Bytes of no meaning.
    Noise(Place, Vec<u8>),
    /// A query, and how it is bent.
    Query(Place, u8, u8, Bend),
    /// Answers to what was asked last: how many, of what kind, and how they are bent.
    Answers(u8, u8, Bend),
    SendFailed(Place),
    AddNode(Place),
    Bootstrap(Place),
    Load(Vec<u8>),
    /// Loads what it saves, bent.
    Reload(Bend),
    Start(u8, u8, Place),
    Stop(u8),
}

/// One of a few hundred endpoints, so that runs meet the same ones again.
#[derive(Debug, Clone, Copy)]
struct Place(u8, u8);

impl Place {
    fn addr(self) -> SocketAddr {
        let Self(a, b) = self;
        // Port 0 is among them.
        let port = u16::from(b % 16);
        match a % 6 {
            0 => SocketAddr::new(Ipv4Addr::new(127, 0, 0, b).into(), port),
            1 => SocketAddr::new(Ipv4Addr::new(10, 0, a, b).into(), port),
            2 => SocketAddr::new(Ipv4Addr::new(b, a, 255, 255).into(), port),
            3 => SocketAddr::new(
                Ipv6Addr::from((0x2001_u128 << 112) | (u128::from(b) << 64)).into(),
                port,
            ),
            _ => SocketAddr::new(Ipv4Addr::new(8, a, b, 1).into(), port),
        }
    }
}

/// A change to a datagram: a byte put over another, and bytes cut from the end; most do nothing.
#[derive(Debug, Clone, Copy)]
struct Bend(Option<(u16, u8)>, u8);

impl Bend {
    fn apply(self, bytes: &mut Vec<u8>) {
        if let Self(Some((at, byte)), _) = self
            && !bytes.is_empty()
        {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let cut = usize::from(self.1).saturating_sub(240);
        bytes.truncate(bytes.len().saturating_sub(cut));
    }
}

impl Arbitrary for Place {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(u8::arbitrary(g), u8::arbitrary(g))
    }
}

impl Arbitrary for Bend {
    fn arbitrary(g: &mut Gen) -> Self {
        let over = u8::arbitrary(g) < 60;
        Self(over.then(|| Arbitrary::arbitrary(g)), u8::arbitrary(g))
    }
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 24 {
            0..=3 => Self::Wait(u32::arbitrary(g) % 20_000_000),
            4 => Self::Wait(u32::arbitrary(g)),
            5 => Self::SocketUp(bool::arbitrary(g), bool::arbitrary(g)),
            6 => Self::SocketDown(bool::arbitrary(g)),
            7 => Self::Noise(Place::arbitrary(g), Vec::arbitrary(g)),
            8..=10 => Self::Query(
                Place::arbitrary(g),
                u8::arbitrary(g),
                u8::arbitrary(g),
                Bend::arbitrary(g),
            ),
            11..=15 => Self::Answers(u8::arbitrary(g), u8::arbitrary(g), Bend::arbitrary(g)),
            16 => Self::SendFailed(Place::arbitrary(g)),
            17 => Self::AddNode(Place::arbitrary(g)),
            18 => Self::Bootstrap(Place::arbitrary(g)),
            19 if bool::arbitrary(g) => Self::Load(Vec::arbitrary(g)),
            19 => Self::Reload(Bend::arbitrary(g)),
            20 => Self::Stop(u8::arbitrary(g)),
            _ => Self::Start(u8::arbitrary(g), u8::arbitrary(g), Place::arbitrary(g)),
        }
    }

    fn shrink(&self) -> std::boxed::Box<dyn Iterator<Item = Self>> {
        quickcheck::empty_shrinker()
    }
}

/// A node and what it waits for.
struct Run {
    node: Alone,
    /// Queries not answered yet.
    asked: Vec<(SocketAddr, Vec<u8>)>,
    /// Lookups that did not end yet.
    open: Vec<LookupId>,
    /// Signatures that are to be checked; some never are.
    checks: Vec<(CheckId, Arc<Item>)>,
}

impl Run {
    fn give(&mut self, input: Input<'_>) {
        let sent = self.node.input(input);
        assert!(sent.len() <= MAX_OUTPUTS, "{} outputs", sent.len());
        for (to, bytes) in sent {
            assert!(bytes.len() <= 1_400, "a datagram of {} bytes", bytes.len());
            let message = Message::decode(&bytes).expect("we send what can be read");
            if matches!(message.kind, Kind::Query(_)) {
                self.asked.push((to, bytes));
            }
        }
        let extra = self.asked.len().saturating_sub(256);
        self.asked.drain(..extra);
        for event in self.node.events.drain(..) {
            lookups::follow(&mut self.open, &event);
            if let Event::Check(id, item) = event {
                self.checks.push((id, item));
            }
        }
    }

    fn datagram(&mut self, from: SocketAddr, payload: &[u8]) {
        let socket = if from.is_ipv6() { V6 } else { V4 };
        self.give(Input::Datagram {
            socket,
            from,
            payload,
        });
    }

    fn answer(&mut self, how: u8, bend: Bend) {
        let Some((to, query)) = self.asked.pop() else {
            return;
        };
        let message = Message::decode(&query).unwrap();
        let mut reply = vec![];
        if how.is_multiple_of(16) {
            krpc::write_error(&mut reply, message.transaction, to, 201, "no");
        } else {
            // Whoever is at an endpoint mostly has the same id.
            let octet = compact_octet(to);
            let id = if how % 16 == 1 { how } else { octet };
            let claim = SocketAddr::new(Ipv4Addr::new(9, 9, 9, how % 2).into(), 1);
            let filters = Filters {
                seeds: Filter([how; 256]),
                ..Filters::default()
            };
            let own = Id20([id; 20]);
            let mut response = krpc::Response::begin_with(&mut reply, claim, &own, Some(&filters));
            response.key(&[how % 4; 32]);
            let (mut v4, mut v6) = (vec![], vec![]);
            for n in 0..8u8 {
                let near = how.wrapping_mul(31).wrapping_add(n * 9);
                v4.extend_from_slice(&[near; 20]);
                v4.extend_from_slice(&[8, near, n, 1, 0, 1 + n]);
                v6.extend_from_slice(&[near; 20]);
                v6.extend_from_slice(&[0x20, 1, 0, 0, 0, 0, near, n]);
                v6.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            }
            response.nodes(&v4);
            if how.is_multiple_of(3) {
                response.nodes6(&v6);
            }
            let item = item(how % 8, message.body.target.map_or(0, |target| target.0[0]));
            response.samples(u32::from(how), [Id20([how; 20]); 3].into_iter());
            if let Some(signed) = item.signed() {
                response.seq(signed.seq);
                response.signature(&signed.signature);
            }
            response.token(&[how; 7]);
            response.value(item.value());
            response.values([to, claim].into_iter());
            response.end(message.transaction);
        }
        bend.apply(&mut reply);
        self.datagram(to, &reply);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(micros) => {
                self.node.now = self.node.now + Duration::from_micros(u64::from(*micros));
                self.give(Input::Tick);
                if micros % 3 > 0
                    && let Some((id, _)) = self.checks.pop()
                {
                    self.give(Input::Checked(id, micros % 3 == 1));
                }
            }
            Step::SocketUp(v6, known) => {
                let (socket, local) = match (v6, known) {
                    (false, false) => (V4, "0.0.0.0:1"),
                    (false, true) => (V4, "4.4.4.4:1"),
                    (true, false) => (V6, "[::]:1"),
                    (true, true) => (V6, "[2001:db8::1]:1"),
                };
                self.give(Input::SocketUp(socket, local.parse().unwrap()));
            }
            Step::SocketDown(v6) => self.give(Input::SocketDown(if *v6 { V6 } else { V4 })),
            Step::Noise(place, bytes) => self.datagram(place.addr(), bytes),
            Step::Query(place, a, b, bend) => {
                let asker = Asker {
                    id: Id20([*a; 20]),
                    read_only: a.is_multiple_of(5),
                    want: Want {
                        v4: true,
                        v6: a.is_multiple_of(2),
                    },
                };
                let (target, item) = (Id20([*b; 20]), item(*a, *b));
                // Half of those who store something may.
                let stored = if b % 8 == 6 { item.target() } else { target };
                let (ip, now) = (place.addr().ip(), self.node.now);
                let dht = &mut self.node.dht;
                let mut token = dht.tokens.make(ip, &stored, &mut dht.secrets, now);
                token[0] ^= a % 2;
                let query = match b % 8 {
                    0 => Query::Ping,
                    1 => Query::FindNode(target),
                    2 => Query::GetPeers(target),
                    3 => Query::Announce(target, None, &token),
                    4 => Query::Scrape(target),
                    5 => Query::Sample(target),
                    6 => Query::Put {
                        item: &item,
                        cas: b.is_multiple_of(16).then_some(i64::from(*a)),
                        token: &token,
                    },
                    _ => Query::Get {
                        target: item.target(),
                        seq: b.is_multiple_of(16).then_some(i64::from(*a)),
                        token: Some(&token),
                    },
                };
                let mut bytes = vec![];
                krpc::write_query(&mut bytes, b"tt", asker, query);
                bend.apply(&mut bytes);
                self.datagram(place.addr(), &bytes);
            }
            Step::Answers(count, how, bend) => {
                for n in 0..count % 16 {
                    self.answer(how.wrapping_add(n), *bend);
                }
            }
            Step::SendFailed(place) => self.give(Input::SendFailed(place.addr())),
            Step::AddNode(place) => self.give(Input::AddNode(place.addr())),
            Step::Bootstrap(place) => self.give(Input::Bootstrap(&[place.addr()])),
            Step::Load(bytes) => self.give(Input::Load(bytes)),
            Step::Reload(bend) => {
                let mut saved = vec![];
                self.node.dht.save(&mut saved);
                bend.apply(&mut saved);
                self.give(Input::Load(&saved));
            }
            Step::Start(id, what, place) => {
                let target = Id20([*what; 20]);
                let lookup = match what % 8 {
                    0 => Lookup::Ping(place.addr()),
                    1 => Lookup::FindNode(target),
                    2 => Lookup::GetPeers(target),
                    3 => Lookup::Sample(place.addr()),
                    4 => Lookup::Scrape(target),
                    5 => Lookup::Get(item(0, *what).target(), Bytes::new()),
                    6 => Lookup::Put(item(*what, *what).into(), Some(3)),
                    _ => Lookup::Announce(target, AnnouncePort::Given(u16::from(*what))),
                };
                let id = LookupId(u64::from(*id));
                if !self.open.contains(&id) {
                    self.open.push(id);
                    self.give(Input::Start(id, lookup));
                }
            }
            Step::Stop(id) => {
                let id = LookupId(u64::from(*id));
                self.open.retain(|open| *open != id);
                self.give(Input::Stop(id));
            }
        }
    }

    /// Ticks until nothing is due.
    fn settle(&mut self) {
        for _ in 0..MAX_TICKS {
            if self
                .node
                .dht
                .next_timeout()
                .is_none_or(|at| at > self.node.now)
            {
                return;
            }
            self.give(Input::Tick);
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }

    fn check(&self) {
        let (dht, config) = (&self.node.dht, Config::default().dht);
        assert!(dht.searches.len() <= 6, "four lookups and two of our own");
        assert!(dht.queue.len() <= 20);
        assert!(dht.checks.len() <= 8);
        for family in &dht.families {
            assert!(family.items.len() <= 6 && family.samples.hashes().len() <= 20);
        }
        assert!(dht.waiting.len() <= usize::from(config.max_waiting_nodes));
        assert!(dht.routers.len() <= usize::from(config.max_routers));
        // What is unanswered was asked within one timeout.
        let rate = u64::from(config.queries_per_second) * config.query_timeout.as_secs();
        let most = rate as usize + usize::from(config.queries_burst) + 5 * 16;
        assert!(dht.asked.len() <= most, "{} queries", dht.asked.len());
        for v6 in [false, true] {
            for (_, addr) in dht.contacts(v6) {
                assert!(!dht.routers.contains(&addr) && addr.port() != 0);
            }
        }
    }
}

/// One of a few hundred items: four keys, and texts without one.
fn item(a: u8, b: u8) -> Item {
    let signed = Signed {
        key: [b % 4; 32],
        signature: [a; 64],
        seq: i64::from(a),
        salt: Bytes::new(),
    };
    match b % 3 {
        0 => Item::text(&[b; 5]),
        1 => Item::mutable(bencoded(&[a; 900]), signed),
        _ => Item::mutable(bencoded(&[a; 9]), signed),
    }
    .expect("it is right")
}

/// Something of an endpoint to make an id from.
fn compact_octet(addr: SocketAddr) -> u8 {
    match addr {
        SocketAddr::V4(addr) => addr.ip().octets().iter().fold(7, |a, b| a ^ b),
        SocketAddr::V6(addr) => addr.ip().octets().iter().fold(9, |a, b| a ^ b),
    }
}

fn live(steps: Vec<Step>) {
    let mut config = Config::default();
    config.dht.max_lookups = 4;
    config.dht.max_queued_lookups = 20;
    config.dht.max_signature_checks = 8;
    config.dht.max_items = 6;
    let mut run = Run {
        node: Alone::new(config),
        asked: vec![],
        open: vec![],
        checks: vec![],
    };
    for step in &steps {
        run.step(step);
        run.settle();
        run.check();
    }
    // Whatever was begun ends, if nobody answers any more.
    for _ in 0..400 {
        run.node.now = run.node.now + Duration::from_secs(5);
        run.give(Input::Tick);
        run.settle();
    }
    assert!(
        run.open.is_empty(),
        "lookups without an end: {:?}",
        run.open
    );
}

#[test]
fn no_life_panics_spins_or_grows() {
    QuickCheck::new()
        .tests(400)
        .quickcheck(live as fn(Vec<Step>));
}
