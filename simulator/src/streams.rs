//! Streams between hosts: bytes in order, within a window and the receiver's credit.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use trackerless_core::Input;
use trackerless_core::io::{ConnId, IoReason};

use crate::net::{Fault, flip};
use crate::sim::{Happening, Sim, SimError};

/// Bytes a stream may have under way before its receiver has taken them.
const STREAM_WINDOW: usize = 1 << 20;
/// Largest piece of a stream that travels as one event.
const SEGMENT: usize = 16 * 1024 + 64;
/// One end of a stream.
#[derive(Default)]
pub(crate) struct End {
    pub(crate) host: u32,
    pub(crate) conn: Option<ConnId>,
    /// The engine still knows this end.
    pub(crate) open: bool,
    pub(crate) to_send: VecDeque<Bytes>,
    pub(crate) under_way: usize,
    pub(crate) closing: bool,
    pub(crate) fin_sent: bool,
    pub(crate) arrived: VecDeque<Bytes>,
    pub(crate) fin_arrived: bool,
    pub(crate) credit: usize,
    /// What a fault delays everything by that this end sends from now on.
    pub(crate) late: Duration,
}

impl Sim {
    pub(crate) fn connect(&mut self, host: u32, conn: ConnId, to: SocketAddr) {
        let stream = self.streams_made;
        self.streams_made += 1;
        let target = self.by_addr.get(&to).copied();
        let near = End {
            host,
            conn: Some(conn),
            open: true,
            ..End::default()
        };
        let far = End {
            host: target.unwrap_or(host),
            ..End::default()
        };
        self.streams.insert(stream, [near, far]);
        self.hosts[host as usize].conns.insert(conn, (stream, 0));
        // Nobody has that address: silence, and the engine's own patience ends it.
        if let Some(target) = target {
            let delay = self.network.pair_delay(self.seed, host, target);
            self.schedule(self.now + delay, target, host, Happening::Syn { stream });
        }
    }

    pub(crate) fn refuse(&mut self, stream: u32) {
        let Some(ends) = self.streams.get(&stream) else {
            return;
        };
        let (near, far) = (ends[0].host, ends[1].host);
        let delay = self.network.pair_delay(self.seed, near, far);
        self.schedule(self.now + delay, near, far, Happening::Refused { stream });
    }

    /// Sends what the window allows.
    pub(crate) fn pump(&mut self, stream: u32, end: usize) {
        loop {
            let Some(ends) = self.streams.get_mut(&stream) else {
                return;
            };
            let (host, other) = (ends[end].host, ends[1 - end].host);
            let near = &mut ends[end];
            if near.under_way >= STREAM_WINDOW {
                return;
            }
            let Some(mut data) = near.to_send.pop_front() else {
                if near.closing && !near.fin_sent {
                    near.fin_sent = true;
                    let late = near.late;
                    let free = self.hosts[host as usize].uplink_free.max(self.now);
                    let delay = self.network.pair_delay(self.seed, host, other);
                    let fin = Happening::Fin {
                        stream,
                        end: 1 - end,
                    };
                    self.schedule(free + delay + late, other, host, fin);
                }
                return;
            };
            if data.len() > SEGMENT {
                let rest = data.split_off(SEGMENT);
                near.to_send.push_front(rest);
            }
            near.under_way += data.len();
            let late = self.disturb(stream, end, &mut data);
            let source = &mut self.hosts[host as usize];
            let micros = data.len() as u64 * 1_000_000 / source.spec.up_rate.max(1);
            let left = source.uplink_free.max(self.now) + Duration::from_micros(micros);
            source.uplink_free = left;
            let bytes = data.len() as u32;
            self.schedule(left, host, host, Happening::Left { stream, end, bytes });
            let arrival = left + self.network.pair_delay(self.seed, host, other) + late;
            let arrived = Happening::Arrived {
                stream,
                end: 1 - end,
                data,
            };
            self.schedule(arrival, other, host, arrived);
        }
    }

    /// Hands the engine what has arrived, as far as its credit goes.
    pub(crate) fn deliver(&mut self, stream: u32, end: usize) -> Result<(), SimError> {
        loop {
            let Some(ends) = self.streams.get_mut(&stream) else {
                return Ok(());
            };
            let (host, other) = (ends[end].host, ends[1 - end].host);
            let near = &mut ends[end];
            let Some(conn) = near.conn.filter(|_| near.open) else {
                // Nobody listens any more: the bytes are taken and forgotten, by all but the hash.
                let mut bytes = 0;
                for data in near.arrived.drain(..) {
                    bytes += data.len();
                    self.hosts[host as usize].miss(self.now, &data);
                }
                if near.fin_arrived {
                    self.streams.remove(&stream);
                } else {
                    self.ack(stream, end, host, other, bytes);
                }
                return Ok(());
            };
            let Some(data) = near.arrived.front_mut() else {
                if !near.fin_arrived {
                    return Ok(());
                }
                self.streams.remove(&stream);
                self.hosts[host as usize].conns.remove(&conn);
                return self.feed(
                    host,
                    Input::Closed {
                        conn,
                        reason: IoReason::Eof,
                    },
                );
            };
            let bytes = data.len().min(near.credit);
            if bytes == 0 {
                return Ok(());
            }
            let data = data.split_to(bytes);
            if near.arrived.front().is_some_and(Bytes::is_empty) {
                near.arrived.pop_front();
            }
            near.credit -= bytes;
            self.ack(stream, end, host, other, bytes);
            // A real read fills a buffer of the receiver's own; so does this one.
            let data = BytesMut::from(&data[..]);
            self.feed(host, Input::Received { conn, data })?;
        }
    }

    fn ack(&mut self, stream: u32, end: usize, host: u32, other: u32, bytes: usize) {
        if bytes > 0 {
            let delay = self.network.pair_delay(self.seed, host, other);
            let acked = Happening::Acked {
                stream,
                end: 1 - end,
                bytes,
            };
            self.schedule(self.now + delay, other, host, acked);
        }
    }

    /// Disturbs a segment, if that is to be; gives what all that this end sends is late by.
    fn disturb(&mut self, stream: u32, end: usize, data: &mut Bytes) -> Duration {
        let number = self.segments;
        self.segments += 1;
        let Some(ends) = self.streams.get_mut(&stream) else {
            return Duration::ZERO;
        };
        for fault in &self.faults {
            match *fault {
                Fault::FlipSegmentBit(n, bit) if n == number => {
                    let mut wrong = BytesMut::from(&data[..]);
                    flip(&mut wrong, bit);
                    *data = wrong.freeze();
                }
                Fault::DelaySegment(n) if n == number => {
                    ends[end].late += Duration::from_micros(1);
                }
                _ => continue,
            }
            self.struck.get_or_insert(self.now);
        }
        ends[end].late
    }
}
