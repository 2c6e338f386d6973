use std::fs;
use std::path::Path;

use super::*;
use crate::source::Source;

fn made(folder: &Path, plan: CreatePlan) -> Created {
    let path = folder.join("album");
    fs::create_dir_all(path.join("b")).unwrap();
    fs::write(path.join("b/two"), vec![2u8; 40_000]).unwrap();
    fs::write(path.join("a one"), vec![1u8; 30_000]).unwrap();
    fs::write(path.join("empty"), b"").unwrap();
    create(&CreatePlan {
        path,
        piece_length: Some(16 << 10),
        ..plan
    })
    .unwrap()
}

#[test]
fn what_is_created_is_shown_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let plan = CreatePlan {
        outer: Outer {
            nodes: vec![("router.example.org".into(), 6881), ("::1".into(), 5)],
            trackers: vec![vec!["udp://t.example:1".into()]],
            comment: Some("c".into()),
            ..Outer::default()
        },
        ..CreatePlan::default()
    };
    let created = made(folder.path(), plan);
    let info = &created.torrent.info;
    let paths: Vec<String> = info.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, ["album/a one", "album/b/two", "album/empty"]);
    assert_eq!(info.piece_count, 5);

    let file = folder.path().join("album.torrent");
    fs::write(&file, &created.bytes).unwrap();
    let source = Source::read(file.to_str().unwrap()).unwrap();
    let shown = show_json(&source);
    assert_eq!(shown["name"], "album");
    assert_eq!(shown["version"], "v1");
    assert_eq!(shown["total_size"], 70_000);
    assert_eq!(shown["nodes"][1], "[::1]:5");
    assert_eq!(shown["trackers"][0][0], "udp://t.example:1");
    assert_eq!(shown["files"][0]["path"], "album/a one");
    assert_eq!(shown["info_hash_v2"], serde_json::Value::Null);
    let magnet = shown["magnet"].as_str().unwrap();
    let hash = shown["info_hash_v1"].as_str().unwrap();
    assert!(magnet.contains(&format!("xt=urn:btih:{hash}")));
    assert!(magnet.contains("dht="), "{magnet}");

    let found = verify(&created.torrent, folder.path()).unwrap();
    assert_eq!(
        found,
        Verified {
            ok: 5,
            ..Verified::default()
        }
    );

    // One byte of the second piece, and the end of the content.
    let mut one = vec![1u8; 30_000];
    one[20_000] = 0;
    fs::write(folder.path().join("album/a one"), one).unwrap();
    fs::write(folder.path().join("album/b/two"), vec![2u8; 39_999]).unwrap();
    let found = verify(&created.torrent, folder.path()).unwrap();
    assert_eq!((found.ok, found.bad, found.missing), (3, vec![1], vec![4]));
}

#[test]
fn every_format_is_created_verified_and_told_apart_from_damage() {
    use trackerless_core::metainfo::Version;
    // Between two files, and in a hybrid after the last one.
    for (version, word, padding) in [
        (Version::V1, "v1", 0),
        (Version::V2, "v2", 1),
        (Version::Hybrid, "hybrid", 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let plan = CreatePlan {
            version,
            ..CreatePlan::default()
        };
        let created = made(folder.path(), plan);
        let info = &created.torrent.info;
        assert_eq!((info.version, info.piece_count), (version, 5));
        let pads = info.files.iter().filter(|file| file.pad).count();
        assert_eq!(pads, padding, "{word}");
        let layers = &created.torrent.piece_layers;
        assert_eq!(layers.len(), if version == Version::V1 { 0 } else { 2 });
        let file = folder.path().join("a.torrent");
        fs::write(&file, &created.bytes).unwrap();
        let shown = show_json(&Source::read(file.to_str().unwrap()).unwrap());
        assert_eq!(shown["version"], word);
        assert_eq!(shown["total_size"], 70_000);
        assert!(verify(&created.torrent, folder.path()).unwrap().is_right());

        let mut two = vec![2u8; 40_000];
        two[39_999] = 0;
        fs::write(folder.path().join("album/b/two"), two).unwrap();
        let found = verify(&created.torrent, folder.path()).unwrap();
        assert_eq!((found.ok, found.bad), (4, vec![4]), "{word}");
    }
}

#[test]
fn files_that_no_piece_tells_of_are_verified_too() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = made(folder.path(), CreatePlan::default()).torrent;
    let files = || verify(&torrent, folder.path()).unwrap().files;
    assert!(files().is_empty());
    let empty = folder.path().join("album/empty");
    fs::remove_file(&empty).unwrap();
    assert_eq!(files(), [2]);
    fs::write(&empty, b"no more").unwrap();
    assert_eq!(files(), [2]);
    fs::write(&empty, b"").unwrap();
    fs::write(folder.path().join("album/b/two"), vec![2u8; 40_001]).unwrap();
    assert_eq!(files(), [1]);
    assert_eq!(verify(&torrent, folder.path()).unwrap().ok, 5);
}

