//! The run: hosts are added, told what to do and looked at; time passes.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use trackerless_core::config::ConfigError;
use trackerless_core::id::{Id20, NodeId};
use trackerless_core::io::{AddTorrent, Command, IoReason, SocketId, Source, StateKind, Tag};
use trackerless_core::metainfo::Info;
use trackerless_core::resume::Resume;
use trackerless_core::{Engine, Input, Instant};

use super::clock::Skew;
use super::directory::Directory;
use super::disk::{At, Crash, DiskSpec, Library};
use super::draw::Root;
use super::host::{Host, HostId, HostSpec, Seen, State};
use super::link::{Direction, Link};
use super::machine::{DhtNode, Machine};
use super::nat::{Nat, Translator};
use super::network::{Network, Place};
use super::partition::Partition;
use super::shard::{Happening, Shard, World};
use super::streams::TcpModel;
use crate::watch::Watch;

/// When a run begins, virtual time.
pub const START: Instant = Instant::from_micros(1_000_000);
/// Virtual time between two questions whether a run is over, microseconds.
const ASK_EVERY: u64 = 10_000;
/// Most threads, as a power of two.
const MOST_THREADS_LOG: u32 = 6;

/// Why a run had to stop.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SimError {
    /// A host's configuration is out of range.
    Config(ConfigError),
    /// Two hosts have one address, or one of them the ports of the other's translator.
    AddressTaken(SocketAddr),
    /// A machine asked to be woken at a moment that had come, without end.
    Spin(SocketAddr, Instant),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::AddressTaken(addr) => write!(f, "{addr}: another host has this address"),
            Self::Spin(addr, at) => write!(f, "{addr}: the engine's timer spins at {at:?}"),
        }
    }
}

impl std::error::Error for SimError {}

/// One deliberate disturbance of one packet: that of this number among what this host sent.
/// Datagrams are counted in the order in which they are sent, and so is what is sent of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Who sends it.
    pub host: HostId,
    /// Its number, from 0.
    pub number: u64,
    /// What happens to it.
    pub what: What,
}

/// What a [`Fault`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// This bit of the datagram is flipped, counted round its bytes.
    FlipBit(usize),
    /// The datagram is lost.
    Drop,
    /// The datagram arrives one microsecond later.
    Delay,
    /// This bit of what is sent of a stream is flipped, counted round its bytes, and no checksum
    /// notices.
    FlipSegmentBit(usize),
    /// What is sent of a stream, and all that follows it there, arrives one microsecond later.
    DelaySegment,
}

/// Names a partition that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u32);

/// A run of many hosts over one virtual network.
pub struct Sim {
    world: World,
    shards: Vec<Shard>,
    hosts: u32,
    now: u64,
    record_all: bool,
    partitions_made: u32,
    root: Root,
    epoch: u64,
    epochs: Vec<Root>,
}

impl Sim {
    /// An empty network. Everything that is drawn comes from `seed`.
    #[must_use]
    pub fn new(seed: u64, network: Network) -> Self {
        Self::with_threads(seed, network, 1)
    }

    /// The same on up to so many threads, with the same root. Threads go on side by side for as
    /// long as the shortest delay between two hosts, so a network of microseconds gains nothing;
    /// nor does one whose streams are fluids, which runs on one thread.
    #[must_use]
    pub fn with_threads(seed: u64, network: Network, threads: u32) -> Self {
        let side_by_side = network.tcp != TcpModel::Fluid && network.least_delay() > 0;
        let shift = if side_by_side {
            threads.max(1).ilog2().min(MOST_THREADS_LOG)
        } else {
            0
        };
        let world = World {
            seed,
            network,
            directory: Directory::default(),
            places: Vec::new(),
            partitions: BTreeMap::new(),
            names: BTreeMap::new(),
            library: Library::default(),
            faults: Vec::new(),
            shift,
        };
        Self {
            shards: (0..1 << shift).map(|at| Shard::new(at, shift)).collect(),
            world,
            hosts: 0,
            now: START.as_micros(),
            record_all: false,
            partitions_made: 0,
            root: Root::default(),
            epoch: 1,
            epochs: Vec::new(),
        }
    }

