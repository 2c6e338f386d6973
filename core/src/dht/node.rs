//! The DHT node: routes inputs, keeps time, and sends.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;

use super::external::Votes;
use super::krpc::{self, Asker, Kind, Message, Query, Saved, Want};
use super::lookup::Search;
use super::rate::{AddressBudget, Bucket, Endpoints};
use super::store::Store;
use super::table::{Heard, Table};
use super::token::Tokens;
use super::{Event, Input, Lookup, LookupId, security};
use crate::compact;
use crate::config::Config;
use crate::deadline::Deadlines;
use crate::id::{Id20, NodeId};
use crate::io::{Outbox, SocketId};
use crate::rng::{Choice, Label, Secrets};
use crate::time::{Duration, Instant};

/// Timers handled for one input; the rest waits for the next tick.
const TIMERS_PER_INPUT: usize = 64;
/// Waiting lookups begun for one input.
pub(super) const STARTS_PER_INPUT: usize = 4;
/// Time between looks at a slice of the peer store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest short timeout: queueing on a loaded path alone takes this long.
const SHORT_FLOOR: Duration = Duration::from_millis(100);
/// Pause before a bootstrap is repeated, doubled up to the second value.
const BOOTSTRAP_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A table smaller than this after a bootstrap looks its own id up again.
const SMALL_TABLE: usize = 16;

/// A Mainline DHT node in both address families.
///
/// Each family has a table, an id and a peer store of its own (BEP 32); lookups walk both. The
/// machine answers queries as soon as a socket is up, unless it is read-only.
pub struct Dht {
    pub(super) config: Arc<Config>,
    pub(super) now: Instant,
    start: Instant,
    pub(super) secrets: Secrets,
    pub(super) choice: Choice,
    pub(super) tokens: Tokens,
    pub(super) addresses: AddressBudget,
    pub(super) replies: Bucket,
    endpoints: Endpoints,
    pub(super) families: [Family; 2],
    pub(super) table_v4: Table<4>,
    pub(super) table_v6: Table<16>,
    pub(super) pending: BTreeMap<u32, Pending>,
    pub(super) searches: BTreeMap<u32, Search>,
    pub(super) next_search: u32,
    pub(super) pings: usize,
    pub(super) queue: VecDeque<(LookupId, Lookup)>,
    /// Nodes heard of, to be pinged one by one.
    pub(super) waiting: VecDeque<(SocketAddr, Option<NodeId>)>,
    pub(super) routers: Vec<SocketAddr>,
    pub(super) bootstrapped: bool,
    pub(super) bootstrapping: bool,
    bootstrap_pause: Duration,
    deadlines: Deadlines<Timer>,
    armed: [Option<Instant>; SINGLE],
    /// Smoothed round trip and its deviation, microseconds.
    rtt: Option<(u64, u64)>,
    last_status: (u32, u32),
}

/// What the node knows of itself in one family.
pub(super) struct Family {
    pub(super) socket: Option<SocketId>,
    pub(super) id: NodeId,
    pub(super) votes: Votes,
    pub(super) store: Store,
}

/// A query that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) to: SocketAddr,
    pub(super) expected: Option<NodeId>,
    pub(super) sent: Instant,
    pub(super) purpose: Purpose,
}

/// Why something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To see whether a node answers, and perhaps for nodes.
    Check,
    /// A ping somebody asked for.
    Ping(LookupId),
    /// A step of a search.
    Search(u32),
    /// An announce at the end of a search.
    Store(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Short(u32),
    Late(u32),
    Hard(u32),
    Single(Single),
}

/// Timers of which there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Single {
    RefreshV4,
    RefreshV6,
    /// The next waiting node may be pinged.
    Ping,
    /// The budget of new endpoints opens.
    Budget,
    /// More waiting lookups can begin.
    Start,
    Sweep,
    Bootstrap,
}

const SINGLE: usize = Single::Bootstrap as usize + 1;

/// Where outputs go.
pub(super) struct Context<'c> {
    pub(super) out: &'c mut Outbox,
    pub(super) events: &'c mut Vec<Event>,
}

