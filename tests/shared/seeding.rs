// Included by the files of this folder that compare what a download leaves on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

include!("commands.rs");

/// Nobody is found but who is named.
const ALONE: [&str; 6] = [
    "--no-dht",
    "--no-lsd",
    "--no-trackers",
    "--listen",
    "127.0.0.1:0",
    "--json",
];

/// Far more than anything here takes: what is waited for in vain is a failure, not a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs until the test ends, as a `seed`.
struct Seeder {
    child: Child,
    address: String,
    /// What it tells from now on.
    later: Option<JoinHandle<Vec<Value>>>,
}

impl Seeder {
    /// Serves `torrent` from the folder `data`, all of which must be right.
    fn start(folder: &Path, torrent: &str, data: &str, more: &[&str]) -> Self {
        let line = ["seed", torrent, "--data", data, "--state-dir", "seeder-state"];
        let verified = |event: &Value| event["event"] == "verified";
        let (seeder, verified) = Self::ready(folder, &[&line[..], more].concat(), verified);
        assert_eq!(verified["pieces_bad"], 0, "{torrent} in {data}");
        seeder
    }

    /// Starts a command and waits until it tells something that `is` what is waited for.
    fn ready(folder: &Path, line: &[&str], is: impl Fn(&Value) -> bool) -> (Self, Value) {
        let mut child = command(folder, &[line, &ALONE].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut until = |is: &dyn Fn(&Value) -> bool| {
            lines
                .by_ref()
                .map_while(Result::ok)
                .map(|line| serde_json::from_str::<Value>(&line).expect("an object"))
                .find(is)
                .expect("it tells what is waited for")
        };
        let listening = until(&|event| event["event"] == "listening");
        let told = until(&is);
        let later = std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            let events = lines.map(|line| serde_json::from_str(&line).expect("an object"));
            events.collect()
        });
        let seeder = Self {
            child,
            later: Some(later),
            address: listening["address"].as_str().expect("a text").to_owned(),
        };
        (seeder, told)
    }

    /// Interrupts it and waits for its end.
    fn stop(self) -> Option<i32> {
        interrupt(&self.child);
        self.end().0
    }

    /// Its exit status, once it ends by itself, and what it told until then.
    fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let status = wait(&mut self.child);
        let later = self.later.take().expect("it ends once");
        (status, later.join().expect("what it told"))
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a `download` of `source` into the folder `out` told, and its exit status.
fn download(folder: &Path, source: &str, out: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let line = ["download", source, "-o", out, "--state-dir", "state"];
    let mut child = command(folder, &[&line[..], &ALONE, more].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the command runs");
    let stdout = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let events = lines.map(|line| serde_json::from_str(&line).expect("an object"));
        events.collect::<Vec<Value>>()
    });
    let status = wait(&mut child);
    (status, reader.join().expect("what it told"))
}

/// The exit status of a command that ends by itself.
fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        match child.try_wait().expect("it can be waited for") {
            Some(status) => return status.code(),
            None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not end");
            }
        }
    }
}

/// As [`download`], which must end as it should; returns the bytes of content that were fetched.
fn downloaded(folder: &Path, source: &str, out: &str, more: &[&str]) -> u64 {
    let (status, told) = download(folder, source, out, more);
    assert_eq!(status, Some(0), "{told:?}");
    let complete = told.iter().find(|event| event["event"] == "complete");
    let complete = complete.unwrap_or_else(|| panic!("it is not complete: {told:?}"));
    complete["downloaded"].as_u64().expect("a number")
}

/// How many pieces were hashed in a run of which this is the recording.
#[allow(dead_code)]
fn pieces_hashed(recording: &Path) -> usize {
    use trackerless_core::io::{Input, JobResult};
    let recorded = fs::read(recording).expect("it is there");
    let (_, records) = trackerless_core::record::Reader::open(&recorded).expect("a recording");
    let hashed = |input: Input<'_>| {
        matches!(input, Input::JobDone { result: JobResult::Hashed(_), .. })
    };
    let records = records.map(|record| record.expect("it is whole"));
    records.map(|record| record.input.feed(hashed)).filter(|it| *it).count()
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum There {
    Folder,
    /// Its bytes, and whether it can be run.
    File(Vec<u8>, bool),
    Link(PathBuf),
}

/// Everything below `folder`, by its path from there.
fn tree(folder: &Path) -> BTreeMap<String, There> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let there = if meta.is_symlink() {
                There::Link(fs::read_link(&path).expect("it can be read"))
            } else if meta.is_dir() {
                open.push(path.clone());
                There::Folder
            } else {
                let runs = meta.permissions().mode() & 0o100 != 0;
                There::File(fs::read(&path).expect("it can be read"), runs)
            };
            let name = path.strip_prefix(folder).expect("it is below");
            found.insert(name.to_str().expect("UTF-8").to_owned(), there);
        }
    }
    found
}

/// Fails naming the paths that differ, not their bytes.
fn assert_same(wanted: &BTreeMap<String, There>, got: &BTreeMap<String, There>) {
    let paths = |tree: &BTreeMap<String, There>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(wanted), paths(got));
    for (path, there) in wanted {
        assert!(there == &got[path], "{path} differs");
    }
}

/// Bytes that differ from file to file and from offset to offset.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = std::iter::repeat_with(&mut next)
        .take(length.div_ceil(8))
        .flatten()
        .collect();
    out.truncate(length);
    out
}

/// Makes a file of `content` below `folder`, and the folders it is in.
fn put(folder: &Path, path: &str, content: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
    fs::write(path, content).expect("it can be written");
}

/// Makes a torrent of `path` and returns what `show --json` says of it.
fn create(folder: &Path, path: &str, torrent: &str, more: &[&str]) -> Value {
    let line = ["create", path, "-o", torrent, "--node", "127.0.0.1:9"];
    let made = run(folder, &[&line[..], more].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let shown = run(folder, &["show", torrent, "--json"]);
    serde_json::from_slice(&shown.stdout).expect("one object")
}
