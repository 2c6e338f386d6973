//! What a node does unasked: joins, keeps its table fresh, saves it, follows its address.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::asked::Purpose;
use super::krpc::{self, Query, Saved};
use super::lookup::{Leg, Search};
use super::node::{Context, Dht, Single};
use super::table::{Heard, Room};
use super::{Event, security};
use crate::compact;
use crate::id::{Id20, NodeId};
use crate::time::Duration;

/// Where the looking up of our own ids stands.
///
/// It is repeated until a few rounds in a row bring nothing new. One round is enough in a network
/// that was there before us; where many join in the same instant, the first rounds find only
/// those who were heard of by then.
#[derive(Debug, Default)]
pub(super) struct Bootstrap {
    /// A round is under way.
    running: bool,
    /// Another round was asked for meanwhile.
    again: bool,
    /// Pause before the next round, doubled every time.
    pause: Option<Duration>,
    /// The nodes at which the last round ended.
    closest: Vec<NodeId>,
    /// Nodes in the tables then.
    known: usize,
    /// Rounds since the node was made.
    rounds: u8,
    /// Rounds in a row that brought nothing new.
    quiet: u8,
}

impl Dht {
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

    pub(super) fn handle_load(&mut self, data: &[u8], cx: &mut Context<'_>) {
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
        self.bootstrap_soon(Duration::ZERO);
    }

    pub(super) fn handle_trusted(&mut self, nodes: &[(NodeId, SocketAddr)], cx: &mut Context<'_>) {
        let now = self.seconds();
        for (id, addr) in nodes {
            match addr {
                SocketAddr::V4(_) => self.table_v4.heard(*id, *addr, Duration::ZERO, now),
                SocketAddr::V6(_) => self.table_v6.heard(*id, *addr, Duration::ZERO, now),
            };
        }
        self.bootstrapped = true;
        self.bootstrap.quiet = self.config.dht.quiet_rounds;
        // Not all at the same time.
        let every = self.config.dht.own_lookup_interval.as_micros() as u64;
        let pause = self.choice.below(every);
        self.arm(Single::Bootstrap, self.now + Duration::from_micros(pause));
        self.tell_status(true, cx);
    }

    pub(super) fn handle_bootstrap(&mut self, contacts: &[SocketAddr]) {
        for contact in contacts {
            let contact = SocketAddr::new(contact.ip(), contact.port());
            let known = self.routers.contains(&contact) || compact::is_undialable(contact);
            if !known && self.routers.len() < usize::from(self.config.dht.max_routers) {
                self.routers.push(contact);
                match contact {
                    SocketAddr::V4(_) => self.table_v4.remove_at(contact),
                    SocketAddr::V6(_) => self.table_v6.remove_at(contact),
                };
            }
        }
        self.bootstrap_soon(Duration::ZERO);
    }

    /// Files a node that answered.
    pub(super) fn heard(
        &mut self,
        id: NodeId,
        addr: SocketAddr,
        rtt: Duration,
        cx: &mut Context<'_>,
    ) {
        let now = self.seconds();
        if self.routers.contains(&addr) || self.changed.bars(addr.ip(), now) {
            return;
        }
        let heard = match addr {
            SocketAddr::V4(_) => self.table_v4.heard(id, addr, rtt, now),
            SocketAddr::V6(_) => self.table_v6.heard(id, addr, rtt, now),
        };
        match heard {
            Heard::Changed(old) => self.on_changed(&old, addr),
            Heard::Added => self.tell_status(false, cx),
            Heard::Known | Heard::Spare | Heard::Refused => {}
        }
    }

    /// A node is not who it was, and out of the table: asks those of its bucket whether they
    /// still are, unless that is known well enough. Ids change for good reasons too (a restart,
    /// BEP 42), so it may come in anew, by answering to no expectation; but not again and again.
    pub(super) fn on_changed(&mut self, old: &NodeId, addr: SocketAddr) {
        let now = self.seconds();
        self.changed.note(addr.ip(), now);
        let again = match addr {
            SocketAddr::V4(_) => self.table_v4.recheck(old, now),
            SocketAddr::V6(_) => self.table_v6.recheck(old, now),
        };
        for (id, addr) in again.into_iter().flatten() {
            self.wait_for(addr, Some(id));
        }
        self.wait_for(addr, None);
    }

