//! Our own questions: lookups, pings, announces, and what comes back.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::asked::{Pending, Purpose};
use super::item_client::wanted_item;
use super::krpc::{Kind, Message, Query};
use super::lookup::{Candidate, Goal, Leg, Phase, Search, State, Step, Wanted};
use super::node::{Context, Dht, Single, Unsent};
use super::table::{CLOSEST, Contact};
use super::{Event, Lookup, LookupId, security};
use crate::compact;
use crate::event::{Found, LookupSummary};
use crate::id::{Id20, NodeId};
use crate::time::Instant;

impl Dht {
    /// Takes an answer, already known to come from where the question went.
    pub(super) fn handle_answer(
        &mut self,
        transaction: u32,
        pending: Pending,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) {
        let response = matches!(message.kind, Kind::Response);
        let id = message.body.id;
        if response && id.is_none() {
            return;
        }
        self.asked.remove(transaction);
        self.asked.forgive(&pending);
        let from = pending.to;
        let impostor = pending
            .expected
            .zip(id)
            .filter(|(expected, id)| expected != id);
        if let Some((expected, _)) = impostor {
            let known = match from {
                SocketAddr::V4(_) => self.table_v4.remove(&expected, from),
                SocketAddr::V6(_) => self.table_v6.remove(&expected, from),
            };
            if known {
                self.on_changed(&expected, from);
            } else {
                self.wait_for(from, None);
            }
            // In a network that has just found its addresses many have a new id (BEP 42): a
            // lookup asks a few of them once more, as whoever they are now.
            if let Purpose::Search(serial) | Purpose::SearchAgain(serial) = pending.purpose
                && let Some(search) = self.searches.get_mut(&serial)
            {
                let leg = &mut search.legs[usize::from(from.is_ipv6())];
                if leg.contacts.len() < CLOSEST {
                    leg.add_contact(from);
                }
            }
            self.on_unanswered(&pending, State::Failed, cx);
            return;
        }
        let Some(id) = id else {
            if let Kind::Error(code, _) = message.kind {
                self.on_refused(&pending, code, cx);
            }
            // An error: it lives, but it is of no use to what we wanted.
            self.on_unanswered(&pending, State::Failed, cx);
            return;
        };
        let rtt = self.now.saturating_since(pending.sent);
        self.measure(rtt);
        self.addresses.set_receives(from.ip(), self.now);
        self.heard(id, from, rtt, cx);
        if let Some(claim) = message.ip {
            self.on_vote(from, claim);
        }
        match pending.purpose {
            Purpose::Check => self.on_checked(from, message),
            Purpose::Ping(lookup) => {
                cx.events.push(Event::Found(lookup, Found::Node(id, from)));
                let summary = self.ping_summary(pending.sent, 1);
                cx.events.push(Event::Done(lookup, summary));
                self.start_waiting(cx);
            }
            Purpose::Sample(lookup) => {
                self.on_checked(from, message);
                let results = self.on_samples(lookup, &message.body, cx);
                let summary = LookupSummary {
                    results,
                    ..self.ping_summary(pending.sent, 1)
                };
                cx.events.push(Event::Done(lookup, summary));
                self.start_waiting(cx);
            }
            Purpose::Search(serial) | Purpose::SearchAgain(serial) => {
                self.on_searched(serial, id, &pending, message, cx);
            }
            Purpose::Store(serial) | Purpose::StoreAgain(serial) => {
                if let Some(search) = self.searches.get_mut(&serial) {
                    let leg = &mut search.legs[usize::from(from.is_ipv6())];
                    let mut stores = leg.stores.iter_mut();
                    // Sent twice, it may be answered twice.
                    if let Some((_, state)) = stores.find(|(known, _)| *known == id)
                        && !matches!(state, State::Answered | State::Failed)
                    {
                        *state = State::Answered;
                        search.stored += 1;
                        search.replies = search.replies.saturating_add(1);
                    }
                    self.on_wanted(serial, &message.body, cx);
                    self.advance(serial, cx);
                }
            }
        }
    }

    fn on_checked(&mut self, from: SocketAddr, message: &Message<'_>) {
        let nodes = message.body.nodes.iter().chain(message.body.nodes6.iter());
        for (id, addr) in nodes.take(2 * CLOSEST) {
            if security::can_refer(from.ip(), addr.ip()) {
                self.consider(id, addr);
            }
        }
    }

