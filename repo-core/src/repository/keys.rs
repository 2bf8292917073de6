//! Key slots: add, list, remove, change; the recovery kit.
//!
//! A change is a new generation of the keyring, whose table of slots alone says which are valid; the slot's object is
//! written before it and removed after it.

use std::ops::ControlFlow;

use zeroize::Zeroizing;

use super::{KeyInfo, KeyKind, Repository, doubled};
use crate::backend::{Backend, Listed, Prefix, Put};
use crate::crypto::{self, PasswordCost, Secret};
use crate::error::{Corruption, Error, Result};
use crate::format::key_slot::{Derivation, KeySlot};
use crate::format::keyring::{Keyring, SlotEntry};
use crate::id::{Doubled, ObjectName, RepositoryId, SlotId};
use crate::platform::host;
use crate::seal;
use crate::store::refuse_mirror;

/// What a new slot is made of.
pub(super) struct NewSlot<'a> {
    pub secret: &'a Secret,
    pub label: &'a str,
    pub cost: PasswordCost,
    pub created_ms: u64,
}

/// The number of a slot's kind in the keyring.
pub(super) fn slot_kind(secret: &Secret) -> u8 {
    match secret {
        Secret::Password(_) => 1,
        Secret::Key(_) | Secret::RootKey(_) => 2,
    }
}

/// A slot and its row for the keyring.
pub(super) fn make_slot(
    new: &NewSlot<'_>,
    repository: RepositoryId,
    root_key: &[u8; 32],
    generation: u64,
) -> Result<(KeySlot, SlotEntry)> {
    let id = SlotId(crypto::random()?);
    let derivation = match new.secret {
        Secret::Password(_) => new.cost.derivation(),
        Secret::Key(_) => Derivation::Raw,
        Secret::RootKey(_) => return Err(Error::Usage("a recovery kit needs no key slot".into())),
    };
    let slot =
        crypto::new_slot(new.secret, derivation, repository, id, root_key, generation, new.label, new.created_ms)?;
    let entry = SlotEntry {
        slot: id,
        role: 0,
        kind: slot_kind(new.secret),
        label: new.label.to_owned(),
        created_ms: new.created_ms,
    };
    Ok((slot, entry))
}

/// Writes a generation of the keyring.
pub(super) fn put_keyring(backend: &dyn Backend, root_key: &[u8; 32], keyring: &Keyring) -> Result<Put> {
    let payload = Zeroizing::new(keyring.encode());
    // The decoder is the one judge: a newest keyring that it refuses would lock everybody out.
    Keyring::decode(&payload)
        .map_err(|problem| Error::Usage(format!("such keys could not be read back: {problem}")))?;
    let bytes = seal::seal_keyring(root_key, keyring.generation, &payload)?;
    doubled::put(backend, Doubled::Keyring(keyring.generation), &bytes.into())
}

