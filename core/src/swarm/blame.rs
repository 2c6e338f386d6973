//! Who lied, when several peers brought a piece that was wrong.
//!
//! The hash of a piece says that a byte of it is wrong, not which. So the blocks of the bad copy
//! are hashed one by one, and once the piece is right, so are those of the good copy: who brought
//! a block that differs lied, and nobody else is touched. Both are jobs of the host. Until then
//! those who had a part in it are given pieces of their own (`parole`), so that whoever goes on
//! lying is caught by the next one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::picker::PeerKey;
use super::{Event, Job, Pending, Swarm};
use crate::event;
use crate::io::{BlockHash, JobError, JobResult};

/// A bad copy of a piece whose liars are not known yet.
#[derive(Debug)]
struct Suspicion {
    serial: u32,
    piece: u32,
    /// Who brought each block; nobody those of pad files.
    from: Vec<Option<PeerKey>>,
    /// Where they were; some may be gone by the time they are named.
    addrs: Vec<(PeerKey, SocketAddr)>,
    /// The hashes of its blocks, once the host has told.
    bad: Option<Vec<BlockHash>>,
    /// Those of the right piece.
    good: Option<Vec<BlockHash>>,
}

impl Suspicion {
    /// Who brought a block that differs, once each; `None` while that is not known.
    fn liars(&self) -> Option<Vec<PeerKey>> {
        let (bad, good) = (self.bad.as_ref()?, self.good.as_ref()?);
        let blocks = self.from.iter().zip(bad.iter().zip(good));
        let wrong = blocks.filter(|(_, (bad, good))| bad != good);
        let mut liars: Vec<PeerKey> = wrong.filter_map(|(peer, _)| *peer).collect();
        liars.sort_unstable();
        liars.dedup();
        Some(liars)
    }

    fn addr_of(&self, key: PeerKey) -> Option<SocketAddr> {
        let mut addrs = self.addrs.iter();
        addrs.find(|(peer, _)| *peer == key).map(|(_, addr)| *addr)
    }
}

/// The bad copies that are remembered.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// The oldest first.
    open: VecDeque<Suspicion>,
    serial: u32,
}

impl Blame {
    /// Blocks that are remembered, over all pieces.
    pub(super) fn blocks(&self) -> usize {
        self.open.iter().map(|open| open.from.len()).sum()
    }

    /// Remembers a bad copy; the oldest are forgotten to make room. Gives its number, or nothing
    /// when it is larger than all there is room for.
    fn remember(
        &mut self,
        most: usize,
        piece: u32,
        from: Vec<Option<PeerKey>>,
        addrs: Vec<(PeerKey, SocketAddr)>,
    ) -> Option<u32> {
        if from.len() > most {
            return None;
        }
        while self.blocks() + from.len() > most {
            self.open.pop_front();
        }
        self.serial = self.serial.wrapping_add(1);
        self.open.push_back(Suspicion {
            serial: self.serial,
            piece,
            from,
            addrs,
            bad: None,
            good: None,
        });
        Some(self.serial)
    }

    fn is_open(&self, piece: u32) -> bool {
        self.open.iter().any(|open| open.piece == piece)
    }

    fn forget(&mut self, which: impl Fn(&Suspicion) -> bool) {
        self.open.retain(|open| !which(open));
    }

    /// Takes out one that is solved.
    fn take_solved(&mut self) -> Option<(Suspicion, Vec<PeerKey>)> {
        let mut open = self.open.iter().enumerate();
        let (at, liars) = open.find_map(|(at, open)| Some((at, open.liars()?)))?;
        Some((self.open.remove(at)?, liars))
    }
}

impl Swarm {
    /// A piece that several peers brought is wrong: its blocks are hashed before it is dropped.
    pub(super) fn suspect(&mut self, piece: u32, events: &mut Vec<Event>) {
        let Some(content) = &self.content else { return };
        let from = content.picker.block_contributors(piece);
        let contributors = content.picker.contributors(piece);
        let addrs = contributors.iter();
        let addrs = addrs.filter_map(|key| Some((*key, self.address_of(*key)?)));
        let addrs = addrs.collect();
        let most = self.config.swarm.max_suspect_blocks as usize;
        if let Some(serial) = self.blame.remember(most, piece, from, addrs) {
            let pending = Pending::BadBlocks { serial };
            self.job(pending, Job::HashBlocks { piece }, events);
        }
    }

