//! The last blocks: asked of a second peer where the first may be slow.
//!
//! Once no block is left that nobody was asked for, a peer that has brought all it was asked for
//! races another for a block, but never for many: a block that arrives twice is wasted, and what
//! has been asked for can be called back only as long as it has not left. So an idle peer gets
//! `endgame_blocks` at a time, from the end of the queue of whoever will be longest with its
//! own, and no block is asked of more than `endgame_requesters`. The first block of a queue is on
//! its way: that one is raced only when it will take its owner much longer than the idle peer.

use alloc::vec::Vec;

use super::peer::Peer;
use super::picker::{BLOCK_LENGTH, PickOptions};
use super::{Event, Phase, Swarm};
use crate::io::ConnId;
use crate::time::{Duration, Instant};
use crate::wire::BlockRef;

/// Peers from whose queues blocks are taken: the slowest, and a few more in case of need.
const HOLDERS: usize = 4;
/// Blocks of one of them that are looked at.
const LOOKS: usize = 16;

impl Swarm {
    /// Asks an idle peer for blocks that slower ones were asked for.
    pub(super) fn race(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let most = usize::from(self.config.swarm.endgame_blocks);
        let Some(content) = self
            .content
            .as_ref()
            .filter(|_| self.phase == Phase::Active)
        else {
            return;
        };
        let ready = self.peers.get(&conn).is_some_and(|peer| {
            peer.interested && peer.may_be_asked() && !peer.snubbed && peer.asked.len() < most
        });
        if !ready || !content.picker.in_endgame() {
            return;
        }
        let candidates = self.slowest_blocks(conn);
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        let options = PickOptions {
            count: most - peer.asked.len(),
            parole: peer.parole,
            allowed: peer.choking.then_some(&peer.allowed_in[..]),
            ..PickOptions::default()
        };
        let Some(has) = peer.has() else { return };
        self.blocks.clear();
        let reason = content
            .picker
            .race(peer.key, has, &options, &candidates, &mut self.blocks);
        self.ask(conn, reason, events);
    }

    /// Blocks others were asked for, those that are expected last first.
    fn slowest_blocks(&self, conn: ConnId) -> Vec<BlockRef> {
        let now = self.now;
        let needs = self.peers.get(&conn).and_then(|peer| peer.block_time);
        let config = &self.config.swarm;
        let (soon, slower) = (config.endgame_patience, config.endgame_slower.into());
        let worth = soon.max(needs.unwrap_or(soon).saturating_mul(slower));
        let mut holders: Vec<_> = self
            .peers
            .iter()
            .filter(|(other, peer)| **other != conn && peer.asked.iter().any(|asked| !asked.done))
            .map(|(other, peer)| {
                let bytes = peer.asked.len() as u64 * u64::from(BLOCK_LENGTH);
                (bytes * 1_000 / (peer.down.rate(now) + 1), *other)
            })
            .collect();
        // The slowest first; ties in the order of names.
        holders.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut blocks = Vec::new();
        for (_, holder) in holders.into_iter().take(HOLDERS) {
            let Some(peer) = self.peers.get(&holder) else {
                continue;
            };
            let is_soon = first_takes(peer, now, soon).is_none_or(|takes| takes <= worth);
            let queue = peer.asked.iter().skip(usize::from(is_soon)).rev();
            blocks.extend(queue.take(LOOKS).map(|asked| asked.block));
        }
        blocks
    }
}

/// How much longer the first block of a peer's queue will take; `None` when nothing tells.
fn first_takes(peer: &Peer, now: Instant, soon: Duration) -> Option<Duration> {
    if peer.owes_for(now)? < soon {
        return peer.block_time;
    }
    peer.owes_still(now)
}
