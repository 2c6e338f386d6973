//! Words and numbers for people.

use std::time::Duration;

use trackerless_core::event::{CloseReason, Expendable, PeerSource, SourceStatus};
use trackerless_core::io::{IoReason, JobError};

/// A size, as `1.5 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "";
    for next in units {
        value /= 1024.0;
        unit = next;
        if value < 1024.0 {
            break;
        }
    }
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A duration, as `1h 5m` or `12s`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Text of others without what could steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A source of peers, as `--json` names it.
#[must_use]
pub fn source_name(source: PeerSource) -> &'static str {
    match source {
        PeerSource::Manual => "manual",
        PeerSource::Tracker => "tracker",
        PeerSource::Lsd => "lsd",
        PeerSource::Dht => "dht",
        PeerSource::Pex => "pex",
        PeerSource::Incoming => "incoming",
        PeerSource::Resume => "resume",
        _ => "other",
    }
}

/// A tracker for people: how, which host and port, and of its path what cannot be a secret of its
/// user: names that trackers have everywhere, and elements too short to be one.
#[must_use]
pub fn tracker_name(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else {
        // It is none: how it begins says which it is.
        let end = url.find(['/', '?', '#', ':', '@']).unwrap_or(url.len());
        let dots = if end < url.len() { "…" } else { "" };
        let head: String = printable(&url[..end]).chars().take(40).collect();
        return format!("{head}{dots}");
    };
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| start + at);
    let (scheme, authority) = url[..end].split_at(start);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => authority.to_owned(),
    };
    let path = url[end..].split(['?', '#']).next().unwrap_or_default();
    let mut name = format!("{scheme}{host}");
    for element in path.split('/').skip(1) {
        name.push('/');
        name.push_str(if is_plain(element) { element } else { "…" });
    }
    if end + path.len() < url.len() {
        name.push_str("?…");
    }
    printable(&name).chars().take(100).collect()
}

/// Whether an element of a tracker's path says nothing about its user.
fn is_plain(element: &str) -> bool {
    const KNOWN: [&str; 3] = ["announce", "scrape", "tracker"];
    const SHORT: usize = 3;
    let (name, extension) = element.split_once('.').unwrap_or((element, ""));
    let short = extension.len() <= SHORT + 1;
    element.len() <= SHORT || (KNOWN.contains(&name) && short)
}

/// The state of a source, as `--json` names it.
#[must_use]
pub fn status_name(status: SourceStatus) -> &'static str {
    match status {
        SourceStatus::Disabled => "disabled",
        SourceStatus::Working => "working",
        SourceStatus::Idle => "idle",
        SourceStatus::Failed => "failed",
    }
}

/// So many of a thing, as `1 piece` or `2 pieces`.
#[must_use]
pub fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Why a connection ended.
#[must_use]
pub fn close_reason(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Io(io) => match io {
            IoReason::Eof => "closed by the peer",
            IoReason::Reset => "reset by the peer",
            IoReason::Refused => "connection refused",
            IoReason::Unreachable => "unreachable",
            IoReason::TimedOut => "timed out",
            IoReason::NoBuffers => "out of buffers or descriptors",
            IoReason::AddressUnavailable => "address unavailable",
            IoReason::Local => "closed by this host",
            _ => "network error",
        }
        .into(),
        CloseReason::HandshakeTimeout => "no handshake in time".into(),
        CloseReason::Stalled => "took nothing of what it was sent".into(),
        CloseReason::Idle => "silent for too long".into(),
        CloseReason::BadHandshake => "bad handshake".into(),
        CloseReason::SelfConnection => "it is ourselves".into(),
        CloseReason::Duplicate => "connected already".into(),
        CloseReason::Protocol(rule) => format!("protocol: {rule}"),
        CloseReason::Encryption(rule) => format!("encryption: {rule}"),
        CloseReason::Banned => "sent bad data".into(),
        CloseReason::Useless => "nothing to exchange".into(),
        CloseReason::Limit(limit) => format!("limit: {limit}"),
        CloseReason::MadeRoom(why) => match why {
            Expendable::Idle => "made room: nothing was exchanged for a while",
            Expendable::Outranked => "made room: nothing was exchanged, another ranks higher",
            Expendable::LeastUseful => "made room: least was exchanged of late",
            _ => "made room",
        }
        .into(),
        CloseReason::Shutdown => "stopped".into(),
        _ => "closed".into(),
    }
}

/// Why storage failed, and what to try.
#[must_use]
pub fn job_error(error: JobError) -> &'static str {
    match error {
        JobError::NoSpace => "no space left: free some and run the same command again",
        JobError::Permission => "not allowed there: check the permissions of the folder",
        JobError::ReadOnly => "the file system is read-only: choose another folder",
        JobError::InTheWay => {
            "something else is where a file or folder of the content should be (a file, a folder \
             or a symbolic link): move it away, or choose another folder"
        }
        JobError::Changed => {
            "somebody changed, moved or removed a file or folder of the content while it was in \
             use: run the same command again, which looks at everything"
        }
        JobError::Unsupported => {
            "the file system cannot do that, as reserving space: do without --preallocate, or \
             choose another folder"
        }
        JobError::TooManyFiles => {
            "too many open files: raise the limit (ulimit -n) and run the same command again"
        }
        JobError::Missing => "a file is missing or shorter than it was: verify the content",
        JobError::Internal => "a mistake in this program, told above: please report it",
        JobError::Io => "the device reported an error: check the disk",
        _ => "storage failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(u64::MAX), "16 EiB");
        assert_eq!(duration(Duration::from_secs(3_900)), "1h 5m");
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        let hops = [0u16, 1, 2].map(|hops| count(hops, "hop"));
        assert_eq!(hops, ["0 hops", "1 hop", "2 hops"]);
    }

    #[test]
    fn a_tracker_is_named_as_far_as_its_url_is_no_secret() {
        for (url, name) in [
            ("udp://t.example:80", "udp://t.example:80"),
            (
                "http://t.example:8080/announce",
                "http://t.example:8080/announce",
            ),
            (
                "http://t.example/a/announce.php",
                "http://t.example/a/announce.php",
            ),
            (
                "https://t.example/0123abcd/announce?pk=0123",
                "https://t.example/…/announce?…",
            ),
            (
                "https://t.example/announce/0123abcd",
                "https://t.example/announce/…",
            ),
            ("https://t.example/announce.0123abcd", "https://t.example/…"),
            ("https://t.example/announce0123abcd", "https://t.example/…"),
            (
                "http://me:secret@t.example/announce",
                "http://…@t.example/announce",
            ),
            ("http://me:sec@ret@[::1]:80?pk=1", "http://…@[::1]:80?…"),
            ("t.example/0123abcd", "t.example…"),
        ] {
            let told = tracker_name(url);
            assert_eq!(told, name, "{url}");
            assert!(!told.contains("0123") && !told.contains("sec"), "{told}");
        }
    }
}
