//! What runs on a host: anything that speaks the core's verbs.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use trackerless_core::config::ConfigError;
use trackerless_core::dht::{self, AnnouncePort, Dht, Lookup, LookupId};
use trackerless_core::event::{Done, Event};
use trackerless_core::id::NodeId;
use trackerless_core::io::{Command, Tag};
use trackerless_core::{Config, Engine, Input, Instant, Outbox};

/// A machine that can live on a host: [`Engine`] is one, and whoever writes another, in this
/// language or behind it, can have it join.
///
/// The contract is that of the core: `handle` is the only thing that changes it, and what it does
/// depends on nothing but its inputs. One that reads a clock or a random number of its own makes
/// the run's root depend on that.
pub trait Machine: Any + Send {
    /// Takes one input and appends what follows from it to `out`.
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox);

    /// When the next [`Input::Tick`] is due at the latest; `None` is never.
    fn next_timeout(&self) -> Option<Instant>;
}

impl Machine for Engine {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        Self::handle(self, now, input, out);
    }

    fn next_timeout(&self) -> Option<Instant> {
        Self::next_timeout(self)
    }
}

/// The production DHT node alone: a host of a large network that does nothing else.
pub struct DhtNode {
    dht: Dht,
    max_datagram: usize,
    events: Vec<dht::Event>,
    /// Whose lookups are under way.
    tags: BTreeMap<LookupId, Tag>,
    started: u64,
}

impl DhtNode {
    /// Makes a node.
    ///
    /// # Errors
    /// The first field of `config` that is out of range.
    pub fn new(config: Arc<Config>, seed: &[u8; 32], now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        let max_datagram = usize::from(config.dht.max_datagram);
        Ok(Self {
            dht: Dht::new(config, seed, now),
            max_datagram,
            events: Vec::new(),
            tags: BTreeMap::new(),
            started: 0,
        })
    }

    /// The node, to look at.
    #[must_use]
    pub fn dht(&self) -> &Dht {
        &self.dht
    }

    /// Gives it a routing table.
    pub(crate) fn know(&mut self, now: Instant, nodes: &[(NodeId, SocketAddr)]) {
        let mut out = Outbox::new();
        let input = dht::Input::Trusted(nodes);
        self.dht.handle(now, input, &mut out, &mut self.events);
        self.events.clear();
    }

    fn command(&mut self, tag: Tag, command: Command, now: Instant, out: &mut Outbox) {
        let lookup = match command {
            Command::DhtBootstrap(contacts) => {
                let input = dht::Input::Bootstrap(&contacts);
                self.dht.handle(now, input, out, &mut self.events);
                return self.done(tag, out);
            }
            Command::DhtLoad(data) => {
                let input = dht::Input::Load(&data);
                self.dht.handle(now, input, out, &mut self.events);
                return self.done(tag, out);
            }
            Command::AddDhtNode(addr) => {
                let input = dht::Input::AddNode(addr);
                self.dht.handle(now, input, out, &mut self.events);
                return self.done(tag, out);
            }
            Command::DhtPing(addr) => Lookup::Ping(addr),
            Command::DhtFindNode(id) => Lookup::FindNode(id),
            Command::DhtGetPeers(id) => Lookup::GetPeers(id),
            Command::DhtAnnounce(id, port) => {
                let port = port.map_or(AnnouncePort::AsSeen, AnnouncePort::Given);
                Lookup::Announce(id, port)
            }
            Command::DhtScrape(id) => Lookup::Scrape(id),
            Command::DhtSample(addr) => Lookup::Sample(addr),
            Command::DhtGet(id, salt) => Lookup::Get(id, salt),
            Command::DhtPut(item, cas) => Lookup::Put(item, cas),
            _ => return,
        };
        let id = LookupId(self.started);
        self.started += 1;
        self.tags.insert(id, tag);
        let input = dht::Input::Start(id, lookup);
        self.dht.handle(now, input, out, &mut self.events);
    }

    fn done(&mut self, tag: Tag, out: &mut Outbox) {
        let result = Ok(Done::Ok);
        out.event(Event::CommandDone { tag, result });
    }

    /// Tells the embedder what the node said.
    fn tell(&mut self, out: &mut Outbox) {
        for event in self.events.drain(..) {
            match event {
                dht::Event::Found(id, found) => {
                    if let Some(tag) = self.tags.get(&id).copied() {
                        out.event(Event::LookupFound { tag, found });
                    }
                }
                dht::Event::Done(id, summary) => {
                    if let Some(tag) = self.tags.remove(&id) {
                        out.event(Event::LookupDone { tag, summary });
                    }
                }
                dht::Event::Refused(id) => {
                    self.tags.remove(&id);
                }
                // Signatures are not checked here, and so not known to be right.
                dht::Event::Check(..) | dht::Event::BadState(_) | dht::Event::Status { .. } => {}
            }
        }
    }
}

impl Machine for DhtNode {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        let input = match input {
            Input::Tick => dht::Input::Tick,
            Input::SocketUp { socket, local } => dht::Input::SocketUp(socket, local),
            Input::SocketDown { socket, .. } => dht::Input::SocketDown(socket),
            Input::Datagram {
                socket,
                from,
                payload,
            } if payload.first() == Some(&b'd') && payload.len() <= self.max_datagram => {
                dht::Input::Datagram {
                    socket,
                    from,
                    payload,
                }
            }
            Input::SendFailed { to, .. } => dht::Input::SendFailed(to),
            Input::Command { tag, command } => {
                self.command(tag, *command, now, out);
                return self.tell(out);
            }
            // Nobody connects to it, and it has no jobs done.
            Input::Incoming { ticket, .. } => {
                return out.push(trackerless_core::Output::Refuse { ticket });
            }
            _ => return,
        };
        self.dht.handle(now, input, out, &mut self.events);
        if !self.events.is_empty() {
            self.tell(out);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.dht.next_timeout()
    }
}

/// What a host is told about itself when its machine is made.
#[derive(Debug, Clone)]
pub struct Born {
    /// The configuration of its spec.
    pub config: Arc<Config>,
    /// What all its randomness has to come from.
    pub seed: [u8; 32],
    /// Its clock.
    pub now: Instant,
}

/// Makes machines: one at the start of a host, another at each restart.
pub type Make = Arc<dyn Fn(&Born) -> Result<Box<dyn Machine>, ConfigError> + Send + Sync>;

/// What a host is.
#[derive(Clone, Default)]
pub enum Role {
    /// A whole engine.
    #[default]
    Engine,
    /// A production DHT node and nothing else.
    DhtNode,
    /// Whatever this makes.
    Custom(Make),
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "Engine",
            Self::DhtNode => "DhtNode",
            Self::Custom(_) => "Custom",
        })
    }
}

impl Role {
    /// A role whose machines this makes.
    pub fn custom<M: Machine>(
        make: impl Fn(&Born) -> Result<M, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self::Custom(Arc::new(move |born| {
            make(born).map(|machine| Box::new(machine) as Box<dyn Machine>)
        }))
    }

    pub(crate) fn make(&self, born: &Born) -> Result<Box<dyn Machine>, ConfigError> {
        let config = Arc::clone(&born.config);
        Ok(match self {
            Self::Engine => Box::new(Engine::new(config, born.seed, born.now)?),
            Self::DhtNode => Box::new(DhtNode::new(config, &born.seed, born.now)?),
            Self::Custom(make) => make(born)?,
        })
    }
}
