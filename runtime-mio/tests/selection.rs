//! Only the files that are asked for, and pieces in order. The cases are the same for every binary.

#![cfg(unix)]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/selection.rs");
