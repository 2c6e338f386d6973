//! Our own questions about items (BEP 44), samples (BEP 51) and filters (BEP 33), and what comes
//! back.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::asked::{Pending, Purpose};
use super::checks::Whose;
use super::item::{self, Item, MAX_VALUE, Signed};
use super::krpc::{Body, Query};
use super::lookup::{Goal, Phase, Search, State, Wanted};
use super::node::{Context, Dht};
use super::table::CLOSEST;
use super::{AnnouncePort, CheckId, Event};
use crate::event::Found;
use crate::id::{Id20, NodeId};
use crate::time::Duration;

/// Codes of refusals that one put tells of; there are five that mean something.
const MAX_REFUSALS: usize = 8;

impl Dht {
    /// Has the host check a signature; false if too many are being checked.
    pub(super) fn begin_check(
        &mut self,
        item: Arc<Item>,
        whose: Whose,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.checks.len() >= usize::from(self.config.dht.max_signature_checks) {
            return false;
        }
        let id = self.checks.begin(Arc::clone(&item), whose);
        cx.events.push(Event::Check(id, item));
        self.arm_check(id);
        true
    }

    /// A signature was checked, or was not in time.
    pub(super) fn on_check_done(&mut self, id: CheckId, good: bool, cx: &mut Context<'_>) {
        match self.checks.end(id) {
            Some((item, Whose::Search(serial))) => {
                if let Some(search) = self.searches.get_mut(&serial)
                    && let Some(wanted) = &mut search.wanted
                {
                    wanted
                        .checking
                        .retain(|checked| !Arc::ptr_eq(checked, &item));
                    if good {
                        tell_item(search, item, cx);
                    }
                }
                self.advance(serial, cx);
            }
            Some((item, Whose::Put(put))) => self.end_put(*put, item, good, cx),
            None => {}
        }
    }

    /// An answer to a search for an item or for filters.
    pub(super) fn on_wanted(&mut self, serial: u32, body: &Body<'_>, cx: &mut Context<'_>) {
        let Some(search) = self.searches.get_mut(&serial) else {
            return;
        };
        let Some(wanted) = &mut search.wanted else {
            return;
        };
        if search.goal == Goal::Scrape {
            let told = body.seeds.is_some() || body.downloaders.is_some();
            wanted.filtered += u32::from(told);
            for (filter, more) in [
                (&mut wanted.filters.seeds, body.seeds),
                (&mut wanted.filters.downloaders, body.downloaders),
            ] {
                more.into_iter().for_each(|more| filter.merge(more));
            }
        }
        if search.goal != Goal::Item {
            return;
        }
        let Some(item) = read_item(body, &search.target, &wanted.salt) else {
            return;
        };
        if item.signed().is_none() {
            tell_item(search, Arc::new(item), cx);
            // There is no other of that hash.
            search
                .legs
                .iter_mut()
                .for_each(|leg| leg.phase = Phase::Done);
            return;
        }
        let newer = wanted
            .best
            .as_ref()
            .is_none_or(|best| best.seq() < item.seq());
        if newer && !wanted.checking.iter().any(|other| **other == item) {
            let item = Arc::new(item);
            if self.begin_check(Arc::clone(&item), Whose::Search(serial), cx)
                && let Some(search) = self.searches.get_mut(&serial)
                && let Some(wanted) = &mut search.wanted
            {
                wanted.checking.push(item);
            }
        }
    }

    /// What we keep ourselves counts too.
    pub(super) fn add_own(&mut self, search: &mut Search, cx: &mut Context<'_>) {
        let now = self.seconds();
        for family in &self.families {
            let Some(wanted) = &mut search.wanted else {
                return;
            };
            match search.goal {
                Goal::Scrape => {
                    if let Some(filters) = family.store.filters(&search.target, now) {
                        wanted.filters.seeds.merge(&filters.seeds.0);
                        wanted.filters.downloaders.merge(&filters.downloaders.0);
                        wanted.filtered += 1;
                    }
                }
                Goal::Item => {
                    if let Some(item) = family.items.find(&search.target, now).cloned() {
                        tell_item(search, item, cx);
                    }
                }
                _ => {}
            }
        }
    }

    /// The end of a search in one family: stores what is to be stored on the closest nodes. A
    /// search for an item that found none asks them once more, and shows with their tokens that
    /// we receive what we are sent: an answer may be too long for somebody who did not.
    pub(super) fn begin_store(
        &mut self,
        serial: u32,
        search: &mut Search,
        at: usize,
        cx: &mut Context<'_>,
    ) {
        search.legs[at].phase = Phase::Done;
        let stores = match search.goal {
            Goal::Announce(_) | Goal::Put => true,
            Goal::Item => !search.has_item(),
            Goal::Bootstrap | Goal::Far | Goal::Nodes | Goal::Peers | Goal::Scrape => false,
        };
        if !stores {
            return;
        }
        let answered = search.legs[at].best_with_token();
        for (id, addr) in answered {
            if self.store_at(serial, search, at, (id, addr), false, cx) {
                let leg = &mut search.legs[at];
                leg.stores.push((id, State::Asked));
                leg.phase = Phase::Store;
            }
        }
    }

