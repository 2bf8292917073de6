//! `icecore restore`

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use repo_core::{Event, Overwrite, Owner, Patterns, Progress, RestoreOptions, RestoreReport, system};
use serde::Serialize;
use serde_json::json;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::patterns::{Excludes, Includes};
use crate::progress::{Reporter, Task};
use crate::selection::{self, At, Filters};
use crate::time;

/// Bring files and directories of a snapshot back.
///
/// In an existing target only what differs is written, block by block. Nothing is ever written outside the target.
/// What cannot be restored in full is named, and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore restore latest --target /tmp/back\n  icecore restore latest:/home/me --target /tmp/me --include '*.txt'\n  icecore restore --at '2026-11-20 12:00' --target /tmp/then"))]
pub struct Restore {
    /// The snapshot: latest, latest~N, or the first digits of an id; :PATH restores what is below that path
    #[arg(value_name = "ID[:PATH]", required_unless_present = "at")]
    snapshot: Option<OsString>,

    /// Where to restore to; made if need be
    #[arg(short, long, value_name = "DIRECTORY")]
    target: PathBuf,

    /// What happens to files that are there already
    #[arg(long, value_name = "WHEN", value_enum, default_value = "always")]
    overwrite: When,

    /// Remove what the snapshot has not, within the directories restored
    #[arg(long)]
    delete: bool,

    /// Say what would be done, write nothing
    #[arg(long)]
    dry_run: bool,

    /// Read everything again afterwards and compare
    #[arg(long)]
    verify: bool,

    /// Write long runs of zeros as holes
    #[arg(long)]
    sparse: bool,

    /// Leave owners and groups as they come
    #[arg(long)]
    no_ownership: bool,

    /// Restore no extended attributes and no ACLs
    #[arg(long)]
    no_xattr: bool,

    /// Restore no extended attribute whose name matches, such as 'security.*'; may be repeated
    #[arg(long, value_name = "PATTERN", conflicts_with = "include_xattr")]
    exclude_xattr: Vec<String>,

    /// Restore only extended attributes (ACLs among them) whose name matches, such as 'user.*'; may be repeated
    #[arg(long, value_name = "PATTERN", conflicts_with = "no_xattr")]
    include_xattr: Vec<String>,

    /// Restore no devices, fifos and sockets
    #[arg(long)]
    no_special: bool,

    /// Find owners and groups by their names where this machine knows them
    #[arg(long, conflicts_with = "no_ownership")]
    ownership_by_name: bool,

    /// Set owners and groups by number, as is done unless --ownership-by-name says otherwise
    #[arg(long, conflicts_with = "ownership_by_name", alias = "numeric-ids", alias = "numeric-owner")]
    numeric_owners: bool,

    /// What belonged to FROM (a number, or a name as recorded) becomes TO's (a number, or a name of this machine); may be repeated
    #[arg(long, value_name = "FROM:TO", conflicts_with = "no_ownership", value_delimiter = ',')]
    map_user: Vec<String>,

    /// The same for groups
    #[arg(long, value_name = "FROM:TO", conflicts_with = "no_ownership", value_delimiter = ',')]
    map_group: Vec<String>,

    /// Give each file its name when it is whole: who reads the target meanwhile sees the old file or the new
    #[arg(long)]
    atomic: bool,

    /// Go on with a restore that was cut off, or refresh: files of the same size and time are not read (--overwrite if-changed)
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,

    /// A mirror of the repository (`icecore mirror`), read where the repository itself is damaged or does not answer
    #[arg(long, value_name = "DIRECTORY")]
    mirror: Option<PathBuf>,

    #[command(flatten)]
    excludes: Excludes,

    #[command(flatten)]
    includes: Includes,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

/// restic's words for it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// They become as in the snapshot
    Always,
    /// Only if size or time differ
    IfChanged,
    /// Only if they are older
    IfNewer,
    /// They stay
    Never,
}

