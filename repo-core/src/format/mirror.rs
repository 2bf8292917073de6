//! The object `mirror`: what makes a place a mirror, which takes nothing but from its source. Plaintext, 128 bytes,
//! checksummed: whoever mirrors needs no key.

use super::cursor::Cursor;
use super::header::ObjectType;
use super::{MAGIC, VERSION_BYTE, check_version, refuse_unknown};
use crate::error::Corruption;
use crate::id::RepositoryId;

/// The object `mirror`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorMark {
    /// The repository that it is a mirror of; its own too, byte for byte.
    pub repository: RepositoryId,
    /// When it was first mirrored, in milliseconds since 1970 UTC.
    pub created_ms: u64,
}

/// Bytes of the object.
pub const MIRROR_LENGTH: usize = 128;
/// Bytes before the hash.
const CHECKED: usize = 96;

impl MirrorMark {
    /// `magic ‖ type ‖ version ‖ suite 0 ‖ flags 0 ‖ zeros[8] ‖ repository[16] ‖ u64 created_ms ‖ zeros[56] ‖ hash`.
    pub fn encode(&self) -> [u8; MIRROR_LENGTH] {
        let mut bytes = [0; MIRROR_LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = ObjectType::Mirror as u8;
        bytes[5] = VERSION_BYTE;
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..40].copy_from_slice(&self.created_ms.to_le_bytes());
        let checksum = blake3::hash(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(checksum.as_bytes());
        bytes
    }

    /// The hash first, as of the marker.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != MAGIC {
            return Err(Corruption::Magic);
        }
        let checked = bytes.get(..CHECKED).ok_or(Corruption::Truncated)?;
        let checksum = bytes.get(CHECKED..MIRROR_LENGTH).ok_or(Corruption::Truncated)?;
        if blake3::hash(checked).as_bytes() != checksum {
            return Err(Corruption::Hash);
        }
        let [number, version, suite, flags] = cursor.array()?;
        if number != ObjectType::Mirror as u8 {
            return Err(Corruption::WrongType(number));
        }
        check_version(version.into())?;
        refuse_unknown("suite", suite.into())?;
        refuse_unknown("flag", flags.into())?;
        cursor.zeros(8)?;
        let repository = RepositoryId(cursor.array()?);
        let created_ms = cursor.u64()?;
        cursor.zeros(56)?;
        cursor.bytes(32)?;
        cursor.finish()?;
        Ok(Self { repository, created_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    /// The golden object with one byte changed and its hash made right again.
    fn with(offset: usize, value: u8) -> Result<MirrorMark, Corruption> {
        let mut bytes = vector!("mirror");
        bytes[offset] = value;
        let checksum = blake3::hash(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(checksum.as_bytes());
        MirrorMark::decode(&bytes)
    }

    #[test]
    fn another_version_type_or_field_is_refused_by_name() {
        assert_eq!(with(4, 15), Err(Corruption::WrongType(15)));
        assert_eq!(with(5, 1), Err(Corruption::Unknown { field: "format version", value: 1 }));
        assert_eq!(with(6, 1), Err(Corruption::Unknown { field: "suite", value: 1 }));
        assert_eq!(with(7, 1), Err(Corruption::Unknown { field: "flag", value: 1 }));
        assert_eq!(with(8, 1), Err(Corruption::Malformed("zero bytes")));
        assert_eq!(with(95, 1), Err(Corruption::Malformed("zero bytes")));
    }

    #[test]
    fn damage_is_damage_whatever_it_hits() {
        let whole = vector!("mirror");
        for at in 4..MIRROR_LENGTH {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(MirrorMark::decode(&bytes), Err(Corruption::Hash), "at {at}");
        }
        for length in 0..MIRROR_LENGTH {
            assert!(MirrorMark::decode(&whole[..length]).is_err(), "{length} bytes of it");
        }
        assert!(MirrorMark::decode(&[whole, vec![0]].concat()).is_err());
    }
}
