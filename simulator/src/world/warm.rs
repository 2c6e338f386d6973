//! A DHT that has been there for long: routing tables as an oracle knows them.

use std::net::SocketAddr;

use trackerless_core::id::NodeId;

use super::draw::{below, draw};
use super::host::HostId;
use super::machine::DhtNode;
use super::sim::Sim;

/// Draws of contacts.
const CONTACTS: u64 = 0x3a43;

impl Sim {
    /// Gives hosts that are DHT nodes alone the routing tables they would have after a long time
    /// together: of each bucket's part of the network as many as it holds, evenly. Their sockets
    /// have to be up. Tables are no inputs, so hosts that record are left as they are.
    pub fn warm_start(&mut self, hosts: &[HostId]) {
        let mut all: Vec<(NodeId, HostId)> = Vec::with_capacity(hosts.len());
        for host in hosts {
            if let Some(node) = self.machine::<DhtNode>(*host) {
                all.push((node.dht().node_id(false), *host));
            }
        }
        all.sort_unstable();
        let addrs: Vec<SocketAddr> = all.iter().map(|(_, host)| self.addr(*host)).collect();
        let mut chosen = Vec::new();
        for number in 0..all.len() {
            let (own, host) = all[number];
            if self.spec(host).record {
                continue;
            }
            chosen.clear();
            let dht = &self.spec(host).config.dht;
            let (wide, narrow) = (dht.wide_buckets, dht.bucket_size);
            // What shares the first bits with us, fewer and fewer of them.
            let (mut low, mut high) = (0, all.len());
            for depth in 0..160 {
                if high - low <= 1 {
                    break;
                }
                let ones = low + all[low..high].partition_point(|(id, _)| !bit(id, depth));
                let (near, far) = if bit(&own, depth) {
                    ((ones, high), (low, ones))
                } else {
                    ((low, ones), (ones, high))
                };
                (low, high) = near;
                let room = wide.get(depth).copied().unwrap_or(narrow);
                let (count, room) = ((far.1 - far.0) as u64, u64::from(room));
                let take = count.min(room);
                for part in 0..take {
                    // One from each of as many equal parts.
                    let (from, to) = (count * part / take, count * (part + 1) / take);
                    let bits = draw(CONTACTS, u64::from(host.0), depth as u64, part);
                    let place = far.0 + (from + below(bits, to - from)) as usize;
                    chosen.push((all[place].0, addrs[place]));
                }
            }
            self.know(host, &chosen);
        }
    }
}

fn bit(id: &NodeId, at: usize) -> bool {
    id.0[at / 8] >> (7 - at % 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{HostSpec, Link, Network, Role};
    use std::time::Duration;
    use trackerless_core::event::Event;
    use trackerless_core::id::Id20;
    use trackerless_core::io::{Command, Tag};

    #[test]
    fn a_warm_network_finds_the_closest_nodes_at_once() {
        let mut sim = Sim::new(5, Network::default());
        let mut hosts = Vec::new();
        for number in 0..400u32 {
            let [_, _, high, low] = number.to_be_bytes();
            let mut spec = HostSpec::new(SocketAddr::from(([10, 0, high, low], 6881)));
            spec.role = Role::DhtNode;
            spec.link = Link::unlimited();
            hosts.push(sim.add_host(spec).unwrap());
        }
        sim.run_until(Duration::ZERO, |_| false).unwrap();
        sim.warm_start(&hosts);
        let target = Id20([0x5a; 20]);
        let find = Command::DhtFindNode(target);
        sim.command(hosts[0], Duration::ZERO, Tag(9), find);
        let done = |sim: &Sim| {
            let seen = sim.seen(hosts[0]).iter().rev();
            let mut done = seen.filter_map(|seen| match &seen.event {
                Event::LookupDone { summary, .. } => Some(*summary),
                _ => None,
            });
            done.next()
        };
        assert!(
            sim.run_until(Duration::from_secs(3), |sim| done(sim).is_some())
                .unwrap()
        );
        let summary = done(&sim).unwrap();
        assert!(summary.replies >= 8 && summary.hops <= 3, "{summary:?}");
        // The closest of all is among those it found.
        let id = |host: &HostId| sim.machine::<DhtNode>(*host).unwrap().dht().node_id(false);
        let closest = hosts
            .iter()
            .map(id)
            .min_by_key(|id| target.distance(id))
            .unwrap();
        let found = sim.seen(hosts[0]).iter().any(|seen| match &seen.event {
            Event::LookupFound { found, .. } => {
                format!("{found:?}").contains(&format!("{closest:?}"))
            }
            _ => false,
        });
        assert!(found, "{closest:?}");
    }
}
