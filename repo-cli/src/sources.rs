//! What a backup reads, as named outside the command line: lists of paths, standard input, another program's output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use repo_core::Patterns;
use repo_core::system::{path_from_bytes, wait_readable};

use crate::exit::{Failure, Outcome};
use crate::names;

/// How a list of paths is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// Lines; blank ones and comments do not count, `*`, `?` and `[…]` are expanded.
    Patterns,
    /// Lines, each a path as it stands.
    Verbatim,
    /// Paths, each ended by a NUL.
    Raw,
}

/// The paths in a list; `-` is standard input.
pub fn read_list(path: &Path, format: ListFormat) -> Outcome<Vec<PathBuf>> {
    let mut contents = Vec::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().read_to_end(&mut contents),
        false => fs::File::open(path).and_then(|mut file| file.read_to_end(&mut contents)),
    };
    read.map_err(|error| Failure::file("reading the list", path, &error))?;
    if format == ListFormat::Raw {
        let Some(paths) = contents.strip_suffix(b"\0") else {
            return match contents.is_empty() {
                true => Ok(Vec::new()),
                false => Err(Failure::told(format!("{}: the last path is not ended by a NUL", names::path(path)))),
            };
        };
        return paths.split(|byte| *byte == 0).map(|name| named(name, path)).collect();
    }
    let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
    let lines = contents.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if format == ListFormat::Verbatim {
        return lines.filter(|line| !line.is_empty()).map(|name| named(name, path)).collect();
    }
    let mut paths = Vec::new();
    for line in lines.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#') {
        let found = expand(line)?;
        if found.is_empty() {
            return Err(Failure::told(format!("{}: nothing matches {}", names::path(path), names::shown(line))));
        }
        paths.extend(found);
    }
    Ok(paths)
}

fn named(name: &[u8], list: &Path) -> Outcome<PathBuf> {
    match name.is_empty() {
        true => Err(Failure::told(format!("{}: an empty path", names::path(list)))),
        false => Ok(path_from_bytes(name.to_vec())),
    }
}

/// The existing paths that a pattern means, ascending; the path itself if it is none.
fn expand(pattern: &[u8]) -> Outcome<Vec<PathBuf>> {
    let is_pattern = |part: &[u8]| part.iter().any(|byte| b"*?[".contains(byte));
    if !is_pattern(pattern) {
        return Ok(vec![path_from_bytes(pattern.to_vec())]);
    }
    let mut found = vec![if pattern[0] == b'/' { PathBuf::from("/") } else { PathBuf::new() }];
    for part in pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if !is_pattern(part) {
            let name = path_from_bytes(part.to_vec());
            found = found.iter().map(|path| path.join(&name)).filter(|path| path.symlink_metadata().is_ok()).collect();
            continue;
        }
        let text = std::str::from_utf8(part)
            .map_err(|_| Failure::told(format!("{}: a pattern must be UTF-8", names::shown(part))))?;
        let mut patterns = Patterns::new();
        patterns.add(&format!("/{text}"), false).map_err(|bad| Failure::told(bad.to_string()))?;
        let mut matching = Vec::new();
        for directory in &found {
            let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            // What cannot be listed has nothing that matches, as in a shell.
            let entries = fs::read_dir(here).into_iter().flatten().flatten();
            let mut fitting: Vec<OsString> = entries
                .map(|entry| entry.file_name())
                .filter(|name| patterns.matches(&[b"/", name.as_encoded_bytes()].concat()))
                .collect();
            fitting.sort();
            matching.extend(fitting.iter().map(|name| directory.join(name)));
        }
        found = matching;
    }
    Ok(found)
}

/// Why a stream ended before its end; empty if it did not.
pub type StreamProblem = Arc<Mutex<Option<String>>>;

/// How long a program may be silent before it is asked whether the backup was ended meanwhile.
const SILENCE_MS: u32 = 200;

/// How long a program that closed its output is waited for between two looks at whether it has ended.
const ENDING: Duration = Duration::from_millis(5);

