//! FastCDC (Xia et al., ATC'16 and TPDS 2020) with the repository's own gear table. What a file is, is not known here.

use std::fmt;
use std::sync::Arc;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroizing;

use crate::format::config::ChunkerParameters;

/// Finds cut points. Cheap to clone.
///
/// The same bytes under the same parameters and table must be cut at the same places for ever: a moved cut is a silent
/// loss of deduplication. The golden test below pins them.
#[derive(Clone)]
pub struct Chunker {
    min_bytes: usize,
    average_bytes: usize,
    max_bytes: usize,
    /// Harder to meet: before the average length.
    mask_small: u64,
    /// Easier to meet: behind it.
    mask_large: u64,
    tables: Arc<Tables>,
}

/// Secret, as they tell which content is cut where.
struct Tables {
    gear: Zeroizing<[u64; 256]>,
    /// Shifted left by one, since the crate rolls two bytes at a time.
    gear_shifted: Zeroizing<[u64; 256]>,
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunker({}/{}/{} bytes, table hidden)", self.min_bytes, self.average_bytes, self.max_bytes)
    }
}

impl Chunker {
    /// Parameters must be valid ([`ChunkerParameters`] is checked when a config is decoded).
    pub fn new(parameters: ChunkerParameters, gear: &[u64; 256]) -> Self {
        let normalization = match parameters.normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            _ => Normalization::Level3,
        };
        let average_bytes = parameters.average_bytes as usize;
        let (mask_small, mask_large) = select_masks(average_bytes, normalization);
        let mut tables = Tables { gear: Zeroizing::new(*gear), gear_shifted: Zeroizing::new(*gear) };
        tables.gear_shifted.iter_mut().for_each(|entry| *entry <<= 1);
        Self {
            min_bytes: parameters.min_bytes as usize,
            average_bytes,
            max_bytes: parameters.max_bytes as usize,
            mask_small,
            mask_large,
            tables: Arc::new(tables),
        }
    }

    /// The longest chunk it makes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The length of the first chunk of `data`. With fewer than `max_bytes()` bytes the end of `data` must be the end of
    /// what is cut: a cut at `data.len()` is then the tail.
    pub fn cut(&self, data: &[u8]) -> usize {
        let (_, length) = cut_gear(
            data,
            self.min_bytes,
            self.average_bytes,
            self.max_bytes,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.tables.gear[..],
            &self.tables.gear_shifted[..],
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::testing;

    fn parameters(average_bytes: u32) -> ChunkerParameters {
        ChunkerParameters {
            algorithm: 1,
            normalization: 1,
            min_bytes: average_bytes / 4,
            average_bytes,
            max_bytes: average_bytes * 4,
        }
    }

    fn chunker(average_bytes: u32) -> Chunker {
        Chunker::new(parameters(average_bytes), testing::keys().gear())
    }

    /// The lengths of all chunks of `data`.
    fn lengths(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let length = chunker.cut(data);
            assert!(length > 0, "a cut makes progress");
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }

    /// As a reader does it: keeps at least `max_bytes` at hand until the end, and reads `step` bytes at a time.
    fn lengths_by_reading(chunker: &Chunker, data: &[u8], step: usize) -> Vec<usize> {
        let (mut lengths, mut read, mut cut) = (Vec::new(), 0, 0);
        while cut < data.len() {
            while read < data.len() && read - cut < chunker.max_bytes() {
                read = data.len().min(read + step);
            }
            let length = chunker.cut(&data[cut..read]);
            lengths.push(length);
            cut += length;
        }
        lengths
    }

    /// Knuth's MMIX generator, its high bytes: easily made anew in any language.
    fn lcg(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    /// Numbered lines, which repeat in part.
    fn numbers(length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 64);
        for number in 0_u64.. {
            text.extend_from_slice(format!("line {number} of the text: {}\n", number.pow(2)).as_bytes());
            if text.len() >= length {
                break;
            }
        }
        text.truncate(length);
        text
    }

    /// Who changes these changes where every existing repository is cut: all its data would be stored again.
    #[test]
    fn cut_points_are_the_golden_ones_for_ever() {
        let megabyte = 1 << 20;
        for (average_bytes, golden_lcg, golden_numbers) in GOLDEN {
            let chunker = chunker(average_bytes);
            let zeros = lengths(&chunker, &vec![0; megabyte]);
            assert!(zeros.iter().all(|length| *length == chunker.max_bytes()), "zeros, {average_bytes}");
            assert_eq!(lengths(&chunker, &lcg(megabyte)), golden_lcg, "LCG, {average_bytes}");
            assert_eq!(lengths(&chunker, &numbers(megabyte)), golden_numbers, "text, {average_bytes}");
        }
    }

    /// Average, chunks of the generator's bytes, chunks of the text; made by a second implementation, one byte at a time.
    const GOLDEN: [(u32, &[usize], &[usize]); 3] = [
        (
            64 << 10,
            &[
                26331, 87814, 100147, 126456, 100594, 65878, 66255, 45749, 45894, 17508, 40010, 80602, 95037, 52833,
                69524, 27944,
            ],
            &[86857, 80955, 142410, 53136, 159955, 66451, 88545, 149302, 71234, 70538, 79193],
        ),
        (
            128 << 10,
            &[259057, 311837, 94224, 57518, 150418, 78054, 69524, 27944],
            &[82074, 228148, 308047, 157239, 263053, 10015],
        ),
        (256 << 10, &[329907, 289317, 331884, 97468], &[82074, 228148, 465286, 263053, 10015]),
    ];

    #[test]
    fn another_repository_cuts_elsewhere() {
        let data = lcg(1 << 20);
        let other = Chunker::new(parameters(64 << 10), testing::other_keys().gear());
        assert_ne!(lengths(&chunker(64 << 10), &data), lengths(&other, &data));
    }

    #[test]
    fn normalization_is_obeyed() {
        let data = lcg(1 << 20);
        let mut seen: Vec<_> = (0..4)
            .map(|normalization| {
                let parameters = ChunkerParameters { normalization, ..parameters(16 << 10) };
                lengths(&Chunker::new(parameters, testing::keys().gear()), &data)
            })
            .collect();
        seen.dedup();
        assert_eq!(seen.len(), 4);
    }

    /// After a change the cuts fall in step again: what lies far behind it keeps its chunks.
    #[test]
    fn an_insertion_a_deletion_and_an_edit_leave_distant_chunks_alone() {
        let chunker = chunker(16 << 10);
        let data = testing::noise(1, 4 << 20);
        let before: std::collections::HashSet<Vec<u8>> = chunks(&chunker, &data).into_iter().collect();
        let middle = 2 << 20;
        let inserted = [&data[..middle], b"inserted", &data[middle..]].concat();
        let deleted = [&data[..middle], &data[middle + 5..]].concat();
        let mut edited = data.clone();
        edited[middle..middle + 100].fill(0);
        for changed in [inserted, deleted, edited] {
            let new = chunks(&chunker, &changed).into_iter().filter(|chunk| !before.contains(chunk)).count();
            assert!((1..=4).contains(&new), "{new} of {} chunks are new", before.len());
        }
    }

    fn chunks(chunker: &Chunker, data: &[u8]) -> Vec<Vec<u8>> {
        let mut offset = 0;
        let each = lengths(chunker, data).into_iter().map(|length| {
            offset += length;
            data[offset - length..offset].to_vec()
        });
        each.collect()
    }

    #[test]
    fn the_average_is_near_what_was_asked_for() {
        let count = lengths(&chunker(16 << 10), &testing::noise(2, 8 << 20)).len();
        assert!((8 << 20) / count > 12 << 10 && (8 << 20) / count < 28 << 10, "{count} chunks of 8 MiB");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn chunks_are_the_data_in_bounds_and_independent_of_reading(
            seed in any::<u64>(), length in 0..300_000_usize, step in 1..50_000_usize, compressible in any::<bool>()
        ) {
            let chunker = chunker(8 << 10);
            let data = if compressible { testing::text(seed, length) } else { testing::noise(seed, length) };
            let lengths = lengths(&chunker, &data);
            prop_assert_eq!(lengths.iter().sum::<usize>(), data.len());
            prop_assert!(lengths.iter().all(|length| *length <= 32 << 10));
            let whole = lengths.split_last().map_or(&[][..], |(_, whole)| whole);
            prop_assert!(whole.iter().all(|length| *length >= 2 << 10));
            prop_assert_eq!(lengths_by_reading(&chunker, &data, step), lengths);
        }
    }
}
