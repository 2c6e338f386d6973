include!("seeding.rs");

use std::os::unix::process::CommandExt as _;

use sha1::Digest as _;
use trackerless_core::bencode::Writer;

/// A torrent of 64 files of 32 KiB in eight folders, and a seeder that takes seconds for it.
fn slow(folder: &Path) -> Seeder {
    for n in 0..64u64 {
        put(&folder.join("data/t"), &format!("{}/{n:02}", n / 8), &bytes(n, 32 << 10));
    }
    create(folder, "data/t", "t.torrent", &["--piece-length", "16K"]);
    Seeder::start(folder, "t.torrent", "data", &["--upload-limit", "400K"])
}

/// A download into `out` of which some is there, but not all.
fn half(folder: &Path, seeder: &Seeder) -> Seeder {
    let line = ["download", "t.torrent", "-o", "out", "--state-dir", "state", "--peer"];
    let some = |event: &Value| {
        event["event"] == "progress" && event["done"].as_u64() > Some(300_000)
    };
    Seeder::ready(folder, &[&line[..], &[&seeder.address]].concat(), some).0
}

/// What ended a command: its only error, after which it told nothing more of the kind.
fn only_error(told: &[Value]) -> String {
    let errors: Vec<&Value> = told.iter().filter(|event| event["event"] == "error").collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    errors[0]["message"].as_str().expect("a text").to_owned()
}

/// The same command again does what is left to do.
fn goes_on(folder: &Path, seeder: &Seeder) {
    downloaded(folder, "t.torrent", "out", &["--peer", &seeder.address]);
    assert_same(&tree(&folder.join("data/t")), &tree(&folder.join("out/t")));
}

/// Removes a folder that somebody writes to: first it goes elsewhere, or it would fill again.
fn take_away(folder: &Path, gone: &Path) {
    let elsewhere = folder.join("elsewhere");
    fs::rename(gone, &elsewhere).expect("it can be moved");
    fs::remove_dir_all(&elsewhere).expect("it can be removed");
}

#[test]
fn a_folder_that_is_removed_ends_a_download_and_is_made_again_by_the_next() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = slow(folder);
    for gone in ["out/t", "out", "out/t/0"] {
        let download = half(folder, &seeder);
        let first = fs::read_dir(folder.join("out/t")).expect("it is there").next();
        let first = first.expect("something is there").expect("it can be read").path();
        // Whichever folder was begun, where one of the inner ones is to go.
        let gone = match gone {
            "out/t/0" => first,
            gone => folder.join(gone),
        };
        take_away(folder, &gone);
        let (status, told) = download.end();
        assert_eq!(status, Some(1), "{}: {told:?}", gone.display());
        let reason = only_error(&told);
        assert!(reason.contains("removed"), "{reason}");
        let complete = told.iter().any(|event| event["event"] == "complete");
        assert!(!complete, "{told:?}");
        let _ = fs::remove_dir_all(folder.join("out"));
    }
    let download = half(folder, &seeder);
    take_away(folder, &folder.join("out/t"));
    assert_eq!(download.end().0, Some(1));
    goes_on(folder, &seeder);
}

