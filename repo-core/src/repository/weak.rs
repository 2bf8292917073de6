//! Weak repositories: for places of which nobody relies on that they decide who of two writers was first. What several clients
//! could want to write at once (keys, parameters, the steps of reclaiming) is written by one of them alone, the owner.
//! The rules for writers are in `store::weak`, those for reclaiming in `ops::prune`.

use std::sync::Arc;

use super::Repository;
use crate::backend::{Backend, Weak};
use crate::crypto;
use crate::error::{Error, Result};
use crate::format::config::Config;
use crate::id::OwnerId;

/// The handle that a repository of these parameters is used by.
///
/// # Errors
/// [`Error::NoPutIfAbsent`] for another weak repository's handle to a place that this one cannot rely on.
pub(super) fn handle(backend: Arc<dyn Backend>, config: &Config) -> Result<Arc<dyn Backend>> {
    match config.gc_owner() {
        Some(_) => Ok(Weak::around(backend)),
        None if backend.weak().is_some() && !backend.capabilities().put_if_absent => {
            Err(Error::NoPutIfAbsent { place: backend.place() })
        }
        None => Ok(backend),
    }
}

impl OwnerId {
    /// A number that no other client has.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self> {
        Ok(Self(crypto::random()?))
    }
}

impl Repository {
    /// Makes this client ([`OpenOptions::owner`](crate::OpenOptions::owner)) the owner of a weak repository: from now on it
    /// alone reclaims space there and changes keys and parameters, and the owner before no longer does. Whether it was not
    /// yet.
    ///
    /// **What this assumes:** that no prune and no change of keys of the owner before is at work, nor asleep in the middle of
    /// one, and that nobody else takes ownership at this moment. The owner before asks before each step whether it still is;
    /// one that slept between that question and its step could still carry it out, and delete beside the new owner.
    ///
    /// # Errors
    /// [`Error::Usage`] if the repository is no weak one, or was opened without an owner's number; [`Error::Rotated`];
    /// backend errors.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, OwnerId, Repository, Secret};
    /// use repo_core::{Error, OpenOptions, PruneOptions, Silent};
    ///
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// let options = InitOptions::new().weak_store(OwnerId([1; 16]));
    /// let place = Repository::init(Arc::new(Memory::new()), &secret, &options)?.backend().clone();
    ///
    /// let other = Repository::open_with(place, &secret, &OpenOptions::new().owner(OwnerId([2; 16])))?;
    /// assert!(matches!(other.prune(&PruneOptions::new(), &Silent), Err(Error::NotOwner { .. })));
    /// assert!(other.take_ownership()?);
    /// other.prune(&PruneOptions::new(), &Silent)?;
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn take_ownership(&self) -> Result<bool> {
        if self.inner.backend.weak().is_none() {
            return Err(Error::Usage(
                "this repository has no owner: it is no weak one, and anybody may prune it".into(),
            ));
        }
        let Some(owner) = self.inner.owner else {
            return Err(Error::Usage("the repository was opened without the number of an owner".into()));
        };
        self.publish_config(|config| config.with_gc_owner(owner))
    }

    /// Before anything is written that two could write at once; asked of the place, since somebody else may have become the
    /// owner.
    ///
    /// # Errors
    /// [`Error::NotOwner`] in a weak repository of another.
    pub(crate) fn require_owner(&self) -> Result<()> {
        if self.inner.backend.weak().is_none() {
            return Ok(());
        }
        self.check_generations()?;
        match self.newest_config()?.gc_owner() {
            Some(owner) if self.inner.owner != Some(owner) => {
                Err(Error::NotOwner { place: self.inner.backend.place(), owner })
            }
            _ => Ok(()),
        }
    }
}
