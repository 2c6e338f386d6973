//! Rates: what all torrents together, and each by itself, may download and upload in a second.
//!
//! Uploads are granted ahead: a refill deals what is new among the torrents that use theirs, and
//! what one does not want the others get. Downloads are counted as they arrive: while nothing is
//! left nobody is read from, and whoever is read from is given little at a time, so that the little
//! that many may have been given at once does not count.

use alloc::vec::Vec;

use super::Engine;
use super::grants::Grants;
use crate::config::Limits;
use crate::io::{Rates, TorrentId};
use crate::swarm::picker::BLOCK_LENGTH;

const SECOND: u64 = 1_000_000;

/// A rate and what is left of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    /// Bytes per second; 0 is no limit.
    pub(super) rate: u64,
    /// Bytes that may flow; negative after more came than was left.
    left: i64,
    /// Millionths of a byte that the last refill was too short for.
    rest: u64,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            ..Self::default()
        }
    }

    /// Whether anything may flow.
    pub(super) fn is_open(&self) -> bool {
        self.rate == 0 || self.left > 0
    }

    /// Time passes; at most `most` bytes are kept.
    fn refill(&mut self, micros: u64, most: u64) {
        let new = u128::from(self.rate) * u128::from(micros) + u128::from(self.rest);
        self.rest = (new % u128::from(SECOND)) as u64;
        let new = i64::try_from(new / u128::from(SECOND)).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(new).min(most);
    }

    /// Bytes have flowed.
    pub(super) fn take(&mut self, bytes: u64) {
        if self.rate > 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.left = self.left.saturating_sub(bytes);
        }
    }

    /// Bytes that may flow now.
    fn available(&self) -> u64 {
        match self.rate {
            0 => u64::MAX,
            _ => u64::try_from(self.left).unwrap_or(0),
        }
    }
}

/// A torrent that may lack part of its allowance of uploads.
struct Hungry {
    torrent: TorrentId,
    /// Bytes that it may be given.
    room: u64,
}

impl Limits {
    /// What is kept of a rate while it is not used, bytes; `least` at least.
    fn burst(&self, rate: u64, least: u32) -> u64 {
        let millis = u64::try_from(self.rate_burst.as_millis()).unwrap_or(u64::MAX);
        let burst = u128::from(rate) * u128::from(millis) / 1_000;
        u64::try_from(burst).unwrap_or(u64::MAX).max(least.into())
    }

    fn download_burst(&self, rate: u64) -> u64 {
        self.burst(rate, self.min_rate_share)
    }

    /// A block at least, since nothing less can be sent.
    fn upload_burst(&self, rate: u64) -> u64 {
        self.burst(rate, BLOCK_LENGTH)
    }
}

impl Grants {
    /// Bytes that a connection of `torrent` may be given to read at once, of all `conns`. All that
    /// they have been given together is a small part of what a second brings.
    pub(super) fn read_ahead(
        &self,
        torrent: Option<TorrentId>,
        conns: usize,
        limits: &Limits,
    ) -> u32 {
        let own = torrent.and_then(|torrent| self.dealt.get(&torrent));
        let rates = [self.download.rate, own.map_or(0, |own| own.download.rate)];
        let rate = rates.into_iter().filter(|rate| *rate > 0).min();
        let Some(rate) = rate else { return u32::MAX };
        let share = limits.download_burst(rate) / 2 / (conns as u64).max(1);
        let share = share.max(limits.min_rate_share.into());
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    pub(super) fn refill_download(&mut self, limits: &Limits, micros: u64) {
        self.download
            .refill(micros, limits.download_burst(self.download.rate));
        for torrent in &self.limited {
            if let Some(dealt) = self.dealt.get_mut(torrent) {
                let most = limits.download_burst(dealt.download.rate);
                dealt.download.refill(micros, most);
            }
        }
    }

    /// Whether a rate may be what keeps a connection from being read.
    pub(super) fn reads_wait(&self) -> bool {
        !self.parked.is_empty() && (self.download.rate > 0 || !self.limited.is_empty())
    }
}

impl Engine {
    /// Sets what one torrent may use of the rates, bytes per second; 0 is no limit of its own.
    pub(super) fn limit_torrent(&mut self, torrent: TorrentId, rates: Rates) -> bool {
        let Some(entry) = self.torrents.at(torrent.0) else {
            return false;
        };
        let claimed = entry.swarm.upload_claimed();
        let was_limited = self.grants.limits_upload(torrent);
        let Some(dealt) = self.grants.dealt.get_mut(&torrent) else {
            return false;
        };
        dealt.download.rate = rates.download;
        dealt.upload.rate = rates.upload;
        match rates {
            Rates {
                download: 0,
                upload: 0,
            } => self.grants.limited.remove(&torrent),
            _ => self.grants.limited.insert(torrent),
        };
        if self.grants.limits_upload(torrent) {
            if !was_limited && let Some(dealt) = self.grants.dealt.get_mut(&torrent) {
                dealt.grant.upload_total = claimed;
            }
            self.grants.on_upload(torrent);
        }
        self.grant(torrent);
        true
    }

