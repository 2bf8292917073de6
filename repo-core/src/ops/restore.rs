//! Restore: destination ⋈ snapshot. Never writes outside the target, writes only what differs, metadata bottom-up.
//!
//! `plan` walks the snapshot in order, makes directories and hands everything else in batches to the workers; `files`
//! brings one file, symlink or special file to what the snapshot says; `metadata` sets owners, modes, attributes and
//! times; `delete` removes what the snapshot has not; `aside` keeps files that are to appear whole out of sight until they are. A dry run and the verification are the same walk, looking only.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lookup::{self, Allowance, Listing};
use crate::error::{Error, Result};
use crate::format::tree::NodeKind;
use crate::pipeline::{self, lock};
use crate::platform::host;
use crate::platform::target::{self, as_path};
use crate::progress::{Action, Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::store::Store;
use crate::walk::filter::Patterns;

mod aside;
mod delete;
mod files;
mod metadata;
mod options;
mod plan;
#[cfg(test)]
mod tests;

/// Files that failed are remembered so that the verification does not tell of them again; no more than this many.
const REMEMBERED_FAILURES_MAX: usize = 1 << 16;

/// What happens to what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overwrite {
    /// Every file is made as in the snapshot; its blocks are compared.
    #[default]
    Always,
    /// A file of the same size and mtime is taken as unchanged.
    IfChanged,
    /// Only older files are replaced.
    IfNewer,
    /// What exists stays.
    Never,
}

/// How a restore is made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// A directory or file of the snapshot, to restore instead of all; empty: all.
    pub subpath: Vec<u8>,
    /// What happens to what is there already.
    pub overwrite: Overwrite,
    /// Patterns of which one must match, or none is given.
    pub include: Patterns,
    /// Patterns of which none may match. Not together with `include`.
    pub exclude: Patterns,
    /// Remove from the target what the snapshot has not (only inside restored directories; never what a filter leaves out).
    pub delete: bool,
    /// Look and tell, write nothing.
    pub dry_run: bool,
    /// Read everything again and compare.
    pub verify: bool,
    /// Write zeros as holes too.
    pub sparse: bool,
    /// Leave owner and group as they come.
    pub no_ownership: bool,
    /// Leave extended attributes and ACLs as they come.
    pub no_xattrs: bool,
    /// Patterns of names of extended attributes, of which one must match, or none is given. Others stay as they are in
    /// the target.
    pub include_xattrs: Patterns,
    /// Patterns of which none may match; those attributes stay as they are in the target. Not together with
    /// `include_xattrs`.
    pub exclude_xattrs: Patterns,
    /// Make no devices, fifos and sockets.
    pub no_special: bool,
    /// uid and gid by the names recorded, where this machine knows them.
    pub ownership_by_name: bool,
    /// Users that become others; the first pair that names one counts, before all else.
    pub map_users: Vec<(Owner, u32)>,
    /// Groups, likewise.
    pub map_groups: Vec<(Owner, u32)>,
    /// Write each file of one name beside its place and give it the name when it is whole, so that whoever reads the target
    /// meanwhile sees the old content or the new. A file that cannot be read in full does not take its name.
    pub atomic: bool,
}

/// A user or group as a snapshot records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// By number.
    Id(u32),
    /// By name.
    Name(Vec<u8>),
}

impl RestoreOptions {
    /// Everything, over whatever is there.
    pub fn new() -> Self {
        Self::default()
    }
}

/// What a restore did. Files are entries of any kind, directories too. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Entries that were to be restored.
    pub total_files: u64,
    /// Bytes of their files.
    pub total_bytes: u64,
    /// Made, or their content changed.
    pub restored_files: u64,
    /// Written, holes included.
    pub restored_bytes: u64,
    /// Their content was so already, or was to stay as it is.
    pub skipped_files: u64,
    /// Bytes of content that were there already.
    pub skipped_bytes: u64,
    /// Entries that were removed.
    pub deleted_files: u64,
    /// Entries that were read again and compared.
    pub verified_files: u64,
    /// Entries that could not be restored in full; each was an [`Event::Problem`](crate::Event::Problem), except that
    /// what this user may not do is told once a kind, with a count at the end.
    pub problems: u64,
    /// Those of them whose owner or group this user may not set.
    pub unowned_files: u64,
}

/// What a walk does with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Restore,
    /// Tells what a restore would do.
    DryRun,
    /// Tells where the target is not as the snapshot says.
    Verify,
}

#[derive(Debug, Default)]
struct Counters {
    total_files: AtomicU64,
    total_bytes: AtomicU64,
    restored_files: AtomicU64,
    restored_bytes: AtomicU64,
    skipped_files: AtomicU64,
    skipped_bytes: AtomicU64,
    deleted_files: AtomicU64,
    verified_files: AtomicU64,
    unreadable_files: AtomicU64,
    problems: AtomicU64,
    unowned_files: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What cannot be restored for want of privilege, or because the file system has no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Owner,
    Mode,
    Xattr,
    SystemXattr,
    Flags,
    Device,
}

