//! Packs: frames sealed one by one in a buffer that becomes the object; and the way back.
//!
//! `header ‖ frames ‖ padding ‖ footer ‖ trailer`. An index object is the same container with blocks for frames.

use std::sync::Arc;

use bytes::Bytes;

use super::padding::padded_object_length;
use crate::crypto::{Domain, Keys, ObjectKeys, SEAL_OVERHEAD};
use crate::error::{Corruption, Error, Result};
use crate::format::header::{HEADER_LENGTH, Header, ObjectType};
use crate::format::keyring::Purpose;
use crate::format::pack::{ChunkRecord, Codec, Footer, FrameRecord, TRAILER_LENGTH, Trailer};
use crate::format::{FOOTER_BYTES_MAX, FRAME_RAW_BYTES_MAX, FRAMES_MAX, OBJECT_BYTES_MAX, PACK_CHUNKS_MAX};
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind, SnapshotId};

/// A chunk on its way into a frame.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub id: ChunkId,
    pub kind: ChunkKind,
    pub bytes: &'a [u8],
}

/// Where a pack's frames may be read from: `pack.frame()` wants these facts, from the footer or from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    pub ordinal: u32,
    pub record: FrameRecord,
}

/// A finished pack.
#[derive(Debug, Clone)]
pub struct SealedPack {
    pub id: PackId,
    pub kind: PackKind,
    pub bytes: Bytes,
    pub footer: Footer,
}

/// A pack being built, in one buffer of its final form: frames are compressed into it and encrypted there in place.
/// Not `Clone`, and consumed by [`finish`](Self::finish): a nonce never serves twice.
pub struct PackBuilder {
    kind: PackKind,
    object: ObjectBuilder,
}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackBuilder")
    }
}

impl PackBuilder {
    /// `buffer`: memory to build in; what it holds is dropped. It moves if the pack outgrows its capacity, and each frame
    /// needs room for its uncompressed length while it is compressed: the pack's length, one frame, and the table.
    /// `counter`: the writer's count of objects so far (see [`Keys::new_object`]).
    pub fn new(keys: &Keys, kind: PackKind, writer: SnapshotId, counter: u64, buffer: Vec<u8>) -> Result<Self> {
        let (purpose, object_type) = purpose_and_type(kind);
        Ok(Self { kind, object: ObjectBuilder::new(keys, purpose, object_type, writer, counter, buffer)? })
    }

