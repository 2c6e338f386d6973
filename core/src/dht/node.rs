//! The DHT node: routes inputs, keeps time, and sends.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;

use super::asked::{Asked, Pending, Purpose};
use super::changed::Changed;
use super::checks::Checks;
use super::external::Votes;
use super::items::Items;
use super::krpc::{self, Asker, Kind, Message, Query, Want};
use super::lookup::Search;
use super::rate::{AddressBudget, Bucket, Endpoints};
use super::samples::Samples;
use super::store::Store;
use super::table::Table;
use super::token::Tokens;
use super::upkeep::Bootstrap;
use super::waiting::Waiting;
use super::{CheckId, Event, Input, Lookup, LookupId, security};
use crate::compact;
use crate::config::Config;
use crate::deadline::Deadlines;
use crate::id::{Id20, NodeId};
use crate::io::{Outbox, SocketId};
use crate::rng::{Choice, Label, Secrets};
use crate::time::{Duration, Instant};

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
    /// Bytes to those who did not show yet that they receive.
    pub(super) unproven: Bucket,
    endpoints: Endpoints,
    /// Queries of ours.
    queries: Bucket,
    pub(super) families: [Family; 2],
    pub(super) table_v4: Table<4>,
    pub(super) table_v6: Table<16>,
    pub(super) asked: Asked,
    pub(super) changed: Changed,
    pub(super) checks: Checks,
    pub(super) searches: BTreeMap<u32, Search>,
    pub(super) next_search: u32,
    pub(super) queue: VecDeque<(LookupId, Lookup)>,
    /// Nodes heard of, to be pinged one by one.
    pub(super) waiting: Waiting,
    pub(super) routers: Vec<SocketAddr>,
    pub(super) bootstrapped: bool,
    pub(super) bootstrap: Bootstrap,
    deadlines: Deadlines<Timer>,
    pub(super) armed: [Option<Instant>; SINGLE],
    /// Smoothed round trip and its deviation, microseconds.
    rtt: Option<(u64, u64)>,
    pub(super) last_status: (u32, u32),
}

/// What the node knows of itself in one family.
pub(super) struct Family {
    /// With their ports. What we ask leaves from the first; the others answer what they are asked.
    pub(super) sockets: Vec<(SocketId, u16)>,
    pub(super) id: NodeId,
    pub(super) votes: Votes,
    pub(super) store: Store,
    pub(super) samples: Samples,
    pub(super) items: Items,
}

