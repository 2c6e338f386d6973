use std::fmt;
use std::io;
use std::sync::Arc;

use mio::{Events, Poll, Waker};
use trackerless_common::host::Setup;
use trackerless_common::net::{EventLoop, Ready, StartError, Token, Turn};
use trackerless_core::time::Duration;

use crate::reactor::MioReactor;

/// Readiness taken from the kernel at once.
const EVENTS: usize = 1024;
/// Names the waker; no socket has it.
const WAKE: mio::Token = mio::Token(usize::MAX);

/// An engine on mio: sockets, jobs and app of one [`Setup`], ready to [`run`](Self::run) on the
/// calling thread.
pub struct Driver {
    event_loop: EventLoop<MioReactor>,
    poll: Poll,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("event_loop", &self.event_loop)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Binds the sockets and makes the engine.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn new(setup: Setup) -> Result<Self, StartError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        setup.inbox.set_waker(move || {
            // It fails only when the loop is gone.
            let _ = waker.wake();
        });
        let reactor = MioReactor::new(poll.registry().try_clone()?);
        Ok(Self {
            event_loop: EventLoop::new(setup, reactor)?,
            poll,
        })
    }

    /// Runs until the app wants to exit; returns its code.
    ///
    /// # Errors
    /// When the operating system's selector fails.
    pub fn run(mut self) -> io::Result<u8> {
        let clock = self.event_loop.clock();
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = match self.event_loop.turn() {
                Turn::Exit(code) => return Ok(code),
                Turn::Again => Some(Duration::ZERO),
                Turn::Wait(until) => until.map(|until| clock.until(until)),
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for event in &events {
                if event.token() == WAKE {
                    continue;
                }
                // Errors and hang-ups are seen by whoever reads or writes next.
                let broken = event.is_error();
                self.event_loop.ready(Ready {
                    token: Token(event.token().0),
                    read: broken || event.is_readable() || event.is_read_closed(),
                    write: broken || event.is_writable() || event.is_write_closed(),
                });
            }
        }
    }
}
