//! Two engines, each with half of a torrent on disk, download the other half from each other.
//! Channels are their network; the loop of [`run`] is what every host does.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant as Clock};

use bytes::{Bytes, BytesMut};
use trackerless_common::offline::{CreatePlan, create};
use trackerless_common::storage::{Storage, StorageConfig};
use trackerless_core::io::{AddTorrent, Command, ConnId, JobId, JobResult, Source, Tag, Ticket};
use trackerless_core::{Config, Engine, Event, Input, Instant, Outbox, Output};

const PIECE: usize = 64 * 1024;
static COMPLETE: AtomicU32 = AtomicU32::new(0);

/// What reaches a host: from the other one, or from its own disk.
enum Packet {
    Connect,
    Accepted,
    Bytes(BytesMut),
    Done(JobId, JobResult),
}

struct Host {
    started: Clock,
    disk: Storage,
    other: Sender<Packet>,
    arrivals: Receiver<Packet>,
    conn: Option<ConnId>,
    /// Bytes that came, and how many of them the engine wants now.
    unread: BytesMut,
    credit: usize,
    ready: VecDeque<Input<'static>>,
}

impl Host {
    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn send(&self, packet: Packet) {
        // The other one may have left already.
        let _ = self.other.send(packet);
    }

    fn perform(&mut self, output: Output<'_>) {
        match output {
            Output::Job { job, work } => self.disk.submit(job, work),
            Output::Connect { conn, .. } => {
                self.conn = Some(conn);
                self.send(Packet::Connect);
            }
            Output::Accept { conn, .. } => {
                self.conn = Some(conn);
                self.send(Packet::Accepted);
            }
            Output::Send { conn, head, body } => {
                self.send(Packet::Bytes([head, &body].concat()[..].into()));
                let bytes = (head.len() + body.len()) as u32;
                self.ready.push_back(Input::Sent { conn, bytes });
            }
            Output::ReadCredit { bytes, .. } => self.credit += bytes as usize,
            Output::Event(Event::Complete { .. }) => _ = COMPLETE.fetch_add(1, Ordering::Relaxed),
            // There is one connection only, and without sockets there is no DHT.
            _ => {}
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> Input<'static> {
        if let Some(input) = self.ready.pop_front() {
            return input;
        }
        let readable = self.credit.min(self.unread.len());
        if let Some(conn) = self.conn.filter(|_| readable > 0) {
            self.credit -= readable;
            let data = self.unread.split_to(readable);
            return Input::Received { conn, data };
        }
        let wait = until.map_or(Duration::MAX, |until| until.saturating_since(self.now()));
        // No longer than a moment, to see when both are complete: a `Tick` too early is harmless.
        let wait = wait.min(Duration::from_millis(20));
        match (self.arrivals.recv_timeout(wait), self.conn) {
            (Ok(Packet::Done(job, result)), _) => Input::JobDone { job, result },
            (Ok(Packet::Connect), _) => Input::Incoming {
                ticket: Ticket(0),
                from: ([10, 0, 0, 2], 6881).into(),
            },
            (Ok(Packet::Accepted), Some(conn)) => Input::Connected { conn },
            (Ok(Packet::Bytes(data)), _) => {
                self.unread.extend_from_slice(&data);
                Input::Tick
            }
            _ => Input::Tick,
        }
    }
}

fn run(mut engine: Engine, mut host: Host) {
    let mut outbox = Outbox::new();
    while COMPLETE.load(Ordering::Relaxed) < 2 {
        for output in outbox.drain() {
            host.perform(output);
        }
        let input = host.wait(engine.next_timeout());
        engine.handle(host.now(), input, &mut outbox);
    }
}

fn main() {
    let root = std::env::temp_dir().join(format!("trackerless-embed-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a folder");
    let content: Vec<u8> = (0..6_000_000u32)
        .map(|at| (at.wrapping_mul(at) >> 9) as u8)
        .collect();
    let path = root.join("content");
    std::fs::write(&path, &content).expect("a file");
    let plan = CreatePlan {
        path,
        piece_length: Some(PIECE as u32),
        ..Default::default()
    };
    let torrent: Bytes = create(&plan).expect("a torrent").bytes.into();

    let ((to_a, at_a), (to_b, at_b)) = (channel(), channel());
    let hosts = [(to_a.clone(), at_a, to_b.clone()), (to_b, at_b, to_a)];
    let folders = [root.join("a"), root.join("b")];
    std::thread::scope(|scope| {
        for (index, (own, arrivals, other)) in hosts.into_iter().enumerate() {
            let folder = &folders[index];
            half(folder, &content, index);
            let config = StorageConfig {
                output: Some(folder.clone()),
                ..Default::default()
            };
            let disk = Storage::new(config, move |job, result| {
                let _ = own.send(Packet::Done(job, result));
            });
            let mut add = AddTorrent::new(Source::Torrent(torrent.clone()));
            // The first one knows the address of the second.
            if index == 0 {
                add.peers.push(([10, 0, 0, 1], 6881).into());
            }
            let command = Box::new(Command::AddTorrent(add));
            let host = Host {
                started: Clock::now(),
                disk,
                other,
                arrivals,
                conn: None,
                unread: BytesMut::new(),
                credit: 0,
                ready: [Input::Command {
                    tag: Tag(1),
                    command,
                }]
                .into(),
            };
            let config = Config {
                lab: true,
                ..Config::default()
            };
            let engine = Engine::new(config.into(), [index as u8; 32], host.now());
            scope.spawn(|| run(engine.expect("a valid config"), host));
        }
    });
    for folder in &folders {
        assert!(std::fs::read(folder.join("content")).expect("a file") == content);
    }
    println!("two engines have {} bytes from each other", content.len());
    std::fs::remove_dir_all(&root).expect("the folder goes away");
}

/// Every second piece of the content, from the first or from the second on.
fn half(folder: &Path, content: &[u8], from: usize) {
    std::fs::create_dir_all(folder).expect("a folder");
    let file = std::fs::File::create(folder.join("content")).expect("a file");
    for (index, piece) in content.chunks(PIECE).enumerate().skip(from).step_by(2) {
        file.write_all_at(piece, (index * PIECE) as u64)
            .expect("written");
    }
}
