//! Moves what is needed out of packs that are hardly used: every chunk is named again as it moves. What a frame holds stays
//! together, since who may see whose neighbours was decided when it was made; a frame that is used whole, or almost, moves as
//! it was compressed.

use std::collections::{BTreeMap, HashSet};

use crate::backend::Span;
use crate::error::{Corruption, Error, Result};

use crate::format::pack::Codec;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};
use crate::pipeline;
use crate::progress::{Event, Progress};
use crate::seal::{FramePlace, PackKeys};
use crate::store::{Index, Sealing, Store, Writer, WriterOptions};

use super::usage::{Live, Usage, spot};

/// A frame of which this share of the plaintext is used moves whole, in per cent.
const WHOLE_PERCENT: u64 = 90;
/// Chunks of packs that are moved whose places are in memory at once, about 50 bytes each.
const BATCH_CHUNKS: usize = 64 << 10;

/// One chunk of a frame that is moved.
struct Piece {
    offset: u32,
    length: u32,
    kind: ChunkKind,
    id: ChunkId,
    is_kept: bool,
}

/// What moving did.
pub struct Moved {
    /// Packs of which all that is needed has another place now, proven.
    pub emptied: Vec<PackId>,
    /// The new packs, all of whose chunks were named anew.
    pub written: HashSet<PackId>,
    /// Packs that could not be read; they stay.
    pub failed: Vec<Error>,
    pub written_bytes: u64,
}

/// What is known of the packs that are moved.
pub struct Known<'k> {
    pub store: &'k Store,
    pub view: &'k Index,
    pub live: &'k Live,
    pub usage: &'k Usage,
}

/// Copies the kept chunks of `packs` to new packs, and indexes those.
pub fn repack(
    known: &Known<'_>,
    packs: &[PackId],
    by: SnapshotId,
    options: WriterOptions,
    progress: &dyn Progress,
) -> Result<Moved> {
    let Known { store, view, .. } = *known;
    let sealing = Sealing::new(store, by, options);
    let (mut emptied, mut failed) = (Vec::new(), Vec::new());
    pipeline::scope(|scope| {
        let mut writer = sealing.start(scope)?;
        for batch in batches(view, packs) {
            for (pack, frames) in pieces(known, &batch)? {
                if progress.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let row = &view.packs()[pack as usize];
                match move_pack(store, (row.kind, row.id), &frames, &mut writer) {
                    Ok(()) => emptied.push(row.id),
                    // What it still holds stays where it is. What was copied of it already is a second place of it.
                    Err(error @ Error::Corrupt { .. }) => failed.push(error),
                    Err(Error::Backend(error)) if error.is_absent() => failed.push(Error::Backend(error)),
                    Err(error) => return Err(error),
                }
                progress.report(Event::Bytes { count: row.length.into() });
            }
        }
        writer.finish()
    })?;
    sealing.check()?;
    sealing.finish_index(view)?;
    let stored = sealing.stored();
    emptied.sort_unstable();
    Ok(Moved {
        emptied,
        written: sealing.written().into_iter().collect(),
        failed,
        written_bytes: stored.data_bytes + stored.meta_bytes,
    })
}

/// The numbers of these packs in the order in which the index came upon them, so that those of one index object are
/// together; as many at once as have a bounded number of chunks.
fn batches(view: &Index, packs: &[PackId]) -> Vec<HashSet<u32>> {
    let (mut batches, mut chunks) = (vec![HashSet::new()], 0);
    for (number, row) in (0u32..).zip(view.packs()).filter(|(_, row)| packs.binary_search(&row.id).is_ok()) {
        if chunks > 0 && chunks + row.chunk_count as usize > BATCH_CHUNKS {
            batches.push(HashSet::new());
            chunks = 0;
        }
        chunks += row.chunk_count as usize;
        batches.last_mut().expect("there is one from the start").insert(number);
    }
    batches
}

/// The frames of a pack that is moved, in the order in which they lie there.
type Frames = Vec<(FramePlace, Vec<Piece>)>;

