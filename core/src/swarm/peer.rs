//! One connected peer: what it has, what we asked it for, what it asked us for.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::bitfield::Bitfield;
use super::io::Hello;
use super::pex::PeerExchange;
use super::picker::{Has, PeerKey};
use super::rate::RateMeter;
use super::super_seed::Told;
use crate::config::SwarmConfig;
use crate::event::{Encryption, Transport};
use crate::id::PeerId;
use crate::time::{Duration, Instant};
use crate::wire::BlockRef;

/// What a peer has.
#[derive(Debug)]
pub(super) enum Pieces {
    /// What it said before the number of pieces was known.
    Early {
        /// HAVE_ALL, HAVE_NONE or the bytes of a bitfield.
        base: Base,
        /// What it said after it: pieces that it has, and those it lost again (BEP 54).
        haves: Vec<(u32, bool)>,
    },
    /// Every piece; counted as a seed by the picker.
    All,
    /// These pieces; counted one by one by the picker.
    Some(Bitfield),
}

/// What a peer says of all its pieces at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    Unsaid,
    None,
    All,
    Bits(Bytes),
}

impl Base {
    /// Whether a peer that said this and then `haves` may now say `later`: it takes nothing back.
    pub(super) fn may_become(&self, later: &Self, haves: &[(u32, bool)]) -> bool {
        match (self, later) {
            (_, Self::All) | (Self::Unsaid | Self::None, Self::Bits(_)) => true,
            (Self::Unsaid | Self::None, _) => haves.is_empty(),
            (Self::Bits(before), Self::Bits(after)) => {
                let mut both = before.iter().zip(after);
                before.len() == after.len() && both.all(|(before, after)| before & !after == 0)
            }
            (Self::All | Self::Bits(_), _) => false,
        }
    }
}

/// A request of ours that stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) block: BlockRef,
    /// Others are asked for it as well, since this peer was late.
    pub(super) late: bool,
    /// Another brought it while this peer was sending it.
    pub(super) done: bool,
}

