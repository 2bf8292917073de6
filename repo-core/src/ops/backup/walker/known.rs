//! What is known of an entry from snapshots before, and whether it is still so.

use std::iter::Peekable;

use super::Walker;
use crate::format::snapshot::Root;
use crate::format::tree::{Content, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, Xattrs};
use crate::id::ChunkKind;
use crate::progress::Event;
use crate::repository::Snapshot;
use crate::tree;
use crate::walk::SourceEntry;

/// A change within this time before the reading began may not show in the times.
const RACY_NS: i128 = 2_000_000_000;

/// A node of a snapshot that the source is compared with.
pub(super) struct Before {
    pub(super) node: Node,
    /// When the reading of that snapshot began, in nanoseconds.
    pub(super) started_ns: i128,
}

/// What is known of an entry.
pub(super) struct Known {
    /// What the parent has under its path.
    pub(super) before: Option<Before>,
    /// What the partial snapshot that the run goes on from has there.
    pub(super) resumed: Option<Before>,
    /// What it was in the parent, if that was elsewhere.
    pub(super) moved: Option<Before>,
}

/// The nodes of a directory in such a snapshot.
pub(super) struct Nodes<'r> {
    pub(super) nodes: Peekable<tree::Nodes<'r>>,
    pub(super) started_ns: i128,
}

impl<'r> Walker<'r> {
    /// The top of a snapshot's tree.
    pub(super) fn top(&self, snapshot: &Snapshot) -> Nodes<'r> {
        let Root { tree, entries, bytes } = snapshot.record.root;
        let subtree = tree.map(|root| Subtree { root, entries, bytes });
        Nodes { nodes: tree::nodes(&self.run.store, subtree.as_ref()).peekable(), started_ns: started_ns(snapshot) }
    }

    /// What was below a node, if that was a directory.
    pub(super) fn below(&self, before: Option<&Before>) -> Option<Nodes<'r>> {
        let Before { node, started_ns } = before?;
        let subtree = match &node.content {
            Content::Directory(subtree) => Some(subtree),
            _ => None,
        };
        Some(Nodes { nodes: tree::nodes(&self.run.store, subtree).peekable(), started_ns: *started_ns })
    }

    /// A snapshot's node of that name. A damaged one costs reading again, and is said.
    pub(super) fn find_before(&self, known: &mut Option<Nodes<'r>>, entry: &SourceEntry) -> Option<Before> {
        let Nodes { nodes, started_ns } = known.as_mut()?;
        let started_ns = *started_ns;
        loop {
            match nodes.next_if(|node| node.as_ref().map_or(true, |node| node.name <= entry.name))? {
                Ok(node) if node.name == entry.name => return Some(Before { node, started_ns }),
                Ok(_) => {}
                Err(error) => {
                    let message = format!("the parent snapshot cannot be read here, everything is read again: {error}");
                    self.run.progress.report(Event::Note { message: &message });
                    *known = None;
                    return None;
                }
            }
        }
    }

    /// Whether the entry is a snapshot's: same inode, size, mtime and ctime, that ctime well before the snapshot was
    /// read, and all its content still stored (rule R1 of docs/format.md: damage is not inherited).
    pub(super) fn is_unchanged(&self, now: &Metadata, known: &Before) -> bool {
        let Before { node, started_ns } = known;
        let before = &node.metadata;
        let options = self.run.options;
        let same = now.kind == before.kind
            && (now.kind != NodeKind::File || now.size == before.size)
            && now.modified == before.modified
            && now.special_device == before.special_device
            && (options.ignore_inode || now.inode == before.inode)
            && (options.ignore_ctime || now.changed == before.changed);
        let newest = if options.ignore_ctime { before.modified } else { before.changed };
        same && !before.unstable && !is_racy(newest, *started_ns) && self.is_stored(node)
    }

    /// Attributes change with the ctime only.
    pub(super) fn attributes_are_known(&self, now: &Metadata, known: &Before) -> bool {
        let Before { node, started_ns } = known;
        now.changed == node.metadata.changed
            && now.inode == node.metadata.inode
            && !is_racy(now.changed, *started_ns)
            && {
                match &node.xattrs {
                    Xattrs::Inline(_) => true,
                    Xattrs::Chunk(id) => self.view.contains(ChunkKind::Xattr, id),
                }
            }
    }

    pub(super) fn is_stored(&self, node: &Node) -> bool {
        let extents_are_stored = || {
            tree::extents(&self.run.store, &node.content, 0).all(|extent| match extent {
                Ok((_, extent)) => match extent.kind {
                    ExtentKind::Data(id) => self.view.contains(ChunkKind::Data, &id),
                    ExtentKind::Zero | ExtentKind::Hole => true,
                },
                Err(_) => false,
            })
        };
        let xattrs_are_stored = match &node.xattrs {
            Xattrs::Inline(_) => true,
            Xattrs::Chunk(id) => self.view.contains(ChunkKind::Xattr, id),
        };
        xattrs_are_stored
            && match &node.content {
                Content::Extents(_) | Content::List { .. } => extents_are_stored(),
                _ => true,
            }
    }
}

/// When the reading of a snapshot began, in nanoseconds: the session's name has the clock's time, the snapshot's own may have
/// been set by the user.
pub(super) fn started_ns(snapshot: &Snapshot) -> i128 {
    i128::from(snapshot.id().started_ms()) * 1_000_000
}

/// Whether a change may not show in the times of what was read from then on, in nanoseconds.
pub(super) fn is_racy(changed: Timestamp, started_ns: i128) -> bool {
    let changed_ns = i128::from(changed.seconds) * 1_000_000_000 + i128::from(changed.nanoseconds);
    changed_ns + RACY_NS > started_ns
}
