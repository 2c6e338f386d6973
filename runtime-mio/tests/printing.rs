//! What is printed, and what becomes of it where it cannot be. The cases are the same for every
//! binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/printing.rs");
