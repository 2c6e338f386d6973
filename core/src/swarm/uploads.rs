//! What peers ask us for: who may ask, what is read, and how much may be under way.

use alloc::vec::Vec;

use bytes::Bytes;

use super::choker::{Decision, Mode, PeerFacts, Prefix};
use super::exchange::part_of;
use super::peer::Peer;
use super::picker::BLOCK_LENGTH;
use super::slots::Uplink;
use super::{Event, Job, Pending, Phase, Swarm};
use crate::event::{self, CloseReason};
use crate::io::{ConnId, JobError, JobResult};
use crate::metadata::Message as Metadata;
use crate::metainfo::Info;
use crate::wire::{BlockRef, Message};

impl Swarm {
    pub(super) fn on_request(&mut self, conn: ConnId, block: BlockRef, events: &mut Vec<Event>) {
        let now = self.now;
        let swarm = &self.config.swarm;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let Some(content) = self
            .content
            .as_ref()
            .filter(|_| self.phase == Phase::Active)
        else {
            refuse(conn, peer, block, events);
            return;
        };
        let end = u64::from(block.begin) + u64::from(block.length);
        if block.length == 0 || end > u64::from(content.info.piece_size(block.piece)) {
            self.close(
                conn,
                CloseReason::Protocol("request outside of a piece"),
                events,
            );
            return;
        }
        let served = content.picker.have().get(block.piece) && block.length <= BLOCK_LENGTH;
        let told = peer.told.as_ref();
        let served = served && told.is_none_or(|told| told.has(block.piece));
        if peer.choked && !peer.allowed_out.contains(&block.piece) {
            if now.saturating_since(peer.choked_at) > swarm.choke_grace {
                peer.strikes += 1;
                if peer.strikes > u32::from(swarm.max_served_queue) {
                    self.close(conn, CloseReason::Protocol("requests while choked"), events);
                    return;
                }
            }
            refuse(conn, peer, block, events);
        } else if !served
            || peer.queue.len() + peer.metadata_queue.len() >= usize::from(swarm.max_served_queue)
        {
            refuse(conn, peer, block, events);
        } else {
            peer.queue.push_back(block);
            self.enqueue(conn);
        }
    }

    pub(super) fn on_cancel(&mut self, conn: ConnId, block: BlockRef, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if let Some(at) = peer.queue.iter().position(|queued| *queued == block) {
            peer.queue.remove(at);
            refuse(conn, peer, block, events);
        }
    }

    /// Puts a peer with requests into the line of those that are served.
    pub(super) fn enqueue(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && !(peer.queue.is_empty() && peer.metadata_queue.is_empty())
            && !peer.in_line
        {
            peer.in_line = true;
            match peer.choked {
                false => self.serving.push_back(conn),
                true => self.serving_choked.push_back(conn),
            }
        }
    }

    /// The peer whose turn it is, and what it is served, if its connection has room. Choked peers
    /// have one turn among them after as many as there are slots, so that however many they are
    /// they take no more than one that is not.
    fn next_turn(&mut self) -> Option<(ConnId, Served)> {
        loop {
            let choked_turn = self.serving.is_empty() || self.since_choked >= self.choker.slots();
            let choked_turn = choked_turn && !self.serving_choked.is_empty();
            let line = match choked_turn {
                true => &mut self.serving_choked,
                false => &mut self.serving,
            };
            let conn = *line.front()?;
            let Some(peer) = self.peers.get_mut(&conn) else {
                line.pop_front();
                continue;
            };
            if peer.choked != choked_turn {
                // Choked or unchoked meanwhile: it goes to the end of the other line.
                line.pop_front();
                match peer.choked {
                    true => self.serving_choked.push_back(conn),
                    false => self.serving.push_back(conn),
                }
                continue;
            }
            let next = peer.next_served(self.info.as_deref());
            let next = next.filter(|next| {
                let left = self.grant.read_bytes.saturating_sub(self.outbound);
                peer.has_room(next.bytes(), self.config.wire.send_window, left)
            });
            match next {
                Some(next) => return Some((conn, next)),
                None => {
                    // Back in line once its connection has room, or it asks again.
                    peer.in_line = false;
                    line.pop_front();
                }
            }
        }
    }

