//! Local service discovery (BEP 14): peers of the same network find each other by multicast.
//!
//! A machine of its own. The host gives it a datagram socket for each network it may speak to; a
//! socket is known as such by its local address, which is that of the multicast group it has
//! joined ([`GROUP_V4`], [`GROUP_V6`]).

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use crate::config::Config;
use crate::dht::security::is_local;
use crate::id::{Id20, hex};
use crate::io::{Outbox, SocketId};
use crate::ports::Ports;
use crate::rng::{Label, Secrets};
use crate::time::{Duration, Instant};

/// The group of IPv4.
pub const GROUP_V4: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), PORT);
/// The group of IPv6.
pub const GROUP_V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)),
    PORT,
);
const PORT: u16 = 6771;

const START: &[u8] = b"BT-SEARCH * HTTP/1.";
/// Bytes of a datagram besides its info-hashes, at most.
const FRAME: usize = 128;
/// Bytes of one info-hash with its name and line end.
const HASH_LINE: usize = 52;

/// What [`Lsd`] is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// A socket that has joined this group is ready.
    SocketUp(SocketId, SocketAddr),
    /// It is gone.
    SocketDown(SocketId),
    /// The ports peers reach us at; where there is none, nothing is announced.
    Listening(Ports),
    /// A torrent is to be announced, at once and from then on.
    Add(Id20),
    /// It is not any more.
    Remove(Id20),
    /// A datagram came to the group.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// What it says.
        payload: &'a [u8],
    },
    /// A datagram could not be sent.
    SendFailed(SocketId),
}

/// What [`Lsd`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody nearby has the torrent too.
    Found(Id20, SocketAddr),
    /// A torrent was announced, and is again after this time.
    Announced(Id20, Duration),
    /// The announce reached no network.
    Failed(Id20),
}

/// Announces torrents to the local network and hears of others.
pub struct Lsd {
    config: Arc<Config>,
    /// Tells our own datagrams from those of others.
    cookie: String,
    /// Global addresses of ours that our own datagrams came back from, the latest last. In an
    /// IPv6 network with such addresses everybody sends from those.
    ours: VecDeque<IpAddr>,
    now: Instant,
    sockets: Vec<(SocketId, SocketAddr)>,
    ports: Ports,
    due: BTreeMap<Id20, Instant>,
    queue: BTreeSet<(Instant, Id20)>,
    /// The network is left alone until then.
    quiet_until: Instant,
    /// What the last datagram named, until it has failed.
    sent: Vec<Id20>,
    /// Sockets over which it did not leave.
    failed: Vec<SocketId>,
}

impl fmt::Debug for Lsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lsd")
            .field("sockets", &self.sockets)
            .field("torrents", &self.due.len())
            .finish_non_exhaustive()
    }
}

