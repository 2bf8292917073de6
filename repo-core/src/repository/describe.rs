//! What a pack or an index object holds, for those who want to look: facts, each proven before it is told.
//! Whether the two agree with each other, and with the snapshots, is for `ops::check` to say.

use std::collections::HashMap;

use bytes::Bytes;

use super::Repository;
use crate::backend::Span;
use crate::error::{Corruption, Error, Result};
use crate::format::index::{IndexBlock, PackRow};
use crate::format::pack::{Codec, FrameRecord};
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, IndexId, ObjectName, PackId, PackKind, SnapshotId};
use crate::seal;

/// What a pack holds, by its own table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackDescription {
    /// Its name.
    pub id: PackId,
    /// What it may hold.
    pub kind: PackKind,
    /// Bytes of the whole object: header, frames, padding, table.
    pub length: u64,
    /// Which generation of keys sealed it.
    pub key_epoch: u32,
    /// Whether its length was rounded up, to tell less.
    pub padded: bool,
    /// The session that wrote it.
    pub writer: SnapshotId,
    /// In the order in which they lie.
    pub frames: Vec<FrameDescription>,
}

/// Chunks that were compressed and sealed together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameDescription {
    /// Its number in the pack.
    pub ordinal: u32,
    /// Where it begins in the pack, in bytes.
    pub offset: u32,
    /// Bytes in the pack.
    pub stored_length: u32,
    /// Bytes of its plaintext.
    pub length: u32,
    /// Whether it is stored compressed (zstd); else as it is.
    pub compressed: bool,
    /// By where they begin.
    pub chunks: Vec<ChunkDescription>,
}

/// A chunk within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkDescription {
    /// Its name.
    pub id: ChunkId,
    /// What it holds.
    pub kind: ChunkKind,
    /// Where it begins in the frame's plaintext, in bytes.
    pub offset: u32,
    /// Bytes of it.
    pub length: u32,
}

/// What an index object says. It is only what its writer said: a pack may be gone since.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexDescription {
    /// Its name.
    pub id: IndexId,
    /// Bytes of the whole object.
    pub length: u64,
    /// Which generation of keys sealed it.
    pub key_epoch: u32,
    /// Whether its length was rounded up, to tell less.
    pub padded: bool,
    /// The session that wrote it.
    pub writer: SnapshotId,
    /// The packs that it speaks of, in the order in which it names them.
    pub packs: Vec<IndexedPack>,
}

/// What an index object says of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexedPack {
    /// The pack's name.
    pub id: PackId,
    /// What the pack may hold.
    pub kind: PackKind,
    /// Bytes of the pack.
    pub length: u64,
    /// Chunks of the whole pack; this index object may know of fewer.
    pub chunk_count: u32,
    /// The session that wrote the pack.
    pub writer: SnapshotId,
    /// By their numbers.
    pub frames: Vec<FrameDescription>,
}

