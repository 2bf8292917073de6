//! What reclaiming space writes: the four steps of a cycle, the fence of a writer, and the records of what is forgotten and
//! what is damaged. Who writes which when, and why nothing that lives is deleted, is in ARCHITECTURE.md.

use serde::{Deserialize, Serialize};

use super::{Extensions, LARGE_PAYLOAD_BYTES_MAX, SMALL_PAYLOAD_BYTES_MAX, check_extensions};
use crate::codec;
use crate::error::Corruption;
use crate::id::{ChunkId, PackId, SnapshotId};

/// Payload of `gc/<cycle>.mark`: which packs nobody may rely on from now on, and what was alive when they were chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    pub cycle: u64,
    /// The id of the run that wrote it.
    pub by: SnapshotId,
    pub created_ms: u64,
    /// Ascending. Condemned until the cycle is done.
    pub packs: Vec<PackId>,
    /// Ascending. Every snapshot that this cycle does not expire.
    pub roots: Vec<SnapshotId>,
    /// Ascending. Forgotten snapshots whose window is over: they go with this cycle.
    pub expired: Vec<SnapshotId>,
    pub extensions: Extensions,
}

/// Payload of `gc/<cycle>.pending`: the writers that were at work after the mark was set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pending {
    pub cycle: u64,
    /// Ascending.
    pub sessions: Vec<SnapshotId>,
    pub extensions: Extensions,
}

/// Payload of `gc/<cycle>.plan`: what is deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub cycle: u64,
    /// BLAKE3 of the mark's stored object.
    pub mark_digest: [u8; 32],
    /// Ascending; all of them are in the mark.
    pub delete: Vec<PackId>,
    /// Ascending. Marked packs that turned out to be needed.
    pub rescued: Vec<PackId>,
    pub extensions: Extensions,
}

/// Payload of `gc/<cycle>.done`: every pack of the plan is gone, or the place refused to let it go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    pub cycle: u64,
    /// BLAKE3 of the plan's stored object.
    pub plan_digest: [u8; 32],
    pub freed_bytes: u64,
    /// Ascending. Refused deletes of this cycle and those before that are still listed: they stay condemned.
    pub retained: Vec<PackId>,
    pub extensions: Extensions,
}

/// Payload of a tombstone at `snapshots/<session>`: the session can no longer publish.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    pub session: SnapshotId,
    /// The cycle that did not wait for it; 0 if the session fenced itself.
    pub cycle: u64,
    /// The id of the run that wrote it.
    pub by: SnapshotId,
    pub at_ms: u64,
    pub extensions: Extensions,
}

/// Payload of `forgotten/<snapshot>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forgotten {
    pub snapshot: SnapshotId,
    pub at_ms: u64,
    /// Until then it can be brought back.
    pub purge_after_ms: u64,
    /// For people.
    pub reason: String,
    /// For people: who.
    pub by: String,
    pub extensions: Extensions,
}

/// What a forget record says of the snapshot that took the forgotten one's place: retagged, pinned. Clients do not write
/// forget records, so this is a word to rely on where a snapshot's own is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Successor {
    /// The one that took the place.
    pub snapshot: SnapshotId,
    /// The time in the id under which it was first published.
    pub begun_ms: u64,
    /// When the storage said that it was first written; 0: it did not.
    pub stored_ms: u64,
}

/// Tag of an extension of a forget record: its [`Successor`]. `id 16 ‖ u64 begun_ms ‖ u64 stored_ms`, little-endian.
const SUCCESSOR: u16 = 1;

/// Payload of `damaged/<pack>.<number>`: chunks that the pack no longer holds. No writer relies on it for them, so that the
/// next backup that meets their content stores it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damaged {
    pub pack: PackId,
    /// Ascending; empty: all of its chunks.
    pub chunks: Vec<ChunkId>,
    pub at_ms: u64,
    pub extensions: Extensions,
}

/// Ascending, each once: one spelling of each set.
fn check_order<T: Ord>(list: &[T]) -> Result<(), Corruption> {
    if list.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(Corruption::Malformed("order of a list")) }
}

