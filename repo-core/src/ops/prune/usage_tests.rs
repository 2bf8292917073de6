//! What counts as used, and how much of each pack: exactly.

use std::collections::{HashMap, HashSet};

use super::evaluate::look;
use super::plan_tests::{Given, Twice};
use super::tests::{ChunkRow, FrameRow, IndexBlock, PackRow, Place, noise};
use super::usage::{LOST_MAX, Live, Marking, Usage, spot};
use crate::backend::Backend;
use crate::error::Error;
use crate::format::pack::{Codec, FrameRecord};
use crate::id::{ChunkId, ChunkKind, ObjectName, PackId, PackKind, SnapshotId};
use crate::progress::{Event, Progress, Silent};
use crate::seal;
use crate::store::{Index, Store, StoredFrame};
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
    let (store, view) = look(&Place::new().repository).unwrap();
    let mut live = Live::of_none(&store, &view).unwrap();
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
    let (store, view) = look(&Place::new().repository).unwrap();
    let mut live = Live::of_none(&store, &view).unwrap();
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

fn each_row(store: &Store, view: &Index, mut each: impl FnMut(&StoredFrame<'_>, &ChunkRow)) {
    let each = &mut |frame: &StoredFrame<'_>| {
        frame.chunks.iter().for_each(|chunk| each(frame, chunk));
        Ok(())
    };
    view.each_frame(store.backend().as_ref(), store.keys(), &|_| true, each).unwrap();
}

/// The stored bytes of places that count, each row's share of its frame, as real numbers.
fn share_of(store: &Store, view: &Index, counts: impl Fn(&StoredFrame<'_>, &ChunkRow) -> bool) -> f64 {
    let mut bytes = 0.0;
    each_row(store, view, |frame, chunk| {
        if counts(frame, chunk) {
            let record = frame.place.record;
            bytes += f64::from(record.stored_length) * f64::from(chunk.length) / f64::from(record.raw_length);
        }
    });
    bytes
}

fn rows(store: &Store, view: &Index) -> f64 {
    let mut count = 0;
    each_row(store, view, |_, _| count += 1);
    f64::from(count)
}

#[test]
fn what_snapshots_keep_that_others_do_not_is_the_share_of_their_own_chunks() {
    let place = Place::new();
    let (common, own) = (noise(1, 3 << 20), [noise(2, 2 << 20), vec![b'a'; 300_000]].concat());
    place.backup("/common", &common);
    place.backup("/both", &[common, own].concat());
    let (store, view) = look(&place.repository).unwrap();
    let mut live = Live::of_none(&store, &view).unwrap();
    found(&place, &store, &view, &mut live, "/common");
    let before = live.so_far();
    found(&place, &store, &view, &mut live, "/both");
    let usage = Usage::measure(&store, &view, &live, &HashSet::new(), |_| false).unwrap();
    let is_own = |_: &StoredFrame<'_>, chunk: &ChunkRow| {
        live.contains(&view, chunk.kind, &chunk.id) && !live.is_in(&before, &view, chunk.kind, &chunk.id)
    };
    let kept = usage.stored_since(&store, &view, &live, &before).unwrap() as f64;
    let expected = share_of(&store, &view, is_own);
    // Each row is rounded down.
    assert!(kept <= expected && kept > expected - rows(&store, &view), "{kept} of {expected}");
    assert!(kept > f64::from(2 << 20) && kept < f64::from(4 << 20), "{kept}");
    assert_eq!(usage.stored_since(&store, &view, &live, &live.so_far()).unwrap(), 0);
}

#[test]
fn of_a_chunk_with_two_places_one_counts_and_the_other_is_a_duplicate() {
    let twice = Twice::new();
    twice.place.write_off(twice.newer);
    twice.ask(&Given::default(), |question| {
        let (store, view, live) = (question.store, question.view, question.live);
        let usage = Usage::measure(store, view, live, &HashSet::new(), |_| false).unwrap();
        let of = |id| usage.packs.iter().find(|pack| pack.id == id).unwrap();
        assert_eq!((of(twice.newer).kept_chunks, of(twice.newer).live), (0, 0), "it lost them");
        assert_eq!(of(twice.older).kept_chunks, of(twice.older).chunks);
        let (mut expected, mut distinct) = (0u64, HashSet::new());
        each_row(store, view, |_, chunk| {
            if live.contains(view, chunk.kind, &chunk.id) {
                expected += 1;
                distinct.insert(chunk.id);
            }
        });
        assert_eq!(usage.duplicates, expected - distinct.len() as u64);
        assert!(usage.duplicates >= of(twice.newer).chunks);
        for (pack, row) in usage.packs.iter().zip(view.packs()) {
            assert_eq!((pack.chunks, pack.stored), (row.chunk_count.into(), row.length.into()));
        }
        let kept =
            |frame: &StoredFrame<'_>, chunk: &ChunkRow| usage.is_kept(view, live, chunk.kind, &chunk.id, spot(frame));
        let nothing = Live::of_none(store, view).unwrap().so_far();
        let all = usage.stored_since(store, view, live, &nothing).unwrap() as f64;
        let expected = share_of(store, view, kept);
        assert!(all <= expected && all > expected - rows(store, view), "{all} of {expected}");
    });
}

