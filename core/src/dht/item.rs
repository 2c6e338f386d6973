//! Items that nodes keep for others (BEP 44): what names them, and what their signature is over.
//!
//! An immutable item is named by the hash of its value. A mutable one is named by a public key and
//! a salt; whoever has the private key replaces it by one with a higher sequence number.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::bencode::{self, Limits, Writer};
use crate::id::Id20;

/// Longest value, bytes as bencoded (BEP 44).
pub const MAX_VALUE: usize = 1_000;
/// Longest salt, bytes (BEP 44).
pub const MAX_SALT: usize = 64;

/// An ed25519 public key.
pub type PublicKey = [u8; 32];
/// An ed25519 signature.
pub type Signature = [u8; 64];

/// A value, and who signed it if anybody did.
///
/// Its value is canonical bencoding of at most [`MAX_VALUE`] bytes. Whether the signature is right
/// is another question: see [`Item::is_authentic`].
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    value: Bytes,
    signed: Option<Box<Signed>>,
}

/// What a mutable item has besides its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who signed it.
    pub key: PublicKey,
    /// Over the salt, the sequence number and the value.
    pub signature: Signature,
    /// Grows with each new value; not negative.
    pub seq: i64,
    /// Tells several items of one key apart; at most [`MAX_SALT`] bytes, often none.
    pub salt: Bytes,
}

/// Why something cannot be an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemError {
    /// The value is longer than [`MAX_VALUE`].
    LongValue(usize),
    /// The value is not canonical bencoding.
    BadValue,
    /// The salt is longer than [`MAX_SALT`].
    LongSalt(usize),
    /// The sequence number is negative.
    BadSeq(i64),
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongValue(len) => {
                write!(f, "value: {len} bytes; expected at most {MAX_VALUE}")
            }
            Self::BadValue => write!(f, "value: not canonical bencoding"),
            Self::LongSalt(len) => write!(f, "salt: {len} bytes; expected at most {MAX_SALT}"),
            Self::BadSeq(seq) => write!(f, "seq: {seq}; expected 0 or more"),
        }
    }
}

impl core::error::Error for ItemError {}

impl Item {
    /// An item named by the hash of `value`, which is bencoded.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn immutable(value: Bytes) -> Result<Self, ItemError> {
        check_value(&value)?;
        let signed = None;
        Ok(Self { value, signed })
    }

    /// An item named by a key and a salt. The signature is not looked at.
    ///
    /// # Errors
    /// What is wrong with the value, the salt or the sequence number.
    pub fn mutable(value: Bytes, signed: Signed) -> Result<Self, ItemError> {
        check_value(&value)?;
        if signed.salt.len() > MAX_SALT {
            return Err(ItemError::LongSalt(signed.salt.len()));
        }
        if signed.seq < 0 {
            return Err(ItemError::BadSeq(signed.seq));
        }
        let signed = Some(Box::new(signed));
        Ok(Self { value, signed })
    }

    /// An immutable item that is this text, as a bencoded string.
    ///
    /// # Errors
    /// It is too long.
    pub fn text(text: &[u8]) -> Result<Self, ItemError> {
        Self::immutable(bencoded(text))
    }

    /// The value, bencoded.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Who signed it, of a mutable item.
    #[must_use]
    pub fn signed(&self) -> Option<&Signed> {
        self.signed.as_deref()
    }

    /// The sequence number, of a mutable item.
    #[must_use]
    pub fn seq(&self) -> Option<i64> {
        self.signed().map(|signed| signed.seq)
    }

    /// What the item is stored and found under.
    #[must_use]
    pub fn target(&self) -> Id20 {
        match self.signed() {
            Some(signed) => mutable_target(&signed.key, &signed.salt),
            None => immutable_target(&self.value),
        }
    }

    /// What the signature of a mutable item is over; of an immutable one, nothing.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let signed = self.signed();
        signed.map_or_else(Vec::new, |signed| {
            signed_bytes(&signed.salt, signed.seq, &self.value)
        })
    }

    /// Whether it is what its key has signed; an immutable item always is. Takes some tens of
    /// microseconds: hosts do it as a job ([`crate::io::Work::CheckSignature`]).
    #[cfg(feature = "ed25519")]
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        use ed25519_dalek::{Signature, VerifyingKey};
        let Some(signed) = self.signed() else {
            return true;
        };
        let signature = Signature::from_bytes(&signed.signature);
        VerifyingKey::from_bytes(&signed.key)
            .is_ok_and(|key| key.verify_strict(&self.signed_bytes(), &signature).is_ok())
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("value", &self.value)
            .field("signed", &self.signed)
            .finish()
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("key", &Bytes::copy_from_slice(&self.key))
            .field("signature", &Bytes::copy_from_slice(&self.signature))
            .field("seq", &self.seq)
            .field("salt", &self.salt)
            .finish()
    }
}

/// A private key, which makes mutable items.
#[cfg(feature = "ed25519")]
pub struct SigningKey(ed25519_dalek::SigningKey);

#[cfg(feature = "ed25519")]
impl SigningKey {
    /// The key of a seed, which is to be kept secret.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// What others verify its signatures with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a bencoded value.
    ///
    /// # Errors
    /// What is wrong with the value, the salt or the sequence number.
    pub fn sign(&self, value: Bytes, seq: i64, salt: Bytes) -> Result<Item, ItemError> {
        use ed25519_dalek::Signer as _;
        let signature = self.0.sign(&signed_bytes(&salt, seq, &value)).to_bytes();
        let key = self.public();
        let signed = Signed {
            key,
            signature,
            seq,
            salt,
        };
        Item::mutable(value, signed)
    }
}

#[cfg(feature = "ed25519")]
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A string as a bencoded value.
#[must_use]
pub fn bencoded(text: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(text.len() + 5);
    Writer::new(&mut value).bytes(text);
    value.into()
}

/// The target of an immutable item (BEP 44).
#[must_use]
pub fn immutable_target(value: &[u8]) -> Id20 {
    Id20(Sha1::digest(value).into())
}

/// The target of the mutable items of a key and a salt (BEP 44, 46).
#[must_use]
pub fn mutable_target(key: &PublicKey, salt: &[u8]) -> Id20 {
    Id20(
        Sha1::new()
            .chain_update(key)
            .chain_update(salt)
            .finalize()
            .into(),
    )
}

fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + salt.len() + 48);
    let mut writer = Writer::new(&mut bytes);
    if !salt.is_empty() {
        writer.key(b"salt").bytes(salt);
    }
    writer.key(b"seq").int(seq).key(b"v").raw(value);
    bytes
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_VALUE {
        return Err(ItemError::LongValue(value.len()));
    }
    let document = bencode::decode(value, &Limits::DATAGRAM);
    match document {
        Ok(document) if document.is_canonical() => Ok(()),
        _ => Err(ItemError::BadValue),
    }
}

#[cfg(test)]
mod tests;
