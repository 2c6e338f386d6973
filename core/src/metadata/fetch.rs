use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use bytes::Bytes;
use smallvec::SmallVec;

use super::PIECE_LEN;
use super::assembly::{Assembled, Assembly, Checked};
use crate::config::Config;
use crate::id::InfoHashes;
use crate::io::ConnId;
use crate::metainfo::Info;
use crate::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// A turn is doubled no more often than this, whatever the config allows.
const MAX_DOUBLINGS: u8 = 16;

/// What a [`Fetch`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// A peer says that it has metadata of `size` bytes.
    Offered {
        /// The peer.
        conn: ConnId,
        /// Bytes; a size that is not acceptable changes nothing.
        size: u32,
    },
    /// A connection ended.
    Gone {
        /// The peer.
        conn: ConnId,
    },
    /// We stop reading from a peer, or go on: that time does not count as its silence.
    Reading {
        /// The peer.
        conn: ConnId,
        /// Whether we read.
        on: bool,
    },
    /// A peer can be asked: `Request` events say for what, and count as sent.
    Ask {
        /// The peer.
        conn: ConnId,
    },
    /// A piece arrived. One that was not asked for is ignored; one that does not fit what its
    /// sender claimed pauses it.
    Data {
        /// The peer.
        conn: ConnId,
        /// Index of the piece.
        piece: u32,
        /// The size of the metadata, bytes, as the message has it.
        total_size: u32,
        /// The piece; it is copied.
        data: &'a [u8],
    },
    /// A peer will not send a piece: it is left alone for a while.
    Rejected {
        /// The peer.
        conn: ConnId,
        /// Index of the piece.
        piece: u32,
    },
    /// A job has looked at the assembly of `size`.
    Checked {
        /// The claimed size, bytes.
        size: u32,
        /// What the job says.
        checked: Checked,
    },
    /// Time passed.
    Tick,
}

/// What a [`Fetch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody may be asked for something now: an `Ask` for each peer shows whom and for what.
    MayAsk,
    /// A peer is to be asked for a piece.
    Request {
        /// The peer.
        conn: ConnId,
        /// Index of the piece.
        piece: u32,
    },
    /// Everything of one size is here: [`Assembled::check`] is to be done, as a job, and its
    /// result told by [`Input::Checked`].
    Check {
        /// The claimed size, bytes: names the assembly.
        size: u32,
        /// What is to be checked.
        assembled: Arc<Assembled>,
    },
    /// The metadata is here and its hash is right.
    Complete(Arc<Info>),
    /// The hash is right, and nothing can be done with what it names: every peer would send the
    /// same.
    Unreadable,
    /// An assembly had the wrong hash. Its contributors pause; the only contributor is to be
    /// banned.
    BadHash {
        /// Whom to ban.
        ban: Option<ConnId>,
    },
}

/// Fetches metadata from peers until its hash is right (BEP 9).
///
/// One assembly per claimed size, so that a peer who lies about the size disturbs nobody else.
/// There are only so many slots for assemblies. A size that more peers claim takes the place of
/// one that fewer claim, and a size that waited long enough takes the place of whichever brings
/// least, and keeps it for a turn: however many sizes are claimed, each has its turn, those that
/// waited longest first. A size that made good use of its turn gets a longer one the next time.
///
/// After a wrong hash an assembly takes pieces from one peer at a time, so that a liar ends up as
/// the only contributor. That peer too yields to another when its turn is over.
#[derive(Debug)]
pub struct Fetch {
    config: Arc<Config>,
    hashes: InfoHashes,
    peers: BTreeMap<ConnId, Peer>,
    /// By size: what connected peers say. At most one for each peer.
    claims: BTreeMap<u32, Claim>,
    /// By size.
    assemblies: BTreeMap<u32, Assembly>,
}

#[derive(Debug)]
struct Peer {
    size: u32,
    paused_until: Option<Instant>,
    /// Since when we do not read from it: what it leaves unanswered is not its fault.
    parked: Option<Instant>,
    in_flight: SmallVec<[(u32, Instant); 2]>,
}

#[derive(Debug)]
struct Claim {
    peers: u32,
    /// Since when it has no slot, when it has none.
    waits_since: Instant,
    /// Turns so far that were of use and too short.
    turns: u8,
}

impl Fetch {
    /// Nothing fetched, nobody known.
    #[must_use]
    pub fn new(config: Arc<Config>, hashes: InfoHashes) -> Self {
        Self {
            config,
            hashes,
            peers: BTreeMap::new(),
            claims: BTreeMap::new(),
            assemblies: BTreeMap::new(),
        }
    }

