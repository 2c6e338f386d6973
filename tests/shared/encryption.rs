include!("running.rs");

const LOCAL: &str = "127.0.0.1:0";

fn content(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("out/file")).expect("it is there")
}

/// Downloads from a seeder, each with its mode; whether both say that it was encrypted.
fn transfer(seeds: &str, fetches: &str) -> bool {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (expected, _) = torrent_of(folder.path(), 1 << 20);
    let mode = ["--encryption", seeds];
    let (seeder, address) = seeder(folder.path(), LOCAL, "s1", &mode);
    let line = ["download", "a.torrent", "-o", "out", "--state-dir", "saved"];
    let options = ["--listen", LOCAL, "--no-dht", "--no-lsd", "--peer", &address];
    let mode = ["--encryption", fetches];
    let download = Running::start(folder.path(), &[&line[..], &options, &mode].concat());
    let (status, told) = download.end();
    assert_eq!(status, Some(0), "{seeds} to {fetches}: {told:?}");
    assert!(content(folder.path()) == expected);
    let met = told.iter().find(|event| event["event"] == "peer_connected");
    let ours = met.expect("it met somebody")["encrypted"].as_bool();
    let theirs = seeder.until("peer_connected", |_| true)["encrypted"].as_bool();
    assert_eq!(ours, theirs, "{seeds} to {fetches}");
    ours.expect("a flag")
}

#[test]
fn who_may_speak_to_whom_does_and_says_how() {
    for (seeds, fetches, encrypted) in [
        ("allow", "allow", false),
        ("off", "off", false),
        ("off", "prefer", false),
        ("prefer", "allow", false),
        ("allow", "require", true),
        ("require", "allow", true),
        ("prefer", "prefer", true),
        ("require", "require", true),
    ] {
        let was = transfer(seeds, fetches);
        assert_eq!(was, encrypted, "{seeds} to {fetches}");
    }
}

#[test]
fn plain_text_is_refused_where_encryption_is_required_and_both_say_why() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent_of(folder.path(), 1 << 20);
    let require = ["--encryption", "require"];
    let (strict, address) = seeder(folder.path(), LOCAL, "s1", &require);
    let line = ["download", "a.torrent", "-o", "out", "--state-dir", "saved"];
    let options = ["--listen", LOCAL, "--no-dht", "--no-lsd", "--encryption"];
    let peer = ["off", "--peer", &address];
    let _plain = Running::start(folder.path(), &[&line[..], &options, &peer].concat());
    let refused = strict.until("peer_closed", |_| true);
    assert_eq!(refused["reason"], "encryption: plain text is not allowed");

    let plain = ["--encryption", "off"];
    let (_plain, address) = seeder(folder.path(), LOCAL, "s2", &plain);
    let line = ["download", "a.torrent", "-o", "out2", "--state-dir", "saved2"];
    let peer = ["require", "--peer", &address];
    let strict = Running::start(folder.path(), &[&line[..], &options, &peer].concat());
    let failed = strict.until("peer_closed", |_| true);
    assert_eq!(
        failed["reason"],
        "encryption: the peer does not answer in cipher"
    );
}

#[test]
fn a_configuration_file_may_say_so() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    torrent_of(folder.path(), 1 << 20);
    let text = "encryption = \"require\"\n";
    fs::write(folder.path().join("c.toml"), text).expect("the folder can be written");
    let (seeder, address) = seeder(folder.path(), LOCAL, "s1", &["--config", "c.toml"]);
    let line = ["download", "a.torrent", "-o", "out", "--state-dir", "saved"];
    let options = ["--listen", LOCAL, "--no-dht", "--no-lsd", "--peer", &address];
    let (status, _) = Running::start(folder.path(), &[&line[..], &options].concat()).end();
    assert_eq!(status, Some(0));
    let met = seeder.until("peer_connected", |_| true);
    assert_eq!(met["encrypted"], true);
}
