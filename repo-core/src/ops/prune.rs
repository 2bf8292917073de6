//! Prune: takes back the room of what no snapshot refers to, while others write, without locks and without clocks.
//!
//! One cycle is four objects, each written once: **mark** (what may go), **pending** (who was at work when that was said),
//! **plan** (what goes, decided when all of those are done with), **done**. Whoever comes next continues where the last one
//! stopped, alive or dead. Why nothing that lives is deleted is argued in ARCHITECTURE.md, and tried on this code by the
//! simulation in `tests`.

#[cfg(test)]
mod census_tests;
mod choose;
mod cycle;
mod evaluate;
mod execute;
mod judge;
mod plan;
#[cfg(test)]
mod plan_tests;
mod rekey;
mod repack;
mod room;
#[cfg(test)]
mod tests;
mod usage;
#[cfg(test)]
mod usage_tests;
mod weak;
mod writers;

pub use choose::Unused;
pub use weak::WeakStore;

use std::time::Duration;

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::pipeline;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::store::refuse_mirror;

use choose::Policy;
use cycle::Pruning;

/// How space is reclaimed. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// How much may stay that nothing refers to (default 3 per cent: with what compresses less well in versions than alone, that leaves a repository within 5 per cent of a fresh one).
    pub max_unused: Unused,
    /// Bytes of packs that are moved in one run, at most.
    pub max_repack_bytes: Option<u64>,
    /// Move packs of metadata only.
    pub repack_meta_only: bool,
    /// Merge packs that are smaller than this; at most three quarters of what new packs are made to reach, since what is
    /// larger would be merged again each time.
    pub repack_smaller_than_bytes: Option<u64>,
    /// Move what is stored under keys from before a rotation to packs under the newest, used or not.
    pub rekey: bool,
    /// With [`dry_run`](Self::dry_run): as if these snapshots were forgotten and their window over.
    pub assume_expired: Vec<SnapshotId>,
    /// Go on although a snapshot is gone that nobody forgot.
    pub accept_lost_snapshots: bool,
    /// Take the names of writers that are silent for so long, instead of their lease (72 hours). They begin again under
    /// another, so this is always safe. In a weak repository at least 7 days.
    pub fence_idle: Option<Duration>,
    /// Wait for writers at work, instead of leaving the rest to the next run. Asked again and again; `false` ends the wait.
    pub wait: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_unused: Unused::Percent(3.0),
            max_repack_bytes: None,
            repack_meta_only: false,
            repack_smaller_than_bytes: None,
            rekey: false,
            assume_expired: Vec::new(),
            accept_lost_snapshots: false,
            fence_idle: None,
            wait: false,
        }
    }
}

impl PruneOptions {
    /// Up to 5 per cent may stay unused; writers at work are not waited for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only says what would be done.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// How much may stay that nothing refers to.
    pub fn max_unused(mut self, unused: Unused) -> Self {
        self.max_unused = unused;
        self
    }

    /// At most so many bytes of packs are moved.
    pub fn max_repack_bytes(mut self, bytes: u64) -> Self {
        self.max_repack_bytes = Some(bytes);
        self
    }

    /// Only packs of metadata are moved.
    pub fn repack_meta_only(mut self) -> Self {
        self.repack_meta_only = true;
        self
    }

    /// Packs that are smaller are merged.
    pub fn repack_smaller_than_bytes(mut self, bytes: u64) -> Self {
        self.repack_smaller_than_bytes = Some(bytes);
        self
    }

    /// Packs are merged that are smaller than three quarters of what new ones are made to reach.
    pub fn repack_small(self) -> Self {
        self.repack_smaller_than_bytes(u64::MAX)
    }

    /// Everything that can be is sealed under the newest keys, in as many runs as
    /// [`max_repack_bytes`](Self::max_repack_bytes) makes of it.
    pub fn rekey(mut self) -> Self {
        self.rekey = true;
        self
    }

    /// As if these snapshots were forgotten and their window over; for a dry run alone.
    pub fn assume_expired(mut self, snapshots: impl IntoIterator<Item = SnapshotId>) -> Self {
        self.assume_expired.extend(snapshots);
        self
    }

    /// Writers that were silent for so long are not waited for.
    pub fn fence_idle(mut self, idle: Duration) -> Self {
        self.fence_idle = Some(idle);
        self
    }

    /// Goes on although a snapshot is gone that nobody forgot.
    pub fn accept_lost_snapshots(mut self) -> Self {
        self.accept_lost_snapshots = true;
        self
    }

    /// Waits for writers at work.
    pub fn wait(mut self) -> Self {
        self.wait = true;
        self
    }

    /// `targets`: what new packs of data and of metadata are made to reach, in bytes.
    fn policy(&self, targets: [u64; 2]) -> Policy {
        let small = self.repack_smaller_than_bytes.unwrap_or(0);
        Policy {
            max_unused: self.max_unused,
            max_repack_bytes: self.max_repack_bytes,
            repack_meta_only: self.repack_meta_only,
            repack_smaller_than_bytes: targets.map(|target| small.min(target / 4 * 3)),
            rekey: self.rekey,
        }
    }
}