impl Restore {
    pub fn run(self, context: &Context) -> Outcome {
        let (name, subpath) = selection::split_path(self.snapshot.as_deref().unwrap_or_default())?;
        let options = self.options(subpath)?;
        self.check_target(&context.place()?)?;
        let (repository, mirrored) = match &self.mirror {
            Some(mirror) => context.open_mirrored(mirror).map(|(repository, mirrored)| (repository, Some(mirrored)))?,
            None => (context.open_aloud()?, None),
        };
        let snapshot = selection::select(context, &repository, &name, &self.at, &self.filters)?;
        self.announce(context, &snapshot)?;
        let mut reporter = Reporter::new(&context.output, Task::Restore)?;
        let result = reporter.watch(|reporter| repository.restore(&snapshot, &self.target, &options, reporter));
        let report = result.map_err(|error| {
            Failure::from_verb(error, "what was restored so far is in the target; the same command goes on from there")
        })?;
        self.print(context, &reporter, &report)?;
        if let Some(taken) = mirrored.map(|mirrored| mirrored.taken_from_mirror()).filter(|taken| *taken > 0) {
            reporter.report(Event::Note {
                message: &format!(
                    "{} came from the mirror, since the repository could not give them; `icecore repair packs --from DIRECTORY` mends it",
                    numbers::count(taken, "read")
                ),
            });
        }
        if report.total_files == 0 && report.problems == 0 && !options.include.is_empty() {
            // Said even with --quiet: a script that mistyped a pattern would take nothing for everything.
            let message = "--include let nothing in: nothing was restored";
            match context.output.is_json() {
                true => context.output.error_json(&json!({ "message_type": "note", "message": message })),
                false => context.output.error_line(&format!(
                    "warning: {message}; `icecore ls ID` shows the names, and a pattern that begins with / is a whole path"
                )),
            }
        }
        match report.problems {
            0 => Ok(()),
            problems => {
                let message = format!(
                    "{} met in restoring, each kind named above; the rest is restored",
                    numbers::count(problems, "problem")
                );
                // What such a user meets on every restore of what others own.
                let hint = (report.unowned_files > 0).then(|| {
                    "only root can give files to others; --no-ownership leaves owners as they come, and is then no problem".to_owned()
                });
                Err(Failure::Incomplete { message, hint })
            }
        }
    }

    fn options(&self, subpath: Vec<u8>) -> Outcome<RestoreOptions> {
        let mut options = RestoreOptions::default();
        options.subpath = subpath;
        options.overwrite = match self.overwrite {
            _ if self.resume => Overwrite::IfChanged,
            When::Always => Overwrite::Always,
            When::IfChanged => Overwrite::IfChanged,
            When::IfNewer => Overwrite::IfNewer,
            When::Never => Overwrite::Never,
        };
        options.include = self.includes.read()?.0;
        options.exclude = self.excludes.read()?.0;
        if !options.include.is_empty() && !options.exclude.is_empty() {
            return Err(Failure::told("--include and --exclude cannot be used together"));
        }
        options.delete = self.delete;
        options.dry_run = self.dry_run;
        options.verify = self.verify;
        options.sparse = self.sparse;
        options.no_ownership = self.no_ownership;
        options.no_xattrs = self.no_xattr;
        options.exclude_xattrs = attribute_patterns(&self.exclude_xattr)?;
        options.include_xattrs = attribute_patterns(&self.include_xattr)?;
        options.no_special = self.no_special;
        options.ownership_by_name = self.ownership_by_name;
        let names = system::Names::new();
        options.map_users = owner_pairs(&self.map_user, "user", &|name| names.user_id(name))?;
        options.map_groups = owner_pairs(&self.map_group, "group", &|name| names.group_id(name))?;
        options.atomic = self.atomic;
        Ok(options)
    }

