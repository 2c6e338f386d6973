use super::*;
use alloc::string::ToString;
use quickcheck::{Arbitrary, Gen, quickcheck};
use sha1::{Digest, Sha1};
use std::{format, vec};

fn torrent(info: &str) -> Result<Torrent, MetainfoError> {
    Torrent::parse(Bytes::from(format!("d4:info{info}e").into_bytes()))
}

#[test]
fn a_plain_torrent_is_read() {
    let pieces = "x".repeat(40);
    let info = format!("d6:lengthi30e4:name1:a12:piece lengthi16e6:pieces40:{pieces}e");
    let torrent = torrent(&info).expect("a torrent");
    assert_eq!(torrent.info.raw, info.as_bytes());
    assert_eq!(
        Info::parse(torrent.info.raw.clone()).as_ref(),
        Ok(&*torrent.info)
    );
    assert_eq!(
        (torrent.info.piece_count, torrent.info.piece_size(1)),
        (2, 14)
    );
    assert_eq!(torrent.info.files[0].path, ["a"]);
}

fn refused(info: &str) -> std::string::String {
    torrent(info).expect_err(info).to_string()
}

#[test]
fn errors_name_key_finding_expectation_and_byte() {
    let rows = [
        (
            "i5e",
            "info: found the number 5, expected a dictionary (byte 7)",
        ),
        (
            "d4:name1:a12:piece lengthi0ee",
            "info.piece length: found the number 0, expected a number from 1 to 536870912 (byte 32)",
        ),
        (
            "d6:lengthi1e4:name1:a12:piece lengthi9e6:pieces3:xyze",
            "info.pieces: found a string of 3 bytes, expected a string of 20 bytes, 20 for each \
             of 1 pieces (byte 54)",
        ),
        (
            "d5:filesld6:lengthi-1e4:pathl1:aeee4:name1:a12:piece lengthi9ee",
            "info.files[0].length: found the number -1, expected a number of bytes (byte 25)",
        ),
        (
            "d5:filesld6:lengthi1e4:pathleee4:name1:a12:piece lengthi9ee",
            "info.files[0].path: found a list, expected a list of strings (byte 34)",
        ),
        (
            "d9:file treede12:meta versioni3e4:name1:a12:piece lengthi16384ee",
            "info.meta version: found the number 3, expected 2 (byte 36)",
        ),
        (
            "d9:file treede12:meta versioni2e4:name1:a12:piece lengthi32767ee",
            "info.piece length: found the number 32767, expected a power of two from 16384 to \
             536870912 (byte 63)",
        ),
        (
            "d9:file treed1:ad0:d6:lengthi5eeee12:meta versioni2e4:name1:a12:piece lengthi16384ee",
            "info.file tree.a.pieces root: found nothing, expected 32 bytes that are not all zero \
             (byte 26)",
        ),
    ];
    for (info, expected) in rows {
        assert_eq!(refused(info), expected);
    }
    let cut = Torrent::parse(Bytes::from_static(b"d4:info"))
        .expect_err("cut")
        .to_string();
    assert_eq!(
        cut,
        "torrent: found the end of the data, expected more bencoded data (byte 7)"
    );
}

#[test]
fn limits_are_kept() {
    let parse = |info: &str, rules: Rules| {
        let bytes = Bytes::from(info.as_bytes().to_vec());
        Info::parse_with(bytes, &rules).map_err(|error| error.to_string())
    };
    let v1 = "d5:filesld6:lengthi1e4:pathl1:a1:beed6:lengthi0e4:pathl1:ceee4:name1:a\
              12:piece lengthi16384e6:pieces20:xxxxxxxxxxxxxxxxxxxxe";
    let with = |change: fn(&mut Rules)| {
        let mut rules = Rules::default();
        change(&mut rules);
        parse(v1, rules).expect_err("over the limit")
    };
    assert!(parse(v1, Rules::default()).is_ok());
    assert!(with(|rules| rules.max_pieces = 0).contains("at most 0 pieces"));
    assert!(with(|rules| rules.max_files = 1).contains("at most 1 files"));
    assert!(with(|rules| rules.max_path_depth = 1).contains("at most 1 elements"));
    assert!(with(|rules| rules.max_piece_length = 16383).contains("from 1 to 16383"));

    let tree = "d9:file treed1:ad1:bd0:d6:lengthi0eee1:cd0:d6:lengthi0eeeee\
                12:meta versioni2e4:name1:n12:piece lengthi16384ee";
    let with = |change: fn(&mut Rules)| {
        let mut rules = Rules::default();
        change(&mut rules);
        parse(tree, rules).expect_err("over the limit")
    };
    assert!(with(|_| {}).contains("expected at least one byte"));
    assert!(with(|rules| rules.max_files = 1).contains("at most 1 files"));
    assert!(with(|rules| rules.max_path_depth = 1).contains("at most 1 elements"));
    assert!(with(|rules| rules.max_path_bytes = 99).contains("at most 99 bytes of paths"));
}

