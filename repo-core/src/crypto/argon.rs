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
pub(super) fn wrapping_key(secret: &[u8], derivation: Derivation, salt: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>> {
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

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    /// The example of RFC 9106, section 5.3, with the algorithm and version that slots use.
    #[test]
    fn argon2id_gives_the_tag_of_rfc_9106() {
        let parameters = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let mut tag = [0; 32];
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, parameters)
            .unwrap()
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .unwrap();
        assert_eq!(hex::encode(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    /// Computed by another implementation; the cheapest cost that is accepted.
    #[test]
    fn a_password_gives_the_wrapping_key_of_another_implementation() {
        let derivation = Derivation::Argon2id { memory_kib: 19 * 1024, passes: 1, lanes: 2 };
        let key = wrapping_key(b"correct horse", derivation, &[0x42; 32]).unwrap();
        assert_eq!(hex::encode(*key), WRAPPING_KEY);
    }

    const WRAPPING_KEY: &str = "9a2fd0ce44724d2a32f9bbbd0c1a164d61f476f9fd7f27440f30a566f120c3fb";

    #[test]
    fn costs_out_of_bounds_are_refused_before_any_memory_is_taken() {
        for (memory_kib, passes, lanes) in [
            (19 * 1024 - 1, 3, 4),
            (u32::MAX, 1, 1),
            (64 * 1024, 0, 4),
            (64 * 1024, 65, 4),
            (64 * 1024, 3, 0),
            (64 * 1024, 3, 65),
            (4 << 20, 5, 4),
        ] {
            let derivation = Derivation::Argon2id { memory_kib, passes, lanes };
            assert!(wrapping_key(b"secret", derivation, &[0; 32]).is_err(), "{derivation:?}");
        }
    }

    #[test]
    fn new_slots_cost_at_least_the_default() {
        check_new_derivation(PasswordCost::Default.derivation()).unwrap();
        check_new_derivation(PasswordCost::High.derivation()).unwrap();
        check_new_derivation(Derivation::Raw).unwrap();
        for (memory_kib, passes) in [(63 * 1024, 3), (64 * 1024, 2)] {
            check_new_derivation(Derivation::Argon2id { memory_kib, passes, lanes: 4 }).unwrap_err();
        }
    }

    /// The slot's nonce is fixed, so two slots of one key file must not have one key.
    #[test]
    fn a_key_file_gives_another_wrapping_key_for_another_salt() {
        let key = |salt| wrapping_key(&[1; 32], Derivation::Raw, &[salt; 32]).unwrap();
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
        wrapping_key(&[1; 31], Derivation::Raw, &[0; 32]).unwrap_err();
    }
}
