use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use smallvec::SmallVec;
use trackerless_core::config::ConfigError;
use trackerless_core::event::Event;
use trackerless_core::io::{Command, Tag};
use trackerless_core::time::{Duration, Instant};
use trackerless_core::{Engine, Input, Outbox, Output};

use super::recorder::Recorder;
use super::sockets::{ReadOutcome, Report, Sockets, Source};
use super::udp::{BATCH, Datagram, RecvBatch};
use super::{Clock, Reactor, Ready};
use crate::display::lost_output;
use crate::error::{DONE, FAILED, Failure};
use crate::host::{App, Arrival, Flow, Inbox, Setup};
use crate::nearby::bind_nearby;
use crate::sockets::{Bound, bind};
use crate::storage::Storage;

/// Batches received from one datagram socket before others have their turn.
const BATCHES_PER_VISIT: usize = 4;
/// Connections accepted before others have their turn.
const ACCEPTS_PER_VISIT: usize = 16;
/// Bytes read from one stream before others have their turn.
const READ_PER_VISIT: usize = 1024 * 1024;
/// Outputs that may gather before they are performed.
const OUTPUTS_AT_ONCE: usize = 128;
/// Times in one turn that what follows from a write or a failure is done at once.
const ROUNDS_PER_TURN: usize = 4;
/// Time between calls of [`App::on_second`].
const SECOND: Duration = Duration::from_secs(1);

/// Why a loop could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The configuration is out of range.
    #[error("configuration: {0}")]
    Config(ConfigError),
    /// The recording cannot be begun.
    #[error("--record: {}: {error}; name a file that can be written", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The reactor cannot be set up.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Record { .. } | StartError::Config(_) => Self::usage(error.to_string()),
            StartError::Listen { .. } => Self::failed(format!(
                "{error}; try another --listen, with port 0 for any free one"
            )),
            StartError::Io(_) => Self::failed(error.to_string()),
        }
    }
}

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Wait for readiness, at most until this instant of the loop's clock.
    Wait(Option<Instant>),
    /// There is more to do: look for readiness without waiting.
    Again,
    /// Leave, with this exit code.
    Exit(u8),
}

/// One engine with its sockets, jobs and app: everything but the wait.
///
/// A driver calls [`Self::turn`], waits as it says, hands over what became ready through
/// [`Self::ready`], and calls it again.
pub struct EventLoop<R: Reactor> {
    engine: Engine,
    outbox: Outbox,
    clock: Clock,
    sockets: Sockets<R>,
    batch: Option<RecvBatch>,
    storage: Storage,
    inbox: Arc<Inbox>,
    arrivals: Vec<Arrival>,
    app: Box<dyn App>,
    events: Vec<Event>,
    next_second: Instant,
    /// Something but time reached the engine since the last second.
    active: bool,
    recorder: Option<Recorder>,
    exit: Option<u8>,
}

impl<R: Reactor> fmt::Debug for EventLoop<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("exit", &self.exit)
            .finish_non_exhaustive()
    }
}

