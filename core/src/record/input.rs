//! Inputs as bytes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::RecordError;
use super::codec::{Codec, Reader, codec_enum, codec_struct, put_bytes};
use crate::dht::item::{Item, Signed};
use crate::io::{
    AddTorrent, Command, Digest, HttpAnswer, Input, IoReason, JobError, JobResult, Opened, Rates,
    SocketId, Source,
};
use crate::metadata::Checked;
use crate::metainfo::{Ignored, Info, Rules, Torrent};
use crate::resume::Resume;

/// An input that owns its bytes.
#[derive(Debug)]
pub enum OwnedInput {
    /// [`Input::Datagram`].
    Datagram {
        /// Where it arrived.
        socket: SocketId,
        /// Who sent it.
        from: SocketAddr,
        /// What it says.
        payload: Bytes,
    },
    /// Any other input: those own what they carry.
    Other(Input<'static>),
}

impl OwnedInput {
    /// Hands the input to `handle`.
    pub fn feed<R>(self, handle: impl FnOnce(Input<'_>) -> R) -> R {
        match self {
            Self::Datagram {
                socket,
                from,
                payload,
            } => handle(Input::Datagram {
                socket,
                from,
                payload: &payload,
            }),
            Self::Other(input) => handle(input),
        }
    }
}

const TICK: u8 = 0;
const SOCKET_UP: u8 = 1;
const SOCKET_DOWN: u8 = 2;
const WALL_CLOCK: u8 = 3;
const DATAGRAM: u8 = 4;
const SEND_FAILED: u8 = 5;
const INCOMING: u8 = 6;
const CONNECTED: u8 = 7;
const RECEIVED: u8 = 8;
const SENT: u8 = 9;
const CLOSED: u8 = 10;
const JOB_DONE: u8 = 11;
const COMMAND: u8 = 12;

pub(super) fn put(input: &Input<'_>, out: &mut Vec<u8>) {
    match input {
        Input::Tick => TICK.put(out),
        Input::SocketUp { socket, local } => {
            SOCKET_UP.put(out);
            socket.put(out);
            local.put(out);
        }
        Input::SocketDown { socket, reason } => {
            SOCKET_DOWN.put(out);
            socket.put(out);
            reason.put(out);
        }
        Input::WallClock { unix } => {
            WALL_CLOCK.put(out);
            unix.put(out);
        }
        Input::Datagram {
            socket,
            from,
            payload,
        } => {
            DATAGRAM.put(out);
            socket.put(out);
            from.put(out);
            put_bytes(payload, out);
        }
        Input::SendFailed { socket, to, reason } => {
            SEND_FAILED.put(out);
            socket.put(out);
            to.put(out);
            reason.put(out);
        }
        Input::Incoming { ticket, from } => {
            INCOMING.put(out);
            ticket.put(out);
            from.put(out);
        }
        Input::Connected { conn } => {
            CONNECTED.put(out);
            conn.put(out);
        }
        Input::Received { conn, data } => {
            RECEIVED.put(out);
            conn.put(out);
            data.put(out);
        }
        Input::Sent { conn, bytes } => {
            SENT.put(out);
            conn.put(out);
            bytes.put(out);
        }
        Input::Closed { conn, reason } => {
            CLOSED.put(out);
            conn.put(out);
            reason.put(out);
        }
        Input::JobDone { job, result } => {
            JOB_DONE.put(out);
            job.put(out);
            result.put(out);
        }
        Input::Command { tag, command } => {
            COMMAND.put(out);
            tag.put(out);
            command.put(out);
        }
    }
}

pub(super) fn take(reader: &mut Reader<'_>) -> Result<OwnedInput, RecordError> {
    let r = reader;
    Ok(OwnedInput::Other(match u8::take(r)? {
        TICK => Input::Tick,
        SOCKET_UP => Input::SocketUp {
            socket: Codec::take(r)?,
            local: Codec::take(r)?,
        },
        SOCKET_DOWN => Input::SocketDown {
            socket: Codec::take(r)?,
            reason: Codec::take(r)?,
        },
        WALL_CLOCK => Input::WallClock {
            unix: Codec::take(r)?,
        },
        DATAGRAM => {
            let (socket, from) = (Codec::take(r)?, Codec::take(r)?);
            return Ok(OwnedInput::Datagram {
                socket,
                from,
                payload: Codec::take(r)?,
            });
        }
        SEND_FAILED => Input::SendFailed {
            socket: Codec::take(r)?,
            to: Codec::take(r)?,
            reason: Codec::take(r)?,
        },
        INCOMING => Input::Incoming {
            ticket: Codec::take(r)?,
            from: Codec::take(r)?,
        },
        CONNECTED => Input::Connected {
            conn: Codec::take(r)?,
        },
        RECEIVED => Input::Received {
            conn: Codec::take(r)?,
            data: Codec::take(r)?,
        },
        SENT => Input::Sent {
            conn: Codec::take(r)?,
            bytes: Codec::take(r)?,
        },
        CLOSED => Input::Closed {
            conn: Codec::take(r)?,
            reason: Codec::take(r)?,
        },
        JOB_DONE => Input::JobDone {
            job: Codec::take(r)?,
            result: Codec::take(r)?,
        },
        COMMAND => Input::Command {
            tag: Codec::take(r)?,
            command: Codec::take(r)?,
        },
        _ => return Err(RecordError::Invalid("kind of input")),
    }))
}

codec_enum!(IoReason {
    0 => Eof,
    1 => Reset,
    2 => Refused,
    3 => Unreachable,
    4 => TimedOut,
    5 => NoBuffers,
    6 => AddressUnavailable,
    7 => Local,
    8 => Other,
});
codec_enum!(JobError {
    0 => Missing,
    1 => NoSpace,
    2 => Permission,
    3 => Io,
    4 => NotFound,
    5 => Cancelled,
    6 => Unsupported,
    7 => ReadOnly,
    8 => InTheWay,
    9 => TooManyFiles,
    10 => TimedOut,
    11 => TooLarge,
    12 => Forbidden,
    13 => Unreachable,
    14 => Changed,
    15 => Internal,
});
codec_enum!(Digest { 0 => Sha1(hash), 1 => Merkle(hash) });
codec_struct!(Opened { present });
codec_struct!(HttpAnswer {
    status,
    from,
    location,
    body,
});
codec_enum!(JobResult {
    0 => Opened(opened),
    1 => Read(data),
    2 => Written,
    3 => Hashed(digest),
    4 => Committed,
    5 => Discarded,
    6 => ClosedStorage,
    7 => Resolved(addrs),
    8 => Saved,
    9 => Failed(error),
    10 => Metadata(checked),
    11 => Http(answer),
    12 => BlocksHashed(hashes),
    13 => Signature(good),
});
codec_enum!(Checked { 0 => Right(info), 1 => Unreadable, 2 => WrongHash });

/// Its bytes say everything; they are read anew.
impl Codec for Arc<Info> {
    fn put(&self, out: &mut Vec<u8>) {
        self.raw.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        // How many pieces are too many was decided when it was recorded.
        let rules = Rules {
            max_pieces: u32::MAX,
            ..Rules::default()
        };
        let info = Info::parse_with(Bytes::take(reader)?, &rules);
        info.map(Self::new)
            .map_err(|_| RecordError::Invalid("metadata"))
    }
}
impl Codec for Arc<Torrent> {
    fn put(&self, out: &mut Vec<u8>) {
        Torrent::put(self, out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Torrent::take(reader).map(Self::new)
    }
}
impl Codec for Arc<Item> {
    fn put(&self, out: &mut Vec<u8>) {
        self.value().put(out);
        self.signed().cloned().put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let value = Bytes::take(reader)?;
        let item = match Codec::take(reader)? {
            Some(signed) => Item::mutable(value, signed),
            None => Item::immutable(value),
        };
        item.map(Self::new)
            .map_err(|_| RecordError::Invalid("item"))
    }
}
codec_struct!(Signed {
    key,
    signature,
    seq,
    salt,
});
codec_struct!(Ignored {
    part,
    found,
    expected,
});
codec_struct!(Torrent {
    info,
    nodes,
    trackers,
    web_seeds,
    comment,
    created_by,
    creation_date,
    piece_layers,
    ignored,
});
codec_struct!(Resume {
    info_hash,
    info,
    piece_count,
    have,
    downloaded,
    uploaded,
    peers,
    select,
});
codec_enum!(Source { 0 => Magnet(text), 1 => Torrent(torrent) });
codec_struct!(AddTorrent {
    source,
    resume,
    info,
    peers,
    select,
    sequential,
    metadata_only,
    super_seed,
    serve_only,
    check,
});
codec_struct!(Rates { download, upload });
codec_enum!(Command {
    0 => AddTorrent(add),
    1 => RemoveTorrent(torrent),
    2 => AddPeer(torrent, addr),
    3 => AddDhtNode(addr),
    4 => DhtBootstrap(addrs),
    5 => DhtBootstrapNames(names),
    6 => DhtLoad(data),
    7 => DhtPing(addr),
    8 => DhtFindNode(id),
    9 => DhtGetPeers(hash),
    10 => DhtAnnounce(hash, port),
    11 => Save,
    12 => Shutdown,
    13 => LimitTorrent(torrent, rates),
    14 => DhtScrape(hash),
    15 => DhtSample(addr),
    16 => DhtGet(target, salt),
    17 => DhtPut(item, cas),
});

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::String;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::format;

