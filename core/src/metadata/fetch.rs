use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use smallvec::SmallVec;

use super::PIECE_LEN;
use crate::config::Config;
use crate::id::InfoHashes;
use crate::io::ConnId;
use crate::time::Instant;

/// Pieces hashed for one input: 1 MiB; the rest is announced by `next_timeout`.
const HASHED_PER_INPUT: usize = 64;

/// What came of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do but to ask for [`Fetch::next_requests`] again.
    Pending,
    /// The metadata is here and its hash is right.
    Complete(Bytes),
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
/// After a wrong hash an assembly takes pieces from one peer at a time, so that a liar ends up as
/// the only contributor.
#[derive(Debug)]
pub struct Fetch {
    config: Arc<Config>,
    hashes: InfoHashes,
    peers: BTreeMap<ConnId, Peer>,
    /// By size.
    assemblies: BTreeMap<u32, Assembly>,
    /// Hashing goes on at the next input.
    unfinished: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Peer {
    size: u32,
    paused_until: Option<Instant>,
    in_flight: SmallVec<[(u32, Instant); 2]>,
}

#[derive(Debug)]
struct Assembly {
    pieces: Vec<Piece>,
    missing: usize,
    /// Wrong hashes and unanswered requests: the assembly with most gives way to others.
    failures: u32,
    /// The one peer that may contribute, once there was a wrong hash.
    solo: Option<Option<ConnId>>,
    hasher: Option<Box<Hasher>>,
}

#[derive(Debug, Default, Clone)]
struct Piece {
    requested: u32,
    data: Option<(ConnId, Box<[u8]>)>,
}

/// Hashes the pieces in order as they become contiguous, so that no input hashes everything.
#[derive(Debug, Default)]
struct Hasher {
    next: usize,
    sha1: Sha1,
    sha256: Sha256,
}

impl Fetch {
    /// Nothing fetched, nobody known.
    #[must_use]
    pub fn new(config: Arc<Config>, hashes: InfoHashes) -> Self {
        Self {
            config,
            hashes,
            peers: BTreeMap::new(),
            assemblies: BTreeMap::new(),
            unfinished: None,
        }
    }

    /// A peer says that it has metadata of `size` bytes. False when the size is not acceptable.
    pub fn peer_offers(&mut self, conn: ConnId, size: u32) -> bool {
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
            in_flight: SmallVec::new(),
        };
        self.peers.insert(conn, peer);
        true
    }

    /// A connection ended.
    pub fn peer_gone(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.remove(&conn) else {
            return;
        };
        if let Some(assembly) = self.assemblies.get_mut(&peer.size) {
            for (piece, _) in peer.in_flight {
                assembly.unrequest(piece);
            }
            assembly.release(conn);
        }
    }

