//! Built-in scenarios: a swarm, a goal, and what must hold.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use trackerless_core::event::{CloseReason, Event, PeerSource};
use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_core::metainfo::Torrent;
use trackerless_core::{Config, Instant};

use crate::world::START;
use crate::{Content, HostId, HostSpec, Network, Root, Sim, SimError};

/// Of so many blocks of a liar one is wrong.
const LIES: u32 = 7;

/// A scenario that can be run with any seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Nodes that do nothing but the DHT.
    pub dht_nodes: u32,
    /// Hosts that have the content from the start.
    pub seeders: u32,
    /// Seeders besides those, of whose blocks one in seven is wrong.
    pub liars: u32,
    /// Hosts that have a magnet link and nothing else.
    pub leechers: u32,
    /// Bytes of content.
    pub content_length: usize,
    /// Bytes per piece.
    pub piece_length: u32,
    /// The network.
    pub network: Network,
    /// How hosts come together.
    pub joining: Joining,
    /// Virtual time within which everybody must have finished.
    pub within: Duration,
    /// Engines tell why they decide as they do ([`Config::explain`]); the root stays the same.
    pub explain: bool,
}

/// How hosts come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Without a DHT: each leecher knows one host and no other. That host knows the seeder, has
    /// nothing that it could pass on, and tells of its peers (BEP 11).
    Acquaintance,
    /// One after the other, each through a node that was there before.
    Growing,
    /// All at once, and all through the first, which knows nobody either; every host has the same
    /// address and a port of its own, as on one machine.
    Rush,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The trace root at the end.
    pub root: Root,
    /// Inputs handled by all engines.
    pub handled: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Virtual time each leecher needed, in host order; `None` for those that did not finish.
    pub completed: Vec<Option<Duration>>,
    /// Peers the leechers learned of through the DHT.
    pub found_by_dht: u64,
    /// Peers the leechers learned of through other peers.
    pub found_by_pex: u64,
    /// What the engines told, and how long after the start of the run, in order of time and host.
    pub told: Vec<(Duration, HostId, Event)>,
    /// Properties that did not hold.
    pub failures: Vec<String>,
}

/// All built-in scenarios.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let magnet = Scenario {
        name: "magnet",
        about: "20 engines behind a 100-node DHT, with a magnet link and nothing else",
        dht_nodes: 100,
        seeders: 1,
        liars: 0,
        leechers: 19,
        content_length: 1 << 20,
        piece_length: 1 << 16,
        network: Network::default(),
        joining: Joining::Growing,
        within: Duration::from_secs(120),
        explain: false,
    };
    vec![
        Scenario {
            name: "demo",
            about: "30 DHT nodes, one seeder, five leechers with a magnet link",
            dht_nodes: 30,
            leechers: 5,
            ..magnet.clone()
        },
        Scenario {
            name: "lossy",
            about: "the same with one datagram in ten lost",
            network: Network {
                loss_ppm: 100_000,
                ..Network::default()
            },
            within: Duration::from_secs(300),
            ..magnet.clone()
        },
        Scenario {
            name: "rush",
            about: "a busy machine: 30 nodes join at once through the first, then a seeder and five \
                    leechers come",
            dht_nodes: 30,
            leechers: 5,
            network: Network {
                min_delay: Duration::from_micros(50),
                max_delay: Duration::from_micros(200),
                jitter: Duration::from_millis(100),
                loss_ppm: 10_000,
                ..Network::default()
            },
            joining: Joining::Rush,
            within: Duration::from_secs(20),
            ..magnet.clone()
        },
        Scenario {
            name: "pex-only",
            about: "no DHT: five leechers know one host that has nothing, and learn of the seeder \
                    from it",
            dht_nodes: 0,
            leechers: 5,
            piece_length: 1 << 18,
            joining: Joining::Acquaintance,
            ..magnet.clone()
        },
        Scenario {
            name: "poisoned",
            about: "one seeder in three lies now and then: it is banned, and nobody else",
            dht_nodes: 20,
            seeders: 2,
            liars: 1,
            leechers: 6,
            content_length: 1 << 21,
            piece_length: 1 << 18,
            ..magnet.clone()
        },
        magnet,
    ]
}

/// The built-in scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

/// The content of a scenario as a torrent.
struct Published {
    content: Content,
    torrent: Source,
    magnet: String,
}

impl Scenario {
    /// A host that can be told apart by its number.
    fn spec(&self, number: u32) -> HostSpec {
        let [_, _, high, low] = (number + 1).to_be_bytes();
        let mut spec = HostSpec::new(match self.joining {
            Joining::Growing | Joining::Acquaintance => {
                SocketAddr::new(Ipv4Addr::new(10, 1 + high / 250, high, low).into(), 6881)
            }
            Joining::Rush => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + number as u16),
        });
        Arc::make_mut(&mut spec.config).explain = self.explain;
        spec
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(&self, seed: u64) -> Report {
        let mut sim = Sim::new(seed, self.network.clone());
        match self.play(&mut sim, seed) {
            Ok((leechers, finished)) => self.report(&sim, &leechers, finished),
            Err(error) => Report {
                root: sim.root(),
                handled: sim.handled(),
                elapsed: since_start(sim.now()),
                completed: Vec::new(),
                found_by_dht: 0,
                found_by_pex: 0,
                told: told(&sim),
                failures: vec![error.to_string()],
            },
        }
    }

