//! Hosts that share a thread: what happens to them, and what their machines ask for.
//!
//! Whatever happens to a host touches that host alone, and speaks to others through events that
//! arrive later. So hosts can be dealt out to threads, and the order of what happens to each of
//! them is the same however they are dealt out. (Fluid flows are the exception: they share links,
//! and so need all hosts on one thread.)

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use trackerless_core::Instant;
use trackerless_core::event::Event;
use trackerless_core::io::{
    Command, ConnId, IoReason, JobError, JobId, JobResult, SocketId, StateKind, Tag, Work,
};
use trackerless_core::slab::Key;
use trackerless_core::{Input, Outbox, Output};

use super::directory::{Directory, Whose};
use super::disk::{At, Library};
use super::draw::flip;
use super::fluid::Fluid;
use super::host::{Host, HostId, Seen, State};
use super::link::Direction;
use super::network::{Network, Place};
use super::partition::Partition;
use super::queue::{Entry, Order, Store, Wheel};
use super::sim::{Fault, START, SimError, What};
use super::streams::Message;
use crate::watch::Watch;

/// Bytes of IP and UDP headers.
const UDP_V4: u64 = 28;
const UDP_V6: u64 = 48;
/// Buffers of datagrams that are kept to be used again.
const SPARE_BUFFERS: usize = 4_096;

/// What all hosts see and nothing that happens changes.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) network: Network,
    pub(crate) directory: Directory,
    /// Where hosts are, and what their links add to every delay.
    pub(crate) places: Vec<(Place, u64)>,
    pub(crate) partitions: BTreeMap<u32, Partition>,
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) library: Library,
    pub(crate) faults: Vec<Fault>,
    /// Hosts are dealt out to this many shards, as a power of two.
    pub(crate) shift: u32,
}

impl World {
    /// Whether a partition keeps packets of one host from the other.
    pub(crate) fn blocks(&self, from: u32, to: u32) -> bool {
        let mut partitions = self.partitions.values();
        partitions.any(|partition| partition.stops(self.seed, from, to))
    }

    /// The one-way delay between two hosts, links included, microseconds.
    pub(crate) fn delay(&self, from: u32, to: u32) -> u64 {
        let ((a, delay_a), (b, delay_b)) = (self.places[from as usize], self.places[to as usize]);
        delay_a + self.network.pair_delay(a, b) + delay_b
    }

    /// What is to happen to the packet of that number from `host`.
    pub(crate) fn faults_of(&self, host: u32, number: u64) -> impl Iterator<Item = What> + use<'_> {
        let those = move |fault: &&Fault| fault.host.0 == host && fault.number == number;
        self.faults.iter().filter(those).map(|fault| fault.what)
    }
}

/// What the queue holds, besides timers.
pub(crate) enum Happening {
    /// A packet is at the near end of the downlink.
    Packet(Packet),
    /// And at the far end.
    Received(Packet),
    /// Something that does not travel as a packet.
    Message {
        end: Key,
        sender: Key,
        message: Box<Message>,
    },
    ChunkLeft {
        end: Key,
    },
    FlowDone {
        flow: Key,
    },
    /// Rates of flows are worked out.
    Share,
    WakeEnd {
        end: Key,
    },
    Closed {
        conn: ConnId,
        reason: IoReason,
    },
    Sent {
        conn: ConnId,
        bytes: u32,
    },
    Job {
        life: u32,
        job: JobId,
        result: JobResult,
    },
    Command {
        tag: Tag,
        command: Box<Command>,
    },
    Boot {
        life: u32,
    },
    Awake,
}

/// Something that travels over links.
pub(crate) struct Packet {
    /// As the receiver sees it.
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// All of it, headers included.
    pub(crate) bytes: u32,
    /// The host that sent it.
    pub(crate) source: u32,
    /// What a fault delays it by, microseconds.
    pub(crate) late: u32,
    pub(crate) payload: Payload,
}

impl Packet {
    fn is_segment(&self) -> bool {
        let Payload::Stream { message, .. } = &self.payload else {
            return false;
        };
        matches!(message, Message::Segment(_))
    }
}

pub(crate) enum Payload {
    Datagram(Vec<u8>),
    Syn {
        from: Key,
    },
    Stream {
        end: Key,
        sender: Key,
        message: Message,
    },
}

/// In place of a happening: the timer of the host, which carries nothing.
const TIMER: u32 = u32::MAX;

