//! Merges index objects, and drops what they say of packs that are gone. The index only adds: what is dropped is dropped by
//! writing what remains anew and then deleting what was read, in this order, so that at every moment the index objects say
//! of every pack that is there all that was said before, and of a pack of which two things were said, what its own table says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::index::{Index, list_objects, pack_row, read_footer};
use super::writer::{FrameRows, frames_of, index_blocks};
use crate::backend::{Backend, Put, Span};
use crate::crypto::Keys;
use crate::error::{Error, Result};
use crate::format::index::{ChunkRow, IndexBlock, PackRow};
use crate::format::pack::{ChunkRecord, Footer, FrameRecord};
use crate::id::{IndexId, ObjectName, PackId, PackKind, SnapshotId};
use crate::mutants::mutant;
use crate::seal;

/// Objects with fewer rows than this are merged, if there are a few.
const SMALL_ROWS: usize = 16 << 10;
/// Fewer small objects are left alone: to merge them would cost more than it saves.
const SMALL_OBJECTS_MIN: usize = 8;
/// Rows that are held at once; more are merged in several steps.
const ROWS_MAX: usize = 128 << 10;

/// All rows of one pack, by the number of their frame: its record without the number of its first chunk, and its chunks, as
/// blocks have them ascending by id.
#[derive(Default, PartialEq)]
struct PackRows {
    frames: BTreeMap<u32, (FrameRecord, Vec<ChunkRecord>)>,
}

impl From<&Footer> for PackRows {
    fn from(footer: &Footer) -> Self {
        let frames = frames_of(footer).map(|frame| {
            let record = FrameRecord { first_chunk: 0, ..frame.record };
            let mut chunks = frame.chunks.to_vec();
            chunks.sort_unstable_by_key(|chunk| chunk.id);
            (frame.ordinal, (record, chunks))
        });
        Self { frames: frames.collect() }
    }
}

type Packs = BTreeMap<PackId, (PackRow, PackRows)>;

/// What one object says.
struct Contents {
    id: IndexId,
    packs: Packs,
    rows: usize,
    /// It says two things of one pack, and is left to repair.
    contradicts_itself: bool,
    /// Sealed under keys from before a rotation, and to be sealed anew.
    is_old: bool,
}

/// Merges what should be, and with `rekey` whatever is sealed under keys from before a rotation. Damaged objects are left to
/// repair. Returns how many objects went.
pub fn compact(backend: &dyn Backend, keys: &Keys, by: SnapshotId, rekey: bool) -> Result<usize> {
    let mut removed = 0;
    let before = Index::list(backend)?;
    let mut batch: Vec<Contents> = Vec::new();
    let mut rows = 0;
    for id in list_objects(backend)? {
        let Some(mut contents) = read(backend, keys, id)? else { continue };
        contents.is_old &= rekey;
        let speaks_of_the_gone = contents.packs.keys().any(|pack| !before.contains_key(pack));
        if !speaks_of_the_gone && !contents.is_old && contents.rows >= SMALL_ROWS {
            continue;
        }
        rows += contents.rows;
        batch.push(contents);
        if rows >= ROWS_MAX {
            removed += merge(backend, keys, by, std::mem::take(&mut batch), &before)?;
            rows = 0;
        }
    }
    removed += merge(backend, keys, by, batch, &before)?;
    Ok(removed)
}

/// Writes one object in place of these, if one of them speaks of a pack that is gone or is to be sealed anew, or there are
/// many.
fn merge(
    backend: &dyn Backend,
    keys: &Keys,
    by: SnapshotId,
    batch: Vec<Contents>,
    before: &HashMap<PackId, (PackKind, u64)>,
) -> Result<usize> {
    let is_stale =
        |contents: &Contents| contents.is_old || contents.packs.keys().any(|pack| !before.contains_key(pack));
    if batch.len() < SMALL_OBJECTS_MIN && !batch.iter().any(is_stale) {
        return Ok(0);
    }
    // Begun after all of these objects were read: a pack that they speak of was durable before. One that is not listed now
    // is gone for good, since no name of a pack is ever given twice.
    let listed = if mutant!("packs listed before the index is read") { before.clone() } else { Index::list(backend)? };
    let Some((inputs, packs)) = agree(backend, keys, batch, &listed)? else { return Ok(0) };
    let blocks = blocks(&packs);
    let mut output = None;
    if !blocks.is_empty() {
        let counter = u64::from_le_bytes(inputs[0].0[..8].try_into().expect("8 of 32 bytes"));
        let (id, bytes) = seal::seal_index(keys, by, counter, &blocks)?;
        match backend.put_new(&ObjectName::Index(id), bytes)? {
            Put::Created | Put::Exists(_) => output = Some(id),
            // It may be there and may not: then its inputs stay.
            Put::Unknown => return Ok(0),
        }
    }
    let mut removed = 0;
    for id in inputs.into_iter().filter(|id| Some(*id) != output) {
        backend.remove(&ObjectName::Index(id))?;
        removed += 1;
    }
    Ok(removed)
}

