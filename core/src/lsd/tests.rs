use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec;

use quickcheck::quickcheck;

use super::*;
use crate::io::Output;

const SOCKET: SocketId = SocketId(7);

struct Host {
    lsd: Lsd,
    now: Instant,
    out: Outbox,
    events: Vec<Event>,
    /// What was sent, when, and to whom.
    sent: Vec<(Instant, SocketAddr, String)>,
}

impl Host {
    fn new(seed: u8, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let now = Instant::from_micros(1_000_000);
        Self {
            lsd: Lsd::new(Arc::new(config), &[seed; 32], now),
            now,
            out: Outbox::new(),
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn ready(seed: u8) -> Self {
        let mut host = Self::new(seed, |_| {});
        host.give(Input::SocketUp(SOCKET, GROUP_V4));
        host.give(Input::Listening(Ports::both(6881)));
        host
    }

    fn give(&mut self, input: Input<'_>) {
        self.lsd
            .handle(self.now, input, &mut self.out, &mut self.events);
        for output in self.out.drain() {
            let Output::Transmit { to, head, .. } = output else {
                panic!("{output:?}");
            };
            let text = String::from_utf8(head.to_vec()).unwrap();
            self.sent.push((self.now, to, text));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.lsd.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick);
        }
        self.now = end;
    }

    fn hears(&mut self, from: &str, text: &str) {
        let from = from.parse().unwrap();
        let payload = text.as_bytes();
        self.give(Input::Datagram { from, payload });
    }

    fn found(&mut self) -> Vec<(Id20, SocketAddr)> {
        let events = core::mem::take(&mut self.events);
        let found = events.into_iter().filter_map(|event| match event {
            Event::Found(hash, addr) => Some((hash, addr)),
            _ => None,
        });
        found.collect()
    }
}

fn id(n: u8) -> Id20 {
    Id20([n; 20])
}

#[test]
fn what_is_sent_is_the_datagram_of_bep_14() {
    let mut host = Host::ready(1);
    host.give(Input::Add(id(0xab)));
    let (_, to, text) = host.sent.pop().unwrap();
    assert_eq!(to.to_string(), "239.192.152.143:6771");
    let cookie = host.lsd.cookie.clone();
    let hash = "ab".repeat(20);
    assert_eq!(
        text,
        format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
             Infohash: {hash}\r\ncookie: {cookie}\r\n\r\n\r\n"
        )
    );
    host.give(Input::SocketUp(SocketId(8), GROUP_V6));
    host.pass(Duration::from_secs(1));
    let (_, to, text) = host.sent.pop().unwrap();
    assert_eq!(to.to_string(), "[ff15::efc0:988f]:6771");
    assert!(text.contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
}

#[test]
fn two_on_one_network_find_each_other_and_nobody_finds_itself() {
    let (mut one, mut two) = (Host::ready(1), Host::ready(2));
    one.give(Input::Add(id(1)));
    two.give(Input::Add(id(1)));
    two.give(Input::Add(id(2)));
    let said = one.sent[0].2.clone();
    two.hears("192.168.1.5:6771", &said);
    let peer = "192.168.1.5:6881".parse().unwrap();
    assert_eq!(two.found(), [(id(1), peer)]);
    one.hears("192.168.1.5:6771", &said);
    assert_eq!(one.found(), []);
    // The scope of a link-local address is where to answer.
    two.hears("[fe80::1%3]:6771", &said);
    assert_eq!(two.found(), [(id(1), "[fe80::1%3]:6881".parse().unwrap())]);
}

#[test]
fn only_neighbours_are_believed() {
    let mut host = Host::ready(1);
    host.give(Input::Add(id(1)));
    let text = encode(GROUP_V4, 99, &[id(1)], "other");
    for (from, believed) in [
        ("10.1.2.3:6771", true),
        ("127.0.0.1:6771", true),
        ("169.254.1.1:6771", true),
        ("[fd00::1]:6771", true),
        ("203.0.113.7:6771", false),
        ("[2001:db8::1]:6771", false),
    ] {
        host.hears(from, &text);
        assert_eq!(host.found().len(), usize::from(believed), "{from}");
    }
}

/// Where IPv6 hosts have global addresses they send from those.
#[test]
fn who_is_in_the_network_that_we_send_from_is_a_neighbour() {
    let mut host = Host::ready(1);
    host.give(Input::Add(id(1)));
    let own = host.sent[0].2.clone();
    let other = encode(GROUP_V6, 99, &[id(1)], "other");
    let believes = |host: &mut Host, from: &str| {
        host.hears(from, &other);
        host.found().len() == 1
    };
    assert!(!believes(&mut host, "[2001:db8:0:1::1]:6771"));
    host.hears("[2001:db8:0:1::9]:6771", &own);
    assert_eq!(host.found(), []);
    assert!(believes(&mut host, "[2001:db8:0:1::1]:6771"));
    assert!(!believes(&mut host, "[2001:db8:0:2::1]:6771"));
    assert!(!believes(&mut host, "203.0.113.7:6771"));
    host.hears("203.0.113.1:6771", &own);
    assert!(believes(&mut host, "203.0.113.7:6771"));
    assert!(!believes(&mut host, "203.0.114.7:6771"));
    // However many are said to be ours, few are remembered: the latest.
    let most = u32::from(host.lsd.config.lsd.max_networks);
    for n in 2..2 + most {
        host.hears(&format!("[2001:db8:0:{n:x}::9]:6771"), &own);
    }
    assert_eq!(host.lsd.ours.len(), most as usize);
    assert!(!believes(&mut host, "[2001:db8:0:1::1]:6771"));
    assert!(believes(&mut host, "[2001:db8:0:2::1]:6771"));
}

#[test]
fn what_is_no_search_is_passed_over() {
    let mut host = Host::ready(1);
    host.give(Input::Add(id(1)));
    let hash = "01".repeat(20);
    let good = format!("BT-SEARCH * HTTP/1.1\r\nPort: 5\r\nInfohash: {hash}\r\n\r\n");
    for text in [
        String::new(),
        "BT-SEARCH".into(),
        good.replace("BT-SEARCH", "GET"),
        good.replace("Port: 5", "Port: 0"),
        good.replace("Port: 5", "Port: 65536"),
        good.replace("Port: 5", "Port: -5"),
        good.replace("Port: 5", "Host: 5"),
        good.replace("01", "0x"),
        good.replace("0101", "01"),
        good.replace("Infohash", "Info hash"),
        // Beyond the headers.
        good.replace("Infohash", "\r\nInfohash"),
        // Longer than one packet.
        good.replace("Port", &format!("X: {}\r\nPort", "x".repeat(1_400))),
    ] {
        host.hears("10.0.0.1:6771", &text);
        assert_eq!(host.found(), [], "{text:?}");
    }
    // Clients differ in case, spaces and line ends.
    let loose = good
        .to_ascii_lowercase()
        .replace("bt-search * http", "BT-SEARCH * HTTP");
    for text in [good.replace("\r\n", "\n"), good.replace(": ", ":"), loose] {
        host.hears("10.0.0.1:6771", &text);
        assert_eq!(host.found().len(), 1, "{text:?}");
    }
    let two = good.replace(
        "\r\n\r\n",
        &format!("\r\nInfohash: {}\r\n\r\n", "02".repeat(20)),
    );
    host.give(Input::Add(id(2)));
    host.hears("10.0.0.1:6771", &two);
    assert_eq!(host.found().len(), 2);
}

#[test]
fn a_torrent_is_announced_every_five_minutes_until_it_is_removed() {
    let mut host = Host::ready(1);
    host.give(Input::Add(id(1)));
    host.give(Input::Add(id(1)));
    assert_eq!(
        host.events,
        [Event::Announced(id(1), Duration::from_secs(300))]
    );
    host.pass(Duration::from_secs(3_600));
    assert_eq!(host.sent.len(), 13);
    host.give(Input::Remove(id(1)));
    host.pass(Duration::from_secs(3_600));
    assert_eq!(host.sent.len(), 13);
    assert_eq!(host.lsd.next_timeout(), None);
}

#[test]
fn nothing_is_said_before_there_is_a_port_and_a_socket() {
    let mut host = Host::new(1, |_| {});
    host.give(Input::Add(id(1)));
    host.give(Input::Listening(Ports::both(1)));
    assert_eq!((host.sent.len(), host.lsd.next_timeout()), (0, None));
    host.give(Input::SocketUp(SOCKET, GROUP_V4));
    assert_eq!(host.sent.len(), 1);
    host.give(Input::Listening(Ports::default()));
    host.pass(Duration::from_secs(900));
    assert_eq!((host.sent.len(), host.lsd.next_timeout()), (1, None));
    host.give(Input::Listening(Ports::both(1)));
    assert_eq!(host.sent.len(), 2);
    host.give(Input::SocketDown(SOCKET));
    host.pass(Duration::from_secs(900));
    assert_eq!((host.sent.len(), host.lsd.next_timeout()), (2, None));
}

/// One datagram a second, whatever there is to say, and everything said within the interval.
#[test]
fn the_network_is_not_flooded_and_no_torrent_waits_longer_than_the_interval() {
    for torrents in [1u16, 250, 2_000] {
        let mut host = Host::ready(1);
        let hash = |n: u16| {
            let mut id = id(0);
            id.0[..2].copy_from_slice(&n.to_be_bytes());
            id
        };
        (0..torrents).for_each(|n| host.give(Input::Add(hash(n))));
        host.pass(Duration::from_secs(1_500));
        let mut last: BTreeMap<String, Instant> = BTreeMap::new();
        let mut before = None;
        for (at, _, text) in &host.sent {
            assert!(text.len() <= 1_400);
            if let Some(before) = before.replace(*at) {
                assert!(*at >= before + Duration::from_secs(1));
            }
            for line in text.lines().filter(|line| line.starts_with("Infohash")) {
                let wait = last
                    .insert(line.into(), *at)
                    .map_or(Duration::ZERO, |last| at.saturating_since(last));
                assert!(wait <= Duration::from_secs(310), "{wait:?} of {torrents}");
            }
        }
        // As many as must be in one datagram, and one where that will do.
        let hashes = |sent: &(_, _, String)| sent.2.matches("Infohash").count();
        let most = host.sent.iter().map(hashes).max();
        assert_eq!(most, Some(usize::from(torrents.div_ceil(300))));
        assert_eq!(last.len(), usize::from(torrents));
    }
}

#[test]
fn an_announce_has_failed_when_it_left_over_no_socket() {
    let mut host = Host::ready(1);
    host.give(Input::SocketUp(SocketId(8), GROUP_V6));
    host.give(Input::Add(id(1)));
    host.events.clear();
    host.give(Input::SendFailed(SOCKET));
    host.give(Input::SendFailed(SOCKET));
    host.give(Input::SendFailed(SocketId(99)));
    assert_eq!(host.events, []);
    host.give(Input::SendFailed(SocketId(8)));
    assert_eq!(host.events, [Event::Failed(id(1))]);
}

quickcheck! {
    fn a_search_is_read_as_it_was_written(port: u16, hashes: Vec<u64>, cookie: u32) -> bool {
        let hashes: Vec<Id20> = hashes
            .into_iter()
            .map(|n| {
                let mut id = Id20([7; 20]);
                id.0[..8].copy_from_slice(&n.to_be_bytes());
                id
            })
            .collect();
        let (port, cookie) = (port.max(1), format!("{cookie:x}"));
        let text = encode(GROUP_V6, port, &hashes, &cookie);
        let read = Search::parse(text.as_bytes()).unwrap();
        (read.port, read.cookie, read.hashes().collect::<Vec<_>>())
            == (port, Some(cookie.as_bytes()), hashes)
    }

    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) -> bool {
        let whole = [&b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n"[..], &bytes].concat();
        [bytes, whole].iter().all(|bytes| {
            Search::parse(bytes).is_none_or(|search| search.hashes().count() <= bytes.len() / 40)
        })
    }

    /// However it is told, with time held still a few ticks bring the next deadline past now.
    fn any_inputs_leave_a_deadline_in_the_future(script: Vec<(u8, u8)>) -> bool {
        let mut host = Host::new(1, |_| {});
        script.into_iter().all(|(what, n)| {
            let group = vec![GROUP_V4, GROUP_V6][usize::from(n & 1)];
            match what % 8 {
                0 => host.give(Input::SocketUp(SocketId(u32::from(n % 4)), group)),
                1 => host.give(Input::SocketDown(SocketId(u32::from(n % 4)))),
                2 => host.give(Input::Listening(if n > 40 { Ports::both(n.into()) } else { Ports::default() })),
                3 => host.give(Input::Remove(id(n % 8))),
                4 => host.give(Input::SendFailed(SocketId(u32::from(n % 4)))),
                5 => host.pass(Duration::from_secs(u64::from(n))),
                _ => host.give(Input::Add(id(n % 8))),
            }
            host.give(Input::Tick);
            host.lsd.next_timeout().is_none_or(|at| at > host.now)
        })
    }
}