impl Lsd {
    /// Announces nothing yet.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: &[u8; 32], now: Instant) -> Self {
        let random: [u8; 4] = Secrets::new(seed, Label::Lsd).bytes();
        Self {
            config,
            cookie: hex(&random),
            ours: VecDeque::new(),
            now,
            sockets: Vec::new(),
            ports: Ports::default(),
            due: BTreeMap::new(),
            queue: BTreeSet::new(),
            quiet_until: now,
            sent: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Takes one input; datagrams go to `out`, what it tells to `events`.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => {}
            Input::SocketUp(socket, group) => {
                self.sockets.retain(|(id, _)| *id != socket);
                self.sockets.push((socket, group));
                // A network more: it hears of everything at once.
                let all: Vec<Id20> = self.due.keys().copied().collect();
                all.into_iter().for_each(|hash| self.plan(hash, self.now));
            }
            Input::SocketDown(socket) => self.sockets.retain(|(id, _)| *id != socket),
            Input::Listening(ports) => self.ports = ports,
            Input::Add(hash) => {
                if !self.due.contains_key(&hash) {
                    self.plan(hash, self.now);
                }
            }
            Input::Remove(hash) => {
                if let Some(at) = self.due.remove(&hash) {
                    self.queue.remove(&(at, hash));
                }
            }
            Input::Datagram { from, payload } => self.on_datagram(from, payload, events),
            Input::SendFailed(socket) => self.on_send_failed(socket, events),
        }
        self.announce(out, events);
    }

    /// When the next [`Input::Tick`] is due. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let (at, _) = self.queue.first().filter(|_| self.may_speak())?;
        Some(*at.max(&self.quiet_until))
    }

    /// Whether `socket` is one of its own.
    #[must_use]
    pub fn has_socket(&self, socket: SocketId) -> bool {
        self.sockets.iter().any(|(id, _)| *id == socket)
    }

    fn may_speak(&self) -> bool {
        let mut groups = self.sockets.iter().map(|(_, group)| group.ip());
        groups.any(|group| self.ports.of(group).is_some())
    }

    fn plan(&mut self, hash: Id20, at: Instant) {
        if let Some(before) = self.due.insert(hash, at) {
            self.queue.remove(&(before, hash));
        }
        self.queue.insert((at, hash));
    }

    /// One info-hash a datagram, as every client reads it; more only where their turns would
    /// otherwise come later than the interval.
    fn hashes_per_datagram(&self) -> usize {
        let lsd = &self.config.lsd;
        let turns = (lsd.interval.as_micros() / lsd.spacing.as_micros().max(1)).max(1);
        let wanted = self
            .due
            .len()
            .div_ceil(usize::try_from(turns).unwrap_or(usize::MAX));
        let room = usize::from(lsd.max_datagram).saturating_sub(FRAME) / HASH_LINE;
        wanted.clamp(1, room.max(1))
    }

    fn announce(&mut self, out: &mut Outbox, events: &mut Vec<Event>) {
        if !self.may_speak() || self.quiet_until > self.now {
            return;
        }
        let most = self.hashes_per_datagram();
        self.sent.clear();
        while self.sent.len() < most
            && let Some((_, hash)) = self.queue.first().filter(|(at, _)| *at <= self.now)
        {
            let hash = *hash;
            self.plan(hash, self.now + self.config.lsd.interval);
            self.sent.push(hash);
        }
        if self.sent.is_empty() {
            return;
        }
        self.quiet_until = self.now + self.config.lsd.spacing;
        self.failed.clear();
        for &(socket, group) in &self.sockets {
            let Some(port) = self.ports.of(group.ip()) else {
                continue;
            };
            let text = encode(group, port, &self.sent, &self.cookie);
            let write = |buf: &mut Vec<u8>| buf.extend_from_slice(text.as_bytes());
            out.transmit(socket, group, write, Bytes::new());
        }
        let interval = self.config.lsd.interval;
        events.extend(
            self.sent
                .iter()
                .map(|&hash| Event::Announced(hash, interval)),
        );
    }

    fn on_datagram(&mut self, from: SocketAddr, payload: &[u8], events: &mut Vec<Event>) {
        if payload.len() > usize::from(self.config.lsd.max_datagram) {
            return;
        }
        let Some(search) = Search::parse(payload) else {
            return;
        };
        if search.cookie == Some(self.cookie.as_bytes()) {
            self.on_own_address(from.ip());
            return;
        }
        // The group is not reached from afar; a sender that claims to be is no neighbour.
        if !self.is_near(from.ip()) {
            return;
        }
        // With the scope of a link-local address.
        let mut peer = from;
        peer.set_port(search.port);
        let known = search.hashes().filter(|hash| self.due.contains_key(hash));
        events.extend(known.map(|hash| Event::Found(hash, peer)));
    }

    fn on_own_address(&mut self, ip: IpAddr) {
        if self.is_near(ip) {
            return;
        }
        if self.ours.len() >= usize::from(self.config.lsd.max_networks) {
            self.ours.pop_front();
        }
        if self.config.lsd.max_networks > 0 {
            self.ours.push_back(ip);
        }
    }

    /// Whether an address means something only nearby, or is of a network that we are in.
    fn is_near(&self, ip: IpAddr) -> bool {
        is_local(ip) || self.ours.iter().any(|ours| is_one_network(*ours, ip))
    }

    fn on_send_failed(&mut self, socket: SocketId, events: &mut Vec<Event>) {
        if !self.has_socket(socket) || self.failed.contains(&socket) {
            return;
        }
        self.failed.push(socket);
        if self.failed.len() == self.sockets.len() {
            events.extend(self.sent.drain(..).map(Event::Failed));
        }
    }
}

/// Whether two addresses are of one network, as those of hosts are: a /64, of IPv4 a /24.
fn is_one_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets()[..8] == other.octets()[..8],
        _ => false,
    }
}

/// A datagram of somebody who looks for peers, as far as it means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search<'a> {
    /// The port its sender listens on, not 0.
    pub port: u16,
    /// What tells its sender from others.
    pub cookie: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Search<'a> {
    /// Reads a datagram; `None` when it is none, or its port is missing or wrong. Names of headers
    /// are read in any case, others passed over.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let rest = payload.strip_prefix(START)?;
        let (_, headers) = split_line(rest);
        let number = |value| core::str::from_utf8(value).ok()?.parse().ok();
        let port = values(headers, b"port").next().and_then(number)?;
        (port != 0).then_some(Self {
            port,
            cookie: values(headers, b"cookie").next(),
            headers,
        })
    }

    /// The info-hashes it names; what is none is passed over.
    pub fn hashes(&self) -> impl Iterator<Item = Id20> + 'a {
        values(self.headers, b"infohash").filter_map(|value| {
            let text = core::str::from_utf8(value).ok()?;
            (text.len() == 40).then(|| Id20::from_hex(text)).flatten()
        })
    }
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// The values of all headers of that name, in order, up to the empty line.
fn values<'a>(headers: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
    let mut rest = headers;
    core::iter::from_fn(move || {
        loop {
            let (line, next) = split_line(rest);
            let line = line.trim_ascii();
            if line.is_empty() {
                return None;
            }
            rest = next;
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            if line[..colon].trim_ascii().eq_ignore_ascii_case(name) {
                return Some(line[colon + 1..].trim_ascii());
            }
        }
    })
}

/// Writes the datagram that announces `hashes` to `group`.
fn encode(group: SocketAddr, port: u16, hashes: &[Id20], cookie: &str) -> String {
    use core::fmt::Write as _;
    let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {port}\r\n");
    for hash in hashes {
        // Writing to a string does not fail.
        let _ = write!(text, "Infohash: {hash}\r\n");
    }
    text + "cookie: " + cookie + "\r\n\r\n\r\n"
}

#[cfg(test)]
mod tests;