#[test]
fn the_outer_part_is_read() {
    let info =
        "d6:lengthi1e4:name1:a12:piece lengthi16e6:pieces20:xxxxxxxxxxxxxxxxxxxx7:privatei1ee";
    let file = format!(
        "d8:announce8:http://a13:announce-listll8:http://b10: http://c el8:http://dee\
         7:comment2:hi10:created by1:x13:creation datei7e4:info{info}\
         5:nodesll9:127.0.0.1i6881eel3:a.bi1eee8:url-list8:http://we\n"
    );
    let parsed = Torrent::parse(Bytes::from(file.into_bytes())).expect("a torrent");
    assert_eq!(
        parsed.trackers,
        [vec!["http://b", "http://c"], vec!["http://d"]]
    );
    let node = |host: &str, port| (host.to_string(), port);
    assert_eq!(parsed.nodes, [node("127.0.0.1", 6881), node("a.b", 1)]);
    assert_eq!(parsed.web_seeds, ["http://w"]);
    assert_eq!(parsed.comment.as_deref(), Some("hi"));
    assert_eq!(parsed.created_by.as_deref(), Some("x"));
    assert_eq!(parsed.creation_date, Some(7));
    assert!(parsed.info.private);
    assert_eq!(
        parsed.magnet().to_string().parse::<Magnet>(),
        Ok(parsed.magnet())
    );
    assert_eq!(Torrent::parse(parsed.to_bytes().into()), Ok(parsed));
}

#[test]
fn sources_that_cannot_be_read_are_told_and_the_torrent_is_of_use() {
    let info = "d6:lengthi1e4:name1:a12:piece lengthi16e6:pieces20:xxxxxxxxxxxxxxxxxxxxe";
    let parse = |before: &str, after: &str| {
        let file = format!("d{before}4:info{info}{after}e");
        let torrent = Torrent::parse(Bytes::from(file.into_bytes())).expect("a torrent");
        let told: Vec<String> = torrent.ignored.iter().map(ToString::to_string).collect();
        (torrent, told)
    };
    let port = "expected a host and a port from 1 to 65535; it is ignored";
    let (torrent, told) = parse("", "5:nodesll1:ai65536eel1:bi0eel1:ci1eei7el0:i1eee");
    assert_eq!(torrent.nodes, [("c".to_string(), 1)]);
    assert_eq!(
        told,
        [
            format!("nodes[0]: found \"a:65536\", {port}"),
            format!("nodes[1]: found \"b:0\", {port}"),
            format!("nodes[3]: found the number 7, {port}"),
            format!("nodes[4]: found a list, {port}"),
        ]
    );
    let (torrent, told) = parse("", "5:nodes4:a:80");
    assert!(torrent.nodes.is_empty());
    let list = "nodes: found the string \"a:80\", expected a list of [host, port]; it is ignored";
    assert_eq!(told, [list]);
    let url = "expected a URL: a string in UTF-8; it is ignored";
    let (torrent, told) = parse(
        "8:announce8:http://a13:announce-listli7eli8e8:http://be8:http://ce",
        "8:url-listi9e",
    );
    assert_eq!(torrent.trackers, [["http://b"], ["http://c"]]);
    assert_eq!(
        told,
        [
            format!("announce-list[0]: found the number 7, {url}"),
            format!("announce-list[1][0]: found the number 8, {url}"),
            format!("url-list: found the number 9, {url}"),
        ]
    );
    // Where no URL of the list can be read, the single one counts.
    let (torrent, told) = parse("8:announce8:http://a13:announce-listi7e", "");
    assert_eq!((torrent.trackers.len(), told.len()), (1, 1));
    let (torrent, told) = parse("8:announcei1e", "");
    assert_eq!((torrent.trackers.len(), told.len()), (0, 1));
    // What is written again has no trace of it.
    let (mut torrent, _) = parse("", "5:nodesl1:al1:ci1eee");
    torrent.ignored.clear();
    assert_eq!(Torrent::parse(torrent.to_bytes().into()), Ok(torrent));
}

