use alloc::vec::{self, Vec};
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use bytes::Bytes;

use super::{ConnId, JobId, SocketId, StateKind, Ticket, Work};
use crate::event::Event;
use crate::time::Duration;

/// Everything the engine can ever ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<'o> {
    /// Send one datagram: `head` followed by `body`.
    Transmit {
        /// The socket.
        socket: SocketId,
        /// The destination.
        to: SocketAddr,
        /// First part.
        head: &'o [u8],
        /// Second part, often empty.
        body: Bytes,
    },
    /// Open a stream; answered by `Connected` or `Closed`.
    Connect {
        /// The new connection's name.
        conn: ConnId,
        /// The destination.
        to: SocketAddr,
    },
    /// Take an inbound stream; it is `conn` from now on, connected.
    Accept {
        /// The waiting stream.
        ticket: Ticket,
        /// Its name from now on.
        conn: ConnId,
    },
    /// Drop an inbound stream.
    Refuse {
        /// The waiting stream.
        ticket: Ticket,
    },
    /// Send on a stream: `head` followed by `body`; `Sent` gives the bytes back as credit.
    Send {
        /// The connection.
        conn: ConnId,
        /// First part.
        head: &'o [u8],
        /// Second part, often empty.
        body: Bytes,
    },
    /// Close a stream once what was sent before has left; the id is dead from now on.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// This many more bytes may be read; without credit reading is parked.
    ReadCredit {
        /// The connection.
        conn: ConnId,
        /// Bytes, to be added to what is left.
        bytes: u32,
    },
    /// Do a job; answered by `JobDone`.
    Job {
        /// The job's name.
        job: JobId,
        /// What to do.
        work: Work<'o>,
    },
    /// The result of a job no longer matters; it may still be answered.
    CancelJob {
        /// The job.
        job: JobId,
    },
    /// Tell the embedder.
    Event(Event),
}

#[derive(Debug)]
enum Entry {
    Transmit {
        socket: SocketId,
        to: SocketAddr,
        head: Range<u32>,
        body: Bytes,
    },
    Send {
        conn: ConnId,
        head: Range<u32>,
        body: Bytes,
    },
    Resolve {
        job: JobId,
        host: Range<u32>,
        port: u16,
    },
    HttpGet {
        job: JobId,
        url: Range<u32>,
        redirected_by: Option<IpAddr>,
        max_bytes: u32,
        timeout: Duration,
    },
    SaveState {
        job: JobId,
        kind: StateKind,
        data: Range<u32>,
    },
    Plain(Output<'static>),
}

/// A reusable arena of outputs, owned by the caller.
///
/// Bytes that outputs point at live in one buffer; [`Outbox::drain`] yields outputs that live
/// side by side, so that a driver can gather many of them into one system call.
#[derive(Debug, Default)]
pub struct Outbox {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arena: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Outputs waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no output waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes every output, in order. Outputs not taken by the time the iterator is dropped are
    /// lost.
    pub fn drain(&mut self) -> Drain<'_> {
        Drain {
            entries: self.entries.drain(..),
            arena: &self.arena,
        }
    }

