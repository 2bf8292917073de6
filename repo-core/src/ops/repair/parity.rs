//! Makes parity what it should be: every pack has its parity object, whole and of the percentage that is asked for; and what
//! parity can bring back on the way is brought back.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rayon::prelude::*;

use super::heal::{self, Healing, ParityNames};
use crate::backend::{Prefix, Put, Removal, Span};
use crate::error::{BackendErrorKind, Error, Result};
use crate::id::{ObjectName, PackId, PackKind};
use crate::parity;
use crate::pipeline::{self, lock};
use crate::progress::{Event, Progress};
use crate::repository::Repository;
use crate::store::refuse_mirror;

/// How to repair parity.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ParityOptions {
    /// From now on packs get so many percent of parity, 0 to 100; `None`: as before.
    pub percent: Option<u8>,
    /// Read every pack, not only those that lack parity, and bring back what is damaged.
    pub read_packs: bool,
}

impl ParityOptions {
    /// Looks after parity alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the percentage for packs to come, and brings those that are there to it.
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = Some(percent);
        self
    }

    /// Reads every pack, too, and brings back what is damaged.
    pub fn read_packs(mut self) -> Self {
        self.read_packs = true;
        self
    }
}

/// What a repair of parity did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ParityReport {
    /// Percent of parity that packs have or get.
    pub percent: u8,
    /// Packs that are there.
    pub packs: u64,
    /// Parity objects that were made.
    pub written: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Parity objects that were damaged, and made anew.
    pub mended: u64,
    /// Parity objects that were removed: of another percentage than was asked for.
    pub removed: u64,
    /// Parity objects whose pack is not there. They are kept: it may have been lost.
    pub orphaned: u64,
    /// Stored bytes read.
    pub read_bytes: u64,
    /// Packs that were damaged and are whole again.
    pub healed_packs: Vec<PackId>,
    /// What is damaged still, and why.
    pub unhealed: Vec<Unhealed>,
}

/// An object that could not be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unhealed {
    /// Which one.
    pub object: ObjectName,
    /// Why not.
    pub reason: String,
}

impl ParityReport {
    /// Whether every object that was looked at is whole now.
    pub fn is_whole(&self) -> bool {
        self.unhealed.is_empty()
    }
}

impl Repository {
    /// Gives every pack the parity that it should have, and makes damaged parity whole. Packs that are read for that, or all
    /// if it is asked for, are healed from their parity if they are damaged. No key is needed for any of it but to read
    /// and change the percentage.
    ///
    /// May be interrupted at any time and done again. Handles that were opened before write packs with the old percentage
    /// until they are opened again.
    ///
    /// # Errors
    /// [`Error::Usage`] for more than 100 percent; backend errors. What could not be healed is in the report.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, ParityOptions, Silent};
    ///
    /// # let source = ReaderSource::new("/notes".as_ref(), &b"buy milk"[..]);
    /// # repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// let report = repository.repair_parity(&ParityOptions::new().percent(5), &Silent)?;
    /// assert!(report.is_whole());
    /// assert_eq!(report.written, report.packs);
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    pub fn repair_parity(&self, options: &ParityOptions, progress: &dyn Progress) -> Result<ParityReport> {
        refuse_mirror(self.backend().as_ref())?;
        pipeline::guarded(|| self.repair_all_parity(options, progress))
    }

    fn repair_all_parity(&self, options: &ParityOptions, progress: &dyn Progress) -> Result<ParityReport> {
        if let Some(percent) = options.percent {
            // First, so that packs which are written meanwhile are right already.
            self.set_parity_percent(percent)?;
        }
        let percent = self.newest_config()?.parity_percent();
        progress.report(Event::Stage { name: "parity" });
        // Before the packs: a pack is written before its parity, so that parity without a pack has lost it.
        let names = ParityNames::list(self.backend().as_ref())?;
        let mut packs = Vec::new();
        for kind in [PackKind::Data, PackKind::Meta] {
            packs.extend(self.objects(Prefix::Packs(kind))?);
        }
        progress.report(Event::Total { files: packs.len() as u64, bytes: packs.iter().map(|(_, size)| size).sum() });
        let report = Mutex::new(ParityReport { percent, packs: packs.len() as u64, ..ParityReport::default() });
        let run = Run { repository: self, names: &names, percent, options, report: &report };
        let mend = |(name, size): &(ObjectName, u64)| {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let ObjectName::Pack(kind, pack) = *name {
                run.mend(kind, pack, *size)?;
            }
            progress.report(Event::Bytes { count: *size });
            Ok(())
        };
        // One pack a thread is in memory at a time.
        pipeline::pool(self.inner.threads)?.install(|| packs.par_iter().with_max_len(1).try_for_each(mend))?;
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        let listed: HashSet<PackId> = packs.iter().filter_map(|(name, _)| pack_of(name)).collect();
        report.orphaned = names.packs().filter(|pack| !listed.contains(pack)).count() as u64;
        report.healed_packs.sort_unstable();
        report.unhealed.sort_unstable_by_key(|unhealed| unhealed.object);
        Ok(report)
    }
}

