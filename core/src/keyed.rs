//! The one place where the core uses a hash map.

use core::hash::Hash;

use foldhash::fast::FixedState;

#[expect(
    clippy::disallowed_types,
    reason = "what wraps it cannot be iterated, so its order shows nowhere"
)]
type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// Values by key, to be looked up one by one. The order of a hash map depends on its hasher and
/// its history, and so this one has no iterator.
#[derive(Clone)]
pub(crate) struct Keyed<K, V>(Map<K, V>);

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self(Map::with_hasher(FixedState::with_seed(0)))
    }
}

impl<K, V> core::fmt::Debug for Keyed<K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl<K: Eq + Hash, V> Keyed<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
