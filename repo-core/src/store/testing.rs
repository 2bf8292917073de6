//! A place in memory with small packs, and index objects that say of them what a test wants.

use bytes::Bytes;

use super::index::pack_row;
use super::writer::{frames_of, index_blocks};
use crate::backend::{Backend, Memory, Span};
use crate::crypto::{Keys, testing};
use crate::format::index::{IndexBlock, PackRow};
use crate::format::pack::Footer;
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, IndexId, ObjectName, PackId, PackKind, SnapshotId};
use crate::seal::{self, PackBuilder, Part};

pub(super) const WRITER: SnapshotId = SnapshotId([1; 16]);

/// Packs of data, and what their tables say.
pub(super) struct Place {
    pub backend: Memory,
    pub keys: Keys,
    objects: u64,
}

/// A pack that is stored, with the names of its chunks.
pub(super) struct Stored {
    pub row: PackRow,
    pub footer: Footer,
    pub chunks: Vec<ChunkId>,
}

impl Place {
    pub fn new() -> Self {
        Self { backend: Memory::new(), keys: testing::keys(), objects: 0 }
    }

    pub fn name(pack: PackId) -> ObjectName {
        ObjectName::Pack(PackKind::Data, pack)
    }

    pub fn chunk(&self, seed: u64) -> ChunkId {
        self.keys.chunk_id(ChunkKind::Data, &testing::noise(seed, 1000))
    }

    /// Stores a pack of one frame for each of these lists of chunks.
    pub fn pack(&mut self, frames: &[&[u64]]) -> Stored {
        self.objects += 1;
        let mut pack = PackBuilder::new(&self.keys, PackKind::Data, WRITER, self.objects, Vec::new()).unwrap();
        let mut chunks = Vec::new();
        for seeds in frames {
            let bytes: Vec<Vec<u8>> = seeds.iter().map(|seed| testing::noise(*seed, 1000)).collect();
            let ids: Vec<ChunkId> = seeds.iter().map(|seed| self.chunk(*seed)).collect();
            let parts = ids.iter().zip(&bytes);
            let parts: Vec<_> = parts.map(|(id, bytes)| Part { id: *id, kind: ChunkKind::Data, bytes }).collect();
            pack.push_frame(&self.keys, &mut FrameCodec::new(3), &parts, &bytes.concat(), true).unwrap();
            chunks.extend(ids);
        }
        let sealed = pack.finish().unwrap();
        let length = sealed.bytes.len() as u64;
        self.backend.put_new(&Self::name(sealed.id), sealed.bytes).unwrap();
        Stored { row: pack_row(PackKind::Data, sealed.id, length, &sealed.footer), footer: sealed.footer, chunks }
    }

    /// What an honest writer says of these packs.
    pub fn words(packs: &[&Stored]) -> IndexBlock {
        let rows = packs.iter().map(|pack| (pack.row, frames_of(&pack.footer)));
        let [block] = index_blocks(rows).try_into().expect("a few rows");
        block
    }

    /// Stores an index object that says this.
    pub fn index(&mut self, block: IndexBlock) -> IndexId {
        self.objects += 1;
        let (id, bytes) = seal::seal_index(&self.keys, WRITER, self.objects, &[block]).unwrap();
        self.backend.put_new(&ObjectName::Index(id), bytes).unwrap();
        id
    }

    /// Stores other bytes under the name of a pack.
    pub fn damage(&self, pack: PackId, change: impl FnOnce(&mut Vec<u8>)) {
        let name = Self::name(pack);
        let mut bytes = self.backend.get(&name, Span::All).unwrap().to_vec();
        change(&mut bytes);
        self.backend.remove(&name).unwrap();
        self.backend.put_new(&name, Bytes::from(bytes)).unwrap();
    }
}

/// The block, with one of its chunks under another name.
pub(super) fn renamed(mut block: IndexBlock, from: ChunkId, to: ChunkId) -> IndexBlock {
    block.chunks.iter_mut().filter(|chunk| chunk.id == from).for_each(|chunk| chunk.id = to);
    block.chunks.sort_unstable_by_key(|chunk| chunk.id);
    block
}
