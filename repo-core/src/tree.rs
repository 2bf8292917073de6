//! Builds and reads Merkle B-trees of nodes, and chunk lists. Memory is O(depth) in both directions.
//! The bytes of their nodes are `format`'s business, keeping them the store's.

mod compare;
mod content;
mod list;
mod measure;
mod read;
mod references;
mod write;

#[cfg(test)]
mod tests;

pub use compare::{Met, Pair, Pairs, chunks};
pub use content::StoredFile;
pub use list::{ContentBuilder, Extents, extents};
pub use measure::{Measure, measure};
pub use read::{Nodes, Page, children, find, leaf, leaves, nodes, page, subtree};
pub use references::{Visitor, references};
pub use write::TreeBuilder;

use crate::error::Result;
use crate::id::{ChunkId, ChunkKind};

/// Takes the chunks that a builder makes, and knows the repository's secret split points.
pub trait ChunkSink {
    /// Stores a chunk if it is new, and names it.
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId>;

    /// Whether a tree node may end after this name.
    fn splits_after(&self, name: &[u8]) -> bool;
}
