//! Whatever is wrong on a command line is refused with one line and status 2, before any socket
//! is opened. The cases are the same for every binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/bad_input.rs");
