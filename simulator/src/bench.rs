//! What the simulator can do on this machine: `trackerless-sim bench`.

use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use trackerless_core::Config;
use trackerless_core::event::Event;
use trackerless_core::id::Id20;
use trackerless_core::io::{AddTorrent, Command, Source, Tag};

use crate::world::{
    Content, DhtNode, Entry, HostId, HostSpec, Link, Network, Order, Role, START, Sim, TcpModel,
    Wheel, below, draw,
};

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// The event queue alone, with so many events pending.
    Queue {
        /// Events pending.
        #[arg(long, default_value_t = 1_000_000)]
        pending: u32,
        /// Events taken out, and as many put in.
        #[arg(long, default_value_t = 20_000_000)]
        events: u64,
    },
    /// A network of production DHT nodes that begins warm.
    Dht {
        /// Nodes.
        #[arg(long, default_value_t = 100_000)]
        nodes: u32,
        /// Virtual seconds that are measured.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Lookups begun in each of them.
        #[arg(long, default_value_t = 500)]
        lookups: u32,
        /// Seed of every draw.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// One swarm twice, its streams once as fluids and once as segments: how far what they come to
    /// is apart.
    Gate {
        /// Peers, the seed included.
        #[arg(long, default_value_t = 50)]
        peers: u32,
        /// MiB of content.
        #[arg(long, default_value_t = 8)]
        mib: u32,
        /// Seed of every draw.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Measures, and prints what came of it.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(what: &What, out: &mut impl Write) -> io::Result<ExitCode> {
    match *what {
        What::Queue { pending, events } => queue(pending, events, out),
        What::Dht {
            nodes,
            seconds,
            lookups,
            seed,
        } => dht(nodes, seconds, lookups, seed, out),
        What::Gate { peers, mib, seed } => print_gate(peers, mib, seed, out),
    }
}

/// How far two models of streams are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// When peers were complete, in order of time: as fluids, and as segments.
    pub times: [Vec<Duration>; 2],
    /// How far the one that is first, second and so on differs, thousandths, in order of size.
    pub differences: Vec<u64>,
}

impl Gate {
    /// Median difference and that which 95 of 100 are below, thousandths.
    #[must_use]
    pub fn figures(&self) -> (u64, u64) {
        let at = |percent: usize| {
            let last = self.differences.len().saturating_sub(1);
            let place = self.differences.len() * percent / 100;
            self.differences.get(place.min(last)).copied().unwrap_or(0)
        };
        (at(50), at(95))
    }
}

/// Runs one swarm with both models of streams: a seed, and peers with links of three kinds that
/// know some of the others each.
///
/// # Errors
/// What stopped a run, or that somebody was not complete in an hour.
pub fn gate(peers: u32, length: usize, seed: u64) -> Result<Gate, String> {
    let run = |tcp| complete_in(tcp, peers, length, seed);
    let times = [run(TcpModel::Fluid)?, run(TcpModel::Segments)?];
    let both = times[0].iter().zip(&times[1]);
    let mut differences: Vec<u64> = both
        .map(|(fluid, segments)| {
            let [a, b] = [fluid, segments].map(|time| time.as_micros() as u64);
            a.abs_diff(b) * 1_000 / b.max(1)
        })
        .collect();
    differences.sort_unstable();
    Ok(Gate { times, differences })
}

fn complete_in(
    tcp: TcpModel,
    peers: u32,
    length: usize,
    seed: u64,
) -> Result<Vec<Duration>, String> {
    const PIECE: u32 = 1 << 18;
    let content = Content::generate(seed, length, PIECE);
    let hashes = content.piece_hashes();
    let mut torrent = format!(
        "d4:infod6:lengthi{length}e4:name7:content12:piece lengthi{PIECE}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    torrent.extend_from_slice(&hashes);
    torrent.extend_from_slice(b"ee");
    let source = Source::torrent(torrent).map_err(|error| error.to_string())?;
    let network = Network {
        tcp,
        ..Network::default()
    };
    let mut sim = Sim::new(seed, network);
    let mut config = Config {
        lab: true,
        ..Config::default()
    };
    config.dht.enabled = false;
    config.lsd.enabled = false;
    config.pex.enabled = false;
    let config = Arc::new(config);
    let addr = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 6_881))
    };
    let mut hosts = Vec::new();
    for number in 0..peers {
        let mut spec = HostSpec::new(addr(number));
        spec.config = Arc::clone(&config);
        // DSL, cable and fibre: 16/1, 50/10 and 100/20 Mbit/s.
        spec.link = match number % 3 {
            1 => Link::new(125_000, 2_000_000),
            2 => Link::new(1_250_000, 6_250_000),
            _ => Link::new(2_500_000, 12_500_000),
        };
        spec.content = (number == 0).then(|| content.clone());
        let host = sim.add_host(spec).map_err(|error| error.to_string())?;
        let mut add = AddTorrent::new(source.clone());
        let known = (1..=12).map(|part| below(draw(seed, 11, number.into(), part), number.into()));
        add.peers = known.map(|other| addr(other as u32)).collect();
        add.peers.retain(|other| *other != addr(number));
        add.peers.sort_unstable();
        add.peers.dedup();
        let after = Duration::from_millis(100 + 10 * u64::from(number));
        sim.command(host, after, Tag(1), Command::AddTorrent(add));
        hosts.push(host);
    }
    let complete = |sim: &Sim, host: &HostId| {
        let mut seen = sim.seen(*host).iter();
        seen.find(|seen| matches!(seen.event, Event::Complete { .. }))
            .map(|seen| seen.at.saturating_since(START))
    };
    let all = |sim: &Sim| hosts.iter().all(|host| complete(sim, host).is_some());
    match sim.run_until(Duration::from_secs(3_600), all) {
        Ok(true) => {}
        Ok(false) => return Err(format!("{tcp:?}: not everybody is complete after an hour")),
        Err(error) => return Err(error.to_string()),
    }
    let mut times: Vec<Duration> = hosts[1..]
        .iter()
        .filter_map(|host| complete(&sim, host))
        .collect();
    times.sort_unstable();
    Ok(times)
}

