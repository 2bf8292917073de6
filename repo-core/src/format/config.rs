//! Parameters of a repository.

use serde::{Deserialize, Serialize};

use super::Extensions;
use crate::error::Corruption;

/// Payload of `config/<generation>`. Sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Config {
    pub generation: u64,
    pub previous_digest: [u8; 32],
    pub incompatible: u64,
    pub read_only_compatible: u64,
    pub compatible: u64,
    pub chunker: ChunkerParameters,
    pub frame: FrameParameters,
    /// zstd level.
    pub level: i8,
    pub pack_data_bytes: u32,
    pub pack_meta_bytes: u32,
    /// 0 none, 1 Padmé and quantum.
    pub padding: u8,
    /// Whether the place decides racing writes.
    pub put_if_absent: bool,
    pub label: String,
    pub extensions: Extensions,
}

/// FastCDC's parameters: powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// 1: FastCDC 2020 with the repository's own gear table.
    pub algorithm: u8,
    pub normalization: u8,
    pub min_bytes: u32,
    pub average_bytes: u32,
    pub max_bytes: u32,
}

/// How chunks are gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameParameters {
    /// A frame is closed once it holds this many plaintext bytes.
    pub target_bytes: u32,
    /// 0 none, 1 owner: frames are closed where the owner changes.
    pub isolation: u8,
}

impl Config {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
