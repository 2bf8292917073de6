//! Where the nodes go that a verb makes of trees that are there already.

use crate::error::Result;
use crate::id::{ChunkId, ChunkKind};
use crate::store::{Index, Store, Writer};
use crate::tree::ChunkSink;

/// Names what would be made, and keeps nothing.
pub struct Naming<'s>(pub &'s Store);

impl ChunkSink for Naming<'_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        Ok(self.0.keys().chunk_id(kind, &bytes))
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.0.keys().splits_tree_after(name)
    }
}

/// Stores what is new: what is not where a writer may rely on it.
pub struct Storing<'a, 'scope, 's> {
    /// Its keys name chunks.
    pub store: &'a Store,
    /// Loaded after the writer's session was registered (invariant 7).
    pub view: &'a Index,
    /// Takes them.
    pub writer: Writer<'scope, 's>,
}

impl ChunkSink for Storing<'_, '_, '_> {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = self.store.keys().chunk_id(kind, &bytes);
        self.writer.put(kind, id, &bytes, false, 0, self.view)?;
        Ok(id)
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        self.store.keys().splits_tree_after(name)
    }
}
