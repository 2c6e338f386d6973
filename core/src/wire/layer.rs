//! What lies between the stream and its messages: nothing, the handshake of encryption, a cipher.

#[cfg(feature = "encryption")]
use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::config::{EncryptionMode, WireConfig};
use crate::event::{CloseReason, Encryption};
use crate::id::Id20;
#[cfg(feature = "encryption")]
use crate::rng::{Label, Secrets};
#[cfg(feature = "encryption")]
use crate::wire::handshake::PREFIX;
#[cfg(feature = "encryption")]
use crate::wire::mse::{self, Ciphers, Event, Mse};

/// Why a plain connection is refused, where only encrypted ones are allowed.
pub const PLAIN_REFUSED: &str = "plain text is not allowed";

/// What lies between the stream and its messages.
#[derive(Debug, Default)]
pub(super) enum Layer {
    /// Nothing.
    #[default]
    Plain,
    /// Outgoing: begins with the handshake of encryption, whose secrets come of this seed.
    #[cfg(feature = "encryption")]
    Dial([u8; 32]),
    /// Incoming: so many bytes came, and so far they are those of a plain handshake.
    #[cfg(feature = "encryption")]
    Unknown { have: u8, seed: [u8; 32] },
    /// The handshake of encryption is under way. What came after a question of its that is not
    /// answered waits.
    #[cfg(feature = "encryption")]
    Shaking { mse: Box<Mse>, waiting: BytesMut },
    /// It is over.
    #[cfg(feature = "encryption")]
    Ciphered(Box<Ciphers>),
}

/// What came of an input.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What the messages are made of.
    pub(super) data: BytesMut,
    /// The torrent that is sought.
    pub(super) sought: Option<Id20>,
    /// The stream turned out not to be plain: what was taken of it as such was not.
    pub(super) anew: bool,
}

impl Layer {
    /// Of a connection that begins encrypted (ours), or may.
    #[cfg(feature = "encryption")]
    pub(super) fn new(mode: EncryptionMode, outgoing: bool, seed: [u8; 32]) -> Self {
        match (outgoing, mode) {
            (true, _) => Self::Dial(seed),
            (false, EncryptionMode::Off) => Self::Plain,
            (false, _) => Self::Unknown { have: 0, seed },
        }
    }

    #[cfg(not(feature = "encryption"))]
    pub(super) fn new(_: EncryptionMode, _: bool, _: [u8; 32]) -> Self {
        Self::Plain
    }

    /// How the stream is encrypted.
    pub(super) fn encryption(&self) -> Encryption {
        #[cfg(feature = "encryption")]
        if matches!(self, Self::Ciphered(ciphers) if ciphers.is_rc4()) {
            return Encryption::Rc4;
        }
        Encryption::Plain
    }

    /// Whether the remote began in plain text.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The stream stands; `handshake` is what is said first on it. Appends what is sent.
    pub(super) fn on_connected(
        &mut self,
        config: &WireConfig,
        info_hash: Id20,
        handshake: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        #[cfg(feature = "encryption")]
        if let Self::Dial(seed) = self {
            let mut initial = Vec::new();
            handshake(&mut initial);
            let secrets = Secrets::new(seed, Label::Encryption);
            *self = Self::Shaking {
                mse: Box::new(Mse::initiate(
                    config.encryption,
                    secrets,
                    info_hash,
                    &initial,
                    out,
                )),
                waiting: BytesMut::new(),
            };
            return;
        }
        #[cfg(not(feature = "encryption"))]
        let _ = (config, info_hash);
        handshake(out);
    }
}

#[cfg(not(feature = "encryption"))]
impl Layer {
    pub(super) fn read(
        &mut self,
        _: &WireConfig,
        data: BytesMut,
        _: &mut Vec<u8>,
    ) -> Result<Read, CloseReason> {
        Ok(Read {
            data,
            ..Read::default()
        })
    }

    pub(super) fn encipher_head(&mut self, _: &mut [u8]) {}

    pub(super) fn encipher(&mut self, body: Bytes) -> Bytes {
        body
    }
}

