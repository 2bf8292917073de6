//! Copy: snapshots of one repository into others, in one pass over the source. What a target has is not written there
//! again, what is known from an earlier copy is not even read; every target has its own keys, so everything is named
//! and sealed anew.
//!
//! A run takes snapshots oldest first, some dozens at a time: it registers a session for each in every target, and only
//! then looks at what the targets hold. So whatever it finds there, or stores itself meanwhile, may be referred to by each of
//! these snapshots: whoever reclaims space has to wait for all of these sessions, or to end them.

mod assembly;
mod branch;
mod fetch;
mod memo;
mod plan;
mod seed;
mod walk;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::format::snapshot::{LineageRecord, Summary};
use crate::id::{ChunkId, RepositoryId, SeriesId, SnapshotId};
use crate::ops::lookup;
use crate::pipeline::{self, Budget};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::store::{Index, Sealing, Session, SessionKind, Store, WriterOptions};

use assembly::{Assembly, Grown};
use branch::Branch;
use fetch::Fetcher;
use memo::Memos;
use plan::Plan;
use walk::Walker;

/// Snapshots whose sessions are open at once: the index of each target is read once for so many.
const BATCH: usize = 32;
/// Steps of the walk that it may be ahead of the assembly.
const ITEMS_MAX: usize = 1024;
/// Less than this and the parts of one file would wait for each other.
const MEMORY_MIN_BYTES: usize = 16 << 20;

/// How snapshots are copied. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Cut contents anew, by the target's cut points.
    pub rechunk: bool,
    /// Read all contents of the source, whatever earlier copies are in the targets.
    pub reread: bool,
    /// Open every frame again before it leaves (default).
    pub verify: bool,
    /// zstd level instead of the targets'; 0: new data is not compressed, metadata hardly.
    pub level: Option<i8>,
    /// The name of the program, for the sessions.
    pub program: String,
    /// Bytes of plaintext under way at once.
    pub memory_bytes: usize,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            rechunk: false,
            reread: false,
            verify: true,
            level: None,
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned(),
            memory_bytes: 32 << 20,
        }
    }
}

impl CopyOptions {
    /// The defaults: chunks are copied as they were cut, and what an earlier copy has is not read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts contents where the target's own backups cut them, so that the two share chunks. A file that changed at one place
    /// is read as a whole then; without this only its new chunks are.
    pub fn rechunk(mut self) -> Self {
        self.rechunk = true;
        self
    }

    /// Reads every byte of what is copied, and takes nobody's word for what an earlier copy holds.
    pub fn reread(mut self) -> Self {
        self.reread = true;
        self
    }

    /// Does not open again what was just sealed: saves processor time, and leaves failing memory unnoticed.
    pub fn without_verification(mut self) -> Self {
        self.verify = false;
        self
    }

    /// zstd level, 1 to 19, instead of the targets'; 0: new data is not compressed.
    pub fn level(mut self, level: i8) -> Self {
        self.level = Some(level);
        self
    }

    /// Bytes of plaintext under way at once.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

/// What a copy did.
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyReport {
    /// One for each target, in their order.
    pub targets: Vec<CopyTarget>,
    /// Snapshots of which not everything could be read in the source: nothing of theirs was published. What was read
    /// of them is stored, and used by the next run.
    pub damaged: Vec<DamagedSource>,
    /// Chunks of contents that were read from the source.
    pub read_chunks: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

/// What one target was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyTarget {
    /// Its name.
    pub repository: RepositoryId,
    /// What is new there, oldest first; `origin` of each is the snapshot in the source.
    pub copied: Vec<Snapshot>,
    /// Snapshots of the source that it had already.
    pub present: Vec<PresentCopy>,
    /// Plaintext bytes of chunks that it had not.
    pub added_bytes: u64,
    /// What they took in packs.
    pub stored_bytes: u64,
}

/// A snapshot that need not be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresentCopy {
    /// In the source.
    pub source: SnapshotId,
    /// In the target.
    pub copy: SnapshotId,
}

