//! The JSON shapes of packs and index objects. docs/json.md describes them.

use repo_core::{
    ChunkDescription, FrameDescription, IndexDescription, IndexedPack, ObjectName, PackDescription, PackKind,
};
use serde::Serialize;

use crate::json::chunk_kind;

/// A pack.
#[derive(Debug, Serialize)]
pub struct PackShape {
    id: String,
    object: String,
    kind: &'static str,
    size: u64,
    key_epoch: u32,
    padded: bool,
    session: String,
    frames: Vec<FrameShape>,
}

/// An index object.
#[derive(Debug, Serialize)]
pub struct IndexShape {
    id: String,
    object: String,
    size: u64,
    key_epoch: u32,
    padded: bool,
    session: String,
    packs: Vec<IndexedPackShape>,
}

#[derive(Debug, Serialize)]
struct IndexedPackShape {
    id: String,
    kind: &'static str,
    size: u64,
    chunk_count: u32,
    session: String,
    frames: Vec<FrameShape>,
}

#[derive(Debug, Serialize)]
struct FrameShape {
    ordinal: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
    compressed: bool,
    chunks: Vec<ChunkShape>,
}

#[derive(Debug, Serialize)]
struct ChunkShape {
    id: String,
    kind: &'static str,
    offset: u32,
    length: u32,
}

impl From<&PackDescription> for PackShape {
    fn from(pack: &PackDescription) -> Self {
        Self {
            id: pack.id.to_string(),
            object: ObjectName::Pack(pack.kind, pack.id).to_string(),
            kind: pack_kind(pack.kind),
            size: pack.length,
            key_epoch: pack.key_epoch,
            padded: pack.padded,
            session: pack.writer.short(),
            frames: pack.frames.iter().map(FrameShape::from).collect(),
        }
    }
}

impl From<&IndexDescription> for IndexShape {
    fn from(index: &IndexDescription) -> Self {
        Self {
            id: index.id.to_string(),
            object: ObjectName::Index(index.id).to_string(),
            size: index.length,
            key_epoch: index.key_epoch,
            padded: index.padded,
            session: index.writer.short(),
            packs: index.packs.iter().map(IndexedPackShape::from).collect(),
        }
    }
}

impl From<&IndexedPack> for IndexedPackShape {
    fn from(pack: &IndexedPack) -> Self {
        Self {
            id: pack.id.to_string(),
            kind: pack_kind(pack.kind),
            size: pack.length,
            chunk_count: pack.chunk_count,
            session: pack.writer.short(),
            frames: pack.frames.iter().map(FrameShape::from).collect(),
        }
    }
}

impl From<&FrameDescription> for FrameShape {
    fn from(frame: &FrameDescription) -> Self {
        Self {
            ordinal: frame.ordinal,
            offset: frame.offset,
            length: frame.stored_length,
            uncompressed_length: frame.length,
            compressed: frame.compressed,
            chunks: frame.chunks.iter().map(ChunkShape::from).collect(),
        }
    }
}

impl From<&ChunkDescription> for ChunkShape {
    fn from(chunk: &ChunkDescription) -> Self {
        Self { id: chunk.id.to_string(), kind: chunk_kind(chunk.kind), offset: chunk.offset, length: chunk.length }
    }
}

fn pack_kind(kind: PackKind) -> &'static str {
    match kind {
        PackKind::Data => "data",
        PackKind::Meta => "meta",
    }
}
