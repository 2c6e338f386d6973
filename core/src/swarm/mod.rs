//! One torrent: its peers, pieces and policies.
//!
//! [`Swarm`] goes from metadata over opening and checking what is on disk to fetching and
//! serving. It decides alone: what torrents share reaches it as [`Grant`]s, what it wants done
//! leaves it as [`Event`]s.

pub mod bitfield;
pub mod choker;
pub mod picker;
pub mod priority;
pub mod rate;

mod blame;
mod client;
mod content;
pub(crate) mod crowd;
mod dial;
mod downloads;
mod endgame;
mod exchange;
mod io;
mod lost;
mod messages;
mod peer;
mod peers;
mod pex;
mod pieces;
mod requests;
mod room;
mod sessions;
mod slots;
mod starting;
mod super_seed;
#[cfg(test)]
mod tests;
mod turnover;
mod uploads;
mod work;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

pub(crate) use content::beyond;
pub use dial::{Dial, NOT_ENCRYPTED};
pub use io::{Event, Grant, Hello, Input, Job, JobToken, Options, Setup, Want};

use self::blame::Blame;
use self::choker::{Choker, ChokerConfig};
use self::content::Content;
use self::crowd::Crowd;
use self::peer::Peer;
use self::peers::{Candidate, Peers};
use self::pex::Exchange;
use self::picker::PeerKey;
use self::rate::RateMeter;
use self::slots::Slots;
use self::starting::Counted;
use self::super_seed::SuperSeed;
use crate::config::Config;
use crate::dht::external::Votes;
use crate::engine::{TorrentState, TorrentStats};
use crate::event::{self, CloseReason, PeerSource};
use crate::id::InfoHashes;
use crate::io::{ConnId, JobError, TorrentId};
use crate::metadata::Fetch;
use crate::metainfo::Info;
use crate::ports::Ports;
use crate::rng::{Choice, Label};
use crate::slab::{Key, Slab};
use crate::time::{Duration, Instant};
use crate::wire::BlockRef;

/// Time between looks at rates and overdue requests, while there are peers.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// One in so many of `max_peers` is enough while something is missing: half of the places are
/// left for peers that find us, which cost no search.
const ENOUGH_TO_FETCH: usize = 2;
/// The same once all is there: those that want it look for us.
const ENOUGH_TO_SERVE: usize = 8;

/// What the swarm is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The metadata is being fetched.
    Metadata,
    /// Storage is being opened.
    Opening,
    /// What is on disk is being hashed.
    Checking,
    /// Pieces are fetched and served.
    Active,
    /// Storage failed, or the metadata was all that was wanted: nothing moves any more.
    Halted,
    /// `Stop` came; storage and resume data are being closed.
    Stopping,
    /// `Stopped` was told.
    Stopped,
}

/// A job whose answer is awaited.
#[derive(Debug, Clone, Copy)]
enum Pending {
    Metadata {
        size: u32,
    },
    Open,
    Read {
        conn: ConnId,
        block: BlockRef,
    },
    Write {
        piece: u32,
    },
    Check {
        piece: u32,
    },
    Hash {
        piece: u32,
    },
    /// The blocks of a bad copy, by its number.
    BadBlocks {
        serial: u32,
    },
    GoodBlocks {
        piece: u32,
    },
    Commit {
        piece: u32,
    },
    Discard,
    Save,
    Close,
}

