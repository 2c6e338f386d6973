//! Room for newcomers when there are as many connections as there may be.
//!
//! A few inbound ones more may shake hands: only then is it known which torrent they are for, and
//! that they are no mere noise. Their torrent gives them a place of its own if one is idle, or any
//! other does, the one with most connections first; only if no place is idle anywhere is it the
//! rank of the newcomer among those of its own torrent that decides.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Engine;
use crate::event::{CloseReason, Expendable};
use crate::io::{ConnId, Outbox, TorrentId};

impl Engine {
    /// Connections that there may be, those included that only shake hands to get a place.
    pub(super) fn most_connections(&self) -> usize {
        let limits = &self.config.limits;
        limits.max_connections as usize + usize::from(limits.spare_connections)
    }

    /// Whether there are more connections than may stay. Those whose handshake is not over do not
    /// stay yet.
    pub(super) fn is_crowded(&self) -> bool {
        let staying = self.conns.len() - self.pending_incoming as usize;
        staying > self.config.limits.max_connections as usize
    }

    /// Ends the idlest connection of another torrent, for a newcomer of `torrent`. Whether there
    /// was one; not looked for while the torrent has one itself.
    pub(super) fn make_room_elsewhere(&mut self, torrent: TorrentId, out: &mut Outbox) -> bool {
        let idlest = |torrent: TorrentId| {
            let entry = self.torrents.at(torrent.0)?;
            entry.swarm.idlest(self.now)
        };
        if idlest(torrent).is_some() {
            return false;
        }
        let mut counts: BTreeMap<TorrentId, u32> = BTreeMap::new();
        for (_, conn) in self.conns.iter() {
            if let Some(of) = conn.torrent().filter(|of| *of != torrent) {
                *counts.entry(of).or_default() += 1;
            }
        }
        let mut most_first: Vec<_> = counts.into_iter().map(|(of, count)| (count, of)).collect();
        most_first.sort_unstable_by(|a, b| b.cmp(a));
        let idle: Option<ConnId> = most_first.into_iter().find_map(|(_, of)| idlest(of));
        if let Some(conn) = idle {
            let reason = CloseReason::MadeRoom(Expendable::Idle);
            self.drop_conn(conn, reason, true, out);
        }
        idle.is_some()
    }
}
