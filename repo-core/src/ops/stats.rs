//! How much there is: what snapshots restore to, how many different contents and chunks they have, what those take in packs,
//! and what of it each snapshot has alone. Each node of a tree is read once or twice, however many snapshots share it.

mod sizes;

use sizes::{Contents, Sizes};

use crate::error::{Error, Result};
use crate::id::{ChunkKind, SnapshotId};
use crate::ops::lookup::owners::{Owner, Owners};
use crate::progress::Progress;
use crate::repository::{Repository, Snapshot, SnapshotFilter};
use crate::store::{Index, Store};
use crate::tree;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StatsMode {
    /// What a restore of each snapshot writes: every entry, and the bytes of files, those with several names once.
    #[default]
    RestoreSize,
    /// Files that differ in content, whatever they are called.
    FilesByContents,
    /// Chunks of the files that differ in content, counted once for each path.
    ChunksPerFile,
    /// What the snapshots refer to, in packs.
    RawData,
}

/// What was counted. Sizes are bytes.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StatsReport {
    /// Each snapshot, in the order of the question.
    pub snapshots: Vec<SnapshotStats>,
    /// Of all of them, in the sense of the mode.
    pub total_bytes: u64,
    /// Entries or files, in the sense of the mode; 0 where files are not what is counted.
    pub total_files: u64,
    /// Chunks; 0 where they are not what is counted.
    pub total_chunks: u64,
    /// Only of [`StatsMode::RawData`].
    pub raw: Option<RawStats>,
    /// Parts of trees that could not be read: what is below them is not counted.
    pub problems: Vec<Error>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Which one.
    pub id: SnapshotId,
    /// Entries of all kinds, at every depth.
    pub entries: u64,
    /// What a restore writes: a file with several names counts once.
    pub restore_bytes: u64,
    /// What no other snapshot of the repository refers to, in stored bytes: what would come back if this one went. Only of
    /// [`StatsMode::RawData`], and of no more than 65,533 snapshots.
    pub unique_bytes: Option<u64>,
}

/// What the snapshots refer to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawStats {
    /// What it takes in packs: each chunk's part of its frame, in every place that it has.
    pub stored_bytes: u64,
    /// The chunks themselves, each once.
    pub plain_bytes: u64,
    /// Of these, content of files.
    pub content_bytes: u64,
    /// What would be restored of all the snapshots together.
    pub restore_bytes: u64,
}

impl RawStats {
    /// How many times the stored size the chunks have; 1 of nothing.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.plain_bytes, self.stored_bytes)
    }

    /// How many times its content, kept once, the snapshots restore to; 1 of nothing. Small files lie in their directories:
    /// they count as if they were not there.
    pub fn deduplication_ratio(&self) -> f64 {
        ratio(self.restore_bytes, self.content_bytes)
    }
}

fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 1.0 } else { of as f64 / to as f64 }
}

impl Repository {
    /// Counts what these snapshots have.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, Silent, SnapshotFilter, StatsMode};
    ///
    /// # let source = || ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// repository.backup(&source(), &BackupOptions::new(), &Silent)?;
    /// repository.backup(&source(), &BackupOptions::new(), &Silent)?;
    /// let snapshots = repository.snapshots(&SnapshotFilter::new())?.snapshots;
    /// let restored = repository.stats(&snapshots, StatsMode::RestoreSize, &Silent)?;
    /// assert_eq!((restored.total_files, restored.total_bytes), (2, 16));
    /// let contents = repository.stats(&snapshots, StatsMode::FilesByContents, &Silent)?;
    /// assert_eq!((contents.total_files, contents.total_bytes), (1, 8));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the place does not answer; [`Error::Cancelled`]. Trees that cannot be read are in [`StatsReport::problems`].
    pub fn stats(&self, snapshots: &[Snapshot], mode: StatsMode, progress: &dyn Progress) -> Result<StatsReport> {
        // Snapshots before the index: the other way round could miss a new pack (invariant 6).
        let others = match mode {
            StatsMode::RawData => self.others(snapshots)?,
            _ => Vec::new(),
        };
        let store = self.fresh_store()?;
        let mut report = StatsReport::default();
        let contents = match mode {
            StatsMode::RestoreSize | StatsMode::RawData => Contents::NotCounted,
            StatsMode::FilesByContents => Contents::by_content(),
            StatsMode::ChunksPerFile => Contents::by_chunk(),
        };
        let mut sizes = Sizes::new(&store, contents, progress);
        for snapshot in snapshots {
            let root = snapshot.record().root.tree;
            if let Some(root) = &root {
                tree::measure(&store, root, &mut sizes)?;
            }
            let (entries, restore_bytes) = root.map_or((0, 0), |root| sizes.of(&root));
            report.snapshots.push(SnapshotStats { id: snapshot.id(), entries, restore_bytes, unique_bytes: None });
        }
        report.problems = std::mem::take(&mut sizes.problems);
        let restore_bytes = report.snapshots.iter().map(|one| one.restore_bytes).fold(0, u64::saturating_add);
        match mode {
            StatsMode::RestoreSize => {
                report.total_bytes = restore_bytes;
                report.total_files = report.snapshots.iter().map(|one| one.entries).fold(0, u64::saturating_add);
            }
            StatsMode::FilesByContents | StatsMode::ChunksPerFile => {
                let counted = sizes.counted();
                (report.total_bytes, report.total_files) = (counted.bytes, counted.files);
                report.total_chunks = counted.chunks;
            }
            StatsMode::RawData => add_raw(&store, snapshots, &others, restore_bytes, &mut report, progress)?,
        }
        Ok(report)
    }

    /// The snapshots that are not among these.
    fn others(&self, snapshots: &[Snapshot]) -> Result<Vec<Snapshot>> {
        let mut others = self.snapshots(&SnapshotFilter::default())?.snapshots;
        others.retain(|other| snapshots.iter().all(|snapshot| snapshot.id() != other.id()));
        Ok(others)
    }
}

fn add_raw(
    store: &Store,
    snapshots: &[Snapshot],
    others: &[Snapshot],
    restore_bytes: u64,
    report: &mut StatsReport,
    progress: &dyn Progress,
) -> Result<()> {
    let view = store.view();
    let mut owners = Owners::new(&view, progress);
    for (place, snapshot) in snapshots.iter().enumerate() {
        owners.add(store, snapshot, Owner::Counted(place))?;
    }
    let (raw, chunks) = raw(&view, &owners, restore_bytes);
    for other in others {
        owners.add(store, other, Owner::Kept)?;
    }
    let bytes = owners.bytes();
    for (place, one) in report.snapshots.iter_mut().enumerate() {
        one.unique_bytes = bytes.unique(place);
    }
    // The first walk met the same: named once.
    if report.problems.is_empty() {
        report.problems = owners.problems;
    }
    (report.total_bytes, report.total_chunks) = (raw.stored_bytes, chunks);
    report.raw = Some(raw);
    Ok(())
}

/// What is referred to by now, and how many chunks that are.
fn raw(view: &Index, owners: &Owners<'_>, restore_bytes: u64) -> (RawStats, u64) {
    let mut raw = RawStats { restore_bytes, ..RawStats::default() };
    let mut chunks = 0;
    for number in owners.referred() {
        let (kind, _, length) = view.chunk(number);
        chunks += 1;
        raw.stored_bytes += view.stored_bytes(number);
        raw.plain_bytes += u64::from(length);
        if kind == ChunkKind::Data {
            raw.content_bytes += u64::from(length);
        }
    }
    (raw, chunks)
}

#[cfg(test)]
mod tests;
