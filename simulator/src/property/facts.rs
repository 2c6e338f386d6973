//! What is known of every host of a run: the figures that rules and results are about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use trackerless_core::event::{CloseReason, Event, Found, PeerSource};
use trackerless_core::io::{Tag, Work};
use trackerless_core::{Engine, Input, Instant, Output};

use super::rule::What;
use crate::{HostId, Sim, Watch};

/// A finished lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// Virtual time it took.
    pub elapsed: Duration,
    /// Virtual time until the first result.
    pub first: Option<Duration>,
    /// Longest way to one of the closest nodes.
    pub hops: u16,
    /// Queries sent.
    pub queries: u16,
    /// What was found.
    pub results: u32,
}

/// What is known of one host.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Its group, by place.
    pub group: usize,
    /// When it was to begin.
    pub begun: Option<Instant>,
    /// It serves wrong blocks now and then.
    pub lies: bool,
    /// It has everything from the start.
    pub seeds: bool,
    /// When it knew the torrent's metadata.
    pub metadata: Option<Instant>,
    /// When its DHT node had joined.
    pub joined: Option<Instant>,
    /// When it had everything.
    pub complete: Option<Instant>,
    /// When it said that it leaves.
    pub left: Option<Instant>,
    /// Pieces it got, by index.
    pub pieces: BTreeSet<u32>,
    /// Peers found, by source.
    pub found: BTreeMap<PeerSource, u64>,
    /// Pieces that had the wrong hash.
    pub pieces_failed: u64,
    /// Peers it banned or blamed.
    pub banned: Vec<SocketAddr>,
    /// Failures of its storage.
    pub storage_failures: u64,
    /// Its lookups.
    pub lookups: Vec<Lookup>,
    /// Inputs handled.
    pub inputs: u64,
    /// Of which only told that time passed.
    pub ticks: u64,
    /// Bytes of datagrams sent.
    pub datagram_bytes: u64,
    /// Bytes of streams sent.
    pub stream_bytes: u64,
    /// Of which blocks, read from its disk.
    pub block_bytes: u64,
    /// When lookups that run were begun, and their first result.
    pub(crate) running: BTreeMap<Tag, (Instant, Option<Instant>)>,
}

/// What is known of all hosts.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of each host, by its number.
    pub hosts: Vec<HostFacts>,
    /// The names of the groups.
    pub groups: Vec<String>,
    pub(crate) addrs: BTreeMap<SocketAddr, HostId>,
    /// Pieces in the torrent.
    pub pieces: u32,
    /// Leechers that have each piece.
    pub copies: Vec<u32>,
    /// Evenness of the pieces' copies, once a second, in thousandths: 1000 where all are as common.
    pub evenness: Vec<u32>,
}

impl Facts {
    /// Takes in a host.
    pub(crate) fn add(&mut self, sim: &Sim, host: HostId, facts: HostFacts) {
        debug_assert_eq!(host.0 as usize, self.hosts.len());
        self.addrs.insert(sim.addr(host), host);
        self.hosts.push(facts);
    }

    /// The hosts of a group; all if the name is empty.
    pub fn hosts_of(&self, group: &str) -> impl Iterator<Item = HostId> {
        let at = self.groups.iter().position(|name| name == group);
        let is = move |facts: &HostFacts| at.is_none_or(|at| facts.group == at);
        let hosts = self.hosts.iter().enumerate();
        hosts
            .filter(move |(_, facts)| is(facts))
            .map(|(at, _)| HostId(at as u32))
    }

    /// What is known of a host.
    #[must_use]
    pub fn host(&self, host: HostId) -> &HostFacts {
        &self.hosts[host.0 as usize]
    }

    /// A figure of a host.
    #[must_use]
    pub fn figure(&self, sim: &Sim, host: HostId, what: What) -> u64 {
        let facts = self.host(host);
        let found = |source| facts.found.get(&source).copied().unwrap_or(0);
        // A host that is down, or runs something else, has none.
        let engine = || sim.machine::<Engine>(host);
        match what {
            What::Complete => facts.complete.is_some().into(),
            What::Metadata => facts.metadata.is_some().into(),
            What::Joined => facts.joined.is_some().into(),
            What::Peers => {
                let Some(engine) = engine() else {
                    return 0;
                };
                let stats = engine
                    .torrents()
                    .filter_map(|torrent| engine.torrent(torrent));
                stats.map(|stats| u64::from(stats.peers)).sum()
            }
            What::Connections => engine().map_or(0, Engine::connections) as u64,
            What::Nodes => engine().and_then(Engine::dht).map_or(0, |dht| {
                u64::from(dht.good_nodes(false)) + u64::from(dht.good_nodes(true))
            }),
            What::FoundByDht => found(PeerSource::Dht),
            What::FoundByPex => found(PeerSource::Pex),
            What::FoundByLsd => found(PeerSource::Lsd),
            What::FoundIncoming => found(PeerSource::Incoming),
            What::PiecesFailed => facts.pieces_failed,
            What::Bans => facts.banned.len() as u64,
            What::BansOfHonest => {
                let honest = |addr: &&SocketAddr| {
                    let host = self.addrs.get(addr);
                    !host.is_some_and(|host| self.host(*host).lies)
                };
                facts.banned.iter().filter(honest).count() as u64
            }
            What::BannedBy => {
                let addr = sim.addr(host);
                let by = |other: &&HostFacts| other.banned.contains(&addr);
                self.hosts.iter().filter(by).count() as u64
            }
            What::Lookups => facts.lookups.iter().filter(|it| it.results > 0).count() as u64,
            What::LookupsEmpty => facts.lookups.iter().filter(|it| it.results == 0).count() as u64,
            What::LookupMillis => {
                let times = facts.lookups.iter().map(|it| it.elapsed.as_millis() as u64);
                times.max().unwrap_or(0)
            }
            What::StorageFailures => facts.storage_failures,
            What::Uploaded => facts.block_bytes,
            What::SecondsToComplete => match (facts.complete, facts.begun) {
                (Some(complete), Some(begun)) => complete.saturating_since(begun).as_secs(),
                _ => 0,
            },
        }
    }

