use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use trackerless_common::host::{App, Flow, Handle, Inbox, Setup, View};
use trackerless_common::net::StartError;
use trackerless_common::sockets::Listen;
use trackerless_common::storage::{Storage, StorageConfig};
use trackerless_core::Config;
use trackerless_core::event::{Done, Event};
use trackerless_core::io::{Command, Tag, TorrentId};

use crate::Driver;
use crate::updates::{Receiver, Sender, Update, channel};

/// Tag of the command that [`Node::shutdown`] gives.
const SHUTDOWN: Tag = Tag(1);

/// What a [`Node`] is made of.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Parameters of the engine.
    pub config: Config,
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Files, hashes and saved state.
    pub storage: StorageConfig,
    /// Where every input of the engine is recorded.
    pub record: Option<PathBuf>,
    /// Events that may wait to be taken; further ones are dropped, and
    /// [`Update::Lagged`] says how many. Answers to commands come on top.
    pub max_events: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            config: Config::default(),
            listen: Listen::defaults().to_vec(),
            storage: StorageConfig::default(),
            record: None,
            // A few megabytes, and seconds of the busiest engine.
            max_events: 16_384,
        }
    }
}

/// A running engine as a library: commands in, events out.
///
/// ```
/// use trackerless_common::sockets::Listen;
/// use trackerless_core::event::Event;
/// use trackerless_core::io::Command;
/// use trackerless_tokio::{Node, NodeOptions, Update};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let loopback = || NodeOptions {
///     listen: vec![Listen::exactly("127.0.0.1:0".parse().unwrap())],
///     ..NodeOptions::default()
/// };
/// let other = Node::spawn(loopback()).unwrap();
/// let mut node = Node::spawn(loopback()).unwrap();
/// let ping = node.command(Command::DhtPing(other.listening()[0]));
/// while let Some(update) = node.update().await {
///     if let Update::Event(Event::LookupDone { tag, summary }) = update {
///         assert_eq!((tag, summary.replies), (ping, 1));
///         break;
///     }
/// }
/// node.shutdown().await;
/// other.shutdown().await;
/// # });
/// ```
pub struct Node {
    handle: Handle,
    updates: Receiver,
    listening: Vec<SocketAddr>,
    task: JoinHandle<u8>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Starts an engine as a task of the current runtime, which needs `enable_io` and
    /// `enable_time`.
    ///
    /// # Errors
    /// What could not be opened, and why.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(options: NodeOptions) -> Result<Self, StartError> {
        let (sender, updates) = channel(options.max_events);
        let bound = Arc::new(Mutex::new(Vec::new()));
        let relay = Relay {
            updates: sender,
            bound: Arc::clone(&bound),
            torrents: Vec::new(),
            stopping: false,
        };
        let inbox = Inbox::new();
        let setup = setup(options, Box::new(relay), &inbox)?;
        let driver = Driver::new(setup)?;
        let listening = bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self {
            handle: Handle::new(inbox),
            updates,
            listening,
            task: tokio::spawn(driver.run()),
        })
    }

    /// Where it listens, ports included.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Hands a command to the engine; events that answer carry the tag.
    pub fn command(&self, command: Command) -> Tag {
        self.handle.command(command)
    }

    /// To give commands from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next update; `None` once the engine is gone. Of those that wait to be taken only so
    /// many are kept: [`Update::Lagged`] tells of the others.
    pub async fn update(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// Says goodbye to peers, saves state, and returns when all of that is done.
    pub async fn shutdown(self) {
        self.handle.interrupt();
        // It fails only when the task panicked, which was told by then.
        let _ = self.task.await;
    }
}

fn setup(options: NodeOptions, app: Box<dyn App>, inbox: &Arc<Inbox>) -> Result<Setup, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    let answers = Arc::clone(inbox);
    Ok(Setup {
        config: Arc::new(options.config),
        seed,
        listen: options.listen,
        storage: Storage::into_inbox(options.storage, answers),
        inbox: Arc::clone(inbox),
        app,
        record: options.record,
    })
}

/// Hands events on to the embedder.
struct Relay {
    updates: Sender,
    bound: Arc<Mutex<Vec<SocketAddr>>>,
    torrents: Vec<TorrentId>,
    stopping: bool,
}

impl App for Relay {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.extend_from_slice(listening);
        Vec::new()
    }

    fn on_event(&mut self, event: &Event, _: &dyn View) -> Flow {
        match event {
            Event::CommandDone { tag: SHUTDOWN, .. } => return Flow::Exit(0),
            Event::CommandDone {
                result: Ok(Done::Torrent(torrent)),
                ..
            } => self.torrents.push(*torrent),
            _ => {}
        }
        self.updates.event(event);
        Flow::Continue
    }

    fn on_second(&mut self, view: &dyn View) -> Flow {
        let updates = &self.updates;
        self.torrents.retain(|&torrent| {
            let stats = view.torrent(torrent);
            match stats {
                Some(stats) => updates.stats(torrent, stats),
                None => updates.forget(torrent),
            }
            stats.is_some()
        });
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        if std::mem::replace(&mut self.stopping, true) {
            return Flow::Exit(130);
        }
        Flow::Commands(vec![(SHUTDOWN, Command::Shutdown)])
    }
}
