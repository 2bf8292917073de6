//! What every client must know of the reclaiming of space: which packs are condemned, and how a writer's name is taken.
//! Choosing and deleting packs is the business of the verb `prune`.
//!
//! A cycle is four objects, each written once: mark, pending, plan, done. So any number of processes, dead or alive, share
//! one state. Between mark and done nobody may rely on a marked pack; a writer that was at work before the mark is waited
//! for, or fenced: its one chance to publish is a name that somebody else may take first.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::backend::{self, Backend, Listed, Prefix, Put, Span};
use crate::crypto::Keys;
use crate::error::{Corruption, Error, Result};
use crate::format::gc::{Damaged, Done, Mark, Plan, Tombstone};
use crate::format::header::{HEADER_LENGTH, Header, ObjectType};
use crate::format::keyring::Purpose;
use crate::format::snapshot::SnapshotRecord;
use crate::id::{Doubled, GcStage, ObjectName, PackId, SnapshotId};
use crate::mutants::mutant;
use crate::platform::host;
use crate::seal;

/// How often a listing is begun again because a listed object was gone: each time a whole cycle ended meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// The packs that nobody may rely on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condemned {
    /// There is no open cycle, and no pack that could not be deleted.
    #[default]
    Nothing,
    /// These.
    Packs(HashSet<PackId>),
    /// A mark cannot be read: it could name any pack. Relying on none costs room, relying on one could cost a chunk.
    Everything,
}

impl Condemned {
    /// Whether this pack is.
    pub fn contains(&self, pack: &PackId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Packs(packs) => packs.contains(pack),
            Self::Everything => true,
        }
    }
}

/// The objects of reclaiming that are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycles {
    objects: BTreeSet<(u64, GcStage)>,
}

