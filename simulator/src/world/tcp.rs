//! TCP, segment by segment: what one end sends, how fast, and what it takes for lost.
//!
//! Slow start and congestion avoidance (RFC 5681), an initial window of ten (RFC 6928), selective
//! acknowledgements (RFC 2018), loss noticed when three later transmissions have arrived, and a
//! retransmission timer (RFC 6298). A machine of its own: it neither knows hosts nor time.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::streams::STREAM_WINDOW;

/// Later transmissions that arrive before one that did not is taken for lost.
const DUPLICATES: u64 = 3;
/// Bounds of the retransmission timer, microseconds.
const LEAST_TIMEOUT: u64 = 200_000;
const MOST_TIMEOUT: u64 = 60_000_000;
const FIRST_TIMEOUT: u64 = 1_000_000;
/// An acknowledgement waits so long for a second segment.
const DELAYED: u64 = 40_000;
/// Ranges of what arrived out of order that an acknowledgement names.
const RANGES: usize = 3;

/// What travels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    seq: u64,
    pub(crate) data: Bytes,
    fin: bool,
    /// Wants to be acknowledged though it carries nothing.
    probe: bool,
    /// When it was sent.
    stamp: u64,
    ack: u64,
    window: u64,
    held: [(u64, u64); RANGES],
    /// The stamp of what is acknowledged; 0 for none.
    echo: u64,
}