impl Lack {
    fn what(self) -> &'static str {
        match self {
            Self::Owner => "owner or group could not be set",
            Self::Mode => "mode could not be set in full",
            Self::Xattr => "extended attributes could not be set",
            Self::SystemXattr => "extended attributes of the system (trusted, security, ACLs) could not be set",
            Self::Flags => "inode flags could not be set",
            Self::Device => "device could not be made",
        }
    }
}

/// One run over the target: what all threads share.
struct Run<'r> {
    store: &'r Store,
    options: &'r RestoreOptions,
    progress: &'r dyn Progress,
    purpose: Purpose,
    is_root: bool,
    names: &'r host::Names,
    counters: Counters,
    lacks: Mutex<BTreeMap<Lack, u64>>,
    failed: Mutex<HashSet<Vec<u8>>>,
    /// To be set at the very end.
    late: Mutex<Vec<metadata::Late>>,
    /// Files that have not taken their names yet.
    asides: Mutex<BTreeSet<Vec<u8>>>,
}

impl Run<'_> {
    fn writes(&self) -> bool {
        self.purpose == Purpose::Restore
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Tells of an entry that could not be handled, once, and counts it.
    fn problem(&self, path: &[u8], during: &'static str, message: &str) {
        if self.options.verify {
            let mut failed = lock(&self.failed);
            let known = failed.contains(path);
            if !known && failed.len() < REMEMBERED_FAILURES_MAX {
                failed.insert(path.to_vec());
            }
            if known && self.purpose == Purpose::Verify {
                return;
            }
        }
        add(&self.counters.problems, 1);
        self.progress.report(Event::Problem { path: as_path(path), during, message });
    }

    /// Goes on after an error of one entry, which is told; or ends the run, where no other entry would fare better.
    fn survive(&self, path: &[u8], error: Error) -> Result<()> {
        match error {
            Error::Cancelled | Error::Limit { .. } => Err(error),
            Error::Local { ref source, .. } if is_of_the_whole(source) => Err(error),
            Error::Local { what, source, .. } => {
                self.problem(path, what, &source.to_string());
                Ok(())
            }
            other => {
                self.problem(path, "reading the repository", &other.to_string());
                Ok(())
            }
        }
    }

    /// Notes that something is beyond this user or file system; the first of each kind is told.
    fn lack(&self, path: &[u8], kind: Lack, error: &io::Error) {
        let count = {
            let mut lacks = lock(&self.lacks);
            let count = lacks.entry(kind).or_default();
            *count += 1;
            *count
        };
        if kind == Lack::Owner {
            add(&self.counters.unowned_files, 1);
        }
        if count == 1 {
            let message = format!("{}: {error}", kind.what());
            self.progress.report(Event::Problem {
                path: as_path(path),
                during: "restoring metadata",
                message: &message,
            });
        }
    }

    /// Tells how often each kind of [`Lack`] was met, where it was told once.
    fn tell_lacks(&self) {
        for (kind, count) in lock(&self.lacks).iter().filter(|(_, count)| **count > 1) {
            let message = format!("{}: {count} entries in all", kind.what());
            self.progress.report(Event::Note { message: &message });
        }
    }

    /// An entry is done.
    fn done(&self, path: &[u8], action: Action, bytes: u64) {
        let counter = match action {
            Action::Deleted => &self.counters.deleted_files,
            Action::New | Action::Modified => &self.counters.restored_files,
            _ => &self.counters.skipped_files,
        };
        if self.purpose == Purpose::Verify {
            add(&self.counters.verified_files, 1);
            return;
        }
        add(counter, 1);
        self.progress.report(Event::Done { path: as_path(path), action, bytes });
    }

    /// Bytes of content were handled: this many of them written.
    fn bytes(&self, written: u64, skipped: u64) {
        add(&self.counters.restored_bytes, written);
        add(&self.counters.skipped_bytes, skipped);
        if written + skipped > 0 {
            self.progress.report(Event::Bytes { count: written + skipped });
        }
    }

    /// Whether the filters let this path in.
    fn selects(&self, path: &[u8]) -> bool {
        let (include, exclude) = (&self.options.include, &self.options.exclude);
        (include.is_empty() || include.matches(path)) && (exclude.is_empty() || !exclude.matches(path))
    }
}

/// An error of the target as such: every further entry would meet it.
fn is_of_the_whole(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// Makes an I/O error one of the library, which names the entry.
fn local<'p>(path: &'p [u8], what: &'static str) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::Local { path: as_path(path).to_owned(), what, source }
}

