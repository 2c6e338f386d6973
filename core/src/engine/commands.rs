//! What the embedder asks for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::Engine;
use super::jobs::Purpose;
use super::nodes::Asker;
use crate::dht::{self, AnnouncePort, Lookup};
use crate::event::{CommandError, Done, Event, PeerSource};
use crate::id::InfoHashes;
use crate::io::{AddTorrent, Command, Outbox, Source, Tag, TorrentId};
use crate::metainfo::{Ignored, Info, Magnet, Version};
use crate::swarm;

/// How far a shutdown has come.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    tags: Vec<Tag>,
    table_saved: bool,
    done: bool,
    /// The load under way was refused: why.
    load_refused: Option<&'static str>,
    /// Commands that removed a torrent and wait until it is gone.
    removals: Vec<(TorrentId, Tag)>,
}

impl Shutdown {
    pub(super) fn is_begun(&self) -> bool {
        !self.tags.is_empty() || self.done
    }
}

impl Engine {
    pub(super) fn answer(
        &mut self,
        tag: Tag,
        result: Result<Done, CommandError>,
        out: &mut Outbox,
    ) {
        let result = result.map_err(Box::new);
        self.emit(Event::CommandDone { tag, result }, out);
    }

    pub(super) fn on_command(&mut self, tag: Tag, command: Command, out: &mut Outbox) {
        let result = match command {
            Command::AddTorrent(add) => self.add_torrent(add, out).map(Done::Torrent),
            Command::RemoveTorrent(torrent) => {
                if self.torrents.at(torrent.0).is_some() {
                    self.shutdown.removals.push((torrent, tag));
                    self.stop_trackers(torrent, out);
                    self.swarm_input(torrent, swarm::Input::Stop);
                    return;
                }
                Err(CommandError::UnknownTorrent)
            }
            Command::AddPeer(torrent, addr) => {
                if self.torrents.at(torrent.0).is_some() {
                    self.peers_found(torrent, PeerSource::Manual, &[addr]);
                    Ok(Done::Ok)
                } else {
                    Err(CommandError::UnknownTorrent)
                }
            }
            Command::LimitTorrent(torrent, rates) => match self.limit_torrent(torrent, rates) {
                true => Ok(Done::Ok),
                false => Err(CommandError::UnknownTorrent),
            },
            Command::Save => {
                let all: Vec<TorrentId> = self.torrents().collect();
                for torrent in all {
                    self.swarm_input(torrent, swarm::Input::Save);
                }
                if self.dht.is_some() {
                    self.save_table(Some(tag), out);
                    return;
                }
                Ok(Done::Ok)
            }
            Command::Shutdown => {
                self.begin_shutdown(tag, out);
                return;
            }
            dht_command => {
                if self.dht.is_none() {
                    Err(CommandError::NoDht)
                } else {
                    match self.dht_command(tag, dht_command, out) {
                        Some(result) => result,
                        None => return,
                    }
                }
            }
        };
        self.answer(tag, result, out);
    }

    /// Carries out a command that concerns the DHT; `None` when it is answered later.
    fn dht_command(
        &mut self,
        tag: Tag,
        command: Command,
        out: &mut Outbox,
    ) -> Option<Result<Done, CommandError>> {
        let lookup = match command {
            Command::AddDhtNode(addr) => {
                self.dht_input(dht::Input::AddNode(addr), out);
                return Some(Ok(Done::Ok));
            }
            Command::DhtBootstrap(addrs) => {
                self.await_bootstrap(tag);
                self.dht_input(dht::Input::Bootstrap(&addrs), out);
                return None;
            }
            Command::DhtBootstrapNames(names) => {
                self.await_bootstrap(tag);
                let hints = usize::from(self.config.limits.max_hints);
                for (host, port) in names.iter().take(hints) {
                    self.resolve(Purpose::Bootstrap, host, *port, out);
                }
                return None;
            }
            Command::DhtLoad(data) => {
                self.shutdown.load_refused = None;
                self.dht_input(dht::Input::Load(&data), out);
                self.work_off(out);
                return Some(match self.shutdown.load_refused.take() {
                    Some(what) => Err(CommandError::BadState(what)),
                    None => Ok(Done::Ok),
                });
            }
            Command::DhtPing(addr) => Lookup::Ping(addr),
            Command::DhtFindNode(id) => Lookup::FindNode(id),
            Command::DhtGetPeers(hash) => Lookup::GetPeers(hash),
            Command::DhtAnnounce(hash, port) => {
                let port = port.map_or(AnnouncePort::AsSeen, AnnouncePort::Given);
                Lookup::Announce(hash, port)
            }
            Command::DhtScrape(hash) => Lookup::Scrape(hash),
            Command::DhtSample(addr) => Lookup::Sample(addr),
            Command::DhtGet(target, salt) => Lookup::Get(target, salt),
            Command::DhtPut(item, cas) => Lookup::Put(item, cas),
            _ => return Some(Err(CommandError::NoDht)),
        };
        self.start_lookup(Asker::Command(tag), lookup, out);
        None
    }

