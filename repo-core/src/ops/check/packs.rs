//! Packs and index: each against the other, and on request every byte.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use rayon::prelude::*;

use crate::backend::Span;
use crate::error::{Corruption, Error, Result};
use crate::format::pack::Footer;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind};
use crate::pipeline::{self, lock};
use crate::progress::{Event, Progress};
use crate::seal;
use crate::store::{Index, Place, Store};

use super::CheckReport;

/// What loading the index found: damaged index objects, packs that are gone or cut short.
pub fn check_index(view: &Index, report: &mut CheckReport, damaged: &mut HashSet<PackId>) {
    let loaded = view.report();
    for error in &loaded.errors {
        if let Error::Corrupt { object, problem } = error {
            if let ObjectName::Pack(_, id) = object {
                damaged.insert(*id);
            }
            report.errors.push(problem.clone().of(*object));
        }
    }
    for (kind, id) in &loaded.missing_packs {
        damaged.insert(*id);
        report.errors.push(Corruption::Missing.of(ObjectName::Pack(*kind, *id)));
    }
    for (row, _) in &loaded.unindexed {
        let name = ObjectName::Pack(row.kind, row.id);
        report.notes.push(format!("{name} is in no index; the next backup puts it there"));
    }
    let mut written_off: Vec<_> = view.damaged_packs().filter(|pack| view.is_written_off(pack)).collect();
    written_off.sort_unstable();
    for pack in written_off {
        report.notes.push(format!("pack {pack} is recorded as damaged; nothing relies on it, and it may be pruned"));
    }
    report.notes.extend(loaded.foreign.iter().map(|name| format!("{name:?} is not an object of the repository")));
}

/// Reads every pack, hashes it, opens every frame, and names every chunk again.
pub fn read_all(
    store: &Store,
    view: &Index,
    threads: usize,
    progress: &dyn Progress,
    report: &mut CheckReport,
    damaged: &mut HashSet<PackId>,
) -> Result<()> {
    let mut indexed: HashMap<PackId, HashMap<(ChunkKind, ChunkId), Place>> = HashMap::new();
    view.each(|kind, id, place| {
        indexed.entry(place.pack).or_default().insert((kind, *id), place);
    });
    let mut packs: Vec<(PackId, PackKind, u64)> =
        view.report().listed_packs.iter().map(|(id, (kind, size))| (*id, *kind, *size)).collect();
    packs.retain(|(id, ..)| !view.is_written_off(id));
    packs.sort_unstable();
    progress.report(Event::Total { files: packs.len() as u64, bytes: packs.iter().map(|pack| pack.2).sum() });
    let found = Mutex::new((Vec::new(), 0));
    let look_at = |(id, kind, size)| {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let problem = match read_pack(store, kind, &id, indexed.get(&id)) {
            Ok(()) => None,
            // A pack that is gone since it was listed was repacked; its chunks are looked for by the trees.
            Err(Error::Backend(error)) if error.is_absent() => None,
            Err(error @ Error::Backend(_)) => return Err(error),
            Err(error) => Some((id, error)),
        };
        progress.report(Event::Bytes { count: size });
        let mut found = lock(&found);
        found.0.extend(problem);
        found.1 += size;
        Ok(())
    };
    // One pack a thread is in memory at a time.
    pipeline::pool(threads)?.install(|| packs.into_par_iter().with_max_len(1).try_for_each(look_at))?;
    let (mut problems, read_bytes) = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    problems.sort_by_key(|(id, _)| *id);
    report.read_bytes += read_bytes;
    for (id, error) in problems {
        // A pack cut short was named already, by its size.
        if damaged.insert(id) {
            report.errors.push(error);
        }
    }
    Ok(())
}

fn read_pack(
    store: &Store,
    kind: PackKind,
    id: &PackId,
    indexed: Option<&HashMap<(ChunkKind, ChunkId), Place>>,
) -> Result<()> {
    let object = ObjectName::Pack(kind, *id);
    let bytes = store.backend().get(&object, Span::All)?;
    check_pack(store, kind, id, &bytes, indexed).map_err(|problem| problem.of(object))
}

fn check_pack(
    store: &Store,
    kind: PackKind,
    id: &PackId,
    bytes: &[u8],
    indexed: Option<&HashMap<(ChunkKind, ChunkId), Place>>,
) -> Result<(), Corruption> {
    let (_, footer) = store.with_codec(|codec| seal::open_pack(store.keys(), kind, id, bytes, codec))?;
    match indexed {
        Some(indexed) if !agrees(&footer, indexed) => Err(Corruption::Malformed("index entries for it that it denies")),
        _ => Ok(()),
    }
}

/// Whether every place that the index gives for this pack is where its own table says.
fn agrees(footer: &Footer, indexed: &HashMap<(ChunkKind, ChunkId), Place>) -> bool {
    let mut found = 0;
    for (ordinal, record) in footer.frames.iter().enumerate() {
        for chunk in footer.chunks_of(ordinal) {
            let Some(place) = indexed.get(&(chunk.kind, chunk.id)) else { continue };
            let same_frame = place.frame.ordinal == ordinal as u32
                && place.frame.record.offset == record.offset
                && place.frame.record.stored_length == record.stored_length
                && place.frame.record.raw_length == record.raw_length
                && place.frame.record.codec == record.codec;
            if !(same_frame && place.offset == chunk.offset && place.length == chunk.length) {
                return false;
            }
            found += 1;
        }
    }
    found == indexed.len()
}
