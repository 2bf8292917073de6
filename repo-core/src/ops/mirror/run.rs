//! One run of a mirror: list, copy what is lacking, publish, and only then remove.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::objects::{self, Found, Listing, list};
use super::{MirrorOptions, MirrorReport, mark_of};
use crate::backend::{Backend, Listed, Prefix, Put};
use crate::error::{Error, Result};
use crate::format::marker::Marker;
use crate::format::mirror::MirrorMark;
use crate::id::{ObjectName, PackKind};
use crate::pipeline::{for_each_parallel, lock};
use crate::platform::host;
use crate::progress::{Event, Progress};

/// How often a run begins again because the source changed under it.
const ATTEMPTS_MAX: usize = 8;

/// A run.
pub struct Run<'m> {
    source: &'m dyn Backend,
    target: &'m dyn Backend,
    options: &'m MirrorOptions,
    progress: &'m dyn Progress,
    /// The bytes of the source's marker.
    marker: Bytes,
    copied: AtomicU64,
    copied_bytes: AtomicU64,
    removed: u64,
    healed: Mutex<Vec<ObjectName>>,
    damaged: Mutex<Vec<ObjectName>>,
}

/// What the source had, in the order in which it was asked.
struct Seen {
    snapshots: Listing,
    forgotten: Listing,
    keyrings: Listing,
    configs: Listing,
    slots: Listing,
    indexes: Listing,
    parity: Listing,
    packs: Listing,
}

impl Seen {
    /// Snapshots before packs: see the room's head. Keyrings before slots: each slot that a keyring needs was there before it.
    fn list(source: &dyn Backend) -> Result<Self> {
        let (snapshots, forgotten) = (list(source, Prefix::Snapshots)?, list(source, Prefix::Forgotten)?);
        let (keyrings, configs) = (list(source, Prefix::Keyrings)?, list(source, Prefix::Configs)?);
        let (slots, indexes) = (list(source, Prefix::KeySlots)?, list(source, Prefix::Indexes)?);
        let parity = list(source, Prefix::Parity)?;
        let packs = packs(source)?;
        Ok(Self { snapshots, forgotten, keyrings, configs, slots, indexes, parity, packs })
    }
}

fn packs(place: &dyn Backend) -> Result<Listing> {
    let mut packs = list(place, Prefix::Packs(PackKind::Data))?;
    packs.append(&mut list(place, Prefix::Packs(PackKind::Meta))?);
    Ok(packs)
}

/// Whether an object could be had.
enum Outcome {
    Done,
    Gone,
}

impl<'m> Run<'m> {
    /// Looks whether this may be done at all.
    pub fn new(
        source: &'m dyn Backend,
        target: &'m dyn Backend,
        options: &'m MirrorOptions,
        progress: &'m dyn Progress,
    ) -> Result<Self> {
        let (marker, Marker { repository, .. }) = objects::marker(source)?;
        match mark_of(target)? {
            Some(mark) if mark.repository == repository => {}
            Some(_) => {
                return Err(Error::SplitBrain {
                    place: target.place(),
                    problem: "it is a mirror of another repository".into(),
                });
            }
            None => make_mirror(target, &MirrorMark { repository, created_ms: host::now_ms() })?,
        }
        let zero = || AtomicU64::new(0);
        let (healed, damaged) = (Mutex::default(), Mutex::default());
        let (copied, copied_bytes) = (zero(), zero());
        Ok(Self { source, target, options, progress, marker, copied, copied_bytes, removed: 0, healed, damaged })
    }

    pub fn go(mut self) -> Result<MirrorReport> {
        for _ in 0..ATTEMPTS_MAX {
            lock(&self.damaged).clear();
            if self.attempt()? {
                let unique = |names: Mutex<Vec<ObjectName>>| {
                    let mut names = names.into_inner().unwrap_or_default();
                    names.sort_unstable();
                    names.dedup();
                    names
                };
                return Ok(MirrorReport {
                    copied: self.copied.into_inner(),
                    copied_bytes: self.copied_bytes.into_inner(),
                    removed: self.removed,
                    healed: unique(self.healed),
                    damaged: unique(self.damaged),
                });
            }
        }
        Err(Error::Usage(format!("{} changes faster than it can be mirrored; try again", self.source.place())))
    }

