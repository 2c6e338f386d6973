//! What each message of a peer changes.

use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::bitfield::Bitfield;
use super::peer::{Base, Peer, Pieces};
use super::{Event, Swarm, client};
use crate::event::{self, CloseReason, PeerSource};
use crate::io::ConnId;
use crate::wire::{ExtensionHandshake, Message};

const TAKEN_BACK: CloseReason = CloseReason::Protocol("bitfield without pieces said before");

impl Swarm {
    pub(super) fn on_message(&mut self, conn: ConnId, message: Message, events: &mut Vec<Event>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let needs_fast = matches!(
            message,
            Message::HaveAll
                | Message::HaveNone
                | Message::Suggest(_)
                | Message::Reject(_)
                | Message::AllowedFast(_)
        );
        if needs_fast && !peer.fast {
            let reason = CloseReason::Protocol("fast message without the fast extension");
            self.close(conn, reason, events);
            return;
        }
        let max_allowed = usize::from(self.config.swarm.max_allowed_fast);
        match message {
            Message::KeepAlive | Message::Piece { .. } => {}
            Message::Suggest(piece) => self.on_suggest(conn, piece),
            Message::Choke => self.on_choke(conn),
            Message::Unchoke => {
                peer.choking = false;
                self.ask_again(conn, events);
            }
            Message::Interested => {
                peer.peer_interested = true;
                self.fill_slots = true;
            }
            Message::NotInterested => {
                peer.peer_interested = false;
                self.fill_slots |= !peer.choked;
                self.close_if_useless(conn, events);
            }
            Message::Have(piece) => self.on_have(conn, piece, events),
            Message::Bitfield(bytes) => self.on_pieces(conn, Base::Bits(bytes), events),
            Message::HaveAll => self.on_pieces(conn, Base::All, events),
            Message::HaveNone => self.on_pieces(conn, Base::None, events),
            Message::Request(block) => {
                peer.opened = true;
                self.on_request(conn, block, events);
            }
            Message::Cancel(block) => self.on_cancel(conn, block, events),
            Message::Reject(block) => self.on_reject(conn, block),
            Message::AllowedFast(piece) => {
                if peer.allowed_in.len() < max_allowed && !peer.allowed_in.contains(&piece) {
                    peer.allowed_in.push(piece);
                    self.ask_again(conn, events);
                }
            }
            Message::Port(port) => self.on_port(conn, port, events),
            Message::ExtensionHandshake(handshake) => {
                self.on_extension_handshake(conn, &handshake, events);
            }
            Message::Metadata(message) => self.on_metadata_message(conn, message, events),
            Message::DontHave(piece) => self.on_dont_have(conn, piece, events),
            Message::Pex(payload) => self.on_pex(conn, &payload, events),
        }
    }

    /// A peer names the port of its DHT node (BEP 5). Saying it again is of no use, and naming
    /// many would have us knock at all of them.
    fn on_port(&mut self, conn: ConnId, port: u16, events: &mut Vec<Event>) {
        if port == 0 || self.is_private() {
            return;
        }
        let most = self.config.swarm.max_dht_ports;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if port != peer.dht_port && peer.dht_ports < most {
            peer.dht_port = port;
            peer.dht_ports += 1;
            events.push(Event::DhtNode(SocketAddr::new(peer.addr.ip(), port)));
        }
    }

    /// A peer suggests a piece, because it has it at hand (BEP 6).
    fn on_suggest(&mut self, conn: ConnId, piece: u32) {
        let most = usize::from(self.config.swarm.max_suggested);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if !peer.suggested.contains(&piece) {
            peer.suggested.push_back(piece);
            if peer.suggested.len() > most {
                peer.suggested.pop_front();
            }
        }
    }

    /// A bitfield, HAVE_ALL or HAVE_NONE. BEP 3 has it once and first, but aria2 sends a bitfield
    /// in place of many HAVEs: a later one is taken too, as long as it takes nothing back. So what
    /// a peer says changes no more often than the torrent has pieces.
    fn on_pieces(&mut self, conn: ConnId, base: Base, events: &mut Vec<Event>) {
        let limit = self.config.swarm.max_pieces.div_ceil(8) as usize;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let first = !core::mem::replace(&mut peer.opened, true);
        if peer.took_back && !first {
            // Who says piece by piece what it lost goes on so: all of it at once, again and again,
            // would cost too much.
            return;
        }
        if let Pieces::Early { base: early, haves } = &mut peer.pieces {
            if matches!(&base, Base::Bits(bytes) if bytes.len() > limit) {
                self.close(conn, CloseReason::Limit("swarm.max_pieces"), events);
            } else if !early.may_become(&base, haves) {
                self.close(conn, TAKEN_BACK, events);
            } else {
                // A copy: a slice would pin the buffer it was read into until the metadata is
                // known.
                *early = match base {
                    Base::Bits(bytes) => Base::Bits(Bytes::copy_from_slice(&bytes)),
                    other => other,
                };
                self.on_seed_known(conn);
            }
            return;
        }
        let Some(content) = &self.content else { return };
        let count = content.info.piece_count;
        let bits = match base {
            Base::Bits(bytes) => Bitfield::from_bytes(count, &bytes),
            Base::All => Ok(Bitfield::full(count)),
            Base::None | Base::Unsaid => Ok(Bitfield::new(count)),
        };
        let Ok(bits) = bits else {
            let reason = CloseReason::Protocol("bitfield of wrong size");
            self.close(conn, reason, events);
            return;
        };
        let (kept, before) = match &peer.pieces {
            Pieces::Some(before) => (before.count_common(&bits), before.count_ones()),
            Pieces::All | Pieces::Early { .. } => (bits.count_ones(), count),
        };
        if kept < before {
            self.close(conn, TAKEN_BACK, events);
        } else if first || bits.count_ones() > before {
            self.set_pieces(conn, bits, events);
            self.ask_again(conn, events);
        }
    }

