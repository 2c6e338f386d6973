//! What all torrents share, dealt out: connections, attempts, disk bytes, rates.
//!
//! A swarm never looks at another; it gets allowances, and connections get read credit.

use super::rates::Bucket;
use super::{Engine, Ordered, Wake};
use crate::config::{Config, Limits};
use crate::io::{ConnId, Outbox, TorrentId};
use crate::storage::DiskBudget;
use crate::swarm::{self, Grant};
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;

/// Time between refills of attempts and rates while somebody needs them.
const REFILL: Duration = Duration::from_millis(100);
/// Torrents that get new allowances in one refill.
const GRANTED_PER_REFILL: usize = 64;

#[derive(Debug)]
pub(super) struct Grants {
    pub(super) dealt: BTreeMap<TorrentId, Dealt>,
    /// Torrents with rates of their own.
    pub(super) limited: Ordered<TorrentId>,
    /// Torrents that used up an allowance.
    needy: Ordered<TorrentId>,
    /// Where the last refill of needy torrents ended, so that each gets its turn.
    turn: Option<TorrentId>,
    /// Connections that are not read from, by torrent.
    pub(super) parked: BTreeMap<TorrentId, Ordered<ConnId>>,
    parked_turn: Option<(TorrentId, ConnId)>,
    pub(super) disk: DiskBudget,
    /// Payload and protocol bytes that may be read.
    pub(super) download: Bucket,
    /// Bytes of blocks and metadata that may be sent, and have not been dealt out.
    pub(super) upload: Bucket,
    connect_tokens_millionths: u64,
    /// Torrents that may lack part of their allowance of uploads.
    pub(super) uploading: Ordered<TorrentId>,
    refilled: Instant,
    armed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dealt {
    pub(super) grant: Grant,
    connects_used: u64,
    /// What the torrent may use of the rates.
    pub(super) download: Bucket,
    pub(super) upload: Bucket,
    /// What it had claimed of uploads at the last refill.
    pub(super) claimed: u64,
}

impl Grants {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            dealt: BTreeMap::new(),
            limited: Ordered::new(),
            needy: Ordered::new(),
            turn: None,
            parked: BTreeMap::new(),
            parked_turn: None,
            disk: DiskBudget::new(&config.limits, config.wire.min_receive_window),
            download: Bucket::new(config.limits.download_rate),
            upload: Bucket::new(config.limits.upload_rate),
            connect_tokens_millionths: 0,
            uploading: Ordered::new(),
            refilled: now,
            armed: None,
        }
    }

    pub(super) fn torrent_added(&mut self, torrent: TorrentId) {
        self.dealt.insert(torrent, Dealt::default());
        self.needy.insert(torrent);
    }

    pub(super) fn torrent_removed(&mut self, torrent: TorrentId) {
        self.dealt.remove(&torrent);
        self.limited.remove(&torrent);
        self.needy.remove(&torrent);
        self.uploading.remove(&torrent);
    }

    pub(super) fn on_peer_connected(&mut self, torrent: TorrentId) {
        self.on_upload(torrent);
    }

    /// Whether a rate limits what a torrent uploads.
    pub(super) fn limits_upload(&self, torrent: TorrentId) -> bool {
        let own = self.dealt.get(&torrent);
        self.upload.rate > 0 || own.is_some_and(|own| own.upload.rate > 0)
    }

    pub(super) fn on_connect(&mut self, torrent: TorrentId) {
        if let Some(dealt) = self.dealt.get_mut(&torrent) {
            dealt.connects_used += 1;
            if dealt.connects_used >= dealt.grant.connects_total {
                self.needy.insert(torrent);
            }
        }
    }

    /// A torrent uploads a block or metadata, or has a peer more to upload to.
    pub(super) fn on_upload(&mut self, torrent: TorrentId) {
        if self.limits_upload(torrent) {
            self.uploading.insert(torrent);
        }
    }

    pub(super) fn on_received(&mut self, torrent: Option<TorrentId>, bytes: u64) {
        self.download.take(bytes);
        if let Some(dealt) = torrent.and_then(|torrent| self.dealt.get_mut(&torrent)) {
            dealt.download.take(bytes);
        }
    }

    /// Whether a connection of `torrent` may be given read credit.
    pub(super) fn may_read(&self, torrent: TorrentId) -> bool {
        let own = self.dealt.get(&torrent);
        self.disk.may_read(torrent)
            && self.download.is_open()
            && own.is_none_or(|own| own.download.is_open())
    }

    pub(super) fn park(&mut self, torrent: TorrentId, conn: ConnId) {
        self.parked.entry(torrent).or_default().insert(conn);
    }

    pub(super) fn forget_parked(&mut self, torrent: TorrentId, conn: ConnId) {
        if let Some(conns) = self.parked.get_mut(&torrent) {
            conns.remove(&conn);
            if conns.is_empty() {
                self.parked.remove(&torrent);
            }
        }
    }

    /// The next torrent in turn that has parked connections and may be read for.
    fn next_to_unpark(&self) -> Option<TorrentId> {
        use core::ops::Bound::{Excluded, Unbounded};
        let after = self
            .parked_turn
            .map_or(Unbounded, |(turn, _)| Excluded(turn));
        let later = self.parked.range((after, Unbounded));
        let mut torrents = later.chain(&self.parked).map(|(torrent, _)| *torrent);
        torrents.find(|torrent| self.may_read(*torrent))
    }

    /// Takes the next parked connection in turn.
    fn unpark(&mut self) -> Option<ConnId> {
        let torrent = self.next_to_unpark()?;
        let turn = self.parked_turn.map(|(_, conn)| conn);
        let conn = next_in_turn(self.parked.get(&torrent)?, turn)?;
        self.forget_parked(torrent, conn);
        self.parked_turn = Some((torrent, conn));
        Some(conn)
    }
}

