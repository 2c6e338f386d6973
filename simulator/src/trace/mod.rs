//! What was said when, so that two runs can be compared.

mod diff;
mod write;

pub use diff::{Parting, diff};
pub use write::{Status, Tracer};
