//! Streams between hosts: how they begin and end, and what their machines see of them.
//!
//! Each host has an end of its own, and ends speak to each other in [`Message`]s, so that nothing
//! is shared between hosts. How bytes travel in between is [`super::flows`]' or
//! [`super::segments`]' business, as the run's [`TcpModel`] says.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use trackerless_core::Input;
use trackerless_core::io::{ConnId, IoReason, Ticket};
use trackerless_core::slab::Key;

use super::directory::Whose;
use super::flows::Fluidly;
use super::host::State;
use super::shard::{Happening, Packet, Payload, Shard, World};
use super::sim::SimError;
use super::tcp::{Segment, Tcp};

/// How streams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TcpModel {
    /// As fluids that share links fairly: cheap, for large swarms. Runs on one thread.
    #[default]
    Fluid,
    /// Segment by segment, with slow start, losses and retransmissions, through the same queues as
    /// datagrams.
    Segments,
}

/// Bytes a stream may have under way before its receiver has taken them.
pub(crate) const STREAM_WINDOW: usize = 1 << 20;
/// Most bytes that a machine is given in one read.
const READ: usize = 64 * 1024;
/// Bytes of a packet that carries none: addresses, ports, numbers.
pub(crate) const EMPTY: u64 = 52;
/// First patience with a peer that does not answer, microseconds; it doubles.
pub(crate) const PATIENCE: u64 = 1_000_000;
/// Attempts before somebody is given up.
pub(crate) const ATTEMPTS: u8 = 7;

/// Where an end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its machine asked for it; nobody answered yet.
    Dialing,
    /// Somebody came; the machine has not said yet whether it takes him.
    Waiting,
    Open,
}

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct End {
    /// The host, and the other end's name there once it is known.
    pub(crate) peer: u32,
    pub(crate) peer_end: Option<Key>,
    pub(crate) remote: SocketAddr,
    /// Where it leaves from, as others see it.
    pub(crate) source: SocketAddr,
    pub(crate) stage: Stage,
    /// While the machine knows this end.
    pub(crate) conn: Option<ConnId>,
    pub(crate) to_send: VecDeque<Bytes>,
    pub(crate) closing: bool,
    pub(crate) fin_sent: bool,
    /// In order, not yet handed to the machine.
    pub(crate) arrived: VecDeque<Bytes>,
    pub(crate) fin_arrived: bool,
    pub(crate) credit: usize,
    /// What a fault delays everything by that this end sends from now on.
    pub(crate) late: u64,
    /// Nothing that this end sends arrives before that.
    pub(crate) last_arrival: u64,
    /// A translator forgets the stream at this moment unless it is used; 0 is never.
    pub(crate) forgotten_at: u64,
    /// The address it had is gone, or a translator forgot it: nothing comes or goes.
    pub(crate) dead: bool,
    /// When it wants to be woken, and when its event in the queue is due; 0 is never.
    pub(crate) wake_at: u64,
    pub(crate) armed: u64,
    pub(crate) attempts: u8,
    pub(crate) fluid: Fluidly,
    /// Where streams travel as segments.
    pub(crate) tcp: Option<Box<Tcp>>,
}

impl End {
    fn new(peer: u32, remote: SocketAddr, source: SocketAddr, stage: Stage) -> Self {
        Self {
            peer,
            peer_end: None,
            remote,
            source,
            stage,
            conn: None,
            to_send: VecDeque::new(),
            closing: false,
            fin_sent: false,
            arrived: VecDeque::new(),
            fin_arrived: false,
            credit: 0,
            late: 0,
            last_arrival: 0,
            forgotten_at: 0,
            dead: false,
            wake_at: 0,
            armed: 0,
            attempts: 0,
            fluid: Fluidly::default(),
            tcp: None,
        }
    }
}

/// A key as one number.
const fn name(key: Key) -> u64 {
    (key.generation as u64) << 32 | key.index as u64
}

/// What one end says to another.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// The answer to whoever asks for a stream; names the end that answers.
    SynAck { from: Key },
    /// Nobody is there.
    Reset,
    /// Bytes, of a fluid.
    Chunk(Vec<Bytes>),
    /// So many bytes of a fluid were taken.
    Taken(u32),
    /// Are you there?
    Probe,
    /// The last byte has been sent.
    Fin,
    /// And has been taken: the stream is no more.
    FinTaken,
    /// One segment.
    Segment(Box<Segment>),
}

