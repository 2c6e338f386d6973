//! A wrong command line is told in one line, with status 2.

use std::process::Command;

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
        (&["campaign", "demo"], "--seeds"),
        (&["replay", "/no/such/file"], "/no/such/file"),
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
