//! Two connections with each other, encrypted and not.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::vec;

use super::*;
use crate::config::{Config, EncryptionMode};
use crate::id::PeerId;
use crate::io::{ConnId, Outbox, Output};
use crate::slab::Key;
use crate::time::Instant;
use crate::wire::mse::{NOT_FOUND, UNKNOWN_TORRENT, torrent_hash};
use crate::wire::{self, BlockRef, Input, Message, Wire};

const NOW: Instant = Instant::MIN;
const HASH: Id20 = Id20([7; 20]);
const CONN: ConnId = ConnId(Key {
    index: 3,
    generation: 1,
});

/// One end: joins when it hears who is there.
struct End {
    wire: Wire,
    out: Outbox,
    /// All it sent, and how much of that has been carried.
    sent: Vec<u8>,
    carried: usize,
    messages: Vec<Message>,
    block: Vec<u8>,
    failed: Option<CloseReason>,
    /// Block bytes that do not lie where they were read to.
    moved: usize,
}

impl End {
    fn new(mode: EncryptionMode, dials: Option<bool>) -> Self {
        let mut config = Config::default();
        config.wire.encryption = mode;
        let config = Arc::new(config);
        let wire = match dials {
            Some(encrypted) => {
                let wire = Wire::outgoing(CONN, config, HASH, PeerId([1; 20]), NOW);
                match encrypted {
                    true => wire.with_encryption([1; 32]),
                    false => wire,
                }
            }
            None => Wire::incoming(CONN, config, PeerId([2; 20]), NOW).with_encryption([2; 32]),
        };
        let mut end = Self {
            wire,
            out: Outbox::new(),
            sent: Vec::new(),
            carried: 0,
            messages: Vec::new(),
            block: Vec::new(),
            failed: None,
            moved: 0,
        };
        end.input(Input::Connected);
        end
    }

    fn input(&mut self, input: Input) -> Vec<wire::Event> {
        let mut events = Vec::new();
        self.wire.handle(NOW, input, &mut self.out, &mut events);
        for output in self.out.drain() {
            let Output::Send { head, body, .. } = output else {
                panic!("{output:?}")
            };
            self.sent.extend_from_slice(head);
            self.sent.extend_from_slice(&body);
        }
        events
    }

    fn receive(&mut self, bytes: &[u8]) {
        let data = BytesMut::from(bytes);
        let place = data.as_ptr() as usize..data.as_ptr() as usize + data.len();
        let mut todo = self.input(Input::Received(data));
        while self.wire.next_timeout() == Some(NOW) || !todo.is_empty() {
            for event in core::mem::take(&mut todo) {
                match event {
                    wire::Event::Sought(hash) => {
                        let found = (hash == torrent_hash(&HASH)).then_some(HASH);
                        todo.extend(self.input(Input::Found(found)));
                    }
                    wire::Event::Handshake { info_hash, .. } => {
                        todo.extend(self.input(Input::Admit { info_hash }));
                    }
                    wire::Event::Message(message) => self.messages.push(message),
                    wire::Event::BlockPart { data, .. } => {
                        let lies = data.as_ptr() as usize;
                        let kept = place.contains(&lies) && lies + data.len() <= place.end;
                        self.moved += if kept { 0 } else { data.len() };
                        self.block.extend_from_slice(&data);
                    }
                    wire::Event::Failed(reason) => self.failed = Some(reason),
                    wire::Event::Writable => {}
                }
            }
            todo.extend(self.input(Input::Tick));
        }
    }

    /// What it sent and the other end has not got yet.
    fn fresh(&mut self) -> Vec<u8> {
        let fresh = self.sent[self.carried..].to_vec();
        self.carried = self.sent.len();
        fresh
    }
}

fn carry(a: &mut End, b: &mut End, cuts: &[u16]) {
    let mut cuts = cuts.iter().cycle();
    loop {
        let (there, back) = (a.fresh(), b.fresh());
        if there.is_empty() && back.is_empty() {
            return;
        }
        for (to, bytes) in [(&mut *b, there), (&mut *a, back)] {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let len = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
                let (piece, later) = rest.split_at(len.min(rest.len()));
                to.receive(piece);
                rest = later;
            }
        }
    }
}

