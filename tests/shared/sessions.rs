include!("seeding.rs");

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use trackerless_common::host::{App, Flow, Handle, Inbox, Setup, View};
use trackerless_common::sockets::Listen;
use trackerless_common::state::StateDir;
use trackerless_common::storage::{Storage, StorageConfig};
use trackerless_core::Config;
use trackerless_core::event::Event;
use trackerless_core::io::{AddTorrent, Command as Order, JobError, Source, Tag, TorrentId};
use trackerless_core::metainfo::Torrent;

const COUNT: usize = 5;
const SHUTDOWN: Tag = Tag(99);
/// Bytes per second of one engine, whatever it seeds: all of it is fetched in two seconds, the
/// largest torrent alone in half a second.
const UPLOAD_RATE: u64 = 1 << 20;

/// Gives its engine several torrents, and tells what becomes of them.
struct Several {
    add: Vec<AddTorrent>,
    told: Sender<Told>,
}

enum Told {
    Listening(Vec<SocketAddr>),
    Event(Event),
}

impl App for Several {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Order)> {
        let _ = self.told.send(Told::Listening(listening.to_vec()));
        let add = self.add.drain(..).enumerate();
        add.map(|(n, add)| (Tag(n as u64), Order::AddTorrent(add))).collect()
    }

    fn on_event(&mut self, event: &Event, _: &dyn View) -> Flow {
        if matches!(event, Event::CommandDone { tag: SHUTDOWN, .. }) {
            return Flow::Exit(0);
        }
        let _ = self.told.send(Told::Event(event.clone()));
        Flow::Continue
    }

    fn on_second(&mut self, _: &dyn View) -> Flow {
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        Flow::Commands(vec![(SHUTDOWN, Order::Shutdown)])
    }
}

/// An engine on a thread of its own.
struct Node {
    handle: Handle,
    address: SocketAddr,
    told: Receiver<Told>,
    thread: JoinHandle<u8>,
}

impl Node {
    /// One with these torrents, each in a folder of its own.
    fn start(storage: StorageConfig, torrents: Vec<(AddTorrent, PathBuf)>, record: &Path) -> Self {
        let mut config = Config {
            lab: true,
            ..Config::default()
        };
        // Nobody is found but who is named.
        config.dht.enabled = false;
        config.lsd.enabled = false;
        config.tracker.enabled = false;
        config.limits.upload_rate = UPLOAD_RATE;
        let name = record.file_name().expect("it has a name");
        let inbox = Inbox::new();
        let answers = Arc::clone(&inbox);
        let storage = Storage::into_inbox(storage, answers);
        let mut add = Vec::new();
        for (torrent, folder) in torrents {
            let Source::Torrent(of) = &torrent.source else {
                unreachable!("all are torrents");
            };
            storage.register(of.info.hashes.short(), folder);
            add.push(torrent);
        }
        let (sender, told) = channel();
        let setup = Setup {
            config: Arc::new(config),
            // Two of one seed would take each other for themselves.
            seed: [name.as_encoded_bytes()[0]; 32],
            listen: vec![Listen::exactly("127.0.0.1:0".parse().expect("an address"))],
            storage,
            inbox: Arc::clone(&inbox),
            app: Box::new(Several { add, told: sender }),
            record: Some(record.to_owned()),
        };
        let thread = std::thread::spawn(move || run_engine(setup).expect("it starts"));
        let address = match told.recv_timeout(PATIENCE) {
            Ok(Told::Listening(all)) if all.len() == 1 => all[0],
            _ => panic!("it does not listen at one address"),
        };
        Self {
            handle: Handle::new(inbox),
            address,
            told,
            thread,
        }
    }

    /// Takes events until `done` says so.
    fn until(&self, mut done: impl FnMut(&Event) -> bool) {
        loop {
            match self.told.recv_timeout(PATIENCE) {
                Ok(Told::Event(event)) if done(&event) => return,
                Ok(_) => {}
                Err(error) => panic!("waited in vain: {error}"),
            }
        }
    }

    /// Takes events until all torrents were looked at, and everything of them is right.
    fn until_checked(&self) {
        let mut checked = BTreeSet::new();
        self.until(|event| match event {
            Event::Checked { torrent, bad, .. } => {
                assert_eq!(*bad, 0);
                count(&mut checked, *torrent) == COUNT
            }
            _ => false,
        });
    }

    fn end(self) {
        self.handle.interrupt();
        assert_eq!(self.thread.join().expect("it ends"), 0);
    }
}

/// The `n`th torrent, with content in `folder`/from/`n`.
fn torrent(folder: &Path, n: usize) -> Arc<Torrent> {
    let at = format!("from/{n}/t{n}");
    for file in 0..4 + n {
        put(folder, &format!("{at}/{file}"), &bytes((n * 10 + file) as u64, 70_000 + n));
    }
    let file = format!("{n}.torrent");
    create(folder, &at, &file, &["--piece-length", "16K"]);
    let raw = fs::read(folder.join(file)).expect("it is there");
    Arc::new(Torrent::parse(raw.into()).expect("a torrent"))
}

fn count(told: &mut BTreeSet<TorrentId>, torrent: TorrentId) -> usize {
    assert!(told.insert(torrent), "once for each torrent");
    told.len()
}

