//! `trackerless-sim`: runs scenarios, campaigns of them, and recordings.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
