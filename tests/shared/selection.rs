include!("seeding.rs");

use std::os::unix::fs::symlink;

/// Names and sizes of a torrent in pieces of 16 KiB: most pieces reach into two files or more.
const FILES: [(&str, usize); 7] = [
    ("a", 40_001),
    ("b", 30_002),
    ("c-empty", 0),
    ("d", 100_003),
    ("e", 5),
    ("f/g", 60_004),
    ("h", 50_000),
];
const PIECE: u64 = 16 << 10;

/// Makes the torrent and a seeder of it. File 7 of the torrent is a link to `d`.
fn shared(folder: &Path) -> Seeder {
    for (n, (name, size)) in FILES.iter().enumerate() {
        put(&folder.join("data/t"), name, &bytes(n as u64, *size));
    }
    symlink("d", folder.join("data/t/link")).expect("it can be made");
    let shown = create(folder, "data/t", "t.torrent", &["--piece-length", "16K"]);
    let listed = shown["files"].as_array().expect("a list").iter();
    let names: Vec<&str> = listed.filter_map(|file| file["path"].as_str()).collect();
    assert_eq!(names, ["t/a", "t/b", "t/c-empty", "t/d", "t/e", "t/f/g", "t/h", "t/link"]);
    Seeder::start(folder, "t.torrent", "data", &[])
}

/// What of the torrent's tree lies at one of `paths`.
fn only(folder: &Path, paths: &[&str]) -> BTreeMap<String, There> {
    let mut all = tree(&folder.join("data/t"));
    all.retain(|path, _| paths.contains(&path.as_str()));
    all
}

/// The files of ours beside the content in `folder`.
fn beside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths.filter(|path| !path.ends_with("t")).collect()
}

#[test]
fn only_what_is_selected_is_made_and_the_rest_can_follow() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = shared(folder);
    let out = folder.join("out");
    let peer = ["--peer", &seeder.address];
    let more = |options: &[&'static str]| [&peer[..], options].concat();

    // d and e lie in pieces that reach into b and f/g.
    let fetched = downloaded(folder, "t.torrent", "out", &more(&["--select", "3,4"]));
    assert!((100_003..=100_008 + 2 * PIECE).contains(&fetched), "{fetched}");
    assert_same(&only(folder, &["d", "e"]), &tree(&out.join("t")));
    let aside = beside(&out);
    assert_eq!(aside.len(), 1, "{aside:?}");
    // Pieces reach further than that; nothing wrong is told of them.
    let verified = run(folder, &["verify", "t.torrent", "--data", "out"]);
    let said = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(" 0 wrong, "), "{said}");
    assert!(!said.contains("t/d") && !said.contains("t/e"), "{said}");

    // Again: nothing is fetched, nothing is hashed.
    let again = ["--select", "3-4", "--record", "again"];
    assert_eq!(downloaded(folder, "t.torrent", "out", &again), 0);
    assert_eq!(pieces_hashed(&folder.join("again")), 0);

    // Another selection: what lay beside the content is in the new file, and is not fetched again.
    // b needs the pieces that it does not share with d.
    let fetched = downloaded(folder, "t.torrent", "out", &more(&["--select", "1,2,3,4,7"]));
    assert_eq!(fetched, 70_003 / PIECE * PIECE - 40_001 / PIECE * PIECE);
    let wanted = ["b", "c-empty", "d", "e", "link"];
    assert_same(&only(folder, &wanted), &tree(&out.join("t")));
    // Less than before: nothing is taken away.
    assert_eq!(downloaded(folder, "t.torrent", "out", &["--select", "4"]), 0);
    assert_same(&only(folder, &wanted), &tree(&out.join("t")));
}