#[test]
fn names_that_are_one_file_elsewhere_are_taken_and_found_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("K"), b"1").unwrap();
    fs::write(path.join("k"), b"2").unwrap();
    let plan = CreatePlan {
        path,
        ..CreatePlan::default()
    };
    let torrent = create(&plan).unwrap().torrent;
    let files = &torrent.info.files;
    assert_eq!(
        (&*files[0].path.join("/"), &files[0].given_name),
        ("x/K", &None)
    );
    let given = Some("k".to_owned());
    assert_eq!(
        (&*files[1].path.join("/"), &files[1].given_name),
        ("x/k.1", &given)
    );
    assert!(verify(&torrent, folder.path()).unwrap().is_right());
    // As it is downloaded.
    fs::rename(folder.path().join("x/k"), folder.path().join("x/k.1")).unwrap();
    assert!(verify(&torrent, folder.path()).unwrap().is_right());
    fs::remove_file(folder.path().join("x/k.1")).unwrap();
    let found = verify(&torrent, folder.path()).unwrap();
    assert_eq!((found.ok, found.missing_files), (0, vec![1]));
}

#[test]
fn a_link_shows_what_it_tells() {
    let text = "magnet:?xt=urn:btih:d984f67af9917b214cd8b6048ab5624c7df6a07a&dn=a%20b";
    let shown = show_json(&Source::read(text).unwrap());
    // A scheme is read in either case.
    let loud = text.replacen("magnet:", "MAGNET:", 1);
    let same = show_json(&Source::read(&loud).unwrap());
    assert_eq!(same, shown);
    assert_eq!(shown["name"], "a b");
    assert_eq!(shown["files"], serde_json::Value::Null);
    assert_eq!(
        shown["info_hash_v1"],
        "d984f67af9917b214cd8b6048ab5624c7df6a07a"
    );
}

#[test]
fn creating_is_repeatable_and_refuses_what_no_torrent_can_hold() {
    let folder = tempfile::tempdir().unwrap();
    let first = made(folder.path(), CreatePlan::default());
    let second = made(folder.path(), CreatePlan::default());
    assert_eq!(first.bytes, second.bytes);
    let private = CreatePlan {
        private: true,
        ..CreatePlan::default()
    };
    let private = made(folder.path(), private);
    assert!(private.torrent.info.private);
    assert_ne!(private.torrent.info.hashes, first.torrent.info.hashes);

    for plan in [
        CreatePlan {
            path: folder.path().join("nothing"),
            ..CreatePlan::default()
        },
        CreatePlan {
            path: folder.path().join("album/empty"),
            ..CreatePlan::default()
        },
        CreatePlan {
            path: folder.path().join("album"),
            name: Some("../up".into()),
            ..CreatePlan::default()
        },
        CreatePlan {
            path: folder.path().join("album"),
            piece_length: Some(1000),
            ..CreatePlan::default()
        },
    ] {
        let failure = create(&plan).unwrap_err();
        assert_eq!(failure.code, crate::error::USAGE, "{failure}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/", folder.path().join("album/link")).unwrap();
        let plan = CreatePlan {
            path: folder.path().join("album"),
            ..CreatePlan::default()
        };
        let failure = create(&plan).unwrap_err();
        assert!(
            failure
                .message
                .contains("album/link: expected a link to something else in")
        );
    }
}

/// Links that lead to links, and those that go further up than they must.
#[cfg(unix)]
#[test]
fn a_folder_of_links_that_take_their_own_ways_verifies() {
    use std::os::unix::fs::symlink;
    let links = [
        ("L1", "d/e"),
        ("L3", "L1"),
        ("d/e/up", "../../d"),
        ("d/here", "."),
        ("d/round", "../d/./e/f"),
        ("d/e/back", "../../L1/../e/f"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lk");
    fs::create_dir_all(path.join("d/e")).unwrap();
    fs::write(path.join("d/e/f"), [7; 100]).unwrap();
    for (link, text) in links {
        symlink(text, path.join(link)).unwrap();
    }
    // Out and in again.
    symlink("../lk/d", path.join("out")).unwrap();
    symlink(path.join("d/e/f"), path.join("whole")).unwrap();
    let plan = CreatePlan {
        path: path.clone(),
        ..CreatePlan::default()
    };
    let torrent = create(&plan).unwrap().torrent;
    let found = verify(&torrent, folder.path()).unwrap();
    assert!(found.is_right(), "{found:?}");
    let listed = |link: &str| {
        let mut files = torrent.info.files.iter();
        let file = files.find(|file| file.path.join("/") == format!("lk/{link}"));
        file.and_then(|file| Some(file.symlink.as_ref()?.join("/")))
    };
    for (link, target) in [
        ("L3", "lk/L1"),
        ("d/e/up", "lk/d"),
        ("d/round", "lk/d/e/f"),
        ("d/e/back", "lk/d/e/f"),
        ("out", "lk/d"),
        ("whole", "lk/d/e/f"),
    ] {
        assert_eq!(listed(link).as_deref(), Some(target), "{link}");
    }
    // A download takes them for its own, whether what they lead to is there or not.
    for there in [true, false] {
        let info = std::sync::Arc::clone(&torrent.info);
        let store = crate::storage::FileStore::new(info, folder.path().into(), 8);
        let prepared = store.prepare().map(drop);
        assert_eq!(prepared.map_err(|error| error.kind()), Ok(()));
        if there {
            for link in ["d/e/back", "out", "whole"] {
                fs::remove_file(path.join(link)).unwrap();
            }
            fs::remove_file(path.join("d/e/f")).unwrap();
        }
    }
    // One that leads elsewhere is none of the torrent's.
    fs::remove_file(path.join("L3")).unwrap();
    symlink("d", path.join("L3")).unwrap();
    assert!(!verify(&torrent, folder.path()).unwrap().files.is_empty());
}
