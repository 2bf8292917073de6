//! A terminal for the program: a pseudo-terminal whose other end the test holds. It keeps all that was written to it,
//! and says what a person would see of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::cli;

/// What did not come in this time never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal and all that was written to it.
#[derive(Debug)]
pub struct Terminal {
    ours: File,
    theirs: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Switched on, and blank. It has 400 columns, so that nothing of these tests is cut.
    pub fn new() -> Self {
        Self::of_columns(400)
    }

    /// One of this width.
    pub fn of_columns(columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the system has pseudo-terminals");
        grantpt(&ours).expect("a terminal of ours");
        unlockpt(&ours).expect("a terminal of ours");
        let name = ptsname(&ours, Vec::new()).expect("a terminal of ours");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("a terminal of ours");
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).expect("a terminal of ours");
        let ours = File::from(ours);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (ours.try_clone().expect("a descriptor"), Arc::clone(&written));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the other side open.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                into.lock().expect("not poisoned").extend_from_slice(&buffer[..length]);
            }
        });
        Self { ours, theirs, written, reader }
    }

    /// For a stream of the program.
    pub fn stream(&self) -> Stdio {
        self.theirs.try_clone().expect("a descriptor").into()
    }

    /// Starts a prepared command with all three streams on this terminal, which becomes its own: Ctrl-C reaches it,
    /// and a password is asked for here.
    pub fn start(&self, command: &Command) -> Child {
        self.owned_by(command).stdout(self.stream()).spawn().expect("the program starts")
    }

    /// The same, its standard output being a pipe.
    pub fn start_piped(&self, command: &Command) -> Child {
        self.owned_by(command).stdout(Stdio::piped()).spawn().expect("the program starts")
    }

    /// Starts it with its standard error alone on this terminal, and pipes for the other two streams. The command is
    /// taken: it would hold the terminal open.
    pub fn start_beside(&self, mut command: Command) -> Child {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.stream());
        piped.spawn().expect("the program starts")
    }

    fn owned_by(&self, command: &Command) -> Command {
        let mut owner = Command::new("setsid");
        owner.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => owner.env(name, value),
                None => owner.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            owner.current_dir(directory);
        }
        owner.stdin(self.stream()).stderr(self.stream());
        owner
    }

    /// As a person at the keyboard.
    pub fn types(&self, keys: &str) {
        (&self.ours).write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Everything that was written so far, escapes and all.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("not poisoned")).into_owned()
    }

    /// Waits until what was written is so.
    #[track_caller]
    pub fn waits_for(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !is_so(&self.written()) {
            assert!(started.elapsed() < PATIENCE, "{what} never came:\n{:?}", self.written());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the question to be asked for the `nth` time, with the echo off, and answers it.
    #[track_caller]
    pub fn answers(&self, question: &str, nth: usize, keys: &str) {
        self.waits_for(question, |written| written.matches(question).count() == nth && !self.echoes());
        self.types(keys);
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        self.modes().local_modes.contains(LocalModes::ECHO)
    }

    /// How the terminal is set.
    pub fn modes(&self) -> Termios {
        tcgetattr(self.ours.as_fd()).expect("a terminal of ours")
    }

    /// Waits for the program, and gives how it ended and all that it wrote here.
    pub fn end(self, mut child: Child) -> (ExitStatus, String) {
        let status = cli::wait(&mut child);
        let Self { ours: _ours, theirs, written, reader } = self;
        drop(theirs);
        reader.join().expect("it reads to the end");
        let written = written.lock().expect("not poisoned");
        (status, String::from_utf8_lossy(&written).into_owned())
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands on the screen after all this was written to it: its lines, without blank ones.
pub fn screen(written: &str) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                lines.resize_with(lines.len().max(row + 1), Vec::new);
            }
            '\x1b' => {
                assert_eq!(letters.next(), Some('['), "an escape that no status line needs");
                let mut number = String::new();
                while let Some(digit) = letters.next_if(|letter| letter.is_ascii_digit() || *letter == ';') {
                    number.push(digit);
                }
                match letters.next() {
                    Some('A') => row = row.checked_sub(number.parse().expect("lines")).expect("within the screen"),
                    Some('J') => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    Some('m') => {}
                    other => panic!("an escape that no status line needs: {other:?}"),
                }
            }
            letter => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
    }
    let lines = lines.into_iter().map(String::from_iter);
    lines.filter(|line: &String| !line.trim().is_empty()).collect()
}
