//! Compact addresses: 6 bytes for IPv4, 18 for IPv6 (BEP 5, 7, 23, 32).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a compact IPv4 endpoint.
pub const V4_LEN: usize = 6;
/// Bytes of a compact IPv6 endpoint.
pub const V6_LEN: usize = 18;

/// A compact endpoint, ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    bytes: [u8; V6_LEN],
    len: u8,
}

impl Compact {
    /// The 6 or 18 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Encodes `addr` with its port in network byte order; scope and flow label are not carried.
#[must_use]
pub fn encode(addr: SocketAddr) -> Compact {
    let mut bytes = [0; V6_LEN];
    let at = match addr.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    bytes[at..at + 2].copy_from_slice(&addr.port().to_be_bytes());
    Compact {
        bytes,
        len: at as u8 + 2,
    }
}

/// Decodes one endpoint of exactly 6 or 18 bytes; `None` for any other length.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        V4_LEN => {
            let (ip, port) = bytes.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes(port.try_into().ok()?);
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*ip)), port))
        }
        V6_LEN => {
            let (ip, port) = bytes.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(port.try_into().ok()?);
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*ip)), port))
        }
        _ => None,
    }
}

/// An address that cannot be dialled: port 0, unspecified, multicast or broadcast.
#[must_use]
pub fn is_undialable(addr: SocketAddr) -> bool {
    addr.port() == 0
        || match addr.ip() {
            IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    quickcheck! {
        fn v4_round_trips(ip: u32, port: u16) -> bool {
            let addr = SocketAddr::new(Ipv4Addr::from(ip).into(), port);
            decode(encode(addr).as_bytes()) == Some(addr)
        }
        fn v6_round_trips(ip: u128, port: u16) -> bool {
            let addr = SocketAddr::new(Ipv6Addr::from(ip).into(), port);
            decode(encode(addr).as_bytes()) == Some(addr)
        }
        fn other_lengths_are_refused(bytes: Vec<u8>) -> bool {
            decode(&bytes).is_some() == (bytes.len() == V4_LEN || bytes.len() == V6_LEN)
        }
    }
}
