//! Deadlines of many owners, and the earliest of them.

use alloc::vec::Vec;
use core::hash::Hash;

use crate::keyed::Keyed;
use crate::time::Instant;

/// A queue of deadlines over keys of type `K`, at most one for each key.
///
/// Cancellation is lazy: a deadline that moved to a later moment stays where it is, and its owner,
/// woken too early, says anew when it wants to be woken. One that moves to an earlier moment takes
/// its entry along, and one whose owner is gone leaves with it ([`Deadlines::disarm`]). So there
/// are never more entries than owners, however often each of them changes its mind.
#[derive(Debug, Clone)]
pub struct Deadlines<K> {
    /// A binary heap, earliest first; of one moment, the smallest key first.
    heap: Vec<(Instant, K)>,
    /// Where in the heap each key is.
    places: Keyed<K, u32>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            heap: Vec::new(),
            places: Keyed::default(),
        }
    }
}

impl<K: Ord + Hash + Copy> Deadlines<K> {
    /// Queues `key` for `at`, unless it is queued for an earlier moment. O(log n).
    pub fn arm(&mut self, at: Instant, key: K) {
        let place = match self.places.get(&key) {
            Some(place) if self.heap[*place as usize].0 <= at => return,
            Some(place) => *place as usize,
            None => {
                self.heap.push((at, key));
                self.heap.len() - 1
            }
        };
        self.heap[place].0 = at;
        self.rise(place);
    }

    /// Takes the entry of `key` out, if it has one. O(log n).
    pub fn disarm(&mut self, key: K) {
        if let Some(place) = self.places.get(&key) {
            self.take(*place as usize);
        }
    }

    /// The earliest entry; its owner may want a later moment by now. O(1).
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes one entry that is due at `now`, the earliest. O(log n).
    pub fn expire(&mut self, now: Instant) -> Option<(Instant, K)> {
        let (at, _) = self.heap.first()?;
        (*at <= now).then(|| self.take(0))
    }

    /// Entries queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn take(&mut self, place: usize) -> (Instant, K) {
        let entry = self.heap.swap_remove(place);
        self.places.remove(&entry.1);
        if place < self.heap.len() {
            // What came from the end may belong further up or further down.
            let place = self.rise(place);
            self.sink(place);
        }
        entry
    }

    /// Moves an entry towards the front as far as it belongs, notes where it and those it passed
    /// are, and says where it ended.
    fn rise(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            let child = match (self.heap.get(left), self.heap.get(right)) {
                (Some(a), Some(b)) if b < a => right,
                (Some(_), _) => left,
                (None, _) => break,
            };
            if entry <= self.heap[child] {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: (Instant, K)) {
        self.heap[place] = entry;
        // No queue has 2^32 entries.
        self.places.insert(entry.1, place as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use quickcheck::quickcheck;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros + 1)
    }

    #[test]
    fn an_owner_that_changes_its_mind_has_one_entry() {
        let mut deadlines = Deadlines::default();
        for round in 0..10_000 {
            // Each wants a later moment, then one sooner than ever: what a flood of small
            // messages makes of a connection.
            for owner in 0..20 {
                deadlines.arm(at(1_000_000 + round), owner);
                deadlines.arm(at(500_000 - round), owner);
            }
            assert_eq!(deadlines.len(), 20);
        }
        assert_eq!(deadlines.next(), Some(at(490_001)));
        assert_eq!(deadlines.expire(at(490_001)), Some((at(490_001), 0)));
        deadlines.disarm(1);
        deadlines.disarm(1);
        assert_eq!(deadlines.expire(at(490_001)), Some((at(490_001), 2)));
        assert_eq!(deadlines.len(), 17);
    }

    quickcheck! {
        /// It does what a sorted map of owners does, and every owner's place is the right one.
        fn agrees_with_a_sorted_list(steps: Vec<(u8, u8, u16)>) -> bool {
            let mut deadlines = Deadlines::default();
            let mut model: BTreeMap<u8, Instant> = BTreeMap::new();
            for (kind, key, moment) in steps {
                let (key, moment) = (key % 40, at(u64::from(moment % 64)));
                match kind % 4 {
                    0 | 1 => {
                        deadlines.arm(moment, key);
                        let queued = model.entry(key).or_insert(moment);
                        *queued = moment.min(*queued);
                    }
                    2 => {
                        deadlines.disarm(key);
                        model.remove(&key);
                    }
                    _ => {
                        let first = model.iter().map(|(key, at)| (*at, *key)).min();
                        let due = first.filter(|(at, _)| *at <= moment);
                        assert_eq!(deadlines.expire(moment), due);
                        if let Some((_, key)) = due {
                            model.remove(&key);
                        }
                    }
                }
                assert_eq!(deadlines.next(), model.values().min().copied());
                assert_eq!(deadlines.len(), model.len());
                assert_eq!(deadlines.places.len(), model.len());
                for (place, (_, key)) in deadlines.heap.iter().enumerate() {
                    assert_eq!(deadlines.places.get(key), Some(&(place as u32)));
                }
            }
            true
        }
    }
}
