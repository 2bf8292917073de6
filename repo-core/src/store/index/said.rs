//! What index objects said of data packs, while an index is loaded that does not keep it: eight bytes for each frame, enough
//! to notice that two of them say different things.

use std::collections::HashMap;

use super::again::StoredFrame;
use crate::crypto;
use crate::error::Result;
use crate::format::index::ChunkRow;
use crate::format::pack::FrameRecord;

/// Digests of what was said first of each frame. Keyed afresh each time: nobody can choose two statements that look alike,
/// and that two do by chance happens once in 2^64.
pub(super) struct Said {
    key: [u8; 32],
    digests: Pieces,
    /// By the number of the pack: where its first frames have theirs, and how many do. So many as were told one after another,
    /// which writers do.
    runs: Vec<(u32, u32)>,
    /// All other frames, by the number of the pack and their own.
    rest: HashMap<(u32, u32), u64>,
}

/// Numbers in pieces of 64 KiB: a table that doubled as it grew would be there twice, and leave holes that nothing else fits.
#[derive(Default)]
struct Pieces(Vec<Vec<u64>>);

impl Pieces {
    const EACH: usize = 8 << 10;

    fn len(&self) -> usize {
        self.0.len().saturating_sub(1) * Self::EACH + self.0.last().map_or(0, Vec::len)
    }

    fn get(&self, at: usize) -> Option<u64> {
        self.0.get(at / Self::EACH)?.get(at % Self::EACH).copied()
    }

    fn push(&mut self, number: u64) {
        match self.0.last_mut().filter(|last| last.len() < Self::EACH) {
            Some(last) => last.push(number),
            None => {
                let mut piece = Vec::with_capacity(Self::EACH);
                piece.push(number);
                self.0.push(piece);
            }
        }
    }
}

/// What another word on a frame adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    First,
    Again,
    Otherwise,
}

impl Said {
    /// Nothing was said yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { key: crypto::random()?, digests: Pieces::default(), runs: Vec::new(), rest: HashMap::new() })
    }

    /// Compares with what was said of this frame before.
    pub(super) fn hear(&mut self, frame: &StoredFrame<'_>) -> Heard {
        let told = digest(&self.key, frame);
        let (pack, ordinal) = (frame.pack as usize, frame.place.ordinal);
        if self.runs.len() <= pack {
            self.runs.resize(pack + 1, (0, 0));
        }
        let (mut start, length) = self.runs[pack];
        let known = match ordinal < length {
            true => self.digests.get(start as usize + ordinal as usize),
            false => self.rest.get(&(frame.pack, ordinal)).copied(),
        };
        if let Some(known) = known {
            return if known == told { Heard::Again } else { Heard::Otherwise };
        }
        let end = self.digests.len() as u64;
        if length == 0 {
            start = end.try_into().unwrap_or(u32::MAX);
        }
        if ordinal == length && u64::from(start) + u64::from(length) == end && end < u32::MAX.into() {
            self.digests.push(told);
            self.runs[pack] = (start, length + 1);
        } else {
            self.rest.insert((frame.pack, ordinal), told);
        }
        Heard::First
    }
}

/// Of all that is said of a frame: where it lies, and what lies in it.
pub(super) fn digest(key: &[u8; 32], frame: &StoredFrame<'_>) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let FrameRecord { offset, stored_length, raw_length, codec, .. } = frame.place.record;
    for number in [offset, stored_length, raw_length, codec as u32] {
        hasher.update(&number.to_le_bytes());
    }
    for ChunkRow { id, offset, length, kind, .. } in frame.chunks {
        let mut row = [0; 41];
        row[..32].copy_from_slice(&id.0);
        row[32..36].copy_from_slice(&offset.to_le_bytes());
        row[36..40].copy_from_slice(&length.to_le_bytes());
        row[40] = *kind as u8;
        hasher.update(&row);
    }
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::format::pack::Codec;
    use crate::id::{ChunkId, ChunkKind};
    use crate::seal::FramePlace;

    fn row(seed: u8) -> ChunkRow {
        ChunkRow { id: ChunkId([seed; 32]), frame: 0, offset: 0, length: 1, kind: ChunkKind::Data }
    }

    fn place(ordinal: u32) -> FramePlace {
        let record = FrameRecord { offset: 80, stored_length: 9, raw_length: 9, codec: Codec::Zstd, first_chunk: 0 };
        FramePlace { ordinal, record }
    }

    proptest! {
        /// In whatever order packs and frames come.
        #[test]
        fn the_first_word_on_a_frame_is_what_later_ones_are_held_against(
            words in prop::collection::vec((0..4u32, 0..6u32, 0..3u8), 0..200),
        ) {
            let mut said = Said::new().unwrap();
            let mut model: HashMap<(u32, u32), u8> = HashMap::new();
            for (pack, ordinal, word) in words {
                let expected = match model.get(&(pack, ordinal)) {
                    None => Heard::First,
                    Some(first) if *first == word => Heard::Again,
                    Some(_) => Heard::Otherwise,
                };
                model.entry((pack, ordinal)).or_insert(word);
                let frame = StoredFrame { pack, place: place(ordinal), chunks: &[row(word)] };
                prop_assert_eq!(said.hear(&frame), expected);
            }
        }
    }

    #[test]
    fn any_difference_between_two_words_is_one() {
        let key = [7; 32];
        let told = |place: FramePlace, chunks: &[ChunkRow]| digest(&key, &StoredFrame { pack: 0, place, chunks });
        let first = told(place(0), &[row(1), row(2)]);
        assert_eq!(first, told(place(0), &[row(1), row(2)]));
        assert_eq!(first, told(place(0), &[row(1), ChunkRow { frame: 9, ..row(2) }]), "a number of a block's own");
        let with = |change: fn(&mut FrameRecord)| {
            let mut place = place(0);
            change(&mut place.record);
            told(place, &[row(1), row(2)])
        };
        let others = [
            told(place(0), &[row(1)]),
            told(place(0), &[]),
            told(place(0), &[row(1), row(3)]),
            told(place(0), &[row(1), ChunkRow { offset: 1, ..row(2) }]),
            told(place(0), &[row(1), ChunkRow { length: 2, ..row(2) }]),
            told(place(0), &[row(1), ChunkRow { kind: ChunkKind::Tree, ..row(2) }]),
            with(|record| record.offset += 1),
            with(|record| record.stored_length += 1),
            with(|record| record.raw_length += 1),
            with(|record| record.codec = Codec::Raw),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    /// What loading may hold: a table that grew with the names of chunks would be noticed here.
    #[test]
    fn frames_told_in_order_take_eight_bytes_each() {
        let mut said = Said::new().unwrap();
        let words = |said: &mut Said, heard| {
            for (pack, ordinal) in (0..400).flat_map(|pack| (0..50).map(move |ordinal| (pack, ordinal))) {
                let told = [row((pack + ordinal) as u8)];
                assert_eq!(said.hear(&StoredFrame { pack, place: place(ordinal), chunks: &told }), heard);
            }
        };
        words(&mut said, Heard::First);
        assert_eq!((said.digests.len(), said.runs.len(), said.rest.len()), (20_000, 400, 0));
        words(&mut said, Heard::Again);
        assert_eq!((said.digests.len(), said.digests.0.len()), (20_000, 3));
        assert_eq!(size_of_val(&said.runs[0]), 8);
    }
}
