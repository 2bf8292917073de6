//! Ctrl-C, TERM and HUP, and USR1, which asks for progress. Handlers set flags and nothing else; whoever is at work, or waits
//! for a person, looks at them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Once, OnceLock};
use std::thread::{self, JoinHandle};

use repo_core::system::{self, TerminalModes};
use repo_core::{Event, Progress};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use crate::exit::{Failure, Outcome};

/// Ctrl-C and TERM do what they do to a program that does not listen.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(true);
/// So does the end of the terminal's connection.
static HANGS_UP: AtomicBool = AtomicBool::new(true);
/// Ctrl-C was pressed while a person was asked.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Runs what asks a person with the terminal's echo off. Ctrl-C does not end the program there, or its terminal would
/// stay without echo: it becomes an error of the kind `Interrupted`, when all is as it was. Nobody need press a key for TERM
/// and HUP: they set the terminal as it was, and then end the program as ever.
pub fn while_asking<T>(ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    static LISTENING: Once = Once::new();
    static ENDS: OnceLock<Vec<i32>> = OnceLock::new();
    let is_heard = |signal: &i32| !system::ignores_signal(*signal);
    // Asked before anything is registered: what nobody listens to is left to whoever said so, as `nohup` does.
    let ends = ENDS.get_or_init(|| [SIGTERM, SIGHUP].into_iter().filter(is_heard).collect());
    // Without it a password can be asked for all the same.
    LISTENING.call_once(|| {
        flag::register(SIGINT, &PRESSED).and_then(|_| flag::register_conditional_default(SIGINT, &ENDS_AT_ONCE)).ok();
        for signal in ends {
            let ends = if *signal == SIGHUP { &HANGS_UP } else { &ENDS_AT_ONCE };
            flag::register_conditional_default(*signal, ends).ok();
        }
    });
    PRESSED.store(false, SeqCst);
    // Before its signals are taken from the program: none is lost between.
    let guard = Guard::set(ends);
    ENDS_AT_ONCE.store(guard.is_none(), SeqCst);
    HANGS_UP.store(guard.is_none(), SeqCst);
    let answer = ask();
    ENDS_AT_ONCE.store(true, SeqCst);
    HANGS_UP.store(true, SeqCst);
    drop(guard);
    match PRESSED.load(SeqCst) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => answer,
    }
}

/// Waits for the signals that end the program while a person is asked, since a handler could not set the terminal.
struct Guard {
    handle: Handle,
    waiting: Option<JoinHandle<()>>,
}

impl Guard {
    /// `None`: there is no terminal, or no thread to be had.
    fn set(ends: &[i32]) -> Option<Self> {
        let modes = TerminalModes::now()?;
        let mut signals = Signals::new(ends).ok()?;
        let handle = signals.handle();
        let wait = move || {
            if let Some(signal) = signals.forever().next() {
                modes.restore().ok();
                emulate_default_handler(signal).ok();
            }
        };
        let waiting = thread::Builder::new().name("signals".into()).spawn(wait).ok()?;
        Some(Self { handle, waiting: Some(waiting) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.handle.close();
        self.waiting.take().map(JoinHandle::join);
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

/// From now on USR1 does not end the program: whoever asks for progress of something that has none gets no answer.
pub fn survive_questions() {
    // Nobody looks at it; where it cannot be registered the signal does what it does to any program.
    flag::register(SIGUSR1, Arc::default()).ok();
}

/// Runs `verb`, and meanwhile `answer` whenever USR1 comes.
pub fn while_answering<T>(answer: impl Fn() + Send + Sync, verb: impl FnOnce() -> T) -> T {
    let Ok(mut questions) = Signals::new([SIGUSR1]) else { return verb() };
    /// Ends the waiting whatever becomes of the verb.
    struct Close(Handle);
    impl Drop for Close {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let close = Close(questions.handle());
    thread::scope(|scope| {
        let wait = move || questions.forever().for_each(|_| answer());
        // Without it nobody answers, which is no reason to do nothing.
        thread::Builder::new().name("questions".to_owned()).spawn_scoped(scope, wait).ok();
        let _close = close;
        verb()
    })
}

/// The same for the end of the terminal's connection too: for what may not be left behind. Who was told to ignore that, as
/// by `nohup`, goes on.
pub fn end_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = stop_flag()?;
    if !system::ignores_signal(SIGHUP) {
        flag::register_conditional_shutdown(SIGHUP, 130, Arc::clone(&stop))?;
        flag::register(SIGHUP, Arc::clone(&stop))?;
        HANGS_UP.store(false, SeqCst);
    }
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
