//! What surrounds machines: network, links, translators, clocks, disks, and the order of events.

mod clock;
mod directory;
mod disk;
mod draw;
mod flows;
mod fluid;
mod host;
mod link;
mod machine;
mod nat;
mod network;
mod partition;
mod queue;
mod segments;
mod shard;
mod sim;
mod streams;
mod tcp;
mod warm;

pub use clock::Skew;
pub use disk::{Content, Crash, DiskSpec};
pub use draw::{Root, below, chance, draw};
pub use host::{HostId, HostSpec, Seen};
pub use link::{Direction, Link, Loss, Pipe, Queue};
pub use machine::{Born, DhtNode, Machine, Make, Role};
pub use nat::{Nat, NatKind};
pub use network::{Network, Quantiles};
pub use partition::{Blocks, Partition};
pub use sim::{Fault, PartitionId, START, Sim, SimError, What};
pub use streams::TcpModel;

pub(crate) use queue::{Entry, Order, Wheel};
