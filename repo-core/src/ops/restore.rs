//! Restore: destination ⋈ snapshot. Never writes outside the target, writes only what differs, metadata bottom-up.

use std::path::Path;

use crate::error::Result;
use crate::progress::Progress;
use crate::repository::{Repository, Snapshot};
use crate::walk::filter::Patterns;

/// What happens to what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overwrite {
    /// Every file is made as in the snapshot; its blocks are compared.
    #[default]
    Always,
    /// A file of the same size and mtime is taken as unchanged.
    IfChanged,
    /// Only older files are replaced.
    IfNewer,
    /// What exists stays.
    Never,
}

/// How a restore is made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// A directory or file of the snapshot, to restore instead of all; empty: all.
    pub subpath: Vec<u8>,
    pub overwrite: Overwrite,
    /// Patterns of which one must match, or none is given.
    pub include: Patterns,
    pub exclude: Patterns,
    /// Remove from the target what the snapshot has not (only inside restored directories; never what a filter leaves out).
    pub delete: bool,
    pub dry_run: bool,
    /// Read everything again and compare.
    pub verify: bool,
    /// Write zeros as holes too.
    pub sparse: bool,
    pub no_ownership: bool,
    pub no_xattrs: bool,
    pub no_special: bool,
    /// uid and gid by the names recorded, where this machine knows them.
    pub ownership_by_name: bool,
}

/// What a restore did. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    pub total_files: u64,
    pub total_bytes: u64,
    pub restored_files: u64,
    pub restored_bytes: u64,
    pub skipped_files: u64,
    pub skipped_bytes: u64,
    pub deleted_files: u64,
    pub verified_files: u64,
    /// Entries that could not be restored in full; each was an [`Event::Problem`](crate::Event::Problem).
    pub problems: u64,
}

impl Repository {
    /// Restores a snapshot below `target`, which is created if need be.
    pub fn restore(
        &self,
        _snapshot: &Snapshot,
        _target: &Path,
        _options: &RestoreOptions,
        _progress: &dyn Progress,
    ) -> Result<RestoreReport> {
        todo!()
    }
}