    pub(super) fn table_refused(&mut self, what: &'static str) {
        self.shutdown.load_refused = Some(what);
    }

    fn add_torrent(
        &mut self,
        add: AddTorrent,
        out: &mut Outbox,
    ) -> Result<TorrentId, CommandError> {
        if self.shutdown.is_begun() {
            return Err(CommandError::Limit("shutdown"));
        }
        if self.torrents.len() >= self.config.limits.max_torrents as usize {
            return Err(CommandError::Limit("limits.max_torrents"));
        }
        let mut parsed = Parsed::of(add.source)?;
        if let Some(known) = self.by_hash.get(&parsed.hashes.short()) {
            return Err(CommandError::Duplicate(*known));
        }
        // Wrong resume data costs a check of what is on disk, never the torrent.
        let resume = add.resume.map(|resume| *resume);
        let resume = resume.filter(|resume| resume.info_hash == parsed.hashes.short());
        if parsed.info.is_none() {
            parsed.info = add.info.filter(|info| parsed.hashes.fit(&info.hashes));
        }
        if let Some(info) = &parsed.info {
            check_transferable(info, self.config.swarm.max_pieces)?;
        }
        let select = if add.select.is_empty() {
            parsed.select
        } else {
            add.select
        };
        if let Some(info) = parsed.info.as_ref().filter(|_| !add.metadata_only)
            && let Some(index) = swarm::beyond(&select, info)
        {
            return Err(CommandError::BadSelection(index, info.files.len() as u32));
        }
        let private = parsed.info.as_ref().is_some_and(|info| info.private);
        let hashes = parsed
            .info
            .as_ref()
            .map_or(parsed.hashes, |info| info.hashes);
        let options = swarm::Options {
            select,
            sequential: add.sequential,
            metadata_only: add.metadata_only,
            super_seed: add.super_seed,
            serve_only: add.serve_only,
            check: add.check,
            resume,
            peer_id: Some(self.peer_id),
        };
        let number = self.torrents_added;
        let torrent = self.add_swarm(hashes, parsed.info, options, out);
        for ignored in parsed.ignored.into_iter().map(Box::new) {
            self.emit(Event::Ignored { torrent, ignored }, out);
        }
        self.add_trackers(torrent, hashes.short(), number, parsed.trackers, out);
        self.peers_found(torrent, PeerSource::Manual, &add.peers);
        let hints = usize::from(self.config.limits.max_hints);
        for (host, port) in parsed.peers.into_iter().take(hints) {
            match host.parse::<IpAddr>() {
                Ok(ip) => {
                    let addr = [SocketAddr::new(ip, port)];
                    self.peers_found(torrent, PeerSource::Manual, &addr);
                }
                Err(_) => self.resolve(Purpose::Peer(torrent), &host, port, out),
            }
        }
        if self.dht.is_some() && !private {
            for (host, port) in parsed.nodes.into_iter().take(hints) {
                match host.parse::<IpAddr>() {
                    Ok(ip) => {
                        let addr = SocketAddr::new(ip, port);
                        self.dht_input(dht::Input::AddNode(addr), out);
                    }
                    Err(_) => self.resolve(Purpose::Node, &host, port, out),
                }
            }
        }
        Ok(torrent)
    }

