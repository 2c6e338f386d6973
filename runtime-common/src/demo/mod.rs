//! A whole trackerless swarm on this machine: a DHT, one seeder, and leechers that know nothing
//! but a magnet link. Offline: every socket is on 127.0.0.1.

mod apps;
mod content;
mod state;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use trackerless_core::Config;
use trackerless_core::io::{AddTorrent, Source};

use crate::cli::DemoArgs;
use crate::error::{DONE, Failure, INTERRUPTED};
use crate::host::{App, Handle, Inbox, Setup};
use crate::sockets::Listen;
use crate::storage::{Storage, StorageConfig};
use apps::{DhtNode, Peer};
use content::Content;
use state::{NodeState, Shared, State};
use view::View;

/// The whole demo takes a few seconds; over this much, and the time the file itself takes, it says
/// what it waits for and gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second that any machine gives each leecher.
const SLOWEST: u64 = 2 << 20;
/// Time for the nodes of the DHT to hear of each other.
const SETTLING: Duration = Duration::from_secs(5);
/// Time between looks at the state.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time for goodbyes at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Runs one engine to its end on the calling thread; returns the exit status its app gave.
pub type RunOne = dyn Fn(Setup) -> Result<u8, Failure> + Sync;

/// Runs the demo, every engine on a thread of its own; returns the exit status.
///
/// # Errors
/// What could not be done.
pub fn run(args: &DemoArgs, run_one: &RunOne) -> Result<u8, Failure> {
    let begun = Instant::now();
    let interrupts = Inbox::new();
    crate::signals::install(Arc::clone(&interrupts))
        .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let content = Content::make(args.size, u64::from(args.leechers) + 1)?;
    let mut view = View::new(args.output, args.leechers);
    view.begin(args, &content);
    let shared = Shared::new(args.nodes.into(), args.leechers.into());
    let played = thread::scope(|scope| {
        let mut demo = Demo {
            shared: Arc::clone(&shared),
            view: &mut view,
            scope,
            run_one,
            uplink: args.uplink,
            handles: Vec::new(),
            interrupts,
            deadline: Instant::now() + patience(args),
        };
        let played = demo.play(&content);
        demo.say_goodbye();
        played
    });
    view.clear();
    match played {
        Ok(()) => {
            if view.end(&shared.lock(), &content, begun.elapsed()) {
                return Ok(DONE);
            }
            Err(Failure::failed(
                "a copy is not what was shared: look at the lines that say WRONG, and whether \
                 something else writes to the temporary folder",
            ))
        }
        Err(Stop::Interrupted) => Ok(INTERRUPTED),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// How long everything may take: a copy of the file at half the uplink, and the rest.
fn patience(args: &DemoArgs) -> Duration {
    let rate = match args.uplink {
        0 => SLOWEST,
        uplink => (uplink / 2).clamp(1, SLOWEST),
    };
    PATIENCE + Duration::from_secs(args.size / rate)
}

enum Stop {
    Interrupted,
    Failed(Failure),
}

struct Demo<'d, 'scope, 'env> {
    shared: Arc<Shared>,
    view: &'d mut View,
    scope: &'scope Scope<'scope, 'env>,
    run_one: &'env RunOne,
    /// Bytes a second each peer may upload; 0 for any number.
    uplink: u64,
    handles: Vec<Handle>,
    interrupts: Arc<Inbox>,
    deadline: Instant,
}

impl Demo<'_, '_, '_> {
    fn play(&mut self, content: &Content) -> Result<(), Stop> {
        let (nodes, peers) = {
            let state = self.shared.lock();
            (state.nodes.len(), state.peers.len())
        };
        for node in 0..nodes {
            // Everybody asks the first one, as everybody asks a router.
            let contacts = self.addresses(0..node.min(1));
            let app = DhtNode::new(Arc::clone(&self.shared), node, contacts);
            self.start(Box::new(app), None)?;
            if node == 0 {
                self.wait("the first node", |state| state.nodes[0].addr.is_some())?;
            }
        }
        // In a network this young, those who joined first know nobody yet, and two lookups of one
        // target may end with different nodes.
        let settled = Instant::now() + SETTLING;
        self.wait("the DHT to come up", |state| {
            let known = |node: &NodeState| node.contacts as usize * 2 + 1 >= nodes;
            state.nodes.iter().all(|node| node.ready)
                && (state.nodes.iter().all(known) || Instant::now() >= settled)
        })?;

        for peer in 0..peers {
            let torrent = if peer == 0 {
                AddTorrent {
                    check: true,
                    ..AddTorrent::new(Source::Torrent(content.torrent.clone()))
                }
            } else {
                AddTorrent::new(Source::Magnet(content.magnet.clone()))
            };
            let contact = (peer * 7) % nodes;
            let contacts = self.addresses(contact..contact + 1);
            let app = Peer::new(Arc::clone(&self.shared), peer, contacts, torrent);
            self.start(Box::new(app), Some(content.folder(peer)))?;
            if peer == 0 {
                // Whoever comes before finds nobody, or nobody with anything to give, and tries
                // again much later.
                self.wait("the seeder to announce itself", |state| {
                    let seeder = &state.peers[0];
                    seeder.announced && seeder.checked
                })?;
            }
        }
        self.wait("the leechers to have the file", |state| {
            let mut leechers = state.peers.iter().skip(1);
            leechers.all(|peer| peer.complete.is_some())
        })
    }

    fn addresses(&self, nodes: Range<usize>) -> Vec<SocketAddr> {
        let state = self.shared.lock();
        let nodes = state.nodes[nodes].iter();
        nodes.filter_map(|node| node.addr).collect()
    }

    /// Starts one engine; with `output` it is a peer.
    fn start(&mut self, app: Box<dyn App>, output: Option<PathBuf>) -> Result<(), Stop> {
        let setup = setup(app, output, self.uplink).map_err(Stop::Failed)?;
        self.handles.push(Handle::new(Arc::clone(&setup.inbox)));
        let (run_one, shared) = (self.run_one, Arc::clone(&self.shared));
        self.scope.spawn(move || {
            let failure = run_one(setup).err();
            shared.change(|state| {
                state.stopped += 1;
                state.failure = state.failure.take().or(failure);
            });
        });
        Ok(())
    }

    fn wait(&mut self, what: &str, done: impl Fn(&State) -> bool) -> Result<(), Stop> {
        self.view.phase(what);
        let shared = Arc::clone(&self.shared);
        let mut arrivals = Vec::new();
        let mut state = shared.lock();
        loop {
            self.view.look(&mut state);
            self.interrupts.drain(&mut arrivals);
            if !arrivals.is_empty() {
                return Err(Stop::Interrupted);
            }
            if let Some(failure) = &state.failure {
                return Err(Stop::Failed(failure.clone()));
            }
            if done(&state) {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                return Err(Stop::Failed(Failure::failed(format!(
                    "waited in vain for {what}: is the machine very busy? try a smaller --size"
                ))));
            }
            state = shared.wait(state, LOOK_EVERY);
        }
    }

    fn say_goodbye(&mut self) {
        let deadline = Instant::now() + GOODBYE;
        self.interrupt_all();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        while state.stopped < self.handles.len() {
            state = shared.wait(state, LOOK_EVERY);
            if Instant::now() >= deadline {
                drop(state);
                // The second interrupt ends them without goodbyes.
                return self.interrupt_all();
            }
        }
    }

    fn interrupt_all(&self) {
        for handle in &self.handles {
            handle.interrupt();
        }
    }
}

/// Parts of an engine on loopback that saves nothing; with `output` it is a peer.
fn setup(app: Box<dyn App>, output: Option<PathBuf>, uplink: u64) -> Result<Setup, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::failed(format!("no randomness: {error}")))?;
    let mut config = Config {
        lab: true,
        tcp: output.is_some(),
        ..Config::default()
    };
    // The DHT alone is to be seen at work.
    config.lsd.enabled = false;
    config.tracker.enabled = false;
    config.limits.upload_rate = uplink;
    let inbox = Inbox::new();
    let answers = Arc::clone(&inbox);
    let storage = StorageConfig {
        threads: 1,
        sync_on_close: false,
        output,
        ..StorageConfig::default()
    };
    Ok(Setup {
        config: Arc::new(config),
        seed,
        listen: vec![Listen::exactly((Ipv4Addr::LOCALHOST, 0).into())],
        storage: Storage::into_inbox(storage, answers),
        inbox,
        app,
        record: None,
    })
}
