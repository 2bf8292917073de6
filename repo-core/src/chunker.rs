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
