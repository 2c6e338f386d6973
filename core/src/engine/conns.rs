//! Connections: from `Connect` or `Incoming` to `Close`, and their read credit.

use alloc::vec::Vec;
use bytes::BytesMut;
use core::net::{IpAddr, SocketAddr};

use super::{Engine, Todo, Wake};
use crate::event::{CloseReason, Event, Transport};
use crate::id::Id20;
use crate::io::{ConnId, Outbox, Output, Ticket, TorrentId};
use crate::swarm::{self, Dial};
use crate::time::Instant;
use crate::wire::{self, Wire};

/// One connection, from its first attempt on.
pub(super) struct Conn {
    pub(super) wire: Wire,
    addr: SocketAddr,
    incoming: bool,
    transport: Transport,
    stage: Stage,
    /// The torrent it is for; unknown for inbound ones until their handshake.
    torrent: Option<TorrentId>,
    /// Bytes the host may still read.
    credit: u32,
    /// Bytes it is allowed to read ahead: grows while it makes use of them.
    window: u32,
    /// It is not read from until a budget allows it.
    parked: bool,
    /// Bytes that it holds for an unfinished message.
    unfinished: usize,
    armed: Option<Instant>,
}

impl Conn {
    /// The torrent it is for, once that is known.
    pub(super) fn torrent(&self) -> Option<TorrentId> {
        self.torrent
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Outgoing, not connected: given up at this moment.
    Connecting(Instant),
    /// Connected, no handshake yet.
    Handshaking,
    /// A peer of its swarm.
    Joined,
}

impl Engine {
    /// Opens a connection that a swarm asked for.
    pub(super) fn connect(
        &mut self,
        torrent: TorrentId,
        addr: SocketAddr,
        dial: Dial,
        out: &mut Outbox,
    ) {
        let Some(hash) = self
            .torrents
            .at(torrent.0)
            .map(|torrent| torrent.hashes.short())
        else {
            return;
        };
        if !self.config.tcp || self.conns.len() >= self.config.limits.max_connections as usize {
            let reason = CloseReason::Limit("limits.max_connections");
            self.swarm_input(
                torrent,
                swarm::Input::Gone {
                    conn: None,
                    addr,
                    reason,
                },
            );
            return;
        }
        let (config, now, peer_id) = (&self.config, self.now, self.peer_id);
        let deadline = now + config.swarm.connect_timeout;
        let mut wire = |key| {
            let wire = Wire::outgoing(ConnId(key), config.clone(), hash, peer_id, now);
            match dial {
                Dial::Plain => wire,
                Dial::Encrypted => wire.with_encryption(self.encryption.bytes()),
            }
        };
        let key = self.conns.insert_with(|key| Conn {
            wire: wire(key),
            addr,
            incoming: false,
            transport: Transport::Tcp,
            stage: Stage::Connecting(deadline),
            torrent: Some(torrent),
            credit: 0,
            window: 0,
            parked: false,
            unfinished: 0,
            armed: None,
        });
        out.push(Output::Connect {
            conn: ConnId(key),
            to: addr,
        });
        self.rearm_conn(ConnId(key));
    }

    pub(super) fn on_incoming(&mut self, ticket: Ticket, from: SocketAddr, out: &mut Outbox) {
        let limits = &self.config.limits;
        if !self.config.tcp
            || self.shutdown.is_begun()
            || self.torrents.is_empty()
            || self.conns.len() >= self.most_connections()
            || self.pending_incoming >= limits.max_pending_incoming
            || !self.has_room_for(from.ip())
        {
            out.push(Output::Refuse { ticket });
            return;
        }
        let (config, now, peer_id) = (&self.config, self.now, self.peer_id);
        let seed = self.encryption.bytes();
        let key = self.conns.insert_with(|key| Conn {
            wire: Wire::incoming(ConnId(key), config.clone(), peer_id, now).with_encryption(seed),
            addr: from,
            incoming: true,
            transport: Transport::Tcp,
            stage: Stage::Handshaking,
            torrent: None,
            credit: 0,
            window: 0,
            parked: false,
            unfinished: 0,
            armed: None,
        });
        self.pending_incoming += 1;
        self.pending_from.add(from.ip());
        self.incoming_from.add(from.ip());
        let conn = ConnId(key);
        out.push(Output::Accept { ticket, conn });
        self.give_credit(conn, out);
        self.rearm_conn(conn);
    }