    fn on_searched(
        &mut self,
        serial: u32,
        id: NodeId,
        pending: &Pending,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) {
        let from = pending.to;
        let v6 = usize::from(from.is_ipv6());
        let (max, lab) = (usize::from(self.config.dht.max_candidates), self.config.lab);
        let own = [self.families[0].id, self.families[1].id];
        let up = [0, 1].map(|at| self.families[at].is_up());
        let Some(search) = self.searches.get_mut(&serial) else {
            return;
        };
        let leg = &mut search.legs[v6];
        let known = leg.candidate(&id, from).map(|candidate| candidate.state);
        // Asked twice, it may answer twice.
        let first = known != Some(State::Answered);
        search.replies = search.replies.saturating_add(first.into());
        if pending.expected.is_none() {
            // A contact tells its id only now; it is a candidate like any other from here on.
            leg.set_state(None, from, State::Answered, false);
            leg.add(Candidate::new(id, from, 1), max, lab);
        }
        // Closer ones may have pushed it off the list meanwhile.
        let mut hops = 1;
        if let Some(candidate) = leg.candidate(&id, from) {
            candidate.state = State::Answered;
            candidate.token = message.body.token.map(Box::from);
            hops = candidate.hops;
        }
        let nodes = message.body.nodes.iter().take(2 * CLOSEST);
        for (id, addr) in nodes.chain(message.body.nodes6.iter().take(2 * CLOSEST)) {
            let at = usize::from(addr.is_ipv6());
            let leg = &mut search.legs[at];
            let usable = up[at]
                && leg.phase == Phase::Search
                && !own.contains(&id)
                && !compact::is_undialable(addr)
                && security::can_refer(from.ip(), addr.ip());
            if usable {
                leg.add(Candidate::new(id, addr, hops.saturating_add(1)), max, lab);
            }
        }
        if let (Goal::Peers | Goal::Announce(_), Some(lookup)) = (search.goal, search.id) {
            let limit = self.config.dht.max_lookup_peers as usize;
            for addr in message.body.values.iter() {
                let usable = addr.is_ipv6() == from.is_ipv6()
                    && !compact::is_undialable(addr)
                    && security::can_refer(from.ip(), addr.ip());
                if usable && search.peers.len() < limit && search.peers.insert(addr) {
                    cx.events.push(Event::Found(lookup, Found::Peer(addr)));
                }
            }
        }
        self.on_wanted(serial, &message.body, cx);
        self.advance(serial, cx);
    }

    /// A query is past the short timeout.
    pub(super) fn on_short(&mut self, transaction: u32, cx: &mut Context<'_>) {
        if let Some(pending) = self.asked.get(transaction).copied() {
            self.arm_late(transaction, pending.sent);
            self.on_unanswered(&pending, State::Stalled, cx);
        }
    }

    /// A query is so late that nobody waits for it any more.
    pub(super) fn on_late(&mut self, transaction: u32, cx: &mut Context<'_>) {
        if let Some(pending) = self.asked.get(transaction).copied() {
            self.on_unanswered(&pending, State::Late, cx);
        }
    }

    /// A query has failed.
    pub(super) fn fail(&mut self, transaction: u32, cx: &mut Context<'_>) {
        let Some(pending) = self.asked.remove(transaction) else {
            return;
        };
        if let Some(id) = pending.expected.as_ref().filter(|_| !pending.lost) {
            match pending.to {
                SocketAddr::V4(_) => self.table_v4.failed(id, pending.to),
                SocketAddr::V6(_) => self.table_v6.failed(id, pending.to),
            };
        }
        self.on_unanswered(&pending, State::Failed, cx);
    }

    fn on_unanswered(&mut self, pending: &Pending, state: State, cx: &mut Context<'_>) {
        let at = usize::from(pending.to.is_ipv6());
        match pending.purpose {
            Purpose::Check => {}
            Purpose::Ping(lookup) | Purpose::Sample(lookup) => {
                if state == State::Failed {
                    let summary = self.ping_summary(pending.sent, 0);
                    cx.events.push(Event::Done(lookup, summary));
                    self.start_waiting(cx);
                }
            }
            Purpose::Search(serial) | Purpose::SearchAgain(serial) => {
                let again = matches!(pending.purpose, Purpose::SearchAgain(_));
                if let Some(search) = self.searches.get_mut(&serial) {
                    search.legs[at].set_state(pending.expected.as_ref(), pending.to, state, again);
                    self.advance(serial, cx);
                }
            }
            Purpose::Store(serial) | Purpose::StoreAgain(serial) => {
                self.on_unstored(serial, pending, state, cx);
            }
        }
    }

    pub(super) fn ping_summary(&self, sent: Instant, results: u32) -> LookupSummary {
        LookupSummary {
            target: self.families[0].id,
            elapsed: self.now.saturating_since(sent),
            hops: results as u16,
            queries: 1,
            replies: results as u16,
            results,
        }
    }