#[test]
fn several_torrents_share_one_engine_one_port_and_go_on_without_hashing() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let torrents: Vec<_> = (0..COUNT).map(|n| torrent(folder, n)).collect();
    let source = |n: usize| Source::Torrent(Arc::clone(&torrents[n]));
    let each = |to: &str, add: &dyn Fn(usize) -> AddTorrent| -> Vec<_> {
        let all = 0..COUNT;
        all.map(|n| (add(n), folder.join(to).join(n.to_string()))).collect()
    };

    let read_only = StorageConfig {
        read_only: true,
        ..StorageConfig::default()
    };
    let seeding = each("from", &|n| AddTorrent {
        check: true,
        ..AddTorrent::new(source(n))
    });
    let seeder = Node::start(read_only, seeding, &folder.join("seeder.record"));
    seeder.until_checked();
    let state = StateDir::new(folder.join("state"));
    let saving = || StorageConfig {
        state: Some(state.clone()),
        ..StorageConfig::default()
    };
    let leeching = each("to", &|n| AddTorrent {
        peers: vec![seeder.address],
        ..AddTorrent::new(source(n))
    });
    let leecher = Node::start(saving(), leeching, &folder.join("leecher.record"));
    let (mut complete, mut peers) = (BTreeSet::new(), BTreeSet::new());
    leecher.until(|event| match event {
        Event::PeerConnected(peer) => {
            peers.insert(peer.addr);
            false
        }
        Event::Complete { torrent } => count(&mut complete, *torrent) == COUNT,
        _ => false,
    });
    // All of them were fetched from one port.
    assert_eq!(peers, BTreeSet::from([seeder.address]));
    leecher.end();
    assert_same(&tree(&folder.join("from")), &tree(&folder.join("to")));

    // Again: each is complete at once, and not a piece was hashed for that.
    let again = each("to", &|n| {
        let short = torrents[n].info.hashes.short();
        let place = folder.join("to").join(n.to_string());
        let saved = state.load_resume(short, &place).expect("it was saved");
        AddTorrent {
            resume: Some(Box::new(saved.0)),
            ..AddTorrent::new(source(n))
        }
    });
    let record = folder.join("again.record");
    let again = Node::start(saving(), again, &record);
    let mut complete = BTreeSet::new();
    again.until(|event| match event {
        Event::Complete { torrent } => count(&mut complete, *torrent) == COUNT,
        _ => false,
    });
    again.end();
    assert_eq!(pieces_hashed(&record), 0);
    seeder.end();

    // The limit holds for all of them together, by the engine's own clock.
    let (bytes, micros) = reads(&folder.join("seeder.record"));
    assert!(bytes >= 30 * 70_000, "{bytes}");
    assert!(micros * UPLOAD_RATE / 1_000_000 >= bytes / 2, "{bytes} bytes in {micros} us");
}

/// Bytes that were read to be sent in a recorded run, and microseconds from the first to the last.
fn reads(recording: &Path) -> (u64, u64) {
    use trackerless_core::io::{Input, JobResult};
    let recorded = fs::read(recording).expect("it is there");
    let (_, records) = trackerless_core::record::Reader::open(&recorded).expect("a recording");
    let read = |input: Input<'_>| match input {
        Input::JobDone { result: JobResult::Read(data), .. } => Some(data.len() as u64),
        _ => None,
    };
    let records = records.map(|record| record.expect("it is whole"));
    let all = records.filter_map(|record| Some((record.now, record.input.feed(read)?)));
    let all: Vec<_> = all.collect();
    let (first, last) = (all.first().expect("one").0, all.last().expect("one").0);
    let bytes = all.iter().map(|(_, bytes)| bytes).sum();
    (bytes, last.as_micros() - first.as_micros())
}

/// What goes wrong with the files of one torrent is no affair of the others.
#[test]
fn a_torrent_that_fails_leaves_the_others_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let torrents: Vec<_> = (0..COUNT).map(|n| torrent(folder, n)).collect();
    let all = |to: &str, peers: &[SocketAddr]| -> Vec<_> {
        let torrents = torrents.iter().enumerate();
        let add = torrents.map(|(n, torrent)| {
            let add = AddTorrent {
                peers: peers.to_vec(),
                ..AddTorrent::new(Source::Torrent(Arc::clone(torrent)))
            };
            (add, folder.join(to).join(n.to_string()))
        });
        add.collect()
    };
    let seeder = Node::start(StorageConfig::default(), all("from", &[]), &folder.join("s"));
    seeder.until_checked();
    // Something of that name is there already.
    put(folder, "to/2/t2/1", &bytes(99, 200_000));
    let leecher =
        Node::start(StorageConfig::default(), all("to", &[seeder.address]), &folder.join("l"));
    let (mut complete, mut failed) = (BTreeSet::new(), Vec::new());
    leecher.until(|event| {
        match event {
            Event::Complete { torrent } => _ = count(&mut complete, *torrent),
            Event::StorageFailed { torrent, error, .. } => failed.push((*torrent, *error)),
            _ => {}
        }
        complete.len() + failed.len() == COUNT
    });
    assert!(matches!(failed[..], [(_, JobError::InTheWay)]), "{failed:?}");
    assert!(!complete.contains(&failed[0].0));
    leecher.end();
    seeder.end();
    assert_eq!(fs::read(folder.join("to/2/t2/1")).expect("it is there"), bytes(99, 200_000));
    for n in [0, 1, 3, 4] {
        let at = |folder_of: &str| folder.join(folder_of).join(n.to_string());
        assert_same(&tree(&at("from")), &tree(&at("to")));
    }
}
