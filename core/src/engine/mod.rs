//! Routes inputs to the machines and grants them what they share; decides nothing that a
//! protocol decides.
//!
//! Machines speak in typed events, which the engine carries to whom they concern through one
//! work list. Nothing here recurses: an input fills the list, and the list is worked off.

mod commands;
mod conns;
mod grants;
mod jobs;
mod local;
mod nodes;
mod rates;
mod room;
mod torrents;
mod trackers;
mod view;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

pub use view::{TorrentState, TorrentStats};

use crate::config::{Config, ConfigError};
use crate::deadline::Deadlines;
use crate::dht::{self, Dht};
use crate::event::Event;
use crate::id::{Id20, PeerId};
use crate::io::{ConnId, Input, Outbox, SocketId, TorrentId};
use crate::lsd;
use crate::ports::Ports;
use crate::rng::{Choice, Label, Secrets};
use crate::slab::Slab;
use crate::swarm;
use crate::swarm::crowd::Crowd;
use crate::time::{Duration, Instant};
use crate::tracker::{self, Trackers};
use crate::utp;
use crate::wire;

/// The whole engine: one mutator, one deadline.
pub struct Engine {
    config: Arc<Config>,
    now: Instant,
    seed: [u8; 32],
    choice: Choice,
    /// What the keys and pads of connections are made of.
    encryption: Secrets,
    peer_id: PeerId,
    unix: Option<u64>,
    sockets: Vec<(SocketId, SocketAddr)>,
    /// Endpoints that led back to us.
    own_addrs: VecDeque<SocketAddr>,
    dht: Option<Dht>,
    dht_armed: Option<Instant>,
    trackers: Option<Trackers>,
    trackers_armed: Option<Instant>,
    nodes: nodes::Nodes,
    local: Option<local::Local>,
    conns: Slab<conns::Conn>,
    pending_incoming: u32,
    /// Bytes that all connections hold for unfinished messages.
    unfinished: usize,
    /// Where those come from.
    pending_from: Crowd,
    /// Where all inbound connections come from.
    incoming_from: Crowd,
    torrents: Slab<torrents::Torrent>,
    by_hash: BTreeMap<Id20, TorrentId>,
    /// Info-hashes by what they are called in the handshake of encryption.
    by_torrent_hash: BTreeMap<Id20, Id20>,
    torrents_added: u64,
    jobs: Slab<jobs::Owner>,
    grants: grants::Grants,
    shutdown: commands::Shutdown,
    deadlines: Deadlines<Wake>,
    todo: VecDeque<Todo>,
    wire_events: Vec<wire::Event>,
    swarm_events: Vec<swarm::Event>,
    dht_events: Vec<dht::Event>,
    tracker_events: Vec<tracker::Event>,
}

/// Who is to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wake {
    Dht,
    Trackers,
    Nodes,
    Local,
    Grants,
    Torrent(TorrentId),
    Announce(TorrentId),
    Conn(ConnId),
}

/// What one machine said, on its way to whom it concerns.
#[derive(Debug)]
enum Todo {
    Wire(ConnId, wire::Event),
    Swarm(TorrentId, swarm::Event),
    Dht(dht::Event),
    Tracker(tracker::Event),
}

// Rule: small values. What machines say is queued by the thousand, deadlines by connection.
const _: () = assert!(size_of::<Todo>() <= 96);
const _: () = assert!(size_of::<(Instant, Wake)>() <= 24);

