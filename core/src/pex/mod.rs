//! Peer exchange (`ut_pex`, BEP 11).
//!
//! [`Message`] is what goes over the wire, [`Log`] what a torrent has to tell, and [`Told`] what
//! one peer told. What is sent when, and whom to believe, is decided by [`crate::swarm`].

mod log;
mod told;

use alloc::vec::Vec;
use core::net::SocketAddr;

pub use log::{Diff, Log};
pub use told::Told;

use crate::bencode::{self, Dict, Scratch, Writer};
use crate::compact;

/// Parts a message may have: the dictionary, six keys and their values, and a few that are not
/// known here.
const LIMITS: bencode::Limits = bencode::Limits {
    depth: 4,
    tokens: 100,
};

/// What is said of an added peer; unknown bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// It prefers encryption.
    pub const ENCRYPTION: Self = Self(0x01);
    /// It has everything, or fetches nothing (BEP 21).
    pub const SEED: Self = Self(0x02);
    /// It speaks uTP (BEP 29).
    pub const UTP: Self = Self(0x04);
    /// It speaks `ut_holepunch` (BEP 55).
    pub const HOLEPUNCH: Self = Self(0x08);
    /// Whoever tells has connected to it, so it can be reached.
    pub const REACHABLE: Self = Self(0x10);

    /// These flags, and `other` if `on`.
    #[must_use]
    pub const fn with(self, other: Self, on: bool) -> Self {
        if on { Self(self.0 | other.0) } else { self }
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Compact endpoints of one family, and the flags of each where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contacts<'a> {
    endpoints: &'a [u8],
    flags: &'a [u8],
    /// Bytes of an endpoint.
    size: usize,
}

impl<'a> Contacts<'a> {
    /// Bytes after the last whole endpoint mean nothing, nor do flags that are too many; flags
    /// that are missing are 0.
    fn read(root: Dict<'_, 'a>, endpoints: &[u8], flags: Option<&[u8]>, size: usize) -> Self {
        let flags = flags.and_then(|name| root.bytes(name));
        Self {
            endpoints: root.bytes(endpoints).unwrap_or_default(),
            flags: flags.unwrap_or_default(),
            size,
        }
    }

    /// The endpoints, in the order in which they were written.
    pub fn iter(self) -> impl Iterator<Item = (SocketAddr, Flags)> + 'a {
        let endpoints = self.endpoints.chunks_exact(self.size.max(1));
        endpoints.enumerate().filter_map(move |(at, bytes)| {
            let flags = self.flags.get(at).copied().unwrap_or_default();
            Some((compact::decode(bytes)?, Flags(flags)))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.endpoints.len() / self.size.max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A message, read where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message<'a> {
    /// `added` and `added.f`: peers that were connected to, IPv4.
    pub added: Contacts<'a>,
    /// The same for IPv6.
    pub added6: Contacts<'a>,
    /// `dropped`: peers that left, IPv4.
    pub dropped: Contacts<'a>,
    /// The same for IPv6.
    pub dropped6: Contacts<'a>,
}

/// It is no dictionary, or has too many parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Message<'a> {
    /// Reads what follows the extension number. Nothing is copied; `scratch` can be used again
    /// and then nothing is allocated either. Fields of the wrong type are read as left out.
    ///
    /// # Errors
    /// It is no dictionary, or has too many parts.
    pub fn decode(payload: &'a [u8], scratch: &mut Scratch) -> Result<Self, Malformed> {
        let view = bencode::decode_in(scratch, payload, &LIMITS).map_err(|_| Malformed)?;
        let root = view.root().as_dict().ok_or(Malformed)?;
        let (v4, v6) = (compact::V4_LEN, compact::V6_LEN);
        Ok(Self {
            added: Contacts::read(root, b"added", Some(b"added.f"), v4),
            added6: Contacts::read(root, b"added6", Some(b"added6.f"), v6),
            dropped: Contacts::read(root, b"dropped", None, v4),
            dropped6: Contacts::read(root, b"dropped6", None, v6),
        })
    }

    /// Peers that were connected to, of both families.
    pub fn all_added(self) -> impl Iterator<Item = (SocketAddr, Flags)> + 'a {
        self.added.iter().chain(self.added6.iter())
    }

    /// Peers that left, of both families.
    pub fn all_dropped(self) -> impl Iterator<Item = SocketAddr> + 'a {
        let dropped = self.dropped.iter().chain(self.dropped6.iter());
        dropped.map(|(addr, _)| addr)
    }
}

/// Appends a message; fields without contacts are left out. One without any field must not be
/// sent: see to it that there is something to tell.
pub fn encode(added: &[(SocketAddr, Flags)], dropped: &[SocketAddr], buf: &mut Vec<u8>) {
    buf.push(b'd');
    for (v6, endpoints, flags) in [
        (false, &b"added"[..], &b"added.f"[..]),
        (true, b"added6", b"added6.f"),
    ] {
        let these = added.iter().filter(|(addr, _)| addr.is_ipv6() == v6);
        let count = these.clone().count();
        put_endpoints(endpoints, these.clone().map(|(addr, _)| *addr), count, buf);
        if count > 0 {
            Writer::new(buf).key(flags);
            put_length(count, buf);
            buf.extend(these.map(|(_, flags)| flags.0));
        }
    }
    for (v6, endpoints) in [(false, &b"dropped"[..]), (true, b"dropped6")] {
        let these = dropped.iter().filter(|addr| addr.is_ipv6() == v6);
        put_endpoints(endpoints, these.clone().copied(), these.count(), buf);
    }
    buf.push(b'e');
}