    /// Begins lookups that wait, as many as may run.
    pub(super) fn start_waiting(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.config.dht.starts_per_input {
            if self.searches.len() + self.asked.pings() >= usize::from(self.config.dht.max_lookups)
            {
                return;
            }
            let Some((id, lookup)) = self.next_waiting() else {
                return;
            };
            let (goal, target, wanted) = match lookup {
                Lookup::Ping(addr) | Lookup::Sample(addr) => {
                    let addr = SocketAddr::new(addr.ip(), addr.port());
                    let (query, purpose) = match lookup {
                        Lookup::Ping(_) => (Query::Ping, Purpose::Ping(id)),
                        _ => (
                            Query::Sample(Id20(self.secrets.bytes())),
                            Purpose::Sample(id),
                        ),
                    };
                    match self.query(addr, None, query, purpose, cx) {
                        Ok(()) => {}
                        Err(Unsent::NoSocket) => cx.events.push(Event::Refused(id)),
                        Err(Unsent::Budget) => {
                            self.queue.push_front((id, lookup));
                            return;
                        }
                    }
                    continue;
                }
                Lookup::FindNode(target) => (Goal::Nodes, target, None),
                Lookup::GetPeers(target) => (Goal::Peers, target, None),
                Lookup::Announce(target, port) => (Goal::Announce(port), target, None),
                Lookup::Scrape(target) => (Goal::Scrape, target, Some(Wanted::default())),
                Lookup::Get(target, salt) => (Goal::Item, target, Some(wanted_item(salt))),
                Lookup::Put(item, cas) => {
                    let target = item.target();
                    let put = Some((item, cas));
                    let wanted = Wanted {
                        put,
                        ..Wanted::default()
                    };
                    (Goal::Put, target, Some(wanted))
                }
            };
            self.begin(Some(id), goal, [target; 2], wanted, cx);
        }
        if self.has_startable() {
            self.arm(Single::Start, self.now);
        }
    }

    /// The first that may begin. While the first lookups of our own id are under way, others wait
    /// for them: they would know nobody but the routers, ask each of them once more, and end where
    /// nobody else ends.
    fn next_waiting(&mut self) -> Option<(LookupId, Lookup)> {
        if !self.is_finding_itself() {
            return self.queue.pop_front();
        }
        let mut queue = self.queue.iter();
        let at = queue.position(|(_, lookup)| is_single(lookup))?;
        self.queue.remove(at)
    }

    fn has_startable(&self) -> bool {
        let single = |(_, lookup): &(LookupId, Lookup)| is_single(lookup);
        !self.queue.is_empty() && (!self.is_finding_itself() || self.queue.iter().any(single))
    }

    /// Looks our own ids up.
    pub(super) fn begin_bootstrap(&mut self, cx: &mut Context<'_>) {
        let targets = [self.families[0].id, self.families[1].id];
        self.begin(None, Goal::Bootstrap, targets, None, cx);
    }

    /// Looks up an id of the farthest part of the network of which too few are known. Whoever is
    /// asked for our own id tells of our neighbours only: two halves of a young network could know
    /// each other through the routers alone, and end every lookup on their own side.
    pub(super) fn begin_far(&mut self, cx: &mut Context<'_>) {
        if self
            .searches
            .values()
            .any(|search| search.goal == Goal::Far)
        {
            return;
        }
        let thin = (0..self.config.dht.wide_buckets.len()).find(|&shared| {
            let thin = [self.table_v4.is_thin(shared), self.table_v6.is_thin(shared)];
            let mut families = self.families.iter().zip(thin);
            families.any(|(family, thin)| family.is_up() && thin)
        });
        if let Some(shared) = thin {
            let targets = [false, true].map(|v6| self.random_sharing(v6, (shared, true)));
            self.begin(None, Goal::Far, targets, None, cx);
        }
    }

