//! One damaged pack, from what is stored of it: read again, then parity. Needs no key, and nothing is believed that does not
//! have the pack's name. Other places to heal from, and the loop over packs, are the verbs' business.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::backend::{Backend, Listed, Prefix, Span};
use crate::error::{BackendError, BackendErrorKind, Error, Result};
use crate::id::{ObjectName, PackId, PackKind};
use crate::parity;
use crate::repository::Repository;
use crate::seal;

/// A pack that cannot be read whole is read in pieces of this size,
const PIECE_BYTES: u64 = 64 << 10;
/// and those that cannot be read either in these: the sectors of most disks.
const SECTOR_BYTES: u64 = 4 << 10;
/// After so many bytes that could not be read, the rest is not asked for: the place is gone, not a few sectors.
const UNREADABLE_BYTES_MAX: usize = 4 << 20;

/// The parity objects of a repository: of each pack, by how many shards. Listed once for many packs.
#[derive(Debug, Default)]
pub(crate) struct ParityNames(HashMap<PackId, Vec<u16>>);

impl ParityNames {
    /// As listed now.
    pub(crate) fn list(backend: &dyn Backend) -> Result<Self> {
        let mut names: HashMap<PackId, Vec<u16>> = HashMap::new();
        backend.list(Prefix::Parity, &mut |listed| {
            if let Listed::Object { name: ObjectName::Parity(pack, shards), .. } = listed {
                names.entry(pack).or_default().push(shards);
            }
            ControlFlow::Continue(())
        })?;
        // The strongest first: it heals whatever a weaker one would.
        names.values_mut().for_each(|shards| shards.sort_unstable_by(|one, other| other.cmp(one)));
        Ok(Self(names))
    }

    /// Of one pack, the strongest first.
    pub(crate) fn of(&self, pack: &PackId) -> &[u16] {
        self.0.get(pack).map_or(&[], Vec::as_slice)
    }

    /// The packs that have any.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.0.keys()
    }
}

/// What can be had of a pack.
#[derive(Debug)]
pub(crate) enum Rebuilt {
    /// It is as it was written.
    Whole(Bytes),
    /// These are its bytes, proven by its name; what is stored under it is not, or is missing.
    Healed { bytes: Bytes, is_missing: bool },
    /// Neither itself nor parity gives it. Why each was of no use, in words.
    Lost { reasons: Vec<String>, is_missing: bool },
}

/// What became of a pack. Bytes that are given are proven by its name.
#[derive(Debug)]
pub(crate) enum Healing {
    /// There was nothing to do: perhaps it had been read wrongly, or another client came first.
    Whole(Bytes),
    /// It was rebuilt and written back.
    Healed(Bytes),
    /// It was rebuilt, but this place cannot replace an object: nothing was changed.
    Irreplaceable,
    /// There is nothing under its name. It does not come back under it, since it may have been removed on purpose: its chunks
    /// come back in new packs, by a session; [`rebuild_pack`] has its bytes where parity gives them.
    Missing,
    /// Nothing brings it back, for these reasons. Nothing was changed.
    Lost(Vec<String>),
}

/// Reads a pack again and, if it is damaged, brings it back from parity and puts it in the place of the damaged one.
pub(crate) fn heal_pack(
    repository: &Repository,
    parity: &ParityNames,
    kind: PackKind,
    pack: PackId,
) -> Result<Healing> {
    let backend = repository.backend().as_ref();
    match rebuild_pack(backend, parity, kind, pack)? {
        Rebuilt::Whole(bytes) => Ok(Healing::Whole(bytes)),
        Rebuilt::Healed { is_missing: true, .. } | Rebuilt::Lost { is_missing: true, .. } => Ok(Healing::Missing),
        Rebuilt::Healed { bytes, is_missing: false } => write_back(backend, kind, pack, bytes),
        Rebuilt::Lost { reasons, .. } => Ok(Healing::Lost(reasons)),
    }
}

