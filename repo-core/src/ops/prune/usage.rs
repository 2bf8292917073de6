//! What is used: which stored chunks some snapshot refers to, and how much of each pack that is.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::snapshot::SnapshotRecord;
use crate::id::{ChunkId, ChunkKind, PackId, PackKind};
use crate::progress::Progress;
use crate::store::{ChunkSet, Index, Store};
use crate::tree::{self, Visitor};

/// Chunks that are named one by one if they are lost; of more there is a count.
pub(super) const LOST_MAX: usize = 1000;

/// The chunks that snapshots refer to: one bit for each that is stored.
pub struct Live {
    set: ChunkSet,
    /// Referred to and stored nowhere.
    pub lost: Vec<(ChunkKind, ChunkId)>,
    pub lost_count: u64,
}

impl Live {
    /// Of no snapshot yet.
    pub fn of_none(view: &Index) -> Self {
        Self { set: view.empty_set(), lost: Vec::new(), lost_count: 0 }
    }

    /// Walks every tree. Fails closed: what cannot be read could refer to anything.
    pub fn find<'r>(
        store: &Store,
        view: &Index,
        records: impl Iterator<Item = &'r SnapshotRecord>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut live = Self::of_none(view);
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
    pub fn so_far(&self) -> ChunkSet {
        self.set.clone()
    }

    /// Whether some snapshot refers to the chunk.
    pub fn contains(&self, view: &Index, kind: ChunkKind, id: &ChunkId) -> bool {
        view.is_in(&self.set, kind, id)
    }

    /// Whether each chunk that some snapshot refers to has a place that counts.
    pub fn all_have_places(&self, view: &Index, counts: impl Fn(&PackId, &ChunkId) -> bool) -> bool {
        let mut placed = view.empty_set();
        view.each_row(|chunk| {
            let pack = view.packs()[view.frames()[chunk.frame as usize].0 as usize].id;
            if self.contains(view, chunk.kind, chunk.id) && counts(&pack, chunk.id) {
                view.insert_into(&mut placed, chunk.kind, chunk.id);
            }
        });
        self.lost_count == 0 && placed == self.set
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
        if let Some(is_new) = self.view.insert_into(&mut self.live.set, kind, id) {
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
    /// Live plaintext bytes by number of the frame.
    pub live_raw: Vec<u32>,
    /// Places of live chunks that do not count.
    pub duplicates: u64,
    /// Of live chunks with several places: the frame that counts.
    chosen: HashMap<ChunkId, u32>,
}

impl Usage {
    /// `unreliable`: packs that never count as the place of a chunk (condemned before, and still there). `writers`: sessions
    /// at work, whose packs are theirs.
    pub fn measure(view: &Index, live: &Live, unreliable: &HashSet<PackId>, is_busy: impl Fn(usize) -> bool) -> Self {
        let mut usage = Self {
            packs: view
                .packs()
                .iter()
                .enumerate()
                .map(|(number, row)| PackUse {
                    id: row.id,
                    kind: row.kind,
                    stored: row.length.into(),
                    live: 0,
                    chunks: 0,
                    kept_chunks: 0,
                    is_free: !view.report().half_known.contains(&row.id) && !is_busy(number),
                    is_old: false,
                })
                .collect(),
            live_raw: vec![0; view.frames().len()],
            duplicates: 0,
            chosen: HashMap::new(),
        };
        // Those with one place first: where a chunk has several, the pack that is kept for other reasons is the place.
        let mut several: HashMap<ChunkId, (ChunkKind, u32)> = HashMap::new();
        view.each_row(|chunk| {
            usage.packs[view.frames()[chunk.frame as usize].0 as usize].chunks += 1;
            if !live.contains(view, chunk.kind, chunk.id) {
                return;
            }
            if view.has_several_places(chunk.kind, chunk.id) {
                several.insert(*chunk.id, (chunk.kind, chunk.length));
            } else {
                usage.keep(view, chunk.frame, chunk.length);
            }
        });
        let kept: Vec<u64> = usage.packs.iter().map(|pack| pack.kept_chunks).collect();
        for (id, (kind, length)) in several {
            let frames = view.frames_of(kind, &id);
            usage.duplicates += frames.len().saturating_sub(1) as u64;
            let rank = |frame: &u32| {
                let pack = view.frames()[*frame as usize].0 as usize;
                let pack_id = usage.packs[pack].id;
                let is_reliable = !unreliable.contains(&pack_id) && !view.has_lost(&pack_id, &id);
                (is_reliable, kept[pack], std::cmp::Reverse(pack_id))
            };
            if let Some(best) = frames.into_iter().max_by_key(rank) {
                usage.chosen.insert(id, best);
                usage.keep(view, best, length);
            }
        }
        usage.weigh(view);
        usage
    }

    fn keep(&mut self, view: &Index, frame: u32, length: u32) {
        self.live_raw[frame as usize] = self.live_raw[frame as usize].saturating_add(length);
        self.packs[view.frames()[frame as usize].0 as usize].kept_chunks += 1;
    }

    /// A frame's stored bytes are shared out by its plaintext. Header, table and padding count as used while anything in the
    /// pack is: to write it anew would not free them.
    fn weigh(&mut self, view: &Index) {
        let mut dead = vec![0u64; self.packs.len()];
        for (number, (pack, place)) in view.frames().iter().enumerate() {
            let (stored, raw) = (u64::from(place.record.stored_length), u64::from(place.record.raw_length).max(1));
            let live = u64::from(self.live_raw[number]).min(raw);
            dead[*pack as usize] += stored * (raw - live) / raw;
        }
        for (pack, dead) in self.packs.iter_mut().zip(dead) {
            pack.live = if pack.kept_chunks == 0 { 0 } else { pack.stored.saturating_sub(dead) };
        }
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
    pub fn is_kept(&self, view: &Index, live: &Live, kind: ChunkKind, id: &ChunkId, frame: u32) -> bool {
        match self.chosen.get(id) {
            Some(chosen) => *chosen == frame,
            None => live.contains(view, kind, id),
        }
    }

    /// The stored bytes, by their share of their frames, of live chunks that were not live before.
    pub fn stored_since(&self, view: &Index, live: &Live, before: &ChunkSet) -> u64 {
        let mut bytes = 0;
        view.each_row(|chunk| {
            if self.is_kept(view, live, chunk.kind, chunk.id, chunk.frame) && !view.is_in(before, chunk.kind, chunk.id)
            {
                let record = view.frames()[chunk.frame as usize].1.record;
                bytes +=
                    u64::from(record.stored_length) * u64::from(chunk.length) / u64::from(record.raw_length).max(1);
            }
        });
        bytes
    }
}
