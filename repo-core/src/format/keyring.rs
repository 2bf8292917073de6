//! The keys by epoch and purpose, and the key slots that are valid.

use serde::{Deserialize, Serialize};

use super::key_slot::LABEL_BYTES_MAX;
use super::{Extensions, PAYLOAD_BYTES_MAX, check_extensions};
use crate::codec;
use crate::error::Corruption;
use crate::id::{RepositoryId, SlotId};

/// What a key is for. One key a purpose: a role is a set of purposes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Purpose {
    PackData = 1,
    PackMeta = 2,
    Index = 3,
    Snapshot = 4,
    Session = 5,
    /// Marks, pending lists and ends of reclaiming cycles; what is forgotten; what is damaged. Every client reads these.
    GcMark = 6,
    /// Plans: what is deleted.
    GcPlan = 8,
    Config = 10,
}

/// Payload of `keyring/<generation>`, sealed under the root key. Holds secrets: wiped when dropped by its users.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    pub generation: u64,
    pub previous_digest: [u8; 32],
    pub repository: RepositoryId,
    /// BLAKE3 of the object `format`, so that it cannot be swapped.
    pub marker_digest: [u8; 32],
    /// The root secret: ids, chunker and tree splits derive from it, for the repository's life.
    pub root_secret: [u8; 32],
    pub epochs: Vec<Epoch>,
    pub slots: Vec<SlotEntry>,
    pub extensions: Extensions,
}

/// The purpose keys of one epoch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: u32,
    /// `(purpose number, key)`, ascending.
    pub keys: Vec<(u8, [u8; 32])>,
    pub created_ms: u64,
    /// The first cycle that was done under this epoch: from then on steps of cycles count only under it or a later one.
    /// [`GC_FROM_UNSET`]: none was yet.
    pub gc_from: u64,
    /// 0 active, 1 draining, 2 closed.
    pub state: u8,
}

/// Until the first cycle of a new epoch is done, steps under the epochs before count too: a cycle may be under way.
pub const GC_FROM_UNSET: u64 = u64::MAX;

/// The extension that a rotation writes, and takes away again when all of it is done: the digest of the config that counts
/// until there is one of the new epoch, then the slots that were dropped.
const ROTATION: u16 = 1;

/// What a rotation has still to do, for whoever comes after one that was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// BLAKE3 of the stored config that counts although it is of an earlier epoch.
    pub config_digest: [u8; 32],
    /// Ascending. Their objects go.
    pub dropped: Vec<SlotId>,
}

/// A valid key slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SlotEntry {
    pub slot: SlotId,
    /// 0 full.
    pub role: u8,
    /// 1 password (Argon2id), 2 key file, 3 recovery kit.
    pub kind: u8,
    pub label: String,
    pub created_ms: u64,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch {{ epoch: {}, secrets hidden }}", self.epoch)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring {{ generation: {}, secrets hidden }}", self.generation)
    }
}

