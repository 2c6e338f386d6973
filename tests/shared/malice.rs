use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

include!("running.rs");

const BLOCK: usize = 16 << 10;
/// The last piece is a short one, and bitfields have spare bits.
const SIZE: usize = 64 * BLOCK + 1_000;
/// Bytes of a bitfield.
const FIELD: usize = 9;
/// Nobody is found but who is named.
const ALONE: [&str; 5] = ["--no-dht", "--no-lsd", "--no-trackers", "--listen", "127.0.0.1:0"];
/// Kilobytes a download of this size may come to, whoever its peers are: a few times what it
/// needs, and a small part of what they would have it take.
const MAX_RESIDENT: u64 = 96 << 10;

/// What every peer knows of the torrent.
struct Torrent {
    hash: [u8; 20],
    content: Vec<u8>,
    /// Its metadata.
    info: Vec<u8>,
}

impl Torrent {
    fn make(folder: &Path) -> Arc<Self> {
        let (content, _) = torrent_of(folder, SIZE);
        let file = fs::read(folder.join("a.torrent")).expect("it was made");
        let parsed = trackerless_core::metainfo::Torrent::parse(file.into()).expect("it is right");
        Arc::new(Self {
            hash: parsed.info.hashes.v1().expect("a torrent of that version"),
            content,
            info: parsed.info.raw.to_vec(),
        })
    }

    fn magnet(&self) -> String {
        format!("magnet:?xt=urn:btih:{}", trackerless_core::id::hex(&self.hash))
    }
}

/// A connection to the client under test, handshakes exchanged where that is not the point.
struct Peer {
    stream: TcpStream,
    torrent: Arc<Torrent>,
}

