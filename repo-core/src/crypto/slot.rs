//! Key slots: the root key wrapped by one secret.

use zeroize::Zeroizing;

use super::argon::{check_new_derivation, wrapping_key};
use super::{Secret, SecretKey, aead, derive, random};
use crate::error::{Corruption, Error, Result};
use crate::format::key_slot::{Derivation, KeySlot, LABEL_BYTES_MAX, SLOT_BODY_LENGTH, SLOT_SEALED_LENGTH, SlotBody};
use crate::id::{ObjectName, RepositoryId, SlotId};

/// Wraps the root key by `secret`. Takes as long as `derivation` says.
///
/// # Errors
/// [`Error::Usage`] if the secret and the derivation are not of one kind, or a password's cost is below 64 MiB and 3
/// passes; [`Error::Limit`] if the label is longer than 214 bytes.
#[expect(clippy::too_many_arguments, reason = "the facts of a slot, each once")]
pub fn new_slot(
    secret: &Secret,
    derivation: Derivation,
    repository: RepositoryId,
    slot: SlotId,
    root_key: &[u8; 32],
    keyring_generation: u64,
    label: &str,
    created_ms: u64,
) -> Result<KeySlot> {
    check_new_derivation(derivation)?;
    let secret_bytes = bytes_for(secret, derivation)
        .ok_or_else(|| Error::Usage("a key slot of this kind is not made from a secret of that kind".to_owned()))?;
    let body = SlotBody { root_key: Zeroizing::new(*root_key), keyring_generation, label: label.to_owned() };
    let too_long =
        || Error::Limit { what: "the key slot's label, in bytes,".to_owned(), limit: LABEL_BYTES_MAX as u64 };
    let body = body.encode().ok_or_else(too_long)?;
    let salt = new_salt(root_key, slot, &body)?;
    let keys = SlotKeys::new(secret_bytes, derivation, &salt)?;
    let sealed = vec![0; SLOT_SEALED_LENGTH];
    let commitment = *keys.commitment.as_bytes();
    let mut key_slot = KeySlot { derivation, repository, slot, salt, created_ms, commitment, sealed };
    let associated = key_slot.prefix();
    key_slot.sealed[..SLOT_BODY_LENGTH].copy_from_slice(body.as_ref());
    aead::seal_once(&keys.encryption, &associated, &mut key_slot.sealed);
    Ok(key_slot)
}

/// Unwraps the root key, or `None` if this is not the slot's secret: then nothing was decrypted.
///
/// # Errors
/// [`Error::Corrupt`] if the costs are out of bounds, before anything is allocated for them, or if the secret is right
/// but the slot was changed.
pub fn open_slot(key_slot: &KeySlot, secret: &Secret) -> Result<Option<SlotBody>> {
    let corrupt = |problem: Corruption| problem.of(ObjectName::KeySlot(key_slot.slot));
    key_slot.derivation.check().map_err(corrupt)?;
    let Some(secret_bytes) = bytes_for(secret, key_slot.derivation) else { return Ok(None) };
    let keys = SlotKeys::new(secret_bytes, key_slot.derivation, &key_slot.salt)?;
    if keys.commitment != key_slot.commitment {
        return Ok(None);
    }
    let body = aead::open_once(&keys.encryption, &key_slot.prefix(), &key_slot.sealed).map_err(corrupt)?;
    SlotBody::decode(&body).map(Some).map_err(corrupt)
}

/// The secret's bytes, if the slot is of its kind.
fn bytes_for(secret: &Secret, derivation: Derivation) -> Option<&[u8]> {
    match (secret, derivation) {
        (Secret::Password(password), Derivation::Argon2id { .. }) => Some(password),
        (Secret::Key(key), Derivation::Raw) => Some(&key[..]),
        _ => None,
    }
}

/// What a slot's wrapping key gives.
struct SlotKeys {
    encryption: SecretKey,
    /// `Hash` compares in constant time.
    commitment: blake3::Hash,
}

impl SlotKeys {
    fn new(secret: &[u8], derivation: Derivation, salt: &[u8; 32]) -> Result<Self> {
        Ok(Self::from_wrapping_key(&*wrapping_key(secret, derivation, salt)?))
    }

    fn from_wrapping_key(key: &[u8; 32]) -> Self {
        Self { encryption: derive("slot enc", key), commitment: blake3::Hash::from_bytes(*derive("slot commit", key)) }
    }
}