impl Keyring {
    /// The payload, by the codec's rules. It holds secrets: the caller wipes it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Purposes that this build does not know are kept: their keys belong to verbs of later builds.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let keyring: Self = codec::decode(bytes, PAYLOAD_BYTES_MAX, "keyring")?;
        keyring.check_epochs()?;
        keyring.check_slots()?;
        if keyring.generation == 0 {
            return Err(Corruption::Malformed("keyring"));
        }
        check_extensions(&keyring.extensions)?;
        if keyring.has_rotation() && keyring.rotation().is_none() {
            return Err(Corruption::Malformed("keyring: what a rotation has still to do"));
        }
        Ok(keyring)
    }

    fn has_rotation(&self) -> bool {
        self.extensions.iter().any(|(tag, _)| *tag == ROTATION)
    }

    /// What a rotation has still to do.
    pub fn rotation(&self) -> Option<Rotation> {
        let (_, bytes) = self.extensions.iter().find(|(tag, _)| *tag == ROTATION)?;
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        let (slots, left) = rest.as_chunks::<16>();
        let dropped: Vec<SlotId> = slots.iter().copied().map(SlotId).collect();
        let is_proper = left.is_empty() && dropped.is_sorted_by(|a, b| a < b);
        is_proper.then_some(Rotation { config_digest: *digest, dropped })
    }

    /// The same keyring with that to do, or nothing.
    pub fn with_rotation(mut self, rotation: Option<&Rotation>) -> Self {
        self.extensions.retain(|(tag, _)| *tag != ROTATION);
        if let Some(Rotation { config_digest, dropped }) = rotation {
            let mut bytes = config_digest.to_vec();
            bytes.extend(dropped.iter().flat_map(|slot| slot.0));
            // In its one place, since tags ascend.
            let place = self.extensions.partition_point(|(tag, _)| *tag < ROTATION);
            self.extensions.insert(place, (ROTATION, bytes));
        }
        self
    }

    fn check_epochs(&self) -> Result<(), Corruption> {
        let sorted = self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch)
            && self.epochs.iter().all(|epoch| epoch.keys.is_sorted_by(|a, b| a.0 < b.0));
        if self.epochs.is_empty() || !sorted {
            return Err(Corruption::Malformed("keyring"));
        }
        match self.epochs.iter().find(|epoch| epoch.state > 2) {
            Some(epoch) => Err(Corruption::Unknown { field: "state of a key epoch", value: epoch.state.into() }),
            None => Ok(()),
        }
    }

    fn check_slots(&self) -> Result<(), Corruption> {
        let mut ids: Vec<SlotId> = self.slots.iter().map(|slot| slot.slot).collect();
        ids.sort_unstable();
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(Corruption::Malformed("keyring: a key slot twice"));
        }
        for slot in &self.slots {
            if slot.role != 0 {
                return Err(Corruption::Unknown { field: "role of a key slot", value: slot.role.into() });
            }
            if !(1..=3).contains(&slot.kind) {
                return Err(Corruption::Unknown { field: "kind of a key slot", value: slot.kind.into() });
            }
            if slot.label.len() > LABEL_BYTES_MAX {
                return Err(Corruption::OverLimit("label"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_keyring;
    use super::*;

    fn with(change: impl FnOnce(&mut Keyring)) -> Result<(), Corruption> {
        let mut keyring = sample_keyring();
        change(&mut keyring);
        Keyring::decode(&keyring.encode()).map(|read| assert_eq!(read, keyring))
    }

    #[test]
    fn epochs_and_their_keys_ascend() {
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("keyring"));
        let second = |keyring: &Keyring, epoch| Epoch { epoch, ..keyring.epochs[0].clone() };
        assert_eq!(with(|keyring| keyring.epochs.push(second(keyring, 1))), Ok(()));
        assert_eq!(with(|keyring| keyring.epochs.push(second(keyring, 0))), MALFORMED);
        assert_eq!(with(|keyring| keyring.epochs.clear()), MALFORMED);
        assert_eq!(with(|keyring| keyring.epochs[0].keys.swap(0, 1)), MALFORMED);
        assert_eq!(with(|keyring| keyring.epochs[0].keys.push((99, [1; 32]))), Ok(()));
        assert_eq!(with(|keyring| keyring.generation = 0), MALFORMED);
        let unknown = Err(Corruption::Unknown { field: "state of a key epoch", value: 3 });
        assert_eq!(with(|keyring| keyring.epochs[0].state = 3), unknown);
    }

    #[test]
    fn slots_are_unique_and_of_known_kinds() {
        let twice = Err(Corruption::Malformed("keyring: a key slot twice"));
        assert_eq!(with(|keyring| keyring.slots.push(keyring.slots[0].clone())), twice);
        assert_eq!(with(|keyring| keyring.slots.reverse()), Ok(()));
        for kind in [0, 4] {
            let unknown = Err(Corruption::Unknown { field: "kind of a key slot", value: kind.into() });
            assert_eq!(with(|keyring| keyring.slots[0].kind = kind), unknown);
        }
        let unknown = Err(Corruption::Unknown { field: "role of a key slot", value: 1 });
        assert_eq!(with(|keyring| keyring.slots[0].role = 1), unknown);
        assert_eq!(with(|keyring| keyring.slots[0].label = "l".repeat(214)), Ok(()));
        assert_eq!(with(|keyring| keyring.slots[0].label = "l".repeat(215)), Err(Corruption::OverLimit("label")));
    }

    #[test]
    fn what_a_rotation_has_to_do_has_one_spelling_and_goes_when_it_is_done() {
        let rotation = Rotation { config_digest: [7; 32], dropped: vec![SlotId([1; 16]), SlotId([2; 16])] };
        let keyring = sample_keyring().with_rotation(None);
        assert_eq!(keyring.rotation(), None);
        let rotating = keyring.clone().with_rotation(Some(&rotation));
        assert_eq!(Keyring::decode(&rotating.encode()).unwrap().rotation(), Some(rotation));
        assert_eq!(rotating.with_rotation(None), keyring);
        let malformed = Err(Corruption::Malformed("keyring: what a rotation has still to do"));
        for bytes in [vec![0; 31], vec![0; 33], [vec![0; 32], vec![2; 16], vec![1; 16]].concat()] {
            assert_eq!(with(|keyring| keyring.extensions = vec![(ROTATION, bytes.clone())]), malformed, "{bytes:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let keyring = sample_keyring();
        assert_eq!(format!("{keyring:?}"), "Keyring { generation: 2, secrets hidden }");
        assert_eq!(format!("{:?}", keyring.epochs[0]), "Epoch { epoch: 0, secrets hidden }");
    }
}
