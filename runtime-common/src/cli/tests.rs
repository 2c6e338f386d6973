use super::*;

fn parse(line: &[&str]) -> Result<Cli, Parsed> {
    Cli::parse_from_args("trackerless", [&["trackerless"], line].concat())
}

fn wrong(line: &[&str]) -> Failure {
    match parse(line) {
        Err(Parsed::Wrong(failure)) => failure,
        other => panic!("{line:?}: {other:?}"),
    }
}

const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
/// One byte more than fits into a value.
const LONG: &str = match core::str::from_utf8(&[b'x'; 997]) {
    Ok(text) => text,
    Err(_) => "",
};
const HASH: &str = "d984f67af9917b214cd8b6048ab5624c7df6a07a";

#[test]
fn the_definition_is_sound() {
    definition("trackerless").debug_assert();
}

#[test]
fn every_command_is_understood() {
    for line in [
        &[
            "download",
            HASH,
            "-o",
            "x",
            "--select",
            "0,2-5",
            "--seed-ratio",
            "1.5",
        ][..],
        &[
            "download",
            HASH,
            "--no-pex",
            "--no-lsd",
            "--no-trackers",
            "--no-utp",
            "--encryption",
            "prefer",
            "-q",
        ],
        &["seed", "a.torrent", "--data", ".", "--super-seed"],
        &["seed", "a.torrent", "--data", ".", "--upload-limit", "1M"],
        &[
            "create",
            "a",
            "-o",
            "b",
            "--node",
            "a.example:1, 127.0.0.1:2",
        ],
        &["show", HASH, "--magnet"],
        &["verify", "a.torrent", "--data", ".", "--json"],
        &["metadata", HASH, "-o", "x", "--peer", "127.0.0.1:1"],
        &[
            "dht",
            "run",
            "--router",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
        ],
        &["dht", "ping", "127.0.0.1:1"],
        &["dht", "find-node", HASH],
        &["dht", "get-peers", HASH, "--bootstrap", "127.0.0.1:1"],
        &["dht", "announce", HASH, "--port", "5"],
        &["dht", "sample", "127.0.0.1:1", "--json"],
        &["dht", "get", HASH, "--salt", "s"],
        &["dht", "get", KEY],
        &["dht", "put", "Hello World!", "--bootstrap", "127.0.0.1:1"],
        &[
            "dht", "put", "x", "--key", "f", "--salt", "s", "--seq", "0", "--cas", "3",
        ],
        &["dht", "scrape", HASH],
        &["demo", "--nodes", "10"],
        &["completions", "bash"],
    ] {
        assert!(parse(line).is_ok(), "{line:?}: {:?}", parse(line));
    }
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_the_near_miss() {
    for (line, says) in [
        (&["downlod", HASH][..], "download"),
        (&["download", HASH, "--outptu", "x"], "--output"),
        (&["download", HASH, "--listen", "6881"], "IP:PORT"),
        (&["download", HASH, "--peer", "1.2.3.4:0"], "--peer"),
        (&["download", HASH, "--download-limit", "fast"], "1.5M"),
        (&["download", HASH, "--max-peers", "0"], "--max-peers"),
        (&["download", HASH, "-q", "-v"], "cannot be used with"),
        (&["dht", "get-peers", "xyz"], "40 hexadecimal"),
        (&["dht", "announce", HASH, "--port", "0"], "--port"),
        (&["dht", "sample", "127.0.0.1"], "IP:PORT"),
        (&["dht", "sample", "127.0.0.1:0"], "ADDR:PORT"),
        (&["dht", "get", "xyz"], "40 hexadecimal"),
        (&["dht", "get", &KEY[1..]], "public key of 64"),
        (&["dht", "put", LONG], "at most 996"),
        (&["dht", "put", "x", "--salt", "s"], "--key"),
        (&["dht", "put", "x", "--seq", "1"], "--key"),
        (&["dht", "put", "x", "--key", "f", "--cas", "-1"], "--cas"),
        (
            &["dht", "put", "x", "--key", "f", "--salt", &LONG[..65]],
            "at most 64",
        ),
        (&["dht", "scrape"], "HASH"),
        (
            &["create", "a", "-o", "b", "--tracker", "ftp://x"],
            "udp://",
        ),
        (
            &["create", "a", "-o", "b", "--node", "nowhere"],
            "HOST:PORT",
        ),
        (
            &["download", HASH, "--encryption", "on"],
            "off, allow, prefer or require",
        ),
        (&[], "subcommands: download, seed"),
        (&["dht"], "subcommands: run, ping"),
        (&["demo", "--size", "100G"], "1G"),
        (&["demo", "--size", "0"], "1 byte"),
        (
            &["create", "a", "-o", "b", "--v2", "--hybrid"],
            "cannot be used with",
        ),
    ] {
        let failure = wrong(line);
        assert_eq!(failure.code, USAGE);
        assert!(failure.message.contains(says), "{line:?}: {failure}");
        assert!(!failure.message.contains('\n'), "{failure}");
    }
}

#[test]
fn help_has_examples_of_the_binary() {
    let Err(Parsed::Text(help)) = parse(&["--help"]) else {
        panic!("no help");
    };
    assert!(help.contains("trackerless download"));
    for command in [
        &["download"][..],
        &["seed"],
        &["create"],
        &["show"],
        &["verify"],
        &["metadata"],
        &["dht", "run"],
        &["dht", "ping"],
        &["dht", "find-node"],
        &["dht", "get-peers"],
        &["dht", "announce"],
        &["dht", "sample"],
        &["dht", "get"],
        &["dht", "put"],
        &["dht", "scrape"],
        &["demo"],
    ] {
        let Err(Parsed::Text(help)) = parse(&[command, &["--help"]].concat()) else {
            panic!("no help");
        };
        let example = format!("\n  trackerless {} ", command.join(" "));
        assert!(
            help.contains("Example") && help.contains(&example),
            "{help}"
        );
        // An example that is no command would help nobody.
        let lines = help
            .lines()
            .filter_map(|line| line.strip_prefix("  trackerless "));
        for line in lines {
            let line = line
                .replace('\'', "")
                .replace("My album", "album")
                .replace("Hello World!", "Hello")
                .replace("version 2", "version-2")
                .replace(", ", ",");
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(parse(&words).is_ok(), "{line}: {:?}", parse(&words));
        }
    }
    let Err(Parsed::Text(help)) = parse(&["download", "--help"]) else {
        panic!("no help");
    };
    assert!(help.contains("--bootstrap"));
    // What is not there yet says so, and 0 is told to be no limit.
    let lines: Vec<&str> = help.lines().map(str::trim).collect();
    let about = |option: &str| {
        let at = lines.iter().position(|line| line.starts_with(option));
        lines[at.unwrap_or_else(|| panic!("no {option}"))..].join(" ")
    };
    let begins = |option: &str| about(option).chars().take(200).collect::<String>();
    for option in ["--no-utp", "--no-tcp"] {
        assert!(begins(option).contains("this version"), "{option}");
    }
    assert!(begins("--encryption").contains("default: allow"));
    assert!(begins("--download-limit").contains("0: no limit"));
    assert!(begins("--upload-limit").contains("0: no limit"));
    let Err(Parsed::Text(help)) = parse(&["seed", "--help"]) else {
        panic!("no help");
    };
    let words: Vec<&str> = help.split_whitespace().collect();
    assert!(help.contains("--super-seed") && !words.join(" ").contains("not in this version yet"));
}

fn config(text: &str, given: NetArgs) -> Result<NetArgs, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let given = NetArgs {
        config: Some(path),
        ..given
    };
    given.with_config()
}

