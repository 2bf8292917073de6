//! An index that has metadata in memory, and reads what it knows of contents again whenever it is asked: for a verb that
//! looks at every chunk a few times, one after the other, and must do so with a few bytes for each of them.
//!
//! What counts is the same as if all were in memory: `load` decides of which packs the own table counts and nothing else, and
//! of which every word counts since there is no table. Of all others each frame's first word is read again, since every
//! other says the same.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use super::Index;
use super::load::Loading;
use super::said::{Heard, Said, digest};
use crate::backend::{Backend, Span};
use crate::crypto::{self, Keys};
use crate::error::{BackendError, Corruption, Error, Result};
use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use crate::format::pack::{Footer, FrameRecord};
use crate::id::{ChunkKind, IndexId, ObjectName, PackId, PackKind};
use crate::seal::{self, FramePlace};

/// Where an index has what it knows of contents.
#[derive(Debug, Default)]
pub(super) enum Contents {
    /// In memory, as it has metadata.
    #[default]
    Held,
    /// In the index objects.
    Told(Told),
    /// Nowhere: it is asked for metadata alone.
    Left,
}

/// What is kept of index objects that are read again.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// In the order in which they were read, each with the numbers of the data packs that it speaks of.
    objects: Vec<(IndexId, Vec<u32>)>,
    /// Of each pack that counts.
    numbers: HashMap<PackId, u32>,
    /// The numbers of the packs in [`unindexed`](super::LoadReport::unindexed), which has their tables.
    adopted: Vec<u32>,
    /// Tables of packs of which more was said than counts.
    settled: Vec<(u32, Footer)>,
    /// Packs of which several things are said and that have no table to settle it: each of them may be true.
    open: HashSet<u32>,
    /// For digests of what is said of those.
    key: [u8; 32],
}

/// A frame, and what lies in it.
#[derive(Debug, Clone, Copy)]
pub struct StoredFrame<'r> {
    /// The number of its pack.
    pub pack: u32,
    /// In the pack.
    pub place: FramePlace,
    /// Each chunk once. Their own `frame` means nothing here.
    pub chunks: &'r [ChunkRow],
}

/// The frames that some object spoke of already.
#[derive(Debug, Default)]
struct Seen {
    /// By the pack's number, one bit for each of its first frames.
    first: Vec<u64>,
    more: HashSet<(u32, u32)>,
    /// Words on packs that nothing settles.
    words: HashSet<(u32, u32, u64)>,
}

impl Seen {
    fn is_new(&mut self, pack: u32, ordinal: u32) -> bool {
        if ordinal >= u64::BITS {
            return self.more.insert((pack, ordinal));
        }
        if self.first.len() <= pack as usize {
            self.first.resize(pack as usize + 1, 0);
        }
        let bits = &mut self.first[pack as usize];
        let is_new = *bits & 1 << ordinal == 0;
        *bits |= 1 << ordinal;
        is_new
    }
}

/// The rows of a block, frame by frame. Kept from block to block for its buffers.
#[derive(Debug, Default)]
struct ByFrame {
    starts: Vec<u32>,
    rows: Vec<ChunkRow>,
}

impl ByFrame {
    /// Sorts the rows by frame; those of one frame stay in the order of their names.
    fn sort(&mut self, block: &IndexBlock) {
        self.starts.clear();
        self.starts.resize(block.frames.len() + 2, 0);
        for row in &block.chunks {
            self.starts[usize::from(row.frame) + 2] += 1;
        }
        for frame in 2..self.starts.len() {
            self.starts[frame] += self.starts[frame - 1];
        }
        self.rows.clear();
        let Some(any) = block.chunks.first() else { return };
        self.rows.resize(block.chunks.len(), *any);
        for row in &block.chunks {
            let slot = &mut self.starts[usize::from(row.frame) + 1];
            self.rows[*slot as usize] = *row;
            *slot += 1;
        }
    }

