//! `icecore backup`

mod outputs;
mod partial;
mod tree;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use repo_core::{
    Alike, BackupOptions, BackupReport, Error, InitOptions, LocalTree, LocalTreeOptions, Mode, Patterns, ReaderSource,
    Repository, SnapshotFilter, Source, TarSource, system,
};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::grouping::{Grouping, parse_grouping};
use crate::json::Counters;
use crate::numbers;
use crate::patterns::Excludes;
use crate::progress::{Reporter, Task};
use crate::secrets::NewSecret;
use crate::selection;
use crate::sources::{self, ListFormat, Stream, StreamProblem};
use crate::time;

use super::init;
use outputs::Outputs;
use partial::KeepPartial;
use tree::TreeFlags;

/// Store files and directories as a new snapshot.
///
/// What is stored already, under whatever name, is not stored again. Files that did not change since the last
/// snapshot of the same host and paths are not read again, unless --full is given; nor are those in a directory that
/// was moved, which count as new. What cannot be read is named and left out, the rest is stored, and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore backup /home /etc --exclude '*.tmp' --one-file-system\n  icecore backup --stdin-filename db.sql --stdin-from-command -- pg_dump mydb\n  icecore backup --command 'db.sql=pg_dump mydb' --command 'globals.sql=pg_dumpall -g' /etc/postgresql\n  icecore backup --from-tar old.tar.gz --as-path /srv/www --time 2019-05-04\n  icecore backup --as-path /srv/www /mnt/volume-snapshot/www\n  icecore backup --from-tar - --as-path /pg --stdin-from-command -- pg_basebackup -D - -Ft -X none"))]
pub struct Backup {
    /// What to store; after --stdin-from-command: the command and its arguments
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// File of further paths, one a line, with wildcards and comments; - is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,

    /// The same, each line a path as it stands
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,

    /// The same, each path ended by a NUL
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,

    /// Store standard input as a file
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from_verbatim", "files_from_raw"])]
    stdin: bool,

    /// The name of that file
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: PathBuf,

    /// Store what a command prints; if it fails, nothing is published
    #[arg(long, conflicts_with_all = ["stdin", "files_from", "files_from_verbatim", "files_from_raw"], requires = "paths")]
    stdin_from_command: bool,

    #[command(flatten)]
    outputs: Outputs,

    /// Store what is in a tar archive, plain or compressed by gzip or zstd, as if it were a directory; - is standard input
    ///
    /// What breaks off, or would lead out of the directory when it is restored, is refused, and no snapshot is made.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "files_from", "files_from_verbatim", "files_from_raw", "stdin", "stdin_filename", "exclude_if_present",
        "exclude_caches", "exclude_larger_than", "one_file_system", "ignore_file", "git_ignore", "read_devices",
    ])]
    from_tar: Option<PathBuf>,

    /// Store the one path given as if it lay here; of an archive: the directory it is put into [default: /]
    ///
    /// For a snapshot of a volume that is mounted elsewhere: the backup belongs with those of this path, and is compared
    /// with them. --exclude is held against paths as they are stored. Directories on the way are those that this
    /// machine has there, or made up.
    #[arg(long, value_name = "PATH")]
    as_path: Option<PathBuf>,

    /// Take absolute paths in the archive for relative ones, instead of refusing them
    #[arg(long, requires = "from_tar")]
    strip_leading_slash: bool,

    /// Read everything again, as if there were no snapshot yet
    #[arg(long, visible_alias = "force", short = 'f', group = "mode")]
    full: bool,

    /// Compare with the newest snapshot of the same host and paths (the default)
    #[arg(long, group = "mode")]
    incremental: bool,

    /// Compare with the last full one instead
    #[arg(long, group = "mode")]
    differential: bool,

    /// Compare with this snapshot instead
    #[arg(long, value_name = "ID", group = "mode")]
    parent: Option<String>,

    /// Compare with the newest snapshot, of any source, that has this in common: host,paths,tags, or some of these, or ''
    #[arg(short, long, value_name = "WHAT", value_parser = parse_grouping)]
    group_by: Option<Grouping>,

    /// Tags of the snapshot: a,b; may be repeated
    #[arg(long, value_name = "TAGS")]
    tag: Vec<String>,

    /// The host that is recorded [default: this one's name]
    #[arg(short = 'H', long, env = "ICECORE_HOST", hide_env_values = true)]
    host: Option<String>,

    /// The time that is recorded: 2026-11-20 (its start), "2026-11-20 12:00", or with an offset [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    time: Option<i64>,

    /// Record access times too
    #[arg(long)]
    with_atime: bool,

    /// Take a file with another inode number and change time as unchanged, if all else is as it was
    ///
    /// For file systems that make these up, as some behind FUSE do. A file that was replaced by another of the same size
    /// and modification time is then not noticed, until --full.
    #[arg(long, env = "ICECORE_IGNORE_INODE", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    ignore_inode: bool,

    /// Take a file with another change time as unchanged, if all else is as it was
    ///
    /// What changes a file and sets its modification time back is then not noticed, until --full: the change time is the
    /// only one that programs cannot set.
    #[arg(long, env = "ICECORE_IGNORE_CTIME", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    ignore_ctime: bool,

    /// Small files (up to 1 MiB) read at once [default: as --threads]
    #[arg(long, value_name = "N", env = "ICECORE_READ_CONCURRENCY", hide_env_values = true, value_parser = numbers::parse_concurrency)]
    read_concurrency: Option<usize>,

    /// Read and compare, store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Publish no snapshot if nothing differs from the one compared with
    #[arg(long)]
    skip_if_unchanged: bool,

    #[command(flatten)]
    keep_partial: KeepPartial,

    /// Do not count the source beside the backup; the status line then has the totals of the snapshot compared with
    #[arg(long)]
    no_scan: bool,

    /// Make the repository if there is none
    #[arg(long)]
    init: bool,

    #[command(flatten)]
    new: NewSecret,

    #[command(flatten)]
    excludes: Excludes,

    /// Of a directory that holds a file of this name, store that file only; with NAME:HEADER only if it begins so
    #[arg(long, value_name = "NAME[:HEADER]", help_heading = "What is left out")]
    exclude_if_present: Vec<OsString>,

    /// Leave out the content of directories that are marked as caches by a CACHEDIR.TAG
    #[arg(long, help_heading = "What is left out")]
    exclude_caches: bool,

    /// Leave out files over this size, such as 500M
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_size, help_heading = "What is left out")]
    exclude_larger_than: Option<u64>,

    /// Do not go into other file systems than those of the paths given
    #[arg(short = 'x', long, help_heading = "What is left out")]
    one_file_system: bool,

    #[command(flatten)]
    tree: TreeFlags,
}