#[test]
fn names_never_leave_and_never_collide() {
    let file = |path: &str| format!("d6:lengthi1e4:pathl{path}ee");
    let files = [
        file("2:..2:..3:etc"),
        file("1:A"),
        file("1:a"),
        file("2:.."),
        file("4:/bin"),
        "d4:attr1:l4:pathl4:linke12:symlink pathl2:..2:..3:etcee".to_string(),
        "d4:attr1:p6:lengthi3e4:pathl4:.pad1:3ee".to_string(),
        // To a file that gets another name, to a folder, to nothing.
        "d4:attr1:l4:pathl2:L1e12:symlink pathl1:aee".to_string(),
        "d4:attr1:l4:pathl2:L2e12:symlink pathl2:..ee".to_string(),
        "d4:attr1:l4:pathl2:L3e12:symlink pathl1:b1:cee".to_string(),
        // As they are on disk: from the folder of the link, to a file and to a folder.
        file("1:d1:x"),
        "d4:attr1:l4:pathl1:d2:L4e12:symlink pathl1:xee".to_string(),
        "d4:attr1:l4:pathl1:d2:L5e12:symlink pathl2:..1:aee".to_string(),
        "d4:attr1:l4:pathl1:d2:L6e12:symlink pathl2:..1:dee".to_string(),
        "d4:attr1:l4:pathl1:d2:L7e12:symlink pathl2:..2:..1:dee".to_string(),
    ];
    let info = format!(
        "d5:filesl{}e4:name5:../up12:piece lengthi16e6:pieces20:xxxxxxxxxxxxxxxxxxxxe",
        files.concat()
    );
    let info = torrent(&info).expect("a torrent").info;
    let paths: vec::Vec<_> = info.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(
        paths,
        [
            "..up/etc",
            "..up/A",
            "..up/a.1",
            "..up/_",
            "..up/bin",
            "..up/link",
            "..up/.pad/3",
            "..up/L1",
            "..up/L2",
            "..up/L3",
            "..up/d/x",
            "..up/d/L4",
            "..up/d/L5",
            "..up/d/L6",
            "..up/d/L7",
        ]
    );
    let target = |index: usize| {
        let target = info.files[index].symlink.as_ref();
        target.expect("a link").join("/")
    };
    let targets = [5, 7, 8, 9].map(target);
    assert_eq!(targets, ["..up/etc", "..up/a.1", "..up/_", "..up/b/c"]);
    let targets = [11, 12, 13, 14].map(target);
    assert_eq!(targets, ["..up/d/x", "..up/a.1", "..up/d", "..up/d"]);
    assert_eq!((info.total_length, info.content_length()), (9, 6));
    assert!(info.files[6].pad);
}

/// Files with content, for making torrents.
#[derive(Debug, Clone)]
struct Content {
    version: Version,
    piece_length: u32,
    sources: vec::Vec<Source>,
}

impl Arbitrary for Content {
    fn arbitrary(g: &mut Gen) -> Self {
        let folders: [&[&str]; 4] = [&[], &["a"], &["a", "b"], &["c d"]];
        let count = 1 + usize::arbitrary(g) % 6;
        let mut sources: vec::Vec<_> = (0..count)
            .map(|index| {
                let folder = g.choose(&folders).copied().unwrap_or_default();
                let mut path: vec::Vec<_> = folder.iter().map(ToString::to_string).collect();
                path.push(format!("{}f", index * 7 % 6));
                Source {
                    path,
                    length: u64::from(u32::arbitrary(g) % 100_000) * u64::from(bool::arbitrary(g)),
                    executable: bool::arbitrary(g),
                    hidden: bool::arbitrary(g),
                    symlink: None,
                }
            })
            .collect();
        sources[0].length += 1;
        if count == 1 && bool::arbitrary(g) {
            sources[0].path.clear();
        }
        if count > 3 {
            sources[3].length = 0;
            sources[3].symlink = Some(vec!["a".to_string(), "0f".to_string()]);
        }
        Self {
            version: *g
                .choose(&[Version::V1, Version::V2, Version::Hybrid])
                .expect("one"),
            piece_length: *g.choose(&[16384, 32768, 65536]).expect("one"),
            sources,
        }
    }
}

