//! Packs: many frames in one object. The table is at the end, so that writing never seeks.
//! Sealing is `seal`'s business, uploading the writer's.

use super::cursor::Cursor;
use super::header::HEADER_LENGTH;
use super::{FOOTER_BYTES_MAX, FRAME_RAW_BYTES_MAX, FRAMES_MAX, OBJECT_BYTES_MAX, PACK_CHUNKS_MAX, refuse_unknown};
use crate::error::Corruption;
use crate::id::{ChunkId, ChunkKind, SnapshotId};

/// How a frame's plaintext was compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Codec {
    Raw = 0,
    Zstd = 1,
}

impl Codec {
    /// Refuses numbers that this build cannot read: 2 lz4, 3 zstd with a dictionary, 4 delta are reserved.
    pub fn from_number(number: u8) -> Result<Self, Corruption> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            _ => Err(Corruption::Unknown { field: "codec", value: number.into() }),
        }
    }
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

/// What sealing adds to a frame or a footer: the synthetic part of its nonce before it, the tag after it.
pub const SEALED_OVERHEAD: usize = 8 + 16;

/// The plaintext of a footer is padded to a multiple of this, which hides the counts.
pub const FOOTER_STEP: usize = 4096;

/// Bytes before the records of a footer.
const FOOTER_PREFIX_LENGTH: usize = 16 + 4 * 4 + 8;
const FRAME_RECORD_LENGTH: usize = 20;
const CHUNK_RECORD_LENGTH: usize = 44;

/// The last eight bytes of a pack or index object.
const TRAILER_MAGIC: [u8; 8] = *b"RCO1END1";

/// Bytes of the trailer, which says where the footer is.
pub const TRAILER_LENGTH: usize = 24;

/// The last bytes of a pack, plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Sealed length of the footer.
    pub footer_length: u32,
    pub object_length: u64,
}

impl FrameRecord {
    /// Where it ends, counted from the object's start.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.stored_length)
    }

    /// What every frame record must be, wherever it stands: within an object's first `data_end` bytes, and of a size that
    /// sealing can have made.
    pub(super) fn check(offset: u32, stored_length: u32, raw_length: u32, data_end: u64) -> Result<(), Corruption> {
        if raw_length > FRAME_RAW_BYTES_MAX {
            return Err(Corruption::OverLimit("length of a frame"));
        }
        let end = u64::from(offset) + u64::from(stored_length);
        let placed = offset as usize >= HEADER_LENGTH && end <= data_end && stored_length as usize > SEALED_OVERHEAD;
        if placed && raw_length > 0 { Ok(()) } else { Err(Corruption::Malformed("place of a frame")) }
    }
}

impl Footer {
    /// The chunks of frame `ordinal`.
    pub fn chunks_of(&self, ordinal: usize) -> &[ChunkRecord] {
        let start = self.frames[ordinal].first_chunk as usize;
        let end = self.frames.get(ordinal + 1).map_or(self.chunks.len(), |next| next.first_chunk as usize);
        &self.chunks[start..end]
    }