/// The objects that can be merged, and what they say of the packs that are there. Where two say different things of a pack, what
/// its own table says is kept of it; if it has none, those that speak of it stay as they are: one of them may be right. `None`:
/// nothing is left to merge.
fn agree(
    backend: &dyn Backend,
    keys: &Keys,
    mut batch: Vec<Contents>,
    listed: &HashMap<PackId, (PackKind, u64)>,
) -> Result<Option<(Vec<IndexId>, Packs)>> {
    let mut settled = BTreeMap::new();
    let mut open = HashSet::new();
    for pack in contradicted(&batch, listed) {
        let (kind, size) = listed[&pack];
        match read_footer(backend, keys, kind, &pack, size) {
            Ok(footer) => _ = settled.insert(pack, (pack_row(kind, pack, size, &footer), PackRows::from(&footer))),
            Err(Error::Backend(error)) if !error.is_damage() && !error.is_absent() => return Err(error.into()),
            Err(_) => _ = open.insert(pack),
        }
    }
    batch.retain(|contents| contents.packs.keys().all(|pack| !open.contains(pack)));
    let inputs: Vec<IndexId> = batch.iter().map(|contents| contents.id).collect();
    if inputs.is_empty() {
        return Ok(None);
    }
    let mut packs = BTreeMap::new();
    for (id, said) in batch.into_iter().flat_map(|contents| contents.packs) {
        if listed.contains_key(&id) {
            packs.entry(id).or_insert_with(|| settled.remove(&id).unwrap_or(said));
        }
    }
    Ok(Some((inputs, packs)))
}

/// The packs that are there and of which two of these objects, or one and the listing, say different things.
fn contradicted(batch: &[Contents], listed: &HashMap<PackId, (PackKind, u64)>) -> BTreeSet<PackId> {
    let mut first: HashMap<PackId, &(PackRow, PackRows)> = HashMap::new();
    let mut contradicted = BTreeSet::new();
    for (id, said) in batch.iter().flat_map(|contents| &contents.packs) {
        let Some((kind, size)) = listed.get(id) else { continue };
        let is_of_its_length = said.0.kind == *kind && u64::from(said.0.length) == *size;
        if !is_of_its_length || *first.entry(*id).or_insert(said) != said {
            contradicted.insert(*id);
        }
    }
    contradicted
}

fn read(backend: &dyn Backend, keys: &Keys, id: IndexId) -> Result<Option<Contents>> {
    let bytes = match backend.get(&ObjectName::Index(id), Span::All) {
        Ok(bytes) => bytes,
        // Merged by somebody else since it was listed.
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_old = seal::key_epoch(&bytes).is_some_and(|epoch| epoch < keys.newest_epoch());
    let mut contents = Contents { id, packs: BTreeMap::new(), rows: 0, contradicts_itself: false, is_old };
    let is_whole =
        seal::has_name(&bytes, &id.0) && seal::open_index(keys, &bytes, &mut |block| contents.add(block)).is_ok();
    Ok((is_whole && !contents.contradicts_itself).then_some(contents))
}

impl Contents {
    fn add(&mut self, block: IndexBlock) {
        self.rows += block.chunks.len();
        let mut agrees = true;
        for pack in &block.packs {
            let known = self.packs.entry(pack.id).or_insert_with(|| (*pack, PackRows::default()));
            agrees &= known.0 == *pack;
        }
        for frame in &block.frames {
            let Some(pack) = block.packs.get(usize::from(frame.pack)) else { continue };
            let Some((_, rows)) = self.packs.get_mut(&pack.id) else { continue };
            let record = frame.record();
            // A frame and its chunks stand in one block.
            agrees &= rows.frames.insert(frame.ordinal, (record, Vec::new())).is_none();
        }
        self.contradicts_itself |= !agrees;
        for chunk in block.chunks {
            let Some(frame) = block.frames.get(usize::from(chunk.frame)) else { continue };
            let Some(pack) = block.packs.get(usize::from(frame.pack)) else { continue };
            let rows = self.packs.get_mut(&pack.id).and_then(|(_, rows)| rows.frames.get_mut(&frame.ordinal));
            if let Some((_, chunks)) = rows {
                let ChunkRow { id, offset, length, kind, .. } = chunk;
                chunks.push(ChunkRecord { id, offset, length, kind });
            }
        }
    }
}

/// The rows in blocks that stand alone.
fn blocks(packs: &Packs) -> Vec<IndexBlock> {
    index_blocks(packs.values().map(|(row, rows)| {
        let frames = rows.frames.iter();
        (*row, frames.map(|(ordinal, (record, chunks))| FrameRows { ordinal: *ordinal, record: *record, chunks }))
    }))
}

#[cfg(test)]
mod tests;
