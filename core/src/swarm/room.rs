//! Who makes room for a newcomer when all places are taken.
//!
//! Whoever comes first is not always whom it is best to know, and places cost those nothing who
//! only sit on them. So a newcomer may take the place of a connection over which nothing has
//! flowed for `place_idle`, and of no other:
//!
//! - of one on which neither side waits for the other, whoever comes. A place changes hands so at
//!   most once in `place_idle`, since the newcomer has as long to show what it is good for;
//! - of one that waits (for a slot, or for us to ask), if the newcomer ranks higher: by canonical
//!   priority (BEP 40), which both its ends know, and while nobody has told us where we are, in an
//!   order of our own. That happens at most once in `place_interval`, so that however many knock,
//!   they do not churn out those who wait.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::io::Event;
use super::peer::Peer;
use super::picker::BLOCK_LENGTH;
use super::priority::priority;
use super::{Phase, Swarm};
use crate::event::{CloseReason, Expendable};
use crate::io::ConnId;
use crate::time::{Duration, Instant};

/// What a connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Something flows over it, or did of late, or is about to.
    Busy,
    /// Nothing does, but one side waits for the other.
    Waiting,
    /// Nothing does, and nobody waits.
    Idle,
}

impl Swarm {
    /// Takes the place of another connection for a peer at `addr`, if there is one that should
    /// give it up; otherwise says that `limit` is reached.
    pub(super) fn make_room(
        &mut self,
        addr: SocketAddr,
        limit: &'static str,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let idlest = self
            .idlest(self.now)
            .map(|conn| (conn, Expendable::Idle))
            .or_else(|| Some((self.outranked_by(addr)?, Expendable::Outranked)));
        let Some((conn, why)) = idlest else {
            return Err(CloseReason::Limit(limit));
        };
        if why == Expendable::Outranked {
            self.outranked_at = Some(self.now);
        }
        self.close(conn, CloseReason::MadeRoom(why), events);
        Ok(())
    }

    /// Of the connections on which nobody waits for anything the one over which nothing has
    /// flowed for longest.
    pub(crate) fn idlest(&self, now: Instant) -> Option<ConnId> {
        let mut idle = Vec::new();
        for (conn, peer) in &self.peers {
            if self.standing(peer, now) == Standing::Idle {
                idle.push((peer.flowed_at, *conn));
            }
        }
        idle.into_iter().min().map(|(_, conn)| conn)
    }

    /// Of the connections on which one side waits the one that ranks lowest, if one with `addr`
    /// ranks higher. Connections over which something flows stay.
    fn outranked_by(&self, addr: SocketAddr) -> Option<ConnId> {
        let interval = self.config.swarm.place_interval;
        if self.outranked_at.is_some_and(|at| at + interval > self.now) {
            return None;
        }
        let agreed = self.agreed_rank(addr);
        let rank = |addr: SocketAddr| match agreed {
            Some(_) => self.agreed_rank(addr),
            None => Some(self.known.order_of_network(addr.ip())),
        };
        let new = rank(addr)?;
        let waiting = self
            .peers
            .iter()
            .filter(|(_, peer)| self.standing(peer, self.now) == Standing::Waiting);
        let ranked = waiting.filter_map(|(conn, peer)| Some((rank(peer.addr)?, *conn)));
        let (weakest, conn) = ranked.min()?;
        (weakest < new).then_some(conn)
    }

    /// Canonical priority (BEP 40); `None` while nobody knows where we are.
    fn agreed_rank(&self, addr: SocketAddr) -> Option<u64> {
        let ours: IpAddr = self.seen_at[usize::from(addr.is_ipv6())].current()?;
        let port = self.ports.of(addr.ip())?;
        Some(priority(SocketAddr::new(ours, port), addr).into())
    }

    fn standing(&self, peer: &Peer, now: Instant) -> Standing {
        let patience: Duration = self.config.swarm.place_idle;
        if peer.flowed_at + patience > now || peer.is_exchanging() {
            return Standing::Busy;
        }
        // While what is on disk is looked at it is we who keep everybody waiting.
        let ready = matches!(self.phase, Phase::Metadata | Phase::Active);
        let gives_only = peer.is_seed() || (peer.upload_only && peer.opened);
        let pointless = self.is_complete() && gives_only;
        let for_us = peer.peer_interested && peer.choked && !peer.declined && !pointless;
        let for_it = peer.interested && !peer.snubbed;
        let for_metadata = self.fetch.is_some() && peer.metadata;
        match !ready || for_us || for_it || for_metadata {
            true => Standing::Waiting,
            false => Standing::Idle,
        }
    }
}

impl Peer {
    /// Content or metadata flows, either way. A byte now and then does not count: a block's worth
    /// does.
    pub(super) fn on_flow(&mut self, now: Instant, bytes: u64) {
        self.declined = false;
        self.flowed += bytes;
        if self.flowed >= u64::from(BLOCK_LENGTH) {
            self.flowed = 0;
            self.flowed_at = now;
        }
    }

    /// It is choked: what it asked for is known.
    pub(super) fn on_choked(&mut self, trial: Duration, now: Instant) {
        let served = self.since_unchoke + self.reading + self.unsent > 0 || !self.queue.is_empty();
        let had = self
            .last_unchoked
            .map(|since| now.saturating_since(since))
            .unwrap_or_default();
        self.declined |= had >= trial && !served;
    }

    /// Whether something is under way to it, or it owes us something and is not late. While we do
    /// not read from it, nothing that it leaves undone is its fault.
    fn is_exchanging(&self) -> bool {
        let brings = !self.snubbed && (!self.asked.is_empty() || self.arriving.is_some());
        let takes = self.reading + self.unsent > 0 || !self.metadata_queue.is_empty();
        let is_served = !self.choked && !self.queue.is_empty();
        self.parked.is_some() || brings || takes || is_served
    }
}
