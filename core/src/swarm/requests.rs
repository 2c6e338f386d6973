//! What we ask peers for: how much at once, how long we wait, and what is given back.

use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use super::peer::Peer;
use super::picker::{BLOCK_LENGTH, PickOptions, PickReason};
use super::{Event, Phase, Swarm};
use crate::event::Decision;
use crate::io::ConnId;
use crate::metadata;
use crate::time::Duration;
use crate::wire::{BlockRef, Message};

impl Swarm {
    /// Something changed for this peer: it may have work again.
    pub(super) fn ask_again(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.idle_since = u64::MAX;
            self.request_from(conn, events);
        }
    }

    /// Requests blocks of every peer that had nothing to do, if that may have changed.
    pub(super) fn refill(&mut self, events: &mut Vec<Event>) {
        if self.phase != Phase::Active {
            return;
        }
        self.notice_endgame();
        if self.refilled == self.epoch {
            return;
        }
        self.refilled = self.epoch;
        let mut next = self.peers.keys().next().copied();
        while let Some(conn) = next {
            self.request_from(conn, events);
            let after = (Excluded(conn), Unbounded);
            next = self.peers.range(after).next().map(|(conn, _)| *conn);
        }
        let before = self.epoch;
        self.notice_endgame();
        self.unfinished |= before != self.epoch;
    }

    /// In endgame there is work for peers that had none.
    fn notice_endgame(&mut self) {
        let Some(content) = &self.content else { return };
        let endgame = content.picker.in_endgame();
        if endgame != self.endgame {
            self.endgame = endgame;
            self.epoch += 1;
        }
    }

    /// Fills a peer's pipeline; in endgame an idle peer races a slower one.
    pub(super) fn request_from(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        self.fill(conn, events);
        self.race(conn, events);
    }

    fn fill(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        if self.phase != Phase::Active {
            return;
        }
        let swarm = &self.config.swarm;
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        if !peer.interested || peer.idle_since == self.epoch {
            return;
        }
        let count = peer.room(swarm);
        if count == 0 {
            return;
        }
        peer.suggested.make_contiguous();
        let options = PickOptions {
            count,
            reverse: peer.snubbed,
            whole_pieces: content.picker.suits_whole_pieces(peer.last_rate),
            parole: peer.parole,
            allowed: peer.choking.then_some(&peer.allowed_in[..]),
            suggested: peer.suggested.as_slices().0,
        };
        let Some(has) = peer.has() else { return };
        self.blocks.clear();
        let (choice, blocks) = (&mut self.choice, &mut self.blocks);
        let reason = content.picker.pick(peer.key, has, &options, choice, blocks);
        if content.picker.is_unsure() && blocks.len() < count {
            // Asked again at once, among all others.
            self.epoch += 1;
            self.unfinished = true;
        } else if blocks.len() < count {
            peer.idle_since = self.epoch;
        }
        self.ask(conn, reason, events);
    }

    /// Asks a peer for the blocks that were picked for it.
    pub(super) fn ask(&mut self, conn: ConnId, reason: PickReason, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        for block in self.blocks.iter().copied() {
            peer.add_asked(block, self.now);
            events.push(Event::Send(conn, Message::Request(block)));
        }
        if peer.snubbed {
            // It may show that it serves again, but holds up nobody meanwhile.
            self.give_away(conn);
        }
        let blocks = self.blocks.len() as u32;
        if let (true, Some(first)) = (self.config.explain, self.blocks.first().copied()) {
            let decision = Decision::Asked {
                first,
                blocks,
                reason,
            };
            self.explain(conn, decision, events);
        }
    }

    /// A peer chokes us. Without the fast extension that voids what we asked for; with it, each
    /// request is answered by a block or a reject.
    pub(super) fn on_choke(&mut self, conn: ConnId) {
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        peer.choking = true;
        if peer.fast {
            return;
        }
        // Blocks on their way are no offence.
        peer.forgiven = peer.forgiven.saturating_add(peer.asked.len() as u32);
        for asked in peer.asked.drain(..) {
            content.picker.on_abort(peer.key, asked.block);
        }
        self.epoch += 1;
    }

    /// We stop reading from a peer, or go on: that pause is not time that it had to answer.
    pub(super) fn on_reading(&mut self, conn: ConnId, on: bool, events: &mut Vec<Event>) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            if !on {
                peer.parked.get_or_insert(self.now);
            } else if let Some(since) = peer.parked.take() {
                let pause = self.now.saturating_since(since);
                peer.turn_since = self.now.min(peer.turn_since + pause);
            }
        }
        self.fetch_input(metadata::Input::Reading { conn, on }, events);
    }

    /// A peer will not send a block.
    pub(super) fn on_reject(&mut self, conn: ConnId, block: BlockRef) {
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        let Some(asked) = peer.take_asked(block, self.now) else {
            return;
        };
        content.picker.on_abort(peer.key, asked.block);
        if peer.choking {
            peer.allowed_in.retain(|piece| *piece != block.piece);
        }
        self.epoch += 1;
        // Not asked at once for the block that it just refused.
        peer.idle_since = self.epoch;
    }

    /// Rates, pipelines and overdue requests of every peer.
    pub(super) fn review_peers(&mut self, events: &mut Vec<Event>) {
        let swarm = &self.config.swarm;
        let (min, max) = (u32::from(swarm.min_pipeline), u32::from(swarm.max_pipeline));
        let ahead = u64::try_from(swarm.pipeline_time.as_millis()).unwrap_or(u64::MAX);
        for peer in self.peers.values_mut() {
            let rate = peer.down.rate(self.now);
            if peer.slow_start && peer.last_rate > 0 && rate / 11 <= peer.last_rate / 10 {
                peer.slow_start = false;
            }
            if !peer.slow_start {
                let blocks = rate.saturating_mul(ahead) / 1_000 / u64::from(BLOCK_LENGTH);
                peer.pipeline = u32::try_from(blocks).unwrap_or(max).clamp(min, max);
            }
            peer.last_rate = rate;
        }
        self.snub();
        if self.phase == Phase::Active {
            // What was given away is for those who bring most, not for others like its holder.
            let peers = self.peers.iter();
            let mut conns: Vec<_> = peers.map(|(conn, peer)| (peer.last_rate, *conn)).collect();
            conns.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, conn) in conns {
                self.request_from(conn, events);
            }
        }
    }

    /// Notices who does not bring what it was asked for, and gives that away: at last after
    /// `request_timeout`, and as soon as that is plain while somebody else has nothing to do.
    fn snub(&mut self) {
        let idle = self.idle_peers();
        let timeout = self.config.swarm.request_timeout;
        let stalls = |conn: ConnId, peer: &Peer| {
            let other = idle.iter().flatten().find(|(_, idle)| *idle != conn);
            peer.is_overdue(timeout, self.now)
                || other.is_some_and(|(patience, _)| peer.is_stalling(*patience, self.now))
        };
        let peers = self.peers.iter();
        let snubbed = peers.filter(|(conn, peer)| stalls(**conn, peer));
        let snubbed: Vec<_> = snubbed.map(|(conn, _)| *conn).collect();
        for conn in snubbed {
            if let Some(peer) = self.peers.get_mut(&conn) {
                peer.snubbed = true;
            }
            self.give_away(conn);
        }
    }

    /// The two quickest of the peers that have nothing to do, each with how long others may sit
    /// on a block that it could bring.
    fn idle_peers(&self) -> [Option<(Duration, ConnId)>; 2] {
        let config = &self.config.swarm;
        let mut best = [None; 2];
        if self.phase != Phase::Active {
            return best;
        }
        for (conn, peer) in &self.peers {
            if !peer.interested || peer.snubbed || peer.room(config) == 0 {
                continue;
            }
            let needs = peer.block_time.unwrap_or(config.endgame_patience);
            let patience = needs.saturating_mul(config.endgame_slower.into());
            let idle = (patience.max(config.stall_patience), *conn);
            if best[0].is_none_or(|first| idle < first) {
                best = [Some(idle), best[0]];
            } else if best[1].is_none_or(|second| idle < second) {
                best[1] = Some(idle);
            }
        }
        best
    }

    /// What a peer was asked for, others may be asked for as if it had not been. What it brings of
    /// it all the same is welcome.
    fn give_away(&mut self, conn: ConnId) {
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        let mut freed = false;
        for asked in peer.asked.iter_mut().filter(|asked| !asked.late) {
            asked.late = true;
            freed |= content.picker.on_late(peer.key, asked.block);
        }
        self.epoch += u64::from(freed);
    }
}
