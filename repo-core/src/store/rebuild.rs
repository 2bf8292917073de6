//! Index objects, each against the packs' own tables; and new ones made from those.
//!
//! Written first, removed after: at every moment the index objects that are there speak of every pack that those before spoke
//! of. What is dropped are damaged objects, those that a pack's table denies, and those that speak of a pack which a listing
//! begun after they were read does not show: so a pack that another client writes meanwhile is never dropped (a pack is
//! durable before an index object speaks of it).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Store;
use super::index::{Index, list_objects, pack_row, read_footer};
use super::writer::{FrameRows, INDEX_OBJECT_CHUNKS, frames_of, index_blocks, lost_answer};
use crate::backend::{Backend, Put, Removal, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::index::{IndexBlock, PackRow};
use crate::format::pack::{ChunkRecord, Footer, FrameRecord};
use crate::id::{IndexId, ObjectName, PackId, PackKind, SnapshotId};
use crate::seal::{self, FramePlace};

/// What was found, and done about it.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct IndexRepair {
    /// Index objects that were there.
    pub objects: u64,
    /// Those that could not be read, named.
    pub damaged: Vec<Error>,
    /// Those that say of a pack what its own table denies.
    pub lying: Vec<IndexId>,
    /// Those that speak of packs that are gone.
    pub stale: Vec<IndexId>,
    /// Packs whose own tables were read.
    pub read_packs: u64,
    /// Packs that no good index object spoke of in full, and one does now.
    pub indexed_packs: u64,
    /// Packs whose tables cannot be read, and of which no index object speaks in full.
    pub unreadable: Vec<Error>,
    /// Index objects written.
    pub written: u64,
    /// Index objects removed.
    pub removed: u64,
    /// Those that the place refuses to let go.
    pub retained: u64,
}

/// What one index object says of one pack.
#[derive(Debug)]
struct Words {
    /// The position of the object.
    object: usize,
    row: PackRow,
    /// By ordinal. An object that gives one twice and differently is damaged.
    frames: BTreeMap<u32, ToldFrame>,
}

/// A frame, as it is told: its record without the number of its first chunk, and its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldFrame {
    pub place: FramePlace,
    /// Ascending by offset.
    pub chunks: Vec<ChunkRecord>,
}

/// Every index object's words.
#[derive(Debug, Default)]
struct Survey {
    objects: Vec<IndexId>,
    damaged: BTreeMap<usize, Corruption>,
    packs: HashMap<PackId, Vec<Words>>,
}

