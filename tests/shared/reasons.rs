use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

include!("commands.rs");

const LOOPBACK: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A torrent of one file of 20,000 bytes called `file`, whose content is in no folder.
fn torrent(folder: &Path) {
    fs::write(folder.join("file"), [7; 20_000]).expect("the folder can be written");
    let made = run(
        folder,
        &["create", "file", "-o", "a.torrent", "--node", "127.0.0.1:9"],
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    fs::remove_file(folder.join("file")).expect("it was there");
}

/// Starts a command and waits for its first line, which it returns.
fn start(folder: &Path, line: &[&str], stderr: Stdio) -> (Child, String) {
    let mut child = command(folder, line)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the command runs");
    let mut said = String::new();
    let stdout = child.stdout.as_mut().expect("it is piped");
    BufReader::new(stdout)
        .read_line(&mut said)
        .expect("it speaks");
    (child, said)
}

/// Starts a node and waits until it listens.
fn node(folder: &Path, arguments: &[&str]) -> Child {
    let line = [&["dht", "run", "--json"], &LOOPBACK[..], arguments].concat();
    let (child, said) = start(folder, &line, Stdio::piped());
    assert!(said.contains("listening"), "{said}");
    child
}

#[test]
fn verify_says_on_standard_error_why_it_fails_and_what_to_try() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent(folder.path());
    let output = run(folder.path(), &["verify", "a.torrent", "--data", "."]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: 2 pieces are missing"), "{said}");
    assert!(said.contains("download a.torrent"), "{said}");
    let told = text(&output.stdout);
    assert!(told.contains("\nfile is missing\n") || told.starts_with("file is missing\n"), "{told}");
    assert!(told.contains("2 missing; 1 file is not there"), "{told}");
    // A file that is there and too short is not missing.
    fs::write(folder.path().join("file"), [7; 10]).expect("the folder can be written");
    let output = run(folder.path(), &["verify", "a.torrent", "--data", ".", "--json"]);
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&told["pieces_bad"], &told["pieces_missing"]), (&2.into(), &2.into()));
    assert_eq!(told["files_missing"], 0);
}

/// A file where a folder of the content should be.
#[test]
fn what_is_in_the_way_is_named() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("content/inner")).expect("the folder can be written");
    fs::write(at("content/inner/a"), [7; 20_000]).expect("the folder can be written");
    let line = ["create", "content", "-o", "a.torrent", "--node", "127.0.0.1:9"];
    let made = run(folder.path(), &line);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    fs::create_dir_all(at("out/content")).expect("the folder can be written");
    fs::write(at("out/content/inner"), b"mine").expect("the folder can be written");
    let line = [&["download", "a.torrent", "-o", "out", "--no-dht"], &LOOPBACK[..]].concat();
    let output = run(folder.path(), &line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().expect("it says something");
    assert!(last.contains("out/content/inner: something else"), "{said}");
    assert_eq!(fs::read(at("out/content/inner")).expect("it is there"), b"mine");
}

#[test]
fn the_reason_of_a_download_that_fails_is_the_last_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent(folder.path());
    fs::create_dir(folder.path().join("file")).expect("nothing is there");
    let line = [&["download", "a.torrent", "--no-dht"], &LOOPBACK[..]].concat();
    let output = run(folder.path(), &line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().expect("it says something");
    assert!(last.starts_with("error: "), "{said}");
    assert!(last.contains("./file: something else is where a file"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}

#[test]
fn a_recording_can_be_replayed_whenever_it_was_cut_off() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut child = node(folder.path(), &["--record", "recording"]);
    child
        .kill()
        .and_then(|()| child.wait().map(drop))
        .expect("it runs");
    let recorded = fs::read(folder.path().join("recording")).expect("it is there");
    let opened = trackerless_core::record::Reader::open(&recorded);
    assert!(
        opened.is_ok(),
        "{} bytes: {:?}",
        recorded.len(),
        opened.err()
    );
}

#[cfg(unix)]
#[test]
fn a_state_folder_that_cannot_be_written_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    // Not even root can put a file there.
    fs::create_dir_all(folder.path().join("s/dht.table/x")).expect("the folder can be written");
    let mut child = node(folder.path(), &["--state-dir", "s"]);
    interrupt(&child);
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    let stderr = child.stderr.as_mut().expect("it is piped");
    stderr.read_to_string(&mut said).expect("it speaks");
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    assert!(said.contains("--state-dir"), "{said}");
}

/// Starts a seed of `torrent` and returns it with the address that it listens on.
fn seed(folder: &Path) -> (Child, String) {
    let line = [&["seed", "a.torrent", "--data", ".", "--json"], &LOOPBACK[..], ALONE].concat();
    let (child, said) = start(folder, &line, Stdio::null());
    let address = said.split("\"address\":\"").nth(1).expect("it listens");
    let address = address.split('"').next().expect("it ends").to_owned();
    (child, address)
}

#[test]
fn a_lookup_that_finds_no_peer_fails_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let line = [&["dht", "run", "--json"], &LOOPBACK[..]].concat();
    let (mut node, said) = start(folder.path(), &line, Stdio::null());
    let address = said.split("\"address\":\"").nth(1).expect("it listens");
    let address = address.split('"').next().expect("it ends");
    let hash = "d984f67af9917b214cd8b6048ab5624c7df6a07a";
    let asks = ["dht", "get-peers", hash, "--quiet", "--bootstrap", address];
    let output = run(folder.path(), &[&asks[..], &LOOPBACK[..]].concat());
    node.kill().and_then(|()| node.wait().map(drop)).expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!((text(&output.stdout).as_str(), said.lines().count()), ("", 1), "{said}");
    assert!(said.starts_with(&format!("error: no node knows a peer of {hash}; ")), "{said}");
}