    /// Takes an input and appends what follows from it.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, events: &mut Vec<Event>) {
        let event = match input {
            Input::Offered { conn, size } => {
                if !self.peer_offers(now, conn, size) {
                    return;
                }
                Event::MayAsk
            }
            Input::Gone { conn } => {
                self.peer_gone(conn);
                Event::MayAsk
            }
            Input::Reading { conn, on } => return self.on_reading(now, conn, on),
            Input::Ask { conn } => {
                let pieces = self.next_requests(now, conn).into_iter();
                events.extend(pieces.map(|piece| Event::Request { conn, piece }));
                return;
            }
            Input::Data {
                conn,
                piece,
                total_size,
                data,
            } => self.on_data(now, conn, piece, total_size, data),
            Input::Rejected { conn, piece } => {
                self.on_reject(now, conn, piece);
                Event::MayAsk
            }
            Input::Checked { size, checked } => self.on_checked(now, size, checked),
            Input::Tick => {
                self.tick(now);
                Event::MayAsk
            }
        };
        if event != Event::MayAsk {
            events.push(Event::MayAsk);
        }
        events.push(event);
    }

    /// False when the size is not acceptable.
    fn peer_offers(&mut self, now: Instant, conn: ConnId, size: u32) -> bool {
        if size == 0 || size > self.config.swarm.max_metadata {
            return false;
        }
        if self.peers.get(&conn).is_some_and(|peer| peer.size == size) {
            return true;
        }
        self.peer_gone(conn);
        let peer = Peer {
            size,
            paused_until: None,
            parked: None,
            in_flight: SmallVec::new(),
        };
        self.peers.insert(conn, peer);
        let claim = self.claims.entry(size).or_insert(Claim {
            peers: 0,
            waits_since: now,
            turns: 0,
        });
        claim.peers += 1;
        true
    }

    fn peer_gone(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.remove(&conn) else {
            return;
        };
        if let Some(claim) = self.claims.get_mut(&peer.size) {
            claim.peers -= 1;
            if claim.peers == 0 {
                self.claims.remove(&peer.size);
            }
        }
        if let Some(assembly) = self.assemblies.get_mut(&peer.size) {
            for (piece, _) in peer.in_flight {
                assembly.unrequest(piece);
            }
            assembly.release(conn);
        }
    }

    fn on_reading(&mut self, now: Instant, conn: ConnId, on: bool) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if !on {
            peer.parked.get_or_insert(now);
        } else if let Some(since) = peer.parked.take() {
            for (_, until) in &mut peer.in_flight {
                *until = *until + now.saturating_since(since);
            }
        }
    }

    /// The pieces to ask `conn` for now; they count as asked for.
    fn next_requests(&mut self, now: Instant, conn: ConnId) -> SmallVec<[u32; 4]> {
        let mut wanted = SmallVec::new();
        let Some(peer) = self.peers.get(&conn) else {
            return wanted;
        };
        let size = peer.size;
        if peer.is_paused(now) || !self.make_room(now, size) {
            return wanted;
        }
        let solo = self.assemblies.get(&size).and_then(|it| it.solo);
        let turn = self.turn(solo.map_or(0, |solo| solo.turns));
        let (Some(peer), Some(assembly)) =
            (self.peers.get_mut(&conn), self.assemblies.get_mut(&size))
        else {
            return wanted;
        };
        peer.paused_until = None;
        let limit = usize::from(self.config.swarm.metadata_requests);
        while peer.in_flight.len() < limit && assembly.admits(conn) {
            let asked = |index: usize| peer.in_flight.iter().any(|(at, _)| *at as usize == index);
            let best = assembly
                .pieces
                .iter()
                .enumerate()
                .filter(|(index, piece)| piece.data.is_none() && !asked(*index))
                .min_by_key(|(_, piece)| piece.requested);
            let Some((index, _)) = best else { break };
            if let Some(solo) = &mut assembly.solo {
                solo.owner.get_or_insert((conn, now + turn));
            }
            assembly.pieces[index].requested += 1;
            peer.in_flight
                .push((index as u32, now + self.config.swarm.request_timeout));
            wanted.push(index as u32);
        }
        wanted
    }

    fn on_data(
        &mut self,
        now: Instant,
        conn: ConnId,
        piece: u32,
        total_size: u32,
        data: &[u8],
    ) -> Event {
        let Some(size) = self.answered(conn, piece) else {
            return Event::MayAsk;
        };
        let fits = total_size == size && data.len() == piece_len(size, piece);
        let Some(assembly) = self.assemblies.get_mut(&size) else {
            return Event::MayAsk;
        };
        if !fits {
            self.pause(now, conn);
            return Event::MayAsk;
        }
        // What others were asked for before one peer was chosen is of no use any more.
        let place = &mut assembly.pieces[piece as usize];
        if assembly.checking.is_some()
            || place.data.is_some()
            || assembly
                .solo
                .is_some_and(|solo| solo.owner.is_none_or(|(owner, _)| owner != conn))
        {
            return Event::MayAsk;
        }
        // A copy: the slice would pin the read buffer until everything is there.
        place.data = Some((conn, Bytes::copy_from_slice(data)));
        assembly.missing -= 1;
        if assembly.missing > 0 {
            return Event::MayAsk;
        }
        let assembled = Arc::new(assembly.take(self.hashes, self.config.swarm.rules()));
        Event::Check { size, assembled }
    }

    fn on_checked(&mut self, now: Instant, size: u32, checked: Checked) -> Event {
        let Some(assembly) = self.assemblies.get_mut(&size) else {
            return Event::MayAsk;
        };
        match checked {
            Checked::Right(info) if self.hashes.fit(&info.hashes) => Event::Complete(info),
            Checked::Right(_) | Checked::Unreadable => Event::Unreadable,
            Checked::WrongHash => {
                let contributors = assembly.begin_anew();
                for conn in &contributors {
                    self.pause(now, *conn);
                }
                let ban = match contributors[..] {
                    [only] => Some(only),
                    _ => None,
                };
                Event::BadHash { ban }
            }
        }
    }

    fn on_reject(&mut self, now: Instant, conn: ConnId, piece: u32) {
        if self.answered(conn, piece).is_some() {
            self.pause(now, conn);
        }
    }

    /// Gives up requests that took too long, and peers that had their turn alone.
    fn tick(&mut self, now: Instant) {
        let late: SmallVec<[ConnId; 8]> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.overdue_at().is_some_and(|at| at <= now))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in late {
            let size = self.peers.get(&conn).map(|peer| peer.size);
            if let Some(assembly) = size.and_then(|size| self.assemblies.get_mut(&size)) {
                assembly.failures = assembly.failures.saturating_add(1);
            }
            self.pause(now, conn);
        }
        for peer in self.peers.values_mut() {
            if peer.paused_until.is_some_and(|until| until <= now) {
                peer.paused_until = None;
            }
        }
        let over: SmallVec<[(u32, ConnId); 4]> = self
            .assemblies
            .iter()
            .filter_map(|(size, assembly)| Some((*size, assembly.solo_turn()?)))
            .filter(|(_, (_, ends))| *ends <= now)
            .map(|(size, (owner, _))| (size, owner))
            .collect();
        for (size, owner) in over {
            self.end_solo_turn(now, size, owner);
        }
    }

    /// When the next [`Input::Tick`] is due; afterwards requests may be possible again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let peers = self
            .peers
            .values()
            .flat_map(|peer| peer.overdue_at().into_iter().chain(peer.paused_until));
        let solo = self.assemblies.values().filter_map(Assembly::solo_turn);
        let solo = solo.map(|(_, ends)| ends);
        peers.chain(solo).chain(self.next_turn()).min()
    }

    /// Pieces here and pieces in all, of the assembly that is most advanced.
    #[must_use]
    pub fn progress(&self) -> (u32, u32) {
        self.assemblies
            .values()
            .map(|assembly| (assembly.received() as u32, assembly.pieces.len() as u32))
            .max()
            .unwrap_or((0, 0))
    }

    /// Takes a request off the peer's list and returns the size it is of.
    fn answered(&mut self, conn: ConnId, piece: u32) -> Option<u32> {
        let peer = self.peers.get_mut(&conn)?;
        let at = peer
            .in_flight
            .iter()
            .position(|(asked, _)| *asked == piece)?;
        peer.in_flight.remove(at);
        let size = peer.size;
        if let Some(assembly) = self.assemblies.get_mut(&size) {
            assembly.unrequest(piece);
        }
        Some(size)
    }

    fn pause(&mut self, now: Instant, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.paused_until = Some(now + self.config.swarm.metadata_pause);
        let in_flight = core::mem::take(&mut peer.in_flight);
        if let Some(assembly) = self.assemblies.get_mut(&peer.size) {
            for (piece, _) in in_flight {
                assembly.unrequest(piece);
            }
            assembly.release(conn);
        }
    }

    /// Whether there is an assembly of that size, now.
    fn make_room(&mut self, now: Instant, size: u32) -> bool {
        if self.assemblies.contains_key(&size) {
            return true;
        }
        let turns = self.claims.get(&size).map_or(0, |claim| claim.turns);
        let turn_ends = now + self.turn(turns);
        let mut fresh = Assembly::new(size, now, turn_ends);
        if self.assemblies.len() >= usize::from(self.config.swarm.max_metadata_sizes) {
            let slowest = self.slowest(now).filter(|_| self.is_next(now, size));
            if let Some(slowest) = slowest {
                self.forget(now, slowest);
                fresh.waited = true;
            } else if let Some(lightest) = self.outweighed_by(now, size) {
                // The turn goes on, so that no change of claims puts off whoever waits for it.
                fresh.turn_ends = self.assemblies[&lightest].turn_ends;
                self.forget(now, lightest);
            } else {
                return false;
            }
        }
        self.assemblies.insert(size, fresh);
        true
    }

    /// Of those whose turn is over, the assembly that got least in its time.
    fn slowest(&self, now: Instant) -> Option<u32> {
        self.assemblies
            .iter()
            .filter(|(_, assembly)| assembly.checking.is_none() && assembly.turn_ends <= now)
            .min_by_key(|(size, it)| (it.rate(now), Reverse(it.failures), **size))
            .map(|(size, _)| *size)
    }

    /// The assembly that failed most often, or is claimed by fewest, if that is worse than one of
    /// `size` would be.
    fn outweighed_by(&self, now: Instant, size: u32) -> Option<u32> {
        let unclaimed = |size: u32| Reverse(self.claims.get(&size).map_or(0, |claim| claim.peers));
        self.assemblies
            .iter()
            .filter(|(_, it)| it.checking.is_none() && !(it.waited && now < it.turn_ends))
            .map(|(size, assembly)| (assembly.failures, unclaimed(*size), *size))
            .max()
            .filter(|(failures, claims, _)| (0, unclaimed(size)) < (*failures, *claims))
            .map(|(_, _, size)| size)
    }

    /// Whether `size` has waited long enough for a slot, and longer than any other.
    fn is_next(&self, now: Instant, size: u32) -> bool {
        let Some(claim) = self.claims.get(&size) else {
            return false;
        };
        claim.waits_since + self.turn(0) <= now
            && self.longest_waiting(now) == Some((claim.waits_since, size))
    }

    /// The size that has waited longest for a slot, of those that a peer stands ready to send.
    fn longest_waiting(&self, now: Instant) -> Option<(Instant, u32)> {
        self.peers
            .values()
            .filter(|peer| !peer.is_paused(now) && !self.assemblies.contains_key(&peer.size))
            .filter_map(|peer| Some((self.claims.get(&peer.size)?.waits_since, peer.size)))
            .min()
    }

    /// When a size that waits may take the slot of another.
    fn next_turn(&self) -> Option<Instant> {
        if self.assemblies.len() < usize::from(self.config.swarm.max_metadata_sizes) {
            return None;
        }
        // A peer whose pause ends is a reason of its own to tick.
        let (since, _) = self.longest_waiting(Instant::MIN)?;
        let taken = self.assemblies.values().filter(|it| it.checking.is_none());
        let free = taken.map(|assembly| assembly.turn_ends).min()?;
        Some(free.max(since + self.turn(0)))
    }

    /// How long a turn is after so many that were of use and too short.
    fn turn(&self, turns: u8) -> Duration {
        let config = &self.config.swarm;
        let turn = config.metadata_turn * (1 << turns.min(MAX_DOUBLINGS));
        turn.min(config.max_metadata_turn)
    }

    /// Drops an assembly; its size waits from now on.
    fn forget(&mut self, now: Instant, size: u32) {
        let Some(assembly) = self.assemblies.remove(&size) else {
            return;
        };
        let used = assembly.used(now.saturating_since(assembly.began));
        if let Some(claim) = self.claims.get_mut(&size) {
            claim.waits_since = now;
            if used {
                claim.turns = claim.turns.saturating_add(1).min(MAX_DOUBLINGS);
            }
        }
        for peer in self.peers.values_mut().filter(|peer| peer.size == size) {
            peer.in_flight.clear();
        }
    }

    /// The only contributor had its turn: another peer has one, if there is another.
    fn end_solo_turn(&mut self, now: Instant, size: u32, owner: ConnId) {
        let other = self
            .peers
            .iter()
            .any(|(conn, peer)| *conn != owner && peer.size == size && !peer.is_paused(now));
        let Some(turns) = self.assemblies.get(&size).and_then(|it| it.solo) else {
            return;
        };
        let turn = self.turn(turns.turns);
        let Some(assembly) = self.assemblies.get_mut(&size) else {
            return;
        };
        let used = assembly.used(turn);
        if let Some(solo) = &mut assembly.solo {
            if !other {
                solo.owner = Some((owner, now + turn));
                return;
            }
            if used {
                solo.turns = solo.turns.saturating_add(1).min(MAX_DOUBLINGS);
            }
        }
        self.pause(now, owner);
    }
}

impl Peer {
    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// When its oldest request will have waited too long; never, while it cannot be answered.
    fn overdue_at(&self) -> Option<Instant> {
        let asked = self.in_flight.iter().filter(|_| self.parked.is_none());
        asked.map(|(_, until)| *until).min()
    }
}

fn piece_len(size: u32, piece: u32) -> usize {
    let start = u64::from(piece) * u64::from(PIECE_LEN);
    u64::from(size)
        .saturating_sub(start)
        .min(u64::from(PIECE_LEN)) as usize
}
