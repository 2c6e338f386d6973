//! What peers say of their pieces, as BEP 3 has it and as clients do it.

use super::*;

const PIECES: usize = 16;

struct Told {
    swarm: Swarm,
    events: Vec<Event>,
}

impl Told {
    /// A swarm with one peer that has said nothing, with or without metadata.
    fn new(metadata: bool) -> Self {
        let info = torrent(PIECES * PIECE, PIECE);
        let now = Instant::from_micros(1);
        let mut events = Vec::new();
        let mut setup = world::setup(&info, Options::default());
        if !metadata {
            setup.info = None;
        }
        let config = Arc::new(Config::default());
        let mut swarm = Swarm::new(config, setup, now, &mut events);
        swarm.handle(now, Input::Grant(world::generous()), &mut events);
        if metadata {
            let opened = JobResult::Opened(alloc::boxed::Box::<Opened>::default());
            swarm.handle(now, Input::JobDone(JobToken(0), opened), &mut events);
        }
        let hello = world::hello(1, addr(1), true);
        swarm.handle(now, Input::Joined(conn(1), hello), &mut events);
        events.clear();
        Self { swarm, events }
    }

    /// Says `messages`; returns for what the peer was dropped.
    fn say(&mut self, messages: &[Message]) -> Option<CloseReason> {
        let now = Instant::from_micros(2);
        for message in messages {
            let said = Input::Message(conn(1), message.clone());
            self.swarm.handle(now, said, &mut self.events);
        }
        self.events.iter().find_map(|event| match event {
            Event::Disconnect(_, reason) => Some(*reason),
            _ => None,
        })
    }

    fn has(&self) -> u32 {
        let peer = &self.swarm.peers[&conn(1)];
        (0..PIECES as u32)
            .filter(|piece| peer.has_piece(*piece))
            .count() as u32
    }
}

fn bits(bits: u16) -> Message {
    Message::Bitfield(Bytes::copy_from_slice(&bits.to_be_bytes()))
}

#[test]
fn a_bitfield_in_place_of_many_haves_is_taken() {
    let mut told = Told::new(true);
    let said = [Message::HaveNone, Message::Unchoke, bits(0x8000)];
    assert_eq!(told.say(&said), None);
    // It is asked at once.
    let asked = requests(&told.events);
    assert!(!asked.is_empty() && asked.iter().all(|block| block.piece == 0));
    assert_eq!(told.say(&[bits(0xff00), bits(0xff00), bits(0xfff0)]), None);
    assert_eq!(told.has(), 12);
    assert_eq!(told.say(&[Message::HaveAll, bits(0xffff)]), None);
    assert_eq!(told.has(), 16);
    assert!(told.swarm.peers[&conn(1)].is_seed());
    told.swarm.handle(
        Instant::from_micros(2) + SECOND,
        Input::Tick,
        &mut told.events,
    );
    let picker = &told.swarm.content.as_ref().unwrap().picker;
    assert!((0..PIECES as u32).all(|piece| picker.availability(piece) == 1));
}

#[test]
fn who_takes_pieces_back_is_dropped() {
    let rule = CloseReason::Protocol("bitfield without pieces said before");
    for metadata in [true, false] {
        for said in [
            [Message::HaveAll, Message::HaveNone],
            [Message::HaveAll, bits(0xfffe)],
            [Message::Have(3), Message::HaveNone],
            [bits(0x8000), Message::HaveNone],
            [bits(0x8000), bits(0x7fff)],
        ] {
            let mut told = Told::new(metadata);
            assert_eq!(told.say(&said), Some(rule), "{metadata} {said:?}");
        }
    }
}

#[test]
fn a_later_bitfield_counts_before_the_metadata_too() {
    let mut told = Told::new(false);
    let said = [
        Message::HaveNone,
        Message::Have(15),
        bits(0x8000),
        bits(0xc000),
    ];
    assert_eq!(told.say(&said), None);
    let info = torrent(PIECES * PIECE, PIECE);
    told.swarm.on_metadata(info, &mut told.events);
    let open = told.events.iter().find_map(|event| match event {
        Event::Job(token, Job::Open(..)) => Some(*token),
        _ => None,
    });
    let opened = JobResult::Opened(alloc::boxed::Box::<Opened>::default());
    let done = Input::JobDone(open.expect("a job"), opened);
    let now = Instant::from_micros(2);
    told.swarm.handle(now, done, &mut told.events);
    assert_eq!(told.has(), 3);
}
