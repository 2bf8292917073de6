//! Check: looks, names what is wrong and what it touches, changes nothing.

mod packs;
mod parity;
mod trees;

use std::collections::HashSet;

use crate::backend::Prefix;
use crate::error::{Corruption, Error, Result};
use crate::id::{ObjectName, PackId, SnapshotId};
use crate::pipeline;
use crate::progress::{Event, Progress};
use crate::repository::{Repository, SnapshotFilter};

use crate::store::Index;

use trees::Trees;

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
    /// Snapshots whose trees were looked at.
    pub snapshots: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Chunks that are stored.
    pub chunks: u64,
    /// Stored bytes read.
    pub read_bytes: u64,
    /// Packs that are damaged or missing.
    pub damaged_packs: Vec<PackId>,
    /// Snapshots that refer to something lost.
    pub damaged_snapshots: Vec<SnapshotId>,
}

impl CheckOptions {
    /// Names, index, small objects and trees; data packs by their names and sizes alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads every pack, opens every frame and names every chunk again.
    pub fn read_data(mut self) -> Self {
        self.read_data = true;
        self
    }
}

impl CheckReport {
    /// Whether everything looked at is whole.
    pub fn is_whole(&self) -> bool {
        self.errors.is_empty()
    }
}

impl Repository {
    /// Checks names and index, the small objects in both copies, all trees, and with `read_data` every byte.
    ///
    /// What is wrong is in the report. An error is returned only if the check itself could not go on: the place does
    /// not answer, or it was cancelled.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, CheckOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let report = repository.check(&CheckOptions::new().read_data(), &Silent)?;
    /// for error in &report.errors {
    ///     eprintln!("{error}");
    /// }
    /// assert!(report.is_whole());
    /// assert_eq!(report.snapshots, 1);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn check(&self, options: &CheckOptions, progress: &dyn Progress) -> Result<CheckReport> {
        pipeline::guarded(|| self.check_all(options, progress))
    }

    fn check_all(&self, options: &CheckOptions, progress: &dyn Progress) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        progress.report(Event::Stage { name: "small objects" });
        let small = self.check_small_objects(&mut report.notes)?;
        report.errors.extend(small);
        self.note_sessions(&mut report)?;
        // Snapshots before the index: the other way round, one that is published meanwhile could seem to lack chunks
        // (invariant 6).
        let list = self.snapshots(&SnapshotFilter::default())?;
        progress.report(Event::Stage { name: "packs and index" });
        let parity_names: Vec<_> = self.objects(Prefix::Parity)?.into_iter().map(|(name, _)| name).collect();
        let store = self.fresh_store()?;
        let view = store.view();
        let mut damaged = HashSet::new();
        packs::check_index(&view, &mut report, &mut damaged);
        if options.read_data {
            progress.report(Event::Stage { name: "data" });
            packs::read_all(&store, &view, self.inner.threads, progress, &mut report, &mut damaged)?;
        }
        self.check_parity(&parity_names, &view, options, progress, &mut report)?;
        report.packs = view.report().listed_packs.len() as u64;
        report.chunks = view.chunk_count() as u64;
        progress.report(Event::Stage { name: "trees" });
        let mut trees = Trees::new(&store, &view, &damaged, progress);
        for snapshot in &list.snapshots {
            if !trees.check(&snapshot.record, &mut report.errors)? {
                report.damaged_snapshots.push(snapshot.id());
            }
        }
        report.snapshots = list.snapshots.len() as u64;
        // Those that cannot be read were named with the small objects.
        report.damaged_snapshots.extend(list.unreadable.iter().filter_map(|error| match error {
            Error::Corrupt { object: ObjectName::Snapshot(id), .. } => Some(*id),
            _ => None,
        }));
        report.damaged_packs = damaged.into_iter().collect();
        report.damaged_packs.sort_unstable();
        Ok(report)
    }

    fn check_parity(
        &self,
        names: &[ObjectName],
        view: &Index,
        options: &CheckOptions,
        progress: &dyn Progress,
        report: &mut CheckReport,
    ) -> Result<()> {
        let mut found = parity::Found::default();
        parity::check_names(names, |pack| view.report().listed_packs.contains_key(pack), &mut found);
        if options.read_data {
            parity::read_all(self.inner.backend.as_ref(), names, self.inner.threads, progress, &mut found)?;
        }
        report.errors.append(&mut found.errors);
        report.notes.append(&mut found.notes);
        report.read_bytes += found.read_bytes;
        Ok(())
    }

    fn note_sessions(&self, report: &mut CheckReport) -> Result<()> {
        let mut sessions = Vec::new();
        self.inner.backend.list(Prefix::Sessions, &mut |listed| {
            if let crate::backend::Listed::Object { name: ObjectName::Session(id), .. } = listed {
                sessions.push(id);
            }
            std::ops::ControlFlow::Continue(())
        })?;
        for id in sessions {
            match self.read_session(id) {
                Ok(session) => report.notes.push(format!(
                    "session {} of {} (process {}) is under way, or was cut off; that harms nothing",
                    id.short(),
                    session.host,
                    session.process
                )),
                Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {}
                Err(error @ Error::Corrupt { .. }) => report.errors.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
