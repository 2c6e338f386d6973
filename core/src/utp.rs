//! uTP (BEP 29), as far as a host that does not speak it: whoever tries is told so at once.
//!
//! Clients that prefer uTP, Transmission among them, come over TCP only after it failed; with no
//! answer that takes them a minute and longer.

use core::net::SocketAddr;

use bytes::Bytes;

use crate::io::{Outbox, SocketId};
use crate::time::Instant;

/// Type `ST_SYN` and version 1.
pub const SYN: u8 = 0x41;
/// Type `ST_RESET` and version 1.
const RESET: u8 = 0x31;
const HEADER: usize = 20;

/// Answers what asks for a connection with a reset; anything else with nothing. The answer is no
/// longer than what it answers.
pub fn refuse(socket: SocketId, from: SocketAddr, datagram: &[u8], now: Instant, out: &mut Outbox) {
    let Some(header) = datagram.first_chunk::<HEADER>() else {
        return;
    };
    if header[0] != SYN {
        return;
    }
    // A clock that wraps, as all times of this protocol.
    let micros = now.as_micros() as u32;
    let sent = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let write = |buf: &mut alloc::vec::Vec<u8>| {
        buf.extend_from_slice(&[RESET, 0, header[2], header[3]]);
        buf.extend_from_slice(&micros.to_be_bytes());
        buf.extend_from_slice(&micros.wrapping_sub(sent).to_be_bytes());
        // No window, no packet of ours; the one that is acknowledged is the one refused.
        buf.extend_from_slice(&[0, 0, 0, 0, 0, 0, header[16], header[17]]);
    };
    out.transmit(socket, from, write, Bytes::new());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Output;
    use std::vec::Vec;

    /// As libutp sends it: connection 0x1234, sequence number 1, and an extension after it.
    const ASKED: [u8; 26] = [
        0x41, 2, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0xab, 0xcd, 0, 4, 0, 0, 0, 0,
    ];

    fn answers(datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Outbox::new();
        let from = SocketAddr::from(([192, 0, 2, 1], 6881));
        let now = Instant::from_micros((1 << 32) + 5);
        refuse(SocketId(7), from, datagram, now, &mut out);
        let sent = out.drain().map(|output| match output {
            Output::Transmit {
                socket: SocketId(7),
                to,
                head,
                ..
            } if to == from => head.to_vec(),
            other => panic!("{other:?}"),
        });
        sent.collect()
    }

    #[test]
    fn who_asks_for_a_connection_is_refused_by_its_number() {
        let wanted = [
            0x31, 0, 0x12, 0x34, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0, 0, 0, 0, 1,
        ];
        assert_eq!(answers(&ASKED), [wanted]);
        assert_eq!(answers(&ASKED[..20]), [wanted]);
    }

    #[test]
    fn nothing_else_is_answered() {
        assert!(answers(&ASKED[..19]).is_empty());
        for first in 0..=255 {
            let mut other = ASKED;
            other[0] = first;
            assert_eq!(answers(&other).is_empty(), first != SYN, "{first}");
        }
    }
}