/// Cycles count from 1.
fn check_cycle(cycle: u64) -> Result<(), Corruption> {
    if cycle > 0 { Ok(()) } else { Err(Corruption::Malformed("cycle")) }
}

impl Mark {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The cycle is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mark: Self = codec::decode(bytes, LARGE_PAYLOAD_BYTES_MAX, "mark")?;
        check_cycle(mark.cycle)?;
        check_order(&mark.packs)?;
        check_order(&mark.roots)?;
        check_order(&mark.expired)?;
        check_extensions(&mark.extensions)?;
        Ok(mark)
    }
}

impl Pending {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The cycle is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let pending: Self = codec::decode(bytes, LARGE_PAYLOAD_BYTES_MAX, "pending list")?;
        check_cycle(pending.cycle)?;
        check_order(&pending.sessions)?;
        check_extensions(&pending.extensions)?;
        Ok(pending)
    }
}

impl Plan {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Whether its packs are those of its mark is the caller's to compare.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let plan: Self = codec::decode(bytes, LARGE_PAYLOAD_BYTES_MAX, "plan")?;
        check_cycle(plan.cycle)?;
        check_order(&plan.delete)?;
        check_order(&plan.rescued)?;
        if plan.rescued.iter().any(|pack| plan.delete.binary_search(pack).is_ok()) {
            return Err(Corruption::Malformed("plan: a pack both deleted and rescued"));
        }
        check_extensions(&plan.extensions)?;
        Ok(plan)
    }
}

impl Done {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The cycle is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let done: Self = codec::decode(bytes, LARGE_PAYLOAD_BYTES_MAX, "end of a cycle")?;
        check_cycle(done.cycle)?;
        check_order(&done.retained)?;
        check_extensions(&done.extensions)?;
        Ok(done)
    }
}

impl Tombstone {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The session is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let tombstone: Self = codec::decode(bytes, SMALL_PAYLOAD_BYTES_MAX, "tombstone")?;
        check_extensions(&tombstone.extensions)?;
        Ok(tombstone)
    }
}

impl Forgotten {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The snapshot is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let forgotten: Self = codec::decode(bytes, SMALL_PAYLOAD_BYTES_MAX, "forget record")?;
        check_extensions(&forgotten.extensions)?;
        Ok(forgotten)
    }
}

impl Successor {
    /// The extensions of a forget record that names it.
    pub fn extensions(&self) -> Extensions {
        let bytes = [&self.snapshot.0[..], &self.begun_ms.to_le_bytes(), &self.stored_ms.to_le_bytes()].concat();
        vec![(SUCCESSOR, bytes)]
    }

    /// What a forget record says, if it does.
    pub fn of(record: &Forgotten) -> Option<Self> {
        let (_, bytes) = record.extensions.iter().find(|(tag, _)| *tag == SUCCESSOR)?;
        let (id, times) = bytes.split_first_chunk::<16>()?;
        let (begun, stored) = times.split_first_chunk::<8>()?;
        Some(Self {
            snapshot: SnapshotId(*id),
            begun_ms: u64::from_le_bytes(*begun),
            stored_ms: u64::from_le_bytes(stored.try_into().ok()?),
        })
    }
}

