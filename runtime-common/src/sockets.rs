//! Binding of sockets: UDP and TCP on one port number.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked for socket buffers of UDP; the kernel gives what it allows.
const UDP_BUFFER: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// The port everybody tries first.
pub const DEFAULT_PORT: u16 = 6881;
/// Ports tried after the wanted one.
const NEXT_PORTS: u16 = 100;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 picks a free one.
    pub addr: SocketAddr,
    /// Whether the next free port will do when this one is taken.
    pub or_next: bool,
    /// Whether a host without this address family goes on without it.
    pub optional: bool,
}

impl Listen {
    /// Exactly `addr`, or an error.
    #[must_use]
    pub const fn exactly(addr: SocketAddr) -> Self {
        Self {
            addr,
            or_next: false,
            optional: false,
        }
    }

    /// All interfaces of both families, the default port or the next free one.
    #[must_use]
    pub fn defaults() -> [Self; 2] {
        let all = |ip, optional| Self {
            addr: SocketAddr::new(ip, DEFAULT_PORT),
            or_next: true,
            optional,
        };
        [
            all(IpAddr::V4(Ipv4Addr::UNSPECIFIED), false),
            all(IpAddr::V6(Ipv6Addr::UNSPECIFIED), true),
        ]
    }
}

/// A bound pair of sockets, non-blocking.
#[derive(Debug)]
pub struct Bound {
    /// The address of both.
    pub local: SocketAddr,
    /// Datagrams.
    pub udp: UdpSocket,
    /// Streams, unless TCP is off.
    pub tcp: Option<TcpListener>,
}

/// Binds every address; with `tcp` also a listener on each, with the same port. Addresses that may
/// take the next free port take the same one.
///
/// # Errors
/// The first address that cannot be bound, and why.
pub fn bind(listen: &[Listen], tcp: bool) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    let mut step = 0;
    loop {
        match bind_all(listen, step, tcp) {
            Err((listen, error))
                if listen.or_next
                    && error.kind() == io::ErrorKind::AddrInUse
                    && step < NEXT_PORTS =>
            {
                step += 1;
            }
            done => return done.map_err(|(listen, error)| (listen.addr, error)),
        }
    }
}

/// Binds every address, those that may take a later port `step` ports further on.
fn bind_all(listen: &[Listen], step: u16, tcp: bool) -> Result<Vec<Bound>, (&Listen, io::Error)> {
    let mut bound: Vec<Bound> = Vec::with_capacity(listen.len());
    for wanted in listen {
        let mut addr = wanted.addr;
        if wanted.or_next && addr.port() != 0 {
            let Some(port) = addr.port().checked_add(step) else {
                return Err((wanted, io::ErrorKind::AddrNotAvailable.into()));
            };
            addr.set_port(port);
        }
        match bind_one(addr, tcp) {
            Ok(one) => bound.push(one),
            // One that is taken is there: the next port will do for all.
            Err(error)
                if wanted.optional
                    && !bound.is_empty()
                    && error.kind() != io::ErrorKind::AddrInUse => {}
            Err(error) => return Err((wanted, error)),
        }
    }
    Ok(bound)
}

fn bind_one(addr: SocketAddr, tcp: bool) -> io::Result<Bound> {
    // The free port that UDP is given may be taken for TCP.
    let tries = if addr.port() == 0 { NEXT_PORTS } else { 1 };
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..tries {
        match bind_pair(addr, tcp) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            done => return done,
        }
    }
    Err(last)
}

fn bind_pair(addr: SocketAddr, tcp: bool) -> io::Result<Bound> {
    let udp = socket(addr, Type::DGRAM, Protocol::UDP)?;
    // Best effort: small buffers only cost speed.
    let _ = udp.set_recv_buffer_size(UDP_BUFFER);
    let _ = udp.set_send_buffer_size(UDP_BUFFER);
    udp.bind(&addr.into())?;
    let udp = UdpSocket::from(udp);
    let local = udp.local_addr()?;
    let tcp = if tcp {
        let listener = socket(local, Type::STREAM, Protocol::TCP)?;
        // A port in TIME_WAIT after a restart is still ours.
        #[cfg(unix)]
        listener.set_reuse_address(true)?;
        listener.bind(&local.into())?;
        listener.listen(BACKLOG)?;
        Some(TcpListener::from(listener))
    } else {
        None
    };
    Ok(Bound { local, udp, tcp })
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // One socket per family: replies must leave with the address they came to.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_and_tcp_share_a_port_and_a_taken_port_yields_the_next() {
        let any = Listen::exactly("127.0.0.1:0".parse().unwrap());
        let first = bind(&[any], true).unwrap().remove(0);
        assert_ne!(first.local.port(), 0);
        let tcp = first.tcp.as_ref().unwrap().local_addr().unwrap();
        assert_eq!(tcp, first.local);

        let taken = Listen::exactly(first.local);
        let (addr, error) = bind(&[taken], true).unwrap_err();
        assert_eq!(
            (addr, error.kind()),
            (first.local, io::ErrorKind::AddrInUse)
        );

        let next = Listen {
            or_next: true,
            ..taken
        };
        let second = bind(&[next], true).unwrap().remove(0);
        assert!(second.local.port() > first.local.port());
    }

    #[test]
    fn both_families_move_to_the_next_port_together() {
        let Ok(held) = bind(&[Listen::exactly("127.0.0.1:0".parse().unwrap())], true) else {
            panic!("loopback has free ports");
        };
        let port = held[0].local.port();
        let wanted = ["[::1]", "127.0.0.1"].map(|ip| Listen {
            addr: format!("{ip}:{port}").parse().unwrap(),
            or_next: true,
            optional: true,
        });
        let ports: Vec<u16> = match bind(&wanted, true) {
            Ok(bound) => bound.iter().map(|it| it.local.port()).collect(),
            // A host without IPv6.
            Err((addr, _)) if addr.is_ipv6() => return,
            Err(error) => panic!("{error:?}"),
        };
        assert!(
            ports[0] > port && ports == [ports[0]; 2],
            "{ports:?} after {port}"
        );
    }
}
