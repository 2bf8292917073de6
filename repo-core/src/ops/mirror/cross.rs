//! Two copies of one repository against each other: what is damaged in one is brought back from the other.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;

use super::objects::{self, Found, list};
use crate::backend::{Backend, Prefix};
use crate::error::{Error, Result};
use crate::id::ObjectName;
use crate::pipeline::{for_each_parallel, lock};
use crate::progress::{Event, Progress};

/// How two copies are compared. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrossOptions {
    /// Change nothing, say what is damaged.
    pub dry_run: bool,
    /// Objects that are compared at once; each is in memory twice.
    pub threads: usize,
}

impl Default for CrossOptions {
    fn default() -> Self {
        Self { dry_run: false, threads: 4 }
    }
}

impl CrossOptions {
    /// The defaults: what can be healed is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that was named first.
    First,
    /// The other.
    Second,
}

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CrossCheckReport {
    /// Objects that both have.
    pub compared: u64,
    /// Bytes read, of both.
    pub read_bytes: u64,
    /// Damaged in one, and replaced by the other's; in a dry run: could be.
    pub healed: Vec<(Side, ObjectName)>,
    /// Damaged, and not replaced: the other is damaged too, or the place cannot replace. With the reason.
    pub unhealed: Vec<(Side, ObjectName, String)>,
    /// Both are whole and they are not the same: two repositories that have gone on by themselves.
    pub differing: Vec<ObjectName>,
    /// In the first alone: not mirrored yet, or lost in the second.
    pub only_first: Vec<ObjectName>,
    /// In the second alone: removed or lost in the first.
    pub only_second: Vec<ObjectName>,
}

impl CrossCheckReport {
    /// Whether both are whole and the same, perhaps after healing.
    pub fn is_clean(&self) -> bool {
        self.unhealed.is_empty()
            && self.differing.is_empty()
            && self.only_first.is_empty()
            && self.only_second.is_empty()
    }
}

/// Compares and heals.
pub fn compare(
    first: &dyn Backend,
    second: &dyn Backend,
    options: &CrossOptions,
    progress: &dyn Progress,
) -> Result<CrossCheckReport> {
    let (ours, theirs) = (objects::marker(first)?.0, objects::marker(second)?.0);
    if ours != theirs {
        return Err(Error::SplitBrain { place: second.place(), problem: "it is another repository".into() });
    }
    let mirrored = |place: &dyn Backend| -> Result<_> {
        let mut listing = list(place, Prefix::All)?;
        listing.retain(|name, _| !objects::is_local(name));
        Ok(listing)
    };
    let (here, there) = (mirrored(first)?, mirrored(second)?);
    let names: BTreeSet<ObjectName> = here.keys().filter(|name| there.contains_key(*name)).copied().collect();
    let sizes = names.iter().map(|name| here.get(name).unwrap_or(&0) + there.get(name).unwrap_or(&0));
    progress.report(Event::Total { files: names.len() as u64, bytes: sizes.sum() });
    let pair = Pair { first, second, options, report: Mutex::default() };
    for_each_parallel(options.threads, 1, names.iter().map(Ok), |name| {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        progress.report(Event::Bytes { count: pair.object(name)? });
        Ok(())
    })?;
    let mut report = pair.report.into_inner().unwrap_or_default();
    report.compared = names.len() as u64;
    report.only_first = here.keys().filter(|name| !names.contains(name)).copied().collect();
    report.only_second = there.keys().filter(|name| !names.contains(name)).copied().collect();
    report.healed.sort_unstable();
    report.unhealed.sort_unstable();
    report.differing.sort_unstable();
    Ok(report)
}

struct Pair<'p> {
    first: &'p dyn Backend,
    second: &'p dyn Backend,
    options: &'p CrossOptions,
    report: Mutex<CrossCheckReport>,
}

impl Pair<'_> {
    /// One object in both places; the bytes that were read.
    fn object(&self, name: &ObjectName) -> Result<u64> {
        // A place that cannot read its object is as good as one whose object is damaged.
        let read = |place: &dyn Backend| objects::read(place, name).unwrap_or(Found::Damaged(Bytes::new()));
        let (first, second) = (read(self.first), read(self.second));
        let length = |found: &Found| match found {
            Found::Intact(bytes) | Found::Damaged(bytes) => bytes.len() as u64,
            Found::Absent => 0,
        };
        let count = length(&first) + length(&second);
        lock(&self.report).read_bytes += count;
        match (first, second) {
            (Found::Intact(ours), Found::Intact(theirs)) if ours != theirs => lock(&self.report).differing.push(*name),
            (Found::Intact(bytes), Found::Damaged(_)) => self.heal(Side::Second, name, bytes),
            (Found::Damaged(_), Found::Intact(bytes)) => self.heal(Side::First, name, bytes),
            (Found::Damaged(_), Found::Damaged(_)) => {
                let mut report = lock(&self.report);
                for side in [Side::First, Side::Second] {
                    report.unhealed.push((side, *name, "it is damaged in both".into()));
                }
            }
            // The same; or removed since it was listed.
            _ => {}
        }
        Ok(count)
    }

    fn heal(&self, side: Side, name: &ObjectName, bytes: Bytes) {
        let place = match side {
            Side::First => self.first,
            Side::Second => self.second,
        };
        let replaced = if self.options.dry_run { Ok(()) } else { place.replace_damaged(name, bytes) };
        let mut report = lock(&self.report);
        match replaced {
            Ok(()) => report.healed.push((side, *name)),
            // Whoever removed it had a reason.
            Err(error) if error.is_absent() => {}
            Err(error) => report.unhealed.push((side, *name, error.to_string())),
        }
    }
}
