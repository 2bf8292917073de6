//! What is decided from parts of names, held against a judge who knows all of them: random packs, references, marks and
//! damage, with names that begin alike on purpose.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::plan::{Answer, Question};
use super::tests::{ChunkRow, FrameRow, IndexBlock, PackRow, Place};
use super::usage::{Live, Marking, Usage, spot};
use crate::backend::Backend;
use crate::format::gc::Damaged;
use crate::frame::FrameCodec;
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};
use crate::progress::Silent;
use crate::seal::{self, PackBuilder, Part};
use crate::store::{Index, Store, gc};
use crate::tree::Visitor;

/// Names in all packs and snapshots.
const NAMES: usize = 24;
const WRITER: SnapshotId = SnapshotId([1; 16]);

/// What is recorded of a pack: nothing, that all of it is lost, or these.
type Lost = Option<BTreeSet<usize>>;

#[derive(Debug, Clone)]
struct Scene {
    /// Whether names begin alike by fives.
    alike: bool,
    /// By pack, what lies in it, and in how many frames.
    packs: Vec<(BTreeSet<usize>, usize)>,
    /// What snapshots refer to, stored or not.
    live: BTreeSet<usize>,
    marked: Vec<bool>,
    retained: Vec<bool>,
    proven: Vec<bool>,
    lost: Vec<Lost>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let names = |most| prop::collection::btree_set(0..NAMES, 0..most);
    let of_each = || prop::collection::vec(prop::bool::weighted(0.3), 6);
    let packs = prop::collection::vec((prop::collection::btree_set(0..NAMES, 1..9), 1..4usize), 1..7);
    let lost = prop_oneof![6 => Just(None), 1 => Just(Some(BTreeSet::new())), 2 => names(5).prop_map(Some)];
    let marked = prop::collection::vec(any::<bool>(), 6);
    let proven = prop::collection::vec(prop::bool::weighted(0.9), 6);
    let lost = prop::collection::vec(lost, 6);
    (any::<bool>(), packs, names(16), marked, of_each(), proven, lost).prop_map(
        |(alike, packs, live, marked, retained, proven, lost)| Scene {
            alike,
            packs,
            live,
            marked,
            retained,
            proven,
            lost,
        },
    )
}

impl Scene {
    fn id(&self, name: usize) -> ChunkId {
        let mut id = *blake3::hash(&[name as u8]).as_bytes();
        if self.alike {
            id[..6].fill((name % 5) as u8);
        }
        ChunkId(id)
    }

