//! One simulated host: a machine, its disk, its clock, its links, and its ends of streams.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use trackerless_core::checksum::{Chain, mix};
use trackerless_core::event::Event;
use trackerless_core::io::{Command, ConnId, JobResult, SocketId, Tag};
use trackerless_core::record::{OutputHash, Writer, encode_input};
use trackerless_core::slab::{Key, Slab};
use trackerless_core::{Config, Engine, Input, Instant, Outbox, Output};

use super::clock::{Clock, Skew};
use super::disk::{Content, Disk, DiskSpec};
use super::draw::{Purpose, draw, flip};
use super::link::{Link, PipeState};
use super::machine::{Born, Machine, Role};
use super::nat::{Nat, Translator};
use super::sim::SimError;
use super::streams::End;

/// A host, by the order in which it was added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

/// Ticks a host may need while time stands still, before it is said to spin.
const SPIN_LIMIT: u32 = 100_000;

/// What a host is made of.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// What runs on it.
    pub role: Role,
    /// Its machine's configuration.
    pub config: Arc<Config>,
    /// Its first address; unique in the run, unless the host is behind a translator.
    pub addr: SocketAddr,
    /// Its other addresses, of which each has a socket too.
    pub more_addrs: Vec<SocketAddr>,
    /// Translators in front of it, from the inside out: its router's, then a carrier's.
    pub nats: Vec<Nat>,
    /// How it is connected.
    pub link: Link,
    /// Its disk.
    pub disk: DiskSpec,
    /// How its clocks go.
    pub skew: Skew,
    /// Content it has on disk from the start.
    pub content: Option<Content>,
    /// Of every so many blocks that it reads for others one is wrong; 0 is none.
    pub lies: u32,
    /// Keep a recording of every input, for [`crate::replay`]; of its last life, if it was
    /// restarted.
    pub record: bool,
    /// Keep what the machine tells its embedder, for [`crate::Sim::seen`].
    pub keep_events: bool,
}

impl HostSpec {
    /// A host at `addr` with a default engine in lab mode and a link of 100 Mbit/s.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let config = Config {
            lab: true,
            ..Config::default()
        };
        Self {
            role: Role::Engine,
            config: Arc::new(config),
            addr,
            more_addrs: Vec::new(),
            nats: Vec::new(),
            link: Link::default(),
            disk: DiskSpec::default(),
            skew: Skew::default(),
            content: None,
            lies: 0,
            record: false,
            keep_events: true,
        }
    }

    /// A router: a DHT node that others know by name and begin with. It is asked more than it
    /// asks, and so may answer more and knows more nodes than others.
    #[must_use]
    pub fn router(addr: SocketAddr) -> Self {
        let mut spec = Self {
            role: Role::DhtNode,
            ..Self::new(addr)
        };
        let dht = &mut Arc::make_mut(&mut spec.config).dht;
        dht.wide_buckets = [512, 256, 128, 64];
        dht.reply_bytes_per_second = 64 << 20;
        dht.unproven_bytes_per_second = 64 << 20;
        dht.max_tracked_addresses = 1 << 20;
        spec
    }

    /// All its addresses; sockets are numbered in this order.
    pub fn addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.addr).chain(self.more_addrs.iter().copied())
    }

    pub(crate) fn addr_of(&self, socket: u32) -> Option<SocketAddr> {
        match socket {
            0 => Some(self.addr),
            socket => self.more_addrs.get(socket as usize - 1).copied(),
        }
    }

    /// The first of its addresses of a family.
    pub(crate) fn addr_for(&self, to: SocketAddr) -> Option<SocketAddr> {
        self.addrs().find(|addr| addr.is_ipv4() == to.is_ipv4())
    }
}

/// Something a machine told its embedder, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Virtual time.
    pub at: Instant,
    /// What it told.
    pub event: Event,
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Suspended until this moment.
    Asleep(u64),
    /// Its process is gone: whoever connects is refused.
    Dead,
    /// Nobody answers.
    Off,
}

