//! What is asked of a tracker over HTTP, and what it answers (BEP 3, 7, 23, 24, 48).
//!
//! Requests are URLs, which a host fetches; answers are bencoded dictionaries.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::{IpAddr, SocketAddr};

use super::{Announce, AnnounceEvent, TrackerUrl};
use crate::bencode::{self, Dict, Limits, Value};
use crate::compact;
use crate::config::{EncryptionMode, TrackerConfig};
use crate::id::Id20;

/// Parts of one peer of an answer, keys included, and of what else an answer has.
const TOKENS_PER_PEER: u32 = 16;
const TOKENS: u32 = 200;

/// What an announce brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Seconds until the next announce is expected.
    pub interval: Option<u32>,
    /// Seconds before which none is welcome.
    pub min_interval: Option<u32>,
    /// Peers that have everything.
    pub seeds: Option<u32>,
    /// Peers that lack something.
    pub leechers: Option<u32>,
    /// Peers, at most `tracker.max_answer_peers`.
    pub peers: Vec<SocketAddr>,
    /// Our address, as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// What the tracker wants to hear the next time.
    pub tracker_id: Option<Vec<u8>>,
    /// Something for people, at most `tracker.max_text` bytes.
    pub warning: Option<String>,
}

/// Figures of one torrent (BEP 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Peers that have everything.
    pub seeds: Option<u32>,
    /// Peers that lack something.
    pub leechers: Option<u32>,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// Longer than `tracker.max_answer`.
    TooLong,
    /// Not a bencoded dictionary, or one of far too many parts.
    NotADictionary,
    /// The tracker refuses: why, for people.
    Refused(String),
    /// The scrape says nothing of the torrent.
    NotThere,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("its answer is too long"),
            Self::NotADictionary => f.write_str("its answer is no bencoded dictionary"),
            Self::Refused(reason) => f.write_str(reason),
            Self::NotThere => f.write_str("it does not know the torrent"),
        }
    }
}

impl core::error::Error for AnswerError {}

/// The address that announces to `url`.
#[must_use]
pub fn announce_url(url: &TrackerUrl, announce: &Announce<'_>) -> String {
    let mut out = query(url.text());
    let figures = announce.figures;
    out.push_str("info_hash=");
    escape(&announce.info_hash.0, &mut out);
    out.push_str("&peer_id=");
    escape(&announce.peer_id.0, &mut out);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "&port={}&uploaded={}&downloaded={}&left={}&compact=1&no_peer_id=1&numwant={}&key={:08x}",
        announce.port,
        figures.uploaded,
        figures.downloaded,
        figures.left,
        announce.num_want,
        announce.key,
    );
    out.push_str(match announce.encryption {
        EncryptionMode::Off => "",
        EncryptionMode::Allow | EncryptionMode::Prefer => "&supportcrypto=1",
        EncryptionMode::Require => "&requirecrypto=1",
    });
    if let Some(event) = event_name(announce.event) {
        out.push_str("&event=");
        out.push_str(event);
    }
    if !announce.tracker_id.is_empty() {
        out.push_str("&trackerid=");
        escape(announce.tracker_id, &mut out);
    }
    out
}

/// The address that scrapes one torrent; `None` where [`TrackerUrl::scrape`] is.
#[must_use]
pub fn scrape_url(url: &TrackerUrl, info_hash: Id20) -> Option<String> {
    let mut out = query(&url.scrape()?);
    out.push_str("info_hash=");
    escape(&info_hash.0, &mut out);
    Some(out)
}

/// `url`, ready for the first key.
fn query(url: &str) -> String {
    let mut out = String::with_capacity(url.len() + 300);
    out.push_str(url);
    out.push(if url.contains('?') { '&' } else { '?' });
    out
}

fn event_name(event: AnnounceEvent) -> Option<&'static str> {
    match event {
        AnnounceEvent::None => None,
        AnnounceEvent::Completed => Some("completed"),
        AnnounceEvent::Started => Some("started"),
        AnnounceEvent::Stopped => Some("stopped"),
    }
}

