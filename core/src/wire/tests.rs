use super::*;
use crate::io::Output;
use crate::metadata;
use crate::slab::Key;
use crate::time::Duration;
use alloc::boxed::Box;
use core::mem;
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::string::ToString as _;
use std::vec;

const NOW: Instant = Instant::MIN;
const HASH: Id20 = Id20([7; 20]);
const US: PeerId = PeerId([1; 20]);
const THEM: PeerId = PeerId([2; 20]);
const CONN: ConnId = ConnId(Key {
    index: 3,
    generation: 1,
});

/// A connection with its outputs and events.
struct Peer {
    wire: Wire,
    out: Outbox,
    events: Vec<Event>,
}

impl Peer {
    fn outgoing(config: Config) -> Self {
        let wire = Wire::outgoing(CONN, Arc::new(config), HASH, US, NOW);
        Self {
            wire,
            out: Outbox::new(),
            events: Vec::new(),
        }
    }

    fn incoming(config: Config) -> Self {
        let wire = Wire::incoming(CONN, Arc::new(config), US, NOW);
        Self {
            wire,
            out: Outbox::new(),
            events: Vec::new(),
        }
    }

    /// An outgoing connection that has exchanged handshakes with a peer of `abilities`.
    fn open(config: Config, fast: bool, extended: bool) -> Self {
        let mut peer = Self::outgoing(config);
        peer.input(Input::Connected);
        peer.read(&handshake(HASH, THEM, fast, extended));
        assert!(matches!(peer.take()[..], [Event::Handshake { .. }]));
        assert_eq!(peer.sent().len(), HANDSHAKE_LEN);
        peer
    }

    fn input(&mut self, input: Input) {
        self.at(NOW, input);
    }

    fn at(&mut self, now: Instant, input: Input) {
        self.wire
            .handle(now, input, &mut self.out, &mut self.events);
    }

    fn read(&mut self, bytes: &[u8]) {
        self.input(Input::Received(BytesMut::from(bytes)));
    }

