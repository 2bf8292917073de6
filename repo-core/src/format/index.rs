//! Index objects: where each chunk lies. Derived, can be rebuilt from packs; only ever adds.

use super::cursor::Cursor;
use super::pack::{Codec, FrameRecord};
use super::{FRAMES_MAX, INDEX_BLOCK_BYTES_MAX, OBJECT_BYTES_MAX, PACK_CHUNKS_MAX, refuse_unknown};
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

impl FrameRow {
    /// The frame as its pack's table has it, but for the number of its first chunk, which an index does not say: 0.
    pub fn record(&self) -> FrameRecord {
        let Self { offset, stored_length, raw_length, codec, .. } = *self;
        FrameRecord { offset, stored_length, raw_length, codec, first_chunk: 0 }
    }
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

const PREFIX_LENGTH: usize = 16;
const PACK_ROW_LENGTH: usize = 60;
const FRAME_ROW_LENGTH: usize = 24;
/// Over all columns: 32 id, 2 frame, 4 offset, 4 length, 1 kind.
const CHUNK_ROW_LENGTH: usize = 43;

impl IndexBlock {
    /// The length of a block's plaintext, which must not exceed `INDEX_BLOCK_BYTES_MAX`.
    pub fn length(pack_count: usize, frame_count: usize, chunk_count: usize) -> usize {
        PREFIX_LENGTH + pack_count * PACK_ROW_LENGTH + frame_count * FRAME_ROW_LENGTH + chunk_count * CHUNK_ROW_LENGTH
    }

    /// `u32 chunks ‖ u32 packs ‖ u32 frames ‖ u32 bases 0 ‖ pack rows ‖ frame rows`, then the chunks in columns, since like
    /// compresses beside like: `ids ‖ u16 frames ‖ u32 offsets ‖ u32 lengths ‖ u8 kinds`.
    ///
    /// Pack: `id[32] ‖ u32 length ‖ u32 chunk_count ‖ writer[16] ‖ u8 kind ‖ zeros[3]`.
    /// Frame: `u16 pack ‖ u16 0 ‖ u32 ordinal ‖ u32 offset ‖ u32 stored ‖ u32 raw ‖ u8 codec ‖ zeros[3]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::length(self.packs.len(), self.frames.len(), self.chunks.len()));
        for count in [self.chunks.len(), self.packs.len(), self.frames.len(), 0] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for pack in &self.packs {
            out.extend_from_slice(&pack.id.0);
            out.extend_from_slice(&pack.length.to_le_bytes());
            out.extend_from_slice(&pack.chunk_count.to_le_bytes());
            out.extend_from_slice(&pack.writer.0);
            out.extend_from_slice(&[pack.kind as u8, 0, 0, 0]);
        }
        for frame in &self.frames {
            out.extend_from_slice(&frame.pack.to_le_bytes());
            out.extend_from_slice(&[0, 0]);
            for number in [frame.ordinal, frame.offset, frame.stored_length, frame.raw_length] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&[frame.codec as u8, 0, 0, 0]);
        }
        self.chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.id.0));
        self.chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.frame.to_le_bytes()));
        self.chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.offset.to_le_bytes()));
        self.chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.length.to_le_bytes()));
        out.extend(self.chunks.iter().map(|chunk| chunk.kind as u8));
        out
    }

    /// Every row must point to a row that is there, and lie within it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        if bytes.len() > INDEX_BLOCK_BYTES_MAX {
            return Err(Corruption::OverLimit("index block"));
        }
        let mut cursor = Cursor::new(bytes);
        let (chunk_count, pack_count, frame_count) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        refuse_unknown("count of delta bases", cursor.u32()?.into())?;
        let most = u16::MAX as usize;
        let pack_count = cursor.count(pack_count.into(), PACK_ROW_LENGTH, most, "count of packs")?;
        let mut packs = Vec::with_capacity(pack_count);
        for _ in 0..pack_count {
            packs.push(decode_pack(&mut cursor)?);
        }
        let frame_count = cursor.count(frame_count.into(), FRAME_ROW_LENGTH, most, "count of frames")?;
        let mut frames = Vec::with_capacity(frame_count);
        for _ in 0..frame_count {
            frames.push(decode_frame(&mut cursor, &packs, frames.last())?);
        }
        let chunk_count =
            cursor.count(chunk_count.into(), CHUNK_ROW_LENGTH, INDEX_BLOCK_BYTES_MAX, "count of chunks")?;
        let chunks = decode_chunks(&mut cursor, chunk_count, &packs, &frames)?;
        cursor.finish()?;
        Ok(Self { packs, frames, chunks })
    }
}

