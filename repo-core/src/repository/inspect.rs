//! Looks at the small objects one by one, each copy on its own: for checks.

use std::ops::ControlFlow;

use super::Repository;
use crate::backend::{self, Listed, Prefix, Span};
use crate::error::{Corruption, Error, Result};
use crate::format::config::Config;
use crate::format::header::ObjectType;
use crate::format::key_slot::KeySlot;
use crate::format::keyring::{Keyring, Purpose};
use crate::format::marker::Marker;
use crate::format::session::Session;
use crate::id::{Doubled, ObjectName, SnapshotId};
use crate::seal;
use crate::store::gc::{self, Cell};

impl Repository {
    /// Every small object that cannot be read, or of which a copy is missing. A key slot that is not in the keyring opens
    /// nothing, so of it there is only a note.
    pub(crate) fn check_small_objects(&self, notes: &mut Vec<String>) -> Result<Vec<Error>> {
        let mut errors = Vec::new();
        // Without a keyring, which is named below, nobody knows which slots count.
        let valid_slots: Option<Vec<_>> = self.keys().ok().map(|keys| keys.iter().map(|key| key.slot).collect());
        let mut names = vec![Doubled::Format];
        for prefix in [Prefix::KeySlots, Prefix::Keyrings, Prefix::Configs, Prefix::Snapshots] {
            names.extend(super::doubled::list(self.inner.backend.as_ref(), prefix)?);
        }
        let forgotten = self.forgotten_ids()?;
        for name in names {
            // Between its two copies somebody may be taking it away, or its writer, woken late, may be putting the second.
            let may_go = matches!(name, Doubled::Snapshot(id) if forgotten.contains(&id));
            if let (Doubled::KeySlot(slot), Some(valid)) = (name, &valid_slots)
                && !valid.contains(&slot)
            {
                notes.push(format!(
                    "key slot {slot} is not in the keyring, left by an init or a change of keys that was cut off or is under \
                     way; it opens nothing"
                ));
                continue;
            }
            for object in [ObjectName::from(name), ObjectName::SecondCopy(name)] {
                match self.inner.backend.get(&object, Span::All) {
                    Ok(bytes) => errors.extend(self.inspect(name, &bytes).err().map(|problem| problem.of(object))),
                    Err(error) if error.is_absent() => {
                        if !may_go
                            && !self.is_gone(name)?
                            && !self.is_to_come(name, object)?
                            && !self.may_go_by_now(name)?
                        {
                            errors.push(Corruption::Missing.of(object));
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(errors)
    }

    /// Whether it was forgotten since this was asked of all: then its second copy goes first.
    fn may_go_by_now(&self, name: Doubled) -> Result<bool> {
        let Doubled::Snapshot(id) = name else { return Ok(false) };
        self.is_there(&ObjectName::Forgotten(id))
    }

    fn is_there(&self, object: &ObjectName) -> Result<bool> {
        Ok(backend::is_there(self.inner.backend.as_ref(), object)?)
    }

    /// Whether both copies are gone: removed by another client since they were listed.
    fn is_gone(&self, name: Doubled) -> Result<bool> {
        for object in [ObjectName::from(name), ObjectName::SecondCopy(name)] {
            if self.is_there(&object)? {
                return Ok(false);
            }
        }
        Ok(name != Doubled::Format)
    }

    /// Whether a second copy is missing because there is none of a fence, which nobody misses: who finds the name empty
    /// writes it again. Or only because its writer is, or was cut off, between the two: a session goes after
    /// its snapshot's second copy came. Of the session there is a note.
    fn is_to_come(&self, name: Doubled, object: ObjectName) -> Result<bool> {
        let (Doubled::Snapshot(id), ObjectName::SecondCopy(_)) = (name, object) else { return Ok(false) };
        if let Ok(Cell::Tombstone) = gc::read_cell(self.inner.backend.as_ref(), &self.inner.keys, id) {
            return Ok(true);
        }
        // The session first: if it is gone, whether the copy came before that can be seen.
        for sign in [ObjectName::Session(id), object] {
            if self.is_there(&sign)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether these bytes are this object.
    pub(super) fn inspect(&self, name: Doubled, bytes: &[u8]) -> Result<(), Corruption> {
        let keys = &self.inner.keys;
        let is_this = match name {
            Doubled::Format => Marker::decode(bytes)?.repository == self.inner.id,
            Doubled::KeySlot(slot) => KeySlot::decode(bytes)?.slot == slot,
            Doubled::Keyring(generation) => match seal::open_keyring(&self.inner.root_key, generation, bytes) {
                Ok(payload) => Keyring::decode(&payload)?.generation == generation,
                // Whole by its checksum, and of a root key before the last rotation.
                Err(Corruption::Authentication) if generation < self.inner.keyring_generation => true,
                Err(problem) => return Err(problem),
            },
            Doubled::Config(generation) => {
                let payload = seal::open_box(keys, Purpose::Config, ObjectType::Config, &name.into(), bytes)?;
                Config::decode(&payload)?.generation == generation
            }
            Doubled::Snapshot(id) => gc::open_cell(keys, id, bytes).map(|_| true)?,
        };
        if is_this { Ok(()) } else { Err(Corruption::Malformed("object: it is another's")) }
    }

    /// Reads a session.
    pub(crate) fn read_session(&self, id: SnapshotId) -> Result<Session> {
        self.read_sign(ObjectName::Session(id))
    }

    /// The same of a session or of any other sign of life.
    pub(crate) fn read_sign(&self, name: ObjectName) -> Result<Session> {
        let bytes = match self.inner.backend.get(&name, Span::All) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Err(Corruption::Missing.of(name)),
            Err(error) => return Err(error.into()),
        };
        seal::open_box(&self.inner.keys, Purpose::Session, ObjectType::Session, &name, &bytes)
            .and_then(|payload| Session::decode(&payload))
            .map_err(|problem| problem.of(name))
    }

    /// The names of all objects below a prefix, with their sizes.
    pub fn objects(&self, prefix: Prefix) -> Result<Vec<(ObjectName, u64)>> {
        let mut objects = Vec::new();
        self.inner.backend.list(prefix, &mut |listed| {
            if let Listed::Object { name, size } = listed {
                objects.push((name, size));
            }
            ControlFlow::Continue(())
        })?;
        objects.sort_unstable();
        Ok(objects)
    }
}
