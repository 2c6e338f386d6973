use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use trackerless_common::net::{Interest, Reactor, Ready, Token};

/// What became ready, and the task that waits for it.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sources: Vec<Arc<Source>>,
    /// The loop was asked to look around, without a source.
    woken: bool,
    task: Option<Waker>,
}

impl ReadyList {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait, from any thread.
    pub(crate) fn wake(&self) {
        let mut inner = self.lock();
        inner.woken = true;
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }

    fn push(&self, source: Arc<Source>) {
        let mut inner = self.lock();
        inner.sources.push(source);
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Moves what is ready into `into`; pending when there is nothing.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, into: &mut Vec<Ready>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.woken && inner.sources.is_empty() {
            match &mut inner.task {
                Some(task) => task.clone_from(cx.waker()),
                None => inner.task = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        inner.woken = false;
        for source in inner.sources.drain(..) {
            source.queued.store(false, Ordering::Release);
            into.push(source.ready);
        }
        Poll::Ready(())
    }
}

/// Wakes the loop for one direction of one socket.
#[derive(Debug)]
struct Source {
    ready: Ready,
    queued: AtomicBool,
    list: Arc<ReadyList>,
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.list.push(Arc::clone(self));
        }
    }
}

/// A socket and its wakers.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    read: Waker,
    write: Waker,
}

#[cfg(unix)]
impl<S: std::os::fd::AsFd> std::os::fd::AsFd for Watched<S> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(windows)]
impl<S: std::os::windows::io::AsSocket> std::os::windows::io::AsSocket for Watched<S> {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.socket.as_socket()
    }
}

impl<S> Watched<S> {
    fn waker(&self, interest: Interest) -> &Waker {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
        }
    }
}

/// Tokio's readiness, without a task for each socket: every socket has wakers of its own, which
/// note its token and wake the one task of the loop.
#[derive(Debug, Default)]
pub(crate) struct TokioReactor {
    list: Arc<ReadyList>,
}

impl TokioReactor {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn list(&self) -> Arc<ReadyList> {
        Arc::clone(&self.list)
    }

    fn watch<S>(&self, socket: S, token: Token) -> Watched<S> {
        let waker = |read| {
            Waker::from(Arc::new(Source {
                ready: Ready {
                    token,
                    read,
                    write: !read,
                },
                queued: AtomicBool::new(false),
                list: Arc::clone(&self.list),
            }))
        };
        Watched {
            socket,
            read: waker(true),
            write: waker(false),
        }
    }
}

/// Repeats `call` while tokio believes the socket ready; `WouldBlock` has registered the waker.
fn attempt<T>(
    mut poll_ready: impl FnMut() -> Poll<io::Result<()>>,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match poll_ready() {
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(ready) => ready?,
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

impl Reactor for TokioReactor {
    type Udp = Watched<UdpSocket>;
    type Listener = Watched<TcpListener>;
    type Stream = Watched<TcpStream>;

    fn udp(&mut self, socket: std::net::UdpSocket, token: Token) -> io::Result<Self::Udp> {
        Ok(self.watch(UdpSocket::from_std(socket)?, token))
    }

    fn listener(
        &mut self,
        listener: std::net::TcpListener,
        token: Token,
    ) -> io::Result<Self::Listener> {
        Ok(self.watch(TcpListener::from_std(listener)?, token))
    }

    fn stream(&mut self, stream: std::net::TcpStream, token: Token) -> io::Result<Self::Stream> {
        Ok(self.watch(TcpStream::from_std(stream)?, token))
    }

    fn close(&mut self, stream: Self::Stream) {
        drop(stream);
    }

    fn try_udp<T>(
        &self,
        udp: &Self::Udp,
        interest: Interest,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut cx = Context::from_waker(udp.waker(interest));
        let socket = &udp.socket;
        match interest {
            Interest::Read => attempt(
                || socket.poll_recv_ready(&mut cx),
                || socket.try_io(tokio::io::Interest::READABLE, &mut call),
            ),
            Interest::Write => attempt(
                || socket.poll_send_ready(&mut cx),
                || socket.try_io(tokio::io::Interest::WRITABLE, &mut call),
            ),
        }
    }

    fn try_stream<T>(
        &self,
        stream: &Self::Stream,
        interest: Interest,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut cx = Context::from_waker(stream.waker(interest));
        let socket = &stream.socket;
        match interest {
            Interest::Read => attempt(
                || socket.poll_read_ready(&mut cx),
                || socket.try_io(tokio::io::Interest::READABLE, &mut call),
            ),
            Interest::Write => attempt(
                || socket.poll_write_ready(&mut cx),
                || socket.try_io(tokio::io::Interest::WRITABLE, &mut call),
            ),
        }
    }

    fn try_accept(
        &self,
        listener: &Self::Listener,
    ) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        let mut cx = Context::from_waker(&listener.read);
        match listener.socket.poll_accept(&mut cx) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(accepted) => {
                let (stream, from) = accepted?;
                Ok((stream.into_std()?, from))
            }
        }
    }
}
