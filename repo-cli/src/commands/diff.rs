//! `icecore diff`

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::path::{self, Component, Path, PathBuf};

use clap::Args;
use repo_core::{
    BackupOptions, Change, DiffCounts, DiffReport, Difference, Error, LocalTree, LocalTreeOptions, Mode, NodeKind,
    Repository, Snapshot, SnapshotFilter,
};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::json;
use crate::names;
use crate::numbers;
use crate::patterns::Excludes;
use crate::progress::{Reporter, Task};
use crate::selection;

/// Show what differs between two snapshots, or a snapshot and a directory of this machine.
///
/// Each entry that differs stands on a line, after what happened to it: + added, - removed, M content changed, U metadata
/// changed (with --metadata), T became something else, ? content changed although size and times did not. Directories end
/// with a slash.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore diff latest~1 latest\n  icecore diff 40dc1520:/etc latest:/etc --metadata\n  icecore diff latest /etc\n  icecore diff latest:/home/ann /mnt/restored/home/ann --force"))]
pub struct Diff {
    /// The earlier snapshot: latest, latest~N, or the first digits of an id; :PATH is a directory in it
    #[arg(value_name = "ID[:PATH]")]
    before: OsString,

    /// The later one; or a directory as it is now, which begins with / or . and is held against its own path in the snapshot
    /// unless :PATH says another
    #[arg(value_name = "ID[:PATH]|DIRECTORY")]
    after: OsString,

    /// Also what has the same content and another mode, owner, time or attribute
    #[arg(long)]
    metadata: bool,

    /// Of a directory: read also the files whose size, times and inode number are those in the snapshot
    #[arg(short, long)]
    force: bool,

    /// Of a directory: compare without inode numbers and change times before reading
    #[arg(long)]
    ignore_inode: bool,

