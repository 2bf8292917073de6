//! The index, made to agree with the packs again.

use crate::crypto;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::pipeline;
use crate::platform::host;
use crate::progress::{Event, Progress};
use crate::repository::Repository;
use crate::store::refuse_mirror;
use crate::store::{self, IndexRepair};

/// How to repair the index.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairIndexOptions {
    /// Read every pack's table, and believe no index object.
    pub read_all_packs: bool,
    /// Say what would be done.
    pub dry_run: bool,
}

impl RepairIndexOptions {
    /// Reads the tables of those packs alone that the index objects do not speak of in full, or speak of in two ways.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads every pack's table, and believes no index object.
    pub fn read_all_packs(mut self) -> Self {
        self.read_all_packs = true;
        self
    }

    /// Says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl Repository {
    /// Makes new index objects for packs that no good one speaks of in full, and then removes those that are damaged, that a
    /// pack's own table denies, or that speak of packs which are gone.
    ///
    /// Safe beside anything else that runs: what is written comes first, and what other clients write meanwhile is not touched.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{Backend, BackupOptions, Prefix, RepairIndexOptions, Silent};
    ///
    /// # let notes = std::io::Cursor::new(b"buy milk, and more than fits into a node".repeat(99));
    /// # let source = ReaderSource::new("/notes".as_ref(), notes);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// // The index is lost...
    /// for (name, _) in repository.objects(Prefix::Indexes)? {
    ///     repository.backend().remove(&name)?;
    /// }
    /// // ...and comes back from the packs.
    /// let report = repository.repair_index(&RepairIndexOptions::new(), &Silent)?;
    /// assert_eq!(report.written, 1);
    /// assert_eq!(repository.objects(Prefix::Indexes)?.len(), 1);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the place does not answer. What is wrong with objects is in the report.
    pub fn repair_index(&self, options: &RepairIndexOptions, progress: &dyn Progress) -> Result<IndexRepair> {
        if !options.dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        pipeline::guarded(|| {
            progress.report(Event::Stage { name: "index" });
            let store = self.store()?;
            let writer = SnapshotId::new(host::now_ms(), crypto::random()?);
            let report = store::repair_index(&store, writer, options.read_all_packs, options.dry_run)?;
            if !options.dry_run {
                store.reload()?;
            }
            Ok(report)
        })
    }
}
