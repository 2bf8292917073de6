//! Merges index objects, and drops what they say of packs that are gone. The index only adds: what is dropped is dropped by
//! writing what remains anew and then deleting what was read, in this order, so that at every moment the index objects say
//! of every pack that is there all that was said before.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use super::index::Index;
use super::writer::{FrameRows, index_blocks};
use crate::backend::{Backend, Listed, Prefix, Put, Span};
use crate::crypto::Keys;
use crate::error::{Error, Result};
use crate::format::index::{ChunkRow, IndexBlock, PackRow};
use crate::format::pack::{ChunkRecord, FrameRecord};
use crate::id::{IndexId, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::seal;

/// Objects with fewer rows than this are merged, if there are a few.
const SMALL_ROWS: usize = 16 << 10;
/// Fewer small objects are left alone: to merge them would cost more than it saves.
const SMALL_OBJECTS_MIN: usize = 8;
/// Rows that are held at once; more are merged in several steps.
const ROWS_MAX: usize = 512 << 10;

/// All rows of one pack, by the number of their frame.
#[derive(Default)]
struct PackRows {
    frames: BTreeMap<u32, (Option<FrameRecord>, Vec<ChunkRecord>)>,
}

/// What one object says.
struct Contents {
    id: IndexId,
    packs: BTreeMap<PackId, (PackRow, PackRows)>,
    rows: usize,
    /// Sealed under keys from before a rotation, and to be sealed anew.
    is_old: bool,
}

/// Merges what should be, and with `rekey` whatever is sealed under keys from before a rotation. Damaged objects are left to
/// repair. Returns how many objects went.
pub fn compact(backend: &dyn Backend, keys: &Keys, by: SnapshotId, rekey: bool) -> Result<usize> {
    let mut removed = 0;
    let before = list_packs(backend)?;
    let mut batch: Vec<Contents> = Vec::new();
    let mut rows = 0;
    for id in list_objects(backend)? {
        let Some(mut contents) = read(backend, keys, id)? else { continue };
        contents.is_old &= rekey;
        let speaks_of_the_gone = contents.packs.keys().any(|pack| !before.contains(pack));
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
    before: &HashSet<PackId>,
) -> Result<usize> {
    let is_stale = |contents: &Contents| contents.is_old || contents.packs.keys().any(|pack| !before.contains(pack));
    if batch.len() < SMALL_OBJECTS_MIN && !batch.iter().any(is_stale) {
        return Ok(0);
    }
    // Begun after all of these objects were read: a pack that they speak of was durable before. One that is not listed now
    // is gone for good, since no name of a pack is ever given twice.
    let listed = if mutant!("packs listed before the index is read") { before.clone() } else { list_packs(backend)? };
    let inputs: Vec<IndexId> = batch.iter().map(|contents| contents.id).collect();
    let mut packs: BTreeMap<PackId, (PackRow, PackRows)> = BTreeMap::new();
    for contents in batch {
        for (id, (row, rows)) in contents.packs {
            if !listed.contains(&id) {
                continue;
            }
            let known = &mut packs.entry(id).or_insert_with(|| (row, PackRows::default())).1;
            for (ordinal, (frame, chunks)) in rows.frames {
                let there = known.frames.entry(ordinal).or_default();
                there.0 = there.0.or(frame);
                there.1.extend(chunks);
            }
        }
    }
    let blocks = blocks(packs);
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

fn read(backend: &dyn Backend, keys: &Keys, id: IndexId) -> Result<Option<Contents>> {
    let bytes = match backend.get(&ObjectName::Index(id), Span::All) {
        Ok(bytes) => bytes,
        // Merged by somebody else since it was listed.
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_old = seal::key_epoch(&bytes).is_some_and(|epoch| epoch < keys.newest_epoch());
    let mut contents = Contents { id, packs: BTreeMap::new(), rows: 0, is_old };
    let is_whole =
        seal::has_name(&bytes, &id.0) && seal::open_index(keys, &bytes, &mut |block| contents.add(block)).is_ok();
    Ok(is_whole.then_some(contents))
}

impl Contents {
    fn add(&mut self, block: IndexBlock) {
        self.rows += block.chunks.len();
        for frame in &block.frames {
            let Some(pack) = block.packs.get(usize::from(frame.pack)) else { continue };
            let rows = &mut self.packs.entry(pack.id).or_insert_with(|| (*pack, PackRows::default())).1;
            rows.frames.entry(frame.ordinal).or_default().0 = Some(FrameRecord {
                offset: frame.offset,
                stored_length: frame.stored_length,
                raw_length: frame.raw_length,
                codec: frame.codec,
                first_chunk: 0,
            });
        }
        for chunk in block.chunks {
            let Some(frame) = block.frames.get(usize::from(chunk.frame)) else { continue };
            let Some(pack) = block.packs.get(usize::from(frame.pack)) else { continue };
            if let Some((_, rows)) = self.packs.get_mut(&pack.id) {
                let ChunkRow { id, offset, length, kind, .. } = chunk;
                rows.frames.entry(frame.ordinal).or_default().1.push(ChunkRecord { id, offset, length, kind });
            }
        }
    }
}

/// The rows in blocks that stand alone. What two objects said of one frame is said once.
fn blocks(mut packs: BTreeMap<PackId, (PackRow, PackRows)>) -> Vec<IndexBlock> {
    for (_, rows) in packs.values_mut() {
        for (_, chunks) in rows.frames.values_mut() {
            chunks.sort_unstable_by_key(|chunk| (chunk.id, chunk.offset));
            chunks.dedup_by_key(|chunk| chunk.id);
        }
    }
    index_blocks(packs.values().map(|(row, rows)| {
        let frames = rows.frames.iter().filter_map(|(ordinal, (record, chunks))| {
            record.map(|record| FrameRows { ordinal: *ordinal, record, chunks })
        });
        (*row, frames)
    }))
}

fn list_objects(backend: &dyn Backend) -> Result<Vec<IndexId>, Error> {
    let mut ids = Vec::new();
    backend.list(Prefix::Indexes, &mut |listed| {
        if let Listed::Object { name: ObjectName::Index(id), .. } = listed {
            ids.push(id);
        }
        ControlFlow::Continue(())
    })?;
    ids.sort_unstable();
    Ok(ids)
}

fn list_packs(backend: &dyn Backend) -> Result<HashSet<PackId>> {
    Ok(Index::list(backend)?.into_keys().collect())
}
