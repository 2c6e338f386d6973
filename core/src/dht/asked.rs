//! Queries that wait for their answers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::LookupId;
use crate::id::NodeId;
use crate::time::Instant;

/// A query that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) to: SocketAddr,
    pub(super) expected: Option<NodeId>,
    pub(super) sent: Instant,
    pub(super) purpose: Purpose,
    /// Its endpoint has answered a question that came no earlier: this one was lost on the way.
    pub(super) lost: bool,
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
    /// The same question to the same candidate, after the first was left unanswered.
    SearchAgain(u32),
    /// An announce or a put at the end of a search.
    Store(u32),
    /// The same, after the first was left unanswered.
    StoreAgain(u32),
    /// Samples that somebody asked for.
    Sample(LookupId),
}

impl Purpose {
    /// Who waits for one question, if it is none of a search.
    pub(super) fn lookup(self) -> Option<LookupId> {
        match self {
            Self::Ping(lookup) | Self::Sample(lookup) => Some(lookup),
            _ => None,
        }
    }

    /// Whether it stores something.
    pub(super) fn stores(self) -> bool {
        matches!(self, Self::Store(_) | Self::StoreAgain(_))
    }
}

impl Pending {
    fn is_ping(&self) -> bool {
        self.purpose.lookup().is_some()
    }
}

/// Queries by transaction and by endpoint.
///
/// How many there can be follows from the limits of whoever asks: lookups, their candidates, and
/// the time between checks.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_transaction: BTreeMap<u32, Pending>,
    by_endpoint: BTreeSet<(SocketAddr, u32)>,
    pings: usize,
}

impl Asked {
    pub(super) fn len(&self) -> usize {
        self.by_transaction.len()
    }

    /// Pings and single questions that somebody waits for.
    pub(super) fn pings(&self) -> usize {
        self.pings
    }

    pub(super) fn get(&self, transaction: u32) -> Option<&Pending> {
        self.by_transaction.get(&transaction)
    }

    /// The oldest transaction of a query to `to`, by number.
    pub(super) fn first_to(&self, to: SocketAddr) -> Option<u32> {
        let mut range = self.by_endpoint.range((to, 0)..=(to, u32::MAX));
        range.next().map(|(_, transaction)| *transaction)
    }

    /// Remembers a query under a transaction that is not in use.
    pub(super) fn insert(&mut self, transaction: u32, pending: Pending) {
        self.pings += usize::from(pending.is_ping());
        self.by_endpoint.insert((pending.to, transaction));
        self.by_transaction.insert(transaction, pending);
    }

    pub(super) fn remove(&mut self, transaction: u32) -> Option<Pending> {
        let pending = self.by_transaction.remove(&transaction)?;
        self.by_endpoint.remove(&(pending.to, transaction));
        self.pings -= usize::from(pending.is_ping());
        Some(pending)
    }

    /// A question was answered: those that its endpoint got no later say nothing against it.
    pub(super) fn forgive(&mut self, answered: &Pending) {
        let to = answered.to;
        for (_, transaction) in self.by_endpoint.range((to, 0)..=(to, u32::MAX)) {
            if let Some(pending) = self.by_transaction.get_mut(transaction) {
                pending.lost |= pending.sent <= answered.sent;
            }
        }
    }

    /// Takes out every query of one family, in the order of their transactions.
    pub(super) fn remove_family(&mut self, v6: bool) -> Vec<Pending> {
        let of_family = self.by_transaction.iter();
        let lost: Vec<u32> = of_family
            .filter(|(_, pending)| pending.to.is_ipv6() == v6)
            .map(|(transaction, _)| *transaction)
            .collect();
        lost.into_iter()
            .filter_map(|transaction| self.remove(transaction))
            .collect()
    }

    /// Nobody waits for that ping any more; its answer still says that a node lives.
    pub(super) fn forget_ping(&mut self, lookup: LookupId) {
        for pending in self.by_transaction.values_mut() {
            if pending.purpose.lookup() == Some(lookup) {
                pending.purpose = Purpose::Check;
                self.pings -= 1;
            }
        }
    }
}
