//! The allowed-fast set (BEP 6).

use alloc::vec::Vec;
use core::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::id::Id20;

/// Rounds after which the set is given up as it is; each round offers five pieces.
const MAX_ROUNDS: usize = 512;

/// The `count` pieces that a peer at `ip` may ask for while it is choked, in the order of the
/// specification; all pieces when there are no more than that.
///
/// IPv4 addresses are masked to /24. The specification says nothing of IPv6: the first 8 bytes
/// (a /64) stand in for the address. Receivers take any set.
#[must_use]
pub fn allowed_fast(ip: IpAddr, info_hash: Id20, piece_count: u32, count: usize) -> Vec<u32> {
    if piece_count as usize <= count {
        return (0..piece_count).collect();
    }
    let hasher = match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Sha1::new().chain_update([a, b, c, 0])
        }
        IpAddr::V6(ip) => Sha1::new().chain_update(&ip.octets()[..8]),
    };
    let mut state: [u8; 20] = hasher.chain_update(info_hash.0).finalize().into();
    let mut set = Vec::with_capacity(count);
    for _ in 0..MAX_ROUNDS {
        for number in state.chunks_exact(4) {
            if set.len() >= count {
                return set;
            }
            let number = number.try_into().map_or(0, u32::from_be_bytes);
            let piece = number % piece_count;
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        state = Sha1::digest(state).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use quickcheck::quickcheck;

    const SET: [u32; 9] = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];

    #[test]
    fn vectors_of_bep_6() {
        let ip = Ipv4Addr::new(80, 4, 4, 200).into();
        assert_eq!(allowed_fast(ip, Id20([0xaa; 20]), 1313, 7), SET[..7]);
        assert_eq!(allowed_fast(ip, Id20([0xaa; 20]), 1313, 9), SET);
    }

    #[test]
    fn one_set_for_a_whole_24() {
        let set = |last| {
            let ip = Ipv4Addr::new(80, 4, 4, last).into();
            allowed_fast(ip, Id20([0xaa; 20]), 1313, 9)
        };
        assert_eq!(set(0), set(255));
        assert_eq!(set(7), SET);
    }

    quickcheck! {
        fn distinct_and_in_range(ip: u128, v4: bool, pieces: u16, count: u8) -> bool {
            let ip = if v4 { Ipv4Addr::from(ip as u32).into() } else { IpAddr::V6(ip.into()) };
            let (pieces, count) = (u32::from(pieces), usize::from(count % 16));
            let mut set = allowed_fast(ip, Id20([7; 20]), pieces, count);
            let len = set.len();
            set.sort_unstable();
            set.dedup();
            len == set.len() && len == count.min(pieces as usize)
                && set.iter().all(|piece| *piece < pieces)
        }
    }
}
