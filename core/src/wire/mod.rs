//! One peer connection: handshake, frames, extensions (BEP 3, 6, 10).

mod chunk;
pub mod extension;
pub mod fast;
pub mod frame;
pub mod handshake;
mod io;
mod layer;
pub mod message;
#[cfg(feature = "encryption")]
pub mod mse;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Buf as _, Bytes, BytesMut};
pub use fast::allowed_fast;
pub use message::{BlockRef, ExtensionHandshake, Message};

use crate::config::{Config, EncryptionMode, WireConfig};
use crate::event::{CloseReason, Encryption};
use crate::id::{Id20, PeerId};
use crate::io::{ConnId, Outbox};
use crate::time::Instant;
use chunk::Chunk;
use extension::Numbers;
use frame::{Abilities, Decoded, Decoder};
use handshake::{HANDSHAKE_LEN, Handshake};
pub use io::{Event, Input};
use layer::Layer;
pub use layer::PLAIN_REFUSED;

/// One connection: handshake, frames, extensions and time.
///
/// It writes `Send` outputs itself and leaves `Close` and `ReadCredit` to its owner, who stops
/// feeding it after [`Event::Failed`]. One input yields at most `max_messages_per_input` messages
/// and block parts; the rest waits, and [`Wire::next_timeout`] says that it does.
#[derive(Debug)]
pub struct Wire {
    conn: ConnId,
    config: Arc<Config>,
    /// Ours.
    peer_id: PeerId,
    outgoing: bool,
    layer: Layer,
    /// What is asked for (outgoing), or what the remote asked for once it did.
    info_hash: Option<Id20>,
    phase: Phase,
    abilities: Abilities,
    dht: bool,
    numbers: Numbers,
    /// Pieces that a bitfield may tell of.
    pieces: u32,
    /// Read and not yet worked off.
    backlog: VecDeque<Chunk>,
    backlog_bytes: usize,
    /// When the backlog was left behind, if it can be worked on.
    behind: Option<Instant>,
    opened: Instant,
    heard: Instant,
    spoke: Instant,
    /// We do not read.
    parked: bool,
    unsent: usize,
    /// When bytes last left, or the first of those that are unsent was handed over.
    moved: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Outgoing, not connected.
    Connecting,
    /// The remote's handshake is awaited.
    Handshake {
        bytes: [u8; HANDSHAKE_LEN],
        have: u8,
    },
    /// Inbound: the handshake is there, `Admit` is not.
    Waiting,
    Open(Decoder),
    Failed,
}

const AWAIT_HANDSHAKE: Phase = Phase::Handshake {
    bytes: [0; HANDSHAKE_LEN],
    have: 0,
};

impl Wire {
    /// A connection we open, for one torrent. Our handshake leaves on `Connected`.
    #[must_use]
    pub fn outgoing(
        conn: ConnId,
        config: Arc<Config>,
        info_hash: Id20,
        peer_id: PeerId,
        now: Instant,
    ) -> Self {
        Self::new(
            conn,
            config,
            Some(info_hash),
            peer_id,
            Phase::Connecting,
            now,
        )
    }

    /// A connection somebody opened to us. Our handshake leaves on `Admit`.
    #[must_use]
    pub fn incoming(conn: ConnId, config: Arc<Config>, peer_id: PeerId, now: Instant) -> Self {
        Self::new(conn, config, None, peer_id, AWAIT_HANDSHAKE, now)
    }

    fn new(
        conn: ConnId,
        config: Arc<Config>,
        info_hash: Option<Id20>,
        peer_id: PeerId,
        phase: Phase,
        now: Instant,
    ) -> Self {
        let pieces = config.swarm.max_pieces;
        Self {
            conn,
            config,
            peer_id,
            outgoing: info_hash.is_some(),
            layer: Layer::Plain,
            info_hash,
            phase,
            abilities: Abilities::default(),
            dht: false,
            numbers: Numbers::default(),
            pieces,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            behind: None,
            opened: now,
            heard: now,
            spoke: now,
            parked: false,
            unsent: 0,
            moved: now,
        }
    }

