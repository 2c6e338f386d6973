//! What all torrents share, dealt out: connections, attempts, disk bytes, rates.
//!
//! A swarm never looks at another; it gets allowances, and connections get read credit.

use super::{Engine, Ordered, Wake};
use crate::config::{Config, Limits};
use crate::io::{ConnId, Outbox, TorrentId};
use crate::storage::DiskBudget;
use crate::swarm::{self, Grant};
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;

/// Time between refills of attempts and rates while somebody needs them.
const REFILL: Duration = Duration::from_millis(100);
/// Parked connections that are let on for one input.
const RESUMED_PER_INPUT: usize = 32;
/// Torrents that get new allowances in one refill.
const GRANTED_PER_REFILL: usize = 64;

#[derive(Debug)]
pub(super) struct Grants {
    dealt: BTreeMap<TorrentId, Dealt>,
    /// Torrents that used up an allowance.
    needy: Ordered<TorrentId>,
    /// Where the last refill of needy torrents ended, so that each gets its turn.
    turn: Option<TorrentId>,
    /// Connections that are not read from, by torrent.
    parked: BTreeMap<TorrentId, Ordered<ConnId>>,
    parked_turn: Option<(TorrentId, ConnId)>,
    pub(super) disk: DiskBudget,
    /// Payload and protocol bytes that may still be read; negative after a burst.
    download_tokens: i64,
    download_rate: u64,
    connect_tokens_millionths: u64,
    upload_rate: u64,
    /// Torrents that may lack part of their allowance of uploads.
    pub(super) uploading: Ordered<TorrentId>,
    /// Torrents with peers: each may use an equal share of the rate of uploads.
    pub(super) with_peers: u32,
    /// That share has shrunk: what others did not use of theirs is cut back.
    shares_shrunk: bool,
    refilled: Instant,
    armed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Dealt {
    grant: Grant,
    connects_used: u64,
    peers: u32,
}

impl Grants {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            dealt: BTreeMap::new(),
            needy: Ordered::new(),
            turn: None,
            parked: BTreeMap::new(),
            parked_turn: None,
            disk: DiskBudget::new(&config.limits, config.wire.min_receive_window),
            download_tokens: 0,
            download_rate: config.limits.download_rate,
            connect_tokens_millionths: 0,
            upload_rate: config.limits.upload_rate,
            uploading: Ordered::new(),
            with_peers: 0,
            shares_shrunk: false,
            refilled: now,
            armed: None,
        }
    }

    pub(super) fn torrent_added(&mut self, torrent: TorrentId) {
        self.dealt.insert(torrent, Dealt::default());
        self.needy.insert(torrent);
    }

    pub(super) fn torrent_removed(&mut self, torrent: TorrentId) {
        if self.dealt.remove(&torrent).is_some_and(|it| it.peers > 0) {
            self.with_peers -= 1;
        }
        self.needy.remove(&torrent);
        self.uploading.remove(&torrent);
    }

    pub(super) fn on_peer_connected(&mut self, torrent: TorrentId) {
        if let Some(dealt) = self.dealt.get_mut(&torrent) {
            dealt.peers += 1;
            if dealt.peers == 1 {
                self.with_peers += 1;
                self.shares_shrunk = true;
            }
            self.on_upload(torrent);
        }
    }

    pub(super) fn on_peer_closed(&mut self, torrent: TorrentId) {
        if let Some(dealt) = self.dealt.get_mut(&torrent) {
            dealt.peers -= 1;
            self.with_peers -= u32::from(dealt.peers == 0);
        }
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
        if self.upload_rate > 0 {
            self.uploading.insert(torrent);
        }
    }

    pub(super) fn on_received(&mut self, bytes: u64) {
        if self.download_rate > 0 {
            self.download_tokens -= i64::try_from(bytes).unwrap_or(i64::MAX);
        }
    }

    /// Whether a connection of `torrent` may be given read credit.
    pub(super) fn may_read(&self, torrent: TorrentId) -> bool {
        self.disk.may_read(torrent) && (self.download_rate == 0 || self.download_tokens > 0)
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
        for _ in 0..RESUMED_PER_INPUT {
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
        let rate_waits = grants.download_rate > 0 && !grants.parked.is_empty();
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
        self.refill_download(&limits, micros);
        self.refill_connects(&limits, micros);
        self.refill_upload(&limits, micros);
    }

    fn refill_download(&mut self, limits: &Limits, micros: u64) {
        let rate = limits.download_rate;
        let new = u128::from(rate) * u128::from(micros) / 1_000_000;
        // A quiet second may be made up for, no more.
        let most = i64::try_from(rate).unwrap_or(i64::MAX);
        let tokens = i64::try_from(new).unwrap_or(i64::MAX);
        self.grants.download_tokens = self.grants.download_tokens.saturating_add(tokens).min(most);
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

    fn refill_upload(&mut self, limits: &Limits, micros: u64) {
        if core::mem::take(&mut self.grants.shares_shrunk) && limits.upload_rate > 0 {
            let others = self.grants.dealt.iter().filter(|(_, it)| it.peers > 0);
            self.grants.uploading.extend(others.map(|(id, _)| *id));
        }
        let share = limits.upload_rate / u64::from(self.grants.with_peers.max(1));
        let new = (u128::from(share) * u128::from(micros) / 1_000_000) as u64;
        for torrent in core::mem::take(&mut self.grants.uploading) {
            let (Some(entry), Some(dealt)) = (
                self.torrents.at(torrent.0),
                self.grants.dealt.get_mut(&torrent),
            ) else {
                continue;
            };
            let total = &mut dealt.grant.upload_total;
            // What was not used may be made up for during one second, no longer.
            let claimed = entry.swarm.upload_claimed();
            let most = claimed.saturating_add(share.max(16_384));
            *total = total.saturating_add(new).min(most);
            if *total < most {
                self.grants.uploading.insert(torrent);
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
        if limits.upload_rate == 0 {
            grant.upload_total = u64::MAX;
        }
        // The first peers of a torrent need not wait for a refill.
        grant.connects_total = grant.connects_total.max(2);
        let grant = *grant;
        self.swarm_input(torrent, swarm::Input::Grant(grant));
    }
}
