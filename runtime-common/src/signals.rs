//! Ctrl-C and its relatives.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::INTERRUPTED;
use crate::host::{Arrival, Inbox};

/// Hands the first SIGINT, SIGTERM or SIGHUP to `inbox`; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn install(inbox: Arc<Inbox>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut seen = false;
            for _ in signals.forever() {
                if std::mem::replace(&mut seen, true) {
                    std::process::exit(INTERRUPTED.into());
                }
                inbox.push(Arrival::Interrupt);
            }
        })?;
    Ok(())
}

/// Ends the process with status 130 at the first of them: for commands that have nothing to say
/// goodbye to.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn exit_at_first() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                std::process::exit(INTERRUPTED.into());
            }
        })?;
    Ok(())
}
