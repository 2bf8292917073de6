//! Builds and reads Merkle B-trees of nodes, and chunk lists. Memory is O(depth) in both directions.

use crate::error::Result;
use crate::format::tree::{Content, Extent, Node, Subtree};
use crate::store::Store;

/// The nodes of one directory, ascending by name, one leaf in memory at a time.
#[derive(Debug)]
pub struct Nodes<'s> {
    _store: &'s Store,
}

/// Reads a directory. `None`: empty.
pub fn nodes<'s>(_store: &'s Store, _directory: Option<&Subtree>) -> Nodes<'s> {
    todo!()
}

impl Iterator for Nodes<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// The node of that name in a directory, by O(depth) reads.
pub fn find(_store: &Store, _directory: Option<&Subtree>, _name: &[u8]) -> Result<Option<Node>> {
    todo!()
}

/// The extents of a file in order, one leaf of its list in memory at a time. Not for inline content, which has none.
#[derive(Debug)]
pub struct Extents<'s> {
    _store: &'s Store,
}

/// Reads a file's extents from `offset` on: the first one yielded is that which holds `offset`, with the
/// position in the file where it begins.
pub fn extents<'s>(_store: &'s Store, _content: &Content, _offset: u64) -> Extents<'s> {
    todo!()
}

impl Iterator for Extents<'_> {
    type Item = Result<(u64, Extent)>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
