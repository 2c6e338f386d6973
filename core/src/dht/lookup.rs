//! One iterative lookup: who was heard of, who was asked, who answered.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::item::Item;
use super::scrape::Filters;
use super::{AnnouncePort, LookupId, security, table::CLOSEST};
use crate::id::{Id20, NodeId};
use crate::time::Instant;

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Fill the table: our own id.
    Bootstrap,
    /// Fill the table: an id of a part of the network far from ours.
    Far,
    /// The closest nodes.
    Nodes,
    /// Peers.
    Peers,
    /// Peers, then store ourselves under this port.
    Announce(AnnouncePort),
    /// How many peers.
    Scrape,
    /// An item.
    Item,
    /// The closest nodes, then store an item.
    Put,
}

impl Goal {
    /// Whether it is for our own table.
    pub(crate) fn fills(self) -> bool {
        matches!(self, Self::Bootstrap | Self::Far)
    }
}

/// A lookup in both families.
#[derive(Debug)]
pub(crate) struct Search {
    /// Who asked; none for our own.
    pub(crate) id: Option<LookupId>,
    pub(crate) goal: Goal,
    pub(crate) target: Id20,
    pub(crate) started: Instant,
    /// IPv4, then IPv6.
    pub(crate) legs: [Leg; 2],
    pub(crate) peers: BTreeSet<SocketAddr>,
    pub(crate) queries: u16,
    pub(crate) replies: u16,
    pub(crate) stored: u32,
    /// Of lookups that are for items or filters.
    pub(crate) wanted: Option<Box<Wanted>>,
}

/// What is looked for, or stored, besides peers; and what was found of it.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Of the item that is looked for.
    pub(crate) salt: Bytes,
    /// What is to be stored, and the sequence number of what it replaces.
    pub(crate) put: Option<(Arc<Item>, Option<i64>)>,
    /// The newest item found and verified.
    pub(crate) best: Option<Arc<Item>>,
    /// Items told.
    pub(crate) told: u32,
    /// Items whose signatures are being checked.
    pub(crate) checking: Vec<Arc<Item>>,
    /// Codes that nodes refused to store with.
    pub(crate) refusals: Vec<i64>,
    pub(crate) filters: Filters,
    /// Nodes that gave filters.
    pub(crate) filtered: u32,
}

impl Search {
    /// Whether signatures are being checked on which it depends what is asked next, if anything is.
    pub(crate) fn is_checking(&self) -> bool {
        let checking = |wanted: &Wanted| !wanted.checking.is_empty();
        self.wanted.as_deref().is_some_and(checking)
    }

    /// Whether an item was found.
    pub(crate) fn has_item(&self) -> bool {
        self.wanted
            .as_ref()
            .is_some_and(|wanted| wanted.best.is_some())
    }
}

/// Where one candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Asked,
    /// Silent beyond the short timeout: its slot is free. A candidate will be asked again.
    Stalled,
    /// Asked a second and last time.
    Again,
    /// Silent beyond the short timeout once more: its slot is free, its answer still awaited.
    Silent,
    /// Silent for so long that the end is not put off for it; its answer would still be taken.
    Late,
    Answered,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    /// 1 for a node that we knew, one more than whoever told of it for others.
    pub(crate) hops: u16,
    pub(crate) state: State,
    pub(crate) token: Option<Box<[u8]>>,
}

impl Candidate {
    pub(crate) fn new(id: NodeId, addr: SocketAddr, hops: u16) -> Self {
        Self {
            id,
            addr,
            hops,
            state: State::New,
            token: None,
        }
    }
}

/// How far a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Search,
    /// Stores are out.
    Store,
    Done,
}

/// What a leg wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this contact, whose id is unknown.
    Contact(usize),
    /// Ask this candidate.
    Candidate(usize),
    /// Nothing until an answer or a timeout.
    Wait,
    /// The search is over.
    Finished,
}

/// The part of a lookup in one family.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) target: Id20,
    pub(crate) phase: Phase,
    /// By distance from the target.
    pub(crate) candidates: Vec<Candidate>,
    /// Contacts of unknown id, to begin with.
    pub(crate) contacts: Vec<(SocketAddr, State)>,
    /// Nobody answered, and others of the table were added.
    pub(crate) widened: bool,
    /// Stores sent to candidates, by id; of a lookup for an item, questions asked once more.
    pub(crate) stores: Vec<(NodeId, State)>,
}

impl Leg {
    pub(crate) fn new(target: Id20, phase: Phase) -> Self {
        Self {
            target,
            phase,
            candidates: Vec::new(),
            contacts: Vec::new(),
            widened: false,
            stores: Vec::new(),
        }
    }