    /// Whether an address has not had its share of inbound connections.
    fn has_room_for(&self, ip: IpAddr) -> bool {
        let (limits, lab) = (&self.config.limits, self.config.lab);
        self.pending_from
            .admits(ip, limits.pending_crowding, lab, &[])
            && self
                .incoming_from
                .admits(ip, limits.incoming_crowding, lab, &[])
    }

    /// An inbound connection has finished its handshake or ended without.
    fn no_longer_pending(&mut self, ip: IpAddr) {
        self.pending_incoming = self.pending_incoming.saturating_sub(1);
        self.pending_from.remove(ip);
    }

    pub(super) fn on_connected(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        if !matches!(entry.stage, Stage::Connecting(_)) {
            return;
        }
        entry.stage = Stage::Handshaking;
        self.wire_input(conn, wire::Input::Connected, out);
        self.give_credit(conn, out);
    }

    pub(super) fn on_received(&mut self, conn: ConnId, data: BytesMut, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        let before = entry.credit;
        entry.credit = before.saturating_sub(data.len() as u32);
        self.grants.disk.credit_changed(before, entry.credit);
        self.grants.on_received(entry.torrent, data.len() as u64);
        self.wire_input(conn, wire::Input::Received(data), out);
        self.bound_unfinished(out);
        self.work_off(out);
        self.give_credit(conn, out);
    }

    /// Bytes left: the swarm is told whenever there is room, since it lets go of what it counts
    /// as unsent only then.
    pub(super) fn on_sent(&mut self, conn: ConnId, bytes: u32, out: &mut Outbox) {
        self.wire_input(conn, wire::Input::Sent(bytes), out);
        let Some(entry) = self.conns.at(conn.0) else {
            return;
        };
        let unsent = entry.wire.unsent() as u32;
        if entry.stage == Stage::Joined
            && unsent < self.config.wire.send_window / 2
            && let Some(torrent) = entry.torrent
        {
            self.swarm_input(torrent, swarm::Input::Writable { conn, unsent });
        }
    }

    /// Hands an input to a connection and queues what it says.
    pub(super) fn wire_input(&mut self, conn: ConnId, input: wire::Input, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        entry
            .wire
            .handle(self.now, input, out, &mut self.wire_events);
        self.todo.extend(
            self.wire_events
                .drain(..)
                .map(|event| Todo::Wire(conn, event)),
        );
        let unfinished = entry.wire.unfinished();
        self.unfinished += unfinished;
        self.unfinished -= core::mem::replace(&mut entry.unfinished, unfinished);
        self.rearm_conn(conn);
    }

    /// Drops who holds most unfinished messages while all together hold too much.
    fn bound_unfinished(&mut self, out: &mut Outbox) {
        while self.unfinished > self.config.limits.max_unfinished as usize {
            let most = self.conns.iter().max_by_key(|(_, it)| it.unfinished);
            let Some((key, _)) = most else { return };
            let reason = CloseReason::Limit("limits.max_unfinished");
            self.drop_conn(ConnId(key), reason, true, out);
        }
    }

    /// A torrent's number of pieces is known: longer bitfields are refused from now on.
    pub(super) fn tell_pieces(&mut self, torrent: TorrentId, pieces: u32, out: &mut Outbox) {
        for conn in self.conns_of(torrent) {
            self.wire_input(conn, wire::Input::Pieces(pieces), out);
        }
    }

