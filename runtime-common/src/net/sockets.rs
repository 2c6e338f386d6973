use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use bytes::{Bytes, BytesMut};
use quinn_udp::UdpSocketState;
use smallvec::SmallVec;
use socket2::SockRef;
use trackerless_core::io::{ConnId, IoReason, SocketId, Ticket};
use trackerless_core::slab::{Key, Slab};
use trackerless_core::time::{Duration, Instant};

use super::read::ReadPool;
use super::reason::{io_reason, out_of_resources};
use super::stream::{State, Stream, connect, connected};
use super::udp::{BATCH, Datagram, RecvBatch, Waiting, send};
use super::{Interest, OsSocket, Reactor, Ready, Token};
use crate::sockets::Bound;

/// Bytes written to one stream before others have their turn.
const WRITE_PER_VISIT: usize = 1 << 20;
/// How long a stream closed by the engine may take to send what is left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before accepting again when the host is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Consecutive errors after which a datagram socket is given up.
const MAX_UDP_ERRORS: u32 = 100;

const KIND_BITS: u32 = 2;
const UDP: usize = 0;
const LISTENER: usize = 1;
const STREAM: usize = 2;

fn token(kind: usize, index: usize) -> Token {
    Token(index << KIND_BITS | kind)
}

/// A source of input whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Udp(usize),
    Listener(usize),
    Stream(Key),
}

/// What sockets have to tell the engine.
#[derive(Debug)]
pub(crate) enum Report {
    SocketDown(SocketId, IoReason),
    SendFailed(SocketId, SocketAddr, IoReason),
    Connected(ConnId),
    Sent(ConnId, u32),
    Closed(ConnId, IoReason),
}

/// What reading from a stream brought.
pub(crate) enum ReadOutcome {
    Data(ConnId, BytesMut),
    Nothing,
}

struct Udp<S> {
    socket: S,
    state: UdpSocketState,
    waiting: Waiting,
    readable: bool,
    queued: bool,
    errors: u32,
}

struct Listener<S> {
    socket: S,
    queued: bool,
}

/// Every socket of one engine.
pub(crate) struct Sockets<R: Reactor> {
    reactor: R,
    udp: Vec<Option<Udp<R::Udp>>>,
    listeners: Vec<Listener<R::Listener>>,
    streams: Slab<Stream<R::Stream>>,
    /// Place in `streams` by the index of a `ConnId`.
    conns: Vec<Option<Key>>,
    /// Inbound streams the engine has not decided on.
    tickets: BTreeMap<Ticket, TcpStream>,
    next_ticket: u64,
    work: VecDeque<Source>,
    dirty: Vec<Key>,
    /// Streams in `State::Leaving` and when they are cut off, earliest first.
    leaving: VecDeque<(Instant, Key)>,
    accept_again: Option<Instant>,
    /// Addresses outbound streams leave from, where the embedder named some.
    from_v4: Option<IpAddr>,
    from_v6: Option<IpAddr>,
    pool: ReadPool,
    pub(crate) reports: VecDeque<Report>,
}

impl<R: Reactor> Sockets<R> {
    pub(crate) fn new(reactor: R) -> Self {
        Self {
            reactor,
            udp: Vec::new(),
            listeners: Vec::new(),
            streams: Slab::default(),
            conns: Vec::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            work: VecDeque::new(),
            dirty: Vec::new(),
            leaving: VecDeque::new(),
            accept_again: None,
            from_v4: None,
            from_v6: None,
            pool: ReadPool::default(),
            reports: VecDeque::new(),
        }
    }

    pub(crate) fn add(&mut self, bound: Bound) -> io::Result<SocketId> {
        let socket = self.add_udp(bound.udp)?;
        if let Some(tcp) = bound.tcp {
            let at = self.listeners.len();
            let socket = self.reactor.listener(tcp, token(LISTENER, at))?;
            self.listeners.push(Listener {
                socket,
                queued: true,
            });
            self.work.push_back(Source::Listener(at));
        }
        let ip = bound.local.ip();
        if !ip.is_unspecified() {
            let from = if ip.is_ipv4() {
                &mut self.from_v4
            } else {
                &mut self.from_v6
            };
            from.get_or_insert(ip);
        }
        Ok(socket)
    }

