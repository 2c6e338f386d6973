//! Values of options: sizes, durations, addresses, file selections.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use trackerless_core::config::EncryptionMode;

/// Most files a selection names.
const MAX_SELECTED: usize = 1_000_000;
/// Largest file of the demo, bytes: it is to show something, and every peer has a copy on disk.
const MAX_DEMO: u64 = 1 << 30;

/// Reads a size as `1M`, `1.5G`, `64K`, `1MiB` or plain bytes; the letters are powers of 1024.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a size as 500K, 1.5M or 2G, not \"{text}\"");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(expected()),
    };
    let thousandths = thousandths(number).ok_or_else(expected)?;
    let bytes = (u128::from(thousandths) << shift) / 1000;
    u64::try_from(bytes).map_err(|_| expected())
}

/// Reads a size of at most 4 GiB.
///
/// # Errors
/// What was expected.
pub fn size32(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    u32::try_from(bytes).map_err(|_| format!("expected less than 4G, not \"{text}\""))
}

/// Reads the size of the demo's file: 1 byte to 1 GiB.
///
/// # Errors
/// What was expected.
pub fn demo_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if !(1..=MAX_DEMO).contains(&bytes) {
        return Err(format!("expected a size from 1 byte to 1G, not \"{text}\""));
    }
    Ok(bytes)
}

/// Reads a duration as `90s`, `10m`, `1.5h`, `2d` or plain seconds.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration as 90s, 10m or 2h, not \"{text}\"");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let millis = thousandths(number).and_then(|n| n.checked_mul(seconds));
    millis.map(Duration::from_millis).ok_or_else(expected)
}

/// A ratio of upload to download, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(pub u64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a ratio as 1 or 1.5, not \"{text}\"");
        thousandths(text).map(Self).ok_or_else(expected)
    }
}

/// A decimal number times 1000; more digits after the point are cut off.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part = part.get(..part.len().min(3))?;
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(part)
}

/// Reads `IP:PORT`, IPv6 in brackets.
///
/// # Errors
/// What was expected.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let expected = "expected IP:PORT as 192.0.2.1:6881 or [2001:db8::1]:6881";
        match text.parse::<HostPort>() {
            Ok(named) if named.literal().is_none() => {
                format!("{expected}, not \"{text}\": names of hosts are not looked up here")
            }
            _ => format!("{expected}, not \"{text}\""),
        }
    })
}

/// Reads the address of a peer or node, which needs a port to be reached at.
///
/// # Errors
/// What was expected.
pub fn dialable(text: &str) -> Result<SocketAddr, String> {
    let addr = address(text)?;
    if trackerless_core::compact::is_undialable(addr) {
        return Err(format!(
            "expected the address and port of one host, not \"{text}\""
        ));
    }
    Ok(addr)
}

/// A host and a port; the host may be a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The endpoint, when the host is an address.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected HOST:PORT as router.example.org:6881, not \"{text}\"");
        if let Ok(addr) = text.parse::<SocketAddr>() {
            if addr.port() == 0 {
                return Err(expected());
            }
            return Ok(Self {
                host: addr.ip().to_string(),
                port: addr.port(),
            });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port: u16 = port.parse().map_err(|_| expected())?;
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // Digits and dots only would be a mistyped address, not a name.
        let is_name = host.chars().any(|c| c.is_ascii_alphabetic());
        if port == 0 || host.len() > 253 || !is_name || !host.chars().all(name) {
            return Err(expected());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// One or more of [`HostPort`], separated by commas and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPorts(pub Vec<HostPort>);

impl FromStr for HostPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(|part| part.trim().parse());
        parts.collect::<Result<_, _>>().map(Self)
    }
}

/// File indices as `0,2-5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select(pub Vec<u32>);

impl FromStr for Select {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected file numbers as 0,2-5, not \"{text}\"");
        let mut all = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u32>().map_err(|_| expected());
            let (first, last) = (number(first)?, number(last)?);
            let more = (last as usize)
                .checked_sub(first as usize)
                .ok_or_else(expected)?;
            if all.len() + more >= MAX_SELECTED {
                return Err(expected());
            }
            all.extend(first..=last);
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }
}

/// Reads `off`, `allow`, `prefer` or `require`.
///
/// # Errors
/// What was expected.
pub fn encryption(text: &str) -> Result<EncryptionMode, String> {
    match text {
        "off" => Ok(EncryptionMode::Off),
        "allow" => Ok(EncryptionMode::Allow),
        "prefer" => Ok(EncryptionMode::Prefer),
        "require" => Ok(EncryptionMode::Require),
        _ => Err(format!(
            "expected off, allow, prefer or require, not \"{text}\""
        )),
    }
}