impl Engine {
    /// Makes an engine. The same config, seed and inputs give the same outputs everywhere.
    ///
    /// # Errors
    /// The first field of `config` that is out of range.
    pub fn new(config: Arc<Config>, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut secrets = Secrets::new(&seed, Label::Engine);
        let mut peer_id = PeerId(secrets.bytes());
        peer_id.0[..8].copy_from_slice(&config.peer_id_prefix);
        let dht = config
            .dht
            .enabled
            .then(|| Dht::new(Arc::clone(&config), &seed, now));
        let local = config
            .lsd
            .enabled
            .then(|| local::Local::new(Arc::clone(&config), &seed, now));
        let trackers = config
            .tracker
            .enabled
            .then(|| Trackers::new(Arc::clone(&config), &seed, peer_id, now));
        Ok(Self {
            now,
            choice: Choice::new(&seed, Label::Engine),
            encryption: Secrets::new(&seed, Label::Encryption),
            peer_id,
            unix: None,
            sockets: Vec::new(),
            own_addrs: VecDeque::new(),
            dht,
            dht_armed: None,
            trackers,
            trackers_armed: None,
            nodes: nodes::Nodes::default(),
            local,
            conns: Slab::default(),
            pending_incoming: 0,
            unfinished: 0,
            pending_from: Crowd::default(),
            incoming_from: Crowd::default(),
            torrents: Slab::default(),
            by_hash: BTreeMap::new(),
            by_torrent_hash: BTreeMap::new(),
            torrents_added: 0,
            jobs: Slab::default(),
            grants: grants::Grants::new(&config, now),
            shutdown: commands::Shutdown::default(),
            deadlines: Deadlines::default(),
            todo: VecDeque::new(),
            wire_events: Vec::new(),
            swarm_events: Vec::new(),
            dht_events: Vec::new(),
            tracker_events: Vec::new(),
            seed,
            config,
        })
    }

