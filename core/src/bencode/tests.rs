use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::{format, vec};

const LIMITS: Limits = Limits {
    depth: 100,
    tokens: 1000,
};

fn error(bytes: &[u8]) -> (ErrorKind, usize) {
    let error = decode(bytes, &LIMITS).expect_err("must be refused");
    (error.kind, error.offset)
}

#[test]
fn hard_errors_and_their_bytes() {
    use ErrorKind::*;
    let rows: &[(&[u8], ErrorKind, usize)] = &[
        (b"d1:ai1e1:be", ExpectedValue, 10),
        (b"di5e1:ae", ExpectedDigit, 1),
        (b"e", UnexpectedEnd, 0),
        (b"-10:foobar", ExpectedValue, 0),
        (b"18446744073709551615:foobar", Overflow, 19),
        (b"99999999:foobar", UnexpectedEnd, 8),
        (b"199999999:foobar", TooLarge, 0),
        (b"ie", ExpectedDigit, 1),
        (b"i-e", ExpectedDigit, 2),
        (b"i35412-5633e", ExpectedDigit, 6),
        (b"i184467440737095516154e", Overflow, 22),
        (b"i-", UnexpectedEnd, 2),
        (b"i92337203t854775807e", ExpectedDigit, 9),
        (b"l2:..", UnexpectedEnd, 5),
        (b"l2:..0", UnexpectedEnd, 6),
        (b"di2ei0ee", ExpectedDigit, 1),
        (b"d1000:..e", UnexpectedEnd, 5),
        (b"d1000:", UnexpectedEnd, 5),
        (b"df00:", ExpectedDigit, 1),
        (b"i", UnexpectedEnd, 1),
        (b"i10", UnexpectedEnd, 3),
        (b"d1000", ExpectedColon, 5),
        (b"100:..", UnexpectedEnd, 3),
        (b"", UnexpectedEnd, 0),
        (b"i18446744073709551615e", Overflow, 21),
        (b"i9223372036854775808e", Overflow, 20),
        (b"i-9223372036854775809e", Overflow, 21),
        (b"i1ei2e", TrailingBytes, 3),
        (b"4:spamx", TrailingBytes, 6),
    ];
    for (bytes, kind, offset) in rows {
        assert_eq!(error(bytes), (*kind, *offset), "{}", bytes.escape_ascii());
    }
}

#[test]
fn limits_of_depth_and_tokens() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert_eq!(error(&nested(1024)), (ErrorKind::TooDeep, 100));
    assert!(decode(&nested(100), &LIMITS).is_ok());
    assert_eq!(error(&nested(101)).0, ErrorKind::TooDeep);

    let strings = |count: usize| [b"l".to_vec(), b"0:".repeat(count), b"e".to_vec()].concat();
    assert_eq!(error(&strings(1001)).0, ErrorKind::TooLarge);
    assert_eq!(error(&strings(1000)), (ErrorKind::TooLarge, 1 + 2 * 999));
    assert!(decode(&strings(999), &LIMITS).is_ok());
}