    /// Sends one store, or the same once more; false if it could not be sent.
    fn store_at(
        &mut self,
        serial: u32,
        search: &mut Search,
        at: usize,
        (id, addr): (NodeId, SocketAddr),
        again: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        let ours = self.families[at].port();
        let leg = &mut search.legs[at];
        let target = leg.target;
        let Some(token) = leg.candidate(&id, addr).and_then(|c| c.token.clone()) else {
            return false;
        };
        let put = search
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.put.as_ref());
        let query = match (search.goal, put) {
            (Goal::Announce(port), _) => {
                let port = match port {
                    AnnouncePort::Given(port) => Some(port),
                    AnnouncePort::AsSeen => None,
                    AnnouncePort::Ours => ours,
                };
                Query::Announce(target, port, &token)
            }
            (Goal::Put, Some((item, cas))) => Query::Put {
                item,
                cas: *cas,
                token: &token,
            },
            _ => Query::Get {
                target,
                seq: None,
                token: Some(&token),
            },
        };
        let purpose = if again {
            Purpose::StoreAgain(serial)
        } else {
            Purpose::Store(serial)
        };
        // Whoever answered a moment ago is no new endpoint.
        let sent = self.query(addr, Some(id), query, purpose, cx).is_ok();
        search.queries = search.queries.saturating_add(sent.into());
        sent
    }

    /// A store was not answered so far. What is lost is sent once more: a datagram is lost more
    /// likely than a node, and its token ages.
    pub(super) fn on_unstored(
        &mut self,
        serial: u32,
        pending: &Pending,
        state: State,
        cx: &mut Context<'_>,
    ) {
        let Some(id) = pending.expected else { return };
        let Some(mut search) = self.searches.remove(&serial) else {
            return;
        };
        let at = usize::from(pending.to.is_ipv6());
        let again = matches!(pending.purpose, Purpose::StoreAgain(_));
        let repeat = search.legs[at].set_stored(&id, state, again);
        if repeat && self.store_at(serial, &mut search, at, (id, pending.to), true, cx) {
            search.legs[at].set_stored(&id, State::Again, true);
        }
        self.searches.insert(serial, search);
        self.advance(serial, cx);
    }

    /// A node refused what it was asked.
    pub(super) fn on_refused(&mut self, pending: &Pending, code: i64, cx: &mut Context<'_>) {
        match pending.purpose {
            Purpose::Sample(lookup) => {
                cx.events.push(Event::Found(lookup, Found::Refused(code)));
            }
            Purpose::Store(serial) | Purpose::StoreAgain(serial) => {
                if let Some(search) = self.searches.get_mut(&serial)
                    && search.goal == Goal::Put
                    && let (Some(wanted), Some(lookup)) = (&mut search.wanted, search.id)
                    && wanted.refusals.len() < MAX_REFUSALS
                    && !wanted.refusals.contains(&code)
                {
                    wanted.refusals.push(code);
                    cx.events.push(Event::Found(lookup, Found::Refused(code)));
                }
            }
            _ => {}
        }
    }

    /// The samples of one node; how many there are.
    pub(super) fn on_samples(
        &mut self,
        lookup: super::LookupId,
        body: &Body<'_>,
        cx: &mut Context<'_>,
    ) -> u32 {
        let Some(samples) = body.samples else {
            return 0;
        };
        let hashes: Vec<Id20> = samples.iter().collect();
        for hash in &hashes {
            cx.events.push(Event::Found(lookup, Found::InfoHash(*hash)));
        }
        let of = body.num.unwrap_or(hashes.len() as u32);
        let again = Duration::from_secs(body.interval.unwrap_or(0).into());
        cx.events
            .push(Event::Found(lookup, Found::Survey { of, again }));
        hashes.len() as u32
    }

    /// What a search for an item or filters tells at its end; how much was found.
    pub(super) fn finish_wanted(search: &Search, cx: &mut Context<'_>) -> u32 {
        let (Some(wanted), Some(lookup)) = (&search.wanted, search.id) else {
            return 0;
        };
        match search.goal {
            Goal::Item => wanted.told,
            Goal::Scrape if wanted.filtered > 0 => {
                let found = Found::Swarm {
                    seeds: wanted.filters.seeds.estimate(),
                    downloaders: wanted.filters.downloaders.estimate(),
                    nodes: wanted.filtered,
                };
                cx.events.push(Event::Found(lookup, found));
                1
            }
            _ => 0,
        }
    }
}

/// Tells of an item that is what it should be, unless a newer one is known.
fn tell_item(search: &mut Search, item: Arc<Item>, cx: &mut Context<'_>) {
    let (Some(wanted), Some(lookup)) = (&mut search.wanted, search.id) else {
        return;
    };
    let known = wanted.best.as_ref();
    if known.is_none_or(|best| best.seq() < item.seq()) {
        wanted.best = Some(Arc::clone(&item));
        wanted.told += 1;
        cx.events.push(Event::Found(lookup, Found::Item(item)));
    }
}

/// The item of an answer, if it belongs to that target; its signature is not looked at.
fn read_item(body: &Body<'_>, target: &Id20, salt: &Bytes) -> Option<Item> {
    let value = body.value.filter(|value| value.len() <= MAX_VALUE)?;
    match (body.key, body.signature, body.seq) {
        (Some(key), Some(signature), Some(seq)) => {
            if item::mutable_target(key, salt) != *target {
                return None;
            }
            let signed = Signed {
                key: *key,
                signature: *signature,
                seq,
                salt: salt.clone(),
            };
            Item::mutable(Bytes::copy_from_slice(value), signed).ok()
        }
        _ => {
            let named = item::immutable_target(value) == *target;
            named
                .then(|| Item::immutable(Bytes::copy_from_slice(value)).ok())
                .flatten()
        }
    }
}

/// What is wanted of a search for the item of a target.
pub(super) fn wanted_item(salt: Bytes) -> Wanted {
    Wanted {
        salt,
        ..Wanted::default()
    }
}

/// The closest nodes, as many as are stored on.
impl super::lookup::Leg {
    fn best_with_token(&self) -> Vec<(NodeId, SocketAddr)> {
        let answered = self.candidates.iter();
        let answered = answered.filter(|c| c.state == State::Answered && c.token.is_some());
        answered.take(CLOSEST).map(|c| (c.id, c.addr)).collect()
    }
}
