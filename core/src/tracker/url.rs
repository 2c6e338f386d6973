//! Addresses of trackers: what is accepted, and whom one may lead us to.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::ops::Range;

use crate::dht::security::can_refer;

/// How a tracker is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// BEP 3 over TCP.
    Http,
    /// BEP 3 over TLS.
    Https,
    /// BEP 15.
    Udp,
}

impl Scheme {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Http, "http://"),
        (Self::Https, "https://"),
        (Self::Udp, "udp://"),
    ];

    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
            Self::Udp => "udp://",
        }
    }

    const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            // BEP 15 names none.
            Self::Udp => None,
        }
    }
}

/// Why a text is not the address of a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than `tracker.max_url`.
    TooLong,
    /// A byte that no URL has: white space, a control character, or beyond ASCII.
    Character {
        /// Which byte.
        offset: usize,
    },
    /// Neither http, https nor udp.
    Scheme,
    /// A user name or password before the host: secrets that are shown and logged.
    UserInfo,
    /// No host, or none that can be one.
    Host,
    /// No port where one is needed, or not from 1 to 65535.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the URL is too long"),
            Self::Character { offset } => write!(
                f,
                "byte {offset} belongs in no URL: expected visible ASCII, the rest as %XX"
            ),
            Self::Scheme => f.write_str("expected http://, https:// or udp://"),
            Self::UserInfo => f.write_str("expected no user name before the host"),
            Self::Host => f.write_str("expected a host name or address after the scheme"),
            Self::Port => {
                f.write_str("expected a port from 1 to 65535, which udp:// cannot do without")
            }
        }
    }
}

impl core::error::Error for UrlError {}

/// Why a tracker is not contacted at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody can be there: unspecified, multicast or broadcast.
    Nobody,
    /// A service of this machine at a path where no tracker is.
    LoopbackPath,
    /// Somebody farther away wants us to ask somebody near us.
    Redirect,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody can be at its address",
            Self::LoopbackPath => "on this machine, but not at a path that begins /announce",
            Self::Redirect => "redirected from a public to a private address",
        })
    }
}

impl core::error::Error for Refusal {}

/// The address of a tracker, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerUrl {
    text: Arc<str>,
    scheme: Scheme,
    /// Without the brackets of IPv6.
    host: Range<u32>,
    port: u16,
    /// Where path and query begin.
    path: u32,
}