    fn shard(&self, host: u32) -> &Shard {
        &self.shards[(host & ((1 << self.world.shift) - 1)) as usize]
    }

    fn shard_mut(&mut self, host: u32) -> (&mut Shard, &World) {
        let at = (host & ((1 << self.world.shift) - 1)) as usize;
        (&mut self.shards[at], &self.world)
    }

    fn host(&self, host: HostId) -> &Host {
        self.shard(host.0).host(host.0)
    }

    fn host_mut(&mut self, host: HostId) -> &mut Host {
        self.shard_mut(host.0).0.host_mut(host.0)
    }

    /// Adds a host; its sockets come up at once.
    ///
    /// # Errors
    /// When its configuration is wrong or its address taken.
    pub fn add_host(&mut self, mut spec: HostSpec) -> Result<HostId, SimError> {
        let id = self.hosts;
        spec.record |= self.record_all;
        let (seed, now) = (self.world.seed, self.now);
        if let Some(content) = &spec.content {
            self.world.library.add(content);
        }
        let delay = spec.link.delay.as_micros() as u64;
        let host = Host::new(id, spec, seed, now)?;
        self.register(&host.spec, id)?;
        self.world.places.push((Place::draw(seed, id), delay));
        self.hosts += 1;
        let (shard, _) = self.shard_mut(id);
        shard.now = shard.now.max(now);
        shard.hosts.push(host);
        shard.schedule(now, id, id, Happening::Boot { life: 0 });
        Ok(HostId(id))
    }

    /// Makes a host known under its addresses.
    fn register(&mut self, spec: &HostSpec, id: u32) -> Result<(), SimError> {
        for (socket, addr) in spec.addrs().enumerate() {
            let nat = outermost(spec, addr);
            let added = match nat {
                // Its translators' ports are known once, however many of its addresses they serve.
                Some(nat) => {
                    let range = (nat.outside, *nat.ports.start());
                    self.world.directory.has_range(range, id)
                        || self.world.directory.add_range(nat.outside, &nat.ports, id)
                }
                None => self.world.directory.add(addr, id, socket as u8),
            };
            if !added {
                self.unregister(spec, id);
                return Err(SimError::AddressTaken(addr));
            }
        }
        Ok(())
    }

    fn unregister(&mut self, spec: &HostSpec, id: u32) {
        for addr in spec.addrs() {
            match outermost(spec, addr) {
                Some(nat) => {
                    let first = *nat.ports.start();
                    self.world.directory.remove_range(nat.outside, first, id);
                }
                None => self.world.directory.remove(addr, id),
            }
        }
    }

    /// Keeps a recording of every host added from now on.
    pub fn record_all(&mut self) {
        self.record_all = true;
    }

    /// Disturbs one packet of the run.
    pub fn inject(&mut self, fault: Fault) {
        self.world.faults.push(fault);
    }

    /// When the first fault struck; `None` while none did.
    #[must_use]
    pub fn struck(&self) -> Option<Instant> {
        let struck = self.shards.iter().filter_map(|shard| shard.struck).min();
        struck.map(Instant::from_micros)
    }

    /// Datagrams that a host sent so far, lost ones included.
    #[must_use]
    pub fn datagrams(&self, host: HostId) -> u64 {
        self.host(host).datagrams
    }

    /// Segments of streams, or what travels as one, that a host sent so far.
    #[must_use]
    pub fn segments(&self, host: HostId) -> u64 {
        self.host(host).segments
    }

    /// Gives a host a command at virtual time `after` from now.
    pub fn command(&mut self, host: HostId, after: Duration, tag: Tag, command: Command) {
        let at = self.now + after.as_micros() as u64;
        let command = Happening::Command {
            tag,
            command: Box::new(command),
        };
        let (shard, _) = self.shard_mut(host.0);
        shard.schedule(at, host.0, host.0, command);
    }

    /// Has somebody look on from now on. On several threads hosts take turns then, each for as long
    /// as the shortest delay.
    pub fn watch(&mut self, watcher: Box<dyn Watch>) {
        self.shards[0].watchers.push(watcher);
    }

