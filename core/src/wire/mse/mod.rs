//! Message Stream Encryption, also called Protocol Encryption: what peers say first, so that who
//! listens in sees noise.
//!
//! 1. Both sides send a public key and a random pad; whoever dialled begins.
//! 2. The initiator proves that it has the secret and knows the info-hash, which it names by a hash
//!    that only somebody with the secret can make use of. Ciphered from here on, it offers methods
//!    and may already send the beginning of its stream.
//! 3. The responder chooses a method. The stream follows, ciphered or plain as chosen.
//!
//! The info-hash is a key that everyone in the swarm knows: this hides what is spoken from those on
//! the way, and proves nothing about who speaks it.

mod cipher;
mod key;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf as _, BytesMut};

use crate::config::EncryptionMode;
use crate::id::Id20;
use crate::rng::Secrets;
pub use cipher::Cipher;
use cipher::hash;
use key::{KEY_LEN, PrivateKey};

/// Longest pad, bytes: each of the four.
pub const MAX_PAD: usize = 512;

/// The verification constant: zeros, ciphered.
const VC: [u8; 8] = [0; 8];

const PLAIN: u32 = 0x01;
const RC4: u32 = 0x02;

/// What the machine is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes arrived: what the handshake needs of them is taken off the front. What is left when
    /// it is done is the beginning of the stream, as it came.
    Received(&'a mut BytesMut),
    /// The answer to [`Event::Sought`]: the info-hash, if there is such a torrent.
    Found(Option<Id20>),
}

/// What the machine tells.
#[derive(Debug)]
pub enum Event {
    /// The responder looks for the torrent whose [`torrent_hash`] this is. Nothing more is taken
    /// until `Found`.
    Sought(Id20),
    /// The handshake is over.
    Done(Box<Ciphers>),
}

/// How the handshake failed: the rule that was broken. The stream is of no use then.
pub type Failure = &'static str;

/// Why a public key is refused.
pub const BAD_KEY: Failure = "public key out of range";
/// Why a stream that never gets to the point is closed.
pub const NOT_FOUND: Failure = "no encrypted handshake within its longest pad";
/// Why nobody is let in who means a torrent that we do not have.
pub const UNKNOWN_TORRENT: Failure = "encrypted handshake of a torrent we do not have";
/// Why an offer is refused.
pub const NO_COMMON_METHOD: Failure = "no common method of encryption";

const WRONG_CONSTANT: Failure = "wrong verification constant";
const LONG_PAD: Failure = "pad too long";
const NOT_OFFERED: Failure = "chose a method that was not offered";

/// What the info-hash of a torrent is found by: knows the torrent whoever knows the info-hash, and
/// nobody else.
#[must_use]
pub fn torrent_hash(info_hash: &Id20) -> Id20 {
    hash(&[b"req2", &info_hash.0])
}

/// The stream after the handshake.
#[derive(Debug)]
pub struct Ciphers {
    inbound: Option<Cipher>,
    /// Bytes that are ciphered still, where the rest is plain.
    initial: Option<usize>,
    outbound: Option<Cipher>,
}

impl Ciphers {
    /// Whether the stream is ciphered; otherwise only the handshake was, and perhaps the first
    /// bytes that come in.
    #[must_use]
    pub const fn is_rc4(&self) -> bool {
        self.outbound.is_some()
    }

    /// Whether neither direction is ciphered any more: there is nothing left to do.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.inbound.is_none() && self.outbound.is_none()
    }

    /// Deciphers what came next, in place.
    pub fn decipher(&mut self, bytes: &mut [u8]) {
        let Some(cipher) = &mut self.inbound else {
            return;
        };
        match &mut self.initial {
            None => cipher.apply(bytes),
            Some(left) => {
                let ciphered = bytes.len().min(*left);
                cipher.apply(&mut bytes[..ciphered]);
                *left -= ciphered;
                if *left == 0 {
                    self.inbound = None;
                }
            }
        }
    }

    /// Enciphers what is sent next, in place.
    pub fn encipher(&mut self, bytes: &mut [u8]) {
        if let Some(cipher) = &mut self.outbound {
            cipher.apply(bytes);
        }
    }
}

