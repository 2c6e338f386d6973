#[cfg(test)]
mod tests;

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use super::Ignored;
use crate::id::{InfoHashes, decode_hex, write_hex};

/// Largest file index a link may select; larger ones are ignored.
const MAX_SELECTED: u32 = 999_999;
/// What `so` should hold.
const SELECTION: &str = "file numbers up to 999999, as 0,2,4-6";
/// Longest link accepted, bytes.
const MAX_LENGTH: usize = 1 << 20;

/// A magnet link (BEP 9, 53), or a bare info-hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    /// The torrent's hashes.
    pub hashes: InfoHashes,
    /// `dn`: a name to show until the metadata is there.
    pub name: Option<String>,
    /// `tr`: tracker URLs, each a tier of its own.
    pub trackers: Vec<Vec<String>>,
    /// `ws`: web seeds.
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers, host and port.
    pub peers: Vec<(String, u16)>,
    /// `dht`: DHT nodes, host and port.
    pub nodes: Vec<(String, u16)>,
    /// `so`: indices of the files wanted, ascending; empty means all.
    pub select: Vec<u32>,
    /// Parts that cannot be read.
    pub ignored: Vec<Ignored>,
}

/// Why a magnet link is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MagnetError {
    /// Neither `magnet:?` nor a bare info-hash.
    NotAMagnet,
    /// The link is longer than a mebibyte.
    TooLong,
    /// A `%` that two hexadecimal digits do not follow.
    InvalidEscape {
        /// The byte of the link.
        offset: usize,
    },
    /// `xt` holds a hash that is none.
    InvalidInfoHash {
        /// What is there.
        found: String,
        /// The byte of the link.
        offset: usize,
    },
    /// No `xt=urn:btih:` or `xt=urn:btmh:`.
    MissingInfoHash,
}

impl fmt::Display for MagnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMagnet => f.write_str(
                "not a magnet link: expected magnet:?xt=urn:btih:… or an info-hash of 40 \
                 hexadecimal or 32 base32 digits",
            ),
            Self::TooLong => write!(f, "magnet link: longer than {MAX_LENGTH} bytes"),
            Self::InvalidEscape { offset } => write!(
                f,
                "magnet link: expected two hexadecimal digits after % (byte {offset})"
            ),
            Self::InvalidInfoHash { found, offset } => write!(
                f,
                "magnet link: xt: found {found:?}, expected an info-hash: urn:btih: with 40 \
                 hexadecimal or 32 base32 digits, or urn:btmh:1220 with 64 hexadecimal digits \
                 (byte {offset})"
            ),
            Self::MissingInfoHash => {
                f.write_str("magnet link: found no info-hash, expected xt=urn:btih:…")
            }
        }
    }
}

impl core::error::Error for MagnetError {}

