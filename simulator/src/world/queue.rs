//! The event queue: what happens next, in an order that depends on nothing but the run.
//!
//! A hierarchical timing wheel. Only the bucket whose turn it is is sorted, into a vector that is
//! taken from the end; the others are heaps of entries in no order. Entries are small, what they
//! carry lies in a [`Store`] whose places are used again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The order of events: by time, then destination, source, and the source's own count. Neither
/// insertion order nor an address in memory ever decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Order {
    /// Microseconds.
    pub(crate) at: u64,
    pub(crate) to: u32,
    pub(crate) from: u32,
    /// Wraps round; of two events that one source made for one host and one microsecond, four
    /// billion events apart, the later one may come first.
    pub(crate) sequence: u32,
}

/// A pending event: its order, and the place of what it carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    pub(crate) order: Order,
    pub(crate) what: u32,
}

// Rule: small values. There may be millions of these.
const _: () = assert!(size_of::<Entry>() <= 32);

impl Entry {
    /// The order as one number but for the source's count, which is how it is compared quickly.
    fn high(&self) -> u128 {
        let Order { at, to, from, .. } = self.order;
        u128::from(at) << 64 | u128::from(to) << 32 | u128::from(from)
    }

    fn key(&self) -> (u128, u32) {
        (self.high(), self.order.sequence)
    }
}

/// Bits of a time, in microseconds, that fall into one bucket.
const GRAIN: u32 = 4;
/// Bits of the number of buckets on each level.
const BITS: u32 = 13;
const SLOTS: usize = 1 << BITS;
/// Levels; what is due later than the last of them waits in a list: in 100 days.
const LEVELS: usize = 3;
/// A bucket that held more than this gives its memory back when it is emptied.
const KEPT: usize = 1 << 14;

struct Level {
    slots: Vec<Vec<Entry>>,
    /// A bit for each slot that is not empty.
    used: [u64; SLOTS / 64],
}

impl Level {
    fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            used: [0; SLOTS / 64],
        }
    }

    fn push(&mut self, slot: usize, entry: Entry) {
        self.slots[slot].push(entry);
        self.used[slot / 64] |= 1 << (slot % 64);
    }

    /// The first used slot after `slot`.
    fn after(&self, slot: usize) -> Option<usize> {
        let first = slot + 1;
        if first >= SLOTS {
            return None;
        }
        let mut word = first / 64;
        let mut bits = self.used[word] & (u64::MAX << (first % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.used.get(word)?;
        }
    }

    /// Exchanges what is in a slot for an empty list.
    fn take(&mut self, slot: usize, empty: Vec<Entry>) -> Vec<Entry> {
        self.used[slot / 64] &= !(1 << (slot % 64));
        std::mem::replace(&mut self.slots[slot], empty)
    }
}

/// Pending events in their order.
pub(crate) struct Wheel {
    /// The bucket whose turn it is, the next event last.
    current: Vec<Entry>,
    /// What is due no later than that bucket, and came after it was sorted.
    late: BinaryHeap<Reverse<Entry>>,
    /// Number of the current bucket.
    cursor: u64,
    levels: [Level; LEVELS],
    far: Vec<Entry>,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            current: Vec::new(),
            late: BinaryHeap::new(),
            cursor: 0,
            levels: [Level::new(), Level::new(), Level::new()],
            far: Vec::new(),
            len: 0,
        }
    }
}

