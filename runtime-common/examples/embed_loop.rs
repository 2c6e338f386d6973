//! Two engines without a socket, each with half of a file, download the rest from each other.
//! Channels are their network; the loop in [`run`] is what every host does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use trackerless_common::net::Clock;
use trackerless_common::offline::{CreatePlan, create};
use trackerless_common::storage::{Storage, StorageConfig};
use trackerless_core::io::{AddTorrent, Command, Source, Tag, Ticket, Unread};
use trackerless_core::{Config, Engine, Event, Input, Instant, Outbox, Output};

/// What reaches a host: a finished job of its own, say, or what the other one sends.
enum Arrival {
    Input(Input<'static>),
    Bytes(Vec<u8>),
}

struct Host {
    clock: Clock,
    disk: Storage,
    own: Sender<Arrival>,
    other: Sender<Arrival>,
    arrivals: Receiver<Arrival>,
    stream: Option<Unread>,
}

static COMPLETE: AtomicU32 = AtomicU32::new(0);

fn run(mut engine: Engine, mut host: Host) {
    let mut outbox = Outbox::new();
    while COMPLETE.load(Ordering::Relaxed) < 2 {
        for output in outbox.drain() {
            host.perform(output);
        }
        let input = host.wait(engine.next_timeout());
        engine.handle(host.clock.now(), input, &mut outbox);
    }
}

impl Host {
    /// Does what the engine asks for, without waiting for any of it.
    fn perform(&mut self, output: Output<'_>) {
        match output {
            Output::Job { job, work } => self.disk.submit(job, work),
            Output::Connect { conn, to: from } => {
                self.stream = Some(Unread::new(conn));
                let ticket = Ticket(0);
                tell(&self.other, Input::Incoming { ticket, from });
                tell(&self.own, Input::Connected { conn });
            }
            Output::Accept { conn, .. } => self.stream = Some(Unread::new(conn)),
            Output::Send { conn, head, body } => {
                let bytes = (head.len() + body.len()) as u32;
                _ = self.other.send(Arrival::Bytes([head, &body].concat()));
                tell(&self.own, Input::Sent { conn, bytes });
            }
            Output::ReadCredit { bytes, .. } => {
                if let Some(stream) = &mut self.stream {
                    stream.wanted(bytes);
                }
            }
            Output::Event(Event::Complete { .. }) => _ = COMPLETE.fetch_add(1, Ordering::Relaxed),
            // Other events. There is one stream, never closed, and no socket for datagrams.
            _ => {}
        }
    }

    /// What the engine is to know next, at the latest when it wants to be called.
    fn wait(&mut self, until: Option<Instant>) -> Input<'static> {
        if let Some(input) = self.stream.as_mut().and_then(Unread::take) {
            return input;
        }
        // A tick that comes early does no harm: look every moment whether both are complete.
        let moment = Duration::from_millis(20);
        let wait = until.map_or(moment, |until| self.clock.until(until).min(moment));
        match (self.arrivals.recv_timeout(wait), &mut self.stream) {
            (Ok(Arrival::Input(input)), _) => return input,
            (Ok(Arrival::Bytes(bytes)), Some(stream)) => stream.arrived(&bytes),
            _ => {}
        }
        Input::Tick
    }
}

/// Nobody is there any more where both are complete: then there is nothing left to tell.
fn tell(host: &Sender<Arrival>, input: Input<'static>) {
    _ = host.send(Arrival::Input(input));
}

fn main() {
    let root = tempfile::tempdir().expect("a folder");
    // Whole pieces in each half: what neither had could not be had.
    let content: Vec<u8> = (0..1u32 << 20).flat_map(u32::to_be_bytes).collect();
    let path = root.path().join("content");
    fs::write(&path, &content).expect("a file");
    let torrent = create(&CreatePlan::of(path)).expect("a torrent").bytes;

    let (a, b) = (channel(), channel());
    let hosts = [("a", b.0.clone(), a.0.clone(), a.1), ("b", a.0, b.0, b.1)];
    thread::scope(|scope| {
        for (index, (name, other, own, arrivals)) in hosts.into_iter().enumerate() {
            let folder = root.path().join(name);
            fs::create_dir(&folder).expect("a folder");
            let mut half = content.clone();
            half[index * content.len() / 2..][..content.len() / 2].fill(0);
            fs::write(folder.join("content"), half).expect("a file");

            let mut add = AddTorrent::new(Source::torrent(torrent.clone()).expect("a torrent"));
            // The second knows the first, which expects it by then; addresses are only names here.
            add.peers = [([10, 0, 0, 1], 6881).into()][..index].to_vec();
            tell(&own, Input::command(Tag(1), Command::AddTorrent(add)));

            let done = own.clone();
            let disk = Storage::new(StorageConfig::below(folder), move |job, result| {
                tell(&done, Input::JobDone { job, result });
            });
            let (clock, stream) = (Clock::new(), None);
            let host = Host {
                clock,
                disk,
                own,
                other,
                arrivals,
                stream,
            };
            let engine = Engine::new(Config::default().into(), [index as u8; 32], clock.now());
            scope.spawn(|| run(engine.expect("the defaults are in range"), host));
        }
    });
    for name in ["a", "b"] {
        assert!(fs::read(root.path().join(name).join("content")).expect("a file") == content);
    }
    println!("two engines have {} bytes from each other", content.len());
}
