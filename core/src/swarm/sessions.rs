//! Peers that come, what they are told first, and peers that leave.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::bitfield::Bitfield;
use super::io::Hello;
use super::peer::{Base, Peer, Pieces};
use super::peers::End;
use super::picker::PeerKey;
use super::{Event, Phase, Swarm, client, dial};
use crate::config::EncryptionMode;
use crate::event::{self, CloseReason, PeerConnected};
use crate::io::ConnId;
use crate::metadata;
use crate::wire::extension::LT_DONTHAVE;
use crate::wire::fast::allowed_fast;
use crate::wire::{ExtensionHandshake, Message};

impl Swarm {
    pub(super) fn on_joined(&mut self, conn: ConnId, hello: Hello, events: &mut Vec<Event>) {
        if let Some(reason) = self.refusal(&hello, events) {
            if !hello.incoming {
                self.on_attempt_failed(hello.addr, reason, events);
            }
            events.push(Event::Disconnect(conn, reason));
            return;
        }
        if !hello.incoming {
            self.known.on_connected(hello.addr);
        }
        self.last_key = self.last_key.wrapping_add(1);
        let key = PeerKey(self.last_key);
        let peer = Peer::new(key, hello, &self.config.swarm, self.now);
        self.by_key.insert(key, conn);
        self.peers.insert(conn, peer);
        self.crowd.add(hello.addr.ip());
        let connected = PeerConnected {
            torrent: self.torrent,
            conn,
            addr: hello.addr,
            incoming: hello.incoming,
            transport: hello.transport,
            encryption: hello.encryption,
            client: client::name(&hello.peer_id),
        };
        self.public(event::Event::PeerConnected(Box::new(connected)), events);
        if hello.extended {
            self.send_extension_handshake(conn, events);
        }
        self.list_peer(conn);
        match self.phase {
            Phase::Active => self.start_peer(conn, events),
            // Nothing is had until the metadata is: peers need not wait to hear so.
            Phase::Metadata => self.announce_nothing(conn, events),
            // What is had is known in a moment, and must be the first thing said.
            _ => {}
        }
        if let Some(port) = self
            .ports
            .of(hello.addr.ip())
            .filter(|_| hello.dht && !self.is_private())
        {
            events.push(Event::Send(conn, Message::Port(port)));
        }
    }

    /// Why a peer that finished its handshake is not taken.
    fn refusal(&mut self, hello: &Hello, events: &mut Vec<Event>) -> Option<CloseReason> {
        if !self.is_open_to_peers() {
            return Some(CloseReason::Shutdown);
        }
        if self.known.is_banned(hello.addr) {
            return Some(CloseReason::Banned);
        }
        // An id alone proves nothing: whoever heard it could have our connection closed with it.
        let ip = hello.addr.ip();
        let twin = self
            .peers
            .iter()
            .find(|(_, peer)| peer.peer_id == hello.peer_id && peer.addr.ip() == ip);
        if let Some((twin, peer)) = twin.map(|(conn, peer)| (*conn, peer)) {
            // Both sides must keep the same one: the one that the larger id opened.
            let ours = self.options.peer_id.map(|ours| ours > hello.peer_id);
            let replaces = peer.incoming != hello.incoming && ours == Some(!hello.incoming);
            if !replaces {
                return Some(CloseReason::Duplicate);
            }
            self.close(twin, CloseReason::Duplicate, events);
        }
        let config = &self.config.swarm;
        let lab = self.config.lab;
        let admitted = self.crowd.admits(ip, config.peer_crowding, lab, &[]);
        let full = match self.peers.len() >= usize::from(config.max_peers) {
            _ if hello.crowded => Some("limits.max_connections"),
            full => full.then_some("swarm.max_peers"),
        };
        match full {
            _ if !admitted => Some(CloseReason::Limit(full.unwrap_or("swarm.peer_crowding"))),
            Some(limit) => self.make_room(hello.addr, limit, events).err(),
            None => None,
        }
    }