    /// Takes back all who look on, in the order in which they came.
    pub fn unwatch(&mut self) -> Vec<Box<dyn Watch>> {
        std::mem::take(&mut self.shards[0].watchers)
    }

    /// The first of them that has this type.
    #[must_use]
    pub fn watcher<T: Watch>(&self) -> Option<&T> {
        self.shards[0].watchers.iter().find_map(|watcher| {
            let watcher: &dyn Any = &**watcher;
            watcher.downcast_ref()
        })
    }

    /// Changes how many packets get lost between the links from now on, parts per million.
    pub fn set_loss(&mut self, ppm: u32) {
        self.world.network.loss_ppm = ppm;
    }

    /// Gives a name addresses, for hosts that resolve it.
    pub fn name(&mut self, name: &str, addrs: Vec<IpAddr>) {
        self.world.names.insert(name.to_owned(), addrs);
    }

    /// Cuts hosts off from others, until it is healed.
    pub fn part(&mut self, partition: Partition) -> PartitionId {
        let id = self.partitions_made;
        self.partitions_made += 1;
        self.world.partitions.insert(id, partition);
        PartitionId(id)
    }

    /// Ends a partition.
    pub fn heal(&mut self, partition: PartitionId) {
        self.world.partitions.remove(&partition.0);
    }

    /// Takes a host down. What it had open is gone; what its disk has stays, as far as `crash`
    /// leaves it.
    pub fn crash(&mut self, host: HostId, crash: Crash) {
        let now = self.now;
        let (shard, world) = self.shard_mut(host.0);
        let entry = shard.host_mut(host.0);
        entry.machine = None;
        entry.life += 1;
        entry.timer = 0;
        entry.state = match crash {
            Crash::Process => State::Dead,
            Crash::Power => State::Off,
        };
        let spec = entry.spec.disk;
        let at = At {
            spec: &spec,
            library: &world.library,
            seed: world.seed,
            host: host.0,
            now,
        };
        entry.disk.crash(at, crash);
        entry.up.reset();
        entry.down.reset();
        let ends: Vec<_> = entry.ends.iter().map(|(key, _)| key).collect();
        for end in ends {
            shard.forget_end(host.0, end);
        }
    }

    /// Starts a host again that went down: a new machine, with what its disk has. Torrents that
    /// were added are added again, with what was saved of them, and so is the DHT's table.
    ///
    /// # Errors
    /// When its configuration is wrong, which it was not before.
    pub fn restart(&mut self, host: HostId) -> Result<(), SimError> {
        let now = self.now;
        let (shard, world) = self.shard_mut(host.0);
        let entry = shard.host_mut(host.0);
        if entry.machine.is_some() {
            return Ok(());
        }
        entry.state = State::Up;
        entry.be_born(world.seed, now)?;
        let life = entry.life;
        let added = std::mem::take(&mut entry.added);
        let table = entry.disk.saved(StateKind::DhtTable).cloned();
        let mut commands: Vec<(Tag, Command)> = Vec::new();
        if let Some(table) = table {
            commands.push((Tag(0), Command::DhtLoad(table)));
        }
        for (tag, command) in added {
            let Command::AddTorrent(add) = command else {
                continue;
            };
            commands.push((tag, Command::AddTorrent(as_saved(add, entry))));
        }
        shard.schedule(now, host.0, host.0, Happening::Boot { life });
        for (tag, command) in commands {
            self.command(host, Duration::ZERO, tag, command);
        }
        Ok(())
    }

