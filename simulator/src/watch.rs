//! Who looks on while a run goes: properties, traces, captures.

use std::any::Any;

use trackerless_core::{Input, Instant, Output};

use crate::{HostId, Sim};

/// Looks on at everything that passes between engines and their hosts, and changes nothing: a run
/// has the same root with it and without.
pub trait Watch: Any + Send {
    /// A host's engine is about to be told something.
    fn input(&mut self, at: Instant, host: HostId, input: &Input<'_>) {
        let _ = (at, host, input);
    }

    /// A host's engine asks for something, or tells something.
    fn output(&mut self, at: Instant, host: HostId, output: &Output<'_>) {
        let _ = (at, host, output);
    }

    /// A simulated second is over: all that happened before it has been seen.
    fn second(&mut self, sim: &Sim) {
        let _ = sim;
    }
}