    /// Begins reads and sends metadata, one block per peer in turn, as far as windows and
    /// allowances go.
    ///
    /// Whoever takes nothing of what it was sent is passed over: it comes back into the line when
    /// it does. So nobody waits for it.
    pub(super) fn serve(&mut self, events: &mut Vec<Event>) {
        let mut served = 0;
        while let Some((conn, next)) = self.next_turn() {
            let bytes = next.bytes();
            if self.upload_claimed.saturating_add(bytes) > self.grant.upload_total {
                self.upload_limited = true;
                return;
            }
            if served >= self.config.swarm.served_per_input {
                self.unfinished = true;
                return;
            }
            let Some(peer) = self.peers.get_mut(&conn) else {
                return;
            };
            served += 1;
            self.upload_claimed += bytes;
            if peer.choked {
                self.since_choked = 0;
                self.serving_choked.rotate_left(1);
            } else {
                self.since_choked = self.since_choked.saturating_add(1);
                self.serving.rotate_left(1);
            }
            match next {
                Served::Metadata(piece, total_size, data) => {
                    peer.metadata_queue.pop_front();
                    change_under_way(&mut self.outbound, peer, |peer| peer.unsent += bytes);
                    peer.on_flow(self.now, bytes);
                    let data = Metadata::Data {
                        piece,
                        total_size,
                        data,
                    };
                    events.push(Event::Send(conn, Message::Metadata(data)));
                }
                Served::Block(block) => {
                    peer.queue.pop_front();
                    change_under_way(&mut self.outbound, peer, |peer| peer.reading += bytes);
                    self.job(Pending::Read { conn, block }, Job::Read(block), events);
                }
            }
        }
    }

    /// As many slots as keep the uplink busy, while we seed.
    pub(super) fn review_slots(&mut self) {
        let limited = core::mem::take(&mut self.upload_limited);
        let mut peers = self.peers.values();
        let uplink = Uplink {
            rate: self.up.rate(self.now),
            awaited: peers.any(|peer| peer.choked && peer.peer_interested && peer.announced),
            limited: limited || !self.is_complete(),
        };
        let slots = self.slots.review(self.now, uplink);
        if slots != self.choker.slots() {
            self.choker.set_slots(slots);
            self.fill_slots = true;
        }
    }

    /// Bytes of blocks and metadata sent to peers, or of blocks being read for them, since the
    /// start. Grows with every [`Job::Read`] and every piece of metadata, and only then.
    pub(crate) fn upload_claimed(&self) -> u64 {
        self.upload_claimed
    }

    /// A block was read for a peer.
    pub(super) fn on_read(
        &mut self,
        conn: ConnId,
        block: BlockRef,
        result: JobResult,
        events: &mut Vec<Event>,
    ) {
        let bytes = u64::from(block.length);
        let data = match result {
            JobResult::Read(data) if data.len() as u64 == bytes => Ok(data),
            JobResult::Failed(error) => Err(error),
            _ => Err(JobError::Io),
        };
        let now = self.now;
        // A peer that left took its share of what is under way with it.
        if let Some(peer) = self.peers.get_mut(&conn) {
            let may = !peer.choked || peer.allowed_out.contains(&block.piece);
            match &data {
                Ok(data) if may => {
                    peer.reading -= bytes;
                    peer.unsent += bytes;
                    peer.up.add(now, bytes);
                    peer.on_flow(now, bytes);
                    peer.since_unchoke += bytes;
                    self.up.add(now, bytes);
                    let is_told = peer.told.is_some();
                    let (piece, begin, data) = (block.piece, block.begin, data.clone());
                    events.push(Event::Send(conn, Message::Piece { piece, begin, data }));
                    if is_told {
                        self.on_given(conn, piece, bytes);
                    }
                }
                _ => {
                    change_under_way(&mut self.outbound, peer, |peer| peer.reading -= bytes);
                    self.upload_claimed -= bytes;
                    refuse(conn, peer, block, events);
                    self.enqueue(conn);
                }
            }
        }
        match data {
            Ok(_) | Err(JobError::Cancelled) => {}
            Err(JobError::Missing | JobError::Io) => self.on_had_lost(block.piece, events),
            Err(error) => self.storage_failed(Some(block.piece), error, events),
        }
    }

    /// What a connection has not sent yet.
    pub(super) fn on_writable(&mut self, conn: ConnId, unsent: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        // Other messages are unsent bytes as well; ours are never more than we handed over.
        let unsent = u64::from(unsent).min(peer.unsent);
        change_under_way(&mut self.outbound, peer, |peer| peer.unsent = unsent);
        self.enqueue(conn);
    }

    /// Decides who is served: in rounds, and at once where a slot is free.
    pub(super) fn choke(&mut self, events: &mut Vec<Event>) {
        if self.phase != Phase::Active || self.peers.is_empty() {
            self.fill_slots = false;
            return;
        }
        let round = self.choker.next_timeout() <= self.now;
        let unchoked = || {
            let slots = self
                .peers
                .values()
                .filter(|peer| !peer.choked && peer.peer_interested);
            slots.count()
        };
        let fill = self.fill_slots && self.choker.has_free_slot(unchoked());
        if !round && !fill {
            self.fill_slots = false;
            return;
        }
        self.fill_slots = false;
        let count = u64::from(
            self.content
                .as_ref()
                .map_or(0, |c| c.info.piece_count)
                .max(1),
        );
        let facts: Vec<_> = self
            .peers
            .values()
            .map(|peer| facts_of(peer, count, self.now, self.config.lab))
            .collect();
        let mut decisions = Vec::with_capacity(facts.len());
        if round {
            let mode = if self.is_complete() {
                Mode::Seeding
            } else {
                Mode::Leeching
            };
            self.choker
                .round(self.now, mode, &facts, &mut self.choice, &mut decisions);
        } else {
            self.choker
                .fill(self.now, &facts, &mut self.choice, &mut decisions);
        }
        for decision in decisions {
            self.apply(decision, events);
        }
    }