    /// Compresses and seals one frame. `raw` is the concatenation of the parts. With `verify`, the sealed frame is opened
    /// again, decompressed, and every id recomputed before this returns ([`Error::SelfCheck`](crate::Error::SelfCheck)).
    ///
    /// # Errors
    /// [`Error::Limit`] if the frame or the pack would be over a limit of the format: the pack is then as before.
    ///
    /// # Panics
    /// If `raw` is empty, or not as long as the parts together.
    pub fn push_frame(
        &mut self,
        keys: &Keys,
        codec: &mut FrameCodec,
        parts: &[Part<'_>],
        raw: &[u8],
        verify: bool,
    ) -> Result<FrameRecord> {
        self.push(keys, codec, parts, raw, None, verify)
    }

    /// The same, for a frame that is compressed already: it moves from one pack to another. `raw` must be what `packed` was
    /// just decompressed to, and its parts what they are named: so `verify` asks only whether `packed` comes back.
    pub fn push_packed(
        &mut self,
        keys: &Keys,
        codec: &mut FrameCodec,
        parts: &[Part<'_>],
        raw: &[u8],
        packed: (Codec, &[u8]),
        verify: bool,
    ) -> Result<FrameRecord> {
        self.push(keys, codec, parts, raw, Some(packed), verify)
    }

    fn push(
        &mut self,
        keys: &Keys,
        codec: &mut FrameCodec,
        parts: &[Part<'_>],
        raw: &[u8],
        packed: Option<(Codec, &[u8])>,
        verify: bool,
    ) -> Result<FrameRecord> {
        let length: usize = parts.iter().map(|part| part.bytes.len()).sum();
        assert_eq!(length, raw.len(), "the parts are what the frame holds");
        debug_assert!(parts.iter().all(|part| part.kind.pack_kind() == self.kind), "chunks of this kind of pack");
        let mut offset = 0;
        let chunks = parts.iter().map(|part| {
            let length = part.bytes.len() as u32;
            let record = ChunkRecord { id: part.id, offset, length, kind: part.kind };
            offset += length;
            record
        });
        let record = self.object.push_frame(codec, chunks, raw, packed)?;
        match packed {
            _ if !verify => {}
            None => self.object.reopen_last(codec, |raw, chunks| verify_chunks(keys, raw, chunks))?,
            Some((_, packed)) => self.object.reopen_last_packed(codec, packed)?,
        }
        Ok(record)
    }

    /// Whether the table has room for another frame of so many chunks.
    pub fn has_room_for(&self, chunk_count: usize) -> bool {
        let Footer { frames, chunks, .. } = &self.object.footer;
        frames.len() < FRAMES_MAX && chunks.len() + chunk_count <= PACK_CHUNKS_MAX
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.object.buffer.len()
    }

    /// Pads, seals the table, hashes.
    pub fn finish(self) -> Result<SealedPack> {
        let (hash, bytes, footer) = self.object.finish()?;
        Ok(SealedPack { id: PackId(hash), kind: self.kind, bytes, footer })
    }
}

fn purpose_and_type(kind: PackKind) -> (Purpose, ObjectType) {
    match kind {
        PackKind::Data => (Purpose::PackData, ObjectType::DataPack),
        PackKind::Meta => (Purpose::PackMeta, ObjectType::MetaPack),
    }
}

/// The container of packs and index objects, being built.
pub(super) struct ObjectBuilder {
    header: [u8; HEADER_LENGTH],
    keys: ObjectKeys,
    buffer: Vec<u8>,
    /// Has seen all of `buffer`: the name is known without a second pass.
    hasher: blake3::Hasher,
    footer: Footer,
}

impl ObjectBuilder {
    pub(super) fn new(
        keys: &Keys,
        purpose: Purpose,
        object_type: ObjectType,
        writer: SnapshotId,
        counter: u64,
        mut buffer: Vec<u8>,
    ) -> Result<Self> {
        let (header, object_keys) = keys.new_object(purpose, object_type, &writer.0, counter)?;
        let footer = Footer { writer, data_end: HEADER_LENGTH as u64, frames: Vec::new(), chunks: Vec::new() };
        buffer.clear();
        let mut builder =
            Self { header: header.encode(), keys: object_keys, buffer, hasher: blake3::Hasher::new(), footer };
        builder.buffer.extend_from_slice(&builder.header);
        builder.hasher.update(&builder.buffer);
        Ok(builder)
    }

    /// Compresses `raw` to the buffer's end, seals it there, and enters it into the table with its chunks.
    pub(super) fn push_frame(
        &mut self,
        codec: &mut FrameCodec,
        chunks: impl ExactSizeIterator<Item = ChunkRecord>,
        raw: &[u8],
        packed: Option<(Codec, &[u8])>,
    ) -> Result<FrameRecord> {
        assert!(!raw.is_empty() && chunks.len() > 0, "a frame holds something");
        self.check_room(chunks.len(), raw.len())?;
        let ordinal = self.footer.frames.len() as u32;
        let offset = self.buffer.len();
        // The places of the nonce's synthetic part and of the tag.
        self.buffer.extend_from_slice(&[0; 8]);
        let codec_used = match packed {
            Some((codec_used, bytes)) => {
                self.buffer.extend_from_slice(bytes);
                codec_used
            }
            None => codec.compress(raw, &mut self.buffer),
        };
        self.buffer.extend_from_slice(&[0; 16]);
        let record = FrameRecord {
            offset: offset as u32,
            stored_length: (self.buffer.len() - offset) as u32,
            raw_length: raw.len() as u32,
            codec: codec_used,
            first_chunk: self.footer.chunks.len() as u32,
        };
        let associated = frame_associated(&self.header, record.raw_length, codec_used);
        let sealed = &mut self.buffer[offset..];
        self.keys.seal_in_place(Domain::Frame, ordinal, &associated, sealed);
        self.hasher.update(sealed);
        self.footer.frames.push(record);
        self.footer.chunks.extend(chunks);
        self.footer.data_end = self.buffer.len() as u64;
        Ok(record)
    }

    fn check_room(&self, chunk_count: usize, raw_length: usize) -> Result<()> {
        let over = |what: &str, limit: usize| Err(Error::Limit { what: what.to_owned(), limit: limit as u64 });
        if raw_length > FRAME_RAW_BYTES_MAX as usize {
            return over("a frame, in bytes,", FRAME_RAW_BYTES_MAX as usize);
        }
        if self.footer.frames.len() >= FRAMES_MAX {
            return over("the count of a pack's frames", FRAMES_MAX);
        }
        if self.footer.chunks.len() + chunk_count > PACK_CHUNKS_MAX {
            return over("the count of a pack's chunks", PACK_CHUNKS_MAX);
        }
        // A frame is stored in at most its raw length; the largest table and the padding must fit behind it.
        let longest = (self.buffer.len() + SEAL_OVERHEAD + raw_length + FOOTER_BYTES_MAX) as u64;
        if longest > OBJECT_BYTES_MAX {
            return over("a pack, in bytes,", OBJECT_BYTES_MAX as usize);
        }
        Ok(())
    }

    /// Opens the frame that was sealed last from its stored bytes, and lets `check` judge the plaintext.
    fn reopen_last(
        &self,
        codec: &mut FrameCodec,
        check: impl FnOnce(&[u8], &[ChunkRecord]) -> Result<(), Corruption>,
    ) -> Result<()> {
        let chunks = self.footer.chunks_of(self.footer.frames.len() - 1);
        self.open_last(codec, |codec, record, stored, raw| {
            codec.decompress_into(record.codec, stored, record.raw_length as usize, raw)?;
            check(raw, chunks)
        })
    }

    /// The same, for a frame that moved as it was compressed: it must be `packed`.
    fn reopen_last_packed(&self, codec: &mut FrameCodec, packed: &[u8]) -> Result<()> {
        let is_same = |stored: &[u8]| if stored == packed { Ok(()) } else { Err(Corruption::Hash) };
        self.open_last(codec, |_, _, stored, _| is_same(stored))
    }

    /// Decrypts the frame that was sealed last. `judge` is given an empty buffer too.
    fn open_last(
        &self,
        codec: &mut FrameCodec,
        judge: impl FnOnce(&mut FrameCodec, &FrameRecord, &[u8], &mut Vec<u8>) -> Result<(), Corruption>,
    ) -> Result<()> {
        let ordinal = self.footer.frames.len() - 1;
        let record = self.footer.frames[ordinal];
        let mut scratch = codec.take_scratch();
        let [sealed, raw] = &mut scratch;
        sealed.extend_from_slice(&self.buffer[record.offset as usize..]);
        let associated = frame_associated(&self.header, record.raw_length, record.codec);
        let outcome = self
            .keys
            .open_in_place(Domain::Frame, ordinal as u32, &associated, sealed)
            .and_then(|stored| judge(codec, &record, stored, raw));
        codec.return_scratch(scratch);
        outcome.map_err(|problem| Error::SelfCheck(problem.to_string()))
    }

    /// Pads, seals the table, hashes.
    pub(super) fn finish(mut self) -> Result<([u8; 32], Bytes, Footer)> {
        let table = self.footer.encode();
        let footer_length = table.len() + SEAL_OVERHEAD;
        let data_end = self.buffer.len();
        let object_length = padded_object_length((data_end + footer_length + TRAILER_LENGTH) as u64, &self.keys);
        let footer_offset = object_length as usize - TRAILER_LENGTH - footer_length;
        self.buffer.reserve_exact(object_length as usize - data_end);
        self.buffer.resize(footer_offset + 8, 0);
        self.keys.fill_padding(&mut self.buffer[data_end..footer_offset]);
        self.buffer.extend_from_slice(&table);
        self.buffer.extend_from_slice(&[0; 16]);
        let associated = footer_associated(&self.header, footer_offset as u64, object_length);
        self.keys.seal_in_place(Domain::Footer, 0, &associated, &mut self.buffer[footer_offset..]);
        let trailer = Trailer { footer_length: footer_length as u32, object_length };
        self.buffer.extend_from_slice(&trailer.encode());
        self.hasher.update(&self.buffer[data_end..]);
        Ok((*self.hasher.finalize().as_bytes(), Bytes::from(self.buffer), self.footer))
    }
}

/// What a frame is bound to beside its place: how it is to be decompressed.
fn frame_associated(header: &[u8; HEADER_LENGTH], raw_length: u32, codec: Codec) -> [u8; HEADER_LENGTH + 8] {
    let mut associated = [0; HEADER_LENGTH + 8];
    associated[..HEADER_LENGTH].copy_from_slice(header);
    associated[HEADER_LENGTH..][..4].copy_from_slice(&raw_length.to_le_bytes());
    associated[HEADER_LENGTH + 4] = codec as u8;
    associated
}

fn footer_associated(header: &[u8; HEADER_LENGTH], offset: u64, object_length: u64) -> [u8; HEADER_LENGTH + 16] {
    let mut associated = [0; HEADER_LENGTH + 16];
    associated[..HEADER_LENGTH].copy_from_slice(header);
    associated[HEADER_LENGTH..][..8].copy_from_slice(&offset.to_le_bytes());
    associated[HEADER_LENGTH + 8..].copy_from_slice(&object_length.to_le_bytes());
    associated
}

/// The keys of a stored pack, from its first 80 bytes.
#[derive(Debug, Clone)]
pub struct PackKeys {
    pub header: Header,
    pub keys: Arc<ObjectKeys>,
}

impl PackKeys {
    /// How many of a pack's first bytes they are made of.
    pub const FIRST_BYTES: u32 = HEADER_LENGTH as u32;

    /// From a pack's first bytes; the header's type must be that of `kind`.
    pub fn open(keys: &Keys, kind: PackKind, first_bytes: &[u8]) -> Result<Self, Corruption> {
        let (purpose, object_type) = purpose_and_type(kind);
        Self::open_as(keys, purpose, object_type, first_bytes)
    }

    pub(super) fn open_as(
        keys: &Keys,
        purpose: Purpose,
        object_type: ObjectType,
        first_bytes: &[u8],
    ) -> Result<Self, Corruption> {
        let header = Header::decode(first_bytes.get(..HEADER_LENGTH).ok_or(Corruption::Truncated)?)?;
        if header.object_type != object_type {
            return Err(Corruption::WrongType(header.object_type as u8));
        }
        let keys = Arc::new(keys.of_object(purpose, &header)?);
        Ok(Self { header, keys })
    }

    /// Opens a frame: `sealed` are its `stored_length` bytes. The ids of its chunks are the caller's to verify.
    pub fn open_frame(
        &self,
        codec: &mut FrameCodec,
        place: FramePlace,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, Corruption> {
        let record = place.record;
        let stored = self.decrypt_frame(place, &mut sealed)?;
        if record.codec == Codec::Zstd {
            return codec.decompress(Codec::Zstd, stored, record.raw_length as usize);
        }
        if stored.len() != record.raw_length as usize {
            return Err(Corruption::Malformed("frame length"));
        }
        // Already the plaintext: moved to the front, not copied to a second buffer.
        sealed.truncate(8 + record.raw_length as usize);
        sealed.drain(..8);
        Ok(sealed)
    }

    /// The compressed bytes of a frame, decrypted in place: for who moves it to another pack.
    pub fn decrypt_frame<'m>(&self, place: FramePlace, sealed: &'m mut [u8]) -> Result<&'m mut [u8], Corruption> {
        if sealed.len() != place.record.stored_length as usize {
            return Err(Corruption::Truncated);
        }
        let associated = frame_associated(&self.header.encode(), place.record.raw_length, place.record.codec);
        self.keys.open_in_place(Domain::Frame, place.ordinal, &associated, sealed)
    }

    /// Opens the table: `tail` are the pack's last bytes, at least [`Self::tail_length`] of them.
    pub fn open_footer(&self, tail: &[u8], object_length: u64) -> Result<Footer, Corruption> {
        let tail_length = Self::tail_length(tail, object_length)?;
        let start = (tail.len() as u64).checked_sub(tail_length).ok_or(Corruption::Truncated)? as usize;
        let mut sealed = tail[start..tail.len() - TRAILER_LENGTH].to_vec();
        let footer_offset = object_length - tail_length;
        let associated = footer_associated(&self.header.encode(), footer_offset, object_length);
        let footer = Footer::decode(self.keys.open_in_place(Domain::Footer, 0, &associated, &mut sealed)?)?;
        // Where the frames lie among themselves, `Footer::decode` has checked.
        if footer.data_end > footer_offset {
            return Err(Corruption::Malformed("end of the frames"));
        }
        Ok(footer)
    }

    /// How many of a pack's last bytes hold the trailer and the table. `last_bytes`: the last 24 or more.
    pub fn tail_length(last_bytes: &[u8], object_length: u64) -> Result<u64, Corruption> {
        let trailer = last_bytes.last_chunk::<TRAILER_LENGTH>().ok_or(Corruption::Truncated)?;
        let trailer = Trailer::decode(trailer)?;
        if trailer.object_length != object_length {
            return Err(Corruption::Truncated);
        }
        Ok(u64::from(trailer.footer_length) + TRAILER_LENGTH as u64)
    }
}

/// Whether a pack's or an index object's bytes hash to its name. Needs no key.
pub fn has_name(bytes: &[u8], name: &[u8; 32]) -> bool {
    blake3::hash(bytes) == blake3::Hash::from_bytes(*name)
}

/// Opens a whole pack: its name, its table, every frame, and every chunk named again. One frame's plaintext is in
/// memory at a time, and none of it is given back: this is for those who want to know what a pack holds, for certain.
pub fn open_pack(
    keys: &Keys,
    kind: PackKind,
    id: &PackId,
    bytes: &[u8],
    codec: &mut FrameCodec,
) -> Result<(Header, Footer), Corruption> {
    if !has_name(bytes, &id.0) {
        return Err(Corruption::Hash);
    }
    let pack = PackKeys::open(keys, kind, bytes)?;
    let footer = pack.open_footer(bytes, bytes.len() as u64)?;
    for (ordinal, record) in footer.frames.iter().enumerate() {
        let (start, length) = (record.offset as usize, record.stored_length as usize);
        let sealed = bytes.get(start..start + length).ok_or(Corruption::Truncated)?.to_vec();
        let place = FramePlace { ordinal: ordinal as u32, record: *record };
        let raw = pack.open_frame(codec, place, sealed)?;
        verify_chunks(keys, &raw, footer.chunks_of(ordinal))?;
    }
    Ok((pack.header, footer))
}

/// Checks a frame's chunks against their ids.
pub fn verify_chunks(keys: &Keys, raw: &[u8], chunks: &[ChunkRecord]) -> Result<(), Corruption> {
    chunks.iter().try_for_each(|chunk| {
        let bytes = raw.get(chunk.offset as usize..).and_then(|rest| rest.get(..chunk.length as usize));
        let bytes = bytes.ok_or(Corruption::Malformed("chunk place"))?;
        if keys.chunk_id(chunk.kind, bytes) == chunk.id { Ok(()) } else { Err(Corruption::ChunkId) }
    })
}
