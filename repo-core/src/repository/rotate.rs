//! Rotation: a new root key and new keys for all that is written from now on, and slots for those who go on. Whoever is left
//! out opens nothing that is stored after it.
//!
//! It happens in one put, that of the next keyring, which is sealed under the new root key. What comes after it only tidies
//! up: a config under the new keys, the dropped slots removed, a first cycle of reclaiming under the new keys. The keyring says
//! what is left of that, so that anybody's next change of keys, or prune, completes a rotation that was cut off.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::keys::{self, NewSlot};
use super::open::{Unlocked, newest_keyring, put_config};
use super::{KeyInfo, Repository, doubled};
use crate::backend::{Prefix, Put, Span};
use crate::crypto::{self, PasswordCost, Secret};
use crate::error::{Error, Result};
use crate::format::gc::{Done, Mark, Pending, Plan};
use crate::format::key_slot::KeySlot;
use crate::format::keyring::{Epoch, GC_FROM_UNSET, Keyring, Rotation, SlotEntry};
use crate::id::{Doubled, GcStage, ObjectName, SlotId, SnapshotId};
use crate::platform::host;
use crate::store::gc::{self, Cycles};
use crate::store::refuse_mirror;

/// Who opens the repository after a rotation.
#[derive(Debug, Clone, Default)]
pub struct RotateOptions {
    keys: Vec<Kept>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Kept {
    secret: Secret,
    label: String,
    cost: PasswordCost,
}

impl RotateOptions {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// This password or key file, one that opened the repository before or a new one; at least one is needed. The first is the
    /// one in use afterwards. A password costs no less to guess than the one in use did.
    pub fn key(mut self, secret: &Secret, label: impl Into<String>, cost: PasswordCost) -> Self {
        self.keys.push(Kept { secret: secret.clone(), label: label.into(), cost });
        self
    }
}

/// What a rotation did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rotated {
    /// The repository, opened with the new keys. The handle that was rotated publishes nothing any more.
    pub repository: Repository,
    /// The number of the new keys.
    pub epoch: u32,
    /// The slots there are now.
    pub kept: Vec<KeyInfo>,
    /// The slots there were before: none of them opens anything now.
    pub dropped: Vec<KeyInfo>,
    /// Dropped slots whose objects are still there: the place refused to let them go, or `unfinished` says why. They open what
    /// was stored before, for whoever can read them.
    pub left: Vec<SlotId>,
    /// Why something is left to tidy up: the next change of keys, or prune, does it.
    pub unfinished: Option<Error>,
}

/// A keyring that could be the next one, and what it drops.
struct Next {
    keyring: Keyring,
    dropped: Vec<SlotEntry>,
}

