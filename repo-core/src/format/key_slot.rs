//! A key slot: the root key wrapped by one secret. Its layout is fixed, since it is read before any key is known.

use zeroize::Zeroizing;

use super::cursor::Cursor;
use super::header::ObjectType;
use super::{MAGIC, VERSION_BYTE, check_version, refuse_unknown};
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

/// What a key slot protects.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotBody {
    /// Opens the keyring.
    pub root_key: Zeroizing<[u8; 32]>,
    /// The keyring generation that the slot was made with.
    pub keyring_generation: u64,
    /// At most [`LABEL_BYTES_MAX`] bytes.
    pub label: String,
}

/// Bytes before `sealed`; they are its associated data.
pub const KEY_SLOT_PREFIX_LENGTH: usize = 132;

/// Bytes of the plaintext body: one length for all slots, so that it says nothing of the label.
pub const SLOT_BODY_LENGTH: usize = 256;

/// Bytes of `sealed`: the body and the tag.
pub const SLOT_SEALED_LENGTH: usize = SLOT_BODY_LENGTH + 16;

/// Bytes of the whole object.
pub const KEY_SLOT_LENGTH: usize = KEY_SLOT_PREFIX_LENGTH + SLOT_SEALED_LENGTH + 32;

/// What is left of the body for a label.
pub const LABEL_BYTES_MAX: usize = SLOT_BODY_LENGTH - 32 - 8 - 2;

/// Below 19 MiB (OWASP's least for Argon2id) a slot would be weaker than any that was ever written: a forgery.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 19 << 10;
/// 4 GiB: a slot must not be able to take all memory of the machine that tries it.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 4 << 20;
/// Nor all its time: passes, lanes, and the product of memory and passes (16 GiB) are limited.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// See [`ARGON2_PASSES_MAX`].
pub const ARGON2_LANES_MAX: u32 = 64;
/// See [`ARGON2_PASSES_MAX`].
pub const ARGON2_WORK_KIB_MAX: u64 = 16 << 20;

impl Derivation {
    /// Whether the parameters are within what is accepted.
    pub fn check(&self) -> Result<(), Corruption> {
        let Self::Argon2id { memory_kib, passes, lanes } = *self else { return Ok(()) };
        let within = (ARGON2_MEMORY_KIB_MIN..=ARGON2_MEMORY_KIB_MAX).contains(&memory_kib)
            && (1..=ARGON2_PASSES_MAX).contains(&passes)
            && (1..=ARGON2_LANES_MAX).contains(&lanes)
            && u64::from(memory_kib) * u64::from(passes) <= ARGON2_WORK_KIB_MAX;
        if within { Ok(()) } else { Err(Corruption::OverLimit("cost of the password derivation")) }
    }
}

impl KeySlot {
    /// The associated data of `sealed`: `magic ‖ type ‖ version ‖ kdf ‖ flags 0 ‖ u32 memory ‖ u32 passes ‖ u32 lanes ‖ u32 0 ‖
    /// repository[16] ‖ slot[16] ‖ salt[32] ‖ u64 created_ms ‖ commitment[32] ‖ u32 length of sealed`.
    pub fn prefix(&self) -> [u8; KEY_SLOT_PREFIX_LENGTH] {
        let (kdf, memory_kib, passes, lanes) = match self.derivation {
            Derivation::Argon2id { memory_kib, passes, lanes } => (1, memory_kib, passes, lanes),
            Derivation::Raw => (2, 0, 0, 0),
        };
        let mut bytes = [0; KEY_SLOT_PREFIX_LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = ObjectType::KeySlot as u8;
        bytes[5] = VERSION_BYTE;
        bytes[6] = kdf;
        bytes[8..12].copy_from_slice(&memory_kib.to_le_bytes());
        bytes[12..16].copy_from_slice(&passes.to_le_bytes());
        bytes[16..20].copy_from_slice(&lanes.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.repository.0);
        bytes[40..56].copy_from_slice(&self.slot.0);
        bytes[56..88].copy_from_slice(&self.salt);
        bytes[88..96].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[96..128].copy_from_slice(&self.commitment);
        // Not `sealed.len()`: the prefix is needed before the body is sealed, and the length is always this.
        bytes[128..].copy_from_slice(&(SLOT_SEALED_LENGTH as u32).to_le_bytes());
        bytes
    }

    /// The whole object, checksum included.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(KEY_SLOT_LENGTH);
        bytes.extend_from_slice(&self.prefix());
        bytes.extend_from_slice(&self.sealed);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Parameters outside the accepted bounds are refused here, before anything is allocated for them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != MAGIC {
            return Err(Corruption::Magic);
        }
        let (checked, checksum) = bytes.split_last_chunk::<32>().ok_or(Corruption::Truncated)?;
        if blake3::hash(checked).as_bytes() != checksum {
            return Err(Corruption::Hash);
        }
        let [number, version, kdf, flags] = cursor.array()?;
        if number != ObjectType::KeySlot as u8 {
            return Err(Corruption::WrongType(number));
        }
        check_version(version.into())?;
        refuse_unknown("key slot flag", flags.into())?;
        let (memory_kib, passes, lanes) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let derivation = match kdf {
            1 => Derivation::Argon2id { memory_kib, passes, lanes },
            2 if (memory_kib, passes, lanes) == (0, 0, 0) => Derivation::Raw,
            2 => return Err(Corruption::Malformed("key slot")),
            _ => return Err(Corruption::Unknown { field: "key derivation", value: kdf.into() }),
        };
        derivation.check()?;
        cursor.zeros(4)?;
        let repository = RepositoryId(cursor.array()?);
        let slot = SlotId(cursor.array()?);
        let salt = cursor.array()?;
        let created_ms = cursor.u64()?;
        let commitment = cursor.array()?;
        if cursor.u32()? as usize != SLOT_SEALED_LENGTH {
            return Err(Corruption::Malformed("key slot"));
        }
        let sealed = cursor.bytes(SLOT_SEALED_LENGTH)?.to_vec();
        cursor.bytes(32)?;
        cursor.finish()?;
        Ok(Self { derivation, repository, slot, salt, created_ms, commitment, sealed })
    }
}

