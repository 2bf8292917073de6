//! Parity objects: each against its own hashes, and against the list of packs. The packs' bytes are `packs`' business.

use std::collections::HashSet;
use std::sync::Mutex;

use rayon::prelude::*;

use crate::backend::{Backend, Span};
use crate::error::{BackendErrorKind, Corruption, Error, Result};
use crate::id::{ObjectName, PackId};
use crate::parity;
use crate::pipeline::{self, lock};
use crate::progress::Progress;

/// What was found. Damaged parity is damage: of the pack that it is for, one thing less can be lost.
#[derive(Debug, Default)]
pub struct Found {
    pub errors: Vec<(ObjectName, Error)>,
    pub read_bytes: u64,
}

/// `names`: those of all parity objects, listed before the packs, since a pack is written before its parity.
pub fn note_orphans(names: &[ObjectName], is_listed: impl Fn(&PackId) -> bool, notes: &mut Vec<String>) {
    let orphaned: Vec<_> =
        names.iter().filter(|name| matches!(name, ObjectName::Parity(pack, _) if !is_listed(pack))).collect();
    // Of many, one says enough.
    match orphaned[..] {
        [] => {}
        [name] => notes.push(format!("{name} is of a pack that is not there")),
        [name, ..] => {
            notes.push(format!("{} parity objects are of packs that are not there, as {name} is", orphaned.len()));
        }
    }
}

/// Notes packs that have none, where they should: a client wrote them that knows nothing of parity, or the percentage was
/// raised since.
pub fn check_packs<'p>(names: &[ObjectName], packs: impl Iterator<Item = &'p PackId>, notes: &mut Vec<String>) {
    let have: HashSet<PackId> = names.iter().filter_map(pack_of).collect();
    let mut lacking = packs.filter(|pack| !have.contains(*pack));
    if let Some(first) = lacking.next() {
        match lacking.count() {
            0 => notes.push(format!("pack {first} has no parity; a repair of parity gives it")),
            more => {
                notes.push(format!("{} packs have no parity, as {first}; a repair of parity gives it", more + 1));
            }
        }
    }
}

fn pack_of(name: &ObjectName) -> Option<PackId> {
    if let ObjectName::Parity(pack, _) = name { Some(*pack) } else { None }
}

/// Reads every one of these.
pub fn read_all(
    backend: &dyn Backend,
    names: &[ObjectName],
    threads: usize,
    progress: &dyn Progress,
    found: &mut Found,
) -> Result<()> {
    let shared = Mutex::new(found);
    let look_at = |name: &ObjectName| {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let ObjectName::Parity(pack, shards) = *name else { return Ok(()) };
        match backend.get(name, Span::All) {
            Ok(bytes) => {
                let problem = parity::verify(pack, shards, &bytes).err();
                let mut found = lock(&shared);
                found.read_bytes += bytes.len() as u64;
                found.errors.extend(problem.map(|problem: Corruption| (*name, problem.of(*name))));
                Ok(())
            }
            // Removed since it was listed, with its pack.
            Err(error) if error.is_absent() => Ok(()),
            // A sector that cannot be read is damage like any other.
            Err(error) if error.kind == BackendErrorKind::Final => {
                lock(&shared).errors.push((*name, error.into()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    };
    pipeline::pool(threads)?.install(|| names.par_iter().with_max_len(1).try_for_each(look_at))?;
    lock(&shared).errors.sort_by_key(|(name, _)| *name);
    Ok(())
}