#[test]
fn what_is_beside_the_content_goes_when_everything_is_there() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = shared(folder);
    let peer = ["--peer", &seeder.address];
    let mut fetched = 0;
    for select in ["6", "3", "0,5"] {
        let options = [&peer[..], &["--select", select]].concat();
        fetched += downloaded(folder, "t.torrent", "out", &options);
    }
    assert_eq!(beside(&folder.join("out")).len(), 1);
    fetched += downloaded(folder, "t.torrent", "out", &peer);
    let total: usize = FILES.iter().map(|(_, size)| size).sum();
    assert_eq!(fetched, total as u64, "no piece is fetched twice");
    assert_same(&tree(&folder.join("data/t")), &tree(&folder.join("out/t")));
    assert_eq!(beside(&folder.join("out")), Vec::<PathBuf>::new());
}

/// Whoever has only some files gives all of the pieces it has, those that reach into others too.
#[test]
fn pieces_that_reach_into_other_files_are_served() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = shared(folder);
    let magnet = text(&run(folder, &["show", "t.torrent", "--magnet"]).stdout);
    // BEP 53: the link selects.
    let link = format!("{}&so=3-4", magnet.trim());
    let line = ["download", &link, "-o", "part", "--seed", "--state-dir", "p"];
    let line = [&line[..], &["--peer", &seeder.address]].concat();
    let complete = |event: &Value| event["event"] == "complete";
    let (part, _) = Seeder::ready(folder, &line, complete);
    assert_same(&only(folder, &["d", "e"]), &tree(&folder.join("part/t")));
    seeder.stop();
    let options = ["--peer", &part.address, "--select", "3-4"];
    downloaded(folder, "t.torrent", "out", &options);
    assert_same(&only(folder, &["d", "e"]), &tree(&folder.join("out/t")));
    assert_eq!(part.stop(), Some(130));
}

/// A file that was not asked for is not touched, whatever it is: the torrent's, or somebody's.
#[test]
fn files_that_were_not_asked_for_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let seeder = shared(folder);
    let at = folder.join("out/t");
    put(&at, "a", b"somebody's, and shorter");
    put(&at, "b", &bytes(99, 1 << 20));
    put(&at, "f", b"a file in place of a folder");
    fs::create_dir(at.join("c-empty")).expect("it can be made");
    let mut wanted = tree(&at);
    let options = ["--select", "3,4", "--peer", &seeder.address];
    downloaded(folder, "t.torrent", "out", &options);
    wanted.append(&mut only(folder, &["d", "e"]));
    assert_same(&wanted, &tree(&at));
    // An empty file alone needs nobody.
    assert_eq!(downloaded(folder, "t.torrent", "new", &["--select", "2"]), 0);
    assert_same(&only(folder, &["c-empty"]), &tree(&folder.join("new/t")));
}

#[test]
fn sequential_pieces_come_in_order() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    put(folder, "data/file", &bytes(7, 2 << 20));
    create(folder, "data/file", "a.torrent", &["--piece-length", "16K"]);
    let seeder = Seeder::start(folder, "a.torrent", "data", &["--upload-limit", "256K"]);
    let line = ["download", "a.torrent", "-o", "out", "--sequential", "--state-dir", "state"];
    let some = |event: &Value| {
        event["event"] == "progress" && event["done"].as_u64() > Some(200_000)
    };
    let (download, _) =
        Seeder::ready(folder, &[&line[..], &["--peer", &seeder.address]].concat(), some);
    assert_eq!(download.stop(), Some(130));
    let verified = run(folder, &["verify", "a.torrent", "--data", "out"]);
    let said = text(&verified.stdout);
    let there: usize = said
        .rsplit_once(": ")
        .and_then(|(_, counts)| counts.split(' ').next())
        .and_then(|count| count.parse().ok())
        .expect("how many are right");
    assert!((12..128).contains(&there), "{said}");
    // The first that is not there; a few after it may have overtaken it on their way to disk.
    let content = bytes(7, 2 << 20);
    let got = fs::read(folder.join("out/file")).expect("it is there");
    let right = |piece: usize| {
        let at = piece * PIECE as usize..(piece + 1) * PIECE as usize;
        got.get(at.clone()).is_some_and(|got| *got == content[at])
    };
    let first = (0..128).find(|piece| !right(*piece)).expect("it was interrupted");
    assert!(first + 4 >= there, "{there} pieces, and {first} is missing");
}
