//! Bytes read as decisions.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use trackerless_core::dht::item::Item;
use trackerless_core::time::{Duration, Instant};

/// Decisions taken from the front of a byte string; all are 0 once it is used up.
#[derive(Clone, Debug)]
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(super) fn number(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(super) fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let take = self.bytes(N);
        out[..take.len()].copy_from_slice(take);
        out
    }

    /// At most `len` bytes, fewer at the end.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A byte string with its length before it.
    pub(super) fn string(&mut self) -> &'a [u8] {
        let len = usize::from(self.number());
        self.bytes(len)
    }

    /// An index below `len`; `None` when there is nothing to pick from.
    pub(super) fn index(&mut self, len: usize) -> Option<usize> {
        let pick = usize::from(self.number());
        pick.checked_rem(len)
    }

    /// A later time: microseconds, milliseconds, or seconds away.
    pub(super) fn later(&mut self, now: Instant) -> Instant {
        let unit = [1, 1_000, 1_000_000][usize::from(self.byte() % 3)];
        now + Duration::from_micros(u64::from(self.number()) * unit)
    }
}

/// The torrent that runs are about: three pieces of 32 KiB, the last one shorter, and two trackers.
pub(super) fn torrent() -> Vec<u8> {
    let mut file = b"d13:announce-list".to_vec();
    file.extend(b"ll27:udp://10.77.0.9:80/announceel25:http://10.77.0.8/announceee");
    file.extend(b"4:infod6:lengthi70000e4:name4:file12:piece lengthi32768e6:pieces60:");
    for piece in 0..3u8 {
        file.extend([piece + 1; 20]);
    }
    file.extend(b"ee");
    file
}

/// One of a few hundred addresses, so that scripts meet the same ones again.
pub(super) fn address(script: &mut Script<'_>) -> SocketAddr {
    let (a, b) = (script.byte(), script.byte());
    let port = 1 + u16::from(a);
    match b % 4 {
        0 => SocketAddr::new(Ipv4Addr::new(127, 0, 0, a).into(), port),
        1 => SocketAddr::new(Ipv4Addr::new(10, 77, b, a).into(), port),
        2 => SocketAddr::new(Ipv4Addr::new(a, 3, 4, b).into(), port),
        _ => SocketAddr::new(
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, b.into(), a.into()).into(),
            port,
        ),
    }
}

/// A reply to the query in `datagram` with an item, and fields of the script; `None` when it was no query.
pub(super) fn answer(
    datagram: &[u8],
    item: Option<&Item>,
    script: &mut Script<'_>,
) -> Option<Vec<u8>> {
    let message = trackerless_core::dht::krpc::Message::decode(datagram).ok()?;
    let mut reply = b"d1:rd2:id20:".to_vec();
    reply.extend(script.array::<20>());
    if let Some(item) = item {
        reply.extend(b"8:intervali60e");
        if let Some(signed) = item.signed() {
            reply.extend(b"1:k32:");
            reply.extend(signed.key);
            reply.extend(format!("3:seqi{}e3:sig64:", signed.seq).bytes());
            reply.extend(signed.signature);
        }
        reply.extend(b"3:numi1e7:samples20:");
        reply.extend(item.target().0);
        reply.extend(b"1:v");
        reply.extend(&item.value()[..]);
        reply.extend(b"4:BFsd256:");
        reply.extend([item.value()[2]; 256]);
    }
    if script.byte() & 1 != 0 {
        let count = usize::from(script.byte() % 9);
        let nodes = script.bytes(26 * count);
        reply.extend(format!("5:nodes{}:", nodes.len()).bytes());
        reply.extend(nodes);
    }
    if script.byte() & 1 != 0 {
        reply.extend(b"5:token4:abcd6:valuesl6:");
        reply.extend(script.array::<6>());
        reply.extend(b"e");
    }
    reply.extend(format!("e1:t{}:", message.transaction.len()).bytes());
    reply.extend(message.transaction);
    reply.extend(b"1:y1:re");
    Some(reply)
}
