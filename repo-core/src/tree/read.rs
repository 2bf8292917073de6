//! Reads the tree of one directory.

use crate::error::{Error, Result};
use crate::format::tree::{Child, Node, Subtree, TreeNode, decode_tree_node};
use crate::id::{ChunkId, ChunkKind};
use crate::store::Store;

/// More levels than any tree of ours has: a writer's nodes have at least two children.
const LEVELS_MAX: usize = 16;

/// The nodes of one directory, ascending by name, one leaf in memory at a time.
#[derive(Debug)]
pub struct Nodes<'s> {
    store: &'s Store,
    /// The children still to come, at each level; the next one last.
    pending: Vec<(Option<u8>, Child)>,
    leaf: std::vec::IntoIter<Node>,
    /// The greatest name so far: names ascend across leaves too.
    last_name: Option<Vec<u8>>,
    /// Entries may not exceed what the parent's record says of this directory.
    entries_left: u64,
}

/// Reads a directory. `None`: empty.
pub fn nodes<'s>(store: &'s Store, directory: Option<&Subtree>) -> Nodes<'s> {
    let root = directory.map(|subtree| (None, Child { subtree: *subtree, first_name: Vec::new() }));
    Nodes {
        store,
        pending: root.into_iter().collect(),
        leaf: Vec::new().into_iter(),
        last_name: None,
        entries_left: directory.map_or(0, |subtree| subtree.entries),
    }
}

impl Nodes<'_> {
    fn advance(&mut self) -> Result<Option<Node>> {
        loop {
            if let Some(node) = self.leaf.next() {
                if self.last_name.as_ref().is_some_and(|last| *last >= node.name) {
                    return Err(malformed("a directory whose names do not ascend"));
                }
                self.entries_left =
                    self.entries_left.checked_sub(1).ok_or_else(|| malformed("a directory with too many entries"))?;
                self.last_name = Some(node.name.clone());
                return Ok(Some(node));
            }
            let Some((level, child)) = self.pending.pop() else { return Ok(None) };
            match load(self.store, &child.subtree.root, level)? {
                TreeNode::Leaf(nodes) => self.leaf = nodes.into_iter(),
                TreeNode::Branch { level, children } => {
                    let below = Some(level - 1);
                    self.pending.extend(children.into_iter().rev().map(|child| (below, child)));
                }
            }
        }
    }
}

impl Iterator for Nodes<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            // A damaged directory is reported once; what is behind the damage has no order to rely on.
            self.pending.clear();
            self.leaf = Vec::new().into_iter();
        }
        next.transpose()
    }
}

/// The node of that name in a directory, by O(depth) reads.
pub fn find(store: &Store, directory: Option<&Subtree>, name: &[u8]) -> Result<Option<Node>> {
    let Some(mut at) = directory.map(|subtree| subtree.root) else { return Ok(None) };
    let mut level = None;
    loop {
        match load(store, &at, level)? {
            TreeNode::Leaf(nodes) => return Ok(nodes.into_iter().find(|node| node.name == name)),
            TreeNode::Branch { level: number, children } => {
                let after = children.partition_point(|child| child.first_name.as_slice() <= name);
                let Some(child) = after.checked_sub(1).and_then(|position| children.get(position)) else {
                    return Ok(None);
                };
                (at, level) = (child.subtree.root, Some(number - 1));
            }
        }
    }
}

/// One node; `level` is what its parent says it must be, so that a loop of nodes ends.
pub(super) fn load(store: &Store, id: &ChunkId, level: Option<u8>) -> Result<TreeNode> {
    let bytes = store.get(ChunkKind::Tree, id)?;
    let node = decode_tree_node(&bytes).map_err(|problem| store.corrupt(ChunkKind::Tree, id, problem))?;
    let found = match &node {
        TreeNode::Leaf(_) => 0,
        TreeNode::Branch { level, .. } => *level,
    };
    if level.is_some_and(|level| level != found) || usize::from(found) > LEVELS_MAX {
        return Err(malformed("a tree whose levels do not descend"));
    }
    Ok(node)
}

fn malformed(what: &'static str) -> Error {
    Error::Malformed(what)
}
