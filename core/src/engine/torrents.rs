//! Torrents: their swarms, and when their sources of peers are asked.

use alloc::sync::Arc;
use core::net::SocketAddr;

use smallvec::SmallVec;

use super::{Engine, Todo, Wake};
use crate::dht;
use crate::event::{Event, PeerSource, SourceStatus};
use crate::id::{Id20, InfoHash, InfoHashes};
use crate::io::{JobId, Outbox, TorrentId, Work};
use crate::metadata::Message as Metadata;
use crate::metainfo::Info;
use crate::swarm::{self, Job, JobToken, Swarm, Want};
use crate::time::{Duration, Instant};
use crate::tracker;
use crate::wire::Message;

use super::jobs::Owner;
use super::nodes::Announced;

pub(super) struct Torrent {
    pub(super) swarm: Swarm,
    pub(super) hashes: InfoHashes,
    /// What the DHT knows it as: a hybrid has two names (BEP 52), one after the other in turn.
    names: SmallVec<[Id20; 2]>,
    turn: usize,
    /// Whether the announces of this round under other names went well.
    all_well: bool,
    armed: Option<Instant>,
    /// BEP 27 and opt-outs: known once the metadata is.
    dht_allowed: bool,
    want: Want,
    /// When the DHT was asked last.
    asked: Option<Instant>,
    /// The announce under way.
    lookup: Option<dht::LookupId>,
    announce_at: Option<Instant>,
    announce_armed: Option<Instant>,
    retry: Duration,
    /// Nodes the DHT knew when the last announce began.
    announced_among: u32,
    /// BEP 27 and opt-outs, as for the DHT.
    lsd_allowed: bool,
    from_dht: Tally,
    from_lsd: Tally,
}

/// Peers that a source told of.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// When it was asked last.
    last: u32,
    /// Since then, or while it is being asked.
    so_far: u32,
}

impl Torrent {
    fn tally(&mut self, source: PeerSource) -> Option<&mut Tally> {
        match source {
            PeerSource::Dht => Some(&mut self.from_dht),
            PeerSource::Lsd => Some(&mut self.from_lsd),
            _ => None,
        }
    }
}

impl Engine {
    /// Makes the swarm of a new torrent.
    pub(super) fn add_swarm(
        &mut self,
        hashes: InfoHashes,
        info: Option<Arc<Info>>,
        options: swarm::Options,
        out: &mut Outbox,
    ) -> TorrentId {
        let number = self.torrents_added;
        self.torrents_added += 1;
        let private = info.as_ref().is_some_and(|info| info.private);
        let dht_allowed = self.dht.is_some() && self.config.swarm.dht && !private;
        let lsd_allowed = self.local.is_some() && !private;
        let (config, seed, now) = (Arc::clone(&self.config), self.seed, self.now);
        let first_retry = config.swarm.dht_retry;
        let events = &mut self.swarm_events;
        let setup = |key| swarm::Setup {
            torrent: TorrentId(key),
            number,
            seed,
            hashes,
            info,
            options,
        };
        let key = self.torrents.insert_with(|key| Torrent {
            swarm: Swarm::new(config, setup(key), now, events),
            hashes,
            names: SmallVec::new(),
            turn: 0,
            all_well: true,
            armed: None,
            dht_allowed,
            want: Want::Nobody,
            asked: None,
            lookup: None,
            announce_at: None,
            announce_armed: None,
            retry: first_retry,
            announced_among: 0,
            lsd_allowed,
            from_dht: Tally::default(),
            from_lsd: Tally::default(),
        });
        let torrent = TorrentId(key);
        self.on_hashes(torrent, hashes);
        self.queue_swarm_events(torrent);
        self.grants.torrent_added(torrent);
        self.grant(torrent);
        self.swarm_input(torrent, swarm::Input::Listening(self.ports()));
        let sources = [
            (PeerSource::Dht, dht_allowed),
            (PeerSource::Lsd, lsd_allowed),
        ];
        for (source, allowed) in sources {
            if !allowed {
                self.tell_source(torrent, source, SourceStatus::Disabled, None, out);
            }
        }
        torrent
    }

    /// Hands an input to a swarm and queues what it says.
    pub(super) fn swarm_input(&mut self, torrent: TorrentId, input: swarm::Input<'_>) {
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        entry.swarm.handle(self.now, input, &mut self.swarm_events);
        self.queue_swarm_events(torrent);
    }

    fn queue_swarm_events(&mut self, torrent: TorrentId) {
        let events = self.swarm_events.drain(..);
        self.todo
            .extend(events.map(|event| Todo::Swarm(torrent, event)));
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        let want = entry.swarm.next_timeout();
        Self::arm(
            &mut self.deadlines,
            &mut entry.armed,
            want,
            Wake::Torrent(torrent),
        );
    }

