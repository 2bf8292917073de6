//! What index objects may say against one another and against packs' own tables, and what counts then.

use proptest::prelude::*;

use super::*;
use crate::backend::{Backend, Span};
use crate::error::Corruption;
use crate::format::index::{ChunkRow, IndexBlock};
use crate::format::pack::FrameRecord;
use crate::id::ObjectName;
use crate::store::testing::{Place, Stored, renamed};

/// In no pack at all.
const ELSEWHERE: u64 = 99;

/// A place of a chunk: pack, frame (ordinal, offset, lengths), name, offset and length in the frame.
type Told = (PackId, [u32; 4], ChunkId, [u32; 2]);

fn told(pack: PackId, FramePlace { ordinal, record }: FramePlace, id: ChunkId, place: [u32; 2]) -> Told {
    (pack, [ordinal, record.offset, record.stored_length, record.raw_length], id, place)
}

impl Place {
    /// Loads, and holds what an index says that reads contents again against it.
    fn load(&self) -> Index {
        let index = Index::load(&self.backend, &self.keys).unwrap();
        self.assert_the_same_when_read_again(&index);
        index
    }

    fn read_again(&self, index: &Index) -> BTreeSet<Told> {
        let mut rows = BTreeSet::new();
        let each = &mut |frame: &StoredFrame<'_>| {
            let pack = index.packs()[frame.pack as usize].id;
            rows.extend(frame.chunks.iter().map(|row| told(pack, frame.place, row.id, [row.offset, row.length])));
            Ok(())
        };
        index.each_frame(&self.backend, &self.keys, &|_| true, each).unwrap();
        rows
    }

    /// Of packs with a table: as the index in memory has it, or, where that believes a lie which nothing contradicts, as the
    /// table has it. Of others: all that the index in memory has.
    fn assert_the_same_when_read_again(&self, index: &Index) {
        let again = Index::load_metadata(&self.backend, &self.keys).unwrap();
        let sorted = |index: &Index| index.packs().iter().map(|row| row.id).collect::<BTreeSet<_>>();
        assert_eq!(sorted(index), sorted(&again));
        assert_eq!(index.report().missing_packs, again.report().missing_packs);
        assert!(index.report().half_known.is_subset(&again.report().half_known));
        assert!(index.distrusted().is_subset(&again.distrusted()));
        let mut rows = BTreeSet::new();
        index.each_row(|row| {
            assert_eq!(row.kind, ChunkKind::Data);
            let (pack, place) = index.frames()[row.frame as usize];
            rows.insert(told(index.packs()[pack as usize].id, place, *row.id, [row.offset, row.length]));
        });
        assert_eq!(self.read_again(index), rows, "in memory, frame by frame");
        let read = self.read_again(&again);
        for (pack, (kind, size)) in &index.report().listed_packs {
            let of = |rows: &BTreeSet<Told>| rows.iter().filter(|row| row.0 == *pack).copied().collect::<BTreeSet<_>>();
            let (held, read) = (of(&rows), of(&read));
            let Ok(footer) = read_footer(&self.backend, &self.keys, *kind, pack, *size) else {
                assert!(held.is_subset(&read), "{pack}");
                continue;
            };
            let frames = (0u32..).zip(&footer.frames).flat_map(|(ordinal, record)| {
                let place = FramePlace { ordinal, record: *record };
                let chunks = footer.chunks_of(ordinal as usize).iter();
                chunks.map(move |chunk| told(*pack, place, chunk.id, [chunk.offset, chunk.length]))
            });
            assert!(read == held || read == frames.collect(), "{pack}: {read:?} {held:?}");
        }
    }
}

fn has(index: &Index, id: &ChunkId) -> bool {
    index.contains(ChunkKind::Data, id)
}

/// Every chunk of the pack has one place, where its table says.
fn assert_as_the_table_says(index: &Index, pack: &Stored) {
    assert_eq!(index.packs().iter().filter(|row| row.id == pack.row.id).collect::<Vec<_>>(), [&pack.row]);
    let frames = pack.footer.frames.iter().enumerate().map(|(ordinal, record)| FramePlace {
        ordinal: ordinal as u32,
        record: FrameRecord { first_chunk: 0, ..*record },
    });
    let number = index.packs().iter().position(|row| row.id == pack.row.id).unwrap() as u32;
    let known = index.frames().iter().filter(|(of, _)| *of == number).map(|(_, place)| *place);
    assert_eq!(known.collect::<Vec<_>>(), frames.collect::<Vec<_>>());
    for (ordinal, _) in pack.footer.frames.iter().enumerate() {
        for chunk in pack.footer.chunks_of(ordinal) {
            let places: Vec<_> = index.places(ChunkKind::Data, &chunk.id);
            let there: Vec<_> =
                places.iter().map(|place| (place.pack, place.frame.ordinal, place.offset, place.length)).collect();
            assert_eq!(there, [(pack.row.id, ordinal as u32, chunk.offset, chunk.length)]);
            assert!(has(index, &chunk.id));
        }
    }
}

