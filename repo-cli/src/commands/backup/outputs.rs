//! Files of a backup that commands print: `--command NAME=COMMAND`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use repo_core::system::path_from_bytes;
use repo_core::{LocalTree, Streams};

use crate::exit::{Failure, Outcome};
use crate::names;
use crate::sources::{Stream, StreamProblem};

/// What commands print, each as a file.
#[derive(Debug, Args)]
pub struct Outputs {
    /// Store what COMMAND prints as the file NAME, beside any paths; may be repeated
    ///
    /// Each command is run by /bin/sh -c, one after another in the order of their names, and not before its turn. If one of
    /// them fails (another exit status than 0, a signal), no snapshot is made. NAME is a path in the snapshot, such as db.sql
    /// or /dumps/db.sql; names that meet one another or a file that is backed up are refused before anything is run. What is
    /// left out by --exclude concerns the paths alone.
    #[arg(long, value_name = "NAME=COMMAND", conflicts_with_all = ["stdin", "stdin_from_command", "from_tar"])]
    command: Vec<OsString>,
}

impl Outputs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.command.is_empty()
    }

    /// Refuses what is mistyped.
    pub fn check(&self) -> Outcome {
        self.files(|_, _| io::empty()).map(drop)
    }

    /// The source that they make, with the paths if there are any. Nothing is run yet. `stop` ends the command that runs;
    /// which one failed, and how, is told in `problem`.
    pub fn source(
        &self,
        paths: Option<LocalTree>,
        stop: &Arc<AtomicBool>,
        problem: &StreamProblem,
    ) -> Outcome<Streams> {
        let streams = self.files(|name, command| {
            let shown = format!("the command for {}", names::path(name));
            Stream::command(shown, command, Arc::clone(stop), Arc::clone(problem))
        })?;
        Ok(match paths {
            Some(paths) => streams.beside(paths)?,
            None => streams,
        })
    }

    fn files<R: io::Read + Send + 'static>(&self, reader: impl Fn(&Path, &OsStr) -> R) -> Outcome<Streams> {
        self.command.iter().try_fold(Streams::new(), |streams, given| {
            let (name, command) = split(given)?;
            let reader = reader(&name, &command);
            Ok(streams.add(&name, reader)?)
        })
    }
}

/// `NAME=COMMAND`, at the first `=`.
fn split(given: &OsStr) -> Outcome<(PathBuf, OsString)> {
    let bytes = given.as_encoded_bytes();
    let bad = |what: &str| {
        let message = format!("--command {:?}: {what}", names::shown(bytes));
        Err(Failure::with_hint(message, "write NAME=COMMAND, as in --command 'db.sql=pg_dump mydb'"))
    };
    let Some(equals) = bytes.iter().position(|byte| *byte == b'=') else { return bad("there is no =") };
    let (name, command) = (&bytes[..equals], &bytes[equals + 1..]);
    match name {
        b"" => return bad("there is no name"),
        [.., b'/'] => return bad("the name is that of a directory"),
        _ => {}
    }
    if command.trim_ascii().is_empty() {
        return bad("there is no command");
    }
    Ok((path_from_bytes(name.to_vec()), path_from_bytes(command.to_vec()).into_os_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_equals_sign() {
        let split = |given: &str| split(OsStr::new(given));
        assert_eq!(split("a/b=x --y=z").expect("valid"), (PathBuf::from("a/b"), OsString::from("x --y=z")));
        for bad in ["", "x", "=x", "a/=x", "a=", "a=  "] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