    /// Adds a node heard of. Only one of each network counts, so that nobody fills the list with
    /// one machine; the list is kept to `max`.
    pub(crate) fn add(&mut self, candidate: Candidate, max: usize, lab: bool) -> bool {
        let distance = candidate.id.distance(&self.target);
        let at = self
            .candidates
            .partition_point(|c| c.id.distance(&self.target) < distance);
        if at >= max
            || self
                .candidates
                .get(at)
                .is_some_and(|c| c.id == candidate.id)
        {
            return false;
        }
        let ip = candidate.addr.ip();
        let exempt = security::is_exempt(ip, lab);
        let network = security::network(ip);
        // Who failed holds no place: the next may be the same node under its new id.
        let mut holders = self.candidates.iter().filter(|c| c.state != State::Failed);
        let clash = holders.any(|c| {
            c.addr == candidate.addr || (!exempt && security::network(c.addr.ip()) == network)
        });
        if clash {
            return false;
        }
        self.candidates.insert(at, candidate);
        self.candidates.truncate(max);
        true
    }

    /// Adds somebody to begin with, once: state is kept by endpoint.
    pub(crate) fn add_contact(&mut self, addr: SocketAddr) {
        let known = self.contacts.iter().any(|(known, _)| *known == addr);
        if !known {
            self.contacts.push((addr, State::New));
        }
    }

    /// What to do now, with `alpha` queries in flight near the top of the list.
    pub(crate) fn next(&self, alpha: usize) -> Step {
        let count = |state| self.contacts.iter().filter(|(_, s)| *s == state).count();
        let mut in_flight = 0;
        let (mut answered, mut waiting, mut new, mut stalled) = (0, 0, None, None);
        for (at, candidate) in self.candidates.iter().enumerate() {
            match candidate.state {
                State::Answered => answered += 1,
                State::Asked | State::Again => in_flight += 1,
                State::Silent => waiting += 1,
                State::New => new = new.or(Some(at)),
                State::Stalled => stalled = stalled.or(Some(at)),
                State::Late | State::Failed => {}
            }
            if answered == CLOSEST {
                break;
            }
        }
        // A datagram was lost more likely than a node: before the end, whoever would be among the
        // best is asked once more.
        let new = new.or(stalled);
        if answered == CLOSEST && in_flight == 0 && new.is_none() {
            return Step::Finished;
        }
        let contacts_in_flight = count(State::Asked);
        if in_flight + contacts_in_flight < alpha {
            // One slot is the contacts', who know others than the table does; the rest when
            // there are no candidates.
            let contact = self.contacts.iter().position(|(_, s)| *s == State::New);
            if let Some(at) = contact
                && (contacts_in_flight == 0 || new.is_none())
            {
                return Step::Contact(at);
            }
            if let Some(at) = new {
                return Step::Candidate(at);
            }
        }
        let contacts_waiting = contacts_in_flight + count(State::Stalled) + count(State::New);
        if new.is_none() && in_flight + waiting + contacts_waiting == 0 {
            return Step::Finished;
        }
        Step::Wait
    }

    /// Whether the search is over without any answer, and nobody else was added for it yet.
    pub(crate) fn is_in_vain(&self) -> bool {
        let answered = |c: &Candidate| c.state == State::Answered;
        !self.widened && !self.candidates.iter().any(answered)
    }

