//! The hosts of a scenario as they are made: addresses, links, translators, what each begins with.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_core::metainfo::Torrent;

use super::super::{
    AccessLaw, Addresses, Arrivals, Contact, DelayLaw, Group, NatLaw, Role, Scenario, SourceKind,
};
use super::{Published, Stage};
use crate::law::{self, Law};
use crate::property::HostFacts;
use crate::world::{START, draw};
use crate::{Content, HostSpec, Link, Loss, Nat, NatKind, Network, Quantiles, Queue, SimError};

/// What arrivals are drawn for, and access links, and translators.
const ARRIVAL: u64 = 0xa44;
const ACCESS: u64 = 0xacce55;
const TRANSLATOR: u64 = 0x4a7;

impl Scenario {
    pub(super) fn network(&self) -> Network {
        let network = &self.network;
        Network {
            min_delay: network.min_delay,
            max_delay: network.max_delay,
            jitter: network.jitter,
            delays: match network.delay {
                DelayLaw::Even => None,
                DelayLaw::Internet2005 => one_way(Law::Internet2005),
                DelayLaw::Internet2025 => one_way(Law::Internet2025),
            },
            loss_ppm: network.loss.0,
            ..Network::default()
        }
    }

    pub(super) fn publish(&self, seed: u64) -> Published {
        let (size, piece) = (self.content.size.0, self.content.piece.0 as u32);
        let content = Content::generate(seed, size as usize, piece);
        let name = "content.bin";
        let mut info = format!(
            "d6:lengthi{size}e4:name{}:{name}12:piece lengthi{piece}e",
            name.len()
        )
        .into_bytes();
        let hashes = content.piece_hashes();
        info.extend_from_slice(format!("6:pieces{}:", hashes.len()).as_bytes());
        info.extend_from_slice(&hashes);
        if self.content.private {
            info.extend_from_slice(b"7:privatei1e");
        }
        info.push(b'e');
        let torrent = [&b"d4:info"[..], &info, b"e"].concat();
        let torrent = Torrent::parse(torrent.into()).expect("it was written by the rules");
        let info_hash = torrent.info.hashes.short();
        Published {
            content,
            magnet: format!("magnet:?xt=urn:btih:{info_hash}"),
            torrent: Source::Torrent(torrent.into()),
            info_hash,
        }
    }

    /// The addresses of its hosts, in order.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let hosts: u32 = self.groups.iter().map(|group| group.count).sum();
        (0..hosts).map(|number| self.addr(number)).collect()
    }

    fn addr(&self, number: u32) -> SocketAddr {
        let [_, top, high, low] = (number + 1).to_be_bytes();
        match self.addresses {
            Addresses::Own => SocketAddr::new(
                Ipv4Addr::new(10, top.wrapping_add(1), high, low).into(),
                6881,
            ),
            Addresses::V6 => {
                let [high, low] = [((number + 1) >> 16) as u16, (number + 1) as u16];
                SocketAddr::new(Ipv6Addr::new(0xfd00, 0, high, low, 0, 0, 0, 1).into(), 6881)
            }
            Addresses::Public => SocketAddr::new(
                Ipv4Addr::new(top.wrapping_add(11), high, low, 1).into(),
                6881,
            ),
            Addresses::Shared => {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + number as u16)
            }
        }
    }
}

/// Half of each round trip.
fn one_way(law: Law) -> Option<Quantiles> {
    let halves: Vec<u64> = law.quantiles().iter().map(|micros| micros / 2).collect();
    Quantiles::new(&halves)
}

