//! Scenarios: who is there, what they want, what happens to them, and what must hold.
//!
//! One type, [`Scenario`], whatever it was made from: a built-in ([`find`]), a TOML file
//! ([`Scenario::parse`]), or Rust, by filling in its fields. Every field has a default.
//!
//! ```
//! use trackerless_sim::scenario::{Group, Role, Scenario};
//!
//! let scenario = Scenario {
//!     groups: vec![
//!         Group::new("seeds", Role::Seed, 1),
//!         Group { knows: vec!["seeds".into()], ..Group::new("leechers", Role::Leech, 3) },
//!     ],
//!     ..Scenario::named("small")
//! };
//! assert_eq!(Scenario::parse(&scenario.to_toml()), Ok(scenario.clone()));
//! assert!(scenario.run(7).failures.is_empty());
//! ```

mod builtin;
mod config;
mod play;
pub(crate) mod tree;
mod units;
pub(crate) mod value;

use std::path::Path;
use std::time::Duration;

use trackerless_core::Config;

use crate::property::{Pack, Rule};
use tree::Item;
use value::{Value, names, table};

pub use builtin::{all, find};
pub use play::{Play, Progress};
pub use tree::{Wrong, nearest};
pub use units::{Rate, Share, Size};

/// Hosts a scenario may have: addresses are numbered through.
const MAX_HOSTS: u32 = 1 << 20;

/// A scenario that can be run with any seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The property it exists for, by its name.
    pub shows: String,
    /// Seed of every draw, where none is given with the command.
    pub seed: u64,
    /// Virtual time within which everybody must have finished; the run ends then.
    pub within: Duration,
    /// Virtual time that the run goes on when everybody has.
    pub linger: Duration,
    /// How hosts get their addresses.
    pub addresses: Addresses,
    /// The network between them.
    pub network: NetworkSpec,
    /// What is shared.
    pub content: ContentSpec,
    /// The hosts, in order.
    pub groups: Vec<Group>,
    /// How hosts go and come back.
    pub churn: Option<Churn>,
    /// What is done, and what goes wrong, when.
    pub timeline: Vec<Step>,
    /// What must hold besides the built-in pack.
    pub properties: Vec<Rule>,
    /// The built-in pack of properties.
    pub pack: Pack,
}

/// How hosts get their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// Each has one of its own.
    #[default]
    Own,
    /// All have the same and a port of their own each, as on one machine.
    Shared,
    /// Each has one of its own, of IPv6.
    V6,
    /// Each has one of the open Internet, in a network of its own: with `config.lab = false`, every
    /// limit that is there for strangers applies.
    Public,
}

/// The network between hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Shortest one-way delay between two hosts.
    pub min_delay: Duration,
    /// Longest one-way delay; each pair of hosts has one of its own in between.
    pub max_delay: Duration,
    /// The law of delays, if they are not spread evenly between those two.
    pub delay: DelayLaw,
    /// Most that is added to the pair's delay, drawn for each datagram.
    pub jitter: Duration,
    /// Datagrams lost.
    pub loss: Share,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(60),
            delay: DelayLaw::Even,
            jitter: Duration::from_millis(2),
            loss: Share::NONE,
        }
    }
}

/// The law of delays between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DelayLaw {
    /// Evenly between the shortest and the longest.
    #[default]
    Even,
    /// Half of [`crate::law::Law::Internet2005`] each way.
    Internet2005,
    /// Half of [`crate::law::Law::Internet2025`] each way.
    Internet2025,
}

/// What is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSpec {
    /// Bytes in all.
    pub size: Size,
    /// Bytes per piece.
    pub piece: Size,
    /// Whether the torrent is private (BEP 27).
    pub private: bool,
}

impl Default for ContentSpec {
    fn default() -> Self {
        Self {
            size: Size(1 << 20),
            piece: Size(1 << 16),
            private: false,
        }
    }
}

