//! One connection, fed in pieces of any size.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trackerless_core::id::{Id20, PeerId};
use trackerless_core::io::{ConnId, Output};
use trackerless_core::time::Instant;
use trackerless_core::wire::{BlockRef, Event, Input, Message, Wire};
use trackerless_core::{Config, Outbox};

use super::script::Script;

const MAX_TICKS: usize = 100_000;

struct Side {
    wire: Wire,
    out: Outbox,
    events: Vec<Event>,
    unsent: u64,
    limit: usize,
    failed: bool,
    /// What remains of the block that is arriving.
    block: Option<(BlockRef, u32)>,
}

impl Side {
    fn give(&mut self, now: Instant, input: Input) {
        if self.failed {
            return;
        }
        self.wire
            .handle(now, input, &mut self.out, &mut self.events);
        for output in self.out.drain() {
            match output {
                Output::Send { head, body, .. } => self.unsent += (head.len() + body.len()) as u64,
                other => panic!("a connection only sends: {other:?}"),
            }
        }
        assert_eq!(
            self.wire.unsent() as u64,
            self.unsent,
            "bytes went uncounted"
        );
        assert!(
            self.events.len() <= self.limit,
            "{} events",
            self.events.len()
        );
        for event in self.events.drain(..) {
            assert!(!self.failed, "{event:?} after the end");
            match event {
                Event::BlockPart {
                    block,
                    offset,
                    data,
                } => {
                    let expected = match self.block {
                        Some((current, at)) if current == block => at,
                        Some((current, at)) => panic!("{block:?} while {current:?} is at {at}"),
                        None => 0,
                    };
                    assert_eq!(offset, expected, "parts come in order, once");
                    let end = offset + data.len() as u32;
                    assert!(end <= block.length, "more than the block");
                    self.block = (end < block.length).then_some((block, end));
                }
                Event::Message(_) => assert!(self.block.is_none(), "a message within a block"),
                Event::Failed(_) => self.failed = true,
                _ => {}
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        for _ in 0..MAX_TICKS {
            if self.failed || self.wire.next_timeout().is_none_or(|due| due > now) {
                return;
            }
            self.give(now, Input::Tick);
        }
        panic!("still due after {MAX_TICKS} ticks at a standing clock");
    }
}

fn message(script: &mut Script<'_>) -> Message {
    let block = BlockRef {
        piece: script.long(),
        begin: script.long(),
        length: script.long(),
    };
    match script.byte() % 10 {
        0 => Message::KeepAlive,
        1 => Message::Unchoke,
        2 => Message::Have(script.long()),
        3 => Message::Bitfield(Bytes::copy_from_slice(script.string())),
        4 => Message::Request(block),
        5 => Message::Piece {
            piece: block.piece,
            begin: block.begin,
            data: Bytes::copy_from_slice(script.string()),
        },
        6 => Message::Port(script.number()),
        7 => Message::HaveAll,
        8 => Message::ExtensionHandshake(Box::default()),
        _ => Message::Reject(block),
    }
}

/// Sequences of inputs to one connection. Holds: blocks arrive in order and whole, nothing comes
/// after a failure, every byte sent is counted, and no timer spins.
pub fn wire(data: &[u8]) {
    let mut script = Script::new(data);
    let config = Arc::new(Config::default());
    let mut now = Instant::from_micros(1_000_000);
    let (conn, hash) = (ConnId::from_bits(1), Id20([1; 20]));
    let peer_id = PeerId([2; 20]);
    let limit = usize::from(config.wire.max_messages_per_input) + 4;
    let outgoing = script.byte() & 1 != 0;
    let wire = if outgoing {
        Wire::outgoing(conn, config, hash, peer_id, now)
    } else {
        Wire::incoming(conn, config, peer_id, now)
    };
    let mut side = Side {
        wire,
        out: Outbox::new(),
        events: Vec::new(),
        unsent: 0,
        limit,
        failed: false,
        block: None,
    };
    if outgoing {
        side.give(now, Input::Connected);
    }
    if script.byte() & 1 != 0 {
        let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
        handshake.extend(hash.0);
        handshake.extend([3; 20]);
        side.give(now, Input::Received(BytesMut::from(&handshake[..])));
        if !outgoing {
            side.give(now, Input::Admit { info_hash: hash });
        }
    }
    while !script.is_empty() && !side.failed {
        match script.byte() % 8 {
            0 => {
                now = script.later(now);
                side.give(now, Input::Tick);
            }
            1 | 2 => side.give(now, Input::Received(BytesMut::from(script.string()))),
            3 | 4 => {
                let body = script.string();
                let mut frame = BytesMut::from(&(body.len() as u32).to_be_bytes()[..]);
                frame.extend_from_slice(body);
                side.give(now, Input::Received(frame));
            }
            5 => {
                let sent = side.unsent.min(u64::from(script.number()) + 1);
                side.unsent -= sent;
                side.give(now, Input::Sent(sent as u32));
            }
            6 => {
                if side.wire.is_open() && side.unsent < 1 << 20 {
                    let message = message(&mut script);
                    side.give(now, Input::Send(message));
                }
            }
            _ => side.settle(now),
        }
    }
    side.settle(now);
}
