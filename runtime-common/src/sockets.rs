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

/// Binds every address; with `tcp` also a listener on each, with the same port.
///
/// # Errors
/// The first address that cannot be bound, and why.
pub fn bind(listen: &[Listen], tcp: bool) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    let mut bound: Vec<Bound> = Vec::with_capacity(listen.len());
    for wanted in listen {
        match bind_one(wanted, tcp) {
            Ok(one) => bound.push(one),
            Err(_) if wanted.optional && !bound.is_empty() => {}
            Err(error) => return Err((wanted.addr, error)),
        }
    }
    Ok(bound)
}

fn bind_one(wanted: &Listen, tcp: bool) -> io::Result<Bound> {
    let mut last = None;
    let tries = if wanted.or_next || wanted.addr.port() == 0 {
        NEXT_PORTS
    } else {
        1
    };
    for step in 0..tries {
        let mut addr = wanted.addr;
        if addr.port() != 0 {
            let Some(port) = addr.port().checked_add(step) else {
                break;
            };
            addr.set_port(port);
        }
        match bind_pair(addr, tcp) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
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
}