    pub(super) fn wake_torrent(&mut self, torrent: TorrentId, at: Instant) {
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        if entry.armed == Some(at) {
            entry.armed = None;
        }
        if entry.swarm.next_timeout().is_some_and(|at| at <= self.now) {
            self.swarm_input(torrent, swarm::Input::Tick);
        } else {
            self.queue_swarm_events(torrent);
        }
    }

    pub(super) fn on_swarm_event(
        &mut self,
        torrent: TorrentId,
        event: swarm::Event,
        out: &mut Outbox,
    ) {
        match event {
            swarm::Event::Send(conn, message) => {
                if let Message::Metadata(Metadata::Data { .. }) = message {
                    self.grants.on_upload(torrent);
                }
                self.wire_input(conn, crate::wire::Input::Send(message), out);
            }
            swarm::Event::Connect(addr, dial) => {
                self.grants.on_connect(torrent);
                self.connect(torrent, addr, dial, out);
                self.arm_grants();
            }
            swarm::Event::Disconnect(conn, _) => self.disconnect(conn, out),
            swarm::Event::Job(token, job) => self.swarm_job(torrent, token, job, out),
            swarm::Event::WantPeers(want) => {
                self.on_want_peers(torrent, want, out);
                self.tracker_input(tracker::Input::Want(torrent, want), out);
            }
            swarm::Event::PeersHeard(source, addrs) => {
                self.peers_found(torrent, source, &addrs);
            }
            swarm::Event::DhtNode(addr) => {
                let allowed = self
                    .torrents
                    .at(torrent.0)
                    .is_some_and(|entry| entry.dht_allowed);
                if allowed {
                    self.dht_input(dht::Input::AddNode(addr), out);
                }
            }
            swarm::Event::Public(event) => {
                if let Event::Metadata { info, .. } = &event {
                    self.on_hashes(torrent, info.hashes);
                    self.tell_pieces(torrent, info.piece_count, out);
                    if info.private {
                        self.go_private(torrent, out);
                    }
                }
                match event {
                    Event::PeerConnected(_) => self.grants.on_peer_connected(torrent),
                    Event::Complete { .. } => {
                        self.tracker_input(tracker::Input::Completed(torrent), out);
                    }
                    _ => {}
                }
                self.emit(event, out);
            }
            swarm::Event::Stopped => self.forget_torrent(torrent, out),
        }
    }

    fn swarm_job(&mut self, torrent: TorrentId, token: JobToken, job: Job, out: &mut Outbox) {
        let bytes = match &job {
            Job::Write { data, .. } => Some(data.len() as u32),
            _ => None,
        };
        if let Some(bytes) = bytes {
            self.grants.disk.begun(torrent, bytes);
        }
        if matches!(job, Job::Read(_)) {
            self.grants.on_upload(torrent);
        }
        let id = JobId(self.jobs.insert(Owner::Swarm {
            torrent,
            token,
            bytes,
        }));
        let work = match job {
            Job::Save(resume) => Work::SaveResume { torrent, resume },
            Job::CheckMetadata(assembled) => Work::CheckMetadata { torrent, assembled },
            Job::Open(info, select) => Work::Open {
                torrent,
                info,
                select,
            },
            Job::Read(block) => Work::Read {
                torrent,
                piece: block.piece,
                begin: block.begin,
                length: block.length,
            },
            Job::Write { piece, begin, data } => Work::Write {
                torrent,
                piece,
                begin,
                data,
            },
            Job::Hash { piece } => Work::Hash {
                torrent,
                piece,
                kind: crate::io::HashKind::Sha1,
            },
            Job::HashBlocks { piece } => Work::HashBlocks { torrent, piece },
            Job::Commit { piece } => Work::Commit { torrent, piece },
            Job::Discard { piece } => Work::Discard { torrent, piece },
            Job::Close => Work::CloseStorage { torrent },
        };
        out.job(id, work);
    }

    /// Peers of a hybrid may come with either name, whichever we learnt of first (BEP 52).
    fn on_hashes(&mut self, torrent: TorrentId, hashes: InfoHashes) {
        let v2 = hashes.v2().map(|v2| InfoHash::V2(v2).short());
        for name in [Some(hashes.short()), v2].into_iter().flatten() {
            // One that has the name already keeps it.
            self.by_hash.entry(name).or_insert(torrent);
            #[cfg(feature = "encryption")]
            self.by_torrent_hash
                .insert(crate::wire::mse::torrent_hash(&name), name);
            if let Some(entry) = self.torrents.at_mut(torrent.0)
                && !entry.names.contains(&name)
            {
                entry.names.push(name);
            }
        }
    }