    /// Puts a node on the list of those to be pinged.
    pub(super) fn wait_for(&mut self, addr: SocketAddr, id: Option<NodeId>) {
        let addr = SocketAddr::new(addr.ip(), addr.port());
        let wanted = !compact::is_undialable(addr) && !self.changed.bars(addr.ip(), self.seconds());
        if wanted && self.waiting.push(addr, id) && self.has_socket(addr) {
            self.arm(Single::Ping, self.now);
        }
    }

    /// Somebody told of a node, or it asked us something: worth a ping if there is room for it,
    /// or if we know another at its endpoint.
    pub(super) fn consider(&mut self, id: NodeId, addr: SocketAddr) {
        let room = match addr {
            SocketAddr::V4(_) => self.table_v4.room(&id, addr),
            SocketAddr::V6(_) => self.table_v6.room(&id, addr),
        };
        let expected = match room {
            Room::Free => id,
            Room::Taken(old) => old,
            Room::None => return,
        };
        let known = self.routers.contains(&addr) || self.asked.first_to(addr).is_some();
        if !known {
            self.wait_for(addr, Some(expected));
        }
    }

    pub(super) fn ping_waiting(&mut self, cx: &mut Context<'_>) {
        let up = [0, 1].map(|at| self.families[at].is_up());
        let usable = |addr: SocketAddr| up[usize::from(addr.is_ipv6())];
        let Some((addr, id)) = self.waiting.pop(usable) else {
            return;
        };
        if self
            .query(addr, id, Query::Ping, Purpose::Check, cx)
            .is_err()
        {
            self.waiting.put_back(addr, id);
        }
        // One more of a family without a socket waits for it and for no timer.
        if !self.waiting.is_empty() {
            let every = self.config.dht.ping_interval;
            let jitter = self.choice.below(every.as_micros() as u64 / 2);
            let next = self.now + every + Duration::from_micros(jitter);
            self.arm(Single::Ping, next);
        }
    }

    fn has_socket(&self, addr: SocketAddr) -> bool {
        self.families[usize::from(addr.is_ipv6())].is_up()
    }