    /// Stores the packs and an index object, and what is recorded as lost. The packs' names, in order.
    fn store(&self, place: &Place) -> Vec<PackId> {
        let keys = &place.repository.inner.keys;
        let (mut ids, mut block) = (Vec::new(), IndexBlock::default());
        for (number, (names, frame_count)) in self.packs.iter().enumerate() {
            let mut pack = PackBuilder::new(keys, PackKind::Data, WRITER, number as u64, Vec::new()).unwrap();
            let names: Vec<usize> = names.iter().copied().collect();
            for names in names.chunks(names.len().div_ceil(*frame_count)) {
                let ids: Vec<ChunkId> = names.iter().map(|name| self.id(*name)).collect();
                let bytes: Vec<Vec<u8>> = names.iter().map(|name| vec![*name as u8; 100 + *name]).collect();
                let parts = ids.iter().zip(&bytes);
                let parts: Vec<_> = parts.map(|(id, bytes)| Part { id: *id, kind: ChunkKind::Data, bytes }).collect();
                pack.push_frame(keys, &mut FrameCodec::new(1), &parts, &bytes.concat(), false).unwrap();
            }
            let sealed = pack.finish().unwrap();
            let (length, chunk_count) = (sealed.bytes.len() as u32, sealed.footer.chunks.len() as u32);
            let row = PackRow { id: sealed.id, length, chunk_count, writer: WRITER, kind: PackKind::Data };
            for (ordinal, record) in sealed.footer.frames.iter().enumerate() {
                let frame = block.frames.len() as u16;
                block.frames.push(FrameRow {
                    pack: number as u16,
                    ordinal: ordinal as u32,
                    offset: record.offset,
                    stored_length: record.stored_length,
                    raw_length: record.raw_length,
                    codec: record.codec,
                });
                block.chunks.extend(sealed.footer.chunks_of(ordinal).iter().map(|chunk| ChunkRow {
                    id: chunk.id,
                    frame,
                    offset: chunk.offset,
                    length: chunk.length,
                    kind: chunk.kind,
                }));
            }
            block.packs.push(row);
            place.backend.put_new(&ObjectName::Pack(PackKind::Data, sealed.id), sealed.bytes).unwrap();
            ids.push(sealed.id);
        }
        block.chunks.sort_by_key(|chunk| chunk.id);
        let (id, bytes) = seal::seal_index(keys, WRITER, 0, &[block]).unwrap();
        place.backend.put_new(&ObjectName::Index(id), bytes).unwrap();
        for (pack, lost) in ids.iter().zip(&self.lost) {
            let Some(lost) = lost else { continue };
            let mut chunks: Vec<ChunkId> = lost.iter().map(|name| self.id(*name)).collect();
            chunks.sort_unstable();
            let record = Damaged { pack: *pack, chunks, at_ms: 1, extensions: Vec::new() };
            let (name, bytes) = gc::seal_damage_record(keys, 0, &record).unwrap();
            place.backend.put_new(&name, bytes).unwrap();
        }
        ids
    }

    fn has_lost(&self, pack: usize, name: usize) -> bool {
        self.lost[pack].as_ref().is_some_and(|lost| lost.is_empty() || lost.contains(&name))
    }

    fn find_live(&self, store: &Store, view: &Index) -> Live {
        let mut live = Live::of_none(store, view).unwrap();
        let mut marking = Marking::new(view, &mut live, &Silent);
        self.live.iter().for_each(|name| _ = marking.meet(ChunkKind::Data, &self.id(*name)).unwrap());
        live
    }

    fn chosen(&self, ids: &[PackId], which: &[bool]) -> BTreeSet<PackId> {
        ids.iter().zip(which).filter(|(_, is)| **is).map(|(id, _)| *id).collect()
    }
}

/// Knows all names, and what of them the one who decides may tell apart.
struct Judge<'s> {
    scene: &'s Scene,
    ids: &'s [PackId],
    tells_all_apart: bool,
}

