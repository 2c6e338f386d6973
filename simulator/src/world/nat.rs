//! Address translation: what a host behind it looks like from outside, and who gets in.
//!
//! A host has its translators from the inside out: its home router, and perhaps a carrier's in
//! front of it. Each has ports of its own outside, so what several hosts share is an address and
//! never state.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::draw::{Purpose, below, draw};

/// How a translator maps and filters (RFC 4787).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// One outside port for each inside port, and whoever sends to it gets in ("full cone").
    EndpointIndependent,
    /// The same, but only addresses that were sent to get in.
    AddressRestricted,
    /// The same, but only from the ports that were sent to.
    PortRestricted,
    /// An outside port for each endpoint that is sent to, and only from there.
    Symmetric,
}

/// One translator in front of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// How it maps and filters.
    pub kind: NatKind,
    /// Its address outside; it translates for addresses of that family.
    pub outside: IpAddr,
    /// Its ports for this host; those of others behind the same address are others.
    pub ports: RangeInclusive<u16>,
    /// A mapping of datagrams is forgotten after so long without one from inside.
    pub lifetime: Duration,
    /// A stream is forgotten after so long without a segment: what comes then is lost in silence.
    pub stream_lifetime: Duration,
    /// The ports that the host listens on are forwarded to it, whoever comes.
    pub forwards: bool,
}

impl Nat {
    /// A translator with all its ports for one host, that forgets datagrams after a minute and
    /// streams after two hours.
    #[must_use]
    pub const fn new(kind: NatKind, outside: IpAddr) -> Self {
        Self {
            kind,
            outside,
            ports: 1_024..=65_535,
            lifetime: Duration::from_secs(60),
            stream_lifetime: Duration::from_secs(7_200),
            forwards: false,
        }
    }
}

#[derive(Debug, Clone)]
struct Mapping {
    inside: SocketAddr,
    /// Of a symmetric one, whom it is for.
    remote: Option<SocketAddr>,
    expires: u64,
    /// Those who were sent to, and until when they get in.
    permitted: BTreeMap<SocketAddr, u64>,
}

/// The state of one translator, of one host.
#[derive(Debug, Clone)]
pub(crate) struct Translator {
    nat: Nat,
    /// By outside port.
    mappings: BTreeMap<u16, Mapping>,
    drawn: u64,
    sweep_at: u64,
}

impl Translator {
    pub(crate) fn new(nat: Nat) -> Self {
        Self {
            nat,
            mappings: BTreeMap::new(),
            drawn: 0,
            sweep_at: 0,
        }
    }

    pub(crate) const fn nat(&self) -> &Nat {
        &self.nat
    }

    /// The source that a datagram from `inside` to `to` has outside; `None` when there is no port
    /// left.
    pub(crate) fn outbound(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: u64,
        (seed, host): (u64, u32),
    ) -> Option<SocketAddr> {
        if inside.is_ipv4() != self.nat.outside.is_ipv4() {
            return Some(inside);
        }
        self.sweep(now);
        let expires = now + self.nat.lifetime.as_micros() as u64;
        let remote = (self.nat.kind == NatKind::Symmetric).then_some(to);
        let same = |mapping: &Mapping| {
            mapping.inside == inside && mapping.remote == remote && mapping.expires > now
        };
        let known = self.mappings.iter().find(|(_, mapping)| same(mapping));
        let port = match known.map(|(port, _)| *port) {
            Some(port) => port,
            None => self.free_port(inside.port(), now, seed, host)?,
        };
        let mapping = self.mappings.entry(port).or_insert(Mapping {
            inside,
            remote,
            expires,
            permitted: BTreeMap::new(),
        });
        mapping.expires = expires;
        match self.nat.kind {
            NatKind::AddressRestricted => {
                mapping
                    .permitted
                    .insert(SocketAddr::new(to.ip(), 0), expires);
            }
            NatKind::PortRestricted => {
                mapping.permitted.insert(to, expires);
            }
            NatKind::EndpointIndependent | NatKind::Symmetric => {}
        }
        Some(SocketAddr::new(self.nat.outside, port))
    }

    /// Where a datagram from `from` to the outside port `port` goes inside; `None` when it is kept
    /// out. `listens` is the inside endpoint of that port, where one listens.
    pub(crate) fn inbound(
        &self,
        from: SocketAddr,
        port: u16,
        now: u64,
        listens: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        let permitted = |mapping: &&Mapping| {
            let until = |who: SocketAddr| mapping.permitted.get(&who).is_some_and(|it| *it > now);
            mapping.expires > now
                && match self.nat.kind {
                    NatKind::EndpointIndependent => true,
                    NatKind::AddressRestricted => until(SocketAddr::new(from.ip(), 0)),
                    NatKind::PortRestricted => until(from),
                    NatKind::Symmetric => mapping.remote == Some(from),
                }
        };
        let mapping = self.mappings.get(&port).filter(permitted);
        let mapped = mapping.map(|mapping| mapping.inside);
        mapped.or(listens.filter(|_| self.nat.forwards))
    }