fn print_gate(peers: u32, mib: u32, seed: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    let gate = match gate(peers, (mib as usize) << 20, seed) {
        Ok(gate) => gate,
        Err(error) => return fail(error, out),
    };
    for (name, times) in ["fluids", "segments"].iter().zip(&gate.times) {
        let at = |percent: usize| {
            let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, Duration::as_secs_f64)
        };
        writeln!(
            out,
            "as {name:12} first {:.2} s, median {:.2} s, 95th {:.2} s, last {:.2} s",
            at(0),
            at(50),
            at(95),
            at(100)
        )?;
    }
    let (median, most) = gate.figures();
    let percent = |thousandths: u64| thousandths as f64 / 10.0;
    writeln!(
        out,
        "difference      median {:.1} % (at most 10), 95th {:.1} % (at most 25)",
        percent(median),
        percent(most)
    )?;
    Ok(ExitCode::from(u8::from(median > 100 || most > 250)))
}

/// Delays as a simulation has them: most of some tens of milliseconds, some of seconds.
fn delay(number: u64) -> u64 {
    let bits = draw(1, 2, 3, number);
    match bits % 8 {
        0 => below(bits, 5_000_000),
        _ => 4_000 + below(bits, 120_000),
    }
}

fn entry(at: u64, number: u64) -> Entry {
    let bits = draw(4, 5, 6, number);
    let order = Order {
        at,
        to: (bits as u32) % 100_000,
        from: (bits >> 32) as u32 % 100_000,
        sequence: number as u32,
    };
    Entry { order, what: 0 }
}

fn queue(pending: u32, events: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    // Drawn beforehand, so that drawing is not what is measured.
    let delays: Vec<u64> = (0..1 << 12).map(delay).collect();
    let entries: Vec<Entry> = (0..1 << 12).map(|number| entry(0, number)).collect();
    let next = |now: u64, number: u64| {
        let place = number as usize & 0xfff;
        let mut entry = entries[place];
        entry.order.at = now + delays[place];
        entry.order.sequence = number as u32;
        entry
    };
    let mut wheel = Wheel::default();
    let mut heap = BinaryHeap::new();
    for number in 0..u64::from(pending) {
        wheel.push(next(0, number));
        heap.push(std::cmp::Reverse(next(0, number)));
    }
    let turn = |pop: &mut dyn FnMut() -> Option<Entry>, events: u64| {
        let begun = Clock::start();
        let mut sum = 0u64;
        for _ in 0..events {
            sum = sum
                .wrapping_mul(31)
                .wrapping_add(pop().map_or(0, |entry| entry.order.at));
        }
        (events as f64 / begun.seconds(), sum)
    };
    let mut number = u64::from(pending);
    let mut one = || {
        let entry = wheel.pop()?;
        wheel.push(next(entry.order.at, number));
        number += 1;
        Some(entry)
    };
    // Until what is pending is as it stays.
    turn(&mut one, u64::from(pending) * 4);
    let begun = Clock::start();
    for _ in 0..events {
        one();
    }
    let wheels = events as f64 / begun.seconds();
    let mut number = u64::from(pending);
    let mut other = || {
        let std::cmp::Reverse(entry) = heap.pop()?;
        heap.push(std::cmp::Reverse(next(entry.order.at, number)));
        number += 1;
        Some(entry)
    };
    let few = events / 10;
    let (heaps, _) = turn(&mut other, few);
    writeln!(out, "pending         {pending}")?;
    writeln!(out, "wheel           {:.1} M events/s", wheels / 1e6)?;
    writeln!(out, "binary heap     {:.1} M events/s", heaps / 1e6)?;
    Ok(ExitCode::SUCCESS)
}

