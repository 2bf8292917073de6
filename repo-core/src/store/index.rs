//! Where each chunk lies: what the index objects say of the packs that are listed, and what the tables of packs
//! say that no index object speaks of.
//!
//! An entry counts only while its pack is listed with its right length (invariant 2), so a stale or lost index can cost an
//! upload and never a chunk. Where index objects contradict one another, or say more of a pack than it holds, its own table
//! is asked, and nothing else counts. A lie that nothing contradicts is found by whoever reads the chunk.

mod survey;
#[cfg(test)]
mod tests;

pub use survey::ByPack;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashTable;

use super::gc::{self, Condemned};
use crate::backend::{Backend, Listed, Prefix, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::gc::Damaged;
use crate::format::header::{HEADER_LENGTH, ObjectType};
use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use crate::format::keyring::Purpose;
use crate::format::pack::{Footer, FrameRecord, TRAILER_LENGTH};
use crate::id::{ChunkId, ChunkKind, IndexId, ObjectName, PackId, PackKind};
use crate::mutants::mutant;
use crate::seal::{self, FramePlace, PackKeys};

/// One place of a chunk, in the numbers of its index.
#[derive(Debug, Clone, Copy)]
pub struct StoredChunk<'i> {
    pub kind: ChunkKind,
    pub id: &'i ChunkId,
    /// Of [`Index::frames`].
    pub frame: u32,
    /// In the frame's plaintext.
    pub offset: u32,
    pub length: u32,
}

/// Some of the chunks of one index: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSet {
    bits: Vec<u64>,
}

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
    entries: Vec<Row>,
    /// Positions in `entries`, by id; the first place of each.
    table: HashTable<u32>,
    /// Further places of the same chunk, by the position of its first.
    duplicates: HashMap<u32, Vec<u32>>,
    report: LoadReport,
    /// Packs of which something did not open since: what they hold counts as not stored, so that a backup stores it
    /// again instead of inheriting the damage. Shared with the indexes that were loaded before and after this one.
    distrusted: Arc<RwLock<HashSet<PackId>>>,
    /// Packs that are about to be deleted, or were to be and are not: what they hold counts as not stored.
    condemned: Condemned,
    /// What packs are recorded to hold no longer; an empty set: nothing of theirs. It counts as not stored.
    damaged: HashMap<PackId, HashSet<ChunkId>>,
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
    /// Listed packs of which not everything is known that they hold: nothing may be concluded from what they seem to lack.
    pub half_known: HashSet<PackId>,
}

