//! Backup: source ⋈ parent. What is new is read, cut, named, sealed; then the tree is published.

mod assembly;
mod lineage;
mod options;
mod reading;
mod spool;
mod walker;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::format::snapshot::{FLAG_PARTIAL, Root, SnapshotRecord, Summary};
use crate::id::SnapshotId;
use crate::mutants::mutant;
use crate::pipeline::{self, Budget, Pool};
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::store::{Sealing, Session, SessionKind, Store, Stored, WriterOptions};
use crate::walk::Source;

use assembly::{Assembly, Totals, Unordered};
use lineage::Lineage;
use reading::{Reading, SEGMENT_BYTES, UNIT_BYTES};
use spool::Spool;
use walker::Walker;

/// Entries that the walk may be ahead of the assembly.
const ITEMS_MAX: usize = 4096;
/// How often a run that lost its name begins again.
const ATTEMPTS_MAX: usize = 3;
/// Less than this and one large file's segments would wait for each other.
const MEMORY_MIN_BYTES: usize = 16 << 20;

/// The smallest and largest packs that a run may ask for. A pack is put whole, so it waits in memory until it is full.
const PACK_DATA_BYTES: RangeInclusive<u32> = (1 << 20)..=(128 << 20);
/// What open data packs may take when the run asks for large ones: fewer threads seal then.
const OPEN_PACKS_BYTES: usize = 1 << 30;
/// Reading threads beyond this would wait for memory rather than for the disk.
const READ_THREADS_MAX: usize = 1024;

/// What a backup is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// With the newest of its series.
    #[default]
    Incremental,
    /// With the last full of its series.
    Differential,
    /// With nothing: every byte is read.
    Full,
    /// With this one.
    Parent(SnapshotId),
}

/// What snapshots must have in common with a backup for it to be compared with one of them. Nothing: any will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Alike {
    /// The same host.
    pub host: bool,
    /// The same paths, all of them.
    pub paths: bool,
    /// The same tags, in whatever order.
    pub tags: bool,
}

/// How a backup is made. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    /// What it is compared with.
    pub mode: Mode,
    /// The machine that is recorded, and part of the series' name; the library does not ask the system for it.
    pub host: String,
    /// Recorded: who makes the backup.
    pub user: String,
    /// Recorded.
    pub uid: u32,
    /// Recorded.
    pub gid: u32,
    /// What the snapshot is called.
    pub tags: Vec<String>,
    /// Recorded as given; the source applies them.
    pub excludes: Vec<String>,
    /// The snapshot's time, in nanoseconds since 1970 UTC; `None`: the clock.
    pub time_ns: Option<i64>,
    /// East of Greenwich.
    pub zone_minutes: i16,
    /// Read and compare, store nothing.
    pub dry_run: bool,
    /// Publish nothing if the tree is the parent's.
    pub skip_if_unchanged: bool,
    /// If the run is [cancelled](Progress::is_cancelled), publish what was stored by then as a
    /// [partial](Snapshot::is_partial) snapshot, unless that is nothing. It has no entry that was not done, and of
    /// directories that were begun those entries that were. The next backup of the series does not read again what is in it.
    pub keep_partial: bool,
    /// Open every frame again before it leaves (default).
    pub verify: bool,
    /// Compare without inode numbers (file systems that make them up).
    pub ignore_inode: bool,
    /// Compare without ctime.
    pub ignore_ctime: bool,
    /// The name of the program, for the record.
    pub program: String,
    /// Bytes of plaintext under way at once.
    pub memory_bytes: usize,
    /// zstd level instead of the repository's; 0: new data is not compressed, metadata hardly.
    pub level: Option<i8>,
    /// The series' name instead of host and paths.
    pub series: Option<String>,
    /// Which snapshots may be the one compared with (for `Mode::Incremental` and `Mode::Differential`); `None`: those of
    /// the series.
    pub alike: Option<Alike>,
    /// Files read at once, 1 to 1024; `None`: the repository's threads. Each takes 1 MiB of `memory_bytes`, and files over
    /// 1 MiB are read one after another whatever this says.
    pub read_threads: Option<usize>,
    /// Mean size of new data packs, 1 to 128 MiB, instead of the repository's. Each sealing thread holds one in memory.
    pub pack_data_bytes: Option<u32>,
    /// Where a source whose entries come in any order keeps their metadata, if it takes more than 32 MiB, in a file
    /// without a name; `None`: in memory.
    pub spool_directory: Option<PathBuf>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Incremental,
            host: String::new(),
            user: String::new(),
            uid: 0,
            gid: 0,
            tags: Vec::new(),
            excludes: Vec::new(),
            time_ns: None,
            zone_minutes: 0,
            dry_run: false,
            skip_if_unchanged: false,
            keep_partial: false,
            verify: true,
            ignore_inode: false,
            ignore_ctime: false,
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned(),
            memory_bytes: 24 << 20,
            level: None,
            series: None,
            alike: None,
            read_threads: None,
            pack_data_bytes: None,
            spool_directory: None,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackupReport {
    /// `None` for a dry run, or if nothing changed and that was to be skipped. A [partial](Snapshot::is_partial) one if the
    /// run was cancelled and that was to be kept.
    pub snapshot: Option<Snapshot>,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was counted. Sizes in bytes.
    pub summary: Summary,
    /// Metadata's share of `summary.added_bytes` and `summary.stored_bytes`.
    pub added_meta_bytes: u64,
    /// As `added_meta_bytes`, of what went into packs.
    pub stored_meta_bytes: u64,
    /// When it began, in nanoseconds since 1970 UTC.
    pub start_ns: i64,
    /// When it ended.
    pub end_ns: i64,
}

