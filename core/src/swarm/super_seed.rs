//! Super-seeding (BEP 16): the only seed gives each piece away once and lets the peers do the
//! rest.
//!
//! We look like somebody who has nothing. Each peer is told of a piece or two that nobody has yet,
//! and of another only when one of them is seen at somebody else, who must have got it from there.
//! Many clients look only every ten seconds whom they serve: who has been sent all it was told of,
//! and waits, is told of more and more at once, since each is still given away only once.
//! Once every piece has been seen somewhere it is over, and we are a seed like any other.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::bitfield::Bitfield;
use super::peer::Peer;
use super::picker::Has;
use super::{Event, Swarm};
use crate::config::SwarmConfig;
use crate::io::ConnId;
use crate::time::{Duration, Instant};
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
    /// How many these may be.
    room: u16,
    /// When it was seen to have passed one on, for the last time.
    passed: Option<Instant>,
    /// When its room grew last, or it passed something on.
    since: Instant,
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
    fn new(config: &SwarmConfig, pieces: u32, now: Instant) -> Self {
        Self {
            pieces: Bitfield::new(pieces),
            open: Vec::new(),
            room: config.super_seed_pieces.into(),
            passed: None,
            since: now,
        }
    }

    /// Pieces that it may be told of now: none but the first while it is choked and has that still
    /// to come, which makes it interested.
    fn lacks(&self, choked: bool) -> usize {
        let room = usize::from(self.room).saturating_sub(self.open.len());
        let busy = self.open.iter().any(|given| given.whole.is_none());
        match choked {
            true if busy => 0,
            true => room.min(1),
            false => room,
        }
    }

    /// Makes room for more if it has been sent everything for a while and waits.
    fn grow(&mut self, config: &SwarmConfig, now: Instant) {
        let waits = |given: &Given| {
            let since = given.whole.map(|whole| whole.max(self.since));
            since.is_some_and(|since| now.saturating_since(since) >= config.super_seed_idle)
        };
        if self.open.is_empty() || !self.open.iter().all(waits) {
            return;
        }
        let most = match self.passed {
            Some(_) => config.max_super_seed_pieces,
            None => config.super_seed_trust.min(config.max_super_seed_pieces),
        };
        let room = self.room.saturating_mul(2).min(most);
        if room > self.room {
            self.room = room;
            self.since = now;
        }
    }

    /// Whether it passes on what it is given, if slowly.
    fn is_active(&self, patience: Duration, now: Instant) -> bool {
        let passed = self.passed;
        passed.is_some_and(|passed| now.saturating_since(passed) < patience)
    }

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
    /// 64 pieces a step.
    fn choose_fresh(&mut self, peer: &Told) -> Option<u32> {
        let piece = self.first(&[&self.seen, &peer.pieces, &self.given]);
        self.give(piece)
    }

    /// When there is none, one that was given and that nobody is `busy` with.
    fn choose_again(&mut self, peer: &Told, busy: &Bitfield) -> Option<u32> {
        let piece = self.first(&[&self.seen, &peer.pieces, busy]);
        self.give(piece)
    }

    /// The next piece that is in none of these.
    fn first(&self, sets: &[&Bitfield]) -> Option<u32> {
        let later = Bitfield::first_in_none(sets, self.next, self.seen.len());
        later.or_else(|| Bitfield::first_in_none(sets, 0, self.next))
    }

    fn give(&mut self, piece: Option<u32>) -> Option<u32> {
        let piece = piece?;
        self.given.set(piece);
        self.next = (piece + 1) % self.seen.len();
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
        let told = Told::new(&self.config.swarm, seeding.seen.len(), self.now);
        peer.told = Some(Box::new(told));
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
        if let Some(told) = self
            .peers
            .get_mut(&conn)
            .and_then(|peer| peer.told.as_mut())
            && let Some(given) = told.open.iter_mut().find(|given| given.piece == piece)
        {
            given.whole.get_or_insert(self.now);
            if given.sent > 0 {
                // It has it from us, which shows nothing.
                return;
            }
        }
        if !seeding.seen.set(piece) && !seeding.given.get(piece) {
            return;
        }
        let mut earned = Vec::new();
        for (other, peer) in &mut self.peers {
            if let Some(told) = peer.told.as_mut().filter(|_| *other != conn) {
                let before = told.open.len();
                told.open
                    .retain(|given| given.piece != piece || given.whole.is_none());
                if told.open.len() < before {
                    told.passed = Some(self.now);
                    told.since = self.now;
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
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        if !peer.announced || peer.has().is_none() {
            return;
        }
        let lacks = peer.told.as_ref().map_or(0, |told| told.lacks(peer.choked));
        if lacks == 0 {
            return;
        }
        let mut busy = None;
        for _ in 0..lacks {
            if !self.tell_piece(conn, &mut busy, events) {
                return;
            }
        }
    }

    /// Tells a peer of one piece more, if there is one. `busy`: what is busy, once that is known.
    fn tell_piece(
        &mut self,
        conn: ConnId,
        busy: &mut Option<Bitfield>,
        events: &mut Vec<Event>,
    ) -> bool {
        let told = self.peers.get(&conn).and_then(|peer| peer.told.as_deref());
        let (Some(seeding), Some(told)) = (&mut self.super_seed, told) else {
            return false;
        };
        let mut piece = seeding.choose_fresh(told);
        if piece.is_none() {
            let (patience, now) = (self.config.swarm.super_seed_patience, self.now);
            let peers = self.peers.values();
            let busy = busy.get_or_insert_with(|| busy_pieces(peers, seeding, patience, now));
            piece = seeding.choose_again(told, busy);
        }
        let (Some(piece), Some(peer)) = (piece, self.peers.get_mut(&conn)) else {
            return false;
        };
        if let Some(told) = &mut peer.told {
            told.pieces.set(piece);
            told.open.push(Given {
                piece,
                since: self.now,
                sent: 0,
                whole: None,
            });
        }
        events.push(Event::Send(conn, Message::Have(piece)));
        true
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
                let active = told.is_active(patience, now);
                told.open.retain(|given| {
                    let waits = |since: Instant| {
                        !alone && (active || now.saturating_since(since) < patience)
                    };
                    let stays = given.whole.is_none_or(waits);
                    if !stays {
                        // It has it for all we know, and may be the only one for long.
                        seeding.seen.set(given.piece);
                    }
                    stays
                });
                told.grow(&self.config.swarm, now);
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
            self.haves_owed = true;
            peer.told = None;
        }
        self.tell_upload_only(events);
    }
}

/// Pieces that somebody who is served was told of a short time ago, or that somebody has who passes
/// on others.
fn busy_pieces<'a>(
    peers: impl Iterator<Item = &'a Peer>,
    seeding: &SuperSeed,
    patience: Duration,
    now: Instant,
) -> Bitfield {
    let mut busy = Bitfield::new(seeding.seen.len());
    for peer in peers {
        let Some(told) = peer.told.as_deref() else {
            continue;
        };
        let active = told.is_active(patience, now);
        let is_busy = |given: &&Given| match given.whole {
            Some(_) if active => true,
            _ => !peer.choked && now.saturating_since(given.since) < patience,
        };
        for given in told.open.iter().filter(is_busy) {
            busy.set(given.piece);
        }
    }
    busy
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room of a peer that is sent all it is told of at once, after each `super_seed_idle`.
    fn rooms(config: &SwarmConfig, passes: bool) -> alloc::vec::Vec<u16> {
        let mut now = Instant::from_micros(1);
        let mut told = Told::new(config, 1_000, now);
        told.passed = passes.then_some(now);
        let mut rooms = alloc::vec::Vec::new();
        for _ in 0..8 {
            while told.lacks(false) > 0 {
                told.open.push(Given {
                    piece: 0,
                    since: now,
                    sent: 1,
                    whole: Some(now),
                });
            }
            rooms.push(told.room);
            told.grow(config, now);
            assert_eq!(rooms.last(), Some(&told.room), "before it waits");
            now = now + config.super_seed_idle;
            told.grow(config, now);
        }
        rooms
    }

    #[test]
    fn room_doubles_for_who_waits_up_to_what_it_is_trusted_with() {
        let config = SwarmConfig::default();
        assert_eq!(rooms(&config, true), [2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(rooms(&config, false), [2, 4, 8, 8, 8, 8, 8, 8]);
        let tight = SwarmConfig {
            max_super_seed_pieces: 5,
            ..config
        };
        for passes in [true, false] {
            assert_eq!(rooms(&tight, passes), [2, 4, 5, 5, 5, 5, 5, 5]);
        }
    }
}