impl Repository {
    /// What a pack holds. The whole pack is read, every frame is opened and every chunk named again before anything is
    /// told. Needs memory for the pack, at most 1 GiB, and for its table. The index is not asked.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such pack, [`Error::Corrupt`] if any of its bytes changed.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{BackupOptions, Memory, InitOptions, ReaderSource, Repository, Secret, Silent};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{ObjectName, PackKind, Prefix};
    ///
    /// # let source = ReaderSource::new("/zeros".as_ref(), &[1; 100_000][..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let packs = repository.objects(Prefix::Packs(PackKind::Data))?;
    /// let (ObjectName::Pack(_, id), size) = packs[0] else { panic!("only packs were asked for") };
    /// let pack = repository.describe_pack(id)?;
    /// assert_eq!(pack.length, size);
    /// let plaintext: u32 = pack.frames.iter().flat_map(|frame| &frame.chunks).map(|chunk| chunk.length).sum();
    /// assert_eq!(plaintext, 100_000);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn describe_pack(&self, id: PackId) -> Result<PackDescription> {
        for kind in [PackKind::Data, PackKind::Meta] {
            let object = ObjectName::Pack(kind, id);
            if let Some(bytes) = self.whole(&object)? {
                return self.described_pack(kind, id, &bytes).map_err(|problem| problem.of(object));
            }
        }
        Err(Error::Usage(format!("no pack {id}")))
    }

    /// What an index object says of which packs. Needs memory for the object and a multiple of it.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such index object, [`Error::Corrupt`] if any of its bytes changed.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{BackupOptions, Memory, InitOptions, ReaderSource, Repository, Secret, Silent};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{ObjectName, Prefix};
    ///
    /// # let source = ReaderSource::new("/zeros".as_ref(), &[1; 100_000][..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let (ObjectName::Index(id), _) = repository.objects(Prefix::Indexes)?[0] else { panic!("asked for") };
    /// for pack in repository.describe_index(id)?.packs {
    ///     assert_eq!(pack.frames, repository.describe_pack(pack.id)?.frames);
    /// }
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn describe_index(&self, id: IndexId) -> Result<IndexDescription> {
        let object = ObjectName::Index(id);
        let bytes = self.whole(&object)?.ok_or_else(|| Error::Usage(format!("no index object {id}")))?;
        self.described_index(id, &bytes).map_err(|problem| problem.of(object))
    }

    /// An object's bytes; `None` if it is not there.
    fn whole(&self, object: &ObjectName) -> Result<Option<Bytes>> {
        match self.inner.backend.get(object, Span::All) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn described_pack(&self, kind: PackKind, id: PackId, bytes: &[u8]) -> Result<PackDescription, Corruption> {
        let (header, footer) = seal::open_pack(&self.inner.keys, kind, &id, bytes, &mut FrameCodec::new(1))?;
        let frames = footer.frames.iter().enumerate().map(|(ordinal, record)| {
            let chunks = footer.chunks_of(ordinal).iter().map(|chunk| ChunkDescription {
                id: chunk.id,
                kind: chunk.kind,
                offset: chunk.offset,
                length: chunk.length,
            });
            FrameDescription { chunks: chunks.collect(), ..frame(ordinal as u32, record) }
        });
        Ok(PackDescription {
            id,
            kind,
            length: bytes.len() as u64,
            key_epoch: header.key_epoch,
            padded: header.padded,
            writer: footer.writer,
            frames: frames.collect(),
        })
    }

    fn described_index(&self, id: IndexId, bytes: &[u8]) -> Result<IndexDescription, Corruption> {
        if !seal::has_name(bytes, &id.0) {
            return Err(Corruption::Hash);
        }
        let mut gathered = Gathered { rows_left: bytes.len(), ..Gathered::default() };
        let mut outcome = Ok(());
        let (header, footer) = seal::open_index(&self.inner.keys, bytes, &mut |block| {
            if outcome.is_ok() {
                outcome = gathered.add(&block);
            }
        })?;
        outcome?;
        Ok(IndexDescription {
            id,
            length: bytes.len() as u64,
            key_epoch: header.key_epoch,
            padded: header.padded,
            writer: footer.writer,
            packs: gathered.finish(),
        })
    }
}

/// A frame, without its chunks.
fn frame(ordinal: u32, record: &FrameRecord) -> FrameDescription {
    FrameDescription {
        ordinal,
        offset: record.offset,
        stored_length: record.stored_length,
        length: record.raw_length,
        compressed: record.codec == Codec::Zstd,
        chunks: Vec::new(),
    }
}

/// The blocks of an index object, put together: a pack with many chunks is spread over several.
#[derive(Default)]
struct Gathered {
    rows: Vec<PackRow>,
    packs: Vec<IndexedPack>,
    places: HashMap<PackId, usize>,
    /// By pack and ordinal: where in the pack's frames.
    frames: HashMap<(usize, u32), usize>,
    /// Blocks are compressed, so a few bytes may unfold to many rows. Ids are hashes and do not compress: that there are
    /// fewer rows than stored bytes is true of all that a writer makes, and bounds the memory.
    rows_left: usize,
}

impl Gathered {
    fn add(&mut self, block: &IndexBlock) -> Result<(), Corruption> {
        let rows = block.packs.len() + block.frames.len() + block.chunks.len();
        self.rows_left = self.rows_left.checked_sub(rows).ok_or(Corruption::OverLimit("count of index rows"))?;
        let packs: Vec<usize> = block.packs.iter().map(|row| self.pack(row)).collect::<Result<_, _>>()?;
        let mut frames = Vec::with_capacity(block.frames.len());
        for row in &block.frames {
            let pack = packs[usize::from(row.pack)];
            let record = row.record();
            frames.push((pack, self.frame(pack, frame(row.ordinal, &record))?));
        }
        for row in &block.chunks {
            let (pack, frame) = frames[usize::from(row.frame)];
            let chunk = ChunkDescription { id: row.id, kind: row.kind, offset: row.offset, length: row.length };
            self.packs[pack].frames[frame].chunks.push(chunk);
        }
        Ok(())
    }

    fn pack(&mut self, row: &PackRow) -> Result<usize, Corruption> {
        if let Some(place) = self.places.get(&row.id) {
            return if self.rows[*place] == *row { Ok(*place) } else { Err(CONTRADICTION) };
        }
        self.places.insert(row.id, self.packs.len());
        self.rows.push(*row);
        self.packs.push(IndexedPack {
            id: row.id,
            kind: row.kind,
            length: row.length.into(),
            chunk_count: row.chunk_count,
            writer: row.writer,
            frames: Vec::new(),
        });
        Ok(self.packs.len() - 1)
    }

