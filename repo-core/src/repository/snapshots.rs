//! Published snapshots: listing, reading, selecting.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{Repository, Selector, Snapshot, SnapshotFilter, SnapshotList, doubled};
use crate::backend::{Listed, Prefix, Put, Span};
use crate::error::{Corruption, Error, Result};
use crate::format::gc::Forgotten;
use crate::format::header::ObjectType;
use crate::format::keyring::Purpose;
use crate::format::snapshot::SnapshotRecord;
use crate::id::{Doubled, ObjectName, SeriesId, SnapshotId};
use crate::seal;
use crate::store::gc::{self, Cell};
use crate::store::refuse_mirror;

impl Repository {
    /// All snapshots that pass the filter. One that cannot be read is named, and not in the way of the others.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new().host("laptop").tag("nightly"), &Silent)?;
    /// let list = repository.snapshots(&SnapshotFilter::new().host("laptop").tag("nightly"))?;
    /// for snapshot in &list.snapshots {
    ///     println!("{} of {:?}", snapshot.id().short(), snapshot.record().paths);
    /// }
    /// assert_eq!(list.snapshots.len(), 1);
    /// assert!(list.unreadable.is_empty());
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn snapshots(&self, filter: &SnapshotFilter) -> Result<SnapshotList> {
        let Published { mut snapshots, unreadable } = self.published()?;
        snapshots.retain(|(snapshot, forgotten)| forgotten.is_none() && filter.matches(&snapshot.record));
        let mut snapshots: Vec<Snapshot> = snapshots.into_iter().map(|(snapshot, _)| snapshot).collect();
        snapshots.sort_by_key(|snapshot| order(&snapshot.record));
        Ok(SnapshotList { snapshots, unreadable })
    }

