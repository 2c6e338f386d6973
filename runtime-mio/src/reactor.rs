use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest as MioInterest, Registry};
use trackerless_common::net::{Interest, Reactor, Token};

/// mio's readiness, edge-triggered.
#[derive(Debug)]
pub(crate) struct MioReactor {
    registry: Registry,
}

impl MioReactor {
    pub(crate) fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

const BOTH: MioInterest = MioInterest::READABLE.add(MioInterest::WRITABLE);

fn name(token: Token) -> mio::Token {
    mio::Token(token.0)
}

impl Reactor for MioReactor {
    type Udp = UdpSocket;
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn udp(&mut self, socket: std::net::UdpSocket, token: Token) -> io::Result<UdpSocket> {
        let mut socket = UdpSocket::from_std(socket);
        self.registry.register(&mut socket, name(token), BOTH)?;
        Ok(socket)
    }

    fn listener(
        &mut self,
        listener: std::net::TcpListener,
        token: Token,
    ) -> io::Result<TcpListener> {
        let mut listener = TcpListener::from_std(listener);
        let interest = MioInterest::READABLE;
        self.registry
            .register(&mut listener, name(token), interest)?;
        Ok(listener)
    }

    fn stream(&mut self, stream: std::net::TcpStream, token: Token) -> io::Result<TcpStream> {
        let mut stream = TcpStream::from_std(stream);
        self.registry.register(&mut stream, name(token), BOTH)?;
        Ok(stream)
    }

    fn close(&mut self, mut stream: TcpStream) {
        // Closing alone would do, unless the descriptor was duplicated.
        let _ = self.registry.deregister(&mut stream);
    }

    fn try_udp<T>(
        &self,
        socket: &UdpSocket,
        _: Interest,
        call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        socket.try_io(call)
    }

    fn try_stream<T>(
        &self,
        stream: &TcpStream,
        _: Interest,
        call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        stream.try_io(call)
    }

    fn try_accept(&self, listener: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        let (stream, from) = listener.accept()?;
        Ok((stream.into(), from))
    }
}