    /// `writer[16] ‖ u32 frames ‖ u32 chunks ‖ u32 bases 0 ‖ u32 0 ‖ u64 data_end ‖ frame records ‖ chunk records ‖ zeros`,
    /// padded to a multiple of 4096, which hides the counts.
    ///
    /// Frame: `u32 offset ‖ u32 stored ‖ u32 raw ‖ u8 codec ‖ u8 flags 0 ‖ u16 0 ‖ u32 first_chunk`.
    /// Chunk: `id[32] ‖ u32 offset ‖ u32 length ‖ u8 kind ‖ zeros[3]`.
    pub fn encode(&self) -> Vec<u8> {
        let length = footer_length(self.frames.len(), self.chunks.len());
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&self.writer.0);
        out.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.data_end.to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.stored_length.to_le_bytes());
            out.extend_from_slice(&frame.raw_length.to_le_bytes());
            out.extend_from_slice(&[frame.codec as u8, 0, 0, 0]);
            out.extend_from_slice(&frame.first_chunk.to_le_bytes());
        }
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            out.extend_from_slice(&chunk.offset.to_le_bytes());
            out.extend_from_slice(&chunk.length.to_le_bytes());
            out.extend_from_slice(&[chunk.kind as u8, 0, 0, 0]);
        }
        out.resize(length, 0);
        out
    }

    /// Frames must lie back to back from the header to `data_end`, and each chunk within its frame, after the one before.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        if bytes.len() > FOOTER_BYTES_MAX {
            return Err(Corruption::OverLimit("footer"));
        }
        let mut cursor = Cursor::new(bytes);
        let writer = SnapshotId(cursor.array()?);
        let (frame_count, chunk_count) = (cursor.u32()?, cursor.u32()?);
        refuse_unknown("count of delta bases", cursor.u32()?.into())?;
        cursor.zeros(4)?;
        let data_end = cursor.u64()?;
        if data_end > OBJECT_BYTES_MAX {
            return Err(Corruption::OverLimit("length of a pack"));
        }
        let frame_count = cursor.count(frame_count.into(), FRAME_RECORD_LENGTH, FRAMES_MAX, "count of frames")?;
        let mut frames = Vec::with_capacity(frame_count);
        for _ in 0..frame_count {
            frames.push(decode_frame(&mut cursor)?);
        }
        let chunk_count = cursor.count(chunk_count.into(), CHUNK_RECORD_LENGTH, PACK_CHUNKS_MAX, "count of chunks")?;
        let mut chunks = Vec::with_capacity(chunk_count);
        for _ in 0..chunk_count {
            chunks.push(decode_chunk(&mut cursor)?);
        }
        if bytes.len() != footer_length(frame_count, chunk_count) {
            return Err(Corruption::Malformed("length of a footer"));
        }
        cursor.zeros(cursor.remaining())?;
        let footer = Self { writer, data_end, frames, chunks };
        footer.check_frames()?;
        footer.check_chunks()?;
        Ok(footer)
    }

    fn check_frames(&self) -> Result<(), Corruption> {
        let mut end = HEADER_LENGTH as u64;
        for frame in &self.frames {
            FrameRecord::check(frame.offset, frame.stored_length, frame.raw_length, self.data_end)?;
            if u64::from(frame.offset) != end {
                return Err(Corruption::Malformed("place of a frame"));
            }
            end = frame.end();
        }
        if end == self.data_end { Ok(()) } else { Err(Corruption::Malformed("end of the frames")) }
    }

    fn check_chunks(&self) -> Result<(), Corruption> {
        let starts = self.frames.first().is_none_or(|frame| frame.first_chunk == 0)
            && self.frames.is_sorted_by(|a, b| a.first_chunk < b.first_chunk)
            && self
                .frames
                .last()
                .map_or(self.chunks.is_empty(), |last| (last.first_chunk as usize) < self.chunks.len());
        // Checked before any slice is taken by them: `chunks_of` believes these numbers.
        if !starts {
            return Err(Corruption::Malformed("first chunk of a frame"));
        }
        for (ordinal, frame) in self.frames.iter().enumerate() {
            let mut end = 0;
            for chunk in self.chunks_of(ordinal) {
                if u64::from(chunk.offset) < end || chunk.length == 0 {
                    return Err(Corruption::Malformed("place of a chunk"));
                }
                end = u64::from(chunk.offset) + u64::from(chunk.length);
            }
            if end > frame.raw_length.into() {
                return Err(Corruption::Malformed("place of a chunk"));
            }
        }
        Ok(())
    }
}

/// The length of a footer's plaintext.
pub fn footer_length(frame_count: usize, chunk_count: usize) -> usize {
    (FOOTER_PREFIX_LENGTH + frame_count * FRAME_RECORD_LENGTH + chunk_count * CHUNK_RECORD_LENGTH)
        .next_multiple_of(FOOTER_STEP)
}

fn decode_frame(cursor: &mut Cursor<'_>) -> Result<FrameRecord, Corruption> {
    let (offset, stored_length, raw_length) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let codec = Codec::from_number(cursor.u8()?)?;
    refuse_unknown("frame flag", cursor.u8()?.into())?;
    cursor.zeros(2)?;
    Ok(FrameRecord { offset, stored_length, raw_length, codec, first_chunk: cursor.u32()? })
}

fn decode_chunk(cursor: &mut Cursor<'_>) -> Result<ChunkRecord, Corruption> {
    let id = ChunkId(cursor.array()?);
    let (offset, length, number) = (cursor.u32()?, cursor.u32()?, cursor.u8()?);
    let kind =
        ChunkKind::from_number(number).ok_or(Corruption::Unknown { field: "kind of a chunk", value: number.into() })?;
    cursor.zeros(3)?;
    Ok(ChunkRecord { id, offset, length, kind })
}

