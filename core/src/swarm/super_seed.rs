//! Super-seeding (BEP 16): the only seed gives each piece away once and lets the peers do the
//! rest.
//!
//! We look like somebody who has nothing. Each peer is told of a piece or two that nobody has yet,
//! and of another only when one of them is seen at somebody else, who must have got it from there.
//! Once every piece has been seen somewhere it is over, and we are a seed like any other.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::bitfield::Bitfield;
use super::peer::Peer;
use super::picker::Has;
use super::{Event, Swarm};
use crate::io::ConnId;
use crate::time::Instant;
use crate::wire::Message;

/// What is remembered while it lasts.
#[derive(Debug)]
pub(super) struct SuperSeed {
    /// Pieces that some peer has, or had.
    seen: Bitfield,
    /// Pieces that were given to somebody, who may still be busy with them.
    given: Bitfield,
    /// Where the search for a piece to be given begins.
    next: u32,
}

/// What one peer was told.
#[derive(Debug)]
pub(super) struct Told {
    /// Every piece it was told of: these it may ask for.
    pieces: Bitfield,
    /// Those of them that it has not passed on yet.
    open: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    piece: u32,
    /// When it was told.
    since: Instant,
    /// Bytes of it that it was sent.
    sent: u64,
    /// When it was sent the last one.
    whole: Option<Instant>,
}

impl Told {
    /// Whether the peer was told of a piece.
    pub(super) fn has(&self, piece: u32) -> bool {
        self.pieces.get(piece)
    }
}

impl SuperSeed {
    fn new(pieces: u32, first: u32) -> Self {
        Self {
            seen: Bitfield::new(pieces),
            given: Bitfield::new(pieces),
            next: first,
        }
    }

    /// A piece that nobody has, that was given to nobody, and that `peer` can be told of. Looks at
    /// 64 pieces a step. When there is none, one that was given and that nobody is busy with.
    fn choose(&mut self, peer: &Told, busy: &[u32]) -> Option<u32> {
        let count = self.seen.len();
        let first = |sets: &[&Bitfield], from| {
            let later = Bitfield::first_in_none(sets, from, count);
            later.or_else(|| Bitfield::first_in_none(sets, 0, from))
        };
        let fresh = first(&[&self.seen, &peer.pieces, &self.given], self.next);
        let piece = fresh.or_else(|| {
            let mut from = self.next;
            for _ in 0..=busy.len() {
                let piece = first(&[&self.seen, &peer.pieces], from)?;
                if !busy.contains(&piece) {
                    return Some(piece);
                }
                from = (piece + 1) % count;
            }
            None
        })?;
        self.given.set(piece);
        self.next = (piece + 1) % count;
        Some(piece)
    }
}

impl Swarm {
    pub(super) fn is_super_seeding(&self) -> bool {
        self.super_seed.is_some()
    }

    /// Everything is there: super-seeding begins, if it is to be.
    pub(super) fn begin_super_seed(&mut self) {
        let Some(content) = self.content.as_ref().filter(|_| self.options.super_seed) else {
            return;
        };
        // Once only: a piece that was lost and came again has been somewhere else.
        self.options.super_seed = false;
        let count = content.info.piece_count;
        if content.picker.have().is_full() && count > 0 {
            let first = self.choice.below(count.into()) as u32;
            self.super_seed = Some(Box::new(SuperSeed::new(count, first)));
        }
    }

    /// A peer is told that we have nothing, and of a piece.
    pub(super) fn start_super_seed_peer(&mut self, conn: ConnId) {
        let (Some(seeding), Some(peer)) = (&self.super_seed, self.peers.get_mut(&conn)) else {
            return;
        };
        peer.told = Some(Box::new(Told {
            pieces: Bitfield::new(seeding.seen.len()),
            open: Vec::new(),
        }));
    }

    /// A peer said which pieces it has.
    pub(super) fn on_seen(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let (Some(seeding), Some(peer)) = (&mut self.super_seed, self.peers.get(&conn)) else {
            return;
        };
        match peer.has() {
            None => return,
            Some(Has::All) => seeding.seen = Bitfield::full(seeding.seen.len()),
            Some(Has::Some(bits)) => seeding.seen.insert_all(bits),
        }
        self.tell_pieces(conn, events);
        self.end_super_seed_if_over(events);
    }

    /// A peer got a piece: whoever was told of it and is not that peer has passed it on.
    pub(super) fn on_seen_piece(&mut self, conn: ConnId, piece: u32, events: &mut Vec<Event>) {
        let Some(seeding) = &mut self.super_seed else {
            return;
        };
        let is_new = seeding.seen.set(piece);
        if let Some(told) = self
            .peers
            .get_mut(&conn)
            .and_then(|peer| peer.told.as_mut())
            && let Some(given) = told.open.iter_mut().find(|given| given.piece == piece)
        {
            given.whole.get_or_insert(self.now);
        }
        if !is_new && !seeding.given.get(piece) {
            return;
        }
        let mut earned = Vec::new();
        for (other, peer) in &mut self.peers {
            if let Some(told) = peer.told.as_mut().filter(|_| *other != conn) {
                let before = told.open.len();
                told.open
                    .retain(|given| given.piece != piece || given.whole.is_none());
                if told.open.len() < before {
                    earned.push(*other);
                }
            }
        }
        for conn in earned {
            self.tell_pieces(conn, events);
        }
        self.end_super_seed_if_over(events);
    }