    /// A socket for datagrams alone.
    pub(crate) fn add_udp(&mut self, udp: UdpSocket) -> io::Result<SocketId> {
        let index = self.udp.len();
        let state = UdpSocketState::new((&udp).into())?;
        let socket = self.reactor.udp(udp, token(UDP, index))?;
        self.udp.push(Some(Udp {
            socket,
            state,
            waiting: Waiting::default(),
            readable: true,
            queued: true,
            errors: 0,
        }));
        self.work.push_back(Source::Udp(index));
        Ok(SocketId(index as u32))
    }

    pub(crate) fn reactor_mut(&mut self) -> &mut R {
        &mut self.reactor
    }

    /// Notes readiness; the source gets its turn.
    pub(crate) fn ready(&mut self, ready: Ready) {
        let index = ready.token.0 >> KIND_BITS;
        match ready.token.0 & ((1 << KIND_BITS) - 1) {
            UDP => {
                if let Some(Some(udp)) = self.udp.get_mut(index) {
                    udp.readable |= ready.read;
                    if !udp.queued {
                        udp.queued = true;
                        self.work.push_back(Source::Udp(index));
                    }
                }
            }
            LISTENER => {
                if let Some(listener) = self.listeners.get_mut(index)
                    && !listener.queued
                {
                    listener.queued = true;
                    self.work.push_back(Source::Listener(index));
                }
            }
            _ => {
                let Some(key) = self.streams.key_at(index as u32) else {
                    return;
                };
                let Some(stream) = self.streams.at_mut(key) else {
                    return;
                };
                stream.readable |= ready.read;
                stream.writable |= ready.write;
                self.queue(key);
            }
        }
    }

