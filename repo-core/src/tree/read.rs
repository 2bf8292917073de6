//! Reads the tree of one directory.

use crate::error::{Error, Result};
use crate::format::tree::{Child, Content, Node, Subtree, TreeNode, decode_tree_node};
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
    survey: Option<Survey>,
}

/// What a check wants to know of a directory beyond its entries.
#[derive(Debug, Default)]
struct Survey {
    met: Vec<ChunkId>,
    lost: Option<Child>,
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
        survey: None,
    }
}

impl Nodes<'_> {
    /// Goes on behind a node that cannot be read, with what comes after all that lies below it. What contradicts itself
    /// ends a directory still: there is no order to rely on.
    pub fn going_on(mut self) -> Self {
        self.survey = Some(Survey::default());
        self
    }

    /// The part of the directory that the last error hid, where it goes on after it.
    pub fn lost(&self) -> Option<&Child> {
        self.survey.as_ref()?.lost.as_ref()
    }

    /// What is still to come: a name that it comes after, and how many entries it should be.
    pub fn rest(&self) -> (Vec<u8>, u64) {
        (self.last_name.clone().unwrap_or_default(), self.entries_left)
    }

    /// The names of the directory's own nodes that were met since this was last asked, where it goes on after errors.
    pub fn take_met(&mut self) -> Vec<ChunkId> {
        self.survey.as_mut().map(|survey| std::mem::take(&mut survey.met)).unwrap_or_default()
    }

    /// Counts what lies below a node that cannot be read as passed. `false`: it is not where it should be, or more than
    /// there should be, so the way ends here.
    fn pass(&mut self, child: Child) -> bool {
        let Some(survey) = &mut self.survey else { return false };
        let ascends = self.last_name.as_ref().is_none_or(|last| *last < child.first_name);
        let Some(entries_left) = self.entries_left.checked_sub(child.subtree.entries).filter(|_| ascends) else {
            return false;
        };
        // Nodes shared many times over would be passed as often, if their names did not have to ascend too.
        self.last_name = Some(child.first_name.clone());
        self.entries_left = entries_left;
        survey.lost = Some(child);
        true
    }

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
            if let Some(survey) = &mut self.survey {
                survey.met.push(child.subtree.root);
            }
            match load(self.store, &child.subtree.root, level) {
                Ok(TreeNode::Leaf(nodes)) => self.leaf = nodes.into_iter(),
                Err(error) => {
                    if !self.pass(child) {
                        self.pending.clear();
                    }
                    return Err(error);
                }
                Ok(TreeNode::Branch { level, children }) => {
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
        if let Some(survey) = &mut self.survey {
            survey.lost = None;
        }
        let next = self.advance();
        if next.is_err() && self.lost().is_none() {
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

/// The leaves of all directories of a snapshot, in no order that means anything.
#[derive(Debug)]
pub struct Leaves<'s> {
    store: &'s Store,
    pending: Vec<(Option<u8>, ChunkId)>,
    /// No more entries may come than the snapshot says it has: shared nodes are met as often as they are referred to.
    entries_left: u64,
}

/// Reads the whole tree of a snapshot, one leaf in memory at a time.
pub fn leaves<'s>(store: &'s Store, root: &Subtree) -> Leaves<'s> {
    Leaves { store, pending: vec![(None, root.root)], entries_left: root.entries }
}

impl Iterator for Leaves<'_> {
    /// A leaf's name, and its nodes. After an error the walk goes on beside what could not be read.
    type Item = Result<(ChunkId, Vec<Node>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (level, id) = self.pending.pop()?;
            match load(self.store, &id, level) {
                Err(error) => return Some(Err(error)),
                Ok(TreeNode::Branch { level, children }) => {
                    self.pending.extend(children.iter().rev().map(|child| (Some(level - 1), child.subtree.root)));
                }
                Ok(TreeNode::Leaf(nodes)) => {
                    let Some(entries_left) = self.entries_left.checked_sub(nodes.len() as u64) else {
                        self.pending.clear();
                        return Some(Err(malformed("a snapshot with too many entries")));
                    };
                    self.entries_left = entries_left;
                    self.pending.extend(nodes.iter().rev().filter_map(|node| match &node.content {
                        Content::Directory(subtree) => Some((None, subtree.root)),
                        _ => None,
                    }));
                    return Some(Ok((id, nodes)));
                }
            }
        }
    }
}

/// The nodes of one leaf.
pub fn leaf(store: &Store, id: &ChunkId) -> Result<Vec<Node>> {
    match load(store, id, Some(0))? {
        TreeNode::Leaf(nodes) => Ok(nodes),
        TreeNode::Branch { .. } => Err(malformed("a tree whose levels do not descend")),
    }
}

