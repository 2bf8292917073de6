//! Snapshots that have lost something, published again without it: under a new id, with the old one as their origin.
//!
//! A file that lost any of its content is left out, since one with holes would look whole; what it was is said. A directory
//! that lost entries keeps those that can be read, perhaps none. Attributes that are lost are left off.

use std::sync::Arc;

use super::losses::{self, LostEntry, LostPart, Survey};
use crate::error::{Error, Result};
use crate::format::gc::Forgotten;
use crate::format::snapshot::{FLAG_INCOMPLETE, Root, SnapshotRecord};
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::ops::lookup::{self, Allowance};
use crate::pipeline;
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot, SnapshotFilter};
use crate::store::refuse_mirror;
use crate::store::{Index, Sealing, Session, SessionKind, Store, Writer, WriterOptions};
use crate::tree::{self, ChunkSink, ContentBuilder, Nodes, TreeBuilder};

/// How long a snapshot that was replaced can be brought back, in milliseconds: a week.
const WINDOW_MS: u64 = 7 * 24 * 3600 * 1000;

/// Entries of a snapshot that are named one by one.
const NAMED_MAX: usize = 1000;

/// How to repair snapshots.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairSnapshotsOptions {
    /// These; none: all.
    pub snapshots: Vec<SnapshotId>,
    /// Say what would be done.
    pub dry_run: bool,
    /// Forget what was replaced; it can be brought back for a week.
    pub forget: bool,
    /// What the new snapshots and the sessions say who wrote them.
    pub program: String,
}

/// What a repair of snapshots did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RepairSnapshotsReport {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Those that have lost something, in the order of their listing.
    pub repaired: Vec<RepairedSnapshot>,
    /// Snapshots that cannot be read themselves, named.
    pub unreadable: Vec<Error>,
}

/// A snapshot that has lost something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedSnapshot {
    /// Which one.
    pub snapshot: SnapshotId,
    /// What was published instead; `None` for a dry run.
    pub replacement: Option<SnapshotId>,
    /// It was forgotten.
    pub forgotten: bool,
    /// What is left out: a thousand entries at most.
    pub losses: Vec<LostEntry>,
    /// How many those are in all.
    pub loss_count: u64,
}

impl RepairSnapshotsOptions {
    /// All snapshots; those that are replaced stay.
    pub fn new() -> Self {
        Self::default()
    }

    /// One snapshot more; those that are not named are not looked at.
    pub fn snapshot(mut self, snapshot: SnapshotId) -> Self {
        self.snapshots.push(snapshot);
        self
    }

    /// Says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Forgets what was replaced.
    pub fn forget(mut self) -> Self {
        self.forget = true;
        self
    }
}

impl Repository {
    /// Publishes snapshots that have lost something again without it, each under a new id whose origin is the old one. Nothing
    /// is read but trees: which packs are damaged is found out, and recorded, by [`repair_packs`](Self::repair_packs).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, RepairSnapshotsOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let report = repository.repair_snapshots(&RepairSnapshotsOptions::new(), &Silent)?;
    /// assert_eq!(report.snapshots, 1);
    /// assert!(report.repaired.is_empty(), "nothing is lost");
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the place does not answer; [`Error::Fenced`] if another client ended the session; [`Error::Cancelled`].
    pub fn repair_snapshots(
        &self,
        options: &RepairSnapshotsOptions,
        progress: &dyn Progress,
    ) -> Result<RepairSnapshotsReport> {
        if !options.dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        pipeline::guarded(|| Run { repository: self, options, progress }.go())
    }
}

struct Run<'r> {
    repository: &'r Repository,
    options: &'r RepairSnapshotsOptions,
    progress: &'r dyn Progress,
}