fn said() -> Vec<Message> {
    vec![
        Message::Bitfield(Bytes::from_static(&[0xa0])),
        Message::Unchoke,
        Message::Request(BlockRef {
            piece: 1,
            begin: 0,
            length: 16_384,
        }),
        Message::Have(2),
    ]
}

/// Says everything there is to say both ways; whether it was ciphered, as both see it.
fn talk(dials: (EncryptionMode, bool), accepts: EncryptionMode, cuts: &[u16]) -> Encryption {
    let mut a = End::new(dials.0, Some(dials.1));
    let mut b = End::new(accepts, None);
    carry(&mut a, &mut b, cuts);
    let block: Vec<u8> = (0..16_384u32).map(|at| at as u8).collect();
    let shared = Bytes::from(block.clone());
    for end in [&mut a, &mut b] {
        assert!(end.wire.is_open(), "{dials:?} {accepts:?}");
        for message in said() {
            end.input(Input::Send(message));
        }
        let (piece, begin, data) = (1, 0, shared.clone());
        end.input(Input::Send(Message::Piece { piece, begin, data }));
        end.input(Input::Send(Message::Have(3)));
    }
    carry(&mut a, &mut b, cuts);
    assert_eq!(shared, block, "what others have as well is not touched");
    for end in [&a, &b] {
        assert_eq!(end.failed, None);
        assert_eq!(end.messages, [said(), vec![Message::Have(3)]].concat());
        assert_eq!(end.block, block);
        assert_eq!(end.wire.unsent(), end.sent.len());
        let plain = end.sent.windows(64).any(|window| *window == block[..64]);
        assert_eq!(plain, end.wire.encryption().is_plain());
    }
    assert_eq!(a.wire.encryption(), b.wire.encryption());
    assert_eq!(a.sent.starts_with(&PREFIX), !dials.1);
    a.wire.encryption()
}

#[derive(Debug, Clone, Copy)]
struct AnyMode(EncryptionMode);

impl Arbitrary for AnyMode {
    fn arbitrary(g: &mut Gen) -> Self {
        use EncryptionMode::{Allow, Prefer, Require};
        Self(*g.choose(&[Allow, Prefer, Require]).unwrap())
    }
}

quickcheck! {
    fn messages_arrive_however_the_stream_is_cut_and_ciphered(
        dials: AnyMode, encrypted: bool, accepts: AnyMode, cuts: Vec<u16>
    ) -> bool {
        use EncryptionMode::{Allow, Require};
        let required = dials.0 == Require || accepts.0 == Require;
        let encrypted = encrypted || required;
        let rc4 = encrypted && (required || accepts.0 != Allow);
        let cuts: Vec<u16> = cuts.iter().map(|cut| cut % 3_000).collect();
        talk((dials.0, encrypted), accepts.0, &cuts).is_plain() != rc4
    }

    fn garbage_never_joins(garbage: Vec<u8>, cut: u8) -> bool {
        let mut end = End::new(EncryptionMode::Allow, None);
        let mut stream = garbage;
        stream.insert(0, 1);
        stream.resize(96 + 512 + 20, 9);
        stream.chunks(usize::from(cut) + 1).for_each(|piece| end.receive(piece));
        end.failed == Some(CloseReason::Encryption(NOT_FOUND))
    }
}

#[test]
fn a_handshake_is_told_from_a_key_wherever_the_first_read_ends() {
    for cut in 0..60 {
        for encrypted in [false, true] {
            let dials = (EncryptionMode::Allow, encrypted);
            assert!(talk(dials, EncryptionMode::Allow, &[cut]).is_plain());
        }
    }
}

/// A key may begin as a plain handshake does, and still be one.
#[test]
fn a_key_that_begins_like_a_handshake_is_a_key() {
    for same in 0..PREFIX.len() {
        for cut in 0..=same + 1 {
            let mut end = End::new(EncryptionMode::Allow, None);
            let mut key = [0x33; 96];
            key[..same].copy_from_slice(&PREFIX[..same]);
            end.receive(&key[..cut]);
            end.receive(&key[cut..]);
            assert_eq!(end.failed, None);
            assert!((96..=96 + 512).contains(&end.sent.len()), "it got ours");
        }
    }
}