/// Hosts of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// By which others name it.
    pub name: String,
    /// How many.
    pub count: u32,
    /// What they do.
    pub role: Role,
    /// What leechers begin with.
    pub source: SourceKind,
    /// Whether its leechers are to finish.
    pub finishes: bool,
    /// How they come.
    pub join: Join,
    /// The group whose hosts are their first contacts in the DHT; none if empty.
    pub through: String,
    /// Which of those.
    pub contact: Contact,
    /// How many of them, the following ones if more than one.
    pub contacts: u32,
    /// Groups whose hosts they know as peers from the start.
    pub knows: Vec<String>,
    /// Uplink.
    pub up: Rate,
    /// Downlink.
    pub down: Rate,
    /// Where its links come from, if they are not all as fast as `up` and `down` say.
    pub access: AccessLaw,
    /// How long a full buffer before a link takes to empty.
    pub buffer: Duration,
    /// Packets lost on the way up, and on the way down, in bursts if that is said.
    pub loss: Share,
    /// Packets are lost in bursts of five on average, rather than each by itself.
    pub bursts: bool,
    /// Packets that are overtaken by others.
    pub reorder: Share,
    /// Packets that come twice.
    pub duplicate: Share,
    /// Packets of which a bit is flipped.
    pub corrupt: Share,
    /// Translators in front of them.
    pub nat: NatLaw,
    /// Of every so many blocks that they serve one is wrong; 0 is none.
    pub lies: u32,
    /// The configuration of their engines.
    pub config: Config,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            count: 1,
            role: Role::Node,
            source: SourceKind::Magnet,
            finishes: true,
            join: Join::default(),
            through: String::new(),
            contact: Contact::Spread,
            contacts: 1,
            knows: Vec::new(),
            up: Rate::mbit(100),
            down: Rate::mbit(100),
            access: AccessLaw::Own,
            buffer: Duration::from_millis(100),
            loss: Share::NONE,
            bursts: false,
            reorder: Share::NONE,
            duplicate: Share::NONE,
            corrupt: Share::NONE,
            nat: NatLaw::None,
            lies: 0,
            config: Config {
                lab: true,
                ..Config::default()
            },
        }
    }
}

impl Group {
    /// So many hosts of a role, with everything else at its default.
    #[must_use]
    pub fn new(name: &str, role: Role, count: u32) -> Self {
        Self {
            name: name.into(),
            role,
            count,
            ..Self::default()
        }
    }

    /// The same with a changed configuration of its engines.
    #[must_use]
    pub fn with_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }
}

/// What hosts of a group do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Nothing but the DHT.
    #[default]
    Node,
    /// They have the content from the start.
    Seed,
    /// They want it.
    Leech,
}

/// What a leecher begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceKind {
    /// A magnet link (BEP 9).
    #[default]
    Magnet,
    /// The torrent.
    Torrent,
}

/// Where the links of a group come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLaw {
    /// All are as the group says.
    #[default]
    Own,
    /// [`crate::law::ACCESS_2025`].
    Access2025,
    /// [`crate::law::DSL_2008`].
    Dsl2008,
}

/// Translators in front of the hosts of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatLaw {
    /// None.
    #[default]
    None,
    /// Whoever sends to a mapped port gets in.
    EndpointIndependent,
    /// Only addresses that were sent to get in.
    AddressRestricted,
    /// Only endpoints that were sent to get in.
    PortRestricted,
    /// Each endpoint is sent to from another port, and only it gets in.
    Symmetric,
    /// A home router, and a carrier's symmetric one before it.
    CarrierGrade,
    /// Of each as many as there are: [`crate::law::NAT_2025`].
    Mix,
}

/// How hosts go and come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Churn {
    /// The group that does; all hosts if empty.
    pub hosts: String,
    /// From when on, since the start of the run.
    pub after: Duration,
    /// Scale of their sessions, by [`crate::law::Law::Sessions`].
    pub session: Duration,
    /// Mean of the pauses between, which are exponential.
    pub pause: Duration,
    /// How many sessions end with the power, not in order.
    pub power_cuts: Share,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            hosts: String::new(),
            after: Duration::ZERO,
            session: crate::law::SESSION_SCALE,
            pause: Duration::from_secs(600),
            power_cuts: Share::NONE,
        }
    }
}

/// How the hosts of a group come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Join {
    /// When the first does, since the start of the run.
    pub after: Duration,
    /// Time between one and the next.
    pub every: Duration,
    /// How that varies.
    pub law: Arrivals,
}

/// How the time between two arrivals varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// Not at all.
    #[default]
    Even,
    /// Exponentially, as if they did not know of each other.
    Poisson,
}

/// Which hosts of another group are a host's first contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contact {
    /// One, another one for each.
    #[default]
    Spread,
    /// The first one, for all.
    First,
    /// One that came before it, in its own group: the network grows from one node.
    Earlier,
}

