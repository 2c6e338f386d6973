//! Two connections with each other, encrypted or not, and a hand between them that cuts, alters,
//! leaves out and adds what it likes.

use std::sync::Arc;

use bytes::BytesMut;
use trackerless_core::config::EncryptionMode::{self, Allow, Prefer, Require};
use trackerless_core::event::CloseReason;
use trackerless_core::id::{Id20, PeerId};
use trackerless_core::io::{ConnId, Output};
use trackerless_core::time::Instant;
use trackerless_core::wire::mse::{MAX_PAD, torrent_hash};
use trackerless_core::wire::{Event, Input, Message, Wire};
use trackerless_core::{Config, Outbox};

use super::script::Script;

const HASH: Id20 = Id20([1; 20]);
const NOW: Instant = Instant::from_micros(1_000_000);
/// All that comes before a connection stands: key, hashes, constant and method, pads, handshake.
const MOST: usize = 96 + 20 + 20 + 8 + 4 + 2 + 2 + 2 * MAX_PAD + 68;
/// What may be under way one way; more is not said.
const MAX_UNDER_WAY: usize = 1 << 16;

struct Side {
    wire: Wire,
    out: Outbox,
    events: Vec<Event>,
    /// Sent, and not arrived.
    under_way: Vec<u8>,
    sent: usize,
    received: usize,
    said: Vec<Message>,
    heard: Vec<Message>,
    failed: Option<CloseReason>,
}

impl Side {
    fn new(mode: EncryptionMode, dials: Option<bool>, seed: u8) -> Self {
        let mut config = Config::default();
        config.wire.encryption = mode;
        let (config, conn) = (Arc::new(config), ConnId::from_bits(1));
        let peer_id = PeerId([seed; 20]);
        let wire = match dials {
            Some(_) => Wire::outgoing(conn, config, HASH, peer_id, NOW),
            None => Wire::incoming(conn, config, peer_id, NOW),
        };
        let wire = match dials {
            Some(false) => wire,
            _ => wire.with_encryption([seed; 32]),
        };
        let mut side = Self {
            wire,
            out: Outbox::new(),
            events: Vec::new(),
            under_way: Vec::new(),
            sent: 0,
            received: 0,
            said: Vec::new(),
            heard: Vec::new(),
            failed: None,
        };
        side.give(Input::Connected);
        side
    }

    fn give(&mut self, input: Input) {
        let mut next = Some(input);
        let mut todo = Vec::new();
        while self.failed.is_none() {
            let due = self.wire.next_timeout().is_some_and(|at| at <= NOW);
            let Some(input) = next.take().or(todo.pop()).or(due.then_some(Input::Tick)) else {
                break;
            };
            self.wire
                .handle(NOW, input, &mut self.out, &mut self.events);
            for output in self.out.drain() {
                match output {
                    Output::Send { head, body, .. } => {
                        self.under_way.extend_from_slice(head);
                        self.under_way.extend_from_slice(&body);
                        self.sent += head.len() + body.len();
                    }
                    other => panic!("a connection only sends: {other:?}"),
                }
            }
            assert_eq!(self.wire.unsent(), self.sent, "bytes went uncounted");
            for event in self.events.drain(..) {
                assert_eq!(self.failed, None, "{event:?} after the end");
                match event {
                    Event::Sought(hash) => {
                        let found = (hash == torrent_hash(&HASH)).then_some(HASH);
                        todo.push(Input::Found(found));
                    }
                    Event::Handshake { info_hash, .. } => todo.push(Input::Admit { info_hash }),
                    Event::Message(message) => self.heard.push(message),
                    Event::Failed(reason) => self.failed = Some(reason),
                    _ => {}
                }
            }
        }
        let stuck = self.failed.is_none() && !self.wire.is_open() && self.received > MOST;
        assert!(!stuck, "{} bytes led nowhere", self.received);
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.received += bytes.len();
            self.give(Input::Received(BytesMut::from(bytes)));
        }
    }

    fn say(&mut self, message: Message) {
        if self.failed.is_none() && self.wire.is_open() && self.under_way.len() < MAX_UNDER_WAY {
            self.said.push(message.clone());
            self.give(Input::Send(message));
        }
    }
}

fn deliver(from: &mut Side, to: &mut Side, len: usize) {
    let len = len.min(from.under_way.len());
    let bytes: Vec<u8> = from.under_way.drain(..len).collect();
    to.receive(&bytes);
}

/// Two connections and what happens to the stream between them. Holds: what nobody altered arrives,
/// both see it encrypted or both do not; otherwise a connection stands or fails within what a
/// handshake with the longest pads takes, and nothing comes after a failure.
pub fn mse(data: &[u8]) {
    let mut script = Script::new(data);
    let modes = [Allow, Prefer, Require];
    let (a, b) = (script.byte(), script.byte());
    let mode = |byte: u8| modes[usize::from(byte) % modes.len()];
    let required = mode(a) == Require || mode(b) == Require;
    let encrypted = required || a < 128;
    let mut sides = [
        Side::new(mode(a), Some(encrypted), a / 2),
        Side::new(mode(b), None, b / 2 + 128),
    ];
    let mut altered = false;
    while !script.is_empty() {
        let step = script.byte();
        let [first, second] = &mut sides;
        let (from, to) = match step & 8 {
            0 => (first, second),
            _ => (second, first),
        };
        match step % 8 {
            0 | 1 => deliver(from, to, usize::from(script.byte()) + 1),
            2 => deliver(from, to, usize::from(script.number())),
            3 => {
                if let Some(at) = script.index(from.under_way.len()) {
                    from.under_way[at] ^= script.byte() | 1;
                    altered = true;
                }
            }
            4 => {
                let bytes = script.string();
                altered |= !bytes.is_empty();
                to.receive(bytes);
            }
            5 => {
                let len = usize::from(script.byte()).min(from.under_way.len());
                from.under_way.drain(..len);
                altered |= len > 0;
            }
            _ => from.say(Message::Have(script.long())),
        }
    }
    let [first, second] = &mut sides;
    while !first.under_way.is_empty() || !second.under_way.is_empty() {
        deliver(first, second, usize::MAX);
        deliver(second, first, usize::MAX);
    }
    if altered {
        return;
    }
    let rc4 = encrypted && (required || mode(b) != Allow);
    for side in &sides {
        assert_eq!(side.failed, None);
        assert!(side.wire.is_open());
        assert_eq!(side.wire.encryption().is_plain(), !rc4);
    }
    assert_eq!(sides[0].said, sides[1].heard);
    assert_eq!(sides[1].said, sides[0].heard);
}
