//! A protocol that has nothing to do with BitTorrent, on the simulator's network: a rumour.
//!
//! Whoever hears it tells three others, again and again for a while, since datagrams get lost. The
//! machine is written as an engine is: a function of its inputs, with no clock, socket or chance of
//! its own. That is all it takes to have it run among thousands, under faults, from one seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use trackerless_core::io::{Command, SocketId, Tag};
use trackerless_core::{Input, Instant, Outbox};
use trackerless_sim::world::draw;
use trackerless_sim::{HostId, HostSpec, Link, Machine, Network, Partition, Role, Sim};

const HOSTS: u32 = 300;
const TOLD_AT_ONCE: u64 = 3;
const ROUNDS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(500);

/// What runs on every host.
struct Gossip {
    seed: u64,
    heard: Option<Instant>,
    rounds: u32,
    due: Option<Instant>,
}

impl Gossip {
    fn hear(&mut self, now: Instant) {
        if self.heard.is_none() {
            self.heard = Some(now);
            self.due = Some(now);
        }
    }

    fn tell(&mut self, now: Instant, out: &mut Outbox) {
        for at in 0..TOLD_AT_ONCE {
            let number = draw(self.seed, u64::from(self.rounds), at, 0) % u64::from(HOSTS);
            let to = addr(number as u32);
            out.transmit(
                SocketId(0),
                to,
                |packet| packet.extend_from_slice(b"psst"),
                Bytes::new(),
            );
        }
        self.rounds += 1;
        self.due = (self.rounds < ROUNDS).then(|| now + PAUSE);
    }
}

impl Machine for Gossip {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Datagram {
                payload: b"psst", ..
            } => self.hear(now),
            // Any command will do: the first host is told by its user.
            Input::Command { .. } => self.hear(now),
            _ => {}
        }
        if self.due.is_some_and(|due| due <= now) {
            self.tell(now, out);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.due
    }
}

fn addr(number: u32) -> SocketAddr {
    let [_, _, high, low] = number.to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(10, 0, high, low).into(), 4_000)
}

fn run(seed: u64) -> (Sim, bool) {
    let network = Network {
        loss_ppm: 200_000,
        ..Network::default()
    };
    let mut sim = Sim::new(seed, network);
    for number in 0..HOSTS {
        let mut spec = HostSpec::new(addr(number));
        spec.link = Link::new(1_000_000, 1_000_000);
        spec.role = Role::custom(|born| {
            let seed = u64::from_le_bytes(born.seed[..8].try_into().expect("eight bytes"));
            Ok(Gossip {
                seed,
                heard: None,
                rounds: 0,
                due: None,
            })
        });
        sim.add_host(spec).expect("every address is another");
    }
    sim.command(HostId(0), Duration::from_millis(10), Tag(0), Command::Save);
    // A third of them cannot be reached for the first two seconds.
    let cut = sim.part(Partition::total((200..HOSTS).map(HostId)));
    sim.run_until(Duration::from_secs(2), |_| false)
        .expect("nobody spins");
    assert!(!all_heard(&sim), "nothing crosses a partition");
    sim.heal(cut);
    let done = sim
        .run_until(Duration::from_secs(20), all_heard)
        .expect("nobody spins");
    (sim, done)
}

fn all_heard(sim: &Sim) -> bool {
    let heard = |host| {
        sim.machine::<Gossip>(host)
            .is_some_and(|it| it.heard.is_some())
    };
    sim.hosts().all(heard)
}

fn main() {
    for seed in 0..5 {
        let (sim, done) = run(seed);
        let seconds = sim.now().as_micros() as f64 / 1e6 - 1.0;
        println!(
            "seed {seed}: all {HOSTS} heard it after {seconds:.3} s, root {}",
            sim.root()
        );
        assert!(done, "eventually(heard): seed {seed}");
        assert_eq!(sim.root(), run(seed).0.root(), "one seed, one run");
    }
}