impl Damaged {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The pack is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let damaged: Self = codec::decode(bytes, LARGE_PAYLOAD_BYTES_MAX, "damage record")?;
        check_order(&damaged.chunks)?;
        check_extensions(&damaged.extensions)?;
        Ok(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALFORMED: &str = "malformed";

    fn mark() -> Mark {
        Mark {
            cycle: 7,
            by: SnapshotId([1; 16]),
            created_ms: 5,
            packs: vec![PackId([1; 32]), PackId([2; 32])],
            roots: vec![SnapshotId([3; 16])],
            expired: Vec::new(),
            extensions: Vec::new(),
        }
    }

    fn plan() -> Plan {
        Plan {
            cycle: 7,
            mark_digest: [9; 32],
            delete: vec![PackId([1; 32])],
            rescued: vec![PackId([2; 32])],
            extensions: Vec::new(),
        }
    }

    #[test]
    fn lists_have_one_order_and_no_repetition() {
        assert_eq!(Mark::decode(&mark().encode()), Ok(mark()));
        assert_eq!(Plan::decode(&plan().encode()), Ok(plan()));
        let swapped = Mark { packs: vec![PackId([2; 32]), PackId([1; 32])], ..mark() };
        let twice = Mark { roots: vec![SnapshotId([3; 16]); 2], ..mark() };
        let unordered = Mark { expired: vec![SnapshotId([3; 16]), SnapshotId([1; 16])], ..mark() };
        for wrong in [swapped, twice, unordered] {
            assert!(Mark::decode(&wrong.encode()).unwrap_err().to_string().starts_with(MALFORMED));
        }
        let sessions = vec![SnapshotId([3; 16]); 2];
        let pending = Pending { cycle: 1, sessions, extensions: Vec::new() };
        assert!(Pending::decode(&pending.encode()).is_err());
        let done = Done {
            cycle: 1,
            plan_digest: [0; 32],
            freed_bytes: 0,
            retained: vec![PackId([1; 32]); 2],
            extensions: Vec::new(),
        };
        assert!(Done::decode(&done.encode()).is_err());
        let chunks = vec![ChunkId([2; 32]), ChunkId([1; 32])];
        let damaged = Damaged { pack: PackId([1; 32]), chunks, at_ms: 0, extensions: Vec::new() };
        assert!(Damaged::decode(&damaged.encode()).is_err());
    }

    #[test]
    fn a_pack_is_deleted_or_rescued_and_cycles_count_from_one() {
        let both = Plan { rescued: vec![PackId([1; 32])], ..plan() };
        assert!(Plan::decode(&both.encode()).is_err());
        assert!(Mark::decode(&Mark { cycle: 0, ..mark() }.encode()).is_err());
        assert!(Plan::decode(&Plan { cycle: 0, ..plan() }.encode()).is_err());
    }

    #[test]
    fn a_mark_may_name_more_packs_than_a_small_box_could() {
        let packs: Vec<PackId> = (0..100_000u32)
            .map(|number| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&number.to_be_bytes());
                PackId(id)
            })
            .collect();
        let large = Mark { packs, ..mark() };
        assert_eq!(Mark::decode(&large.encode()), Ok(large));
    }

    #[test]
    fn a_successor_reads_back_and_what_is_none_is_none() {
        let successor = Successor { snapshot: SnapshotId([3; 16]), begun_ms: 5, stored_ms: u64::MAX };
        let with = |extensions| Forgotten {
            snapshot: SnapshotId([1; 16]),
            at_ms: 1,
            purge_after_ms: 2,
            reason: String::new(),
            by: String::new(),
            extensions,
        };
        let record = Forgotten::decode(&with(successor.extensions()).encode()).unwrap();
        assert_eq!(Successor::of(&record), Some(successor));
        for bytes in [vec![], vec![0; 31], vec![0; 33]] {
            assert_eq!(Successor::of(&with(vec![(SUCCESSOR, bytes)])), None);
        }
        assert_eq!(Successor::of(&with(Vec::new())), None);
    }

    #[test]
    fn unknown_critical_extensions_are_refused() {
        let critical = vec![(0x8001, Vec::new())];
        let refused = Err(Corruption::Unknown { field: "critical extension", value: 0x8001 });
        assert_eq!(Mark::decode(&Mark { extensions: critical.clone(), ..mark() }.encode()), refused);
        let forgotten = Forgotten {
            snapshot: SnapshotId([1; 16]),
            at_ms: 1,
            purge_after_ms: 2,
            reason: String::new(),
            by: String::new(),
            extensions: critical,
        };
        assert!(Forgotten::decode(&forgotten.encode()).is_err());
        assert!(Forgotten::decode(&Forgotten { extensions: vec![(1, vec![1])], ..forgotten }.encode()).is_ok());
    }
}