impl Backup {
    pub fn run(self, context: &Context) -> Outcome {
        // Everything that may be mistyped is read before a password is asked for.
        let (excludes, exclude_texts) = self.excludes.read()?;
        let paths = self.all_paths()?;
        self.outputs.check()?;
        if self.from_tar.is_some() && !exclude_texts.is_empty() {
            return Err(Failure::told("an archive is stored whole: nothing can be excluded with --from-tar"));
        }
        if self.new.new_key_file.is_some() && !self.init {
            return Err(Failure::told("--new-key-file makes a key for a new repository: it needs --init"));
        }
        let repository = self.open(context)?;
        let options = self.options(context, &repository, exclude_texts)?;
        let mut reporter = Reporter::new(&context.output, Task::Backup)?;
        let mut problem = None;
        let source: Box<dyn Source> = if let Some(archive) = self.from_tar.as_deref().filter(|path| !is_stdin(path)) {
            let file = File::open(archive).map_err(|error| Failure::file("opening", archive, &error))?;
            Box::new(self.tar_source(file))
        } else if self.stdin || self.stdin_from_command || self.from_tar.is_some() {
            let stop = reporter.stop_flag();
            let stream =
                if self.stdin_from_command { Stream::program(&self.paths, stop)? } else { Stream::stdin(stop) };
            problem = Some(stream.problem());
            match self.from_tar {
                Some(_) => Box::new(self.tar_source(stream)),
                None => Box::new(ReaderSource::new(&Path::new("/").join(&self.stdin_filename), stream)),
            }
        } else {
            let local = if paths.is_empty() { None } else { Some(self.tree(context, &paths, excludes, &reporter)?) };
            match self.outputs.is_empty() {
                true => Box::new(local.expect("nothing to back up is refused")),
                false => {
                    let told = problem.insert(StreamProblem::default());
                    Box::new(self.outputs.source(local, &reporter.stop_flag(), told)?)
                }
            }
        };
        let result = reporter.watch(|reporter| repository.backup(source.as_ref(), &options, reporter));
        if result.is_err() {
            broken_stream(problem)?;
        }
        let report = result.map_err(|error| match error {
            Error::Stream(error) if self.from_tar.is_some() => bad_archive(&error),
            error => {
                Failure::from_verb(error, "no snapshot was made; what was stored is kept, and the next backup uses it")
            }
        })?;
        if let Some(snapshot) = &report.snapshot {
            context.memory.remember(&context.output, &repository, snapshot);
        }
        self.print(context, &reporter, &report)?;
        partial::tell(&report)?;
        match report.summary.problems {
            0 => Ok(()),
            problems => Err(Failure::incomplete(format!(
                "{} could not be read in full; the snapshot has the rest",
                numbers::count(problems, "entry")
            ))),
        }
    }