/// The bytes of a source: any, but the same each time.
fn bytes_of(source: &Source) -> vec::Vec<u8> {
    let seed = source.path.concat().len() as u64;
    (0..source.length)
        .map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 7) as u8)
        .collect()
}

/// Hashes every piece of a plan, the bytes of its parts coming from `read`.
fn hash_all(plan: &Plan, read: impl Fn(Part) -> vec::Vec<u8>) -> vec::Vec<PieceHash> {
    let hash = |piece| {
        let mut hasher = plan.piece_hasher(piece);
        let parts = plan.parts(piece).filter(|part| part.source.is_some());
        let bytes: vec::Vec<u8> = parts.flat_map(&read).collect();
        bytes.chunks(5_000).for_each(|chunk| hasher.update(chunk));
        hasher.finish().expect("the whole piece")
    };
    (0..plan.piece_count()).map(hash).collect()
}

fn build(content: &Content) -> (Plan, Torrent) {
    let Content {
        version,
        piece_length,
        ref sources,
    } = *content;
    let plan = Plan::new("name", sources.clone(), piece_length, version).expect("a plan");
    let sources: vec::Vec<_> = plan.sources().iter().map(bytes_of).collect();
    let hashes = plan.join(&hash_all(&plan, |part| {
        let from = part.offset as usize;
        sources[part.source.expect("content")][from..][..part.length as usize].to_vec()
    }));
    let hashes = hashes.expect("complete");
    let torrent = plan.finish(&hashes).expect("a torrent");
    (plan, torrent)
}