/// One torrent.
pub struct Swarm {
    config: Arc<Config>,
    torrent: TorrentId,
    hashes: InfoHashes,
    options: Options,
    now: Instant,
    choice: Choice,
    phase: Phase,
    info: Option<Arc<Info>>,
    content: Option<Content>,
    /// Until the metadata is here.
    fetch: Option<Fetch>,
    /// Peers may have become free to be asked for metadata.
    fetch_more: bool,
    peers: BTreeMap<ConnId, Peer>,
    by_key: BTreeMap<PeerKey, ConnId>,
    last_key: u32,
    departed: VecDeque<(PeerKey, SocketAddr)>,
    /// Peers that wait to be told what we have.
    to_start: VecDeque<ConnId>,
    /// Pieces of peers counted of late.
    counted: Counted,
    known: Peers,
    /// Where the peers are.
    crowd: Crowd,
    /// Who is told of them, and what they tell.
    exchange: Box<Exchange>,
    blame: Box<Blame>,
    choker: Choker,
    slots: Slots,
    super_seed: Option<Box<SuperSeed>>,
    /// An allowance was too small for what peers asked for, since the last look.
    upload_limited: bool,
    /// A slot may have become free, or someone became interested.
    fill_slots: bool,
    grant: Grant,
    connects: u64,
    ports: Ports,
    /// Where peers see us: IPv4, IPv6.
    seen_at: [Votes; 2],
    jobs: Slab<Pending>,
    /// Unchoked peers with requests that may be served, in turn.
    serving: VecDeque<ConnId>,
    /// Choked ones, for pieces that they may have all the same.
    serving_choked: VecDeque<ConnId>,
    /// Blocks served to unchoked peers since one was to a choked one.
    since_choked: u16,
    /// Block bytes being read for peers or unsent, over all of them, but for the first block of
    /// each.
    outbound: u64,
    /// Bytes of blocks and metadata sent or promised by a read.
    upload_claimed: u64,
    down: RateMeter,
    up: RateMeter,
    /// Changes whenever a peer for which there was nothing to ask may be asked again.
    epoch: u64,
    refilled: u64,
    endgame: bool,
    /// Resume data differs from what was saved.
    dirty: bool,
    saving: bool,
    save_at: Option<Instant>,
    want: Want,
    housekeeping_at: Option<Instant>,
    /// When the least useful peers are to make room.
    turnover_at: Option<Instant>,
    /// When one that waited made room for a peer that ranks higher.
    outranked_at: Option<Instant>,
    /// A peer may not have been told all that we have: [`Peer::haves_from`].
    haves_owed: bool,
    /// Work is left over from this input.
    unfinished: bool,
    timeout: Option<Instant>,
    blocks: Vec<BlockRef>,
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm")
            .field("hashes", &self.hashes)
            .field("phase", &self.phase)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

impl Swarm {
    /// Starts a torrent: with its metadata storage is opened, without it the metadata is fetched
    /// from peers first.
    #[must_use]
    pub fn new(config: Arc<Config>, setup: Setup, now: Instant, events: &mut Vec<Event>) -> Self {
        let Setup {
            torrent,
            number,
            seed,
            hashes,
            info,
            options,
        } = setup;
        let mut choice = Choice::new(&seed, Label::Swarm(number));
        let key = choice.next_u64();
        let mut swarm = Self {
            torrent,
            hashes,
            options,
            now,
            choice,
            phase: Phase::Metadata,
            info: None,
            content: None,
            fetch: info
                .is_none()
                .then(|| Fetch::new(Arc::clone(&config), hashes)),
            fetch_more: false,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            last_key: 0,
            departed: VecDeque::new(),
            to_start: VecDeque::new(),
            counted: Counted::default(),
            known: Peers::new(key, config.lab, config.wire.encryption),
            crowd: Crowd::default(),
            exchange: Box::default(),
            blame: Box::default(),
            choker: Choker::new(ChokerConfig::from(&config.swarm), now),
            super_seed: None,
            slots: Slots::new(&config.swarm, now),
            upload_limited: false,
            fill_slots: false,
            grant: Grant::default(),
            connects: 0,
            ports: Ports::default(),
            seen_at: [0, 1].map(|_| Votes::new(config.dht.max_voters, config.dht.vote_quorum)),
            jobs: Slab::default(),
            serving: VecDeque::new(),
            serving_choked: VecDeque::new(),
            since_choked: 0,
            outbound: 0,
            upload_claimed: 0,
            down: RateMeter::default(),
            up: RateMeter::default(),
            epoch: 0,
            refilled: 0,
            endgame: false,
            dirty: false,
            saving: false,
            save_at: None,
            want: Want::Nobody,
            housekeeping_at: None,
            turnover_at: None,
            outranked_at: None,
            haves_owed: false,
            unfinished: false,
            timeout: None,
            blocks: Vec::new(),
            config,
        };
        if !swarm.config.pex.enabled {
            swarm.tell_pex_off(events);
        }
        swarm.start(info, events);
        swarm.settle(events);
        swarm
    }