impl Repository {
    /// Backs up `source` and publishes a snapshot of it.
    ///
    /// What cannot be read is an [`Event::Problem`] and counted in the report; the rest is
    /// stored all the same. Nothing is published if this returns an error. Ended at any moment, even by a power
    /// failure, it leaves all published snapshots whole, and the next run uses what was uploaded.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, LocalTree, LocalTreeOptions, Silent};
    ///
    /// # let scratch = tempfile::tempdir().expect("a scratch directory");
    /// # std::fs::write(scratch.path().join("letter"), "Dear reader").expect("a file");
    /// # let data = scratch.path().to_owned();
    /// let source = LocalTree::new(&[data], LocalTreeOptions::new().exclude_caches())?;
    /// let options = BackupOptions::new().host("laptop").tag("nightly");
    /// let first = repository.backup(&source, &options, &Silent)?;
    /// assert_eq!(first.summary.files_new, 1);
    /// assert_eq!(first.summary.problems, 0);
    ///
    /// // Only what differs from the newest snapshot of the series is read, and only what is new is stored.
    /// let second = repository.backup(&source, &options, &Silent)?;
    /// assert_eq!(second.parent, first.snapshot.map(|snapshot| snapshot.id()));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for options out of bounds, before anything is written;
    /// [`Error::Stream`](crate::Error::Stream) if a stream broke off; [`Error::SelfCheck`](crate::Error::SelfCheck) if this
    /// machine's memory fails; [`Error::NoSnapshot`](crate::Error::NoSnapshot) for an unknown parent; backend errors;
    /// [`Error::Cancelled`](crate::Error::Cancelled), unless a partial snapshot was to be kept and there was something for it.
    pub fn backup(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<BackupReport> {
        pipeline::guarded(|| {
            for _ in 1..ATTEMPTS_MAX {
                match Run::new(self, source, options, progress)?.go() {
                    // A stream is gone once it was read.
                    Err(Error::Fenced) if !source.is_read_once() => {}
                    result => return result,
                }
                let message = "this run was taken for dead, and part of what it relied on is gone; reading again";
                progress.report(Event::Note { message });
            }
            Run::new(self, source, options, progress)?.go()
        })
    }
}

/// One backup.
struct Run<'r> {
    repository: &'r Repository,
    source: &'r dyn Source,
    options: &'r BackupOptions,
    progress: &'r dyn Progress,
    /// `None`: a dry run.
    session: Option<Session>,
    store: Arc<Store>,
    start_ns: i64,
    lineage: Lineage,
}

impl<'r> Run<'r> {
    fn new(
        repository: &'r Repository,
        source: &'r dyn Source,
        options: &'r BackupOptions,
        progress: &'r dyn Progress,
    ) -> Result<Self> {
        check(options)?;
        let start_ns = host::now_ns();
        let inner = &repository.inner;
        if mutant!("a writer looks before it is registered") {
            repository.fresh_store()?;
        }
        // Registered before the store is looked at, so that nobody takes away what this run will rely on.
        let session = match options.dry_run {
            true => None,
            false => Some(Session::register(&inner.backend, &inner.keys, SessionKind::Backup, &options.program)?),
        };
        repository.check_generations()?;
        let store = match mutant!("a writer looks before it is registered") {
            true => repository.store()?,
            false => repository.fresh_store()?,
        };
        let lineage = Lineage::find(repository, source, options)?;
        let run = Self { repository, source, options, progress, session, store, start_ns, lineage };
        // Said before the work and not after it. What is not known yet has a fixed length, or hardly any.
        let root = Root { tree: None, entries: 0, bytes: 0 };
        let nothing = Totals { root, summary: Summary::default(), added_meta_bytes: 0, is_partial: false };
        Session::check(&run.record(&nothing, Stored::default()))?;
        Ok(run)
    }

