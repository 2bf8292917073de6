//! What counts as used, and how much of each pack: exactly.

use std::collections::HashSet;

use super::plan_tests::{Given, Twice};
use super::tests::{Place, noise};
use super::usage::{LOST_MAX, Live, Marking, Usage};
use crate::error::Error;
use crate::id::{ChunkId, ChunkKind};
use crate::progress::{Event, Progress, Silent};
use crate::store::{ChunkSet, Index, Store};
use crate::tree::Visitor;

/// A caller who has had enough.
#[derive(Debug)]
struct Enough;

impl Progress for Enough {
    fn report(&self, _event: Event<'_>) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

#[test]
fn what_is_stored_nowhere_is_counted_each_time_and_named_once_up_to_a_bound() {
    let view = Index::default();
    let mut live = Live::of_none(&view);
    let mut marking = Marking::new(&view, &mut live, &Silent);
    for number in 0..LOST_MAX as u64 + 5 {
        for kind in [ChunkKind::Data, ChunkKind::Data] {
            assert!(marking.meet(kind, &id(number)).unwrap(), "of a node, reading it says what is wrong");
        }
    }
    assert_eq!(live.lost_count, 2 * (LOST_MAX as u64 + 5));
    let named: Vec<_> = (0..LOST_MAX as u64).map(|number| (ChunkKind::Data, id(number))).collect();
    assert_eq!(live.lost, named);
    // What was named is not named again by the next walk.
    live.lost.truncate(1);
    Marking::new(&view, &mut live, &Silent).meet(ChunkKind::Data, &id(0)).unwrap();
    assert_eq!((live.lost.len(), live.lost_count), (1, 2 * (LOST_MAX as u64 + 5) + 1));
}

#[test]
fn a_walk_ends_at_the_next_node_when_the_caller_has_enough() {
    let view = Index::default();
    let mut live = Live::of_none(&view);
    let mut marking = Marking::new(&view, &mut live, &Enough);
    assert!(matches!(marking.meet(ChunkKind::Tree, &id(1)), Err(Error::Cancelled)));
    for kind in [ChunkKind::Data, ChunkKind::List, ChunkKind::Xattr] {
        assert!(marking.meet(kind, &id(1)).is_ok(), "one look a node is enough");
    }
    assert!(Marking::new(&view, &mut live, &Silent).meet(ChunkKind::Tree, &id(1)).is_ok());
}

fn found(place: &Place, store: &Store, view: &Index, live: &mut Live, path: &str) {
    let snapshots = place.repository.published().unwrap().snapshots;
    let records = snapshots.iter().map(|(snapshot, _)| &snapshot.record);
    let wanted: Vec<_> = records.filter(|record| record.paths == [path.as_bytes()]).collect();
    assert_eq!(wanted.len(), 1);
    live.add(store, view, wanted.into_iter(), &Silent).unwrap();
}

/// The stored bytes of places that count, each row's share of its frame, as real numbers.
fn share_of(view: &Index, counts: impl Fn(ChunkKind, &ChunkId, u32) -> bool) -> f64 {
    let mut bytes = 0.0;
    view.each_row(|chunk| {
        if counts(chunk.kind, chunk.id, chunk.frame) {
            let record = view.frames()[chunk.frame as usize].1.record;
            bytes += f64::from(record.stored_length) * f64::from(chunk.length) / f64::from(record.raw_length);
        }
    });
    bytes
}

fn rows(view: &Index) -> f64 {
    let mut count = 0;
    view.each_row(|_| count += 1);
    f64::from(count)
}

#[test]
fn what_snapshots_keep_that_others_do_not_is_the_share_of_their_own_chunks() {
    let place = Place::new();
    let (common, own) = (noise(1, 3 << 20), [noise(2, 2 << 20), vec![b'a'; 300_000]].concat());
    place.backup("/common", &common);
    place.backup("/both", &[common, own].concat());
    let store = place.repository.fresh_store().unwrap();
    let view = store.view();
    let mut live = Live::of_none(&view);
    found(&place, &store, &view, &mut live, "/common");
    let before: ChunkSet = live.so_far();
    found(&place, &store, &view, &mut live, "/both");
    let usage = Usage::measure(&view, &live, &HashSet::new(), |_| false);
    let is_own = |kind, id: &ChunkId, _| live.contains(&view, kind, id) && !view.is_in(&before, kind, id);
    let (kept, expected) = (usage.stored_since(&view, &live, &before) as f64, share_of(&view, is_own));
    // Each row is rounded down.
    assert!(kept <= expected && kept > expected - rows(&view), "{kept} of {expected}");
    assert!(kept > f64::from(2 << 20) && kept < f64::from(4 << 20), "{kept}");
    assert_eq!(usage.stored_since(&view, &live, &live.so_far()), 0);
}

#[test]
fn of_a_chunk_with_two_places_one_counts_and_the_other_is_a_duplicate() {
    let twice = Twice::new();
    twice.place.write_off(twice.newer);
    twice.ask(&Given::default(), |question| {
        let (view, live) = (question.view, question.live);
        let usage = Usage::measure(view, live, &HashSet::new(), |_| false);
        let of = |id| usage.packs.iter().find(|pack| pack.id == id).unwrap();
        assert_eq!((of(twice.newer).kept_chunks, of(twice.newer).live), (0, 0), "it lost them");
        assert_eq!(of(twice.older).kept_chunks, of(twice.older).chunks);
        let mut expected = 0u64;
        view.each_row(|chunk| expected += u64::from(live.contains(view, chunk.kind, chunk.id)));
        let mut distinct = HashSet::new();
        view.each_row(|chunk| _ = live.contains(view, chunk.kind, chunk.id) && distinct.insert(*chunk.id));
        assert_eq!(usage.duplicates, expected - distinct.len() as u64);
        assert!(usage.duplicates >= of(twice.newer).chunks);
        for (pack, row) in usage.packs.iter().zip(view.packs()) {
            assert_eq!((pack.chunks, pack.stored), (row.chunk_count.into(), row.length.into()));
        }
        let kept = |kind, id: &ChunkId, frame| usage.is_kept(view, live, kind, id, frame);
        let (all, expected) = (usage.stored_since(view, live, &view.empty_set()) as f64, share_of(view, kept));
        assert!(all <= expected && all > expected - rows(view), "{all} of {expected}");
    });
}

#[test]
fn what_is_dead_of_a_pack_is_the_share_of_its_frames_plaintext() {
    let place = Place::new();
    let (kept, gone) = (noise(1, 4 << 20), noise(2, 4 << 20));
    place.backup("/kept", &kept);
    place.backup("/more", &[&gone[..], &kept[..3 << 20]].concat());
    let store = place.repository.fresh_store().unwrap();
    let view = store.view();
    let mut live = Live::of_none(&view);
    found(&place, &store, &view, &mut live, "/more");
    let usage = Usage::measure(&view, &live, &HashSet::new(), |_| false);
    let mut partly = 0;
    for (number, pack) in (0u32..).zip(&usage.packs) {
        let frames: Vec<_> = (0u32..).zip(view.frames()).filter(|(_, (of, _))| *of == number).collect();
        let dead = frames.iter().map(|(frame, (_, place))| {
            let (stored, raw) = (f64::from(place.record.stored_length), f64::from(place.record.raw_length));
            let mut live_raw = 0;
            view.each_row(|chunk| {
                if chunk.frame == *frame && live.contains(&view, chunk.kind, chunk.id) {
                    live_raw += chunk.length;
                }
            });
            assert_eq!(usage.live_raw[*frame as usize], live_raw);
            stored * (1.0 - f64::from(live_raw) / raw)
        });
        let (dead, told) = (dead.sum::<f64>(), (pack.stored - pack.live) as f64);
        if pack.kept_chunks == 0 {
            assert_eq!(pack.live, 0);
            continue;
        }
        assert!(told <= dead + 0.001 && told > dead - frames.len() as f64 - 0.001, "{told} of {dead}");
        partly += u32::from(told > 0.0);
    }
    assert!(partly > 0, "one pack lives in part");
}