/// The nodes of trees that one node refers to: the rest of its own directory, and the directories in it.
pub fn children(store: &Store, id: &ChunkId) -> Result<Vec<ChunkId>> {
    Ok(match load(store, id, None)? {
        TreeNode::Branch { children, .. } => children.iter().map(|child| child.subtree.root).collect(),
        TreeNode::Leaf(nodes) => {
            let below = nodes.iter().filter_map(|node| match &node.content {
                Content::Directory(subtree) => Some(subtree.root),
                _ => None,
            });
            below.collect()
        }
    })
}

/// The directory with this root, with the sums that whoever refers to it says of it.
pub fn subtree(store: &Store, root: &ChunkId) -> Result<Subtree> {
    let parts: Vec<(u64, u64)> = match load(store, root, None)? {
        TreeNode::Branch { children, .. } => {
            children.iter().map(|child| (child.subtree.entries, child.subtree.bytes)).collect()
        }
        TreeNode::Leaf(nodes) => {
            let of = |node: &Node| match &node.content {
                Content::Directory(subtree) => (subtree.entries.saturating_add(1), subtree.bytes),
                _ => (1, node.metadata.size),
            };
            nodes.iter().map(of).collect()
        }
    };
    let add = |sum: (u64, u64), part: (u64, u64)| Some((sum.0.checked_add(part.0)?, sum.1.checked_add(part.1)?));
    let sum = parts.into_iter().try_fold((0, 0), add);
    let (entries, bytes) = sum.ok_or_else(|| malformed("a directory whose sums overflow"))?;
    Ok(Subtree { root: *root, entries, bytes })
}

/// One leaf of a directory's tree, and which names it answers for.
#[derive(Debug, Default)]
pub struct Page {
    /// No name before this one is in it; empty: there is none before it.
    pub from: Vec<u8>,
    /// What there is of the names from `from` to `next`; ascending.
    pub nodes: Vec<Node>,
    /// Where the next page begins; `None`: it is the last.
    pub next: Option<Vec<u8>>,
}

/// The page of a directory that answers for `name`, by O(depth) reads. Who goes on with `next` meets every entry once,
/// and comes to an end also in a tree that somebody forged: `next` is always after `name`, and a page holds nothing
/// outside its bounds, so no leaf can stand in two places.
pub fn page(store: &Store, directory: Option<&Subtree>, name: &[u8]) -> Result<Page> {
    let Some(mut at) = directory.map(|subtree| subtree.root) else { return Ok(Page::default()) };
    let (mut level, mut from, mut next) = (None, Vec::new(), None);
    loop {
        match load(store, &at, level)? {
            TreeNode::Leaf(nodes) => {
                let inside = |node: &Node| node.name >= from && next.as_ref().is_none_or(|next| node.name < *next);
                if !nodes.iter().all(inside) {
                    return Err(malformed("a directory whose names do not ascend"));
                }
                return Ok(Page { from, nodes, next });
            }
            TreeNode::Branch { level: number, mut children } => {
                // What comes before the first name would stand with the first child.
                let after = children.partition_point(|child| child.first_name.as_slice() <= name).max(1);
                if let Some(sibling) = children.get_mut(after) {
                    // A child may not reach further than its parent.
                    let sibling = std::mem::take(&mut sibling.first_name);
                    next = Some(next.map_or(sibling.clone(), |next: Vec<u8>| next.min(sibling)));
                }
                let child = children.swap_remove(after - 1);
                if after > 1 {
                    from = from.max(child.first_name);
                }
                (at, level) = (child.subtree.root, Some(number - 1));
            }
        }
    }
}

/// One node; `level` is what its parent says it must be.
pub(super) fn load(store: &Store, id: &ChunkId, level: Option<u8>) -> Result<TreeNode> {
    let bytes = store.get(ChunkKind::Tree, id)?;
    let node = decode_tree_node(&bytes).map_err(|problem| store.corrupt(ChunkKind::Tree, id, problem))?;
    let found = match &node {
        TreeNode::Leaf(_) => 0,
        TreeNode::Branch { level, .. } => *level,
    };
    check_level(found, level)?;
    Ok(node)
}

/// A node's level is the one that its parent says it must have, so that a loop of nodes ends.
pub(super) fn check_level(found: u8, expected: Option<u8>) -> Result<()> {
    if expected.is_some_and(|expected| expected != found) || usize::from(found) > LEVELS_MAX {
        return Err(malformed("a tree whose levels do not descend"));
    }
    Ok(())
}

pub(super) fn malformed(what: &'static str) -> Error {
    Error::Malformed(what)
}
