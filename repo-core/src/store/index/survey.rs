//! The index seen from its packs: what it says of each, for whoever looks at packs one by one.

use std::collections::{HashMap, HashSet};

use super::{Index, Place, Row};
use crate::backend::{Backend, Span};
use crate::crypto::Keys;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId};
use crate::seal;

/// The index's entries by the pack they lie in. Four bytes a chunk beside the index itself.
#[derive(Debug)]
pub struct ByPack<'i> {
    index: &'i Index,
    groups: HashMap<PackId, u32>,
    /// Where each group begins in `order`; one more at the end.
    starts: Vec<u32>,
    /// Positions of entries.
    order: Vec<u32>,
}

impl Index {
    /// Sorts the entries by pack.
    pub fn by_pack(&self) -> ByPack<'_> {
        // A pack that was indexed in part, and whose own table was read then, has two rows.
        let mut groups = HashMap::with_capacity(self.packs.len());
        let mut group_of_row = Vec::with_capacity(self.packs.len());
        for row in &self.packs {
            let next = groups.len() as u32;
            group_of_row.push(*groups.entry(row.id).or_insert(next) as usize);
        }
        let group_of = |row: &Row| group_of_row[self.frames[row.frame as usize].0 as usize];
        let mut starts = vec![0; groups.len() + 1];
        self.entries.iter().for_each(|entry| starts[group_of(entry) + 1] += 1);
        for group in 1..starts.len() {
            starts[group] += starts[group - 1];
        }
        let mut free = starts.clone();
        let mut order = vec![0; self.entries.len()];
        for (position, entry) in self.entries.iter().enumerate() {
            let slot = &mut free[group_of(entry)];
            order[*slot as usize] = position as u32;
            *slot += 1;
        }
        ByPack { index: self, groups, starts, order }
    }

    /// Calls `each` for every chunk that an index object places in one of these packs, which may be gone: the table of
    /// chunks does not have those. Index objects that cannot be read are passed over; loading has named them.
    pub fn chunks_of(
        &self,
        backend: &dyn Backend,
        keys: &Keys,
        packs: &HashSet<PackId>,
        each: &mut dyn FnMut(PackId, &ChunkId),
    ) {
        for id in &self.report.index_objects {
            let Ok(bytes) = backend.get(&ObjectName::Index(*id), Span::All) else { continue };
            if !seal::has_name(&bytes, &id.0) {
                continue;
            }
            let opened = seal::open_index(keys, &bytes, &mut |block| {
                for chunk in &block.chunks {
                    let frame = block.frames.get(usize::from(chunk.frame));
                    let pack = frame.and_then(|frame| block.packs.get(usize::from(frame.pack)));
                    if let Some(pack) = pack.filter(|pack| packs.contains(&pack.id)) {
                        each(pack.id, &chunk.id);
                    }
                }
            });
            // What could be read of it was of use; that it is damaged was said when it was loaded.
            drop(opened);
        }
    }
}

impl ByPack<'_> {
    /// Every chunk that the index places in this pack, each with its place.
    pub fn places_of(&self, pack: &PackId) -> impl Iterator<Item = (ChunkKind, &ChunkId, Place)> {
        let range = match self.groups.get(pack) {
            Some(group) => self.starts[*group as usize] as usize..self.starts[*group as usize + 1] as usize,
            None => 0..0,
        };
        self.order[range].iter().map(|position| {
            let entry = &self.index.entries[*position as usize];
            (entry.kind, &entry.id, self.index.place(entry))
        })
    }
}
