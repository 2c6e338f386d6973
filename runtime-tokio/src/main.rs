//! The `trackerless-tokio` command.

// Both macros panic where nothing can be written: `display` prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use trackerless_tokio::run;

fn main() -> ExitCode {
    trackerless_common::run::main_with("trackerless-tokio", run, |args| {
        trackerless_common::demo::run(args, &run)
    })
}