    /// Takes one input and appends what follows from it to `events`. `now` that runs backwards is
    /// read as standing still.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, events: &mut Vec<Event>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => {}
            Input::PeersFound(source, addrs) => self.on_peers_found(source, addrs, events),
            Input::Joined(conn, hello) => self.on_joined(conn, hello, events),
            Input::Message(conn, message) => self.on_message(conn, message, events),
            Input::BlockPart {
                conn,
                block,
                offset,
                data,
            } => {
                self.on_block_part(conn, block, offset, data, events);
            }
            Input::Writable { conn, unsent } => self.on_writable(conn, unsent),
            Input::Reading { conn, on } => self.on_reading(conn, on, events),
            Input::Gone { conn, addr, reason } => self.on_gone(conn, addr, reason, events),
            Input::JobDone(token, result) => self.on_job_done(token, result, events),
            Input::Grant(grant) => self.grant = grant,
            Input::Listening(ports) => self.ports = ports,
            Input::Save => self.save(events),
            Input::Stop => self.on_stop(events),
        }
        self.settle(events);
    }

    /// When the next `Tick` is due at the latest. O(1).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// The metadata, once it is known.
    #[must_use]
    pub fn info(&self) -> Option<&Arc<Info>> {
        self.info.as_ref()
    }

    /// The hashes that name the torrent.
    #[must_use]
    pub fn hashes(&self) -> &InfoHashes {
        &self.hashes
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> TorrentStats {
        let before = self.options.resume.as_ref();
        TorrentStats {
            state: match self.phase {
                Phase::Metadata => TorrentState::Metadata,
                Phase::Opening | Phase::Checking => TorrentState::Checking,
                Phase::Active if self.is_complete() => TorrentState::Seeding,
                Phase::Active => TorrentState::Downloading,
                Phase::Halted | Phase::Stopping | Phase::Stopped => TorrentState::Stopped,
            },
            done: self.content.as_ref().map_or(0, |content| content.done),
            total: self.content.as_ref().map_or(0, |content| content.total),
            downloaded: self.down.total(),
            uploaded: self.up.total(),
            uploaded_before: before.map_or(0, |before| before.uploaded),
            down_rate: self.down.rate(self.now),
            up_rate: self.up.rate(self.now),
            peers: self.peers.len() as u32,
            seeds: self.peers.values().filter(|peer| peer.is_seed()).count() as u32,
        }
    }

    /// Whether every wanted piece is verified and in its files.
    fn is_complete(&self) -> bool {
        self.phase == Phase::Active
            && self
                .content
                .as_ref()
                .is_some_and(|content| content.picker.is_complete())
    }

    /// Whether peers are of use in this phase.
    fn is_open_to_peers(&self) -> bool {
        !matches!(self.phase, Phase::Halted | Phase::Stopping | Phase::Stopped)
    }

    fn is_private(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.private)
    }

    fn job(&mut self, pending: Pending, job: Job, events: &mut Vec<Event>) {
        let key = self.jobs.insert(pending);
        let token = u64::from(key.generation) << 32 | u64::from(key.index);
        events.push(Event::Job(JobToken(token), job));
    }

    fn take_job(&mut self, token: JobToken) -> Option<Pending> {
        let key = Key {
            index: token.0 as u32,
            generation: (token.0 >> 32) as u32,
        };
        self.jobs.remove(key)
    }

    fn public(&self, event: event::Event, events: &mut Vec<Event>) {
        events.push(Event::Public(event));
    }

    /// Says why something was decided about a peer.
    fn explain(&self, conn: ConnId, decision: event::Decision, events: &mut Vec<Event>) {
        let Some(addr) = self.peers.get(&conn).map(|peer| peer.addr) else {
            return;
        };
        let explained = event::Explained {
            torrent: self.torrent,
            conn,
            addr,
            decision,
        };
        let explained = Box::new(explained);
        self.public(event::Event::Explained(explained), events);
    }

    /// Everything that follows from any input: work that waits is done while it may be, and the
    /// next deadline is computed.
    fn settle(&mut self, events: &mut Vec<Event>) {
        self.unfinished = false;
        if self.is_open_to_peers() {
            self.survey_more(events);
            self.start_more(events);
            self.count_more();
            self.housekeep(events);
            self.ask_for_metadata(events);
            self.send_haves(events);
            self.choke(events);
            self.refill(events);
            self.serve(events);
            self.connect_more(events);
            self.tell_pex_source(events);
        }
        if self.phase != Phase::Stopped {
            self.tell_want(events);
            if self.dirty && !self.saving && self.save_at.is_some_and(|at| at <= self.now) {
                self.save(events);
            }
        }
        self.timeout = self.earliest();
    }

    fn earliest(&self) -> Option<Instant> {
        if self.unfinished {
            return Some(self.now);
        }
        let open = self.is_open_to_peers();
        // A save that failed at the very end is not tried again.
        let may_save = self.dirty && !self.saving && self.phase != Phase::Stopped;
        let save = self.save_at.filter(|_| may_save);
        let retry = self
            .known
            .next_retry(self.peers.is_empty())
            .filter(|_| open && self.may_connect());
        let rounds = self.choker.next_timeout();
        let rounds = (self.phase == Phase::Active && !self.peers.is_empty()).then_some(rounds);
        let metadata = self.metadata_timeout().filter(|_| open);
        // What only happens while it is open to peers would stay due for ever once it is not.
        let housekeeping = self.housekeeping_at.filter(|_| open);
        let counting = self.counting_timeout().filter(|_| open);
        [housekeeping, save, retry, rounds, metadata, counting]
            .into_iter()
            .flatten()
            .min()
    }

    /// Rates, pipelines and overdue requests, once a second while there are peers.
    fn housekeep(&mut self, events: &mut Vec<Event>) {
        if self.peers.is_empty() {
            self.housekeeping_at = None;
            return;
        }
        let due = *self.housekeeping_at.get_or_insert(self.now + HOUSEKEEPING);
        if due <= self.now {
            self.housekeeping_at = Some(self.now + HOUSEKEEPING);
            self.review_peers(events);
            self.turn_over(events);
            self.review_slots();
            self.review_super_seed(events);
            self.tell_of_peers(events);
        }
    }

    /// Whether attempts may be made at all in this phase.
    fn may_connect(&self) -> bool {
        matches!(self.phase, Phase::Metadata | Phase::Active)
            && self.connects < self.grant.connects_total
            && self.known.connecting() < usize::from(self.config.swarm.max_half_open)
            && self.peers.len() + self.known.connecting() < self.peer_limit()
    }

    /// Connections the swarm may hold.
    fn peer_limit(&self) -> usize {
        usize::from(self.config.swarm.max_peers).min(self.grant.connections as usize)
    }

    fn connect_more(&mut self, events: &mut Vec<Event>) {
        for _ in 0..self.config.swarm.candidates_per_input {
            if !self.may_connect() {
                return;
            }
            let config = &self.config.swarm;
            let alone = self.peers.is_empty();
            let next = self
                .known
                .next_to_connect(config, self.now, &self.crowd, alone);
            match next {
                None => return,
                Some(Candidate::PutOff) => {}
                Some(Candidate::Take(addr, dial)) => {
                    self.connects += 1;
                    events.push(Event::Connect(addr, dial));
                }
            }
        }
        self.unfinished |= self.may_connect() && self.known.has_candidate();
    }

    fn tell_want(&mut self, events: &mut Vec<Event>) {
        let want = self.wanted();
        if want != self.want {
            self.want = want;
            events.push(Event::WantPeers(want));
        }
    }

    fn wanted(&self) -> Want {
        let is_ready = match self.phase {
            Phase::Metadata | Phase::Active => true,
            // Whatever the check finds, something is missing.
            Phase::Checking => self.content.as_ref().is_some_and(|content| content.lacks),
            _ => false,
        };
        let fraction = if self.is_complete() {
            ENOUGH_TO_SERVE
        } else {
            ENOUGH_TO_FETCH
        };
        let enough = (usize::from(self.config.swarm.max_peers) / fraction).max(1);
        match self.peers.len() {
            _ if !is_ready => Want::Nobody,
            0 if self.last_key > 0 && !self.is_complete() => Want::Anybody,
            peers if peers < enough => Want::More,
            _ => Want::Enough,
        }
    }

    fn on_peers_found(
        &mut self,
        source: PeerSource,
        addrs: &[SocketAddr],
        events: &mut Vec<Event>,
    ) {
        let open = matches!(source, PeerSource::Dht | PeerSource::Pex | PeerSource::Lsd);
        if !self.is_open_to_peers() || (open && self.is_private()) {
            return;
        }
        for addr in addrs.iter().copied() {
            if self.known.on_found(&self.config.swarm, source, addr) {
                let torrent = self.torrent;
                self.public(
                    event::Event::PeerFound {
                        torrent,
                        addr,
                        source,
                    },
                    events,
                );
                if source == PeerSource::Pex && self.is_said_to_seed(addr) {
                    self.known.set_seed(addr, true);
                }
                if source == PeerSource::Pex && self.is_said_to_encrypt(addr) {
                    self.known.set_encrypts(addr);
                }
            }
        }
        if source == PeerSource::Pex {
            self.on_pex_found(addrs);
        }
    }

    /// Storage failed: nothing more is fetched or served.
    fn storage_failed(&mut self, piece: Option<u32>, error: JobError, events: &mut Vec<Event>) {
        if !self.is_open_to_peers() {
            return;
        }
        let torrent = self.torrent;
        self.public(
            event::Event::StorageFailed {
                torrent,
                piece,
                error,
            },
            events,
        );
        self.halt(events);
    }

    /// Says goodbye to every peer; nothing moves any more.
    fn halt(&mut self, events: &mut Vec<Event>) {
        self.phase = Phase::Halted;
        self.tell_want(events);
        self.fetch = None;
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            self.close(conn, CloseReason::Shutdown, events);
        }
        self.housekeeping_at = None;
    }

    fn on_stop(&mut self, events: &mut Vec<Event>) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        self.halt(events);
        self.phase = Phase::Stopping;
        self.save(events);
        if self.content.is_some() {
            self.job(Pending::Close, Job::Close, events);
        }
        self.finish_stop(events);
    }

    /// Tells that all is over, once the last save and the storage's end are answered.
    fn finish_stop(&mut self, events: &mut Vec<Event>) {
        let waits = self
            .jobs
            .iter()
            .any(|(_, job)| matches!(job, Pending::Save | Pending::Close));
        if self.phase == Phase::Stopping && !waits {
            self.phase = Phase::Stopped;
            events.push(Event::Stopped);
        }
    }
}