    /// Writes a datagram whose head `write` encodes straight into the arena.
    pub fn transmit(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>),
        body: Bytes,
    ) {
        let head = self.write(write);
        self.entries.push(Entry::Transmit {
            socket,
            to,
            head,
            body,
        });
    }

    /// Writes to a stream; `write` encodes the head straight into the arena. Returns the bytes
    /// of head and body together.
    pub fn send(&mut self, conn: ConnId, write: impl FnOnce(&mut Vec<u8>), body: Bytes) -> usize {
        let head = self.write(write);
        let len = (head.end - head.start) as usize + body.len();
        self.entries.push(Entry::Send { conn, head, body });
        len
    }

    /// The same, where the body is made after the head is written.
    pub fn send_with(&mut self, conn: ConnId, write: impl FnOnce(&mut Vec<u8>) -> Bytes) -> usize {
        let mut body = Bytes::new();
        let head = self.write(|buf| body = write(buf));
        let len = (head.end - head.start) as usize + body.len();
        self.entries.push(Entry::Send { conn, head, body });
        len
    }

    /// Asks for a name to be resolved.
    pub fn resolve(&mut self, job: JobId, host: &str, port: u16) {
        let host = self.write(|buf| buf.extend_from_slice(host.as_bytes()));
        self.entries.push(Entry::Resolve { job, host, port });
    }

    /// Asks for a URL to be fetched; see [`Work::HttpGet`].
    pub fn http_get(
        &mut self,
        job: JobId,
        url: &str,
        redirected_by: Option<IpAddr>,
        max_bytes: u32,
        timeout: Duration,
    ) {
        let url = self.write(|buf| buf.extend_from_slice(url.as_bytes()));
        self.entries.push(Entry::HttpGet {
            job,
            url,
            redirected_by,
            max_bytes,
            timeout,
        });
    }

    /// Asks for state to be saved; `write` encodes it straight into the arena.
    pub fn save_state(&mut self, job: JobId, kind: StateKind, write: impl FnOnce(&mut Vec<u8>)) {
        let data = self.write(write);
        self.entries.push(Entry::SaveState { job, kind, data });
    }

    /// Adds an output that borrows nothing.
    pub fn push(&mut self, output: Output<'static>) {
        self.begin();
        self.entries.push(Entry::Plain(output));
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// Adds any output, copying what it borrows into the arena.
    pub fn copy(&mut self, output: Output<'_>) {
        match output {
            Output::Transmit {
                socket,
                to,
                head,
                body,
            } => {
                self.transmit(socket, to, |buf| buf.extend_from_slice(head), body);
            }
            Output::Send { conn, head, body } => {
                self.send(conn, |buf| buf.extend_from_slice(head), body);
            }
            Output::Job { job, work } => match work {
                Work::Resolve { host, port } => self.resolve(job, host, port),
                Work::HttpGet {
                    url,
                    redirected_by,
                    max_bytes,
                    timeout,
                } => self.http_get(job, url, redirected_by, max_bytes, timeout),
                Work::SaveResume { torrent, resume } => {
                    self.job(job, Work::SaveResume { torrent, resume });
                }
                Work::SaveState { kind, data } => {
                    self.save_state(job, kind, |buf| buf.extend_from_slice(data));
                }
                Work::CheckSignature { item } => self.job(job, Work::CheckSignature { item }),
                Work::CheckMetadata { torrent, assembled } => {
                    self.job(job, Work::CheckMetadata { torrent, assembled });
                }
                Work::Open {
                    torrent,
                    info,
                    select,
                } => self.job(
                    job,
                    Work::Open {
                        torrent,
                        info,
                        select,
                    },
                ),
                Work::Read {
                    torrent,
                    piece,
                    begin,
                    length,
                } => {
                    self.job(
                        job,
                        Work::Read {
                            torrent,
                            piece,
                            begin,
                            length,
                        },
                    );
                }
                Work::Write {
                    torrent,
                    piece,
                    begin,
                    data,
                } => {
                    self.job(
                        job,
                        Work::Write {
                            torrent,
                            piece,
                            begin,
                            data,
                        },
                    );
                }
                Work::Hash {
                    torrent,
                    piece,
                    kind,
                } => {
                    self.job(
                        job,
                        Work::Hash {
                            torrent,
                            piece,
                            kind,
                        },
                    );
                }
                Work::HashBlocks { torrent, piece } => {
                    self.job(job, Work::HashBlocks { torrent, piece });
                }
                Work::Commit { torrent, piece } => self.job(job, Work::Commit { torrent, piece }),
                Work::Discard { torrent, piece } => {
                    self.job(job, Work::Discard { torrent, piece });
                }
                Work::CloseStorage { torrent } => self.job(job, Work::CloseStorage { torrent }),
            },
            Output::Connect { conn, to } => self.push(Output::Connect { conn, to }),
            Output::Accept { ticket, conn } => self.push(Output::Accept { ticket, conn }),
            Output::Refuse { ticket } => self.push(Output::Refuse { ticket }),
            Output::Close { conn } => self.push(Output::Close { conn }),
            Output::ReadCredit { conn, bytes } => self.push(Output::ReadCredit { conn, bytes }),
            Output::CancelJob { job } => self.push(Output::CancelJob { job }),
            Output::Event(event) => self.push(Output::Event(event)),
        }
    }

    /// Adds a job that borrows nothing.
    pub fn job(&mut self, job: JobId, work: Work<'static>) {
        self.push(Output::Job { job, work });
    }

    /// What was drained needs its bytes no more, whichever kind of output comes first now.
    fn begin(&mut self) {
        if self.entries.is_empty() {
            self.arena.clear();
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<u32> {
        self.begin();
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        start..self.arena.len() as u32
    }
}

/// The outputs of one [`Outbox::drain`].
pub struct Drain<'o> {
    entries: vec::Drain<'o, Entry>,
    arena: &'o [u8],
}

impl<'o> Iterator for Drain<'o> {
    type Item = Output<'o>;

    fn next(&mut self) -> Option<Output<'o>> {
        let arena = self.arena;
        let slice = |range: Range<u32>| &arena[range.start as usize..range.end as usize];
        Some(match self.entries.next()? {
            Entry::Transmit {
                socket,
                to,
                head,
                body,
            } => Output::Transmit {
                socket,
                to,
                head: slice(head),
                body,
            },
            Entry::Send { conn, head, body } => Output::Send {
                conn,
                head: slice(head),
                body,
            },
            Entry::Resolve { job, host, port } => {
                let host = core::str::from_utf8(slice(host)).unwrap_or_default();
                Output::Job {
                    job,
                    work: Work::Resolve { host, port },
                }
            }
            Entry::HttpGet {
                job,
                url,
                redirected_by,
                max_bytes,
                timeout,
            } => {
                // Written from a string.
                let url = core::str::from_utf8(slice(url)).unwrap_or_default();
                Output::Job {
                    job,
                    work: Work::HttpGet {
                        url,
                        redirected_by,
                        max_bytes,
                        timeout,
                    },
                }
            }
            Entry::SaveState { job, kind, data } => Output::Job {
                job,
                work: Work::SaveState {
                    kind,
                    data: slice(data),
                },
            },
            Entry::Plain(output) => output,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Drain<'_> {}

// Rule: small values. Inputs are handed around and outputs are queued by the thousand.
const _: () = assert!(size_of::<super::Input<'_>>() <= 64);
const _: () = assert!(size_of::<Output<'_>>() <= 96);
const _: () = assert!(size_of::<Entry>() <= 96);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    #[test]
    fn the_arena_does_not_grow_when_an_output_without_bytes_comes_first() {
        let mut out = Outbox::new();
        let conn = ConnId::from_bits(1);
        for _ in 0..100 {
            out.push(Output::ReadCredit { conn, bytes: 1 });
            out.send(conn, |buf| buf.extend_from_slice(&[7; 17]), Bytes::new());
            assert_eq!(out.arena.len(), 17);
            assert_eq!(out.drain().len(), 2);
        }
    }

    #[test]
    fn outputs_of_one_drain_live_side_by_side_and_the_arena_is_reused() {
        let mut out = Outbox::new();
        let conn = ConnId(Key {
            index: 1,
            generation: 0,
        });
        for round in 0..3u8 {
            out.send(conn, |buf| buf.extend_from_slice(&[round; 3]), Bytes::new());
            out.send(
                conn,
                |buf| buf.extend_from_slice(&[round + 10; 2]),
                Bytes::from_static(b"x"),
            );
            let all: Vec<_> = out.drain().collect();
            assert_eq!(all.len(), 2);
            assert_eq!(
                all[1],
                Output::Send {
                    conn,
                    head: &[round + 10; 2],
                    body: Bytes::from_static(b"x")
                }
            );
            drop(all);
            assert!(out.is_empty() && out.arena.len() == 5);
        }
    }
}
