//! What both Trackerless drivers share, so that no line is written twice: file storage and its
//! worker threads, saved state, the command line, what is printed, signals.
//!
//! Nothing here knows a reactor. A driver implements the loop described in [`host`], and its
//! binary is one call of [`run::main_with`].

// Both macros panic where nothing can be written: `display` prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod demo;
pub mod display;
pub mod error;
pub mod host;
mod keep;
mod nearby;
pub mod net;
pub mod offline;
pub mod run;
pub mod session;
pub mod signals;
pub mod sockets;
pub mod source;
mod stamp;
pub mod state;
pub mod storage;
