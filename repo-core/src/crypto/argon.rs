//! From a secret to the key that wraps the root key: Argon2id (RFC 9106) for passwords, one keyed hash for key files.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::SecretKey;
use crate::error::{Error, Result};
use crate::format::key_slot::Derivation;

/// How much work guessing a password takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordCost {
    /// 64 MiB, 3 passes, 4 lanes (RFC 9106, second recommendation).
    Default,
    /// 1 GiB, 3 passes, 4 lanes.
    High,
}

impl PasswordCost {
    /// The parameters as they stand in a key slot.
    pub fn derivation(self) -> Derivation {
        let memory_kib = match self {
            Self::Default => 64 * MIB_IN_KIB,
            Self::High => 1024 * MIB_IN_KIB,
        };
        Derivation::Argon2id { memory_kib, passes: 3, lanes: 4 }
    }
}

const MIB_IN_KIB: u32 = 1024;
/// Refuses to create a slot that costs less to guess than [`PasswordCost::Default`].
pub(super) fn check_new_derivation(derivation: Derivation) -> Result<()> {
    derivation.check().map_err(|problem| Error::Usage(problem.to_string()))?;
    match derivation {
        Derivation::Argon2id { memory_kib, passes, .. } if memory_kib < 64 * MIB_IN_KIB || passes < 3 => {
            Err(Error::Usage("a new key slot takes at least 64 MiB and 3 passes of Argon2id".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Makes the wrapping key of a slot from its secret. Takes as long as `derivation` says.
///
/// A key file's 32 bytes need no stretching, but they need the salt: with it every slot has a key of its own, on which
/// the slot's fixed nonce relies.
pub fn wrapping_key(secret: &[u8], derivation: Derivation, salt: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>> {
    derivation.check().map_err(|problem| Error::Usage(problem.to_string()))?;
    match derivation {
        Derivation::Argon2id { memory_kib, passes, lanes } => argon2id(secret, salt, memory_kib, passes, lanes),
        Derivation::Raw => {
            let key = secret.try_into().map_err(|_| Error::Usage("a key file holds 32 bytes".to_owned()))?;
            Ok(Zeroizing::new(*blake3::keyed_hash(key, salt).as_bytes()))
        }
    }
}

fn argon2id(secret: &[u8], salt: &[u8], memory_kib: u32, passes: u32, lanes: u32) -> Result<SecretKey> {
    let failed = |error| match error {
        argon2::Error::OutOfMemory => {
            Error::Usage(format!("the key slot asks for {} MiB, which this machine does not give", memory_kib / 1024))
        }
        other => Error::Usage(format!("the key slot's password cost: {other}")),
    };
    let parameters = Params::new(memory_kib, passes, lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    // The matrix is not wiped: it is far larger than what an allocator keeps, so freeing gives it back to the system.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(secret, salt, key.as_mut())
        .map_err(failed)?;
    Ok(key)
}
