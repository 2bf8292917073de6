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
    pub gc_from: u64,
    /// 0 active, 1 draining, 2 closed.
    pub state: u8,
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
        Ok(keyring)
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
    fn debug_shows_no_secret() {
        let keyring = sample_keyring();
        assert_eq!(format!("{keyring:?}"), "Keyring { generation: 2, secrets hidden }");
        assert_eq!(format!("{:?}", keyring.epochs[0]), "Epoch { epoch: 0, secrets hidden }");
    }
}
