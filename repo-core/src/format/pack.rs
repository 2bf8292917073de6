//! Packs: many frames in one object. The table is at the end, so that writing never seeks.
//! Sealing is `seal`'s business, uploading the writer's.

use crate::error::Corruption;
use crate::id::{ChunkId, ChunkKind, SnapshotId};

/// How a frame's plaintext was compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// One frame, in pack order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRecord {
    /// From the object's start.
    pub offset: u32,
    /// With synthetic nonce part and tag.
    pub stored_length: u32,
    pub raw_length: u32,
    pub codec: Codec,
    /// The number of its first chunk in the pack.
    pub first_chunk: u32,
}

/// One chunk, in frame order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRecord {
    pub id: ChunkId,
    /// In its frame's plaintext.
    pub offset: u32,
    pub length: u32,
    pub kind: ChunkKind,
}

/// The table at a pack's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footer {
    pub writer: SnapshotId,
    /// Where the frames end.
    pub data_end: u64,
    pub frames: Vec<FrameRecord>,
    pub chunks: Vec<ChunkRecord>,
}

/// Bytes of the trailer, which says where the footer is.
pub const TRAILER_LENGTH: usize = 24;

/// The last bytes of a pack, plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Sealed length of the footer.
    pub footer_length: u32,
    pub object_length: u64,
}

impl Footer {
    /// The chunks of frame `ordinal`.
    pub fn chunks_of(&self, ordinal: usize) -> &[ChunkRecord] {
        let start = self.frames[ordinal].first_chunk as usize;
        let end = self.frames.get(ordinal + 1).map_or(self.chunks.len(), |next| next.first_chunk as usize);
        &self.chunks[start..end]
    }

    /// Padded to a multiple of 4096, which hides the counts.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}

impl Trailer {
    pub fn encode(&self) -> [u8; TRAILER_LENGTH] {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
