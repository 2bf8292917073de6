//! Trees that no snapshot refers to, made into one: what is left of snapshots that were lost, and of backups that were cut off.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::snapshot::{LineageRecord, Root, SnapshotRecord, Summary};
use crate::format::tree::{Content, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs};
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::ops::lookup::sink::Storing;
use crate::pipeline;
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Published, Repository, Seen, Snapshot};
use crate::store::{ChunkSet, Index, Sealing, Session, SessionKind, Store, WriterOptions, refuse_mirror};
use crate::tree::{self, TreeBuilder, Visitor};

/// What such snapshots are of.
const SERIES: &[u8] = b"recover\0";
const PATH: &[u8] = b"/recover";
const TAG: &str = "recovered";

/// How trees are recovered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoverOptions {
    /// The host that the snapshot is said to be of.
    pub host: String,
    /// Who made it.
    pub user: String,
    /// Say what would be done.
    pub dry_run: bool,
    /// The name and version of the program.
    pub program: String,
}

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RecoverReport {
    /// Nodes of trees that were looked at.
    pub nodes: u64,
    /// The trees that nothing refers to and that are whole: each is a directory of the snapshot, called by its name.
    pub trees: Vec<ChunkId>,
    /// Trees that have lost something. What is whole below them is among [`trees`](Self::trees).
    pub broken: u64,
    /// Snapshots and nodes that cannot be read.
    pub unreadable: Vec<Error>,
    /// `None` if there is nothing to recover, or for a dry run.
    pub snapshot: Option<Snapshot>,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            host: String::new(),
            user: String::new(),
            dry_run: false,
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl RecoverOptions {
    /// Of no host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of this host.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl Repository {
    /// Finds the trees that no snapshot refers to, forgotten ones included as long as they can be brought back, and publishes a
    /// snapshot of them. Every node of every tree is read. A backup that is at work beside it has such trees too.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, Doubled, ObjectName, RecoverOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// let lost = repository.backup(&source, &BackupOptions::new(), &Silent)?.snapshot.expect("published").id();
    /// repository.backend().remove(&ObjectName::Snapshot(lost))?;
    /// repository.backend().remove(&ObjectName::SecondCopy(Doubled::Snapshot(lost)))?;
    ///
    /// let report = repository.recover(&RecoverOptions::new(), &Silent)?;
    /// let (tree, snapshot) = (report.trees[0], report.snapshot.expect("something was found"));
    /// let path = format!("/{tree}/notes");
    /// assert_eq!(repository.node(&snapshot, path.as_bytes())?.metadata.size, 8);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the place does not answer; [`Error::Fenced`] if another client ended the session; [`Error::Cancelled`].
    pub fn recover(&self, options: &RecoverOptions, progress: &dyn Progress) -> Result<RecoverReport> {
        if options.dry_run {
            let store = self.fresh_store()?;
            let view = store.view();
            return pipeline::guarded(|| self.find_orphans(&store, &view, progress)).map(|found| found.0);
        }
        refuse_mirror(self.backend().as_ref())?;
        pipeline::guarded(|| self.recover_orphans(options, progress))
    }

    fn recover_orphans(&self, options: &RecoverOptions, progress: &dyn Progress) -> Result<RecoverReport> {
        let inner = &self.inner;
        // Registered before the index is loaded, so that nobody takes away what is relied on from here on (invariant 7).
        let session = Session::register(&inner.backend, &inner.keys, SessionKind::Retag, &options.program)?;
        let store = self.fresh_store()?;
        let view = store.view();
        let (mut report, trees) = self.find_orphans(&store, &view, progress)?;
        if trees.is_empty() {
            session.give_up()?;
            return Ok(report);
        }
        let sealing = Sealing::new(&store, session.id(), WriterOptions { threads: 1, ..self.writer_options() });
        let root = pipeline::scope(|scope| {
            let mut sink = Storing { store: &store, view: &view, writer: sealing.start(scope)? };
            let mut top = TreeBuilder::new();
            for (tree, subtree) in &trees {
                top.push(&directory(tree, *subtree), &mut sink)?;
            }
            let (entries, bytes) = top.totals();
            let subtree = top.finish(&mut sink)?;
            sink.writer.finish()?;
            Ok(Root { tree: subtree.map(|subtree| subtree.root), entries, bytes })
        });
        sealing.check()?;
        let tree = sealing.finish(root?, &view)?;
        self.check_generations()?;
        let record = session.publish(&tree, self.recovered(options)?)?;
        report.snapshot = Some(Snapshot { record });
        Ok(report)
    }

    /// The trees that nothing refers to, and what is in each.
    fn find_orphans(
        &self,
        store: &Store,
        view: &Index,
        progress: &dyn Progress,
    ) -> Result<(RecoverReport, BTreeMap<ChunkId, Subtree>)> {
        progress.report(Event::Stage { name: "trees" });
        // After the index: what a backup published since then is no orphan.
        let Published { snapshots, unreadable } = self.published()?;
        let roots: Vec<ChunkId> = snapshots.iter().filter_map(|(snapshot, _)| snapshot.record.root.tree).collect();
        let mut search = Search::new(store, view, progress);
        for root in &roots {
            view.insert_into(&mut search.referred, ChunkKind::Tree, root);
        }
        // Nobody knows which trees those had: they are found too.
        search.report.unreadable = unreadable;
        let orphans = search.orphans()?;
        let mut broken = Vec::new();
        for orphan in orphans {
            search.take(orphan, &mut broken)?;
        }
        if !broken.is_empty() {
            search.descend(&roots, broken)?;
        }
        let Search { found, mut report, .. } = search;
        report.trees = found.keys().copied().collect();
        Ok((report, found))
    }

    fn recovered(&self, options: &RecoverOptions) -> Result<SnapshotRecord> {
        let now_ns = host::now_ns();
        let series = self.inner.keys.series(SERIES);
        let last = self.series(series)?.last().map(|last| last.record.sequence);
        let user = host::current_user();
        Ok(SnapshotRecord {
            id: SnapshotId([0; 16]), // the session's; set when it is published
            series,
            sequence: last.map_or(0, |last| last.saturating_add(1)),
            lineage: LineageRecord::Full,
            flags: 0,
            origin: None,
            parent_digest: [0; 32],
            config_generation: self.config().generation,
            keyring_generation: self.inner.keyring_generation,
            start_ns: now_ns,
            end_ns: now_ns,
            zone_minutes: 0,
            host: options.host.clone(),
            user: options.user.clone(),
            uid: user.uid,
            gid: user.gid,
            paths: vec![PATH.to_vec()],
            excludes: Vec::new(),
            tags: vec![TAG.to_owned()],
            program: options.program.clone(),
            root: Root { tree: None, entries: 0, bytes: 0 }, // set when it is published
            summary: Summary::default(),
            extensions: Vec::new(),
        })
    }
}

/// The directory of a tree: nobody but who restores it may look into it.
fn directory(tree: &ChunkId, subtree: Subtree) -> Node {
    let now_ns = host::now_ns();
    let (seconds, nanoseconds) = (now_ns.div_euclid(1_000_000_000), now_ns.rem_euclid(1_000_000_000) as u32);
    let user = host::current_user();
    let metadata = Metadata {
        uid: user.uid,
        gid: user.gid,
        user: user.name.map(|name| name.as_bytes().to_vec()).unwrap_or_default(),
        modified: Timestamp { seconds, nanoseconds },
        changed: Timestamp { seconds, nanoseconds },
        ..Metadata::unknown(NodeKind::Directory, 0o700)
    };
    let (name, content, xattrs) =
        (tree.to_string().into_bytes(), Content::Directory(subtree), Xattrs::Inline(Vec::new()));
    Node { name, metadata, content, xattrs, extensions: Vec::new() }
}

/// Looks for trees without anybody who refers to them.
struct Search<'s> {
    store: &'s Store,
    view: &'s Index,
    progress: &'s dyn Progress,
    /// Nodes that a snapshot or another node refers to.
    referred: ChunkSet,
    /// What may be relied on, with all that is below it.
    seen: Seen<'s>,
    found: BTreeMap<ChunkId, Subtree>,
    report: RecoverReport,
}