    pub(super) fn on_wire_event(&mut self, conn: ConnId, event: wire::Event, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        let joined = if entry.stage == Stage::Joined {
            entry.torrent
        } else {
            None
        };
        match (event, joined) {
            (wire::Event::Sought(hash), None) => {
                let found = self.by_torrent_hash.get(&hash).copied();
                self.wire_input(conn, wire::Input::Found(found), out);
            }
            (
                wire::Event::Handshake {
                    info_hash,
                    peer_id,
                    fast,
                    extended,
                    dht,
                },
                None,
            ) => {
                if peer_id == self.peer_id {
                    self.drop_conn(conn, CloseReason::SelfConnection, true, out);
                    return;
                }
                let Some(torrent) = self.torrent_of_handshake(conn, info_hash) else {
                    self.drop_conn(conn, CloseReason::BadHandshake, true, out);
                    return;
                };
                let Some(entry) = self.conns.at_mut(conn.0) else {
                    return;
                };
                let mut hello = swarm::Hello {
                    addr: entry.addr,
                    incoming: entry.incoming,
                    peer_id,
                    fast,
                    extended,
                    dht: dht && self.dht.is_some(),
                    transport: entry.transport,
                    encryption: entry.wire.encryption(),
                    crowded: false,
                };
                entry.torrent = Some(torrent);
                entry.stage = Stage::Joined;
                let info = self.torrents.at(torrent.0);
                if let Some(info) = info.and_then(|entry| entry.swarm.info()) {
                    let pieces = wire::Input::Pieces(info.piece_count);
                    self.wire_input(conn, pieces, out);
                }
                if hello.incoming {
                    self.no_longer_pending(hello.addr.ip());
                    hello.crowded = self.is_crowded() && !self.make_room_elsewhere(torrent, out);
                    self.wire_input(conn, wire::Input::Admit { info_hash }, out);
                }
                self.swarm_input(torrent, swarm::Input::Joined(conn, hello));
            }
            (wire::Event::Message(message), Some(torrent)) => {
                self.swarm_input(torrent, swarm::Input::Message(conn, message));
            }
            (
                wire::Event::BlockPart {
                    block,
                    offset,
                    data,
                },
                Some(torrent),
            ) => {
                self.swarm_input(
                    torrent,
                    swarm::Input::BlockPart {
                        conn,
                        block,
                        offset,
                        data,
                    },
                );
            }
            (wire::Event::Failed(reason), _) => self.drop_conn(conn, reason, true, out),
            // A connection says these only once it has joined, and only one handshake.
            _ => {}
        }
    }

    /// The torrent a handshake means: for outgoing connections the one we asked for, and no other.
    fn torrent_of_handshake(&self, conn: ConnId, info_hash: Id20) -> Option<TorrentId> {
        let entry = self.conns.at(conn.0)?;
        let named = self.by_hash.get(&info_hash).copied()?;
        match entry.torrent {
            Some(asked) => (asked == named).then_some(asked),
            None => Some(named),
        }
    }

    /// Ends a connection and tells its swarm. `close`: the host still holds the stream.
    pub(super) fn drop_conn(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        close: bool,
        out: &mut Outbox,
    ) {
        let Some(entry) = self.remove_conn(conn) else {
            return;
        };
        if close {
            out.push(Output::Close { conn });
        }
        if reason == CloseReason::SelfConnection && !entry.incoming {
            self.on_own_addr(entry.addr);
        }
        if let (None, CloseReason::Encryption(_), Some(meant)) =
            (entry.torrent, reason, entry.wire.info_hash())
            && let Some(torrent) = self.by_hash.get(&meant).copied()
        {
            // No swarm knows of it: that it was refused is for people.
            let addr = entry.addr;
            let refused = Event::PeerClosed {
                torrent,
                addr,
                reason,
            };
            self.emit(refused, out);
        }
        if let Some(torrent) = entry.torrent {
            let joined = (entry.stage == Stage::Joined).then_some(conn);
            let gone = swarm::Input::Gone {
                conn: joined,
                addr: entry.addr,
                reason,
            };
            self.swarm_input(torrent, gone);
        }
    }

    /// Ends a connection that its swarm gave up; nobody is told.
    pub(super) fn disconnect(&mut self, conn: ConnId, out: &mut Outbox) {
        if self.remove_conn(conn).is_some() {
            out.push(Output::Close { conn });
        }
    }

    fn conns_of(&self, torrent: TorrentId) -> Vec<ConnId> {
        let all = self.conns.iter();
        let its = all.filter(|(_, entry)| entry.torrent == Some(torrent));
        its.map(|(key, _)| ConnId(key)).collect()
    }

