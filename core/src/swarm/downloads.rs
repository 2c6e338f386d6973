//! Blocks that arrive, part by part.
//!
//! A part is handed to storage the moment it comes, as the slice it came in; nothing is gathered
//! here. What a block is worth is decided by its first part.

use alloc::vec::Vec;

use bytes::Bytes;

use super::peer::Arriving;
use super::picker::Received;
use super::{Event, Job, Pending, Phase, Swarm};
use crate::event::CloseReason;
use crate::io::ConnId;
use crate::wire::{BlockRef, Message};

impl Swarm {
    pub(super) fn on_block_part(
        &mut self,
        conn: ConnId,
        block: BlockRef,
        offset: u32,
        data: Bytes,
        events: &mut Vec<Event>,
    ) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.opened = true;
        let end = u64::from(offset) + data.len() as u64;
        if end > u64::from(block.length) {
            self.close(
                conn,
                CloseReason::Protocol("block longer than announced"),
                events,
            );
            return;
        }
        if offset == 0 {
            self.on_block_begun(conn, block, events);
        }
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let Some(arriving) = peer.arriving.as_mut() else {
            return;
        };
        if arriving.block != block || arriving.next != offset {
            self.close(conn, CloseReason::Protocol("block in disorder"), events);
            return;
        }
        arriving.next = end as u32;
        if arriving.kept && offset > 0 {
            // Its place may have gone to others meanwhile: theirs is not written over then.
            let content = self.content.as_ref();
            arriving.kept =
                content.is_some_and(|it| it.picker.requesters(block).contains(&peer.key));
        }
        let arriving = *arriving;
        let bytes = data.len() as u32;
        self.down.add(self.now, bytes.into());
        peer.down.add(self.now, bytes.into());
        peer.on_flow(self.now, bytes.into());
        if arriving.kept && bytes > 0 {
            let begin = block.begin + offset;
            let write = Job::Write {
                piece: block.piece,
                begin,
                data,
            };
            self.job(Pending::Write { piece: block.piece }, write, events);
        }
        if arriving.next == block.length {
            self.on_block_ended(conn, arriving, events);
        }
    }

    /// Decides whether a block is kept.
    fn on_block_begun(&mut self, conn: ConnId, block: BlockRef, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let asked = peer.asked.iter().any(|asked| asked.block == block);
        let key = peer.key;
        let mut others = Vec::new();
        let kept = match &self.content {
            Some(content) if asked && self.phase == Phase::Active => {
                let requesters = content.picker.requesters(block);
                others.extend(requesters.iter().copied().filter(|other| *other != key));
                requesters.contains(&key)
            }
            _ => false,
        };
        if !asked {
            peer.unasked += u32::from(peer.forgiven == 0);
            peer.forgiven = peer.forgiven.saturating_sub(1);
            if peer.unasked > self.config.swarm.max_unasked_blocks {
                self.close(
                    conn,
                    CloseReason::Protocol("blocks nobody asked for"),
                    events,
                );
                return;
            }
        }
        peer.arriving = Some(Arriving {
            block,
            next: 0,
            kept,
        });
        if !kept {
            return;
        }
        // In endgame two peers may send one block at once. The later one is kept: it writes the
        // whole block over what the other wrote, so that one peer alone answers for each block.
        for other in others {
            let other = self
                .by_key
                .get(&other)
                .and_then(|conn| self.peers.get_mut(conn));
            if let Some(arriving) = other.and_then(|other| other.arriving.as_mut())
                && arriving.block == block
            {
                arriving.kept = false;
            }
        }
    }

    fn on_block_ended(&mut self, conn: ConnId, arriving: Arriving, events: &mut Vec<Event>) {
        let block = arriving.block;
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        peer.arriving = None;
        if peer.asked.front().is_some_and(|first| first.block == block) {
            peer.block_time = Some(self.now.saturating_since(peer.turn_since));
        }
        let was_asked = peer.take_asked(block, self.now).is_some();
        if !arriving.kept {
            if was_asked && content.picker.on_abort(peer.key, block) {
                self.epoch += 1;
            }
            self.request_from(conn, events);
            return;
        }
        if content.picker.on_received(peer.key, block) != Received::Fresh {
            self.request_from(conn, events);
            return;
        }
        let timeout = self.config.swarm.request_timeout;
        if peer.snubbed {
            peer.snubbed = peer.is_overdue(timeout, self.now);
            peer.pipeline = self.config.swarm.min_pipeline.into();
            peer.slow_start = true;
        } else if peer.slow_start {
            let max = u32::from(self.config.swarm.max_pipeline);
            peer.pipeline = (peer.pipeline + 1).min(max);
        }
        let others: Vec<_> = content.picker.requesters(block).to_vec();
        let done = content.picker.piece_blocks_done(block.piece);
        for key in others {
            self.cancel(key, block, events);
        }
        if done {
            self.verify(block.piece, events);
        }
        self.request_from(conn, events);
    }

    /// Tells a peer that a block came from elsewhere.
    fn cancel(&mut self, key: super::picker::PeerKey, block: BlockRef, events: &mut Vec<Event>) {
        let Some(content) = &mut self.content else {
            return;
        };
        content.picker.on_abort(key, block);
        let Some(conn) = self.by_key.get(&key).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if let Some(arriving) = &mut peer.arriving
            && arriving.block == block
        {
            arriving.kept = false;
            let asked = peer.asked.iter_mut().find(|asked| asked.block == block);
            if let Some(asked) = asked {
                asked.done = true;
            }
            return;
        }
        if peer.take_asked(block, self.now).is_some() {
            let most = u32::from(self.config.swarm.max_pipeline);
            peer.forgiven = (peer.forgiven + 1).min(most);
            events.push(Event::Send(conn, Message::Cancel(block)));
            self.request_from(conn, events);
        }
    }
}