/// A snapshot that could not be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedSource {
    /// In the source.
    pub snapshot: SnapshotId,
    /// Entries of it that could not be read; each was an [`Event::Problem`].
    pub problems: u64,
}

impl Repository {
    /// Copies snapshots into other repositories, reading each chunk once for all of them. A copy has an id of its own, and
    /// the source's as its `origin`; host, user, time, paths and tags are kept. What it was compared with becomes that one's
    /// copy, if there is one.
    ///
    /// Snapshots that a target has are left out, so the same call again goes on where an earlier one ended: what that
    /// had uploaded is found.
    ///
    /// Names of chunks and cut points are secrets of each repository. Chunks are copied as the source cut them, unless
    /// [`CopyOptions::rechunk`] is set: copies share chunks with later copies from the same source, and with backups
    /// made in the target only what is too small to be cut at all.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// # let first = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// # let second = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, CopyOptions, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// repository.backup(&source, &BackupOptions::new().host("laptop"), &Silent)?;
    /// let all = repository.snapshots(&SnapshotFilter::new())?.snapshots;
    /// let report = repository.copy_to(&[&first, &second], &all, &CopyOptions::new(), &Silent)?;
    /// assert!(report.targets.iter().all(|target| target.copied.len() == 1) && report.damaged.is_empty());
    ///
    /// let again = repository.copy_to(&[&first, &second], &all, &CopyOptions::new(), &Silent)?;
    /// assert!(again.targets.iter().all(|target| target.copied.is_empty() && target.present.len() == 1));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if a target is the source, or named twice; backend errors of a target; [`Error::Fenced`];
    /// [`Error::Cancelled`]. What was published before stays. What cannot be read in the source is no error: see
    /// [`CopyReport::damaged`].
    pub fn copy_to(
        &self,
        targets: &[&Repository],
        snapshots: &[Snapshot],
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<CopyReport> {
        pipeline::guarded(|| Run::new(self, targets, snapshots, options, progress)?.go())
    }
}

/// One copy.
struct Run<'r> {
    source: &'r Repository,
    store: Arc<Store>,
    options: &'r CopyOptions,
    progress: &'r dyn Progress,
    plan: Plan<'r>,
    report: CopyReport,
}

/// What a batch of snapshots may rely on in one target.
struct Ready {
    store: Arc<Store>,
    view: Arc<Index>,
    /// One for each snapshot of the batch that the target lacks, in their order.
    sessions: VecDeque<Session>,
    /// Chunks that this batch has made durable and indexed, and that the view does not know.
    stored: HashSet<ChunkId>,
}

impl<'r> Run<'r> {
    fn new(
        source: &'r Repository,
        targets: &[&'r Repository],
        snapshots: &[Snapshot],
        options: &'r CopyOptions,
        progress: &'r dyn Progress,
    ) -> Result<Self> {
        let mut ids = BTreeSet::from([source.id()]);
        if let Some(twice) = targets.iter().find(|target| !ids.insert(target.id())) {
            let place = twice.backend().place();
            return Err(Error::Usage(format!("{place} is the source of the copy, or named twice as its target")));
        }
        if let Some(level) = options.level.filter(|level| !(0..=19).contains(level)) {
            return Err(Error::Usage(format!("level {level}: from 1 to 19 are possible, and 0 for none")));
        }
        let plan = Plan::make(source, targets, snapshots)?;
        let report = CopyReport {
            targets: plan.targets.iter().map(plan::Target::report).collect(),
            damaged: Vec::new(),
            read_chunks: 0,
            read_bytes: 0,
        };
        let store = source.fresh_store()?;
        Ok(Self { source, store, options, progress, plan, report })
    }

    fn go(mut self) -> Result<CopyReport> {
        let todo = std::mem::take(&mut self.plan.todo);
        let roots = todo.iter().map(|(snapshot, _)| snapshot.record.root);
        let (files, bytes) = roots.fold((0u64, 0u64), |(files, bytes), root| {
            (files.saturating_add(root.entries), bytes.saturating_add(root.bytes))
        });
        self.progress.report(Event::Total { files, bytes });
        for batch in todo.chunks(BATCH) {
            self.copy_batch(batch)?;
        }
        Ok(self.report)
    }

    fn copy_batch(&mut self, batch: &[(Snapshot, Vec<usize>)]) -> Result<()> {
        let mut ready = self.get_ready(batch)?;
        let memos = Memos::new(ready.len());
        if !self.options.reread {
            self.seed(batch, &ready, &memos)?;
        }
        for (pass, (snapshot, lacking)) in batch.iter().enumerate() {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            memos.begin(pass as u32 + 1);
            self.copy_one(snapshot, lacking, &mut ready, &memos)?;
        }
        Ok(())
    }

    /// First every session of the batch, then what is there: see this file's head.
    fn get_ready(&self, batch: &[(Snapshot, Vec<usize>)]) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        for (number, target) in self.plan.targets.iter().enumerate() {
            let inner = &target.repository.inner;
            let mut sessions = VecDeque::new();
            for _ in batch.iter().filter(|(_, lacking)| lacking.contains(&number)) {
                let program = &self.options.program;
                sessions.push_back(Session::register(&inner.backend, &inner.keys, SessionKind::Copy, program)?);
            }
            target.repository.check_generations()?;
            let store = target.repository.fresh_store()?;
            ready.push(Ready { view: store.view(), store, sessions, stored: HashSet::new() });
        }
        Ok(ready)
    }