impl Run<'_> {
    fn go(&self) -> Result<RepairSnapshotsReport> {
        self.progress.report(Event::Stage { name: "trees" });
        let list = self.repository.snapshots(&SnapshotFilter::default())?;
        let mut report = RepairSnapshotsReport { unreadable: list.unreadable, ..RepairSnapshotsReport::default() };
        let is_meant = |id: &SnapshotId| self.options.snapshots.is_empty() || self.options.snapshots.contains(id);
        let chosen: Vec<_> = list.snapshots.into_iter().filter(|snapshot| is_meant(&snapshot.id())).collect();
        let store = self.repository.fresh_store()?;
        let view = store.view();
        let mut survey = Survey::new(&store, &view, self.progress);
        for snapshot in &chosen {
            report.snapshots += 1;
            let found = Losses::find(&mut survey, snapshot)?;
            if found.count > 0 {
                report.repaired.push(self.repair(snapshot, found)?);
            }
        }
        Ok(report)
    }

    fn repair(&self, snapshot: &Snapshot, found: Losses) -> Result<RepairedSnapshot> {
        let mut repaired = RepairedSnapshot {
            snapshot: snapshot.id(),
            replacement: None,
            forgotten: false,
            losses: found.named,
            loss_count: found.count,
        };
        if self.options.dry_run {
            return Ok(repaired);
        }
        let inner = &self.repository.inner;
        // Registered before the index is read that everything is looked up in (invariant 7).
        let session = Session::register(&inner.backend, &inner.keys, SessionKind::Retag, &self.options.program)?;
        let store = self.repository.fresh_store()?;
        let view = store.view();
        let mut survey = Survey::new(&store, &view, self.progress);
        let found = Losses::find(&mut survey, snapshot)?;
        if found.count == 0 {
            // It was healed meanwhile.
            session.give_up()?;
            return Ok(RepairedSnapshot { losses: Vec::new(), loss_count: 0, ..repaired });
        }
        (repaired.losses, repaired.loss_count) = (found.named, found.count);
        let (root, sealing) = self.rebuild(&session, &store, &view, survey, snapshot)?;
        let tree = sealing.finish(root, &view)?;
        self.repository.check_generations()?;
        let record = session.publish(&tree, self.record(snapshot))?;
        repaired.replacement = Some(record.id);
        if self.options.forget {
            let at_ms = host::now_ms();
            self.repository.write_forgotten(&Forgotten {
                snapshot: snapshot.id(),
                at_ms,
                purge_after_ms: at_ms.saturating_add(WINDOW_MS),
                reason: format!("repaired as {}", record.id.short()),
                by: snapshot.record.user.clone(),
                extensions: Vec::new(),
            })?;
            repaired.forgotten = true;
        }
        Ok(repaired)
    }

    fn record(&self, snapshot: &Snapshot) -> SnapshotRecord {
        SnapshotRecord {
            flags: snapshot.record.flags | FLAG_INCOMPLETE,
            origin: Some(snapshot.id()),
            config_generation: self.repository.config().generation,
            keyring_generation: self.repository.inner.keyring_generation,
            program: self.options.program.clone(),
            ..snapshot.record.clone()
        }
    }

    /// The tree without what is lost.
    fn rebuild<'s>(
        &self,
        session: &Session,
        store: &'s Arc<Store>,
        view: &Index,
        survey: Survey<'_>,
        snapshot: &Snapshot,
    ) -> Result<(Root, Sealing<'s>)> {
        let options = WriterOptions { threads: 1, ..self.repository.writer_options() };
        let sealing = Sealing::new(store, session.id(), options);
        let root = pipeline::scope(|scope| {
            let sink = Sink { store, view, writer: sealing.start(scope)? };
            let mut rebuild = Rebuild { sink, survey, may_share: view.is_reliable(), progress: self.progress };
            let root = rebuild.tree(snapshot)?;
            rebuild.sink.writer.finish()?;
            Ok(root)
        });
        sealing.check()?;
        Ok((root?, sealing))
    }
}

/// What one snapshot has lost.
#[derive(Default)]
struct Losses {
    named: Vec<LostEntry>,
    count: u64,
}

impl Losses {
    fn find(survey: &mut Survey<'_>, snapshot: &Snapshot) -> Result<Self> {
        let mut losses = Self::default();
        survey.walk(snapshot, &mut |entry| {
            losses.count += 1;
            if losses.named.len() < NAMED_MAX {
                losses.named.push(entry);
            }
        })?;
        Ok(losses)
    }
}

struct Sink<'a, 'scope, 's> {
    store: &'a Store,
    view: &'a Index,
    writer: Writer<'scope, 's>,
}

impl ChunkSink for Sink<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.store.keys().chunk_id(kind, &bytes);
        self.writer.put(kind, id, &bytes, false, 0, self.view)?;
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.store.keys().splits_tree_after(name)
    }
}