impl Repository {
    /// The key slots.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::KeyKind;
    ///
    /// let keys = repository.keys()?;
    /// assert_eq!(keys.len(), 1);
    /// assert!(keys[0].current && keys[0].kind == KeyKind::KeyFile);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        Ok(self.keyring()?.0.slots.iter().map(|entry| self.key_info(entry)).collect())
    }

    /// Adds a key slot.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::PasswordCost;
    ///
    /// // A password takes Argon2id's time, now and at every opening; for a key the cost means nothing.
    /// let (second, _key_file) = Secret::generate_key()?;
    /// let added = repository.add_key(&second, "the other machine", PasswordCost::Default)?;
    /// assert_eq!(added.label, "the other machine");
    /// Repository::open(repository.backend().clone(), &second)?;
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn add_key(&self, secret: &Secret, label: &str, cost: PasswordCost) -> Result<KeyInfo> {
        refuse_mirror(self.inner.backend.as_ref())?;
        self.require_owner()?;
        self.replace_key(None, secret, label, cost)
    }

    /// Removes a key slot; never the last, never the one in use. Finishes a removal that was cut off.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{Error, PasswordCost};
    ///
    /// let (second, _key_file) = Secret::generate_key()?;
    /// let added = repository.add_key(&second, "lost", PasswordCost::Default)?;
    /// repository.remove_key(added.slot)?;
    /// let refused = Repository::open(repository.backend().clone(), &second);
    /// assert!(matches!(refused, Err(Error::WrongSecret { .. })));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn remove_key(&self, slot: SlotId) -> Result<()> {
        refuse_mirror(self.inner.backend.as_ref())?;
        self.require_owner()?;
        self.finish_rotation()?;
        if self.inner.slot == Some(slot) {
            return Err(Error::Usage(
                "this is the key in use; open the repository with another one to remove it".into(),
            ));
        }
        if !self.keyring()?.0.slots.iter().any(|entry| entry.slot == slot) && self.has_slot_object(slot)? {
            return doubled::remove(self.inner.backend.as_ref(), Doubled::KeySlot(slot));
        }
        self.update_keyring(|keyring| {
            let before = keyring.slots.len();
            keyring.slots.retain(|entry| entry.slot != slot);
            match keyring.slots.len() {
                after if after == before => Err(Error::Usage(format!("no key {slot}"))),
                0 => Err(Error::Usage("this is the last key; without it nobody could open the repository".into())),
                _ => Ok(()),
            }
        })?;
        doubled::remove(self.inner.backend.as_ref(), Doubled::KeySlot(slot))
    }

    fn has_slot_object(&self, slot: SlotId) -> Result<bool> {
        let names = doubled::list(self.inner.backend.as_ref(), Prefix::KeySlots)?;
        Ok(names.contains(&Doubled::KeySlot(slot)))
    }

    /// Replaces the slot in use by one for `secret`. This handle stays open; a new one needs the new secret.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::PasswordCost;
    ///
    /// let (fresh, _key_file) = Secret::generate_key()?;
    /// repository.change_key(&fresh, PasswordCost::Default)?;
    /// assert!(Repository::open(repository.backend().clone(), &secret).is_err());
    /// Repository::open(repository.backend().clone(), &fresh)?;
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn change_key(&self, secret: &Secret, cost: PasswordCost) -> Result<KeyInfo> {
        self.change(secret, None, cost)
    }

    /// The same, and the new slot is called `label` instead of what the old one was.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, PasswordCost, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// let (fresh, _key_file) = Secret::generate_key()?;
    /// let changed = repository.change_key_and_label(&fresh, "ann@desk", PasswordCost::Default)?;
    /// assert_eq!(changed.label, "ann@desk");
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn change_key_and_label(&self, secret: &Secret, label: &str, cost: PasswordCost) -> Result<KeyInfo> {
        self.change(secret, Some(label), cost)
    }

    fn change(&self, secret: &Secret, label: Option<&str>, cost: PasswordCost) -> Result<KeyInfo> {
        refuse_mirror(self.inner.backend.as_ref())?;
        self.require_owner()?;
        let Some(old) = self.inner.slot else {
            return Err(Error::Usage("opened with a recovery kit: there is no key to change, add one".into()));
        };
        let label = match label {
            Some(label) => label.to_owned(),
            None => {
                let slots = self.keyring()?.0.slots;
                slots.into_iter().find(|entry| entry.slot == old).map(|entry| entry.label).unwrap_or_default()
            }
        };
        let info = self.replace_key(Some(old), secret, &label, cost)?;
        doubled::remove(self.inner.backend.as_ref(), Doubled::KeySlot(old))?;
        Ok(info)
    }

    /// A text to print and keep safe: it alone opens the repository, whatever becomes of the key slots
    /// ([`Secret::from_recovery_kit`] reads it back).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// let kit = repository.recovery_kit();
    /// let from_paper = Secret::from_recovery_kit(&kit)?;
    /// Repository::open(repository.backend().clone(), &from_paper)?;
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn recovery_kit(&self) -> Zeroizing<String> {
        Secret::recovery_kit_text(&self.inner.root_key, self.inner.id)
    }

    pub(super) fn key_info(&self, entry: &SlotEntry) -> KeyInfo {
        KeyInfo {
            slot: entry.slot,
            current: self.inner.slot == Some(entry.slot),
            kind: if entry.kind == 1 { KeyKind::Password } else { KeyKind::KeyFile },
            label: entry.label.clone(),
            created_ms: entry.created_ms,
        }
    }

    fn replace_key(&self, old: Option<SlotId>, secret: &Secret, label: &str, cost: PasswordCost) -> Result<KeyInfo> {
        self.finish_rotation()?;
        let created_ms = host::now_ms();
        let new = NewSlot { secret, label, cost, created_ms };
        let generation = self.keyring()?.0.generation + 1;
        let (slot, entry) = make_slot(&new, self.inner.id, &self.inner.root_key, generation)?;
        doubled::put(self.inner.backend.as_ref(), Doubled::KeySlot(slot.slot), &slot.encode().into())?;
        self.update_keyring(|keyring| {
            // Its own row may be there already, if the answer to the attempt before was lost.
            keyring.slots.retain(|other| Some(other.slot) != old && other.slot != entry.slot);
            keyring.slots.push(entry.clone());
            Ok(())
        })?;
        Ok(self.key_info(&entry))
    }

    /// Whether this handle's keys are still those of the repository: asked by every writer after it was registered.
    ///
    /// # Errors
    /// [`Error::Rotated`] if there are new keys since this handle was opened.
    pub(crate) fn check_generations(&self) -> Result<()> {
        // Of the first copies alone: asked often, and all second copies have one prefix.
        let mut newest = 0;
        self.inner.backend.list(Prefix::Keyrings, &mut |listed| {
            if let Listed::Object { name: ObjectName::Keyring(generation), .. } = listed {
                newest = newest.max(generation);
            }
            ControlFlow::Continue(())
        })?;
        if newest <= self.inner.keyring_generation {
            return Ok(());
        }
        let (keyring, _) = self.keyring()?;
        let epoch = keyring.epochs.last().map_or(0, |epoch| epoch.epoch);
        if epoch == self.inner.keys.newest_epoch() { Ok(()) } else { Err(Error::Rotated) }
    }

    /// The newest keyring and the digest of its object.
    ///
    /// # Errors
    /// [`Error::Rotated`] if it is under another root key than the one that this handle was opened with.
    pub(super) fn keyring(&self) -> Result<(Keyring, [u8; 32])> {
        let backend = self.inner.backend.as_ref();
        let names = doubled::list(backend, Prefix::Keyrings)?;
        let Some(Doubled::Keyring(generation)) = names.last().copied() else {
            return Err(Corruption::Missing.of(ObjectName::Keyring(1)));
        };
        let keyring = doubled::get(backend, Doubled::Keyring(generation), |bytes| {
            let payload = seal::open_keyring(&self.inner.root_key, generation, bytes)?;
            Ok((Keyring::decode(&payload)?, *blake3::hash(bytes).as_bytes()))
        });
        match keyring {
            Err(Error::Corrupt { problem: Corruption::Authentication, .. })
                if generation > self.inner.keyring_generation =>
            {
                Err(Error::Rotated)
            }
            keyring => keyring,
        }
    }

    /// Publishes the next generation of the keyring; tries again if another client came first.
    pub(super) fn update_keyring(&self, change: impl Fn(&mut Keyring) -> Result<()>) -> Result<()> {
        /// Clients that change keys at the same moment are few.
        const ATTEMPTS: usize = 16;
        for _ in 0..ATTEMPTS {
            let (mut keyring, digest) = self.keyring()?;
            keyring.generation += 1;
            keyring.previous_digest = digest;
            change(&mut keyring)?;
            if put_keyring(self.inner.backend.as_ref(), &self.inner.root_key, &keyring)? == Put::Created {
                return Ok(());
            }
        }
        Err(Error::Usage("other clients keep changing the keys; try again".into()))
    }
}
