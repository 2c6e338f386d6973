//! The pieces a choked peer may ask for (fast extension, BEP 6).

use alloc::vec::Vec;
use core::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::id::Id20;

/// Pieces allowed to each peer.
pub(super) const SET_SIZE: usize = 10;

/// The canonical set for a peer at `ip`, computed on the /24 it lives in, so that a peer does not
/// gain by changing its address. Empty for IPv6, for which the specification defines none.
pub(super) fn allowed_set(ip: IpAddr, info_hash: Id20, pieces: u32, size: usize) -> Vec<u32> {
    let IpAddr::V4(ip) = ip else {
        return Vec::new();
    };
    let size = size.min(pieces as usize);
    let mut set = Vec::with_capacity(size);
    let [a, b, c, _] = ip.octets();
    let mut hash: [u8; 20] = Sha1::new()
        .chain_update([a, b, c, 0])
        .chain_update(info_hash.0)
        .finalize()
        .into();
    // Distinct pieces come fast; the bound only keeps tiny torrents from looping for long.
    for _ in 0..64 {
        for chunk in hash.chunks_exact(4) {
            if set.len() >= size {
                return set;
            }
            let number = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            let piece = number % pieces;
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_of_the_specification() {
        let ip = "80.4.4.200".parse().unwrap();
        let hash = Id20([0xaa; 20]);
        let seven = [1059, 431, 808, 1217, 287, 376, 1188];
        assert_eq!(allowed_set(ip, hash, 1313, 7), seven);
        let nine = allowed_set(ip, hash, 1313, 9);
        assert_eq!(nine[..7], seven);
        assert_eq!(nine[7..], [353, 508]);
        assert_eq!(allowed_set(ip, hash, 3, 10).len(), 3);
        assert!(allowed_set(ip, hash, 0, 10).is_empty());
        assert!(allowed_set("::1".parse().unwrap(), hash, 9, 10).is_empty());
    }
}