impl Cycles {
    /// Lists them.
    pub fn list(backend: &dyn Backend) -> Result<Self> {
        let mut objects = BTreeSet::new();
        backend.list(Prefix::Gc, &mut |listed| {
            if let Listed::Object { name: ObjectName::Gc(cycle, stage), .. } = listed {
                objects.insert((cycle, stage));
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self { objects })
    }

    /// The newest cycle that is done; 0 if none is.
    pub fn newest_done(&self) -> u64 {
        self.newest(GcStage::Done).unwrap_or(0)
    }

    /// The cycle that was begun and is not done.
    pub fn open(&self) -> Option<u64> {
        self.newest(GcStage::Mark).filter(|cycle| *cycle > self.newest_done())
    }

    /// Whether this step of this cycle is there.
    pub fn has(&self, cycle: u64, stage: GcStage) -> bool {
        self.objects.contains(&(cycle, stage))
    }

    /// All that is listed of cycles before this one.
    pub fn before(&self, cycle: u64) -> impl Iterator<Item = ObjectName> + '_ {
        self.objects.range(..(cycle, GcStage::Mark)).map(|(cycle, stage)| ObjectName::Gc(*cycle, *stage))
    }

    fn newest(&self, stage: GcStage) -> Option<u64> {
        self.objects.iter().filter(|(_, known)| *known == stage).map(|(cycle, _)| *cycle).max()
    }
}

/// Opens one step of a cycle: its bytes, and its payload as `decode` has it.
pub fn read_step<T>(
    backend: &dyn Backend,
    keys: &Keys,
    cycle: u64,
    stage: GcStage,
    decode: impl FnOnce(&[u8]) -> Result<T, Corruption>,
) -> Result<(Bytes, T)> {
    let name = ObjectName::Gc(cycle, stage);
    let bytes = backend.get(&name, Span::All)?;
    let (purpose, object_type) = step_type(stage);
    let step = seal::open_box(keys, purpose, object_type, &name, &bytes).and_then(|payload| {
        // Who was shut out by a rotation still knows the keys before it, and says nothing about what is deleted after it.
        if seal::key_epoch(&bytes).is_none_or(|epoch| epoch < keys.oldest_epoch_of_cycles()) {
            return Err(Corruption::Malformed("a step of a cycle under keys from before a rotation"));
        }
        decode(&payload)
    });
    Ok((bytes, step.map_err(|problem| problem.of(name))?))
}

/// Seals one step of a cycle.
pub fn seal_step(keys: &Keys, cycle: u64, stage: GcStage, by: SnapshotId, payload: &[u8]) -> Result<Bytes> {
    let (purpose, object_type) = step_type(stage);
    seal::seal_box(keys, purpose, object_type, &ObjectName::Gc(cycle, stage), &by.0, payload).map(Bytes::from)
}

fn step_type(stage: GcStage) -> (Purpose, ObjectType) {
    match stage {
        GcStage::Mark => (Purpose::GcMark, ObjectType::Mark),
        GcStage::Pending => (Purpose::GcMark, ObjectType::Pending),
        // Of its own purpose: a key that may write marks, as every client's may, cannot say what is deleted.
        GcStage::Plan => (Purpose::GcPlan, ObjectType::Plan),
        GcStage::Done => (Purpose::GcMark, ObjectType::Done),
    }
}

/// Seals a damage record: its name, and its bytes.
pub fn seal_damage_record(keys: &Keys, number: u16, record: &Damaged) -> Result<(ObjectName, Bytes)> {
    let name = ObjectName::Damaged(record.pack, number);
    let writer = record.pack.0.first_chunk::<16>().expect("a name has 32 bytes");
    let bytes = seal::seal_box(keys, Purpose::GcMark, ObjectType::Damaged, &name, writer, &record.encode())?;
    Ok((name, bytes.into()))
}

/// The packs that a writer may not rely on: those of the open mark, and those that an earlier cycle could not delete.
/// Asked after the writer was registered, and before it lists packs: so either the mark is seen here, or whoever set it
/// sees the writer.
pub fn condemned(backend: &dyn Backend, keys: &Keys) -> Result<Condemned> {
    for _ in 0..ATTEMPTS_MAX {
        let cycles = Cycles::list(backend)?;
        match condemned_of(backend, keys, &cycles) {
            // The cycle ended since it was listed.
            Err(Error::Backend(error)) if error.is_absent() => {}
            Err(Error::Corrupt { .. }) => return Ok(Condemned::Everything),
            result => return result,
        }
    }
    Ok(Condemned::Everything)
}

fn condemned_of(backend: &dyn Backend, keys: &Keys, cycles: &Cycles) -> Result<Condemned> {
    let mut packs = HashSet::new();
    if let Some(cycle) = cycles.open() {
        let (_, mark) = read_mark(backend, keys, cycle)?;
        packs.extend(mark.packs);
    }
    packs.extend(retained(backend, keys, cycles)?);
    Ok(if packs.is_empty() { Condemned::Nothing } else { Condemned::Packs(packs) })
}

/// The packs that the place refused to delete, up to the newest cycle that is done.
pub fn retained(backend: &dyn Backend, keys: &Keys, cycles: &Cycles) -> Result<Vec<PackId>> {
    match cycles.newest_done() {
        0 => Ok(Vec::new()),
        cycle => Ok(read_step(backend, keys, cycle, GcStage::Done, Done::decode)?.1.retained),
    }
}

/// The packs that the newest plan deletes: who finds one of them gone found what was meant to be. Empty if there is none
/// that can be read.
pub fn planned(backend: &dyn Backend, keys: &Keys) -> Result<HashSet<PackId>> {
    let cycles = Cycles::list(backend)?;
    let Some(cycle) = cycles.newest(GcStage::Plan) else { return Ok(HashSet::new()) };
    match read_step(backend, keys, cycle, GcStage::Plan, Plan::decode) {
        Ok((_, plan)) => Ok(plan.delete.into_iter().collect()),
        Err(Error::Corrupt { .. }) => Ok(HashSet::new()),
        Err(Error::Backend(error)) if error.is_absent() => Ok(HashSet::new()),
        Err(error) => Err(error),
    }
}

/// Opens a mark, which must be of the cycle that its name says.
pub fn read_mark(backend: &dyn Backend, keys: &Keys, cycle: u64) -> Result<(Bytes, Mark)> {
    let (bytes, mark) = read_step(backend, keys, cycle, GcStage::Mark, Mark::decode)?;
    match mark.cycle == cycle {
        true => Ok((bytes, mark)),
        false => Err(Corruption::Malformed("a mark under another's name").of(ObjectName::Gc(cycle, GcStage::Mark))),
    }
}

/// What is under a session's name among the snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing yet: the session may still publish.
    Empty,
    /// It published this, once and for all.
    Snapshot(Box<SnapshotRecord>),
    /// It never will.
    Tombstone,
}