    use bytes::BytesMut;
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::super::{decode_input, encode_input};
    use super::*;
    use crate::dht::item::bencoded;
    use crate::id::Id20;
    use crate::io::{ConnId, JobId, Tag, Ticket, TorrentId};

    /// An input of any kind, made from random parts.
    #[derive(Clone, Debug)]
    struct Any {
        kind: u8,
        number: u64,
        bytes: Vec<u8>,
        text: String,
        port: u16,
        flag: bool,
    }

    impl Arbitrary for Any {
        fn arbitrary(g: &mut Gen) -> Self {
            Self {
                kind: u8::arbitrary(g),
                number: u64::arbitrary(g),
                bytes: Vec::arbitrary(g),
                text: String::arbitrary(g),
                port: u16::arbitrary(g),
                flag: bool::arbitrary(g),
            }
        }
    }

    impl Any {
        fn addr(&self) -> SocketAddr {
            let ip: IpAddr = if self.flag {
                Ipv4Addr::from(self.number as u32).into()
            } else {
                Ipv6Addr::from(u128::from(self.number) << 40).into()
            };
            SocketAddr::new(ip, self.port)
        }

        fn info(&self) -> Arc<Info> {
            let text = format!(
                "d6:lengthi{}e4:name1:x12:piece lengthi65536e6:pieces20:{}e",
                u32::from(self.port) + 1,
                "-".repeat(20)
            );
            Arc::new(Info::parse(text.into()).expect("it is right"))
        }

