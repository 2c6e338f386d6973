//! The bytes of blocks on their way to disk: what counts against the budget that parks reading.

use alloc::collections::BTreeMap;

/// Block bytes that were received and are not yet safe to forget, by piece.
///
/// Two kinds of bytes count: those whose `Write` is not answered, and those of whole pieces that
/// are being hashed and committed. Bytes of a *partial* piece stop counting once they are
/// written, since the host keeps or spills them within a budget of its own. So whatever counts is
/// waiting for the host alone, never for a remote, and parking all reading cannot park for ever:
/// no set of partial pieces, however large, can use the budget up.
#[derive(Debug, Default)]
pub struct InFlight {
    pieces: BTreeMap<u32, Piece>,
    bytes: u64,
    told: u64,
}

#[derive(Debug, Default)]
struct Piece {
    unwritten: u64,
    written: u64,
    whole: bool,
}

impl Piece {
    fn counted(&self) -> u64 {
        self.unwritten + if self.whole { self.written } else { 0 }
    }
}

impl InFlight {
    /// Bytes that count now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Block bytes of `piece` were received and handed to the host.
    pub fn on_received(&mut self, piece: u32, bytes: u64) {
        self.change(piece, |piece| piece.unwritten += bytes);
    }

    /// The host answered the write of `bytes` of `piece`.
    pub fn on_written(&mut self, piece: u32, bytes: u64) {
        if self.pieces.contains_key(&piece) {
            self.change(piece, |piece| {
                let bytes = bytes.min(piece.unwritten);
                piece.unwritten -= bytes;
                piece.written += bytes;
            });
        }
    }

    /// Every block of `piece` is there: it is hashed next.
    pub fn on_whole(&mut self, piece: u32) {
        self.change(piece, |piece| piece.whole = true);
    }

    /// `piece` was committed or discarded.
    pub fn on_gone(&mut self, piece: u32) {
        if let Some(piece) = self.pieces.remove(&piece) {
            self.bytes -= piece.counted();
        }
    }

    /// What changed since the last call, for the engine's budget.
    pub fn take_change(&mut self) -> i64 {
        let change = self.bytes as i64 - self.told as i64;
        self.told = self.bytes;
        change
    }

    fn change(&mut self, piece: u32, change: impl FnOnce(&mut Piece)) {
        let piece = self.pieces.entry(piece).or_default();
        let before = piece.counted();
        change(piece);
        self.bytes = self.bytes - before + piece.counted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    #[test]
    fn partial_pieces_stop_counting_once_written_and_whole_ones_when_committed() {
        let mut flight = InFlight::default();
        flight.on_received(3, 100);
        assert_eq!((flight.bytes(), flight.take_change()), (100, 100));
        flight.on_written(3, 100);
        assert_eq!((flight.bytes(), flight.take_change()), (0, -100));
        flight.on_received(3, 50);
        flight.on_whole(3);
        assert_eq!(flight.bytes(), 150);
        flight.on_written(3, 50);
        assert_eq!(flight.bytes(), 150);
        flight.on_gone(3);
        flight.on_written(3, 50);
        assert_eq!((flight.bytes(), flight.take_change()), (0, 0));
    }

    quickcheck! {
        fn changes_add_up_and_end_at_zero(steps: Vec<(u8, u8, u16)>) -> bool {
            let mut flight = InFlight::default();
            let mut sum = 0;
            for (kind, piece, bytes) in steps {
                let (piece, bytes) = (u32::from(piece % 4), u64::from(bytes));
                match kind % 5 {
                    0 | 1 => flight.on_received(piece, bytes),
                    2 => flight.on_written(piece, bytes),
                    3 => flight.on_whole(piece),
                    _ => flight.on_gone(piece),
                }
                sum += flight.take_change();
                assert_eq!(sum, flight.bytes() as i64);
            }
            (0..4).for_each(|piece| flight.on_gone(piece));
            flight.bytes() == 0
        }
    }
}
