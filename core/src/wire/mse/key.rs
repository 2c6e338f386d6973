//! The exchange of keys: Diffie-Hellman modulo a prime of 768 bits.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U768};

use crate::rng::Secrets;

/// Bytes of a public key and of the shared secret, big-endian.
pub(super) const KEY_LEN: usize = 96;

/// Bytes of a private key: 160 bits, as the specification suggests. An exponent of 768 bits would
/// be no stronger in this group, and five times as slow.
const PRIVATE_LEN: usize = 20;

const PRIME: Odd<U768> = Odd::<U768>::from_be_hex(concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
));
const MODULUS: FixedMontyParams<{ U768::LIMBS }> = FixedMontyParams::new_vartime(PRIME);
const GENERATOR: U768 = U768::from_u64(2);

/// What is raised to a power no remote may choose.
pub(super) struct PrivateKey(U768);

impl PrivateKey {
    pub(super) fn new(secrets: &mut Secrets) -> Self {
        Self::from_bytes(&secrets.bytes())
    }

    fn from_bytes(bytes: &[u8; PRIVATE_LEN]) -> Self {
        let mut wide = [0; KEY_LEN];
        wide[KEY_LEN - PRIVATE_LEN..].copy_from_slice(bytes);
        Self(U768::from_be_slice(&wide))
    }

    /// What the other side is told. Less than a tenth of a millisecond of work.
    pub(super) fn public(&self) -> [u8; KEY_LEN] {
        self.raise(&GENERATOR)
    }

    /// The secret shared with whoever has the private half of `theirs`; as much work. `None` for
    /// keys outside `2..=prime - 2`, whose secret would be no secret.
    pub(super) fn shared(&self, theirs: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
        let theirs = U768::from_be_slice(theirs);
        let largest = PRIME.as_ref().wrapping_sub(&GENERATOR);
        (theirs >= GENERATOR && theirs <= largest).then(|| self.raise(&theirs))
    }

    fn raise(&self, base: &U768) -> [u8; KEY_LEN] {
        let base = FixedMontyForm::new(base, &MODULUS);
        let power = base.pow_bounded_exp(&self.0, PRIVATE_LEN as u32 * 8);
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(power.retrieve().to_be_bytes().as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Label;

    fn bytes(hex: &str) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
        }
        bytes
    }

    fn key(number: &U768) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(number.to_be_bytes().as_ref());
        bytes
    }

    /// Expected values are of Python's `pow`, another implementation.
    #[test]
    fn known_exponents_give_known_keys() {
        let a = PrivateKey::from_bytes(b"abcdefghijklmnopqrst");
        let b = PrivateKey::from_bytes(&[0xff; 20]);
        assert_eq!(a.public(), bytes(PUBLIC_A));
        assert_eq!(b.public(), bytes(PUBLIC_B));
        assert_eq!(a.shared(&b.public()), Some(bytes(SHARED)));
        assert_eq!(b.shared(&a.public()), Some(bytes(SHARED)));
    }

    #[test]
    fn keys_that_make_the_secret_public_are_refused() {
        let ours = PrivateKey::new(&mut Secrets::new(&[1; 32], Label::Custom(0)));
        let prime = PRIME.get();
        let one = U768::ONE;
        for bad in [
            U768::ZERO,
            one,
            prime.wrapping_sub(&one),
            prime,
            prime.wrapping_add(&one),
            prime.wrapping_add(&GENERATOR),
            U768::MAX,
        ] {
            assert_eq!(ours.shared(&key(&bad)), None, "{bad}");
        }
        for good in [GENERATOR, prime.wrapping_sub(&GENERATOR)] {
            assert!(ours.shared(&key(&good)).is_some(), "{good}");
        }
    }

    const PUBLIC_A: &str = concat!(
        "c9a0f56ece9dc54a21a55e0c364820b339be5772e78774901a9fcaccf933e086",
        "5d9b34432e96223a5d3c9d000070a5f4e15b5ed9bf9052fecc1eb66f5e02d813",
        "16154d5ccf818e3ef93e672b9a3f0ea689e91674fd64c4d3dcf465a53892850b",
    );
    const PUBLIC_B: &str = concat!(
        "fe9aac142f64ad4d5bca7e30bea17d62c709de9e4c5694e2b27e8c6ed82510bb",
        "57952fcce38f6a5084b9699ec34b033ed1a0dbd51d70274bff40ae493f0ce2cd",
        "bd3cbd6055c9677a7eb70d29f4d8ecfbc2625316a7ae1a0d3d6605f0406bad79",
    );
    const SHARED: &str = concat!(
        "277982a668d412a31d12982db9bd2d2d60df9352f6e6c796a539ba3f23bb3e19",
        "caf0dea9533f300b6854779f411450e9a47a1334de2587e463b3a263ed1b24b2",
        "d20a40a73f08dd3fe9c1f7078ab1a77978aebc95c60dd2ef22f1664066f4c7d8",
    );
}
