use std::net::UdpSocket;

include!("running.rs");

const SIZE: usize = 1 << 20;
const PIECE: u64 = 16 << 10;

fn torrent(folder: &Path) -> (Vec<u8>, String) {
    torrent_of(folder, SIZE)
}

fn download(folder: &Path, listen: &str, peer: &str) -> Running {
    let line = ["download", "a.torrent", "-o", "out", "--state-dir", "saved"];
    let options = ["--listen", listen, "--no-dht", "--no-lsd", "--peer", peer];
    Running::start(folder, &[&line[..], &options].concat())
}

/// Waits until some pieces are there, but not all.
fn part_of_it(download: &Running) -> u64 {
    let part = download.until("progress", |event| event["done"].as_u64() >= Some(PIECE));
    let done = part["done"].as_u64().expect("a number");
    assert!(done < SIZE as u64, "it is complete already");
    done
}

#[test]
fn ctrl_c_ends_a_download_that_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (content, hash) = torrent(folder.path());
    let local = "127.0.0.1:0";
    let (slow, address) = seeder(folder.path(), local, "s1", &["--upload-limit", "128K"]);
    let first = download(folder.path(), local, &address);
    let done = part_of_it(&first);
    interrupt(&first.child);
    let (status, told) = first.end();
    assert_eq!(status, Some(130));
    assert!(
        told.iter()
            .all(|event| event["event"] != "complete" && event["event"] != "error")
    );
    let closed = told.iter().find(|event| event["event"] == "peer_closed");
    assert!(closed.is_some(), "the peer is told goodbye: {told:?}");
    drop(slow);
    let saved = folder.path().join(format!("saved/resume/{hash}.resume"));
    assert!(saved.is_file(), "there is no resume data");

    let (_fast, address) = seeder(folder.path(), local, "s2", &[]);
    let (status, told) = download(folder.path(), local, &address).end();
    assert_eq!(status, Some(0));
    let complete = told.iter().find(|event| event["event"] == "complete");
    let fetched = complete.and_then(|event| event["downloaded"].as_u64());
    let fetched = fetched.expect("it is complete");
    assert!(
        fetched + done <= SIZE as u64,
        "{done} were there, {fetched} fetched"
    );
    assert!(fs::read(folder.path().join("out/file")).expect("it is there") == content);
}

#[test]
fn a_second_ctrl_c_ends_a_download_at_once() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (_, hash) = torrent(folder.path());
    let local = "127.0.0.1:0";
    let (_slow, address) = seeder(folder.path(), local, "s1", &["--upload-limit", "128K"]);
    let mut download = download(folder.path(), local, &address);
    // A device that takes no more: whoever writes to a pipe that nobody reads waits for ever.
    let resume = folder.path().join("saved/resume");
    let pipe = resume.join(format!(".{hash}.resume.{}.tmp", download.child.id()));
    fs::create_dir_all(&resume).expect("the folder can be written");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()));
    part_of_it(&download);
    interrupt(&download.child);
    // It has said goodbye and waits for what it saves.
    download.until("peer_closed", |_| true);
    assert!(
        download
            .child
            .try_wait()
            .expect("it can be waited for")
            .is_none()
    );
    interrupt(&download.child);
    assert_eq!(download.end().0, Some(130));
}

