use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

include!("commands.rs");

/// What a tracker heard: the port of who announced, and what happened to it.
type Heard = Arc<Mutex<Vec<(u16, String)>>>;
/// Who is in the swarm, and whether something is missing there.
type Swarm = Arc<Mutex<BTreeMap<u16, bool>>>;

/// A tracker on loopback for one torrent.
struct Tracker {
    url: String,
    heard: Heard,
}

fn announced(heard: &Heard, swarm: &Swarm, port: u16, event: &str, left: u64) -> Vec<u8> {
    let mut swarm = swarm.lock().unwrap();
    if event == "stopped" {
        swarm.remove(&port);
    } else {
        swarm.insert(port, left > 0);
    }
    heard.lock().unwrap().push((port, event.to_owned()));
    let others = swarm.keys().filter(|other| **other != port);
    let compact = |other: &u16| [&[127, 0, 0, 1][..], &other.to_be_bytes()].concat();
    others.flat_map(compact).collect()
}

fn seeds(swarm: &Swarm) -> u32 {
    let swarm = swarm.lock().unwrap();
    swarm.values().filter(|lacks| !**lacks).count() as u32
}

/// The first line of a request, all of whose header is read: what is left unread would reset the
/// connection.
fn request_line(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    first
}

fn http_tracker() -> Tracker {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (heard, swarm) = (Heard::default(), Swarm::default());
    let log = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let line = request_line(&stream);
            let query = line.split(['?', ' ']).nth(2).unwrap_or_default();
            let value = |key: &str| {
                let pair = query.split('&').find_map(|pair| pair.strip_prefix(key));
                pair.and_then(|value| value.strip_prefix('='))
                    .unwrap_or_default()
            };
            let (port, left) = (value("port"), value("left"));
            let (port, left) = (port.parse().unwrap_or(0), left.parse().unwrap_or(0));
            let peers = announced(&log, &swarm, port, value("event"), left);
            let mut body = format!("d8:completei{}e", seeds(&swarm)).into_bytes();
            body.extend(format!("10:incompletei0e8:intervali1800e5:peers{}:", peers.len()).bytes());
            body.extend([&peers[..], b"e"].concat());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    Tracker {
        url: format!("http://127.0.0.1:{port}/announce"),
        heard,
    }
}

