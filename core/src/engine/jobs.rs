//! Jobs the host does for us, and whom their results concern.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::Engine;
use crate::dht;
use crate::event::PeerSource;
use crate::io::{JobId, JobResult, Outbox, StateKind, Tag, TorrentId};
use crate::swarm::{self, JobToken};
use crate::tracker;

/// Who waits for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A swarm; so many bytes of block data are being written.
    Swarm {
        torrent: TorrentId,
        token: JobToken,
        bytes: Option<u32>,
    },
    /// A name that is to be resolved.
    Resolve { purpose: Purpose, port: u16 },
    /// The DHT's table is being saved.
    SaveTable(Option<Tag>),
    /// A tracker is being asked.
    Tracker(tracker::JobToken),
    /// The signature of an item is being checked.
    Signature(dht::CheckId),
}

/// What the addresses of a name are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Bootstrap,
    Node,
    Peer(TorrentId),
}

impl Engine {
    pub(super) fn resolve(&mut self, purpose: Purpose, host: &str, port: u16, out: &mut Outbox) {
        let job = JobId(self.jobs.insert(Owner::Resolve { purpose, port }));
        out.resolve(job, host, port);
    }

    pub(super) fn save_table(&mut self, tag: Option<Tag>, out: &mut Outbox) {
        let Some(dht) = &self.dht else { return };
        let job = JobId(self.jobs.insert(Owner::SaveTable(tag)));
        out.save_state(job, StateKind::DhtTable, |buf| dht.save(buf));
    }

    pub(super) fn on_job_done(&mut self, job: JobId, result: JobResult, out: &mut Outbox) {
        let Some(owner) = self.jobs.remove(job.0) else {
            return;
        };
        match owner {
            Owner::Swarm {
                torrent,
                token,
                bytes,
            } => {
                if let Some(bytes) = bytes {
                    self.grants.disk.ended(torrent, bytes);
                }
                self.swarm_input(torrent, swarm::Input::JobDone(token, result));
            }
            Owner::Resolve { purpose, port } => {
                let JobResult::Resolved(addrs) = result else {
                    return;
                };
                let most = usize::from(self.config.limits.max_resolved);
                // A name with a great many addresses gets no more of our attention than others.
                let addrs: Vec<SocketAddr> = addrs
                    .into_iter()
                    .take(most)
                    .map(|ip| SocketAddr::new(ip, port))
                    .collect();
                match purpose {
                    Purpose::Bootstrap => self.dht_input(dht::Input::Bootstrap(&addrs), out),
                    Purpose::Node => {
                        for addr in addrs {
                            self.dht_input(dht::Input::AddNode(addr), out);
                        }
                    }
                    Purpose::Peer(torrent) => {
                        self.peers_found(torrent, PeerSource::Manual, &addrs);
                    }
                }
            }
            Owner::SaveTable(tag) => self.table_saved(tag, out),
            Owner::Signature(id) => {
                let good = result == JobResult::Signature(true);
                self.dht_input(dht::Input::Checked(id, good), out);
            }
            Owner::Tracker(token) => {
                self.tracker_input(tracker::Input::JobDone(token, result), out);
            }
        }
    }
}