/// Root may do everything: then the commands are run as somebody else.
#[test]
fn permission_that_is_lost_ends_a_download_which_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = slow(folder);
    const NOBODY: u32 = 65_534;
    let is_root = Command::new("id").arg("-u").output().expect("id runs").stdout == b"0\n";
    let mode = |path: &str, mode: u32| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.join(path), mode).expect("it is ours");
    };
    mode(".", 0o777);
    let more = ["--peer", &seeder.address, "--record", "out/recording"];
    let line = ["download", "t.torrent", "-o", "out/in", "--state-dir", "out/state"];
    // Where the command is, nobody else may look.
    fs::copy(BINARY, folder.join("command")).expect("it can be copied");
    let start = || {
        let mut command = Command::new(folder.join("command"));
        command.args([&line[..], &ALONE, &more].concat()).current_dir(folder);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it runs")
    };
    fs::create_dir(folder.join("out")).expect("it can be made");
    mode("out", 0o777);
    let folders = |to: u32| {
        let begun = fs::read_dir(folder.join("out/in/t")).expect("it is there");
        let begun = begun.map(|entry| entry.expect("it can be read").file_name());
        let begun = begun.map(|name| format!("out/in/t/{}", name.to_string_lossy()));
        begun.for_each(|path| mode(&path, to));
        mode("out/in/t", to);
    };
    let mut child = start();
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut told = Vec::new();
    for line in lines.map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).expect("an object");
        if event["event"] == "progress" && event["done"].as_u64() > Some(300_000) {
            // What is open stays open; no other file can be made any more.
            folders(0o555);
        }
        told.push(event);
    }
    assert_eq!(wait(&mut child), Some(1), "{told:?}");
    let reason = only_error(&told);
    assert!(reason.contains("permissions"), "{reason}");

    folders(0o777);
    let output = start().wait_with_output().expect("it ends");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_same(&tree(&folder.join("data/t")), &tree(&folder.join("out/in/t")));
}

/// Whoever seeds notices what it reads: others would be sent wrong bytes, and ban it for them.
#[test]
fn content_that_changes_under_a_seeder_is_told_once_and_not_served() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    for change in ["touched", "written", "cut", "removed", "replaced"] {
        let content = bytes(1, 1 << 20);
        put(folder, "data/file", &content);
        create(folder, "data/file", "t.torrent", &["--piece-length", "16K"]);
        let seeder = Seeder::start(folder, "t.torrent", "data", &["--upload-limit", "200K"]);
        let download = half(folder, &seeder);
        let file = folder.join("data/file");
        match change {
            "touched" => fs::write(&file, &content).expect("it is ours"),
            "written" => {
                let mut other = content.clone();
                other[700_000..].fill(7);
                fs::write(&file, other).expect("it is ours");
            }
            "cut" => fs::write(&file, &content[..100_000]).expect("it is ours"),
            "removed" => fs::remove_file(&file).expect("it is ours"),
            _ => {
                put(folder, "new", &bytes(2, 1 << 20));
                fs::rename(folder.join("new"), &file).expect("it is ours");
            }
        }
        if change == "touched" {
            // It is what it was: nobody has to notice.
            let (status, told) = download.end();
            assert_eq!(status, Some(0), "{told:?}");
            assert_eq!(seeder.stop(), Some(130));
            assert!(fs::read(folder.join("out/file")).expect("it is there") == content);
            fs::remove_dir_all(folder.join("out")).expect("it is ours");
            continue;
        }
        let (status, told) = seeder.end();
        assert_eq!(status, Some(1), "{change}: {told:?}");
        let reason = only_error(&told);
        assert!(reason.contains("changed"), "{change}: {reason}");

        // Nothing wrong was sent, and a seeder of what it was ends the download.
        put(folder, "data/file", &content);
        assert_eq!(download.stop(), Some(130));
        let seeder = Seeder::start(folder, "t.torrent", "data", &[]);
        let fetched = downloaded(folder, "t.torrent", "out", &["--peer", &seeder.address]);
        assert!(fetched < 1 << 20, "{fetched}");
        assert!(fs::read(folder.join("out/file")).expect("it is there") == content);
        fs::remove_dir_all(folder.join("out")).expect("it is ours");
    }
}

/// Space that is reserved first is there for the files, and none but those wanted.
#[test]
fn space_can_be_reserved_first() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = slow(folder);
    let line = ["download", "t.torrent", "-o", "out", "--state-dir", "state", "--preallocate"];
    let line = [&line[..], &["--select", "8-15"]].concat();
    // Nobody is there to fetch anything from.
    let checked = |event: &Value| event["event"] == "verified";
    let (download, _) = Seeder::ready(folder, &line, checked);
    let at = folder.join("out/t");
    let names: Vec<String> = tree(&at).into_keys().collect();
    assert_eq!(names.len(), 9, "{names:?}");
    for n in 8..16 {
        let meta = fs::metadata(at.join(format!("1/{n:02}"))).expect("it is there");
        assert_eq!(meta.len(), 32 << 10);
        assert!(meta.blocks() * 512 >= 32 << 10, "{} blocks", meta.blocks());
    }
    assert_eq!(download.stop(), Some(130));
    downloaded(folder, "t.torrent", "out", &["--peer", &seeder.address, "--preallocate"]);
    assert_same(&tree(&folder.join("data/t")), &tree(&at));
}

