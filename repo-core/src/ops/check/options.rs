//! What a check is asked to look at: how deep, at which snapshots, at which packs, and for how long.

use std::fmt;
use std::sync::Arc;

use super::verified::VerifiedPacks;
use crate::error::{Error, Result};
use crate::id::SnapshotId;

/// How deep to look. Each level does all that those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum CheckLevel {
    /// Small objects in both copies, every object's name and size, index against packs. Finds what is missing or cut short.
    Names,
    /// All trees besides: each node opens, and all that they refer to is there.
    #[default]
    Trees,
    /// Every byte of the packs besides, by the hash that is their name. Needs no key.
    Packs,
    /// Every frame opened and every chunk named again besides: what a writer did wrong shows too.
    Data,
}

/// Which packs are read, if not all.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Subset {
    /// One of so many parts, by the packs' names: the parts 1 to `of` together are all packs, and no pack is in two.
    Part {
        /// From 1.
        part: u32,
        /// How many parts there are.
        of: u32,
    },
    /// So many hundredths of the packs, at least one, drawn at random each time.
    Percent(f64),
    /// Packs drawn at random until they have so many bytes, at least one.
    Bytes(u64),
}

/// How deep to look, and at what.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// How deep.
    pub level: CheckLevel,
    /// Which packs are read, at [`CheckLevel::Packs`] and [`CheckLevel::Data`]; all if `None`.
    pub subset: Option<Subset>,
    /// Only these snapshots, and the packs that they refer to; all if `None`.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// Which packs were read before, and when: those that were not for the longest time come first.
    pub verified: Option<VerifiedPacks>,
    /// The time of this check, in nanoseconds since 1970 UTC; the clock's if `None`.
    pub time_ns: Option<i64>,
    pub(super) until: Option<Until>,
}

/// Asked before each pack.
#[derive(Clone)]
pub(super) struct Until(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Until")
    }
}

impl CheckOptions {
    /// Names, index, small objects and trees; data packs by their names and sizes alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks so deep.
    pub fn level(mut self, level: CheckLevel) -> Self {
        self.level = level;
        self
    }

    /// Reads every pack, opens every frame and names every chunk again: [`CheckLevel::Data`].
    pub fn read_data(self) -> Self {
        self.level(CheckLevel::Data)
    }

    /// Of the packs, only these are read.
    pub fn subset(mut self, subset: Subset) -> Self {
        self.subset = Some(subset);
        self
    }

    /// Only these snapshots, and the packs that they refer to.
    pub fn snapshots(mut self, snapshots: impl IntoIterator<Item = SnapshotId>) -> Self {
        self.snapshots = Some(snapshots.into_iter().collect());
        self
    }

    /// Reads those packs first that were not for the longest time, and notes there which are whole. What is noted can be
    /// kept for the next time ([`VerifiedPacks::encode`]), also after a check that was cancelled.
    pub fn verified(mut self, verified: &VerifiedPacks) -> Self {
        self.verified = Some(verified.clone());
        self
    }

    /// Ends the reading of packs as soon as this says so; it is asked before each pack, by several threads at once. What
    /// else a check does is done all the same.
    pub fn until(mut self, is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.until = Some(Until(Arc::new(is_over)));
        self
    }

    /// The time that is noted for verified packs.
    pub fn time_ns(mut self, time_ns: i64) -> Self {
        self.time_ns = Some(time_ns);
        self
    }

    pub(super) fn is_over(&self) -> bool {
        self.until.as_ref().is_some_and(|until| (until.0)())
    }

    /// Refuses what has no meaning.
    pub(super) fn validate(&self) -> Result<()> {
        let refuse = |problem: &str| Err(Error::Usage(problem.to_owned()));
        if self.level < CheckLevel::Packs && (self.subset.is_some() || self.until.is_some()) {
            return refuse("a subset of the packs, or a time for reading them, needs a level that reads packs");
        }
        match self.subset {
            Some(Subset::Part { part, of }) if part == 0 || part > of => {
                refuse("a part of the packs is n of t, with n from 1 to t")
            }
            Some(Subset::Percent(share)) if !(share > 0.0 && share <= 100.0) => {
                refuse("a share of the packs is more than 0 % and at most 100 %")
            }
            Some(Subset::Bytes(0)) => refuse("a sample of the packs has at least one byte"),
            _ => Ok(()),
        }
    }
}
