//! Every chunk that a tree refers to: its own nodes, chunk lists and their nodes, large attributes, contents.

use super::read;
use crate::error::{Error, Result};
use crate::format::LIST_LEVEL_MAX;
use crate::format::list::ListNode;
use crate::format::tree::{Content, Extent, ExtentKind, Node, TreeNode, Xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::store::Store;

/// Hears of every reference, and says how far to look.
pub trait Visitor {
    /// A chunk is referred to. Whether to look below it; what has nothing below is not looked into whatever the answer.
    /// Who answers no for what was met before sees each chunk's references once, however often it is shared.
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool>;

    /// A node could not be read: what is below it stays unknown. An error from here ends the walk.
    fn lost(&mut self, error: Error) -> Result<()> {
        Err(error)
    }
}

/// What is still to be looked into.
enum Below {
    /// A tree node; its level, if its parent told it.
    Tree(ChunkId, Option<u8>),
    /// A node of a chunk list.
    List(ChunkId, u8),
}

/// Walks all that the tree of this root refers to, the root first. Memory is that of a few nodes a level.
pub fn references(store: &Store, root: &ChunkId, visitor: &mut dyn Visitor) -> Result<()> {
    let mut walk = Walk { visitor, pending: Vec::new() };
    if walk.visitor.meet(ChunkKind::Tree, root)? {
        walk.pending.push(Below::Tree(*root, None));
    }
    while let Some(below) = walk.pending.pop() {
        let entered = match below {
            Below::Tree(id, level) => read::load(store, &id, level).map(Entered::Tree),
            Below::List(id, level) => load_list(store, &id, level).map(Entered::List),
        };
        match entered {
            Ok(Entered::Tree(node)) => walk.tree_node(node)?,
            Ok(Entered::List(node)) => walk.list_node(node)?,
            Err(error @ (Error::Backend(_) | Error::Cancelled)) => return Err(error),
            Err(error) => walk.visitor.lost(error)?,
        }
    }
    Ok(())
}

enum Entered {
    Tree(TreeNode),
    List(ListNode),
}

struct Walk<'v> {
    visitor: &'v mut dyn Visitor,
    /// The next one last.
    pending: Vec<Below>,
}

impl Walk<'_> {
    fn tree_node(&mut self, node: TreeNode) -> Result<()> {
        match node {
            TreeNode::Branch { level, children } => {
                for child in children.into_iter().rev() {
                    if self.visitor.meet(ChunkKind::Tree, &child.subtree.root)? {
                        self.pending.push(Below::Tree(child.subtree.root, Some(level - 1)));
                    }
                }
                Ok(())
            }
            TreeNode::Leaf(nodes) => nodes.iter().try_for_each(|node| self.node(node)),
        }
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        if let Xattrs::Chunk(id) = &node.xattrs {
            self.visitor.meet(ChunkKind::Xattr, id)?;
        }
        match &node.content {
            Content::Extents(extents) => self.extents(extents),
            Content::List { root, depth, .. } => {
                if self.visitor.meet(ChunkKind::List, root)? {
                    self.pending.push(Below::List(*root, *depth));
                }
                Ok(())
            }
            Content::Directory(subtree) => {
                if self.visitor.meet(ChunkKind::Tree, &subtree.root)? {
                    self.pending.push(Below::Tree(subtree.root, None));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn list_node(&mut self, node: ListNode) -> Result<()> {
        match node {
            ListNode::Leaf(extents) => self.extents(&extents),
            ListNode::Branch { level, children } => {
                for child in children.into_iter().rev() {
                    if self.visitor.meet(ChunkKind::List, &child.id)? {
                        self.pending.push(Below::List(child.id, level - 1));
                    }
                }
                Ok(())
            }
        }
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<()> {
        for extent in extents {
            if let ExtentKind::Data(id) = &extent.kind {
                self.visitor.meet(ChunkKind::Data, id)?;
            }
        }
        Ok(())
    }
}

/// One node of a chunk list, of the level that its parent says, so that a hostile list ends.
pub(super) fn load_list(store: &Store, id: &ChunkId, level: u8) -> Result<ListNode> {
    let bytes = store.get(ChunkKind::List, id)?;
    let node = ListNode::decode(&bytes).map_err(|problem| store.corrupt(ChunkKind::List, id, problem))?;
    let found = match &node {
        ListNode::Leaf(_) => 0,
        ListNode::Branch { level, .. } => *level,
    };
    match found == level && level <= LIST_LEVEL_MAX {
        true => Ok(node),
        false => Err(Error::Malformed("a chunk list whose levels do not descend")),
    }
}
