use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use trackerless_core::io::ConnId;

use super::OsSocket;
use super::read::Expected;
use super::write::WriteQueue;

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not connected yet.
    Connecting,
    /// Connected, and named by the engine.
    Open,
    /// Closed by the engine; what was sent before still has to leave.
    Leaving,
}

/// One stream and what waits for it.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    pub(crate) socket: S,
    pub(crate) conn: ConnId,
    pub(crate) state: State,
    /// Reading may succeed.
    pub(crate) readable: bool,
    /// Writing may succeed.
    pub(crate) writable: bool,
    /// Bytes the engine allows to be read.
    pub(crate) credit: usize,
    pub(crate) expected: Expected,
    pub(crate) out: WriteQueue,
    /// Whether it waits for its turn.
    pub(crate) queued: bool,
    /// Whether it waits to be flushed.
    pub(crate) dirty: bool,
}

impl<S: OsSocket> Stream<S> {
    pub(crate) fn new(socket: S, conn: ConnId, state: State) -> Self {
        Self {
            socket,
            conn,
            state,
            readable: true,
            writable: true,
            credit: 0,
            expected: Expected::default(),
            out: WriteQueue::default(),
            queued: false,
            dirty: false,
        }
    }

    /// Whether a visit could get something done.
    pub(crate) fn has_work(&self) -> bool {
        match self.state {
            State::Connecting => self.writable,
            State::Open => {
                self.readable && self.credit > 0 || self.writable && !self.out.is_empty()
            }
            State::Leaving => self.writable && !self.out.is_empty(),
        }
    }
}

/// Begins to connect; the stream becomes writable when that is over.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(ip) = from {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Whether a stream that was connecting stands now.
pub(crate) fn connected(socket: &impl OsSocket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error),
    }
}

fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}
