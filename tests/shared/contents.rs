include!("seeding.rs");

use std::os::unix::fs::symlink;
use std::time::SystemTime;

use sha1::Digest as _;
use trackerless_core::bencode::Writer;
use trackerless_core::metainfo::Info;

/// Names in several scripts: composed and decomposed letters, marks, right to left, no ASCII.
const NAMES: [&str; 16] = [
    "Ünïcödé.txt",
    "e\u{301}te\u{301}.txt",
    "Привет, мир",
    "Ελληνικά.ogg",
    "שלום עולם",
    "مرحبا بالعالم.pdf",
    "नमस्ते दुनिया",
    "你好，世界.flac",
    "こんにちは",
    "안녕하세요.mkv",
    "สวัสดี",
    "🦀 🎉.bin",
    "tab\u{2003}space",
    "CON",
    "a:b*c?.txt",
    "...dots and spaces. ",
];

/// 200 files and more of every kind below `folder`/album.
fn album(folder: &Path) {
    let at = folder.join("album");
    // Nothing, a byte, and whatever lies at and beside the sizes of blocks and pieces.
    let odd = [0, 1, 2, 7, 999, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 50_021];
    for n in 0..200 {
        let size = odd[n % odd.len()] + if n % 5 == 0 { n % 3 } else { 0 };
        put(&at, &format!("many/{:02}/{n:03}.bin", n % 17), &bytes(n as u64, size));
    }
    for (n, name) in NAMES.iter().enumerate() {
        put(&at, &format!("names/{name}"), &bytes(1000 + n as u64, 3_001 + n));
        put(&at, &format!("names/in {n}/{name}/{name}"), &bytes(2000 + n as u64, n));
    }
    let deep: String = (0..40).map(|n| format!("folder {n}/")).collect();
    put(&at, &format!("{deep}far below"), &bytes(3000, 12_345));
    put(&at, &format!("{}.txt", "long ".repeat(47)), &bytes(3001, 77));
    put(&at, "run me.sh", b"#!/bin/sh\nexit 0\n");
    put(&at, "tools/empty.sh", b"");
    for path in ["run me.sh", "tools/empty.sh"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at.join(path), mode).expect("it is ours");
    }
    for (link, target) in [
        ("to a file", "many/03/003.bin"),
        ("many/up and down", "../names/Ünïcödé.txt"),
        ("tools/beside", "empty.sh"),
        ("tools/to a folder", "../many/00"),
    ] {
        symlink(target, at.join(link)).expect("it can be made");
    }
}

/// When everything below `folder` was changed last.
fn times(folder: &Path) -> BTreeMap<String, SystemTime> {
    let times = tree(folder).into_keys().map(|path| {
        let meta = fs::symlink_metadata(folder.join(&path)).expect("it is there");
        (path, meta.modified().expect("it is known"))
    });
    times.collect()
}

#[test]
fn every_kind_of_file_arrives_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    album(folder);
    let wanted = tree(&folder.join("album"));
    for (format, padded) in [("--v1", false), ("--hybrid", true)] {
        let shown = create(folder, "album", "a.torrent", &[format, "--piece-length", "32K"]);
        let files = shown["files"].as_array().expect("a list");
        assert_eq!(files.iter().any(|file| file["pad"] == true), padded, "{format}");
        let seeder = Seeder::start(folder, "a.torrent", ".", &[]);
        let magnet = run(folder, &["show", "a.torrent", "--magnet"]);
        let magnet = text(&magnet.stdout).trim().to_owned();
        for (source, out) in [("a.torrent", "by file"), (&magnet[..], "by link")] {
            let out = format!("{out} {format}");
            downloaded(folder, source, &out, &["--peer", &seeder.address]);
            // Nothing besides: no padding, no file of our own.
            assert_same(&wanted, &tree(&folder.join(&out).join("album")));
            assert_eq!(fs::read_dir(folder.join(&out)).expect("it is there").count(), 1);
            let verified = run(folder, &["verify", "a.torrent", "--data", &out]);
            assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
            // Once more: it is all there, and nothing of it is touched.
            let before = times(&folder.join(&out));
            assert_eq!(downloaded(folder, source, &out, &[]), 0);
            assert_eq!(before, times(&folder.join(&out)));
        }
        seeder.stop();
        // Whoever has downloaded it can seed it.
        Seeder::start(folder, "a.torrent", &format!("by link {format}"), &[]).stop();
    }
}