    /// An outgoing connection begins with the handshake of encryption; an incoming one may, if the
    /// configuration lets it. Keys and pads come of `seed`, which must be secret and of this
    /// connection alone. Without the feature `encryption` nothing changes.
    #[must_use]
    pub fn with_encryption(mut self, seed: [u8; 32]) -> Self {
        self.layer = Layer::new(self.config.wire.encryption, self.outgoing, seed);
        self
    }

    /// Takes one input: bytes to send go to `out`, what it says to `events`.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        let done = match input {
            Input::Tick => self.work(now, BytesMut::new(), events),
            Input::Connected => {
                self.on_connected(now, out);
                Ok(())
            }
            Input::Received(data) => {
                self.heard = now;
                self.read(now, data, out, events)
            }
            Input::Sent(bytes) => {
                self.on_sent(now, bytes as usize, events);
                Ok(())
            }
            Input::Reading(on) => {
                self.parked = !on;
                self.heard = now;
                Ok(())
            }
            Input::Pieces(pieces) => self.on_pieces(pieces),
            Input::Admit { info_hash } => self.on_admit(now, info_hash, out, events),
            Input::Found(found) => self.on_found(now, found, out, events),
            Input::Send(message) => self.send(now, message, out),
        };
        if let Err(reason) = done.and_then(|()| self.on_time(now, out)) {
            self.phase = Phase::Failed;
            self.backlog = VecDeque::new();
            self.backlog_bytes = 0;
            self.behind = None;
            events.push(Event::Failed(reason));
        }
    }

    /// When the next `Tick` is due; not later than now when input waits to be worked off.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let config = self.limits();
        match self.phase {
            Phase::Connecting | Phase::Failed => None,
            Phase::Handshake { .. } | Phase::Waiting => {
                Some(self.opened + config.handshake_timeout)
            }
            Phase::Open(_) => self.behind.or_else(|| {
                let speak = self.spoke + config.keep_alive;
                let idle = (!self.parked).then_some(self.heard + config.idle_timeout);
                let stalled = (self.unsent > 0).then_some(self.moved + config.send_timeout);
                [idle, stalled, Some(speak)].into_iter().flatten().min()
            }),
        }
    }

    /// Bytes handed over for sending that have not left yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes that may be sent before the send window is full. Blocks wait for it; control
    /// messages do not, within `max_queued_control`.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.limits().send_window as usize).saturating_sub(self.unsent)
    }

    /// Bytes read that wait to be worked off, not counting an unfinished message.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog_bytes
    }

    /// Bytes held for a message that is not complete. Blocks are handed on as they come.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        match &self.phase {
            Phase::Open(decoder) => decoder.unfinished(),
            _ => 0,
        }
    }

    /// Whether handshakes were exchanged, so that messages can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether both sides speak the fast extension (BEP 6).
    #[must_use]
    pub fn fast(&self) -> bool {
        self.abilities.fast
    }

    /// Whether both sides speak the extension protocol (BEP 10).
    #[must_use]
    pub fn extended(&self) -> bool {
        self.abilities.extended
    }

    /// Whether the remote has a DHT node (BEP 5).
    #[must_use]
    pub fn dht(&self) -> bool {
        self.dht
    }

    /// How the stream is encrypted.
    #[must_use]
    pub fn encryption(&self) -> Encryption {
        self.layer.encryption()
    }

    /// The torrent that is meant: asked for by us, or by the remote as far as it has said.
    #[must_use]
    pub fn info_hash(&self) -> Option<Id20> {
        self.info_hash
    }

    /// The remote's extension numbers so far.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    fn limits(&self) -> &WireConfig {
        &self.config.wire
    }

    fn on_connected(&mut self, now: Instant, out: &mut Outbox) {
        if let (Phase::Connecting, Some(info_hash)) = (&self.phase, self.info_hash) {
            (self.opened, self.heard) = (now, now);
            self.phase = AWAIT_HANDSHAKE;
            let (ours, conn, config) = (self.handshake(info_hash), self.conn, &self.config.wire);
            let layer = &mut self.layer;
            let write = |buf: &mut Vec<u8>| {
                layer.on_connected(config, info_hash, |buf| ours.encode(buf), buf);
            };
            let bytes = out.send(conn, write, Bytes::new());
            self.handed_over(now, bytes);
        }
    }

    fn on_admit(
        &mut self,
        now: Instant,
        info_hash: Id20,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        if !matches!(self.phase, Phase::Waiting) {
            return Ok(());
        }
        self.info_hash = Some(info_hash);
        let ours = self.handshake(info_hash);
        let bytes = self.put(|buf| ours.encode(buf), Bytes::new(), out);
        self.handed_over(now, bytes);
        self.phase = Phase::Open(Decoder::new(self.pieces));
        self.heard = now;
        self.work(now, BytesMut::new(), events)
    }

    /// Bytes of the stream: what they are without the layer between is worked off.
    fn read(
        &mut self,
        now: Instant,
        data: BytesMut,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let mut answer = Vec::new();
        let read = self.layer.read(&self.config.wire, data, &mut answer);
        self.on_read(now, read?, &answer, out, events)
    }

    fn on_found(
        &mut self,
        now: Instant,
        found: Option<Id20>,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        #[cfg(feature = "encryption")]
        {
            let mut answer = Vec::new();
            let read = self.layer.on_found(&self.config.wire, found, &mut answer);
            let read = read?;
            self.info_hash = self.info_hash.or(found);
            self.on_read(now, read, &answer, out, events)
        }
        #[cfg(not(feature = "encryption"))]
        {
            let _ = (now, found, out, events);
            Ok(())
        }
    }

    fn on_read(
        &mut self,
        now: Instant,
        read: layer::Read,
        answer: &[u8],
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        if !answer.is_empty() {
            let write = |buf: &mut Vec<u8>| buf.extend_from_slice(answer);
            let bytes = out.send(self.conn, write, Bytes::new());
            self.handed_over(now, bytes);
        }
        if read.anew {
            self.phase = AWAIT_HANDSHAKE;
        }
        events.extend(read.sought.map(Event::Sought));
        self.work(now, read.data, events)
    }

    fn on_pieces(&mut self, pieces: u32) -> Result<(), CloseReason> {
        self.pieces = pieces;
        match &mut self.phase {
            Phase::Open(decoder) => decoder.set_pieces(pieces).map_err(CloseReason::Protocol),
            _ => Ok(()),
        }
    }

    fn on_sent(&mut self, now: Instant, bytes: usize, events: &mut Vec<Event>) {
        if bytes > 0 {
            self.moved = now;
        }
        let half = self.limits().send_window as usize / 2;
        let before = self.unsent;
        self.unsent = before.saturating_sub(bytes);
        let crossed = before >= half && self.unsent < half;
        // Empty counts too: whoever waits for room for something larger than half the window
        // would wait for ever otherwise.
        if self.is_open() && (crossed || (before > 0 && self.unsent == 0)) {
            events.push(Event::Writable);
        }
    }

    fn on_time(&mut self, now: Instant, out: &mut Outbox) -> Result<(), CloseReason> {
        let config = &self.config.wire;
        match self.phase {
            Phase::Handshake { .. } | Phase::Waiting
                if now >= self.opened + config.handshake_timeout =>
            {
                Err(CloseReason::HandshakeTimeout)
            }
            // What was read and not worked off is no silence, nor is what we do not read.
            Phase::Open(_)
                if self.behind.is_none()
                    && !self.parked
                    && now >= self.heard + config.idle_timeout =>
            {
                Err(CloseReason::Idle)
            }
            Phase::Open(_) if self.unsent > 0 && now >= self.moved + config.send_timeout => {
                Err(CloseReason::Stalled)
            }
            Phase::Open(_) if now >= self.spoke + config.keep_alive => {
                self.send(now, Message::KeepAlive, out)
            }
            _ => Ok(()),
        }
    }

    fn handshake(&self, info_hash: Id20) -> Handshake {
        Handshake {
            info_hash,
            peer_id: self.peer_id,
            fast: true,
            extended: true,
            dht: self.config.dht.enabled && !self.config.dht.read_only,
        }
    }

    fn handed_over(&mut self, now: Instant, bytes: usize) {
        if self.unsent == 0 {
            self.moved = now;
        }
        self.unsent += bytes;
        self.spoke = now;
    }

    /// Sends a message; one that the remote would not understand is dropped.
    fn send(
        &mut self,
        now: Instant,
        message: Message,
        out: &mut Outbox,
    ) -> Result<(), CloseReason> {
        let understood = match &message {
            Message::Suggest(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Reject(_)
            | Message::AllowedFast(_) => self.abilities.fast,
            Message::ExtensionHandshake(_) => self.abilities.extended,
            Message::Metadata(_) => self.abilities.extended && self.numbers.ut_metadata != 0,
            Message::DontHave(_) => self.abilities.extended && self.numbers.lt_donthave != 0,
            Message::Pex(_) => self.abilities.extended && self.numbers.ut_pex != 0,
            _ => true,
        };
        if !self.is_open() || !understood {
            return Ok(());
        }
        let number = match &message {
            Message::DontHave(_) => self.numbers.lt_donthave,
            Message::Pex(_) => self.numbers.ut_pex,
            _ => self.numbers.ut_metadata,
        };
        let body = frame::body(&message);
        let write = |buf: &mut Vec<u8>| {
            frame::encode_head(&message, number, buf);
            // From here on the body may be nobody else's.
            drop(message);
        };
        let bytes = self.put(write, body, out);
        self.handed_over(now, bytes);
        let most = u64::from(self.limits().send_window)
            + u64::from(self.limits().max_queued_control)
            + u64::from(self.limits().max_block);
        if self.unsent as u64 > most {
            return Err(CloseReason::Limit("wire.max_queued_control"));
        }
        Ok(())
    }

    /// Sends through the layer between.
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>), body: Bytes, out: &mut Outbox) -> usize {
        let layer = &mut self.layer;
        if layer.is_plain() {
            return out.send(self.conn, write, body);
        }
        out.send_with(self.conn, |buf| {
            let start = buf.len();
            write(buf);
            layer.encipher_head(&mut buf[start..]);
            layer.encipher(body)
        })
    }

    /// Works off what was read, `data` last, within the budget of one input.
    fn work(
        &mut self,
        now: Instant,
        data: BytesMut,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let mut budget = self.limits().max_messages_per_input;
        let mut data = Some(Chunk::new(data));
        loop {
            let chunk = match self.backlog.pop_front() {
                Some(chunk) => {
                    self.backlog_bytes -= chunk.data.len();
                    Some(chunk)
                }
                None => data.take(),
            };
            let Some(mut chunk) = chunk else {
                self.behind = None;
                return Ok(());
            };
            let first = events.len();
            let worked = self.work_chunk(&mut chunk.data, &mut budget, events);
            chunk.let_go(&mut events[first..]);
            worked?;
            let waiting = matches!(self.phase, Phase::Waiting);
            if budget == 0 || waiting {
                self.keep_front(chunk);
                if let Some(data) = data {
                    self.keep_back(data);
                }
                let behind = !waiting && self.backlog_bytes > 0;
                self.behind = behind.then_some(now);
                if self.backlog_bytes > self.limits().receive_window as usize * 2 {
                    return Err(CloseReason::Limit("wire.receive_window"));
                }
                return Ok(());
            }
        }
    }

    /// Cuts messages off `chunk` until it is empty, the budget is spent or `Admit` is awaited.
    fn work_chunk(
        &mut self,
        chunk: &mut BytesMut,
        budget: &mut u16,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        while *budget > 0 {
            let event = match &mut self.phase {
                Phase::Open(decoder) => {
                    let decoded = decoder.decode(chunk, &self.config.wire, self.abilities);
                    match decoded.map_err(CloseReason::Protocol)? {
                        None => return Ok(()),
                        Some(Decoded::Skipped | Decoded::Message(Message::KeepAlive)) => None,
                        Some(Decoded::BlockPart {
                            block,
                            offset,
                            data,
                        }) => Some(Event::BlockPart {
                            block,
                            offset,
                            data,
                        }),
                        Some(Decoded::Message(message)) => {
                            if let Message::ExtensionHandshake(handshake) = &message {
                                self.numbers.update(handshake);
                            }
                            Some(Event::Message(message))
                        }
                    }
                }
                Phase::Handshake { bytes, have } => {
                    let at = usize::from(*have);
                    let taken = chunk.len().min(HANDSHAKE_LEN - at);
                    bytes[at..at + taken].copy_from_slice(&chunk[..taken]);
                    *have += taken as u8;
                    let whole = usize::from(*have) == HANDSHAKE_LEN;
                    let bytes = *bytes;
                    chunk.advance(taken);
                    if !handshake::may_become(&bytes[..at + taken]) {
                        return Err(CloseReason::BadHandshake);
                    }
                    if !whole {
                        return Ok(());
                    }
                    Some(self.on_handshake(&bytes)?)
                }
                Phase::Waiting => return Ok(()),
                Phase::Connecting | Phase::Failed => {
                    chunk.clear();
                    return Ok(());
                }
            };
            *budget -= 1;
            events.extend(event);
        }
        Ok(())
    }

    fn on_handshake(&mut self, bytes: &[u8; HANDSHAKE_LEN]) -> Result<Event, CloseReason> {
        let theirs = Handshake::decode(bytes).ok_or(CloseReason::BadHandshake)?;
        if theirs.peer_id == self.peer_id {
            return Err(CloseReason::SelfConnection);
        }
        // What was asked for, or what the handshake of encryption was about.
        if self
            .info_hash
            .is_some_and(|asked| asked != theirs.info_hash)
        {
            return Err(CloseReason::BadHandshake);
        }
        self.info_hash = Some(theirs.info_hash);
        let required = self.limits().encryption == EncryptionMode::Require;
        if required && self.encryption().is_plain() {
            return Err(CloseReason::Encryption(PLAIN_REFUSED));
        }
        self.abilities = Abilities {
            fast: theirs.fast,
            extended: theirs.extended,
            pex: self.config.pex.enabled,
        };
        self.dht = theirs.dht;
        self.phase = if self.outgoing {
            Phase::Open(Decoder::new(self.pieces))
        } else {
            Phase::Waiting
        };
        Ok(Event::Handshake {
            info_hash: theirs.info_hash,
            peer_id: theirs.peer_id,
            fast: theirs.fast,
            extended: theirs.extended,
            dht: theirs.dht,
        })
    }

    fn keep_front(&mut self, chunk: Chunk) {
        if !chunk.data.is_empty() {
            self.backlog_bytes += chunk.data.len();
            self.backlog.push_front(chunk.unpinned());
        }
    }

    fn keep_back(&mut self, chunk: Chunk) {
        if chunk.data.is_empty() {
            return;
        }
        self.backlog_bytes += chunk.data.len();
        let left = match self.backlog.back_mut() {
            Some(last) => last.gather(chunk),
            None => Some(chunk),
        };
        self.backlog.extend(left.map(Chunk::unpinned));
    }
}
