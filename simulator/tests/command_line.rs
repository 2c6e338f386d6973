//! A wrong command line is told in one line, with status 2.

use std::process::{Command, Stdio};

#[test]
fn what_is_wrong_is_told_in_one_line_with_status_2() {
    for (arguments, names) in [
        (&[][..], "subcommands: run"),
        (&["rum", "demo"], "run"),
        (&["run"], "SCENARIO"),
        (&["run", "no-such-scenario"], "expected one of"),
        (&["run", "demo", "--seeed", "1"], "--seed"),
        (&["run", "demo", "--seed", "x"], "--seed"),
        (&["campaign", "demo", "--seeds", "5..2"], "A less than B"),
        (
            &["run", "demo", "--trace", "/no/such/file"],
            "/no/such/file",
        ),
        (&["campaign", "demo"], "--seeds"),
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
    let at = |line: &str| line.split(' ').next()?.parse::<f64>().ok();
    let times: Vec<_> = trace
        .lines()
        .map(|line| at(line).expect("a time"))
        .collect();
    assert!(times.is_sorted());
}
