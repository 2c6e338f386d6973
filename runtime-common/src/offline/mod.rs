//! The commands that open no socket: `create`, `show`, `verify`.

mod create;
mod encode;
mod nodes;
mod show;
mod verify;
mod walk;

pub(crate) use nodes::table_nodes;

pub use create::{CreatePlan, Created, create, create_command};
pub use encode::Outer;
pub use show::{show_command, show_json};
pub(crate) use verify::missing_files;
pub use verify::{Verified, verify, verify_command};

#[cfg(test)]
mod tests;
