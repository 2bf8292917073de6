//! Packs and index: each against the other, and on request every byte.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::options::{CheckLevel, CheckOptions};
use super::report::{Damaged, Findings};
use crate::backend::Span;
use crate::error::{BackendErrorKind, Corruption, Error, Result};
use crate::format::pack::Footer;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind};
use crate::pipeline::{self, lock};
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::seal::{self, PackKeys};
use crate::store::{ByPack, Index, Place, Store};

/// A pack that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub id: PackId,
    pub kind: PackKind,
    pub size: u64,
}

/// What is known to be lost: places that the index gives, and where nothing can be read.
#[derive(Debug, Default)]
pub struct Lost {
    packs: HashSet<PackId>,
    frames: HashSet<(PackId, u32)>,
}

/// What can no longer be read of a damaged pack.
#[derive(Debug)]
enum Part {
    All,
    Frames(Vec<u32>),
}

/// What reading packs found.
#[derive(Debug, Default)]
pub struct Readings {
    pub packs: u64,
    pub bytes: u64,
    damaged: Vec<(Listed, Error, Part)>,
}

impl Lost {
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.frames.is_empty()
    }

    /// Whether a chunk cannot be read there.
    pub fn contains(&self, place: &Place) -> bool {
        self.packs.contains(&place.pack) || self.frames.contains(&(place.pack, place.frame.ordinal))
    }

    /// The packs of which nothing is left.
    pub fn packs(&self) -> &HashSet<PackId> {
        &self.packs
    }
}

/// What loading the index found: damaged index objects, packs that are gone or cut short.
/// `planned`: packs that a prune deletes, or has deleted.
pub fn check_index(
    view: &Index,
    planned: &HashSet<PackId>,
    findings: &mut Findings,
    lost: &mut Lost,
    notes: &mut Vec<String>,
) {
    let loaded = view.report();
    for error in &loaded.errors {
        let Error::Corrupt { object, problem } = error else { continue };
        if let ObjectName::Pack(_, id) = object {
            lost.packs.insert(*id);
        }
        findings.add_error(problem.clone().of(*object));
    }
    for (kind, id) in loaded.missing_packs.iter().filter(|(_, id)| !planned.contains(id)) {
        lost.packs.insert(*id);
        findings.add_error(Corruption::Missing.of(ObjectName::Pack(*kind, *id)));
    }
    let gone = loaded.missing_packs.iter().filter(|(_, id)| planned.contains(id)).count();
    if gone > 0 {
        notes.push(format!("the index still names {gone} packs that prune deleted; the next prune takes that out"));
    }
    for (row, _) in &loaded.unindexed {
        let name = ObjectName::Pack(row.kind, row.id);
        notes.push(format!("{name} is in no index; the next backup puts it there"));
    }
    let mut written_off: Vec<_> = view.damaged_packs().filter(|pack| view.is_written_off(pack)).collect();
    written_off.sort_unstable();
    for pack in written_off {
        notes.push(format!("pack {pack} is recorded as damaged, and nothing relies on it"));
    }
    notes.extend(loaded.foreign.iter().map(|name| format!("{name:?} is not an object of the repository")));
}

/// Every listed pack, ascending.
pub fn listed(view: &Index) -> Vec<Listed> {
    let packs = &view.report().listed_packs;
    let mut packs: Vec<_> =
        packs.iter().map(|(id, (kind, size))| Listed { id: *id, kind: *kind, size: *size }).collect();
    packs.retain(|pack| !view.is_written_off(&pack.id));
    packs.sort_unstable();
    packs
}

/// How reading one pack went.
enum Outcome {
    Whole,
    /// It is gone since it was listed: repacked. Its chunks are looked for by the trees.
    Gone,
    Damaged(Error, Part),
}

/// Reads these packs in this order, until there is no time left: hashes each, and at the deepest level opens every frame
/// and names every chunk again. Which are whole is noted at once.
pub fn read(
    store: &Store,
    view: &Index,
    packs: &[Listed],
    threads: usize,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<Readings> {
    let by_pack = view.by_pack();
    let time_ns = options.time_ns.unwrap_or_else(host::now_ns);
    progress.report(Event::Total { files: packs.len() as u64, bytes: packs.iter().map(|pack| pack.size).sum() });
    let readings = Mutex::new(Readings::default());
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        // Taken one by one and in order: whenever the time is over, those that were to come first are done.
        while !options.is_over() {
            let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let outcome = read_pack(store, pack, options.level, &by_pack)?;
            progress.report(Event::Bytes { count: pack.size });
            if let Some(verified) = &options.verified {
                match outcome {
                    Outcome::Whole => verified.note(pack.id, options.level, time_ns),
                    _ => verified.forget(&pack.id),
                }
            }
            let mut readings = lock(&readings);
            readings.packs += 1;
            readings.bytes += pack.size;
            if let Outcome::Damaged(error, part) = outcome {
                readings.damaged.push((*pack, error, part));
            }
        }
        Ok(())
    };
    // One pack a thread is in memory at a time. Who fails leaves nothing for the others to begin.
    let done =
        pipeline::pool(threads)?.broadcast(|_| work().inspect_err(|_| next.store(packs.len(), Ordering::Relaxed)));
    done.into_iter().collect::<Result<()>>()?;
    let mut readings = readings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    readings.damaged.sort_by_key(|(pack, ..)| *pack);
    Ok(readings)
}

