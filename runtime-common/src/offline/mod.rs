//! The commands that open no socket: `create`, `show`, `verify`.

mod create;
mod encode;
mod show;
mod verify;

pub use create::{CreatePlan, Created, create, create_command};
pub use encode::{Outer, torrent_bytes};
pub use show::{show_command, show_json};
pub use verify::{Verified, verify, verify_command};

#[cfg(test)]
mod tests;
