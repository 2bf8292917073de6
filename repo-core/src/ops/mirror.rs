//! Mirrors: the same objects in another place, byte for byte. No key is needed: what is copied is proven by its name or its
//! checksum. A mirror takes nothing but from its source, until it is promoted.
//!
//! Why every snapshot on a mirror is whole: snapshots are listed first and packs after them, and a snapshot is copied only if
//! the source still has it when all these packs are on the mirror. So it was there when they were listed, and they held all
//! that it needs (invariant 7). What the source adds or removes meanwhile is left to the next run, or this one begins again.

mod cross;
mod objects;
mod run;

use crate::backend::{Backend, Removal, Span};
use crate::error::{Error, Result};
use crate::format::mirror::MirrorMark;
use crate::id::ObjectName;
use crate::pipeline;
use crate::progress::Progress;

pub use cross::{CrossCheckReport, CrossOptions, Side};

/// How a place is mirrored. `new()` gives the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MirrorOptions {
    /// Remove from the mirror what the source has no longer: snapshots first, then what they needed.
    pub delete: bool,
    /// Objects on their way at once; each is in memory whole.
    pub threads: usize,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self { delete: false, threads: 4 }
    }
}

impl MirrorOptions {
    /// The defaults: nothing is removed, four objects at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes from the mirror what the source has no longer. A pack that the source lost by accident goes too: compare
    /// the two with [`cross_check`] before.
    pub fn delete(mut self) -> Self {
        self.delete = true;
        self
    }

    /// Objects on their way at once.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// What mirroring did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct MirrorReport {
    /// Objects that the mirror had not.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Objects that the mirror has no longer.
    pub removed: u64,
    /// Objects that were damaged on the mirror and are replaced.
    pub healed: Vec<ObjectName>,
    /// Objects that are damaged in the source. They were not copied.
    pub damaged: Vec<ObjectName>,
}

/// Makes `target` a mirror of the repository in `source`, or brings it up to date. Ended at any moment it leaves what the
/// next run completes; snapshots on the mirror are whole at every moment.
///
/// Not mirrored are sessions, the steps of reclaiming space, and records of damage, which are of the source alone.
///
/// ```
/// use std::sync::Arc;
///
/// use repo_core::{BackupOptions, InitOptions, Memory, MirrorOptions, ReaderSource, Repository, Secret, Silent};
///
/// let (first, second) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
/// let (secret, _key_file) = Secret::generate_key()?;
/// let repository = Repository::init(first.clone(), &secret, &InitOptions::new())?;
/// let source = || ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
/// repository.backup(&source(), &BackupOptions::new(), &Silent)?;
///
/// repo_core::mirror(&*first, &*second, &MirrorOptions::new(), &Silent)?;
/// let copy = Repository::open(second.clone(), &secret)?;
/// assert_eq!(copy.snapshots(&Default::default())?.snapshots.len(), 1);
/// assert!(copy.backup(&source(), &BackupOptions::new(), &Silent).is_err(), "a mirror takes no backups");
///
/// // When the first is lost for good.
/// repo_core::promote(&*second)?;
/// copy.backup(&source(), &BackupOptions::new(), &Silent)?;
/// # Ok::<(), repo_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoRepository`] if there is none in `source`; [`Error::NotEmpty`] if `target` is neither empty nor a mirror;
/// [`Error::SplitBrain`] if both have gone on by themselves; backend errors; [`Error::Cancelled`].
pub fn mirror(
    source: &dyn Backend,
    target: &dyn Backend,
    options: &MirrorOptions,
    progress: &dyn Progress,
) -> Result<MirrorReport> {
    pipeline::guarded(|| run::Run::new(source, target, options, progress)?.go())
}

/// Makes a mirror a repository of its own, which takes backups. It is no mirror from then on, and its source must not be used
/// any more, or both go on by themselves.
///
/// # Errors
/// [`Error::NoRepository`] if it has not been mirrored completely once; [`Error::Usage`] if it is no mirror; backend errors.
pub fn promote(target: &dyn Backend) -> Result<()> {
    match target.get(&ObjectName::Mirror, Span::All) {
        // Whatever is in it: it is what stands in the way.
        Ok(_) => {}
        Err(error) if error.is_absent() => {
            return Err(Error::Usage(format!("{} is no mirror", target.place())));
        }
        Err(error) => return Err(error.into()),
    }
    // Written last, when all else is there.
    objects::marker(target)?;
    match target.remove(&ObjectName::Mirror)? {
        Removal::Removed | Removal::Absent => Ok(()),
        Removal::Retained => Err(Error::Usage(format!("{} does not let go of its mirror mark", target.place()))),
    }
}

/// Compares two places that are mirrors of each other, every byte of every object, and heals what is damaged in one from
/// the other.
///
/// # Errors
/// [`Error::NoRepository`]; [`Error::SplitBrain`] if they are not the same repository; backend errors; [`Error::Cancelled`].
/// What is damaged or missing is in the report.
pub fn cross_check(
    first: &dyn Backend,
    second: &dyn Backend,
    options: &CrossOptions,
    progress: &dyn Progress,
) -> Result<CrossCheckReport> {
    pipeline::guarded(|| cross::compare(first, second, options, progress))
}

/// What a place is a mirror of; `None`: it is none.
fn mark_of(place: &dyn Backend) -> Result<Option<MirrorMark>> {
    match place.get(&ObjectName::Mirror, Span::All) {
        Ok(bytes) => MirrorMark::decode(&bytes).map(Some).map_err(|problem| problem.of(ObjectName::Mirror)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