impl Segment {
    /// Whether it only acknowledges.
    pub(crate) fn is_ack(&self) -> bool {
        self.data.is_empty() && !self.fin && !self.probe
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    OnItsWay,
    Held,
    Lost,
}

#[derive(Debug, Clone)]
struct Sent {
    seq: u64,
    data: Bytes,
    fin: bool,
    /// Which transmission it was.
    number: u64,
    fate: Fate,
}

impl Sent {
    fn end(&self) -> u64 {
        self.seq + self.data.len() as u64 + u64::from(self.fin)
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Tcp {
    mss: u64,
    next: u64,
    flight: VecDeque<Sent>,
    /// Bytes believed to be on their way.
    in_flight: u64,
    /// Entries of `flight` taken for lost, and those held by the other end.
    lost: usize,
    held: usize,
    window: u64,
    threshold: u64,
    /// The other end takes bytes up to here.
    limit: u64,
    transmissions: u64,
    /// The latest transmission that arrived.
    arrived: u64,
    /// Losses of transmissions before this one have been answered for.
    recovered: u64,
    smoothed: Option<(u64, u64)>,
    backoff: u32,
    timer: u64,
    sent_at: u64,
    fin_sent: bool,
    expected: u64,
    out_of_order: BTreeMap<u64, Bytes>,
    /// What came out of order last: it is named first (RFC 2018).
    latest: u64,
    fin_at: Option<u64>,
    /// Segments not acknowledged yet, when they have to be, and the stamp to be echoed.
    unacknowledged: u32,
    ack_at: u64,
    stamp: u64,
    advertised: u64,
}

impl Tcp {
    pub(crate) fn new(mss: u64) -> Self {
        Self {
            mss,
            next: 0,
            flight: VecDeque::new(),
            in_flight: 0,
            lost: 0,
            held: 0,
            window: 10 * mss,
            threshold: u64::MAX,
            limit: STREAM_WINDOW as u64,
            transmissions: 0,
            arrived: 0,
            recovered: 0,
            smoothed: None,
            backoff: 0,
            timer: 0,
            sent_at: 0,
            fin_sent: false,
            expected: 0,
            out_of_order: BTreeMap::new(),
            latest: 0,
            fin_at: None,
            unacknowledged: 0,
            ack_at: 0,
            stamp: 0,
            advertised: STREAM_WINDOW as u64,
        }
    }

    /// The next thing that may be sent, if any: first what was lost, then what is new.
    pub(crate) fn next_segment(
        &mut self,
        now: u64,
        to_send: &mut VecDeque<Bytes>,
        closing: bool,
        buffered: usize,
    ) -> Option<(Segment, usize)> {
        if self.in_flight == 0 && self.lost == 0 && now > self.sent_at + self.timeout() {
            // After a silence nobody knows what the path bears.
            self.window = self.window.min(10 * self.mss);
        }
        if self.lost > 0 && self.in_flight < self.window {
            let number = self.transmissions;
            let sent = self
                .flight
                .iter_mut()
                .find(|sent| sent.fate == Fate::Lost)?;
            sent.fate = Fate::OnItsWay;
            sent.number = number;
            let segment = Segment {
                seq: sent.seq,
                data: sent.data.clone(),
                fin: sent.fin,
                ..Segment::default()
            };
            self.lost -= 1;
            return Some((self.sending(now, segment, buffered), 0));
        }
        if self.fin_sent || self.in_flight >= self.window {
            return None;
        }
        let room = self.limit.saturating_sub(self.next).min(self.mss);
        let fin = to_send.is_empty();
        if (fin && !closing) || (!fin && room == 0) {
            return None;
        }
        let data = cut(to_send, room as usize);
        let fresh = data.len();
        self.fin_sent = fin;
        self.flight.push_back(Sent {
            seq: self.next,
            data: data.clone(),
            fin,
            number: self.transmissions,
            fate: Fate::OnItsWay,
        });
        let segment = Segment {
            seq: self.next,
            data,
            fin,
            ..Segment::default()
        };
        self.next += fresh as u64 + u64::from(fin);
        Some((self.sending(now, segment, buffered), fresh))
    }

    fn sending(&mut self, now: u64, segment: Segment, buffered: usize) -> Segment {
        self.transmissions += 1;
        self.in_flight += segment.data.len() as u64 + u64::from(segment.fin);
        self.sent_at = now;
        if self.timer == 0 {
            self.timer = now + self.timeout();
        }
        self.stamped(now, segment, buffered)
    }

    /// Adds what every segment says of the other direction.
    fn stamped(&mut self, now: u64, mut segment: Segment, buffered: usize) -> Segment {
        segment.stamp = now;
        segment.ack = self.expected;
        let held: usize = self.out_of_order.values().map(Bytes::len).sum();
        segment.window = (STREAM_WINDOW as u64).saturating_sub((buffered + held) as u64);
        segment.echo = std::mem::take(&mut self.stamp);
        segment.held = self.ranges();
        self.advertised = segment.window;
        self.unacknowledged = 0;
        self.ack_at = 0;
        segment
    }

    /// What arrived out of order: the range of the latest segment, then the first others.
    fn ranges(&self) -> [(u64, u64); RANGES] {
        let mut ranges = [(0, 0); RANGES];
        let (mut count, mut last) = (1, (0, 0));
        let mut file = |range: (u64, u64)| {
            if range.0 <= self.latest && self.latest < range.1 {
                ranges[0] = range;
            } else if count < RANGES && range.1 > 0 {
                ranges[count] = range;
                count += 1;
            }
        };
        for (seq, data) in &self.out_of_order {
            let end = seq + data.len() as u64;
            if last.1 == *seq {
                last.1 = end;
            } else {
                file(last);
                last = (*seq, end);
            }
        }
        file(last);
        ranges
    }

    /// An acknowledgement, if one has to be sent by now.
    pub(crate) fn acknowledge(&mut self, now: u64, buffered: usize) -> Option<Segment> {
        let due = self.ack_at != 0 && self.ack_at <= now;
        due.then(|| self.stamped(now, Segment::default(), buffered))
    }

    /// The machine has read: says so when the other end may wait for it.
    pub(crate) fn has_read(&mut self, now: u64, buffered: usize) {
        let window = (STREAM_WINDOW as u64).saturating_sub(buffered as u64);
        if self.advertised < 2 * self.mss && window >= 4 * self.mss {
            self.ack_at = now;
        }
    }

    /// When it wants to be woken; 0 is never.
    pub(crate) fn wake_at(&self) -> u64 {
        [self.ack_at, self.timer]
            .into_iter()
            .filter(|at| *at != 0)
            .min()
            .unwrap_or(0)
    }

    /// Whether all that was sent has arrived, the end included.
    pub(crate) fn is_over(&self) -> bool {
        self.fin_sent && self.flight.is_empty()
    }

    /// Time for which nothing is known before it is sent again.
    fn timeout(&self) -> u64 {
        let base = match self.smoothed {
            Some((mean, deviation)) => (mean + 4 * deviation).max(LEAST_TIMEOUT),
            None => FIRST_TIMEOUT,
        };
        (base << self.backoff.min(8)).min(MOST_TIMEOUT)
    }

    /// The timer has run out, if it has; true when that was an attempt in vain. `waits` says that
    /// there is something to send which the other end has no room for.
    pub(crate) fn expire(&mut self, now: u64, waits: bool) -> (bool, Option<Segment>) {
        if self.timer == 0 || self.timer > now {
            return (false, None);
        }
        self.timer = 0;
        if self.flight.is_empty() {
            if !waits {
                return (false, None);
            }
            self.backoff += 1;
            self.timer = now + self.timeout();
            let probe = Segment {
                seq: self.next,
                probe: true,
                ..Segment::default()
            };
            return (true, Some(probe));
        }
        self.threshold = (self.in_flight / 2).max(2 * self.mss);
        self.window = self.mss;
        self.recovered = self.transmissions;
        for sent in &mut self.flight {
            if sent.fate == Fate::OnItsWay {
                sent.fate = Fate::Lost;
                self.lost += 1;
            }
        }
        self.in_flight = 0;
        self.backoff += 1;
        self.timer = now + self.timeout();
        (true, None)
    }

    /// Has the timer run while the other end has no room.
    pub(crate) fn persist(&mut self, now: u64) {
        if self.timer == 0 {
            self.timer = now + self.timeout();
        }
    }

    pub(crate) fn probe(&mut self, now: u64, probe: Segment, buffered: usize) -> Segment {
        self.stamped(now, probe, buffered)
    }

    /// A segment came. What is in order now goes to `arrived`; true when the other end is at its
    /// end.
    pub(crate) fn on_segment(
        &mut self,
        now: u64,
        segment: Segment,
        arrived: &mut VecDeque<Bytes>,
    ) -> bool {
        self.on_ack(now, &segment);
        if segment.is_ack() {
            return false;
        }
        if self.stamp == 0 {
            self.stamp = segment.stamp;
        }
        let end = segment.seq + segment.data.len() as u64;
        if segment.fin {
            self.fin_at = Some(end);
        }
        let mut prompt = segment.probe || segment.fin;
        if segment.seq > self.expected {
            if !segment.data.is_empty() {
                self.latest = segment.seq;
                self.out_of_order.insert(segment.seq, segment.data);
            }
            prompt = true;
        } else if end > self.expected || (segment.fin && end == self.expected) {
            if !segment.data.is_empty() {
                let known = (self.expected - segment.seq) as usize;
                arrived.push_back(segment.data.slice(known..));
            }
            self.expected = end;
            while let Some((seq, data)) = self.out_of_order.pop_first() {
                if seq > self.expected {
                    self.out_of_order.insert(seq, data);
                    break;
                }
                prompt = true;
                let known = (self.expected - seq) as usize;
                if known < data.len() {
                    self.expected = seq + data.len() as u64;
                    arrived.push_back(data.slice(known..));
                }
            }
        } else {
            // Nothing new: the acknowledgement was lost.
            prompt = true;
        }
        let over = self.fin_at == Some(self.expected);
        if over {
            self.expected += 1;
            self.fin_at = None;
        }
        self.unacknowledged += 1;
        if prompt || self.unacknowledged >= 2 || !self.out_of_order.is_empty() {
            self.ack_at = now;
        } else if self.ack_at == 0 {
            self.ack_at = now + DELAYED;
        }
        over
    }

    fn on_ack(&mut self, now: u64, segment: &Segment) {
        self.limit = self.limit.max(segment.ack + segment.window);
        let before = self.in_flight;
        let mut news = 0;
        let mut arrived = self.arrived;
        while let Some(sent) = self.flight.front() {
            if sent.end() > segment.ack {
                break;
            }
            let Some(sent) = self.flight.pop_front() else {
                break;
            };
            let bytes = sent.end() - sent.seq;
            match sent.fate {
                Fate::OnItsWay => self.in_flight -= bytes,
                Fate::Lost => self.lost -= 1,
                Fate::Held => self.held -= 1,
            }
            if sent.fate != Fate::Held {
                news += bytes;
                arrived = arrived.max(sent.number);
            }
        }
        if segment.held.iter().any(|range| range.1 > 0) {
            for sent in &mut self.flight {
                let end = sent.end();
                let held = |(from, to): &(u64, u64)| *from <= sent.seq && end <= *to;
                if sent.fate != Fate::Held && segment.held.iter().any(held) {
                    match sent.fate {
                        Fate::OnItsWay => self.in_flight -= end - sent.seq,
                        _ => self.lost -= 1,
                    }
                    sent.fate = Fate::Held;
                    self.held += 1;
                    news += end - sent.seq;
                    arrived = arrived.max(sent.number);
                }
            }
        }
        self.arrived = arrived;
        if segment.echo != 0 && news > 0 {
            self.measure(now - segment.echo);
        }
        let fell = self.held > 0 && self.notice_losses(before);
        if news > 0 {
            self.backoff = 0;
            self.timer = if self.flight.is_empty() {
                0
            } else {
                now + self.timeout()
            };
            // A window that is not used says nothing about the path.
            let used = before * 2 >= self.window;
            if !fell && used && self.arrived >= self.recovered {
                self.grow(news);
            }
        }
    }

    fn grow(&mut self, news: u64) {
        self.window += if self.window < self.threshold {
            news
        } else {
            (self.mss * news / self.window).max(1)
        };
        self.window = self.window.min(STREAM_WINDOW as u64);
    }

    /// Takes for lost what many later ones overtook; true when the window had to be halved.
    fn notice_losses(&mut self, before: u64) -> bool {
        let mut halve = false;
        for sent in &mut self.flight {
            if sent.fate == Fate::OnItsWay && sent.number + DUPLICATES <= self.arrived {
                sent.fate = Fate::Lost;
                self.lost += 1;
                self.in_flight -= sent.end() - sent.seq;
                halve |= sent.number >= self.recovered;
            }
        }
        if halve {
            self.threshold = (before.min(self.window) / 2).max(2 * self.mss);
            self.window = self.threshold;
            self.recovered = self.transmissions;
        }
        halve
    }

    fn measure(&mut self, took: u64) {
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2),
            Some((mean, deviation)) => (
                (mean * 7 + took) / 8,
                (deviation * 3 + mean.abs_diff(took)) / 4,
            ),
        });
    }
}