    fn begin_shutdown(&mut self, tag: Tag, out: &mut Outbox) {
        if self.shutdown.done {
            self.answer(tag, Ok(Done::Ok), out);
            return;
        }
        let first = self.shutdown.tags.is_empty();
        self.shutdown.tags.push(tag);
        if !first {
            return;
        }
        let all: Vec<TorrentId> = self.torrents().collect();
        for torrent in all {
            self.stop_trackers(torrent, out);
            self.swarm_input(torrent, swarm::Input::Stop);
        }
        self.shutdown.table_saved = self.dht.is_none();
        self.save_table(None, out);
        self.finish_shutdown(out);
    }

    pub(super) fn table_saved(&mut self, tag: Option<Tag>, out: &mut Outbox) {
        match tag {
            Some(tag) => self.answer(tag, Ok(Done::Ok), out),
            None => {
                self.shutdown.table_saved = true;
                self.finish_shutdown(out);
            }
        }
    }

    /// A torrent's swarm has stopped, or its trackers know that it leaves.
    pub(super) fn torrent_stopped(&mut self, torrent: TorrentId, out: &mut Outbox) {
        if self.torrents.at(torrent.0).is_some() || self.trackers_wait(torrent) {
            return;
        }
        let mut waiting = Vec::new();
        self.shutdown.removals.retain(|(id, tag)| {
            if *id == torrent {
                waiting.push(*tag);
            }
            *id != torrent
        });
        for tag in waiting {
            self.answer(tag, Ok(Done::Ok), out);
        }
        self.finish_shutdown(out);
    }

    fn finish_shutdown(&mut self, out: &mut Outbox) {
        let waits = self.shutdown.tags.is_empty()
            || !self.shutdown.table_saved
            || !self.torrents.is_empty()
            || self.any_tracker_waits();
        if waits {
            return;
        }
        self.shutdown.done = true;
        for tag in core::mem::take(&mut self.shutdown.tags) {
            self.answer(tag, Ok(Done::Ok), out);
        }
    }
}

/// What a source says, whatever form it came in.
struct Parsed {
    hashes: InfoHashes,
    info: Option<Arc<Info>>,
    peers: Vec<(String, u16)>,
    nodes: Vec<(String, u16)>,
    trackers: Vec<Vec<String>>,
    select: Vec<u32>,
    ignored: Vec<Ignored>,
}

impl Parsed {
    fn of(source: Source) -> Result<Self, CommandError> {
        Ok(match source {
            Source::Magnet(text) => {
                let magnet = Magnet::parse(&text)
                    .map_err(|error| CommandError::BadSource(error.to_string()))?;
                Self {
                    hashes: magnet.hashes,
                    info: None,
                    peers: magnet.peers,
                    nodes: magnet.nodes,
                    trackers: magnet.trackers,
                    select: magnet.select,
                    ignored: magnet.ignored,
                }
            }
            Source::Torrent(torrent) => Self {
                hashes: torrent.info.hashes,
                info: Some(Arc::clone(&torrent.info)),
                peers: Vec::new(),
                nodes: torrent.nodes.clone(),
                trackers: torrent.trackers.clone(),
                select: Vec::new(),
                ignored: torrent.ignored.clone(),
            },
        })
    }
}

fn check_transferable(info: &Info, max_pieces: u32) -> Result<(), CommandError> {
    if info.version == Version::V2 {
        let what = "info: a v2-only torrent; expected v1 or hybrid, whose data can be transferred";
        return Err(CommandError::BadSource(String::from(what)));
    }
    // Whoever read it may have done so by other rules.
    let pieces = info.piece_count;
    if pieces > max_pieces {
        let what = format!("info: {pieces} pieces; expected at most {max_pieces}");
        return Err(CommandError::BadSource(what));
    }
    Ok(())
}
