//! A host's access link: two pipes, each with a rate, a queue, and faults of its own.

use std::time::Duration;

use super::draw::{Purpose, chance, draw};

/// How much may wait in front of a pipe; what comes then is dropped (drop-tail).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Bytes, headers included.
    Bytes(u64),
    /// As much as leaves in this time.
    Time(Duration),
}

/// Which packets a pipe loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// None but those that find its queue full.
    #[default]
    None,
    /// Each with the same chance, parts per million.
    Independent(u32),
    /// In bursts (Gilbert 1960, Elliott 1963): the pipe is good or bad, and each packet may change
    /// that. All in parts per million.
    Bursts {
        /// A good pipe turns bad.
        enter_ppm: u32,
        /// A bad one turns good.
        leave_ppm: u32,
        /// What is lost while it is good.
        good_ppm: u32,
        /// What is lost while it is bad.
        bad_ppm: u32,
    },
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipe {
    /// Bytes per second, headers included; 0 is without limit.
    pub rate: u64,
    /// What may wait, where there is a rate.
    pub queue: Queue,
    /// What is lost.
    pub loss: Loss,
    /// Packets that are held up and so overtaken by others, parts per million.
    pub reorder_ppm: u32,
    /// How long.
    pub reorder_by: Duration,
    /// Packets that come twice, parts per million.
    pub duplicate_ppm: u32,
    /// Packets of which a bit is flipped, parts per million. A datagram comes as it is, wrong; a
    /// segment of a stream has a checksum, and is lost.
    pub corrupt_ppm: u32,
}

impl Pipe {
    /// A pipe of this rate, in bytes per second, with a queue of 100 ms and no faults.
    #[must_use]
    pub const fn new(rate: u64) -> Self {
        Self {
            rate,
            queue: Queue::Time(Duration::from_millis(100)),
            loss: Loss::None,
            reorder_ppm: 0,
            reorder_by: Duration::from_millis(5),
            duplicate_ppm: 0,
            corrupt_ppm: 0,
        }
    }

    /// Bytes that may wait.
    #[must_use]
    pub fn depth(&self) -> u64 {
        match self.queue {
            Queue::Bytes(bytes) => bytes,
            Queue::Time(time) => {
                let bytes = time.as_micros() * u128::from(self.rate) / 1_000_000;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }

    /// The share of packets lost for good, parts per million: what a flow over it has to live with.
    #[must_use]
    pub fn mean_loss_ppm(&self) -> u32 {
        let lost = match self.loss {
            Loss::None => 0,
            Loss::Independent(ppm) => ppm,
            Loss::Bursts {
                enter_ppm,
                leave_ppm,
                good_ppm,
                bad_ppm,
            } => {
                let (enter, leave) = (u64::from(enter_ppm), u64::from(leave_ppm));
                let sum = (enter + leave).max(1);
                ((leave * u64::from(good_ppm) + enter * u64::from(bad_ppm)) / sum) as u32
            }
        };
        lost.saturating_add(self.corrupt_ppm).min(1_000_000)
    }

    /// Whether nothing happens to what passes: it is not even late.
    pub(crate) const fn is_perfect(&self) -> bool {
        self.rate == 0
            && matches!(self.loss, Loss::None)
            && self.reorder_ppm == 0
            && self.duplicate_ppm == 0
            && self.corrupt_ppm == 0
    }
}

/// How a host is connected to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// From the host.
    pub up: Pipe,
    /// To the host.
    pub down: Pipe,
    /// Longest packet, bytes, headers included. Longer datagrams go in fragments, of which all
    /// have to arrive; segments of streams are made to fit.
    pub mtu: u16,
    /// What the link adds to the delay of every packet, each way.
    pub delay: Duration,
}

impl Link {
    /// A link of these rates, in bytes per second, with queues of 100 ms.
    #[must_use]
    pub const fn new(up: u64, down: u64) -> Self {
        Self {
            up: Pipe::new(up),
            down: Pipe::new(down),
            mtu: 1_500,
            delay: Duration::ZERO,
        }
    }

    /// A link that holds nothing up.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(0, 0)
    }

    /// Bytes and packets that `payload` bytes with these headers take: each fragment has its own.
    pub(crate) fn on_the_wire(&self, payload: u64, headers: u64) -> (u64, u32) {
        let room = u64::from(self.mtu.max(576)).saturating_sub(headers);
        let packets = payload.div_ceil(room).max(1);
        (payload + packets * headers, packets as u32)
    }
}

impl Default for Link {
    /// 100 Mbit/s both ways.
    fn default() -> Self {
        Self::new(12_500_000, 12_500_000)
    }
}

/// Which way a pipe leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the host.
    Up,
    /// To the host.
    Down,
}