#[cfg(feature = "encryption")]
impl Layer {
    /// Bytes arrived. What is sent in answer is appended to `out`; what is left of them is
    /// deciphered in place.
    #[inline]
    pub(super) fn read(
        &mut self,
        config: &WireConfig,
        data: BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<Read, CloseReason> {
        if self.is_plain() {
            return Ok(Read {
                data,
                ..Read::default()
            });
        }
        self.read_ciphered(config, data, out)
    }

    fn read_ciphered(
        &mut self,
        config: &WireConfig,
        mut data: BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<Read, CloseReason> {
        let mut anew = false;
        if let Self::Unknown { have, seed } = self {
            let rest = &PREFIX[usize::from(*have)..];
            let same = data.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if same == rest.len() {
                *self = Self::Plain;
            } else if same == data.len() {
                *have += same as u8;
            } else {
                let secrets = Secrets::new(seed, Label::Encryption);
                let mut mse = Box::new(Mse::respond(config.encryption, secrets));
                // Twenty bytes are less than a key: nothing can come of them alone.
                let mut begun = BytesMut::from(&PREFIX[..usize::from(*have)]);
                shake(&mut mse, mse::Input::Received(&mut begun), out)?;
                *self = Self::Shaking {
                    mse,
                    waiting: BytesMut::new(),
                };
                anew = true;
            }
        }
        let mut sought = None;
        match self {
            Self::Shaking { mse, waiting } => {
                if !mse.takes_bytes() {
                    waiting.extend_from_slice(&data);
                    if waiting.len() > config.receive_window as usize * 2 {
                        return Err(CloseReason::Limit("wire.receive_window"));
                    }
                    return Ok(Read::default());
                }
                match shake(mse, mse::Input::Received(&mut data), out)? {
                    Some(Event::Sought(hash)) => {
                        *waiting = data.split();
                        sought = Some(hash);
                    }
                    Some(Event::Done(ciphers)) => self.on_ciphers(ciphers, &mut data),
                    None => {}
                }
            }
            Self::Ciphered(ciphers) => {
                ciphers.decipher(&mut data);
                if ciphers.is_over() {
                    *self = Self::Plain;
                }
            }
            Self::Plain | Self::Dial(_) | Self::Unknown { .. } => {}
        }
        Ok(Read { data, sought, anew })
    }

    /// The torrent that was sought is this one, or none.
    pub(super) fn on_found(
        &mut self,
        config: &WireConfig,
        found: Option<Id20>,
        out: &mut Vec<u8>,
    ) -> Result<Read, CloseReason> {
        let Self::Shaking { mse, waiting } = self else {
            return Ok(Read::default());
        };
        if mse.takes_bytes() {
            return Ok(Read::default());
        }
        let data = waiting.split();
        shake(mse, mse::Input::Found(found), out)?;
        self.read(config, data, out)
    }

    fn on_ciphers(&mut self, mut ciphers: Box<Ciphers>, data: &mut BytesMut) {
        ciphers.decipher(data);
        *self = match ciphers.is_over() {
            true => Self::Plain,
            false => Self::Ciphered(ciphers),
        };
    }

    /// Enciphers what is sent next, in place.
    pub(super) fn encipher_head(&mut self, head: &mut [u8]) {
        if let Self::Ciphered(ciphers) = self {
            ciphers.encipher(head);
        }
    }

    /// Enciphers what is sent next: in place where nobody else has it, else in a copy.
    pub(super) fn encipher(&mut self, body: Bytes) -> Bytes {
        let Self::Ciphered(ciphers) = self else {
            return body;
        };
        if body.is_empty() || !ciphers.is_rc4() {
            return body;
        }
        let mut own = body
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        ciphers.encipher(&mut own);
        own.freeze()
    }
}

#[cfg(feature = "encryption")]
fn shake(
    mse: &mut Mse,
    input: mse::Input<'_>,
    out: &mut Vec<u8>,
) -> Result<Option<Event>, CloseReason> {
    mse.handle(input, out).map_err(CloseReason::Encryption)
}

#[cfg(all(test, feature = "encryption"))]
mod tests;