/// The member after `turn`, or the first.
fn next_in_turn<K: Ord + Copy>(members: &Ordered<K>, turn: Option<K>) -> Option<K> {
    use core::ops::Bound::{Excluded, Unbounded};
    turn.and_then(|turn| members.range((Excluded(turn), Unbounded)).next())
        .or_else(|| members.first())
        .copied()
}

impl Engine {
    /// After every input: parked connections that may read again get their credit, and a refill
    /// is planned while anybody waits for one.
    pub(super) fn settle(&mut self, out: &mut Outbox) {
        for _ in 0..self.config.limits.resumed_per_input {
            let Some(conn) = self.grants.unpark() else {
                break;
            };
            self.give_credit(conn, out);
        }
        self.arm_grants();
    }

    /// Plans a refill if anybody waits for one that time alone brings.
    pub(super) fn arm_grants(&mut self) {
        let grants = &mut self.grants;
        let rate_waits = grants.reads_wait();
        // Parked connections that the disk holds back are resumed by its answers; those that one
        // input left over are resumed at once.
        let left_over = grants.next_to_unpark().is_some();
        let uploads_wait = !grants.uploading.is_empty();
        if grants.needy.is_empty() && !rate_waits && !left_over && !uploads_wait {
            return;
        }
        let at = if left_over {
            self.now
        } else {
            self.now.max(grants.refilled) + REFILL
        };
        Self::arm(
            &mut self.deadlines,
            &mut grants.armed,
            Some(at),
            Wake::Grants,
        );
    }

    pub(super) fn wake_grants(&mut self) {
        self.grants.armed = None;
        let passed = self.now.saturating_since(self.grants.refilled);
        if passed < REFILL {
            return;
        }
        self.grants.refilled = self.now;
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let limits = self.config.limits.clone();
        self.grants.refill_download(&limits, micros);
        self.refill_connects(&limits, micros);
        self.refill_upload(&limits, micros);
    }

    fn refill_connects(&mut self, limits: &Limits, micros: u64) {
        let rate = u64::from(limits.connects_per_second);
        let tokens = &mut self.grants.connect_tokens_millionths;
        *tokens = tokens
            .saturating_add(rate.saturating_mul(micros))
            .min(rate * 1_000_000);
        // A torrent alone gets the whole refill; many get one attempt each, in turn.
        let share = (*tokens / 1_000_000 / (self.grants.needy.len() as u64).max(1)).max(1);
        for _ in 0..GRANTED_PER_REFILL {
            if self.grants.connect_tokens_millionths < share * 1_000_000 {
                break;
            }
            let Some(torrent) = next_in_turn(&self.grants.needy, self.grants.turn) else {
                break;
            };
            self.grants.turn = Some(torrent);
            self.grants.needy.remove(&torrent);
            self.grants.connect_tokens_millionths -= share * 1_000_000;
            if let Some(dealt) = self.grants.dealt.get_mut(&torrent) {
                dealt.grant.connects_total = dealt.connects_used + share;
            }
            self.grant(torrent);
        }
    }

    /// Sends a swarm its allowances.
    pub(super) fn grant(&mut self, torrent: TorrentId) {
        let limits = &self.config.limits;
        let torrents = (self.torrents.len() as u64).max(1);
        let Some(dealt) = self.grants.dealt.get_mut(&torrent) else {
            return;
        };
        let grant = &mut dealt.grant;
        grant.connections =
            (u64::from(limits.max_connections) / torrents).clamp(2, u64::from(u16::MAX)) as u32;
        grant.read_bytes = (limits.read_budget / torrents).max(limits.min_read_share);
        if limits.upload_rate == 0 && dealt.upload.rate == 0 {
            grant.upload_total = u64::MAX;
        }
        // The first peers of a torrent need not wait for a refill.
        grant.connects_total = grant.connects_total.max(2);
        let grant = *grant;
        self.swarm_input(torrent, swarm::Input::Grant(grant));
    }
}