/// Reads an info-hash or node id of 40 hexadecimal digits, or 32 of base32.
///
/// # Errors
/// What was expected.
pub fn id20(text: &str) -> Result<trackerless_core::id::Id20, String> {
    let id = match text.len() {
        40 => trackerless_core::id::Id20::from_hex(text),
        32 => base32(text),
        _ => None,
    };
    id.ok_or_else(|| {
        format!("expected 40 hexadecimal digits (or 32 characters of base32), not \"{text}\"")
    })
}

/// What an item of the DHT is found under: a target, or the public key of a mutable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemName {
    /// The hash itself.
    Target(trackerless_core::id::Id20),
    /// A key, which is hashed with a salt.
    Key([u8; 32]),
}

/// The target of an item: 40 hexadecimal digits, or the 64 of a public key.
///
/// # Errors
/// It is neither.
pub fn item_name(text: &str) -> Result<ItemName, String> {
    let target = trackerless_core::id::Id20::from_hex(text).map(ItemName::Target);
    target
        .or_else(|| hex32(text).map(ItemName::Key))
        .ok_or_else(|| {
            format!(
                "expected a target of 40 hexadecimal digits, or a public key of 64, not \"{text}\""
            )
        })
}

/// 32 bytes as 64 hexadecimal digits.
#[must_use]
pub fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(out)
}

/// The value of an item: a text that fits into one (BEP 44).
///
/// # Errors
/// It is too long.
pub fn item_value(text: &str) -> Result<bytes::Bytes, String> {
    let value = trackerless_core::dht::item::bencoded(text.as_bytes());
    // "996:" stands before the longest that fits.
    if value.len() > trackerless_core::dht::item::MAX_VALUE {
        return Err(format!("{} bytes; expected at most 996", text.len()));
    }
    Ok(value)
}

/// The salt of a mutable item (BEP 44).
///
/// # Errors
/// It is too long.
pub fn salt(text: &str) -> Result<bytes::Bytes, String> {
    let most = trackerless_core::dht::item::MAX_SALT;
    if text.len() > most {
        return Err(format!("{} bytes; expected at most {most}", text.len()));
    }
    Ok(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

fn base32(text: &str) -> Option<trackerless_core::id::Id20> {
    let mut out = [0u8; 20];
    let mut bits: u64 = 0;
    let mut at = 0;
    for (index, byte) in text.bytes().enumerate() {
        let value = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u64::from(value);
        // Eight characters are five bytes.
        if index % 8 == 7 {
            out[at..at + 5].copy_from_slice(&bits.to_be_bytes()[3..]);
            at += 5;
            bits = 0;
        }
    }
    Some(trackerless_core::id::Id20(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("1.5k"), Ok(1536));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("700"), Ok(700));
        for wrong in ["", "M", "-1", "1X", "1.2.3", ".5", "99999999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err());
        assert_eq!("1.25".parse(), Ok(Ratio(1250)));
    }

    #[test]
    fn selections() {
        assert_eq!("0,2-5".parse(), Ok(Select(vec![0, 2, 3, 4, 5])));
        assert_eq!("5, 5,1".parse(), Ok(Select(vec![1, 5])));
        for wrong in ["", "a", "5-2", "1-", "0-4294967295"] {
            assert!(wrong.parse::<Select>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        let nodes: HostPorts = "router.bittorrent.com:6881, 127.0.0.1:8080,[::1]:9"
            .parse()
            .unwrap();
        let shown: Vec<String> = nodes.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["router.bittorrent.com:6881", "127.0.0.1:8080", "[::1]:9"]
        );
        assert_eq!(nodes.0[0].literal(), None);
        assert_eq!(nodes.0[2].literal(), Some("[::1]:9".parse().unwrap()));
        for wrong in [
            "",
            "host",
            "host:0",
            "host:99999",
            "1.2.3:4",
            "a b:1",
            "::1:9",
            "h:1,",
        ] {
            assert!(wrong.parse::<HostPorts>().is_err(), "{wrong}");
        }
        // Where a name is not looked up, it is said that it is not.
        let named = dialable("router.bittorrent.com:6881").unwrap_err();
        assert!(
            named
                .ends_with("\"router.bittorrent.com:6881\": names of hosts are not looked up here")
        );
        let wrong = dialable("1.2.3:4").unwrap_err();
        assert!(wrong.ends_with("not \"1.2.3:4\""), "{wrong}");
        assert!(dialable("0.0.0.0:1").is_err() && dialable("127.0.0.1:0").is_err());
    }

    #[test]
    fn ids_in_both_spellings() {
        let hex = "d984f67af9917b214cd8b6048ab5624c7df6a07a";
        assert_eq!(id20(hex).unwrap().to_string(), hex);
        assert_eq!(
            id20("3GCPM6XZSF5SCTGYWYCIVNLCJR67NID2")
                .unwrap()
                .to_string(),
            hex
        );
        assert!(id20("zz").is_err() && id20(&"g".repeat(40)).is_err());
    }
}