    /// Learns from the newest copy of each series what the target has: so it need not be read again. Nothing depends on
    /// this but work.
    fn seed(&self, batch: &[(Snapshot, Vec<usize>)], ready: &[Ready], memos: &Memos) -> Result<()> {
        let mut known: HashSet<(SeriesId, usize)> = HashSet::new();
        for (snapshot, lacking) in batch {
            for &number in lacking {
                if !known.insert((snapshot.record.series, number)) {
                    continue;
                }
                let Some((base, copy)) = self.plan.base(snapshot.record.series, number) else { continue };
                let pair = seed::Pair { source: &self.store, base, target: &ready[number], copy, number };
                if let Err(error) = pair.learn(memos, self.options.rechunk, self.progress) {
                    if matches!(error, Error::Cancelled) {
                        return Err(error);
                    }
                    let message = format!("an earlier copy is not used to save work: {error}");
                    self.progress.report(Event::Note { message: &message });
                }
            }
        }
        Ok(())
    }

    fn copy_one(&mut self, snapshot: &Snapshot, lacking: &[usize], ready: &mut [Ready], memos: &Memos) -> Result<()> {
        let sessions: Vec<Session> = lacking
            .iter()
            .map(|number| ready[*number].sessions.pop_front().ok_or_else(|| Error::Bug("too few sessions".into())))
            .collect::<Result<_>>()?;
        let (grown, problems, stored) = {
            let sealings: Vec<Sealing<'_>> = lacking
                .iter()
                .zip(&sessions)
                .map(|(number, session)| {
                    Sealing::new(&ready[*number].store, session.id(), self.writer_options(*number))
                })
                .collect();
            let (grown, problems) = self.grow(snapshot, lacking, ready, &sealings, memos)?;
            let mut stored = Vec::new();
            for ((number, sealing), grown) in lacking.iter().zip(&sealings).zip(&grown) {
                let packs = sealing.stored();
                stored.push((sealing.finish(grown.root, &ready[*number].view)?, packs.data_bytes + packs.meta_bytes));
            }
            (grown, problems, stored)
        };
        for ((((number, session), grown), (tree, stored_bytes)), place) in
            lacking.iter().zip(sessions).zip(grown).zip(stored).zip(0..)
        {
            let report = &mut self.report.targets[*number];
            report.added_bytes += grown.added_bytes;
            report.stored_bytes += stored_bytes;
            if place == 0 {
                self.report.read_chunks += grown.read_chunks;
                self.report.read_bytes += grown.read_bytes;
            }
            let ready = &mut ready[*number];
            ready.stored.extend(grown.stored);
            if !ready.view.report().unindexed.is_empty() {
                // They are indexed now, and need not be with every snapshot again.
                ready.store.reload()?;
                ready.view = ready.store.view();
            }
            if problems > 0 {
                session.give_up()?;
                continue;
            }
            let summary = Summary {
                data_chunks: grown.data_chunks,
                tree_chunks: grown.tree_chunks,
                added_bytes: grown.added_bytes,
                stored_bytes,
                ..snapshot.record.summary
            };
            let record = self.plan.record(snapshot, *number, summary)?;
            self.plan.targets[*number].repository.check_generations()?;
            let record = session.publish(&tree, record)?;
            let copy = Snapshot { record };
            self.plan.targets[*number].add(copy.clone());
            self.report.targets[*number].copied.push(copy);
        }
        if problems > 0 {
            self.report.damaged.push(DamagedSource { snapshot: snapshot.id(), problems });
        }
        Ok(())
    }

