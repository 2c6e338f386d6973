//! The seam between this package and a driver.
//!
//! A driver is a reactor loop and nothing else. It receives a [`Setup`], binds what
//! [`crate::sockets::bind`] gives it, makes an [`Engine`], and then:
//!
//! 1. calls [`Inbox::set_waker`] with whatever interrupts its wait, from any thread;
//! 2. feeds `SocketUp` and `WallClock`, then the commands of [`App::start`];
//! 3. performs every output: sockets itself, `Job` through [`Storage::submit`], `Event` through
//!    [`App::on_event`]; the commands an app answers with are inputs like any other;
//! 4. after each wait drains the [`Inbox`] (jobs done, commands of a [`Handle`], Ctrl-C);
//! 5. once a second calls [`App::on_second`], while something happens or
//!    [`App::wants_seconds`] says so;
//! 6. returns the code of the first [`Flow::Exit`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use trackerless_core::engine::TorrentStats;
use trackerless_core::event::Event;
use trackerless_core::io::{Command, JobId, JobResult, Tag, TorrentId};
use trackerless_core::{Config, Engine};

use crate::display::note;
use crate::error::Failure;
use crate::sockets::Listen;
use crate::storage::Storage;

/// Everything a driver needs for one engine.
pub struct Setup {
    /// Validated parameters of the engine; `config.tcp` says whether TCP is listened on.
    pub config: Arc<Config>,
    /// The engine's seed, from the operating system.
    pub seed: [u8; 32],
    /// Where to listen; give it to [`crate::sockets::bind`].
    pub listen: Vec<Listen>,
    /// Does the engine's jobs; answers arrive in `inbox`.
    pub storage: Storage,
    /// What reaches the loop from other threads.
    pub inbox: Arc<Inbox>,
    /// What the command does above the engine.
    pub app: Box<dyn App>,
    /// Where every input is to be recorded.
    pub record: Option<PathBuf>,
}

/// What a command does above the engine: decides on commands, consumes events, prints.
pub trait App: Send {
    /// The sockets are bound to `listening`: the first commands.
    fn start(&mut self, listening: &[SocketAddr]) -> Vec<(Tag, Command)>;

    /// An event of the engine.
    fn on_event(&mut self, event: &Event, view: &dyn View) -> Flow;

    /// About a second passed.
    fn on_second(&mut self, view: &dyn View) -> Flow;

    /// Whether it must hear of every second; else only of those in which something happened, so
    /// that a process with nothing to do sleeps.
    fn wants_seconds(&self) -> bool {
        true
    }

    /// The user wants it to stop.
    fn on_interrupt(&mut self) -> Flow;

    /// The host failed at something that was asked of it, as a recording whose disk is full. Tells
    /// of it, and ends with its status; commands are carried out as far as there is time.
    fn on_failure(&mut self, failure: &Failure) -> Flow {
        note(&format!("error: {failure}"));
        Flow::Exit(failure.code)
    }
}

/// What an app wants of its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// Nothing.
    Continue,
    /// Give these to the engine.
    Commands(Vec<(Tag, Command)>),
    /// Leave the loop; the process ends with this code if it is the main one.
    Exit(u8),
}

/// Figures an app may read between inputs.
pub trait View {
    /// Figures of a torrent.
    fn torrent(&self, torrent: TorrentId) -> Option<TorrentStats>;
}

impl View for Engine {
    fn torrent(&self, torrent: TorrentId) -> Option<TorrentStats> {
        Engine::torrent(self, torrent)
    }
}

/// What reaches a driver's loop from other threads.
#[derive(Debug)]
pub enum Arrival {
    /// A job is done: `Input::JobDone`.
    JobDone(JobId, JobResult),
    /// A command of a [`Handle`]: `Input::Command`.
    Command(Tag, Command),
    /// Ctrl-C: [`App::on_interrupt`].
    Interrupt,
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// A queue into a driver's loop; wakes it when it turns non-empty.
#[derive(Default)]
pub struct Inbox {
    queue: Mutex<Vec<Arrival>>,
    waker: OnceLock<Waker>,
    next_tag: AtomicU64,
}

impl Inbox {
    /// An empty inbox without a waker.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Says how to wake the loop. Called once; what arrived before wakes it at once.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        if self.waker.set(Box::new(waker)).is_ok() && !self.lock().is_empty() {
            self.wake();
        }
    }

    /// Adds one arrival, from any thread.
    pub fn push(&self, arrival: Arrival) {
        self.extend([arrival]);
    }

    /// Adds several, as [`Self::push`] does one.
    pub fn extend(&self, arrivals: impl IntoIterator<Item = Arrival>) {
        let mut queue = self.lock();
        let was_empty = queue.is_empty();
        queue.extend(arrivals);
        let wakes = was_empty && !queue.is_empty();
        drop(queue);
        if wakes {
            self.wake();
        }
    }

    /// Moves everything that arrived to the end of `into`, oldest first. Reset the reactor's
    /// wake-up before, not after: what arrives in between would be forgotten.
    pub fn drain(&self, into: &mut Vec<Arrival>) {
        let mut queue = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut *queue, into);
        } else {
            into.append(&mut queue);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steers a running engine from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Inbox>);

impl Handle {
    /// A handle to the loop that drains `inbox`.
    #[must_use]
    pub fn new(inbox: Arc<Inbox>) -> Self {
        Self(inbox)
    }

    /// Hands a command to the engine. Events that answer it carry the tag, whose highest bit is
    /// set so that it never equals one of an [`App`].
    pub fn command(&self, command: Command) -> Tag {
        let tag = Tag(1 << 63 | self.0.next_tag.fetch_add(1, Ordering::Relaxed));
        self.0.push(Arrival::Command(tag, command));
        tag
    }

    /// As if the user had pressed Ctrl-C once.
    pub fn interrupt(&self) {
        self.0.push(Arrival::Interrupt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn an_inbox_wakes_once_until_it_is_drained() {
        let inbox = Inbox::new();
        let wakes = Arc::new(AtomicUsize::new(0));
        inbox.push(Arrival::Interrupt);
        let counter = Arc::clone(&wakes);
        inbox.set_waker(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        Handle::new(Arc::clone(&inbox)).command(Command::Save);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut all = Vec::new();
        inbox.drain(&mut all);
        assert!(matches!(
            all[..],
            [Arrival::Interrupt, Arrival::Command(_, Command::Save)]
        ));
        inbox.push(Arrival::Interrupt);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
