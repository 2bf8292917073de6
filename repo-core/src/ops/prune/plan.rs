//! Which of the marked packs are deleted: decided after every writer that the mark did not see is done with.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::backend;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId};
use crate::mutants::mutant;
use crate::store::{Index, Place, Store};

use super::usage::Live;

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
        for ((kind, id), holders) in self.live_chunks_of(&candidates) {
            if holders.iter().any(|pack| rescued.contains(pack)) || self.has_other_place(kind, &id)? {
                continue;
            }
            // A refused delete may be carried out at any time: nothing relies on it. If it is all there is, it is not asked for
            // again, and yet nobody counts on it.
            let rescue = |pack: &&PackId| {
                !self.view.has_lost(pack, &id)
                    && (!self.retained.contains(*pack) || mutant!("retained packs are rescued"))
            };
            match holders.iter().find(rescue) {
                Some(pack) => _ = rescued.insert(*pack),
                None => stays.extend(&holders),
            }
        }
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
        for (kind, id) in only.live_chunks_of(&there).into_keys() {
            if !only.has_other_place(kind, &id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a listed pack still is: somebody else may carry out the same plan at this moment.
    fn is_there(&self, pack: &PackId) -> Result<bool> {
        let Some((kind, _)) = self.view.report().listed_packs.get(pack) else { return Ok(false) };
        Ok(backend::is_there(self.store.backend().as_ref(), &ObjectName::Pack(*kind, *pack))?)
    }

    /// Those of these packs that may go as far as it is known what goes with them: of one without a table that is nothing, if
    /// it is written off and each live chunk has a place where that is not so.
    fn judged(&self, packs: impl Iterator<Item = PackId>) -> BTreeSet<PackId> {
        let (mut judged, unknown): (BTreeSet<_>, BTreeSet<_>) = packs.partition(|pack| self.is_fully_known(pack));
        let given_up = || unknown.iter().filter(|pack| self.view.is_written_off(pack));
        let counts = |pack: &PackId, id: &ChunkId| !self.view.has_lost(pack, id) && !self.retained.contains(pack);
        if given_up().next().is_some() && self.live.all_have_places(self.view, counts) {
            judged.extend(given_up());
        }
        judged
    }

    /// Of a pack whose table cannot be read nobody knows what would go with it.
    fn is_fully_known(&self, pack: &PackId) -> bool {
        let is_known = self.view.packs().iter().any(|row| row.id == *pack);
        mutant!("a pack half indexed is condemned") || is_known && !self.view.report().half_known.contains(pack)
    }

    /// The live chunks of some packs, each with those of the packs that hold it.
    fn live_chunks_of(&self, packs: &BTreeSet<PackId>) -> BTreeMap<(ChunkKind, ChunkId), Vec<PackId>> {
        let mut chunks: BTreeMap<(ChunkKind, ChunkId), Vec<PackId>> = BTreeMap::new();
        let numbers: HashMap<u32, PackId> = (0u32..)
            .zip(self.view.packs())
            .filter(|(_, row)| packs.contains(&row.id))
            .map(|(number, row)| (number, row.id))
            .collect();
        self.view.each_row(|chunk| {
            if let Some(pack) = numbers.get(&self.view.frames()[chunk.frame as usize].0)
                && self.live.contains(self.view, chunk.kind, chunk.id)
            {
                let holders = chunks.entry((chunk.kind, *chunk.id)).or_default();
                if !holders.contains(pack) {
                    holders.push(*pack);
                }
            }
        });
        chunks
    }

    /// Whether a chunk has a place, proven, in a pack that stays whatever this cycle does.
    fn has_other_place(&self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        let counts = |place: &Place| {
            !self.marked.contains(&place.pack)
                && (!self.retained.contains(&place.pack) || mutant!("retained packs count as places"))
                && !self.view.has_lost(&place.pack, id)
        };
        for place in self.view.places(kind, id).iter().filter(|place| counts(place)) {
            if self.proven.contains(&place.pack) {
                return Ok(true);
            }
            match self.store.prove(kind, id, place) {
                Ok(()) => return Ok(true),
                Err(Error::Corrupt { .. }) => {}
                Err(Error::Backend(error)) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
