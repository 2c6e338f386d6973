//! No command writes over what it reads. The cases are the same for every binary.

const BINARY: &str = env!("CARGO_BIN_EXE_trackerless-mio");

include!("../../tests/shared/keeps_files.rs");
