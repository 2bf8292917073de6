//! Published snapshots without some of their paths, or of another host or time: each under a new id, with the old one as its
//! origin. Trees are rewritten, contents are not read, and what is equal is rewritten once.

mod filter;
mod shape;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use filter::{Filter, Memo, Rewritten};
use shape::Shape;

use crate::error::{Corruption, Error, Result};
use crate::format::snapshot::{LineageRecord, Root, SnapshotRecord};
use crate::id::SnapshotId;
use crate::ops::lookup::sink::{Naming, Storing};
use crate::pipeline;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot, SnapshotFilter};
use crate::store::{Index, Sealing, Session, SessionKind, Store, WriterOptions, refuse_mirror};
use crate::walk::filter::Patterns;

/// How long a snapshot that lost paths can be brought back, unless asked otherwise, in milliseconds: a week.
const WINDOW_MS: u64 = 7 * 24 * 3600 * 1000;

/// What is changed about snapshots. `new()` changes nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RewriteOptions {
    /// Left out, with all below it.
    pub exclude: Patterns,
    /// Unless there are none, the only ones to stay, with the directories on the way to them. Not together with `exclude`.
    pub include: Patterns,
    /// What is added to the record of what was left out, for people.
    pub exclude_texts: Vec<String>,
    /// The host that it is said to be of.
    pub host: Option<String>,
    /// When it is said to have begun, in nanoseconds since 1970 UTC. It ends as much later as it did.
    pub time_ns: Option<i64>,
    /// Count files and bytes anew, also of snapshots that are as they should be otherwise.
    pub recount: bool,
    /// Tags that new snapshots get too.
    pub tags: Vec<String>,
    /// Forget what was replaced.
    pub forget: bool,
    /// How long what was forgotten can be brought back, in milliseconds. 0: not after the next prune.
    pub window_ms: u64,
    /// Say what would be done.
    pub dry_run: bool,
    /// Recorded for people: who.
    pub by: String,
    /// The name and version of the program.
    pub program: String,
}

/// What became of the snapshots.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RewriteReport {
    /// Those that were looked at.
    pub snapshots: u64,
    /// Those that differ now, or would, in the order of the question. All others are as they should be.
    pub rewritten: Vec<RewrittenSnapshot>,
    /// Those of which nothing would be left: they stay as they are.
    pub emptied: Vec<SnapshotId>,
    /// Those that are as they were, each with the reason.
    pub failed: Vec<(SnapshotId, Error)>,
}

/// A snapshot that was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewrittenSnapshot {
    /// Which one.
    pub snapshot: SnapshotId,
    /// What is there instead; `None` for a dry run.
    pub replacement: Option<Snapshot>,
    /// It was there already, made by an earlier run.
    pub was_there: bool,
    /// The old one was forgotten.
    pub forgotten: bool,
    /// Files that are left out.
    pub removed_files: u64,
    /// Entries of all kinds that are left out.
    pub removed_entries: u64,
    /// Bytes of the files that are left out.
    pub removed_bytes: u64,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        Self {
            exclude: Patterns::new(),
            include: Patterns::new(),
            exclude_texts: Vec::new(),
            host: None,
            time_ns: None,
            recount: false,
            tags: Vec::new(),
            forget: false,
            window_ms: WINDOW_MS,
            dry_run: false,
            by: String::new(),
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl RewriteOptions {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out what matches.
    pub fn exclude(mut self, patterns: Patterns) -> Self {
        self.exclude = patterns;
        self
    }

    /// Keeps only what matches.
    pub fn include(mut self, patterns: Patterns) -> Self {
        self.include = patterns;
        self
    }

    /// Says that it is of this host.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Says that it was begun then, in nanoseconds since 1970 UTC.
    pub fn time_ns(mut self, time_ns: i64) -> Self {
        self.time_ns = Some(time_ns);
        self
    }

    /// Forgets what was replaced.
    pub fn forget(mut self) -> Self {
        self.forget = true;
        self
    }

    /// How long what was forgotten can be brought back, in milliseconds.
    pub fn window_ms(mut self, window_ms: u64) -> Self {
        self.window_ms = window_ms;
        self
    }

    /// Says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl Repository {
    /// Rewrites snapshots. Each that differs is published under a new id; with `forget` the old one is forgotten then. A run that
    /// was interrupted is completed by the next: what is there already is not made again. Pinned snapshots are not forgotten.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, RewriteOptions, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new().host("wrong"), &Silent)?;
    /// let snapshots = repository.snapshots(&SnapshotFilter::new().host("wrong"))?.snapshots;
    /// let options = RewriteOptions::new().host("right").forget();
    /// let report = repository.rewrite(&snapshots, &options, &Silent)?;
    /// assert_eq!(report.rewritten.len(), 1);
    /// let all = repository.snapshots(&SnapshotFilter::new())?.snapshots;
    /// assert_eq!(all[0].record().host, "right");
    /// assert_eq!(all[0].record().origin, Some(snapshots[0].id()));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// None for a single snapshot, see [`RewriteReport::failed`]; backend errors; [`Error::Usage`] if something is to be both left
    /// out and the only thing to stay; [`Error::Cancelled`].
    pub fn rewrite(
        &self,
        snapshots: &[Snapshot],
        options: &RewriteOptions,
        progress: &dyn Progress,
    ) -> Result<RewriteReport> {
        if !options.exclude.is_empty() && !options.include.is_empty() {
            return Err(Error::Usage("what is left out and what alone stays cannot both be named".to_owned()));
        }
        if !options.dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        pipeline::guarded(|| Run::new(self, options, progress)?.go(snapshots))
    }
}

struct Run<'r> {
    repository: &'r Repository,
    options: &'r RewriteOptions,
    progress: &'r dyn Progress,
    /// What is shown, by the snapshot that it says it comes from.
    successors: HashMap<SnapshotId, Vec<Snapshot>>,
    /// What took the place of what, in this run.
    replaced: BTreeMap<SnapshotId, SnapshotId>,
    /// What storing found out, and the snapshots that hold it up.
    memo: Memo,
    held_by: BTreeSet<SnapshotId>,
}