impl Judge<'_> {
    fn part(&self, name: usize) -> [u8; 32] {
        let mut id = self.scene.id(name).0;
        if !self.tells_all_apart {
            id[6..].fill(0);
        }
        id
    }

    /// The packs that hold a chunk, in order.
    fn holders(&self, name: usize) -> impl Iterator<Item = usize> {
        (0..self.scene.packs.len()).filter(move |pack| self.scene.packs[*pack].0.contains(&name))
    }

    /// What lives, and is stored, as far as it can be told.
    fn live(&self) -> BTreeSet<usize> {
        let parts: HashSet<_> = self.scene.live.iter().map(|name| self.part(*name)).collect();
        let lives = |name: &usize| parts.contains(&self.part(*name)) && self.holders(*name).next().is_some();
        (0..NAMES).filter(lives).collect()
    }

    fn has_other_place(&self, name: usize, marked: &[bool]) -> bool {
        let Scene { retained, proven, .. } = self.scene;
        let mut holders = self.holders(name);
        holders.any(|pack| !marked[pack] && !retained[pack] && proven[pack] && !self.scene.has_lost(pack, name))
    }

    /// One chunk after another, in the order of their names.
    fn decide(&self) -> Answer {
        let Scene { marked, retained, .. } = self.scene;
        let candidates: BTreeSet<usize> = (0..self.ids.len()).filter(|pack| marked[*pack]).collect();
        let (mut rescued, mut stays) = (BTreeSet::new(), BTreeSet::new());
        let live: BTreeMap<ChunkId, usize> = self.live().into_iter().map(|name| (self.scene.id(name), name)).collect();
        for name in live.into_values() {
            let holders: Vec<usize> = self.holders(name).filter(|pack| candidates.contains(pack)).collect();
            if holders.is_empty()
                || holders.iter().any(|pack| rescued.contains(pack) && !self.scene.has_lost(*pack, name))
                || self.has_other_place(name, marked)
            {
                continue;
            }
            match holders.iter().find(|pack| !self.scene.has_lost(**pack, name) && !retained[**pack]) {
                Some(pack) => _ = rescued.insert(*pack),
                None => stays.extend(holders),
            }
        }
        let sorted = |packs: &mut dyn Iterator<Item = &usize>| {
            packs.map(|pack| self.ids[*pack]).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let goes = |pack: &&usize| !rescued.contains(*pack) && !stays.contains(*pack);
        Answer { delete: sorted(&mut candidates.iter().filter(goes)), rescued: sorted(&mut rescued.iter()) }
    }

    fn may_all_go(&self, delete: &[bool]) -> bool {
        let live = self.live();
        let in_those = |name: &&usize| self.holders(**name).any(|pack| delete[pack]);
        live.iter().filter(in_those).all(|name| self.has_other_place(*name, delete))
    }

    /// The place of each live chunk that counts, and how many in each pack do.
    fn places_that_count(&self) -> (HashMap<usize, usize>, Vec<u64>) {
        let mut times: HashMap<_, usize> = HashMap::new();
        for (names, _) in &self.scene.packs {
            names.iter().for_each(|name| *times.entry(self.part(*name)).or_default() += 1);
        }
        let (several, single): (Vec<usize>, Vec<usize>) =
            self.live().into_iter().partition(|name| times[&self.part(*name)] > 1);
        let (mut counts, mut kept) = (HashMap::new(), vec![0u64; self.ids.len()]);
        for name in single {
            let pack = self.holders(name).next().unwrap();
            kept[pack] += 1;
            counts.insert(name, pack);
        }
        let first = kept.clone();
        for name in several {
            let rank = |pack: &usize| {
                let is_reliable = !self.scene.retained[*pack] && !self.scene.has_lost(*pack, name);
                (is_reliable, first[*pack], Reverse(self.ids[*pack]))
            };
            let pack = self.holders(name).max_by_key(rank).unwrap();
            kept[pack] += 1;
            counts.insert(name, pack);
        }
        (counts, kept)
    }
}

