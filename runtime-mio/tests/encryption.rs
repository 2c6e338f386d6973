//! Encrypted connections to peers, in every mode. The cases are the same for every
//! binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/encryption.rs");