pub(crate) struct Host {
    pub(crate) id: u32,
    pub(crate) spec: Box<HostSpec>,
    pub(crate) machine: Option<Box<dyn Machine>>,
    pub(crate) state: State,
    /// Counted from 0, one more at each restart.
    pub(crate) life: u32,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) up: PipeState,
    pub(crate) down: PipeState,
    pub(crate) nats: Vec<Translator>,
    pub(crate) ends: Slab<End>,
    /// Which end a connection is.
    pub(crate) conns: BTreeMap<ConnId, Key>,
    /// Ends that others dialed, by who and their name for it.
    pub(crate) dialed: BTreeMap<(u32, u64), Key>,
    pub(crate) ports_used: u32,
    pub(crate) sequence: u32,
    /// Datagrams it sent. Draws are made by this number, so that a host that sends one less
    /// changes nothing for those of others.
    pub(crate) datagrams: u64,
    /// The same of what it sent of streams.
    pub(crate) segments: u64,
    /// When its one timer in the queue is due; 0 while there is none.
    pub(crate) timer: u64,
    pub(crate) seen: Vec<Seen>,
    /// Torrents that were added, to be added again after a restart.
    pub(crate) added: Vec<(Tag, Command)>,
    reads: u32,
    chain: Chain,
    outputs: OutputHash,
    recording: Option<Box<(Writer, Vec<u8>)>>,
    ticks: (u64, u32),
}

impl Host {
    pub(crate) fn new(id: u32, spec: HostSpec, seed: u64, now: u64) -> Result<Self, SimError> {
        let nats = spec.nats.iter().cloned().map(Translator::new).collect();
        let mut host = Self {
            id,
            clock: Clock::new(spec.skew, now),
            spec: Box::new(spec),
            machine: None,
            state: State::Up,
            life: 0,
            disk: Disk::default(),
            up: PipeState::default(),
            down: PipeState::default(),
            nats,
            ends: Slab::default(),
            conns: BTreeMap::new(),
            dialed: BTreeMap::new(),
            ports_used: 0,
            sequence: 0,
            datagrams: 0,
            segments: 0,
            timer: 0,
            seen: Vec::new(),
            added: Vec::new(),
            reads: 0,
            chain: Chain::default(),
            outputs: OutputHash::new(),
            recording: None,
            ticks: (0, 0),
        };
        host.be_born(seed, now)?;
        Ok(host)
    }

    /// Makes its machine, with randomness of this life alone.
    pub(crate) fn be_born(&mut self, seed: u64, now: u64) -> Result<(), SimError> {
        let mut own = [0; 32];
        for (at, chunk) in own.chunks_exact_mut(8).enumerate() {
            let number = u64::from(self.life) << 8 | at as u64;
            let bits = draw(seed, u64::from(self.id), Purpose::Seed as u64, number);
            chunk.copy_from_slice(&bits.to_le_bytes());
        }
        let born = Born {
            config: Arc::clone(&self.spec.config),
            seed: own,
            now: self.clock.read(now),
        };
        self.machine = Some(self.spec.role.make(&born).map_err(SimError::Config)?);
        self.recording = self.spec.record.then(|| {
            let mut file = Vec::new();
            let writer = Writer::begin(&born.config, &born.seed, born.now, &mut file);
            Box::new((writer, file))
        });
        // A replay starts with no outputs behind it, and so does this life's hash.
        self.chain.number(self.outputs.value());
        self.outputs = OutputHash::new();
        Ok(())
    }

    /// Feeds the machine one input; what it asks for is in `out`.
    pub(crate) fn handle(
        &mut self,
        now: u64,
        input: Input<'_>,
        out: &mut Outbox,
        encoded: &mut Vec<u8>,
    ) -> Result<(), SimError> {
        let Some(machine) = &mut self.machine else {
            return Ok(());
        };
        if matches!(input, Input::Tick) {
            let so_far = if self.ticks.0 == now { self.ticks.1 } else { 0 };
            self.ticks = (now, so_far + 1);
            if so_far >= SPIN_LIMIT {
                return Err(SimError::Spin(self.spec.addr, Instant::from_micros(now)));
            }
        }
        let own = self.clock.read(now);
        encoded.clear();
        encode_input(&input, encoded);
        self.chain.number(own.as_micros());
        self.chain.bytes(encoded);
        if let Some(recording) = &mut self.recording {
            let (writer, file) = &mut **recording;
            writer.record(own, &input, file);
        }
        machine.handle(own, input, out);
        Ok(())
    }

