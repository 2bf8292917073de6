//! Published snapshots: listing, reading, selecting.

use super::{Repository, Selector, Snapshot, SnapshotFilter, SnapshotList, doubled};
use crate::backend::Prefix;
use crate::error::{Corruption, Error, Result};
use crate::format::header::ObjectType;
use crate::format::keyring::Purpose;
use crate::format::snapshot::SnapshotRecord;
use crate::id::{Doubled, ObjectName, SeriesId, SnapshotId};
use crate::seal;

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
        let mut list = SnapshotList { snapshots: Vec::new(), unreadable: Vec::new() };
        for id in self.snapshot_ids()? {
            match self.read_snapshot(id) {
                Ok(snapshot) if filter.matches(&snapshot.record) => list.snapshots.push(snapshot),
                Ok(_) => {}
                // Forgotten since it was listed.
                Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {}
                Err(error @ Error::Corrupt { .. }) => list.unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        list.snapshots.sort_by_key(|snapshot| order(&snapshot.record));
        Ok(list)
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
            return match matching.as_slice() {
                [] => Err(none()),
                [id] => self.read_snapshot(*id),
                many => Err(Error::AmbiguousSnapshot { prefix: prefix.clone(), candidates: many.len() }),
            };
        }
        let list = self.snapshots(filter)?;
        let mut snapshots = list.snapshots;
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
            self.decode_snapshot(id, bytes).map(|_| *blake3::hash(bytes).as_bytes())
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

    /// Reads one snapshot, from either copy.
    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let name = Doubled::Snapshot(id);
        let record = doubled::get(self.inner.backend.as_ref(), name, |bytes| self.decode_snapshot(id, bytes))?;
        Ok(Snapshot { record })
    }

    fn decode_snapshot(&self, id: SnapshotId, bytes: &[u8]) -> Result<SnapshotRecord, Corruption> {
        let name = ObjectName::Snapshot(id);
        let payload = seal::open_box(&self.inner.keys, Purpose::Snapshot, ObjectType::Snapshot, &name, bytes)?;
        let record = SnapshotRecord::decode(&payload)?;
        if record.id == id { Ok(record) } else { Err(Corruption::Malformed("a snapshot under another's name")) }
    }
}

/// Newest last.
fn order(record: &SnapshotRecord) -> (i64, u64, SnapshotId) {
    (record.end_ns, record.sequence, record.id)
}