        fn torrent(&self) -> Torrent {
            let text = || self.flag.then(|| self.text.clone());
            Torrent {
                info: self.info(),
                nodes: [(self.text.clone(), self.port)].into(),
                trackers: [[self.text.clone()].into()].into(),
                web_seeds: text().into_iter().collect(),
                comment: text(),
                created_by: None,
                creation_date: self.flag.then_some(-(self.number as i64)),
                piece_layers: (0..self.kind % 3)
                    .map(|layer| ([layer; 32], self.bytes.clone().into()))
                    .collect(),
                ignored: text()
                    .into_iter()
                    .map(|part| Ignored {
                        found: part.clone(),
                        expected: self.text.clone(),
                        part,
                    })
                    .collect(),
            }
        }

        fn item(&self) -> Arc<Item> {
            let value = bencoded(&self.bytes);
            let salt = Bytes::copy_from_slice(&self.bytes[..self.bytes.len().min(64)]);
            let signed = Signed {
                key: [self.kind; 32],
                signature: [!self.kind; 64],
                seq: self.port.into(),
                salt,
            };
            let item = if self.flag {
                Item::mutable(value, signed)
            } else {
                Item::immutable(value)
            };
            Arc::new(item.expect("it is short"))
        }

        fn resume(&self) -> Resume {
            Resume {
                info_hash: Id20([self.kind; 20]),
                info: self.flag.then(|| self.bytes.clone().into()),
                piece_count: self.port.into(),
                have: self.bytes.clone(),
                downloaded: self.number,
                uploaded: !self.number,
                peers: [self.addr()].into(),
                select: [self.port.into()].into(),
            }
        }

        fn result(&self) -> JobResult {
            match self.number % 22 {
                12 => JobResult::Metadata(Checked::WrongHash),
                13 => JobResult::Metadata(Checked::Unreadable),
                14 => JobResult::Metadata(Checked::Right(self.info())),
                0 => JobResult::Opened(Box::new(Opened {
                    present: self.bytes.clone(),
                })),
                1 => JobResult::Read(self.bytes.clone().into()),
                2 => JobResult::Written,
                3 => JobResult::Hashed(Digest::Sha1([self.kind; 20])),
                4 => JobResult::Hashed(Digest::Merkle([self.kind; 32])),
                21 => JobResult::Signature(self.flag),
                5 => JobResult::Committed,
                6 => JobResult::Discarded,
                7 => JobResult::ClosedStorage,
                8 => JobResult::Resolved([self.addr().ip()].into()),
                9 => JobResult::Saved,
                10 => JobResult::Failed(JobError::NoSpace),
                20 => JobResult::BlocksHashed([[self.kind; 20]; 3].into()),
                15 => JobResult::Failed(JobError::ReadOnly),
                16 => JobResult::Failed(JobError::InTheWay),
                17 => JobResult::Failed(JobError::TooManyFiles),
                18 => JobResult::Http(Box::new(HttpAnswer {
                    status: self.port,
                    from: self.addr().ip(),
                    location: self.flag.then(|| self.text.clone()),
                    body: self.bytes.clone().into(),
                })),
                19 => JobResult::Failed(
                    [
                        JobError::TimedOut,
                        JobError::TooLarge,
                        JobError::Forbidden,
                        JobError::Unreachable,
                        JobError::Changed,
                        JobError::Internal,
                    ][usize::from(self.port % 6)],
                ),
                _ => JobResult::Failed(JobError::Unsupported),
            }
        }

