//! Deletes what a plan says, says so, and tidies up.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::backend::{Put, Removal};
use crate::error::Result;
use crate::format::gc::{Done, Plan};
use crate::id::{Doubled, GcStage, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::store::{Index, compact, gc};

use super::cycle::Pruning;

/// How long a forget record outlives its snapshot: so long clients that saw the snapshot may ask where it went.
const RECORD_KEPT_MS: u64 = 90 * 24 * 3600 * 1000;

impl Pruning<'_> {
    /// Deletes the expired snapshots and the packs of the plan, then writes that the cycle is done.
    pub(super) fn execute(
        &mut self,
        cycle: u64,
        expired: &BTreeSet<SnapshotId>,
        plan: &Plan,
        plan_digest: [u8; 32],
    ) -> Result<()> {
        let backend = Arc::clone(&self.repository.inner.backend);
        if mutant!("done before the deletes") {
            self.put_done(cycle, plan_digest, 0, HashSet::new())?;
        }
        // Snapshots first: one whose packs are going would be there and not restore.
        for id in expired {
            self.remove_snapshot(*id)?;
        }
        let listed = Index::list(backend.as_ref())?;
        let mut freed_bytes = 0;
        let mut retained: HashSet<PackId> =
            self.retained.iter().copied().filter(|pack| !plan.delete.contains(pack)).collect();
        for pack in &plan.delete {
            let Some((kind, size)) = listed.get(pack).copied() else {
                // Deleted by somebody else; what he may not have done yet is done here.
                self.remove_companions(pack)?;
                continue;
            };
            match backend.remove(&ObjectName::Pack(kind, *pack))? {
                Removal::Removed => {
                    freed_bytes += size;
                    self.report.deleted_packs += 1;
                }
                Removal::Absent => {}
                Removal::Retained => {
                    retained.insert(*pack);
                    continue;
                }
            }
            self.remove_companions(pack)?;
        }
        self.report.freed_bytes += freed_bytes;
        if mutant!("retained packs are forgotten") {
            retained.clear();
        }
        retained.retain(|pack| listed.contains_key(pack));
        self.report.retained_packs = retained.len() as u64;
        self.put_done(cycle, plan_digest, freed_bytes, retained)
    }

    fn put_done(&self, cycle: u64, plan_digest: [u8; 32], freed_bytes: u64, retained: HashSet<PackId>) -> Result<()> {
        let mut retained: Vec<PackId> = retained.into_iter().collect();
        retained.sort_unstable();
        let done = Done { cycle, plan_digest, freed_bytes, retained, extensions: Vec::new() };
        let bytes = gc::seal_step(self.keys(), cycle, GcStage::Done, self.by, &done.encode())?;
        match self.backend().put_new(&ObjectName::Gc(cycle, GcStage::Done), bytes)? {
            // Somebody else's says the same of the same plan; if the answer is lost, the next run asks again.
            Put::Created | Put::Exists(_) | Put::Unknown => Ok(()),
        }
    }

    /// Second copy first: a crash between leaves what can be read, and what the next run removes.
    fn remove_snapshot(&mut self, id: SnapshotId) -> Result<()> {
        let doubled = Doubled::Snapshot(id);
        self.backend().remove(&ObjectName::SecondCopy(doubled))?;
        if self.backend().remove(&ObjectName::from(doubled))? == Removal::Removed {
            self.report.expired_snapshots.push(id);
        }
        Ok(())
    }

    /// What is kept beside a pack.
    fn remove_companions(&self, pack: &PackId) -> Result<()> {
        for name in self.companions.get(pack).into_iter().flatten() {
            self.backend().remove(name)?;
        }
        Ok(())
    }

    /// After a cycle is done: index objects that speak of packs that are gone, sessions that are resolved, steps of cycles
    /// before, forget records that outlived their use. All of it only costs room if it is left.
    pub(super) fn sweep(&self, cycle: u64, resolved: &[SnapshotId]) -> Result<()> {
        let backend = self.backend();
        compact(backend, self.keys(), self.by, self.options.rekey)?;
        for session in resolved {
            self.remove_session(*session)?;
        }
        let cycles = gc::Cycles::list(backend)?;
        // The mark and the end of the newest cycle stay: the next one asks what became of the mark's snapshots.
        let newest = cycles.newest_done();
        for name in cycles.before(newest.min(cycle)) {
            backend.remove(&name)?;
        }
        self.remove_old_records()
    }

    /// Removes a session whose name is taken. Its writer may have died between its snapshot's two copies, or sleep there: the
    /// session is the only sign of it, so the second copy comes first.
    pub(super) fn remove_session(&self, session: SnapshotId) -> Result<()> {
        let backend = self.backend();
        self.repository.complete_snapshot(session)?;
        for name in self.renewals_of(session)? {
            backend.remove(&name)?;
        }
        backend.remove(&ObjectName::Session(session))?;
        Ok(())
    }

    fn remove_old_records(&self) -> Result<()> {
        let there: BTreeSet<SnapshotId> = self.repository.snapshot_ids()?.into_iter().collect();
        for id in self.repository.forgotten_ids()?.difference(&there) {
            let Ok(record) = self.repository.read_forgotten(*id) else { continue };
            if record.purge_after_ms.saturating_add(RECORD_KEPT_MS) < self.now_ms {
                self.backend().remove(&ObjectName::Forgotten(*id))?;
            }
        }
        Ok(())
    }
}
