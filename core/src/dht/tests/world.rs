//! A network of nodes in memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use crate::config::Config;
use crate::dht::{Dht, Event, Input, Lookup, LookupId};
use crate::event::{Found, LookupSummary};
use crate::id::{Id20, NodeId};
use crate::io::{Outbox, Output, SocketId};
use crate::rng::{Choice, Label};
use crate::time::{Duration, Instant};

pub(super) const V4: SocketId = SocketId(4);
pub(super) const V6: SocketId = SocketId(6);

/// Several nodes and the paths between them.
pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    by_ip: BTreeMap<IpAddr, usize>,
    /// Datagrams under way: arrival, order, sender, receiver, payload.
    wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    /// Who wants to be woken when.
    due: BTreeSet<(Instant, usize)>,
    pub(super) sent: u64,
    out: Outbox,
    pub(super) choice: Choice,
    seed: u8,
    latency: Duration,
    /// Datagrams lost, of a thousand.
    loss: u64,
    pub(super) dead: BTreeSet<usize>,
}

pub(super) struct Host {
    pub(super) dht: Dht,
    pub(super) v4: Option<SocketAddr>,
    pub(super) v6: Option<SocketAddr>,
    pub(super) events: Vec<Event>,
    /// When it asked somebody something.
    pub(super) asked: Vec<Instant>,
    due: Option<Instant>,
}

impl Host {
    pub(super) fn addr(&self, v6: bool) -> SocketAddr {
        if v6 { self.v6 } else { self.v4 }.unwrap()
    }

    /// Most queries in any `span` of time.
    pub(super) fn busiest(&self, span: Duration) -> usize {
        let mut start = 0;
        let counts = self.asked.iter().enumerate().map(|(end, at)| {
            while at.saturating_since(self.asked[start]) >= span {
                start += 1;
            }
            end + 1 - start
        });
        counts.max().unwrap_or(0)
    }
}

impl Network {
    pub(super) fn new(seed: u8, loss: u64) -> Self {
        Self {
            now: Instant::from_micros(5_000_000),
            hosts: vec![],
            by_ip: BTreeMap::new(),
            wire: BTreeMap::new(),
            due: BTreeSet::new(),
            sent: 0,
            out: Outbox::new(),
            choice: Choice::new(&[seed; 32], Label::Custom(1)),
            seed,
            latency: Duration::from_millis(40),
            loss,
            dead: BTreeSet::new(),
        }
    }

