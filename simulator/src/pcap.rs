//! What hosts sent, as a file of captured packets (pcapng) that Wireshark reads.
//!
//! Datagrams are captured where they are sent, so those that get lost are in it. A stream is
//! captured at the host that opened it, and written as TCP without loss: what the simulator does to
//! its segments underneath is not shown.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use trackerless_core::io::{ConnId, IoReason};
use trackerless_core::{Input, Instant, Output};

use crate::trace::Status;
use crate::world::START;
use crate::{HostId, Watch};

/// Unix time at which runs begin, seconds.
const EPOCH: u64 = 1_700_000_000;
/// Most payload of one segment: what an Ethernet frame carries.
const SEGMENT: usize = 1_440;
/// The first port of those who connect.
const EPHEMERAL: u16 = 49_152;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;
const FIN: u8 = 0x01;
const RST: u8 = 0x04;

/// Writes packets while a run goes.
pub struct Capture {
    file: Box<dyn Write + Send>,
    status: Status,
    /// The addresses of the hosts, by number.
    addrs: Vec<SocketAddr>,
    streams: BTreeMap<(HostId, ConnId), Stream>,
    ports: BTreeMap<IpAddr, u16>,
}

/// A stream as the host that opened it sees it.
struct Stream {
    /// The two ends: who opened it, and who was called.
    ends: [SocketAddr; 2],
    /// Bytes that each sent, modulo 2³².
    sent: [u32; 2],
    open: bool,
}

impl Capture {
    /// Begins a capture of hosts that have these addresses, in order.
    #[must_use]
    pub fn new(mut file: Box<dyn Write + Send>, addrs: Vec<SocketAddr>) -> Self {
        let status = Status::default();
        status.note(begin(&mut file));
        Self {
            file,
            status,
            addrs,
            streams: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    /// To be asked when the run is over.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    fn packet(&mut self, at: Instant, ends: [SocketAddr; 2], protocol: u8, segment: &[u8]) {
        let mut packet = Vec::with_capacity(segment.len() + 40);
        match (ends[0].ip(), ends[1].ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = (segment.len() + 20) as u16;
                packet.extend_from_slice(&[0x45, 0]);
                packet.extend_from_slice(&length.to_be_bytes());
                // No identification; never fragmented; 64 hops.
                packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
                packet.extend_from_slice(&from.octets());
                packet.extend_from_slice(&to.octets());
                let sum = !folded(sum(&packet));
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (from, to) => {
                let bytes = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                packet.extend_from_slice(&[0x60, 0, 0, 0]);
                packet.extend_from_slice(&(segment.len() as u16).to_be_bytes());
                packet.extend_from_slice(&[protocol, 64]);
                packet.extend_from_slice(&bytes(from));
                packet.extend_from_slice(&bytes(to));
            }
        }
        packet.extend_from_slice(segment);
        let micros = EPOCH * 1_000_000 + at.saturating_since(START).as_micros() as u64;
        let mut body = Vec::with_capacity(packet.len() + 24);
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&((micros >> 32) as u32).to_le_bytes());
        body.extend_from_slice(&(micros as u32).to_le_bytes());
        body.extend_from_slice(&(packet.len() as u32).to_le_bytes());
        body.extend_from_slice(&(packet.len() as u32).to_le_bytes());
        body.extend_from_slice(&packet);
        let done = block(&mut self.file, 6, &body);
        self.status.note(done);
    }

    fn datagram(&mut self, at: Instant, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let mut segment = Vec::with_capacity(payload.len() + 8);
        segment.extend_from_slice(&from.port().to_be_bytes());
        segment.extend_from_slice(&to.port().to_be_bytes());
        segment.extend_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
        segment.extend_from_slice(&[0, 0]);
        segment.extend_from_slice(payload);
        checksum(&mut segment, [from, to], 17, 6);
        self.packet(at, [from, to], 17, &segment);
    }

    /// What one end of a stream sends: 0 opened it.
    fn segment(
        &mut self,
        at: Instant,
        stream: (HostId, ConnId),
        end: usize,
        flags: u8,
        data: &[u8],
    ) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        let (from, to) = (entry.ends[end], entry.ends[1 - end]);
        let mut segment = Vec::with_capacity(data.len() + 20);
        segment.extend_from_slice(&from.port().to_be_bytes());
        segment.extend_from_slice(&to.port().to_be_bytes());
        segment.extend_from_slice(&entry.sent[end].to_be_bytes());
        let seen = if flags & ACK == 0 {
            0
        } else {
            entry.sent[1 - end]
        };
        segment.extend_from_slice(&seen.to_be_bytes());
        segment.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(data);
        // The beginning and the end of a stream count as a byte.
        let counted = data.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        entry.sent[end] = entry.sent[end].wrapping_add(counted);
        checksum(&mut segment, [from, to], 6, 16);
        self.packet(at, [from, to], 6, &segment);
    }

    fn data(&mut self, at: Instant, stream: (HostId, ConnId), end: usize, parts: &[&[u8]]) {
        for data in parts.concat().chunks(SEGMENT) {
            self.segment(at, stream, end, PUSH | ACK, data);
        }
    }

    fn addr(&self, host: HostId) -> Option<SocketAddr> {
        self.addrs.get(host.0 as usize).copied()
    }

    /// The next port of somebody who connects.
    fn port(&mut self, ip: IpAddr) -> u16 {
        let next = self.ports.entry(ip).or_insert(EPHEMERAL);
        let port = *next;
        *next = next.checked_add(1).unwrap_or(EPHEMERAL);
        port
    }
}

