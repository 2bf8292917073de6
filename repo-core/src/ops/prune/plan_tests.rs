//! What is decided about marked packs, asked directly: the same content in two packs, and what makes one of them count.

use std::collections::{BTreeSet, HashSet};

use super::evaluate::look;
use super::plan::{Answer, Question};
use super::tests::{Place, all, noise};
use super::usage::{Live, Usage, spot};
use crate::backend::{Backend, Prefix, Span};
use crate::id::{ChunkKind, ObjectName, PackId, PackKind};
use crate::progress::Silent;
use crate::store::{Session, SessionKind, Store, StoredFrame};

/// Content in two data packs: the older one was marked while the newer one was written.
pub(super) struct Twice {
    pub place: Place,
    pub older: PackId,
    pub newer: PackId,
}

#[derive(Default)]
pub(super) struct Given {
    pub marked: BTreeSet<PackId>,
    pub retained: HashSet<PackId>,
    pub proven: HashSet<PackId>,
    pub nothing_lives: bool,
    pub vanishes: Option<PackId>,
}

const UNKNOWN: PackId = PackId([9; 32]);

fn data(pack: PackId) -> ObjectName {
    ObjectName::Pack(PackKind::Data, pack)
}

pub(super) fn data_packs(place: &Place) -> BTreeSet<PackId> {
    let objects = place.repository.objects(Prefix::Packs(PackKind::Data)).unwrap();
    objects
        .into_iter()
        .map(|(name, _)| if let ObjectName::Pack(_, id) = name { id } else { panic!("{name}") })
        .collect()
}

pub(super) fn only(packs: BTreeSet<PackId>) -> PackId {
    assert_eq!(packs.len(), 1);
    *packs.first().unwrap()
}

impl Twice {
    pub fn new() -> Self {
        let place = Place::new();
        let content = noise(1, 1 << 18);
        let first = place.backup("/a", &content);
        let older = only(data_packs(&place));
        place.forget(first, 0);
        let inner = &place.repository.inner;
        let session = Session::register(&inner.backend, &inner.keys, SessionKind::Backup, "test").unwrap();
        assert!(!place.prune(&all()).waiting_for.is_empty());
        place.backup("/a", &content);
        session.give_up().unwrap();
        let newer = only(data_packs(&place).into_iter().filter(|pack| *pack != older).collect());
        Self { place, older, newer }
    }

    /// As prune asks.
    pub fn ask<T>(&self, given: &Given, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let (store, _) = look(&self.place.repository).unwrap();
        self.ask_with(&store, given, ask)
    }

    fn ask_with<T>(&self, store: &Store, given: &Given, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let view = store.view();
        let mut snapshots = self.place.repository.snapshots(&Default::default()).unwrap().snapshots;
        assert_eq!(snapshots.len(), 1);
        if given.nothing_lives {
            snapshots.clear();
        }
        let live = Live::find(store, &view, snapshots.iter().map(|snapshot| &snapshot.record), &Silent).unwrap();
        if let Some(pack) = given.vanishes {
            self.place.backend.remove(&data(pack)).unwrap();
        }
        let Given { marked, retained, proven, .. } = given;
        ask(&Question { store, view: &view, live: &live, marked, retained, proven })
    }

    fn decide(&self, given: &Given) -> (Vec<PackId>, Vec<PackId>) {
        // With all that the index knows in memory it must be the same.
        let held = given.vanishes.is_none().then(|| {
            let store = self.place.repository.fresh_store().unwrap();
            self.ask_with(&store, given, |question| question.decide().unwrap())
        });
        let answer = self.ask(given, |question| question.decide().unwrap());
        held.into_iter().for_each(|held| assert_eq!(held, answer));
        let Answer { delete, rescued } = answer;
        (delete, rescued)
    }

    fn may_all_go(&self, packs: &[PackId]) -> bool {
        // What else is marked does not matter to whoever carries out a plan.
        let given = Given { marked: self.both(), ..Given::default() };
        self.ask(&given, |question| question.may_all_go(&packs.iter().copied().collect()).unwrap())
    }

    fn both(&self) -> BTreeSet<PackId> {
        BTreeSet::from([self.older, self.newer])
    }

    fn older_marked(&self) -> Given {
        Given { marked: BTreeSet::from([self.older]), ..Given::default() }
    }

