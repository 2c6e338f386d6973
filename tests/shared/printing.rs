use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::process::Child;

include!("commands.rs");

/// What can be opened and never written to.
fn full() -> File {
    let mut options = File::options();
    options.write(true).open("/dev/full").expect("Linux has it")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    fs::write(folder.path().join("file"), [7; 20_000]).expect("the folder can be written");
    let line = ["create", "file", "-o", "a.torrent", "--node", "127.0.0.1:9"];
    let made = run(folder.path(), &line);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    folder
}

#[test]
fn a_standard_error_that_is_full_changes_no_status() {
    let folder = folder();
    for line in [
        &["--bogus"][..],
        &["demo", "--nodes", "x"],
        &["show", "no.torrent"],
        &["download", "no.torrent", "--json"],
    ] {
        let output = command(folder.path(), line).stderr(full()).output();
        let output = output.expect("the command runs");
        assert_eq!(output.status.code(), Some(2), "{line:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_lost_on_standard_output_is_an_error() {
    let folder = folder();
    for line in [
        &["show", "a.torrent"][..],
        &["show", "a.torrent", "--json"],
        &["show", "a.torrent", "--magnet"],
        &["verify", "a.torrent", "--data", ".", "--json"],
        &["create", "file", "-o", "b.torrent", "--node", "127.0.0.1:9"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let child = command(folder.path(), line)
            .stdout(full())
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(Child::wait_with_output);
        let output = output.expect("the command runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?} says {said}");
        let last = said.lines().last().expect("it says something");
        assert!(last.starts_with("error: standard output"), "{said}");
        assert!(last.contains("No space left"), "{said}");
    }
}

/// Commands that would go on for ever, or for long, if nobody told them.
#[cfg(target_os = "linux")]
#[test]
fn what_runs_on_ends_when_what_it_prints_is_lost() {
    let folder = folder();
    let net = ["--listen", "127.0.0.1:0", "--state-dir", "s", "--json"];
    for line in [
        &["dht", "run", "--bootstrap", "127.0.0.1:9"][..],
        &["seed", "a.torrent", "--data", ".", "--no-dht", "--no-lsd"],
        &["download", "a.torrent", "-o", "empty", "--no-dht", "--no-lsd"],
        &["dht", "get-peers", &"a".repeat(40), "--bootstrap", "127.0.0.1:9"],
    ] {
        let line = [line, &net].concat();
        let mut child = command(folder.path(), &line)
            .stdout(full())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        for _ in 0..300 {
            if child.try_wait().expect("it can be asked").is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // Whatever still runs by now would run on.
        let _ = child.kill();
        let output = child.wait_with_output().expect("it ended");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?} says {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{line:?} says {said}");
        assert!(errors[0].starts_with("error: standard output"), "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder();
    for line in [&["show", "a.torrent"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let child = command(folder.path(), line)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(Child::wait_with_output);
        let output = output.expect("the command runs");
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert_eq!(text(&output.stderr), "", "{line:?}");
    }
}

#[test]
fn every_failure_is_an_event_where_json_is_asked_for() {
    let folder = folder();
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("the folder can be written");
    };
    write("json.toml", "json = true\n");
    write("wrong.toml", "json = true\nno-such-option = 1\n");
    for line in [
        &["download", "no.torrent", "--config", "json.toml"][..],
        &["download", "a.torrent", "--config", "json.toml", "--no-tcp"],
        &["dht", "run", "--config", "wrong.toml"],
        &["download", "a.torrent", "--json", "--bogus"],
        &["seed", "a.torrent", "--json"],
        &["dht", "sample", "127.0.0.1:0", "--json"],
        &["bogus", "--json"],
    ] {
        let output = run(folder.path(), line);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{line:?} says {said}");
        assert_eq!(said.lines().count(), 1, "{line:?} says {said}");
        assert_eq!(out.lines().count(), 1, "{line:?} prints {out}");
        assert!(out.starts_with("{\"event\":\"error\","), "{line:?} prints {out}");
        assert!(out.contains("\"kind\":\"usage\""), "{line:?} prints {out}");
    }
    let after = run(folder.path(), &["show", "--", "--json"]);
    assert!(after.stdout.is_empty(), "{}", text(&after.stdout));
}

/// The disk of the recording is full: a limit on the size of files, which the process is told of
/// by a failed write instead of a signal.
#[cfg(target_os = "linux")]
#[test]
fn a_recording_that_fails_midway_ends_as_any_failure() {
    let folder = folder();
    let line = "trap '' XFSZ; ulimit -f 64; exec \"$0\" dht run --json --record recording \
                --state-dir s --listen 127.0.0.1:0";
    let mut child = Command::new("sh")
        .args(["-c", line, BINARY])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut said = String::new();
    out.read_line(&mut said).expect("it speaks");
    let address = said.split("\"address\":\"").nth(1).expect("it listens");
    let address = address.split('"').next().expect("it ends");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    // More than the limit, whatever is dropped.
    while child.try_wait().expect("it can be asked").is_none() {
        for _ in 0..16 {
            let _ = socket.send_to(&[0; 1_000], address);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let status = child.wait().expect("it ended");
    out.read_to_string(&mut said).expect("it speaks");
    let mut told = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut told).expect("it speaks");
    assert_eq!(status.code(), Some(1), "{told}");
    let last = told.lines().last().expect("it says something");
    assert!(last.starts_with("error: the recording could not be written"), "{told}");
    assert_eq!(told.matches("error: ").count(), 1, "{told}");
    assert_eq!(said.matches("\"event\":\"error\"").count(), 1, "{said}");
    // It said goodbye: the table is saved by that alone.
    assert!(folder.path().join("s/dht.table").is_file(), "{told}");
}

/// The same empty folder, looked at by two commands.
#[test]
fn missing_pieces_are_bad_ones_for_every_command() {
    let folder = folder();
    fs::create_dir(folder.path().join("empty")).expect("the folder can be written");
    let seed = ["--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"];
    for (line, more) in [("verify", &[][..]), ("seed", &seed)] {
        let line = [&[line, "a.torrent", "--data", "empty", "--json"], more].concat();
        let output = run(folder.path(), &line);
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{out}");
        let verified = out.lines().find(|line| line.contains("\"verified\""));
        let verified = verified.expect("it tells");
        assert!(verified.ends_with("\"pieces_ok\":0,\"pieces_bad\":2}"), "{verified}");
    }
}