    /// A magnet link turned out to be private: neither the DHT nor the local network is used any
    /// more (BEP 27).
    fn go_private(&mut self, torrent: TorrentId, out: &mut Outbox) {
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        entry.dht_allowed = false;
        entry.lsd_allowed = false;
        entry.announce_at = None;
        let hash = entry.hashes.short();
        if let Some(id) = entry.lookup.take() {
            self.stop_lookup(id, out);
        }
        self.announce_nearby(hash, false, out);
        for source in [PeerSource::Dht, PeerSource::Lsd] {
            self.tell_source(torrent, source, SourceStatus::Disabled, None, out);
        }
    }

    fn forget_torrent(&mut self, torrent: TorrentId, out: &mut Outbox) {
        self.disconnect_all(torrent, out);
        let Some(entry) = self.torrents.remove(torrent.0) else {
            return;
        };
        self.deadlines.disarm(Wake::Torrent(torrent));
        self.deadlines.disarm(Wake::Announce(torrent));
        self.by_hash.retain(|_, named| *named != torrent);
        let left = &self.by_hash;
        self.by_torrent_hash
            .retain(|_, name| left.contains_key(name));
        if let Some(id) = entry.lookup {
            self.stop_lookup(id, out);
        }
        self.announce_nearby(entry.hashes.short(), false, out);
        self.grants.torrent_removed(torrent);
        self.torrent_stopped(torrent, out);
    }

    fn on_want_peers(&mut self, torrent: TorrentId, want: Want, out: &mut Outbox) {
        let Some(entry) = self.torrents.at(torrent.0) else {
            return;
        };
        let nearby = entry.lsd_allowed && want != Want::Nobody;
        self.announce_nearby(entry.hashes.short(), nearby, out);
        let (now, swarm) = (self.now, &self.config.swarm);
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        let before = core::mem::replace(&mut entry.want, want);
        let soon = match (before, want, entry.asked) {
            (_, Want::Nobody, _) => {
                entry.announce_at = None;
                return;
            }
            (_, _, None) => now,
            (_, Want::Anybody, Some(asked)) => {
                (now + swarm.dht_retry).max(asked + swarm.dht_urgent_interval)
            }
            (Want::Nobody | Want::Enough, ..) => now + swarm.dht_retry,
            _ => return,
        };
        if entry.dht_allowed && entry.lookup.is_none() {
            entry.retry = swarm.dht_retry;
            if entry.announce_at.is_none_or(|at| at > soon) {
                self.announce_at(torrent, soon);
            }
        }
    }

    /// Asks the DHT again for every torrent that was announced when it knew few: it has more
    /// nodes now, and some of them are closer.
    pub(super) fn dht_grown(&mut self, nodes: u32) {
        let waiting: alloc::vec::Vec<TorrentId> = self
            .torrents
            .iter()
            .filter(|(_, entry)| {
                let idle = entry.dht_allowed && entry.lookup.is_none();
                let wants = idle && entry.want != Want::Nobody;
                wants && self.is_outgrown(entry.announced_among, nodes)
            })
            .map(|(key, _)| TorrentId(key))
            .collect();
        for torrent in waiting {
            // Spread, so that ten thousand torrents do not start in one instant.
            let spread = self.torrents.len() as u64 * 10_000;
            let at = self.now + Duration::from_micros(self.choice.below(spread.min(60_000_000)));
            if let Some(entry) = self.torrents.at_mut(torrent.0) {
                entry.retry = self.config.swarm.dht_retry;
                if entry.announce_at.is_none_or(|due| due > at) {
                    self.announce_at(torrent, at);
                }
            }
        }
    }

    /// Whether an announce among so few nodes is worth repeating among so many.
    pub(super) fn is_outgrown(&self, among: u32, nodes: u32) -> bool {
        among < u32::from(self.config.dht.young_table) && nodes > among && nodes / 2 >= among
    }

    /// Whether lookups for torrents announce us as well.
    pub(super) fn announces(&self) -> bool {
        self.config.tcp && self.ports().any()
    }

    fn dht_nodes(&self) -> u32 {
        let nodes = |dht: &dht::Dht| dht.good_nodes(false) + dht.good_nodes(true);
        self.dht.as_ref().map_or(0, nodes)
    }

    fn announce_at(&mut self, torrent: TorrentId, at: Instant) {
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        entry.announce_at = Some(at);
        let wake = Wake::Announce(torrent);
        Self::arm(
            &mut self.deadlines,
            &mut entry.announce_armed,
            Some(at),
            wake,
        );
    }

