//! Nodes heard of that wait to be pinged.

use alloc::collections::{BTreeSet, VecDeque};
use core::net::SocketAddr;

use crate::id::NodeId;

/// Nodes heard of, each endpoint once, in the order in which they will be pinged.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: VecDeque<(SocketAddr, Option<NodeId>)>,
    known: BTreeSet<SocketAddr>,
    max: usize,
}

impl Waiting {
    pub(super) fn new(max: u16) -> Self {
        Self {
            queue: VecDeque::new(),
            known: BTreeSet::new(),
            max: usize::from(max),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(SocketAddr, Option<NodeId>)> + Clone {
        self.queue.iter()
    }

    /// Lets a node wait behind all others; false when it waits already or too many do.
    pub(super) fn push(&mut self, addr: SocketAddr, id: Option<NodeId>) -> bool {
        let fits = self.queue.len() < self.max && self.known.insert(addr);
        if fits {
            self.queue.push_back((addr, id));
        }
        fits
    }

    /// Puts the next one back in front.
    pub(super) fn push_front(&mut self, addr: SocketAddr, id: Option<NodeId>) {
        if self.known.insert(addr) {
            self.queue.push_front((addr, id));
        }
    }

    /// The next one whose family is usable.
    pub(super) fn pop(
        &mut self,
        usable: impl Fn(SocketAddr) -> bool,
    ) -> Option<(SocketAddr, Option<NodeId>)> {
        let at = self.queue.iter().position(|(addr, _)| usable(*addr))?;
        let (addr, id) = self.queue.remove(at)?;
        self.known.remove(&addr);
        Some((addr, id))
    }
}