    /// The part of the pieces that the leecher with most of them has, in millionths.
    pub(crate) fn most_done(&self) -> u32 {
        let leechers = self.hosts.iter().filter(|facts| !facts.seeds);
        let most = leechers
            .map(|facts| facts.pieces.len() as u64)
            .max()
            .unwrap_or(0);
        (most * 1_000_000 / u64::from(self.pieces.max(1))) as u32
    }

    /// A host leaves for good.
    pub(crate) fn left(&mut self, host: HostId, at: Instant) {
        self.hosts[host.0 as usize].left.get_or_insert(at);
    }

    fn told(&mut self, at: Instant, host: HostId, event: &Event) {
        let facts = &mut self.hosts[host.0 as usize];
        match event {
            Event::Metadata { .. } => _ = facts.metadata.get_or_insert(at),
            Event::Complete { .. } => _ = facts.complete.get_or_insert(at),
            Event::DhtStatus {
                bootstrapped: true, ..
            } => _ = facts.joined.get_or_insert(at),
            Event::PeerFound { source, .. } => *facts.found.entry(*source).or_default() += 1,
            Event::PieceDone { piece, .. } => {
                // One that is got again after a restart is no other copy.
                if facts.pieces.insert(*piece)
                    && let Some(copies) = self.copies.get_mut(*piece as usize)
                {
                    *copies += 1;
                }
            }
            Event::PieceFailed { blame, .. } => {
                facts.pieces_failed += 1;
                blame.iter().for_each(|addr| facts.bans(*addr));
            }
            Event::PeerClosed {
                addr,
                reason: CloseReason::Banned,
                ..
            } => facts.bans(*addr),
            Event::StorageFailed { .. } => facts.storage_failures += 1,
            Event::LookupFound {
                tag,
                found: Found::Peer(_) | Found::Item(_) | Found::InfoHash(_),
            } => {
                if let Some((_, first)) = facts.running.get_mut(tag) {
                    first.get_or_insert(at);
                }
            }
            Event::LookupDone { tag, summary } => {
                let first = facts
                    .running
                    .remove(tag)
                    .and_then(|(begun, first)| first.map(|first| first.saturating_since(begun)));
                facts.lookups.push(Lookup {
                    elapsed: summary.elapsed,
                    first,
                    hops: summary.hops,
                    queries: summary.queries,
                    results: summary.results,
                });
            }
            _ => {}
        }
    }
}

impl HostFacts {
    fn bans(&mut self, addr: SocketAddr) {
        if !self.banned.contains(&addr) {
            self.banned.push(addr);
        }
    }
}

impl Watch for Facts {
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        let facts = &mut self.hosts[host.0 as usize];
        facts.inputs += 1;
        match input {
            Input::Tick => facts.ticks += 1,
            Input::Command { tag, .. } => _ = facts.running.insert(*tag, (at, None)),
            _ => {}
        }
    }

    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        let facts = &mut self.hosts[host.0 as usize];
        match output {
            Output::Transmit { head, body, .. } => {
                facts.datagram_bytes += (head.len() + body.len()) as u64;
            }
            Output::Send { head, body, .. } => {
                facts.stream_bytes += (head.len() + body.len()) as u64;
            }
            Output::Job {
                work: Work::Read { length, .. },
                ..
            } => {
                facts.block_bytes += u64::from(*length);
            }
            Output::Event(event) => self.told(at, host, event),
            _ => {}
        }
    }

    fn second(&mut self, _: &Sim) {
        let sum: u64 = self.copies.iter().copied().map(u64::from).sum();
        let leechers = self
            .hosts
            .iter()
            .filter(|facts| !facts.seeds && facts.metadata.is_some());
        let all = leechers.count() as u64 * self.copies.len() as u64;
        if sum > 0 && sum < all {
            self.evenness.push(evenness(&self.copies));
        }
    }
}

/// Shannon's entropy of the copies of pieces, as part of what it is where all pieces are as
/// common, in thousandths.
fn evenness(copies: &[u32]) -> u32 {
    let sum: f64 = copies.iter().copied().map(f64::from).sum();
    let most = (copies.len() as f64).log2();
    if sum == 0.0 || most == 0.0 {
        return 1_000;
    }
    let part = |copies: &u32| {
        let part = f64::from(*copies) / sum;
        if *copies == 0 {
            0.0
        } else {
            -part * part.log2()
        }
    };
    (copies.iter().map(part).sum::<f64>() / most * 1_000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_are_as_common_are_even() {
        assert_eq!(evenness(&[3; 64]), 1_000);
        assert_eq!(evenness(&[1, 0, 0, 0]), 0);
        assert_eq!(evenness(&[5, 5, 0, 0]), 500);
    }
}