/// Something that is done, or that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// When, since the start of the run.
    pub at: Duration,
    /// And not before one leecher has so much of the content.
    pub when_done: Share,
    /// What.
    pub action: Action,
    /// The group that does it, or that it happens to; all if empty.
    pub hosts: String,
    /// Packets lost, of [`Action::Loss`].
    pub loss: Share,
    /// How many of the group it is about; of a cut, how many pairs; all if none.
    pub share: Option<Share>,
    /// Which way a cut stops packets.
    pub blocks: Direction,
    /// How long it lasts; a fault heals then. Zero is to the end of the run.
    pub lasting: Duration,
    /// Times it is done.
    pub times: u32,
    /// Time between one and the next.
    pub every: Duration,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Looks up the content's peers in the DHT.
    #[default]
    Lookup,
    /// Says goodbye and leaves for good.
    Leave,
    /// Loses a share of all packets between links.
    Loss,
    /// Cuts the group off from all others.
    Cut,
    /// Kills the processes of hosts; they start again when it is over.
    Crash,
    /// Cuts their power: what is not on the platter is gone, or torn.
    PowerCut,
    /// Suspends them.
    Sleep,
}

/// Which way nothing gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Neither.
    #[default]
    Both,
    /// From the group to others.
    Outward,
    /// From others to the group.
    Inward,
}

impl Action {
    /// Whether it is a fault, after which all that can heal is to heal.
    pub(crate) const fn is_fault(self) -> bool {
        !matches!(self, Self::Lookup | Self::Leave)
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            shows: "finish".into(),
            seed: 0,
            within: Duration::from_secs(120),
            linger: Duration::ZERO,
            addresses: Addresses::Own,
            network: NetworkSpec::default(),
            content: ContentSpec::default(),
            groups: Vec::new(),
            churn: None,
            timeline: Vec::new(),
            properties: Vec::new(),
            pack: Pack::default(),
        }
    }
}

impl Scenario {
    /// An empty scenario of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Reads a scenario from TOML.
    ///
    /// # Errors
    /// The first thing that is wrong: line, key, what was expected, and the nearest name.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse_with(text, &[])
    }

    /// Reads a scenario from TOML with some values changed: each `KEY=VALUE`, where a key is as
    /// `groups.leechers.count` and a value as TOML has it; texts need no quotation marks.
    ///
    /// # Errors
    /// The first thing that is wrong, in the document or in what is to be changed.
    pub fn parse_with(text: &str, set: &[String]) -> Result<Self, Wrong> {
        let mut document = Item::parse(text)?;
        for change in set {
            document.set(change)?;
        }
        Self::read(&document, &Self::default())
    }

    /// The scenario in a file.
    ///
    /// # Errors
    /// What is wrong with it, or why it cannot be read, with the name of the file.
    pub fn load(path: &Path, set: &[String]) -> Result<Self, String> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let mut scenario =
            Self::parse_with(&text, set).map_err(|wrong| wrong.in_file(path).to_string())?;
        if scenario.name.is_empty() {
            let stem = path.file_stem().unwrap_or_default();
            scenario.name = stem.to_string_lossy().into_owned();
        }
        Ok(scenario)
    }

    /// This scenario with some values changed, as [`Scenario::parse_with`] has them.
    ///
    /// # Errors
    /// What is wrong with a change.
    pub fn with(&self, set: &[String]) -> Result<Self, Wrong> {
        if set.is_empty() {
            return Ok(self.clone());
        }
        Self::parse_with(&self.to_toml(), set)
    }

    /// It as TOML, which reads back equal. What is at its default is left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.write(&Self::default()).to_toml()
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// When the last of its faults has healed, if it has any.
    pub(crate) fn last_heal(&self) -> Option<Duration> {
        let faults = self.timeline.iter().filter(|step| step.action.is_fault());
        let ends =
            faults.map(|step| step.at + step.every * step.times.saturating_sub(1) + step.lasting);
        ends.max()
    }

    /// The same to be changed: `scenario.group_mut("leechers").unwrap().count = 3`.
    #[must_use]
    pub fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.name == name)
    }

    /// What of a scenario does not fit together, with the key that says so.
    ///
    /// # Errors
    /// Key and message.
    pub fn check(&self) -> Result<(), (String, String)> {
        let hosts: u64 = self.groups.iter().map(|group| u64::from(group.count)).sum();
        if hosts > u64::from(MAX_HOSTS) {
            return Err((
                "groups".into(),
                format!("expected at most {MAX_HOSTS} hosts, not {hosts}"),
            ));
        }
        if self.network.min_delay > self.network.max_delay {
            let message = "expected min-delay to be at most max-delay";
            return Err(("network".into(), message.into()));
        }
        let (size, piece) = (self.content.size.0, self.content.piece.0);
        if !(1..=1 << 32).contains(&size) {
            return Err(("content.size".into(), "expected 1B to 4GiB".into()));
        }
        if !piece.is_power_of_two() || !(1 << 14..=1 << 27).contains(&piece) {
            let message = "expected a power of two from 16KiB to 128MiB";
            return Err(("content.piece".into(), message.into()));
        }
        let names = || self.groups.iter().map(|group| group.name.as_str());
        let known = |key: String, name: &str| {
            if name.is_empty() || names().any(|known| known == name) {
                return Ok(());
            }
            Err((key, format!("a group: {}", tree::one_of(name, names()))))
        };
        for (index, group) in self.groups.iter().enumerate() {
            let of = if group.name.is_empty() {
                format!("groups.{index}")
            } else {
                format!("groups.{}", group.name)
            };
            if group.name.is_empty() || names().filter(|name| *name == group.name).count() > 1 {
                let message = "expected a name that no other group has";
                return Err((format!("{of}.name"), message.into()));
            }
            known(format!("{of}.through"), &group.through)?;
            for name in &group.knows {
                known(format!("{of}.knows"), name)?;
            }
            if let Err(error) = group.config.validate() {
                let field = error.field.replace('_', "-");
                return Err((
                    format!("{of}.config.{field}"),
                    format!("expected {}", error.expected),
                ));
            }
        }
        if let Some(churn) = &self.churn {
            known("churn.hosts".into(), &churn.hosts)?;
        }
        for (index, step) in self.timeline.iter().enumerate() {
            known(format!("timeline.{index}.hosts"), &step.hosts)?;
        }
        for (index, rule) in self.properties.iter().enumerate() {
            let of = format!("properties.{index}");
            known(format!("{of}.hosts"), &rule.hosts)?;
            rule.check().map_err(|message| (of, message))?;
        }
        Ok(())
    }
}