/// Puts rebuilt bytes in the place of a damaged pack, and reads them again from there.
pub(crate) fn write_back(backend: &dyn Backend, kind: PackKind, pack: PackId, bytes: Bytes) -> Result<Healing> {
    let name = ObjectName::Pack(kind, pack);
    if !seal::has_name(&bytes, &pack.0) {
        return Err(Error::Bug(format!("other bytes were about to be written as {name}")));
    }
    match backend.replace_damaged(&name, bytes.clone()) {
        Ok(()) => {}
        // Removed since it was read.
        Err(error) if error.is_absent() => return Ok(Healing::Missing),
        Err(error) if error.is_unsupported() => return Ok(Healing::Irreplaceable),
        Err(error) => return Err(error.into()),
    }
    match backend.get(&name, Span::All) {
        Ok(again) if seal::has_name(&again, &pack.0) => Ok(Healing::Healed(bytes)),
        Ok(_) => Ok(Healing::Lost(vec!["it was written back, and reads back as other bytes".to_owned()])),
        Err(error) if error.is_absent() => Ok(Healing::Missing),
        Err(error) => Err(error.into()),
    }
}

/// The bytes of a pack, from itself or from what is left of it and parity. Nothing is written.
pub(crate) fn rebuild_pack(
    backend: &dyn Backend,
    parity: &ParityNames,
    kind: PackKind,
    pack: PackId,
) -> Result<Rebuilt> {
    let name = ObjectName::Pack(kind, pack);
    let mut reasons = Vec::new();
    let mut stored = None;
    let mut is_missing = false;
    // Twice: what failed may have been the memory or the line, and not the disk.
    for _ in 0..2 {
        match backend.get(&name, Span::All) {
            Ok(bytes) if seal::has_name(&bytes, &pack.0) => return Ok(Rebuilt::Whole(bytes)),
            Ok(bytes) => {
                reasons = vec!["its bytes changed".to_owned()];
                stored = Some(bytes);
            }
            Err(error) if error.is_absent() => {
                reasons = vec!["it is missing".to_owned()];
                (stored, is_missing) = (Some(Bytes::new()), true);
                break;
            }
            Err(error) if error.kind == BackendErrorKind::Denied => return Err(error.into()),
            Err(error) => reasons = vec![error.to_string()],
        }
    }
    for shards in parity.of(&pack) {
        let object = ObjectName::Parity(pack, *shards);
        match heal_by(backend, &name, stored.as_ref(), pack, &object) {
            Ok(bytes) => return Ok(Rebuilt::Healed { bytes: bytes.into(), is_missing }),
            Err(problem) => reasons.push(problem),
        }
    }
    if parity.of(&pack).is_empty() {
        reasons.push("it has no parity".to_owned());
    }
    Ok(Rebuilt::Lost { reasons, is_missing })
}

/// By one parity object. `stored`: what the pack's name gives; `None` if the place gives an error for it as a whole.
fn heal_by(
    backend: &dyn Backend,
    name: &ObjectName,
    stored: Option<&Bytes>,
    pack: PackId,
    object: &ObjectName,
) -> Result<Vec<u8>, String> {
    let bytes = read_what_is_left(backend, object, parity::OBJECT_BYTES_MAX).map_err(|error| error.to_string())?;
    let stored = match (stored, parity::pack_length(pack, &bytes)) {
        (Some(stored), _) => stored.clone(),
        // Of a pack that cannot be read at all as much as parity allows for may be missing: all of it, perhaps.
        (None, Some(length)) => read_what_is_left(backend, name, length).unwrap_or_default().into(),
        // Without a header there is nothing to heal by, which is said below.
        (None, None) => Bytes::new(),
    };
    parity::heal(pack, &stored, &bytes).map(|healed| healed.bytes).map_err(|problem| format!("{object}: {problem}"))
}

