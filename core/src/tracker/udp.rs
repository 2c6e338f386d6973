//! The UDP protocol of trackers (BEP 15), and the data of the URL behind an announce (BEP 41).

use alloc::vec::Vec;

use super::Announce;
use crate::compact;
use crate::id::Id20;

/// What a request to connect begins with instead of a connection id.
const PROTOCOL: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;
/// BEP 41: part of the URL's path and query follows.
const URL_DATA: u8 = 2;
/// Bytes one option may have.
const MAX_OPTION: usize = 255;

/// What a tracker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response<'a> {
    /// The id to be used in requests of the next minute.
    Connected(u64),
    /// An announce was taken.
    Announced {
        /// Seconds until the next announce is expected.
        interval: u32,
        /// Peers that lack something.
        leechers: u32,
        /// Peers that have everything.
        seeders: u32,
        /// Compact addresses of the family that the datagram came over.
        peers: &'a [u8],
    },
    /// Figures of one torrent.
    Scraped {
        /// Peers that have everything.
        seeders: u32,
        /// Peers that ever completed.
        completed: u32,
        /// Peers that lack something.
        leechers: u32,
    },
    /// It refuses: why, for people.
    Error(&'a [u8]),
}

fn head(connection: u64, action: u32, transaction: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&connection.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
}

/// Appends a request for a connection id.
pub fn encode_connect(transaction: u32, out: &mut Vec<u8>) {
    head(PROTOCOL, CONNECT, transaction, out);
}

/// Appends an announce; `path` is path and query of the tracker's URL.
pub fn encode_announce(
    connection: u64,
    transaction: u32,
    announce: &Announce<'_>,
    path: &str,
    out: &mut Vec<u8>,
) {
    head(connection, ANNOUNCE, transaction, out);
    out.extend_from_slice(&announce.info_hash.0);
    out.extend_from_slice(&announce.peer_id.0);
    out.extend_from_slice(&announce.figures.downloaded.to_be_bytes());
    out.extend_from_slice(&announce.figures.left.to_be_bytes());
    out.extend_from_slice(&announce.figures.uploaded.to_be_bytes());
    out.extend_from_slice(&(announce.event as u32).to_be_bytes());
    // Our address is the one the datagram comes from.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&announce.key.to_be_bytes());
    out.extend_from_slice(&u32::from(announce.num_want).to_be_bytes());
    out.extend_from_slice(&announce.port.to_be_bytes());
    for part in path.as_bytes().chunks(MAX_OPTION) {
        out.extend_from_slice(&[URL_DATA, part.len() as u8]);
        out.extend_from_slice(part);
    }
}

/// Appends a scrape of one torrent.
pub fn encode_scrape(connection: u64, transaction: u32, info_hash: Id20, out: &mut Vec<u8>) {
    head(connection, SCRAPE, transaction, out);
    out.extend_from_slice(&info_hash.0);
}

/// The transaction that an answer names.
#[must_use]
pub fn transaction(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?))
}