impl Trailer {
    /// `u32 footer_length ‖ u32 0 ‖ u64 object_length ‖ "RCO1END1"`.
    pub fn encode(&self) -> [u8; TRAILER_LENGTH] {
        let mut bytes = [0; TRAILER_LENGTH];
        bytes[..4].copy_from_slice(&self.footer_length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.object_length.to_le_bytes());
        bytes[16..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// The footer it speaks of fits between header and trailer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        let footer_length = cursor.u32()?;
        cursor.zeros(4)?;
        let object_length = cursor.u64()?;
        if cursor.array()? != TRAILER_MAGIC {
            return Err(Corruption::Magic);
        }
        cursor.finish()?;
        if object_length > OBJECT_BYTES_MAX {
            return Err(Corruption::OverLimit("length of a pack"));
        }
        let plaintext =
            (footer_length as usize).checked_sub(SEALED_OVERHEAD).ok_or(Corruption::Malformed("trailer"))?;
        if plaintext > FOOTER_BYTES_MAX {
            return Err(Corruption::OverLimit("footer"));
        }
        let around = (HEADER_LENGTH + TRAILER_LENGTH) as u64;
        if plaintext == 0 || plaintext % FOOTER_STEP != 0 || u64::from(footer_length) + around > object_length {
            return Err(Corruption::Malformed("trailer"));
        }
        Ok(Self { footer_length, object_length })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_footer;
    use super::*;

    fn with(change: impl FnOnce(&mut Footer)) -> Result<(), Corruption> {
        let mut footer = sample_footer();
        change(&mut footer);
        Footer::decode(&footer.encode()).map(|read| assert_eq!(read, footer))
    }

    #[test]
    fn frames_lie_back_to_back_from_the_header_to_the_end() {
        const FRAME: Result<(), Corruption> = Err(Corruption::Malformed("place of a frame"));
        assert_eq!(with(|footer| footer.frames[0].offset = 79), FRAME);
        assert_eq!(with(|footer| footer.frames[0].offset = 81), FRAME);
        assert_eq!(with(|footer| footer.frames[1].offset -= 1), FRAME);
        assert_eq!(with(|footer| footer.frames[1].offset += 1), FRAME);
        assert_eq!(with(|footer| footer.frames.swap(0, 1)), FRAME);
        assert_eq!(with(|footer| footer.frames[1].stored_length += 1), FRAME);
        assert_eq!(with(|footer| footer.frames[1].offset = u32::MAX), FRAME);
        assert_eq!(with(|footer| footer.frames[0].raw_length = 0), FRAME);
        let end = Err(Corruption::Malformed("end of the frames"));
        assert_eq!(with(|footer| footer.data_end += 1), end);
        assert_eq!(with(|footer| footer.frames[1].stored_length -= 1), end);
    }

    #[test]
    fn a_frame_holds_at_least_a_byte_beside_what_sealing_adds() {
        let stored = |length: u32| {
            with(|footer| {
                footer.data_end = 80 + u64::from(length);
                footer.frames.truncate(1);
                footer.chunks.truncate(2);
                footer.frames[0].stored_length = length;
            })
        };
        assert_eq!(stored(25), Ok(()));
        assert_eq!(stored(24), Err(Corruption::Malformed("place of a frame")));
    }

    #[test]
    fn chunks_lie_in_their_frames_one_after_the_other() {
        const CHUNK: Result<(), Corruption> = Err(Corruption::Malformed("place of a chunk"));
        assert_eq!(with(|footer| footer.chunks[1].offset = 199), CHUNK);
        assert_eq!(with(|footer| footer.chunks.swap(0, 1)), CHUNK);
        assert_eq!(with(|footer| footer.chunks[1].length = 101), CHUNK);
        assert_eq!(with(|footer| footer.chunks[1].length = u32::MAX), CHUNK);
        assert_eq!(with(|footer| footer.chunks[0].length = 0), CHUNK);
        assert_eq!(with(|footer| footer.chunks[2].offset = u32::MAX), CHUNK);
        assert_eq!(with(|footer| footer.chunks[1].length = 99), Ok(()));
    }

    #[test]
    fn the_first_chunks_of_frames_ascend_from_0_and_exist() {
        const FIRST: Result<(), Corruption> = Err(Corruption::Malformed("first chunk of a frame"));
        let first =
            |numbers: [u32; 2]| with(|footer| [footer.frames[0].first_chunk, footer.frames[1].first_chunk] = numbers);
        assert_eq!(first([1, 2]), FIRST);
        assert_eq!(first([0, 0]), FIRST);
        assert_eq!(first([0, 3]), FIRST);
        assert_eq!(first([0, u32::MAX]), FIRST);
        assert_eq!(with(|footer| footer.chunks.clear()), FIRST);
        let no_frames = |footer: &mut Footer| {
            footer.frames.clear();
            footer.data_end = 80;
        };
        assert_eq!(with(no_frames), FIRST);
    }

    #[test]
    fn lengths_over_their_limits_are_refused() {
        assert_eq!(
            with(|footer| footer.frames[0].raw_length = FRAME_RAW_BYTES_MAX + 1),
            Err(Corruption::OverLimit("length of a frame"))
        );
        assert_eq!(with(|footer| footer.frames[0].raw_length = FRAME_RAW_BYTES_MAX), Ok(()));
        assert_eq!(
            with(|footer| footer.data_end = OBJECT_BYTES_MAX + 1),
            Err(Corruption::OverLimit("length of a pack"))
        );
    }

    /// The golden footer with bytes changed.
    fn patched(offset: usize, bytes: &[u8]) -> Result<Footer, Corruption> {
        let mut footer = sample_footer().encode();
        footer[offset..][..bytes.len()].copy_from_slice(bytes);
        Footer::decode(&footer)
    }

    #[test]
    fn counts_are_checked_before_anything_is_reserved() {
        assert_eq!(patched(16, &[0xff; 4]), Err(Corruption::OverLimit("count of frames")));
        assert_eq!(patched(16, &65535_u32.to_le_bytes()), Err(Corruption::Truncated));
        assert_eq!(patched(20, &[0xff; 4]), Err(Corruption::OverLimit("count of chunks")));
        assert_eq!(patched(20, &(1_u32 << 20).to_le_bytes()), Err(Corruption::Truncated));
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        let unknown = |field, value| Err(Corruption::Unknown { field, value });
        assert_eq!(patched(24, &[1]), unknown("count of delta bases", 1));
        assert_eq!(patched(40 + 12, &[4]), unknown("codec", 4));
        assert_eq!(patched(40 + 13, &[1]), unknown("frame flag", 1));
        assert_eq!(patched(40 + 14, &[1]), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(patched(80 + 40, &[4]), unknown("kind of a chunk", 4));
        assert_eq!(patched(80 + 41, &[1]), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(patched(4095, &[1]), Err(Corruption::Malformed("zero bytes")));
    }

    #[test]
    fn a_footer_has_one_length() {
        let footer = sample_footer().encode();
        let longer = [footer.clone(), vec![0; FOOTER_STEP]].concat();
        assert_eq!(Footer::decode(&longer), Err(Corruption::Malformed("length of a footer")));
        assert_eq!(Footer::decode(&footer[..4095]), Err(Corruption::Malformed("length of a footer")));
    }

    #[test]
    fn a_trailer_speaks_of_a_footer_that_can_be_there() {
        let trailer = |footer_length, object_length| {
            Trailer::decode(&Trailer { footer_length, object_length }.encode()).map(drop)
        };
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("trailer"));
        assert_eq!(trailer(4120, 4120 + 104), Ok(()));
        assert_eq!(trailer(4120, 4120 + 103), MALFORMED);
        assert_eq!(trailer(4121, 9000), MALFORMED);
        assert_eq!(trailer(24, 9000), MALFORMED);
        assert_eq!(trailer(23, 9000), MALFORMED);
        assert_eq!(trailer(4120, 1 << 30), Ok(()));
        assert_eq!(trailer(4120, (1 << 30) + 1), Err(Corruption::OverLimit("length of a pack")));
        assert_eq!(trailer((64 << 20) + 4096 + 24, 1 << 30), Err(Corruption::OverLimit("footer")));
        let mut bytes = Trailer { footer_length: 4120, object_length: 9000 }.encode();
        bytes[23] = b'2';
        assert_eq!(Trailer::decode(&bytes), Err(Corruption::Magic));
    }
}