impl Survey {
    /// Lists the index objects and reads them. With `only`, no other packs are kept.
    fn read(backend: &dyn Backend, keys: &Keys, only: Option<&HashSet<PackId>>) -> Result<Self> {
        let mut survey = Self::default();
        for id in list_objects(backend)? {
            let bytes = match backend.get(&ObjectName::Index(id), Span::All) {
                Ok(bytes) => bytes,
                // Another client replaced it since it was listed.
                Err(error) if error.is_absent() => continue,
                Err(error) if error.is_damage() => {
                    survey.damaged.insert(survey.objects.len(), Corruption::Truncated);
                    survey.objects.push(id);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            survey.take(keys, id, &bytes, only);
        }
        Ok(survey)
    }

    fn take(&mut self, keys: &Keys, id: IndexId, bytes: &[u8], only: Option<&HashSet<PackId>>) {
        let object = self.objects.len();
        self.objects.push(id);
        if !seal::has_name(bytes, &id.0) {
            self.damaged.insert(object, Corruption::Hash);
            return;
        }
        let mut told = BTreeMap::new();
        let mut contradiction = None;
        let opened = seal::open_index(keys, bytes, &mut |block| {
            if !add_block(&block, object, only, &mut told) {
                contradiction = Some(Corruption::Malformed("index object: it contradicts itself"));
            }
        });
        if let Some(problem) = opened.err().or(contradiction) {
            self.damaged.insert(object, problem);
            return;
        }
        for (pack, words) in told {
            self.packs.entry(pack).or_default().push(words);
        }
    }

    fn words_of(&self, pack: &PackId) -> &[Words] {
        self.packs.get(pack).map_or(&[], Vec::as_slice)
    }
}

/// Adds what a block says. `false`: it contradicts a block before it.
fn add_block(
    block: &IndexBlock,
    object: usize,
    only: Option<&HashSet<PackId>>,
    told: &mut BTreeMap<PackId, Words>,
) -> bool {
    let mut agrees = true;
    for row in block.packs.iter().filter(|row| only.is_none_or(|only| only.contains(&row.id))) {
        let words = told.entry(row.id).or_insert_with(|| Words { object, row: *row, frames: BTreeMap::new() });
        agrees &= words.row == *row;
    }
    let mut chunks: Vec<Vec<ChunkRecord>> = vec![Vec::new(); block.frames.len()];
    for row in &block.chunks {
        // Within the block, as its decoder has proven.
        let chunk = ChunkRecord { id: row.id, offset: row.offset, length: row.length, kind: row.kind };
        chunks[usize::from(row.frame)].push(chunk);
    }
    for (row, mut chunks) in block.frames.iter().zip(chunks) {
        let Some(words) = told.get_mut(&block.packs[usize::from(row.pack)].id) else { continue };
        chunks.sort_unstable_by_key(|chunk| (chunk.offset, chunk.id));
        let record = row.record();
        let frame = ToldFrame { place: FramePlace { ordinal: row.ordinal, record }, chunks };
        agrees &= words.frames.insert(row.ordinal, frame.clone()).is_none_or(|before| before == frame);
    }
    agrees
}

/// A pack's table as an index object would tell it.
pub fn told_by(footer: &Footer) -> BTreeMap<u32, ToldFrame> {
    let frames = frames_of(footer).map(|frame| {
        let record = FrameRecord { first_chunk: 0, ..frame.record };
        let place = FramePlace { ordinal: frame.ordinal, record };
        (frame.ordinal, ToldFrame { place, chunks: frame.chunks.to_vec() })
    });
    frames.collect()
}

/// What the table of a pack says.
enum Table {
    Read(Footer),
    Unreadable(Error),
    /// The pack is gone.
    Gone,
}

/// Makes the index agree with the packs. With `read_all` every pack's table is read, else of those packs alone that the index
/// objects do not speak of in full, or speak of in two ways.
pub fn repair_index(store: &Store, writer: SnapshotId, read_all: bool, dry_run: bool) -> Result<IndexRepair> {
    let (backend, keys) = (store.backend().as_ref(), store.keys().as_ref());
    let survey = Survey::read(backend, keys, None)?;
    // After every index object was read: see above.
    let listed = BTreeMap::from_iter(Index::list(backend)?);
    let mut repair = IndexRepair { objects: survey.objects.len() as u64, ..IndexRepair::default() };
    let mut tables = HashMap::new();
    for (id, (kind, size)) in &listed {
        if read_all || is_suspicious(survey.words_of(id), *kind, *size) {
            repair.read_packs += 1;
            tables.insert(*id, read_table(backend, keys, *kind, id, *size)?);
        }
    }
    let bad = judge(&survey, &listed, &tables, &mut repair);
    let mut rows = Rows { store, writer, dry_run, waiting: Vec::new(), chunks: 0, counter: 0, written: 0 };
    for (id, (kind, size)) in &listed {
        let words = survey.words_of(id);
        let good = || words.iter().filter(|words| !bad.contains(&words.object));
        if is_complete(good()) && !matches!(tables.get(id), Some(Table::Gone)) {
            continue;
        }
        let table = match tables.remove(id) {
            None => {
                repair.read_packs += 1;
                read_table(backend, keys, *kind, id, *size)?
            }
            Some(table) => table,
        };
        match table {
            Table::Read(footer) => {
                rows.push(pack_row(*kind, *id, *size, &footer), told_by(&footer))?;
                repair.indexed_packs += 1;
            }
            Table::Unreadable(error) => {
                repair.unreadable.push(error);
                // What the objects that go know of it is all that is known: it is kept, for readers and healers to try.
                for words in words.iter().filter(|words| bad.contains(&words.object)) {
                    rows.push(words.row, words.frames.clone())?;
                }
            }
            Table::Gone => {}
        }
    }
    repair.written = rows.finish()?;
    if !dry_run {
        for object in bad {
            match backend.remove(&ObjectName::Index(survey.objects[object]))? {
                Removal::Removed => repair.removed += 1,
                Removal::Retained => repair.retained += 1,
                Removal::Absent => {}
            }
        }
    }
    Ok(repair)
}

/// The index objects that have to go.
fn judge(
    survey: &Survey,
    listed: &BTreeMap<PackId, (PackKind, u64)>,
    tables: &HashMap<PackId, Table>,
    repair: &mut IndexRepair,
) -> BTreeSet<usize> {
    let (mut lying, mut stale) = (BTreeSet::new(), BTreeSet::new());
    for (id, all) in &survey.packs {
        let size = listed.get(id);
        let truth = match tables.get(id) {
            Some(Table::Read(footer)) => {
                size.map(|(kind, size)| (pack_row(*kind, *id, *size, footer), told_by(footer)))
            }
            _ => None,
        };
        let is_gone = size.is_none() || matches!(tables.get(id), Some(Table::Gone));
        for words in all {
            if is_gone {
                stale.insert(words.object);
            } else if let Some((row, frames)) = &truth
                && (words.row != *row || !is_part(&words.frames, frames))
            {
                lying.insert(words.object);
            }
        }
    }
    let name = |object: &usize| survey.objects[*object];
    let corrupt = |(object, problem): (&usize, &Corruption)| problem.clone().of(ObjectName::Index(name(object)));
    repair.damaged = survey.damaged.iter().map(corrupt).collect();
    repair.lying = lying.iter().map(name).collect();
    repair.stale = stale.iter().map(name).collect();
    survey.damaged.keys().copied().chain(lying).chain(stale).collect()
}

/// Whether all that is told is in the table.
fn is_part(told: &BTreeMap<u32, ToldFrame>, table: &BTreeMap<u32, ToldFrame>) -> bool {
    told.iter().all(|(ordinal, frame)| {
        let truth = table.get(ordinal);
        truth.is_some_and(|truth| truth.place == frame.place && is_sublist(&frame.chunks, &truth.chunks))
    })
}

/// Whether these words together tell of every chunk of their pack.
fn is_complete<'w>(words: impl Iterator<Item = &'w Words>) -> bool {
    let mut chunks = BTreeSet::new();
    let mut count = None;
    for words in words {
        count = Some(words.row.chunk_count as usize);
        for frame in words.frames.values() {
            chunks.extend(frame.chunks.iter().map(|chunk| (frame.place.ordinal, chunk.offset)));
        }
    }
    count == Some(chunks.len()) && !chunks.is_empty()
}

fn is_suspicious(words: &[Words], kind: PackKind, size: u64) -> bool {
    let differs = |words: &Words| words.row.kind != kind || u64::from(words.row.length) != size;
    let contradicts = |one: &Words, other: &Words| {
        one.row != other.row
            || one.frames.iter().any(|(ordinal, frame)| {
                other.frames.get(ordinal).is_some_and(|other| {
                    other.place != frame.place
                        || !(is_sublist(&frame.chunks, &other.chunks) || is_sublist(&other.chunks, &frame.chunks))
                })
            })
    };
    let pairs =
        || words.iter().enumerate().flat_map(|(number, one)| words[..number].iter().map(move |other| (one, other)));
    words.iter().any(differs) || pairs().any(|(one, other)| contradicts(one, other)) || !is_complete(words.iter())
}

/// Whether one has all that the other has, in the same order.
fn is_sublist(part: &[ChunkRecord], whole: &[ChunkRecord]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|chunk| rest.any(|other| other == chunk))
}

