//! Jobs that wait for somebody else, on threads that come and go: they can take minutes.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use trackerless_core::io::{JobError, JobId, JobResult};

use super::{Shared, lock};

type Task = Box<dyn FnOnce() -> JobResult + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<(JobId, Task)>,
    threads: usize,
    running: BTreeSet<JobId>,
    /// Jobs under way whose results nobody wants any more.
    cancelled: BTreeSet<JobId>,
}

/// Threads of one kind of job.
pub(super) struct Pool {
    name: &'static str,
    max_threads: usize,
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

impl Pool {
    /// At most `max_threads` at once, called `name`.
    pub(super) fn new(name: &'static str, max_threads: usize, shared: Arc<Shared>) -> Self {
        Self {
            name,
            max_threads,
            shared,
            state: Arc::default(),
        }
    }

    /// Does `task` and answers `job` with its result.
    pub(super) fn submit(&self, job: JobId, task: impl FnOnce() -> JobResult + Send + 'static) {
        let mut state = lock(&self.state);
        state.queue.push_back((job, Box::new(task)));
        if state.threads >= self.max_threads {
            return;
        }
        state.threads += 1;
        drop(state);
        let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let thread = std::thread::Builder::new()
            .name(self.name.into())
            .spawn(move || run(&shared, &queue));
        if thread.is_err() {
            let mut state = lock(&self.state);
            state.threads -= 1;
            if state.threads == 0 {
                for (job, _) in std::mem::take(&mut state.queue) {
                    self.shared.answer([(job, JobResult::Failed(JobError::Io))]);
                }
            }
        }
    }

    /// Forgets a job: it is not begun any more, and one under way is not answered.
    pub(super) fn cancel(&self, job: JobId) {
        let mut state = lock(&self.state);
        state.queue.retain(|(queued, _)| *queued != job);
        if state.running.contains(&job) {
            state.cancelled.insert(job);
        }
    }
}

fn run(shared: &Shared, state: &Mutex<State>) {
    loop {
        let (job, task) = {
            let mut state = lock(state);
            match state.queue.pop_front() {
                Some(next) => {
                    state.running.insert(next.0);
                    next
                }
                None => {
                    state.threads -= 1;
                    return;
                }
            }
        };
        // Whatever happens, it is answered, and the thread goes on.
        let result =
            catch_unwind(AssertUnwindSafe(task)).unwrap_or(JobResult::Failed(JobError::Internal));
        let mut state = lock(state);
        state.running.remove(&job);
        let wanted = !state.cancelled.remove(&job);
        drop(state);
        if wanted {
            shared.answer([(job, result)]);
        }
    }
}
