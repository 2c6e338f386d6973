//! What an engine writes to its plain streams, read along without copying.

/// Bytes of a handshake (BEP 3).
const HANDSHAKE: usize = 68;
/// Bytes of a message's payload that are kept: enough for a block's place, and to know peer
/// exchange by its first key.
const KEPT: usize = 13;

/// A message that was begun: its kind and the first bytes of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) kind: u8,
    /// Length of the payload, bytes.
    pub(crate) length: u32,
    head: [u8; KEPT],
}

impl Begun {
    /// Piece, first byte and length of the block that a `piece` message carries.
    pub(crate) fn block(&self) -> Option<(u32, u32, u32)> {
        let number = |at: usize| {
            let bytes = self.head.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        (self.kind == 7 && self.length >= 8).then_some(())?;
        Some((number(0)?, number(4)?, self.length - 8))
    }

    /// Whether it is peer exchange (BEP 11): an extension whose dictionary begins with `added`.
    pub(crate) fn is_pex(&self) -> bool {
        self.kind == 20 && self.head[0] != 0 && self.head[1..].starts_with(b"d5:added")
    }
}

/// One direction of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    state: State,
    /// The info-hash of the handshake.
    pub(crate) info_hash: [u8; 20],
}

#[derive(Debug, Clone)]
enum State {
    Handshake(usize),
    /// Bytes of a message's head so far: length, kind, and what is kept of the payload.
    Head {
        had: usize,
        bytes: [u8; 5 + KEPT],
        wanted: usize,
    },
    Payload(u32),
    /// Encrypted, or no BitTorrent at all.
    Unknown,
}

const FRAME: State = State::Head {
    had: 0,
    bytes: [0; 5 + KEPT],
    wanted: 4,
};

impl Default for Reading {
    fn default() -> Self {
        Self {
            state: State::Handshake(0),
            info_hash: [0; 20],
        }
    }
}

impl Reading {
    /// Whether messages can be told apart.
    #[cfg(test)]
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self.state, State::Unknown)
    }

    /// Reads on; every message is told when its first bytes are there.
    pub(crate) fn read(&mut self, mut data: &[u8], mut told: impl FnMut(Begun)) {
        while let Some(first) = data.first() {
            match &mut self.state {
                State::Unknown => return,
                State::Handshake(had) => {
                    if *had == 0 && *first != 19 {
                        self.state = State::Unknown;
                        return;
                    }
                    let taken = data.len().min(HANDSHAKE - *had);
                    for (at, byte) in data[..taken].iter().enumerate() {
                        if let Some(to) = (*had + at).checked_sub(28).filter(|to| *to < 20) {
                            self.info_hash[to] = *byte;
                        }
                    }
                    *had += taken;
                    data = &data[taken..];
                    if *had == HANDSHAKE {
                        self.state = FRAME;
                    }
                }
                State::Head { had, bytes, wanted } => {
                    let taken = data.len().min(*wanted - *had);
                    bytes[*had..*had + taken].copy_from_slice(&data[..taken]);
                    *had += taken;
                    data = &data[taken..];
                    if *had < *wanted {
                        return;
                    }
                    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    if length == 0 {
                        self.state = FRAME;
                        continue;
                    }
                    let all = 4 + (length as usize).min(1 + KEPT);
                    if *had < all {
                        *wanted = all;
                        continue;
                    }
                    let mut head = [0; KEPT];
                    head.copy_from_slice(&bytes[5..]);
                    let kind = bytes[4];
                    let rest = length - (all as u32 - 4);
                    self.state = if rest > 0 {
                        State::Payload(rest)
                    } else {
                        FRAME
                    };
                    told(Begun {
                        kind,
                        length: length - 1,
                        head,
                    });
                }
                State::Payload(left) => {
                    let taken = data.len().min(*left as usize);
                    *left -= taken as u32;
                    data = &data[taken..];
                    if *left == 0 {
                        self.state = FRAME;
                    }
                }
            }
        }
    }
}

/// What one end of a connection has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conn {
    pub(crate) reading: Reading,
    pub(crate) unsent: u64,
    pub(crate) unchoked: bool,
    /// The block whose bytes are to come: piece, first byte, length.
    pub(crate) block: Option<(u32, u32, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind and length of a message, the block it carries, and whether it is peer exchange.
    type Told = (u8, u32, Option<(u32, u32, u32)>, bool);

    fn said(cuts: usize) -> Vec<Told> {
        let mut stream = vec![19];
        stream.extend_from_slice(b"BitTorrent protocol");
        stream.extend_from_slice(&[0; 8]);
        stream.extend_from_slice(&[7; 20]);
        stream.extend_from_slice(&[1; 20]);
        stream.extend_from_slice(&[0, 0, 0, 0]);
        stream.extend_from_slice(&[0, 0, 0, 1, 1]);
        stream.extend_from_slice(&[0, 0, 0, 14, 7, 0, 0, 0, 3, 0, 0, 64, 0, 1, 2, 3, 4, 5]);
        stream.extend_from_slice(&[0, 0, 0, 13, 20, 1]);
        stream.extend_from_slice(b"d5:added0:e");
        stream.extend_from_slice(&[0, 0, 0, 5, 4, 0, 0, 0, 9]);
        let mut reading = Reading::default();
        let mut told = Vec::new();
        for part in stream.chunks(cuts) {
            reading.read(part, |it| {
                told.push((it.kind, it.length, it.block(), it.is_pex()))
            });
        }
        assert_eq!(reading.info_hash, [7; 20]);
        assert!(reading.is_plain());
        told
    }

    #[test]
    fn messages_are_told_however_they_are_cut() {
        let all = said(1_000);
        let expected = [
            (1, 0, None, false),
            (7, 13, Some((3, 16_384, 5)), false),
            (20, 12, None, true),
            (4, 4, None, false),
        ];
        assert_eq!(all, expected);
        for cuts in 1..40 {
            assert_eq!(said(cuts), all, "{cuts}");
        }
    }

    #[test]
    fn what_is_encrypted_is_left_alone() {
        let mut reading = Reading::default();
        reading.read(&[77; 400], |it| panic!("{it:?}"));
        assert!(!reading.is_plain());
    }
}
