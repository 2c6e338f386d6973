//! How a connection begins: in plain text or encrypted, and when the other way is tried.

use crate::config::EncryptionMode;
use crate::event::CloseReason;
use crate::io::IoReason;

/// Why nothing came of a connection to a peer that will not be spoken to in cipher.
pub const NOT_ENCRYPTED: &str = "the peer does not answer in cipher";

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// With a handshake in plain text.
    Plain,
    /// With the handshake of encryption.
    Encrypted,
}

impl Dial {
    /// How connections to peers begin of whom nothing is known.
    const fn first(mode: EncryptionMode) -> Self {
        match mode {
            EncryptionMode::Off | EncryptionMode::Allow => Self::Plain,
            EncryptionMode::Prefer | EncryptionMode::Require => Self::Encrypted,
        }
    }

    /// Whether an attempt that ended so may have failed because of how it began. Plain text is
    /// hung up on by those who want none; who cannot decipher may also wait for more.
    const fn may_be_why(self, reason: CloseReason) -> bool {
        use CloseReason::{BadHandshake, Encryption, HandshakeTimeout, Io};
        let fails = matches!(reason, BadHandshake | Encryption(_) | HandshakeTimeout);
        let hung_up = matches!(reason, Io(IoReason::Eof | IoReason::Reset));
        hung_up || (fails && matches!(self, Self::Encrypted))
    }
}

/// What is known of how one peer is to be spoken to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// What worked last, or is tried next.
    dial: Option<Dial>,
    /// The attempt is a second one, after the other way failed.
    second: bool,
}

impl Manner {
    /// How the next attempt begins.
    pub(super) fn dial(self, mode: EncryptionMode) -> Dial {
        self.dial.unwrap_or(Dial::first(mode))
    }

    /// The attempt came to a handshake: this is how that peer is spoken to.
    pub(super) fn on_connected(&mut self, mode: EncryptionMode) {
        *self = Self {
            dial: Some(self.dial(mode)),
            second: false,
        };
    }

    /// An attempt failed. Whether the other way is to be tried at once: that is done once, and
    /// then all begins anew.
    pub(super) fn on_failed(&mut self, mode: EncryptionMode, reason: CloseReason) -> bool {
        let free = matches!(mode, EncryptionMode::Allow | EncryptionMode::Prefer);
        let dial = self.dial(mode);
        if !free || self.second || !dial.may_be_why(reason) {
            *self = Self::default();
            return false;
        }
        *self = Self {
            dial: Some(match dial {
                Dial::Plain => Dial::Encrypted,
                Dial::Encrypted => Dial::Plain,
            }),
            second: true,
        };
        true
    }
}

/// What is told of a failed attempt, if it is worth telling: where encryption is required, that
/// this peer has none.
pub(super) fn told(mode: EncryptionMode, reason: CloseReason) -> Option<CloseReason> {
    let lacks = mode == EncryptionMode::Require && Dial::Encrypted.may_be_why(reason);
    lacks.then_some(match reason {
        CloseReason::Encryption(_) => reason,
        _ => CloseReason::Encryption(NOT_ENCRYPTED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: CloseReason = CloseReason::Io(IoReason::Eof);
    const REFUSED: CloseReason = CloseReason::Io(IoReason::Refused);
    const SILENT: CloseReason = CloseReason::HandshakeTimeout;

    #[test]
    fn the_other_way_is_tried_once_where_that_is_allowed() {
        for (mode, reason, ways) in [
            (EncryptionMode::Off, CLOSED, &[Dial::Plain][..]),
            (
                EncryptionMode::Allow,
                CLOSED,
                &[Dial::Plain, Dial::Encrypted],
            ),
            (EncryptionMode::Allow, REFUSED, &[Dial::Plain]),
            (EncryptionMode::Allow, SILENT, &[Dial::Plain]),
            (
                EncryptionMode::Prefer,
                CLOSED,
                &[Dial::Encrypted, Dial::Plain],
            ),
            (
                EncryptionMode::Prefer,
                SILENT,
                &[Dial::Encrypted, Dial::Plain],
            ),
            (EncryptionMode::Prefer, REFUSED, &[Dial::Encrypted]),
            (EncryptionMode::Require, CLOSED, &[Dial::Encrypted]),
        ] {
            let mut manner = Manner::default();
            // Every attempt of its own goes through all ways anew.
            for _ in 0..3 {
                for (at, way) in ways.iter().enumerate() {
                    assert_eq!(manner.dial(mode), *way, "{mode:?}");
                    let again = manner.on_failed(mode, reason);
                    assert_eq!(again, at + 1 < ways.len(), "{mode:?} {reason:?}");
                }
            }
        }
    }

    #[test]
    fn what_worked_is_tried_first_the_next_time() {
        let mode = EncryptionMode::Allow;
        let mut manner = Manner::default();
        assert!(manner.on_failed(mode, CLOSED));
        manner.on_connected(mode);
        assert_eq!(manner.dial(mode), Dial::Encrypted);
        assert!(manner.on_failed(mode, CLOSED));
        assert_eq!(manner.dial(mode), Dial::Plain);
        assert!(!manner.on_failed(mode, CLOSED));
        assert_eq!(manner.dial(mode), Dial::Plain);
    }
}
