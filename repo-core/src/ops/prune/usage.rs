//! What is used: which stored chunks some snapshot refers to, and how much of each pack that is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::snapshot::SnapshotRecord;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind};
use crate::progress::Progress;
use crate::store::{Census, ChunkSet, Index, Store, StoredFrame};
use crate::tree::{self, Visitor};

/// Chunks that are named one by one if they are lost; of more there is a count.
pub(super) const LOST_MAX: usize = 1000;

/// The chunks that snapshots refer to: one bit for each that is stored, and of content, unless the index has it in memory, a
/// part of its name. Where the parts of two chunks agree, both live if one does: so what is asked of it may keep too much and
/// never too little. Metadata is told apart by whole names: what is below a node must be looked at once for each.
pub struct Live {
    /// `None`: the index has contents in memory, and all are told apart.
    census: Option<Census>,
    set: LiveSet,
    /// Referred to and stored nowhere.
    pub lost: Vec<(ChunkKind, ChunkId)>,
    pub lost_count: u64,
}

/// One bit a chunk, by the numbers of the census, and for all that the index has in memory by its own.
#[derive(Clone)]
pub struct LiveSet {
    content: ChunkSet,
    held: ChunkSet,
}

/// Calls `each` for every frame that is stored.
fn each_frame(store: &Store, view: &Index, each: &mut dyn FnMut(&StoredFrame<'_>) -> Result<()>) -> Result<()> {
    view.each_frame(store.backend().as_ref(), store.keys(), &|_| true, each)
}

impl Live {
    /// Of no snapshot yet. Reads the index for what content there is.
    pub fn of_none(store: &Store, view: &Index) -> Result<Self> {
        let census = match view.holds_contents() {
            true => None,
            false => Some(Census::take(|each| {
                each_frame(store, view, &mut |frame| {
                    frame.chunks.iter().filter(|chunk| chunk.kind == ChunkKind::Data).for_each(|chunk| each(&chunk.id));
                    Ok(())
                })
            })?),
        };
        let content = ChunkSet::with_room_for(census.as_ref().map_or(0, Census::count));
        let set = LiveSet { content, held: view.empty_set() };
        Ok(Self { census, set, lost: Vec::new(), lost_count: 0 })
    }

    /// Walks every tree. Fails closed: what cannot be read could refer to anything.
    pub fn find<'r>(
        store: &Store,
        view: &Index,
        records: impl Iterator<Item = &'r SnapshotRecord>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut live = Self::of_none(store, view)?;
        live.add(store, view, records, progress)?;
        Ok(live)
    }

    /// Walks what these snapshots refer to and no other did.
    pub fn add<'r>(
        &mut self,
        store: &Store,
        view: &Index,
        records: impl Iterator<Item = &'r SnapshotRecord>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut marking = Marking::new(view, self, progress);
        for root in records.filter_map(|record| record.root.tree) {
            tree::references(store, &root, &mut marking)?;
        }
        Ok(())
    }

    /// The chunks so far, for a comparison with those that are added.
    pub fn so_far(&self) -> LiveSet {
        self.set.clone()
    }

    /// Whether some snapshot refers to the chunk.
    pub fn contains(&self, view: &Index, kind: ChunkKind, id: &ChunkId) -> bool {
        self.is_in(&self.set, view, kind, id)
    }

    /// Whether the chunk is in this set, of these chunks.
    pub fn is_in(&self, set: &LiveSet, view: &Index, kind: ChunkKind, id: &ChunkId) -> bool {
        match &self.census {
            Some(census) if kind == ChunkKind::Data => {
                census.number(id).is_some_and(|number| set.content.contains(number))
            }
            _ => view.is_in(&set.held, kind, id),
        }
    }

    /// Whether it was new, and `None` if it is stored nowhere.
    fn insert(&mut self, view: &Index, kind: ChunkKind, id: &ChunkId) -> Option<bool> {
        match &self.census {
            Some(census) if kind == ChunkKind::Data => census.number(id).map(|number| self.set.content.insert(number)),
            _ => view.insert_into(&mut self.set.held, kind, id),
        }
    }

    /// Whether a chunk may be stored more than once. Never no if it is.
    pub fn may_have_several_places(&self, view: &Index, kind: ChunkKind, id: &ChunkId) -> bool {
        match &self.census {
            Some(census) if kind == ChunkKind::Data => census.has_several(id),
            _ => view.has_several_places(kind, id),
        }
    }

    /// What it takes, but for what is lost.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.census.as_ref().map_or(0, Census::bytes) + self.set.content.bytes() + self.set.held.bytes()
    }

    /// Chunks that are stored, each once; two of content whose names begin alike are one.
    pub fn stored_count(&self, view: &Index) -> u64 {
        (self.census.as_ref().map_or(0, Census::count) + view.chunk_count()) as u64
    }

    /// Whether each chunk that some snapshot refers to has a place that counts. Where contents are known by parts of their
    /// names nobody can tell: of two that look alike one may be lost. Then the answer is no.
    pub fn all_have_places(&self, view: &Index, counts: impl Fn(&PackId, &ChunkId) -> bool) -> bool {
        if self.census.is_some() || self.lost_count > 0 {
            return false;
        }
        let mut placed = view.empty_set();
        view.each_holder(|kind, id, pack| {
            if self.contains(view, kind, id) && counts(pack, id) {
                view.insert_into(&mut placed, kind, id);
            }
        });
        placed == self.set.held
    }
}