impl Magnet {
    /// A link that holds nothing but the hashes.
    #[must_use]
    pub fn new(hashes: InfoHashes) -> Self {
        Self {
            hashes,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            nodes: Vec::new(),
            select: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Reads a magnet link, or a bare info-hash: 40 or 64 hexadecimal digits, or 32 of base32.
    ///
    /// Keys that are unknown are passed over; what is wrong beside a hash that is right is in
    /// [`Magnet::ignored`].
    ///
    /// # Errors
    /// What is wrong with the scheme, or with the hashes if none is right.
    pub fn parse(text: &str) -> Result<Self, MagnetError> {
        if text.len() > MAX_LENGTH {
            return Err(MagnetError::TooLong);
        }
        if let Some(hashes) = bare_hash(text) {
            return Ok(Self::new(hashes));
        }
        let start = query_start(text).ok_or(MagnetError::NotAMagnet)?;
        let mut reader = Reader::default();
        let mut offset = start;
        for pair in text[start..].split('&') {
            if let Some((key, value)) = pair.split_once('=') {
                reader.pair(&key.to_ascii_lowercase(), value, offset + key.len() + 1);
            }
            offset += pair.len() + 1;
        }
        reader.finish()
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        Self::parse(text)
    }
}

fn bare_hash(text: &str) -> Option<InfoHashes> {
    if let Some(v1) = v1_hash(text) {
        return InfoHashes::new(Some(v1), None);
    }
    let mut v2 = [0; 32];
    let digits = text
        .strip_prefix("1220")
        .filter(|d| d.len() == 64)
        .unwrap_or(text);
    decode_hex(digits, &mut v2).then_some(())?;
    InfoHashes::new(None, Some(v2))
}

/// Where the first key begins.
fn query_start(text: &str) -> Option<usize> {
    let scheme = text.get(..7)?;
    if !scheme.eq_ignore_ascii_case("magnet:") {
        return None;
    }
    let query = text[7..].find('?')?;
    // `magnet:///?` has an empty authority and path.
    text[7..7 + query]
        .bytes()
        .all(|byte| byte == b'/')
        .then_some(7 + query + 1)
}

#[derive(Default)]
struct Reader {
    v1: Option<[u8; 20]>,
    v2: Option<[u8; 32]>,
    name: Option<String>,
    trackers: Vec<Vec<String>>,
    known: BTreeSet<String>,
    web_seeds: Vec<String>,
    peers: Vec<(String, u16)>,
    nodes: Vec<(String, u16)>,
    select: BTreeSet<u32>,
    ignored: Vec<Ignored>,
    /// What is wrong with the first hash that is none.
    wrong: Option<MagnetError>,
}

impl Reader {
    fn pair(&mut self, key: &str, value: &str, offset: usize) {
        if key == "xt" || key.strip_prefix("xt.").is_some_and(is_number) {
            if let Err(error) = self.hash(value, offset) {
                let expected = "urn:btih: or urn:btmh: and an info-hash";
                Ignored::text(key, value, expected).tell(&mut self.ignored);
                self.wrong.get_or_insert(error);
            }
            return;
        }
        let text = || unescape(value).unwrap_or_else(|_| value.to_string());
        match key {
            "dn" => {
                self.name.get_or_insert_with(|| {
                    let spaced = value.replace('+', " ");
                    unescape(&spaced).unwrap_or(spaced)
                });
            }
            "ws" => {
                let url = text();
                match is_web_seed(&url) {
                    true => self.web_seeds.push(url),
                    false => self.ignore(key, &url, "an http:// or https:// URL"),
                }
            }
            "x.pe" | "dht" => {
                let text = text();
                match (host_port(&text), key) {
                    (Some(peer), "x.pe") => self.peers.push(peer),
                    (Some(node), _) => self.nodes.push(node),
                    (None, _) => self.ignore(key, &text, "HOST:PORT, the port from 1 to 65535"),
                }
            }
            "so" => {
                let text = text();
                for item in text.split(',').filter(|item| !item.is_empty()) {
                    match select(item) {
                        Some(files) => self.select.extend(files),
                        None => self.ignore(key, item, SELECTION),
                    }
                }
            }
            _ if key == "tr" || key.strip_prefix("tr.").is_some_and(is_number) => {
                let url = text();
                if !url.is_empty() && self.known.insert(url.clone()) {
                    self.trackers.push(Vec::from([url]));
                }
            }
            _ => {}
        }
    }

    fn ignore(&mut self, key: &str, found: &str, expected: &str) {
        Ignored::text(key, found, expected).tell(&mut self.ignored);
    }

    fn hash(&mut self, value: &str, offset: usize) -> Result<(), MagnetError> {
        let text = unescape(value).map_err(|at| MagnetError::InvalidEscape {
            offset: offset + at,
        })?;
        let invalid = || MagnetError::InvalidInfoHash {
            found: text.chars().take(100).collect(),
            offset,
        };
        if let Some(digits) = strip_urn(&text, "urn:btih:") {
            let hash = v1_hash(digits).ok_or_else(invalid)?;
            self.v1.get_or_insert(hash);
        } else if let Some(digits) = strip_urn(&text, "urn:btmh:") {
            let mut hash = [0; 32];
            // 12 20: the multihash prefix of SHA-256 with 32 bytes.
            let digits = digits.strip_prefix("1220").ok_or_else(invalid)?;
            decode_hex(digits, &mut hash)
                .then_some(())
                .ok_or_else(invalid)?;
            self.v2.get_or_insert(hash);
        }
        Ok(())
    }

    fn finish(self) -> Result<Magnet, MagnetError> {
        let wrong = self.wrong.unwrap_or(MagnetError::MissingInfoHash);
        Ok(Magnet {
            hashes: InfoHashes::new(self.v1, self.v2).ok_or(wrong)?,
            name: self.name.filter(|name| !name.is_empty()),
            trackers: self.trackers,
            web_seeds: self.web_seeds,
            peers: self.peers,
            nodes: self.nodes,
            select: self.select.into_iter().collect(),
            ignored: self.ignored,
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn strip_urn<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

fn v1_hash(text: &str) -> Option<[u8; 20]> {
    let mut out = [0; 20];
    (decode_hex(text, &mut out) || decode_base32(text, &mut out)).then_some(out)
}

/// Fills `out` from base32 digits (RFC 4648) of either case; false unless the length fits exactly.
fn decode_base32(text: &str, out: &mut [u8; 20]) -> bool {
    if text.len() != 32 {
        return false;
    }
    let (mut bits, mut count, mut at) = (0u32, 0, 0);
    for byte in text.bytes() {
        let digit = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            number @ b'2'..=b'7' => number - b'2' + 26,
            _ => return false,
        };
        bits = (bits << 5) | u32::from(digit);
        count += 5;
        if count >= 8 {
            count -= 8;
            out[at] = (bits >> count) as u8;
            at += 1;
        }
    }
    true
}

/// Decodes `%XX`; the error is the place of a bad `%`. Bytes that are not UTF-8 are replaced.
fn unescape(text: &str) -> Result<String, usize> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
            let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                return Err(at);
            };
            out.push((high * 16 + low) as u8);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `host:port` or `[v6]:port`, with a host that can be one.
pub(super) fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if !is_number(port) {
        return None;
    }
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')
            .filter(|v6| v6.parse::<core::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| is_host_name(host))?,
    };
    Some((host.to_string(), port))
}

fn is_host_name(host: &str) -> bool {
    let usable = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.len() <= 253 && host.chars().all(usable)
}

/// Whether a web seed can be at `url` (BEP 19).
fn is_web_seed(url: &str) -> bool {
    let rest = |scheme: &str| {
        let head = url.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme)
            .then(|| &url[scheme.len()..])
    };
    let rest = rest("http://").or_else(|| rest("https://"));
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_alphanumeric() || first == '['))
}