impl Peer {
    fn say(&mut self, number: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len() + 1).expect("it is short");
        let head = [&length.to_be_bytes()[..], &[number]].concat();
        self.stream.write_all(&[&head, payload].concat())
    }

    fn extended(&mut self, number: u8, text: &str) -> io::Result<()> {
        self.say(20, &[&[number], text.as_bytes()].concat())
    }

    /// The next message: its number and payload; what keeps the connection alive is passed over.
    fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut message)?;
            if let Some((number, payload)) = message.split_first() {
                return Ok((*number, payload.to_vec()));
            }
        }
    }

    /// Reads and drops all that comes until the other side closes.
    fn listen(&mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    fn handshake(&mut self, reserved: [u8; 8], hash: [u8; 20], id: [u8; 20]) -> io::Result<()> {
        let head = [b"\x13BitTorrent protocol", &reserved[..]].concat();
        self.stream.write_all(&[&head[..], &hash, &id].concat())?;
        self.stream.read_exact(&mut [0; 68])
    }

    /// Says that it has everything and will serve; then calls `serve` with each request.
    fn pretend(
        &mut self,
        mut serve: impl FnMut(&mut Self, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.say(14, &[])?;
        self.say(1, &[])?;
        loop {
            if let (6, request) = self.hear()? {
                serve(self, &request)?;
            }
        }
    }
}

/// What a peer does to the one that connected to it. It ends with an error where the other side
/// closes first.
type Act = fn(&mut Peer) -> io::Result<()>;

/// A peer that misbehaves.
struct Case {
    name: &'static str,
    /// Reserved bytes of its handshake; without them it makes none.
    reserved: Option<[u8; 8]>,
    act: Act,
    /// Why its connection ends; `None` where it is not for us to end it.
    reason: Option<&'static str>,
}

const FAST: u8 = 4;
const EXTENDED: u8 = 0x10;
const BOTH: Option<[u8; 8]> = Some([0, 0, 0, 0, 0, EXTENDED, 0, FAST]);
const PLAIN: Option<[u8; 8]> = Some([0; 8]);

const fn case(
    name: &'static str,
    reserved: Option<[u8; 8]>,
    reason: Option<&'static str>,
    act: Act,
) -> Case {
    Case {
        name,
        reserved,
        act,
        reason,
    }
}

/// Those that a download from a torrent file meets.
const CASES: &[Case] = &[
    case("no BitTorrent", None, Some("bad handshake"), |peer| {
        peer.stream.write_all(&[b'H'; 200])?;
        peer.listen()
    }),
    case("another torrent", None, Some("bad handshake"), |peer| {
        let other = peer.torrent.hash.map(|byte| !byte);
        peer.handshake([0; 8], other, *b"-XX0001-another-torr")?;
        peer.listen()
    }),
    case("leaves before the handshake", None, Some("by the peer"), |_| Ok(())),
    case("leaves after it", PLAIN, Some("by the peer"), |_| Ok(())),
    case("a frame of 4 GiB", PLAIN, Some("frame too long"), |peer| {
        peer.stream.write_all(&[0xff; 4])?;
        peer.listen()
    }),
    case("a frame of 1 GiB in small parts", PLAIN, Some("frame too long"), |peer| {
        peer.stream.write_all(&[0x40, 0, 0, 0, 9])?;
        peer.listen()
    }),
    case("2^32 pieces", PLAIN, Some("bitfield longer"), |peer| {
        peer.say(5, &[0xff; 600_000])?;
        peer.listen()
    }),
    case("a bitfield with spare bits", PLAIN, Some("bitfield of wrong size"), |peer| {
        peer.say(5, &[0xff; FIELD])?;
        peer.listen()
    }),
    case("changes its bitfield", PLAIN, Some("bitfield without pieces said before"), |peer| {
        peer.say(5, &[0x80; FIELD])?;
        peer.say(5, &[0; FIELD])?;
        peer.listen()
    }),
    case("has everything twice", BOTH, Some("bitfield without pieces said before"), |peer| {
        peer.say(14, &[])?;
        peer.say(15, &[])?;
        peer.listen()
    }),
    case("has no such piece", PLAIN, Some("have of no piece"), |peer| {
        peer.say(4, &[0xff; 4])?;
        peer.listen()
    }),
    case("a message of wrong length", PLAIN, Some("wrong length of message"), |peer| {
        peer.say(0, b"choke")?;
        peer.listen()
    }),
    case("a fast message, not negotiated", PLAIN, Some("fast extension"), |peer| {
        peer.say(14, &[])?;
        peer.listen()
    }),
    case("an extension, not negotiated", PLAIN, Some("extension protocol"), |peer| {
        peer.extended(0, "de")?;
        peer.listen()
    }),
    case("no bencode", BOTH, Some("malformed extension handshake"), |peer| {
        peer.extended(0, "hello")?;
        peer.listen()
    }),
    case("lists in lists", BOTH, Some("extension handshake"), |peer| {
        peer.extended(0, &"l".repeat(100_000))?;
        peer.listen()
    }),
    case("asks for more than a piece", PLAIN, Some("outside of a piece"), |peer| {
        let past = [[0; 4], [0; 4], [0, 1, 0, 0]].concat();
        peer.say(2, &[])?;
        peer.say(6, &past)?;
        peer.listen()
    }),
    case("asks for 2 GiB", PLAIN, Some("block too long"), |peer| {
        peer.say(6, &[0x7f; 12])?;
        peer.listen()
    }),
    case("asks while it is choked", PLAIN, Some("requests while choked"), |peer| {
        // Until nobody listens any more.
        loop {
            peer.say(6, &[[0; 4], [0; 4], [0, 0, 0x40, 0]].concat())?;
        }
    }),
    case("blocks that nobody asked for", PLAIN, Some("nobody asked for"), |peer| loop {
        peer.say(7, &[0; 8 + BLOCK])?;
    }),
    case("a block of a megabyte", PLAIN, Some("block too long"), |peer| {
        peer.say(7, &vec![0; 1_000_000])?;
        peer.listen()
    }),
    case("no exchange of peers", BOTH, Some("peer exchange"), |peer| {
        peer.extended(0, "d1:md6:ut_pexi1eee")?;
        peer.extended(PEX, "hello")?;
        peer.listen()
    }),
    case("serves noise", BOTH, Some("sent bad data"), |peer| {
        peer.pretend(|peer, request| {
            let noise = [&request[..8], &[0x55; BLOCK]].concat();
            let length = u32::from_be_bytes(request[8..12].try_into().expect("four bytes"));
            peer.say(7, &noise[..8 + length as usize])
        })
    }),
    // What follows is no fault that could be told from a slow or strange client's; it must only
    // hold up nobody.
    case("says nothing at all", None, None, Peer::listen),
    case("changes its mind", BOTH, None, |peer| {
        for _ in 0..20_000 {
            for number in [2, 1, 3, 0] {
                peer.say(number, &[])?;
            }
        }
        peer.listen()
    }),
    case("takes back what nobody asked for", BOTH, None, |peer| {
        for piece in 0..60u32 {
            let block = [piece.to_be_bytes(), [0; 4], [0, 0, 0x40, 0]].concat();
            peer.say(8, &block)?;
            peer.say(16, &block)?;
            peer.say(13, &piece.to_be_bytes())?;
            peer.say(17, &piece.to_be_bytes())?;
        }
        peer.listen()
    }),
    case("keeps alive and nothing else", PLAIN, None, |peer| {
        for _ in 0..200_000 {
            peer.stream.write_all(&[0; 4])?;
        }
        peer.listen()
    }),
    case("serves nothing", BOTH, None, |peer| peer.pretend(|_, _| Ok(()))),
    case("serves a byte at a time", BOTH, None, |peer| {
        peer.pretend(|peer, request| {
            let length = u32::from_be_bytes(request[8..12].try_into().expect("four bytes"));
            let head = (length + 9).to_be_bytes();
            peer.stream.write_all(&[&head[..], &[7], &request[..8]].concat())?;
            loop {
                peer.stream.write_all(&[0])?;
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    }),
];

/// Those that a download from a magnet link meets besides.
const METADATA_CASES: &[Case] = &[
    case("a gigabyte of metadata", BOTH, None, |peer| {
        peer.extended(0, "d1:md11:ut_metadatai1ee13:metadata_sizei1073741824ee")?;
        peer.listen()
    }),
    case("less than no metadata", BOTH, None, |peer| {
        peer.extended(0, "d1:md11:ut_metadatai1ee13:metadata_sizei-1ee")?;
        peer.listen()
    }),
    case("two sizes", BOTH, None, |peer| {
        for size in (1..200).chain([1 << 24]) {
            let hello = format!("d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee");
            peer.extended(0, &hello)?;
        }
        peer.listen()
    }),
    case("metadata that is none", BOTH, Some("sent bad data"), |peer| {
        let size = peer.torrent.info.len();
        let hello = format!("d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee");
        peer.extended(0, &hello)?;
        loop {
            let (number, payload) = peer.hear()?;
            if number == 20 && payload[0] == 1 {
                let part = format!("d8:msg_typei1e5:piecei0e10:total_sizei{size}ee");
                let part = [&part.into_bytes()[..], &vec![b'x'; size]].concat();
                peer.say(20, &[&[METADATA], &part[..]].concat())?;
            }
        }
    }),
    case("refuses all metadata", BOTH, None, |peer| {
        let size = peer.torrent.info.len();
        peer.extended(0, &format!("d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee"))?;
        loop {
            if let (20, payload) = peer.hear()?
                && payload[0] == 1
            {
                peer.extended(METADATA, "d8:msg_typei2e5:piecei0ee")?;
            }
        }
    }),
    case("metadata nobody asked for", BOTH, None, |peer| {
        for piece in 0..2_000 {
            let part = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei99999999ee");
            let part = [&part.into_bytes()[..], &[0; 1_000]].concat();
            peer.say(20, &[&[METADATA], &part[..]].concat())?;
        }
        peer.listen()
    }),
    case("no metadata message", BOTH, Some("malformed metadata message"), |peer| {
        peer.extended(METADATA, "hello")?;
        peer.listen()
    }),
    case("a bitfield of the largest torrent", PLAIN, None, |peer| {
        peer.say(5, &[0xff; 500_000])?;
        peer.listen()
    }),
    case("has all pieces one by one", PLAIN, None, |peer| {
        for piece in 0..500_000u32 {
            peer.say(4, &piece.to_be_bytes())?;
        }
        peer.listen()
    }),
];
/// Our number for `ut_metadata`, which others send to.
const METADATA: u8 = 2;
/// Our number for `ut_pex`.
const PEX: u8 = 1;

/// Starts a peer for each case, on an address of its own, since whoever lies is avoided by address.
fn start(cases: &'static [Case], torrent: &Arc<Torrent>) -> Vec<String> {
    let start = |(index, case): (usize, &'static Case)| {
        let ip = Ipv4Addr::new(127, 66, 0, u8::try_from(index + 1).expect("there are few"));
        let listener = TcpListener::bind((ip, 0)).expect("loopback has many addresses");
        let address = listener.local_addr().expect("it is bound").to_string();
        let torrent = Arc::clone(torrent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, torrent) = (stream.expect("a connection"), Arc::clone(&torrent));
                let mut peer = Peer { stream, torrent };
                let (hash, mut id) = (peer.torrent.hash, *b"-XX0001-no-good-00__");
                id[19] = index as u8;
                let acted = match case.reserved {
                    Some(reserved) => peer.handshake(reserved, hash, id),
                    None => Ok(()),
                };
                // That the other side closes is what most of them are for.
                let _ = acted.and_then(|()| (case.act)(&mut peer));
            }
        });
        address
    };
    cases.iter().enumerate().map(start).collect()
}

/// Kilobytes that were resident at most so far.
fn resident(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.expect("Linux tells").parse().expect("a number")
}

/// A download of `source` from the peers of `cases`, of whom each is left or leaves for its reason,
/// and then from an honest one that connects to it.
fn survives(folder: &Path, source: &str, cases: &'static [Case], torrent: &Arc<Torrent>) {
    let addresses = start(cases, torrent);
    let mut line = vec!["download", source, "-o", "out", "--state-dir", "s"];
    line.extend(ALONE);
    for address in &addresses {
        line.extend(["--peer", address]);
    }
    let download = Running::start(folder, &line);
    let listening = download.address();
    let mut waited: Vec<_> = addresses
        .iter()
        .zip(cases)
        .filter_map(|(address, case)| Some((address, case.name, case.reason?)))
        .collect();
    let mut blamed = false;
    let until = Instant::now() + PATIENCE;
    while !waited.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let line = download.lines.recv_timeout(left);
        let line = line.unwrap_or_else(|error| panic!("{error}; still waited for: {waited:?}"));
        let event = event(&line);
        blamed |= event["event"] == "piece_failed";
        if event["event"] == "peer_closed" {
            waited.retain(|(address, name, reason)| {
                if event["address"] != address.as_str() {
                    return true;
                }
                let told = event["reason"].as_str().expect("a text");
                assert!(told.contains(reason), "{name}: {told:?}, not {reason:?}");
                false
            });
        }
    }
    let noisy = cases.iter().any(|case| case.name == "serves noise");
    assert_eq!(blamed, noisy);
    let most = resident(&download.child);
    assert!(most < MAX_RESIDENT, "{most} kB are resident");
    let (_seeder, _) = seeder(folder, "127.0.0.1:0", "s1", &["--peer", &listening]);
    let complete = download.until("complete", |_| true);
    let most = complete["downloaded"].as_u64().expect("a number");
    // What liars serve is fetched again, and who floods is left after 256 blocks.
    let bound = (3 * SIZE + 256 * BLOCK) as u64;
    assert!(most < bound, "{most} bytes were fetched, not less than {bound}");
    assert_eq!(download.end().0, Some(0));
    assert!(fs::read(folder.join("out/file")).expect("it is there") == torrent.content);
}

