use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trackerless_core::engine::TorrentStats;
use trackerless_core::event::{Event, PeerSource};

use crate::error::Failure;

/// What the apps of all engines tell the demo.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: Vec<NodeState>,
    /// The seeder, then the leechers.
    pub(super) peers: Vec<PeerState>,
    /// Engines that have left their loop.
    pub(super) stopped: usize,
    /// Why it cannot go on.
    pub(super) failure: Option<Failure>,
}

#[derive(Debug, Default)]
pub(super) struct NodeState {
    pub(super) addr: Option<SocketAddr>,
    /// Its first lookup is over.
    pub(super) ready: bool,
    /// Contacts in its table.
    pub(super) contacts: u32,
}

#[derive(Debug, Default)]
pub(super) struct PeerState {
    pub(super) addr: Option<SocketAddr>,
    pub(super) since: Option<Instant>,
    pub(super) stats: Option<TorrentStats>,
    /// Through what it heard of whom, first.
    pub(super) found: BTreeMap<SocketAddr, PeerSource>,
    /// Whom it connected to.
    pub(super) connected: BTreeMap<SocketAddr, String>,
    pub(super) incoming: u32,
    /// The DHT has stored that it is a peer.
    pub(super) announced: bool,
    /// What it has on disk was looked through.
    pub(super) checked: bool,
    pub(super) complete: Option<Duration>,
    /// Events for `--json` that were not printed yet.
    pub(super) news: Vec<Event>,
}

impl Shared {
    pub(super) fn new(nodes: usize, leechers: usize) -> Arc<Self> {
        let mut state = State::default();
        state.nodes.resize_with(nodes, NodeState::default);
        state.peers.resize_with(leechers + 1, PeerState::default);
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells who waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits for a change, at most for `time`.
    pub(super) fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        time: Duration,
    ) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// What to call peer number `index`.
    pub(super) fn peer_name(index: usize) -> String {
        match index {
            0 => "seeder".into(),
            index => format!("leecher {index}"),
        }
    }

    /// Who listens at `addr`.
    pub(super) fn name_of(&self, addr: SocketAddr) -> Option<String> {
        let index = self.peers.iter().position(|peer| peer.addr == Some(addr));
        index.map(Self::peer_name)
    }
}