impl<R: Reactor> EventLoop<R> {
    /// Binds sockets, makes the engine and gives it the app's first commands.
    ///
    /// The driver has set the waker of the inbox before.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn new(setup: Setup, reactor: R) -> Result<Self, StartError> {
        let clock = Clock::new();
        let now = clock.now();
        // Before any socket: what is wrong with the command line is told first.
        let recorder = setup.record.as_deref().map(|path| {
            Recorder::create(path, &setup.config, &setup.seed, now).map_err(|error| {
                let path = path.to_owned();
                StartError::Record { path, error }
            })
        });
        let recorder = recorder.transpose()?;
        let bound = bind(&setup.listen, setup.config.tcp)
            .map_err(|(addr, error)| StartError::Listen { addr, error })?;
        let engine = Engine::new(setup.config, setup.seed, now).map_err(StartError::Config)?;
        let mut this = Self {
            engine,
            outbox: Outbox::new(),
            clock,
            sockets: Sockets::new(reactor),
            batch: Some(RecvBatch::new()),
            storage: setup.storage,
            inbox: setup.inbox,
            arrivals: Vec::new(),
            app: setup.app,
            events: Vec::new(),
            next_second: now + SECOND,
            active: true,
            recorder,
            exit: None,
        };
        this.begin(bound)?;
        Ok(this)
    }

    fn begin(&mut self, bound: Vec<Bound>) -> io::Result<()> {
        self.feed(Input::WallClock {
            unix: Clock::unix(),
        });
        let mut listening = Vec::with_capacity(bound.len());
        for one in bound {
            let local = one.local;
            let socket = self.sockets.add(one)?;
            listening.push(local);
            self.feed(Input::SocketUp { socket, local });
        }
        if self.engine.config().lsd.enabled {
            for (local, udp) in bind_nearby(&listening) {
                let socket = self.sockets.add_udp(udp)?;
                self.feed(Input::SocketUp { socket, local });
            }
        }
        let commands = self.app.start(&listening);
        self.commands(commands);
        Ok(())
    }

    /// The loop's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The reactor, to wait on.
    pub fn reactor_mut(&mut self) -> &mut R {
        self.sockets.reactor_mut()
    }

    /// A source may have become usable.
    pub fn ready(&mut self, ready: Ready) {
        self.sockets.ready(ready);
    }

    /// Does a bounded amount of what there is to do.
    pub fn turn(&mut self) -> Turn {
        // Local work comes first: it frees budgets that remote work waits for.
        self.take_arrivals();
        self.on_time();
        self.settle();
        for _ in 0..self.sockets.waiting() {
            let Some(source) = self.sockets.next_source() else {
                break;
            };
            self.visit(source);
            self.on_time();
        }
        self.settle();
        self.next()
    }

    fn next(&mut self) -> Turn {
        if let Some(code) = self.exit {
            // What follows from that would come too late.
            let lost = self.flush_recording().is_some();
            return Turn::Exit(if lost && code == DONE { FAILED } else { code });
        }
        let busy = self.sockets.waiting() > 0
            || !self.sockets.reports.is_empty()
            || !self.outbox.is_empty();
        let seconds = self.active || self.recorder.is_some() || self.app.wants_seconds();
        let second = seconds.then_some(self.next_second);
        let deadlines = [
            self.engine.next_timeout(),
            self.sockets.next_timeout(),
            second,
        ];
        let deadline = deadlines.into_iter().flatten().min();
        if busy || deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
            return Turn::Again;
        }
        Turn::Wait(deadline)
    }

    /// The only way into the engine.
    fn input(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.active |= !matches!(input, Input::Tick);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, &input);
        }
        self.engine.handle(now, input, &mut self.outbox);
    }

    fn feed(&mut self, input: Input<'_>) {
        self.input(input);
        if self.outbox.len() >= OUTPUTS_AT_ONCE {
            self.perform();
        }
    }

    fn commands(&mut self, commands: Vec<(Tag, Command)>) {
        for (tag, command) in commands {
            self.feed(Input::Command {
                tag,
                command: Box::new(command),
            });
        }
    }

    fn follow(&mut self, flow: Flow) {
        match flow {
            Flow::Continue => {}
            Flow::Commands(commands) => self.commands(commands),
            Flow::Exit(code) => self.exit = self.exit.or(Some(code)),
        }
    }

    fn take_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.inbox.drain(&mut arrivals);
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::JobDone(job, result) => self.feed(Input::JobDone { job, result }),
                Arrival::Command(tag, command) => self.commands(vec![(tag, command)]),
                Arrival::Interrupt => {
                    let flow = self.app.on_interrupt();
                    self.follow(flow);
                }
            }
        }
        self.arrivals = arrivals;
    }

    fn on_time(&mut self) {
        let now = self.clock.now();
        if self.engine.next_timeout().is_some_and(|due| due <= now) {
            self.feed(Input::Tick);
        }
        if self.sockets.next_timeout().is_some_and(|due| due <= now) {
            self.sockets.on_time(now);
        }
        if self.next_second <= now {
            self.next_second = now + SECOND;
            // Memory that was read into lately is given back in the second after.
            self.active = self.sockets.on_second();
            if let Some(flow) = self.flush_recording() {
                self.follow(flow);
            }
            // Who reads what is printed would wait in vain.
            if let Some(failure) = lost_output() {
                let flow = self.app.on_failure(&failure);
                self.follow(flow);
            }
            let flow = self.app.on_second(&self.engine);
            self.follow(flow);
        }
    }

    /// Hands what was recorded to the kernel; where that fails, what the app makes of it: half a
    /// recording is worse than none to whoever asked for it.
    fn flush_recording(&mut self) -> Option<Flow> {
        let error = self.recorder.as_mut()?.flush().err()?;
        self.recorder = None;
        Some(self.app.on_failure(&Failure::failed(format!(
            "the recording could not be written: {error}; free some space, or name another file \
             with --record"
        ))))
    }

    fn visit(&mut self, source: Source) {
        match source {
            Source::Udp(index) => self.visit_udp(index),
            Source::Listener(index) => {
                let now = self.clock.now();
                for _ in 0..ACCEPTS_PER_VISIT {
                    let Some((ticket, from)) = self.sockets.accept(index, now) else {
                        return;
                    };
                    self.feed(Input::Incoming { ticket, from });
                }
                self.sockets.again(source);
            }
            Source::Stream(key) => {
                self.sockets.write_stream(key);
                let mut left = READ_PER_VISIT;
                while left > 0 {
                    let ReadOutcome::Data(conn, data) = self.sockets.read(key, left) else {
                        break;
                    };
                    left = left.saturating_sub(data.len());
                    self.feed(Input::Received { conn, data });
                }
                self.sockets.again(source);
            }
        }
    }

    fn visit_udp(&mut self, index: usize) {
        self.sockets.send_waiting(index);
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        let socket = trackerless_core::io::SocketId(index as u32);
        let mut more = true;
        for _ in 0..BATCHES_PER_VISIT {
            more = self.sockets.recv(index, &mut batch);
            if !more {
                break;
            }
            for (from, payload) in batch.datagrams() {
                self.feed(Input::Datagram {
                    socket,
                    from,
                    payload,
                });
            }
        }
        self.batch = Some(batch);
        if more {
            self.sockets.again(Source::Udp(index));
        }
    }

    /// Performs outputs and feeds what follows from them, a bounded number of times.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_PER_TURN {
            self.perform();
            self.sockets.flush();
            if self.sockets.reports.is_empty() && self.outbox.is_empty() {
                break;
            }
            for _ in 0..self.sockets.reports.len() {
                if let Some(report) = self.sockets.reports.pop_front() {
                    self.report(report);
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        self.feed(match report {
            Report::SocketDown(socket, reason) => Input::SocketDown { socket, reason },
            Report::SendFailed(socket, to, reason) => Input::SendFailed { socket, to, reason },
            Report::Connected(conn) => Input::Connected { conn },
            Report::Sent(conn, bytes) => Input::Sent { conn, bytes },
            Report::Closed(conn, reason) => Input::Closed { conn, reason },
        });
    }

    fn perform(&mut self) {
        let now = self.clock.now();
        let Self {
            outbox,
            sockets,
            storage,
            events,
            ..
        } = self;
        let mut batch: SmallVec<[Datagram<'_>; BATCH]> = SmallVec::new();
        let mut batch_socket = None;
        for output in outbox.drain() {
            match output {
                Output::Transmit {
                    socket,
                    to,
                    head,
                    body,
                } => {
                    if batch_socket != Some(socket) || batch.len() == BATCH {
                        if let Some(socket) = batch_socket.replace(socket) {
                            sockets.send(socket, &batch);
                        }
                        batch.clear();
                    }
                    batch.push(Datagram { to, head, body });
                }
                Output::Send { conn, head, body } => sockets.write(conn, head, body),
                Output::ReadCredit { conn, bytes } => sockets.credit(conn, bytes),
                Output::Connect { conn, to } => sockets.connect(conn, to),
                Output::Accept { ticket, conn } => sockets.take(ticket, conn),
                Output::Refuse { ticket } => sockets.refuse(ticket),
                Output::Close { conn } => sockets.close(conn, now),
                Output::Job { job, work } => storage.gather(job, work),
                Output::CancelJob { job } => storage.cancel(job),
                Output::Event(event) => events.push(event),
            }
        }
        if let Some(socket) = batch_socket {
            sockets.send(socket, &batch);
        }
        drop(batch);
        storage.flush();
        self.tell();
    }

    fn tell(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match self.app.on_event(&event, &self.engine) {
                Flow::Continue => {}
                Flow::Exit(code) => self.exit = self.exit.or(Some(code)),
                // Not `follow`: it could perform, and so tell, from within itself.
                Flow::Commands(commands) => {
                    for (tag, command) in commands {
                        let command = Box::new(command);
                        self.input(Input::Command { tag, command });
                    }
                }
            }
        }
        self.events = events;
    }
}