/// Where a pipe stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PipeState {
    /// When all that waits will have left, nanoseconds.
    free: u64,
    /// Packets that came.
    packets: u64,
    /// Bytes that were let in.
    pub(crate) bytes: u64,
    /// Packets dropped because the queue was full.
    pub(crate) dropped: u64,
    /// Bytes of fluid flows that stand in the queue.
    pub(crate) standing: u64,
    /// It is in a burst of losses.
    bad: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// When its last bit has passed, microseconds.
    pub(crate) at: u64,
    /// A second one follows at this moment.
    pub(crate) again: Option<u64>,
    /// The bit that is flipped, counted round.
    pub(crate) flipped: Option<usize>,
}

impl PipeState {
    /// Lets a packet of `bytes` in `packets` fragments in; `None` when it is lost. Draws are made
    /// by the host's number and the packet's.
    pub(crate) fn pass(
        &mut self,
        pipe: &Pipe,
        now: u64,
        (bytes, packets): (u64, u32),
        (seed, host, direction): (u64, u32, Direction),
    ) -> Option<Passed> {
        let number = self.packets;
        self.packets += 1;
        let [loss, burst, reorder, duplicate, corrupt] = match direction {
            Direction::Up => [
                Purpose::UpLoss,
                Purpose::UpBurst,
                Purpose::UpReorder,
                Purpose::UpDuplicate,
                Purpose::UpCorrupt,
            ],
            Direction::Down => [
                Purpose::DownLoss,
                Purpose::DownBurst,
                Purpose::DownReorder,
                Purpose::DownDuplicate,
                Purpose::DownCorrupt,
            ],
        };
        let bits = |purpose: Purpose, part: u64| {
            draw(seed ^ part << 48, purpose as u64, u64::from(host), number)
        };
        let ppm = match pipe.loss {
            Loss::None => 0,
            Loss::Independent(ppm) => ppm,
            Loss::Bursts {
                enter_ppm,
                leave_ppm,
                good_ppm,
                bad_ppm,
            } => {
                let change = if self.bad { leave_ppm } else { enter_ppm };
                self.bad ^= chance(bits(burst, 0), change);
                if self.bad { bad_ppm } else { good_ppm }
            }
        };
        if (0..u64::from(packets)).any(|part| chance(bits(loss, part), ppm)) {
            return None;
        }
        let mut at = now;
        if pipe.rate > 0 {
            let now = now * 1_000;
            let start = self.free.max(now) + self.standing_nanos(pipe);
            // A packet that finds the queue empty is let in however long it is.
            if start > now && self.queued(pipe, now / 1_000) + bytes > pipe.depth() {
                self.dropped += 1;
                return None;
            }
            let nanos = nanos_for(bytes, pipe.rate);
            self.free = self.free.max(now) + nanos;
            at = (start + nanos).div_ceil(1_000);
        }
        self.bytes += bytes;
        if chance(bits(reorder, 0), pipe.reorder_ppm) {
            at += pipe.reorder_by.as_micros() as u64;
        }
        let again = chance(bits(duplicate, 0), pipe.duplicate_ppm).then_some(at + 1);
        let corrupt = bits(corrupt, 0);
        let flipped = chance(corrupt, pipe.corrupt_ppm).then(|| draw(corrupt, 0, 0, 0) as usize);
        Some(Passed { at, again, flipped })
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self, pipe: &Pipe, now: u64) -> u64 {
        let nanos = self.free.saturating_sub(now * 1_000);
        let bytes = u128::from(nanos) * u128::from(pipe.rate) / 1_000_000_000;
        bytes as u64 + self.standing
    }

    /// Time that what fluid flows have standing in the queue takes to leave.
    fn standing_nanos(&self, pipe: &Pipe) -> u64 {
        nanos_for(self.standing, pipe.rate)
    }

    /// The same in microseconds.
    pub(crate) fn standing_micros(&self, pipe: &Pipe) -> u64 {
        if pipe.rate == 0 {
            return 0;
        }
        self.standing_nanos(pipe).div_ceil(1_000)
    }

    /// Forgets what waits: the host, or its link, is another now.
    pub(crate) fn reset(&mut self) {
        self.free = 0;
        self.standing = 0;
        self.bad = false;
    }
}