    /// Builds the swarm in `sim` and runs it; gives the leechers and whether all have finished.
    ///
    /// # Errors
    /// When an engine breaks a promise that makes going on pointless.
    pub fn play(&self, sim: &mut Sim, seed: u64) -> Result<(Vec<HostId>, bool), SimError> {
        if self.joining == Joining::Acquaintance {
            return self.play_acquaintance(sim, seed);
        }
        let published = self.publish(seed);
        let mut number = 0;
        let mut next = || {
            number += 1;
            self.spec(number - 1)
        };
        let mut routers = Vec::new();
        for index in 0..self.dht_nodes {
            let host = sim.add_host(next())?;
            if index > 0 {
                let (known, after) = match self.joining {
                    // A little after the one it knows.
                    Joining::Growing => (
                        routers[index as usize / 2],
                        Duration::from_millis(u64::from(index) * 20),
                    ),
                    Joining::Rush | Joining::Acquaintance => {
                        (routers[0], Duration::from_millis(u64::from(index)))
                    }
                };
                sim.command(host, after, Tag(0), Command::DhtBootstrap(vec![known]));
            }
            routers.push(sim.addr(host));
        }
        // In a rush nobody waits for the DHT to know itself.
        let (settled, then) = match self.joining {
            Joining::Growing => (
                Duration::from_millis(u64::from(self.dht_nodes) * 20 + 2_000),
                3_000,
            ),
            Joining::Rush | Joining::Acquaintance => (Duration::from_secs(1), 500),
        };
        let join = |sim: &mut Sim, host: HostId, after: Duration| {
            let known = routers[host.0 as usize % routers.len()];
            sim.command(host, after, Tag(1), Command::DhtBootstrap(vec![known]));
        };
        for index in 0..self.seeders + self.liars {
            let host = HostSpec {
                content: Some(published.content.clone()),
                lies: if index < self.seeders { 0 } else { LIES },
                ..next()
            };
            let host = sim.add_host(host)?;
            join(sim, host, settled);
            let add = AddTorrent::new(published.torrent.clone());
            sim.command(host, settled, Tag(2), Command::AddTorrent(add));
        }
        let mut leechers = Vec::new();
        for index in 0..self.leechers {
            let host = sim.add_host(next())?;
            let after = settled + Duration::from_millis(then + u64::from(index) * 50);
            join(sim, host, after);
            let add = AddTorrent::new(Source::Magnet(published.magnet.clone()));
            sim.command(host, after, Tag(2), Command::AddTorrent(add));
            leechers.push(host);
        }
        let finished = self.wait_for(sim, &leechers)?;
        Ok((leechers, finished))
    }

    /// One seeder, one host that is slow both ways and known to all others, and the leechers.
    fn play_acquaintance(&self, sim: &mut Sim, seed: u64) -> Result<(Vec<HostId>, bool), SimError> {
        let published = self.publish(seed);
        let spec = |number: u32, change: &dyn Fn(&mut Config)| {
            let mut spec = self.spec(number);
            let config = Arc::make_mut(&mut spec.config);
            config.dht.enabled = false;
            config.lsd.enabled = false;
            change(config);
            spec
        };
        let torrent = || AddTorrent::new(published.torrent.clone());
        // It connects to nobody and would not know to whom.
        let seeder = HostSpec {
            content: Some(published.content.clone()),
            ..spec(0, &|config| config.pex.enabled = false)
        };
        let seeder = sim.add_host(seeder)?;
        let start = Duration::from_millis(100);
        sim.command(seeder, start, Tag(2), Command::AddTorrent(torrent()));
        // No piece arrives there in the time this takes, and none would leave.
        let known = sim.add_host(spec(1, &|config| {
            config.limits.download_rate = 2_048;
            config.limits.upload_rate = 1;
        }))?;
        let mut add = torrent();
        add.peers.push(sim.addr(seeder));
        sim.command(known, start * 2, Tag(2), Command::AddTorrent(add));
        let mut leechers = Vec::new();
        for index in 0..self.leechers {
            let host = sim.add_host(spec(2 + index, &|_| {}))?;
            let mut add = AddTorrent::new(Source::Magnet(published.magnet.clone()));
            add.peers.push(sim.addr(known));
            let after = Duration::from_millis(2_000 + u64::from(index) * 50);
            sim.command(host, after, Tag(2), Command::AddTorrent(add));
            leechers.push(host);
        }
        let finished = self.wait_for(sim, &leechers)?;
        Ok((leechers, finished))
    }

