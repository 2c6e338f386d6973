//! Properties: what must hold in a run.
//!
//! A [`Rule`] is data: *always*, *eventually*, *never* or *sometimes* a figure of hosts is between
//! two numbers. The [`Pack`] holds in every scenario unless it is switched off. A [`Property`] is
//! Rust, for what neither can say.

mod facts;
mod pack;
mod rule;
mod stream;

use std::fmt;
use std::time::Duration;

use crate::scenario::value::{names, table};
use crate::{HostId, Sim, Watch};

pub use facts::{Facts, HostFacts, Lookup};
pub(crate) use pack::{Guard, Truth};
pub use pack::{Pack, Privacy};
pub(crate) use rule::Judge;
pub use rule::{Kind, Rule, What};

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// Its name.
    pub property: String,
    /// Virtual time since the start of the run at which that was clear.
    pub at: Duration,
    /// The host concerned, if it is one.
    pub host: Option<HostId>,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.property)?;
        if let Some(host) = self.host {
            write!(f, "host {} ", host.0)?;
        }
        write!(f, "at {:.6} s: {}", self.at.as_secs_f64(), self.detail)
    }
}

/// A property in Rust. It looks on as a [`Watch`] does, and says in the end what was wrong.
///
/// ```
/// use trackerless_core::{Instant, Output};
/// use trackerless_sim::{HostId, Sim, Watch};
/// use trackerless_sim::property::{Failure, Property};
///
/// /// Nobody sends a datagram longer than an Ethernet frame carries.
/// #[derive(Default)]
/// struct ShortDatagrams {
///     longest: usize,
/// }
///
/// impl Watch for ShortDatagrams {
///     fn output(&mut self, _: Instant, _: HostId, output: &Output<'_>) {
///         if let Output::Transmit { head, body, .. } = output {
///             self.longest = self.longest.max(head.len() + body.len());
///         }
///     }
/// }
///
/// impl Property for ShortDatagrams {
///     fn failures(&self, _: &Sim) -> Vec<Failure> {
///         let long = (self.longest > 1_472).then(|| Failure {
///             property: "short-datagrams".into(),
///             at: Default::default(),
///             host: None,
///             detail: format!("{} bytes", self.longest),
///         });
///         long.into_iter().collect()
///     }
/// }
///
/// let scenario = trackerless_sim::scenario::find("demo").unwrap();
/// let report = scenario.play(7).property(ShortDatagrams::default()).run();
/// assert!(report.failures.is_empty());
/// ```
pub trait Property: Watch {
    /// What was wrong, when the run is over.
    fn failures(&self, sim: &Sim) -> Vec<Failure>;
}

table!(Rule { name, kind, what, hosts, share, at_least, at_most, within, after } |fields, rule: &Rule| {
    rule.check().map_err(|message| fields.wrong(message))
});
names!(Kind { "eventually" = Eventually, "always" = Always, "never" = Never, "sometimes" = Sometimes });
names!(What {
    "complete" = Complete, "metadata" = Metadata, "joined" = Joined, "peers" = Peers,
    "connections" = Connections, "nodes" = Nodes,
    "found-by-dht" = FoundByDht, "found-by-pex" = FoundByPex, "found-by-lsd" = FoundByLsd,
    "found-incoming" = FoundIncoming, "pieces-failed" = PiecesFailed, "bans" = Bans,
    "bans-of-honest" = BansOfHonest, "banned-by" = BannedBy, "lookups" = Lookups,
    "lookups-empty" = LookupsEmpty, "lookup-millis" = LookupMillis, "storage-failures" = StorageFailures,
    "uploaded" = Uploaded, "seconds-to-complete" = SecondsToComplete,
});
table!(Pack {
    verified,
    allowed,
    private,
    slots,
    max_unchoked,
    amplification,
    max_amplification,
    spin,
    max_ticks,
    memory,
    max_memory,
    finish,
    finish_factor,
});
names!(Privacy { "off" = Off, "marked" = Marked, "all" = All });