    /// `false`: the source changed, and what was listed is no guide any more.
    fn attempt(&mut self) -> Result<bool> {
        let seen = Seen::list(self.source)?;
        let there = list(self.target, Prefix::All)?;
        self.refuse_split_brain(&seen, &there)?;
        let lacking = |listing: &Listing| -> Vec<(ObjectName, u64)> {
            // A run may have died between the two copies of an object.
            let lacking = |(name, size): &(&ObjectName, &u64)| {
                let second = objects::second_copy(name);
                [Some(**name), second].iter().flatten().any(|name| there.get(name) != Some(*size))
            };
            listing.iter().filter(lacking).map(|(name, size)| (*name, *size)).collect()
        };
        let packs = lacking(&seen.packs);
        let bytes = packs.iter().map(|(_, size)| size).sum();
        self.progress.report(Event::Total { files: packs.len() as u64, bytes });
        self.make_durable(&seen, &there, !packs.is_empty())?;
        for listing in [packs, lacking(&seen.parity), lacking(&seen.indexes)] {
            if !self.copy_all(&listing)? {
                return Ok(false);
            }
        }
        for listing in [&seen.slots, &seen.keyrings, &seen.configs, &seen.forgotten] {
            if !self.copy_all(&lacking(listing))? {
                return Ok(false);
            }
        }
        let now = (list(self.source, Prefix::Keyrings)?, list(self.source, Prefix::Configs)?);
        if now.0.keys().ne(seen.keyrings.keys()) || now.1.keys().ne(seen.configs.keys()) {
            return Ok(false);
        }
        // Those that are still there were there when the packs were listed.
        let now = list(self.source, Prefix::Snapshots)?;
        let standing: Listing = seen
            .snapshots
            .iter()
            .filter(|(name, _)| now.contains_key(*name))
            .map(|(name, size)| (*name, *size))
            .collect();
        // One that goes this very moment is dropped.
        self.copy_all(&lacking(&standing))?;
        self.put(&ObjectName::Format, &self.marker)?;
        self.put(&ObjectName::SecondCopy(crate::id::Doubled::Format), &self.marker)?;
        if self.options.delete {
            self.remove_what_is_gone(&seen, &standing, &there)?;
        }
        Ok(true)
    }

    /// Generations are numbers that one writer wins. If both have the same number with other bytes, or the mirror a higher one,
    /// then both were written to.
    fn refuse_split_brain(&self, seen: &Seen, there: &Listing) -> Result<()> {
        let split = |problem: String| Err(Error::SplitBrain { place: self.target.place(), problem });
        for (name, known) in there.keys().filter_map(|name| match name {
            ObjectName::Keyring(_) => Some((name, &seen.keyrings)),
            ObjectName::Config(_) => Some((name, &seen.configs)),
            _ => None,
        }) {
            if !known.contains_key(name) {
                if known.keys().next_back().is_none_or(|newest| newest < name) {
                    return split(format!("it has {name}, which the source has not"));
                }
                continue;
            }
            if let (Found::Intact(ours), Found::Intact(theirs)) =
                (objects::read(self.source, name)?, objects::read(self.target, name)?)
                && ours != theirs
            {
                return split(format!("its {name} is not the source's"));
            }
        }
        match objects::read(self.target, &ObjectName::Format)? {
            Found::Intact(bytes) if bytes != self.marker => split("its format is not the source's".into()),
            _ => Ok(()),
        }
    }

    /// A run that died may have left packs whose names are not durable yet, and snapshots are about to rely on them.
    fn make_durable(&self, seen: &Seen, there: &Listing, packs_lack: bool) -> Result<()> {
        if !packs_lack && seen.snapshots.keys().all(|name| there.contains_key(name)) {
            return Ok(());
        }
        for name in seen.packs.keys().filter(|name| there.contains_key(name)) {
            self.target.make_durable(name)?;
        }
        Ok(())
    }

