//! How bytes of a stream travel where each segment is a packet: see [`super::tcp`].

use bytes::Bytes;
use trackerless_core::io::IoReason;
use trackerless_core::slab::Key;

use super::shard::{Happening, Packet, Payload, Shard, World};
use super::sim::SimError;
use super::streams::{ATTEMPTS, EMPTY, End, Message, Stage};
use super::tcp::{Segment, Tcp};

/// Bytes that wait for the machine.
fn buffered(end: &End) -> usize {
    end.arrived.iter().map(Bytes::len).sum()
}

impl Shard {
    /// Sends what may be sent.
    pub(super) fn pump_segments(&mut self, world: &World, host: u32, key: Key) {
        let now = self.now;
        let mtu = u64::from(self.host(host).spec.link.mtu.max(576));
        let mut fresh_bytes = 0;
        loop {
            let Some(end) = self.host_mut(host).ends.at_mut(key) else {
                return;
            };
            if end.stage != Stage::Open {
                return;
            }
            let waiting = buffered(end);
            let tcp = end
                .tcp
                .get_or_insert_with(|| Box::new(Tcp::new(mtu - EMPTY)));
            match tcp.next_segment(now, &mut end.to_send, end.closing, waiting) {
                Some((segment, fresh)) => {
                    fresh_bytes += fresh;
                    self.transmit_segment(world, host, key, segment);
                }
                None => break,
            }
        }
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        let waiting = buffered(end);
        let conn = end.conn;
        let waits = !end.to_send.is_empty();
        let Some(tcp) = &mut end.tcp else {
            return;
        };
        if waits {
            tcp.persist(now);
        }
        let ack = tcp.acknowledge(now, waiting);
        end.wake_at = tcp.wake_at();
        if let Some(ack) = ack {
            self.transmit_segment(world, host, key, ack);
        }
        self.arm_end(host, key);
        if let (Some(conn), true) = (conn, fresh_bytes > 0) {
            let bytes = fresh_bytes as u32;
            self.schedule(now, host, host, Happening::Sent { conn, bytes });
        }
    }

    fn transmit_segment(&mut self, world: &World, host: u32, key: Key, mut segment: Segment) {
        if !self.passes_translators(host, key) {
            return;
        }
        let number = self.host(host).segments;
        self.host_mut(host).segments += 1;
        let mut late = 0;
        if !world.faults.is_empty() {
            let mut parts = [std::mem::take(&mut segment.data)];
            late = self.disturb(world, host, number, &mut parts);
            let [data] = parts;
            segment.data = data;
        }
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        let Some(peer_end) = end.peer_end else {
            return;
        };
        end.late += late;
        let peer = end.peer;
        let packet = Packet {
            from: end.source,
            to: end.remote,
            bytes: (EMPTY + segment.data.len() as u64) as u32,
            source: host,
            late: end.late as u32,
            payload: Payload::Stream {
                end: peer_end,
                sender: key,
                message: Message::Segment(Box::new(segment)),
            },
        };
        self.send_packet(world, host, peer, packet, number, false);
    }

    /// A segment came.
    pub(super) fn on_segment(&mut self, world: &World, host: u32, key: Key, segment: Segment) {
        let now = self.now;
        let mtu = u64::from(self.host(host).spec.link.mtu.max(576));
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return;
        };
        end.attempts = 0;
        let tcp = end
            .tcp
            .get_or_insert_with(|| Box::new(Tcp::new(mtu - EMPTY)));
        end.fin_arrived |= tcp.on_segment(now, segment, &mut end.arrived);
        if tcp.is_over() && end.closing {
            self.forget_end(host, key);
            return;
        }
        self.ready.push((host, key));
        self.pump_segments(world, host, key);
    }

    /// The machine has read.
    pub(super) fn has_read(&mut self, world: &World, host: u32, key: Key) {
        let now = self.now;
        if let Some(end) = self.host_mut(host).ends.at_mut(key) {
            let waiting = buffered(end);
            if let Some(tcp) = &mut end.tcp {
                tcp.has_read(now, waiting);
            }
            self.pump_segments(world, host, key);
        }
    }

    /// A timer of the stream has run out.
    pub(super) fn on_timer_of_segments(
        &mut self,
        world: &World,
        host: u32,
        key: Key,
    ) -> Result<(), SimError> {
        let now = self.now;
        let Some(end) = self.host_mut(host).ends.at_mut(key) else {
            return Ok(());
        };
        let waits = !end.to_send.is_empty();
        let waiting = buffered(end);
        let Some(tcp) = &mut end.tcp else {
            return Ok(());
        };
        let (vain, probe) = tcp.expire(now, waits);
        let probe = probe.map(|probe| tcp.probe(now, probe, waiting));
        if vain {
            end.attempts += 1;
            if end.attempts > ATTEMPTS {
                return self.close_end(host, key, Some(IoReason::TimedOut));
            }
        }
        if let Some(probe) = probe {
            self.transmit_segment(world, host, key, probe);
        }
        self.pump_segments(world, host, key);
        Ok(())
    }
}
