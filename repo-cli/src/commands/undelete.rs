//! `icecore undelete`

use clap::Args;
use repo_core::{Error, ForgottenSnapshot, SnapshotId};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Stop;
use crate::json::SnapshotShape;
use crate::names;
use crate::numbers;
use crate::output::Table;
use crate::problems;
use crate::time;

/// Bring back forgotten snapshots; without ids, list those that can be.
///
/// A snapshot can be brought back until its time is over and the repository was pruned after that. It comes back under a new
/// id, and `cat snapshot` shows the old one as `original`.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore undelete 40dc1520"))]
pub struct Undelete {
    /// The first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Changed {
    message_type: &'static str,
    old_snapshot_id: String,
    new_snapshot_id: String,
}

#[derive(Serialize)]
struct ForgottenShape {
    #[serde(flatten)]
    snapshot: SnapshotShape,
    forgotten: RecordShape,
}

#[derive(Serialize)]
struct RecordShape {
    time: String,
    until: String,
    reason: String,
    by: String,
}

impl Undelete {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        if self.ids.is_empty() {
            return list(context, &repository.forgotten()?);
        }
        let stop = Stop::listen()?;
        let output = &context.output;
        let mut failures = Vec::new();
        for id in &self.ids {
            match repository.undelete(id, &stop) {
                Ok(snapshot) => {
                    let old = snapshot.record().origin.unwrap_or(SnapshotId([0; 16])).short();
                    let new = snapshot.id().short();
                    match output.is_json() {
                        true => output.json(&Changed {
                            message_type: "undeleted",
                            old_snapshot_id: old,
                            new_snapshot_id: new,
                        })?,
                        false => output.line(&format!("{} is back as {}", &old[..8], &new[..8]))?,
                    }
                }
                Err(error) => failures.push((id, error)),
            }
        }
        let count = failures.len();
        match failures.pop() {
            None => Ok(()),
            Some((_, error @ (Error::NoSnapshot { .. } | Error::AmbiguousSnapshot { .. }))) if self.ids.len() == 1 => {
                Err(Failure::with_hint(
                    error.to_string(),
                    "`icecore undelete` without an id lists what can be brought back",
                ))
            }
            Some((_, error)) if self.ids.len() == 1 => Err(Failure::from_verb(error, "nothing was changed")),
            Some(last) => {
                for (id, error) in failures.iter().chain([&last]) {
                    problems::of_named(output, "undelete", id, error);
                }
                Err(Failure::incomplete(format!("{} not brought back", numbers::count(count as u64, "snapshot"))))
            }
        }
    }
}

fn list(context: &Context, forgotten: &[ForgottenSnapshot]) -> Outcome {
    let output = &context.output;
    let ns = |ms: u64| i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1_000_000)).unwrap_or(i64::MAX);
    if output.is_json() {
        let shape = |one: &ForgottenSnapshot| ForgottenShape {
            snapshot: SnapshotShape::from(&one.snapshot),
            forgotten: RecordShape {
                time: time::rfc3339_ns(ns(one.at_ms), 0),
                until: time::rfc3339_ns(ns(one.purge_after_ms), 0),
                reason: one.reason.clone(),
                by: one.by.clone(),
            },
        };
        return output.json(&forgotten.iter().map(shape).collect::<Vec<_>>());
    }
    let mut table = Table::new(vec!["ID", "Time", "Host", "Tags", "Paths", "Forgotten", "Kept until", "Why"], 4);
    for one in forgotten {
        let record = one.snapshot.record();
        let line = |text: &str| vec![names::words(text).into_owned()];
        table.row(vec![
            vec![record.id.short()[..8].to_owned()],
            vec![time::shown(record.start_ns)],
            line(&record.host),
            record.tags.iter().map(|tag| names::words(tag).into_owned()).collect(),
            record.paths.iter().map(|path| names::shown(path).into_owned()).collect(),
            vec![time::shown(ns(one.at_ms))],
            vec![time::shown(ns(one.purge_after_ms))],
            line(&one.reason),
        ]);
    }
    table.foot(format!("Timestamps shown in {}", time::zone_name()));
    table.foot(numbers::count(forgotten.len() as u64, "snapshot"));
    table.print(output)
}