#[test]
fn what_is_dead_of_a_pack_is_the_share_of_its_frames_plaintext() {
    let place = Place::new();
    let (kept, gone) = (noise(1, 4 << 20), noise(2, 4 << 20));
    place.backup("/kept", &kept);
    place.backup("/more", &[&gone[..], &kept[..3 << 20]].concat());
    let (store, view) = look(&place.repository).unwrap();
    let mut live = Live::of_none(&store, &view).unwrap();
    found(&place, &store, &view, &mut live, "/more");
    let usage = Usage::measure(&store, &view, &live, &HashSet::new(), |_| false).unwrap();
    let mut partly = 0;
    let mut frames_of: HashMap<u32, HashMap<u32, (FrameRecord, u32)>> = HashMap::new();
    each_row(&store, &view, |frame, chunk| {
        let frames = frames_of.entry(frame.pack).or_default();
        let (_, live_raw) = frames.entry(frame.place.ordinal).or_insert((frame.place.record, 0));
        *live_raw += if live.contains(&view, chunk.kind, &chunk.id) { chunk.length } else { 0 };
    });
    for (number, pack) in (0u32..).zip(&usage.packs) {
        let frames = &frames_of[&number];
        let dead = frames.values().map(|(record, live_raw)| {
            let (stored, raw) = (f64::from(record.stored_length), f64::from(record.raw_length));
            stored * (1.0 - f64::from(*live_raw) / raw)
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

/// Stores packs that hold nothing, and index objects that speak of so many chunks in each: they are listed and not read.
fn many_chunks(place: &Place, pack_count: u32, chunks_each: u32) {
    let keys = &place.repository.inner.keys;
    let writer = SnapshotId([1; 16]);
    for number in 0..pack_count {
        let pack = PackId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        place.backend.put_new(&ObjectName::Pack(PackKind::Data, pack), vec![0; 4096].into()).unwrap();
        let row = PackRow { id: pack, length: 4096, chunk_count: chunks_each, writer, kind: PackKind::Data };
        let frame = |ordinal: u32| {
            let (offset, stored_length) = (80 + ordinal * 100, 100);
            FrameRow { pack: 0, ordinal, offset, stored_length, raw_length: 1 << 20, codec: Codec::Raw }
        };
        let chunk = |at: u32| {
            let id = id(u64::from(number) << 32 | u64::from(at));
            ChunkRow { id, frame: (at % 16) as u16, offset: at, length: 1, kind: ChunkKind::Data }
        };
        let mut chunks: Vec<_> = (0..chunks_each).map(chunk).collect();
        chunks.sort_by_key(|chunk| chunk.id);
        let block = IndexBlock { packs: vec![row], frames: (0..16).map(frame).collect(), chunks };
        let (id, bytes) = seal::seal_index(keys, writer, number.into(), &[block]).unwrap();
        place.backend.put_new(&ObjectName::Index(id), bytes).unwrap();
    }
}

/// The bound on what prune holds at 10^7 chunks. With all of the index in memory it would be 60 bytes.
#[test]
fn a_chunk_of_content_takes_four_bytes_and_two_bits_and_the_rest_is_by_packs() {
    const CHUNKS_EACH: u32 = 5000;
    let bytes_with = |packs| {
        let place = Place::new();
        many_chunks(&place, packs, CHUNKS_EACH);
        let (store, view) = look(&place.repository).unwrap();
        let live = Live::of_none(&store, &view).unwrap();
        assert!(view.report().errors.is_empty() && view.report().unindexed.is_empty());
        assert_eq!(live.stored_count(&view), u64::from(packs * CHUNKS_EACH));
        view.bytes() + live.bytes()
    };
    let (some, more) = (bytes_with(4), bytes_with(20));
    let each = (more - some) as f64 / f64::from(16 * CHUNKS_EACH);
    assert!(each < 4.25 + 0.1, "{each} bytes a chunk");
}
