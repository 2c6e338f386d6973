//! What both Trackerless drivers share, so that no line is written twice: file storage and its
//! worker threads, saved state, the command line, what is printed, signals.
//!
//! Nothing here knows a reactor. A driver implements the loop described in [`host`].

pub mod host;
pub mod net;
pub mod sockets;
pub mod state;
pub mod storage;
