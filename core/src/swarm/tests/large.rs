//! A torrent of as many pieces as are allowed: what one input costs, in steps, is bounded.

use alloc::boxed::Box;
use std::format;

use super::world::hello;
use super::*;
use crate::metainfo::Info;
use crate::swarm::work;

const PIECES: u32 = 4_000_000;
/// Steps of any input at most: a few for each piece of a slice, and some for every 64 pieces.
const MOST: u64 = 8 * 65_536 + 8 * PIECES as u64 / 64;
/// Of which a peer that comes, says what it has and leaves takes these whatever waits.
const COMES_AND_GOES: u64 = 8 * PIECES as u64 / 64;

fn info() -> Arc<Info> {
    let hashes = PIECES as usize * 20;
    let length = u64::from(PIECES) * 16_384;
    let head = format!("d6:lengthi{length}e4:name1:x12:piece lengthi16384e6:pieces{hashes}:");
    let mut raw = head.into_bytes();
    raw.resize(raw.len() + hashes, b'#');
    raw.push(b'e');
    let rules = crate::config::SwarmConfig::default().rules();
    Arc::new(Info::parse_with(raw.into(), &rules).expect("a right torrent"))
}

struct Large {
    swarm: Swarm,
    now: Instant,
    events: Vec<Event>,
}

impl Large {
    /// The torrent with its storage opened and nothing in it.
    fn new() -> Self {
        let info = info();
        let now = Instant::from_micros(1);
        let mut events = Vec::new();
        let setup = world::setup(&info, Options::default());
        let (swarm, steps) =
            work::of(|| Swarm::new(Arc::new(Config::default()), setup, now, &mut events));
        assert!(steps <= MOST, "{steps}");
        let open = events.iter().find_map(|event| match event {
            Event::Job(token, Job::Open(..)) => Some(*token),
            _ => None,
        });
        let mut large = Self { swarm, now, events };
        large.handle(Input::Grant(world::generous()));
        let opened = JobResult::Opened(Box::new(Opened {
            present: Vec::new(),
        }));
        large.handle(Input::JobDone(open.unwrap(), opened));
        large
    }

    /// The steps of one input, which are bounded.
    fn handle(&mut self, input: Input<'_>) -> u64 {
        self.events.clear();
        let (swarm, events) = (&mut self.swarm, &mut self.events);
        let ((), steps) = work::of(|| swarm.handle(self.now, input, events));
        assert!(steps <= MOST, "{steps} steps");
        steps
    }

    /// Ticks until the swarm waits for time to pass.
    fn settle(&mut self) -> u32 {
        let mut ticks = 0;
        while self.swarm.next_timeout().is_some_and(|at| at <= self.now) {
            self.handle(Input::Tick);
            ticks += 1;
            assert!(ticks <= 1_000, "spins");
        }
        ticks
    }

    fn join(&mut self, peer: u32) -> u64 {
        let hello = hello(peer as u8, addr(peer as usize), true);
        self.handle(Input::Joined(conn(peer), hello))
    }

    /// It has every other piece.
    fn bitfield(&mut self, peer: u32) -> u64 {
        let bits = Bytes::from(alloc::vec![0xaa; PIECES as usize / 8]);
        self.handle(Input::Message(conn(peer), Message::Bitfield(bits)))
    }

    fn leave(&mut self, peer: u32) -> u64 {
        self.handle(Input::Gone {
            conn: Some(conn(peer)),
            addr: addr(peer as usize),
            reason: CloseReason::Shutdown,
        })
    }

    fn availability(&self, piece: u32) -> u32 {
        let content = self.swarm.content.as_ref();
        content.map_or(0, |content| content.picker.availability(piece))
    }
}

#[test]
fn no_input_of_a_large_torrent_costs_much() {
    let mut large = Large::new();
    // Peers that came while it was looked at what is there are started one at a time.
    for peer in 1..=5 {
        large.join(peer);
        large.bitfield(peer);
    }
    let ticks = large.settle();
    let slices = PIECES / large.swarm.config.swarm.pieces_per_input;
    assert!(ticks <= slices + 5, "{ticks}");
    assert_eq!(large.swarm.phase, Phase::Active);
    assert!(large.swarm.to_start.is_empty());
    assert!(large.swarm.peers.values().all(|peer| peer.announced));
    // Not all is counted yet, and all the same there is something to ask for.
    assert_eq!(
        (large.availability(0), large.availability(PIECES - 2)),
        (1, 0)
    );
    large.handle(Input::Message(conn(5), Message::Unchoke));
    assert!(!large.swarm.peers[&conn(5)].asked.is_empty());
    let mut waits = 0;
    while large.availability(PIECES - 2) < 5 {
        large.now = large.now + large.swarm.config.swarm.availability_pause;
        large.handle(Input::Tick);
        large.settle();
        waits += 1;
    }
    let slice = large.swarm.config.swarm.availability_slice;
    assert_eq!(waits, 5 * PIECES / slice);
}

#[test]
fn a_peer_that_comes_and_goes_costs_a_slice_however_often() {
    let mut large = Large::new();
    large.settle();
    let mut total = 0;
    for _ in 0..20 {
        total += large.join(1);
        total += large.bitfield(1);
        total += large.leave(1);
        large.settle();
    }
    let slice = u64::from(large.swarm.config.swarm.availability_slice);
    assert!(total <= 20 * COMES_AND_GOES + 4 * slice, "{total}");
    // What was counted is taken away again.
    large.now = large.now + SECOND;
    large.handle(Input::Tick);
    large.settle();
    assert!((0..1_000).all(|piece| large.availability(piece) == 0));
    assert!(!large.swarm.content.as_ref().unwrap().picker.is_counting());
}

#[test]
fn bitfields_said_again_cost_no_more_than_the_first() {
    let mut large = Large::new();
    large.settle();
    large.join(1);
    let mut bits = alloc::vec![0xaa; PIECES as usize / 8];
    let mut total = 0;
    for byte in 0..20 {
        bits[byte] = 0xff;
        let said = Message::Bitfield(Bytes::copy_from_slice(&bits));
        total += large.handle(Input::Message(conn(1), said));
        // What it said before is taken away before more is counted.
        total += large.handle(Input::Tick);
    }
    let slice = u64::from(large.swarm.config.swarm.availability_slice);
    assert!(total <= 20 * COMES_AND_GOES + 40 * slice, "{total}");
    large.settle();
    for _ in 0..4 * PIECES / large.swarm.config.swarm.availability_slice {
        large.now = large.now + large.swarm.config.swarm.availability_pause;
        large.handle(Input::Tick);
        large.settle();
    }
    assert!(!large.swarm.content.as_ref().unwrap().picker.is_counting());
    for (piece, there) in [(0, 1), (159, 1), (160, 1), (161, 0), (PIECES - 2, 1)] {
        assert_eq!(large.availability(piece), there, "{piece}");
    }
}