    /// Deals what is new of the rate of uploads among the torrents that want more: all get the
    /// same, but none more than it can use, and none more than its own rate.
    pub(super) fn refill_upload(&mut self, limits: &Limits, micros: u64) {
        let grants = &mut self.grants;
        for torrent in &grants.limited {
            if let Some(dealt) = grants.dealt.get_mut(torrent) {
                let most = limits.upload_burst(dealt.upload.rate);
                dealt.upload.refill(micros, most);
            }
        }
        let most = limits.upload_burst(grants.upload.rate);
        grants.upload.refill(micros, most);
        let (mut hungry, mut quiet_ones) = (Vec::<Hungry>::new(), Vec::new());
        for torrent in core::mem::take(&mut grants.uploading) {
            let (Some(entry), Some(dealt)) =
                (self.torrents.at(torrent.0), grants.dealt.get_mut(&torrent))
            else {
                continue;
            };
            let claimed = entry.swarm.upload_claimed();
            let total = &mut dealt.grant.upload_total;
            let block = u64::from(BLOCK_LENGTH);
            let quiet = core::mem::replace(&mut dealt.claimed, claimed) == claimed;
            let left = total.saturating_sub(claimed);
            if quiet && left >= block {
                // What it does not use is for others; with a block left it can begin again.
                *total = claimed + block;
                quiet_ones.push(torrent);
                continue;
            }
            let rates = [limits.upload_rate, dealt.upload.rate].into_iter();
            let rate = rates.filter(|rate| *rate > 0).min().unwrap_or(0);
            let room = limits.upload_burst(rate).saturating_sub(left);
            let room = room.min(dealt.upload.available());
            hungry.push(Hungry { torrent, room });
            grants.uploading.insert(torrent);
        }
        for torrent in quiet_ones {
            self.grant(torrent);
        }
        // Whoever can use least first: what it leaves is for those who follow.
        hungry.sort_by_key(|hungry| (hungry.room, hungry.torrent));
        let mut among = hungry.len() as u64;
        for Hungry { torrent, room } in hungry {
            let share = self.grants.upload.available() / among.max(1);
            let given = room.min(share);
            among -= 1;
            self.grants.upload.take(given);
            if let Some(dealt) = self.grants.dealt.get_mut(&torrent) {
                dealt.upload.take(given);
                dealt.grant.upload_total = dealt.grant.upload_total.saturating_add(given);
            }
            self.grant(torrent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    quickcheck! {
        fn a_bucket_loses_nothing_to_rounding_and_keeps_no_more_than_it_may(
            rate: u16, most: u16, steps: Vec<(u16, u16)>
        ) -> bool {
            let rate = u64::from(rate) + 1;
            let most = u64::from(most) + rate;
            let mut bucket = Bucket::new(rate);
            let (mut micros, mut taken, mut spilled) = (0u64, 0u64, false);
            for (pause, bytes) in steps {
                micros += u64::from(pause);
                bucket.refill(pause.into(), most);
                spilled |= bucket.available() == most;
                if bucket.is_open() {
                    bucket.take(bytes.into());
                    taken += u64::from(bytes);
                }
                assert!(bucket.available() <= most);
            }
            let came = i64::try_from(rate * micros / SECOND).unwrap();
            let left = bucket.left + i64::try_from(taken).unwrap();
            left == came || (spilled && left < came)
        }
    }
}
