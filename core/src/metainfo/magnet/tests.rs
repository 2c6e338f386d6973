//! Links as they are, and as they should be.

use super::*;
use quickcheck::quickcheck;
use std::format;

const CD: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const V2: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

fn parse(query: &str) -> Magnet {
    Magnet::parse(&format!("magnet:?{query}")).expect(query)
}

fn with_hash(query: &str) -> Magnet {
    let magnet = parse(&format!("xt=urn:btih:{CD}&{query}"));
    assert_eq!(magnet.hashes.v1(), Some([0xcd; 20]));
    magnet
}

#[test]
fn hashes_in_all_forms() {
    let v1 = |query: &str| {
        let magnet = parse(query);
        assert_eq!(magnet.hashes.v2(), None, "{query}");
        magnet.hashes.v1()
    };
    assert_eq!(v1(&format!("xt=urn%3Abtih%3A{CD}")), Some([0xcd; 20]));
    assert_eq!(
        v1(&format!("xt=urn:btih:{}%64", &CD[..39])),
        Some([0xcd; 20])
    );
    assert_eq!(v1(&format!("\"foo=bar&xt=urn:btih:{CD}")), Some([0xcd; 20]));
    assert_eq!(
        v1("xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC"),
        Some(*b"abababababababababab")
    );
    let v2_only = parse(&format!("xt=urn:btmh:1220{V2}")).hashes;
    assert_eq!((v2_only.v1(), v2_only.v2()), (None, Some([0xcd; 32])));
    let hybrid = parse(&format!("xt=urn:btmh:1220{V2}&xt=urn:btih:{CD}")).hashes;
    assert_eq!(
        (hybrid.v1(), hybrid.v2()),
        (Some([0xcd; 20]), Some([0xcd; 32]))
    );

    let hex = "d2354010a3ca4ade5b7427bb093a62a3899ff381";
    let base32 = "2I2UAEFDZJFN4W3UE65QSOTCUOEZ744B";
    let bare = Magnet::parse(hex).expect("bare hex");
    assert_eq!(crate::id::hex(&bare.hashes.v1().expect("v1")), hex);
    for same in [
        base32,
        &base32.to_lowercase(),
        &hex.to_uppercase(),
        &format!("magnet:?xt=urn:btih:{base32}"),
        &format!("magnet:///?xt=urn:btih:{hex}"),
        &format!("MAGNET:?xt=URN:BTIH:{hex}"),
        &format!("magnet:?&empty&=&xt.1=urn:btih:{hex}&empty="),
    ] {
        assert_eq!(Magnet::parse(same), Ok(bare.clone()), "{same}");
    }
    let v2 = Magnet::parse(V2).expect("bare v2");
    assert_eq!(v2.hashes.v2(), Some([0xcd; 32]));
    assert_eq!(Magnet::parse(&format!("1220{V2}")), Ok(v2));
}

#[test]
fn wrong_links_are_refused() {
    let error = |query: &str| Magnet::parse(&format!("magnet:?{query}")).expect_err(query);
    let z = "z".repeat(40);
    for hash in [
        format!("urn:btmh:1221{V2}"),
        format!("urn:btmh:1220{}", &V2[..62]),
        format!("urn:btmh:1220{}", "x".repeat(64)),
        "urn:btih:abababab".to_string(),
        format!("urn:btih:{}", &CD[..22]),
        format!("urn:btih: {CD}"),
        format!("urn:btih: {}", &CD[1..]),
        format!("urn:btih:{z}"),
    ] {
        let found = hash.clone();
        let expected = MagnetError::InvalidInfoHash { found, offset: 11 };
        assert_eq!(error(&format!("xt={hash}")), expected);
    }
    let escape = MagnetError::InvalidEscape { offset: 14 };
    assert_eq!(error(&format!("xt=urn%%3Abtih%3A{CD}")), escape);
    assert_eq!(
        error("dn=foo&dht=127.0.0.1:43"),
        MagnetError::MissingInfoHash
    );
    assert_eq!(
        error("xt=blah&dn=foo&dht=127.0.0.1:43"),
        MagnetError::MissingInfoHash
    );
    for text in [
        "",
        "magnet:",
        "http://a/?xt=urn:btih:",
        &z,
        "magnet:é?x",
        "magné:?",
    ] {
        assert_eq!(Magnet::parse(text), Err(MagnetError::NotAMagnet), "{text}");
    }
}

#[test]
fn the_other_keys() {
    let magnet = parse(&format!(
        "XT=urn:btih:{CD}&dN=foo+b%61r&Ws=http://foo.com/bar"
    ));
    assert_eq!(magnet.name.as_deref(), Some("foo bar"));
    assert_eq!(magnet.web_seeds, ["http://foo.com/bar"]);

    let magnet = with_hash("tr=http://1&tr=http://2&tr=http://3&tr=http://3");
    assert_eq!(magnet.trackers, [["http://1"], ["http://2"], ["http://3"]]);
    let magnet = with_hash("tr.0=udp://1&tr.1=http://2&tr=http://3&tr.a=http://4");
    assert_eq!(magnet.trackers, [["udp://1"], ["http://2"], ["http://3"]]);

    let owned = |rows: &[(&str, u16)]| -> Vec<(String, u16)> {
        rows.iter()
            .map(|(host, port)| (host.to_string(), *port))
            .collect()
    };
    let magnet = with_hash("x.pe=127.0.0.1:43&x.pe=<invalid1>&x.pe=<invalid2>:100&x.pe=[::1]:45");
    assert_eq!(magnet.peers, owned(&[("127.0.0.1", 43), ("::1", 45)]));
    let magnet = with_hash("dht=127.0.0.1:43&dht=10.0.0.1:1337&dht=a.b:0&dht=a.b:65536");
    assert_eq!(
        magnet.nodes,
        owned(&[("127.0.0.1", 43), ("10.0.0.1", 1337)])
    );
}