impl Readings {
    /// Names what was found. `false`: nothing that was not known to be lost already.
    pub fn name(self, findings: &mut Findings, lost: &mut Lost) -> bool {
        let known = (lost.packs.len(), lost.frames.len());
        for (pack, error, part) in self.damaged {
            // A pack cut short was named already, by its size.
            findings.add(Damaged::Object(ObjectName::Pack(pack.kind, pack.id)), error);
            match part {
                Part::All => _ = lost.packs.insert(pack.id),
                Part::Frames(ordinals) => lost.frames.extend(ordinals.into_iter().map(|ordinal| (pack.id, ordinal))),
            }
        }
        known != (lost.packs.len(), lost.frames.len())
    }
}

fn read_pack(store: &Store, pack: &Listed, level: CheckLevel, by_pack: &ByPack<'_>) -> Result<Outcome> {
    let object = ObjectName::Pack(pack.kind, pack.id);
    let bytes = match store.backend().get(&object, Span::All) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(Outcome::Gone),
        // A sector that cannot be read is damage like any other, and the rest may be whole.
        Err(error) if error.kind == BackendErrorKind::Final => {
            let part = lost_part(store, pack, by_pack, |offset, length| {
                let span = Span::Range { offset: offset.into(), length: length.into() };
                store.backend().get(&object, span).ok().map(|bytes| bytes.to_vec())
            });
            return Ok(Outcome::Damaged(error.into(), part));
        }
        Err(error) => return Err(error.into()),
    };
    let checked = match level {
        CheckLevel::Data => check_pack(store, pack, &bytes, by_pack),
        _ if seal::has_name(&bytes, &pack.id.0) => Ok(()),
        _ => Err(Corruption::Hash),
    };
    Ok(match checked {
        Ok(()) => Outcome::Whole,
        Err(problem) => {
            let part = lost_part(store, pack, by_pack, |offset, length| {
                bytes.get(offset as usize..)?.get(..length as usize).map(<[u8]>::to_vec)
            });
            Outcome::Damaged(problem.of(object), part)
        }
    })
}

fn check_pack(store: &Store, pack: &Listed, bytes: &[u8], by_pack: &ByPack<'_>) -> Result<(), Corruption> {
    let (_, footer) = store.with_codec(|codec| seal::open_pack(store.keys(), pack.kind, &pack.id, bytes, codec))?;
    match by_pack.places_of(&pack.id).all(|(kind, id, place)| agrees(&footer, kind, id, &place)) {
        true => Ok(()),
        false => Err(Corruption::Malformed("index entries for it that it denies")),
    }
}

/// Whether a place that the index gives is one that the pack's own table gives.
fn agrees(footer: &Footer, kind: ChunkKind, id: &ChunkId, place: &Place) -> bool {
    let ordinal = place.frame.ordinal as usize;
    let Some(record) = footer.frames.get(ordinal) else { return false };
    let same_frame = place.frame.record.offset == record.offset
        && place.frame.record.stored_length == record.stored_length
        && place.frame.record.raw_length == record.raw_length
        && place.frame.record.codec == record.codec;
    // Chunks lie in their frame one behind the other.
    let chunks = footer.chunks_of(ordinal);
    let chunk = chunks.get(chunks.partition_point(|chunk| chunk.offset < place.offset));
    same_frame
        && chunk.is_some_and(|chunk| {
            (chunk.kind, &chunk.id, chunk.offset, chunk.length) == (kind, id, place.offset, place.length)
        })
}

/// What can no longer be read of a damaged pack, by the places that the index gives: readers use those and not the
/// pack's own table. `read` gives the bytes at an offset.
fn lost_part(store: &Store, pack: &Listed, by_pack: &ByPack<'_>, read: impl Fn(u32, u32) -> Option<Vec<u8>>) -> Part {
    let header = read(0, PackKeys::FIRST_BYTES);
    let Some(keys) = header.and_then(|header| PackKeys::open(store.keys(), pack.kind, &header).ok()) else {
        return Part::All;
    };
    let mut places: Vec<_> = by_pack.places_of(&pack.id).collect();
    places.sort_unstable_by_key(|(.., place)| (place.frame.ordinal, place.frame.record.offset, place.offset));
    let is_lost = |chunks: &[(ChunkKind, &ChunkId, Place)]| {
        let place = chunks[0].2.frame;
        let Some(sealed) = read(place.record.offset, place.record.stored_length) else { return true };
        let Ok(raw) = store.with_codec(|codec| keys.open_frame(codec, place, sealed)) else { return true };
        chunks.iter().any(|(kind, id, place)| {
            let bytes = raw.get(place.offset as usize..).and_then(|rest| rest.get(..place.length as usize));
            bytes.is_none_or(|bytes| store.keys().chunk_id(*kind, bytes) != **id)
        })
    };
    let frames = places.chunk_by(|(.., one), (.., other)| one.frame == other.frame);
    Part::Frames(frames.filter(|chunks| is_lost(chunks)).map(|chunks| chunks[0].2.frame.ordinal).collect())
}