#[test]
fn of_a_pack_that_index_objects_contradict_one_another_about_its_own_table_counts_alone() {
    let lies: [(&str, Lie); 6] = [
        ("a frame elsewhere", |block| block.frames[1].offset += 1),
        ("a longer frame", |block| block.frames[1].raw_length += 1),
        ("a frame of another number", |block| block.frames[1].ordinal += 1),
        ("a chunk elsewhere", |block| block.chunks.iter_mut().for_each(|chunk| chunk.offset /= 2)),
        ("more chunks", |block| block.packs[0].chunk_count += 1),
        ("fewer chunks, and not one of them", |block| {
            block.packs[0].chunk_count = 0;
            (block.frames, block.chunks) = Default::default();
        }),
    ];
    for (what, lie) in lies {
        let mut place = Place::new();
        let (pack, other) = (place.pack(&[&[1, 2], &[3]]), place.pack(&[&[4], &[5, 6]]));
        let mut block = Place::words(&[&pack]);
        lie(&mut block);
        assert_ne!(block, Place::words(&[&pack]), "{what}");
        place.index(Place::words(&[&other, &pack]));
        for _ in 0..8 {
            // Objects are read in the order of their names, which are drawn: most likely a lie comes first.
            place.index(block.clone());
        }
        let index = place.load();
        assert_as_the_table_says(&index, &pack);
        assert_as_the_table_says(&index, &other);
        assert_eq!((index.chunk_count(), index.report().errors.len()), (6, 0), "{what}");
        assert!(index.report().unindexed.is_empty(), "{what}: an honest object is there");
    }
}

/// A backup that believed it would leave the chunk out, and publish a snapshot that cannot be restored.
#[test]
fn a_chunk_that_is_said_to_lie_in_a_pack_beside_all_that_it_holds_is_not_stored() {
    let mut place = Place::new();
    let pack = place.pack(&[&[1, 2], &[3]]);
    let (elsewhere, one) = (place.chunk(ELSEWHERE), pack.chunks[0]);
    place.index(Place::words(&[&pack]));
    place.index(renamed(Place::words(&[&pack]), one, elsewhere));
    let index = place.load();
    assert!(!has(&index, &elsewhere));
    assert!(index.places(ChunkKind::Data, &elsewhere).is_empty(), "and nobody is sent there");
    assert_as_the_table_says(&index, &pack);
}

#[test]
fn what_an_index_object_says_of_half_a_pack_counts_as_far_as_the_table_says_it_too() {
    let mut place = Place::new();
    let pack = place.pack(&[&[1, 2], &[3]]);
    let (elsewhere, one) = (place.chunk(ELSEWHERE), pack.chunks[0]);
    let mut block = renamed(Place::words(&[&pack]), one, elsewhere);
    block.chunks.retain(|chunk| chunk.id == elsewhere);
    place.index(block);
    let index = place.load();
    assert!(!has(&index, &elsewhere));
    assert_as_the_table_says(&index, &pack);
    assert_eq!(index.report().unindexed.len(), 1, "the next writer says it right");
}

#[test]
fn a_length_that_is_not_the_packs_counts_for_nothing_whoever_says_it_first() {
    for honest in [true, false] {
        let mut place = Place::new();
        let pack = place.pack(&[&[1]]);
        let (elsewhere, one) = (place.chunk(ELSEWHERE), pack.chunks[0]);
        // As if the pack were longer, so that a frame beyond its end looks possible.
        let mut block = renamed(Place::words(&[&pack]), one, elsewhere);
        block.packs[0].length += 1 << 20;
        block.frames[0].offset += 1 << 19;
        for _ in 0..8 {
            // Objects are read in the order of their names, which are drawn.
            place.index(block.clone());
        }
        if honest {
            place.index(Place::words(&[&pack]));
        }
        let index = place.load();
        assert!(!has(&index, &elsewhere));
        assert_as_the_table_says(&index, &pack);
        assert!(index.report().errors.is_empty(), "the pack is whole");
        assert_eq!(index.report().unindexed.len(), usize::from(!honest));
    }
}

/// Its readers try both, since one of them may be right; who builds on one of them could build on the wrong one.
#[test]
fn without_a_table_that_settles_it_nobody_relies_on_a_pack_of_which_two_things_are_said() {
    let mut place = Place::new();
    let pack = place.pack(&[&[1, 2], &[3]]);
    let (elsewhere, one) = (place.chunk(ELSEWHERE), pack.chunks[0]);
    place.index(Place::words(&[&pack]));
    place.index(renamed(Place::words(&[&pack]), one, elsewhere));
    place.damage(pack.row.id, |bytes| {
        let in_the_table = bytes.len() - 100;
        bytes[in_the_table] ^= 1;
    });
    let earlier = Index::default();
    let index = place.load().after(&earlier);
    for id in pack.chunks.iter().chain([&elsewhere]) {
        assert!(!has(&index, id) && !index.places(ChunkKind::Data, id).is_empty());
    }
    assert!(!has(&place.load().after(&index), &one) && index.report().half_known.contains(&pack.row.id));
    assert_eq!(index.report().errors.len(), 1);
}

