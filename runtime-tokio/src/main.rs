//! The `trackerless-tokio` command.

use std::process::ExitCode;

use trackerless_tokio::run;

fn main() -> ExitCode {
    trackerless_common::run::main_with("trackerless-tokio", run, |args| {
        trackerless_common::demo::run(args, &run)
    })
}
