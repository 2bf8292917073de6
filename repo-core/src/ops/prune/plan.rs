//! Which of the marked packs are deleted: decided after every writer that the mark did not see is done with.

use std::collections::{BTreeSet, HashSet};

use crate::backend;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId};
use crate::mutants::mutant;
use crate::store::{Index, Place, Store, StoredFrame};

use super::usage::Live;

/// Live chunks of marked packs that are in memory at once, 40 bytes each.
const HELD_MAX: u64 = if cfg!(test) { 16 } else { 128 << 10 };

/// What the decision is made from.
pub struct Question<'q> {
    pub store: &'q Store,
    /// Loaded after all pending writers were resolved.
    pub view: &'q Index,
    /// Of snapshots that were listed after the index was loaded.
    pub live: &'q Live,
    /// Of the mark.
    pub marked: &'q BTreeSet<PackId>,
    /// Refused deletes of the cycles before.
    pub retained: &'q HashSet<PackId>,
    /// Packs that this very process wrote and proved.
    pub proven: &'q HashSet<PackId>,
}

/// The answer.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Ascending.
    pub delete: Vec<PackId>,
    /// Ascending. Something in them lives and has no other place.
    pub rescued: Vec<PackId>,
}

impl Question<'_> {
    /// A marked pack goes if each live chunk in it has a place in a pack that is listed, whole, and stays, or in one pack that
    /// is rescued for it. The place is opened and the chunk named before anything relies on it.
    pub fn decide(&self) -> Result<Answer> {
        let mut answer = Answer::default();
        let listed = &self.view.report().listed_packs;
        let there = self.marked.iter().copied().filter(|pack| listed.contains_key(pack));
        let candidates = self.judged(there);
        let mut stays: BTreeSet<PackId> = BTreeSet::new();
        let mut rescued: BTreeSet<PackId> = BTreeSet::new();
        self.each_without_other_place(&candidates, &mut |id, holders| {
            // One that was rescued for something else may have lost this.
            if holders.iter().any(|pack| rescued.contains(pack) && !self.view.has_lost(pack, id)) {
                return;
            }
            // A refused delete may be carried out at any time: nothing relies on it. If it is all there is, it is not asked for
            // again, and yet nobody counts on it.
            let rescue = |pack: &&PackId| {
                !self.view.has_lost(pack, id)
                    && (!self.retained.contains(*pack) || mutant!("retained packs are rescued"))
            };
            match holders.iter().find(rescue) {
                Some(pack) => _ = rescued.insert(*pack),
                None => stays.extend(holders),
            }
        })?;
        answer.delete =
            candidates.into_iter().filter(|pack| !rescued.contains(pack) && !stays.contains(pack)).collect();
        answer.rescued = rescued.into_iter().collect();
        Ok(answer)
    }

    /// Whether all of these packs may go without a live chunk losing its last place: what an executor of somebody else's
    /// plan asks for himself.
    pub fn may_all_go(&self, delete: &BTreeSet<PackId>) -> Result<bool> {
        let listed = &self.view.report().listed_packs;
        let there = self.judged(delete.iter().copied().filter(|pack| listed.contains_key(pack)));
        for pack in delete.iter().filter(|pack| listed.contains_key(pack) && !there.contains(pack)) {
            if self.is_there(pack)? {
                return Ok(false);
            }
        }
        let only = Question { marked: delete, ..*self };
        let mut all_have_another = true;
        only.each_without_other_place(&there, &mut |_, _| all_have_another = false)?;
        Ok(all_have_another)
    }

    /// Whether a listed pack still is: somebody else may carry out the same plan at this moment.
    fn is_there(&self, pack: &PackId) -> Result<bool> {
        let Some((kind, _)) = self.view.report().listed_packs.get(pack) else { return Ok(false) };
        Ok(backend::is_there(self.store.backend().as_ref(), &ObjectName::Pack(*kind, *pack))?)
    }

    /// Those of these packs that may go as far as it is known what goes with them: of one without a table that is nothing, if
    /// it is written off and each live chunk has a place where that is not so.
    fn judged(&self, packs: impl Iterator<Item = PackId>) -> BTreeSet<PackId> {
        let known = self.fully_known();
        let (mut judged, unknown): (BTreeSet<_>, BTreeSet<_>) = packs.partition(|pack| known(pack));
        let given_up = || unknown.iter().filter(|pack| self.view.is_written_off(pack));
        let counts = |pack: &PackId, id: &ChunkId| !self.view.has_lost(pack, id) && !self.retained.contains(pack);
        if given_up().next().is_some() && self.live.all_have_places(self.view, counts) {
            judged.extend(given_up());
        }
        judged
    }

    /// Of a pack whose table cannot be read nobody knows what would go with it.
    fn fully_known(&self) -> impl Fn(&PackId) -> bool {
        let known: HashSet<PackId> = self.view.packs().iter().map(|row| row.id).collect();
        let half_known = &self.view.report().half_known;
        move |pack| mutant!("a pack half indexed is condemned") || known.contains(pack) && !half_known.contains(pack)
    }

    /// Calls `each` for every live chunk of these packs that has no place, proven, in a pack that stays whatever this cycle
    /// does; with those of the packs that hold it. Some part of all names at a time, so that what is in memory is bounded.
    fn each_without_other_place(
        &self,
        packs: &BTreeSet<PackId>,
        each: &mut dyn FnMut(&ChunkId, &[PackId]),
    ) -> Result<()> {
        let rows = || (0u32..).zip(self.view.packs()).filter(|(_, row)| packs.contains(&row.id));
        let numbers: HashSet<u32> = rows().map(|(number, _)| number).collect();
        let mut count: u64 = rows().map(|(_, row)| u64::from(row.chunk_count)).sum();
        if count > HELD_MAX {
            // So many at most; now those that live.
            count = 0;
            self.each_live(&numbers, &mut |_, _, _| count += 1)?;
        }
        let parts = count.div_ceil(HELD_MAX).max(1);
        for part in 0..parts {
            // Parts are a little unlike; a table that had to grow would be there twice.
            let mut held = Vec::with_capacity((count / parts + count / parts / 32) as usize);
            self.each_live(&numbers, &mut |pack, kind, id| {
                if part_of(id, parts) == part {
                    held.push(Held { kind, id: *id, pack, has_other: false });
                }
            })?;
            // Of one chunk's packs the first that the index names is asked to stay. In place: there is no room for two.
            held.sort_unstable_by_key(|held| (held.kind, held.id, held.pack));
            self.look_for_others(&mut held, part, parts)?;
            for same in held.chunk_by(|a, b| (a.kind, a.id) == (b.kind, b.id)).filter(|same| !same[0].has_other) {
                let mut holders: Vec<PackId> = Vec::new();
                for held in same {
                    let pack = self.view.packs()[held.pack as usize].id;
                    if !holders.contains(&pack) {
                        holders.push(pack);
                    }
                }
                each(&same[0].id, &holders);
            }
        }
        Ok(())
    }

    /// Calls `each` for every live chunk of these packs, with its pack's number.
    fn each_live(&self, packs: &HashSet<u32>, each: &mut dyn FnMut(u32, ChunkKind, &ChunkId)) -> Result<()> {
        self.each_frame(&|pack| packs.contains(&pack), &mut |frame| {
            for chunk in frame.chunks {
                if self.live.contains(self.view, chunk.kind, &chunk.id) {
                    each(frame.pack, chunk.kind, &chunk.id);
                }
            }
            Ok(())
        })
    }

    fn each_frame(
        &self,
        wanted: &dyn Fn(u32) -> bool,
        each: &mut dyn FnMut(&StoredFrame<'_>) -> Result<()>,
    ) -> Result<()> {
        self.view.each_frame(self.store.backend().as_ref(), self.store.keys(), wanted, each)
    }

    /// Notes which of these chunks have a place, proven, in a pack that stays whatever this cycle does: at the first row of
    /// each. They are sorted by kind and name, and compared by the whole of it.
    fn look_for_others(&self, held: &mut [Held], part: u64, parts: u64) -> Result<()> {
        if !held.iter().any(|held| self.live.may_have_several_places(self.view, held.kind, &held.id)) {
            return Ok(());
        }
        let counts = |pack: &PackId| {
            !self.marked.contains(pack) && (!self.retained.contains(pack) || mutant!("retained packs count as places"))
        };
        self.each_frame(&|pack| counts(&self.view.packs()[pack as usize].id), &mut |frame| {
            let pack = &self.view.packs()[frame.pack as usize];
            for chunk in frame.chunks.iter().filter(|chunk| part_of(&chunk.id, parts) == part) {
                let (kind, id) = (chunk.kind, &chunk.id);
                if !self.live.may_have_several_places(self.view, kind, id) || self.view.has_lost(&pack.id, id) {
                    continue;
                }
                let first = held.partition_point(|held| (held.kind, held.id) < (kind, *id));
                let Some(held) = held.get_mut(first).filter(|held| (held.kind, held.id) == (kind, *id)) else {
                    continue;
                };
                if !held.has_other {
                    let (offset, length) = (chunk.offset, chunk.length);
                    let place = Place { pack: pack.id, pack_kind: pack.kind, frame: frame.place, offset, length };
                    held.has_other = self.proven.contains(&pack.id) || self.is_proven(kind, id, &place)?;
                }
            }
            Ok(())
        })
    }

    /// Opens the place and names the chunk.
    fn is_proven(&self, kind: ChunkKind, id: &ChunkId, place: &Place) -> Result<bool> {
        match self.store.prove(kind, id, place) {
            Ok(()) => Ok(true),
            Err(Error::Corrupt { .. }) => Ok(false),
            Err(Error::Backend(error)) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A live chunk in a pack that may go.
struct Held {
    kind: ChunkKind,
    id: ChunkId,
    /// Its number.
    pack: u32,
    /// Counts in the first row of a chunk.
    has_other: bool,
}

/// Which part of all names this one is in. Names are spread evenly.
fn part_of(id: &ChunkId, parts: u64) -> u64 {
    let beginning = u32::from_be_bytes(id.0[..4].try_into().expect("4 of 32 bytes"));
    (u64::from(beginning) * parts) >> 32
}