    /// Works off what is behind; the number of ticks that took.
    fn settle(&mut self) -> usize {
        let mut ticks = 0;
        while self.wire.next_timeout() == Some(NOW) {
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "never settles");
        }
        ticks
    }

    fn take(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for output in self.out.drain() {
            let Output::Send { conn, head, body } = output else {
                panic!("{output:?}")
            };
            assert_eq!(conn, CONN);
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn failure(&mut self) -> Option<CloseReason> {
        self.take().into_iter().find_map(|event| match event {
            Event::Failed(reason) => Some(reason),
            _ => None,
        })
    }
}

fn handshake(info_hash: Id20, peer_id: PeerId, fast: bool, extended: bool) -> Vec<u8> {
    let mut buf = Vec::new();
    Handshake {
        info_hash,
        peer_id,
        fast,
        extended,
        dht: true,
    }
    .encode(&mut buf);
    buf
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut buf = Vec::new();
    let number = match message {
        Message::Pex(_) => extension::UT_PEX,
        Message::DontHave(_) => extension::LT_DONTHAVE,
        _ => extension::UT_METADATA,
    };
    frame::encode_head(message, number, &mut buf);
    buf.extend_from_slice(&frame::body(message));
    buf
}

/// Joins the parts of blocks, since they depend on how the stream was cut.
fn joined(events: Vec<Event>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut block_data = Vec::new();
    for event in events {
        match event {
            Event::Message(message) => {
                assert!(block_data.is_empty(), "a message within a block");
                messages.push(message);
            }
            Event::BlockPart {
                block,
                offset,
                data,
            } => {
                assert_eq!(offset as usize, block_data.len());
                assert!(!data.is_empty());
                block_data.extend_from_slice(&data);
                if block_data.len() == block.length as usize {
                    let data = mem::take(&mut block_data).into();
                    messages.push(Message::Piece {
                        piece: block.piece,
                        begin: block.begin,
                        data,
                    });
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(block_data.is_empty(), "an unfinished block");
    messages
}

/// A message that any peer may send after its bitfield, with the sizes of real ones and above.
#[derive(Debug, Clone)]
struct Any(Message);

impl Arbitrary for Any {
    fn arbitrary(g: &mut Gen) -> Self {
        let block = BlockRef {
            piece: u32::arbitrary(g),
            begin: u32::arbitrary(g) >> 1,
            length: u32::arbitrary(g) % (128 * 1024) + 1,
        };
        let long = *g.choose(&[1, 1, 700]).unwrap();
        let data = Vec::<u8>::arbitrary(g).repeat(long);
        let number = u32::arbitrary(g);
        let block_data = match data.len() {
            1..=20_000 => data.clone(),
            _ => vec![5],
        };
        let metadata = match u8::arbitrary(g) % 3 {
            0 => metadata::Message::Request { piece: number },
            1 => metadata::Message::Reject { piece: number },
            _ => metadata::Message::Data {
                piece: number,
                total_size: u32::arbitrary(g),
                data: data[..data.len().min(16 * 1024)].to_vec().into(),
            },
        };
        let extension = ExtensionHandshake {
            ut_metadata: Some(extension::UT_METADATA),
            metadata_size: Option::arbitrary(g),
            reqq: Option::arbitrary(g),
            client: bool::arbitrary(g).then(|| "someone".to_string()),
            ..ExtensionHandshake::default()
        };
        Self(match u8::arbitrary(g) % 16 {
            0 => Message::Choke,
            1 => Message::Unchoke,
            2 => Message::Interested,
            3 => Message::NotInterested,
            4 => Message::Have(number),
            5 => Message::Request(block),
            6 => Message::Cancel(block),
            7 => Message::Port(number as u16),
            8 => Message::Suggest(number),
            9 => Message::Reject(block),
            10 => Message::AllowedFast(number),
            11 => Message::ExtensionHandshake(extension.into()),
            12 => Message::Metadata(metadata),
            14 => Message::DontHave(number),
            13 => Message::Pex(data[..data.len().min(16 * 1024)].to_vec().into()),
            _ => Message::Piece {
                piece: block.piece,
                begin: block.begin,
                data: block_data.into(),
            },
        })
    }
}

#[test]
fn both_sides_shake_hands_and_the_inbound_one_waits_for_admission() {
    let (mut a, mut b) = (
        Peer::outgoing(Config::default()),
        Peer::incoming(Config::default()),
    );
    b.wire.peer_id = THEM;
    assert_eq!(a.wire.next_timeout(), None);
    a.input(Input::Connected);
    let mut hello = a.sent();
    assert_eq!(hello, handshake(HASH, US, true, true));
    hello.extend_from_slice(&encoded(&Message::Interested));
    b.read(&hello);
    let shake = |peer_id| Event::Handshake {
        info_hash: HASH,
        peer_id,
        fast: true,
        extended: true,
        dht: true,
    };
    assert_eq!(b.take(), [shake(US)]);
    assert!(b.out.is_empty() && !b.wire.is_open());
    b.read(&encoded(&Message::HaveAll));
    assert_eq!(b.take(), []);
    b.input(Input::Admit { info_hash: HASH });
    let heard = [Message::Interested, Message::HaveAll].map(Event::Message);
    assert_eq!(b.take(), heard);
    a.read(&b.sent());
    assert_eq!(a.take(), [shake(THEM)]);
    assert!(a.wire.is_open() && a.wire.fast() && a.wire.extended() && a.wire.dht());
}

#[test]
fn wrong_handshakes_fail_as_early_as_they_can() {
    let mut peer = Peer::incoming(Config::default());
    peer.read(b"\x13BitTorrent protocoX");
    assert_eq!(peer.failure(), Some(CloseReason::BadHandshake));
    let mut peer = Peer::incoming(Config::default());
    peer.read(b"G");
    assert_eq!(peer.failure(), Some(CloseReason::BadHandshake));
    let mut peer = Peer::outgoing(Config::default());
    peer.input(Input::Connected);
    peer.read(&handshake(Id20([8; 20]), THEM, true, true));
    assert_eq!(peer.failure(), Some(CloseReason::BadHandshake));
    let mut peer = Peer::incoming(Config::default());
    peer.read(&handshake(HASH, US, true, true));
    assert_eq!(peer.failure(), Some(CloseReason::SelfConnection));
    // A failed connection says nothing more.
    peer.read(&handshake(HASH, THEM, true, true));
    assert_eq!((peer.take(), peer.wire.next_timeout()), (vec![], None));
}

#[test]
fn block_data_is_never_copied() {
    let mut peer = Peer::open(Config::default(), true, true);
    let data = Bytes::from(vec![9; 20_000]);
    let mut stream = encoded(&Message::Choke);
    stream.extend_from_slice(&encoded(&Message::Piece {
        piece: 1,
        begin: 2,
        data,
    }));
    let header = 5 + 13;
    let mut first = BytesMut::from(&stream[..]);
    let second = first.split_off(10_000);
    let starts = [first[header..].as_ptr(), second.as_ptr()];
    peer.input(Input::Received(first));
    peer.input(Input::Received(second));
    let parts: Vec<(u32, usize, *const u8)> = peer
        .take()
        .into_iter()
        .filter_map(|event| match event {
            Event::BlockPart {
                block,
                offset,
                data,
            } => {
                assert_eq!(
                    block,
                    BlockRef {
                        piece: 1,
                        begin: 2,
                        length: 20_000
                    }
                );
                Some((offset, data.len(), data.as_ptr()))
            }
            _ => None,
        })
        .collect();
    let here = 10_000 - header;
    let expected = [
        (0, here, starts[0]),
        (here as u32, 20_000 - here, starts[1]),
    ];
    assert_eq!(parts, expected);

    // And on the way out.
    let data = Bytes::from(vec![4; 16_384]);
    let at = data.as_ptr();
    peer.input(Input::Send(Message::Piece {
        piece: 5,
        begin: 6,
        data,
    }));
    let all: Vec<Output<'_>> = peer.out.drain().collect();
    let [Output::Send { head, body, .. }] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(*head, [0, 0, 0x40, 9, 7, 0, 0, 0, 5, 0, 0, 0, 6]);
    assert_eq!((body.as_ptr(), body.len()), (at, 16_384));
}

#[test]
fn what_breaks_the_protocol_fails_with_its_rule() {
    let max = Config::default().wire;
    let frame = |len: u32, rest: &[u8]| [&len.to_be_bytes()[..], rest].concat();
    let request = |begin: u32, length: u32| {
        encoded(&Message::Request(BlockRef {
            piece: 0,
            begin,
            length,
        }))
    };
    let cases: [(Vec<u8>, &str); 20] = [
        (frame(2, &[0, 0]), "wrong length of message"),
        (frame(4, &[4, 0, 0, 0]), "wrong length of message"),
        (frame(12, &[6]), "wrong length of message"),
        (frame(4, &[9]), "wrong length of message"),
        (frame(1, &[20]), "wrong length of message"),
        (frame(2, &[14, 0]), "wrong length of message"),
        (frame(9, &[7]), "empty block"),
        (frame(1, &[7]), "empty block"),
        (frame(max.max_block + 10, &[7]), "block too long"),
        (frame(max.max_frame + 1, &[5]), "frame too long"),
        (frame(u32::MAX, &[99]), "frame too long"),
        (request(0, max.max_block + 1), "block too long"),
        (request(0, 0), "empty block"),
        (request(u32::MAX, 1), "block past the end of any piece"),
        (
            frame(max.max_extension_handshake + 3, &[20, 0]),
            "extension handshake too long",
        ),
        (frame(20_000, &[20, 2]), "metadata message too long"),
        (frame(500_003, &[20, 1]), "peer exchange too long"),
        (frame(5, &[20, 3, 0, 0, 0]), "wrong length of lt_donthave"),
        (frame(7, &[20, 3]), "wrong length of lt_donthave"),
        (
            frame(4, &[20, 0, b'x', b'y']),
            "malformed extension handshake",
        ),
    ];
    for (bytes, rule) in cases {
        let mut peer = Peer::open(Config::default(), true, true);
        peer.read(&bytes);
        assert_eq!(
            peer.failure(),
            Some(CloseReason::Protocol(rule)),
            "{bytes:?}"
        );
    }
    let mut peer = Peer::open(Config::default(), true, true);
    peer.read(&request(0, max.max_block));
    assert_eq!(peer.failure(), None);
}

#[test]
fn what_was_not_negotiated_is_neither_taken_nor_sent() {
    for message in [
        Message::HaveAll,
        Message::Suggest(1),
        Message::AllowedFast(1),
    ] {
        let mut peer = Peer::open(Config::default(), false, true);
        peer.input(Input::Send(message.clone()));
        assert!(peer.sent().is_empty());
        peer.read(&encoded(&message));
        let rule = "fast extension not negotiated";
        assert_eq!(peer.failure(), Some(CloseReason::Protocol(rule)));
    }
    let mut peer = Peer::open(Config::default(), true, false);
    let message = Message::ExtensionHandshake(Box::default());
    peer.input(Input::Send(message.clone()));
    assert!(peer.sent().is_empty());
    peer.read(&encoded(&message));
    let rule = "extension protocol not negotiated";
    assert_eq!(peer.failure(), Some(CloseReason::Protocol(rule)));
}

/// By BEP 3 it comes first or not at all. But aria2 sends one in place of many HAVEs.
#[test]
fn a_bitfield_is_handed_on_wherever_it_comes() {
    let bitfield = Message::Bitfield(Bytes::from_static(&[0xf0]));
    let extension = Message::ExtensionHandshake(Box::default());
    for before in [
        Message::KeepAlive,
        Message::Port(1),
        extension,
        bitfield.clone(),
        Message::HaveNone,
        Message::Unchoke,
        Message::Have(3),
    ] {
        for after in [&bitfield, &Message::HaveAll, &Message::HaveNone] {
            let mut peer = Peer::open(Config::default(), true, true);
            peer.read(&[encoded(&before), encoded(after)].concat());
            assert_eq!(peer.take().last(), Some(&Event::Message(after.clone())));
        }
    }
}

#[test]
fn metadata_goes_out_under_the_peers_number_and_comes_in_under_ours() {
    let mut peer = Peer::open(Config::default(), true, true);
    let request = Message::Metadata(metadata::Message::Request { piece: 1 });
    peer.input(Input::Send(request.clone()));
    assert!(peer.sent().is_empty(), "the peer has no number for it yet");
    let dictionary = b"d1:md11:ut_metadatai77eee";
    let len = dictionary.len() as u32 + 2;
    peer.read(&[&len.to_be_bytes()[..], &[20, 0], dictionary].concat());
    assert_eq!(peer.wire.numbers().ut_metadata, 77);
    peer.input(Input::Send(request.clone()));
    assert_eq!(peer.sent()[..6], [0, 0, 0, 27, 20, 77]);
    peer.take();
    peer.read(&encoded(&request));
    assert_eq!(peer.take(), [Event::Message(request)]);
    // Unknown ids and extensions mean nothing, however they are cut.
    let unknown = [
        &[0, 0, 0, 5, 21, 1, 2, 3, 4][..],
        &[0, 0, 0, 5, 20, 99, 1, 2, 3],
    ]
    .concat();
    for byte in &unknown {
        peer.read(&[*byte]);
    }
    peer.read(&encoded(&Message::Choke));
    assert_eq!(peer.take(), [Event::Message(Message::Choke)]);
}

#[test]
fn one_input_does_a_bounded_amount_of_work() {
    let mut config = Config::default();
    config.wire.max_messages_per_input = 10;
    let mut peer = Peer::open(config, true, true);
    let many: Vec<u8> = (0..95)
        .flat_map(|piece| encoded(&Message::Have(piece)))
        .collect();
    peer.read(&many);
    assert_eq!(
        (peer.events.len(), peer.wire.next_timeout()),
        (10, Some(NOW))
    );
    assert_eq!(peer.wire.backlog(), 85 * 9);
    // What arrives meanwhile comes after it.
    peer.read(&encoded(&Message::Choke));
    assert_eq!(peer.events.len(), 20);
    assert_eq!(peer.settle(), 8);
    let expected = (0..95)
        .map(Message::Have)
        .chain([Message::Choke])
        .collect::<Vec<_>>();
    assert_eq!(joined(peer.take()), expected);
    assert_eq!(peer.wire.backlog(), 0);
    // Messages that say nothing count too.
    peer.read(&[0; 4 * 35]);
    assert_eq!(peer.settle(), 3);
}

#[test]
fn what_is_read_ahead_is_bounded() {
    let mut peer = Peer::incoming(Config::default());
    peer.read(&handshake(HASH, THEM, true, true));
    for _ in 0..2 * 1024 {
        peer.read(&[0; 1024]);
    }
    assert_eq!(peer.take().len(), 1);
    peer.read(&[0]);
    assert_eq!(
        peer.failure(),
        Some(CloseReason::Limit("wire.receive_window"))
    );
    assert_eq!(peer.wire.backlog(), 0);
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut peer = Peer::open(Config::default(), true, true);
    peer.read(&[0, 0x07, 0, 0, 5, 1, 2, 3]);
    let Phase::Open(decoder) = &peer.wire.phase else {
        panic!("not open")
    };
    assert!(decoder.unfinished() <= 64);
    assert_eq!(peer.take(), []);
}

#[test]
fn what_we_do_not_read_is_no_silence() {
    let mut peer = Peer::open(Config::default(), true, true);
    let idle = Config::default().wire.idle_timeout;
    peer.input(Input::Sent(HANDSHAKE_LEN as u32));
    peer.input(Input::Reading(false));
    let resumed = NOW + idle * 3;
    peer.at(resumed, Input::Tick);
    assert_eq!(peer.failure(), None);
    // A keep-alive.
    peer.at(resumed, Input::Sent(4));
    peer.at(resumed, Input::Reading(true));
    peer.at(resumed + (idle - Duration::from_micros(1)), Input::Tick);
    assert_eq!(peer.failure(), None);
    peer.at(resumed + idle, Input::Tick);
    assert_eq!(peer.failure(), Some(CloseReason::Idle));
}

#[test]
fn silence_ends_and_keep_alives_prevent_it() {
    let config = Config::default().wire;
    let mut peer = Peer::incoming(Config::default());
    let end = NOW + config.handshake_timeout;
    assert_eq!(peer.wire.next_timeout(), Some(end));
    peer.at(end - Duration::from_micros(1), Input::Tick);
    assert_eq!(peer.take(), []);
    peer.at(end, Input::Tick);
    assert_eq!(peer.failure(), Some(CloseReason::HandshakeTimeout));

    let mut peer = Peer::open(Config::default(), true, true);
    let alive = NOW + config.keep_alive;
    let handshake = Input::Sent(HANDSHAKE_LEN as u32);
    peer.input(handshake);
    assert_eq!(peer.take(), [Event::Writable]);
    assert_eq!(peer.wire.next_timeout(), Some(alive));
    peer.at(alive, Input::Tick);
    assert_eq!(peer.sent(), [0; 4]);
    peer.at(alive, Input::Sent(4));
    assert_eq!(peer.take(), [Event::Writable]);
    let end = NOW + config.idle_timeout;
    assert_eq!(peer.wire.next_timeout(), Some(end));
    peer.at(end, Input::Tick);
    assert_eq!(peer.failure(), Some(CloseReason::Idle));

    let mut peer = Peer::open(Config::default(), true, true);
    peer.input(Input::Sent(HANDSHAKE_LEN as u32));
    peer.at(alive, Input::Received(BytesMut::from(&[0; 4][..])));
    peer.at(end, Input::Tick);
    assert_eq!(peer.failure(), None);
}

#[test]
fn who_takes_nothing_is_dropped_and_who_takes_a_byte_is_not() {
    let timeout = Config::default().wire.send_timeout;
    let mut peer = Peer::open(Config::default(), true, true);
    assert_eq!(peer.wire.next_timeout(), Some(NOW + timeout));
    let mut now = NOW;
    for _ in 0..5 {
        now = now + (timeout - Duration::from_micros(1));
        // Talking helps nobody who does not listen.
        peer.at(now, Input::Received(BytesMut::from(&[0; 4][..])));
        peer.at(now, Input::Sent(1));
        assert_eq!(peer.failure(), None);
    }
    peer.at(now + timeout, Input::Received(BytesMut::from(&[0; 4][..])));
    assert_eq!(peer.failure(), Some(CloseReason::Stalled));
    // With nothing under way there is nothing to take.
    let mut peer = Peer::open(Config::default(), true, true);
    peer.input(Input::Sent(HANDSHAKE_LEN as u32));
    peer.take();
    peer.at(NOW + timeout, Input::Tick);
    assert_eq!(peer.failure(), None);
}

#[test]
fn send_room_comes_back_and_a_peer_that_never_reads_is_dropped() {
    let mut config = Config::default();
    config.wire.send_window = 128 * 1024;
    config.wire.max_queued_control = 1024;
    let mut peer = Peer::open(config, true, true);
    peer.input(Input::Sent(68));
    assert_eq!(
        (peer.take(), peer.wire.unsent()),
        (vec![Event::Writable], 0)
    );
    let block = || Message::Piece {
        piece: 0,
        begin: 0,
        data: vec![0; 64 * 1024 - 13].into(),
    };
    peer.input(Input::Send(block()));
    peer.input(Input::Send(block()));
    assert_eq!((peer.wire.unsent(), peer.wire.room()), (128 * 1024, 0));
    peer.input(Input::Sent(64 * 1024));
    assert_eq!(peer.take(), []);
    peer.input(Input::Sent(1));
    assert_eq!(
        (peer.take(), peer.wire.room()),
        (vec![Event::Writable], 64 * 1024 + 1)
    );
    peer.input(Input::Sent(u32::MAX));
    assert_eq!(
        (peer.take(), peer.wire.unsent()),
        (vec![Event::Writable], 0)
    );
    for _ in 0..100_000 {
        peer.input(Input::Send(Message::Have(1)));
    }
    assert_eq!(
        peer.failure(),
        Some(CloseReason::Limit("wire.max_queued_control"))
    );
    assert!(peer.wire.unsent() < 258 * 1024);
}

#[test]
fn where_peers_are_not_exchanged_a_message_that_tells_of_them_means_nothing() {
    let bytes = encoded(&Message::Pex(vec![b'x'; 900].into()));
    let mut peer = Peer::open(Config::default(), true, true);
    peer.read(&bytes);
    assert!(matches!(peer.take()[..], [Event::Message(Message::Pex(_))]));
    let mut config = Config::default();
    config.pex.enabled = false;
    let mut peer = Peer::open(config, true, true);
    peer.read(&bytes);
    // Not even one that is too long for those who do.
    let mut long = 600_000u32.to_be_bytes().to_vec();
    long.extend_from_slice(&[20, extension::UT_PEX]);
    peer.read(&long);
    assert_eq!(peer.take(), []);
    // And who does not call it by a number is not told.
    peer.input(Input::Send(Message::Pex(vec![b'x'].into())));
    assert!(peer.sent().is_empty());
}

quickcheck! {
    fn what_one_sends_the_other_reads(messages: Vec<Any>) -> bool {
        let mut a = Peer::open(Config::default(), true, true);
        let mut b = Peer::open(Config::default(), true, true);
        a.wire.numbers.ut_metadata = extension::UT_METADATA;
        a.wire.numbers.ut_pex = extension::UT_PEX;
        a.wire.numbers.lt_donthave = extension::LT_DONTHAVE;
        for message in &messages {
            a.input(Input::Send(message.0.clone()));
        }
        a.events.clear();
        b.read(&a.sent());
        b.settle();
        let messages: Vec<Message> = messages.into_iter().map(|any| any.0).collect();
        joined(b.take()) == messages
    }

    fn however_a_stream_is_cut_it_says_the_same(messages: Vec<Any>, cuts: Vec<u16>) -> bool {
        let mut config = Config::default();
        config.wire.max_messages_per_input = 3;
        let mut peer = Peer::open(config, true, true);
        let stream: Vec<u8> = messages.iter().flat_map(|any| encoded(&any.0)).collect();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while let Some(cut) = cuts.next().filter(|_| !rest.is_empty()) {
            let small = usize::from(*cut % 40) + 1;
            let len = if cut % 3 == 0 { usize::from(*cut) } else { small };
            let (chunk, after) = rest.split_at(len.clamp(1, rest.len()));
            peer.read(chunk);
            if cut % 5 == 0 {
                peer.settle();
            }
            rest = after;
        }
        peer.read(rest);
        peer.settle();
        let messages: Vec<Message> = messages.into_iter().map(|any| any.0).collect();
        joined(peer.take()) == messages
    }

    fn arbitrary_bytes_wait_or_fail(bytes: Vec<u8>, id: u8, cut: usize) -> bool {
        let mut peer = Peer::open(Config::default(), true, true);
        // A plausible beginning, since few arbitrary lengths are legal.
        let len = bytes.len() as u32 / 2 + 1;
        let stream = [&len.to_be_bytes()[..], &[id % 24], &bytes].concat();
        let (first, second) = stream.split_at(cut % stream.len());
        peer.read(first);
        peer.read(second);
        peer.settle();
        let failed = peer.events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        let waits = peer.wire.is_open() && peer.wire.backlog() == 0;
        failed == usize::from(!waits)
    }

    fn arbitrary_handshakes_wait_or_fail(bytes: Vec<u8>, good: u8) -> bool {
        let mut stream = handshake(HASH, THEM, true, true);
        stream.truncate(usize::from(good));
        stream.extend_from_slice(&bytes);
        let mut peer = Peer::incoming(Config::default());
        for chunk in stream.chunks(7) {
            peer.read(chunk);
        }
        peer.input(Input::Admit { info_hash: HASH });
        peer.settle();
        let failed = matches!(peer.events.last(), Some(Event::Failed(_)));
        failed == matches!(peer.wire.phase, Phase::Failed)
    }

    fn inputs_in_any_order_never_panic(script: Vec<(u8, Any, u32)>) -> bool {
        let mut peer = Peer::outgoing(Config::default());
        for (what, message, number) in script {
            let input = match what % 8 {
                0 => Input::Tick,
                1 => Input::Connected,
                2 => Input::Sent(number),
                3 => Input::Admit { info_hash: HASH },
                4 => Input::Send(message.0),
                5 => Input::Received(BytesMut::from(&handshake(HASH, THEM, true, true)[..])),
                _ => Input::Received(BytesMut::from(&encoded(&message.0)[..])),
            };
            peer.input(input);
            peer.settle();
        }
        let failed = peer.events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        failed == usize::from(matches!(peer.wire.phase, Phase::Failed))
    }
}

#[test]
fn the_name_of_a_client_is_cut_at_its_limit() {
    for max_client_name in [5, 16] {
        let mut config = Config::default();
        config.wire.max_client_name = max_client_name;
        let mut peer = Peer::open(config, true, true);
        let handshake = ExtensionHandshake {
            client: Some("a name of some length".to_string()),
            ..ExtensionHandshake::default()
        };
        peer.read(&encoded(&Message::ExtensionHandshake(handshake.into())));
        let events = peer.take();
        let [Event::Message(Message::ExtensionHandshake(read))] = &events[..] else {
            panic!("{events:?}");
        };
        let name = read.client.as_deref().unwrap();
        assert_eq!(name, &"a name of some length"[..max_client_name.into()]);
    }
}
