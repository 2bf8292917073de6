//! Backup: source ⋈ parent. What is new is read, cut, named, sealed; then the tree is published.

use crate::error::Result;
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::{Repository, Snapshot};
use crate::walk::Source;

/// What a backup is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// With the newest of its series.
    #[default]
    Incremental,
    /// With the last full of its series.
    Differential,
    /// With nothing: every byte is read.
    Full,
    /// With this one.
    Parent(SnapshotId),
}

/// How a backup is made. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    pub mode: Mode,
    pub host: String,
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    pub tags: Vec<String>,
    /// Recorded as given; the source applies them.
    pub excludes: Vec<String>,
    /// The snapshot's time, in nanoseconds since 1970 UTC; `None`: the clock.
    pub time_ns: Option<i64>,
    /// East of Greenwich.
    pub zone_minutes: i16,
    /// Read and compare, store nothing.
    pub dry_run: bool,
    /// Publish nothing if the tree is the parent's.
    pub skip_if_unchanged: bool,
    /// Open every frame again before it leaves (default).
    pub verify: bool,
    /// Compare without inode numbers (file systems that make them up).
    pub ignore_inode: bool,
    /// Compare without ctime.
    pub ignore_ctime: bool,
    /// Record access times.
    pub with_atime: bool,
    /// The name of the program, for the record.
    pub program: String,
    /// Bytes of plaintext under way at once.
    pub memory_bytes: usize,
    /// zstd level instead of the repository's.
    pub level: Option<i8>,
    /// The series' name instead of host and paths.
    pub series: Option<String>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Incremental,
            host: String::new(),
            user: String::new(),
            uid: 0,
            gid: 0,
            tags: Vec::new(),
            excludes: Vec::new(),
            time_ns: None,
            zone_minutes: 0,
            dry_run: false,
            skip_if_unchanged: false,
            verify: true,
            ignore_inode: false,
            ignore_ctime: false,
            with_atime: false,
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned(),
            memory_bytes: 32 << 20,
            level: None,
            series: None,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackupReport {
    /// `None` for a dry run, or if nothing changed and that was to be skipped.
    pub snapshot: Option<Snapshot>,
    pub parent: Option<SnapshotId>,
    pub summary: crate::format::snapshot::Summary,
    /// Metadata's share of `summary.added_bytes` and `summary.stored_bytes`.
    pub added_meta_bytes: u64,
    pub stored_meta_bytes: u64,
    pub start_ns: i64,
    pub end_ns: i64,
}

impl Repository {
    /// Backs up `source` and publishes a snapshot of it.
    pub fn backup(
        &self,
        _source: &dyn Source,
        _options: &BackupOptions,
        _progress: &dyn Progress,
    ) -> Result<BackupReport> {
        todo!()
    }
}