/// Standard input, or what a program prints. A failed read, or a program that fails, ends the whole backup: half a
/// dump under the name of a whole one is worse than none.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    /// Set by Ctrl-C.
    stop: Arc<AtomicBool>,
    problem: StreamProblem,
}

#[derive(Debug)]
enum Inner {
    Stdin(io::Stdin),
    /// Started when it is its turn.
    Waiting {
        name: String,
        command: Box<Command>,
    },
    Program {
        name: String,
        child: Child,
        output: ChildStdout,
    },
    Ended,
}

impl Stream {
    /// Standard input. `stop` is what the backup asks whether to go on, here and below.
    pub fn stdin(stop: Arc<AtomicBool>) -> Self {
        Self { inner: Inner::Stdin(io::stdin()), stop, problem: StreamProblem::default() }
    }

    /// Runs a program and reads what it prints.
    pub fn program(words: &[OsString], stop: Arc<AtomicBool>) -> Outcome<Self> {
        let [program, arguments @ ..] = words else {
            return Err(Failure::told("--stdin-from-command needs a command: … --stdin-from-command -- pg_dump …"));
        };
        let name = names::shown(program.as_encoded_bytes()).into_owned();
        let mut command = Command::new(program);
        command.args(arguments);
        let inner = started(name, &mut command).map_err(Failure::told)?;
        Ok(Self { inner, stop, problem: StreamProblem::default() })
    }

    /// What a command of the shell prints, which is run when the first byte is asked for. `name` is for messages; why it
    /// failed is told in `problem`.
    pub fn command(name: String, command: &OsStr, stop: Arc<AtomicBool>, problem: StreamProblem) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command);
        Self { inner: Inner::Waiting { name, command: Box::new(shell) }, stop, problem }
    }

    /// Where it will be told why the stream broke off.
    pub fn problem(&self) -> StreamProblem {
        Arc::clone(&self.problem)
    }

    fn fail(&self, message: String) -> io::Error {
        // What Ctrl-C ended, here and there, did not fail.
        if !self.stop.load(Relaxed) {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
        }
        io::Error::other(message)
    }

    /// The next bytes; an error says what broke off.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        if let Inner::Waiting { name, command } = &mut self.inner {
            self.inner = started(std::mem::take(name), command)?;
        }
        let count = loop {
            let result = match &mut self.inner {
                Inner::Stdin(stdin) => stdin.read(buffer),
                // A silent program would keep a backup from ending that was asked to.
                Inner::Program { name, output, .. } => match wait_readable(output, SILENCE_MS) {
                    Ok(true) => output.read(buffer),
                    Ok(false) if self.stop.load(Relaxed) => return Err(format!("{name} was ended")),
                    Ok(false) => continue,
                    Err(error) => Err(error),
                },
                Inner::Waiting { .. } | Inner::Ended => Ok(0),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(|error| format!("reading it: {error}"))?,
            }
        };
        if count == 0 && !buffer.is_empty() {
            self.end()?;
        }
        Ok(count)
    }

    /// After the last byte of a program: only its exit status says whether that was all.
    fn end(&mut self) -> Result<(), String> {
        let Inner::Program { name, child, .. } = &mut self.inner else { return Ok(()) };
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if self.stop.load(Relaxed) => return Err(format!("{name} was ended")),
                Ok(None) => thread::sleep(ENDING),
                Err(error) => return Err(format!("{name}: its end could not be awaited: {error}")),
            }
        };
        let result = match status.success() {
            true => Ok(()),
            false => Err(format!("{name} failed ({status})")),
        };
        self.inner = Inner::Ended;
        result
    }
}

/// Starts a program whose output is read.
fn started(name: String, command: &mut Command) -> Result<Inner, String> {
    // A secret is nothing that every program started here should know.
    command.env_remove("ICECORE_PASSWORD").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{name} could not be run: {error}"))?;
    let output = child.stdout.take().expect("it was asked to be piped");
    Ok(Inner::Program { name, child, output })
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|message| self.fail(message))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Inner::Program { child, .. } = &mut self.inner {
            // Left over from a backup that ended early; nobody reads what it prints.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
