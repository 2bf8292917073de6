//! Chunks in, chunks out. Knows nothing of paths, nor of what a snapshot means.

use bytes::Bytes;

use crate::error::Result;
use crate::id::{ChunkId, ChunkKind};

/// Where chunks live: the index, and a cache of opened frames.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Whether the chunk is stored, by the index.
    pub fn contains(&self, _kind: ChunkKind, _id: &ChunkId) -> bool {
        todo!()
    }

    /// A chunk's plaintext, proven to have that name. Its frame is opened once and kept for a while,
    /// so reading chunks in the order they were stored costs one decompression a frame; threads that
    /// want the same frame wait for the first.
    pub fn get(&self, _kind: ChunkKind, _id: &ChunkId) -> Result<Bytes> {
        todo!()
    }
}
