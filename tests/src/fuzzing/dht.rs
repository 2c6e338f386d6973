//! A DHT node under any datagrams.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use trackerless_core::dht::item::{Item, SigningKey, bencoded};
use trackerless_core::dht::krpc::Message;
use trackerless_core::dht::{AnnouncePort, CheckId, Dht, Event, Input, Lookup, LookupId};
use trackerless_core::event::Found;
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
    checks: VecDeque<(CheckId, Arc<Item>)>,
    /// The last token that the node gave to anybody.
    token: Vec<u8>,
}

impl Node {
    fn give(&mut self, input: Input<'_>) {
        self.dht
            .handle(self.now, input, &mut self.out, &mut self.events);
        assert!(self.out.len() <= MAX_OUTPUTS, "{} outputs", self.out.len());
        for output in self.out.drain() {
            match output {
                Output::Transmit { to, head, body, .. } => {
                    if let Some(token) = Message::decode(head).ok().and_then(|m| m.body.token) {
                        self.token = token.to_vec();
                    }
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
            match event {
                Event::Check(id, item) => self.checks.push_back((id, item)),
                Event::Found(_, Found::Item(item)) => {
                    assert!(item.is_authentic(), "what is not checked is not told");
                }
                _ => {}
            }
        }
        while self.checks.len() > 64 {
            self.checks.pop_front();
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
        checks: VecDeque::new(),
        token: Vec::new(),
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
        let op = script.byte();
        match op % 12 {
            0 => {
                node.now = script.later(node.now);
                node.give(Input::Tick);
                // One a time; many are too late.
                if let Some((id, item)) = node.checks.pop_front() {
                    node.give(Input::Checked(id, item.is_authentic()));
                }
            }
            1..=3 => {
                let from = address(&mut script);
                let mut payload = script.string().to_vec();
                if op % 12 == 3 {
                    // Nobody guesses a token.
                    with_token(&mut payload, &node.token);
                }
                let socket = SocketId(u32::from(from.is_ipv6()));
                node.give(Input::Datagram {
                    socket,
                    from,
                    payload: &payload,
                });
            }
            4..=6 => {
                let Some(at) = script.index(node.sent.len()) else {
                    continue;
                };
                let (to, datagram) = node.sent[at].clone();
                let item = (op % 12 == 6 && op > 127).then(|| item(&script.array()));
                if let Some(payload) = answer(&datagram, item.as_ref(), &mut script) {
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
                let lookup = match script.byte() % 10 {
                    0 => Lookup::Ping(address(&mut script)),
                    1 => Lookup::FindNode(target),
                    2 => Lookup::GetPeers(target),
                    4 => Lookup::Scrape(target),
                    5 => Lookup::Sample(address(&mut script)),
                    6 => Lookup::Get(target, Bytes::copy_from_slice(script.string())),
                    // One of those that answers have.
                    7 => Lookup::Get(item(&script.array()).target(), Bytes::new()),
                    8 => Lookup::Put(Arc::new(item(&script.array())), None),
                    9 => Lookup::Put(Arc::new(item(&script.array())), Some(1)),
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

/// Puts a token in the place of the first that a datagram has.
fn with_token(payload: &mut [u8], token: &[u8]) {
    const KEY: &[u8] = b"5:token8:";
    if let Some(at) = payload.windows(KEY.len()).position(|part| part == KEY)
        && let Some(place) = payload[at + KEY.len()..].first_chunk_mut::<8>()
        && let Ok(token) = token.try_into()
    {
        *place = token;
    }
}

/// One of few items: signed by one of two keys, rightly or not, or named by its hash.
fn item(choice: &[u8; 3]) -> Item {
    let [which, seq, text] = *choice;
    let value = bencoded(&[text % 4; 5]);
    let key = SigningKey::from_seed(&[which % 2; 32]);
    let signed = key.sign(value.clone(), i64::from(seq), Bytes::new());
    let signed = signed.expect("it is short");
    match which % 8 {
        0 | 1 => Item::immutable(value).expect("it is short"),
        2 | 3 => {
            let mut parts = signed.signed().expect("it is signed").clone();
            parts.signature[usize::from(text) % 64] ^= 1;
            Item::mutable(value, parts).expect("it is short")
        }
        _ => signed,
    }
}