fn decode_pack(cursor: &mut Cursor<'_>) -> Result<PackRow, Corruption> {
    let id = PackId(cursor.array()?);
    let (length, chunk_count) = (cursor.u32()?, cursor.u32()?);
    let writer = SnapshotId(cursor.array()?);
    let kind = match cursor.u8()? {
        1 => PackKind::Data,
        2 => PackKind::Meta,
        number => return Err(Corruption::Unknown { field: "kind of a pack", value: number.into() }),
    };
    cursor.zeros(3)?;
    if u64::from(length) > OBJECT_BYTES_MAX || chunk_count as usize > PACK_CHUNKS_MAX {
        return Err(Corruption::OverLimit("size of a pack"));
    }
    Ok(PackRow { id, length, chunk_count, writer, kind })
}

/// Ascending by pack and ordinal, and within a pack by place; `previous` is the row before.
fn decode_frame(
    cursor: &mut Cursor<'_>,
    packs: &[PackRow],
    previous: Option<&FrameRow>,
) -> Result<FrameRow, Corruption> {
    let pack = cursor.u16()?;
    cursor.zeros(2)?;
    let (ordinal, offset) = (cursor.u32()?, cursor.u32()?);
    let (stored_length, raw_length) = (cursor.u32()?, cursor.u32()?);
    let codec = Codec::from_number(cursor.u8()?)?;
    cursor.zeros(3)?;
    let of = packs.get(usize::from(pack)).ok_or(Corruption::Malformed("index block: no such pack"))?;
    FrameRecord::check(offset, stored_length, raw_length, of.length.into())?;
    let row = FrameRow { pack, ordinal, offset, stored_length, raw_length, codec };
    let after = previous.is_none_or(|previous| {
        previous.pack < pack
            || previous.pack == pack
                && previous.ordinal < ordinal
                && u64::from(previous.offset) + u64::from(previous.stored_length) <= offset.into()
    });
    if !after || ordinal as usize >= FRAMES_MAX {
        return Err(Corruption::Malformed("order of frames"));
    }
    Ok(row)
}