    /// Adds a host in a network of its own.
    pub(super) fn add(&mut self, config: Config, v4: bool, v6: bool) -> usize {
        let n = self.hosts.len() as u32;
        let four = Ipv4Addr::from(0x1600_0001 + (n << 8));
        let six = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64 | 1);
        let v4 = v4.then(|| SocketAddr::new(four.into(), 6881));
        let v6 = v6.then(|| SocketAddr::new(six.into(), 6881));
        self.add_at(config, v4, v6)
    }

    pub(super) fn add_at(
        &mut self,
        config: Config,
        v4: Option<SocketAddr>,
        v6: Option<SocketAddr>,
    ) -> usize {
        let n = self.hosts.len();
        for addr in [v4, v6].into_iter().flatten() {
            self.by_ip.insert(addr.ip(), n);
        }
        let dht = Dht::new(Arc::new(config.clone()), &self.host_seed(n, 0), self.now);
        self.hosts.push(Host {
            dht,
            v4,
            v6,
            events: vec![],
            asked: vec![],
            due: None,
        });
        self.sockets_up(n);
        n
    }

    fn host_seed(&self, n: usize, life: u8) -> [u8; 32] {
        let mut seed = [life; 32];
        seed[..4].copy_from_slice(&(n as u32).to_be_bytes());
        seed[4] = self.seed;
        seed
    }

    /// Replaces a node by one that knows nothing, at the same place.
    pub(super) fn restart(&mut self, n: usize, config: Config) {
        let seed = self.host_seed(n, 1);
        let host = &mut self.hosts[n];
        host.dht = Dht::new(Arc::new(config), &seed, self.now);
        host.events.clear();
        host.asked.clear();
        self.sockets_up(n);
    }

    pub(super) fn sockets_up(&mut self, n: usize) {
        for (socket, addr) in [(V4, self.hosts[n].v4), (V6, self.hosts[n].v6)] {
            let any = match addr {
                Some(SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Some(SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                None => continue,
            };
            self.input(n, Input::SocketUp(socket, SocketAddr::new(any, 6881)));
        }
    }

    /// `routers` and then `count` nodes that all join through the routers in the same instant.
    pub(super) fn joined(
        seed: u8,
        routers: usize,
        count: usize,
        loss: u64,
        (v4, v6): (bool, bool),
    ) -> Self {
        let mut net = Self::new(seed, loss);
        for _ in 0..routers + count {
            net.add(Config::default(), v4, v6);
        }
        let contacts: Vec<_> = net.hosts[..routers]
            .iter()
            .flat_map(|host| [host.v4, host.v6])
            .flatten()
            .collect();
        for n in routers..routers + count {
            net.input(n, Input::Bootstrap(&contacts));
        }
        net
    }

    /// `count` nodes that all joined through the first at once, a minute ago.
    pub(super) fn grown(count: usize, loss: u64, v4: bool, v6: bool) -> Self {
        let mut net = Self::joined(9, 1, count - 1, loss, (v4, v6));
        net.run(Duration::from_secs(60));
        net
    }

    pub(super) fn input(&mut self, n: usize, input: Input<'_>) {
        let host = &mut self.hosts[n];
        host.dht
            .handle(self.now, input, &mut self.out, &mut host.events);
        assert!(
            self.out.len() <= 1_000,
            "one input sent {} datagrams",
            self.out.len()
        );
        for output in self.out.drain() {
            let Output::Transmit {
                socket, to, head, ..
            } = output
            else {
                panic!("a DHT sends datagrams only");
            };
            let from = if socket == V4 { host.v4 } else { host.v6 };
            assert_eq!(to.is_ipv4(), socket == V4);
            assert!(head.len() <= 1_400, "a datagram of {} bytes", head.len());
            if head.ends_with(b"1:y1:qe") {
                host.asked.push(self.now);
            }
            self.sent += 1;
            let jitter = Duration::from_micros(self.choice.below(10_000));
            if self.choice.below(1_000) >= self.loss {
                let arrival = self.now + self.latency + jitter;
                self.wire
                    .insert((arrival, self.sent), (from.unwrap(), to, head.to_vec()));
            }
        }
        let due = host.dht.next_timeout();
        if let Some(old) = host.due {
            self.due.remove(&(old, n));
        }
        if let Some(new) = due {
            self.due.insert((new, n));
        }
        host.due = due;
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut still = 0;
        loop {
            let timer = self.due.first().copied();
            let packet = self.wire.keys().next().copied();
            let next = match (timer, packet) {
                (Some((at, _)), Some((arrival, _))) => at.min(arrival),
                (Some((at, _)), None) => at,
                (None, Some((arrival, _))) => arrival,
                (None, None) => end,
            };
            if next >= end {
                break;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 10_000, "time stands still");
            self.now = self.now.max(next);
            if let Some(key) = packet.filter(|(arrival, _)| *arrival <= self.now) {
                let (from, to, payload) = self.wire.remove(&key).unwrap();
                self.deliver(from, to, &payload);
            } else if let Some((at, n)) = timer {
                if self.dead.contains(&n) {
                    self.due.remove(&(at, n));
                    self.hosts[n].due = None;
                } else {
                    self.input(n, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (socket, v6) = if to.is_ipv4() {
            (V4, false)
        } else {
            (V6, true)
        };
        let n = self.by_ip.get(&to.ip()).copied();
        if let Some(n) = n.filter(|n| !self.dead.contains(n))
            && self.hosts[n].addr(v6) == to
        {
            let datagram = Input::Datagram {
                socket,
                from,
                payload,
            };
            self.input(n, datagram);
        }
    }

    /// Runs one lookup to its end.
    pub(super) fn lookup(&mut self, n: usize, lookup: Lookup) -> (Vec<Found>, LookupSummary) {
        let id = LookupId(self.sent);
        self.hosts[n].events.clear();
        self.input(n, Input::Start(id, lookup));
        for _ in 0..200 {
            let done = self.hosts[n].events.iter().find_map(|event| match event {
                Event::Done(done, summary) if *done == id => Some(*summary),
                _ => None,
            });
            if let Some(summary) = done {
                let found = self.hosts[n].events.iter().filter_map(|event| match event {
                    Event::Found(of, found) if *of == id => Some(found.clone()),
                    _ => None,
                });
                return (found.collect(), summary);
            }
            self.run(Duration::from_millis(100));
        }
        panic!("the lookup did not end");
    }

    /// How `n` shows up as a peer of that port.
    pub(super) fn peer(&self, n: usize, v6: bool, port: u16) -> Found {
        Found::Peer(SocketAddr::new(self.hosts[n].addr(v6).ip(), port))
    }

    /// The eight hosts from `first` on whose ids are closest to `target`, without `except`.
    pub(super) fn closest(
        &self,
        target: &Id20,
        v6: bool,
        first: usize,
        except: usize,
    ) -> Vec<(NodeId, SocketAddr)> {
        let mut all: Vec<_> = (first..self.hosts.len())
            .filter(|n| *n != except && !self.dead.contains(n))
            .map(|n| (self.hosts[n].dht.node_id(v6), self.hosts[n].addr(v6)))
            .collect();
        all.sort_by_key(|(id, _)| id.distance(target));
        all.truncate(8);
        all
    }

    /// The saved table of a host.
    pub(super) fn saved(&self, n: usize) -> Vec<u8> {
        let mut saved = vec![];
        self.hosts[n].dht.save(&mut saved);
        saved
    }

    /// Whoever was out of reach is back.
    pub(super) fn revive(&mut self) {
        for n in core::mem::take(&mut self.dead) {
            self.input(n, Input::Tick);
        }
    }

    pub(super) fn random_id(&mut self) -> Id20 {
        let mut id = [0; 20];
        id.iter_mut()
            .for_each(|byte| *byte = self.choice.below(256) as u8);
        Id20(id)
    }
}