/// The handshake of one stream, from either side.
///
/// It keeps no time: whoever owns it allows the stream so long for all that comes before the first
/// message. It holds at most one pad and what is looked for behind it. Taking one input costs two
/// exponentiations at most, of less than a tenth of a millisecond each.
pub struct Mse {
    mode: EncryptionMode,
    secrets: Secrets,
    private: PrivateKey,
    stage: Stage,
    /// Read, and neither enough nor done with.
    held: Vec<u8>,
}

/// What comes next.
enum Stage {
    /// Their public key. The initiator knows what it is about, and what it says first.
    Key(Option<(Id20, Vec<u8>)>),
    /// Initiator: the constant, as it looks ciphered, behind their pad.
    Constant { needle: [u8; 8], keys: Keys },
    /// Initiator: the method chosen.
    Chosen(Keys),
    /// Initiator: their last pad.
    Pad {
        left: usize,
        keys: Keys,
        method: Method,
    },
    /// Responder: the hash behind their pad that proves that they have the secret.
    Proof { needle: Id20, secret: [u8; KEY_LEN] },
    /// Responder: which torrent they mean.
    Torrent([u8; KEY_LEN]),
    /// Responder: the answer to `Sought`.
    Asking([u8; KEY_LEN]),
    /// Responder: the constant and what they offer.
    Offer(Keys),
    /// Responder: their last pad, and how much of their stream is ciphered in any case.
    Initial {
        pad: usize,
        keys: Keys,
        method: Method,
    },
    /// Done, or failed.
    Over,
}

struct Keys {
    inbound: Cipher,
    outbound: Cipher,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Plain,
    Rc4,
}

impl Method {
    const fn code(self) -> u32 {
        match self {
            Self::Plain => PLAIN,
            Self::Rc4 => RC4,
        }
    }

    fn ciphers(self, keys: Keys, initial: usize) -> Ciphers {
        match self {
            Self::Rc4 => Ciphers {
                inbound: Some(keys.inbound),
                initial: None,
                outbound: Some(keys.outbound),
            },
            Self::Plain => Ciphers {
                inbound: (initial > 0).then_some(keys.inbound),
                initial: Some(initial),
                outbound: None,
            },
        }
    }
}

/// What an initiator offers.
const fn offer(mode: EncryptionMode) -> u32 {
    match mode {
        EncryptionMode::Require => RC4,
        EncryptionMode::Off | EncryptionMode::Allow | EncryptionMode::Prefer => PLAIN | RC4,
    }
}

/// What a responder chooses of an offer.
fn choose(mode: EncryptionMode, offer: u32) -> Option<Method> {
    let (plain, rc4) = (offer & PLAIN != 0, offer & RC4 != 0);
    match mode {
        EncryptionMode::Require => rc4.then_some(Method::Rc4),
        EncryptionMode::Prefer if rc4 => Some(Method::Rc4),
        EncryptionMode::Off | EncryptionMode::Allow | EncryptionMode::Prefer if plain => {
            Some(Method::Plain)
        }
        _ => rc4.then_some(Method::Rc4),
    }
}

impl Mse {
    /// Begins a handshake about a torrent; `out` gets what is to be sent. `initial` is the
    /// beginning of our stream, at most 65,535 bytes, and leaves as soon as it can be ciphered.
    #[must_use]
    pub fn initiate(
        mode: EncryptionMode,
        mut secrets: Secrets,
        info_hash: Id20,
        initial: &[u8],
        out: &mut Vec<u8>,
    ) -> Self {
        let private = PrivateKey::new(&mut secrets);
        put_key(&private, &mut secrets, out);
        let initial = initial[..initial.len().min(u16::MAX.into())].to_vec();
        Self {
            mode,
            secrets,
            private,
            stage: Stage::Key(Some((info_hash, initial))),
            held: Vec::new(),
        }
    }

    /// Awaits a handshake.
    #[must_use]
    pub fn respond(mode: EncryptionMode, mut secrets: Secrets) -> Self {
        Self {
            mode,
            private: PrivateKey::new(&mut secrets),
            secrets,
            stage: Stage::Key(None),
            held: Vec::new(),
        }
    }

