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
    assert_eq!((found.ok, found.bad, found.missing), (5, vec![], vec![]));

    // One byte of the second piece, and the end of the content.
    let mut one = vec![1u8; 30_000];
    one[20_000] = 0;
    fs::write(folder.path().join("album/a one"), one).unwrap();
    fs::write(folder.path().join("album/b/two"), vec![2u8; 39_999]).unwrap();
    let found = verify(&created.torrent, folder.path()).unwrap();
    assert_eq!((found.ok, found.bad, found.missing), (3, vec![1], vec![4]));
}

#[test]
fn a_link_shows_what_it_tells() {
    let text = "magnet:?xt=urn:btih:d984f67af9917b214cd8b6048ab5624c7df6a07a&dn=a%20b";
    let shown = show_json(&Source::read(text).unwrap());
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
        assert!(create(&plan).unwrap_err().message.contains("not a link"));
    }
}