fn nanos_for(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: (u64, u32, Direction) = (7, 3, Direction::Up);

    fn pass(state: &mut PipeState, pipe: &Pipe, now: u64, bytes: u64) -> Option<u64> {
        let passed = state.pass(pipe, now, (bytes, 1), WHO);
        passed.map(|passed| passed.at)
    }

    #[test]
    fn packets_wait_for_those_before_them_and_a_full_queue_drops() {
        // A megabyte a second, three packets of a thousand bytes deep.
        let pipe = Pipe {
            queue: Queue::Bytes(3_000),
            ..Pipe::new(1_000_000)
        };
        let mut state = PipeState::default();
        let at: Vec<_> = (0..5)
            .map(|_| pass(&mut state, &pipe, 100, 1_000))
            .collect();
        let expected = [Some(1_100), Some(2_100), Some(3_100), None, None];
        assert_eq!(at, expected);
        assert_eq!((state.dropped, state.queued(&pipe, 100)), (2, 3_000));
        assert_eq!(state.queued(&pipe, 2_600), 500);
        assert_eq!(pass(&mut state, &pipe, 2_100, 1_000), Some(4_100));
        // However long: the queue is empty.
        assert_eq!(pass(&mut state, &pipe, 10_000, 9_000), Some(19_000));
        assert_eq!(pass(&mut state, &Pipe::new(0), 10_000, 9_000), Some(10_000));
    }

    #[test]
    fn a_queue_may_be_as_deep_as_what_leaves_in_a_time() {
        let pipe = Pipe::new(2_000_000);
        assert_eq!(pipe.depth(), 200_000);
        let mut state = PipeState::default();
        let let_in = (0..1_000).filter(|_| pass(&mut state, &pipe, 1, 1_000).is_some());
        assert_eq!(let_in.count(), 200);
    }

    #[test]
    fn what_stands_in_the_queue_makes_packets_wait() {
        let pipe = Pipe::new(1_000_000);
        let mut state = PipeState {
            standing: 50_000,
            ..PipeState::default()
        };
        assert_eq!(pass(&mut state, &pipe, 0, 1_000), Some(51_000));
        assert_eq!(state.queued(&pipe, 0), 51_000);
        assert_eq!(state.standing_micros(&pipe), 50_000);
    }

    fn lost(pipe: &Pipe) -> Vec<bool> {
        let mut state = PipeState::default();
        let lost = |_| pass(&mut state, pipe, 0, 100).is_none();
        (0..200_000).map(lost).collect()
    }

    #[test]
    fn bursts_are_as_long_and_as_many_as_they_are_to_be() {
        let mut pipe = Pipe::new(0);
        pipe.loss = Loss::Bursts {
            enter_ppm: 10_000,
            leave_ppm: 200_000,
            good_ppm: 0,
            bad_ppm: 1_000_000,
        };
        let lost = lost(&pipe);
        let all = lost.iter().filter(|lost| **lost).count();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        // Of 105 packets 5 are in a burst, and a burst is 5 long.
        assert!((9_000..10_100).contains(&all), "{all}");
        assert!((1_750..2_050).contains(&bursts), "{bursts}");
        assert_eq!(pipe.mean_loss_ppm(), 47_619);
    }

    #[test]
    fn taking_one_fault_away_leaves_the_others_where_they_were() {
        let all = Pipe {
            loss: Loss::Independent(50_000),
            reorder_ppm: 50_000,
            duplicate_ppm: 50_000,
            corrupt_ppm: 50_000,
            ..Pipe::new(0)
        };
        let fates = |pipe: &Pipe| -> Vec<Option<Passed>> {
            let mut state = PipeState::default();
            (0..5_000)
                .map(|_| state.pass(pipe, 10, (100, 1), WHO))
                .collect()
        };
        let with = fates(&all);
        let without = fates(&Pipe {
            loss: Loss::None,
            ..all
        });
        let (mut kept, mut lost) = (0, 0);
        for (with, without) in with.iter().zip(&without) {
            match with {
                Some(_) => {
                    assert_eq!(with, without);
                    kept += 1;
                }
                None => lost += 1,
            }
        }
        assert!(kept > 4_500 && lost > 150);
        for count in [
            without
                .iter()
                .flatten()
                .filter(|it| it.again.is_some())
                .count(),
            without
                .iter()
                .flatten()
                .filter(|it| it.flipped.is_some())
                .count(),
            without.iter().flatten().filter(|it| it.at > 10).count(),
        ] {
            assert!((180..330).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_long_datagram_is_lost_with_any_of_its_fragments() {
        let link = Link::default();
        assert_eq!(link.on_the_wire(1_400, 28), (1_428, 1));
        assert_eq!(link.on_the_wire(0, 28), (28, 1));
        assert_eq!(link.on_the_wire(4_000, 28), (4_084, 3));
        let mut pipe = Pipe::new(0);
        pipe.loss = Loss::Independent(100_000);
        let mut state = PipeState::default();
        let mut come = |packets| {
            let pass = |_: &u32| state.pass(&pipe, 0, (100, packets), WHO).is_some();
            (0..10_000).filter(pass).count()
        };
        let (one, three) = (come(1), come(3));
        assert!((8_850..9_150).contains(&one), "{one}");
        assert!((7_100..7_480).contains(&three), "{three}");
    }
}
