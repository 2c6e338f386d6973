//! Whatever is in a torrent arrives as it was. The cases are the same for every binary.

#![cfg(unix)]

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/contents.rs");
