//! Randomness that comes in once, as a seed, and is dealt out as labelled streams.
//!
//! *Secrets* (tokens, transaction ids, keys, peer ids) come from a cipher, so that a remote who
//! sees many of them learns nothing of the next. *Choice* (picker ties, jitter) comes from a
//! small fast generator. The two never share state.

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};

/// What a stream is for. Streams of one seed with different labels are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// Ids, keys and other values the engine makes for itself.
    Engine,
    /// The DHT of one address family (4 or 6).
    Dht(u8),
    /// One torrent, by the order in which it was added.
    Swarm(u64),
    /// Local service discovery.
    Lsd,
    /// What trackers must not guess.
    Trackers,
    /// The trackers of one torrent, by the order in which it was added.
    TrackersOf(u64),
    /// The keys and pads of connections; and, of a connection's own seed, those of one.
    Encryption,
    /// Any machine used on its own, by a number the embedder chose.
    Custom(u64),
}

fn derive(seed: &[u8; 32], domain: &[u8], label: Label) -> [u8; 32] {
    let (kind, number) = match label {
        Label::Engine => (0u8, 0),
        Label::Dht(family) => (1, u64::from(family)),
        Label::Swarm(number) => (2, number),
        Label::Custom(number) => (3, number),
        Label::Lsd => (4, 0),
        Label::Trackers => (5, 0),
        Label::TrackersOf(number) => (6, number),
        Label::Encryption => (7, 0),
    };
    Sha256::new()
        .chain_update(seed)
        .chain_update(domain)
        .chain_update([kind])
        .chain_update(number.to_be_bytes())
        .finalize()
        .into()
}

/// A stream of unpredictable values (ChaCha20).
pub struct Secrets(ChaCha20Rng);

impl Secrets {
    /// The secret stream `label` of `seed`.
    #[must_use]
    pub fn new(seed: &[u8; 32], label: Label) -> Self {
        Self(ChaCha20Rng::from_seed(derive(seed, b"secrets", label)))
    }

    /// Fills `buf`.
    pub fn fill(&mut self, buf: &mut [u8]) {
        self.0.fill_bytes(buf);
    }

    /// `N` unpredictable bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut buf = [0; N];
        self.fill(&mut buf);
        buf
    }

    /// An unpredictable 64-bit number.
    #[must_use]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A stream of fair but predictable values (xoshiro256++).
pub struct Choice(Xoshiro256PlusPlus);

impl Choice {
    /// The choice stream `label` of `seed`.
    #[must_use]
    pub fn new(seed: &[u8; 32], label: Label) -> Self {
        Self(Xoshiro256PlusPlus::from_seed(derive(
            seed, b"choice", label,
        )))
    }

    /// The next 64-bit value.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into a slice of `len` items; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_per_label_and_kind() {
        let seed = [7; 32];
        let first = |label| Choice::new(&seed, label).next_u64();
        assert_eq!(first(Label::Swarm(1)), first(Label::Swarm(1)));
        assert_ne!(first(Label::Swarm(1)), first(Label::Swarm(2)));
        assert_ne!(first(Label::Dht(4)), first(Label::Custom(4)));
        let secret = Secrets::new(&seed, Label::Engine).next_u64();
        assert_ne!(secret, first(Label::Engine));
        assert_ne!(secret, Secrets::new(&[8; 32], Label::Engine).next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_both_ends() {
        let mut choice = Choice::new(&[1; 32], Label::Engine);
        let mut seen = [false; 5];
        for _ in 0..500 {
            seen[choice.index(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(choice.below(0), 0);
    }
}
