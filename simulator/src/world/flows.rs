//! How bytes of a stream travel where streams are fluids.
//!
//! An end hands the fluid one chunk after another; a chunk that has left arrives after the delay of
//! the pair and of what stands in queues. Nothing is lost on the way: losses are in the rate that
//! a flow may have.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use trackerless_core::Input;
use trackerless_core::slab::Key;

use super::draw::flip;
use super::fluid::Flow;
use super::link::Direction;
use super::shard::{Happening, Shard, World};
use super::sim::{SimError, What};
use super::streams::{ATTEMPTS, End, Message, PATIENCE, STREAM_WINDOW, Stage};

/// Most bytes that travel as one.
const CHUNK: usize = 16 * 1024 + 64;
/// What is no longer than a packet takes its turn at once.
const SHORT: usize = 1_400;
/// Bytes of payload in a full packet, and all its bytes.
const PAYLOAD: u64 = 1_448;
const PACKET: u64 = 1_500;
/// Bytes under way at the beginning of a stream, and after it was idle for long (RFC 6928).
const FIRST_WINDOW: usize = 10 * PAYLOAD as usize;
const IDLE: u64 = 1_000_000;

/// What an end knows of its bytes in the fluid.
#[derive(Debug)]
pub(crate) struct Fluidly {
    /// Bytes that may be under way.
    window: usize,
    under_way: usize,
    /// What is leaving.
    chunk: Option<Vec<Bytes>>,
    pub(crate) flow: Option<Key>,
    /// Taken by the machine, and the other end not told yet.
    owed: usize,
    sent_at: u64,
}

impl Default for Fluidly {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            under_way: 0,
            chunk: None,
            flow: None,
            owed: 0,
            sent_at: 0,
        }
    }
}

/// Takes up to a chunk from the front.
fn cut(to_send: &mut VecDeque<Bytes>, most: usize) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut bytes = 0;
    while let Some(mut data) = to_send.pop_front() {
        if bytes + data.len() > most {
            let rest = data.split_off(most - bytes);
            to_send.push_front(rest);
        }
        bytes += data.len();
        if !data.is_empty() {
            parts.push(data);
        }
        if bytes >= most {
            break;
        }
    }
    parts
}

impl Shard {
    /// Microseconds from one host to the other without queues; `None` while nothing gets through.
    fn way(&self, world: &World, host: u32, end: &End) -> Option<u64> {
        let open = !end.dead && !world.blocks(host, end.peer);
        open.then(|| world.delay(host, end.peer))
    }

    /// Time that fluids standing in the queues between two hosts take to leave.
    fn standing(&self, host: u32, peer: u32) -> u64 {
        let up = &self.host(host).spec.link.up;
        let down = &self.host(peer).spec.link.down;
        self.host(host).up.standing_micros(up) + self.host(peer).down.standing_micros(down)
    }

