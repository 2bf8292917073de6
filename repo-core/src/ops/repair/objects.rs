//! The small objects, each in both its copies again.

use crate::error::Result;
use crate::progress::{Event, Progress};
use crate::repository::{Mended, Repository};
use crate::store::refuse_mirror;

impl Repository {
    /// Writes a missing or damaged copy of a small object (the marker, key slots, keyrings, configs, snapshots) again from the
    /// other, which must be whole. With `dry_run` it says what it would write.
    ///
    /// A snapshot that was forgotten does not get a missing copy back: whoever reclaims space may have removed it a moment
    /// ago.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{Backend, CheckOptions, ObjectName, Silent};
    ///
    /// let marker: ObjectName = "format".parse().expect("a name of the grammar");
    /// repository.backend().remove(&marker)?;
    /// let report = repository.repair_objects(false, &Silent)?;
    /// assert_eq!(report.written, [marker]);
    /// assert!(repository.check(&CheckOptions::new(), &Silent)?.is_whole());
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the place does not answer. What cannot be brought back is in the report.
    pub fn repair_objects(&self, dry_run: bool, progress: &dyn Progress) -> Result<Mended> {
        if !dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        progress.report(Event::Stage { name: "small objects" });
        self.mend_small_objects(dry_run)
    }
}