    /// A restore must not write into the repository that it reads.
    fn check_target(&self, place: &Path) -> Outcome {
        let real = |path: &Path| fs::canonicalize(path).ok();
        // The target may not exist yet: then its nearest directory that does.
        let absolute = std::path::absolute(&self.target).unwrap_or_else(|_| self.target.clone());
        let target = absolute.ancestors().find_map(real);
        match (target, real(place)) {
            (Some(target), Some(place)) if target.starts_with(&place) => Err(Failure::with_hint(
                format!("the target {} is inside the repository", names::path(&self.target)),
                "choose another directory",
            )),
            _ => Ok(()),
        }
    }

    fn announce(&self, context: &Context, snapshot: &repo_core::Snapshot) -> Outcome {
        let record = snapshot.record();
        let paths: Vec<_> = record.paths.iter().map(|path| names::shown(path)).collect();
        let text = format!(
            "{} snapshot {} of [{}] at {} to {}",
            if self.dry_run { "would restore" } else { "restoring" },
            &record.id.short()[..8],
            paths.join(" "),
            time::shown(record.start_ns),
            names::path(&self.target)
        );
        context.output.say(1, &text)
    }

    fn print(&self, context: &Context, reporter: &Reporter, report: &RestoreReport) -> Outcome {
        let output = &context.output;
        if output.is_json() {
            return output.json(&SummaryLine {
                message_type: "summary",
                dry_run: self.dry_run,
                seconds_elapsed: reporter.elapsed().as_secs(),
                total_files: report.total_files,
                files_restored: report.restored_files,
                files_skipped: report.skipped_files,
                files_deleted: report.deleted_files,
                total_bytes: report.total_bytes,
                bytes_restored: report.restored_bytes,
                bytes_skipped: report.skipped_bytes,
            });
        }
        let mut line = format!(
            "Summary: {} {} ({}) in {}",
            if self.dry_run { "Would restore" } else { "Restored" },
            match report.restored_files {
                1 => "1 file/dir".to_owned(),
                count => format!("{count} files/dirs"),
            },
            numbers::size(report.restored_bytes),
            numbers::duration(reporter.elapsed())
        );
        if report.skipped_files > 0 {
            line += &format!(", skipped {} ({})", report.skipped_files, numbers::size(report.skipped_bytes));
        }
        if report.deleted_files > 0 {
            line += &format!(", deleted {}", report.deleted_files);
        }
        output.line(&line)?;
        if self.verify && !self.dry_run {
            output.line(&format!("verified {}", numbers::count(report.verified_files, "entry")))?;
        }
        Ok(())
    }
}

/// Patterns of attributes' names.
fn attribute_patterns(texts: &[String]) -> Outcome<Patterns> {
    let mut patterns = Patterns::new();
    for text in texts {
        patterns.add(text, false).map_err(|bad| Failure::told(bad.to_string()))?;
    }
    Ok(patterns)
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    seconds_elapsed: u64,
    total_files: u64,
    files_restored: u64,
    files_skipped: u64,
    files_deleted: u64,
    total_bytes: u64,
    bytes_restored: u64,
    bytes_skipped: u64,
}

/// `FROM:TO` as the library takes it.
fn owner_pairs(pairs: &[String], what: &str, known: &dyn Fn(&str) -> Option<u32>) -> Outcome<Vec<(Owner, u32)>> {
    let bad = |pair: &str| {
        Failure::with_hint(
            format!("--map-{what} {}: not FROM:TO", names::words(pair)),
            format!("write numbers or names, such as --map-{what} 1000:1001 or --map-{what} ann:bob"),
        )
    };
    let pair = |pair: &String| {
        let (from, to) =
            pair.split_once(':').filter(|(from, to)| !from.is_empty() && !to.is_empty()).ok_or_else(|| bad(pair))?;
        let from = from.parse().map_or_else(|_| Owner::Name(from.as_bytes().to_vec()), Owner::Id);
        let to = to.parse().ok().or_else(|| known(to));
        let to = to.ok_or_else(|| {
            Failure::told(format!("--map-{what} {}: this machine has no such {what}", names::words(pair)))
        })?;
        Ok((from, to))
    };
    pairs.iter().map(pair).collect()
}