    /// Takes one input and appends what follows from it to `out`: the only mutator. `now` that
    /// runs backwards is read as standing still.
    ///
    /// Deadlines are worked off by `Tick` alone, so a host that is flooded with other inputs
    /// still sends one whenever `next_timeout()` has come.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.on_tick(out),
            Input::SocketUp { socket, local } => self.on_socket_up(socket, local, out),
            Input::SocketDown { socket, .. } => self.on_socket_down(socket, out),
            Input::WallClock { unix } => self.unix = Some(unix),
            Input::Datagram {
                socket,
                from,
                payload,
            } => self.on_datagram(socket, from, payload, out),
            Input::SendFailed { socket, to, .. } => {
                if self.is_local_socket(socket) {
                    self.local_input(lsd::Input::SendFailed(socket), out);
                } else {
                    self.dht_input(dht::Input::SendFailed(to), out);
                    self.tracker_input(tracker::Input::SendFailed(to), out);
                }
            }
            Input::Incoming { ticket, from } => self.on_incoming(ticket, from, out),
            Input::Connected { conn } => self.on_connected(conn, out),
            Input::Received { conn, data } => self.on_received(conn, data, out),
            Input::Sent { conn, bytes } => self.on_sent(conn, bytes, out),
            Input::Closed { conn, reason } => {
                self.drop_conn(conn, crate::event::CloseReason::Io(reason), false, out);
            }
            Input::JobDone { job, result } => self.on_job_done(job, result, out),
            Input::Command { tag, command } => self.on_command(tag, *command, out),
        }
        self.work_off(out);
        self.settle(out);
        self.work_off(out);
    }

    /// When the next `Tick` is due at the latest; `None` is never. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn on_tick(&mut self, out: &mut Outbox) {
        for _ in 0..self.config.limits.wakes_per_tick {
            let Some((at, wake)) = self.deadlines.expire(self.now) else {
                break;
            };
            match wake {
                Wake::Dht => self.wake_dht(at, out),
                Wake::Trackers => self.wake_trackers(at, out),
                Wake::Nodes => self.wake_nodes(out),
                Wake::Local => self.wake_local(out),
                Wake::Grants => self.wake_grants(),
                Wake::Torrent(torrent) => self.wake_torrent(torrent, at),
                Wake::Announce(torrent) => self.wake_announce(torrent, at, out),
                Wake::Conn(conn) => self.wake_conn(conn, at, out),
            }
            self.work_off(out);
        }
    }

    /// Carries what machines said to whom it concerns, until nothing is left to carry. Ends,
    /// since every machine answers an event with a bounded number of others and a connection
    /// once closed says nothing more.
    fn work_off(&mut self, out: &mut Outbox) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Wire(conn, event) => self.on_wire_event(conn, event, out),
                Todo::Swarm(torrent, event) => self.on_swarm_event(torrent, event, out),
                Todo::Dht(event) => self.on_dht_event(event, out),
                Todo::Tracker(event) => self.on_tracker_event(event, out),
            }
        }
    }

    /// Queues `wake` for `want` unless `armed` already wakes earlier.
    fn arm(
        deadlines: &mut Deadlines<Wake>,
        armed: &mut Option<Instant>,
        want: Option<Instant>,
        wake: Wake,
    ) {
        if let Some(want) = want
            && armed.is_none_or(|armed| want < armed)
        {
            deadlines.arm(want, wake);
            *armed = Some(want);
        }
    }

    /// What comes to a group is local discovery's. A bencoded dictionary is the DHT's. What begins
    /// with a zero byte is an answer of a tracker, if it is of a transaction under way; nothing
    /// else is spoken over datagrams.
    fn on_datagram(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
        out: &mut Outbox,
    ) {
        if self.is_local_socket(socket) {
            self.local_input(lsd::Input::Datagram { from, payload }, out);
            return;
        }
        match payload.first() {
            Some(b'd') if payload.len() <= usize::from(self.config.dht.max_datagram) => {
                let input = dht::Input::Datagram {
                    socket,
                    from,
                    payload,
                };
                self.dht_input(input, out);
            }
            Some(0) if self.is_tracker_answer(from, payload) => {
                let input = tracker::Input::Datagram {
                    socket,
                    from,
                    payload,
                };
                self.tracker_input(input, out);
            }
            // Only who has something to share is worth a connection over TCP instead.
            Some(&utp::SYN) if !self.torrents.is_empty() => {
                utp::refuse(socket, from, payload, self.now, out);
            }
            _ => {}
        }
    }

    fn on_socket_up(&mut self, socket: SocketId, local: SocketAddr, out: &mut Outbox) {
        if local.ip().is_multicast() {
            self.local_input(lsd::Input::SocketUp(socket, local), out);
            return;
        }
        self.sockets.retain(|(id, _)| *id != socket);
        self.sockets.push((socket, local));
        self.dht_input(dht::Input::SocketUp(socket, local), out);
        self.tracker_input(tracker::Input::SocketUp(socket, local), out);
        self.tell_ports(out);
    }

    /// Where peers reach us has changed, maybe.
    fn tell_ports(&mut self, out: &mut Outbox) {
        let ports = self.ports();
        let ids: Vec<TorrentId> = self
            .torrents
            .iter()
            .map(|(key, _)| TorrentId(key))
            .collect();
        for torrent in ids {
            self.swarm_input(torrent, swarm::Input::Listening(ports));
        }
        self.tell_local_ports(out);
    }

    fn on_socket_down(&mut self, socket: SocketId, out: &mut Outbox) {
        if self.is_local_socket(socket) {
            self.local_input(lsd::Input::SocketDown(socket), out);
            return;
        }
        self.sockets.retain(|(id, _)| *id != socket);
        self.dht_input(dht::Input::SocketDown(socket), out);
        self.tracker_input(tracker::Input::SocketDown(socket), out);
        self.tell_ports(out);
    }

    /// The ports others can reach us at.
    fn ports(&self) -> Ports {
        Ports::of_sockets(self.sockets.iter().map(|(_, local)| *local))
    }

    /// Whether a stream to `addr` would end at our own listening socket, as far as we know.
    fn is_ourselves(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip().to_canonical();
        let listens = |local: &SocketAddr| {
            let any = local.ip().is_unspecified() && ip.is_loopback();
            local.port() == addr.port() && (any || local.ip().to_canonical() == ip)
        };
        self.own_addrs.contains(&addr) || self.sockets.iter().any(|(_, local)| listens(local))
    }

    /// A connection to `addr` led back to us: no swarm is told of it again.
    fn on_own_addr(&mut self, addr: SocketAddr) {
        if !self.own_addrs.contains(&addr) {
            self.own_addrs.push_back(addr);
            if self.own_addrs.len() > usize::from(self.config.limits.max_own_addresses) {
                self.own_addrs.pop_front();
            }
        }
    }

    /// A time near `base`, so that what began together does not stay in step: 90 % to 110 %.
    fn jittered(&mut self, base: Duration) -> Duration {
        let micros = base.as_micros() as u64;
        Duration::from_micros(micros - micros / 10 + self.choice.below(micros / 5 + 1))
    }

    fn emit(&mut self, event: Event, out: &mut Outbox) {
        out.event(event);
    }
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("peer_id", &self.peer_id)
            .field("connections", &self.conns.len())
            .field("torrents", &self.torrents.len())
            .finish_non_exhaustive()
    }
}

// Keys that wait for a parked connection or a needy torrent are ordered, so that they are
// served in the order of their names on every platform.
type Ordered<K> = BTreeSet<K>;