impl Repository {
    /// Replaces all keys: what is stored from now on cannot be read by anybody who knew a key, a password, or a recovery kit
    /// until now, unless it is named in `options`. What was stored before stays as it is, and can be read by those who could
    /// and kept what they knew; [`PruneOptions::rekey`](crate::PruneOptions::rekey) seals it anew.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{PasswordCost, RotateOptions};
    ///
    /// let kit = Secret::from_recovery_kit(&repository.recovery_kit())?;
    /// let (fresh, _key_file) = Secret::generate_key()?;
    /// let options = RotateOptions::new().key(&fresh, "desk", PasswordCost::Default);
    /// let rotated = repository.rotate_keys(&options)?;
    /// assert_eq!((rotated.epoch, rotated.kept.len(), rotated.dropped.len()), (2, 1, 1));
    /// assert!(Repository::open(repository.backend().clone(), &secret).is_err());
    /// assert!(Repository::open(repository.backend().clone(), &kit).is_err());
    /// Repository::open(repository.backend().clone(), &fresh)?;
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Rotated`] if somebody else rotated the keys first: then nothing was changed. [`Error::Usage`] without a key.
    /// After a backend error the rotation may have happened: keep old and new secrets until the repository was opened.
    pub fn rotate_keys(&self, options: &RotateOptions) -> Result<Rotated> {
        let backend = &self.inner.backend;
        refuse_mirror(backend.as_ref())?;
        if options.keys.is_empty() {
            return Err(Error::Usage("a rotation needs a key that opens the repository afterwards".into()));
        }
        self.check_generations()?;
        self.require_owner()?;
        self.finish_rotation()?;
        let root_key = Zeroizing::new(crypto::random()?);
        let entries = self.put_slots(options, &root_key)?;
        let next = match self.publish(&root_key, &entries) {
            Ok(next) => next,
            Err(error) => {
                // What an error of the place left undecided, these slots may be needed for.
                if !matches!(error, Error::Backend(_)) {
                    for entry in &entries {
                        doubled::remove(backend.as_ref(), Doubled::KeySlot(entry.slot))?;
                    }
                }
                return Err(error);
            }
        };
        // It has happened. What fails from here on costs tidiness only.
        let slot = entries.first().map(|entry| entry.slot);
        let reopen = |keyring| {
            let unlocked = Unlocked { root_key: root_key.clone(), slot, keyring };
            Self::unlocked(Arc::clone(backend), unlocked, self.inner.owner)
                .map(|opened| opened.with_threads(self.inner.threads))
        };
        let repository = reopen(next.keyring)?;
        let finished = repository.finish_rotation().and_then(|()| reopen(newest_keyring(backend.as_ref(), &root_key)?));
        let (repository, unfinished) = match finished {
            Ok(reopened) => (reopened, None),
            Err(error) => (repository, Some(error)),
        };
        let there = doubled::list(backend.as_ref(), Prefix::KeySlots).unwrap_or_default();
        Ok(Rotated {
            epoch: repository.inner.keys.newest_epoch(),
            kept: entries.iter().map(|entry| repository.key_info(entry)).collect(),
            left: next
                .dropped
                .iter()
                .map(|entry| entry.slot)
                .filter(|id| there.contains(&Doubled::KeySlot(*id)))
                .collect(),
            dropped: next.dropped.iter().map(|entry| self.key_info(entry)).collect(),
            unfinished,
            repository,
        })
    }

    /// The number of the keys that new objects are sealed under: 1 after init, one more with each rotation.
    pub fn key_epoch(&self) -> u32 {
        self.inner.keys.newest_epoch()
    }

    /// Slots for those who go on, read back: after the next step nothing else opens the repository.
    fn put_slots(&self, options: &RotateOptions, root_key: &[u8; 32]) -> Result<Vec<SlotEntry>> {
        let backend = self.inner.backend.as_ref();
        let generation = self.keyring()?.0.generation + 1;
        let created_ms = host::now_ms();
        let mut entries = Vec::new();
        // Nobody who asked for the high cost once gets a cheaper slot without having asked for that.
        let in_use = self.inner.slot.map(|slot| doubled::get(backend, Doubled::KeySlot(slot), KeySlot::decode));
        let is_high =
            in_use.is_some_and(|slot| slot.is_ok_and(|slot| slot.derivation == PasswordCost::High.derivation()));
        for Kept { secret, label, cost } in &options.keys {
            let cost = if is_high { PasswordCost::High } else { *cost };
            let new = NewSlot { secret, label, cost, created_ms };
            let (slot, entry) = keys::make_slot(&new, self.inner.id, root_key, generation)?;
            let name = Doubled::KeySlot(slot.slot);
            let bytes = slot.encode();
            doubled::put(backend, name, &bytes.to_vec().into())?;
            for copy in [ObjectName::from(name), ObjectName::SecondCopy(name)] {
                if backend.get(&copy, Span::All)?[..] != bytes[..] {
                    return Err(Error::SelfCheck(format!("{copy} reads back as something else")));
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The one put by which it happens.
    fn publish(&self, root_key: &[u8; 32], entries: &[SlotEntry]) -> Result<Next> {
        /// Clients that change keys at the same moment are few.
        const ATTEMPTS: usize = 16;
        let backend = self.inner.backend.as_ref();
        let master = Zeroizing::new(crypto::random()?);
        for _ in 0..ATTEMPTS {
            let next = self.next_keyring(&master, entries)?;
            let put = keys::put_keyring(backend, root_key, &next.keyring);
            if matches!(put, Ok(Put::Created)) {
                return Ok(next);
            }
            // It may have landed although the answer was lost, or was an error: whoever took it for failed could throw away
            // the only secret that opens the repository.
            match newest_keyring(backend, root_key) {
                Ok(there) if there == next.keyring => return Ok(next),
                // Another client's keyring has this generation: the next look tells under whose root key.
                Err(Error::Revoked) => _ = put?,
                Ok(_) | Err(_) => {
                    put?;
                    return Err(Error::Usage("the store does not answer whether the keys were rotated".into()));
                }
            }
        }
        Err(Error::Usage("other clients keep changing the keys; try again".into()))
    }

    fn next_keyring(&self, master: &[u8; 32], entries: &[SlotEntry]) -> Result<Next> {
        // Of the slots that are listed before the keyring changes none is valid after it but those made for it, which nobody
        // else can make; of those that come later some may be.
        let listed = doubled::list(self.inner.backend.as_ref(), Prefix::KeySlots)?;
        let (mut keyring, digest) = self.keyring()?;
        let config_digest = self.read_newest_config()?.digest;
        let epoch = keyring.epochs.last().map_or(Some(1), |newest| newest.epoch.checked_add(1));
        let epoch = epoch.ok_or(Error::Limit { what: "the number of rotations".into(), limit: u32::MAX.into() })?;
        keyring.generation += 1;
        keyring.previous_digest = digest;
        for older in &mut keyring.epochs {
            older.state = 1;
        }
        keyring.epochs.push(Epoch {
            epoch,
            keys: crypto::new_epoch_keys(master),
            created_ms: host::now_ms(),
            gc_from: GC_FROM_UNSET,
            state: 0,
        });
        let dropped = std::mem::replace(&mut keyring.slots, entries.to_vec());
        let slot_of = |name| if let Doubled::KeySlot(slot) = name { Some(slot) } else { None };
        let mut gone: Vec<SlotId> = listed.into_iter().filter_map(slot_of).collect();
        gone.extend(dropped.iter().map(|entry| entry.slot));
        gone.retain(|slot| entries.iter().all(|entry| entry.slot != *slot));
        gone.sort_unstable();
        gone.dedup();
        let keyring = keyring.with_rotation(Some(&Rotation { config_digest, dropped: gone }));
        Ok(Next { keyring, dropped })
    }

    /// What is left of a rotation: done by whoever changes keys or prunes next. Nothing, if nothing is.
    pub(crate) fn finish_rotation(&self) -> Result<()> {
        if !self.inner.is_rotating {
            return Ok(());
        }
        let backend = self.inner.backend.as_ref();
        let (keyring, _) = self.keyring()?;
        let rotation = keyring.rotation();
        if let Some(rotation) = &rotation {
            self.renew_config(rotation)?;
            for slot in &rotation.dropped {
                doubled::remove(backend, Doubled::KeySlot(*slot))?;
            }
        }
        let has_no_cycle = keyring.epochs.last().is_some_and(|epoch| epoch.gc_from == GC_FROM_UNSET);
        let cycle = if has_no_cycle { self.put_empty_cycle()? } else { None };
        if rotation.is_none() && cycle.is_none() {
            return Ok(());
        }
        self.update_keyring(|keyring| {
            *keyring = keyring.clone().with_rotation(None);
            if let (Some(cycle), Some(epoch)) = (cycle, keyring.epochs.last_mut()) {
                epoch.gc_from = epoch.gc_from.min(cycle);
            }
            Ok(())
        })
    }

    /// The config that counts, under the new keys.
    fn renew_config(&self, rotation: &Rotation) -> Result<()> {
        let newest =
            super::open::newest_config(self.inner.backend.as_ref(), &self.inner.keys, Some(rotation.config_digest))?;
        if newest.digest != rotation.config_digest {
            return Ok(());
        }
        let mut config = newest.config;
        config.generation = newest.highest_generation + 1;
        config.previous_digest = newest.digest;
        // One that another client put meanwhile is as good.
        put_config(self.inner.backend.as_ref(), &self.inner.keys, &config).map(drop)
    }

    /// A cycle of reclaiming that takes nothing, under the new keys: from its number on, steps under older keys count no more.
    /// `None`: a cycle is open, and must be ended under whatever keys it has; or something that it would have to name cannot be
    /// read.
    fn put_empty_cycle(&self) -> Result<Option<u64>> {
        let (backend, keys) = (self.inner.backend.as_ref(), &self.inner.keys);
        let cycles = Cycles::list(backend)?;
        if cycles.open().is_some() {
            return Ok(None);
        }
        let cycle = cycles.newest_done() + 1;
        let retained = gc::retained(backend, keys, &cycles)?;
        let Some(roots) = self.roots(&cycles)? else { return Ok(None) };
        let created_ms = host::now_ms();
        let by = SnapshotId::new(created_ms, crypto::random()?);
        let put = |stage, payload: Vec<u8>| -> Result<Option<[u8; 32]>> {
            let bytes = gc::seal_step(keys, cycle, stage, by, &payload)?;
            let digest = *blake3::hash(&bytes).as_bytes();
            // Somebody else's counts then, and so it is their cycle.
            Ok((backend.put_new(&ObjectName::Gc(cycle, stage), bytes)? == Put::Created).then_some(digest))
        };
        let extensions = Vec::new;
        let mark =
            Mark { cycle, by, created_ms, packs: Vec::new(), roots, expired: Vec::new(), extensions: extensions() };
        let Some(mark_digest) = put(GcStage::Mark, mark.encode())? else { return Ok(None) };
        // Looked at again, as every cycle does: a mark that comes too late says nothing.
        let newest_done = Cycles::list(backend)?.newest_done();
        if newest_done >= cycle {
            if newest_done > cycle {
                backend.remove(&ObjectName::Gc(cycle, GcStage::Mark))?;
            }
            return Ok(None);
        }
        // Nobody is waited for, since nothing is deleted.
        let pending = Pending { cycle, sessions: Vec::new(), extensions: extensions() };
        let Some(_) = put(GcStage::Pending, pending.encode())? else { return Ok(None) };
        let plan = Plan { cycle, mark_digest, delete: Vec::new(), rescued: Vec::new(), extensions: extensions() };
        let Some(plan_digest) = put(GcStage::Plan, plan.encode())? else { return Ok(None) };
        let done = Done { cycle, plan_digest, freed_bytes: 0, retained, extensions: extensions() };
        let Some(_) = put(GcStage::Done, done.encode())? else { return Ok(None) };
        for name in cycles.before(cycle) {
            backend.remove(&name)?;
        }
        Ok(Some(cycle))
    }

    /// Every snapshot that a cycle which expires none has as a root, ascending: those that are there, and those of the last mark
    /// that are gone without having been forgotten, so that the alarm for them is not lost. `None`: one cannot be read.
    fn roots(&self, cycles: &Cycles) -> Result<Option<Vec<SnapshotId>>> {
        let published = self.published()?;
        if !published.unreadable.is_empty() {
            return Ok(None);
        }
        let mut roots: Vec<SnapshotId> = published.snapshots.iter().map(|(snapshot, _)| snapshot.id()).collect();
        let last = cycles.newest_done();
        if last > 0 && cycles.has(last, GcStage::Mark) {
            let forgotten = self.forgotten_ids()?;
            let (_, mark) = gc::read_mark(self.inner.backend.as_ref(), &self.inner.keys, last)?;
            roots.extend(mark.roots.into_iter().filter(|id| !forgotten.contains(id)));
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(Some(roots))
    }
}
