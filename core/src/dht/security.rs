//! Node ids bound to addresses (BEP 42), and which addresses are exempt from limits.

use core::net::IpAddr;

use crate::checksum::crc32c;
use crate::id::NodeId;

/// The checksum whose first 21 bits an id at `ip` begins with, for the last id byte `rand`.
#[must_use]
pub fn prefix(ip: IpAddr, rand: u8) -> u32 {
    let r = (rand & 7) << 5;
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = (u32::from(ip) & 0x030f_3fff).to_be_bytes();
            bytes[0] |= r;
            crc32c(&bytes)
        }
        IpAddr::V6(ip) => {
            let high = (u128::from(ip) >> 64) as u64;
            let mut bytes = (high & 0x0103_070f_1f3f_7fff).to_be_bytes();
            bytes[0] |= r;
            crc32c(&bytes)
        }
    }
}

/// An id that fits `ip`: `random` with its first 21 bits replaced.
#[must_use]
pub fn node_id(ip: IpAddr, random: [u8; 20]) -> NodeId {
    let mut id = random;
    let crc = prefix(ip, id[19]).to_be_bytes();
    id[0] = crc[0];
    id[1] = crc[1];
    id[2] = (crc[2] & 0xf8) | (id[2] & 0x07);
    NodeId::from(id)
}

/// Whether `id` fits `ip`. Local addresses are exempt: every id fits them.
#[must_use]
pub fn is_valid(ip: IpAddr, id: &NodeId) -> bool {
    if is_local(ip) {
        return true;
    }
    let crc = prefix(ip, id.0[19]).to_be_bytes();
    id.0[0] == crc[0] && id.0[1] == crc[1] && (id.0[2] ^ crc[2]) & 0xf8 == 0
}

/// Loopback, link-local, private and other addresses that mean something only nearby.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    scope(ip) != Scope::Global
}

/// Whether per-address and per-prefix limits do not apply: loopback always, other local
/// addresses only in a lab.
#[must_use]
pub fn is_exempt(ip: IpAddr, lab: bool) -> bool {
    match scope(ip) {
        Scope::Host => true,
        Scope::Site => lab,
        Scope::Global => false,
    }
}

/// Whether somebody at `from` can sensibly tell of `about`: nobody far away knows what is near
/// us, and believing it would let anyone point our packets at our own network.
#[must_use]
pub fn can_refer(from: IpAddr, about: IpAddr) -> bool {
    scope(about) >= scope(from)
}

/// How far an address reaches, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Host,
    Site,
    Global,
}

pub(crate) fn scope(ip: IpAddr) -> Scope {
    if ip.is_loopback() {
        return Scope::Host;
    }
    let site = match ip {
        IpAddr::V4(ip) => {
            let shared = u32::from(ip) & 0xffc0_0000 == 0x6440_0000;
            ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
        }
        IpAddr::V6(ip) => {
            let head = ip.segments()[0];
            head & 0xfe00 == 0xfc00 || head & 0xffc0 == 0xfe80 || ip.is_unspecified()
        }
    };
    if site { Scope::Site } else { Scope::Global }
}

/// The /24 (IPv4) or /64 (IPv6) an address lies in, as a number; families never collide.
#[must_use]
pub(crate) fn network(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) | 1 << 64,
    }
}

/// What one organisation or line can have, as a number: a /24 of IPv4, a /48 of IPv6; families
/// never collide.
#[must_use]
pub(crate) fn site(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(_) => network(ip),
        IpAddr::V6(ip) => (u128::from(ip) >> 80) | 1 << 64,
    }
}

/// What one host has, as a number: an address of IPv4, a /64 of IPv6; families never collide.
#[must_use]
pub(crate) fn host(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(_) => network(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [(&str, u8, u32, &str); 6] = [
        (
            "124.31.75.21",
            1,
            0x5fbf_bdb2,
            "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401",
        ),
        (
            "21.75.31.124",
            86,
            0x5a3c_e9b0,
            "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256",
        ),
        (
            "65.23.51.170",
            22,
            0xa5d4_344a,
            "a5d43220bc8f112a3d426c84764f8c2a1150e616",
        ),
        (
            "84.124.73.14",
            65,
            0x1b03_217b,
            "1b0321dd1bb1fe518101ceef99462b947a01ff41",
        ),
        (
            "43.213.53.83",
            90,
            0xe56f_6972,
            "e56f6cbf5b7c4be0237986d5243b87aa6d51305a",
        ),
        (
            "2001:b829:2123:be84:e16c:d6ae:5290:49f1",
            4,
            0x0a8a_d1aa,
            "0a8ad123be84e16cd6ae529049f1f1bbe9ebb304",
        ),
    ];

    #[test]
    fn ids_of_bep_42_fit_their_addresses_and_altered_ones_do_not() {
        for (ip, rand, crc, id) in ROWS {
            let ip: IpAddr = ip.parse().unwrap();
            let id = NodeId::from_hex(id).unwrap();
            assert_eq!(prefix(ip, rand), crc);
            assert!(is_valid(ip, &id), "{ip}");
            assert_eq!(node_id(ip, id.0), id);
            let mut wrong = id;
            wrong.0[0] = 0x18;
            assert!(!is_valid(ip, &wrong));
            let mut wrong = id;
            wrong.0[2] ^= 0x08;
            assert!(!is_valid(ip, &wrong));
            let mut free = id;
            free.0[2] ^= 0x07;
            assert!(is_valid(ip, &free));
        }
    }

    #[test]
    fn local_addresses_take_any_id_and_exemption_follows_the_lab() {
        let id = NodeId::from([0x18; 20]);
        for ip in [
            "127.0.0.1",
            "10.77.0.1",
            "192.168.1.1",
            "169.254.3.4",
            "::1",
            "fe80::1",
            "fd77::1",
        ] {
            let ip = ip.parse().unwrap();
            assert!(is_local(ip) && is_valid(ip, &id), "{ip}");
        }
        assert!(!is_valid("65.23.51.170".parse().unwrap(), &id));
        assert!(is_exempt("127.0.0.1".parse().unwrap(), false));
        assert!(!is_exempt("10.0.0.1".parse().unwrap(), false));
        assert!(is_exempt("10.0.0.1".parse().unwrap(), true));
        assert!(!is_exempt("8.8.8.8".parse().unwrap(), true));
    }

    #[test]
    fn nobody_far_away_refers_to_what_is_near() {
        let ip = |text: &str| text.parse().unwrap();
        assert!(!can_refer(ip("8.8.8.8"), ip("127.0.0.1")));
        assert!(!can_refer(ip("8.8.8.8"), ip("192.168.0.1")));
        assert!(!can_refer(ip("10.0.0.1"), ip("127.0.0.1")));
        assert!(can_refer(ip("10.0.0.1"), ip("8.8.8.8")));
        assert!(can_refer(ip("127.0.0.1"), ip("10.0.0.1")));
    }
}