    fn begin(
        &mut self,
        id: Option<LookupId>,
        goal: Goal,
        targets: [NodeId; 2],
        wanted: Option<Wanted>,
        cx: &mut Context<'_>,
    ) {
        let legs = [
            self.leg(false, targets[0], goal),
            self.leg(true, targets[1], goal),
        ];
        let mut peers = BTreeSet::new();
        if let (Goal::Peers | Goal::Announce(_), Some(lookup)) = (goal, id) {
            // What others announced to us counts too: in a small network nobody else has it.
            let now = self.seconds();
            for family in &self.families {
                let limit = usize::from(self.config.dht.reply_peers_v4);
                for peer in family
                    .store
                    .sample(&targets[0], limit, now, &mut self.choice)
                {
                    peers.insert(peer);
                    cx.events.push(Event::Found(lookup, Found::Peer(peer)));
                }
            }
        }
        let serial = self.next_search;
        self.next_search = self.next_search.wrapping_add(1);
        let mut search = Search {
            id,
            goal,
            target: targets[0],
            started: self.now,
            legs,
            peers,
            queries: 0,
            replies: 0,
            stored: 0,
            wanted: wanted.map(Box::new),
        };
        self.add_own(&mut search, cx);
        self.searches.insert(serial, search);
        self.advance(serial, cx);
    }

    /// A leg with whom it begins: the closest of the table; with few of those, whoever else was
    /// heard of; routers last.
    fn leg(&self, v6: bool, target: NodeId, goal: Goal) -> Leg {
        if !self.families[usize::from(v6)].is_up() {
            return Leg::new(target, Phase::Done);
        }
        let mut leg = Leg::new(target, Phase::Search);
        let (max, lab) = (usize::from(self.config.dht.max_candidates), self.config.lab);
        let mut add = |id, addr| {
            leg.add(Candidate::new(id, addr, 1), max, lab);
        };
        if v6 {
            let each = |c: &Contact<16>| add(c.id, c.addr());
            self.table_v6.closest(&target, CLOSEST, each);
        } else {
            let each = |c: &Contact<4>| add(c.id, c.addr());
            self.table_v4.closest(&target, CLOSEST, each);
        }
        let few = usize::from(self.config.dht.router_threshold);
        if leg.candidates.len() < few {
            self.add_unsure(&mut leg, v6, target);
        }
        // While we join, those who know most are asked too.
        if leg.candidates.len() < few || (goal.fills() && self.is_joining()) {
            let routers = self.routers.iter().filter(|addr| addr.is_ipv6() == v6);
            routers.for_each(|addr| leg.add_contact(*addr));
        }
        leg
    }

    /// The closest of the table were all gone, unnoticed so far: adds more of them.
    fn widen(&self, leg: &mut Leg, v6: bool) {
        let (max, lab) = (usize::from(self.config.dht.max_candidates), self.config.lab);
        let mut known: Vec<(NodeId, SocketAddr)> = self.contacts(v6).collect();
        known.sort_unstable_by_key(|(id, _)| id.distance(&leg.target));
        for (id, addr) in known.into_iter().take(4 * CLOSEST) {
            leg.add(Candidate::new(id, addr, 1), max, lab);
        }
    }

    /// Adds those who failed last time or were not asked yet: after a pause of the network, or
    /// with a table just loaded, there are no others.
    fn add_unsure(&self, leg: &mut Leg, v6: bool, target: NodeId) {
        let (max, lab) = (usize::from(self.config.dht.max_candidates), self.config.lab);
        let mut add = |id, addr| {
            leg.add(Candidate::new(id, addr, 1), max, lab);
        };
        if v6 {
            let each = |c: &Contact<16>| add(c.id, c.addr());
            self.table_v6.closest_failing(&target, CLOSEST, each);
        } else {
            let each = |c: &Contact<4>| add(c.id, c.addr());
            self.table_v4.closest_failing(&target, CLOSEST, each);
        }
        let waiting = self.waiting.iter().filter(|(addr, _)| addr.is_ipv6() == v6);
        let named = waiting
            .clone()
            .filter_map(|(addr, id)| Some(((*id)?, *addr)));
        let mut named: Vec<(NodeId, SocketAddr)> = named.collect();
        named.sort_unstable_by_key(|(id, _)| id.distance(&target));
        let wanted = 2 * CLOSEST;
        named
            .iter()
            .take(wanted)
            .for_each(|(id, addr)| add(*id, *addr));
        let unnamed = waiting.filter(|(_, id)| id.is_none());
        for (addr, _) in unnamed.take(wanted.saturating_sub(named.len())) {
            leg.add_contact(*addr);
        }
    }

    /// Takes every lookup as far as it goes now.
    pub(super) fn advance_all(&mut self, cx: &mut Context<'_>) {
        // Those begun last go first every other time would be no fairer: each asks for a few
        // endpoints only, and the budget opens again at once.
        let serials: Vec<u32> = self.searches.keys().copied().collect();
        for serial in serials {
            self.advance(serial, cx);
        }
        self.start_waiting(cx);
    }