#[test]
fn every_piece_length_transfers() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    for shift in 14..=24 {
        let length = 1usize << shift;
        let content = bytes(shift, length + 12_345);
        put(folder, "data/file", &content);
        let piece_length = length.to_string();
        let shown = create(folder, "data/file", "a.torrent", &["--piece-length", &piece_length]);
        assert_eq!((&shown["piece_length"], &shown["pieces"]), (&length.into(), &2.into()));
        let seeder = Seeder::start(folder, "a.torrent", "data", &[]);
        downloaded(folder, "a.torrent", "out", &["--peer", &seeder.address]);
        assert!(fs::read(folder.join("out/file")).expect("it is there") == content, "{length}");
        fs::remove_file(folder.join("out/file")).expect("it is there");
    }
}

/// One file as a torrent lists it, its elements as they are.
struct Listed {
    path: &'static [&'static [u8]],
    attr: &'static str,
    length: usize,
    /// Target of a link.
    link: &'static [&'static [u8]],
}

const fn file(path: &'static [&'static [u8]], length: usize) -> Listed {
    Listed { path, attr: "", length, link: &[] }
}

/// Writes a torrent of these files called `name`; returns the content in piece order, with zeros
/// for padding.
fn torrent_of(at: &Path, name: &[u8], files: &[Listed]) -> Vec<Vec<u8>> {
    const PIECE: usize = 16 << 10;
    let contents: Vec<Vec<u8>> = files
        .iter()
        .enumerate()
        .map(|(n, file)| match file.attr {
            "p" => vec![0; file.length],
            _ => bytes(4000 + n as u64, file.length),
        })
        .collect();
    let hashes: Vec<u8> = contents
        .concat()
        .chunks(PIECE)
        .flat_map(|piece| <[u8; 20]>::from(sha1::Sha1::digest(piece)))
        .collect();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    let path = |writer: &mut Writer<'_>, key: &[u8], path: &[&[u8]]| {
        writer.key(key).list();
        path.iter().for_each(|element| _ = writer.bytes(element));
        writer.end();
    };
    writer.dict().key(b"info").dict().key(b"files").list();
    for file in files {
        writer.dict();
        if !file.attr.is_empty() {
            writer.key(b"attr").bytes(file.attr.as_bytes());
        }
        writer.key(b"length").int(file.length as i64);
        path(&mut writer, b"path", file.path);
        if !file.link.is_empty() {
            path(&mut writer, b"symlink path", file.link);
        }
        writer.end();
    }
    writer.end();
    writer.key(b"name").bytes(name);
    writer.key(b"piece length").int(PIECE as i64);
    writer.key(b"pieces").bytes(&hashes);
    writer.end().end();
    fs::write(at, out).expect("it can be written");
    contents
}

/// Padding (BEP 47) is zeros: nobody is asked for it, and whole pieces of it are simply there.
#[test]
fn padding_is_not_fetched() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    for n in 0..40 {
        put(folder, &format!("small/{n:02}"), &bytes(n, 1_000));
    }
    create(folder, "small", "a.torrent", &["--hybrid", "--piece-length", "256K"]);
    let padding = Listed { attr: "p", ..file(&[b".pad", b"100000"], 100_000) };
    let files = [file(&[b"first"], 10), padding, file(&[b"second"], 20_000)];
    let contents = torrent_of(&folder.join("b.torrent"), b"wide", &files);
    put(folder, "wide/first", &contents[0]);
    put(folder, "wide/second", &contents[2]);
    // Of each small file the one block that it is in.
    for (torrent, name, fetched) in [
        ("a.torrent", "small", 40 * 16_384),
        // Of pieces of a block each: the first, and those that the second file lies in.
        ("b.torrent", "wide", 16_384 + (120_010 - 98_304)),
    ] {
        let seeder = Seeder::start(folder, torrent, ".", &[]);
        assert_eq!(downloaded(folder, torrent, "out", &["--peer", &seeder.address]), fetched);
        assert_same(&tree(&folder.join(name)), &tree(&folder.join("out").join(name)));
        seeder.stop();
        // Once more: nothing of it is missing.
        assert_eq!(downloaded(folder, torrent, "out", &[]), 0);
    }
}

