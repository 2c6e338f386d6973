//! The run: events in order, outputs performed, hashes folded.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use trackerless_core::config::ConfigError;
use trackerless_core::event::Event;
use trackerless_core::io::{Command, IoReason, JobError, JobId, JobResult, Tag, Ticket, Work};
use trackerless_core::{Engine, Input, Instant, Output};

use crate::host::{Host, HostId, HostSpec, SOCKET, Seen};
use crate::net::{Fault, Network, flip};
use crate::queue::{Order, Queue};
use crate::streams::End;
use crate::trace::{Root, draw};

/// When a run begins, virtual time.
pub(crate) const START: Instant = Instant::from_micros(1_000_000);
/// Virtual time a disk job takes.
const DISK_DELAY: Duration = Duration::from_micros(200);

/// Why a run had to stop.
#[derive(Debug, Clone, PartialEq)]
pub enum SimError {
    /// A host's configuration is out of range.
    Config(ConfigError),
    /// Two hosts have one address.
    AddressTaken(SocketAddr),
    /// An engine asked to be woken at a moment that had come, without end.
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

/// What the queue holds.
pub(crate) enum Happening {
    Timer,
    Datagram {
        from: SocketAddr,
        payload: Vec<u8>,
    },
    Syn {
        stream: u32,
    },
    SynAck {
        stream: u32,
    },
    Refused {
        stream: u32,
    },
    /// Bytes have left the uplink of this end.
    Left {
        stream: u32,
        end: usize,
        bytes: u32,
    },
    /// Bytes have reached this end.
    Arrived {
        stream: u32,
        end: usize,
        data: Bytes,
    },
    /// The other end took this many bytes.
    Acked {
        stream: u32,
        end: usize,
        bytes: usize,
    },
    Fin {
        stream: u32,
        end: usize,
    },
    Job {
        job: JobId,
        result: JobResult,
    },
    Command {
        tag: Tag,
        command: Box<Command>,
    },
    Boot,
}

/// A run of many hosts over one virtual network.
pub struct Sim {
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    pub(crate) by_addr: BTreeMap<SocketAddr, u32>,
    pub(crate) streams: BTreeMap<u32, [End; 2]>,
    pub(crate) streams_made: u32,
    queue: Queue<Happening>,
    datagrams: u64,
    pub(crate) segments: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) struck: Option<Instant>,
    record_all: bool,
    root: Root,
    epoch: u64,
    epochs: Vec<Root>,
    handled: u64,
}

impl Sim {
    /// An empty network. Everything that is drawn comes from `seed`.
    #[must_use]
    pub fn new(seed: u64, network: Network) -> Self {
        Self {
            seed,
            now: START,
            network,
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            streams: BTreeMap::new(),
            streams_made: 0,
            queue: Queue::default(),
            datagrams: 0,
            segments: 0,
            faults: Vec::new(),
            struck: None,
            record_all: false,
            root: Root::default(),
            epoch: 1,
            epochs: Vec::new(),
            handled: 0,
        }
    }