    /// Whether a host is up: neither crashed nor asleep.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.host(host).state == State::Up
    }

    /// Suspends a host: nothing happens on it for so long, and datagrams for it are lost. Its clock
    /// stands still meanwhile, unless `counts`.
    pub fn sleep(&mut self, host: HostId, time: Duration, counts: bool) {
        let now = self.now;
        let micros = time.as_micros() as u64;
        let (shard, _) = self.shard_mut(host.0);
        let entry = shard.host_mut(host.0);
        if entry.state != State::Up {
            return;
        }
        entry.state = State::Asleep(now + micros);
        if !counts {
            // As if it had been that much earlier when it wakes.
            entry.clock.stood_still(now, micros);
        }
        shard.schedule(now + micros, host.0, host.0, Happening::Awake);
    }

    /// Sets a host's clocks forward, or back, by so many microseconds.
    pub fn jump_clock(&mut self, host: HostId, micros: i64) -> Result<(), SimError> {
        let now = self.now;
        self.host_mut(host).clock.jump(now, micros);
        let unix = self.host(host).clock.wall(START.as_micros(), now);
        self.tell(host, Input::WallClock { unix })
    }

    /// Has a host's clocks go otherwise from now on.
    pub fn set_skew(&mut self, host: HostId, skew: Skew) {
        let now = self.now;
        let (shard, _) = self.shard_mut(host.0);
        shard.now = shard.now.max(now);
        let entry = shard.host_mut(host.0);
        entry.clock.set_skew(now, skew);
        entry.timer = 0;
        shard.arm(host.0);
    }

    /// Gives a host another link; what waits in the queues of the old one still goes.
    pub fn set_link(&mut self, host: HostId, link: Link) {
        self.world.places[host.0 as usize].1 = link.delay.as_micros() as u64;
        self.host_mut(host).spec.link = link;
        let (shard, _) = self.shard_mut(host.0);
        shard.fluid.change();
    }

    /// The link of a host.
    #[must_use]
    pub fn link(&self, host: HostId) -> &Link {
        &self.host(host).spec.link
    }

    /// Gives a host's disk other properties: full, freed, slower, failing.
    pub fn set_disk(&mut self, host: HostId, disk: DiskSpec) {
        self.host_mut(host).spec.disk = disk;
    }

    /// Gives a host other addresses and translators. Its sockets come up anew; its streams are as
    /// good as cut, which neither side is told.
    ///
    /// # Errors
    /// When an address is taken; then the host keeps those it had.
    pub fn move_host(
        &mut self,
        host: HostId,
        addr: SocketAddr,
        more_addrs: Vec<SocketAddr>,
        nats: Vec<Nat>,
    ) -> Result<(), SimError> {
        let mut spec = HostSpec::clone(&self.host(host).spec);
        let before = spec.clone();
        self.unregister(&before, host.0);
        spec.addr = addr;
        spec.more_addrs = more_addrs;
        spec.nats = nats;
        if let Err(error) = self.register(&spec, host.0) {
            self.register(&before, host.0)?;
            return Err(error);
        }
        let entry = self.host_mut(host);
        entry.nats = spec.nats.iter().cloned().map(Translator::new).collect();
        let same = before.addrs().eq(spec.addrs());
        *entry.spec = spec;
        let ends: Vec<_> = entry.ends.iter().map(|(key, _)| key).collect();
        for end in ends {
            if let Some(end) = entry.ends.at_mut(end) {
                end.dead = true;
            }
        }
        if same || !self.is_up(host) {
            return Ok(());
        }
        for socket in (0..before.addrs().count() as u32).map(SocketId) {
            let reason = IoReason::AddressUnavailable;
            self.tell(host, Input::SocketDown { socket, reason })?;
        }
        let now = self.now;
        let (shard, world) = self.shard_mut(host.0);
        shard.now = shard.now.max(now);
        shard.sockets_up(world, host.0)
    }

    /// Gives a DHT node a routing table, which counts in its hash.
    pub(super) fn know(&mut self, host: HostId, nodes: &[(NodeId, SocketAddr)]) {
        let now = self.now;
        let (shard, _) = self.shard_mut(host.0);
        shard.now = shard.now.max(now);
        let entry = shard.host_mut(host.0);
        let own = entry.clock.read(now);
        let machine = entry.machine.as_deref_mut();
        let machine = machine.map(|machine| machine as &mut dyn Any);
        if let Some(node) = machine.and_then(|machine| machine.downcast_mut::<DhtNode>()) {
            node.know(own, nodes);
            for (id, _) in nodes {
                entry.miss(now, &id.0);
            }
            shard.arm(host.0);
        }
    }

    fn tell(&mut self, host: HostId, input: Input<'_>) -> Result<(), SimError> {
        let now = self.now;
        let (shard, world) = self.shard_mut(host.0);
        shard.now = shard.now.max(now);
        shard.feed(world, host.0, input)
    }

    /// Runs until `done` says so or `limit` of virtual time has passed; true when `done` said so.
    /// `done` is asked once per simulated 10 ms.
    ///
    /// # Errors
    /// When a machine breaks a promise that makes going on pointless.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, SimError> {
        let end = self.now + limit.as_micros() as u64;
        let mut ask_at = self.now;
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            if at >= ask_at {
                if done(self) {
                    return Ok(true);
                }
                ask_at = at + ASK_EVERY;
            }
            self.advance(at);
            let second = (at / 1_000_000 + 1) * 1_000_000;
            self.run_to(ask_at.min(second).min(end + 1))?;
        }
        self.advance(end);
        Ok(done(self))
    }

    fn next_at(&mut self) -> Option<u64> {
        self.shards.iter_mut().filter_map(Shard::next_at).min()
    }

    /// Does all that is due before `until`: hosts of different shards side by side, for as long
    /// as nothing that one of them does can reach another.
    fn run_to(&mut self, until: u64) -> Result<(), SimError> {
        let done = if let [shard] = self.shards.as_mut_slice() {
            shard.run(&self.world, until)
        } else {
            self.run_side_by_side(until)
        };
        let latest = self.shards.iter().map(|shard| shard.now).max();
        self.now = self.now.max(latest.unwrap_or(0));
        done
    }

    fn run_side_by_side(&mut self, until: u64) -> Result<(), SimError> {
        let ahead = self.world.network.least_delay();
        while let Some(next) = self.next_at().filter(|at| *at < until) {
            let stop = until.min(next + ahead);
            if !self.shards[0].watchers.is_empty() {
                self.run_in_turn(stop)?;
                self.exchange();
                continue;
            }
            let world = &self.world;
            let results: Vec<Result<(), SimError>> = std::thread::scope(|scope| {
                let run = |shard: &'_ mut Shard| shard.run(world, stop);
                let (first, others) = self.shards.split_at_mut(1);
                let others: Vec<_> = others
                    .iter_mut()
                    .map(|shard| scope.spawn(move || run(shard)))
                    .collect();
                let first = first.iter_mut().map(run).collect::<Vec<_>>();
                let others = others.into_iter().map(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                first.into_iter().chain(others).collect()
            });
            self.exchange();
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Shards one after another, so that whoever looks on sees all hosts.
    fn run_in_turn(&mut self, until: u64) -> Result<(), SimError> {
        let mut watchers = self.unwatch();
        let mut done = Ok(());
        for shard in &mut self.shards {
            shard.watchers = watchers;
            done = done.and(shard.run(&self.world, until));
            watchers = std::mem::take(&mut shard.watchers);
        }
        self.shards[0].watchers = watchers;
        done
    }

    /// Brings what hosts did to hosts of other shards there.
    fn exchange(&mut self) {
        for from in 0..self.shards.len() {
            let outgoing = self.shards[from].outgoing.iter_mut();
            let outgoing: Vec<_> = outgoing.map(std::mem::take).collect();
            for (to, happenings) in outgoing.into_iter().enumerate() {
                for (order, happening) in happenings {
                    self.shards[to].take_in(order, happening);
                }
            }
        }
    }

    fn advance(&mut self, at: u64) {
        self.now = self.now.max(at);
        let epoch = self.now / 1_000_000;
        while self.epoch < epoch {
            self.epoch += 1;
            let root = self.root();
            self.root = root;
            self.epochs.push(root);
            let mut watchers = self.unwatch();
            for watcher in &mut watchers {
                watcher.second(self);
            }
            self.shards[0].watchers = watchers;
        }
        for shard in &mut self.shards {
            shard.now = shard.now.max(self.now);
        }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// The engine of a host that is one, to look at.
    ///
    /// # Panics
    /// When the host is something else, or down.
    #[must_use]
    pub fn engine(&self, host: HostId) -> &Engine {
        self.host(host).engine().expect("the host runs an engine")
    }

    /// The machine of a host, if it is up and of that kind.
    #[must_use]
    pub fn machine<M: Machine>(&self, host: HostId) -> Option<&M> {
        let machine: &dyn Any = self.host(host).machine.as_deref()?;
        machine.downcast_ref()
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts).map(HostId)
    }

    /// What a host's machine told its embedder so far.
    #[must_use]
    pub fn seen(&self, host: HostId) -> &[Seen] {
        &self.host(host).seen
    }

    /// The address of a host.
    #[must_use]
    pub fn addr(&self, host: HostId) -> SocketAddr {
        self.host(host).spec.addr
    }

    /// What a host is made of.
    #[must_use]
    pub fn spec(&self, host: HostId) -> &HostSpec {
        &self.host(host).spec
    }

    /// Bytes that wait in front of one of a host's pipes, those of streams included.
    #[must_use]
    pub fn queued(&self, host: HostId, direction: Direction) -> u64 {
        let entry = self.host(host);
        match direction {
            Direction::Up => entry.up.queued(&entry.spec.link.up, self.now),
            Direction::Down => entry.down.queued(&entry.spec.link.down, self.now),
        }
    }

    /// Bytes that passed one of a host's pipes, and packets that found its queue full.
    #[must_use]
    pub fn passed(&self, host: HostId, direction: Direction) -> (u64, u64) {
        let entry = self.host(host);
        let pipe = match direction {
            Direction::Up => &entry.up,
            Direction::Down => &entry.down,
        };
        (pipe.bytes, pipe.dropped)
    }

    /// Bytes in use on a host's disk.
    #[must_use]
    pub fn disk_used(&self, host: HostId) -> u64 {
        self.host(host).disk.used()
    }

    /// What a host saved under that name, as its disk has it now.
    #[must_use]
    pub fn saved(&self, host: HostId, kind: StateKind) -> Option<&[u8]> {
        self.host(host).disk.saved(kind).map(|data| &data[..])
    }

    /// The recording of a host that keeps one.
    #[must_use]
    pub fn recording(&self, host: HostId) -> Option<&[u8]> {
        self.host(host).recording()
    }

    /// Hash of everything a host's machine asked for and told in this life.
    #[must_use]
    pub fn output_hash(&self, host: HostId) -> u64 {
        self.host(host).output_hash()
    }

    /// Inputs handled by all machines.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.shards.iter().map(|shard| shard.handled).sum()
    }

    /// Events that happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.shards.iter().map(|shard| shard.events).sum()
    }

    /// Events that wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shards.iter().map(Shard::pending).sum()
    }

    /// The trace root at the end of each simulated second.
    #[must_use]
    pub fn epochs(&self) -> &[Root] {
        &self.epochs
    }

    /// The hash of all that happened to a host so far.
    #[must_use]
    pub fn host_hash(&self, host: HostId) -> u64 {
        self.host(host).hash()
    }

    /// The trace root now: equal for equal runs, and for no others.
    #[must_use]
    pub fn root(&self) -> Root {
        let mut root = self.root;
        self.hosts()
            .for_each(|host| root.fold(self.host(host).hash()));
        root
    }
}

/// The translator that a host is known by outside, where this address of it is translated.
fn outermost(spec: &HostSpec, addr: SocketAddr) -> Option<&Nat> {
    let mut nats = spec.nats.iter().rev();
    nats.find(|nat| nat.outside.is_ipv4() == addr.is_ipv4())
}

/// A torrent with what the host's disk has of it.
fn as_saved(mut add: AddTorrent, host: &Host) -> AddTorrent {
    let hash = match &add.source {
        Source::Torrent(torrent) => Some(torrent.info.hashes.short()),
        Source::Magnet(link) => {
            let magnet = trackerless_core::metainfo::Magnet::parse(link).ok();
            magnet.map(|magnet| magnet.hashes.short())
        }
    };
    let saved = |hash: Id20| host.disk.saved(StateKind::Resume(hash));
    let resume = hash
        .and_then(saved)
        .and_then(|data| Resume::decode(data).ok());
    if let Some(resume) = resume {
        let info = resume.info.clone().and_then(|raw| Info::parse(raw).ok());
        add.info = info.map(Arc::new);
        add.resume = Some(Box::new(resume));
    }
    add
}