/// What can be read of an object of at most `length` bytes; zeros stand where the place gives an error, as for sectors that
/// the disk has lost. An error if nothing of it can be read.
pub(crate) fn read_what_is_left(
    backend: &dyn Backend,
    name: &ObjectName,
    length: u64,
) -> Result<Vec<u8>, BackendError> {
    let problem = match backend.get(name, Span::All) {
        Ok(bytes) => return Ok(bytes.into()),
        Err(error) if error.is_absent() || error.kind == BackendErrorKind::Denied => return Err(error),
        Err(error) => error,
    };
    let mut left = Vec::new();
    // Where the last byte that was read ends.
    let mut read_to = 0;
    while (left.len() as u64) < length && left.len() - read_to < UNREADABLE_BYTES_MAX {
        let before = left.len() as u64;
        let piece = PIECE_BYTES.min(length - before);
        if read_piece(backend, name, before, piece, &mut left) {
            read_to = left.len();
        } else {
            for start in (before..before + piece).step_by(SECTOR_BYTES as usize) {
                let sector = SECTOR_BYTES.min(before + piece - start);
                if read_piece(backend, name, start, sector, &mut left) {
                    read_to = left.len();
                } else {
                    left.resize((start + sector) as usize, 0);
                }
            }
        }
        // Short at its end.
        if left.len() as u64 - before < piece {
            break;
        }
    }
    left.truncate(read_to);
    if read_to > 0 { Ok(left) } else { Err(problem) }
}

