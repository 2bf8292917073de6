//! Trees: every node opens, and everything that is referred to is stored in a pack that is whole. What is missing is kept by
//! name; which files that touches is looked for only if there is any (`touched`).

use std::collections::{HashMap, HashSet};

use super::packs::Lost;
use super::report::NAMED_MAX;
use crate::error::{Error, Result};
use crate::format::snapshot::SnapshotRecord;
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind, PackId};
use crate::ops::lookup::DEPTH_MAX;
use crate::progress::Progress;
use crate::store::{Index, Store};
use crate::tree::{self, Nodes};

/// What walking trees found.
#[derive(Debug, Default)]
pub struct Walked {
    /// Roots of directories and chunk lists, and whether all below them is whole.
    pub known: HashMap<ChunkId, bool>,
    /// Chunks that something refers to and that cannot be had, or that hold what no writer makes.
    pub missing: HashMap<ChunkId, ChunkKind>,
    /// Why, for the first of them.
    pub errors: HashMap<ChunkId, Error>,
    /// The packs that are referred to, if that was asked.
    pub packs: Option<HashSet<PackId>>,
}

/// The trees of many snapshots; what several share is looked at once.
pub struct Trees<'c> {
    store: &'c Store,
    view: &'c Index,
    lost: &'c Lost,
    progress: &'c dyn Progress,
    found: Walked,
}

struct Open<'c> {
    root: ChunkId,
    nodes: Nodes<'c>,
    is_whole: bool,
}

/// The chunk that an error is about: the one it names, else what contradicts itself.
pub fn subject(error: &Error, otherwise: ChunkId) -> ChunkId {
    match error {
        Error::ChunkLost { id, .. } | Error::CorruptChunk { id, .. } => *id,
        _ => otherwise,
    }
}

/// What a file's chunks hang on: the root of its list, or the directory that it is in.
pub fn holder(node: &Node, directory: ChunkId) -> ChunkId {
    match &node.content {
        Content::List { root, .. } => *root,
        _ => directory,
    }
}

impl<'c> Trees<'c> {
    /// `with_packs`: which packs are referred to is to be found out too.
    pub fn new(
        store: &'c Store,
        view: &'c Index,
        lost: &'c Lost,
        with_packs: bool,
        progress: &'c dyn Progress,
    ) -> Self {
        let found = Walked { packs: with_packs.then(HashSet::new), ..Walked::default() };
        Self { store, view, lost, progress, found }
    }

    /// What was found.
    pub fn finish(self) -> Walked {
        self.found
    }

    /// Looks at all of a snapshot.
    pub fn check(&mut self, record: &SnapshotRecord) -> Result<()> {
        let Some(root) = record.root.tree else { return Ok(()) };
        let top = Subtree { root, entries: record.root.entries, bytes: record.root.bytes };
        if self.found.known.contains_key(&root) {
            return Ok(());
        }
        let mut open = vec![self.open(&top)];
        loop {
            let depth = open.len();
            let Some(directory) = open.last_mut() else { break };
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let next = directory.nodes.next();
            let met = directory.nodes.take_met();
            self.refer(ChunkKind::Tree, &met);
            match next {
                Some(Ok(node)) => {
                    let is_whole = self.check_node(&node, directory.root)?;
                    directory.is_whole &= is_whole;
                    let Content::Directory(subtree) = &node.content else { continue };
                    match self.found.known.get(&subtree.root) {
                        Some(is_whole) => directory.is_whole &= is_whole,
                        None if depth >= DEPTH_MAX => {
                            directory.is_whole = false;
                            let error = Error::Malformed("a tree deeper than 4096 directories");
                            self.miss(ChunkKind::Tree, subtree.root, error);
                        }
                        None => open.push(self.open(subtree)),
                    }
                }
                Some(Err(error)) => {
                    directory.is_whole = false;
                    let id = subject(&error, directory.root);
                    self.miss_unless_final(ChunkKind::Tree, id, error)?;
                }
                None => {
                    let Some(done) = open.pop() else { break };
                    self.found.known.insert(done.root, done.is_whole);
                    if let Some(above) = open.last_mut() {
                        above.is_whole &= done.is_whole;
                    }
                }
            }
        }
        Ok(())
    }

