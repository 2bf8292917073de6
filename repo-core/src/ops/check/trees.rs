//! Trees: every node opens, and everything that is referred to is stored in a pack that is whole.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::snapshot::SnapshotRecord;
use crate::format::tree::{Content, ExtentKind, Node, Subtree, Xattrs};
use crate::id::{ChunkId, ChunkKind, PackId};
use crate::progress::Progress;
use crate::store::{Index, Store};
use crate::tree::{self, Nodes};

/// Directories below each other, at most (a limit of the format).
const DEPTH_MAX: usize = 4096;
/// Errors that are named one by one; a repository that lost more has them all for the same reason.
const ERRORS_MAX: usize = 1000;

/// The trees of many snapshots; what several share is looked at once.
pub struct Trees<'c> {
    store: &'c Store,
    view: &'c Index,
    damaged: &'c HashSet<PackId>,
    progress: &'c dyn Progress,
    /// Roots of directories and chunk lists, and whether all below them is whole.
    known: HashMap<ChunkId, bool>,
    reported: HashSet<ChunkId>,
}

struct Open<'c> {
    root: ChunkId,
    nodes: Nodes<'c>,
    is_whole: bool,
}

impl<'c> Trees<'c> {
    pub fn new(store: &'c Store, view: &'c Index, damaged: &'c HashSet<PackId>, progress: &'c dyn Progress) -> Self {
        Self { store, view, damaged, progress, known: HashMap::new(), reported: HashSet::new() }
    }

    /// Whether all of a snapshot is there.
    pub fn check(&mut self, record: &SnapshotRecord, errors: &mut Vec<Error>) -> Result<bool> {
        let Some(root) = record.root.tree else { return Ok(true) };
        let top = Subtree { root, entries: record.root.entries, bytes: record.root.bytes };
        if let Some(is_whole) = self.known.get(&root) {
            return Ok(*is_whole);
        }
        let mut open = vec![self.open(&top)];
        loop {
            let depth = open.len();
            let Some(directory) = open.last_mut() else { break };
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match directory.nodes.next() {
                Some(Ok(node)) => {
                    let is_whole = self.check_node(&node, errors);
                    directory.is_whole &= is_whole;
                    let Content::Directory(subtree) = &node.content else { continue };
                    match self.known.get(&subtree.root) {
                        Some(is_whole) => directory.is_whole &= is_whole,
                        None if depth >= DEPTH_MAX => {
                            directory.is_whole = false;
                            errors.push(Error::Malformed("a tree deeper than 4096 directories"));
                        }
                        None => open.push(self.open(subtree)),
                    }
                }
                Some(Err(error @ (Error::Backend(_) | Error::Cancelled))) => return Err(error),
                Some(Err(error)) => {
                    directory.is_whole = false;
                    self.name(error, errors);
                }
                None => {
                    let Some(done) = open.pop() else { break };
                    self.known.insert(done.root, done.is_whole);
                    if let Some(above) = open.last_mut() {
                        above.is_whole &= done.is_whole;
                    }
                }
            }
        }
        Ok(self.known.get(&root).copied().unwrap_or(false))
    }

    fn open(&self, subtree: &Subtree) -> Open<'c> {
        Open { root: subtree.root, nodes: tree::nodes(self.store, Some(subtree)), is_whole: true }
    }

    fn check_node(&mut self, node: &Node, errors: &mut Vec<Error>) -> bool {
        let xattrs = match &node.xattrs {
            Xattrs::Inline(_) => true,
            Xattrs::Chunk(id) => self.check_chunk(ChunkKind::Xattr, id, errors),
        };
        let content = match &node.content {
            Content::Extents(_) => self.check_extents(node, errors),
            Content::List { root, .. } => match self.known.get(root) {
                Some(is_whole) => *is_whole,
                None => {
                    let is_whole = self.check_extents(node, errors);
                    self.known.insert(*root, is_whole);
                    is_whole
                }
            },
            _ => true,
        };
        xattrs && content
    }

    fn check_extents(&mut self, node: &Node, errors: &mut Vec<Error>) -> bool {
        let mut is_whole = true;
        let mut length = 0u64;
        for extent in tree::extents(self.store, &node.content, 0) {
            match extent {
                Ok((position, extent)) => {
                    length = position.saturating_add(extent.length);
                    if let ExtentKind::Data(id) = extent.kind {
                        is_whole &= self.check_chunk(ChunkKind::Data, &id, errors);
                    }
                }
                Err(error) => {
                    self.name(error, errors);
                    return false;
                }
            }
        }
        if length != node.metadata.size {
            errors.push(Error::Malformed("a file whose extents do not add up to its size"));
            return false;
        }
        is_whole
    }

    fn check_chunk(&mut self, kind: ChunkKind, id: &ChunkId, errors: &mut Vec<Error>) -> bool {
        let is_stored = if self.damaged.is_empty() {
            self.view.contains(kind, id)
        } else {
            self.view
                .places(kind, id)
                .iter()
                .any(|place| !self.damaged.contains(&place.pack) && !self.view.has_lost(&place.pack, id))
        };
        if !is_stored {
            let problem = match self.view.places(kind, id).first() {
                Some(place) => format!("its pack {} is damaged", place.pack),
                None => "it is in no index and no pack".to_owned(),
            };
            self.name(Error::ChunkLost { id: *id, problem }, errors);
        }
        is_stored
    }

    /// Names a problem once, however many files share it.
    fn name(&mut self, error: Error, errors: &mut Vec<Error>) {
        let is_new = match &error {
            Error::ChunkLost { id, .. } | Error::CorruptChunk { id, .. } => self.reported.insert(*id),
            _ => true,
        };
        if is_new && errors.len() < ERRORS_MAX {
            errors.push(error);
        }
    }
}