    /// Takes one lookup as far as it goes now.
    pub(super) fn advance(&mut self, serial: u32, cx: &mut Context<'_>) {
        let Some(mut search) = self.searches.remove(&serial) else {
            return;
        };
        for at in 0..2 {
            self.advance_leg(serial, &mut search, at, cx);
        }
        if search.legs.iter().any(|leg| leg.phase != Phase::Done) || search.is_checking() {
            self.searches.insert(serial, search);
            return;
        }
        self.finish(&search, cx);
    }

    fn advance_leg(&mut self, serial: u32, search: &mut Search, at: usize, cx: &mut Context<'_>) {
        let alpha = usize::from(self.config.dht.alpha);
        while search.legs[at].phase == Phase::Search {
            let leg = &mut search.legs[at];
            let (to, expected, again) = match leg.next(alpha) {
                Step::Candidate(index) => {
                    let candidate = &leg.candidates[index];
                    let again = candidate.state == State::Stalled;
                    (candidate.addr, Some(candidate.id), again)
                }
                Step::Contact(index) => (leg.contacts[index].0, None, false),
                Step::Wait => return,
                Step::Finished if leg.is_in_vain() => {
                    leg.widened = true;
                    self.widen(leg, at == 1);
                    continue;
                }
                // Whether more is to be asked depends on what is being checked.
                Step::Finished if search.is_checking() && !search.has_item() => return,
                Step::Finished => {
                    self.begin_store(serial, search, at, cx);
                    continue;
                }
            };
            let query = match search.goal {
                Goal::Bootstrap | Goal::Far | Goal::Nodes => Query::FindNode(leg.target),
                Goal::Peers | Goal::Announce(_) => Query::GetPeers(leg.target),
                Goal::Scrape => Query::Scrape(leg.target),
                Goal::Item | Goal::Put => Query::Get {
                    target: leg.target,
                    // The values of others are not needed to put one.
                    seq: search
                        .wanted
                        .as_ref()
                        .and_then(|wanted| wanted.put.as_ref()?.0.seq()),
                    token: None,
                },
            };
            let (purpose, state) = if again {
                (Purpose::SearchAgain(serial), State::Again)
            } else {
                (Purpose::Search(serial), State::Asked)
            };
            match self.query(to, expected, query, purpose, cx) {
                Ok(()) => {
                    leg.set_state(expected.as_ref(), to, state, again);
                    search.queries = search.queries.saturating_add(1);
                }
                Err(Unsent::Budget) => return,
                Err(Unsent::NoSocket) => leg.phase = Phase::Done,
            }
        }
        if search.legs[at].phase == Phase::Store && !search.legs[at].is_storing() {
            search.legs[at].phase = Phase::Done;
        }
    }

    fn finish(&mut self, search: &Search, cx: &mut Context<'_>) {
        let best = || search.legs.iter().flat_map(Leg::best);
        let hops = best().map(|candidate| candidate.hops).max().unwrap_or(0);
        let results = match search.goal {
            Goal::Announce(_) | Goal::Put => search.stored,
            Goal::Item | Goal::Scrape => Self::finish_wanted(search, cx),
            Goal::Peers => search.peers.len() as u32,
            Goal::Bootstrap | Goal::Far | Goal::Nodes => best().count() as u32,
        };
        if let Some(id) = search.id {
            if search.goal == Goal::Nodes {
                for candidate in best() {
                    let found = Found::Node(candidate.id, candidate.addr);
                    cx.events.push(Event::Found(id, found));
                }
            }
            cx.events.push(Event::Done(
                id,
                LookupSummary {
                    target: search.target,
                    elapsed: self.now.saturating_since(search.started),
                    hops,
                    queries: search.queries,
                    replies: search.replies,
                    results,
                },
            ));
        } else if search.goal == Goal::Bootstrap {
            self.on_bootstrap_done(search, cx);
        }
        if !self.queue.is_empty() {
            self.arm(Single::Start, self.now);
        }
    }

    /// Stops a lookup; nothing more is told of it.
    pub(super) fn stop(&mut self, id: LookupId, cx: &mut Context<'_>) {
        self.queue.retain(|(waiting, _)| *waiting != id);
        self.searches.retain(|_, search| search.id != Some(id));
        self.asked.forget_ping(id);
        self.start_waiting(cx);
    }

    /// Ends every leg of a family whose socket is gone.
    pub(super) fn end_legs(&mut self, v6: bool, cx: &mut Context<'_>) {
        for search in self.searches.values_mut() {
            search.legs[usize::from(v6)].phase = Phase::Done;
        }
        self.advance_all(cx);
    }
}

/// Whether a lookup is one question to one node.
fn is_single(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Ping(_) | Lookup::Sample(_))
}