    /// Sends what may be sent.
    pub(crate) fn pump_fluid(&mut self, world: &World, host: u32, key: Key) {
        let now = self.now;
        loop {
            let Some(end) = self.host(host).ends.at(key) else {
                return;
            };
            if end.stage != Stage::Open || end.fluid.chunk.is_some() || end.fin_sent {
                return;
            }
            let peer = end.peer;
            let way = self.way(world, host, end);
            let full = end.fluid.under_way >= end.fluid.window;
            if end.to_send.is_empty() || full || way.is_none() {
                let fin = end.to_send.is_empty() && end.closing;
                let waits = full || (way.is_none() && (fin || !end.to_send.is_empty()));
                if let Some(flow) = self
                    .ends_mut(host, key)
                    .and_then(|end| end.fluid.flow.take())
                {
                    self.end_flow(flow);
                }
                if fin && way.is_some() {
                    if let Some(end) = self.ends_mut(host, key) {
                        end.fin_sent = true;
                    }
                    self.send_fluid(world, host, key, Message::Fin);
                    self.be_patient(host, key);
                } else if waits {
                    self.be_patient(host, key);
                }
                return;
            }
            let short = self.host(host).segments;
            let Some(end) = self.ends_mut(host, key) else {
                return;
            };
            if now > end.fluid.sent_at + IDLE && end.fluid.under_way == 0 {
                end.fluid.window = FIRST_WINDOW;
            }
            end.fluid.sent_at = now;
            let most = CHUNK.min(end.fluid.window - end.fluid.under_way).max(1);
            let mut parts = cut(&mut end.to_send, most);
            let bytes: usize = parts.iter().map(Bytes::len).sum();
            end.fluid.under_way += bytes;
            let waits = end.to_send.iter().map(Bytes::len).sum::<usize>();
            let window = end.fluid.window.min(end.fluid.under_way + waits) as u64;
            let flow = end.fluid.flow;
            let late = self.disturb(world, host, short, &mut parts);
            self.host_mut(host).segments += 1;
            if let Some(end) = self.ends_mut(host, key) {
                end.late += late;
                end.fluid.chunk = Some(parts);
            }
            let wire = (bytes as u64 * PACKET).div_ceil(PAYLOAD);
            let flow = match flow {
                None if bytes <= SHORT && waits == 0 => {
                    let rate = self.host(host).spec.link.up.rate;
                    let micros = (wire * 1_000_000).checked_div(rate).unwrap_or(0);
                    let left = Happening::ChunkLeft { end: key };
                    self.schedule(now + micros, host, host, left);
                    continue;
                }
                None => {
                    let round_trip = 2 * way.unwrap_or(0).max(1);
                    let cap = self.most(world, host, peer, round_trip);
                    let flow = Flow::new(host, key, peer, (cap, window, round_trip));
                    let flow = self.fluid.begin(flow);
                    let mut fluid = std::mem::take(&mut self.fluid);
                    fluid.provide(flow, now, |link| self.capacity(link));
                    self.fluid = fluid;
                    if let Some(end) = self.ends_mut(host, key) {
                        end.fluid.flow = Some(flow);
                    }
                    flow
                }
                Some(flow) => flow,
            };
            self.fluid.carry(flow, wire, now);
            if let Some(it) = self.fluid.flow_mut(flow) {
                it.window = window;
            }
            self.arm_flow(host, flow);
        }
    }

    fn ends_mut(&mut self, host: u32, key: Key) -> Option<&mut End> {
        self.host_mut(host).ends.at_mut(key)
    }

    /// Waits for an answer, or for a way, and no longer than it has patience.
    fn be_patient(&mut self, host: u32, key: Key) {
        let now = self.now;
        if let Some(end) = self.ends_mut(host, key)
            && end.wake_at <= now
        {
            end.wake_at = now + (PATIENCE << end.attempts.min(ATTEMPTS));
            self.arm_end(host, key);
        }
    }

    /// Most that losses let a stream have, bytes per second (Mathis et al. 1997).
    fn most(&self, world: &World, host: u32, peer: u32, round_trip: u64) -> u64 {
        let lost = u64::from(self.host(host).spec.link.up.mean_loss_ppm())
            + u64::from(self.host(peer).spec.link.down.mean_loss_ppm())
            + u64::from(world.network.loss_ppm);
        if lost == 0 {
            return u64::MAX >> 24;
        }
        // The root of 1.5 over the part that is lost, in thousandths.
        let root = (1_500_000_000_000 / lost).isqrt();
        PACKET * 1_000 * root / round_trip.max(1)
    }

    /// What a link carries, bytes per second.
    fn capacity(&self, link: u32) -> u64 {
        let host = self.host(link / 2);
        if link.is_multiple_of(2) {
            host.spec.link.up.rate
        } else {
            host.spec.link.down.rate
        }
    }

    fn arm_flow(&mut self, host: u32, flow: Key) {
        let now = self.now;
        let Some(it) = self.fluid.flow_mut(flow) else {
            return;
        };
        let at = it.done_at().max(now);
        if it.armed == 0 || at < it.armed {
            it.armed = at;
            self.schedule(at, host, host, Happening::FlowDone { flow });
        }
    }