impl std::fmt::Debug for SlotBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotBody {{ label: {:?}, secrets hidden }}", self.label)
    }
}

impl SlotBody {
    /// `root key[32] ‖ u64 keyring generation ‖ u16 length ‖ label ‖ zeros`. `None`: the label is too long.
    pub fn encode(&self) -> Option<Zeroizing<[u8; SLOT_BODY_LENGTH]>> {
        let mut bytes = Zeroizing::new([0; SLOT_BODY_LENGTH]);
        let label = self.label.as_bytes();
        bytes[..32].copy_from_slice(&*self.root_key);
        bytes[32..40].copy_from_slice(&self.keyring_generation.to_le_bytes());
        bytes[40..42].copy_from_slice(&u16::try_from(label.len()).ok()?.to_le_bytes());
        bytes.get_mut(42..42 + label.len())?.copy_from_slice(label);
        Some(bytes)
    }

    /// From an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        let root_key = Zeroizing::new(cursor.array()?);
        let keyring_generation = cursor.u64()?;
        let length = cursor.u16()?.into();
        let label = str::from_utf8(cursor.bytes(length)?).map_err(|_| Corruption::Malformed("label"))?.to_owned();
        cursor.zeros(SLOT_BODY_LENGTH.checked_sub(42 + length).ok_or(Corruption::OverLimit("label"))?)?;
        cursor.finish()?;
        Ok(Self { root_key, keyring_generation, label })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    fn with_costs(memory_kib: u32, passes: u32, lanes: u32) -> Result<KeySlot, Corruption> {
        let slot = KeySlot::decode(&vector!("key_slot_argon2id")).unwrap();
        KeySlot::decode(&KeySlot { derivation: Derivation::Argon2id { memory_kib, passes, lanes }, ..slot }.encode())
    }

    #[test]
    fn costs_out_of_bounds_are_refused_and_those_at_the_bounds_are_not() {
        const MIB: u32 = 1024;
        for (memory, passes, lanes) in [(19 * MIB, 1, 1), (4096 * MIB, 4, 64), (256 * MIB, 64, 4)] {
            assert!(with_costs(memory, passes, lanes).is_ok(), "{memory} {passes} {lanes}");
        }
        let refused = [
            (19 * MIB - 1, 3, 4),
            (4096 * MIB + 1, 1, 1),
            (64 * MIB, 0, 4),
            (64 * MIB, 65, 4),
            (64 * MIB, 3, 0),
            (64 * MIB, 3, 65),
            (256 * MIB + 1, 64, 4),
            (u32::MAX, u32::MAX, u32::MAX),
        ];
        for (memory, passes, lanes) in refused {
            let expected = Err(Corruption::OverLimit("cost of the password derivation"));
            assert_eq!(with_costs(memory, passes, lanes), expected, "{memory} {passes} {lanes}");
        }
    }

    /// A golden slot with one byte changed and its hash made right again.
    fn with(offset: usize, value: u8) -> Result<KeySlot, Corruption> {
        let mut bytes = vector!("key_slot_raw");
        bytes[offset] = value;
        let (checked, checksum) = bytes.split_last_chunk_mut::<32>().unwrap();
        *checksum = *blake3::hash(checked).as_bytes();
        KeySlot::decode(&bytes)
    }

    #[test]
    fn what_this_build_does_not_know_is_refused_by_name() {
        assert_eq!(with(4, 15), Err(Corruption::WrongType(15)));
        assert_eq!(with(5, 1), Err(Corruption::Unknown { field: "format version", value: 1 }));
        assert_eq!(with(6, 3), Err(Corruption::Unknown { field: "key derivation", value: 3 }));
        assert_eq!(with(7, 1), Err(Corruption::Unknown { field: "key slot flag", value: 1 }));
        assert_eq!(with(8, 1), Err(Corruption::Malformed("key slot")));
        assert_eq!(with(20, 1), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(with(128, 17), Err(Corruption::Malformed("key slot")));
    }

    #[test]
    fn a_label_fills_the_body_and_no_more() {
        let body =
            |length| SlotBody { root_key: Zeroizing::new([7; 32]), keyring_generation: 1, label: "l".repeat(length) };
        let full = body(LABEL_BYTES_MAX);
        assert_eq!(SlotBody::decode(&*full.encode().unwrap()), Ok(full));
        assert!(body(LABEL_BYTES_MAX + 1).encode().is_none());
        let mut bytes = *body(3).encode().unwrap();
        bytes[255] = 1;
        assert_eq!(SlotBody::decode(&bytes), Err(Corruption::Malformed("zero bytes")));
    }

    #[test]
    fn debug_shows_no_secret() {
        let body = SlotBody { root_key: Zeroizing::new([0xab; 32]), keyring_generation: 1, label: "x".into() };
        assert_eq!(format!("{body:?}"), "SlotBody { label: \"x\", secrets hidden }");
    }
}
