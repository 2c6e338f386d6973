//! Sockets of local service discovery (BEP 14): one for each network that is listened on.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use if_addrs::{IfAddr, Interface};
use socket2::{Domain, Protocol, Socket, Type};
use trackerless_core::lsd::{GROUP_V4, GROUP_V6};

/// Networks spoken to at most: a machine with more has them for containers.
const MAX_NETWORKS: usize = 16;

/// A network to speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    /// By an address of ours in it.
    V4(Ipv4Addr),
    /// By the index of its interface.
    V6(u32),
}

/// Joins the groups of discovery on every network that `listening` reaches; each socket comes
/// with its group. A network that cannot be joined is left out: its peers are found otherwise.
#[must_use]
pub(crate) fn bind_nearby(listening: &[SocketAddr]) -> Vec<(SocketAddr, UdpSocket)> {
    // Without it only addresses that were named are known.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let networks = networks(listening, &interfaces);
    let joined = networks
        .into_iter()
        .take(MAX_NETWORKS)
        .filter_map(|network| {
            let (group, socket) = match network {
                Network::V4(ip) => (GROUP_V4, join_v4(ip)),
                Network::V6(index) => (GROUP_V6, join_v6(index)),
            };
            Some((group, socket.ok()?))
        });
    joined.collect()
}

/// The networks that `listening` reaches: of an unspecified address all but loopback, and
/// loopback where there is nothing else.
fn networks(listening: &[SocketAddr], interfaces: &[Interface]) -> BTreeSet<Network> {
    let mut found = BTreeSet::new();
    for addr in listening {
        let ip = addr.ip();
        if let (IpAddr::V4(ip), false) = (ip, ip.is_unspecified()) {
            found.insert(Network::V4(ip));
            continue;
        }
        let of = |loopback: bool| {
            let fits = move |one: &&Interface| match one.ip() {
                it if ip.is_unspecified() => {
                    it.is_ipv4() == ip.is_ipv4() && it.is_loopback() == loopback
                }
                it => it == ip,
            };
            interfaces.iter().filter(fits).filter_map(network)
        };
        let before = found.len();
        found.extend(of(false));
        if found.len() == before {
            found.extend(of(true));
        }
    }
    found
}

fn network(interface: &Interface) -> Option<Network> {
    match &interface.addr {
        IfAddr::V4(addr) => Some(Network::V4(addr.ip)),
        IfAddr::V6(_) => interface.index.map(Network::V6),
    }
}

fn join_v4(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let (socket, group) = shared(GROUP_V4)?;
    if let IpAddr::V4(group) = group {
        socket.join_multicast_v4(&group, &ip)?;
    }
    socket.set_multicast_if_v4(&ip)?;
    // Others on this machine are nearby too; those behind a router are not.
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(1)?;
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    Ok(socket.into())
}

fn join_v6(index: u32) -> io::Result<UdpSocket> {
    let (socket, group) = shared(GROUP_V6)?;
    if let IpAddr::V6(group) = group {
        socket.join_multicast_v6(&group, index)?;
    }
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(true)?;
    socket.set_multicast_hops_v6(1)?;
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v6(false)?;
    Ok(socket.into())
}

/// A socket bound to the port of `group`, which every client on this machine shares; where the
/// system lets us, to the group itself, so that nobody reaches it from elsewhere.
fn shared(group: SocketAddr) -> io::Result<(Socket, IpAddr)> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    let mut at = group;
    if cfg!(windows) {
        at.set_ip(match group {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        });
    }
    socket.bind(&at.into())?;
    Ok((socket, group.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    fn interface(ip: &str, index: u32) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: Ipv4Addr::UNSPECIFIED,
                prefixlen: 0,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: std::net::Ipv6Addr::UNSPECIFIED,
                prefixlen: 0,
                broadcast: None,
            }),
        };
        Interface {
            name: String::new(),
            addr,
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    fn reached(listening: &[&str], interfaces: &[(&str, u32)]) -> Vec<Network> {
        let listening: Vec<SocketAddr> = listening.iter().map(|it| it.parse().unwrap()).collect();
        let interfaces: Vec<Interface> = interfaces
            .iter()
            .map(|(ip, at)| interface(ip, *at))
            .collect();
        networks(&listening, &interfaces).into_iter().collect()
    }

    #[test]
    fn every_network_that_is_listened_on_is_reached_once() {
        let all = [
            ("127.0.0.1", 1),
            ("::1", 1),
            ("192.168.1.2", 2),
            ("fe80::2", 2),
            ("2001:db8::2", 2),
            ("10.0.0.3", 3),
        ];
        let v4 = |ip: &str| Network::V4(ip.parse().unwrap());
        assert_eq!(
            reached(&["0.0.0.0:1", "[::]:1"], &all),
            [v4("10.0.0.3"), v4("192.168.1.2"), Network::V6(2)]
        );
        assert_eq!(reached(&["10.0.0.3:1"], &all), [v4("10.0.0.3")]);
        assert_eq!(reached(&["[2001:db8::2]:1"], &all), [Network::V6(2)]);
        assert_eq!(reached(&["127.0.0.1:1"], &all), [v4("127.0.0.1")]);
        // Nothing else there is: others on this machine are all that can be nearby.
        assert_eq!(reached(&["0.0.0.0:1"], &all[..2]), [v4("127.0.0.1")]);
        assert_eq!(reached(&["[::1]:1"], &all[..2]), [Network::V6(1)]);
        assert!(reached(&["[2001:db8::9]:1"], &all).is_empty());
    }

    #[test]
    fn what_one_socket_sends_another_receives() {
        let here = ["127.0.0.1:1".parse().unwrap()];
        let (group, from) = bind_nearby(&here).pop().unwrap();
        let (_, to) = bind_nearby(&here).pop().unwrap();
        from.send_to(b"somebody here?", group).unwrap();
        to.set_nonblocking(false).unwrap();
        to.set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let mut buffer = [0; 64];
        let (length, sender) = to.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"somebody here?");
        assert!(sender.ip().is_loopback());
    }
}
