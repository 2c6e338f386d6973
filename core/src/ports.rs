//! Where others reach us: one port, of TCP and UDP alike, for each address family.

use core::net::{IpAddr, SocketAddr};

/// The ports we listen on.
///
/// A family may have several sockets; the first one is where lookups and connections leave from, so
/// that its port is the one that others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ports {
    v4: Option<u16>,
    v6: Option<u16>,
}

impl Ports {
    /// The same port in both families.
    #[must_use]
    pub fn both(port: u16) -> Self {
        Self {
            v4: Some(port),
            v6: Some(port),
        }
    }

    /// Those of sockets with these local addresses.
    #[must_use]
    pub fn of_sockets(locals: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut ports = Self::default();
        for local in locals {
            let port = match is_v6(local.ip()) {
                false => &mut ports.v4,
                true => &mut ports.v6,
            };
            port.get_or_insert(local.port());
        }
        ports
    }

    /// The port for those who reach us in the family of `ip`, if we listen there.
    #[must_use]
    pub fn of(&self, ip: IpAddr) -> Option<u16> {
        if is_v6(ip) { self.v6 } else { self.v4 }
    }

    /// Whether we listen in any family.
    #[must_use]
    pub fn any(&self) -> bool {
        self.v4.or(self.v6).is_some()
    }
}

fn is_v6(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_of_a_family_counts() {
        let locals = ["10.0.0.1:1", "10.0.0.2:2", "[fd00::1]:3"].map(|it| it.parse().unwrap());
        let ports = Ports::of_sockets(locals);
        let of = |ip: &str| ports.of(ip.parse().unwrap());
        assert_eq!(
            (of("1.2.3.4"), of("::1"), of("::ffff:1.2.3.4")),
            (Some(1), Some(3), Some(1))
        );
        let ports = Ports::of_sockets([locals[2]]);
        assert_eq!(ports.of(locals[0].ip()), None);
        assert!(ports.any() && !Ports::default().any());
    }
}
