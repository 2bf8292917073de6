//! `icecore repair snapshots`

use clap::Args;
use repo_core::{RepairSnapshotsOptions, RepairSnapshotsReport, SnapshotFilter};
use serde::Serialize;

use super::{AGAIN, LossShape, program, tell_losses};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};
use crate::selection::selector;

/// Publish snapshots that have lost something again without it
///
/// A file that lost any of its content is left out; a directory keeps those of its entries that can be read. The new snapshot
/// has an id of its own, and the old one stays unless --forget is given. Run `repair packs` first: it finds out what is lost.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only these snapshots: the beginning of an id, or latest
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    /// Say what would be left out
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Forget the snapshots that were replaced; for a week `undelete` brings them back
    #[arg(long)]
    forget: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    snapshots: u64,
    repaired: Vec<RepairedShape>,
    unreadable: Vec<String>,
}

#[derive(Serialize)]
struct RepairedShape {
    snapshot_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement_id: Option<String>,
    forgotten: bool,
    losses: Vec<LossShape>,
    losses_total: u64,
}

impl Snapshots {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let mut options = RepairSnapshotsOptions::new();
        for name in &self.snapshots {
            let snapshot = repository.snapshot(&selector(name)?, &SnapshotFilter::default())?;
            options.snapshots.push(snapshot.id());
        }
        options.dry_run = self.dry_run;
        options.forget = self.forget;
        options.program = program();
        let mut reporter = Reporter::new(&context.output, Task::Repair)?;
        let result = reporter.watch(|reporter| repository.repair_snapshots(&options, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, AGAIN))?;
        tell(context, &report, self.dry_run)?;
        match report.unreadable.len() as u64 {
            0 => Ok(()),
            count => Err(Failure::with_hint(
                format!("{} cannot be read", numbers::count(count, "snapshot")),
                "`icecore repair objects` brings back what has a second copy",
            )),
        }
    }
}

fn tell(context: &Context, report: &RepairSnapshotsReport, dry_run: bool) -> Outcome {
    let output = &context.output;
    let unreadable = report.unreadable.iter().map(|error| names::words(&error.to_string()).into_owned());
    if output.is_json() {
        return output.json(&Summary {
            message_type: "summary",
            dry_run,
            snapshots: report.snapshots,
            repaired: report
                .repaired
                .iter()
                .map(|repaired| RepairedShape {
                    snapshot_id: repaired.snapshot.short(),
                    replacement_id: repaired.replacement.map(|id| id.short()),
                    forgotten: repaired.forgotten,
                    losses: repaired.losses.iter().map(LossShape::from).collect(),
                    losses_total: repaired.loss_count,
                })
                .collect(),
            unreadable: unreadable.collect(),
        });
    }
    for repaired in &report.repaired {
        tell_losses(context, &repaired.losses, repaired.loss_count)?;
        let old = &repaired.snapshot.short()[..8];
        match repaired.replacement {
            Some(new) => {
                let and = if repaired.forgotten { ", and was forgotten" } else { "" };
                output.line(&format!("snapshot {old} is published again as {}{and}", &new.short()[..8]))?;
            }
            None if dry_run => output.line(&format!("snapshot {old} would be published again without that"))?,
            None => output.line(&format!("snapshot {old} was healed meanwhile"))?,
        }
    }
    for error in unreadable {
        output.error_line(&format!("error: {error}"));
    }
    output.line(&format!(
        "looked at {}; {} lost something",
        numbers::count(report.snapshots, "snapshot"),
        report.repaired.len()
    ))
}
