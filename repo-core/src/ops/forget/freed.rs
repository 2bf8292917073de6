//! What forgetting frees: bytes that only one of the snapshots to be forgotten refers to, and bytes that only they do.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::ops::lookup::owners::{Owner, Owners};
use crate::progress::Progress;
use crate::repository::{Repository, Snapshot};

/// What space comes back when packs are pruned and the windows are over. In stored bytes: a chunk's part of its frame.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Freed {
    /// What none but the snapshots to be forgotten refer to.
    pub bytes: u64,
    /// In the order of the question: what none but this snapshot refers to. Less in sum than [`bytes`](Self::bytes), where
    /// they share.
    pub unique_bytes: Vec<(SnapshotId, u64)>,
    /// Parts of trees that could not be read: the answer is a guess then.
    pub problems: Vec<Error>,
}

impl Repository {
    /// What forgetting `gone` frees, if `kept` stay. Snapshots that are forgotten already count as gone.
    pub(super) fn freed(&self, kept: &[&Snapshot], gone: &[&Snapshot], progress: &dyn Progress) -> Result<Freed> {
        let store = self.fresh_store()?;
        let view = store.view();
        let mut owners = Owners::new(&view, progress);
        for snapshot in kept {
            owners.add(&store, snapshot, Owner::Kept)?;
        }
        for (place, snapshot) in gone.iter().enumerate() {
            owners.add(&store, snapshot, Owner::Counted(place))?;
        }
        let bytes = owners.bytes();
        let unique = |(place, snapshot): (usize, &&Snapshot)| Some((snapshot.id(), bytes.unique(place)?));
        Ok(Freed {
            bytes: bytes.counted(),
            unique_bytes: gone.iter().enumerate().filter_map(unique).collect(),
            problems: owners.problems,
        })
    }
}