    /// A peer was sent a block.
    pub(super) fn on_given(&mut self, conn: ConnId, piece: u32, bytes: u64) {
        let Some(size) = self
            .content
            .as_ref()
            .map(|content| content.picker.piece_size(piece))
        else {
            return;
        };
        let now = self.now;
        let told = self
            .peers
            .get_mut(&conn)
            .and_then(|peer| peer.told.as_mut());
        let given = told.and_then(|told| told.open.iter_mut().find(|given| given.piece == piece));
        if let Some(given) = given {
            given.sent += bytes;
            if given.sent >= size.into() {
                given.whole.get_or_insert(now);
            }
        }
    }

    /// Tells a peer of as many pieces as it may be busy with: one, so that it becomes interested,
    /// while it is choked.
    pub(super) fn tell_pieces(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let most = usize::from(self.config.swarm.super_seed_pieces);
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        if !peer.announced || peer.has().is_none() {
            return;
        }
        let most = if peer.choked { 1 } else { most };
        if peer
            .told
            .as_ref()
            .is_none_or(|told| told.open.len() >= most)
        {
            return;
        }
        let busy = self.busy_pieces();
        let (Some(seeding), Some(peer)) = (&mut self.super_seed, self.peers.get_mut(&conn)) else {
            return;
        };
        let Some(told) = &mut peer.told else { return };
        while told.open.len() < most {
            let Some(piece) = seeding.choose(told, &busy) else {
                return;
            };
            told.pieces.set(piece);
            told.open.push(Given {
                piece,
                since: self.now,
                sent: 0,
                whole: None,
            });
            events.push(Event::Send(conn, Message::Have(piece)));
        }
    }

    /// Pieces that somebody who is served was told of a short time ago.
    fn busy_pieces(&self) -> Vec<u32> {
        let patience = self.config.swarm.super_seed_patience;
        let served = self.peers.values().filter(|peer| !peer.choked);
        let told = served.filter_map(|peer| peer.told.as_ref());
        let open = told.flat_map(|told| told.open.iter());
        let busy = open.filter(|given| self.now.saturating_since(given.since) < patience);
        busy.map(|given| given.piece).collect()
    }

    /// Once a second: who had a piece for long and could not pass it on gets another, so that
    /// nobody idles because nobody else asks it.
    pub(super) fn review_super_seed(&mut self, events: &mut Vec<Event>) {
        if !self.is_super_seeding() {
            return;
        }
        let patience = self.config.swarm.super_seed_patience;
        let mut leechers = self.peers.values().filter(|peer| !peer.is_seed());
        let alone = leechers.next().is_some() && leechers.next().is_none();
        let now = self.now;
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            let told = self
                .peers
                .get_mut(&conn)
                .and_then(|peer| peer.told.as_mut());
            if let (Some(told), Some(seeding)) = (told, &mut self.super_seed) {
                told.open.retain(|given| {
                    let waits = |since: Instant| !alone && now.saturating_since(since) < patience;
                    let stays = given.whole.is_none_or(waits);
                    if !stays {
                        // It has it for all we know, and may be the only one for long.
                        seeding.seen.set(given.piece);
                    }
                    stays
                });
                self.tell_pieces(conn, events);
            }
        }
        self.end_super_seed_if_over(events);
    }

    /// A peer left: what it was given and nobody has seen is for others, unless it stays elsewhere
    /// as one that has all it wants. Nobody says `have` to whom it has a piece from.
    pub(super) fn forget_super_seed_peer(&mut self, peer: &Peer, events: &mut Vec<Event>) {
        if let (Some(seeding), Some(told)) = (&mut self.super_seed, &peer.told) {
            for given in &told.open {
                if peer.upload_only && given.whole.is_some() {
                    seeding.seen.set(given.piece);
                } else {
                    seeding.given.clear(given.piece);
                }
            }
        }
        self.end_super_seed_if_over(events);
    }

    fn end_super_seed_if_over(&mut self, events: &mut Vec<Event>) {
        if self.super_seed.as_ref().is_some_and(|it| it.seen.is_full()) {
            self.end_super_seed(events);
        }
    }

    /// From now on we are a seed like any other, and say so.
    pub(super) fn end_super_seed(&mut self, events: &mut Vec<Event>) {
        if self.super_seed.take().is_none() {
            return;
        }
        for peer in self.peers.values_mut().filter(|peer| peer.announced) {
            peer.haves_from = Some(0);
            peer.told = None;
        }
        self.tell_upload_only(events);
    }
}
