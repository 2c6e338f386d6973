//! Several torrents in one engine. The cases are the same for every driver.

#![cfg(unix)]
// Of what is shared with other tests, not all is needed here.
#![allow(dead_code)]

use trackerless_tokio::run as run_engine;

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-tokio");

include!("../../tests/shared/sessions.rs");
