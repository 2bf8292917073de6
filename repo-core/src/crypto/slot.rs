//! Key slots: the root key wrapped by one secret.

use zeroize::Zeroizing;

use super::argon::{check_derivation, check_new_derivation, wrapping_key};
use super::{Secret, SecretKey, aead, derive, random};
use crate::error::{Corruption, Error, Result};
use crate::format::key_slot::{Derivation, KeySlot};
use crate::id::{ObjectName, RepositoryId, SlotId};

/// What a key slot wraps.
#[derive(Clone)]
pub struct SlotBody {
    pub root_key: Zeroizing<[u8; 32]>,
    /// The keyring's generation when the slot was written.
    pub keyring_generation: u64,
    pub label: String,
}

impl std::fmt::Debug for SlotBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotBody {{ label: {:?}, root key hidden }}", self.label)
    }
}

/// All bodies have this length, so that a slot does not tell its label's.
const BODY_LENGTH: usize = 256;
/// Root key, generation, length of the label.
const BODY_FIXED_LENGTH: usize = 32 + 8 + 2;
const TAG_LENGTH: usize = 16;

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
    let body = encode_body(root_key, keyring_generation, label)?;
    let salt = new_salt(root_key, slot, &body)?;
    let keys = SlotKeys::new(secret_bytes, derivation, &salt)?;
    let sealed = vec![0; BODY_LENGTH + TAG_LENGTH];
    let commitment = *keys.commitment.as_bytes();
    let mut key_slot = KeySlot { derivation, repository, slot, salt, created_ms, commitment, sealed };
    let associated = key_slot.prefix();
    key_slot.sealed[..BODY_LENGTH].copy_from_slice(body.as_ref());
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
    check_derivation(key_slot.derivation).map_err(corrupt)?;
    let Some(secret_bytes) = bytes_for(secret, key_slot.derivation) else { return Ok(None) };
    let keys = SlotKeys::new(secret_bytes, key_slot.derivation, &key_slot.salt)?;
    if keys.commitment != key_slot.commitment {
        return Ok(None);
    }
    let body = aead::open_once(&keys.encryption, &key_slot.prefix(), &key_slot.sealed).map_err(corrupt)?;
    decode_body(&body).map(Some).map_err(corrupt)
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
fn new_salt(root_key: &[u8; 32], slot: SlotId, body: &[u8; BODY_LENGTH]) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(&derive("slot hedge", root_key));
    hasher.update(&random::<32>()?).update(&slot.0).update(body);
    Ok(*hasher.finalize().as_bytes())
}

fn encode_body(root_key: &[u8; 32], keyring_generation: u64, label: &str) -> Result<Zeroizing<[u8; BODY_LENGTH]>> {
    let limit = BODY_LENGTH - BODY_FIXED_LENGTH;
    if label.len() > limit {
        return Err(Error::Limit { what: "the key slot's label, in bytes,".to_owned(), limit: limit as u64 });
    }
    let mut body = Zeroizing::new([0; BODY_LENGTH]);
    body[..32].copy_from_slice(root_key);
    body[32..40].copy_from_slice(&keyring_generation.to_le_bytes());
    body[40..42].copy_from_slice(&(label.len() as u16).to_le_bytes());
    body[42..][..label.len()].copy_from_slice(label.as_bytes());
    Ok(body)
}

fn decode_body(body: &[u8]) -> Result<SlotBody, Corruption> {
    const MALFORMED: Corruption = Corruption::Malformed("key slot body");
    let body: &[u8; BODY_LENGTH] = body.try_into().map_err(|_| MALFORMED)?;
    let mut root_key = Zeroizing::new([0; 32]);
    root_key.copy_from_slice(&body[..32]);
    let keyring_generation = u64::from_le_bytes(body[32..40].try_into().expect("8 bytes"));
    let label_length = usize::from(u16::from_le_bytes([body[40], body[41]]));
    let (label, zeros) = body[BODY_FIXED_LENGTH..].split_at_checked(label_length).ok_or(MALFORMED)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(MALFORMED);
    }
    let label = std::str::from_utf8(label).map_err(|_| MALFORMED)?.to_owned();
    Ok(SlotBody { root_key, keyring_generation, label })
}