fn read_table(backend: &dyn Backend, keys: &Keys, kind: PackKind, id: &PackId, size: u64) -> Result<Table> {
    match read_footer(backend, keys, kind, id, size) {
        Ok(footer) => Ok(Table::Read(footer)),
        Err(Error::Backend(error)) if error.is_absent() => Ok(Table::Gone),
        Err(Error::Backend(error)) if !error.is_damage() => Err(error.into()),
        Err(error) => Ok(Table::Unreadable(error)),
    }
}

/// Rows that wait for their index object.
struct Rows<'s> {
    store: &'s Store,
    writer: SnapshotId,
    dry_run: bool,
    waiting: Vec<(PackRow, BTreeMap<u32, ToldFrame>)>,
    chunks: usize,
    counter: u64,
    written: u64,
}

impl Rows<'_> {
    fn push(&mut self, row: PackRow, frames: BTreeMap<u32, ToldFrame>) -> Result<()> {
        self.chunks += frames.values().map(|frame| frame.chunks.len()).sum::<usize>();
        self.waiting.push((row, frames));
        if self.chunks >= INDEX_OBJECT_CHUNKS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.chunks = 0;
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        self.written += 1;
        if self.dry_run {
            return Ok(());
        }
        let backend = self.store.backend();
        for (row, _) in &waiting {
            // It was listed, but its writer may have died before its name was durable (invariant 2).
            backend.make_durable(&ObjectName::Pack(row.kind, row.id))?;
        }
        let frames = |frame: &ToldFrame| (frame.place, frame.chunks.clone());
        let packs: Vec<_> =
            waiting.iter().map(|(row, told)| (*row, told.values().map(frames).collect::<Vec<_>>())).collect();
        let blocks = index_blocks(packs.iter().map(|(row, frames)| {
            let frames = frames.iter().map(|(place, chunks)| FrameRows {
                ordinal: place.ordinal,
                record: place.record,
                chunks: chunks.as_slice(),
            });
            (*row, frames)
        }));
        self.counter += 1;
        let (id, bytes) = seal::seal_index(self.store.keys(), self.writer, self.counter, &blocks)?;
        match backend.put_new(&ObjectName::Index(id), bytes)? {
            Put::Created | Put::Exists(_) => Ok(()),
            Put::Unknown => Err(lost_answer("an index object")),
        }
    }

    fn finish(mut self) -> Result<u64> {
        self.write()?;
        Ok(self.written)
    }
}

/// All that the index objects that can be read say of these packs, which may be gone, cut short, or without a table: frames
/// that several tell in the same way come once.
pub fn told_of(store: &Store, packs: &HashSet<PackId>) -> Result<HashMap<PackId, (PackKind, Vec<ToldFrame>)>> {
    let survey = Survey::read(store.backend().as_ref(), store.keys(), Some(packs))?;
    let mut told = HashMap::new();
    for (id, all) in survey.packs {
        let Some(kind) = all.first().map(|words| words.row.kind) else { continue };
        let mut frames: Vec<ToldFrame> = Vec::new();
        for frame in all.into_iter().flat_map(|words| words.frames.into_values()) {
            if !frames.contains(&frame) {
                frames.push(frame);
            }
        }
        told.insert(id, (kind, frames));
    }
    Ok(told)
}