/// Addresses as they are on the Internet: spread over all of it, none of them private.
fn address(number: u32) -> SocketAddr {
    // Coprime to the number of addresses, so that none comes twice.
    let spread = number.wrapping_mul(2_654_435_761);
    let [a, b, c, d] = spread.to_be_bytes();
    let first = 20 + a % 80;
    SocketAddr::from((Ipv4Addr::new(first, b, c, d), 6_881 + u16::from(a / 80)))
}

/// Bytes of memory that are the process's at this moment, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// Time that passes for the process alone, where the system tells (others may have the processor
/// meanwhile), else all time.
struct Clock {
    wall: Instant,
    own: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            own: Self::own(),
        }
    }

    /// What the processor spent on this thread.
    fn own() -> Option<Duration> {
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let nanos = schedstat.split_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    fn elapsed(&self) -> Duration {
        match (self.own, Self::own()) {
            (Some(before), Some(now)) if now > before => now - before,
            _ => self.wall.elapsed(),
        }
    }

    fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64().max(1e-9)
    }
}

fn dht(
    nodes: u32,
    seconds: u32,
    lookups: u32,
    seed: u64,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let before = resident();
    let begun = Clock::start();
    let mut sim = Sim::new(seed, Network::default());
    let config = Arc::new(Config::default());
    let mut hosts = Vec::with_capacity(nodes as usize);
    for number in 0..nodes {
        let mut spec = HostSpec::new(address(number));
        spec.role = Role::DhtNode;
        spec.config = Arc::clone(&config);
        spec.link = Link::unlimited();
        spec.keep_events = number == 0 || lookups > 0;
        match sim.add_host(spec) {
            Ok(host) => hosts.push(host),
            Err(error) => return fail(error, out),
        }
    }
    if let Err(error) = sim.run_until(Duration::ZERO, |_| false) {
        return fail(error, out);
    }
    let made = begun.elapsed();
    sim.warm_start(&hosts);
    let warm = begun.elapsed();
    let started = resident();
    let contacts = |host: &HostId| {
        sim.machine::<DhtNode>(*host)
            .map_or(0, |it| it.dht().good_nodes(false))
    };
    let known: u64 = hosts.iter().map(|host| u64::from(contacts(host))).sum();
    let (handled, events) = (sim.handled(), sim.events());
    let mut number = 0u64;
    for second in 0..seconds {
        for part in 0..lookups {
            let bits = draw(seed, 7, 8, number);
            number += 1;
            let host = hosts[below(bits, u64::from(nodes)) as usize];
            let mut target = [0; 20];
            for (at, byte) in target.iter_mut().enumerate() {
                *byte = draw(seed, 9, number, at as u64) as u8;
            }
            let after =
                u64::from(second) * 1_000_000 + u64::from(part) * 1_000_000 / u64::from(lookups);
            let find = Command::DhtGetPeers(Id20(target));
            sim.command(host, Duration::from_micros(after), Tag(number), find);
        }
    }
    let begun = Clock::start();
    if let Err(error) = sim.run_until(Duration::from_secs(seconds.into()), |_| false) {
        return fail(error, out);
    }
    let wall = begun.seconds();
    let (handled, events) = (sim.handled() - handled, sim.events() - events);
    let mut took: Vec<Duration> = Vec::new();
    for host in &hosts {
        took.extend(sim.seen(*host).iter().filter_map(|seen| match &seen.event {
            Event::LookupDone { summary, .. } => Some(summary.elapsed),
            _ => None,
        }));
    }
    took.sort_unstable();
    let each = |bytes: Option<u64>| match (bytes, before) {
        (Some(now), Some(before)) => {
            format!(
                "{:.1} kB",
                (now - before) as f64 / f64::from(nodes.max(1)) / 1e3
            )
        }
        _ => "unknown".to_owned(),
    };
    writeln!(
        out,
        "nodes           {nodes}, {:.0} contacts each",
        known as f64 / f64::from(nodes.max(1))
    )?;
    writeln!(
        out,
        "start           {:.1} s, of which tables {:.1} s",
        warm.as_secs_f64(),
        (warm - made).as_secs_f64()
    )?;
    writeln!(
        out,
        "resident        {} a node at the start, {} at the end",
        each(started),
        each(resident())
    )?;
    writeln!(
        out,
        "virtual time    {seconds} s in {wall:.1} s of the processor"
    )?;
    writeln!(
        out,
        "inputs handled  {handled} ({:.2} M/s)",
        handled as f64 / wall / 1e6
    )?;
    writeln!(
        out,
        "events          {events} ({:.2} M/s)",
        events as f64 / wall / 1e6
    )?;
    if let (Some(median), Some(last)) = (took.get(took.len() / 2), took.get(took.len() * 98 / 100))
    {
        writeln!(
            out,
            "lookups         {}, median {median:.0?}, 98th {last:.0?}",
            took.len()
        )?;
    }
    writeln!(out, "trace root      {}", sim.root())?;
    Ok(ExitCode::SUCCESS)
}

fn fail(error: impl std::fmt::Display, out: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(out, "failed          {error}")?;
    Ok(ExitCode::FAILURE)
}
