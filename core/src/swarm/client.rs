//! The client a peer runs, read from its id (BEP 20).

use alloc::format;
use alloc::string::String;

use crate::id::PeerId;

const NAMES: [(&[u8; 2], &str); 17] = [
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"GT", "anacrolix/torrent"),
    (b"KT", "KTorrent"),
    (b"LT", "libtorrent"),
    (b"PI", "PicoTorrent"),
    (b"TK", "Trackerless"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"UT", "µTorrent"),
    (b"WW", "WebTorrent"),
    (b"lt", "rTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
];

/// Name and version for people; the readable start of the id where the style is unknown.
pub(super) fn name(id: &PeerId) -> String {
    if let [b'-', a, b, v @ .., b'-'] = &id.0[..8]
        && v.iter().all(u8::is_ascii_alphanumeric)
    {
        let known = NAMES.iter().find(|(code, _)| *code == &[*a, *b]);
        let [v0, v1, v2, v3] = [v[0], v[1], v[2], v[3]].map(char::from);
        // Most versions have three parts: a fourth that is zero is none.
        let version = match v3 {
            '0' => format!("{v0}.{v1}.{v2}"),
            _ => format!("{v0}.{v1}.{v2}.{v3}"),
        };
        if let Some((_, name)) = known {
            return format!("{name} {version}");
        }
        if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric() {
            return format!("{}{} {version}", char::from(*a), char::from(*b));
        }
    }
    let readable = id.0.iter().take_while(|byte| byte.is_ascii_graphic());
    readable.take(8).map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_unknown_and_unreadable_ids() {
        let id = |start: &[u8]| {
            let mut id = [0; 20];
            id[..start.len()].copy_from_slice(start);
            PeerId(id)
        };
        assert_eq!(name(&id(b"-LT2110-abc")), "libtorrent 2.1.1");
        assert_eq!(name(&id(b"-TL7130-")), "Tribler 7.1.3");
        assert_eq!(name(&id(b"-XX12A4-")), "XX 1.2.A.4");
        assert_eq!(name(&id(b"M4-3-6--")), "M4-3-6--");
        assert_eq!(name(&id(&[0xff, 1, 2])), "");
        // What others read in our own id is what we say in words.
        let config = crate::Config::default();
        assert_eq!(name(&id(&config.peer_id_prefix)), config.client);
        assert_eq!(name(&id(b"-\x01\x021234-")), "-");
    }
}
