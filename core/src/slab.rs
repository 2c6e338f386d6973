//! A slab whose keys carry a generation, so that a stale key never finds a new tenant.

use alloc::vec::Vec;

/// A key: a place and the generation of its tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Place in the slab.
    pub index: u32,
    /// Which tenant of that place, counted from 0.
    pub generation: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

/// Values under generational keys. Places are reused; keys are not (within 2³² tenants of one
/// place).
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Stores what `make` returns for its new key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place {
                    generation: 0,
                    tenant: None,
                });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[index as usize];
        let key = Key {
            index,
            generation: place.generation,
        };
        place.tenant = Some(make(key));
        key
    }

    /// Stores `value`.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// The key that the next insertion will return.
    #[must_use]
    pub fn next_key(&self) -> Key {
        let index = self.free.last().copied();
        let index = index.unwrap_or(self.places.len() as u32);
        let generation = self.places.get(index as usize);
        Key {
            index,
            generation: generation.map_or(0, |place| place.generation),
        }
    }

    /// The key of whoever lives at a place.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let place = self.places.get(index as usize)?;
        let generation = place.generation;
        place.tenant.as_ref().map(|_| Key { index, generation })
    }

    /// The value under `key`, if that tenant is still there.
    #[must_use]
    pub fn at(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation {
            place.tenant.as_ref()
        } else {
            None
        }
    }

    /// The value under `key`, to change it.
    pub fn at_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation {
            place.tenant.as_mut()
        } else {
            None
        }
    }

    /// Takes the value under `key` out; the key is stale from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(tenant)
    }

    /// Every tenant, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key {
                index: index as u32,
                generation: place.generation,
            };
            place.tenant.as_ref().map(|tenant| (key, tenant))
        })
    }

    /// Number of tenants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether nobody lives here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_never_finds_the_next_tenant() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.key_at(0), Some(first));
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.key_at(0), None);
        let next = slab.next_key();
        let second = slab.insert('b');
        assert_eq!(second, next);
        assert_eq!(slab.next_key().index, 1);
        assert_eq!(first.index, second.index);
        assert_eq!(slab.at(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.at(second), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }
}