    fn tree(
        &self,
        context: &Context,
        paths: &[PathBuf],
        excludes: Patterns,
        reporter: &Reporter<'_>,
    ) -> Outcome<LocalTree> {
        let mut tree = LocalTreeOptions::default();
        tree.excludes = excludes;
        tree.exclude_if_present = self.markers();
        tree.exclude_larger_than_bytes = self.exclude_larger_than;
        tree.one_file_system = self.one_file_system;
        tree.leave_out = vec![context.place()?];
        tree.with_atime = self.with_atime;
        tree.as_path = self.as_path.clone();
        self.tree.apply(&mut tree);
        let source = LocalTree::new(paths, tree.clone())?;
        // A tree of its own: what is counted there leaves no note here, and takes no descriptor from the backup's.
        if !self.no_scan
            && context.output.has_status()
            && let Ok(same) = LocalTree::new(paths, tree)
        {
            reporter.scan(Box::new(same));
        }
        Ok(source)
    }

    fn tar_source(&self, reader: impl Read + Send + 'static) -> TarSource {
        let mut source = TarSource::new(reader).below(self.as_path.as_deref().unwrap_or(Path::new("")));
        if self.strip_leading_slash {
            source = source.strip_leading_slash();
        }
        if self.with_atime { source.with_atime() } else { source }
    }

    fn open(&self, context: &Context) -> Outcome<Repository> {
        match context.open_aloud() {
            Err(Failure::Core(Error::NoRepository { .. })) if self.init && !self.dry_run => {
                // A place that lost its repository is most often a disk that is not mounted.
                context.memory.refuse_vanished(&context.output, &context.place()?)?;
                let made = context.init(&self.new, InitOptions::new().label(init::default_label()))?;
                init::tell(context, &made)?;
                Ok(made.repository)
            }
            result => result,
        }
    }