/// The walk that finds them.
pub(super) struct Marking<'v> {
    view: &'v Index,
    progress: &'v dyn Progress,
    live: &'v mut Live,
    named: HashSet<(ChunkKind, ChunkId)>,
}

impl<'v> Marking<'v> {
    pub(super) fn new(view: &'v Index, live: &'v mut Live, progress: &'v dyn Progress) -> Self {
        let named = live.lost.iter().copied().collect();
        Self { view, progress, live, named }
    }
}

impl Visitor for Marking<'_> {
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if kind == ChunkKind::Tree && self.progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(is_new) = self.live.insert(self.view, kind, id) {
            return Ok(is_new);
        }
        if self.named.len() < LOST_MAX && self.named.insert((kind, *id)) {
            self.live.lost.push((kind, *id));
        }
        self.live.lost_count += 1;
        // Of a tree or list node, reading it says what is wrong. Content that is lost stops nothing.
        Ok(true)
    }
}

/// One pack, as far as it is needed. Sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct PackUse {
    pub id: PackId,
    pub kind: PackKind,
    /// As stored.
    pub stored: u64,
    /// The share of `stored` that live chunks account for.
    pub live: u64,
    /// Chunks that lie in it.
    pub chunks: u64,
    /// Chunks for which this is the place that counts.
    pub kept_chunks: u64,
    /// Whether it may be condemned: all that it holds is known, and no writer is at work that made it.
    pub is_free: bool,
    /// Whether it is sealed under keys from before a rotation, and that was asked for.
    pub is_old: bool,
}

/// How every pack is used, and which place of each live chunk counts.
pub struct Usage {
    pub packs: Vec<PackUse>,
    /// Places of live chunks that do not count.
    pub duplicates: u64,
    /// Of live chunks with several places, about 50 bytes each: the one that counts.
    chosen: HashMap<ChunkId, Spot>,
}

/// A frame, by the number of its pack and its own there.
pub type Spot = (u32, u32);

/// The frame's place among all.
pub fn spot(frame: &StoredFrame<'_>) -> Spot {
    (frame.pack, frame.place.ordinal)
}

impl Usage {
    /// `unreliable`: packs that never count as the place of a chunk (condemned before, and still there). `writers`: sessions
    /// at work, whose packs are theirs. Reads the index once, and twice more if something that lives has several places.
    pub fn measure(
        store: &Store,
        view: &Index,
        live: &Live,
        unreliable: &HashSet<PackId>,
        is_busy: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let packs = view.packs().iter().enumerate().map(|(number, row)| PackUse {
            id: row.id,
            kind: row.kind,
            stored: row.length.into(),
            live: 0,
            chunks: 0,
            kept_chunks: 0,
            is_free: !view.report().half_known.contains(&row.id) && !is_busy(number),
            is_old: false,
        });
        let mut usage = Self { packs: packs.collect(), duplicates: 0, chosen: HashMap::new() };
        if usage.weigh(store, view, live)? {
            usage.choose_places(store, view, live, unreliable)?;
            usage.weigh(store, view, live)?;
        }
        Ok(usage)
    }

