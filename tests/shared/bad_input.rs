// Included by the tests of each binary, which say where it is: `BINARY`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
    let below_a_file = format!("{text}/below");
    let empty = write(folder, "empty.torrent", b"");
    let good = write(folder, "good.torrent", good);
    let config = write(folder, "bad.toml", b"no-such-option = 1\n");
    let config2 = write(folder, "worse.toml", b"lab = true\nlisten = [\"x\"]\n");
    let deep = write(folder, "deep.torrent", &[b'l'; 5000]);
    let zero = write(
        folder,
        "zero.torrent",
        b"d4:infod6:lengthi5e4:name1:a12:piece lengthi0e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    );
    let hybrid = write(
        folder,
        "hybrid.torrent",
        b"d4:infod9:file treed1:bd0:d6:lengthi0eeee6:lengthi5e12:meta versioni2e4:name1:a\
          12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    );
    let v2 = write(
        folder,
        "alone.torrent",
        b"d4:infod9:file treed1:ad0:d6:lengthi5e11:pieces root32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaeee\
          12:meta versioni2e4:name1:a12:piece lengthi16384eee",
    );
    let pipe = folder.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(pipe.exists() || made.is_ok_and(|status| status.success()));
    let pipe = pipe.to_str().expect("the path is UTF-8");
    let huge = write(
        folder,
        "huge.torrent",
        b"d4:infod6:lengthi9223372036854775807e4:name1:a12:piece lengthi16384e6:pieces20:\
          aaaaaaaaaaaaaaaaaaaaee",
    );
    let data = folder.to_str().expect("the path is UTF-8");
    vec![
        case(&[], "subcommands: download"),
        case(&["dht"], "subcommands: run"),
        case(&["dance"], "dance"),
        case(&["demo", "--size", "100G"], "1G"),
        case(&["demo", "--size", "0"], "1 byte"),
        case(&["download", HASH, "--record", data], "--record"),
        case(&["download", HASH, "--state-dir", &text], "--state-dir"),
        case(&["dht", "run", "--state-dir", &text], "--state-dir"),
        case(&["create", &text, "-o", "x", "--state-dir", &text], "--state-dir"),
        case(&["create", &text, "-o", "no/such/x.torrent"], "--output"),
        case(&["download", HASH, "-o", &text], "--output"),
        case(&["download", HASH, "-o", &below_a_file], "--output"),
        case(&["download", &text], "no bencoded value"),
        case(&["download"], ""),
        case(&["download", HASH, "--download-limit", "-1"], "--download-limit"),
        case(&["download", HASH, "--max-peers", "-1"], "--max-peers"),
        case(&["seed", &good], "not provided: --data"),
        case(&["create", pipe, "-o", "x.torrent"], "not a pipe"),
        case(&["verify", pipe, "--data", data], "not a pipe"),
        case(&["show", pipe], "not a pipe"),
        case(&["download", pipe], "not a pipe"),
        case(&["download", HASH, "--config", pipe], "not a pipe"),
        case(&["show", &huge], "pieces"),
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
        case(&["dht", "announce", HASH, "--port", "0"], "--port"),
        case(&["dht", "run", "--no-dht"], "--no-dht"),
        case(&["dht", "run", "--router", "--read-only"], "--read-only"),
        case(&["dht", "sample", "127.0.0.1"], "127.0.0.1"),
        case(&["dht", "get", &HASH[1..]], "40 hexadecimal"),
        case(&["dht", "put", &"x".repeat(997)], "997 bytes"),
        case(&["dht", "put", "value", "--salt", "x"], "--key"),
        case(&["dht", "put", "value", "--key", &config], "64 hexadecimal"),
        case(&["dht", "scrape", "xyz"], "xyz"),
        case(&["download", &v2], "v2 alone"),
        case(&["download", HASH, "--no-tcp"], "--no-tcp"),
        case(&["download", HASH, "--encryption", "on"], "--encryption"),
        case(&["download", HASH, "--select", "x"], "--select"),
        case(&["download", &good, "--select", "7"], "--select"),
        case(&["download", HASH, "--seed-ratio", "much"], "--seed-ratio"),
        case(&["download", HASH, "--seed-time", "soon"], "--seed-time"),
        case(&["download", HASH, "--max-peers", "0"], "--max-peers"),
        case(&["download", HASH, "-o", &good], "--output"),
        case(&["download", HASH, "--record", "/no/such/r"], "--record"),
        case(&["download", HASH, "--config", &config2], ":2: listen"),
        case(&["download", &deep], "deep.torrent"),
        case(&["download", &zero], "piece length"),
        case(&["download", &hybrid], "file tree"),
        case(&["seed", &good], "--data"),
        case(&["seed", &good, "--data", "/no/such"], "--data"),
        case(&["seed", HASH, "--data", data], HASH),
        case(&["verify", &good, "--data", "/no/such"], "--data"),
        case(&["metadata", HASH], "--output"),
        case(&["metadata", HASH, "-o", "/no/such/x"], "--output"),
        case(&["create", "/no/such", "-o", "x.torrent"], "/no/such"),
        case(&["create", &empty, "-o", "x.torrent"], "at least one byte"),
        case(&["create", &good, "-o", "/no/such/x"], "--output"),
        case(&["create", &good, "-o", "x", "--v1", "--v2"], "--v2"),
        case(
            &["create", &good, "-o", "x", "--piece-length", "48K"],
            "--piece-length",
        ),
        case(
            &["create", &good, "-o", "x", "--node", "a:1,,b:2"],
            "--node",
        ),
        case(
            &["create", &good, "-o", "x", "--tracker", "ftp://a"],
            "--tracker",
        ),
        case(&["create", &good, "-o", "x", "--name", "a/b"], "--name"),
        case(
            &["create", &good, "-o", "x", "--private", "--node", "a:1"],
            "--node",
        ),
        case(&["demo", "--leechers", "0"], "--leechers"),
    ]
}

/// Commands that open sockets, as far as they are right.
const OPENS_SOCKETS: [&str; 4] = ["download", "seed", "metadata", "dht"];
/// Reserved for documentation (RFC 5737): no host has it, so nothing can be bound to it.
const NOWHERE: &str = "192.0.2.1:9";

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

/// Whoever opened sockets before reading the rest would complain of an address that cannot be
/// bound, with another status.
#[test]
fn sockets_are_opened_after_everything_else_was_read() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let opens = |case: &Case| {
        let command = case.arguments.first();
        let config = case.names == ":2: listen";
        // `dht` alone takes no options.
        let whole = case.arguments.len() > 1;
        command.is_some_and(|it| OPENS_SOCKETS.contains(&&**it)) && whole && !config
    };
    let cases: Vec<Case> = cases(folder.path()).into_iter().filter(opens).collect();
    assert!(cases.len() > 40);
    for case in cases {
        let mut command = Command::new(BINARY);
        let output = run(
            command.args(&case.arguments).args(["--listen", NOWHERE]),
            folder.path(),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{:?} says {said:?}", case.arguments);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert!(
            said.contains(case.names) && !said.contains(NOWHERE),
            "{shown}"
        );
    }
    // And a command line that is right does get as far as that.
    let mut command = Command::new(BINARY);
    command.args(["download", HASH, "--no-dht", "--listen", NOWHERE]);
    let output = run(&mut command, folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("192.0.2.1"), "{said}");
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
        // CI installs it.
        assert!(std::env::var_os("TRACKERLESS_NEED_STRACE").is_none());
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
