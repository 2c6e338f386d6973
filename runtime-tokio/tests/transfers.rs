//! Commands that talk to each other on loopback: what they print, and how they end when they are
//! told to. The cases are the same for every binary.

#![cfg(unix)]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/transfers.rs");
