//! What holds in every scenario, unless it is switched off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use trackerless_core::dht::security::is_exempt;
use trackerless_core::event::{Event, PeerSource};
use trackerless_core::io::{ConnId, Digest, JobId, JobResult, TorrentId, Work};
use trackerless_core::metainfo::Info;
use trackerless_core::{Config, Input, Instant, Output};

use super::Failure;
use super::stream::Conn;
use crate::scenario::Size;
use crate::{HostId, Sim, Watch};

/// Failures that are kept of one property; more say nothing new.
const KEPT: usize = 20;

/// The built-in properties, each with a switch, and with a limit where it is not the engine's own
/// configuration that sets one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// `verified`: no piece is served or saved whose hash was not found right, and no block is
    /// served that is not the content's; of hosts that do not lie on purpose.
    pub verified: bool,
    /// `allowed`: no more is sent than `limits.upload_rate` allows, and what waits in a connection
    /// is within `wire.send_window` and what may come on top.
    pub allowed: bool,
    /// `private`: of a private torrent the DHT and other peers are told nothing, and no peer is
    /// taken from them.
    pub private: Privacy,
    /// `slots`: no more peers are served at once than there are slots.
    pub slots: bool,
    /// How many slots, if not as many as the engine is configured to have.
    pub max_unchoked: Option<u32>,
    /// `amplification`: who did not show that it receives is answered with no more than so many
    /// times what it sent, over uTP with no more than it sent.
    pub amplification: bool,
    /// How many times, if not as many as the engine is configured to.
    pub max_amplification: Option<u32>,
    /// `spin`: an engine is not woken by its timer more often than `max-ticks` in a simulated
    /// second.
    pub spin: bool,
    /// How often.
    pub max_ticks: u32,
    /// `memory`: connections, and bytes on their way to disks and peers, stay within what the
    /// engine is configured to hold.
    pub memory: bool,
    /// How many bytes, if not as many as it is configured to.
    pub max_memory: Option<Size>,
    /// `finish`: every leecher that stays finishes; after faults, once they healed, within
    /// `finish-factor` times what it takes without faults.
    pub finish: bool,
    /// How many times.
    pub finish_factor: u32,
}

/// Which torrents nothing is to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privacy {
    /// None.
    Off,
    /// Those that say they are private.
    #[default]
    Marked,
    /// All.
    All,
}

impl Default for Pack {
    fn default() -> Self {
        Self {
            verified: true,
            allowed: true,
            private: Privacy::Marked,
            slots: true,
            max_unchoked: None,
            amplification: true,
            max_amplification: None,
            spin: true,
            max_ticks: 2_000,
            memory: true,
            max_memory: None,
            finish: true,
            finish_factor: 3,
        }
    }
}

impl Pack {
    /// Nothing of it.
    #[must_use]
    pub fn off() -> Self {
        Self {
            verified: false,
            allowed: false,
            private: Privacy::Off,
            slots: false,
            amplification: false,
            spin: false,
            memory: false,
            finish: false,
            ..Self::default()
        }
    }
}

/// What it needs to know of the torrent.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    pub(crate) bytes: Bytes,
    pub(crate) piece_length: u32,
    pub(crate) info_hash: [u8; 20],
    pub(crate) private: bool,
}

/// What is remembered of a host.
#[derive(Debug, Default)]
struct Guarded {
    config: Arc<Config>,
    lies: bool,
    begun: Option<Instant>,
    conns: BTreeMap<ConnId, Conn>,
    unchoked: u32,
    infos: BTreeMap<TorrentId, Arc<Info>>,
    /// Of the one torrent there is; what is on disk outlives the engine.
    verified: BTreeSet<u32>,
    jobs: BTreeMap<JobId, Doing>,
    /// Bytes of jobs and of connections that wait.
    held: u64,
    blocks_sent: u64,
    ticks: u32,
    askers: BTreeMap<IpAddr, Asker>,
}

#[derive(Debug)]
enum Doing {
    Hash(TorrentId, u32),
    Read(u64),
    Write(u64),
}

/// Who sent us datagrams, or was sent some.
#[derive(Debug, Default)]
struct Asker {
    /// We wrote to it first, or it answered us: it receives.
    proven: bool,
    asked: u64,
    answered: u64,
    streamed_in: u64,
    streamed_out: u64,
}

