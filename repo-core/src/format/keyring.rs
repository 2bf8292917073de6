//! The keys by epoch and purpose, and the key slots that are valid.

use serde::{Deserialize, Serialize};

use super::Extensions;
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

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring {{ generation: {}, secrets hidden }}", self.generation)
    }
}

impl Keyring {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
