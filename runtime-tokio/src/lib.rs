//! Trackerless on tokio.
//!
//! [`Node`] is an engine as a library: spawn it on a runtime, hand it commands, take its events.
//! [`Driver`] is what it stands on: the loop around an engine as one future, for whoever brings
//! an app of their own.

// Both macros panic where nothing can be written: `display` prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod driver;
mod node;
mod reactor;
mod updates;

use trackerless_common::error::Failure;
use trackerless_common::host::Setup;

pub use driver::Driver;
pub use node::{Node, NodeOptions};
pub use updates::Update;

/// Runs one engine to its end on a runtime of its own, on the calling thread; returns the exit
/// status its app gave.
///
/// # Errors
/// What could not be opened before the app was started.
pub fn run(setup: Setup) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime: {error}")))?;
    runtime.block_on(async {
        let driver = Driver::new(setup)?;
        Ok(driver.run().await)
    })
}