    /// Sources that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.work.len()
    }

    pub(crate) fn next_source(&mut self) -> Option<Source> {
        let source = self.work.pop_front()?;
        match source {
            Source::Udp(index) => {
                if let Some(Some(udp)) = self.udp.get_mut(index) {
                    udp.queued = false;
                }
            }
            Source::Listener(index) => self.listeners[index].queued = false,
            Source::Stream(key) => {
                if let Some(stream) = self.streams.at_mut(key) {
                    stream.queued = false;
                }
            }
        }
        Some(source)
    }

    /// Gives a source another turn, after the others.
    pub(crate) fn again(&mut self, source: Source) {
        match source {
            Source::Udp(index) => self.ready(Ready {
                token: token(UDP, index),
                read: true,
                write: false,
            }),
            Source::Listener(index) => self.ready(Ready {
                token: token(LISTENER, index),
                read: true,
                write: false,
            }),
            Source::Stream(key) => self.queue(key),
        }
    }

    fn queue(&mut self, key: Key) {
        if let Some(stream) = self.streams.at_mut(key)
            && !stream.queued
            && stream.has_work()
        {
            stream.queued = true;
            self.work.push_back(Source::Stream(key));
        }
    }

    // Datagrams.

    /// Receives a batch; false when there is none.
    pub(crate) fn recv(&mut self, index: usize, batch: &mut RecvBatch) -> bool {
        let Some(Some(udp)) = self.udp.get_mut(index) else {
            return false;
        };
        if !udp.readable {
            return false;
        }
        let received = self.reactor.try_udp(&udp.socket, Interest::Read, || {
            batch.recv(&udp.state, &udp.socket)
        });
        match received {
            Ok(_) => {
                udp.errors = 0;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                udp.readable = false;
                false
            }
            // Most are about a datagram sent earlier; the socket goes on.
            Err(error) => {
                udp.errors += 1;
                if udp.errors >= MAX_UDP_ERRORS {
                    self.udp[index] = None;
                    let socket = SocketId(index as u32);
                    let reason = io_reason(&error);
                    self.reports.push_back(Report::SocketDown(socket, reason));
                } else {
                    self.again(Source::Udp(index));
                }
                false
            }
        }
    }

    /// Sends datagrams that had to wait.
    pub(crate) fn send_waiting(&mut self, index: usize) {
        let Some(Some(udp)) = self.udp.get_mut(index) else {
            return;
        };
        while !udp.waiting.is_empty() {
            let batch: SmallVec<[Datagram<'_>; BATCH]> = udp.waiting.front().collect();
            let sent = self
                .reactor
                .try_udp(&udp.socket, Interest::Write, || send(&udp.socket, &batch));
            let to = batch[0].to;
            drop(batch);
            match sent {
                Ok(sent) => udp.waiting.drop_front(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    udp.waiting.drop_front(1);
                    let socket = SocketId(index as u32);
                    let report = Report::SendFailed(socket, to, io_reason(&error));
                    self.reports.push_back(report);
                }
            }
        }
    }

    /// Sends a batch; what the kernel does not take now waits.
    pub(crate) fn send(&mut self, socket: SocketId, mut batch: &[Datagram<'_>]) {
        let Some(Some(udp)) = self.udp.get_mut(socket.0 as usize) else {
            return;
        };
        while !batch.is_empty() {
            let sent = if udp.waiting.is_empty() {
                self.reactor
                    .try_udp(&udp.socket, Interest::Write, || send(&udp.socket, batch))
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
            let failed = match sent {
                Ok(sent) => {
                    batch = &batch[sent..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (!udp.waiting.keep(&batch[0])).then_some(IoReason::NoBuffers)
                }
                Err(error) => Some(io_reason(&error)),
            };
            if let Some(reason) = failed {
                self.reports
                    .push_back(Report::SendFailed(socket, batch[0].to, reason));
            }
            batch = &batch[1..];
        }
    }

    // Streams.

    /// Takes a waiting inbound stream.
    pub(crate) fn accept(&mut self, index: usize, now: Instant) -> Option<(Ticket, SocketAddr)> {
        let listener = &self.listeners[index];
        match self.reactor.try_accept(&listener.socket) {
            Ok((stream, from)) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                // Without it a stream is only slower.
                let _ = stream.set_nodelay(true);
                self.tickets.insert(ticket, stream);
                Some((ticket, from))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                if out_of_resources(&error) {
                    // The connection stays in the backlog and is not reported again.
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                } else {
                    self.again(Source::Listener(index));
                }
                None
            }
        }
    }

    pub(crate) fn take(&mut self, ticket: Ticket, conn: ConnId) {
        let stream = self.tickets.remove(&ticket);
        let stream = stream.ok_or_else(|| io::ErrorKind::NotFound.into());
        self.open(conn, State::Open, stream);
    }

    pub(crate) fn refuse(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket);
    }

    pub(crate) fn connect(&mut self, conn: ConnId, to: SocketAddr) {
        let from = if to.is_ipv4() {
            self.from_v4
        } else {
            self.from_v6
        };
        self.open(conn, State::Connecting, connect(to, from));
    }

    fn open(&mut self, conn: ConnId, state: State, stream: io::Result<TcpStream>) {
        let Self {
            reactor, streams, ..
        } = self;
        let place = streams.next_key().index as usize;
        let socket = stream.and_then(|stream| reactor.stream(stream, token(STREAM, place)));
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                let report = Report::Closed(conn, io_reason(&error));
                self.reports.push_back(report);
                return;
            }
        };
        let key = streams.insert(Stream::new(socket, conn, state));
        debug_assert_eq!(key.index as usize, place);
        let index = conn.0.index as usize;
        if self.conns.len() <= index {
            self.conns.resize(index + 1, None);
        }
        self.conns[index] = Some(key);
        self.queue(key);
    }

    fn find(&self, conn: ConnId) -> Option<Key> {
        let key = (*self.conns.get(conn.0.index as usize)?)?;
        (self.streams.at(key)?.conn == conn).then_some(key)
    }

    pub(crate) fn credit(&mut self, conn: ConnId, bytes: u32) {
        if let Some(key) = self.find(conn)
            && let Some(stream) = self.streams.at_mut(key)
        {
            stream.credit = stream.credit.saturating_add(bytes as usize);
            self.queue(key);
        }
    }

    /// Queues bytes; they leave with the next [`Self::flush`].
    pub(crate) fn write(&mut self, conn: ConnId, head: &[u8], body: Bytes) {
        if let Some(key) = self.find(conn)
            && let Some(stream) = self.streams.at_mut(key)
        {
            stream.out.push(head, body);
            if !stream.dirty {
                stream.dirty = true;
                self.dirty.push(key);
            }
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, now: Instant) {
        let Some(key) = self.find(conn) else {
            return;
        };
        self.conns[conn.0.index as usize] = None;
        let Some(stream) = self.streams.at_mut(key) else {
            return;
        };
        if stream.state == State::Open && !stream.out.is_empty() {
            stream.state = State::Leaving;
            self.leaving.push_back((now + LEAVE_TIMEOUT, key));
        } else {
            self.drop_stream(key);
        }
    }

    /// Writes what was queued since the last flush.
    pub(crate) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(stream) = self.streams.at_mut(key) {
                stream.dirty = false;
                self.write_stream(key);
                self.queue(key);
            }
        }
        self.dirty = dirty;
    }

    /// Finishes connecting, or writes.
    pub(crate) fn write_stream(&mut self, key: Key) {
        let Self {
            reactor,
            streams,
            reports,
            ..
        } = self;
        let Some(stream) = streams.at_mut(key) else {
            return;
        };
        let conn = stream.conn;
        if stream.state == State::Connecting {
            let socket = &stream.socket;
            match reactor.try_stream(socket, Interest::Write, || connected(socket)) {
                Ok(()) => {
                    stream.state = State::Open;
                    reports.push_back(Report::Connected(conn));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable = false;
                }
                Err(error) => self.fail(key, io_reason(&error)),
            }
            return;
        }
        let mut written = 0;
        let mut failed = None;
        while stream.writable && !stream.out.is_empty() && written < WRITE_PER_VISIT {
            let Stream { socket, out, .. } = stream;
            match reactor.try_stream(socket, Interest::Write, || out.write(socket)) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(io_reason(&error));
                    break;
                }
            }
        }
        let open = stream.state == State::Open;
        let left = !open && stream.out.is_empty();
        if written > 0 && open {
            reports.push_back(Report::Sent(conn, written as u32));
        }
        if let Some(reason) = failed {
            self.fail(key, reason);
        } else if left {
            self.drop_stream(key);
        }
    }

    /// Reads once, at most `limit` bytes.
    pub(crate) fn read(&mut self, key: Key, limit: usize) -> ReadOutcome {
        let Some(stream) = self.streams.at_mut(key) else {
            return ReadOutcome::Nothing;
        };
        if stream.state != State::Open || !stream.readable || stream.credit == 0 {
            return ReadOutcome::Nothing;
        }
        let limit = limit.min(stream.credit);
        self.pool.prepare(stream.expected, limit);
        let (pool, socket) = (&mut self.pool, &stream.socket);
        let read = self
            .reactor
            .try_stream(socket, Interest::Read, || pool.read(socket));
        match read {
            Ok(0) => {
                self.fail(key, IoReason::Eof);
                ReadOutcome::Nothing
            }
            Ok(bytes) => {
                stream.credit -= bytes;
                ReadOutcome::Data(stream.conn, self.pool.take(&mut stream.expected))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.readable = false;
                ReadOutcome::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => ReadOutcome::Nothing,
            Err(error) => {
                self.fail(key, io_reason(&error));
                ReadOutcome::Nothing
            }
        }
    }

    /// The stream is gone; the engine hears of it unless it closed it itself.
    fn fail(&mut self, key: Key, reason: IoReason) {
        let Some(stream) = self.streams.at(key) else {
            return;
        };
        if stream.state != State::Leaving {
            let conn = stream.conn;
            self.conns[conn.0.index as usize] = None;
            self.reports.push_back(Report::Closed(conn, reason));
        }
        self.drop_stream(key);
    }

    fn drop_stream(&mut self, key: Key) {
        if let Some(stream) = self.streams.remove(key) {
            shut_down(&stream.socket);
            self.reactor.close(stream.socket);
        }
    }

    // Time.

    /// When [`Self::on_time`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.front().map(|&(deadline, _)| deadline);
        leaving.into_iter().chain(self.accept_again).min()
    }

    /// To be called about once a second; whether another second must follow.
    pub(crate) fn on_second(&mut self) -> bool {
        self.pool.trim()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.leaving.front() {
            let gone = self.streams.at(key).is_none();
            if !gone && deadline > now {
                break;
            }
            self.leaving.pop_front();
            self.drop_stream(key);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            for index in 0..self.listeners.len() {
                self.again(Source::Listener(index));
            }
        }
    }
}

fn shut_down(socket: &impl OsSocket) {
    // An error means that the remote was quicker.
    let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Write);
}
