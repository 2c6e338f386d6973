//! Canonical peer priority (BEP 40): a rank of each pair of endpoints that both ends compute
//! alike, so that full swarms agree on which connections to keep and stay well mixed.

use core::net::{IpAddr, SocketAddr};

use crate::checksum::{crc32c, crc32c_after};

/// The priority of a connection between two endpoints; the higher one is kept. Both ends need to
/// know their own address as the other sees it. Of two families there is none: 0.
#[must_use]
pub fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    match (a.ip(), b.ip()) {
        (one, other) if one == other => of_pair(a.port().to_be_bytes(), b.port().to_be_bytes(), 2),
        (IpAddr::V4(one), IpAddr::V4(other)) => of_pair(one.octets(), other.octets(), 2),
        (IpAddr::V6(one), IpAddr::V6(other)) => of_pair(one.octets(), other.octets(), 6),
        _ => 0,
    }
}

/// Whole bytes count up to the first in which both differ, `whole` of them at least; of the rest
/// every other bit, so that neighbours do not all rank alike.
fn of_pair<const N: usize>(mut one: [u8; N], mut other: [u8; N], whole: usize) -> u32 {
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let keep = whole.max(common + 1).min(N);
    for byte in one[keep..].iter_mut().chain(&mut other[keep..]) {
        *byte &= 0x55;
    }
    crc32c_after(crc32c(one.min(other).as_slice()), one.max(other).as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use quickcheck::quickcheck;

    #[test]
    fn published_vectors() {
        // The first two are of BEP 40, the others of what anacrolix and libtorrent test.
        for (a, b, expected) in [
            ("123.213.32.10:1", "98.76.54.32:1", 0xec2d_7224),
            ("123.213.32.10:1", "123.213.32.234:1", 0x9956_8189),
            ("123.213.32.10:1", "123.213.33.234:1", 0xf618_50a9),
            ("206.248.98.111:1", "142.147.89.224:1", 0x2b41_d456),
            ("123.213.32.10:51413", "123.213.32.10:6881", 0x9f85_2e9f),
            ("230.12.123.3:1234", "230.12.123.3:300", 0xae8b_7034),
            ("230.12.123.1:1", "230.12.123.3:1", 0x99c5_4d79),
            ("230.12.23.1:1", "230.12.123.3:1", 0x21fd_5f80),
            ("230.120.23.1:1", "230.12.123.3:1", 0xfa9a_860e),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(priority(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn vectors_of_ipv6() {
        // As Transmission tests them.
        for (a, b, expected) in [
            (
                "f277:1cd:face:b00c:0:167",
                "f177:185:face:b00c:0:25de",
                0xe4d0_f2e2,
            ),
            (
                "f177:f1cd:face:b00c:0:167",
                "f177:f285:face:b00c:0:25de",
                0xcd99_3d35,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:185:face:b00c:0:25de",
                0xf47e_9889,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:fbce:b00c:0:25de",
                0x2bc3_5c30,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:facf:b00c:0:25de",
                0x04bf_aa11,
            ),
            (
                "f177:1cd:face:b50c:0:167",
                "f177:1cd:face:b00d:0:25de",
                0xa0f9_6012,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:face:b00d:0:25de",
                0x47fc_5342,
            ),
            (
                "f177:1cd:face:b00c:ff00:167",
                "f177:1cd:face:b00c:ff:25de",
                0x51bb_5b16,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:face:b00c:1:25de",
                0xdaac_ae90,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:face:b00c:0:25de",
                0x0066_dfec,
            ),
            (
                "f177:1cd:face:b00c:0:167",
                "f177:1cd:face:b00c:0:16de",
                0x74cf_65f6,
            ),
        ] {
            let at = |tail: &str| {
                let ip: Ipv6Addr = std::format!("2a03:2880:{tail}").parse().unwrap();
                SocketAddr::new(ip.into(), 1)
            };
            assert_eq!(priority(at(a), at(b)), expected, "{a} {b}");
        }
    }

    quickcheck! {
        fn both_ends_agree(a: (u32, u16), b: (u32, u16), near: bool) -> bool {
            let at = |(ip, port): (u32, u16)| SocketAddr::new(Ipv4Addr::from(ip).into(), port);
            let b = if near { (a.0 ^ (b.0 & 0xff), b.1) } else { b };
            priority(at(a), at(b)) == priority(at(b), at(a))
        }
    }
}