    /// Runs until all of `hosts` are complete or the scenario's time is over; returns which.
    fn wait_for(&self, sim: &mut Sim, hosts: &[HostId]) -> Result<bool, SimError> {
        sim.run_until(self.within, |sim| {
            hosts.iter().all(|host| completed(sim, *host).is_some())
        })
    }

    fn publish(&self, seed: u64) -> Published {
        let content = Content::generate(seed, self.content_length, self.piece_length);
        let name = "content.bin";
        let mut info = Vec::new();
        info.extend_from_slice(format!("d6:lengthi{}e", content.bytes.len()).as_bytes());
        info.extend_from_slice(format!("4:name{}:{name}", name.len()).as_bytes());
        info.extend_from_slice(format!("12:piece lengthi{}e", self.piece_length).as_bytes());
        let hashes = content.piece_hashes();
        info.extend_from_slice(format!("6:pieces{}:", hashes.len()).as_bytes());
        info.extend_from_slice(&hashes);
        info.push(b'e');
        let mut torrent = b"d4:info".to_vec();
        torrent.extend_from_slice(&info);
        torrent.push(b'e');
        let torrent = Torrent::parse(torrent.into()).expect("it was written by the rules");
        Published {
            content,
            magnet: format!("magnet:?xt=urn:btih:{}", torrent.info.hashes.short()),
            torrent: Source::Torrent(torrent.into()),
        }
    }

    fn report(&self, sim: &Sim, leechers: &[HostId], finished: bool) -> Report {
        let times: Vec<_> = leechers.iter().map(|host| completed(sim, *host)).collect();
        let mut failures = Vec::new();
        if !finished {
            let missing = times.iter().filter(|time| time.is_none()).count();
            failures.push(format!(
                "eventually(complete): {missing} of {} leechers did not finish within {:?}",
                leechers.len(),
                self.within
            ));
        }
        let (mut found_by_dht, mut found_by_pex) = (0, 0);
        for host in leechers {
            for seen in sim.seen(*host) {
                match &seen.event {
                    Event::PeerFound {
                        source: PeerSource::Dht,
                        ..
                    } => found_by_dht += 1,
                    Event::PeerFound {
                        source: PeerSource::Pex,
                        ..
                    } => found_by_pex += 1,
                    Event::PieceFailed { piece, .. } if self.liars == 0 => {
                        failures.push(format!("never(piece failed): {host:?} piece {piece}"));
                    }
                    _ => {}
                }
            }
        }
        self.judge_blame(sim, leechers, &mut failures);
        Report {
            root: sim.root(),
            handled: sim.handled(),
            elapsed: since_start(sim.now()),
            completed: times,
            found_by_dht,
            found_by_pex,
            told: told(sim),
            failures,
        }
    }
}

impl Scenario {
    /// Whoever is banned or blamed has lied, and every liar is found out by somebody.
    fn judge_blame(&self, sim: &Sim, leechers: &[HostId], failures: &mut Vec<String>) {
        let first = self.dht_nodes + self.seeders;
        let liars = (first..first + self.liars).map(|number| sim.addr(HostId(number)).ip());
        let liars: BTreeSet<IpAddr> = liars.collect();
        let mut found_out = BTreeSet::new();
        for host in leechers {
            for seen in sim.seen(*host) {
                let blamed: &[SocketAddr] = match &seen.event {
                    Event::PieceFailed { blame, .. } => blame,
                    Event::PeerClosed {
                        addr,
                        reason: CloseReason::Banned,
                        ..
                    } => std::slice::from_ref(addr),
                    _ => continue,
                };
                for addr in blamed {
                    if liars.contains(&addr.ip()) {
                        found_out.insert(addr.ip());
                    } else {
                        failures.push(format!("never(honest banned): {addr} by {host:?}"));
                    }
                }
            }
        }
        for liar in liars.difference(&found_out) {
            failures.push(format!("eventually(liar banned): {liar} was not"));
        }
    }
}

fn told(sim: &Sim) -> Vec<(Duration, HostId, Event)> {
    let mut told = Vec::new();
    for host in sim.hosts() {
        let seen = sim.seen(host).iter();
        told.extend(seen.map(|seen| (since_start(seen.at), host, seen.event.clone())));
    }
    told.sort_by_key(|(at, host, _)| (*at, *host));
    told
}

/// How long after the start of its run a moment is.
fn since_start(at: Instant) -> Duration {
    at.saturating_since(START)
}

/// When a host finished, since the start of the run.
fn completed(sim: &Sim, host: HostId) -> Option<Duration> {
    sim.seen(host)
        .iter()
        .find(|seen| matches!(seen.event, Event::Complete { .. }))
        .map(|seen| since_start(seen.at))
}

/// A configuration for hosts of test networks.
#[must_use]
pub fn lab_config() -> Arc<Config> {
    Arc::new(Config {
        lab: true,
        ..Config::default()
    })
}
