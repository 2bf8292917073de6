//! Where each chunk lies: what the index objects say of the packs that are listed, and what the tables of packs
//! say that no index object speaks of.
//!
//! An entry counts only while its pack is listed with its right length (invariant 2), so a stale, lost or lying index
//! can cost an upload and never a chunk.

mod survey;

pub use survey::ByPack;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashTable;

use crate::backend::{Backend, Listed, Prefix, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::header::HEADER_LENGTH;
use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use crate::format::pack::{Footer, FrameRecord, TRAILER_LENGTH};
use crate::id::{ChunkId, ChunkKind, IndexId, ObjectName, PackId, PackKind};
use crate::seal::{self, FramePlace, PackKeys};

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub pack: PackId,
    pub pack_kind: PackKind,
    pub frame: FramePlace,
    /// In the frame's plaintext.
    pub offset: u32,
    pub length: u32,
}

/// ChunkId to place, for every usable chunk.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<PackRow>,
    frames: Vec<(u32, FramePlace)>,
    entries: Vec<Entry>,
    /// Positions in `entries`, by id; the first place of each.
    table: HashTable<u32>,
    /// Further places of the same chunk, by the position of its first.
    duplicates: HashMap<u32, Vec<u32>>,
    report: LoadReport,
    /// Packs of which something did not open since: what they hold counts as not stored, so that a backup stores it
    /// again instead of inheriting the damage. Shared with the indexes that were loaded before and after this one.
    distrusted: Arc<RwLock<HashSet<PackId>>>,
}

/// What loading found besides chunks.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Damaged or missing objects.
    pub errors: Vec<Error>,
    /// Listed packs that no index object speaks of in full; their own tables were read.
    pub unindexed: Vec<(PackRow, Footer)>,
    /// Packs that an index object speaks of and that are not listed.
    pub missing_packs: Vec<(PackKind, PackId)>,
    /// Every listed pack, with its size.
    pub listed_packs: HashMap<PackId, (PackKind, u64)>,
    /// Index objects that were listed.
    pub index_objects: BTreeSet<IndexId>,
    /// Names outside the grammar.
    pub foreign: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: ChunkId,
    frame: u32,
    offset: u32,
    length: u32,
    kind: ChunkKind,
}

/// A name's place in a hash table: names are uniform already.
pub(super) fn hash(id: &ChunkId) -> u64 {
    u64::from_le_bytes(id.0[..8].try_into().expect("a name has 32 bytes"))
}

impl Index {
    /// Lists the index objects and the packs, reads every index object, then the tables of packs that are not fully indexed.
    pub fn load(backend: &dyn Backend, keys: &Keys) -> Result<Self> {
        let mut index = Self::default();
        let mut names = Vec::new();
        let foreign = &mut index.report.foreign;
        backend.list(Prefix::Indexes, &mut |listed| {
            match listed {
                Listed::Object { name: ObjectName::Index(id), .. } => names.push(id),
                Listed::Object { name, .. } => foreign.push(name.to_string()),
                Listed::Foreign { name } => foreign.push(name),
            }
            ControlFlow::Continue(())
        })?;
        // After the index objects: a pack is durable before one speaks of it, so none that another client writes right now
        // looks as if it were gone.
        index.list_packs(backend)?;
        let mut loading = Loading::default();
        index.report.index_objects = names.iter().copied().collect();
        for id in names {
            index.read_object(backend, keys, id, &mut loading)?;
        }
        index.adopt(backend, keys, &loading)?;
        Ok(index)
    }

