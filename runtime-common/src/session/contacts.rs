//! The first contacts of a DHT node.

use std::net::SocketAddr;

use bytes::Bytes;
use trackerless_core::io::{Command, Tag};

use super::{TAG_BOOTSTRAP, TAG_LOAD, TAG_NAMES};
use crate::cli::{NetArgs, ROUTERS};
use crate::offline::table_nodes;
use crate::state::StateDir;

/// Whom a DHT node asks first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contacts {
    /// Addresses.
    pub addrs: Vec<SocketAddr>,
    /// Names that must be resolved.
    pub names: Vec<(String, u16)>,
    /// The table saved last.
    pub saved: Option<Bytes>,
}

impl Contacts {
    /// The contacts of `--bootstrap`, or else the saved table and the well-known routers. A node
    /// that only listens on loopback asks nobody outside: it could not reach them.
    #[must_use]
    pub fn of(net: &NetArgs, state: Option<&StateDir>) -> Self {
        if net.no_dht {
            return Self::default();
        }
        let mut contacts = Self::default();
        for host in net.contacts() {
            match host.literal() {
                Some(addr) => contacts.addrs.push(addr),
                None => contacts.names.push((host.host.clone(), host.port)),
            }
        }
        if !contacts.is_empty() {
            return contacts;
        }
        contacts.saved = state.and_then(StateDir::load_dht).map(Bytes::from);
        let loopback_only =
            !net.listen.is_empty() && net.listen.iter().all(|addr| addr.ip().is_loopback());
        if !loopback_only {
            let routers = ROUTERS.map(|(host, port)| (host.to_owned(), port));
            contacts.names.extend(routers);
        }
        contacts
    }

    /// Whether there is nobody to ask: a saved table counts by the nodes in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let saved = self.saved.as_ref();
        self.addrs.is_empty()
            && self.names.is_empty()
            && saved.is_none_or(|table| table_nodes(table).is_empty())
    }

    /// The commands that begin the bootstrap.
    pub(super) fn commands(&self) -> Vec<(Tag, Command)> {
        let mut commands = Vec::new();
        if let Some(saved) = &self.saved {
            commands.push((TAG_LOAD, Command::DhtLoad(saved.clone())));
        }
        if !self.addrs.is_empty() {
            commands.push((TAG_BOOTSTRAP, Command::DhtBootstrap(self.addrs.clone())));
        }
        if !self.names.is_empty() {
            commands.push((TAG_NAMES, Command::DhtBootstrapNames(self.names.clone())));
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"d5:nodes26:aaaaaaaaaaaaaaaaaaaa\x0a\0\0\x01\x1a\xe1e";

    #[test]
    fn a_saved_table_counts_by_the_nodes_in_it() {
        let of = |saved: &'static [u8]| Contacts {
            saved: Some(Bytes::from_static(saved)),
            ..Contacts::default()
        };
        assert!(!of(TABLE).is_empty());
        assert!(of(b"d2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes0:e").is_empty());
        assert!(of(b"junk").is_empty());
    }

    #[test]
    fn given_contacts_replace_the_table_and_the_routers() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state
            .save(trackerless_core::io::StateKind::DhtTable, TABLE)
            .unwrap();
        let mut net = NetArgs::default();
        let defaults = Contacts::of(&net, Some(&state));
        assert_eq!(defaults.names.len(), ROUTERS.len());
        assert_eq!(defaults.saved.as_deref(), Some(TABLE));

        net.listen = vec!["127.0.0.1:0".parse().unwrap()];
        assert!(Contacts::of(&net, None).is_empty());

        net.bootstrap = vec!["127.0.0.1:9, a.example:7".parse().unwrap()];
        let given = Contacts::of(&net, Some(&state));
        assert_eq!(given.addrs, ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!(given.names, [("a.example".to_owned(), 7)]);
        assert_eq!(given.saved, None);
        assert_eq!(given.commands().len(), 2);

        net.no_dht = true;
        assert!(Contacts::of(&net, Some(&state)).is_empty());
    }
}