impl TrackerUrl {
    /// Reads an address of at most `max` bytes. A fragment is cut off.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, max: u16) -> Result<Self, UrlError> {
        let text = text.split('#').next().unwrap_or_default();
        if text.len() > usize::from(max) {
            return Err(UrlError::TooLong);
        }
        let strange = text.bytes().position(|byte| !byte.is_ascii_graphic());
        if let Some(offset) = strange {
            return Err(UrlError::Character { offset });
        }
        let (scheme, start) = Scheme::ALL
            .into_iter()
            .find(|(_, prefix)| {
                let head = text.get(..prefix.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            })
            .map(|(scheme, prefix)| (scheme, prefix.len()))
            .ok_or(UrlError::Scheme)?;
        let end = text[start..]
            .find(['/', '?', '\\'])
            .map_or(text.len(), |at| start + at);
        let authority = &text[start..end];
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            Some(port) => Some(port),
            None => scheme.default_port(),
        };
        let host = (start + host.start) as u32..(start + host.end) as u32;
        Ok(Self {
            scheme,
            host,
            port: port.filter(|port| *port != 0).ok_or(UrlError::Port)?,
            path: end as u32,
            text: text.into(),
        })
    }

    /// The whole address. It may hold a secret of its user, as private trackers have it.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How it is spoken to.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[self.host.start as usize..self.host.end as usize]
    }

    /// The address its host is, unless it is a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they come; may be empty.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path as usize..]
    }

    /// Scheme, host and port: what can be shown to anybody.
    #[must_use]
    pub fn origin(&self) -> String {
        let (host, port) = (self.host(), self.port);
        let prefix = self.scheme.prefix();
        if host.contains(':') {
            format!("{prefix}[{host}]:{port}")
        } else {
            format!("{prefix}{host}:{port}")
        }
    }

    /// Where it is scraped: the same address with `scrape` for the `announce` that begins an element
    /// of its path, the last such one (BEP 48). `None` when it cannot be, and for UDP, which needs
    /// no other.
    ///
    /// BEP 48 looks for `announce` anywhere in the path. The convention that it took over wants it
    /// at the beginning of an element: what else has these letters in it is a name by chance.
    #[must_use]
    pub fn scrape(&self) -> Option<String> {
        if self.scheme == Scheme::Udp {
            return None;
        }
        let path = self.path();
        let query = path.find('?').unwrap_or(path.len());
        let element = path[..query].rfind("/announce")? + 1;
        let rest = &path[element + "announce".len()..];
        let head = &self.text[..self.path as usize];
        Some(format!("{head}{}scrape{rest}", &path[..element]))
    }

    /// The address that `location` of a redirect means, seen from here.
    ///
    /// # Errors
    /// As [`TrackerUrl::parse`]; also when it is no http or https.
    pub fn join(&self, location: &str, max: u16) -> Result<Self, UrlError> {
        let location = location.trim_ascii();
        let head = &self.text[..self.path as usize];
        let path = self.path();
        let target = if location.contains("://") {
            location.to_string()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}{rest}", self.scheme.prefix())
        } else if location.starts_with('/') {
            format!("{head}{location}")
        } else {
            let query = path.find('?').unwrap_or(path.len());
            let folder = path[..query].rfind('/').map_or("/", |at| &path[..=at]);
            let kept = if location.starts_with('?') {
                &path[..query]
            } else {
                folder
            };
            format!("{head}{kept}{location}")
        };
        let url = Self::parse(&target, max)?;
        if url.scheme == Scheme::Udp {
            return Err(UrlError::Scheme);
        }
        Ok(url)
    }

    /// Whether the last element of its path begins like that of a tracker.
    fn is_announce(&self) -> bool {
        let path = self.path().split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        last.starts_with("announce") || last.starts_with("scrape")
    }

    /// Whether it may be contacted at `to`, one of the addresses of its host. `redirected_by` is
    /// who sent us there, if anybody did.
    ///
    /// A torrent is written by strangers: without these rules it could make us speak to services
    /// of this machine or network that nobody outside can reach.
    ///
    /// # Errors
    /// Why not.
    pub fn may_contact(&self, redirected_by: Option<IpAddr>, to: IpAddr) -> Result<(), Refusal> {
        let to = to.to_canonical();
        let broadcast = matches!(to, IpAddr::V4(ip) if ip.is_broadcast());
        if to.is_unspecified() || to.is_multicast() || broadcast {
            return Err(Refusal::Nobody);
        }
        if redirected_by.is_some_and(|by| !can_refer(by.to_canonical(), to)) {
            return Err(Refusal::Redirect);
        }
        if to.is_loopback() && !self.is_announce() {
            return Err(Refusal::LoopbackPath);
        }
        Ok(())
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where in `host:port` the host is, and the port where one is given.
fn split_authority(text: &str) -> Result<(Range<usize>, Option<u16>), UrlError> {
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']').ok_or(UrlError::Host)?;
        if inner[..end].parse::<Ipv6Addr>().is_err() {
            return Err(UrlError::Host);
        }
        (1..1 + end, &inner[end + 1..])
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if end == 0 || end > 253 || !text[..end].bytes().all(usable) {
            return Err(UrlError::Host);
        }
        (0..end, &text[end..])
    };
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(UrlError::Host)?;
    // `http://host:/` means the default port.
    if digits.is_empty() {
        return Ok((host, None));
    }
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| digits.parse().ok()).flatten();
    Ok((host, Some(port.ok_or(UrlError::Port)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn url(text: &str) -> Result<TrackerUrl, UrlError> {
        TrackerUrl::parse(text, 200)
    }

    #[test]
    fn parts_are_found() {
        for (text, host, port, path) in [
            ("udp://t.example:6969", "t.example", 6969, ""),
            (
                "UDP://t.example:6969/announce",
                "t.example",
                6969,
                "/announce",
            ),
            ("http://t.example", "t.example", 80, ""),
            ("https://t.example/a?k=1#x", "t.example", 443, "/a?k=1"),
            ("http://[2001:db8::1]:8080/a", "2001:db8::1", 8080, "/a"),
            ("http://10.0.0.1:/announce", "10.0.0.1", 80, "/announce"),
            ("http://t.example?x=y", "t.example", 80, "?x=y"),
        ] {
            let url = url(text).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path));
        }
        let v6 = url("udp://[::1]:7/announce").unwrap();
        assert_eq!(v6.ip(), Some("::1".parse().unwrap()));
        assert_eq!(v6.origin(), "udp://[::1]:7");
        let secret = url("https://t.example/SECRET/announce").unwrap();
        assert_eq!(secret.origin(), "https://t.example:443");
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("ftp://t.example/announce", UrlError::Scheme),
            ("wss://t.example:443", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("udp://t.example/announce", UrlError::Port),
            ("udp://t.example:0", UrlError::Port),
            ("http://t.example:65536/", UrlError::Port),
            ("http://t.example:+1/", UrlError::Port),
            ("http:///announce", UrlError::Host),
            ("http://:80/announce", UrlError::Host),
            ("http://[::1/announce", UrlError::Host),
            ("http://[::1]x/announce", UrlError::Host),
            ("http://a%00b/announce", UrlError::Host),
            ("http://user:word@t.example/", UrlError::UserInfo),
            ("http://t.example/a b", UrlError::Character { offset: 18 }),
            (
                "http://t.example/\r\nX: y",
                UrlError::Character { offset: 17 },
            ),
            ("http://t\u{e9}.example/", UrlError::Character { offset: 8 }),
        ] {
            assert_eq!(url(text), Err(error), "{text}");
            assert!(!error.to_string().contains('\n'));
        }
        let long = format!("http://t.example/{}", "a".repeat(200));
        assert_eq!(url(&long), Err(UrlError::TooLong));
        // A backslash ends the authority for some programs: what follows it is no host for us.
        assert_eq!(
            url("http://t.example\\@10.0.0.1/").unwrap().host(),
            "t.example"
        );
    }

    #[test]
    fn announce_becomes_scrape_where_it_begins_an_element_of_the_path() {
        // The table of the convention. Of a query it says otherwise: BEP 48 looks at the path alone.
        for (announce, scrape) in [
            (
                "http://example.com/announce",
                Some("http://example.com/scrape"),
            ),
            (
                "http://example.com/x/announce",
                Some("http://example.com/x/scrape"),
            ),
            (
                "http://example.com/announce.php",
                Some("http://example.com/scrape.php"),
            ),
            ("http://example.com/a", None),
            (
                "http://example.com/announce?x2%0644",
                Some("http://example.com/scrape?x2%0644"),
            ),
            (
                "http://example.com/announce?x=2/4",
                Some("http://example.com/scrape?x=2/4"),
            ),
            ("http://example.com/x%064announce", None),
            (
                "http://example.com/announce.evil",
                Some("http://example.com/scrape.evil"),
            ),
            (
                "http://example.com/announce/key",
                Some("http://example.com/scrape/key"),
            ),
            (
                "http://example.com/announce/announce.php?u=/announce",
                Some("http://example.com/announce/scrape.php?u=/announce"),
            ),
            ("http://example.com/unannounced", None),
            ("http://example.com/Announce", None),
            ("http://example.com/a?u=/announce", None),
            ("http://example.com", None),
            ("udp://example.com:1/announce", None),
        ] {
            assert_eq!(url(announce).unwrap().scrape().as_deref(), scrape);
        }
    }

    #[test]
    fn a_location_is_seen_from_where_it_was_said() {
        let from = url("http://t.example:8080/x/announce?k=1").unwrap();
        for (location, target) in [
            ("https://o.example/a", Ok("https://o.example/a")),
            ("//o.example/a", Ok("http://o.example/a")),
            ("/a", Ok("http://t.example:8080/a")),
            ("b", Ok("http://t.example:8080/x/b")),
            ("?k=2", Ok("http://t.example:8080/x/announce?k=2")),
            ("udp://o.example:1/announce", Err(UrlError::Scheme)),
            ("ftp://o.example/", Err(UrlError::Scheme)),
        ] {
            let joined = from.join(location, 200);
            assert_eq!(
                joined.as_ref().map(|url| &**url.text()),
                target.as_ref().map(|t| *t)
            );
        }
    }

    #[test]
    fn nobody_far_away_sends_us_to_somebody_near() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let announce = url("http://t.example/announce").unwrap();
        let other = url("http://t.example/admin").unwrap();
        let public = Some(ip("8.8.8.8"));
        for near in [
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "fd00::1",
            "169.254.169.254",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(
                announce.may_contact(public, ip(near)),
                Err(Refusal::Redirect),
                "{near}"
            );
        }
        assert_eq!(announce.may_contact(public, ip("9.9.9.9")), Ok(()));
        assert_eq!(
            other.may_contact(Some(ip("10.0.0.2")), ip("10.0.0.1")),
            Ok(())
        );
        assert_eq!(
            announce.may_contact(Some(ip("10.0.0.2")), ip("::1")),
            Err(Refusal::Redirect)
        );
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(announce.may_contact(None, ip(local)), Ok(()));
            assert_eq!(
                other.may_contact(None, ip(local)),
                Err(Refusal::LoopbackPath)
            );
        }
        for nobody in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert_eq!(announce.may_contact(None, ip(nobody)), Err(Refusal::Nobody));
        }
    }

    quickcheck! {
        fn any_text_is_an_address_or_an_error(text: String, location: String) -> bool {
            let base = url("http://t.example/x/announce?a").unwrap();
            let _ = base.join(&location, 200);
            match url(&text) {
                Ok(url) => TrackerUrl::parse(url.text(), 200).as_ref() == Ok(&url),
                Err(_) => true,
            }
        }
        fn made_of_parts_it_gives_them_back(host: u32, port: u16, path: u8, udp: bool) -> bool {
            let host = format!("h{host}.example");
            let scheme = if udp { "udp" } else { "https" };
            let path = "/p".repeat(usize::from(path % 9));
            let url = url(&format!("{scheme}://{host}:{port}{path}"));
            match url {
                Ok(url) => url.host() == host && url.port() == port && url.path() == path,
                Err(error) => port == 0 && error == UrlError::Port,
            }
        }
    }
}
