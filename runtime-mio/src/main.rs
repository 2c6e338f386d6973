//! The `trackerless-mio` command.

use std::process::ExitCode;

use trackerless_mio::run;

fn main() -> ExitCode {
    trackerless_common::run::main_with("trackerless-mio", run, |args| {
        trackerless_common::demo::run(args, &run)
    })
}
