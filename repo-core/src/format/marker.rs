//! The object `format`: what makes a place a repository. Plaintext, 128 bytes, checksummed.

use crate::error::Corruption;
use crate::id::RepositoryId;

/// The object `format`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    pub min_reader: u32,
    pub repository: RepositoryId,
    pub created_ms: u64,
}

impl Marker {
    pub fn encode(&self) -> [u8; 128] {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