    fn damage_newer(&self) {
        let name = data(self.newer);
        let mut bytes = self.place.backend.get(&name, Span::All).unwrap().to_vec();
        bytes[200] ^= 1; // in the first frame
        self.place.backend.remove(&name).unwrap();
        self.place.backend.put_new(&name, bytes.into()).unwrap();
    }
}

#[test]
fn a_marked_pack_goes_if_all_that_lives_in_it_lies_elsewhere_too() {
    let twice = Twice::new();
    assert_eq!(twice.decide(&twice.older_marked()), (vec![twice.older], vec![]));
}

#[test]
fn of_two_marked_packs_with_the_same_content_one_is_rescued_and_both_go_if_it_is_dead() {
    let twice = Twice::new();
    let given = Given { marked: twice.both(), ..Given::default() };
    let (delete, rescued) = twice.decide(&given);
    assert_eq!((delete.len(), rescued.len()), (1, 1));
    assert_eq!(BTreeSet::from([delete[0], rescued[0]]), twice.both());
    let dead = Given { nothing_lives: true, ..given };
    assert_eq!(twice.decide(&dead), (twice.both().into_iter().collect(), vec![]));
}

#[test]
fn a_place_that_does_not_open_or_is_gone_rescues_the_marked_pack() {
    let twice = Twice::new();
    twice.damage_newer();
    assert_eq!(twice.decide(&twice.older_marked()), (vec![], vec![twice.older]));
    let proven = Given { proven: HashSet::from([twice.newer]), ..twice.older_marked() };
    assert_eq!(twice.decide(&proven), (vec![twice.older], vec![]), "what this process proved is not read again");
    let vanishing = Given { vanishes: Some(twice.newer), ..twice.older_marked() };
    assert_eq!(twice.decide(&vanishing), (vec![], vec![twice.older]));
}

/// Storage that refused to delete a pack may do it at any time later.
#[test]
fn nothing_relies_on_a_pack_that_was_to_be_deleted_before() {
    let twice = Twice::new();
    let (older, newer) = (twice.older, twice.newer);
    let retained = |packs: &[PackId], marked: Given| Given { retained: packs.iter().copied().collect(), ..marked };
    assert_eq!(twice.decide(&retained(&[newer], twice.older_marked())), (vec![], vec![older]));
    let both = || Given { marked: twice.both(), ..Given::default() };
    assert_eq!(twice.decide(&retained(&[newer], both())), (vec![newer], vec![older]));
    assert_eq!(twice.decide(&retained(&[older], both())), (vec![older], vec![newer]));
    assert_eq!(twice.decide(&retained(&[older, newer], both())), (vec![], vec![]), "it is all there is: both stay");
}

#[test]
fn a_pack_of_which_nobody_knows_what_it_holds_does_not_go() {
    let twice = Twice::new();
    let marked = || Given { marked: BTreeSet::from([UNKNOWN]), ..Given::default() };
    assert_eq!(twice.decide(&marked()), (vec![], vec![]), "it is not there");
    assert!(twice.may_all_go(&[UNKNOWN]), "what is not there takes nothing with it");
    twice.place.backend.put_new(&data(UNKNOWN), vec![0; 4096].into()).unwrap();
    assert_eq!(twice.decide(&marked()), (vec![], vec![]));
    assert!(!twice.may_all_go(&[UNKNOWN]));

    let vanishing = Given { vanishes: Some(UNKNOWN), ..marked() };
    let gone = twice.ask(&vanishing, |question| question.may_all_go(&BTreeSet::from([UNKNOWN])).unwrap());
    assert!(gone, "it went since it was listed");

    // Of another length than the index says: nothing of it is in the view.
    let name = data(twice.older);
    let bytes = twice.place.backend.get(&name, Span::All).unwrap();
    twice.place.backend.remove(&name).unwrap();
    twice.place.backend.put_new(&name, bytes.slice(..bytes.len() - 1)).unwrap();
    assert_eq!(twice.decide(&twice.older_marked()), (vec![], vec![]));
    assert!(!twice.may_all_go(&[twice.older]));
}