/// What a prune found and did. Sizes in bytes of packs as stored.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PruneReport {
    /// Packs before.
    pub packs: u64,
    /// Their bytes.
    pub packs_bytes: u64,
    /// Packs of which everything is needed.
    pub used_packs: u64,
    /// Of all packs, what is needed.
    pub used_bytes: u64,
    /// Places of chunks: one that is stored twice has two.
    pub places: u64,
    /// Those that are needed; of each chunk one.
    pub used_places: u64,
    /// Further places of chunks that are needed.
    pub duplicate_places: u64,
    /// Places in packs of which nothing is needed.
    pub unused_packs_places: u64,
    /// Places in packs out of which the rest is moved.
    pub repack_places: u64,
    /// Those of them that are needed, and move.
    pub repack_used_places: u64,
    /// Packs of which nothing is needed.
    pub unused_packs: u64,
    /// Their bytes.
    pub unused_packs_bytes: u64,
    /// Packs out of which the rest is moved.
    pub repack_packs: u64,
    /// Their bytes.
    pub repack_bytes: u64,
    /// What they still held.
    pub repack_live_bytes: u64,
    /// What moving wrote.
    pub written_bytes: u64,
    /// What nothing refers to and stays.
    pub remaining_unused_bytes: u64,
    /// With [`PruneOptions::rekey`]: packs before that were sealed under keys from before a rotation.
    pub old_packs: u64,
    /// Their bytes.
    pub old_packs_bytes: u64,
    /// Those of them that stay for a later run.
    pub old_packs_left: u64,
    /// Their bytes.
    pub old_packs_left_bytes: u64,
    /// With [`PruneOptions::rekey`]: snapshots that are sealed under such keys. They stay so: a snapshot is written once. It
    /// says when, where and by whom it was made, and not what is in the files.
    pub old_snapshots: u64,
    /// Chunks before, each once.
    pub chunks: u64,
    /// Packs that were deleted, those of a cycle that was continued too.
    pub deleted_packs: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Packs that the place refused to delete.
    pub retained_packs: u64,
    /// Forgotten snapshots whose window was over.
    pub expired_snapshots: Vec<SnapshotId>,
    /// Forgotten snapshots that can still be brought back, and so keep their data.
    pub held_snapshots: u64,
    /// What they alone keep.
    pub held_bytes: u64,
    /// When the window of the last of them is over, in milliseconds since 1970; 0 if there are none.
    pub held_until_ms: u64,
    /// Writers at work: what is marked is deleted by the next prune after they ended. Empty: nothing was left to do.
    pub waiting_for: Vec<Writer>,
    /// Writers whose name was taken, since they are dead or silent.
    pub fenced: Vec<Writer>,
    /// Whether a cycle that somebody else began was continued.
    pub continued: bool,
    /// Chunks that snapshots refer to and that are stored nowhere. They stop nothing; `check` names whose they are.
    pub lost_chunks: u64,
    /// The place was too full to move anything: only what needed no moving was deleted.
    pub no_room_to_move: bool,
    /// What this rests on in a weak repository; `None` in any other.
    pub weak_store: Option<WeakStore>,
    /// What could not be read, and so stays.
    pub problems: Vec<String>,
}

/// A writer that is, or was, at work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Writer {
    /// Its session.
    pub session: SnapshotId,
    /// The machine it said it runs on; empty if its session cannot be read.
    pub host: String,
    /// The process it said it is.
    pub process: u32,
    /// When it began, by its own clock, in milliseconds since 1970.
    pub started_ms: u64,
}

impl Repository {
    /// Takes back the room of what no snapshot refers to. Others may write, forget, restore and prune meanwhile; ended at any
    /// moment, it is continued by the next run, whoever makes it.
    ///
    /// A writer that was at work when packs were marked must end before they are deleted. If there is one, this returns with
    /// [`PruneReport::waiting_for`], and the next run does the rest; a writer that died on this machine is never waited for.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{PruneOptions, Silent};
    ///
    /// let report = repository.prune(&PruneOptions::new(), &Silent)?;
    /// assert!(report.waiting_for.is_empty());
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Anything that cannot be read and could refer to a chunk: a snapshot, a tree, an object of a later version. Nothing is
    /// deleted then. [`Error::SnapshotsVanished`] if one is gone that nobody forgot; [`Error::NotOwner`] in a weak repository of
    /// another client; backend errors; [`Error::Cancelled`].
    pub fn prune(&self, options: &PruneOptions, progress: &dyn Progress) -> Result<PruneReport> {
        if matches!(options.max_unused, Unused::Percent(percent) if !(0.0..=100.0).contains(&percent)) {
            return Err(Error::Usage("unused room is between 0 and 100 per cent".into()));
        }
        if !options.dry_run {
            refuse_mirror(self.backend().as_ref())?;
        }
        if !options.assume_expired.is_empty() && !options.dry_run {
            return Err(Error::Usage("only a dry run may assume that snapshots are gone".into()));
        }
        weak::admit(self, options)?;
        let mut report = pipeline::guarded(|| Pruning::new(self, options, progress)?.run())?;
        report.weak_store = self.backend().weak().map(|_| WeakStore::rules());
        Ok(report)
    }
}