fn check(scene: &Scene, ids: &[PackId], store: &Store, tells_all_apart: bool) -> Result<(), TestCaseError> {
    let view = store.view();
    prop_assert!(view.report().errors.is_empty() && view.report().half_known.is_empty());
    prop_assert_eq!(view.packs().iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    let live = scene.find_live(store, &view);
    let judge = Judge { scene, ids, tells_all_apart };
    let all = Judge { scene, ids, tells_all_apart: true };

    let (marked, proven) = (scene.chosen(ids, &scene.marked), scene.chosen(ids, &scene.proven).into_iter().collect());
    let retained: HashSet<PackId> = scene.chosen(ids, &scene.retained).into_iter().collect();
    let question = Question { store, view: &view, live: &live, marked: &marked, retained: &retained, proven: &proven };
    let answer = question.decide().unwrap();
    prop_assert_eq!(&answer, &judge.decide());
    let goes: Vec<bool> = ids.iter().map(|id| answer.delete.contains(id)).collect();
    for name in all.live() {
        let is_good = |pack: usize| !scene.retained[pack] && !scene.has_lost(pack, name);
        let (before, after) =
            (all.holders(name).any(is_good), all.holders(name).any(|pack| !goes[pack] && is_good(pack)));
        prop_assert!(after || !before, "{} lives, and its last good place goes", name);
        prop_assert!(all.holders(name).any(|pack| !goes[pack]), "{} lives, and its last place goes", name);
    }
    let may_all_go = question.may_all_go(&marked).unwrap();
    prop_assert_eq!(may_all_go, judge.may_all_go(&scene.marked));
    prop_assert!(!may_all_go || all.may_all_go(&scene.marked), "by parts of names no more may go than by whole ones");

    let usage = Usage::measure(store, &view, &live, &retained, |_| false).unwrap();
    let (counts, kept) = judge.places_that_count();
    prop_assert_eq!(usage.packs.iter().map(|pack| pack.kept_chunks).collect::<Vec<_>>(), kept);
    let names: HashMap<ChunkId, usize> = (0..NAMES).map(|name| (scene.id(name), name)).collect();
    let mut places: HashMap<usize, Vec<usize>> = HashMap::new();
    view.each_frame(store.backend().as_ref(), store.keys(), &|_| true, &mut |frame| {
        for chunk in frame.chunks {
            if usage.is_kept(&view, &live, chunk.kind, &chunk.id, spot(frame)) {
                places.entry(names[&chunk.id]).or_default().push(frame.pack as usize);
            }
        }
        Ok(())
    })
    .unwrap();
    let counts: HashMap<usize, Vec<usize>> = counts.into_iter().map(|(name, pack)| (name, vec![pack])).collect();
    prop_assert_eq!(&places, &counts);
    prop_assert!(all.live().iter().all(|name| places.contains_key(name)), "what lives has a place that counts");
    // Of written-off packs without a table: no, where parts of names are all there is.
    let counts_of = |pack: &PackId, id: &ChunkId| !view.has_lost(pack, id) && !retained.contains(pack);
    let all_have = scene
        .live
        .iter()
        .all(|name| all.holders(*name).any(|pack| !scene.retained[pack] && !scene.has_lost(pack, *name)));
    prop_assert_eq!(live.all_have_places(&view, counts_of), all_have && tells_all_apart);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn parts_of_names_decide_as_a_judge_who_knows_them_all_and_what_looks_alike_stays(scene in scene()) {
        let place = Place::new();
        let ids = scene.store(&place);
        let inner = &place.repository.inner;
        let metadata = Store::open_metadata(inner.backend.clone(), Arc::clone(&inner.keys), None).unwrap();
        prop_assert!(!metadata.view().holds_contents());
        check(&scene, &ids, &metadata, false)?;
        let whole = Store::open(inner.backend.clone(), Arc::clone(&inner.keys)).unwrap();
        check(&scene, &ids, &whole, true)?;
    }
}

#[test]
fn a_pack_that_is_rescued_for_one_chunk_does_not_speak_for_another_that_it_has_lost() {
    let no = || vec![false; 2];
    let mut scene = Scene {
        alike: false,
        packs: Vec::new(),
        live: BTreeSet::new(),
        marked: vec![true; 2],
        retained: no(),
        proven: no(),
        lost: vec![None; 2],
    };
    // Chunks are decided on in the order of their names: the second pack is rescued first.
    let (first, second) = if scene.id(0) < scene.id(1) { (0, 1) } else { (1, 0) };
    scene.packs = vec![(BTreeSet::from([second]), 1), (BTreeSet::from([first, second]), 1)];
    scene.live = BTreeSet::from([first, second]);
    scene.lost[1] = Some(BTreeSet::from([second]));
    let place = Place::new();
    let ids = scene.store(&place);
    let store = place.repository.metadata_store().unwrap();
    check(&scene, &ids, &store, false).unwrap();
    let judge = Judge { scene: &scene, ids: &ids, tells_all_apart: true };
    assert_eq!(judge.decide().delete, [], "both are needed");
}
