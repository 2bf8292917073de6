//! Index objects: the container of packs, with one index block in each frame.

use bytes::Bytes;

use super::pack::{FramePlace, ObjectBuilder, PackKeys};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::INDEX_BLOCK_BYTES_MAX;
use crate::format::header::{Header, ObjectType};
use crate::format::index::IndexBlock;
use crate::format::keyring::Purpose;
use crate::format::pack::{ChunkRecord, Footer};
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, IndexId, SnapshotId};

/// Ids do not compress, and the columns beside them do at any level.
const LEVEL: i32 = 1;

/// Seals an index object: each block one frame. Returns the object and its name.
///
/// The table has one chunk record for each block, with the block's first id: whoever looks for an id may fetch the one
/// block that can have it.
pub fn seal_index(keys: &Keys, writer: SnapshotId, counter: u64, blocks: &[IndexBlock]) -> Result<(IndexId, Bytes)> {
    let mut object = ObjectBuilder::new(keys, Purpose::Index, ObjectType::Index, writer, counter, Vec::new())?;
    let mut codec = FrameCodec::new(LEVEL);
    for block in blocks {
        let raw = block.encode();
        if raw.len() > INDEX_BLOCK_BYTES_MAX {
            return Err(Error::Limit {
                what: "an index block, in bytes,".to_owned(),
                limit: INDEX_BLOCK_BYTES_MAX as u64,
            });
        }
        object.push_frame(&mut codec, std::iter::once(block_record(block, raw.len())), &raw, None)?;
    }
    let (hash, bytes, _) = object.finish()?;
    Ok((IndexId(hash), bytes))
}

/// Opens a whole index object, calling `each` for every block. Blocks before a damaged one were handed over already.
/// Its name is the caller's to verify.
pub fn open_index(keys: &Keys, bytes: &[u8], each: &mut dyn FnMut(IndexBlock)) -> Result<(Header, Footer), Corruption> {
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
    Ok((object.header, footer))
}

fn block_record(block: &IndexBlock, raw_length: usize) -> ChunkRecord {
    let id = block.chunks.first().map_or(ChunkId([0; 32]), |chunk| chunk.id);
    ChunkRecord { id, offset: 0, length: raw_length as u32, kind: ChunkKind::Data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing;
    use crate::format::index::{ChunkRow, FrameRow, PackRow};
    use crate::format::pack::Codec;
    use crate::id::{PackId, PackKind};
    use crate::seal::has_name;

    fn block(seed: u8, chunk_count: u32) -> IndexBlock {
        let writer = SnapshotId([3; 16]);
        let pack = PackRow { id: PackId([seed; 32]), length: 1 << 20, chunk_count, writer, kind: PackKind::Data };
        let frame = FrameRow {
            pack: 0,
            ordinal: 0,
            offset: 80,
            stored_length: 900_000,
            raw_length: 1 << 20,
            codec: Codec::Zstd,
        };
        let mut ids: Vec<_> = (0..chunk_count)
            .map(|number| ChunkId(*blake3::keyed_hash(&[seed; 32], &number.to_le_bytes()).as_bytes()))
            .collect();
        ids.sort();
        let row = |(number, id): (usize, ChunkId)| ChunkRow {
            id,
            frame: 0,
            offset: number as u32,
            length: 1,
            kind: ChunkKind::Data,
        };
        IndexBlock { packs: vec![pack], frames: vec![frame], chunks: ids.into_iter().enumerate().map(row).collect() }
    }

    fn seal(blocks: &[IndexBlock]) -> (IndexId, Bytes) {
        seal_index(&testing::keys(), SnapshotId([1; 16]), 0, blocks).unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Vec<IndexBlock>, Corruption> {
        let mut blocks = Vec::new();
        open_index(&testing::keys(), bytes, &mut |block| blocks.push(block))?;
        Ok(blocks)
    }

    #[test]
    fn an_index_object_gives_its_blocks_back_in_order() {
        for blocks in [vec![], vec![block(1, 5)], vec![block(1, 10_000), block(2, 1), IndexBlock::default()]] {
            let (name, bytes) = seal(&blocks);
            assert!(has_name(&bytes, &name.0));
            assert_eq!(open(&bytes).unwrap(), blocks);
        }
    }

    #[test]
    fn an_index_object_is_neither_a_pack_nor_another_repositorys() {
        let (_, bytes) = seal(&[block(1, 5)]);
        let as_pack = PackKeys::open(&testing::keys(), PackKind::Meta, &bytes).unwrap_err();
        assert_eq!(as_pack, Corruption::WrongType(3));
        let elsewhere = open_index(&testing::other_keys(), &bytes, &mut |_| panic!("nothing opens"));
        assert_eq!(elsewhere, Err(Corruption::Authentication));
    }

    #[test]
    fn damage_outside_the_padding_is_noticed_on_opening_and_everywhere_by_name() {
        let blocks = [block(1, 40), block(2, 40)];
        let (name, bytes) = seal(&blocks);
        let keys = testing::keys();
        let object = PackKeys::open_as(&keys, Purpose::Index, ObjectType::Index, &bytes).unwrap();
        let data_end = object.open_footer(&bytes, bytes.len() as u64).unwrap().data_end as usize;
        let footer_start = bytes.len() - PackKeys::tail_length(&bytes, bytes.len() as u64).unwrap() as usize;
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!has_name(&changed, &name.0));
            let in_padding = (data_end..footer_start).contains(&(bit / 8));
            assert_eq!(open(&changed).is_ok(), in_padding, "bit {bit}");
        }
        for length in (0..bytes.len()).step_by(7) {
            open(&bytes[..length]).unwrap_err();
        }
    }

    #[test]
    fn a_block_over_its_limit_is_refused() {
        let error = seal_index(&testing::keys(), SnapshotId([1; 16]), 0, &[block(1, 25_000)]).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 1_048_576, .. }), "{error}");
    }
}