#[test]
fn a_pack_that_lost_its_end_is_told_as_cut_off_and_one_without_words_is_read() {
    let mut place = Place::new();
    let (pack, unspoken) = (place.pack(&[&[1]]), place.pack(&[&[2]]));
    place.index(Place::words(&[&pack]));
    place.damage(pack.row.id, |bytes| bytes.truncate(bytes.len() - 1));
    let index = place.load();
    assert!(!has(&index, &pack.chunks[0]));
    let errors = &index.report().errors;
    assert!(matches!(errors[..], [Error::Corrupt { problem: Corruption::Truncated, .. }]), "{errors:?}");
    assert_as_the_table_says(&index, &unspoken);
    assert_eq!(index.report().unindexed.len(), 1);
}

/// What a liar may say of the packs of a block.
type Lie = fn(&mut IndexBlock);

const LIES: [Lie; 10] = [
    |_| {},
    |block| block.frames.iter_mut().last().into_iter().for_each(|frame| frame.offset += 1),
    |block| block.frames.iter_mut().last().into_iter().for_each(|frame| frame.raw_length += 1),
    |block| block.frames.iter_mut().last().into_iter().for_each(|frame| frame.ordinal += 70),
    |block| block.chunks.iter_mut().for_each(|chunk| chunk.offset /= 2),
    |block| block.packs[0].chunk_count += 1,
    |block| block.packs[0].chunk_count = 1,
    |block| block.packs[0].length += 4096,
    |block| _ = block.chunks.pop(),
    |block| {
        // One chunk twice in one frame, at two places.
        let last = block.chunks[block.chunks.len() - 1];
        block.chunks.push(ChunkRow { offset: last.offset / 2, ..last });
    },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever honest writers and liars say, in whatever order: `load` compares what is read again with what is held.
    #[test]
    fn an_index_that_reads_contents_again_says_what_one_in_memory_says(
        sizes in prop::collection::vec(prop::collection::vec(1..4usize, 1..4), 1..4),
        words in prop::collection::vec((1..8usize, 0..LIES.len(), any::<bool>()), 0..6),
        without_table in prop::collection::vec(any::<bool>(), 4),
    ) {
        let mut place = Place::new();
        let mut seed = 0;
        let mut packs = Vec::new();
        for frames in &sizes {
            let frames: Vec<Vec<u64>> = frames.iter().map(|count| {
                seed += *count as u64;
                // Some chunks lie in two packs.
                (seed - *count as u64..seed).map(|seed| seed % 7).collect()
            }).collect();
            packs.push(place.pack(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        }
        for (mask, lie, renames) in words {
            let spoken: Vec<_> =
                packs.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, pack)| pack).collect();
            if spoken.is_empty() {
                continue;
            }
            let mut block = Place::words(&spoken);
            if renames {
                block = renamed(block, spoken[0].chunks[0], place.chunk(ELSEWHERE));
            }
            LIES[lie](&mut block);
            place.index(block);
        }
        for (pack, _) in packs.iter().zip(without_table).filter(|(_, without)| *without) {
            place.damage(pack.row.id, |bytes| {
                let in_the_table = bytes.len() - 100;
                bytes[in_the_table] ^= 1;
            });
        }
        let index = place.load();
        prop_assert!(index.report().errors.iter().all(|error| {
            matches!(error, Error::Corrupt { object: ObjectName::Pack(..), .. })
        }), "every object can be read: {:?}", index.report().errors);
    }
}

#[test]
fn an_index_object_that_went_since_is_told_as_merged_away_and_one_that_changed_as_damaged() {
    let mut place = Place::new();
    let pack = place.pack(&[&[1, 2], &[3]]);
    let id = place.index(Place::words(&[&pack]));
    let index = Index::load_metadata(&place.backend, &place.keys).unwrap();
    let name = ObjectName::Index(id);
    let bytes = place.backend.get(&name, Span::All).unwrap();
    let ask = || index.each_frame(&place.backend, &place.keys, &|_| true, &mut |_| Ok(()));
    ask().unwrap();
    place.backend.remove(&name).unwrap();
    assert!(is_merged_away(&ask().unwrap_err()));
    let mut damaged = bytes.to_vec();
    damaged[100] ^= 1;
    place.backend.put_new(&name, damaged.into()).unwrap();
    let error = ask().unwrap_err();
    assert!(matches!(error, Error::Corrupt { problem: Corruption::Hash, .. }) && !is_merged_away(&error), "{error}");
    // Nothing is read for packs that nobody asks for.
    index.each_frame(&place.backend, &place.keys, &|_| false, &mut |_| Ok(())).unwrap();
}