/// Every byte that is not unreserved (RFC 3986) as `%XX`.
fn escape(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Reads what an announce was answered.
///
/// # Errors
/// What it is instead; a failure reason is one.
pub fn decode(body: &[u8], config: &TrackerConfig) -> Result<Answer, AnswerError> {
    let document = open(body, config)?;
    let dict = granted(&document, config)?;
    let most = usize::from(config.max_answer_peers);
    let mut peers = Vec::new();
    if let Some(value) = dict.find(b"peers") {
        read_peers(value, compact::V4_LEN, most, &mut peers);
    }
    if let Some(value) = dict.find(b"peers6") {
        read_peers(value, compact::V6_LEN, most, &mut peers);
    }
    let known_id = dict
        .bytes(b"tracker id")
        .filter(|id| id.len() <= usize::from(config.max_text));
    Ok(Answer {
        interval: count(dict, b"interval"),
        min_interval: count(dict, b"min interval"),
        seeds: count(dict, b"complete"),
        leechers: count(dict, b"incomplete"),
        peers,
        external_ip: dict.bytes(b"external ip").and_then(ip_of),
        tracker_id: known_id.map(Vec::from),
        warning: dict
            .bytes(b"warning message")
            .map(|reason| text(reason, config)),
    })
}

/// Reads what a scrape of `info_hash` was answered.
///
/// # Errors
/// What it is instead; a failure reason is one.
pub fn decode_scrape(
    body: &[u8],
    info_hash: Id20,
    config: &TrackerConfig,
) -> Result<Counts, AnswerError> {
    let document = open(body, config)?;
    let dict = granted(&document, config)?;
    let figures = dict
        .dict(b"files")
        .and_then(|files| files.dict(&info_hash.0))
        .ok_or(AnswerError::NotThere)?;
    Ok(Counts {
        seeds: count(figures, b"complete"),
        leechers: count(figures, b"incomplete"),
    })
}

fn open<'a>(body: &'a [u8], config: &TrackerConfig) -> Result<bencode::Document<'a>, AnswerError> {
    if body.len() > config.max_answer as usize {
        return Err(AnswerError::TooLong);
    }
    let limits = Limits {
        depth: Limits::DATAGRAM.depth,
        tokens: TOKENS + TOKENS_PER_PEER * u32::from(config.max_answer_peers),
    };
    // Some trackers end with a line feed.
    let (document, _) =
        bencode::decode_prefix(body, &limits).map_err(|_| AnswerError::NotADictionary)?;
    Ok(document)
}

/// The dictionary of an answer that is no refusal.
fn granted<'d>(
    document: &'d bencode::Document<'_>,
    config: &TrackerConfig,
) -> Result<Dict<'d, 'd>, AnswerError> {
    let dict = document
        .root()
        .as_dict()
        .ok_or(AnswerError::NotADictionary)?;
    match dict.bytes(b"failure reason") {
        Some(reason) => Err(AnswerError::Refused(text(reason, config))),
        None => Ok(dict),
    }
}

/// Peers as one string of compact addresses, or as a list of dictionaries.
fn read_peers(value: Value<'_, '_>, each: usize, most: usize, peers: &mut Vec<SocketAddr>) {
    let room = most.saturating_sub(peers.len());
    if let Some(bytes) = value.as_bytes() {
        let known = bytes.chunks_exact(each).filter_map(compact::decode);
        peers.extend(known.take(room));
    } else if let Some(list) = value.as_list() {
        let known = list.iter().filter_map(|peer| {
            let peer = peer.as_dict()?;
            let ip = core::str::from_utf8(peer.bytes(b"ip")?).ok()?;
            let port = u16::try_from(peer.int(b"port")?).ok()?;
            // A name is not looked up: nobody lists peers by name any more.
            Some(SocketAddr::new(ip.parse().ok()?, port))
        });
        peers.extend(known.take(room));
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(octets));
    }
    if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        return Some(IpAddr::from(octets).to_canonical());
    }
    None
}

fn count(dict: Dict<'_, '_>, key: &[u8]) -> Option<u32> {
    u32::try_from(dict.int(key)?).ok()
}

