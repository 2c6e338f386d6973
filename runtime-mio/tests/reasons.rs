//! A command that fails says why, once, where it is looked for. The cases are the same for every
//! binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/reasons.rs");
