//! Which chunks of content there are, in four bytes for each: for verbs that ask of every chunk whether it is needed.
//!
//! Kept is a part of each name, 48 bits of it: names are keyed hashes, so they are spread evenly, and nobody who lacks the
//! keys can choose them. Chunks whose names agree in that part share one number, and what is said of one is said of the
//! other: whoever marks what is needed marks at most too much, and never too little. Among 10^7 chunks one such pair is to
//! be expected in every fifth repository, among 10^8 there are 18. Whoever must tell them apart compares whole names.

use super::index::ChunkSet;
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// The first two bytes of a name say where its next four are.
const SHELVES: usize = 1 << 16;

/// Parts of names, each with a number.
#[derive(Debug)]
pub struct Census {
    /// Where each shelf begins in `names`; one more at the end.
    starts: Vec<u32>,
    /// Ascending on each shelf. The number of a chunk is a position here.
    names: Vec<u32>,
    /// Those that were met more than once.
    several: ChunkSet,
}

fn shelf(id: &ChunkId) -> usize {
    usize::from(u16::from_be_bytes([id.0[0], id.0[1]]))
}

fn name(id: &ChunkId) -> u32 {
    u32::from_be_bytes([id.0[2], id.0[3], id.0[4], id.0[5]])
}

impl Census {
    /// Of all names that `each` tells. It is asked twice, to count first, so that nothing grows: it must tell the same both
    /// times.
    pub fn take(each: impl Fn(&mut dyn FnMut(&ChunkId)) -> Result<()>) -> Result<Self> {
        let mut counts = vec![0u64; SHELVES];
        each(&mut |id| counts[shelf(id)] += 1)?;
        let total: u64 = counts.iter().sum();
        if total > u64::from(u32::MAX) {
            return Err(Error::Limit { what: "chunks of content".to_owned(), limit: u32::MAX.into() });
        }
        let mut starts: Vec<u32> = Vec::with_capacity(SHELVES + 1);
        let mut start = 0u32;
        for count in &counts {
            starts.push(start);
            start += *count as u32;
        }
        starts.push(start);
        let mut free = starts.clone();
        let mut names = vec![0u32; total as usize];
        let mut has_room = true;
        each(&mut |id| {
            let shelf = shelf(id);
            has_room &= free[shelf] < starts[shelf + 1];
            if has_room {
                names[free[shelf] as usize] = name(id);
                free[shelf] += 1;
            }
        })?;
        if !has_room || free[..SHELVES] != starts[1..] {
            return Err(Error::Bug("the index said something else when it was read again".into()));
        }
        Ok(Self::sorted(starts, names))
    }

    /// Sorts each shelf and keeps each name once.
    fn sorted(mut starts: Vec<u32>, mut names: Vec<u32>) -> Self {
        let mut several = ChunkSet::with_room_for(names.len());
        let mut kept = 0usize;
        for shelf in 0..SHELVES {
            let (start, end) = (starts[shelf] as usize, starts[shelf + 1] as usize);
            names[start..end].sort_unstable();
            let begin = kept;
            for at in start..end {
                if kept > begin && names[kept - 1] == names[at] {
                    several.insert(kept as u32 - 1);
                } else {
                    names[kept] = names[at];
                    kept += 1;
                }
            }
            starts[shelf] = begin as u32;
        }
        starts[SHELVES] = kept as u32;
        names.truncate(kept);
        Self { starts, names, several }
    }

    /// The number of a chunk, below [`count`](Self::count); `None` if no such name was told.
    pub fn number(&self, id: &ChunkId) -> Option<u32> {
        let shelf = shelf(id);
        let start = self.starts[shelf];
        let names = &self.names[start as usize..self.starts[shelf + 1] as usize];
        names.binary_search(&name(id)).ok().map(|position| start + position as u32)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// What it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        (self.starts.capacity() + self.names.capacity()) * size_of::<u32>() + self.several.bytes()
    }

