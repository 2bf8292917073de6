//! What could not be handled, and what is good to know, said on standard error while a command goes on: for people a line of
//! text, with `--json` a line of JSON. Of verbs that report as they run, `progress` does it; why a command ends is in `exit`.

use repo_core::{Error, ObjectName, SnapshotId};
use serde::Serialize;

use crate::names;
use crate::output::Output;

#[derive(Serialize)]
struct ProblemLine<'a> {
    message_type: &'static str,
    error: Words<'a>,
    during: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<String>,
}

#[derive(Serialize)]
struct Words<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct NoteLine<'a> {
    message_type: &'static str,
    message: &'a str,
}

/// Of a snapshot. `during` is the command's name.
pub fn of_snapshot(output: &Output, during: &'static str, id: SnapshotId, error: &Error) {
    let short = id.short();
    say(output, during, Some((&short[..8], &short)), error);
}

/// Of a snapshot that somebody named so.
pub fn of_named(output: &Output, during: &'static str, name: &str, error: &Error) {
    say(output, during, Some((name, name)), error);
}

/// Of snapshots that cannot be read: their errors say which.
pub fn unreadable<'e>(output: &Output, during: &'static str, errors: impl IntoIterator<Item = &'e Error>) {
    for error in errors {
        if !output.is_json() {
            say(output, during, None, error);
            continue;
        }
        let id = match error {
            Error::Corrupt { object: ObjectName::Snapshot(id), .. } => Some(id.short()),
            _ => None,
        };
        say(output, during, id.as_deref().map(|id| (id, id)), error);
    }
}

/// `item` is how people and how programs know it.
fn say(output: &Output, during: &'static str, item: Option<(&str, &str)>, error: &Error) {
    let text = error.to_string();
    let message = &*names::words(&text);
    if output.is_json() {
        let item = item.map(|(_, whole)| whole.to_owned());
        output.error_json(&ProblemLine { message_type: "error", error: Words { message }, during, item });
        return;
    }
    match item {
        Some((shown, _)) => output.error_line(&format!("error: {}: {message}", names::words(shown))),
        None => output.error_line(&format!("error: {message}")),
    }
}

/// Good to know, and no failure; for people it begins with this word.
pub fn note(output: &Output, word: &str, message: &str) {
    let message = &*names::words(message);
    match output.is_json() {
        true => output.error_json(&NoteLine { message_type: "note", message }),
        false => output.error_line(&format!("{word}: {message}")),
    }
}
