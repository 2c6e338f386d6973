//! Whole swarms of production Trackerless engines in one process, from one seed.
//!
//! The simulator runs the core as shipped: it models what surrounds an engine (network, clock,
//! disk, names) and nothing of the engine itself. Time is virtual, order is a function of the
//! seed, and every run has a *trace root*: equal roots mean that every engine was told the same
//! at the same microsecond and answered the same.
//!
//! ```
//! use trackerless_sim::scenario;
//!
//! let report = scenario::find("magnet").unwrap().run(7);
//! assert!(report.failures.is_empty());
//! assert_eq!(report.root, scenario::find("magnet").unwrap().run(7).root);
//! ```

pub mod bench;
pub mod campaign;
mod check;
pub mod law;
pub mod pcap;
pub mod property;
pub mod replay;
pub mod results;
pub mod scenario;
pub mod trace;
mod watch;
pub mod world;

pub use check::{SEED_VARIABLE, check};
pub use results::Report;
pub use watch::Watch;
pub use world::{
    Blocks, Content, Crash, Direction, DiskSpec, Fault, HostId, HostSpec, Link, Loss, Machine, Nat,
    NatKind, Network, Partition, Pipe, Quantiles, Queue, Role, Root, Seen, Sim, SimError, Skew,
    TcpModel, What,
};