/// By the number of the pack.
fn pieces(known: &Known<'_>, packs: &HashSet<u32>) -> Result<BTreeMap<u32, Frames>> {
    let Known { store, view, live, usage } = *known;
    let mut frames: BTreeMap<u32, Frames> = BTreeMap::new();
    let wanted = |pack| packs.contains(&pack);
    view.each_frame(store.backend().as_ref(), store.keys(), &wanted, &mut |frame| {
        let pieces = frame.chunks.iter().map(|chunk| Piece {
            offset: chunk.offset,
            length: chunk.length,
            kind: chunk.kind,
            id: chunk.id,
            is_kept: usage.is_kept(view, live, chunk.kind, &chunk.id, spot(frame)),
        });
        frames.entry(frame.pack).or_default().push((frame.place, pieces.collect()));
        Ok(())
    })?;
    frames.values_mut().for_each(|frames| frames.sort_by_key(|(place, _)| place.ordinal));
    Ok(frames)
}

fn move_pack(
    store: &Store,
    (kind, pack): (PackKind, PackId),
    frames: &[(FramePlace, Vec<Piece>)],
    writer: &mut Writer<'_, '_>,
) -> Result<()> {
    let object = ObjectName::Pack(kind, pack);
    let header = store.backend().get(&object, Span::Range { offset: 0, length: PackKeys::FIRST_BYTES.into() })?;
    let keys = PackKeys::open(store.keys(), kind, &header).map_err(|problem| problem.of(object))?;
    for (place, pieces) in frames {
        if !pieces.iter().any(|piece| piece.is_kept) {
            continue;
        }
        let record = place.record;
        let span = Span::Range { offset: record.offset.into(), length: record.stored_length.into() };
        let mut sealed = store.backend().get(&object, span)?.to_vec();
        let packed = keys.decrypt_frame(*place, &mut sealed).map_err(|problem| problem.of(object))?;
        let raw = store
            .with_codec(|codec| {
                let mut raw = Vec::new();
                codec.decompress_into(record.codec, packed, record.raw_length as usize, &mut raw).map(|()| raw)
            })
            .map_err(|problem| problem.of(object))?;
        move_frame(store, pieces, raw, (record.codec, packed), writer).map_err(|error| match error {
            Moving::Damaged(problem) => problem.of(object),
            Moving::Failed(error) => error,
        })?;
    }
    Ok(())
}

enum Moving {
    Damaged(Corruption),
    Failed(Error),
}

fn move_frame(
    store: &Store,
    pieces: &[Piece],
    raw: Vec<u8>,
    packed: (Codec, &[u8]),
    writer: &mut Writer<'_, '_>,
) -> Result<(), Moving> {
    let mut pieces: Vec<&Piece> = pieces.iter().collect();
    pieces.sort_by_key(|piece| piece.offset);
    let bytes_of = |piece: &Piece| {
        let bytes = raw.get(piece.offset as usize..).and_then(|rest| rest.get(..piece.length as usize));
        bytes.ok_or(Moving::Damaged(Corruption::Malformed("chunk outside its frame")))
    };
    let is_named = |piece: &Piece| Ok(store.keys().chunk_id(piece.kind, bytes_of(piece)?) == piece.id);
    let kept_bytes: u64 = pieces.iter().filter(|piece| piece.is_kept).map(|piece| u64::from(piece.length)).sum();
    let mut end = 0;
    let is_covered = pieces.iter().all(|piece| {
        let follows = piece.offset == end;
        end = piece.offset.saturating_add(piece.length);
        follows
    }) && end as usize == raw.len();
    let is_whole = is_covered && kept_bytes * 100 >= raw.len() as u64 * WHOLE_PERCENT && packed.1.len() <= raw.len();
    let mut taken = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.is_kept || is_whole) {
        match is_named(piece)? {
            true => taken.push(*piece),
            // What nobody needs may be what it likes, as long as it is not passed on.
            false if !piece.is_kept => {}
            false => return Err(Moving::Damaged(Corruption::ChunkId)),
        }
    }
    let chunks = taken.iter().map(|piece| (piece.id, piece.kind, piece.length)).collect();
    if is_whole && taken.len() == pieces.len() {
        let packed = (packed.0, packed.1.to_vec());
        return writer.put_frame(chunks, raw, Some(packed)).map_err(Moving::Failed);
    }
    let mut content = Vec::with_capacity(kept_bytes as usize);
    let kept: Vec<&&Piece> = taken.iter().filter(|piece| piece.is_kept).collect();
    for piece in &kept {
        content.extend_from_slice(bytes_of(piece)?);
    }
    let chunks = kept.iter().map(|piece| (piece.id, piece.kind, piece.length)).collect();
    writer.put_frame(chunks, content, None).map_err(Moving::Failed)
}