    /// Takes one input; `out` gets what is to be sent.
    ///
    /// # Errors
    /// The rule that was broken: close the stream.
    pub fn handle(
        &mut self,
        input: Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event>, Failure> {
        match input {
            Input::Found(found) => self.on_found(found)?,
            Input::Received(bytes) => {
                while let Some(stage) = self.next_stage(bytes)? {
                    if let Some(event) = self.on_stage(stage, out)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether bytes that arrive are taken: not while `Found` is awaited.
    #[must_use]
    pub const fn takes_bytes(&self) -> bool {
        !matches!(self.stage, Stage::Asking(_) | Stage::Over)
    }

    /// Gathers what the stage needs and takes it off; `None` until it is there.
    fn next_stage(&mut self, bytes: &mut BytesMut) -> Result<Option<Stage>, Failure> {
        let ready = match &self.stage {
            Stage::Key(_) => self.gather(bytes, KEY_LEN),
            Stage::Constant { needle, .. } => find(&mut self.held, bytes, needle)?,
            Stage::Chosen(_) => self.gather(bytes, 4 + 2),
            Stage::Pad { left, .. } => self.gather(bytes, *left),
            Stage::Proof { needle, .. } => find(&mut self.held, bytes, &needle.0)?,
            Stage::Torrent(_) => self.gather(bytes, 20),
            Stage::Offer(_) => self.gather(bytes, VC.len() + 4 + 2),
            Stage::Initial { pad, .. } => self.gather(bytes, pad + 2),
            Stage::Asking(_) | Stage::Over => false,
        };
        Ok(ready.then(|| core::mem::replace(&mut self.stage, Stage::Over)))
    }

    fn gather(&mut self, bytes: &mut BytesMut, len: usize) -> bool {
        let taken = bytes.len().min(len - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        bytes.advance(taken);
        self.held.len() == len
    }

    /// What a stage needs is in `held`.
    fn on_stage(&mut self, stage: Stage, out: &mut Vec<u8>) -> Result<Option<Event>, Failure> {
        let mut held = core::mem::take(&mut self.held);
        self.stage = match stage {
            Stage::Key(torrent) => return self.on_key(&held, torrent, out).map(|()| None),
            Stage::Constant { keys, .. } => Stage::Chosen(keys),
            Stage::Chosen(mut keys) => {
                keys.inbound.apply(&mut held);
                let method = match number(&held) {
                    PLAIN => Method::Plain,
                    RC4 => Method::Rc4,
                    _ => return Err(NOT_OFFERED),
                };
                if offer(self.mode) & method.code() == 0 {
                    return Err(NOT_OFFERED);
                }
                Stage::Pad {
                    left: pad_len(&held[4..])?,
                    keys,
                    method,
                }
            }
            Stage::Pad {
                mut keys, method, ..
            } => {
                keys.inbound.apply(&mut held);
                return Ok(Some(Event::Done(Box::new(method.ciphers(keys, 0)))));
            }
            Stage::Proof { secret, .. } => Stage::Torrent(secret),
            Stage::Torrent(secret) => {
                let mut sought = hash(&[b"req3", &secret]);
                xor(&mut sought, &held);
                self.stage = Stage::Asking(secret);
                return Ok(Some(Event::Sought(sought)));
            }
            Stage::Offer(mut keys) => {
                keys.inbound.apply(&mut held);
                let (constant, rest) = held.split_at(VC.len());
                if *constant != VC {
                    return Err(WRONG_CONSTANT);
                }
                let method = choose(self.mode, number(rest)).ok_or(NO_COMMON_METHOD)?;
                Stage::Initial {
                    pad: pad_len(&rest[4..])?,
                    keys,
                    method,
                }
            }
            Stage::Initial {
                pad,
                mut keys,
                method,
            } => {
                keys.inbound.apply(&mut held);
                let initial = usize::from(u16::from_be_bytes([held[pad], held[pad + 1]]));
                let start = out.len();
                out.extend_from_slice(&VC);
                out.extend_from_slice(&method.code().to_be_bytes());
                self.put_zero_pad(out);
                keys.outbound.apply(&mut out[start..]);
                return Ok(Some(Event::Done(Box::new(method.ciphers(keys, initial)))));
            }
            stage @ (Stage::Asking(_) | Stage::Over) => stage,
        };
        Ok(None)
    }

    fn on_key(
        &mut self,
        theirs: &[u8],
        torrent: Option<(Id20, Vec<u8>)>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let theirs = theirs.try_into().map_err(|_| BAD_KEY)?;
        let secret = self.private.shared(theirs).ok_or(BAD_KEY)?;
        let proof = hash(&[b"req1", &secret]);
        let Some((info_hash, initial)) = torrent else {
            put_key(&self.private, &mut self.secrets, out);
            self.stage = Stage::Proof {
                needle: proof,
                secret,
            };
            return Ok(());
        };
        let mut named = torrent_hash(&info_hash);
        xor(&mut named, &hash(&[b"req3", &secret]).0);
        out.extend_from_slice(&proof.0);
        out.extend_from_slice(&named.0);
        let mut keys = Keys {
            inbound: Cipher::new(b"keyB", &secret, &info_hash),
            outbound: Cipher::new(b"keyA", &secret, &info_hash),
        };
        let start = out.len();
        out.extend_from_slice(&VC);
        out.extend_from_slice(&offer(self.mode).to_be_bytes());
        self.put_zero_pad(out);
        out.extend_from_slice(&(initial.len() as u16).to_be_bytes());
        out.extend_from_slice(&initial);
        keys.outbound.apply(&mut out[start..]);
        let mut needle = VC;
        keys.inbound.apply(&mut needle);
        self.stage = Stage::Constant { needle, keys };
        Ok(())
    }

    fn on_found(&mut self, found: Option<Id20>) -> Result<(), Failure> {
        if let Stage::Asking(secret) = &self.stage {
            let info_hash = found.ok_or(UNKNOWN_TORRENT)?;
            self.stage = Stage::Offer(Keys {
                inbound: Cipher::new(b"keyA", secret, &info_hash),
                outbound: Cipher::new(b"keyB", secret, &info_hash),
            });
        }
        Ok(())
    }

    /// A pad that is ciphered with what is around it, and its length before it.
    fn put_zero_pad(&mut self, out: &mut Vec<u8>) {
        let len = random_len(&mut self.secrets);
        out.extend_from_slice(&(len as u16).to_be_bytes());
        out.resize(out.len() + len, 0);
    }
}

impl fmt::Debug for Mse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mse")
            .field("mode", &self.mode)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

fn put_key(private: &PrivateKey, secrets: &mut Secrets, out: &mut Vec<u8>) {
    out.extend_from_slice(&private.public());
    let start = out.len();
    out.resize(start + random_len(secrets), 0);
    secrets.fill(&mut out[start..]);
}

fn random_len(secrets: &mut Secrets) -> usize {
    (secrets.next_u64() % (MAX_PAD as u64 + 1)) as usize
}

fn xor(id: &mut Id20, with: &[u8]) {
    for (byte, with) in id.0.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// The first four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    let mut first = [0; 4];
    first.copy_from_slice(&bytes[..4]);
    u32::from_be_bytes(first)
}

/// The first two bytes as the length of a pad.
fn pad_len(bytes: &[u8]) -> Result<usize, Failure> {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    if len > MAX_PAD {
        return Err(LONG_PAD);
    }
    Ok(len)
}

/// Whether `needle` has come, behind at most the longest pad: everything up to its end is taken
/// off `bytes`, and nothing behind it.
fn find(held: &mut Vec<u8>, bytes: &mut BytesMut, needle: &[u8]) -> Result<bool, Failure> {
    let most = MAX_PAD + needle.len();
    let before = held.len();
    let taken = bytes.len().min(most - before);
    held.extend_from_slice(&bytes[..taken]);
    let from = before.saturating_sub(needle.len() - 1);
    let mut windows = held[from..].windows(needle.len());
    if let Some(at) = windows.position(|window| window == needle) {
        bytes.advance(from + at + needle.len() - before);
        held.clear();
        return Ok(true);
    }
    bytes.advance(taken);
    if held.len() == most {
        return Err(NOT_FOUND);
    }
    Ok(false)
}
