//! The event queue: what happens next, in an order that depends on nothing but the run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trackerless_core::Instant;

/// The order of events: by time, then destination, source, and the source's own count. Neither
/// insertion order nor an address in memory ever decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Order {
    pub(crate) at: Instant,
    pub(crate) to: u32,
    pub(crate) from: u32,
    pub(crate) sequence: u64,
}

struct Entry<T>(Order, T);

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Pending events.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, order: Order, event: T) {
        self.heap.push(Reverse(Entry(order, event)));
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.0.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Order, T)> {
        self.heap
            .pop()
            .map(|Reverse(Entry(order, event))| (order, event))
    }
}
