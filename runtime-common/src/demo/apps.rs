use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use trackerless_core::event::{CommandError, Done, Event, PeerSource, SourceStatus};
use trackerless_core::io::{AddTorrent, Command, Tag, TorrentId};

use super::state::{PeerState, Shared, State};
use crate::display::job_error;
use crate::error::Failure;
use crate::host::{App, Flow, View};

const BOOTSTRAP: Tag = Tag(1);
const ADD: Tag = Tag(2);
const SHUTDOWN: Tag = Tag(3);

/// A node of the DHT and nothing else.
pub(super) struct DhtNode {
    shared: Arc<Shared>,
    index: usize,
    contacts: Vec<SocketAddr>,
}

impl DhtNode {
    pub(super) fn new(shared: Arc<Shared>, index: usize, contacts: Vec<SocketAddr>) -> Self {
        Self {
            shared,
            index,
            contacts,
        }
    }
}

impl App for DhtNode {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        self.shared.change(|state| {
            let node = &mut state.nodes[self.index];
            node.addr = listening.first().copied();
            node.ready = self.contacts.is_empty();
        });
        bootstrap(&self.contacts)
    }

    fn on_event(&mut self, event: &Event, _: &dyn View) -> Flow {
        match event {
            Event::CommandDone { tag: BOOTSTRAP, .. } => {
                self.shared
                    .change(|state| state.nodes[self.index].ready = true);
            }
            Event::DhtStatus { nodes_v4, .. } => {
                self.shared
                    .change(|state| state.nodes[self.index].contacts = *nodes_v4);
            }
            _ => {}
        }
        Flow::Continue
    }

    fn on_second(&mut self, _: &dyn View) -> Flow {
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        Flow::Exit(0)
    }
}

/// The seeder or a leecher.
pub(super) struct Peer {
    shared: Arc<Shared>,
    index: usize,
    contacts: Vec<SocketAddr>,
    add: Option<AddTorrent>,
    torrent: Option<TorrentId>,
    stopping: bool,
}

impl Peer {
    pub(super) fn new(
        shared: Arc<Shared>,
        index: usize,
        contacts: Vec<SocketAddr>,
        add: AddTorrent,
    ) -> Self {
        Self {
            shared,
            index,
            contacts,
            add: Some(add),
            torrent: None,
            stopping: false,
        }
    }

    fn change(&self, change: impl FnOnce(&mut PeerState)) {
        self.shared
            .change(|state| change(&mut state.peers[self.index]));
    }

    fn refresh(&self, view: &dyn View) {
        let stats = self.torrent.and_then(|torrent| view.torrent(torrent));
        if stats.is_some() {
            self.change(|peer| peer.stats = stats);
        }
    }

    fn refused(&self, error: &CommandError) {
        let name = State::peer_name(self.index);
        self.fail(format!("the {name} was refused: {error:?}"));
    }

    fn fail(&self, message: String) {
        self.shared.change(|state| {
            state.failure.get_or_insert(Failure::failed(message));
        });
    }

    fn note(&self, event: &Event) {
        self.change(|peer| {
            match event {
                Event::PeerFound { addr, source, .. } => {
                    peer.found.entry(*addr).or_insert(*source);
                }
                Event::PeerConnected(link) if link.incoming => peer.incoming += 1,
                Event::PeerConnected(link) => {
                    peer.connected.insert(link.addr, link.client.clone());
                }
                Event::Source {
                    source: PeerSource::Dht,
                    status: SourceStatus::Idle,
                    ..
                } => peer.announced = true,
                Event::Checked { .. } => peer.checked = true,
                Event::PeerClosed { .. } => {}
                Event::Complete { .. } => {
                    peer.complete = peer.since.map(|since| since.elapsed());
                }
                _ => return,
            }
            peer.news.push(event.clone());
        });
    }
}

impl App for Peer {
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)> {
        self.change(|peer| {
            peer.addr = listening.first().copied();
            peer.since = Some(Instant::now());
        });
        bootstrap(&self.contacts)
    }

    fn on_event(&mut self, event: &Event, view: &dyn View) -> Flow {
        match event {
            Event::CommandDone { tag: SHUTDOWN, .. } => return Flow::Exit(0),
            Event::CommandDone {
                result: Err(error), ..
            } => self.refused(error),
            Event::CommandDone { tag: BOOTSTRAP, .. } => {
                if let Some(add) = self.add.take() {
                    return Flow::Commands(vec![(ADD, Command::AddTorrent(add))]);
                }
            }
            Event::CommandDone {
                tag: ADD,
                result: Ok(Done::Torrent(torrent)),
            } => self.torrent = Some(*torrent),
            Event::PieceDone { .. } => self.refresh(view),
            Event::StorageFailed { error, .. } => {
                let name = State::peer_name(self.index);
                let reason = job_error(*error);
                self.fail(format!("the {name}: {reason}"));
            }
            _ => self.note(event),
        }
        Flow::Continue
    }

    fn on_second(&mut self, view: &dyn View) -> Flow {
        self.refresh(view);
        Flow::Continue
    }

    fn on_interrupt(&mut self) -> Flow {
        if std::mem::replace(&mut self.stopping, true) {
            return Flow::Exit(0);
        }
        Flow::Commands(vec![(SHUTDOWN, Command::Shutdown)])
    }
}

fn bootstrap(contacts: &[SocketAddr]) -> Vec<(Tag, Command)> {
    if contacts.is_empty() {
        return Vec::new();
    }
    vec![(BOOTSTRAP, Command::DhtBootstrap(contacts.to_vec()))]
}
