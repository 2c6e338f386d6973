//! The machine against itself, and against peers made by hand that do what it never would.

use super::*;
use crate::rng::Label;
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::vec;

const TORRENT: Id20 = Id20(*b"aaaaaaaaaabbbbbbbbbb");
const MODES: [EncryptionMode; 3] = [
    EncryptionMode::Allow,
    EncryptionMode::Prefer,
    EncryptionMode::Require,
];

fn secrets(seed: u64) -> Secrets {
    Secrets::new(&[5; 32], Label::Custom(seed))
}

/// One end: what it has to say, what it heard, and how it ended.
struct End {
    mse: Mse,
    to_send: Vec<u8>,
    ciphers: Option<Box<Ciphers>>,
    heard: Vec<u8>,
    failed: Option<Failure>,
}

impl End {
    fn new(mse: Mse, to_send: Vec<u8>) -> Self {
        Self {
            mse,
            to_send,
            ciphers: None,
            heard: Vec::new(),
            failed: None,
        }
    }

    fn initiator(mode: EncryptionMode, seed: u64, initial: &[u8]) -> Self {
        let mut out = Vec::new();
        let mse = Mse::initiate(mode, secrets(seed), TORRENT, initial, &mut out);
        Self::new(mse, out)
    }

    fn responder(mode: EncryptionMode, seed: u64) -> Self {
        Self::new(Mse::respond(mode, secrets(seed)), Vec::new())
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        while self.ciphers.is_none() && self.failed.is_none() {
            let input = Input::Received(&mut bytes);
            match self.mse.handle(input, &mut self.to_send) {
                Ok(None) => return assert!(bytes.is_empty()),
                Ok(Some(Event::Done(ciphers))) => self.ciphers = Some(ciphers),
                Ok(Some(Event::Sought(hash))) => {
                    assert!(!self.mse.takes_bytes());
                    let found = (hash == torrent_hash(&TORRENT)).then_some(TORRENT);
                    let answered = self.mse.handle(Input::Found(found), &mut self.to_send);
                    self.failed = answered.err();
                }
                Err(failure) => self.failed = Some(failure),
            }
        }
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.decipher(&mut bytes);
            self.heard.extend_from_slice(&bytes);
        }
    }

    /// Says something once the handshake is over.
    fn say(&mut self, text: &[u8]) {
        let start = self.to_send.len();
        self.to_send.extend_from_slice(text);
        let ciphers = self.ciphers.as_mut().unwrap();
        ciphers.encipher(&mut self.to_send[start..]);
    }
}

/// Carries what both have to say, in pieces as long as `cuts` says, until nobody has anything.
fn carry(a: &mut End, b: &mut End, cuts: &[u8]) {
    let mut cuts = cuts.iter().cycle();
    while !a.to_send.is_empty() || !b.to_send.is_empty() {
        for _ in 0..2 {
            let all = core::mem::take(&mut a.to_send);
            let mut rest = &all[..];
            while !rest.is_empty() {
                let len = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
                let (piece, later) = rest.split_at(len.min(rest.len()));
                b.receive(piece);
                rest = later;
            }
            core::mem::swap(a, b);
        }
    }
}

fn talk(modes: (EncryptionMode, EncryptionMode), seeds: (u64, u64), initial: &[u8], cuts: &[u8]) {
    let mut a = End::initiator(modes.0, seeds.0, initial);
    let mut b = End::responder(modes.1, seeds.1);
    carry(&mut a, &mut b, cuts);
    assert_eq!((a.failed, b.failed), (None, None));
    // It is the responder who chooses, unless the initiator leaves no choice.
    let rc4 = modes.0 == EncryptionMode::Require || modes.1 != EncryptionMode::Allow;
    for end in [&a, &b] {
        assert_eq!(end.ciphers.as_ref().unwrap().is_rc4(), rc4, "{modes:?}");
    }
    assert_eq!(b.heard, initial);
    a.say(b"there, ");
    b.say(b"back");
    assert_eq!(b.to_send == b"back", !rc4);
    carry(&mut a, &mut b, cuts);
    a.say(b"and there again");
    carry(&mut a, &mut b, cuts);
    assert_eq!(a.heard, b"back");
    assert_eq!(b.heard, [initial, b"there, and there again"].concat());
}

#[derive(Debug, Clone, Copy)]
struct AnyMode(EncryptionMode);

impl Arbitrary for AnyMode {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(*g.choose(&MODES).unwrap())
    }
}

