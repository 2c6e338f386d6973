//! Pieces that somebody no longer has (BEP 54), peers or ourselves, and what follows for who
//! fetches nothing (BEP 21).

use alloc::vec::Vec;

use super::bitfield::Bitfield;
use super::peer::Pieces;
use super::uploads::refuse;
use super::{Event, Swarm};
use crate::event::{self, CloseReason};
use crate::io::{ConnId, JobError};
use crate::wire::Message;

impl Swarm {
    /// A peer no longer has a piece. What it was asked for of it will not come.
    pub(super) fn on_dont_have(&mut self, conn: ConnId, piece: u32, events: &mut Vec<Event>) {
        let max = self.config.swarm.max_pieces;
        let most = self.config.swarm.max_early_haves as usize;
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        (peer.opened, peer.took_back) = (true, true);
        let (Some(content), false) = (
            &mut self.content,
            matches!(peer.pieces, Pieces::Early { .. }),
        ) else {
            if let Pieces::Early { haves, .. } = &mut peer.pieces {
                if piece >= max {
                    self.close(conn, CloseReason::Limit("swarm.max_pieces"), events);
                } else if haves.len() >= most {
                    self.close(conn, CloseReason::Limit("swarm.max_early_haves"), events);
                } else {
                    haves.push((piece, false));
                }
            }
            return;
        };
        let count = content.info.piece_count;
        if piece >= count {
            let reason = CloseReason::Protocol("lt_donthave of no piece");
            self.close(conn, reason, events);
            return;
        }
        match &mut peer.pieces {
            Pieces::Early { .. } => return,
            // Once for a connection: what it has is counted piece by piece from now on.
            Pieces::All => {
                let mut bits = Bitfield::full(count);
                bits.clear(piece);
                content.picker.seed_left();
                content.picker.peer_joined(peer.key, &bits);
                peer.pieces = Pieces::Some(bits);
            }
            Pieces::Some(bits) => {
                if !bits.clear(piece) {
                    return;
                }
                content.picker.peer_lost(peer.key, piece);
            }
        }
        if content.picker.wants(piece) {
            peer.wanted = peer.wanted.saturating_sub(1);
        }
        let asked = peer.asked.iter().map(|asked| asked.block);
        let dropped: Vec<_> = asked.filter(|block| block.piece == piece).collect();
        for block in dropped {
            peer.take_asked(block, self.now);
            content.picker.on_abort(peer.key, block);
            // Blocks on their way are no offence.
            peer.forgiven = peer.forgiven.saturating_add(1);
            self.epoch += 1;
        }
        self.count_more();
        self.on_seed_known(conn);
        self.update_interest(conn, events);
        self.close_if_useless(conn, events);
        self.ask_again(conn, events);
    }

    /// A piece that was verified cannot be read: whoever was told of it is told so, and it is
    /// fetched again, but not for ever.
    pub(super) fn on_had_lost(&mut self, piece: u32, events: &mut Vec<Event>) {
        let most = self.config.swarm.max_lost_pieces;
        let was_complete = self.is_complete();
        self.end_super_seed(events);
        let Some(content) = &mut self.content else {
            return;
        };
        // Reads of the same piece that were under way fail alike.
        if !content.picker.have().get(piece) {
            return;
        }
        let times = content.lost.entry(piece).or_default();
        *times = times.saturating_add(1);
        if *times > most {
            self.storage_failed(Some(piece), JobError::Io, events);
            return;
        }
        let serve_only = self.options.serve_only;
        if serve_only {
            content.picker.set_wanted(piece, false);
        }
        content.on_not_had(piece);
        content.picker.set_lost(piece);
        let wanted = content.picker.wants(piece);
        for (conn, peer) in &mut self.peers {
            if peer.announced && peer.haves_from.is_none_or(|from| piece < from) {
                events.push(Event::Send(*conn, Message::DontHave(piece)));
            }
            peer.wanted += u32::from(wanted && peer.has_piece(piece));
            let mut queue = core::mem::take(&mut peer.queue);
            queue.retain(|block| {
                let stays = block.piece != piece;
                if !stays {
                    refuse(*conn, peer, *block, events);
                }
                stays
            });
            peer.queue = queue;
        }
        let torrent = self.torrent;
        self.public(event::Event::PieceLost { torrent, piece }, events);
        self.known.set_complete(self.is_complete());
        if was_complete != self.is_complete() {
            self.tell_upload_only(events);
        }
        self.mark_dirty();
        self.epoch += 1;
        self.update_interests(events);
    }

    /// Tells peers whether we fetch nothing, where they were told otherwise (BEP 21).
    pub(super) fn tell_upload_only(&mut self, events: &mut Vec<Event>) {
        let complete = self.is_complete() && !self.is_super_seeding();
        let told = self.peers.iter();
        let told = told.filter(|(_, peer)| peer.extended && peer.told_upload_only != complete);
        let conns: Vec<_> = told.map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.send_extension_handshake(conn, events);
        }
    }
}
