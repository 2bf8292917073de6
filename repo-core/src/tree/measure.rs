//! Something made of every subtree, from its entries and from what was made of the subtrees below: each node of a tree is read
//! once, however many directories and snapshots share it.

use super::read::{load, malformed};
use crate::error::{Error, Result};
use crate::format::tree::{Content, Node, TreeNode};
use crate::id::ChunkId;
use crate::store::Store;

/// Directories and nodes of directories within one another: more than any tree of ours has (docs/format.md, limits).
const DEPTH_MAX: usize = 4096 * 4;

/// Makes something of subtrees, and remembers it.
pub trait Measure {
    /// What is made of one subtree.
    type Sum: Default;

    /// Whether something was made of the subtree with this root before: then it is not read again.
    fn is_known(&self, root: &ChunkId) -> bool;

    /// Adds entries of the directory at this path (empty: the top) to the sum. What is below those that are directories
    /// comes by itself.
    fn entries(&mut self, directory: &[u8], nodes: &[Node], sum: &mut Self::Sum) -> Result<()>;

    /// Adds what is known of a subtree to the sum of the one it is part of.
    fn below(&mut self, root: &ChunkId, sum: &mut Self::Sum);

    /// All of a subtree was added: from now on it is known.
    fn done(&mut self, root: ChunkId, sum: Self::Sum);

    /// A node could not be read: what is below it counts for nothing. An error from here ends the walk.
    fn lost(&mut self, error: Error) -> Result<()>;
}

/// A node of a tree, of which some children are still to come.
struct Open<S> {
    root: ChunkId,
    sum: S,
    /// Length of the path of the directory that it belongs to.
    path_length: usize,
    /// The next one last.
    children: Vec<Below>,
}

enum Below {
    /// Another part of the same directory, of this level.
    Part(ChunkId, u8),
    /// A directory, with its name.
    Directory(ChunkId, Vec<u8>),
}

/// Measures the directory with this root and all below it. Memory: of each directory on the way down, the names of the
/// directories in one of its nodes.
pub fn measure<M: Measure>(store: &Store, root: &ChunkId, measure: &mut M) -> Result<()> {
    if measure.is_known(root) {
        return Ok(());
    }
    let mut path = Vec::new();
    let mut open = vec![enter(store, root, None, &path, measure)?];
    while let Some(innermost) = open.last_mut() {
        path.truncate(innermost.path_length);
        let Some(child) = innermost.children.pop() else {
            let Some(done) = open.pop() else { break };
            measure.done(done.root, done.sum);
            if let Some(above) = open.last_mut() {
                measure.below(&done.root, &mut above.sum);
            }
            continue;
        };
        let (root, level) = match child {
            Below::Part(root, level) => (root, Some(level)),
            Below::Directory(root, name) => {
                path.push(b'/');
                path.extend_from_slice(&name);
                (root, None)
            }
        };
        if measure.is_known(&root) {
            measure.below(&root, &mut innermost.sum);
            continue;
        }
        if open.len() >= DEPTH_MAX {
            return Err(malformed("a tree that is deeper than any"));
        }
        open.push(enter(store, &root, level, &path, measure)?);
    }
    Ok(())
}

fn enter<M: Measure>(
    store: &Store,
    root: &ChunkId,
    level: Option<u8>,
    path: &[u8],
    measure: &mut M,
) -> Result<Open<M::Sum>> {
    let mut entered = Open { root: *root, sum: M::Sum::default(), path_length: path.len(), children: Vec::new() };
    match load(store, root, level) {
        Ok(TreeNode::Leaf(nodes)) => {
            measure.entries(path, &nodes, &mut entered.sum)?;
            let below = nodes.into_iter().rev().filter_map(|node| match node.content {
                Content::Directory(subtree) => Some(Below::Directory(subtree.root, node.name)),
                _ => None,
            });
            entered.children = below.collect();
        }
        Ok(TreeNode::Branch { level, children }) => {
            let below = children.into_iter().rev().map(|child| Below::Part(child.subtree.root, level - 1));
            entered.children = below.collect();
        }
        Err(error @ (Error::Backend(_) | Error::Cancelled)) => return Err(error),
        Err(error) => measure.lost(error)?,
    }
    Ok(entered)
}