    /// The moment of the run at which its machine wants to be woken.
    pub(crate) fn next_timeout(&self) -> Option<u64> {
        let own = self.machine.as_ref()?.next_timeout()?;
        Some(self.clock.when(own))
    }

    /// What it serves when it has read this: a liar's blocks are wrong now and then.
    pub(crate) fn serve(&mut self, read: JobResult) -> JobResult {
        let JobResult::Read(data) = read else {
            return read;
        };
        self.reads += 1;
        if self.spec.lies == 0 || !self.reads.is_multiple_of(self.spec.lies) {
            return JobResult::Read(data);
        }
        let mut wrong = BytesMut::from(&data[..]);
        flip(&mut wrong, self.reads as usize);
        JobResult::Read(wrong.freeze())
    }

    /// Counts bytes that arrived and that the machine is not told of.
    pub(crate) fn miss(&mut self, now: u64, data: &[u8]) {
        self.chain.number(now);
        self.chain.bytes(data);
    }

    /// Counts one output in the host's hash.
    pub(crate) fn absorb(&mut self, output: &Output<'_>) {
        self.outputs.absorb(output);
    }

    /// Hash of all inputs and outputs so far.
    pub(crate) fn hash(&self) -> u64 {
        mix(self.chain.value() ^ self.outputs.value().rotate_left(1))
    }

    pub(crate) fn output_hash(&self) -> u64 {
        self.outputs.value()
    }

    pub(crate) fn recording(&self) -> Option<&[u8]> {
        self.recording.as_ref().map(|recording| &recording.1[..])
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        let machine: &dyn Any = self.machine.as_deref()?;
        machine.downcast_ref()
    }

    /// The socket that a datagram from `from` to `to` comes to; `None` when a translator keeps it
    /// out.
    pub(crate) fn socket_for(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        now: u64,
    ) -> Option<SocketId> {
        let mut to = to;
        for (depth, nat) in self.nats.iter().enumerate().rev() {
            if nat.nat().outside != to.ip() {
                continue;
            }
            to = nat.inbound(from, to.port(), now, self.inside_of(depth, to.port()))?;
        }
        let place = self.spec.addrs().position(|addr| addr == to)?;
        Some(SocketId(place as u32))
    }

    /// Where a port that is forwarded leads to, inside of the translator of that number.
    fn inside_of(&self, depth: usize, port: u16) -> Option<SocketAddr> {
        match depth.checked_sub(1) {
            Some(inner) => Some(SocketAddr::new(self.nats[inner].nat().outside, port)),
            None => self.spec.addrs().find(|addr| addr.port() == port),
        }
    }

    /// Whether somebody who connects to `to` gets in.
    pub(crate) fn listens_at(&self, to: SocketAddr) -> bool {
        let inward = self.nats.iter().filter(|nat| nat.nat().outside == to.ip());
        let translated = inward.count() > 0;
        if !translated {
            return self.spec.addrs().any(|addr| addr == to);
        }
        // A stream opens a port of its own on its way out: nobody else gets in through that.
        let family = |nat: &&Translator| nat.nat().outside.is_ipv4() == to.is_ipv4();
        let forwarded = self
            .nats
            .iter()
            .filter(family)
            .all(|nat| nat.nat().forwards);
        forwarded && self.spec.addrs().any(|addr| addr.port() == to.port())
    }

    /// A port that a stream can leave from.
    pub(crate) fn next_port(&mut self) -> u16 {
        self.ports_used = self.ports_used.wrapping_add(1);
        49_152 + (self.ports_used % 16_384) as u16
    }
}
