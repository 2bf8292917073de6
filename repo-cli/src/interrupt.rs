//! Ctrl-C and TERM. Handlers set flags and nothing else; whoever is at work, or waits for a person, looks at them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Once};

use repo_core::{Event, Progress};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Failure, Outcome};

/// Ctrl-C does what it does to a program that does not listen.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(true);
/// Ctrl-C was pressed while a person was asked.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Runs what asks a person with the terminal's echo off. Ctrl-C does not end the program there, or its terminal would
/// stay without echo: it becomes an error of the kind `Interrupted`, when all is as it was.
pub fn while_asking<T>(ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    static LISTENING: Once = Once::new();
    PRESSED.store(false, SeqCst);
    ENDS_AT_ONCE.store(false, SeqCst);
    // Without it a password can be asked for all the same.
    LISTENING.call_once(|| {
        flag::register(SIGINT, &PRESSED).and_then(|_| flag::register_conditional_default(SIGINT, &ENDS_AT_ONCE)).ok();
    });
    let answer = ask();
    ENDS_AT_ONCE.store(true, SeqCst);
    match PRESSED.load(SeqCst) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => answer,
    }
}

/// A flag that Ctrl-C and TERM set from now on; a second one ends the program at once.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    ENDS_AT_ONCE.store(false, SeqCst);
    Ok(stop)
}

/// Hears nothing of a verb, and stops it at Ctrl-C and TERM.
#[derive(Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on.
    pub fn listen() -> Outcome<Self> {
        stop_flag().map(Self).map_err(|error| Failure::told(format!("listening for Ctrl-C: {error}")))
    }
}

impl Progress for Stop {
    fn report(&self, _event: Event<'_>) {}

    fn is_cancelled(&self) -> bool {
        self.0.load(SeqCst)
    }
}
