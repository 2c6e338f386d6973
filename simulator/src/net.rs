//! The virtual network: how long things take, and what gets lost.

use std::time::Duration;

use crate::trace::draw;

/// Parts per million.
pub(crate) const MILLION: u64 = 1_000_000;

/// The network every host lives on.
#[derive(Debug, Clone)]
pub struct Network {
    /// Shortest one-way delay between two hosts.
    pub min_delay: Duration,
    /// Longest one-way delay; each pair of hosts has one of its own in between.
    pub max_delay: Duration,
    /// Most that is added to the pair's delay, drawn for each datagram.
    pub jitter: Duration,
    /// Datagrams lost, parts per million.
    pub loss_ppm: u32,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(60),
            jitter: Duration::from_millis(2),
            loss_ppm: 0,
        }
    }
}

/// One deliberate disturbance of one packet, by its number in the run. Datagrams are counted in
/// the order they are sent, and so are segments of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This bit of that datagram is flipped, counted round its bytes.
    FlipBit(u64, usize),
    /// The datagram is lost.
    Drop(u64),
    /// The datagram arrives one microsecond later.
    Delay(u64),
    /// This bit of that segment is flipped, counted round its bytes.
    FlipSegmentBit(u64, usize),
    /// The segment, and what follows it on its stream, arrives one microsecond later.
    DelaySegment(u64),
}

/// Flips a bit, counted round `bytes`.
pub(crate) fn flip(bytes: &mut [u8], bit: usize) {
    let bits = bytes.len() * 8;
    if bits > 0 {
        bytes[bit % bits / 8] ^= 1 << (bit % 8);
    }
}

impl Network {
    /// The one-way delay of a pair, the same in both directions and for the whole run.
    pub(crate) fn pair_delay(&self, seed: u64, a: u32, b: u32) -> Duration {
        let (low, high) = (u64::from(a.min(b)), u64::from(a.max(b)));
        let span = self.max_delay.saturating_sub(self.min_delay).as_micros() as u64;
        self.min_delay + Duration::from_micros(draw(seed, low, high, 1) % (span + 1))
    }

    /// The fate of the datagram of that number from `from`: its delay, or nothing when it is lost.
    pub(crate) fn datagram(&self, seed: u64, from: u32, to: u32, number: u64) -> Option<Duration> {
        let (a, b) = (u64::from(from), u64::from(to));
        if draw(seed ^ 0x105e, a, b, number) % MILLION < u64::from(self.loss_ppm) {
            return None;
        }
        let jitter = self.jitter.as_micros() as u64;
        let extra = draw(seed ^ 0x717e, a, b, number) % (jitter + 1);
        Some(self.pair_delay(seed, from, to) + Duration::from_micros(extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_in_ten_is_lost_where_one_in_ten_is_to_be() {
        let network = Network {
            loss_ppm: 100_000,
            ..Network::default()
        };
        let (mut lost, mut latest) = (0, Duration::ZERO);
        for number in 0..10_000 {
            match network.datagram(7, 3, 4, number) {
                Some(delay) => latest = latest.max(delay),
                None => lost += 1,
            }
        }
        assert!((900..1_100).contains(&lost), "{lost} of 10000");
        let pair = network.pair_delay(7, 3, 4);
        assert_eq!(pair, network.pair_delay(7, 4, 3));
        assert!((network.min_delay..=network.max_delay).contains(&pair));
        assert!(latest > pair && latest <= pair + network.jitter);
    }

    #[test]
    fn a_flip_changes_one_bit_and_twice_is_none() {
        for bit in [0, 7, 8, 23, 24, 1_000, usize::MAX] {
            let mut bytes = [0x5a, 0, 0xff];
            let before = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            flip(&mut bytes, bit);
            let after = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            assert_eq!((before ^ after).count_ones(), 1, "bit {bit}");
            flip(&mut bytes, bit);
            assert_eq!(bytes, [0x5a, 0, 0xff]);
        }
        flip(&mut [], 5);
    }
}
