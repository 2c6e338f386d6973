//! A DHT node under any datagrams.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use trackerless_core::dht::{AnnouncePort, Dht, Event, Input, Lookup, LookupId};
use trackerless_core::id::Id20;
use trackerless_core::io::{Output, SocketId};
use trackerless_core::time::{Duration, Instant};
use trackerless_core::{Config, Outbox};

use super::script::{Script, address, answer};

#[path = "../../../core/tests/support/lookups.rs"]
mod lookups;

const MAX_TICKS: usize = 10_000;
const MAX_OUTPUTS: usize = 2_000;

struct Node {
    dht: Dht,
    out: Outbox,
    events: Vec<Event>,
    now: Instant,
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
    open: Vec<LookupId>,
}

impl Node {
    fn give(&mut self, input: Input<'_>) {
        self.dht
            .handle(self.now, input, &mut self.out, &mut self.events);
        assert!(self.out.len() <= MAX_OUTPUTS, "{} outputs", self.out.len());
        for output in self.out.drain() {
            match output {
                Output::Transmit { to, head, body, .. } => {
                    assert!(head.len() + body.len() <= 1_472, "a reply that fragments");
                    self.sent.push_back((to, head.to_vec()));
                }
                other => panic!("a DHT only sends datagrams: {other:?}"),
            }
        }
        while self.sent.len() > 64 {
            self.sent.pop_front();
        }
        for event in self.events.drain(..) {
            lookups::follow(&mut self.open, &event);
        }
    }

    fn settle(&mut self) {
        for _ in 0..MAX_TICKS {
            match self.dht.next_timeout() {
                Some(due) if due <= self.now => self.give(Input::Tick),
                _ => return,
            }
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }
}

/// Sequences of inputs to a DHT node. Holds: datagrams stay small, every lookup ends once, a
/// saved table loads again, and no timer spins.
pub fn dht(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.byte();
    let mut config = Config {
        lab: flags & 1 != 0,
        ..Config::default()
    };
    config.dht.read_only = flags & 2 != 0;
    let now = Instant::from_micros(1_000_000);
    let mut node = Node {
        dht: Dht::new(Arc::new(config), &[flags; 32], now),
        out: Outbox::new(),
        events: Vec::new(),
        now,
        sent: VecDeque::new(),
        open: Vec::new(),
    };
    let ips: [SocketAddr; 2] = [
        SocketAddr::new(Ipv4Addr::new(10, 77, 0, 1).into(), 6881),
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 6881),
    ];
    for (socket, local) in ips.into_iter().enumerate() {
        node.give(Input::SocketUp(SocketId(socket as u32), local));
    }
    let mut next_lookup = 0;
    while !script.is_empty() {
        match script.byte() % 12 {
            0 => {
                node.now = script.later(node.now);
                node.give(Input::Tick);
            }
            1..=3 => {
                let from = address(&mut script);
                let payload = script.string();
                let socket = SocketId(u32::from(from.is_ipv6()));
                node.give(Input::Datagram {
                    socket,
                    from,
                    payload,
                });
            }
            4..=6 => {
                let Some(at) = script.index(node.sent.len()) else {
                    continue;
                };
                let (to, datagram) = node.sent[at].clone();
                if let Some(payload) = answer(&datagram, &mut script) {
                    let socket = SocketId(u32::from(to.is_ipv6()));
                    node.give(Input::Datagram {
                        socket,
                        from: to,
                        payload: &payload,
                    });
                }
            }
            7 | 8 => {
                let id = LookupId(next_lookup);
                next_lookup += 1;
                let target = Id20(script.array());
                let lookup = match script.byte() % 4 {
                    0 => Lookup::Ping(address(&mut script)),
                    1 => Lookup::FindNode(target),
                    2 => Lookup::GetPeers(target),
                    _ => Lookup::Announce(target, AnnouncePort::Given(script.number())),
                };
                node.open.push(id);
                node.give(Input::Start(id, lookup));
            }
            9 => {
                let addr = address(&mut script);
                match script.byte() % 3 {
                    0 => node.give(Input::AddNode(addr)),
                    1 => node.give(Input::Bootstrap(&[addr])),
                    _ => node.give(Input::SendFailed(addr)),
                }
            }
            10 => {
                if let Some(at) = script.index(node.open.len()) {
                    let id = node.open.remove(at);
                    node.give(Input::Stop(id));
                }
            }
            _ => {
                if script.byte() & 1 != 0 {
                    node.give(Input::Load(script.string()));
                } else {
                    let mut saved = Vec::new();
                    node.dht.save(&mut saved);
                    node.give(Input::Load(&saved));
                }
            }
        }
    }
    node.settle();
    for _ in 0..30 {
        node.now = node.now + Duration::from_secs(60);
        node.give(Input::Tick);
        node.settle();
    }
    assert!(
        node.open.is_empty(),
        "lookups without an end: {:?}",
        node.open
    );
}
