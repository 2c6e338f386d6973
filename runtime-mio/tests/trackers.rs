//! Peers through trackers on loopback. The cases are the same for every binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/trackers.rs");
