//! What bytes are ciphered with: RC4 without its first, weak kilobyte.

use core::fmt;

use rc4::{KeyInit as _, Rc4, StreamCipher as _};
use sha1::{Digest as _, Sha1};

use super::key::KEY_LEN;
use crate::id::Id20;

/// Bytes of the key stream that are never used.
const DROPPED: usize = 1024;

/// One direction of a stream, at its current place in the key stream.
pub struct Cipher(Rc4);

impl Cipher {
    /// The direction of the initiator (`keyA`) or the responder (`keyB`).
    pub(super) fn new(name: &[u8; 4], secret: &[u8; KEY_LEN], info_hash: &Id20) -> Self {
        Self::with_key(&hash(&[name, secret, &info_hash.0]).0)
    }

    /// Keys have 1 to 256 bytes.
    fn with_key<const N: usize>(key: &[u8; N]) -> Self {
        const { assert!(1 <= N && N <= 256) };
        let mut cipher = Rc4::new_from_slice(key).expect("the length is right");
        cipher.apply_keystream(&mut [0; DROPPED]);
        Self(cipher)
    }

    /// Enciphers or deciphers what comes next, in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

/// SHA-1 over several parts.
pub(super) fn hash(parts: &[&[u8]]) -> Id20 {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    Id20(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Of the key stream of the key 1, 2, 3, …: 16 bytes from `at` on.
    fn stream<const N: usize>(at: usize) -> [u8; 16] {
        let key: [u8; N] = core::array::from_fn(|at| at as u8 + 1);
        let mut bytes = vec![0; at - DROPPED + 16];
        Cipher::with_key(&key).apply(&mut bytes);
        bytes[at - DROPPED..].try_into().unwrap()
    }

    /// RFC 6229, whose offsets count the bytes that are dropped here.
    #[test]
    fn the_key_streams_of_rfc_6229() {
        let streams = [
            (stream::<5>(1024), 0x30abbcc7c20b01609f23ee2d5f6bb7df_u128),
            (stream::<5>(4096), 0xff25b58995996707e51fbdf08b34d875),
            (stream::<16>(1024), 0xbdf0324e6083dcc6d3cedd3ca8c53c16),
            (stream::<16>(4096), 0xa36a4c301ae8ac13610ccbc12256cacc),
            (stream::<32>(1024), 0x7fec5bfd9f9b89ce6548309092d7e958),
            (stream::<32>(4096), 0xf3e4c0a2e02d1d01f7f0a74618af2b48),
        ];
        for (ours, expected) in streams {
            assert_eq!(ours, expected.to_be_bytes());
        }
    }

    #[test]
    fn a_stream_in_pieces_is_the_stream() {
        let mut whole = vec![7; 100];
        Cipher::with_key(b"key").apply(&mut whole);
        let (mut pieces, mut cipher) = (vec![7; 100], Cipher::with_key(b"key"));
        pieces.chunks_mut(7).for_each(|piece| cipher.apply(piece));
        assert_eq!(pieces, whole);
    }
}