    /// Ends every connection of a torrent that is gone.
    pub(super) fn disconnect_all(&mut self, torrent: TorrentId, out: &mut Outbox) {
        for conn in self.conns_of(torrent) {
            self.disconnect(conn, out);
        }
    }

    fn remove_conn(&mut self, conn: ConnId) -> Option<Conn> {
        let entry = self.conns.remove(conn.0)?;
        if entry.incoming {
            self.incoming_from.remove(entry.addr.ip());
            if entry.stage != Stage::Joined {
                self.no_longer_pending(entry.addr.ip());
            }
        }
        self.grants.disk.credit_changed(entry.credit, 0);
        self.unfinished -= entry.unfinished;
        if let Some(torrent) = entry.torrent {
            self.grants.forget_parked(torrent, conn);
        }
        self.deadlines.disarm(Wake::Conn(conn));
        Some(entry)
    }

    /// Lets the host read on, unless a budget says that it must wait.
    ///
    /// Everyone begins with the smallest window; who makes use of its window gets a larger one,
    /// as far as the disk budget has room for what may come.
    pub(super) fn give_credit(&mut self, conn: ConnId, out: &mut Outbox) {
        let wire = &self.config.wire;
        let (min, max) = (wire.min_receive_window, wire.receive_window);
        let conns = self.conns.len();
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        let most = self
            .grants
            .read_ahead(entry.torrent, conns, &self.config.limits);
        // What the connection has read and not yet worked off counts as unread.
        let behind = entry.wire.next_timeout().is_some_and(|at| at <= self.now);
        if behind || entry.credit > entry.window / 2 {
            return;
        }
        let window = match (entry.stage, entry.torrent) {
            (Stage::Connecting(_), _) => return,
            (Stage::Joined, Some(torrent)) => {
                if !self.grants.may_read(torrent) {
                    self.grants.park(torrent, conn);
                    self.set_parked(conn, true, out);
                    return;
                }
                let wanted = entry.window.saturating_mul(2).clamp(min, max);
                self.grants.disk.window(entry.credit, wanted).min(most)
            }
            // A handshake brings no block: no budget holds it up.
            _ => min.min(most),
        };
        let before = entry.credit;
        entry.window = window;
        entry.credit = before.max(window);
        self.grants.disk.credit_changed(before, entry.credit);
        let bytes = entry.credit - before;
        if bytes > 0 {
            out.push(Output::ReadCredit { conn, bytes });
        }
        self.set_parked(conn, false, out);
    }

    /// Tells whom it concerns that a connection is not read from, or is again.
    fn set_parked(&mut self, conn: ConnId, parked: bool, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        if entry.parked == parked {
            return;
        }
        entry.parked = parked;
        let (torrent, on) = (entry.torrent, !parked);
        self.wire_input(conn, wire::Input::Reading(on), out);
        if let Some(torrent) = torrent {
            self.swarm_input(torrent, swarm::Input::Reading { conn, on });
        }
    }

    pub(super) fn wake_conn(&mut self, conn: ConnId, at: Instant, out: &mut Outbox) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        if entry.armed == Some(at) {
            entry.armed = None;
        }
        if let Stage::Connecting(deadline) = entry.stage {
            if deadline <= self.now {
                let reason = CloseReason::Io(crate::io::IoReason::TimedOut);
                self.drop_conn(conn, reason, true, out);
                return;
            }
        } else if entry.wire.next_timeout().is_some_and(|at| at <= self.now) {
            self.wire_input(conn, wire::Input::Tick, out);
            self.bound_unfinished(out);
            self.work_off(out);
            self.give_credit(conn, out);
        }
        self.rearm_conn(conn);
    }

    fn rearm_conn(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.at_mut(conn.0) else {
            return;
        };
        let want = match entry.stage {
            Stage::Connecting(deadline) => Some(deadline),
            Stage::Handshaking | Stage::Joined => entry.wire.next_timeout(),
        };
        Self::arm(
            &mut self.deadlines,
            &mut entry.armed,
            want,
            Wake::Conn(conn),
        );
    }
}