#[test]
fn peers_that_break_the_rules_are_left_and_hold_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let torrent = Torrent::make(folder.path());
    survives(folder.path(), "a.torrent", CASES, &torrent);
}

#[test]
fn peers_that_lie_about_metadata_keep_nobody_from_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let torrent = Torrent::make(folder.path());
    survives(folder.path(), &torrent.magnet(), METADATA_CASES, &torrent);
}

#[test]
fn a_seeder_serves_beside_those_who_only_take_its_connections() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let torrent = Torrent::make(folder.path());
    let (seeder, address) = seeder(folder.path(), "127.0.0.1:0", "s1", &[]);
    // Half of them say who they are, and then nothing.
    let hold = |_| TcpStream::connect(&address).expect("somebody listens");
    let mut held: Vec<TcpStream> = (0..120).map(hold).collect();
    for (index, stream) in held.iter_mut().enumerate().skip(60) {
        let id = format!("-XX0001-holder{index:06}");
        let hello = [b"\x13BitTorrent protocol", &[0; 8][..], &torrent.hash, id.as_bytes()];
        // It may have been turned away by now.
        let _ = stream.write_all(&hello.concat());
    }
    let line = ["download", "a.torrent", "-o", "out", "--state-dir", "s"];
    let options = ["--peer", &address];
    let download = Running::start(folder.path(), &[&line[..], &options, &ALONE].concat());
    download.until("complete", |_| true);
    assert_eq!(download.end().0, Some(0));
    let most = resident(&seeder.child);
    assert!(most < MAX_RESIDENT, "{most} kB are resident");
    drop(held);
}