const HUGE: u64 = 2 << 40;
const HUGE_PIECE: u64 = 16 << 20;

/// A sparse file of 2 TiB, but for a few bytes at these places.
fn huge(path: &Path, places: &[u64]) -> bool {
    use std::os::unix::fs::FileExt as _;
    fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
    let file = fs::File::create(path).expect("it can be made");
    if file.set_len(HUGE).is_err() {
        return false;
    }
    for at in places {
        file.write_all_at(&bytes(*at, 50_000), *at).expect("it can be written");
    }
    true
}

/// The most memory a process had, bytes.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().split(' ').next()?.parse::<u64>().ok());
    kib.expect("a number") << 10
}

/// Nobody would wait for 2 TiB of zeros to be hashed: holes are not read.
#[test]
fn two_tebibytes_of_a_sparse_file_are_verified_seeded_and_resumed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    // In the first piece, over the end of one in the middle, and at the very end.
    let middle = HUGE / 2 + 5 * HUGE_PIECE - 20_000;
    let places = [0, middle, HUGE - 50_000];
    if !huge(&folder.join("data/file"), &places) {
        eprintln!("skipped: no file of 2 TiB can be made here");
        return;
    }
    let piece = |n: u64| {
        let mut piece = vec![0; HUGE_PIECE as usize];
        let start = n * HUGE_PIECE;
        for at in places {
            let content = bytes(at, 50_000);
            for (k, byte) in content.into_iter().enumerate() {
                if let Some(offset) = (at + k as u64).checked_sub(start)
                    && offset < HUGE_PIECE
                {
                    piece[offset as usize] = byte;
                }
            }
        }
        <[u8; 20]>::from(sha1::Sha1::digest(&piece))
    };
    let count = HUGE / HUGE_PIECE;
    let mut hashes = piece(1).repeat(count as usize);
    let with_content = [0, middle / HUGE_PIECE, middle / HUGE_PIECE + 1, count - 1];
    for n in with_content {
        hashes[n as usize * 20..][..20].copy_from_slice(&piece(n));
    }
    let mut torrent = Vec::new();
    let mut writer = Writer::new(&mut torrent);
    writer.dict().key(b"info").dict();
    writer.key(b"length").int(HUGE as i64);
    writer.key(b"name").bytes(b"file");
    writer.key(b"piece length").int(HUGE_PIECE as i64);
    writer.key(b"pieces").bytes(&hashes).end().end();
    fs::write(folder.join("t.torrent"), torrent).expect("it can be written");

    let verified = run(folder, &["verify", "t.torrent", "--data", "data"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
    let seeder = Seeder::start(folder, "t.torrent", "data", &[]);

    // Of a copy two of the four pieces are not right.
    assert!(huge(&folder.join("out/file"), &places[..1]));
    huge_end(&folder.join("out/file"), places[2]);
    let options = ["--peer", &seeder.address, "--record", "first"];
    let fetched = downloaded(folder, "t.torrent", "out", &options);
    assert_eq!(fetched, 2 * HUGE_PIECE);
    assert!(pieces_hashed(&folder.join("first")) >= count as usize);
    let verified = run(folder, &["verify", "t.torrent", "--data", "out"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
    // What is there is sparse, too, and the next start looks at none of it.
    let options = ["--record", "second"];
    assert_eq!(downloaded(folder, "t.torrent", "out", &options), 0);
    assert_eq!(pieces_hashed(&folder.join("second")), 0);
    let peak = peak(&seeder.child);
    assert!(peak < 256 << 20, "{peak} bytes of memory");
}

/// Writes what belongs at `at`.
fn huge_end(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.write_all_at(&bytes(at, 50_000), at).expect("it can be written");
}