fn decode_chunks(
    cursor: &mut Cursor<'_>,
    count: usize,
    packs: &[PackRow],
    frames: &[FrameRow],
) -> Result<Vec<ChunkRow>, Corruption> {
    let mut ids = Cursor::new(cursor.bytes(count * 32)?);
    let mut frame_numbers = Cursor::new(cursor.bytes(count * 2)?);
    let mut offsets = Cursor::new(cursor.bytes(count * 4)?);
    let mut lengths = Cursor::new(cursor.bytes(count * 4)?);
    let mut kinds = Cursor::new(cursor.bytes(count)?);
    let mut chunks: Vec<ChunkRow> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId(ids.array()?);
        let (frame, offset, length) = (frame_numbers.u16()?, offsets.u32()?, lengths.u32()?);
        let number = kinds.u8()?;
        let kind = ChunkKind::from_number(number)
            .ok_or(Corruption::Unknown { field: "kind of a chunk", value: number.into() })?;
        let of = frames.get(usize::from(frame)).ok_or(Corruption::Malformed("index block: no such frame"))?;
        let inside = length > 0 && u64::from(offset) + u64::from(length) <= of.raw_length.into();
        if !inside || packs[usize::from(of.pack)].kind != kind.pack_kind() {
            return Err(Corruption::Malformed("place of a chunk"));
        }
        // Equal ids are allowed: one chunk may lie in several packs, and every place counts.
        if chunks.last().is_some_and(|last| last.id > id) {
            return Err(Corruption::Malformed("order of chunks"));
        }
        chunks.push(ChunkRow { id, frame, offset, length, kind });
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_block;
    use super::*;

    fn with(change: impl FnOnce(&mut IndexBlock)) -> Result<(), Corruption> {
        let mut block = sample_block();
        change(&mut block);
        IndexBlock::decode(&block.encode()).map(|read| assert_eq!(read, block))
    }

    #[test]
    fn rows_point_to_rows_that_are_there() {
        let no_pack = Err(Corruption::Malformed("index block: no such pack"));
        assert_eq!(with(|block| block.frames[2].pack = 2), no_pack);
        let no_frame = Err(Corruption::Malformed("index block: no such frame"));
        assert_eq!(with(|block| block.chunks[0].frame = 3), no_frame);
    }

    #[test]
    fn frames_ascend_and_lie_in_their_packs() {
        const ORDER: Result<(), Corruption> = Err(Corruption::Malformed("order of frames"));
        const PLACE: Result<(), Corruption> = Err(Corruption::Malformed("place of a frame"));
        assert_eq!(with(|block| block.frames[1].ordinal = 0), ORDER);
        assert_eq!(with(|block| block.frames[2].ordinal = 65_535), ORDER);
        assert_eq!(with(|block| block.frames[1].offset = 203), ORDER);
        assert_eq!(with(|block| block.frames.swap(1, 2)), ORDER);
        assert_eq!(with(|block| block.frames[1].offset = 5384), PLACE);
        assert_eq!(with(|block| block.frames[0].offset = 79), PLACE);
        assert_eq!(
            with(|block| block.frames[0].raw_length = u32::MAX),
            Err(Corruption::OverLimit("length of a frame"))
        );
    }

    #[test]
    fn chunks_ascend_lie_in_their_frames_and_are_of_the_packs_kind() {
        const ORDER: Result<(), Corruption> = Err(Corruption::Malformed("order of chunks"));
        const PLACE: Result<(), Corruption> = Err(Corruption::Malformed("place of a chunk"));
        assert_eq!(with(|block| block.chunks.swap(0, 1)), ORDER);
        assert_eq!(with(|block| block.chunks[0].length = 301), PLACE);
        assert_eq!(with(|block| block.chunks[0].length = 0), PLACE);
        assert_eq!(with(|block| block.chunks[0].offset = u32::MAX), PLACE);
        assert_eq!(with(|block| block.chunks[0].kind = ChunkKind::Tree), PLACE);
        assert_eq!(with(|block| block.chunks[3].kind = ChunkKind::Data), PLACE);
        assert_eq!(with(|block| block.chunks[3].kind = ChunkKind::Xattr), Ok(()));
    }

    #[test]
    fn one_chunk_may_have_several_places() {
        assert_eq!(with(|block| block.chunks[1].id = block.chunks[0].id), Ok(()));
    }

    #[test]
    fn counts_are_checked_before_anything_is_reserved() {
        for (offset, what) in [(0, "count of chunks"), (4, "count of packs"), (8, "count of frames")] {
            let mut bytes = sample_block().encode();
            bytes[offset..offset + 4].fill(0xff);
            assert_eq!(IndexBlock::decode(&bytes), Err(Corruption::OverLimit(what)));
            bytes[offset..offset + 4].copy_from_slice(&60_000_u32.to_le_bytes());
            assert_eq!(IndexBlock::decode(&bytes), Err(Corruption::Truncated), "{what}");
        }
        let long = vec![0; INDEX_BLOCK_BYTES_MAX + 1];
        assert_eq!(IndexBlock::decode(&long), Err(Corruption::OverLimit("index block")));
    }
}