#[test]
fn the_file_fills_in_what_the_command_line_left_open() {
    let text = "listen = [\"127.0.0.1:1\"]\nupload-limit = \"2M\"\ndownload-limit = 5\n\
                no-dht = true\nbootstrap = [\"a.example:1\"]\nencryption = \"require\"\n";
    let given = NetArgs {
        upload_limit: Some(7),
        ..NetArgs::default()
    };
    let net = config(text, given).unwrap();
    assert_eq!(net.listen, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!((net.upload_limit, net.download_limit), (Some(7), Some(5)));
    assert!(net.no_dht && !net.no_tcp);
    assert_eq!(net.encryption, Some(EncryptionMode::Require));
    assert_eq!(net.contacts().count(), 1);
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    for (text, says) in [
        ("lab = true\nlistem = []", ":2: unknown field `listem`"),
        ("\n\nlisten = [\"nope\"]", ":3: listen: expected IP:PORT"),
        ("max-peers = 0", ":1: "),
        ("max-peers = -1", ":1: max-peers: "),
        ("\nno-dht = \"yes\"", ":2: no-dht: invalid type"),
        ("bootstrap = \"a:1\"", ":1: bootstrap: "),
        ("upload-limit = \"quick\"", "upload-limit: expected a size"),
        ("lab = ", ":1: "),
        ("\nencryption = \"of\"", ":2: encryption: expected off"),
    ] {
        let failure = config(text, NetArgs::default()).unwrap_err();
        assert_eq!(failure.code, USAGE);
        assert!(failure.message.contains(says), "{text:?}: {failure}");
        assert!(!failure.message.contains('\n'), "{failure}");
    }
}

#[test]
fn shell_completions_name_every_question_to_the_dht() {
    use clap_complete::Shell;

    let text = |shell: Shell| {
        let mut out = Vec::new();
        clap_complete::generate(shell, &mut definition("program"), "program", &mut out);
        String::from_utf8(out).unwrap()
    };
    let (bash, fish) = (text(Shell::Bash), text(Shell::Fish));
    let (zsh, elvish) = (text(Shell::Zsh), text(Shell::Elvish));
    let powershell = text(Shell::PowerShell);
    for name in ["sample", "get", "put", "scrape"] {
        // What each shell is offered after `dht`; `get` is a part of other words.
        let bash_has = |line: &str| {
            let words = line.trim().strip_prefix("opts=\"").unwrap_or_default();
            let words: Vec<&str> = words.trim_end_matches('"').split(' ').collect();
            words.contains(&"find-node") && words.contains(&name)
        };
        assert!(bash.lines().any(bash_has), "bash: {name}");
        assert!(zsh.contains(&format!("\n'{name}:")), "zsh: {name}");
        let offered = "using_subcommand dht; and not __fish_seen_subcommand_from run";
        let wanted = format!("-a \"{name}\"");
        let fish_has = |line: &str| line.contains(offered) && line.contains(&wanted);
        assert!(fish.lines().any(fish_has), "fish: {name}");
        assert!(
            elvish.contains(&format!("'program;dht;{name}'")),
            "elvish: {name}"
        );
        assert!(
            powershell.contains(&format!("'program;dht;{name}'")),
            "powershell: {name}"
        );
    }
}