    /// Beside what the snapshot was made without, which a directory is read without too
    #[command(flatten)]
    excludes: Excludes,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    target_snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_directory: Option<String>,
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

/// What the later side is.
enum After<'a> {
    Snapshot(&'a Snapshot),
    Directory(&'a Path),
}

impl Diff {
    pub fn run(self, context: &Context) -> Outcome {
        let (name, path) = selection::split_path(&self.before)?;
        let selector = selection::selector(&name)?;
        match directory(&self.after)? {
            Some(directory) => {
                let repository = context.open()?;
                let before = repository.snapshot(&selector, &SnapshotFilter::default())?;
                self.with_directory(context, &repository, (&before, path), &directory)
            }
            None => {
                self.refuse_flags_of_directories()?;
                let (later_name, later_path) = selection::split_path(&self.after)?;
                let later = selection::selector(&later_name)?;
                let repository = context.open()?;
                let [before, after] =
                    [selector, later].map(|name| repository.snapshot(&name, &SnapshotFilter::default()));
                let (before, after) = (before?, after?);
                let later = After::Snapshot(&after);
                self.head(context, &before, &later)?;
                let mut result = Ok(());
                let report = repository.diff((&before, &path), (&after, &later_path), &mut |difference| {
                    self.pass_on(context, difference, &mut result)
                })?;
                result?;
                print_sums(context, &report, &before, &later)
            }
        }
    }

    fn refuse_flags_of_directories(&self) -> Outcome {
        let Excludes { exclude, iexclude, exclude_file, iexclude_file } = &self.excludes;
        let patterns = [exclude, iexclude].iter().any(|list| !list.is_empty());
        let files = [exclude_file, iexclude_file].iter().any(|list| !list.is_empty());
        match patterns || files || self.force || self.ignore_inode {
            true => Err(Failure::with_hint(
                "--force, --ignore-inode and what is left out concern a directory, and two snapshots are compared",
                "a directory begins with / or .",
            )),
            false => Ok(()),
        }
    }

    fn with_directory(
        &self,
        context: &Context,
        repository: &Repository,
        (before, mut path): (&Snapshot, Vec<u8>),
        directory: &Path,
    ) -> Outcome {
        let there = directory.as_os_str().as_encoded_bytes();
        let is_own = path.is_empty();
        if is_own {
            path = there.to_vec();
        }
        let (mut excludes, _) = self.excludes.read()?;
        for pattern in &before.record().excludes {
            excludes.add(pattern, false).map_err(|bad| Failure::told(bad.to_string()))?;
        }
        let mut tree = LocalTreeOptions::new();
        tree.excludes = excludes;
        tree.leave_out = vec![context.place()?];
        let source = LocalTree::new(&[directory.to_owned()], tree)?;
        let mut options = BackupOptions::new();
        options.mode = if self.force { Mode::Full } else { Mode::Parent(before.id()) };
        // What is sealed here is opened by the comparison alone.
        options = options.without_verification().level(0);
        (options.ignore_inode, options.ignore_ctime) = (self.ignore_inode, self.ignore_inode);
        let later = After::Directory(directory);
        self.head(context, before, &later)?;
        let mut result = Ok(());
        // Before everything is read.
        repository.list(before, &path, false, &mut |_, _| ControlFlow::Break(())).map_err(|error| match error {
            // A path that was given to `backup` as a relative one is shorter in the snapshot.
            Error::Path { .. } if is_own => Failure::with_hint(
                error.to_string(),
                "write ID:PATH, with the directory's path in the snapshot, as `icecore ls ID` shows it",
            ),
            error => error.into(),
        })?;
        let mut reporter = Reporter::new(&context.output, Task::Compare)?;
        let draft = repository.draft();
        let now = reporter.watch(|reporter| draft.backup(&source, &options, reporter))?;
        let Some(snapshot) = &now.snapshot else { return Err(Failure::told("nothing could be compared")) };
        let report = draft.diff((before, &path), (snapshot, there), &mut |difference| {
            self.pass_on(context, difference, &mut result)
        })?;
        result?;
        print_sums(context, &report, before, &later)?;
        match now.summary.problems {
            0 => Ok(()),
            problems => {
                let entries = numbers::count(problems, "entry");
                Err(Failure::incomplete(format!(
                    "{entries} could not be read in full: what is missing counts as removed"
                )))
            }
        }
    }

    fn head(&self, context: &Context, before: &Snapshot, after: &After<'_>) -> Outcome {
        if context.output.is_json() {
            return Ok(());
        }
        let short = |snapshot: &Snapshot| snapshot.id().short()[..8].to_owned();
        let after = match after {
            After::Snapshot(snapshot) => short(snapshot),
            After::Directory(directory) => names::path(directory).to_string(),
        };
        context.output.say(1, &format!("comparing snapshot {} to {after}:\n", short(before)))
    }

    fn pass_on(&self, context: &Context, difference: &Difference<'_>, result: &mut Outcome) -> ControlFlow<()> {
        *result = self.print(context, difference);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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

/// The directory of this machine that an argument names, absolute; `None`: it names a snapshot.
fn directory(argument: &OsStr) -> Outcome<Option<PathBuf>> {
    if !matches!(argument.as_encoded_bytes().first(), Some(b'/' | b'.')) {
        return Ok(None);
    }
    let path = Path::new(argument);
    let named = |error| Failure::told(format!("{}: {error}", names::path(path)));
    let steps_up = path.components().any(|component| component == Component::ParentDir);
    let path = if steps_up { path.canonicalize() } else { path::absolute(path) }.map_err(named)?;
    match path.metadata().map_err(named)?.is_dir() {
        true => Ok(Some(path.components().collect())),
        false => Err(Failure::told(format!("{} is no directory", names::path(&path)))),
    }
}

fn print_sums(context: &Context, report: &DiffReport, before: &Snapshot, after: &After<'_>) -> Outcome {
    let DiffReport { changed_files, added, removed, .. } = report;
    if context.output.is_json() {
        let (target_snapshot, target_directory) = match after {
            After::Snapshot(snapshot) => (Some(snapshot.id().short()), None),
            After::Directory(path) => (None, Some(json::text(path.as_os_str().as_encoded_bytes()))),
        };
        return context.output.json(&Statistics {
            message_type: "statistics",
            source_snapshot: before.id().short(),
            target_snapshot,
            target_directory,
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