quickcheck! {
    fn both_ends_agree_however_the_stream_is_cut(
        modes: (AnyMode, AnyMode), seeds: (u64, u64), initial: Vec<u8>, cuts: Vec<u8>
    ) -> bool {
        talk((modes.0.0, modes.1.0), seeds, &initial, &cuts);
        true
    }

    fn garbage_ends_with_a_reason(seed: u64, garbage: Vec<u8>, cut: u8, dialled: bool) -> bool {
        let mut end = match dialled {
            true => End::initiator(EncryptionMode::Prefer, seed, b""),
            false => End::responder(EncryptionMode::Prefer, seed),
        };
        let mut stream = garbage;
        // No random number is as large as the prime, whose first 64 bits are ones.
        stream.insert(0, 1);
        stream.resize(KEY_LEN + MAX_PAD + 20, 9);
        stream.chunks(usize::from(cut) + 1).for_each(|piece| end.receive(piece));
        end.failed == Some(NOT_FOUND) && end.mse.held.len() <= MAX_PAD + 20
    }
}

#[test]
fn a_stream_cut_in_two_anywhere_is_the_same_stream() {
    for modes in [
        (EncryptionMode::Allow, EncryptionMode::Allow),
        (EncryptionMode::Prefer, EncryptionMode::Prefer),
    ] {
        let (mut a, mut b) = (
            End::initiator(modes.0, 1, b"hello"),
            End::responder(modes.1, 2),
        );
        let key = core::mem::take(&mut a.to_send);
        b.receive(&key);
        let answer = core::mem::take(&mut b.to_send);
        a.receive(&answer);
        let rest = core::mem::take(&mut a.to_send);
        b.receive(&rest);
        let (there, back) = ([key, rest].concat(), [answer, b.to_send].concat());
        for cut in 0..=there.len() {
            let mut b = End::responder(modes.1, 2);
            b.receive(&there[..cut]);
            b.receive(&there[cut..]);
            assert_eq!((b.heard, b.to_send), (b"hello".to_vec(), back.clone()));
        }
        for cut in 0..=back.len() {
            let mut a = End::initiator(modes.0, 1, b"hello");
            a.receive(&back[..cut]);
            a.receive(&back[cut..]);
            assert_eq!((&a.to_send, a.ciphers.is_some()), (&there, true));
        }
    }
}

/// An initiator or responder that may break any rule.
struct Forger {
    private: PrivateKey,
}

impl Forger {
    fn new() -> Self {
        let private = PrivateKey::new(&mut secrets(99));
        Self { private }
    }

    fn key(&self, pad: usize) -> Vec<u8> {
        [&self.private.public()[..], &vec![0xaa; pad]].concat()
    }

    /// All that an initiator says, up to and with `offered` ciphered.
    fn offer(&self, end: &mut End, pad: usize, torrent: &Id20, offered: &[u8]) {
        end.receive(&self.key(pad));
        let theirs = end.to_send[..KEY_LEN].try_into().unwrap();
        let secret = self.private.shared(theirs).unwrap();
        let mut named = torrent_hash(torrent);
        xor(&mut named, &hash(&[b"req3", &secret]).0);
        end.receive(&hash(&[b"req1", &secret]).0);
        end.receive(&named.0);
        let mut offered = offered.to_vec();
        Cipher::new(b"keyA", &secret, torrent).apply(&mut offered);
        end.receive(&offered);
    }

    /// All that a responder says, up to and with `chosen` ciphered.
    fn choose(&self, end: &mut End, pad: usize, chosen: &[u8]) {
        let theirs = end.to_send[..KEY_LEN].try_into().unwrap();
        let secret = self.private.shared(theirs).unwrap();
        end.receive(&self.key(pad));
        let mut chosen = chosen.to_vec();
        Cipher::new(b"keyB", &secret, &TORRENT).apply(&mut chosen);
        end.receive(&chosen);
    }
}

fn offered(constant: u8, methods: u32, pad: u16, initial: u16) -> Vec<u8> {
    let mut bytes = vec![constant; VC.len()];
    bytes.extend(methods.to_be_bytes());
    bytes.extend(pad.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(pad), 0x55);
    bytes.extend(initial.to_be_bytes());
    bytes
}

fn chosen(method: u32, pad: u16) -> Vec<u8> {
    let mut bytes = VC.to_vec();
    bytes.extend(method.to_be_bytes());
    bytes.extend(pad.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(pad), 0x55);
    bytes
}

