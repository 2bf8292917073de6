//! What index objects may say against one another and against packs' own tables, and what counts then.

use super::*;
use crate::error::Corruption;
use crate::format::index::IndexBlock;
use crate::format::pack::FrameRecord;
use crate::store::testing::{Place, Stored, renamed};

/// In no pack at all.
const ELSEWHERE: u64 = 99;

impl Place {
    fn load(&self) -> Index {
        Index::load(&self.backend, &self.keys).unwrap()
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
    type Lie = fn(&mut IndexBlock);
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
