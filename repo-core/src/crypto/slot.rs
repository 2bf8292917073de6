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