fn pack_of(name: &ObjectName) -> Option<PackId> {
    if let ObjectName::Pack(_, pack) = name { Some(*pack) } else { None }
}

struct Run<'r> {
    repository: &'r Repository,
    names: &'r ParityNames,
    percent: u8,
    options: &'r ParityOptions,
    report: &'r Mutex<ParityReport>,
}

impl Run<'_> {
    /// One pack and its parity.
    fn mend(&self, kind: PackKind, pack: PackId, size: u64) -> Result<()> {
        let mut damaged = Vec::new();
        let mut whole = Vec::new();
        for shards in self.names.of(&pack) {
            match self.is_whole(pack, *shards)? {
                Some(true) => whole.push(*shards),
                Some(false) => damaged.push(*shards),
                None => {}
            }
        }
        // By its size as listed, which may be wrong: looked at again when the pack itself was read.
        let wanted = parity::shard_count(size, self.percent);
        let is_complete = damaged.is_empty() && (wanted == 0 || whole.contains(&wanted));
        if is_complete && !self.options.read_packs {
            return self.remove_others(pack, wanted);
        }
        let Some(bytes) = self.read_or_heal(kind, pack)? else { return Ok(()) };
        let wanted = parity::shard_count(bytes.len() as u64, self.percent);
        if wanted > 0 && !whole.contains(&wanted) {
            self.write(pack, &bytes, wanted, damaged.contains(&wanted))?;
        }
        for shards in damaged.into_iter().filter(|shards| *shards != wanted) {
            // Of another percentage, which is wanted no more, or of none: then it is kept, and so made whole.
            if self.percent == 0 && self.options.percent.is_none() {
                self.write(pack, &bytes, shards, true)?;
            }
        }
        self.remove_others(pack, wanted)
    }

    /// `None`: it is gone.
    fn is_whole(&self, pack: PackId, shards: u16) -> Result<Option<bool>> {
        match self.repository.backend().get(&ObjectName::Parity(pack, shards), Span::All) {
            Ok(bytes) => {
                lock(self.report).read_bytes += bytes.len() as u64;
                Ok(Some(parity::verify(pack, shards, &bytes).is_ok()))
            }
            Err(error) if error.is_absent() => Ok(None),
            Err(error) if error.kind == BackendErrorKind::Denied => Err(error.into()),
            // It cannot be read: as good as damaged.
            Err(_) => Ok(Some(false)),
        }
    }

    /// The whole pack, healed if it must be. `None` if it is gone or lost, which is in the report then.
    fn read_or_heal(&self, kind: PackKind, pack: PackId) -> Result<Option<Bytes>> {
        let reason = match heal::heal_pack(self.repository, self.names, kind, pack)? {
            Healing::Whole(bytes) => {
                lock(self.report).read_bytes += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            Healing::Healed(bytes) => {
                lock(self.report).healed_packs.push(pack);
                return Ok(Some(bytes));
            }
            // Gone since it was listed.
            Healing::Missing => return Ok(None),
            Healing::Irreplaceable => "it can be rebuilt, but this place cannot replace an object".to_owned(),
            Healing::Lost(reasons) => reasons.join("; "),
        };
        lock(self.report).unhealed.push(Unhealed { object: ObjectName::Pack(kind, pack), reason });
        Ok(None)
    }

    fn write(&self, pack: PackId, bytes: &[u8], shards: u16, is_damaged: bool) -> Result<()> {
        let name = ObjectName::Parity(pack, shards);
        let backend = self.repository.backend().as_ref();
        let made = parity::encode(pack, bytes, shards);
        let length = made.len() as u64;
        let made = Bytes::from(made);
        let replaced = is_damaged.then(|| backend.replace_damaged(&name, made.clone()));
        match replaced {
            Some(Ok(())) => {}
            // Either nothing is there any more, or the place has no such step. That the damaged one is gone for a moment
            // harms nothing: it follows from the pack, which was just proven.
            Some(Err(error)) if error.is_absent() || error.is_unsupported() => {
                backend.remove(&name)?;
                self.put(&name, made)?;
            }
            Some(Err(error)) => return Err(error.into()),
            None => self.put(&name, made)?,
        }
        let mut report = lock(self.report);
        if is_damaged {
            report.mended += 1;
        } else {
            report.written += 1;
        }
        report.written_bytes += length;
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<()> {
        match self.repository.backend().put_new(name, bytes)? {
            // Its pack's writer came first, or another repair.
            Put::Created | Put::Exists(_) => Ok(()),
            Put::Unknown => {
                Err(Error::Usage("the store lost its answer to a parity object; run the command again".into()))
            }
        }
    }

    /// Removes parity of other percentages, once the wanted one is there; all of it, if none was asked for.
    fn remove_others(&self, pack: PackId, wanted: u16) -> Result<()> {
        if wanted == 0 && self.options.percent != Some(0) {
            return Ok(());
        }
        for shards in self.names.of(&pack).iter().copied().filter(|shards| *shards != wanted) {
            if self.repository.backend().remove(&ObjectName::Parity(pack, shards))? == Removal::Removed {
                lock(self.report).removed += 1;
            }
        }
        Ok(())
    }
}