impl Stage<'_> {
    pub(super) fn populate(&mut self) -> Result<(), SimError> {
        let scenario = self.play.scenario;
        let firsts: Vec<u32> = scenario
            .groups
            .iter()
            .scan(0, |next, group| {
                let first = *next;
                *next += group.count;
                Some(first)
            })
            .collect();
        let addrs = |name: &str| -> Vec<SocketAddr> {
            let at = scenario.groups.iter().position(|group| group.name == name);
            at.map_or_else(Vec::new, |at| {
                let numbers = firsts[at]..firsts[at] + scenario.groups[at].count;
                numbers.map(|number| scenario.addr(number)).collect()
            })
        };
        for (place, group) in scenario.groups.iter().enumerate() {
            let through = addrs(&group.through);
            let peers: Vec<SocketAddr> = group.knows.iter().flat_map(|name| addrs(name)).collect();
            let mut after = group.join.after;
            for index in 0..group.count {
                if index > 0 {
                    after += self.gap(place, index, group);
                }
                self.add(place, index, after, &through, &peers)?;
            }
        }
        Ok(())
    }

    /// The time from the arrival of a host's predecessor to its own.
    fn gap(&self, place: usize, index: u32, group: &Group) -> Duration {
        match group.join.law {
            Arrivals::Even => group.join.every,
            Arrivals::Poisson => {
                let drawn = draw(self.play.seed, ARRIVAL, place as u64, index.into());
                Law::Exponential(group.join.every).sample(drawn)
            }
        }
    }

    fn add(
        &mut self,
        place: usize,
        index: u32,
        after: Duration,
        through: &[SocketAddr],
        peers: &[SocketAddr],
    ) -> Result<(), SimError> {
        let group = &self.play.scenario.groups[place];
        let number = self.sim.hosts().count() as u32;
        let addr = self.play.scenario.addr(number);
        let mut config = group.config.clone();
        config.explain |= self.play.explain;
        let config = Arc::new(config);
        let mut spec = HostSpec::new(addr);
        spec.config = Arc::clone(&config);
        spec.link = self.link(number, group);
        spec.nats = self.nats(number, group);
        spec.keep_events = self.play.keep_events;
        spec.lies = group.lies;
        spec.content = (group.role == Role::Seed).then(|| self.published.content.clone());
        let host = self.sim.add_host(spec)?;
        let facts = HostFacts {
            group: place,
            begun: Some(START + after),
            lies: group.lies > 0,
            seeds: group.role != Role::Leech,
            ..HostFacts::default()
        };
        self.observe(|sim, observer| {
            observer.facts.add(sim, host, facts);
            observer.guard.add(config, group.lies > 0);
        });
        let first = match group.contact {
            Contact::Spread => Some(number as usize),
            Contact::First => Some(0),
            Contact::Earlier => (index > 0).then_some(index as usize / 2),
        };
        let many = (group.contacts as usize).min(through.len());
        let contacts = first.into_iter().flat_map(|first| first..first + many);
        let contacts = contacts.map(|at| through[at % through.len()]);
        let contacts: Vec<SocketAddr> = contacts.filter(|contact| *contact != addr).collect();
        if !contacts.is_empty() {
            let join = Command::DhtBootstrap(contacts);
            self.sim.command(host, after, Tag(1), join);
        }
        if group.role == Role::Node {
            return Ok(());
        }
        let source = match (group.role, group.source) {
            (Role::Leech, SourceKind::Magnet) => Source::Magnet(self.published.magnet.clone()),
            _ => self.published.torrent.clone(),
        };
        let mut add = AddTorrent::new(source);
        add.peers = peers.iter().copied().filter(|peer| *peer != addr).collect();
        self.sim
            .command(host, after, Tag(2), Command::AddTorrent(add));
        Ok(())
    }

    fn link(&self, number: u32, group: &Group) -> Link {
        let drawn = draw(self.play.seed, ACCESS, number.into(), 0);
        let (up, down, buffer) = match group.access {
            AccessLaw::Own => (group.up, group.down, group.buffer),
            AccessLaw::Access2025 => {
                let access = law::pick_access(&law::ACCESS_2025, drawn);
                (access.up, access.down, access.buffer)
            }
            AccessLaw::Dsl2008 => {
                let access = law::pick_access(&law::DSL_2008, drawn);
                (access.up, access.down, access.buffer)
            }
        };
        let loss = match (group.loss.0, group.bursts) {
            (0, _) => Loss::None,
            (ppm, false) => Loss::Independent(ppm),
            // A burst ends after five packets on average; as many begin as make up the share.
            (ppm, true) => Loss::Bursts {
                enter_ppm: (u64::from(ppm) * 200_000 / (1_000_000 - u64::from(ppm)).max(1))
                    .min(1_000_000) as u32,
                leave_ppm: 200_000,
                good_ppm: 0,
                bad_ppm: 1_000_000,
            },
        };
        let mut link = Link::new(up.bytes(), down.bytes());
        for pipe in [&mut link.up, &mut link.down] {
            pipe.queue = Queue::Time(buffer);
            pipe.loss = loss;
            pipe.reorder_ppm = group.reorder.0;
            pipe.duplicate_ppm = group.duplicate.0;
            pipe.corrupt_ppm = group.corrupt.0;
        }
        link
    }

    /// The translators of a host, each with an address of its own outside.
    fn nats(&self, number: u32, group: &Group) -> Vec<Nat> {
        let drawn = draw(self.play.seed, TRANSLATOR, number.into(), 0);
        let (law, carrier) = match group.nat {
            NatLaw::Mix => law::pick_nat(drawn),
            NatLaw::CarrierGrade => (NatLaw::AddressRestricted, true),
            law => (law, false),
        };
        let kind = match law {
            NatLaw::EndpointIndependent => NatKind::EndpointIndependent,
            NatLaw::AddressRestricted => NatKind::AddressRestricted,
            NatLaw::PortRestricted => NatKind::PortRestricted,
            NatLaw::Symmetric => NatKind::Symmetric,
            NatLaw::None | NatLaw::CarrierGrade | NatLaw::Mix => return Vec::new(),
        };
        let [_, top, high, low] = (number + 1).to_be_bytes();
        let outside = |first: u8| Ipv4Addr::new(10, first.wrapping_add(top), high, low).into();
        let lifetime = law::NAT_LIFETIME.sample(draw(self.play.seed, TRANSLATOR, number.into(), 1));
        let nat = |kind, first| Nat {
            lifetime,
            ..Nat::new(kind, outside(first))
        };
        let mut nats = vec![nat(kind, 100)];
        if carrier {
            nats.push(nat(NatKind::Symmetric, 180));
        }
        nats
    }
}