impl Repository {
    /// Restores a snapshot below `target`, which is created if need be.
    ///
    /// Everything recorded is restored as far as privilege allows. Entries that cannot be restored are told and
    /// counted, and the rest goes on. Where something is in the way, `options.overwrite` decides; a symlink in the way
    /// is replaced and never followed, a file with several names is made anew so that none outside changes.
    ///
    /// # Errors
    /// The target cannot be opened, made or written, is or lies in a symlink, is full; [`Error::Path`] if the subpath
    /// is not in the snapshot; [`Error::Limit`] for a tree that unfolds to more than the snapshot says;
    /// [`Error::Cancelled`].
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, RestoreOptions, Selector, Silent, SnapshotFilter};
    ///
    /// # let scratch = tempfile::tempdir().expect("a scratch directory");
    /// # let target = scratch.path().join("restored");
    /// # let source = ReaderSource::new("/notes/today".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let newest = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())?;
    /// let options = RestoreOptions::new().subpath("notes").verify().without_ownership();
    /// let report = repository.restore(&newest, &target, &options, &Silent)?;
    /// assert_eq!(report.problems, 0);
    /// assert_eq!(std::fs::read(target.join("today")).expect("it is back"), b"buy milk");
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn restore(
        &self,
        snapshot: &Snapshot,
        target: &Path,
        options: &RestoreOptions,
        progress: &dyn Progress,
    ) -> Result<RestoreReport> {
        pipeline::guarded(|| self.restore_all(snapshot, target, options, progress))
    }

    fn restore_all(
        &self,
        snapshot: &Snapshot,
        target: &Path,
        options: &RestoreOptions,
        progress: &dyn Progress,
    ) -> Result<RestoreReport> {
        if !options.include.is_empty() && !options.exclude.is_empty() {
            return Err(Error::Usage("include and exclude cannot be used together".to_owned()));
        }
        let store = self.store()?;
        let names = host::Names::new();
        let new_run = |purpose| Run {
            store: &store,
            options,
            progress,
            purpose,
            is_root: target::is_root(),
            names: &names,
            counters: Counters::default(),
            lacks: Mutex::default(),
            failed: Mutex::default(),
            late: Mutex::default(),
            asides: Mutex::default(),
        };
        let walk = |run: &Run<'_>, top: Top| -> Result<()> {
            let at_target = |what| move |source| Error::Local { path: target.to_owned(), what, source };
            let directory = target::open_target(target, run.writes()).map_err(at_target("opening the target"))?;
            if let Some(directory) = directory.as_ref().filter(|_| run.writes()) {
                directory.check_writable().map_err(at_target("writing to the target"))?;
            }
            let listing = match top {
                Top::Directory(subtree) => Listing::new(&store, subtree),
                Top::Entry(node) => Listing::single(&store, *node),
            };
            let threads = self.inner.threads.max(1);
            let queue = 2 * threads;
            let plan = plan::Plan::new(run, directory, listing, Allowance::of(snapshot), threads + queue + 2)?;
            pipeline::for_each_parallel(threads, queue, plan, |job| plan::work(run, job))
        };

        let top = Top::find(&store, snapshot, &options.subpath)?;
        if let (Top::Directory(Some(subtree)), true, true) =
            (&top, options.include.is_empty(), options.exclude.is_empty())
        {
            progress.report(Event::Total { files: subtree.entries, bytes: subtree.bytes });
        }
        let run = new_run(if options.dry_run { Purpose::DryRun } else { Purpose::Restore });
        let walked = walk(&run, top);
        aside::sweep(&run, target);
        walked?;
        metadata::set_late(&run, target)?;
        run.tell_lacks();
        let mut report = run.counters.report();
        if options.verify && !options.dry_run {
            progress.report(Event::Stage { name: "verify" });
            let verification = Run { failed: run.failed, ..new_run(Purpose::Verify) };
            walk(&verification, Top::find(&store, snapshot, &options.subpath)?)?;
            let found = verification.counters.report();
            report.verified_files = found.verified_files;
            report.problems += found.problems;
            let unreadable = verification.counters.unreadable_files.into_inner();
            if unreadable > 0 {
                let message = format!("{unreadable} entries could not be read back: their mode keeps this user out");
                progress.report(Event::Note { message: &message });
            }
        }
        Ok(report)
    }
}

/// What is restored: the content of a directory, or one entry under its own name.
enum Top {
    Directory(Option<crate::format::tree::Subtree>),
    Entry(Box<crate::format::tree::Node>),
}

impl Top {
    fn find(store: &Store, snapshot: &Snapshot, subpath: &[u8]) -> Result<Self> {
        Ok(match lookup::find(store, snapshot, subpath)? {
            None => Self::Directory(lookup::root(snapshot)),
            Some(node) if node.metadata.kind == NodeKind::Directory => Self::Directory(lookup::subtree(&node)),
            Some(node) => Self::Entry(Box::new(node)),
        })
    }
}

impl Counters {
    fn report(&self) -> RestoreReport {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RestoreReport {
            total_files: get(&self.total_files),
            total_bytes: get(&self.total_bytes),
            restored_files: get(&self.restored_files),
            restored_bytes: get(&self.restored_bytes),
            skipped_files: get(&self.skipped_files),
            skipped_bytes: get(&self.skipped_bytes),
            deleted_files: get(&self.deleted_files),
            verified_files: get(&self.verified_files),
            problems: get(&self.problems),
            unowned_files: get(&self.unowned_files),
        }
    }
}
