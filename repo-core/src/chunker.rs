//! FastCDC (Xia et al., ATC'16 and TPDS 2020) with the repository's own gear table. What a file is, is not known here.

use crate::format::config::ChunkerParameters;

/// Finds cut points. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Chunker {}

impl Chunker {
    /// Parameters must be valid ([`ChunkerParameters`] is checked when a config is decoded).
    pub fn new(_parameters: ChunkerParameters, _gear: &[u64; 256]) -> Self {
        todo!()
    }

    /// The longest chunk it makes.
    pub fn max_bytes(&self) -> usize {
        todo!()
    }

    /// The length of the first chunk of `data`. With fewer than `max_bytes()` bytes the end of `data` must be the end of
    /// what is cut: a cut at `data.len()` is then the tail.
    pub fn cut(&self, _data: &[u8]) -> usize {
        todo!()
    }
}