fn put_endpoints(
    name: &[u8],
    addrs: impl Iterator<Item = SocketAddr>,
    count: usize,
    buf: &mut Vec<u8>,
) {
    if count == 0 {
        return;
    }
    Writer::new(buf).key(name);
    let size = if name.ends_with(b"6") {
        compact::V6_LEN
    } else {
        compact::V4_LEN
    };
    put_length(count * size, buf);
    for addr in addrs {
        buf.extend_from_slice(compact::encode(addr).as_bytes());
    }
}

/// The length in front of a string whose bytes follow.
fn put_length(length: usize, buf: &mut Vec<u8>) {
    Writer::new(buf).length(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use quickcheck::quickcheck;

    fn read(payload: &[u8]) -> Result<Message<'_>, Malformed> {
        Message::decode(payload, &mut Scratch::new())
    }

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([16, 0, 0, n], 6881))
    }

    #[test]
    fn both_families_and_their_flags_are_where_bep_11_puts_them() {
        let six = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 258));
        let added = [(addr(1), Flags::SEED), (six, Flags(0x91))];
        let mut buf = Vec::new();
        encode(&added, &[six, addr(2)], &mut buf);
        let mut text = b"d5:added6:\x10\0\0\x01\x1a\xe17:added.f1:\x02".to_vec();
        text.extend_from_slice(b"6:added618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02");
        text.extend_from_slice(b"8:added6.f1:\x917:dropped6:\x10\0\0\x02\x1a\xe1");
        text.extend_from_slice(b"8:dropped618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02e");
        assert_eq!(buf, text);
        let message = read(&buf).unwrap();
        assert_eq!(message.all_added().collect::<Vec<_>>(), added);
        assert_eq!(message.all_dropped().collect::<Vec<_>>(), [addr(2), six]);
    }

    #[test]
    fn fields_that_are_missing_wrong_or_cut_are_no_reason_to_stumble() {
        let message = read(b"de").unwrap();
        assert_eq!(message.all_added().count(), 0);
        // Flags are missing, too few or too many; endpoints are cut; a number is no string.
        for text in [
            &b"d5:added8:\x10\0\0\x01\x1a\xe1xxe"[..],
            b"d5:added6:\x10\0\0\x01\x1a\xe17:added.f0:e",
            b"d5:added6:\x10\0\0\x01\x1a\xe17:added.f3:\0\0\0e",
            b"d5:added6:\x10\0\0\x01\x1a\xe17:added.fi2e7:droppedi5e3:xyzlee",
        ] {
            let message = read(text).unwrap();
            let added: Vec<_> = message.all_added().collect();
            assert_eq!(added, [(addr(1), Flags(0))], "{}", text.escape_ascii());
            assert_eq!(message.dropped.len(), 0);
        }
        for text in [&b""[..], b"le", b"i5e", b"d5:added", b"d5:added6:abcdee"] {
            assert_eq!(read(text), Err(Malformed), "{}", text.escape_ascii());
        }
        let mut many = b"d".to_vec();
        for number in 0..60u8 {
            many.extend_from_slice(&[b'2', b':', b'a', number, b'0', b':']);
        }
        many.push(b'e');
        assert_eq!(read(&many), Err(Malformed));
    }

    #[test]
    fn a_used_scratch_is_used_again() {
        let mut scratch = Scratch::new();
        for n in 0..3 {
            let mut buf = Vec::new();
            encode(&[(addr(n), Flags::default())], &[], &mut buf);
            let message = Message::decode(&buf, &mut scratch).unwrap();
            assert_eq!(message.added.iter().next(), Some((addr(n), Flags(0))));
        }
    }

    fn endpoints(raw: Vec<(u128, u16, bool)>) -> Vec<SocketAddr> {
        let addr = |(ip, port, v6): (u128, u16, bool)| {
            let ip = match v6 {
                true => core::net::IpAddr::V6(ip.into()),
                false => core::net::IpAddr::V4((ip as u32).into()),
            };
            SocketAddr::new(ip, port)
        };
        raw.into_iter().map(addr).collect()
    }

    quickcheck! {
        fn what_is_written_is_read(
            added: Vec<((u128, u16, bool), u8)>, dropped: Vec<(u128, u16, bool)>
        ) -> bool {
            let (added, flags): (Vec<_>, Vec<_>) = added.into_iter().unzip();
            let mut added: Vec<_> = endpoints(added)
                .into_iter()
                .zip(flags.into_iter().map(Flags))
                .collect();
            let mut dropped = endpoints(dropped);
            let mut buf = vec![b'x'];
            encode(&added, &dropped, &mut buf);
            // It comes out by family, each in its order.
            added.sort_by_key(|(addr, _)| addr.is_ipv6());
            dropped.sort_by_key(SocketAddr::is_ipv6);
            let message = read(&buf[1..]).unwrap();
            message.all_added().eq(added) && message.all_dropped().eq(dropped)
        }

        fn what_is_read_is_written_the_same(bytes: Vec<u8>, flags: Vec<u8>, six: bool) -> bool {
            let mut text = b"d".to_vec();
            let mut writer = Writer::new(&mut text);
            let names = if six { (b"added6", "added6.f") } else { (b"added6", "added.f") };
            writer.key(&names.0[..if six { 6 } else { 5 }]).bytes(&bytes);
            writer.key(names.1.as_bytes()).bytes(&flags).end();
            let message = read(&text).unwrap();
            let added: Vec<_> = message.all_added().collect();
            let mut again = Vec::new();
            encode(&added, &[], &mut again);
            let size = if six { 18 } else { 6 };
            let right = read(&again).unwrap().all_added().eq(added.iter().copied());
            right && added.len() == bytes.len() / size
        }

        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
            !read(&bytes).is_ok_and(|message| {
                message.all_added().count() + message.all_dropped().count() > bytes.len()
            })
        }
    }
}