    fn frame(&mut self, pack: usize, new: FrameDescription) -> Result<usize, Corruption> {
        let known = &mut self.packs[pack].frames;
        let Some(place) = self.frames.get(&(pack, new.ordinal)) else {
            self.frames.insert((pack, new.ordinal), known.len());
            known.push(new);
            return Ok(known.len() - 1);
        };
        let FrameDescription { offset, stored_length, length, compressed, .. } = known[*place];
        let same =
            (offset, stored_length, length, compressed) == (new.offset, new.stored_length, new.length, new.compressed);
        if same { Ok(*place) } else { Err(CONTRADICTION) }
    }

    fn finish(mut self) -> Vec<IndexedPack> {
        for pack in &mut self.packs {
            pack.frames.sort_by_key(|frame| frame.ordinal);
            // In a block they stand by their ids.
            pack.frames.iter_mut().for_each(|frame| frame.chunks.sort_by_key(|chunk| (chunk.offset, chunk.id)));
        }
        self.packs
    }
}

/// Two blocks of one writer that say different things of one pack.
const CONTRADICTION: Corruption = Corruption::Malformed("index object: its blocks contradict each other");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::{ChunkRow, FrameRow};

    fn block(ordinals: &[u32], chunks: &[(u8, u16, u32)]) -> IndexBlock {
        let writer = SnapshotId([3; 16]);
        let pack = PackRow { id: PackId([1; 32]), length: 5000, chunk_count: 9, writer, kind: PackKind::Data };
        let frame = |ordinal: &u32| FrameRow {
            pack: 0,
            ordinal: *ordinal,
            offset: 80 + ordinal * 100,
            stored_length: 100,
            raw_length: 300,
            codec: Codec::Zstd,
        };
        let chunk = |(id, frame, offset): &(u8, u16, u32)| ChunkRow {
            id: ChunkId([*id; 32]),
            frame: *frame,
            offset: *offset,
            length: 10,
            kind: ChunkKind::Data,
        };
        IndexBlock {
            packs: vec![pack],
            frames: ordinals.iter().map(frame).collect(),
            chunks: chunks.iter().map(chunk).collect(),
        }
    }

    fn gather(blocks: &[IndexBlock], rows_left: usize) -> Result<Vec<IndexedPack>, Corruption> {
        let mut gathered = Gathered { rows_left, ..Gathered::default() };
        blocks.iter().try_for_each(|block| gathered.add(block))?;
        Ok(gathered.finish())
    }

    #[test]
    fn frames_and_chunks_of_several_blocks_are_joined_and_put_in_the_packs_order() {
        let blocks = [block(&[1, 2], &[(5, 0, 20), (6, 1, 0)]), block(&[0, 1], &[(7, 1, 0), (8, 0, 0)])];
        let packs = gather(&blocks, 100).unwrap();
        assert_eq!(packs.len(), 1);
        let places: Vec<_> = packs[0]
            .frames
            .iter()
            .flat_map(|frame| frame.chunks.iter().map(|chunk| (frame.ordinal, chunk.offset, chunk.id.0[0])))
            .collect();
        assert_eq!(places, [(0, 0, 8), (1, 0, 7), (1, 20, 5), (2, 0, 6)]);
        assert_eq!(packs[0].frames.len(), 3);
    }

    #[test]
    fn blocks_that_contradict_each_other_are_refused() {
        let first = block(&[0], &[(5, 0, 0)]);
        let with = |change: fn(&mut IndexBlock)| {
            let mut second = first.clone();
            change(&mut second);
            gather(&[first.clone(), second], 100).map(drop)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|block| block.packs[0].chunk_count = 8), Err(CONTRADICTION));
        assert_eq!(with(|block| block.frames[0].offset = 81), Err(CONTRADICTION));
        assert_eq!(with(|block| block.frames[0].stored_length = 99), Err(CONTRADICTION));
        assert_eq!(with(|block| block.frames[0].raw_length = 299), Err(CONTRADICTION));
        assert_eq!(with(|block| block.frames[0].codec = Codec::Raw), Err(CONTRADICTION));
    }

    #[test]
    fn more_rows_than_stored_bytes_are_refused_before_they_are_gathered() {
        let blocks = [block(&[0], &[(5, 0, 0)]), block(&[1], &[(6, 0, 0)])];
        assert!(gather(&blocks, 6).is_ok());
        assert_eq!(gather(&blocks, 5).map(drop), Err(Corruption::OverLimit("count of index rows")));
    }
}
