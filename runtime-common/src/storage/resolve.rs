//! Finds the addresses of names on threads that come and go, since resolvers can take minutes.

use std::collections::VecDeque;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};

use trackerless_core::io::{JobError, JobId, JobResult};

use super::{Shared, lock};

/// Names looked up at once.
const MAX_THREADS: usize = 4;

#[derive(Default)]
struct State {
    queue: VecDeque<(JobId, String, u16)>,
    threads: usize,
}

pub(super) struct Resolver {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

impl Resolver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            state: Arc::default(),
        }
    }

    pub(super) fn submit(&self, job: JobId, host: &str, port: u16) {
        let mut state = lock(&self.state);
        state.queue.push_back((job, host.to_owned(), port));
        if state.threads >= MAX_THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let thread = std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || run(&shared, &queue));
        if thread.is_err() {
            let mut state = lock(&self.state);
            state.threads -= 1;
            if state.threads == 0 {
                for (job, ..) in std::mem::take(&mut state.queue) {
                    (self.shared.on_done)(job, JobResult::Failed(JobError::Io));
                }
            }
        }
    }
}

fn run(shared: &Shared, state: &Mutex<State>) {
    loop {
        let (job, host, port) = {
            let mut state = lock(state);
            match state.queue.pop_front() {
                Some(next) => next,
                None => {
                    state.threads -= 1;
                    return;
                }
            }
        };
        (shared.on_done)(job, resolve(&host, port));
    }
}

fn resolve(host: &str, port: u16) -> JobResult {
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<IpAddr> = Vec::new();
            for addr in found {
                if !all.contains(&addr.ip()) {
                    all.push(addr.ip());
                }
            }
            JobResult::Resolved(all)
        }
        Err(_) => JobResult::Failed(JobError::NotFound),
    }
}