/// The block whose parts are arriving.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arriving {
    pub(super) block: BlockRef,
    pub(super) next: u32,
    /// Its parts are written; otherwise they are dropped.
    pub(super) kept: bool,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    pub(super) addr: SocketAddr,
    pub(super) incoming: bool,
    pub(super) peer_id: PeerId,
    pub(super) fast: bool,
    /// It speaks the extension protocol (BEP 10).
    pub(super) extended: bool,
    pub(super) transport: Transport,
    pub(super) encryption: Encryption,
    pub(super) joined_at: Instant,
    /// Where it can be connected to: its address, or for incoming ones what it said.
    pub(super) listen: Option<SocketAddr>,
    pub(super) pieces: Pieces,
    /// It said what it has, or something that should come after that.
    pub(super) opened: bool,
    /// It said that it no longer has a piece (BEP 54).
    pub(super) took_back: bool,
    /// It fetches nothing (BEP 21).
    pub(super) upload_only: bool,
    /// It heard from us that we fetch nothing.
    pub(super) told_upload_only: bool,
    /// It has said what client it is.
    pub(super) named: bool,
    /// It answers metadata requests.
    pub(super) metadata: bool,
    /// The port of its DHT node, as it said last; 0 is unsaid.
    pub(super) dht_port: u16,
    /// Ports that it said.
    pub(super) dht_ports: u8,
    /// It prefers encrypted connections.
    pub(super) prefers_encryption: bool,
    /// It speaks `ut_holepunch` (BEP 55).
    pub(super) holepunch: bool,
    /// It heard from us that we exchange peers.
    pub(super) offered_pex: bool,
    /// It speaks peer exchange, and so do we.
    pub(super) exchange: Option<Box<PeerExchange>>,
    /// We told it what we have.
    pub(super) announced: bool,
    /// What it was told while we super-seed.
    pub(super) told: Option<Box<Told>>,
    /// Haves below this piece are sent; the rest follows in slices.
    pub(super) haves_from: Option<u32>,

    // The way in.
    pub(super) choking: bool,
    /// We are interested in it.
    pub(super) interested: bool,
    /// Wanted pieces it has.
    pub(super) wanted: u32,
    pub(super) asked: VecDeque<Asked>,
    pub(super) arriving: Option<Arriving>,
    /// Requests it queues at most.
    pub(super) reqq: u32,
    pub(super) pipeline: u32,
    /// The pipeline grows by one per block until the rate stops growing.
    pub(super) slow_start: bool,
    pub(super) last_rate: u64,
    /// Since when the first of `asked` is the next that it has to answer. Time in which we did
    /// not read is left out.
    pub(super) turn_since: Instant,
    /// How long it took for the last block that it brought in its turn.
    pub(super) block_time: Option<Duration>,
    pub(super) snubbed: bool,
    /// Since when we do not read from it: what it leaves unanswered is not its fault.
    pub(super) parked: Option<Instant>,
    pub(super) down: RateMeter,
    /// When the last block's worth of content or metadata had flowed, either way; until then when
    /// something might first have.
    pub(super) flowed_at: Instant,
    /// Bytes since then.
    pub(super) flowed: u64,
    /// What had flowed both ways when the least useful were looked for.
    pub(super) moved_before: u64,
    /// Blocks it may still send although they were cancelled.
    pub(super) forgiven: u32,
    /// Blocks it sent and nobody asked for.
    pub(super) unasked: u32,
    pub(super) allowed_in: Vec<u32>,
    /// Pieces it suggests (BEP 6).
    pub(super) suggested: VecDeque<u32>,
    /// Pieces are fetched from it alone, since it had a part in a bad one.
    pub(super) parole: bool,
    /// Asking for more was of no use when the swarm's state had this number.
    pub(super) idle_since: u64,

    // The way out.
    pub(super) choked: bool,
    pub(super) choked_at: Instant,
    pub(super) peer_interested: bool,
    pub(super) last_unchoked: Option<Instant>,
    /// It had a slot and asked for nothing, and nothing has flowed since.
    pub(super) declined: bool,
    /// Block bytes sent since then.
    pub(super) since_unchoke: u64,
    pub(super) queue: VecDeque<BlockRef>,
    /// Pieces of the metadata that it asked for.
    pub(super) metadata_queue: VecDeque<u32>,
    /// It waits in the line of those that are served.
    pub(super) in_line: bool,
    /// Requests it made although it is choked.
    pub(super) strikes: u32,
    /// Block bytes being read for it.
    pub(super) reading: u64,
    /// Block bytes handed to the connection and not known to have left.
    pub(super) unsent: u64,
    pub(super) up: RateMeter,
    /// Pieces it may ask for while choked.
    pub(super) allowed_out: Vec<u32>,
}

impl Peer {
    pub(super) fn new(key: PeerKey, hello: Hello, config: &SwarmConfig, now: Instant) -> Self {
        Self {
            key,
            addr: hello.addr,
            incoming: hello.incoming,
            peer_id: hello.peer_id,
            fast: hello.fast,
            extended: hello.extended,
            transport: hello.transport,
            encryption: hello.encryption,
            joined_at: now,
            listen: (!hello.incoming).then_some(hello.addr),
            pieces: Pieces::Early {
                base: Base::Unsaid,
                haves: Vec::new(),
            },
            opened: false,
            took_back: false,
            upload_only: false,
            told_upload_only: false,
            named: false,
            metadata: false,
            dht_port: 0,
            dht_ports: 0,
            prefers_encryption: false,
            holepunch: false,
            offered_pex: false,
            exchange: None,
            announced: false,
            told: None,
            haves_from: None,
            choking: true,
            interested: false,
            wanted: 0,
            asked: VecDeque::new(),
            arriving: None,
            reqq: config.default_reqq,
            pipeline: u32::from(config.min_pipeline),
            slow_start: true,
            last_rate: 0,
            turn_since: now,
            block_time: None,
            snubbed: false,
            parked: None,
            down: RateMeter::default(),
            flowed_at: now,
            flowed: 0,
            moved_before: 0,
            forgiven: 0,
            unasked: 0,
            allowed_in: Vec::new(),
            suggested: VecDeque::new(),
            parole: false,
            idle_since: u64::MAX,
            choked: true,
            choked_at: now,
            peer_interested: false,
            last_unchoked: None,
            declined: false,
            since_unchoke: 0,
            queue: VecDeque::new(),
            metadata_queue: VecDeque::new(),
            in_line: false,
            strikes: 0,
            reading: 0,
            unsent: 0,
            up: RateMeter::default(),
            allowed_out: Vec::new(),
        }
    }

