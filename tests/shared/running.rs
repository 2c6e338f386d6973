// Included by other files of this folder: commands that run until they are told to end, and what
// `--json` tells of them meanwhile.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

include!("commands.rs");

/// Far more than anything here takes: what is waited for in vain is a failure, not a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every event of `--json`, with its fields; all of them have `event` and `time` too.
const EVENTS: [(&str, &[&str]); 13] = [
    ("listening", &["protocol", "address"]),
    ("metadata", &["name", "size", "files", "info_hash"]),
    (
        "source",
        &["source", "status", "next_update", "seeds", "peers"],
    ),
    ("peer_found", &["address", "source"]),
    (
        "peer_connected",
        &["address", "transport", "encrypted", "client"],
    ),
    ("peer_client", &["address", "client"]),
    ("peer_closed", &["address", "reason"]),
    (
        "progress",
        &["done", "total", "down_rate", "up_rate", "peers"],
    ),
    ("piece_failed", &["piece", "blame"]),
    ("complete", &["seconds", "downloaded", "uploaded"]),
    ("verified", &["pieces_ok", "pieces_bad"]),
    (
        "lookup",
        &[
            "kind",
            "target",
            "milliseconds",
            "hops",
            "queries",
            "results",
        ],
    ),
    ("error", &["kind", "message"]),
];

/// One line of `--json`, which has the fields it must have and no others.
fn event(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let name = event["event"].as_str().expect("every line has an event");
    let object = event.as_object().expect("every line is an object");
    let has: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    let fields = EVENTS
        .iter()
        .find(|(of, _)| *of == name)
        .map(|(_, fields)| *fields);
    let fields = match (name, event.get("id")) {
        // A node has an id, a peer has none.
        ("result", Some(_)) => &["id", "address"][..],
        ("result", None) => &["address"][..],
        _ => fields.unwrap_or_else(|| panic!("no such event: {line}")),
    };
    let mut wanted = BTreeSet::from(["event", "time"]);
    wanted.extend(fields);
    assert_eq!(has, wanted, "{line}");
    event
}

/// A command that runs, with its events; ended with the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Where it listens, as far as it has told.
    listens: RefCell<BTreeSet<String>>,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = command(folder, arguments)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command runs");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            listens: RefCell::default(),
        }
    }

    /// The next event called `name` for which `is` holds.
    fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let event = event(&line.unwrap_or_else(|error| panic!("no event {name}: {error}")));
            if event["event"] == "listening" {
                let address = event["address"].as_str().expect("a text");
                self.listens.borrow_mut().insert(address.to_owned());
            }
            if event["event"] == name && is(&event) {
                return event;
            }
        }
    }

    /// The address it listens on.
    fn address(&self) -> String {
        let listening = self.until("listening", |_| true);
        listening["address"].as_str().expect("a text").to_owned()
    }

    /// The exit status, and what was told until then.
    fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let mut told = Vec::new();
        // The last line comes with the end of the process.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => told.push(event(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {told:?}"),
            }
        }
        let status = self.child.wait().expect("it can be waited for");
        (status.code(), told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A torrent `a.torrent` of the file `seeded/file`, which has `size` bytes in pieces of 16 KiB; its
/// content, and its info-hash.
fn torrent_of(folder: &Path, size: usize) -> (Vec<u8>, String) {
    let content: Vec<u8> = (0..size as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::create_dir(folder.join("seeded")).expect("the folder can be written");
    fs::write(folder.join("seeded/file"), &content).expect("the folder can be written");
    let options = ["--piece-length", "16K", "--node", "127.0.0.1:9", "--json"];
    let line = [&["create", "seeded/file", "-o", "a.torrent"], &options[..]].concat();
    let made = run(folder, &line);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).expect("one object");
    let hash = made["info_hash"].as_str().expect("a text").to_owned();
    (content, hash)
}

/// A seeder without a DHT, and its address.
fn seeder(folder: &Path, listen: &str, state: &str, more: &[&str]) -> (Running, String) {
    // Other tests seed the same content: nobody is to find them.
    let line = ["seed", "a.torrent", "--data", "seeded"];
    let options = ["--no-dht", "--no-lsd", "--listen", listen, "--state-dir", state];
    let seeder = Running::start(folder, &[&line[..], &options, more].concat());
    let address = seeder.address();
    seeder.until("verified", |event| event["pieces_bad"] == 0);
    (seeder, address)
}

