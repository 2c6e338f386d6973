//! Whatever is wrong on a command line is refused with one line and status 2, before any socket
//! is opened.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");
const HASH: &str = "d2354010a3ca4ade5b7427bb093a62a3899ff381";

/// A command line, and a word its complaint must contain.
struct Case {
    arguments: Vec<String>,
    names: &'static str,
}

fn case(arguments: &[&str], names: &'static str) -> Case {
    Case {
        arguments: arguments.iter().map(ToString::to_string).collect(),
        names,
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path.to_str().expect("the path is UTF-8").to_string()
}

fn cases(folder: &Path) -> Vec<Case> {
    let good =
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let cut = write(folder, "cut.torrent", &good[..40]);
    let no_pieces = write(
        folder,
        "pieces.torrent",
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces3:aaaee",
    );
    let negative = write(
        folder,
        "negative.torrent",
        b"d4:infod6:lengthi-5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    );
    let no_info = write(folder, "info.torrent", b"d8:announce3:abce");
    let text = write(folder, "text.torrent", b"hello");
    let empty = write(folder, "empty.torrent", b"");
    let good = write(folder, "good.torrent", good);
    let config = write(folder, "bad.toml", b"no-such-option = 1\n");
    let data = folder.to_str().expect("the path is UTF-8");
    vec![
        case(&[], ""),
        case(&["dance"], "dance"),
        case(&["download"], ""),
        case(&["download", "--frobnicate", HASH], "--frobnicate"),
        case(&["download", "magnet:?dn=foo"], "info-hash"),
        case(&["download", "magnet:?xt=urn:btih:abababab"], "info-hash"),
        case(&["download", "magnet:?xt=urn%%3A"], "%"),
        case(
            &["download", "/no/such/file.torrent"],
            "/no/such/file.torrent",
        ),
        case(&["download", &cut], "cut.torrent"),
        case(&["download", &no_pieces], "pieces"),
        case(&["download", &negative], "length"),
        case(&["download", &no_info], "info"),
        case(&["download", &text], "text.torrent"),
        case(&["download", &empty], "empty.torrent"),
        case(&["seed", &cut, "--data", data], "cut.torrent"),
        case(&["verify", &text, "--data", data], "text.torrent"),
        case(&["show", &negative], "length"),
        case(&["show", "magnet:?xt=urn:btih:zz"], "info-hash"),
        case(
            &["metadata", "magnet:?dn=x", "-o", "x.torrent"],
            "info-hash",
        ),
        case(&["download", HASH, "--listen", "localhost"], "localhost"),
        case(&["download", HASH, "--listen", "127.0.0.1:99999"], "99999"),
        case(&["download", HASH, "--peer", "1.2.3:4"], "1.2.3:4"),
        case(&["download", HASH, "--bootstrap", "nowhere"], "nowhere"),
        case(&["download", HASH, "--download-limit", "fast"], "fast"),
        case(&["download", &good, "--select", "5-2"], "5-2"),
        case(
            &["download", HASH, "--config", "/no/such.toml"],
            "/no/such.toml",
        ),
        case(&["download", HASH, "--config", &config], "no-such-option"),
        case(&["dht", "ping", "nonsense"], "nonsense"),
        case(&["dht", "find-node", "12"], "12"),
        case(&["dht", "get-peers", "xyz"], "xyz"),
        case(&["dht", "announce", HASH, "--port", "70000"], "70000"),
    ]
}

fn run(program: &mut Command, folder: &Path) -> Output {
    program
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_status_2() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for case in cases(folder.path()) {
        let output = run(Command::new(BINARY).args(&case.arguments), folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{:?} says {said:?}", case.arguments);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert_eq!(said.trim_end().lines().count(), 1, "{shown}");
        assert!(
            said.contains(case.names),
            "{shown}, without {:?}",
            case.names
        );
        assert!(output.stdout.is_empty(), "{shown} and prints a result");
    }
}

/// Where strace is, if it is there and may be used.
fn strace() -> Option<PathBuf> {
    let works = Command::new("strace")
        .args(["-e", "trace=socket", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    works.then(|| PathBuf::from("strace"))
}

#[test]
fn no_socket_is_opened_for_a_wrong_command_line() {
    let Some(strace) = strace() else {
        eprintln!("skipped: strace is not here");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder can be made");
    let trace = folder.path().join("trace");
    for case in cases(folder.path()) {
        let mut program = Command::new(&strace);
        program.args(["-f", "-e", "trace=socket", "-o"]).arg(&trace);
        run(program.arg(BINARY).args(&case.arguments), folder.path());
        let traced = std::fs::read_to_string(&trace).expect("strace writes its file");
        assert!(
            traced.contains("exited with 2"),
            "{:?}: {traced}",
            case.arguments
        );
        assert!(
            !traced.contains("AF_INET"),
            "{:?}: {traced}",
            case.arguments
        );
    }
}