impl LoadReport {
    /// The same again.
    fn copy(&self) -> Self {
        let errors = self.errors.iter().filter_map(|error| match error {
            Error::Corrupt { object, problem } => Some(problem.clone().of(*object)),
            // Whatever else there is ended the loading.
            _ => None,
        });
        Self {
            errors: errors.collect(),
            unindexed: self.unindexed.clone(),
            missing_packs: self.missing_packs.clone(),
            listed_packs: self.listed_packs.clone(),
            index_objects: self.index_objects.clone(),
            foreign: self.foreign.clone(),
            half_known: self.half_known.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
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
    /// Asks which packs are condemned or damaged; then lists the index objects and the packs, reads every index object, then
    /// the tables of packs that are not fully indexed. A writer is registered before it loads what it will rely on.
    pub fn load(backend: &dyn Backend, keys: &Keys) -> Result<Self> {
        // First: a pack that is condemned after this was listed cannot be deleted before its cycle has seen this writer.
        let mut index = Self::default();
        if !mutant!("marks are read after the index") {
            index.read_condemned(backend, keys)?;
        }
        index.read_damage_records(backend, keys)?;
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
        index.adopt(backend, keys, &mut loading)?;
        if mutant!("marks are read after the index") {
            index.read_condemned(backend, keys)?;
        }
        Ok(index)
    }

    fn read_condemned(&mut self, backend: &dyn Backend, keys: &Keys) -> Result<()> {
        if !mutant!("marks are ignored") {
            self.condemned = gc::condemned(backend, keys)?;
        }
        Ok(())
    }

    /// The packs that are there, with their sizes.
    pub fn list(backend: &dyn Backend) -> Result<HashMap<PackId, (PackKind, u64)>> {
        let mut index = Self::default();
        index.list_packs(backend)?;
        Ok(index.report.listed_packs)
    }

    fn read_damage_records(&mut self, backend: &dyn Backend, keys: &Keys) -> Result<()> {
        let mut names = Vec::new();
        backend.list(Prefix::Damaged, &mut |listed| {
            if let Listed::Object { name: ObjectName::Damaged(pack, number), .. } = listed {
                names.push((pack, number));
            }
            ControlFlow::Continue(())
        })?;
        for (pack, number) in names {
            let name = ObjectName::Damaged(pack, number);
            let bytes = match backend.get(&name, Span::All) {
                Ok(bytes) => bytes,
                // Healed since it was listed.
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            let record = seal::open_box(keys, Purpose::GcMark, ObjectType::Damaged, &name, &bytes)
                .and_then(|payload| Damaged::decode(&payload));
            let lost = match record {
                Ok(record) if record.pack == pack => record.chunks,
                // It says which pack, if not what: none of it is relied on.
                Ok(_) => Vec::new(),
                Err(problem) => {
                    self.report.errors.push(problem.of(name));
                    Vec::new()
                }
            };
            match self.damaged.entry(pack) {
                Entry::Vacant(free) => _ = free.insert(lost.into_iter().collect()),
                Entry::Occupied(mut known) if lost.is_empty() || known.get().is_empty() => known.get_mut().clear(),
                Entry::Occupied(mut known) => known.get_mut().extend(lost),
            }
        }
        Ok(())
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
            .map(|row| {
                packs.get(usize::from(row.pack)).copied().flatten().map(|pack| self.add_frame(pack, row, loading))
            })
            .collect();
        for row in &block.chunks {
            // Each chunk counts once: an object and the one that it was merged into may say the same half of a pack twice.
            let Some(frame) = frames.get(usize::from(row.frame)).copied().flatten() else { continue };
            let pack = self.frames[frame as usize].0;
            match self.add_entry(frame, row) {
                Told::New => *loading.chunks_seen.entry(pack).or_default() += 1,
                Told::Again => {}
                Told::Otherwise => _ = loading.doubted.insert(pack),
            }
        }
    }

    /// The number of a pack that is listed with the length that this row gives it, else `None`.
    fn pack_number(&mut self, row: &PackRow, loading: &mut Loading) -> Option<u32> {
        match self.report.listed_packs.get(&row.id) {
            Some((kind, size)) if *kind == row.kind && *size == u64::from(row.length) => {
                let Some(number) = loading.packs.get(&row.id).copied() else {
                    let number = self.add_pack(*row);
                    loading.packs.insert(row.id, number);
                    return Some(number);
                };
                if self.packs[number as usize] != *row {
                    loading.doubted.insert(number);
                }
                Some(number)
            }
            Some(_) => {
                loading.of_other_length.insert(row.id);
                None
            }
            None => {
                if loading.missing.insert(row.id) {
                    self.report.missing_packs.push((row.kind, row.id));
                }
                None
            }
        }
    }

    /// Reads the tables of packs that the index objects do not speak of, speak of only in part, or in two ways. Where there is
    /// a table, nothing else counts.
    fn adopt(&mut self, backend: &dyn Backend, keys: &Keys, loading: &mut Loading) -> Result<()> {
        let chunk_count = |number: u32| self.packs[number as usize].chunk_count;
        let seen = |number: &u32| loading.chunks_seen.get(number).copied().unwrap_or(0);
        // What claims more chunks than the pack has, adds some to those that are there.
        let overfull = loading.chunks_seen.iter().filter(|(number, seen)| **seen > chunk_count(**number));
        let doubted: HashSet<u32> =
            overfull.map(|(number, _)| *number).chain(loading.doubted.iter().copied()).collect();
        let is_whole = |number: &u32| seen(number) >= chunk_count(*number);
        let mut asked: Vec<(PackId, PackKind, u64)> = self
            .report
            .listed_packs
            .iter()
            .filter(|(id, _)| loading.packs.get(*id).is_none_or(|number| doubted.contains(number) || !is_whole(number)))
            .map(|(id, (kind, size))| (*id, *kind, *size))
            .collect();
        // One order whatever the hash map's, so that a run can be told and repeated.
        asked.sort_unstable();
        let mut tables = Vec::new();
        for (id, kind, size) in asked {
            match read_footer(backend, keys, kind, &id, size) {
                Ok(footer) => tables.push((pack_row(kind, id, size, &footer), footer)),
                Err(Error::Backend(error)) if error.is_absent() => {}
                Err(error @ Error::Backend(_)) => return Err(error),
                Err(error) => {
                    self.report.half_known.insert(id);
                    // What is written off is expected to be damaged.
                    if !self.is_written_off(&id) {
                        let is_shorter = loading.of_other_length.contains(&id) && !loading.packs.contains_key(&id);
                        let object = ObjectName::Pack(kind, id);
                        self.report.errors.push(if is_shorter { Corruption::Truncated.of(object) } else { error });
                    }
                    // Readers try whatever was said; nobody builds on it.
                    if loading.packs.get(&id).is_some_and(|number| doubted.contains(number)) {
                        self.distrust(id);
                    }
                }
            }
        }
        let told_in_full =
            |row: &PackRow| loading.packs.get(&row.id).is_some_and(|number| seen(number) >= row.chunk_count);
        let half: HashSet<PackId> =
            tables.iter().filter(|(row, _)| !told_in_full(row)).map(|(row, _)| row.id).collect();
        let told = tables.iter().filter_map(|(row, _)| loading.packs.get(&row.id).copied()).collect();
        self.drop_entries_of(&told, loading);
        for (row, footer) in tables {
            self.add_footer(row.kind, row.id, row.length.into(), &footer, loading);
            // What is told in full and otherwise too, stays doubted however often it is told again: `repair index` ends that.
            if half.contains(&row.id) {
                self.report.unindexed.push((row, footer));
            }
        }
        Ok(())
    }

    /// As if the index objects had said nothing of these packs.
    fn drop_entries_of(&mut self, packs: &HashSet<u32>, loading: &mut Loading) {
        if packs.is_empty() {
            return;
        }
        let (frames, entries) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.entries));
        (self.table, self.duplicates) = Default::default();
        loading.frames.clear();
        let renumber = |(pack, place): (u32, FramePlace)| {
            (!packs.contains(&pack)).then(|| self.frame_number(pack, place, loading))
        };
        let numbers: Vec<Option<u32>> = frames.into_iter().map(renumber).collect();
        for entry in entries {
            if let Some(frame) = numbers[entry.frame as usize] {
                self.insert(Row { frame, ..entry });
            }
        }
    }

    /// This index as the packs' own tables have it: what index objects say counts only for packs without a table that can be
    /// read. Slow: it asks every pack.
    pub fn ask_tables(&self, backend: &dyn Backend, keys: &Keys) -> Result<Self> {
        let (condemned, damaged, report) = (self.condemned.clone(), self.damaged.clone(), self.report.copy());
        let mut asked = Self { condemned, damaged, report, ..Self::default() };
        let mut loading = Loading::default();
        let mut silent = HashSet::new();
        let mut listed: Vec<_> = self.report.listed_packs.iter().collect();
        // One order whatever the hash map's, so that a run can be told and repeated.
        listed.sort_unstable();
        for (id, (kind, size)) in listed {
            match read_footer(backend, keys, *kind, id, *size) {
                Ok(footer) => asked.add_footer(*kind, *id, *size, &footer, &mut loading),
                Err(Error::Backend(error)) if !error.is_damage() => return Err(error.into()),
                Err(_) => _ = silent.insert(*id),
            }
        }
        let (mut packs, mut numbers) = (HashMap::new(), HashMap::new());
        for entry in &self.entries {
            let (pack, place) = self.frames[entry.frame as usize];
            let row = self.packs[pack as usize];
            if !silent.contains(&row.id) {
                continue;
            }
            let frame = match numbers.get(&entry.frame) {
                Some(frame) => *frame,
                None => {
                    let pack = *packs.entry(row.id).or_insert_with(|| asked.add_pack(row));
                    let frame = asked.frame_number(pack, place, &mut loading);
                    numbers.insert(entry.frame, frame);
                    frame
                }
            };
            asked.insert(Row { frame, ..*entry });
        }
        Ok(asked)
    }

    fn add_footer(&mut self, kind: PackKind, id: PackId, size: u64, footer: &Footer, loading: &mut Loading) {
        let row = pack_row(kind, id, size, footer);
        let pack = match loading.packs.get(&id) {
            Some(number) => {
                self.packs[*number as usize] = row;
                *number
            }
            None => self.add_pack(row),
        };
        for (ordinal, record) in footer.frames.iter().enumerate() {
            let place = FramePlace { ordinal: ordinal as u32, record: FrameRecord { first_chunk: 0, ..*record } };
            let frame = self.frame_number(pack, place, loading);
            for chunk in footer.chunks_of(ordinal) {
                let (id, offset, length, kind) = (chunk.id, chunk.offset, chunk.length, chunk.kind);
                self.insert(Row { id, frame, offset, length, kind });
            }
        }
    }

    fn add_pack(&mut self, row: PackRow) -> u32 {
        self.packs.push(row);
        (self.packs.len() - 1) as u32
    }

    fn add_frame(&mut self, pack: u32, row: &FrameRow, loading: &mut Loading) -> u32 {
        let record = FrameRecord {
            offset: row.offset,
            stored_length: row.stored_length,
            raw_length: row.raw_length,
            codec: row.codec,
            first_chunk: 0,
        };
        self.frame_number(pack, FramePlace { ordinal: row.ordinal, record }, loading)
    }

    /// The number of a frame, the same for all who say the same of it. Who says otherwise has a frame of his own, that
    /// readers try too, if the pack has no table to settle it.
    fn frame_number(&mut self, pack: u32, place: FramePlace, loading: &mut Loading) -> u32 {
        if let Some(number) = loading.frames.get(&(pack, place.ordinal)) {
            if self.frames[*number as usize].1 == place {
                return *number;
            }
            loading.doubted.insert(pack);
        }
        let number = self.frames.len() as u32;
        self.frames.push((pack, place));
        loading.frames.entry((pack, place.ordinal)).or_insert(number);
        number
    }

    fn add_entry(&mut self, frame: u32, row: &ChunkRow) -> Told {
        self.insert(Row { id: row.id, frame, offset: row.offset, length: row.length, kind: row.kind })
    }

    fn insert(&mut self, entry: Row) -> Told {
        let position = self.entries.len() as u32;
        let entries = &self.entries;
        let first = self.table.find(hash(&entry.id), |other| same(&entries[*other as usize], entry.kind, &entry.id));
        match first.copied() {
            Some(first) => {
                let known = self.duplicates.entry(first).or_default();
                let mut others = known.iter().chain([&first]).map(|other| &entries[*other as usize]);
                let other = others.find(|other| other.frame == entry.frame).copied();
                drop(others);
                if let Some(other) = other {
                    let is_same = (other.offset, other.length) == (entry.offset, entry.length);
                    return if is_same { Told::Again } else { Told::Otherwise };
                }
                known.push(position);
            }
            None => {
                self.table.insert_unique(hash(&entry.id), position, |other| hash(&entries[*other as usize].id));
            }
        }
        self.entries.push(entry);
        Told::New
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

    /// Whether the chunk is stored where a writer may rely on it: in a pack that is neither condemned nor known to have lost
    /// it (invariant 7).
    pub fn contains(&self, kind: ChunkKind, id: &ChunkId) -> bool {
        let is_known = self.table.find(hash(id), |other| same(&self.entries[*other as usize], kind, id)).is_some();
        if !is_known {
            return false;
        }
        let distrusted = self.distrusted();
        let all_are_reliable = distrusted.is_empty() && self.damaged.is_empty() && self.condemned == Condemned::Nothing;
        all_are_reliable
            || self.places(kind, id).iter().any(|place| {
                !distrusted.contains(&place.pack)
                    && !self.condemned.contains(&place.pack)
                    && !self.has_lost(&place.pack, id)
            })
    }

    /// Whether everything that has a place may be relied on.
    pub fn is_reliable(&self) -> bool {
        self.distrusted().is_empty() && self.damaged.is_empty() && self.condemned == Condemned::Nothing
    }

    /// Whether a pack is recorded to hold nothing any more.
    pub fn is_written_off(&self, pack: &PackId) -> bool {
        self.damaged.get(pack).is_some_and(HashSet::is_empty)
    }

    /// Whether a pack is recorded to hold this chunk no longer.
    pub fn has_lost(&self, pack: &PackId, id: &ChunkId) -> bool {
        self.damaged.get(pack).is_some_and(|lost| lost.is_empty() || lost.contains(id))
    }

    /// The packs that are recorded as damaged.
    pub fn damaged_packs(&self) -> impl Iterator<Item = &PackId> {
        self.damaged.keys()
    }

    /// Whether nobody may rely on this pack.
    pub fn is_condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack)
    }