/// A query could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    NoSocket,
    /// The budget of new endpoints is used up; a timer is set.
    Budget,
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht")
            .field("ids", &[self.families[0].id, self.families[1].id])
            .field("nodes", &[self.table_v4.len(), self.table_v6.len()])
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Dht {
    /// Makes a node. Uses `config.dht` and `config.lab`; ids, tokens and transaction ids come
    /// from `seed`.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: &[u8; 32], now: Instant) -> Self {
        let dht = &config.dht;
        let mut secrets = Secrets::new(seed, Label::Dht(4));
        let family = |label| {
            let id = Id20(Secrets::new(seed, Label::Dht(label)).bytes());
            let store = Store::new(id, dht, config.lab);
            Family {
                socket: None,
                id,
                votes: Votes::default(),
                store,
            }
        };
        let families = [family(14), family(16)];
        let table_v4 = Table::new(families[0].id, dht, config.lab);
        let table_v6 = Table::new(families[1].id, dht, config.lab);
        let tokens = Tokens::new(&mut secrets, dht.token_rotation, now);
        let addresses = AddressBudget::new(
            dht.address_packets,
            dht.budget_window,
            dht.flood_ban,
            dht.max_tracked_addresses,
            secrets.next_u64(),
        );
        let endpoints = Endpoints::new(dht.new_endpoints_per_second, secrets.next_u64(), now);
        Self {
            now,
            start: now,
            choice: Choice::new(seed, Label::Dht(4)),
            tokens,
            addresses,
            replies: Bucket::new(dht.reply_bytes_per_second, now),
            endpoints,
            families,
            table_v4,
            table_v6,
            pending: BTreeMap::new(),
            searches: BTreeMap::new(),
            next_search: 0,
            pings: 0,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            routers: Vec::new(),
            bootstrapped: false,
            bootstrapping: false,
            bootstrap_pause: BOOTSTRAP_PAUSE.0,
            deadlines: Deadlines::default(),
            armed: [None; SINGLE],
            rtt: None,
            last_status: (0, 0),
            secrets,
            config,
        }
    }

    /// Takes one input; datagrams go to `out`, what the owner should know to `events`. `now` that
    /// runs backwards is read as standing still.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        self.now = self.now.max(now);
        let cx = &mut Context { out, events };
        match input {
            Input::Tick => {}
            Input::SocketUp(socket, local) => self.handle_socket_up(socket, local),
            Input::SocketDown(socket) => self.handle_socket_down(socket, cx),
            Input::Datagram {
                socket,
                from,
                payload,
            } => {
                self.handle_datagram(socket, from, payload, cx);
            }
            Input::SendFailed(to) => self.handle_send_failed(to, cx),
            Input::AddNode(addr) => self.wait_for(addr, None),
            Input::Bootstrap(contacts) => {
                for contact in contacts {
                    let known = self.routers.contains(contact) || compact::is_undialable(*contact);
                    if !known && self.routers.len() < usize::from(self.config.dht.max_routers) {
                        self.routers.push(*contact);
                    }
                }
                self.bootstrap_pause = BOOTSTRAP_PAUSE.0;
                self.arm(Single::Bootstrap, self.now);
            }
            Input::Load(data) => self.handle_load(data, cx),
            Input::Start(id, lookup) => {
                let full = self.queue.len() >= usize::from(self.config.dht.max_queued_lookups);
                if full || self.families.iter().all(|family| family.socket.is_none()) {
                    cx.events.push(Event::Refused(id));
                } else {
                    self.queue.push_back((id, lookup));
                    self.start_waiting(cx);
                }
            }
            Input::Stop(id) => self.stop(id, cx),
        }
        self.handle_timers(cx);
    }

    /// When the next `Tick` is due at the latest. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Our id in one family.
    #[must_use]
    pub fn node_id(&self, v6: bool) -> NodeId {
        self.families[usize::from(v6)].id
    }

    /// The nodes of one family that answered when last asked.
    pub fn contacts(&self, v6: bool) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let v4 = self
            .table_v4
            .good()
            .filter(move |_| !v6)
            .map(|c| (c.id, c.addr()));
        let v6 = self
            .table_v6
            .good()
            .filter(move |_| v6)
            .map(|c| (c.id, c.addr()));
        v4.chain(v6)
    }

    /// Nodes of one family that answered when last asked.
    #[must_use]
    pub fn good_nodes(&self, v6: bool) -> u32 {
        self.contacts(v6).count() as u32
    }

    /// Whether that node is known and answered when last asked.
    #[must_use]
    pub fn is_good(&self, id: &NodeId, addr: SocketAddr) -> bool {
        match addr {
            SocketAddr::V4(_) => self
                .table_v4
                .find(id, addr)
                .is_some_and(|c| c.failures == 0),
            SocketAddr::V6(_) => self
                .table_v6
                .find(id, addr)
                .is_some_and(|c| c.failures == 0),
        }
    }

    /// Our address in one family, as far as it is known (BEP 42).
    #[must_use]
    pub fn external_ip(&self, v6: bool) -> Option<core::net::IpAddr> {
        self.families[usize::from(v6)].votes.current()
    }

    /// Whether a lookup of our own id found somebody.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrapped
    }

    /// Appends ids and nodes of both families, bencoded, for `Input::Load`.
    pub fn save(&self, out: &mut Vec<u8>) {
        let pack = |v6: bool| {
            let mut nodes = Vec::new();
            for (id, addr) in self.contacts(v6) {
                nodes.extend_from_slice(&id.0);
                nodes.extend_from_slice(compact::encode(addr).as_bytes());
            }
            nodes
        };
        out.push(b'd');
        krpc::put(out, b"id", &self.families[0].id.0);
        krpc::put(out, b"id6", &self.families[1].id.0);
        krpc::put(out, b"nodes", &pack(false));
        krpc::put(out, b"nodes6", &pack(true));
        out.push(b'e');
    }

    fn handle_socket_up(&mut self, socket: SocketId, local: SocketAddr) {
        let v6 = local.is_ipv6();
        let family = &mut self.families[usize::from(v6)];
        family.socket = Some(socket);
        if !security::is_local(local.ip()) && !local.ip().is_unspecified() {
            family.votes.assume(local.ip());
            self.follow_address(v6);
        }
        let jitter = self
            .choice
            .below(self.config.dht.refresh_interval.as_micros() as u64);
        let refresh = self.now + Duration::from_micros(jitter);
        self.arm(
            if v6 {
                Single::RefreshV6
            } else {
                Single::RefreshV4
            },
            refresh,
        );
        if !self.routers.is_empty() || !self.waiting.is_empty() {
            self.arm(Single::Bootstrap, self.now);
            self.arm(Single::Ping, self.now);
        }
    }

    fn handle_socket_down(&mut self, socket: SocketId, cx: &mut Context<'_>) {
        for at in 0..2 {
            if self.families[at].socket == Some(socket) {
                self.families[at].socket = None;
                let v6 = at == 1;
                let lost = |pending: &Pending| pending.to.is_ipv6() == v6;
                self.pings -= self
                    .pending
                    .values()
                    .filter(|p| lost(p) && p.is_ping())
                    .count();
                for pending in self.pending.values().filter(|p| lost(p)) {
                    if let Purpose::Ping(id) = pending.purpose {
                        let summary = self.ping_summary(pending.sent, 0);
                        cx.events.push(Event::Done(id, summary));
                    }
                }
                self.pending.retain(|_, pending| !lost(pending));
                self.end_legs(v6, cx);
            }
        }
    }

    fn handle_datagram(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) {
        // Scope and flow are no part of an endpoint's name, and cannot be sent in compact form.
        let from = SocketAddr::new(from.ip(), from.port());
        let long = payload.len() > usize::from(self.config.dht.max_datagram);
        if long || compact::is_undialable(from) {
            return;
        }
        let message = Message::decode(payload).ok();
        if let Some(message) = &message
            && !matches!(message.kind, Kind::Query(_))
            && let Some((transaction, pending)) = self.asked(from, message.transaction)
        {
            self.handle_answer(transaction, pending, message, cx);
            return;
        }
        // Whatever we did not ask for counts, malformed or not.
        let exempt = security::is_exempt(from.ip(), self.config.lab);
        if !exempt && !self.addresses.admit(from.ip(), self.now) {
            return;
        }
        if let Some(message) = message
            && let Kind::Query(method) = message.kind
        {
            self.handle_query(socket, from, payload.len(), method, &message, cx);
        }
    }

    fn asked(&self, from: SocketAddr, transaction: &[u8]) -> Option<(u32, Pending)> {
        let transaction = u32::from_be_bytes(transaction.try_into().ok()?);
        let pending = self.pending.get(&transaction)?;
        (pending.to == from).then_some((transaction, *pending))
    }

    fn handle_send_failed(&mut self, to: SocketAddr, cx: &mut Context<'_>) {
        let to = SocketAddr::new(to.ip(), to.port());
        let lost = self.pending.iter().find(|(_, pending)| pending.to == to);
        if let Some((transaction, _)) = lost {
            self.fail(*transaction, cx);
        }
    }

    fn handle_load(&mut self, data: &[u8], cx: &mut Context<'_>) {
        let Ok(saved) = Saved::decode(data) else {
            cx.events.push(Event::BadState("not a saved routing table"));
            return;
        };
        for (v6, id) in [(false, saved.id), (true, saved.id6)] {
            let external = self.families[usize::from(v6)].votes.current();
            if let Some(id) = id.filter(|id| external.is_none_or(|ip| security::is_valid(ip, id))) {
                self.set_id(v6, id);
            }
        }
        for (id, addr) in saved.nodes.iter().chain(saved.nodes6.iter()) {
            self.wait_for(addr, Some(id));
        }
        self.bootstrap_pause = BOOTSTRAP_PAUSE.0;
        self.arm(Single::Bootstrap, self.now);
    }

    fn handle_timers(&mut self, cx: &mut Context<'_>) {
        for _ in 0..TIMERS_PER_INPUT {
            let Some((at, timer)) = self.deadlines.expire(self.now) else {
                return;
            };
            match timer {
                Timer::Short(transaction) => self.on_short(transaction, cx),
                Timer::Late(transaction) => self.on_late(transaction, cx),
                Timer::Hard(transaction) => self.fail(transaction, cx),
                Timer::Single(single) => {
                    if self.armed[single as usize] == Some(at) {
                        self.armed[single as usize] = None;
                        self.on_single(single, cx);
                    }
                }
            }
        }
    }

    fn on_single(&mut self, single: Single, cx: &mut Context<'_>) {
        match single {
            Single::RefreshV4 => self.refresh(false, cx),
            Single::RefreshV6 => self.refresh(true, cx),
            Single::Ping => self.ping_waiting(cx),
            Single::Budget => self.advance_all(cx),
            Single::Start => self.start_waiting(cx),
            Single::Sweep => {
                let now = self.seconds();
                for family in &mut self.families {
                    family.store.sweep(now);
                }
                self.watch_store();
            }
            Single::Bootstrap => self.bootstrap(cx),
        }
    }

    /// Seconds since the node was made, from 1.
    pub(super) fn seconds(&self) -> u32 {
        let seconds = self.now.saturating_since(self.start).as_secs() + 1;
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Sets a timer, unless it is set for an earlier moment.
    pub(super) fn arm(&mut self, single: Single, at: Instant) {
        let armed = &mut self.armed[single as usize];
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.deadlines.arm(at, Timer::Single(single));
        }
    }

    pub(super) fn watch_store(&mut self) {
        if self.families.iter().any(|family| !family.store.is_empty()) {
            self.arm(Single::Sweep, self.now + SWEEP_INTERVAL);
        }
    }

    /// Asks somebody.
    pub(super) fn query(
        &mut self,
        to: SocketAddr,
        expected: Option<NodeId>,
        query: Query<'_>,
        purpose: Purpose,
        cx: &mut Context<'_>,
    ) -> Result<(), Unsent> {
        let family = &self.families[usize::from(to.is_ipv6())];
        let Some(socket) = family.socket else {
            return Err(Unsent::NoSocket);
        };
        if let Err(opens) = self.endpoints.admit(to, self.now) {
            self.arm(Single::Budget, opens);
            return Err(Unsent::Budget);
        }
        let [v4, v6] = [0, 1].map(|at| self.families[at].socket.is_some());
        let asker = Asker {
            id: family.id,
            read_only: self.config.dht.read_only,
            want: Want { v4, v6 },
        };
        let mut transaction = u32::from_be_bytes(self.secrets.bytes());
        while self.pending.contains_key(&transaction) {
            transaction = transaction.wrapping_add(1);
        }
        let write = |buf: &mut Vec<u8>| {
            krpc::write_query(buf, &transaction.to_be_bytes(), asker, query);
        };
        cx.out.transmit(socket, to, write, Bytes::new());
        let pending = Pending {
            to,
            expected,
            sent: self.now,
            purpose,
        };
        if matches!(purpose, Purpose::Search(_) | Purpose::Store(_)) {
            self.deadlines
                .arm(self.now + self.short_timeout(), Timer::Short(transaction));
        }
        self.deadlines.arm(
            self.now + self.config.dht.query_timeout,
            Timer::Hard(transaction),
        );
        self.pending.insert(transaction, pending);
        Ok(())
    }

    /// When another slot is opened: as long as answers take lately, within bounds.
    fn short_timeout(&self) -> Duration {
        let limit = self.config.dht.short_timeout;
        let usual = self.rtt.map_or(limit, |(mean, deviation)| {
            Duration::from_micros(mean.saturating_add(deviation.saturating_mul(4)))
        });
        usual.max(SHORT_FLOOR).min(limit)
    }

    /// After a quarter of the hard timeout the end of a lookup is not put off any more.
    pub(super) fn arm_late(&mut self, transaction: u32, sent: Instant) {
        let at = sent + self.config.dht.query_timeout / 4;
        self.deadlines
            .arm(at.max(self.now + SHORT_FLOOR), Timer::Late(transaction));
    }

    pub(super) fn measure(&mut self, rtt: Duration) {
        let sample = rtt.as_micros() as u64;
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(sample);
                ((mean * 7 + sample) / 8, (deviation * 3 + off) / 4)
            }
        });
    }

    /// Files a node that answered.
    pub(super) fn heard(&mut self, id: NodeId, addr: SocketAddr, rtt: Duration) {
        if self.routers.contains(&addr) {
            return;
        }
        let now = self.seconds();
        let heard = match addr {
            SocketAddr::V4(_) => self.table_v4.heard(id, addr, rtt, now),
            SocketAddr::V6(_) => self.table_v6.heard(id, addr, rtt, now),
        };
        if let Heard::Changed(old) = heard {
            self.recheck(&old, addr);
        }
    }

    /// A node is not who it was: asks those of its bucket whether they still are.
    pub(super) fn recheck(&mut self, id: &NodeId, addr: SocketAddr) {
        let mut again = [None; 8];
        let places = again.iter_mut();
        match addr {
            SocketAddr::V4(_) => {
                let near = self.table_v4.neighbours(id).map(|c| (c.id, c.addr()));
                places
                    .zip(near)
                    .for_each(|(place, node)| *place = Some(node));
            }
            SocketAddr::V6(_) => {
                let near = self.table_v6.neighbours(id).map(|c| (c.id, c.addr()));
                places
                    .zip(near)
                    .for_each(|(place, node)| *place = Some(node));
            }
        }
        for (id, addr) in again.into_iter().flatten() {
            self.wait_for(addr, Some(id));
        }
    }

    /// Puts a node on the list of those to be pinged.
    pub(super) fn wait_for(&mut self, addr: SocketAddr, id: Option<NodeId>) {
        let addr = SocketAddr::new(addr.ip(), addr.port());
        let full = self.waiting.len() >= usize::from(self.config.dht.max_waiting_nodes);
        if full || compact::is_undialable(addr) {
            return;
        }
        self.waiting.push_back((addr, id));
        self.arm(Single::Ping, self.now);
    }

    fn ping_waiting(&mut self, cx: &mut Context<'_>) {
        let Some((addr, id)) = self.waiting.pop_front() else {
            return;
        };
        match self.query(addr, id, Query::Ping, Purpose::Check, cx) {
            Err(Unsent::Budget) => self.waiting.push_front((addr, id)),
            // Without a socket of its family it waits for one, behind the others.
            Err(Unsent::NoSocket) => self.waiting.push_back((addr, id)),
            Ok(()) => {}
        }
        if self.waiting.iter().any(|(addr, _)| self.has_socket(*addr)) {
            let every = self.config.dht.ping_interval;
            let jitter = self.choice.below(every.as_micros() as u64 / 2);
            self.arm(
                Single::Ping,
                self.now + every + Duration::from_micros(jitter),
            );
        }
    }

    fn has_socket(&self, addr: SocketAddr) -> bool {
        self.families[usize::from(addr.is_ipv6())].socket.is_some()
    }

    /// One query to the contact that was left alone longest. Where its bucket has room the query
    /// asks for nodes of that bucket: the same cost as a ping, and it brings some.
    fn refresh(&mut self, v6: bool, cx: &mut Context<'_>) {
        if self.families[usize::from(v6)].socket.is_none() {
            return;
        }
        let now = self.seconds();
        let next = if v6 {
            self.table_v6.next_refresh(now)
        } else {
            self.table_v4.next_refresh(now)
        };
        if let Some((id, addr, room)) = next {
            let query = match room {
                Some(depth) => Query::GetPeers(self.random_in_bucket(v6, depth)),
                None => Query::Ping,
            };
            let _ = self.query(addr, Some(id), query, Purpose::Check, cx);
        } else if !self.bootstrapping {
            let again = self.now + self.bootstrap_pause;
            if self.can_bootstrap() && self.armed[Single::Bootstrap as usize].is_none() {
                self.arm(Single::Bootstrap, again);
            }
        }
        let every = self.config.dht.refresh_interval.as_micros() as u64;
        let pause = every - every / 8 + self.choice.below(every / 4);
        let single = if v6 {
            Single::RefreshV6
        } else {
            Single::RefreshV4
        };
        self.arm(single, self.now + Duration::from_micros(pause));
        self.tell_status(false, cx);
    }

    /// A random id that shares `depth` bits with ours and, if it can, no more.
    fn random_in_bucket(&mut self, v6: bool, depth: usize) -> Id20 {
        let own = self.families[usize::from(v6)].id;
        let mut id = [0; 20];
        for chunk in id.chunks_mut(8) {
            let bytes = self.choice.next_u64().to_be_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        for at in 0..=depth.min(159) {
            let (byte, mask) = (at / 8, 0x80 >> (at % 8));
            let bit = if at == depth {
                !own.0[byte]
            } else {
                own.0[byte]
            };
            id[byte] = (id[byte] & !mask) | (bit & mask);
        }
        Id20(id)
    }

    fn can_bootstrap(&self) -> bool {
        let known = !self.table_v4.is_empty() || !self.table_v6.is_empty();
        known || !self.routers.is_empty() || !self.waiting.is_empty()
    }

    /// A bootstrap is over.
    pub(super) fn on_bootstrap_done(&mut self, replies: u16, cx: &mut Context<'_>) {
        self.bootstrapping = false;
        self.bootstrapped |= replies > 0;
        let small = self.table_v4.len() + self.table_v6.len() < SMALL_TABLE;
        if small && self.can_bootstrap() {
            // Others may be joining at this moment; soon there is more to be found.
            self.arm(Single::Bootstrap, self.now + self.bootstrap_pause);
            self.bootstrap_pause = (self.bootstrap_pause * 2).min(BOOTSTRAP_PAUSE.1);
        }
        self.tell_status(true, cx);
    }

    fn tell_status(&mut self, always: bool, cx: &mut Context<'_>) {
        let status = (self.good_nodes(false), self.good_nodes(true));
        let moved = |new: u32, old: u32| new.abs_diff(old) * 4 > old;
        let notable = moved(status.0, self.last_status.0) || moved(status.1, self.last_status.1);
        if always || notable {
            self.last_status = status;
            cx.events.push(Event::Status {
                nodes_v4: status.0,
                nodes_v6: status.1,
                bootstrapped: self.bootstrapped,
            });
        }
    }

    /// Counts a vote on our address.
    pub(super) fn on_vote(&mut self, voter: SocketAddr, claim: SocketAddr) {
        let v6 = voter.is_ipv6();
        if self.families[usize::from(v6)]
            .votes
            .vote(voter.ip(), claim.ip())
            .is_some()
        {
            self.follow_address(v6);
        }
    }

    /// Takes an id that fits our address, if the present one does not.
    fn follow_address(&mut self, v6: bool) {
        let family = &self.families[usize::from(v6)];
        if let Some(ip) = family.votes.current()
            && !security::is_valid(ip, &family.id)
        {
            let id = security::node_id(ip, self.secrets.bytes());
            self.set_id(v6, id);
            // Others know us by the old id, and the table is deep around the old place.
            self.arm(Single::Bootstrap, self.now + Duration::from_secs(1));
        }
    }

    fn set_id(&mut self, v6: bool, id: NodeId) {
        let family = &mut self.families[usize::from(v6)];
        if family.id != id {
            family.id = id;
            family.store.set_own(id);
            if v6 {
                self.table_v6.set_own(id);
            } else {
                self.table_v4.set_own(id);
            }
        }
    }
}

impl Pending {
    pub(super) fn is_ping(&self) -> bool {
        matches!(self.purpose, Purpose::Ping(_))
    }
}
