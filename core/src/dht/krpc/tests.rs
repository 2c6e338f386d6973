use super::*;
use crate::dht::item::{Item, MAX_SALT, Signed, bencoded};
use crate::dht::scrape::{Filter, Filters};
use bytes::Bytes;
use core::net::{Ipv4Addr, Ipv6Addr};
use quickcheck::quickcheck;
use std::vec;
use std::vec::Vec;

fn decode(text: &str) -> Message<'_> {
    Message::decode(text.as_bytes()).unwrap()
}

fn id(text: &str) -> Id20 {
    Id20(text.as_bytes().try_into().unwrap())
}

const ALPHABET: &str = "abcdefghij0123456789";
const REST: &str = "mnopqrstuvwxyz123456";

#[test]
fn examples_of_bep_5_are_read() {
    let m = decode("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
    assert_eq!(m.kind, Kind::Query(b"ping"));
    assert_eq!((m.transaction, m.body.id), (&b"aa"[..], Some(id(ALPHABET))));
    let m = decode("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re");
    assert_eq!((m.kind, m.body.id), (Kind::Response, Some(id(REST))));
    let m = decode(
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
    );
    assert_eq!(m.kind, Kind::Query(b"find_node"));
    assert_eq!(m.body.target, Some(id(REST)));
    let m = decode(
        "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
    );
    assert_eq!(m.body.info_hash, Some(id(REST)));
    let m = decode(
        "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    );
    assert_eq!(m.body.token, Some(&b"aoeusnth"[..]));
    let peers: Vec<_> = m.body.values.iter().collect();
    let expected = [
        compact::decode(b"axje.u").unwrap(),
        compact::decode(b"idhtnm").unwrap(),
    ];
    assert_eq!(peers, expected);
    let m = decode(
        "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
    );
    assert_eq!(m.kind, Kind::Query(b"announce_peer"));
    assert_eq!((m.body.port, m.body.implied_port), (Some(6881), true));
    let m = decode("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee");
    assert_eq!(m.kind, Kind::Error(201, b"A Generic Error Ocurred"));
}

#[test]
fn nodes_that_are_not_compact_nodes_are_not_read() {
    let m = decode("d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re");
    assert_eq!(m.body.nodes.iter().count(), 0);
}

#[test]
fn fields_of_a_wrong_type_or_length_are_absent() {
    let m = decode(
        "d1:ad2:idi5e4:porti70000e5:tokenle4:wantd1:xi1ee6:valuesi1ee1:q4:ping1:t2:aa1:y1:qe",
    );
    assert_eq!(m.body, Body::default());
    let m =
        decode("d1:ad2:id19:abcdefghij0123456784:wantl2:n62:n8i1eee1:q4:ping2:roi1e1:t1:a1:y1:qe");
    assert_eq!(
        m.body.want,
        Some(Want {
            v4: false,
            v6: true
        })
    );
    assert!(m.read_only && m.body.id.is_none());
}

#[test]
fn a_token_is_read_up_to_its_limit() {
    let text = |len: usize| {
        let token = "x".repeat(len);
        std::format!("d1:rd2:id20:mnopqrstuvwxyz1234565:token{len}:{token}e1:t2:aa1:y1:re")
    };
    let (fits, long) = (text(MAX_TOKEN), text(MAX_TOKEN + 1));
    assert_eq!(decode(&fits).body.token.map(<[u8]>::len), Some(MAX_TOKEN));
    assert_eq!(decode(&long).body.token, None);
    assert_eq!(decode(&long).body.id, Some(id(REST)));
}

#[test]
fn malformed_datagrams_are_named() {
    let error = |text: &str| Message::decode(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), Malformed::Truncated);
    assert_eq!(error("d"), Malformed::Truncated);
    assert_eq!(error("le"), Malformed::Syntax);
    assert_eq!(error("de"), Malformed::Incomplete);
    assert_eq!(error("d1:t2:aa1:y1:re"), Malformed::Incomplete);
    assert_eq!(error("d1:rde1:t0:1:y1:re"), Malformed::Incomplete);
    assert_eq!(error("d1:rde1:t2:aa1:y1:rex"), Malformed::Trailing);
    assert_eq!(error("d1:rde1:t2:aa1:y1:r"), Malformed::Truncated);
    assert_eq!(error("d99:"), Malformed::Truncated);
    assert_eq!(error("d99999999999999999999:"), Malformed::Overflow);
    assert_eq!(error("d1:xi99999999999999999999ee"), Malformed::Overflow);
    assert_eq!(error("d1:xi-9223372036854775809ee"), Malformed::Overflow);
    assert_eq!(error("d1:xiee"), Malformed::Syntax);
    assert_eq!(error("d-1:x"), Malformed::Syntax);
    assert_eq!(error("d1:xd1:yee"), Malformed::Syntax);
    assert_eq!(error("d1:xdi1ei2eee"), Malformed::Syntax);
    let long = std::format!("d1:rde1:t33:{}1:y1:re", "x".repeat(33));
    assert_eq!(error(&long), Malformed::Incomplete);
    let long = std::format!("d1:rde1:t32:{}1:y1:re", "x".repeat(32));
    assert!(Message::decode(long.as_bytes()).is_ok());
}

#[test]
fn ten_levels_are_read_and_more_are_not() {
    let nested = |levels: usize| {
        std::format!(
            "d1:rde1:t1:a1:x{}{}1:y1:re",
            "l".repeat(levels),
            "e".repeat(levels)
        )
    };
    assert!(Message::decode(nested(7).as_bytes()).is_ok());
    assert_eq!(
        Message::decode(nested(10).as_bytes()),
        Err(Malformed::Depth)
    );
    let endless = std::format!("d1:x{}", "l".repeat(100_000));
    assert_eq!(Message::decode(endless.as_bytes()), Err(Malformed::Depth));
}

fn number(n: u128) -> Id20 {
    let mut bytes = [0; 20];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Id20(bytes)
}

#[test]
fn a_value_is_read_as_it_stands_whatever_it_is() {
    for value in ["i7e", "5:hello", "li1ed1:xleee", "d1:bi1e1:ai2ee", "0:"] {
        let text =
            std::format!("d1:rd2:id20:mnopqrstuvwxyz1234561:v{value}e1:t2:aa1:v4:TK011:y1:re");
        let m = decode(&text);
        assert_eq!(m.body.value, Some(value.as_bytes()));
        assert_eq!(m.version, Some(&b"TK01"[..]));
    }
    let deep = std::format!("d1:rd1:v{}{}e1:t1:a1:y1:re", "l".repeat(9), "e".repeat(9));
    assert_eq!(Message::decode(deep.as_bytes()), Err(Malformed::Depth));
}

#[test]
fn keys_signatures_filters_and_samples_of_a_wrong_length_are_absent() {
    let m = decode(
        "d1:rd4:BFpe3:abc4:BFsdi1e2:id20:mnopqrstuvwxyz1234568:intervali-1e1:k31:0123456789abcdef0123456789abcde3:numi4294967296e7:samples21:0123456789012345678903:seq1:13:sig2:xx4:salti3ee1:t2:aa1:y1:re",
    );
    let id = Some(id(REST));
    assert_eq!(
        m.body,
        Body {
            id,
            ..Body::default()
        }
    );
}

#[test]
fn a_put_has_its_keys_in_order() {
    let signed = Signed {
        key: [b'k'; 32],
        signature: [b's'; 64],
        seq: 4,
        salt: Bytes::from_static(b"n"),
    };
    let item = Item::mutable(bencoded(b"x"), signed).unwrap();
    let asker = Asker {
        id: id(ALPHABET),
        read_only: false,
        want: Want::default(),
    };
    let mut buf = vec![];
    let put = Query::Put {
        item: &item,
        cas: Some(3),
        token: b"tok",
    };
    write_query(&mut buf, b"aa", asker, put);
    let expected = [
        &b"d1:ad3:casi3e2:id20:"[..],
        ALPHABET.as_bytes(),
        b"1:k32:",
        &[b'k'; 32],
        b"4:salt1:n3:seqi4e3:sig64:",
        &[b's'; 64],
        b"6:target20:",
        &item.target().0,
        b"5:token3:tok1:v1:xe1:q3:put1:t2:aa1:v4:TK011:y1:qe",
    ];
    assert_eq!(buf, expected.concat());
    let document = crate::bencode::decode(&buf, &crate::bencode::Limits::DATAGRAM).unwrap();
    assert!(document.is_canonical());
}

/// An item of any kind.
fn item(text: &[u8], signed: Option<(u8, i64)>, salt: &[u8]) -> Item {
    let value = bencoded(&text[..text.len().min(900)]);
    match signed {
        None => Item::immutable(value).unwrap(),
        Some((n, seq)) => {
            let signed = Signed {
                key: [n; 32],
                signature: [!n; 64],
                seq: seq & i64::MAX,
                salt: Bytes::copy_from_slice(&salt[..salt.len().min(MAX_SALT)]),
            };
            Item::mutable(value, signed).unwrap()
        }
    }
}

fn is_canonical(message: &[u8]) -> bool {
    let document = crate::bencode::decode(message, &crate::bencode::Limits::DATAGRAM);
    document.is_ok_and(|document| document.is_canonical())
}

quickcheck! {
    fn queries_about_items_and_samples_are_read_as_written(
        a: u128, b: u128, numbers: (Option<i64>, Option<(u8, i64)>), token: Option<Vec<u8>>,
        parts: (Vec<u8>, Vec<u8>), which: u8, both: bool
    ) -> bool {
        let (seq, signed) = numbers;
        let (text, salt) = parts;
        let token = token.as_ref().map(|token| &token[..token.len().min(MAX_TOKEN)]);
        let item = item(&text, signed, &salt);
        let query = match which % 4 {
            0 => Query::Scrape(number(b)),
            1 => Query::Sample(number(b)),
            2 => Query::Get { target: number(b), seq, token },
            _ => Query::Put { item: &item, cas: seq, token: token.unwrap_or_default() },
        };
        let asker = Asker { id: number(a), read_only: !both, want: Want { v4: true, v6: both } };
        let mut buf = vec![];
        write_query(&mut buf, b"t", asker, query);
        let m = Message::decode(&buf).unwrap();
        let want = m.body.want == both.then_some(asker.want);
        let about = m.body.target == Some(number(b)) && want;
        let same = match query {
            Query::Scrape(_) => {
                m.kind == Kind::Query(b"get_peers")
                    && m.body.scrape && m.body.info_hash == Some(number(b)) && want
            }
            Query::Sample(_) => m.kind == Kind::Query(b"sample_infohashes") && about,
            Query::Get { .. } => {
                m.kind == Kind::Query(b"get") && about
                    && m.body.seq == seq
                    && m.body.token == token
            }
            _ => {
                m.kind == Kind::Query(b"put")
                    && m.body.cas == seq
                    && m.body.token == Some(token.unwrap_or_default())
                    && m.body.value == Some(&item.value()[..])
                    && m.body.key == item.signed().map(|signed| &signed.key)
                    && m.body.signature == item.signed().map(|signed| &signed.signature)
                    && m.body.seq == item.seq()
                    && m.body.salt == item.signed().map_or(&b""[..], |signed| &signed.salt)
            }
        };
        same && m.body.id == Some(number(a)) && is_canonical(&buf)
    }

    fn answers_about_items_samples_and_peers_are_read_as_written(
        a: u128, signed: Option<(u8, i64)>, text: Vec<u8>, hashes: Vec<u128>, num: u32, ips: Vec<u32>
    ) -> bool {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let item = item(&text, signed, b"salt");
        let mut filters = Filters::default();
        for ip in ips {
            Filter::insert(&mut filters.seeds, Ipv4Addr::from(ip).into());
            Filter::insert(&mut filters.downloaders, Ipv4Addr::from(!ip).into());
        }
        let hashes: Vec<_> = hashes.into_iter().take(20).map(number).collect();
        let mut buf = vec![];
        let mut response = Response::begin_with(&mut buf, to, &number(a), Some(&filters));
        response.interval(num / 2);
        if let Some(signed) = item.signed() {
            response.key(&signed.key);
        }
        response.nodes(&[]);
        response.samples(num, hashes.iter().copied());
        if let Some(signed) = item.signed() {
            response.seq(signed.seq);
            response.signature(&signed.signature);
        }
        response.token(b"token");
        response.value(item.value());
        response.end(b"t");
        let body = Message::decode(&buf).unwrap().body;
        is_canonical(&buf)
            && body.seeds == Some(&filters.seeds.0)
            && body.downloaders == Some(&filters.downloaders.0)
            && (body.interval, body.num) == (Some(num / 2), Some(num))
            && body.samples.unwrap().iter().eq(hashes)
            && body.key == item.signed().map(|signed| &signed.key)
            && body.signature == item.signed().map(|signed| &signed.signature)
            && body.seq == item.seq()
            && body.value == Some(&item.value()[..])
            && body.token == Some(b"token")
    }

    fn queries_are_read_as_written(a: u128, b: u128, port: Option<u16>, token: Vec<u8>, t: u32, which: u8, flags: (bool, bool)) -> bool {
        let (ro, both) = flags;
        let token = &token[..token.len().min(MAX_TOKEN)];
        let query = match which % 4 {
            0 => Query::Ping,
            1 => Query::FindNode(number(b)),
            2 => Query::GetPeers(number(b)),
            _ => Query::Announce(number(b), port, token),
        };
        let asker = Asker { id: number(a), read_only: ro, want: Want { v4: true, v6: both } };
        let mut buf = vec![];
        write_query(&mut buf, &t.to_be_bytes(), asker, query);
        let m = Message::decode(&buf).unwrap();
        let same = match query {
            Query::Ping => m.kind == Kind::Query(b"ping"),
            Query::FindNode(_) => m.kind == Kind::Query(b"find_node") && m.body.target == Some(number(b)),
            Query::GetPeers(_) => m.kind == Kind::Query(b"get_peers") && m.body.info_hash == Some(number(b)),
            Query::Announce(..) => {
                m.kind == Kind::Query(b"announce_peer")
                    && m.body.info_hash == Some(number(b))
                    && m.body.token == Some(token)
                    && m.body.implied_port == port.is_none()
                    && m.body.port == Some(port.unwrap_or(0))
            }
            _ => false,
        };
        same && m.read_only == ro && m.transaction == t.to_be_bytes() && m.body.id == Some(number(a))
    }

    fn responses_are_read_as_written(a: u128, ip: u32, port: u16, v4: Vec<(u128, u32, u16)>, v6: Vec<(u128, u128, u16)>, token: Option<u64>) -> bool {
        let to = SocketAddr::new(Ipv4Addr::from(ip).into(), port);
        let four: Vec<_> = v4.iter().map(|(id, ip, port)| (number(*id), SocketAddr::new(Ipv4Addr::from(*ip).into(), *port))).collect();
        let six: Vec<_> = v6.iter().map(|(id, ip, port)| (number(*id), SocketAddr::new(Ipv6Addr::from(*ip).into(), *port))).collect();
        let pack = |nodes: &[(Id20, SocketAddr)]| {
            let mut bytes = vec![];
            for (id, addr) in nodes {
                bytes.extend_from_slice(&id.0);
                bytes.extend_from_slice(compact::encode(*addr).as_bytes());
            }
            bytes
        };
        let mut buf = vec![];
        let mut response = Response::begin(&mut buf, to, &number(a));
        response.nodes(&pack(&four));
        response.nodes6(&pack(&six));
        if let Some(token) = token {
            response.token(&token.to_be_bytes());
        }
        response.values(four.iter().map(|(_, addr)| *addr));
        response.end(b"xyz");
        let m = Message::decode(&buf).unwrap();
        m.kind == Kind::Response
            && m.ip == Some(to)
            && m.body.id == Some(number(a))
            && m.body.token.map(<[u8]>::to_vec) == token.map(|token| token.to_be_bytes().to_vec())
            && m.body.nodes.iter().collect::<Vec<_>>() == four
            && m.body.nodes6.iter().collect::<Vec<_>>() == six
            && m.body.values.iter().eq(four.iter().map(|(_, addr)| *addr))
    }

    fn errors_are_read_as_written(code: u16, text: std::string::String) -> bool {
        let mut buf = vec![];
        write_error(&mut buf, b"t", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1), code, &text);
        Message::decode(&buf).unwrap().kind == Kind::Error(i64::from(code), text.as_bytes())
    }

    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) -> bool {
        let _ = Message::decode(&bytes).map(|m| m.body.values.iter().count());
        let _ = Saved::decode(&bytes);
        true
    }

    fn bent_messages_are_read_or_refused(at: usize, byte: u8, cut: usize) -> bool {
        let mut text = b"d1:ad2:id20:abcdefghij01234567894:wantl2:n42:n6e6:valuesl6:axje.u6:idhtnmee1:q9:get_peers1:t2:aa1:y1:qe".to_vec();
        let at = at % text.len();
        text[at] = byte;
        text.truncate(text.len() - cut % 8);
        let _ = Message::decode(&text).map(|m| m.body.values.iter().count());
        true
    }
}