/// Reads the name that a session publishes under. An error if what is there cannot be read: then nobody knows what the
/// session refers to.
pub fn read_cell(backend: &dyn Backend, keys: &Keys, session: SnapshotId) -> Result<Cell> {
    let doubled = Doubled::Snapshot(session);
    let mut problem = None;
    for name in [ObjectName::from(doubled), ObjectName::SecondCopy(doubled)] {
        match backend.get(&name, Span::All) {
            Ok(bytes) => match open_cell(keys, session, &bytes) {
                Ok(cell) => return Ok(cell),
                Err(damage) => problem = problem.or(Some(damage.of(name))),
            },
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    problem.map_or(Ok(Cell::Empty), Err)
}

/// Opens what is under a snapshot's name: never [`Cell::Empty`].
pub fn open_cell(keys: &Keys, session: SnapshotId, bytes: &[u8]) -> Result<Cell, Corruption> {
    let name = ObjectName::Snapshot(session);
    let header = bytes.first_chunk::<HEADER_LENGTH>().ok_or(Corruption::Truncated)?;
    if Header::decode(header)?.object_type == ObjectType::Tombstone {
        let payload = seal::open_box(keys, Purpose::Session, ObjectType::Tombstone, &name, bytes)?;
        let tombstone = Tombstone::decode(&payload)?;
        return match tombstone.session == session {
            true => Ok(Cell::Tombstone),
            false => Err(Corruption::Malformed("a tombstone under another's name")),
        };
    }
    let payload = seal::open_box(keys, Purpose::Snapshot, ObjectType::Snapshot, &name, bytes)?;
    let record = SnapshotRecord::decode(&payload)?;
    match record.id == session {
        true => Ok(Cell::Snapshot(Box::new(record))),
        false => Err(Corruption::Malformed("a snapshot under another's name")),
    }
}

/// What takes a session's name.
pub fn tombstone(keys: &Keys, session: SnapshotId, cycle: u64, by: SnapshotId) -> Result<Bytes> {
    let tombstone = Tombstone { session, cycle, by, at_ms: host::now_ms(), extensions: Vec::new() };
    let name = ObjectName::Snapshot(session);
    let payload = tombstone.encode();
    seal::seal_box(keys, Purpose::Session, ObjectType::Tombstone, &name, &by.0, &payload).map(Bytes::from)
}

/// Takes a session's name, unless it has published: exactly one of the two wins. What is there then is the answer, never
/// [`Cell::Empty`]. Always safe: a writer that lost its name begins again under another. (In a weak repository both could win:
/// see `store::weak` for when it is safe there.)
pub fn fence(backend: &dyn Backend, keys: &Keys, session: SnapshotId, cycle: u64, by: SnapshotId) -> Result<Cell> {
    let name = ObjectName::Snapshot(session);
    let bytes = tombstone(keys, session, cycle, by)?;
    for _ in 0..ATTEMPTS_MAX {
        match read_cell(backend, keys, session)? {
            Cell::Empty => {}
            cell => return Ok(cell),
        }
        match backend.put_new(&name, bytes.clone())? {
            Put::Created => return Ok(Cell::Tombstone),
            // What is there, or may be, decides.
            Put::Exists(_) | Put::Unknown => {}
        }
    }
    Err(Error::Usage(format!("the store does not answer whether {name} exists; run the command again")))
}

/// Writes the second copy of a snapshot whose first was seen, or put by this process. Whoever slept since then may come when
/// the snapshot was forgotten and taken away, and even the record of that is gone: then nothing would hide what he wrote,
/// and its data is not there. So he looks afterwards: if the first copy is gone, and so is the session that goes when both
/// copies are there, he takes the second away again. A first copy that was lost, and not removed, comes back from the second.
pub fn put_second_copy(backend: &dyn Backend, snapshot: SnapshotId, bytes: Bytes) -> Result<Put> {
    let doubled = Doubled::Snapshot(snapshot);
    let copy = ObjectName::SecondCopy(doubled);
    let put = backend.put_new(&copy, bytes)?;
    if put == Put::Created
        && !mutant!("a late second copy stays")
        && !backend::is_there(backend, &doubled.into())?
        && !backend::is_there(backend, &ObjectName::Session(snapshot))?
    {
        backend.remove(&copy)?;
    }
    Ok(put)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;
    use crate::crypto::testing;

    const SESSION: SnapshotId = SnapshotId([5; 16]);
    const BY: SnapshotId = SnapshotId([6; 16]);

    fn put_mark(backend: &Memory, keys: &Keys, cycle: u64, packs: Vec<PackId>) {
        let mark = Mark {
            cycle,
            by: BY,
            created_ms: 1,
            packs,
            roots: Vec::new(),
            expired: Vec::new(),
            extensions: Vec::new(),
        };
        let bytes = seal_step(keys, cycle, GcStage::Mark, BY, &mark.encode()).unwrap();
        backend.put_new(&ObjectName::Gc(cycle, GcStage::Mark), bytes).unwrap();
    }

    fn put_done(backend: &Memory, keys: &Keys, cycle: u64, retained: Vec<PackId>) {
        let done = Done { cycle, plan_digest: [0; 32], freed_bytes: 0, retained, extensions: Vec::new() };
        let bytes = seal_step(keys, cycle, GcStage::Done, BY, &done.encode()).unwrap();
        backend.put_new(&ObjectName::Gc(cycle, GcStage::Done), bytes).unwrap();
    }

    #[test]
    fn condemned_are_the_packs_of_the_open_mark_and_those_that_could_not_be_deleted() {
        let (backend, keys) = (Memory::new(), testing::keys());
        let (one, two) = (PackId([1; 32]), PackId([2; 32]));
        assert_eq!(condemned(&backend, &keys).unwrap(), Condemned::Nothing);
        put_mark(&backend, &keys, 1, vec![one]);
        assert_eq!(condemned(&backend, &keys).unwrap(), Condemned::Packs([one].into()));
        put_done(&backend, &keys, 1, vec![one]);
        assert_eq!(condemned(&backend, &keys).unwrap(), Condemned::Packs([one].into()), "it is still there");
        put_mark(&backend, &keys, 2, vec![two]);
        assert_eq!(condemned(&backend, &keys).unwrap(), Condemned::Packs([one, two].into()));
        put_done(&backend, &keys, 2, vec![]);
        assert_eq!(condemned(&backend, &keys).unwrap(), Condemned::Nothing);
    }

    #[test]
    fn a_mark_that_cannot_be_read_condemns_everything() {
        let (backend, keys) = (Memory::new(), testing::keys());
        backend.put_new(&ObjectName::Gc(1, GcStage::Mark), Bytes::from_static(b"rot")).unwrap();
        let condemned = condemned(&backend, &keys).unwrap();
        assert_eq!(condemned, Condemned::Everything);
        assert!(condemned.contains(&PackId([9; 32])));
    }

    #[test]
    fn a_mark_of_another_cycle_is_refused() {
        let (backend, keys) = (Memory::new(), testing::keys());
        put_mark(&backend, &keys, 1, vec![]);
        let bytes = backend.get(&ObjectName::Gc(1, GcStage::Mark), Span::All).unwrap();
        backend.put_new(&ObjectName::Gc(2, GcStage::Mark), bytes).unwrap();
        assert!(read_mark(&backend, &keys, 1).is_ok());
        assert!(read_mark(&backend, &keys, 2).is_err());
    }

    #[test]
    fn a_fence_takes_an_empty_name_once_and_for_all() {
        let (backend, keys) = (Memory::new(), testing::keys());
        assert_eq!(read_cell(&backend, &keys, SESSION).unwrap(), Cell::Empty);
        assert_eq!(fence(&backend, &keys, SESSION, 1, BY).unwrap(), Cell::Tombstone);
        assert_eq!(read_cell(&backend, &keys, SESSION).unwrap(), Cell::Tombstone);
        let name = ObjectName::Snapshot(SESSION);
        assert!(matches!(backend.put_new(&name, Bytes::new()).unwrap(), Put::Exists(_)), "no snapshot comes after it");
        assert_eq!(fence(&backend, &keys, SESSION, 2, BY).unwrap(), Cell::Tombstone);
    }

    #[test]
    fn a_fence_leaves_what_was_published() {
        use crate::format::vectors::sample_snapshot;
        let (backend, keys) = (Memory::new(), testing::keys());
        let record = SnapshotRecord { id: SESSION, ..sample_snapshot() };
        let name = ObjectName::Snapshot(SESSION);
        let bytes = seal::seal_box(&keys, Purpose::Snapshot, ObjectType::Snapshot, &name, &SESSION.0, &record.encode())
            .unwrap();
        // Even if only the second copy is left.
        backend.put_new(&ObjectName::SecondCopy(Doubled::Snapshot(SESSION)), bytes.into()).unwrap();
        assert_eq!(fence(&backend, &keys, SESSION, 1, BY).unwrap(), Cell::Snapshot(Box::new(record)));
        assert!(backend.get(&name, Span::All).unwrap_err().is_absent(), "no tombstone was put in its way");
    }

    #[test]
    fn a_second_copy_that_comes_when_all_else_is_gone_goes_again() {
        let (first, copy) = (ObjectName::Snapshot(SESSION), ObjectName::SecondCopy(Doubled::Snapshot(SESSION)));
        // What is there beside it, and whether it may stay.
        for (there, stays) in [
            (vec![first, ObjectName::Session(SESSION)], true),
            (vec![first], true),
            (vec![ObjectName::Session(SESSION)], true),
            (vec![], false),
        ] {
            let backend = Memory::new();
            for name in there {
                backend.put_new(&name, Bytes::from_static(b"there")).unwrap();
            }
            assert_eq!(put_second_copy(&backend, SESSION, Bytes::from_static(b"copy")).unwrap(), Put::Created);
            assert_eq!(backend.get(&copy, Span::All).is_ok(), stays);
        }
        // One that was there before is somebody else's, and perhaps all that is left of a lost snapshot.
        let backend = Memory::new();
        backend.put_new(&copy, Bytes::from_static(b"copy")).unwrap();
        put_second_copy(&backend, SESSION, Bytes::from_static(b"copy")).unwrap();
        assert!(backend.get(&copy, Span::All).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        let (backend, keys) = (Memory::new(), testing::keys());
        backend.put_new(&ObjectName::Snapshot(SESSION), Bytes::from_static(b"rot")).unwrap();
        assert!(read_cell(&backend, &keys, SESSION).is_err());
        assert!(fence(&backend, &keys, SESSION, 1, BY).is_err());
    }
}