    /// Adds a host; its socket comes up at once.
    ///
    /// # Errors
    /// When its configuration is wrong or its address taken.
    pub fn add_host(&mut self, mut spec: HostSpec) -> Result<HostId, SimError> {
        let id = self.hosts.len() as u32;
        if self.by_addr.contains_key(&spec.addr) {
            return Err(SimError::AddressTaken(spec.addr));
        }
        self.by_addr.insert(spec.addr, id);
        spec.record |= self.record_all;
        let mut seed = [0; 32];
        for (at, chunk) in seed.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&draw(self.seed, u64::from(id), 0x5eed, at as u64).to_le_bytes());
        }
        self.hosts.push(Host::new(spec, seed, self.now)?);
        self.schedule(self.now, id, id, Happening::Boot);
        Ok(HostId(id))
    }

    /// Keeps a recording of every host added from now on.
    pub fn record_all(&mut self) {
        self.record_all = true;
    }

    /// Disturbs one packet of the run.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// When the first fault struck; `None` while none did.
    #[must_use]
    pub fn struck(&self) -> Option<Instant> {
        self.struck
    }

    /// Datagrams sent so far, lost ones included.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Segments of streams sent so far.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Gives a host a command at virtual time `after` from now.
    pub fn command(&mut self, host: HostId, after: Duration, tag: Tag, command: Command) {
        let happening = Happening::Command {
            tag,
            command: Box::new(command),
        };
        self.schedule(self.now + after, host.0, host.0, happening);
    }

    /// Runs until `done` says so or `limit` of virtual time has passed; true when `done` said so.
    /// `done` is asked once per simulated 10 ms.
    ///
    /// # Errors
    /// When an engine breaks a promise that makes going on pointless.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, SimError> {
        let end = self.now + limit;
        let mut ask_at = self.now;
        while let Some(at) = self.queue.next_at() {
            if at >= ask_at {
                if done(self) {
                    return Ok(true);
                }
                ask_at = at + Duration::from_millis(10);
            }
            if at > end {
                break;
            }
            let Some((order, happening)) = self.queue.pop() else {
                break;
            };
            self.advance(order.at);
            self.happen(order.to, happening)?;
        }
        self.advance(end);
        Ok(done(self))
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The engine of a host, to look at.
    #[must_use]
    pub fn engine(&self, host: HostId) -> &Engine {
        &self.hosts[host.0 as usize].engine
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len() as u32).map(HostId)
    }

    /// What a host's engine told its embedder so far.
    #[must_use]
    pub fn seen(&self, host: HostId) -> &[Seen] {
        &self.hosts[host.0 as usize].seen
    }

    /// The address of a host.
    #[must_use]
    pub fn addr(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0 as usize].spec.addr
    }

    /// The recording of a host that keeps one.
    #[must_use]
    pub fn recording(&self, host: HostId) -> Option<&[u8]> {
        self.hosts[host.0 as usize].recording()
    }

    /// Hash of everything a host's engine asked for and told so far.
    #[must_use]
    pub fn output_hash(&self, host: HostId) -> u64 {
        self.hosts[host.0 as usize].output_hash()
    }

    /// Inputs handled by all engines.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// The trace root at the end of each simulated second.
    #[must_use]
    pub fn epochs(&self) -> &[Root] {
        &self.epochs
    }

    /// The trace root now: equal for equal runs, and for no others.
    #[must_use]
    pub fn root(&self) -> Root {
        let mut root = self.root;
        self.hosts.iter().for_each(|host| root.fold(host.hash()));
        root
    }

    fn advance(&mut self, at: Instant) {
        self.now = self.now.max(at);
        let epoch = self.now.as_micros() / 1_000_000;
        while self.epoch < epoch {
            self.epoch += 1;
            let root = self.root();
            self.root = root;
            self.epochs.push(root);
        }
    }

    pub(crate) fn schedule(&mut self, at: Instant, to: u32, from: u32, happening: Happening) {
        let source = &mut self.hosts[from as usize];
        source.sequence += 1;
        let order = Order {
            at: at.max(self.now),
            to,
            from,
            sequence: source.sequence,
        };
        self.queue.push(order, happening);
    }

    fn happen(&mut self, host: u32, happening: Happening) -> Result<(), SimError> {
        match happening {
            Happening::Boot => {
                let local = self.hosts[host as usize].spec.addr;
                self.feed(
                    host,
                    Input::WallClock {
                        unix: 1_700_000_000,
                    },
                )?;
                self.feed(
                    host,
                    Input::SocketUp {
                        socket: SOCKET,
                        local,
                    },
                )
            }
            Happening::Timer => {
                self.hosts[host as usize].timer = None;
                let due = self.hosts[host as usize].engine.next_timeout();
                if due.is_some_and(|due| due <= self.now) {
                    self.feed(host, Input::Tick)
                } else {
                    self.arm(host);
                    Ok(())
                }
            }
            Happening::Datagram { from, payload } => self.feed(
                host,
                Input::Datagram {
                    socket: SOCKET,
                    from,
                    payload: &payload,
                },
            ),
            Happening::Command { tag, command } => self.feed(host, Input::Command { tag, command }),
            Happening::Job { job, result } => self.feed(host, Input::JobDone { job, result }),
            Happening::Syn { stream } => {
                let Some(ends) = self.streams.get(&stream) else {
                    return Ok(());
                };
                let from = self.hosts[ends[0].host as usize].spec.addr;
                self.feed(
                    host,
                    Input::Incoming {
                        ticket: Ticket(u64::from(stream)),
                        from,
                    },
                )
            }
            Happening::SynAck { stream } => {
                let Some(ends) = self.streams.get(&stream) else {
                    return Ok(());
                };
                match ends[0].conn.filter(|_| ends[0].open) {
                    Some(conn) => self.feed(host, Input::Connected { conn }),
                    None => Ok(()),
                }
            }
            Happening::Refused { stream } => {
                let Some(ends) = self.streams.remove(&stream) else {
                    return Ok(());
                };
                let Some(conn) = ends[0].conn.filter(|_| ends[0].open) else {
                    return Ok(());
                };
                self.hosts[host as usize].conns.remove(&conn);
                self.feed(
                    host,
                    Input::Closed {
                        conn,
                        reason: IoReason::Refused,
                    },
                )
            }
            Happening::Left { stream, end, bytes } => {
                let Some(ends) = self.streams.get(&stream) else {
                    return Ok(());
                };
                match ends[end].conn.filter(|_| ends[end].open) {
                    Some(conn) => self.feed(host, Input::Sent { conn, bytes }),
                    None => Ok(()),
                }
            }
            Happening::Acked { stream, end, bytes } => {
                if let Some(ends) = self.streams.get_mut(&stream) {
                    ends[end].under_way = ends[end].under_way.saturating_sub(bytes);
                }
                self.pump(stream, end);
                Ok(())
            }
            Happening::Arrived { stream, end, data } => {
                match self.streams.get_mut(&stream) {
                    Some(ends) => ends[end].arrived.push_back(data),
                    None => self.hosts[host as usize].miss(self.now, &data),
                }
                self.deliver(stream, end)
            }
            Happening::Fin { stream, end } => {
                if let Some(ends) = self.streams.get_mut(&stream) {
                    ends[end].fin_arrived = true;
                }
                self.deliver(stream, end)
            }
        }
    }

    pub(crate) fn feed(&mut self, host: u32, input: Input<'_>) -> Result<(), SimError> {
        self.handled += 1;
        let entry = &mut self.hosts[host as usize];
        entry.handle(self.now, input)?;
        let mut outbox = std::mem::take(&mut entry.outbox);
        let mut delivered = Vec::new();
        for output in outbox.drain() {
            self.hosts[host as usize].absorb(&output);
            self.perform(host, output, &mut delivered);
        }
        self.hosts[host as usize].outbox = outbox;
        self.arm(host);
        // Credit given just now may let bytes in that had arrived before.
        for (stream, end) in delivered {
            self.deliver(stream, end)?;
        }
        Ok(())
    }

    fn arm(&mut self, host: u32) {
        let entry = &mut self.hosts[host as usize];
        let Some(due) = entry.engine.next_timeout() else {
            return;
        };
        let due = due.max(self.now);
        if entry.timer.is_none_or(|armed| due < armed) {
            entry.timer = Some(due);
            self.schedule(due, host, host, Happening::Timer);
        }
    }

    fn perform(&mut self, host: u32, output: Output<'_>, delivered: &mut Vec<(u32, usize)>) {
        match output {
            Output::Transmit { to, head, body, .. } => {
                let payload = [head, &body].concat();
                self.transmit(host, to, payload);
            }
            Output::Connect { conn, to } => self.connect(host, conn, to),
            Output::Accept { ticket, conn } => {
                let stream = ticket.0 as u32;
                let Some(ends) = self.streams.get_mut(&stream) else {
                    return;
                };
                ends[1].conn = Some(conn);
                ends[1].open = true;
                let other = ends[0].host;
                self.hosts[host as usize].conns.insert(conn, (stream, 1));
                let delay = self.network.pair_delay(self.seed, host, other);
                self.schedule(self.now + delay, other, host, Happening::SynAck { stream });
            }
            Output::Refuse { ticket } => self.refuse(ticket.0 as u32),
            Output::Send { conn, head, body } => {
                let Some(&(stream, end)) = self.hosts[host as usize].conns.get(&conn) else {
                    return;
                };
                let Some(ends) = self.streams.get_mut(&stream) else {
                    return;
                };
                if !head.is_empty() {
                    ends[end].to_send.push_back(Bytes::copy_from_slice(head));
                }
                if !body.is_empty() {
                    ends[end].to_send.push_back(body);
                }
                self.pump(stream, end);
            }
            Output::Close { conn } => {
                let Some((stream, end)) = self.hosts[host as usize].conns.remove(&conn) else {
                    return;
                };
                let Some(ends) = self.streams.get_mut(&stream) else {
                    return;
                };
                ends[end].open = false;
                ends[end].closing = true;
                self.pump(stream, end);
            }
            Output::ReadCredit { conn, bytes } => {
                let Some(&(stream, end)) = self.hosts[host as usize].conns.get(&conn) else {
                    return;
                };
                let Some(ends) = self.streams.get_mut(&stream) else {
                    return;
                };
                ends[end].credit += bytes as usize;
                delivered.push((stream, end));
            }
            Output::Job { job, work } => {
                let result = self.work(host, work);
                let done = Happening::Job { job, result };
                self.schedule(self.now + DISK_DELAY, host, host, done);
            }
            Output::CancelJob { .. } => {}
            Output::Event(event) => self.told(host, event),
        }
    }

    fn told(&mut self, host: u32, event: Event) {
        let at = self.now;
        self.hosts[host as usize].seen.push(Seen { at, event });
    }

    fn work(&mut self, host: u32, work: Work<'_>) -> JobResult {
        let host = &mut self.hosts[host as usize];
        let disk = &mut host.disk;
        match work {
            Work::CheckSignature { item } => JobResult::Signature(item.is_authentic()),
            Work::CheckMetadata { assembled, .. } => JobResult::Metadata(assembled.check()),
            Work::Open { torrent, info, .. } => {
                disk.open(torrent, info, host.spec.content.as_ref())
            }
            Work::Read {
                torrent,
                piece,
                begin,
                length,
            } => {
                let read = disk.read(torrent, piece, begin, length);
                host.serve(read)
            }
            Work::Write {
                torrent,
                piece,
                begin,
                data,
            } => disk.write(torrent, piece, begin, data),
            Work::Hash { torrent, piece, .. } => disk.hash(torrent, piece),
            Work::HashBlocks { torrent, piece } => disk.hash_blocks(torrent, piece),
            Work::Commit { .. } => JobResult::Committed,
            Work::Discard { torrent, piece } => disk.discard(torrent, piece),
            Work::CloseStorage { torrent } => disk.close(torrent),
            Work::Resolve { .. } => JobResult::Failed(JobError::NotFound),
            Work::HttpGet { .. } => JobResult::Failed(JobError::Unsupported),
            Work::SaveResume { .. } | Work::SaveState { .. } => JobResult::Saved,
        }
    }

    fn transmit(&mut self, from: u32, to: SocketAddr, mut payload: Vec<u8>) {
        let number = self.datagrams;
        self.datagrams += 1;
        let own = self.hosts[from as usize].datagrams;
        self.hosts[from as usize].datagrams += 1;
        let Some(&target) = self.by_addr.get(&to) else {
            return;
        };
        let mut fate = self.network.datagram(self.seed, from, target, own);
        for fault in &self.faults {
            match *fault {
                Fault::FlipBit(n, bit) if n == number => flip(&mut payload, bit),
                Fault::Drop(n) if n == number => fate = None,
                Fault::Delay(n) if n == number => {
                    fate = fate.map(|delay| delay + Duration::from_micros(1));
                }
                _ => continue,
            }
            self.struck.get_or_insert(self.now);
        }
        let Some(delay) = fate else {
            return;
        };
        let source = self.hosts[from as usize].spec.addr;
        let happening = Happening::Datagram {
            from: source,
            payload,
        };
        self.schedule(self.now + delay, target, from, happening);
    }
}