    pub(crate) fn end_flow(&mut self, flow: Key) {
        self.fluid.end(flow);
    }

    /// A flow may have carried what it had.
    pub(crate) fn on_flow_done(
        &mut self,
        world: &World,
        host: u32,
        flow: Key,
    ) -> Result<(), SimError> {
        let now = self.now;
        let Some(it) = self.fluid.flow_mut(flow) else {
            return Ok(());
        };
        if it.armed == 0 || it.armed > now {
            return Ok(());
        }
        it.armed = 0;
        let end = it.end;
        if it.done_at() > now {
            self.arm_flow(host, flow);
            return Ok(());
        }
        self.on_chunk_left(world, host, end)
    }

    /// A chunk has left.
    pub(crate) fn on_chunk_left(
        &mut self,
        world: &World,
        host: u32,
        key: Key,
    ) -> Result<(), SimError> {
        let Some(end) = self.host(host).ends.at(key) else {
            return Ok(());
        };
        let is_cut_off = self.way(world, host, end).is_none();
        let Some(end) = self.ends_mut(host, key) else {
            return Ok(());
        };
        let Some(parts) = end.fluid.chunk.take() else {
            return Ok(());
        };
        if is_cut_off && !end.dead {
            // Nothing gets through: it waits with what follows it, and is sent again.
            let bytes: usize = parts.iter().map(Bytes::len).sum();
            end.fluid.under_way = end.fluid.under_way.saturating_sub(bytes);
            for part in parts.into_iter().rev() {
                end.to_send.push_front(part);
            }
            self.pump_fluid(world, host, key);
            return Ok(());
        }
        let conn = end.conn;
        let bytes = parts.iter().map(Bytes::len).sum::<usize>() as u32;
        self.host_mut(host).up.bytes += u64::from(bytes);
        self.send_fluid(world, host, key, Message::Chunk(parts));
        self.be_patient(host, key);
        self.pump_fluid(world, host, key);
        match conn {
            Some(conn) => self.feed(world, host, Input::Sent { conn, bytes }),
            None => Ok(()),
        }
    }

    /// Says something that is not lost, in order.
    fn send_fluid(&mut self, world: &World, host: u32, key: Key, message: Message) {
        let now = self.now;
        let Some(end) = self.host(host).ends.at(key) else {
            return;
        };
        let (Some(to), peer, Some(way)) = (end.peer_end, end.peer, self.way(world, host, end))
        else {
            return;
        };
        let standing = self.standing(host, peer);
        self.passes_translators(host, key);
        let Some(end) = self.ends_mut(host, key) else {
            return;
        };
        let at = (now + way + standing + end.late).max(end.last_arrival);
        end.last_arrival = at;
        let message = Happening::Message {
            end: to,
            sender: key,
            message: Box::new(message),
        };
        self.schedule(at, peer, host, message);
    }

    /// The machine took bytes that had arrived.
    pub(crate) fn took_of_fluid(&mut self, world: &World, host: u32, key: Key, bytes: usize) {
        if let Some(end) = self.ends_mut(host, key) {
            end.fluid.owed += bytes;
            if end.fluid.owed > 0 {
                self.say_taken(world, host, key);
            }
        }
    }

    pub(crate) fn say_taken(&mut self, world: &World, host: u32, key: Key) {
        let Some(end) = self.host(host).ends.at(key) else {
            return;
        };
        if self.way(world, host, end).is_none() {
            return self.be_patient(host, key);
        }
        if let Some(end) = self.ends_mut(host, key) {
            let owed = std::mem::take(&mut end.fluid.owed);
            self.send_fluid(world, host, key, Message::Taken(owed as u32));
        }
    }

    pub(crate) fn say_fin_taken(&mut self, world: &World, host: u32, key: Key) {
        self.send_fluid(world, host, key, Message::FinTaken);
    }