    /// Reads the source's tree once and builds all targets' trees from it.
    fn grow(
        &self,
        snapshot: &Snapshot,
        lacking: &[usize],
        ready: &[Ready],
        sealings: &[Sealing<'_>],
        memos: &Memos,
    ) -> Result<(Vec<Grown>, u64)> {
        let readers = self.source.inner.threads;
        let fetcher = Fetcher {
            source: &self.store,
            // Contents that are cut anew get their names when they are.
            names: match self.options.rechunk {
                true => Vec::new(),
                false => ready.iter().map(|ready| ready.store.keys().clone()).collect(),
            },
        };
        let grown = pipeline::scope(|scope| {
            let (items, order) = bounded(ITEMS_MAX);
            let (jobs, todo) = bounded(2 * readers);
            for _ in 0..readers {
                let (todo, fetcher) = (todo.clone(), &fetcher);
                scope.spawn("read", move || fetcher.work(&todo))?;
            }
            drop(todo);
            let budget = Budget::new(self.options.memory_bytes.max(MEMORY_MIN_BYTES));
            let mode = walk::Mode { rechunk: self.options.rechunk, lacking };
            let walker = Walker::new(&self.store, snapshot, mode, memos, budget, items, jobs, self.progress);
            scope.spawn("walk", move || walker.walk(lookup::root(snapshot)))?;
            let mut branches = Vec::new();
            for (number, sealing) in lacking.iter().zip(sealings) {
                let ready = &ready[*number];
                let chunker = self.options.rechunk.then(|| {
                    let config = self.plan.targets[*number].repository.config();
                    Chunker::new(config.chunker, ready.store.keys().gear())
                });
                branches.push(Branch::new(*number, ready, sealing.start(scope)?, chunker));
            }
            let mut assembly = Assembly::new(branches, memos, self.progress);
            assembly.take_all(order)?;
            assembly.finish()
        });
        for (sealing, number) in sealings.iter().zip(lacking) {
            // A thread's own error says more than that its channel closed.
            if let Err(error) = sealing.check() {
                let place = self.plan.targets[*number].repository.backend().place();
                self.progress.report(Event::Note { message: &format!("writing to {place} failed") });
                return Err(error);
            }
        }
        grown
    }

    fn writer_options(&self, number: usize) -> WriterOptions {
        let standard = self.plan.targets[number].repository.writer_options();
        WriterOptions {
            // All targets are written at once.
            threads: (self.source.inner.threads / self.plan.targets.len()).max(1),
            level: self.options.level.map_or(standard.level, i32::from),
            verify: self.options.verify,
            ..standard
        }
    }
}

/// What the copy was compared with is that one's copy; without one it stands alone.
fn mapped(lineage: LineageRecord, copy_of: impl Fn(SnapshotId) -> Option<SnapshotId>) -> LineageRecord {
    let (LineageRecord::Incremental { parent: of } | LineageRecord::Differential { base: of }) = lineage else {
        return LineageRecord::Full;
    };
    match (lineage, copy_of(of)) {
        (LineageRecord::Incremental { .. }, Some(parent)) => LineageRecord::Incremental { parent },
        (LineageRecord::Differential { .. }, Some(base)) => LineageRecord::Differential { base },
        _ => LineageRecord::Full,
    }
}
