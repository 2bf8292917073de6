//! Which chunks a tree refers to, without regard to order and names: what is alive.

use crate::error::Result;
use crate::format::list::ListNode;
use crate::format::tree::{Content, Extent, ExtentKind, Node, TreeNode, Xattrs, decode_tree_node};
use crate::id::{ChunkId, ChunkKind};
use crate::store::Store;

/// Hears of every chunk that a tree refers to, its root first. Says of tree and list nodes whether to go on below: `false`
/// for one that was visited already, so that what trees share is read once, and a loop ends.
pub type Visit<'v> = dyn FnMut(ChunkKind, &ChunkId) -> Result<bool> + 'v;

/// Visits every chunk of the tree below `root`, itself too. Memory: the nodes still to read on the way down, 33 bytes each.
///
/// # Errors
/// The first node that cannot be read: then nobody knows what is below it.
pub fn reach(store: &Store, root: &ChunkId, visit: &mut Visit<'_>) -> Result<()> {
    let mut pending = vec![(ChunkKind::Tree, *root)];
    while let Some((kind, id)) = pending.pop() {
        if !visit(kind, &id)? {
            continue;
        }
        let bytes = store.get(kind, &id)?;
        match kind {
            ChunkKind::Tree => match decode_tree_node(&bytes).map_err(|problem| store.corrupt(kind, &id, problem))? {
                TreeNode::Leaf(nodes) => {
                    for node in &nodes {
                        reach_node(node, &mut pending, visit)?;
                    }
                }
                TreeNode::Branch { children, .. } => {
                    pending.extend(children.iter().map(|child| (ChunkKind::Tree, child.subtree.root)));
                }
            },
            ChunkKind::List => match ListNode::decode(&bytes).map_err(|problem| store.corrupt(kind, &id, problem))? {
                ListNode::Leaf(extents) => reach_extents(&extents, visit)?,
                ListNode::Branch { children, .. } => {
                    pending.extend(children.iter().map(|child| (ChunkKind::List, child.id)));
                }
            },
            ChunkKind::Data | ChunkKind::Xattr => {}
        }
    }
    Ok(())
}

fn reach_node(node: &Node, pending: &mut Vec<(ChunkKind, ChunkId)>, visit: &mut Visit<'_>) -> Result<()> {
    if let Xattrs::Chunk(id) = &node.xattrs {
        visit(ChunkKind::Xattr, id)?;
    }
    match &node.content {
        Content::Extents(extents) => reach_extents(extents, visit)?,
        Content::List { root, .. } => pending.push((ChunkKind::List, *root)),
        Content::Directory(subtree) => pending.push((ChunkKind::Tree, subtree.root)),
        _ => {}
    }
    Ok(())
}

fn reach_extents(extents: &[Extent], visit: &mut Visit<'_>) -> Result<()> {
    for extent in extents {
        if let ExtentKind::Data(id) = &extent.kind {
            visit(ChunkKind::Data, id)?;
        }
    }
    Ok(())
}
