//! Builds the tree of one directory from its nodes in order.

use crate::error::{Error, Result};
use crate::format::tree::{Child, Content, Node, Subtree, TREE_PREFIX_LENGTH, encode_branch, encode_leaf, encode_node};
use crate::id::ChunkKind;

use super::ChunkSink;

/// A node of the B-tree is not split below this: smaller ones cost more in names and table rows than they save.
const SPLIT_MIN_BYTES: usize = 16 << 10;
/// And is split here at the latest.
const SPLIT_MAX_BYTES: usize = 128 << 10;
/// Bytes of the length before each record of a leaf.
const RECORD_LENGTH_BYTES: usize = 4;
/// Bytes of a branch's item besides its name: id, entries, bytes, length of the name.
const CHILD_BYTES: usize = 32 + 8 + 8 + 2;

/// The tree of one directory, growing at its end. Its shape depends on the entries alone, so equal directories
/// have equal ids, and one changed entry rewrites one node a level.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    leaf: Leaf,
    /// `branches[i]` gathers the children of level `i + 1`.
    branches: Vec<Branch>,
    entries: u64,
    bytes: u64,
    last_name: Vec<u8>,
}

#[derive(Debug, Default)]
struct Leaf {
    /// Records back to back, and where each ends.
    records: Vec<u8>,
    ends: Vec<usize>,
    first_name: Vec<u8>,
    entries: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Branch {
    children: Vec<Child>,
    size: usize,
}

impl TreeBuilder {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries so far at every depth, and bytes of file content.
    pub fn totals(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// Adds the next entry; its name must be greater than the last.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not: a tree out of order could not be read back.
    pub fn push(&mut self, node: &Node, sink: &mut dyn ChunkSink) -> Result<()> {
        if node.name <= self.last_name {
            return Err(Error::Malformed("a source whose names do not ascend"));
        }
        self.last_name.clone_from(&node.name);
        let start = self.leaf.records.len();
        encode_node(node, &mut self.leaf.records);
        // The record is there already, its length field is not.
        if self.leaf.size() + RECORD_LENGTH_BYTES > SPLIT_MAX_BYTES && start > 0 {
            let record = self.leaf.records.split_off(start);
            self.close_leaf(sink)?;
            self.leaf.records = record;
        }
        let (mut entries, mut bytes) = (1, node.metadata.size);
        if let Content::Directory(subtree) = &node.content {
            entries += subtree.entries;
            bytes = subtree.bytes;
        }
        if self.leaf.ends.is_empty() {
            self.leaf.first_name.clone_from(&node.name);
        }
        self.leaf.ends.push(self.leaf.records.len());
        self.leaf.entries += entries;
        self.leaf.bytes += bytes;
        self.entries += entries;
        self.bytes += bytes;
        if self.leaf.size() >= SPLIT_MIN_BYTES && sink.splits_after(&node.name) {
            self.close_leaf(sink)?;
        }
        Ok(())
    }

    /// The directory's tree; `None` if it is empty.
    pub fn finish(mut self, sink: &mut dyn ChunkSink) -> Result<Option<Subtree>> {
        if !self.leaf.ends.is_empty() {
            self.close_leaf(sink)?;
        }
        // A level with a single child is no level: that child is the root.
        for level in 0.. {
            match self.branches.get(level) {
                None => return Ok(None),
                Some(branch) if level + 1 == self.branches.len() && branch.children.len() == 1 => {
                    return Ok(Some(branch.children[0].subtree));
                }
                Some(branch) if branch.children.is_empty() => {}
                Some(_) => self.close_branch(level, sink)?,
            }
        }
        unreachable!("the loop ends where the levels do")
    }

    fn close_leaf(&mut self, sink: &mut dyn ChunkSink) -> Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let starts = std::iter::once(0).chain(leaf.ends.iter().copied());
        let records: Vec<&[u8]> = starts.zip(&leaf.ends).map(|(start, end)| &leaf.records[start..*end]).collect();
        let root = sink.put(ChunkKind::Tree, encode_leaf(records.into_iter()))?;
        let subtree = Subtree { root, entries: leaf.entries, bytes: leaf.bytes };
        self.push_child(0, Child { subtree, first_name: leaf.first_name }, sink)
    }

    fn push_child(&mut self, level: usize, child: Child, sink: &mut dyn ChunkSink) -> Result<()> {
        if self.branches.len() == level {
            self.branches.push(Branch::default());
        }
        let added = CHILD_BYTES + child.first_name.len();
        let branch = &mut self.branches[level];
        if branch.size() + added > SPLIT_MAX_BYTES && !branch.children.is_empty() {
            self.close_branch(level, sink)?;
        }
        let branch = &mut self.branches[level];
        let splits = sink.splits_after(&child.first_name);
        branch.size += added;
        branch.children.push(child);
        if branch.size() >= SPLIT_MIN_BYTES && splits {
            self.close_branch(level, sink)?;
        }
        Ok(())
    }

    fn close_branch(&mut self, level: usize, sink: &mut dyn ChunkSink) -> Result<()> {
        let branch = std::mem::take(&mut self.branches[level]);
        let number = u8::try_from(level + 1).expect("a tree of 2^64 entries has fewer than 255 levels");
        let root = sink.put(ChunkKind::Tree, encode_branch(number, &branch.children))?;
        let subtree = Subtree {
            root,
            entries: branch.children.iter().map(|child| child.subtree.entries).sum(),
            bytes: branch.children.iter().map(|child| child.subtree.bytes).sum(),
        };
        let first_name = branch.children.into_iter().next().map(|child| child.first_name).unwrap_or_default();
        self.push_child(level + 1, Child { subtree, first_name }, sink)
    }
}

impl Leaf {
    fn size(&self) -> usize {
        TREE_PREFIX_LENGTH + self.records.len() + RECORD_LENGTH_BYTES * self.ends.len()
    }
}

impl Branch {
    fn size(&self) -> usize {
        TREE_PREFIX_LENGTH + self.size
    }
}