    /// What it has, as the picker wants it; `None` before the number of pieces is known.
    pub(super) fn has(&self) -> Option<Has<'_>> {
        match &self.pieces {
            Pieces::Early { .. } => None,
            Pieces::All => Some(Has::All),
            Pieces::Some(bits) => Some(Has::Some(bits)),
        }
    }

    pub(super) fn has_piece(&self, piece: u32) -> bool {
        self.has().is_some_and(|has| has.get(piece))
    }

    /// Whether it has every piece.
    pub(super) fn is_seed(&self) -> bool {
        match &self.pieces {
            Pieces::Early { base, .. } => *base == Base::All,
            Pieces::All => true,
            Pieces::Some(bits) => bits.is_full(),
        }
    }

    /// Whether it answers requests, if only for a few pieces.
    pub(super) fn may_be_asked(&self) -> bool {
        !self.choking || !self.allowed_in.is_empty()
    }

    /// Blocks it may be asked for beside those it was.
    pub(super) fn room(&self, config: &SwarmConfig) -> usize {
        let most = u32::from(config.max_pipeline).min(self.reqq).max(1);
        let target = match self.snubbed {
            _ if !self.may_be_asked() => 0,
            true => 1,
            false => self.pipeline.min(most),
        };
        (target as usize).saturating_sub(self.asked.len())
    }

    /// Notes a request, the last in line.
    pub(super) fn add_asked(&mut self, block: BlockRef, now: Instant) {
        if self.asked.is_empty() {
            self.turn_since = now;
        }
        self.asked.push_back(Asked {
            block,
            late: false,
            done: false,
        });
    }

    /// Takes a standing request off the list: it was answered, or will not be.
    pub(super) fn take_asked(&mut self, block: BlockRef, now: Instant) -> Option<Asked> {
        // Blocks come in the order they were asked for, so it is nearly always the first.
        let at = self.asked.iter().position(|asked| asked.block == block)?;
        if at == 0 {
            self.turn_since = now;
        }
        self.asked.remove(at)
    }

    /// How long the request whose turn it is has been unanswered, whatever of it came and
    /// whatever else; `None` when there is none, or it could not be answered.
    pub(super) fn owes_for(&self, now: Instant) -> Option<Duration> {
        if self.parked.is_some() || self.asked.is_empty() {
            return None;
        }
        Some(now.saturating_since(self.turn_since))
    }

    /// How much longer the request whose turn it is will take at the pace at which its block has
    /// come so far; `None` as for [`Self::owes_for`].
    pub(super) fn owes_still(&self, now: Instant) -> Option<Duration> {
        let owes = self.owes_for(now)?;
        let first = self.asked.front()?.block;
        let came = match &self.arriving {
            Some(arriving) if arriving.block == first => arriving.next,
            _ => 0,
        };
        Some(owes.saturating_mul(first.length - came) / came.max(1))
    }

    /// Whether it has had a turn for `patience` and will need longer than that again.
    pub(super) fn is_stalling(&self, patience: Duration, now: Instant) -> bool {
        self.owes_for(now).is_some_and(|owes| owes >= patience)
            && self.owes_still(now).is_some_and(|more| more > patience)
    }

    /// Whether the request whose turn it is has been unanswered for too long.
    pub(super) fn is_overdue(&self, timeout: Duration, now: Instant) -> bool {
        self.owes_for(now).is_some_and(|owes| owes >= timeout)
    }
}