impl Family {
    pub(super) fn is_up(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// The port of the socket that lookups and announces leave from.
    pub(super) fn port(&self) -> Option<u16> {
        self.sockets.first().map(|(_, port)| *port)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Short(u32),
    Late(u32),
    Hard(u32),
    Check(CheckId),
    Single(Single),
}

/// Timers of which there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Single {
    RefreshV4,
    RefreshV6,
    /// The next waiting node may be pinged.
    Ping,
    /// The budget of queries or of new endpoints opens.
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
    /// The budget of queries or of new endpoints is used up; a timer is set.
    Budget,
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht")
            .field("ids", &[self.families[0].id, self.families[1].id])
            .field("nodes", &[self.table_v4.len(), self.table_v6.len()])
            .field("asked", &self.asked.len())
            .field("waiting", &self.waiting.len())
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
            let items = Items::new(id, dht, config.lab);
            Family {
                sockets: Vec::new(),
                id,
                votes: Votes::new(dht.max_voters, dht.vote_quorum),
                store,
                samples: Samples::default(),
                items,
            }
        };
        let families = [family(14), family(16)];
        let table_v4 = Table::new(families[0].id, dht, config.lab);
        let table_v6 = Table::new(families[1].id, dht, config.lab);
        let tokens = Tokens::new(&mut secrets, dht.token_rotation, now);
        let addresses = AddressBudget::new(dht, secrets.next_u64());
        let endpoints = Endpoints::new(dht, secrets.next_u64(), now);
        Self {
            now,
            start: now,
            choice: Choice::new(seed, Label::Dht(4)),
            tokens,
            addresses,
            replies: Bucket::new(dht.reply_bytes_per_second, now),
            unproven: Bucket::new(dht.unproven_bytes_per_second, now),
            endpoints,
            queries: Bucket::with_burst(
                dht.queries_per_second.into(),
                dht.queries_burst.into(),
                now,
            ),
            families,
            table_v4,
            table_v6,
            asked: Asked::default(),
            changed: Changed::new(dht, config.lab),
            checks: Checks::default(),
            searches: BTreeMap::new(),
            next_search: 0,
            queue: VecDeque::new(),
            waiting: Waiting::new(dht, config.lab),
            routers: Vec::new(),
            bootstrapped: false,
            bootstrap: Bootstrap::default(),
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
            Input::ExternalIp { voter, claim } => {
                self.on_vote(SocketAddr::new(voter, 0), SocketAddr::new(claim, 0));
            }
            Input::Trusted(nodes) => self.handle_trusted(nodes, cx),
            Input::Bootstrap(contacts) => self.handle_bootstrap(contacts),
            Input::Load(data) => self.handle_load(data, cx),
            Input::Start(id, lookup) => {
                let full = self.queue.len() >= usize::from(self.config.dht.max_queued_lookups);
                if full || self.families.iter().all(|family| !family.is_up()) {
                    cx.events.push(Event::Refused(id));
                } else {
                    self.queue.push_back((id, lookup));
                    self.start_waiting(cx);
                }
            }
            Input::Stop(id) => self.stop(id, cx),
            Input::Checked(id, good) => self.on_check_done(id, good, cx),
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

    fn handle_socket_up(&mut self, socket: SocketId, local: SocketAddr) {
        let v6 = local.is_ipv6();
        let family = &mut self.families[usize::from(v6)];
        let known = family.sockets.iter_mut().find(|(id, _)| *id == socket);
        match known {
            Some((_, port)) => *port = local.port(),
            None => family.sockets.push((socket, local.port())),
        }
        if !security::is_local(local.ip()) && !local.ip().is_unspecified() {
            family.votes.assume(local.ip());
            self.follow_address(v6);
        }
        let every = self.config.dht.refresh_interval.as_micros() as u64;
        let refresh = self.now + Duration::from_micros(self.choice.below(every));
        let single = if v6 {
            Single::RefreshV6
        } else {
            Single::RefreshV4
        };
        self.arm(single, refresh);
        if self.can_bootstrap() {
            self.bootstrap_soon(Duration::ZERO);
            self.arm(Single::Ping, self.now);
        }
    }

    fn handle_socket_down(&mut self, socket: SocketId, cx: &mut Context<'_>) {
        for at in 0..2 {
            let sockets = &mut self.families[at].sockets;
            let place = sockets.iter().position(|(id, _)| *id == socket);
            place.map(|place| sockets.remove(place));
            // Answers to what it asked reach nobody any more.
            if place == Some(0) {
                let v6 = at == 1;
                for pending in self.asked.remove_family(v6) {
                    if let Some(id) = pending.purpose.lookup() {
                        let summary = self.ping_summary(pending.sent, 0);
                        cx.events.push(Event::Done(id, summary));
                    }
                }
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
        let pending = self.asked.get(transaction)?;
        (pending.to == from).then_some((transaction, *pending))
    }

    fn handle_send_failed(&mut self, to: SocketAddr, cx: &mut Context<'_>) {
        let to = SocketAddr::new(to.ip(), to.port());
        if let Some(transaction) = self.asked.first_to(to) {
            self.fail(transaction, cx);
        }
    }

    fn handle_timers(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.config.dht.timers_per_input {
            let Some((at, timer)) = self.deadlines.expire(self.now) else {
                return;
            };
            match timer {
                Timer::Short(transaction) => self.on_short(transaction, cx),
                Timer::Late(transaction) => self.on_late(transaction, cx),
                Timer::Hard(transaction) => self.fail(transaction, cx),
                Timer::Check(id) => self.on_check_done(id, false, cx),
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
                let slice = usize::from(self.config.dht.sweep_slice);
                for family in &mut self.families {
                    family.store.sweep(now, slice);
                    family.items.sweep(now);
                }
                self.watch_store();
            }
            Single::Bootstrap => self.on_bootstrap(cx),
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
        let keeps = |family: &Family| !family.store.is_empty() || !family.items.is_empty();
        if self.families.iter().any(keeps) {
            self.arm(Single::Sweep, self.now + self.config.dht.sweep_interval);
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
        let Some((socket, _)) = family.sockets.first().copied() else {
            return Err(Unsent::NoSocket);
        };
        // A store goes to whoever answered a moment ago and waits for nothing: its token ages.
        let waits = !purpose.stores();
        if waits && !self.queries.is_open(self.now) {
            self.arm(Single::Budget, self.queries.opens_at(self.now));
            return Err(Unsent::Budget);
        }
        if let Err(opens) = self.endpoints.admit(to, self.now)
            && waits
        {
            self.arm(Single::Budget, opens);
            return Err(Unsent::Budget);
        }
        self.queries.take(1);
        let [v4, v6] = [0, 1].map(|at| self.families[at].is_up());
        let asker = Asker {
            id: family.id,
            read_only: self.config.dht.read_only,
            want: Want { v4, v6 },
        };
        let mut transaction = u32::from_be_bytes(self.secrets.bytes());
        while self.asked.get(transaction).is_some() {
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
            lost: false,
        };
        if purpose != Purpose::Check && purpose.lookup().is_none() {
            self.deadlines
                .arm(self.now + self.short_timeout(), Timer::Short(transaction));
        }
        self.deadlines.arm(
            self.now + self.config.dht.query_timeout,
            Timer::Hard(transaction),
        );
        self.asked.insert(transaction, pending);
        Ok(())
    }

    /// Waits so long for a signature to be checked.
    pub(super) fn arm_check(&mut self, id: CheckId) {
        let at = self.now + self.config.dht.signature_patience;
        self.deadlines.arm(at, Timer::Check(id));
    }

    /// When another slot is opened: as long as answers take lately, within bounds.
    fn short_timeout(&self) -> Duration {
        let limit = self.config.dht.short_timeout;
        let usual = self.rtt.map_or(limit, |(mean, deviation)| {
            Duration::from_micros(mean.saturating_add(deviation.saturating_mul(4)))
        });
        usual.max(self.config.dht.short_timeout_floor).min(limit)
    }

    /// After a quarter of the hard timeout the end of a lookup is not put off any more.
    pub(super) fn arm_late(&mut self, transaction: u32, sent: Instant) {
        let at = sent + self.config.dht.query_timeout / 4;
        let at = at.max(self.now + self.config.dht.short_timeout_floor);
        self.deadlines.arm(at, Timer::Late(transaction));
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
}