    /// What lies in the frame at this position, each chunk once, and whether one was said to lie in two places there. One that
    /// is said twice would count twice.
    fn rows_of(&mut self, frame: usize) -> (&[ChunkRow], bool) {
        let rows = &mut self.rows[self.starts[frame] as usize..self.starts[frame + 1] as usize];
        let (mut kept, mut contradicts) = (0, false);
        for at in 0..rows.len() {
            if kept == 0 || rows[kept - 1].id != rows[at].id {
                rows[kept] = rows[at];
                kept += 1;
            } else {
                contradicts |= rows[kept - 1] != rows[at];
            }
        }
        (&rows[..kept], contradicts)
    }
}

/// Calls `each` for every frame of the block, and tells whether what it says contradicts itself. `packs`: the numbers of the
/// block's packs; those without one are passed over. For packs of data, whose chunks are all of one kind.
fn each_of_block<E>(
    block: &IndexBlock,
    packs: &[Option<u32>],
    sorted: &mut ByFrame,
    each: &mut dyn FnMut(&StoredFrame<'_>, bool) -> Result<(), E>,
) -> Result<(), E> {
    sorted.sort(block);
    for (position, row) in block.frames.iter().enumerate() {
        if let Some(pack) = packs.get(usize::from(row.pack)).copied().flatten() {
            let (chunks, contradicts) = sorted.rows_of(position);
            each(&StoredFrame { pack, place: place_of(row), chunks }, contradicts)?;
        }
    }
    Ok(())
}

fn place_of(row: &FrameRow) -> FramePlace {
    FramePlace { ordinal: row.ordinal, record: row.record() }
}

/// What loading needs to count what it does not keep.
pub(super) struct Counting {
    said: Said,
    sorted: ByFrame,
}

impl Index {
    /// The same as [`load`](Self::load), but what is known of contents is not kept: [`each_frame`](Self::each_frame) reads it
    /// again. Nothing that asks for one chunk of contents finds it here.
    pub fn load_metadata(backend: &dyn Backend, keys: &Keys) -> Result<Self> {
        let told = Told { key: crypto::random()?, ..Told::default() };
        let counting = Counting { said: Said::new()?, sorted: ByFrame::default() };
        let loading = Loading { counting: Some(counting), ..Loading::default() };
        Self { contents: Contents::Told(told), ..Self::default() }.read(backend, keys, loading)
    }

    /// Whether all that is known is in memory, and not metadata alone.
    pub fn holds_contents(&self) -> bool {
        matches!(self.contents, Contents::Held)
    }

    /// Whether rows of this pack are kept in memory.
    pub(super) fn keeps(&self, pack: u32) -> bool {
        self.holds_contents() || self.packs[pack as usize].kind == PackKind::Meta
    }

    /// From now on this object is spoken of.
    pub(super) fn begin_object(&mut self, id: IndexId) {
        if let Contents::Told(told) = &mut self.contents {
            told.objects.push((id, Vec::new()));
        }
    }

    /// Counts what a block says of data packs, if it is not kept. A pack of one of whose frames two things are said is doubted.
    pub(super) fn count_block(&mut self, block: &IndexBlock, packs: &[Option<u32>], loading: &mut Loading) {
        let Contents::Told(told) = &mut self.contents else { return };
        let Loading { counting: Some(Counting { said, sorted }), chunks_seen, doubted, .. } = loading else { return };
        let of_data = |pack: &u32| self.packs[*pack as usize].kind == PackKind::Data;
        let packs: Vec<Option<u32>> = packs.iter().map(|pack| pack.filter(of_data)).collect();
        if let Some((_, spoken_of)) = told.objects.last_mut() {
            for pack in packs.iter().flatten() {
                if spoken_of.last() != Some(pack) {
                    spoken_of.push(*pack);
                }
            }
        }
        let Ok(()) = each_of_block::<Infallible>(block, &packs, sorted, &mut |frame, contradicts| {
            match said.hear(frame) {
                Heard::First => *chunks_seen.entry(frame.pack).or_default() += frame.chunks.len() as u32,
                Heard::Again => {}
                Heard::Otherwise => _ = doubted.insert(frame.pack),
            }
            if contradicts {
                doubted.insert(frame.pack);
            }
            Ok(())
        });
    }

    /// Notes that nothing settles what is true of this pack.
    pub(super) fn leave_open(&mut self, pack: u32) {
        if let Contents::Told(told) = &mut self.contents {
            told.open.insert(pack);
        }
    }

    /// Keeps the table of a pack, which alone says what lies in it. `is_half`: no index object says all of it.
    pub(super) fn keep_table(&mut self, pack: u32, is_half: bool, row: PackRow, footer: Footer) {
        let told = if let Contents::Told(told) = &mut self.contents { Some(told) } else { None };
        // What is told in full and otherwise too, stays doubted however often it is told again: `repair index` ends that.
        if is_half {
            told.into_iter().for_each(|told| told.adopted.push(pack));
            self.report.unindexed.push((row, footer));
        } else if let Some(told) = told.filter(|_| row.kind == PackKind::Data) {
            told.settled.push((pack, footer));
        }
    }

    /// When all is read: what is needed to read it again.
    pub(super) fn keep_numbers(&mut self, numbers: HashMap<PackId, u32>) {
        if let Contents::Told(told) = &mut self.contents {
            told.numbers = numbers;
        }
    }

    /// Calls `each` for every frame of the packs that are `wanted` by their number, those in memory first. Reads the index
    /// objects that speak of them, unless contents are in memory.
    ///
    /// # Errors
    /// Those of `each`; any index object that cannot be read: what it says is then unknown. [`is_merged_away`] tells that one
    /// is gone, since somebody wrote what it said elsewhere; a new index has it.
    pub fn each_frame(
        &self,
        backend: &dyn Backend,
        keys: &Keys,
        wanted: &dyn Fn(u32) -> bool,
        each: &mut dyn FnMut(&StoredFrame<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each_held(wanted, each)?;
        let told = match &self.contents {
            Contents::Held => return Ok(()),
            Contents::Told(told) => told,
            Contents::Left => return Err(Error::Bug("this index was made for metadata alone".into())),
        };
        // Of a pack whose own table was read that table says everything.
        let own: HashSet<u32> =
            told.adopted.iter().copied().chain(told.settled.iter().map(|(pack, _)| *pack)).collect();
        let counts =
            |pack: u32| self.packs[pack as usize].kind == PackKind::Data && !own.contains(&pack) && wanted(pack);
        let (mut seen, mut sorted) = (Seen::default(), ByFrame::default());
        for (id, packs) in &told.objects {
            if !packs.iter().any(|pack| counts(*pack)) {
                continue;
            }
            let object = ObjectName::Index(*id);
            let bytes = read_again(backend, id)?;
            let mut result = Ok(());
            let opened = seal::open_index(keys, &bytes, &mut |block| {
                if result.is_ok() {
                    let numbers =
                        block.packs.iter().map(|row| self.number_again(told, row).filter(|pack| counts(*pack)));
                    let numbers: Vec<Option<u32>> = numbers.collect();
                    result = each_of_block(&block, &numbers, &mut sorted, &mut |frame, _| {
                        let is_new = match told.open.contains(&frame.pack) {
                            true => seen.words.insert((frame.pack, frame.place.ordinal, digest(&told.key, frame))),
                            false => seen.is_new(frame.pack, frame.place.ordinal),
                        };
                        if is_new { each(frame) } else { Ok(()) }
                    });
                }
            });
            result?;
            opened.map_err(|problem| problem.of(object))?;
        }
        self.each_in_tables(told, wanted, each)
    }

    /// What is kept, but for what loading found beside chunks and packs.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let Self { packs, frames, entries, table, duplicates, .. } = self;
        let rows = size_of_val(&packs[..]) + size_of_val(&frames[..]) + size_of_val(&entries[..]);
        let told = match &self.contents {
            Contents::Told(Told { objects, numbers, adopted, settled, open, .. }) => {
                assert!(settled.is_empty() && adopted.is_empty() && open.is_empty(), "not in an honest repository");
                objects.iter().map(|(_, packs)| 56 + packs.capacity() * 4).sum::<usize>() + numbers.capacity() * 37
            }
            Contents::Held | Contents::Left => 0,
        };
        let listed = self.report.listed_packs.capacity() * 49;
        rows + (table.capacity() + duplicates.capacity()) * 8 + told + listed
    }

    /// The number of the pack in a row of an index object: as when it was read first, only with the length that it has.
    fn number_again(&self, told: &Told, row: &PackRow) -> Option<u32> {
        let number = *told.numbers.get(&row.id)?;
        let known = &self.packs[number as usize];
        ((known.kind, known.length) == (row.kind, row.length)).then_some(number)
    }

    /// What is in memory, frame by frame.
    fn each_held(
        &self,
        wanted: &dyn Fn(u32) -> bool,
        each: &mut dyn FnMut(&StoredFrame<'_>) -> Result<()>,
    ) -> Result<()> {
        let is_wanted = |position: &u32| wanted(self.frames[self.entries[*position as usize].frame as usize].0);
        let mut order: Vec<u32> = (0..self.entries.len() as u32).filter(is_wanted).collect();
        order.sort_by_key(|position| self.entries[*position as usize].frame);
        let mut chunks = Vec::new();
        for rows in order.chunk_by(|a, b| self.entries[*a as usize].frame == self.entries[*b as usize].frame) {
            let (pack, place) = self.frames[self.entries[rows[0] as usize].frame as usize];
            chunks.clear();
            chunks.extend(rows.iter().map(|position| {
                let entry = &self.entries[*position as usize];
                ChunkRow { id: entry.id, frame: 0, offset: entry.offset, length: entry.length, kind: entry.kind }
            }));
            each(&StoredFrame { pack, place, chunks: &chunks })?;
        }
        Ok(())
    }

    /// What the own tables of data packs say, where those were read. Chunks of metadata, that have no business there, are in
    /// memory all the same.
    fn each_in_tables(
        &self,
        told: &Told,
        wanted: &dyn Fn(u32) -> bool,
        each: &mut dyn FnMut(&StoredFrame<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut chunks = Vec::new();
        let adopted = told.adopted.iter().copied().zip(self.report.unindexed.iter().map(|(_, footer)| footer));
        let settled = told.settled.iter().map(|(pack, footer)| (*pack, footer));
        for (pack, footer) in adopted.chain(settled) {
            if self.packs[pack as usize].kind != PackKind::Data || !wanted(pack) {
                continue;
            }
            for (ordinal, record) in footer.frames.iter().enumerate() {
                let place = FramePlace { ordinal: ordinal as u32, record: FrameRecord { first_chunk: 0, ..*record } };
                chunks.clear();
                let of_data = footer.chunks_of(ordinal).iter().filter(|chunk| chunk.kind == ChunkKind::Data);
                chunks.extend(of_data.map(|chunk| ChunkRow {
                    id: chunk.id,
                    frame: 0,
                    offset: chunk.offset,
                    length: chunk.length,
                    kind: chunk.kind,
                }));
                chunks.sort_by_key(|row| row.id);
                chunks.dedup_by_key(|row| row.id);
                each(&StoredFrame { pack, place, chunks: &chunks })?;
            }
        }
        Ok(())
    }
}

/// An index object as it was when it was read first.
fn read_again(backend: &dyn Backend, id: &IndexId) -> Result<bytes::Bytes> {
    let object = ObjectName::Index(*id);
    let bytes = backend.get(&object, Span::All).map_err(|error| match error.is_absent() {
        // Under its own name, whatever the place calls it: `is_merged_away` asks for that.
        true => BackendError { object: object.to_string(), ..error },
        false => error,
    })?;
    match seal::has_name(&bytes, &id.0) {
        true => Ok(bytes),
        false => Err(Corruption::Hash.of(object)),
    }
}

/// Whether [`Index::each_frame`] ended because an index object is gone: merged into another since the index was loaded, by
/// whoever tidied up. Then a new index says what this one cannot.
pub fn is_merged_away(error: &Error) -> bool {
    matches!(error, Error::Backend(error) if error.is_absent() && error.object.starts_with("index/"))
}