    /// One query to the contact that was left alone longest. Where its bucket has room the query
    /// asks for nodes of that bucket: the same cost as a ping, and it brings some.
    pub(super) fn refresh(&mut self, v6: bool, cx: &mut Context<'_>) {
        if !self.families[usize::from(v6)].is_up() {
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
                Some(shared) => Query::GetPeers(self.random_sharing(v6, shared)),
                None => Query::Ping,
            };
            let _ = self.query(addr, Some(id), query, Purpose::Check, cx);
        } else if self.can_bootstrap() && !self.bootstrap.running {
            let pause = self.bootstrap_pause();
            self.arm(Single::Bootstrap, self.now + pause);
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

    /// A random id of a bucket: it shares that many bits with ours, and the next bit too or not,
    /// or as chance has it.
    pub(super) fn random_sharing(&mut self, v6: bool, (shared, differs): (usize, bool)) -> Id20 {
        let own = self.families[usize::from(v6)].id;
        let mut id = [0; 20];
        for chunk in id.chunks_mut(8) {
            let bytes = self.choice.next_u64().to_be_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        let bits = shared as u32;
        let (fixed, next) = (Id20::prefix_mask(bits), Id20::prefix_mask(bits + 1));
        for (at, byte) in id.iter_mut().enumerate() {
            let mut mask = fixed.0[at];
            let mut wanted = own.0[at];
            if differs {
                let flipped = mask ^ next.0[at];
                mask |= flipped;
                wanted ^= flipped;
            }
            *byte = (*byte & !mask) | (wanted & mask);
        }
        Id20(id)
    }

    pub(super) fn can_bootstrap(&self) -> bool {
        let known = !self.table_v4.is_empty() || !self.table_v6.is_empty();
        known || !self.routers.is_empty() || !self.waiting.is_empty()
    }

    /// Looks our own ids up after `pause`, and again until nothing new is found.
    pub(super) fn bootstrap_soon(&mut self, pause: Duration) {
        self.bootstrap.pause = None;
        self.bootstrap.quiet = 0;
        self.bootstrap.again = self.bootstrap.running;
        self.arm(Single::Bootstrap, self.now + pause);
    }

    pub(super) fn on_bootstrap(&mut self, cx: &mut Context<'_>) {
        let up = self.families.iter().any(|family| family.is_up());
        if up && !self.bootstrap.running {
            self.bootstrap.running = true;
            self.begin_bootstrap(cx);
        }
    }

    /// Whether we know nobody yet and a lookup of our own id is about to change that.
    pub(super) fn is_finding_itself(&self) -> bool {
        let up = self.families.iter().any(|family| family.is_up());
        let alone = self.table_v4.is_empty() && self.table_v6.is_empty();
        let armed = self.armed[Single::Bootstrap as usize].is_some();
        let under_way = self.bootstrap.running && !self.bootstrapped;
        let patient = self.bootstrap.rounds < self.config.dht.patient_rounds;
        up && patient && (under_way || (alone && (armed || self.bootstrap.running)))
    }

    /// A round is over.
    pub(super) fn on_bootstrap_done(&mut self, search: &Search, cx: &mut Context<'_>) {
        self.bootstrap.running = false;
        self.bootstrap.rounds = self.bootstrap.rounds.saturating_add(1);
        self.bootstrapped |= search.replies > 0;
        let closest = search.legs.iter().flat_map(Leg::best).map(|c| c.id);
        let closest: Vec<NodeId> = closest.collect();
        let known = self.table_v4.len() + self.table_v6.len();
        let grown = known * 4 > self.bootstrap.known * 5;
        let quiet = !self.is_small() && !grown && closest == self.bootstrap.closest;
        self.bootstrap.quiet = if quiet {
            self.bootstrap.quiet.saturating_add(1)
        } else {
            0
        };
        self.bootstrap.closest = closest;
        self.bootstrap.known = known;
        let pause = if core::mem::take(&mut self.bootstrap.again) {
            self.config.dht.bootstrap_pause
        } else if !self.is_joining() {
            self.bootstrap.pause = None;
            self.config.dht.own_lookup_interval
        } else {
            self.bootstrap_pause()
        };
        if self.can_bootstrap() {
            let micros = pause.as_micros() as u64;
            let pause = micros - micros / 8 + self.choice.below(micros / 4 + 1);
            self.arm(Single::Bootstrap, self.now + Duration::from_micros(pause));
        }
        if self.is_joining() {
            self.begin_far(cx);
        }
        self.tell_status(true, cx);
    }

    /// The pause before the next round, which doubles the one after it.
    fn bootstrap_pause(&mut self) -> Duration {
        let dht = &self.config.dht;
        let pause = self.bootstrap.pause.unwrap_or(dht.bootstrap_pause);
        self.bootstrap.pause = Some((pause * 2).min(dht.max_bootstrap_pause));
        pause
    }

    /// Whether our own place is not yet known for sure.
    pub(super) fn is_joining(&self) -> bool {
        self.bootstrap.quiet < self.config.dht.quiet_rounds
    }

    /// Whether the table of a family in use holds so few that each counts.
    fn is_small(&self) -> bool {
        let small = usize::from(self.config.dht.small_table);
        let lens = [self.table_v4.len(), self.table_v6.len()];
        let mut families = self.families.iter().zip(lens);
        families.any(|(family, len)| family.is_up() && len < small)
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
        let votes = &mut self.families[usize::from(v6)].votes;
        if votes.vote(voter.ip(), claim.ip()).is_some() {
            self.follow_address(v6);
        }
    }

    /// Takes an id that fits our address, if the present one does not.
    pub(super) fn follow_address(&mut self, v6: bool) {
        let family = &self.families[usize::from(v6)];
        if let Some(ip) = family.votes.current()
            && !security::is_valid(ip, &family.id)
        {
            let id = security::node_id(ip, self.secrets.bytes());
            self.set_id(v6, id);
            // Others know us by the old id, and the table is deep around the old place.
            self.bootstrap_soon(self.config.dht.bootstrap_pause);
        }
    }

    fn set_id(&mut self, v6: bool, id: NodeId) {
        let family = &mut self.families[usize::from(v6)];
        if family.id != id {
            family.id = id;
            family.store.set_own(id);
            family.items.set_own(id);
            if v6 {
                self.table_v6.set_own(id);
            } else {
                self.table_v4.set_own(id);
            }
        }
    }
}
