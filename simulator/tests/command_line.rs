//! A wrong command line is told in one line, with status 2.

use std::process::{Command, Stdio};

#[test]
fn what_is_wrong_is_told_in_one_line_with_status_2() {
    for (arguments, names) in [
        (&[][..], "subcommands: run"),
        (&["rum", "demo"], "run"),
        (&["run"], "SCENARIO"),
        (&["run", "no-such-scenario"], "one of"),
        (&["run", "dmeo"], "did you mean demo?"),
        (&["run", "no/such.toml"], "no/such.toml"),
        (
            &["run", "demo", "--set", "networ.loss=1%"],
            "did you mean \"network\"?",
        ),
        (&["show", "demoo"], "did you mean demo?"),
        (&["run", "demo", "--seeed", "1"], "--seed"),
        (&["run", "demo", "--seed", "x"], "--seed"),
        (&["campaign", "demo", "--seeds", "5..2"], "A less than B"),
        (
            &["run", "demo", "--trace", "/no/such/file"],
            "/no/such/file",
        ),
        (&["campaign", "demo"], "--seeds"),
        (
            &["campaign", "demo", "--seeds", "0..2", "--shard", "2/2"],
            "I/N",
        ),
        (&["merge", "Cargo.toml"], "Cargo.toml"),
        (&["diff", "Cargo.toml", "Cargo.toml"], "expected a trace"),
        (&["replay", "/no/such/file"], "/no/such/file"),
        (&["replay", "/dev/null"], "/dev/null"),
        (&["replay", "Cargo.toml"], "Cargo.toml"),
        (&["replay", "src"], "src"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"))
            .args(arguments)
            .output()
            .expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{arguments:?} says {said:?}");
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert_eq!(said.trim_end().lines().count(), 1, "{shown}");
        assert!(said.contains(names), "{shown}, without {names:?}");
        assert!(output.stdout.is_empty(), "{shown} and prints a result");
    }
}

#[test]
fn help_is_printed_where_it_is_asked_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"))
        .arg("--help")
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("replay"));
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error_and_a_reader_that_leaves_is_none() {
    let list = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"));
        let output = command.arg("list").stdout(stdout).stderr(Stdio::piped());
        let output = output.spawn().expect("it runs").wait_with_output();
        let output = output.expect("it ends");
        let said = String::from_utf8(output.stderr).expect("it is text");
        (output.status.code(), said)
    };
    let full = std::fs::File::create("/dev/full").expect("the device");
    let (code, said) = list(full.into());
    assert_eq!(code, Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("standard output"), "{said}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(list(writer.into()), (Some(0), String::new()));
}

/// A scenario that is printed, changed and run from a file comes to what the built-in does.
#[test]
fn what_show_prints_can_be_run() {
    let sim = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"));
        let output = command.args(arguments).output().expect("the command runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("it is text")
    };
    let file = std::env::temp_dir().join(format!("trackerless-{}.toml", std::process::id()));
    let named = file.to_str().expect("it is text");
    std::fs::write(&file, sim(&["show", "demo"])).expect("it can be written");
    let root = |arguments: &[&str]| {
        let json: serde_json::Value = serde_json::from_str(&sim(arguments)).expect("it is JSON");
        assert_eq!(json["failures"], serde_json::json!([]));
        (json["root"].clone(), json["completed"].clone())
    };
    let built_in = root(&["run", "demo", "--seed", "4", "--json"]);
    assert_eq!(root(&["run", named, "--seed", "4", "--json"]), built_in);
    let fewer = root(&["run", named, "--json", "--set", "groups.leechers.count=2"]);
    assert_eq!(fewer.1, 2);
    std::fs::write(&file, "[network]\nlos = 1").expect("it can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"))
        .args(["run", named])
        .output()
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let wrong = format!("{named}:2: network.los: unknown key; did you mean \"loss\"?");
    assert!(said.contains(&wrong), "{said}");
    std::fs::remove_file(&file).expect("it is ours");
}