/// A snapshot that is to be rewritten.
struct Planned<'s> {
    snapshot: &'s Snapshot,
    rewritten: Rewritten,
    record: SnapshotRecord,
}

impl<'r> Run<'r> {
    fn new(repository: &'r Repository, options: &'r RewriteOptions, progress: &'r dyn Progress) -> Result<Self> {
        let mut successors: HashMap<SnapshotId, Vec<Snapshot>> = HashMap::new();
        for snapshot in repository.snapshots(&SnapshotFilter::default())?.snapshots {
            if let Some(origin) = snapshot.record.origin {
                successors.entry(origin).or_default().push(snapshot);
            }
        }
        let (replaced, held_by) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { repository, options, progress, successors, replaced, memo: Memo::default(), held_by })
    }

    fn go(mut self, snapshots: &[Snapshot]) -> Result<RewriteReport> {
        self.progress.report(Event::Stage { name: "trees" });
        let mut report = RewriteReport { snapshots: snapshots.len() as u64, ..RewriteReport::default() };
        let planned = self.plan(snapshots, &mut report)?;
        // Nothing is stored yet of what was found so far.
        self.memo.forget();
        for planned in planned {
            let id = planned.snapshot.id();
            match self.rewrite(planned) {
                Ok(rewritten) => report.rewritten.push(rewritten),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => report.failed.push((id, error)),
            }
        }
        Ok(report)
    }

    /// Which snapshots differ, found out without writing anything.
    fn plan<'s>(&mut self, snapshots: &'s [Snapshot], report: &mut RewriteReport) -> Result<Vec<Planned<'s>>> {
        let store = self.repository.fresh_store()?;
        let memo = &mut self.memo;
        let mut planned = Vec::new();
        for snapshot in snapshots {
            let mut filter = Filter::new(&store, self.options, self.progress, Naming(&store), memo);
            let rewritten = match filter.tree(snapshot) {
                Ok(rewritten) => rewritten,
                Err(error @ (Error::Cancelled | Error::Backend(_))) => return Err(error),
                Err(error) => {
                    report.failed.push((snapshot.id(), error));
                    continue;
                }
            };
            if rewritten.root.tree.is_none() && snapshot.record.root.tree.is_some() {
                report.emptied.push(snapshot.id());
                continue;
            }
            let recounted = match self.options.recount {
                true => Some(shape::count(&store, &snapshot.record.root, &mut memo.files, self.progress)?),
                false => None,
            };
            let shape = Shape { options: self.options, repository: self.repository };
            if let Some(record) = shape.applied(&snapshot.record, &rewritten, recounted) {
                planned.push(Planned { snapshot, rewritten, record });
            }
        }
        Ok(planned)
    }

    fn rewrite(&mut self, planned: Planned<'_>) -> Result<RewrittenSnapshot> {
        let Planned { snapshot, rewritten, record } = planned;
        let id = snapshot.id();
        let mut done = RewrittenSnapshot {
            snapshot: id,
            replacement: None,
            was_there: false,
            forgotten: false,
            removed_files: rewritten.removed.files,
            removed_entries: rewritten.removed.entries,
            removed_bytes: rewritten.removed.bytes,
        };
        if self.options.forget && snapshot.is_pinned() {
            return Err(Error::Usage("it is pinned, so it is not replaced".to_owned()));
        }
        let known = self.successors.get(&id).into_iter().flatten();
        let is_it = |known: &&Snapshot| shape::is_as_wanted(&known.record, &record, &rewritten.root);
        let known = known.into_iter().find(is_it).cloned();
        done.was_there = known.is_some();
        if self.options.dry_run {
            return Ok(done);
        }
        let new = match known {
            Some(known) => known,
            None => self.publish(snapshot, record)?,
        };
        self.replaced.insert(id, new.id());
        if self.options.forget {
            // What has all that the old one had need not be kept twice.
            let lost_something = new.record.root != snapshot.record.root;
            let window_ms = if lost_something { self.options.window_ms } else { 0 };
            self.repository.supersede(snapshot, &new, &self.options.by, window_ms)?;
            done.forgotten = true;
        }
        done.replacement = Some(new);
        Ok(done)
    }

    /// The tree once more, with what is new of it stored, and the snapshot.
    fn publish(&mut self, snapshot: &Snapshot, mut record: SnapshotRecord) -> Result<Snapshot> {
        let inner = &self.repository.inner;
        // Registered before the index is loaded, so that nobody takes away what is relied on from here on (invariant 7).
        let session = Session::register(&inner.backend, &inner.keys, SessionKind::Retag, &self.options.program)?;
        let store = self.repository.fresh_store()?;
        let view = store.view();
        self.look_again(snapshot, &store, &view)?;
        let options = WriterOptions { threads: 1, ..self.repository.writer_options() };
        let sealing = Sealing::new(&store, session.id(), options);
        let root = self.store_tree(snapshot, &store, &view, &sealing)?;
        record.lineage = self.mapped(record.lineage);
        let tree = sealing.finish(root, &view)?;
        self.repository.check_generations()?;
        let new = Snapshot { record: session.publish(&tree, record)? };
        self.held_by.insert(new.id());
        Ok(new)
    }

    /// What a writer may rely on: what the old snapshot refers to, which is still shown, and what this run published, as long as
    /// all of that is shown too. Where packs are condemned each chunk is looked for.
    fn look_again(&mut self, snapshot: &Snapshot, store: &Store, view: &Index) -> Result<()> {
        let id = snapshot.id();
        let there: BTreeSet<SnapshotId> = self.repository.snapshot_ids()?.into_iter().collect();
        let forgotten = self.repository.forgotten_ids()?;
        let is_shown = |id: &SnapshotId| there.contains(id) && !forgotten.contains(id);
        let is_published = match self.repository.read_published(id) {
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => false,
            published => published?.is_some(),
        };
        if !is_published || !is_shown(&id) {
            return Err(Error::NoSnapshot { selector: id.short() });
        }
        if view.has_condemned() || !self.held_by.iter().all(is_shown) {
            self.memo.forget();
        }
        match &snapshot.record.root.tree {
            Some(root) if view.has_condemned() => self.repository.require(store, root, self.progress),
            _ => Ok(()),
        }
    }

    fn store_tree(
        &mut self,
        snapshot: &Snapshot,
        store: &Arc<Store>,
        view: &Index,
        sealing: &Sealing<'_>,
    ) -> Result<Root> {
        let (options, progress, memo) = (self.options, self.progress, &mut self.memo);
        let root = pipeline::scope(|scope| {
            let sink = Storing { store, view, writer: sealing.start(scope)? };
            let mut filter = Filter::new(store, options, progress, sink, memo);
            let rewritten = filter.tree(snapshot)?;
            filter.into_sink().writer.finish()?;
            Ok(rewritten.root)
        });
        let checked = sealing.check();
        if checked.is_err() || root.is_err() {
            // It may name what was never stored.
            self.memo.forget();
        }
        checked?;
        root
    }

    /// What it was compared with, if that has another name now.
    fn mapped(&self, lineage: LineageRecord) -> LineageRecord {
        let now = |id: SnapshotId| self.replaced.get(&id).copied().unwrap_or(id);
        match lineage {
            LineageRecord::Full => LineageRecord::Full,
            LineageRecord::Incremental { parent } => LineageRecord::Incremental { parent: now(parent) },
            LineageRecord::Differential { base } => LineageRecord::Differential { base: now(base) },
        }
    }
}

#[cfg(test)]
mod tests;
