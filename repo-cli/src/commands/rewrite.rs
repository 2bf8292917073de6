//! `icecore rewrite`

use clap::Args;
use repo_core::{RewriteOptions, RewriteReport, RewrittenSnapshot};
use serde::Serialize;

use super::{forget, init};
use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Stop;
use crate::numbers;
use crate::output::Output;
use crate::patterns::{Excludes, Includes};
use crate::problems;
use crate::selection::{self, Filters};
use crate::time;

/// How long what was forgotten can be brought back: as long as with `forget`.
const UNDELETE_WITHIN: &str = "7d";

/// Leave paths out of snapshots that are there already, or correct their host and time.
///
/// Each snapshot that differs is published again under a new id, and `cat snapshot` shows the old one as `original`. The old one
/// stays, and the new one gets the tag `rewrite`, unless --forget is given. Contents are not read. Pinned snapshots are never
/// forgotten. What was left out keeps its room until no snapshot has it, and the repository was pruned.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore rewrite --exclude /home/me/secret --forget\n  icecore rewrite --new-host laptop --host old-laptop --dry-run"))]
pub struct Rewrite {
    /// Only these: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    #[command(flatten)]
    excludes: Excludes,

    #[command(flatten)]
    includes: Includes,

    /// Say that they are of this host
    #[arg(long, value_name = "HOST")]
    new_host: Option<String>,

    /// Say that they were begun at this time: 2026-11-20 or "2026-11-20 12:00"
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    new_time: Option<i64>,

    /// Count files and bytes of each snapshot anew
    #[arg(short, long)]
    snapshot_summary: bool,

    /// Forget the snapshots that were replaced
    #[arg(long)]
    forget: bool,

    /// With --forget: how long `icecore undelete` can bring back what lost paths (7d, 36h); 0: not after the next prune
    #[arg(long, value_name = "DURATION", default_value = UNDELETE_WITHIN, value_parser = forget::parse_time_span)]
    undelete_within: u64,

    /// Say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Serialize)]
struct Changed {
    message_type: &'static str,
    old_snapshot_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_snapshot_id: Option<String>,
    removed_files: u64,
    removed_entries: u64,
    removed_bytes: u64,
    was_there: bool,
    forgotten: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    snapshots: u64,
    changed_snapshots: usize,
    emptied_snapshots: Vec<String>,
    failed_snapshots: usize,
}

impl Rewrite {
    /// Without --forget it adds to the repository, and no more.
    pub fn maintenance(&self) -> Option<&'static str> {
        self.forget.then_some("rewrite --forget")
    }

    pub fn run(self, context: &Context) -> Outcome {
        let options = self.options()?;
        let repository = context.open()?;
        let list = selection::chosen(&repository, &self.ids, &self.filters)?;
        let stop = Stop::listen()?;
        let report = repository
            .rewrite(&list.snapshots, &options, &stop)
            .map_err(|error| Failure::from_verb(error, "each snapshot is there as it was, or rewritten"))?;
        let output = &context.output;
        self.print(output, &report)?;
        for (id, error) in &report.failed {
            problems::of_snapshot(output, "rewrite", *id, error);
        }
        problems::unreadable(output, "rewrite", &list.unreadable);
        match report.failed.len() + report.emptied.len() + list.unreadable.len() {
            0 => Ok(()),
            count => Err(Failure::incomplete(super::tag::left_alone(count))),
        }
    }

    fn options(&self) -> Outcome<RewriteOptions> {
        let (exclude, exclude_texts) = self.excludes.read()?;
        let (include, _) = self.includes.read()?;
        let has_patterns = !exclude.is_empty() || !include.is_empty();
        if !exclude.is_empty() && !include.is_empty() {
            return Err(Failure::told("--exclude and --include cannot be used together"));
        }
        if !has_patterns && self.new_host.is_none() && self.new_time.is_none() && !self.snapshot_summary {
            return Err(Failure::with_hint(
                "nothing is to be changed",
                "use --exclude, --include, --new-host, --new-time or --snapshot-summary",
            ));
        }
        let mut options = RewriteOptions::new().exclude(exclude).include(include).window_ms(self.undelete_within);
        options.exclude_texts = exclude_texts;
        options.host.clone_from(&self.new_host);
        options.time_ns = self.new_time;
        options.recount = self.snapshot_summary;
        if !self.forget {
            options.tags = vec!["rewrite".to_owned()];
        }
        (options.forget, options.dry_run, options.by) = (self.forget, self.dry_run, init::default_label());
        Ok(options)
    }

    fn print(&self, output: &Output, report: &RewriteReport) -> Outcome {
        if output.is_json() {
            for one in &report.rewritten {
                output.json(&changed(one))?;
            }
            return output.json(&Summary {
                message_type: "summary",
                dry_run: self.dry_run,
                snapshots: report.snapshots,
                changed_snapshots: report.rewritten.len(),
                emptied_snapshots: report.emptied.iter().map(|id| id.short()).collect(),
                failed_snapshots: report.failed.len(),
            });
        }
        for one in &report.rewritten {
            output.say(1, &self.line(one))?;
        }
        for id in &report.emptied {
            let short = &id.short()[..8];
            output.error_line(&format!(
                "note: nothing would be left of {short}, so it stays as it is; `icecore forget` removes it"
            ));
        }
        // One that was rewritten before, and is not forgotten now either, is as it was.
        let modified = report.rewritten.iter().filter(|one| !one.was_there || one.forgotten).count();
        let count = numbers::count(modified as u64, "snapshot");
        match (modified == 0, self.dry_run) {
            (true, _) => output.say(1, "no snapshots were modified"),
            (_, true) => output.say(1, &format!("would modify {count}; nothing was changed")),
            (_, false) => {
                output.say(1, &format!("modified {count}"))?;
                self.say_next(output)
            }
        }
    }

    /// Whoever wants something gone must know that it is there still.
    fn say_next(&self, output: &Output) -> Outcome {
        match (self.forget, self.undelete_within) {
            (false, _) => output.say(2, "the snapshots that were replaced are there still; --forget forgets them"),
            (true, 0) => output.say(1, "the next `icecore prune` takes what was left out"),
            (true, _) => output.say(1, "`icecore undelete` brings the old ones back, until they are pruned"),
        }
    }

    fn line(&self, one: &RewrittenSnapshot) -> String {
        let old = &one.snapshot.short()[..8];
        let mut line = match &one.replacement {
            None if one.was_there => format!("{old} was rewritten before"),
            None => format!("{old} would be rewritten"),
            Some(new) if one.was_there => format!("{old} is {} already", &new.id().short()[..8]),
            Some(new) => format!("{old} is now {}", &new.id().short()[..8]),
        };
        if one.removed_entries > 0 {
            let (entries, bytes) = (numbers::count(one.removed_entries, "entry"), numbers::size(one.removed_bytes));
            line += &format!(", without {entries} ({}, {bytes})", numbers::count(one.removed_files, "file"));
        }
        line
    }
}

fn changed(one: &RewrittenSnapshot) -> Changed {
    Changed {
        message_type: "changed",
        old_snapshot_id: one.snapshot.short(),
        new_snapshot_id: one.replacement.as_ref().map(|new| new.id().short()),
        removed_files: one.removed_files,
        removed_entries: one.removed_entries,
        removed_bytes: one.removed_bytes,
        was_there: one.was_there,
        forgotten: one.forgotten,
    }
}
