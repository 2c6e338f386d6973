//! Whole engines on real sockets and files, on 127.0.0.1 only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use trackerless_common::offline::{CreatePlan, create};
use trackerless_common::sockets::Listen;
use trackerless_core::Config;
use trackerless_core::event::{Event, PeerSource, SourceStatus};
use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_tokio::{Node, NodeOptions, Update};

fn node(output: Option<&Path>) -> Node {
    let mut options = NodeOptions {
        config: Config {
            lab: true,
            tcp: output.is_some(),
            ..Config::default()
        },
        listen: vec![Listen::exactly("127.0.0.1:0".parse().unwrap())],
        ..NodeOptions::default()
    };
    options.storage.output = output.map(Path::to_path_buf);
    options.storage.threads = 1;
    Node::spawn(options).unwrap()
}

/// Takes updates until `done` returns something.
async fn until<T>(node: &mut Node, what: &str, mut done: impl FnMut(&Event) -> Option<T>) -> T {
    let look = async {
        while let Some(update) = node.update().await {
            if let Update::Event(event) = update
                && let Some(found) = done(&event)
            {
                return found;
            }
        }
        panic!("the engine is gone before: {what}");
    };
    let looked = tokio::time::timeout(Duration::from_secs(30), look).await;
    looked.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn answered(node: &mut Node, tag: Tag) {
    until(node, "the answer to a command", |event| match event {
        Event::CommandDone { tag: of, result } if *of == tag => {
            result.as_ref().unwrap();
            Some(())
        }
        _ => None,
    })
    .await;
}

/// Content of a few pieces in `folder`: its torrent and magnet link.
fn content(folder: &Path, size: usize) -> (Vec<u8>, Bytes, String) {
    let data: Vec<u8> = (0..size as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(folder.join("file.bin"), &data).unwrap();
    let created = create(&CreatePlan {
        path: folder.join("file.bin"),
        piece_length: Some(32 * 1024),
        ..CreatePlan::default()
    })
    .unwrap();
    let hash = created.torrent.info.hashes.short();
    let magnet = format!("magnet:?xt=urn:btih:{hash}");
    (data, created.bytes.into(), magnet)
}

fn block_on(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test);
}

#[test]
fn from_a_magnet_link_to_a_file_through_the_dht() {
    block_on(async {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (data, torrent, magnet) = content(from.path(), 1_000_000);
        let router = node(None);
        let contact = Command::DhtBootstrap(router.listening().to_vec());

        let mut seeder = node(Some(from.path()));
        let tag = seeder.command(contact.clone());
        answered(&mut seeder, tag).await;
        seeder.command(Command::AddTorrent(AddTorrent {
            check: true,
            ..AddTorrent::new(Source::torrent(torrent).unwrap())
        }));
        let (mut announced, mut checked) = (false, false);
        until(&mut seeder, "an announce and the check", |event| {
            match event {
                Event::Source {
                    source: PeerSource::Dht,
                    status: SourceStatus::Idle,
                    ..
                } => announced = true,
                Event::Checked { .. } => checked = true,
                _ => {}
            }
            (announced && checked).then_some(())
        })
        .await;

        let mut leecher = node(Some(to.path()));
        let tag = leecher.command(contact);
        answered(&mut leecher, tag).await;
        leecher.command(Command::AddTorrent(AddTorrent::new(Source::Magnet(magnet))));
        let mut found = Vec::new();
        until(&mut leecher, "the file", |event| match event {
            Event::PeerFound { addr, source, .. } => {
                found.push((*addr, *source));
                None
            }
            Event::Complete { .. } => Some(()),
            _ => None,
        })
        .await;
        assert!(
            found.contains(&(seeder.listening()[0], PeerSource::Dht)),
            "{found:?}"
        );
        leecher.shutdown().await;
        seeder.shutdown().await;
        router.shutdown().await;
        assert!(fs::read(to.path().join("file.bin")).unwrap() == data);
    });
}

#[test]
fn a_peer_named_by_hand_needs_no_dht() {
    block_on(async {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (data, torrent, magnet) = content(from.path(), 300_000);
        let mut seeder = node(Some(from.path()));
        seeder.command(Command::AddTorrent(AddTorrent {
            check: true,
            ..AddTorrent::new(Source::torrent(torrent).unwrap())
        }));
        until(&mut seeder, "the check", |event| match event {
            Event::Checked { ok, bad, .. } => {
                assert_eq!((*ok, *bad), (10, 0));
                Some(())
            }
            _ => None,
        })
        .await;
        let mut leecher = node(Some(to.path()));
        leecher.command(Command::AddTorrent(AddTorrent {
            peers: seeder.listening().to_vec(),
            ..AddTorrent::new(Source::Magnet(magnet))
        }));
        until(&mut leecher, "the file", |event| {
            matches!(event, Event::Complete { .. }).then_some(())
        })
        .await;
        leecher.shutdown().await;
        seeder.shutdown().await;
        assert!(fs::read(to.path().join("file.bin")).unwrap() == data);
    });
}

#[test]
fn nobody_behind_a_peer_address_is_told_and_shutdown_still_works() {
    block_on(async {
        let to = tempfile::tempdir().unwrap();
        // Bound and dropped: nobody listens there.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = socket.local_addr().unwrap();
        drop(socket);
        let mut leecher = node(Some(to.path()));
        let hash = "d984f67af9917b214cd8b6048ab5624c7df6a07a";
        let tag = leecher.command(Command::AddTorrent(AddTorrent {
            peers: vec![nobody],
            ..AddTorrent::new(Source::Magnet(format!("magnet:?xt=urn:btih:{hash}")))
        }));
        answered(&mut leecher, tag).await;
        leecher.shutdown().await;
    });
}

#[test]
fn an_embedder_that_takes_nothing_is_told_what_it_missed() {
    block_on(async {
        let other = node(None);
        let mut node = Node::spawn(NodeOptions {
            listen: vec![Listen::exactly("127.0.0.1:0".parse().unwrap())],
            max_events: 5,
            ..NodeOptions::default()
        })
        .unwrap();
        let mut dropped = 0;
        // On a busy machine not everything happens while nobody takes anything.
        for _ in 0..20 {
            for _ in 0..40 {
                node.command(Command::DhtPing(other.listening()[0]));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut answers = 0;
            while answers < 40 {
                let update = tokio::time::timeout(Duration::from_secs(30), node.update());
                match update.await.expect("all commands are answered").unwrap() {
                    Update::Event(Event::CommandDone { .. }) => answers += 1,
                    Update::Lagged { dropped: more } => dropped += more,
                    _ => {}
                }
            }
            if dropped > 0 {
                break;
            }
        }
        assert!(dropped > 0, "what was found is told only for some");
        node.shutdown().await;
        other.shutdown().await;
    });
}