    /// A piece is right: if a copy of it was wrong before, its blocks are hashed to be compared.
    pub(super) fn compare(&mut self, piece: u32, events: &mut Vec<Event>) {
        if self.blame.is_open(piece) {
            let pending = Pending::GoodBlocks { piece };
            self.job(pending, Job::HashBlocks { piece }, events);
        }
    }

    /// The blocks of a bad copy have been hashed.
    pub(super) fn on_bad_blocks(
        &mut self,
        serial: u32,
        result: JobResult,
        events: &mut Vec<Event>,
    ) {
        match hashes_of(result) {
            Ok(hashes) => {
                let mut open = self.blame.open.iter_mut();
                if let Some(open) = open.find(|open| open.serial == serial) {
                    open.bad = Some(hashes);
                }
            }
            // Storage has lost it: parole alone finds out.
            Err(_) => self.blame.forget(|open| open.serial == serial),
        }
        self.name_liars(events);
    }

    /// The blocks of a right piece have been hashed.
    pub(super) fn on_good_blocks(
        &mut self,
        piece: u32,
        result: JobResult,
        events: &mut Vec<Event>,
    ) {
        match hashes_of(result) {
            Ok(hashes) => {
                let open = self.blame.open.iter_mut();
                for open in open.filter(|open| open.piece == piece) {
                    open.good = Some(hashes.clone());
                }
            }
            Err(_) => self.blame.forget(|open| open.piece == piece),
        }
        self.name_liars(events);
    }

    /// Bans whoever is known to have lied, and tells of it.
    fn name_liars(&mut self, events: &mut Vec<Event>) {
        while let Some((open, liars)) = self.blame.take_solved() {
            let blame: Vec<SocketAddr> =
                liars.iter().filter_map(|key| open.addr_of(*key)).collect();
            if blame.is_empty() {
                continue;
            }
            let (torrent, piece) = (self.torrent, open.piece);
            let failed = event::Event::PieceFailed {
                torrent,
                piece,
                blame,
                suspects: Vec::new(),
            };
            self.public(failed, events);
            for key in liars {
                self.ban_key(key, open.addr_of(key), events);
            }
        }
    }

    /// Bans a peer that is or was connected.
    pub(super) fn ban_key(
        &mut self,
        key: PeerKey,
        addr: Option<SocketAddr>,
        events: &mut Vec<Event>,
    ) {
        if let Some(conn) = self.by_key.get(&key).copied() {
            self.ban(conn, events);
        } else if let Some(addr) = addr {
            self.known.ban(&self.config.swarm, addr);
        }
    }
}

fn hashes_of(result: JobResult) -> Result<Vec<BlockHash>, JobError> {
    match result {
        JobResult::BlocksHashed(hashes) => Ok(hashes),
        JobResult::Failed(error) => Err(error),
        _ => Err(JobError::Io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec;

    fn addr(peer: u32) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, peer as u8], 1))
    }

    quickcheck! {
        fn who_brought_a_block_that_differs_lied_and_nobody_else(
            blocks: Vec<(u8, bool)>
        ) -> bool {
            let mut blame = Blame::default();
            let key = |peer: &u8| Some(PeerKey((*peer % 5).into()));
            let from: Vec<_> = blocks.iter().map(|(peer, _)| key(peer)).collect();
            let addrs = (0..5).map(|peer| (PeerKey(peer), addr(peer))).collect();
            blame.remember(100_000, 7, from, addrs);
            blame.open[0].good = Some(vec![[1; 20]; blocks.len()]);
            assert!(blame.take_solved().is_none());
            let wrong = |wrong: bool| if wrong { [2; 20] } else { [1; 20] };
            blame.open[0].bad = Some(blocks.iter().map(|(_, lie)| wrong(*lie)).collect());
            let (_, liars) = blame.take_solved().unwrap();
            (0..5).all(|peer| {
                let lied = blocks.iter().any(|(from, lie)| u32::from(*from % 5) == peer && *lie);
                lied == liars.contains(&PeerKey(peer))
            })
        }

        fn no_more_blocks_are_remembered_than_the_limit(most: u8, pieces: Vec<u8>) -> bool {
            let mut blame = Blame::default();
            for (piece, blocks) in pieces.iter().enumerate() {
                let from = vec![Some(PeerKey(1)); usize::from(*blocks)];
                let room = blame.remember(most.into(), piece as u32, from, Vec::new());
                assert_eq!(room.is_some(), *blocks <= most);
                assert!(blame.blocks() <= usize::from(most));
                assert_eq!(blame.is_open(piece as u32), *blocks <= most);
            }
            true
        }
    }
}
