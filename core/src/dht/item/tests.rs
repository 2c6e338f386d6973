use super::*;
use quickcheck::quickcheck;
use std::format;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    let mut out = [0; N];
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    }
    out
}

const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
const VALUE: &[u8] = b"12:Hello World!";

fn vector(salt: &'static [u8], signature: &str) -> Item {
    let signed = Signed {
        key: hex(KEY),
        signature: hex(signature),
        seq: 1,
        salt: Bytes::from_static(salt),
    };
    Item::mutable(Bytes::from_static(VALUE), signed).unwrap()
}

fn plain() -> Item {
    vector(
        b"",
        "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
         1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
    )
}

fn salted() -> Item {
    vector(
        b"foobar",
        "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
         df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
    )
}

#[test]
fn vectors_of_bep_44_have_their_targets_and_signed_bytes() {
    assert_eq!(
        plain().target(),
        Id20(hex("4a533d47ec9c7d95b1ad75f576cffc641853b750"))
    );
    assert_eq!(plain().signed_bytes(), b"3:seqi1e1:v12:Hello World!");
    assert_eq!(
        salted().target(),
        Id20(hex("411eba73b6f087ca51a3795d9c8c938d365e32c1"))
    );
    assert_eq!(
        salted().signed_bytes(),
        b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
    );
    let immutable = Item::text(b"Hello World!").unwrap();
    assert_eq!(immutable.value(), VALUE);
    assert_eq!(
        immutable.target(),
        Id20(hex("e5f96f6f38320f0f33959cb4d3d656452117aadb"))
    );
}

#[test]
fn vectors_of_bep_46_have_their_targets() {
    let key = hex("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e");
    let target = |salt: &[u8]| mutable_target(&key, salt);
    assert_eq!(
        target(b""),
        Id20(hex("cc3f9d90b572172053626f9980ce261a850d050b"))
    );
    assert_eq!(
        target(b"n"),
        Id20(hex("59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"))
    );
}

#[test]
fn what_cannot_be_an_item_is_named() {
    let immutable = |text: &str| Item::immutable(text.as_bytes().to_vec().into()).err();
    assert_eq!(immutable(&format!("996:{}", "x".repeat(996))), None);
    assert_eq!(
        immutable(&format!("997:{}", "x".repeat(997))),
        Some(ItemError::LongValue(1_001))
    );
    // What decodes, but not back to the same bytes, is refused as libtorrent does.
    for bad in [
        "",
        "x",
        "5:abcd",
        "5:abcdef",
        "i01e",
        "06:foobar",
        "d2:abi1e2:aai2ee",
        "d2:aai1e2:aai2ee",
        "i1ei2e",
    ] {
        assert_eq!(immutable(bad), Some(ItemError::BadValue), "{bad}");
    }
    for good in [
        "0:",
        "i0e",
        "le",
        "d1:ai1e2:aai2ee",
        "i-9223372036854775808e",
    ] {
        assert_eq!(immutable(good), None, "{good}");
    }
    let signed = |seq, salt: usize| {
        let signed = Signed {
            key: [1; 32],
            signature: [2; 64],
            seq,
            salt: std::vec![b's'; salt].into(),
        };
        Item::mutable(Bytes::from_static(VALUE), signed).err()
    };
    assert_eq!(signed(i64::MAX, 64), None);
    assert_eq!(signed(1, 65), Some(ItemError::LongSalt(65)));
    assert_eq!(signed(-1, 0), Some(ItemError::BadSeq(-1)));
    assert!(format!("{}", ItemError::LongSalt(65)).contains("65"));
}

#[cfg(feature = "ed25519")]
mod signatures {
    use super::*;

    /// The vectors' private key, expanded.
    const EXPANDED: &str = "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d\
                            b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d";

    #[test]
    fn vectors_of_bep_44_are_authentic_and_signed_alike() {
        use ed25519_dalek::VerifyingKey;
        use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
        use sha2::Sha512;
        let secret = ExpandedSecretKey::from_bytes(&hex(EXPANDED));
        let public = VerifyingKey::from(&secret);
        assert_eq!(public.to_bytes(), hex(KEY));
        for item in [plain(), salted()] {
            assert!(item.is_authentic());
            let signature = raw_sign::<Sha512>(&secret, &item.signed_bytes(), &public);
            assert_eq!(signature.to_bytes(), item.signed().unwrap().signature);
        }
    }

    #[test]
    fn the_first_raw_vector_is_signed_and_verified() {
        use ed25519_dalek::Signer as _;
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_seed(&seed);
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.public(), public);
        let signature = key.0.sign(&[0x72]).to_bytes();
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(signature, hex(expected));
    }

    quickcheck! {
        fn what_is_signed_is_authentic_and_nothing_else_is(
            seed: (u128, u128), text: Vec<u8>, seq: i64, salt: Vec<u8>, which: u8, bit: u16
        ) -> bool {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&seed.0.to_be_bytes());
            bytes[16..].copy_from_slice(&seed.1.to_be_bytes());
            let key = SigningKey::from_seed(&bytes);
            let seq = seq & (i64::MAX >> 1);
            let salt = &salt[..salt.len().min(MAX_SALT)];
            let value = bencoded(&text[..text.len().min(900)]);
            let item = key.sign(value.clone(), seq, Bytes::copy_from_slice(salt)).unwrap();
            let mut signed = item.signed().unwrap().clone();
            let mut other = value;
            let flip = |bytes: &mut [u8]| {
                let at = usize::from(bit) / 8 % bytes.len();
                bytes[at] ^= 1 << (bit % 8);
            };
            match which % 5 {
                0 => flip(&mut signed.key),
                1 => flip(&mut signed.signature),
                2 => signed.seq += 1,
                3 => signed.salt = bencoded(&signed.salt),
                _ => other = bencoded(&other),
            }
            // A salt that grew beyond its limit is no item at all.
            let forged = Item::mutable(other, signed);
            item.is_authentic() && forged.is_ok_and(|item| !item.is_authentic())
                || item.is_authentic() && salt.len() + 3 > MAX_SALT
        }
    }
}

quickcheck! {
    fn a_text_is_an_item_named_by_its_hash(text: Vec<u8>) -> bool {
        let item = Item::text(&text);
        match item {
            Ok(item) => {
                let document = bencode::decode(item.value(), &Limits::DATAGRAM).unwrap();
                document.root().as_bytes() == Some(&text[..])
                    && item.target() == immutable_target(item.value())
                    && item.seq().is_none() && item.signed_bytes().is_empty()
            }
            Err(error) => error == ItemError::LongValue(bencoded(&text).len()),
        }
    }
}
