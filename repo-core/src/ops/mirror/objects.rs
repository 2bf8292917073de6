//! Objects as those see them who have no key: names, sizes, and whether the bytes are what was written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::backend::{Backend, Listed, Prefix, Span};
use crate::error::{BackendError, Error, Result};
use crate::format::marker::Marker;
use crate::id::{Doubled, ObjectName};
use crate::parity;
use crate::seal;

/// Names and sizes.
pub type Listing = BTreeMap<ObjectName, u64>;

/// What is below a prefix.
pub fn list(place: &dyn Backend, prefix: Prefix) -> Result<Listing> {
    let mut listing = Listing::new();
    place.list(prefix, &mut |listed| {
        if let Listed::Object { name, size } = listed {
            listing.insert(name, size);
        }
        ControlFlow::Continue(())
    })?;
    Ok(listing)
}

/// The repository's marker, from either copy: its bytes, and what they say.
pub fn marker(place: &dyn Backend) -> Result<(Bytes, Marker)> {
    for name in [ObjectName::Format, ObjectName::SecondCopy(Doubled::Format)] {
        match place.get(&name, Span::All) {
            Ok(bytes) => {
                if let Ok(marker) = Marker::decode(&bytes) {
                    return Ok((bytes, marker));
                }
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NoRepository { place: place.place() })
}

/// Whether these are the bytes that were written under this name, as far as that shows without a key: by the name itself, or
/// by the checksum at the end.
pub fn is_intact(name: &ObjectName, bytes: &[u8]) -> bool {
    match name {
        ObjectName::Pack(_, id) => seal::has_name(bytes, &id.0),
        ObjectName::Index(id) => seal::has_name(bytes, &id.0),
        ObjectName::Parity(pack, shards) => parity::verify(*pack, *shards, bytes).is_ok(),
        _ => seal::has_checksum(bytes),
    }
}

/// What is stored under a name.
pub enum Found {
    Intact(Bytes),
    Damaged(Bytes),
    Absent,
}

/// Reads an object; one that seems damaged is read again, since the way may have been at fault.
pub fn read(place: &dyn Backend, name: &ObjectName) -> Result<Found, BackendError> {
    let mut found = Found::Absent;
    for _ in 0..2 {
        match place.get(name, Span::All) {
            Ok(bytes) if is_intact(name, &bytes) => return Ok(Found::Intact(bytes)),
            Ok(bytes) => found = Found::Damaged(bytes),
            Err(error) if error.is_absent() => return Ok(Found::Absent),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The object that has the second copy of this one.
pub fn second_copy(name: &ObjectName) -> Option<ObjectName> {
    Some(ObjectName::SecondCopy(match *name {
        ObjectName::Format => Doubled::Format,
        ObjectName::KeySlot(id) => Doubled::KeySlot(id),
        ObjectName::Keyring(generation) => Doubled::Keyring(generation),
        ObjectName::Config(generation) => Doubled::Config(generation),
        ObjectName::Snapshot(id) => Doubled::Snapshot(id),
        _ => return None,
    }))
}

/// Whether an object is of the place alone, and never mirrored: who is at work there, what is being reclaimed there,
/// what was damaged there.
pub fn is_local(name: &ObjectName) -> bool {
    matches!(
        name,
        ObjectName::Mirror
            | ObjectName::Session(_)
            | ObjectName::Renewal(..)
            | ObjectName::Gc(..)
            | ObjectName::Damaged(..)
    )
}