    fn all_paths(&self) -> Outcome<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = self.paths.iter().map(PathBuf::from).collect();
        for (lists, format) in [
            (&self.files_from, ListFormat::Patterns),
            (&self.files_from_verbatim, ListFormat::Verbatim),
            (&self.files_from_raw, ListFormat::Raw),
        ] {
            for list in lists {
                paths.extend(sources::read_list(list, format)?);
            }
        }
        if !self.stdin_from_command && paths.iter().any(|path| path == Path::new("-") && !path.exists()) {
            return Err(Failure::with_hint("there is no file -", "--stdin stores standard input"));
        }
        match &self.from_tar {
            Some(archive) if self.stdin_from_command && !is_stdin(archive) => {
                return Err(Failure::with_hint(
                    "--stdin-from-command prints what is read, and --from-tar names a file",
                    "write --from-tar - for the archive that the command prints",
                ));
            }
            Some(_) if !self.stdin_from_command && !paths.is_empty() => {
                return Err(Failure::told("--from-tar stores an archive, and no paths beside it"));
            }
            None => {
                if let Some(at) = &self.as_path {
                    let is_stream =
                        self.stdin || self.stdin_from_command || (paths.is_empty() && !self.outputs.is_empty());
                    tree::check_as_path(at, &paths, is_stream)?;
                }
            }
            _ => {}
        }
        match paths.is_empty() && !self.stdin && self.from_tar.is_none() && self.outputs.is_empty() {
            true => Err(Failure::with_hint("nothing to back up", "name files or directories, or use --stdin")),
            false => Ok(paths),
        }
    }

    fn options(&self, context: &Context, repository: &Repository, excludes: Vec<String>) -> Outcome<BackupOptions> {
        let user = system::current_user();
        let mut options = BackupOptions::default();
        options.mode = match &self.parent {
            _ if self.full => Mode::Full,
            _ if self.differential => Mode::Differential,
            Some(name) => {
                let selector = selection::selector(name)?;
                Mode::Parent(repository.snapshot(&selector, &SnapshotFilter::default())?.id())
            }
            None => Mode::Incremental,
        };
        options.host = self.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(system::host_name);
        options.user = user.name.map(|name| name.to_string()).unwrap_or_default();
        options.uid = user.uid;
        options.gid = user.gid;
        options.tags = self.tag.iter().flat_map(|tags| selection::split_tags(tags)).collect();
        options.excludes = excludes;
        options.time_ns = self.time;
        options.zone_minutes = time::zone_minutes(self.time);
        options.dry_run = self.dry_run;
        options.skip_if_unchanged = self.skip_if_unchanged;
        options.keep_partial = self.keep_partial.is_given();
        options.verify = !context.global.no_extra_verify;
        options.ignore_inode = self.ignore_inode;
        // Where inode numbers are made up, change times are too.
        options.ignore_ctime = self.ignore_ctime || self.ignore_inode;
        options.level = context.global.compression.level();
        options.alike = self.group_by.map(|by| {
            let mut alike = Alike::default();
            (alike.host, alike.paths, alike.tags) = (by.host, by.paths, by.tags);
            alike
        });
        options.pack_data_bytes = context.global.pack_size.and_then(numbers::PackSize::bytes);
        options.read_threads = self.read_concurrency.filter(|files| *files > 0);
        if let Some(files) = options.read_threads {
            // Each file that is read takes 1 MiB; as much again as is there anyway is for what was read.
            options.memory_bytes += files << 20;
        }
        options.spool_directory = Some(std::env::temp_dir());
        options.program = concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(options)
    }

    /// Names of files that mark a directory, each with the bytes it must begin with.
    fn markers(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        /// Of the Cache Directory Tagging Specification (bford.info/cachedir).
        const CACHE: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");
        let given = self.exclude_if_present.iter().map(|marker| {
            let bytes = marker.as_encoded_bytes();
            let mut parts = bytes.splitn(2, |byte| *byte == b':');
            let name = parts.next().unwrap_or_default();
            (name.to_vec(), parts.next().unwrap_or_default().to_vec())
        });
        let cache = self.exclude_caches.then(|| (CACHE.0.to_vec(), CACHE.1.to_vec()));
        given.chain(cache).collect()
    }

    fn print(&self, context: &Context, reporter: &Reporter, report: &BackupReport) -> Outcome {
        let output = &context.output;
        let zone = time::zone_minutes(self.time);
        let summary = &report.summary;
        let id = report.snapshot.as_ref().map(|snapshot| snapshot.id().short());
        if output.is_json() {
            return output.json(&SummaryLine {
                message_type: "summary",
                dry_run: self.dry_run,
                partial: partial::is_partial(report),
                counters: Counters::from(summary),
                backup_start: time::rfc3339_ns(report.start_ns, zone),
                backup_end: time::rfc3339_ns(report.end_ns, zone),
                total_duration: reporter.elapsed().as_secs_f64(),
                snapshot_id: id,
            });
        }
        match report.parent {
            Some(parent) => output.say(1, &format!("compared with snapshot {}", &parent.short()[..8]))?,
            None => output.say(1, "compared with no snapshot, everything was read")?,
        }
        output.say(1, "")?;
        let counted = |new, changed, same| format!("{new:>7} new, {changed:>5} changed, {same:>5} unmodified");
        let files = counted(summary.files_new, summary.files_changed, summary.files_unmodified);
        let directories = counted(summary.directories_new, summary.directories_changed, summary.directories_unmodified);
        output.say(1, &format!("Files:     {files}"))?;
        output.say(1, &format!("Dirs:      {directories}"))?;
        output.say(2, &format!("Chunks:    {:>7} of data, {} of trees", summary.data_chunks, summary.tree_chunks))?;
        let verb = if self.dry_run { "Would add" } else { "Added" };
        let (added, stored) = (numbers::size(summary.added_bytes), numbers::size(summary.stored_bytes));
        output.say(1, &format!("{verb} to the repository: {added} ({stored} stored)"))?;
        output.say(1, "")?;
        output.say(
            1,
            &format!(
                "processed {}, {} in {}",
                numbers::count(summary.processed_files, "file"),
                numbers::size(summary.processed_bytes),
                numbers::duration(reporter.elapsed())
            ),
        )?;
        match id {
            Some(id) if partial::is_partial(report) => output.line(&format!("partial snapshot {} saved", &id[..8])),
            Some(id) => output.line(&format!("snapshot {} saved", &id[..8])),
            None if self.dry_run => output.say(1, "nothing was stored (--dry-run)"),
            None => output.say(1, "nothing changed: no snapshot was made"),
        }
    }
}

/// Where a file may be named, standard input is `-`.
fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn bad_archive(error: &io::Error) -> Failure {
    let message = format!("the archive cannot be stored: {error}; no snapshot was made");
    match message.contains("an absolute path") {
        true => Failure::with_hint(message, "--strip-leading-slash takes absolute paths for relative ones"),
        false => Failure::told(message),
    }
}

/// A stream that broke off is the failure, whatever the backup said of it.
fn broken_stream(problem: Option<StreamProblem>) -> Outcome {
    let problem = problem.and_then(|problem| problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    match problem {
        Some(problem) => Err(Failure::told(format!("{problem}; no snapshot was made"))),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    #[serde(flatten)]
    counters: Counters,
    backup_start: String,
    backup_end: String,
    total_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<String>,
}