/// Reads an answer that came over IPv4 or IPv6; `None` when it is none, or too short.
///
/// BEP 15 asks that longer answers than expected are accepted.
#[must_use]
pub fn decode(payload: &[u8], v6: bool) -> Option<Response<'_>> {
    let word = |at: usize| -> Option<u32> {
        let bytes = payload.get(at * 4..at * 4 + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    transaction(payload)?;
    Some(match word(0)? {
        CONNECT => Response::Connected(u64::from(word(2)?) << 32 | u64::from(word(3)?)),
        ANNOUNCE => {
            let each = if v6 { compact::V6_LEN } else { compact::V4_LEN };
            let peers = payload.get(20..)?;
            Response::Announced {
                interval: word(2)?,
                leechers: word(3)?,
                seeders: word(4)?,
                peers: &peers[..peers.len() / each * each],
            }
        }
        SCRAPE => Response::Scraped {
            seeders: word(2)?,
            completed: word(3)?,
            leechers: word(4)?,
        },
        ERROR => Response::Error(payload.get(8..)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{AnnounceEvent, Figures};
    use super::*;
    use crate::id::PeerId;
    use quickcheck::quickcheck;
    use std::string::String;

    fn announce(downloaded: u64, left: u64, port: u16) -> Announce<'static> {
        Announce {
            info_hash: Id20([1; 20]),
            peer_id: PeerId([2; 20]),
            port,
            figures: Figures {
                uploaded: 5,
                downloaded,
                left,
            },
            event: AnnounceEvent::Started,
            key: 0x0102_0304,
            encryption: crate::config::EncryptionMode::Off,
            num_want: 200,
            tracker_id: &[],
        }
    }

    #[test]
    fn requests_are_laid_out_as_in_the_tables_of_bep_15() {
        let mut out = Vec::new();
        encode_connect(0x0a0b_0c0d, &mut out);
        assert_eq!(
            out,
            [
                0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 10, 11, 12, 13
            ]
        );
        out.clear();
        encode_announce(7, 9, &announce(3, 4, 6881), "", &mut out);
        assert_eq!(out.len(), 98);
        assert_eq!(out[..16], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!((&out[16..36], &out[36..56]), (&[1; 20][..], &[2; 20][..]));
        assert_eq!((out[63], out[71], out[79]), (3, 4, 5));
        assert_eq!(out[80..84], [0, 0, 0, 2]);
        assert_eq!(out[84..88], [0; 4]);
        assert_eq!(out[88..92], [1, 2, 3, 4]);
        assert_eq!(out[92..], [0, 0, 0, 200, 0x1a, 0xe1]);
        out.clear();
        encode_scrape(7, 9, Id20([3; 20]), &mut out);
        assert_eq!((out.len(), out[11]), (36, 2));
    }

    #[test]
    fn the_path_follows_in_options_of_255_bytes() {
        let path: String = "/announce?k=".chars().chain(['x'; 300]).collect();
        let mut out = Vec::new();
        encode_announce(7, 9, &announce(0, 0, 1), &path, &mut out);
        let mut options = &out[98..];
        let mut whole = Vec::new();
        while let [kind, length, rest @ ..] = options {
            assert_eq!(*kind, 2);
            let (part, rest) = rest.split_at(usize::from(*length));
            whole.extend_from_slice(part);
            options = rest;
        }
        assert_eq!(whole, path.as_bytes());
    }

    #[test]
    fn answers_cut_short_are_none() {
        let mut whole = Vec::new();
        for word in [1u32, 9, 1800, 3, 4] {
            whole.extend_from_slice(&word.to_be_bytes());
        }
        whole.extend_from_slice(&[1, 2, 3, 4, 0, 80, 9, 9]);
        for length in 0..20 {
            assert_eq!(decode(&whole[..length], false), None);
        }
        // Half an address is none.
        let expected = Response::Announced {
            interval: 1800,
            leechers: 3,
            seeders: 4,
            peers: &[1, 2, 3, 4, 0, 80],
        };
        assert_eq!(decode(&whole, false), Some(expected));
        assert!(matches!(
            decode(&whole, true),
            Some(Response::Announced { peers: &[], .. })
        ));
        whole[3] = 3;
        assert!(matches!(decode(&whole, false), Some(Response::Error(text)) if text.len() == 20));
        whole[3] = 4;
        assert_eq!(decode(&whole, false), None);
    }

    quickcheck! {
        fn answers_round_trip(action: u8, tx: u32, a: u32, b: u32, c: u32, peers: Vec<u8>) -> bool {
            let action = u32::from(action % 4);
            let mut bytes = Vec::new();
            for word in [action, tx, a, b, c] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
            bytes.extend_from_slice(&peers);
            let expected = match action {
                0 => Response::Connected(u64::from(a) << 32 | u64::from(b)),
                1 => Response::Announced {
                    interval: a,
                    leechers: b,
                    seeders: c,
                    peers: &peers[..peers.len() / 6 * 6],
                },
                2 => Response::Scraped { seeders: a, completed: b, leechers: c },
                _ => Response::Error(&bytes[8..]),
            };
            transaction(&bytes) == Some(tx) && decode(&bytes, false) == Some(expected)
        }
        fn any_bytes_are_an_answer_or_none(bytes: Vec<u8>, v6: bool) -> bool {
            decode(&bytes, v6).is_none_or(|_| bytes.len() >= 8)
        }
    }
}
