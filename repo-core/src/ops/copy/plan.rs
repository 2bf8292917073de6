//! Which snapshot goes where, and what its copy records.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{CopyTarget, PresentCopy, mapped};
use crate::error::{Error, Result};
use crate::format::snapshot::{SnapshotRecord, Summary};
use crate::id::{SeriesId, SnapshotId};
use crate::repository::{Repository, Snapshot, SnapshotFilter};

/// What is to be done.
pub struct Plan<'r> {
    source: &'r Repository,
    /// All that the source has, oldest first.
    sources: Vec<Snapshot>,
    pub targets: Vec<Target<'r>>,
    /// What some target lacks, oldest first, with the targets that lack it.
    pub todo: Vec<(Snapshot, Vec<usize>)>,
}

/// A target and what it has.
pub struct Target<'r> {
    pub repository: &'r Repository,
    snapshots: BTreeMap<SnapshotId, Snapshot>,
    /// By the snapshot in the source.
    copies: HashMap<SnapshotId, SnapshotId>,
    present: Vec<PresentCopy>,
}

impl<'r> Plan<'r> {
    /// Looks at all targets.
    pub fn make(source: &'r Repository, targets: &[&'r Repository], snapshots: &[Snapshot]) -> Result<Self> {
        let mut ordered: Vec<&Snapshot> = snapshots.iter().collect();
        ordered.sort_by_key(|snapshot| (snapshot.record.end_ns, snapshot.record.sequence, snapshot.id()));
        let mut seen = HashSet::new();
        ordered.retain(|snapshot| seen.insert(snapshot.id()));
        let mut targets =
            targets.iter().map(|repository| Target::of(repository, &ordered)).collect::<Result<Vec<_>>>()?;
        let mut todo = Vec::new();
        for snapshot in ordered {
            let mut lacking = Vec::new();
            for (number, target) in targets.iter_mut().enumerate() {
                match target.copies.get(&snapshot.id()) {
                    Some(copy) => target.present.push(PresentCopy { source: snapshot.id(), copy: *copy }),
                    None => lacking.push(number),
                }
            }
            if !lacking.is_empty() {
                todo.push((snapshot.clone(), lacking));
            }
        }
        let sources = source.snapshots(&SnapshotFilter::default())?.snapshots;
        Ok(Self { source, sources, targets, todo })
    }

    /// The newest snapshot of the same series of which a target has a copy, and that copy.
    pub fn base(&self, series: SeriesId, number: usize) -> Option<(&Snapshot, &Snapshot)> {
        let target = &self.targets[number];
        let of_series = self.sources.iter().rev().filter(|snapshot| snapshot.record.series == series);
        let mut pairs = of_series.filter_map(|base| {
            let copy = target.copies.get(&base.id()).and_then(|id| target.snapshots.get(id))?;
            Some((base, copy))
        });
        pairs.next()
    }

    /// What the copy of a snapshot records in a target. Its root and id are set when it is published.
    pub fn record(&self, snapshot: &Snapshot, number: usize, summary: Summary) -> Result<SnapshotRecord> {
        let target = &self.targets[number];
        let repository = target.repository;
        let record = &snapshot.record;
        let series = target.series(self.source, record);
        let newest = target.newest(series);
        let sequence = newest.map_or(Ok(0), |newest| {
            newest
                .record
                .sequence
                .checked_add(1)
                .ok_or(Error::Malformed("a snapshot with the last possible sequence number"))
        })?;
        Ok(SnapshotRecord {
            series,
            sequence,
            lineage: mapped(record.lineage, |id| target.copies.get(&id).copied()),
            origin: Some(record.id),
            parent_digest: newest.map_or(Ok([0; 32]), |newest| repository.snapshot_digest(newest.id()))?,
            config_generation: repository.config().generation,
            keyring_generation: repository.inner.keyring_generation,
            summary,
            ..record.clone()
        })
    }
}

impl<'r> Target<'r> {
    fn of(repository: &'r Repository, wanted: &[&Snapshot]) -> Result<Self> {
        let list = repository.snapshots(&SnapshotFilter::default())?.snapshots;
        let mut copies = HashMap::new();
        let by_origin: HashMap<SnapshotId, &Snapshot> =
            list.iter().filter_map(|copy| Some((copy.record.origin?, copy))).collect();
        for source in wanted {
            let found = by_origin.get(&source.id()).copied().or_else(|| {
                // It may have come from there, or both from a third place.
                list.iter().find(|other| {
                    is_relative(&other.record, &source.record) && says_the_same(&other.record, &source.record)
                })
            });
            if let Some(copy) = found {
                copies.insert(source.id(), copy.id());
            }
        }
        for (origin, copy) in by_origin {
            copies.entry(origin).or_insert(copy.id());
        }
        let snapshots = list.into_iter().map(|snapshot| (snapshot.id(), snapshot)).collect();
        Ok(Self { repository, snapshots, copies, present: Vec::new() })
    }

    /// The beginnings of its report.
    pub fn report(&self) -> CopyTarget {
        CopyTarget {
            repository: self.repository.id(),
            copied: Vec::new(),
            present: self.present.clone(),
            added_bytes: 0,
            stored_bytes: 0,
        }
    }

    /// One more copy.
    pub fn add(&mut self, copy: Snapshot) {
        if let Some(origin) = copy.record.origin {
            self.copies.insert(origin, copy.id());
        }
        self.snapshots.insert(copy.id(), copy);
    }

    fn newest(&self, series: SeriesId) -> Option<&Snapshot> {
        let of_series = self.snapshots.values().filter(|snapshot| snapshot.record.series == series);
        of_series.max_by_key(|snapshot| (snapshot.record.sequence, snapshot.id()))
    }

    /// The series that backups of the same host and paths have here, so that they go on from the copies; unless there are newer
    /// ones, which go on from their own. Names of series are secrets of each repository: one that the user named cannot be
    /// translated, and gets a series of copies.
    fn series(&self, source: &Repository, record: &SnapshotRecord) -> SeriesId {
        let mut paths = record.paths.clone();
        paths.sort_unstable();
        let label = [b"paths\0".as_slice(), record.host.as_bytes(), b"\0", &paths.join(&0)].concat();
        let (there, here) = (&source.inner.keys, &self.repository.inner.keys);
        let series = here.series(&label);
        let is_newest = self.newest(series).is_none_or(|newest| newest.record.end_ns <= record.end_ns);
        match there.series(&label) == record.series && is_newest {
            true => series,
            false => here.series(&[b"copy\0".as_slice(), &record.series.0].concat()),
        }
    }
}

/// Whether one comes from the other, or both from the same.
fn is_relative(copy: &SnapshotRecord, source: &SnapshotRecord) -> bool {
    source.origin == Some(copy.id) || source.origin.is_some() && source.origin == copy.origin
}

/// Whether a user would take them for the same. A retagged snapshot comes from another too, and is none of its copies.
fn says_the_same(copy: &SnapshotRecord, source: &SnapshotRecord) -> bool {
    let said = |record: &SnapshotRecord| {
        let mut tags = record.tags.clone();
        tags.sort_unstable();
        (record.start_ns, record.end_ns, record.host.clone(), record.paths.clone(), tags, record.flags)
    };
    said(copy) == said(source) && (copy.root.entries, copy.root.bytes) == (source.root.entries, source.root.bytes)
}
