//! Tags and pins of published snapshots, and bringing back forgotten ones. A snapshot is never changed: each of these makes
//! a new one with another id, whose origin is the old one.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::gc::Forgotten;
use crate::format::snapshot::{FLAG_PINNED, SnapshotRecord};
use crate::id::{ChunkId, SnapshotId};
use crate::progress::Progress;
use crate::repository::{Old, Repository, Snapshot};

/// What is changed about snapshots. `new()` changes nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TagOptions {
    /// These instead of all it has.
    pub set: Option<Vec<String>>,
    /// These too.
    pub add: Vec<String>,
    /// Not these.
    pub remove: Vec<String>,
    /// Pinned (never forgotten), or no longer.
    pub pin: Option<bool>,
    /// Recorded for people: who.
    pub by: String,
    /// The name and version of the program.
    pub program: String,
}

impl Default for TagOptions {
    fn default() -> Self {
        Self {
            set: None,
            add: Vec::new(),
            remove: Vec::new(),
            pin: None,
            by: String::new(),
            program: PROGRAM.to_owned(),
        }
    }
}

const PROGRAM: &str = concat!("icecore ", env!("CARGO_PKG_VERSION"));

impl TagOptions {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// These tags instead of all that a snapshot has; none: no tags.
    pub fn set_tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.set = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// One more tag.
    pub fn add_tag(mut self, tag: impl Into<String>) -> Self {
        self.add.push(tag.into());
        self
    }

    /// This tag no longer.
    pub fn remove_tag(mut self, tag: impl Into<String>) -> Self {
        self.remove.push(tag.into());
        self
    }

    /// Never forgotten from now on, whatever a policy says; or no longer so.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = Some(pin);
        self
    }

    /// Who does it, for the record.
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = by.into();
        self
    }
}

/// What became of the snapshots.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TagReport {
    /// The old id, which is forgotten, and the new snapshot. Those that had all of it already are not here.
    pub changed: Vec<(SnapshotId, Snapshot)>,
    /// Those that are as they were, each with the reason.
    pub failed: Vec<(SnapshotId, Error)>,
}

/// A snapshot that was forgotten and is still there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForgottenSnapshot {
    /// As it was.
    pub snapshot: Snapshot,
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// The first pruning after this takes it, in milliseconds since 1970 UTC.
    pub purge_after_ms: u64,
    /// Why, in words.
    pub reason: String,
    /// Who.
    pub by: String,
}

impl Repository {
    /// Changes tags and pins. Each snapshot that differs is published under a new id, then the old one is forgotten at once.
    /// Interrupted between the two, both are there.
    ///
    /// # Errors
    /// None for a single snapshot, see [`TagReport::failed`]; backend errors; [`Error::Cancelled`].
    pub fn tag(&self, snapshots: &[Snapshot], options: &TagOptions, progress: &dyn Progress) -> Result<TagReport> {
        let changed = snapshots.iter().filter_map(|snapshot| Some((snapshot, options.applied(&snapshot.record)?)));
        let (old, records): (Vec<&Snapshot>, Vec<SnapshotRecord>) = changed.unzip();
        let mut report = TagReport::default();
        let replace = &mut |at: usize, result: Result<Snapshot>| match result
            .and_then(|new| self.supersede(old[at], &new, &options.by, 0).map(|()| new))
        {
            Ok(new) => report.changed.push((old[at].id(), new)),
            Err(error) => report.failed.push((old[at].id(), error)),
        };
        self.republish(records, Old::Shown, &options.program, progress, replace)?;
        Ok(report)
    }

    /// The snapshots that were forgotten and can be brought back, the oldest first: not those of which all lives on under another
    /// id, since they were brought back already, or retagged.
    pub fn forgotten(&self) -> Result<Vec<ForgottenSnapshot>> {
        let published = self.published()?.snapshots;
        let origins: BTreeSet<_> = published.iter().filter_map(|(snapshot, _)| lives_on(&snapshot.record)).collect();
        let is_gone = |snapshot: &Snapshot| !origins.contains(&(snapshot.id(), snapshot.record.root.tree));
        let forgotten = published.into_iter().filter(|(snapshot, _)| is_gone(snapshot));
        let forgotten = forgotten.filter_map(|(snapshot, record)| {
            let Forgotten { at_ms, purge_after_ms, reason, by, .. } = record?;
            Some(ForgottenSnapshot { snapshot, at_ms, purge_after_ms, reason, by })
        });
        let mut forgotten: Vec<_> = forgotten.collect();
        forgotten.sort_by_key(|one| (one.snapshot.record.end_ns, one.snapshot.id()));
        Ok(forgotten)
    }

    /// Brings back the forgotten snapshot with this id or beginning of one, under a new id. Possible until a pruning after its
    /// window has taken it.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] if no forgotten snapshot is called so, [`Error::AmbiguousSnapshot`] if several are;
    /// [`Error::ChunkLost`] if something that it refers to is gone, or about to go.
    pub fn undelete(&self, id: &str, progress: &dyn Progress) -> Result<Snapshot> {
        let id = id.to_ascii_lowercase();
        let mut found = self.forgotten()?;
        found.retain(|one| one.snapshot.id().matches(&id));
        let one = match found.len() {
            0 => return Err(Error::NoSnapshot { selector: format!("{id} among those that can be brought back") }),
            1 => found.remove(0),
            candidates => return Err(Error::AmbiguousSnapshot { prefix: id, candidates }),
        };
        let mut result = None;
        let done = &mut |_, published| result = Some(published);
        self.republish(vec![one.snapshot.record], Old::Forgotten, PROGRAM, progress, done)?;
        result.expect("one was asked for")
    }
}

/// The snapshot that this one comes from, and of that a tree which is here too.
fn lives_on(record: &SnapshotRecord) -> Option<(SnapshotId, Option<ChunkId>)> {
    Some((record.origin?, record.root.tree))
}

impl TagOptions {
    /// The record with all changes; `None` if it has them already.
    fn applied(&self, record: &SnapshotRecord) -> Option<SnapshotRecord> {
        let mut tags = self.set.clone().unwrap_or_else(|| record.tags.clone());
        for tag in &self.add {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags.retain(|tag| !self.remove.contains(tag));
        let flags = match self.pin {
            None => record.flags,
            Some(true) => record.flags | FLAG_PINNED,
            Some(false) => record.flags & !FLAG_PINNED,
        };
        let is_same = tags == record.tags && flags == record.flags;
        (!is_same).then(|| SnapshotRecord { tags, flags, ..record.clone() })
    }
}

#[cfg(test)]
mod tests;