#[test]
fn everything_works_over_ipv6() {
    let local = "[::1]:0";
    if UdpSocket::bind(local).is_err() {
        eprintln!("skipped: there is no IPv6 here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (content, hash) = torrent(folder.path());
    let (_seeder, address) = seeder(folder.path(), local, "s1", &[]);
    assert!(address.starts_with("[::1]:"), "{address}");
    let (status, told) = download(folder.path(), local, &address).end();
    assert_eq!(status, Some(0), "{told:?}");
    assert!(fs::read(folder.path().join("out/file")).expect("it is there") == content);

    let node = Running::start(folder.path(), &["dht", "run", "--listen", local]);
    let node = (node.address(), node);
    let ask = |line: &[&str]| {
        let options = ["--listen", local, "--bootstrap", &node.0];
        let (status, told) = Running::start(folder.path(), &[line, &options].concat()).end();
        assert_eq!(status, Some(0), "{line:?}: {told:?}");
        let last = told.last().expect("it tells something");
        assert_eq!(last["event"], "lookup", "{told:?}");
        told
    };
    let nodes = ask(&["dht", "ping", &node.0]);
    let id = nodes.iter().find_map(|event| event["id"].as_str());
    let closest = ask(&["dht", "find-node", id.expect("the node that answered")]);
    assert!(
        closest
            .iter()
            .any(|event| event["address"] == node.0.as_str())
    );
    ask(&["dht", "announce", &hash, "--port", "7"]);
    let peers = ask(&["dht", "get-peers", &hash]);
    let peer = peers.iter().find(|event| event["event"] == "result");
    assert_eq!(peer.expect("the one announced")["address"], "[::1]:7");
}

#[cfg(target_os = "linux")]
#[test]
fn a_seeder_is_announced_where_it_listens() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (_, hash) = torrent(folder.path());
    let v6 = UdpSocket::bind("[::1]:0").is_ok();
    let families = if v6 { 2 } else { 1 };
    let start = |line: &[&str], listen: &[&str]| {
        let listen = listen.iter().flat_map(|addr| ["--listen", addr]);
        let line: Vec<&str> = line.iter().copied().chain(listen).collect();
        Running::start(folder.path(), &line)
    };
    let node = start(&["dht", "run"], &["127.0.0.1:0", "[::1]:0"][..families]);
    let contacts: Vec<String> = (0..families).map(|_| node.address()).collect();
    let contacts = contacts.join(",");
    let seed = ["seed", "a.torrent", "--data", "seeded", "--no-lsd", "--bootstrap", &contacts];
    // Two of one family, so that it matters which of them is told of.
    let seeder = start(&seed, &["127.0.0.2:0", "127.0.0.3:0", "[::1]:0"][..1 + families]);
    let told = |event: &Value| event["source"] == "dht" && event["status"] == "idle";
    seeder.until("source", told);
    let line = ["dht", "get-peers", &hash, "--bootstrap", &contacts];
    let (status, told) = start(&line, &["127.0.0.1:0", "[::1]:0"][..families]).end();
    assert_eq!(status, Some(0), "{told:?}");
    let found = told.iter().filter(|event| event["event"] == "result");
    let found: BTreeSet<String> = found
        .map(|event| event["address"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(found.len(), families, "{told:?}");
    let listens = seeder.listens.borrow();
    assert!(found.is_subset(&listens), "{found:?} of {listens:?}");
}

#[test]
fn a_hybrid_is_found_by_either_name() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let (content, _) = torrent(folder);
    let line = ["create", "seeded/file", "-o", "a.torrent", "--hybrid", "--node", "127.0.0.1:9"];
    let made = run(folder, &line);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let shown = run(folder, &["show", "a.torrent", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("one object");
    let v2 = shown["info_hash_v2"].as_str().expect("a hybrid has both");
    let link = format!("magnet:?xt=urn:btmh:1220{v2}");

    let local = ["--listen", "127.0.0.1:0", "--no-lsd"];
    let node = Running::start(folder, &["dht", "run", "--listen", "127.0.0.1:0"]);
    let contact = node.address();
    let local = [&local[..], &["--bootstrap", &contact]].concat();
    let line = ["seed", "a.torrent", "--data", "seeded", "--state-dir", "s1"];
    let seeder = Running::start(folder, &[&line[..], &local].concat());
    seeder.until("source", |event| event["source"] == "dht" && event["status"] == "idle");
    let line = ["metadata", &link, "-o", "b.torrent", "--state-dir", "s2"];
    let (status, told) = Running::start(folder, &[&line[..], &local].concat()).end();
    assert_eq!(status, Some(0), "{told:?}");
    let line = ["download", &link, "-o", "out", "--state-dir", "s3"];
    let (status, told) = Running::start(folder, &[&line[..], &local].concat()).end();
    assert_eq!(status, Some(0), "{told:?}");
    assert!(fs::read(folder.join("out/file")).expect("it is there") == content);
}

#[test]
fn a_node_and_those_that_ask_it_print_what_they_should() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let local = ["--listen", "127.0.0.1:0"];
    let hash = "d984f67af9917b214cd8b6048ab5624c7df6a07a";
    let node = Running::start(folder.path(), &[&["dht", "run"], &local[..]].concat());
    // UDP only: a node has no peers.
    let listening = node.until("listening", |_| true);
    assert_eq!(listening["protocol"], "udp");
    assert!(listening["time"].is_number() || listening["time"].is_string());
    let address = listening["address"].as_str().expect("a text").to_owned();
    let wanted = [
        ("ping", &address, 1),
        ("announce", &hash.to_owned(), 0),
        ("get-peers", &hash.to_owned(), 1),
        ("find-node", &hash.to_owned(), 1),
    ];
    for (kind, target, results) in wanted {
        let mut line = vec!["dht", kind, target, "--bootstrap", &address];
        line.extend(local);
        if kind == "announce" {
            line.extend(["--port", "7"]);
        }
        let (status, told) = Running::start(folder.path(), &line).end();
        assert_eq!(status, Some(0), "{kind}: {told:?}");
        let names: Vec<&str> = told
            .iter()
            .filter_map(|event| event["event"].as_str())
            .collect();
        let mut expected = vec!["listening"];
        expected.resize(1 + results, "result");
        expected.push("lookup");
        assert_eq!(names, expected, "{kind}: {told:?}");
        let lookup = told.last().expect("it was just looked at");
        assert_eq!(
            (&lookup["kind"], &lookup["target"]),
            (&kind.into(), &target.as_str().into())
        );
        assert_eq!(lookup["results"], 1, "{kind}: {told:?}");
    }
    interrupt(&node.child);
    let (status, told) = node.end();
    assert_eq!((status, told.len()), (Some(130), 0), "{told:?}");
}

/// A download into a folder of its own, and its address.
fn into(folder: &Path, name: &str, peer: &str, more: &[&str]) -> (Running, String) {
    let (output, state) = (format!("{name}/out"), format!("{name}/state"));
    fs::create_dir(folder.join(name)).expect("the folder can be written");
    let line = ["download", "a.torrent", "-o", &output, "--state-dir", &state];
    let local = ["--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"];
    let options = [&local[..], &["--peer", peer]].concat();
    let download = Running::start(folder, &[&line[..], &options, more].concat());
    let address = download.address();
    (download, address)
}

#[test]
fn a_download_seeds_until_its_goal_is_reached() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let (content, _) = torrent(folder);
    let (first, address) = seeder(folder, "127.0.0.1:0", "s1", &[]);
    let (timed, _) = into(folder, "timed", &address, &["--seed-time", "1s"]);
    timed.until("complete", |_| true);
    assert_eq!(timed.end().0, Some(0));

    let (ratio, address) = into(folder, "ratio", &address, &["--seed-ratio", "1"]);
    ratio.until("complete", |_| true);
    drop(first);
    // From here on there is nobody else to have it from.
    let (stays, next) = into(folder, "stays", &address, &["--seed"]);
    stays.until("complete", |_| true);
    assert_eq!(ratio.end().0, Some(0));
    let (last, _) = into(folder, "last", &next, &[]);
    let (status, told) = last.end();
    assert_eq!(status, Some(0), "{told:?}");
    assert!(fs::read(folder.join("last/out/file")).expect("it is there") == content);
    interrupt(&stays.child);
    assert_eq!(stays.end().0, Some(130));
}

#[test]
fn a_super_seed_serves_everything() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let (content, _) = torrent(folder);
    let (_seeder, address) = seeder(folder, "127.0.0.1:0", "s1", &["--super-seed"]);
    let (first, next) = into(folder, "first", &address, &["--seed"]);
    let (other, _) = into(folder, "other", &address, &["--peer", &next]);
    first.until("complete", |_| true);
    let (status, told) = other.end();
    assert_eq!(status, Some(0), "{told:?}");
    for name in ["first", "other"] {
        let got = fs::read(folder.join(name).join("out/file")).expect("it is there");
        assert!(got == content, "{name}");
    }
}

/// The downloader is there first: whom it was told of is not up yet.
#[test]
fn a_named_peer_that_comes_up_later_is_found() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (content, _) = torrent(folder.path());
    let local = "127.0.0.1:0";
    let reserved = std::net::TcpListener::bind(local).expect("loopback has free ports");
    let address = reserved.local_addr().expect("it is bound").to_string();
    drop(reserved);
    let download = download(folder.path(), local, &address);
    for _ in 0..2 {
        let closed = download.until("peer_closed", |event| event["address"] == address);
        assert_eq!(closed["reason"], "connection refused");
    }
    let (_seeder, _) = seeder(folder.path(), &address, "s1", &[]);
    let (status, told) = download.end();
    assert_eq!(status, Some(0), "{told:?}");
    assert!(fs::read(folder.path().join("out/file")).expect("it is there") == content);
}