    /// The pieces to ask `conn` for now; they count as asked for.
    pub fn next_requests(&mut self, now: Instant, conn: ConnId) -> SmallVec<[u32; 4]> {
        let mut wanted = SmallVec::new();
        let Some(size) = self.peers.get(&conn).map(|peer| peer.size) else {
            return wanted;
        };
        if !self.make_room(size) {
            return wanted;
        }
        let (Some(peer), Some(assembly)) =
            (self.peers.get_mut(&conn), self.assemblies.get_mut(&size))
        else {
            return wanted;
        };
        if peer.paused_until.is_some_and(|until| until > now) {
            return wanted;
        }
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
            if let Some(owner) = &mut assembly.solo {
                *owner = Some(conn);
            }
            assembly.pieces[index].requested += 1;
            peer.in_flight
                .push((index as u32, now + self.config.swarm.request_timeout));
            wanted.push(index as u32);
        }
        wanted
    }

    /// A piece arrived. One that was not asked for is ignored; one that does not fit what its
    /// sender claimed pauses it.
    pub fn on_data(
        &mut self,
        now: Instant,
        conn: ConnId,
        piece: u32,
        total_size: u32,
        data: &[u8],
    ) -> Outcome {
        let Some(size) = self.answered(conn, piece) else {
            return Outcome::Pending;
        };
        let fits = total_size == size && data.len() == piece_len(size, piece);
        let Some(assembly) = self.assemblies.get_mut(&size) else {
            return Outcome::Pending;
        };
        if !fits || !assembly.admits(conn) {
            self.pause(now, conn);
            return Outcome::Pending;
        }
        let place = &mut assembly.pieces[piece as usize];
        if place.data.is_none() {
            // A copy: the slice would pin the read buffer until everything is there.
            place.data = Some((conn, data.into()));
            assembly.missing -= 1;
        }
        self.hash_on(now, size)
    }

    /// A peer will not send a piece: it is left alone for a while.
    pub fn on_reject(&mut self, now: Instant, conn: ConnId, piece: u32) {
        if self.answered(conn, piece).is_some() {
            self.pause(now, conn);
        }
    }

    /// Gives up requests that took too long and goes on hashing.
    pub fn tick(&mut self, now: Instant) -> Outcome {
        let late: SmallVec<[ConnId; 8]> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.in_flight.iter().any(|(_, until)| *until <= now))
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
        match self.unfinished.take() {
            Some((size, _)) => self.hash_on(now, size),
            None => Outcome::Pending,
        }
    }

    /// When the next [`Fetch::tick`] is due; afterwards requests may be possible again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let unfinished = self.unfinished.map(|(_, at)| at);
        let peers = self.peers.values().flat_map(|peer| {
            peer.in_flight
                .iter()
                .map(|(_, until)| *until)
                .chain(peer.paused_until)
        });
        unfinished.into_iter().chain(peers).min()
    }

    /// Pieces here and pieces in all, of the assembly that is most advanced.
    #[must_use]
    pub fn progress(&self) -> (u32, u32) {
        self.assemblies
            .values()
            .map(|assembly| {
                let all = assembly.pieces.len() as u32;
                (all - assembly.missing as u32, all)
            })
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

    /// Whether there is an assembly of that size, now. Another one gives way if it failed more
    /// often, or as often and fewer peers claim its size.
    fn make_room(&mut self, size: u32) -> bool {
        if self.assemblies.contains_key(&size) {
            return true;
        }
        if self.assemblies.len() >= usize::from(self.config.swarm.max_metadata_sizes) {
            let claims = |size: u32| self.peers.values().filter(|peer| peer.size == size).count();
            let worst = self
                .assemblies
                .iter()
                .map(|(size, assembly)| (assembly.failures, usize::MAX - claims(*size), *size))
                .max();
            match worst {
                Some((failures, unclaimed, worst))
                    if (0, usize::MAX - claims(size)) < (failures, unclaimed) =>
                {
                    self.forget(worst);
                }
                _ => return false,
            }
        }
        self.assemblies.insert(size, Assembly::new(size));
        true
    }

    fn forget(&mut self, size: u32) {
        self.assemblies.remove(&size);
        if self.unfinished.is_some_and(|(of, _)| of == size) {
            self.unfinished = None;
        }
        for peer in self.peers.values_mut().filter(|peer| peer.size == size) {
            peer.in_flight.clear();
        }
    }

    fn hash_on(&mut self, now: Instant, size: u32) -> Outcome {
        let Some(assembly) = self.assemblies.get_mut(&size) else {
            return Outcome::Pending;
        };
        if !assembly.hash_some() {
            if assembly.missing == 0 {
                self.unfinished = Some((size, now));
            }
            return Outcome::Pending;
        }
        if assembly.is_right(&self.hashes) {
            let mut raw = Vec::with_capacity(size as usize);
            for (_, data) in assembly
                .pieces
                .iter()
                .filter_map(|piece| piece.data.as_ref())
            {
                raw.extend_from_slice(data);
            }
            return Outcome::Complete(raw.into());
        }
        let mut contributors: Vec<ConnId> = assembly
            .pieces
            .iter()
            .filter_map(|piece| piece.data.as_ref())
            .map(|(conn, _)| *conn)
            .collect();
        contributors.sort_unstable();
        contributors.dedup();
        let failures = assembly.failures.saturating_add(1);
        self.forget(size);
        let mut fresh = Assembly::new(size);
        fresh.failures = failures;
        fresh.solo = Some(None);
        self.assemblies.insert(size, fresh);
        for conn in &contributors {
            self.pause(now, *conn);
        }
        let ban = match contributors[..] {
            [only] => Some(only),
            _ => None,
        };
        Outcome::BadHash { ban }
    }
}

impl Assembly {
    fn new(size: u32) -> Self {
        let count = size.div_ceil(PIECE_LEN) as usize;
        Self {
            pieces: alloc::vec![Piece::default(); count],
            missing: count,
            failures: 0,
            solo: None,
            hasher: Some(Box::default()),
        }
    }

    fn admits(&self, conn: ConnId) -> bool {
        self.solo
            .is_none_or(|owner| owner.is_none_or(|owner| owner == conn))
    }

    fn unrequest(&mut self, piece: u32) {
        if let Some(piece) = self.pieces.get_mut(piece as usize) {
            piece.requested = piece.requested.saturating_sub(1);
        }
    }