    pub(super) fn send_extension_handshake(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let size = self
            .info
            .as_ref()
            .and_then(|info| u32::try_from(info.raw.len()).ok());
        let complete = self.is_complete() && !self.is_super_seeding();
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let (offered, ip) = (peer.offered_pex, peer.addr.ip());
        // Said only when it is so, or was.
        let upload_only = (complete || peer.told_upload_only).then_some(complete);
        let handshake = ExtensionHandshake {
            ut_metadata: Some(super::exchange::UT_METADATA),
            ut_pex: self.pex_number(offered),
            lt_donthave: Some(LT_DONTHAVE),
            metadata_size: size,
            port: self.ports.of(ip),
            reqq: Some(self.config.swarm.max_served_queue.into()),
            client: Some(self.config.client.clone()),
            your_ip: Some(ip),
            upload_only,
            prefers_encryption: matches!(
                self.config.wire.encryption,
                EncryptionMode::Prefer | EncryptionMode::Require
            ),
            ..ExtensionHandshake::default()
        };
        let offers = handshake.ut_pex.is_some_and(|number| number != 0);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.offered_pex = offers;
            peer.told_upload_only = complete;
        }
        let message = Message::ExtensionHandshake(Box::new(handshake));
        events.push(Event::Send(conn, message));
    }

    fn announce_nothing(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.announced = true;
        if peer.fast {
            events.push(Event::Send(conn, Message::HaveNone));
        }
    }

    /// The pieces are known: what the peer said so far is read, and what we have is told.
    pub(super) fn start_peer(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        self.start_super_seed_peer(conn);
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        // Whatever it could have done before, it could not know of.
        peer.flowed_at = self.now;
        let have = content.picker.have();
        if peer.announced {
            let hidden = have.is_empty() || peer.told.is_some();
            peer.haves_from = (!hidden).then_some(0);
            self.haves_owed |= !hidden;
        } else {
            peer.announced = true;
            let hidden = have.is_empty() || peer.told.is_some();
            let message = match (peer.fast, hidden, have.is_full()) {
                (true, true, _) => Some(Message::HaveNone),
                (true, _, true) => Some(Message::HaveAll),
                (false, true, _) => None,
                _ => Some(Message::Bitfield(Bytes::copy_from_slice(have.as_bytes()))),
            };
            events.extend(message.map(|message| Event::Send(conn, message)));
        }
        let Pieces::Early { base, haves } = &peer.pieces else {
            return;
        };
        let count = content.info.piece_count;
        let mut bits = match base {
            Base::Unsaid | Base::None => Bitfield::new(count),
            Base::All => Bitfield::full(count),
            Base::Bits(bytes) => match Bitfield::from_bytes(count, bytes) {
                Ok(bits) => bits,
                Err(_) => {
                    self.close(
                        conn,
                        CloseReason::Protocol("bitfield of wrong size"),
                        events,
                    );
                    return;
                }
            },
        };
        if haves.iter().any(|(piece, _)| *piece >= count) {
            self.close(conn, CloseReason::Protocol("have of no piece"), events);
            return;
        }
        for (piece, has) in haves {
            match has {
                true => bits.set(*piece),
                false => bits.clear(*piece),
            };
        }
        self.set_pieces(conn, bits, events);
    }

    /// A peer said what it has: all of it at once.
    pub(super) fn set_pieces(&mut self, conn: ConnId, bits: Bitfield, events: &mut Vec<Event>) {
        let (Some(content), Some(peer)) = (&mut self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        let pieces = if bits.is_full() {
            content.picker.seed_joined();
            peer.wanted = content.picker.missing();
            Pieces::All
        } else {
            peer.wanted = content.picker.count_interesting(&bits);
            Pieces::Some(bits)
        };
        match core::mem::replace(&mut peer.pieces, pieces) {
            Pieces::Early { .. } => {}
            Pieces::All => content.picker.seed_left(),
            Pieces::Some(before) => content.picker.peer_left(peer.key, before),
        }
        if let Pieces::Some(bits) = &peer.pieces {
            content.picker.peer_joined(peer.key, bits);
        }
        self.count_more();
        self.on_seed_known(conn);
        self.allow_fast(conn, events);
        self.on_seen(conn, events);
        self.update_interest(conn, events);
        self.close_if_useless(conn, events);
    }

    pub(super) fn on_seed_known(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get(&conn)
            && let Some(listen) = peer.listen
        {
            self.known.set_seed(listen, peer.is_seed());
        }
    }

    /// Lets a choked peer begin with a few pieces (BEP 6).
    fn allow_fast(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let (Some(content), Some(peer)) = (&self.content, self.peers.get_mut(&conn)) else {
            return;
        };
        if !peer.fast || peer.is_seed() || !peer.allowed_out.is_empty() || peer.told.is_some() {
            return;
        }
        let count = content.info.piece_count;
        let hash = self.hashes.short();
        let mut set = allowed_fast(
            peer.addr.ip(),
            hash,
            count,
            self.config.swarm.allowed_fast.into(),
        );
        set.retain(|piece| content.picker.have().get(*piece) && !peer.has_piece(*piece));
        let allowed = set
            .iter()
            .map(|piece| Event::Send(conn, Message::AllowedFast(*piece)));
        events.extend(allowed);
        peer.allowed_out = set;
    }

    /// Tells peers that came before we knew what we have, in slices.
    pub(super) fn send_haves(&mut self, events: &mut Vec<Event>) {
        let Some(content) = self.content.as_ref().filter(|_| self.haves_owed) else {
            return;
        };
        self.haves_owed = false;
        let have = content.picker.have();
        for (conn, peer) in &mut self.peers {
            let mut left = self.config.swarm.haves_per_input;
            while let Some(from) = peer.haves_from {
                let Some(piece) = have.next_one(from) else {
                    peer.haves_from = None;
                    break;
                };
                if left == 0 {
                    (self.haves_owed, self.unfinished) = (true, true);
                    break;
                }
                left -= 1;
                peer.haves_from = Some(piece + 1);
                if !peer.has_piece(piece) {
                    events.push(Event::Send(*conn, Message::Have(piece)));
                }
            }
        }
    }

    /// A connection ended by itself, or could not be made.
    pub(super) fn on_gone(
        &mut self,
        conn: Option<ConnId>,
        addr: SocketAddr,
        reason: CloseReason,
        events: &mut Vec<Event>,
    ) {
        match conn {
            Some(conn) => self.forget_peer(conn, reason, events),
            None if self.known.is_connecting(addr) => self.on_dial_failed(addr, reason, events),
            None if reason == CloseReason::SelfConnection => {
                self.known.never(&self.config.swarm, addr);
            }
            None => {}
        }
    }

    fn on_dial_failed(&mut self, addr: SocketAddr, reason: CloseReason, events: &mut Vec<Event>) {
        if self.known.on_attempt_failed(addr, reason) {
            // In the other way it is still the same attempt.
            return;
        }
        let told = dial::told(self.config.wire.encryption, reason);
        self.on_attempt_failed(addr, told.unwrap_or(reason), events);
    }

    /// An attempt to connect to `addr` came to nothing: told once for each, unless there was no
    /// room for it.
    fn on_attempt_failed(
        &mut self,
        addr: SocketAddr,
        reason: CloseReason,
        events: &mut Vec<Event>,
    ) {
        let config = &self.config.swarm;
        if reason == CloseReason::SelfConnection {
            self.known.never(config, addr);
        } else {
            let end = End::of_attempt(reason);
            self.known.on_closed(config, addr, end, self.now);
        }
        let ours = matches!(reason, CloseReason::Limit(_) | CloseReason::Shutdown);
        if !ours && self.is_open_to_peers() {
            let torrent = self.torrent;
            let closed = event::Event::PeerClosed {
                torrent,
                addr,
                reason,
            };
            self.public(closed, events);
        }
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, conn: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        if self.peers.contains_key(&conn) {
            self.forget_peer(conn, reason, events);
            events.push(Event::Disconnect(conn, reason));
        }
    }

    /// Ends a connection and never lets that peer in again.
    pub(super) fn ban(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let (addr, listen) = (peer.addr, peer.listen);
        self.close(conn, CloseReason::Banned, events);
        let config = &self.config.swarm;
        self.known.ban(config, addr);
        if let Some(listen) = listen {
            self.known.ban(config, listen);
        }
    }

    fn forget_peer(&mut self, conn: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.remove(&conn) else {
            return;
        };
        self.outbound = self.outbound.saturating_sub(peer.shared());
        self.by_key.remove(&peer.key);
        self.crowd.remove(peer.addr.ip());
        self.unlist_peer(conn, &peer, reason);
        self.fetch_input(metadata::Input::Gone { conn }, events);
        self.forget_super_seed_peer(&peer, events);
        if let Some(content) = &mut self.content {
            match peer.pieces {
                Pieces::Early { .. } => {}
                Pieces::All => content.picker.seed_left(),
                Pieces::Some(bits) => content.picker.peer_left(peer.key, bits),
            }
            for asked in &peer.asked {
                content.picker.on_abort(peer.key, asked.block);
            }
        }
        self.count_more();
        self.epoch += u64::from(!peer.asked.is_empty());
        self.upload_claimed = self.upload_claimed.saturating_sub(peer.reading);
        self.fill_slots |= !peer.choked;
        if peer.down.total() > 0 {
            self.departed.push_back((peer.key, peer.addr));
            if self.departed.len() > usize::from(self.config.swarm.max_departed) {
                self.departed.pop_front();
            }
        }
        if let Some(listen) = peer.listen {
            let fruitless = peer.down.total() == 0 && peer.up.total() == 0;
            let end = End::of_connection(reason, fruitless);
            self.known
                .on_closed(&self.config.swarm, listen, end, self.now);
        }
        let (torrent, addr) = (self.torrent, peer.addr);
        self.public(
            event::Event::PeerClosed {
                torrent,
                addr,
                reason,
            },
            events,
        );
    }

    /// The address of a peer that is or was connected.
    pub(super) fn address_of(&self, key: PeerKey) -> Option<SocketAddr> {
        let here = self.by_key.get(&key).and_then(|conn| self.peers.get(conn));
        here.map(|peer| peer.addr).or_else(|| {
            let gone = self
                .departed
                .iter()
                .rev()
                .find(|(departed, _)| *departed == key);
            gone.map(|(_, addr)| *addr)
        })
    }

    /// Closes peers that have nothing for us and want nothing from us.
    pub(super) fn close_useless(&mut self, events: &mut Vec<Event>) {
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            self.close_if_useless(conn, events);
        }
    }

    pub(super) fn close_if_useless(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let gives_only = peer.is_seed() || (peer.upload_only && peer.opened);
        let has_nothing = self.phase == Phase::Active && peer.wanted == 0;
        if (self.is_complete() || has_nothing) && gives_only && !peer.peer_interested {
            self.close(conn, CloseReason::Useless, events);
        }
    }
}