/// Appends a piece; whether that could be read. It is short where the object ends.
fn read_piece(backend: &dyn Backend, name: &ObjectName, offset: u64, length: u64, out: &mut Vec<u8>) -> bool {
    match backend.get(name, Span::Range { offset, length }) {
        Ok(bytes) => {
            out.extend_from_slice(&bytes);
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Capabilities, Memory, Put, Removal};
    use std::io;
    use std::ops::Range;
    use std::sync::Mutex;

    /// A place some bytes of whose objects cannot be read, as on a disk with bad sectors.
    #[derive(Debug, Default)]
    struct Scratched {
        inner: Memory,
        bad: Mutex<Vec<(ObjectName, Range<u64>)>>,
        error: Option<io::ErrorKind>,
        cannot_replace: bool,
    }

    impl Backend for Scratched {
        fn place(&self) -> String {
            "scratched".to_owned()
        }

        fn prepare(&self) -> Result<(), BackendError> {
            Ok(())
        }

        fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
            self.inner.put_new(name, bytes)
        }

        fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
            let whole = self.inner.get(name, Span::All)?;
            let (offset, length) = span.within(whole.len() as u64);
            let meets = |bad: &Range<u64>| offset < bad.end && bad.start < offset + length;
            if self.bad.lock().unwrap().iter().any(|(of, bad)| of == name && meets(bad)) {
                return Err(BackendError::io("reading", name, self.error.unwrap_or(io::ErrorKind::Other).into()));
            }
            self.inner.get(name, span)
        }

        fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
            self.inner.list(prefix, each)
        }

        fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
            self.inner.remove(name)
        }

        fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
            if self.cannot_replace {
                return Err(BackendError::io("replacing", name, io::ErrorKind::Unsupported.into()));
            }
            self.inner.replace_damaged(name, bytes)?;
            // A sector that is written again is another one.
            self.bad.lock().unwrap().retain(|(of, _)| of != name);
            Ok(())
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities { put_if_absent: true }
        }
    }

    const SHARDS: u16 = 10;

    /// A pack's bytes need not be a pack for this room: the name decides.
    fn scratched() -> (Scratched, PackId, Bytes) {
        let mut bytes = vec![0; 500_000];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let (pack, bytes) = (PackId(*blake3::hash(&bytes).as_bytes()), Bytes::from(bytes));
        let place = Scratched::default();
        place.put_new(&name(pack), bytes.clone()).unwrap();
        let parity = parity::encode(pack, &bytes, SHARDS);
        place.put_new(&ObjectName::Parity(pack, SHARDS), parity.into()).unwrap();
        (place, pack, bytes)
    }

    fn name(pack: PackId) -> ObjectName {
        ObjectName::Pack(PackKind::Data, pack)
    }

    fn rebuild(place: &Scratched, pack: PackId) -> Rebuilt {
        let parity = ParityNames::list(place).unwrap();
        rebuild_pack(place, &parity, PackKind::Data, pack).unwrap()
    }

    #[test]
    fn sectors_that_cannot_be_read_are_lost_and_their_neighbours_are_not() {
        let (place, pack, whole) = scratched();
        assert!(matches!(rebuild(&place, pack), Rebuilt::Whole(bytes) if bytes == whole));
        // Four sectors, in two pieces: 16 KiB are eight or nine shards of 2 KiB, of which ten may be lost.
        for start in [70_000, 75_000, 300_000, 499_999] {
            place.bad.lock().unwrap().push((name(pack), start..start + 1));
        }
        // And the first header of its parity.
        place.bad.lock().unwrap().push((ObjectName::Parity(pack, SHARDS), 0..10));
        let Rebuilt::Healed { bytes, is_missing: false } = rebuild(&place, pack) else { panic!("it heals") };
        assert_eq!(bytes, whole);
        assert!(matches!(write_back(&place, PackKind::Data, pack, bytes), Ok(Healing::Healed(_))));
        assert!(matches!(rebuild(&place, pack), Rebuilt::Whole(_)));

        place.bad.lock().unwrap().push((name(pack), 100_000..130_000));
        let Rebuilt::Lost { reasons, is_missing: false } = rebuild(&place, pack) else { panic!("too much is lost") };
        assert!(reasons.iter().any(|reason| reason.contains("shards are lost")), "{reasons:?}");
    }

    #[test]
    fn a_pack_of_which_nothing_can_be_read_is_lost_and_one_that_may_not_be_read_is_an_error() {
        let (mut place, pack, _) = scratched();
        place.bad.lock().unwrap().push((name(pack), 0..u64::MAX));
        assert!(matches!(rebuild(&place, pack), Rebuilt::Lost { is_missing: false, .. }));
        place.error = Some(io::ErrorKind::PermissionDenied);
        let parity = ParityNames::list(&place).unwrap();
        assert!(rebuild_pack(&place, &parity, PackKind::Data, pack).is_err());
    }

    #[test]
    fn a_missing_pack_is_said_to_be_missing_whether_parity_has_it_or_not() {
        let (place, pack, whole) = scratched();
        place.remove(&name(pack)).unwrap();
        assert!(matches!(rebuild(&place, pack), Rebuilt::Lost { is_missing: true, .. }));
        let all = parity::shard_count(whole.len() as u64, 100);
        place.put_new(&ObjectName::Parity(pack, all), parity::encode(pack, &whole, all).into()).unwrap();
        let Rebuilt::Healed { bytes, is_missing: true } = rebuild(&place, pack) else { panic!("parity has all of it") };
        assert_eq!(bytes, whole);
        // Its name stays free.
        assert!(matches!(write_back(&place, PackKind::Data, pack, bytes), Ok(Healing::Missing)));
        assert!(place.get(&name(pack), Span::All).unwrap_err().is_absent());
    }

    #[test]
    fn a_place_that_cannot_replace_is_left_as_it_is() {
        let (mut place, pack, whole) = scratched();
        place.cannot_replace = true;
        let mut damaged = whole.to_vec();
        damaged[5] ^= 1;
        place.remove(&name(pack)).unwrap();
        place.put_new(&name(pack), damaged.clone().into()).unwrap();
        let Rebuilt::Healed { bytes, .. } = rebuild(&place, pack) else { panic!("it heals") };
        assert!(matches!(write_back(&place, PackKind::Data, pack, bytes), Ok(Healing::Irreplaceable)));
        assert_eq!(place.get(&name(pack), Span::All).unwrap(), damaged);
    }

    #[test]
    fn other_bytes_are_never_written_as_a_pack() {
        let (place, pack, whole) = scratched();
        let mut other = whole.to_vec();
        other[7] ^= 1;
        assert!(matches!(write_back(&place, PackKind::Data, pack, other.into()), Err(Error::Bug(_))));
        assert_eq!(place.get(&name(pack), Span::All).unwrap(), whole);
    }
}