table!(Scenario {
    name, about, shows, seed, within, linger, addresses, network, content, groups, churn, timeline,
    properties, pack,
} |fields, scenario: &Scenario| {
    scenario.check().map_err(|(key, message)| fields.wrong_at(&key, message))
});
table!(ContentSpec {
    size,
    piece,
    private
});
table!(Group {
    name,
    count,
    role,
    source,
    finishes,
    join,
    through,
    contact,
    contacts,
    knows,
    up,
    down,
    access,
    buffer,
    loss,
    bursts,
    reorder,
    duplicate,
    corrupt,
    nat,
    lies,
    config,
});
table!(Join { after, every, law });
table!(Step {
    at,
    when_done,
    action,
    hosts,
    loss,
    share,
    blocks,
    lasting,
    times,
    every
});
table!(NetworkSpec {
    min_delay,
    max_delay,
    delay,
    jitter,
    loss,
});
table!(Churn {
    hosts,
    after,
    session,
    pause,
    power_cuts
});
names!(DelayLaw { "even" = Even, "internet2005" = Internet2005, "internet2025" = Internet2025 });
names!(AccessLaw { "own" = Own, "2025" = Access2025, "dsl2008" = Dsl2008 });
names!(NatLaw {
    "none" = None, "endpoint-independent" = EndpointIndependent,
    "address-restricted" = AddressRestricted, "port-restricted" = PortRestricted,
    "symmetric" = Symmetric, "carrier-grade" = CarrierGrade, "mix" = Mix,
});
names!(Direction { "both" = Both, "outward" = Outward, "inward" = Inward });
names!(Addresses { "own" = Own, "shared" = Shared, "v6" = V6, "public" = Public });
names!(Role { "node" = Node, "seed" = Seed, "leech" = Leech });
names!(SourceKind { "magnet" = Magnet, "torrent" = Torrent });
names!(Arrivals { "even" = Even, "poisson" = Poisson });
names!(Contact { "spread" = Spread, "first" = First, "earlier" = Earlier });
names!(Action {
    "lookup" = Lookup, "leave" = Leave, "loss" = Loss, "cut" = Cut, "crash" = Crash,
    "power-cut" = PowerCut, "sleep" = Sleep,
});

#[cfg(test)]
mod tests;