impl Wheel {
    /// Entries pending.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.len += 1;
        if entry.order.at >> GRAIN <= self.cursor {
            self.late.push(Reverse(entry));
        } else {
            self.file(entry);
        }
    }

    /// When the next event is due.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        if self.current.is_empty() && self.late.is_empty() {
            self.turn()?;
        }
        let current = self.current.last().map(|entry| entry.order.at);
        let late = self.late.peek().map(|Reverse(entry)| entry.order.at);
        current.into_iter().chain(late).min()
    }

    /// Takes the next entry, if it is due before `until`.
    pub(crate) fn pop_before(&mut self, until: u64) -> Option<Entry> {
        if self.late.is_empty()
            && let Some(next) = self.current.last()
        {
            if next.order.at >= until {
                return None;
            }
            self.len -= 1;
            return self.current.pop();
        }
        if self.next_at()? >= until {
            return None;
        }
        self.pop()
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.current.is_empty() && self.late.is_empty() {
            self.turn()?;
        }
        self.len -= 1;
        match (self.current.last(), self.late.peek()) {
            (Some(current), Some(Reverse(late))) if late.key() < current.key() => {
                self.late.pop().map(|Reverse(entry)| entry)
            }
            (None, Some(_)) => self.late.pop().map(|Reverse(entry)| entry),
            _ => self.current.pop(),
        }
    }

    /// Puts an entry of a later bucket where it belongs: on the level on which its bucket and
    /// the current one differ first.
    fn file(&mut self, entry: Entry) {
        let bucket = entry.order.at >> GRAIN;
        let differ = bucket ^ self.cursor;
        for (number, level) in self.levels.iter_mut().enumerate() {
            let shift = BITS * number as u32;
            if differ >> shift < SLOTS as u64 {
                level.push((bucket >> shift) as usize % SLOTS, entry);
                return;
            }
        }
        self.far.push(entry);
    }

    /// Brings the next bucket that is not empty to its turn; `None` when nothing is pending.
    fn turn(&mut self) -> Option<()> {
        loop {
            let slot = self.cursor as usize % SLOTS;
            if let Some(next) = self.levels[0].after(slot) {
                self.cursor = self.cursor - slot as u64 + next as u64;
                let mut empty = std::mem::take(&mut self.current);
                if empty.capacity() > KEPT {
                    empty = Vec::new();
                }
                self.current = self.levels[0].take(next, empty);
                break;
            }
            self.descend()?;
            if !self.current.is_empty() {
                break;
            }
        }
        sort(&mut self.current);
        Some(())
    }

    /// Spreads the next used bucket of a higher level over the levels below it.
    fn descend(&mut self) -> Option<()> {
        for number in 1..LEVELS {
            let shift = BITS * number as u32;
            let slot = (self.cursor >> shift) as usize % SLOTS;
            let Some(next) = self.levels[number].after(slot) else {
                continue;
            };
            let entries = self.levels[number].take(next, Vec::new());
            let block = (self.cursor >> shift) - slot as u64 + next as u64;
            self.cursor = block << shift;
            self.spread(entries);
            return Some(());
        }
        let first = self.far.iter().map(|entry| entry.order.at >> GRAIN).min()?;
        self.cursor = first;
        let far = std::mem::take(&mut self.far);
        self.spread(far);
        Some(())
    }

    fn spread(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if entry.order.at >> GRAIN == self.cursor {
                self.current.push(entry);
            } else {
                self.file(entry);
            }
        }
    }
}

/// Sorts entries, the next one last. Almost never do two differ in the source's count alone.
fn sort(entries: &mut [Entry]) {
    entries.sort_unstable_by_key(|entry| Reverse(entry.high()));
    if entries
        .windows(2)
        .any(|pair| pair[0].high() == pair[1].high())
    {
        entries.sort_unstable_by_key(|entry| Reverse(entry.key()));
    }
}

/// What events carry, in places that are used again.
pub(crate) struct Store<T> {
    places: Vec<Place<T>>,
    free: u32,
}

enum Place<T> {
    Full(T),
    /// The next free place.
    Free(u32),
}

const NONE: u32 = u32::MAX;

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: NONE,
        }
    }
}