    /// The peer stops contributing. Alone, it takes its pieces along.
    fn release(&mut self, conn: ConnId) {
        if self.solo == Some(Some(conn)) && self.missing > 0 {
            let failures = self.failures;
            let size = self.pieces.len() as u32 * PIECE_LEN;
            *self = Self {
                failures,
                solo: Some(None),
                ..Self::new(size)
            };
        }
    }

    /// Hashes some of what is contiguous; true when all is hashed.
    fn hash_some(&mut self) -> bool {
        let Some(hasher) = &mut self.hasher else {
            return false;
        };
        for _ in 0..HASHED_PER_INPUT {
            let piece = self
                .pieces
                .get(hasher.next)
                .and_then(|piece| piece.data.as_ref());
            let Some((_, data)) = piece else { break };
            hasher.sha1.update(data);
            hasher.sha256.update(data);
            hasher.next += 1;
        }
        hasher.next == self.pieces.len()
    }

    fn is_right(&mut self, hashes: &InfoHashes) -> bool {
        let Some(hasher) = self.hasher.take() else {
            return false;
        };
        let sha1: [u8; 20] = hasher.sha1.finalize().into();
        let sha256: [u8; 32] = hasher.sha256.finalize().into();
        hashes.v1().is_none_or(|v1| v1 == sha1) && hashes.v2().is_none_or(|v2| v2 == sha256)
    }
}

