//! What snapshots have lost: the entries that need a chunk which is nowhere.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind, SnapshotId};
use crate::ops::lookup::{self, Allowance, DEPTH_MAX};
use crate::progress::Progress;
use crate::repository::Snapshot;
use crate::store::{Index, Store};
use crate::tree::{self, Nodes};

/// An entry that has lost something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostEntry {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Raw bytes, beginning with `/`; `/` alone for the top.
    pub path: Vec<u8>,
    /// What it lost.
    pub part: LostPart,
}

/// What an entry lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostPart {
    /// Some of a file's content.
    Content,
    /// Its extended attributes.
    Attributes,
    /// Entries of a directory, from some name on.
    Entries,
}

/// Walks trees, and knows what is whole.
pub(super) struct Survey<'s> {
    store: &'s Store,
    view: &'s Index,
    progress: &'s dyn Progress,
    /// Directories and chunk lists, by their roots, below which nothing is lost.
    whole: HashSet<ChunkId>,
    /// Chunks that the index has no reliable place for, and whether they can be read all the same.
    doubtful: HashMap<(ChunkKind, ChunkId), bool>,
}

struct Open<'s> {
    root: ChunkId,
    path_length: usize,
    nodes: Nodes<'s>,
    is_whole: bool,
}

/// What a node has lost itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NodeLoss {
    pub content: bool,
    pub attributes: bool,
}

/// Whether an error says that something is lost. All others are the caller's: nothing is known then.
pub(super) fn is_loss(error: Error) -> Result<()> {
    match error {
        Error::ChunkLost { .. } | Error::CorruptChunk { .. } | Error::Corrupt { .. } | Error::Malformed(_) => Ok(()),
        other => Err(other),
    }
}

impl<'s> Survey<'s> {
    /// Knows nothing yet.
    pub(super) fn new(store: &'s Store, view: &'s Index, progress: &'s dyn Progress) -> Self {
        Self { store, view, progress, whole: HashSet::new(), doubtful: HashMap::new() }
    }

    /// Whether everything below a directory was found to be there.
    pub(super) fn is_whole(&self, root: &ChunkId) -> bool {
        self.whole.contains(root)
    }

    /// Calls `each` for every entry of a snapshot that has lost something.
    pub(super) fn walk(&mut self, snapshot: &Snapshot, each: &mut dyn FnMut(LostEntry)) -> Result<()> {
        let Some(top) = lookup::root(snapshot).filter(|top| !self.is_whole(&top.root)) else { return Ok(()) };
        // A hostile tree may unfold to any size.
        let mut allowance = Allowance::of(snapshot);
        let id = snapshot.id();
        let mut path = Vec::new();
        let mut open = vec![self.open(&top, 0)];
        while let Some(directory) = open.last_mut() {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            path.truncate(directory.path_length);
            match directory.nodes.next() {
                Some(Ok(node)) => {
                    allowance.take(&node.metadata)?;
                    path.push(b'/');
                    path.extend_from_slice(&node.name);
                    let loss = self.loss_of(&node)?;
                    directory.is_whole &= loss == NodeLoss::default();
                    if loss.content {
                        each(LostEntry { snapshot: id, path: path.clone(), part: LostPart::Content });
                    }
                    if loss.attributes {
                        each(LostEntry { snapshot: id, path: path.clone(), part: LostPart::Attributes });
                    }
                    if let Content::Directory(subtree) = &node.content
                        && !self.is_whole(&subtree.root)
                    {
                        check_depth(open.len())?;
                        open.push(self.open(subtree, path.len()));
                    }
                }
                Some(Err(error)) => {
                    is_loss(error)?;
                    directory.is_whole = false;
                    let shown = if path.is_empty() { b"/".to_vec() } else { path.clone() };
                    each(LostEntry { snapshot: id, path: shown, part: LostPart::Entries });
                }
                None => {
                    let Some(done) = open.pop() else { break };
                    if let Some(above) = open.last_mut() {
                        above.is_whole &= done.is_whole;
                    }
                    if done.is_whole {
                        self.whole.insert(done.root);
                    }
                }
            }
        }
        Ok(())
    }

    fn open(&self, subtree: &Subtree, path_length: usize) -> Open<'s> {
        Open { root: subtree.root, path_length, nodes: tree::nodes(self.store, Some(subtree)), is_whole: true }
    }

    /// What a node has lost itself; of a directory, without what is below it.
    pub(super) fn loss_of(&mut self, node: &Node) -> Result<NodeLoss> {
        let attributes = match &node.xattrs {
            Xattrs::Inline(_) => false,
            Xattrs::Chunk(id) => !self.is_there(ChunkKind::Xattr, id)?,
        };
        let content = match &node.content {
            Content::Extents(_) => !self.has_extents(node)?,
            Content::List { root, .. } if !self.whole.contains(root) => {
                let is_whole = self.has_extents(node)?;
                if is_whole {
                    self.whole.insert(*root);
                }
                !is_whole
            }
            _ => false,
        };
        Ok(NodeLoss { content, attributes })
    }

    fn has_extents(&mut self, node: &Node) -> Result<bool> {
        let mut length = 0u64;
        for extent in tree::extents(self.store, &node.content, 0) {
            match extent {
                Ok((position, extent)) => {
                    length = position.saturating_add(extent.length);
                    if let ExtentKind::Data(id) = extent.kind
                        && !self.is_there(ChunkKind::Data, &id)?
                    {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    is_loss(error)?;
                    return Ok(false);
                }
            }
        }
        Ok(length == node.metadata.size)
    }

    /// Whether the index has a reliable place for a chunk, or it can be read anyway.
    fn is_there(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if self.view.contains(kind, id) {
            return Ok(true);
        }
        if let Some(known) = self.doubtful.get(&(kind, *id)) {
            return Ok(*known);
        }
        let is_there = match self.store.get(kind, id) {
            Ok(_) => true,
            Err(error) => is_loss(error).map(|()| false)?,
        };
        self.doubtful.insert((kind, *id), is_there);
        Ok(is_there)
    }
}

/// Directories within one another.
pub(super) fn check_depth(depth: usize) -> Result<()> {
    let limit = DEPTH_MAX as u64;
    if depth < DEPTH_MAX { Ok(()) } else { Err(Error::Limit { what: "the depth of directories".to_owned(), limit }) }
}