impl<'s> Search<'s> {
    fn new(store: &'s Store, view: &'s Index, progress: &'s dyn Progress) -> Self {
        let (referred, seen) = (view.empty_set(), Seen::new(view, progress));
        Self { store, view, progress, referred, seen, found: BTreeMap::new(), report: RecoverReport::default() }
    }

    /// The nodes that no other refers to, each with what is in it. Reads every node, in the order of the packs.
    fn orphans(&mut self) -> Result<Vec<ChunkId>> {
        let mut read = Vec::new();
        for number in 0..self.view.number_count() as u32 {
            let (kind, id, _) = self.view.chunk(number);
            if kind != ChunkKind::Tree || self.view.number(kind, id) != Some(number) {
                continue;
            }
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.report.nodes += 1;
            match tree::children(self.store, id) {
                Ok(children) => {
                    for child in children {
                        self.view.insert_into(&mut self.referred, ChunkKind::Tree, &child);
                    }
                    read.push(number);
                }
                Err(error @ (Error::Backend(_) | Error::Cancelled)) => return Err(error),
                Err(error) => self.report.unreadable.push(error),
            }
        }
        let ids = read.into_iter().map(|number| *self.view.chunk(number).1);
        Ok(ids.filter(|id| !self.view.is_in(&self.referred, ChunkKind::Tree, id)).collect())
    }

