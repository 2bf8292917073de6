//! Where each chunk lies: what the index objects say of the packs that are listed, and what the tables of packs
//! say that no index object speaks of.
//!
//! An entry counts only while its pack is listed with its right length (invariant 2), so a stale or lost index can cost an
//! upload and never a chunk. Where index objects contradict one another, or say more of a pack than it holds, its own table
//! is asked, and nothing else counts. A lie that nothing contradicts is found by whoever reads the chunk.

mod again;
mod load;
mod said;
mod survey;
#[cfg(test)]
mod tests;

pub use again::{StoredFrame, is_merged_away};
pub use load::{list_objects, pack_row, read_footer};
pub use survey::ByPack;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashTable;

use super::gc::Condemned;
use crate::error::Error;
use crate::format::index::PackRow;
use crate::format::pack::Footer;
use crate::id::{ChunkId, ChunkKind, IndexId, PackId, PackKind};
use crate::seal::FramePlace;

use again::Contents;

/// One place of a chunk, in the numbers of its index.
#[cfg(any(test, feature = "internals"))]
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

impl ChunkSet {
    /// Of numbers below this, none.
    pub fn with_room_for(count: usize) -> Self {
        Self { bits: vec![0; count.div_ceil(64)] }
    }

    /// `false` if it was there.
    pub fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_new
    }

    /// What it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>()
    }

    /// Whether it is there.
    pub fn contains(&self, number: u32) -> bool {
        self.bits[number as usize / 64] & 1 << (number % 64) != 0
    }
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
    /// Whether what lies in data packs is in `entries`, or where else.
    contents: Contents,
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

    /// The packs that are recorded to hold nothing any more, and of which nobody knows all that they held.
    pub fn written_off_unknown(&self) -> impl Iterator<Item = PackId> {
        let known: HashSet<PackId> = self.packs.iter().map(|row| row.id).collect();
        let is_known = move |pack: &PackId| known.contains(pack) && !self.report.half_known.contains(pack);
        self.damaged_packs().copied().filter(move |pack| {
            self.is_written_off(pack) && self.report.listed_packs.contains_key(pack) && !is_known(pack)
        })
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

    /// The frames of those packs that are in memory, each with its pack's number: for tests.
    #[cfg(any(test, feature = "internals"))]
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

    /// Every chunk that is in memory, with each pack that holds it.
    pub fn each_holder(&self, mut each: impl FnMut(ChunkKind, &ChunkId, &PackId)) {
        for Row { id, frame, kind, .. } in &self.entries {
            each(*kind, id, &self.packs[self.frames[*frame as usize].0 as usize].id);
        }
    }

    /// Every place of every chunk that is in memory: for tests.
    #[cfg(any(test, feature = "internals"))]
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

    /// A set of stored chunks without any, one bit for each.
    pub fn empty_set(&self) -> ChunkSet {
        ChunkSet::with_room_for(self.entries.len())
    }

    /// Adds a chunk to a set of this index's; whether it was not in it, and `None` if it is stored nowhere.
    pub fn insert_into(&self, set: &mut ChunkSet, kind: ChunkKind, id: &ChunkId) -> Option<bool> {
        self.number(kind, id).map(|number| set.insert(number))
    }

    /// Whether a chunk is in a set of this index's.
    pub fn is_in(&self, set: &ChunkSet, kind: ChunkKind, id: &ChunkId) -> bool {
        self.number(kind, id).is_some_and(|number| set.contains(number))
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
