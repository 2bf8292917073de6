//! Reclaiming in a weak repository: by its owner alone, and by the clock. What this may assume of writers is in
//! `store::weak`.

use std::time::Duration;

use super::PruneOptions;
use super::cycle::Pruning;
use crate::error::{Error, Result};
use crate::format::session::Session;
use crate::id::{ObjectName, SnapshotId};
use crate::mutants::mutant;
use crate::repository::Repository;
use crate::store::weak::{FENCE_IDLE, SIGN_VALID};

/// What a prune of a weak repository rests on, besides what every prune does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeakStore {
    /// Writers that were silent for so long, by the place's clock, are taken for ended, and no others: dead ones too.
    pub fence_idle: Duration,
    /// Writers publish no later than this after their last sign of life, by their own clocks. The difference to `fence_idle` is
    /// what clocks may be wrong by, and a put may take.
    pub sign_valid: Duration,
}

impl WeakStore {
    /// What holds for every weak repository.
    pub fn rules() -> Self {
        Self { fence_idle: FENCE_IDLE, sign_valid: SIGN_VALID }
    }
}

/// Whether such a prune may begin.
pub(super) fn admit(repository: &Repository, options: &PruneOptions) -> Result<()> {
    if repository.backend().weak().is_none() {
        return Ok(());
    }
    if options.fence_idle.is_some_and(|idle| idle < FENCE_IDLE) {
        return Err(Error::Usage(
            "in a weak repository no writer is fenced that was silent for less than 7 days: it could publish all the same".into(),
        ));
    }
    if options.dry_run { Ok(()) } else { repository.require_owner() }
}

impl Pruning<'_> {
    /// Before each step that another owner could be at: somebody may have taken ownership.
    pub(super) fn require_owner(&self) -> Result<()> {
        self.repository.require_owner()
    }

    /// Whether a writer may be fenced although the place does not decide whether it or the fence is first. That it died is no
    /// reason: its last put may be on its way.
    pub(super) fn is_long_silent(&self, session: SnapshotId, record: Option<&Session>) -> Result<bool> {
        let asked = self.options.fence_idle.unwrap_or(FENCE_IDLE);
        let lease = record.map_or(Duration::ZERO, |record| Duration::from_secs(record.lease_s.into()));
        let limit = asked.max(lease).max(FENCE_IDLE);
        let limit = if mutant!("a weak fence waits for no week") { Duration::ZERO } else { limit };
        let mut names = self.renewals_of(session)?;
        names.push(ObjectName::Session(session));
        for name in names {
            let age = match self.backend().age(&name) {
                Ok(Some(age)) => age,
                Ok(None) => Duration::from_millis(self.now_ms.saturating_sub(self.written_ms(name, session)?)),
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            if age < limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// When a sign of life was written, by its writer's clock: for places that cannot tell. Of one that cannot be read it is
    /// known only that its session had begun.
    fn written_ms(&self, name: ObjectName, session: SnapshotId) -> Result<u64> {
        match self.repository.read_sign(name) {
            Ok(record) => Ok(record.started_ms),
            // Damaged, or gone with its session, which is looked for again before a fence is put.
            Err(Error::Corrupt { .. }) => Ok(session.started_ms()),
            Err(error) => Err(error),
        }
    }
}