    fn apply(&mut self, decision: Decision, events: &mut Vec<Event>) {
        let Some(conn) = self.by_key.get(&decision.peer).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if decision.unchoke != peer.choked {
            return;
        }
        peer.choked = !decision.unchoke;
        if self.config.explain {
            let told = event::Decision::Choke {
                choked: peer.choked,
                reason: decision.reason,
            };
            self.explain(conn, told, events);
        }
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if decision.unchoke {
            peer.last_unchoked = Some(self.now);
            peer.since_unchoke = 0;
            events.push(Event::Send(conn, Message::Unchoke));
            self.tell_pieces(conn, events);
            return;
        }
        peer.on_choked(self.config.swarm.choke_interval, self.now);
        peer.choked_at = self.now;
        events.push(Event::Send(conn, Message::Choke));
        let mut queue = core::mem::take(&mut peer.queue);
        queue.retain(|block| {
            let stays = peer.allowed_out.contains(&block.piece);
            if !stays {
                refuse(conn, peer, *block, events);
            }
            stays
        });
        peer.queue = queue;
    }
}

/// What a peer is served next.
#[derive(Debug)]
enum Served {
    /// A piece of the metadata, the size of all of it, and the bytes.
    Metadata(u32, u32, Bytes),
    Block(BlockRef),
}

impl Served {
    fn bytes(&self) -> u64 {
        match self {
            Self::Metadata(_, _, data) => data.len() as u64,
            Self::Block(block) => u64::from(block.length),
        }
    }
}

impl Peer {
    /// Metadata goes first: nothing else is of use to those who ask for it.
    fn next_served(&self, info: Option<&Info>) -> Option<Served> {
        if let (Some(piece), Some(info)) = (self.metadata_queue.front(), info) {
            let data = part_of(&info.raw, *piece)?;
            return Some(Served::Metadata(*piece, info.raw.len() as u32, data));
        }
        self.queue.front().copied().map(Served::Block)
    }

    /// Block bytes under way to it that count against what is shared: all but the first block,
    /// which every peer has for itself.
    pub(super) fn shared(&self) -> u64 {
        (self.reading + self.unsent).saturating_sub(u64::from(BLOCK_LENGTH))
    }

    /// Whether so many bytes more may be under way to it, when `left` of what is shared is left.
    ///
    /// It never has more of that than it leaves to others, so that no number of peers that take
    /// nothing uses it up; and while it is choked, nothing of it.
    fn has_room(&self, bytes: u64, window: u32, left: u64) -> bool {
        let then = self.reading + self.unsent + bytes;
        if then == bytes || then <= u64::from(BLOCK_LENGTH) {
            return true;
        }
        !self.choked && then <= u64::from(window) && self.shared() + bytes <= left
    }
}

/// Changes what is under way to a peer, and what is shared of it over all of them.
pub(super) fn change_under_way(
    outbound: &mut u64,
    peer: &mut Peer,
    change: impl FnOnce(&mut Peer),
) {
    *outbound -= peer.shared();
    change(peer);
    *outbound += peer.shared();
}

/// Says that a block will not come, where the peer understands it.
pub(super) fn refuse(conn: ConnId, peer: &Peer, block: BlockRef, events: &mut Vec<Event>) {
    if peer.fast {
        events.push(Event::Send(conn, Message::Reject(block)));
    }
}

fn facts_of(peer: &Peer, pieces: u64, now: crate::time::Instant, lab: bool) -> PeerFacts {
    let has = match &peer.pieces {
        super::peer::Pieces::Some(bits) => u64::from(bits.count_ones()),
        super::peer::Pieces::All => pieces,
        super::peer::Pieces::Early { .. } => 0,
    };
    PeerFacts {
        peer: peer.key,
        // What we have must be the first thing said.
        interested: peer.peer_interested && peer.announced,
        unchoked: !peer.choked,
        snubbed: peer.snubbed,
        upload_only: peer.upload_only || peer.is_seed(),
        down_rate: peer.down.rate(now),
        up_rate: peer.up.rate(now),
        bytes_since_unchoke: peer.since_unchoke,
        last_unchoked: peer.last_unchoked,
        joined: peer.joined_at,
        completion: (has * 1_000 / pieces) as u16,
        prefix: if lab {
            None
        } else {
            Prefix::of(peer.addr.ip())
        },
    }
}