/// Some of the hosts, and what is to happen to them.
pub(crate) struct Shard {
    pub(crate) index: u32,
    shift: u32,
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    queue: Wheel,
    store: Store<Happening>,
    /// What is to happen to hosts of other shards.
    pub(crate) outgoing: Vec<Vec<(Order, Happening)>>,
    /// Ends that may have something for their machines.
    pub(crate) ready: Vec<(u32, Key)>,
    pub(crate) fluid: Fluid,
    /// Who looks on at the hosts of this shard.
    pub(crate) watchers: Vec<Box<dyn Watch>>,
    outbox: Outbox,
    encoded: Vec<u8>,
    spare: Vec<Vec<u8>>,
    pub(crate) handled: u64,
    pub(crate) events: u64,
    /// When the first fault struck.
    pub(crate) struck: Option<u64>,
}

impl Shard {
    pub(crate) fn new(index: u32, shift: u32) -> Self {
        Self {
            index,
            shift,
            now: START.as_micros(),
            hosts: Vec::new(),
            queue: Wheel::default(),
            store: Store::default(),
            outgoing: (0..1 << shift).map(|_| Vec::new()).collect(),
            ready: Vec::new(),
            fluid: Fluid::default(),
            watchers: Vec::new(),
            outbox: Outbox::new(),
            encoded: Vec::new(),
            spare: Vec::new(),
            handled: 0,
            events: 0,
            struck: None,
        }
    }

    pub(crate) fn host(&self, id: u32) -> &Host {
        &self.hosts[(id >> self.shift) as usize]
    }

    pub(crate) fn host_mut(&mut self, id: u32) -> &mut Host {
        &mut self.hosts[(id >> self.shift) as usize]
    }