/// Looks on for the pack.
#[derive(Debug)]
pub(crate) struct Guard {
    pack: Pack,
    truth: Truth,
    start: Instant,
    hosts: Vec<Guarded>,
    told: BTreeMap<&'static str, usize>,
    pub(crate) failures: Vec<Failure>,
}

impl Guard {
    pub(crate) fn new(pack: Pack, truth: Truth, start: Instant) -> Self {
        Self {
            pack,
            truth,
            start,
            hosts: Vec::new(),
            told: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Takes in a host.
    pub(crate) fn add(&mut self, config: Arc<Config>, lies: bool) {
        self.hosts.push(Guarded {
            config,
            lies,
            ..Guarded::default()
        });
    }

    /// A host's engine is gone, with all that it had under way.
    pub(crate) fn crashed(&mut self, host: HostId) {
        let guarded = &mut self.hosts[host.0 as usize];
        guarded.conns.clear();
        guarded.jobs.clear();
        guarded.askers.clear();
        (guarded.held, guarded.unchoked, guarded.blocks_sent) = (0, 0, 0);
        guarded.begun = None;
    }

    fn fail(&mut self, property: &'static str, at: Instant, host: HostId, detail: String) {
        let told = self.told.entry(property).or_default();
        *told += 1;
        if *told <= KEPT {
            self.failures.push(Failure {
                property: property.into(),
                at: at.saturating_since(self.start),
                host: Some(host),
                detail,
            });
        }
    }

    fn is_private(&self) -> bool {
        match self.pack.private {
            Privacy::Off => false,
            Privacy::Marked => self.truth.private,
            Privacy::All => true,
        }
    }

    fn datagram_in(&mut self, host: HostId, from: SocketAddr, payload: &[u8]) {
        let asker = self.hosts[host.0 as usize]
            .askers
            .entry(from.ip())
            .or_default();
        let length = payload.len() as u64;
        match kind(payload) {
            Datagram::Query => asker.asked += length,
            Datagram::Answer => asker.proven = true,
            Datagram::Other => {
                // Whoever goes on with what we answered has received it.
                asker.proven |= asker.streamed_out > 0;
                asker.streamed_in += length;
            }
        }
    }

    fn datagram_out(&mut self, at: Instant, host: HostId, to: SocketAddr, payload: &[u8]) {
        if self.is_private() && holds(payload, &self.truth.info_hash) {
            let detail = format!("a datagram to {to} names the private torrent");
            self.fail("private", at, host, detail);
        }
        let guarded = &mut self.hosts[host.0 as usize];
        let times = self.pack.max_amplification;
        let times = times.unwrap_or_else(|| guarded.config.dht.amplification.into());
        let exempt = is_exempt(to.ip(), guarded.config.lab);
        let asker = guarded.askers.entry(to.ip()).or_default();
        let length = payload.len() as u64;
        let (sent, may) = match kind(payload) {
            Datagram::Query => return,
            Datagram::Answer => {
                asker.answered += length;
                (asker.answered, asker.asked * u64::from(times))
            }
            Datagram::Other => {
                // We began: it is no answer to anything.
                asker.proven |= asker.streamed_in == 0;
                asker.streamed_out += length;
                (asker.streamed_out, asker.streamed_in)
            }
        };
        let broken = self.pack.amplification && !asker.proven && !exempt && sent > may;
        if broken {
            let detail =
                format!("{sent} bytes to {to}, which did not show that it receives: at most {may}");
            self.fail("amplification", at, host, detail);
        }
    }

    fn send(&mut self, at: Instant, host: HostId, conn: ConnId, head: &[u8], body: &[u8]) {
        let private = self.is_private();
        let guarded = &mut self.hosts[host.0 as usize];
        let Some(entry) = guarded.conns.get_mut(&conn) else {
            return;
        };
        let bytes = (head.len() + body.len()) as u64;
        entry.unsent += bytes;
        guarded.held += bytes;
        let (wire, limits) = (&guarded.config.wire, &guarded.config.limits);
        let most = u64::from(wire.send_window)
            + u64::from(wire.max_queued_control)
            + u64::from(wire.max_block)
            + head.len() as u64;
        let unsent = entry.unsent;
        let mut changed = 0i32;
        let mut told_peers = false;
        let (unchoked, block) = (&mut entry.unchoked, &mut entry.block);
        for part in [head, body] {
            entry.reading.read(part, |begun| match begun.kind {
                0 | 1 if begun.length == 0 => {
                    let now = begun.kind == 1;
                    changed += i32::from(now) - i32::from(*unchoked);
                    *unchoked = now;
                }
                7 => *block = begun.block(),
                20 => told_peers |= begun.is_pex(),
                _ => {}
            });
        }
        let block = entry.block.take();
        guarded.unchoked = guarded.unchoked.saturating_add_signed(changed);
        if block.is_some() {
            guarded.blocks_sent += body.len() as u64;
        }
        let begun = *guarded.begun.get_or_insert(at);
        // The burst that a rate allows, and the block that overdraws it.
        let micros = (at.saturating_since(begun) + limits.rate_burst).as_micros();
        let may =
            u128::from(limits.upload_rate) * micros / 1_000_000 + 2 * u128::from(wire.max_block);
        let over_rate = limits.upload_rate > 0 && u128::from(guarded.blocks_sent) > may;
        let (sent, unchoked) = (guarded.blocks_sent, guarded.unchoked);
        let slots = guarded
            .config
            .swarm
            .upload_slots
            .max(guarded.config.swarm.max_upload_slots);
        let slots = self.pack.max_unchoked.unwrap_or_else(|| slots.into());
        let wrong = match block {
            Some(place) if !guarded.lies && !body.is_empty() => !self.is_true(place, body),
            _ => false,
        };
        if self.pack.allowed && unsent > most {
            let detail = format!("{unsent} bytes wait in a connection: at most {most}");
            self.fail("allowed", at, host, detail);
        }
        if self.pack.allowed && over_rate {
            self.fail(
                "allowed",
                at,
                host,
                format!("{sent} bytes of blocks sent: at most {may}"),
            );
        }
        if self.pack.slots && changed > 0 && unchoked > slots {
            self.fail(
                "slots",
                at,
                host,
                format!("{unchoked} peers are served, in {slots} slots"),
            );
        }
        if self.pack.verified && wrong {
            self.fail(
                "verified",
                at,
                host,
                format!("serves a wrong block: {block:?}"),
            );
        }
        if private && told_peers {
            self.fail("private", at, host, "tells a peer of others".into());
        }
    }

    /// Whether these bytes are the content's.
    fn is_true(&self, (piece, begin, length): (u32, u32, u32), body: &[u8]) -> bool {
        let from = u64::from(piece) * u64::from(self.truth.piece_length) + u64::from(begin);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.saturating_add(length as usize);
        self.truth.bytes.get(from..to) == Some(body)
    }

    fn job(&mut self, at: Instant, host: HostId, job: JobId, work: &Work<'_>) {
        let guarded = &mut self.hosts[host.0 as usize];
        let verified = |guarded: &Guarded, piece: u32| guarded.verified.contains(&piece);
        let mut wrong = None;
        match work {
            Work::Open { torrent, info, .. } => {
                guarded.infos.insert(*torrent, Arc::clone(info));
            }
            Work::Hash { torrent, piece, .. } => {
                guarded.jobs.insert(job, Doing::Hash(*torrent, *piece));
            }
            Work::Read { piece, length, .. } => {
                if !verified(guarded, *piece) {
                    wrong = Some(format!("piece {piece} is served, and was not verified"));
                }
                guarded.held += u64::from(*length);
                guarded.jobs.insert(job, Doing::Read((*length).into()));
            }
            Work::Write { piece, data, .. } => {
                guarded.verified.remove(piece);
                guarded.held += data.len() as u64;
                guarded.jobs.insert(job, Doing::Write(data.len() as u64));
            }
            Work::Commit { piece, .. } if !verified(guarded, *piece) => {
                wrong = Some(format!("piece {piece} is saved, and was not verified"));
            }
            Work::Discard { piece, .. } => {
                guarded.verified.remove(piece);
            }
            _ => {}
        }
        if let Some(wrong) =
            wrong.filter(|_| self.pack.verified && !self.hosts[host.0 as usize].lies)
        {
            self.fail("verified", at, host, wrong);
        }
    }

    fn done(&mut self, host: HostId, job: JobId, result: &JobResult) {
        let guarded = &mut self.hosts[host.0 as usize];
        match (guarded.jobs.remove(&job), result) {
            (Some(Doing::Hash(torrent, piece)), JobResult::Hashed(digest)) => {
                let right = match digest {
                    Digest::Sha1(digest) => guarded
                        .infos
                        .get(&torrent)
                        .is_some_and(|info| info.piece_hash(piece) == Some(*digest)),
                    // Of a torrent of version 2 the engine alone knows the trees.
                    Digest::Merkle(_) => true,
                };
                if right {
                    guarded.verified.insert(piece);
                } else {
                    guarded.verified.remove(&piece);
                }
            }
            (Some(Doing::Read(bytes) | Doing::Write(bytes)), _) => guarded.held -= bytes,
            _ => {}
        }
    }

    fn check_memory(&mut self, at: Instant, host: HostId) {
        let guarded = &self.hosts[host.0 as usize];
        let (limits, wire) = (&guarded.config.limits, &guarded.config.wire);
        let conns = guarded.conns.len() as u64;
        // Besides the budgets: a block on its way each way, and what control messages may fill.
        let each = u64::from(wire.min_receive_window)
            + 2 * u64::from(wire.max_block)
            + u64::from(wire.max_queued_control);
        let may = limits.disk_budget + limits.read_budget + conns * each;
        let may = self.pack.max_memory.map_or(may, |size| size.0);
        let (held, most) = (guarded.held, u64::from(limits.max_connections));
        if held > may {
            self.fail(
                "memory",
                at,
                host,
                format!("{held} bytes under way: at most {may}"),
            );
        }
        if conns > most {
            self.fail(
                "memory",
                at,
                host,
                format!("{conns} connections: at most {most}"),
            );
        }
    }

    fn close(&mut self, host: HostId, conn: ConnId) {
        let guarded = &mut self.hosts[host.0 as usize];
        if let Some(conn) = guarded.conns.remove(&conn) {
            guarded.held -= conn.unsent;
            guarded.unchoked -= u32::from(conn.unchoked);
        }
    }
}

impl Watch for Guard {
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        let guarded = &mut self.hosts[host.0 as usize];
        match input {
            Input::Tick => guarded.ticks += 1,
            Input::Datagram { from, payload, .. } => self.datagram_in(host, *from, payload),
            Input::Sent { conn, bytes } => {
                if let Some(conn) = guarded.conns.get_mut(conn) {
                    let sent = u64::from(*bytes).min(conn.unsent);
                    conn.unsent -= sent;
                    guarded.held -= sent;
                }
            }
            Input::Closed { conn, .. } => self.close(host, *conn),
            Input::JobDone { job, result } => self.done(host, *job, result),
            _ => {}
        }
        _ = at;
    }

    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        match output {
            Output::Transmit { to, head, body, .. } if body.is_empty() => {
                self.datagram_out(at, host, *to, head);
            }
            Output::Transmit { to, head, body, .. } => {
                self.datagram_out(at, host, *to, &[head, &body[..]].concat());
            }
            Output::Connect { conn, .. } | Output::Accept { conn, .. } => {
                let guarded = &mut self.hosts[host.0 as usize];
                guarded.conns.insert(*conn, Conn::default());
            }
            Output::Send { conn, head, body } => {
                self.send(at, host, *conn, head, body);
                if self.pack.memory {
                    self.check_memory(at, host);
                }
            }
            Output::Close { conn } => self.close(host, *conn),
            Output::Job { job, work } => {
                self.job(at, host, *job, work);
                if self.pack.memory {
                    self.check_memory(at, host);
                }
            }
            Output::Event(Event::PeerFound { source, addr, .. }) if self.is_private() => {
                if matches!(source, PeerSource::Dht | PeerSource::Pex | PeerSource::Lsd) {
                    self.fail("private", at, host, format!("takes {addr} from {source:?}"));
                }
            }
            _ => {}
        }
    }

    fn second(&mut self, sim: &Sim) {
        let most = self.pack.max_ticks;
        for index in 0..self.hosts.len() {
            let ticks = std::mem::take(&mut self.hosts[index].ticks);
            if self.pack.spin && ticks > most {
                let detail = format!("woken {ticks} times in a second: at most {most}");
                self.fail("spin", sim.now(), HostId(index as u32), detail);
            }
        }
    }
}

/// What a datagram is.
enum Datagram {
    Query,
    Answer,
    Other,
}

fn kind(payload: &[u8]) -> Datagram {
    if payload.first() != Some(&b'd') {
        return Datagram::Other;
    }
    // `y` is the last key of all that are in use, so this is near the end.
    let tail = &payload[payload.len().saturating_sub(64)..];
    if holds(tail, b"1:y1:q") {
        Datagram::Query
    } else {
        Datagram::Answer
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests;
