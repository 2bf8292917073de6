//! What a backup is compared with, and its place in its series. Provenance only: every snapshot is complete.

use std::collections::BTreeSet;

use super::{Alike, BackupOptions, Mode};
use crate::error::{Corruption, Error, Result};
use crate::format::snapshot::LineageRecord;
use crate::id::SeriesId;
use crate::repository::{Repository, Selector, Snapshot, SnapshotFilter};
use crate::walk::Source;

/// A backup's place among the others.
pub struct Lineage {
    pub series: SeriesId,
    pub sequence: u64,
    pub kind: LineageRecord,
    /// Whose tree the source is compared with; `None`: everything is read.
    pub parent: Option<Snapshot>,
    /// A partial one that is newer than the parent: what is in it need not be read again either.
    pub resumed: Option<Snapshot>,
    /// BLAKE3 of the stored object of the series' newest snapshot; zeros for a first one.
    pub newest_digest: [u8; 32],
}

impl Lineage {
    /// Looks at the snapshots of the source's series.
    pub fn find(repository: &Repository, source: &dyn Source, options: &BackupOptions) -> Result<Self> {
        let series = repository.inner.keys.series(&label(source, options));
        let mut known = repository.series(series)?;
        let newest_digest = newest_digest(repository, &mut known)?;
        let newest = known.last();
        let alike = match options.alike {
            Some(alike) => Some(all_alike(repository, source, options, alike)?),
            None => None,
        };
        let candidates = alike.as_ref().unwrap_or(&known);
        // A partial one lacks most of the source, so the last complete one is compared with as ever. Where there is none, half
        // is better than nothing.
        let complete = || candidates.iter().rev().filter(|snapshot| !snapshot.is_partial());
        let partial = || candidates.last().filter(|newest| newest.is_partial());
        let parent = match &options.mode {
            Mode::Full => None,
            Mode::Incremental => complete().next().or_else(partial).cloned(),
            Mode::Differential => complete().find(|snapshot| snapshot.record.lineage == LineageRecord::Full).cloned(),
            Mode::Parent(id) => Some(repository.snapshot(&Selector::Id(id.to_string()), &SnapshotFilter::default())?),
        };
        let is_incremental = options.mode == Mode::Incremental;
        let resumed = partial().filter(|newest| is_incremental && parent.as_ref() != Some(*newest)).cloned();
        let kind = match (&options.mode, &parent) {
            (_, None) => LineageRecord::Full,
            (Mode::Differential, Some(base)) => LineageRecord::Differential { base: base.id() },
            (_, Some(parent)) => LineageRecord::Incremental { parent: parent.id() },
        };
        let sequence = newest.map_or(Ok(0), |newest| newest.record.sequence.checked_add(1).ok_or(LAST))?;
        Ok(Self { series, sequence, kind, parent, resumed, newest_digest })
    }
}

/// Of the newest that is still there: what was forgotten may have been taken by a prune since it was listed.
fn newest_digest(repository: &Repository, known: &mut Vec<Snapshot>) -> Result<[u8; 32]> {
    while let Some(newest) = known.last() {
        match repository.snapshot_digest(newest.id()) {
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => known.pop(),
            digest => return digest,
        };
    }
    Ok([0; 32])
}

const LAST: Error = Error::Malformed("a snapshot with the last possible sequence number");

/// The snapshots that have this in common with the backup, newest last.
fn all_alike(
    repository: &Repository,
    source: &dyn Source,
    options: &BackupOptions,
    alike: Alike,
) -> Result<Vec<Snapshot>> {
    let sorted = |list: &[String]| BTreeSet::from_iter(list.iter().cloned());
    let (paths, tags) = (BTreeSet::from_iter(source.paths()), sorted(&options.tags));
    let mut snapshots = repository.snapshots(&SnapshotFilter::default())?.snapshots;
    snapshots.retain(|Snapshot { record }| {
        (!alike.host || record.host == options.host)
            && (!alike.paths || BTreeSet::from_iter(record.paths.iter().cloned()) == paths)
            && (!alike.tags || sorted(&record.tags) == tags)
    });
    Ok(snapshots)
}

/// Host and paths, or the name that the caller gave; unambiguous, since hosts and paths have no NUL.
fn label(source: &dyn Source, options: &BackupOptions) -> Vec<u8> {
    match &options.series {
        Some(name) => [b"name\0", name.as_bytes()].concat(),
        None => {
            let mut paths = source.paths();
            paths.sort_unstable();
            [b"paths\0".as_slice(), options.host.as_bytes(), b"\0", &paths.join(&0)].concat()
        }
    }
}