fn udp_tracker() -> Tracker {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = socket.local_addr().expect("it is bound").port();
    let (heard, swarm) = (Heard::default(), Swarm::default());
    let log = Arc::clone(&heard);
    std::thread::spawn(move || {
        const CONNECTION: [u8; 8] = *b"connect!";
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = &buffer[..length];
            let mut reply = request[8..16].to_vec();
            match request[11] {
                0 => reply.extend(CONNECTION),
                1 if request[..8] == CONNECTION => {
                    let number = |at: usize| {
                        let bytes = request[at..at + 8].try_into();
                        u64::from_be_bytes(bytes.expect("eight bytes"))
                    };
                    let event = ["", "completed", "started", "stopped"][request[83] as usize];
                    let port = u16::from_be_bytes([request[96], request[97]]);
                    let peers = announced(&log, &swarm, port, event, number(64));
                    reply.extend(1_800u32.to_be_bytes());
                    reply.extend(0u32.to_be_bytes());
                    reply.extend(seeds(&swarm).to_be_bytes());
                    reply.extend(peers);
                }
                _ => continue,
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    Tracker {
        url: format!("udp://127.0.0.1:{port}/announce"),
        heard,
    }
}

impl Tracker {
    fn heard(&self) -> Vec<(u16, String)> {
        self.heard.lock().expect("nobody panicked").clone()
    }

    fn until_heard(&self, what: &str, count: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self
            .heard()
            .iter()
            .filter(|(_, event)| event == what)
            .count()
            < count
        {
            assert!(
                Instant::now() < end,
                "{what}: heard only {:?}",
                self.heard()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const ALONE: [&str; 7] = [
    "--listen",
    "127.0.0.1:0",
    "--no-dht",
    "--no-lsd",
    "--no-pex",
    "--lab",
    "--json",
];

/// A torrent of 300,000 bytes with these trackers, its content in `home`.
fn torrent(folder: &Path, trackers: &[&str]) -> Vec<u8> {
    let content: Vec<u8> = (0..300_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::create_dir_all(folder.join("home")).expect("a folder can be made");
    fs::write(folder.join("home/file"), &content).expect("the folder can be written");
    let mut line = vec![
        "create",
        "home/file",
        "-o",
        "a.torrent",
        "--node",
        "127.0.0.1:9",
    ];
    for url in trackers {
        line.extend(["--tracker", url]);
    }
    let made = run(folder, &line);
    assert!(made.status.success(), "{}", text(&made.stderr));
    content
}

fn spawn(folder: &Path, line: &[&str]) -> Child {
    let line = [line, &ALONE].concat();
    let mut command = command(folder, &line);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("the command runs")
}

/// Asks a command to stop, and waits until it did.
fn end(mut child: Child) {
    interrupt(&child);
    child.wait().expect("it ends");
}

/// Downloads to `away`; what was said on standard output.
fn download(folder: &Path, source: &str, more: &[&str]) -> String {
    let line = [&["download", source, "-o", "away"], more].concat();
    let mut child = spawn(folder, &line);
    let mut said = String::new();
    let stdout = child.stdout.as_mut().expect("it is piped");
    stdout.read_to_string(&mut said).expect("it is text");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {said}");
    said
}

fn lines<'a>(said: &'a str, event: &str) -> Vec<&'a str> {
    let begin = format!("{{\"event\":\"{event}\"");
    said.lines()
        .filter(|line| line.starts_with(&begin))
        .collect()
}

/// A seeder and a leecher that know nothing of each other but the tracker.
fn meets_through(tracker: &Tracker) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let content = torrent(folder, &[&tracker.url]);
    let seeder = spawn(folder, &["seed", "a.torrent", "--data", "home"]);
    tracker.until_heard("started", 1);
    let said = download(folder, "a.torrent", &[]);
    assert_eq!(
        fs::read(folder.join("away/file")).expect("it is there"),
        content
    );
    let found = lines(&said, "peer_found");
    assert!(
        found
            .iter()
            .any(|line| line.contains("\"source\":\"tracker\"")),
        "{said}"
    );
    let told = lines(&said, "source");
    let told = told
        .iter()
        .rfind(|line| line.contains("\"status\":\"idle\""));
    let told = told.expect("the tracker answered");
    for part in [
        "\"source\":\"tracker\"",
        "\"seeds\":",
        tracker.url.as_str(),
        "\"next_update\":1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(
        !told.contains("\"seeds\":null") && !told.contains("\"seeds\":0"),
        "{told}"
    );
    let (seeder_port, _) = tracker.heard()[0];
    let leecher = tracker
        .heard()
        .into_iter()
        .filter(|(port, _)| *port != seeder_port);
    let leecher: Vec<String> = leecher.map(|(_, event)| event).collect();
    assert_eq!(leecher, ["started", "completed", "stopped"]);
    end(seeder);
    assert_eq!(
        tracker.heard().last(),
        Some(&(seeder_port, "stopped".to_owned()))
    );
}

#[test]
fn two_meet_through_a_udp_tracker_and_say_goodbye_to_it() {
    meets_through(&udp_tracker());
}

#[test]
fn two_meet_through_an_http_tracker_and_say_goodbye_to_it() {
    meets_through(&http_tracker());
}

#[test]
fn with_no_trackers_nothing_is_said_to_them() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (http, udp) = (http_tracker(), udp_tracker());
    torrent(folder.path(), &[&http.url, &udp.url]);
    let mut seeder = spawn(
        folder.path(),
        &["seed", "a.torrent", "--data", "home", "--no-trackers"],
    );
    let mut reader = BufReader::new(seeder.stdout.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("\"verified\"") {
        assert_ne!(
            reader.read_line(&mut said).expect("it is text"),
            0,
            "{said}"
        );
    }
    // A second after it seeds, when one that asks would have asked.
    while !said.contains("\"progress\"") {
        assert_ne!(
            reader.read_line(&mut said).expect("it is text"),
            0,
            "{said}"
        );
    }
    assert!(
        said.contains("\"source\":\"tracker\",\"status\":\"disabled\""),
        "{said}"
    );
    end(seeder);
    assert!(http.heard().is_empty() && udp.heard().is_empty());
}

/// A server that answers every connection with the same bytes, and counts them.
fn web(reply: Vec<u8>) -> (String, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::<Mutex<u32>>::default();
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            *counted.lock().expect("nobody panicked") += 1;
            request_line(&stream);
            let _ = stream.write_all(&reply);
        }
    });
    (format!("http://127.0.0.1:{port}/announce"), count)
}

#[test]
fn bad_trackers_cost_little_and_the_good_one_behind_them_is_found() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let (secret, secret_asked) = web(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    let secret = secret.replace("/announce", "/admin");
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {secret}\r\nContent-Length: 0\r\n\r\n");
    let million = [
        &b"HTTP/1.1 200 OK\r\n\r\nd5:peers6000000:"[..],
        &[9; 6_000_000],
        b"e",
    ]
    .concat();
    let (garbage, _) = web(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html".to_vec());
    let (many, _) = web(million);
    let (endless, _) = web([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'd'; 4 << 20]].concat());
    let (redirect, _) = web(redirect.into_bytes());
    let good = udp_tracker();
    // Answers with another transaction than the one asked with.
    let liar = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let lying = format!("udp://{}/announce", liar.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((_, from)) = liar.recv_from(&mut buffer) {
            let reply = [
                &[0, 0, 0, 0, buffer[12] ^ 1][..],
                &buffer[13..16],
                b"connect!",
            ]
            .concat();
            let _ = liar.send_to(&reply, from);
        }
    });
    torrent(folder, &[&good.url]);
    let seeder = spawn(folder, &["seed", "a.torrent", "--data", "home"]);
    good.until_heard("started", 1);
    let all = [&garbage, &many, &endless, &redirect, &lying, &good.url];
    torrent(folder, &all.map(String::as_str));
    let said = download(folder, "a.torrent", &[]);
    for (url, reason) in [
        (&garbage, "no bencoded dictionary"),
        (&many, "its answer is too long"),
        (&endless, "its answer is too long"),
        (&redirect, "not at a path that begins /announce"),
        (&lying, "no answer yet"),
    ] {
        let told = lines(&said, "source");
        let told = told
            .iter()
            .any(|line| line.contains(url.as_str()) && line.contains(reason));
        assert!(told, "{url}: {reason}: {said}");
    }
    assert_eq!(*secret_asked.lock().expect("nobody panicked"), 0);
    end(seeder);
}