        fn command(&self) -> Command {
            let torrent = TorrentId::from_bits(self.number);
            let id = Id20([self.kind; 20]);
            match self.number % 19 {
                14 => Command::LimitTorrent(
                    torrent,
                    Rates {
                        download: self.port.into(),
                        upload: self.number,
                    },
                ),
                15 => Command::DhtScrape(id),
                16 => Command::DhtSample(self.addr()),
                17 => Command::DhtGet(id, self.bytes.clone().into()),
                18 => Command::DhtPut(self.item(), self.flag.then_some(self.number as i64)),
                0 => Command::AddTorrent(AddTorrent {
                    resume: self.flag.then(|| self.resume().into()),
                    info: self.flag.then(|| self.info()),
                    peers: [self.addr()].into(),
                    select: [1, 5].into(),
                    sequential: self.flag,
                    super_seed: self.flag,
                    serve_only: !self.flag,
                    ..AddTorrent::new(Source::Magnet(self.text.clone()))
                }),
                1 => Command::AddTorrent(AddTorrent::new(Source::Torrent(self.torrent().into()))),
                2 => Command::RemoveTorrent(torrent),
                3 => Command::AddPeer(torrent, self.addr()),
                4 => Command::AddDhtNode(self.addr()),
                5 => Command::DhtBootstrap([self.addr()].into()),
                6 => Command::DhtBootstrapNames([(self.text.clone(), self.port)].into()),
                7 => Command::DhtLoad(self.bytes.clone().into()),
                8 => Command::DhtPing(self.addr()),
                9 => Command::DhtFindNode(id),
                10 => Command::DhtGetPeers(id),
                11 => Command::DhtAnnounce(id, self.flag.then_some(self.port)),
                12 => Command::Save,
                _ => Command::Shutdown,
            }
        }

        fn input(&self) -> Input<'_> {
            let (socket, conn) = (SocketId(self.number as u32), ConnId::from_bits(self.number));
            let reason = if self.flag {
                IoReason::Reset
            } else {
                IoReason::Other
            };
            match self.kind % 13 {
                TICK => Input::Tick,
                SOCKET_UP => Input::SocketUp {
                    socket,
                    local: self.addr(),
                },
                SOCKET_DOWN => Input::SocketDown { socket, reason },
                WALL_CLOCK => Input::WallClock { unix: self.number },
                DATAGRAM => Input::Datagram {
                    socket,
                    from: self.addr(),
                    payload: &self.bytes,
                },
                SEND_FAILED => Input::SendFailed {
                    socket,
                    to: self.addr(),
                    reason,
                },
                INCOMING => Input::Incoming {
                    ticket: Ticket(self.number),
                    from: self.addr(),
                },
                CONNECTED => Input::Connected { conn },
                RECEIVED => Input::Received {
                    conn,
                    data: BytesMut::from(&self.bytes[..]),
                },
                SENT => Input::Sent {
                    conn,
                    bytes: self.number as u32,
                },
                CLOSED => Input::Closed { conn, reason },
                JOB_DONE => Input::JobDone {
                    job: JobId::from_bits(self.number),
                    result: self.result(),
                },
                _ => Input::Command {
                    tag: Tag(self.number),
                    command: Box::new(self.command()),
                },
            }
        }
    }

    quickcheck! {
        fn every_input_round_trips(any: Any) -> bool {
            let input = any.input();
            let mut bytes = Vec::new();
            encode_input(&input, &mut bytes);
            let back = decode_input(&bytes).unwrap();
            back.feed(|back| format!("{back:?}")) == format!("{input:?}")
        }

        fn an_input_cut_short_is_told(any: Any, cut: usize) -> bool {
            let mut bytes = Vec::new();
            encode_input(&any.input(), &mut bytes);
            bytes.truncate(cut % bytes.len());
            decode_input(&bytes).unwrap_err() == RecordError::Truncated
        }

        fn an_input_with_more_behind_it_is_told(any: Any) -> bool {
            let mut bytes = Vec::new();
            encode_input(&any.input(), &mut bytes);
            bytes.push(0);
            decode_input(&bytes).unwrap_err() == RecordError::Invalid("length of a record")
        }

        fn arbitrary_bytes_are_an_input_or_an_error(bytes: Vec<u8>) -> bool {
            decode_input(&bytes).map_or(true, |input| {
                let mut again = Vec::new();
                input.feed(|input| encode_input(&input, &mut again));
                again == bytes
            })
        }
    }
}