impl Shard {
    /// A machine asked for a stream.
    pub(crate) fn connect(&mut self, world: &World, host: u32, conn: ConnId, to: SocketAddr) {
        let now = self.now;
        let entry = self.host_mut(host);
        let Some(here) = entry.spec.addr_for(to) else {
            let closed = Happening::Closed {
                conn,
                reason: IoReason::Unreachable,
            };
            return self.schedule(now, host, host, closed);
        };
        let inside = SocketAddr::new(here.ip(), entry.next_port());
        let mut source = Some(inside);
        let mut lifetime = 0;
        for nat in &mut entry.nats {
            let own = nat.nat().stream_lifetime.as_micros() as u64;
            lifetime = if lifetime == 0 {
                own
            } else {
                own.min(lifetime)
            };
            // One port for each stream; what it is matters to nobody but the other side.
            source = source.map(|it| SocketAddr::new(nat.nat().outside, it.port()));
        }
        let source = source
            .filter(|it| it.is_ipv4() == to.is_ipv4())
            .unwrap_or(inside);
        let peer = match world.directory.find(to) {
            Some(Whose::Host(peer, _) | Whose::Nat(peer)) => peer,
            // Nobody has that address: silence.
            None => u32::MAX,
        };
        let mut end = End::new(peer, to, source, Stage::Dialing);
        end.conn = Some(conn);
        if lifetime > 0 {
            end.forgotten_at = now + lifetime;
        }
        let entry = self.host_mut(host);
        let key = entry.ends.insert(end);
        entry.conns.insert(conn, key);
        self.dial(world, host, key);
    }

    /// Asks, for the first time or again.
    fn dial(&mut self, world: &World, host: u32, key: Key) {
        let now = self.now;
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        let patience = PATIENCE << end.attempts;
        end.attempts += 1;
        end.wake_at = now + patience;
        let (source, remote) = (end.source, end.remote);
        let peer = end.peer;
        self.arm_end(host, key);
        if peer != u32::MAX {
            let payload = Payload::Syn { from: key };
            self.send_control(world, host, peer, source, remote, payload);
        }
    }

    /// Sends a packet that carries no bytes; it may be lost.
    fn send_control(
        &mut self,
        world: &World,
        host: u32,
        peer: u32,
        from: SocketAddr,
        to: SocketAddr,
        payload: Payload,
    ) {
        let packet = Packet {
            from,
            to,
            payload,
            source: host,
            late: 0,
            bytes: EMPTY as u32,
        };
        let number = self.host_mut(host).segments;
        self.host_mut(host).segments += 1;
        self.send_packet(world, host, peer, packet, number, false);
    }

    /// Says something to the other end as a packet that may be lost.
    pub(crate) fn say(&mut self, world: &World, host: u32, key: Key, message: Message) {
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        let (Some(peer_end), false) = (end.peer_end, end.dead) else {
            return;
        };
        let (peer, from, to) = (end.peer, end.source, end.remote);
        let payload = Payload::Stream {
            end: peer_end,
            sender: key,
            message,
        };
        self.send_control(world, host, peer, from, to, payload);
    }

    /// Wakes an end when it wants to be, with one event at a time.
    pub(crate) fn arm_end(&mut self, host: u32, key: Key) {
        let now = self.now;
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        if end.wake_at == 0 || (end.armed != 0 && end.armed <= end.wake_at) {
            return;
        }
        let at = end.wake_at.max(now);
        end.armed = at;
        self.schedule(at, host, host, Happening::WakeEnd { end: key });
    }