quickcheck! {
    fn what_is_built_is_read(content: Content) -> bool {
        let (plan, mut torrent) = build(&content);
        torrent.trackers = vec![vec!["http://a".to_string(), "http://b".to_string()]];
        torrent.nodes = vec![("::1".to_string(), 6881)];
        let back = Torrent::parse(torrent.to_bytes().into()).expect("readable");
        let info = &back.info;
        let content_files = info.files.iter().filter(|file| !file.pad);
        let same = content_files.zip(plan.sources()).all(|(file, source)| {
            let below = |path: &[std::string::String]| [&["name".to_string()], path].concat();
            file.path == below(&source.path)
                && file.length == source.length
                && (file.executable, file.hidden) == (source.executable, source.hidden)
                && file.symlink == source.symlink.as_deref().map(below)
        });
        back == torrent
            && same
            && info.version == content.version
            && info.single_file == plan.sources()[0].path.is_empty()
            && crate::bencode::decode(&torrent.to_bytes(), &crate::bencode::Limits::TORRENT)
                .is_ok_and(|document| document.is_canonical())
    }

    fn spans_cover_pieces_and_lead_to_the_hashed_bytes(content: Content) -> bool {
        let (_, torrent) = build(&content);
        let info = &torrent.info;
        let sources: vec::Vec<_> = {
            let mut sorted = content.sources.clone();
            sorted.sort_by(|a, b| a.path.cmp(&b.path));
            sorted.iter().map(bytes_of).collect()
        };
        let mut real = sources.iter();
        let data: vec::Vec<vec::Vec<u8>> = info.files.iter().map(|file| {
            if file.pad { vec![0; file.length as usize] } else { real.next().expect("a source").clone() }
        }).collect();
        (0..info.piece_count).all(|piece| {
            let mut bytes = vec::Vec::new();
            for span in info.spans(piece, 0, u32::MAX) {
                assert!(span.len > 0 && info.pieces_of_file(span.file).contains(&piece));
                assert_eq!(span.pad, info.files[span.file].pad);
                let start = span.offset as usize;
                bytes.extend_from_slice(&data[span.file][start..start + span.len as usize]);
            }
            assert_eq!(bytes.len(), info.piece_size(piece) as usize);
            let cut: u32 = info.spans(piece, 100, 50).map(|span| span.len).sum();
            assert_eq!(cut as usize, bytes.len().saturating_sub(100).min(50));
            info.piece_hash(piece).is_none_or(|hash| hash[..] == Sha1::digest(&bytes)[..])
        }) && info.spans(info.piece_count, 0, 1).next().is_none()
            && (0..info.files.len()).all(|file| {
                let touched = (0..info.piece_count)
                    .filter(|piece| info.spans(*piece, 0, u32::MAX).any(|span| span.file == file));
                touched.eq(info.pieces_of_file(file))
            })
    }

    fn damaged_torrents_are_survived(content: Content, places: vec::Vec<(u16, u8)>) -> bool {
        let mut bytes = build(&content).1.to_bytes();
        for (place, byte) in places {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        match Torrent::parse(bytes.into()) {
            Ok(torrent) => torrent.info.piece_count > 0,
            Err(error) => !error.to_string().is_empty(),
        }
    }
}

#[test]
fn both_views_of_a_hybrid_must_agree() {
    let source = |name: &str, length| Source {
        path: vec![name.to_string()],
        length,
        ..Source::default()
    };
    let (_, torrent) = build(&Content {
        version: Version::Hybrid,
        piece_length: 16384,
        sources: vec![source("a", 20_000), source("b", 40_000)],
    });
    let bytes = torrent.to_bytes();
    let replaced = |from: &str, to: &str| {
        let at = bytes
            .windows(from.len())
            .rposition(|window| window == from.as_bytes())
            .expect("there");
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Torrent::parse(bytes.into()).expect_err("must be refused")
    };
    assert_eq!(replaced("4:pathl1:be", "4:pathl1:ce").key, "info.file tree");
    assert_eq!(
        replaced("6:lengthi40000e", "6:lengthi40001e").key,
        "info.file tree"
    );
    let misplaced = replaced("6:lengthi12768e", "6:lengthi12767e");
    assert!(misplaced.found.contains("b at byte 32767"), "{misplaced}");
    let layer = torrent.piece_layers.values().next().expect("a layer")[0];
    let mut damaged = bytes.clone();
    let at = damaged
        .windows(12)
        .rposition(|w| w == b"piece layers")
        .expect("there");
    let at = at
        + damaged[at..]
            .iter()
            .position(|byte| *byte == layer)
            .expect("there");
    damaged[at] ^= 1;
    let error = Torrent::parse(damaged.into()).expect_err("must be refused");
    assert!(error.key.starts_with("piece layers."), "{error}");
}

#[test]
fn what_cannot_be_made_is_told() {
    let source = |path: &[&str]| Source {
        path: path.iter().map(ToString::to_string).collect(),
        length: 1,
        ..Source::default()
    };
    let plan = |sources: &[Source], piece_length, version| {
        Plan::new("n", sources.to_vec(), piece_length, version).expect_err("must be refused")
    };
    let twice = BuildError::Duplicate("a".to_string());
    let same = [source(&["a"]), source(&["a"])];
    assert_eq!(plan(&same, 16384, Version::V1), twice);
    let inside = [source(&["a", "b"]), source(&["a"])];
    assert_eq!(plan(&inside, 16384, Version::V1), twice);
    let alone = [source(&[]), source(&["a"])];
    assert_eq!(plan(&alone, 16384, Version::V1), BuildError::NotAlone);
    let up = [source(&[".."])];
    assert_eq!(
        plan(&up, 16384, Version::V1),
        BuildError::Name("..".to_string())
    );
    assert_eq!(plan(&[], 0, Version::V1), BuildError::PieceLength(0));
    assert_eq!(plan(&[], 8192, Version::V2), BuildError::PieceLength(8192));
    assert_eq!(
        plan(&[], 49152, Version::Hybrid),
        BuildError::PieceLength(49152)
    );

    let empty = Plan::new("n", vec![], 16384, Version::V1).expect("a plan");
    assert!(matches!(
        empty.finish(&Hashes::default()),
        Err(BuildError::Refused(_))
    ));
    let one = Plan::new("n", vec![source(&[])], 16384, Version::V2).expect("a plan");
    assert_eq!(one.finish(&Hashes::default()), Err(BuildError::Hashes));
    assert_eq!(one.join(&[]), Err(BuildError::Hashes));
    assert_eq!(
        one.join(&[PieceHash::default()]),
        Err(BuildError::Hashes),
        "hashes of another format"
    );
    assert_eq!(one.piece_hasher(0).finish(), Err(BuildError::Hashes));

    let huge = Source {
        length: u64::MAX,
        ..source(&[])
    };
    assert_eq!(plan(&[huge], 16384, Version::V1), BuildError::TooLarge);
}

/// They are files of their own where they come from; whoever reads the torrent tells them apart.
#[test]
fn names_that_are_alike_are_built_and_read_with_the_names_they_had() {
    let paths: [&[&str]; 4] = [&["D", "x"], &["STRASSE"], &["Straße"], &["d", "X"]];
    let sources = paths.map(|path| Source {
        path: path.iter().map(ToString::to_string).collect(),
        length: 1,
        ..Source::default()
    });
    let plan = Plan::new("n", sources.to_vec(), 16384, Version::V1).expect("a plan");
    let hashes = Hashes {
        pieces: vec![7; 20],
        files: Vec::new(),
    };
    let info = plan.finish(&hashes).expect("a torrent").info;
    let read: vec::Vec<_> = info
        .files
        .iter()
        .map(|file| (file.path.join("/"), file.given_name.as_deref()))
        .collect();
    let wanted = [
        ("n/D/x", None),
        ("n/STRASSE", None),
        ("n/Straße.1", Some("Straße")),
        ("n/d/X.1", Some("X")),
    ];
    assert_eq!(read, wanted.map(|(path, given)| (path.to_string(), given)));
}

/// The published torrents of libtorrent's test suite whose one file holds nothing but zeros.
#[test]
fn published_v2_and_hybrid_torrents_are_made_bit_for_bit() {
    const SMALL: &str = "60aae9c7b428f87e0713e88229e18f0adf12cd7b22a0dd8a92bb2485eb7af242";
    const LARGE: &str = "515ea9181744b817744ded9d2e8e9dc6a8450c0b0c52e24b5077f302ffbd9008";
    let rows = [
        (
            "test64K",
            1 << 16,
            Version::Hybrid,
            SMALL,
            "597b180c1a170a585dfc5e85d834d69013ceda174b8f357d5bb1a0ca509faf0a",
        ),
        (
            "test1MB",
            1 << 20,
            Version::Hybrid,
            LARGE,
            "108ac2c3718ce722e6896edc56c4afa98f1d711ecaace7aad74fca418ebd03de",
        ),
        (
            "test1MB",
            1 << 20,
            Version::V2,
            LARGE,
            "95e04d0c4bad94ab206efa884666fd89777dbe4f7bd9945af1829037a85c6192",
        ),
    ];
    for (name, length, version, root, info_hash) in rows {
        let source = Source {
            length,
            ..Source::default()
        };
        let plan = Plan::new(name, vec![source], 65536, version).expect("a plan");
        let pieces = hash_all(&plan, |part| vec![0; part.length as usize]);
        let hashes = plan.join(&pieces).expect("complete");
        let torrent = plan.finish(&hashes).expect("a torrent");
        let info = &torrent.info;
        let shown = |hash: Option<[u8; 32]>| crate::id::hex(&hash.expect("v2"));
        assert_eq!(shown(info.files[0].pieces_root), root, "{name}");
        assert_eq!(shown(info.hashes.v2()), info_hash, "{name}");
        assert_eq!(info.hashes.v1().is_some(), version == Version::Hybrid);
        // What is read back has its layers checked against the root: fold and compare.
        let back = Torrent::parse(torrent.to_bytes().into()).expect("readable");
        assert_eq!(back.piece_layers.len(), usize::from(length > 65536));
        assert_eq!(back, torrent);
    }
}

#[test]
fn piece_lengths_grow_with_the_content() {
    for (total, expected) in [
        (0, 16 << 10),
        (1, 16 << 10),
        (32 << 20, 16 << 10),
        ((32 << 20) + 1, 32 << 10),
        (1 << 30, 512 << 10),
        (1 << 40, 16 << 20),
        (u64::MAX, 16 << 20),
    ] {
        assert_eq!(auto_piece_length(total), expected, "{total}");
    }
}