#[test]
fn flaws_are_told_but_accepted() {
    type Row = (&'static [u8], Option<(FlawKind, usize)>);
    let rows: &[Row] = &[
        (b"d2:abi1e2:aai2ee", Some((FlawKind::UnsortedKey, 8))),
        (b"d2:bai1e2:aai2ee", Some((FlawKind::UnsortedKey, 8))),
        (b"d2:aai1e1:ai2ee", Some((FlawKind::UnsortedKey, 8))),
        (b"d2:aai1e2:aai2ee", Some((FlawKind::DuplicateKey, 8))),
        (b"06:foobar", Some((FlawKind::LeadingZero, 0))),
        (b"i01e", Some((FlawKind::LeadingZero, 0))),
        (b"i-0e", Some((FlawKind::LeadingZero, 0))),
        (b"li1ei-05ee", Some((FlawKind::LeadingZero, 4))),
        (b"0:", None),
        (b"i0e", None),
        (b"d1:ai1e2:aai2ee", None),
        (b"d1:ad1:zi1ee1:bi2ee", None),
    ];
    for (bytes, flaw) in rows {
        let document = decode(bytes, &LIMITS).expect("accepted");
        let found = document.flaw().map(|flaw| (flaw.kind, flaw.offset));
        assert_eq!(found, *flaw, "{}", bytes.escape_ascii());
        assert_eq!(document.is_canonical(), flaw.is_none());
    }
}

#[test]
fn values_are_read() {
    let int = |bytes: &[u8]| decode(bytes, &LIMITS).expect("accepted").root().as_int();
    assert_eq!(int(b"i9223372036854775807e"), Some(i64::MAX));
    assert_eq!(int(b"i-9223372036854775807e"), Some(-i64::MAX));
    assert_eq!(int(b"i-9223372036854775808e"), Some(i64::MIN));
    assert_eq!(int(b"i01e"), Some(1));
    assert_eq!(int(b"1:1"), None);
    let string = decode(b"06:foobar", &LIMITS).expect("accepted");
    assert_eq!(string.root().as_bytes(), Some(&b"foobar"[..]));

    let bytes = b"d1:ad2:id3:abc1:lli1eli2eeee1:q4:pinge";
    let document = decode(bytes, &LIMITS).expect("accepted");
    let root = document.root().as_dict().expect("a dictionary");
    let inner = root.find(b"a").expect("there");
    assert_eq!(inner.raw(), b"d2:id3:abc1:lli1eli2eeee");
    assert_eq!(inner.offset(), 4);
    assert_eq!(root.bytes(b"q"), Some(&b"ping"[..]));
    assert!(root.find(b"id").is_none(), "only keys of this level");
    let list = root.dict(b"a").and_then(|a| a.list(b"l")).expect("a list");
    assert_eq!(list.len(), 2);
    assert_eq!(list.get(0).and_then(Value::as_int), Some(1));
    assert_eq!(list.get(1).map(Value::raw), Some(&b"li2ee"[..]));
    assert!(list.get(2).is_none());
}

#[test]
fn bytes_after_a_prefix_are_left() {
    let bytes = b"d8:msg_typei1e5:piecei0ee\0data";
    let (document, used) = decode_prefix(bytes, &Limits::MESSAGE).expect("accepted");
    assert_eq!(&bytes[used..], b"\0data");
    assert_eq!(document.root().raw(), &bytes[..used]);
}

#[test]
fn a_scratch_is_used_again_and_bytes_outlive_it() {
    let message = b"d1:t2:aa1:y1:qe".to_vec();
    let mut scratch = Scratch::with_capacity(5);
    let mut id: &[u8] = b"";
    for _ in 0..3 {
        let view = decode_in(&mut scratch, &message, &Limits::DATAGRAM).expect("accepted");
        id = view
            .root()
            .as_dict()
            .and_then(|d| d.bytes(b"t"))
            .expect("there");
    }
    drop(scratch);
    assert_eq!(id, b"aa");
}

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn random(g: &mut Gen, depth: usize) -> Self {
        let count = if depth == 0 {
            0
        } else {
            usize::arbitrary(g) % 4
        };
        match u8::arbitrary(g) % if depth == 0 { 2 } else { 4 } {
            0 => Self::Int(i64::arbitrary(g)),
            1 => Self::Bytes(Vec::arbitrary(g)),
            2 => Self::List((0..count).map(|_| Self::random(g, depth - 1)).collect()),
            _ => Self::Dict(
                (0..count)
                    .map(|_| (Vec::arbitrary(g), Self::random(g, depth - 1)))
                    .collect(),
            ),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Int(value) => _ = writer.int(*value),
            Self::Bytes(value) => _ = writer.bytes(value),
            Self::List(values) => {
                writer.list();
                values.iter().for_each(|value| value.write(writer));
                writer.end();
            }
            Self::Dict(values) => {
                writer.dict();
                for (key, value) in values {
                    value.write(writer.key(key));
                }
                writer.end();
            }
        }
    }

    fn read(value: Value<'_, '_>) -> Self {
        if let Some(int) = value.as_int() {
            Self::Int(int)
        } else if let Some(bytes) = value.as_bytes() {
            Self::Bytes(bytes.to_vec())
        } else if let Some(list) = value.as_list() {
            Self::List(list.iter().map(Self::read).collect())
        } else {
            let dict = value.as_dict().expect("one of four");
            Self::Dict(
                dict.iter()
                    .map(|(k, v)| (k.to_vec(), Self::read(v)))
                    .collect(),
            )
        }
    }
}

impl Arbitrary for Tree {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::random(g, 4)
    }
}

/// Bytes that are nearly bencoding, so that the decoder gets past the first of them.
#[derive(Debug, Clone)]
struct Nearly(Vec<u8>);

impl Arbitrary for Nearly {
    fn arbitrary(g: &mut Gen) -> Self {
        let alphabet = b"deli0123:-ax";
        let mut bytes: Vec<u8> = Vec::arbitrary(g);
        bytes
            .iter_mut()
            .for_each(|byte| *byte = alphabet[usize::from(*byte) % alphabet.len()]);
        Self(bytes)
    }
}

quickcheck! {
    fn what_is_written_is_read(tree: Tree) -> bool {
        let mut bytes = Vec::new();
        tree.write(&mut Writer::new(&mut bytes));
        let document = decode(&bytes, &Limits::TORRENT).expect("canonical");
        document.is_canonical() && Tree::read(document.root()) == tree
    }

    fn canonical_bytes_are_written_back(bytes: Nearly) -> bool {
        let Ok((document, used)) = decode_prefix(&bytes.0, &LIMITS) else { return true };
        let mut back = Vec::new();
        Tree::read(document.root()).write(&mut Writer::new(&mut back));
        document.is_canonical() == (back == bytes.0[..used])
    }

    fn any_bytes_are_survived(bytes: Vec<u8>) -> bool {
        decode(&bytes, &LIMITS).map_or(true, |document| !format!("{:?}", document.root()).is_empty())
    }

    fn a_cut_message_is_refused(tree: Tree, cut: usize) -> bool {
        let mut bytes = Vec::new();
        tree.write(&mut Writer::new(&mut bytes));
        bytes.truncate(cut % bytes.len());
        decode_prefix(&bytes, &Limits::TORRENT).is_err()
    }
}