/// Hedged: should the system's randomness be stuck, then a slot with other contents still has another salt.
fn new_salt(root_key: &[u8; 32], slot: SlotId, body: &[u8; SLOT_BODY_LENGTH]) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(&derive("slot hedge", root_key));
    hasher.update(&random::<32>()?).update(&slot.0).update(body);
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::counting_from;

    fn slot(key: u8) -> KeySlot {
        let secret = Secret::Key(Zeroizing::new([key; 32]));
        new_slot(&secret, Derivation::Raw, RepositoryId([1; 16]), SlotId([2; 16]), &[3; 32], 4, "laptop", 5).unwrap()
    }

    fn open(slot: &KeySlot, key: u8) -> Result<Option<SlotBody>> {
        open_slot(slot, &Secret::Key(Zeroizing::new([key; 32])))
    }

    #[test]
    fn the_commitment_is_that_of_the_format_description() {
        let keys = SlotKeys::from_wrapping_key(&counting_from(0x60));
        let expected = "a4775d2d143f17e2c602f7fb157e11307c52b1d09a8a6d5f3392c8b41111972d";
        assert_eq!(keys.commitment.to_hex().as_str(), expected);
    }

    #[test]
    fn a_slot_gives_the_root_key_back_after_it_was_stored() {
        let stored = KeySlot::decode(&slot(9).encode()).unwrap();
        let body = open(&stored, 9).unwrap().unwrap();
        assert_eq!((*body.root_key, body.keyring_generation, body.label.as_str()), ([3; 32], 4, "laptop"));
    }

    /// The ciphertext is damaged: were it looked at, this would be an error and not a "no".
    #[test]
    fn a_wrong_secret_is_told_by_the_commitment_without_decrypting() {
        let mut slot = slot(9);
        slot.sealed[0] ^= 1;
        assert!(open(&slot, 8).unwrap().is_none());
        assert!(open_slot(&slot, &Secret::password("x")).unwrap().is_none());
        assert!(open_slot(&slot, &Secret::RootKey(Zeroizing::new([3; 32]))).unwrap().is_none());
        let error = open(&slot, 9).unwrap_err();
        assert!(matches!(error, Error::Corrupt { problem: Corruption::Authentication, .. }), "{error}");
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_noticed() {
        let slot = slot(9);
        let bytes = slot.encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            KeySlot::decode(&changed).unwrap_err();
        }
        // And by someone who makes the checksum right again.
        let prefix_and_sealed = bytes.len() - 32;
        for bit in 0..prefix_and_sealed * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let checksum = blake3::hash(&changed[..prefix_and_sealed]);
            changed[prefix_and_sealed..].copy_from_slice(checksum.as_bytes());
            if let Ok(changed) = KeySlot::decode(&changed) {
                assert!(!matches!(open(&changed, 9), Ok(Some(_))), "bit {bit}");
            }
        }
    }

    #[test]
    fn two_slots_of_one_secret_share_neither_salt_nor_ciphertext() {
        let (one, other) = (slot(9), slot(9));
        assert_ne!(one.salt, other.salt);
        assert_ne!(one.sealed[..16], other.sealed[..16]);
    }

    #[test]
    fn a_slot_takes_a_secret_of_its_kind_and_a_label_that_fits() {
        let make = |secret: &Secret, derivation, label: &str| {
            new_slot(secret, derivation, RepositoryId([1; 16]), SlotId([2; 16]), &[3; 32], 4, label, 5)
        };
        let key = Secret::Key(Zeroizing::new([1; 32]));
        assert!(matches!(make(&Secret::password("x"), Derivation::Raw, ""), Err(Error::Usage(_))));
        let cheap = Derivation::Argon2id { memory_kib: 19 * 1024, passes: 1, lanes: 1 };
        assert!(matches!(make(&Secret::password("x"), cheap, ""), Err(Error::Usage(_))));
        make(&key, Derivation::Raw, &"l".repeat(214)).unwrap();
        assert!(matches!(make(&key, Derivation::Raw, &"l".repeat(215)), Err(Error::Limit { limit: 214, .. })));
    }

    /// Slow by design: the one test that derives a key from a password at its real cost.
    #[test]
    fn a_password_opens_its_slot_and_another_does_not() {
        let derivation = crate::crypto::PasswordCost::Default.derivation();
        let make = |secret: &Secret| {
            new_slot(secret, derivation, RepositoryId([1; 16]), SlotId([2; 16]), &[3; 32], 4, "me", 5).unwrap()
        };
        let slot = make(&Secret::password("correct horse"));
        assert_eq!(*open_slot(&slot, &Secret::password("correct horse")).unwrap().unwrap().root_key, [3; 32]);
        assert!(open_slot(&slot, &Secret::password("correct horsf")).unwrap().is_none());
    }

    #[test]
    fn a_hostile_cost_is_refused_before_any_memory_is_taken() {
        let derivation = Derivation::Argon2id { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        let hostile = KeySlot { derivation, ..slot(9) };
        let error = open_slot(&hostile, &Secret::password("x")).unwrap_err();
        assert!(matches!(error, Error::Corrupt { problem: Corruption::OverLimit(_), .. }), "{error}");
    }
}