    fn go(mut self) -> Result<BackupReport> {
        let Some(session) = self.session.take() else {
            let (totals, sealing) = self.write(SnapshotId([0; 16]))?;
            return Ok(self.report(None, totals, sealing));
        };
        let (totals, sealing) = self.write(session.id())?;
        let is_tree_of = |parent: &Snapshot| parent.record.root.tree == totals.root.tree;
        // What equals a partial one is complete now, and that is worth a snapshot.
        let unchanged = self.lineage.parent.as_ref().is_some_and(|parent| !parent.is_partial() && is_tree_of(parent));
        if self.options.skip_if_unchanged && unchanged && !totals.is_partial {
            session.give_up()?;
            return Ok(self.report(None, totals, sealing));
        }
        let stored = sealing.stored();
        let record = self.record(&totals, stored);
        let record = self.publish(session, &sealing, &totals, record)?;
        let end_ns = record.end_ns;
        let mut report = self.report(Some(Snapshot { record }), totals, sealing);
        report.end_ns = end_ns.max(self.start_ns);
        Ok(report)
    }

    /// Publishes, under another name if somebody took this run for dead and its name away. What it uploaded may have been
    /// reclaimed since: under each new name all that the tree refers to is looked for again.
    fn publish(
        &self,
        mut session: Session,
        sealing: &Sealing<'_>,
        totals: &Totals,
        record: SnapshotRecord,
    ) -> Result<SnapshotRecord> {
        for _ in 1..ATTEMPTS_MAX {
            let tree = sealing.finish(totals.root, &self.store.view())?;
            // Asked again at the last moment: who was shut out since this run began should not be able to read what it made.
            self.repository.check_generations()?;
            match session.publish(&tree, record.clone()) {
                Err(Error::Fenced) => {}
                result => return result,
            }
            let inner = &self.repository.inner;
            session = Session::register(&inner.backend, &inner.keys, SessionKind::Backup, &self.options.program)?;
            self.repository.check_generations()?;
            self.store.reload()?;
            let found =
                totals.root.tree.map_or(Ok(()), |root| self.repository.require(&self.store, &root, self.progress));
            match found {
                Err(Error::ChunkLost { .. }) => return Err(Error::Fenced),
                result => result?,
            }
        }
        let tree = sealing.finish(totals.root, &self.store.view())?;
        self.repository.check_generations()?;
        session.publish(&tree, record)
    }

    /// Reads, cuts, seals and uploads everything that is new.
    fn write(&self, session: SnapshotId) -> Result<(Totals, Sealing<'_>)> {
        let config = self.repository.config();
        let threads = self.repository.inner.threads;
        let read_threads = self.options.read_threads.unwrap_or(threads);
        let standard = self.repository.writer_options();
        let writer_options = WriterOptions {
            threads: sealing_threads(threads, self.options.pack_data_bytes),
            level: self.options.level.map_or(standard.level, i32::from),
            verify: self.options.verify,
            dry_run: self.options.dry_run,
            pack_data_bytes: self.options.pack_data_bytes.map_or(standard.pack_data_bytes, |bytes| bytes as usize),
            ..standard
        };
        let sealing = Sealing::new(&self.store, session, writer_options);
        let view = self.store.view();
        let reading = Reading {
            keys: self.repository.inner.keys.clone(),
            chunker: Chunker::new(config.chunker, self.repository.inner.keys.gear()),
            progress: self.progress,
            budget: Budget::new(self.options.memory_bytes.max(MEMORY_MIN_BYTES)),
            units: Pool::new(UNIT_BYTES),
            // A segment begins with what the last one left uncut, which is less than the largest chunk.
            segments: Pool::new(SEGMENT_BYTES.max(2 * config.chunker.max_bytes as usize)),
        };
        let totals = pipeline::scope(|scope| {
            let (items, order) = bounded(ITEMS_MAX);
            let (jobs, todo) = bounded(2 * read_threads);
            for _ in 0..read_threads {
                let (todo, reading) = (todo.clone(), &reading);
                scope.spawn("read", move || reading.work(&todo))?;
            }
            drop(todo);
            let walker = Walker::new(self, &reading, &view, items, jobs);
            let stream = self.source.in_any_order();
            let unordered = stream.is_some().then(|| {
                let spool = Spool::new(self.options.spool_directory.clone());
                Unordered::new(spool, self.lineage.parent.as_ref().map(|parent| parent.record.root))
            });
            scope.spawn("walk", move || walker.walk(stream))?;
            let writer = sealing.start(scope)?;
            let mut assembly = Assembly::new(&self.store, &view, writer, self.progress, unordered);
            assembly.keeps_partial = self.options.keep_partial && !self.options.dry_run;
            let totals = assembly.take_all(order)?;
            assembly.finish()?;
            Ok(totals)
        });
        for message in self.source.notes() {
            self.progress.report(Event::Note { message: &message });
        }
        // A thread's own error says more than that its channel closed.
        sealing.check()?;
        Ok((totals?, sealing))
    }