/// The beginning of a text of others, without what could steer a terminal.
pub(super) fn text(bytes: &[u8], config: &TrackerConfig) -> String {
    let shown = &bytes[..bytes.len().min(usize::from(config.max_text))];
    String::from_utf8_lossy(shown)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;
    use crate::bencode::Writer;
    use crate::id::PeerId;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use quickcheck::quickcheck;
    use std::format;
    use std::string::ToString;

    fn announce(event: AnnounceEvent) -> Announce<'static> {
        Announce {
            info_hash: Id20(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
            peer_id: PeerId(*b"-TL0010-~a b&c=d?e%f"),
            port: 6881,
            figures: Figures { uploaded: 1, downloaded: 2, left: u64::MAX },
            event,
            key: 0xab,
            encryption: EncryptionMode::Off,
            num_want: 50,
            tracker_id: &[],
        }
    }

    #[test]
    fn an_announce_escapes_what_is_no_plain_letter_or_digit() {
        let url = TrackerUrl::parse("http://t.example/announce", 99).unwrap();
        assert_eq!(
            announce_url(&url, &announce(AnnounceEvent::Started)),
            "http://t.example/announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
             &peer_id=-TL0010-~a%20b%26c%3Dd%3Fe%25f&port=6881&uploaded=1&downloaded=2\
             &left=18446744073709551615&compact=1&no_peer_id=1&numwant=50&key=000000ab\
             &event=started"
        );
        let url = TrackerUrl::parse("https://t.example/x/announce?pass=1", 99).unwrap();
        let mut regular = announce(AnnounceEvent::None);
        regular.tracker_id = b"a&b";
        let text = announce_url(&url, &regular);
        assert!(text.starts_with("https://t.example/x/announce?pass=1&info_hash=%124V"));
        assert!(text.ends_with("&key=000000ab&trackerid=a%26b"), "{text}");
        for (encryption, says) in [
            (EncryptionMode::Allow, "&supportcrypto=1"),
            (EncryptionMode::Prefer, "&supportcrypto=1"),
            (EncryptionMode::Require, "&requirecrypto=1"),
        ] {
            regular.encryption = encryption;
            let said = announce_url(&url, &regular).replacen(says, "", 1);
            assert_eq!(said, text, "{encryption:?}");
        }
        let scrape = scrape_url(&url, Id20([b'a'; 20])).unwrap();
        assert_eq!(
            scrape,
            "https://t.example/x/scrape?pass=1&info_hash=aaaaaaaaaaaaaaaaaaaa"
        );
    }

    fn read(body: &[u8]) -> Result<Answer, AnswerError> {
        decode(body, &TrackerConfig::default())
    }

    #[test]
    fn peers_come_as_dictionaries_as_one_string_and_over_ipv6() {
        let old = b"d8:completei3e10:incompletei4e8:intervali1800e5:peersl\
                    d2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
                    d2:ip3:::14:porti6882eed2:ip7:a.names4:porti1eed2:ip7:1.2.3.44:porti65536eeee";
        let answer = read(old).unwrap();
        let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 6881);
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 6882);
        assert_eq!(answer.peers, [v4, v6]);
        assert_eq!(
            (answer.seeds, answer.leechers, answer.interval),
            (Some(3), Some(4), Some(1800))
        );

        let mut new = b"d11:external ip4:\x05\x06\x07\x08".to_vec();
        new.extend_from_slice(b"8:intervali60e12:min intervali30e5:peers6:\x7f\0\0\x01\x1a\xe1");
        new.extend_from_slice(b"6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe2");
        new.extend_from_slice(b"10:tracker id3:abc15:warning message5:slow!e\n");
        let answer = read(&new).unwrap();
        assert_eq!(answer.peers, [v4, v6]);
        assert_eq!(answer.external_ip, Some(Ipv4Addr::new(5, 6, 7, 8).into()));
        assert_eq!((answer.min_interval, answer.seeds), (Some(30), None));
        assert_eq!(answer.tracker_id.as_deref(), Some(&b"abc"[..]));
        assert_eq!(answer.warning.as_deref(), Some("slow!"));
    }

    #[test]
    fn what_is_no_answer_says_what_it_is() {
        let refused = read(b"d14:failure reason11:not\x1b[2J heree");
        assert_eq!(
            refused,
            Err(AnswerError::Refused("not\u{fffd}[2J her".into()))
        );
        for body in [&b""[..], b"<html>", b"i3e", b"d5:peers", b"le"] {
            assert_eq!(read(body), Err(AnswerError::NotADictionary));
        }
        // Numbers that none can be are as if they were not there.
        let odd = b"d8:completei-1e8:intervali99999999999e5:peersi3e6:peers65:aaaaae";
        assert_eq!(read(odd), Ok(Answer::default()));
        let deep = [&b"d5:peers"[..], &[b'l'; 50], &[b'e'; 51]].concat();
        assert_eq!(read(&deep), Err(AnswerError::NotADictionary));
    }

    #[test]
    fn an_answer_is_bounded_whatever_it_holds() {
        let config = TrackerConfig {
            max_answer_peers: 10,
            max_answer: 4_000,
            max_text: 5,
            ..TrackerConfig::default()
        };
        let six = [1, 2, 3, 4, 0, 5].repeat(100);
        let many = [&b"d5:peers600:"[..], &six, b"e"].concat();
        assert_eq!(decode(&many, &config).unwrap().peers.len(), 10);
        let one = "d2:ip7:1.2.3.44:porti1ee";
        let some = format!("d5:peersl{}ee", one.repeat(50));
        assert_eq!(decode(some.as_bytes(), &config).unwrap().peers.len(), 10);
        let parts = format!("d1:xl{}ee", "le".repeat(500));
        assert_eq!(
            decode(parts.as_bytes(), &config),
            Err(AnswerError::NotADictionary)
        );
        let million = [&b"d5:peers6000000:"[..], &[1; 6_000_000], b"e"].concat();
        assert_eq!(decode(&million, &config), Err(AnswerError::TooLong));
        let words = b"d10:tracker id6:abcdef15:warning message6:abcdefe";
        let answer = decode(words, &config).unwrap();
        assert_eq!(
            (answer.tracker_id, answer.warning.as_deref()),
            (None, Some("abcde"))
        );
        let reason = decode(b"d14:failure reason6:abcdefe", &config).unwrap_err();
        assert_eq!(reason.to_string(), "abcde");
    }

    #[test]
    fn a_scrape_tells_of_the_torrent_asked_for() {
        let config = TrackerConfig::default();
        let hash = Id20([b'a'; 20]);
        let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e\
                     10:incompletei10eeee";
        let counts = Counts {
            seeds: Some(5),
            leechers: Some(10),
        };
        assert_eq!(decode_scrape(body, hash, &config), Ok(counts));
        let other = decode_scrape(body, Id20([b'b'; 20]), &config);
        assert_eq!(other, Err(AnswerError::NotThere));
        assert_eq!(
            decode_scrape(b"de", hash, &config),
            Err(AnswerError::NotThere)
        );
        let refused = decode_scrape(b"d14:failure reason2:noe", hash, &config);
        assert_eq!(refused, Err(AnswerError::Refused("no".into())));
    }

    quickcheck! {
        fn an_answer_written_is_read_back(
            interval: u32, seeds: u32, v4: Vec<(u32, u16)>, v6: Vec<(u64, u16)>, old: bool
        ) -> bool {
            let four = v4.iter().map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(*ip).into(), *port));
            let six = v6.iter().map(|(ip, port)| {
                SocketAddr::new(Ipv6Addr::from(u128::from(*ip) << 64 | 1).into(), *port)
            });
            let mut body = Vec::new();
            let mut writer = Writer::new(&mut body);
            writer.dict().key(b"complete").int(seeds.into());
            writer.key(b"interval").int(interval.into()).key(b"peers");
            if old {
                writer.list();
                for peer in four.clone().chain(six.clone()) {
                    writer.dict().key(b"ip").bytes(peer.ip().to_string().as_bytes());
                    writer.key(b"port").int(peer.port().into()).end();
                }
                writer.end();
            } else {
                let join = |all: &mut dyn Iterator<Item = SocketAddr>| -> Vec<u8> {
                    all.flat_map(|peer| compact::encode(peer).as_bytes().to_vec()).collect()
                };
                writer.bytes(&join(&mut four.clone()));
                writer.key(b"peers6").bytes(&join(&mut six.clone()));
            }
            writer.end();
            let expected = Answer {
                interval: Some(interval),
                seeds: Some(seeds),
                peers: four.chain(six).collect(),
                ..Answer::default()
            };
            read(&body) == Ok(expected)
        }
        fn escaping_is_undone_by_unescaping(bytes: Vec<u8>) -> bool {
            let mut text = String::new();
            escape(&bytes, &mut text);
            let mut back = Vec::new();
            let mut rest = text.as_bytes();
            while let [first, tail @ ..] = rest {
                if *first == b'%' {
                    let digits = core::str::from_utf8(&tail[..2]).unwrap();
                    back.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = &tail[2..];
                } else {
                    back.push(*first);
                    rest = tail;
                }
            }
            back == bytes && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&')
        }
        fn any_bytes_are_an_answer_or_an_error(body: Vec<u8>) -> bool {
            let config = TrackerConfig::default();
            let _ = decode_scrape(&body, Id20([0; 20]), &config);
            read(&body).is_ok_and(|_| body.first() == Some(&b'd')) || read(&body).is_err()
        }
    }
}
