//! One simulated host: a production engine, its disk, and its ends of streams.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use trackerless_core::checksum::{Chain, mix};
use trackerless_core::event::Event;
use trackerless_core::io::{ConnId, JobResult, SocketId};
use trackerless_core::record::{OutputHash, Writer, encode_input};
use trackerless_core::{Config, Engine, Input, Instant, Outbox, Output};

use crate::disk::{Content, Disk};
use crate::net::flip;
use crate::sim::SimError;

/// A host, by the order in which it was added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

/// The only socket of a simulated host.
pub(crate) const SOCKET: SocketId = SocketId(0);
/// Ticks a host may need while time stands still, before it is said to spin.
const SPIN_LIMIT: u32 = 100_000;

/// What a host is made of.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Its engine's configuration.
    pub config: Arc<Config>,
    /// Its address; unique in the run.
    pub addr: SocketAddr,
    /// Uplink, bytes per second.
    pub up_rate: u64,
    /// Content it has on disk from the start.
    pub content: Option<Content>,
    /// Of every so many blocks that it reads for others one is wrong; 0 is none.
    pub lies: u32,
    /// Keep a recording of every input, for [`crate::replay`].
    pub record: bool,
}

impl HostSpec {
    /// A host at `addr` with a default engine in lab mode and a 100 Mbit/s uplink.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let config = Config {
            lab: true,
            ..Config::default()
        };
        Self {
            config: Arc::new(config),
            addr,
            up_rate: 12_500_000,
            content: None,
            lies: 0,
            record: false,
        }
    }
}

/// Something an engine told its embedder, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Virtual time.
    pub at: Instant,
    /// What it told.
    pub event: Event,
}

pub(crate) struct Host {
    pub(crate) spec: HostSpec,
    pub(crate) engine: Engine,
    pub(crate) disk: Disk,
    reads: u32,
    /// Which stream, and which of its ends, a connection is.
    pub(crate) conns: BTreeMap<ConnId, (u32, usize)>,
    pub(crate) uplink_free: Instant,
    pub(crate) sequence: u64,
    /// Datagrams it sent. Draws are made by this number, so that a host that sends one less
    /// changes nothing for those of others.
    pub(crate) datagrams: u64,
    pub(crate) timer: Option<Instant>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) outbox: Outbox,
    chain: Chain,
    outputs: OutputHash,
    recording: Option<(Writer, Vec<u8>)>,
    encoded: Vec<u8>,
    ticks: (Instant, u32),
}

impl Host {
    pub(crate) fn new(spec: HostSpec, seed: [u8; 32], now: Instant) -> Result<Self, SimError> {
        let engine = Engine::new(Arc::clone(&spec.config), seed, now).map_err(SimError::Config)?;
        let recording = spec.record.then(|| {
            let mut file = Vec::new();
            let writer = Writer::begin(&spec.config, &seed, now, &mut file);
            (writer, file)
        });
        Ok(Self {
            engine,
            spec,
            disk: Disk::default(),
            reads: 0,
            conns: BTreeMap::new(),
            uplink_free: now,
            sequence: 0,
            datagrams: 0,
            timer: None,
            seen: Vec::new(),
            outbox: Outbox::new(),
            chain: Chain::default(),
            outputs: OutputHash::new(),
            recording,
            encoded: Vec::new(),
            ticks: (now, 0),
        })
    }

    /// Feeds the engine one input; what it asks for is in `outbox`, already counted in the hash.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), SimError> {
        if matches!(input, Input::Tick) {
            let so_far = if self.ticks.0 == now { self.ticks.1 } else { 0 };
            self.ticks = (now, so_far + 1);
            if so_far >= SPIN_LIMIT {
                return Err(SimError::Spin(self.spec.addr, now));
            }
        }
        self.encoded.clear();
        encode_input(&input, &mut self.encoded);
        self.chain.number(now.as_micros());
        self.chain.bytes(&self.encoded);
        if let Some((writer, file)) = &mut self.recording {
            writer.record(now, &input, file);
        }
        self.engine.handle(now, input, &mut self.outbox);
        Ok(())
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

    /// Counts bytes that arrived and that the engine is not told of.
    pub(crate) fn miss(&mut self, now: Instant, data: &[u8]) {
        self.chain.number(now.as_micros());
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
        self.recording.as_ref().map(|(_, file)| &file[..])
    }
}