    /// A port that no mapping has: the inside one if it may be, except for a symmetric translator.
    fn free_port(&mut self, wanted: u16, now: u64, seed: u64, host: u32) -> Option<u16> {
        let free = |port: &u16| self.mappings.get(port).is_none_or(|it| it.expires <= now);
        let preserves = self.nat.kind != NatKind::Symmetric && self.nat.ports.contains(&wanted);
        let mut chosen = Some(wanted).filter(|port| preserves && free(port));
        if chosen.is_none() {
            let (first, last) = (*self.nat.ports.start(), *self.nat.ports.end());
            let count = u64::from(last.saturating_sub(first)) + 1;
            let bits = draw(seed, Purpose::Ports as u64, u64::from(host), self.drawn);
            self.drawn += 1;
            let start = below(bits, count);
            let port = |step: u64| first + ((start + step) % count) as u16;
            chosen = (0..count).map(port).find(free);
        }
        if let Some(port) = chosen {
            self.mappings.remove(&port);
        }
        chosen
    }

    /// Forgets what has run out, now and then.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + self.nat.lifetime.as_micros() as u64 / 2 + 1;
        self.mappings.retain(|_, mapping| mapping.expires > now);
        for mapping in self.mappings.values_mut() {
            mapping.permitted.retain(|_, until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: (u64, u32) = (1, 2);
    const SECOND: u64 = 1_000_000;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Who gets in after `inside` has sent to 1.1.1.1:1, of: that endpoint, another port of it,
    /// another address.
    fn admits(kind: NatKind, forwards: bool) -> [bool; 3] {
        let mut nat = Nat::new(kind, addr("9.9.9.9:0").ip());
        nat.forwards = forwards;
        let mut translator = Translator::new(nat);
        let inside = addr("10.0.0.1:6881");
        let out = translator.outbound(inside, addr("1.1.1.1:1"), SECOND, WHO);
        let out = out.unwrap();
        assert_eq!(out.ip(), addr("9.9.9.9:0").ip());
        ["1.1.1.1:1", "1.1.1.1:2", "2.2.2.2:1"].map(|from| {
            let at = translator.inbound(addr(from), out.port(), SECOND * 2, Some(inside));
            assert!(at.is_none_or(|at| at == inside));
            at.is_some()
        })
    }

    #[test]
    fn each_kind_lets_in_whom_it_should() {
        use NatKind::*;
        assert_eq!(admits(EndpointIndependent, false), [true, true, true]);
        assert_eq!(admits(AddressRestricted, false), [true, true, false]);
        assert_eq!(admits(PortRestricted, false), [true, false, false]);
        assert_eq!(admits(Symmetric, false), [true, false, false]);
        assert_eq!(admits(Symmetric, true), [true, true, true]);
    }

    #[test]
    fn only_a_symmetric_one_has_a_port_for_each_destination() {
        for kind in [NatKind::PortRestricted, NatKind::Symmetric] {
            let mut translator = Translator::new(Nat::new(kind, addr("9.9.9.9:0").ip()));
            let mut port = |to: &str| {
                let out = translator.outbound(addr("10.0.0.1:6881"), addr(to), SECOND, WHO);
                out.unwrap().port()
            };
            let ports = [port("1.1.1.1:1"), port("1.1.1.1:2"), port("1.1.1.1:1")];
            assert_eq!(ports[0], ports[2]);
            assert_eq!(ports[0] != ports[1], kind == NatKind::Symmetric);
            assert_eq!(ports[0] == 6_881, kind != NatKind::Symmetric);
        }
    }

    #[test]
    fn a_mapping_lives_as_long_as_it_is_used_from_inside() {
        let nat = Nat::new(NatKind::PortRestricted, addr("9.9.9.9:0").ip());
        let mut translator = Translator::new(nat);
        let (inside, to) = (addr("10.0.0.1:6881"), addr("1.1.1.1:1"));
        let enters = |translator: &Translator, second: u64| {
            let at = translator.inbound(to, 6_881, second * SECOND, None);
            at.is_some()
        };
        for second in [1, 50, 100] {
            translator.outbound(inside, to, second * SECOND, WHO);
        }
        assert!(enters(&translator, 159) && !enters(&translator, 160));
        // Nothing is kept for good.
        translator.outbound(inside, addr("1.1.1.1:2"), 500 * SECOND, WHO);
        assert_eq!(translator.mappings.len(), 1);
        assert_eq!(translator.mappings[&6_881].permitted.len(), 1);
    }

    #[test]
    fn ports_of_a_host_stay_its_own_and_run_out() {
        let mut nat = Nat::new(NatKind::Symmetric, addr("9.9.9.9:0").ip());
        nat.ports = 2_000..=2_009;
        let mut translator = Translator::new(nat);
        let mut ports: Vec<_> = (1..=11)
            .map(|port| {
                let to = SocketAddr::new(addr("1.1.1.1:1").ip(), port);
                translator.outbound(addr("10.0.0.1:6881"), to, SECOND, WHO)
            })
            .collect();
        assert_eq!(ports.pop(), Some(None));
        let mut ports: Vec<_> = ports.iter().map(|addr| addr.unwrap().port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, (2_000..=2_009).collect::<Vec<_>>());
    }
}
