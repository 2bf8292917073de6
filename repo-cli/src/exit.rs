//! How a command ends: what went wrong, the exit code, and a hint what to do. One match knows them all.

use std::io;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};
use repo_core::{BackendErrorKind, Corruption, Error, ObjectName};
use serde::Serialize;

use crate::memory;
use crate::names;
use crate::output::Output;

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Exit codes, of which scripts know the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Failed = 1,
    Incomplete = 3,
    NoRepository = 10,
    WrongSecret = 12,
    Alarm = 13,
    Interrupted = 130,
}

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The library said no.
    Core(Error),
    /// It did so of one repository among several.
    Of { which: String, error: Error },
    /// This program did.
    Told { message: String, hint: Option<String> },
    /// Done, but not with everything.
    Incomplete { message: String, hint: Option<String> },
    /// Ctrl-C or TERM; the text says what is kept.
    Interrupted(String),
    /// Nobody reads on: no failure at all.
    BrokenPipe,
}

impl Failure {
    /// A failure with nothing to advise.
    pub fn told(message: impl Into<String>) -> Self {
        Self::Told { message: message.into(), hint: None }
    }

    /// A failure, and what to do about it.
    pub fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Told { message: message.into(), hint: Some(hint.into()) }
    }

    /// Done, but not with everything; nothing to advise.
    pub fn incomplete(message: impl Into<String>) -> Self {
        Self::Incomplete { message: message.into(), hint: None }
    }

    /// A local file that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::told(format!("{doing} {}: {error}", names::path(path)))
    }

    /// For a verb that can be interrupted: says what is kept.
    pub fn from_verb(error: Error, kept: &str) -> Self {
        match error {
            Error::Cancelled => Self::Interrupted(kept.to_owned()),
            error => Self::Core(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

/// Of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::told(format!("writing the output: {error}")),
        }
    }
}

