//! What is sealed under keys from before a rotation. Moving it is what `repack` does anyway: a frame is opened, and sealed anew
//! under the newest keys, as it was compressed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use crate::backend::Span;
use crate::error::{Error, Result};
use crate::id::{Doubled, ObjectName, PackId};
use crate::pipeline::{self, lock};
use crate::progress::Event;
use crate::repository::Published;
use crate::seal::{self, PackKeys};
use crate::store::{Index, Store};

use super::cycle::Pruning;

impl Pruning<'_> {
    /// Packs that are sealed under keys from before a rotation, with their lengths, if that was asked for; and a count of such
    /// snapshots. Only the objects' own headers tell.
    pub(super) fn find_old(
        &mut self,
        store: &Store,
        view: &Index,
        published: &Published,
    ) -> Result<HashMap<PackId, u64>> {
        if !self.options.rekey || !store.keys().has_older_epochs() {
            return Ok(HashMap::new());
        }
        self.progress.report(Event::Stage { name: "keys of packs" });
        let newest = store.keys().newest_epoch();
        let is_old = |names: &[ObjectName]| -> Result<bool> {
            for name in names {
                match store.backend().get(name, Span::Range { offset: 0, length: PackKeys::FIRST_BYTES.into() }) {
                    // One that cannot be read can be moved as little.
                    Ok(bytes) => return Ok(seal::key_epoch(&bytes).is_some_and(|epoch| epoch < newest)),
                    Err(error) if error.is_absent() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(false)
        };
        let old = Mutex::new(HashMap::new());
        let progress = self.progress;
        let threads = self.repository.inner.threads;
        pipeline::for_each_parallel(threads, threads, view.packs().iter().map(Ok), |row| {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if is_old(&[ObjectName::Pack(row.kind, row.id)])? {
                lock(&old).insert(row.id, u64::from(row.length));
            }
            Ok(())
        })?;
        self.report.old_snapshots = 0;
        for (snapshot, _) in &published.snapshots {
            let name = Doubled::Snapshot(snapshot.id());
            self.report.old_snapshots += u64::from(is_old(&[name.into(), ObjectName::SecondCopy(name)])?);
        }
        Ok(old.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Says what there was under old keys, and what of it stays.
    pub(super) fn tell_old(&mut self, old: &HashMap<PackId, u64>, goes: &BTreeSet<PackId>) {
        let report = &mut self.report;
        (report.old_packs, report.old_packs_bytes) = (old.len() as u64, old.values().sum());
        let left = old.iter().filter(|(id, _)| !goes.contains(*id)).map(|(_, length)| length);
        (report.old_packs_left, report.old_packs_left_bytes) = (left.clone().count() as u64, left.sum());
    }
}
