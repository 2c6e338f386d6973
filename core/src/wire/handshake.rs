//! The handshake: 68 bytes each way (BEP 3), with the reserved bits of BEP 5, 6 and 10.

use alloc::vec::Vec;

use crate::id::{Id20, PeerId};

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// What every handshake begins with: the length and name of the protocol.
pub const PREFIX: [u8; 20] = *b"\x13BitTorrent protocol";

const EXTENDED: (usize, u8) = (5, 0x10);
const DHT: (usize, u8) = (7, 0x01);
const FAST: (usize, u8) = (7, 0x04);

/// A handshake, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The torrent it means.
    pub info_hash: Id20,
    /// Who sends it.
    pub peer_id: PeerId,
    /// Fast extension (BEP 6).
    pub fast: bool,
    /// Extension protocol (BEP 10).
    pub extended: bool,
    /// DHT (BEP 5).
    pub dht: bool,
}

impl Handshake {
    /// Appends the 68 bytes.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        let mut reserved = [0; 8];
        for (set, (at, bit)) in [
            (self.fast, FAST),
            (self.extended, EXTENDED),
            (self.dht, DHT),
        ] {
            if set {
                reserved[at] |= bit;
            }
        }
        buf.extend_from_slice(&PREFIX);
        buf.extend_from_slice(&reserved);
        buf.extend_from_slice(&self.info_hash.0);
        buf.extend_from_slice(&self.peer_id.0);
    }

    /// Reads a whole handshake; `None` when it is of another protocol. Reserved bits that are
    /// not known here are ignored.
    #[must_use]
    pub fn decode(bytes: &[u8; HANDSHAKE_LEN]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        let (peer_id, _) = rest.split_first_chunk::<20>()?;
        let has = |(at, bit): (usize, u8)| reserved[at] & bit != 0;
        (*prefix == PREFIX).then(|| Self {
            info_hash: Id20(*info_hash),
            peer_id: PeerId(*peer_id),
            fast: has(FAST),
            extended: has(EXTENDED),
            dht: has(DHT),
        })
    }
}

/// Whether `bytes`, the beginning of a stream, may still become a handshake.
#[must_use]
pub fn may_become(bytes: &[u8]) -> bool {
    let len = bytes.len().min(PREFIX.len());
    bytes[..len] == PREFIX[..len]
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn reserved_bits_are_where_the_specifications_put_them() {
        let mut buf = Vec::new();
        let plain = Handshake {
            info_hash: Id20([1; 20]),
            peer_id: PeerId([2; 20]),
            fast: false,
            extended: false,
            dht: false,
        };
        Handshake {
            fast: true,
            ..plain
        }
        .encode(&mut buf);
        Handshake {
            extended: true,
            ..plain
        }
        .encode(&mut buf);
        Handshake { dht: true, ..plain }.encode(&mut buf);
        assert_eq!(buf.len(), 3 * HANDSHAKE_LEN);
        assert_eq!(buf[20..28], [0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(buf[88..96], [0, 0, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(buf[156..164], [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    quickcheck! {
        fn round_trips(hash: u64, id: u64, bits: (bool, bool, bool)) -> bool {
            let fill = |n: u64| core::array::from_fn(|i| (n >> (i % 8 * 8)) as u8);
            let shake = Handshake {
                info_hash: Id20(fill(hash)),
                peer_id: PeerId(fill(id)),
                fast: bits.0,
                extended: bits.1,
                dht: bits.2,
            };
            let mut buf = Vec::new();
            shake.encode(&mut buf);
            let bytes: [u8; HANDSHAKE_LEN] = buf.as_slice().try_into().unwrap();
            Handshake::decode(&bytes) == Some(shake) && may_become(&bytes)
        }

        fn another_prefix_is_refused(at: usize, bit: u8) -> bool {
            let mut bytes = [0; HANDSHAKE_LEN];
            bytes[..20].copy_from_slice(&PREFIX);
            bytes[at % 20] ^= 1 << (bit % 8);
            Handshake::decode(&bytes).is_none() && !may_become(&bytes)
        }
    }
}