    /// Whether there is any pack that nobody may rely on.
    pub fn has_condemned(&self) -> bool {
        self.condemned != Condemned::Nothing
    }

    /// This index, with what an earlier one found out.
    pub fn after(mut self, earlier: &Self) -> Self {
        let found = std::mem::replace(&mut self.distrusted, earlier.distrusted.clone());
        let found = found.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.distrusted.write().unwrap_or_else(PoisonError::into_inner).extend(found);
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

    /// The chunk's own number in this index, below [`number_count`](Self::number_count): for tables of a byte or two a
    /// chunk. `None`: it has no place.
    pub fn number(&self, kind: ChunkKind, id: &ChunkId) -> Option<u32> {
        self.table.find(hash(id), |other| same(&self.entries[*other as usize], kind, id)).copied()
    }

    /// Numbers lie below this; not every one is a chunk's.
    pub fn number_count(&self) -> usize {
        self.entries.len()
    }

    /// The chunk of this number, with the length of its plaintext.
    pub fn chunk(&self, number: u32) -> (ChunkKind, &ChunkId, u32) {
        let entry = &self.entries[number as usize];
        (entry.kind, &entry.id, entry.length)
    }

    /// What the chunk of this number takes in packs, in bytes: its part of its frame, at each of its places.
    pub fn stored_bytes(&self, number: u32) -> u64 {
        let more = self.duplicates.get(&number).map_or(&[][..], Vec::as_slice);
        let share = |position: &u32| {
            let entry = &self.entries[*position as usize];
            let frame = &self.frames[entry.frame as usize].1.record;
            u64::from(entry.length) * u64::from(frame.stored_length) / u64::from(frame.raw_length.max(1))
        };
        std::iter::once(&number).chain(more).map(share).sum()
    }

    fn place(&self, entry: &Row) -> Place {
        let (pack, frame) = self.frames[entry.frame as usize];
        let row = &self.packs[pack as usize];
        Place { pack: row.id, pack_kind: row.kind, frame, offset: entry.offset, length: entry.length }
    }

    /// The packs that are listed and known, by number.
    pub fn packs(&self) -> &[PackRow] {
        &self.packs
    }

    /// The frames of those packs, each with its pack's number.
    pub fn frames(&self) -> &[(u32, FramePlace)] {
        &self.frames
    }

    /// Every place of every chunk, in words: for tests.
    #[cfg(feature = "internals")]
    pub fn each(&self, mut each: impl FnMut(ChunkKind, &ChunkId, Place)) {
        for entry in &self.entries {
            each(entry.kind, &entry.id, self.place(entry));
        }
    }

    /// Every place of every chunk.
    pub fn each_row(&self, mut each: impl FnMut(StoredChunk<'_>)) {
        for entry in &self.entries {
            let Row { id, frame, offset, length, kind } = entry;
            each(StoredChunk { kind: *kind, id, frame: *frame, offset: *offset, length: *length });
        }
    }

    /// Whether a chunk is stored more than once.
    pub fn has_several_places(&self, kind: ChunkKind, id: &ChunkId) -> bool {
        let more = self.number(kind, id).and_then(|first| self.duplicates.get(&first));
        more.is_some_and(|more| !more.is_empty())
    }

    /// The numbers of the frames that hold a chunk.
    pub fn frames_of(&self, kind: ChunkKind, id: &ChunkId) -> Vec<u32> {
        let Some(first) = self.number(kind, id) else { return Vec::new() };
        let more = self.duplicates.get(&first).map_or(&[][..], Vec::as_slice);
        std::iter::once(&first).chain(more).map(|position| self.entries[*position as usize].frame).collect()
    }

    /// A set of stored chunks without any, one bit for each.
    pub fn empty_set(&self) -> ChunkSet {
        ChunkSet { bits: vec![0; self.entries.len().div_ceil(64)] }
    }

    /// Adds a chunk to a set of this index's; whether it was not in it, and `None` if it is stored nowhere.
    pub fn insert_into(&self, set: &mut ChunkSet, kind: ChunkKind, id: &ChunkId) -> Option<bool> {
        let position = self.number(kind, id)? as usize;
        let (word, bit) = (position / 64, 1 << (position % 64));
        let is_new = set.bits[word] & bit == 0;
        set.bits[word] |= bit;
        Some(is_new)
    }

    /// Whether a chunk is in a set of this index's.
    pub fn is_in(&self, set: &ChunkSet, kind: ChunkKind, id: &ChunkId) -> bool {
        self.number(kind, id).is_some_and(|position| set.bits[position as usize / 64] & 1 << (position % 64) != 0)
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

fn same(entry: &Row, kind: ChunkKind, id: &ChunkId) -> bool {
    entry.kind == kind && entry.id == *id
}

/// What a row of an index object adds to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// A place.
    New,
    Again,
    /// Another place in the same frame.
    Otherwise,
}

/// What is only needed while loading.
#[derive(Default)]
struct Loading {
    /// Those that are listed, with the length that some object gives them.
    packs: HashMap<PackId, u32>,
    /// Those to which some object gives a length that is not theirs.
    of_other_length: HashSet<PackId>,
    missing: HashSet<PackId>,
    /// Packs by number, of which two objects say different things.
    doubted: HashSet<u32>,
    chunks_seen: HashMap<u32, u32>,
    /// Frames by pack number and ordinal.
    frames: HashMap<(u32, u32), u32>,
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
