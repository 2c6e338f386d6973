//! The bytes of blocks on their way to disk: the budget that parks reading.

use alloc::collections::BTreeMap;

use crate::config::Limits;
use crate::io::TorrentId;

/// What a write costs to remember besides its bytes, so that a peer that sends a byte at a time
/// does not get thousands of jobs for the price of one block.
const WRITE_OVERHEAD: u64 = 256;

/// How much block data the host has been given and has not answered for, and how much more may
/// be read.
///
/// The engine counts from each `Write` job to its answer, since it alone sees both for every
/// torrent, those that are gone included. Whatever counts waits for the host alone, never for a
/// remote: bytes of a partial piece stop counting when their writes are answered, for the host
/// keeps or spills them within a budget of its own. So no set of partial pieces, however large,
/// can park reading for ever. And a torrent with less than its share under way is read for
/// whatever others do, so that one disk that hangs does not stop the rest.
///
/// The bytes under way are never more than one and a half budgets, one share per torrent and one
/// smallest window per connection: reading is allowed while they are below the budget, and what
/// may come then is what was allowed to be read ahead, of which half a budget at most exceeds the
/// smallest windows.
#[derive(Debug)]
pub struct DiskBudget {
    budget: u64,
    share: u64,
    min_window: u32,
    /// Cost of what is under way.
    cost: u64,
    torrents: BTreeMap<TorrentId, u64>,
    /// Credit given to connections beyond the smallest window, and not used yet.
    ahead: u64,
}

impl DiskBudget {
    /// Nothing under way. Connections are granted `min_window` bytes whatever others hold.
    #[must_use]
    pub fn new(limits: &Limits, min_window: u32) -> Self {
        Self {
            budget: limits.disk_budget,
            share: limits.min_disk_share,
            min_window,
            cost: 0,
            torrents: BTreeMap::new(),
            ahead: 0,
        }
    }

    /// A write of `bytes` was handed to the host.
    pub fn begun(&mut self, torrent: TorrentId, bytes: u32) {
        let cost = u64::from(bytes) + WRITE_OVERHEAD;
        self.cost += cost;
        *self.torrents.entry(torrent).or_default() += cost;
    }

    /// The host answered a write of `bytes`.
    pub fn ended(&mut self, torrent: TorrentId, bytes: u32) {
        let cost = u64::from(bytes) + WRITE_OVERHEAD;
        self.cost = self.cost.saturating_sub(cost);
        if let Some(used) = self.torrents.get_mut(&torrent) {
            *used = used.saturating_sub(cost);
            if *used == 0 {
                self.torrents.remove(&torrent);
            }
        }
    }

    /// Whether more may be read for `torrent`.
    #[must_use]
    pub fn may_read(&self, torrent: TorrentId) -> bool {
        self.cost < self.budget || self.torrents.get(&torrent).copied().unwrap_or(0) < self.share
    }

    /// The bytes a connection that holds `credit` may read ahead, `wanted` if there is room.
    #[must_use]
    pub fn window(&self, credit: u32, wanted: u32) -> u32 {
        let room = (self.budget / 2).saturating_sub(self.ahead) + self.beyond(credit);
        let more = u64::from(wanted.saturating_sub(self.min_window)).min(room);
        self.min_window + more as u32
    }

    /// The credit of a connection changed: given, used, or gone with it.
    pub fn credit_changed(&mut self, before: u32, after: u32) {
        self.ahead = self.ahead.saturating_sub(self.beyond(before)) + self.beyond(after);
    }

    fn beyond(&self, credit: u32) -> u64 {
        credit.saturating_sub(self.min_window).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    fn torrent(number: u64) -> TorrentId {
        TorrentId::from_bits(number)
    }

    fn budget() -> DiskBudget {
        let limits = Limits {
            disk_budget: 1 << 20,
            min_disk_share: 64 << 10,
            ..Limits::default()
        };
        DiskBudget::new(&limits, 32 << 10)
    }

    #[test]
    fn a_torrent_that_hangs_parks_itself_and_leaves_others_their_share() {
        let mut disk = budget();
        disk.begun(torrent(1), 1 << 20);
        assert!(!disk.may_read(torrent(1)));
        assert!(disk.may_read(torrent(2)));
        disk.begun(torrent(2), 64 << 10);
        assert!(!disk.may_read(torrent(2)));
        disk.ended(torrent(2), 64 << 10);
        assert!(disk.may_read(torrent(2)));
        disk.ended(torrent(1), 1 << 20);
        assert!(disk.may_read(torrent(1)) && disk.torrents.is_empty());
    }

    #[test]
    fn many_small_writes_fill_the_budget_too() {
        let mut disk = budget();
        let mut writes = 0;
        while disk.may_read(torrent(1)) {
            disk.begun(torrent(1), 1);
            writes += 1;
        }
        assert_eq!(writes, (1u64 << 20).div_ceil(1 + WRITE_OVERHEAD));
    }

    quickcheck! {
        fn what_may_come_is_bounded(steps: Vec<(u8, u8, u32)>) -> bool {
            let mut disk = budget();
            let mut conns = [0u32; 12];
            for (kind, conn, bytes) in steps {
                let credit = &mut conns[usize::from(conn) % 12];
                let before = *credit;
                match kind % 3 {
                    0 => *credit = before.max(disk.window(before, bytes % (1 << 21))),
                    1 => *credit -= bytes % (before + 1),
                    _ => *credit = 0,
                }
                disk.credit_changed(before, *credit);
                let given: u64 = conns.iter().map(|credit| u64::from(*credit)).sum();
                assert!(given <= disk.budget / 2 + 12 * u64::from(disk.min_window));
            }
            conns.iter_mut().for_each(|credit| disk.credit_changed(core::mem::take(credit), 0));
            disk.ahead == 0
        }
    }
}
