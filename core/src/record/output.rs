//! One number for all outputs.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::checksum::Chain;
use crate::event::Event;
use crate::io::{Output, StateKind, Work};

/// A chained 64-bit hash over outputs, in order.
///
/// Every field of every output counts, but for explanations ([`Event::Explained`]): the same
/// decisions have the same hash, told or not. It is a [`Chain`]: it tells accidents apart, not
/// adversaries, and is the same on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputHash(Chain);

impl Default for OutputHash {
    fn default() -> Self {
        Self::new()
    }
}

impl OutputHash {
    /// The hash of no outputs.
    #[must_use]
    pub const fn new() -> Self {
        Self(Chain::new(0x7472_6163_6b65_726c))
    }

    /// The hash so far.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0.value()
    }

    /// Takes in one output.
    pub fn absorb(&mut self, output: &Output<'_>) {
        match output {
            Output::Transmit {
                socket,
                to,
                head,
                body,
            } => {
                self.number(1);
                self.number(u64::from(socket.0));
                self.debug(to);
                self.bytes(head);
                self.bytes(body);
            }
            Output::Connect { conn, to } => {
                self.number(2);
                self.number(conn.to_bits());
                self.debug(to);
            }
            Output::Accept { ticket, conn } => {
                self.number(3);
                self.number(ticket.0);
                self.number(conn.to_bits());
            }
            Output::Refuse { ticket } => {
                self.number(4);
                self.number(ticket.0);
            }
            Output::Send { conn, head, body } => {
                self.number(5);
                self.number(conn.to_bits());
                self.bytes(head);
                self.bytes(body);
            }
            Output::Close { conn } => {
                self.number(6);
                self.number(conn.to_bits());
            }
            Output::ReadCredit { conn, bytes } => {
                self.number(7);
                self.number(conn.to_bits());
                self.number(u64::from(*bytes));
            }
            Output::Job { job, work } => {
                self.number(8);
                self.number(job.to_bits());
                self.work(work);
            }
            Output::CancelJob { job } => {
                self.number(9);
                self.number(job.to_bits());
            }
            Output::Event(Event::Explained(_)) => {}
            Output::Event(event) => {
                self.number(10);
                self.debug(event);
            }
        }
    }

    fn work(&mut self, work: &Work<'_>) {
        match work {
            Work::CheckMetadata { torrent, assembled } => {
                let parts = assembled.parts();
                self.numbers(&[10, torrent.to_bits(), parts.len() as u64]);
                parts.iter().for_each(|part| self.bytes(part));
                self.debug(assembled.hashes());
            }
            Work::CheckSignature { item } => {
                self.number(14);
                self.bytes(item.value());
                self.debug(&item.signed());
            }
            Work::Open {
                torrent,
                info,
                select,
            } => {
                self.numbers(&[1, torrent.to_bits()]);
                self.bytes(&info.raw);
                self.debug(select);
            }
            Work::Read {
                torrent,
                piece,
                begin,
                length,
            } => {
                let block = [u64::from(*piece), u64::from(*begin), u64::from(*length)];
                self.numbers(&[2, torrent.to_bits()]);
                self.numbers(&block);
            }
            Work::Write {
                torrent,
                piece,
                begin,
                data,
            } => {
                self.numbers(&[3, torrent.to_bits(), u64::from(*piece), u64::from(*begin)]);
                self.bytes(data);
            }
            Work::Hash {
                torrent,
                piece,
                kind,
            } => {
                self.numbers(&[4, torrent.to_bits(), u64::from(*piece)]);
                self.debug(kind);
            }
            Work::HashBlocks { torrent, piece } => {
                self.numbers(&[13, torrent.to_bits(), u64::from(*piece)]);
            }
            Work::Commit { torrent, piece } => {
                self.numbers(&[5, torrent.to_bits(), u64::from(*piece)]);
            }
            Work::Discard { torrent, piece } => {
                self.numbers(&[6, torrent.to_bits(), u64::from(*piece)]);
            }
            Work::CloseStorage { torrent } => self.numbers(&[7, torrent.to_bits()]),
            Work::Resolve { host, port } => {
                self.numbers(&[8, u64::from(*port)]);
                self.bytes(host.as_bytes());
            }
            Work::HttpGet {
                url,
                redirected_by,
                max_bytes,
                timeout,
            } => {
                self.numbers(&[12, u64::from(*max_bytes), timeout.as_micros() as u64]);
                self.debug(redirected_by);
                self.bytes(url.as_bytes());
            }
            Work::SaveResume { torrent, resume } => {
                let mut data = Vec::new();
                resume.encode(&mut data);
                self.numbers(&[11, torrent.to_bits()]);
                self.bytes(&data);
            }
            Work::SaveState { kind, data } => {
                self.number(9);
                match kind {
                    StateKind::DhtTable => self.number(1),
                    StateKind::Resume(hash) => self.bytes(&hash.0),
                }
                self.bytes(data);
            }
        }
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    fn number(&mut self, number: u64) {
        self.0.number(number);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.bytes(bytes);
    }

    /// Events have many shapes and are rare beside bytes: their text is what is hashed.
    fn debug(&mut self, value: &dyn fmt::Debug) {
        let _ = write!(self, "{value:?}");
        self.number(0);
    }
}

impl fmt::Write for OutputHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{ConnId, JobId, SocketId};
    use alloc::vec::Vec;
    use bytes::Bytes;

    #[test]
    fn every_field_counts_and_so_does_the_order() {
        let (conn, other) = (ConnId::from_bits(1), ConnId::from_bits(1 << 32));
        let body = Bytes::from_static(b"b");
        let to = "127.0.0.1:1".parse().unwrap();
        let socket = SocketId(0);
        let none = Bytes::new();
        let outputs = [
            Output::Close { conn },
            Output::Close { conn: other },
            Output::Send {
                conn,
                head: b"a",
                body: body.clone(),
            },
            Output::Send {
                conn,
                head: b"ab",
                body: none.clone(),
            },
            Output::Send {
                conn,
                head: b"",
                body,
            },
            Output::Transmit {
                socket,
                to,
                head: b"a",
                body: none.clone(),
            },
            Output::Transmit {
                socket: SocketId(1),
                to,
                head: b"a",
                body: none,
            },
            Output::ReadCredit { conn, bytes: 1 },
            Output::CancelJob {
                job: JobId::from_bits(1),
            },
        ];
        let hash = |outputs: &[&Output<'_>]| {
            let mut hash = OutputHash::new();
            outputs.iter().for_each(|output| hash.absorb(output));
            hash.value()
        };
        let mut seen: Vec<u64> = outputs.iter().map(|output| hash(&[output])).collect();
        seen.push(hash(&[]));
        seen.push(hash(&[&outputs[0], &outputs[1]]));
        seen.push(hash(&[&outputs[1], &outputs[0]]));
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