    fn open(&self, subtree: &Subtree) -> Open<'c> {
        Open { root: subtree.root, nodes: tree::nodes(self.store, Some(subtree)).going_on(), is_whole: true }
    }

    fn check_node(&mut self, node: &Node, directory: ChunkId) -> Result<bool> {
        let xattrs = match &node.xattrs {
            Xattrs::Inline(_) => true,
            Xattrs::Chunk(id) => self.check_chunk(ChunkKind::Xattr, id),
        };
        let content = match &node.content {
            Content::Extents(_) => self.check_extents(node, directory)?,
            Content::List { root, .. } => match self.found.known.get(root) {
                Some(is_whole) => *is_whole,
                None => {
                    let is_whole = self.check_extents(node, directory)?;
                    self.found.known.insert(*root, is_whole);
                    is_whole
                }
            },
            _ => true,
        };
        Ok(xattrs && content)
    }

    fn check_extents(&mut self, node: &Node, directory: ChunkId) -> Result<bool> {
        let (mut is_whole, mut has_all) = (true, true);
        let mut length = 0u64;
        let mut extents = tree::extents(self.store, &node.content, 0).going_on();
        for extent in extents.by_ref() {
            match extent {
                Ok((position, extent)) => {
                    length = position.saturating_add(extent.length);
                    if let ExtentKind::Data(id) = extent.kind {
                        is_whole &= self.check_chunk(ChunkKind::Data, &id);
                    }
                }
                Err(error) => {
                    has_all = false;
                    let id = subject(&error, holder(node, directory));
                    self.miss_unless_final(ChunkKind::List, id, error)?;
                }
            }
        }
        let met = extents.take_met();
        self.refer(ChunkKind::List, &met);
        if has_all && length != node.metadata.size {
            let error = Error::Malformed("a file whose extents do not add up to its size");
            self.miss(ChunkKind::List, holder(node, directory), error);
            return Ok(false);
        }
        Ok(is_whole && has_all)
    }

    /// Whether a chunk is stored where it can be read.
    fn check_chunk(&mut self, kind: ChunkKind, id: &ChunkId) -> bool {
        self.refer(kind, &[*id]);
        // The index also distrusts whole packs of which one frame did not open; here each frame counts for itself.
        let is_stored = self.lost.is_empty() && self.view.contains(kind, id)
            || self
                .view
                .places(kind, id)
                .iter()
                .any(|place| !self.lost.contains(place) && !self.view.has_lost(&place.pack, id));
        if !is_stored {
            let problem = match self.view.places(kind, id).first() {
                Some(place) => format!("its pack {} is damaged", place.pack),
                None => "it is in no index and no pack".to_owned(),
            };
            self.miss(kind, *id, Error::ChunkLost { id: *id, problem });
        }
        is_stored
    }

    fn refer(&mut self, kind: ChunkKind, ids: &[ChunkId]) {
        let Some(packs) = &mut self.found.packs else { return };
        for id in ids {
            packs.extend(self.view.places(kind, id).iter().map(|place| place.pack));
        }
    }

    fn miss_unless_final(&mut self, kind: ChunkKind, id: ChunkId, error: Error) -> Result<()> {
        if let Error::Backend(_) | Error::Cancelled = error {
            return Err(error);
        }
        self.miss(kind, id, error);
        Ok(())
    }

    fn miss(&mut self, kind: ChunkKind, id: ChunkId, error: Error) {
        let is_new = self.found.missing.insert(id, kind).is_none();
        if is_new && self.found.errors.len() < NAMED_MAX {
            self.found.errors.insert(id, error);
        }
    }
}
