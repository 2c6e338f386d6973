//! Parts of the network that do not reach each other for a while.

use std::collections::BTreeSet;

use super::draw::{Purpose, chance, draw};
use super::host::HostId;

/// Hosts that are cut off from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Those on one side; all others are on the other.
    pub side: BTreeSet<HostId>,
    /// Which way nothing gets through.
    pub blocks: Blocks,
    /// Of all pairs with a host on each side so many cannot reach each other, parts per million:
    /// a partition that is only partial. Which ones depends on the seed alone.
    pub pairs_ppm: u32,
}

/// Which way nothing gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Neither.
    Both,
    /// From the named side to the other one.
    Outward,
    /// From the other side to the named one.
    Inward,
}

impl Partition {
    /// A partition that nothing crosses.
    #[must_use]
    pub fn total(side: impl IntoIterator<Item = HostId>) -> Self {
        Self {
            side: side.into_iter().collect(),
            blocks: Blocks::Both,
            pairs_ppm: 1_000_000,
        }
    }

    /// Whether it keeps packets of `from` from `to`.
    pub(crate) fn stops(&self, seed: u64, from: u32, to: u32) -> bool {
        let within = [from, to].map(|host| self.side.contains(&HostId(host)));
        let crosses = match within {
            [true, false] => self.blocks != Blocks::Inward,
            [false, true] => self.blocks != Blocks::Outward,
            _ => false,
        };
        let pair = || {
            let (low, high) = (u64::from(from.min(to)), u64::from(from.max(to)));
            draw(seed, Purpose::Place as u64 ^ 0x9a47, low, high)
        };
        crosses && (self.pairs_ppm >= 1_000_000 || chance(pair(), self.pairs_ppm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stops_what_it_should() {
        let stops = |blocks, from, to| {
            let mut partition = Partition::total([HostId(1), HostId(2)]);
            partition.blocks = blocks;
            partition.stops(1, from, to)
        };
        for (blocks, out, back) in [
            (Blocks::Both, true, true),
            (Blocks::Outward, true, false),
            (Blocks::Inward, false, true),
        ] {
            assert_eq!(stops(blocks, 1, 3), out);
            assert_eq!(stops(blocks, 3, 1), back);
            assert!(!stops(blocks, 1, 2) && !stops(blocks, 3, 4));
        }
    }

    #[test]
    fn a_partial_one_stops_its_share_of_pairs_both_ways_and_always_the_same() {
        let mut partition = Partition::total((0..50).map(HostId));
        partition.pairs_ppm = 300_000;
        let mut stopped = 0;
        for from in 0..50 {
            for to in 50..100 {
                let stops = partition.stops(4, from, to);
                assert_eq!(stops, partition.stops(4, to, from));
                stopped += u32::from(stops);
            }
        }
        assert!((650..850).contains(&stopped), "{stopped}");
    }
}