    pub(super) fn wake_announce(&mut self, torrent: TorrentId, at: Instant, out: &mut Outbox) {
        let reachable = self.config.tcp && self.ports().any();
        let (now, among) = (self.now, self.dht_nodes());
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        if entry.announce_armed == Some(at) {
            entry.announce_armed = None;
        }
        let Some(due) = entry.announce_at else { return };
        if due > now {
            self.announce_at(torrent, due);
            return;
        }
        entry.announce_at = None;
        if !entry.dht_allowed || entry.lookup.is_some() {
            return;
        }
        let name = entry.names.get(entry.turn).copied();
        let hash = name.unwrap_or_else(|| entry.hashes.short());
        let lookup = match reachable {
            true => dht::Lookup::Announce(hash, dht::AnnouncePort::Ours),
            false => dht::Lookup::GetPeers(hash),
        };
        let id = self.start_lookup(super::nodes::Asker::Torrent(torrent), lookup, out);
        if let Some(entry) = self.torrents.at_mut(torrent.0) {
            entry.lookup = Some(id);
            entry.announced_among = among;
            entry.asked = Some(now);
            if entry.turn == 0 {
                entry.all_well = true;
                entry.from_dht.so_far = 0;
            }
        }
        let status = SourceStatus::Working;
        self.tell_source(torrent, PeerSource::Dht, status, None, out);
    }

    /// Tells a swarm of peers, ourselves excepted.
    pub(super) fn peers_found(
        &mut self,
        torrent: TorrentId,
        source: PeerSource,
        addrs: &[SocketAddr],
    ) {
        let others: alloc::vec::Vec<SocketAddr> = addrs
            .iter()
            .copied()
            .filter(|addr| !self.is_ourselves(*addr))
            .collect();
        self.swarm_input(torrent, swarm::Input::PeersFound(source, &others));
    }

    /// Peers of a torrent that the DHT told of.
    pub(super) fn dht_found_peer(&mut self, torrent: TorrentId, addr: SocketAddr) {
        if self.is_ourselves(addr) {
            return;
        }
        self.count_found(torrent, PeerSource::Dht);
        self.peers_found(torrent, PeerSource::Dht, &[addr]);
    }

    /// The announce of a torrent is over: plans the next one.
    ///
    /// One that went out while the table was young reached whoever was known then, not the nodes
    /// that others will ask: it is repeated as long as fewer nodes keep it than should, or when
    /// far more nodes are known by now.
    pub(super) fn announce_done(
        &mut self,
        torrent: TorrentId,
        result: Announced,
        out: &mut Outbox,
    ) {
        let interval = self.config.dht.announce_interval;
        let first_retry = self.config.swarm.dht_retry;
        let (nodes, among) = (
            self.dht_nodes(),
            self.torrents
                .at(torrent.0)
                .map_or(0, |entry| entry.announced_among),
        );
        let outgrown = self.is_outgrown(among, nodes);
        let Some(entry) = self.torrents.at_mut(torrent.0) else {
            return;
        };
        entry.lookup = None;
        entry.all_well &= result == Announced::Well;
        if entry.turn + 1 < entry.names.len() && entry.dht_allowed {
            entry.turn += 1;
            self.announce_at(torrent, self.now);
            return;
        }
        entry.turn = 0;
        let settled = entry.all_well && !outgrown;
        if result != Announced::Failed {
            entry.from_dht.last = entry.from_dht.so_far;
        }
        if !entry.dht_allowed || entry.want == Want::Nobody {
            return;
        }
        let wait = if settled && entry.want == Want::Enough {
            entry.retry = first_retry;
            interval
        } else {
            let wait = entry.retry;
            entry.retry = (wait * 2).min(interval);
            wait
        };
        let wait = self.jittered(wait);
        self.announce_at(torrent, self.now + wait);
        let status = if result == Announced::Failed {
            SourceStatus::Failed
        } else {
            SourceStatus::Idle
        };
        self.tell_source(torrent, PeerSource::Dht, status, Some(wait), out);
    }

    /// A source told of one peer more.
    pub(super) fn count_found(&mut self, torrent: TorrentId, source: PeerSource) {
        let entry = self.torrents.at_mut(torrent.0);
        if let Some(tally) = entry.and_then(|entry| entry.tally(source)) {
            tally.so_far = tally.so_far.saturating_add(1);
        }
    }

    /// A source that is always listened to is asked anew.
    pub(super) fn begin_round(&mut self, torrent: TorrentId, source: PeerSource) {
        let entry = self.torrents.at_mut(torrent.0);
        if let Some(tally) = entry.and_then(|entry| entry.tally(source)) {
            tally.last = core::mem::take(&mut tally.so_far);
        }
    }

    pub(super) fn tell_source(
        &mut self,
        torrent: TorrentId,
        source: PeerSource,
        status: SourceStatus,
        next_update: Option<Duration>,
        out: &mut Outbox,
    ) {
        let entry = self.torrents.at_mut(torrent.0);
        let peers = entry
            .and_then(|entry| entry.tally(source))
            .map_or(0, |tally| tally.last.max(tally.so_far));
        self.emit(
            Event::Source {
                torrent,
                source,
                status,
                peers,
                next_update,
                tracker: None,
            },
            out,
        );
    }
}