    /// `false`: something is no longer in the source.
    fn copy_all(&self, listing: &[(ObjectName, u64)]) -> Result<bool> {
        let gone = AtomicU64::new(0);
        for_each_parallel(self.options.threads, 1, listing.iter().map(Ok), |(name, _)| {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let Outcome::Gone = self.copy(name)? {
                gone.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(gone.into_inner() == 0)
    }

    fn copy(&self, name: &ObjectName) -> Result<Outcome> {
        let second = objects::second_copy(name);
        let bytes = match (objects::read(self.source, name)?, second) {
            (Found::Intact(bytes), _) => bytes,
            (Found::Absent, _) => return Ok(Outcome::Gone),
            (Found::Damaged(_), second) => {
                lock(&self.damaged).push(*name);
                match second.map(|second| objects::read(self.source, &second)).transpose()? {
                    Some(Found::Intact(bytes)) => bytes,
                    _ => return Ok(Outcome::Done),
                }
            }
        };
        if let ObjectName::Pack(..) = name {
            self.progress.report(Event::Bytes { count: bytes.len() as u64 });
        }
        self.put(name, &bytes)?;
        if let Some(second) = second {
            self.put(&second, &bytes)?;
        }
        Ok(Outcome::Done)
    }

    /// Puts an object that was proven. What is there and damaged is replaced.
    fn put(&self, name: &ObjectName, bytes: &Bytes) -> Result<()> {
        match self.target.put_new(name, bytes.clone())? {
            Put::Created => {
                self.copied.fetch_add(1, Ordering::Relaxed);
                self.copied_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Put::Exists(there) if there == *bytes => Ok(()),
            Put::Exists(there) if objects::is_intact(name, &there) => Err(Error::SplitBrain {
                place: self.target.place(),
                problem: format!("its {name} is whole and not the source's"),
            }),
            Put::Exists(_) => {
                self.target.replace_damaged(name, bytes.clone())?;
                lock(&self.healed).push(*name);
                Ok(())
            }
            Put::Unknown => Err(Error::Usage(format!("{} lost its answer; run it again", self.target.place()))),
        }
    }

    /// Snapshots, and only then what they needed; of what is doubled the second copy first.
    fn remove_what_is_gone(&mut self, seen: &Seen, standing: &Listing, there: &Listing) -> Result<()> {
        let gone = |is_of: fn(&ObjectName) -> bool, known: &Listing| -> Vec<ObjectName> {
            there.keys().filter(|name| is_of(name) && !known.contains_key(*name)).copied().collect()
        };
        let order = [
            gone(|name| matches!(name, ObjectName::Snapshot(_)), standing),
            gone(|name| matches!(name, ObjectName::Forgotten(_)), &seen.forgotten),
            gone(|name| matches!(name, ObjectName::Index(_)), &seen.indexes),
            gone(|name| matches!(name, ObjectName::Pack(..)), &seen.packs),
            gone(|name| matches!(name, ObjectName::Parity(..)), &seen.parity),
            gone(|name| matches!(name, ObjectName::KeySlot(_)), &seen.slots),
            gone(|name| matches!(name, ObjectName::Keyring(_)), &seen.keyrings),
            gone(|name| matches!(name, ObjectName::Config(_)), &seen.configs),
        ];
        for name in order.into_iter().flatten() {
            if let Some(second) = objects::second_copy(&name) {
                self.target.remove(&second)?;
            }
            self.target.remove(&name)?;
            self.removed += 1;
        }
        Ok(())
    }
}

/// The mark comes first: nobody writes to what is half a mirror.
fn make_mirror(target: &dyn Backend, mark: &MirrorMark) -> Result<()> {
    refuse_other_things(target)?;
    target.prepare()?;
    match target.put_new(&ObjectName::Mirror, Bytes::copy_from_slice(&mark.encode()))? {
        Put::Created => Ok(()),
        // Another run of the same mirror came first, or of another.
        Put::Exists(_) | Put::Unknown => match mark_of(target)? {
            Some(there) if there.repository == mark.repository => Ok(()),
            _ => Err(Error::NotEmpty { place: target.place(), found: vec!["mirror".into()], more: false }),
        },
    }
}

/// Whatever is there, ours or not, is somebody's. `lost+found` is nobody's.
fn refuse_other_things(target: &dyn Backend) -> Result<()> {
    const NAMED: usize = 3;
    let mut found = Vec::new();
    let listed = target.list(Prefix::All, &mut |listed| {
        match listed {
            Listed::Object { name, .. } => found.push(name.to_string()),
            Listed::Foreign { name } if name != "lost+found" => found.push(name),
            Listed::Foreign { .. } => {}
        }
        if found.len() > NAMED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match listed {
        // Not made yet.
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(()) if found.is_empty() => return Ok(()),
        Ok(()) => {}
    }
    let more = found.len() > NAMED;
    found.truncate(NAMED);
    found.sort_unstable();
    Err(Error::NotEmpty { place: target.place(), found, more })
}
