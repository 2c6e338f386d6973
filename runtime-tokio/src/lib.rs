//! Trackerless on tokio.

mod driver;
mod reactor;

pub use driver::Driver;
