//! Index objects: the container of packs, with one index block in each frame.

use bytes::Bytes;

use super::pack::{FramePlace, ObjectBuilder, PackKeys};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::INDEX_BLOCK_BYTES_MAX;
use crate::format::header::ObjectType;
use crate::format::index::IndexBlock;
use crate::format::keyring::Purpose;
use crate::format::pack::ChunkRecord;
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, IndexId, SnapshotId};

/// Ids do not compress, and the columns beside them do at any level.
const LEVEL: i32 = 1;

/// Seals an index object: each block one frame. Returns the object and its name.
///
/// The table has one chunk record for each block, with the block's first id: whoever looks for an id may fetch the one
/// block that can have it.
pub fn seal_index(keys: &Keys, writer: SnapshotId, counter: u64, blocks: &[IndexBlock]) -> Result<(IndexId, Bytes)> {
    let mut object = ObjectBuilder::new(keys, Purpose::Index, ObjectType::Index, writer, counter, 0)?;
    let mut codec = FrameCodec::new(LEVEL);
    for block in blocks {
        let raw = block.encode();
        if raw.len() > INDEX_BLOCK_BYTES_MAX {
            return Err(Error::Limit {
                what: "an index block, in bytes,".to_owned(),
                limit: INDEX_BLOCK_BYTES_MAX as u64,
            });
        }
        object.push_frame(&mut codec, std::iter::once(block_record(block, raw.len())), &raw)?;
    }
    let (hash, bytes, _) = object.finish()?;
    Ok((IndexId(hash), bytes))
}

/// Opens a whole index object, calling `each` for every block. Blocks before a damaged one were handed over already.
pub fn open_index(keys: &Keys, bytes: &[u8], each: &mut dyn FnMut(IndexBlock)) -> Result<(), Corruption> {
    let object = PackKeys::open_as(keys, Purpose::Index, ObjectType::Index, bytes)?;
    let footer = object.open_footer(bytes, bytes.len() as u64)?;
    if footer.chunks.len() != footer.frames.len() {
        return Err(Corruption::Malformed("index table"));
    }
    let mut codec = FrameCodec::new(LEVEL);
    for (ordinal, (record, entry)) in footer.frames.iter().zip(&footer.chunks).enumerate() {
        if record.raw_length as usize > INDEX_BLOCK_BYTES_MAX {
            return Err(Corruption::OverLimit("index block"));
        }
        let sealed = bytes[record.offset as usize..][..record.stored_length as usize].to_vec();
        let place = FramePlace { ordinal: ordinal as u32, record: *record };
        let raw = object.open_frame(&mut codec, place, sealed)?;
        let block = IndexBlock::decode(&raw)?;
        if *entry != block_record(&block, raw.len()) {
            return Err(Corruption::Malformed("index table"));
        }
        each(block);
    }
    Ok(())
}

fn block_record(block: &IndexBlock, raw_length: usize) -> ChunkRecord {
    let id = block.chunks.first().map_or(ChunkId([0; 32]), |chunk| chunk.id);
    ChunkRecord { id, offset: 0, length: raw_length as u32, kind: ChunkKind::Data }
}
