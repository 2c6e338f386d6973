//! Trackerless on mio: the same loop, app and command line as every other driver, on a bare
//! `epoll`, `kqueue` or IOCP, and one thread.

mod driver;
mod reactor;

pub use driver::Driver;