fn piece_len(size: u32, piece: u32) -> usize {
    let start = u64::from(piece) * u64::from(PIECE_LEN);
    u64::from(size)
        .saturating_sub(start)
        .min(u64::from(PIECE_LEN)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;
    use std::vec;

    const NOW: Instant = Instant::MIN;

    fn conn(index: u32) -> ConnId {
        ConnId(Key {
            index,
            generation: 0,
        })
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn fetch(content: &[u8]) -> Fetch {
        let v1 = Sha1::digest(content).into();
        Fetch::new(
            Arc::new(Config::default()),
            InfoHashes::new(Some(v1), None).unwrap(),
        )
    }

    fn part(content: &[u8], piece: u32) -> &[u8] {
        let start = piece as usize * PIECE_LEN as usize;
        &content[start..content.len().min(start + PIECE_LEN as usize)]
    }

    fn answer(fetch: &mut Fetch, now: Instant, from: u32, content: &[u8], piece: u32) -> Outcome {
        let size = content.len() as u32;
        fetch.on_data(now, conn(from), piece, size, part(content, piece))
    }

    #[test]
    fn two_peers_share_the_pieces_and_two_requests_are_in_flight_each() {
        let content = content(3 * PIECE_LEN as usize + 100);
        let mut fetch = fetch(&content);
        assert!(fetch.peer_offers(conn(1), content.len() as u32));
        assert!(fetch.peer_offers(conn(2), content.len() as u32));
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0, 1]);
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
        assert_eq!(fetch.next_requests(NOW, conn(2))[..], [2, 3]);
        for (from, piece) in [(2, 3), (1, 1), (2, 2)] {
            assert_eq!(
                answer(&mut fetch, NOW, from, &content, piece),
                Outcome::Pending
            );
        }
        assert_eq!(fetch.progress(), (3, 4));
        let done = answer(&mut fetch, NOW, 1, &content, 0);
        assert_eq!(done, Outcome::Complete(content.into()));
    }

    #[test]
    fn both_hashes_of_a_hybrid_count() {
        let content = content(10);
        let (v1, v2) = (
            Sha1::digest(&content).into(),
            Sha256::digest(&content).into(),
        );
        for (v1, v2, right) in [
            (Some(v1), Some(v2), true),
            (None, Some(v2), true),
            (Some(v1), Some([0; 32]), false),
            (Some([0; 20]), Some(v2), false),
        ] {
            let hashes = InfoHashes::new(v1, v2).unwrap();
            let mut fetch = Fetch::new(Arc::new(Config::default()), hashes);
            fetch.peer_offers(conn(1), 10);
            assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0]);
            let outcome = answer(&mut fetch, NOW, 1, &content, 0);
            assert_eq!(outcome == Outcome::Complete(content.clone().into()), right);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused_and_assemblies_are_bounded() {
        let content = content(100);
        let mut fetch = fetch(&content);
        let most = fetch.config.swarm.max_metadata;
        assert!(!fetch.peer_offers(conn(1), 0));
        assert!(!fetch.peer_offers(conn(1), most + 1));
        assert!(fetch.peer_offers(conn(1), most));
        for size in 1..=20 {
            fetch.peer_offers(conn(size), size);
            fetch.next_requests(NOW, conn(size));
        }
        assert_eq!(fetch.assemblies.len(), 4);
        // Two honest peers outweigh a liar that came first.
        for honest in [100, 101] {
            fetch.peer_offers(conn(honest), 100);
        }
        assert_eq!(fetch.next_requests(NOW, conn(100))[..], [0]);
        assert_eq!(fetch.assemblies.len(), 4);
        let done = answer(&mut fetch, NOW, 100, &content, 0);
        assert_eq!(done, Outcome::Complete(content.into()));
    }

    #[test]
    fn a_reject_and_a_silence_pause_a_peer() {
        let content = content(100);
        let mut fetch = fetch(&content);
        let pause = fetch.config.swarm.metadata_pause;
        let timeout = fetch.config.swarm.request_timeout;
        fetch.peer_offers(conn(1), 100);
        assert_eq!(fetch.next_timeout(), None);
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], [0]);
        assert_eq!(fetch.next_timeout(), Some(NOW + timeout));
        fetch.on_reject(NOW, conn(1), 0);
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
        assert_eq!(fetch.next_timeout(), Some(NOW + pause));
        let now = NOW + pause;
        assert_eq!(fetch.tick(now), Outcome::Pending);
        assert_eq!(fetch.next_requests(now, conn(1))[..], [0]);
        let now = now + timeout;
        fetch.tick(now);
        assert_eq!(fetch.next_requests(now, conn(1))[..], []);
        assert_eq!(fetch.next_timeout(), Some(now + pause));
        // A late answer is not one that is waited for.
        assert_eq!(answer(&mut fetch, now, 1, &content, 0), Outcome::Pending);
        assert_eq!(fetch.progress(), (0, 1));
    }

    #[test]
    fn the_only_contributor_of_a_bad_hash_is_banned() {
        let content = content(100);
        let mut fetch = fetch(&content);
        fetch.peer_offers(conn(1), 100);
        fetch.next_requests(NOW, conn(1));
        let outcome = answer(&mut fetch, NOW, 1, &[0; 100], 0);
        assert_eq!(outcome, Outcome::BadHash { ban: Some(conn(1)) });
        assert_eq!(fetch.next_requests(NOW, conn(1))[..], []);
    }

    #[test]
    fn a_liar_among_honest_peers_is_found_and_the_metadata_arrives() {
        let content = content(8 * PIECE_LEN as usize);
        let mut fetch = fetch(&content);
        let lies = vec![0xee; content.len()];
        let mut now = NOW;
        let mut banned = None;
        for peer in 1..=3 {
            fetch.peer_offers(conn(peer), content.len() as u32);
        }
        for _ in 0..1_000 {
            for peer in 1..=3 {
                for piece in fetch.next_requests(now, conn(peer)) {
                    let says = if peer == 1 { &lies } else { &content };
                    match answer(&mut fetch, now, peer, says, piece) {
                        Outcome::Pending => {}
                        Outcome::Complete(raw) => {
                            assert_eq!(raw, content);
                            return;
                        }
                        Outcome::BadHash { ban } => {
                            assert!(ban.is_none_or(|conn| conn.0.index == 1));
                            banned = banned.or(ban);
                            if let Some(conn) = ban {
                                fetch.peer_gone(conn);
                            }
                        }
                    }
                }
            }
            if let Some(at) = fetch.next_timeout() {
                now = now.max(at);
                assert_eq!(fetch.tick(now), Outcome::Pending);
            }
        }
        panic!("never complete; banned {banned:?}");
    }

    #[test]
    fn a_long_metadata_is_hashed_in_slices() {
        let content = content(200 * PIECE_LEN as usize);
        let mut fetch = fetch(&content);
        fetch.peer_offers(conn(1), content.len() as u32);
        fetch.peer_offers(conn(2), content.len() as u32);
        let held = fetch.next_requests(NOW, conn(2));
        assert_eq!(held[..], [0, 1]);
        loop {
            // The held ones are asked for twice in the end; they are left to the other peer.
            let wanted: Vec<u32> = fetch.next_requests(NOW, conn(1)).into_iter().collect();
            if wanted.iter().all(|piece| held.contains(piece)) {
                break;
            }
            for piece in wanted.into_iter().filter(|piece| !held.contains(piece)) {
                assert_eq!(
                    answer(&mut fetch, NOW, 1, &content, piece),
                    Outcome::Pending
                );
            }
        }
        answer(&mut fetch, NOW, 2, &content, 0);
        assert_eq!(answer(&mut fetch, NOW, 2, &content, 1), Outcome::Pending);
        let mut ticks = 0;
        while fetch.next_timeout() == Some(NOW) {
            ticks += 1;
            if let Outcome::Complete(raw) = fetch.tick(NOW) {
                assert_eq!(raw, content);
                assert_eq!(ticks, 3);
                return;
            }
        }
        panic!("never complete");
    }
}
