//! Finding things in a snapshot's tree, which may be hostile: depth, order and counts are checked here, once for all verbs.

pub mod owners;
pub mod sink;

use crate::error::{Error, Result};
use crate::format::tree::{Content, Metadata, Node, NodeKind, Subtree};
use crate::platform::target::as_path;
use crate::repository::Snapshot;
use crate::store::Store;
use crate::tree::{self, Nodes};

/// Directories within one another (docs/format.md, limits).
pub const DEPTH_MAX: usize = 4096;
/// A directory whose nodes fail to be read this often is given up.
const FAILURES_MAX: u32 = 16;

/// The snapshot's top level.
pub fn root(snapshot: &Snapshot) -> Option<Subtree> {
    let root = &snapshot.record.root;
    root.tree.map(|tree| Subtree { root: tree, entries: root.entries, bytes: root.bytes })
}

/// The directory that a node is; `None` if it is empty or no directory.
pub fn subtree(node: &Node) -> Option<Subtree> {
    match node.content {
        Content::Directory(subtree) => Some(subtree),
        _ => None,
    }
}

/// The entry at a path: names with `/` between them, symlinks not followed. `None`: the top level.
pub fn find(store: &Store, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Node>> {
    let refuse = |problem| Error::Path { path: as_path(path).to_owned(), problem };
    let mut found: Option<Node> = None;
    for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        let directory = match &found {
            None => root(snapshot),
            Some(node) => match node.metadata.kind {
                NodeKind::Directory => subtree(node),
                NodeKind::Symlink => return Err(refuse("leads through a symlink, which is not followed")),
                _ => return Err(refuse("leads through something that is not a directory")),
            },
        };
        let node = tree::find(store, directory.as_ref(), name)?;
        found = Some(node.ok_or_else(|| refuse("is not in the snapshot"))?);
    }
    Ok(found)
}

/// Whether a node is what its kind says and its name can be the name of an entry.
pub fn check_node(node: &Node) -> Result<(), &'static str> {
    let name = &node.name;
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err("has a name that no entry can have; it was left out");
    }
    let fits = match (node.metadata.kind, &node.content) {
        (NodeKind::File, Content::None) => node.metadata.size == 0,
        (NodeKind::File, Content::Inline(bytes)) => node.metadata.size == bytes.len() as u64,
        (NodeKind::File, Content::Extents(_) | Content::List { .. }) => true,
        (NodeKind::Directory, Content::None | Content::Directory(_)) => true,
        (NodeKind::Symlink, Content::Symlink(target)) => !target.is_empty() && !target.contains(&0),
        (NodeKind::File | NodeKind::Directory | NodeKind::Symlink, _) => false,
        (_, content) => *content == Content::None,
    };
    if fits { Ok(()) } else { Err("is malformed; it was left out") }
}

/// Bytes of content, which only files have.
pub fn content_bytes(metadata: &Metadata) -> u64 {
    if metadata.kind == NodeKind::File { metadata.size } else { 0 }
}

/// Counts what a walk has met. A tree whose subtrees are shared can unfold to any size ("billion laughs"): a walk
/// ends where there is more than the snapshot says, plus a tenth.
#[derive(Debug)]
pub struct Allowance {
    entries: u64,
    entries_max: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Allowance {
    /// Of a whole snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let with_tenth = |count: u64, more: u64| count.saturating_add(count / 10).saturating_add(more);
        let root = &snapshot.record.root;
        let (entries_max, bytes_max) = (with_tenth(root.entries, 1000), with_tenth(root.bytes, 1 << 20));
        Self { entries: 0, entries_max, bytes: 0, bytes_max }
    }

    /// One more entry.
    pub fn take(&mut self, metadata: &Metadata) -> Result<()> {
        let limit = |what: &str, limit| Err(Error::Limit { what: what.to_owned(), limit });
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(content_bytes(metadata));
        if self.entries > self.entries_max {
            return limit("the number of entries below what this snapshot says", self.entries_max);
        }
        if self.bytes > self.bytes_max {
            return limit("the size of the files below what this snapshot says", self.bytes_max);
        }
        Ok(())
    }
}

/// The nodes of one directory in order, strictly ascending. Can be put aside, so that a walk into a deep tree keeps
/// the leaves of a few directories in memory, not of thousands.
#[derive(Debug)]
pub struct Listing<'s> {
    store: &'s Store,
    directory: Option<Subtree>,
    nodes: Option<Nodes<'s>>,
    /// The only entry: a listing of a single node.
    single: Option<Node>,
    is_single: bool,
    last: Option<Vec<u8>>,
    failures: u32,
}

impl<'s> Listing<'s> {
    /// Of a directory.
    pub fn new(store: &'s Store, directory: Option<Subtree>) -> Self {
        Self { store, directory, nodes: None, single: None, is_single: false, last: None, failures: 0 }
    }

    /// Of one entry alone.
    pub fn single(store: &'s Store, node: Node) -> Self {
        Self { single: Some(node), is_single: true, ..Self::new(store, None) }
    }

    /// Frees memory; the next entry is found again by its name.
    pub fn put_aside(&mut self) {
        self.nodes = None;
    }

    /// What is listed.
    pub fn directory(&self) -> Option<Subtree> {
        self.directory
    }

    /// Whether it lists one entry alone.
    pub fn is_single(&self) -> bool {
        self.is_single
    }

    /// Whether a part of the directory could not be read.
    pub fn is_damaged(&self) -> bool {
        self.failures > 0
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(node) = self.single.take() {
            return Some(Ok(node));
        }
        if self.failures >= FAILURES_MAX {
            return None;
        }
        let nodes = self.nodes.get_or_insert_with(|| tree::nodes(self.store, self.directory.as_ref()));
        loop {
            match nodes.next()? {
                // Not again what came before it was put aside; and in no tree does a name come twice.
                Ok(node) if self.last.as_ref().is_some_and(|last| *last >= node.name) => {}
                Ok(node) => {
                    self.last = Some(node.name.clone());
                    return Some(Ok(node));
                }
                Err(error) => {
                    self.failures += 1;
                    return Some(Err(error));
                }
            }
        }
    }
}
