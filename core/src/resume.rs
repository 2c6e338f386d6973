//! What is kept of a torrent between two runs: a pure codec.
//!
//! The bytes are a bencoded dictionary behind a magic, a version and a checksum, so that a file
//! that was cut short or damaged is told from a whole one. Nothing in it is believed about data
//! on disk beyond what was verified and committed: the owner still checks that it fits.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::bencode::{self, Writer};
use crate::compact;
use crate::id::Id20;

/// First bytes of resume data; the last two are the version of the format.
pub const MAGIC: [u8; 8] = *b"TLRESU01";
/// Peers that are read; more say nothing about a torrent that a few hundred do not.
pub const MAX_PEERS: usize = 2_000;

const CHECKSUM_LEN: usize = 20;
const BODY: usize = MAGIC.len() + CHECKSUM_LEN;

/// What is kept of a torrent between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// The torrent, by the hash that the wire carries.
    pub info_hash: Id20,
    /// The raw `info` dictionary, so that a magnet link need not fetch it again.
    pub info: Option<Bytes>,
    /// Number of pieces; 0 while the metadata is unknown.
    pub piece_count: u32,
    /// The pieces that were verified and committed, as a bitfield message has them: one bit a
    /// piece, most significant first, spare bits 0.
    pub have: Vec<u8>,
    /// Payload bytes received so far.
    pub downloaded: u64,
    /// Payload bytes sent so far.
    pub uploaded: u64,
    /// Peers that were of use.
    pub peers: Vec<SocketAddr>,
    /// Indices of the wanted files; empty means all.
    pub select: Vec<u32>,
}

/// Why bytes are no resume data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeError {
    /// It is another kind of file.
    NotResumeData,
    /// It was written by a version whose format is not known here.
    UnknownVersion,
    /// It was cut short or damaged.
    Damaged,
    /// The checksum is right and a field is missing or makes no sense: its name.
    Field(&'static str),
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotResumeData => f.write_str("not resume data"),
            Self::UnknownVersion => f.write_str("resume data of an unknown version"),
            Self::Damaged => f.write_str("resume data is damaged or cut short"),
            Self::Field(name) => write!(f, "resume data: field {name} is missing or wrong"),
        }
    }
}

impl core::error::Error for ResumeError {}

impl Resume {
    /// Appends the whole file. Numbers above `i64::MAX` are written as that.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; CHECKSUM_LEN]);
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut writer = Writer::new(out);
        writer
            .dict()
            .key(b"downloaded")
            .int(number(self.downloaded));
        writer.key(b"have").bytes(&self.have);
        if let Some(info) = &self.info {
            // A string, not a dictionary: its keys may be unsorted, and its bytes are hashed.
            writer.key(b"info").bytes(info);
        }
        writer.key(b"info_hash").bytes(&self.info_hash.0);
        writer.key(b"peers").list();
        for peer in &self.peers {
            writer.bytes(compact::encode(*peer).as_bytes());
        }
        writer.end();
        writer.key(b"piece_count").int(i64::from(self.piece_count));
        writer.key(b"select").list();
        for index in &self.select {
            writer.int(i64::from(*index));
        }
        writer.end();
        writer.key(b"uploaded").int(number(self.uploaded)).end();
        let checksum: [u8; CHECKSUM_LEN] = Sha1::digest(&out[start + BODY..]).into();
        out[start + MAGIC.len()..start + BODY].copy_from_slice(&checksum);
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// What is wrong with it. The data on disk must be checked then.
    pub fn decode(bytes: &[u8]) -> Result<Self, ResumeError> {
        let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
            let torn = MAGIC.starts_with(bytes);
            return Err(if torn {
                ResumeError::Damaged
            } else {
                ResumeError::NotResumeData
            });
        };
        if magic[..6] != MAGIC[..6] {
            return Err(ResumeError::NotResumeData);
        }
        if *magic != MAGIC {
            return Err(ResumeError::UnknownVersion);
        }
        let (checksum, body) = rest
            .split_first_chunk::<CHECKSUM_LEN>()
            .ok_or(ResumeError::Damaged)?;
        if <[u8; CHECKSUM_LEN]>::from(Sha1::digest(body)) != *checksum {
            return Err(ResumeError::Damaged);
        }
        let limits = bencode::Limits::TORRENT;
        let document = bencode::decode(body, &limits).map_err(|_| ResumeError::Damaged)?;
        let root = document.root().as_dict().ok_or(ResumeError::Damaged)?;
        let field = ResumeError::Field;
        let number = |name: &'static str| {
            let value = root
                .int(name.as_bytes())
                .and_then(|value| u64::try_from(value).ok());
            value.ok_or(ResumeError::Field(name))
        };
        let info_hash = root
            .find(b"info_hash")
            .and_then(|value| value.as_array::<20>());
        let piece_count = u32::try_from(number("piece_count")?);
        let piece_count = piece_count.map_err(|_| field("piece_count"))?;
        let have = root.bytes(b"have").filter(|have| fits(have, piece_count));
        let mut peers = Vec::new();
        for peer in root
            .list(b"peers")
            .ok_or(field("peers"))?
            .iter()
            .take(MAX_PEERS)
        {
            peers.push(
                peer.as_bytes()
                    .and_then(compact::decode)
                    .ok_or(field("peers"))?,
            );
        }
        let mut select = Vec::new();
        for index in root.list(b"select").ok_or(field("select"))?.iter() {
            let index = index.as_int().and_then(|index| u32::try_from(index).ok());
            select.push(index.ok_or(field("select"))?);
        }
        Ok(Self {
            info_hash: Id20(info_hash.ok_or(field("info_hash"))?),
            info: root.bytes(b"info").map(Bytes::copy_from_slice),
            piece_count,
            have: have.ok_or(field("have"))?.to_vec(),
            downloaded: number("downloaded")?,
            uploaded: number("uploaded")?,
            peers,
            select,
        })
    }

    /// Whether `piece` was verified and committed.
    #[must_use]
    pub fn has(&self, piece: u32) -> bool {
        let byte = self.have.get(piece as usize / 8).copied().unwrap_or(0);
        piece < self.piece_count && byte & (0x80 >> (piece % 8)) != 0
    }
}