    fn record(&self, totals: &Totals, stored: Stored) -> SnapshotRecord {
        let options = self.options;
        let (start_ns, end_ns) = match options.time_ns {
            Some(time_ns) => (time_ns, time_ns),
            None => (self.start_ns, host::now_ns().max(self.start_ns)),
        };
        SnapshotRecord {
            id: SnapshotId([0; 16]), // the session's; set when it is published
            series: self.lineage.series,
            sequence: self.lineage.sequence,
            lineage: self.lineage.kind,
            flags: if totals.is_partial { FLAG_PARTIAL } else { 0 },
            origin: None,
            parent_digest: self.lineage.newest_digest,
            config_generation: self.repository.config().generation,
            keyring_generation: self.repository.inner.keyring_generation,
            start_ns,
            end_ns,
            zone_minutes: options.zone_minutes,
            host: options.host.clone(),
            user: options.user.clone(),
            uid: options.uid,
            gid: options.gid,
            paths: self.source.paths(),
            excludes: options.excludes.clone(),
            tags: options.tags.clone(),
            program: options.program.clone(),
            root: totals.root,
            summary: Summary { stored_bytes: stored.data_bytes + stored.meta_bytes, ..totals.summary },
            extensions: Vec::new(),
        }
    }

    fn report(&self, snapshot: Option<Snapshot>, totals: Totals, sealing: Sealing<'_>) -> BackupReport {
        let stored = sealing.stored();
        BackupReport {
            snapshot,
            parent: self.lineage.parent.as_ref().map(Snapshot::id),
            summary: Summary { stored_bytes: stored.data_bytes + stored.meta_bytes, ..totals.summary },
            added_meta_bytes: totals.added_meta_bytes,
            stored_meta_bytes: stored.meta_bytes,
            start_ns: self.start_ns,
            end_ns: host::now_ns().max(self.start_ns),
        }
    }
}

/// Whether a run may ask for this; said before anything is done.
fn check(options: &BackupOptions) -> Result<()> {
    let refuse = |what: String| Err(Error::Usage(what));
    if let Some(bytes) = options.pack_data_bytes.filter(|bytes| !PACK_DATA_BYTES.contains(bytes)) {
        return refuse(format!("packs of {bytes} bytes: from 1 to 128 MiB are possible"));
    }
    if let Some(threads) = options.read_threads.filter(|threads| !(1..=READ_THREADS_MAX).contains(threads)) {
        return refuse(format!("{threads} files read at once: from 1 to {READ_THREADS_MAX} are possible"));
    }
    match options.level {
        None | Some(0..=19) => Ok(()),
        Some(level) => refuse(format!("level {level}: from 1 to 19 are possible, and 0 for none")),
    }
}

/// Threads that seal: as many as there are, unless packs of the size asked for would take too much memory.
fn sealing_threads(threads: usize, pack_data_bytes: Option<u32>) -> usize {
    let fitting = pack_data_bytes.map(|bytes| OPEN_PACKS_BYTES / (bytes as usize / 4 * 5));
    threads.min(fitting.unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_packs_are_sealed_by_fewer_threads() {
        assert_eq!(sealing_threads(200, None), 200);
        assert_eq!(sealing_threads(4, Some(128 << 20)), 4);
        assert_eq!(sealing_threads(200, Some(128 << 20)), 6);
        assert_eq!(sealing_threads(200, Some(1 << 20)), 200);
        assert_eq!(sealing_threads(1, Some(128 << 20)), 1);
    }
}
