//! Small objects of which the place keeps two copies: written one after the other, read from whichever is whole.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::backend::{Backend, Listed, Prefix, Put, Span};
use crate::error::{Corruption, Error, Result};
use crate::id::{Doubled, ObjectName};
use crate::seal;

/// How often an object is put again whose answer was lost.
const ATTEMPTS_MAX: usize = 16;

/// Writes the first copy, and when that is durable the second. `Exists` is about the first; its writer may have died
/// before the second, which is then written with what is there. Never `Unknown`: who goes on as if a key slot were there
/// would take away the one that is.
pub fn put(backend: &dyn Backend, name: Doubled, bytes: &Bytes) -> Result<Put> {
    let put = put_settled(backend, name.into(), bytes)?;
    let first = match &put {
        Put::Created => bytes,
        // Damage is not copied: the name would be taken for good.
        Put::Exists(there) if seal::has_checksum(there) => there,
        Put::Exists(_) | Put::Unknown => return Ok(put),
    };
    put_settled(backend, ObjectName::SecondCopy(name), first)?;
    Ok(put)
}

/// A put whose answer was lost is sent again: then it is there, by the first or by the second, or somebody else's is. That
/// an earlier one may land late is no harm, since these bytes stand or stood under the name then.
fn put_settled(backend: &dyn Backend, name: ObjectName, bytes: &Bytes) -> Result<Put> {
    for attempt in 0..ATTEMPTS_MAX {
        match backend.put_new(&name, bytes.clone())? {
            Put::Unknown => {}
            Put::Exists(there) if attempt > 0 && there == *bytes => return Ok(Put::Created),
            put => return Ok(put),
        }
    }
    Err(Error::Usage(format!("the store does not answer whether {name} exists; run the command again")))
}

/// Removes both copies, the second first: a crash between leaves what can be read.
pub fn remove(backend: &dyn Backend, name: Doubled) -> Result<()> {
    backend.remove(&ObjectName::SecondCopy(name))?;
    backend.remove(&name.into())?;
    Ok(())
}

/// Decodes the first copy that can be decoded. If neither can, the first one's error.
pub fn get<T>(
    backend: &dyn Backend,
    name: Doubled,
    mut decode: impl FnMut(&[u8]) -> Result<T, Corruption>,
) -> Result<T> {
    let mut attempt = |object: ObjectName| -> Result<T> {
        match backend.get(&object, Span::All) {
            Ok(bytes) => decode(&bytes).map_err(|problem| problem.of(object)),
            Err(error) if error.is_absent() => Err(Corruption::Missing.of(object)),
            Err(error) => Err(Error::Backend(error)),
        }
    };
    attempt(name.into()).or_else(|first| attempt(ObjectName::SecondCopy(name)).map_err(|_| first))
}

/// The names below a prefix, of either copy, ascending.
pub fn list(backend: &dyn Backend, prefix: Prefix) -> Result<BTreeSet<Doubled>> {
    let mut first = BTreeSet::new();
    backend.list(prefix, &mut |listed| {
        if let Listed::Object { name, .. } = listed
            && let Some(doubled) = doubled(name)
        {
            first.insert(doubled);
        }
        ControlFlow::Continue(())
    })?;
    let mut all = first;
    backend.list(Prefix::SecondCopies, &mut |listed| {
        if let Listed::Object { name: ObjectName::SecondCopy(doubled), .. } = listed
            && belongs(prefix, doubled)
        {
            all.insert(doubled);
        }
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

fn doubled(name: ObjectName) -> Option<Doubled> {
    Some(match name {
        ObjectName::Format => Doubled::Format,
        ObjectName::KeySlot(id) => Doubled::KeySlot(id),
        ObjectName::Keyring(generation) => Doubled::Keyring(generation),
        ObjectName::Config(generation) => Doubled::Config(generation),
        ObjectName::Snapshot(id) => Doubled::Snapshot(id),
        _ => return None,
    })
}

fn belongs(prefix: Prefix, name: Doubled) -> bool {
    matches!(
        (prefix, name),
        (Prefix::KeySlots, Doubled::KeySlot(_))
            | (Prefix::Keyrings, Doubled::Keyring(_))
            | (Prefix::Configs, Doubled::Config(_))
            | (Prefix::Snapshots, Doubled::Snapshot(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;

    fn whole() -> Bytes {
        [b"what it says".as_slice(), blake3::hash(b"what it says").as_bytes()].concat().into()
    }

    #[test]
    fn a_second_copy_that_its_writer_did_not_live_to_write_is_written_by_the_next() {
        let (backend, name) = (Memory::new(), Doubled::Config(1));
        backend.put_new(&name.into(), whole()).unwrap();
        let mine = Bytes::from_static(b"of another writer");
        assert_eq!(put(&backend, name, &mine).unwrap(), Put::Exists(whole()));
        assert_eq!(backend.get(&ObjectName::SecondCopy(name), Span::All).unwrap(), whole(), "a copy of what is there");
    }

    #[test]
    fn damage_is_not_copied() {
        let (backend, name) = (Memory::new(), Doubled::Config(1));
        let rot = Bytes::from_static(b"of which the hash at its end is wrong, so that nobody believes it");
        backend.put_new(&name.into(), rot.clone()).unwrap();
        assert_eq!(put(&backend, name, &whole()).unwrap(), Put::Exists(rot));
        assert!(backend.get(&ObjectName::SecondCopy(name), Span::All).unwrap_err().is_absent());
    }
}