    /// Events that wait.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn schedule(&mut self, at: u64, to: u32, from: u32, happening: Happening) {
        let order = self.order(at, to, from);
        let shard = to & ((1 << self.shift) - 1);
        if shard == self.index {
            self.take_in(order, happening);
        } else {
            self.outgoing[shard as usize].push((order, happening));
        }
    }

    fn order(&mut self, at: u64, to: u32, from: u32) -> Order {
        let now = self.now;
        let source = self.host_mut(from);
        source.sequence = source.sequence.wrapping_add(1);
        Order {
            at: at.max(now),
            to,
            from,
            sequence: source.sequence,
        }
    }

    /// Files what is to happen to a host of this shard.
    pub(crate) fn take_in(&mut self, order: Order, happening: Happening) {
        let what = self.store.put(happening);
        self.queue.push(Entry { order, what });
    }

    pub(crate) fn next_at(&mut self) -> Option<u64> {
        self.queue.next_at()
    }

    /// Does everything that is due before `until`.
    pub(crate) fn run(&mut self, world: &World, until: u64) -> Result<(), SimError> {
        while let Some(entry) = self.queue.pop_before(until) {
            self.step(world, entry)?;
        }
        Ok(())
    }

    /// Does one thing.
    fn step(&mut self, world: &World, entry: Entry) -> Result<(), SimError> {
        let Entry { order, what } = entry;
        self.now = self.now.max(order.at);
        self.events += 1;
        if what == TIMER {
            self.on_timer(world, order.to)?;
        } else if let Some(happening) = self.store.take(what) {
            self.happen(world, order, happening)?;
        }
        // As a host does that reads one socket for as long as it may, and then the next.
        while let Some((host, end)) = self.ready.pop() {
            self.deliver(world, host, end)?;
        }
        self.share_out();
        Ok(())
    }

    fn on_timer(&mut self, world: &World, host: u32) -> Result<(), SimError> {
        let now = self.now;
        let entry = self.host_mut(host);
        if entry.timer != now {
            return Ok(());
        }
        if let State::Asleep(until) = entry.state {
            entry.timer = until;
            let order = self.order(until, host, host);
            self.queue.push(Entry { order, what: TIMER });
            return Ok(());
        }
        entry.timer = 0;
        if entry.next_timeout().is_some_and(|due| due <= now) {
            self.feed(world, host, Input::Tick)
        } else {
            self.arm(host);
            Ok(())
        }
    }

    fn happen(
        &mut self,
        world: &World,
        order: Order,
        happening: Happening,
    ) -> Result<(), SimError> {
        let host = order.to;
        if let State::Asleep(until) = self.host(host).state {
            match happening {
                // What comes while it sleeps is lost; what it waits for is there when it wakes.
                Happening::Packet(_) | Happening::Received(_) => return Ok(()),
                Happening::Awake | Happening::Share => {}
                other => {
                    self.schedule(until, host, host, other);
                    return Ok(());
                }
            }
        }
        match happening {
            Happening::Packet(packet) => self.on_packet(world, host, packet),
            Happening::Received(packet) => self.on_received(world, host, packet),
            Happening::Message {
                end,
                sender,
                message,
            } => self.on_message(world, host, order.from, None, (end, sender), *message),
            Happening::ChunkLeft { end } => self.on_chunk_left(world, host, end),
            Happening::FlowDone { flow } => self.on_flow_done(world, host, flow),
            Happening::Share => {
                self.fluid.armed = false;
                Ok(())
            }
            Happening::WakeEnd { end } => self.on_wake_end(world, host, end),
            Happening::Closed { conn, reason } => {
                self.feed(world, host, Input::Closed { conn, reason })
            }
            Happening::Sent { conn, bytes } => {
                if self.host(host).conns.contains_key(&conn) {
                    self.feed(world, host, Input::Sent { conn, bytes })
                } else {
                    Ok(())
                }
            }
            Happening::Job { life, job, result } => {
                if self.host(host).life != life {
                    return Ok(());
                }
                self.feed(world, host, Input::JobDone { job, result })
            }
            Happening::Command { tag, command } => {
                let entry = self.host_mut(host);
                if matches!(*command, Command::AddTorrent(_)) {
                    entry.added.push((tag, (*command).clone()));
                }
                self.feed(world, host, Input::Command { tag, command })
            }
            Happening::Boot { life } => {
                if self.host(host).life != life {
                    return Ok(());
                }
                self.boot(world, host)
            }
            Happening::Awake => {
                let now = self.now;
                let entry = self.host_mut(host);
                if entry.state == State::Asleep(now) {
                    entry.state = State::Up;
                    self.arm(host);
                }
                Ok(())
            }
        }
    }

    fn boot(&mut self, world: &World, host: u32) -> Result<(), SimError> {
        let now = self.now;
        let unix = self.host(host).clock.wall(START.as_micros(), now);
        self.feed(world, host, Input::WallClock { unix })?;
        self.sockets_up(world, host)
    }

    pub(crate) fn sockets_up(&mut self, world: &World, host: u32) -> Result<(), SimError> {
        let addrs: Vec<SocketAddr> = self.host(host).spec.addrs().collect();
        for (socket, local) in (0..).map(SocketId).zip(addrs) {
            self.feed(world, host, Input::SocketUp { socket, local })?;
        }
        Ok(())
    }

    pub(crate) fn feed(
        &mut self,
        world: &World,
        host: u32,
        input: Input<'_>,
    ) -> Result<(), SimError> {
        self.handled += 1;
        let now = self.now;
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut watchers = std::mem::take(&mut self.watchers);
        let at = Instant::from_micros(now);
        let entry = self.host_mut(host);
        if entry.machine.is_some() {
            for watcher in &mut watchers {
                watcher.input(at, HostId(host), &input);
            }
        }
        let done = entry.handle(now, input, &mut outbox, &mut encoded);
        self.encoded = encoded;
        for output in outbox.drain() {
            for watcher in &mut watchers {
                watcher.output(at, HostId(host), &output);
            }
            self.host_mut(host).absorb(&output);
            self.perform(world, host, output);
        }
        self.outbox = outbox;
        self.watchers = watchers;
        self.arm(host);
        done
    }

    /// Has the host woken when its machine wants to be: one entry in the queue, which stays where
    /// it is when the machine wants to be woken later.
    pub(crate) fn arm(&mut self, host: u32) {
        let now = self.now;
        let entry = self.host_mut(host);
        let Some(due) = entry.next_timeout() else {
            return;
        };
        let due = due.max(now);
        if entry.timer == 0 || due < entry.timer {
            entry.timer = due;
            let order = self.order(due, host, host);
            self.queue.push(Entry { order, what: TIMER });
        }
    }

    fn perform(&mut self, world: &World, host: u32, output: Output<'_>) {
        match output {
            Output::Transmit {
                socket,
                to,
                head,
                body,
            } => {
                let mut payload = self.spare.pop().unwrap_or_default();
                payload.extend_from_slice(head);
                payload.extend_from_slice(&body);
                self.transmit(world, host, socket, to, payload);
            }
            Output::Connect { conn, to } => self.connect(world, host, conn, to),
            Output::Accept { ticket, conn } => self.accept(world, host, ticket, conn),
            Output::Refuse { ticket } => self.refuse(world, host, ticket),
            Output::Send { conn, head, body } => self.send(world, host, conn, head, body),
            Output::Close { conn } => self.close(world, host, conn),
            Output::ReadCredit { conn, bytes } => self.credit(host, conn, bytes),
            Output::Job { job, work } => {
                let (result, at) = self.work(world, host, work);
                let life = self.host(host).life;
                self.schedule(at, host, host, Happening::Job { life, job, result });
            }
            Output::CancelJob { .. } => {}
            Output::Event(event) => self.told(host, event),
        }
    }

    fn told(&mut self, host: u32, event: Event) {
        let at = Instant::from_micros(self.now);
        let entry = self.host_mut(host);
        if entry.spec.keep_events {
            entry.seen.push(Seen { at, event });
        }
    }

    /// Does a job; gives its result and when that is there.
    fn work(&mut self, world: &World, host: u32, work: Work<'_>) -> (JobResult, u64) {
        let now = self.now;
        let host = self.host_mut(host);
        let at = At {
            spec: &host.spec.disk,
            library: &world.library,
            seed: world.seed,
            host: host.id,
            now,
        };
        let soon = now + at.spec.latency.as_micros() as u64;
        let disk = &mut host.disk;
        match work {
            Work::CheckSignature { item } => (JobResult::Signature(item.is_authentic()), soon),
            Work::CheckMetadata { assembled, .. } => (JobResult::Metadata(assembled.check()), soon),
            Work::Open { torrent, info, .. } => {
                disk.open(at, torrent, info, host.spec.content.as_ref())
            }
            Work::Read {
                torrent,
                piece,
                begin,
                length,
            } => {
                let (read, done) = disk.read(at, torrent, piece, begin, length);
                (host.serve(read), done)
            }
            Work::Write {
                torrent,
                piece,
                begin,
                data,
            } => disk.write(at, torrent, (piece, begin), data),
            Work::Hash { torrent, piece, .. } => disk.hash(at, torrent, piece),
            Work::HashBlocks { torrent, piece } => disk.hash_blocks(at, torrent, piece),
            Work::Commit { torrent, piece } => disk.commit(at, torrent, piece),
            Work::Discard { torrent, piece } => disk.discard(at, torrent, piece),
            Work::CloseStorage { torrent } => disk.close(at, torrent),
            Work::Resolve { host: name, .. } => {
                let done = now + world.network.dns_delay.as_micros() as u64;
                match world.names.get(name) {
                    Some(addrs) => (JobResult::Resolved(addrs.clone()), done),
                    None => (JobResult::Failed(JobError::NotFound), done),
                }
            }
            Work::HttpGet { .. } => (JobResult::Failed(JobError::Unsupported), soon),
            Work::SaveResume { resume, .. } => {
                let mut data = Vec::new();
                resume.encode(&mut data);
                disk.save(at, StateKind::Resume(resume.info_hash), data.into())
            }
            Work::SaveState { kind, data } => disk.save(at, kind, Bytes::copy_from_slice(data)),
        }
    }

    /// A machine sends a datagram.
    fn transmit(
        &mut self,
        world: &World,
        host: u32,
        socket: SocketId,
        to: SocketAddr,
        payload: Vec<u8>,
    ) {
        let now = self.now;
        let entry = self.host_mut(host);
        let number = entry.datagrams;
        entry.datagrams += 1;
        let mut source = entry.spec.addr_of(socket.0);
        for nat in &mut entry.nats {
            source = source.and_then(|inside| nat.outbound(inside, to, now, (world.seed, host)));
        }
        let (Some(from), Some(whose)) = (source, world.directory.find(to)) else {
            return self.recycle(payload);
        };
        let (Whose::Host(peer, _) | Whose::Nat(peer)) = whose;
        let headers = if to.is_ipv4() { UDP_V4 } else { UDP_V6 };
        let bytes = payload.len() as u64 + headers;
        let packet = Packet {
            from,
            to,
            bytes: bytes as u32,
            source: host,
            late: 0,
            payload: Payload::Datagram(payload),
        };
        self.send_packet(world, host, peer, packet, number, true);
    }

    fn recycle(&mut self, mut payload: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            payload.clear();
            self.spare.push(payload);
        }
    }

    fn lose(&mut self, packet: Packet) {
        if let Payload::Datagram(payload) = packet.payload {
            self.recycle(payload);
        }
    }

    /// Sends a packet over the uplink and the network; `number` is what its draws are made by.
    pub(crate) fn send_packet(
        &mut self,
        world: &World,
        host: u32,
        peer: u32,
        mut packet: Packet,
        number: u64,
        datagram: bool,
    ) {
        let now = self.now;
        if !world.partitions.is_empty() && world.blocks(host, peer) {
            return self.lose(packet);
        }
        let entry = self.host_mut(host);
        let link = &entry.spec.link;
        let (mut left, mut again, mut flipped) = (now, None, None);
        if !link.up.is_perfect() {
            let fragments = link.on_the_wire(u64::from(packet.bytes), 0);
            let up = link.up;
            let who = (world.seed, host, Direction::Up);
            let Some(passed) = entry.up.pass(&up, now, fragments, who) else {
                return self.lose(packet);
            };
            (left, again, flipped) = (passed.at, passed.again, passed.flipped);
        }
        // Streams and datagrams are counted apart.
        let number = number << 1 | u64::from(!datagram);
        if world.network.loses(world.seed, host, peer, number) {
            return self.lose(packet);
        }
        let mut at = left + world.delay(host, peer) + u64::from(packet.late);
        // Segments of a stream stay in order, which jitter of each by itself would not leave them in.
        if !packet.is_segment() {
            at += world.network.jitter(world.seed, host, peer, number);
        }
        if let Some(bit) = flipped
            && !corrupt(&mut packet, bit)
        {
            return;
        }
        if !world.faults.is_empty() && datagram {
            for fault in world.faults_of(host, number >> 1) {
                let lost = match fault {
                    What::FlipBit(bit) => !corrupt(&mut packet, bit),
                    What::Drop => true,
                    What::Delay => {
                        at += 1;
                        false
                    }
                    What::FlipSegmentBit(_) | What::DelaySegment => continue,
                };
                self.struck.get_or_insert(now);
                if lost {
                    return self.lose(packet);
                }
            }
        }
        if let Some(again) = again {
            let copy = Happening::Packet(copy(&packet));
            self.schedule(at + (again - left), peer, host, copy);
        }
        self.schedule(at, peer, host, Happening::Packet(packet));
    }

    /// A packet comes to the downlink.
    fn on_packet(&mut self, world: &World, host: u32, mut packet: Packet) -> Result<(), SimError> {
        let now = self.now;
        let entry = self.host_mut(host);
        let link = &entry.spec.link;
        if link.down.is_perfect() {
            return self.on_received(world, host, packet);
        }
        let fragments = link.on_the_wire(u64::from(packet.bytes), 0);
        let down = link.down;
        let who = (world.seed, host, Direction::Down);
        let Some(passed) = entry.down.pass(&down, now, fragments, who) else {
            self.lose(packet);
            return Ok(());
        };
        if let Some(bit) = passed.flipped
            && !corrupt(&mut packet, bit)
        {
            return Ok(());
        }
        if let Some(again) = passed.again {
            self.schedule(again, host, host, Happening::Received(copy(&packet)));
        }
        if passed.at == now {
            return self.on_received(world, host, packet);
        }
        self.schedule(passed.at, host, host, Happening::Received(packet));
        Ok(())
    }

    /// A packet has passed the downlink.
    fn on_received(&mut self, world: &World, host: u32, packet: Packet) -> Result<(), SimError> {
        let now = self.now;
        let Packet {
            from,
            to,
            source,
            payload,
            ..
        } = packet;
        match payload {
            Payload::Datagram(payload) => {
                let entry = self.host(host);
                let socket = if entry.state == State::Up {
                    entry.socket_for(from, to, now)
                } else {
                    None
                };
                let done = match socket {
                    Some(socket) => {
                        let input = Input::Datagram {
                            socket,
                            from,
                            payload: &payload,
                        };
                        self.feed(world, host, input)
                    }
                    None => Ok(()),
                };
                self.recycle(payload);
                done
            }
            Payload::Syn { from: end } => {
                let listens = self.host(host).listens_at(to);
                if !listens {
                    return Ok(());
                }
                self.on_syn(world, host, source, (from, to), end)
            }
            Payload::Stream {
                end,
                sender,
                message,
            } => self.on_message(
                world,
                host,
                source,
                Some((from, to)),
                (end, sender),
                message,
            ),
        }
    }
}

/// Flips a bit of a datagram; false for what has a checksum, and is lost.
fn corrupt(packet: &mut Packet, bit: usize) -> bool {
    match &mut packet.payload {
        Payload::Datagram(payload) => {
            flip(payload, bit);
            true
        }
        Payload::Syn { .. } | Payload::Stream { .. } => false,
    }
}

/// The same packet again.
fn copy(packet: &Packet) -> Packet {
    let payload = match &packet.payload {
        Payload::Datagram(payload) => Payload::Datagram(payload.clone()),
        Payload::Syn { from } => Payload::Syn { from: *from },
        Payload::Stream {
            end,
            sender,
            message,
        } => Payload::Stream {
            end: *end,
            sender: *sender,
            message: message.clone(),
        },
    };
    Packet { payload, ..*packet }
}