/// The indices of `2` or `4-6`.
fn select(item: &str) -> Option<core::ops::RangeInclusive<u32>> {
    let number = |text: &str| {
        let index = is_number(text)
            .then(|| text.parse::<u32>().ok())
            .flatten()?;
        (index <= MAX_SELECTED).then_some(index)
    };
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "magnet:?";
        let mut key = |f: &mut fmt::Formatter<'_>, key: &str| {
            let result = write!(f, "{separator}{key}=");
            separator = "&";
            result
        };
        if let Some(v1) = self.hashes.v1() {
            key(f, "xt")?;
            f.write_str("urn:btih:")?;
            write_hex(f, &v1)?;
        }
        if let Some(v2) = self.hashes.v2() {
            key(f, "xt")?;
            f.write_str("urn:btmh:1220")?;
            write_hex(f, &v2)?;
        }
        if let Some(name) = &self.name {
            key(f, "dn")?;
            escape(f, name)?;
        }
        for url in self.trackers.iter().flatten() {
            key(f, "tr")?;
            escape(f, url)?;
        }
        for url in &self.web_seeds {
            key(f, "ws")?;
            escape(f, url)?;
        }
        for (name, addresses) in [("x.pe", &self.peers), ("dht", &self.nodes)] {
            for (host, port) in addresses {
                key(f, name)?;
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")?;
                } else {
                    escape(f, host)?;
                    write!(f, ":{port}")?;
                }
            }
        }
        if !self.select.is_empty() {
            key(f, "so")?;
            write_ranges(f, &self.select)?;
        }
        Ok(())
    }
}

fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn write_ranges(f: &mut fmt::Formatter<'_>, mut indices: &[u32]) -> fmt::Result {
    let mut separator = "";
    while let Some(&first) = indices.first() {
        let run = indices
            .iter()
            .zip(first..)
            .take_while(|(index, expected)| *index == expected)
            .count();
        let last = indices[run - 1];
        if run > 1 {
            write!(f, "{separator}{first}-{last}")?;
        } else {
            write!(f, "{separator}{first}")?;
        }
        separator = ",";
        indices = &indices[run..];
    }
    Ok(())
}
