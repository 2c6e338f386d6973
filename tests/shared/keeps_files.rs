use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

include!("commands.rs");

const HASH: &str = "d2354010a3ca4ade5b7427bb093a62a3899ff381";
/// Reserved for documentation (RFC 5737): no host has it, so nothing can be bound to it.
const NOWHERE: [&str; 2] = ["--listen", "192.0.2.1:9"];

/// Every file below `folder`, and what is in it.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path).expect("it can be read");
                found.insert(path, content);
            }
        }
    }
    found
}

/// A folder with content, a folder of content, torrents of both, a configuration and state.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("album")).expect("the folder can be written");
    fs::create_dir_all(at("s")).expect("the folder can be written");
    for (name, content) in [
        ("file", &[7; 20_000][..]),
        ("album/a", &[8; 100]),
        ("album/b", &[9; 100]),
        ("c.toml", b"lab = true\n"),
        ("s/dht.table", b"d2:id20:aaaaaaaaaaaaaaaaaaaae"),
    ] {
        fs::write(at(name), content).expect("the folder can be written");
    }
    for (path, torrent) in [("file", "file.torrent"), ("album", "album.torrent")] {
        let line = ["create", path, "-o", torrent, "--node", "127.0.0.1:9"];
        let made = run(folder.path(), &line);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
    }
    fs::hard_link(at("file"), at("hard")).expect("the folder can be written");
    std::os::unix::fs::symlink("file.torrent", at("soft")).expect("the folder can be written");
    folder
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let folder = filled();
    let before = everything(folder.path());
    let node = ["--node", "127.0.0.1:9"];
    let create = |line: &[&'static str]| [&["create"], line, &node].concat();
    for (option, line) in [
        ("--output", create(&["file", "-o", "file"])),
        ("--output", create(&["file", "-o", "album/../file"])),
        ("--output", create(&["file", "-o", "hard"])),
        ("--output", create(&["album", "-o", "album/a"])),
        ("--output", create(&["album", "-o", "album/../album/b"])),
        ("--output", create(&["file", "-o", "c.toml", "--config", "c.toml"])),
        ("--output", create(&["file", "-o", "s/dht.table", "--state-dir", "s"])),
        ("--output", vec!["metadata", HASH, "-o", "c.toml", "--config", "c.toml"]),
        ("--record", vec!["metadata", HASH, "-o", "new", "--record", "./new"]),
        ("--record", vec!["download", "file.torrent", "-o", "new", "--record", "file.torrent"]),
        ("--record", vec!["download", "file.torrent", "-o", "new", "--record", "soft"]),
        ("--record", vec!["download", "file.torrent", "--record", "hard"]),
        ("--record", vec!["download", "album.torrent", "--record", "album/b"]),
        ("--record", vec!["download", HASH, "--config", "c.toml", "--record", "c.toml"]),
        ("--record", vec!["seed", "file.torrent", "--data", ".", "--record", "file"]),
        ("--record", vec!["seed", "file.torrent", "--data", ".", "--record", "soft"]),
        ("--record", vec!["dht", "run", "--config", "c.toml", "--record", "./c.toml"]),
        ("--record", vec!["dht", "ping", "127.0.0.1:9", "--config", "c.toml", "--record", "c.toml"]),
        ("--record", vec!["dht", "run", "--state-dir", "s", "--record", "s/dht.table"]),
    ] {
        // A command that goes on would complain of this address.
        let sockets = ["download", "seed", "metadata", "dht"].contains(&line[0]);
        let line = [&line[..], &NOWHERE[..if sockets { 2 } else { 0 }]].concat();
        let output = run(folder.path(), &line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?} says {said}");
        assert_eq!(said.lines().count(), 1, "{line:?} says {said}");
        assert!(said.contains(option), "{line:?} says {said}");
        assert!(before == everything(folder.path()), "{line:?} changed a file");
    }
}

/// A torrent whose content has the name of the torrent itself.
#[test]
fn content_does_not_take_the_place_of_its_own_torrent() {
    let folder = filled();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("other")).expect("the folder can be written");
    fs::write(at("other/x.torrent"), [5; 100]).expect("the folder can be written");
    let line = ["create", "other/x.torrent", "-o", "x.torrent", "--node", "127.0.0.1:9"];
    let made = run(folder.path(), &line);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let before = everything(folder.path());
    let output = run(folder.path(), &[&["download", "x.torrent"], &NOWHERE[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--output") && said.contains("SOURCE"), "{said}");
    assert!(before == everything(folder.path()), "{said}");
}

#[test]
fn a_torrent_from_before_is_made_anew_within_its_own_folder() {
    let folder = filled();
    let line = ["create", "album", "-o", "album/album.torrent", "--node", "127.0.0.1:9"];
    let torrent = folder.path().join("album/album.torrent");
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let made = run(folder.path(), &line);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        assert!(torrent.is_file());
        hashes.push(text(&made.stdout));
    }
    assert_eq!(hashes[0], hashes[1]);
}
