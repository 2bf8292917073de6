//! Check: looks, names what is wrong and what it touches, changes nothing.

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::Repository;

/// How deep to look.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Decode every pack and recompute every id.
    pub read_data: bool,
}

/// What a check found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Each damaged or missing object, named.
    pub errors: Vec<Error>,
    /// Harmless: foreign names, packs that no index names, sessions left by a crash.
    pub notes: Vec<String>,
    pub snapshots: u64,
    pub packs: u64,
    pub chunks: u64,
    /// Stored bytes read.
    pub read_bytes: u64,
    /// Packs that are damaged or missing.
    pub damaged_packs: Vec<crate::id::PackId>,
    /// Snapshots that refer to something lost.
    pub damaged_snapshots: Vec<crate::id::SnapshotId>,
}

impl Repository {
    /// Checks names and index, all trees, and with `read_data` every byte.
    pub fn check(&self, _options: &CheckOptions, _progress: &dyn Progress) -> Result<CheckReport> {
        todo!()
    }
}