#[test]
fn blocks_are_deciphered_where_they_were_read_to() {
    let mut a = End::new(EncryptionMode::Require, Some(true));
    let mut b = End::new(EncryptionMode::Require, None);
    carry(&mut a, &mut b, &[]);
    for _ in 0..10 {
        let (piece, begin, data) = (1, 0, Bytes::from(vec![9; 16_384]));
        a.input(Input::Send(Message::Piece { piece, begin, data }));
    }
    carry(&mut a, &mut b, &[]);
    assert_eq!((b.block.len(), b.moved), (163_840, 0));
}

#[test]
fn a_block_of_nobody_else_is_enciphered_where_it_lies() {
    let mut a = End::new(EncryptionMode::Require, Some(true));
    let mut b = End::new(EncryptionMode::Require, None);
    carry(&mut a, &mut b, &[]);
    let data = Bytes::from(vec![9; 16_384]);
    let place = data.as_ptr();
    let (piece, begin) = (1, 0);
    let message = Message::Piece { piece, begin, data };
    let mut events = Vec::new();
    a.wire
        .handle(NOW, Input::Send(message), &mut a.out, &mut events);
    for output in a.out.drain() {
        let Output::Send { body, .. } = output else {
            panic!("{output:?}")
        };
        assert_eq!(body.as_ptr(), place);
        assert_ne!(body[..], [9; 16_384]);
    }
}

#[test]
fn where_encryption_is_required_plain_text_is_refused_with_a_reason() {
    let mut a = End::new(EncryptionMode::Allow, Some(false));
    let mut b = End::new(EncryptionMode::Require, None);
    carry(&mut a, &mut b, &[]);
    assert_eq!(b.failed, Some(CloseReason::Encryption(PLAIN_REFUSED)));
    assert_eq!(b.wire.info_hash(), Some(HASH), "it is known what it meant");
    assert!(b.sent.is_empty());
}

#[test]
fn where_there_is_none_an_encrypted_handshake_is_no_handshake() {
    let mut a = End::new(EncryptionMode::Prefer, Some(true));
    let mut b = End::new(EncryptionMode::Off, None);
    carry(&mut a, &mut b, &[]);
    assert_eq!(b.failed, Some(CloseReason::BadHandshake));
    assert!(b.sent.is_empty());
}

#[test]
fn a_torrent_we_do_not_have_is_refused_with_a_reason() {
    let mut config = Config::default();
    config.wire.encryption = EncryptionMode::Allow;
    let other = Wire::outgoing(CONN, Arc::new(config), Id20([8; 20]), PeerId([1; 20]), NOW);
    let mut a = End::new(EncryptionMode::Allow, Some(true));
    a.wire = other.with_encryption([1; 32]);
    a.sent.clear();
    a.input(Input::Connected);
    let mut b = End::new(EncryptionMode::Allow, None);
    carry(&mut a, &mut b, &[]);
    assert_eq!(b.failed, Some(CloseReason::Encryption(UNKNOWN_TORRENT)));
}

#[test]
fn what_comes_while_a_torrent_is_sought_waits_within_a_limit() {
    let mut a = End::new(EncryptionMode::Allow, Some(true));
    let mut b = End::new(EncryptionMode::Allow, None);
    b.receive(&a.fresh());
    a.receive(&b.fresh());
    let asks = a.fresh();
    let sought = b.input(Input::Received(BytesMut::from(&asks[..])));
    assert!(matches!(sought[..], [wire::Event::Sought(_)]));
    let limit = Config::default().wire.receive_window as usize * 2;
    let mut received = 0;
    let failed = loop {
        let events = b.input(Input::Received(BytesMut::zeroed(65_536)));
        received += 65_536;
        if let [wire::Event::Failed(reason)] = events[..] {
            break reason;
        }
        assert!(events.is_empty() && received <= limit);
    };
    assert_eq!(failed, CloseReason::Limit("wire.receive_window"));
}

#[test]
fn silence_after_a_key_ends_as_any_handshake_does() {
    let config = Config::default();
    let mut a = End::new(EncryptionMode::Allow, Some(true));
    let mut b = End::new(EncryptionMode::Allow, None);
    b.receive(&a.fresh());
    for end in [&mut a, &mut b] {
        let late = NOW + config.wire.handshake_timeout;
        assert_eq!(end.wire.next_timeout(), Some(late));
        let mut events = Vec::new();
        end.wire
            .handle(late, Input::Tick, &mut end.out, &mut events);
        let failed = wire::Event::Failed(CloseReason::HandshakeTimeout);
        assert_eq!(events, [failed]);
    }
}
