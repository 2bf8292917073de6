//! From index objects and packs' own tables to an index: what is read in which order, and what counts where two of them
//! contradict one another.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::again::{Contents, Counting};
use super::{Index, Row, hash, same};
use crate::backend::{Backend, Listed, Prefix, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::gc::Damaged;
use crate::format::header::{HEADER_LENGTH, ObjectType};
use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use crate::format::keyring::Purpose;
use crate::format::pack::{ChunkRecord, Footer, FrameRecord, TRAILER_LENGTH};
use crate::id::{ChunkKind, IndexId, ObjectName, PackId, PackKind};
use crate::mutants::mutant;
use crate::seal::{self, FramePlace, PackKeys};
use crate::store::gc;

impl Index {
    /// Asks which packs are condemned or damaged; then lists the index objects and the packs, reads every index object, then
    /// the tables of packs that are not fully indexed. A writer is registered before it loads what it will rely on.
    pub fn load(backend: &dyn Backend, keys: &Keys) -> Result<Self> {
        Self::default().read(backend, keys, Loading::default())
    }

    /// Loads into an index that has nothing yet.
    pub(super) fn read(self, backend: &dyn Backend, keys: &Keys, mut loading: Loading) -> Result<Self> {
        // First: a pack that is condemned after this was listed cannot be deleted before its cycle has seen this writer.
        let mut index = self;
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
        index.report.index_objects = names.iter().copied().collect();
        for id in names {
            index.read_object(backend, keys, id, &mut loading)?;
        }
        index.adopt(backend, keys, &mut loading)?;
        index.keep_numbers(loading.packs);
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
        self.begin_object(id);
        if let Err(problem) = seal::open_index(keys, &bytes, &mut |block| self.add_block(&block, loading)) {
            self.report.errors.push(problem.of(object));
        }
        Ok(())
    }

    fn add_block(&mut self, block: &IndexBlock, loading: &mut Loading) {
        let packs: Vec<Option<u32>> = block.packs.iter().map(|row| self.pack_number(row, loading)).collect();
        self.count_block(block, &packs, loading);
        let packs: Vec<Option<u32>> = packs.into_iter().map(|pack| pack.filter(|pack| self.keeps(*pack))).collect();
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
                Word::New => *loading.chunks_seen.entry(pack).or_default() += 1,
                Word::Again => {}
                Word::Otherwise => _ = loading.doubted.insert(pack),
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
        let number_in_doubt = |id: &PackId| loading.packs.get(id).filter(|number| doubted.contains(number)).copied();
        let (mut tables, mut open) = (Vec::new(), Vec::new());
        for (id, kind, size) in asked {
            match read_footer(backend, keys, kind, &id, size) {
                Ok(footer) => tables.push((pack_row(kind, id, size, &footer), footer)),
                Err(Error::Backend(error)) if error.is_absent() => open.extend(number_in_doubt(&id)),
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
                    if let Some(number) = number_in_doubt(&id) {
                        open.push(number);
                        self.distrust(id);
                    }
                }
            }
        }
        open.into_iter().for_each(|number| self.leave_open(number));
        let told_in_full =
            |row: &PackRow| loading.packs.get(&row.id).is_some_and(|number| seen(number) >= row.chunk_count);
        let half: HashSet<PackId> =
            tables.iter().filter(|(row, _)| !told_in_full(row)).map(|(row, _)| row.id).collect();
        let told = tables.iter().filter_map(|(row, _)| loading.packs.get(&row.id).copied()).collect();
        self.drop_entries_of(&told, loading);
        for (row, footer) in tables {
            let number = self.add_footer(row.kind, row.id, row.length.into(), &footer, loading);
            self.keep_table(number, half.contains(&row.id), row, footer);
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
        let contents = if self.holds_contents() { Contents::Held } else { Contents::Left };
        let mut asked = Self { condemned, damaged, report, contents, ..Self::default() };
        let mut loading = Loading::default();
        let mut silent = HashSet::new();
        let mut listed: Vec<_> = self.report.listed_packs.iter().collect();
        // One order whatever the hash map's, so that a run can be told and repeated.
        listed.sort_unstable();
        for (id, (kind, size)) in listed {
            match read_footer(backend, keys, *kind, id, *size) {
                Ok(footer) => _ = asked.add_footer(*kind, *id, *size, &footer, &mut loading),
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

    /// The number of the pack.
    fn add_footer(&mut self, kind: PackKind, id: PackId, size: u64, footer: &Footer, loading: &mut Loading) -> u32 {
        let row = pack_row(kind, id, size, footer);
        let pack = match loading.packs.get(&id) {
            Some(number) => {
                self.packs[*number as usize] = row;
                *number
            }
            None => self.add_pack(row),
        };
        // A table may say anything: what it has of metadata is looked for here, whatever kind of pack that is in.
        let keeps_all = self.keeps(pack);
        let is_kept = |chunk: &&ChunkRecord| keeps_all || chunk.kind != ChunkKind::Data;
        for (ordinal, record) in footer.frames.iter().enumerate() {
            if !keeps_all && !footer.chunks_of(ordinal).iter().any(|chunk| is_kept(&chunk)) {
                continue;
            }
            let place = FramePlace { ordinal: ordinal as u32, record: FrameRecord { first_chunk: 0, ..*record } };
            let frame = self.frame_number(pack, place, loading);
            for chunk in footer.chunks_of(ordinal).iter().filter(is_kept) {
                let (id, offset, length, kind) = (chunk.id, chunk.offset, chunk.length, chunk.kind);
                self.insert(Row { id, frame, offset, length, kind });
            }
        }
        pack
    }

    fn add_pack(&mut self, row: PackRow) -> u32 {
        self.packs.push(row);
        (self.packs.len() - 1) as u32
    }

    fn add_frame(&mut self, pack: u32, row: &FrameRow, loading: &mut Loading) -> u32 {
        let record = row.record();
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

    fn add_entry(&mut self, frame: u32, row: &ChunkRow) -> Word {
        self.insert(Row { id: row.id, frame, offset: row.offset, length: row.length, kind: row.kind })
    }

    fn insert(&mut self, entry: Row) -> Word {
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
                    return if is_same { Word::Again } else { Word::Otherwise };
                }
                known.push(position);
            }
            None => {
                self.table.insert_unique(hash(&entry.id), position, |other| hash(&entries[*other as usize].id));
            }
        }
        self.entries.push(entry);
        Word::New
    }

    /// Whether other index objects are listed now than when this was loaded.
    pub fn is_outdated(&self, backend: &dyn Backend) -> Result<bool> {
        Ok(list_objects(backend)? != self.report.index_objects)
    }
}

/// What a row of an index object adds to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// A place.
    New,
    Again,
    /// Another place in the same frame.
    Otherwise,
}

/// What is only needed while loading.
#[derive(Default)]
pub(super) struct Loading {
    /// Those that are listed, with the length that some object gives them.
    pub(super) packs: HashMap<PackId, u32>,
    /// Those to which some object gives a length that is not theirs.
    pub(super) of_other_length: HashSet<PackId>,
    pub(super) missing: HashSet<PackId>,
    /// Packs by number, of which two objects say different things.
    pub(super) doubted: HashSet<u32>,
    pub(super) chunks_seen: HashMap<u32, u32>,
    /// Frames by pack number and ordinal.
    pub(super) frames: HashMap<(u32, u32), u32>,
    /// Of what is not kept; `None`: all is.
    pub(super) counting: Option<Counting>,
}

/// The names of the index objects that there are.
pub fn list_objects(backend: &dyn Backend) -> Result<BTreeSet<IndexId>> {
    let mut names = BTreeSet::new();
    backend.list(Prefix::Indexes, &mut |listed| {
        if let Listed::Object { name: ObjectName::Index(id), .. } = listed {
            names.insert(id);
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
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
