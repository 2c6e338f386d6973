//! Whole nodes, under virtual time and in memory.

mod alone;
mod any_order;
mod client;
mod hostile;
mod items;
mod networks;
mod server;
mod world;

use crate::id::Id20;

fn target(n: u8) -> Id20 {
    Id20([n.wrapping_mul(37); 20])
}
