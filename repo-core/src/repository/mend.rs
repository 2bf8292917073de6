//! Small objects of which one copy is missing or damaged: written again from the other.

use bytes::Bytes;

use super::{Repository, doubled};
use crate::backend::{Prefix, Put, Span};
use crate::error::{Corruption, Error, Result};
use crate::id::{Doubled, ObjectName, SnapshotId};
use crate::store::gc::{self, Cell};

/// What became of the small objects.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Mended {
    /// Objects that were looked at, both copies counting as one.
    pub objects: u64,
    /// Copies that were written, or would be.
    pub written: Vec<ObjectName>,
    /// Copies that stay as they are, and why: the other is no better, or the place cannot replace an object.
    pub unmended: Vec<(ObjectName, String)>,
}

/// One copy.
enum Found {
    Whole(Bytes),
    Damaged(Corruption),
    Missing,
}

impl Repository {
    /// Looks at both copies of every small object, and writes what is missing or damaged again.
    pub(crate) fn mend_small_objects(&self, dry_run: bool) -> Result<Mended> {
        let mut mended = Mended::default();
        let slots: Option<Vec<_>> = self.keys().ok().map(|keys| keys.iter().map(|key| key.slot).collect());
        let mut names = vec![Doubled::Format];
        for prefix in [Prefix::KeySlots, Prefix::Keyrings, Prefix::Configs, Prefix::Snapshots] {
            names.extend(doubled::list(self.inner.backend.as_ref(), prefix)?);
        }
        for name in names {
            // A slot that the keyring does not know opens nothing, and is on its way out.
            if let (Doubled::KeySlot(slot), Some(slots)) = (name, &slots)
                && !slots.contains(&slot)
            {
                continue;
            }
            mended.objects += 1;
            self.mend(name, dry_run, &mut mended)?;
        }
        Ok(mended)
    }

    /// Writes the second copy of a snapshot whose writer may not have come to it. Nothing, if there is no whole first copy,
    /// or if the snapshot was forgotten: then its copies may be on their way out.
    pub(crate) fn complete_snapshot(&self, id: SnapshotId) -> Result<()> {
        let name = Doubled::Snapshot(id);
        let Found::Whole(bytes) = self.find(name, name.into())? else { return Ok(()) };
        if !self.is_better_missing(name, &bytes)? {
            gc::put_second_copy(self.inner.backend.as_ref(), id, bytes)?;
        }
        Ok(())
    }

    fn mend(&self, name: Doubled, dry_run: bool, mended: &mut Mended) -> Result<()> {
        // The first copy first: it is removed last, so a second one that is there although the first was gone is not the rest
        // of an object that is being removed.
        let copies = [ObjectName::from(name), ObjectName::SecondCopy(name)];
        let found = [self.find(name, copies[0])?, self.find(name, copies[1])?];
        let (to, from) = match &found {
            [Found::Whole(one), Found::Whole(other)] if one == other => return Ok(()),
            [Found::Whole(_), Found::Whole(_)] => {
                mended.unmended.push((copies[1], "both copies are whole, and differ".to_owned()));
                return Ok(());
            }
            [Found::Whole(bytes), other] => ((copies[1], other), bytes),
            [other, Found::Whole(bytes)] => ((copies[0], other), bytes),
            // Gone since it was listed.
            [Found::Missing, Found::Missing] if name != Doubled::Format => return Ok(()),
            [one, other] => {
                for (copy, found) in copies.into_iter().zip([one, other]) {
                    let problem =
                        if let Found::Damaged(problem) = found { problem.clone() } else { Corruption::Missing };
                    mended.unmended.push((copy, format!("{problem}, and so is the other copy of no use")));
                }
                return Ok(());
            }
        };
        let is_missing = matches!(to.1, Found::Missing);
        if is_missing && self.is_better_missing(name, from)? {
            return Ok(());
        }
        if dry_run {
            mended.written.push(to.0);
            return Ok(());
        }
        match self.write_copy(to.0, is_missing, from)? {
            None => mended.written.push(to.0),
            Some(problem) => mended.unmended.push((to.0, problem)),
        }
        Ok(())
    }

    fn find(&self, name: Doubled, object: ObjectName) -> Result<Found> {
        match self.inner.backend.get(&object, Span::All) {
            Ok(bytes) => Ok(match self.inspect(name, &bytes) {
                Ok(()) => Found::Whole(bytes),
                Err(problem) => Found::Damaged(problem),
            }),
            Err(error) if error.is_absent() => Ok(Found::Missing),
            Err(error) => Err(error.into()),
        }
    }

    /// Of a fence there is one copy. And of a forgotten snapshot the copies may be on their way out: one that came back behind
    /// the back of whoever removes them would be a snapshot without its data. (One that is forgotten only after this was asked
    /// stays hidden by its forget record if that happens, and goes with the next cycle.)
    fn is_better_missing(&self, name: Doubled, bytes: &Bytes) -> Result<bool> {
        let Doubled::Snapshot(id) = name else { return Ok(false) };
        let is_fence = matches!(gc::open_cell(&self.inner.keys, id, bytes), Ok(Cell::Tombstone));
        Ok(is_fence || self.forgotten_ids()?.contains(&id))
    }

    /// `None`: it is there. Else why not.
    fn write_copy(&self, copy: ObjectName, is_missing: bool, bytes: &Bytes) -> Result<Option<String>> {
        let backend = &self.inner.backend;
        if !is_missing {
            match backend.replace_damaged(&copy, bytes.clone()) {
                Ok(()) => return Ok(None),
                Err(error) if error.is_absent() => return Ok(Some("it was removed meanwhile".to_owned())),
                Err(error) if error.is_unsupported() => {
                    return Ok(Some("this place cannot replace an object".to_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let put = match copy {
            ObjectName::SecondCopy(Doubled::Snapshot(id)) => gc::put_second_copy(backend.as_ref(), id, bytes.clone())?,
            _ => backend.put_new(&copy, bytes.clone())?,
        };
        match put {
            Put::Created => Ok(None),
            Put::Exists(there) if there == *bytes => Ok(None),
            Put::Exists(_) => Ok(Some("another client wrote something else there".to_owned())),
            Put::Unknown => Err(Error::Usage(format!("the store lost its answer to {copy}; run the command again"))),
        }
    }
}