impl Watch for Capture {
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        match input {
            Input::Connected { conn } => {
                let stream = (host, *conn);
                self.segment(at, stream, 1, SYN | ACK, b"");
                self.segment(at, stream, 0, ACK, b"");
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.open = true;
                }
            }
            Input::Received { conn, data } => self.data(at, (host, *conn), 1, &[data]),
            Input::Closed { conn, reason } => {
                let stream = (host, *conn);
                let flags = match reason {
                    IoReason::Eof => FIN | ACK,
                    _ => RST | ACK,
                };
                self.segment(at, stream, 1, flags, b"");
                self.streams.remove(&stream);
            }
            _ => {}
        }
    }

    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        match output {
            Output::Transmit { to, head, body, .. } => {
                if let Some(from) = self.addr(host) {
                    self.datagram(at, from, *to, &[head, &body[..]].concat());
                }
            }
            Output::Connect { conn, to } => {
                let Some(from) = self.addr(host) else {
                    return;
                };
                let from = SocketAddr::new(from.ip(), self.port(from.ip()));
                let stream = Stream {
                    ends: [from, *to],
                    sent: [0; 2],
                    open: false,
                };
                self.streams.insert((host, *conn), stream);
                self.segment(at, (host, *conn), 0, SYN, b"");
            }
            Output::Send { conn, head, body } => self.data(at, (host, *conn), 0, &[head, body]),
            Output::Close { conn } => {
                let stream = (host, *conn);
                if self.streams.get(&stream).is_some_and(|entry| entry.open) {
                    self.segment(at, stream, 0, FIN | ACK, b"");
                }
                self.streams.remove(&stream);
            }
            _ => {}
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.status.note(self.file.flush());
    }
}

/// The heading of a file: little-endian, packets begin with their IP header, microseconds.
fn begin(file: &mut impl Write) -> io::Result<()> {
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend_from_slice(&[1, 0, 0, 0]);
    section.extend_from_slice(&u64::MAX.to_le_bytes());
    block(file, 0x0a0d_0d0a, &section)?;
    // Link type 101 is raw IP; no limit to the length of packets.
    block(file, 1, &[101, 0, 0, 0, 0, 0, 0, 0])
}

fn block(file: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let padded = body.len().next_multiple_of(4);
    let length = (padded as u32 + 12).to_le_bytes();
    file.write_all(&kind.to_le_bytes())?;
    file.write_all(&length)?;
    file.write_all(body)?;
    file.write_all(&[0; 3][..padded - body.len()])?;
    file.write_all(&length)
}

/// Fills in the checksum at `place` of what is sent from one end to the other.
fn checksum(segment: &mut [u8], ends: [SocketAddr; 2], protocol: u8, place: usize) {
    let mut all = u64::from(protocol) + segment.len() as u64 + sum(segment);
    for end in ends {
        all += match end.ip() {
            IpAddr::V4(ip) => sum(&ip.octets()),
            IpAddr::V6(ip) => sum(&ip.octets()),
        };
    }
    // A sum of 0 would say that there is none.
    let sum = match !folded(all) {
        0 => u16::MAX,
        sum => sum,
    };
    segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2);
    pairs
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The packets in a file, whose blocks have to fit together.
    fn packets(file: &[u8]) -> Vec<Vec<u8>> {
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (mut at, mut packets) = (0, Vec::new());
        while at < file.len() {
            let length = number(at + 4);
            assert_eq!(number(at + length - 4), length);
            if number(at) == 6 {
                packets.push(file[at + 28..at + 28 + number(at + 20)].to_vec());
            }
            at += length;
        }
        packets
    }

    #[test]
    fn a_run_is_captured_with_right_lengths_and_checksums() {
        let file = Shared::default();
        let scenario = crate::scenario::find("pex-only").unwrap();
        let capture = Capture::new(Box::new(file.clone()), scenario.addrs());
        let status = capture.status();
        let report = scenario.play(1).watch(capture).run();
        assert_eq!(report.root, scenario.run(1).root);
        assert_eq!(status.error(), None);
        let packets = packets(&file.0.lock().unwrap());
        let syn = packets
            .iter()
            .filter(|packet| packet[9] == 6 && packet[33] == SYN);
        assert!(
            syn.count() >= 10 && packets.len() > 2_000,
            "{}",
            packets.len()
        );
        for packet in packets {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                packet.len()
            );
            assert_eq!(folded(sum(&packet[..20])), 0xffff);
            let pseudo = sum(&packet[12..20]) + u64::from(packet[9]) + packet.len() as u64 - 20;
            assert_eq!(folded(pseudo + sum(&packet[20..])), 0xffff);
        }
    }
}
