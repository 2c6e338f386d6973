//! Two DHT nodes on real sockets, on 127.0.0.1 only.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use trackerless_common::host::{App, Flow, Handle, Inbox, Setup, View};
use trackerless_common::sockets::Listen;
use trackerless_common::storage::{Storage, StorageConfig};
use trackerless_core::Config;
use trackerless_core::event::Event;
use trackerless_core::io::{Command, Tag};

enum News {
    Listening(SocketAddr),
    Lookup(Tag, u16),
}

struct Reporting(mpsc::Sender<News>);

impl App for Reporting {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        self.0.send(News::Listening(listening[0])).unwrap();
        Vec::new()
    }

    fn on_event(&mut self, event: &Event, _: &dyn View) -> Flow {
        if let Event::LookupDone { tag, summary } = event {
            self.0.send(News::Lookup(*tag, summary.replies)).unwrap();
        }
        Flow::Continue
    }

    fn on_second(&mut self, _: &dyn View) -> Flow {
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        Flow::Exit(7)
    }
}

struct Node {
    handle: Handle,
    news: mpsc::Receiver<News>,
    addr: SocketAddr,
    thread: thread::JoinHandle<u8>,
}

fn node(seed: u8) -> Node {
    let inbox = Inbox::new();
    let (sender, news) = mpsc::channel();
    let answers = Arc::clone(&inbox);
    let config = Config {
        lab: true,
        tcp: false,
        ..Config::default()
    };
    let setup = Setup {
        config: Arc::new(config),
        seed: [seed; 32],
        listen: vec![Listen::exactly("127.0.0.1:0".parse().unwrap())],
        storage: Storage::into_inbox(StorageConfig::default(), answers),
        inbox: Arc::clone(&inbox),
        app: Box::new(Reporting(sender)),
        record: None,
    };
    let thread = thread::spawn(move || trackerless_mio::run(setup).unwrap());
    let Ok(News::Listening(addr)) = news.recv_timeout(Duration::from_secs(10)) else {
        panic!("it does not listen");
    };
    Node {
        handle: Handle::new(inbox),
        news,
        addr,
        thread,
    }
}

#[test]
fn two_nodes_ping_each_other_and_leave_with_their_code() {
    let nodes = [node(1), node(2)];
    for (asker, asked) in [(0, 1), (1, 0)] {
        let ping = Command::DhtPing(nodes[asked].addr);
        let tag = nodes[asker].handle.command(ping);
        let answer = nodes[asker].news.recv_timeout(Duration::from_secs(10));
        let Ok(News::Lookup(of, replies)) = answer else {
            panic!("no end of the lookup");
        };
        assert_eq!((of, replies), (tag, 1));
    }
    for node in nodes {
        node.handle.interrupt();
        assert_eq!(node.thread.join().unwrap(), 7);
    }
}
