use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant as TokioInstant, Sleep, sleep_until};
use trackerless_common::host::Setup;
use trackerless_common::net::{Clock, EventLoop, Ready, StartError, Turn};
use trackerless_core::time::{Duration, Instant};

use crate::reactor::{ReadyList, TokioReactor};

/// An engine on tokio: sockets, jobs and app of one [`Setup`], ready to [`run`](Self::run).
///
/// It is one task, whatever the number of connections. It needs a runtime with `enable_io` and
/// `enable_time`; a current-thread one will do, and many nodes can share it.
#[derive(Debug)]
pub struct Driver {
    event_loop: EventLoop<TokioReactor>,
    list: Arc<ReadyList>,
}

impl Driver {
    /// Binds the sockets and makes the engine, inside a runtime.
    ///
    /// # Errors
    /// What could not be opened, and why.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(setup: Setup) -> Result<Self, StartError> {
        let reactor = TokioReactor::new();
        let list = reactor.list();
        let waker = Arc::clone(&list);
        setup.inbox.set_waker(move || waker.wake());
        Ok(Self {
            event_loop: EventLoop::new(setup, reactor)?,
            list,
        })
    }

    /// Runs until the app wants to exit; returns its code.
    pub async fn run(mut self) -> u8 {
        let clock = self.event_loop.clock();
        let mut sleep = pin!(sleep_until(TokioInstant::now()));
        let mut ready = Vec::new();
        loop {
            let until = match self.event_loop.turn() {
                Turn::Exit(code) => return code,
                Turn::Again => {
                    // Readiness is only learnt while the runtime runs.
                    tokio::task::yield_now().await;
                    Some(Instant::MIN)
                }
                Turn::Wait(until) => until,
            };
            wait(&self.list, clock, until, sleep.as_mut(), &mut ready).await;
            for one in ready.drain(..) {
                self.event_loop.ready(one);
            }
        }
    }
}

/// Waits for readiness, a wake-up, or `until`.
async fn wait(
    list: &ReadyList,
    clock: Clock,
    until: Option<Instant>,
    mut sleep: Pin<&mut Sleep>,
    ready: &mut Vec<Ready>,
) {
    let deadline = until
        .and_then(|until| clock.to_std(until))
        // Far beyond any deadline that matters.
        .unwrap_or_else(|| std::time::Instant::now() + Duration::from_secs(86_400));
    let deadline = TokioInstant::from_std(deadline);
    if sleep.deadline() != deadline && TokioInstant::now() < deadline {
        sleep.as_mut().reset(deadline);
    }
    poll_fn(|cx| {
        if list.poll(cx, ready).is_ready() {
            return Poll::Ready(());
        }
        // The clock first: a task that has spent its budget never sees its sleep end.
        if TokioInstant::now() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().poll(cx)
    })
    .await;
}
