//! Index objects: where each chunk lies. Derived, can be rebuilt from packs; only ever adds.

use super::pack::Codec;
use crate::error::Corruption;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind, SnapshotId};

/// A self-contained block of an index object: the plaintext of one frame, at most 1 MiB.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexBlock {
    pub packs: Vec<PackRow>,
    /// Ascending by (pack, ordinal).
    pub frames: Vec<FrameRow>,
    /// Ascending by id.
    pub chunks: Vec<ChunkRow>,
}

/// A pack that a block speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackRow {
    pub id: PackId,
    pub length: u32,
    /// Chunks of the whole pack, so that a half-indexed pack is known as one.
    pub chunk_count: u32,
    pub writer: SnapshotId,
    pub kind: PackKind,
}

/// A frame that a block speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRow {
    /// Position in `packs`.
    pub pack: u16,
    pub ordinal: u32,
    pub offset: u32,
    pub stored_length: u32,
    pub raw_length: u32,
    pub codec: Codec,
}

/// A chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRow {
    pub id: ChunkId,
    /// Position in `frames`.
    pub frame: u16,
    /// In the frame's plaintext.
    pub offset: u32,
    pub length: u32,
    pub kind: ChunkKind,
}

impl IndexBlock {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