    /// The other end took so many bytes.
    pub(crate) fn on_taken(&mut self, world: &World, host: u32, key: Key, bytes: usize) {
        let now = self.now;
        let Some(end) = self.ends_mut(host, key) else {
            return;
        };
        end.fluid.under_way = end.fluid.under_way.saturating_sub(bytes);
        end.fluid.window = (end.fluid.window + bytes).min(STREAM_WINDOW);
        end.attempts = 0;
        let waits = end.fluid.under_way > 0 || end.fluid.owed > 0 || end.fin_sent;
        end.wake_at = if waits { now + PATIENCE } else { 0 };
        self.arm_end(host, key);
        self.pump_fluid(world, host, key);
    }

    /// Nobody answered for as long as the end had patience.
    pub(crate) fn on_patience_over(
        &mut self,
        world: &World,
        host: u32,
        key: Key,
    ) -> Result<(), SimError> {
        let now = self.now;
        let Some(end) = self.ends_mut(host, key) else {
            return Ok(());
        };
        if end.fluid.chunk.is_some() && !end.dead {
            end.wake_at = now + PATIENCE;
            self.arm_end(host, key);
            return Ok(());
        }
        let asks = end.fluid.under_way > 0 || end.fin_sent;
        if !asks && end.fluid.owed == 0 && end.to_send.is_empty() && !end.closing {
            return Ok(());
        }
        end.attempts += 1;
        if end.attempts > ATTEMPTS {
            return self.close_end(host, key, Some(trackerless_core::io::IoReason::TimedOut));
        }
        end.wake_at = now + (PATIENCE << end.attempts);
        let owes = end.fluid.owed > 0;
        self.arm_end(host, key);
        if owes {
            self.say_taken(world, host, key);
        }
        if asks {
            self.say(world, host, key, Message::Probe);
        }
        self.pump_fluid(world, host, key);
        Ok(())
    }

    /// Disturbs a chunk, if that is to be; gives what all is late by that its end sends from now
    /// on.
    pub(crate) fn disturb(
        &mut self,
        world: &World,
        host: u32,
        number: u64,
        parts: &mut [Bytes],
    ) -> u64 {
        let mut late = 0;
        for fault in world.faults_of(host, number) {
            match fault {
                What::FlipSegmentBit(bit) => {
                    let bytes: usize = parts.iter().map(Bytes::len).sum();
                    let mut bit = bit % (bytes * 8).max(1);
                    for part in parts.iter_mut() {
                        if bit < part.len() * 8 {
                            let mut wrong = BytesMut::from(&part[..]);
                            flip(&mut wrong, bit);
                            *part = wrong.freeze();
                            break;
                        }
                        bit -= part.len() * 8;
                    }
                }
                What::DelaySegment => late += 1,
                What::FlipBit(_) | What::Drop | What::Delay => continue,
            }
            self.struck.get_or_insert(self.now);
        }
        late
    }

    /// Works out the rates of flows, if that is due.
    pub(crate) fn share_out(&mut self) {
        let now = self.now;
        let Some(due) = self.fluid.due(now) else {
            return;
        };
        if due > now {
            if !self.fluid.armed {
                self.fluid.armed = true;
                self.schedule(due, self.index, self.index, Happening::Share);
            }
            return;
        }
        let mut fluid = std::mem::take(&mut self.fluid);
        let mut changed = Vec::new();
        let standing = fluid.share(
            now,
            |link| self.capacity(link),
            |link| {
                let host = self.host(link / 2);
                if link.is_multiple_of(2) {
                    host.spec.link.up.depth()
                } else {
                    host.spec.link.down.depth()
                }
            },
            |key, flow| changed.push((flow.host, key)),
        );
        self.fluid = fluid;
        for (host, flow) in changed {
            self.arm_flow(host, flow);
        }
        for it in standing {
            let direction = if it.link.is_multiple_of(2) {
                Direction::Up
            } else {
                Direction::Down
            };
            let host = self.host_mut(it.link / 2);
            match direction {
                Direction::Up => host.up.standing = it.bytes,
                Direction::Down => host.down.standing = it.bytes,
            }
        }
    }
}
