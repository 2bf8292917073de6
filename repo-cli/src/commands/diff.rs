//! `icecore diff`

use std::ffi::OsString;
use std::ops::ControlFlow;

use clap::Args;
use repo_core::{Change, DiffCounts, DiffReport, Difference, NodeKind, Repository, Snapshot, SnapshotFilter};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;
use crate::json;
use crate::names;
use crate::numbers;
use crate::selection;

/// Show what differs between two snapshots.
///
/// Each entry that differs stands on a line, after what happened to it: + added, - removed, M content changed, U metadata
/// changed (with --metadata), T became something else, ? content changed although size and times did not. Directories end
/// with a slash.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore diff latest~1 latest\n  icecore diff 40dc1520:/etc latest:/etc --metadata\n  icecore diff --json 40dc1520 590c8fc8"))]
pub struct Diff {
    /// The earlier snapshot: latest, latest~N, or the first digits of an id; :PATH is a directory in it
    #[arg(value_name = "ID[:PATH]")]
    before: OsString,

    /// The later one
    #[arg(value_name = "ID[:PATH]")]
    after: OsString,

    /// Also what has the same content and another mode, owner, time or attribute
    #[arg(long)]
    metadata: bool,
}

#[derive(Serialize)]
struct ChangeLine {
    message_type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    modifier: &'static str,
}

#[derive(Serialize)]
struct Statistics {
    message_type: &'static str,
    source_snapshot: String,
    target_snapshot: String,
    changed_files: u64,
    added: Counts,
    removed: Counts,
}

#[derive(Serialize)]
struct Counts {
    files: u64,
    dirs: u64,
    others: u64,
    data_blobs: u64,
    tree_blobs: u64,
    bytes: u64,
}

impl From<&DiffCounts> for Counts {
    fn from(counts: &DiffCounts) -> Self {
        Self {
            files: counts.files,
            dirs: counts.directories,
            others: counts.others,
            data_blobs: counts.data_chunks,
            tree_blobs: counts.tree_chunks,
            bytes: counts.bytes,
        }
    }
}

impl Diff {
    pub fn run(self, context: &Context) -> Outcome {
        let sides = [&self.before, &self.after].map(|argument| selection::split_path(argument));
        let [before, after] = sides;
        let (before, after) = (before?, after?);
        let names = [selection::selector(&before.0)?, selection::selector(&after.0)?];
        let repository = context.open()?;
        let [earlier, later] = names.map(|name| repository.snapshot(&name, &SnapshotFilter::default()));
        let (earlier, later) = (earlier?, later?);
        self.head(context, &earlier, &later)?;
        let report = self.compare(context, &repository, (&earlier, &before.1), (&later, &after.1))?;
        print_sums(context, &report, &earlier, &later)
    }

    fn head(&self, context: &Context, before: &Snapshot, after: &Snapshot) -> Outcome {
        if context.output.is_json() {
            return Ok(());
        }
        let short = |snapshot: &Snapshot| snapshot.id().short()[..8].to_owned();
        context.output.say(1, &format!("comparing snapshot {} to {}:\n", short(before), short(after)))
    }

    fn compare(
        &self,
        context: &Context,
        repository: &Repository,
        before: (&Snapshot, &[u8]),
        after: (&Snapshot, &[u8]),
    ) -> Outcome<DiffReport> {
        let mut result = Ok(());
        let report = repository.diff(before, after, &mut |difference| {
            result = self.print(context, difference);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result.map(|()| report)
    }

    fn print(&self, context: &Context, difference: &Difference<'_>) -> Outcome {
        let modifier = match difference.change {
            Change::Added => "+",
            Change::Removed => "-",
            Change::Kind => "T",
            Change::Content { suspicious: false } => "M",
            Change::Content { suspicious: true } => "?",
            Change::Metadata if self.metadata => "U",
            Change::Metadata => return Ok(()),
        };
        let mut path = difference.path.to_vec();
        let shown = difference.after.or(difference.before);
        if shown.is_some_and(|node| node.metadata.kind == NodeKind::Directory) {
            path.push(b'/');
        }
        let output = &context.output;
        if output.is_json() {
            let (text, exact) = (json::text(&path), json::exact(&path));
            return output.json(&ChangeLine { message_type: "change", path: text, path_base64: exact, modifier });
        }
        let mut line = format!("{modifier}    ").into_bytes();
        match output.out_is_terminal() {
            true => line.extend(names::shown(&path).as_bytes()),
            false => line.extend(path),
        }
        output.bytes(&line)
    }
}

fn print_sums(context: &Context, report: &DiffReport, before: &Snapshot, after: &Snapshot) -> Outcome {
    let DiffReport { changed_files, added, removed, .. } = report;
    if context.output.is_json() {
        return context.output.json(&Statistics {
            message_type: "statistics",
            source_snapshot: before.id().short(),
            target_snapshot: after.id().short(),
            changed_files: *changed_files,
            added: added.into(),
            removed: removed.into(),
        });
    }
    let line = |what: &str, new: u64, gone: u64| format!("{what:<12} {new:>5} new, {gone:>5} removed");
    let lines = [
        String::new(),
        format!("{}, {changed_files:>5} changed", line("Files:", added.files, removed.files)),
        line("Dirs:", added.directories, removed.directories),
        line("Others:", added.others, removed.others),
        line("Data Blobs:", added.data_chunks, removed.data_chunks),
        line("Tree Blobs:", added.tree_chunks, removed.tree_chunks),
        format!("  Added:   {}", numbers::size(added.bytes)),
        format!("  Removed: {}", numbers::size(removed.bytes)),
    ];
    context.output.say(1, &lines.join("\n"))
}
