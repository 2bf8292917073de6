//! `icecore copy`

use std::collections::HashMap;

use clap::Args;
use repo_core::{CopyOptions, CopyReport, Repository, Snapshot, SnapshotFilter, SnapshotId};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::others::{Also, From};
use crate::problems;
use crate::progress::{Reporter, Task};
use crate::selection::{self, Filters};
use crate::time;

/// Copy snapshots from another repository into this one.
///
/// Nothing of the two need be the same: what is copied is decrypted, and encrypted for this repository. It is read once, for all
/// targets; what a target has is not copied again, so an interrupted copy goes on when the command is run again.
///
/// Contents stay cut as they are. Only copies share them then: backups made here cut elsewhere. With --rechunk they are cut as
/// backups here are, and shared with these and with copies from other repositories; the price is that a large
/// file that changed at one place is read as a whole.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore copy --repo /second --from-repo /first\n  icecore copy --repo /second --from-repo /first --from-key-file first.key --also /third latest"))]
pub struct Copy {
    /// Which snapshots: ids, their beginnings, latest [default: all]
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    #[command(flatten)]
    from: From,

    #[command(flatten)]
    also: Also,

    /// Cut contents anew, where backups made in the target cut them
    #[arg(long)]
    rechunk: bool,

    /// Read everything, also what an earlier copy has
    #[arg(long)]
    reread: bool,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Serialize)]
struct CopiedLine<'a> {
    message_type: &'static str,
    source_snapshot_id: String,
    snapshot_id: String,
    repository: &'a str,
}

#[derive(Serialize)]
struct DamagedLine {
    message_type: &'static str,
    source_snapshot_id: String,
    problems: u64,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    targets: Vec<TargetShape<'a>>,
    damaged: usize,
    chunks_read: u64,
    bytes_read: u64,
    total_duration: f64,
}

#[derive(Serialize)]
struct TargetShape<'a> {
    repository: &'a str,
    id: String,
    copied: usize,
    present: usize,
    data_added: u64,
    data_added_packed: u64,
}

impl Copy {
    pub fn run(self, context: &Context) -> Outcome {
        let source = self.from.open(context)?;
        let mut targets = vec![context.open_aloud()?];
        targets.extend(self.also.open(context)?);
        let (snapshots, unreadable) = self.select(&source)?;
        let mut options = CopyOptions::new();
        options.rechunk = self.rechunk;
        options.reread = self.reread;
        options.verify = !context.global.no_extra_verify;
        options.level = context.global.compression.level();
        let mut reporter = Reporter::new(&context.output, Task::Copy)?;
        let opened: Vec<&Repository> = targets.iter().collect();
        let result = reporter.watch(|reporter| source.copy_to(&opened, &snapshots, &options, reporter));
        let report = result.map_err(|error| {
            Failure::from_verb(error, "what was copied stays, and the same command goes on from there")
        })?;
        problems::unreadable(&context.output, "copy", &unreadable);
        print(context, &reporter, &targets, &snapshots, &report)?;
        match report.damaged.len() + unreadable.len() {
            0 => Ok(()),
            count => Err(Failure::Incomplete {
                message: format!(
                    "{} of the source could not be read in full, and {} not copied",
                    numbers::count(count as u64, "snapshot"),
                    if count == 1 { "was" } else { "were" }
                ),
                hint: Some("`icecore check --read-data` on the source names what is damaged".to_owned()),
            }),
        }
    }

    fn select(&self, source: &Repository) -> Outcome<(Vec<Snapshot>, Vec<repo_core::Error>)> {
        let filter = self.filters.filter()?;
        if self.ids.is_empty() {
            let list = source.snapshots(&filter)?;
            return Ok((list.snapshots, list.unreadable));
        }
        let mut snapshots = Vec::new();
        for id in &self.ids {
            let selector = selection::selector(id)?;
            let is_id = matches!(selector, repo_core::Selector::Id(_));
            if is_id && self.filters.are_given() {
                return Err(Failure::told("--host, --tag and --path choose among many; ids are given already"));
            }
            let filter = if is_id { &SnapshotFilter::default() } else { &filter };
            snapshots.push(source.snapshot(&selector, filter)?);
        }
        Ok((snapshots, Vec::new()))
    }
}

fn print(
    context: &Context,
    reporter: &Reporter<'_>,
    targets: &[Repository],
    snapshots: &[Snapshot],
    report: &CopyReport,
) -> Outcome {
    let output = &context.output;
    let places: Vec<String> = targets.iter().map(|target| target.backend().place()).collect();
    let short = |id: SnapshotId| id.short()[..8].to_owned();
    if output.is_json() {
        for (target, place) in report.targets.iter().zip(&places) {
            let line = |message_type, source: Option<SnapshotId>, copy: SnapshotId| {
                let source_snapshot_id = source.map_or_else(String::new, |id| id.short());
                output.json(&CopiedLine {
                    message_type,
                    source_snapshot_id,
                    snapshot_id: copy.short(),
                    repository: place,
                })
            };
            for present in &target.present {
                line("present", Some(present.source), present.copy)?;
            }
            for copy in &target.copied {
                line("copied", copy.record().origin, copy.id())?;
            }
        }
        for damaged in &report.damaged {
            let source_snapshot_id = damaged.snapshot.short();
            output.json(&DamagedLine { message_type: "damaged", source_snapshot_id, problems: damaged.problems })?;
        }
        let shapes = report.targets.iter().zip(&places).map(|(target, place)| TargetShape {
            repository: place,
            id: target.repository.to_string(),
            copied: target.copied.len(),
            present: target.present.len(),
            data_added: target.added_bytes,
            data_added_packed: target.stored_bytes,
        });
        return output.json(&SummaryLine {
            message_type: "summary",
            targets: shapes.collect(),
            damaged: report.damaged.len(),
            chunks_read: report.read_chunks,
            bytes_read: report.read_bytes,
            total_duration: reporter.elapsed().as_secs_f64(),
        });
    }
    let known: HashMap<SnapshotId, &Snapshot> = snapshots.iter().map(|snapshot| (snapshot.id(), snapshot)).collect();
    for (target, place) in report.targets.iter().zip(&places) {
        if targets.len() > 1 {
            output.line(&format!("to {}:", names::words(place)))?;
        }
        for present in &target.present {
            output
                .say(2, &format!("snapshot {} is there already, as {}", short(present.source), short(present.copy)))?;
        }
        for copy in &target.copied {
            let Some(source) = copy.record().origin.and_then(|id| known.get(&id)) else { continue };
            let record = source.record();
            let paths: Vec<_> = record.paths.iter().map(|path| names::shown(path)).collect();
            output.line(&format!(
                "snapshot {} of [{}] at {} by {}@{}",
                short(source.id()),
                paths.join(", "),
                time::shown(record.start_ns),
                names::words(&record.user),
                names::words(&record.host),
            ))?;
            output.line(&format!("snapshot {} saved, a copy of {}", short(copy.id()), short(source.id())))?;
        }
        output.say(
            1,
            &format!(
                "copied {}, {} there already; added {} ({} stored)",
                numbers::count(target.copied.len() as u64, "snapshot"),
                target.present.len(),
                numbers::size(target.added_bytes),
                numbers::size(target.stored_bytes)
            ),
        )?;
    }
    for damaged in &report.damaged {
        output.error_line(&format!(
            "error: snapshot {} was not copied: {} of it cannot be read",
            short(damaged.snapshot),
            numbers::count(damaged.problems, "entry")
        ));
    }
    output.say(1, &format!("read {} in {}", numbers::size(report.read_bytes), numbers::duration(reporter.elapsed())))
}