/// Up to so many bytes from the front, in one.
fn cut(to_send: &mut VecDeque<Bytes>, most: usize) -> Bytes {
    let Some(first) = to_send.front_mut() else {
        return Bytes::new();
    };
    if first.len() > most {
        return first.split_to(most);
    }
    let first = to_send.pop_front().unwrap_or_default();
    if first.len() == most || to_send.is_empty() {
        return first;
    }
    let mut whole = BytesMut::with_capacity(most);
    whole.extend_from_slice(&first);
    while let Some(next) = to_send.front_mut() {
        let room = most - whole.len();
        if next.len() > room {
            whole.extend_from_slice(&next.split_to(room));
            break;
        }
        whole.extend_from_slice(next);
        to_send.pop_front();
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::draw::{chance, draw};

    const MSS: u64 = 1_448;
    const WAY: u64 = 25_000;

    /// Sends so many bytes over a path with a rate and a queue, that loses some; gives what came,
    /// when the last of it did, and the largest window.
    fn transfer(length: usize, rate: u64, depth: u64, loss_ppm: u32) -> (Vec<u8>, u64, u64) {
        let content: Vec<u8> = (0..length).map(|n| ((n * 31) >> 3) as u8).collect();
        let mut to_send: VecDeque<Bytes> =
            content.chunks(20_011).map(Bytes::copy_from_slice).collect();
        let (mut a, mut b) = (Tcp::new(MSS), Tcp::new(MSS));
        let (mut came, mut read) = (VecDeque::new(), Vec::new());
        let mut events: BTreeMap<(u64, u64), (bool, Segment)> = BTreeMap::new();
        let (mut now, mut free, mut number, mut largest, mut done) = (1, 0u64, 0, 0, 0);
        for _ in 0..2_000_000 {
            while let Some((segment, _)) = a.next_segment(now, &mut to_send, true, 0) {
                number += 1;
                let bytes = segment.data.len() as u64 + 52;
                let waits = free.saturating_sub(now) * rate / 1_000_000;
                let lost = chance(draw(1, 2, 3, number), loss_ppm);
                if !lost && waits + bytes <= depth {
                    free = free.max(now) + bytes * 1_000_000 / rate;
                    events.insert((free + WAY, number), (true, segment));
                }
            }
            largest = largest.max(a.window);
            if let Some(ack) = b.acknowledge(now, 0) {
                number += 1;
                if !chance(draw(1, 2, 3, number), loss_ppm) {
                    events.insert((now + WAY, number), (false, ack));
                }
            }
            if a.is_over() {
                break;
            }
            let next = events.keys().next().map_or(u64::MAX, |key| key.0);
            let wakes = [a.wake_at(), b.wake_at()].into_iter().filter(|at| *at != 0);
            now = wakes.chain([next]).min().unwrap_or(next).max(now);
            assert_ne!(now, u64::MAX, "nothing happens any more");
            if next <= now {
                let Some((_, (forth, segment))) = events.pop_first() else {
                    continue;
                };
                if forth {
                    if b.on_segment(now, segment, &mut came) {
                        done = now;
                    }
                    came.drain(..)
                        .for_each(|data| read.extend_from_slice(&data));
                } else {
                    a.on_segment(now, segment, &mut VecDeque::new());
                }
            }
            a.expire(now, false);
        }
        assert!(read == content, "{} of {length} bytes came", read.len());
        (read, done, largest)
    }

    #[test]
    fn an_idle_link_is_filled() {
        let (_, done, largest) = transfer(8 << 20, 1_250_000, 125_000, 0);
        // What the wire needs for it, headers included, and the start.
        let least = (8u64 << 20) * 1_500 / 1_448 * 1_000_000 / 1_250_000;
        assert!(done < least * 112 / 100, "{done} for {least}");
        assert!(largest < 600_000, "losses bound the window: {largest}");
    }

    #[test]
    fn all_bytes_come_in_order_whatever_is_lost() {
        for loss_ppm in [1_000, 20_000, 100_000, 250_000] {
            transfer(300_000, 1_250_000, 60_000, loss_ppm);
        }
        // A queue of three packets.
        transfer(300_000, 200_000, 4_500, 0);
    }

    #[test]
    fn losses_cost_what_the_law_says() {
        // Mathis et al.: a segment per round trip, times the root of 1.5 over the losses.
        let (_, done, _) = transfer(4 << 20, 100_000_000, 10_000_000, 10_000);
        let rate = (4u64 << 20) * 1_000_000 / done;
        let law = MSS * 1_000_000 / (2 * WAY) * 12;
        assert!(rate * 2 > law && rate < law * 2, "{rate} against {law}");
    }

    #[test]
    fn who_has_no_room_is_asked_again_and_says_when_he_has() {
        let (mut a, mut b) = (Tcp::new(MSS), Tcp::new(MSS));
        let mut to_send = VecDeque::from([Bytes::from(vec![7; 2 * STREAM_WINDOW])]);
        let mut came = VecDeque::new();
        let mut now = 1;
        // It reads nothing.
        for _ in 0..5_000 {
            now += 1_000;
            let buffered = |came: &VecDeque<Bytes>| came.iter().map(Bytes::len).sum::<usize>();
            if let Some((segment, _)) = a.next_segment(now, &mut to_send, false, 0) {
                b.on_segment(now, segment, &mut came);
            }
            if let Some(ack) = b.acknowledge(now, buffered(&came)) {
                a.on_segment(now, ack, &mut VecDeque::new());
            }
        }
        assert_eq!(came.iter().map(Bytes::len).sum::<usize>(), STREAM_WINDOW);
        a.persist(now);
        let at = a.wake_at();
        let (_, probe) = a.expire(at, true);
        let probe = a.probe(at, probe.expect("it asks"), 0);
        b.on_segment(at, probe, &mut came);
        let ack = b.acknowledge(at, STREAM_WINDOW).expect("it answers");
        a.on_segment(at, ack, &mut VecDeque::new());
        assert!(a.next_segment(at, &mut to_send, false, 0).is_none());
        b.has_read(at, 0);
        let ack = b.acknowledge(at, 0).expect("it says so");
        a.on_segment(at, ack, &mut VecDeque::new());
        assert!(a.next_segment(at, &mut to_send, false, 0).is_some());
    }
}
