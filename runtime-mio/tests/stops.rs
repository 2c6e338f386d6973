//! What becomes of disk work when a command is told to end. The cases are the same for every binary.

#![cfg(unix)]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/stops.rs");