impl<T> Store<T> {
    pub(crate) fn put(&mut self, value: T) -> u32 {
        let place = self.free;
        match self.places.get_mut(place as usize) {
            Some(free) => {
                if let Place::Free(next) = std::mem::replace(free, Place::Full(value)) {
                    self.free = next;
                }
                place
            }
            None => {
                self.places.push(Place::Full(value));
                self.places.len() as u32 - 1
            }
        }
    }

    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        let full = self.places.get_mut(place as usize)?;
        if matches!(full, Place::Free(_)) {
            return None;
        }
        let Place::Full(value) = std::mem::replace(full, Place::Free(self.free)) else {
            return None;
        };
        self.free = place;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{TestResult, quickcheck};

    /// The queue as it was before: nothing but a binary heap.
    #[derive(Default)]
    struct Heap(BinaryHeap<Reverse<Entry>>);

    impl Heap {
        fn pop(&mut self) -> Option<Entry> {
            self.0.pop().map(|Reverse(entry)| entry)
        }
    }

    /// Delays of all sizes, most of them small, some of them equal.
    fn delay(kind: u8, number: u32) -> u64 {
        let number = u64::from(number);
        match kind % 8 {
            0 => 0,
            1 => number % 4,
            2 => number % 300,
            3 => number % 300_000,
            4 => number,
            5 => number << 10,
            6 => number << 20,
            _ => (number % 64) << GRAIN,
        }
    }

    quickcheck! {
        fn agrees_with_a_heap(steps: Vec<(u8, u8, u32)>) -> TestResult {
            let (mut wheel, mut heap) = (Wheel::default(), Heap::default());
            let mut now = 1_000_000;
            for (sequence, (kind, host, number)) in steps.into_iter().enumerate() {
                if kind % 3 == 0 {
                    let (ours, theirs) = (wheel.pop_before(u64::MAX), heap.pop());
                    if ours != theirs {
                        return TestResult::error(format!("{ours:?} for {theirs:?}"));
                    }
                    now = ours.map_or(now, |entry| entry.order.at);
                    continue;
                }
                let order = Order {
                    at: now + delay(kind / 3, number),
                    to: u32::from(host % 4),
                    from: u32::from(host / 64),
                    sequence: sequence as u32,
                };
                let entry = Entry { order, what: number };
                wheel.push(entry);
                heap.0.push(Reverse(entry));
                if kind % 5 == 0 {
                    let next = heap.0.peek().map(|Reverse(entry)| entry.order.at);
                    if wheel.next_at() != next {
                        return TestResult::error("another next");
                    }
                }
                if wheel.len() != heap.0.len() {
                    return TestResult::error("another length");
                }
            }
            while let Some(theirs) = heap.pop() {
                if wheel.pop() != Some(theirs) {
                    return TestResult::error(format!("not {theirs:?}"));
                }
            }
            TestResult::from_bool(wheel.pop().is_none() && wheel.len() == 0)
        }

        fn places_are_used_again(steps: Vec<Option<u8>>) -> bool {
            let mut store = Store::default();
            let mut held: Vec<(u32, usize)> = Vec::new();
            let mut most = 0;
            for (number, step) in steps.iter().enumerate() {
                match step {
                    Some(_) => held.push((store.put(number), number)),
                    None => {
                        if let Some((place, number)) = held.pop() {
                            assert_eq!(store.take(place), Some(number));
                            assert_eq!(store.take(place), None);
                        }
                    }
                }
                most = most.max(held.len());
            }
            store.places.len() == most
        }
    }

    #[test]
    fn events_of_one_moment_come_by_destination_source_and_count() {
        let mut wheel = Wheel::default();
        let mut orders = Vec::new();
        for (to, from, sequence) in [(2, 1, 1), (1, 2, 9), (1, 1, 7), (1, 1, 6), (0, 9, 2)] {
            let order = Order {
                at: 70,
                to,
                from,
                sequence,
            };
            wheel.push(Entry { order, what: 0 });
            orders.push(order);
        }
        orders.sort_unstable();
        let popped = std::iter::from_fn(|| wheel.pop()).map(|entry| entry.order);
        assert_eq!(popped.collect::<Vec<_>>(), orders);
    }
}
