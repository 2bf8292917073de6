//! What becomes of what index objects said, when they are merged.

use super::*;
use crate::backend::Memory;
use crate::crypto::testing;
use crate::id::{ChunkId, ChunkKind};
use crate::store::testing::{Place, Stored, WRITER, renamed};

/// In no pack at all.
const ELSEWHERE: u64 = 99;

impl Place {
    fn compact(&self) -> usize {
        compact(&self.backend, &self.keys, WRITER, false).unwrap()
    }

    /// What all index objects say of this pack.
    fn said_of(&self, pack: &Stored) -> Vec<(PackRow, Vec<ChunkId>)> {
        let mut said = Vec::new();
        for id in list_objects(&self.backend).unwrap() {
            let bytes = self.backend.get(&ObjectName::Index(id), Span::All).unwrap();
            seal::open_index(&self.keys, &bytes, &mut |block| {
                let Some(number) = block.packs.iter().position(|row| row.id == pack.row.id) else { return };
                let is_of_it = |chunk: &&ChunkRow| block.frames[usize::from(chunk.frame)].pack as usize == number;
                said.push((block.packs[number], block.chunks.iter().filter(is_of_it).map(|chunk| chunk.id).collect()));
            })
            .unwrap();
        }
        said
    }

    fn object_count(&self) -> usize {
        list_objects(&self.backend).unwrap().len()
    }
}

fn sorted(mut ids: Vec<ChunkId>) -> Vec<ChunkId> {
    ids.sort_unstable();
    ids
}

#[test]
fn few_are_left_alone_and_many_become_one_that_says_the_same() {
    let mut place = Place::new();
    let packs: Vec<Stored> = (0..SMALL_OBJECTS_MIN as u64).map(|seed| place.pack(&[&[seed], &[100 + seed]])).collect();
    for pack in &packs[1..] {
        place.index(Place::words(&[pack]));
    }
    assert_eq!((place.compact(), place.object_count()), (0, SMALL_OBJECTS_MIN - 1));
    place.index(Place::words(&[&packs[0]]));
    assert_eq!((place.compact(), place.object_count()), (SMALL_OBJECTS_MIN, 1));
    for pack in &packs {
        assert_eq!(place.said_of(pack), [(pack.row, sorted(pack.chunks.clone()))]);
    }
    assert_eq!(place.compact(), 0);
}

#[test]
fn what_is_said_of_packs_that_are_gone_goes_and_the_rest_stays() {
    let mut place = Place::new();
    let (stays, goes) = (place.pack(&[&[1]]), place.pack(&[&[2]]));
    place.index(Place::words(&[&stays, &goes]));
    place.backend.remove(&Place::name(goes.row.id)).unwrap();
    assert_eq!(place.compact(), 1);
    assert_eq!(place.said_of(&stays), [(stays.row, stays.chunks.clone())]);
    assert!(place.said_of(&goes).is_empty());
    place.backend.remove(&Place::name(stays.row.id)).unwrap();
    assert_eq!((place.compact(), place.object_count()), (1, 0));
}

/// A pack that is gone, so that all that speak of it are merged.
fn with_one_that_is_gone() -> (Place, Stored, Stored) {
    let mut place = Place::new();
    let (pack, gone) = (place.pack(&[&[1, 2], &[3]]), place.pack(&[&[4]]));
    place.backend.remove(&Place::name(gone.row.id)).unwrap();
    (place, pack, gone)
}

#[test]
fn of_two_things_that_are_said_of_a_pack_what_its_table_says_is_kept() {
    type Lie = fn(&mut IndexBlock, ChunkId, ChunkId);
    let lies: [Lie; 5] = [
        |block, one, elsewhere| *block = renamed(std::mem::take(block), one, elsewhere),
        |block, _, _| block.packs[0].chunk_count += 1,
        |block, _, _| block.packs[0].length += 1,
        |block, _, _| block.frames[1].stored_length -= 1,
        |block, one, _| block.chunks.retain(|chunk| chunk.id != one),
    ];
    for lie in lies {
        for honest in [true, false] {
            let (mut place, pack, gone) = with_one_that_is_gone();
            let mut block = Place::words(&[&pack]);
            lie(&mut block, pack.chunks[0], place.chunk(ELSEWHERE));
            place.index(block.clone());
            place.index(Place::words(&[&gone]));
            if honest {
                place.index(Place::words(&[&pack, &gone]));
            } else if block.packs[0].length == pack.row.length {
                // Nothing contradicts it.
                continue;
            }
            assert_eq!(place.compact(), 2 + usize::from(honest));
            assert_eq!(place.said_of(&pack), [(pack.row, sorted(pack.chunks.clone()))]);
        }
    }
}

#[test]
fn of_a_pack_without_a_table_both_things_that_are_said_stay() {
    let (mut place, pack, gone) = with_one_that_is_gone();
    let other = place.pack(&[&[5]]);
    let lie = renamed(Place::words(&[&pack]), pack.chunks[0], place.chunk(ELSEWHERE));
    place.index(lie);
    place.index(Place::words(&[&pack, &gone]));
    place.index(Place::words(&[&other, &gone]));
    place.damage(pack.row.id, |bytes| {
        let in_the_table = bytes.len() - 100;
        bytes[in_the_table] ^= 1;
    });
    let before = place.said_of(&pack);
    assert_eq!(before.len(), 2);
    assert_eq!(place.compact(), 1, "the one that has nothing to do with it");
    assert_eq!(place.said_of(&pack).len(), 2);
    assert_eq!(place.said_of(&other), [(other.row, other.chunks)]);
}

#[test]
fn an_object_that_contradicts_itself_or_is_damaged_is_left_to_repair() {
    let (mut place, pack, gone) = with_one_that_is_gone();
    let block = Place::words(&[&pack, &gone]);
    let (id, bytes) = seal::seal_index(&place.keys, WRITER, 77, &[block.clone(), block.clone()]).unwrap();
    place.backend.put_new(&ObjectName::Index(id), bytes.clone()).unwrap();
    assert_eq!((place.compact(), place.object_count()), (0, 1));
    let other = Memory::new();
    let mut damaged = bytes.to_vec();
    damaged[200] ^= 1;
    other.put_new(&ObjectName::Index(id), damaged.into()).unwrap();
    assert_eq!(compact(&other, &testing::keys(), WRITER, false).unwrap(), 0);
    place.index(block);
    assert_eq!(place.compact(), 1);
    assert!(place.said_of(&pack).iter().all(|(row, _)| *row == pack.row));
    assert_eq!(place.chunk(1), place.keys.chunk_id(ChunkKind::Data, &testing::noise(1, 1000)));
}
