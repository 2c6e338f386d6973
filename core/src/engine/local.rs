//! The place of local service discovery in the engine.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Engine, Wake};
use crate::config::Config;
use crate::event::{PeerSource, SourceStatus};
use crate::id::Id20;
use crate::io::{Outbox, SocketId, TorrentId};
use crate::lsd::{Event, Input, Lsd};
use crate::ports::Ports;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Local {
    lsd: Lsd,
    armed: Option<Instant>,
}

impl Local {
    pub(super) fn new(config: Arc<Config>, seed: &[u8; 32], now: Instant) -> Self {
        Self {
            lsd: Lsd::new(config, seed, now),
            armed: None,
        }
    }
}

impl Engine {
    pub(super) fn is_local_socket(&self, socket: SocketId) -> bool {
        self.local
            .as_ref()
            .is_some_and(|local| local.lsd.has_socket(socket))
    }

    pub(super) fn local_input(&mut self, input: Input<'_>, out: &mut Outbox) {
        let Some(local) = &mut self.local else { return };
        let mut events = Vec::new();
        local.lsd.handle(self.now, input, out, &mut events);
        let want = local.lsd.next_timeout();
        Self::arm(&mut self.deadlines, &mut local.armed, want, Wake::Local);
        for event in events {
            self.on_local_event(event, out);
        }
    }

    pub(super) fn wake_local(&mut self, out: &mut Outbox) {
        if let Some(local) = &mut self.local {
            local.armed = None;
            self.local_input(Input::Tick, out);
        }
    }

    /// Where peers reach us, once or when that changed.
    pub(super) fn tell_local_ports(&mut self, out: &mut Outbox) {
        let ports = match self.config.tcp {
            true => self.ports(),
            false => Ports::default(),
        };
        self.local_input(Input::Listening(ports), out);
    }

    /// A torrent wants to be known nearby, or no more.
    pub(super) fn announce_nearby(&mut self, hash: Id20, on: bool, out: &mut Outbox) {
        let input = if on {
            Input::Add(hash)
        } else {
            Input::Remove(hash)
        };
        self.local_input(input, out);
    }

    fn on_local_event(&mut self, event: Event, out: &mut Outbox) {
        let hash = match event {
            Event::Found(hash, _) | Event::Announced(hash, _) | Event::Failed(hash) => hash,
        };
        let Some(torrent) = self.by_hash.get(&hash).copied() else {
            return;
        };
        match event {
            Event::Found(_, addr) => self.found_nearby(torrent, addr),
            Event::Announced(_, next) => {
                self.begin_round(torrent, PeerSource::Lsd);
                let status = SourceStatus::Idle;
                self.tell_source(torrent, PeerSource::Lsd, status, Some(next), out);
            }
            Event::Failed(_) => {
                let status = SourceStatus::Failed;
                self.tell_source(torrent, PeerSource::Lsd, status, None, out);
            }
        }
    }

    fn found_nearby(&mut self, torrent: TorrentId, addr: SocketAddr) {
        if !self.is_ourselves(addr) {
            self.count_found(torrent, PeerSource::Lsd);
            self.peers_found(torrent, PeerSource::Lsd, &[addr]);
        }
    }
}