    /// Every snapshot that was published and is still there, with its forget record if it has one.
    pub(crate) fn published(&self) -> Result<Published> {
        let mut published = Published { snapshots: Vec::new(), unreadable: Vec::new() };
        let ids = self.snapshot_ids()?;
        let mut forgotten = self.forgotten_ids()?;
        for id in ids {
            let record = if forgotten.remove(&id) { self.forget_record(id, &mut published.unreadable)? } else { None };
            match self.read_published(id) {
                Ok(Some(snapshot)) => published.snapshots.push((snapshot, record)),
                // A fence, or gone since it was listed.
                Ok(None) | Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {}
                Err(error @ Error::Corrupt { .. }) => published.unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(published)
    }

    /// The ids that have a forget record, whether or not the snapshot is still there.
    pub(crate) fn forgotten_ids(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut ids = BTreeSet::new();
        self.inner.backend.list(Prefix::Forgotten, &mut |listed| {
            if let Listed::Object { name: ObjectName::Forgotten(id), .. } = listed {
                ids.insert(id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(ids)
    }

    /// A forget record that cannot be read hides nothing and expires nothing; it is named.
    fn forget_record(&self, id: SnapshotId, unreadable: &mut Vec<Error>) -> Result<Option<Forgotten>> {
        match self.read_forgotten(id) {
            Ok(record) => Ok(Some(record)),
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => Ok(None),
            Err(error @ Error::Corrupt { .. }) => {
                unreadable.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the forget record of a snapshot.
    pub(crate) fn read_forgotten(&self, id: SnapshotId) -> Result<Forgotten> {
        let name = ObjectName::Forgotten(id);
        let bytes = match self.inner.backend.get(&name, Span::All) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Err(Corruption::Missing.of(name)),
            Err(error) => return Err(error.into()),
        };
        seal::open_box(&self.inner.keys, Purpose::GcMark, ObjectType::Forgotten, &name, &bytes)
            .and_then(|payload| Forgotten::decode(&payload))
            .and_then(|record| match record.snapshot == id {
                true => Ok(record),
                false => Err(Corruption::Malformed("a forget record under another's name")),
            })
            .map_err(|problem| problem.of(name))
    }

    /// Writes the forget record of a snapshot: from then on it is not shown. Harmless if it has one.
    pub(crate) fn write_forgotten(&self, record: &Forgotten) -> Result<()> {
        refuse_mirror(self.inner.backend.as_ref())?;
        let name = ObjectName::Forgotten(record.snapshot);
        let keys = &self.inner.keys;
        let payload = record.encode();
        let writer = &record.snapshot.0;
        let bytes = seal::seal_box(keys, Purpose::GcMark, ObjectType::Forgotten, &name, writer, &payload)?;
        match self.inner.backend.put_new(&name, bytes.into())? {
            Put::Created | Put::Exists(_) => Ok(()),
            Put::Unknown => self.read_forgotten(record.snapshot).map(drop),
        }
    }

    /// The snapshot that the selector means, among those that pass the filter; the filter does not matter for an id.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], [`Error::AmbiguousSnapshot`]; [`Error::Corrupt`] if the one meant cannot be read, or if
    /// one that cannot be read might be the newest.
    ///
    /// # Example
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, Error, Selector, Silent, SnapshotFilter};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new().time_ns(1_000), &Silent)?;
    /// let any = SnapshotFilter::new();
    /// let newest = repository.snapshot(&Selector::Latest { back: 0 }, &any)?;
    /// let same = repository.snapshot(&newest.id().short()[..8].parse()?, &any)?;
    /// assert_eq!(newest, same);
    ///
    /// // As it was at a time: the newest whose reading had ended by then.
    /// assert_eq!(repository.snapshot(&Selector::At { time_ns: 2_000 }, &any)?, newest);
    /// assert!(matches!(repository.snapshot(&Selector::At { time_ns: 999 }, &any), Err(Error::NoSnapshot { .. })));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn snapshot(&self, selector: &Selector, filter: &SnapshotFilter) -> Result<Snapshot> {
        let none = || Error::NoSnapshot { selector: selector.to_string() };
        if let Selector::Id(prefix) = selector {
            let mut matching = self.snapshot_ids()?;
            matching.retain(|id| id.matches(prefix));
            if !matching.is_empty() {
                let forgotten = self.forgotten_ids()?;
                let mut unreadable = Vec::new();
                let mut hidden = BTreeSet::new();
                for id in matching.iter().filter(|id| forgotten.contains(id)) {
                    if self.forget_record(*id, &mut unreadable)?.is_some() {
                        hidden.insert(*id);
                    }
                }
                matching.retain(|id| !hidden.contains(id));
            }
            return match matching.as_slice() {
                [] => Err(none()),
                [id] => self.read_published(*id)?.ok_or_else(none),
                many => Err(Error::AmbiguousSnapshot { prefix: prefix.clone(), candidates: many.len() }),
            };
        }
        let list = self.snapshots(filter)?;
        let mut snapshots = list.snapshots;
        // Who restores the newest must not get half of it without a word.
        snapshots.retain(|snapshot| !snapshot.is_partial());
        let chosen = match selector {
            Selector::Latest { back } => {
                snapshots.len().checked_sub(back + 1).map(|position| snapshots.swap_remove(position))
            }
            Selector::At { time_ns } => snapshots.into_iter().rfind(|snapshot| snapshot.record.end_ns <= *time_ns),
            Selector::Id(_) => None,
        };
        match (chosen, list.unreadable.into_iter().next()) {
            (None, Some(error)) => Err(error),
            (chosen, _) => chosen.ok_or_else(none),
        }
    }

    /// The snapshots of one series, newest last, in the order in which they were begun.
    pub fn series(&self, series: SeriesId) -> Result<Vec<Snapshot>> {
        let mut snapshots = self.snapshots(&SnapshotFilter::default())?.snapshots;
        snapshots.retain(|snapshot| snapshot.record.series == series);
        snapshots.sort_by_key(|snapshot| (snapshot.record.sequence, snapshot.id()));
        Ok(snapshots)
    }

    /// BLAKE3 of a snapshot's stored object.
    pub(crate) fn snapshot_digest(&self, id: SnapshotId) -> Result<[u8; 32]> {
        let name = Doubled::Snapshot(id);
        doubled::get(self.inner.backend.as_ref(), name, |bytes| {
            gc::open_cell(&self.inner.keys, id, bytes).map(|_| *blake3::hash(bytes).as_bytes())
        })
    }

    /// The names of all snapshots, of either copy.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let names = doubled::list(self.inner.backend.as_ref(), Prefix::Snapshots)?;
        Ok(names
            .into_iter()
            .filter_map(|name| if let Doubled::Snapshot(id) = name { Some(id) } else { None })
            .collect())
    }

    /// Reads what is under a snapshot's name, from either copy; `None`: a fence, from which no snapshot ever comes.
    pub(crate) fn read_published(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        let name = Doubled::Snapshot(id);
        let cell = doubled::get(self.inner.backend.as_ref(), name, |bytes| gc::open_cell(&self.inner.keys, id, bytes))?;
        Ok(match cell {
            Cell::Snapshot(record) => Some(Snapshot { record: *record }),
            Cell::Tombstone | Cell::Empty => None,
        })
    }
}

/// What is under the snapshots' names.
pub(crate) struct Published {
    /// Ascending by id.
    pub snapshots: Vec<(Snapshot, Option<Forgotten>)>,
    /// Snapshots and forget records that cannot be read.
    pub unreadable: Vec<Error>,
}

/// Newest last.
fn order(record: &SnapshotRecord) -> (i64, u64, SnapshotId) {
    (record.end_ns, record.sequence, record.id)
}
