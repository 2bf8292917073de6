//! When a snapshot was really written, by the word of others than its writer: the storage, and maintenance's forget records.

use super::{Repository, Snapshot};
use crate::error::{Corruption, Error, Result};
use crate::format::gc::Successor;
use crate::id::{ObjectName, SnapshotId};

/// What is known of a snapshot's first publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// The time in the id that it first had, in milliseconds since 1970 UTC.
    pub begun_ms: u64,
    /// When the storage says that it was first written, likewise; `None`: it does not say.
    pub stored_ms: Option<u64>,
}

impl Repository {
    /// Asks the storage. For one that took another's place, what was known of that one, if its forget record names this one:
    /// a snapshot's own word for its origin is anybody's.
    pub(crate) fn witness(&self, snapshot: &Snapshot, now_ns: i64) -> Result<Witness> {
        if let Some(origin) = snapshot.record.origin {
            let successor = match self.read_forgotten(origin) {
                Ok(record) => Successor::of(&record).filter(|successor| successor.snapshot == snapshot.id()),
                Err(Error::Corrupt { .. }) => None,
                Err(error) => return Err(error),
            };
            if let Some(Successor { begun_ms, stored_ms, .. }) = successor {
                return Ok(Witness { begun_ms, stored_ms: Some(stored_ms).filter(|stored_ms| *stored_ms > 0) });
            }
        }
        let age = match self.inner.backend.age(&ObjectName::Snapshot(snapshot.id())) {
            Ok(age) => age,
            // Its second copy was read.
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error.into()),
        };
        let now_ms = now_ns.max(0) as u128 / 1_000_000;
        let stored_ms = age.and_then(|age| u64::try_from(now_ms.checked_sub(age.as_millis())?).ok());
        Ok(Witness { begun_ms: snapshot.id().started_ms(), stored_ms })
    }

    /// Whether a snapshot's place was taken by this one, and by no other: so its forget record says.
    pub(crate) fn is_successor(&self, old: SnapshotId, new: &Snapshot) -> Result<bool> {
        match self.read_forgotten(old) {
            Ok(record) => Ok(Successor::of(&record).is_some_and(|successor| successor.snapshot == new.id())),
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
