//! What happens to files while they are in use, and files of any size. The cases are the same for
//! every binary.

#![cfg(unix)]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/survives.rs");