    fn list_packs(&mut self, backend: &dyn Backend) -> Result<()> {
        let report = &mut self.report;
        for kind in [PackKind::Data, PackKind::Meta] {
            backend.list(Prefix::Packs(kind), &mut |listed| {
                match listed {
                    Listed::Object { name: ObjectName::Pack(kind, id), size } => {
                        report.listed_packs.insert(id, (kind, size));
                    }
                    Listed::Object { name, .. } => report.foreign.push(name.to_string()),
                    Listed::Foreign { name } => report.foreign.push(name),
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    fn read_object(&mut self, backend: &dyn Backend, keys: &Keys, id: IndexId, loading: &mut Loading) -> Result<()> {
        let object = ObjectName::Index(id);
        let bytes = match backend.get(&object, Span::All) {
            Ok(bytes) => bytes,
            // Compacted away since it was listed: its replacement was written before.
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !seal::has_name(&bytes, &id.0) {
            self.report.errors.push(Corruption::Hash.of(object));
            return Ok(());
        }
        if let Err(problem) = seal::open_index(keys, &bytes, &mut |block| self.add_block(&block, loading)) {
            self.report.errors.push(problem.of(object));
        }
        Ok(())
    }

    fn add_block(&mut self, block: &IndexBlock, loading: &mut Loading) {
        let packs: Vec<Option<u32>> = block.packs.iter().map(|row| self.pack_number(row, loading)).collect();
        let frames: Vec<Option<u32>> = block
            .frames
            .iter()
            .map(|row| packs.get(usize::from(row.pack)).copied().flatten().map(|pack| self.add_frame(pack, row)))
            .collect();
        for row in &block.chunks {
            if let Some(frame) = frames.get(usize::from(row.frame)).copied().flatten() {
                let pack = self.frames[frame as usize].0;
                *loading.chunks_seen.entry(pack).or_default() += 1;
                self.add_entry(frame, row);
            }
        }
    }

    /// The number of a pack that is listed with its right length, else `None`.
    fn pack_number(&mut self, row: &PackRow, loading: &mut Loading) -> Option<u32> {
        if let Some(number) = loading.packs.get(&row.id) {
            return *number;
        }
        let object = ObjectName::Pack(row.kind, row.id);
        let number = match self.report.listed_packs.get(&row.id) {
            Some((kind, size)) if *kind == row.kind && *size == u64::from(row.length) => Some(self.add_pack(*row)),
            Some(_) => {
                self.report.errors.push(Corruption::Truncated.of(object));
                None
            }
            None => {
                self.report.missing_packs.push((row.kind, row.id));
                None
            }
        };
        loading.packs.insert(row.id, number);
        number
    }

    /// Reads the tables of packs that the index objects do not speak of, or only in part.
    fn adopt(&mut self, backend: &dyn Backend, keys: &Keys, loading: &Loading) -> Result<()> {
        let whole = |id: &PackId| match loading.packs.get(id) {
            Some(Some(number)) => {
                loading.chunks_seen.get(number).copied().unwrap_or(0) >= self.packs[*number as usize].chunk_count
            }
            Some(None) => true, // known, damaged, and reported
            None => false,
        };
        let unindexed: Vec<(PackId, PackKind, u64)> = self
            .report
            .listed_packs
            .iter()
            .filter(|(id, _)| !whole(id))
            .map(|(id, (kind, size))| (*id, *kind, *size))
            .collect();
        for (id, kind, size) in unindexed {
            match read_footer(backend, keys, kind, &id, size) {
                Ok(footer) => {
                    self.add_footer(kind, id, size, &footer);
                    let row = pack_row(kind, id, size, &footer);
                    self.report.unindexed.push((row, footer));
                }
                Err(Error::Backend(error)) if error.is_absent() => {}
                Err(error @ Error::Backend(_)) => return Err(error),
                Err(error) => self.report.errors.push(error),
            }
        }
        Ok(())
    }

    fn add_footer(&mut self, kind: PackKind, id: PackId, size: u64, footer: &Footer) {
        let pack = self.add_pack(pack_row(kind, id, size, footer));
        for (ordinal, record) in footer.frames.iter().enumerate() {
            let frame = self.push_frame(pack, FramePlace { ordinal: ordinal as u32, record: *record });
            for chunk in footer.chunks_of(ordinal) {
                let (id, offset, length, kind) = (chunk.id, chunk.offset, chunk.length, chunk.kind);
                self.insert(Entry { id, frame, offset, length, kind });
            }
        }
    }

    fn add_pack(&mut self, row: PackRow) -> u32 {
        self.packs.push(row);
        (self.packs.len() - 1) as u32
    }

    fn add_frame(&mut self, pack: u32, row: &FrameRow) -> u32 {
        let record = FrameRecord {
            offset: row.offset,
            stored_length: row.stored_length,
            raw_length: row.raw_length,
            codec: row.codec,
            first_chunk: 0,
        };
        self.push_frame(pack, FramePlace { ordinal: row.ordinal, record })
    }

    fn push_frame(&mut self, pack: u32, place: FramePlace) -> u32 {
        self.frames.push((pack, place));
        (self.frames.len() - 1) as u32
    }

    fn add_entry(&mut self, frame: u32, row: &ChunkRow) {
        self.insert(Entry { id: row.id, frame, offset: row.offset, length: row.length, kind: row.kind });
    }

    fn insert(&mut self, entry: Entry) {
        let position = self.entries.len() as u32;
        let entries = &self.entries;
        let first = self.table.find(hash(&entry.id), |other| same(&entries[*other as usize], entry.kind, &entry.id));
        match first.copied() {
            Some(first) => {
                let known = self.duplicates.entry(first).or_default();
                if known.iter().chain([&first]).any(|other| entries[*other as usize].frame == entry.frame) {
                    return;
                }
                known.push(position);
            }
            None => {
                self.table.insert_unique(hash(&entry.id), position, |other| hash(&entries[*other as usize].id));
            }
        }
        self.entries.push(entry);
    }

    /// Whether other index objects are listed now than when this was loaded.
    pub fn is_outdated(&self, backend: &dyn Backend) -> Result<bool> {
        let mut names = BTreeSet::new();
        backend.list(Prefix::Indexes, &mut |listed| {
            if let Listed::Object { name: ObjectName::Index(id), .. } = listed {
                names.insert(id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(names != self.report.index_objects)
    }

    /// Whether the chunk is stored, in a pack that is not known to be damaged.
    pub fn contains(&self, kind: ChunkKind, id: &ChunkId) -> bool {
        let is_known = self.table.find(hash(id), |other| same(&self.entries[*other as usize], kind, id)).is_some();
        if !is_known {
            return false;
        }
        let distrusted = self.distrusted();
        distrusted.is_empty() || self.places(kind, id).iter().any(|place| !distrusted.contains(&place.pack))
    }

    /// This index, with what an earlier one found out.
    pub fn after(mut self, earlier: &Self) -> Self {
        self.distrusted = earlier.distrusted.clone();
        self
    }

    /// Counts a pack as damaged from now on.
    pub fn distrust(&self, pack: PackId) {
        self.distrusted.write().unwrap_or_else(PoisonError::into_inner).insert(pack);
    }

    /// The packs that were found damaged.
    fn distrusted(&self) -> RwLockReadGuard<'_, HashSet<PackId>> {
        self.distrusted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All places of a chunk.
    pub fn places(&self, kind: ChunkKind, id: &ChunkId) -> Vec<Place> {
        let first = self.table.find(hash(id), |other| same(&self.entries[*other as usize], kind, id));
        let Some(first) = first else { return Vec::new() };
        let more = self.duplicates.get(first).map_or(&[][..], Vec::as_slice);
        std::iter::once(first).chain(more).map(|position| self.place(&self.entries[*position as usize])).collect()
    }

    fn place(&self, entry: &Entry) -> Place {
        let (pack, frame) = self.frames[entry.frame as usize];
        let row = &self.packs[pack as usize];
        Place { pack: row.id, pack_kind: row.kind, frame, offset: entry.offset, length: entry.length }
    }

    /// Chunks with a place.
    pub fn chunk_count(&self) -> usize {
        self.table.len()
    }

    /// What loading found.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }
}

fn same(entry: &Entry, kind: ChunkKind, id: &ChunkId) -> bool {
    entry.kind == kind && entry.id == *id
}

/// What is only needed while loading.
#[derive(Default)]
struct Loading {
    packs: HashMap<PackId, Option<u32>>,
    chunks_seen: HashMap<u32, u32>,
}

/// The index's row of a pack whose table is at hand.
pub fn pack_row(kind: PackKind, id: PackId, size: u64, footer: &Footer) -> PackRow {
    PackRow { id, length: size as u32, chunk_count: footer.chunks.len() as u32, writer: footer.writer, kind }
}

/// Bytes of a pack's end that usually hold its whole table.
const TAIL_GUESS_BYTES: u64 = 64 << 10;

/// Reads a pack's table from its end.
pub fn read_footer(backend: &dyn Backend, keys: &Keys, kind: PackKind, id: &PackId, size: u64) -> Result<Footer> {
    let object = ObjectName::Pack(kind, *id);
    let wrap = |problem: Corruption| problem.of(object);
    if size < (HEADER_LENGTH + TRAILER_LENGTH) as u64 || size > u64::from(u32::MAX) {
        return Err(wrap(Corruption::Truncated));
    }
    let header = backend.get(&object, Span::Range { offset: 0, length: HEADER_LENGTH as u64 })?;
    let pack = PackKeys::open(keys, kind, &header).map_err(wrap)?;
    let mut tail = backend.get(&object, Span::Suffix(TAIL_GUESS_BYTES))?;
    let length = PackKeys::tail_length(&tail, size).map_err(wrap)?;
    if length > tail.len() as u64 {
        tail = backend.get(&object, Span::Suffix(length))?;
    }
    pack.open_footer(&tail, size).map_err(wrap)
}