#[test]
fn an_initiator_is_refused_for_what_it_does_wrong() {
    let unknown = Id20([1; 20]);
    for (mode, pad, torrent, offered, outcome) in [
        (
            EncryptionMode::Allow,
            0,
            &TORRENT,
            offered(0, 3, 0, 0),
            None,
        ),
        (
            EncryptionMode::Allow,
            512,
            &TORRENT,
            offered(0, 3, 512, 7),
            None,
        ),
        (
            EncryptionMode::Allow,
            513,
            &TORRENT,
            offered(0, 3, 0, 0),
            Some(NOT_FOUND),
        ),
        (
            EncryptionMode::Allow,
            0,
            &TORRENT,
            offered(0, 3, 513, 0),
            Some(LONG_PAD),
        ),
        (
            EncryptionMode::Allow,
            0,
            &TORRENT,
            offered(1, 3, 0, 0),
            Some(WRONG_CONSTANT),
        ),
        (
            EncryptionMode::Allow,
            0,
            &unknown,
            offered(0, 3, 0, 0),
            Some(UNKNOWN_TORRENT),
        ),
        (
            EncryptionMode::Prefer,
            3,
            &TORRENT,
            offered(0, 1, 0, 0),
            None,
        ),
        (
            EncryptionMode::Prefer,
            3,
            &TORRENT,
            offered(0, 0, 0, 0),
            Some(NO_COMMON_METHOD),
        ),
        (
            EncryptionMode::Allow,
            3,
            &TORRENT,
            offered(0, 4, 0, 0),
            Some(NO_COMMON_METHOD),
        ),
        (
            EncryptionMode::Allow,
            3,
            &TORRENT,
            offered(0, 0xffff_fffe, 0, 0),
            None,
        ),
        (
            EncryptionMode::Require,
            3,
            &TORRENT,
            offered(0, 1, 0, 0),
            Some(NO_COMMON_METHOD),
        ),
        (
            EncryptionMode::Require,
            3,
            &TORRENT,
            offered(0, 2, 0, 0),
            None,
        ),
    ] {
        let mut end = End::responder(mode, 1);
        Forger::new().offer(&mut end, pad, torrent, &offered);
        assert_eq!(end.failed, outcome, "{mode:?}, {pad}, {offered:x?}");
        assert_eq!(end.ciphers.is_some(), outcome.is_none());
    }
}

#[test]
fn a_responder_is_refused_for_what_it_does_wrong() {
    for (mode, pad, chosen, outcome) in [
        (EncryptionMode::Prefer, 0, chosen(2, 0), None),
        (EncryptionMode::Prefer, 512, chosen(1, 512), None),
        (EncryptionMode::Prefer, 513, chosen(2, 0), Some(NOT_FOUND)),
        (EncryptionMode::Prefer, 9, chosen(2, 513), Some(LONG_PAD)),
        (EncryptionMode::Prefer, 9, chosen(3, 0), Some(NOT_OFFERED)),
        (EncryptionMode::Prefer, 9, chosen(0, 0), Some(NOT_OFFERED)),
        (EncryptionMode::Require, 9, chosen(1, 0), Some(NOT_OFFERED)),
        (EncryptionMode::Require, 9, chosen(2, 0), None),
    ] {
        let mut end = End::initiator(mode, 1, b"");
        Forger::new().choose(&mut end, pad, &chosen);
        assert_eq!(end.failed, outcome, "{mode:?}, {pad}, {chosen:x?}");
        assert_eq!(end.ciphers.is_some(), outcome.is_none());
    }
}

#[test]
fn a_key_that_makes_the_secret_public_is_refused_by_both() {
    for key in [[0; KEY_LEN], [0xff; KEY_LEN], {
        let mut one = [0; KEY_LEN];
        one[KEY_LEN - 1] = 1;
        one
    }] {
        for mut end in [
            End::initiator(EncryptionMode::Prefer, 1, b""),
            End::responder(EncryptionMode::Prefer, 1),
        ] {
            let before = end.to_send.clone();
            end.receive(&key);
            assert_eq!(end.failed, Some(BAD_KEY));
            assert_eq!(end.to_send, before, "nothing is said to it");
        }
    }
}

/// The first bytes of a stream in plain text that were sent before its rest is ciphered no more.
#[test]
fn what_is_sent_early_is_ciphered_and_the_rest_is_not() {
    let mut end = End::responder(EncryptionMode::Allow, 1);
    let early = [offered(0, 1, 0, 5), b"early".to_vec()].concat();
    Forger::new().offer(&mut end, 10, &TORRENT, &early);
    assert!(end.ciphers.as_ref().unwrap().is_over());
    end.receive(b" and late");
    assert_eq!(end.heard, b"early and late");
}

#[test]
fn pads_have_every_length_that_is_allowed() {
    let mut longest = 0;
    let mut shortest = MAX_PAD;
    let mut secrets = secrets(1);
    for _ in 0..20_000 {
        let len = random_len(&mut secrets);
        longest = longest.max(len);
        shortest = shortest.min(len);
    }
    assert_eq!((shortest, longest), (0, MAX_PAD));
}
