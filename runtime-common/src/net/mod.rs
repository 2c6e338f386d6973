//! The loop both drivers run: sockets, batches and queues around an engine, without a reactor.
//!
//! [`EventLoop`] carries outputs to sockets and inputs to the engine. What differs between drivers is
//! only how readiness is learnt; they say so by implementing [`Reactor`].

mod clock;
mod event_loop;
mod read;
mod reason;
mod recorder;
mod sockets;
mod stream;
mod udp;
mod write;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

pub use clock::Clock;
pub use event_loop::{EventLoop, StartError, Turn};

/// A socket as the operating system knows it.
#[cfg(unix)]
pub trait OsSocket: std::os::fd::AsFd {}
#[cfg(unix)]
impl<T: std::os::fd::AsFd> OsSocket for T {}

/// A socket as the operating system knows it.
#[cfg(windows)]
pub trait OsSocket: std::os::windows::io::AsSocket {}
#[cfg(windows)]
impl<T: std::os::windows::io::AsSocket> OsSocket for T {}

/// Names a source of readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub usize);

/// Which way a socket is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// To read, or to accept.
    Read,
    /// To write, or to finish connecting.
    Write,
}

/// A source may have become usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The source.
    pub token: Token,
    /// Reading may succeed.
    pub read: bool,
    /// Writing may succeed.
    pub write: bool,
}

/// Edge-triggered readiness of non-blocking sockets.
///
/// Contract: once an attempt ended with `WouldBlock`, the reactor reports the token again when
/// the socket becomes usable that way. It may report it more often.
pub trait Reactor {
    /// A datagram socket.
    type Udp: OsSocket;
    /// A listening socket.
    type Listener: OsSocket;
    /// A stream, connected or connecting.
    type Stream: OsSocket;

    /// Watches a datagram socket.
    ///
    /// # Errors
    /// Those of the operating system.
    fn udp(&mut self, socket: UdpSocket, token: Token) -> io::Result<Self::Udp>;

    /// Watches a listening socket.
    ///
    /// # Errors
    /// Those of the operating system.
    fn listener(&mut self, listener: TcpListener, token: Token) -> io::Result<Self::Listener>;

    /// Watches a stream.
    ///
    /// # Errors
    /// Those of the operating system.
    fn stream(&mut self, stream: TcpStream, token: Token) -> io::Result<Self::Stream>;

    /// Stops watching a stream and closes it.
    fn close(&mut self, stream: Self::Stream);

    /// Runs `call` on a datagram socket, unless it is known that it would block.
    ///
    /// # Errors
    /// Those of `call`.
    fn try_udp<T>(
        &self,
        socket: &Self::Udp,
        interest: Interest,
        call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T>;

    /// Runs `call` on a stream, unless it is known that it would block.
    ///
    /// # Errors
    /// Those of `call`.
    fn try_stream<T>(
        &self,
        stream: &Self::Stream,
        interest: Interest,
        call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T>;

    /// Takes a waiting connection.
    ///
    /// # Errors
    /// Those of the operating system.
    fn try_accept(&self, listener: &Self::Listener) -> io::Result<(TcpStream, SocketAddr)>;
}
