//! A key slot: the root key wrapped by one secret. Its layout is fixed, since it is read before any key is known.

use crate::error::Corruption;
use crate::id::{RepositoryId, SlotId};

/// How the wrapping key comes from the secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Derivation {
    /// Argon2id v0x13 (RFC 9106).
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    /// 32 random bytes: a key file, or a recovery kit.
    Raw,
}

/// The object `keys/<slot>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySlot {
    pub derivation: Derivation,
    pub repository: RepositoryId,
    pub slot: SlotId,
    pub salt: [u8; 32],
    pub created_ms: u64,
    pub commitment: [u8; 32],
    /// GCM ciphertext and tag of the 256-byte body: root key, keyring generation, label.
    pub sealed: Vec<u8>,
}

/// Bytes before `sealed`; they are its associated data.
pub const KEY_SLOT_PREFIX_LENGTH: usize = 132;

impl KeySlot {
    /// The associated data of `sealed`.
    pub fn prefix(&self) -> [u8; KEY_SLOT_PREFIX_LENGTH] {
        todo!()
    }

    /// The whole object, checksum included.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// Parameters outside the accepted bounds are refused here, before anything is allocated for them.
    pub fn decode(_bytes: &[u8]) -> Result<Self, Corruption> {
        todo!()
    }
}
