//! Trackerless on mio: the same loop, app and command line as every other driver, on a bare
//! `epoll`, `kqueue` or IOCP, and one thread.

// Both macros panic where nothing can be written: `display` prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod driver;
mod reactor;

use trackerless_common::error::Failure;
use trackerless_common::host::Setup;

pub use driver::Driver;

/// Runs one engine to its end on the calling thread; returns the exit status its app gave.
///
/// # Errors
/// What could not be opened before the app was started, or a failure of the selector.
pub fn run(setup: Setup) -> Result<u8, Failure> {
    let driver = Driver::new(setup)?;
    driver
        .run()
        .map_err(|error| Failure::failed(format!("the selector: {error}")))
}
