//! A snapshot: a published tree with time, host, paths, tags and lineage. Complete in itself.

use serde::{Deserialize, Serialize};

use super::Extensions;
use crate::error::Corruption;
use crate::id::{ChunkId, SeriesId, SnapshotId};

/// Payload of `snapshots/<id>`. Times are nanoseconds since 1970 UTC; sizes bytes. Paths are raw bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub id: SnapshotId,
    pub series: SeriesId,
    /// The parent's sequence plus one; 0 for the first.
    pub sequence: u64,
    pub lineage: LineageRecord,
    /// Bit 0 pinned, bit 1 partial.
    pub flags: u32,
    pub origin: Option<SnapshotId>,
    /// BLAKE3 of the parent's stored object, or zeros.
    pub parent_digest: [u8; 32],
    pub config_generation: u64,
    pub keyring_generation: u64,
    pub start_ns: i64,
    pub end_ns: i64,
    /// East of Greenwich.
    pub zone_minutes: i16,
    pub host: String,
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    pub paths: Vec<Vec<u8>>,
    pub excludes: Vec<String>,
    pub tags: Vec<String>,
    pub program: String,
    pub root: Root,
    pub summary: Summary,
    pub extensions: Extensions,
}

/// What a snapshot was compared with. Provenance, never a data dependency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LineageRecord {
    Full,
    Incremental { parent: SnapshotId },
    Differential { base: SnapshotId },
}

/// The top of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// None: an empty top level.
    pub tree: Option<ChunkId>,
    /// Entries below, at every depth.
    pub entries: u64,
    /// Bytes of file content below.
    pub bytes: u64,
}

/// restic's counters, kept with the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub directories_new: u64,
    pub directories_changed: u64,
    pub directories_unmodified: u64,
    pub data_chunks: u64,
    pub tree_chunks: u64,
    /// Plaintext bytes of new chunks.
    pub added_bytes: u64,
    /// What they took in packs.
    pub stored_bytes: u64,
    pub read_bytes: u64,
    pub processed_files: u64,
    pub processed_bytes: u64,
    pub problems: u64,
}

impl SnapshotRecord {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