#[derive(Serialize)]
struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Says how it ended and gives the exit code.
pub fn finish(result: Outcome, output: &Output) -> ExitCode {
    output.clear_status();
    let result = result.and(output.flush().map_err(Failure::from));
    let failure = match result {
        Ok(()) | Err(Failure::BrokenPipe) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (code, message, hint) = describe(&failure);
    let message = names::words(&message);
    if output.is_json() {
        output.error_json(&ExitError {
            message_type: "exit_error",
            code: code as u8,
            message: &message,
            hint: hint.as_deref(),
        });
    } else {
        let (word, color) = match code {
            Code::Incomplete | Code::Interrupted => ("warning:", AnsiColor::Yellow),
            _ => ("error:", AnsiColor::Red),
        };
        output
            .error_line(&format!("{} {message}", output.paint(word, Style::new().bold().fg_color(Some(color.into())))));
        if let Some(hint) = hint {
            output.error_line(&format!("{} {hint}", output.paint("hint:", Style::new().bold())));
        }
    }
    ExitCode::from(code as u8)
}

/// Ends after a command line that was not understood, or after `--help`.
pub fn usage(problem: &clap::Error, json: bool) -> ExitCode {
    // A closed pipe behind `--help` is no failure.
    if !problem.use_stderr() {
        problem.print().ok();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = problem.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let line = ExitError { message_type: "exit_error", code: Code::Failed as u8, message, hint: None };
        eprintln!("{}", serde_json::to_string(&line).expect("plain fields"));
    } else {
        problem.print().ok();
    }
    ExitCode::from(Code::Failed as u8)
}

/// The one match: code, message, hint.
fn describe(failure: &Failure) -> (Code, String, Option<String>) {
    let error = match failure {
        Failure::Core(error) => error,
        Failure::Of { which, error } => {
            let (code, message, hint) = describe_error(error);
            return (code, format!("{which}: {message}"), hint);
        }
        Failure::Told { message, hint } => return (Code::Failed, message.clone(), hint.clone()),
        Failure::Incomplete { message, hint } => return (Code::Incomplete, message.clone(), hint.clone()),
        Failure::Interrupted(message) => return (Code::Interrupted, format!("interrupted; {message}"), None),
        Failure::BrokenPipe => return (Code::Failed, "nobody reads the output".to_owned(), None),
    };
    describe_error(error)
}

fn describe_error(error: &Error) -> (Code, String, Option<String>) {
    let (code, hint) = match error {
        Error::NoRepository { .. } => (
            Code::NoRepository,
            "check the place, or make a repository there with `icecore init` or `icecore backup --init`",
        ),
        Error::RepositoryExists { .. } => (Code::Failed, "use it as it is, or choose another place"),
        Error::NotEmpty { .. } => (Code::Failed, "name an empty directory, or one that does not exist yet: it is made"),
        Error::Local { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            (
                Code::Failed,
                "make room in the target and run the same command again: what is restored is not written twice",
            )
        }
        Error::WrongSecret { .. } => (
            Code::WrongSecret,
            "check which password or key file is used; a recovery kit opens the repository too (--recovery-kit)",
        ),
        Error::Revoked => (Code::WrongSecret, "use a password or key that `icecore key list` still shows"),
        Error::Unsupported { .. } => (Code::Failed, "use the version of icecore that made it"),
        Error::Corrupt { problem: Corruption::Unknown { .. }, .. } => {
            (Code::Failed, "a newer version of icecore may have written it")
        }
        Error::Corrupt { object: ObjectName::Format | ObjectName::Keyring(_) | ObjectName::Config(_), .. } => {
            (Code::Failed, "a second copy lies under r/ in the repository")
        }
        Error::Corrupt { object: ObjectName::Gc(..), problem: Corruption::Malformed(_) } => (
            Code::Failed,
            "nothing was deleted. No prune writes this: whoever did has the keys, and may write where only maintenance should. \
             Remove the object while no prune runs, and prune again",
        ),
        Error::Corrupt { .. } | Error::ChunkLost { .. } | Error::Entry { .. } => {
            (Code::Failed, "`icecore check --read-data` names everything that is damaged and which snapshots need it")
        }
        Error::Backend(error) => match error.kind {
            BackendErrorKind::Denied => {
                (Code::Failed, "this user may not do that there: check owner and mode of the repository")
            }
            BackendErrorKind::Full => {
                (Code::Failed, "make room and run the command again; what was stored is used then")
            }
            _ if error.is_unsupported() => (
                Code::Failed,
                "choose a place on another file system; for a new repository that must be there, `icecore init --help` tells what \
                 --weak-store costs",
            ),
            BackendErrorKind::Transient => (Code::Failed, "run the command again; what was stored is used then"),
            _ => return (Code::Failed, error.to_string(), None),
        },
        Error::SnapshotsVanished { .. } => (
            Code::Alarm,
            "nothing was deleted: bring the storage back to what it was, or, if they are gone for good, use --accept-lost-snapshots",
        ),
        Error::Rollback { compared_ms, .. } => {
            return (Code::Alarm, error.to_string(), Some(memory::hint(*compared_ms)));
        }
        Error::NoSnapshot { .. } => (Code::Failed, "`icecore snapshots` shows what there is"),
        Error::AmbiguousSnapshot { .. } => {
            (Code::Failed, "write more digits of the id; `icecore snapshots` shows them")
        }
        Error::Path { .. } => (Code::Failed, "`icecore ls ID` shows what is in a snapshot"),
        Error::Rotated => (
            Code::Failed,
            "run the command again; what was stored is used then, if this password or key is still one of the repository's",
        ),
        Error::NoPutIfAbsent { .. } => {
            (Code::Failed, "what is there can be read, and copied to another place (`icecore copy`)")
        }
        Error::NotOwner { .. } => (
            Code::Failed,
            "run it where the owner is; or, if that is gone for good or at least not pruning, `icecore prune --take-ownership` here",
        ),
        Error::Fenced => (Code::Failed, "run the command again; what was stored is used then"),
        Error::SelfCheck(_) => (Code::Failed, "test this machine's memory; nothing damaged was stored"),
        Error::Cancelled => (Code::Interrupted, "run the command again"),
        Error::Mirror { .. } | Error::SplitBrain { .. } => {
            return (Code::Failed, error.to_string(), crate::commands::mirror::hint(error).map(str::to_owned));
        }
        // Their own words say all there is to say.
        _ => return (Code::Failed, error.to_string(), None),
    };
    (code, error.to_string(), Some(hint.to_owned()))
}