/// Names that are one name on some file system or none on any, links and paths that lead out: all
/// of them end below the folder, each in a place of its own, and the same place for everybody.
#[test]
fn hostile_and_colliding_names_have_one_place_each() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let files = [
        file(&[b"Readme"], 20_001),
        file(&[b"README"], 5),
        file(&[b"readme"], 0),
        file(&[b"\xc3\xa9.txt"], 300),
        file(&[b"e\xcc\x81.txt"], 301),
        Listed { attr: "p", ..file(&[b".pad", b"9000"], 9_000) },
        Listed { attr: "x", ..file(&[b"..", b"..", b"bin", b"sh"], 40_000) },
        file(&[b"/etc/passwd"], 11),
        file(&[b"bin"], 12),
        file(&[b"."], 13),
        file(&[b"\xff\xfe.bin"], 14),
        file(&[b"a\0b"], 15),
        file(&[b"gnp.\xe2\x80\xae.exe"], 16),
        file(&[b"nul"], 17),
        Listed { attr: "l", link: &[b"README"], ..file(&[b"l1"], 0) },
        Listed { attr: "l", link: &[b"..", b"..", b"etc"], ..file(&[b"bin", b"l2"], 0) },
        // A link to what is another name by then, and a file that would be written through it.
        Listed { attr: "l", link: &[b"bin"], ..file(&[b"way"], 0) },
        file(&[b"way", b"through"], 18),
    ];
    let contents = torrent_of(&folder.join("a.torrent"), b"../../name/", &files);
    let places = [
        "Readme", "README.1", "readme.2", "é.txt", "e\u{301}.1.txt", "", "bin/sh", "etcpasswd",
        "bin.1", "_", "_.bin", "a_b", "gnp..exe", "nul", "l1", "bin/l2", "way.1", "way/through",
    ];
    let links = [("l1", "README.1"), ("bin/l2", "../etc"), ("way.1", "bin.1")];

    let root = "....name";
    let data = folder.join("data").join(root);
    for ((place, content), listed) in places.iter().zip(&contents).zip(&files) {
        if place.is_empty() || listed.attr == "l" {
            continue;
        }
        put(&data, place, content);
        if listed.attr == "x" {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(data.join(place), mode).expect("it is ours");
        }
    }
    for (link, target) in links {
        symlink(target, data.join(link)).expect("it can be made");
    }
    let shown = run(folder, &["show", "a.torrent", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("one object");
    let shown = shown["files"].as_array().expect("a list");
    for (place, shown) in places.iter().zip(shown) {
        assert_eq!(shown["pad"], place.is_empty(), "{shown}");
        if !place.is_empty() {
            assert_eq!(shown["path"], format!("{root}/{place}"));
        }
    }
    let for_people = text(&run(folder, &["show", "a.torrent"]).stdout);
    assert!(for_people.contains("(padding, not written)"), "{for_people}");
    assert!(for_people.contains("bin/sh (executable)"), "{for_people}");

    // The seeder finds what the leecher makes.
    let verified = run(folder, &["verify", "a.torrent", "--data", "data"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stderr));
    let seeder = Seeder::start(folder, "a.torrent", "data", &[]);
    downloaded(folder, "a.torrent", "out", &["--peer", &seeder.address]);
    assert_same(&tree(&folder.join("data")), &tree(&folder.join("out")));
    assert_eq!(downloaded(folder, "a.torrent", "out", &[]), 0);
    // A link that was led elsewhere is none of the torrent's.
    let link = folder.join("out").join(root).join("l1");
    fs::remove_file(&link).and_then(|()| symlink("/etc/passwd", &link)).expect("it is ours");
    let verified = run(folder, &["verify", "a.torrent", "--data", "out"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified.stdout).contains("a symbolic link to README.1"));
    let (status, told) = download(folder, "a.torrent", "out", &[]);
    assert_eq!(status, Some(1), "{told:?}");
    assert_eq!(fs::read_link(&link).expect("it is there"), Path::new("/etc/passwd"));
}

/// What the commands write of a link's target is read through the same rules.
#[test]
fn links_that_lead_out_are_refused_unless_they_are_followed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    put(folder, "outside/secret", &bytes(1, 100));
    put(folder, "in/file", &bytes(2, 200));
    let make = |more: &[&str]| {
        let line = ["create", "in", "-o", "in.torrent", "--node", "127.0.0.1:9"];
        run(folder, &[&line[..], more].concat())
    };
    for (target, reason) in [
        ("../outside/secret", "--follow-symlinks"),
        ("/etc", "--follow-symlinks"),
        ("..", "--follow-symlinks"),
        (".", "--follow-symlinks"),
        ("nothing", "leads nowhere"),
        ("link", "leads nowhere"),
    ] {
        symlink(target, folder.join("in/link")).expect("it can be made");
        let refused = make(&[]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{target}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("in/link") && said.contains(reason), "{target}: {said}");
        fs::remove_file(folder.join("in/link")).expect("it is there");
    }
    symlink("../outside", folder.join("in/link")).expect("it can be made");
    let made = make(&["--follow-symlinks"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let raw = fs::read(folder.join("in.torrent")).expect("it is there");
    let torrent = trackerless_core::metainfo::Torrent::parse(raw.into()).expect("it is one");
    let info: &Info = &torrent.info;
    let paths: Vec<String> = info.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, ["in/file", "in/link/secret"]);
    assert!(info.files.iter().all(|file| file.symlink.is_none()));
    // It is read through the link, too.
    Seeder::start(folder, "in.torrent", ".", &[]);
    // Round and round is an end.
    symlink("..", folder.join("outside/up")).expect("it can be made");
    let refused = make(&["--follow-symlinks"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("a folder that it lies in"), "{said}");
}