    /// An end is woken.
    pub(crate) fn on_wake_end(
        &mut self,
        world: &World,
        host: u32,
        key: Key,
    ) -> Result<(), SimError> {
        let now = self.now;
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return Ok(());
        };
        if end.armed == 0 || end.armed > now {
            return Ok(());
        }
        end.armed = 0;
        if end.wake_at == 0 {
            return Ok(());
        }
        if end.wake_at > now {
            self.arm_end(host, key);
            return Ok(());
        }
        end.wake_at = 0;
        if end.stage == Stage::Dialing {
            if end.attempts >= ATTEMPTS {
                return self.close_end(host, key, Some(IoReason::TimedOut));
            }
            self.dial(world, host, key);
            return Ok(());
        }
        match world.network.tcp {
            TcpModel::Fluid => self.on_patience_over(world, host, key),
            TcpModel::Segments => self.on_timer_of_segments(world, host, key),
        }
    }

    /// Sends what may be sent.
    fn pump(&mut self, world: &World, host: u32, key: Key) {
        match world.network.tcp {
            TcpModel::Fluid => self.pump_fluid(world, host, key),
            TcpModel::Segments => self.pump_segments(world, host, key),
        }
    }

    /// The machine took bytes that had arrived.
    fn took(&mut self, world: &World, host: u32, key: Key, bytes: usize) {
        match world.network.tcp {
            TcpModel::Fluid => self.took_of_fluid(world, host, key, bytes),
            TcpModel::Segments => self.has_read(world, host, key),
        }
    }

    /// Somebody asks for a stream.
    pub(crate) fn on_syn(
        &mut self,
        world: &World,
        host: u32,
        peer: u32,
        (source, to): (SocketAddr, SocketAddr),
        from: Key,
    ) -> Result<(), SimError> {
        let entry = self.host_mut(host);
        let again = entry.dialed.get(&(peer, name(from))).copied();
        if let Some(key) = again
            && let Some(end) = entry.ends.at(key)
            && end.peer_end == Some(from)
        {
            if end.stage == Stage::Open {
                self.say(world, host, key, Message::SynAck { from: key });
            }
            return Ok(());
        }
        let refuse = |shard: &mut Self| {
            let payload = Payload::Stream {
                end: from,
                sender: from,
                message: Message::Reset,
            };
            shard.send_control(world, host, peer, to, source, payload);
        };
        match entry.state {
            State::Dead => {
                refuse(self);
                return Ok(());
            }
            State::Off | State::Asleep(_) => return Ok(()),
            State::Up => {}
        }
        let mut end = End::new(peer, source, to, Stage::Waiting);
        end.peer_end = Some(from);
        let lifetimes = entry
            .nats
            .iter()
            .map(|nat| nat.nat().stream_lifetime.as_micros() as u64);
        end.forgotten_at = lifetimes.min().map_or(0, |lifetime| self.now + lifetime);
        let entry = self.host_mut(host);
        let key = entry.ends.insert(end);
        entry.dialed.insert((peer, name(from)), key);
        let input = Input::Incoming {
            ticket: Ticket(name(key)),
            from: source,
        };
        self.feed(world, host, input)
    }

    fn key_of(ticket: Ticket) -> Key {
        Key {
            index: ticket.0 as u32,
            generation: (ticket.0 >> 32) as u32,
        }
    }

    /// The machine takes whoever waits.
    pub(crate) fn accept(&mut self, world: &World, host: u32, ticket: Ticket, conn: ConnId) {
        let key = Self::key_of(ticket);
        let entry = self.host_mut(host);
        let Some(end) = entry.ends.at_mut(key) else {
            let closed = Happening::Closed {
                conn,
                reason: IoReason::Reset,
            };
            return self.schedule(self.now, host, host, closed);
        };
        end.stage = Stage::Open;
        end.conn = Some(conn);
        entry.conns.insert(conn, key);
        self.say(world, host, key, Message::SynAck { from: key });
    }

    /// The machine does not want whoever waits.
    pub(crate) fn refuse(&mut self, world: &World, host: u32, ticket: Ticket) {
        let key = Self::key_of(ticket);
        self.say(world, host, key, Message::Reset);
        self.forget_end(host, key);
    }

    /// The machine has more to send.
    pub(crate) fn send(
        &mut self,
        world: &World,
        host: u32,
        conn: ConnId,
        head: &[u8],
        body: Bytes,
    ) {
        let entry = self.host_mut(host);
        let Some(key) = entry.conns.get(&conn).copied() else {
            return;
        };
        let Some(end) = entry.ends.at_mut(key) else {
            return;
        };
        if !head.is_empty() {
            end.to_send.push_back(Bytes::copy_from_slice(head));
        }
        if !body.is_empty() {
            end.to_send.push_back(body);
        }
        self.pump(world, host, key);
    }

    /// The machine is done with a stream; what it sent before still goes.
    pub(crate) fn close(&mut self, world: &World, host: u32, conn: ConnId) {
        let entry = self.host_mut(host);
        let Some(key) = entry.conns.remove(&conn) else {
            return;
        };
        let Some(end) = entry.ends.at_mut(key) else {
            return;
        };
        end.conn = None;
        end.closing = true;
        if end.stage == Stage::Dialing {
            self.forget_end(host, key);
            return;
        }
        self.ready.push((host, key));
        self.pump(world, host, key);
    }

    /// The machine may be given more.
    pub(crate) fn credit(&mut self, host: u32, conn: ConnId, bytes: u32) {
        let entry = self.host_mut(host);
        let Some(key) = entry.conns.get(&conn).copied() else {
            return;
        };
        if let Some(end) = entry.ends.at_mut(key) {
            end.credit += bytes as usize;
            self.ready.push((host, key));
        }
    }

    /// Whether a stream still gets through its translators; notes that it is used.
    pub(crate) fn passes_translators(&mut self, host: u32, key: Key) -> bool {
        let now = self.now;
        let entry = self.host_mut(host);
        let lifetimes = entry
            .nats
            .iter()
            .map(|nat| nat.nat().stream_lifetime.as_micros() as u64);
        let lifetime = lifetimes.min();
        let Some(end) = entry.ends.at_mut(key) else {
            return true;
        };
        if end.forgotten_at != 0 {
            end.dead |= now >= end.forgotten_at;
            end.forgotten_at = lifetime.map_or(0, |lifetime| now + lifetime);
        }
        !end.dead
    }

    /// Something arrived for an end.
    pub(crate) fn on_message(
        &mut self,
        world: &World,
        host: u32,
        peer: u32,
        addrs: Option<(SocketAddr, SocketAddr)>,
        (key, sender): (Key, Key),
        message: Message,
    ) -> Result<(), SimError> {
        if !self.passes_translators(host, key) {
            return Ok(());
        }
        let entry = self.host_mut(host);
        if !matches!(entry.state, State::Up | State::Dead) {
            return Ok(());
        }
        let Some(end) = entry.ends.at_mut(key) else {
            if let Message::Chunk(parts) = &message {
                let now = self.now;
                parts
                    .iter()
                    .for_each(|data| self.host_mut(host).miss(now, data));
            }
            // Whoever speaks to nobody is told so; answers are not answered.
            let answer = matches!(
                message,
                Message::Reset | Message::FinTaken | Message::Taken(_)
            );
            if !answer {
                let payload = Payload::Stream {
                    end: sender,
                    sender: key,
                    message: Message::Reset,
                };
                let nobody = || self.host(host).spec.addr;
                let (from, to) = addrs.unwrap_or_else(|| (nobody(), nobody()));
                self.send_control(world, host, peer, to, from, payload);
            }
            return Ok(());
        };
        // Bytes from somebody whose answer was lost: they are as good as that.
        if end.stage == Stage::Dialing
            && matches!(
                message,
                Message::Chunk(_) | Message::Segment(_) | Message::Fin
            )
        {
            end.stage = Stage::Open;
            end.peer_end = Some(sender);
            end.wake_at = 0;
            end.attempts = 0;
            if let Some(conn) = end.conn {
                self.feed(world, host, Input::Connected { conn })?;
            }
        }
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return Ok(());
        };
        match message {
            Message::Segment(segment) => {
                self.on_segment(world, host, key, *segment);
                Ok(())
            }
            Message::SynAck { from } => {
                if end.stage != Stage::Dialing {
                    return Ok(());
                }
                end.stage = Stage::Open;
                end.peer_end = Some(from);
                end.wake_at = 0;
                end.attempts = 0;
                match end.conn {
                    Some(conn) => self.feed(world, host, Input::Connected { conn }),
                    None => Ok(()),
                }
            }
            Message::Reset => {
                let reason = match end.stage {
                    Stage::Dialing => IoReason::Refused,
                    Stage::Waiting | Stage::Open => IoReason::Reset,
                };
                self.close_end(host, key, Some(reason))
            }
            Message::Chunk(parts) => {
                end.arrived.extend(parts);
                self.ready.push((host, key));
                Ok(())
            }
            Message::Fin => {
                end.fin_arrived = true;
                self.ready.push((host, key));
                Ok(())
            }
            Message::FinTaken => {
                self.forget_end(host, key);
                Ok(())
            }
            Message::Taken(bytes) => {
                self.on_taken(world, host, key, bytes as usize);
                Ok(())
            }
            Message::Probe => {
                self.say_taken(world, host, key);
                Ok(())
            }
        }
    }

    /// Hands the machine what has arrived, as far as its credit goes; one read at a time.
    pub(crate) fn deliver(&mut self, world: &World, host: u32, key: Key) -> Result<(), SimError> {
        let now = self.now;
        let entry = self.host_mut(host);
        let awake = entry.state == State::Up;
        let Some(end) = entry.ends.at_mut(key) else {
            return Ok(());
        };
        let conn = match (end.conn, end.stage) {
            (_, Stage::Waiting) => return Ok(()),
            (conn, _) => conn.filter(|_| awake),
        };
        let Some(conn) = conn else {
            if !end.closing {
                return Ok(());
            }
            // Nobody listens any more: the bytes are taken and forgotten, by all but the hash.
            let arrived = std::mem::take(&mut end.arrived);
            let fin = end.fin_arrived;
            for data in &arrived {
                entry.miss(now, data);
            }
            let bytes = arrived.iter().map(Bytes::len).sum();
            self.took(world, host, key, bytes);
            if fin {
                if world.network.tcp == TcpModel::Fluid {
                    self.say_fin_taken(world, host, key);
                }
                self.forget_end(host, key);
            }
            return Ok(());
        };
        let Some(first) = end.arrived.front_mut() else {
            if !end.fin_arrived {
                return Ok(());
            }
            if world.network.tcp == TcpModel::Fluid {
                self.say_fin_taken(world, host, key);
            }
            return self.close_end(host, key, Some(IoReason::Eof));
        };
        let most = end.credit.min(READ);
        if most == 0 {
            return Ok(());
        }
        // A real read fills a buffer of the receiver's own; so does this one.
        let mut data = BytesMut::with_capacity(first.len().min(most));
        while let Some(part) = end.arrived.front_mut() {
            let bytes = part.len().min(most - data.len());
            data.extend_from_slice(&part[..bytes]);
            part.advance(bytes);
            if !part.is_empty() {
                break;
            }
            end.arrived.pop_front();
        }
        let bytes = data.len();
        end.credit -= bytes;
        let more = (!end.arrived.is_empty() && end.credit > 0) || end.fin_arrived;
        if more {
            self.ready.push((host, key));
        }
        self.took(world, host, key, bytes);
        self.feed(world, host, Input::Received { conn, data })
    }

    /// An end is no more; its machine is told why, if it knows the end.
    pub(crate) fn close_end(
        &mut self,
        host: u32,
        key: Key,
        reason: Option<IoReason>,
    ) -> Result<(), SimError> {
        let conn = self.host_mut(host).ends.at(key).and_then(|end| end.conn);
        self.forget_end(host, key);
        if let (Some(conn), Some(reason)) = (conn, reason) {
            self.host_mut(host).conns.remove(&conn);
            self.schedule(self.now, host, host, Happening::Closed { conn, reason });
        }
        Ok(())
    }

    /// Takes an end out.
    pub(crate) fn forget_end(&mut self, host: u32, key: Key) {
        let entry = self.host_mut(host);
        let Some(end) = entry.ends.remove(key) else {
            return;
        };
        if let Some(conn) = end.conn {
            entry.conns.remove(&conn);
        }
        if let Some(from) = end.peer_end {
            let name = (end.peer, name(from));
            if entry.dialed.get(&name) == Some(&key) {
                entry.dialed.remove(&name);
            }
        }
        if let Some(flow) = end.fluid.flow {
            self.end_flow(flow);
        }
    }
}
