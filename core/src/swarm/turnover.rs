//! Near the limit of peers, a few of the least useful make room for others now and then: whoever
//! came first is not always whom it is best to know.

use alloc::vec::Vec;

use super::Swarm;
use super::io::Event;
use crate::event::{CloseReason, Expendable};
use crate::io::ConnId;

impl Swarm {
    /// Once in a while: drops those over which least has flowed since the last time, if the swarm
    /// is nearly full and there is somebody to take their places. Newcomers are spared.
    pub(super) fn turn_over(&mut self, events: &mut Vec<Event>) {
        let config = &self.config.swarm;
        let interval = config.turnover_interval;
        let due = *self.turnover_at.get_or_insert(self.now + interval);
        if due > self.now {
            return;
        }
        self.turnover_at = Some(self.now + interval);
        let mut ranked: Vec<(u64, bool, ConnId)> = Vec::new();
        for (conn, peer) in &mut self.peers {
            let total = peer.down.total() + peer.up.total();
            let moved = total - core::mem::replace(&mut peer.moved_before, total);
            if peer.joined_at + interval <= self.now {
                let wanted = peer.interested || peer.peer_interested;
                ranked.push((moved, wanted, *conn));
            }
        }
        let near = self.peer_limit() * usize::from(config.turnover_fill) / 100;
        if self.peers.len() < near.max(1) || !self.known.has_candidate() {
            return;
        }
        let most = self.peers.len() * usize::from(config.turnover_percent) / 100;
        ranked.sort_unstable();
        for (_, _, conn) in ranked.into_iter().take(most.max(1)) {
            self.close(conn, CloseReason::MadeRoom(Expendable::LeastUseful), events);
        }
    }
}