/// Nobody is found but who is named.
const ALONE: &[&str] = &["--no-dht", "--no-lsd"];

#[test]
fn a_file_that_is_none_is_told_as_soon_as_the_metadata_is_there() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent(folder.path());
    fs::write(folder.path().join("file"), [7; 20_000]).expect("the folder can be written");
    let magnet = run(folder.path(), &["show", "a.torrent", "--magnet"]);
    let magnet = text(&magnet.stdout).trim().to_owned();
    let (mut seed, address) = seed(folder.path());
    let so = format!("{magnet}&so=0,5");
    let none = "expected only 0, as there is one file";
    for (link, select, reason) in [
        (&magnet, &["--select", "99"][..], format!("--select: 99: {none}")),
        (&magnet, &["--select", "0,7-8"], format!("--select: 7: {none}")),
        (&so, &[], format!("so of the magnet link: 5: {none}")),
    ] {
        let options = [&["--peer", &address, "-o", "new"], &LOOPBACK[..], ALONE, select].concat();
        let line = [&["download", link.as_str()], &options[..]].concat();
        let output = run(folder.path(), &line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?} says {said}");
        let last = said.lines().last().expect("it says something");
        assert_eq!(last, format!("error: {reason}"), "{line:?}");
        assert!(!folder.path().join("new").exists(), "{line:?}");
    }
    // What the command line selects goes before what the link does.
    let options = [&["--peer", &address, "--select", "0", "-o", "new"], &LOOPBACK[..], ALONE].concat();
    let output = run(folder.path(), &[&["download", so.as_str()], &options[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    seed.kill().and_then(|()| seed.wait().map(drop)).expect("it runs");
}

#[test]
fn what_cannot_be_read_of_a_source_is_told_once_and_it_is_of_use() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent(folder.path());
    fs::write(folder.path().join("file"), [7; 20_000]).expect("the folder can be written");
    let magnet = run(folder.path(), &["show", "a.torrent", "--magnet"]);
    let magnet = text(&magnet.stdout).trim().to_owned();
    let (mut seed, address) = seed(folder.path());
    let wrong = "&so=zz&x.pe=127.0.0.1:99999&so=zz&ws=x&tr=http://me:secret@127.0.0.1:9/announce";
    let loud = magnet.replacen("magnet:", "MAGNET:", 1) + wrong;
    let warnings = [
        "so: found \"zz\", expected file numbers up to 999999, as 0,2,4-6; it is ignored",
        "x.pe: found \"127.0.0.1:99999\", expected HOST:PORT, the port from 1 to 65535; it is ignored",
        "ws: found \"x\", expected an http:// or https:// URL; it is ignored",
        "tracker http://…@127.0.0.1:9/announce: expected no user name before the host; it is not asked",
    ];
    let warned = |said: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.strip_prefix("warning: "));
        lines.map(str::to_owned).collect()
    };
    let options = [&["--peer", &address, "-o", "new"], &LOOPBACK[..], ALONE].concat();
    let output = run(folder.path(), &[&["download", loud.as_str()], &options[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(warned(&said), warnings);
    assert!(!said.contains("secret"), "{said}");
    let shown = run(folder.path(), &["show", &loud]);
    assert_eq!(warned(&text(&shown.stderr)), warnings[..3]);
    seed.kill().and_then(|()| seed.wait().map(drop)).expect("it runs");

    // The same of a torrent file whose nodes are none.
    let file = fs::read(folder.path().join("a.torrent")).expect("it was made");
    let nodes = b"5:nodesll9:127.0.0.1i9eee";
    let at = file.windows(nodes.len()).position(|part| part == nodes).expect("it has a node");
    let bad = [&file[..at], b"5:nodesll1:ai0eee", &file[at + nodes.len()..]].concat();
    fs::write(folder.path().join("b.torrent"), bad).expect("the folder can be written");
    let output = run(folder.path(), &["verify", "b.torrent", "--data", "."]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let port = "nodes[0]: found \"a:0\", expected a host and a port from 1 to 65535; it is ignored";
    assert_eq!(warned(&said), [port]);
    // A private torrent without a tracker is worth a word as well.
    let output = run(folder.path(), &["create", "file", "-o", "c.torrent", "--private"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(warned(&text(&output.stderr))[0].starts_with("--private without --tracker: "));
}

/// A longer file of that name is somebody else's, an empty file of the torrent or not.
#[test]
fn a_longer_file_of_that_name_is_named_and_kept() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent(folder.path());
    let file = folder.path().join("file");
    fs::write(&file, [1; 30_000]).expect("the folder can be written");
    let line = [&["download", "a.torrent"], &LOOPBACK[..], ALONE].concat();
    let output = run(folder.path(), &line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().expect("it says something");
    assert!(last.contains("file: a file of that name") && last.contains("30000"), "{said}");
    assert_eq!(fs::read(&file).expect("it is there"), [1; 30_000]);
}