impl Sink<'_, '_, '_> {
    /// Stores a chunk again that is there and not where a writer may rely on it: in a pack that is condemned or recorded as
    /// damaged.
    fn secure(&mut self, kind: ChunkKind, id: &ChunkId, owner: u64) -> Result<()> {
        if !self.view.contains(kind, id) {
            let bytes = self.store.get(kind, id)?;
            self.writer.put(kind, *id, &bytes, false, owner, self.view)?;
        }
        Ok(())
    }
}

/// One tree on its way.
struct Rebuild<'a, 'scope, 's> {
    sink: Sink<'a, 'scope, 's>,
    survey: Survey<'a>,
    /// Whole directories are taken as they are. Else every chunk is looked up, since some are not where they may be relied on.
    may_share: bool,
    progress: &'a dyn Progress,
}

struct Level<'a> {
    /// The directory's own node; the top has none.
    node: Option<Node>,
    nodes: Nodes<'a>,
    tree: TreeBuilder,
}

fn level(store: &Store, node: Option<Node>, subtree: Option<Subtree>) -> Level<'_> {
    Level { node, nodes: tree::nodes(store, subtree.as_ref()), tree: TreeBuilder::new() }
}

impl Rebuild<'_, '_, '_> {
    fn tree(&mut self, snapshot: &Snapshot) -> Result<Root> {
        let mut allowance = Allowance::of(snapshot);
        let store = self.sink.store;
        let mut open = vec![level(store, None, lookup::root(snapshot))];
        loop {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let depth = open.len();
            let Some(innermost) = open.last_mut() else {
                return Err(Error::Bug("a tree ended above its top".into()));
            };
            match innermost.nodes.next() {
                Some(Ok(node)) => {
                    allowance.take(&node.metadata)?;
                    let Some(node) = self.keep(node)? else { continue };
                    match &node.content {
                        Content::Directory(subtree) if !(self.may_share && self.survey.is_whole(&subtree.root)) => {
                            losses::check_depth(depth)?;
                            let subtree = *subtree;
                            open.push(level(store, Some(node), Some(subtree)));
                        }
                        _ => innermost.tree.push(&node, &mut self.sink)?,
                    }
                }
                // Named already; what came before it is kept.
                Some(Err(error)) => losses::is_loss(error)?,
                None => {
                    let Some(done) = open.pop() else { continue };
                    let (entries, bytes) = done.tree.totals();
                    let subtree = done.tree.finish(&mut self.sink)?;
                    match (done.node, open.last_mut()) {
                        (Some(mut node), Some(above)) => {
                            node.content = subtree.map_or(Content::None, Content::Directory);
                            above.tree.push(&node, &mut self.sink)?;
                        }
                        _ => return Ok(Root { tree: subtree.map(|subtree| subtree.root), entries, bytes }),
                    }
                }
            }
        }
    }

    /// A node without what it has lost; `None` for a file that lost content.
    fn keep(&mut self, mut node: Node) -> Result<Option<Node>> {
        let loss = self.survey.loss_of(&node)?;
        if loss.content {
            return Ok(None);
        }
        if loss.attributes {
            node.xattrs = Xattrs::Inline(Vec::new());
        }
        if self.may_share {
            return Ok(Some(node));
        }
        if let Xattrs::Chunk(id) = &node.xattrs {
            self.sink.secure(ChunkKind::Xattr, id, 0)?;
        }
        if matches!(node.content, Content::Extents(_) | Content::List { .. }) {
            let mut content = ContentBuilder::new();
            for extent in tree::extents(self.sink.store, &node.content, 0) {
                let (_, extent) = extent?;
                if let ExtentKind::Data(id) = extent.kind {
                    self.sink.secure(ChunkKind::Data, &id, node.metadata.uid.into())?;
                }
                content.push(extent, &mut self.sink)?;
            }
            node.content = content.finish(&mut self.sink)?;
        }
        Ok(Some(node))
    }
}

impl RepairedSnapshot {
    /// Whether anything of a file's content is left out.
    pub fn lost_content(&self) -> bool {
        self.losses.iter().any(|entry| entry.part != LostPart::Attributes)
    }
}