#[test]
fn selections() {
    for (query, expected) in [
        ("so=0,2,4,6-8", &[0, 2, 4, 6, 7, 8][..]),
        ("so=0,2-4,3-5", &[0, 2, 3, 4, 5]),
        ("so=2-4&dn=foo&so=1", &[1, 2, 3, 4]),
        ("so=7-4,100000000&dn=foo&so=10", &[10]),
        ("so=-4&so=1", &[1]),
        ("so=3-&so=1", &[1]),
        ("so=a&so=1", &[1]),
        ("so=&so=,,1", &[1]),
        ("so=\"1,2\"", &[]),
        ("so=&so=", &[]),
        ("so=99999999999999999999,0-4294967295", &[]),
    ] {
        assert_eq!(with_hash(query).select, expected, "{query}");
    }
}

#[test]
fn what_cannot_be_read_is_told_once_and_the_rest_is_of_use() {
    let told = |query: &str| -> Vec<String> {
        let ignored = with_hash(query).ignored;
        ignored.iter().map(ToString::to_string).collect()
    };
    let files = "expected file numbers up to 999999, as 0,2,4-6; it is ignored";
    assert_eq!(told("so=zz,1"), [format!("so: found \"zz\", {files}")]);
    let both = [7, 8].map(|n| format!("so: found \"{n}-4\", {files}"));
    assert_eq!(told("so=7-4,8-4&so=7-4"), both);
    let address = "expected HOST:PORT, the port from 1 to 65535; it is ignored";
    assert_eq!(
        told("x.pe=1.2.3.4:99999&dht=a.b&x.pe=1.2.3.4:5"),
        [
            format!("x.pe: found \"1.2.3.4:99999\", {address}"),
            format!("dht: found \"a.b\", {address}")
        ]
    );
    let url = "expected an http:// or https:// URL; it is ignored";
    assert_eq!(
        told("ws=nonsense&ws=http://&ws=HTTPS://a.b/c"),
        ["nonsense", "http://"].map(|found| format!("ws: found \"{found}\", {url}"))
    );
    // A hash that is none is no harm beside one that is right.
    let hybrid = with_hash("xt=urn:btmh:1220zz");
    assert_eq!(hybrid.hashes.v2(), None);
    assert_eq!(hybrid.ignored[0].part, "xt");
    assert_eq!(told("xt=urn:sha1:abc&so=&tr=&unknown=%zz&dn=%zz"), [""; 0]);
    // One line each, and not more of them than anybody reads.
    let long = "z".repeat(1_000) + "%0a";
    assert!(told(&format!("x.pe={long}"))[0].len() < 200);
    let many: String = (0..1_000).map(|n| format!("&so=z{n}")).collect();
    assert_eq!(told(&many).len(), 32);
}

#[test]
fn links_are_written() {
    let v2 = InfoHashes::new(None, Some([b'a'; 32])).expect("one");
    let expected = format!("magnet:?xt=urn:btmh:1220{}", "61".repeat(32));
    assert_eq!(Magnet::new(v2).to_string(), expected);
    let hybrid = InfoHashes::new(Some([b'a'; 20]), Some([b'b'; 32])).expect("two");
    let expected = format!(
        "magnet:?xt=urn:btih:{}&xt=urn:btmh:1220{}",
        "61".repeat(20),
        "62".repeat(32)
    );
    assert_eq!(Magnet::new(hybrid).to_string(), expected);

    let magnet =
        with_hash("dn=a%26b%20%2B&tr=http://1/?a%3Db&x.pe=[::1]:45&dht=r.example:1&so=1,3-5");
    let text = magnet.to_string();
    assert!(text.ends_with(
        "&dn=a%26b%20%2B&tr=http%3A%2F%2F1%2F%3Fa%3Db&x.pe=[::1]:45&dht=r.example:1&so=1,3-5"
    ));
    assert_eq!(Magnet::parse(&text), Ok(magnet));
}

quickcheck! {
    fn any_text_is_survived(text: String, query: bool) -> bool {
        let text = if query { format!("magnet:?xt=urn:btih:{CD}&{text}") } else { text };
        match Magnet::parse(&text) {
            Ok(mut magnet) => {
                magnet.ignored.clear();
                Magnet::parse(&magnet.to_string()) == Ok(magnet)
            }
            Err(error) => !error.to_string().is_empty(),
        }
    }

    fn written_links_are_read(name: String, tracker: String, seed: String, v2: bool, so: Vec<u16>) -> bool {
        let mut magnet = Magnet::new(
            InfoHashes::new(Some([7; 20]), v2.then_some([9; 32])).expect("one"),
        );
        magnet.name = Some(name).filter(|name| !name.is_empty());
        magnet.trackers.extend((!tracker.is_empty()).then(|| Vec::from([tracker])));
        magnet.web_seeds = Vec::from([format!("http://a/{seed}")]);
        magnet.select = so.into_iter().map(u32::from).collect::<BTreeSet<_>>().into_iter().collect();
        Magnet::parse(&magnet.to_string()) == Ok(magnet)
    }
}