    /// The best that answered.
    pub(crate) fn best(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|c| c.state == State::Answered)
            .take(CLOSEST)
    }

    pub(crate) fn candidate(&mut self, id: &NodeId, addr: SocketAddr) -> Option<&mut Candidate> {
        self.candidates
            .iter_mut()
            .find(|c| c.id == *id && c.addr == addr)
    }

    /// Whether a store may still be answered in time.
    pub(crate) fn is_storing(&self) -> bool {
        self.stores
            .iter()
            .any(|(_, s)| !matches!(s, State::Late | State::Answered | State::Failed))
    }

    /// What became of a store, of its repetition if `again`: true if it is to be repeated now.
    pub(crate) fn set_stored(&mut self, id: &NodeId, state: State, again: bool) -> bool {
        let Some((_, slot)) = self.stores.iter_mut().find(|(known, _)| known == id) else {
            return false;
        };
        let before = *slot;
        *slot = match (before, state) {
            (State::Answered | State::Failed, _) => return false,
            (State::Again | State::Silent, _) if !again && state != State::Answered => {
                return false;
            }
            (State::Again, State::Stalled) => State::Silent,
            _ => state,
        };
        before == State::Asked && state == State::Stalled
    }

    /// The state of whoever was asked there, for the second time if `again`: a candidate when its
    /// id is known. What becomes of the first query does not matter once there is a second.
    pub(crate) fn set_state(
        &mut self,
        id: Option<&NodeId>,
        addr: SocketAddr,
        state: State,
        again: bool,
    ) {
        let slot = match id {
            Some(id) => self.candidate(id, addr).map(|c| &mut c.state),
            None => self
                .contacts
                .iter_mut()
                .find(|(a, _)| *a == addr)
                .map(|(_, s)| s),
        };
        if let Some(slot) = slot {
            *slot = match (*slot, state) {
                (State::Answered | State::Failed, _) => return,
                (State::Again | State::Silent, _) if !again => return,
                (State::Again, State::Stalled) => State::Silent,
                _ => state,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use quickcheck::quickcheck;

    fn candidate(n: u8, ip: u32) -> Candidate {
        let addr = SocketAddr::new(Ipv4Addr::from(0x0800_0000 + ip).into(), 1);
        Candidate {
            id: Id20([n; 20]),
            addr,
            hops: 1,
            state: State::New,
            token: None,
        }
    }

    fn leg(count: u8) -> Leg {
        let mut leg = Leg::new(Id20([0; 20]), Phase::Search);
        for n in 1..=count {
            assert!(leg.add(candidate(n, u32::from(n) << 8), 100, false));
        }
        leg
    }

    #[test]
    fn one_network_and_one_id_have_one_place() {
        let mut leg = leg(3);
        assert!(!leg.add(candidate(9, 3 << 8 | 77), 100, false));
        assert!(!leg.add(candidate(3, 9 << 8), 100, false));
        assert!(leg.add(candidate(9, 9 << 8), 100, false));
        let mut local = candidate(10, 0);
        local.addr = "127.0.0.1:5".parse().unwrap();
        assert!(leg.add(local, 100, false));
        let mut local = candidate(11, 0);
        local.addr = "127.0.0.1:6".parse().unwrap();
        assert!(leg.add(local, 100, false));
    }

    #[test]
    fn candidates_are_kept_to_the_closest() {
        let mut leg = Leg::new(Id20([0; 20]), Phase::Search);
        for n in (1..=200).rev() {
            leg.add(candidate(n, u32::from(n) << 8), 100, false);
        }
        assert_eq!(leg.candidates.len(), 100);
        assert_eq!(leg.candidates[99].id, Id20([100; 20]));
    }

    #[test]
    fn slots_are_counted_near_the_top_and_stalled_ones_open_another() {
        let mut leg = leg(20);
        for at in 0..5 {
            assert_eq!(leg.next(5), Step::Candidate(at));
            leg.candidates[at].state = State::Asked;
        }
        assert_eq!(leg.next(5), Step::Wait);
        leg.candidates[2].state = State::Stalled;
        assert_eq!(leg.next(5), Step::Candidate(5));
        leg.candidates[2].state = State::Silent;
        for at in 5..13 {
            leg.candidates[at].state = State::Answered;
        }
        // The best eight answered are not known yet: closer ones are still in flight.
        assert_eq!(leg.next(5), Step::Wait);
        for at in [0, 1, 3, 4] {
            leg.candidates[at].state = State::Failed;
        }
        assert_eq!(leg.next(5), Step::Finished);
        // Queries below the best eight do not hold a slot.
        leg.candidates[15].state = State::Asked;
        assert_eq!(leg.next(1), Step::Finished);
    }

    #[test]
    fn a_short_list_waits_for_the_silent_but_not_for_the_late() {
        let mut leg = leg(3);
        leg.candidates[0].state = State::Answered;
        leg.candidates[1].state = State::Silent;
        leg.candidates[2].state = State::Failed;
        assert_eq!(leg.next(5), Step::Wait);
        leg.candidates[1].state = State::Late;
        assert_eq!(leg.next(5), Step::Finished);
        leg.contacts.push((candidate(1, 1).addr, State::New));
        assert_eq!(leg.next(5), Step::Contact(0));
    }

    #[test]
    fn whoever_would_be_among_the_best_is_asked_twice_and_no_more() {
        let mut leg = leg(20);
        for candidate in &mut leg.candidates[..9] {
            candidate.state = State::Answered;
        }
        let (id, addr) = (leg.candidates[3].id, leg.candidates[3].addr);
        leg.candidates[3].state = State::Stalled;
        // Beyond the best eight it is of no use.
        leg.candidates[15].state = State::Stalled;
        assert_eq!(leg.next(5), Step::Candidate(3));
        leg.set_state(Some(&id), addr, State::Again, true);
        assert_eq!(leg.next(5), Step::Wait);
        // The first query's time is up: that says nothing about the second.
        leg.set_state(Some(&id), addr, State::Failed, false);
        assert_eq!(leg.next(5), Step::Wait);
        leg.set_state(Some(&id), addr, State::Stalled, true);
        assert_eq!(leg.next(5), Step::Finished);
        leg.candidates[8].state = State::Failed;
        leg.candidates.truncate(9);
        // With fewer than eight it is still waited for.
        assert_eq!(leg.next(5), Step::Wait);
        leg.set_state(Some(&id), addr, State::Late, true);
        assert_eq!(leg.next(5), Step::Finished);
    }

    quickcheck! {
        fn candidates_stay_sorted_and_distinct(nodes: Vec<(u8, u16)>) -> bool {
            let mut leg = Leg::new(Id20([0x5a; 20]), Phase::Search);
            for (n, ip) in nodes {
                leg.add(candidate(n, u32::from(ip)), 20, false);
            }
            leg.candidates.len() <= 20
                && leg.candidates.is_sorted_by(|a, b| a.id.distance(&leg.target) < b.id.distance(&leg.target))
        }
    }
}
