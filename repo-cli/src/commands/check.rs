//! `icecore check`

use clap::Args;
use repo_core::{CheckOptions, CheckReport, Error, ObjectName};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};

/// Look for damage: objects that are missing or changed, and which snapshots need them.
///
/// Without --read-data the contents of files are not read: the repository's own structures are, and every object's presence.
/// Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore check --read-data"))]
pub struct Check {
    /// Read every byte and prove that it is what was stored
    #[arg(long)]
    read_data: bool,

    /// Accepted for restic's scripts: a repository in a directory has no cache
    #[arg(long, hide_short_help = true)]
    with_cache: bool,
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    num_errors: u64,
    broken_packs: Vec<String>,
    broken_snapshots: Vec<String>,
    suggest_repair_index: bool,
    suggest_prune: bool,
}

#[derive(Serialize)]
struct ErrorLine {
    message_type: &'static str,
    message: String,
}

impl Check {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let mut options = CheckOptions::default();
        options.read_data = self.read_data;
        let mut reporter = Reporter::new(&context.output, Task::Check)?;
        let result = reporter.watch(|reporter| repository.check(&options, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, "nothing was changed"))?;
        self.print(context, &reporter, &report)?;
        match report.errors.len() as u64 {
            0 => Ok(()),
            errors => Err(Failure::told(format!(
                "the repository is damaged: {}, {} in need of what is lost",
                numbers::count(errors, "error"),
                numbers::count(report.damaged_snapshots.len() as u64, "snapshot")
            ))),
        }
    }

    fn print(&self, context: &Context, reporter: &Reporter, report: &CheckReport) -> Outcome {
        let output = &context.output;
        let text = |error: &Error| names::words(&error.to_string()).into_owned();
        if output.is_json() {
            for error in &report.errors {
                output.error_json(&ErrorLine { message_type: "error", message: text(error) });
            }
            return output.json(&SummaryLine {
                message_type: "summary",
                num_errors: report.errors.len() as u64,
                broken_packs: report.damaged_packs.iter().map(ToString::to_string).collect(),
                broken_snapshots: report.damaged_snapshots.iter().map(|id| id.short()).collect(),
                suggest_repair_index: report.errors.iter().any(is_of_index),
                suggest_prune: false,
            });
        }
        for error in &report.errors {
            output.error_line(&format!("error: {}", text(error)));
        }
        for id in &report.damaged_snapshots {
            output.error_line(&format!("error: snapshot {} cannot be restored in full", &id.short()[..8]));
        }
        for note in &report.notes {
            output.say(1, &format!("note: {}", names::words(note)))?;
        }
        let read = if self.read_data { format!(", {} read", numbers::size(report.read_bytes)) } else { String::new() };
        output.say(
            1,
            &format!(
                "checked {}, {}, {}{read} in {}",
                numbers::count(report.snapshots, "snapshot"),
                numbers::count(report.packs, "pack"),
                numbers::count(report.chunks, "chunk"),
                numbers::duration(reporter.elapsed())
            ),
        )?;
        if report.errors.is_empty() { output.line("no errors were found") } else { Ok(()) }
    }
}

fn is_of_index(error: &Error) -> bool {
    matches!(error, Error::Corrupt { object: ObjectName::Index(_), .. })
}