/// What an index object says of half of it may be all that lives in it, or not.
#[test]
fn a_pack_without_a_table_of_which_half_is_known_does_not_go() {
    let twice = Twice::new();
    twice.place.halve_index(twice.older);
    assert_eq!(twice.decide(&twice.older_marked()), (vec![twice.older], vec![]), "its table has the other half");
    twice.place.break_table(twice.older);
    assert_eq!(twice.decide(&twice.older_marked()), (vec![], vec![]));
    assert!(!twice.may_all_go(&[twice.older]));
    twice.ask(&Given::default(), |question| {
        let usage = Usage::measure(question.store, question.view, question.live, &HashSet::new(), |_| false).unwrap();
        let free = usage.packs.iter().filter(|pack| pack.is_free).map(|pack| pack.id).collect::<HashSet<_>>();
        assert!(!free.contains(&twice.older) && free.contains(&twice.newer));
    });
}

#[test]
fn a_place_that_is_recorded_as_lost_counts_for_nothing() {
    let twice = Twice::new();
    twice.place.write_off(twice.newer);
    assert_eq!(twice.decide(&twice.older_marked()), (vec![], vec![twice.older]));
    let both = Given { marked: twice.both(), ..Given::default() };
    assert_eq!(twice.decide(&both), (vec![twice.newer], vec![twice.older]), "nor is it rescued");
    assert!(twice.may_all_go(&[twice.newer]) && !twice.may_all_go(&[twice.older]));
    twice.place.write_off(twice.older);
    assert_eq!(twice.decide(&both), (vec![], vec![]), "all that is left of it stays");
    assert!(!twice.may_all_go(&[twice.newer]));
}

#[test]
fn a_plan_of_others_may_take_one_of_two_packs_with_the_same_content_but_not_both() {
    let twice = Twice::new();
    assert!(twice.may_all_go(&[twice.older]));
    assert!(twice.may_all_go(&[twice.newer]));
    assert!(!twice.may_all_go(&[twice.older, twice.newer]));
}

#[test]
fn of_two_places_the_one_in_a_reliable_pack_counts_and_the_other_pack_is_unused() {
    let twice = Twice::new();
    for (unreliable, kept) in [(twice.older, twice.newer), (twice.newer, twice.older)] {
        twice.ask(&Given::default(), |question| {
            let (view, live) = (question.view, question.live);
            let busy = view.packs().iter().position(|row| row.id == kept).unwrap();
            let store = question.store;
            let usage = Usage::measure(store, view, live, &HashSet::from([unreliable]), |pack| pack == busy).unwrap();
            let of = |id: PackId| usage.packs.iter().find(|pack| pack.id == id).unwrap();
            assert_eq!((of(unreliable).kept_chunks, of(unreliable).live, of(unreliable).is_free), (0, 0, true));
            assert_eq!((of(kept).live, of(kept).is_free), (of(kept).stored, false));
            let mut chunks = 0;
            let each = &mut |frame: &StoredFrame<'_>| {
                let pack = view.packs()[frame.pack as usize].id;
                for chunk in frame.chunks.iter().filter(|chunk| chunk.kind == ChunkKind::Data) {
                    assert_eq!(usage.is_kept(view, live, chunk.kind, &chunk.id, spot(frame)), pack == kept);
                    chunks += u64::from(pack == kept);
                }
                Ok(())
            };
            view.each_frame(store.backend().as_ref(), store.keys(), &|_| true, each).unwrap();
            assert_eq!(of(kept).kept_chunks, chunks);
            assert!(chunks > 0 && usage.duplicates >= chunks);
        });
    }
}

#[test]
fn a_pack_is_used_by_the_share_of_its_frames_that_lives() {
    let place = Place::new();
    let (kept, gone) = (noise(1, 4 << 20), noise(2, 4 << 20));
    let both = place.backup("/both", &[&kept[..], &gone].concat());
    place.backup("/kept", &kept);
    place.forget(both, 0);
    let (store, view) = look(&place.repository).unwrap();
    let snapshots = place.repository.snapshots(&Default::default()).unwrap().snapshots;
    let live = Live::find(&store, &view, snapshots.iter().map(|snapshot| &snapshot.record), &Silent).unwrap();
    let usage = Usage::measure(&store, &view, &live, &HashSet::new(), |_| false).unwrap();
    let data = usage.packs.iter().filter(|pack| pack.kind == PackKind::Data);
    let (stored, used) = data.fold((0, 0), |sum, pack| (sum.0 + pack.stored, sum.1 + pack.live));
    // Noise is stored as it is; the chunk across the border lives in neither, or the second has its own.
    let dead = stored - used;
    assert!((1 << 20..5 << 20).contains(&dead) && used >= 4 << 20, "{used} of {stored}");
}