    /// Takes a tree if it is whole.
    fn take(&mut self, id: ChunkId, broken: &mut Vec<ChunkId>) -> Result<()> {
        match self.seen.look(self.store, &id).and_then(|()| tree::subtree(self.store, &id)) {
            Ok(subtree) => {
                self.found.insert(id, subtree);
                Ok(())
            }
            Err(error @ (Error::Backend(_) | Error::Cancelled)) => Err(error),
            Err(_) => {
                self.report.broken += 1;
                broken.push(id);
                Ok(())
            }
        }
    }

    /// Of broken trees what is whole below them, and what no snapshot and no whole tree has.
    fn descend(&mut self, roots: &[ChunkId], mut broken: Vec<ChunkId>) -> Result<()> {
        let mut had = Had { view: self.view, set: self.view.empty_set(), progress: self.progress };
        for root in roots.iter().chain(self.found.keys()) {
            tree::references(self.store, root, &mut had)?;
        }
        while let Some(id) = broken.pop() {
            // It was read before; what cannot be read now has nothing to offer.
            for child in tree::children(self.store, &id).unwrap_or_default() {
                let is_new = had.view.insert_into(&mut had.set, ChunkKind::Tree, &child).unwrap_or(false);
                if !is_new {
                    continue;
                }
                let known = self.found.len();
                self.take(child, &mut broken)?;
                if self.found.len() > known {
                    tree::references(self.store, &child, &mut Below(&mut had, child))?;
                }
            }
        }
        Ok(())
    }
}

/// What somebody has already.
struct Had<'v> {
    view: &'v Index,
    set: ChunkSet,
    progress: &'v dyn Progress,
}

impl Visitor for Had<'_> {
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(self.view.insert_into(&mut self.set, kind, id).unwrap_or(false))
    }

    /// What is below it, nobody has.
    fn lost(&mut self, _: Error) -> Result<()> {
        Ok(())
    }
}

/// The same of a tree whose own top is among them already.
struct Below<'a, 'v>(&'a mut Had<'v>, ChunkId);

impl Visitor for Below<'_, '_> {
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        Ok(self.0.meet(kind, id)? || *id == self.1)
    }

    fn lost(&mut self, error: Error) -> Result<()> {
        self.0.lost(error)
    }
}

#[cfg(test)]
mod tests;