    /// Counts what lies and what is kept in each pack. A frame's stored bytes are shared out by its plaintext. Header, table
    /// and padding count as used while anything in the pack is: to write it anew would not free them. Chunks with several
    /// places count where one was chosen; the answer is whether one has to be.
    fn weigh(&mut self, store: &Store, view: &Index, live: &Live) -> Result<bool> {
        let is_chosen = !self.chosen.is_empty();
        self.packs.iter_mut().for_each(|pack| (pack.chunks, pack.kept_chunks) = (0, 0));
        let mut dead = vec![0u64; self.packs.len()];
        let mut has_several = false;
        each_frame(store, view, &mut |frame| {
            let pack = frame.pack as usize;
            let record = frame.place.record;
            let (stored, raw) = (u64::from(record.stored_length), u64::from(record.raw_length).max(1));
            let mut kept_bytes = 0;
            for chunk in frame.chunks {
                self.packs[pack].chunks += 1;
                if !live.contains(view, chunk.kind, &chunk.id) {
                    continue;
                }
                let several = live.may_have_several_places(view, chunk.kind, &chunk.id);
                has_several |= several;
                if !several || is_chosen && self.is_kept(view, live, chunk.kind, &chunk.id, spot(frame)) {
                    self.packs[pack].kept_chunks += 1;
                    kept_bytes += u64::from(chunk.length);
                }
            }
            dead[pack] += stored * (raw - kept_bytes.min(raw)) / raw;
            Ok(())
        })?;
        for (pack, dead) in self.packs.iter_mut().zip(dead) {
            pack.live = if pack.kept_chunks == 0 { 0 } else { pack.stored.saturating_sub(dead) };
        }
        Ok(has_several)
    }

    /// Where a chunk has several places, the pack that is kept for other reasons is the one that counts.
    fn choose_places(&mut self, store: &Store, view: &Index, live: &Live, unreliable: &HashSet<PackId>) -> Result<()> {
        let (packs, chosen) = (&self.packs, &mut self.chosen);
        let mut places = 0;
        each_frame(store, view, &mut |frame| {
            for chunk in frame.chunks {
                let (kind, id) = (chunk.kind, &chunk.id);
                if !live.contains(view, kind, id) || !live.may_have_several_places(view, kind, id) {
                    continue;
                }
                places += 1;
                let rank = |pack: u32| {
                    let PackUse { id: pack, kept_chunks, .. } = &packs[pack as usize];
                    let is_reliable = !unreliable.contains(pack) && !view.has_lost(pack, id);
                    (is_reliable, *kept_chunks, std::cmp::Reverse(*pack))
                };
                match chosen.entry(*id) {
                    Entry::Vacant(free) => _ = free.insert(spot(frame)),
                    Entry::Occupied(mut best) if rank(frame.pack) > rank(best.get().0) => _ = best.insert(spot(frame)),
                    Entry::Occupied(_) => {}
                }
            }
            Ok(())
        })?;
        self.duplicates = places - self.chosen.len() as u64;
        Ok(())
    }

    /// The packs that are written off, and of which nobody knows all that they held: they have no table any more. Ascending;
    /// none, as long as a live chunk has no place elsewhere, since such a pack may be where it was, and its bytes could still
    /// come back from parity or a mirror.
    pub fn given_up(&self, view: &Index, live: &Live, retained: &HashSet<PackId>) -> Vec<PackId> {
        let report = view.report();
        let kept: HashMap<PackId, u64> = self.packs.iter().map(|pack| (pack.id, pack.kept_chunks)).collect();
        let is_unknown =
            |pack: &PackId| kept.get(pack).is_none_or(|kept| *kept == 0 && report.half_known.contains(pack));
        let listed = report.listed_packs.keys().copied();
        let mut packs: Vec<PackId> = listed.filter(|pack| view.is_written_off(pack) && is_unknown(pack)).collect();
        packs.sort_unstable();
        let counts = |pack: &PackId, id: &ChunkId| !view.has_lost(pack, id) && !retained.contains(pack);
        if packs.is_empty() || live.all_have_places(view, counts) { packs } else { Vec::new() }
    }

    /// Whether this frame is the place that counts of a live chunk.
    pub fn is_kept(&self, view: &Index, live: &Live, kind: ChunkKind, id: &ChunkId, at: Spot) -> bool {
        match self.chosen.get(id) {
            Some(chosen) => *chosen == at,
            None => live.contains(view, kind, id),
        }
    }

    /// The stored bytes, by their share of their frames, of live chunks that were not live before.
    pub fn stored_since(&self, store: &Store, view: &Index, live: &Live, before: &LiveSet) -> Result<u64> {
        let mut bytes = 0;
        each_frame(store, view, &mut |frame| {
            let record = frame.place.record;
            for chunk in frame.chunks {
                let (kind, id) = (chunk.kind, &chunk.id);
                if self.is_kept(view, live, kind, id, spot(frame)) && !live.is_in(before, view, kind, id) {
                    let (stored, raw) = (u64::from(record.stored_length), u64::from(record.raw_length).max(1));
                    bytes += stored * u64::from(chunk.length) / raw;
                }
            }
            Ok(())
        })?;
        Ok(bytes)
    }
}