    /// Whether a name like this was told more than once: of one chunk in several places, or of two chunks.
    pub fn has_several(&self, id: &ChunkId) -> bool {
        self.number(id).is_some_and(|number| self.several.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn take(ids: &[ChunkId]) -> Census {
        Census::take(|each| {
            ids.iter().for_each(each);
            Ok(())
        })
        .unwrap()
    }

    /// Names of few beginnings and few ends, so that many agree in the part that is kept, and in more, and in less.
    fn names() -> impl Strategy<Value = Vec<ChunkId>> {
        let byte = || prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()];
        let name = (prop::array::uniform6(byte()), 0..3u8, 0..3u8);
        let name = name.prop_map(|(begin, next, last)| {
            let mut id = [7; 32];
            id[..6].copy_from_slice(&begin);
            (id[6], id[31]) = (next, last);
            ChunkId(id)
        });
        prop::collection::vec(name, 1..60).prop_flat_map(|pool| {
            // Some with every end, some many times over.
            prop::collection::vec((0..pool.len(), 0..3u8), 0..300).prop_map(move |picks| {
                let with_end = |(at, last): (usize, u8)| {
                    let mut id = pool[at];
                    id.0[31] = last;
                    id
                };
                picks.into_iter().map(with_end).collect()
            })
        })
    }

    proptest! {
        #[test]
        fn a_mark_on_a_name_is_seen_under_it_and_on_no_other_that_differs_in_its_first_six_bytes(
            told in names(), marked in names(), asked in names(),
        ) {
            let census = take(&told);
            let mut marks = ChunkSet::with_room_for(census.count());
            let mut model: HashMap<[u8; 6], usize> = HashMap::new();
            let part = |id: &ChunkId| <[u8; 6]>::try_from(&id.0[..6]).unwrap();
            told.iter().for_each(|id| *model.entry(part(id)).or_default() += 1);
            prop_assert_eq!(census.count(), model.len());
            let mut marked_parts = HashSet::new();
            for id in marked.iter().chain(told.iter().step_by(3)) {
                let is_new = census.number(id).map(|number| marks.insert(number));
                let expected = model.contains_key(&part(id)).then(|| marked_parts.insert(part(id)));
                prop_assert_eq!(is_new, expected);
            }
            for id in told.iter().chain(&marked).chain(&asked) {
                let times = model.get(&part(id)).copied().unwrap_or(0);
                prop_assert_eq!(census.number(id).is_some(), times > 0);
                prop_assert_eq!(census.has_several(id), times > 1);
                let is_marked = census.number(id).is_some_and(|number| marks.contains(number));
                prop_assert_eq!(is_marked, marked_parts.contains(&part(id)));
            }
            let numbers: HashSet<u32> = told.iter().map(|id| census.number(id).unwrap()).collect();
            prop_assert_eq!(numbers.len(), census.count(), "a number is of one part alone");
        }
    }

    #[test]
    fn a_name_takes_four_bytes_and_a_bit_beside_the_shelves() {
        let ids: Vec<_> =
            (0..50_000u32).map(|number| ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())).collect();
        let census = take(&ids);
        assert_eq!(census.count(), ids.len());
        assert!(census.bytes() <= 50_000 * 4 + 50_000 / 8 + 8 + (SHELVES + 1) * 4, "{}", census.bytes());
    }

    #[test]
    fn the_last_shelf_and_an_empty_census_are_no_exceptions() {
        let last = ChunkId([255; 32]);
        assert_eq!(take(&[last]).number(&last), Some(0));
        assert_eq!(take(&[]).number(&last), None);
        assert_eq!(take(&[]).count(), 0);
    }

    #[test]
    fn who_tells_something_else_the_second_time_is_refused() {
        let told = [vec![ChunkId([1; 32])], vec![ChunkId([1; 32]), ChunkId([2; 32])], vec![ChunkId([2; 32])], vec![]];
        for first in &told {
            for second in told.iter().filter(|second| *second != first) {
                let times = std::cell::Cell::new(0);
                let taken = Census::take(|each| {
                    let ids = if times.replace(1) == 0 { first } else { second };
                    ids.iter().for_each(each);
                    Ok(())
                });
                assert!(matches!(taken, Err(Error::Bug(_))), "{first:?} {second:?}");
            }
        }
    }
}