    fn on_have(&mut self, conn: ConnId, piece: u32, events: &mut Vec<Event>) {
        let max = self.config.swarm.max_pieces;
        let max_haves = self.config.swarm.max_early_haves as usize;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.opened = true;
        match (&mut peer.pieces, &mut self.content) {
            (Pieces::Early { haves, .. }, _) => {
                if piece >= max {
                    self.close(conn, CloseReason::Limit("swarm.max_pieces"), events);
                } else if haves.len() >= max_haves {
                    self.close(conn, CloseReason::Limit("swarm.max_early_haves"), events);
                } else {
                    haves.push((piece, true));
                }
            }
            (_, Some(content)) if piece >= content.info.piece_count => {
                self.close(conn, CloseReason::Protocol("have of no piece"), events);
            }
            (Pieces::Some(bits), Some(content)) => {
                if !bits.set(piece) {
                    return;
                }
                content.picker.peer_has(peer.key, piece);
                let full = bits.is_full();
                if content.picker.wants(piece) {
                    peer.wanted += 1;
                    self.update_interest(conn, events);
                    self.ask_again(conn, events);
                }
                self.on_seen_piece(conn, piece, events);
                if full {
                    self.on_seed_known(conn);
                    self.close_if_useless(conn, events);
                }
            }
            _ => {}
        }
    }

    fn on_extension_handshake(
        &mut self,
        conn: ConnId,
        handshake: &ExtensionHandshake,
        events: &mut Vec<Event>,
    ) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.upload_only = handshake.upload_only.unwrap_or(peer.upload_only);
        peer.prefers_encryption |= handshake.prefers_encryption;
        peer.holepunch |= handshake.ut_holepunch.is_some_and(|number| number != 0);
        peer.metadata = handshake.ut_metadata.is_some_and(|number| number != 0);
        let (torrent, addr) = (self.torrent, peer.addr);
        let named = handshake.client.clone().filter(|client| {
            let first = !core::mem::replace(&mut peer.named, true);
            first && !client.is_empty() && *client != client::name(&peer.peer_id)
        });
        if let Some(reqq) = handshake.reqq {
            peer.reqq = reqq.max(1);
        }
        if let (None, Some(port)) = (peer.listen, handshake.port.filter(|port| *port != 0)) {
            let listen = SocketAddr::new(peer.addr.ip(), port);
            let config = &self.config.swarm;
            self.known.on_found(config, PeerSource::Incoming, listen);
            if !self.known.is_connecting(listen) {
                peer.listen = Some(listen);
                self.known.on_connected(listen);
            }
        }
        if let Some(client) = named {
            self.public(
                event::Event::PeerNamed {
                    torrent,
                    conn,
                    addr,
                    client,
                },
                events,
            );
        }
        if let (Some(ours), Some(peer)) = (handshake.your_ip, self.peers.get(&conn)) {
            self.seen_at[usize::from(ours.is_ipv6())].vote(peer.addr.ip(), ours);
        }
        self.list_peer(conn);
        self.on_pex_offer(conn, handshake);
        self.on_metadata_offer(conn, handshake.metadata_size, events);
        self.on_seed_known(conn);
        self.close_if_useless(conn, events);
    }

    /// Tells a peer whether we are interested, if that changed.
    pub(super) fn update_interest(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            tell_interest(conn, peer, events);
        }
    }

    pub(super) fn update_interests(&mut self, events: &mut Vec<Event>) {
        for (conn, peer) in &mut self.peers {
            tell_interest(*conn, peer, events);
        }
    }
}

fn tell_interest(conn: ConnId, peer: &mut Peer, events: &mut Vec<Event>) {
    let interested = peer.wanted > 0;
    if interested != peer.interested {
        peer.interested = interested;
        let message = if interested {
            Message::Interested
        } else {
            Message::NotInterested
        };
        events.push(Event::Send(conn, message));
    }
}