/// Whether `have` is a bit set of exactly `count` pieces with no spare bit set.
fn fits(have: &[u8], count: u32) -> bool {
    let spare = match count % 8 {
        0 => 0,
        used => 0xff_u8 >> used,
    };
    have.len() == count.div_ceil(8) as usize && have.last().is_none_or(|last| last & spare == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use quickcheck::{Arbitrary, Gen, quickcheck};

    impl Arbitrary for Resume {
        fn arbitrary(g: &mut Gen) -> Self {
            let piece_count = u32::from(u8::arbitrary(g));
            let mut have: Vec<u8> = (0..piece_count.div_ceil(8))
                .map(|_| u8::arbitrary(g))
                .collect();
            if let (Some(last), 1..) = (have.last_mut(), piece_count % 8) {
                *last &= !(0xff >> (piece_count % 8));
            }
            let ip = |bits: u128, v4: bool| match v4 {
                true => IpAddr::V4((bits as u32).into()),
                false => IpAddr::V6(bits.into()),
            };
            let peers = Vec::<(u128, bool, u16)>::arbitrary(g).into_iter();
            Self {
                info_hash: Id20(core::array::from_fn(|_| u8::arbitrary(g))),
                info: Option::<Vec<u8>>::arbitrary(g).map(Bytes::from),
                piece_count,
                have,
                downloaded: u64::arbitrary(g) >> 1,
                uploaded: u64::arbitrary(g) >> 1,
                peers: peers
                    .map(|(bits, v4, port)| (ip(bits, v4), port).into())
                    .collect(),
                select: Vec::arbitrary(g),
            }
        }
    }

    fn encoded(resume: &Resume) -> Vec<u8> {
        let mut out = Vec::new();
        resume.encode(&mut out);
        out
    }

    /// A whole file around `body`, with the right checksum.
    fn file(body: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&Sha1::digest(body));
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = encoded(&Resume::default());
        assert_eq!(Resume::decode(b"hello"), Err(ResumeError::NotResumeData));
        assert_eq!(
            Resume::decode(b"hello, world"),
            Err(ResumeError::NotResumeData)
        );
        assert_eq!(Resume::decode(b""), Err(ResumeError::Damaged));
        let mut newer = good.clone();
        newer[7] = b'2';
        assert_eq!(Resume::decode(&newer), Err(ResumeError::UnknownVersion));
        assert_eq!(
            Resume::decode(&file(b"de")),
            Err(ResumeError::Field("piece_count"))
        );
        assert_eq!(Resume::decode(&file(b"i1e")), Err(ResumeError::Damaged));
    }

    #[test]
    fn a_set_that_does_not_fit_its_count_is_refused() {
        for (piece_count, have, right) in [
            (8, &[0xff][..], true),
            (9, &[0xff, 0x80], true),
            (9, &[0xff, 0xc0], false),
            (9, &[0xff], false),
            (8, &[0xff, 0], false),
            (0, &[0], false),
        ] {
            let resume = Resume {
                piece_count,
                have: have.into(),
                ..Resume::default()
            };
            assert_eq!(
                Resume::decode(&encoded(&resume)).is_ok(),
                right,
                "{piece_count}"
            );
        }
    }

    #[test]
    fn pieces_past_the_end_are_not_had() {
        let resume = Resume {
            piece_count: 9,
            have: [0x81, 0x80].into(),
            ..Resume::default()
        };
        let had: Vec<u32> = (0..99).filter(|piece| resume.has(*piece)).collect();
        assert_eq!(had, [0, 7, 8]);
    }

    quickcheck! {
        fn round_trips(resume: Resume) -> bool {
            Resume::decode(&encoded(&resume)) == Ok(resume)
        }

        fn a_torn_file_is_told(resume: Resume, at: usize) -> bool {
            let mut bytes = encoded(&resume);
            bytes.truncate(at % bytes.len());
            Resume::decode(&bytes) == Err(ResumeError::Damaged)
        }

        fn a_flipped_bit_is_told(resume: Resume, at: usize, bit: u8) -> bool {
            let mut bytes = encoded(&resume);
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            Resume::decode(&bytes).is_err()
        }

        fn arbitrary_bytes_never_panic(body: Vec<u8>) -> bool {
            Resume::decode(&body).is_err() && Resume::decode(&file(&body)).is_err()
        }
    }
}
