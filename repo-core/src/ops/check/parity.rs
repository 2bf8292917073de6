//! Parity objects: each against its own hashes, and against the list of packs. The packs' bytes are `packs`' business.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::backend::{Backend, Span};
use crate::error::{Corruption, Error, Result};
use crate::id::{ObjectName, PackId};
use crate::parity;
use crate::pipeline::{self, lock};
use crate::progress::Progress;

/// What was found. Damaged parity is damage: of the pack that it is for, one thing less can be lost.
#[derive(Debug, Default)]
pub struct Found {
    pub errors: Vec<Error>,
    pub notes: Vec<String>,
    pub read_bytes: u64,
}

/// `names`: those of all parity objects, listed before the packs, since a pack is written before its parity.
pub fn check_names(names: &[ObjectName], is_listed: impl Fn(&PackId) -> bool, found: &mut Found) {
    let orphaned: Vec<_> =
        names.iter().filter(|name| matches!(name, ObjectName::Parity(pack, _) if !is_listed(pack))).collect();
    // Of many, one says enough.
    match orphaned[..] {
        [] => {}
        [name] => found.notes.push(format!("{name} is of a pack that is not there")),
        [name, ..] => {
            found
                .notes
                .push(format!("{} parity objects are of packs that are not there, as {name} is", orphaned.len()));
        }
    }
}

/// Reads every parity object.
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
                found.errors.extend(problem.map(|problem: Corruption| problem.of(*name)));
                Ok(())
            }
            // Removed since it was listed, with its pack.
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    pipeline::pool(threads)?.install(|| names.par_iter().with_max_len(1).try_for_each(look_at))?;
    lock(&shared).errors.sort_by_key(|error| match error {
        Error::Corrupt { object, .. } => Some(*object),
        _ => None,
    });
    Ok(())
}
