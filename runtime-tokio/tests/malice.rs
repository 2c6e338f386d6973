//! Peers that lie, stall, flood and leave: what becomes of them, and of the one that is honest. The
//! cases are the same for every binary.

#![cfg(target_os = "linux")]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/malice.rs");