/// Two shards, as two machines would run them, and what is made of them.
#[test]
fn a_campaign_in_shards_ends_as_a_whole_one_would() {
    let folder = std::env::temp_dir().join(format!("trackerless-{}-campaign", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str| folder.join(name).to_str().expect("it is text").to_owned();
    let sim = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"));
        let output = command.args(arguments).output().expect("the command runs");
        let said = String::from_utf8(output.stdout).expect("it is text");
        (output.status.code(), said)
    };
    let broken = "pack.max-unchoked=1";
    let (a, b, junit) = (file("a.json"), file("b.json"), file("junit.xml"));
    let whole = [
        "campaign", "demo", "pex-only", "--seeds", "3..5", "--set", broken,
    ];
    for (shard, out) in [("0/2", &a), ("1/2", &b)] {
        let more = [&whole[..], &["--shard", shard, "--out", out]].concat();
        assert_eq!(sim(&more).0, Some(1), "{shard}");
    }
    let (status, merged) = sim(&["merge", &b, &a, "--junit", &junit]);
    assert_eq!((status, &merged), (Some(1), &sim(&whole).1));
    let repeat = "  repeat: trackerless-sim run demo --seed 4 --set pack.max-unchoked=1\n";
    assert!(merged.contains(repeat), "{merged}");
    // The command that is named does repeat it.
    let again = ["run", "demo", "--seed", "4", "--set", broken];
    assert_eq!(sim(&again).0, Some(1));
    let junit = std::fs::read_to_string(junit).expect("it was written");
    assert!(
        junit.contains("<testsuite name=\"demo\" tests=\"2\" failures=\"2\""),
        "{junit}"
    );
    assert_eq!(sim(&["merge", &a]).0, Some(2));
    assert_eq!(sim(&["campaign", "demo", "--seeds", "3..4"]).0, Some(0));
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn the_first_event_at_which_two_runs_part_is_named() {
    let folder = std::env::temp_dir().join(format!("trackerless-{}-diff", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str| folder.join(name).to_str().expect("it is text").to_owned();
    let sim = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"));
        let output = command.args(arguments).output().expect("the command runs");
        let said = String::from_utf8(output.stdout).expect("it is text");
        (output.status.code(), said)
    };
    let (a, b, c) = (file("a"), file("b"), file("c"));
    let run = ["run", "pex-only", "--seed", "1", "--trace"];
    sim(&[&run[..], &[&a]].concat());
    sim(&[&run[..], &[&b]].concat());
    sim(&[
        &run[..],
        &[&c, "--set", "groups.leechers.join.after=2500ms"],
    ]
    .concat());
    assert_eq!(
        sim(&["diff", &a, &b]),
        (Some(0), "the traces are the same\n".into())
    );
    let (status, said) = sim(&["diff", &a, &c]);
    assert_eq!(status, Some(1), "{said}");
    // The first leecher is host 2, and is told to begin in one run after two seconds.
    assert!(
        said.starts_with("the traces part in second 2, at host 2, line "),
        "{said}"
    );
    assert!(
        said.lines()
            .nth(1)
            .expect("a line")
            .starts_with("  2.000000 2 < Command"),
        "{said}"
    );
    std::fs::remove_dir_all(folder).expect("it is ours");
}

fn run_demo(more: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_trackerless-sim"))
        .args(["run", "demo", "--seed", "1"])
        .args(more)
        .output()
        .expect("the command runs");
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).expect("it is text");
    let lines = said.lines().filter(|line| !line.starts_with("inputs"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_trace_explains_decisions_and_changes_nothing() {
    let file = std::env::temp_dir().join(format!("trackerless-{}.trace", std::process::id()));
    let named = file.to_str().expect("it is text");
    assert_eq!(run_demo(&["--trace", named]), run_demo(&[]));
    let trace = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it is ours");
    for part in [
        "Choke { choked: false, reason: ",
        "Asked { first: ",
        "Complete { ",
    ] {
        assert!(trace.contains(part), "no {part}");
    }
    let mut lines = trace.lines();
    assert_eq!(lines.next(), Some("trackerless-trace 1 demo 1"));
    let at = |line: &str| line.split(' ').next()?.parse::<f64>().ok();
    let times: Vec<_> = lines
        .filter(|line| !line.starts_with('='))
        .map(|line| at(line).expect("a time"))
        .collect();
    assert!(times.is_sorted());
}
