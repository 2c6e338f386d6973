//! `demo`.

use crate::cli::DemoArgs;
use crate::error::Failure;
use crate::run::Driver;

/// Runs the demo.
///
/// # Errors
/// What could not be done.
pub fn run(_args: &DemoArgs, _driver: &dyn Driver) -> Result<u8, Failure> {
    Err(Failure::failed("demo: not in this version"))
}
